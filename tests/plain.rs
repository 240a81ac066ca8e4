//! The plain dialect: `new WebSocket(…)` and nothing else.

use crate::support::client::close_code;
use crate::support::prelude::*;

/// A plain client: JSON objects in text frames.
struct Plain {
    socket: Socket,
    id: String,
}

impl Plain {
    fn open(node: &Node, path: &str) -> Self {
        let socket = Socket::open(node.address, path).expect("the upgrade is granted");
        let mut plain = Self { socket, id: String::new() };
        let welcome = plain.next();
        assert_eq!((&welcome["type"], &welcome["activity_timeout"]), (&json!("welcome"), &json!(30)));
        plain.id = welcome["socket_id"].as_str().expect("a socket id").to_owned();
        plain
    }

    fn next(&mut self) -> Value {
        let Frame::Text(text) = self.socket.next() else { panic!("not a message") };
        serde_json::from_str(&text).expect("JSON")
    }

    fn ask(&mut self, question: Value) -> Value {
        self.socket.send(&question.to_string());
        self.next()
    }
}

fn text(socket: &mut Socket) -> String {
    match socket.next() {
        Frame::Text(text) => text,
        other => panic!("not a text: {other:?}"),
    }
}

#[test]
fn the_url_or_a_message_subscribes_and_events_are_json() {
    let node = Node::start("", &[]);
    let mut api = Api::of(&node);
    let mut plain = Plain::open(&node, "/ws?channels=a,b&channel=c");
    for channel in ["a", "b", "c"] {
        assert_eq!(plain.next(), json!({ "type": "subscribed", "channel": channel }));
    }
    let answer = plain.ask(json!({ "type": "subscribe", "channel": "d/é", "ref": { "any": 1 } }));
    assert_eq!(answer, json!({ "type": "subscribed", "channel": "d/é", "ref": { "any": 1 } }));
    api.trigger(&["b"], "order.new", json!({ "id": 1 }));
    assert_eq!(plain.next(), json!({ "type": "event", "channel": "b", "event": "order.new", "data": { "id": 1 } }));
    api.trigger(&["b"], "text", json!("hello"));
    assert_eq!(plain.next(), json!({ "type": "event", "channel": "b", "event": "text", "data": "hello" }));
    let answer = plain.ask(json!({ "type": "unsubscribe", "channel": "b", "ref": "x" }));
    assert_eq!(answer, json!({ "type": "unsubscribed", "channel": "b", "ref": "x" }));
    api.trigger(&["b"], "not heard", json!(1));
    assert_eq!(plain.ask(json!({ "type": "ping", "ref": 1.5 })), json!({ "type": "pong", "ref": 1.5 }));
    assert_eq!(plain.ask(json!({ "type": "ping" })), json!({ "type": "pong" }));
}

#[test]
fn the_root_is_plain_too_and_exclusion_knows_its_sockets() {
    let cluster = Cluster::start(2);
    let mut sender = Plain::open(&cluster.nodes[0], "/?channels=news");
    let mut other = Plain::open(&cluster.nodes[1], "/ws?channels=news");
    sender.next();
    other.next();
    let mut laravel = Laravel::with("phpredis", &cluster.redis);
    laravel.broadcast_to_others(&sender.id, &["news"], 1);
    laravel.broadcast(&["news"], 2);
    assert_eq!(sender.next()["data"]["number"], 2);
    assert_eq!(other.next()["data"]["number"], 1);
    assert_eq!(other.next()["data"]["number"], 2);
}

#[test]
fn private_and_presence_channels_want_a_signature() {
    let node = Node::start("", &[]);
    let mut pusher = Client::connect(&node);
    let mut plain = Plain::open(&node, "/ws");
    pusher.id.clone_from(&plain.id);
    let signed = |channel: &str, member: Option<&str>| json!({ "type": "subscribe", "channel": channel, "auth": pusher.sign(channel, member), "channel_data": member });
    let refused = plain.ask(json!({ "type": "subscribe", "channel": "private-x", "ref": 1 }));
    let [kind, code, channel, tag] = ["type", "code", "channel", "ref"].map(|field| &refused[field]);
    assert_eq!([kind, code, channel, tag], [&json!("refused"), &json!(4009), &json!("private-x"), &json!(1)]);
    assert_eq!(plain.ask(signed("private-x", None)), json!({ "type": "subscribed", "channel": "private-x" }));
    let answer = plain.ask(signed("presence-room", Some(r#"{"user_id":1,"user_info":{"n":"A"}}"#)));
    let members = json!([{ "id": "1", "info": { "n": "A" } }]);
    assert_eq!(answer, json!({ "type": "subscribed", "channel": "presence-room", "members": members }));
    let other = Client::present(&node, "presence-room", "bob");
    let bob = json!({ "id": "bob", "info": { "name": "bob" } });
    assert_eq!(plain.next(), json!({ "type": "joined", "channel": "presence-room", "member": bob }));
    drop(other);
    let left = plain.next();
    assert_eq!((&left["type"], &left["member"]["id"]), (&json!("left"), &json!("bob")));
}

#[test]
fn raw_is_data_alone() {
    let node = Node::start("", &[]);
    let mut api = Api::of(&node);
    let mut raw = Socket::open(node.address, "/ws?channel=a&raw=1").unwrap();
    let mut marker = Plain::open(&node, "/ws?channels=a");
    marker.next();
    // A raw client gets no word of its subscription, so ask until it hears.
    until("the raw subscription stands", || (node.metric("fanfare_subscriptions", &[]) == 2.0).then_some(()));
    api.trigger(&["a"], "e", json!("text in, text out"));
    api.trigger(&["a"], "e", json!({ "n": 1 }));
    assert_eq!(text(&mut raw), "text in, text out");
    assert_eq!(text(&mut raw), r#"{"n":1}"#);
    raw.send("hello");
    assert_eq!(close_code(&mut raw), 4009);
    let mut refused = Socket::open(node.address, "/ws?channel=private-a&raw=1").unwrap();
    assert_eq!(close_code(&mut refused), 4009);
}

#[test]
fn wrong_frames_are_refused_with_plains_numbers() {
    let mut node = Node::start("", &[]);
    let mut plain = Plain::open(&node, "/ws");
    for (message, code) in [
        ("not JSON".to_owned(), 4010),
        ("[]".to_owned(), 4010),
        (json!({ "type": 7 }).to_string(), 4010),
        (json!({ "type": "subscribe" }).to_string(), 4010),
        (json!({ "type": "nonsense" }).to_string(), 4011),
        (json!({ "type": "subscribe", "channel": "a b" }).to_string(), 4012),
        ("[".repeat(30_000), 4010),
    ] {
        plain.socket.send(&message);
        let answer = plain.next();
        assert_eq!((&answer["type"], &answer["code"]), (&json!("refused"), &json!(code)), "{answer}");
    }
    plain.socket.send_binary(b"x");
    assert_eq!(plain.next()["code"], 4010);
    node.assert_well();
}
