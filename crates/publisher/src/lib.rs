//! Say an event, correctly signed: over the HTTP API, or straight into Redis as Laravel does.
//!
//! ```no_run
//! # async fn example() -> Result<(), fanfare_publisher::PublishError> {
//! use fanfare_publisher::{Event, Publisher, RawJson};
//!
//! let publisher = Publisher::http("http://127.0.0.1:8080", "app-id", "app-key", "app-secret")?;
//! publisher.publish(&Event::new("orders", "shipped", RawJson::parse(r#"{"id":7}"#).unwrap())).await?;
//!
//! // The same without a node in between: Redis takes it, and all nodes hear it.
//! let publisher = Publisher::redis("redis://127.0.0.1:6379", "laravel_database_")?;
//! publisher.publish(&Event::new("orders", "shipped", RawJson::string("now"))).await?;
//! # Ok(()) }
//! ```
//!
//! Nothing is connected before the first publish, and a lost connection is made anew by the next one. Nothing is ever sent
//! twice: where the fate of an event is unknown, the error says so ([`PublishError`]).

mod error;
mod event;
mod http;
mod redis_road;
mod redis_url;
pub mod tls;

use std::sync::Arc;
use std::time::Duration;

pub use error::PublishError;
pub use event::Event;
pub use model::RawJson;
use model::Secret;
pub use redis_url::{BadRedisUrl, RedisUrl};
pub use rustls;

/// How long connecting, and then each answer, may take unless [`Publisher::with_timeout`] says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// The most events that one request over HTTP carries (Pusher's limit).
pub const BATCH_MAX: usize = 10;

/// A way to the clients of one app. Needs a tokio runtime; may be shared between tasks.
#[derive(Debug)]
pub struct Publisher {
    road: Road,
    timeout: Duration,
}

#[derive(Debug)]
enum Road {
    Http(http::Http),
    Redis(redis_road::RedisRoad),
}

/// What is known after a publish.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Published {
    /// How many nodes (and other listeners) Redis gave it to, summed over channels and events. `None` over HTTP.
    pub receivers: Option<u64>,
}

impl Publisher {
    /// Over the signed HTTP API at `http://host[:port][/path]`, or `https://`, where certificates are checked against
    /// [`tls::roots`] unless [`Publisher::with_tls`] says otherwise.
    ///
    /// # Errors
    /// `BadAddress` when the URL is not one of HTTP.
    pub fn http(url: &str, app_id: &str, key: &str, secret: &str) -> Result<Self, PublishError> {
        let road = Road::Http(http::Http::new(url, app_id, key, Secret::new(secret))?);
        Ok(Self { road, timeout: TIMEOUT })
    }

    /// Straight into Redis, in the format of Laravel's `redis` broadcaster. `prefix` stands before each channel's name: the
    /// app's `redis_prefix`, or `<app id>:` when it has none.
    ///
    /// # Errors
    /// `BadAddress` when the URL is none that [`RedisUrl::parse`] takes.
    pub fn redis(url: &str, prefix: &str) -> Result<Self, PublishError> {
        let url = RedisUrl::parse(url).map_err(|wrong| PublishError::BadAddress(format!("The Redis URL {wrong}")))?;
        Ok(Self { road: Road::Redis(redis_road::RedisRoad::new(url, prefix)), timeout: TIMEOUT })
    }

    /// Bounds connecting, and each answer, to this long.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Checks the certificates of https by this; it has no meaning on other roads.
    #[must_use]
    pub fn with_tls(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        if let Road::Http(http) = &mut self.road {
            http.set_tls(config);
        }
        self
    }

    /// Publishes one event on all its channels. Events of consecutive calls keep their order on a channel.
    ///
    /// # Errors
    /// See [`PublishError`], also for which errors leave the event's fate open.
    ///
    /// # Cancel safety
    /// A call that is dropped may or may not have published; the publisher stays usable.
    pub async fn publish(&self, event: &Event) -> Result<Published, PublishError> {
        event.check()?;
        match &self.road {
            Road::Http(http) => http.publish(event, self.timeout).await,
            Road::Redis(redis) => redis.publish(std::slice::from_ref(event), self.timeout).await,
        }
    }

    /// Publishes several events in their order, in as few round trips as the road allows. Over HTTP an event with several
    /// channels counts once for each of them, and each request carries at most [`BATCH_MAX`].
    ///
    /// # Errors
    /// The first error; events before the failed request are published, those after it are not.
    pub async fn publish_all(&self, events: &[Event]) -> Result<Published, PublishError> {
        events.iter().try_for_each(Event::check)?;
        match &self.road {
            Road::Http(http) => http.publish_all(events, self.timeout).await,
            Road::Redis(redis) => redis.publish(events, self.timeout).await,
        }
    }
}
