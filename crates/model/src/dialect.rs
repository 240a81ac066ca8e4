//! The seam to the client families: how one spells what a client asks and what it is told.
//!
//! A dialect is pure: no I/O, no clock, no tables of its own. What must be remembered for a connection is a small
//! [`State`] that the connection owns and hands in.

use std::borrow::Cow;

use crate::app::App;
use crate::command::{Action, Tag};
use crate::delivery::Broadcast;
use crate::notice::Notice;
use crate::refusal::Refusal;

/// Which bytes an event becomes. Subscriptions with the same encoding (and framing) share one run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Encoding {
    /// Index in the table of dialects.
    pub dialect: u8,
    /// The dialect's own: a protocol version, with or without envelope.
    pub variant: u8,
    /// How much of the channel; the hub's own.
    pub view: View,
    /// Events are told with where they stand in the history; the hub's own.
    pub positions: bool,
}

/// Which part of a channel's stream a subscription is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum View {
    /// All of it.
    #[default]
    Channel,
    /// A signed-in user's own channel: the events, not that the user came or went.
    User,
    /// Another user's channel: that he came or went, and nothing else.
    Watch,
    /// Nothing: the subscription only stands for the user's being here.
    Silent,
}

impl View {
    /// Somebody is there; who watches only looks on.
    pub fn is_present(self) -> bool {
        self != Self::Watch
    }
}

/// A connection's place in its dialect. Small: every connection has one.
#[derive(Clone, Copy, Default, Debug)]
pub struct State {
    /// The dialect's own.
    pub variant: u8,
    /// Unreadable messages in a row.
    pub strikes: u8,
}

/// A connection attempt, as far as a dialect may look.
#[derive(Debug)]
pub struct OpenRequest<'a> {
    /// What follows the dialect's path: Pusher's app key.
    pub path_rest: &'a str,
    /// Decoded, in order.
    pub query: &'a [(Cow<'a, str>, Cow<'a, str>)],
    /// It polls, and may change to a WebSocket.
    pub may_upgrade: bool,
}

impl OpenRequest<'_> {
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }
}

/// A connection that the dialect can serve.
#[derive(Default, Debug)]
pub struct Opening {
    /// The app's key; `None` means the node's first app.
    pub app_key: Option<Box<str>>,
    pub state: State,
    /// What the URL already asked for: executed right after the welcome.
    pub commands: Vec<(crate::command::Command, Tag)>,
    /// A message right behind the welcome; empty: none.
    pub second_words: &'static str,
}

/// When a silent connection is asked whether it lives, and when it is given up, both in seconds of silence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    pub ping_after: u32,
    pub dead_after: u32,
    /// Who is not silent is asked as well, at least every `ping_after` seconds: the client waits for the question.
    pub always: bool,
}

/// A message from a client.
#[derive(Debug)]
pub enum Message<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

/// The last words to a client.
#[derive(Debug)]
pub struct Goodbye {
    /// A message before the close; empty: none.
    pub message: Vec<u8>,
    pub code: u16,
    pub reason: Box<str>,
}

/// One client family. All functions append one message's payload, without framing, to `out`; appending nothing means that
/// this family does not tell.
pub trait Dialect: Send + Sync + 'static {
    /// The value of the metric label `dialect`.
    fn name(&self) -> &'static str;

    /// Reads the URL.
    ///
    /// # Errors
    /// The refusal with which the connection is closed as soon as it is open. The state in it spells the goodbye.
    fn open(&self, request: &OpenRequest<'_>) -> Result<Opening, (Refusal, State)>;

    /// Reads one message into what is to be done, in order. Never fails: what cannot be read becomes a reply, and too much
    /// of it a close.
    fn decode(&self, state: &mut State, message: Message<'_>, out: &mut Vec<Action>);

    /// Spells what one client is told.
    fn notice(&self, state: &State, notice: &Notice<'_>, out: &mut Vec<u8>);

    /// The encoding of a connection's subscriptions, for all of a channel. The hub puts other views into it.
    fn encoding(&self, state: &State) -> Encoding;

    /// Spells what all subscribers of a channel hear.
    fn broadcast(&self, encoding: Encoding, channel: &str, broadcast: &Broadcast, out: &mut Vec<u8>);

    /// By the app's times.
    fn heartbeat(&self, state: &State, app: &App) -> Heartbeat;

    /// Spells the question whether the client lives. Nothing: the link has one of its own.
    fn beat(&self, _state: &State, _out: &mut Vec<u8>) {}

    /// True where a refused subscribe can only be told by closing the connection with the refusal.
    fn refused_subscribe_closes(&self, _state: &State) -> bool {
        false
    }

    /// Spells the end.
    fn goodbye(&self, state: &State, refusal: &Refusal) -> Goodbye;
}
