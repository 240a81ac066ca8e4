//! What a cache channel holds, as this node knows it: the last event that the application published.
//!
//! Each such event has a number that grows. What was told is never told again, and what the store has and the stream did not
//! bring is told to those who are in already: so a newcomer's first event and the next ones fit without a seam. Pure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Event;

use crate::Cached;
use crate::roster::Operation;

/// A miss is reported once in this time and node; the store sees to the cluster.
pub(crate) const MISS_EVERY: Duration = Duration::from_secs(10);

/// An event of a cache channel as it is kept.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Kept {
    pub number: u64,
    pub event: Event,
    /// Until then.
    pub until: Instant,
}

#[derive(Default, Debug)]
pub(crate) struct Cache {
    /// The highest number that was told or read.
    high: u64,
    held: Option<(Arc<Event>, Instant)>,
    /// The store's was read since the channel is heard.
    known: bool,
    under_way: bool,
    failed: bool,
    missed: Option<Instant>,
}

impl Cache {
    /// Asks the store, once. Counts as sent.
    pub(crate) fn next(&mut self) -> Option<Operation> {
        if self.known || self.under_way || self.failed {
            return None;
        }
        self.under_way = true;
        Some(Operation::Cached)
    }

    /// Newcomers may be admitted.
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    /// An event came down the stream. False when it was told before.
    pub(crate) fn hear(&mut self, kept: &Kept) -> bool {
        if kept.number <= self.high {
            return false;
        }
        self.keep(kept);
        true
    }

    /// The store answered: the event that those who are in already have missed, if there is one.
    pub(crate) fn fetched(&mut self, kept: Option<Kept>) -> Option<Event> {
        (self.known, self.under_way) = (true, false);
        let kept = kept.filter(|kept| kept.number > self.high)?;
        self.keep(&kept);
        Some(kept.event)
    }

    pub(crate) fn failed(&mut self) {
        (self.under_way, self.failed) = (false, true);
    }

    pub(crate) fn retry(&mut self) {
        self.failed = false;
    }

    /// Events may be missed from here on.
    pub(crate) fn lose_link(&mut self) {
        (self.known, self.under_way, self.failed) = (false, false, false);
    }

    /// Nobody here hears the channel any more.
    pub(crate) fn stop_listening(&mut self) {
        *self = Self { missed: self.missed, ..Self::default() };
    }

    /// What a newcomer is given now; `true` when its lack is to be reported.
    pub(crate) fn give(&mut self, now: Instant) -> (Cached, bool) {
        match &self.held {
            Some((event, until)) if *until > now => (Cached::Hit(event.clone()), false),
            _ => {
                self.held = None;
                let due = self.missed.is_none_or(|at| now.saturating_duration_since(at) >= MISS_EVERY);
                if due {
                    self.missed = Some(now);
                }
                (Cached::Miss, due)
            }
        }
    }

    fn keep(&mut self, kept: &Kept) {
        self.high = kept.number;
        // Whom its publisher left out then is no newcomer now.
        let event = Event { except: None, ..kept.event.clone() };
        self.held = Some((Arc::new(event), kept.until));
        self.missed = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::RawJson;

    fn kept(number: u64, until: Instant) -> Kept {
        Kept { number, event: Event::new(&number.to_string(), RawJson::null()), until }
    }

    #[test]
    fn what_the_store_has_and_the_stream_brings_is_told_once() {
        let now = Instant::now();
        let until = now + Duration::from_secs(9);
        let mut cache = Cache::default();
        assert_eq!((cache.next(), cache.next()), (Some(Operation::Cached), None));
        assert!(cache.fetched(Some(kept(5, until))).is_some());
        assert!(!cache.hear(&kept(5, until)) && cache.hear(&kept(6, until)));
        assert!(matches!(cache.give(now), (Cached::Hit(event), false) if &*event.name == "6"));
        cache.lose_link();
        assert!(!cache.is_known() && cache.next().is_some());
        assert!(cache.hear(&kept(7, until)), "the stream is ahead of the answer");
        assert_eq!(cache.fetched(Some(kept(6, until))), None);
        assert!(matches!(cache.give(until), (Cached::Miss, true)));
        assert!(matches!(cache.give(until), (Cached::Miss, false)), "one report in a while");
        assert!(matches!(cache.give(until + MISS_EVERY), (Cached::Miss, true)));
    }
}
