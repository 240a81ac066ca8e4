//! Coming to a channel and leaving it.
//!
//! A subscription is pending until its `Admit` has travelled the channel's own road, so that no event comes before the
//! success frame and none after it is missed. On a channel that already has an admitted subscription here and gives
//! newcomers nothing (neither members nor a kept event), the worker admits by itself, between two batches, while the link
//! is up.

use std::rc::{Rc, Weak};
use std::time::Duration;

use backplane::{Ask, AskLog, AskMember, Cached, LinkStatus, Standing, SubscriptionRef};
use model::{Access, Broadcast, ChannelKey, ChannelKind, ChannelName, Encoding, Event, Member, Notice};
use model::{App, AppLimits, Proof, Reason, Refusal, Resume, Tag, View, auth};

use crate::channel::{Channel, Entry, Queued};
use crate::connection::{Connection, Subscription};
use crate::shard::{Asked, Departure, Shard};

impl Shard {
    pub(crate) fn subscribe(
        &mut self,
        connection: &Rc<Connection>,
        name: ChannelName,
        mut proof: Proof,
        resume: Option<Resume>,
        tag: Tag,
    ) {
        let kind = name.kind();
        let key = ChannelKey { app: connection.app().id.clone(), name };
        if kind.access == Access::User && self.show_own_channel(connection, &key, &tag) {
            return;
        }
        if let Some(slot) = self.names.get(&key).copied()
            && self.repeat(connection, slot, &tag)
        {
            return;
        }
        if let Some(headers) = proof.show.take()
            && matches!(kind.access, Access::Private | Access::Presence)
        {
            return self.inquire(connection, key.name, headers, resume, tag);
        }
        match permit(connection, &key.name, kind, &proof) {
            Ok(member) => self.ask(connection, key, member, resume, tag),
            Err(refusal) => self.refuse_subscribe(connection, &key.name, kind, &refusal, &tag),
        }
    }

    /// A second subscribe of the same connection: the success is said again, nothing else changes (reference servers but
    /// Pusher's own do so; users take Pusher's error for a failure). False when it is no second one.
    fn repeat(&mut self, connection: &Rc<Connection>, channel_slot: u32, tag: &Tag) -> bool {
        let subscriptions = connection.subscriptions.borrow();
        let Some(subscription) = subscriptions.iter().find(|s| s.channel == channel_slot) else { return false };
        let slot = subscription.slot;
        drop(subscriptions);
        let Some(channel) = self.channels.get_mut(channel_slot) else { return false };
        let Some(entry) = channel.get(slot) else { return false };
        // While it is pending the answer is on its way.
        if entry.admitted {
            let repeat = Queued::Repeat { slot, generation: entry.generation, tag: tag.clone() };
            channel.queue.push_back(repeat);
            self.advance_if_at_rest(channel_slot);
        }
        true
    }

    pub(crate) fn refuse_subscribe(
        &mut self,
        connection: &Rc<Connection>,
        name: &ChannelName,
        kind: ChannelKind,
        refusal: &Refusal,
        tag: &Tag,
    ) {
        connection.stats.count_subscribe(kind, Some(refusal));
        connection.log_refusal("a subscription is refused", name.as_str(), refusal);
        self.tell(connection, &Notice::SubscribeRefused { channel: name.as_str(), refusal, tag });
        if connection.dialect.refused_subscribe_closes(&connection.state.get()) {
            self.doom(connection, refusal.clone());
        }
    }

    /// Takes the place, and admits or asks the backplane.
    fn ask(
        &mut self,
        connection: &Rc<Connection>,
        key: ChannelKey,
        member: Option<Member>,
        resume: Option<Resume>,
        tag: Tag,
    ) {
        let encoding = Encoding { positions: resume.is_some(), ..connection.encoding(View::Channel) };
        let log = log(&connection.app(), &key.name, resume);
        let (channel_slot, subscription) = self.take_place(connection, key, encoding);
        let SubscriptionRef { slot, generation } = subscription;
        let user = member.as_ref().map(|member| member.id.clone());
        let mut subscriptions = connection.subscriptions.borrow_mut();
        if subscriptions.is_empty() {
            subscriptions.reserve_exact(1);
        }
        subscriptions.push(Subscription { channel: channel_slot, slot, user, tag });
        drop(subscriptions);
        let Some(channel) = self.channels.get_mut(channel_slot) else { return };
        let is_plain = member.is_none() && log.is_none();
        if is_plain && channel.admitted > 0 && channel.sure && self.backplane.status() == LinkStatus::Up {
            let (roster, cached, standing, count) = (None, Cached::Never, None, None);
            let admit = Queued::Admit { slot, generation, roster, cached, standing, logged: false, count };
            channel.queue.push_back(admit);
            self.advance_if_at_rest(channel_slot);
            return;
        }
        connection.unanswered.set(connection.unanswered.get() + 1);
        let wants = Wants { roster: member.is_some(), member, log };
        self.send_ask(channel_slot, subscription, Rc::downgrade(connection), wants, &connection.app().limits);
    }

    /// A pending subscription in a channel: the channel's slot, and its own name there.
    pub(crate) fn take_place(
        &mut self,
        connection: &Rc<Connection>,
        key: ChannelKey,
        encoding: Encoding,
    ) -> (u32, SubscriptionRef) {
        let channel_slot = self.channel_slot(key);
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let entry = Entry { connection: connection.clone(), generation, encoding, admitted: false };
        // It was there already or has just been made.
        let slot = self.channels.get_mut(channel_slot).map_or(0, |channel| channel.insert(entry));
        (channel_slot, SubscriptionRef { slot, generation })
    }

    /// `asker`: whose limit of open questions it counts against.
    pub(crate) fn send_ask(
        &mut self,
        channel_slot: u32,
        subscription: SubscriptionRef,
        asker: Weak<Connection>,
        wants: Wants,
        limits: &AppLimits,
    ) {
        let Wants { member, roster, log } = wants;
        let Some(channel) = self.channels.get(channel_slot) else { return };
        let user = member.as_ref().map(|member| member.id.clone());
        self.asked.insert(subscription.generation, Asked { connection: asker, user });
        let member =
            member.map(|member| AskMember { member, members_max: limits.members, grace: limits.presence_grace });
        self.backplane.ask(self.worker, Ask { channel: channel.key.clone(), subscription, member, roster, log });
    }

    /// From here on the subscription hears the channel. The channel is lifted out of its slot.
    pub(crate) fn admit(
        &mut self,
        channel: &mut Channel,
        subscription: SubscriptionRef,
        standing: Option<Box<Standing>>,
        cached: Cached,
    ) {
        let user = self.note_answer(subscription.generation);
        let SubscriptionRef { slot, generation } = subscription;
        let entry = channel.find_mut(slot, generation).map(|entry| (entry.connection.clone(), entry.encoding));
        let Some((connection, encoding)) = entry else {
            // It left before it was let in.
            if let Some(user) = user {
                self.depart(Departure::Exit(channel.key.clone(), user));
            }
            return;
        };
        if encoding.view == View::Watch {
            return self.note_watched(&connection, channel);
        }
        channel.let_in(slot, generation);
        connection.stats.subscriptions.add(1);
        connection.stats.count_subscribe(channel.kind, None);
        if encoding.view == View::Silent {
            return self.note_signed_in(&connection);
        }
        let tag = take_tag(&connection, channel, slot);
        let (standing, missed) = match standing {
            Some(standing) => {
                let (standing, missed) = self.spell_missed(&connection, channel, encoding, *standing);
                (Some(standing), missed)
            }
            None => (None, Vec::new()),
        };
        let recovered = standing.as_ref().and_then(|standing| standing.recovered);
        match recovered {
            Some(true) => connection.stats.recovered.add(1),
            Some(false) => connection.stats.not_recovered.add(1),
            None => {}
        }
        self.tell_subscribed(&connection, channel, standing.as_ref(), &tag);
        if recovered != Some(true) {
            return self.tell_cached(&connection, channel, encoding, cached);
        }
        connection.stats.delivered.add(standing.map_or(0, |standing| standing.missed.len() as u64));
        if !missed.is_empty() {
            self.send_frames(&connection, missed);
        }
    }

    /// The frames of all that who came back has missed, for one write. What has no room is lost to him: who was away for too long
    /// must not be closed as slow for it.
    fn spell_missed(
        &self,
        connection: &Connection,
        channel: &Channel,
        encoding: Encoding,
        mut standing: Standing,
    ) -> (Standing, Vec<u8>) {
        let name = &channel.key.name;
        let (mut frames, mut payload) = (Vec::new(), Vec::new());
        for event in &standing.missed {
            payload.clear();
            let broadcast = Broadcast::Event(Event::clone(event));
            connection.dialect.broadcast(encoding, name.as_str(), &broadcast, &mut payload);
            connection.framing().message(&payload, &mut frames);
        }
        let last = standing.missed.last().and_then(|event| event.position.as_ref());
        if last.unwrap_or(&standing.position) != &standing.end {
            payload.clear();
            let notice = Notice::Position { channel: name, position: &standing.end };
            connection.dialect.notice(&connection.state.get(), &notice, &mut payload);
            connection.framing().message(&payload, &mut frames);
        }
        if connection.waiting() + frames.len() > self.shared.outbox_max {
            standing.lose();
            frames.clear();
        }
        (standing, frames)
    }

    fn tell_subscribed(
        &mut self,
        connection: &Rc<Connection>,
        channel: &Channel,
        standing: Option<&Standing>,
        tag: &Tag,
    ) {
        let roster = channel.roster.as_deref().filter(|_| channel.kind.access == Access::Presence);
        let position = standing.map(|standing| &standing.position);
        let recovered = standing.and_then(|standing| standing.recovered);
        self.tell(connection, &Notice::Subscribed { channel: &channel.key.name, roster, position, recovered, tag });
    }

    /// What a cache channel holds, right behind the success.
    fn tell_cached(&mut self, connection: &Rc<Connection>, channel: &Channel, encoding: Encoding, cached: Cached) {
        let name = &channel.key.name;
        let event = match cached {
            Cached::Never => return,
            Cached::Miss => return self.tell(connection, &Notice::CacheMiss { channel: name }),
            Cached::Hit(event) => Broadcast::Event(Event::clone(&event)),
        };
        let mut payload = Vec::new();
        connection.dialect.broadcast(encoding, name.as_str(), &event, &mut payload);
        if !payload.is_empty() {
            self.send(connection, &payload);
            connection.stats.delivered.add(1);
        }
    }

    /// Says the success again. On a user's own channel that is what makes it heard.
    pub(crate) fn repeat_success(&mut self, channel: &mut Channel, subscription: SubscriptionRef, tag: &Tag) {
        let is_own = channel.kind.access == Access::User;
        let Some(entry) = channel.find_mut(subscription.slot, subscription.generation) else { return };
        let connection = entry.connection.clone();
        if is_own && !connection.hears_own_channel() {
            // It was left again meanwhile.
            return;
        }
        if is_own {
            entry.encoding.view = View::User;
        }
        self.tell_subscribed(&connection, channel, None, tag);
    }

    /// The backplane said no. The channel is lifted out of its slot.
    pub(crate) fn refuse_pending(&mut self, channel: &mut Channel, subscription: SubscriptionRef, refusal: &Refusal) {
        self.note_answer(subscription.generation);
        if channel.find_mut(subscription.slot, subscription.generation).is_none() {
            return;
        }
        let Some(entry) = channel.remove(subscription.slot) else { return };
        match entry.encoding.view {
            View::Silent => return self.refuse_signing_in(&entry.connection, refusal),
            View::Watch => return self.note_unwatched(&entry.connection, channel, subscription.slot),
            View::Channel | View::User => {}
        }
        let tag = take_tag(&entry.connection, channel, subscription.slot);
        let number = channel.number;
        let mut subscriptions = entry.connection.subscriptions.borrow_mut();
        subscriptions.retain(|s| s.channel != number || s.slot != subscription.slot);
        drop(subscriptions);
        let name = channel.key.name.clone();
        self.refuse_subscribe(&entry.connection, &name, channel.kind, refusal, &tag);
    }

    pub(crate) fn unsubscribe(&mut self, connection: &Rc<Connection>, name: ChannelName, tag: &Tag) {
        let key = ChannelKey { app: connection.app().id.clone(), name };
        if key.name.kind().access == Access::User {
            self.hide_own_channel(connection, &key);
        }
        let mut subscriptions = connection.subscriptions.borrow_mut();
        let place = self.names.get(&key).and_then(|slot| subscriptions.iter().position(|s| s.channel == *slot));
        let removed = place.map(|place| subscriptions.swap_remove(place));
        drop(subscriptions);
        if let Some(subscription) = removed {
            self.remove_subscription(connection, subscription);
        }
        connection.forget_asking(&key.name);
        self.tell(connection, &Notice::Unsubscribed { channel: &key.name, tag });
    }

    /// Makes the hole and tells the backplane what follows from it. The subscription is no longer in the connection's list.
    pub(crate) fn remove_subscription(&mut self, connection: &Rc<Connection>, subscription: Subscription) {
        let Some(channel) = self.channels.get_mut(subscription.channel) else { return };
        let Some(entry) = channel.remove(subscription.slot) else { return };
        let key = channel.key.clone();
        let empty = channel.is_empty();
        let listed = empty && std::mem::take(&mut channel.listed);
        let at_rest = empty && !channel.active;
        if entry.admitted && entry.encoding.view.is_present() {
            connection.stats.subscriptions.sub(1);
            if let Some(user) = subscription.user {
                self.depart(Departure::Exit(key.clone(), user));
            }
        }
        if listed {
            self.depart(Departure::Leave(key));
        }
        if at_rest && let Some(channel) = self.channels.remove(subscription.channel) {
            self.forget_channel(&channel);
        }
    }
}

/// What an ask is for.
pub(crate) struct Wants {
    pub(crate) member: Option<Member>,
    /// The members are to be told.
    pub(crate) roster: bool,
    pub(crate) log: Option<AskLog>,
}

/// What is wanted of the channel's history, where it keeps one.
fn log(app: &App, name: &ChannelName, resume: Option<Resume>) -> Option<AskLog> {
    let cache_ttl = name.kind().cache.then(|| Duration::from_secs(app.cache_seconds.into()));
    (cache_ttl.is_some() || app.history_of(name).is_some()).then_some(AskLog { cache_ttl, resume })
}

/// Limits, then signature, then member: the first "no" is the answer.
fn permit(
    connection: &Connection,
    name: &ChannelName,
    kind: ChannelKind,
    proof: &Proof,
) -> Result<Option<Member>, Refusal> {
    let app = &connection.app();
    if name.as_str().len() > app.limits.channel_name_bytes {
        return Err(Reason::ChannelNameTooLong.into());
    }
    let max = app.limits.channels_per_connection;
    // Asks count beyond their subscription's end: else who comes and goes while nothing is answered asks without limit.
    if connection.subscriptions.borrow().len() >= max || connection.unanswered.get() as usize >= max {
        return Err(Reason::TooManySubscriptions.into());
    }
    let data = proof.channel_data.as_deref();
    match kind.access {
        Access::Public => Ok(None),
        Access::User => Err(Refusal::new(Reason::NotPermitted, "This channel is for the signed-in user only")),
        Access::Private => {
            auth::verify_channel(app, connection.id, name.as_str(), proof.auth.as_deref(), data)?;
            Ok(None)
        }
        Access::Presence => {
            auth::verify_channel(app, connection.id, name.as_str(), proof.auth.as_deref(), data)?;
            match (data, connection.signed_in()) {
                (Some(data), _) => auth::member(app, data).map(Some),
                (None, Some(member)) => Ok(Some(member)),
                (None, None) => Err(Refusal::new(Reason::BadMember, "A presence channel needs channel_data")),
            }
        }
    }
}

fn take_tag(connection: &Connection, channel: &Channel, slot: u32) -> Tag {
    let mut subscriptions = connection.subscriptions.borrow_mut();
    let number = subscriptions.iter().position(|s| s.slot == slot && s.channel == channel.number);
    number.and_then(|number| subscriptions[number].tag.take())
}
