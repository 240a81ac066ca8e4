//! Questions about the whole cluster, answered from Redis without asking nodes one by one. What this node's own part has
//! grown by since it was last told is added.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Access, ChannelKey, ChannelName, Event, Member, RawJson};
use redis::Value;
use tokio::time::timeout;

use super::errands::{array, fields, kept, number, text};
use super::keys::{self, Keys};
use super::presence::Store;
use crate::{ChannelCounts, QueryError};

/// Fields of one step through a hash, and commands of one pipeline.
const STEP: usize = 1_000;

/// What the store has of this node for a channel, and what is so.
pub(super) type Own = (u32, u32);

impl Store {
    pub(super) async fn counts(&self, channels: Vec<(Arc<ChannelKey>, Own)>) -> Result<Vec<ChannelCounts>, QueryError> {
        let store = self.keys.store();
        let mut counts = Vec::with_capacity(channels.len());
        for step in channels.chunks(STEP / 2) {
            let mut pipeline = redis::Pipeline::with_capacity(step.len() * 2);
            for (channel, _) in step {
                let (app, name) = (keys::encoded(&channel.app), keys::encoded(channel.name.as_str()));
                pipeline.cmd("HGET").arg(format!("{store}:a:{app}")).arg(&name);
                pipeline.cmd("HLEN").arg(format!("{store}:u:{app}:{name}"));
            }
            let answers = self.ask(&pipeline, step.len() * 2).await?;
            for (pair, (_, own)) in answers.chunks_exact(2).zip(step) {
                let subscriptions = adjusted(number(&pair[0]).unwrap_or(0), *own);
                counts.push(ChannelCounts { subscriptions, users: number(&pair[1]).unwrap_or(0) });
            }
        }
        Ok(counts)
    }

    /// `own`: the channels of which the store does not have what is so.
    pub(super) async fn occupied(
        &self,
        app: Arc<str>,
        name_prefix: String,
        own: Vec<(Arc<ChannelKey>, Own)>,
    ) -> Result<Vec<(ChannelName, ChannelCounts)>, QueryError> {
        let mut sums = self.sums(&app, &name_prefix).await?;
        for (channel, own) in own.into_iter().filter(|(channel, _)| channel.name.as_str().starts_with(&name_prefix)) {
            let sum = sums.entry(channel.name.clone()).or_default();
            *sum = adjusted(*sum, own);
        }
        sums.retain(|_, sum| *sum > 0);
        let of_presence: Vec<_> = sums.keys().filter(|name| name.kind().access == Access::Presence).cloned().collect();
        let keys: Vec<_> = of_presence
            .iter()
            .map(|name| (Arc::new(ChannelKey { app: app.clone(), name: name.clone() }), (0, 0)))
            .collect();
        let users = self.counts(keys).await?;
        let users: HashMap<_, _> = of_presence.into_iter().zip(users.into_iter().map(|counts| counts.users)).collect();
        let counted = sums.into_iter().map(|(name, subscriptions)| {
            let users = users.get(&name).copied().unwrap_or(0);
            (name, ChannelCounts { subscriptions, users })
        });
        Ok(counted.collect())
    }

    /// Subscriptions of an app's channels whose names begin so, read in steps: no call holds Redis up.
    async fn sums(&self, app: &str, name_prefix: &str) -> Result<HashMap<ChannelName, u64>, QueryError> {
        let key = format!("{}:a:{}", self.keys.store(), keys::encoded(app));
        let pattern = format!("{}*", keys::encoded(name_prefix));
        let (mut cursor, mut sums) = ("0".to_owned(), HashMap::new());
        loop {
            let mut pipeline = redis::Pipeline::with_capacity(1);
            pipeline.cmd("HSCAN").arg(&key).arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(STEP);
            let answer = self.ask(&pipeline, 1).await?.pop().map(array).unwrap_or_default();
            for pair in answer.get(1).and_then(fields).unwrap_or_default().chunks_exact(2) {
                if let (Some(name), Ok(sum)) = (keys::decoded(pair[0]), pair[1].parse()) {
                    sums.insert(name, sum);
                }
            }
            cursor = answer.first().and_then(text).unwrap_or("0").to_owned();
            if cursor == "0" {
                return Ok(sums);
            }
        }
    }

    pub(super) async fn users(&self, channel: Arc<ChannelKey>) -> Result<Vec<Member>, QueryError> {
        let mut pipeline = redis::Pipeline::with_capacity(1);
        pipeline.cmd("HGETALL").arg(format!("{}:i:{}", self.keys.store(), Keys::channel(&channel)));
        let answer = self.ask(&pipeline, 1).await?.pop().unwrap_or_default();
        let fields = fields(&answer).unwrap_or_default();
        let member = |pair: &[&str]| Member { id: pair[0].into(), info: RawJson::parse(pair[1]) };
        Ok(fields.chunks_exact(2).map(member).collect())
    }

    pub(super) async fn cached(&self, channel: Arc<ChannelKey>) -> Result<Option<(Event, Duration)>, QueryError> {
        let mut call = self.invocation(&self.scripts.cached);
        call.arg(Keys::channel(&channel));
        let mut pipeline = redis::Pipeline::with_capacity(1);
        pipeline.invoke_script(&call);
        let parts = self.ask(&pipeline, 1).await?.pop().map(array).unwrap_or_default();
        let kept = kept(&parts, self.settings.max_payload);
        Ok(kept.map(|kept| (kept.event, kept.until.saturating_duration_since(Instant::now()))))
    }

    async fn ask(&self, pipeline: &redis::Pipeline, count: usize) -> Result<Vec<Value>, QueryError> {
        let answers = timeout(self.settings.command_timeout, self.send(pipeline, count)).await;
        let answers = answers.map_err(|_| QueryError::TimedOut)?.map_err(|error| match error.code() {
            Some(_) => QueryError::Refused(error.to_string()),
            None => QueryError::Unavailable,
        })?;
        let refused = answers.iter().find_map(|answer| match answer {
            Value::ServerError(error) => Some(error.to_string()),
            _ => None,
        });
        refused.map_or(Ok(answers), |words| Err(QueryError::Refused(words)))
    }
}

/// A sum of all nodes in which this node's part is `told`, when it really is `live`.
fn adjusted(sum: u64, (told, live): Own) -> u64 {
    (sum.saturating_sub(told.into())) + u64::from(live)
}
