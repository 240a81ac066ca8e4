//! A channel with a crowd does not hold up a small one of the same worker: after some writes (500, or 2 ms) a worker gives the others
//! their turn.

use std::time::Instant;

use crate::support::http::APPLICATION;
use crate::support::prelude::*;

/// Subscribers of the large channel. A sweep over so many takes tens of milliseconds, and a turn two.
const CROWD: usize = 5_000;
const ROUNDS: usize = 20;

/// Publishes one event on each of these channels in one request, so that all are at the worker together and in this order.
fn publish(node: &Node, channels: &[&str]) {
    let event = |channel: &&str| json!({ "name": "news", "channel": channel, "data": "x" });
    let batch = json!({ "batch": channels.iter().map(event).collect::<Vec<_>>() }).to_string();
    assert_eq!(APPLICATION.post(node.address, "batch_events", &batch).status, 200);
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn a_crowded_channel_gives_a_small_one_its_turn() {
    // So many clients take a while to be read, and are not asked meanwhile whether they live.
    let settings = [
        ("FANFARE_SERVER__WORKERS", "1"),
        ("FANFARE_LIMITS__ACCEPTS_PER_SECOND", "0"),
        ("FANFARE_APPS__MAIN__ACTIVITY_TIMEOUT", "600"),
    ];
    let node = Node::start("", &settings);
    let mut crowd: Vec<Client> = (0..CROWD).map(|_| Client::on(&node, "crowd")).collect();
    let mut small = Client::on(&node, "small");
    let mut alone = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        publish(&node, &["small"]);
        small.expect("news", "small");
        alone.push(began.elapsed());
    }
    let (mut beside, mut told) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        publish(&node, &["crowd", "small"]);
        small.expect("news", "small");
        beside.push(began.elapsed());
        // In the order in which they came: who is not told yet stands behind who is.
        told.push(crowd.partition_point(|member| member.socket.has_something()));
        crowd.iter_mut().for_each(|member| drop(member.expect("news", "crowd")));
    }
    told.sort_unstable();
    println!("{CROWD} subscribers beside it, of whom {told:?} were told before the small channel's one");
    println!("the small channel's event took {:?}, and alone {:?} (medians)", median(beside), median(alone));
    // Until this thread looks the worker goes on; without turns all would be told, each time.
    assert!(told[ROUNDS / 2] < CROWD / 2, "the crowd was told first");
}
