//! Links: how frames travel between a client and its connection in the hub.

pub(crate) mod websocket;
