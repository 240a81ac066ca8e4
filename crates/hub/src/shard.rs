//! The maps of one worker: connections and channels, both ways. Synchronous throughout: nothing here awaits, so nothing
//! changes under a borrow.
//!
//! What would end a connection while maps are being walked is put on a list (`doomed`) and done by [`Shard::settle`].

use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backplane::{Backplane, Item};
use bytes::Bytes;
use model::{Action, App, ChannelKey, Command, Message, Notice, Opening, Reason, Refusal, UserId};

use crate::authority::Inquiry;
use crate::channel::Channel;
use crate::connection::{Connection, Identity, Shared, Slow, Way};
use crate::hub::Hub;
use crate::liveness::Wheel;
use crate::slots::Slots;
use crate::stats::WorkerStats;
use crate::user::Account;
use crate::whisper::Whispered;

/// Something the backplane is told when a subscription ends.
pub(crate) enum Departure {
    /// A presence subscription is gone.
    Exit(Arc<ChannelKey>, UserId),
    /// The worker's last subscription of a channel is gone.
    Leave(Arc<ChannelKey>),
}

/// An ask on its way. It may outlive its subscription, and is answered for all the same.
pub(crate) struct Asked {
    /// Whose limit it counts against. Nobody's, where the client did not ask for the channel by itself.
    pub(crate) connection: Weak<Connection>,
    /// On presence and users' channels.
    pub(crate) user: Option<UserId>,
}

pub(crate) struct Shard {
    pub(crate) hub: Arc<Hub>,
    pub(crate) backplane: Arc<dyn Backplane>,
    /// This worker's number.
    pub(crate) worker: usize,
    pub(crate) shared: Rc<Shared>,
    pub(crate) stats: Arc<WorkerStats>,
    pub(crate) connections: Slots<Rc<Connection>>,
    /// By the sequence of their socket id.
    pub(crate) sequences: HashMap<u32, u32>,
    pub(crate) channels: Slots<Box<Channel>>,
    pub(crate) names: HashMap<Arc<ChannelKey>, u32>,
    /// Channels with work, in turn.
    pub(crate) ready: VecDeque<u32>,
    /// Taken from the inbox and not yet given to channels.
    pub(crate) backlog: VecDeque<Item>,
    /// A link gap being told: the next connection, and where the walk ends.
    pub(crate) link_gap: Option<(u32, u32)>,
    /// Asks without an answer, by generation.
    pub(crate) asked: HashMap<u32, Asked>,
    pub(crate) generation: u32,
    pub(crate) wheel: Wheel,
    pub(crate) doomed: Vec<(Rc<Connection>, Refusal)>,
    /// To be asked back over a while: their app wants it so after a gap.
    pub(crate) returning: Vec<Rc<Connection>>,
    /// While draining: how long an exit is held back, so that who comes back elsewhere was never away.
    pub(crate) linger: Option<Duration>,
    /// Client events given to the backplane since the worker last looked.
    pub(crate) whispers: Vec<Whispered>,
    /// Questions to applications, to be put.
    pub(crate) inquiries: Vec<Inquiry>,
    /// Held back while draining.
    exits: VecDeque<(Instant, Arc<ChannelKey>, UserId)>,
    /// Bytes that the inbox may have back after the turn.
    pub(crate) freed: usize,
    actions: Vec<Action>,
    scratch: Vec<u8>,
}

impl Shard {
    pub(crate) fn new(hub: Arc<Hub>, backplane: Arc<dyn Backplane>, worker: usize) -> Self {
        let stats = hub.stats()[worker].clone();
        let shared = Rc::new(Shared {
            now: 0.into(),
            queued: 0.into(),
            leaving: 0.into(),
            outbox_max: hub.settings.outbox_bytes,
            stats: stats.clone(),
        });
        Self {
            hub,
            backplane,
            worker,
            shared,
            stats,
            connections: Slots::default(),
            sequences: HashMap::new(),
            channels: Slots::default(),
            names: HashMap::new(),
            ready: VecDeque::new(),
            backlog: VecDeque::new(),
            link_gap: None,
            asked: HashMap::new(),
            generation: 0,
            wheel: Wheel::default(),
            doomed: Vec::new(),
            returning: Vec::new(),
            linger: None,
            whispers: Vec::new(),
            inquiries: Vec::new(),
            exits: VecDeque::new(),
            freed: 0,
            actions: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Takes a connection in: greets it and does what its URL asked for.
    pub(crate) fn open(
        &mut self,
        way: Way,
        first: Vec<u8>,
        app: Arc<App>,
        dialect: u8,
        opening: Opening,
    ) -> Rc<Connection> {
        let stats = self.stats.link(&app.id, dialect);
        stats.connections.add(1);
        stats.opened.add(1);
        let identity = Identity {
            id: self.hub.next_socket_id(),
            slot: self.connections.next(),
            app,
            dialect: self.hub.dialects[usize::from(dialect)],
            state: opening.state,
            stats,
        };
        let session = match &way {
            Way::Polls { secret, .. } => Some(identity.id.with_secret(*secret)),
            Way::Socket(_) => None,
        };
        let connection = Rc::new(Connection::new(identity, way, self.shared.clone()));
        let slot = self.connections.insert(connection.clone());
        self.sequences.insert(connection.id.sequence(), slot);
        self.wheel.put(&connection, self.shared.now.get() + connection.heartbeat().ping_after);
        self.welcome(&connection, session.as_deref(), first, opening.second_words);
        for (command, tag) in opening.commands {
            self.obey(&connection, command, tag);
        }
        self.settle();
        connection
    }

    /// The first words, in one write with what stands before them.
    fn welcome(&mut self, connection: &Connection, session: Option<&str>, mut first: Vec<u8>, second: &str) {
        let app = connection.app();
        let welcome = Notice::Welcome { socket_id: connection.id, session, app: &app };
        let payload = &mut self.scratch;
        payload.clear();
        connection.dialect.notice(&connection.state.get(), &welcome, payload);
        if !payload.is_empty() {
            connection.framing().message(payload, &mut first);
        }
        if !second.is_empty() {
            connection.framing().message(second.as_bytes(), &mut first);
        }
        // The outbox is empty, so it is never too much.
        let _ = connection.send(&[first.into()]);
    }

    /// Reads one message of a client and does what it asks.
    pub(crate) fn receive(&mut self, connection: &Rc<Connection>, message: Message<'_>) {
        if connection.closing().is_some() {
            return;
        }
        let bytes = match &message {
            Message::Text(text) => text.len(),
            Message::Binary(bytes) => bytes.len(),
        };
        connection.stats.received.add(1);
        connection.stats.received_bytes.add(bytes as u64);
        let mut state = connection.state.get();
        let mut actions = std::mem::take(&mut self.actions);
        connection.dialect.decode(&mut state, message, &mut actions);
        connection.state.set(state);
        for action in actions.drain(..) {
            match action {
                Action::Command(command, tag) => self.obey(connection, command, tag),
                Action::Reply(payload) => self.send(connection, &payload),
                Action::Introduce => self.tell(connection, &Notice::Introduced { socket_id: connection.id }),
                Action::Close(refusal) => self.doom(connection, refusal),
            }
        }
        self.actions = actions;
        self.settle();
    }

    fn obey(&mut self, connection: &Rc<Connection>, command: Command, tag: model::Tag) {
        match command {
            Command::Subscribe { channel, proof, resume } => self.subscribe(connection, channel, proof, resume, tag),
            Command::Unsubscribe { channel } => self.unsubscribe(connection, channel, &tag),
            Command::Whisper { channel, event, data } => self.whisper(connection, channel, event, data, tag),
            Command::SignIn { auth, user_data } => self.sign_in(connection, auth.as_deref(), user_data, tag),
        }
    }

    /// The link has ended: nothing of the connection is left.
    pub(crate) fn end(&mut self, connection: &Rc<Connection>, label: &'static str) {
        self.leave_all(connection);
        if self.connections.remove(connection.slot).is_some() {
            self.sequences.remove(&connection.id.sequence());
            connection.stats.connections.sub(1);
            connection.stats.count_closed(connection.closing().unwrap_or(label));
        }
        connection.finish(label);
    }

    /// Spells a notice and sends it.
    pub(crate) fn tell(&mut self, connection: &Rc<Connection>, notice: &Notice<'_>) {
        let mut payload = std::mem::take(&mut self.scratch);
        payload.clear();
        connection.dialect.notice(&connection.state.get(), notice, &mut payload);
        if !payload.is_empty() {
            self.send(connection, &payload);
        }
        self.scratch = payload;
    }

    pub(crate) fn send(&mut self, connection: &Rc<Connection>, payload: &[u8]) {
        let mut frame = Vec::with_capacity(payload.len() + 10);
        connection.framing().message(payload, &mut frame);
        self.send_frames(connection, frame);
    }

    /// Sends messages that are framed already.
    pub(crate) fn send_frames(&mut self, connection: &Rc<Connection>, frames: Vec<u8>) {
        if let Err(Slow) = connection.send(&[frames.into()]) {
            self.doom(connection, Reason::SlowConsumer.into());
        }
    }

    /// Puts a connection on the list of those to close.
    pub(crate) fn doom(&mut self, connection: &Rc<Connection>, refusal: Refusal) {
        self.doomed.push((connection.clone(), refusal));
    }

    /// Closes whom the last step doomed, and whoever is fullest while the outboxes hold too much together.
    pub(crate) fn settle(&mut self) {
        while let Some((connection, refusal)) = self.doomed.pop() {
            self.close(&connection, &refusal);
        }
        let share = self.hub.settings.outbox_total_bytes / self.hub.settings.workers;
        // What is on its way out frees itself within a second.
        let mut excess = self.shared.staying().saturating_sub(share);
        if excess == 0 {
            return;
        }
        let mut fullest: Vec<Rc<Connection>> =
            self.connections.iter().filter(|c| c.waiting() > 0 && c.closing().is_none()).cloned().collect();
        fullest.sort_by_key(|connection| std::cmp::Reverse(connection.waiting()));
        for connection in fullest {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(connection.waiting());
            self.close(&connection, &Reason::SlowConsumer.into());
        }
    }

    /// Leaves all channels at once and says goodbye; the connection's task flushes and ends.
    pub(crate) fn close(&mut self, connection: &Rc<Connection>, refusal: &Refusal) {
        if connection.closing().is_some() {
            return;
        }
        connection.log_refusal("a connection is closed", "", refusal);
        self.leave_all(connection);
        let goodbye = connection.dialect.goodbye(&connection.state.get(), refusal);
        let mut last_words = Vec::new();
        if !goodbye.message.is_empty() {
            connection.framing().message(&goodbye.message, &mut last_words);
        }
        connection.framing().close(goodbye.code, &goodbye.reason, &mut last_words);
        connection.begin_close(refusal.reason.row().label, Bytes::from(last_words));
    }

    fn leave_all(&mut self, connection: &Rc<Connection>) {
        let subscriptions = connection.subscriptions.take();
        let account = connection.more.take().and_then(|more| more.account);
        for subscription in subscriptions.into_iter().chain(account.into_iter().flat_map(Account::subscriptions)) {
            self.remove_subscription(connection, subscription);
        }
    }

    /// Tells the backplane. While draining an exit is held back for the linger; a leave never is: somebody may come to the
    /// channel meanwhile, and a late leave would take it from him.
    pub(crate) fn depart(&mut self, departure: Departure) {
        match (self.linger, departure) {
            (Some(linger), Departure::Exit(channel, user)) => {
                self.exits.push_back((Instant::now() + linger, channel, user));
            }
            (None, Departure::Exit(channel, user)) => self.backplane.exit(self.worker, channel, user),
            (_, Departure::Leave(channel)) => self.backplane.leave(self.worker, channel),
        }
    }

    /// Sends the exits that are due; true when none is left.
    pub(crate) fn flush_exits(&mut self, now: Instant) -> bool {
        while self.exits.front().is_some_and(|(due, ..)| *due <= now) {
            if let Some((_, channel, user)) = self.exits.pop_front() {
                self.backplane.exit(self.worker, channel, user);
            }
        }
        self.exits.is_empty()
    }

    /// An ask was answered; on presence and users' channels, whom it was about.
    pub(crate) fn note_answer(&mut self, generation: u32) -> Option<UserId> {
        let Asked { connection, user } = self.asked.remove(&generation)?;
        if let Some(connection) = connection.upgrade() {
            connection.unanswered.set(connection.unanswered.get() - 1);
        }
        user
    }

    /// The slot of a channel, made when it is new here.
    pub(crate) fn channel_slot(&mut self, key: ChannelKey) -> u32 {
        if let Some(&slot) = self.names.get(&key) {
            return slot;
        }
        let key = Arc::new(key);
        let slot = self.channels.next();
        self.channels.insert(Box::new(Channel::new(slot, key.clone())));
        self.names.insert(key, slot);
        slot
    }

    /// Forgets a channel that nobody here subscribes to any more. The channel is already out of its slot.
    pub(crate) fn forget_channel(&mut self, channel: &Channel) {
        self.names.remove(&channel.key);
    }
}
