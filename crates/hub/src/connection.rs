//! One client: its subscriptions, its dialect's state, its way out. Belongs to one worker for life.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use model::{App, ChannelName, Dialect, Encoding, Framing, Heartbeat, Refusal, SocketId, State, Tag, UserId, View};
use tokio::sync::Semaphore;

use crate::authority::{ASKING_MAX, Asking};
use crate::outbox::{Outbox, Sink};
use crate::stats::{LinkStats, WorkerStats};
use crate::user::Account;

/// With more than this in its outbox a connection is not read from: who does not listen is not heard.
const READ_WHILE_BELOW: usize = 64 << 10;

/// What all connections of a worker share.
pub(crate) struct Shared {
    /// Whole seconds since the worker began.
    pub(crate) now: Cell<u32>,
    /// Bytes in all outboxes, and those that their sinks hold.
    pub(crate) queued: Cell<usize>,
    /// Of them those of connections that are being closed.
    pub(crate) leaving: Cell<usize>,
    /// Bytes one outbox may hold.
    pub(crate) outbox_max: usize,
    pub(crate) stats: Arc<WorkerStats>,
}

impl Shared {
    /// The same of those who stay.
    pub(crate) fn staying(&self) -> usize {
        self.queued.get() - self.leaving.get()
    }

    /// One connection has `now` bytes where it had `before`.
    fn recount(&self, before: usize, now: usize, leaving: bool) {
        self.queued.set(self.queued.get() - before + now);
        if leaving {
            self.leaving.set(self.leaving.get() - before + now);
        }
        self.stats.queued_bytes.set(self.queued.get() as u64);
    }
}

/// A connection's side of a subscription.
pub(crate) struct Subscription {
    /// The channel's slot in the worker, and the subscription's in the channel.
    pub(crate) channel: u32,
    pub(crate) slot: u32,
    /// On presence channels and the user's own.
    pub(crate) user: Option<UserId>,
    /// Goes back with the answer.
    pub(crate) tag: Tag,
}

/// What only some connections need.
#[derive(Default)]
pub(crate) struct More {
    /// Who is signed in, or about to be.
    pub(crate) account: Option<Account>,
    /// Channels about which the application is being asked.
    pub(crate) asking: Vec<Asking>,
    /// What the application may see of the client's newest request.
    credentials: Option<Rc<[u8]>>,
    /// How many of those questions may be under way; the others wait.
    turns: Option<Rc<Semaphore>>,
    /// The last second with a whisper, and how many it had.
    whispers: (u32, u32),
}

pub struct Connection {
    pub(crate) id: SocketId,
    pub(crate) slot: u32,
    /// Replaced when its settings change; the id stays.
    app: RefCell<Arc<App>>,
    pub(crate) dialect: &'static dyn Dialect,
    framing: Cell<Framing>,
    pub(crate) state: Cell<State>,
    pub(crate) subscriptions: RefCell<Vec<Subscription>>,
    pub(crate) more: RefCell<Option<Box<More>>>,
    /// When something last came from the client, in the worker's seconds.
    pub(crate) seen: Cell<u32>,
    /// Asked whether it lives, and not heard since.
    pub(crate) pinged: Cell<bool>,
    /// Asks to the backplane that are not answered yet, those of subscriptions that are gone included.
    pub(crate) unanswered: Cell<u32>,
    /// It is to be asked back after a gap.
    pub(crate) returning: Cell<bool>,
    pub(crate) stats: Arc<LinkStats>,
    /// None while its client polls: then all waits in the outbox.
    sink: OnceCell<Sink>,
    outbox: RefCell<Outbox>,
    /// What waits here, as the worker has counted it.
    waiting: Cell<usize>,
    /// Of the task that reads and flushes; woken only when there is something to flush or the end has come.
    waker: RefCell<Option<Waker>>,
    /// More was to be sent than it may hold, or its user is terminated: it is as good as closed, and hears no more.
    full: Cell<bool>,
    /// Why it is being closed. Set once.
    closing: Cell<Option<&'static str>>,
    shared: Rc<Shared>,
}

/// Who a connection is, for [`Connection::new`].
pub(crate) struct Identity {
    pub(crate) id: SocketId,
    pub(crate) slot: u32,
    pub(crate) app: Arc<App>,
    pub(crate) dialect: &'static dyn Dialect,
    pub(crate) state: State,
    pub(crate) stats: Arc<LinkStats>,
}

/// How a connection's client is reached at first.
pub(crate) enum Way {
    Socket(Sink),
    /// It fetches what waits, framed so.
    Polls {
        framing: Framing,
        secret: u64,
    },
}

/// The outbox is over its limit: the connection is to be closed.
#[derive(Debug)]
pub(crate) struct Slow;

/// What a connection's task is to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Wait for the client.
    Read,
    /// Wait for the socket to take more; do not read.
    Hold,
    /// Flush what is left and end.
    Close,
    /// The socket is gone.
    Broken,
}

impl Connection {
    pub(crate) fn new(identity: Identity, way: Way, shared: Rc<Shared>) -> Self {
        let (framing, sink) = match way {
            Way::Socket(sink) => (Framing::WebSocket, OnceCell::from(sink)),
            Way::Polls { framing, .. } => (framing, OnceCell::new()),
        };
        let Identity { id, slot, app, dialect, state, stats } = identity;
        Self {
            id,
            slot,
            app: app.into(),
            dialect,
            framing: framing.into(),
            state: Cell::new(state),
            subscriptions: RefCell::default(),
            more: RefCell::default(),
            seen: Cell::new(shared.now.get()),
            pinged: Cell::new(false),
            unanswered: Cell::new(0),
            returning: Cell::new(false),
            stats,
            sink,
            outbox: RefCell::default(),
            waiting: Cell::new(0),
            waker: RefCell::default(),
            full: Cell::new(false),
            closing: Cell::new(None),
            shared,
        }
    }

    pub fn id(&self) -> SocketId {
        self.id
    }

    /// How its subscriptions of this view are spelled.
    pub(crate) fn encoding(&self, view: View) -> Encoding {
        Encoding { view, ..self.dialect.encoding(&self.state.get()) }
    }

    /// Its app as it is set now.
    pub(crate) fn app(&self) -> Arc<App> {
        self.app.borrow().clone()
    }

    /// From here on the app is set like this.
    pub(crate) fn set_app(&self, app: Arc<App>) {
        self.app.replace(app);
    }

    /// How messages are put on its link now.
    pub(crate) fn framing(&self) -> Framing {
        self.framing.get()
    }

    pub(crate) fn heartbeat(&self) -> Heartbeat {
        self.dialect.heartbeat(&self.state.get(), &self.app())
    }

    /// The question whether its client lives.
    pub(crate) fn spell_beat(&self) -> Vec<u8> {
        let (mut beat, mut framed) = (Vec::new(), Vec::new());
        self.dialect.beat(&self.state.get(), &mut beat);
        if beat.is_empty() {
            self.framing().ping(&mut framed);
        } else {
            self.framing().message(&beat, &mut framed);
        }
        framed
    }

    /// The socket, for the transport's reads. None while its client polls.
    pub fn sink(&self) -> Option<&Sink> {
        self.sink.get()
    }

    /// What its application may see of the client's newest request, replacing what came with earlier ones. The hub only keeps it.
    pub fn set_credentials(&self, credentials: Rc<[u8]>) {
        self.more.borrow_mut().get_or_insert_default().credentials = Some(credentials);
    }

    pub(crate) fn credentials(&self) -> Option<Rc<[u8]>> {
        self.more.borrow().as_ref()?.credentials.clone()
    }

    /// True while its application is being asked about this channel.
    pub(crate) fn is_asking(&self, channel: &ChannelName) -> bool {
        self.more.borrow().as_ref().is_some_and(|more| more.asking.iter().any(|asking| asking.channel == *channel))
    }

    /// The client's turns to have its application asked.
    pub(crate) fn turns(&self) -> Rc<Semaphore> {
        let mut more = self.more.borrow_mut();
        more.get_or_insert_default().turns.get_or_insert_with(|| Rc::new(Semaphore::new(ASKING_MAX))).clone()
    }

    pub(crate) fn note_asking(&self, asking: Asking) {
        self.more.borrow_mut().get_or_insert_default().asking.push(asking);
    }

    /// About how many channels it is being asked.
    pub(crate) fn asking(&self) -> usize {
        self.more.borrow().as_ref().map_or(0, |more| more.asking.len())
    }

    /// The application need not answer about this channel any more, or has done so. False when it was not asked.
    pub(crate) fn forget_asking(&self, channel: &ChannelName) -> bool {
        let mut more = self.more.borrow_mut();
        let Some(asking) = more.as_mut().map(|more| &mut more.asking) else { return false };
        let place = asking.iter().position(|asking| asking.channel == *channel);
        place.map(|place| asking.swap_remove(place)).is_some()
    }

    /// Ready with what waits, for the answer to a poll; with `None` when nothing does and the connection is being closed.
    pub fn poll_waiting(&self, cx: &mut Context<'_>) -> Poll<Option<Vec<Bytes>>> {
        self.note_waker(cx);
        let waiting = self.outbox.borrow_mut().take();
        self.recount();
        match (waiting.is_empty(), self.closing.get()) {
            (false, _) => Poll::Ready(Some(waiting)),
            (true, Some(_)) => Poll::Ready(None),
            (true, None) => Poll::Pending,
        }
    }

    /// True when something waits.
    pub fn has_waiting(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Ready when the connection is being closed.
    pub fn poll_closing(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.note_waker(cx);
        if self.closing.get().is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Its client polls no more: it has this WebSocket now, and what waits goes there.
    pub fn attach(&self, sink: Sink) {
        let waiting = self.outbox.borrow_mut().take().concat();
        self.recount();
        let frames = self.framing.replace(Framing::WebSocket).to_websocket(&waiting);
        if self.sink.set(sink).is_ok() && !frames.is_empty() {
            self.write(&[frames.into()]);
        }
    }

    /// Bytes of a transport's own (a pong, the reply to a close): they keep their place among the frames. The limit does
    /// not apply; what a client can make a transport say is bounded by not reading from the slow.
    pub fn send_own(&self, bytes: &[u8]) {
        // After our own close frame nothing may follow.
        if self.closing.get().is_none() {
            self.write(&[Bytes::copy_from_slice(bytes)]);
        }
    }

    /// Writes whole frames, in one write where the socket takes them; what it does not take waits. False: the connection is
    /// being closed and hears no more.
    ///
    /// # Errors
    /// Told once; what comes after it is not sent either.
    pub(crate) fn send(&self, slices: &[Bytes]) -> Result<bool, Slow> {
        if self.closing.get().is_some() || self.full.get() {
            return Ok(false);
        }
        let outbox = self.outbox.borrow();
        let total: usize = slices.iter().map(Bytes::len).sum();
        if !outbox.is_empty() && outbox.weight() + total > self.shared.outbox_max {
            self.full.set(true);
            return Err(Slow);
        }
        drop(outbox);
        self.stats.sent_bytes.add(total as u64);
        self.write(slices);
        Ok(true)
    }

    fn write(&self, slices: &[Bytes]) {
        let mut outbox = self.outbox.borrow_mut();
        if !outbox.is_empty() {
            // Its task already waits for the socket.
            outbox.push_rest(slices, 0);
        } else if let Some(sink) = self.sink.get() {
            match sink.try_write(slices) {
                Ok(n) => outbox.push_rest(slices, n),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => outbox.push_rest(slices, 0),
                // The reading side finds out.
                Err(_) => {}
            }
            if !outbox.is_empty() || sink.is_pending() {
                self.wake();
            }
        } else {
            outbox.push_rest(slices, 0);
            self.wake();
        }
        drop(outbox);
        self.recount();
    }

    /// Tells the worker what waits here by now.
    fn recount(&self) {
        let now = self.outbox.borrow().weight() + self.sink.get().map_or(0, Sink::pending);
        let before = self.waiting.replace(now);
        if now != before {
            self.shared.recount(before, now, self.closing.get().is_some());
        }
    }

    /// Flushes, and says what comes next. The task is woken again when that changes.
    pub fn poll_turn(&self, cx: &mut Context<'_>) -> Turn {
        self.note_waker(cx);
        let flushed = self.poll_flush(cx);
        match (self.closing.get(), flushed) {
            (_, Poll::Ready(false)) => Turn::Broken,
            (Some(_), _) => Turn::Close,
            (None, Poll::Ready(true)) => Turn::Read,
            (None, Poll::Pending) if self.outbox.borrow().bytes() > READ_WHILE_BELOW => Turn::Hold,
            (None, Poll::Pending) => Turn::Read,
        }
    }

    fn note_waker(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Ready when nothing waits any more (`true`) or the socket is broken (`false`).
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let flushed = self.flush_what_goes(cx);
        self.recount();
        flushed
    }

    fn flush_what_goes(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut outbox = self.outbox.borrow_mut();
        let Some(sink) = self.sink.get() else { return Poll::Ready(false) };
        while !outbox.is_empty() || sink.is_pending() {
            match sink.poll_write_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Ready(Ok(())) => {}
            }
            match sink.try_flush() {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(_) => return Poll::Ready(false),
            }
            if outbox.write_to(sink).is_err() {
                return Poll::Ready(false);
            }
        }
        Poll::Ready(true)
    }

    /// It is to be closed, and hears nothing before that.
    pub(crate) fn stop(&self) {
        self.full.set(true);
    }

    /// Says the last words and lets the task end. `label`: the reason, for the counters.
    pub(crate) fn begin_close(&self, label: &'static str, last_words: Bytes) {
        if self.closing.get().is_none() {
            self.write(&[last_words]);
            self.closing.set(Some(label));
            self.shared.leaving.set(self.shared.leaving.get() + self.waiting());
            self.wake();
        }
    }

    /// For whoever looks for the reason of one client's trouble: at the level `debug`.
    pub(crate) fn log_refusal(&self, what: &'static str, channel: &str, refusal: &Refusal) {
        tracing::debug!(app = %self.app().id, socket = %self.id, channel, why = refusal.text(), "{what}");
    }

    /// Why it is being closed.
    pub fn closing(&self) -> Option<&'static str> {
        self.closing.get()
    }

    /// The link is over: gives the outbox's memory back, and nothing can be sent or closed any more, whoever still holds it.
    pub(crate) fn finish(&self, label: &'static str) {
        self.outbox.borrow_mut().clear();
        let before = self.waiting.take();
        self.shared.recount(before, 0, self.closing.get().is_some());
        if self.closing.get().is_none() {
            self.closing.set(Some(label));
        }
    }

    /// What waits here, in the outbox and in the sink.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.get()
    }

    pub(crate) fn outbox_bytes(&self) -> usize {
        self.outbox.borrow().bytes()
    }

    /// True while the socket is so far behind that its client is not heard: its silence means nothing.
    pub(crate) fn is_held(&self) -> bool {
        // Whoever polls is heard however far it is behind.
        self.sink.get().is_some() && self.outbox_bytes() > READ_WHILE_BELOW
    }

    /// Counts a whisper. False when this second of the worker's clock has had `max` already; 0 is no limit.
    pub(crate) fn may_whisper(&self, max: u32) -> bool {
        if max == 0 {
            return true;
        }
        let now = self.shared.now.get();
        let mut more = self.more.borrow_mut();
        let (second, n) = &mut more.get_or_insert_default().whispers;
        if *second != now {
            (*second, *n) = (now, 0);
        }
        *n += 1;
        *n <= max
    }

    /// Something came from the client.
    pub fn touch(&self) {
        self.seen.set(self.shared.now.get());
        self.pinged.set(false);
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}
