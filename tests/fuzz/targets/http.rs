//! Whatever is sent to the HTTP API: a whole node in this process, asked over a socket.
//!
//! The first byte of an input says how it travels: with a signature, so that the reading of query and body is reached, or
//! without one, or as raw bytes. Beyond "no panic": every answer is HTTP with a status that is not the node's own failure,
//! and a JSON object in the body.
#![no_main]

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use model::{Secret, auth};

// The modules of the node, by `build.rs`.
include!(concat!(env!("OUT_DIR"), "/node.rs"));

const ID: &str = "app-id";
const KEY: &str = "app-key";
const SECRET: &str = "app-secret";

static NODE: OnceLock<SocketAddr> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| {
    let Some((how, rest)) = bytes.split_first() else { return };
    let node = *NODE.get_or_init(start);
    let (line, body) = match rest.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &[][..]),
    };
    let line = String::from_utf8_lossy(line);
    match how.wrapping_sub(b'0') % 5 {
        0 => request(node, &signed("POST", &format!("/apps/{ID}/events"), "", rest), rest),
        1 => request(node, &signed("POST", &format!("/apps/{ID}/batch_events"), "", rest), rest),
        2 => {
            let (path, query) = line.split_once('?').unwrap_or((&line, ""));
            let method = if body.is_empty() { "GET" } else { "POST" };
            request(node, &signed(method, &format!("/apps/{ID}/{path}"), query, body), body);
        }
        3 => request(node, &format!("POST /apps/{ID}/events?{}", sendable(&line)), body),
        _ => exchange(node, rest),
    }
});

/// A node on free ports, in a thread of its own.
fn start() -> SocketAddr {
    let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let (client, admin) = (free(), free());
    let values = [
        ("server.listen", client.to_string()),
        ("server.admin", admin.to_string()),
        ("server.workers", "1".into()),
    ];
    let values = values.into_iter().map(|(setting, text)| ("", setting, text)).collect();
    let flags = settings::Flags { file: None, values };
    let settings = settings::load(&flags).unwrap_or_else(|_| panic!("the settings are right"));
    std::thread::spawn(move || node::run(settings, flags, None).expect("the node starts"));
    while TcpStream::connect(client).is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    client
}

/// Method and target of a request that the application signs.
fn signed(method: &str, path: &str, query: &str, body: &[u8]) -> String {
    let path = sendable(path);
    let secret = Secret::new(SECRET);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    pairs.extend(auth::sign_request(KEY, &secret, method, &path, body, now));
    pairs.retain(|(name, _)| name != "auth_signature");
    let signature = auth::sign(&secret, auth::request_text(method, &path, &pairs).as_bytes());
    pairs.push(("auth_signature".into(), signature));
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("{method} {path}?{query}")
}

/// What may stand in a request line; what may not is what the raw bytes are for.
fn sendable(text: &str) -> String {
    text.bytes().filter(|byte| byte.is_ascii_graphic() && *byte != b'#').map(char::from).collect()
}

/// Sends a request over a connection that is kept.
fn request(node: SocketAddr, line: &str, body: &[u8]) {
    thread_local! {
        static KEPT: Cell<Option<TcpStream>> = const { Cell::new(None) };
    }
    let head = format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut stream = KEPT.take().unwrap_or_else(|| connect(node));
    // The node may have ended a connection that it kept, and then it does not answer either.
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
    let mut answer = Vec::new();
    let mut buffer = [0; 16 << 10];
    while !is_whole(&answer) {
        match stream.read(&mut buffer) {
            Ok(length @ 1..) => answer.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("no answer to {line:?}: {error}"),
            _ => return,
        }
    }
    if !answer.windows(17).any(|window| window.eq_ignore_ascii_case(b"connection: close")) {
        KEPT.set(Some(stream));
    }
}

/// Sends bytes and waits for the end of the line.
fn exchange(node: SocketAddr, bytes: &[u8]) {
    let mut stream = connect(node);
    // A node that has heard enough may close before it has read all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

fn connect(node: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(node).expect("the node takes connections");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    stream
}

/// True when the answer is whole; checks that it is a good one.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let body = &answer[end + 4..];
    if body.len() < length.expect("a length") {
        return false;
    }
    let status: u16 = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    assert!((200..500).contains(&status), "{head}");
    if !body.is_empty() && head.contains("application/json") {
        let value: serde_json::Value = serde_json::from_slice(body).expect("a body is JSON");
        assert!(value.is_object(), "{value}");
    }
    true
}
