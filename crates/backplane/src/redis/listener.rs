//! The one task that owns this node's topics.
//!
//! It takes what waits in the inbox, feeds the topic table, and sends what the table asks for: SUBSCRIBE and UNSUBSCRIBE on
//! the link, presence through the pool. Confirmations and messages come in one stream, so an admission stands exactly where
//! the topic was confirmed. It never waits for a worker, for Redis, or for a lock that is held across an `await`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::{Broadcast, Event, Reason};
use redis::{PushKind, Value};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::Tally;
use super::errands::{self, Errand, millis};
use super::handover::{Handover, Parts, Witness};
use super::inbox::{Call, Inbox, News, Push, Question, Told};
use super::keys::{Keys, NoTopic};
use super::link::{Link, Pulse};
use super::presence::{Census, Registration, Store};
use super::scripts::Scripts;
use super::settings::Settings;
use super::webhooks::Jobs;
use super::wire::{self, Dropped, Message};
use crate::roster::Operation;
use crate::topics::{Command, Heard, TopicId, Topics};
use crate::{Ask, Item, LinkStatus, Workers};

/// Pushes of one turn; then other tasks of the runtime have theirs. As many as the reader brings in one of its turns: with fewer, a
/// burst of messages waits here until the link is given up, though the thread has time (docs/decisions/013).
const TURN: usize = 8_192;
/// Presence pipelines under way: rosters may be large.
const PIPELINES_MAX: usize = 4;
/// One line a reason in this time.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// The link in use. Dropping it ends its tasks.
struct Live {
    generation: u64,
    subscriber: redis::aio::MultiplexedConnection,
    store: Arc<Store>,
    tasks: JoinSet<()>,
    pulse: Arc<watch::Sender<Pulse>>,
    late: bool,
    /// It took over before its own marker came: all before that was heard on the link before it.
    skips_to: Option<String>,
}

/// A name that is subscribed to, or asked for.
#[derive(Clone, Copy)]
struct Name {
    id: TopicId,
    /// Which of its topic's names it is, and of how many.
    number: u8,
    of: u8,
    /// Redis has confirmed it.
    heard: bool,
}

pub(super) struct Listener {
    settings: Arc<Settings>,
    keys: Arc<Keys>,
    inbox: Arc<Inbox>,
    tally: Arc<Tally>,
    workers: Arc<dyn Workers>,
    /// Up from when everything that is wanted is heard again, not from when Redis is reached.
    status: Arc<Mutex<LinkStatus>>,
    topics: Topics,
    /// Full topic names, as subscribed on this link.
    names: HashMap<Box<[u8]>, Name>,
    probe: String,
    live: Option<Live>,
    /// A link that is to take over from a late one. Until it is decided, nothing is sent.
    beside: Option<Handover>,
    scripts: Arc<Scripts>,
    registration: Arc<Mutex<Registration>>,
    census: Arc<Census>,
    jobs: Arc<Jobs>,
    /// Counts the registrations; replies to operations of an earlier one are dropped.
    session: u64,
    errands: VecDeque<Errand>,
    pipelines: usize,
    closing: Vec<oneshot::Sender<()>>,
    complaints: HashMap<&'static str, Instant>,
    pushes: VecDeque<Push>,
}

impl Listener {
    pub(super) fn new(
        settings: Arc<Settings>,
        keys: Arc<Keys>,
        inbox: Arc<Inbox>,
        tally: Arc<Tally>,
        workers: Arc<dyn Workers>,
        status: Arc<Mutex<LinkStatus>>,
    ) -> Self {
        Self {
            topics: Topics::new(workers.clone(), settings.linger),
            probe: keys.probe(),
            settings,
            keys,
            inbox,
            tally,
            workers,
            status,
            names: HashMap::new(),
            live: None,
            beside: None,
            scripts: Arc::new(Scripts::new()),
            registration: Arc::default(),
            census: Arc::default(),
            jobs: Arc::default(),
            session: 0,
            errands: VecDeque::new(),
            pipelines: 0,
            closing: Vec::new(),
            complaints: HashMap::new(),
            pushes: VecDeque::new(),
        }
    }

    pub(super) fn heard(&self) -> Arc<Heard> {
        self.topics.heard()
    }

    pub(super) fn census(&self) -> Arc<Census> {
        self.census.clone()
    }

    pub(super) fn jobs(&self) -> Arc<Jobs> {
        self.jobs.clone()
    }

    /// Never returns.
    pub(super) async fn run(mut self) {
        let (mut next_beat, mut worked_off) = (Instant::now(), 0);
        loop {
            let (news, calls) = self.inbox.take(&mut self.pushes, worked_off);
            let now = Instant::now();
            news.into_iter().for_each(|news| self.learn(now, news));
            calls.into_iter().for_each(|call| self.obey(now, call));
            worked_off = self.hear(now);
            self.topics.sweep(now);
            if now >= next_beat {
                self.topics.beat(now);
                self.retire();
                next_beat = now + self.settings.presence_heartbeat;
            }
            self.send();
            self.note_restored();
            if !self.pushes.is_empty() || worked_off > 0 {
                tokio::task::yield_now().await;
                continue;
            }
            let deadline = self.topics.deadline().map_or(next_beat, |deadline| deadline.min(next_beat));
            tokio::select! {
                () = self.inbox.wake.notified() => {}
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
        }
    }

    fn learn(&mut self, now: Instant, news: News) {
        let generation = self.live.as_ref().map(|live| live.generation);
        match news {
            News::Up(link) => {
                self.take_up(link, None);
                self.topics.link_up();
            }
            News::Late(late) => {
                self.live.iter_mut().for_each(|live| live.late = late);
                if late {
                    self.set_status(LinkStatus::Down { since: now });
                }
            }
            News::Beside(link, witness) => self.begin_handover(link, witness),
            News::Down => {
                let undecided = self.beside.take().map(Handover::into_held).unwrap_or_default();
                undecided.into_iter().rev().for_each(|push| self.pushes.push_front(push));
                (self.live, self.pipelines) = (None, 0);
                self.jobs.lead(Vec::new());
                self.names.clear();
                self.forget_errands();
                self.topics.link_down(now);
                self.set_status(LinkStatus::Down { since: now });
            }
            News::Refused { generation: of, ids, forbidden: false } if generation == Some(of) => {
                self.topics.postpone(ids);
            }
            News::Refused { generation: of, ids, .. } if generation == Some(of) => {
                if let [id] = ids[..] {
                    self.complain("a channel was refused by Redis (ACL); its subscriptions are too (it needs the rights to every prefix of the app)", id);
                    self.names(&ids).iter().for_each(|name| _ = self.names.remove(name.as_bytes()));
                }
                self.topics.refused(now, &ids);
            }
            News::Registered(of, renewal) if generation == Some(of) => {
                self.forget_errands();
                self.topics.store_up(now, Some(now + self.settings.hold()), renewal);
                self.live.iter().for_each(|live| live.store.note_told());
            }
            News::Fenced(of) if generation == Some(of) => {
                self.forget_errands();
                self.topics.store_down(now);
            }
            News::Answered(replies) => {
                for reply in replies.into_iter().filter(|reply| reply.session == self.session) {
                    match reply.answer {
                        Some(answer) => self.topics.answered(now, reply.id, reply.about, answer),
                        None => self.live.iter().for_each(|live| live.store.fenced.notify_one()),
                    }
                }
                self.pipelines = self.pipelines.saturating_sub(1);
            }
            News::Refused { .. } | News::Registered(..) | News::Fenced(_) => {}
        }
    }

    /// Subscribes on the new link to all that the late one hears, or would hear.
    fn begin_handover(&mut self, link: Link, witness: Witness) {
        let names = self.names.iter().map(|(text, name)| (text.clone(), name.id));
        let (leaving, asked): (Vec<_>, Vec<_>) = names.partition(|(_, id)| self.topics.is_leaving(*id));
        let leaving = leaving.into_iter().map(|(name, _)| name).collect();
        self.beside = Some(Handover::begin(link, witness, &self.probe, asked, leaving));
    }

    /// The late link brought the marker: from this very place on the new one is heard.
    fn hand_over(&mut self, now: Instant) {
        let Some(handover) = self.beside.take() else { return };
        let Parts { link, skips_to, asked, leaving, held, switch } = handover.end();
        self.forget_errands();
        self.pipelines = 0;
        self.jobs.lead(Vec::new());
        self.topics.store_down(now);
        self.take_up(link, skips_to);
        for name in leaving {
            self.unsubscribed(now, &name);
        }
        self.names.values_mut().for_each(|name| name.heard = true);
        asked.into_iter().for_each(|id| self.topics.confirmed(now, id));
        held.into_iter().rev().for_each(|push| self.pushes.push_front(push));
        switch.done();
    }

    fn take_up(&mut self, link: Link, skips_to: Option<String>) {
        let store = Arc::new(Store {
            settings: self.settings.clone(),
            keys: self.keys.clone(),
            scripts: self.scripts.clone(),
            registration: self.registration.clone(),
            pool: link.pool.clone(),
            tally: self.tally.clone(),
            workers: self.workers.clone(),
            census: self.census.clone(),
            jobs: self.jobs.clone(),
            pulse: link.pulse.clone(),
            fenced: tokio::sync::Notify::new(),
            complained: Mutex::default(),
            questions: tokio::sync::Semaphore::new((self.settings.pool_size / 2).max(1)),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(store.clone().keep(link.generation, self.inbox.clone()));
        tasks.spawn(store.clone().send_reports());
        tasks.spawn(store.clone().read_jobs());
        tasks.spawn(store.clone().send_done());
        let Link { generation, subscriber, pulse, .. } = link;
        self.live = Some(Live { generation, subscriber, store, tasks, pulse, late: false, skips_to });
    }

    /// A worker that sees `Up` admits by itself, so it must not see it before the topics are heard again.
    fn note_restored(&self) {
        if self.live.as_ref().is_some_and(|live| !live.late) && self.topics.is_restored() {
            self.set_status(LinkStatus::Up);
        }
    }

    fn set_status(&self, status: LinkStatus) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    fn retire(&mut self) {
        let Some(live) = &mut self.live else { return };
        if live.store.has_replaced() && self.topics.is_registered() {
            live.tasks.spawn(live.store.clone().retire());
        }
    }

    /// What a question needs to know from here; the asker goes on by himself.
    fn tell(&self, question: Question) -> Told {
        let store = self.live.as_ref()?.store.clone();
        let channels = match question {
            Question::Channels(channels) => {
                let own = |channel: Arc<model::ChannelKey>| {
                    let own = self.topics.live(&channel);
                    (channel, own)
                };
                channels.into_iter().map(own).collect()
            }
            Question::OutOfStep(app) => self.topics.out_of_step(&app),
            Question::Nothing => Vec::new(),
        };
        Some((store, channels))
    }

    fn forget_errands(&mut self) {
        self.session += 1;
        self.errands.clear();
    }

    fn obey(&mut self, now: Instant, call: Call) {
        match call {
            Call::Ask(worker, ask) => match self.keys.topics(&ask.channel) {
                Ok(_) => self.topics.ask(now, worker, ask),
                Err(NoTopic::Reserved) => refuse(&*self.workers, worker, ask, Reason::BadChannel),
                Err(NoTopic::UnknownApp) => refuse(&*self.workers, worker, ask, Reason::Unavailable),
            },
            Call::Leave(worker, channel) => self.topics.leave(now, worker, &channel),
            Call::Exit(channel, user) => self.topics.exit(now, &channel, &user),
            Call::Query(question, answer) => _ = answer.send(self.tell(question)),
            Call::Close(closed) => {
                self.topics.end_graces(now);
                self.closing.push(closed);
            }
        }
    }

    /// Works off a turn of pushes; returns their bytes.
    fn hear(&mut self, now: Instant) -> usize {
        let mut bytes = 0;
        for _ in 0..TURN {
            let Some(push) = self.pushes.pop_front() else { break };
            let is_of = |generation: Option<u64>| generation == Some(push.generation);
            if is_of(self.live.as_ref().map(|live| live.generation)) {
                bytes += push.bytes;
                self.hear_one(now, push);
            } else if let Some(handover) = self.beside.as_mut().filter(|handover| is_of(Some(handover.generation()))) {
                bytes += handover.hear(push, &self.probe);
            } else {
                bytes += push.bytes;
            }
        }
        bytes
    }

    fn hear_one(&mut self, now: Instant, push: Push) {
        let mut data = push.info.data.into_iter();
        let mut bytes = || match data.next() {
            Some(Value::BulkString(bytes)) => bytes,
            _ => Vec::new(),
        };
        match push.info.kind {
            PushKind::Message => {
                let (name, payload) = (bytes(), bytes());
                if name == self.probe.as_bytes() {
                    self.probed(now, &payload);
                } else if self.live.as_ref().is_some_and(|live| live.skips_to.is_none())
                    && let Some(&name) = self.names.get(&*name)
                {
                    self.message(now, name, &payload);
                }
            }
            PushKind::Subscribe => {
                let name = bytes();
                self.subscribed(now, &name);
            }
            PushKind::Unsubscribe => {
                let name = bytes();
                self.unsubscribed(now, &name);
            }
            // Told here and not at once, so that all that came before it is worked off first.
            PushKind::Disconnection => {
                self.live.iter().for_each(|live| Pulse::lose(&live.pulse, "the connection was closed"));
            }
            _ => {}
        }
    }

    /// A topic is heard when all of its names are.
    fn subscribed(&mut self, now: Instant, name: &[u8]) {
        let Some(name) = self.names.get_mut(name) else { return };
        name.heard = true;
        let Name { id, of, .. } = *name;
        let is_heard = |name: &String| self.names.get(name.as_bytes()).is_some_and(|name| name.heard);
        if of == 1 || self.names_of(id).iter().all(is_heard) {
            self.topics.confirmed(now, id);
        }
    }

    /// A topic is left when the last of its names is.
    fn unsubscribed(&mut self, now: Instant, name: &[u8]) {
        let Some(Name { id, of, .. }) = self.names.remove(name) else { return };
        if of == 1 || !self.names_of(id).iter().any(|name| self.names.contains_key(name.as_bytes())) {
            self.topics.unsubscribed(now, id);
        }
    }

    /// The probe's topic brings probes, and the marker of a handover.
    fn probed(&mut self, now: Instant, payload: &[u8]) {
        if self.beside.as_ref().is_some_and(|handover| handover.is_marked_by(payload)) {
            return self.hand_over(now);
        }
        let Some(live) = &mut self.live else { return };
        live.skips_to.take_if(|marker| marker.as_bytes() == payload);
        Pulse::beat(&live.pulse, live.generation, payload);
    }

    fn message(&mut self, now: Instant, name: Name, payload: &[u8]) {
        let id = name.id;
        Tally::add(&self.tally.messages_in, 1);
        Tally::add(&self.tally.bytes_in, payload.len() as u64);
        if !self.topics.is_wanted(id) {
            return;
        }
        match wire::decode(payload, self.settings.max_payload) {
            Ok(Message::Event(event)) => {
                if name.of > 1 {
                    self.note_spelling(name, &event);
                }
                self.topics.event(now, id, event);
            }
            Ok(Message::Count(n)) => self.topics.broadcast(id, Broadcast::Count(n)),
            Ok(Message::Terminate) => self.topics.broadcast(id, Broadcast::Terminate),
            Ok(Message::Roster(version, change)) => self.topics.roster_message(now, id, version, change),
            Ok(Message::Unknown) => Tally::add(&self.tally.unknown_internal, 1),
            Err(Dropped::TooLarge) => {
                Tally::add(&self.tally.dropped_too_large, 1);
                self.complain("a message was dropped: larger than redis.max_payload", id);
            }
            Err(Dropped::Malformed(why)) => {
                Tally::add(&self.tally.dropped_malformed, 1);
                self.complain(why, id);
            }
        }
    }

    /// An app of several prefixes: the operator is told which of them are in use.
    fn note_spelling(&self, name: Name, event: &Event) {
        // What nodes publish goes the way of the first, or of what came from elsewhere: it tells nothing.
        if event.position.is_some() || event.name.starts_with("client-") {
            return;
        }
        let Some(app) = self.topics.channel(name.id).map(|channel| &channel.app) else { return };
        let Some(prefix) = self.keys.note_spelling(app, name.number.into()) else { return };
        match name.number {
            // Nodes publish with it too, for whoever asks them by HTTP.
            0 => info!(
                %app,
                "events come with the prefix {prefix}; if they are Laravel's, set REDIS_PREFIX={prefix} in its .env, and \
                 each channel takes one subscription"
            ),
            _ => info!(
                %app,
                "Laravel publishes with the prefix {prefix}; set REDIS_PREFIX={prefix} in its .env, and each channel takes \
                 one subscription"
            ),
        }
    }

    /// One line a minute and reason.
    fn complain(&mut self, reason: &'static str, id: TopicId) {
        let now = Instant::now();
        if self.complaints.get(reason).is_some_and(|last| now - *last < COMPLAIN_EVERY) {
            return;
        }
        self.complaints.insert(reason, now);
        let channel = self.topics.channel(id).map_or("", |channel| channel.name.as_str());
        warn!(%channel, "on the way from Redis: {reason} (more of these are counted and not logged for a minute)");
    }

    /// Sends what the topics ask for since the last turn. Between two links it waits for the one that stays.
    fn send(&mut self) {
        if self.beside.is_some() {
            return;
        }
        for command in self.topics.take_commands() {
            match command {
                Command::Subscribe(ids) => self.subscribe(ids),
                Command::Unsubscribe(ids) => self.unsubscribe(ids),
                Command::Store(id, operation) => {
                    let Some(channel) = self.topics.channel(id) else { continue };
                    // Of an app that is gone only the end is told, which needs no topic.
                    let topic = self.keys.topic(channel).map_or_else(|_| String::new(), |topic| topic.as_str().into());
                    let kept_for = match operation {
                        Operation::Missed => self.keys.cache_ttl(&channel.app),
                        _ => self.keys.depth(channel).map_or(0, |depth| millis(depth.ttl)),
                    };
                    let (channel, wants) = (Keys::channel(channel), self.keys.wants(channel));
                    self.errands.push_back(Errand { id, channel, topic, wants, kept_for, operation });
                }
            }
        }
        self.send_errands();
        if !self.closing.is_empty() && !self.topics.has_exits() {
            self.closing.drain(..).for_each(|closed| _ = closed.send(()));
        }
    }

    /// The full names of topics. All that come here passed `keys.topics` when they were asked for.
    fn names(&self, ids: &[TopicId]) -> Vec<String> {
        ids.iter().flat_map(|id| self.names_of(*id)).collect()
    }

    fn names_of(&self, id: TopicId) -> Vec<String> {
        let topics = self.topics.channel(id).and_then(|channel| self.keys.topics(channel).ok()).unwrap_or_default();
        topics.iter().map(|topic| topic.as_str().to_owned()).collect()
    }

    fn subscribe(&mut self, ids: Vec<TopicId>) {
        let mut names = Vec::with_capacity(ids.len());
        for &id in &ids {
            let of = self.names_of(id);
            for (number, name) in of.iter().enumerate() {
                let kept = Name { id, number: number as u8, of: of.len() as u8, heard: false };
                self.names.insert(name.as_bytes().into(), kept);
            }
            names.extend(of);
        }
        let Some(live) = &mut self.live else { return };
        let (mut subscriber, inbox, generation) = (live.subscriber.clone(), self.inbox.clone(), live.generation);
        live.tasks.spawn(async move {
            // Without a time-out: only a confirmation, an error, or the end of the link says anything.
            if let Err(error) = subscriber.subscribe(&names).await
                && let Some(code) = error.code()
            {
                let forbidden = code == "NOPERM";
                if !forbidden {
                    warn!(%error, "Redis answered SUBSCRIBE with an error; asking again");
                }
                inbox.tell(News::Refused { generation, ids, forbidden });
            }
        });
    }

    fn unsubscribe(&mut self, ids: Vec<TopicId>) {
        let names = self.names(&ids);
        let Some(live) = &mut self.live else { return };
        let mut subscriber = live.subscriber.clone();
        live.tasks.spawn(async move {
            if let Err(error) = subscriber.unsubscribe(&names).await
                && error.code().is_some()
            {
                error!(%error, "Redis refused UNSUBSCRIBE; check the user's rights");
            }
        });
    }

    fn send_errands(&mut self) {
        let Some(live) = &mut self.live else { return };
        while live.tasks.try_join_next().is_some() {}
        while self.pipelines < PIPELINES_MAX && !self.errands.is_empty() {
            let errands = errands::take(&mut self.errands);
            let (store, inbox, session) = (live.store.clone(), self.inbox.clone(), self.session);
            // The name of now, not of when the task is first run: by then there may be another.
            let inc = store.incarnation();
            self.pipelines += 1;
            live.tasks.spawn(async move {
                let replies = store.run(session, &inc, errands).await;
                inbox.tell(News::Answered(replies));
            });
        }
    }
}

fn refuse(workers: &dyn Workers, worker: usize, ask: Ask, reason: Reason) {
    let Ask { channel, subscription, .. } = ask;
    workers.push(worker, Item::Refuse { channel, subscription, refusal: reason.into() });
}
