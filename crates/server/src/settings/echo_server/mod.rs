//! `laravel-echo-server.json` as layers of settings: whoever runs that server starts a node with its file.
//!
//! `tree.rs` finds the keys, `redis.rs` and `socket_io.rs` say what theirs mean; here are the rest and the order in which they
//! are laid. Each key is taken, or named with the reason why it is not: nothing is dropped in silence. The file is never
//! written, and no value is repeated in a problem.

mod redis;
mod socket_io;
mod tree;

use std::path::Path;
use std::sync::OnceLock;

use super::env_file::{self, MAIN, listening_host};
use super::layer::Layer;
use super::problem::Problem;
use super::source::Source;
use super::value::Written;
use tree::Tree;

/// What the file gives, by the place that it has among the others.
#[derive(Default)]
pub(crate) struct Layers {
    /// Below all: what stands in where nobody says anything.
    pub(crate) made: Layer,
    /// Below Laravel's `.env`.
    pub(crate) said: Layer,
    /// Above it: what is of this server alone.
    pub(crate) over_laravel: Layer,
}

/// Reads the file. Variables of the `.env` that are for laravel-echo-server win over it.
pub(crate) fn read(path: &Path, env: &env_file::Reading) -> Layers {
    let shown = path.display().to_string();
    let problem = |place: String, text: String| {
        let layer = Layer { problems: vec![Problem::new(place, "", text)], ..Layer::default() };
        Layers { said: layer, ..Layers::default() }
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let remedy = "write the path of laravel-echo-server.json after --laravel-echo-server";
            return problem(shown, format!("cannot be read: {error}; {remedy}"));
        }
    };
    match serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(&text)) {
        Ok(serde_json::Value::Object(root)) => layers(Tree::new(shown, root, env)),
        Ok(_) => problem(shown, "is no JSON object; write {\"authHost\": …} as laravel-echo-server does".to_owned()),
        Err(error) => {
            let place = format!("{shown}:{}:{}", error.line(), error.column());
            problem(place, "this is not JSON; write {\"key\": value} with commas between".to_owned())
        }
    }
}

fn layers(mut tree: Tree) -> Layers {
    tree.note_unknown("", &KEYS);
    take_listener(&mut tree);
    take_app(&mut tree);
    take_auth(&mut tree);
    take_tls(&mut tree);
    redis::take(&mut tree);
    socket_io::take(&mut tree);
    note_the_rest(&mut tree);
    let prefix = format!("apps.{MAIN}.redis_prefix");
    let over = |name: &str, source: &Source| match source {
        Source::Json { key, .. } => name == prefix && !key.is_empty(),
        // Laravel's own variables of Redis are for all, and these for this server.
        Source::Variables { .. } => name == "redis.url",
        _ => false,
    };
    let over_laravel = tree.layer.split_off(over);
    // That program's own guess, as good as one at Laravel's address is not.
    let auth = format!("apps.{MAIN}.auth_url");
    let mut made = tree
        .layer
        .split_off(|name, source| name == auth && matches!(source, Source::Json { key, .. } if key.is_empty()));
    if let Some(row) = super::table::row_of(&format!("apps.{MAIN}.secret")) {
        made.take(&format!("apps.{MAIN}.secret"), row, &Written::Plain(secret().to_owned()), Source::Made);
    }
    Layers { made, said: tree.layer, over_laravel }
}

/// All keys of the file.
const KEYS: [&str; 18] = [
    "authHost",
    "authEndpoint",
    "clients",
    "database",
    "databaseConfig",
    "devMode",
    "host",
    "port",
    "protocol",
    "socketio",
    "secureOptions",
    "sslCertPath",
    "sslKeyPath",
    "sslCertChainPath",
    "sslPassphrase",
    "subscribers",
    "apiOriginAllow",
    "headers",
];

/// The secret of an app that has none: the same as long as the process lives, also when settings are read again.
fn secret() -> &'static str {
    static SECRET: OnceLock<String> = OnceLock::new();
    SECRET.get_or_init(|| {
        let mut bytes = [0; 32];
        let random = rustls::crypto::ring::default_provider().secure_random;
        assert!(random.fill(&mut bytes).is_ok(), "the system has no random numbers");
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    })
}

fn take_listener(tree: &mut Tree) {
    let host = listening_host(&tree.text("host").unwrap_or_default());
    let port = tree.text("port").unwrap_or_else(|| "6001".to_owned());
    let key = if tree.text("host").is_some() { "host" } else { "port" };
    tree.take("server.listen", format!("{host}:{port}"), key);
}

fn take_app(tree: &mut Tree) {
    let clients = tree.list("clients");
    let part = |at: usize, part: &str| format!("clients[{at}].{part}");
    let mut pairs = Vec::new();
    for at in 0..clients {
        match (tree.text(&part(at, "appId")), tree.text(&part(at, "key"))) {
            (Some(id), Some(key)) => pairs.push(format!("{id}:{key}")),
            _ => tree.note(&format!("clients[{at}]"), "has no appId or no key, and is left out"),
        }
        tree.note_unknown(&format!("clients[{at}]"), &["appId", "key"]);
    }
    let id = part(0, "appId");
    let source = tree.source(if tree.text(&id).is_some() { &id } else { "clients" });
    tree.layer.take_app(MAIN, source);
    // Browsers know an app's key: that of the HTTP API, which opens everything, must not become one.
    for setting in ["id", "key"] {
        let text = tree.text(&id).unwrap_or_else(|| "laravel".to_owned());
        tree.take(&format!("apps.{MAIN}.{setting}"), text, &id);
    }
    if !pairs.is_empty() {
        tree.take(&format!("apps.{MAIN}.echo_clients"), pairs.join(","), "clients");
    }
}

/// Where Laravel says who may listen.
fn take_auth(tree: &mut Tree) {
    let endpoint = tree.text("authEndpoint").unwrap_or_else(|| "/broadcasting/auth".to_owned());
    let url = |host: &str| format!("{}/{}", host.trim_end_matches('/'), endpoint.trim_start_matches('/'));
    let count = tree.list("authHost");
    let hosts: Vec<String> = match count {
        0 => vec![tree.text("authHost").unwrap_or_else(|| "http://localhost".to_owned())],
        _ => (0..count).filter_map(|at| tree.text(&format!("authHost[{at}]"))).collect(),
    };
    let urls: Vec<String> = hosts.iter().map(|host| url(host)).collect();
    let key = if tree.has("authHost") { "authHost" } else { "authEndpoint" };
    if let Some(first) = urls.first() {
        tree.take(&format!("apps.{MAIN}.auth_url"), first.as_str(), key);
    }
    if urls.len() > 1 {
        tree.take(&format!("apps.{MAIN}.auth_urls"), urls.join(","), key);
    }
}

fn take_tls(tree: &mut Tree) {
    let files = [
        ("sslCertPath", "tls.certificate_file"),
        ("sslKeyPath", "tls.key_file"),
        ("sslCertChainPath", "tls.chain_file"),
    ];
    if tree.text("protocol").as_deref() != Some("https") {
        for (key, _) in files.into_iter().filter(|(key, _)| tree.text(key).is_some()).collect::<Vec<_>>() {
            tree.note(key, "is of no use here, as there: \"protocol\" is not \"https\"");
        }
        return;
    }
    for (key, setting) in files {
        match tree.text(key) {
            Some(file) => tree.take(setting, file, key),
            None if key != "sslCertChainPath" => {
                tree.problem("protocol", setting, format!("is missing; write \"{key}\": \"/path/of/the.pem\""));
            }
            None => {}
        }
    }
    if tree.text("sslPassphrase").is_some() {
        let text = "is for a key that wants one, which this node cannot read; write a key without one, made by `openssl \
                    pkey -in FILE -out NEW`, and take this line out";
        tree.problem("sslPassphrase", "tls.key_file", text.to_owned());
    }
}

fn note_the_rest(tree: &mut Tree) {
    if tree.is_on("devMode") {
        tree.take("log.level", "debug", "devMode");
    }
    if tree.text("database").as_deref() == Some("sqlite") {
        tree.note("database", "is not needed: who is present is kept in Redis");
    }
    tree.note_unknown("subscribers", &["http", "redis"]);
    for (key, what) in [("subscribers.http", "the HTTP API"), ("subscribers.redis", "what comes by Redis")] {
        if tree.text(key).as_deref() == Some("false") {
            tree.note(key, format!("is not supported: {what} cannot be switched off"));
        }
    }
    for (key, why) in [
        ("secureOptions", "is not needed: there is no TLS older than 1.2 here"),
        ("apiOriginAllow", "is not needed: the HTTP API is for back ends, and pages are let in by allowed_origins"),
        ("headers", "is not supported: a proxy in front can add headers"),
    ] {
        if tree.has(key) {
            tree.note(key, why);
        }
    }
}
