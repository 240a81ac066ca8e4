//! Laravel's own `.env`: read as PHP reads it, and what a node makes of it.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::dice::Dice;
use crate::support::folder::Folder;
use crate::support::node::bare_command;
use crate::support::prelude::*;

// The node's own reader: it needs nothing but its text.
#[path = "../crates/server/src/settings/env_file/slug.rs"]
mod slug;
#[path = "../crates/server/src/settings/env_file/syntax.rs"]
mod syntax;

use syntax::Word;

/// What PHP answers to each of these.
fn php(asked: &[Value]) -> Vec<Value> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/laravel/env.php");
    let piped = || Stdio::piped();
    let mut command = Command::new("php");
    let mut child = command.arg(script).stdin(piped()).stdout(piped()).spawn().expect("php is there");
    let mut input = child.stdin.take().unwrap();
    let lines: String = asked.iter().map(|asked| format!("{asked}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), asked.len(), "php answers each line");
    answers
}

/// What the node makes of a text, in the words of the script.
fn ours(text: &str) -> Value {
    match syntax::parse(text) {
        Err(wrong) => {
            assert!(wrong.line >= 1 && wrong.text.contains("; write "), "{wrong:?}");
            json!({ "refused": true })
        }
        Ok(variables) => {
            let value = |text: &str| match syntax::word(text) {
                Word::Null => Value::Null,
                Word::Switch(on) => json!(on),
                Word::Text(text) => json!(text),
            };
            let values = variables.by_name.iter().map(|(name, variable)| (name.clone(), value(&variable.text)));
            json!({ "values": values.collect::<serde_json::Map<_, _>>() })
        }
    }
}

const TEXTS: [&str; 34] = [
    "P=a#b",
    "P=\"a#b\" # c",
    "P=two words",
    "A=x\nN=${A}_y\nM=\"1${A}2\"\nL=${NOPE}\nK='${A}\\n'\nJ=$A",
    "A=x\nB=\"\\${A}\"\nC=\"${A${A}}\"\nD=${${A}}",
    "B=${A}\nA=later",
    "B=\"a\\n\\t\\\\\\\"\\$ \\r\\f\\v\"",
    "B=\"a\\x\"",
    "B=\"one\ntwo\nthree\" # end\nC=1",
    "export FOO=x\nexport  BAR = y",
    "export G=x",
    "V = sp ",
    "D-D=x",
    "1D=x\nE.E=x",
    "CC",
    "A=1\nA",
    "CC ",
    "=x",
    " # remark\n\n\t#A=1\nB=2",
    "A=null\nB=(null)\nC=NULL\nD=empty\nE=(Empty)\nF=true\nG=(FALSE)\nH=false",
    "A=\"'abc'\"\nB='\"abc\"'\nC=\"''\"\nD=\"'\"",
    "A=1\nA=2\nB=${A}\nA=3",
    "A=\nB=\"\"\nC=''",
    "A=\"open\nB=1",
    "A='open\nB=1",
    "A=a'b\"c\\d",
    "A=#x\nB=a #x\nC='a'#x",
    "A='a' b",
    "A='a'b",
    "A=1\r\nB=2\rC=3\r\n",
    "'A'=1\n\"B\"=2\n'C\"=3",
    "A=é\nB=\"${A}€\"\nÉ=1",
    "A=\"x\\\\\"\nB=\"y\\\"\"",
    "REDIS_PASSWORD=\"a\\\"b${X}$\"",
];

#[test]
fn a_text_means_to_us_what_it_means_to_php() {
    let parts = [
        "A=", "BC=", "D", "=", "\"", "\"", "'", "#", " ", "\t", "$", "{", "}", "${A}", "${BC}", "\\", "\\n", "\n",
        "\n", "\r\n", "x", "yz", "é", "export ", "null", "(true)", "false", "empty", "=\"", "\"\n", ".", "-", "\\\"",
        "\\\\", "\r",
    ];
    let mut dice = Dice(0x00FA_17FA);
    let random = |_| -> String { (0..1 + dice.roll(14)).map(|_| parts[dice.roll(parts.len())]).collect() };
    let texts: Vec<String> = TEXTS.map(str::to_owned).into_iter().chain((0..30_000).map(random)).collect();
    let asked: Vec<Value> = texts.iter().map(|text| json!({ "env": text })).collect();
    let mut refused = 0;
    for (text, mut theirs) in texts.iter().zip(php(&asked)) {
        if theirs.get("refused").is_some() {
            (theirs, refused) = (json!({ "refused": true }), refused + 1);
        }
        // A name without a value is gone there, and absent here.
        if let Some(values) = theirs.get_mut("values").and_then(Value::as_object_mut) {
            let known = ours(text);
            values.retain(|name, value| !value.is_null() || known["values"].get(name).is_some());
        }
        assert_eq!(ours(text), theirs, "{text:?}");
    }
    assert!(refused > 1_000 && refused < 25_000, "{refused} of the texts are refused: too one-sided to show much");
}

#[test]
fn what_php_passes_over_is_said() {
    let variables = syntax::parse("\u{feff}A=1\nB=\"open\nC=1").unwrap();
    assert_eq!((variables.unclosed, variables.by_name.len(), variables.by_name["A"].line), (Some(2), 1, 1));
    assert_eq!(syntax::parse("A=1\n\nB=\"x\ny\"\nC=d e").unwrap_err().line, 5);
    assert!(slug::slug("日本", '_').is_doubtful && !slug::slug("Ünïcödé & Co", '_').is_doubtful);
}

#[test]
fn a_name_becomes_the_prefix_that_laravel_makes_of_it() {
    let fixed = [
        "Laravel",
        "My App",
        "my-app",
        "My_App",
        "ACME Inc.",
        "Café Zürich",
        "Straße",
        "日本語",
        "",
        "foo@bar",
        "  A  B  ",
        "a--b__c",
        "v2.0",
        "Shop (EU)",
        "App/API",
        "Ünïcödé & Co",
        "éé🎉",
        "a-_ -b",
        "@",
        "Ａ",
        "x\u{a0}y",
        "Łódź €5",
    ];
    let mut dice = Dice(7);
    let random = |_| -> String {
        let length = dice.roll(10);
        let letter = |_| match dice.roll(4) {
            0 => char::from_u32(0x20 + dice.roll(0x60) as u32).unwrap(),
            1 => char::from_u32(0x80 + dice.roll(0x80) as u32).unwrap(),
            2 => char::from_u32(0x100 + dice.roll(0x80) as u32).unwrap(),
            _ => [' ', '-', '_', '@', 'a', 'Z', '9', '\t'][dice.roll(8)],
        };
        (0..length).map(letter).collect()
    };
    let names: Vec<String> = fixed.map(str::to_owned).into_iter().chain((0..5_000).map(random)).collect();
    let asked: Vec<Value> = names.iter().map(|name| json!({ "slug": name })).collect();
    for (name, theirs) in names.iter().zip(php(&asked)) {
        let both = ['_', '-'].map(|separator| slug::slug(name, separator));
        if both.iter().all(|slug| !slug.is_doubtful) {
            assert_eq!(json!(both.map(|slug| slug.text)), theirs["slugs"], "{name:?}");
        }
    }
}

/// What `check-config` says of a `.env`: its code, what it prints and what it says.
fn checked(text: &str) -> (Option<i32>, String, String) {
    let folder = Folder::new();
    let file = folder.write(".env", text);
    let output = bare_command().args(["check-config", "--env-file", &file]).output().unwrap();
    let plain = |bytes| String::from_utf8(bytes).unwrap().replace(&file, ".env");
    (output.status.code(), plain(output.stdout), plain(output.stderr))
}

/// What a line of settings says, and where it came from.
fn understood(text: &str, expected: &[(&str, &str)]) {
    let (code, out, said) = checked(text);
    assert_eq!(code, Some(0), "{text}: {said}");
    for (assignment, source) in expected {
        let line = out.lines().find(|line| line.starts_with(&format!("{assignment} ")));
        assert!(line.is_some_and(|line| line.ends_with(&format!("# {source}"))), "{assignment} {source}: {out}");
    }
}

const KEYS: &str = "REVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=hush\n";

#[test]
fn a_fresh_application_needs_no_other_setting() {
    let text = "APP_NAME=\"My Shop\"\nAPP_KEY=base64:hush\nAPP_URL=https://shop.example/\nBROADCAST_CONNECTION=redis\n";
    understood(
        text,
        &[
            ("apps.main.id = \"my-shop\"", "derived from APP_NAME at .env:1"),
            ("apps.main.key = \"my-shop\"", "derived from APP_NAME at .env:1"),
            ("apps.main.secret = \"***\"", "derived from APP_KEY at .env:2"),
            ("apps.main.redis_prefix = \"my_shop_database_\"", "derived from APP_NAME at .env:1"),
            ("apps.main.also_listen = \"my-shop-database-\"", "derived from APP_NAME at .env:1"),
            ("apps.main.auth_url = \"https://shop.example/broadcasting/auth\"", "derived from APP_URL at .env:3"),
            (
                "apps.main.user_auth_url = \"https://shop.example/broadcasting/user-auth\"",
                "derived from APP_URL at .env:3",
            ),
            ("redis.url = \"redis://127.0.0.1:6379\"", "derived from BROADCAST_CONNECTION at .env:4"),
        ],
    );
    let (_, out, said) = checked(text);
    assert!(!out.contains("hush") && !said.contains("hush"));
    assert!(out.starts_with("The settings are good: .env; app main\n"), "{out}");
    let (code, _, said) = checked("APP_NAME=x\nBROADCAST_CONNECTION=redis");
    assert!(code == Some(2) && said.contains("APP_KEY") && said.contains("php artisan key:generate"), "{said}");
}

#[test]
fn redis_is_where_laravel_finds_it() {
    let url = |lines: &str, url: &str, source: &str| {
        understood(&format!("{KEYS}{lines}"), &[(&format!("redis.url = {url:?}"), source)]);
    };
    url("REDIS_HOST=r", "redis://r:6379", ".env:4 REDIS_HOST");
    url("REDIS_HOST=tls://r\nREDIS_PORT=7", "rediss://r:7", ".env:4 REDIS_HOST, .env:5 REDIS_PORT");
    url("REDIS_HOST=::1\nREDIS_DB=3", "redis://[::1]:6379/3", ".env:4 REDIS_HOST, .env:5 REDIS_DB");
    url("REDIS_HOST=r\nREDIS_SCHEME=tls", "rediss://r:6379", ".env:5 REDIS_SCHEME, .env:4 REDIS_HOST");
    url("REDIS_HOST=/run/r.sock\nREDIS_PORT=0", "unix:///run/r.sock", ".env:4 REDIS_HOST, .env:5 REDIS_PORT");
    url("REDIS_HOST=r\nREDIS_PASSWORD=null", "redis://r:6379", ".env:4 REDIS_HOST");
    let both = ".env:5 REDIS_URL, .env:4 REDIS_HOST";
    url("REDIS_HOST=r\nREDIS_URL=rediss://u:p%40@s:1/2", "rediss://u:***@s:1/2", both);
    url("REDIS_HOST=r\nREDIS_URL=tcp://:p@s?database=4", "redis://:***@s:6379/4", both);
    let sentinel =
        "REDIS_SENTINEL_HOST=a,b:7\nREDIS_SENTINEL_SERVICE=m\nREDIS_SENTINEL_PASSWORD=p#hush\nREDIS_PASSWORD=hush";
    url(
        sentinel,
        "redis+sentinel://:***@a:26379,b:7/m",
        ".env:7 REDIS_PASSWORD, .env:4 REDIS_SENTINEL_HOST, .env:5 REDIS_SENTINEL_SERVICE, .env:6 REDIS_SENTINEL_PASSWORD",
    );
    let (code, _, said) = checked(&format!("{KEYS}REDIS_URL=hush"));
    assert!(code == Some(2) && said.contains(".env:4 REDIS_URL: redis.url: is not a URL of Redis; write"), "{said}");
    assert!(!said.contains("hush"), "{said}");
}

#[test]
fn reverbs_names_are_understood() {
    let more = "REDIS_PREFIX=p_\nREVERB_SERVER_HOST=127.0.0.1\nREVERB_SERVER_PORT=8081\nREVERB_SERVER_PATH=ws/\n\
                REVERB_APP_MAX_CONNECTIONS=5\nREVERB_APP_ACTIVITY_TIMEOUT=20\nREVERB_MAX_REQUEST_SIZE=7000\n\
                REVERB_APP_MAX_MESSAGE_SIZE=8000\nREVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=none\n\
                REVERB_APP_RATE_LIMITING_ENABLED=true\nREVERB_APP_RATE_LIMIT_MAX_ATTEMPTS=90\n\
                LARAVEL_ECHO_SERVER_AUTH_HOST=http://a\nAPP_URL=http://b\n";
    understood(
        &format!("{KEYS}{more}"),
        &[
            ("apps.main.id = \"1\"", ".env:1 REVERB_APP_ID"),
            ("apps.main.secret = \"***\"", ".env:3 REVERB_APP_SECRET"),
            ("apps.main.redis_prefix = \"p_\"", ".env:4 REDIS_PREFIX"),
            ("server.listen = \"127.0.0.1:8081\"", ".env:5 REVERB_SERVER_HOST, .env:6 REVERB_SERVER_PORT"),
            ("server.path_prefix = \"/ws\"", ".env:7 REVERB_SERVER_PATH"),
            ("apps.main.connections = 5", ".env:8 REVERB_APP_MAX_CONNECTIONS"),
            ("apps.main.activity_timeout = 20", ".env:9 REVERB_APP_ACTIVITY_TIMEOUT"),
            ("limits.http_body_bytes = 7000", ".env:10 REVERB_MAX_REQUEST_SIZE"),
            ("limits.frame_bytes = 8000", ".env:11 REVERB_APP_MAX_MESSAGE_SIZE"),
            ("apps.main.event_bytes = 8000", ".env:11 REVERB_APP_MAX_MESSAGE_SIZE"),
            ("apps.main.client_events = \"off\"", ".env:12 REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM"),
            (
                "apps.main.client_events_per_second = 2",
                ".env:13 REVERB_APP_RATE_LIMITING_ENABLED, .env:14 REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS",
            ),
            ("apps.main.auth_url = \"http://a/broadcasting/auth\"", ".env:15 LARAVEL_ECHO_SERVER_AUTH_HOST"),
        ],
    );
    let wrong = checked(&format!("{KEYS}REVERB_SERVER_PORT=many\nREVERB_APP_MAX_CONNECTIONS=some"));
    assert_eq!(wrong.0, Some(2));
    for part in
        [".env:4 REVERB_SERVER_PORT: server.listen: ", ".env:5 REVERB_APP_MAX_CONNECTIONS: apps.main.connections: "]
    {
        assert!(wrong.2.contains(part), "{part}: {}", wrong.2);
    }
    understood(
        &format!("{KEYS}LARAVEL_WEBSOCKETS_PORT=6002"),
        &[("server.listen = \"0.0.0.0:6002\"", ".env:4 LARAVEL_WEBSOCKETS_PORT")],
    );
}

#[test]
fn two_sets_of_keys_are_two_apps_and_the_driver_says_which_is_first() {
    let pusher = "PUSHER_APP_ID=2\nPUSHER_APP_KEY=pk\nPUSHER_APP_SECRET=hush\nPUSHER_HOST=ws\nREDIS_PREFIX=p_\n";
    let apps = |driver: &str, first: &str, second: &str| {
        let text = format!("{KEYS}{pusher}BROADCAST_CONNECTION={driver}\n");
        understood(&text, &[(first, if driver == "pusher" { ".env:4 PUSHER_APP_ID" } else { ".env:1 REVERB_APP_ID" })]);
        let (_, out, _) = checked(&text);
        assert!(out.contains(second) && out.contains("apps.main.redis_prefix = \"p_\""), "{out}");
        assert_eq!(out.matches("redis_prefix").count(), 1, "{out}");
    };
    apps("reverb", "apps.main.id = \"1\"", "apps.pusher.id = \"2\"");
    apps("pusher", "apps.main.id = \"2\"", "apps.reverb.id = \"1\"");
    apps("redis", "apps.main.id = \"1\"", "apps.pusher.id = \"2\"");
    let same = "PUSHER_APP_ID=${REVERB_APP_ID}\nPUSHER_APP_KEY=${REVERB_APP_KEY}\nPUSHER_APP_SECRET=\"${REVERB_APP_SECRET}\"\n";
    let (_, out, _) = checked(&format!("{KEYS}{same}"));
    assert!(out.contains("; app main\n"), "{out}");
    let (code, _, said) = checked("REVERB_APP_KEY=k\nREVERB_APP_ID=1\n");
    assert!(code == Some(2) && said.contains("write REVERB_APP_SECRET=… in .env"), "{said}");
}

#[test]
fn what_keeps_laravel_silent_is_said() {
    let said = |lines: &str, expected: &str| {
        let (code, _, said) = checked(&format!("{KEYS}{lines}"));
        assert!(code == Some(0) && said.contains(expected), "{lines}: {said}");
    };
    said("BROADCAST_CONNECTION=log", ".env:4 BROADCAST_CONNECTION: Laravel is not broadcasting anything");
    said("BROADCAST_DRIVER=null", "write BROADCAST_DRIVER=redis");
    said("", "warning: .env: Laravel is not broadcasting anything, as no BROADCAST_CONNECTION is set; write");
    said("BROADCAST_DRIVER=ably", "Ably");
    said("BROADCAST_DRIVER=pusher\nBROADCAST_CONNECTION=redis", "differ; the first counts");
    said("BROADCAST_DRIVER=pusher", "Pusher's cloud");
    said("BROADCAST_DRIVER=reverb\nREVERB_PORT=443", ".env:5 REVERB_PORT: is 443, and this node listens on 8080");
    said("BROADCAST_DRIVER=redis\nA=\"open\nB=1", ".env:5: a quote is opened here and never closed");
    said("APP_NAME=Пример", "write it: REDIS_PREFIX=");
    said("APP_URL=shop.example", ".env:4 APP_URL: is not a URL");
    let (code, out, said) = checked("A=hush words\n");
    assert!(code == Some(2) && out.is_empty() && said.contains(".env:1: A: has more behind its value"), "{said}");
    assert!(!said.contains("hush"), "{said}");
    let missing = bare_command().args(["check-config", "--env-file", "/no/such/.env"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn everything_else_wins_over_it() {
    let folder = Folder::new();
    let env = folder.write(".env", &format!("{KEYS}APP_NAME=x\nREVERB_SERVER_PORT=1\nREVERB_APP_MAX_CONNECTIONS=5\n"));
    let toml = folder.write("fanfare.toml", "[apps.main]\nkey = \"other\"\nredis_prefix = \"p:\"\n");
    let mut command = bare_command();
    command.args(["print-config", "--env-file", &env, "--config", &toml, "--listen", "127.0.0.1:3"]);
    let output = command.env("FANFARE_APPS__MAIN__CONNECTIONS", "6").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let line =
        |beginning: &str| printed.lines().find(|line| line.starts_with(beginning)).unwrap_or_default().to_owned();
    assert!(line("id = ").ends_with("REVERB_APP_ID"), "{printed}");
    assert!(line("key = \"other\"").contains("fanfare.toml:2"), "{printed}");
    assert!(line("connections = 6").contains("environment"), "{printed}");
    assert!(line("listen = \"127.0.0.1:3\"").contains("--listen"), "{printed}");
    // With a prefix that is said there is no other spelling to listen to.
    assert!(line("also_listen = \"\"").contains("default"), "{printed}");
}

#[test]
fn both_spellings_of_the_prefix_carry_the_same_channels() {
    let (mut redis, folder) = (Redis::start(), Folder::new());
    let text = format!("{KEYS}APP_NAME=\"My App\"\nREDIS_HOST=127.0.0.1\nREDIS_PORT={}\n", redis.port);
    let env = folder.write(".env", &text.replace("=hush", &format!("={}", node::SECRET)));
    let nodes = [(); 2].map(|()| Node::with_env_file(&env));
    let mut clients = [0, 1].map(|at| Client::of(&nodes[at], "k", node::SECRET));
    for client in &mut clients {
        client.subscribe("news");
        client.subscribe("private-chat");
    }
    let mut number = 0;
    let mut carried = |clients: &mut [Client; 2], publish: &dyn Fn(&str)| {
        number += 1;
        publish(&format!(r#"{{"event":"e","data":{{"n":{number}}},"socket":null}}"#));
        for client in clients {
            assert_eq!(client.expect("e", "news").data(), json!({ "n": number }), "once, and in order");
        }
    };
    let server = &redis;
    let laravel = |prefix: &'static str| {
        move |payload: &str| assert_eq!(server.publish(&format!("{prefix}news"), payload), 2, "both nodes hear it")
    };
    // What nodes publish goes one way, on which all of them hear it once.
    let own = |clients: &mut [Client; 2]| {
        let whisper = json!({ "event": "client-typing", "channel": "private-chat", "data": { "by": 1 } });
        clients[0].socket.send(&whisper.to_string());
        assert_eq!(clients[1].expect("client-typing", "private-chat").data(), json!({ "by": 1 }));
    };
    own(&mut clients);
    carried(&mut clients, &laravel("my_app_database_"));
    own(&mut clients);
    carried(&mut clients, &laravel("my-app-database-"));
    until("the operator is told of the spelling", || {
        let told = |node: &Node| node.log().iter().any(|line| line.contains("set REDIS_PREFIX=my-app-database-"));
        nodes.iter().all(told).then_some(())
    });
    own(&mut clients);
    carried(&mut clients, &laravel("my_app_database_"));
    carried(&mut clients, &laravel("my-app-database-"));
    own(&mut clients);
    drop(clients);
    until("both names are given up", || {
        let names = ["my_app_database_news", "my-app-database-news"];
        names.iter().all(|name| redis.listeners(name) == 0).then_some(())
    });
    let mut again = Client::of(&nodes[0], "k", node::SECRET);
    again.subscribe("news");
    let mut heard = |redis: &Redis, prefix: &str, n: u32| {
        redis.publish(&format!("{prefix}news"), &format!(r#"{{"event":"e","data":{{"n":{n}}},"socket":null}}"#));
        let (_, message) = again.until("e");
        assert_eq!(message.data(), json!({ "n": n }));
    };
    heard(&redis, "my-app-database-", 8);
    heard(&redis, "my_app_database_", 9);
    // After a cut both are subscribed to anew.
    redis.restart();
    let names = ["my_app_database_news", "my-app-database-news"];
    until("both are heard again", || names.iter().all(|name| redis.listeners(name) == 1).then_some(()));
    heard(&redis, "my-app-database-", 10);
    heard(&redis, "my_app_database_", 11);
}

#[test]
fn it_is_read_again_while_the_node_runs() {
    let folder = Folder::new();
    let text = KEYS.replace("=hush", &format!("={}", node::SECRET));
    let env = folder.write(".env", &text);
    let node = Node::with_env_file(&env);
    let taken = |result: &str| node.metric("fanfare_reloads_total", &[("part", "apps"), ("result", result)]);
    folder.write(".env", &format!("{text}REVERB_APP_MAX_CONNECTIONS=1\n"));
    until("the change is taken", || (taken("taken") > 0.0).then_some(()));
    until("the log says what changed", || node.log().iter().any(|line| line.contains("connections")).then_some(()));
    folder.write(".env", &format!("{text}REVERB_APP_MAX_CONNECTIONS=1 2\n"));
    until("a file that PHP refuses changes nothing", || (taken("refused") > 0.0).then_some(()));
    drop(Client::of(&node, "k", node::SECRET));
}

#[test]
fn a_value_that_a_remark_cuts_is_told() {
    let folder = Folder::new();
    let told = |line: &str| {
        let file =
            folder.write(".env", &format!("APP_NAME=Shop\nAPP_KEY=base64:hush\nBROADCAST_CONNECTION=redis\n{line}\n"));
        let output = bare_command().args(["check-config", "--env-file", &file]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !said.contains("hunter"), "{said}");
        said.contains(".env:4 REDIS_PASSWORD: the # ends the value")
    };
    for line in ["REDIS_PASSWORD=#hunter2", "REDIS_PASSWORD=hun#ter2"] {
        assert!(told(line), "{line}");
    }
    for line in ["REDIS_PASSWORD=\"hun#ter2\"", "REDIS_PASSWORD=hunter2 # mine", "REDIS_PASSWORD= # none", "OTHER=a#b"]
    {
        assert!(!told(line), "{line}");
    }
}
