//! How pusher-js 7 and 8 come back, or stay away: each range of close codes, sent by a real node for its real reason, leads
//! to what Pusher's documents promise.
//!
//! The pause before the next try is read from the library's own clock: its documents say "at once" and "after a second".

use crate::support::node::{KEY, PREFIX};
use crate::support::prelude::*;
use crate::support::wait::until_within;

pub(crate) const LIBRARIES: [&str; 2] = ["pusher-js-7", "pusher-js"];

const CONNECTING: &str = "connecting";

/// Launches a library against a node and waits until it is connected.
fn connect(library: &str, node: &Node) -> Browser {
    let mut browser = Browser::launch(library, node, json!({}));
    browser.connected();
    browser
}

/// Twenty unreadable messages in a row: the node closes with 4100.
fn misbehave(browser: &mut Browser) {
    (0..20).for_each(|_| browser.tell(&json!({ "do": "write", "text": "unreadable" })));
}

/// How it came back: the codes it was told with the states it went through, and how long it waited before it tried.
struct Return {
    words: Vec<String>,
    pause: Duration,
}

impl Return {
    /// Waits until it is connected again.
    fn of(browser: &mut Browser) -> Self {
        let story = browser.story(|told| told["state"] == "connected");
        let tries = story.iter().position(|told| told["state"] == CONNECTING).expect("it tries");
        let told = story[..tries].iter().rev().find(|told| word(told).is_some()).expect("it was told why");
        let ms = story[tries]["at"].as_f64().unwrap() - told["at"].as_f64().unwrap();
        Self { words: words(&story), pause: Duration::from_secs_f64(ms / 1_000.0) }
    }

    fn at_once(self, code: &str, library: &str) {
        assert_eq!(self.words, [code, CONNECTING, "connected"], "{library}");
        assert!(self.pause < Duration::from_millis(700), "{library} was told {code} and waited {:?}", self.pause);
    }

    fn after_a_second(self, code: &str, library: &str) {
        assert_eq!(self.words, [code, CONNECTING, "connected"], "{library}");
        assert!(self.pause > Duration::from_millis(900), "{library} was told {code} and waited {:?}", self.pause);
    }
}

/// Codes and states. A code comes in the node's `pusher:error` and in the close, and counts once; what is not readable is
/// answered without one.
fn words(story: &[Value]) -> Vec<String> {
    let mut words: Vec<String> = story.iter().filter_map(word).collect();
    words.dedup();
    words
}

fn word(told: &Value) -> Option<String> {
    match told["kind"].as_str()? {
        "state" => Some(told["state"].as_str()?.to_owned()),
        "error" => Some(told["error"]["code"].as_u64()?.to_string()),
        _ => None,
    }
}

#[test]
fn who_is_told_to_stay_away_stays_away() {
    let node = Node::start("", &[]);
    for library in LIBRARIES {
        // The library puts the key into the URL as it is, its own query behind it.
        let refused =
            [("unknown", 4001), (&*format!("{KEY}?protocol=x&"), 4006), (&*format!("{KEY}?protocol=4&"), 4007)];
        let mut away: Vec<Browser> = Vec::new();
        for (key, code) in refused {
            let mut browser = Browser::launch(library, &node, json!({ "key": key }));
            let story = browser.story(|told| told["state"] == "disconnected");
            assert_eq!(words(&story), [&code.to_string(), "disconnected"], "{library} {key}");
            away.push(browser);
        }
        // One that is told to come back after a second is back, and these have not even tried.
        let mut other = connect(library, &node);
        misbehave(&mut other);
        other.connected();
        for browser in &mut away {
            browser.tell(&json!({ "do": "say" }));
            assert_eq!(browser.story(|told| told["kind"] == "said").len(), 1, "{library}");
        }
    }
}

#[test]
fn who_is_told_to_come_back_later_comes_back_after_a_second() {
    let node = Node::start("", &[]);
    for library in LIBRARIES {
        let mut browser = connect(library, &node);
        browser.subscribe("news");
        misbehave(&mut browser);
        Return::of(&mut browser).after_a_second("4100", library);
        browser.hears("news", "pusher:subscription_succeeded");
    }
}

#[test]
fn a_slow_client_that_wakes_up_comes_back_after_a_second() {
    // It has a second to read what waits for it, or the line ends before the code.
    let _alone = alone();
    for library in LIBRARIES {
        let cluster = Cluster::in_company(1, &[("FANFARE_LIMITS__OUTBOX_BYTES", "500000")]);
        let node = &cluster.nodes[0];
        let mut browser = connect(library, node);
        browser.subscribe("news");
        browser.signal("STOP");
        let publish = |bytes: usize| {
            let payload = format!(r#"{{"event":"filler","data":"{}"}}"#, "x".repeat(bytes));
            cluster.redis.publish(&format!("{PREFIX}news"), &payload);
        };
        until("the kernel takes no more", || {
            publish(100_000);
            (node.metric("fanfare_send_queue_bytes", &[]) > 0.0).then_some(())
        });
        publish(600_000);
        until("the node has given it up", || (node.metric("fanfare_subscriptions", &[]) == 0.0).then_some(()));
        browser.signal("CONT");
        Return::of(&mut browser).after_a_second("4100", library);
        browser.hears("news", "pusher:subscription_succeeded");
    }
}

#[test]
fn who_is_asked_by_a_draining_node_is_at_another_one_at_once() {
    for library in LIBRARIES {
        let mut cluster = Cluster::with(2, &[]);
        // What a load balancer does.
        let relay = Relay::start(cluster.nodes[0].address.port());
        let mut browser = Browser::launch(library, &cluster.nodes[0], json!({ "port": relay.port }));
        browser.connected();
        browser.enter("presence-room", "ann");
        relay.aim(cluster.nodes[1].address.port());
        cluster.nodes[0].signal("TERM");
        Return::of(&mut browser).at_once("4200", library);
        browser.hears("presence-room", "pusher:subscription_succeeded");
        assert_eq!(cluster.nodes[0].end().code(), Some(0));
        let event = format!(r#"{{"event":"after","data":{{"by":"{library}"}}}}"#);
        cluster.redis.publish(&format!("{PREFIX}presence-room"), &event);
        assert_eq!(browser.hears("presence-room", "after"), json!({ "by": library }));
    }
}

#[test]
fn who_was_given_up_in_its_sleep_comes_back_at_once() {
    let node = Node::start("", &[("FANFARE_APPS__MAIN__ACTIVITY_TIMEOUT", "1")]);
    let mut browsers = LIBRARIES.map(|library| connect(library, &node));
    for browser in &mut browsers {
        browser.subscribe("news");
        browser.signal("STOP");
    }
    let given_up = || node.metric("fanfare_connections_closed_total", &[("reason", "ping_timeout")]);
    until_within(Duration::from_secs(60), "the sleepers are given up", || (given_up() == 2.0).then_some(()));
    for (browser, library) in browsers.iter_mut().zip(LIBRARIES) {
        browser.signal("CONT");
        Return::of(browser).at_once("4201", library);
        browser.hears("news", "pusher:subscription_succeeded");
    }
}

#[test]
fn a_node_that_ends_at_once_is_left_for_another_after_a_second() {
    for library in LIBRARIES {
        let settings = [("FANFARE_DRAIN__GRACE", "60"), ("FANFARE_DRAIN__SECONDS", "60")];
        let mut cluster = Cluster::with(2, &settings);
        let relay = Relay::start(cluster.nodes[0].address.port());
        let mut browser = Browser::launch(library, &cluster.nodes[0], json!({ "port": relay.port }));
        browser.connected();
        browser.subscribe("news");
        relay.aim(cluster.nodes[1].address.port());
        cluster.nodes[0].signal("TERM");
        let draining = || (!cluster.nodes[0].is_ready()).then_some(());
        until("the node says that it drains", draining);
        cluster.nodes[0].signal("TERM");
        // The node says 1012, as `tests/shutdown.rs` has it. The socket that pusher-js brings along for Node.js calls every code
        // that is younger than the RFC a protocol error.
        Return::of(&mut browser).after_a_second("1002", library);
        browser.hears("news", "pusher:subscription_succeeded");
        cluster.nodes[0].end();
    }
}
