//! Something that was said on a channel.

use crate::json::RawJson;
use crate::position::Position;
use crate::socket_id::SocketId;

/// Longest event name in bytes.
pub const NAME_MAX: usize = 200;

/// Events that clients send to each other begin with this (Pusher protocol, client events).
pub const CLIENT_PREFIX: &str = "client-";

/// Events between nodes begin with this; nobody else may publish them.
pub const INTERNAL_PREFIX: &str = "fanfare:";

#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    pub name: Box<str>,
    /// As the publisher sent it: any JSON value.
    pub data: RawJson,
    /// The one connection that does not hear it.
    pub except: Option<SocketId>,
    /// The member who whispered it, on presence channels.
    pub user_id: Option<Box<str>>,
    /// Where it stands in the channel's history, when there is one.
    pub position: Option<Position>,
    /// The application published it, so a cache channel keeps it for newcomers, and a history for who comes back.
    pub cacheable: bool,
}

impl Event {
    pub fn new(name: &str, data: RawJson) -> Self {
        Self { name: name.into(), data, except: None, user_id: None, position: None, cacheable: false }
    }

    /// A whisper: its data keeps the JSON type in which the client sent it.
    pub fn is_client_event(&self) -> bool {
        self.name.starts_with(CLIENT_PREFIX)
    }

    /// What it costs in a queue.
    pub fn bytes(&self) -> usize {
        self.name.len() + self.data.len() + 128
    }
}
