//! What arrived, and what should have: lost, doubled, out of order, where it did not belong, and how late.

use std::collections::BTreeSet;

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::stamp::Stamp;

/// The longest latency that is told apart, in microseconds.
const LATENCY_MAX: u64 = 600_000_000;

/// A histogram of microseconds with three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("bounds that hold")
}

/// Notes a time, in nanoseconds.
pub(crate) fn note(histogram: &mut Histogram<u64>, nanoseconds: u64) {
    histogram.saturating_record((nanoseconds / 1_000).max(1));
}

/// The sums of many connections.
pub(crate) struct Tally {
    pub(crate) received: u64,
    /// Came, though something later of the channel had come before.
    pub(crate) late: u64,
    pub(crate) doubled: u64,
    /// Of a channel that the connection did not subscribe to.
    pub(crate) misrouted: u64,
    /// Event frames without a whole stamp: cut short, padded, or somebody else's.
    pub(crate) damaged: u64,
    pub(crate) lost: u64,
    /// The server closed, or the connection broke.
    pub(crate) closed: u64,
    /// Microseconds from when an event was due.
    pub(crate) latency: Histogram<u64>,
    /// With one channel: when each event had reached the last subscriber, in nanoseconds after it was due.
    pub(crate) last: Vec<u64>,
    /// Bytes of event frames.
    pub(crate) bytes: u64,
    /// Subscribes and unsubscribes that were done.
    pub(crate) changes: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            received: 0,
            late: 0,
            doubled: 0,
            misrouted: 0,
            damaged: 0,
            lost: 0,
            closed: 0,
            latency: histogram(),
            last: Vec::new(),
            bytes: 0,
            changes: 0,
        }
    }

    /// Adds another thread's.
    ///
    /// # Errors
    /// Histograms of other bounds, which there are none of.
    pub(crate) fn add(&mut self, other: &Self) -> Result<()> {
        self.received += other.received;
        self.late += other.late;
        self.doubled += other.doubled;
        self.misrouted += other.misrouted;
        self.damaged += other.damaged;
        self.lost += other.lost;
        self.closed += other.closed;
        self.bytes += other.bytes;
        self.changes += other.changes;
        self.latency.add(&other.latency)?;
        self.last.resize(self.last.len().max(other.last.len()), 0);
        for (mine, others) in self.last.iter_mut().zip(&other.last) {
            *mine = (*mine).max(*others);
        }
        Ok(())
    }
}

/// What one connection has heard of its channel.
pub(crate) struct Track {
    channel: u32,
    /// The number that comes next when all is well.
    next: u64,
    /// Numbers below that have not come.
    missing: BTreeSet<u64>,
}

impl Track {
    pub(crate) fn new(channel: u32) -> Self {
        Self { channel, next: 1, missing: BTreeSet::new() }
    }

    /// An event came, `now` nanoseconds after the start. Those that are warm-up (due before 0 ns are none) count like all.
    pub(crate) fn note(&mut self, stamp: Stamp, now: u64, tally: &mut Tally) {
        if stamp.channel != self.channel {
            tally.misrouted += 1;
            return;
        }
        if stamp.number >= self.next {
            self.missing.extend(self.next..stamp.number);
            self.next = stamp.number + 1;
        } else if self.missing.remove(&stamp.number) {
            tally.late += 1;
        } else {
            tally.doubled += 1;
            return;
        }
        tally.received += 1;
        let latency = now.saturating_sub(stamp.due);
        note(&mut tally.latency, latency);
        if self.channel == 0 {
            let at = stamp.number as usize;
            tally.last.resize(tally.last.len().max(at + 1), 0);
            tally.last[at] = tally.last[at].max(latency);
        }
    }

    /// How many of the `published` events never came.
    pub(crate) fn lost(&self, published: u64) -> u64 {
        self.missing.len() as u64 + (published + 1).saturating_sub(self.next)
    }

    pub(crate) fn channel(&self) -> u32 {
        self.channel
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (received, late, doubled, misrouted, lost) after these (channel, number), of five published on channel 3.
    fn after(heard: &[(u32, u64)]) -> (u64, u64, u64, u64, u64) {
        let (mut track, mut tally) = (Track::new(3), Tally::new());
        for &(channel, number) in heard {
            track.note(Stamp { channel, number, due: 0 }, 5_000, &mut tally);
        }
        (tally.received, tally.late, tally.doubled, tally.misrouted, track.lost(5))
    }

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        assert_eq!(after(&[(3, 1), (3, 2), (3, 3), (3, 4), (3, 5)]), (5, 0, 0, 0, 0));
        assert_eq!(after(&[(3, 1), (3, 3), (3, 4), (3, 5)]), (4, 0, 0, 0, 1));
        assert_eq!(after(&[(3, 1), (3, 3), (3, 2), (3, 4), (3, 5)]), (5, 1, 0, 0, 0));
        assert_eq!(after(&[(3, 1), (3, 1), (3, 2), (3, 3), (3, 2)]), (3, 0, 2, 0, 2));
        assert_eq!(after(&[(2, 1), (3, 1)]), (1, 0, 0, 1, 4));
        assert_eq!(after(&[]), (0, 0, 0, 0, 5));
    }
}
