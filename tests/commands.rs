//! What a person types: `fanfare publish`, `listen`, `probe`, `health`, `check-config`, `print-config`: what they print, what they
//! say, and their exit codes.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::support::folder::Folder;
use crate::support::node::{bare_command, command};
use crate::support::prelude::*;
use crate::support::process::Process;
use crate::support::tls::{Authority, Files, Front, Pair};

/// What a command left.
struct Ran {
    code: Option<i32>,
    out: String,
    said: String,
}

impl Ran {
    fn of(command: &mut Command, input: &str) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the release binary is there");
        // One that ended before it read is judged by its code.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), said: text(output.stderr) }
    }
}

/// Runs the binary with the tests' settings.
fn fanfare(words: &[&str], input: &str) -> Ran {
    Ran::of(command().args(words), input)
}

/// Runs it and expects it to do what it is asked.
fn well(words: &[&str], input: &str) -> Ran {
    let ran = fanfare(words, input);
    assert_eq!(ran.code, Some(0), "{words:?}: {}", ran.said);
    ran
}

/// Runs it and expects it to end like this.
fn check(command: &mut Command, code: i32, words: &str) {
    let ran = Ran::of(command, "");
    assert!(ran.code == Some(code) && ran.said.contains(words), "{command:?}: {:?} {}", ran.code, ran.said);
}

fn url(node: &Node) -> String {
    format!("http://{}", node.address)
}

/// `fanfare listen`, whose subscriptions are confirmed. `to`: a URL, or empty for the node of the settings.
fn listen(command: &mut Command, to: &str, channels: &[&str]) -> Process {
    let to: &[&str] = if to.is_empty() { &[] } else { &["--to", to] };
    let listen = Process::spawn("fanfare listen", command.arg("listen").args(channels).args(to));
    until("it listens to all", || {
        let confirmed = |channel: &&&str| listen.log().contains(&format!("listening to {channel}"));
        (channels.iter().filter(confirmed).count() == channels.len()).then_some(())
    });
    listen
}

#[test]
fn listen_prints_what_publish_says() {
    let mut node = Node::start("", &[]);
    let url = url(&node);
    let mut listen = listen(&mut command(), &url, &["news", "private-orders.1", "presence-room"]);
    let folder = Folder::new();
    let at_file = format!("@{}", folder.write("data.json", r#"{"from":"a file"}"#));
    for (channel, data, input, expected) in [
        ("news", r#"{"id": 7.0}"#, "", r#"{"id": 7.0}"#),
        ("private-orders.1", "plain text", "", r#""plain text""#),
        ("presence-room", "-", "[1,2]\n", "[1,2]"),
        ("presence-room", "-5", "", "-5"),
        ("news", &at_file, "", r#"{"from":"a file"}"#),
    ] {
        assert_eq!(well(&["publish", channel, "e", data, "--to", &url], input).out, "");
        let line = format!(r#"{{"channel":"{channel}","event":"e","data":{expected}}}"#);
        assert_eq!(listen.line().unwrap(), line);
    }
    well(&["publish", "news", "empty", "--to", &url], "");
    assert_eq!(listen.line().unwrap(), r#"{"channel":"news","event":"empty","data":{}}"#);
    // What `listen` prints, `publish` reads.
    let lines: Vec<String> = (0..250).map(|n| format!(r#"{{"channel":"news","event":"e{n}","data":[{n}]}}"#)).collect();
    let said = well(&["publish", "--lines", "--to", &url], &lines.join("\n")).said;
    assert!(said.starts_with("250 events published in "), "{said}");
    lines.iter().for_each(|line| assert_eq!(listen.line().as_ref(), Some(line)));
    node.kill();
    assert_eq!(listen.end().code(), Some(1), "the end of the connection is the end of the command");
}

#[test]
fn publish_over_redis_is_heard_by_clients() {
    let cluster = Cluster::start(1);
    let mut client = Client::on(&cluster.nodes[0], "news");
    let url = cluster.redis.url();
    well(&["publish", "news", "e", r#"{"n":1}"#, "--to", &url], "");
    assert_eq!(client.expect("e", "news").data(), json!({ "n": 1 }));
    let nobody = well(&["publish", "nobody-here", "e", "1", "--to", &url], "");
    assert!(nobody.said.contains("Nobody listens"), "{}", nobody.said);
}

#[test]
fn a_line_that_is_no_event_is_told_by_its_number() {
    let node = Node::start("", &[]);
    let lines = "{\"channel\":\"c\",\"event\":\"e\"}\n\nhello\n";
    let ran = fanfare(&["publish", "--lines", "--to", &url(&node)], lines);
    assert_eq!(ran.code, Some(1));
    assert!(ran.said.contains("1 event published") && ran.said.contains("error: line 3: "), "{}", ran.said);
    let ran = fanfare(&["publish", "--lines", "--to", &url(&node)], "{\"channel\":\"news\"}\n");
    assert!(ran.code == Some(1) && ran.said.contains("line 1"), "{:?} {}", ran.code, ran.said);
}

#[test]
fn a_node_that_refuses_is_told_from_one_that_is_not_there() {
    let node = Node::start("", &[]);
    let refused = |setting: &str, value: &str, words: &[&str], said: &str| {
        let variable = format!("FANFARE_APPS__MAIN__{setting}");
        check(command().args(words).args(["--to", &url(&node)]).env(variable, value), 4, said);
    };
    refused("SECRET", "wrong", &["publish", "c", "e"], "Refused with 401");
    refused("SECRET", "wrong", &["listen", "private-c"], "private-c: the subscription was refused");
    refused("ID", "unknown", &["publish", "c", "e"], "Refused with 404");
    refused("KEY", "unknown", &["listen", "c"], "4001");
    refused("SECRET", node::SECRET, &["publish", "c", "e", &"x".repeat(20_000)], "Too large");

    let nowhere = format!("127.0.0.1:{}", crate::support::ports::free());
    for (words, to, name) in [
        (&["publish", "c", "e"][..], "http", "http"),
        (&["publish", "c", "e"], "https", "https"),
        (&["publish", "c", "e"], "redis", "Redis at "),
        (&["listen", "c"], "http", "http"),
        (&["listen", "c"], "wss", "https"),
        (&["probe"], "http", "http"),
    ] {
        let place = if to == "redis" { format!("{name}{nowhere}") } else { format!("{name}://{nowhere}") };
        check(command().args(words).arg("--to").arg(format!("{to}://{nowhere}")), 3, &format!("Cannot reach {place}"));
    }
}

#[test]
fn health_tells_ready_from_live_from_gone() {
    let mut node = Node::start("", &[]);
    let health = |admin: &str, more: &[&str]| fanfare(&[&["health", "--to", admin], more].concat(), "");
    let admin = format!("http://{}", node.admin);
    for (more, out) in [(&[][..], "{\"status\":\"ready\"}\n"), (&["--live"], "{\"status\":\"ok\"}\n")] {
        let ran = health(&admin, more);
        assert_eq!((ran.code, &*ran.out, &*ran.said), (Some(0), out, ""));
    }
    // The client port has no such page.
    check(command().args(["health", "--to", &url(&node)]), 1, "is that the admin port of a node?");
    node.kill();
    assert_eq!(health(&admin, &[]).code, Some(3));

    // Without its first link a node is alive, and not ready.
    let waits = Node::launch(&format!("redis://127.0.0.1:{}", crate::support::ports::free()), &[]);
    let admin = format!("http://{}", waits.admin);
    assert_eq!(health(&admin, &["--live"]).code, Some(0));
    check(command().args(["health", "--to", &admin]), 1, "backplane: no first connection yet");

    // One that takes the question and says nothing is given up.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    check(command().args(["health", "--to", &silent]), 1, "gave no answer");
    check(command().args(["health", "--to", "somewhere"]), 2, "--to wants http://host:port");
    check(command().args(["health", "--admin"]), 2, "unexpected argument");
}

#[test]
fn a_probe_goes_the_whole_way() {
    let (node, other) = (Node::start("", &[]), Node::start("", &[]));
    let (to, hear) = (url(&node), url(&other));
    let out = well(&["probe", "--to", &to], "").out;
    assert!(out.starts_with(&format!("published to {to}, heard at {to} after ")), "{out}");
    // Two nodes by themselves are no cluster: published to the one, never heard at the other.
    check(command().args(["probe", "--to", &to, "--hear", &hear]), 1, "not heard at");
}

#[test]
fn commands_speak_tls_with_the_node_of_their_settings() {
    // Its issuer is trusted by nobody here, and its name is not this machine's.
    let files = Files::with(&Authority::new("private").certify_name("ws.shop.example"));
    let node = Node::start("", &files.settings());
    let ours = || {
        let mut command = command();
        command.envs(files.settings()).env("FANFARE_SERVER__LISTEN", node.address.to_string());
        command
    };
    let ran = Ran::of(ours().arg("probe"), "");
    let address = format!("https://{}", node.address);
    assert!(ran.out.starts_with(&format!("published to {address}, heard at {address} after ")), "{}", ran.said);
    let listen = listen(&mut ours(), "", &["private-orders.1"]);
    // By another name and as the other scheme: the certificate is what counts.
    for to in [address, format!("wss://localhost:{}/", node.address.port())] {
        let ran = Ran::of(ours().args(["publish", "private-orders.1", "e", "1", "--to", &to]), "");
        assert_eq!(ran.code, Some(0), "{}", ran.said);
        assert_eq!(listen.line().unwrap(), r#"{"channel":"private-orders.1","event":"e","data":1}"#);
    }
    // A certificate that cannot be read is no certificate that is trusted.
    check(ours().arg("probe").env("FANFARE_TLS__CERTIFICATE_FILE", &files.key), 3, "cannot be read");
}

/// Each way in which commands connect to a node: as who publishes, and as a client.
const WAYS: [&[&str]; 2] = [&["publish", "c", "e"], &["probe"]];

#[test]
fn who_shows_the_nodes_certificate_must_have_its_key() {
    let node = Node::start("", &[]);
    let authority = Authority::new("private");
    let [own, other] = ["ws.shop.example"; 2].map(|name| authority.certify_name(name));
    let files = Files::with(&own);
    let stolen = Pair { certificate: own.certificate.clone(), key: other.key.clone() };
    for (shown, code, said) in [(&own, 0, ""), (&stolen, 3, "no TLS"), (&other, 3, "an issuer that is not trusted")] {
        let to = format!("https://127.0.0.1:{}", Front::of(node.address.port(), shown).port);
        for words in WAYS {
            check(command().envs(files.settings()).args(words).args(["--to", &to]), code, said);
        }
    }
}

#[test]
fn a_private_authority_is_trusted_when_it_is_named() {
    let authority = Authority::new("private");
    let files = Files::with(&authority.certify());
    let trusted = files.folder.write("ca.pem", &authority.pem());
    let node = Node::start("", &files.settings());
    let named = Node::start("", &Files::with(&authority.certify_name("ws.shop.example")).settings());
    let plain = Node::start("", &[]);
    for words in WAYS {
        let ends = |to: String, trusts: &str, code: i32, said: &str| {
            check(command().args(words).args(["--to", &to]).env("SSL_CERT_FILE", trusts), code, said);
        };
        ends(format!("https://{}", node.address), "/dev/null", 3, "name the file in SSL_CERT_FILE");
        ends(format!("https://{}", node.address), &trusted, 0, "");
        ends(format!("wss://localhost:{}", node.address.port()), &trusted, 0, "");
        ends(format!("https://{}", named.address), &trusted, 3, "not valid for name");
        ends(format!("http://{}", node.address), &trusted, 4, "write https:// or wss://");
        ends(format!("https://{}", plain.address), &trusted, 3, "does not speak TLS");
    }
    let to = format!("wss://{}", node.address);
    drop(listen(command().env("SSL_CERT_FILE", &trusted), &to, &["c"]));
}

#[test]
fn words_that_make_no_sense_end_with_2() {
    for (words, said) in [
        (&["frobnicate"][..], "unrecognized subcommand"),
        (&["publish"], "<EVENT>"),
        (&["publish", "c"], "<EVENT>"),
        (&["publish", "a b", "e"], "space or control character"),
        (&["publish", "c", "e", "--to", "ftp://h"], "is not a Redis URL"),
        (&["publish", "c", "e", "--to", "somewhere"], "--to wants http://host:port, https://host or redis://host:port"),
        (&["publish", "c", "e", "--app", "none"], "there is development"),
        (&["publish", "c", "e", "@/no/such/file"], "/no/such/file"),
        (&["listen", "c", "--to", "redis://h"], "listen connects to a node"),
        (&["probe", "--to", "redis://h"], "listen connects to a node"),
    ] {
        check(bare_command().args(words), 2, said);
    }
}

#[test]
fn flags_are_checked_before_any_port_is_opened() {
    // The port is taken: a node that tried it would end with 1.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let node = ["--listen", &address, "--admin", "127.0.0.1:0", "--workers"];
    let with = |words: &[&str], code: i32, said: &str| check(bare_command().args(words), code, said);
    with(&[&node[..], &["many"]].concat(), 2, "flag --workers: server.workers: \"many\" is not a number; write");
    with(&[&node[..], &["1"]].concat(), 1, &address);
    with(&["--config", "/no/such/file"], 2, "/no/such/file: cannot be read");
    with(&["--listen", "0.0.0.0:0"], 2, "configure an app in fanfare.toml");
    with(&["check-config", "--log-level", "lots"], 2, "flag --log-level: log.level: \"lots\" is not a level");
}

#[test]
fn settings_are_checked_and_printed() {
    let ran = Ran::of(bare_command().arg("check-config"), "");
    assert!(ran.out.starts_with("The settings are good: all defaults; the development app"), "{}{}", ran.out, ran.said);
    assert!(ran.code == Some(0) && ran.said.contains("warning: redis.url: is empty"), "{}", ran.said);
    let out = well(&["print-config", "--redis-url", "redis://:hush@h"], "").out;
    assert!(out.contains("url = \"redis://:***@h\"") && out.contains("# flag --redis-url"), "{out}");
    assert!(well(&["print-config", "--defaults"], "").out.contains("\n#linger = 2\n"));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let mut command = bare_command();
    command.args(["print-config", "--docs"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), &*said), (Some(0), ""));
}

#[test]
fn wrong_settings_are_told_all_at_once_with_their_place_and_no_port_is_opened() {
    let file = std::env::temp_dir().join(format!("fanfare-{}.toml", std::process::id()));
    fs::write(&file, "[server]\nlistn = \"127.0.0.1:0\"\nworkers = \"many\"\n\n[limits]\nframe_bytes = 0\n").unwrap();
    let path = file.display().to_string();
    for words in [&["check-config", "--config", &path][..], &["--config", &path], &["serve", "--config", &path]] {
        let output = bare_command().args(words).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {told}");
        assert_eq!(output.stdout, b"");
        for part in ["listn", "listen", "workers", "frame_bytes", &format!("{path}:2"), ":3", ":6"] {
            assert!(told.contains(part), "{part} is not in: {told}");
        }
    }
    fs::remove_file(&file).unwrap();
}

#[test]
fn the_development_app_is_announced_and_never_offered_to_the_world() {
    let told = |listen: &str| {
        let mut command = bare_command();
        command.args(["check-config"]).env("FANFARE_SERVER__LISTEN", listen);
        command.output().unwrap().status.code()
    };
    assert_eq!(told("127.0.0.1:0"), Some(0));
    assert_eq!(told("0.0.0.0:0"), Some(2));
    let mut command = bare_command();
    command.env("FANFARE_SERVER__LISTEN", "127.0.0.1:0").env("FANFARE_SERVER__ADMIN", "127.0.0.1:0");
    let node = Process::spawn("fanfare", &mut command);
    let first = node.line().unwrap();
    assert!(first.starts_with("listening client="), "{first}");
    let mut missing = vec!["app-key", "app-secret", "publish"];
    while !missing.is_empty() {
        let line = node.line().unwrap_or_else(|| panic!("nothing is said of {missing:?}"));
        missing.retain(|word| !line.contains(word));
    }
}

#[test]
fn the_docs_page_is_what_the_table_prints() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let printed = well(&["print-config", "--docs"], "").out;
    let told = "fanfare print-config --docs > docs/configuration.md";
    assert!(fs::read_to_string(page).unwrap() == printed, "the page is old: {told}");
}

#[test]
fn the_example_file_changes_nothing() {
    let file = std::env::temp_dir().join(format!("fanfare-example-{}.toml", std::process::id()));
    let printed = bare_command().args(["print-config", "--defaults"]).output().unwrap().stdout;
    fs::write(&file, printed).unwrap();
    let print = |words: &[&str]| {
        let output = bare_command().arg("print-config").args(words).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let settings =
        |text: String| -> Vec<String> { text.lines().map(|line| line.split('#').next().unwrap().to_owned()).collect() };
    assert_eq!(settings(print(&["--config", file.to_str().unwrap()])), settings(print(&[])));
    fs::remove_file(&file).unwrap();
}

#[test]
fn each_setting_changed_by_the_environment_is_seen() {
    let defaults = well(&["print-config"], "").out;
    let mut section = String::new();
    let mut seen = 0;
    for line in defaults.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        }
        let Some((key, rest)) = line.split_once(" = ") else { continue };
        let value = rest.split('#').next().unwrap().trim();
        let variable = format!("FANFARE_{}__{}", section.replace('.', "__"), key).to_uppercase();
        let number = value.parse::<f64>().unwrap_or(0.0);
        let words = "127.0.0.1:4444|json|true|off|close|come_back|warn|redis://127.0.0.1:1|http://other|/other|a:b|other|zz:|chat 1 1";
        let words = words.split('|');
        let candidates = [number + 1.0, number + 0.1, number - 1.0].map(|number| number.to_string());
        let changed = candidates.iter().map(String::as_str).chain(words).any(|candidate| {
            let output = command().arg("print-config").env(&variable, candidate).output().unwrap();
            let printed = String::from_utf8(output.stdout).unwrap();
            let lines = printed.lines().filter(|now| now.starts_with(&format!("{key} = ")) && now.contains(&*variable));
            output.status.success() && lines.count() == 1
        });
        assert!(changed, "{variable} changes nothing in: {line}");
        seen += 1;
    }
    assert!(seen > 30, "{seen} settings");
}
