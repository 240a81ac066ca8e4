//! What the tests stand on: processes with their ports and logs, clients that speak raw bytes, and a look at sources.

pub(crate) mod source;
