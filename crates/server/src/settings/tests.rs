//! The settings as an operator meets them: what is written, what holds, what is said when it is wrong.

use super::table::{Kind, Row, Scope};
use model::{AppLimits, Webhook, WebhookKind, WebhookKinds, WhenFull};

use super::*;
use crate::origin::Pattern;

fn read(file: &str, environment: &[(&str, &str)]) -> Result<Settings, Problems> {
    let variables = environment.iter().map(|(name, text)| ((*name).to_owned(), Some((*text).to_owned())));
    from_layers(vec![file::parse("f.toml", file), Layer::from_environment(variables)])
}

fn problems(file: &str, environment: &[(&str, &str)]) -> Vec<String> {
    read(file, environment).unwrap_err().0.iter().map(Problem::to_string).collect()
}

const APP: &str = "[apps.main]\nid = \"1\"\nkey = \"k\"\nsecret = \"s\"\n";

/// A value of the row that is not its default, in TOML.
fn another(row: &Row) -> String {
    let (_, key) = table::split(row.name);
    match (row.kind, key) {
        (Kind::Seconds { .. }, "dead_after") => "7.5".to_owned(),
        (Kind::Seconds { .. }, _) => "1.25".to_owned(),
        (Kind::Count { .. } | Kind::Bytes { .. }, _) => "7".to_owned(),
        (Kind::Address, _) => "\"127.0.0.9:77\"".to_owned(),
        (Kind::Choice(words), _) => format!("{:?}", words[words.len() - 1]),
        (Kind::RedisUrl, _) => "\"redis://localhost:7/7\"".to_owned(),
        (Kind::Filter, _) => "\"debug\"".to_owned(),
        (Kind::HttpUrl, _) => "\"http://other/\"".to_owned(),
        (Kind::PathPrefix, _) => "\"/other\"".to_owned(),
        (Kind::Origins, _) => "\"http://other\"".to_owned(),
        (Kind::Switch, "polling" | "websocket") => "false".to_owned(),
        (Kind::Switch, _) => "true".to_owned(),
        (Kind::HttpUrls, _) => "\"http://other/\"".to_owned(),
        (Kind::EchoClients, _) => "\"other:key\"".to_owned(),
        (Kind::WebhookKinds, _) => "\"cache_miss\"".to_owned(),
        (Kind::History, _) => "\"chat-* 7 7\"".to_owned(),
        (Kind::Headers, _) => "\"X-Tenant: 7\"".to_owned(),
        _ => "\"other\"".to_owned(),
    }
}

/// A file that is valid and has this one setting written.
fn file_with(row: &Row, value: &str) -> String {
    let (section, key) = table::split(row.name);
    if row.scope() == Scope::Webhook {
        let needed = [("url", "\"http://a/\""), ("events", "\"channel_occupied\"")];
        let others = needed.iter().filter(|(other, _)| *other != key).map(|(key, value)| format!("{key} = {value}\n"));
        return format!("[apps.main.webhooks.a]\n{key} = {value}\n{}{APP}", others.collect::<String>());
    }
    let Some(key) = table::app_key(row.name) else {
        let other = match row.name {
            "tls.chain_file" => "certificate_file = \"c.pem\"\nkey_file = \"k.pem\"\n",
            "tls.certificate_file" => "key_file = \"k.pem\"\n",
            "tls.key_file" | "redis.key_file" => "certificate_file = \"c.pem\"\n",
            "redis.certificate_file" => "key_file = \"k.pem\"\n",
            _ => "",
        };
        return format!("[{section}]\n{key} = {value}\n{other}");
    };
    let others: Vec<&str> = match key {
        "id" => vec!["key = \"k\"", "secret = \"s\""],
        "key" => vec!["id = \"1\"", "secret = \"s\""],
        "secret" | "secret_file" => vec!["id = \"1\"", "key = \"k\""],
        _ => vec!["id = \"1\"", "key = \"k\"", "secret = \"s\""],
    };
    format!("[apps.main]\n{key} = {value}\n{}\n", others.join("\n"))
}

#[test]
fn each_setting_changed_from_its_default_is_seen_with_its_place() {
    for row in &table::TABLE {
        let (_, key) = table::split(row.name);
        let holder = std::env::temp_dir().join(format!("fanfare-{}-{key}", std::process::id()));
        let value = match row.kind {
            Kind::File => {
                let content = if key == "url_file" { "redis://localhost:7" } else { "out-of-a-file" };
                std::fs::write(&holder, format!("{content}\n")).unwrap();
                format!("{:?}", holder.display().to_string())
            }
            _ => another(row),
        };
        let settings = read(&file_with(row, &value), &[]).unwrap_or_else(|problems| panic!("{}: {problems}", row.name));
        let shown = if matches!(row.kind, Kind::Secret | Kind::Headers | Kind::EchoClients) {
            "\"***\"".to_owned()
        } else {
            value
        };
        let printed = effective(&settings);
        let line =
            printed.lines().find(|line| line.starts_with(&format!("{key} = {shown} ")) && line.contains("f.toml"));
        assert!(line.is_some_and(|line| line.contains("# f.toml:2:")), "{}: {printed}", row.name);
        let _ = std::fs::remove_file(holder);
    }
}

#[test]
fn each_setting_reaches_the_process() {
    let plain = format!("{:?}", without_values(read(APP, &[]).unwrap()));
    let node = table::node_rows().filter(|row| !matches!(row.kind, Kind::File));
    for row in node {
        let settings = read(&format!("{APP}\n{}", file_with(row, &another(row))), &[]).unwrap();
        assert_ne!(format!("{:?}", without_values(settings)), plain, "{}", row.name);
    }
    for row in table::app_rows().filter(|row| !matches!(row.kind, Kind::File | Kind::Secret)) {
        let settings = read(&file_with(row, &another(row)), &[]).unwrap();
        assert_ne!(format!("{:?}", without_values(settings)), plain, "{}", row.name);
    }
    let url = table::webhook_rows().find(|row| row.key() == "url").unwrap();
    let plain = read(&file_with(url, "\"http://a/\""), &[]).unwrap().apps.remove(0).app.webhooks;
    for row in table::webhook_rows() {
        let settings = read(&file_with(row, &another(row)), &[]).unwrap();
        assert_ne!(settings.apps[0].app.webhooks, plain, "{}", row.name);
    }
}

fn without_values(settings: Settings) -> Settings {
    Settings { values: Values::default(), ..settings }
}

#[test]
fn the_environment_wins_over_the_file_and_a_flag_over_both() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\nadmin = \"127.0.0.1:2\"\nworkers = 3\n";
    let variables = [("FANFARE_SERVER__ADMIN", "127.0.0.1:22"), ("FANFARE_SERVER__WORKERS", "33")];
    let variables = variables.map(|(name, text)| (name.to_owned(), Some(text.to_owned())));
    let flags = [("--workers", "server.workers", "44".to_owned())];
    let layers =
        vec![file::parse("f.toml", file), Layer::from_environment(variables.into_iter()), Layer::from_flags(&flags)];
    let settings = from_layers(layers).unwrap();
    assert_eq!(settings.server.listen.port(), 1);
    assert_eq!(settings.server.admin.port(), 22);
    assert_eq!(settings.server.workers, 44);
    assert_eq!(settings.values.source("server.listen").to_string(), "f.toml:2:10");
    assert_eq!(settings.values.source("server.admin").to_string(), "environment FANFARE_SERVER__ADMIN");
    assert_eq!(settings.values.source("server.workers").to_string(), "flag --workers");
}

#[test]
fn text_from_the_environment_stays_the_text_it_is() {
    let settings = read(
        "",
        &[
            ("FANFARE_APPS__MAIN__ID", "007"),
            ("FANFARE_APPS__MAIN__KEY", "1e3"),
            ("FANFARE_APPS__MAIN__SECRET", "0123"),
        ],
    )
    .unwrap();
    let app = &settings.apps[0].app;
    assert_eq!((&*app.id, &*app.key, app.secrets[0].reveal()), ("007", "1e3", "0123"));
    assert!(!settings.development && &*app.redis_prefix == "007:");
}

#[test]
fn an_empty_prefix_is_a_choice_and_an_absent_one_is_the_id() {
    let prefix = |line: &str| read(&format!("{APP}{line}"), &[]).unwrap().apps[0].app.redis_prefix.clone();
    assert_eq!(&*prefix(""), "1:");
    assert_eq!(&*prefix("redis_prefix = \"\""), "");
}

#[test]
fn the_environment_may_complete_an_app_of_the_file() {
    let settings = read("[apps.main]\nid = \"1\"\nkey = \"k\"\n", &[("FANFARE_APPS__MAIN__SECRET", "s")]).unwrap();
    assert_eq!(settings.apps[0].app.secrets[0].reveal(), "s");
}

#[test]
fn an_old_secret_is_kept_beside_the_new_one() {
    let settings = read(&format!("{APP}previous_secret = \"old\""), &[]).unwrap();
    let secrets: Vec<_> = settings.apps[0].app.secrets.iter().map(Secret::reveal).collect();
    assert_eq!(secrets, ["s", "old"]);
}

#[test]
fn what_is_wrong_is_said_with_place_key_and_remedy() {
    let check = |file: &str, expected: &str| {
        let found = problems(file, &[]);
        assert_eq!(found.len(), 1, "{file}: {found:#?}");
        assert!(found[0].starts_with(expected), "{file}\n    {}\n not {expected}", found[0]);
    };
    check("[server]\nlisen = 1", "f.toml:2:1: server.lisen: no such key; did you mean server.listen?");
    check("[server]\nlinger = 1", "f.toml:2:1: server.linger: no such key; did you mean redis.linger?");
    check(
        "[server]\nport = 1",
        "f.toml:2:1: server.port: no such key; [server] has listen, path_prefix, admin, workers",
    );
    check("[sever]\nlisten = 1", "f.toml:1:2: sever: no such section; did you mean [server]?");
    check("listen = 1", "f.toml:1:1: listen: is outside of a section; did you mean server.listen?");
    check("server = 1", "f.toml:1:1: server: is not a table; write [server] and its keys below");
    check("[server]\nworkers = 65", "f.toml:2:11: server.workers: 65 is too large; write a whole number from 0 to 64");
    check("[server]\nworkers = -1", "f.toml:2:11: server.workers: -1 is too small; write");
    check("[server]\nworkers = 1.5", "f.toml:2:11: server.workers: 1.5 is not whole; write");
    check("[server]\nworkers = true", "f.toml:2:11: server.workers: is true or false; write");
    check(
        "[redis]\nlinger = \"500ms\"",
        "f.toml:2:10: redis.linger: \"500ms\" is text; write a plain number: linger = 0.5",
    );
    check("[redis]\nlinger = nan", "f.toml:2:10: redis.linger: NaN is too small; write");
    check(
        "[redis]\nqueue_bytes = \"64 MiB\"",
        "f.toml:2:15: redis.queue_bytes: \"64 MiB\" is text; write a plain number: queue_bytes = 67108864",
    );
    check("[redis]\nnamespace = \"\"", "f.toml:2:13: redis.namespace: is empty; write");
    check("[redis]\nnamespace = \"__keyspace\"", "f.toml:2:13: redis.namespace: \"__keyspace\" leads to Redis's own");
    check("[log]\nlevel = \"inof\"", "f.toml:2:9: log.level: \"inof\" is not a level; write");
    check("[log]\nformat = \"jsn\"", "f.toml:2:10: log.format: \"jsn\" is not known; did you mean \"json\"?");
    check(
        "[presence]\ndead_after = 2",
        "f.toml:2:14: presence.dead_after: 2 is not more than twice presence.heartbeat",
    );
    check("[presence]\nheartbeat = 2", "f.toml:2:13: presence.dead_after: 3 is not more than twice presence.heartbeat");
    check(
        "[server]\nlisten = \"[::]:80\"",
        "f.toml:2:10: server.listen: [::]:80 is open to other machines, but no app is",
    );
    check("[server\nlisten = 1", "f.toml:1:8: this is not TOML: ");
    check(
        "[server]\nlisten = 127.0.0.1:80",
        "f.toml:2:15: this is not TOML: invalid float; write [section] and below it key = value, with text in \"quotes\"",
    );
    check("[log]\n[log]", "f.toml:2:2: this is not TOML: duplicate key; write each key and each [section] once");
    check("[[apps]]\nid = \"1\"", "f.toml:1:3: apps: is not a table; write a table for each app");
    check("[apps]\nid = \"1\"", "f.toml:2:1: apps.id: is outside of an app; write it below a table");
    check("[apps.Main]\nid = \"1\"", "f.toml:1:7: apps.Main: cannot be an app's name here; write lower-case");
    check(
        "[apps.main]\nid = \"1\"\nkey = \"k\"",
        "f.toml:1:7: apps.main.secret: is missing; write secret = \"…\", or secret_file",
    );
    check(
        &format!("{APP}secret_file = \"x\""),
        "f.toml:5:15: apps.main.secret_file: is set, and so is apps.main.secret (at f.toml:4:10)",
    );
    check(&APP.replace("\"1\"", "1"), "f.toml:2:6: apps.main.id: is a number; write");
    check(&APP.replace("\"k\"", "\"a/b\""), "f.toml:3:7: apps.main.key: \"a/b\" cannot stand in a URL; write");
    check(&APP.replace("\"s\"", "\"***\""), "f.toml:4:10: apps.main.secret: is the mask that print-config prints");
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
}

#[test]
fn who_asks_the_application_for_whom_is_checked() {
    let back_end = |lines: &str| read(&format!("{APP}{lines}"), &[]).unwrap().apps[0].back_end.clone();
    assert!(back_end("").channels.is_none() && back_end("").origins.is_empty());
    let by_default = back_end("auth_url = \"http://App.test:80/x\"\nuser_auth_url = \"http://app.test:8000\"");
    assert_eq!(by_default.origins, patterns(&["http://app.test", "http://app.test:8000"]));
    let listed =
        back_end("auth_url = \"http://a\"\nallowed_origins = [\"https://Shop.test\", \"capacitor://localhost\"]");
    assert_eq!(listed.origins, patterns(&["https://shop.test", "capacitor://localhost"]));
    assert_eq!(back_end("auth_headers = \"X-Tenant, x-locale\"").headers, ["x-tenant", "x-locale"]);
    let wrong = |line: &str, why: &str| {
        let found = problems(&format!("{APP}{line}"), &[]);
        assert!(found.len() == 1 && found[0].contains(why), "{line}: {found:#?}");
    };
    assert_eq!(back_end("auth_url = \"https://App.test:443/x\"").origins, patterns(&["https://app.test"]));
    wrong("auth_url = \"ftp://app.test/broadcasting/auth\"", "does not begin with http:// or https://");
    wrong("auth_url = [\"http://a\"]", "is a list; write a URL");
    wrong("allowed_origins = [\"*\"]", "origins that are not known");
    wrong("allowed_origins = \"://shop.test\"", "is no origin");
    wrong("allowed_origins = \"https://shop.test/\"", "without a path");
    wrong("allowed_origins = [1]", "a list of other things than text");
    for name in ["Host", "content-length", "Transfer-Encoding", "X-Forwarded-For", "Proxy-Authorization", "connection"]
    {
        wrong(&format!("auth_headers = [\"{name}\"]"), "never forwarded");
    }
    wrong("auth_headers = [\"X:\"]", "no name of a header");
}

#[test]
fn the_limits_and_customs_of_an_app_are_pushers_unless_said() {
    let app = |lines: &str| read(&format!("{APP}{lines}"), &[]).unwrap().apps[0].app.clone();
    assert_eq!(app("").limits, AppLimits::default());
    let plain = app("");
    assert_eq!((plain.subscription_count, plain.when_full, plain.cache_seconds), (false, WhenFull::StayAway, 1_800));
    let said = app("subscription_count = true\nwhen_full = \"come_back\"\ncache_seconds = 60\nconnections = 5");
    assert_eq!((said.subscription_count, said.when_full), (true, WhenFull::ComeBackLater));
    assert_eq!((said.cache_seconds, said.limits.connections), (60, 5));
    let by_variable = read(APP, &[("FANFARE_APPS__MAIN__SUBSCRIPTION_COUNT", "true")]).unwrap();
    assert!(by_variable.apps[0].app.subscription_count);
    let wrong = |line: &str, why: &str| {
        let found = problems(&format!("{APP}{line}"), &[]);
        assert!(found.len() == 1 && found[0].contains(why), "{line}: {found:#?}");
    };
    wrong("subscription_count = \"on\"", "\"on\" is neither; write true or false");
    wrong("subscription_count = 1", "is a number; write true or false");
    wrong("when_full = \"come back\"", "did you mean \"come_back\"?");
    wrong("channel_name_bytes = 201", "201 is too large; write a whole number from 1 to 200");
}

#[test]
fn webhooks_are_read_from_the_file_and_the_environment() {
    let file = format!(
        "{APP}[apps.main.webhooks.audit]\nurl = \"https://app.test/hooks\"\nevents = [\"channel_occupied\", \
         \"client_event\"]\nchannel_prefix = \"private-\"\nheaders = [\"Authorization: Bearer a, b\", \"X-Tenant:7\"]\n"
    );
    let variables = [
        ("FANFARE_APPS__MAIN__WEBHOOKS__OTHER__URL", "http://app.test/"),
        ("FANFARE_APPS__MAIN__WEBHOOKS__OTHER__EVENTS", "cache_miss,member_added"),
        ("FANFARE_APPS__MAIN__WEBHOOKS__AUDIT__CHANNEL_SUFFIX", "-x"),
    ];
    let settings = read(&file, &variables).unwrap();
    let kinds = |kinds: &[WebhookKind]| kinds.iter().fold(WebhookKinds::NONE, |all, kind| all.with(*kind));
    let audit = Webhook {
        name: "audit".into(),
        url: "https://app.test/hooks".into(),
        kinds: kinds(&[WebhookKind::ChannelOccupied, WebhookKind::ClientEvent]),
        channel_prefix: Some("private-".into()),
        channel_suffix: Some("-x".into()),
        headers: vec![("authorization".into(), Secret::new("Bearer a, b")), ("x-tenant".into(), Secret::new("7"))],
    };
    let other = Webhook {
        name: "other".into(),
        url: "http://app.test/".into(),
        kinds: kinds(&[WebhookKind::CacheMiss, WebhookKind::MemberAdded]),
        channel_prefix: None,
        channel_suffix: None,
        headers: Vec::new(),
    };
    assert_eq!(settings.apps[0].app.webhooks, [audit, other]);
    assert!(!effective(&settings).contains("Bearer") && !format!("{settings:?}").contains("Bearer"));
}

#[test]
fn what_is_wrong_with_a_webhook_is_said() {
    let wrong = |lines: &str, expected: &str| {
        let found = problems(&format!("{APP}{lines}"), &[]);
        assert!(found.len() == 1 && found[0].contains(expected), "{lines}: {found:#?}");
    };
    let hook = |lines: &str| format!("[apps.main.webhooks.a]\nurl = \"http://a/\"\nevents = \"cache_miss\"\n{lines}");
    wrong("[apps.main.webhooks.a]\nurl = \"http://a/\"", "apps.main.webhooks.a.events: is missing; write events = ");
    wrong("[apps.main.webhooks.a]\nevents = \"cache_miss\"", "f.toml:5:21: apps.main.webhooks.a.url: is missing");
    wrong(
        &hook("urll = 1"),
        "f.toml:8:1: apps.main.webhooks.a.urll: no such key; did you mean apps.main.webhooks.a.url?",
    );
    wrong(&hook("secret = 1"), "no such key; [apps.main.webhooks.a] has url, events, channel_prefix");
    wrong("webhooks = 1", "apps.main.webhooks: is not a table; write a table for each webhook");
    wrong("[apps.main.webhooks]\nurl = \"http://a/\"", "apps.main.webhooks.url: is outside of a webhook");
    wrong("[apps.main.webhooks.A]\nurl = \"http://a/\"", "cannot be a webhook's name here");
    wrong(&hook("").replace("http://a/", "ftp://app.test/"), "does not begin with http:// or https://");
    wrong(&hook("").replace("http://a/", ""), "url: is empty; write the URL");
    wrong(&hook("").replace("cache_miss", "cache-miss"), "is no kind of event; did you mean \"cache_miss\"? There are");
    wrong(&hook("").replace("cache_miss", ""), "is empty, so nothing would be told; write some of channel_occupied,");
    wrong(&hook("channel_prefix = \"\""), "leave it out for all");
    wrong(&hook("headers = [\"X-Tenant\"]"), "a header has no colon");
    wrong(&hook("headers = [\"Content-Type: x\"]"), "\"content-type\" is written by HTTP");
    wrong(&hook("headers = [\"X-Pusher-Signature: x\"]"), "or by the webhook itself");
    let found = problems("", &[("FANFARE_APPS__MAIN__WEBHOOKS__A__URLL", "x")]);
    assert!(found[0].contains("did you mean FANFARE_APPS__MAIN__WEBHOOKS__A__URL?"), "{found:#?}");
}

#[test]
fn the_environment_is_told_by_the_names_of_its_variables() {
    let check = |name: &str, text: &str, expected: &str| {
        let found = problems("", &[(name, text)]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(expected), "{}\n not {expected}", found[0]);
    };
    check(
        "FANFARE_SERVER__LISEN",
        "x",
        "environment FANFARE_SERVER__LISEN: no such setting; did you mean FANFARE_SERVER__LISTEN?",
    );
    check(
        "FANFARE_REDIS_URL",
        "x",
        "environment FANFARE_REDIS_URL: is not read; write two underscores: FANFARE_REDIS__URL",
    );
    check("FANFARE_SERVER__WORKERS", "", "environment FANFARE_SERVER__WORKERS: server.workers: is empty; write");
    check(
        "FANFARE_SERVER__WORKERS",
        "many",
        "environment FANFARE_SERVER__WORKERS: server.workers: \"many\" is not a number; write",
    );
    check(
        "FANFARE_APPS__MAIN__SECRT",
        "x",
        "environment FANFARE_APPS__MAIN__SECRT: no such setting; did you mean FANFARE_APPS__MAIN__SECRET?",
    );
}

#[test]
fn what_kubernetes_sets_beside_a_service_of_our_name_is_no_mistake() {
    let variables = ["FANFARE_PORT", "FANFARE_SERVICE_HOST", "FANFARE_PORT_8080_TCP_ADDR", "FANFARE_REDIS_PORT"];
    assert!(read("", &variables.map(|name| (name, "x"))).is_ok());
}

#[test]
fn all_problems_are_told_at_once_from_top_to_bottom() {
    let found = problems("[redis]\nurl = 1\n[server]\nprt = 1\nworkers = \"x\"\n", &[("FANFARE_LOG__LEVEL", "lots")]);
    let places: Vec<&str> = found.iter().map(|problem| problem.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["f.toml:2:7", "f.toml:4:1", "f.toml:5:11", "environment FANFARE_LOG__LEVEL"]);
}

#[test]
fn apps_cannot_be_mistaken_for_each_other() {
    let app = |name: &str, id: &str, key: &str, prefix: &str| {
        format!("[apps.{name}]\nid = \"{id}\"\nkey = \"{key}\"\nsecret = \"s\"\n{prefix}\n")
    };
    let check = |first: String, second: String, expected: &[&str]| {
        let found = problems(&format!("{first}{second}"), &[]);
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        found.iter().zip(expected).for_each(|(found, expected)| assert!(found.contains(expected), "{found}"));
    };
    check(
        app("a", "1", "k", ""),
        app("b", "2", "k", ""),
        &["f.toml:8:7: apps.b.key: is \"k\" as apps.a.key (at f.toml:3:7)"],
    );
    check(
        app("a", "1", "k", ""),
        app("b", "1", "l", ""),
        &["apps.b.id: is \"1\"", "apps.b.redis_prefix: \"1:\" and \"1:\" of apps.a"],
    );
    let prefix = |text: &str| format!("redis_prefix = \"{text}\"");
    check(
        app("a", "1", "k", &prefix("x_")),
        app("b", "2", "l", &prefix("x_y_")),
        &["apps.b.redis_prefix: \"x_y_\" and \"x_\""],
    );
    check(app("a", "1", "k", &prefix("")), app("b", "2", "l", ""), &["begin alike"]);
    check(
        app("a", "1", "k", &prefix("ff:")),
        String::new(),
        &["f.toml:5:16: apps.a.redis_prefix: \"ff:\" and redis.namespace \"ff:\""],
    );
    check(app("a", "1", "k", &prefix("f")), String::new(), &["begin alike"]);
    check(app("a", "1", "k", &prefix("__keyevent")), String::new(), &["Redis's own"]);
}

#[test]
fn no_secret_is_ever_shown() {
    let file = format!(
        "{}previous_secret = \"hush2\"\n[redis]\nurl = \"redis://bob:hush3@host:1\"\n",
        APP.replace("\"s\"", "\"hush1\"")
    );
    let settings = read(&file, &[]).unwrap();
    let printed = effective(&settings);
    assert!(!printed.contains("hush") && !format!("{settings:?}").contains("hush"), "{printed}");
    assert!(printed.contains("url = \"redis://bob:***@host:1\""), "{printed}");
    assert!(!problems("[apps.main]\nsecret = hush", &[])[0].contains("hush"));
    let url = "redis+sentinel://bob:hush3@a:1,b:2/main?sentinel_password=hush4";
    let printed = effective(&read(&format!("[redis]\nurl = {url:?}\n"), &[]).unwrap());
    assert!(printed.contains("url = \"redis+sentinel://bob:***@a:1,b:2/main\""), "{printed}");
    assert!(!printed.contains("hush"), "{printed}");
    for wrong in [
        "url = \"http://:hush@x\"",
        "url = \"hush\"",
        "url = \"redis://:hu/sh@x:y\"",
        "url = \"redis+sentinel://:hush@a:1\"",
        "url = \"valkey+sentinel://:hush@a:1/main\"",
    ] {
        assert!(!problems(&format!("[redis]\n{wrong}"), &[])[0].contains("hu"));
    }
    assert!(!problems(&APP.replace("\"s\"", "\" hush\""), &[])[0].contains("hush"));
}

#[test]
fn the_example_file_changes_nothing_and_all_of_it_is_valid() {
    let defaults = format!("{:?}", without_values(read("", &[]).unwrap()));
    assert_eq!(format!("{:?}", without_values(read(&example(), &[]).unwrap())), defaults);
    let live: String = example().lines().filter(|line| !line.contains("_file =")).fold(String::new(), |all, line| {
        let line = line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line);
        all + line + "\n"
    });
    let settings = read(&live, &[]).unwrap_or_else(|problems| panic!("{problems}\n{live}"));
    assert!(!settings.development && settings.apps[0].name == "main");
}

#[test]
fn the_docs_page_is_the_table() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let text = std::fs::read_to_string(page).unwrap_or_default();
    assert!(text == docs(), "docs/configuration.md is old: fanfare print-config --docs > docs/configuration.md");
}

#[test]
fn print_config_can_be_read_again() {
    let file = "[redis]\nlinger = 0.5\nnamespace = \"q\\\"\\\\é:\"\n[limits]\ninbox_bytes = 70000\n";
    let settings = read(file, &[]).unwrap();
    let printed = effective(&settings);
    // The development app's secret is a mask there, and is a comment.
    let again = printed.split("\n# No app").next().unwrap();
    assert_eq!(format!("{:?}", without_values(read(again, &[]).unwrap())), format!("{:?}", without_values(settings)));
}
