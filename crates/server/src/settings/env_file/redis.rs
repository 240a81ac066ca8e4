//! Where Laravel's Redis is: `REDIS_*` as one URL.

use super::super::problem::Problem;
use super::super::redis_parts::{Parts, is_tls, with_port};
use super::{Broadcasting, EnvFile};

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
    take_sentinels(file, &mut parts);
    file.take("redis.url", parts.url(), source);
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
        ..Parts::default()
    };
    if let Some((scheme, host)) = parts.host.clone().split_once("://") {
        parts.tls |= is_tls(scheme);
        parts.host = host.to_owned();
    }
    parts
}

/// With the names of the packages that bring Sentinel to Laravel.
fn take_sentinels(file: &EnvFile<'_>, parts: &mut Parts) {
    let text = |key: &str, usual: &str| file.filled(key).unwrap_or_else(|| usual.to_owned());
    let (hosts, port) = (text("REDIS_SENTINEL_HOST", ""), text("REDIS_SENTINEL_PORT", "26379"));
    let hosts = hosts.split([',', ' ', ';']).filter(|host| !host.is_empty());
    parts.sentinels = hosts.map(|host| with_port(host, &port)).collect();
    parts.service = text("REDIS_SENTINEL_SERVICE", "mymaster");
    parts.sentinel_login = [text("REDIS_SENTINEL_USERNAME", ""), text("REDIS_SENTINEL_PASSWORD", "")];
}
