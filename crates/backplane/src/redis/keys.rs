//! Names in Redis: topics that messages travel on, and keys of presence.
//!
//! Invariant: no channel of a client resolves to a name in our namespace or to Redis's own `__key…` topics.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use model::{ChannelKey, ChannelName};

use super::settings::Settings;
use crate::AppSettings;

/// The name of a pub/sub topic.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Topic(Box<str>);

/// Why a channel has no topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoTopic {
    /// Its name would be one of ours or of Redis.
    Reserved,
    UnknownApp,
}

impl Topic {
    /// What Laravel's `redis` broadcaster publishes to: the prefix, then the channel.
    pub(super) fn new(namespace: &str, prefix: &str, name: &ChannelName) -> Result<Self, NoTopic> {
        let topic = format!("{prefix}{name}");
        if topic.starts_with(namespace) || topic.starts_with("__key") {
            return Err(NoTopic::Reserved);
        }
        Ok(Self(topic.into()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

pub(super) struct Keys {
    namespace: Box<str>,
    /// Those of apps that are gone included: their topics must still be left.
    prefixes: RwLock<HashMap<Arc<str>, Box<str>>>,
    /// Of this process, in probes and incarnations. Random: a host name may come back before its ghost is reaped.
    pub node: Box<str>,
}

impl Keys {
    pub(super) fn new(settings: &Settings, node: &str) -> Self {
        let prefixes = settings.prefixes.iter().map(|(app, prefix)| (app.clone(), prefix.as_str().into()));
        let prefixes = RwLock::new(prefixes.collect());
        Self { namespace: settings.namespace.clone(), prefixes, node: node.into() }
    }

    /// Takes in apps that are new. One that was ever here keeps its prefix.
    pub(super) fn add(&self, apps: &[AppSettings]) {
        let mut prefixes = self.prefixes.write().unwrap_or_else(PoisonError::into_inner);
        for app in apps {
            prefixes.entry(app.id.clone()).or_insert_with(|| app.prefix.clone());
        }
    }

    /// The topics of a channel: one on a single server.
    pub(super) fn topics(&self, channel: &ChannelKey) -> Result<[Topic; 1], NoTopic> {
        let prefixes = self.prefixes.read().unwrap_or_else(PoisonError::into_inner);
        let prefix = prefixes.get(&channel.app).ok_or(NoTopic::UnknownApp)?;
        Ok([Topic::new(&self.namespace, prefix, &channel.name)?])
    }

    pub(super) fn probe(&self) -> String {
        format!("{}probe:{}", self.namespace, self.node)
    }

    /// `S`: what all keys of presence begin with. The braces keep them together on a Redis Cluster.
    pub(super) fn store(&self) -> String {
        format!("{}{{0}}", self.namespace)
    }

    /// `A:C`: the channel in a key's name.
    pub(super) fn channel(channel: &ChannelKey) -> String {
        let mut out = String::new();
        push_encoded(&mut out, &channel.app);
        out.push(':');
        push_encoded(&mut out, channel.name.as_str());
        out
    }
}

/// Percent-encodes what Pusher's channel names do not have.
fn push_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-=@,.;#".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(app: &str, name: &str) -> ChannelKey {
        ChannelKey { app: app.into(), name: ChannelName::new(name).unwrap() }
    }

    #[test]
    fn a_channel_cannot_reach_reserved_names() {
        let prefixes =
            vec![("none".into(), String::new()), ("f".into(), "f".to_owned()), ("l".into(), "l_".to_owned())];
        let keys = Keys::new(&Settings { prefixes, ..Settings::default() }, "node");
        let check = |app: &str, name: &str, expected: Result<&str, NoTopic>| {
            let topic = keys.topics(&key(app, name));
            assert_eq!(topic.as_ref().map(|[topic]| topic.as_str()).map_err(|e| *e), expected, "{app} {name}");
        };
        check("l", "private-x", Ok("l_private-x"));
        check("l", "ff:x", Ok("l_ff:x"));
        check("none", "orders", Ok("orders"));
        check("none", "ff:{0}:nodes", Err(NoTopic::Reserved));
        check("none", "__keyspace@0__:x", Err(NoTopic::Reserved));
        check("f", "f:probe:node", Err(NoTopic::Reserved));
        check("gone", "orders", Err(NoTopic::UnknownApp));
        let settings = |id: &str, prefix: &str| {
            let mut app = model::App::new(id, "key", "secret");
            app.redis_prefix = prefix.into();
            AppSettings::of(&app)
        };
        keys.add(&[settings("new", "n_"), settings("l", "other_")]);
        let topic = |app: &str| keys.topics(&key(app, "orders")).map(|[topic]| topic.as_str().to_owned());
        assert_eq!(topic("new").as_deref(), Ok("n_orders"));
        assert_eq!(topic("l").as_deref(), Ok("l_orders"), "an app keeps its prefix");
    }

    #[test]
    fn channels_in_keys_are_encoded() {
        assert_eq!(Keys::channel(&key("a:{1}", "presence-a@b,c.d;e#_=-")), "a%3A%7B1%7D:presence-a@b,c.d;e#_=-");
        assert_eq!(Keys::channel(&key("a", "room:é%")), "a:room%3A%C3%A9%25");
    }
}
