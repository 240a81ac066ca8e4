//! Which channels keep what was said on them, how much of it and for how long.

use std::time::Duration;

use crate::channel::{Access, ChannelName};

/// The most events that a channel may keep.
pub const SIZE_MAX: u32 = 10_000;

/// One line of an app's settings: `PATTERN EVENTS SECONDS`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryRule {
    /// A channel's name; `*` stands for any text, the empty one too.
    pub pattern: Box<str>,
    pub depth: HistoryDepth,
}

/// How much of a channel is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HistoryDepth {
    /// Events; 1 ..= [`SIZE_MAX`].
    pub size: u32,
    pub ttl: Duration,
}

impl HistoryRule {
    /// Users' own channels keep nothing: who is not signed in must not read them.
    pub fn fits(&self, name: &ChannelName) -> bool {
        name.kind().access != Access::User && fits(&self.pattern, name.as_str())
    }
}

/// How much of a channel is kept by these rules: the first that fits holds. `None`: nothing.
pub fn depth_of(rules: &[HistoryRule], name: &ChannelName) -> Option<HistoryDepth> {
    rules.iter().find(|rule| rule.fits(name)).map(|rule| rule.depth)
}

fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    // `split` gives at least one part.
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        let check = |pattern: &str, name: &str, expected: bool| {
            let depth = HistoryDepth { size: 1, ttl: Duration::from_secs(1) };
            let rule = HistoryRule { pattern: pattern.into(), depth };
            assert_eq!(rule.fits(&ChannelName::new(name).unwrap()), expected, "{pattern} {name}");
        };
        check("chat", "chat", true);
        check("chat", "chats", false);
        check("chat-*", "chat-", true);
        check("chat-*", "chat-1", true);
        check("chat-*", "private-chat-1", false);
        check("*-chat-*", "private-chat-1", true);
        check("a*b*c", "abc", true);
        check("a*b*c", "axxbyyc", true);
        check("a*b*c", "acb", false);
        check("ab*ba", "aba", false);
        check("*", "anything", true);
        check("*", "#server-to-user-7", false);
    }
}
