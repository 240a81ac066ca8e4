//! The commands from outside: what they print, what they say, how they end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// The binary in an empty folder, so that no settings file is found, and without settings of the environment.
fn fanfare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FANFARE_"));
    ours.for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.args(arguments).current_dir(env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    fanfare(arguments).output().unwrap()
}

/// Exit code, standard output, standard error.
fn parts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn check(arguments: &[&str], code: i32, error: &str) {
    let (found, _, said) = parts(&run(arguments));
    assert!(found == code && said.contains(error), "{arguments:?}: {found} {said}");
}

/// A node on free ports, killed with the value.
struct Node {
    child: Child,
    url: String,
    admin: String,
    /// Held open, so that the node can say the rest of what it says at the start.
    _out: BufReader<ChildStdout>,
}

impl Node {
    fn start() -> Self {
        Self::start_on("")
    }

    /// `redis`: a URL, or empty for a node by itself.
    fn start_on(redis: &str) -> Self {
        let mut child = fanfare(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "1"])
            .env("FANFARE_REDIS__URL", redis)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let line = first_line(&mut out);
        let url = |name| {
            let address = line.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap();
            format!("http://{address}")
        };
        Self { child, url: url("client="), admin: url("admin="), _out: out }
    }

    fn end(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

fn first_line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line
}

/// A listener whose subscriptions are confirmed.
fn listen(node: &Node, channels: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut arguments = vec!["listen", "--to", &node.url];
    arguments.extend(channels);
    let mut child = fanfare(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    for channel in channels {
        assert_eq!(first_line(&mut said), format!("listening to {channel}\n"));
    }
    let heard = BufReader::new(child.stdout.take().unwrap());
    child.stderr = Some(said.into_inner());
    (child, heard)
}

#[test]
fn what_is_published_is_heard_and_lines_can_be_passed_on() {
    let mut node = Node::start();
    let (mut listener, mut heard) = listen(&node, &["orders", "private-a", "presence-b"]);
    let publish = |arguments: &[&str]| {
        let all: Vec<&str> = ["publish", "--to", &node.url].iter().chain(arguments).copied().collect();
        let (code, out, said) = parts(&run(&all));
        assert_eq!((code, &*out), (0, ""), "{said}");
    };
    let mut hears = |line: &str| assert_eq!(first_line(&mut heard), format!("{line}\n"));
    publish(&["orders", "shipped", r#"{"id": 7.0}"#]);
    hears(r#"{"channel":"orders","event":"shipped","data":{"id": 7.0}}"#);
    publish(&["private-a", "note", "hello"]);
    hears(r#"{"channel":"private-a","event":"note","data":"hello"}"#);
    publish(&["presence-b", "number", "-5"]);
    hears(r#"{"channel":"presence-b","event":"number","data":-5}"#);
    publish(&["orders", "empty"]);
    hears(r#"{"channel":"orders","event":"empty","data":{}}"#);

    let mut lines = fanfare(&["publish", "--lines", "--to", &node.url])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = lines.stdin.take().unwrap();
    (0..50).for_each(|n| writeln!(input, "{{\"channel\":\"orders\",\"event\":\"e{n}\",\"data\":[{n}]}}").unwrap());
    drop(input);
    let (code, _, said) = parts(&lines.wait_with_output().unwrap());
    assert!(code == 0 && said.starts_with("50 events published in "), "{said}");
    (0..50).for_each(|n| hears(&format!("{{\"channel\":\"orders\",\"event\":\"e{n}\",\"data\":[{n}]}}")));

    node.end();
    assert_eq!(listener.wait().unwrap().code(), Some(1));
}

#[test]
fn a_line_that_is_no_event_is_told_by_its_number() {
    let node = Node::start();
    let mut lines = fanfare(&["publish", "--lines", "--to", &node.url])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    lines.stdin.take().unwrap().write_all(b"{\"channel\":\"c\",\"event\":\"e\"}\n\nhello\n").unwrap();
    let (code, _, said) = parts(&lines.wait_with_output().unwrap());
    assert!(code == 1 && said.contains("1 event published") && said.contains("error: line 3: "), "{said}");
}

#[test]
fn a_node_that_refuses_is_told_from_one_that_is_not_there() {
    let node = Node::start();
    let refused = |variable: &str, value: &str, arguments: &[&str], error: &str| {
        let mut command = fanfare(arguments);
        let app =
            [("FANFARE_APPS__A__ID", "app-id"), ("FANFARE_APPS__A__KEY", "app-key"), ("FANFARE_APPS__A__SECRET", "s")];
        command.envs(app).env(variable, value).args(["--to", &node.url]);
        let (code, _, said) = parts(&command.output().unwrap());
        assert!(code == 4 && said.contains(error), "{arguments:?}: {code} {said}");
    };
    let secret = ("FANFARE_APPS__A__SECRET", "wrong");
    refused(secret.0, secret.1, &["publish", "c", "e"], "Refused with 401");
    refused(secret.0, secret.1, &["listen", "private-c"], "private-c: the subscription was refused");
    refused("FANFARE_APPS__A__ID", "other", &["publish", "c", "e"], "Refused with 404");
    refused("FANFARE_APPS__A__KEY", "other", &["listen", "c"], "4001");
    let large = "x".repeat(20_000);
    refused(secret.0, "app-secret", &["publish", "c", "e", &large], "Too large");

    // Nothing listens on the first port.
    check(&["publish", "c", "e", "--to", "http://127.0.0.1:1"], 3, "Cannot reach http://127.0.0.1:1");
    check(&["publish", "c", "e", "--to", "redis://127.0.0.1:1"], 3, "Cannot reach Redis at 127.0.0.1:1");
    check(&["listen", "c", "--to", "http://127.0.0.1:1"], 3, "Cannot reach http://127.0.0.1:1");
}

#[test]
fn health_tells_ready_from_live_from_gone() {
    let mut node = Node::start();
    let health = |node: &Node, more: &[&str]| parts(&run(&[&["health", "--to", &node.admin], more].concat()));
    assert_eq!(health(&node, &[]), (0, "{\"status\":\"ready\"}\n".to_owned(), String::new()));
    assert_eq!(health(&node, &["--live"]), (0, "{\"status\":\"ok\"}\n".to_owned(), String::new()));
    // The client port has no such page.
    check(&["health", "--to", &node.url], 1, "is that the admin port of a node?");
    node.end();
    assert_eq!(health(&node, &[]).0, 3);

    // Nothing listens on that port: without its first link a node is alive, and not ready.
    let waits = Node::start_on("redis://127.0.0.1:1");
    assert_eq!(health(&waits, &["--live"]).0, 0);
    let (code, _, said) = health(&waits, &[]);
    assert!(code == 1 && said.contains("backplane: no first connection yet"), "{code} {said}");

    // One that takes the question and says nothing is given up.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    check(&["health", "--to", &format!("http://{}", silent.local_addr().unwrap())], 1, "gave no answer");
    check(&["health", "--to", "somewhere"], 2, "--to wants http://host:port");
    check(&["health", "--admin"], 2, "unexpected argument");
}

#[test]
fn a_probe_goes_the_whole_way() {
    let mut node = Node::start();
    let (code, out, said) = parts(&run(&["probe", "--to", &node.url]));
    assert!(code == 0 && out.starts_with(&format!("published to {0}, heard at {0} after ", node.url)), "{out}{said}");
    let other = Node::start();
    // Two nodes by themselves are no cluster: published to the one, never heard at the other.
    let (code, _, said) = parts(&run(&["probe", "--to", &node.url, "--hear", &other.url]));
    assert!(code == 1 && said.contains("not heard at"), "{code} {said}");
    node.end();
    check(&["probe", "--to", &node.url], 3, "Cannot reach");
    check(&["probe", "--to", &node.url, "--hear", &other.url], 3, "Cannot reach");
    check(&["probe", "--to", "redis://h"], 2, "listen connects to a node");
}

#[test]
fn words_that_make_no_sense_end_with_2() {
    check(&["frobnicate"], 2, "unrecognized subcommand");
    check(&["publish", "c"], 2, "<EVENT>");
    check(&["publish", "a b", "e"], 2, "space or control character");
    check(&["publish", "c", "e", "--to", "https://h"], 2, "https is not spoken");
    check(&["publish", "c", "e", "--to", "somewhere"], 2, "--to wants http://host:port or redis://host:port");
    check(&["publish", "c", "e", "--app", "none"], 2, "there is development");
    check(&["publish", "c", "e", "@/no/such/file"], 2, "/no/such/file");
    check(&["listen", "c", "--to", "redis://h"], 2, "listen connects to a node");
}

#[test]
fn wrong_settings_end_with_2_before_any_port_is_opened() {
    // The port is taken: a node that tried it would end with 1.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let node = ["--listen", &address, "--admin", "127.0.0.1:0", "--workers"];
    let with = |workers: &'static str| [&node[..], &[workers]].concat();
    check(&with("many"), 2, "flag --workers: server.workers: \"many\" is not a number; write");
    check(&with("1"), 1, &address);
    check(&["--config", "/no/such/file"], 2, "/no/such/file: cannot be read");
    check(&["--listen", "0.0.0.0:0"], 2, "configure an app in fanfare.toml");
    check(&["check-config", "--log-level", "lots"], 2, "flag --log-level: log.level: \"lots\" is not a level");
}

#[test]
fn settings_are_checked_and_printed() {
    let (code, out, said) = parts(&run(&["check-config"]));
    assert!(code == 0 && out.starts_with("The settings are good: all defaults; the development app"), "{out}{said}");
    assert!(said.contains("warning: redis.url: is empty"), "{said}");
    let (code, out, _) = parts(&run(&["print-config", "--redis-url", "redis://:hush@h"]));
    assert!(code == 0 && out.contains("url = \"redis://:***@h\"") && out.contains("# flag --redis-url"), "{out}");
    let (code, out, _) = parts(&run(&["print-config", "--docs"]));
    assert!(code == 0 && out.starts_with("# Configuration\n"));
    let (code, out, _) = parts(&run(&["print-config", "--defaults"]));
    assert!(code == 0 && out.contains("\n#linger = 2\n"));
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let mut child = fanfare(&["print-config", "--docs"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), &*said), (Some(0), ""));
}
