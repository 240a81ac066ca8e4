//! A lane: one request after the other to one endpoint, each until it is received or its time is over.
//!
//! What fails together is posted one by one, so that an event which the endpoint cannot take is found and costs nobody else
//! his news. Such a one is given up early where the endpoint says that it is the event's own fault, or shows it by taking
//! everything else.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::header::HeaderMap;
use model::{App, Webhook};
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep_until, timeout};

use super::letter;
use super::office::{Office, Told};
use crate::clock;
use crate::endpoint::{self, Target, Unheard};

/// The pauses between tries: the first, doubled each time, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How many times an event is tried alone when the endpoint answers that it will not have it: in about 15 seconds.
const REFUSALS_MAX: u32 = 5;

/// How many times at least before it is given up for those who wait behind it: an endpoint that only stumbles is not meant.
const TRIES_MIN: u32 = 8;

/// How often an endpoint is complained of.
const COMPLAINT: Duration = Duration::from_secs(60);

/// One endpoint of an app. Shared by its lanes.
pub(super) struct Endpoint {
    app: Arc<App>,
    pub(super) webhook: Webhook,
    target: Target,
    headers: HeaderMap,
    complained: Cell<Option<Instant>>,
    /// When it last took something, from whatever lane.
    heard: Cell<Option<Instant>>,
}

/// Why a request counts as not received.
struct Failure {
    /// In words for the log.
    why: String,
    fault: Fault,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// The event's: asking again is of no use.
    Event,
    /// The endpoint's, which says that it will have it later.
    Moment,
    Unknown,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, fault: Fault::Unknown }
    }
}

/// How the batch in hand fares.
#[derive(Default)]
struct Trouble {
    /// When it failed first.
    since: Option<Instant>,
    /// How often the event in front failed alone, but for those times when it was told to come later.
    tries: u32,
    /// Of these, how often the endpoint said that it will not have it.
    refusals: u32,
}

impl Trouble {
    fn add(&mut self, began: Instant, alone: bool, fault: Fault) {
        self.since.get_or_insert(began);
        self.tries += u32::from(alone && fault != Fault::Moment);
        self.refusals += u32::from(alone && fault == Fault::Event);
    }

    /// Another event is in front.
    fn next(&mut self) {
        (self.tries, self.refusals) = (0, 0);
    }
}

impl Endpoint {
    /// `None`: its URL is none, which the settings refuse before.
    pub(super) fn new(app: &Arc<App>, webhook: &Webhook) -> Option<Rc<Self>> {
        let target = Target::parse(&webhook.url).ok()?;
        let headers = letter::fixed_headers(app, webhook);
        let (complained, heard) = (Cell::new(None), Cell::new(None));
        Some(Rc::new(Self { app: app.clone(), webhook: webhook.clone(), target, headers, complained, heard }))
    }

    /// Says once a minute what is wrong. Not the whole URL: there may be a token in it.
    fn complain(&self, why: &str, lost: usize) {
        if self.complained.get().is_some_and(|when| when.elapsed() < COMPLAINT) {
            return;
        }
        self.complained.set(Some(Instant::now()));
        let (app, webhook, endpoint) = (&*self.app.id, &*self.webhook.name, self.target.origin());
        tracing::warn!(app, webhook, endpoint, why, lost, "a webhook is not received");
    }
}

/// Works off a line until it is closed, or until the office wants an end. `room`: how many may wait in it before a failing
/// event in front counts as being in the way.
pub(super) async fn run(office: Rc<Office>, endpoint: Rc<Endpoint>, line: Receiver<Rc<Told>>, room: usize) {
    let max = office.house.settings.batch_events;
    let mut lane = Lane { office, endpoint, line, room };
    let mut batch = Vec::new();
    while !lane.office.is_ending() && lane.line.recv_many(&mut batch, max).await > 0 {
        lane.tell(&mut batch).await;
        batch.clear();
    }
}

struct Lane {
    office: Rc<Office>,
    endpoint: Rc<Endpoint>,
    line: Receiver<Rc<Told>>,
    room: usize,
}

impl Lane {
    /// Posts a batch until it is received: together first, and one by one when that fails. What is too old after a failed
    /// try is lost, as is what the endpoint will not have.
    async fn tell(&self, batch: &mut Vec<Rc<Told>>) {
        let metrics = &self.office.house.metrics;
        let app = &self.endpoint.app.id;
        let (mut together, mut pause, mut trouble) = (true, PAUSE, Trouble::default());
        while !batch.is_empty() {
            let count = if together { batch.len() } else { 1 };
            let began = Instant::now();
            let Err(failure) = self.post(&batch[..count]).await else {
                metrics.webhooks_sent(app, count);
                self.endpoint.heard.set(Some(Instant::now()));
                self.office.done_with(&batch[..count]);
                batch.drain(..count);
                trouble.next();
                pause = PAUSE;
                continue;
            };
            metrics.webhook_failed(app);
            trouble.add(began, count == 1, failure.fault);
            let mut lost = self.drop_expired(batch, count);
            let is_worth_it =
                trouble.refusals < REFUSALS_MAX && (trouble.tries < TRIES_MIN || !self.is_in_the_way(&trouble));
            if lost == 0 && !is_worth_it {
                lost = self.drop_refused(batch, &failure.why);
            }
            self.endpoint.complain(&failure.why, lost);
            if lost > 0 {
                // Those that are left have not failed without it.
                (together, pause) = (true, PAUSE);
                trouble.next();
                continue;
            }
            if together && count > 1 {
                (together, pause) = (false, PAUSE);
            }
            tokio::select! {
                () = self.rest(pause, &trouble) => {}
                // What is left stays undone.
                () = self.office.ends() => return,
            }
            pause = (pause * 2).min(PAUSE_MAX);
            metrics.webhook_retried(app);
        }
    }

    /// Of the first `count`, which have just failed, those that are too old. Says how many they were.
    fn drop_expired(&self, batch: &mut Vec<Rc<Told>>, count: usize) -> usize {
        let oldest = clock::ms().saturating_sub(self.office.house.settings.retry.as_millis() as u64);
        let lost: Vec<_> = batch.extract_if(..count, |told| told.job.time_ms <= oldest).collect();
        if !lost.is_empty() {
            self.office.house.metrics.webhooks_lost(&self.endpoint.app.id, "expired", lost.len());
            self.office.done_with(&lost);
        }
        lost.len()
    }

    /// Gives up the first. The log says its id, by which the application finds it in its own.
    fn drop_refused(&self, batch: &mut Vec<Rc<Told>>, why: &str) -> usize {
        let (app, told) = (&self.endpoint.app.id, batch.remove(0));
        self.office.house.metrics.webhooks_lost(app, "refused", 1);
        let (endpoint, id) = (self.endpoint.target.origin(), &*told.job.id);
        tracing::warn!(app = &**app, endpoint, id, why, "an endpoint does not take an event: given up");
        self.office.done_with(&[told]);
        1
    }

    /// True when the line behind a failing event is full while the endpoint takes others: then it is the event.
    fn is_in_the_way(&self, trouble: &Trouble) -> bool {
        let others_are_heard = self.endpoint.heard.get() > trouble.since;
        others_are_heard && self.line.len() >= self.room
    }

    /// Waits, no longer than the first pause once the event is in the way.
    async fn rest(&self, pause: Duration, trouble: &Trouble) {
        let now = tokio::time::Instant::now;
        let end = now() + pause.mul_f64(jitter());
        loop {
            sleep_until(end.min(now() + PAUSE)).await;
            if now() >= end || self.is_in_the_way(trouble) {
                return;
            }
        }
    }

    async fn post(&self, batch: &[Rc<Told>]) -> Result<(), Failure> {
        let jobs = batch.iter().map(|told| &told.job);
        let body = letter::body(jobs.clone());
        let mut headers = self.endpoint.headers.clone();
        letter::sign(&mut headers, &self.endpoint.app, &body, jobs);
        let house = &self.office.house;
        let limit = house.settings.timeout;
        match timeout(limit, house.caller.send(&self.endpoint.target, headers, body)).await {
            Ok(Ok(response)) => {
                let status = response.status();
                // It has been said: however long the rest takes.
                endpoint::read_off(response).await;
                judge(status)
            }
            Ok(Err(Unheard::Unreachable(why))) => Err(format!("it cannot be reached: {why}").into()),
            Ok(Err(Unheard::Broken(why))) => Err(format!("its answer is of no use: {why}").into()),
            Err(_) => Err(format!("it did not answer within {} s", limit.as_secs_f64()).into()),
        }
    }
}

fn judge(status: StatusCode) -> Result<(), Failure> {
    let fault = match status {
        status if status.is_success() => return Ok(()),
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::SERVICE_UNAVAILABLE => Fault::Moment,
        status if status.is_client_error() => Fault::Event,
        _ => Fault::Unknown,
    };
    Err(Failure { why: format!("it answered {status}"), fault })
}

/// 0.75 … 1.25, so that lanes that failed together do not come back together.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let number = std::collections::hash_map::RandomState::new().build_hasher().finish();
    0.75 + (number % 1_000) as f64 / 2_000.0
}
