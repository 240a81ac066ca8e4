//! `fanfare doctor`: everything that it knows how to find, made for real, and found.

use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::back_end::BackEnd;
use crate::support::folder::Folder;
use crate::support::laravel::LaravelSite;
use crate::support::node::{APP_ID, KEY, SECRET, bare_command};
use crate::support::ports;
use crate::support::prelude::*;
use crate::support::proxy::Proxy;
use crate::support::tls::{Authority, Files, Front};

const AUTH: &str = "/broadcasting/auth";

/// One app, which listens where the tests' Laravel publishes; no Redis, no node, and nothing to wait for.
const SETTINGS: [(&str, &str); 5] = [
    ("FANFARE_SERVER__LISTEN", "127.0.0.1:0"),
    ("FANFARE_APPS__MAIN__ID", APP_ID),
    ("FANFARE_APPS__MAIN__KEY", KEY),
    ("FANFARE_APPS__MAIN__SECRET", SECRET),
    ("FANFARE_APPS__MAIN__REDIS_PREFIX", node::PREFIX),
];

/// What doctor said.
struct Found {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Found {
    fn of(command: &mut Command) -> Self {
        let output = command.output().expect("the release binary is there");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.contains(SECRET) && !text.contains("hush"), "a secret is told: {text}");
        let findings = text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        Self { code: output.status.code(), findings }
    }

    fn has(&self, check: &str, verdict: &str, words: &str) -> Option<&Value> {
        let text = |finding: &&Value| finding["text"].as_str().unwrap().contains(words);
        self.findings.iter().filter(|finding| finding["check"] == check && finding["verdict"] == verdict).find(text)
    }

    /// It was told, in these words and with these words in the line to change.
    fn tells(&self, check: &str, verdict: &str, words: &str, change: &str) -> &Self {
        let told = self.has(check, verdict, words);
        let fits = told.is_some_and(|told| change.is_empty() || told["change"].as_str().unwrap().contains(change));
        assert!(fits, "no {verdict} {check} {words:?} with {change:?}: {:#?}", self.findings);
        self
    }

    /// This and nothing else is bad.
    fn only_bad(&self, check: &str, words: &str, change: &str) -> &Self {
        let bad = self.findings.iter().filter(|finding| finding["verdict"] == "bad").count();
        assert_eq!((self.code, bad), (Some(1), 1), "{:#?}", self.findings);
        self.tells(check, "bad", words, change)
    }

    fn nothing_bad(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{:#?}", self.findings);
        self
    }
}

fn command(settings: &[(&str, &str)], words: &[&str]) -> Command {
    let mut command = bare_command();
    command.envs(SETTINGS).envs(settings.iter().copied()).args(["doctor", "--json"]).args(words);
    command
}

/// Without waiting for events.
fn doctor(settings: &[(&str, &str)], words: &[&str]) -> Found {
    Found::of(command(settings, words).args(["--watch", "0"]))
}

fn with_redis(url: &str) -> Found {
    doctor(&[("FANFARE_REDIS__URL", url)], &[])
}

/// Runs doctor while Laravel goes on broadcasting.
fn while_laravel_broadcasts(redis: &Redis, mut command: Command) -> Found {
    let mut laravel = Laravel::with("phpredis", redis);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let found = scope.spawn(|| {
            let found = Found::of(&mut command);
            ended.store(true, Ordering::SeqCst);
            found
        });
        for number in 0.. {
            if ended.load(Ordering::SeqCst) || found.is_finished() {
                break;
            }
            laravel.broadcast(&["news", "private-orders.1"], number);
        }
        found.join().unwrap()
    })
}

#[test]
fn where_all_is_well_nothing_is_bad() {
    let site = LaravelSite::start();
    let redis = Redis::start();
    let auth_url = site.url(AUTH);
    let settings = [("FANFARE_REDIS__URL", &*redis.url()), ("FANFARE_APPS__MAIN__AUTH_URL", &*auth_url)];
    let node = Node::start(&redis.url(), &settings);
    let (url, public) = (format!("http://{}", node.address), format!("ws://{}", node.address));
    let found = while_laravel_broadcasts(&redis, command(&settings, &["--node", &url, "--public", &public]));
    found.nothing_bad();
    let well = |check: &str, words: &str| found.tells(check, "ok", words, "");
    well("redis", "answers");
    well("rights", "may do all");
    well("prefix", "events arrive where app main listens");
    well("clock", "Redis");
    well("clock", "the application");
    well("auth", "answers 403 to a stranger, as it should");
    well("node", "takes requests signed as app main");
    well("node", "lets clients in");
    well("public", "a WebSocket comes through");
    // The limits of the machine are its own.
    let others = |finding: &&Value| finding["verdict"] != "ok" && finding["check"] != "files";
    assert_eq!(found.findings.iter().find(others), None);
    let keys = redis.ask(&["KEYS", "*doctor*"]);
    assert_eq!(keys.list(), [], "nothing is left behind");
}

#[test]
fn a_laravel_that_tells_nobody_is_found_by_its_own_file() {
    let folder = Folder::new();
    let look = |lines: &str| {
        let file = folder.write(".env", &format!("APP_NAME=Shop\nAPP_KEY=base64:hush\n{lines}\n"));
        doctor(&[], &["--env-file", &file])
    };
    look("BROADCAST_DRIVER=log").tells("laravel", "bad", ".env:3", "BROADCAST_DRIVER=redis");
    look("").tells("laravel", "bad", "no BROADCAST_CONNECTION is set", "BROADCAST_CONNECTION=redis");
    look("BROADCAST_CONNECTION=null").tells("laravel", "bad", "is not broadcasting anything", "redis");
    look("BROADCAST_CONNECTION=ably").tells("laravel", "bad", "to Ably", "BROADCAST_CONNECTION=redis");
    let keys = "PUSHER_APP_ID=a\nPUSHER_APP_KEY=b\nPUSHER_APP_SECRET=hush";
    look(&format!("BROADCAST_CONNECTION=pusher\n{keys}")).tells("laravel", "bad", "Pusher's cloud", "PUSHER_PORT");
    look(&format!("BROADCAST_CONNECTION=pusher\nPUSHER_HOST=ws.test\n{keys}")).tells("laravel", "ok", ".env", "");
    look("BROADCAST_CONNECTION=redis").tells("laravel", "ok", ".env", "");
}

#[test]
fn findings_are_lines_for_people_with_the_line_to_change() {
    let url = format!("redis://127.0.0.1:{}", ports::free());
    let mut command = bare_command();
    command.envs(SETTINGS).env("FANFARE_REDIS__URL", url).args(["doctor", "--watch", "0"]);
    let output = command.output().unwrap();
    let (out, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert!(out.starts_with("BAD   redis: no connection to 127.0.0.1:"), "{out}");
    assert!(out.contains("\n  change: redis.url = ") && out.contains("\nskip  rights: needs Redis\n"), "{out}");
    assert!(said.starts_with("error: 1 of ") && said.ends_with(" findings are bad\n"), "{said}");
    for (words, code) in [(&["--public", "ftp://h"][..], 2), (&["--node", "h"], 2), (&["--log-level", "lots"], 2)] {
        assert_eq!(bare_command().arg("doctor").args(words).status().unwrap().code(), Some(code), "{words:?}");
    }
}

#[test]
fn a_redis_that_is_not_there_or_another_is_told_apart() {
    let found = with_redis(&format!("redis://127.0.0.1:{}", ports::free()));
    found.only_bad("redis", "nobody listens there", "REDIS_PORT").tells("prefix", "skip", "needs Redis", "");
    with_redis("redis://no-such-host.invalid").only_bad("redis", "no host of this name", "REDIS_HOST");
    let node = Node::start("", &[]);
    with_redis(&format!("redis://{}", node.address)).only_bad("redis", "no Redis", "the port of Redis");
    // It takes connections, and nobody takes them from it.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", mute.local_addr().unwrap());
    with_redis(&url).only_bad("redis", "no answer in time", "firewall");
    // What Redis 5 lacks.
    let old = Redis::with(&["--rename-command", "HELLO", ""]);
    with_redis(&old.url()).only_bad("redis", "older than Redis 6", "6.2 or newer");
    with_redis("").tells("redis", "note", "redis.url is not set", "REDIS_HOST").nothing_bad();
    let redis = Redis::start();
    let (port, third) = (redis.port.to_string(), format!("{}/3", redis.url()));
    with_redis(&third).tells("redis", "note", "database 3", "").nothing_bad();
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &port]);
    with_redis(&replica.url()).only_bad("redis", "is a replica", &format!("127.0.0.1:{port}"));
    let cache = Redis::with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    with_redis(&cache.url()).tells("redis", "note", "throws keys away", "noeviction").nothing_bad();
}

#[test]
fn passwords_and_protected_mode_have_their_own_words() {
    let redis = Redis::start();
    redis.ask(&["ACL", "SETUSER", "ann", "on", ">hush-one", "~*", "&*", "+@all"]);
    let at = |login: &str| with_redis(&format!("redis://{login}@127.0.0.1:{}", redis.port));
    at("ann:hush-two").only_bad("redis", "does not take this user and password", "REDIS_PASSWORD");
    at("bob:hush-one").only_bad("redis", "does not take this user and password", "REDIS_USERNAME");
    at("ann:hush-one").nothing_bad();
    redis.ask(&["CONFIG", "SET", "requirepass", "hush-three"]);
    with_redis(&redis.url()).only_bad("redis", "wants a password, and the URL has none", "redis://:PASSWORD@");
    at(":hush-two").only_bad("redis", "does not take", "%23 for #");
    at(":hush-three").nothing_bad();

    // From this machine by another address than its loopback one; where there is none, there is nothing to protect from.
    let open = Redis::with(&["--bind", "0.0.0.0"]);
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    if socket.connect("192.0.2.1:9").is_ok() {
        let address = socket.local_addr().unwrap().ip();
        with_redis(&format!("redis://{address}:{}", open.port)).only_bad("redis", "protected mode", "requirepass");
    }
}

#[test]
fn tls_and_plain_are_told_apart_and_an_unknown_certificate_too() {
    let authority = Authority::new("private");
    let files = Files::with(&authority.certify());
    let ca = files.folder.write("ca.crt", &authority.pem());
    let port = ports::free();
    let tls_port = port.to_string();
    let tls = ["--tls-port", &tls_port, "--tls-cert-file", &files.certificate, "--tls-key-file", &files.key];
    let redis = Redis::with(&[&tls[..], &["--tls-ca-cert-file", &ca, "--tls-auth-clients", "no"]].concat());
    with_redis(&format!("redis://127.0.0.1:{port}")).only_bad(
        "redis",
        "speaks TLS, and the URL says plain",
        "rediss://",
    );
    let plain = format!("rediss://127.0.0.1:{}", redis.port);
    with_redis(&plain).only_bad("redis", "speaks plain, and the URL says TLS", "redis://");
    let url = format!("rediss://127.0.0.1:{port}");
    with_redis(&url).only_bad("redis", "certificate", "redis.ca_file");
    doctor(&[("FANFARE_REDIS__URL", &url), ("FANFARE_REDIS__CA_FILE", &ca)], &[]).nothing_bad();
    let missing = [("FANFARE_REDIS__URL", &*url), ("FANFARE_REDIS__CA_FILE", "/nowhere/ca.crt")];
    doctor(&missing, &[]).only_bad("redis", "cannot be read", "redis.url, or the file");
}

#[test]
fn a_right_that_is_missing_is_named_as_the_rule_that_gives_it() {
    let redis = Redis::start();
    let url = format!("redis://node:hush@127.0.0.1:{}", redis.port);
    let user = |rules: &[&str]| {
        let rules = [&["ACL", "SETUSER", "node", "reset", "on", ">hush"], rules].concat();
        assert_eq!(redis.ask(&rules), crate::support::redis::Reply::Text("OK".into()));
    };
    // Doing what it says is the cure.
    let cured_by = |rule: &str, words: &str| {
        let found = with_redis(&url);
        found.only_bad("rights", words, rule);
        let told = found.has("rights", "bad", words).unwrap()["change"].as_str().unwrap();
        redis.ask(&told.split_whitespace().collect::<Vec<_>>());
        with_redis(&url).nothing_bad().tells("rights", "ok", "the user node may do all", "");
    };
    user(&["~*", "+@all"]);
    cured_by("ACL SETUSER node &ff:* &laravel_database_*", "use channels ff:*, laravel_database_*");
    let list = include_str!("../docs/redis.acl").replace("<prefix>", node::PREFIX);
    let all: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect();
    for missing in ["+hset", "+subscribe", "+script|load", "+publish", "+time"] {
        user(&all.iter().copied().filter(|rule| *rule != missing).collect::<Vec<_>>());
        cured_by(&format!("ACL SETUSER node {missing}"), &format!("may not run {}", &missing[1..]));
    }
    user(&all.iter().map(|rule| if *rule == "~ff:*" { "~app:*" } else { rule }).collect::<Vec<_>>());
    cured_by("ACL SETUSER node ~ff:*", "touch keys ff:*");
    user(&all);
    let found = Found::of(&mut command(&[("FANFARE_REDIS__URL", &url)], &["--watch", "1"]));
    found.nothing_bad().tells("prefix", "note", "could not be watched", "+psubscribe").tells("rights", "ok", "", "");
    user(&[&all[..], &["+psubscribe"]].concat());
    let found = Found::of(&mut command(&[("FANFARE_REDIS__URL", &url)], &["--watch", "1"]));
    found.nothing_bad().tells("prefix", "note", "may listen to laravel_database_* only", "");

    let other = Redis::with(&["--rename-command", "EVAL", ""]);
    with_redis(&other.url()).only_bad("rights", "does not know eval", "rename-command");
}

#[test]
fn a_prefix_that_is_not_laravels_is_found_by_its_events() {
    let redis = Redis::start();
    let url = redis.url();
    let with_prefix = |prefix: &str| {
        let settings = [("FANFARE_REDIS__URL", &*url), ("FANFARE_APPS__MAIN__REDIS_PREFIX", prefix)];
        while_laravel_broadcasts(&redis, command(&settings, &["--watch", "2"]))
    };
    let fits = r#"apps.main.redis_prefix = "laravel_database_""#;
    for prefix in ["shop_database_", "laravel-database-", "main-id:"] {
        let words = format!("but app main listens to {prefix}…: the prefix \"laravel_database_\" would fit");
        let change = format!("{fits}, or REDIS_PREFIX={prefix} in Laravel's .env");
        with_prefix(prefix).only_bad("prefix", &words, &change);
    }
    with_prefix(node::PREFIX).nothing_bad();
    // Without a prefix clients may well subscribe to the whole name, as with laravel-echo-server.
    with_prefix("").nothing_bad().tells("prefix", "note", "app main has no prefix", fits);
    // Where there are traces of our own, the strangers may be another application.
    redis.ask(&["SET", "shop_database_shop_cache_:x", "1"]);
    let found = with_prefix("shop_database_");
    found.nothing_bad().tells("prefix", "note", "names with this prefix are here", "BROADCAST_CONNECTION=redis");
    found.tells("prefix", "note", "where no app listens", "");
}

#[test]
fn a_silent_laravel_leaves_hints() {
    let redis = Redis::start();
    let settings = [("FANFARE_REDIS__URL", &*redis.url())];
    let found = Found::of(&mut command(&settings, &["--watch", "1"]));
    found.nothing_bad().tells("prefix", "note", "nothing like Laravel is in this Redis", "BROADCAST_CONNECTION");
    // As Laravel's cache does, in its database 1.
    let mut link = crate::support::redis::Link::open(redis.port).unwrap();
    link.ask(&["SELECT", "1"]);
    link.ask(&["SET", "my-shop-database-my-shop-cache-:x", "1"]);
    let hint = r#"redis_prefix = "my-shop-database-""#;
    doctor(&settings, &[]).nothing_bad().tells("prefix", "note", "there is the key my-shop-database-", hint);
    // What cannot be encoded is published with nothing in it.
    let ended = AtomicBool::new(false);
    let found = thread::scope(|scope| {
        let found = scope.spawn(|| {
            let found = Found::of(&mut command(&settings, &["--watch", "10"]));
            ended.store(true, Ordering::SeqCst);
            found
        });
        while !ended.load(Ordering::SeqCst) && !found.is_finished() {
            redis.publish("laravel_database_news", "");
        }
        found.join().unwrap()
    });
    found.nothing_bad().tells("prefix", "note", "an empty body came on laravel_database_news", "UTF-8");
}

#[test]
fn each_wrong_answer_of_an_application_is_told_apart() {
    let site = LaravelSite::of("wrong.php");
    let ask = |url: &str| doctor(&[("FANFARE_APPS__MAIN__AUTH_URL", url), ("FANFARE_LIMITS__AUTH_SECONDS", "2")], &[]);
    for (how, words, change) in [
        ("419", "wants a CSRF token", "broadcasting/*"),
        ("login", "redirects to \"/login\"", "middleware"),
        ("404", "Laravel has no such route", "Broadcast::routes()"),
        ("405", "takes no POST", "Broadcast::routes()"),
        ("page", "a page for people", "auth_url"),
        ("everybody", "says yes to a stranger", "routes/channels.php"),
        ("fails", "500 Internal Server Error: Class \"User\" not found", "laravel.log"),
        ("422", "answers 422", "auth_url"),
    ] {
        ask(&site.url(&format!("/{how}{AUTH}"))).only_bad("auth", words, change);
    }
    for how in ["401", "403"] {
        ask(&site.url(&format!("/{how}{AUTH}"))).nothing_bad().tells("auth", "ok", &format!("answers {how}"), "");
    }
    ask(&site.url(&format!("/slow{AUTH}"))).only_bad("auth", "no answer within 2 s", "limits.auth_seconds");
    let nowhere = format!("127.0.0.1:{}{AUTH}", ports::free());
    ask(&format!("http://{nowhere}")).only_bad("auth", "cannot reach", "in a container 127.0.0.1");
    let plain = LaravelSite::start();
    ask(&format!("https://127.0.0.1:{}{AUTH}", plain.port)).only_bad(
        "auth",
        "cannot reach",
        "http:// in place of https://",
    );
    let front = Front::of(plain.port, &Authority::new("private").certify());
    ask(&format!("https://127.0.0.1:{}{AUTH}", front.port)).only_bad("auth", "certificate", "SSL_CERT_FILE");
    ask(&format!("http://127.0.0.1:{}{AUTH}", front.port)).only_bad("auth", "no answer of HTTP", "https://");
    let back_end = BackEnd::start();
    let place = format!("https://127.0.0.1{AUTH}");
    back_end.answers("301 Moved Permanently", &format!("Location: {place}\r\nConnection: close\r\n"), "");
    ask(&back_end.url(AUTH)).only_bad("auth", &format!("redirects to {place}"), "APP_URL");
    let asked = back_end.asked().concat();
    assert!(
        asked.starts_with(&format!("POST {AUTH} HTTP/1.1")) && asked.contains("accept: application/json"),
        "{asked}"
    );
}

#[test]
fn a_clock_that_is_wrong_is_found_by_the_date_of_an_answer() {
    let back_end = BackEnd::start();
    let head = "Date: Mon, 01 Jan 2024 00:00:00 GMT\r\nConnection: close\r\n";
    back_end.answers("403 Forbidden", head, r#"{"message":""}"#);
    let url = back_end.url(AUTH);
    let found = doctor(&[("FANFARE_APPS__MAIN__AUTH_URL", &url)], &[]);
    found.only_bad("clock", "the clock of the application is", "set-ntp").tells("auth", "ok", "403", "");
}

#[test]
fn a_node_with_another_id_key_or_secret_is_told() {
    let node = Node::start("", &[]);
    let url = format!("http://{}", node.address);
    let ask = |setting: &str, value: &str| doctor(&[(setting, value)], &["--node", &url]);
    ask("FANFARE_APPS__MAIN__SECRET", "other").only_bad("node", "has another secret for app main", "PUSHER_APP_SECRET");
    ask("FANFARE_APPS__MAIN__ID", "9").only_bad("node", "knows no app of the id 9", "PUSHER_APP_ID");
    let found = ask("FANFARE_APPS__MAIN__KEY", "other");
    found.tells("node", "bad", "has another key for app main", "PUSHER_APP_KEY").tells("node", "bad", "4001", "");
    let at = |url: &str| doctor(&[], &["--node", url]);
    // This machine has one clock, so the words of a node with another are put into somebody's mouth.
    let late = BackEnd::start();
    late.answers(
        "401 Unauthorized",
        "Connection: close\r\n",
        r#"{"error":"auth_timestamp 1 is more than 600 s from …"}"#,
    );
    at(&late.url("")).tells("node", "bad", "because of the time", "set-ntp");
    at(&format!("http://127.0.0.1:{}", ports::free())).only_bad("node", "cannot reach", "server.listen");
    at(&LaravelSite::of("wrong.php").url("")).only_bad("node", "that is no node of fanfare", "another program");
    at(&Redis::start().url().replace("redis", "http")).only_bad("node", "does not speak HTTP", "--node");
    at(&url.replace("http", "https")).only_bad("node", "does not speak TLS", "");
    // Without a node that anybody named, none has to run.
    let listen = format!("127.0.0.1:{}", ports::free());
    doctor(&[("FANFARE_SERVER__LISTEN", &listen)], &[]).nothing_bad().tells("node", "note", "no node runs at", "");
    let own = node.address.to_string();
    doctor(&[("FANFARE_SERVER__LISTEN", &own)], &[]).nothing_bad().tells("node", "ok", "lets clients in", "");
}

#[test]
fn a_proxy_that_brings_no_websocket_is_told_by_what_it_does() {
    let node = Node::start("", &[]);
    let at = |url: &str| doctor(&[], &["--public", url]);
    at(&format!("ws://{}", node.address)).nothing_bad().tells("public", "ok", "a WebSocket comes through", "");
    let proxy = Proxy::before(node.address);
    let dropped = "the proxy drops the headers Upgrade and Connection";
    at(&format!("ws://127.0.0.1:{}", proxy.port)).only_bad(
        "public",
        dropped,
        "proxy_set_header Upgrade $http_upgrade;",
    );
    let front = Front::of(node.address.port(), &Authority::new("private").certify());
    at(&format!("wss://127.0.0.1:{}", front.port)).only_bad("public", "not trusted", "certificate");
    at(&format!("ws://127.0.0.1:{}", front.port)).only_bad(
        "public",
        "does not speak HTTP",
        "wss:// for a port with TLS",
    );
    at(&format!("wss://{}", node.address)).only_bad("public", "does not speak TLS", "");
    at(&format!("ws://127.0.0.1:{}", ports::free())).only_bad("public", "cannot reach", "--public");
    let site = BackEnd::start();
    for (status, head, words, change) in [
        ("502 Bad Gateway", "", "does not reach a node", "upstream"),
        ("301 Moved Permanently", "Location: https://ws.test/\r\n", "redirects to \"https://ws.test/\"", "wss://"),
        ("404 Not Found", "", "has no way from /app", "a location for /app"),
        ("403 Forbidden", "", "somebody before the nodes refuses", "no login"),
        ("200 OK", "", "that is another site", "proxy_http_version 1.1"),
    ] {
        site.answers(status, &format!("{head}Connection: close\r\n"), "<html>");
        at(&format!("ws://127.0.0.1:{}", site.port)).only_bad("public", words, change);
    }
    // The key is another's: the way is fine, and what is behind it is not.
    let settings = [("FANFARE_APPS__MAIN__KEY", "other")];
    let found = doctor(&settings, &["--public", &format!("ws://{}", node.address)]);
    found.only_bad("public", "4001", "a node that knows this app");
}

#[test]
fn too_few_open_files_are_told() {
    let with = |limit: u32| {
        let mut shell = Command::new("bash");
        let script = format!("ulimit -n {limit} && exec \"$0\" doctor --json --watch 0");
        shell.args(["-c", &script]).arg(bare_command().get_program()).envs(SETTINGS).current_dir(std::env::temp_dir());
        Found::of(&mut shell)
    };
    with(1024).only_bad("files", "may open 1024 files", "LimitNOFILE=");
    with(8192).nothing_bad().tells("files", "note", "may open 8192 files", "--ulimit nofile=");
    let folder = Folder::new();
    let file = folder.write("fanfare.toml", "[apps.main]\nid = \"1\"\n");
    assert_eq!(bare_command().args(["doctor", "--config", &file]).status().unwrap().code(), Some(2));
}
