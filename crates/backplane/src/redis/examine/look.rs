//! What others say and keep in a Redis: everything that is published for a while, and names of keys and topics.
//!
//! Nodes never subscribe to a pattern and never walk through keys; this does, once, with a limit on all of it.

use std::time::Duration;

use redis::aio::SendError;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::{Examiner, PATIENCE, ask, config, open};

/// Messages that may wait to be looked at; more are passed over.
const WAITING_MAX: usize = 1_024;
/// Of one walk through a database.
const STEPS_MAX: usize = 1_000;
const NAMES_A_STEP: usize = 100;
const NAMES_MAX: usize = 1_000;

/// How much of what is published was heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ear {
    All,
    /// The user may listen to some of the patterns only: these.
    Some(Vec<String>),
    /// He may not listen to patterns; in Redis's words.
    Deaf(String),
}

/// Names that were found.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Names {
    /// Each with its database.
    pub keys: Vec<(i64, String)>,
    /// Topics that somebody listens to.
    pub topics: Vec<String>,
    /// The user may not look.
    pub is_forbidden: bool,
}

impl Examiner {
    /// Listens to all topics; where the user may not, to those that begin with these prefixes. Ends at the limit, or when
    /// `heard`, which is given each topic and payload, says that it is enough.
    ///
    /// # Cancel safety
    /// Dropped, it closes its connection.
    pub async fn listen(&self, prefixes: &[&str], limit: Duration, mut heard: impl FnMut(&str, &[u8]) -> bool) -> Ear {
        let (sender, mut messages) = mpsc::channel(WAITING_MAX);
        let push = move |info: PushInfo| -> Result<(), SendError> {
            // What finds no room is passed over.
            let _ = sender.try_send(info);
            Ok(())
        };
        let mut connection = match open(self.info.clone(), &config().set_push_sender(push)).await {
            Ok(connection) => connection,
            Err(error) => return Ear::Deaf(error.to_string()),
        };
        let mut patterns = Vec::new();
        let mut refusal = String::new();
        let all = std::iter::once("*".to_owned());
        for pattern in all.chain(prefixes.iter().map(|prefix| format!("{}*", escaped(prefix)))) {
            match ask::<Value>(&mut connection, redis::cmd("PSUBSCRIBE").arg(&pattern)).await {
                Ok(_) if pattern == "*" => {
                    patterns.push(pattern);
                    break;
                }
                Ok(_) => patterns.push(pattern),
                Err(error) => refusal = error.to_string(),
            }
        }
        if patterns.is_empty() {
            return Ear::Deaf(refusal);
        }
        let end = Instant::now() + limit;
        while let Ok(Some(info)) = timeout_at(end, messages.recv()).await {
            if let Some((topic, payload)) = message(&info)
                && heard(&String::from_utf8_lossy(topic), payload)
            {
                break;
            }
        }
        if patterns == ["*"] { Ear::All } else { Ear::Some(patterns) }
    }

    /// Names of keys in these databases, and of topics with listeners, that match the pattern.
    pub async fn names(&self, pattern: &str, databases: &[i64]) -> Names {
        let mut found = Names::default();
        match self.ask::<Vec<String>>(redis::cmd("PUBSUB").arg("CHANNELS").arg(pattern)).await {
            Ok(topics) => found.topics = topics.into_iter().take(NAMES_MAX).collect(),
            Err(_) => found.is_forbidden = true,
        }
        let mut connection = match open(self.info.clone(), &config()).await {
            Ok(connection) => connection,
            Err(_) => return found,
        };
        let end = Instant::now() + PATIENCE;
        for database in databases {
            if ask::<Value>(&mut connection, redis::cmd("SELECT").arg(*database)).await.is_err() {
                continue;
            }
            let mut cursor = 0_u64;
            for _ in 0..STEPS_MAX {
                let mut scan = redis::cmd("SCAN");
                scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(NAMES_A_STEP);
                match ask::<(u64, Vec<Vec<u8>>)>(&mut connection, &scan).await {
                    Ok((next, keys)) => {
                        let keys = keys.iter().map(|key| (*database, String::from_utf8_lossy(key).into_owned()));
                        found.keys.extend(keys);
                        cursor = next;
                    }
                    Err(_) => {
                        found.is_forbidden = true;
                        break;
                    }
                }
                if cursor == 0 || found.keys.len() >= NAMES_MAX || Instant::now() > end {
                    break;
                }
            }
        }
        found
    }
}

/// Topic and payload of what a pattern brought.
fn message(info: &PushInfo) -> Option<(&[u8], &[u8])> {
    match (&info.kind, &info.data[..]) {
        (PushKind::PMessage, [_, Value::BulkString(topic), Value::BulkString(payload)]) => Some((topic, payload)),
        _ => None,
    }
}

/// A text as a pattern that matches it alone.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if "[]?*\\".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(escaped("{shop}:[a]*"), r"{shop}:\[a\]\*");
        assert_eq!(escaped("laravel_database_"), "laravel_database_");
    }
}
