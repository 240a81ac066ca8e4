//! At what pace something is taken that comes in crowds.
//!
//! Pure: the time is an argument. A few are taken at once; when they were too many, there is one pause for all of them, and
//! then the next few come. So a crowd costs a hundred wakes a second at most, and whoever comes alone never waits.

use std::time::{Duration, Instant};

/// What is taken at once is at most what this time gives, or one.
const BURST: Duration = Duration::from_millis(10);

pub(crate) struct Pace {
    /// Between two, when they come evenly. Zero: no limit.
    every: Duration,
    /// Where we would be, had all come evenly.
    due: Option<Instant>,
    /// In the pause after too many.
    pausing: bool,
}

impl Pace {
    /// 0: no limit.
    pub(crate) fn new(per_second: u32) -> Self {
        let every = Duration::from_secs(1).checked_div(per_second).unwrap_or_default();
        Self { every, due: None, pausing: false }
    }

    /// One was taken.
    pub(crate) fn note(&mut self, now: Instant) {
        if self.every.is_zero() {
            return;
        }
        let due = self.due.filter(|due| *due > now).unwrap_or(now) + self.every;
        self.due = Some(due);
        self.pausing = due - now >= BURST.max(self.every);
    }

    /// How long to wait before the next one is taken; `None`: not at all.
    pub(crate) fn pause(&mut self, now: Instant) -> Option<Duration> {
        let left = self.due.filter(|_| self.pausing).map(|due| due.saturating_duration_since(now))?;
        self.pausing = !left.is_zero();
        self.pausing.then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as many as the pace allows until then, each as soon as it may; returns their times from the start.
    fn taken(pace: &mut Pace, start: Instant, until: Duration) -> Vec<Duration> {
        let (mut now, mut times) = (start, Vec::new());
        while now - start < until {
            match pace.pause(now) {
                Some(pause) => now += pause,
                None => {
                    pace.note(now);
                    times.push(now - start);
                }
            }
        }
        times
    }

    #[test]
    fn a_crowd_is_taken_at_the_rate_in_small_handfuls_with_short_pauses() {
        let start = Instant::now();
        let times = taken(&mut Pace::new(1_000), start, Duration::from_secs(3));
        assert_eq!(times.len(), 3_000);
        for hundredth in 0..300 {
            let from = BURST * hundredth;
            let handful = times.iter().filter(|time| (from..from + BURST).contains(time)).count();
            assert_eq!(handful, 10, "in the time from {from:?}");
        }
    }

    #[test]
    fn below_the_rate_nobody_waits_and_a_quiet_time_is_no_credit() {
        let (start, mut pace) = (Instant::now(), Pace::new(1_000));
        for place in 0..5_000 {
            let now = start + Duration::from_micros(1_001) * place;
            assert_eq!(pace.pause(now), None);
            pace.note(now);
        }
        let later = start + Duration::from_secs(60);
        assert_eq!(taken(&mut pace, later, Duration::from_millis(100)).len(), 100);
    }

    #[test]
    fn a_slow_pace_takes_one_at_a_time_and_none_means_no_limit() {
        let start = Instant::now();
        let times = taken(&mut Pace::new(2), start, Duration::from_secs(2));
        assert_eq!(times, [0, 500, 1_000, 1_500].map(Duration::from_millis));
        let mut pace = Pace::new(0);
        for _ in 0..100_000 {
            pace.note(start);
            assert_eq!(pace.pause(start), None);
        }
    }

    #[test]
    fn whoever_is_woken_early_waits_for_the_rest() {
        let (start, mut pace) = (Instant::now(), Pace::new(10));
        pace.note(start);
        let early = start + Duration::from_millis(40);
        assert_eq!(pace.pause(early), Some(Duration::from_millis(60)));
        assert_eq!(pace.pause(start + Duration::from_millis(100)), None);
    }
}
