//! What the tests stand on: processes with their ports and logs, clients that speak raw bytes, clients that are the real
//! libraries, and a look at sources.
//!
//! Nothing here waits for time to pass: it waits for a condition, with a limit. That something does *not* arrive is shown by
//! a later event on the same road.

pub(crate) mod api;
pub(crate) mod back_end;
pub(crate) mod balancer;
pub(crate) mod browser;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod crowd;
pub(crate) mod dice;
pub(crate) mod echo_server;
pub(crate) mod endpoint;
pub(crate) mod example;
pub(crate) mod folder;
pub(crate) mod heard;
pub(crate) mod http;
pub(crate) mod laravel;
pub(crate) mod load;
pub(crate) mod node;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod redis;
pub(crate) mod relay;
pub(crate) mod resident;
pub(crate) mod socket_io;
pub(crate) mod source;
pub(crate) mod tls;
pub(crate) mod visitors;
pub(crate) mod wait;
pub(crate) mod websocket;

/// The words that most tests begin with.
pub(crate) mod prelude {
    pub(crate) use std::time::Duration;

    pub(crate) use serde_json::{Value, json};

    pub(crate) use super::api::Api;
    pub(crate) use super::browser::Browser;
    pub(crate) use super::client::Client;
    pub(crate) use super::cluster::{Cluster, alone};
    pub(crate) use super::laravel::Laravel;
    pub(crate) use super::node::{self, Node};
    pub(crate) use super::redis::Redis;
    pub(crate) use super::relay::Relay;
    pub(crate) use super::wait::until;
    pub(crate) use super::websocket::{Frame, Socket};
}
