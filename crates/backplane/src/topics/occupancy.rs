//! This node's share of a channel's count, and what the store was told of it.
//!
//! The store hears at once when the share begins or ends, and once a beat what it is exactly, where that changed. Pure.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::roster::Operation;

/// The store's keys are renewed this often; they expire after a day.
const REFRESH_EVERY: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
pub(crate) struct Occupancy {
    /// Admitted subscriptions of all workers, kept by the workers.
    pub(crate) live: Arc<AtomicU32>,
    /// What the store has for this node; `None`: an answer was lost.
    told: Option<u32>,
    under_way: Option<u32>,
    /// The last call got no answer; it is sent again at the next beat and not at once.
    failed: bool,
    /// The store has the channel as occupied, or fails: newcomers need not wait for it.
    settled: bool,
    /// The store had this node's share, and lost its data.
    again: bool,
    /// The subscribers are still to be told of the count.
    announce: bool,
    told_at: Option<Instant>,
}

impl Default for Occupancy {
    fn default() -> Self {
        Self {
            live: Arc::default(),
            told: Some(0),
            under_way: None,
            failed: false,
            settled: false,
            again: false,
            announce: false,
            told_at: None,
        }
    }
}

impl Occupancy {
    /// What to tell the store now; counts as sent. `wanted`: somebody here has the channel or waits for it.
    pub(crate) fn next(&mut self, now: Instant, wanted: bool, beat: bool) -> Option<Operation> {
        if self.under_way.is_some() || self.failed {
            return None;
        }
        // Whoever waits for his admission makes a channel occupied: it is so before he hears that he is in.
        let n = if wanted { self.live().max(1) } else { 0 };
        let edge = self.told.is_none_or(|told| (told == 0) != (n == 0));
        let old = self.told_at.is_some_and(|at| now.saturating_duration_since(at) >= REFRESH_EVERY);
        let due = beat && wanted && (self.announce || old || self.told != Some(n));
        if !edge && !due {
            return None;
        }
        self.under_way = Some(n);
        self.settled &= n > 0;
        Some(Operation::Count { n, announce: n == 0 || beat, again: self.again })
    }

    /// True while a newcomer has to wait: the store is being told that the channel is occupied.
    pub(crate) fn holds_back(&self) -> bool {
        !self.settled && self.under_way.is_some()
    }

    /// `later`: the count is to be announced by a further call.
    pub(crate) fn answered(&mut self, now: Instant, later: bool) {
        self.told = self.under_way.take();
        self.announce = later && self.told != Some(0);
        (self.settled, self.told_at, self.again) = (self.told != Some(0), Some(now), false);
    }

    pub(crate) fn failed(&mut self) {
        (self.told, self.under_way, self.failed, self.settled) = (None, None, true, true);
    }

    pub(crate) fn retry(&mut self) {
        self.failed = false;
    }

    /// No answer to anything under way will come.
    pub(crate) fn lose_link(&mut self) {
        if self.under_way.take().is_some() {
            self.told = None;
        }
        self.failed = false;
    }

    /// The store has nothing of this node. `lost`: it had, and lost its data.
    pub(crate) fn renew(&mut self, lost: bool) {
        self.again = lost && self.told != Some(0);
        (self.told, self.under_way, self.failed, self.settled) = (Some(0), None, false, false);
    }

    /// The store has this node's share, be it an old figure.
    pub(crate) fn is_registered(&self, wanted: bool) -> bool {
        !wanted || self.told.is_some_and(|told| told > 0)
    }

    /// Nothing is owed to the store for a channel that nobody here has.
    pub(crate) fn is_over(&self) -> bool {
        self.told == Some(0) && self.under_way.is_none()
    }

    pub(crate) fn live(&self) -> u32 {
        self.live.load(Relaxed)
    }

    /// The store has what is so, as far as is known.
    pub(crate) fn is_told(&self) -> bool {
        self.under_way.is_none() && self.told == Some(self.live())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(occupancy: &mut Occupancy, now: Instant, wanted: bool, beat: bool) -> Option<(u32, bool)> {
        occupancy.next(now, wanted, beat).map(|operation| match operation {
            Operation::Count { n, announce, .. } => (n, announce),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn edges_at_once_and_exact_figures_at_a_beat() {
        let (mut occupancy, now) = (Occupancy::default(), Instant::now());
        assert_eq!(told(&mut occupancy, now, false, true), None);
        assert_eq!(told(&mut occupancy, now, true, false), Some((1, false)));
        assert!(occupancy.holds_back());
        assert_eq!(told(&mut occupancy, now, true, true), None, "one at a time");
        occupancy.answered(now, true);
        assert!(!occupancy.holds_back());
        occupancy.live.store(3, Relaxed);
        assert_eq!(told(&mut occupancy, now, true, false), None);
        assert_eq!(told(&mut occupancy, now, true, true), Some((3, true)));
        occupancy.answered(now, false);
        assert_eq!(told(&mut occupancy, now, true, true), None);
        assert_eq!(told(&mut occupancy, now + REFRESH_EVERY, true, true), Some((3, true)));
        occupancy.answered(now, false);
        occupancy.live.store(0, Relaxed);
        assert_eq!(told(&mut occupancy, now, false, false), Some((0, true)));
        assert!(!occupancy.is_over());
        occupancy.answered(now, true);
        assert!(occupancy.is_over());
    }

    #[test]
    fn what_was_lost_is_told_again_and_holds_nobody_back() {
        let (mut occupancy, now) = (Occupancy::default(), Instant::now());
        told(&mut occupancy, now, true, false);
        occupancy.failed();
        assert!(!occupancy.holds_back());
        assert_eq!(told(&mut occupancy, now, true, true), None);
        occupancy.retry();
        assert_eq!(told(&mut occupancy, now, true, false), Some((1, false)));
        occupancy.lose_link();
        assert_eq!(told(&mut occupancy, now, false, false), Some((0, true)), "it may have been told");
        occupancy.renew(false);
        assert!(occupancy.is_over());
    }
    #[test]
    fn who_comes_back_waits_until_the_channel_is_occupied_again() {
        let (mut occupancy, now) = (Occupancy::default(), Instant::now());
        told(&mut occupancy, now, true, false);
        occupancy.answered(now, false);
        told(&mut occupancy, now, false, false);
        assert!(occupancy.holds_back());
        occupancy.answered(now, false);
        told(&mut occupancy, now, true, false);
        assert!(occupancy.holds_back());
        occupancy.answered(now, false);
        assert!(!occupancy.holds_back());
        occupancy.renew(true);
        let again = occupancy.next(now, true, false);
        assert_eq!(again, Some(Operation::Count { n: 1, announce: false, again: true }));
    }
}
