//! What a node is told about its Redis.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::Secret;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

use crate::AppSettings;

#[derive(Clone, Debug)]
pub struct Settings {
    /// `redis://[user[:password]@]host[:port][/db]`, or `unix:`.
    pub url: Secret,
    /// What our own keys and topics begin with. Two installations on one Redis need two.
    pub namespace: Box<str>,
    pub apps: Vec<AppSettings>,
    /// How long a channel is listened to after its last subscription here.
    pub linger: Duration,
    pub connect_timeout: Duration,
    /// Of any command but SUBSCRIBE and UNSUBSCRIBE, which have none.
    pub command_timeout: Duration,
    pub publish_timeout: Duration,
    /// How often the way through Redis and back is tried.
    pub probe_interval: Duration,
    /// Another link is opened beside this one when a probe is not back by then.
    pub probe_timeout: Duration,
    pub pool_size: usize,
    /// Of messages between the connection and the listener. Full: the link is given up.
    pub queue_bytes: usize,
    /// Of one message from Redis; larger ones are dropped and counted.
    pub max_payload: usize,
    /// Of publishes without an answer. Full: refused as unavailable.
    pub lane_bytes: usize,
    pub presence_heartbeat: Duration,
    /// A node that was silent for longer counts as dead, and its members as gone.
    pub presence_dead_after: Duration,
    /// How long webhooks wait before they tell of an end: who comes back in time was never away.
    pub webhook_delay: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: Secret::new("redis://127.0.0.1:6379"),
            namespace: "ff:".into(),
            apps: Vec::new(),
            linger: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
            command_timeout: Duration::from_secs(2),
            publish_timeout: Duration::from_secs(5),
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_secs(3),
            pool_size: 8,
            queue_bytes: 64 << 20,
            max_payload: 1 << 20,
            lane_bytes: 16 << 20,
            presence_heartbeat: Duration::from_secs(1),
            presence_dead_after: Duration::from_secs(3),
            webhook_delay: Duration::from_secs(3),
        }
    }
}

impl Settings {
    /// No app's prefix may begin another's: the same topic could mean a channel of both.
    pub(super) fn check_prefixes(&self) -> Result<(), StartError> {
        for AppSettings { id: app, prefix, .. } in &self.apps {
            let clash = self.apps.iter().find(|other| other.id != *app && other.prefix.starts_with(&**prefix));
            if let Some(AppSettings { id: other, prefix: longer, .. }) = clash {
                let text = format!("the prefix {prefix:?} of app {app} begins the prefix {longer:?} of app {other}");
                return Err(StartError(text));
            }
        }
        Ok(())
    }

    /// How long nobody is taken for dead after a time in which no node beat.
    pub(super) fn quiet(&self) -> Duration {
        self.presence_dead_after + Duration::from_secs(1)
    }

    /// How long comparisons of rosters remove nobody after a cut: others must find out and come back first.
    pub(super) fn hold(&self) -> Duration {
        self.quiet() + self.presence_dead_after
    }

    /// The silence of all nodes that means "Redis was away".
    pub(super) fn gap(&self) -> Duration {
        self.presence_dead_after.saturating_sub(self.presence_heartbeat)
    }
}

/// The settings cannot work; the text is fit for the operator and has no secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartError(pub String);

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Where to connect to, and how that is said in logs.
#[derive(Clone)]
pub(super) struct Address {
    pub info: ConnectionInfo,
    pub shown: Arc<str>,
}

impl Address {
    pub(super) fn new(settings: &Settings) -> Result<Self, StartError> {
        let shown = masked(settings.url.reveal());
        let info = settings.url.reveal().into_connection_info();
        // The crate's own text may repeat the URL; its category does not.
        let info =
            info.map_err(|error| StartError(format!("redis.url {shown} is not usable: {}", error.category())))?;
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return Err(StartError(format!("redis.url {shown} asks for TLS, which this version cannot do")));
        }
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(10))
            .with_interval(Duration::from_secs(3))
            .with_retries(3);
        // Well above the probe's time-out: a link that is only held up must not be closed by TCP before it is replaced.
        let tcp =
            TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(Duration::from_secs(30));
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
        Ok(Self { info: info.set_tcp_settings(tcp).set_redis_settings(redis), shown: shown.into() })
    }
}

/// The URL without its password and query.
fn masked(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return "(no scheme)".to_owned() };
    match rest.rsplit_once('@') {
        Some((login, place)) => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{place}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        for url in ["redis://me:hush@host:port", "hush", "http://me:hush@x", "rediss://:hush@x", "redis://:hu@sh@:1"] {
            let settings = Settings { url: Secret::new(url), ..Settings::default() };
            let error = Address::new(&settings).err().unwrap_or_else(|| panic!("{url}")).to_string();
            assert!(error.starts_with("redis.url ") && !error.contains("hush") && !error.contains("hu@"), "{error}");
        }
        assert_eq!(masked("redis://me:hush@[::1]:1/2?protocol=resp3"), "redis://me:***@[::1]:1/2");
    }
}
