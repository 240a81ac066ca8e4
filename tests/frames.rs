//! What pusher-js really sends, kept in `tests/frames/`, and what it is answered.
//!
//! One test has the libraries speak through a relay and compares that with what is kept; with `FANFARE_RECORD=1` it writes it
//! down anew. The other plays what is kept to a node. In what is kept `{auth}` stands for a signature, which fits one socket.

use std::fs;
use std::path::PathBuf;

use crate::pusher_js::LIBRARIES;
use crate::support::node::{KEY, SECRET};
use crate::support::prelude::*;
use crate::support::websocket::TEXT;

const PING: &str = r#"{"event":"pusher:ping","data":{}}"#;

/// What an application does, in this order, as its script is told.
fn actions() -> Vec<(&'static str, Value)> {
    let subscribe = |channel: &str| json!({ "do": "subscribe", "channel": channel });
    let ada = json!({ "user_id": "a", "user_info": { "n": "Ada" } });
    let user = json!({ "id": "a", "user_info": { "n": "Ada" }, "watchlist": ["b", "c"] });
    let typing =
        json!({ "do": "whisper", "channel": "private-orders.1", "event": "client-typing", "data": { "on": true } });
    let text = json!({ "do": "whisper", "channel": "presence-room", "event": "client-said", "data": "Zoë 😀" });
    vec![
        ("subscribe to a public channel", subscribe("news")),
        ("subscribe to a private channel", subscribe("private-orders.1")),
        ("enter a presence channel", json!({ "do": "subscribe", "channel": "presence-room", "user": ada })),
        ("subscribe to an encrypted channel", subscribe("private-encrypted-secrets")),
        ("send a client event", typing),
        ("send a client event on a presence channel", text),
        ("unsubscribe", json!({ "do": "unsubscribe", "channel": "news" })),
        ("subscribe to a cache channel", subscribe("cache-price")),
        ("sign in", json!({ "do": "signin", "user": user })),
    ]
}

/// What the node says to the one who sent it. What is not here has tests of its own.
const ANSWERS: [(&str, &[&str]); 8] = [
    (
        "subscribe to a public channel",
        &[r#"{"event":"pusher_internal:subscription_succeeded","channel":"news","data":"{}"}"#],
    ),
    (
        "subscribe to a private channel",
        &[r#"{"event":"pusher_internal:subscription_succeeded","channel":"private-orders.1","data":"{}"}"#],
    ),
    (
        "enter a presence channel",
        &[concat!(
            r#"{"event":"pusher_internal:subscription_succeeded","channel":"presence-room","#,
            r#""data":"{\"presence\":{\"ids\":[\"a\"],\"hash\":{\"a\":{\"n\":\"Ada\"}},\"count\":1}}"}"#
        )],
    ),
    (
        "subscribe to an encrypted channel",
        &[r#"{"event":"pusher_internal:subscription_succeeded","channel":"private-encrypted-secrets","data":"{}"}"#],
    ),
    ("send a client event", &[]),
    ("send a client event on a presence channel", &[]),
    ("unsubscribe", &[]),
    ("ask whether the server is there", &[r#"{"event":"pusher:pong","data":"{}"}"#]),
];

/// What the others on the channel hear of it.
const HEARD: [(&str, &str, &str); 2] = [
    (
        "send a client event",
        "private-orders.1",
        r#"{"event":"client-typing","channel":"private-orders.1","data":{"on":true}}"#,
    ),
    (
        "send a client event on a presence channel",
        "presence-room",
        r#"{"event":"client-said","channel":"presence-room","data":"Zoë 😀","user_id":"a"}"#,
    ),
];

#[test]
fn what_pusher_js_sends_is_what_is_kept() {
    for library in LIBRARIES {
        let recorded = record(library);
        if std::env::var_os("FANFARE_RECORD").is_some() {
            let text = serde_json::to_string_pretty(&recorded).unwrap();
            fs::write(file(library), text + "\n").unwrap();
        }
        assert_eq!(recorded, kept(library), "{library} says something else than tests/frames has of it");
    }
}

#[test]
fn what_pusher_js_sends_is_answered() {
    for library in LIBRARIES {
        let node = Node::start("", &[]);
        let kept = kept(library);
        let path = kept["request"].as_str().unwrap().split(' ').nth(1).expect("a path").to_owned();
        let mut client = Client::by(&node, &path, KEY, SECRET);
        for action in kept["frames"].as_array().unwrap() {
            let does = action["does"].as_str().unwrap();
            let Some((_, answers)) = ANSWERS.iter().find(|(known, _)| *known == does) else { continue };
            let heard = HEARD.iter().find(|(known, ..)| *known == does);
            let mut other = heard.map(|(_, channel, _)| listener(&node, channel));
            let sent = signed(&client, action["sent"].as_str().unwrap());
            client.socket.send(&sent);
            assert_eq!(answers_of(&mut client, does), *answers, "{library}: {does}");
            if let (Some(other), Some((.., text))) = (&mut other, heard) {
                assert_eq!(other.socket.next(), Frame::Text((*text).to_owned()), "{library}: {does}");
            }
        }
    }
}

fn listener(node: &Node, channel: &str) -> Client {
    let mut other = Client::connect(node);
    if channel.starts_with("presence-") {
        // As the same user, so that nobody is told of anybody new.
        other.enter(channel, "a");
    } else {
        other.subscribe(channel);
    }
    other
}

/// All that comes before the answer to a subscribe that only marks the end.
fn answers_of(client: &mut Client, does: &str) -> Vec<String> {
    let mark = format!("after.{}", does.replace(' ', "_"));
    client.ask(&mark);
    let mut answers = Vec::new();
    loop {
        match client.socket.next() {
            Frame::Text(text) if text.contains(&mark) => return answers,
            Frame::Text(text) => answers.push(text),
            other => panic!("{does}: {other:?}"),
        }
    }
}

/// Puts in the signature that fits this client's socket.
fn signed(client: &Client, sent: &str) -> String {
    let frame: Value = serde_json::from_str(sent).expect("pusher-js sends JSON");
    let channel = frame["data"]["channel"].as_str().unwrap_or_default();
    let auth = client.sign(channel, frame["data"]["channel_data"].as_str());
    sent.replace("{auth}", &auth)
}

/// Has a library do everything and writes down what it sends.
fn record(library: &str) -> Value {
    // It asks whether the server is there after so many seconds of silence.
    let node = Node::start("", &[("FANFARE_APPS__MAIN__ACTIVITY_TIMEOUT", "1")]);
    let relay = Relay::start(node.address.port());
    let mut browser = Browser::launch(library, &node, json!({ "port": relay.port }));
    browser.connected();
    let said = String::from_utf8_lossy(&relay.said()).into_owned();
    let request = said.lines().next().expect("a request").to_owned();
    let mut frames = Vec::new();
    for (does, verb) in actions() {
        relay.listen();
        browser.tell(&verb);
        let sent = until("it is sent", || texts(&relay).into_iter().find(|text| text != PING));
        if verb["do"] == "subscribe" {
            browser.hears(verb["channel"].as_str().unwrap(), "pusher:subscription_succeeded");
        }
        frames.push(json!({ "does": does, "sent": sent }));
    }
    relay.listen();
    let asks = until("it asks for an answer", || texts(&relay).into_iter().find(|text| text == PING));
    frames.push(json!({ "does": "ask whether the server is there", "sent": asks }));
    json!({ "request": request, "frames": frames })
}

/// The text messages that came through since the relay listens.
fn texts(relay: &Relay) -> Vec<String> {
    let bytes = relay.said();
    let mut rest = &bytes[..];
    let mut texts = Vec::new();
    while let Some((opcode, payload, behind)) = client_frame(rest) {
        if opcode == TEXT {
            texts.push(without_signatures(&String::from_utf8(payload).expect("text is UTF-8")));
        }
        rest = behind;
    }
    texts
}

/// The first frame of a client in these bytes, and what is behind it.
fn client_frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, &[u8])> {
    let (start, length) = match bytes.get(1)? & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => panic!("nothing here is so long"),
        short => (2, usize::from(short)),
    };
    let mask = bytes.get(start..start + 4)?;
    let payload = bytes.get(start + 4..start + 4 + length)?;
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Some((bytes[0] & 0x0f, payload, &bytes[start + 4 + length..]))
}

/// `KEY:HEX` is another one for each socket.
fn without_signatures(text: &str) -> String {
    assert!(!text.contains(SECRET));
    let start = format!("{KEY}:");
    match text.find(&start) {
        Some(at) => format!("{}{{auth}}{}", &text[..at], &text[at + start.len() + 64..]),
        None => text.to_owned(),
    }
}

fn kept(library: &str) -> Value {
    let text = fs::read_to_string(file(library)).expect("FANFARE_RECORD=1 writes it");
    serde_json::from_str(&text).expect("JSON")
}

fn file(library: &str) -> PathBuf {
    let name = if library == "pusher-js" { "pusher-js-8" } else { library };
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("frames/{name}.json"))
}
