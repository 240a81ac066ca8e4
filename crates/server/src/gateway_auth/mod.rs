//! `POST /broadcasting/auth` and `/broadcasting/user-auth`: the gateway signs for back ends that do not.
//!
//! A client asks as it would ask its application; the application is asked with the client's own cookie or token, and where
//! it says yes, the signature is made here. `question.rs` checks what comes in, `endpoint.rs` asks, `answer.rs` decides. No
//! proxy: the address is a setting, two fields and a short list of headers go in, a signature and cookies come out.
//! Answers are never kept: a permission can be withdrawn.

mod answer;
mod grant;
mod question;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use answer::Question;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ACCEPT_LANGUAGE, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, REFERER, RETRY_AFTER, SET_COOKIE, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;

use crate::api::{self, Refused};
use crate::directory::Directory;
use crate::door::{Answer, pairs};
use crate::endpoint::{Caller, Said, Target, Unheard};
use crate::metrics::Metrics;
use crate::origin::{self, Page};
use crate::settings::{BackEnd, NamedApp, Settings};
pub(crate) use grant::Asker;

/// What answering needs; one for the whole node.
pub(crate) struct Gateway {
    directory: Arc<Directory>,
    metrics: Arc<Metrics>,
    /// Each call has its own connection: a client that is gone takes its call along.
    caller: Caller,
    /// Requests to applications that may run at a time.
    places: Semaphore,
    /// Those and the ones that wait for a place.
    line: Semaphore,
    /// Those of clients that wait for their turn by themselves.
    turns: Semaphore,
    /// From a client's whole request to the application's whole answer.
    patience: Duration,
}

/// How many may wait for a place. A node that comes back meets all its clients at once, and pusher-js does not ask again.
const WAITING_MAX: usize = 1_024;

/// The largest body of a client's request.
const BODY_BYTES: usize = 64 << 10;

/// The headers of a client that its application hears, beside the configured ones.
const FORWARDED: [HeaderName; 8] = [
    COOKIE,
    AUTHORIZATION,
    HeaderName::from_static("x-csrf-token"),
    HeaderName::from_static("x-xsrf-token"),
    ORIGIN,
    REFERER,
    USER_AGENT,
    ACCEPT_LANGUAGE,
];

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// True for a header that may be forwarded when the settings ask for it: none that we write ourselves, that speaks of one
/// connection, or that a proxy adds.
pub(crate) fn may_be_forwarded(name: &HeaderName) -> bool {
    const OURS: [&str; 12] = [
        "accept",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
    ];
    const BEGINNINGS: [&str; 4] = ["proxy-", "x-forwarded-", "transfer-", "sec-"];
    let name = name.as_str();
    !OURS.contains(&name) && !BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    Channel,
    User,
}

impl Route {
    pub(crate) fn at(path: &str) -> Option<Self> {
        [Self::Channel, Self::User].into_iter().find(|route| route.path() == path)
    }

    fn path(self) -> &'static str {
        match self {
            Self::Channel => "/broadcasting/auth",
            Self::User => "/broadcasting/user-auth",
        }
    }

    fn setting(self) -> &'static str {
        match self {
            Self::Channel => "auth_url",
            Self::User => "user_auth_url",
        }
    }

    /// The value of the metric label `kind`.
    fn failure(self) -> &'static str {
        match self {
            Self::Channel => "channel_endpoint",
            Self::User => "user_endpoint",
        }
    }
}

/// What a client is told.
struct Reply {
    status: StatusCode,
    body: Bytes,
    cookies: Vec<HeaderValue>,
}

/// Why the application said nothing.
struct Silence {
    refused: Refused,
    /// Nobody is at its address.
    is_unreachable: bool,
}

impl From<Refused> for Reply {
    fn from(Refused(status, text): Refused) -> Self {
        let mut body = br#"{"message":"#.to_vec();
        model::json::push_string(&mut body, &text);
        body.push(b'}');
        Self { status, body: body.into(), cookies: Vec::new() }
    }
}

impl Gateway {
    pub(crate) fn new(settings: &Settings, directory: Arc<Directory>, metrics: Arc<Metrics>) -> Self {
        let places = settings.limits.auth_requests;
        Self {
            directory,
            metrics,
            caller: Caller::new(0),
            places: Semaphore::new(places),
            line: Semaphore::new(places + WAITING_MAX),
            turns: Semaphore::new(places),
            patience: settings.limits.auth,
        }
    }

    /// Answers any request to one of the two paths. `patience`: for reading the body.
    pub(crate) async fn answer(
        &self,
        route: Route,
        request: Request<Incoming>,
        peer: IpAddr,
        patience: Duration,
    ) -> Answer {
        let began = Instant::now();
        let method = request.method().clone();
        let desk = self.desk(&request);
        let found = desk.as_ref().ok().cloned();
        let back_end = found.as_ref().map(|desk| &desk.back_end);
        let origins = back_end.map_or(&[][..], |back_end| &back_end.origins);
        let page = Page::of(request.headers(), origins);
        let told = match desk {
            Err(refused) => refused.into(),
            Ok(desk) => self.serve(&desk, route, request, &page, peer, patience).await,
        };
        self.metrics.http(route.path(), api::method_label(&method), told.status.as_u16(), began.elapsed());
        tracing::debug!(path = route.path(), status = told.status.as_u16(), ms = began.elapsed().as_millis() as u64);
        let mut answer = Response::new(Full::new(told.body));
        *answer.status_mut() = told.status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        page.permit(headers);
        if method == Method::OPTIONS
            && let Some(back_end) = back_end
        {
            origin::preflight(&names(back_end).collect::<Vec<_>>(), headers);
        }
        match told.status {
            StatusCode::SERVICE_UNAVAILABLE => headers.insert(RETRY_AFTER, HeaderValue::from_static("1")),
            StatusCode::METHOD_NOT_ALLOWED => headers.insert(ALLOW, HeaderValue::from_static("POST, OPTIONS")),
            _ => None,
        };
        headers.extend(told.cookies.into_iter().map(|cookie| (SET_COOKIE, cookie)));
        answer
    }

    /// The app that the URL names, else the first.
    fn desk(&self, request: &Request<Incoming>) -> Result<Arc<NamedApp>, Refused> {
        let query = pairs(request.uri().query().unwrap_or_default());
        let found = self.directory.now().asked_for(&query).cloned();
        found.ok_or_else(|| Refused(StatusCode::NOT_FOUND, "There is no app with this app_key".into()))
    }

    async fn serve(
        &self,
        desk: &NamedApp,
        route: Route,
        request: Request<Incoming>,
        page: &Page,
        peer: IpAddr,
        patience: Duration,
    ) -> Reply {
        let refused = |status, text: String| Reply::from(Refused(status, text));
        let target = match route {
            Route::Channel => desk.back_end.channels_for(page_of(request.headers())),
            Route::User => desk.back_end.users.as_ref(),
        };
        let Some(target) = target else {
            let setting = route.setting();
            let text = format!("{} is switched off for this app: {setting} is not set", route.path());
            return refused(StatusCode::NOT_FOUND, text);
        };
        if *page == Page::Foreign {
            let text = "Pages of this origin may not ask: it is not in allowed_origins of the app".to_owned();
            return refused(StatusCode::FORBIDDEN, text);
        }
        if request.method() == Method::OPTIONS {
            return Reply { status: StatusCode::NO_CONTENT, body: Bytes::new(), cookies: Vec::new() };
        }
        if request.method() != Method::POST {
            return refused(StatusCode::METHOD_NOT_ALLOWED, format!("{} takes POST only", route.path()));
        }
        let (head, body) = request.into_parts();
        let body = match api::read(body, BODY_BYTES, patience).await {
            Ok(body) => body,
            Err(refused) => return refused.into(),
        };
        let question = match question::read(&body, route == Route::Channel) {
            Ok(question) => question,
            Err(text) => return refused(StatusCode::BAD_REQUEST, text),
        };
        let headers = forwarded(&head.headers, &desk.back_end, peer);
        let said = match self.ask(target, headers, question::form(&question)).await {
            Ok(said) => said,
            Err(Silence { refused, .. }) => return refused.into(),
        };
        self.told(desk, route, &question, said)
    }

    /// Waits for a place, then for the application, and for neither longer than the patience for both.
    async fn ask(&self, target: &Target, headers: HeaderMap, form: String) -> Result<Said, Silence> {
        let refused = || Refused(StatusCode::SERVICE_UNAVAILABLE, "Too many ask at a time: try again".into());
        let crowded = || Silence { refused: refused(), is_unreachable: false };
        let until = tokio::time::Instant::now() + self.patience;
        let _in_line = self.line.try_acquire().map_err(|_| crowded())?;
        let place = tokio::time::timeout_at(until, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else { return Err(crowded()) };
        self.hear(target, headers, form, until).await
    }

    /// For clients that do not ask again: they wait for their turn for as long as they are there, and for the application no longer than
    /// the patience. The turns are their own, so that the endpoints' clients do not stand behind a crowd of them.
    async fn ask_in_turn(&self, target: &Target, headers: HeaderMap, form: String) -> Result<Said, Silence> {
        // Never closed.
        let _turn = self.turns.acquire().await;
        self.hear(target, headers, form, tokio::time::Instant::now() + self.patience).await
    }

    async fn hear(
        &self,
        target: &Target,
        mut headers: HeaderMap,
        form: String,
        until: tokio::time::Instant,
    ) -> Result<Said, Silence> {
        headers.insert(CONTENT_TYPE, FORM);
        let silence = |status, text: String| Silence { refused: Refused(status, text), is_unreachable: false };
        let seconds = self.patience.as_secs_f64();
        match tokio::time::timeout_at(until, self.caller.post(target, headers, form.into())).await {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(Unheard::Unreachable(error))) => {
                tracing::warn!(%error, at = target.origin(), "the application's auth endpoint cannot be reached");
                let refused = Refused(StatusCode::BAD_GATEWAY, "The application cannot be reached".into());
                Err(Silence { refused, is_unreachable: true })
            }
            Ok(Err(Unheard::Broken(why))) => {
                tracing::warn!(why, at = target.origin(), "the application's auth endpoint gave no usable answer");
                Err(silence(StatusCode::BAD_GATEWAY, format!("The application's answer is of no use: {why}")))
            }
            Err(_) => {
                let text = format!("The application did not answer within {seconds} s");
                Err(silence(StatusCode::GATEWAY_TIMEOUT, text))
            }
        }
    }

    fn told(&self, desk: &NamedApp, route: Route, question: &Question, said: Said) -> Reply {
        let told = match answer::answer(&desk.app, question, said.status, &said.body) {
            Ok(body) => Reply { status: StatusCode::OK, body: body.into(), cookies: Vec::new() },
            Err(refused) => {
                self.metrics.auth_failed(&desk.app.id, route.failure());
                refused.into()
            }
        };
        Reply { cookies: said.cookies, ..told }
    }
}

/// The names of the headers that an application hears.
fn names(back_end: &BackEnd) -> impl Iterator<Item = HeaderName> {
    FORWARDED.into_iter().chain([REQUESTED_WITH]).chain(back_end.headers.iter().cloned())
}

/// The page that a request came from, as far as it says.
fn page_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(REFERER).or(headers.get(ORIGIN)).and_then(|value| value.to_str().ok())
}

/// The headers for the application: those of the list as they came, and ours.
fn forwarded(from: &HeaderMap, back_end: &BackEnd, peer: IpAddr) -> HeaderMap {
    let mut to = HeaderMap::new();
    for name in names(back_end) {
        for value in from.get_all(&name) {
            to.append(name.clone(), value.clone());
        }
    }
    // So that Laravel answers with a status instead of sending people to its login page.
    to.insert(ACCEPT, HeaderValue::from_static("application/json"));
    to.insert(REQUESTED_WITH, HeaderValue::from_static("XMLHttpRequest"));
    // An address is no control character.
    if let Ok(peer) = HeaderValue::from_str(&peer.to_string()) {
        to.insert(FORWARDED_FOR, peer);
    }
    to
}

/// Headers and form with which an application hears of a client without cookie or token: for `fanfare doctor`.
pub(crate) fn question_of_a_stranger(back_end: &BackEnd, channel: &str) -> (HeaderMap, String) {
    let mut headers = forwarded(&HeaderMap::new(), back_end, IpAddr::from([127, 0, 0, 1]));
    headers.insert(CONTENT_TYPE, FORM);
    // Of our form, and of no client.
    let socket = "1.1".parse().ok();
    let form = socket.map(|socket| question::form(&Question { socket, channel: Some(channel.to_owned()) }));
    (headers, form.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_hears_the_headers_of_the_list_and_no_others() {
        let mut from = HeaderMap::new();
        for (name, value) in [
            ("cookie", "a=1"),
            ("authorization", "Bearer x"),
            ("x-csrf-token", "t"),
            ("x-tenant", "7"),
            ("x-other", "no"),
            ("host", "evil.test"),
            ("x-forwarded-for", "6.6.6.6"),
            ("content-length", "9"),
            ("transfer-encoding", "chunked"),
            ("accept", "text/html"),
        ] {
            from.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let back_end = BackEnd { headers: vec![HeaderName::from_static("x-tenant")], ..BackEnd::default() };
        let to = forwarded(&from, &back_end, [127, 0, 0, 1].into());
        let mut to: Vec<String> =
            to.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        to.sort();
        let expected = [
            "accept: application/json",
            "authorization: Bearer x",
            "cookie: a=1",
            "x-csrf-token: t",
            "x-forwarded-for: 127.0.0.1",
            "x-requested-with: XMLHttpRequest",
            "x-tenant: 7",
        ];
        assert_eq!(to, expected);
    }
}
