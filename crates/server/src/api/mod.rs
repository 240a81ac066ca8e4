//! The Pusher HTTP API (pusher docs, "HTTP API"): routes, who may call, and the form of the answers.
//!
//! Success is `{}` or more, never empty; an error is `{"error": text}` with Pusher's status.

mod channels;
mod echo_server;
mod events;
mod history;
mod info;
mod names;
mod places;
mod rate;
mod routes;

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backplane::{Cluster, PublishError, QueryError};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hub::Hub;
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use model::{App, auth};
pub(crate) use places::Places;
pub(crate) use rate::Rate;
use routes::{Call, Found, Missed};
use tokio::time::timeout;

use crate::clock;
use crate::directory::Directory;
use crate::door::{Answer, Pair, pairs};
use crate::metrics::Metrics;

/// What answering needs.
pub(crate) struct Api {
    pub(crate) directory: Arc<Directory>,
    pub(crate) backplane: Arc<dyn Cluster>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) body_bytes: usize,
    pub(crate) places: Arc<Places>,
    pub(crate) rate: Arc<Rate>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) began: Instant,
}

/// The most parameters of a request. SDKs send five and what they are asked for.
const PARAMETERS_MAX: usize = 100;

/// An error of the API: status and text.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) StatusCode, pub(crate) String);

impl Refused {
    fn bad(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }
}

/// A request that was not worked on, and for how many seconds its kind will not be, where that is told.
struct TurnedAway {
    refused: Refused,
    wait: u64,
}

impl From<Refused> for TurnedAway {
    fn from(refused: Refused) -> Self {
        Self { refused, wait: 1 }
    }
}

impl From<PublishError> for Refused {
    fn from(error: PublishError) -> Self {
        let text = match error {
            PublishError::Unavailable => "The event was not published: there is no connection to Redis now".into(),
            PublishError::BadChannel => return Self::bad("The channel's name is reserved"),
            PublishError::TooLarge(max) => {
                let text = format!("The event is larger than the {max} bytes that nodes take from Redis");
                return Self(StatusCode::PAYLOAD_TOO_LARGE, text);
            }
            PublishError::TimedOut => "Redis did not answer in time: the event may have been published".into(),
            PublishError::Refused(words) => format!("The event was not published, Redis answered: {words}"),
        };
        Self(StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

impl From<QueryError> for Refused {
    fn from(error: QueryError) -> Self {
        let text = match error {
            QueryError::Unavailable => "Nobody knows who is there: there is no connection to Redis now".into(),
            QueryError::TimedOut => "Redis did not answer in time".into(),
            QueryError::Refused(words) => format!("Redis answered: {words}"),
        };
        Self(StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

impl Api {
    /// Answers any request that is no upgrade. `patience`: for reading the body.
    pub(crate) async fn answer(&self, request: Request<Incoming>, patience: Duration) -> Answer {
        let began = Instant::now();
        let method = request.method().clone();
        // An answer before the end of the body ends the line, and whoever keeps lines must know.
        let unread = Cell::new(!request.body().is_end_stream());
        let (route, allow, outcome) = match routes::find(&method, request.uri().path()) {
            Ok(found) => (found.name, None, self.call(request, found, patience, &unread, began).await),
            Err(Missed { refused, name, allow }) => (name, allow, Err(refused.into())),
        };
        let (status, body, wait) = match outcome {
            Ok(body) => (StatusCode::OK, body, 0),
            Err(TurnedAway { refused: Refused(status, text), wait }) => (status, error_body(&text), wait),
        };
        self.metrics.http(route, method_label(&method), status.as_u16(), began.elapsed());
        let mut answer = Response::new(Full::new(body));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&status) {
            headers.insert(RETRY_AFTER, wait.into());
        }
        if unread.get() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        // Methods of ours are header values.
        if let Some(allow) = allow.and_then(|method| HeaderValue::from_str(method.as_str()).ok()) {
            headers.insert(ALLOW, allow);
        }
        answer
    }

    async fn call(
        &self,
        request: Request<Incoming>,
        found: Found,
        patience: Duration,
        unread: &Cell<bool>,
        now: Instant,
    ) -> Result<Bytes, TurnedAway> {
        let served = self.directory.now();
        let (head, body) = request.into_parts();
        let query = parameters(head.uri.query().unwrap_or_default())?;
        let echo = echo_server::caller(&served, &found.app, &head.headers, &query)?;
        let app = echo.as_ref().or(served.apps.by_id(&found.app)).cloned();
        let app = app.ok_or_else(|| Refused(StatusCode::NOT_FOUND, "There is no app with this id".into()))?;
        let raw_path = head.uri.path();
        let path = percent_encoding::percent_decode_str(raw_path).decode_utf8_lossy();
        let signed = auth::Request { method: head.method.as_str(), raw_path, path: &path, query: &query };
        // Who has not shown that he is the application gets no place and no patience.
        if echo.is_none() {
            self.authorize(&app, auth::verify_head(&app, &signed, clock::seconds()))?;
        }
        if let Err(wait) = self.rate.take(&app, self.backplane.nodes(), now) {
            let limit = app.limits.api_requests_per_second;
            let text = format!("More than {limit} requests a second, which is this app's limit");
            let refused = Refused(StatusCode::TOO_MANY_REQUESTS, text);
            return Err(TurnedAway { refused, wait: wait.as_secs_f64().ceil() as u64 });
        }
        let Some(_place) = self.places.take(&app.id, served.apps.iter().len()) else {
            let text = "Too many requests at a time: try again".into();
            return Err(Refused(StatusCode::SERVICE_UNAVAILABLE, text).into());
        };
        let body = read(body, self.body_bytes, patience).await?;
        unread.set(false);
        if echo.is_some() {
            return Ok(echo_server::answer(self, &app, &found, &query, &body).await?);
        }
        self.authorize(&app, auth::verify_body(&signed, &body))?;
        let query = match auth::with_arrays_joined(&query) {
            Some(joined) => joined.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
            None => query,
        };
        let answer = match found.call {
            Call::Publish => events::publish(self, &app, &body).await,
            Call::PublishBatch => events::publish_batch(self, &app, &body).await,
            Call::Channels => channels::list(self, &app, &query).await,
            Call::Channel => channels::one(self, &app, &found.parameter, &query).await,
            Call::Users => channels::users(self, &app, &found.parameter, &query).await,
            Call::History => history::page(self, &app, &found.parameter, &query).await,
            Call::Terminate => channels::terminate(self, &app, &found.parameter).await,
            Call::Status => echo_server::status(self, &app).await,
        };
        Ok(answer?)
    }

    /// Counts who was refused.
    fn authorize(&self, app: &App, verified: Result<(), auth::RequestRefused>) -> Result<(), Refused> {
        verified.map_err(|refused| {
            self.metrics.auth_failed(&app.id, refused.kind);
            Refused(StatusCode::UNAUTHORIZED, refused.text)
        })
    }
}

fn parameters(query: &str) -> Result<Vec<Pair<'_>>, Refused> {
    if query.bytes().filter(|byte| *byte == b'&').count() >= PARAMETERS_MAX {
        return Err(Refused::bad(format!("The query has more than {PARAMETERS_MAX} parameters")));
    }
    Ok(pairs(query))
}

/// Reads a body of at most `max` bytes.
///
/// # Errors
/// 413, 400 or 408, each with its text.
pub(crate) async fn read(body: Incoming, max: usize, patience: Duration) -> Result<Bytes, Refused> {
    let too_large = || Refused(StatusCode::PAYLOAD_TOO_LARGE, format!("The body is larger than {max} bytes"));
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    match timeout(patience, Limited::new(body, max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refused::bad("The body ended too early")),
        Err(_) => Err(Refused(StatusCode::REQUEST_TIMEOUT, "The body took too long".into())),
    }
}

fn error_body(text: &str) -> Bytes {
    let mut body = br#"{"error":"#.to_vec();
    model::json::push_string(&mut body, text);
    body.push(b'}');
    body.into()
}

/// Methods that a client invents must not make metrics of their own.
pub(crate) fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        _ => "other",
    }
}
