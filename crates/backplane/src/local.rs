//! The backplane of a node that has no others: everything in memory, the default.
//!
//! One lock puts all calls in one order; under it the same topic table as on Redis is driven with instant confirmations.
//! Nothing here awaits, and a publish costs the lock, one allocation for the delivery and a push a worker. The rosters are
//! the truth, not a mirror of it, yet they answer through the same operations.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::webhook::{Happening, Job};
use model::{Broadcast, ChannelKey, ChannelName, Event, Member, RawJson, UserId};

use crate::roster::{Change, Known, Operation, Snapshot, Version};
use crate::topics::{Answer, Command, TopicId, Topics};
use crate::{AppSettings, Ask, Backplane, BoxFuture, ChannelCounts, Cluster, Counters, LinkStatus, PublishError};
use crate::{QueryAnswer, QueryError, Workers};

#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a channel is kept after its last subscription here.
    pub linger: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { linger: Duration::from_secs(2) }
    }
}

/// Starts at once and needs no runtime: timers are looked at when a worker calls.
///
/// `workers.push` is called under a lock of this backplane and must not call back into it.
pub fn start(settings: Settings, workers: Arc<dyn Workers>) -> Arc<dyn Cluster> {
    let mut topics = Topics::new(workers, settings.linger);
    topics.link_up();
    topics.store_up(Instant::now(), None, true);
    let inner = Inner { topics, rosters: HashMap::new(), changes: 0, counters: Counters::default() };
    Arc::new(Local { inner: Mutex::new(inner) })
}

struct Local {
    inner: Mutex<Inner>,
}

struct Inner {
    topics: Topics,
    /// Of channels that have members.
    rosters: HashMap<TopicId, Members>,
    /// Changes of all rosters so far. A roster that is made again starts above every number it had.
    changes: u64,
    counters: Counters,
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
}

impl Inner {
    /// Carries out what the topics ask for, until they ask for nothing.
    fn work(&mut self, now: Instant) {
        self.topics.sweep(now);
        loop {
            let commands = self.topics.take_commands();
            if commands.is_empty() {
                return;
            }
            for command in commands {
                match command {
                    Command::Subscribe(ids) => ids.into_iter().for_each(|id| self.topics.confirmed(now, id)),
                    Command::Unsubscribe(ids) => ids.into_iter().for_each(|id| self.topics.unsubscribed(now, id)),
                    Command::Presence(id, operation) => self.operate(now, id, operation),
                }
            }
        }
    }

    fn operate(&mut self, now: Instant, id: TopicId, operation: Operation) {
        let fresh = Members { number: self.changes, ..Members::default() };
        let members = self.rosters.entry(id).or_insert(fresh);
        let before = members.number;
        let (user, left, answer) = match operation {
            Operation::Enter { member, known, members_max } => {
                (Some(member.id.clone()), None, members.enter(member, known, members_max))
            }
            Operation::Exit(user) => (Some(user.clone()), members.exit(user), Answer::Exited),
            Operation::Roster => (None, None, Answer::Roster(members.snapshot())),
        };
        self.changes += members.number - before;
        if members.users.is_empty() {
            self.rosters.remove(&id);
        }
        if let Some((version, user)) = left {
            self.topics.roster_message(now, id, version, Change::Left(user));
        }
        self.topics.answered(now, id, user.as_ref(), answer);
    }
}

impl Backplane for Local {
    fn ask(&self, worker: usize, ask: Ask) {
        let (now, mut inner) = (Instant::now(), self.lock());
        inner.topics.ask(now, worker, ask);
        inner.work(now);
    }

    fn leave(&self, worker: usize, channel: Arc<ChannelKey>) {
        let (now, mut inner) = (Instant::now(), self.lock());
        inner.topics.leave(now, worker, &channel);
        inner.work(now);
    }

    fn exit(&self, _worker: usize, channel: Arc<ChannelKey>, user: UserId) {
        let (now, mut inner) = (Instant::now(), self.lock());
        inner.topics.exit(now, &channel, &user);
        inner.work(now);
    }

    fn publish(&self, channel: Arc<ChannelKey>, event: Event) -> BoxFuture<Result<(), PublishError>> {
        let mut inner = self.lock();
        let bytes = event.bytes() as u64;
        inner.counters.messages_out += 1;
        inner.counters.bytes_out += bytes;
        if let Some(id) = inner.topics.find(&channel) {
            inner.counters.messages_in += 1;
            inner.counters.bytes_in += bytes;
            inner.topics.broadcast(id, Broadcast::Event(event));
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn report(&self, _channel: Arc<ChannelKey>, _happening: Happening) {}

    fn status(&self) -> LinkStatus {
        LinkStatus::Up
    }
}

impl Cluster for Local {
    fn terminate(&self, _channel: Arc<ChannelKey>) -> BoxFuture<Result<(), PublishError>> {
        Box::pin(std::future::ready(Err(PublishError::Unavailable)))
    }

    fn counts(&self, _channels: Vec<Arc<ChannelKey>>) -> QueryAnswer<Vec<ChannelCounts>> {
        Box::pin(std::future::ready(Err(QueryError::Unavailable)))
    }

    fn occupied(&self, _app: Arc<str>, _name_prefix: String) -> QueryAnswer<Vec<(ChannelName, ChannelCounts)>> {
        Box::pin(std::future::ready(Err(QueryError::Unavailable)))
    }

    fn users(&self, _channel: Arc<ChannelKey>) -> QueryAnswer<Vec<Member>> {
        Box::pin(std::future::ready(Err(QueryError::Unavailable)))
    }

    fn cached(&self, _channel: Arc<ChannelKey>) -> QueryAnswer<Option<(Event, Duration)>> {
        Box::pin(std::future::ready(Err(QueryError::Unavailable)))
    }

    fn connections_elsewhere(&self, _app: &str) -> u64 {
        0
    }

    fn nodes(&self) -> usize {
        1
    }

    fn set_apps(&self, _apps: Vec<AppSettings>) {}

    fn take_jobs(&self, _app: Arc<str>, _max: usize) -> BoxFuture<Vec<Job>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    fn done(&self, _app: Arc<str>, _jobs: Vec<Box<str>>) {}

    fn channels(&self) -> Vec<((Arc<str>, &'static str), u64)> {
        self.lock().topics.heard().counts()
    }

    fn counters(&self) -> Counters {
        self.lock().counters
    }

    fn close(&self) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }
}
