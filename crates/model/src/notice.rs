//! What one client is told.

use crate::app::App;
use crate::channel::ChannelName;
use crate::command::Tag;
use crate::member::{Roster, UserId};
use crate::position::Position;
use crate::refusal::Refusal;
use crate::socket_id::SocketId;

#[derive(Debug)]
pub enum Notice<'a> {
    /// First of all.
    Welcome {
        socket_id: SocketId,
        /// By what a client that polls is found again: its id with a secret.
        session: Option<&'a str>,
        app: &'a App,
    },
    /// Its own id, which the client asked for.
    Introduced {
        socket_id: SocketId,
    },
    /// From here on the client hears the channel. `roster` on presence channels, the client's own user included.
    Subscribed {
        channel: &'a ChannelName,
        roster: Option<&'a Roster>,
        /// Where the client stands, when it wants to know and the channel keeps a history.
        position: Option<&'a Position>,
        /// When it said where it stood: whether it is told next all that it missed.
        recovered: Option<bool>,
        tag: &'a Tag,
    },
    /// The client stands here now, having been told all that it was to hear.
    Position {
        channel: &'a ChannelName,
        position: &'a Position,
    },
    Unsubscribed {
        channel: &'a ChannelName,
        tag: &'a Tag,
    },
    /// A subscribe that was refused; the connection stays.
    SubscribeRefused {
        channel: &'a str,
        refusal: &'a Refusal,
        tag: &'a Tag,
    },
    /// A cache channel, just subscribed to, holds nothing.
    CacheMiss {
        channel: &'a ChannelName,
    },
    /// The client is known as a user from here on.
    SignedIn {
        /// As the client sent it.
        user_data: &'a str,
        tag: &'a Tag,
    },
    /// Which of the users that a signed-in client watches are signed in somewhere, and which are not.
    Watched {
        online: &'a [UserId],
        offline: &'a [UserId],
    },
    /// Any other command that was refused; the connection stays.
    Refused {
        channel: Option<&'a str>,
        refusal: &'a Refusal,
        tag: &'a Tag,
    },
    /// Messages of any of the client's channels may have been lost just before this.
    Gap,
}
