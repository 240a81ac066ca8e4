//! One thread of the engine: a shard, the loop that drains its inbox, and its clock.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use backplane::Backplane;
use model::{App, Apps, Framing, Message, Opening, Reason, Refusal};

use crate::authority::{Asking, Authority, Inquiry};
use crate::connection::{Connection, Way};
use crate::fanout::TURN_MAX;
use crate::hub::Hub;
use crate::outbox::Sink;
use crate::shard::Shard;
use crate::whisper::Whispered;

/// Steps in which a spread close or a drain moves on.
const STEP: Duration = Duration::from_millis(20);

pub struct Worker {
    shard: RefCell<Shard>,
    hub: Arc<Hub>,
    number: usize,
    /// Who asks applications.
    authority: Box<dyn Authority>,
    /// Client events that the backplane has taken and not answered yet, in their order.
    unanswered: RefCell<VecDeque<Whispered>>,
    /// A task awaits what becomes of them.
    whispering: Cell<bool>,
}

impl Worker {
    /// `number`: 0 ..< workers. Lives on the thread that calls [`Worker::run`].
    pub fn new(hub: Arc<Hub>, backplane: Arc<dyn Backplane>, authority: Box<dyn Authority>, number: usize) -> Rc<Self> {
        let shard = RefCell::new(Shard::new(hub.clone(), backplane, number));
        Rc::new(Self { shard, hub, number, authority, unanswered: RefCell::default(), whispering: Cell::new(false) })
    }

    /// Drains the inbox and keeps the clock, for ever. Must run in a `LocalSet`.
    pub async fn run(self: Rc<Self>) {
        tokio::select! {
            () = self.drain_inbox() => {}
            () = self.tick() => {}
        }
    }

    async fn drain_inbox(self: &Rc<Self>) {
        loop {
            self.hub.inboxes[self.number].filled().await;
            while self.turn() {
                self.ask_back();
                tokio::task::yield_now().await;
            }
            self.ask_back();
        }
    }

    fn turn(&self) -> bool {
        let mut shard = self.shard.borrow_mut();
        // Each turn takes what is there, so that frames meet on their way down.
        self.hub.inboxes[self.number].take(&mut shard.backlog);
        shard.turn()
    }

    async fn tick(&self) {
        let began = Instant::now();
        let mut interval = tokio::time::interval(Duration::from_secs(1));
        loop {
            interval.tick().await;
            // Whole seconds for 136 years.
            self.shard.borrow_mut().tick(began.elapsed().as_secs() as u32);
        }
    }

    /// Takes in a connection whose handshake is done. `first`: bytes that go out before anything else.
    ///
    /// # Panics
    /// When `dialect` is not a number in the table of dialects.
    pub fn open(
        self: &Rc<Self>,
        sink: Sink,
        first: Vec<u8>,
        app: Arc<App>,
        dialect: u8,
        opening: Opening,
    ) -> Rc<Connection> {
        self.take_in(Way::Socket(sink), first, app, dialect, opening)
    }

    /// Takes in a connection whose client fetches what waits for it, framed so, by [`Connection::poll_waiting`]. `secret`: what
    /// the client is told with its id, so that nobody else can fetch it.
    ///
    /// # Panics
    /// As [`Self::open`].
    pub fn open_polled(
        self: &Rc<Self>,
        framing: Framing,
        secret: u64,
        app: Arc<App>,
        dialect: u8,
        opening: Opening,
    ) -> Rc<Connection> {
        self.take_in(Way::Polls { framing, secret }, Vec::new(), app, dialect, opening)
    }

    fn take_in(
        self: &Rc<Self>,
        way: Way,
        first: Vec<u8>,
        app: Arc<App>,
        dialect: u8,
        opening: Opening,
    ) -> Rc<Connection> {
        let connection = self.shard.borrow_mut().open(way, first, app, dialect, opening);
        self.send_on();
        connection
    }

    /// Does what a message asks. Call [`Connection::touch`] for every frame, this for messages.
    pub fn receive(self: &Rc<Self>, connection: &Rc<Connection>, message: Message<'_>) {
        self.shard.borrow_mut().receive(connection, message);
        self.send_on();
    }

    /// Closes a connection; its task then sees `Turn::Close`.
    pub fn close(&self, connection: &Rc<Connection>, refusal: impl Into<Refusal>) {
        self.shard.borrow_mut().close(connection, &refusal.into());
    }

    /// The link is over. `label`: why, where the connection was not being closed by us.
    pub fn end(&self, connection: &Rc<Connection>, label: &'static str) {
        self.shard.borrow_mut().end(connection, label);
    }

    /// Open connections, those that are being closed included.
    pub fn connections(&self) -> usize {
        self.shard.borrow().connections.iter().count()
    }

    /// Closes all connections with "come back at once", evenly and in random order over `spread`, holding each exit
    /// back for `linger`; returns when the last connection has ended and the last departure is told.
    pub async fn drain(&self, spread: Duration, linger: Duration) {
        self.shard.borrow_mut().linger = Some(linger);
        let mut connections: Vec<_> = self.shard.borrow().connections.iter().cloned().collect();
        self.close_spread(&mut connections, Reason::Draining, spread).await;
        while !self.is_empty() {
            tokio::time::sleep(STEP).await;
        }
    }

    /// Closes all connections at once, as for a restart, without waiting.
    pub fn close_now(&self) {
        let mut shard = self.shard.borrow_mut();
        let connections: Vec<_> = shard.connections.iter().cloned().collect();
        for connection in connections {
            shard.close(&connection, &Reason::ShuttingDown.into());
        }
    }

    /// Gives each connection its app as it is set now, and closes those whose app is gone; while many are closed, the
    /// others have their turns.
    pub async fn set_apps(&self, apps: &Apps) {
        let connections: Vec<_> = self.shard.borrow().connections.iter().cloned().collect();
        let mut homeless = Vec::new();
        for connection in connections {
            match apps.by_id(&connection.app().id) {
                Some(app) => connection.set_app(app.clone()),
                None => homeless.push(connection),
            }
        }
        self.close_all(homeless.into_iter(), Reason::UnknownApp).await;
    }

    fn is_empty(&self) -> bool {
        let mut shard = self.shard.borrow_mut();
        // Late ones: accepted before the door was shut, or opened since.
        let late: Vec<_> = shard.connections.iter().filter(|c| c.closing().is_none()).cloned().collect();
        for connection in &late {
            shard.close(connection, &Reason::Draining.into());
        }
        shard.flush_exits(Instant::now()) && shard.connections.iter().next().is_none()
    }

    async fn close_spread(&self, connections: &mut Vec<Rc<Connection>>, reason: Reason, spread: Duration) {
        let order = RandomState::new();
        connections.sort_by_cached_key(|connection| order.hash_one(connection.id()));
        let steps = (spread.as_millis() / STEP.as_millis()) as usize;
        for step in 0..steps {
            connections.retain(|connection| connection.closing().is_none());
            if connections.is_empty() {
                return;
            }
            // What is left, evenly over the steps that are left.
            let n = connections.len().div_ceil(steps - step);
            self.close_all(connections.drain(..n), reason).await;
            tokio::time::sleep(STEP).await;
        }
        self.close_all(connections.drain(..), reason).await;
    }

    /// Takes turns with other tasks, as fan-out does. One close takes 10 µs, and 60 where it is the last of 100 channels
    /// (measured).
    async fn close_all(&self, connections: impl Iterator<Item = Rc<Connection>>, reason: Reason) {
        let mut connections = connections.peekable();
        while connections.peek().is_some() {
            self.close_some(&mut connections, reason);
            tokio::task::yield_now().await;
        }
    }

    /// Closes the next ones, for one turn.
    fn close_some(&self, connections: &mut impl Iterator<Item = Rc<Connection>>, reason: Reason) {
        let mut shard = self.shard.borrow_mut();
        let began = Instant::now();
        for connection in connections {
            shard.close(&connection, &reason.into());
            if began.elapsed() > TURN_MAX {
                break;
            }
        }
        shard.flush_exits(Instant::now());
    }

    /// Asks back, spread, whom a gap concerns and whose app wants that.
    fn ask_back(self: &Rc<Self>) {
        let mut returning = std::mem::take(&mut self.shard.borrow_mut().returning);
        if !returning.is_empty() {
            let (worker, spread) = (self.clone(), self.hub.settings.gap_spread);
            tokio::task::spawn_local(async move { worker.close_spread(&mut returning, Reason::Gap, spread).await });
        }
    }

    /// What the shard has collected for others.
    fn send_on(self: &Rc<Self>) {
        self.put_questions();
        self.send_whispers();
    }

    fn put_questions(self: &Rc<Self>) {
        let inquiries = std::mem::take(&mut self.shard.borrow_mut().inquiries);
        for Inquiry { connection, question, resume, tag } in inquiries {
            let (worker, asker, channel) = (self.clone(), connection.clone(), question.channel.clone());
            let about = channel.clone();
            let (answer, turns) = (self.authority.ask(question), connection.turns());
            let task = tokio::task::spawn_local(async move {
                // Never closed.
                let turn = turns.acquire().await;
                let answer = answer.await;
                drop(turn);
                worker.shard.borrow_mut().note_inquired(&asker, about, resume, tag, answer);
            });
            connection.note_asking(Asking::new(channel, task));
        }
    }

    /// Awaits what becomes of the whispers, one after the other: the backplane answers in their order, and in that order they
    /// are told on. What it refuses at once does not wait behind them: so no more wait than the backplane takes.
    fn send_whispers(self: &Rc<Self>) {
        let fresh = std::mem::take(&mut self.shard.borrow_mut().whispers);
        for mut whispered in fresh {
            match whispered.published.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Err(error)) => {
                    self.shard.borrow_mut().note_whispered(whispered, Err(error));
                    continue;
                }
                Poll::Ready(Ok(())) => whispered.published = Box::pin(std::future::ready(Ok(()))),
                Poll::Pending => {}
            }
            self.unanswered.borrow_mut().push_back(whispered);
        }
        if self.unanswered.borrow().is_empty() || self.whispering.replace(true) {
            return;
        }
        let worker = self.clone();
        tokio::task::spawn_local(async move {
            loop {
                let next = worker.unanswered.borrow_mut().pop_front();
                let Some(mut whispered) = next else { break };
                let result = whispered.published.as_mut().await;
                worker.shard.borrow_mut().note_whispered(whispered, result);
            }
            worker.whispering.set(false);
        });
    }
}
