//! What a client asks, whatever its spelling.

use crate::channel::ChannelName;
use crate::json::RawJson;
use crate::position::Position;
use crate::refusal::Refusal;
use crate::socket_id::SocketId;

/// What a dialect wants back with the answer to a command (a `ref`, an identifier). The hub carries it and never looks.
pub type Tag = Option<Box<str>>;

/// What a client offers to show that it may subscribe.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Proof {
    /// `key:hex`, as Pusher signs; empty counts as absent.
    pub auth: Option<Box<str>>,
    /// Part of the signed text; on presence channels it names the member. Exactly as sent.
    pub channel_data: Option<Box<str>>,
    /// Shows nothing that is signed: its application is to be asked, with these headers of the client.
    pub show: Option<Headers>,
}

/// Names and values as a client wrote them, in its order.
pub type Headers = Box<[(Box<str>, Box<str>)]>;

/// A subscriber who means to come back without a loss: he is told where events stand, and says so when he returns.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Resume {
    /// Up to where he has heard the channel. `None`: he is here for the first time.
    pub from: Option<Position>,
    /// The socket that he was then: what that one was not to hear, he is not told now.
    pub except: Option<SocketId>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    Subscribe {
        channel: ChannelName,
        proof: Proof,
        resume: Option<Resume>,
    },
    Unsubscribe {
        channel: ChannelName,
    },
    /// A client event: to all others on the channel.
    Whisper {
        channel: ChannelName,
        event: Box<str>,
        data: RawJson,
    },
    /// Says who the user is, as the application has signed it.
    SignIn {
        /// `key:hex`; empty counts as absent.
        auth: Option<Box<str>>,
        /// Exactly as signed: a JSON object with the user's `id`.
        user_data: Box<str>,
    },
}

/// What one message from a client leads to.
#[derive(Debug)]
pub enum Action {
    Command(Command, Tag),
    /// The payload of one message back to this connection.
    Reply(Vec<u8>),
    /// The client is to be told who it is.
    Introduce,
    /// The connection is to be closed with this refusal.
    Close(Refusal),
}
