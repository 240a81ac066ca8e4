//! The compose file brought up for real: the image built from its Dockerfile, three nodes behind HAProxy on one Redis, events
//! from one to the others, a node killed and a node drained under load, and all of it stopped.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::shell::{self, Result};
use crate::socket::{Heard, Socket};
use crate::tools;

/// As docker-compose.yml names it.
const IMAGE: &str = "docker.io/library/fanfare:0.1.0";
const LARAVEL: &str = "docker.io/library/fanfare-laravel:0.1.0";
const IMAGE_MAX: u64 = 20 * 1024 * 1024;

/// Sockets under load, and the time between two events.
const SOCKETS: usize = 60;
const PACE: Duration = Duration::from_millis(5);

/// Longest a client may be without a node after it lost its own.
const BACK_WITHIN: Duration = Duration::from_secs(5);

pub(crate) fn run() -> Result<()> {
    // Free now; nobody else is likely to take it before the load balancer does.
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    drop(listener);
    let mut engine = Engine::prepare(address.port())?;
    let mut seen = Vec::new();
    lint(&engine)?;
    image(&engine, &mut seen)?;
    engine.build_laravel(LARAVEL)?;
    engine.start()?;
    // What an earlier run left behind.
    clear(&engine);
    let done = cluster(&engine, address, &mut seen);
    if done.is_err() {
        let _ = shell::run(&mut engine.compose(&["logs", "--tail", "20"]));
    }
    clear(&engine);
    println!("\ncompose-check saw:");
    seen.iter().for_each(|line| println!("- {line}"));
    done
}

/// Takes all containers and networks away. Nothing there is as good.
fn clear(engine: &Engine) {
    let mut down = engine.compose(&["--profile", "laravel", "down", "--timeout", "2", "--remove-orphans"]);
    let _ = down.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Everything that its own program can read without running it; the samples for machines without containers too.
fn lint(engine: &Engine) -> Result<()> {
    for sample in ["deploy/haproxy/compose.cfg", "deploy/haproxy/haproxy.cfg"] {
        shell::run(&mut shell::command(&["haproxy", "-c", "-f", sample]))?;
    }
    let nginx = shell::root().join("deploy/nginx/nginx.conf").display().to_string();
    shell::run(&mut shell::command(&["nginx", "-q", "-t", "-c", &nginx]))?;
    let hadolint = tools::program("hadolint")?.display().to_string();
    shell::run(&mut shell::command(&[&hadolint, "deploy/Dockerfile", "deploy/laravel/Dockerfile"]))?;
    shell::run(&mut engine.compose(&["--profile", "laravel", "config", "--quiet"]))
}

/// Builds it, and looks at it from outside.
fn image(engine: &Engine, seen: &mut Vec<String>) -> Result<()> {
    let began = Instant::now();
    engine.build(IMAGE)?;
    let took = began.elapsed().as_secs();
    let size: u64 = engine.ask(&["image", "inspect", "--format", "{{.Size}}", IMAGE])?.parse().unwrap_or(u64::MAX);
    let user = engine.ask(&["image", "inspect", "--format", "{{.Config.User}}", IMAGE])?;
    if size > IMAGE_MAX || user != "65532:65532" {
        return Err(format!("the image has {size} bytes, at most {IMAGE_MAX} are meant, and runs as `{user}`"));
    }
    let start = ["run", "--rm", "--network", "none"];
    for (words, why) in [
        (&["--entrypoint", "/bin/sh", IMAGE][..], "has a shell"),
        (&[IMAGE][..], "starts with no app, open to all addresses"),
    ] {
        if engine.ask(&[&start[..], words].concat()).is_ok() {
            return Err(format!("the image {why}"));
        }
    }
    let megabytes = size as f64 / 1e6;
    seen.push(format!("the image, built in {took} s: {megabytes:.1} MB, user {user}, no shell, no app by default"));
    Ok(())
}

fn cluster(engine: &Engine, address: SocketAddr, seen: &mut Vec<String>) -> Result<()> {
    let began = Instant::now();
    shell::run(&mut engine.compose(&["up", "--no-build", "--detach", "--wait"]))?;
    seen.push(format!("three nodes, Redis and HAProxy healthy after {:.1} s", began.elapsed().as_secs_f64()));
    for (from, to) in [(1, 2), (1, 3), (2, 3), (3, 1)] {
        let (to, from) = (node_url(to), node_url(from));
        let (tries, said) = settled(engine, &["exec", &node(1), "/fanfare", "probe", "--to", &from, "--hear", &to])?;
        let again =
            if tries > 1 { format!(" (try {tries}: the names of new containers take a while)") } else { String::new() };
        seen.push(format!("{said}{again}"));
    }
    laravel(engine, address, seen)?;
    let load = Load::start(engine, address)?;
    load.wait_until_all_hear()?;
    std::thread::sleep(Duration::from_secs(2));
    load.without_a_node("killed", || engine.ask(&["kill", "--signal", "KILL", &node(2)]), seen)?;
    engine.ask(&["start", &node(2)])?;
    wait_until_healthy(engine, 2)?;
    load.without_a_node("stopped, with its drain,", || engine.ask(&["stop", "--time", "40", &node(3)]), seen)?;
    let code = exit_code(engine, 3)?;
    seen.push(format!("the stopped node ended with code {code}"));
    load.end(seen)?;
    stop(engine, code, seen)
}

/// What the profile's Laravel broadcasts is heard through the load balancer.
fn laravel(engine: &Engine, address: SocketAddr, seen: &mut Vec<String>) -> Result<()> {
    let patience = Duration::from_secs(20);
    let mut socket = Socket::open(address, "/?channels=orders", patience).ok_or("no WebSocket at the load balancer")?;
    shell::run(&mut engine.compose(&["--profile", "laravel", "up", "--no-build", "--no-deps", "--detach", "laravel"]))?;
    let event = loop {
        match socket.next() {
            Heard::Text(text) if text.starts_with(r#"{"type":"event""#) => break text,
            Heard::Text(_) => {}
            other => return Err(format!("waiting for what Laravel broadcasts: {other:?}")),
        }
    };
    seen.push(format!("Laravel's `redis` broadcaster, heard through the load balancer: {event}"));
    engine.ask(&["stop", "--time", "5", "fanfare-laravel-1"]).map(drop)
}

/// The answer, and the number of tries. Podman's DNS loses questions while containers start, each for 5 s.
fn settled(engine: &Engine, words: &[&str]) -> Result<(usize, String)> {
    let mut tries = 1;
    loop {
        match engine.ask(words) {
            Ok(said) => return Ok((tries, said)),
            Err(_) if tries < 5 => tries += 1,
            Err(why) => return Err(why),
        }
    }
}

fn wait_until_healthy(engine: &Engine, number: usize) -> Result<()> {
    let began = Instant::now();
    while engine.ask(&["inspect", "--format", "{{.State.Health.Status}}", &node(number)])? != "healthy" {
        if began.elapsed() > Duration::from_secs(30) {
            return Err(format!("node {number}, started again, is not healthy after 30 s"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn stop(engine: &Engine, code: i32, seen: &mut Vec<String>) -> Result<()> {
    let began = Instant::now();
    shell::run(&mut engine.compose(&["stop"]))?;
    let codes = [1, 2].map(|number| exit_code(engine, number)).into_iter().collect::<Result<Vec<_>>>()?;
    seen.push(format!("stopped in {:.1} s, the nodes with codes {codes:?}", began.elapsed().as_secs_f64()));
    if code != 0 || codes.iter().any(|code| *code != 0) {
        return Err("a node that is stopped ends with code 0".into());
    }
    Ok(())
}

fn node(number: usize) -> String {
    format!("fanfare-fanfare-{number}")
}

fn node_url(number: usize) -> String {
    format!("http://{}:8080", node(number))
}

fn exit_code(engine: &Engine, number: usize) -> Result<i32> {
    let code = engine.ask(&["inspect", "--format", "{{.State.ExitCode}}", &node(number)])?;
    code.parse().map_err(|_| format!("{code} is no exit code"))
}

/// Sockets that count what they hear, and a publisher that counts what it says.
struct Load {
    publisher: Child,
    sayer: JoinHandle<u64>,
    listeners: Vec<JoinHandle<Vec<String>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    /// Sockets that hear events at this moment.
    hearing: AtomicU64,
    heard: AtomicU64,
    /// Sockets whose line ended without and with a goodbye.
    cut: AtomicU64,
    goodbyes: AtomicU64,
    /// The longest that one was without a node, in milliseconds.
    away: AtomicU64,
}

impl Load {
    /// The events go in at the first node, which outlives all that happens to the others.
    fn start(engine: &Engine, address: SocketAddr) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut publish = engine.podman(&["exec", "--interactive", &node(1), "/fanfare", "publish", "--lines"]);
        publish.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut publisher = publish.spawn().map_err(|error| format!("podman: {error}"))?;
        let mut input = publisher.stdin.take().expect("piped above");
        let over = shared.clone();
        let sayer = std::thread::spawn(move || {
            let mut number = 0;
            while !over.over.load(Relaxed) {
                number += 1;
                if writeln!(input, r#"{{"channel":"load","event":"e","data":{number}}}"#).is_err() {
                    break;
                }
                std::thread::sleep(PACE);
            }
            number
        });
        let listen = |_| {
            let shared = shared.clone();
            std::thread::spawn(move || listener(address, &shared))
        };
        let listeners = (0..SOCKETS).map(listen).collect();
        Ok(Self { publisher, sayer, listeners, shared })
    }

    fn wait_until_all_hear(&self) -> Result<()> {
        let began = Instant::now();
        while self.shared.hearing.load(Relaxed) < SOCKETS as u64 {
            if began.elapsed() > Duration::from_secs(20) {
                let hearing = self.shared.hearing.load(Relaxed);
                return Err(format!("{hearing} of {SOCKETS} sockets hear events after 20 s"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Takes a node away, and waits until its clients are elsewhere.
    fn without_a_node(&self, how: &str, go: impl FnOnce() -> Result<String>, seen: &mut Vec<String>) -> Result<()> {
        let count = || (self.shared.cut.swap(0, Relaxed), self.shared.goodbyes.swap(0, Relaxed));
        count();
        self.shared.away.store(0, Relaxed);
        go()?;
        // A client takes a moment to see that its line has ended.
        std::thread::sleep(Duration::from_millis(500));
        self.wait_until_all_hear()?;
        let ((cut, goodbyes), away) = (count(), self.shared.away.load(Relaxed));
        seen.push(format!(
            "a node {how} under load: of {SOCKETS} sockets {cut} were cut and {goodbyes} asked to reconnect; \
             the slowest heard events again after {away} ms"
        ));
        if cut + goodbyes == 0 || u128::from(away) > BACK_WITHIN.as_millis() {
            return Err("the clients of a node that goes are to be elsewhere soon".into());
        }
        Ok(())
    }

    fn end(mut self, seen: &mut Vec<String>) -> Result<()> {
        self.shared.over.store(true, Relaxed);
        let said = self.sayer.join().map_err(|_| "the publisher panicked")?;
        let wrong: Vec<String> =
            self.listeners.into_iter().flat_map(|listener| listener.join().unwrap_or_default()).collect();
        let status = self.publisher.wait().map_err(|error| error.to_string())?;
        let heard = self.shared.heard.load(Relaxed);
        seen.push(format!(
            "{said} events published through one node, {heard} heard by {SOCKETS} sockets on all; on no connection \
             one was missed, doubled or out of order: {}",
            wrong.is_empty()
        ));
        match (wrong.first(), status.success()) {
            (Some(first), _) => Err(format!("{first} (and {} more)", wrong.len() - 1)),
            (None, false) => Err(format!("the publisher ended with {status}")),
            (None, true) => Ok(()),
        }
    }
}

/// One client: connects through the load balancer, and again when its line ends. Gives what was wrong.
fn listener(address: SocketAddr, shared: &Shared) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut lost: Option<Instant> = None;
    while !shared.over.load(Relaxed) {
        let Some(mut socket) = Socket::open(address, "/?channels=load", Duration::from_secs(10)) else {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        let mut last = None;
        let goodbye = loop {
            match socket.next() {
                Heard::Text(text) => {
                    let Some(number) = number(&text) else { continue };
                    if last.is_none() {
                        let away = lost.map_or(0, |lost| lost.elapsed().as_millis() as u64);
                        shared.away.fetch_max(away, Relaxed);
                        shared.hearing.fetch_add(1, Relaxed);
                    }
                    if last.is_some_and(|last: u64| last + 1 != number) {
                        wrong.push(format!("{number} came after {last:?}"));
                    }
                    last = Some(number);
                    shared.heard.fetch_add(1, Relaxed);
                }
                Heard::Close(4200..=4299) => break true,
                Heard::Close(code) => {
                    wrong.push(format!("closed with {code}"));
                    break true;
                }
                Heard::End => break false,
                Heard::Silence if shared.over.load(Relaxed) => return wrong,
                Heard::Silence => wrong.push("silence for 10 s".to_owned()),
            }
            if shared.over.load(Relaxed) {
                return wrong;
            }
        };
        lost = Some(Instant::now());
        if last.is_some() {
            shared.hearing.fetch_sub(1, Relaxed);
        }
        if goodbye { &shared.goodbyes } else { &shared.cut }.fetch_add(1, Relaxed);
    }
    wrong
}

/// The number that an event carries; `None` for what is no event.
fn number(text: &str) -> Option<u64> {
    let data = text.strip_prefix(r#"{"type":"event","#)?.split_once(r#""data":"#)?.1;
    data.trim_end_matches('}').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_carries_its_number_and_nothing_else_does() {
        assert_eq!(number(r#"{"type":"event","channel":"load","event":"e","data":12}"#), Some(12));
        assert_eq!(number(r#"{"type":"subscribed","channel":"load"}"#), None);
    }
}
