//! RFC 6455 by raw bytes, case by case, with `pusher:ping` as the probe. The Autobahn suite asks more of the same socket
//! layer: docs/reports/autobahn.md.

use std::cell::Cell;
use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use crate::support::http;
use crate::support::node::KEY;
use crate::support::prelude::*;
use crate::support::websocket::{BINARY, CLOSE, PING, PONG, TEXT, masked, upgrade};

const PROBE: &[u8] = br#"{"event":"pusher:ping","data":{}}"#;

/// What follows a first fragment.
const MORE: u8 = 0;

/// The bits of a first byte beside the opcode.
const LAST: u8 = 0x80;

/// The largest message that a node takes by default.
const FRAME_BYTES: usize = 64 << 10;

/// Plays cases to one node, each on a connection of its own, and compares all that comes back, to the end of the line or
/// to the answer to one more probe.
struct Table {
    node: Node,
    /// The shortest time from a close to the end of the line.
    quickest: Cell<Duration>,
}

impl Table {
    fn new() -> Self {
        Self { node: Node::start("", &[]), quickest: Cell::new(Duration::MAX) }
    }

    fn check(&self, case: &str, bytes: &[u8], expected: &[&str]) {
        assert_eq!(self.play(&[bytes]), expected, "{case}");
        // Whoever reads frames off a stream must not mind where the stream was cut.
        if bytes.len() < 200 {
            let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(self.play(&pieces), expected, "{case}, byte by byte");
        }
    }

    fn play(&self, pieces: &[&[u8]]) -> Vec<String> {
        let mut client = Client::connect(&self.node);
        pieces.iter().for_each(|piece| client.socket.send_bytes(piece));
        client.socket.send(r#"{"event":"pusher:subscribe","data":{"channel":"the-end"}}"#);
        let mut told = Vec::new();
        let mut closed = None;
        loop {
            match client.socket.next() {
                Frame::Text(text) if text.contains("the-end") => break,
                Frame::Text(text) if text == r#"{"event":"pusher:pong","data":"{}"}"# => told.push("answer".to_owned()),
                Frame::Text(text) if text.starts_with(r#"{"event":"pusher:error""#) => told.push("error".to_owned()),
                Frame::Text(text) => told.push(text),
                Frame::Pong(bytes) => told.push(format!("pong {}", bytes.escape_ascii())),
                Frame::Close { code, .. } => {
                    closed = Some(Instant::now());
                    told.push(format!("close {code}"));
                }
                Frame::End => {
                    let took = closed.map_or(Duration::MAX, |closed| closed.elapsed());
                    self.quickest.set(self.quickest.get().min(took));
                    told.push("end".into());
                    break;
                }
            }
        }
        told
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.node.assert_well();
        }
    }
}

fn join(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.concat()
}

/// A frame with this first byte, whatever it says.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = masked(true, TEXT, payload);
    frame[0] = first;
    frame
}

/// A probe of this many bytes.
fn probe_of(length: usize) -> Vec<u8> {
    let empty = br#"{"event":"pusher:ping","data":""}"#.len();
    format!(r#"{{"event":"pusher:ping","data":"{}"}}"#, "x".repeat(length - empty)).into_bytes()
}

#[test]
fn a_message_may_come_in_fragments_with_control_frames_between_them() {
    let table = Table::new();
    let (first, second) = PROBE.split_at(9);
    let begin = masked(false, TEXT, first);
    let end = masked(true, MORE, second);
    let whole = masked(true, TEXT, PROBE);
    let bytewise: Vec<Vec<u8>> = PROBE.iter().map(|byte| masked(false, MORE, &[*byte])).collect();
    let longest = "p".repeat(125);
    let long_pong = format!("pong {longest}");
    table.check("whole", &whole, &["answer"]);
    table.check("two in one write", &join(&[whole.clone(), whole.clone()]), &["answer", "answer"]);
    table.check("two fragments", &join(&[begin.clone(), end.clone()]), &["answer"]);
    let bytewise = join(&[masked(false, TEXT, b""), bytewise.concat(), masked(true, MORE, b"")]);
    table.check("a byte a fragment, empty ones around", &bytewise, &["answer"]);
    let empty = [begin.clone(), masked(false, MORE, b""), end.clone()];
    table.check("an empty fragment between", &join(&empty), &["answer"]);
    let ping = masked(true, PING, b"you?");
    table.check("a ping between", &join(&[begin.clone(), ping.clone(), end.clone()]), &["pong you?", "answer"]);
    let pings = [begin.clone(), ping.clone(), ping.clone(), end.clone(), ping.clone()];
    table.check("pings between and behind", &join(&pings), &["pong you?", "pong you?", "answer", "pong you?"]);
    let pong = masked(true, PONG, b"never asked");
    table.check("a pong between", &join(&[begin.clone(), pong.clone(), end.clone()]), &["answer"]);
    table.check("a pong alone", &pong, &[]);
    table.check("an empty ping", &masked(true, PING, b""), &["pong "]);
    table.check("a ping of bytes", &masked(true, PING, &[0, 0xff]), &[r"pong \x00\xff"]);
    table.check("the longest ping", &masked(true, PING, longest.as_bytes()), &[&long_pong]);
    table.check("a close between", &join(&[begin, masked(true, CLOSE, &[3, 232]), end]), &["close 1000", "end"]);
    table.check("an empty message", &masked(true, TEXT, b""), &["error"]);
}

#[test]
fn a_message_of_any_size_up_to_the_limit_is_read() {
    let table = Table::new();
    for length in [33, 125, 126, 127, 128, 1_000, 65_535, FRAME_BYTES] {
        let probe = probe_of(length);
        assert_eq!(probe.len(), length);
        table.check(&format!("{length} bytes"), &masked(true, TEXT, &probe), &["answer"]);
        let (first, second) = probe.split_at(length / 3);
        let two = join(&[masked(false, TEXT, first), masked(true, MORE, second)]);
        table.check(&format!("{length} bytes in two frames"), &two, &["answer"]);
    }
    let large = probe_of(FRAME_BYTES + 1);
    let (first, second) = large.split_at(FRAME_BYTES);
    table.check("a byte too many", &masked(true, TEXT, &large), &["close 1009", "end"]);
    let two = join(&[masked(false, TEXT, first), masked(true, MORE, second)]);
    table.check("a byte too many in two frames", &two, &["close 1009", "end"]);
    for length in [1 << 32, u64::MAX >> 1, u64::MAX] {
        let mut announced = vec![LAST | TEXT, 0x80 | 127];
        announced.extend_from_slice(&length.to_be_bytes());
        announced.extend_from_slice(&[0; 4]);
        table.check(&format!("{length} bytes announced"), &announced, &["close 1009", "end"]);
    }
}

#[test]
fn a_frame_that_the_rfc_forbids_closes_with_1002() {
    let table = Table::new();
    let refused = |case: &str, bytes: &[u8]| table.check(case, bytes, &["close 1002", "end"]);
    for bits in [0x10, 0x20, 0x40, 0x70] {
        for opcode in [MORE, TEXT, BINARY, CLOSE, PING, PONG] {
            refused(&format!("reserved bits {bits:#x} with opcode {opcode}"), &frame(LAST | bits | opcode, PROBE));
        }
    }
    for opcode in (3..=7).chain(11..=15) {
        refused(&format!("opcode {opcode}"), &frame(LAST | opcode, PROBE));
        refused(&format!("opcode {opcode}, empty"), &frame(LAST | opcode, b""));
    }
    let unmasked = |opcode: u8, payload: &[u8]| [&[LAST | opcode, payload.len() as u8], payload].concat();
    for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
        refused(&format!("no mask, opcode {opcode}"), &unmasked(opcode, b"{}"));
    }
    let begin = masked(false, TEXT, b"{");
    for (case, opcode) in [("text", TEXT), ("binary", BINARY)] {
        refused(&format!("{case} within a message"), &join(&[begin.clone(), masked(true, opcode, PROBE)]));
        refused(&format!("a {case} fragment within a message"), &join(&[begin.clone(), masked(false, opcode, b"")]));
    }
    refused("more of no message", &masked(true, MORE, PROBE));
    refused("a fragment of no message", &masked(false, MORE, PROBE));
    let over = [masked(false, TEXT, b"{"), masked(true, MORE, b"}"), masked(true, MORE, b"}")];
    table.check("more of a message that has ended", &join(&over), &["error", "close 1002", "end"]);
    for (case, opcode) in [("close", CLOSE), ("ping", PING), ("pong", PONG)] {
        refused(&format!("a {case} in fragments"), &join(&[masked(false, opcode, b""), masked(true, MORE, b"")]));
        refused(&format!("a {case} of 126 bytes"), &masked(true, opcode, &[b'x'; 126]));
    }
    let behind = join(&[masked(true, TEXT, PROBE), masked(true, PING, b"1"), frame(LAST | 3, b"")]);
    table.check("what came before is answered", &behind, &["answer", "pong 1", "close 1002", "end"]);
    // A client that waits for the server to end the line first is not kept for the second that it has for its farewell.
    assert!(table.quickest.get() < Duration::from_millis(500), "{:?}", table.quickest.get());
}

#[test]
fn a_text_that_is_not_utf_8_closes_with_1007() {
    let table = Table::new();
    let wrong: [(&str, &[u8]); 10] = [
        ("a byte that none begins with", b"\xff"),
        ("a continuation alone", b"\x80"),
        ("two continuations alone", b"\x80\xbf"),
        ("a slash in two bytes", b"\xc0\xaf"),
        ("a slash in three bytes", b"\xe0\x80\xaf"),
        ("half a surrogate pair", b"\xed\xa0\x80"),
        ("above U+10FFFF", b"\xf4\x90\x80\x80"),
        ("five bytes", b"\xf8\x88\x80\x80\x80"),
        ("two bytes of three", b"\xe2\x82"),
        ("three bytes of four", b"\xf0\x9f\x98"),
    ];
    let refused = ["close 1007", "end"];
    for (case, bytes) in wrong {
        for (place, text) in [
            ("at the start", [bytes, PROBE].concat()),
            ("in the middle", [&PROBE[..20], bytes, &PROBE[20..]].concat()),
            ("at the end", [PROBE, bytes].concat()),
            ("alone", bytes.to_vec()),
        ] {
            table.check(&format!("{case}, {place}"), &masked(true, TEXT, &text), &refused);
            let cut = text.len() / 2;
            let two = join(&[masked(false, TEXT, &text[..cut]), masked(true, MORE, &text[cut..])]);
            table.check(&format!("{case}, {place}, in two frames"), &two, &refused);
        }
    }
    // Characters may be cut where frames are.
    let text = r#"{"event":"pusher:ping","data":"Zoë €😀 \uFFFE"}"#.as_bytes();
    for cut in 1..text.len() {
        let two = join(&[masked(false, TEXT, &text[..cut]), masked(true, MORE, &text[cut..])]);
        assert_eq!(table.play(&[&two]), ["answer"], "cut at {cut}");
    }
}

#[test]
fn binary_messages_close_with_1003() {
    let table = Table::new();
    let refused = ["close 1003", "end"];
    table.check("a probe as binary", &masked(true, BINARY, PROBE), &refused);
    table.check("nothing as binary", &masked(true, BINARY, b""), &refused);
    let two = join(&[masked(false, BINARY, b"\xff"), masked(true, MORE, b"")]);
    table.check("binary in two frames", &two, &refused);
}

#[test]
fn a_close_is_answered_with_its_own_code_and_ends_the_line() {
    let table = Table::new();
    let close = |code: u16, reason: &[u8]| masked(true, CLOSE, &[&code.to_be_bytes(), reason].concat());
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4200, 4999] {
        let told = format!("close {code}");
        table.check(&told, &close(code, b""), &[&told, "end"]);
        table.check(&told, &close(code, "bye, Zoë".as_bytes()), &[&told, "end"]);
    }
    table.check("without a code", &masked(true, CLOSE, b""), &["close 1005", "end"]);
    table.check("the longest reason", &close(1000, &[b'x'; 123]), &["close 1000", "end"]);
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        table.check(&format!("code {code}"), &close(code, b""), &["close 1002", "end"]);
    }
    table.check("half a code", &masked(true, CLOSE, &[3]), &["close 1002", "end"]);
    table.check("a reason that is not UTF-8", &close(1000, b"\xed\xa0\x80"), &["close 1007", "end"]);
    let late = join(&[close(1000, b""), masked(true, TEXT, PROBE), masked(true, PING, b"1")]);
    table.check("what comes after a close is not read", &late, &["close 1000", "end"]);
}

#[test]
fn an_upgrade_may_come_in_pieces_and_with_a_message_right_behind_it() {
    let node = Node::start("", &[]);
    let path = format!("/app/{KEY}?protocol=7");
    let subscribe = masked(true, TEXT, br#"{"event":"pusher:subscribe","data":{"channel":"news"}}"#);
    let asked = |headers: &str| [upgrade(node.address, &path, headers).as_bytes(), &subscribe].concat();
    let (short, long) = (asked(""), asked(&format!("Cookie: {}\r\n", "x".repeat(20_000))));
    let head = short.len() - subscribe.len();
    let cases = [
        (&short, 0),
        (&short, 1),
        (&short, 50),
        (&short, head - 2),
        (&short, head),
        (&short, head + 3),
        (&long, 9_000),
    ];
    for (bytes, split) in cases {
        let mut stream = TcpStream::connect(node.address).unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in [&bytes[..split], &bytes[split..]] {
            stream.write_all(piece).unwrap();
            // What is answered later was read later, by the one worker or the other.
            (0..4).for_each(|_| assert_eq!(http::get(node.address, "/up").status, 200));
        }
        let mut socket = Socket::upgraded(stream).expect("the upgrade is granted");
        for event in ["pusher:connection_established", "pusher_internal:subscription_succeeded"] {
            assert!(matches!(socket.next(), Frame::Text(text) if text.contains(event)), "{event}, split at {split}");
        }
    }
}
