//! What becomes of a link that is held up, dead at the other end, or taken over by another.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Settings;
use super::tests::{Server, gaps, site, until};
use crate::LinkStatus;
use crate::conformance::{Site, key};

/// What a proxy holds back. What is held comes when it no longer is.
#[derive(Clone, Default)]
struct Rule {
    /// All of connections with a lower number.
    below: u64,
    /// The marker of a handover.
    marker: bool,
    /// What the server says to a connection that sent the marker.
    marked: bool,
    refuse: bool,
}

/// Between a node and Redis.
struct Proxy {
    port: u16,
    rule: Arc<watch::Sender<Rule>>,
    /// Connections so far.
    connections: watch::Receiver<u64>,
}

impl Proxy {
    async fn before(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, to) = (listener.local_addr().unwrap().port(), server.port);
        let rule = Arc::new(watch::Sender::new(Rule::default()));
        let (count, connections) = watch::channel(0);
        let rules = rule.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if rules.borrow().refuse {
                    continue;
                }
                let number = *count.borrow();
                count.send_replace(number + 1);
                let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { continue };
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                let marked = Arc::new(AtomicBool::new(false));
                let marks = marked.clone();
                let up = move |bytes: &[u8], rule: &Rule| {
                    let marker = bytes.windows(7).any(|word| word == b"marker ");
                    marks.fetch_or(marker, Ordering::SeqCst);
                    marker && rule.marker
                };
                let down = move |_: &[u8], rule: &Rule| rule.marked && marked.load(Ordering::SeqCst);
                tokio::spawn(pass(number, near_in, far_out, rules.subscribe(), up));
                tokio::spawn(pass(number, far_in, near_out, rules.subscribe(), down));
            }
        });
        Self { port, rule, connections }
    }

    fn settings(&self, server: &Server) -> Settings {
        Settings { url: Secret::new(&format!("redis://127.0.0.1:{}", self.port)), ..server.settings() }
    }

    fn set(&self, change: impl FnOnce(&mut Rule)) {
        self.rule.send_modify(change);
    }

    /// Holds all connections that there are.
    fn hold(&self) {
        self.set(|rule| rule.below = *self.connections.borrow());
    }
}

async fn pass(
    number: u64,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut rule: watch::Receiver<Rule>,
    holds: impl Fn(&[u8], &Rule) -> bool + Send + Sync,
) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        let bytes = &bytes[..length];
        if rule.wait_for(|rule| number >= rule.below && !holds(bytes, rule)).await.is_err() {
            return;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// Publishes numbered events past the node, on a connection of its own and without waiting for an answer.
struct Source {
    done: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    running: JoinHandle<u64>,
}

impl Source {
    fn start(server: &Server, channel: &str) -> Self {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let topic = format!("app_database_main_{channel}");
        let done = Arc::new(AtomicBool::new(false));
        let end = done.clone();
        let sent = Arc::<AtomicU64>::default();
        let count = sent.clone();
        let running = std::thread::spawn(move || {
            for number in 0.. {
                if end.load(Ordering::SeqCst) {
                    return number;
                }
                let payload = format!("{{\"event\":\"{number}\",\"data\":0}}");
                let (a, b) = (topic.len(), payload.len());
                let command = format!("*3\r\n$7\r\nPUBLISH\r\n${a}\r\n{topic}\r\n${b}\r\n{payload}\r\n");
                stream.write_all(command.as_bytes()).unwrap();
                count.store(number, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(2));
            }
            0
        });
        Self { done, sent, running }
    }

    /// The number of the last one so far.
    fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// How many there were.
    fn end(self) -> u64 {
        self.done.store(true, Ordering::SeqCst);
        self.running.join().unwrap()
    }
}

/// The numbers of the source's events that a worker heard.
fn numbers(site: &Site, channel: &str) -> Vec<u64> {
    site.said(0, &key(channel)).iter().filter_map(|said| said.parse().ok()).collect()
}

/// All from the first that was heard to the last that was published: nothing lost, doubled or out of order.
async fn assert_whole(site: &Site, channel: &str, published: u64) {
    until("the last event", || numbers(site, channel).last() == Some(&(published - 1))).await;
    let heard = numbers(site, channel);
    let lost: HashSet<u64> = (heard[0]..published).filter(|number| !heard.contains(number)).collect();
    assert!(lost.is_empty(), "{} of {published} lost: {lost:?}", lost.len());
    assert!(heard.windows(2).all(|pair| pair[0] < pair[1]), "doubled or out of order: {heard:?}");
    assert_eq!(gaps(site), 0);
}

async fn listen(site: &Site, channel: &str) {
    site.ask(0, &key(channel), 1);
    site.admitted(0, &key(channel), 1).await;
}

async fn listeners(server: &Server, channel: &str) -> u64 {
    let topic = format!("app_database_main_{channel}");
    let answer = server.ask(&["PUBSUB", "NUMSUB", &topic]).await;
    redis::from_redis_value::<(String, u64)>(answer).unwrap().1
}

async fn until_listeners(server: &Server, channel: &str, count: u64) {
    let deadline = Instant::now() + crate::conformance::LIMIT;
    while listeners(server, channel).await != count {
        assert!(Instant::now() < deadline, "never {count} listeners of {channel}");
    }
}

#[tokio::test]
async fn a_redis_that_was_frozen_loses_and_doubles_nothing() {
    let server = Server::start().await;
    let site = server.site();
    listen(&site, "news").await;
    let source = Source::start(&server, "news");
    until("the first events", || numbers(&site, "news").len() > 50).await;
    server.signal("STOP");
    let frozen = Instant::now();
    until("noticed", || matches!(site.backplane.status(), LinkStatus::Down { .. })).await;
    assert!(frozen.elapsed() < Duration::from_secs(3), "{:?}", frozen.elapsed());
    until("frozen for long", || frozen.elapsed() > Duration::from_secs(4)).await;
    server.signal("CONT");
    until("back", || site.backplane.status() == LinkStatus::Up).await;
    let back = numbers(&site, "news").len();
    until("flows again", || numbers(&site, "news").len() > back + 100).await;
    let published = source.end();
    assert_whole(&site, "news", published).await;
    println!("{published} events, links made anew: {}", site.backplane.counters().reconnects);
}

/// A link that is held up while another is made; `behind`: the other one is the slower of the two.
async fn changes_over(behind: bool) {
    let server = Server::start().await;
    let proxy = Proxy::before(&server).await;
    let site = site(proxy.settings(&server));
    for channel in ["news", "left", "presence-room"] {
        listen(&site, channel).await;
    }
    site.ask_member(1, &key("presence-room"), 1, "ann");
    site.admitted(1, &key("presence-room"), 1).await;
    let source = Source::start(&server, "news");
    until("the first events", || numbers(&site, "news").len() > 50).await;
    proxy.set(|rule| (rule.marker, rule.marked) = (true, behind));
    proxy.hold();
    // Asked for on the link that is held, and given up on it.
    site.ask(0, &key("asked"), 5);
    site.backplane.leave(0, key("left"));
    let early = site.backplane.publish(key("asked"), crate::conformance::event("early"));
    until_listeners(&server, "news", 2).await;
    until_listeners(&server, "asked", 1).await;
    // Asked for while there are two.
    site.ask(0, &key("late"), 6);
    let late = site.backplane.publish(key("asked"), crate::conformance::event("late"));
    // Much before the marker comes by both links, and so does much behind it.
    let sent = source.sent();
    until("much is before the marker", || source.sent() > sent + 100).await;
    proxy.set(|rule| rule.marker = false);
    until("much is behind it", || source.sent() > sent + 200).await;
    assert_eq!((listeners(&server, "late").await, gaps(&site)), (0, 0), "it waits");
    let held = numbers(&site, "news").len();
    proxy.set(|rule| rule.below = 0);
    // The late one is closed as soon as it brought the marker, whatever the other has brought.
    until_listeners(&server, "news", 1).await;
    proxy.set(|rule| rule.marked = false);
    site.admitted(0, &key("late"), 6).await;
    site.admitted(0, &key("asked"), 5).await;
    assert_eq!((early.await, late.await), (Ok(()), Ok(())));
    assert!(numbers(&site, "news").len() > held, "what was held came first");
    until("flows again", || numbers(&site, "news").len() > held + 400).await;
    assert_whole(&site, "news", source.end()).await;
    assert_eq!((site.backplane.status(), site.backplane.counters().reconnects), (LinkStatus::Up, 1));
    until_listeners(&server, "left", 0).await;
    until_listeners(&server, "news", 1).await;
    // Presence goes on by the new link.
    site.ask_member(1, &key("presence-room"), 2, "bob");
    assert_eq!(site.admitted(1, &key("presence-room"), 2).await.unwrap().len(), 2);
    site.until_said(1, &key("presence-room"), "+bob").await;
    site.mark(&site, 0, &key("asked"), "after").await;
    assert_eq!(site.said(0, &key("asked")).last().map(String::as_str), Some("after"));
}

#[tokio::test]
async fn a_link_that_was_held_up_is_replaced_without_loss_or_double() {
    changes_over(false).await;
}

#[tokio::test]
async fn so_it_is_by_one_that_is_slower() {
    changes_over(true).await;
}

#[tokio::test]
async fn a_half_open_link_is_healed_within_eight_seconds_and_told_as_a_gap() {
    let server = Server::start().await;
    let proxy = Proxy::before(&server).await;
    let defaults = Settings::default();
    let (probe_interval, probe_timeout) = (defaults.probe_interval, defaults.probe_timeout);
    let site = site(Settings { probe_interval, probe_timeout, ..proxy.settings(&server) });
    listen(&site, "news").await;
    let source = Source::start(&server, "news");
    until("the first events", || numbers(&site, "news").len() > 50).await;
    proxy.hold();
    let cut = Instant::now();
    until("the gap", || gaps(&site) == 1).await;
    let told = cut.elapsed();
    let heard = numbers(&site, "news").len();
    until("flows again", || numbers(&site, "news").len() > heard + 50).await;
    println!("a half-open link: told after {told:?}, events again after {:?}", cut.elapsed());
    assert!(cut.elapsed() < Duration::from_secs(8), "{:?}", cut.elapsed());
    let published = source.end();
    until("the last event", || numbers(&site, "news").last() == Some(&(published - 1))).await;
    let heard = numbers(&site, "news");
    assert!(heard.windows(2).all(|pair| pair[0] < pair[1]), "doubled or out of order");
    assert_eq!(gaps(&site), 1);
}

#[tokio::test]
async fn a_late_link_without_another_is_kept() {
    let server = Server::start().await;
    let proxy = Proxy::before(&server).await;
    let site = site(proxy.settings(&server));
    listen(&site, "news").await;
    let source = Source::start(&server, "news");
    until("the first events", || numbers(&site, "news").len() > 50).await;
    proxy.set(|rule| rule.refuse = true);
    proxy.hold();
    let errors = site.backplane.counters().errors;
    until("several tries", || site.backplane.counters().errors > errors + 3).await;
    assert!(matches!(site.backplane.status(), LinkStatus::Down { .. }));
    proxy.set(|rule| *rule = Rule::default());
    until("up", || site.backplane.status() == LinkStatus::Up).await;
    let heard = numbers(&site, "news").len();
    until("flows again", || numbers(&site, "news").len() > heard + 100).await;
    assert_whole(&site, "news", source.end()).await;
}
