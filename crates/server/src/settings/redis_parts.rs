//! Where a Redis is, in the parts that other programs write it in; and as our one URL.
//!
//! As `Illuminate\Support\ConfigurationUrlParser`: what a URL says wins over what was said before, part by part.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The parts of the address. Texts are as they are, not as a URL spells them; empty ones are not said.
#[derive(Clone, Default)]
pub(super) struct Parts {
    pub(super) tls: bool,
    /// A name, an IP address, or the path of a socket.
    pub(super) host: String,
    pub(super) port: String,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) database: String,
    /// Whom to ask for the master, `host:port` each. Empty: no Sentinel.
    pub(super) sentinels: Vec<String>,
    /// What the Sentinels call the master.
    pub(super) service: String,
    /// User and password of the Sentinels themselves.
    pub(super) sentinel_login: [String; 2],
}

/// What a scheme says.
pub(super) fn is_tls(scheme: &str) -> bool {
    matches!(scheme, "tls" | "ssl" | "rediss" | "valkeys")
}

impl Parts {
    /// Puts the parts of a URL over these.
    ///
    /// # Errors
    /// What is wrong, without the URL, which may hold a password.
    pub(super) fn take_url(&mut self, url: &str) -> Result<(), String> {
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

    pub(super) fn url(&self) -> String {
        let database = self.database.trim_start_matches('0');
        if !self.sentinels.is_empty() {
            return self.sentinel_url(database);
        }
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

    fn sentinel_url(&self, database: &str) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let (hosts, service) = (self.sentinels.join(","), &self.service);
        let slash = if database.is_empty() { "" } else { "/" };
        let mut url = format!("{scheme}+sentinel://{}{hosts}/{service}{slash}{database}", self.login());
        let names = ["sentinel_username", "sentinel_password"];
        let own = names.iter().zip(&self.sentinel_login).filter(|(_, text)| !text.is_empty());
        for (at, (name, text)) in own.enumerate() {
            url.push_str(&format!("{}{name}={}", if at == 0 { '?' } else { '&' }, encoded(text)));
        }
        url
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

fn put(part: &mut String, text: String) {
    if !text.is_empty() {
        *part = text;
    }
}

/// A Sentinel's address, with this port where it has none.
pub(super) fn with_port(host: &str, port: &str) -> String {
    let host = host.split_once("://").map_or(host, |(_, host)| host);
    let has_port = !host.ends_with(']') && host.matches(':').count() == 1 || host.contains("]:");
    if has_port { host.to_owned() } else { format!("{}:{port}", bracketed(host)) }
}

pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
