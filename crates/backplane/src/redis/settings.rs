//! What a node is told about its Redis.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use model::Secret;

use crate::AppSettings;

/// In PEM; read again for each link. Of use only with a URL that asks for TLS.
#[derive(Clone, Default, Debug)]
pub struct TlsFiles {
    /// Who may have signed the server's certificate. Absent: the public authorities.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key, for a server that asks for one.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// See `address`.
    pub url: Secret,
    /// Where the URL was read from: it is read again for each link, so that a changed password needs no restart.
    pub url_file: Option<PathBuf>,
    pub tls: TlsFiles,
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
            url_file: None,
            tls: TlsFiles::default(),
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
        for app in &self.apps {
            let others = self.apps.iter().filter(|other| other.id != app.id);
            for (other, longer) in others.flat_map(|other| other.prefixes().map(move |prefix| (&other.id, prefix))) {
                if let Some(prefix) = app.prefixes().find(|prefix| longer.starts_with(prefix)) {
                    let id = &app.id;
                    let text = format!("the prefix {prefix:?} of app {id} begins the prefix {longer:?} of app {other}");
                    return Err(StartError(text));
                }
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
