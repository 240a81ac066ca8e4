//! An application: a tenant with its own keys, channels and limits.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

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
}

/// Longest user id in characters (Pusher: 128).
pub const USER_ID_MAX: usize = 128;

impl Default for AppLimits {
    fn default() -> Self {
        Self {
            channels_per_connection: 1_000,
            members: 100,
            event_bytes: 10_240,
            channels_per_event: 100,
            batch_events: 10,
            user_info_bytes: 1_024,
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
    pub client_events: ClientEvents,
    /// Seconds of silence after which a connection is asked whether it lives.
    pub activity_timeout: u32,
    pub on_gap: OnGap,
    pub limits: AppLimits,
}

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

    pub fn iter(&self) -> impl Iterator<Item = &Arc<App>> {
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
