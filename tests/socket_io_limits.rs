//! Socket.IO's greedy, lazy and foreign clients: what one of them may take, and what it may see.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use crate::support::back_end::BackEnd;
use crate::support::node::OTHER_KEY;
use crate::support::prelude::*;
use crate::support::socket_io::{self, Engine, Poller, subscribe, text};

fn connections(node: &Node) -> f64 {
    node.metric("fanfare_connections", &[("dialect", "socket.io")])
}

#[test]
fn a_client_that_polls_no_more_is_given_up_however_much_waits_for_it() {
    let node = Node::start("", &[("FANFARE_SOCKET_IO__PING_INTERVAL", "1"), ("FANFARE_SOCKET_IO__PING_TIMEOUT", "1")]);
    for engine in Engine::BOTH {
        let poller = Poller::connect(&node, engine);
        // 1,500 pings of 64 bytes: more than 64 KiB of answers.
        assert_eq!(poller.post(&[&*format!("2{}", "x".repeat(60)); 1_500]).body, "ok");
    }
    until("they are given up", || (connections(&node) == 0.0).then_some(()));
}

#[test]
fn what_many_small_answers_take_is_what_is_counted() {
    let node = Node::start("", &[]);
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", node.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() / 1024
    };
    let before = resident();
    let body = vec!["2"; 490_000].join("\u{1e}");
    for _ in 0..5 {
        let poller = Poller::connect(&node, Engine::Four);
        let posted = socket_io::request(node.address, "POST", &poller.path(), "", &body);
        assert!(posted.status == 200 || posted.status == 413, "{posted:?}");
    }
    let (queued, grown) = (node.metric("fanfare_send_queue_bytes", &[]) / 1_048_576.0, resident() - before);
    assert!(grown < 50, "{queued:.0} MiB are counted, {grown} MiB are taken");
}

/// A page whose cookies must not be shown polls, and asks by a WebSocket.
fn asked_by(node: &Node, back_end: &BackEnd, query: &str, origin: &str, odd: (&str, &str)) -> String {
    let (odd_query, odd_headers) = odd;
    let cookie = "Cookie: session=victim\r\n";
    let headers = format!("{origin}{cookie}");
    let poller = Poller::with(node, Engine::Three, query, &headers);
    let path = format!("{}{query}", poller.path());
    let mut socket = Socket::open_with(node.address, &path.replace("polling", "websocket"), &headers).unwrap();
    socket.send("2probe");
    assert_eq!(text(&mut socket), "3probe");
    let odd_path = format!("{}{odd_query}", poller.path());
    let polled = socket_io::request(node.address, "GET", &odd_path, &format!("{odd_headers}{cookie}"), "");
    assert!(polled.status == 200 || polled.status == 400, "{polled:?}");
    socket.send("5");
    socket.send(&subscribe("private-user.1"));
    until("the application is asked", || back_end.asked().pop()).to_lowercase()
}

#[test]
fn an_image_does_not_lend_a_foreign_page_the_visitors_cookies() {
    let back_end = BackEnd::start();
    back_end.answers("200 OK", "", "true");
    let node = Node::start("", &[("FANFARE_APPS__MAIN__AUTH_URL", &back_end.url("/auth"))]);
    // <img src="…&sid=…">: a browser sends the cookies and no Origin.
    let asked = asked_by(&node, &back_end, "", "Origin: https://evil.test\r\n", ("", ""));
    assert!(!asked.contains("session=victim"), "{asked}");
}

#[test]
fn a_page_of_one_app_does_not_bring_its_visitors_cookies_to_another() {
    let back_end = BackEnd::start();
    back_end.answers("200 OK", "", "true");
    let (main, other) = (back_end.url("/main"), back_end.url("/other"));
    let node = Node::start(
        "",
        &[
            ("FANFARE_APPS__MAIN__AUTH_URL", &main),
            ("FANFARE_APPS__MAIN__ALLOWED_ORIGINS", "https://shop.test"),
            ("FANFARE_APPS__OTHER__AUTH_URL", &other),
        ],
    );
    let origin = "Origin: https://shop.test\r\n";
    let query = format!("&app_key={OTHER_KEY}");
    let asked = asked_by(&node, &back_end, &query, origin, ("", origin));
    assert!(asked.starts_with("post /other") && !asked.contains("session=victim"), "{asked}");
}

/// An application that says yes to all, each time after 50 ms.
fn slow_application() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = |mut stream: TcpStream| {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        // Its work.
        thread::sleep(Duration::from_millis(50));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ntrue");
    };
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(thread::spawn(move || answer(stream)))));
    format!("http://{address}/auth")
}

#[test]
fn a_crowd_that_asks_for_private_channels_waits_its_turn() {
    let node = Node::start("", &[("FANFARE_APPS__MAIN__AUTH_URL", &slow_application())]);
    // 600 pages of three private channels come back: 1,800 questions, which 64 at a time take 1.4 s.
    let pollers: Vec<Poller> = (0..600).map(|_| Poller::connect(&node, Engine::Four)).collect();
    let asked: Vec<String> = (0..3).map(|n| subscribe(&format!("private-user.{n}"))).collect();
    let asked: Vec<&str> = asked.iter().map(|name| &**name).collect();
    for poller in &pollers {
        assert_eq!(poller.post(&asked).body, "ok");
    }
    let subscriptions = || node.metric("fanfare_subscriptions", &[("app", node::APP_ID)]);
    // Who is refused does not ask again.
    let began = Instant::now();
    until("all are subscribed", || (subscriptions() == 1_800.0).then_some(()));
    println!("1,800 questions answered after {:.1} s", began.elapsed().as_secs_f64());
}

#[test]
fn a_session_that_is_not_heard_of_again_ends_and_only_so_many_may_begin() {
    let settings = [("FANFARE_LIMITS__HANDSHAKE_SECONDS", "2"), ("FANFARE_LIMITS__HANDSHAKES", "50")];
    let node = Node::start("", &settings);
    let path = "/socket.io/?EIO=4&transport=polling";
    let open = || socket_io::request(node.address, "GET", path, "", "").status;
    let opened = (0..60).map(|_| open()).filter(|status| *status == 200).count();
    assert_eq!((opened, open()), (50, 503));
    let began = Instant::now();
    until("they are given up", || (connections(&node) == 0.0).then_some(()));
    println!("given up after {:.1} s", began.elapsed().as_secs_f64());
    // Who goes on makes room at once.
    let kept: Vec<Poller> = (0..60).map(|_| Poller::connect(&node, Engine::Four)).collect();
    assert_eq!(connections(&node), kept.len() as f64);
}

#[test]
fn posts_that_are_not_sent_to_their_end_take_little() {
    let node = Node::start("", &[]);
    let poller = Poller::connect(&node, Engine::Four);
    let begin = |path: &str| {
        let mut stream = TcpStream::connect(node.address).unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n");
        stream.write_all(&[head.as_bytes(), &[b'2'; 1_000]].concat()).unwrap();
        stream
    };
    // One of a session is being read; the next is refused, and its line ends, for the rest of it is no request.
    let _held = begin(&poller.path());
    let refused = until("a second one is refused", || {
        let answer = socket_io::request(node.address, "POST", &poller.path(), "", "3");
        (answer.status == 400).then_some(answer)
    });
    assert_eq!(refused.headers["connection"], "close");
    let mut stranger = begin("/socket.io/?EIO=4&transport=polling&sid=1.2");
    let mut answer = String::new();
    stranger.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stranger.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("connection: close") && answer.contains("\"code\":1"), "{answer}");
}
