//! The node's registration in Redis, and what the nodes know of each other by it.
//!
//! Redis keeps, a user and channel, through how many nodes he is present; a node tells it only its own first and last
//! socket of a user. What lives is an incarnation: it beats, and one that is silent for too long is reaped by whoever sees
//! it. An incarnation that Redis does not know may not write; the node then takes a new one and tells everything anew.
//! What stands under the old one is taken out after that.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Script, ScriptInvocation, Value};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::errands::{array, millis, number, text};
use super::inbox::{Inbox, News};
use super::keys::{self, Keys};
use super::link::{Pulse, refuses_login};
use super::scripts::Scripts;
use super::settings::Settings;
use super::webhooks::Jobs;
use super::{Tally, random};
use crate::Workers;
use crate::roster::Renewal;

/// Users and counts that one REAP takes out.
const REAP_STEPS: usize = 500;
/// Longest wait before a reap, so that not all nodes reap the same one at once.
const REAP_WAIT: Duration = Duration::from_millis(500);
/// Under which name the node is known, kept over links.
#[derive(Default)]
pub(super) struct Registration {
    counter: u64,
    /// The server's run id when it was made; empty: not registered yet.
    run: String,
    /// The data set's epoch then.
    epoch: String,
    /// What the listener is to be told of the last renewal, until it was.
    renewal: Option<Renewal>,
    /// Names that it had before and that may still stand in Redis: after a restart from an old snapshot they hold users
    /// who have left since.
    replaced: Vec<String>,
}

/// The presence side of one link.
pub(super) struct Store {
    pub settings: Arc<Settings>,
    pub keys: Arc<Keys>,
    pub scripts: Arc<Scripts>,
    pub registration: Arc<Mutex<Registration>>,
    pub pool: deadpool_redis::Pool,
    pub tally: Arc<Tally>,
    pub workers: Arc<dyn Workers>,
    pub census: Arc<Census>,
    pub jobs: Arc<Jobs>,
    /// Of the link that this store belongs to.
    pub pulse: Arc<watch::Sender<Pulse>>,
    /// An operation was refused for its incarnation.
    pub fenced: Notify,
    /// When it was last logged that a script was refused.
    pub complained: Mutex<Option<std::time::Instant>>,
    /// Questions at a time: they must not take all connections from the beat.
    pub questions: Semaphore,
}

/// What the last beat told of the others.
#[derive(Default)]
pub(super) struct Census {
    nodes: AtomicUsize,
    /// Of the other nodes, by app.
    connections: Mutex<HashMap<Arc<str>, u64>>,
    /// Apps that the last beat named: one that is gone is named once more, with nothing.
    named: Mutex<Vec<Arc<str>>>,
    /// Webhook jobs that found no room, of the whole cluster, as this node knows it.
    lost: Mutex<Option<u64>>,
}

impl Registration {
    /// The server has taken it. What that means for what it was told before.
    fn note(&mut self, run: &str, epoch: &str) -> Renewal {
        if self.counter > 0 && self.run.is_empty() {
            let same = self.epoch == epoch && self.renewal != Some(Renewal::DataLost);
            self.renewal = Some(if same { Renewal::Fenced } else { Renewal::DataLost });
        }
        (self.run, self.epoch) = (run.to_owned(), epoch.to_owned());
        self.renewal.unwrap_or(Renewal::None)
    }
}

impl Census {
    /// At least this one.
    pub(super) fn nodes(&self) -> usize {
        self.nodes.load(Relaxed).max(1)
    }

    pub(super) fn connections_elsewhere(&self, app: &str) -> u64 {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).get(app).copied().unwrap_or(0)
    }

    /// How many jobs were lost since this was last asked.
    fn newly_lost(&self, lost: u64) -> u64 {
        let known = self.lost.lock().unwrap_or_else(PoisonError::into_inner).replace(lost);
        lost.saturating_sub(known.unwrap_or(lost))
    }
}

#[derive(PartialEq, Debug)]
pub(super) enum Beat {
    /// `leads`: the apps whose webhooks this node tells.
    Lives {
        dead: Vec<String>,
        leads: Vec<Arc<str>>,
    },
    Fenced,
    Failed,
}

impl Store {
    /// Registers the node, beats, and reaps, until it is dropped.
    pub(super) async fn keep(self: Arc<Self>, generation: u64, inbox: Arc<Inbox>) {
        let mut reaping: JoinSet<String> = JoinSet::new();
        let mut reaped = HashSet::new();
        let mut beats = interval(self.settings.presence_heartbeat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut registered = false;
        loop {
            let fenced = tokio::select! {
                _ = beats.tick() => false,
                () = self.fenced.notified() => true,
                Some(done) = reaping.join_next() => {
                    reaped.remove(&done.unwrap_or_default());
                    continue;
                }
            };
            if !registered {
                if let Some(renewal) = self.hello().await {
                    registered = true;
                    inbox.tell(News::Registered(generation, renewal));
                }
                continue;
            }
            match if fenced { Beat::Fenced } else { self.beat().await } {
                Beat::Lives { dead, leads } => {
                    self.jobs.lead(leads);
                    for dead in dead {
                        if reaped.insert(dead.clone()) {
                            reaping.spawn(self.clone().reap(dead));
                        }
                    }
                }
                Beat::Fenced => {
                    inbox.tell(News::Fenced(generation));
                    warn!("Redis lost this node's presence or took it for dead; registering anew");
                    self.renew();
                    registered = false;
                    beats.reset_immediately();
                }
                Beat::Failed => {}
            }
        }
    }

    pub(super) fn incarnation(&self) -> String {
        format!("{}.{}", self.keys.node, self.lock().counter)
    }

    pub(super) fn renew(&self) {
        let replaced = self.incarnation();
        let mut registration = self.lock();
        registration.counter += 1;
        registration.run.clear();
        registration.replaced.push(replaced);
    }

    pub(super) fn has_replaced(&self) -> bool {
        !self.lock().replaced.is_empty()
    }

    /// Takes out what stands under names that this node had before. Only once everything stands under the new one: so
    /// nobody who is still here leaves.
    pub(super) async fn retire(self: Arc<Self>) {
        let replaced = std::mem::take(&mut self.lock().replaced);
        for old in replaced {
            if !self.take_out(&old, None).await {
                self.lock().replaced.push(old);
            }
        }
    }

    /// The listener knows of the last renewal.
    pub(super) fn note_told(&self) {
        self.lock().renewal = None;
    }

    /// Registers; `None` when there was no answer.
    pub(super) async fn hello(&self) -> Option<Renewal> {
        loop {
            // Two statements: a lock lives until the end of its own.
            let known = self.lock().run.clone();
            let inc = self.incarnation();
            let mut hello = self.invocation(&self.scripts.hello);
            hello.arg(&inc).arg(format!("{:016x}", random())).arg(&known).arg(millis(self.settings.quiet()));
            let answer = array(self.call(&hello).await?);
            match (answer.first().and_then(text), answer.get(1).and_then(text)) {
                (Some("OK"), Some(run)) => {
                    let epoch = answer.get(2).and_then(text).unwrap_or_default();
                    return Some(self.lock().note(run, epoch));
                }
                (Some("RENEW"), _) => self.renew(),
                _ => return None,
            }
        }
    }

    pub(super) async fn beat(&self) -> Beat {
        let apps = self.apps_to_name();
        let connections = self.workers.connections();
        let own: Vec<u64> = apps.iter().map(|(app, ..)| connections.get(app).copied().unwrap_or(0)).collect();
        let mut beat = self.invocation(&self.scripts.beat);
        beat.arg(self.incarnation()).arg(millis(self.settings.gap()));
        beat.arg(millis(self.settings.quiet())).arg(millis(self.settings.presence_dead_after));
        for ((app, wants, has_webhooks), n) in apps.iter().zip(&own) {
            beat.arg(keys::encoded(app)).arg(*n).arg(wants).arg(u8::from(*has_webhooks));
        }
        let answer = array(self.call(&beat).await.unwrap_or_default());
        match answer.first().and_then(text) {
            Some("OK") => {
                let at = |place: usize| answer.get(place).and_then(number).unwrap_or(0);
                self.census.nodes.store(at(2) as usize, Relaxed);
                let told = answer.get(4).cloned().map(array).unwrap_or_default();
                let (mut leads, mut elsewhere) = (Vec::new(), HashMap::new());
                for (((app, ..), own), told) in apps.iter().zip(&own).zip(told.chunks_exact(2)) {
                    elsewhere.insert(app.clone(), number(&told[0]).unwrap_or(0).saturating_sub(*own));
                    if number(&told[1]) == Some(1) {
                        leads.push(app.clone());
                    }
                }
                self.note_lost(at(3), !leads.is_empty());
                *self.census.connections.lock().unwrap_or_else(PoisonError::into_inner) = elsewhere;
                let dead = answer.get(1).cloned().map(array).unwrap_or_default();
                Beat::Lives { dead: dead.iter().filter_map(text).map(str::to_owned).collect(), leads }
            }
            Some("FENCED") => Beat::Fenced,
            _ => Beat::Failed,
        }
    }

    /// Each app, what it wants, and whether it has webhooks. Those that the last beat named and that are gone come behind.
    fn apps_to_name(&self) -> Vec<(Arc<str>, String, bool)> {
        let mut apps = self.keys.wants_of_apps();
        let here: Vec<Arc<str>> = apps.iter().map(|(app, ..)| app.clone()).collect();
        let mut named = self.census.named.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<_> = named.iter().filter(|app| !here.contains(app)).cloned().collect();
        // Their ends are left to the nodes that know them: wants of "" would drop those that are due.
        apps.extend(gone.into_iter().map(|app| (app, String::from("-"), false)));
        *named = here;
        apps
    }

    /// The queue's own losses are of the cluster; only who leads counts them, and only what is new.
    fn note_lost(&self, lost: u64, leads: bool) {
        let lost = self.census.newly_lost(lost);
        if leads && lost > 0 {
            Tally::add(&self.tally.webhooks_lost, lost);
            warn!(lost, "webhook jobs were lost: more than 100,000 of one app wait");
        }
    }

    /// Takes what a dead incarnation left out, as long as Redis says that it is dead. Returns its name.
    pub(super) async fn reap(self: Arc<Self>, dead: String) -> String {
        tokio::time::sleep(Duration::from_micros(random() % REAP_WAIT.as_micros() as u64)).await;
        self.take_out(&dead, Some(self.settings.presence_dead_after)).await;
        dead
    }

    /// `silent_for`: only if it is dead by that. False when there was no answer; the next beat lists it again.
    async fn take_out(&self, inc: &str, silent_for: Option<Duration>) -> bool {
        let mut total = 0;
        let answered = loop {
            let mut reap = self.invocation(&self.scripts.reap);
            reap.arg(inc).arg(silent_for.map_or(String::new(), |ttl| millis(ttl).to_string())).arg(REAP_STEPS);
            reap.arg(millis(self.settings.webhook_delay));
            for (app, wants, _) in self.keys.wants_of_apps() {
                reap.arg(keys::encoded(&app)).arg(wants);
            }
            let Some(answer) = self.call(&reap).await.map(array) else { break false };
            let removed = answer.get(1).and_then(number).unwrap_or(0);
            total += removed;
            Tally::add(&self.tally.presence_expired, removed);
            // −1, that it is not dead, reads as "nothing left".
            if answer.first().and_then(number).unwrap_or(0) == 0 {
                break true;
            }
        };
        if total > 0 {
            info!(incarnation = %inc, users = total, "removed the members of a node that is gone");
        }
        answered
    }

    pub(super) fn invocation<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let store = self.keys.store();
        let mut invocation = script.key(format!("{store}:nodes"));
        invocation.arg(store);
        invocation
    }

    /// A connection of the pool; the error in words.
    pub(super) async fn connection(&self) -> Result<deadpool_redis::Connection, String> {
        self.pool.get().await.map_err(|error| {
            if let deadpool_redis::PoolError::Backend(error) = &error
                && refuses_login(error)
            {
                Tally::add(&self.tally.auth_failures, 1);
                Pulse::refuse_login(&self.pulse);
            }
            error.to_string()
        })
    }

    /// One script; `None` when there was no answer or an error, which is counted.
    async fn call(&self, invocation: &ScriptInvocation<'_>) -> Option<Value> {
        let calling = async {
            let mut connection = self.connection().await?;
            invocation.invoke_async::<Value>(&mut connection).await.map_err(|error| error.to_string())
        };
        let answer = timeout(self.settings.command_timeout, calling).await;
        match answer {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) if error.to_ascii_lowercase().contains("readonly") => {
                // Demoted where it stands: it takes subscriptions and publishes in silence, and no other node hears them.
                Pulse::lose(&self.pulse, "the server has become a replica");
            }
            Ok(Err(error)) => warn!(%error, "a presence script failed; it is repeated"),
            Err(_) => warn!("a presence script got no answer; it is repeated"),
        }
        Tally::add(&self.tally.errors, 1);
        None
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Registration> {
        self.registration.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
