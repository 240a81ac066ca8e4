//! The road through Redis: `PUBLISH <prefix><channel> {"event":…,"data":…,"socket":…}`, as Laravel's `redis` broadcaster
//! (reference: laravel/framework `RedisBroadcaster.php`).
//!
//! One multiplexed connection, commands pipelined. It is checked for the role of master when it is made: a replica takes a
//! PUBLISH too, and only its own listeners would hear it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, SendError};
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ProtocolVersion};
use redis::{PushInfo, PushKind, RedisError, ServerErrorKind};
use tokio::sync::Mutex;

use crate::error::PublishError;
use crate::event::Event;
use crate::{Published, RedisUrl};

/// The largest payload that a node takes from Redis by default (`redis.max_payload`); it would drop a larger one unheard.
const PAYLOAD_MAX: usize = 1_048_576;

#[derive(Debug)]
pub(crate) struct RedisRoad {
    url: RedisUrl,
    prefix: String,
    /// Held while connecting, so that concurrent first calls share one connection; never while publishing.
    link: Mutex<Option<Link>>,
}

#[derive(Clone, Debug)]
struct Link {
    connection: MultiplexedConnection,
    /// Set as soon as the connection ends, also while nothing is asked: so that the next publish is not the one that finds
    /// out, which could not tell whether it was heard.
    lost: Arc<AtomicBool>,
}

impl RedisRoad {
    pub(crate) fn new(url: RedisUrl, prefix: &str) -> Self {
        Self { url, prefix: prefix.to_owned(), link: Mutex::new(None) }
    }

    /// All in one pipeline: one round trip, order kept.
    pub(crate) async fn publish(&self, events: &[Event], timeout: Duration) -> Result<Published, PublishError> {
        let mut pipeline = redis::pipe();
        for event in events {
            let payload = payload(event);
            if payload.len() > PAYLOAD_MAX {
                let text = format!("the payload has {} bytes, and nodes take {PAYLOAD_MAX}", payload.len());
                return Err(PublishError::TooLarge(text));
            }
            for channel in &event.channels {
                pipeline.cmd("PUBLISH").arg(format!("{}{channel}", self.prefix)).arg(&payload);
            }
        }
        let mut link = self.link(timeout).await?;
        let answer: Result<Vec<u64>, RedisError> = pipeline.query_async(&mut link.connection).await;
        match answer {
            Ok(receivers) => Ok(Published { receivers: Some(receivers.iter().sum()) }),
            Err(error) => {
                if refusal(&error).is_none() {
                    link.lost.store(true, Ordering::Relaxed);
                }
                Err(self.explain(&error))
            }
        }
    }

    async fn link(&self, timeout: Duration) -> Result<Link, PublishError> {
        let mut held = self.link.lock().await;
        if let Some(link) = held.as_ref().filter(|link| !link.lost.load(Ordering::Relaxed)) {
            return Ok(link.clone());
        }
        // A time-out of the whole, since resolving a name and the handshake have none of their own.
        let connecting = tokio::time::timeout(timeout, self.connect(timeout));
        match connecting.await {
            Ok(link) => Ok(held.insert(link?).clone()),
            Err(_) => Err(self.unreachable(format!("no answer within {} s", timeout.as_secs_f64()))),
        }
    }

    async fn connect(&self, timeout: Duration) -> Result<Link, PublishError> {
        // The newer protocol has pushes, and the library reports a lost connection as one.
        let settings = self.url.info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let lost = Arc::new(AtomicBool::new(false));
        let heard = lost.clone();
        let note = move |push: PushInfo| -> Result<(), SendError> {
            heard.fetch_or(push.kind == PushKind::Disconnection, Ordering::Relaxed);
            Ok(())
        };
        if matches!(self.url.info.addr(), ConnectionAddr::TcpTls { .. }) {
            // The Redis library takes the provider of the process, and panics where there is none.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let client = Client::open(self.url.info.clone().set_redis_settings(settings))
            .map_err(|error| self.unreachable(plain(&error)))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout))
            .set_push_sender(note);
        let connected = client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connected.map_err(|error| match refusal(&error) {
            Some(refused) => refused,
            None => self.unreachable(plain(&error)),
        })?;
        let role: Result<Vec<redis::Value>, RedisError> = redis::cmd("ROLE").query_async(&mut connection).await;
        match role {
            Ok(role) if is_master(&role) => Ok(Link { connection, lost }),
            Ok(_) => {
                let text = format!(
                    "{} is a replica, and its clients alone would hear the event; name the master",
                    self.url.address()
                );
                Err(PublishError::Refused { status: None, text })
            }
            Err(error) => Err(match refusal(&error) {
                Some(refused) => refused,
                None => self.unreachable(plain(&error)),
            }),
        }
    }

    fn explain(&self, error: &RedisError) -> PublishError {
        match refusal(error) {
            Some(refused) => refused,
            None => PublishError::MayHaveHappened(format!(
                "The answer of {} was lost ({})",
                self.url.address(),
                plain(error)
            )),
        }
    }

    fn unreachable(&self, why: String) -> PublishError {
        PublishError::CannotReach { address: format!("Redis at {}", self.url.address()), why }
    }
}

/// What Laravel's broadcaster publishes, key order included.
fn payload(event: &Event) -> Vec<u8> {
    let mut out = b"{\"event\":".to_vec();
    model::json::push_string(&mut out, &event.name);
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(event.data.as_str().as_bytes());
    out.extend_from_slice(b",\"socket\":");
    match &event.socket_id {
        Some(id) => model::json::push_string(&mut out, id),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
    out
}

fn is_master(role: &[redis::Value]) -> bool {
    match role.first() {
        Some(redis::Value::BulkString(name)) => name == b"master",
        Some(redis::Value::SimpleString(name)) => name == "master",
        _ => false,
    }
}

/// Redis's own "no", which says that nothing was published; `None` when the connection failed.
fn refusal(error: &RedisError) -> Option<PublishError> {
    let refused = |text: String| Some(PublishError::Refused { status: None, text });
    let said = || error.detail().unwrap_or_default().to_owned();
    match error.code() {
        Some("NOAUTH") => return refused("Redis wants a password; write redis://:password@host".to_owned()),
        Some("WRONGPASS") => return refused("Redis does not take this user and password".to_owned()),
        _ => {}
    }
    match error.kind() {
        redis::ErrorKind::AuthenticationFailed => refused(format!("Redis does not take the password: {}", said())),
        redis::ErrorKind::Server(ServerErrorKind::NoPerm) => {
            refused(format!("the Redis user may not do this: {} (it needs +publish, +role and the channel)", said()))
        }
        redis::ErrorKind::Server(_) | redis::ErrorKind::Extension => refused(error.to_string()),
        _ => None,
    }
}

fn plain(error: &RedisError) -> String {
    if error.is_timeout() { "no answer in time".to_owned() } else { error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::RawJson;

    #[test]
    fn the_payload_is_laravels_byte_for_byte() {
        let mut event = Event::new("orders", "App\\Events\\OrderEvent", RawJson::parse(r#"{"hello":1.0}"#).unwrap());
        assert_eq!(payload(&event), br#"{"event":"App\\Events\\OrderEvent","data":{"hello":1.0},"socket":null}"#);
        event.socket_id = Some("123.456".into());
        assert_eq!(payload(&event), br#"{"event":"App\\Events\\OrderEvent","data":{"hello":1.0},"socket":"123.456"}"#);
    }
}
