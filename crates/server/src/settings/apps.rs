//! From an app's settings to the app that the node serves.

use std::path::Path;

use hyper::header::HeaderName;
use model::{App, AppLimits, ClientEvents, OnGap, Secret};

use super::problem::Problem;
use super::value::{Scalar, listed, read_redis_url, read_secret};
use super::values::Values;
use crate::gateway_auth::Target;
use crate::origin::Pattern;

/// An app under the name that the operator gave its table.
#[derive(Clone, Debug)]
pub(crate) struct NamedApp {
    pub name: String,
    pub app: App,
    pub back_end: BackEnd,
    /// Whose pages may open a WebSocket. Empty: any.
    pub origins: Vec<Pattern>,
}

/// How the auth endpoints ask an app's own back end.
#[derive(Clone, Default, Debug)]
pub(crate) struct BackEnd {
    /// Who may listen to a channel is asked here. `None`: the endpoint is off.
    pub channels: Option<Target>,
    /// Who a user is, is asked here. `None`: the endpoint is off.
    pub users: Option<Target>,
    /// Headers that are forwarded beside the usual ones.
    pub headers: Vec<HeaderName>,
    /// Whose pages may ask.
    pub origins: Vec<Pattern>,
}

/// Builds the apps from values that were found complete.
pub(crate) fn build(values: &Values) -> Vec<NamedApp> {
    let build = |name: &String| {
        let table = format!("apps.{name}");
        NamedApp {
            name: name.clone(),
            app: app(values, &table),
            back_end: back_end(values, &table),
            origins: origins(values, &table),
        }
    };
    values.apps.iter().map(|(name, _)| build(name)).collect()
}

fn app(values: &Values, table: &str) -> App {
    let name = |key: &str| format!("{table}.{key}");
    let text = |key: &str| values.text(&name(key));
    let whole = |key: &str| values.whole(&name(key)) as usize;
    let secrets = ["secret", "previous_secret"].into_iter().filter(|key| !values.is_absent(&name(key)));
    App {
        id: text("id").into(),
        key: text("key").into(),
        secrets: secrets.map(|key| Secret::new(text(key))).collect(),
        redis_prefix: prefix(values, table).into(),
        client_events: match text("client_events") {
            "off" => ClientEvents::Off,
            "all" => ClientEvents::All,
            _ => ClientEvents::Members,
        },
        activity_timeout: whole("activity_timeout") as u32,
        on_gap: if text("on_gap") == "close" { OnGap::Close } else { OnGap::Notice },
        subscription_count: false,
        when_full: Default::default(),
        cache_seconds: model::app::CACHE_SECONDS,
        webhooks: Vec::new(),
        limits: AppLimits {
            channels_per_connection: whole("channels_per_connection"),
            members: whole("members") as u32,
            event_bytes: whole("event_bytes"),
            channels_per_event: whole("channels_per_event"),
            batch_events: whole("batch_events"),
            user_info_bytes: whole("user_info_bytes"),
            ..AppLimits::default()
        },
    }
}

fn back_end(values: &Values, table: &str) -> BackEnd {
    let text = |key: &str| values.text(&format!("{table}.{key}"));
    // Checked when they were read.
    let target = |key: &str| Target::parse(text(key)).ok();
    let (channels, users) = (target("auth_url"), target("user_auth_url"));
    let mut origins = origins(values, table);
    if origins.is_empty() {
        let own = [&channels, &users].into_iter().flatten().map(Target::origin);
        origins.extend(own.filter_map(|origin| Pattern::parse(&origin).ok()));
    }
    let headers = listed(text("auth_headers")).filter_map(|name| name.parse().ok()).collect();
    BackEnd { channels, users, headers, origins }
}

fn origins(values: &Values, table: &str) -> Vec<Pattern> {
    // Checked when they were read.
    listed(values.text(&format!("{table}.allowed_origins"))).filter_map(|text| Pattern::parse(text).ok()).collect()
}

/// What stands before the app's channel names in Redis.
pub(crate) fn prefix(values: &Values, table: &str) -> String {
    let name = format!("{table}.redis_prefix");
    if values.is_absent(&name) {
        return format!("{}:", values.text(&format!("{table}.id")));
    }
    values.text(&name).to_owned()
}

/// Reads the files that hold secrets into the settings that they stand for.
pub(crate) fn read_secret_files(values: &mut Values, problems: &mut Vec<Problem>) {
    read_file(values, problems, "redis.url_file", "redis.url", read_redis_url);
    let apps: Vec<String> = values.apps.iter().map(|(name, _)| format!("apps.{name}")).collect();
    for table in apps {
        read_file(values, problems, &format!("{table}.secret_file"), &format!("{table}.secret"), read_secret);
    }
}

fn read_file(
    values: &mut Values,
    problems: &mut Vec<Problem>,
    file: &str,
    target: &str,
    read: fn(&str) -> Result<Scalar, String>,
) {
    if values.is_absent(file) {
        return;
    }
    let source = values.source(file).clone();
    if !values.text(target).is_empty() {
        let text = format!("is set, and so is {target} (at {}); leave one of them out", values.source(target));
        problems.push(Problem::new(source.place(), file, text));
        return;
    }
    let path = values.text(file).to_owned();
    let content = match std::fs::read_to_string(Path::new(&path)) {
        // Editors and `echo` end a file with a line break, which is no part of the secret.
        Ok(content) => content.trim_end_matches(['\r', '\n']).to_owned(),
        Err(error) => {
            let text = format!("{path:?} cannot be read: {error}; write the path of a file that this user may read");
            problems.push(Problem::new(source.place(), file, text));
            return;
        }
    };
    match read(&content) {
        Ok(scalar) if !content.is_empty() => values.set(target, scalar),
        Ok(_) => problems.push(Problem::new(source.place(), file, format!("{path:?} is empty"))),
        Err(text) => problems.push(Problem::new(source.place(), file, format!("what is in {path:?} {text}"))),
    }
}
