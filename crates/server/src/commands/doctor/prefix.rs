//! Does what Laravel publishes arrive where an app listens?
//!
//! Listens to everything for a while and looks at names in Redis: Laravel's cache, queue and sessions bear the same prefix as
//! its events. `spelling` reads names; here they are compared with the settings.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backplane::redis::examine::{Ear, Examiner, Names};
use serde_json::value::RawValue;

use super::super::say;
use super::report::{Check, Report};
use super::spelling;
use crate::settings::{NamedApp, Settings};

/// What is in nearly every name that Laravel makes by itself.
const PATTERN: &str = "*database*";

/// Foreign prefixes and silent apps that are told.
const TOLD_MAX: usize = 3;

const DRIVER: &str = "BROADCAST_CONNECTION=redis in Laravel's .env (BROADCAST_DRIVER up to Laravel 10): log and null publish \
                      nothing, pusher and reverb ask a node in place of Redis";

/// What was heard and found.
#[derive(Default)]
struct Seen {
    /// By the app's name: how many events, and on which topic the first was.
    own: BTreeMap<String, (usize, String)>,
    /// By a prefix that is no app's.
    foreign: BTreeMap<String, (usize, String)>,
    /// Topics of apps with a body that is empty.
    empty: BTreeSet<String>,
    /// Prefixes that names in Redis have.
    kept: BTreeMap<String, String>,
}

pub(super) async fn examine(examiner: &Examiner, settings: &Settings, watch: Duration, report: &mut Report) {
    let mut seen = Seen::default();
    let mut ear = None;
    if !watch.is_zero() {
        say(&format!(
            "watching for up to {} s what is published; have Laravel broadcast something meanwhile",
            watch.as_secs()
        ));
        let prefixes: Vec<&str> = settings.apps.iter().map(|app| &*app.app.redis_prefix).collect();
        let namespace = &settings.redis.namespace;
        let listening = examiner.listen(&prefixes, watch, |topic, payload| {
            if !topic.starts_with(namespace) && !topic.starts_with("__key") {
                seen.hear(&settings.apps, topic, payload);
            }
            seen.own.len() == settings.apps.len()
        });
        ear = Some(listening.await);
    }
    let mut databases = vec![0, 1, examiner.database()];
    databases.sort_unstable();
    databases.dedup();
    let names = examiner.names(PATTERN, &databases).await;
    seen.find(&names);
    tell_hearing(ear.as_ref(), &names, report);
    seen.judge(&settings.apps, watch, report);
    for topic in &seen.empty {
        let text = format!("an empty body came on {topic}: Laravel could not write the event's data as JSON");
        report.hint(Check::Prefix, &text, "the event: text in broadcastWith() that is not UTF-8, or INF and NAN");
    }
}

/// What could not be looked at.
fn tell_hearing(ear: Option<&Ear>, names: &Names, report: &mut Report) {
    const WHO: &str = "--redis-url, for doctor alone: a user with +psubscribe +pubsub +scan ~* &*";
    match ear {
        Some(Ear::Deaf(why)) => {
            report.hint(Check::Prefix, &format!("what is published could not be watched: {why}"), WHO);
        }
        Some(Ear::Some(patterns)) => {
            let text =
                format!("this user may listen to {} only, so other prefixes were not heard", patterns.join(", "));
            report.hint(Check::Prefix, &text, WHO);
        }
        None | Some(Ear::All) if names.is_forbidden => {
            report.hint(Check::Prefix, "this user may not look at names (PUBSUB, SCAN), so they gave no hint", WHO);
        }
        None | Some(Ear::All) => {}
    }
}

/// True for a body as Laravel's broadcaster writes it, but not for a node's own words and what clients say to each other.
fn is_of_laravel(payload: &[u8]) -> bool {
    let text = std::str::from_utf8(payload).unwrap_or_default();
    let body: Option<BTreeMap<String, &RawValue>> = model::json::object(text);
    let Some(body) = body else { return false };
    let event = body.get("event").and_then(|event| serde_json::from_str::<String>(event.get()).ok());
    let is_of_a_node = |event: &str| ["fanfare:", "client-"].iter().any(|beginning| event.starts_with(beginning));
    // Laravel writes all three.
    let is_whole = ["data", "socket"].iter().all(|key| body.contains_key(*key));
    is_whole && event.is_some_and(|event| !is_of_a_node(&event))
}

impl Seen {
    fn hear(&mut self, apps: &[NamedApp], topic: &str, payload: &[u8]) {
        let app = apps.iter().filter(|app| spelling::belongs(topic, &app.app.redis_prefix));
        // The longest that fits, as in a node.
        let app = app.max_by_key(|app| app.app.redis_prefix.len());
        if let Some(app) = app.filter(|app| payload.is_empty() && !app.app.redis_prefix.is_empty()) {
            self.empty.insert(topic.to_owned());
            self.own.entry(app.name.clone()).or_insert((0, topic.to_owned())).0 += 1;
        } else if is_of_laravel(payload) {
            let (known, name) = match app {
                Some(app) => (&mut self.own, app.name.clone()),
                None => (&mut self.foreign, spelling::split(topic).0.to_owned()),
            };
            // Bounded: a publisher may use a new prefix each time.
            if known.len() < 1_000 {
                known.entry(name).or_insert((0, topic.to_owned())).0 += 1;
            }
        }
    }

    fn find(&mut self, names: &Names) {
        let keys = names.keys.iter().map(|(database, key)| (key, format!("key {key} (database {database})")));
        let topics = names.topics.iter().map(|topic| (topic, format!("topic {topic}")));
        for (name, shown) in keys.chain(topics) {
            if let Some(prefix) = spelling::of_laravel(name) {
                self.kept.entry(prefix.to_owned()).or_insert(shown);
            }
        }
    }

    fn judge(&self, apps: &[NamedApp], watch: Duration, report: &mut Report) {
        // Whoever is silent and has no other trace here may be whom the strangers mean.
        let is_lost = |app: &NamedApp| !self.is_heard(app) && !self.kept.contains_key(&*app.app.redis_prefix);
        let lost: Vec<&NamedApp> = apps.iter().filter(|app| is_lost(app)).collect();
        for app in apps {
            if let Some((count, topic)) = self.own.get(&app.name) {
                let text =
                    format!("events arrive where app {} listens: {count} so far, the first on {topic}", app.name);
                report.ok(Check::Prefix, &text);
            } else if !is_lost(app) || self.foreign.is_empty() {
                self.judge_silence(app, watch, report);
            }
        }
        self.judge_foreign(&lost, report);
    }

    fn is_heard(&self, app: &NamedApp) -> bool {
        self.own.contains_key(&app.name)
    }

    /// Events that came, and no app that listens to them.
    fn judge_foreign(&self, lost: &[&NamedApp], report: &mut Report) {
        let Some((prefix, (_, topic))) = self.foreign.iter().max_by_key(|(_, (count, _))| *count) else { return };
        let Some(app) = lost.first() else {
            let text = format!("events arrive on {topic}, where no app listens: of another application, it may be");
            return report.note(Check::Prefix, &text);
        };
        if app.app.redis_prefix.is_empty() {
            let text = format!(
                "events arrive on {topic}, and app {} has no prefix: it is heard by who subscribes to that whole name; if \
                 your clients leave {prefix:?} out, that is the prefix",
                app.name
            );
            return report.hint(Check::Prefix, &text, &fits(app, prefix));
        }
        let listen = |app: &&NamedApp| format!("app {} listens to {}", app.name, shown(app));
        let listen: Vec<String> = lost.iter().take(TOLD_MAX).map(listen).collect();
        let more = self.foreign.keys().filter(|other| *other != prefix).take(TOLD_MAX);
        let more: String = more.map(|other| format!("; others come with the prefix {other:?}")).collect();
        let text =
            format!("events arrive on {topic}, but {}: the prefix {prefix:?} would fit{more}", listen.join(" and "));
        report.bad(Check::Prefix, &text, &fits(app, prefix));
    }

    /// Nothing came for this app.
    fn judge_silence(&self, app: &NamedApp, watch: Duration, report: &mut Report) {
        let own = &*app.app.redis_prefix;
        let silence = match watch.is_zero() {
            true => format!("app {} listens to {}, and nobody watched what is published", app.name, shown(app)),
            false => format!("app {} listens to {}, where nothing came in {} s", app.name, shown(app), watch.as_secs()),
        };
        let (text, change) = match self.kept.iter().find(|(prefix, _)| *prefix != own) {
            _ if self.kept.contains_key(own) => {
                let text = format!("{silence}; names with this prefix are here, so it fits");
                (
                    text,
                    format!(
                        "nothing, if Laravel had nothing to say: --watch 60, and broadcast meanwhile; else {DRIVER}; a worker for its queue"
                    ),
                )
            }
            Some((prefix, name)) => {
                (format!("{silence}; but there is the {name}: {prefix:?} may be the prefix"), fits(app, prefix))
            }
            None => {
                let text = "nothing like Laravel is in this Redis: is it the server of REDIS_HOST and REDIS_PORT of Laravel? \
                            (REDIS_DB does not matter for events)";
                (format!("{silence}; {text}"), DRIVER.to_owned())
            }
        };
        report.hint(Check::Prefix, &text, &change);
    }
}

/// Where an app listens.
fn shown(app: &NamedApp) -> String {
    match &*app.app.redis_prefix {
        "" => "names without a prefix".to_owned(),
        prefix => format!("{prefix}…"),
    }
}

fn fits(app: &NamedApp, prefix: &str) -> String {
    let NamedApp { name, app, .. } = app;
    format!("apps.{name}.redis_prefix = {prefix:?}, or REDIS_PREFIX={} in Laravel's .env", app.redis_prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_laravel_are_told_from_others() {
        for body in [
            r#"{"event":"App\\Events\\OrderShipped","data":{"id":1},"socket":null}"#,
            r#"{"event":"order.shipped","data":[],"socket":"1.2"}"#,
            r#"{"event":"order.shipped","data":null,"socket":null}"#,
        ] {
            assert!(is_of_laravel(body.as_bytes()), "{body}");
        }
        for body in [
            "",
            "1.7",
            "[]",
            r#"{"event":"x"}"#,
            r#"{"data":{},"socket":null}"#,
            r#"{"event":"fanfare:roster","data":{},"socket":null,"v":1}"#,
            r#"{"event":7,"data":{},"socket":null}"#,
            r#"{"event":"client-typing","data":{},"socket":"1.2","user_id":"7"}"#,
        ] {
            assert!(!is_of_laravel(body.as_bytes()), "{body}");
        }
    }
}
