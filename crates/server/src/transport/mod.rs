//! Links: how frames travel between a client and its connection in the hub.

pub(crate) mod engine_io;
pub(crate) mod websocket;
