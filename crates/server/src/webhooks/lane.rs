//! A lane: one request after the other to one endpoint, each until it is received or its time is over.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::header::HeaderMap;
use model::{App, Webhook};
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, timeout};

use super::letter;
use super::office::{Office, Told};
use crate::endpoint::{Target, Unheard};

/// The pauses between tries: the first, doubled each time, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How often an endpoint is complained of.
const COMPLAINT: Duration = Duration::from_secs(60);

/// One endpoint of an app. Shared by its lanes.
pub(super) struct Endpoint {
    app: Arc<App>,
    pub(super) webhook: Webhook,
    target: Target,
    headers: HeaderMap,
    complained: Cell<Option<Instant>>,
}

impl Endpoint {
    /// `None`: its URL is none, which the settings refuse before.
    pub(super) fn new(app: &Arc<App>, webhook: &Webhook) -> Option<Rc<Self>> {
        let target = Target::parse(&webhook.url).ok()?;
        let headers = letter::fixed_headers(app, webhook);
        Some(Rc::new(Self { app: app.clone(), webhook: webhook.clone(), target, headers, complained: Cell::new(None) }))
    }

    /// Says once a minute what is wrong. Not the whole URL: there may be a token in it.
    fn complain(&self, why: &str, lost: usize) {
        if self.complained.get().is_some_and(|when| when.elapsed() < COMPLAINT) {
            return;
        }
        self.complained.set(Some(Instant::now()));
        tracing::warn!(app = &*self.app.id, endpoint = self.target.origin(), why, lost, "a webhook is not received");
    }
}

/// Works off a line until it is closed, or until the office wants an end.
pub(super) async fn run(office: Rc<Office>, endpoint: Rc<Endpoint>, mut line: Receiver<Rc<Told>>) {
    let mut batch = Vec::new();
    let max = office.house.settings.batch_events;
    while !office.is_ending() && line.recv_many(&mut batch, max).await > 0 {
        tell(&office, &endpoint, &mut batch).await;
        batch.clear();
    }
}

/// Posts a batch until it is received. What has become too old after a failed try is lost.
async fn tell(office: &Office, endpoint: &Endpoint, batch: &mut Vec<Rc<Told>>) {
    let metrics = &office.house.metrics;
    let app = &endpoint.app.id;
    let mut pause = PAUSE;
    loop {
        let Err(why) = post(office, endpoint, batch).await else {
            metrics.webhooks_sent(app, batch.len());
            return office.done_with(batch);
        };
        metrics.webhook_failed(app);
        let oldest = now().saturating_sub(office.house.settings.retry.as_millis() as u64);
        let (lost, kept): (Vec<_>, Vec<_>) = batch.drain(..).partition(|told| told.job.time_ms <= oldest);
        endpoint.complain(&why, lost.len());
        if !lost.is_empty() {
            metrics.webhooks_lost(app, "expired", lost.len());
            office.done_with(&lost);
        }
        *batch = kept;
        if batch.is_empty() {
            return;
        }
        tokio::select! {
            () = sleep(pause.mul_f64(jitter())) => {}
            // What is left stays undone.
            () = office.ends() => return,
        }
        pause = (pause * 2).min(PAUSE_MAX);
        metrics.webhook_retried(app);
    }
}

/// # Errors
/// Why it counts as not received, in words for the log.
async fn post(office: &Office, endpoint: &Endpoint, batch: &[Rc<Told>]) -> Result<(), String> {
    let jobs = batch.iter().map(|told| &told.job);
    let body = letter::body(jobs.clone());
    let mut headers = endpoint.headers.clone();
    letter::sign(&mut headers, &endpoint.app, &body, jobs);
    let limit = office.house.settings.timeout;
    match timeout(limit, office.house.caller.tell(&endpoint.target, headers, body)).await {
        Ok(Ok(status)) if status.is_success() => Ok(()),
        Ok(Ok(status)) => Err(format!("it answered {status}")),
        Ok(Err(Unheard::Unreachable(why))) => Err(format!("it cannot be reached: {why}")),
        Ok(Err(Unheard::Broken(why))) => Err(format!("its answer is of no use: {why}")),
        Err(_) => Err(format!("it did not answer within {} s", limit.as_secs_f64())),
    }
}

/// 0.75 … 1.25, so that lanes that failed together do not come back together.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let number = std::collections::hash_map::RandomState::new().build_hasher().finish();
    0.75 + (number % 1_000) as f64 / 2_000.0
}

/// Milliseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
