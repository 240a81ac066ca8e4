//! The places where servers of this protocol go wrong, each seen from outside (the reference's list of traps, by number).

use crate::support::client::close_code;
use crate::support::http::{APPLICATION, Signer};
use crate::support::node::{KEY, OTHER_KEY};
use crate::support::prelude::*;

const ROOM: &str = "presence-room";

#[test]
fn trap_1_data_is_a_string_where_clients_cast_it_and_the_hash_is_an_object() {
    let node = Node::start("", &[]);
    let mut socket = Socket::open(node.address, &format!("/app/{KEY}?protocol=7")).unwrap();
    let Frame::Text(welcome) = socket.next() else { panic!("no first frame") };
    assert!(serde_json::from_str::<Value>(&welcome).unwrap()["data"].is_string(), "{welcome}");
    let mut a = Client::connect(&node);
    assert_eq!(a.subscribe("news").raw["data"], "{}");
    let auth = a.sign(ROOM, Some(r#"{"user_id":1}"#));
    a.send("pusher:subscribe", json!({ "channel": ROOM, "auth": auth, "channel_data": r#"{"user_id":1}"# }));
    let success = a.expect("pusher_internal:subscription_succeeded", ROOM).raw["data"].clone();
    assert_eq!(success, r#"{"presence":{"ids":["1"],"hash":{"1":null},"count":1}}"#);
    drop(Client::present(&node, ROOM, "2"));
    assert!(a.expect("pusher_internal:member_added", ROOM).raw["data"].is_string());
    assert_eq!(a.expect("pusher_internal:member_removed", ROOM).raw["data"], r#"{"user_id":"2"}"#);
}

#[test]
fn trap_2_deep_and_large_frames_end_with_their_own_handling() {
    let mut node = Node::start("", &[]);
    let (mut deep, mut large, mut bystander) =
        (Client::connect(&node), Client::connect(&node), Client::on(&node, "news"));
    deep.socket.send(&format!(r#"{{"event":"pusher:subscribe","data":{}"#, "[".repeat(60_000)));
    assert_eq!(deep.next().event, "pusher:error");
    assert!(deep.ping().is_empty());
    large.socket.send(&"x".repeat(70_000));
    assert_eq!(large.close_code(), 1009);
    assert!(bystander.ping().is_empty());
    node.assert_well();
}

#[test]
fn trap_3_every_guarded_prefix_wants_its_signature_and_no_other_name_does() {
    let node = Node::start("", &[]);
    let mut client = Client::connect(&node);
    let member = r#"{"user_id":"a"}"#;
    for prefix in [
        "private-",
        "private-encrypted-",
        "private-cache-",
        "private-encrypted-cache-",
        "presence-",
        "presence-cache-",
        "#server-to-user-",
    ] {
        let name = format!("{prefix}x");
        let right = client.sign(&name, None);
        let wrong = format!("{}0", &right[..right.len() - 1]);
        let wrong = if wrong == right { format!("{}1", &right[..right.len() - 1]) } else { wrong };
        for auth in [json!(null), json!(""), json!(wrong), json!(client.sign("private-y", None))] {
            client.send("pusher:subscribe", json!({ "channel": name, "auth": auth, "channel_data": member }));
            let error = client.expect("pusher:subscription_error", &name);
            assert_eq!(error.raw["data"]["status"], 401, "{auth}: {:?}", error.raw);
        }
    }
    for open in ["privatefoo", "private_x", "presence", "presencex", "my-private-x", "Private-x", "cached-news"] {
        client.subscribe(open);
    }
    client.subscribe("my-cache-x");
    assert!(client.ping().is_empty(), "no cache channel");
}

#[test]
fn trap_4_the_key_counts_with_the_signature() {
    let node = Node::start("", &[]);
    let mut client = Client::connect(&node);
    let auth = client.sign("private-x", None).replace(KEY, OTHER_KEY);
    client.send("pusher:subscribe", json!({ "channel": "private-x", "auth": auth }));
    assert_eq!(client.expect("pusher:subscription_error", "private-x").raw["data"]["status"], 401);
    let foreign = Signer { key: OTHER_KEY, ..APPLICATION };
    let answer = foreign.post(node.address, "events", r#"{"name":"e","channel":"news","data":"1"}"#);
    assert_eq!(answer.status, 401);
}

#[test]
fn trap_5_channel_data_is_read_only_when_it_is_signed() {
    let mut node = Node::start("", &[]);
    let mut client = Client::connect(&node);
    for data in ["", "7", "[[", r#"{"user_id":{}}"#] {
        let status = |client: &mut Client, auth: String| {
            client.send("pusher:subscribe", json!({ "channel": ROOM, "auth": auth, "channel_data": data }));
            client.expect("pusher:subscription_error", ROOM).raw["data"]["status"].clone()
        };
        assert_eq!(status(&mut client, format!("{KEY}:00")), 401, "{data}");
        let auth = client.sign(ROOM, Some(data));
        assert_eq!(status(&mut client, auth), 400, "{data}");
    }
    node.assert_well();
}

#[test]
fn trap_6_tabs_that_come_and_go_at_once_are_one_join_and_one_leave() {
    let cluster = Cluster::start(2);
    let mut watcher = Client::present(&cluster.nodes[0], ROOM, "watcher");
    for round in 0..5 {
        let user = format!("user {round}");
        let mut tabs: Vec<Client> = (0..6).map(|n| Client::connect(&cluster.nodes[n % 2])).collect();
        tabs.iter_mut().for_each(|tab| tab.ask_to_enter(ROOM, &user));
        for tab in &mut tabs {
            tab.expect("pusher_internal:subscription_succeeded", ROOM);
        }
        drop(tabs);
        for event in ["pusher_internal:member_added", "pusher_internal:member_removed"] {
            assert_eq!(watcher.expect(event, ROOM).data()["user_id"], user, "round {round}");
        }
    }
    assert!(watcher.ping().is_empty());
}

#[test]
fn trap_7_what_is_published_in_order_is_heard_in_order() {
    let cluster = Cluster::start(2);
    let mut client = Client::on(&cluster.nodes[1], "news");
    for ten in 0..20 {
        let batch: Vec<Value> =
            (0..10).map(|n| json!({ "name": "e", "channel": "news", "data": (ten * 10 + n).to_string() })).collect();
        let answer = APPLICATION.post(cluster.nodes[0].address, "batch_events", &json!({ "batch": batch }).to_string());
        assert_eq!((answer.status, &*answer.body), (200, "{}"));
    }
    for number in 0..200 {
        assert_eq!(client.expect("e", "news").data(), number);
    }
}

#[test]
fn trap_8_who_has_heard_its_success_misses_nothing() {
    let cluster = Cluster::start(2);
    let mut client = Client::connect(&cluster.nodes[1]);
    for number in 0..50 {
        let channel = format!("news-{number}");
        client.subscribe(&channel);
        let body = json!({ "name": "first", "channel": channel, "data": "1" }).to_string();
        assert_eq!(APPLICATION.post(cluster.nodes[0].address, "events", &body).status, 200);
        client.expect("first", &channel);
    }
}

#[test]
fn trap_9_a_second_subscribe_as_somebody_else_leaves_no_ghost() {
    let cluster = Cluster::start(2);
    let mut watcher = Client::present(&cluster.nodes[0], ROOM, "watcher");
    let mut client = Client::present(&cluster.nodes[1], ROOM, "ann");
    watcher.expect("pusher_internal:member_added", ROOM);
    let again = client.enter(ROOM, "eve").data();
    assert_eq!(again["presence"]["ids"], json!(["ann", "watcher"]));
    client.unsubscribe(ROOM);
    assert_eq!(watcher.expect("pusher_internal:member_removed", ROOM).data()["user_id"], "ann");
    assert!(watcher.ping().is_empty());
    let users = APPLICATION.get(cluster.nodes[0].address, "channels/presence-room/users", &[]);
    assert_eq!(users.body, r#"{"users":[{"id":"watcher"}]}"#);
}

#[test]
fn trap_10_nobody_hears_himself_on_whichever_node() {
    let cluster = Cluster::start(2);
    let mut all: Vec<Client> = (0..4).map(|n| Client::on(&cluster.nodes[n % 2], "private-x")).collect();
    let ids: Vec<String> = all.iter().map(|client| client.id.clone()).collect();
    for client in &mut all {
        let whisper = json!({ "event": "client-by", "channel": "private-x", "data": client.id });
        client.socket.send(&whisper.to_string());
    }
    for (number, client) in all.iter_mut().enumerate() {
        let mut heard: Vec<String> =
            (0..3).map(|_| client.expect("client-by", "private-x").raw["data"].as_str().unwrap().to_owned()).collect();
        let mut others = ids.clone();
        others.remove(number);
        heard.sort();
        others.sort();
        assert_eq!(heard, others);
    }
    for (number, id) in ids.iter().enumerate() {
        let body = json!({ "name": "e", "channel": "private-x", "data": "1", "socket_id": id }).to_string();
        assert_eq!(APPLICATION.post(cluster.nodes[number % 2].address, "events", &body).status, 200);
    }
    let marker = json!({ "name": "marker", "channel": "private-x", "data": "1" }).to_string();
    APPLICATION.post(cluster.nodes[1].address, "events", &marker);
    for client in &mut all {
        assert_eq!(client.until("marker").0.len(), 3);
    }
}

#[test]
fn trap_11_a_socket_that_closes_in_mid_subscribe_is_gone_from_everything() {
    let cluster = Cluster::start(2);
    for number in 0..20 {
        let mut client = Client::connect(&cluster.nodes[number % 2]);
        client.ask_to_enter(ROOM, "ghost");
        client.ask(&format!("news-{number}"));
        drop(client);
    }
    for node in &cluster.nodes {
        until("the sockets are gone", || (node.metric("fanfare_connections", &[]) == 0.0).then_some(()));
    }
    let body = |call: &str| APPLICATION.get(cluster.nodes[0].address, call, &[]).body;
    until("nobody is left", || (body("channels/presence-room/users") == r#"{"users":[]}"#).then_some(()));
    until("no channel is left", || (body("channels") == r#"{"channels":{}}"#).then_some(()));
}

#[test]
fn trap_12_a_node_that_ends_asks_its_clients_back() {
    let mut node = Node::start("", &[]);
    let mut client = Client::on(&node, "news");
    node.signal("TERM");
    assert_eq!(client.close_code(), 4200);
    assert!(node.end().success());
}

#[test]
fn trap_13_a_close_code_arrives_with_its_error_each_time() {
    let node = Node::start("", &[]);
    for _ in 0..50 {
        let mut socket = Socket::open(node.address, "/app/unknown?protocol=7").unwrap();
        // Something of the client is on its way when it is closed.
        socket.send(r#"{"event":"pusher:subscribe","data":{"channel":"news"}}"#);
        let Frame::Text(text) = socket.next() else { panic!("no error") };
        assert_eq!(text, r#"{"event":"pusher:error","data":{"code":4001,"message":"Application does not exist"}}"#);
        assert_eq!(close_code(&mut socket), 4001);
    }
}

#[test]
fn trap_14_counts_are_of_the_cluster_and_fresh() {
    let cluster = Cluster::start(2);
    let near = cluster.nodes[0].address;
    let mut clients: Vec<Client> = Vec::new();
    for number in 1..=6 {
        clients.push(Client::present(&cluster.nodes[0], ROOM, &format!("user {}", number % 3)));
        let info = [("info", "user_count,subscription_count")];
        let body = APPLICATION.get(near, "channels/presence-room", &info).body;
        let users = number.min(3);
        assert_eq!(body, format!(r#"{{"occupied":true,"user_count":{users},"subscription_count":{number}}}"#));
    }
    let far = || APPLICATION.get(cluster.nodes[1].address, "channels/presence-room", &[("info", "subscription_count")]);
    until("the other node knows", || (far().body == r#"{"occupied":true,"subscription_count":6}"#).then_some(()));
}

#[test]
fn trap_16_a_cache_channel_keeps_what_the_application_said_last() {
    let cluster = Cluster::start(2);
    let channel = "private-cache-price";
    let publish = |data: &str| {
        let body = json!({ "name": "price", "channel": channel, "data": data }).to_string();
        assert_eq!(APPLICATION.post(cluster.nodes[0].address, "events", &body).status, 200);
    };
    let mut first = Client::on(&cluster.nodes[0], channel);
    assert_eq!(first.expect("pusher:cache_miss", channel).raw.get("data"), None);
    publish(r#"{"eur":1}"#);
    assert_eq!(first.expect("price", channel).raw["data"], r#"{"eur":1}"#);
    let mut second = Client::on(&cluster.nodes[1], channel);
    assert_eq!(second.expect("price", channel).raw["data"], r#"{"eur":1}"#);
    first.socket.send(&json!({ "event": "client-bid", "channel": channel, "data": 2 }).to_string());
    second.expect("client-bid", channel);
    drop((first, second));
    for node in &cluster.nodes {
        until("all are gone", || (node.metric("fanfare_connections", &[]) == 0.0).then_some(()));
    }
    let mut third = Client::on(&cluster.nodes[1], channel);
    assert_eq!(third.expect("price", channel).raw["data"], r#"{"eur":1}"#, "kept though nobody was there");
    third.subscribe(channel);
    assert!(third.ping().is_empty(), "a second subscribe brings it not again");
    let body = APPLICATION.get(cluster.nodes[1].address, &format!("channels/{channel}"), &[("info", "cache")]).body;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["cache"]["data"], r#"{"eur":1}"#);
    drop(third);
    publish(r#"{"eur":3}"#);
    let mut fourth = Client::on(&cluster.nodes[0], channel);
    assert_eq!(fourth.expect("price", channel).raw["data"], r#"{"eur":3}"#, "published to nobody");
}

#[test]
fn trap_16_a_presence_channel_keeps_its_event_through_comings_and_goings() {
    let node = Node::start("", &[]);
    let channel = "presence-cache-room";
    let mut ann = Client::present(&node, channel, "ann");
    ann.expect("pusher:cache_miss", channel);
    let body = json!({ "name": "topic", "channel": channel, "data": "tea" }).to_string();
    assert_eq!(APPLICATION.post(node.address, "events", &body).status, 200);
    assert_eq!(ann.expect("topic", channel).raw["data"], "tea");
    drop(Client::present(&node, channel, "bob"));
    ann.expect("pusher_internal:member_added", channel);
    ann.expect("pusher_internal:member_removed", channel);
    let mut cy = Client::connect(&node);
    let members = cy.enter(channel, "cy").data();
    assert_eq!(members["presence"]["ids"], json!(["ann", "cy"]));
    assert_eq!(cy.expect("topic", channel).raw["data"], "tea");
}

#[test]
fn trap_17_a_limit_refuses_what_was_asked_and_closes_nothing() {
    let node = Node::start("", &[("FANFARE_APPS__MAIN__CHANNELS_PER_CONNECTION", "2")]);
    let mut client = Client::on(&node, "private-x");
    client.subscribe("two");
    client.ask("three");
    assert_eq!(client.expect("pusher:subscription_error", "three").raw["data"]["type"], "LimitReached");
    let whisper =
        |event: &str, data: Value| json!({ "event": event, "channel": "private-x", "data": data }).to_string();
    let long = format!("client-{}", "x".repeat(194));
    for text in [whisper("client-x", json!("x".repeat(11_000))), whisper(&long, json!(1))] {
        client.socket.send(&text);
        assert_eq!(client.expect("pusher:error", "").raw["data"]["code"], 4301);
    }
    // More than two seconds' worth at once: the clock that counts moves on at most once meanwhile.
    let texts: Vec<String> = (0..31).map(|number| whisper("client-x", json!(number))).collect();
    client.socket.send_all(texts.iter().map(|text| &**text));
    let refused = client.ping();
    assert!((11..=21).contains(&refused.len()), "{} of 31 were refused", refused.len());
    assert!(refused.iter().all(|answer| answer.raw["data"]["code"] == 4301));
    let body = json!({ "name": "e", "channel": "two", "data": "x".repeat(10_241) }).to_string();
    assert_eq!(APPLICATION.post(node.address, "events", &body).status, 413);
    assert!(client.ping().is_empty());
}

#[test]
fn trap_18_a_success_has_a_body() {
    let node = Node::start("", &[]);
    let event = json!({ "name": "e", "channel": "news", "data": "1" });
    for (call, body) in [
        ("events", event.to_string()),
        ("batch_events", json!({ "batch": [event] }).to_string()),
        ("users/7/terminate_connections", "{}".to_owned()),
        ("users/7/terminate_connections", String::new()),
    ] {
        let answer = APPLICATION.post(node.address, call, &body);
        assert_eq!((answer.status, &*answer.body), (200, "{}"), "{call}");
    }
}

#[test]
fn trap_19_who_does_not_read_is_closed_and_holds_up_nobody() {
    let node = Node::start("", &[("FANFARE_LIMITS__OUTBOX_BYTES", "65536")]);
    let deaf = Client::on(&node, "news");
    let mut other = Client::on(&node, "news");
    let body = json!({ "name": "e", "channel": "news", "data": "x".repeat(10_000) }).to_string();
    let closed = || node.metric("fanfare_connections", &[]) < 2.0;
    until("the deaf one is closed", || {
        for _ in 0..20 {
            assert_eq!(APPLICATION.post(node.address, "events", &body).status, 200);
            other.expect("e", "news");
        }
        closed().then_some(())
    });
    assert!(other.ping().is_empty());
    drop(deaf);
}

#[test]
fn trap_20_a_second_tab_needs_no_place_of_its_own() {
    let cluster = Cluster::with(2, &[("FANFARE_APPS__MAIN__MEMBERS", "1")]);
    let _first = Client::present(&cluster.nodes[0], ROOM, "ann");
    let _second = Client::present(&cluster.nodes[1], ROOM, "ann");
    let mut bob = Client::connect(&cluster.nodes[1]);
    bob.ask_to_enter(ROOM, "bob");
    let error = bob.expect("pusher:subscription_error", ROOM);
    assert_eq!((&error.raw["data"]["type"], &error.raw["data"]["status"]), (&json!("LimitReached"), &json!(403)));
    assert!(bob.ping().is_empty());
}
