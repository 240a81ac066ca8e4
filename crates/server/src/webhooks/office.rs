//! The office of one app: takes what waits in the backplane and gives it to the lanes of those who want it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::App;
use model::webhook::Job;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::House;
use super::lane::{self, Endpoint};

/// Happenings that an office holds; more stay in the backplane's queue.
const HELD_MAX: usize = 1_000;

/// The most that is taken at a time.
const TAKE_MAX: usize = 200;

/// After a take that came back empty and early.
const PAUSE: Duration = Duration::from_millis(200);

/// How long, where nothing outlives the node, the last events may take to be queued: `channel_vacated` comes 3 seconds
/// after the last connection.
const STRAGGLERS: Duration = Duration::from_secs(4);

/// A happening that is being told.
pub(super) struct Told {
    pub(super) job: Job,
    /// Its place in the order.
    number: u64,
    /// Endpoints that have not had it.
    left: Cell<usize>,
}

/// Whether an office goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Open,
    /// Tells what it can. Since when.
    Flushing(Instant),
    /// Ends after the requests that are under way.
    Ending,
}

pub(super) struct Office {
    pub(super) house: Rc<House>,
    app: RefCell<Arc<App>>,
    held: RefCell<Held>,
    stage: watch::Sender<Stage>,
    renewed: Cell<bool>,
    /// Its app is gone, or another office has it.
    is_gone: Cell<bool>,
    /// The app or the stage is another one, or there is room again.
    changed: Notify,
    task: RefCell<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Held {
    by_number: BTreeMap<u64, Rc<Told>>,
    by_id: HashMap<Box<str>, u64>,
    count: u64,
}

/// The way into a lane.
type Line = Sender<Rc<Told>>;

/// The lanes of all endpoints.
struct Lanes {
    endpoints: Vec<(Rc<Endpoint>, Vec<Line>)>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Office {
    pub(super) fn open(house: Rc<House>, app: Arc<App>) -> Rc<Self> {
        let office = Rc::new(Self {
            house,
            app: RefCell::new(app),
            held: RefCell::default(),
            stage: watch::Sender::new(Stage::Open),
            renewed: Cell::new(false),
            is_gone: Cell::new(false),
            changed: Notify::new(),
            task: RefCell::default(),
        });
        let task = tokio::task::spawn_local(office.clone().run());
        *office.task.borrow_mut() = Some(task);
        office
    }

    /// The app is this one from now on. Requests under way are begun anew where it matters to them.
    pub(super) fn renew(&self, app: Arc<App>) {
        let old = self.app.replace(app.clone());
        if (&old.webhooks, &old.key, &old.secrets) != (&app.webhooks, &app.key, &app.secrets) {
            self.renewed.set(true);
            self.changed.notify_one();
        }
    }

    /// Stops taking, or tells first what would be lost.
    pub(super) fn close(&self) {
        let stage = if self.house.outlived { Stage::Ending } else { Stage::Flushing(Instant::now()) };
        self.stage.send_replace(stage);
        self.changed.notify_one();
    }

    /// Stops taking, for its app is gone. What it holds is not told.
    pub(super) fn end(&self) {
        self.stage.send_replace(Stage::Ending);
        self.is_gone.set(true);
        self.changed.notify_one();
        self.house.metrics.forget_webhooks(&self.app.borrow().id);
    }

    /// Waits for its end.
    pub(super) async fn closed(&self) {
        let task = self.task.borrow_mut().take();
        if let Some(task) = task {
            // A panic has been printed.
            let _ = task.await;
        }
    }

    /// Counts what is lost with the node.
    pub(super) async fn give_up(&self) {
        if self.house.outlived {
            return;
        }
        let app = self.app.borrow().id.clone();
        let mut left = 0;
        // What it had no room for waits in a queue that ends with the node, too.
        while let Ok(jobs) =
            timeout(Duration::ZERO, self.house.backplane.clone().take_jobs(app.clone(), TAKE_MAX)).await
            && !jobs.is_empty()
        {
            left += jobs.len();
        }
        left += self.held.borrow().by_number.len();
        if left > 0 {
            self.house.metrics.webhooks_lost(&app, "shutdown", left);
            tracing::warn!(app = &*app, lost = left, "webhooks were not received before the node stopped");
        }
    }

    pub(super) fn is_ending(&self) -> bool {
        *self.stage.borrow() == Stage::Ending
    }

    /// Waits until nothing is to be tried again.
    pub(super) async fn ends(&self) {
        // The sender is this office's own.
        let _ = self.stage.subscribe().wait_for(|stage| *stage == Stage::Ending).await;
    }

    async fn run(self: Rc<Self>) {
        let mut lanes = self.lanes();
        while let Some(max) = self.room(&mut lanes).await {
            let app = self.app.borrow().id.clone();
            let began = Instant::now();
            let jobs = tokio::select! {
                jobs = self.house.backplane.clone().take_jobs(app, max) => jobs,
                () = self.changed.notified() => continue,
            };
            if jobs.is_empty() {
                if matches!(*self.stage.borrow(), Stage::Flushing(since) if since.elapsed() > STRAGGLERS) {
                    break;
                }
                if began.elapsed() < PAUSE {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            for job in jobs {
                self.hold(job, &lanes);
            }
            self.tell_age();
        }
        lanes.endpoints.clear();
        for task in lanes.tasks.drain(..) {
            // A panic has been printed.
            let _ = task.await;
        }
    }

    /// Waits until something may be taken, and says how much; `None` at the end. Follows the app.
    async fn room(self: &Rc<Self>, lanes: &mut Lanes) -> Option<usize> {
        loop {
            if self.is_ending() {
                return None;
            }
            if self.renewed.take() {
                *lanes = self.lanes();
                let held: Vec<Rc<Told>> = self.held.borrow().by_number.values().cloned().collect();
                held.iter().for_each(|told| self.give(told, lanes));
            }
            let room = HELD_MAX.saturating_sub(self.held.borrow().by_number.len());
            if room > 0 {
                return Some(room.min(TAKE_MAX));
            }
            self.changed.notified().await;
        }
    }

    fn lanes(self: &Rc<Self>) -> Lanes {
        let app = self.app.borrow().clone();
        let mut lanes = Lanes { endpoints: Vec::new(), tasks: Vec::new() };
        for endpoint in app.webhooks.iter().filter_map(|webhook| Endpoint::new(&app, webhook)) {
            let mut lines = Vec::new();
            let room = HELD_MAX / self.house.settings.lanes;
            for _ in 0..self.house.settings.lanes {
                let (line, end) = channel(HELD_MAX);
                lines.push(line);
                lanes.tasks.push(tokio::task::spawn_local(lane::run(self.clone(), endpoint.clone(), end, room)));
            }
            lanes.endpoints.push((endpoint, lines));
        }
        lanes
    }

    fn hold(&self, job: Job, lanes: &Lanes) {
        let told = {
            let mut held = self.held.borrow_mut();
            // After a lost link the backplane gives again what it does not know to be done.
            if held.by_id.contains_key(&job.id) {
                return;
            }
            held.count += 1;
            let told = Rc::new(Told { job, number: held.count, left: Cell::new(0) });
            held.by_id.insert(told.job.id.clone(), told.number);
            held.by_number.insert(told.number, told.clone());
            told
        };
        self.give(&told, lanes);
    }

    /// Puts a happening into the line of each endpoint that wants it.
    fn give(&self, told: &Rc<Told>, lanes: &Lanes) {
        let (kind, channel) = (told.job.happening.kind(), told.job.channel.as_str());
        let wanted = lanes.endpoints.iter().filter(|(endpoint, _)| endpoint.webhook.wants(kind, channel));
        let mut left = 0;
        for (_, lines) in wanted {
            let mut hasher = DefaultHasher::new();
            channel.hash(&mut hasher);
            let line = &lines[hasher.finish() as usize % lines.len()];
            // There is room for all that is held. A lane that is gone panicked; then the happening stays undone.
            let _ = line.try_send(told.clone());
            left += 1;
        }
        told.left.set(left);
        if left == 0 {
            self.forget(std::slice::from_ref(told));
        }
    }

    /// An endpoint has these, or has lost them.
    pub(super) fn done_with(&self, batch: &[Rc<Told>]) {
        for told in batch {
            told.left.set(told.left.get().saturating_sub(1));
        }
        let done: Vec<Rc<Told>> = batch.iter().filter(|told| told.left.get() == 0).cloned().collect();
        self.forget(&done);
    }

    fn forget(&self, done: &[Rc<Told>]) {
        if done.is_empty() {
            return;
        }
        let was_full = {
            let mut held = self.held.borrow_mut();
            let was_full = held.by_number.len() >= HELD_MAX;
            for told in done {
                held.by_number.remove(&told.number);
                held.by_id.remove(&told.job.id);
            }
            was_full
        };
        let app = self.app.borrow().id.clone();
        self.house.backplane.done(app, done.iter().map(|told| told.job.id.clone()).collect());
        self.tell_age();
        if was_full {
            self.changed.notify_one();
        }
    }

    /// Since when the oldest waits.
    fn tell_age(&self) {
        if self.is_gone.get() {
            return;
        }
        let oldest = self.held.borrow().by_number.values().next().map(|told| told.job.time_ms);
        self.house.metrics.webhook_oldest(&self.app.borrow().id, oldest);
    }
}
