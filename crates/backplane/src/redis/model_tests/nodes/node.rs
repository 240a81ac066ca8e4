//! One node of the simulation: its topic table and registration are the real ones; the link, the pool and the workers are
//! played.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use model::{Broadcast, Member, Roster, UserId};
use tokio::sync::{Notify, Semaphore};

use super::{CHANNELS, STALE_MS, USERS, World};
use crate::redis::errands::{Errand, Reply, array, millis, number};
use crate::redis::keys::{Keys, encoded};
use crate::redis::presence::{Beat, Store};
use crate::redis::wire::{self, Message};
use crate::roster::Renewal;
use crate::topics::{Answer, Command, TopicId, Topics};
use crate::{Ask, AskMember, Item, SubscriptionRef, Workers};

/// Pipelines under way, as the listener has them.
const PIPELINES_MAX: usize = 4;
const WORKERS: usize = 2;
/// An errand without an answer for so long has failed.
const PATIENCE_MS: i64 = 4_000;
/// So long a half-open link passes for one.
const NOTICED_MS: i64 = 5_000;

pub(super) enum Fate {
    Well,
    RequestLost,
    AnswerLost,
}

/// What the workers were pushed and have not looked at.
#[derive(Default)]
struct Pushed(Mutex<Vec<(usize, Item)>>);

impl Workers for Pushed {
    fn count(&self) -> usize {
        WORKERS
    }

    fn push(&self, worker: usize, item: Item) {
        self.0.lock().unwrap().push((worker, item));
    }

    fn connections(&self) -> HashMap<Arc<str>, u64> {
        HashMap::new()
    }
}

/// One subscription of a client.
struct Socket {
    channel: usize,
    user: &'static str,
    worker: usize,
    slot: u32,
    /// Who is there, as this client was told, and since when; `None`: not let in yet.
    shown: Option<BTreeMap<UserId, i64>>,
}

enum Push {
    Subscribed(String),
    Unsubscribed(String),
    Message(String, Vec<u8>),
}

struct Pipeline {
    sent: i64,
    session: u64,
    incarnation: String,
    errands: Vec<Errand>,
    /// The node has given it up; it may still happen.
    stale: bool,
}

pub(super) struct Node {
    store: Arc<Store>,
    topics: Topics,
    workers: Arc<Pushed>,
    sockets: Vec<Socket>,
    slots: u32,
    /// Who asked, by slot.
    users: HashMap<u32, &'static str>,
    /// Channels whose `leave` a worker owes.
    listed: HashSet<(usize, usize)>,
    counts: HashMap<usize, Arc<std::sync::atomic::AtomicU32>>,
    pub(super) frozen: bool,
    /// Since when nothing comes through.
    cut: Option<i64>,
    link: bool,
    registered: bool,
    /// The server took the incarnation's HELLO, as far as it knows.
    known: bool,
    session: u64,
    next_beat: i64,
    /// When Redis took its last beat.
    beaten: i64,
    names: HashMap<String, TopicId>,
    /// What Redis sends it.
    subscribed: HashSet<String>,
    pushes: VecDeque<Push>,
    to_subscribe: VecDeque<(bool, Vec<String>)>,
    errands: VecDeque<Errand>,
    pipelines: Vec<Pipeline>,
    replies: Vec<Vec<Reply>>,
    fenced: bool,
    reaping: Vec<(i64, String)>,
}

impl Node {
    pub(super) fn new(name: &str, world: &World) -> Self {
        let workers = Arc::<Pushed>::default();
        let store = Store {
            settings: world.settings.clone(),
            keys: Arc::new(Keys::new(&world.settings, name)),
            scripts: world.scripts.clone(),
            registration: Arc::default(),
            pool: world.pool.clone(),
            tally: Arc::default(),
            workers: workers.clone(),
            census: Arc::default(),
            jobs: Arc::default(),
            pulse: Arc::default(),
            fenced: Notify::new(),
            complained: Mutex::default(),
            questions: Semaphore::new(1),
        };
        let mut topics = Topics::new(workers.clone(), world.settings.linger);
        topics.link_up();
        Self {
            store: Arc::new(store),
            topics,
            workers,
            sockets: Vec::new(),
            slots: 0,
            users: HashMap::new(),
            listed: HashSet::new(),
            counts: HashMap::new(),
            frozen: false,
            cut: None,
            link: true,
            registered: false,
            known: false,
            session: 0,
            next_beat: world.ms,
            beaten: world.ms,
            names: HashMap::new(),
            subscribed: HashSet::new(),
            pushes: VecDeque::new(),
            to_subscribe: VecDeque::new(),
            errands: VecDeque::new(),
            pipelines: Vec::new(),
            replies: Vec::new(),
            fenced: false,
            reaping: Vec::new(),
        }
    }

    pub(super) fn incarnation(&self) -> String {
        self.store.incarnation()
    }

    // What the test asks.

    /// Redis cannot take it for dead.
    pub(super) fn lives(&self, world: &World) -> bool {
        self.registered && world.ms - self.beaten <= millis(world.settings.presence_dead_after) as i64
    }

    pub(super) fn has(&self, channel: usize, user: &str) -> bool {
        self.sockets.iter().any(|s| s.channel == channel && s.user == user && s.shown.is_some())
    }

    pub(super) fn sockets(&self, channel: usize) -> usize {
        self.sockets.iter().filter(|socket| socket.channel == channel).count()
    }

    /// In the end: all are let in, and were told of all who are there.
    pub(super) fn check(&self, channel: usize, truth: &BTreeSet<&str>) {
        let name = self.incarnation();
        for Socket { user, shown, .. } in self.sockets.iter().filter(|socket| socket.channel == channel) {
            let shown = shown.as_ref().unwrap_or_else(|| panic!("{name}: {user} waits for {}", CHANNELS[channel]));
            if CHANNELS[channel].starts_with("presence-") {
                let shown: BTreeSet<_> = shown.keys().map(|user| &**user).collect();
                assert_eq!(shown, *truth, "{name}: what {user} was told of {}", CHANNELS[channel]);
            }
        }
    }

    // What clients do.

    pub(super) fn open(&mut self, world: &World, channel: usize, user: &'static str) {
        self.slots += 1;
        let (slot, worker) = (self.slots, self.slots as usize % WORKERS);
        let presence = CHANNELS[channel].starts_with("presence-");
        // Half of the users have a grace: a page that reloads was never away.
        let grace = if user < USERS[2] { std::time::Duration::ZERO } else { std::time::Duration::from_millis(700) };
        let member = Member { id: user.into(), info: None };
        let ask = Ask {
            channel: world.channels[channel].clone(),
            subscription: SubscriptionRef { slot, generation: 0 },
            member: presence.then(|| AskMember { member, members_max: 100, grace }),
            roster: presence,
            log: None,
        };
        // A frozen process takes nobody.
        if !self.frozen {
            self.users.insert(slot, user);
            self.sockets.push(Socket { channel, user, worker, slot, shown: None });
            self.topics.ask(world.now(), worker, ask);
        }
    }

    pub(super) fn close_one(&mut self, world: &mut World) {
        if self.sockets.is_empty() || self.frozen {
            return;
        }
        let place = world.dice.roll(self.sockets.len() as u64) as usize;
        let Socket { channel, user, worker, shown, .. } = self.sockets.swap_remove(place);
        let key = world.channels[channel].clone();
        if shown.is_some() {
            self.counts[&channel].fetch_sub(1, Relaxed);
            if CHANNELS[channel].starts_with("presence-") {
                self.topics.exit(world.now(), &key, &user.into());
            }
        }
        self.leave_if_empty(world, channel, worker);
    }

    fn leave_if_empty(&mut self, world: &World, channel: usize, worker: usize) {
        let empty = !self.sockets.iter().any(|socket| socket.channel == channel && socket.worker == worker);
        if empty && self.listed.remove(&(channel, worker)) {
            self.topics.leave(world.now(), worker, &world.channels[channel]);
        }
    }

    // What befalls it.

    /// From now on nothing comes through, and nobody says so.
    pub(super) fn cut(&mut self, world: &World) {
        self.cut.get_or_insert(world.ms);
    }

    pub(super) fn heal(&mut self, world: &World) {
        // What was on the way comes now, unless the link was given up meanwhile.
        if self.cut.take().is_some() && !self.link {
            self.come_up(world);
        }
    }

    /// The link is closed and made anew at once. Some of what was on the way had come.
    pub(super) fn reset(&mut self, world: &World) {
        if self.link && self.cut.is_none() && !self.frozen {
            self.go_down(world);
            self.come_up(world);
        }
    }

    /// The end of all trouble.
    pub(super) fn mend(&mut self, world: &World) {
        self.frozen = false;
        self.heal(world);
    }

    fn go_down(&mut self, world: &World) {
        (self.link, self.registered) = (false, false);
        self.names.clear();
        self.subscribed.clear();
        self.pushes.clear();
        self.to_subscribe.clear();
        self.reaping.clear();
        self.forget_errands();
        self.pipelines.iter_mut().for_each(|pipeline| pipeline.stale = true);
        self.topics.link_down(world.now());
    }

    fn come_up(&mut self, world: &World) {
        self.link = true;
        self.next_beat = world.ms;
        self.topics.link_up();
    }

    fn forget_errands(&mut self) {
        self.session += 1;
        self.errands.clear();
        self.replies.clear();
        self.fenced = false;
    }

    /// Redis published something.
    pub(super) fn publish(&mut self, topic: &str, payload: &[u8]) {
        if self.subscribed.contains(topic) {
            self.pushes.push_back(Push::Message(topic.to_owned(), payload.to_vec()));
        }
    }

    // What it does.

    /// One turn of the listener and of the beat. `hurry`: all that is under way comes.
    pub(super) async fn turn(&mut self, world: &mut World, hurry: bool) {
        if self.frozen {
            return;
        }
        if self.cut.is_some_and(|since| self.link && world.ms - since > NOTICED_MS) {
            self.go_down(world);
        }
        for _ in 0..if hurry { 4 } else { 1 } {
            self.execute(world, hurry).await;
            if self.link && self.cut.is_none() {
                self.hear(world, hurry);
            }
            self.hear_replies(world, hurry);
            self.topics.sweep(world.now());
            if self.link && (self.fenced || world.ms >= self.next_beat) {
                self.beat(world).await;
            }
            self.reap(world).await;
            self.send(world);
            self.work(world);
        }
    }

    /// What is on the way to Redis arrives, or some of it.
    async fn execute(&mut self, world: &mut World, hurry: bool) {
        while self.cut.is_none() && self.link && !self.to_subscribe.is_empty() && (hurry || world.dice.one_in(2)) {
            let Some((subscribe, names)) = self.to_subscribe.pop_front() else { break };
            for name in names {
                if subscribe {
                    self.subscribed.insert(name.clone());
                    self.pushes.push_back(Push::Subscribed(name));
                } else {
                    self.subscribed.remove(&name);
                    self.pushes.push_back(Push::Unsubscribed(name));
                }
            }
        }
        let mut place = 0;
        while place < self.pipelines.len() {
            let pipeline = &mut self.pipelines[place];
            if !pipeline.stale && world.ms - pipeline.sent > PATIENCE_MS {
                pipeline.stale = true;
                let failed = fail(pipeline.session, &pipeline.errands);
                self.replies.push(failed);
            }
            // What was given up comes before what is sent later, unless the history is of those in which it is overtaken.
            let first = self.pipelines[place].stale && !world.overtaking;
            if self.cut.is_some() || !(first || hurry || world.dice.one_in(2)) {
                place += 1;
                continue;
            }
            let Pipeline { session, incarnation, errands, stale, .. } = self.pipelines.remove(place);
            if incarnation != self.incarnation() {
                // Sent under a name that Redis does not take any more, and nobody waits for the answer.
                continue;
            }
            let failed = fail(session, &errands);
            let replies = match world.fate() {
                Fate::RequestLost => failed,
                Fate::AnswerLost => {
                    self.store.run(session, &incarnation, errands).await;
                    failed
                }
                Fate::Well => self.store.run(session, &incarnation, errands).await,
            };
            if !stale {
                self.replies.push(replies);
            }
        }
    }

    fn hear(&mut self, world: &mut World, hurry: bool) {
        let now = world.now();
        while !self.pushes.is_empty() && (hurry || !world.dice.one_in(4)) {
            match self.pushes.pop_front() {
                Some(Push::Subscribed(name)) => {
                    if let Some(&id) = self.names.get(&name) {
                        self.topics.confirmed(now, id);
                    }
                }
                Some(Push::Unsubscribed(name)) => {
                    if let Some(id) = self.names.remove(&name) {
                        self.topics.unsubscribed(now, id);
                    }
                }
                Some(Push::Message(name, payload)) => {
                    let Some(&id) = self.names.get(&name) else { continue };
                    match wire::decode(&payload, world.settings.max_payload) {
                        Ok(Message::Roster(version, change)) => self.topics.roster_message(now, id, version, change),
                        Ok(Message::Count(n)) => self.topics.broadcast(id, Broadcast::Count(n)),
                        other => panic!("{other:?}"),
                    }
                }
                None => {}
            }
            self.work(world);
        }
    }

    fn hear_replies(&mut self, world: &mut World, hurry: bool) {
        while !self.replies.is_empty() && (hurry || world.dice.one_in(2)) {
            let place = world.dice.roll(self.replies.len() as u64) as usize;
            for Reply { session, id, about, answer } in self.replies.remove(place) {
                if session != self.session {
                    continue;
                }
                match answer {
                    Some(answer) => self.topics.answered(world.now(), id, about, answer),
                    None => self.fenced = true,
                }
                self.work(world);
            }
        }
    }

    /// As `Store::keep` and the listener's own beat do it.
    async fn beat(&mut self, world: &mut World) {
        let now = world.now();
        if world.ms >= self.next_beat {
            self.next_beat = world.ms + millis(world.settings.presence_heartbeat) as i64;
            self.topics.beat(now);
            if self.store.has_replaced() && self.topics.is_registered() && self.cut.is_none() {
                self.store.clone().retire().await;
            }
        }
        if self.cut.is_some() {
            return;
        }
        if self.registered {
            match if self.fenced { Beat::Fenced } else { self.one_beat(world).await } {
                Beat::Lives { dead, .. } => {
                    for dead in dead {
                        if !self.reaping.iter().any(|(_, other)| *other == dead) {
                            self.reaping.push((world.ms + world.dice.roll(500) as i64, dead));
                        }
                    }
                }
                Beat::Fenced => {
                    self.forget_errands();
                    self.topics.store_down(now);
                    self.store.renew();
                    (self.registered, self.known) = (false, false);
                }
                Beat::Failed => {}
            }
        }
        if !self.registered
            && let Some(renewal) = self.hello(world).await
        {
            (self.registered, self.known) = (true, true);
            self.beaten = world.ms;
            self.forget_errands();
            let hold = now + world.settings.hold();
            self.topics.store_up(now, Some(hold), renewal);
            self.store.note_told();
        }
    }

    async fn one_beat(&mut self, world: &mut World) -> Beat {
        match world.fate() {
            Fate::RequestLost => Beat::Failed,
            Fate::AnswerLost => {
                if matches!(self.store.beat().await, Beat::Lives { .. }) {
                    self.beaten = world.ms;
                }
                Beat::Failed
            }
            Fate::Well => {
                let beat = self.store.beat().await;
                if matches!(beat, Beat::Lives { .. }) {
                    self.beaten = world.ms;
                }
                beat
            }
        }
    }

    async fn hello(&mut self, world: &mut World) -> Option<Renewal> {
        match world.fate() {
            Fate::Well => self.store.hello().await,
            Fate::RequestLost => None,
            Fate::AnswerLost => {
                let known = if self.known { &*world.run } else { "" };
                let mut hello = self.store.invocation(&self.store.scripts.hello);
                hello.arg(self.incarnation()).arg(format!("{:016x}", world.dice.roll(u64::MAX))).arg(known);
                hello.arg(millis(world.settings.quiet()));
                let _: redis::Value = hello.invoke_async(&mut world.connection).await.unwrap();
                None
            }
        }
    }

    /// As `Store::reap` does, without its waiting: that is in the time at which this comes.
    async fn reap(&mut self, world: &mut World) {
        if self.cut.is_some() || !self.link {
            return;
        }
        let ms = world.ms;
        let (due, later) = std::mem::take(&mut self.reaping).into_iter().partition(|(at, _)| *at <= ms);
        self.reaping = later;
        let due: Vec<(i64, String)> = due;
        for (_, dead) in due {
            let mut calls = 0;
            loop {
                calls += 1;
                assert!(calls < 1_000, "{dead} is never reaped to its end");
                let mut reap = self.store.invocation(&self.store.scripts.reap);
                reap.arg(&dead).arg(millis(world.settings.presence_dead_after)).arg(2);
                reap.arg(millis(world.settings.webhook_delay));
                for (app, wants, _) in self.store.keys.wants_of_apps() {
                    reap.arg(encoded(&app)).arg(wants);
                }
                let answer: redis::Value = reap.invoke_async(&mut world.connection).await.unwrap();
                if array(answer).first().and_then(number).unwrap_or(0) == 0 || world.fate_is_bad() {
                    break;
                }
            }
        }
    }

    /// What the topics ask for since the last turn.
    fn send(&mut self, world: &World) {
        for command in self.topics.take_commands() {
            match command {
                Command::Subscribe(ids) => {
                    let names = self.names_of(&ids);
                    names.iter().zip(&ids).for_each(|(name, id)| _ = self.names.insert(name.clone(), *id));
                    self.to_subscribe.push_back((true, names));
                }
                Command::Unsubscribe(ids) => {
                    let names = self.names_of(&ids);
                    self.to_subscribe.push_back((false, names));
                }
                Command::Store(id, operation) => {
                    let Some(channel) = self.topics.channel(id) else { continue };
                    let topic = self.store.keys.topic(channel).unwrap();
                    let (channel, wants) = (Keys::channel(channel), self.store.keys.wants(channel));
                    self.errands.push_back(Errand {
                        id,
                        channel,
                        topic: topic.as_str().into(),
                        wants,
                        kept_for: 0,
                        operation,
                    });
                }
            }
        }
        let under_way = self.pipelines.iter().filter(|pipeline| !pipeline.stale).count();
        if !self.errands.is_empty() && under_way < PIPELINES_MAX {
            let errands = self.errands.drain(..).collect();
            let (session, incarnation) = (self.session, self.incarnation());
            self.pipelines.push(Pipeline { sent: world.ms, session, incarnation, errands, stale: false });
        }
    }

    fn names_of(&self, ids: &[TopicId]) -> Vec<String> {
        let channels = ids.iter().filter_map(|id| self.topics.channel(*id));
        channels.map(|channel| self.store.keys.topic(channel).unwrap().as_str().to_owned()).collect()
    }

    /// The workers look at what they were pushed.
    fn work(&mut self, world: &mut World) {
        loop {
            let items = std::mem::take(&mut *self.workers.0.lock().unwrap());
            if items.is_empty() {
                return;
            }
            for (worker, item) in items {
                match item {
                    Item::Deliver(delivery) => self.show(world, worker, &delivery.channel, &delivery.broadcast),
                    Item::Admit { channel, subscription, roster, count, .. } => {
                        let place = world.channels.iter().position(|key| *key == channel).unwrap();
                        self.counts.insert(place, count.clone());
                        self.admit(world, worker, place, subscription.slot, roster);
                    }
                    Item::Refuse { refusal, .. } => panic!("nobody is to be refused: {refusal:?}"),
                    Item::LinkGap => {}
                }
            }
        }
    }

    fn admit(&mut self, world: &mut World, worker: usize, channel: usize, slot: u32, roster: Option<Arc<Roster>>) {
        self.listed.insert((channel, worker));
        let ms = world.ms;
        if let Some(socket) = self.sockets.iter_mut().find(|socket| socket.slot == slot) {
            let users = roster.iter().flat_map(|roster| roster.0.keys().cloned());
            let shown: BTreeMap<_, _> = users.map(|user| (user, ms)).collect();
            let presence = CHANNELS[channel].starts_with("presence-");
            assert!(!presence || shown.contains_key(&UserId::from(socket.user)), "he is not in his own roster");
            assert!(socket.shown.replace(shown).is_none(), "let in twice");
            self.counts[&channel].fetch_add(1, Relaxed);
        } else {
            // He left before he was let in.
            if CHANNELS[channel].starts_with("presence-") {
                self.topics.exit(world.now(), &world.channels[channel], &self.users[&slot].into());
            }
        }
        self.leave_if_empty(world, channel, worker);
    }

    /// Members come and go once each, and nobody goes who was there all the time.
    fn show(&mut self, world: &mut World, worker: usize, key: &model::ChannelKey, broadcast: &Broadcast) {
        let channel = world.channels.iter().position(|channel| **channel == *key).unwrap();
        let (name, ms) = (self.incarnation(), world.ms);
        for socket in self.sockets.iter_mut().filter(|s| s.channel == channel && s.worker == worker) {
            let Some(shown) = &mut socket.shown else { continue };
            match broadcast {
                Broadcast::Joined(member) => {
                    assert!(shown.insert(member.id.clone(), ms).is_none(), "{name}: {} joined twice", member.id);
                    world.shown += 1;
                }
                Broadcast::Left(Member { id: user, .. }) => {
                    let since = shown.remove(user).unwrap_or_else(|| panic!("{name}: {user} left twice"));
                    let known = USERS.into_iter().find(|known| **known == **user).unwrap();
                    let absent = world.absent.get(&(channel, known)).copied();
                    let ever = absent.is_some_and(|at| at >= since - STALE_MS);
                    assert!(
                        ever,
                        "{name}: {user} left {channel} at {ms}, is shown since {since}, was gone at {absent:?}"
                    );
                    world.shown += 1;
                }
                _ => {}
            }
        }
    }
}

fn fail(session: u64, errands: &[Errand]) -> Vec<Reply> {
    let reply = |errand: &Errand| Reply {
        session,
        id: errand.id,
        about: errand.operation.about(),
        answer: Some(Answer::Failed),
    };
    errands.iter().map(reply).collect()
}
