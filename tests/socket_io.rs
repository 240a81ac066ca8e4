//! Socket.IO packet by packet: the beginning, polls and their end, changes to a WebSocket, and what only a bad client does. The real
//! libraries are in `echo.rs`.

use std::net::TcpStream;
use std::thread;

use crate::support::back_end::BackEnd;
use crate::support::http::{APPLICATION, Response};
use crate::support::node::{KEY, OTHER_KEY};
use crate::support::prelude::*;
use crate::support::socket_io::{self, Engine, Poller, Wire, event, subscribe, text};
use crate::support::websocket::upgrade;

const PATH: &str = "/socket.io/?EIO=4&transport=polling";

fn get(node: &Node, path: &str, headers: &str) -> Response {
    socket_io::request(node.address, "GET", path, headers, "")
}

fn publish(node: &Node, channel: &str, number: u32) {
    let body = json!({ "name": "e", "channel": channel, "data": format!(r#"{{"n":{number}}}"#) }).to_string();
    assert_eq!(APPLICATION.post(node.address, "events", &body).body, "{}");
}

/// Waits until the node has so many subscriptions.
fn until_subscribed(node: &Node, count: f64) {
    until("they are subscribed", || (node.metric("fanfare_subscriptions", &[]) == count).then_some(()));
}

#[test]
fn a_session_begins_as_engine_io_says() {
    let node = Node::start("", &[]);
    let three = get(&node, "/socket.io/?EIO=3&transport=polling&t=x&b64=1", "");
    let (length, rest) = three.body.split_once(':').unwrap();
    let (open, connected) = rest.split_at(length.parse().unwrap());
    assert_eq!(connected, "2:40");
    let open: Value = serde_json::from_str(&open[1..]).unwrap();
    let expected =
        json!({ "sid": open["sid"], "upgrades": ["websocket"], "pingInterval": 25000, "pingTimeout": 20000 });
    assert_eq!(open, expected);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let sid = open["sid"].as_str().unwrap();
    assert!(sid.split_once('.').is_some_and(|(node, sequence)| digits(node) && digits(sequence)), "{sid}");

    let four = get(&node, PATH, "");
    assert_eq!(four.headers["content-type"], "text/plain; charset=UTF-8");
    let open: Value = serde_json::from_str(&four.body[1..]).unwrap();
    assert_eq!(open["maxPayload"], 1_000_000);
    assert_ne!(open["sid"].as_str(), Some(sid));
    let mut socket = Socket::open(node.address, "/socket.io/?EIO=4&transport=websocket").unwrap();
    let open: Value = serde_json::from_str(&text(&mut socket)[1..]).unwrap();
    assert_eq!(open["upgrades"], json!([]));
    socket.send(r#"40{"token":"x"}"#);
    assert_eq!(text(&mut socket), format!(r#"40{{"sid":{}}}"#, open["sid"]));
    // The old client library of the page is not configured here.
    let client = get(&node, "/socket.io/socket.io.js", "");
    assert!(client.status == 404 && client.body.contains("client_file"), "{client:?}");
}

#[test]
fn old_pages_load_the_client_library_from_the_node() {
    let file = format!("{}/clients/node_modules/socket.io-client-2/dist/socket.io.js", env!("CARGO_MANIFEST_DIR"));
    let settings = [
        ("FANFARE_SOCKET_IO__CLIENT_FILE", &*file),
        ("FANFARE_SOCKET_IO__PATH", "/echo"),
        ("FANFARE_SERVER__PATH_PREFIX", "/ws"),
    ];
    let node = Node::start("", &settings);
    let client = get(&node, "/ws/echo/socket.io.js", "");
    assert_eq!(client.headers["content-type"], "application/javascript; charset=utf-8");
    assert_eq!(client.body, std::fs::read_to_string(&file).unwrap());
    // Both paths hold for all that is served.
    assert_eq!(get(&node, "/ws/echo/?EIO=4&transport=polling", "").status, 200);
    for elsewhere in
        ["/echo/?EIO=4&transport=polling", "/ws/socket.io/?EIO=4&transport=polling", "/wsecho/socket.io.js"]
    {
        assert_eq!(get(&node, elsewhere, "").status, 404, "{elsewhere}");
    }
    let mut socket = Socket::open(node.address, "/ws/echo/?EIO=3&transport=websocket").unwrap();
    assert!(text(&mut socket).starts_with("0{"));
    // The SDK signs what stands behind the prefix.
    assert_eq!(APPLICATION.get_behind(node.address, "/ws", "channels").status, 200);
    assert_eq!(APPLICATION.get(node.address, "channels", &[]).status, 404);
    let missing = [("FANFARE_SOCKET_IO__CLIENT_FILE", "/nowhere/socket.io.js")];
    let output = node::command().envs(missing).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("socket_io.client_file") && said.contains("/nowhere"), "{said}");
}

#[test]
fn what_engine_io_cannot_serve_is_numbered_as_it_numbers() {
    let node = Node::start("", &[("FANFARE_APPS__MAIN__ALLOWED_ORIGINS", "https://shop.test")]);
    let said = |method: &str, path: &str, headers: &str| {
        let answer = socket_io::request(node.address, method, path, headers, "x");
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
        (answer.status, body["code"].as_u64().unwrap(), body["message"].as_str().unwrap().to_owned())
    };
    let check = |method: &str, path: &str, headers: &str, status: u16, code: u64, message: &str| {
        assert_eq!(said(method, path, headers), (status, code, message.to_owned()), "{method} {path}");
    };
    check("GET", "/socket.io/?EIO=4&transport=carrier", "", 400, 0, "Transport unknown");
    check("GET", "/socket.io/?EIO=4", "", 400, 0, "Transport unknown");
    check("GET", &format!("{PATH}&sid=1.2"), "", 400, 1, "Session ID unknown");
    check("POST", &format!("{PATH}&sid=1.2"), "", 400, 1, "Session ID unknown");
    check(
        "GET",
        "/socket.io?EIO=4&transport=websocket&sid=1.2",
        "Upgrade: websocket\r\n",
        400,
        1,
        "Session ID unknown",
    );
    check("POST", PATH, "", 400, 2, "Bad handshake method");
    check("GET", "/socket.io/?EIO=4&transport=websocket", "", 400, 3, "Bad request");
    check("GET", &format!("{PATH}&app_key=nobody"), "", 403, 4, "Forbidden");
    check("GET", PATH, "Origin: https://evil.test\r\n", 403, 4, "Forbidden");
    let foreign = get(&node, PATH, "Origin: https://evil.test\r\n");
    assert_eq!(foreign.headers.get("access-control-allow-origin"), None);
    let allowed = get(&node, PATH, "Origin: https://shop.test\r\n");
    assert_eq!(allowed.headers["access-control-allow-origin"], "https://shop.test");
    assert_eq!(allowed.headers["access-control-allow-credentials"], "true");
    let headers = "Origin: https://shop.test\r\nAccess-Control-Request-Headers: authorization\r\n";
    let preflight = socket_io::request(node.address, "OPTIONS", PATH, headers, "");
    assert_eq!((preflight.status, &*preflight.headers["access-control-allow-headers"]), (204, "authorization"));
    assert_eq!(get(&node, "/socket.io/other", "").status, 404);
}

#[test]
fn polls_and_posts_carry_events_both_ways() {
    let node = Node::start("", &[]);
    for engine in Engine::BOTH {
        let mut poller = Poller::connect(&node, engine);
        poller.subscribe("news");
        until_subscribed(&node, 1.0);
        // One waits while nobody polls, another comes while a poll hangs.
        publish(&node, "news", 1);
        assert_eq!(poller.event(), json!(["e", "news", { "n": 1 }]));
        let address = node.address;
        let (path, headers) = (poller.path(), poller.headers.clone());
        let hanging = thread::spawn(move || socket_io::request(address, "GET", &path, &headers, ""));
        publish(&node, "news", 2);
        let heard = hanging.join().unwrap().body;
        assert_eq!(heard, engine.payload(&[r#"42["e","news",{"n":2}]"#]));
        // Several packets of a post, letters beyond ASCII among them, and the answer to each.
        let odd = r#"42["subscribe",{"channel":"é 😀"}]"#;
        let posted = poller.post(&[odd, r#"42["unsubscribe",{"channel":"news"}]"#, &subscribe("other")]);
        assert_eq!(posted.body, "ok");
        assert_eq!(poller.event(), json!(["subscription_error", "é 😀", 400]));
        until_subscribed(&node, 1.0);
        publish(&node, "news", 3);
        publish(&node, "other", 4);
        assert_eq!(poller.event(), json!(["e", "other", { "n": 4 }]), "news was left");
        poller.say("41");
        until_subscribed(&node, 0.0);
        // Its last poll hears the end; after that there is no such session.
        assert_eq!(poller.next(), "1");
        until("the session is gone", || (poller.poll().status == 400).then_some(()));
    }
}

#[test]
fn a_change_to_a_websocket_loses_and_doubles_nothing() {
    let node = Node::start("", &[]);
    for engine in Engine::BOTH {
        let mut poller = Poller::connect(&node, engine);
        poller.subscribe("news");
        until_subscribed(&node, 1.0);
        publish(&node, "news", 0);
        let number = |packet: &str| event(packet)[2]["n"].as_u64().unwrap();
        assert_eq!(number(&poller.next()), 0);
        let path = poller.path().replace("polling", "websocket");
        let mut socket = Socket::open(node.address, &path).unwrap();
        // A poll hangs while the socket is tried.
        let (address, poll) = (node.address, poller.path());
        let hanging = thread::spawn(move || socket_io::request(address, "GET", &poll, "", ""));
        socket.send("2probe");
        assert_eq!(text(&mut socket), "3probe");
        assert_eq!(hanging.join().unwrap().body, engine.payload(&["6"]));
        // Now the client stops polling; what comes meanwhile waits for its word.
        publish(&node, "news", 1);
        publish(&node, "news", 2);
        socket.send("5");
        assert_eq!((number(&text(&mut socket)), number(&text(&mut socket))), (1, 2));
        publish(&node, "news", 3);
        assert_eq!(number(&text(&mut socket)), 3);
        assert_eq!(poller.poll().status, 400, "a poll of a session that has a socket");
        socket.close();
        until_subscribed(&node, 0.0);
    }
}

#[test]
fn upgrades_that_come_to_nothing_leave_the_polls_alone() {
    let node = Node::start("", &[]);
    let poller = Poller::connect(&node, Engine::Four);
    poller.subscribe("news");
    until_subscribed(&node, 1.0);
    let path = poller.path().replace("polling", "websocket");
    // Not a probe; gone at once; a second one while the first is tried.
    let mut wrong = Socket::open(node.address, &path).unwrap();
    wrong.send("2hello");
    assert_eq!(wrong.next(), Frame::End);
    drop(Socket::open(node.address, &path).unwrap());
    let mut first = until("the one before is seen to be gone", || {
        let mut socket = Socket::open(node.address, &path).ok()?;
        socket.send("2probe");
        (socket.next() == Frame::Text("3probe".to_owned())).then_some(socket)
    });
    let mut second = Socket::open(node.address, &path);
    assert!(second.as_mut().map_or(true, |socket| socket.next() == Frame::End));
    publish(&node, "news", 1);
    first.send("5");
    assert_eq!(event(&text(&mut first))[2]["n"], 1);
    drop(first);
    until_subscribed(&node, 0.0);
    let mut node = node;
    node.assert_well();
}

#[test]
fn a_session_is_for_who_knows_its_secret() {
    let node = Node::start("", &[]);
    let mut victim = Poller::connect(&node, Engine::Three);
    victim.subscribe("news");
    until_subscribed(&node, 1.0);
    let (number, rest) = victim.sid.split_once('.').unwrap();
    let sequence: u64 = rest[..10].parse().unwrap();
    let last = if rest.ends_with('0') { "1" } else { "0" };
    let guesses = [
        format!("{number}.{sequence}"),
        format!("{number}.{}{last}", &rest[..rest.len() - 1]),
        format!("{number}.{}", &rest[..10]),
        rest.to_owned(),
        String::new(),
    ];
    for guess in guesses {
        let path = victim.path().replace(&victim.sid, &guess);
        for method in ["GET", "POST"] {
            assert_eq!(socket_io::request(node.address, method, &path, "", "1:1").status, 400, "{guess}");
        }
        assert_eq!(Socket::open(node.address, &path.replace("polling", "websocket")).err(), Some(400), "{guess}");
    }
    publish(&node, "news", 1);
    assert_eq!(victim.event()[2]["n"], 1);
    // Whoever has stolen it and polls beside its owner ends it for both.
    let (address, path) = (node.address, victim.path());
    let hanging = thread::spawn(move || socket_io::request(address, "GET", &path, "", ""));
    until("the session is ended", || (victim.poll().status == 400).then_some(()));
    hanging.join().unwrap();
    until_subscribed(&node, 0.0);
}

#[test]
fn the_application_hears_of_a_sender_without_the_secret_and_leaves_him_out() {
    let cluster = Cluster::start(2);
    let mut laravel = Laravel::with("phpredis", &cluster.redis);
    let mut old = Poller::connect(&cluster.nodes[0], Engine::Three);
    let mut new = Wire::connect(&cluster.nodes[1], Engine::Four);
    let mut pusher = Client::on(&cluster.nodes[1], "orders");
    old.subscribe("orders");
    new.subscribe("orders");
    until_subscribed(&cluster.nodes[0], 1.0);
    until_subscribed(&cluster.nodes[1], 2.0);
    laravel.broadcast_to_others(&old.id, &["orders"], 1);
    laravel.broadcast_to_others(&new.id, &["orders"], 2);
    laravel.broadcast(&["orders"], 3);
    let number = |event: Value| event[2]["number"].as_u64().unwrap();
    assert_eq!((number(old.event()), number(old.event())), (2, 3));
    let first = new.event();
    let short = first[2]["socket"].as_str().unwrap();
    assert!(short.len() < old.id.len() && !first.to_string().contains(&old.id), "{first}");
    assert_eq!((number(first), number(new.event())), (1, 3));
    let heard = pusher.expect(crate::support::laravel::ORDER_SHIPPED, "orders");
    assert!(!heard.raw.to_string().contains(&old.id), "{heard:?}");
    // Over HTTP the form is that of any socket id.
    let body = json!({ "name": "e", "channel": "orders", "data": "{\"number\":4}", "socket_id": old.id }).to_string();
    assert_eq!(APPLICATION.post(cluster.nodes[1].address, "events", &body).body, "{}");
    laravel.broadcast(&["orders"], 5);
    assert_eq!(number(old.event()), 5);
}

#[test]
fn a_client_that_cannot_speak_ends_its_own_session_only() {
    let mut node = Node::start("", &[("FANFARE_LIMITS__FRAME_BYTES", "1000")]);
    let mut neighbour = Wire::connect(&node, Engine::Four);
    neighbour.subscribe("news");
    until_subscribed(&node, 1.0);
    for body in ["x", "5:2", "-1:2", "1:", "9999999999999999999999:2", "2:é😀é"] {
        let poller = Poller::connect(&node, Engine::Three);
        let posted = socket_io::request(node.address, "POST", &poller.path(), "", body);
        assert_eq!(posted.status, 400, "{body}: {posted:?}");
        until("its session is over", || (poller.poll().status == 400).then_some(()));
    }
    for engine in Engine::BOTH {
        let poller = Poller::connect(&node, engine);
        assert_eq!(poller.post(&[&format!("42{}", "x".repeat(1000))]).status, 413);
        until("its session is over", || (poller.poll().status == 400).then_some(()));
        // Packets that cannot be: passed over, until they are too many.
        let bad = ["", "4", "42", "42[", "42{}", "42[5]", "4zzz", "9", "451-[\"x\"]", "42[\"subscribe\"]", "\u{0}"];
        let mut wire = Wire::connect(&node, engine);
        bad.iter().for_each(|packet| wire.socket.send(packet));
        wire.socket.send_binary(b"\x04x");
        wire.subscribe("é é");
        assert_eq!(wire.event(), json!(["subscription_error", "é é", 400]));
        (0..20).for_each(|_| wire.socket.send("4zzz"));
        assert!(matches!(wire.socket.next(), Frame::Close { code: 4100, .. }));
        let poller = Poller::connect(&node, engine);
        poller.post(&["9"; 30]);
        until("its session is over", || (poller.poll().status == 400).then_some(()));
    }
    let raw = [0xff, 0xfe];
    let poller = Poller::connect(&node, Engine::Four);
    let head = format!("POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n", poller.path());
    assert_eq!(crate::support::http::exchange(node.address, &[head.as_bytes(), &raw].concat()).status, 400);
    publish(&node, "news", 1);
    assert_eq!(neighbour.event(), json!(["e", "news", { "n": 1 }]));
    node.assert_well();
}

#[test]
fn each_version_is_asked_whether_it_lives_in_its_own_way() {
    let node = Node::start("", &[("FANFARE_SOCKET_IO__PING_INTERVAL", "1")]);
    // Version 4 waits for the server's ping, however much it says itself.
    let mut four = Wire::connect(&node, Engine::Four);
    let mut pings = 0;
    until("pings came", || {
        four.socket.send("2");
        match text(&mut four.socket).as_str() {
            "3" => {}
            "2" => pings += 1,
            other => panic!("{other}"),
        }
        thread::yield_now();
        (pings >= 2).then_some(())
    });
    // Version 3 asks, and its word comes back.
    let mut three = Wire::connect(&node, Engine::Three);
    three.socket.send("2hello");
    assert_eq!(text(&mut three.socket), "3hello");
    let mut poller = Poller::connect(&node, Engine::Three);
    poller.say("2");
    assert_eq!(poller.next(), "3");
}

#[test]
fn a_node_that_drains_lets_polls_end_and_come_back_elsewhere() {
    let node = Node::start("", &[]);
    let poller = Poller::connect(&node, Engine::Four);
    let mut wire = Wire::connect(&node, Engine::Three);
    let (address, path) = (node.address, poller.path());
    let hanging = thread::spawn(move || socket_io::request(address, "GET", &path, "", ""));
    node.signal("TERM");
    assert_eq!(hanging.join().unwrap().body, "1");
    // No word of a disconnect: after that the client would stay away.
    assert!(matches!(wire.socket.next(), Frame::Close { code: 4200, .. }));
    let mut node = node;
    assert!(node.end().success());
}

/// A node that asks this application, and a client with this header.
fn asking(back_end: &BackEnd, more: &[(&str, &str)]) -> Node {
    let url = back_end.url("/broadcasting/auth");
    Node::start("", &[&[("FANFARE_APPS__MAIN__AUTH_URL", &*url)], more].concat())
}

#[test]
fn the_application_is_asked_and_its_no_is_told_by_its_number() {
    let back_end = BackEnd::start();
    let mut node = asking(&back_end, &[("FANFARE_LIMITS__AUTH_SECONDS", "0.3")]);
    let mut wire = Wire::connect(&node, Engine::Four);
    let mut refused = |status: u16| {
        wire.subscribe("private-a");
        assert_eq!(wire.event(), json!(["subscription_error", "private-a", status]));
    };
    // It says nothing at all.
    refused(504);
    for (status, body, expected) in [
        ("403 Forbidden", r#"{"message":""}"#, 403),
        ("401 Unauthorized", "", 401),
        ("419 Page Expired", "<html>", 419),
        ("302 Found", "", 302),
        ("500 Oops", "<html>", 500),
        ("200 OK", "<html>please log in</html>", 403),
        ("200 OK", "false", 403),
        ("200 OK", "", 403),
        ("200 OK", r#"{"auth":"main-key:00"}"#, 502),
    ] {
        back_end.answers(status, "Location: /login\r\n", body);
        refused(expected);
    }
    back_end.answers("200 OK", "", &format!(r#"{{"channel_data":"{}"}}"#, "x".repeat(100_000)));
    refused(502);
    back_end.answers("200 OK", "", "true");
    wire.subscribe("private-a");
    until_subscribed(&node, 1.0);
    publish(&node, "private-a", 1);
    assert_eq!(wire.event(), json!(["e", "private-a", { "n": 1 }]));
    node.assert_well();
    drop(back_end);
    let nobody = crate::support::ports::free();
    let url = format!("http://127.0.0.1:{nobody}/broadcasting/auth");
    let node = Node::start("", &[("FANFARE_APPS__MAIN__AUTH_URL", &url)]);
    let mut wire = Wire::connect(&node, Engine::Three);
    wire.subscribe("private-a");
    assert_eq!(wire.event(), json!(["subscription_error", "private-a", 0]));
}

#[test]
fn the_application_sees_what_is_the_clients_and_no_cookie_of_a_foreign_pages_visitor() {
    let back_end = BackEnd::start();
    back_end.answers("200 OK", "", "true");
    let node = asking(&back_end, &[("FANFARE_APPS__MAIN__AUTH_HEADERS", "X-Tenant")]);
    let ask = |origin: &str, written: &str| {
        let headers = format!("Cookie: session=7\r\n{origin}User-Agent: test\r\n");
        let mut wire = Wire::with(&node, Engine::Four, "", &headers);
        wire.socket.send(&format!(r#"42["subscribe",{{"channel":"private-a","auth":{{"headers":{written}}}}}]"#));
        let asked = until("the application is asked", || back_end.asked().pop());
        (wire, asked.to_lowercase())
    };
    let (wire, asked) = ask("", r#"{"Authorization":"Bearer x","X-Tenant":"7","X-Other":"8","Host":"evil.test"}"#);
    for line in ["cookie: session=7", "authorization: bearer x", "x-tenant: 7", "user-agent: test"] {
        assert!(asked.contains(line), "{line}: {asked}");
    }
    assert!(!asked.contains("x-other") && !asked.contains("evil.test"), "{asked}");
    assert!(asked.ends_with(&format!("socket_id={}&channel_name=private-a", wire.id)), "{asked}");
    // The same host, whatever the port: its pages can read the cookie anyway.
    let (_wire, asked) = ask("Origin: http://127.0.0.1:8000\r\n", "{}");
    assert!(asked.contains("cookie: session=7") && asked.contains("origin: http://127.0.0.1:8000"), "{asked}");
    let (_wire, asked) = ask("Origin: https://evil.test\r\n", "{}");
    assert!(!asked.contains("cookie") && asked.contains("origin: https://evil.test"), "{asked}");
    // A value that would be two headers goes nowhere.
    let mut wire = Wire::connect(&node, Engine::Four);
    wire.socket
        .send(r#"42["subscribe",{"channel":"private-a","auth":{"headers":{"Authorization":"a\r\nX-Evil: 1"}}}]"#);
    assert_eq!(wire.event(), json!(["subscription_error", "private-a", 400]));
    assert!(back_end.asked().is_empty());
    // A client that polls is asked for with what its newest request had.
    let mut poller = Poller::with(&node, Engine::Three, "", "Cookie: session=8\r\n");
    poller.headers = "Cookie: session=9\r\n".to_owned();
    poller.subscribe("private-a");
    let asked = until("the application is asked", || back_end.asked().pop());
    assert!(asked.to_lowercase().contains("cookie: session=9"), "{asked}");
}

#[test]
fn members_agree_whichever_way_they_came() {
    let back_end = BackEnd::start();
    let cluster = Cluster::with(2, &[("FANFARE_APPS__MAIN__AUTH_URL", &back_end.url("/auth"))]);
    let member = |id: u32| json!({ "user_id": id, "user_info": { "name": format!("User {id}") } });
    let mut pusher = Client::present(&cluster.nodes[0], "presence-room", "ann");
    back_end.answers("200 OK", "", &json!({ "channel_data": member(7) }).to_string());
    let mut seven = Wire::connect(&cluster.nodes[1], Engine::Four);
    seven.subscribe("presence-room");
    let ann = json!({ "user_id": "ann", "user_info": { "name": "ann" } });
    assert_eq!(seven.event(), json!(["presence:subscribed", "presence-room", [member(7), ann]]));
    pusher.expect("pusher_internal:member_added", "presence-room");
    // A second socket of his is no second member.
    let mut again = Poller::connect(&cluster.nodes[0], Engine::Three);
    again.subscribe("presence-room");
    assert_eq!(again.event()[0], "presence:subscribed");
    back_end.answers("200 OK", "", &json!({ "channel_data": member(8) }).to_string());
    let mut eight = Poller::connect(&cluster.nodes[0], Engine::Four);
    eight.subscribe("presence-room");
    assert_eq!(eight.event()[0], "presence:subscribed");
    assert_eq!(seven.event(), json!(["presence:joining", "presence-room", member(8)]));
    seven.socket.send(r#"42["client event",{"channel":"presence-room","event":"client-typing","data":{"a":1.0}}]"#);
    assert_eq!(eight.next(), r#"42["client-typing","presence-room",{"a":1.0}]"#);
    assert_eq!(again.event(), json!(["presence:joining", "presence-room", member(8)]));
    assert_eq!(again.next(), r#"42["client-typing","presence-room",{"a":1.0}]"#);
    eight.say("1");
    assert_eq!(seven.event(), json!(["presence:leaving", "presence-room", member(8)]));
    seven.socket.close();
    again.say("41");
    pusher.expect("pusher_internal:member_added", "presence-room");
    pusher.expect("client-typing", "presence-room");
    let left = pusher.expect("pusher_internal:member_removed", "presence-room");
    assert_eq!(left.data()["user_id"], "8");
    let left = pusher.expect("pusher_internal:member_removed", "presence-room");
    assert_eq!(left.data()["user_id"], "7");
    // A callback that says no more than yes describes nobody.
    back_end.answers("200 OK", "", "true");
    let mut nobody = Wire::connect(&cluster.nodes[0], Engine::Four);
    nobody.subscribe("presence-room");
    assert_eq!(nobody.event(), json!(["subscription_error", "presence-room", 403]));
}

#[test]
fn each_app_has_its_own_channels() {
    let node = Node::start("", &[]);
    let mut main = Wire::with(&node, Engine::Four, &format!("&app_key={KEY}"), "");
    let mut other = Wire::with(&node, Engine::Four, &format!("&app_key={OTHER_KEY}"), "");
    main.subscribe("news");
    other.subscribe("news");
    until_subscribed(&node, 2.0);
    publish(&node, "news", 1);
    assert_eq!(main.event()[2]["n"], 1);
    main.subscribe("a b");
    other.subscribe("a b");
    assert_eq!(
        (main.event()[0].clone(), other.event()[0].clone()),
        (json!("subscription_error"), json!("subscription_error"))
    );
    // An upgrade in pieces is as good as one in one.
    let mut stream = TcpStream::connect(node.address).unwrap();
    use std::io::Write;
    for piece in upgrade(node.address, "/socket.io/?EIO=3&transport=websocket", "").as_bytes().chunks(40) {
        stream.write_all(piece).unwrap();
        stream.flush().unwrap();
    }
    let mut socket = Socket::upgraded(stream).unwrap();
    assert!(text(&mut socket).starts_with("0{") && text(&mut socket) == "40");
}
