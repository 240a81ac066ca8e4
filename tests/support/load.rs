//! The numbered load: publishers that count, by the signed HTTP API of each node and straight into Redis in Laravel's
//! format.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

use super::crowd::Door;
use super::http;
use super::node::PREFIX;
use super::wait::until;

/// What is published by nodes, and what past them.
pub(crate) const NEWS: &str = "news";
pub(crate) const ORDERS: &str = "orders";
/// What is published by nodes and kept, where nodes are told to.
pub(crate) const KEPT: &str = "kept";
/// The event that carries a number.
pub(crate) const EVENT: &str = "numbered";
/// How long a publisher that was told to stop tries to have its last event taken.
const LAST_WORDS: Duration = Duration::from_secs(40);

/// How a source publishes.
enum Road {
    /// By the signed API of whoever is behind this door, one request after the other.
    Api(Door),
    /// By PUBLISH on the server behind this door, without waiting for the answers.
    Redis(Door),
}

/// Who publishes, and what became of it. Numbers begin with 0.
pub(crate) struct Source {
    road: Road,
    pub(crate) channel: &'static str,
    pause: Duration,
    /// The first number that was not begun.
    next: AtomicU64,
    /// What was not answered with yes, and the status of the answer (0: none, or not by HTTP): nobody is promised it, and
    /// it may have happened all the same.
    refused: Mutex<BTreeMap<u64, u16>>,
    /// The last number, once it is over.
    last: AtomicU64,
}

impl Source {
    /// By the API, `pause` after each answer.
    pub(crate) fn by_api(door: &Door, channel: &'static str, pause: Duration) -> Self {
        Self::new(Road::Api(door.clone()), channel, pause)
    }

    /// Past all nodes, `pause` after each event.
    pub(crate) fn past_nodes(redis: &Door, channel: &'static str, pause: Duration) -> Self {
        Self::new(Road::Redis(redis.clone()), channel, pause)
    }

    fn new(road: Road, channel: &'static str, pause: Duration) -> Self {
        let (next, refused, last) = Default::default();
        Self { road, channel, pause, next, refused, last }
    }

    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::SeqCst)
    }

    /// The statuses of what was not taken.
    pub(crate) fn refused(&self) -> Vec<u16> {
        self.refused.lock().unwrap().values().copied().collect()
    }

    /// How many of these numbers were answered with yes.
    pub(crate) fn taken(&self, from: u64, to: u64) -> u64 {
        let refused = self.refused.lock().unwrap();
        to.saturating_sub(from) - refused.range(from..to.max(from)).count() as u64
    }

    fn refuse(&self, number: u64, status: u16) {
        self.refused.lock().unwrap().insert(number, status);
    }
}

pub(crate) type Sources = Arc<[Source]>;

pub(crate) struct Load {
    pub(crate) sources: Sources,
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    /// After one more event that was taken.
    soon: AtomicBool,
    now: AtomicBool,
}

impl Load {
    /// Ready, and silent.
    pub(crate) fn of(sources: Vec<Source>) -> Self {
        Self { sources: sources.into(), stop: Arc::default(), threads: Vec::new() }
    }

    pub(crate) fn begin(&mut self) {
        self.threads = (0..self.sources.len())
            .map(|index| {
                let (sources, stop) = (self.sources.clone(), self.stop.clone());
                thread::spawn(move || match sources[index].road {
                    Road::Api(ref door) => by_api(index, &sources[index], door, &stop),
                    Road::Redis(ref door) => by_redis(index, &sources[index], door, &stop),
                })
            })
            .collect();
    }

    /// Each source ends with an event that was taken.
    pub(crate) fn end(&mut self) {
        self.stop.soon.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().expect("a publisher had its last event taken");
        }
    }

    /// Waits until each source has begun so many more events.
    pub(crate) fn run(&self, events: u64) {
        let aims: Vec<u64> = self.sources.iter().map(|source| source.next() + events).collect();
        until("publishers publish", || {
            self.sources.iter().zip(&aims).all(|(source, aim)| source.next() >= *aim).then_some(())
        });
    }

    /// Events that were answered with yes.
    pub(crate) fn taken(&self) -> u64 {
        self.sources.iter().map(|source| source.taken(0, source.next())).sum()
    }

    /// How many were answered with which status instead; 0: not at all, or not by HTTP.
    pub(crate) fn refused(&self) -> BTreeMap<u16, u64> {
        let mut counts = BTreeMap::new();
        self.sources.iter().flat_map(Source::refused).for_each(|status| *counts.entry(status).or_default() += 1);
        counts
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.now.store(true, Ordering::SeqCst);
    }
}

fn by_api(index: usize, source: &Source, door: &Door, stop: &Stop) {
    let mut over = None;
    while !stop.now.load(Ordering::SeqCst) {
        let is_last = stop.soon.load(Ordering::SeqCst);
        let number = source.next.fetch_add(1, Ordering::SeqCst);
        let data = json!({ "from": index, "n": number }).to_string();
        let event = json!({ "name": EVENT, "channel": source.channel, "data": data }).to_string();
        let status = door.pick().map_or(0, |node| http::APPLICATION.post(node, "events", &event).status);
        if status != 200 {
            source.refuse(number, status);
        } else if is_last {
            return source.last.store(number, Ordering::SeqCst);
        }
        give_up_late(is_last, &mut over);
        thread::sleep(source.pause);
    }
}

/// True when it was answered 200.
pub(crate) fn publishes(node: SocketAddr, event: &str) -> bool {
    http::APPLICATION.post(node, "events", event).status == 200
}

fn give_up_late(is_last: bool, over: &mut Option<Instant>) {
    if is_last {
        assert!(over.get_or_insert_with(Instant::now).elapsed() < LAST_WORDS, "nobody takes the last event");
    }
}

/// One connection's answers come in the order of its commands.
fn by_redis(index: usize, source: &Source, door: &Door, stop: &Stop) {
    let mut over = None;
    while !stop.now.load(Ordering::SeqCst) {
        if let Some(stream) = door.pick().and_then(|server| TcpStream::connect(server).ok()) {
            stream.set_nodelay(true).unwrap();
            let first = source.next();
            let answers = BufReader::new(stream.try_clone().unwrap());
            let answered = thread::scope(|scope| {
                let reading = scope.spawn(|| count_answers(answers, source, first));
                send_all(index, source, &stream, stop);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                reading.join().unwrap()
            });
            let begun = source.next();
            (first + answered..begun).for_each(|number| source.refuse(number, 0));
            if stop.soon.load(Ordering::SeqCst) && begun > first && first + answered == begun {
                return source.last.store(begun - 1, Ordering::SeqCst);
            }
        }
        give_up_late(stop.soon.load(Ordering::SeqCst), &mut over);
        thread::sleep(source.pause);
    }
}

/// Until it is told to stop, or the connection is lost.
fn send_all(index: usize, source: &Source, mut stream: &TcpStream, stop: &Stop) {
    let topic = format!("{PREFIX}{}", source.channel);
    loop {
        let is_last = stop.soon.load(Ordering::SeqCst) || stop.now.load(Ordering::SeqCst);
        let number = source.next.fetch_add(1, Ordering::SeqCst);
        let body = format!(r#"{{"event":"{EVENT}","data":{{"from":{index},"n":{number}}},"socket":null}}"#);
        let words = ["PUBLISH", &topic, &body].map(|word| format!("${}\r\n{word}\r\n", word.len())).concat();
        if stream.write_all(format!("*3\r\n{words}").as_bytes()).is_err() || is_last {
            return;
        }
        thread::sleep(source.pause);
    }
}

/// How many answers came before the connection ended; errors among them are noted.
fn count_answers(answers: impl BufRead, source: &Source, first: u64) -> u64 {
    let mut count = 0;
    for line in answers.lines().map_while(Result::ok) {
        if !line.starts_with(':') {
            source.refuse(first + count, 0);
        }
        count += 1;
    }
    count
}
