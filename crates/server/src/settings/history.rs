//! The rules that say which channels keep a history, as they are written: `PATTERN EVENTS SECONDS`.

use std::time::Duration;

use model::history::SIZE_MAX;
use model::{HistoryDepth, HistoryRule};

/// The longest that anything is kept.
const SECONDS_MAX: u64 = 86_400;

/// Rules with commas between them.
///
/// # Errors
/// What is wrong with the first wrong one, and what to write.
pub(super) fn read(text: &str) -> Result<Vec<HistoryRule>, String> {
    text.split(',').map(str::trim).filter(|rule| !rule.is_empty()).map(rule).collect()
}

fn rule(text: &str) -> Result<HistoryRule, String> {
    let wrong = |why: &str| format!("{text:?} {why}; write a channel's name, events and seconds: {EXAMPLE}");
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [pattern, size, seconds] = parts[..] else {
        return Err(wrong("has not three parts"));
    };
    let number = |text: &str, max: u64| text.parse().ok().filter(|number| (1..=max).contains(number));
    let size =
        number(size, SIZE_MAX.into()).ok_or_else(|| wrong(&format!("has no number of events from 1 to {SIZE_MAX}")))?;
    let seconds = number(seconds, SECONDS_MAX)
        .ok_or_else(|| wrong(&format!("has no number of seconds from 1 to {SECONDS_MAX}")))?;
    let depth = HistoryDepth { size: size as u32, ttl: Duration::from_secs(seconds) };
    Ok(HistoryRule { pattern: pattern.into(), depth })
}

pub(super) const EXAMPLE: &str = "\"private-chat-* 100 300\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_pattern_a_number_and_a_time() {
        let rule = |pattern: &str, size, seconds| HistoryRule {
            pattern: pattern.into(),
            depth: HistoryDepth { size, ttl: Duration::from_secs(seconds) },
        };
        let rules = vec![rule("chat-*", 100, 300), rule("prices", 1, 86_400)];
        assert_eq!(read("chat-*  100 300, prices 1 86400,"), Ok(rules));
        assert_eq!(read(""), Ok(Vec::new()));
        for wrong in ["chat", "chat 1", "chat 0 1", "chat 10001 1", "chat 1 0", "chat 1 86401", "chat 1 5m", "a 1 1 1"]
        {
            let text = read(wrong).unwrap_err();
            assert!(text.contains(wrong) && text.contains(EXAMPLE), "{text}");
        }
    }
}
