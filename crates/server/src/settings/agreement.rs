//! What two or more settings must agree on.

use std::net::SocketAddr;

use super::apps;
use super::problem::Problem;
use super::source::Source;
use super::table;
use super::values::Values;

/// Adds what is wrong between settings to what is wrong with single ones. A key that has a problem already gets no second.
pub(crate) fn check(values: &Values, problems: &mut Vec<Problem>) {
    let mut found = Vec::new();
    check_development(values, &mut found);
    check_complete(values, &mut found);
    check_unique(values, "id", &mut found);
    check_unique(values, "key", &mut found);
    check_prefixes(values, &mut found);
    check_presence(values, &mut found);
    check_doors(values, &mut found);
    check_tls(values, &mut found);
    check_chain(values, &mut found);
    let known: Vec<String> = problems.iter().map(|problem| problem.key.clone()).collect();
    let apps_in_doubt = known.iter().any(|key| key.starts_with("apps"));
    let new = |problem: &Problem| {
        let follows = apps_in_doubt && problem.key == "server.listen";
        !known.contains(&problem.key) && !follows
    };
    problems.extend(found.into_iter().filter(new));
}

/// Two doors cannot be one. Port 0 is any free one.
fn check_doors(values: &Values, found: &mut Vec<Problem>) {
    let address = |name| values.text(name).parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
    if let (Some(client), Some(admin)) = (address("server.listen"), address("server.admin"))
        && client == admin
    {
        let text = format!("{admin} is server.listen already; write another port");
        found.push(Problem::new(values.source("server.admin").place(), "server.admin", text));
    }
}

/// A certificate is nothing without its key.
fn check_tls(values: &Values, found: &mut Vec<Problem>) {
    for [certificate, key] in [["tls.certificate_file", "tls.key_file"], ["redis.certificate_file", "redis.key_file"]] {
        for (name, other) in [(certificate, key), (key, certificate)] {
            if values.is_absent(name) && !values.is_absent(other) {
                let text = format!("is missing, while {other} is set; write both for TLS, or neither");
                found.push(Problem::new(values.source(other).place(), name, text));
            }
        }
    }
}

/// Certificates behind one that is not there.
fn check_chain(values: &Values, found: &mut Vec<Problem>) {
    if values.is_absent("tls.certificate_file") && !values.is_absent("tls.chain_file") {
        let text = "is of no use without tls.certificate_file; write both, or neither";
        found.push(Problem::new(values.source("tls.chain_file").place(), "tls.chain_file", text));
    }
}

fn is_local(values: &Values, name: &str) -> bool {
    values.text(name).parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
}

/// The development app's secret is known to everyone: it stays on this machine.
fn check_development(values: &Values, found: &mut Vec<Problem>) {
    if !values.development || is_local(values, "server.listen") {
        return;
    }
    let text = format!(
        "{} is open to other machines, but no app is configured, and the secret of the built-in development app is \
         known to everyone; configure an app in fanfare.toml:\n    \
         [apps.main]\n    \
         id = \"app-id\"\n    \
         key = \"app-key\"\n    \
         secret = \"…\"    # from: openssl rand -hex 20\n  \
         or set FANFARE_APPS__MAIN__ID, FANFARE_APPS__MAIN__KEY and FANFARE_APPS__MAIN__SECRET; \
         or listen on 127.0.0.1",
        values.text("server.listen")
    );
    found.push(Problem::new(values.source("server.listen").place(), "server.listen", text));
}

fn check_complete(values: &Values, found: &mut Vec<Problem>) {
    for (app, place) in &values.apps {
        let absent = |key: &str| values.is_absent(&format!("apps.{app}.{key}"));
        for key in ["id", "key", "secret"] {
            if !absent(key) || (key == "secret" && !absent("secret_file")) {
                continue;
            }
            let name = format!("apps.{app}.{key}");
            let or_file = if key == "secret" { ", or secret_file = \"…\"," } else { "" };
            let variable = table::variable(&name);
            let text = match remedy(place, key) {
                Some(remedy) => format!("is missing; {remedy}, or set {variable}"),
                None => format!("is missing; write {key} = \"…\"{or_file} below [apps.{app}], or set {variable}"),
            };
            found.push(Problem::new(place.place(), &name, text));
        }
    }
    for (table, place) in &values.webhooks {
        for key in ["url", "events"].into_iter().filter(|key| values.is_absent(&format!("{table}.{key}"))) {
            let name = format!("{table}.{key}");
            let text = format!("is missing; write {key} = … below [{table}], or set {}", table::variable(&name));
            found.push(Problem::new(place.place(), &name, text));
        }
        let url = format!("{table}.url");
        if !values.is_absent(&url) && values.text(&url).is_empty() {
            let text = "is empty; write the URL of the endpoint, or leave the webhook out";
            found.push(Problem::new(values.source(&url).place(), &url, text));
        }
    }
}

/// What to write in Laravel's `.env`, for an app that comes from there.
fn remedy(place: &Source, key: &str) -> Option<String> {
    let Source::Variables { path, keys, derived } = place else { return None };
    let sibling = keys.first().and_then(|(_, first)| first.rsplit_once('_')).map_or("", |(stem, _)| stem);
    Some(match (derived, key) {
        (true, "secret") => format!(
            "{path} has neither keys for broadcasting nor an APP_KEY to make one of: run `php artisan key:generate`"
        ),
        _ => format!("write {sibling}_{}=… in {path}", key.to_uppercase()),
    })
}

/// A pair of apps, each with its table's name: every later one with every earlier one.
fn pairs(values: &Values) -> impl Iterator<Item = (String, String)> {
    let table = |(name, _): &(String, Source)| format!("apps.{name}");
    let tables: Vec<String> = values.apps.iter().map(table).collect();
    (1..tables.len()).flat_map(move |later| {
        let tables = tables.clone();
        (0..later).map(move |earlier| (tables[earlier].clone(), tables[later].clone()))
    })
}

fn check_unique(values: &Values, key: &str, found: &mut Vec<Problem>) {
    for (earlier, later) in pairs(values) {
        let (first, second) = (format!("{earlier}.{key}"), format!("{later}.{key}"));
        let text = values.text(&first);
        if !text.is_empty() && text == values.text(&second) {
            let text = format!("is {text:?} as {first} (at {}); give each app its own", values.source(&first));
            found.push(Problem::new(values.source(&second).place(), &second, text));
        }
    }
}

fn check_prefixes(values: &Values, found: &mut Vec<Problem>) {
    let place = |table: &str| {
        let prefix = format!("{table}.redis_prefix");
        let name = if values.is_absent(&prefix) { format!("{table}.id") } else { prefix.clone() };
        (values.source(&name).clone(), prefix)
    };
    let alike = |a: &str, b: &str| a.starts_with(b) || b.starts_with(a);
    let namespace = values.text("redis.namespace");
    for (app, _) in &values.apps {
        let table = format!("apps.{app}");
        // "" is a choice, and names are then checked one by one.
        let clash = |prefix: &String| !prefix.is_empty() && alike(prefix, namespace);
        if let Some(prefix) = prefixes(values, &table).into_iter().find(clash) {
            let (source, name) = place(&table);
            let text = format!(
                "{prefix:?} and redis.namespace {namespace:?} (at {}) begin alike, so channels could meet our own \
                 names; change one of them",
                values.source("redis.namespace")
            );
            found.push(Problem::new(source.place(), &name, text));
        }
    }
    for (earlier, later) in pairs(values) {
        let (firsts, seconds) = (prefixes(values, &earlier), prefixes(values, &later));
        let clash = seconds.iter().find_map(|second| Some((second, firsts.iter().find(|first| alike(first, second))?)));
        if let Some((second, first)) = clash {
            let (source, name) = place(&later);
            let text = format!(
                "{second:?} and {first:?} of {earlier} (at {}) begin alike, so the apps would hear each other; give \
                 each a prefix that does not begin the other's",
                place(&earlier).0
            );
            found.push(Problem::new(source.place(), &name, text));
        }
    }
    for (app, _) in &values.apps {
        let prefixes = prefixes(values, &format!("apps.{app}"));
        let inside = |(at, a): (usize, &String)| prefixes[at + 1..].iter().any(|b| alike(a, b));
        if prefixes.iter().enumerate().any(inside) {
            let name = format!("apps.{app}.also_listen");
            let text = "one of the app's prefixes begins another, so a channel could be two; leave one of them out";
            found.push(Problem::new(values.source(&name).place(), &name, text));
        }
    }
}

/// All that may stand before an app's channels; without an id that is not known yet.
fn prefixes(values: &Values, table: &str) -> Vec<String> {
    if values.text(&format!("{table}.id")).is_empty() {
        return Vec::new();
    }
    std::iter::once(apps::prefix(values, table)).chain(apps::also_listen(values, table)).collect()
}

fn check_presence(values: &Values, found: &mut Vec<Problem>) {
    let (beat, dead) = (values.seconds("presence.heartbeat"), values.seconds("presence.dead_after"));
    if dead <= beat * 2 {
        let text = format!(
            "{} is not more than twice presence.heartbeat ({}, {}), so one late heartbeat would remove members that \
             are there; write at least {}",
            dead.as_secs_f64(),
            beat.as_secs_f64(),
            values.source("presence.heartbeat"),
            (beat * 3).as_secs_f64()
        );
        let late = values.source("presence.dead_after");
        let place = if *late == Source::Default { values.source("presence.heartbeat") } else { late };
        found.push(Problem::new(place.place(), "presence.dead_after", text));
    }
}

/// What may be meant and is worth a second look. Never stops anything.
pub(crate) fn warnings(values: &Values) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut warn = |name: &str, text: String| found.push(Problem::new(values.source(name).place(), name, text));
    if values.text("redis.url").is_empty() {
        warn(
            "redis.url",
            "is empty: this node stands alone; nodes that are to share channels need one Redis".to_owned(),
        );
    }
    let is_tls = ["rediss", "valkeys"].iter().any(|scheme| values.text("redis.url").starts_with(scheme));
    for name in ["redis.ca_file", "redis.certificate_file"] {
        if !is_tls && !values.is_absent(name) {
            warn(name, "is of no use: redis.url asks for no TLS; write rediss://…".to_owned());
        }
    }
    if !is_local(values, "server.admin") {
        warn("server.admin", "is open to other machines and asks for no password; keep it off the internet".to_owned());
    }
    if values.whole("limits.outbox_bytes") > values.whole("limits.outbox_total_bytes") {
        warn("limits.outbox_bytes", "is more than limits.outbox_total_bytes, so it is never reached".to_owned());
    }
    for (app, _) in &values.apps {
        let secret = format!("apps.{app}.secret");
        if !values.development && values.text(&secret) == "app-secret" {
            warn(&secret, "is the development secret, which is known to everyone; write your own".to_owned());
        }
        if *values.source(&secret) == Source::Made {
            let text = "is made anew at each start, which no other node knows: nothing that one signs is good on another; \
                        set FANFARE_APPS__MAIN__SECRET to the same on all";
            warn(&secret, text.to_owned());
        }
        let event = format!("apps.{app}.event_bytes");
        if values.whole(&event) > values.whole("redis.max_payload") {
            warn(&event, "is more than redis.max_payload: larger events would be taken and then dropped".to_owned());
        }
    }
    if let Some((port, source)) = &values.laravel_port
        && let Ok(listen) = values.text("server.listen").parse::<SocketAddr>()
        && ![0, *port].contains(&listen.port())
    {
        let text = format!(
            "is {port}, and this node listens on {}: right where a proxy or a load balancer stands between them; else \
             write the same",
            listen.port()
        );
        found.push(Problem::new(source.place(), "", text));
    }
    found.extend(values.notes.iter().cloned());
    found
}
