//! An event on its way down, from the backplane to the workers.

use std::sync::Arc;

use crate::channel::ChannelKey;
use crate::event::Event;
use crate::member::Member;

/// What all subscribers of a channel hear.
#[derive(Clone, PartialEq, Debug)]
pub enum Broadcast {
    Event(Event),
    /// A user's first connection in the cluster subscribed.
    Joined(Member),
    /// A user's last connection in the cluster left. With what was known of him.
    Left(Member),
    /// How many subscriptions the channel has in the cluster.
    Count(u64),
    /// The user whose channel this is: his connections are to be closed.
    Terminate,
    /// Messages of this channel were lost at this point.
    Gap,
}

/// Immutable, shared between workers.
#[derive(Debug)]
pub struct Delivery {
    pub channel: Arc<ChannelKey>,
    pub broadcast: Broadcast,
}

impl Delivery {
    /// What it costs in a queue.
    pub fn bytes(&self) -> usize {
        match &self.broadcast {
            Broadcast::Event(event) => event.bytes(),
            Broadcast::Joined(member) | Broadcast::Left(member) => {
                member.info.as_ref().map_or(0, |info| info.len()) + 192
            }
            Broadcast::Count(_) | Broadcast::Terminate | Broadcast::Gap => 160,
        }
    }
}
