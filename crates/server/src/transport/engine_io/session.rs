//! One client that polls: a task on its connection's worker, asked by whichever worker has the client's request.
//!
//! What waits for the client goes into the answer of the poll that hangs, or of the next one. When the client changes to a WebSocket
//! the task goes on with that, and is a poll's no more.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::{Connection, Worker};
use model::{Framing, Message, Reason};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Sleep, sleep, timeout};

use super::{Beginning, Fault};
use crate::stream::Moving;
use crate::transport::websocket::{self, Ended, WebSocket};

/// How long a client that is being closed may take to fetch the last words.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a change to a WebSocket may take (Engine.IO's `upgradeTimeout`).
const UPGRADE: Duration = Duration::from_secs(10);

/// Requests of one client that may wait for its task: a client has two at a time, and an upgrade.
const ASKS_MAX: usize = 4;

/// "No operation": ends a poll without saying anything.
const NOOP: &[u8] = b"6";

/// For so long the packets of a post are worked off before others have their turn.
const TURN: Duration = Duration::from_millis(1);

/// What a request is told: the body of a poll's answer, or of a post's.
pub(crate) type Reply = oneshot::Sender<Result<Bytes, Fault>>;

/// One request of a client.
pub(crate) enum Ask {
    /// The client fetches what waits.
    Poll { credentials: Option<Box<[u8]>>, reply: Reply },
    /// It says something. `credentials`: what its application may see of this request.
    Post { body: Bytes, credentials: Option<Box<[u8]>>, reply: Reply },
    /// It offers a WebSocket. `answer`: to the upgrade, not yet written; `read`: what came behind it.
    Upgrade { stream: Moving, answer: Vec<u8>, read: Vec<u8> },
}

/// A session as requests find it.
pub(crate) struct Known {
    asks: mpsc::Sender<Ask>,
    /// The id of its app.
    pub(crate) app: Arc<str>,
    /// The page that began it may bring its visitor's cookies.
    pub(crate) may_bring_cookies: bool,
    /// A post is being read.
    posting: AtomicBool,
}

impl Known {
    /// Gives the session a request. False: it is over.
    pub(super) async fn ask(&self, ask: Ask) -> bool {
        self.asks.send(ask).await.is_ok()
    }

    /// Offers a WebSocket. A session that is over, or is asked too much, lets it go.
    pub(crate) fn offer(&self, stream: Moving, answer: Vec<u8>, read: Vec<u8>) {
        let _ = self.asks.try_send(Ask::Upgrade { stream, answer, read });
    }

    /// The right to bring a post's body; `None` while another has it.
    pub(super) fn post(&self) -> Option<Posting<'_>> {
        (!self.posting.swap(true, Relaxed)).then_some(Posting(self))
    }
}

/// A post that is being read; over when it is dropped.
pub(super) struct Posting<'a>(&'a Known);

impl Drop for Posting<'_> {
    fn drop(&mut self) {
        self.0.posting.store(false, Relaxed);
    }
}

/// The sessions of a node by their names, which are secrets.
#[derive(Default)]
pub(crate) struct Sessions {
    known: Mutex<HashMap<Box<str>, Arc<Known>>>,
    /// Those that have made no second request yet.
    fresh: Arc<AtomicUsize>,
}

impl Sessions {
    pub(super) fn find(&self, name: &str) -> Option<Arc<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// A place for a session to begin in; `None` where so many have begun and not been heard of again.
    pub(super) fn place(&self, max: usize) -> Option<Place> {
        let place = Place(self.fresh.clone());
        (self.fresh.fetch_add(1, Relaxed) < max).then_some(place)
    }

    fn put(&self, name: &str, known: Known) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), Arc::new(known));
    }

    fn remove(&self, name: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// Counts a session that has made no second request yet.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Takes a session out of the list however its task ends.
struct Listed {
    sessions: Arc<Sessions>,
    name: String,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.sessions.remove(&self.name);
    }
}

/// A client that polls, seen from its worker.
pub(super) struct Session {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    framing: Framing,
    frame_bytes: usize,
    asks: mpsc::Receiver<Ask>,
    /// The poll that hangs.
    waiting: Option<Reply>,
    stage: Stage,
    /// Until its second request: its place, and when it is given up.
    fresh: Option<(Place, Pin<Box<Sleep>>)>,
}

/// A change to a WebSocket under way.
type Probe = Pin<Box<dyn Future<Output = Option<Box<WebSocket>>>>>;

enum Stage {
    Polls,
    /// A WebSocket was offered, and is being tried.
    Offered(Probe),
    /// It works. Polls are answered at once from here on, so that the client comes to an end with them and says that it changes.
    Tried(Probe),
}

/// What happens next to a session.
enum Next {
    Ask(Ask),
    /// What the poll that hangs is told.
    Words(Vec<Bytes>),
    Probed(Option<Box<WebSocket>>),
    /// It began and was not heard of again.
    GivenUp,
    /// The connection is being closed, and no poll hangs that could be told.
    Closing,
}

impl Session {
    /// Begins a session under this name. The answer to its first request has the first words.
    pub(super) fn begin(
        beginning: Beginning,
        connection: Rc<Connection>,
        frame_bytes: usize,
        sessions: &Arc<Sessions>,
        name: String,
    ) -> oneshot::Receiver<Result<Bytes, Fault>> {
        let Beginning { worker, app, framing, may_bring_cookies, place, patience, .. } = beginning;
        let (sender, asks) = mpsc::channel(ASKS_MAX);
        let posting = AtomicBool::new(false);
        sessions.put(&name, Known { asks: sender, app: app.id.clone(), may_bring_cookies, posting });
        let (reply, answer) = oneshot::channel();
        let listed = Listed { sessions: sessions.clone(), name };
        let fresh = Some((place, Box::pin(sleep(patience))));
        let (waiting, stage) = (Some(reply), Stage::Polls);
        let session = Self { worker, connection, framing, frame_bytes, asks, waiting, stage, fresh };
        tokio::task::spawn_local(session.run(listed));
        answer
    }

    async fn run(mut self, listed: Listed) {
        let mut ended = Ended::new(&self.worker, &self.connection);
        let socket = self.serve_polls().await;
        // Polls that come now are told that there is no such session.
        drop(listed);
        let Self { worker, connection, .. } = self;
        match socket {
            Some(mut socket) => websocket::serve_upgraded(&worker, &connection, &mut socket, &mut ended).await,
            None => ended.set_label("client"),
        }
    }

    /// Serves requests until the session is over, or has become a WebSocket.
    async fn serve_polls(&mut self) -> Option<Box<WebSocket>> {
        loop {
            match poll_fn(|cx| self.poll_next(cx)).await {
                Next::Ask(ask) => {
                    self.fresh = None;
                    self.take(ask).await;
                }
                Next::GivenUp => self.worker.close(&self.connection, Reason::PongTimeout),
                Next::Words(words) => self.tell(&words),
                Next::Probed(None) => self.stage = Stage::Polls,
                Next::Probed(Some(socket)) => match self.stage {
                    Stage::Tried(_) => return Some(socket),
                    _ => self.stage = Stage::Tried(Box::pin(in_time(websocket::taken_over(*socket)))),
                },
                Next::Closing => {
                    // Its next poll has the last words, if it comes soon.
                    let _ = timeout(FAREWELL, self.say_last_words()).await;
                    return None;
                }
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Poll::Ready(Some(ask)) = self.asks.poll_recv(cx) {
            return Poll::Ready(Next::Ask(ask));
        }
        if let Stage::Offered(probe) | Stage::Tried(probe) = &mut self.stage
            && let Poll::Ready(socket) = probe.as_mut().poll(cx)
        {
            return Poll::Ready(Next::Probed(socket));
        }
        if let Some((_, end)) = &mut self.fresh
            && end.as_mut().poll(cx).is_ready()
        {
            self.fresh = None;
            return Poll::Ready(Next::GivenUp);
        }
        // Who has hung up waits no more, and what there is stays for his next poll.
        if self.waiting.as_mut().is_some_and(|reply| reply.poll_closed(cx).is_ready()) {
            self.waiting = None;
        }
        if self.waiting.is_none() {
            return self.connection.poll_closing(cx).map(|()| Next::Closing);
        }
        match self.connection.poll_waiting(cx) {
            Poll::Ready(Some(words)) => Poll::Ready(Next::Words(words)),
            Poll::Ready(None) => Poll::Ready(Next::Closing),
            Poll::Pending if matches!(self.stage, Stage::Tried(_)) => {
                let mut noop = Vec::new();
                self.framing.message(NOOP, &mut noop);
                Poll::Ready(Next::Words(vec![noop.into()]))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    async fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Poll { credentials, reply } => {
                self.note(credentials);
                if self.waiting.replace(reply).is_some_and(|other| !other.is_closed()) {
                    // No client has two polls at a time (engine.io-protocol, "Packet encoding").
                    self.worker.close(&self.connection, Reason::ProtocolError);
                }
            }
            Ask::Post { body, credentials, reply } => {
                self.note(credentials);
                // Who has hung up need not be told.
                let _ = reply.send(self.hear(&body).await);
            }
            Ask::Upgrade { stream, answer, read } => {
                // A second one is dropped, and with it its socket.
                if let (Stage::Polls, Ok(sink)) = (&self.stage, stream.arrive()) {
                    let probed = websocket::probed(self.connection.clone(), sink, answer, read, self.frame_bytes);
                    self.stage = Stage::Offered(Box::pin(in_time(probed)));
                }
            }
        }
    }

    /// The client lives, and may have come with other cookies.
    fn note(&self, credentials: Option<Box<[u8]>>) {
        self.connection.touch();
        if let Some(credentials) = credentials {
            self.connection.set_credentials(credentials.into());
        }
    }

    /// Does what the packets of a post ask.
    async fn hear(&self, body: &[u8]) -> Result<Bytes, Fault> {
        let packets = std::str::from_utf8(body).ok().and_then(|text| self.framing.packets(text));
        let Some(packets) = packets else {
            self.worker.close(&self.connection, Reason::ProtocolError);
            return Err(Fault::BadRequest);
        };
        let mut began = Instant::now();
        for packet in packets {
            // Others on this thread have their turns.
            if began.elapsed() > TURN {
                tokio::task::yield_now().await;
                began = Instant::now();
            }
            if packet.len() > self.frame_bytes {
                self.worker.close(&self.connection, Reason::FrameTooLarge);
                return Err(Fault::TooLarge);
            }
            self.worker.receive(&self.connection, Message::Text(packet));
        }
        Ok(Bytes::from_static(b"ok"))
    }

    fn tell(&mut self, words: &[Bytes]) {
        let words = words.concat();
        let body = Bytes::copy_from_slice(self.framing.body(&words));
        let told = self.waiting.take().map(|reply| reply.send(Ok(body)));
        if told.is_some_and(|told| told.is_err()) {
            // He hung up at this very moment, and what was for him is gone: he must begin anew.
            self.worker.close(&self.connection, Reason::ClientLeft);
        }
    }

    /// Waits for a poll that can have what waits.
    async fn say_last_words(&mut self) {
        while self.connection.has_waiting() {
            match self.asks.recv().await {
                Some(Ask::Poll { reply, .. }) => self.waiting = Some(reply),
                Some(_) => continue,
                None => return,
            }
            if let Poll::Ready(Next::Words(words)) = poll_fn(|cx| Poll::Ready(self.poll_next(cx))).await {
                self.tell(&words);
            }
        }
    }
}

async fn in_time(probe: impl Future<Output = Option<WebSocket>>) -> Option<Box<WebSocket>> {
    timeout(UPGRADE, probe).await.ok().flatten().map(Box::new)
}
