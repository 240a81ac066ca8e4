//! Webhook jobs in Redis: a stream an app, read by the one node that leads.
//!
//! Who leads is decided by BEAT. All leaders read under one consumer name, so what a dead one left undone is what its
//! successor reads first; what was posted and not yet done is then told twice, never lost. One reader keeps the order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::webhook::{Happening, Job};
use model::{ChannelKey, RawJson};
use redis::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::Tally;
use super::errands::{array, fields, text};
use super::keys::{self, Keys};
use super::presence::Store;
use crate::TAKE_TIMEOUT;

/// The consumer group, and the one consumer in it.
const GROUP: &str = "fanfare";
const CONSUMER: &str = "leader";
/// Jobs of one app that wait in the node; more stay in Redis.
const ROOM: usize = 1_000;
/// Jobs read in one call and app.
const READ_MAX: usize = 100;
/// Longest wait of one call for news.
const BLOCK: Duration = Duration::from_secs(1);
/// After an error, and while nobody takes what was read.
const PAUSE: Duration = Duration::from_millis(200);
/// Client events that wait to be queued; more are lost, and counted.
const REPORTS_MAX: usize = 10_000;
const REPORTS_BATCH: usize = 200;

/// A client event on its way into the queue.
#[derive(Clone)]
struct Report {
    channel: String,
    event: Box<str>,
    data: RawJson,
    socket: String,
    user: String,
}

/// Jobs on their way in and out, kept over links.
#[derive(Default)]
pub(super) struct Jobs {
    waiting: Mutex<HashMap<Arc<str>, VecDeque<Job>>>,
    /// Something waits.
    filled: Notify,
    reports: Mutex<VecDeque<Report>>,
    reported: Notify,
}

impl Jobs {
    pub(super) fn report(&self, channel: &ChannelKey, happening: Happening, tally: &Tally) {
        let Happening::ClientEvent { event, data, socket, user } = happening else { return };
        let user = user.map(|user| user.to_string()).unwrap_or_default();
        let report = Report { channel: Keys::channel(channel), event, data, socket: socket.to_string(), user };
        let mut reports = self.reports();
        if reports.len() >= REPORTS_MAX {
            return Tally::add(&tally.webhooks_lost, 1);
        }
        reports.push_back(report);
        drop(reports);
        self.reported.notify_one();
    }

    pub(super) async fn take(&self, app: &str, max: usize) -> Vec<Job> {
        let deadline = Instant::now() + TAKE_TIMEOUT;
        loop {
            let filled = self.filled.notified();
            tokio::pin!(filled);
            filled.as_mut().enable();
            if let Some(queue) = self.waiting().get_mut(app)
                && !queue.is_empty()
            {
                let n = queue.len().min(max);
                return queue.drain(..n).collect();
            }
            if tokio::time::timeout_at(deadline, filled).await.is_err() {
                return Vec::new();
            }
        }
    }

    fn put(&self, app: &Arc<str>, jobs: Vec<Job>) {
        self.waiting().entry(app.clone()).or_default().extend(jobs);
        self.filled.notify_waiters();
    }

    fn has_room(&self, app: &str) -> bool {
        self.waiting().get(app).is_none_or(|queue| queue.len() < ROOM)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Arc<str>, VecDeque<Job>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reports(&self) -> MutexGuard<'_, VecDeque<Report>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far each app's stream was read.
#[derive(Default)]
struct Progress {
    /// Apps whose group exists.
    known: HashSet<Arc<str>>,
    /// While what was left undone is read: the last of it so far.
    undone: HashMap<Arc<str>, String>,
}

impl Store {
    /// Reads jobs until it is dropped: while this node leads, on this link.
    pub(super) async fn read_jobs(self: Arc<Self>) {
        self.jobs.waiting().clear();
        let mut progress = Progress::default();
        loop {
            let apps: Vec<_> =
                self.keys.apps_with_webhooks().into_iter().filter(|app| self.jobs.has_room(app)).collect();
            let read = !apps.is_empty() && self.read_some(&mut progress, &apps).await;
            if !read {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// One call. False when there is reason to wait.
    async fn read_some(self: &Arc<Self>, progress: &mut Progress, apps: &[Arc<str>]) -> bool {
        for app in apps {
            if !progress.known.contains(app) {
                if !self.make_group(app).await {
                    return false;
                }
                progress.known.insert(app.clone());
                progress.undone.insert(app.clone(), "0".to_owned());
            }
        }
        // Asking for what was left undone never waits, so it is asked for alone.
        let undone: Vec<_> = apps.iter().filter(|app| progress.undone.contains_key(*app)).cloned().collect();
        let (apps, waits) = if undone.is_empty() { (apps, true) } else { (&undone[..], false) };
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(GROUP).arg(CONSUMER).arg("COUNT").arg(READ_MAX);
        if waits {
            command.arg("BLOCK").arg(BLOCK.min(self.settings.command_timeout / 2).as_millis() as u64);
        }
        command.arg("STREAMS");
        apps.iter().for_each(|app| _ = command.arg(self.keys.webhooks(app)));
        apps.iter().for_each(|app| _ = command.arg(progress.undone.get(app).map_or(">", String::as_str)));
        let asking = async {
            let mut connection = self.pool.get().await.map_err(|error| error.to_string())?;
            command.query_async::<Value>(&mut connection).await.map_err(|error| error.to_string())
        };
        match timeout(self.settings.command_timeout * 2, asking).await {
            Ok(Ok(answer)) => {
                self.sort(progress, apps, answer);
                true
            }
            Ok(Err(error)) => {
                // The data were lost: the groups are made anew.
                progress.known.clear();
                if !error.contains("NOGROUP") {
                    warn!(%error, "cannot read the webhook jobs; trying again");
                }
                false
            }
            Err(_) => false,
        }
    }

    /// Puts what came to the apps' queues.
    fn sort(self: &Arc<Self>, progress: &mut Progress, apps: &[Arc<str>], answer: Value) {
        let mut streams: HashMap<String, Value> = match answer {
            Value::Map(streams) => {
                streams.into_iter().filter_map(|(key, entries)| Some((text(&key)?.to_owned(), entries))).collect()
            }
            _ => HashMap::new(),
        };
        for app in apps {
            let entries = streams.remove(&self.keys.webhooks(app)).map(array).unwrap_or_default();
            let entries: Vec<_> = entries.into_iter().map(array).collect();
            if progress.undone.contains_key(app) {
                match entries.last().and_then(|entry| text(entry.first()?)) {
                    Some(last) => _ = progress.undone.insert(app.clone(), last.to_owned()),
                    None => _ = progress.undone.remove(app),
                }
            }
            let (mut jobs, mut unreadable) = (Vec::new(), Vec::new());
            for entry in entries {
                match read(&entry) {
                    Some(job) => jobs.push(job),
                    None => unreadable.extend(entry.first().and_then(text).map(Box::from)),
                }
            }
            if !jobs.is_empty() {
                self.jobs.put(app, jobs);
            }
            if !unreadable.is_empty() {
                let (store, app) = (self.clone(), app.clone());
                tokio::spawn(async move { store.done(&app, unreadable).await });
            }
        }
    }

    async fn make_group(&self, app: &str) -> bool {
        let mut command = redis::cmd("XGROUP");
        command.arg("CREATE").arg(self.keys.webhooks(app)).arg(GROUP).arg("0").arg("MKSTREAM");
        let asking = async {
            let mut connection = self.pool.get().await.map_err(|error| error.to_string())?;
            command.query_async::<Value>(&mut connection).await.map_err(|error| error.to_string())
        };
        match timeout(self.settings.command_timeout, asking).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) if error.contains("BUSYGROUP") => true,
            Ok(Err(error)) => {
                warn!(%error, "cannot read the webhook jobs; trying again");
                false
            }
            Err(_) => false,
        }
    }

    /// Takes jobs out of the queue. What fails here is told again by the next leader.
    pub(super) async fn done(&self, app: &str, jobs: Vec<Box<str>>) {
        let key = self.keys.webhooks(app);
        let mut pipeline = redis::Pipeline::with_capacity(2);
        pipeline.cmd("XACK").arg(&key).arg(GROUP);
        jobs.iter().for_each(|id| _ = pipeline.arg(&**id));
        pipeline.cmd("XDEL").arg(&key);
        jobs.iter().for_each(|id| _ = pipeline.arg(&**id));
        if !matches!(timeout(self.settings.command_timeout, self.send(&pipeline, 2)).await, Ok(Ok(_))) {
            Tally::add(&self.tally.errors, 1);
        }
    }

    /// Queues the client events that are reported, in their order, until it is dropped.
    pub(super) async fn send_reports(self: Arc<Self>) {
        loop {
            let batch: Vec<Report> = self.jobs.reports().iter().take(REPORTS_BATCH).cloned().collect();
            if batch.is_empty() {
                self.jobs.reported.notified().await;
                continue;
            }
            let mut pipeline = redis::Pipeline::with_capacity(batch.len());
            for report in &batch {
                let mut call = self.invocation(&self.scripts.report);
                call.arg(&report.channel).arg(&*report.event).arg(report.data.as_str());
                call.arg(&report.socket).arg(&report.user);
                pipeline.invoke_script(&call);
            }
            match timeout(self.settings.command_timeout * 2, self.send(&pipeline, batch.len())).await {
                Ok(Ok(_)) => _ = self.jobs.reports().drain(..batch.len()),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// An entry of the stream: its id, then fields and values.
fn read(entry: &[Value]) -> Option<Job> {
    let id = entry.first().and_then(text)?;
    let fields: HashMap<&str, &str> = fields(entry.get(1)?)?.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let field = |name: &str| fields.get(name).copied();
    let user = || field("u").filter(|user| !user.is_empty()).map(model::UserId::from);
    let happening = match field("k")? {
        "o" => Happening::ChannelOccupied,
        "v" => Happening::ChannelVacated,
        "a" => Happening::MemberAdded(user()?),
        "r" => Happening::MemberRemoved(user()?),
        "m" => Happening::CacheMiss,
        "c" => Happening::SubscriptionCount(field("n")?.parse().ok()?),
        "e" => Happening::ClientEvent {
            event: field("ev")?.into(),
            data: RawJson::parse(field("d")?)?,
            socket: field("s")?.parse().ok()?,
            user: user(),
        },
        _ => return None,
    };
    Some(Job { id: id.into(), time_ms: field("t")?.parse().ok()?, channel: keys::decoded(field("c")?)?, happening })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_cannot_be_read_is_no_job() {
        let entry = |fields: &[&str]| {
            let bulk = |text: &&str| Value::BulkString(text.as_bytes().to_vec());
            [bulk(&"1-1"), Value::Array(fields.iter().map(bulk).collect())]
        };
        let job = read(&entry(&["k", "a", "c", "presence-x%C3%A9", "t", "5", "u", "7"])).unwrap();
        assert_eq!((&*job.id, job.time_ms, job.channel.as_str()), ("1-1", 5, "presence-xé"));
        assert_eq!(job.happening, Happening::MemberAdded("7".into()));
        for wrong in [&["k", "a", "c", "x", "t", "5"][..], &["k", "?", "c", "x", "t", "5"], &["k", "o", "t", "5"], &[]]
        {
            assert_eq!(read(&entry(wrong)), None, "{wrong:?}");
        }
    }
}
