//! What the topics ask of the store, in pipelines: each operation is one script, safe to repeat.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use model::history::SIZE_MAX;
use model::{Event, Position, RawJson};
use redis::{RedisError, ScriptInvocation, Value};
use tokio::time::timeout;
use tracing::warn;

use super::Tally;
use super::presence::Store;
use super::wire::{self, Message};
use crate::roster::{About, Known, Operation, Snapshot, Version};
use crate::topics::cache::MISS_EVERY;
use crate::topics::log::{HELD_BYTES_MAX, Reading};
use crate::topics::{Answer, TopicId};

/// One line in this time.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Operations in one pipeline …
const ERRANDS_MAX: usize = 200;
/// … and of them such that may be answered with all that a channel keeps: 1 MiB each.
const HEAVY_MAX: usize = 8;

/// One operation, with the names that it needs.
pub(super) struct Errand {
    pub id: TopicId,
    /// `A:C` of the keys.
    pub channel: String,
    pub topic: String,
    /// What the app's webhooks and subscribers want to hear of; see change.lua.
    pub wants: String,
    /// From which age in ms on what the channel keeps counts as gone.
    pub kept_for: u64,
    pub operation: Operation,
}

/// Those of the next pipeline.
pub(super) fn take(errands: &mut VecDeque<Errand>) -> Vec<Errand> {
    let (mut taken, mut heavy) = (Vec::new(), 0);
    while taken.len() < ERRANDS_MAX && heavy < HEAVY_MAX {
        let Some(errand) = errands.pop_front() else { break };
        heavy += usize::from(matches!(errand.operation, Operation::Read { after: Some(_) }));
        taken.push(errand);
    }
    taken
}

/// What became of an errand. Of another session than the listener's, it is dropped.
pub(super) struct Reply {
    pub session: u64,
    pub id: TopicId,
    pub about: About,
    /// `None`: this incarnation is not accepted.
    pub answer: Option<Answer>,
}

impl Store {
    /// Carries out operations in one pipeline, as the incarnation `inc`.
    pub(super) async fn run(&self, session: u64, inc: &str, errands: Vec<Errand>) -> Vec<Reply> {
        let mut pipeline = redis::Pipeline::with_capacity(errands.len());
        for errand in &errands {
            pipeline.invoke_script(&self.spell(inc, errand));
        }
        let answers = timeout(self.settings.command_timeout * 2, self.send(&pipeline, errands.len())).await;
        let answers = match answers {
            Ok(Ok(answers)) => answers,
            Ok(Err(_)) | Err(_) => {
                Tally::add(&self.tally.errors, 1);
                Vec::new()
            }
        };
        self.complain(&answers);
        let mut answers = answers.into_iter();
        let reply = |Errand { id, operation, .. }| {
            let answer = read(&operation, answers.next().unwrap_or_default(), self.settings.max_payload);
            Reply { session, id, about: operation.about(), answer }
        };
        errands.into_iter().map(reply).collect()
    }

    fn spell(&self, inc: &str, errand: &Errand) -> ScriptInvocation<'_> {
        let Errand { channel, topic, wants, kept_for, operation, .. } = errand;
        let scripts = &self.scripts;
        let delay = millis(self.settings.webhook_delay);
        match operation {
            Operation::Enter { member, known, members_max, again } => {
                let (epoch, number) = match known {
                    Known::At(version) => (&*version.epoch, version.number.to_string()),
                    Known::Nothing => ("", String::new()),
                    Known::Enough => ("*", String::new()),
                };
                let info = member.info.as_ref().map_or("", |info| info.as_str());
                let mut call = self.invocation(&scripts.join);
                call.arg(inc).arg(channel).arg(topic).arg(&*member.id).arg(info);
                call.arg(epoch).arg(number).arg(*members_max).arg(wants).arg(u8::from(*again));
                call
            }
            Operation::Exit(user) => {
                let mut call = self.invocation(&scripts.leave);
                call.arg(inc).arg(channel).arg(&**user).arg(wants).arg(delay);
                call
            }
            Operation::Roster => {
                let mut call = self.invocation(&scripts.roster);
                call.arg(channel);
                call
            }
            Operation::Count { n, announce, again } => {
                let mut call = self.invocation(&scripts.count);
                call.arg(inc).arg(channel).arg(topic).arg(*n).arg(u8::from(*announce)).arg(wants).arg(delay);
                call.arg(u8::from(*again));
                call
            }
            Operation::Read { after } => {
                // The newest first: where there is too much, it is the oldest that is not told.
                let (most, oldest) = if after.is_some() { (SIZE_MAX, *kept_for) } else { (1, 0) };
                let mut call = self.invocation(&scripts.read);
                call.arg(channel).arg("1").arg(after.map_or(String::new(), |after| after.to_string())).arg("");
                call.arg("1").arg(most).arg(HELD_BYTES_MAX).arg(oldest);
                call
            }
            Operation::Note(Position { epoch, offset }) => {
                let mut call = self.invocation(&scripts.note);
                call.arg(channel).arg(&**epoch).arg(*offset);
                call
            }
            Operation::Missed => {
                let mut call = self.invocation(&scripts.missed);
                call.arg(channel).arg(wants).arg(millis(MISS_EVERY)).arg(*kept_for);
                call
            }
        }
    }

    /// Counts what the server refused, and says so once a minute: rights that are missing, memory that is full.
    pub(super) fn complain(&self, answers: &[Value]) -> usize {
        let refused = answers.iter().filter_map(|answer| match answer {
            Value::ServerError(error) => Some(error),
            _ => None,
        });
        let count = refused.clone().count();
        Tally::add(&self.tally.errors, count as u64);
        let mut last = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = refused.into_iter().next()
            && last.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY)
        {
            *last = Some(Instant::now());
            warn!(%error, count, "Redis refused a script; it is repeated (more are counted and not logged for a minute)");
        }
        count
    }

    /// A pipeline, repeated once when the server did not know a script.
    pub(super) async fn send(&self, pipeline: &redis::Pipeline, count: usize) -> Result<Vec<Value>, RedisError> {
        let unreachable = |_| RedisError::from((redis::ErrorKind::Io, "no connection from the pool"));
        let mut connection = self.connection().await.map_err(unreachable)?;
        let answers = connection.send_packed_commands(pipeline, 0, count).await?;
        let unknown = |answer: &Value| matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT");
        if !answers.iter().any(unknown) {
            return Ok(answers);
        }
        self.scripts.load(&mut connection).await?;
        connection.send_packed_commands(pipeline, 0, count).await
    }
}

/// What a script answered; `None` for FENCED.
fn read(operation: &Operation, value: Value, max_payload: usize) -> Option<Answer> {
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
        (Some("OK"), Operation::Count { .. }) => {
            Some(Answer::Counted { later: parts.get(1).and_then(number) == Some(1) })
        }
        (Some("OK"), Operation::Read { .. }) => reading(&parts, max_payload).map(Answer::Read),
        (Some("OK"), Operation::Missed | Operation::Note(_)) => Some(Answer::Noted),
        _ => None,
    };
    Some(answer.unwrap_or(Answer::Failed))
}

fn version(parts: &[Value]) -> Option<Version> {
    Some(Version { epoch: parts.get(1).and_then(text)?.into(), number: parts.get(2).and_then(number)? })
}

fn snapshot(parts: &[Value], removals_in: usize, roster: usize) -> Option<Snapshot> {
    let removals_in = Duration::from_millis(parts.get(removals_in).and_then(number)?);
    let fields = fields(parts.get(roster)?)?;
    let users = fields.chunks_exact(2).map(|pair| (pair[0].into(), RawJson::parse(pair[1]))).collect();
    Some(Snapshot { version: version(parts)?, users, removals_in })
}

/// What `read.lua` found, the oldest first. `None` as long as no node has registered in these data.
pub(super) fn reading(parts: &[Value], max_payload: usize) -> Option<Reading> {
    let epoch = parts.get(1).and_then(text).filter(|epoch| !epoch.is_empty())?;
    let top = Position { epoch: epoch.into(), offset: parts.get(2).and_then(number)? };
    let noted = parts.get(3).and_then(number);
    let fields: Vec<&str> = fields(parts.get(4)?)?;
    let entry = |entry: &[&str]| {
        let age = Duration::from_millis(entry[1].parse().ok()?);
        match wire::decode(entry[2].as_bytes(), max_payload) {
            Ok(Message::Event(event)) => Some((event, age)),
            _ => None,
        }
    };
    let mut entries: Vec<(Event, Duration)> = fields.chunks_exact(3).filter_map(entry).collect();
    entries.sort_by_key(|(event, _)| event.position.as_ref().map(|position| position.offset));
    Some(Reading { top, noted, entries })
}

/// A hash's fields and values in turn, as either protocol gives them.
pub(super) fn fields(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::Array(fields) => Some(fields.iter().filter_map(text).collect()),
        Value::Map(fields) => Some(fields.iter().flat_map(|(k, v)| [text(k), text(v)]).flatten().collect()),
        _ => None,
    }
}

pub(super) fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(parts) => parts,
        _ => Vec::new(),
    }
}

pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Okay => Some("OK"),
        _ => None,
    }
}

pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        other => text(other)?.parse().ok(),
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
