//! Users who sign in: what is sent to them, who is told that they came and went, and the end of all their connections.

use crate::support::prelude::*;

#[test]
fn a_browser_that_signs_in_is_a_user_and_watches_others() {
    let cluster = Cluster::start(2);
    let mut api = Api::of(&cluster.nodes[0]);
    let mut ann = Browser::connect(&cluster.nodes[0]);
    ann.tell(&json!({ "do": "signin", "user": { "id": "ann", "watchlist": ["bob", "cy", "ann"] } }));
    let watched = |browser: &mut Browser| {
        let told = browser.until(|told| told["kind"] == "watchlist");
        (told["event"].clone(), told["user_ids"].clone())
    };
    assert_eq!(watched(&mut ann), (json!("offline"), json!(["bob", "cy"])));
    let mut bob = Browser::connect(&cluster.nodes[1]);
    bob.sign_in(&json!({ "id": "bob", "user_info": { "name": "Bob" } }));
    assert_eq!(watched(&mut ann), (json!("online"), json!(["bob"])));
    api.call(json!({ "do": "to_user", "user": "bob", "event": "greeting", "data": { "n": 1 } }));
    let told = bob.until(|told| told["kind"] == "user");
    assert_eq!((&told["event"], &told["data"]), (&json!("greeting"), &json!({ "n": 1 })));
    api.call(json!({ "do": "terminate", "user": "bob" }));
    let error = bob.until(|told| told["kind"] == "error");
    assert_eq!(error["error"]["code"], 4009);
    assert_eq!(bob.until(|told| told["state"] == "disconnected")["kind"], "state", "it stays away");
    assert_eq!(watched(&mut ann), (json!("offline"), json!(["bob"])));
}

#[test]
fn a_user_is_online_from_the_first_connection_to_the_last() {
    let mut cluster = Cluster::start(3);
    let mut ann = Client::connect(&cluster.nodes[0]);
    let watch = json!({ "id": "ann", "watchlist": ["bob"] });
    let first = Client::of_user(&cluster.nodes[1], "bob");
    ann.sign_in(&watch);
    let watched = |name: &str| json!({ "events": [{ "name": name, "user_ids": ["bob"] }] });
    let event = "pusher_internal:watchlist_events";
    assert_eq!(ann.expect(event, "").data(), watched("online"));
    let mut second = Client::of_user(&cluster.nodes[2], "bob");
    second.unsubscribe("#server-to-user-bob");
    drop(first);
    until("bob's first is gone", || (cluster.nodes[1].metric("fanfare_connections", &[]) == 0.0).then_some(()));
    let mut late = Client::connect(&cluster.nodes[1]);
    late.sign_in(&watch);
    assert_eq!(late.expect(event, "").data(), watched("online"), "signed in, though unsubscribed");
    assert!(ann.ping().is_empty());
    cluster.nodes[2].kill();
    assert_eq!(ann.expect(event, "").data(), watched("offline"), "his node died");
    assert_eq!(late.expect(event, "").data(), watched("offline"));
    let _third = Client::of_user(&cluster.nodes[0], "bob");
    assert_eq!(ann.expect(event, "").data(), watched("online"));
}

#[test]
fn a_users_channel_is_heard_by_him_alone_and_only_when_he_asks() {
    let cluster = Cluster::start(2);
    let mut api = Api::of(&cluster.nodes[1]);
    let own = "#server-to-user-ann";
    let to_ann = |n: u32| json!({ "do": "to_user", "user": "ann", "event": "hi", "data": n });
    let mut ann = Client::connect(&cluster.nodes[0]);
    for name in [own, "#server-to-user-"] {
        ann.ask(name);
        assert_eq!(ann.expect("pusher:subscription_error", name).raw["data"]["status"], 401, "not signed in");
    }
    let user = ann.sign_in(&json!({ "id": "ann" }));
    assert_eq!(user.data(), json!({ "user_data": r#"{"id":"ann"}"# }));
    api.call(to_ann(1));
    ann.subscribe("news");
    api.trigger(&["news"], "marker", json!(1));
    ann.expect("marker", "news");
    ann.subscribe(own);
    ann.subscribe(own);
    // Another socket of his comes and goes, and those who hear the channel are not told of it.
    drop(Client::of_user(&cluster.nodes[1], "ann"));
    api.call(to_ann(2));
    assert_eq!(ann.expect("hi", own).data(), 2);
    ann.ask("#server-to-user-bob");
    assert_eq!(ann.expect("pusher:subscription_error", "#server-to-user-bob").raw["data"]["type"], "AuthError");
    ann.unsubscribe(own);
    ann.unsubscribe("#server-to-user-bob");
    assert!(ann.ping().is_empty());
    api.call(to_ann(3));
    api.trigger(&["news"], "marker", json!(2));
    ann.expect("marker", "news");
    ann.sign_in(&json!({ "id": "ann" }));
    ann.subscribe(own);
    ann.socket.send(&json!({ "event": "client-x", "channel": own, "data": {} }).to_string());
    assert_eq!(ann.expect("pusher:error", "").raw["data"]["code"], 4301);
    // Whom it was sent to alone hears it.
    let mut bob = Client::of_user(&cluster.nodes[0], "bob");
    api.call(to_ann(4));
    assert_eq!(ann.expect("hi", own).data(), 4);
    assert!(bob.ping().is_empty());
}

#[test]
fn a_sign_in_that_does_not_hold_is_an_error_and_closes_nothing() {
    let mut node = Node::start("", &[]);
    let mut client = Client::connect(&node);
    let refused = |client: &mut Client, sent: &str| {
        let error = client.expect("pusher:error", "");
        assert_eq!(error.raw["data"]["code"], 4009, "{sent}: {:?}", error.raw);
    };
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(129));
    let deep = format!(r#"{{"id":"a","user_info":{}}}"#, "[".repeat(30_000));
    for data in [
        "",
        "7",
        "[]",
        "{}",
        "null",
        "not",
        r#"{"id":7}"#,
        r#"{"id":""}"#,
        r#"{"id":null}"#,
        r#"{"id":"a b"}"#,
        r#"{"id":"a","watchlist":7}"#,
        r#"{"id":"a","watchlist":[{}]}"#,
        &long,
        &deep,
    ] {
        client.ask_to_sign_in(data);
        refused(&mut client, data);
    }
    let data = r#"{"id":"ann"}"#;
    let auth = client.sign_user(data);
    let hex = auth.split_once(':').unwrap().1;
    for auth in [json!(null), json!(7), json!(""), json!(hex), json!(format!("other:{hex}")), json!(&auth[..20])] {
        client.send("pusher:signin", json!({ "auth": auth, "user_data": data }));
        refused(&mut client, &auth.to_string());
    }
    let elsewhere = Client::connect(&node).sign_user(data);
    client.send("pusher:signin", json!({ "auth": elsewhere, "user_data": data }));
    refused(&mut client, "the signature of another socket");
    client.ask("#server-to-user-ann");
    client.expect("pusher:subscription_error", "#server-to-user-ann");
    client.sign_in(&json!({ "id": "ann" }));
    client.sign_in(&json!({ "id": "ann" }));
    client.ask_to_sign_in(r#"{"id":"bob"}"#);
    refused(&mut client, "a second user");
    client.subscribe("#server-to-user-ann");
    assert!(client.ping().is_empty());
    let counted = node.metric("fanfare_auth_failures_total", &[("kind", "user_auth")]);
    assert_eq!(counted, 21.0, "all but the one whose signature is a number, which is no sign-in");
    node.assert_well();
}

#[test]
fn a_watchlist_is_cut_at_a_hundred_and_the_sign_in_holds() {
    let node = Node::start("", &[]);
    let mut client = Client::connect(&node);
    let watchlist: Vec<String> = (0..101).map(|number| format!("user-{number}")).collect();
    client.sign_in(&json!({ "id": "ann", "watchlist": watchlist }));
    assert_eq!(client.expect("pusher:error", "").raw["data"]["code"], 4302);
    let watched = client.expect("pusher_internal:watchlist_events", "").data();
    assert_eq!(watched, json!({ "events": [{ "name": "offline", "user_ids": watchlist[..100] }] }));
    let _first = Client::of_user(&node, "user-100");
    let _last = Client::of_user(&node, "user-99");
    let watched = client.expect("pusher_internal:watchlist_events", "").data();
    assert_eq!(watched, json!({ "events": [{ "name": "online", "user_ids": ["user-99"] }] }));
}

#[test]
fn a_signed_in_user_is_present_without_channel_data() {
    let cluster = Cluster::start(2);
    let mut watcher = Client::present(&cluster.nodes[0], "presence-room", "watcher");
    let mut ann = Client::connect(&cluster.nodes[1]);
    let ask = |client: &mut Client| {
        let auth = client.sign("presence-room", None);
        client.send("pusher:subscribe", json!({ "channel": "presence-room", "auth": auth }));
    };
    ask(&mut ann);
    assert_eq!(ann.expect("pusher:subscription_error", "presence-room").raw["data"]["status"], 400);
    ann.sign_in(&json!({ "id": "ann", "user_info": { "name": "Ann" } }));
    ask(&mut ann);
    let members = ann.expect("pusher_internal:subscription_succeeded", "presence-room").data();
    assert_eq!(members["presence"]["hash"]["ann"], json!({ "name": "Ann" }));
    let added = watcher.expect("pusher_internal:member_added", "presence-room").data();
    assert_eq!(added, json!({ "user_id": "ann", "user_info": { "name": "Ann" } }));
}

#[test]
fn a_socket_that_ends_while_it_signs_in_leaves_nobody_online() {
    let cluster = Cluster::start(2);
    let mut ann = Client::connect(&cluster.nodes[0]);
    ann.sign_in(&json!({ "id": "ann", "watchlist": ["bob"] }));
    ann.expect("pusher_internal:watchlist_events", "");
    for round in 0..20 {
        let mut bob = Client::connect(&cluster.nodes[round % 2]);
        bob.ask_to_sign_in(r#"{"id":"bob","watchlist":["ann","cy"]}"#);
        drop(bob);
    }
    for node in &cluster.nodes {
        until("the short ones are gone", || (node.metric("fanfare_connections", &[]) <= 1.0).then_some(()));
    }
    let offline = || {
        let mut asker = Client::connect(&cluster.nodes[1]);
        asker.sign_in(&json!({ "id": "dan", "watchlist": ["bob"] }));
        let told = asker.expect("pusher_internal:watchlist_events", "").data();
        (told["events"][0]["name"] == "offline").then_some(())
    };
    until("bob is offline", offline);
}
