//! What a channel keeps: for the client that comes back, for the node that was cut off, for the application that asks.

use crate::pusher_js::LIBRARIES;
use crate::support::client::Message;
use crate::support::http::APPLICATION;
use crate::support::node::PREFIX;
use crate::support::ports;
use crate::support::prelude::*;

const CHAT: &str = "chat-1";
const RULES: [(&str, &str); 1] = [("FANFARE_APPS__MAIN__HISTORY", "chat-* 500 60, short-* 2 60")];
const SUCCEEDED: &str = "pusher_internal:subscription_succeeded";

/// Publishes over the HTTP API; true when the node took it.
fn publish(node: &Node, channel: &str, number: usize) -> bool {
    let event = json!({ "name": "e", "channel": channel, "data": number.to_string() }).to_string();
    APPLICATION.post(node.address, "events", &event).status == 200
}

fn say(node: &Node, channel: &str, numbers: impl IntoIterator<Item = usize>) {
    numbers.into_iter().for_each(|number| assert!(publish(node, channel, number)));
}

/// Subscribes as one who wants to come back, and waits for the yes.
fn come(client: &mut Client, channel: &str, resume: Value) -> Message {
    client.send("pusher:subscribe", json!({ "channel": channel, "resume": resume }));
    client.expect(SUCCEEDED, channel)
}

fn position(message: &Message) -> String {
    message.raw["position"].as_str().unwrap_or_else(|| panic!("a position: {}", message.raw)).to_owned()
}

/// The numbers of the next events.
fn numbers(client: &mut Client, n: usize) -> Vec<usize> {
    (0..n).map(|_| client.expect("e", CHAT).data().as_u64().unwrap() as usize).collect()
}

#[test]
fn who_comes_back_to_another_node_is_told_what_it_missed() {
    let cluster = Cluster::with(2, &RULES);
    let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
    let mut client = Client::connect(one);
    let success = come(&mut client, CHAT, json!(true));
    assert_eq!(success.raw["recovered"], Value::Null);
    say(two, CHAT, 0..3);
    let first = client.expect("e", CHAT);
    assert_ne!(position(&first), position(&success));
    assert_eq!(numbers(&mut client, 2), [1, 2]);
    drop(client);

    let mut back = Client::connect(two);
    let success = come(&mut back, CHAT, json!(position(&first)));
    assert_eq!((&success.raw["recovered"], position(&success)), (&json!(true), position(&first)));
    assert_eq!(numbers(&mut back, 2), [1, 2]);
    say(one, CHAT, [3]);
    let last = back.expect("e", CHAT);
    let mut stock = Client::on(two, CHAT);
    say(one, CHAT, [4]);
    let heard = stock.expect("e", CHAT).raw;
    assert_eq!(
        heard,
        json!({ "event": "e", "channel": CHAT, "data": "4" }),
        "who asks for nothing is told nothing of it"
    );
    drop(back);
    let recovered = [("dialect", "pusher"), ("result", "recovered")];
    assert_eq!(two.metric("fanfare_resumes_total", &recovered), 1.0);

    // What its socket of then was not to hear, it is not told now either.
    let not_for_me = json!({ "name": "e", "channel": CHAT, "data": "5", "socket_id": "77.1" }).to_string();
    assert_eq!(APPLICATION.post(one.address, "events", &not_for_me).status, 200);
    let mut back = Client::connect(one);
    come(&mut back, CHAT, json!({ "position": position(&last), "socket_id": "77.1" }));
    assert_eq!(numbers(&mut back, 1), [4]);
    let end = back.expect("fanfare:position", CHAT);
    assert_ne!(position(&end), position(&last));
    assert!(back.ping().is_empty());
}

#[test]
fn what_is_lost_is_said_and_what_cannot_be_read_is_refused() {
    let node = Node::start("", &RULES);
    let mut client = Client::connect(&node);
    let from = position(&come(&mut client, "short-1", json!(true)));
    say(&node, "short-1", 0..3);
    (0..3).for_each(|_| _ = client.expect("e", "short-1"));
    client.unsubscribe("short-1");
    for lost in [from, "0123456789abcdef:7".into()] {
        let mut back = Client::connect(&node);
        let success = come(&mut back, "short-1", json!(lost));
        assert_eq!(success.raw["recovered"], json!(false));
        assert_ne!(position(&success), lost);
        assert!(back.ping().is_empty());
    }
    let without = come(&mut client, "news", json!(true));
    assert_eq!(without.raw["position"], Value::Null, "a channel that keeps nothing has no position");
    for wrong in [json!("x"), json!(7), json!({ "position": "a:b" }), json!([])] {
        client.send("pusher:subscribe", json!({ "channel": CHAT, "resume": wrong }));
        let refused = client.expect("pusher:subscription_error", CHAT);
        assert_eq!(refused.data()["type"], "InvalidSubscription");
        assert!(refused.data()["error"].as_str().unwrap().starts_with("resume is neither"), "{}", refused.raw);
    }
}

#[test]
fn laravels_plain_publish_is_delivered_and_not_claimed() {
    let cluster = Cluster::with(2, &RULES);
    let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
    let (mut here, mut there) = (Client::connect(one), Client::connect(two));
    come(&mut here, CHAT, json!(true));
    come(&mut there, CHAT, json!(true));
    say(one, CHAT, [0]);
    let before = position(&there.expect("e", CHAT));
    here.expect("e", CHAT);
    drop(there);
    cluster.redis.publish(&format!("{PREFIX}{CHAT}"), r#"{"event":"plain"}"#);
    let plain = here.expect("plain", CHAT);
    assert_eq!(plain.raw["position"], Value::Null);
    say(one, CHAT, [1]);
    let behind = position(&here.expect("e", CHAT));
    say(one, CHAT, [2]);
    here.expect("e", CHAT);
    for node in [one, two] {
        let mut back = Client::connect(node);
        assert_eq!(
            come(&mut back, CHAT, json!(before)).raw["recovered"],
            json!(false),
            "the plain one is nowhere kept"
        );
        let mut later = Client::connect(node);
        assert_eq!(come(&mut later, CHAT, json!(behind)).raw["recovered"], json!(true));
        assert_eq!(numbers(&mut later, 1), [2]);
    }
}

#[test]
fn a_node_that_was_cut_off_tells_what_it_missed_and_no_gap() {
    let redis = Redis::start();
    let relay = Relay::start(redis.port);
    let close = [RULES[0], ("FANFARE_APPS__MAIN__ON_GAP", "close")];
    let (cut, other) = (Node::start(&relay.url(), &close), Node::start(&redis.url(), &RULES));
    let mut chats = Client::on(&cut, CHAT);
    let mut reads = Client::on(&cut, "news");
    say(&other, CHAT, 0..3);
    assert_eq!(numbers(&mut chats, 3), [0, 1, 2]);
    relay.aim(ports::free());
    relay.cut();
    until("the link is lost", || (cut.metric("fanfare_backplane_up", &[]) == 0.0).then_some(()));
    say(&other, CHAT, 3..40);
    relay.aim(redis.port);
    assert_eq!(numbers(&mut chats, 37), (3..40).collect::<Vec<_>>());
    assert_eq!(reads.close_code(), 4200, "where nothing is kept the client is asked back");
    say(&other, CHAT, [40]);
    assert_eq!(numbers(&mut chats, 1), [40]);
    assert!(chats.ping().is_empty());
    assert_eq!(cut.metric("fanfare_history_repaired_total", &[]), 37.0);
    assert_eq!(cut.metric("fanfare_history_unnumbered_total", &[]), 0.0);
}

#[test]
fn pusher_js_with_ten_more_lines_hears_everything_once_across_nodes() {
    for library in LIBRARIES {
        let cluster = Cluster::with(2, &RULES);
        let relay = Relay::start(cluster.nodes[0].address.port());
        let way = json!({ "port": relay.port, "resume": true });
        let mut browser = Browser::launch(library, &cluster.nodes[0], way);
        browser.connected();
        for channel in [CHAT, "private-chat", "short-1"] {
            browser.subscribe(channel);
        }
        let hears = |browser: &mut Browser, numbers: std::ops::Range<usize>| {
            for number in numbers {
                let heard = browser.until(|told| told["channel"] == CHAT && told["event"] == "e");
                assert_eq!(heard["data"], number, "{library}");
            }
        };
        say(&cluster.nodes[0], CHAT, 0..5);
        hears(&mut browser, 0..5);
        // Away, and back on the other node.
        relay.aim(cluster.nodes[1].address.port());
        relay.cut();
        // What was on its way is heard before it notices.
        browser.until(|told| told["kind"] == "state" && told["state"] != "connected");
        say(&cluster.nodes[1], CHAT, 5..20);
        browser.connected();
        hears(&mut browser, 5..20);
        browser.tell(&json!({ "do": "unsubscribe", "channel": CHAT }));
        browser.tell(&json!({ "do": "subscribe", "channel": "short-2" }));
        let rest = browser.story(|told| told["channel"] == "short-2");
        let doubled: Vec<_> = rest.iter().filter(|told| told["channel"] == CHAT && told["event"] == "e").collect();
        assert!(doubled.is_empty(), "{library}: {doubled:?}");
    }
}

#[test]
fn a_channel_of_which_too_little_is_kept_is_told_as_lost_by_the_helper() {
    let node = Node::start("", &RULES);
    let relay = Relay::start(node.address.port());
    let mut browser = Browser::launch("pusher-js", &node, json!({ "port": relay.port, "resume": true }));
    browser.connected();
    browser.subscribe("short-1");
    relay.aim(ports::free());
    relay.cut();
    say(&node, "short-1", 0..3);
    relay.aim(node.address.port());
    assert_eq!(browser.until(|told| told["kind"] == "lost")["channel"], "short-1");
}

#[test]
fn the_application_reads_what_is_kept_in_pages() {
    for (redis, node) in [(None, Node::start("", &RULES)), on_redis()] {
        let page = |parameters: &[(&str, &str)]| {
            let answer = APPLICATION.get(node.address, "channels/chat-1/history", parameters);
            assert_eq!(answer.status, 200, "{answer:?}");
            serde_json::from_str::<Value>(&answer.body).unwrap()
        };
        let data = |page: &Value| -> Vec<String> {
            page["events"].as_array().unwrap().iter().map(|event| event["data"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(page(&[])["events"], json!([]));
        say(&node, CHAT, 0..7);
        let newest = page(&[("limit", "3")]);
        assert_eq!(data(&newest), ["6", "5", "4"]);
        assert_eq!(newest["position"], newest["events"][0]["position"]);
        assert_eq!(newest["next"], newest["events"][2]["position"]);
        assert!(newest["events"][0]["time_ms"].as_u64().unwrap() > 1_700_000_000_000);
        assert_eq!(newest["events"][0]["name"], "e");
        let next = newest["next"].as_str().unwrap();
        let rest = page(&[("limit", "4"), ("before", next)]);
        assert_eq!((data(&rest), &rest["next"]), (["3", "2", "1", "0"].map(String::from).to_vec(), &Value::Null));
        let oldest = rest["events"][3]["position"].as_str().unwrap();
        let forth = page(&[("limit", "5"), ("after", oldest)]);
        assert_eq!((data(&forth).join(""), forth["next"].is_string()), ("12345".into(), true));
        for wrong in [&[("limit", "0")][..], &[("limit", "x")], &[("after", "x")], &[("after", next), ("before", next)]]
        {
            assert_eq!(APPLICATION.get(node.address, "channels/chat-1/history", wrong).status, 400, "{wrong:?}");
        }
        let none = APPLICATION.get(node.address, "channels/news/history", &[]);
        assert_eq!(none.status, 400);
        assert!(none.body.contains("keeps no history"), "{}", none.body);
        drop(redis);
    }
}

fn on_redis() -> (Option<Redis>, Node) {
    let redis = Redis::start();
    let node = Node::start(&redis.url(), &RULES);
    (Some(redis), node)
}
