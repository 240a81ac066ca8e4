//! Down to the sockets: batches, cursors and turns.
//!
//! A turn works through the channels that have something to tell, one cursor a channel, until 500 writes or 2 ms are spent;
//! then other tasks of the thread have their turn. A channel's stream is told in order: messages that stand together are one
//! batch and one write a socket; an admission or a gap ends the batch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backplane::{Item, SubscriptionRef};
use model::{Broadcast, Delivery, Notice, OnGap, Reason, Roster, View};

use crate::channel::{Channel, Cursor, Entry, Queued};
use crate::connection::Slow;
use crate::inbox;
use crate::run::Batch;
use crate::shard::{Departure, Shard};

const WRITES_MAX: u32 = 500;
pub(crate) const TURN_MAX: Duration = Duration::from_millis(2);
/// The clock is looked at once in so many writes.
const CLOCK_EVERY: u32 = 32;

/// What a turn may still spend.
pub(crate) struct Budget {
    began: Instant,
    writes: u32,
    late: bool,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), writes: 0, late: false }
    }

    fn spend(&mut self) {
        self.writes += 1;
        if self.writes.is_multiple_of(CLOCK_EVERY) {
            self.late = self.began.elapsed() >= TURN_MAX;
        }
    }

    /// So many events were told to one connection alone.
    fn look_after(&mut self, told: usize) {
        if told > 0 {
            self.writes += 1;
            self.late = self.began.elapsed() >= TURN_MAX;
        }
    }

    fn is_spent(&self) -> bool {
        self.late || self.writes >= WRITES_MAX
    }
}

impl Shard {
    /// One bounded turn. True when there is more to do.
    pub(crate) fn turn(&mut self) -> bool {
        let mut budget = Budget::new();
        self.distribute();
        while !budget.is_spent() {
            if let Some(channel) = self.ready.pop_front() {
                if self.advance(channel, &mut budget) {
                    self.ready.push_back(channel);
                }
            } else if self.link_gap.is_some() {
                self.tell_link_gap(&mut budget);
                self.distribute();
            } else {
                break;
            }
        }
        self.settle();
        self.hub.inboxes[self.worker].release(std::mem::take(&mut self.freed));
        !self.ready.is_empty() || self.link_gap.is_some() || !self.backlog.is_empty()
    }

    /// Gives what came from the inbox to its channels, up to a link gap: that waits until all before it is told.
    fn distribute(&mut self) {
        if self.link_gap.is_some() {
            return;
        }
        while let Some(item) = self.backlog.pop_front() {
            let cost = inbox::cost(&item);
            let (channel, queued) = match item {
                Item::Deliver(delivery) => (delivery.channel.clone(), Queued::Deliver(delivery)),
                Item::Admit { channel, subscription, roster, cached, standing, logged, count } => {
                    self.freed += cost;
                    let SubscriptionRef { slot, generation } = subscription;
                    (channel, Queued::Admit { slot, generation, roster, cached, standing, logged, count: Some(count) })
                }
                Item::Refuse { channel, subscription, refusal } => {
                    self.freed += inbox::ITEM_BYTES;
                    let SubscriptionRef { slot, generation } = subscription;
                    (channel, Queued::Refuse { slot, generation, refusal })
                }
                Item::LinkGap => {
                    self.freed += inbox::ITEM_BYTES;
                    self.link_gap = Some((0, self.connections.end()));
                    return;
                }
            };
            match self.names.get(&channel).copied() {
                Some(slot) => self.queue(slot, queued),
                None => self.decline(&channel, queued),
            }
        }
    }

    fn queue(&mut self, slot: u32, queued: Queued) {
        let Some(channel) = self.channels.get_mut(slot) else { return };
        channel.queue.push_back(queued);
        if !channel.active {
            channel.active = true;
            self.ready.push_back(slot);
        }
    }

    /// Nobody here has the channel any more.
    fn decline(&mut self, channel: &Arc<model::ChannelKey>, queued: Queued) {
        match queued {
            Queued::Deliver(delivery) => self.freed += delivery.bytes(),
            Queued::Admit { generation, .. } => {
                if let Some(user) = self.note_answer(generation) {
                    self.depart(Departure::Exit(channel.clone(), user));
                }
                self.depart(Departure::Leave(channel.clone()));
            }
            Queued::Refuse { generation, .. } => {
                self.note_answer(generation);
            }
            Queued::Repeat { .. } | Queued::Watch { .. } => {}
        }
    }

    /// Tells what was just queued, where nothing stands before it.
    pub(crate) fn advance_if_at_rest(&mut self, slot: u32) {
        if self.channels.get(slot).is_some_and(|channel| !channel.active) {
            // A queue of one answer ends within any budget.
            self.advance(slot, &mut Budget::new());
        }
    }

    /// Works on one channel. True when it has more to tell.
    fn advance(&mut self, slot: u32, budget: &mut Budget) -> bool {
        let Some(mut channel) = self.channels.lift(slot) else { return false };
        let more = loop {
            if channel.cursor.is_some() && !self.walk(&mut channel, budget) {
                break true;
            }
            match self.take_next(&mut channel) {
                Some(told) => budget.look_after(told),
                None => break false,
            }
            if budget.is_spent() {
                break true;
            }
        };
        channel.active = more;
        if !more && channel.is_empty() {
            if std::mem::take(&mut channel.listed) {
                self.depart(Departure::Leave(channel.key.clone()));
            }
            self.forget_channel(&channel);
            self.channels.give_up(slot);
        } else {
            self.channels.put_back(slot, channel);
        }
        more
    }

    /// Begins the next batch, or answers the next question; then how many events that took. `None` when nothing waits.
    fn take_next(&mut self, channel: &mut Channel) -> Option<usize> {
        let mut told = 0;
        match channel.queue.pop_front()? {
            Queued::Deliver(first) => self.begin(channel, first),
            Queued::Admit { slot, generation, roster, cached, standing, logged, count } => {
                if let Some(count) = count {
                    channel.listed = true;
                    channel.sure = true;
                    channel.logged = logged;
                    channel.count_into(count);
                }
                channel.roster = roster.or(channel.roster.take());
                told = standing.as_ref().map_or(0, |standing| standing.missed.len());
                self.admit(channel, SubscriptionRef { slot, generation }, standing, cached);
            }
            Queued::Refuse { slot, generation, refusal } => {
                self.refuse_pending(channel, SubscriptionRef { slot, generation }, &refusal);
            }
            Queued::Repeat { slot, generation, tag } => {
                self.repeat_success(channel, SubscriptionRef { slot, generation }, &tag);
            }
            Queued::Watch { slot, generation } => {
                channel.let_in(slot, generation);
            }
        }
        Some(told)
    }

    /// Puts a cursor on the channel, over as many messages as stand together.
    fn begin(&mut self, channel: &mut Channel, first: Arc<Delivery>) {
        let settings = &self.hub.settings;
        let mut bytes = first.bytes();
        let alone = stands_alone(&first.broadcast);
        let mut deliveries = vec![first];
        while !alone && deliveries.len() < settings.batch_events {
            let Some(Queued::Deliver(next)) = channel.queue.front() else { break };
            if stands_alone(&next.broadcast) || bytes + next.bytes() > settings.batch_bytes {
                break;
            }
            bytes += next.bytes();
            if let Some(Queued::Deliver(next)) = channel.queue.pop_front() {
                deliveries.push(next);
            }
        }
        let mut excluded = Vec::new();
        for (message, delivery) in deliveries.iter().enumerate() {
            match &delivery.broadcast {
                Broadcast::Event(event) => {
                    let except = event.except.filter(|id| id.node() == settings.node);
                    if let Some(&slot) = except.and_then(|id| self.sequences.get(&id.sequence())) {
                        excluded.push((message as u32, slot));
                    }
                }
                Broadcast::Joined(_) | Broadcast::Left(_) => note_member(channel, &delivery.broadcast),
                Broadcast::Count(_) | Broadcast::Terminate => {}
                Broadcast::Gap => channel.sure = false,
            }
        }
        let batch = Batch::new(deliveries, excluded);
        channel.cursor = Some(Box::new(Cursor { at: 0, end: channel.end(), batch, bytes }));
    }

    /// Moves the channel's cursor. True when it has come to the end.
    fn walk(&mut self, channel: &mut Channel, budget: &mut Budget) -> bool {
        let Some(mut cursor) = channel.cursor.take() else { return true };
        let alone = stands_alone(&cursor.batch.deliveries[0].broadcast);
        while cursor.at < cursor.end {
            if budget.is_spent() {
                channel.cursor = Some(cursor);
                return false;
            }
            let entry = channel.get(cursor.at);
            cursor.at += 1;
            let Some(entry) = entry.filter(|entry| entry.admitted) else { continue };
            let connection = &entry.connection;
            if alone && !self.answers_for(&cursor.batch.deliveries[0].broadcast, entry) {
                continue;
            }
            budget.spend();
            let mut alone = None;
            let Cursor { batch, .. } = &mut *cursor;
            let is_excluded = batch.excluded.iter().any(|(_, slot)| *slot == connection.slot);
            let excluded = if is_excluded { batch.excluded.clone() } else { Vec::new() };
            let run = batch.run(self.hub.dialects, entry.encoding, connection.framing(), &mut alone);
            let (sent, frames) = if is_excluded {
                let (parts, frames) = run.without(&excluded, connection.slot);
                (if parts.is_empty() { Ok(false) } else { connection.send(&parts) }, frames)
            } else if run.frames == 0 {
                (Ok(false), 0)
            } else {
                (connection.send(std::slice::from_ref(&run.bytes)), run.frames)
            };
            match sent {
                Ok(true) => connection.stats.delivered.add(u64::from(frames)),
                Ok(false) => {}
                Err(Slow) => self.doomed.push((connection.clone(), Reason::SlowConsumer.into())),
            }
        }
        self.freed += cursor.bytes;
        true
    }

    /// Does what a message asks that stands alone. False when the subscriber is not told of it.
    fn answers_for(&mut self, broadcast: &Broadcast, entry: &Entry) -> bool {
        let (connection, view) = (&entry.connection, entry.encoding.view);
        if *broadcast == Broadcast::Terminate {
            if view.is_present() {
                connection.stop();
                self.doom(connection, Reason::Terminated.into());
            }
            return false;
        }
        if !matches!(view, View::Channel | View::User) {
            // It is told of comings and goings at most, and those have a reserve.
            return false;
        }
        connection.stats.gaps.add(1);
        if connection.app().on_gap == OnGap::Close && !connection.returning.replace(true) {
            self.returning.push(connection.clone());
        }
        connection.app().on_gap == OnGap::Notice
    }

    /// Tells each connection with an admitted subscription that anything may be missing; it names no channel. Channels with a history
    /// speak for themselves.
    fn tell_link_gap(&mut self, budget: &mut Budget) {
        let Some((mut at, end)) = self.link_gap.take() else { return };
        while at < end {
            if budget.is_spent() {
                self.link_gap = Some((at, end));
                return;
            }
            let connection = self.connections.get(at).cloned();
            at += 1;
            let Some(connection) = connection.filter(|connection| self.has_admitted(connection)) else { continue };
            budget.spend();
            connection.stats.gaps.add(1);
            match connection.app().on_gap {
                OnGap::Notice => self.tell(&connection, &Notice::Gap),
                OnGap::Close if connection.returning.replace(true) => {}
                OnGap::Close => self.returning.push(connection),
            }
        }
    }

    fn has_admitted(&self, connection: &crate::Connection) -> bool {
        connection.hears_own_channel()
            || connection.subscriptions.borrow().iter().any(|subscription| {
                let channel = self.channels.get(subscription.channel).filter(|channel| !channel.logged);
                channel.and_then(|channel| channel.get(subscription.slot)).is_some_and(|entry| entry.admitted)
            })
    }
}

/// What ends a batch, and is one.
fn stands_alone(broadcast: &Broadcast) -> bool {
    matches!(broadcast, Broadcast::Gap | Broadcast::Terminate)
}

/// Keeps the channel's member list in step with what its subscribers are told.
fn note_member(channel: &mut Channel, broadcast: &Broadcast) {
    let Some(roster) = &mut channel.roster else { return };
    let Roster(members) = Arc::make_mut(roster);
    match broadcast {
        Broadcast::Joined(member) => {
            members.insert(member.id.clone(), member.info.clone());
        }
        Broadcast::Left(member) => {
            members.remove(&member.id);
        }
        Broadcast::Event(_) | Broadcast::Count(_) | Broadcast::Terminate | Broadcast::Gap => {}
    }
}
