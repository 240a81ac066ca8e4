//! Names in Redis: topics that messages travel on, and our keys. And what is known of apps, by which both are made.
//!
//! Invariant: no channel of a client resolves to a name in our namespace or to Redis's own `__key…` topics.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use model::{Access, ChannelKey, ChannelName, HistoryDepth, WebhookKind};

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

/// What may stand before an app's channel names: one prefix, or several that mean the same channels.
///
/// Every node listens to all of them, so what is published with any of them is heard once by each.
struct Spellings {
    /// Never empty.
    prefixes: Vec<Box<str>>,
    /// The one to publish with: the first, until another has brought an event, which somebody else must have published.
    carries: AtomicUsize,
    /// A bit for each that has brought an event.
    brought: AtomicUsize,
}

impl Spellings {
    fn of(app: &AppSettings) -> Self {
        Self {
            prefixes: app.prefixes().map(Into::into).collect(),
            carries: AtomicUsize::new(0),
            brought: AtomicUsize::new(0),
        }
    }
}

/// The most spellings of one app; more are not listened to.
const SPELLINGS_MAX: usize = 8;

pub(super) struct Keys {
    namespace: Box<str>,
    apps: RwLock<HashMap<Arc<str>, AppSettings>>,
    /// Those of apps that are gone included: their topics must still be left.
    spellings: RwLock<HashMap<Arc<str>, Spellings>>,
    /// Of this process, in probes and incarnations. Random: a host name may come back before its ghost is reaped.
    pub node: Box<str>,
}

impl Keys {
    pub(super) fn new(settings: &Settings, node: &str) -> Self {
        let keys = Self {
            namespace: settings.namespace.clone(),
            apps: RwLock::default(),
            spellings: RwLock::default(),
            node: node.into(),
        };
        keys.set_apps(settings.apps.clone());
        keys
    }

    /// The apps are these. One that was ever here keeps its prefix: topics of that name are subscribed to.
    pub(super) fn set_apps(&self, apps: Vec<AppSettings>) {
        let mut spellings = self.spellings.write().unwrap_or_else(PoisonError::into_inner);
        for app in &apps {
            spellings.entry(app.id.clone()).or_insert_with(|| Spellings::of(app));
        }
        drop(spellings);
        let mut known = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        *known = apps.into_iter().map(|app| (app.id.clone(), app)).collect();
    }

    fn apps(&self) -> RwLockReadGuard<'_, HashMap<Arc<str>, AppSettings>> {
        self.apps.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long a cache channel of this app keeps its event, in ms.
    pub(super) fn cache_ttl(&self, app: &str) -> u64 {
        self.apps().get(app).map_or(0, |app| app.cache_ttl.as_millis() as u64)
    }

    /// How much the channel keeps.
    pub(super) fn depth(&self, channel: &ChannelKey) -> Option<HistoryDepth> {
        self.apps().get(&channel.app)?.depth(&channel.name)
    }

    /// What the app wants to be told of a channel, in the letters of change.lua.
    pub(super) fn wants(&self, channel: &ChannelKey) -> String {
        match (self.apps().get(&channel.app), channel.name.kind().access) {
            (None, _) | (_, Access::User) => String::new(),
            (Some(app), access) => letters(app, access == Access::Presence),
        }
    }

    /// All apps: what each wants, in the letters of change.lua, and whether it has webhooks.
    pub(super) fn wants_of_apps(&self) -> Vec<(Arc<str>, String, bool)> {
        self.apps().values().map(|app| (app.id.clone(), letters(app, false), !app.webhooks.is_empty())).collect()
    }

    /// The stream of an app's webhook jobs.
    pub(super) fn webhooks(&self, app: &str) -> String {
        format!("{}:wh:{}", self.store(), encoded(app))
    }

    /// The topics of a channel, one for each spelling of its app's prefix. Never empty.
    pub(super) fn topics(&self, channel: &ChannelKey) -> Result<Vec<Topic>, NoTopic> {
        let spellings = self.spellings.read().unwrap_or_else(PoisonError::into_inner);
        let prefixes = &spellings.get(&channel.app).ok_or(NoTopic::UnknownApp)?.prefixes;
        let prefixes = prefixes.iter().take(SPELLINGS_MAX);
        prefixes.map(|prefix| Topic::new(&self.namespace, prefix, &channel.name)).collect()
    }

    /// The topic to publish to: of several, one that others publish to as well.
    pub(super) fn topic(&self, channel: &ChannelKey) -> Result<Topic, NoTopic> {
        let spellings = self.spellings.read().unwrap_or_else(PoisonError::into_inner);
        let spellings = spellings.get(&channel.app).ok_or(NoTopic::UnknownApp)?;
        let prefix = &spellings.prefixes[spellings.carries.load(Ordering::Relaxed)];
        Topic::new(&self.namespace, prefix, &channel.name)
    }

    /// The app's events come with the prefix of this number. The prefix where that is new, for the operator.
    ///
    /// The first one proves nothing by itself, as nodes publish with it too; another one does, and nodes follow.
    pub(super) fn note_spelling(&self, app: &str, number: usize) -> Option<Box<str>> {
        let spellings = self.spellings.read().unwrap_or_else(PoisonError::into_inner);
        let spellings = spellings.get(app)?;
        if spellings.brought.fetch_or(1 << number, Ordering::Relaxed) & (1 << number) != 0 {
            return None;
        }
        spellings.carries.fetch_max(number, Ordering::Relaxed);
        spellings.prefixes.get(number).cloned()
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
        format!("{}:{}", encoded(&channel.app), encoded(channel.name.as_str()))
    }
}

fn letters(app: &AppSettings, presence: bool) -> String {
    const LETTERS: [(WebhookKind, char); 7] = [
        (WebhookKind::ChannelOccupied, 'o'),
        (WebhookKind::ChannelVacated, 'v'),
        (WebhookKind::MemberAdded, 'a'),
        (WebhookKind::MemberRemoved, 'r'),
        (WebhookKind::CacheMiss, 'm'),
        (WebhookKind::SubscriptionCount, 'c'),
        (WebhookKind::ClientEvent, 'e'),
    ];
    let wanted = LETTERS.iter().filter(|(kind, _)| app.webhooks.has(*kind)).map(|(_, letter)| *letter);
    let told = app.subscription_count.then_some('s');
    // A presence channel's subscribers are not counted but listed.
    wanted.chain(told).filter(|letter| !(presence && "cs".contains(*letter))).collect()
}

/// Percent-encodes what Pusher's channel names do not have.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-=@,.;#".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The channel's name, out of a key or a field.
pub(super) fn decoded(text: &str) -> Option<ChannelName> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        (rest, _) = match (first, behind) {
            (b'%', [high, low, behind @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok()?;
                (behind, bytes.push(u8::from_str_radix(digits, 16).ok()?))
            }
            _ => (behind, bytes.push(*first)),
        };
    }
    ChannelName::new(&String::from_utf8(bytes).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(app: &str, name: &str) -> ChannelKey {
        ChannelKey { app: app.into(), name: ChannelName::new(name).unwrap() }
    }

    #[test]
    fn a_channel_cannot_reach_reserved_names() {
        let app = |(id, prefix): (&str, &str)| AppSettings {
            prefix: prefix.into(),
            ..AppSettings::of(&model::App::new(id, "key", "secret"))
        };
        let apps = [("none", ""), ("f", "f"), ("l", "l_")].map(app).to_vec();
        let keys = Keys::new(&Settings { apps, ..Settings::default() }, "node");
        let check = |app: &str, name: &str, expected: Result<&str, NoTopic>| {
            let topic = keys.topics(&key(app, name));
            assert_eq!(topic.as_ref().map(|topics| topics[0].as_str()).map_err(|e| *e), expected, "{app} {name}");
            assert_eq!(keys.topic(&key(app, name)).as_ref().map(Topic::as_str).map_err(|e| *e), expected);
        };
        check("l", "private-x", Ok("l_private-x"));
        check("l", "ff:x", Ok("l_ff:x"));
        check("none", "orders", Ok("orders"));
        check("none", "ff:{0}:nodes", Err(NoTopic::Reserved));
        check("none", "__keyspace@0__:x", Err(NoTopic::Reserved));
        check("f", "f:probe:node", Err(NoTopic::Reserved));
        check("gone", "orders", Err(NoTopic::UnknownApp));
    }

    #[test]
    fn of_several_spellings_the_one_that_others_use_is_published_to() {
        let app = AppSettings {
            prefix: "a_".into(),
            also_listen: vec!["a-".into()],
            ..AppSettings::of(&model::App::new("a", "key", "secret"))
        };
        let keys = Keys::new(&Settings { apps: vec![app], ..Settings::default() }, "node");
        let news = key("a", "news");
        let all: Vec<String> = keys.topics(&news).unwrap().iter().map(|topic| topic.as_str().to_owned()).collect();
        assert_eq!(all, ["a_news", "a-news"]);
        let publishes = || keys.topic(&news).unwrap().as_str().to_owned();
        assert_eq!((publishes(), keys.note_spelling("a", 0)), ("a_news".to_owned(), Some("a_".into())));
        assert_eq!((publishes(), keys.note_spelling("a", 1)), ("a_news".to_owned(), Some("a-".into())));
        assert_eq!((publishes(), keys.note_spelling("a", 1)), ("a-news".to_owned(), None));
        assert_eq!((keys.note_spelling("a", 0), publishes()), (None, "a-news".to_owned()));
    }

    #[test]
    fn channels_in_keys_are_encoded() {
        assert_eq!(Keys::channel(&key("a:{1}", "presence-a@b,c.d;e#_=-")), "a%3A%7B1%7D:presence-a@b,c.d;e#_=-");
        assert_eq!(Keys::channel(&key("a", "room:é%")), "a:room%3A%C3%A9%25");
        assert_eq!(decoded("room%3A%C3%A9%25"), Some(ChannelName::new("room:é%").unwrap()));
        assert_eq!((decoded("x%"), decoded("x%zz"), decoded("%ff")), (ChannelName::new("x%").ok(), None, None));
    }
}
