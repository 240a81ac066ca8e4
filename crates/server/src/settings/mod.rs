//! The settings of a node: read from defaults, file, environment and flags, checked as a whole.
//!
//! `table.rs` says which settings exist; `layer.rs` and `file.rs` read what somebody wrote; `values.rs` lays the layers over
//! each other; `agreement.rs` checks what settings must agree on; this file turns the outcome into plain types for the rest
//! of the process. Nothing else here reads the environment, and nothing outside reads a setting by its name.

mod agreement;
mod apps;
mod change;
mod echo_server;
mod env_file;
mod file;
mod history;
mod layer;
mod print;
mod problem;
mod redis_parts;
mod source;
mod table;
mod value;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::Secret;

pub(crate) use apps::{BackEnd, NamedApp};
pub(crate) use change::{Changes, for_a_restart as changes_for_a_restart, of_apps as changes_of_apps};
use layer::Layer;
pub(crate) use print::{docs, effective, example, said};
pub(crate) use problem::{Problem, Problems};

pub(crate) use values::Values;

use crate::logs;

/// The file that is read when it is there and nobody names another.
const FILE: &str = "fanfare.toml";

/// What the command line says about settings.
#[derive(Clone, Default, Debug)]
pub(crate) struct Flags {
    /// Must exist; without it [`FILE`] is read if it exists.
    pub file: Option<PathBuf>,
    /// Laravel's `.env`. Must exist.
    pub env_file: Option<PathBuf>,
    /// `laravel-echo-server.json`. Must exist.
    pub echo_server: Option<PathBuf>,
    /// Flag, setting, text: `("--listen", "server.listen", "127.0.0.1:0")`.
    pub values: Vec<(&'static str, &'static str, String)>,
}

impl Flags {
    /// The same, with the file named that is read when it is there and nobody names another.
    pub(crate) fn with_found_file(mut self) -> Self {
        self.file = self.file.or_else(|| Path::new(FILE).exists().then(|| FILE.into()));
        self
    }
}

/// The settings in force. Durations that may be zero are zero where the docs say "none".
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub server: Server,
    /// `None`: clients speak plain.
    pub tls: Option<Tls>,
    #[allow(dead_code, reason = "the settings are here before the transport that reads them")]
    pub socket_io: SocketIo,
    pub redis: Redis,
    pub presence: Presence,
    pub limits: Limits,
    pub drain: Drain,
    pub webhooks: Webhooks,
    pub log: Log,
    /// In the order of the file; never empty.
    pub apps: Vec<NamedApp>,
    /// No app was configured: `apps` holds the development app alone, and `server.listen` is a loopback address.
    pub development: bool,
    /// The same by name, each value with its source.
    pub values: Values,
}

#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub listen: SocketAddr,
    /// What stands before every path on the port for clients: empty, or `/a/path`.
    #[allow(dead_code, reason = "the check is here; the door takes it off a request's path")]
    pub path_prefix: String,
    pub admin: SocketAddr,
    /// 1 ..= 64; "one a core" is worked out already.
    pub workers: usize,
}

/// Where the certificate is; whether it is of any use is told when it is read.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    /// Read behind the certificate.
    pub chain_file: Option<PathBuf>,
    /// Where the three settings come from, for problems with what is in the files.
    pub places: [String; 3],
}

#[derive(Clone, Debug)]
#[allow(dead_code, reason = "the settings are here before the transport that reads them")]
pub(crate) struct SocketIo {
    /// Begins with a slash and ends without one.
    pub path: String,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
    pub body_bytes: usize,
    pub polling: bool,
    pub websocket: bool,
    /// `None`: no such file is served.
    pub client_file: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub(crate) struct Redis {
    /// `None`: the local backplane. May hold a password.
    pub url: Option<Secret>,
    pub url_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub namespace: String,
    pub linger: Duration,
    pub command_timeout: Duration,
    pub publish_timeout: Duration,
    pub probe_timeout: Duration,
    pub down_grace: Duration,
    pub pool_size: usize,
    pub queue_bytes: usize,
    pub max_payload: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Presence {
    pub heartbeat: Duration,
    pub dead_after: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub inbox_bytes: usize,
    pub batch_events: usize,
    pub batch_bytes: usize,
    pub outbox_bytes: usize,
    pub outbox_total_bytes: usize,
    pub frame_bytes: usize,
    pub http_body_bytes: usize,
    pub handshake: Duration,
    pub handshakes: usize,
    /// 0: no limit.
    pub accepts_per_second: u32,
    /// Requests to applications at a time.
    pub auth_requests: usize,
    /// `limits.auth_seconds`.
    pub auth: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Drain {
    pub grace: Duration,
    /// `drain.seconds`.
    pub spread: Duration,
    pub leave_linger: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Webhooks {
    /// Requests to one endpoint at a time.
    pub lanes: usize,
    /// Events of one request.
    pub batch_events: usize,
    pub timeout: Duration,
    /// `webhooks.retry_seconds`: counted from the happening.
    pub retry: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub format: logs::Format,
    /// Directives that the log filter accepts.
    pub level: String,
}

/// Reads and checks all settings of this process.
///
/// # Errors
/// Everything that is wrong, at once.
pub(crate) fn load(flags: &Flags) -> Result<Settings, Problems> {
    let variables = std::env::vars_os();
    // A name that is not UTF-8 is not one of ours.
    let ours = variables.filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok())));
    let file = flags.clone().with_found_file().file.map_or_else(Layer::default, |path| file::read(&path));
    let env =
        flags.env_file.as_deref().map(|path| env_file::read(path, flags.echo_server.is_some())).unwrap_or_default();
    let echo = flags.echo_server.as_deref().map(|path| echo_server::read(path, &env)).unwrap_or_default();
    let mut said = env.layer;
    // What was made of something else gives way to what somebody wrote, be it in another program's file.
    let derived = said.split_off(|_, source| source.is_derived());
    let echo_server::Layers { made, said: echo, over_laravel } = echo;
    let foreign = [made, derived, echo, said, over_laravel];
    let ours = [file, Layer::from_environment(ours), Layer::from_flags(&flags.values)];
    from_layers(foreign.into_iter().chain(ours).collect())
}

/// Later layers win.
fn from_layers(mut layers: Vec<Layer>) -> Result<Settings, Problems> {
    let mut problems: Vec<Problem> = layers.iter_mut().flat_map(|layer| std::mem::take(&mut layer.problems)).collect();
    let mut values = match Values::merge(&layers) {
        Ok(values) => values,
        Err(problem) => {
            problems.push(problem);
            return Err(Problems(problems));
        }
    };
    apps::forget_other_spellings(&mut values);
    apps::read_secret_files(&mut values, &mut problems);
    agreement::check(&values, &mut problems);
    if problems.is_empty() { Ok(settings(values)) } else { Err(Problems(problems)) }
}

/// What is allowed and worth a second look.
pub(crate) fn warnings(settings: &Settings) -> Vec<Problem> {
    agreement::warnings(&settings.values)
}

/// From checked values to plain types.
fn settings(values: Values) -> Settings {
    let seconds = |name: &str| values.seconds(name);
    let size = |name: &str| values.whole(name) as usize;
    // Checked when it was read.
    let address = |name: &str| values.text(name).parse().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)));
    let url = values.text("redis.url");
    let file = |name: &str| (!values.is_absent(name)).then(|| PathBuf::from(values.text(name)));
    Settings {
        server: Server {
            listen: address("server.listen"),
            path_prefix: values.text("server.path_prefix").to_owned(),
            admin: address("server.admin"),
            workers: workers(size("server.workers")),
        },
        tls: tls(&values),
        socket_io: SocketIo {
            path: values.text("socket_io.path").to_owned(),
            ping_interval: seconds("socket_io.ping_interval"),
            ping_timeout: seconds("socket_io.ping_timeout"),
            body_bytes: size("socket_io.body_bytes"),
            polling: values.is_on("socket_io.polling"),
            websocket: values.is_on("socket_io.websocket"),
            client_file: file("socket_io.client_file"),
        },
        redis: Redis {
            url: (!url.is_empty()).then(|| Secret::new(url)),
            url_file: file("redis.url_file"),
            ca_file: file("redis.ca_file"),
            certificate_file: file("redis.certificate_file"),
            key_file: file("redis.key_file"),
            namespace: values.text("redis.namespace").to_owned(),
            linger: seconds("redis.linger"),
            command_timeout: seconds("redis.command_timeout"),
            publish_timeout: seconds("redis.publish_timeout"),
            probe_timeout: seconds("redis.probe_timeout"),
            down_grace: seconds("redis.down_grace"),
            pool_size: size("redis.pool_size"),
            queue_bytes: size("redis.queue_bytes"),
            max_payload: size("redis.max_payload"),
        },
        presence: Presence { heartbeat: seconds("presence.heartbeat"), dead_after: seconds("presence.dead_after") },
        limits: limits(&values),
        drain: Drain {
            grace: seconds("drain.grace"),
            spread: seconds("drain.seconds"),
            leave_linger: seconds("drain.leave_linger"),
        },
        webhooks: Webhooks {
            lanes: size("webhooks.lanes"),
            batch_events: size("webhooks.batch_events"),
            timeout: seconds("webhooks.timeout"),
            retry: seconds("webhooks.retry_seconds"),
        },
        log: Log {
            format: match values.text("log.format") {
                "human" => logs::Format::Human,
                "json" => logs::Format::Json,
                _ => logs::Format::Auto,
            },
            level: values.text("log.level").to_owned(),
        },
        apps: apps::build(&values),
        development: values.development,
        values,
    }
}

fn tls(values: &Values) -> Option<Tls> {
    let names = ["tls.certificate_file", "tls.key_file", "tls.chain_file"];
    // The first two or neither: that was checked.
    let [certificate_file, key_file, chain_file] = names.map(|name| PathBuf::from(values.text(name)));
    let chain_file = (!values.is_absent(names[2])).then_some(chain_file);
    let places = names.map(|name| values.source(name).place());
    (!values.is_absent(names[0])).then_some(Tls { certificate_file, key_file, chain_file, places })
}

fn limits(values: &Values) -> Limits {
    let size = |key: &str| values.whole(&format!("limits.{key}")) as usize;
    Limits {
        inbox_bytes: size("inbox_bytes"),
        batch_events: size("batch_events"),
        batch_bytes: size("batch_bytes"),
        outbox_bytes: size("outbox_bytes"),
        outbox_total_bytes: size("outbox_total_bytes"),
        frame_bytes: size("frame_bytes"),
        http_body_bytes: size("http_body_bytes"),
        handshake: values.seconds("limits.handshake_seconds"),
        handshakes: size("handshakes"),
        accepts_per_second: size("accepts_per_second") as u32,
        auth_requests: size("auth_requests"),
        auth: values.seconds("limits.auth_seconds"),
    }
}

/// 0: one a core. The number of cores respects the affinity mask and a container's quota.
fn workers(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from).min(64),
        asked => asked,
    }
}

#[cfg(test)]
mod tests;
