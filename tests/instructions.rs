//! What the hot paths cost in instructions of the node's own, counted by callgrind: a regression check that the machine's noise cannot
//! reach. One operation at a time, each waited for, so that every run does the same.
//!
//! The figures stand in `tests/instructions.txt`. One that is off by more than [`TOLERANCE`] fails, in both directions: what became
//! cheaper is to be kept. When a change is wanted, write them anew:
//!
//! ```sh
//! FANFARE_RENEW_INSTRUCTIONS=1 cargo test -p tests --test all -- instructions
//! ```

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::folder::Folder;
use crate::support::http::APPLICATION;
use crate::support::prelude::*;
use crate::support::socket_io::{Engine, Wire};

/// Largest difference to the written figure, in percent. Runs on one machine differ by less than 2.5, also with both cores loaded; another
/// CPU has other ways to copy memory.
const TOLERANCE: f64 = 6.0;

const SUBSCRIBERS: usize = 100;
/// Operations that are counted together.
const TIMES: u64 = 100;

/// A node under callgrind.
struct Counted {
    node: Node,
    folder: Folder,
    dumps: u32,
}

impl Counted {
    fn start() -> Self {
        let folder = Folder::new();
        let output = folder.path().join("counts");
        let words = ["--tool=callgrind", &format!("--callgrind-out-file={}", output.display())];
        let settings = [
            ("FANFARE_SERVER__WORKERS", "1"),
            // A pace or a limit would only make it wait.
            ("FANFARE_LIMITS__ACCEPTS_PER_SECOND", "0"),
            ("FANFARE_APPS__MAIN__CLIENT_EVENTS_PER_SECOND", "0"),
        ];
        Self { node: Node::under("valgrind", &words, &settings), folder, dumps: 0 }
    }

    /// Instructions of one of [`TIMES`] operations.
    fn count(&mut self, work: impl FnOnce(&Node)) -> u64 {
        self.tell("zero");
        work(&self.node);
        self.dumps += 1;
        self.tell("dump");
        let dump = self.folder.path().join(format!("counts.{}", self.dumps));
        let total = until("the counts are written", || {
            let text = fs::read_to_string(&dump).ok()?;
            text.lines().find_map(|line| line.strip_prefix("totals: ")?.parse::<u64>().ok())
        });
        total / TIMES
    }

    fn tell(&self, order: &str) {
        let told = Command::new("vgdb").arg(format!("--pid={}", self.node.id())).arg(order).output();
        let told = told.expect("vgdb comes with valgrind; `cargo xtask test` installs it");
        assert!(told.status.success(), "{order}: {}", String::from_utf8_lossy(&told.stderr));
    }
}

/// Publishes and waits until all have it.
fn publish(node: &Node, subscribers: &mut [Client], data: &str) {
    let body = json!({ "name": "counted", "channels": ["crowd"], "data": data }).to_string();
    assert_eq!(APPLICATION.post(node.address, "events", &body).status, 200);
    for subscriber in subscribers {
        subscriber.expect("counted", "crowd");
    }
}

fn measure() -> Vec<(&'static str, u64)> {
    let mut counted = Counted::start();
    let mut counts = Vec::new();
    let mut subscribers: Vec<Client> = Vec::new();
    // The first of everything costs more.
    Client::on(&counted.node, "crowd").ping();
    let connect = |node: &Node| subscribers.extend((0..SUBSCRIBERS).map(|_| Client::on(node, "crowd")));
    counts.push(("connect, upgrade and subscribe", counted.count(connect)));
    publish(&counted.node, &mut subscribers, "x");
    for (name, bytes) in [("event of 200 B to 100 subscribers", 200), ("event of 2 KiB to 100 subscribers", 2_048)] {
        let data = "x".repeat(bytes);
        counts.push((name, counted.count(|node| (0..TIMES).for_each(|_| publish(node, &mut subscribers, &data)))));
    }
    let body = json!({ "name": "counted", "channels": ["nobody"], "data": "{\"id\":7}" }).to_string();
    let unheard = |node: &Node| {
        for _ in 0..TIMES {
            assert_eq!(APPLICATION.post(node.address, "events", &body).status, 200);
        }
    };
    counts.push(("connection and signed publish to nobody", counted.count(unheard)));
    let restless = &mut subscribers[0];
    let change = |_: &Node| {
        for _ in 0..TIMES {
            restless.subscribe("other");
            restless.unsubscribe("other");
            restless.ping();
        }
    };
    counts.push(("subscribe, unsubscribe and ping", counted.count(change)));
    let (mut ann, mut bob) = (Client::connect(&counted.node), Client::connect(&counted.node));
    ann.subscribe("private-talk");
    bob.subscribe("private-talk");
    let whisper = |_: &Node| {
        for _ in 0..TIMES {
            ann.socket.send(r#"{"event":"client-hum","channel":"private-talk","data":{"on":true}}"#);
            bob.expect("client-hum", "private-talk");
        }
    };
    counts.push(("client event to one other", counted.count(whisper)));
    measure_socket_io(&mut counted, &mut counts);
    counts
}

/// The same for clients of Socket.IO, whose events are as long as Pusher's but for the names around them.
fn measure_socket_io(counted: &mut Counted, counts: &mut Vec<(&'static str, u64)>) {
    let mut wires: Vec<Wire> = Vec::new();
    let come = |node: &Node| {
        let mut wire = Wire::connect(node, Engine::Four);
        wire.subscribe("wires");
        // A subscribe is answered by nothing, but for one that cannot be.
        wire.subscribe("no channel");
        assert_eq!(wire.event()[0], "subscription_error");
        wire
    };
    let subscriptions = |node: &Node| node.metric("fanfare_subscriptions", &[]);
    let before = subscriptions(&counted.node) + 1.0;
    wires.push(come(&counted.node));
    until("the first is subscribed", || (subscriptions(&counted.node) == before).then_some(()));
    counts.push((
        "Socket.IO: connect, upgrade and subscribe",
        counted.count(|node| wires.extend((0..SUBSCRIBERS).map(|_| come(node)))),
    ));
    let all = before + SUBSCRIBERS as f64;
    until("they are subscribed", || (subscriptions(&counted.node) == all).then_some(()));
    wires.truncate(SUBSCRIBERS);
    let data = "x".repeat(200);
    let body = json!({ "name": "counted", "channels": ["wires"], "data": data }).to_string();
    let mut publish = |node: &Node| {
        assert_eq!(APPLICATION.post(node.address, "events", &body).status, 200);
        wires.iter_mut().for_each(|wire| assert_eq!(wire.event()[0], "counted"));
    };
    publish(&counted.node);
    let told = counted.count(|node| (0..TIMES).for_each(|_| publish(node)));
    counts.push(("Socket.IO: event of 200 B to 100 subscribers", told));
}

#[test]
fn the_hot_paths_cost_what_is_written_down() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("instructions.txt");
    let counts = measure();
    let lines: String = counts.iter().map(|(name, count)| format!("{count:>10}  {name}\n")).collect();
    println!("{lines}");
    if std::env::var_os("FANFARE_RENEW_INSTRUCTIONS").is_some() {
        return fs::write(file, lines).unwrap();
    }
    let text = fs::read_to_string(&file).unwrap();
    let written = |name: &str| {
        let lines = text.lines().filter_map(|line| line.trim_start().split_once("  "));
        let found = lines.into_iter().find(|(_, own)| *own == name);
        found.unwrap_or_else(|| panic!("no figure for {name:?}")).0.parse::<f64>().unwrap()
    };
    let off = |(name, count): &(&str, u64)| {
        let percent = (*count as f64 / written(name) - 1.0) * 100.0;
        (percent.abs() > TOLERANCE).then(|| format!("{name}: {count}, {percent:+.1} % of what is written"))
    };
    let off: Vec<String> = counts.iter().filter_map(off).collect();
    assert!(off.is_empty(), "{off:#?}; if that is wanted, the head of tests/instructions.rs says how to write it down");
}
