//! The data of an event stays the bytes it came as: nobody parses and re-prints it, on any road, on either backplane.

use crate::support::http::APPLICATION;
use crate::support::node::PREFIX;
use crate::support::prelude::*;

/// JSON that any parser that prints again would change, or refuse.
fn odd() -> Vec<String> {
    let mut odd: Vec<String> = [
        r#"{"b":1, "a" : 2,"b":3}"#,
        "1e400",
        "1.0",
        "-0",
        "123456789012345678901234567890.10",
        r#""\u0041\/\ud83d\ude00 \u00e9 Zoë 😀""#,
        "[ 1,\t2 , null,true ]",
        r#"{"":{"\u0000":""}}"#,
    ]
    .map(str::to_owned)
    .into();
    odd.push("[".repeat(60) + &"]".repeat(60));
    odd.push(format!("{{\"long\":\"{}\"}}", "x\\\"".repeat(3_000)));
    odd
}

/// As a protocol tells it that has data as a string.
fn as_string(data: &str) -> String {
    if data.starts_with('"') { data.to_owned() } else { json!(data).to_string() }
}

struct Listeners {
    pusher: Client,
    plain: Socket,
}

impl Listeners {
    fn of(node: &Node) -> Self {
        let mut plain = Socket::open(node.address, "/?channels=bytes").expect("the upgrade is granted");
        // The welcome, and the subscription.
        (0..2).for_each(|_| assert!(matches!(plain.next(), Frame::Text(_))));
        Self { pusher: Client::on(node, "bytes"), plain }
    }

    /// `string`: the data as Pusher tells it. `bare`: as the plain dialect does.
    fn hear(&mut self, event: &str, string: &str, bare: &str) {
        self.pusher.expect_text(&format!(r#"{{"event":"{event}","channel":"bytes","data":{string}}}"#));
        let text = format!(r#"{{"type":"event","channel":"bytes","event":"{event}","data":{bare}}}"#);
        assert_eq!(self.plain.next(), Frame::Text(text));
    }
}

/// By the HTTP API, alone and in a batch: the data is a string, whose content a client takes for the value.
fn by_api(node: &Node, listeners: &mut Listeners) {
    for data in odd() {
        let string = json!(data).to_string();
        let events = format!(r#"{{"name":"one","channels":["bytes"],"data":{string}}}"#);
        assert_eq!(APPLICATION.post(node.address, "events", &events).status, 200, "{data}");
        listeners.hear("one", &string, &data);
        let batch = format!(r#"{{"batch":[{{"name":"two","channel":"bytes","data":{string}}}]}}"#);
        assert_eq!(APPLICATION.post(node.address, "batch_events", &batch).status, 200, "{data}");
        listeners.hear("two", &string, &data);
    }
}

/// A client event keeps the type that it was sent as.
fn by_client(node: &Node) {
    let (mut ann, mut bob) = (Client::on(node, "private-bytes"), Client::on(node, "private-bytes"));
    for data in odd() {
        let text = format!(r#"{{"event":"client-odd","channel":"private-bytes","data":{data}}}"#);
        ann.socket.send(&text);
        bob.expect_text(&text);
    }
}

#[test]
fn data_is_told_byte_for_byte_on_a_node_by_itself() {
    let node = Node::start("", &[("FANFARE_APPS__MAIN__CLIENT_EVENTS_PER_SECOND", "0")]);
    by_api(&node, &mut Listeners::of(&node));
    by_client(&node);
}

#[test]
fn data_is_told_byte_for_byte_across_redis() {
    let redis = Redis::start();
    let node = Node::start(&redis.url(), &[("FANFARE_APPS__MAIN__CLIENT_EVENTS_PER_SECOND", "0")]);
    let mut listeners = Listeners::of(&node);
    by_api(&node, &mut listeners);
    by_client(&node);
    // As Laravel's redis driver prints it.
    for data in odd() {
        let payload = format!(r#"{{"event":"three","data":{data},"socket":null}}"#);
        redis.ask(&["PUBLISH", &format!("{PREFIX}bytes"), &payload]);
        listeners.hear("three", &as_string(&data), &data);
    }
}
