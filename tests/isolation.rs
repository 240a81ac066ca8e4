//! One node, many tenants: what an app's clients and back end have is worth nothing in another app, on whichever node; and
//! pages come in only from where the app says.

use crate::support::client::close_code;
use crate::support::http::{APPLICATION, Signer};
use crate::support::node::{APP_ID, KEY, OTHER_ID, OTHER_KEY, OTHER_SECRET, PREFIX, SECRET};
use crate::support::prelude::*;

/// The back end of the other app.
const OTHERS: Signer = Signer { app_id: OTHER_ID, key: OTHER_KEY, secret: OTHER_SECRET, clock: 0 };

fn event(name: &str, channel: &str) -> String {
    json!({ "name": name, "channel": channel, "data": "1" }).to_string()
}

#[test]
fn channels_of_one_name_in_two_apps_have_nothing_to_do_with_each_other() {
    let cluster = Cluster::start(2);
    let nodes = &cluster.nodes;
    let on = |node, key, secret| {
        let mut client = Client::of(node, key, secret);
        client.subscribe("news");
        client.subscribe("private-a");
        client
    };
    let mut mine: Vec<Client> = nodes.iter().map(|node| on(node, KEY, SECRET)).collect();
    let mut theirs: Vec<Client> = nodes.iter().map(|node| on(node, OTHER_KEY, OTHER_SECRET)).collect();

    // By the API, by Redis, by a client; each followed by the other app's own word on the same channel.
    assert_eq!(APPLICATION.post(nodes[0].address, "events", &event("api", "news")).status, 200);
    assert_eq!(cluster.redis.publish(&format!("{PREFIX}news"), r#"{"event":"redis"}"#), 2);
    assert_eq!(OTHERS.post(nodes[1].address, "events", &event("other", "news")).status, 200);
    for client in &mut mine {
        assert_eq!((&*client.next().event, &*client.next().event), ("api", "redis"));
    }
    for client in &mut theirs {
        client.expect("other", "news");
    }
    mine[0].socket.send(&json!({ "event": "client-hello", "channel": "private-a", "data": 1 }).to_string());
    mine[1].expect("client-hello", "private-a");
    assert_eq!(OTHERS.post(nodes[0].address, "events", &event("other", "private-a")).status, 200);
    theirs.iter_mut().for_each(|client| drop(client.expect("other", "private-a")));
    assert_eq!(cluster.redis.publish(&format!("{OTHER_ID}:news"), r#"{"event":"redis"}"#), 2);
    theirs.iter_mut().for_each(|client| drop(client.expect("redis", "news")));

    // A socket of one app is nobody to be left out in the other.
    let body = json!({ "name": "all", "channel": "news", "data": "1", "socket_id": theirs[0].id }).to_string();
    assert_eq!(APPLICATION.post(nodes[1].address, "events", &body).status, 200);
    mine[1].expect("all", "news");
    let pings = |clients: &mut Vec<Client>| clients.iter_mut().map(|client| client.ping().len()).sum::<usize>();
    assert_eq!(pings(&mut theirs), 0, "something of the other app was heard");
}

#[test]
fn members_of_one_app_are_unknown_in_the_other() {
    let cluster = Cluster::start(2);
    let (mut ann, mut bob) =
        (Client::of(&cluster.nodes[0], KEY, SECRET), Client::of(&cluster.nodes[1], OTHER_KEY, OTHER_SECRET));
    let ids = |message: crate::support::client::Message| message.data()["presence"]["ids"].clone();
    assert_eq!(ids(ann.enter("presence-room", "1")), json!(["1"]));
    assert_eq!(ids(bob.enter("presence-room", "2")), json!(["2"]));
    let mut carl = Client::of(&cluster.nodes[1], OTHER_KEY, OTHER_SECRET);
    assert_eq!(ids(carl.enter("presence-room", "1")), json!(["1", "2"]), "user 1 of this app is another one");
    bob.expect("pusher_internal:member_added", "presence-room");
    assert_eq!(ann.ping().len(), 0);
}

#[test]
fn keys_and_signatures_of_one_app_are_refused_in_the_other() {
    let cluster = Cluster::start(2);
    let node = &cluster.nodes[1];
    let mut client = Client::of(node, OTHER_KEY, OTHER_SECRET);
    for (key, secret) in [(KEY, SECRET), (OTHER_KEY, SECRET), (KEY, OTHER_SECRET)] {
        (client.key, client.secret) = (key, secret);
        client.ask("private-a");
        client.expect("pusher:subscription_error", "private-a");
        client.ask_to_enter("presence-a", "ann");
        client.expect("pusher:subscription_error", "presence-a");
    }
    (client.key, client.secret) = (OTHER_KEY, OTHER_SECRET);
    client.subscribe("private-a");

    let answer = |app_id, key, secret| {
        let signer = Signer { app_id, key, secret, clock: 0 };
        signer.post(cluster.nodes[0].address, "events", &event("e", "private-a")).status
    };
    for app_id in [APP_ID, OTHER_ID] {
        for (key, secret) in [(KEY, OTHER_SECRET), (OTHER_KEY, SECRET)] {
            assert_eq!(answer(app_id, key, secret), 401, "{app_id} {key}");
        }
    }
    assert_eq!((answer(APP_ID, OTHER_KEY, OTHER_SECRET), answer(OTHER_ID, KEY, SECRET)), (401, 401));
    assert_eq!(answer("nobody", KEY, SECRET), 404);
    assert_eq!(client.ping().len(), 0, "something got through");
    assert_eq!(answer(OTHER_ID, OTHER_KEY, OTHER_SECRET), 200);
    client.expect("e", "private-a");
}

#[test]
fn the_api_of_one_app_sees_and_ends_nothing_of_the_other() {
    let cluster = Cluster::start(2);
    let nodes = &cluster.nodes;
    let mut mine = Client::present(&nodes[0], "presence-room", "1");
    let mut theirs = Client::of(&nodes[1], OTHER_KEY, OTHER_SECRET);
    theirs.enter("presence-room", "2");
    theirs.subscribe("theirs-alone");
    for client in [&mut mine, &mut theirs] {
        client.sign_in(&json!({ "id": "ann" }));
    }
    let told = |signer: &Signer, call: &str| -> Value {
        let answer = signer.get(nodes[0].address, call, &[]);
        assert_eq!(answer.status, 200, "{call}: {answer:?}");
        serde_json::from_str(&answer.body).unwrap()
    };
    for (signer, user, names) in
        [(&APPLICATION, "1", &["presence-room"][..]), (&OTHERS, "2", &["presence-room", "theirs-alone"])]
    {
        assert_eq!(told(signer, "channels/presence-room/users"), json!({ "users": [{ "id": user }] }));
        let channels = told(signer, "channels")["channels"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let channels: Vec<&String> = channels.iter().filter(|name| !name.starts_with('#')).collect();
        assert_eq!(channels, names);
    }
    assert_eq!(told(&APPLICATION, "channels/theirs-alone")["occupied"], false);
    assert_eq!(OTHERS.post(nodes[0].address, "users/ann/terminate_connections", "{}").status, 200);
    assert_eq!(theirs.close_code(), 4009);
    assert_eq!(APPLICATION.post(nodes[1].address, "events", &event("e", "presence-room")).status, 200);
    mine.expect("e", "presence-room");
}

#[test]
fn each_app_says_from_where_its_pages_come() {
    let allowed = "https://shop.example, *.Test, http://localhost:5173";
    let node = Node::start("", &[("FANFARE_APPS__MAIN__ALLOWED_ORIGINS", allowed)]);
    let open = |key: &str, headers: &str| {
        let path = format!("/app/{key}?protocol=7");
        Socket::open_with(node.address, &path, headers).expect("a no is said over the WebSocket")
    };
    let is_welcome = |mut socket: Socket| match socket.next() {
        Frame::Text(text) if text.contains("connection_established") => true,
        Frame::Text(text) => {
            let refused: Value = serde_json::from_str(&text).unwrap();
            let expected = json!({ "code": 4009, "message": "Origin not allowed" });
            assert_eq!((&refused["event"], &refused["data"]), (&json!("pusher:error"), &expected));
            assert_eq!(close_code(&mut socket), 4009);
            false
        }
        other => panic!("{other:?}"),
    };
    let origin = |origin: &str| format!("Origin: {origin}\r\n");
    let own = format!("http://{}", node.address);
    for good in ["https://shop.example", "https://Shop.example", "http://a.b.test:81", "http://localhost:5173", &own] {
        assert!(is_welcome(open(KEY, &origin(good))), "{good}");
    }
    assert!(is_welcome(open(KEY, "")), "no browser");
    let bad = ["http://shop.example", "https://shop.example.evil", "https://test", "http://localhost", "null", ""];
    for bad in bad {
        assert!(!is_welcome(open(KEY, &origin(bad))), "{bad}");
        assert!(is_welcome(open(OTHER_KEY, &origin(bad))), "the other app takes all: {bad}");
    }
    let rejected = node.metric("fanfare_connections_rejected_total", &[("reason", "origin")]);
    assert_eq!(rejected, bad.len() as f64);
}
