//! What waits for webhooks, in memory: gone with the process. On Redis it outlives nodes.
//!
//! The end of something waits for the delay; whoever comes back within it was never away, and neither is told.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::webhook::{Happening, Job};
use model::{ChannelKey, UserId};

use crate::{AppSettings, CLIENT_EVENT_JOBS_MAX, JOBS_MAX};

/// A user has left the channel; or nobody is there any more.
type End = (Arc<ChannelKey>, Option<UserId>);

pub(super) struct Queues {
    delay: Duration,
    by_app: HashMap<Arc<str>, VecDeque<Job>>,
    /// Ends that wait, and until when.
    late: HashMap<End, Instant>,
    /// In the order of their due times. One that began again meanwhile is passed over.
    due: VecDeque<(Instant, End)>,
    last: u64,
    lost: u64,
    fresh: bool,
}

impl Queues {
    pub(super) fn new(delay: Duration) -> Self {
        Self {
            delay,
            by_app: HashMap::new(),
            late: HashMap::new(),
            due: VecDeque::new(),
            last: 0,
            lost: 0,
            fresh: false,
        }
    }

    /// Something began: told, unless its end was about to be.
    pub(super) fn begin(&mut self, app: &AppSettings, channel: &Arc<ChannelKey>, happening: Happening) {
        let user = match &happening {
            Happening::MemberAdded(user) => Some(user.clone()),
            _ => None,
        };
        if self.late.remove(&(channel.clone(), user)).is_none() {
            self.queue(app, channel, happening);
        }
    }

    /// Something ended: told after the delay. `user`: he left; `None`: the channel is vacated.
    pub(super) fn end(&mut self, now: Instant, app: &AppSettings, channel: &Arc<ChannelKey>, user: Option<UserId>) {
        // Also where only the beginning is wanted: it must not be told again for a flutter.
        if channel.name.kind().access != model::Access::User && !app.webhooks.is_empty() {
            let (due, end) = (now + self.delay, (channel.clone(), user));
            self.late.insert(end.clone(), due);
            self.due.push_back((due, end));
        }
    }

    pub(super) fn queue(&mut self, app: &AppSettings, channel: &Arc<ChannelKey>, happening: Happening) {
        if !app.webhooks.has(happening.kind()) || channel.name.kind().access == model::Access::User {
            return;
        }
        let queue = self.by_app.entry(app.id.clone()).or_default();
        let max = match &happening {
            Happening::ClientEvent { .. } => CLIENT_EVENT_JOBS_MAX,
            _ => JOBS_MAX,
        };
        if queue.len() >= max {
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
        while self.due.front().is_some_and(|(due, _)| *due <= now) {
            let Some((due, end)) = self.due.pop_front() else { break };
            if self.late.get(&end) != Some(&due) {
                continue;
            }
            self.late.remove(&end);
            let (channel, user) = end;
            if let Some(app) = apps.get(&channel.app) {
                self.queue(app, &channel, user.map_or(Happening::ChannelVacated, Happening::MemberRemoved));
            }
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.front().map(|(due, _)| *due)
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
