//! Where Laravel's Redis is: `REDIS_*` as one URL.
//!
//! As `Illuminate\Support\ConfigurationUrlParser`: what `REDIS_URL` says wins over the other variables, part by part.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::super::problem::Problem;
use super::{Broadcasting, EnvFile};

/// The parts of the address. Texts are as they are, not as a URL spells them; empty ones are not said.
#[derive(Clone, Default)]
struct Parts {
    tls: bool,
    /// A name, an IP address, or the path of a socket.
    host: String,
    port: String,
    username: String,
    password: String,
    database: String,
}

const KEYS: [&str; 7] =
    ["REDIS_URL", "REDIS_SCHEME", "REDIS_HOST", "REDIS_PORT", "REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_DB"];

const SENTINEL_KEYS: [&str; 5] = [
    "REDIS_SENTINEL_HOST",
    "REDIS_SENTINEL_PORT",
    "REDIS_SENTINEL_SERVICE",
    "REDIS_SENTINEL_USERNAME",
    "REDIS_SENTINEL_PASSWORD",
];

/// Takes `redis.url`.
pub(super) fn take(file: &mut EnvFile<'_>, broadcasting: &Broadcasting) {
    let says = |key: &&&str| file.filled(key).is_some();
    let keys: Vec<&str> = KEYS.iter().chain(&SENTINEL_KEYS).filter(says).copied().collect();
    let places = ["REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_SENTINEL_HOST"];
    if !keys.iter().any(|key| places.contains(key)) {
        // Laravel's own default; without its redis driver nothing says that there is a Redis at all.
        if broadcasting.driver == "redis" {
            let source = file.derived(&broadcasting.key.into_iter().chain(keys).collect::<Vec<_>>());
            let url = parts(file).url();
            file.take("redis.url", url, source);
        }
        return;
    }
    let source = file.source(&keys);
    let mut parts = parts(file);
    if let Some(url) = file.filled("REDIS_URL")
        && let Err(text) = parts.take_url(&url)
    {
        file.layer.problems.push(Problem::new(file.source(&["REDIS_URL"]), "redis.url", text));
        return;
    }
    let url = match file.filled("REDIS_SENTINEL_HOST") {
        Some(hosts) => sentinel_url(file, &parts, &hosts),
        None => parts.url(),
    };
    file.take("redis.url", url, source);
}

fn parts(file: &EnvFile<'_>) -> Parts {
    let text = |key: &str| file.filled(key).unwrap_or_default();
    let mut parts = Parts {
        tls: is_tls(&text("REDIS_SCHEME")),
        host: text("REDIS_HOST"),
        port: text("REDIS_PORT"),
        username: text("REDIS_USERNAME"),
        password: text("REDIS_PASSWORD"),
        database: text("REDIS_DB"),
    };
    if let Some((scheme, host)) = parts.host.clone().split_once("://") {
        parts.tls |= is_tls(scheme);
        parts.host = host.to_owned();
    }
    parts
}

fn is_tls(scheme: &str) -> bool {
    matches!(scheme, "tls" | "ssl" | "rediss" | "valkeys")
}

impl Parts {
    /// Puts the parts of a URL over these.
    fn take_url(&mut self, url: &str) -> Result<(), String> {
        const WRONG: &str = "is not a URL of Redis; write redis://user:password@host:6379/0, or rediss:// for TLS";
        let (scheme, rest) = url.split_once("://").ok_or(WRONG)?;
        if !matches!(scheme, "redis" | "tcp" | "valkey" | "unix") && !is_tls(scheme) {
            return Err(WRONG.to_owned());
        }
        self.tls = is_tls(scheme);
        let rest = rest.split('#').next().unwrap_or_default();
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if scheme == "unix" {
            self.host = decoded(rest);
        } else {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            let colon = host.rfind(':').filter(|colon| host.rfind(']').is_none_or(|end| end < *colon));
            let (host, port) = colon.map_or((host, ""), |colon| (&host[..colon], &host[colon + 1..]));
            for (part, text) in [
                (&mut self.host, host),
                (&mut self.port, port),
                (&mut self.username, user),
                (&mut self.password, password),
                (&mut self.database, path),
            ] {
                put(part, decoded(text));
            }
        }
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*key {
                "host" => put(&mut self.host, value.into_owned()),
                "port" => put(&mut self.port, value.into_owned()),
                "username" => put(&mut self.username, value.into_owned()),
                "password" => put(&mut self.password, value.into_owned()),
                "database" => put(&mut self.database, value.into_owned()),
                "scheme" => self.tls = is_tls(&value),
                // Of the connection, and the broadcaster does not use it: `prefix`, `timeout` and the like.
                _ => {}
            }
        }
        Ok(())
    }

    fn url(&self) -> String {
        let database = self.database.trim_start_matches('0');
        if self.host.starts_with('/') {
            let mut query = form_urlencoded::Serializer::new(String::new());
            for (key, text) in [("db", database), ("user", &self.login_name()), ("pass", &self.password)] {
                if !text.is_empty() {
                    query.append_pair(key, text);
                }
            }
            let query = query.finish();
            return format!("unix://{}{}{query}", self.host, if query.is_empty() { "" } else { "?" });
        }
        let scheme = if self.tls { "rediss" } else { "redis" };
        let host = if self.host.is_empty() { "127.0.0.1" } else { &self.host };
        let port = if self.port.is_empty() { "6379" } else { &self.port };
        let slash = if database.is_empty() { "" } else { "/" };
        format!("{scheme}://{}{}:{port}{slash}{database}", self.login(), bracketed(host))
    }

    /// PHP names a user only together with a password.
    fn login_name(&self) -> String {
        if self.password.is_empty() { String::new() } else { self.username.clone() }
    }

    /// What stands before the host: `user:password@`, or nothing.
    fn login(&self) -> String {
        match self.password.is_empty() {
            true => String::new(),
            false => format!("{}:{}@", encoded(&self.username), encoded(&self.password)),
        }
    }
}

/// With the names of the packages that bring Sentinel to Laravel.
fn sentinel_url(file: &EnvFile<'_>, parts: &Parts, hosts: &str) -> String {
    let text = |key: &str, usual: &str| file.filled(key).unwrap_or_else(|| usual.to_owned());
    let port = text("REDIS_SENTINEL_PORT", "26379");
    let with_port = |host: &str| {
        let host = host.split_once("://").map_or(host, |(_, host)| host);
        let has_port = !host.ends_with(']') && host.matches(':').count() == 1 || host.contains("]:");
        if has_port { host.to_owned() } else { format!("{}:{port}", bracketed(host)) }
    };
    let hosts: Vec<String> = hosts.split([',', ' ', ';']).filter(|host| !host.is_empty()).map(with_port).collect();
    let scheme = if parts.tls { "rediss" } else { "redis" };
    let service = text("REDIS_SENTINEL_SERVICE", "mymaster");
    let database = parts.database.trim_start_matches('0');
    let mut url = format!("{scheme}+sentinel://{}{}/{service}", parts.login(), hosts.join(","));
    if !database.is_empty() {
        url.push_str(&format!("/{database}"));
    }
    let own = [("sentinel_username", "REDIS_SENTINEL_USERNAME"), ("sentinel_password", "REDIS_SENTINEL_PASSWORD")];
    let own = own.iter().filter_map(|(name, key)| Some(format!("{name}={}", encoded(&file.filled(key)?))));
    for (at, pair) in own.enumerate() {
        url.push(if at == 0 { '?' } else { '&' });
        url.push_str(&pair);
    }
    url
}

fn put(part: &mut String, text: String) {
    if !text.is_empty() {
        *part = text;
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
