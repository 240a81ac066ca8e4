//! From a link that is late to one made beside it, without a loss and without a double.
//!
//! All subscribers of a server hear in one order. So the new link subscribes to everything and then publishes a marker: what
//! stands before the marker is heard on the late link, what stands behind it on the new one. The late link may bring what
//! TCP held first, in its own time; what the new one brings behind the marker waits here until then. The order of the two
//! does not matter. A late link that never brings the marker is the supervisor's to give up.

use std::collections::{HashSet, VecDeque};

use redis::aio::MultiplexedConnection;
use redis::{PushKind, RedisError, Value};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::inbox::Push;
use super::link::{Link, Pulse};
use crate::topics::TopicId;

/// Names in one command.
const NAMES_MAX: usize = 1_000;

/// Tells the supervisor how far it is. Dropped: it failed.
pub(super) struct Witness {
    /// Everything is subscribed on the new link, and the marker is published.
    pub marked: oneshot::Sender<()>,
    /// The new link is the one that is heard.
    pub switched: oneshot::Sender<()>,
}

/// The end of [`Witness`] that is left to say, and the task that has the other.
pub(super) struct Switch {
    switched: oneshot::Sender<()>,
    /// Ends with this, and not before the switch is told.
    _subscribing: JoinSet<()>,
}

impl Switch {
    pub(super) fn done(self) {
        let _ = self.switched.send(());
    }
}

pub(super) struct Handover {
    link: Link,
    marker: String,
    asked: Vec<TopicId>,
    leaving: Vec<Box<[u8]>>,
    /// The new link has brought the marker.
    passed: bool,
    /// What it brought since.
    held: VecDeque<Push>,
    switch: Switch,
}

/// What is left at the switch.
pub(super) struct Parts {
    pub link: Link,
    /// The new link has not brought the marker yet: what comes before it was heard on the late one.
    pub skips_to: Option<String>,
    /// Topics that are confirmed on the new link.
    pub asked: Vec<TopicId>,
    /// Names that were being given up on the late link, and that the new one never had.
    pub leaving: Vec<Box<[u8]>>,
    pub held: VecDeque<Push>,
    pub switch: Switch,
}

impl Handover {
    pub(super) fn begin(
        link: Link,
        witness: Witness,
        probe: &str,
        asked: Vec<(Box<[u8]>, TopicId)>,
        leaving: Vec<Box<[u8]>>,
    ) -> Self {
        // No other node has our probe's topic, so a number of ours is unique on it. It must not read as a probe.
        let marker = format!("marker {}", link.generation);
        let (names, mut asked): (Vec<_>, Vec<TopicId>) = asked.into_iter().unzip();
        // A topic of several names is one topic.
        let mut seen = HashSet::new();
        asked.retain(|id| seen.insert(*id));
        let subscribing = subscribe(link.subscriber.clone(), names, probe.to_owned(), marker.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            match subscribing.await {
                Ok(()) => _ = witness.marked.send(()),
                Err(error) => tracing::warn!(%error, "Redis did not take all subscriptions of another link"),
            }
        });
        Self {
            link,
            marker,
            asked,
            leaving,
            passed: false,
            held: VecDeque::new(),
            switch: Switch { switched: witness.switched, _subscribing: tasks },
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.link.generation
    }

    pub(super) fn is_marked_by(&self, payload: &[u8]) -> bool {
        self.marker.as_bytes() == payload
    }

    /// A push of the new link; returns the bytes that are done with.
    pub(super) fn hear(&mut self, push: Push, probe: &str) -> usize {
        match push.info.kind {
            PushKind::Disconnection => Pulse::lose(&self.link.pulse, "another link beside a late one was closed"),
            PushKind::Message if self.passed => {
                self.held.push_back(push);
                return 0;
            }
            PushKind::Message => {
                let marker = [probe, &self.marker].map(|text| Value::BulkString(text.into()));
                self.passed = push.info.data == marker;
            }
            // Confirmations: the marker stands behind all of them.
            _ => {}
        }
        push.bytes
    }

    pub(super) fn end(self) -> Parts {
        let Self { link, marker, asked, leaving, passed, held, switch } = self;
        Parts { link, skips_to: (!passed).then_some(marker), asked, leaving, held, switch }
    }

    /// Given up: what waited, to be counted off.
    pub(super) fn into_held(self) -> VecDeque<Push> {
        self.held
    }
}

/// Without a time-out of its own: the supervisor has one.
async fn subscribe(
    mut link: MultiplexedConnection,
    names: Vec<Box<[u8]>>,
    probe: String,
    marker: String,
) -> Result<(), RedisError> {
    for names in names.chunks(NAMES_MAX) {
        link.subscribe(names.iter().map(|name| &**name).collect::<Vec<_>>()).await?;
    }
    redis::cmd("PUBLISH").arg(probe).arg(marker).query_async(&mut link).await
}
