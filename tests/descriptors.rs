//! A node that is out of file descriptors: whoever is in stays and hears, the operator's port answers, newcomers are refused.

use crate::support::http::{self, APPLICATION};
use crate::support::prelude::*;
use crate::support::tls::{Authority, Files, Tunnel};

/// Enough for a node and some clients.
const LIMIT: u32 = 100;

/// Connects clients until one is refused.
fn fill(node: &Node) -> Vec<Socket> {
    let mut inside = Vec::new();
    loop {
        match Socket::open(node.address, "/app/main-key?protocol=7") {
            Ok(socket) => inside.push(socket),
            Err(status) => {
                // The answer, or the reset that overtook it.
                assert!([503, 0].contains(&status), "{status}");
                return inside;
            }
        }
        assert!(inside.len() < LIMIT as usize, "nobody is refused");
    }
}

fn refused(node: &Node) -> f64 {
    node.metric("fanfare_connections_rejected_total", &[("reason", "descriptors")])
}

fn told(node: &Node, words: &str) -> usize {
    node.log().iter().filter(|line| line.contains(words)).count()
}

#[test]
fn a_full_node_serves_whom_it_has_answers_its_operator_and_recovers() {
    let mut node = Node::with_descriptors(LIMIT, &[]);
    let mut ann = Client::connect(&node);
    let mut ben = Client::connect(&node);
    ann.subscribe("private-room");
    ben.subscribe("private-room");
    assert_eq!(refused(&node), 0.0);
    let inside = fill(&node);
    assert!(inside.len() > 20, "{} clients", inside.len());
    // As many at once as the process could ever hold.
    let crowd: Vec<_> = (0..LIMIT).filter_map(|_| std::net::TcpStream::connect(node.address).ok()).collect();
    until("all of them are refused", || (refused(&node) > f64::from(LIMIT)).then_some(()));
    assert_eq!(http::get(node.admin, "/ready").status, 200);
    assert_eq!(http::get(node.admin, "/live").status, 200);
    let whisper = json!({ "event": "client-hello", "channel": "private-room", "data": { "n": 1 } });
    ann.socket.send(&whisper.to_string());
    assert_eq!(ben.expect("client-hello", "private-room").data(), json!({ "n": 1 }));
    assert_eq!(told(&node, "too few file descriptors are left"), 1, "once a minute");
    assert_eq!(told(&node, "cannot accept"), 0);

    drop((crowd, inside));
    let mut late = until("there is room again", || {
        Socket::open(node.address, "/app/main-key?protocol=7").is_ok().then(|| Client::connect(&node))
    });
    late.subscribe("news");
    let body = json!({ "name": "e", "channel": "news", "data": "1" }).to_string();
    assert_eq!(APPLICATION.post(node.address, "events", &body).status, 200);
    late.expect("e", "news");
    node.assert_well();
}

#[test]
fn a_full_node_with_tls_turns_away_before_the_handshake() {
    let authority = Authority::new("one");
    let files = Files::with(&authority.certify());
    let mut node = Node::with_descriptors(LIMIT, &files.settings());
    let tunnel = Tunnel::to(node.address, &authority);
    let plain = std::mem::replace(&mut node.address, tunnel.address);
    let mut first = Client::on(&node, "news");
    let inside = fill(&node);
    assert!(refused(&node) > 0.0);
    assert!(first.ping().is_empty());
    drop(inside);
    until("there is room again", || (http::get(tunnel.address, "/up").status == 200).then_some(()));
    node.address = plain;
    node.assert_well();
}
