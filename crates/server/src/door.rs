//! What a client's first request asks for: an upgrade to one of the dialects, or an answer of the HTTP API.
//!
//! An ordinary upgrade is answered at once ([`crate::upgrade`]). All else is HTTP/1.1 by hyper; an upgrade there leaves hyper and
//! takes the bare stream along with the bytes that were already read.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use dialects::{DIALECTS, PLAIN, PUSHER, SOCKET_IO};
use http_body_util::Full;
use hub::{Connection, Hub, Sink, Worker};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use model::dialect::Goodbye;
use model::{App, Dialect, OpenRequest, Opening, Reason, Refusal, State, WhenFull};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use crate::api;
use crate::directory::Directory;
use crate::gate::Gate;
use crate::gateway_auth::{self, Gateway};
use crate::listen::Handshake;
use crate::metrics::Metrics;
use crate::origin::is_foreign;
use crate::stream::{Moving, Stream};
use crate::transport::engine_io::{EngineIo, Known};
use crate::transport::websocket;
use crate::upgrade;

pub(crate) type Answer = Response<Full<Bytes>>;

/// What serving a client needs, on one worker's thread.
pub(crate) struct Door {
    pub(crate) worker: Rc<Worker>,
    /// `None`: clients speak plain.
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) api: api::Api,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) draining: Arc<AtomicBool>,
    /// API requests without an answer yet, of the whole node.
    pub(crate) in_flight: Arc<AtomicUsize>,
    /// From accept to the end of the first request's head; also for reading a body.
    pub(crate) patience: Duration,
    pub(crate) frame_bytes: usize,
    pub(crate) engine_io: EngineIo,
    /// What stands before every path; empty: nothing.
    pub(crate) path_prefix: String,
    /// Where the first bytes of plain sockets are read.
    pub(crate) head: RefCell<Box<[u8; FIRST_BYTES]>>,
}

/// How long a kept connection may be silent, or take for the head of a further request. Longer than the pools of most
/// clients keep theirs, so that it is they who close.
const IDLE: Duration = Duration::from_secs(90);

/// hyper's buffer for a request; a head that does not fit is refused.
const HEAD_BYTES: usize = 64 << 10;

/// First bytes that are read at once; an upgrade that is longer is hyper's.
pub(crate) const FIRST_BYTES: usize = 8 << 10;

const PLAIN_ON_TLS: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 62\r\nConnection: close\r\n\r\nThis is plain HTTP on an HTTPS port: write https:// or wss://\n";

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES);
    builder
}

/// Counts one request that is being answered.
struct InFlight<'a>(&'a AtomicUsize);

impl<'a> InFlight<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A granted upgrade, waiting for its stream.
pub(crate) enum Upgrade {
    Open {
        app: Arc<App>,
        dialect: u8,
        opening: Opening,
        credentials: Option<Rc<[u8]>>,
    },
    /// A session that began with polls is to go on here.
    Join(Arc<Known>),
    TurnAway {
        goodbye: Goodbye,
        reason: &'static str,
    },
}

/// A client that is in. `read`: bytes that came along with its upgrade.
struct Client {
    connection: Rc<Connection>,
    read: Vec<u8>,
}

/// What a plain socket said first.
enum First {
    Upgrade { answer: Vec<u8>, upgrade: Upgrade, read: Vec<u8> },
    Other(Vec<u8>),
}

/// What an upgrade asks for, whoever has read its head.
pub(crate) struct Asked<'a> {
    pub(crate) dialect: usize,
    /// What follows the dialect's name in the path.
    pub(crate) rest: &'a str,
    pub(crate) query: &'a str,
    pub(crate) origin: Option<&'a [u8]>,
    pub(crate) host: Option<&'a [u8]>,
    /// The client polls, and may change to a WebSocket.
    pub(crate) may_upgrade: bool,
}

impl Door {
    /// Serves one socket to its end.
    pub(crate) async fn serve(self: Rc<Self>, stream: TcpStream, peer: IpAddr, handshake: Handshake) {
        let worker = self.worker.clone();
        let frame_bytes = self.frame_bytes;
        // Boxed: it is short, and must not make the task larger that stays.
        if let Some(client) = Box::pin(self.let_in(stream, peer, handshake)).await {
            websocket::serve(worker, client.connection, client.read, frame_bytes).await;
        }
    }

    /// What comes before the WebSocket; all there is, where no WebSocket comes.
    async fn let_in(self: Rc<Self>, stream: TcpStream, peer: IpAddr, handshake: Handshake) -> Option<Client> {
        let deadline = Instant::now() + self.patience;
        if let Some(tls) = &self.tls {
            let stream = Box::pin(timeout_at(deadline, self.shake_hands(tls, stream))).await.ok()??;
            return Box::pin(self.http(stream, Vec::new(), peer, handshake, deadline)).await;
        }
        let mut sink = Sink::Plain(stream);
        let read = timeout_at(deadline, poll_fn(|cx| self.read_first(&mut sink, peer, cx))).await.ok()?.ok()?;
        // Unreachable otherwise: it was made just above.
        let Sink::Plain(stream) = sink else { return None };
        let read = match read {
            First::Upgrade { answer, upgrade, read } => {
                drop(handshake);
                return self.begin(Stream::Plain(stream), answer, upgrade, read);
            }
            First::Other(read) => read,
        };
        Box::pin(self.http(Stream::Plain(stream), read, peer, handshake, deadline)).await
    }

    /// The first bytes of a plain socket, and the upgrade if they are one.
    fn read_first(&self, sink: &mut Sink, peer: IpAddr, cx: &mut Context<'_>) -> Poll<io::Result<First>> {
        // Shared by all: nothing awaits while it is borrowed.
        let mut buffer = self.head.borrow_mut();
        let n = loop {
            ready!(sink.poll_read_ready(cx))?;
            match sink.try_read(&mut buffer[..]) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => break n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        };
        let bytes = &buffer[..n];
        let first = upgrade::read(bytes).and_then(|head| self.upgrade_at_once(&head, bytes, peer));
        Poll::Ready(Ok(first.unwrap_or_else(|| First::Other(bytes.to_vec()))))
    }

    /// The answer to an ordinary upgrade, where one of the dialects lives at its path. `bytes`: all that was read.
    fn upgrade_at_once(&self, head: &upgrade::Head<'_>, bytes: &[u8], peer: IpAddr) -> Option<First> {
        let path = self.below_prefix(head.path)?;
        let (dialect, rest) = match dialect_at(path) {
            Some(found) => found,
            // Of a session that is there, and a "no", HTTP has more to say.
            None if self.engine_io.is_new_socket(path, head.query) => (SOCKET_IO, ""),
            None => return None,
        };
        let (query, origin, host) = (head.query, head.origin, head.host);
        let mut upgrade = self.admit(&Asked { dialect, rest, query, origin, host, may_upgrade: false });
        if dialect == SOCKET_IO {
            let Upgrade::Open { app, credentials, .. } = &mut upgrade else { return None };
            let named = self.directory.now().named(app).cloned();
            let shown = named.and_then(|app| {
                let headers = upgrade::headers(bytes);
                self.gateway.credentials(&app, &headers, peer, Gateway::may_bring_cookies(&app, &headers))
            });
            *credentials = shown.map(Into::into);
        }
        Some(First::Upgrade { answer: head.answer(), upgrade, read: bytes[head.rest.clone()].to_vec() })
    }

    /// The path without what stands before every one. `None`: that is not there.
    fn below_prefix<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&*self.path_prefix).filter(|rest| rest.starts_with('/'))
    }

    /// Serves HTTP until the socket is closed or has become a WebSocket. `read`: what has come already.
    async fn http(
        &self,
        stream: Stream,
        read: Vec<u8>,
        peer: IpAddr,
        handshake: Handshake,
        deadline: Instant,
    ) -> Option<Client> {
        let handshake = Cell::new(Some(handshake));
        let upgrade = RefCell::new(None);
        // When the client must have sent the head of its next request; none while one is being answered.
        let deadline = Cell::new(Some(deadline));
        let service = service_fn(async |request| {
            drop(handshake.take());
            deadline.set(None);
            let answer = self.answer(request, peer, &upgrade).await;
            deadline.set(Some(Instant::now() + IDLE));
            answer
        });
        let gate = Gate::new(stream, read, || upgrade.borrow().is_some());
        let connection = builder().serve_connection(gate, service).without_shutdown();
        tokio::pin!(connection);
        let parts = loop {
            tokio::select! {
                parts = &mut connection => break parts,
                () = sleep_until(deadline.get().unwrap_or_else(|| Instant::now() + IDLE)) => {
                    if deadline.get().is_some_and(|deadline| deadline <= Instant::now()) {
                        return None;
                    }
                }
            }
        };
        // An error of the HTTP conversation concerns its client alone, who has been answered by hyper.
        let parts = parts.ok()?;
        let (stream, held) = parts.io.open();
        match upgrade.take() {
            None => {
                websocket::discard(stream).await;
                None
            }
            // A copy: the bytes themselves would keep alive the whole buffer in which the request was read.
            Some(upgrade) => self.begin(stream, held, self.renewed(upgrade), parts.read_buf.to_vec()),
        }
    }

    /// Makes a stream with a granted upgrade a client. `answer`: to the upgrade, not yet written.
    fn begin(&self, stream: Stream, answer: Vec<u8>, upgrade: Upgrade, read: Vec<u8>) -> Option<Client> {
        match upgrade {
            Upgrade::Open { app, dialect, opening, credentials } => {
                let connection = self.worker.open(stream.into(), answer, app, dialect, opening);
                if let Some(credentials) = credentials {
                    connection.set_credentials(credentials);
                }
                Some(Client { connection, read })
            }
            Upgrade::Join(session) => {
                if let Ok(stream) = Moving::new(stream) {
                    session.offer(stream, answer, read);
                }
                None
            }
            Upgrade::TurnAway { goodbye, reason } => {
                self.metrics.rejected(reason);
                tokio::task::spawn_local(websocket::turn_away(stream, answer, read, goodbye));
                None
            }
        }
    }

    /// TLS's handshake. Who begins in plain HTTP is told so.
    async fn shake_hands(&self, tls: &TlsAcceptor, stream: TcpStream) -> Option<Stream> {
        let mut first = [0];
        // Every record of a handshake begins with 22; HTTP's methods are letters.
        if stream.peek(&mut first).await.ok()? == 1 && first[0].is_ascii_alphabetic() {
            let mut stream = Stream::Plain(stream);
            stream.write_all(PLAIN_ON_TLS.as_bytes()).await.ok()?;
            websocket::discard(stream).await;
            return None;
        }
        match tls.accept(stream).await {
            Ok(stream) => Some(Stream::Tls(Box::new(stream))),
            Err(error) => {
                // Whoever only looks whether the port is open says nothing that could be wrong.
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    self.metrics.rejected("tls");
                    tracing::debug!(%error, "no TLS with a client");
                }
                None
            }
        }
    }

    async fn answer(
        &self,
        mut request: Request<Incoming>,
        peer: IpAddr,
        upgrade: &RefCell<Option<Upgrade>>,
    ) -> Result<Answer, Infallible> {
        if !self.path_prefix.is_empty() && !self.take_prefix(&mut request) {
            let words = format!("There is nothing here: all paths begin with {}\n", self.path_prefix);
            return Ok(text(StatusCode::NOT_FOUND, &words));
        }
        let path = request.uri().path();
        let is_upgrade = request.headers().contains_key(UPGRADE);
        let mut answer = match dialect_at(path) {
            // Health checks of laravel-echo-server's users look here.
            _ if path == "/" && !is_upgrade => text(StatusCode::OK, "OK\n"),
            Some((dialect, rest)) => self.upgrade(&request, dialect, rest, upgrade),
            None if path == "/up" => text(StatusCode::OK, "OK\n"),
            None if self.engine_io.rest(path).is_some() => self.engine_io(request, peer, upgrade).await,
            None => {
                let _in_flight = InFlight::new(&self.in_flight);
                match gateway_auth::Route::at(path) {
                    Some(route) => self.gateway.answer(route, request, peer, self.patience).await,
                    None => self.api.answer(request, self.patience).await,
                }
            }
        };
        if self.draining.load(Relaxed) && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(answer)
    }

    fn upgrade(
        &self,
        request: &Request<Incoming>,
        dialect: usize,
        rest: &str,
        upgrade: &RefCell<Option<Upgrade>>,
    ) -> Answer {
        if request.method() != Method::GET || !request.headers().contains_key(UPGRADE) {
            let mut answer =
                text(StatusCode::UPGRADE_REQUIRED, "This is a WebSocket address: connect with ws:// or wss://\n");
            answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            return answer;
        }
        match create_response_with_body(request, Full::default) {
            Ok(answer) => {
                let header = |name: HeaderName| request.headers().get(name).map(HeaderValue::as_bytes);
                let query = request.uri().query().unwrap_or_default();
                let (origin, host) = (header(ORIGIN), header(HOST));
                let asked = Asked { dialect, rest, query, origin, host, may_upgrade: false };
                *upgrade.borrow_mut() = Some(self.admit(&asked));
                answer
            }
            Err(error) => {
                let mut answer = text(StatusCode::BAD_REQUEST, &format!("{error}\n"));
                answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
                answer
            }
        }
    }

    /// Takes what stands before every path off a request. False: it is not there.
    fn take_prefix(&self, request: &mut Request<Incoming>) -> bool {
        let Some(path) = self.below_prefix(request.uri().path()) else { return false };
        let query = request.uri().query().map_or(String::new(), |query| format!("?{query}"));
        // A part of what was a target is one too.
        let Ok(target) = format!("{path}{query}").parse() else { return false };
        *request.uri_mut() = target;
        true
    }

    /// Whom the URL names, and what it asks for. A "no" is said over the WebSocket: a browser hides the answer to a failed
    /// upgrade from its page.
    pub(crate) fn admit(&self, asked: &Asked<'_>) -> Upgrade {
        let dialect: &dyn Dialect = DIALECTS[asked.dialect];
        let query = pairs(asked.query);
        let turn_away = |refusal: Refusal, state: State| Upgrade::TurnAway {
            goodbye: dialect.goodbye(&state, &refusal),
            reason: refusal.reason.row().label,
        };
        let opening =
            match dialect.open(&OpenRequest { path_rest: asked.rest, query: &query, may_upgrade: asked.may_upgrade }) {
                Ok(opening) => opening,
                Err((refusal, state)) => return turn_away(refusal, state),
            };
        let served = self.directory.now();
        let app = match &opening.app_key {
            Some(key) => served.apps.by_key(key),
            None => served.apps.first(),
        };
        let Some(app) = app else { return turn_away(Reason::UnknownApp.into(), opening.state) };
        let origins = served.named(app).map_or(&[][..], |named| &named.origins);
        if !origins.is_empty() && is_foreign(asked.origin, asked.host, origins) {
            let refusal = Refusal::new(Reason::Unauthorized, "Origin not allowed");
            return Upgrade::TurnAway { goodbye: dialect.goodbye(&opening.state, &refusal), reason: "origin" };
        }
        if self.is_full(app) {
            let reason = match app.when_full {
                WhenFull::StayAway => Reason::AppFull,
                WhenFull::ComeBackLater => Reason::AppFullForNow,
            };
            return turn_away(reason.into(), opening.state);
        }
        Upgrade::Open { app: app.clone(), dialect: asked.dialect as u8, opening, credentials: None }
    }

    /// The app as it is set by now: it may have changed or gone between the upgrade and its answer.
    fn renewed(&self, upgrade: Upgrade) -> Upgrade {
        let Upgrade::Open { app, dialect, opening, credentials } = upgrade else { return upgrade };
        match self.directory.now().apps.by_id(&app.id) {
            Some(app) => Upgrade::Open { app: app.clone(), dialect, opening, credentials },
            None => {
                let refusal = Refusal::from(Reason::UnknownApp);
                let goodbye = DIALECTS[usize::from(dialect)].goodbye(&opening.state, &refusal);
                Upgrade::TurnAway { goodbye, reason: refusal.reason.row().label }
            }
        }
    }

    /// True when the app has as many connections in the cluster as it may. Handshakes under way do not count, nor what
    /// other nodes took in since their last heartbeat: a rush may go a little above.
    fn is_full(&self, app: &App) -> bool {
        let limit = app.limits.connections;
        if limit == 0 {
            return false;
        }
        self.hub.connections_of(&app.id) + self.api.backplane.connections_elsewhere(&app.id) >= limit
    }
}

/// The dialect that lives at a path, and what follows its name there.
fn dialect_at(path: &str) -> Option<(usize, &str)> {
    match path {
        "/" | "/ws" => Some((PLAIN, "")),
        _ => path.strip_prefix("/app/").map(|key| (PUSHER, key)),
    }
}

/// One parameter, decoded: name and value.
pub(crate) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Percent-decoded, in order.
pub(crate) fn pairs(query: &str) -> Vec<Pair<'_>> {
    if query.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return form_urlencoded::parse(query.as_bytes()).collect();
    }
    // Nothing is encoded, as in nearly all: each publish over HTTP and each upgrade has this.
    let mut pairs = Vec::with_capacity(8);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((key.into(), value.into()));
    }
    pairs
}

fn text(status: StatusCode, body: &str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}
