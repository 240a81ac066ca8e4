//! The backplane of a node that has no others: everything in memory, the default.
//!
//! One lock puts all calls in one order; under it the same topic table as on Redis is driven with instant confirmations.
//! Nothing here awaits, and a publish costs the lock, one allocation for the delivery and a push a worker. The rosters are
//! the truth, not a mirror of it, yet they answer through the same operations.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use model::webhook::{Happening, Job};
use model::{Broadcast, ChannelKey, ChannelName, Event, Member, RawJson, UserId, WebhookKind};
use tokio::sync::Notify;

use crate::roster::{Change, Known, Operation, Renewal, Snapshot, Version};
use crate::topics::{Answer, Command, TopicId, Topics};
use crate::{AppSettings, Ask, Backplane, BoxFuture, ChannelCounts, Cluster, Counters, LinkStatus, Page, PageRead};
use crate::{PublishError, QueryAnswer, QueryError, TAKE_TIMEOUT, Workers};
use counting::Announcements;
use histories::Histories;
use webhooks::Queues;

mod counting;
mod histories;
mod webhooks;

#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a channel is kept after its last subscription here.
    pub linger: Duration,
    /// How long webhooks wait before they tell of an end: who comes back in time was never away.
    pub webhook_delay: Duration,
    /// How often exact counts are told.
    pub beat: Duration,
    pub apps: Vec<AppSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { linger: seconds(2), webhook_delay: seconds(3), beat: seconds(1), apps: Vec::new() }
    }
}

/// Starts at once and needs no runtime. A thread of its own looks at the timers once a beat, beside whoever calls.
///
/// `workers.push` is called under a lock of this backplane and must not call back into it.
pub fn start(settings: Settings, workers: Arc<dyn Workers>) -> Arc<dyn Cluster> {
    let mut topics = Topics::new(workers, settings.linger);
    let now = Instant::now();
    topics.link_up();
    topics.store_up(now, None, Renewal::None);
    let inner = Inner {
        topics,
        rosters: HashMap::new(),
        changes: 0,
        occupied: BTreeMap::new(),
        histories: Histories::new(),
        announcements: Announcements::default(),
        queues: Queues::new(settings.webhook_delay),
        apps: HashMap::new(),
        counters: Counters::default(),
        beat: settings.beat,
        next_beat: now + settings.beat,
    };
    let local = Local { inner: Mutex::new(inner), queued: Notify::new() };
    local.set_apps(settings.apps);
    let local = Arc::new(local);
    tick(Arc::downgrade(&local), settings.beat);
    local
}

/// Ends with the backplane.
fn tick(local: Weak<Local>, beat: Duration) {
    let tick = move || {
        while let Some(local) = local.upgrade() {
            local.act(|_, _| ());
            drop(local);
            std::thread::sleep(beat);
        }
    };
    // Without it counts are told when somebody calls: no reason not to start.
    if let Err(error) = std::thread::Builder::new().name("local beat".into()).spawn(tick) {
        tracing::warn!(%error, "cannot start a thread: counts will be told late");
    }
}

struct Local {
    inner: Mutex<Inner>,
    /// Something waits for a webhook.
    queued: Notify,
}

struct Inner {
    topics: Topics,
    /// Of channels that have members.
    rosters: HashMap<TopicId, Members>,
    /// Changes of all rosters so far. A roster that is made again starts above every number it had.
    changes: u64,
    /// Channels with a subscription, by app, and how many.
    occupied: BTreeMap<Arc<str>, BTreeMap<ChannelName, u32>>,
    histories: Histories,
    announcements: Announcements,
    queues: Queues,
    apps: HashMap<Arc<str>, AppSettings>,
    counters: Counters,
    beat: Duration,
    next_beat: Instant,
}

/// The members of one channel. The whole store of this backplane.
#[derive(Default)]
struct Members {
    number: u64,
    users: BTreeMap<UserId, Option<RawJson>>,
}

impl Members {
    fn version(&self) -> Version {
        Version { epoch: "local".into(), number: self.number }
    }

    fn snapshot(&self) -> Snapshot {
        let users = self.users.iter().map(|(user, info)| (user.clone(), info.clone())).collect();
        Snapshot { version: self.version(), users, removals_in: Duration::ZERO }
    }

    fn enter(&mut self, member: Member, known: Known, members_max: u32) -> Answer {
        let before = self.version();
        let added = !self.users.contains_key(&member.id);
        if added && members_max > 0 && self.users.len() >= members_max as usize {
            return Answer::Full;
        }
        if added {
            self.number += 1;
            self.users.insert(member.id, member.info);
        }
        let is_current = known == Known::Enough || known == Known::At(before);
        Answer::Entered { version: self.version(), added, snapshot: (!is_current).then(|| self.snapshot()) }
    }

    /// The change to announce, if he was here.
    fn exit(&mut self, user: UserId) -> Option<(Version, UserId)> {
        self.users.remove(&user)?;
        self.number += 1;
        Some((self.version(), user))
    }
}

impl Local {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it was held is a bug of ours in one call; the table is not left half-changed by a push.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call, and what follows from it.
    fn act<T>(&self, call: impl FnOnce(&mut Inner, Instant) -> T) -> T {
        let (now, mut inner) = (Instant::now(), self.lock());
        let answer = call(&mut inner, now);
        inner.work(now);
        if inner.queues.take_fresh() {
            self.queued.notify_waiters();
        }
        answer
    }

    fn ready<T: Send + 'static>(answer: T) -> QueryAnswer<T> {
        Box::pin(std::future::ready(Ok::<T, QueryError>(answer)))
    }
}

impl Inner {
    /// Carries out what the topics ask for, until they ask for nothing.
    fn work(&mut self, now: Instant) {
        self.topics.sweep(now);
        if now >= self.next_beat {
            self.next_beat = now + self.beat;
            self.topics.beat(now);
            let Self { histories, topics, .. } = self;
            histories.sweep(now, |channel| topics.find(channel).is_some());
        }
        self.queues.move_due(now, &self.apps);
        loop {
            let commands = self.topics.take_commands();
            if commands.is_empty() {
                return;
            }
            for command in commands {
                match command {
                    Command::Subscribe(ids) => ids.into_iter().for_each(|id| self.topics.confirmed(now, id)),
                    Command::Unsubscribe(ids) => ids.into_iter().for_each(|id| self.topics.unsubscribed(now, id)),
                    Command::Store(id, operation) => self.operate(now, id, operation),
                }
            }
        }
    }

    fn operate(&mut self, now: Instant, id: TopicId, operation: Operation) {
        let Some(channel) = self.topics.channel(id).cloned() else { return };
        let about = operation.about();
        let mut left = None;
        let answer = match operation {
            Operation::Enter { member, known, members_max, .. } => self.enter(id, &channel, member, known, members_max),
            Operation::Exit(user) => {
                left = self.exit(now, id, &channel, user);
                Answer::Exited
            }
            Operation::Roster => {
                Answer::Roster(self.rosters.get(&id).map_or_else(
                    || Members { number: self.changes, ..Members::default() }.snapshot(),
                    Members::snapshot,
                ))
            }
            Operation::Count { n, announce, .. } => {
                Answer::Counted { later: self.count(now, id, &channel, n, announce) }
            }
            Operation::Read { after } => Answer::Read(self.histories.read(now, &channel, after)),
            // Everything passes here and has its number.
            Operation::Note(_) => Answer::Noted,
            Operation::Missed => {
                self.queue(&channel, Happening::CacheMiss);
                Answer::Noted
            }
        };
        if let Some((version, user)) = left {
            self.topics.roster_message(now, id, version, Change::Left(user));
        }
        self.topics.answered(now, id, about, answer);
    }

    fn enter(
        &mut self,
        id: TopicId,
        channel: &Arc<ChannelKey>,
        member: Member,
        known: Known,
        members_max: u32,
    ) -> Answer {
        let fresh = Members { number: self.changes, ..Members::default() };
        let members = self.rosters.entry(id).or_insert(fresh);
        let user = member.id.clone();
        let answer = members.enter(member, known, members_max);
        if members.users.is_empty() {
            self.rosters.remove(&id);
        }
        if matches!(answer, Answer::Entered { added: true, .. }) {
            self.changes += 1;
            self.begin(channel, Happening::MemberAdded(user));
        }
        answer
    }

    fn exit(
        &mut self,
        now: Instant,
        id: TopicId,
        channel: &Arc<ChannelKey>,
        user: UserId,
    ) -> Option<(Version, UserId)> {
        let members = self.rosters.get_mut(&id)?;
        let left = members.exit(user)?;
        if members.users.is_empty() {
            self.rosters.remove(&id);
        }
        self.changes += 1;
        self.end(now, channel, Some(left.1.clone()));
        Some(left)
    }

    /// True when the count is to be announced later.
    fn count(&mut self, now: Instant, id: TopicId, channel: &Arc<ChannelKey>, n: u32, announce: bool) -> bool {
        let occupied = self.occupied.entry(channel.app.clone()).or_default();
        let before = if n > 0 { occupied.insert(channel.name.clone(), n) } else { occupied.remove(&channel.name) };
        match (before, n) {
            (None, 1..) => self.begin(channel, Happening::ChannelOccupied),
            (Some(_), 0) => self.end(now, channel, None),
            _ => {}
        }
        let Some(app) = self.apps.get(&channel.app) else { return false };
        let (told, queued) = (app.subscription_count, app.webhooks.has(WebhookKind::SubscriptionCount));
        if !(told || queued) || channel.name.kind().access == model::Access::Presence {
            return false;
        }
        if n > 0 && !announce {
            return true;
        }
        match self.announcements.announce(now, channel, n) {
            counting::Verdict::Known => false,
            counting::Verdict::Later => true,
            counting::Verdict::Now => {
                if told {
                    self.topics.broadcast(id, Broadcast::Count(n.into()));
                }
                self.queue(channel, Happening::SubscriptionCount(n.into()));
                false
            }
        }
    }

    fn begin(&mut self, channel: &Arc<ChannelKey>, happening: Happening) {
        if let Some(app) = self.apps.get(&channel.app) {
            self.queues.begin(app, channel, happening);
        }
    }

    fn end(&mut self, now: Instant, channel: &Arc<ChannelKey>, user: Option<UserId>) {
        if let Some(app) = self.apps.get(&channel.app) {
            self.queues.end(now, app, channel, user);
        }
    }

    fn queue(&mut self, channel: &Arc<ChannelKey>, happening: Happening) {
        if let Some(app) = self.apps.get(&channel.app) {
            self.queues.queue(app, channel, happening);
        }
    }

    fn publish(&mut self, now: Instant, channel: &Arc<ChannelKey>, mut event: Event) {
        let bytes = event.bytes() as u64;
        self.counters.messages_out += 1;
        self.counters.bytes_out += bytes;
        let id = self.topics.find(channel);
        if id.is_some() {
            self.counters.messages_in += 1;
            self.counters.bytes_in += bytes;
        }
        let depth = self.apps.get(&channel.app).and_then(|app| app.depth(&channel.name));
        if let Some(depth) = depth.filter(|_| event.cacheable) {
            self.histories.keep(now, channel, depth, &mut event);
        }
        if let Some(id) = id {
            self.topics.event(now, id, event);
        }
    }

    fn counts(&self, channel: &ChannelKey) -> ChannelCounts {
        let live = self.topics.live(channel);
        let waits = self.occupied.get(&channel.app).is_some_and(|occupied| occupied.contains_key(&channel.name));
        let members = self.topics.find(channel).and_then(|id| self.rosters.get(&id));
        let users = members.map_or(0, |members| members.users.len() as u64);
        ChannelCounts { subscriptions: u64::from(live).max(u64::from(waits)), users }
    }
}

impl Backplane for Local {
    fn ask(&self, worker: usize, ask: Ask) {
        self.act(|inner, now| inner.topics.ask(now, worker, ask));
    }

    fn leave(&self, worker: usize, channel: Arc<ChannelKey>) {
        self.act(|inner, now| inner.topics.leave(now, worker, &channel));
    }

    fn exit(&self, _worker: usize, channel: Arc<ChannelKey>, user: UserId) {
        self.act(|inner, now| inner.topics.exit(now, &channel, &user));
    }

    fn publish(&self, channel: Arc<ChannelKey>, event: Event) -> BoxFuture<Result<(), PublishError>> {
        self.lock().publish(Instant::now(), &channel, event);
        Box::pin(std::future::ready(Ok(())))
    }

    fn report(&self, channel: Arc<ChannelKey>, happening: Happening) {
        self.act(|inner, _| inner.queue(&channel, happening));
    }

    fn status(&self) -> LinkStatus {
        LinkStatus::Up
    }
}

impl Cluster for Local {
    fn terminate(&self, channel: Arc<ChannelKey>) -> BoxFuture<Result<(), PublishError>> {
        let mut inner = self.lock();
        if let Some(id) = inner.topics.find(&channel) {
            inner.topics.broadcast(id, Broadcast::Terminate);
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn counts(&self, channels: Vec<Arc<ChannelKey>>) -> QueryAnswer<Vec<ChannelCounts>> {
        let inner = self.lock();
        Self::ready(channels.iter().map(|channel| inner.counts(channel)).collect())
    }

    fn occupied(&self, app: Arc<str>, name_prefix: String) -> QueryAnswer<Vec<(ChannelName, ChannelCounts)>> {
        let inner = self.lock();
        let names = inner.occupied.get(&app).into_iter().flat_map(BTreeMap::keys);
        let fitting = names.filter(|name| name.as_str().starts_with(&name_prefix)).cloned();
        let counted = fitting.map(|name| {
            let counts = inner.counts(&ChannelKey { app: app.clone(), name: name.clone() });
            (name, counts)
        });
        Self::ready(counted.collect())
    }

    fn users(&self, channel: Arc<ChannelKey>) -> QueryAnswer<Vec<Member>> {
        let inner = self.lock();
        let members = inner.topics.find(&channel).and_then(|id| inner.rosters.get(&id));
        let users = members.into_iter().flat_map(|members| &members.users);
        Self::ready(users.map(|(id, info)| Member { id: id.clone(), info: info.clone() }).collect())
    }

    fn history(&self, channel: Arc<ChannelKey>, page: Page) -> QueryAnswer<PageRead> {
        Self::ready(self.lock().histories.page(Instant::now(), &channel, page))
    }

    fn connections_elsewhere(&self, _app: &str) -> u64 {
        0
    }

    fn nodes(&self) -> usize {
        1
    }

    fn set_apps(&self, apps: Vec<AppSettings>) {
        self.lock().apps = apps.into_iter().map(|app| (app.id.clone(), app)).collect();
    }

    fn take_jobs(self: Arc<Self>, app: Arc<str>, max: usize) -> BoxFuture<Vec<Job>> {
        Box::pin(async move {
            let deadline = tokio::time::Instant::now() + TAKE_TIMEOUT;
            loop {
                let queued = self.queued.notified();
                tokio::pin!(queued);
                queued.as_mut().enable();
                let (jobs, due) = self.act(|inner, now| {
                    inner.queues.move_due(now, &inner.apps);
                    (inner.queues.take(&app, max), inner.queues.next_due())
                });
                if !jobs.is_empty() || tokio::time::Instant::now() >= deadline {
                    return jobs;
                }
                let wake = due.map_or(deadline, |due| deadline.min(due.into()));
                tokio::select! {
                    () = queued => {}
                    () = tokio::time::sleep_until(wake) => {}
                }
            }
        })
    }

    fn done(&self, _app: Arc<str>, _jobs: Vec<Box<str>>) {}

    fn channels(&self) -> Vec<((Arc<str>, &'static str), u64)> {
        self.lock().topics.heard().counts()
    }

    fn counters(&self) -> Counters {
        let inner = self.lock();
        let (history_repaired, history_unnumbered) = inner.topics.heard().of_histories();
        Counters { webhooks_lost: inner.queues.lost(), history_repaired, history_unnumbered, ..inner.counters }
    }

    fn close(&self) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }
}
