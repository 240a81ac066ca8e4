//! The way between a node and Redis breaks.

use super::prelude::*;
use crate::support::crowd::{Guest, Listener};

#[test]
fn a_link_that_is_reset() {
    let mut scene = Scene::of(2);
    let mut healed = Vec::new();
    for _ in 0..3 {
        scene.relays[1].reset();
        healed.push(scene.hears_again(Instant::now()));
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
        healed.push(scene.hears_again(killed));
        scene.load.run(20);
    }
    let verdict = Verdict::of(&mut scene, nobody);
    let row = Row::of("1b", "`CLIENT KILL TYPE pubsub` on all nodes, three times");
    row.healed(*healed.iter().max().unwrap()).print(&verdict);
    verdict.assert_invariants(&mut scene);
    assert_eq!((verdict.closed, verdict.gaps), (0, 3 * 12), "a gap each time for each client");
}

#[test]
fn a_node_that_is_cut_off_for_5_seconds() {
    let _machine = alone();
    cut_off("4a", "One of three nodes is cut off for 5 s (black hole)", Duration::from_secs(5));
}

#[test]
#[ignore = "long: cargo xtask test faults"]
fn a_node_that_is_cut_off_for_10_seconds() {
    let _machine = alone();
    cut_off("4b", "The same for 10 s", Duration::from_secs(10));
}

#[test]
#[ignore = "long: cargo xtask test faults"]
fn a_node_that_is_cut_off_for_30_seconds() {
    let _machine = alone();
    cut_off("4c", "The same for 30 s", Duration::from_secs(30));
}

/// The last of three nodes sends and gets nothing for so long.
fn cut_off(number: &'static str, fault: &'static str, long: Duration) {
    let mut scene = Scene::in_company(3, &[]);
    scene.until_steady();
    scene.relays[2].way(Way::Hole);
    let cut = Instant::now();
    let noticed = scene.notices(2, cut);
    thread::sleep(long.saturating_sub(cut.elapsed()));
    scene.relays[2].way(Way::Open);
    let open = Instant::now();
    let healed = scene.hears_again(open);
    scene.publishes_again(open, 2);
    let rosters = scene.rosters_right(open);
    let left = first_leave(&scene, cut);
    let may = absent(&scene, 2);
    let verdict = Verdict::of(&mut scene, may);
    let row = Row::of(number, fault).healed(healed).note(format!("noticed after {}", seconds(noticed)));
    let row = row.note(left.map_or("its members stayed".into(), |left| format!("its members left after {left}")));
    row.note(format!("rosters right {} after the end", seconds(rosters))).print(&verdict);
    verdict.assert_invariants(&mut scene);
    assert_eq!(verdict.closed, 0);
}

/// After how long the first node's clients saw somebody leave, if they did.
pub(super) fn first_leave(scene: &Scene, since: Instant) -> Option<String> {
    let on_first = |listener: &&Listener| scene.is_on(listener, 0);
    let leaves = scene.crowd.members().filter(on_first).flat_map(|listener| listener.story().changes.clone());
    leaves.filter(|change| !change.joined).map(|change| seconds(change.at - since)).min()
}

/// Users of this node may go and come back once, but not for those who are on that node with them.
pub(super) fn absent(scene: &Scene, node: usize) -> impl Fn(&Guest, &str) -> (usize, usize) + use<> {
    let door = scene.doors[node].pick();
    let node = node.to_string();
    move |guest, user| {
        let own = guest.door.pick() == door;
        if user.ends_with(&node) && !own { (1, 1) } else { (0, 0) }
    }
}

#[test]
fn links_that_are_dead_and_do_not_say_so() {
    let _machine = alone();
    let mut scene = Scene::in_company(2, &[]);
    scene.until_steady();
    scene.relays[1].deaden();
    let died = Instant::now();
    let noticed = scene.notices(1, died);
    scene.is_linked(1, Duration::from_secs(8), died);
    let healed = scene.hears_again(died);
    scene.publishes_again(died, 1);
    let rosters = scene.rosters_right(died);
    let may = absent(&scene, 1);
    let verdict = Verdict::of(&mut scene, may);
    let row =
        Row::of("5", "One node's connections to Redis are dead for ever, new ones work (half-open)").healed(healed);
    let row = row.note(format!("noticed after {}", seconds(noticed)));
    row.note(format!("rosters right after {}", seconds(rosters))).print(&verdict);
    verdict.assert_invariants(&mut scene);
    assert!(verdict.lost > 0 && verdict.gaps == 6, "a gap for each client of that node: {verdict:?}");
    assert_eq!(verdict.closed, 0);
}
