//! Memory has a ceiling that an operator can compute (docs/operations.md), whatever clients, publishers and Redis do. Here
//! the limits are small and everybody does his worst at once.

use std::io::Write;
use std::net::TcpStream;
use std::thread;

use crate::support::http::APPLICATION;
use crate::support::node::PREFIX;
use crate::support::prelude::*;
use crate::support::redis::{Link, Reply};
use crate::support::resident::{self, Resident, mib};
use crate::support::websocket::{TEXT, masked};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

const WORKERS: u64 = 2;
const QUEUE: u64 = 16 * MIB;
const INBOX: u64 = MIB;
const OUTBOX_TOTAL: u64 = 8 * MIB;
const BODY: u64 = 128 * KIB;
const FRAME: u64 = 64 * KIB;
const HANDSHAKES: u64 = 64;

/// Clients of each bad kind.
const CROWD: usize = 100;
/// What is published at a time for clients that do not read.
const FLOOD: u64 = 32 * MIB;
const EVENT: usize = 60 << 10;

/// docs/operations.md, "Memory": the most that a node with so many connections can be brought to.
fn ceiling(connections: u64) -> u64 {
    let process = 32 * MIB;
    let of_connections = connections * (4 * KIB + 2 * FRAME);
    let redis = QUEUE + 16 * MIB;
    let workers = WORKERS * (2 * INBOX + 8 * MIB);
    let http = HANDSHAKES * 64 * KIB + 256 * 2 * BODY + 1_088 * 64 * KIB;
    process + of_connections + redis + workers + OUTBOX_TOTAL + http
}

fn settings() -> Vec<(&'static str, String)> {
    vec![
        ("FANFARE_SERVER__WORKERS", WORKERS.to_string()),
        ("FANFARE_REDIS__QUEUE_BYTES", QUEUE.to_string()),
        ("FANFARE_LIMITS__INBOX_BYTES", INBOX.to_string()),
        ("FANFARE_LIMITS__OUTBOX_TOTAL_BYTES", OUTBOX_TOTAL.to_string()),
        ("FANFARE_LIMITS__HTTP_BODY_BYTES", BODY.to_string()),
        ("FANFARE_LIMITS__FRAME_BYTES", FRAME.to_string()),
        ("FANFARE_LIMITS__HANDSHAKES", HANDSHAKES.to_string()),
        // The C library's allocator keeps what was freed between what was not, unless it is told where larger pieces go:
        // then what is not given back is still in use.
        ("MALLOC_MMAP_THRESHOLD_", (4 * KIB).to_string()),
        ("MALLOC_TRIM_THRESHOLD_", (64 * KIB).to_string()),
        ("MALLOC_ARENA_MAX", "1".to_owned()),
        // What is begun and not ended stays for the whole test.
        ("FANFARE_LIMITS__HANDSHAKE_SECONDS", "60".to_owned()),
    ]
}

fn told(what: &str, node: &Node) -> Resident {
    let resident = resident::of(node.id());
    println!("{what}: {:.1} MiB, at most {:.1} so far", mib(resident.now), mib(resident.peak));
    resident
}

/// Messages that begin and never end, as large as they may be.
fn unfinished_frames(node: &Node) -> Vec<Client> {
    let frame = masked(true, TEXT, &vec![b'x'; FRAME as usize - 16]);
    let begin = |_| {
        let mut client = Client::connect(node);
        client.socket.send_bytes(&masked(false, TEXT, &vec![b'x'; FRAME as usize / 2 - 16]));
        client.socket.send_bytes(&frame[..frame.len() / 2]);
        client
    };
    (0..CROWD).map(begin).collect()
}

/// Requests whose bodies stop before their last byte.
fn unfinished_bodies(node: &Node) -> Vec<TcpStream> {
    let body = "x".repeat(BODY as usize - 1);
    let begin = |_| {
        let mut stream = APPLICATION.post_no_body(node.address, "events", &body);
        let _ = stream.write_all(&body.as_bytes()[..body.len() - 1]);
        stream
    };
    (0..CROWD * 2).map(begin).collect()
}

/// Requests whose heads do not end; they leave a few places to others.
fn unfinished_heads(node: &Node) -> Vec<TcpStream> {
    let head = format!("GET /up HTTP/1.1\r\nX-Long: {}", "x".repeat(60 << 10));
    let begin = |_| {
        let mut stream = TcpStream::connect(node.address).ok()?;
        let _ = stream.write_all(head.as_bytes());
        Some(stream)
    };
    (0..HANDSHAKES - 8).filter_map(begin).collect()
}

/// Clients that subscribe, each to a channel of its own, and never read again: nothing that waits for one is another's too.
fn never_reading(node: &Node) -> Vec<Client> {
    (0..CROWD).map(|place| Client::on(node, &format!("flood-{place}"))).collect()
}

fn closed_as_slow(node: &Node) -> f64 {
    node.metric("fanfare_connections_closed_total", &[("reason", "slow_consumer")])
}

fn flood(redis: &Redis) {
    let port = redis.port;
    let publish = move || {
        let mut link = Link::open(port).unwrap();
        let payload = json!({ "event": "e", "data": "x".repeat(EVENT), "socket": null }).to_string();
        for number in 0..FLOOD as usize / EVENT / 2 {
            let topic = format!("{PREFIX}flood-{}", number % CROWD);
            assert!(matches!(link.ask(&["PUBLISH", &topic, &payload]), Reply::Number(_)));
        }
    };
    let publishers = [(); 2].map(|()| thread::spawn(publish));
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
}

/// Client events of full size while Redis takes nothing.
fn whispers_into_a_stalled_redis(node: &Node, redis: &Redis) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..CROWD).map(|_| Client::on(node, "private-room")).collect();
    let whisper = json!({ "event": "client-e", "channel": "private-room", "data": "x".repeat(9 << 10) }).to_string();
    redis.signal("STOP");
    for client in &mut clients {
        // As many as a client may send in a second.
        client.socket.send_all((0..10).map(|_| &*whisper));
    }
    clients
}

#[test]
fn whatever_is_done_to_a_node_its_memory_stays_below_the_ceiling() {
    let settings = settings();
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, &**value)).collect();
    let mut cluster = Cluster::with(1, &settings);
    let node = &mut cluster.nodes[0];
    let before = told("at the start", node);

    let frames = unfinished_frames(node);
    let whispers = whispers_into_a_stalled_redis(node, &cluster.redis);
    let bodies = unfinished_bodies(node);
    let heads = unfinished_heads(node);
    told("after what never ends", node);
    cluster.redis.signal("CONT");
    let connections = frames.len() + CROWD + whispers.len() + bodies.len() + heads.len();
    let ceiling = ceiling(connections as u64);
    println!("the ceiling with {connections} connections: {:.1} MiB", mib(ceiling));
    let (mut rounds, mut published) = (0, 0);
    while published < 2 * ceiling {
        rounds += 1;
        let _readers = never_reading(node);
        until("they are closed for it", || {
            flood(&cluster.redis);
            published += FLOOD;
            (closed_as_slow(node) >= (rounds * CROWD) as f64).then_some(())
        });
        let published = mib(published);
        let resident = told(&format!("{published} MiB published, {rounds} crowds that do not read"), node);
        assert!(resident.peak < ceiling, "{} bytes, and {ceiling} are the most", resident.peak);
    }

    let peak = resident::of(node.id()).peak;
    drop((frames, whispers, bodies, heads));
    until("they are gone", || (node.metric("fanfare_connections", &[]) == 0.0).then_some(()));
    let most = before.now + (peak - before.now) / 2;
    until("most of it is given back", || (resident::of(node.id()).now < most).then_some(()));
    told("when they are gone", node);
    let mut client = Client::on(node, "news");
    let body = json!({ "name": "e", "channel": "news", "data": "1" }).to_string();
    assert_eq!(APPLICATION.post(node.address, "events", &body).status, 200);
    client.expect("e", "news");
    node.assert_well();
}
