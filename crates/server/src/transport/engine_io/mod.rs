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
use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, CACHE_CONTROL, CONTENT_TYPE,
    HOST, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, Request, Response, StatusCode};
use model::{App, Framing, Opening};
use rustls::crypto::ring;
use tokio::sync::{mpsc, oneshot};

use crate::api;
use crate::door::{Answer, Pair};
use crate::origin::{Pattern, is_foreign};
use session::Session;
pub(crate) use session::{Ask, Sessions};

/// What Engine.IO says no with: its number and words (engine.io `Server.errors`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    UnknownTransport,
    UnknownSession,
    BadHandshakeMethod,
    BadRequest,
    Forbidden,
    TooLarge,
}

impl Fault {
    fn row(self) -> (StatusCode, u8, &'static str) {
        match self {
            Self::UnknownTransport => (StatusCode::BAD_REQUEST, 0, "Transport unknown"),
            Self::UnknownSession => (StatusCode::BAD_REQUEST, 1, "Session ID unknown"),
            Self::BadHandshakeMethod => (StatusCode::BAD_REQUEST, 2, "Bad handshake method"),
            Self::BadRequest => (StatusCode::BAD_REQUEST, 3, "Bad request"),
            Self::Forbidden => (StatusCode::FORBIDDEN, 4, "Forbidden"),
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
        answer
    }
}

const NO_CLIENT: &str =
    "socket_io.client_file is not set: write the path of dist/socket.io.js of the npm package socket.io-client\n";

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
    pub(crate) async fn begin(&self, beginning: Beginning) -> Answer {
        let Beginning { worker, app, dialect, opening, framing, credentials } = beginning;
        let secret = secret();
        let connection = worker.open_polled(framing, secret, app, dialect, opening);
        if let Some(credentials) = credentials {
            connection.set_credentials(credentials.into());
        }
        let name = connection.id().with_secret(secret);
        hear(Session::begin(worker, connection, framing, self.frame_bytes, &self.sessions, name)).await
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

    /// Answers a poll or post of a session that exists.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        name: &str,
        credentials: Option<Box<[u8]>>,
        patience: Duration,
    ) -> Answer {
        let Some(session) = self.sessions.find(name) else { return Fault::UnknownSession.answer("") };
        let (reply, told) = oneshot::channel();
        let ask = match *request.method() {
            Method::GET => Ask::Poll { credentials, reply },
            Method::POST => match api::read(request.into_body(), self.body_bytes, patience).await {
                Ok(body) => Ask::Post { body, credentials, reply },
                Err(refused) if refused.0 == StatusCode::PAYLOAD_TOO_LARGE => {
                    return Fault::TooLarge.answer(&refused.1);
                }
                Err(refused) => return Fault::BadRequest.answer(&refused.1),
            },
            _ => return Fault::BadRequest.answer("A session is asked by GET and told by POST"),
        };
        if session.send(ask).await.is_err() {
            return Fault::UnknownSession.answer("");
        }
        hear(told).await
    }

    /// The way to a session, for an upgrade.
    pub(crate) fn find(&self, name: &str) -> Option<mpsc::Sender<Ask>> {
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

/// Lets a page read the answer. `allowed`: whose pages may come; empty: any.
pub(crate) fn permit(request: &HeaderMap, allowed: &[Pattern], answer: &mut HeaderMap) {
    let Some(origin) = request.get(ORIGIN) else { return };
    answer.insert(VARY, HeaderValue::from_static("Origin"));
    let host = request.get(HOST).map(HeaderValue::as_bytes);
    if !allowed.is_empty() && is_foreign(Some(origin.as_bytes()), host, allowed) {
        return;
    }
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    // A page that brings headers of its own asks first, by OPTIONS.
    if let Some(names) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
}
