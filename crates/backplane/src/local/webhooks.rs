//! What waits for webhooks, in memory: gone with the process. On Redis it outlives nodes.
//!
//! The end of something waits for the delay; whoever comes back within it was never away, and neither is told.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::ChannelKey;
use model::webhook::{Happening, Job};

use crate::{AppSettings, JOBS_MAX};

pub(super) struct Queues {
    delay: Duration,
    by_app: HashMap<Arc<str>, VecDeque<Job>>,
    /// In the order of their due times. Few: what ended within the last seconds.
    late: VecDeque<(Instant, Arc<ChannelKey>, Happening)>,
    last: u64,
    lost: u64,
    fresh: bool,
}

impl Queues {
    pub(super) fn new(delay: Duration) -> Self {
        Self { delay, by_app: HashMap::new(), late: VecDeque::new(), last: 0, lost: 0, fresh: false }
    }

    /// Something began: told, unless its end was about to be.
    pub(super) fn begin(&mut self, app: &AppSettings, channel: &Arc<ChannelKey>, happening: Happening) {
        let ended = match &happening {
            Happening::MemberAdded(user) => Happening::MemberRemoved(user.clone()),
            _ => Happening::ChannelVacated,
        };
        let place = self.late.iter().position(|(_, of, what)| of == channel && *what == ended);
        match place {
            Some(place) => _ = self.late.remove(place),
            None => self.queue(app, channel, happening),
        }
    }

    /// Something ended: told after the delay.
    pub(super) fn end(&mut self, now: Instant, app: &AppSettings, channel: &Arc<ChannelKey>, happening: Happening) {
        // Also where only the beginning is wanted: it must not be told again for a flutter.
        if channel.name.kind().access != model::Access::User && !app.webhooks.is_empty() {
            self.late.push_back((now + self.delay, channel.clone(), happening));
        }
    }

    pub(super) fn queue(&mut self, app: &AppSettings, channel: &Arc<ChannelKey>, happening: Happening) {
        if !app.webhooks.has(happening.kind()) || channel.name.kind().access == model::Access::User {
            return;
        }
        let queue = self.by_app.entry(app.id.clone()).or_default();
        if queue.len() >= JOBS_MAX {
            self.lost += 1;
            return;
        }
        self.last += 1;
        let time_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let id = format!("{time_ms}-{}", self.last).into();
        queue.push_back(Job { id, time_ms, channel: channel.name.clone(), happening });
        self.fresh = true;
    }

    /// Ends whose time has come.
    pub(super) fn move_due(&mut self, now: Instant, apps: &HashMap<Arc<str>, AppSettings>) {
        while self.late.front().is_some_and(|(due, ..)| *due <= now) {
            let Some((_, channel, happening)) = self.late.pop_front() else { break };
            if let Some(app) = apps.get(&channel.app) {
                self.queue(app, &channel, happening);
            }
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.late.front().map(|(due, ..)| *due)
    }

    pub(super) fn take(&mut self, app: &str, max: usize) -> Vec<Job> {
        let Some(queue) = self.by_app.get_mut(app) else { return Vec::new() };
        let n = queue.len().min(max);
        queue.drain(..n).collect()
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// True once after something was queued.
    pub(super) fn take_fresh(&mut self) -> bool {
        std::mem::take(&mut self.fresh)
    }
}
