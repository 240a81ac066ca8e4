//! When a channel's count is told: at each change, and in a large channel only every few seconds (pusher docs,
//! "Subscription counting").

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::ChannelKey;

/// Above so many subscriptions …
pub(crate) const LARGE: u32 = 100;
/// … one announcement in this time.
pub(crate) const LARGE_EVERY: Duration = Duration::from_secs(5);

#[derive(PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Now,
    Later,
    /// It was told last.
    Known,
}

/// What was told last of each channel, and when.
#[derive(Default)]
pub(super) struct Announcements(HashMap<Arc<ChannelKey>, (u32, Instant)>);

impl Announcements {
    pub(super) fn announce(&mut self, now: Instant, channel: &Arc<ChannelKey>, n: u32) -> Verdict {
        let last = self.0.get(channel).copied();
        if n == 0 {
            self.0.remove(channel);
            return if last.is_some() { Verdict::Now } else { Verdict::Known };
        }
        match last {
            Some((known, _)) if known == n => Verdict::Known,
            Some((_, at)) if n > LARGE && now.saturating_duration_since(at) < LARGE_EVERY => Verdict::Later,
            _ => {
                self.0.insert(channel.clone(), (n, now));
                Verdict::Now
            }
        }
    }
}
