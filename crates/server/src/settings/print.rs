//! The views of the table: the settings in force, the example file, the docs page.

use std::fmt::Write;

use fanfare_publisher::RedisUrl;

use super::Settings;
use super::apps;
use super::source::Source;
use super::table::{self, Fallback, Kind, Row};
use super::value::{MASK, Scalar, is_sentinel_url};
use super::values::Value;

/// The sections in print, each with its sentence.
const SECTIONS: [(&str, &str); 11] = [
    ("server", "The doors of a node."),
    (
        "tls",
        "TLS on the port for clients (`server.listen`). Both keys or neither; neither where a load balancer does it.",
    ),
    ("socket_io", "Socket.IO clients, such as Laravel Echo with the broadcaster `socket.io`."),
    ("redis", "What joins the nodes. Without Redis a node stands alone."),
    ("presence", "How nodes know of each other's end. The same on all nodes of a cluster."),
    ("limits", "Bounds of one node. Every queue has one, and every one has an answer to \"full\"."),
    ("drain", "How a node stops. A second signal ends it at once."),
    (
        "webhooks",
        "How applications are told of what happens; of what, and where, each app says: see [webhooks.md](webhooks.md).",
    ),
    ("log", "What the process says on standard error."),
    (
        "apps.NAME",
        "The apps, a table for each: `[apps.main]`, with a name of your choice in lower-case letters, digits, `-` and `_`. \
         The first is the one of commands that name none. Without any there is a development app (id `app-id`, key \
         `app-key`, secret `app-secret`), as long as `server.listen` is an address of this machine alone.",
    ),
    (
        "apps.NAME.webhooks.HOOK",
        "Endpoints of an app that are told of what happens, a table for each with a name of your choice: \
         `[apps.main.webhooks.audit]`. In the environment: `FANFARE_APPS__MAIN__WEBHOOKS__AUDIT__URL`.",
    ),
];

/// The settings in force as TOML; behind each its source. Secrets are masked.
pub(crate) fn effective(settings: &Settings) -> String {
    let values = &settings.values;
    let mut out = String::from("# The settings in force. Behind each stands where it came from.\n");
    for (section, _) in SECTIONS.iter().filter(|(section, _)| !section.starts_with("apps.")) {
        let _ = write!(out, "\n[{section}]\n");
        for row in rows(section) {
            push_value(&mut out, row, values.get(row.name), false);
        }
    }
    if settings.development {
        out.push_str("\n# No app is configured: this is the built-in development app.");
    }
    for (app, _) in &values.apps {
        let _ = write!(out, "\n[apps.{app}]\n");
        for row in rows("apps.NAME") {
            let (_, key) = table::split(row.name);
            let mut value = values.get(&format!("apps.{app}.{key}")).clone();
            if row.kind == Kind::Prefix && value.scalar.is_none() {
                value.scalar = Some(Scalar::Text(apps::prefix(values, &format!("apps.{app}"))));
            }
            push_value(&mut out, row, &value, settings.development);
        }
        for table in values.webhooks_of(app) {
            let _ = write!(out, "\n[{table}]\n");
            for row in table::webhook_rows() {
                push_value(&mut out, row, values.get(&format!("{table}.{}", row.key())), false);
            }
        }
    }
    out
}

/// `built_in`: the development app's values.
fn push_value(out: &mut String, row: &Row, value: &Value, built_in: bool) {
    let Some(scalar) = &value.scalar else { return };
    let (_, key) = table::split(row.name);
    let shown = shown(row, scalar);
    let assignment = format!("{key} = {shown}");
    // A secret out of a file has no source of its own; as a comment it does not contradict the line that names the file.
    let _ = match (&value.source, scalar) {
        (Source::Default, Scalar::Secret(_)) if row.default.scalar(row.kind).as_ref() != Some(scalar) => {
            let from = if built_in && row.kind == Kind::Secret { "built in" } else { "out of its file" };
            writeln!(out, "# {assignment:<46} # {from}")
        }
        (source, _) => writeln!(out, "{assignment:<48} # {source}"),
    };
}

/// Without what must not be seen.
fn shown(row: &Row, scalar: &Scalar) -> String {
    match scalar {
        Scalar::Secret(secret) if row.kind == Kind::RedisUrl => masked_url(secret.reveal()),
        Scalar::Secret(_) => quoted(MASK),
        other => bare(other),
    }
}

/// A line for each setting that is not as it is by default: its whole name, its value, where it came from. Secrets are
/// masked.
pub(crate) fn said(settings: &Settings) -> String {
    let mut out = String::new();
    for (name, value) in settings.values.said() {
        if let (Some(row), Some(scalar)) = (table::row_of(name), &value.scalar) {
            let assignment = format!("{name} = {}", shown(row, scalar));
            let _ = writeln!(out, "{assignment:<60} # {}", value.source);
        }
    }
    out
}

fn masked_url(url: &str) -> String {
    match RedisUrl::parse(url) {
        Ok(url) => quoted(&url.to_string()),
        Err(_) if url.is_empty() => quoted(""),
        Err(_) if is_sentinel_url(url) => quoted(&backplane::redis::shown_url(url)),
        Err(_) => quoted(MASK),
    }
}

/// The example file: every setting with its default, commented out, so that the file by itself changes nothing and a later
/// default is not held back.
pub(crate) fn example() -> String {
    let mut out = String::from(
        "# Settings of fanfare. As it stands this file changes nothing: each line `#key = value` shows a default;\n\
         # take the `#` away and write your own. Durations are in seconds, sizes in bytes.\n\
         # Environment variables win over this file: FANFARE_SERVER__LISTEN stands for `listen` in [server].\n",
    );
    for (section, text) in SECTIONS {
        let known = section;
        let section = section.replace("NAME", "main").replace("HOOK", "main");
        let mark = if section.starts_with("apps") { "#" } else { "" };
        out.push('\n');
        push_wrapped(&mut out, text);
        let _ = writeln!(out, "{mark}[{section}]");
        for row in rows(known) {
            out.push('\n');
            push_wrapped(&mut out, &format!("{} ({})", row.text, unit(row)));
            let _ = writeln!(out, "#{} = {}", table::split(row.name).1, sample(row));
        }
    }
    out
}

fn push_wrapped(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > 100 {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(out, "{line}");
}

/// The default; for what has none, something of the right shape.
fn sample(row: &Row) -> String {
    match (row.default.scalar(row.kind), table::split(row.name).1) {
        (Some(Scalar::Secret(secret)), _) => quoted(secret.reveal()),
        (Some(scalar), _) => bare(&scalar),
        (None, "url_file") => quoted("/run/secrets/redis-url"),
        (None, "secret_file") => quoted("/run/secrets/app-secret"),
        (None, "ca_file") => quoted("/etc/fanfare/redis-ca.crt"),
        (None, "certificate_file") if row.name.starts_with("redis.") => quoted("/etc/fanfare/redis.crt"),
        (None, "key_file") if row.name.starts_with("redis.") => quoted("/etc/fanfare/redis.key"),
        (None, "certificate_file") => quoted("/etc/fanfare/tls.crt"),
        (None, "chain_file") => quoted("/etc/fanfare/chain.crt"),
        (None, "client_file") => quoted("/usr/share/fanfare/socket.io.js"),
        (None, "key_file") => quoted("/etc/fanfare/tls.key"),
        (None, "previous_secret") => quoted("the-secret-before"),
        (None, "redis_prefix") => quoted("laravel_database_"),
        (None, "url") => quoted("https://app.example/pusher/webhooks"),
        (None, "events") => "[\"channel_occupied\", \"channel_vacated\"]".to_owned(),
        (None, "channel_prefix") => quoted("private-"),
        (None, "channel_suffix") => quoted("-audited"),
        (None, key) => quoted(&format!("app-{key}")),
    }
}

const DOCS_HEAD: &str = "\
# Configuration

<!-- Printed by `fanfare print-config --docs` from the table in crates/server/src/settings/table.rs: change that. -->

Settings come from six places; a later one wins:

1. the defaults on this page,
2. `laravel-echo-server.json`, where `--laravel-echo-server FILE` names it ([migrating.md](migrating.md)),
3. Laravel's own `.env`, where `--env-file FILE` names it ([laravel.md](laravel.md) says what is read of it),
4. the file: `fanfare.toml` in the working directory when it is there, or the one named by `--config FILE`,
5. the environment: `FANFARE_REDIS__URL` for `redis.url`, `FANFARE_APPS__MAIN__SECRET` for `apps.main.secret`; two
   underscores where the name has a dot,
6. flags: `--listen`, `--admin`, `--workers`, `--redis-url`, `--log-format`, `--log-level`.

Durations are plain numbers of seconds, fractions allowed. Sizes are whole numbers of bytes.

- `fanfare check-config` reads everything and tells all that is wrong, with file, line and column. Exit code 2 means that a
  node would not start.
- `fanfare check-config --env-file .env` also tells what was understood of the `.env`, line by line.
- `fanfare print-config` prints the settings in force and where each came from, secrets masked.
- `fanfare print-config --defaults` prints an example file.

A key that does not exist is an error, in the file as in the environment. Variables that begin with `FANFARE_` and have no
`__` are not read: Kubernetes sets such ones beside a service of that name.
";

/// The page docs/configuration.md.
pub(crate) fn docs() -> String {
    let mut out = String::from(DOCS_HEAD);
    for (section, text) in SECTIONS {
        let _ = write!(out, "\n## [{section}]\n\n{text}\n\n| Key | Default | Value | |\n|---|---|---|---|\n");
        for row in rows(section) {
            let default = match (row.default, row.default.scalar(row.kind)) {
                (Fallback::Required, _) => "needed".to_owned(),
                (_, Some(Scalar::Secret(secret))) => format!("`{}`", quoted(secret.reveal())),
                (_, Some(scalar)) => format!("`{}`", bare(&scalar)),
                (_, None) => "–".to_owned(),
            };
            let (_, key) = table::split(row.name);
            let _ = writeln!(out, "| `{key}` | {default} | {} | {} |", unit(row), row.text);
        }
    }
    out
}

fn rows(section: &str) -> impl Iterator<Item = &'static Row> {
    table::TABLE.iter().filter(move |row| table::split(row.name).0 == section)
}

/// The unit or the choice of values, in a few words.
fn unit(row: &Row) -> String {
    match row.kind {
        Kind::Address => "address and port".to_owned(),
        Kind::Count { min, max: 1_000_000_000 } => format!("number from {min}"),
        Kind::Count { min, max } => format!("number, {min} to {max}"),
        Kind::Bytes { .. } => "bytes".to_owned(),
        Kind::Seconds { min: 0.0, .. } => "seconds".to_owned(),
        Kind::Seconds { .. } => "seconds, not 0".to_owned(),
        Kind::Switch => "`true`, `false`".to_owned(),
        Kind::WebhookKinds => "names".to_owned(),
        Kind::Headers => "headers, secret".to_owned(),
        Kind::Part => "text".to_owned(),
        Kind::History => "rules".to_owned(),
        Kind::Choice(words) => words.iter().map(|word| format!("`{}`", quoted(word))).collect::<Vec<_>>().join(", "),
        Kind::Identifier | Kind::Namespace | Kind::Prefix => "text".to_owned(),
        Kind::Secret => "secret text".to_owned(),
        Kind::File => "path".to_owned(),
        Kind::RedisUrl => "URL, secret".to_owned(),
        Kind::Prefixes => "prefixes".to_owned(),
        Kind::PathPrefix => "path".to_owned(),
        Kind::HttpUrl => "URL".to_owned(),
        Kind::HttpUrls => "URLs".to_owned(),
        Kind::EchoClients => "ids and keys, secret".to_owned(),
        Kind::HeaderNames => "names of headers".to_owned(),
        Kind::Origins => "origins".to_owned(),
        Kind::Filter => "filter".to_owned(),
    }
}

/// A value in TOML. Secrets are masked.
fn bare(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Text(text) => quoted(text),
        Scalar::Secret(_) => quoted(MASK),
        Scalar::Whole(number) => number.to_string(),
        Scalar::Switch(on) => on.to_string(),
        Scalar::Seconds(number) => number.to_string(),
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
