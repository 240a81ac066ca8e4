//! An application: a tenant with its own keys, channels and limits.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::channel::ChannelName;
use crate::history::{self, HistoryDepth, HistoryRule};
use crate::webhook::{Webhook, WebhookKinds};

/// A text that no log, error or debug print shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text itself: for signing only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// Who may whisper on private and presence channels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClientEvents {
    Off,
    /// Whoever is subscribed to the channel.
    #[default]
    Members,
    /// Any connection of the app.
    All,
}

/// What a client is given when messages may have been lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnGap {
    /// A notice on the open connection.
    #[default]
    Notice,
    /// A close that asks it to come back at once.
    Close,
}

/// What a connection above the app's limit is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WhenFull {
    /// Stay away (Pusher's 4004).
    #[default]
    StayAway,
    /// Come back later (4100, as soketi does).
    ComeBackLater,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppLimits {
    /// Subscriptions of one connection.
    pub channels_per_connection: usize,
    /// Members of one presence channel, cluster-wide.
    pub members: u32,
    /// Bytes of an event's data, over the HTTP API and from clients.
    pub event_bytes: usize,
    /// Channels of one publish.
    pub channels_per_event: usize,
    /// Events of one batch.
    pub batch_events: usize,
    /// Bytes of a member's `user_info`.
    pub user_info_bytes: usize,
    /// Characters of a user id.
    pub user_id_chars: usize,
    /// Bytes of a channel's name; never more than [`crate::channel::NAME_MAX`].
    pub channel_name_bytes: usize,
    /// Bytes of an event's name; never more than [`crate::event::NAME_MAX`].
    pub event_name_bytes: usize,
    /// Connections in the whole cluster; 0: no limit.
    pub connections: u64,
    /// Client events of one connection in a second; 0: no limit.
    pub client_events_per_second: u32,
    /// Requests to the HTTP API in a second, in the whole cluster; 0: no limit.
    pub api_requests_per_second: u32,
    /// Users that a signed-in connection may watch.
    pub watchlist: usize,
    /// How long a user stays present after his last connection to a node: over a reload nobody sees him leave.
    pub presence_grace: Duration,
}

impl Default for AppLimits {
    fn default() -> Self {
        Self {
            channels_per_connection: 1_000,
            members: 100,
            event_bytes: 10_240,
            channels_per_event: 100,
            batch_events: 10,
            user_info_bytes: 1_024,
            user_id_chars: 128,
            channel_name_bytes: crate::channel::NAME_MAX,
            event_name_bytes: crate::event::NAME_MAX,
            connections: 0,
            client_events_per_second: 10,
            api_requests_per_second: 0,
            watchlist: 100,
            presence_grace: Duration::ZERO,
        }
    }
}

#[derive(Clone, Debug)]
pub struct App {
    pub id: Arc<str>,
    pub key: Box<str>,
    /// The first signs; any of them verifies.
    pub secrets: Vec<Secret>,
    /// What stands before channel names in Redis; `Some("")` means nothing.
    pub redis_prefix: Box<str>,
    /// Other prefixes that mean the same channels: what comes with them is heard.
    pub also_listen: Vec<Box<str>>,
    pub client_events: ClientEvents,
    /// Seconds of silence after which a connection is asked whether it lives.
    pub activity_timeout: u32,
    /// Clients of a dialect that asks at fixed times are asked so often whether they live …
    pub ping_interval: Duration,
    /// … and may take so long to answer.
    pub ping_timeout: Duration,
    /// Bytes of one request of a client that polls, which is told.
    pub poll_bytes: usize,
    pub on_gap: OnGap,
    /// Subscribers of a channel are told how many they are (Pusher's "subscription counting").
    pub subscription_count: bool,
    /// What a client is told when the app has as many connections as it may.
    pub when_full: WhenFull,
    /// Seconds for which a cache channel keeps its last event.
    pub cache_seconds: u32,
    /// Which channels keep a history; the first rule that fits holds.
    pub history: Arc<[HistoryRule]>,
    pub webhooks: Vec<Webhook>,
    pub limits: AppLimits,
}

impl App {
    /// With every default.
    pub fn new(id: &str, key: &str, secret: &str) -> Self {
        Self {
            id: id.into(),
            key: key.into(),
            secrets: vec![Secret::new(secret)],
            redis_prefix: "".into(),
            also_listen: Vec::new(),
            client_events: ClientEvents::default(),
            activity_timeout: 30,
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            poll_bytes: 1_000_000,
            on_gap: OnGap::default(),
            subscription_count: false,
            when_full: WhenFull::default(),
            cache_seconds: CACHE_SECONDS,
            history: Arc::default(),
            webhooks: Vec::new(),
            limits: AppLimits::default(),
        }
    }

    /// How much of a channel is kept; `None`: nothing.
    pub fn history_of(&self, name: &ChannelName) -> Option<HistoryDepth> {
        history::depth_of(&self.history, name)
    }

    /// What any of its webhooks wants to hear of.
    pub fn webhook_kinds(&self) -> WebhookKinds {
        self.webhooks.iter().fold(WebhookKinds::NONE, |kinds, webhook| kinds.and(webhook.kinds))
    }
}

/// How long a cache channel keeps its event (pusher docs, "Cache channels": 30 minutes).
pub const CACHE_SECONDS: u32 = 1_800;

/// All apps of a node.
#[derive(Default, Debug)]
pub struct Apps {
    by_id: HashMap<Arc<str>, Arc<App>>,
    by_key: HashMap<Box<str>, Arc<App>>,
    first: Option<Arc<App>>,
}

impl Apps {
    /// Later apps with a key or id already taken are left out; settings refuse them before.
    pub fn new(apps: impl IntoIterator<Item = App>) -> Self {
        let mut all = Self::default();
        for app in apps.into_iter().map(Arc::new) {
            all.first.get_or_insert_with(|| app.clone());
            all.by_key.entry(app.key.clone()).or_insert_with(|| app.clone());
            all.by_id.entry(app.id.clone()).or_insert(app);
        }
        all
    }

    pub fn by_id(&self, id: &str) -> Option<&Arc<App>> {
        self.by_id.get(id)
    }

    pub fn by_key(&self, key: &str) -> Option<&Arc<App>> {
        self.by_key.get(key)
    }

    /// The app of a client that names none.
    pub fn first(&self) -> Option<&Arc<App>> {
        self.first.as_ref()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<App>> {
        self.by_id.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new("hush")), "***");
    }
}
