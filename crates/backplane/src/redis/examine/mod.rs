//! Questions to a Redis with which nodes do not work, for `fanfare doctor`: is it there, what is it, may we, who publishes.
//!
//! `reach` says why there is no connection, `rights` what the user may not do, `look` what others say and keep there. Nothing
//! here changes what it finds: the one key that is written is its own, and gone again.

mod look;
mod reach;
mod rights;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, FromRedisValue, RedisError, Value};
use tokio::time::timeout;

use super::address::Address;
use super::memory;
use super::settings::Settings;
pub use look::{Ear, Names};
pub use reach::{Unreachable, Why};
pub use rights::Missing;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The oldest version that we work with.
pub const VERSION_MIN: [u32; 2] = [6, 2];

/// One connection to ask with.
pub struct Examiner {
    info: ConnectionInfo,
    connection: MultiplexedConnection,
    namespace: Box<str>,
    /// As the operator wrote it, without secrets.
    pub shown: String,
    /// The server that was found there: behind Sentinel, the master.
    pub server: String,
}

/// What a server says of itself; what it does not tell this user is absent.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Server {
    /// `Some(false)`: a replica.
    pub is_master: Option<bool>,
    /// For a replica: where its master is.
    pub master: Option<String>,
    /// As it says it, such as `7.0.15`.
    pub version: Option<String>,
    /// It is not `redis` but `cluster`.
    pub is_cluster: bool,
    /// The policy by which it throws keys away when its memory is full.
    pub evicts: Option<String>,
}

impl Server {
    /// True when it is known to be older than what we need.
    pub fn is_too_old(&self) -> bool {
        let parts = self.version.as_deref().unwrap_or_default().split('.').map(str::parse::<u32>);
        let parts: Vec<u32> = parts.map_while(Result::ok).collect();
        parts.len() >= 2 && parts[..2] < VERSION_MIN[..]
    }
}

impl Examiner {
    /// Connects as a node would, and finds out why where it cannot.
    ///
    /// # Errors
    /// What is in the way. No text has a secret.
    pub async fn connect(settings: &Settings) -> Result<Self, Unreachable> {
        let failed = |place: &str, why: Why| Unreachable { place: place.to_owned(), why };
        let unusable = |text: String| failed("", Why::Unusable(text));
        let address = Address::read(settings).map_err(|error| unusable(error.0))?;
        let shown = address.shown.to_string();
        let resolved = address.resolve(PATIENCE).await;
        let info = resolved.map_err(|failure| failed(&shown, Why::Other(failure.text)))?;
        let server = info.addr().to_string();
        match reach::connect(&info).await {
            Ok(connection) => Ok(Self { info, connection, namespace: settings.namespace.clone(), shown, server }),
            Err(why) => Err(failed(&server, why)),
        }
    }

    /// Who we are there.
    pub fn user(&self) -> &str {
        self.info.redis_settings().username().unwrap_or("default")
    }

    /// The database that the URL names.
    pub fn database(&self) -> i64 {
        self.info.redis_settings().db()
    }

    pub async fn server(&self) -> Server {
        let role: Option<Vec<Value>> = self.ask(&redis::cmd("ROLE")).await.ok();
        let word = |at: usize| match role.as_deref()?.get(at)? {
            Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Value::SimpleString(text) => Some(text.clone()),
            Value::Int(number) => Some(number.to_string()),
            _ => None,
        };
        let is_master = word(0).map(|role| role == "master");
        let master = word(1).zip(word(2)).map(|(host, port)| format!("{host}:{port}"));
        let about: String = self.ask(redis::cmd("INFO").arg("server")).await.unwrap_or_default();
        let memory: String = self.ask(redis::cmd("INFO").arg("memory")).await.unwrap_or_default();
        let field = |name: &str| about.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Server {
            is_master,
            master: master.filter(|_| is_master == Some(false)),
            version: field("redis_version").map(|version| version.trim().to_owned()),
            is_cluster: field("redis_mode").is_some_and(|mode| mode.trim() == "cluster"),
            evicts: memory::evicts(&memory).map(str::to_owned),
        }
    }

    /// By how many seconds Redis's clock is ahead of ours. `None`: it does not say.
    pub async fn clock_ahead(&self) -> Option<i64> {
        let began = Instant::now();
        let (seconds, micros): (u64, u32) = self.ask(&redis::cmd("TIME")).await.ok()?;
        // The answer is as old as half of the way, more or less.
        let ours = SystemTime::now().duration_since(UNIX_EPOCH).ok()? - began.elapsed() / 2;
        let theirs = Duration::from_secs(seconds) + Duration::from_micros(micros.into());
        Some((theirs.as_secs_f64() - ours.as_secs_f64()).round() as i64)
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        ask(&mut self.connection.clone(), command).await
    }
}

/// As [`AsyncConnectionConfig`] is used for all connections here.
fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE))
}

async fn ask<T: FromRedisValue>(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<T, RedisError> {
    command.query_async(connection).await
}

async fn open(info: ConnectionInfo, config: &AsyncConnectionConfig) -> Result<MultiplexedConnection, RedisError> {
    let client = Client::open(info)?;
    let connecting = client.get_multiplexed_async_connection_with_config(config);
    timeout(PATIENCE, connecting).await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let is_too_old = |version: &str| Server { version: Some(version.to_owned()), ..Server::default() }.is_too_old();
        for old in ["6.0.16", "5.0.14", "2.8.0", "6.1.240"] {
            assert!(is_too_old(old), "{old}");
        }
        for new in ["6.2.0", "6.2", "7.0.15", "10.0.0", "unknown", ""] {
            assert!(!is_too_old(new), "{new}");
        }
    }
}
