//! One topic: its state, who wants it, and what hangs on it. And how many topics are heard.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use model::{Access, ChannelKey, Resume, UserId};

use super::log::{Figures, Log};
use super::occupancy::Occupancy;
use crate::SubscriptionRef;
use crate::attendance::Attendance;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Not listened to, and nothing in flight. Kept only while the store is owed an exit, or Redis refused it.
    Idle,
    /// A subscribe is in flight, or waits for the link.
    Asking,
    Live,
    /// Nobody here wants it any more, and it is still listened to until this time.
    Lingering(Instant),
    /// An unsubscribe is in flight.
    Leaving,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) worker: usize,
    pub(super) subscription: SubscriptionRef,
    pub(super) user: Option<UserId>,
    /// It is admitted with the members.
    pub(super) roster: bool,
    /// Where he stood, and how often the store had been asked about the history when he came.
    pub(super) resume: Option<(Resume, u64)>,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) channel: Arc<ChannelKey>,
    pub(super) state: State,
    /// The workers that have an admitted subscription, a bit each.
    pub(super) workers: u64,
    pub(super) waiting: Vec<Waiting>,
    /// On presence channels, and on those of signed-in users.
    pub(super) attendance: Option<Box<Attendance>>,
    /// Not on channels of users: they are nobody's to count.
    pub(super) occupancy: Option<Occupancy>,
    /// On channels that keep what is said on them.
    pub(super) log: Option<Box<Log>>,
    /// Was heard before the link was lost and is not yet again.
    pub(super) restoring: bool,
    /// Redis refused it last.
    pub(super) refused: bool,
}

impl Topic {
    pub(super) fn new(channel: Arc<ChannelKey>) -> Self {
        let kind = channel.name.kind();
        Self {
            channel,
            state: State::Idle,
            workers: 0,
            waiting: Vec::new(),
            attendance: None,
            occupancy: (kind.access != Access::User).then(Occupancy::default),
            log: None,
            restoring: false,
            refused: false,
        }
    }

    /// Its attendance, which it has from here on.
    pub(super) fn attend(&mut self) -> &mut Attendance {
        let kind = self.channel.name.kind();
        self.attendance.get_or_insert_with(|| Box::new(Attendance::on(kind)))
    }

    /// Somebody waits who wants to know where the channel stands.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.resume.is_some())
    }

    pub(super) fn is_unwanted(&self) -> bool {
        self.workers == 0 && self.waiting.is_empty()
    }

    pub(super) fn is_heard(&self) -> bool {
        matches!(self.state, State::Live | State::Lingering(_))
    }

    pub(super) fn stop_listening(&mut self) {
        self.attendance.iter_mut().for_each(|attendance| attendance.stop_listening());
        self.log.iter_mut().for_each(|log| log.stop_listening());
    }

    pub(super) fn lose_link(&mut self) {
        self.attendance.iter_mut().for_each(|attendance| attendance.lose_link());
        self.occupancy.iter_mut().for_each(Occupancy::lose_link);
        self.log.iter_mut().for_each(|log| log.lose_link());
    }

    /// Nothing is owed to the store.
    pub(super) fn is_settled(&self) -> bool {
        self.attendance.as_ref().is_none_or(|attendance| attendance.is_empty())
            && self.occupancy.as_ref().is_none_or(Occupancy::is_over)
            && self.log.as_ref().is_none_or(|log| !log.owes())
    }

    /// Whoever comes has to wait for the store.
    pub(super) fn holds_back(&self) -> bool {
        self.occupancy.as_ref().is_some_and(Occupancy::holds_back)
            || self.log.as_ref().is_some_and(|log| !log.is_known())
    }
}

/// What is heard on this node. Shared with whoever makes the metrics text.
#[derive(Default, Debug)]
pub(crate) struct Heard {
    /// How many channels have a subscription here, by app and kind.
    channels: Mutex<HashMap<(Arc<str>, &'static str), u64>>,
    repaired: AtomicU64,
    unnumbered: AtomicU64,
}

impl Heard {
    pub(crate) fn counts(&self) -> Vec<((Arc<str>, &'static str), u64)> {
        self.lock().iter().map(|(key, n)| (key.clone(), *n)).collect()
    }

    /// Events that were told from the store after a cut, and those without a number on channels with a history.
    pub(crate) fn of_histories(&self) -> (u64, u64) {
        (self.repaired.load(Relaxed), self.unnumbered.load(Relaxed))
    }

    pub(super) fn count(&self, figures: Figures) {
        self.repaired.fetch_add(figures.repaired, Relaxed);
        self.unnumbered.fetch_add(figures.unnumbered, Relaxed);
    }

    /// A topic's mask of workers has changed.
    pub(super) fn note(&self, channel: &ChannelKey, before: u64, after: u64) {
        if (before == 0) == (after == 0) {
            return;
        }
        let mut counts = self.lock();
        let count = counts.entry((channel.app.clone(), channel.name.kind().label())).or_default();
        *count = if after == 0 { count.saturating_sub(1) } else { *count + 1 };
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Arc<str>, &'static str), u64>> {
        // Nothing under it can panic half-way.
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
