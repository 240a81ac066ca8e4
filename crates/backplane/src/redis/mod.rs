//! The backplane of many nodes: one Redis (6.2 or later, or Valkey) between them.
//!
//! `address` says where Redis is, `link` keeps the connections alive, `handover` changes from one link to the next, `lane` sends publishes in order,
//! `listener` owns the topics and hears everything, `presence` keeps the node registered, `errands` keeps rosters and counts
//! in Redis by the scripts, `queries` reads them, `webhooks` queues what applications are told of, `wire` and `keys` spell
//! messages and names. They meet in `inbox`. `examine` asks a Redis what is wrong with it, for an operator.
//! docs/redis.md lists every key, topic and right. Between nodes there is nothing but Redis.

mod address;
mod errands;
pub mod examine;
mod handover;
mod inbox;
mod keys;
mod lane;
mod link;
#[cfg(test)]
mod link_tests;
mod listener;
mod memory;
#[cfg(test)]
mod model_tests;
mod presence;
mod queries;
mod scripts;
#[cfg(test)]
mod server_tests;
mod settings;
#[cfg(test)]
mod tests;
mod webhooks;
mod wire;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::webhook::{Happening, Job};
use model::{ChannelKey, ChannelName, Event, Member, Reason, UserId};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::topics::Heard;
use crate::{
    AppSettings, Ask, Backplane, BoxFuture, ChannelCounts, Cluster, Counters, Item, LinkStatus, Page, PageRead,
};
use crate::{PublishError, QueryAnswer, QueryError, Workers};
use address::Address;
pub use address::{check_sentinel_url, shown_url};
use inbox::{Call, Inbox, Question, Told};
use keys::Keys;
use lane::{Keep, Lane};
use link::Supervisor;
use listener::Listener;
use presence::{Census, Store};
use queries::Own;
pub use settings::{Settings, StartError, TlsFiles};
use webhooks::Jobs;

/// What the script puts behind an event that a channel keeps, at most.
const POSITION_BYTES: usize = 64;

/// Longest wait for the last exits when closing.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts on the given runtime, which needs timers and I/O. A Redis that cannot be reached is no error: it is tried for
/// ever, and [`Backplane::status`] tells. Dropping the backplane cuts it off like a killed process; see
/// [`Cluster::close`].
///
/// # Errors
/// The URL cannot be used, or the prefixes would mix up two apps. The text has no secret.
pub fn start(settings: Settings, workers: Arc<dyn Workers>, runtime: Handle) -> Result<Arc<dyn Cluster>, StartError> {
    let address = Address::read(&settings)?;
    settings.check_prefixes()?;
    let settings = Arc::new(settings);
    let node = format!("{:016x}", random());
    let keys = Arc::new(Keys::new(&settings, &node));
    let inbox = Arc::new(Inbox::new(settings.queue_bytes));
    let lane = Arc::new(Lane::new(settings.lane_bytes));
    let status = Arc::new(Mutex::new(LinkStatus::Starting));
    let tally = Arc::<Tally>::default();
    let listener =
        Listener::new(settings.clone(), keys.clone(), inbox.clone(), tally.clone(), workers.clone(), status.clone());
    let (heard, census, jobs, max_payload) =
        (listener.heard(), listener.census(), listener.jobs(), settings.max_payload);
    let supervisor = Supervisor {
        settings,
        has_sentinels: address.has_sentinels(),
        shown: address.shown,
        keys: keys.clone(),
        inbox: inbox.clone(),
        lane: lane.clone(),
        tally: tally.clone(),
        generations: AtomicU64::new(0),
    };
    let tasks = [runtime.spawn(listener.run()).abort_handle(), runtime.spawn(supervisor.run()).abort_handle()];
    Ok(Arc::new(Redis {
        max_payload,
        heard,
        census,
        jobs,
        keys,
        inbox,
        lane,
        status,
        tally,
        workers,
        runtime,
        tasks: Tasks(tasks),
    }))
}

struct Redis {
    max_payload: usize,
    heard: Arc<Heard>,
    census: Arc<Census>,
    jobs: Arc<Jobs>,
    keys: Arc<Keys>,
    inbox: Arc<Inbox>,
    lane: Arc<Lane>,
    status: Arc<Mutex<LinkStatus>>,
    tally: Arc<Tally>,
    workers: Arc<dyn Workers>,
    runtime: Handle,
    tasks: Tasks,
}

/// Ends the tasks with the last handle; their connections close with them.
#[derive(Clone)]
struct Tasks([AbortHandle; 2]);

impl Tasks {
    fn abort(&self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Redis {
    fn ask_listener(&self, question: Question) -> BoxFuture<Told> {
        let (answer, answered) = oneshot::channel();
        let _ = self.inbox.call(Call::Query(question, answer));
        Box::pin(async { answered.await.ok().flatten() })
    }

    /// Asks the listener for this node's part, then the store for the rest, on our own runtime.
    fn query<T, F>(
        &self,
        question: Question,
        ask: impl FnOnce(Arc<Store>, Vec<(Arc<ChannelKey>, Own)>) -> F + Send + 'static,
    ) -> QueryAnswer<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, QueryError>> + Send,
    {
        let asked = self.ask_listener(question);
        let asking = self.runtime.spawn(async move {
            let (store, own) = asked.await.ok_or(QueryError::Unavailable)?;
            ask(store, own).await
        });
        Box::pin(async { asking.await.unwrap_or(Err(QueryError::Unavailable)) })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl Backplane for Redis {
    fn ask(&self, worker: usize, ask: Ask) {
        if let Some(Call::Ask(worker, Ask { channel, subscription, .. })) = self.inbox.call(Call::Ask(worker, ask)) {
            self.workers.push(worker, Item::Refuse { channel, subscription, refusal: Reason::Unavailable.into() });
        }
    }

    fn leave(&self, worker: usize, channel: Arc<ChannelKey>) {
        let _ = self.inbox.call(Call::Leave(worker, channel));
    }

    fn exit(&self, _worker: usize, channel: Arc<ChannelKey>, user: UserId) {
        let _ = self.inbox.call(Call::Exit(channel, user));
    }

    fn publish(&self, channel: Arc<ChannelKey>, event: Event) -> BoxFuture<Result<(), PublishError>> {
        let Ok(topic) = self.keys.topic(&channel) else {
            return Box::pin(std::future::ready(Err(PublishError::BadChannel)));
        };
        let payload = wire::encode(&event);
        let depth = self.keys.depth(&channel).filter(|_| event.cacheable);
        if payload.len() + usize::from(depth.is_some()) * POSITION_BYTES > self.max_payload {
            return Box::pin(std::future::ready(Err(PublishError::TooLarge(self.max_payload))));
        }
        Tally::add(&self.tally.messages_out, 1);
        Tally::add(&self.tally.bytes_out, payload.len() as u64);
        let keep = depth.map(|depth| Keep { store: self.keys.store(), channel: Keys::channel(&channel), depth });
        self.lane.publish(topic.as_str().to_owned(), payload, keep)
    }

    fn report(&self, channel: Arc<ChannelKey>, happening: Happening) {
        self.jobs.report(&channel, happening, &self.tally);
    }

    fn status(&self) -> LinkStatus {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster for Redis {
    fn terminate(&self, channel: Arc<ChannelKey>) -> BoxFuture<Result<(), PublishError>> {
        match self.keys.topic(&channel) {
            Ok(topic) => self.lane.publish(topic.as_str().to_owned(), wire::TERMINATE_PAYLOAD.into(), None),
            Err(_) => Box::pin(std::future::ready(Err(PublishError::BadChannel))),
        }
    }

    fn counts(&self, channels: Vec<Arc<ChannelKey>>) -> QueryAnswer<Vec<ChannelCounts>> {
        self.query(Question::Channels(channels), |store, own| async move { store.counts(own).await })
    }

    fn occupied(&self, app: Arc<str>, name_prefix: String) -> QueryAnswer<Vec<(ChannelName, ChannelCounts)>> {
        let question = Question::OutOfStep(app.clone());
        self.query(question, |store, own| async move { store.occupied(app, name_prefix, own).await })
    }

    fn users(&self, channel: Arc<ChannelKey>) -> QueryAnswer<Vec<Member>> {
        self.query(Question::Nothing, |store, _| async move { store.users(channel).await })
    }

    fn history(&self, channel: Arc<ChannelKey>, page: Page) -> QueryAnswer<PageRead> {
        self.query(Question::Nothing, |store, _| async move { store.history(channel, page).await })
    }

    fn connections_elsewhere(&self, app: &str) -> u64 {
        self.census.connections_elsewhere(app)
    }

    fn nodes(&self) -> usize {
        self.census.nodes()
    }

    fn set_apps(&self, apps: Vec<AppSettings>) {
        self.keys.set_apps(apps);
    }

    fn take_jobs(self: Arc<Self>, app: Arc<str>, max: usize) -> BoxFuture<Vec<Job>> {
        Box::pin(async move { self.jobs.take(&app, max).await })
    }

    fn done(&self, app: Arc<str>, jobs: Vec<Box<str>>) {
        self.jobs.done(&app, jobs);
    }

    fn channels(&self) -> Vec<((Arc<str>, &'static str), u64)> {
        self.heard.counts()
    }

    fn counters(&self) -> Counters {
        let (history_repaired, history_unnumbered) = self.heard.of_histories();
        Counters { history_repaired, history_unnumbered, ..self.tally.read() }
    }

    fn close(&self) -> BoxFuture<()> {
        let (closed, done) = oneshot::channel();
        let _ = self.inbox.call(Call::Close(closed));
        let tasks = self.tasks.clone();
        let asked = self.ask_listener(Question::Nothing);
        // On our own runtime: the caller's need not have timers.
        let closing = self.runtime.spawn(async move {
            if let Ok(Some((store, _))) = tokio::time::timeout(CLOSE_TIMEOUT, asked).await {
                store.step_down().await;
            }
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, done).await;
            tasks.abort();
        });
        Box::pin(async { _ = closing.await })
    }
}

/// [`Counters`], counted from several tasks.
#[derive(Default)]
struct Tally {
    messages_in: AtomicU64,
    bytes_in: AtomicU64,
    messages_out: AtomicU64,
    bytes_out: AtomicU64,
    reconnects: AtomicU64,
    errors: AtomicU64,
    auth_failures: AtomicU64,
    dropped_malformed: AtomicU64,
    dropped_too_large: AtomicU64,
    presence_expired: AtomicU64,
    unknown_internal: AtomicU64,
    webhooks_lost: AtomicU64,
    evicts: AtomicBool,
}

impl Tally {
    fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    fn read(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            messages_in: read(&self.messages_in),
            bytes_in: read(&self.bytes_in),
            messages_out: read(&self.messages_out),
            bytes_out: read(&self.bytes_out),
            reconnects: read(&self.reconnects),
            errors: read(&self.errors),
            auth_failures: read(&self.auth_failures),
            dropped_malformed: read(&self.dropped_malformed),
            dropped_too_large: read(&self.dropped_too_large),
            presence_expired: read(&self.presence_expired),
            unknown_internal: read(&self.unknown_internal),
            webhooks_lost: read(&self.webhooks_lost),
            evicts: self.evicts.load(Ordering::Relaxed),
            ..Counters::default()
        }
    }
}

/// Random enough for names and pauses: the standard library's hash keys, fresh at each call.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}
