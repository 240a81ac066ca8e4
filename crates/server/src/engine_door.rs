//! Requests of Engine.IO at the door: who begins a session, whose request belongs to which, and what a page may bring along.
//!
//! What a session may show to its application is decided by the request that began it: a page that was foreign then cannot lend
//! itself its visitor's cookies by a later request, which browsers may send without saying whose page it is.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use dialects::SOCKET_IO;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use model::Framing;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use crate::door::{Answer, Asked, Door, Upgrade, pairs};
use crate::gateway_auth::Gateway;
use crate::settings::NamedApp;
use crate::transport::engine_io::{self, Beginning, Fault, Known, Transport};

/// Whose a request is.
struct Caller {
    /// The session that it names, where it names one.
    session: Option<Arc<Known>>,
    /// What its application may see of it.
    credentials: Option<Box<[u8]>>,
    may_bring_cookies: bool,
}

/// What a request leads to.
enum Told {
    Now(Box<Answer>),
    Call { caller: Caller, transport: Transport, framing: Framing },
}

impl Told {
    fn now(answer: Answer) -> Self {
        Self::Now(Box::new(answer))
    }
}

impl Door {
    /// Answers a request of Engine.IO, and lets the page that made it read the answer.
    pub(crate) async fn engine_io(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        upgrade: &RefCell<Option<Upgrade>>,
    ) -> Answer {
        // All that is needed of the head is taken before a poll hangs: many may.
        let (permission, told) = self.engine_ask(&request, peer);
        let mut answer = match told {
            Told::Now(answer) => *answer,
            Told::Call { caller, transport, framing } => {
                self.engine_call(request, caller, transport, framing, upgrade).await
            }
        };
        answer.headers_mut().extend(permission);
        answer
    }

    /// What is asked for, and what lets the page read the answer.
    fn engine_ask(&self, request: &Request<Incoming>, peer: IpAddr) -> (HeaderMap, Told) {
        let query = pairs(request.uri().query().unwrap_or_default());
        let rest = self.engine_io.rest(request.uri().path()).unwrap_or_default();
        let app = self.directory.now().asked_for(&query).cloned();
        let told = match self.engine_io.asked(rest, &query) {
            Err(fault) => Told::now(fault.answer("")),
            Ok(engine_io::Asked::Client) => Told::now(self.engine_io.client()),
            Ok(engine_io::Asked::Session { transport, name, framing }) => {
                match self.caller(request, app.as_deref(), name, peer) {
                    Ok(caller) => Told::Call { caller, transport, framing },
                    Err(fault) => {
                        self.metrics.rejected("unknown_session");
                        let mut answer = fault.answer("");
                        if request.method() == Method::POST {
                            // Its body would be taken for the next request.
                            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                        }
                        Told::now(answer)
                    }
                }
            }
        };
        (engine_io::permission(request.headers(), app.as_ref().map_or(&[], |app| &app.origins)), told)
    }

    /// # Errors
    /// There is no such session, or it is another app's.
    fn caller(
        &self,
        request: &Request<Incoming>,
        app: Option<&NamedApp>,
        name: Option<&str>,
        peer: IpAddr,
    ) -> Result<Caller, Fault> {
        let session = name.map(|name| self.engine_io.find(name).ok_or(Fault::UnknownSession)).transpose()?;
        if let Some(session) = &session
            && app.is_none_or(|app| app.app.id != session.app)
        {
            return Err(Fault::UnknownSession);
        }
        let headers = request.headers();
        let is_own = app.is_some_and(|app| Gateway::may_bring_cookies(app, headers));
        let may_bring_cookies = is_own && session.as_ref().is_none_or(|session| session.may_bring_cookies);
        let credentials = app.and_then(|app| self.gateway.credentials(app, headers, peer, may_bring_cookies));
        Ok(Caller { session, credentials, may_bring_cookies })
    }

    async fn engine_call(
        &self,
        request: Request<Incoming>,
        caller: Caller,
        transport: Transport,
        framing: Framing,
        upgrade: &RefCell<Option<Upgrade>>,
    ) -> Answer {
        if request.method() == Method::OPTIONS {
            let mut answer = Response::new(Full::default());
            *answer.status_mut() = StatusCode::NO_CONTENT;
            return answer;
        }
        match (transport, caller.session.clone()) {
            (Transport::WebSocket, _) => self.engine_socket(&request, caller, upgrade),
            (Transport::Polling, Some(session)) => {
                self.engine_io.answer(request, &session, caller.credentials, self.patience).await
            }
            (Transport::Polling, None) => self.engine_begin(&request, caller, framing).await,
        }
    }

    /// A WebSocket, for a session that is there or for a new one.
    fn engine_socket(&self, request: &Request<Incoming>, caller: Caller, upgrade: &RefCell<Option<Upgrade>>) -> Answer {
        if !request.headers().contains_key(UPGRADE) {
            return Fault::BadRequest
                .answer("This asks for a WebSocket without an upgrade: does a proxy take it away?");
        }
        let granted = match caller.session {
            Some(session) => Upgrade::Join(session),
            None => match self.engine_admit(request, false) {
                Ok(Upgrade::Open { app, dialect, opening, .. }) => {
                    Upgrade::Open { app, dialect, opening, credentials: caller.credentials.map(Into::into) }
                }
                Ok(other) => other,
                Err(why) => return Fault::Forbidden.answer(&why),
            },
        };
        match create_response_with_body(request, Full::default) {
            Ok(answer) => {
                *upgrade.borrow_mut() = Some(granted);
                answer
            }
            Err(error) => Fault::BadRequest.answer(&error.to_string()),
        }
    }

    /// A new session that begins with polls.
    async fn engine_begin(&self, request: &Request<Incoming>, caller: Caller, framing: Framing) -> Answer {
        if request.method() != Method::GET {
            return Fault::BadHandshakeMethod.answer("");
        }
        let Some(place) = self.engine_io.place() else {
            self.metrics.rejected("limit");
            return Fault::Crowded.answer("");
        };
        match self.engine_admit(request, self.engine_io.websocket) {
            Ok(Upgrade::Open { app, dialect, opening, .. }) => {
                let (worker, Caller { credentials, may_bring_cookies, .. }) = (self.worker.clone(), caller);
                let patience = self.patience;
                let beginning = Beginning {
                    worker,
                    app,
                    dialect,
                    opening,
                    framing,
                    credentials,
                    may_bring_cookies,
                    place,
                    patience,
                };
                self.engine_io.begin(beginning).await
            }
            Ok(_) => Fault::BadRequest.answer(""),
            Err(why) => Fault::Forbidden.answer(&why),
        }
    }

    /// As [`Door::admit`]; here a "no" is an answer of HTTP.
    fn engine_admit(&self, request: &Request<Incoming>, may_upgrade: bool) -> Result<Upgrade, Box<str>> {
        let header = |name: HeaderName| request.headers().get(name).map(HeaderValue::as_bytes);
        let query = request.uri().query().unwrap_or_default();
        let (origin, host) = (header(ORIGIN), header(HOST));
        match self.admit(&Asked { dialect: SOCKET_IO, rest: "", query, origin, host, may_upgrade }) {
            Upgrade::TurnAway { goodbye, reason } => {
                self.metrics.rejected(reason);
                Err(goodbye.reason)
            }
            granted => Ok(granted),
        }
    }
}
