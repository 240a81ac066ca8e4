//! Which channels this node listens to, for whom, and who waits for a yes.
//!
//! A pure state machine: time is an argument, nothing here does I/O or awaits. The drivers (`local` under one lock, `redis`
//! in its listener) feed it what workers ask and what the backplane says, carry out the commands that it leaves behind, and
//! it pushes items to the workers at that very point of the stream. At most one command is in flight a topic; only
//! confirmations move a topic, never a time-out.
//!
//! Invariant: a worker gets a channel's messages if and only if its bit is set, and the bit is set where an `Admit` is queued.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Broadcast, ChannelKey, Delivery, Reason, UserId};

use crate::roster::{About, Change, Operation, Snapshot, Version};
use crate::{Ask, Cached, Item, Workers};
use log::{Log, Reading};
use occupancy::Occupancy;
pub(crate) use topic::Heard;
use topic::{State, Topic, Waiting};

pub(crate) mod cache;
mod histories;
mod linked;
pub(crate) mod log;
mod occupancy;
#[cfg(test)]
mod tests;
mod topic;

/// Names in one command.
const NAMES_MAX: usize = 1_000;

/// How often forbidden names are tried again: rights change by hand.
const RETRY_REFUSED: Duration = Duration::from_secs(10);

/// A topic's place in the table; the generation tells a place's later tenant from its earlier one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct TopicId {
    slot: u32,
    generation: u32,
}

/// What the driver is to send.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Command {
    Subscribe(Vec<TopicId>),
    Unsubscribe(Vec<TopicId>),
    /// For the store.
    Store(TopicId, Operation),
}

/// What became of an [`Operation`].
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Answer {
    /// `added` when it was the user's first in the cluster. The roster where the mirror needed it.
    Entered {
        version: Version,
        added: bool,
        snapshot: Option<Snapshot>,
    },
    /// The channel has as many members as it may.
    Full,
    Exited,
    Roster(Snapshot),
    /// `later`: the subscribers are to be told of the sum by a further call.
    Counted {
        later: bool,
    },
    Read(Reading),
    Noted,
    /// No answer, or an error: it may have happened.
    Failed,
}

/// Of whom the store is to be told.
enum Who<'a> {
    Nobody,
    User(&'a UserId),
    All,
}

#[derive(Default, Debug)]
struct Slot {
    generation: u32,
    topic: Option<Topic>,
}

pub(crate) struct Topics {
    workers: Arc<dyn Workers>,
    heard: Arc<Heard>,
    linger: Duration,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_channel: HashMap<Arc<ChannelKey>, TopicId>,
    /// In the order of their deadlines. An entry whose topic was released meanwhile is passed over.
    lingering: VecDeque<(Instant, TopicId)>,
    /// Users who are gone from here and of whom the store is told then. The number tells those of one time apart.
    graces: BTreeMap<(Instant, u64), (TopicId, UserId)>,
    held: u64,
    /// Bytes of events that histories hold back or have in hand, as of now.
    in_hand: usize,
    link_up: bool,
    /// The store answers on this link.
    store_up: bool,
    /// The link was lost, and the workers have not been told yet.
    gap_due: bool,
    /// Topics with [`Topic::restoring`].
    restoring: usize,
    subscribe: Vec<TopicId>,
    unsubscribe: Vec<TopicId>,
    /// To be subscribed one name a command.
    alone: Vec<TopicId>,
    /// To be asked for again at the next beat.
    postponed: Vec<TopicId>,
    /// When those that were refused and are still wanted are asked for again.
    retry_refused: Option<Instant>,
    operations: Vec<(TopicId, Operation)>,
}

impl Topics {
    pub(crate) fn new(workers: Arc<dyn Workers>, linger: Duration) -> Self {
        Self {
            workers,
            heard: Arc::default(),
            linger,
            slots: Vec::new(),
            free: Vec::new(),
            by_channel: HashMap::new(),
            lingering: VecDeque::new(),
            graces: BTreeMap::new(),
            held: 0,
            in_hand: 0,
            link_up: false,
            store_up: false,
            gap_due: false,
            restoring: 0,
            subscribe: Vec::new(),
            unsubscribe: Vec::new(),
            alone: Vec::new(),
            postponed: Vec::new(),
            retry_refused: None,
            operations: Vec::new(),
        }
    }

    // What workers say.

    pub(crate) fn ask(&mut self, now: Instant, worker: usize, ask: Ask) {
        let id = self.enter_table(&ask.channel);
        let link_up = self.link_up;
        let Some(topic) = self.topic(id) else { return };
        if ask.roster {
            topic.attend();
        }
        let user = ask.member.as_ref().map(|asked| {
            topic.attend().expect(&asked.member, asked.members_max, asked.grace);
            asked.member.id.clone()
        });
        let log = ask.log.map(|wanted| {
            let is_occupied = topic.workers != 0;
            let log = topic.log.get_or_insert_with(|| Box::new(if is_occupied { Log::late() } else { Log::default() }));
            log.set_cache(wanted.cache_ttl);
            (wanted.resume, log.readings())
        });
        let resume = log.and_then(|(resume, asked)| Some((resume?, asked)));
        let Ask { subscription, roster, .. } = ask;
        topic.waiting.push(Waiting { worker, subscription, user: user.clone(), roster, resume });
        match topic.state {
            State::Idle => {
                topic.state = State::Asking;
                if link_up {
                    self.subscribe.push(id);
                }
            }
            State::Lingering(_) => topic.state = State::Live,
            State::Asking | State::Live | State::Leaving => {}
        }
        self.tell_store(now, id, user.as_ref().map_or(Who::Nobody, Who::User));
        // Only the newcomer's part has changed: a room of many that wait is not looked through for each.
        if user.is_none_or(|user| self.may_admit(id, &user)) {
            self.settle(now, id);
        }
    }

    pub(crate) fn leave(&mut self, now: Instant, worker: usize, channel: &ChannelKey) {
        let Some(id) = self.by_channel.get(channel).copied() else { return };
        let heard = self.heard.clone();
        if let Some(topic) = self.topic(id) {
            let before = topic.workers;
            topic.workers &= !(1 << worker);
            heard.note(&topic.channel, before, topic.workers);
        }
        self.tell_store(now, id, Who::Nobody);
        self.rest(now, id);
    }

    pub(crate) fn exit(&mut self, now: Instant, channel: &ChannelKey, user: &UserId) {
        let Some(id) = self.by_channel.get(channel).copied() else { return };
        let attendance = self.topic(id).and_then(|topic| topic.attendance.as_mut());
        if let Some(attendance) = attendance {
            if let Some(until) = attendance.exit(now, user) {
                self.held += 1;
                self.graces.insert((until, self.held), (id, user.clone()));
            }
            self.tell_store(now, id, Who::User(user));
        }
        self.rest(now, id);
    }

    /// The node ends: whoever is gone is gone.
    pub(crate) fn end_graces(&mut self, now: Instant) {
        self.graces.clear();
        for id in self.ids() {
            if let Some(attendance) = self.topic(id).and_then(|topic| topic.attendance.as_mut()) {
                attendance.let_all_go();
                self.tell_store(now, id, Who::All);
            }
        }
    }

    // What the backplane says.

    /// A subscribe was confirmed.
    pub(crate) fn confirmed(&mut self, now: Instant, id: TopicId) {
        let Some(topic) = self.topic(id).filter(|topic| topic.state == State::Asking) else { return };
        topic.state = State::Live;
        let was_refused = std::mem::take(&mut topic.refused);
        if was_refused {
            // What was said since the refusal is lost too.
            self.broadcast(id, Broadcast::Gap);
        }
        self.restored(id);
        self.settle(now, id);
        self.tell_store(now, id, Who::All);
        self.rest(now, id);
    }

    /// An unsubscribe was confirmed.
    pub(crate) fn unsubscribed(&mut self, now: Instant, id: TopicId) {
        let Some(topic) = self.topic(id).filter(|topic| topic.state == State::Leaving) else { return };
        if topic.waiting.is_empty() {
            topic.state = State::Idle;
        } else {
            topic.state = State::Asking;
            self.subscribe.push(id);
        }
        self.rest(now, id);
    }

    /// The answer said nothing about the names: they are asked for again at the next beat.
    pub(crate) fn postpone(&mut self, ids: Vec<TopicId>) {
        self.postponed.extend(ids);
    }

    /// One command's names were forbidden together. Each is asked alone, as one forbidden name refuses them all. Who was
    /// alone is refused, and asked for again from time to time while an admitted subscription wants it.
    pub(crate) fn refused(&mut self, now: Instant, ids: &[TopicId]) {
        if ids.len() > 1 {
            self.alone.extend(ids);
            return;
        }
        for &id in ids {
            let Some(topic) = self.topic(id).filter(|topic| topic.state == State::Asking) else { continue };
            topic.state = State::Idle;
            let known = std::mem::replace(&mut topic.refused, true);
            let waiting = std::mem::take(&mut topic.waiting);
            self.refuse(id, waiting, Reason::Unavailable);
            self.retry_refused.get_or_insert(now + RETRY_REFUSED);
            if !known {
                // Who was admitted before stays so, and is told that messages are missing.
                self.broadcast(id, Broadcast::Gap);
            }
            self.restored(id);
            self.tell_store(now, id, Who::Nobody);
            self.rest(now, id);
        }
    }

    /// A message of the channel: to all workers whose bit is set, in the order of the calls.
    pub(crate) fn broadcast(&mut self, id: TopicId, broadcast: Broadcast) {
        let Some(topic) = self.topic(id).filter(|topic| topic.workers != 0) else { return };
        let (mut mask, channel) = (topic.workers, topic.channel.clone());
        let delivery = Arc::new(Delivery { channel, broadcast });
        while mask != 0 {
            let worker = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            self.workers.push(worker, Item::Deliver(delivery.clone()));
        }
    }

    /// A change of the roster that the store announced on the channel.
    pub(crate) fn roster_message(&mut self, now: Instant, id: TopicId, version: Version, change: Change) {
        let Some(topic) = self.topic(id).filter(|topic| topic.is_heard()) else { return };
        let Some(attendance) = topic.attendance.as_mut() else { return };
        let user = match &change {
            Change::Joined(member) => member.id.clone(),
            Change::Left(user) => user.clone(),
        };
        let shown = attendance.message(version, change);
        self.show(id, shown);
        self.settle(now, id);
        self.tell_store(now, id, Who::User(&user));
    }

    /// What became of an operation. Answers of an earlier link or incarnation must not come here.
    pub(crate) fn answered(&mut self, now: Instant, id: TopicId, about: About, answer: Answer) {
        match about {
            About::User(user) => return self.answered_on_user(now, id, &user, answer),
            About::Roster => return self.answered_on_roster(now, id, answer),
            About::Count => {
                let Some(occupancy) = self.topic(id).and_then(|topic| topic.occupancy.as_mut()) else { return };
                match answer {
                    Answer::Counted { later } => occupancy.answered(now, later),
                    _ => occupancy.failed(),
                }
            }
            About::History => self.answered_on_history(now, id, answer),
            About::Note => {
                let Some(log) = self.topic(id).and_then(|topic| topic.log.as_mut()) else { return };
                log.noted(answer == Answer::Noted);
            }
            About::Nothing => return,
        }
        self.settle(now, id);
        self.tell_store(now, id, Who::Nobody);
        self.rest(now, id);
        self.shed_histories(now, id);
    }

    fn answered_on_user(&mut self, now: Instant, id: TopicId, user: &UserId, answer: Answer) {
        let Some(topic) = self.topic(id) else { return };
        let Some(attendance) = topic.attendance.as_mut() else { return };
        let mut changes = Vec::new();
        match answer {
            Answer::Entered { version, added, snapshot } => {
                changes = attendance.entered(now, user, version, added, snapshot);
            }
            Answer::Full => {
                attendance.full(user);
                let all = std::mem::take(&mut topic.waiting);
                let (refused, waiting) = all.into_iter().partition(|w| w.user.as_ref() == Some(user));
                topic.waiting = waiting;
                self.refuse(id, refused, Reason::MembersFull);
            }
            Answer::Exited => attendance.exited(user),
            _ => attendance.failed(Some(user)),
        }
        self.show(id, changes);
        self.settle(now, id);
        self.tell_store(now, id, Who::User(user));
        self.rest(now, id);
    }

    fn answered_on_roster(&mut self, now: Instant, id: TopicId, answer: Answer) {
        let Some(attendance) = self.topic(id).and_then(|topic| topic.attendance.as_mut()) else { return };
        let mut changes = Vec::new();
        match answer {
            Answer::Roster(snapshot) => changes = attendance.snapshot(now, snapshot),
            _ => attendance.failed(None),
        }
        self.show(id, changes);
        self.settle(now, id);
        self.tell_store(now, id, Who::All);
        self.rest(now, id);
    }

    // Time.

    /// When [`Topics::sweep`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let lingering = self.lingering.front().map(|(deadline, _)| *deadline);
        let grace = self.graces.first_key_value().map(|((until, _), _)| *until);
        lingering.into_iter().chain(grace).min()
    }

    /// Ends the lingering of topics and the grace of users whose time has come.
    pub(crate) fn sweep(&mut self, now: Instant) {
        while let Some(entry) = self.graces.first_entry().filter(|entry| entry.key().0 <= now) {
            let (id, user) = entry.remove();
            if let Some(attendance) = self.topic(id).and_then(|topic| topic.attendance.as_mut()) {
                attendance.let_go(now, &user);
                self.tell_store(now, id, Who::User(&user));
                self.rest(now, id);
            }
        }
        while let Some(&(deadline, id)) = self.lingering.front().filter(|(deadline, _)| *deadline <= now) {
            self.lingering.pop_front();
            let Some(topic) = self.topic(id).filter(|t| t.state == State::Lingering(deadline)) else { continue };
            topic.state = State::Leaving;
            topic.stop_listening();
            self.unsubscribe.push(id);
        }
    }

    /// Once a heartbeat: what failed is sent again, comparisons that were held are made, and what would expire is renewed.
    pub(crate) fn beat(&mut self, now: Instant) {
        if self.link_up {
            self.ask_again(now);
        }
        let store_up = self.store_up;
        self.in_hand = 0;
        for id in self.ids() {
            self.beat_history(now, id);
            let Some(topic) = self.topic(id).filter(|_| store_up) else { continue };
            let wanted = !topic.is_unwanted();
            let mut due = None;
            if let Some(occupancy) = &mut topic.occupancy {
                occupancy.retry();
                due = occupancy.next(now, wanted, true);
            }
            let mut refresh = None;
            let members = topic.attendance.as_mut().map(|attendance| {
                attendance.retry();
                refresh = attendance.next_refresh(now);
            });
            self.operations.extend(due.into_iter().chain(refresh).map(|operation| (id, operation)));
            self.tell_store(now, id, if members.is_some() { Who::All } else { Who::Nobody });
        }
    }

    fn ask_again(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.postponed) {
            if self.topic(id).is_some_and(|topic| topic.state == State::Asking) {
                self.subscribe.push(id);
            }
        }
        if self.retry_refused.is_none_or(|due| now < due) {
            return;
        }
        self.retry_refused = None;
        for id in self.ids() {
            let refused = self.topic(id).filter(|t| t.state == State::Idle && t.refused && !t.is_unwanted());
            if let Some(topic) = refused {
                topic.state = State::Asking;
                self.alone.push(id);
            }
        }
    }

    // For the driver.

    pub(crate) fn heard(&self) -> Arc<Heard> {
        self.heard.clone()
    }

    pub(crate) fn find(&self, channel: &ChannelKey) -> Option<TopicId> {
        self.by_channel.get(channel).copied()
    }

    pub(crate) fn channel(&self, id: TopicId) -> Option<&Arc<ChannelKey>> {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        slot.topic.as_ref().map(|topic| &topic.channel)
    }

    /// True while an unsubscribe is in flight.
    pub(crate) fn is_leaving(&self, id: TopicId) -> bool {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation);
        slot.and_then(|slot| slot.topic.as_ref()).is_some_and(|topic| topic.state == State::Leaving)
    }

    /// True when messages of the channel are of use: a worker or a mirror takes them.
    pub(crate) fn is_wanted(&self, id: TopicId) -> bool {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation);
        slot.and_then(|slot| slot.topic.as_ref())
            .is_some_and(|t| t.workers != 0 || t.attendance.is_some() || t.log.is_some())
    }

    /// True while the store is owed the end of something.
    pub(crate) fn has_exits(&self) -> bool {
        let topics = self.slots.iter().filter_map(|slot| slot.topic.as_ref());
        topics.into_iter().any(|topic| {
            topic.attendance.as_ref().is_some_and(|attendance| attendance.has_exits())
                || (topic.is_unwanted() && topic.occupancy.as_ref().is_some_and(|occupancy| !occupancy.is_over()))
        })
    }

    /// The store has all users and channels of this node.
    pub(crate) fn is_registered(&self) -> bool {
        let mut topics = self.slots.iter().filter_map(|slot| slot.topic.as_ref());
        self.store_up
            && topics.all(|topic| {
                topic.attendance.as_ref().is_none_or(|attendance| attendance.is_registered())
                    && topic.occupancy.as_ref().is_none_or(|occupancy| occupancy.is_registered(!topic.is_unwanted()))
            })
    }

    /// Admitted subscriptions of a channel on this node.
    pub(crate) fn live(&self, channel: &ChannelKey) -> u32 {
        let slot = self.by_channel.get(channel).and_then(|id| self.slots.get(id.slot as usize));
        let topic = slot.and_then(|slot| slot.topic.as_ref());
        topic.and_then(|topic| topic.occupancy.as_ref()).map_or(0, Occupancy::live)
    }

    /// All channels of an app of which the store may not have what is so, and this node's subscriptions of them.
    pub(crate) fn out_of_step(&self, app: &str) -> Vec<(Arc<ChannelKey>, u32)> {
        let topics = self.slots.iter().filter_map(|slot| slot.topic.as_ref());
        let of_app = topics.filter(|topic| *topic.channel.app == *app);
        let counted = of_app.filter_map(|topic| Some((topic, topic.occupancy.as_ref()?)));
        let behind = counted.filter(|(_, occupancy)| !occupancy.is_told());
        behind.map(|(topic, occupancy)| (topic.channel.clone(), occupancy.live())).collect()
    }

    /// All that is to be sent since the last call, in commands of at most 1,000 names.
    pub(crate) fn take_commands(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        let batches = |ids: Vec<TopicId>| ids.chunks(NAMES_MAX).map(<[_]>::to_vec).collect::<Vec<_>>();
        commands.extend(batches(std::mem::take(&mut self.subscribe)).into_iter().map(Command::Subscribe));
        commands.extend(std::mem::take(&mut self.alone).into_iter().map(|id| Command::Subscribe(vec![id])));
        commands.extend(batches(std::mem::take(&mut self.unsubscribe)).into_iter().map(Command::Unsubscribe));
        commands.extend(std::mem::take(&mut self.operations).into_iter().map(|(id, op)| Command::Store(id, op)));
        commands
    }

    // Inside.

    fn topic(&mut self, id: TopicId) -> Option<&mut Topic> {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        slot.topic.as_mut()
    }

    fn ids(&self) -> Vec<TopicId> {
        let taken = self.slots.iter().enumerate().filter(|(_, slot)| slot.topic.is_some());
        taken.map(|(index, slot)| TopicId { slot: index as u32, generation: slot.generation }).collect()
    }

    fn enter_table(&mut self, channel: &Arc<ChannelKey>) -> TopicId {
        if let Some(id) = self.by_channel.get(channel) {
            return *id;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let place = &mut self.slots[slot as usize];
        let id = TopicId { slot, generation: place.generation };
        place.topic = Some(Topic::new(channel.clone()));
        self.by_channel.insert(channel.clone(), id);
        id
    }

    fn may_admit(&mut self, id: TopicId, user: &UserId) -> bool {
        let attendance = self.topic(id).and_then(|topic| topic.attendance.as_ref());
        attendance.is_some_and(|attendance| attendance.may_admit(user))
    }

    /// Admits everybody who can be.
    fn settle(&mut self, now: Instant, id: TopicId) {
        let (workers, heard) = (self.workers.clone(), self.heard.clone());
        let Some(topic) = self.topic(id).filter(|topic| topic.state == State::Live && !topic.holds_back()) else {
            return;
        };
        let before = topic.workers;
        let (mut users, mut missed, mut behind) = (Vec::new(), false, false);
        for waiting in std::mem::take(&mut topic.waiting) {
            let is_ready = match (&waiting.user, &topic.attendance) {
                (Some(user), attendance) => attendance.as_ref().is_some_and(|attendance| attendance.may_admit(user)),
                (None, Some(attendance)) => !waiting.roster || attendance.is_current(),
                (None, None) => true,
            };
            if !is_ready {
                users.extend(waiting.user.clone());
                topic.waiting.push(waiting);
                continue;
            }
            let standing = match (&waiting.resume, topic.log.as_mut()) {
                (Some((resume, asked)), Some(log)) => match log.stand(resume, *asked) {
                    Some(standing) => Some(Box::new(standing)),
                    None => {
                        behind = true;
                        topic.waiting.push(waiting);
                        continue;
                    }
                },
                _ => None,
            };
            if let (Some(user), Some(attendance)) = (&waiting.user, topic.attendance.as_mut()) {
                attendance.admit(user);
            }
            let shows = waiting.user.is_some() || waiting.roster;
            let roster = topic.attendance.as_ref().filter(|_| shows).map(|attendance| attendance.roster());
            let is_back = standing.as_ref().is_some_and(|standing| standing.recovered == Some(true));
            let (cached, miss) = match topic.log.as_mut() {
                Some(log) if !is_back => log.give(now),
                _ => (Cached::Never, false),
            };
            missed |= miss;
            topic.workers |= 1 << waiting.worker;
            let item = Item::Admit {
                channel: topic.channel.clone(),
                subscription: waiting.subscription,
                roster,
                cached,
                standing,
                logged: topic.log.is_some(),
                count: topic.occupancy.as_ref().map(|occupancy| occupancy.live.clone()).unwrap_or_default(),
            };
            workers.push(waiting.worker, item);
        }
        heard.note(&topic.channel, before, topic.workers);
        if missed {
            self.operations.push((id, Operation::Missed));
        }
        if behind {
            self.tell_store(now, id, Who::Nobody);
        }
        for user in users {
            self.tell_store(now, id, Who::User(&user));
        }
    }

    fn refuse(&mut self, id: TopicId, waiting: Vec<Waiting>, reason: Reason) {
        for Waiting { worker, subscription, user, .. } in waiting {
            let Some(topic) = self.topic(id) else { return };
            if let (Some(user), Some(attendance)) = (user, topic.attendance.as_mut()) {
                attendance.refuse(&user);
            }
            let channel = topic.channel.clone();
            self.workers.push(worker, Item::Refuse { channel, subscription, refusal: reason.into() });
        }
    }

    /// Collects what the store is to be told and asked.
    fn tell_store(&mut self, now: Instant, id: TopicId, who: Who<'_>) {
        if !self.store_up {
            return;
        }
        let Some(topic) = self.topic(id) else { return };
        let wanted = !topic.is_unwanted();
        let live = topic.state == State::Live && wanted;
        let mut operations = Vec::new();
        operations.extend(topic.occupancy.as_mut().and_then(|occupancy| occupancy.next(now, wanted, false)));
        if let Some(log) = topic.log.as_mut() {
            operations.extend(log.next_note());
            operations.extend(live.then(|| log.next(now)).flatten());
        }
        if let Some(attendance) = topic.attendance.as_mut() {
            let users = match who {
                Who::Nobody => Vec::new(),
                Who::User(user) => vec![user.clone()],
                Who::All => attendance.users(),
            };
            operations.extend(users.iter().filter_map(|user| attendance.next(user, live)));
            if live {
                operations.extend(attendance.next_roster(now));
            }
        }
        self.operations.extend(operations.into_iter().map(|operation| (id, operation)));
    }

    fn show(&mut self, id: TopicId, changes: impl IntoIterator<Item = Broadcast>) {
        for change in changes {
            self.broadcast(id, change);
        }
    }

    /// After something was taken from a topic: lets it linger, or forgets it.
    fn rest(&mut self, now: Instant, id: TopicId) {
        let (link_up, deadline) = (self.link_up, now + self.linger);
        let Some(topic) = self.topic(id).filter(|topic| topic.is_unwanted()) else { return };
        match topic.state {
            State::Live => {
                topic.state = State::Lingering(deadline);
                self.lingering.push_back((deadline, id));
            }
            State::Asking if !link_up => {
                topic.state = State::Idle;
                topic.stop_listening();
            }
            _ => {}
        }
        let Some(topic) = self.topic(id).filter(|topic| topic.state == State::Idle) else { return };
        if topic.is_settled() {
            let channel = topic.channel.clone();
            self.by_channel.remove(&channel);
            let slot = &mut self.slots[id.slot as usize];
            slot.topic = None;
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(id.slot);
        }
    }
}
