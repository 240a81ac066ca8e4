//! What a Redis user may not do that nodes do: each command is tried, harmlessly.
//!
//! `ACL DRYRUN` would need a right of its own, and Redis 7. So the tries are real ones: on a key of our own that holds text,
//! where commands for other types fail, and Redis says whether they are allowed before it says that. Invariant: nothing but
//! that key is written, and it has gone within [`TTL`].

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, Value};

use super::super::random;
use super::{Examiner, ask, config, open};

/// In milliseconds, should we not come to remove the key.
const TTL: &str = "5000";

/// Each right of docs/redis.acl that a node cannot do without, with words that need it. `KEY` is our key, `TOPIC` a topic on which nobody listens.
#[rustfmt::skip]
const TRIES: [(&str, &str); 48] = [
    ("ping", "PING"), ("select", "SELECT DB"), ("role", "ROLE"),
    ("unwatch", "UNWATCH"), ("set", "SET KEY x PX TTL"), ("eval", "EVAL return 1 KEY"),
    ("evalsha", "EVALSHA 0000000000000000000000000000000000000000 1 KEY"), ("script|load", "SCRIPT LOAD return"),
    ("time", "TIME"), ("info", "INFO server"), ("zadd", "ZADD KEY 1 x"), ("zrem", "ZREM KEY x"), ("zscore", "ZSCORE KEY x"),
    ("zcard", "ZCARD KEY"), ("zrangebyscore", "ZRANGEBYSCORE KEY 0 1"), ("hget", "HGET KEY x"), ("hmget", "HMGET KEY x"),
    ("hset", "HSET KEY x 1"), ("hsetnx", "HSETNX KEY x 1"), ("hdel", "HDEL KEY x"), ("hincrby", "HINCRBY KEY x 1"),
    ("hexists", "HEXISTS KEY x"), ("hlen", "HLEN KEY"), ("hvals", "HVALS KEY"), ("hgetall", "HGETALL KEY"),
    ("hscan", "HSCAN KEY 0"), ("sadd", "SADD KEY x"), ("srem", "SREM KEY x"), ("scard", "SCARD KEY"),
    ("sismember", "SISMEMBER KEY x"), ("smembers", "SMEMBERS KEY"), ("srandmember", "SRANDMEMBER KEY"), ("spop", "SPOP KEY"),
    ("exists", "EXISTS KEY"), ("pexpire", "PEXPIRE KEY TTL"), ("expire", "EXPIRE KEY 5"), ("xadd", "XADD KEY * x 1"),
    ("xlen", "XLEN KEY"), ("xrange", "XRANGE KEY - + COUNT 1"), ("xrevrange", "XREVRANGE KEY + - COUNT 1"),
    ("xgroup|create", "XGROUP CREATE KEY x $"), ("xreadgroup", "XREADGROUP GROUP x x COUNT 1 STREAMS KEY >"),
    ("xack", "XACK KEY x 1-1"), ("xdel", "XDEL KEY 1-1"), ("del", "DEL KEY"),
    ("publish", "PUBLISH TOPIC PAYLOAD"), ("subscribe", "SUBSCRIBE TOPIC"), ("unsubscribe", "UNSUBSCRIBE TOPIC"),
];

/// Nodes pass over it.
const PAYLOAD: &str = r#"{"event":"fanfare:doctor","data":null,"socket":null,"v":1}"#;

/// What a user lacks.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Missing {
    /// As in rules of an ACL, without the plus.
    pub commands: Vec<&'static str>,
    /// Key patterns.
    pub keys: Vec<String>,
    /// Channel patterns.
    pub channels: Vec<String>,
    /// Commands that the server does not know, for any user: it renamed them, or it is another server.
    pub unknown: Vec<&'static str>,
    /// A try that failed for another reason, in Redis's words.
    pub failed: Option<String>,
}

impl Missing {
    pub fn is_nothing(&self) -> bool {
        self.rules().is_empty() && self.unknown.is_empty()
    }

    /// The rules to add, as `ACL SETUSER` takes them.
    pub fn rules(&self) -> String {
        let commands = self.commands.iter().map(|command| format!("+{command}"));
        let keys = self.keys.iter().map(|pattern| format!("~{pattern}"));
        let channels = self.channels.iter().map(|pattern| format!("&{pattern}"));
        commands.chain(keys).chain(channels).collect::<Vec<_>>().join(" ")
    }

    fn add(&mut self, right: &'static str, pattern: &str, error: &RedisError) {
        match denied(error) {
            Some(Denied::Command) if !self.commands.contains(&right) => self.commands.push(right),
            Some(Denied::Key) => add_once(&mut self.keys, pattern),
            Some(Denied::Channel) => add_once(&mut self.channels, pattern),
            _ => {}
        }
        let is_unknown =
            ["unknown command", "unknown subcommand"].iter().any(|words| error.to_string().contains(words));
        if is_unknown && !self.unknown.contains(&right) {
            self.unknown.push(right);
        }
        if error.is_io_error() {
            self.failed = Some(error.to_string());
        }
    }
}

fn add_once(patterns: &mut Vec<String>, pattern: &str) {
    if !patterns.iter().any(|known| known == pattern) {
        patterns.push(pattern.to_owned());
    }
}

#[derive(PartialEq, Debug)]
enum Denied {
    Command,
    Key,
    Channel,
}

/// What Redis's `NOPERM` is about; its words differ between versions.
fn denied(error: &RedisError) -> Option<Denied> {
    let is_denied = error.code() == Some("NOPERM");
    is_denied.then(|| about(error.detail().unwrap_or_default()))
}

fn about(words: &str) -> Denied {
    match words.split_once(" access ") {
        Some((_, what)) if what.contains("channel") => Denied::Channel,
        Some((_, what)) if what.contains("key") => Denied::Key,
        _ => Denied::Command,
    }
}

impl Examiner {
    /// What this user lacks of what nodes do, with these prefixes of apps.
    pub async fn missing_rights(&self, prefixes: &[&str]) -> Missing {
        let mut missing = Missing::default();
        // Of its own: names and subscriptions are a connection's.
        let mut connection = match open(self.info.clone(), &config()).await {
            Ok(connection) => connection,
            Err(error) => return Missing { failed: Some(error.to_string()), ..missing },
        };
        let key = format!("{}{{0}}:doctor:{:016x}", self.namespace, random());
        let keys = format!("{}*", self.namespace);
        for (right, words) in TRIES.iter().filter(|(_, words)| !words.contains("TOPIC")) {
            let command = self.command(words, &key, "");
            if let Err(error) = ask::<Value>(&mut connection, &command).await {
                missing.add(right, &keys, &error);
            }
        }
        for prefix in std::iter::once(&*self.namespace).chain(prefixes.iter().copied()) {
            self.try_topics(&mut connection, prefix, &mut missing).await;
        }
        missing
    }

    async fn try_topics(&self, connection: &mut MultiplexedConnection, prefix: &str, missing: &mut Missing) {
        let topic = format!("{prefix}fanfare-doctor-{:016x}", random());
        let pattern = format!("{}*", super::look::escaped(prefix));
        for (right, words) in TRIES.iter().filter(|(_, words)| words.contains("TOPIC")) {
            let command = self.command(words, "", &topic);
            if let Err(error) = ask::<Value>(connection, &command).await {
                missing.add(right, &pattern, &error);
            }
        }
    }

    fn command(&self, words: &str, key: &str, topic: &str) -> Cmd {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap_or_default());
        for word in words {
            match word {
                "KEY" => command.arg(key),
                "TTL" => command.arg(TTL),
                "DB" => command.arg(self.database()),
                "TOPIC" => command.arg(topic),
                "PAYLOAD" => command.arg(PAYLOAD),
                word => command.arg(word),
            };
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_right_of_the_list_is_tried_and_no_other() {
        let list = include_str!("../../../../../docs/redis.acl");
        let mut listed: Vec<&str> = list.split_whitespace().filter_map(|word| word.strip_prefix('+')).collect();
        // Redis asks for no right to say who one is, and a node does without a name.
        listed.retain(|right| !["hello", "auth", "client|setname"].contains(right));
        let mut tried: Vec<&str> = TRIES.iter().map(|(right, _)| *right).collect();
        listed.sort_unstable();
        tried.sort_unstable();
        assert_eq!(tried, listed);
    }

    #[test]
    fn redis_says_in_several_ways_what_it_denies() {
        let check = |words: &str, what: Denied| assert_eq!(about(words), what, "{words}");
        check("this user has no permissions to run the 'hset' command", Denied::Command);
        check("User fanfare has no permissions to run the 'subscribe' command", Denied::Command);
        check("this user has no permissions to access one of the keys used as arguments", Denied::Key);
        check("No permissions to access a key", Denied::Key);
        check("this user has no permissions to access one of the channels used as arguments", Denied::Channel);
        check("No permissions to access a channel", Denied::Channel);
    }

    #[test]
    fn what_is_missing_is_said_as_rules() {
        let missing = Missing {
            commands: vec!["subscribe", "client|setname"],
            keys: vec!["ff:*".to_owned()],
            channels: vec!["a_*".to_owned()],
            ..Missing::default()
        };
        assert_eq!(missing.rules(), "+subscribe +client|setname ~ff:* &a_*");
        assert!(Missing::default().is_nothing() && !missing.is_nothing());
    }
}
