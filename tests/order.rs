//! Once and in order: many publishers of all kinds, many sockets on all workers, one sequence.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::client::Message;
use crate::support::prelude::*;

const CHANNEL: &str = "orders";
const EVENTS: u64 = 1_000;
/// All three publish so many before any goes on, so that they are always at it together.
const ROUND: u64 = 100;
const PUBLISHERS: [&str; 3] = ["phpredis", "predis", "api"];

#[test]
fn three_publishers_at_once_are_heard_once_and_in_order_by_every_socket() {
    let cluster = Cluster::start(3);
    // An acceptor hands sockets to its workers in turn: three for each of the two.
    let listeners: Vec<Client> =
        cluster.nodes.iter().flat_map(|node| (0..6).map(|_| Client::on(node, CHANNEL))).collect();
    let mut browser = Browser::connect(&cluster.nodes[2]);
    browser.subscribe(CHANNEL);
    let published = AtomicBool::new(false);
    let sequences = thread::scope(|scope| {
        let restless = scope.spawn(|| come_and_go(&cluster.nodes[1], &published));
        let listening: Vec<_> = listeners.into_iter().map(|client| scope.spawn(|| listen(client))).collect();
        publish(&cluster);
        published.store(true, Ordering::SeqCst);
        let rounds = restless.join().unwrap();
        println!("the restless socket came and went {rounds} times");
        assert!(rounds >= 3, "only {rounds} rounds");
        Api::of(&cluster.nodes[0]).trigger(&[CHANNEL], "marker", json!(0));
        listening.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for publisher in PUBLISHERS {
        let numbers: Vec<u64> = sequences[0].iter().filter(|(from, _)| from == publisher).map(|(_, n)| *n).collect();
        assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>(), "{publisher}");
    }
    let switches = sequences[0].windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
    println!("the publishers took turns {switches} times");
    assert!(switches > 20, "they were not at it together");
    for (number, sequence) in sequences.iter().enumerate() {
        assert!(*sequence == sequences[0], "socket {number} heard another sequence than socket 0");
    }
    for expected in &sequences[0] {
        let told = browser.until(|told| told["kind"] == "event");
        assert_eq!((&told["data"]["publisher"], &told["data"]["number"]), (&json!(expected.0), &json!(expected.1)));
    }
}

fn publish(cluster: &Cluster) {
    let mut phpredis = Laravel::with("phpredis", &cluster.redis);
    let mut predis = Laravel::with("predis", &cluster.redis);
    let mut api = Api::of(&cluster.nodes[0]);
    for first in (0..EVENTS).step_by(ROUND as usize) {
        let call = |name: &str| json!({ "channels": [CHANNEL], "publisher": name, "first": first, "count": ROUND });
        api.begin(&json!({ "do": "count", "channel": CHANNEL, "publisher": "api", "first": first, "count": ROUND }));
        phpredis.begin(&call("phpredis"));
        predis.begin(&call("predis"));
        api.done();
        phpredis.done();
        predis.done();
    }
}

/// All that a socket hears before the marker.
fn listen(mut client: Client) -> Vec<(String, u64)> {
    client.until("marker").0.iter().map(numbered).collect()
}

fn numbered(message: &Message) -> (String, u64) {
    let data = message.data();
    (data["publisher"].as_str().unwrap().to_owned(), data["number"].as_u64().unwrap())
}

/// Subscribes, listens a while, unsubscribes, until all is published. Within a stay nothing is missing or doubled, and
/// between two stays nothing comes.
fn come_and_go(node: &Node, published: &AtomicBool) -> usize {
    let mut client = Client::connect(node);
    let mut rounds = 0;
    while !published.load(Ordering::SeqCst) {
        client.subscribe(CHANNEL);
        let mut heard = Vec::new();
        while heard.len() < 20 && !published.load(Ordering::SeqCst) {
            heard.extend(client.ping());
        }
        client.unsubscribe(CHANNEL);
        heard.extend(client.ping());
        let heard: Vec<(String, u64)> = heard.iter().map(numbered).collect();
        for publisher in PUBLISHERS {
            let numbers: Vec<u64> = heard.iter().filter(|(from, _)| from == publisher).map(|(_, n)| *n).collect();
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{publisher}: {numbers:?}");
        }
        rounds += 1;
    }
    assert!(client.ping().is_empty(), "after an unsubscribe nothing comes");
    rounds
}
