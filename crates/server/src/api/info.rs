//! `info`: what a caller wants to know of a channel beside whether it is occupied.

use std::sync::Arc;

use backplane::ChannelCounts;
use model::{Access, App, ChannelKey, ChannelName};

use super::{Api, Refused};

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Info {
    pub(super) user_count: bool,
    pub(super) subscription_count: bool,
    /// Of one channel only.
    pub(super) cache: bool,
}

/// What may be asked of several channels at once.
pub(super) const COUNTS: [&str; 2] = ["user_count", "subscription_count"];
/// What may be asked of one.
pub(super) const ALL: [&str; 3] = ["user_count", "subscription_count", "cache"];

impl Info {
    /// # Errors
    /// A word that is not in `known`.
    pub(super) fn read(text: &str, known: &[&str]) -> Result<Self, String> {
        let mut info = Self::default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            if !known.contains(&word) {
                let word: String = word.chars().take(100).collect();
                return Err(format!("info has {word:?}, which is not known here; there are {}", known.join(", ")));
            }
            match word {
                "user_count" => info.user_count = true,
                "subscription_count" => info.subscription_count = true,
                _ => info.cache = true,
            }
        }
        Ok(info)
    }

    /// # Errors
    /// The channel has no users to count.
    pub(super) fn fits(self, channel: &ChannelName) -> Result<(), String> {
        if self.user_count && channel.kind().access != Access::Presence {
            return Err(format!("info has user_count, which only presence channels have: {:?}", channel.as_str()));
        }
        Ok(())
    }

    /// What of it there is for this channel: in a publish on channels of several kinds (pusher docs, "POST event").
    pub(super) fn of(self, channel: &ChannelName) -> Self {
        Self { user_count: self.user_count && channel.kind().access == Access::Presence, ..self }
    }

    pub(super) fn wants_counts(self) -> bool {
        self.user_count || self.subscription_count
    }

    /// Appends the fields, each with a comma before it.
    pub(super) fn push_counts(self, out: &mut Vec<u8>, counts: ChannelCounts) {
        if self.user_count {
            out.extend_from_slice(format!(r#","user_count":{}"#, counts.users).as_bytes());
        }
        if self.subscription_count {
            out.extend_from_slice(format!(r#","subscription_count":{}"#, counts.subscriptions).as_bytes());
        }
    }

    /// An object of these counts and nothing else.
    pub(super) fn push_object(self, out: &mut Vec<u8>, counts: ChannelCounts) {
        let mut fields = Vec::new();
        self.push_counts(&mut fields, counts);
        out.push(b'{');
        out.extend_from_slice(fields.get(1..).unwrap_or_default());
        out.push(b'}');
    }
}

/// Counts of channels, in their order.
pub(super) async fn counts(
    api: &Api,
    app: &App,
    channels: impl IntoIterator<Item = ChannelName>,
) -> Result<Vec<ChannelCounts>, Refused> {
    let key = |name| Arc::new(ChannelKey { app: app.id.clone(), name });
    let channels: Vec<_> = channels.into_iter().map(key).collect();
    let asked = channels.len();
    let counts = api.backplane.counts(channels).await?;
    debug_assert_eq!(counts.len(), asked);
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_known_or_named() {
        let all = Info { user_count: true, subscription_count: true, cache: true };
        assert_eq!(Info::read("user_count, subscription_count,cache", &ALL), Ok(all));
        assert_eq!(Info::read("", &ALL), Ok(Info::default()));
        let wrong = Info::read("user_count,cache", &COUNTS).unwrap_err();
        assert!(wrong.contains("\"cache\"") && wrong.ends_with("user_count, subscription_count"), "{wrong}");
    }

    #[test]
    fn counts_are_printed_as_they_were_asked() {
        let counts = ChannelCounts { subscriptions: 3, users: 2 };
        let printed = |info: &str| {
            let mut out = Vec::new();
            Info::read(info, &COUNTS).unwrap().push_object(&mut out, counts);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(printed(""), "{}");
        assert_eq!(printed("subscription_count"), r#"{"subscription_count":3}"#);
        assert_eq!(printed("subscription_count,user_count"), r#"{"user_count":2,"subscription_count":3}"#);
    }
}
