//! The way between a node and Redis breaks.

use super::prelude::*;

/// The node whose way breaks.
const CUT: usize = 1;

#[test]
fn a_link_that_is_reset() {
    let mut scene = Scene::of(2);
    let mut healed = Vec::new();
    for _ in 0..3 {
        scene.relays[CUT].reset();
        healed.push(scene.hears_again(Instant::now(), |_| true));
        scene.load.run(20);
    }
    let all = scene.nodes.iter().map(|node| node.metric("fanfare_backplane_reconnects_total", &[])).sum::<f64>();
    assert_eq!(all, 3.0, "the relay cut nothing, or more than its own");
    let verdict = Verdict::of(&mut scene, nobody);
    let row = Row::of("1a", "All connections of one node to Redis are reset, three times");
    row.healed(*healed.iter().max().unwrap()).print(&verdict);
    verdict.assert_invariants(&mut scene);
    assert_eq!((verdict.closed, verdict.gaps), (0, 3 * 6), "a gap each time for each client of that node");
}

#[test]
fn subscribers_that_redis_kills() {
    let mut scene = Scene::of(2);
    let mut healed = Vec::new();
    for round in 1..=3 {
        scene.redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        let killed = Instant::now();
        // Events of before are still on their way to who is not cut off yet.
        for node in &scene.nodes {
            let lost = || node.metric("fanfare_backplane_reconnects_total", &[]) >= f64::from(round);
            until("the node has another link", || lost().then_some(()));
        }
        healed.push(scene.hears_again(killed, |_| true));
        scene.load.run(20);
    }
    let verdict = Verdict::of(&mut scene, nobody);
    let row = Row::of("1b", "`CLIENT KILL TYPE pubsub` on all nodes, three times");
    row.healed(*healed.iter().max().unwrap()).print(&verdict);
    verdict.assert_invariants(&mut scene);
    assert_eq!((verdict.closed, verdict.gaps), (0, 3 * 12), "a gap each time for each client");
}
