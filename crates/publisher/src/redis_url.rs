//! The address of a Redis server, checked when it is read and never shown with its password.

use std::fmt;

use redis::{ConnectionInfo, IntoConnectionInfo};

/// `redis://[user:password@]host[:port][/db]` or `unix:///path`; `valkey://` means the same as `redis://`.
///
/// Printing one, for people or for debugging, shows `***` in place of the password.
#[derive(Clone)]
pub struct RedisUrl {
    text: String,
    pub(crate) info: ConnectionInfo,
}

/// Why a text is no usable address. The words do not repeat the text, which may hold a password.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadRedisUrl(&'static str);

impl RedisUrl {
    /// Checks the form; connects to nothing.
    ///
    /// # Errors
    /// When the text is not a URL, or one of a kind that this version does not speak (Sentinel).
    pub fn parse(text: &str) -> Result<Self, BadRedisUrl> {
        let Some((scheme, _)) = text.split_once("://") else {
            return Err(BadRedisUrl("is not a URL; write redis://host:6379 or redis://user:password@host:6379"));
        };
        match scheme {
            "redis" | "valkey" | "unix" | "redis+unix" | "valkey+unix" => {}
            "rediss" | "valkeys" if !text.contains('#') => {}
            "rediss" | "valkeys" => {
                return Err(BadRedisUrl("asks for TLS without a check; write rediss://… or redis://…, and # as %23"));
            }
            _ if scheme.ends_with("+sentinel") => {
                return Err(BadRedisUrl(
                    "is of Sentinel, which only nodes ask; write redis:// and the master's address",
                ));
            }
            _ => return Err(BadRedisUrl("is not a Redis URL; write redis://host:6379 or unix:///path/to/socket")),
        }
        let wrong =
            "cannot be understood; write redis://user:password@host:6379/0, with /?#@: in a password as %2F and so on";
        let info = text.into_connection_info().map_err(|_| BadRedisUrl(wrong))?;
        Ok(Self { text: text.to_owned(), info })
    }

    /// The whole text, with the password.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// `host:port` or the socket's path.
    pub fn address(&self) -> String {
        self.info.addr().to_string()
    }
}

/// Hides what may be a password: all between the first colon and the last `@` of the address, and a `pass=` in a query.
fn masked(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let rest = match rest.rsplit_once('@') {
        // A lone name is more often a password in the wrong place than a user without one.
        Some((login, host)) => match login.split_once(':') {
            Some((user, _)) => format!("{user}:***@{host}"),
            None => format!("***@{host}"),
        },
        None => rest.to_owned(),
    };
    let Some((path, query)) = rest.split_once('?') else { return format!("{scheme}://{rest}") };
    let hide = |pair: &str| if pair.starts_with("pass=") { "pass=***".to_owned() } else { pair.to_owned() };
    format!("{scheme}://{path}?{}", query.split('&').map(hide).collect::<Vec<_>>().join("&"))
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&masked(&self.text))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl fmt::Display for BadRedisUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

impl std::error::Error for BadRedisUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        let check = |url: &str, shown: &str| assert_eq!(RedisUrl::parse(url).unwrap().to_string(), shown);
        check("redis://host:6379/2", "redis://host:6379/2");
        check("redis://:hush@host", "redis://:***@host");
        check("redis://bob:hu:sh@host:1/0", "redis://bob:***@host:1/0");
        check("redis://hush@host", "redis://***@host");
        check("unix:///run/r.sock?db=1&pass=hush", "unix:///run/r.sock?db=1&pass=***");
        assert_eq!(masked("redis://:a@b/c@host"), "redis://:***@host");
        assert_eq!(format!("{:?}", RedisUrl::parse("redis://:hush@host").unwrap()), "redis://:***@host");
    }

    #[test]
    fn what_cannot_be_reached_is_refused_in_words_without_the_password() {
        for url in [
            "",
            "localhost:6379",
            "rediss://:hush@host/#insecure",
            "redis+sentinel://:hush@host/main",
            "http://:hush@host",
            "redis://:hush@host:port",
        ] {
            let wrong = RedisUrl::parse(url).unwrap_err().to_string();
            assert!(wrong.contains("redis://") && !wrong.contains("hush"), "{url}: {wrong}");
        }
    }
}
