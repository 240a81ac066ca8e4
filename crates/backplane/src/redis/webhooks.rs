//! Webhook jobs in Redis: a stream an app, read by the one node that leads for it.
//!
//! Who leads is decided by BEAT. All leaders read under one consumer name, so what one left undone its successor finds by
//! looking through what is not done, at first and then from time to time. What was posted and not yet done when its leader
//! died is told twice, never lost. One reader an app keeps the order.

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
/// How often what is not done is looked through.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// After an error, and while nobody takes what was read.
const PAUSE: Duration = Duration::from_millis(200);
/// Client events that wait to be queued; more are lost, and counted.
const REPORTS_MAX: usize = 1_000;
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

/// One app's jobs in this node.
#[derive(Default)]
struct Desk {
    waiting: VecDeque<Job>,
    /// All that were put here and are not out of the queue yet: what is read again of them is known.
    in_hand: HashSet<Box<str>>,
    /// To be taken out of the queue.
    done: Vec<Box<str>>,
}

#[derive(Default)]
struct Desks {
    by_app: HashMap<Arc<str>, Desk>,
    /// Apps that this node leads for.
    led: HashSet<Arc<str>>,
}

/// Jobs on their way in and out, kept over links.
#[derive(Default)]
pub(super) struct Jobs {
    desks: Mutex<Desks>,
    /// Something waits.
    filled: Notify,
    /// Something is done.
    finished: Notify,
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

    /// These are the apps that this node leads for. What waits for another is his who leads for that now.
    pub(super) fn lead(&self, apps: Vec<Arc<str>>) {
        let mut desks = self.desks();
        let Desks { by_app, led } = &mut *desks;
        *led = apps.into_iter().collect();
        for (_, desk) in by_app.iter_mut().filter(|(app, _)| !led.contains(*app)) {
            for job in desk.waiting.drain(..) {
                desk.in_hand.remove(&job.id);
            }
        }
    }

    pub(super) fn led(&self) -> Vec<Arc<str>> {
        self.desks().led.iter().cloned().collect()
    }

    pub(super) async fn take(&self, app: &str, max: usize) -> Vec<Job> {
        let deadline = Instant::now() + TAKE_TIMEOUT;
        loop {
            let filled = self.filled.notified();
            tokio::pin!(filled);
            filled.as_mut().enable();
            if let Some(desk) = self.desks().by_app.get_mut(app)
                && !desk.waiting.is_empty()
            {
                let n = desk.waiting.len().min(max);
                return desk.waiting.drain(..n).collect();
            }
            if tokio::time::timeout_at(deadline, filled).await.is_err() {
                return Vec::new();
            }
        }
    }

    /// Takes in what is new. What is read after the lead was lost is left to the next leader.
    fn put(&self, app: &Arc<str>, jobs: Vec<Job>) {
        let mut desks = self.desks();
        if !desks.led.contains(app) {
            return;
        }
        let desk = desks.by_app.entry(app.clone()).or_default();
        desk.waiting.extend(jobs.into_iter().filter(|job| desk.in_hand.insert(job.id.clone())));
        drop(desks);
        self.filled.notify_waiters();
    }

    pub(super) fn done(&self, app: &Arc<str>, jobs: Vec<Box<str>>) {
        self.desks().by_app.entry(app.clone()).or_default().done.extend(jobs);
        self.finished.notify_one();
    }

    /// The next to be taken out of a queue.
    fn next_done(&self) -> Option<(Arc<str>, Vec<Box<str>>)> {
        let desks = self.desks();
        let (app, desk) = desks.by_app.iter().find(|(_, desk)| !desk.done.is_empty())?;
        Some((app.clone(), desk.done.iter().take(READ_MAX).cloned().collect()))
    }

    fn forget(&self, app: &str, jobs: &[Box<str>]) {
        if let Some(desk) = self.desks().by_app.get_mut(app) {
            desk.done.drain(..jobs.len());
            jobs.iter().for_each(|id| _ = desk.in_hand.remove(id));
        }
    }

    fn has_room(&self, app: &str) -> bool {
        self.desks().by_app.get(app).is_none_or(|desk| desk.waiting.len() < ROOM)
    }

    fn desks(&self) -> MutexGuard<'_, Desks> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reports(&self) -> MutexGuard<'_, VecDeque<Report>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far an app's stream was read.
struct Progress {
    /// While what is not done is looked through: the last of it so far.
    undone: Option<String>,
    looked: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { undone: Some("0".to_owned()), looked: Instant::now() }
    }
}

/// Why a call read nothing.
enum Unread {
    /// The stream or its group does not exist.
    NoGroup,
    Failed,
}

impl Store {
    /// Reads jobs until it is dropped.
    pub(super) async fn read_jobs(self: Arc<Self>) {
        let mut progress: HashMap<Arc<str>, Progress> = HashMap::new();
        loop {
            let led = self.jobs.led();
            progress.retain(|app, _| led.contains(app));
            let (mut current, mut behind) = (Vec::new(), false);
            for app in led.into_iter().filter(|app| self.jobs.has_room(app)) {
                let progress = progress.entry(app.clone()).or_insert_with(Progress::new);
                if progress.undone.is_none() && progress.looked.elapsed() >= LOOK_EVERY {
                    *progress = Progress::new();
                }
                if progress.undone.is_none() || self.look_through(&app, progress).await {
                    behind |= progress.undone.is_some();
                    current.push(app);
                }
            }
            let read = !current.is_empty() && self.read_new(&current, !behind).await;
            if !read {
                // Whatever it was: groups that are gone are found and made when what is not done is looked through.
                progress.values_mut().filter(|_| !current.is_empty()).for_each(|progress| *progress = Progress::new());
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// One page of what is not done. False: nothing can be read of this app now.
    async fn look_through(&self, app: &Arc<str>, progress: &mut Progress) -> bool {
        let from = progress.undone.clone().unwrap_or_default();
        match self.read(std::slice::from_ref(app), &from, None).await {
            Ok(mut streams) => {
                let entries = streams.remove(&self.keys.webhooks(app)).unwrap_or_default();
                progress.undone = entries.last().and_then(|entry| entry.first()).and_then(text).map(str::to_owned);
                self.sort(app, entries);
                true
            }
            Err(Unread::NoGroup) => self.make_group(app).await,
            Err(Unread::Failed) => false,
        }
    }

    /// What is new, and waits for it where nothing else is to be done.
    async fn read_new(&self, apps: &[Arc<str>], wait: bool) -> bool {
        let wait = if wait { BLOCK.min(self.settings.command_timeout / 2) } else { Duration::from_millis(1) };
        let Ok(mut streams) = self.read(apps, ">", Some(wait)).await else { return false };
        for app in apps {
            self.sort(app, streams.remove(&self.keys.webhooks(app)).unwrap_or_default());
        }
        true
    }

    /// Entries by stream.
    async fn read(
        &self,
        apps: &[Arc<str>],
        from: &str,
        wait: Option<Duration>,
    ) -> Result<HashMap<String, Vec<Vec<Value>>>, Unread> {
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(GROUP).arg(CONSUMER).arg("COUNT").arg(READ_MAX);
        if let Some(wait) = wait {
            command.arg("BLOCK").arg(wait.as_millis() as u64);
        }
        command.arg("STREAMS");
        apps.iter().for_each(|app| _ = command.arg(self.keys.webhooks(app)));
        apps.iter().for_each(|_| _ = command.arg(from));
        let streams = match self.ask_once(&command, "cannot read the webhook jobs").await? {
            Value::Map(streams) => streams,
            _ => Vec::new(),
        };
        let stream = |(key, entries): (Value, Value)| {
            Some((text(&key)?.to_owned(), array(entries).into_iter().map(array).collect()))
        };
        Ok(streams.into_iter().filter_map(stream).collect())
    }

    /// Puts what came to the app's desk. A kind that this node does not know is left for one that does.
    fn sort(&self, app: &Arc<str>, entries: Vec<Vec<Value>>) {
        let jobs: Vec<Job> = entries.iter().filter_map(|entry| read(entry)).collect();
        if !jobs.is_empty() {
            self.jobs.put(app, jobs);
        }
    }

    async fn make_group(&self, app: &str) -> bool {
        let mut command = redis::cmd("XGROUP");
        command.arg("CREATE").arg(self.keys.webhooks(app)).arg(GROUP).arg("0").arg("MKSTREAM");
        self.ask_once(&command, "cannot make the group of the webhook jobs").await.is_ok()
    }

    async fn ask_once(&self, command: &redis::Cmd, complaint: &str) -> Result<Value, Unread> {
        let asking = async {
            let mut connection = self.connection().await?;
            command.query_async::<Value>(&mut connection).await.map_err(|error| error.to_string())
        };
        match timeout(self.settings.command_timeout * 2, asking).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if error.contains("NOGROUP") => Err(Unread::NoGroup),
            Ok(Err(error)) => {
                warn!(%error, "{complaint}; trying again");
                Tally::add(&self.tally.errors, 1);
                Err(Unread::Failed)
            }
            Err(_) => Err(Unread::Failed),
        }
    }

    /// Takes jobs that are done out of the queue, until it is dropped.
    pub(super) async fn send_done(self: Arc<Self>) {
        loop {
            let Some((app, jobs)) = self.jobs.next_done() else {
                self.jobs.finished.notified().await;
                continue;
            };
            let key = self.keys.webhooks(&app);
            let mut pipeline = redis::Pipeline::with_capacity(2);
            pipeline.cmd("XACK").arg(&key).arg(GROUP);
            jobs.iter().for_each(|id| _ = pipeline.arg(&**id));
            pipeline.cmd("XDEL").arg(&key);
            jobs.iter().for_each(|id| _ = pipeline.arg(&**id));
            match timeout(self.settings.command_timeout, self.send(&pipeline, 2)).await {
                Ok(Ok(answers)) if self.complain(&answers) == 0 => self.jobs.forget(&app, &jobs),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Lets another node lead at once.
    pub(super) async fn step_down(&self) {
        let led = self.jobs.led();
        let mut pipeline = redis::Pipeline::with_capacity(1);
        pipeline.cmd("HDEL").arg(format!("{}:g", self.keys.store()));
        led.iter().for_each(|app| _ = pipeline.arg(format!("lead:{}", keys::encoded(app))));
        if !led.is_empty() {
            // Without an answer the others find out by its silence.
            let _ = timeout(self.settings.command_timeout, self.send(&pipeline, 1)).await;
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
                Ok(Ok(answers)) => {
                    let refused = self.complain(&answers);
                    Tally::add(&self.tally.webhooks_lost, refused as u64);
                    self.jobs.reports().drain(..batch.len());
                }
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
