//! Whatever a client, a publisher or a stranger sends: an answer with the right number, and a node that lives on.

use crate::support::client::close_code;
use crate::support::http::{self, APPLICATION, Signer};
use crate::support::node::{APP_ID, KEY, OTHER_KEY, PREFIX, SECRET};
use crate::support::prelude::*;

/// The next message is an error without a number, and the connection answers.
fn expect_error(client: &mut Client, sent: &str) {
    let error = client.next();
    assert_eq!((&*error.event, &error.data()["code"]), ("pusher:error", &Value::Null), "{sent}: {:?}", error.raw);
    assert!(client.ping().is_empty(), "{sent}");
}

#[test]
fn what_is_not_json_is_answered_and_the_twentieth_in_a_row_closes() {
    let mut node = Node::start("", &[]);
    let mut client = Client::connect(&node);
    for text in
        ["not JSON", "", "{", "[]", "7", "null", "{}", r#"{"event":7}"#, r#"{"event":null}"#, "\u{0}", "{\"event\":"]
    {
        client.socket.send(text);
        expect_error(&mut client, text);
    }
    (0..19).for_each(|_| client.socket.send("x"));
    for _ in 0..19 {
        assert_eq!(client.next().event, "pusher:error");
    }
    assert!(client.ping().is_empty(), "a readable message begins a new count");
    (0..20).for_each(|_| client.socket.send("x"));
    assert_eq!(client.close_code(), 4100);
    node.assert_well();
}

#[test]
fn binary_and_oversized_messages_close_with_their_codes() {
    let mut node = Node::start("", &[]);
    let mut client = Client::connect(&node);
    client.socket.send_binary(b"{}");
    assert_eq!(client.close_code(), 1003);
    let large = json!({ "event": "pusher:ping", "data": "x".repeat(65_536) }).to_string();
    let mut client = Client::connect(&node);
    client.socket.send(&large);
    assert_eq!(client.close_code(), 1009);
    let mut client = Client::connect(&node);
    client.socket.send_in_two(&large);
    assert_eq!(client.close_code(), 1009);
    let mut client = Client::connect(&node);
    let fits = json!({ "event": "pusher:ping", "data": "x".repeat(65_000) }).to_string();
    client.socket.send_in_two(&fits);
    assert_eq!(client.next().event, "pusher:pong");
    node.assert_well();
}

#[test]
fn an_unknown_event_is_an_error_without_a_number() {
    let mut node = Node::start("", &[]);
    let mut client = Client::connect(&node);
    for event in ["pusher:nonsense", "pusher_internal:subscription_succeeded", "nonsense", "fanfare:gap"] {
        client.send(event, json!({}));
        expect_error(&mut client, event);
    }
    node.assert_well();
}

#[test]
fn a_wrong_type_in_any_field_is_answered_and_closes_nothing() {
    let mut node = Node::start("", &[]);
    let mut client = Client::connect(&node);
    let wrong = [
        json!(7),
        json!(1.5e300),
        json!(true),
        json!([]),
        json!({}),
        json!(null),
        json!(""),
        json!("\u{0}"),
        json!("a b"),
    ];
    for value in &wrong {
        for event in ["pusher:subscribe", "pusher:unsubscribe", "client-x", "pusher:pong", "pusher:signin"] {
            for frame in [
                json!({ "event": event, "data": value }),
                json!({ "event": event, "data": { "channel": value } }),
                json!({ "event": event, "channel": value, "data": {} }),
                json!({ "event": event, "data": { "channel": "private-x", "auth": value } }),
                json!({ "event": event, "data": { "channel": "presence-x", "auth": value, "channel_data": value } }),
                json!({ "event": event, "data": { "channel": "presence-x", "auth": "a:b", "channel_data": value } }),
            ] {
                client.socket.send(&frame.to_string());
            }
        }
    }
    let answers = client.ping();
    for answer in &answers {
        let fits = ["pusher:error", "pusher:subscription_error"].contains(&&*answer.event);
        assert!(fits, "{:?}", answer.raw);
    }
    assert!(answers.len() > 100, "{} answers", answers.len());
    node.assert_well();
}

#[test]
fn signed_channel_data_of_a_wrong_type_is_refused() {
    let mut node = Node::start("", &[]);
    let mut client = Client::connect(&node);
    let long = format!(r#"{{"user_id":"{}"}}"#, "x".repeat(129));
    let fat = format!(r#"{{"user_id":"x","user_info":"{}"}}"#, "x".repeat(1_100));
    for data in [
        "",
        "7",
        "[]",
        "{}",
        "null",
        r#"{"user_id":null}"#,
        r#"{"user_id":[]}"#,
        r#"{"user_id":""}"#,
        "not",
        &long,
        &fat,
    ] {
        let auth = client.sign("presence-x", Some(data));
        client.send("pusher:subscribe", json!({ "channel": "presence-x", "auth": auth, "channel_data": data }));
        let error = client.expect("pusher:subscription_error", "presence-x");
        assert_eq!(error.raw["data"]["status"], 400, "{data}: {:?}", error.raw);
    }
    node.assert_well();
}

#[test]
fn a_signature_that_does_not_fit_is_refused_and_closes_nothing() {
    let mut node = Node::start("", &[]);
    let mut client = Client::connect(&node);
    let good = client.sign("private-x", None);
    let hex = good.split_once(':').unwrap().1.to_owned();
    let wrong = [
        String::new(),
        hex.clone(),
        format!("{OTHER_KEY}:{hex}"),
        format!("{KEY}:"),
        good[..good.len() - 1].to_owned(),
    ];
    for auth in &wrong {
        client.send("pusher:subscribe", json!({ "channel": "private-x", "auth": auth }));
        let error = client.expect("pusher:subscription_error", "private-x");
        assert_eq!((&error.raw["data"]["type"], &error.raw["data"]["status"]), (&json!("AuthError"), &json!(401)));
    }
    client.send("pusher:subscribe", json!({ "channel": "private-other", "auth": good }));
    client.expect("pusher:subscription_error", "private-other");
    client.send("pusher:subscribe", json!({ "channel": "private-x", "auth": good }));
    client.expect("pusher_internal:subscription_succeeded", "private-x");
    assert_eq!(node.metric("fanfare_subscribe_total", &[("kind", "private"), ("result", "denied")]), 6.0);
    node.assert_well();
}

#[test]
fn whispers_that_are_not_allowed_are_answered_and_not_relayed() {
    let mut node = Node::start("", &[]);
    let mut client = Client::on(&node, "news");
    let mut other = Client::on(&node, "news");
    other.subscribe("private-x");
    for channel in ["news", "private-x", "presence-x"] {
        client.socket.send(&json!({ "event": "client-x", "channel": channel, "data": 1 }).to_string());
        let error = client.expect("pusher:error", "");
        assert_eq!(error.data()["code"], 4301, "{channel}");
    }
    assert!(other.ping().is_empty());
    client.subscribe("private-x");
    let large = json!({ "event": "client-x", "channel": "private-x", "data": "x".repeat(10_241) });
    client.socket.send(&large.to_string());
    client.expect("pusher:error", "");
    assert!(other.ping().is_empty());
    node.assert_well();
}

#[test]
fn nested_brackets_are_refused_before_anything_recurses() {
    let mut cluster = Cluster::start(1);
    let mut client = Client::on(&cluster.nodes[0], "private-x");
    let mut other = Client::on(&cluster.nodes[0], "private-x");
    let deep = format!("{}{}", "[".repeat(15_000), "]".repeat(15_000));
    let open = "[".repeat(30_000);
    let inside = |text: &str| json!(text).to_string();
    for message in [
        open.clone(),
        deep.clone(),
        format!(r#"{{"event":"pusher:ping","data":{deep}}}"#),
        format!(r#"{{"event":"client-x","channel":"private-x","data":{deep}}}"#),
        format!(r#"{{"event":"pusher:subscribe","data":{}}}"#, inside(&deep)),
        format!(r#"{{"event":{deep}}}"#),
    ] {
        client.socket.send(&message);
        expect_error(&mut client, &message[..60]);
    }
    let auth = client.sign("presence-x", Some(&deep));
    client.send("pusher:subscribe", json!({ "channel": "presence-x", "auth": auth, "channel_data": deep }));
    client.expect("pusher:subscription_error", "presence-x");
    let deeper = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let topic = format!("{PREFIX}private-x");
    cluster.redis.publish(&topic, &deeper);
    cluster.redis.publish(&topic, &format!(r#"{{"event":"e","data":{deeper}}}"#));
    cluster.redis.publish(&topic, &format!(r#"{{"event":"e","more":{}}}"#, "[".repeat(100_000)));
    cluster.redis.publish(&topic, r#"{"event":"marker"}"#);
    other.expect("marker", "private-x");
    assert_eq!(cluster.nodes[0].metric("fanfare_messages_dropped_total", &[("reason", "malformed")]), 3.0);
    cluster.nodes[0].assert_well();
}

#[test]
fn of_ten_thousand_subscribes_in_a_burst_the_first_thousand_succeed() {
    let mut node = Node::start("", &[]);
    let mut client = Client::connect(&node);
    let frame =
        |number: usize| json!({ "event": "pusher:subscribe", "data": { "channel": format!("c{number}") } }).to_string();
    let mut writer = client.socket.try_clone();
    let writing = std::thread::spawn(move || {
        let frames: Vec<String> = (0..10_000).map(frame).collect();
        writer.send_all(frames.iter().map(String::as_str));
    });
    // Refusals come at once, admissions when the channel is heard.
    let mut answers = std::collections::HashMap::new();
    while answers.len() < 10_000 {
        let answer = client.next();
        assert_eq!(
            answers.insert(answer.channel.clone(), answer.event),
            None,
            "a second answer for {}",
            answer.channel
        );
    }
    for number in 0..10_000 {
        let expected =
            if number < 1_000 { "pusher_internal:subscription_succeeded" } else { "pusher:subscription_error" };
        assert_eq!(answers[&format!("c{number}")], expected, "c{number}");
    }
    writing.join().unwrap();
    client.unsubscribe("c0");
    client.subscribe("in-its-place");
    node.assert_well();
}

#[test]
fn payloads_that_nobody_can_read_are_dropped_and_counted_by_reason() {
    let mut cluster = Cluster::start(1);
    let mut client = Client::on(&cluster.nodes[0], "news");
    let topic = format!("{PREFIX}news");
    let malformed =
        ["", "not JSON", "[]", "{}", r#"{"data":1}"#, r#"{"event":7}"#, r#"{"event":"e","data":}"#, "\u{0}"];
    malformed.iter().for_each(|payload| assert_eq!(cluster.redis.publish(&topic, payload), 1));
    let large = format!(r#"{{"event":"e","data":"{}"}}"#, "x".repeat(5 << 20));
    cluster.redis.publish(&topic, &large);
    cluster.redis.publish(&topic, r#"{"event":"marker"}"#);
    client.expect("marker", "news");
    let node = &mut cluster.nodes[0];
    let dropped = |reason: &str| node.metric("fanfare_messages_dropped_total", &[("reason", reason)]);
    assert_eq!((dropped("malformed"), dropped("too_large")), (malformed.len() as f64, 1.0));
    let log = node.log();
    let mut told: Vec<&str> = log.iter().filter(|line| line.contains("WARN")).map(|line| after_time(line)).collect();
    assert!(!told.is_empty(), "nothing is said of bad payloads: {log:#?}");
    let lines = told.len();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), lines, "a reason is told more than once a minute: {log:#?}");
    node.assert_well();
}

/// A log line of JSON without its time.
fn after_time(line: &str) -> &str {
    line.split_once("\"level\"").map_or(line, |(_, rest)| rest)
}

#[test]
fn the_http_api_says_what_is_wrong() {
    let mut node = Node::start("", &[]);
    let mut client = Client::on(&node, "news");
    let event = json!({ "name": "e", "channel": "news", "data": "1" }).to_string();
    let post = |signer: &Signer, body: &str| signer.post(node.address, "events", body).status;
    let forger = Signer { secret: "a guess", ..APPLICATION };
    let late = Signer { clock: -700, ..APPLICATION };
    let early = Signer { clock: 700, ..APPLICATION };
    let foreign = Signer { key: OTHER_KEY, ..APPLICATION };
    let unknown = Signer { app_id: "unknown", ..APPLICATION };
    assert_eq!(post(&forger, &event), 401);
    assert_eq!(post(&late, &event), 401);
    assert_eq!(post(&early, &event), 401);
    assert_eq!(post(&foreign, &event), 401);
    assert_eq!(post(&unknown, &event), 404);
    let with_data = |length: usize| json!({ "name": "e", "channel": "news", "data": "x".repeat(length) }).to_string();
    assert_eq!(post(&APPLICATION, &with_data(10_241)), 413);
    assert_eq!(post(&APPLICATION, &with_data(1 << 20)), 413);
    let many: Vec<String> = (0..101).map(|number| format!("c{number}")).collect();
    for body in [
        json!({}),
        json!([]),
        json!({ "channel": "news", "data": "1" }),
        json!({ "name": "e", "data": "1" }),
        json!({ "name": "e", "channel": "news" }),
        json!({ "name": 7, "channel": "news", "data": "1" }),
        json!({ "name": "e", "channel": 7, "data": "1" }),
        json!({ "name": "e", "channels": "news", "data": "1" }),
        json!({ "name": "e", "channels": [], "data": "1" }),
        json!({ "name": "e", "channels": many, "data": "1" }),
        json!({ "name": "e", "channel": "a b", "data": "1" }),
        json!({ "name": "x".repeat(201), "channel": "news", "data": "1" }),
        json!({ "name": "e", "channel": "news", "data": "1", "socket_id": "no id" }),
        json!({ "name": "fanfare:gap", "channel": "news", "data": "1" }),
    ] {
        assert_eq!(post(&APPLICATION, &body.to_string()), 400, "{body}");
    }
    assert_eq!(post(&APPLICATION, "not JSON"), 400);
    let batch =
        |events: Value| APPLICATION.post(node.address, "batch_events", &json!({ "batch": events }).to_string()).status;
    let one = json!({ "name": "e", "channel": "news", "data": "1" });
    assert_eq!(batch(json!([one, { "name": "e" }])), 400);
    assert_eq!(batch(json!(vec![one; 11])), 400);
    assert!(client.ping().is_empty(), "nothing of all this was published");
    assert_eq!(post(&APPLICATION, &with_data(10_240)), 200);
    client.expect("e", "news");
    node.assert_well();
}

#[test]
fn a_tampered_request_is_not_the_applications() {
    let mut node = Node::start("", &[]);
    let body = json!({ "name": "e", "channel": "news", "data": "1" }).to_string();
    let path = format!("/apps/{APP_ID}/events");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let secret = model::app::Secret::new(SECRET);
    let query = model::auth::sign_request(KEY, &secret, "POST", &path, body.as_bytes(), now);
    let query = query.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let send = |method: &str, target: String, body: &str| http::request(node.address, method, &target, body).status;
    assert_eq!(send("POST", format!("{path}?{query}"), &body), 200);
    assert_eq!(send("POST", format!("{path}?{query}"), &body.replace('1', "2")), 401);
    assert_eq!(send("POST", format!("/apps/{APP_ID}/batch_events?{query}"), &body), 401);
    assert_eq!(send("POST", format!("{path}?{query}&more=1"), &body), 401);
    assert_eq!(send("POST", format!("{path}?{query}&auth_key={KEY}"), &body), 401);
    assert_eq!(send("POST", path.clone(), &body), 401);
    assert_eq!(send("GET", format!("{path}?{query}"), ""), 405);
    assert_eq!(send("POST", format!("/apps/{APP_ID}/nonsense?{query}"), &body), 404);
    node.assert_well();
}

#[test]
fn what_is_not_http_costs_only_its_own_connection() {
    let mut node = Node::start("", &[("FANFARE_LIMITS__HANDSHAKE_SECONDS", "0.5")]);
    let mut client = Client::connect(&node);
    for bytes in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n",
    ] {
        let answer = http::exchange(node.address, bytes);
        assert!(answer.status == 0 || answer.status >= 400, "{answer:?}");
    }
    let endless = format!("GET / HTTP/1.1\r\n{}", "X-Filler: xxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(20_000));
    let answer = http::exchange(node.address, endless.as_bytes());
    assert!(answer.status == 0 || answer.status >= 400, "{}", answer.status);
    assert!(client.ping().is_empty());
    node.assert_well();
}

#[test]
fn a_client_that_never_reads_is_closed_and_the_others_hear_everything() {
    let mut cluster = Cluster::start(1);
    let mut slow: Vec<Client> = (0..2).map(|_| Client::on(&cluster.nodes[0], "news")).collect();
    let others: Vec<Client> = (0..4).map(|_| Client::on(&cluster.nodes[0], "news")).collect();
    let filler = "x".repeat(500_000);
    let listening: Vec<_> = others
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                let heard = client.until("marker").0;
                heard.iter().map(|message| message.data()["n"].as_u64().unwrap()).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut sent = 0;
    let topic = format!("{PREFIX}news");
    let slow_ones = |node: &Node| node.metric("fanfare_connections_closed_total", &[("reason", "slow_consumer")]);
    until("the slow clients are closed", || {
        cluster.redis.publish(&topic, &format!(r#"{{"event":"e","data":{{"n":{sent},"filler":"{filler}"}}}}"#));
        sent += 1;
        (slow_ones(&cluster.nodes[0]) == 2.0).then_some(())
    });
    println!("closed after {sent} events of {} bytes", filler.len());
    cluster.redis.publish(&topic, r#"{"event":"marker"}"#);
    for thread in listening {
        assert_eq!(thread.join().unwrap(), (0..sent).collect::<Vec<u64>>());
    }
    for client in &mut slow {
        until("the line of a slow client ends", || client.socket.is_ended().then_some(()));
    }
    assert_eq!(slow_ones(&cluster.nodes[0]), 2.0);
    cluster.nodes[0].assert_well();
}

#[test]
fn a_slow_client_that_reads_again_is_told_why_it_was_closed() {
    let cluster = Cluster::start(1);
    let mut client = Client::on(&cluster.nodes[0], "news");
    let payload = format!(r#"{{"event":"e","data":"{}"}}"#, "x".repeat(300_000));
    let node = &cluster.nodes[0];
    let closed = || node.metric("fanfare_connections_closed_total", &[("reason", "slow_consumer")]) == 1.0;
    until("the slow client is closed", || {
        cluster.redis.publish(&format!("{PREFIX}news"), &payload);
        closed().then_some(())
    });
    // What the kernel still holds comes whole, and the line ends; the code comes when there was room for it.
    loop {
        match client.socket.next() {
            Frame::Text(text) => drop(serde_json::from_str::<Value>(&text).expect("whole frames only")),
            Frame::Close { code, .. } => assert_eq!(code, 4100),
            Frame::End => break,
            Frame::Pong(_) => {}
        }
    }
}

#[test]
fn a_socket_that_is_closed_is_told_the_same_by_plain() {
    let node = Node::start("", &[]);
    let mut socket = Socket::open(node.address, "/ws").unwrap();
    (0..20).for_each(|_| socket.send("x"));
    assert_eq!(close_code(&mut socket), 4010);
}
