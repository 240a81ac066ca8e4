//! One node by itself, and the libraries that people have: pusher-js, the `pusher` SDK, and their conversation on the wire.

use crate::support::client::close_code;
use crate::support::http;
use crate::support::node::KEY;
use crate::support::prelude::*;

#[test]
fn a_browser_hears_what_the_sdk_publishes() {
    let node = Node::start("", &[]);
    let mut api = Api::of(&node);
    let mut browser = Browser::connect(&node);
    for channel in ["news", "private-orders.1"] {
        browser.subscribe(channel);
        api.trigger(&[channel], "greeting", json!({ "text": "Zoë 😀 a/b", "n": 1 }));
        assert_eq!(browser.hears(channel, "greeting"), json!({ "text": "Zoë 😀 a/b", "n": 1 }));
    }
    browser.enter("presence-room", "ann");
    api.trigger(&["presence-room", "news"], "both", json!("plain text"));
    assert_eq!(browser.hears("presence-room", "both"), "plain text");
    assert_eq!(browser.hears("news", "both"), "plain text");
    let batch = [
        json!({ "channel": "news", "name": "first", "data": "1" }),
        json!({ "channel": "news", "name": "second", "data": "2" }),
    ];
    api.call(json!({ "do": "batch", "batch": batch }));
    browser.hears("news", "first");
    browser.hears("news", "second");
}

#[test]
fn a_browser_on_a_cache_channel_is_told_of_a_miss_and_later_what_is_kept() {
    let node = Node::start("", &[]);
    let mut api = Api::of(&node);
    for channel in ["cache-price", "private-cache-price"] {
        let mut first = Browser::connect(&node);
        first.subscribe(channel);
        first.hears(channel, "pusher:cache_miss");
        api.trigger(&[channel], "price", json!({ "eur": 7 }));
        assert_eq!(first.hears(channel, "price"), json!({ "eur": 7 }));
        let mut second = Browser::connect(&node);
        second.subscribe(channel);
        assert_eq!(second.hears(channel, "price"), json!({ "eur": 7 }));
    }
}

#[test]
fn a_browser_reads_the_reason_of_a_refused_subscription() {
    let node = Node::start("", &[("FANFARE_APPS__MAIN__CHANNELS_PER_CONNECTION", "1")]);
    let mut browser = Browser::connect(&node);
    browser.subscribe("news");
    browser.tell(&json!({ "do": "subscribe", "channel": "too-many" }));
    let error = browser.hears("too-many", "pusher:subscription_error");
    assert_eq!((&error["type"], &error["status"]), (&json!("LimitReached"), &json!(403)));
}

#[test]
fn browsers_see_members_come_and_go_and_hear_their_whispers() {
    let node = Node::start("", &[]);
    let room = "presence-room";
    let mut ann = Browser::connect(&node);
    ann.enter(room, "ann");
    assert_eq!(ann.members(room), json!(["ann"]));
    let mut bob = Browser::connect(&node);
    bob.enter(room, "bob");
    assert_eq!(bob.members(room), json!(["ann", "bob"]));
    assert_eq!(ann.hears(room, "pusher:member_added")["id"], "bob");
    bob.tell(&json!({ "do": "whisper", "channel": room, "event": "client-typing", "data": { "on": true } }));
    assert_eq!(ann.hears(room, "client-typing"), json!({ "on": true }));
    bob.tell(&json!({ "do": "disconnect" }));
    assert_eq!(ann.hears(room, "pusher:member_removed")["id"], "bob");
    assert_eq!(ann.members(room), json!(["ann"]));
}

#[test]
fn the_conversation_is_pushers_byte_for_byte() {
    let node = Node::start("", &[]);
    let room = "presence-room";
    let mut ann = Client::on(&node, "news");
    let success = ann.enter(room, "a");
    let data = r#"{"presence":{"ids":["a"],"hash":{"a":{"name":"a"}},"count":1}}"#;
    assert_eq!(success.raw["data"], data);
    let mut bob = Client::connect(&node);
    let member = r#"{"user_id":10}"#;
    let auth = bob.sign(room, Some(member));
    bob.send("pusher:subscribe", json!({ "channel": room, "auth": auth, "channel_data": member }));
    let data = r#"{"presence":{"ids":["10","a"],"hash":{"10":null,"a":{"name":"a"}},"count":2}}"#;
    assert_eq!(bob.expect("pusher_internal:subscription_succeeded", room).raw["data"], data);
    assert_eq!(ann.expect("pusher_internal:member_added", room).raw["data"], r#"{"user_id":"10"}"#);
    ann.socket.send(&json!({ "event": "client-typing", "channel": room, "data": { "on": true } }).to_string());
    let whisper = bob.expect("client-typing", room);
    assert_eq!(
        whisper.raw,
        json!({ "event": "client-typing", "channel": room, "data": { "on": true }, "user_id": "a" })
    );
    let event = json!({ "name": "App\\Events\\Hi", "channels": ["news"], "data": "{\"m\":\"é\"}", "socket_id": "9.9" });
    let answer = http::APPLICATION.post(node.address, "events", &event.to_string());
    assert_eq!((answer.status, &*answer.body), (200, "{}"));
    assert_eq!(ann.expect("App\\Events\\Hi", "news").raw["data"], "{\"m\":\"é\"}");
    bob.unsubscribe(room);
    assert_eq!(ann.expect("pusher_internal:member_removed", room).raw["data"], r#"{"user_id":"10"}"#);
    assert!(bob.ping().is_empty(), "an unsubscribe has no answer");
    ann.socket.ping(b"are you there");
    assert_eq!(ann.socket.next(), Frame::Pong(b"are you there".to_vec()));
}

#[test]
fn the_url_decides_who_may_connect() {
    let node = Node::start("", &[]);
    let closed_with = |path: &str| close_code(&mut Socket::open(node.address, path).expect(path));
    assert_eq!(closed_with("/app/unknown?protocol=7"), 4001);
    assert_eq!(closed_with(&format!("/app/{KEY}?protocol=4")), 4007);
    assert_eq!(closed_with(&format!("/app/{KEY}?protocol=8")), 4007);
    assert_eq!(closed_with(&format!("/app/{KEY}?protocol=x")), 4006);
    for query in ["", "?protocol=5", "?protocol=6&client=swift&flash=false&more=x"] {
        let mut socket = Socket::open(node.address, &format!("/app/{KEY}{query}")).expect(query);
        let Frame::Text(text) = socket.next() else { panic!("no first frame for {query}") };
        assert!(text.contains("pusher:connection_established"), "{text}");
    }
    assert_eq!(Socket::open(node.address, "/nowhere").err(), Some(404));
    let status = http::get(node.address, &format!("/app/{KEY}")).status;
    assert!([400, 426].contains(&status), "a request without an upgrade: {status}");
    assert_eq!(http::get(node.address, "/nowhere").status, 404);
}

#[test]
fn a_second_subscribe_is_answered_and_counts_once() {
    let node = Node::start("", &[]);
    let mut api = Api::of(&node);
    let mut client = Client::on(&node, "news");
    client.subscribe("news");
    api.trigger(&["news", "news"], "once", json!(1));
    client.expect("once", "news");
    client.unsubscribe("news");
    assert!(client.ping().is_empty());
    api.trigger(&["news"], "not heard", json!(2));
    assert!(client.ping().is_empty());
}

#[test]
fn a_silent_client_is_asked_and_then_given_up() {
    let node = Node::start("", &[("FANFARE_APPS__MAIN__ACTIVITY_TIMEOUT", "1")]);
    let mut answers = Client::connect(&node);
    answers.socket.patience(Duration::from_secs(45));
    let mut silent = Client::connect(&node);
    silent.socket.patience(Duration::from_secs(45));
    silent.socket.answers = false;
    let answering = std::thread::spawn(move || {
        // Reads and so answers until the node is gone.
        while !matches!(answers.socket.next(), Frame::End) {}
    });
    assert_eq!(silent.close_code(), 4201);
    assert!(!answering.is_finished(), "a client that answers stays");
    drop(node);
    answering.join().unwrap();
}
