//! Presence in Redis: the node's registration there, and the operations on rosters.
//!
//! Redis keeps, a user and channel, through how many nodes he is present; a node tells it only its own first and last
//! socket of a user. What lives is an incarnation: it beats, and one that is silent for too long is reaped by whoever sees
//! it. An incarnation that Redis does not know may not write; the node then takes a new one and tells everything anew.
//! (The old one is left to expire; taking it back at once, RETIRE, is not built yet.)

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{RawJson, UserId};
use redis::{RedisError, Script, ScriptInvocation, Value};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::inbox::{Inbox, News};
use super::keys::Keys;
use super::link::Pulse;
use super::scripts::Scripts;
use super::settings::Settings;
use super::{Tally, random};
use crate::roster::{Known, Operation, Snapshot, Version};
use crate::topics::{Answer, TopicId};

/// Users that one REAP takes out.
const REAP_USERS: usize = 500;
/// Longest wait before a reap, so that not all nodes reap the same one at once.
const REAP_WAIT: Duration = Duration::from_millis(500);
/// Operations in one pipeline.
pub(super) const ERRANDS_MAX: usize = 200;

/// One operation, with the names that it needs.
pub(super) struct Errand {
    pub id: TopicId,
    /// `A:C` of the keys.
    pub channel: String,
    pub topic: String,
    pub operation: Operation,
}

/// What became of an errand. Of another session than the listener's, it is dropped.
pub(super) struct Reply {
    pub session: u64,
    pub id: TopicId,
    pub user: Option<UserId>,
    /// `None`: this incarnation is not accepted.
    pub answer: Option<Answer>,
}

/// Under which name the node is known, kept over links.
#[derive(Default)]
pub(super) struct Registration {
    counter: u64,
    /// The server's run id when it was made; empty: not registered yet.
    run: String,
}

/// The presence side of one link.
pub(super) struct Store {
    pub settings: Arc<Settings>,
    pub keys: Arc<Keys>,
    pub scripts: Arc<Scripts>,
    pub registration: Arc<Mutex<Registration>>,
    pub pool: deadpool_redis::Pool,
    pub tally: Arc<Tally>,
    /// An operation was refused for its incarnation.
    /// Of the link that this store belongs to.
    pub generation: u64,
    pub pulse: Arc<watch::Sender<Pulse>>,
    pub fenced: Notify,
}

#[derive(PartialEq, Debug)]
pub(super) enum Beat {
    Dead(Vec<String>),
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
                if let Some(renewed) = self.hello().await {
                    registered = true;
                    inbox.tell(News::Registered(generation, renewed));
                }
                continue;
            }
            match if fenced { Beat::Fenced } else { self.beat().await } {
                Beat::Dead(dead) => {
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
        let mut registration = self.lock();
        registration.counter += 1;
        registration.run.clear();
    }

    /// True when the node took a new incarnation since its last success; `None` when there was no answer.
    pub(super) async fn hello(&self) -> Option<bool> {
        loop {
            // Two statements: a lock lives until the end of its own.
            let known = self.lock().run.clone();
            let inc = self.incarnation();
            let renewed = known.is_empty() && self.lock().counter > 0;
            let mut hello = self.invocation(&self.scripts.hello);
            hello.arg(&inc).arg(format!("{:016x}", random())).arg(&known).arg(millis(self.settings.quiet()));
            let answer = array(self.call(&hello).await?);
            match (answer.first().and_then(text), answer.get(1).and_then(text)) {
                (Some("OK"), Some(run)) => {
                    self.lock().run = run.to_owned();
                    return Some(renewed);
                }
                (Some("RENEW"), _) => self.renew(),
                _ => return None,
            }
        }
    }

    pub(super) async fn beat(&self) -> Beat {
        let mut beat = self.invocation(&self.scripts.beat);
        beat.arg(self.incarnation()).arg(millis(self.settings.gap()));
        beat.arg(millis(self.settings.quiet())).arg(millis(self.settings.presence_dead_after));
        let answer = array(self.call(&beat).await.unwrap_or_default());
        match answer.first().and_then(text) {
            Some("OK") => {
                let dead = answer.into_iter().nth(1).map(array).unwrap_or_default();
                Beat::Dead(dead.iter().filter_map(text).map(str::to_owned).collect())
            }
            Some("FENCED") => Beat::Fenced,
            _ => Beat::Failed,
        }
    }

    /// Takes the users of a dead incarnation out, as long as Redis says that it is dead. Returns its name.
    pub(super) async fn reap(self: Arc<Self>, dead: String) -> String {
        tokio::time::sleep(Duration::from_micros(random() % REAP_WAIT.as_micros() as u64)).await;
        let mut total = 0;
        loop {
            let mut reap = self.invocation(&self.scripts.reap);
            reap.arg(&dead).arg(millis(self.settings.presence_dead_after)).arg(REAP_USERS);
            let answer = array(self.call(&reap).await.unwrap_or_default());
            let (left, removed) = (answer.first().and_then(number), answer.get(1).and_then(number).unwrap_or(0));
            total += removed;
            Tally::add(&self.tally.presence_expired, removed);
            // An error or −1 reads as "nothing": the next beat lists it again if it is still dead.
            if left.unwrap_or(0) == 0 {
                break;
            }
        }
        if total > 0 {
            info!(incarnation = %dead, users = total, "removed the members of a dead node");
        }
        dead
    }

    /// Carries out up to [`ERRANDS_MAX`] operations in one pipeline.
    pub(super) async fn run(&self, session: u64, errands: Vec<Errand>) -> Vec<Reply> {
        let inc = self.incarnation();
        let mut pipeline = redis::Pipeline::with_capacity(errands.len());
        for errand in &errands {
            self.add(&mut pipeline, &inc, errand);
        }
        let answers = timeout(self.settings.command_timeout * 2, self.send(&pipeline, errands.len())).await;
        let answers = match answers {
            Ok(Ok(answers)) => answers,
            Ok(Err(_)) | Err(_) => {
                Tally::add(&self.tally.errors, 1);
                Vec::new()
            }
        };
        let mut answers = answers.into_iter();
        let reply = |Errand { id, operation, .. }| {
            let answer = read(&operation, answers.next().unwrap_or_default());
            let user = match operation {
                Operation::Enter { member, .. } => Some(member.id),
                Operation::Exit(user) => Some(user),
                Operation::Roster => None,
            };
            Reply { session, id, user, answer }
        };
        errands.into_iter().map(reply).collect()
    }

    fn add(&self, pipeline: &mut redis::Pipeline, inc: &str, errand: &Errand) {
        let mut invocation = match &errand.operation {
            Operation::Enter { .. } => self.invocation(&self.scripts.join),
            Operation::Exit(_) => self.invocation(&self.scripts.leave),
            Operation::Roster => self.invocation(&self.scripts.roster),
        };
        match &errand.operation {
            Operation::Enter { member, known, members_max } => {
                let (epoch, number) = match known {
                    Known::At(version) => (&*version.epoch, version.number.to_string()),
                    Known::Nothing => ("", String::new()),
                    Known::Enough => ("*", String::new()),
                };
                let info = member.info.as_ref().map_or("", |info| info.as_str());
                invocation.arg(inc).arg(&errand.channel).arg(&errand.topic).arg(&*member.id).arg(info);
                invocation.arg(epoch).arg(number).arg(*members_max);
            }
            Operation::Exit(user) => {
                invocation.arg(inc).arg(&errand.channel).arg(&**user);
            }
            Operation::Roster => {
                invocation.arg(&errand.channel);
            }
        }
        pipeline.invoke_script(&invocation);
    }

    /// A pipeline, repeated once when the server did not know a script.
    async fn send(&self, pipeline: &redis::Pipeline, count: usize) -> Result<Vec<Value>, RedisError> {
        let unreachable = |_| RedisError::from((redis::ErrorKind::Io, "no connection from the pool"));
        let mut connection = self.pool.get().await.map_err(unreachable)?;
        let answers = connection.send_packed_commands(pipeline, 0, count).await?;
        let unknown = |answer: &Value| matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT");
        if !answers.iter().any(unknown) {
            return Ok(answers);
        }
        self.scripts.load(&mut connection).await?;
        connection.send_packed_commands(pipeline, 0, count).await
    }

    fn invocation<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let store = self.keys.store();
        let mut invocation = script.key(format!("{store}:nodes"));
        invocation.arg(store);
        invocation
    }

    /// One script; `None` when there was no answer or an error, which is counted.
    async fn call(&self, invocation: &ScriptInvocation<'_>) -> Option<Value> {
        let calling = async {
            let mut connection = self.pool.get().await.map_err(|error| error.to_string())?;
            invocation.invoke_async::<Value>(&mut connection).await.map_err(|error| error.to_string())
        };
        let answer = timeout(self.settings.command_timeout, calling).await;
        match answer {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) if error.to_ascii_lowercase().contains("readonly") => {
                // Demoted where it stands: it takes subscriptions and publishes in silence, and no other node hears them.
                Pulse::lose(&self.pulse, self.generation, "the server has become a replica");
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

/// What a script answered; `None` for FENCED.
fn read(operation: &Operation, value: Value) -> Option<Answer> {
    let parts = array(value);
    let answer = match (parts.first().and_then(text), operation) {
        (Some("FENCED"), _) => return None,
        (Some("FULL"), Operation::Enter { .. }) => Some(Answer::Full),
        (Some("OK"), Operation::Exit(_)) => Some(Answer::Exited),
        (Some("OK"), Operation::Roster) => snapshot(&parts, 3, 4).map(Answer::Roster),
        (Some("OK"), Operation::Enter { .. }) => version(&parts).map(|version| {
            let added = parts.get(3).and_then(number) == Some(1);
            Answer::Entered { version, added, snapshot: snapshot(&parts, 4, 5) }
        }),
        _ => None,
    };
    Some(answer.unwrap_or(Answer::Failed))
}

fn version(parts: &[Value]) -> Option<Version> {
    Some(Version { epoch: parts.get(1).and_then(text)?.into(), number: parts.get(2).and_then(number)? })
}

fn snapshot(parts: &[Value], removals_in: usize, roster: usize) -> Option<Snapshot> {
    let removals_in = Duration::from_millis(parts.get(removals_in).and_then(number)?);
    let fields: Vec<&str> = match parts.get(roster)? {
        Value::Array(fields) => fields.iter().filter_map(text).collect(),
        Value::Map(fields) => fields.iter().flat_map(|(user, info)| [text(user), text(info)]).flatten().collect(),
        _ => return None,
    };
    let users = fields.chunks_exact(2).map(|pair| (pair[0].into(), RawJson::parse(pair[1]))).collect();
    Some(Snapshot { version: version(parts)?, users, removals_in })
}

fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(parts) => parts,
        _ => Vec::new(),
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Okay => Some("OK"),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        other => text(other)?.parse().ok(),
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
