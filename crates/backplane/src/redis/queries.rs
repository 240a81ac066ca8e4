//! Questions about the whole cluster, answered from Redis without asking nodes one by one. What this node's own part has
//! grown by since it was last told is added.

use std::collections::HashMap;
use std::sync::Arc;

use model::{Access, ChannelKey, ChannelName, Member, RawJson};
use redis::Value;
use tokio::time::timeout;

use super::errands::{array, fields, millis, number, reading, text};
use super::keys::{self, Keys};
use super::presence::Store;
use crate::topics::log::HELD_BYTES_MAX;
use crate::{ChannelCounts, Page, PageFrom, PageRead, QueryError};

/// Fields of one step through a hash, and commands of one pipeline.
const STEP: usize = 1_000;

/// This node's own subscriptions of a channel.
pub(super) type Own = u32;

impl Store {
    /// The others' parts as the store has them, and this node's own as it is: both in one reading, so that nothing counts
    /// twice or not at all while it is being told.
    pub(super) async fn counts(&self, channels: Vec<(Arc<ChannelKey>, Own)>) -> Result<Vec<ChannelCounts>, QueryError> {
        let (store, inc) = (self.keys.store(), self.incarnation());
        let mut counts = Vec::with_capacity(channels.len());
        for step in channels.chunks(STEP / 2) {
            let mut pipeline = redis::Pipeline::with_capacity(step.len() * 2);
            for (channel, _) in step {
                let channel = Keys::channel(channel);
                pipeline.cmd("HGETALL").arg(format!("{store}:c:{channel}"));
                pipeline.cmd("HLEN").arg(format!("{store}:u:{channel}"));
            }
            let answers = self.ask(&pipeline, step.len() * 2).await?;
            for (pair, (_, own)) in answers.chunks_exact(2).zip(step) {
                let parts = fields(&pair[0]).unwrap_or_default();
                let others = parts.chunks_exact(2).filter(|part| part[0] != inc);
                let others: u64 = others.filter_map(|part| part[1].parse::<u64>().ok()).sum();
                let users = number(&pair[1]).unwrap_or(0);
                counts.push(ChannelCounts { subscriptions: others + u64::from(*own), users });
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
        let sums = self.sums(&app, &name_prefix).await?;
        let counted = |(name, subscriptions)| (name, ChannelCounts { subscriptions, users: 0 });
        let mut all: HashMap<_, _> = sums.into_iter().map(counted).collect();
        let of_presence = all.keys().filter(|name| name.kind().access == Access::Presence);
        let mut exact: HashMap<_, _> =
            of_presence.map(|name| (Arc::new(ChannelKey { app: app.clone(), name: name.clone() }), None)).collect();
        let begins_so = |(channel, _): &(Arc<ChannelKey>, Own)| channel.name.as_str().starts_with(&name_prefix);
        exact.extend(own.into_iter().filter(begins_so).map(|(channel, own)| (channel, Some(own))));
        let asked: Vec<_> = exact.iter().map(|(channel, own)| (channel.clone(), own.unwrap_or(0))).collect();
        for ((channel, own), counts) in exact.iter().zip(self.counts(asked).await?) {
            let known = all.entry(channel.name.clone()).or_default();
            known.users = counts.users;
            if own.is_some() {
                known.subscriptions = counts.subscriptions;
            }
        }
        all.retain(|_, counts| counts.subscriptions > 0);
        Ok(all.into_iter().collect())
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

    /// A page of what a channel keeps: at most `limit` events and 1 MiB, and one event in any case.
    pub(super) async fn history(&self, channel: Arc<ChannelKey>, page: Page) -> Result<PageRead, QueryError> {
        let Some(depth) = self.keys.depth(&channel) else { return Ok(PageRead::default()) };
        let (after, before, newest) = match page.from {
            PageFrom::After(offset) => (offset.to_string(), String::new(), false),
            PageFrom::Before(offset) => {
                (String::new(), offset.map_or(String::new(), |offset| offset.to_string()), true)
            }
        };
        let bytes = HELD_BYTES_MAX.max(self.settings.max_payload);
        let mut call = self.invocation(&self.scripts.read);
        call.arg(Keys::channel(&channel)).arg("").arg(after).arg(before).arg(u8::from(newest)).arg(page.limit);
        call.arg(bytes).arg(millis(depth.ttl));
        let mut pipeline = redis::Pipeline::with_capacity(1);
        pipeline.invoke_script(&call);
        let parts = self.ask(&pipeline, 1).await?.pop().map(array).unwrap_or_default();
        let Some(mut found) = reading(&parts, self.settings.max_payload) else { return Ok(PageRead::default()) };
        if newest {
            found.entries.reverse();
        }
        let cut = parts.get(5).and_then(number) == Some(1);
        Ok(PageRead { top: Some(found.top).filter(|top| top.offset > 0), events: found.entries, cut })
    }

    async fn ask(&self, pipeline: &redis::Pipeline, count: usize) -> Result<Vec<Value>, QueryError> {
        let sending = async {
            let _place = self.questions.acquire().await;
            self.send(pipeline, count).await
        };
        let answers = timeout(self.settings.command_timeout, sending).await;
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
