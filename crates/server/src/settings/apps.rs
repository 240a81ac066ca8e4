//! From an app's settings to the app that the node serves.

use std::path::Path;

use hyper::header::HeaderName;
use model::{App, AppLimits, ClientEvents, OnGap, Secret, Webhook, WebhookKind, WebhookKinds, WhenFull};

use super::history;
use super::problem::Problem;
use super::value::{Scalar, listed, read_redis_url, read_secret};
use super::values::Values;
use crate::endpoint::Target;
use crate::origin::{self, Pattern};

/// An app under the name that the operator gave its table.
#[derive(Clone, Debug)]
pub(crate) struct NamedApp {
    pub name: String,
    pub app: App,
    pub back_end: BackEnd,
    /// Whose pages may open a WebSocket. Empty: any.
    pub origins: Vec<Pattern>,
    /// Ids and keys of laravel-echo-server's HTTP API, which knows no signatures.
    pub echo_clients: Vec<(Box<str>, Secret)>,
}

/// How the auth endpoints ask an app's own back end.
#[derive(Clone, Default, Debug)]
pub(crate) struct BackEnd {
    /// Who may listen to a channel is asked here. `None`: the endpoint is off.
    pub channels: Option<Target>,
    /// Who a user is, is asked here. `None`: the endpoint is off.
    pub users: Option<Target>,
    /// Further addresses of the same application; a client's `Referer` chooses among them.
    pub sites: Vec<Target>,
    /// Headers that are forwarded beside the usual ones.
    pub headers: Vec<HeaderName>,
    /// Whose pages may ask.
    pub origins: Vec<Pattern>,
}

impl BackEnd {
    /// Where a client is asked about that came from this page: of several addresses the one with the page's host, or with a host above
    /// it, else the last; the first where no page is known (as laravel-echo-server chooses).
    pub(crate) fn channels_for(&self, page: Option<&str>) -> Option<&Target> {
        let (Some(page), Some(last)) = (page, self.sites.last()) else { return self.channels.as_ref() };
        let host = origin::host(page);
        let of = |site: &Target| origin::host(&site.origin());
        let is_above = |site: &&Target| host.strip_suffix(&of(site)).is_some_and(|rest| rest.ends_with('.'));
        let own = self.sites.iter().find(|site| of(site) == host);
        own.or_else(|| self.sites.iter().find(is_above)).or(Some(last))
    }
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
            echo_clients: echo_clients(values, &table),
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
        also_listen: also_listen(values, table).into_iter().map(Into::into).collect(),
        client_events: match text("client_events") {
            "off" => ClientEvents::Off,
            "all" => ClientEvents::All,
            _ => ClientEvents::Members,
        },
        activity_timeout: whole("activity_timeout") as u32,
        ping_interval: values.seconds("socket_io.ping_interval"),
        ping_timeout: values.seconds("socket_io.ping_timeout"),
        poll_bytes: values.whole("socket_io.body_bytes") as usize,
        on_gap: if text("on_gap") == "close" { OnGap::Close } else { OnGap::Notice },
        subscription_count: values.is_on(&name("subscription_count")),
        when_full: if text("when_full") == "come_back" { WhenFull::ComeBackLater } else { WhenFull::StayAway },
        cache_seconds: whole("cache_seconds") as u32,
        // Checked when it was read.
        history: history::read(text("history")).unwrap_or_default().into(),
        webhooks: webhooks(values, table),
        limits: limits(values, table),
    }
}

fn limits(values: &Values, table: &str) -> AppLimits {
    let whole = |key: &str| values.whole(&format!("{table}.{key}"));
    let size = |key: &str| whole(key) as usize;
    AppLimits {
        channels_per_connection: size("channels_per_connection"),
        members: whole("members") as u32,
        event_bytes: size("event_bytes"),
        channels_per_event: size("channels_per_event"),
        batch_events: size("batch_events"),
        user_info_bytes: size("user_info_bytes"),
        user_id_chars: size("user_id_chars"),
        channel_name_bytes: size("channel_name_bytes"),
        event_name_bytes: size("event_name_bytes"),
        connections: whole("connections"),
        client_events_per_second: whole("client_events_per_second") as u32,
        api_requests_per_second: whole("api_requests_per_second") as u32,
        watchlist: size("watchlist"),
        presence_grace: values.seconds(&format!("{table}.presence_grace")),
    }
}

fn webhooks(values: &Values, app: &str) -> Vec<Webhook> {
    let webhook = |table: &str| {
        let text = |key: &str| values.text(&format!("{table}.{key}"));
        let part = |key: &str| (!values.is_absent(&format!("{table}.{key}"))).then(|| text(key).into());
        let kinds = listed(text("events")).filter_map(WebhookKind::from_name);
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.into(), Secret::new(value)));
        Webhook {
            name: table.rsplit('.').next().unwrap_or_default().into(),
            url: text("url").into(),
            kinds: kinds.fold(WebhookKinds::NONE, WebhookKinds::with),
            channel_prefix: part("channel_prefix"),
            channel_suffix: part("channel_suffix"),
            headers: text("headers").lines().filter_map(header).collect(),
        }
    };
    let name = app.strip_prefix("apps.").unwrap_or(app);
    values.webhooks_of(name).map(webhook).collect()
}

fn back_end(values: &Values, table: &str) -> BackEnd {
    let text = |key: &str| values.text(&format!("{table}.{key}"));
    // Checked when they were read.
    let target = |key: &str| Target::parse(text(key)).ok();
    let (channels, users) = (target("auth_url"), target("user_auth_url"));
    let sites: Vec<Target> = listed(text("auth_urls")).filter_map(|url| Target::parse(url).ok()).collect();
    let mut origins = origins(values, table);
    if origins.is_empty() {
        let own = [&channels, &users].into_iter().flatten().chain(&sites).map(Target::origin);
        origins.extend(own.filter_map(|origin| Pattern::parse(&origin).ok()));
    }
    let headers = listed(text("auth_headers")).filter_map(|name| name.parse().ok()).collect();
    BackEnd { channels, users, sites, headers, origins }
}

fn echo_clients(values: &Values, table: &str) -> Vec<(Box<str>, Secret)> {
    let pairs = listed(values.text(&format!("{table}.echo_clients"))).filter_map(|pair| pair.split_once(':'));
    pairs.map(|(id, key)| (id.into(), Secret::new(key))).collect()
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

/// The prefixes that are only listened to.
pub(crate) fn also_listen(values: &Values, table: &str) -> Vec<String> {
    let prefix = prefix(values, table);
    listed(values.text(&format!("{table}.also_listen"))).filter(|also| *also != prefix).map(str::to_owned).collect()
}

/// Laravel's other spelling was a guess beside a guess: with a prefix that somebody wrote there is nothing to guess.
pub(crate) fn forget_other_spellings(values: &mut Values) {
    let apps: Vec<String> = values.apps.iter().map(|(name, _)| format!("apps.{name}")).collect();
    for table in apps {
        let (prefix, also) = (format!("{table}.redis_prefix"), format!("{table}.also_listen"));
        if values.source(&also).is_derived() && !values.source(&prefix).is_derived() {
            values.forget(&also);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_asked_about_at_its_own_site() {
        let target = |url: &str| Target::parse(url).unwrap();
        let sites =
            ["https://a.test/auth", "http://shop.test:8000/auth", "https://last.test/auth"].map(target).to_vec();
        let back_end = BackEnd { channels: sites.first().cloned(), sites, ..BackEnd::default() };
        let asked = |page: Option<&str>| back_end.channels_for(page).unwrap().origin();
        assert_eq!(asked(None), "https://a.test");
        assert_eq!(asked(Some("https://Shop.test/orders?x=1")), "http://shop.test:8000");
        assert_eq!(asked(Some("https://eu.shop.test")), "http://shop.test:8000");
        assert_eq!(asked(Some("https://a.test:8443/")), "https://a.test");
        for other in ["https://evilshop.test/", "https://shop.test.evil.test/", "null", ""] {
            assert_eq!(asked(Some(other)), "https://last.test", "{other}");
        }
        let one = BackEnd { channels: Some(target("https://a.test/auth")), ..BackEnd::default() };
        assert_eq!(one.channels_for(Some("https://b.test")).unwrap().origin(), "https://a.test");
        assert!(BackEnd::default().channels_for(Some("https://b.test")).is_none());
    }
}
