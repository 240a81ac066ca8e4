//! `databaseConfig`: where Redis is, and what stands before its channels.

use super::super::env_file::MAIN;
use super::super::redis_parts::{Parts, with_port};
use super::tree::Tree;

const REDIS: [&str; 14] = [
    "host",
    "port",
    "path",
    "username",
    "password",
    "db",
    "tls",
    "family",
    "keyPrefix",
    "sentinels",
    "name",
    "sentinelUsername",
    "sentinelPassword",
    "url",
];

pub(super) fn take(tree: &mut Tree) {
    tree.note_unknown("databaseConfig", &["redis", "sqlite", "publishPresence"]);
    tree.note_unknown("databaseConfig.redis", &REDIS);
    let parts = parts(tree);
    let key = tree.first_of(&[
        "databaseConfig.redis.host",
        "databaseConfig.redis.port",
        "databaseConfig.redis.password",
        "databaseConfig.redis.path",
        "databaseConfig.redis.sentinels",
        "databaseConfig.redis",
    ]);
    tree.take("redis.url", parts.url(), key);
    let prefix = tree.whole_text("databaseConfig.redis.keyPrefix").unwrap_or_default();
    tree.take(&format!("apps.{MAIN}.redis_prefix"), prefix, "databaseConfig.redis.keyPrefix");
    if tree.has("databaseConfig.redis.family") {
        tree.note("databaseConfig.redis.family", "is not needed: both kinds of addresses are tried");
    }
    if tree.has("databaseConfig.redis.url") {
        tree.note("databaseConfig.redis.url", "is not read; write host, port and password");
    }
    if tree.has("databaseConfig.sqlite") {
        tree.note("databaseConfig.sqlite", "is not needed: who is present is kept in Redis");
    }
    if tree.is_on("databaseConfig.publishPresence") {
        let text = "is not supported: PresenceChannelUpdated is not published; webhooks of member_added and member_removed \
                    tell the application who comes and goes";
        tree.note("databaseConfig.publishPresence", text);
    }
}

fn parts(tree: &mut Tree) -> Parts {
    let at = |name: &str| format!("databaseConfig.redis.{name}");
    let text = |name: &str| tree.text(&at(name)).unwrap_or_default();
    let port = |place: &str, usual: &str| tree.text(place).unwrap_or_else(|| usual.to_owned());
    let sentinel = |number: usize| {
        let place = format!("{}[{number}]", at("sentinels"));
        Some(with_port(&tree.text(&format!("{place}.host"))?, &port(&format!("{place}.port"), "26379")))
    };
    let (socket, host) = (text("path"), text("host"));
    let tls = tree.has(&at("tls")) && tree.text(&at("tls")).as_deref() != Some("false");
    Parts {
        tls,
        host: if socket.is_empty() { host } else { socket },
        port: text("port"),
        username: text("username"),
        password: text("password"),
        database: text("db"),
        sentinels: (0..tree.list(&at("sentinels"))).filter_map(sentinel).collect(),
        service: port(&at("name"), "mymaster"),
        sentinel_login: [text("sentinelUsername"), text("sentinelPassword")],
    }
}
