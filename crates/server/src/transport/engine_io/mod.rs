//! Engine.IO below Socket.IO: sessions that begin with polls and may become a WebSocket, or begin as one (engine.io-protocol, v3
//! and v4).
//!
//! A session lives on one node. A request that names one that is not here is told so, and the client begins anew.

mod session;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hub::Worker;
use hyper::body::{Body, Incoming};
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, CACHE_CONTROL, CONNECTION,
    CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN, RETRY_AFTER, VARY,
};
use hyper::{Method, Request, Response, StatusCode};
use model::{App, Framing, Opening};
use rustls::crypto::ring;
use tokio::sync::{Semaphore, oneshot};

use crate::api::{self, Refused};
use crate::door::{Answer, Pair};
use crate::origin::{Pattern, is_foreign};
use session::Ask;
use session::Session;
pub(crate) use session::{Known, Place, Sessions};

/// What Engine.IO says no with: its number and words (engine.io `Server.errors`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    UnknownTransport,
    UnknownSession,
    BadHandshakeMethod,
    BadRequest,
    Forbidden,
    TooLarge,
    Crowded,
}

impl Fault {
    fn row(self) -> (StatusCode, u8, &'static str) {
        match self {
            Self::UnknownTransport => (StatusCode::BAD_REQUEST, 0, "Transport unknown"),
            Self::UnknownSession => (StatusCode::BAD_REQUEST, 1, "Session ID unknown"),
            Self::BadHandshakeMethod => (StatusCode::BAD_REQUEST, 2, "Bad handshake method"),
            Self::BadRequest => (StatusCode::BAD_REQUEST, 3, "Bad request"),
            Self::Forbidden => (StatusCode::FORBIDDEN, 4, "Forbidden"),
            Self::Crowded => (StatusCode::SERVICE_UNAVAILABLE, 3, "Bad request"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, 3, "Bad request"),
        }
    }

    /// The answer to a request. `detail`: in our words, beside Engine.IO's.
    pub(crate) fn answer(self, detail: &str) -> Answer {
        let (status, code, message) = self.row();
        let mut body = format!(r#"{{"code":{code},"message":"{message}""#).into_bytes();
        if !detail.is_empty() {
            body.extend_from_slice(br#","detail":"#);
            model::json::push_string(&mut body, detail);
        }
        body.push(b'}');
        let mut answer = Response::new(Full::new(body.into()));
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self == Self::Crowded {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }
}

const NO_CLIENT: &str =
    "socket_io.client_file is not set: write the path of dist/socket.io.js of the npm package socket.io-client\n";

/// Posts up to here are read however many there are.
const SMALL_POST: usize = 16 << 10;

/// KiB of larger ones that are read at a time, in the whole node.
pub(crate) const LARGE_POSTS: usize = 64 << 10;

/// What is asked for below the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked<'a> {
    /// The client library.
    Client,
    /// A session, by its name; none yet where the name is missing.
    Session { transport: Transport, name: Option<&'a str>, framing: Framing },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    Polling,
    WebSocket,
}

/// The part of the node that speaks Engine.IO.
pub(crate) struct EngineIo {
    pub(crate) sessions: Arc<Sessions>,
    /// `/socket.io`, where clients expect it.
    pub(crate) path: String,
    /// Clients may poll …
    pub(crate) polling: bool,
    /// … and have a WebSocket.
    pub(crate) websocket: bool,
    /// What is served as `socket.io.js`.
    pub(crate) client: Option<Bytes>,
    /// The most of one request …
    pub(crate) body_bytes: usize,
    /// … and of one packet in it.
    pub(crate) frame_bytes: usize,
    /// Sessions at a time that have made no second request yet.
    pub(crate) begun_max: usize,
    /// KiB of large posts that are being read, of the whole node.
    pub(crate) reading: Arc<Semaphore>,
}

impl EngineIo {
    /// What follows the path of Engine.IO, where this path is one of its.
    pub(crate) fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&*self.path).filter(|rest| matches!(*rest, "" | "/" | "/socket.io.js"))
    }

    /// True for an upgrade that begins a session.
    pub(crate) fn is_new_socket(&self, path: &str, query: &str) -> bool {
        let pairs = || query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        self.websocket
            && matches!(self.rest(path), Some("" | "/"))
            && pairs().any(|pair| pair == ("transport", "websocket"))
            && pairs().all(|(name, _)| name != "sid" && !name.contains('%'))
    }

    /// Reads what follows the path, and the query.
    ///
    /// # Errors
    /// A transport that is not served.
    pub(crate) fn asked<'a>(&self, rest: &str, query: &'a [Pair<'_>]) -> Result<Asked<'a>, Fault> {
        if rest == "/socket.io.js" {
            return Ok(Asked::Client);
        }
        let value = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| &**value);
        let transport = match value("transport") {
            Some("polling") if self.polling => Transport::Polling,
            Some("websocket") if self.websocket => Transport::WebSocket,
            _ => return Err(Fault::UnknownTransport),
        };
        let framing = if value("EIO") == Some("4") { Framing::Separated } else { Framing::Counted };
        Ok(Asked::Session { transport, name: value("sid"), framing })
    }

    /// Begins a session for a client that polls, and answers its first request.
    pub(crate) async fn begin(&self, mut beginning: Beginning) -> Answer {
        let secret = secret();
        let (app, opening) = (beginning.app.clone(), std::mem::take(&mut beginning.opening));
        let connection = beginning.worker.open_polled(beginning.framing, secret, app, beginning.dialect, opening);
        if let Some(credentials) = beginning.credentials.take() {
            connection.set_credentials(credentials.into());
        }
        let name = connection.id().with_secret(secret);
        hear(Session::begin(beginning, connection, self.frame_bytes, &self.sessions, name)).await
    }

    /// The client library, where there is one.
    pub(crate) fn client(&self) -> Answer {
        let (status, body, kind) = match &self.client {
            Some(client) => (StatusCode::OK, client.clone(), "application/javascript; charset=utf-8"),
            None => (StatusCode::NOT_FOUND, Bytes::from_static(NO_CLIENT.as_bytes()), "text/plain; charset=utf-8"),
        };
        let mut answer = Response::new(Full::new(body));
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        answer
    }

    /// Answers a poll or post of a session.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        session: &Known,
        credentials: Option<Box<[u8]>>,
        patience: Duration,
    ) -> Answer {
        let (reply, told) = oneshot::channel();
        let ask = match *request.method() {
            Method::GET => {
                // It may hang for long.
                drop(request);
                Ask::Poll { credentials, reply }
            }
            Method::POST => match self.body(request.into_body(), session, patience).await {
                Ok(body) => Ask::Post { body, credentials, reply },
                Err(mut answer) => {
                    // What is left unread would be taken for the next request.
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    return *answer;
                }
            },
            _ => return Fault::BadRequest.answer("A session is asked by GET and told by POST"),
        };
        if !session.ask(ask).await {
            return Fault::UnknownSession.answer("");
        }
        hear(told).await
    }

    /// Reads a post's body: one of a session at a time, and of large ones so many bytes in the node.
    async fn body(&self, body: Incoming, session: &Known, patience: Duration) -> Result<Bytes, Box<Answer>> {
        let refused = |fault: Fault, detail: &str| Box::new(fault.answer(detail));
        let Some(_posting) = session.post() else {
            return Err(refused(Fault::BadRequest, "Another post of this session is not read yet"));
        };
        let size = body.size_hint().upper().unwrap_or(self.body_bytes as u64).min(self.body_bytes as u64) as usize;
        let _share = if size > SMALL_POST {
            // A limit above the whole budget has all of it.
            let share = self.reading.try_acquire_many((size / 1024).min(LARGE_POSTS) as u32);
            Some(share.map_err(|_| refused(Fault::Crowded, ""))?)
        } else {
            None
        };
        api::read(body, self.body_bytes, patience).await.map_err(|Refused(status, text)| {
            let fault = if status == StatusCode::PAYLOAD_TOO_LARGE { Fault::TooLarge } else { Fault::BadRequest };
            refused(fault, &text)
        })
    }

    /// A place for a session to begin in, while there are any.
    pub(crate) fn place(&self) -> Option<Place> {
        self.sessions.place(self.begun_max)
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Known>> {
        self.sessions.find(name)
    }
}

/// What a session that polls begins with.
pub(crate) struct Beginning {
    pub(crate) worker: Rc<Worker>,
    pub(crate) app: Arc<App>,
    pub(crate) dialect: u8,
    pub(crate) opening: Opening,
    pub(crate) framing: Framing,
    pub(crate) credentials: Option<Box<[u8]>>,
    pub(crate) may_bring_cookies: bool,
    pub(crate) place: Place,
    /// Until its second request.
    pub(crate) patience: Duration,
}

/// Nobody's to guess: whoever knows it gets what waits for the client, and speaks in its name.
fn secret() -> u64 {
    let mut bytes = [0; 8];
    // ring asks the system, which has answered since the node began: its keys for TLS come from there.
    ring::default_provider().secure_random.fill(&mut bytes).expect("the system has random numbers");
    u64::from_be_bytes(bytes)
}

async fn hear(told: oneshot::Receiver<Result<Bytes, Fault>>) -> Answer {
    match told.await {
        Ok(Ok(body)) => {
            let mut answer = Response::new(Full::new(body));
            let headers = answer.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            answer
        }
        Ok(Err(fault)) => fault.answer(""),
        // The session ended, or is a WebSocket now.
        Err(_) => Fault::UnknownSession.answer(""),
    }
}

/// What lets a page read the answer. `allowed`: whose pages may come; empty: any.
pub(crate) fn permission(request: &HeaderMap, allowed: &[Pattern]) -> HeaderMap {
    let mut answer = HeaderMap::new();
    let Some(origin) = request.get(ORIGIN) else { return answer };
    answer.insert(VARY, HeaderValue::from_static("Origin"));
    let host = request.get(HOST).map(HeaderValue::as_bytes);
    if !allowed.is_empty() && is_foreign(Some(origin.as_bytes()), host, allowed) {
        return answer;
    }
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    // A page that brings headers of its own asks first, by OPTIONS.
    if let Some(names) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    answer
}
