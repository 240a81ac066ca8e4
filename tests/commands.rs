//! What a person types: `fanfare publish`, `listen`, `check-config`, `print-config`, and their exit codes.

use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};

use crate::support::node::{bare_command, command};
use crate::support::prelude::*;
use crate::support::process::Process;

/// Runs the binary with the tests' settings.
fn fanfare(words: &[&str], input: &str) -> Output {
    let mut child = command()
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the release binary is there");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Runs it and expects it to do what it is asked.
fn well(words: &[&str], input: &str) -> String {
    let output = fanfare(words, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?} {}: {errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The exit code and what it says about it.
fn fails(words: &[&str], input: &str) -> (Option<i32>, String) {
    let output = fanfare(words, input);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn listen_prints_what_publish_says() {
    let node = Node::start("", &[]);
    let url = format!("http://{}", node.address);
    let words = ["listen", "news", "private-orders.1", "presence-room", "--to", &url];
    let listen = Process::spawn("fanfare listen", command().args(words));
    until("it listens to all three", || {
        (listen.log().iter().filter(|line| line.starts_with("listening to")).count() == 3).then_some(())
    });
    let heard = || serde_json::from_str::<Value>(&listen.line().expect("a line")).expect("JSON");
    let file = std::env::temp_dir().join(format!("fanfare-{}.json", std::process::id()));
    fs::write(&file, r#"{"from":"a file"}"#).unwrap();
    let at_file = format!("@{}", file.display());
    for (channel, data, input, expected) in [
        ("news", r#"{"n":1}"#, "", json!({ "n": 1 })),
        ("private-orders.1", "plain text", "", json!("plain text")),
        ("presence-room", "-", "[1,2]\n", json!([1, 2])),
        ("news", &at_file, "", json!({ "from": "a file" })),
    ] {
        well(&["publish", channel, "e", data, "--to", &url], input);
        assert_eq!(heard(), json!({ "channel": channel, "event": "e", "data": expected }));
    }
    fs::remove_file(&file).unwrap();
    let line = |number: usize| json!({ "channel": "news", "event": "e", "data": number }).to_string();
    let lines: Vec<String> = (0..250).map(line).collect();
    well(&["publish", "--lines", "--to", &url], &lines.join("\n"));
    (0..250).for_each(|number| assert_eq!(heard()["data"], number));
}

#[test]
fn publish_over_redis_is_heard_by_clients() {
    let cluster = Cluster::start(1);
    let mut client = Client::on(&cluster.nodes[0], "news");
    let url = cluster.redis.url();
    well(&["publish", "news", "e", r#"{"n":1}"#, "--to", &url], "");
    assert_eq!(client.expect("e", "news").data(), json!({ "n": 1 }));
    let nobody = fanfare(&["publish", "nobody-here", "e", "1", "--to", &url], "");
    assert!(nobody.status.success());
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("Nobody listens"));
}

#[test]
fn exit_codes_tell_scripts_what_went_wrong() {
    let node = Node::start("", &[("FANFARE_APPS__MAIN__SECRET", "another secret than the command has")]);
    let url = format!("http://{}", node.address);
    let nowhere = format!("http://127.0.0.1:{}", crate::support::ports::free());
    let code = |words: &[&str]| fails(words, "").0;
    assert_eq!(code(&["publish", "news", "e", "1", "--to", &nowhere]), Some(3));
    assert_eq!(code(&["listen", "news", "--to", &nowhere]), Some(3));
    assert_eq!(code(&["publish", "news", "e", "1", "--to", &url]), Some(4));
    assert_eq!(code(&["listen", "private-x", "--to", &url]), Some(4));
    assert_eq!(code(&["publish", "a b", "e", "1", "--to", &url]), Some(2));
    assert_eq!(code(&["publish"]), Some(2));
    assert_eq!(code(&["nonsense"]), Some(2));
    let (code, told) = fails(&["publish", "--lines", "--to", &url], "{\"channel\":\"news\"}\n");
    assert!(code == Some(1) && told.contains("line 1"), "{code:?} {told}");
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
    let printed = well(&["print-config", "--docs"], "");
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
    let defaults = well(&["print-config"], "");
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
        let words =
            "127.0.0.1:4444 json true off close come_back warn redis://127.0.0.1:1 http://other other zz:".split(' ');
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
