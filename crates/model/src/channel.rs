//! Channel names and what their prefixes mean.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Longest name in bytes.
pub const NAME_MAX: usize = 200;

/// A signed-in user's own channel is this and his id.
pub const USER_PREFIX: &str = "#server-to-user-";

/// 1–200 bytes of UTF-8 without control characters or white space. A dialect's edge may be stricter.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ChannelName(Arc<str>);

/// Why a text is no channel name; the words are fit for a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadName(pub &'static str);

impl ChannelName {
    pub fn new(text: &str) -> Result<Self, BadName> {
        if text.is_empty() {
            return Err(BadName("The channel name is empty"));
        }
        if text.len() > NAME_MAX {
            return Err(BadName("The channel name is longer than 200 bytes"));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(BadName("The channel name has a space or control character"));
        }
        Ok(Self(text.into()))
    }

    /// A signed-in user's own channel.
    pub fn of_user(id: &str) -> Result<Self, BadName> {
        Self::new(&format!("{USER_PREFIX}{id}"))
    }

    /// Whose own channel it is.
    pub fn user(&self) -> Option<&str> {
        self.0.strip_prefix(USER_PREFIX)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn kind(&self) -> ChannelKind {
        ChannelKind::of(&self.0)
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Who may listen to a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Anyone who knows the app's key.
    Public,
    /// Who brings a signature of the app.
    Private,
    /// As private, and the signature names a member.
    Presence,
    /// `#server-to-user-<id>`: the signed-in user alone.
    User,
}

/// What a name's prefix says. Prefixes are anchored and end with their dash: `privatefoo` and `my-cache-x` are public.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelKind {
    pub access: Access,
    /// Payloads are sealed end to end; clients may not whisper here.
    pub encrypted: bool,
    /// The last published event is kept for newcomers.
    pub cache: bool,
}

impl ChannelKind {
    /// The one place that looks at prefixes.
    pub fn of(name: &str) -> Self {
        let kind = |access, encrypted, cache| Self { access, encrypted, cache };
        if let Some(rest) = name.strip_prefix("private-") {
            let (encrypted, rest) = match rest.strip_prefix("encrypted-") {
                Some(rest) => (true, rest),
                None => (false, rest),
            };
            return kind(Access::Private, encrypted, rest.starts_with("cache-"));
        }
        if let Some(rest) = name.strip_prefix("presence-") {
            return kind(Access::Presence, false, rest.starts_with("cache-"));
        }
        if name.starts_with(USER_PREFIX) {
            return kind(Access::User, false, false);
        }
        kind(Access::Public, false, name.starts_with("cache-"))
    }

    /// The value of the metric label `kind`.
    pub fn label(self) -> &'static str {
        match self {
            Self { access: Access::Presence, .. } => "presence",
            Self { encrypted: true, .. } => "encrypted",
            Self { access: Access::Private, .. } => "private",
            Self { access: Access::User, .. } => "user",
            Self { cache: true, .. } => "cache",
            _ => "public",
        }
    }

    pub const LABELS: [&'static str; 6] = ["public", "private", "encrypted", "presence", "cache", "user"];
}

/// One channel of one app: what subscriptions, topics and rosters are kept by. Shared as `Arc<ChannelKey>`.
#[derive(Clone, Debug)]
pub struct ChannelKey {
    /// The app's `id`.
    pub app: Arc<str>,
    pub name: ChannelName,
}

impl PartialEq for ChannelKey {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && (Arc::ptr_eq(&self.app, &other.app) || self.app == other.app)
    }
}

impl Eq for ChannelKey {}

impl Hash for ChannelKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.app.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_prefix() {
        let check = |name: &str, label: &str, cache: bool| {
            let kind = ChannelKind::of(name);
            assert_eq!((kind.label(), kind.cache), (label, cache), "{name}");
        };
        check("orders", "public", false);
        check("privatefoo", "public", false);
        check("my-cache-x", "public", false);
        check("presence", "public", false);
        check("cache-x", "cache", true);
        check("private-x", "private", false);
        check("private-cache-x", "private", true);
        check("private-encrypted-x", "encrypted", false);
        check("private-encrypted-cache-x", "encrypted", true);
        check("presence-x", "presence", false);
        check("presence-cache-x", "presence", true);
        check("presence-encrypted-x", "presence", false);
        check("#server-to-user-7", "user", false);
    }

    #[test]
    fn a_user_has_a_channel_of_his_own() {
        let name = ChannelName::of_user("7").unwrap();
        assert_eq!((name.as_str(), name.user()), ("#server-to-user-7", Some("7")));
        assert_eq!(ChannelName::new("server-to-user-7").unwrap().user(), None);
        assert!(ChannelName::of_user(&"7".repeat(200)).is_err());
    }

    #[test]
    fn names_have_limits() {
        assert!(ChannelName::new("App.Models.User.1").is_ok() && ChannelName::new("room:lobby/é").is_ok());
        for wrong in ["", "a b", "a\nb", "a\u{0}b", &"x".repeat(201)] {
            assert!(ChannelName::new(wrong).is_err(), "{wrong:?}");
        }
    }
}
