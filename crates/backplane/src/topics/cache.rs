//! What a cache channel gives to newcomers: the last event that the application published, while it is young enough. Pure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Event;

use crate::Cached;

/// A miss is reported once in this time and node; the store sees to the cluster.
pub(crate) const MISS_EVERY: Duration = Duration::from_secs(10);

#[derive(Default, Debug)]
pub(crate) struct Cache {
    /// For how long an event is kept.
    pub(super) ttl: Duration,
    last: Option<(Arc<Event>, Instant)>,
    missed: Option<Instant>,
}

impl Cache {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, ..Self::default() }
    }

    /// The newest event, of this age.
    pub(super) fn keep(&mut self, now: Instant, event: &Event, age: Duration) {
        // Whom its publisher left out then is no newcomer now.
        let event = Event { except: None, ..event.clone() };
        self.last = Some((Arc::new(event), now + self.ttl.saturating_sub(age)));
        self.missed = None;
    }

    /// What a newcomer is given now; `true` when its lack is to be reported.
    pub(super) fn give(&mut self, now: Instant) -> (Cached, bool) {
        match &self.last {
            Some((event, until)) if *until > now => (Cached::Hit(event.clone()), false),
            _ => {
                self.last = None;
                let due = self.missed.is_none_or(|at| now.saturating_duration_since(at) >= MISS_EVERY);
                if due {
                    self.missed = Some(now);
                }
                (Cached::Miss, due)
            }
        }
    }

    /// Nobody here hears the channel any more.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::RawJson;

    #[test]
    fn newcomers_are_given_the_last_event_while_it_is_young() {
        let (now, ttl) = (Instant::now(), Duration::from_secs(9));
        let mut cache = Cache::new(ttl);
        assert!(matches!(cache.give(now), (Cached::Miss, true)));
        assert!(matches!(cache.give(now), (Cached::Miss, false)), "one report in a while");
        assert!(matches!(cache.give(now + MISS_EVERY), (Cached::Miss, true)));
        cache.keep(now, &Event::new("6", RawJson::null()), Duration::from_secs(1));
        assert!(matches!(cache.give(now + ttl / 2), (Cached::Hit(event), false) if &*event.name == "6"));
        assert!(matches!(cache.give(now + Duration::from_secs(8)), (Cached::Miss, true)));
    }
}
