//! Redis itself breaks.

use super::prelude::*;
use crate::support::crowd::Guest;
use crate::support::folder::Folder;
use crate::support::node::Node;
use crate::support::redis::{Redis, Reply};

/// A node that was cut off holds removals that it finds by comparing rosters for seven seconds; a false one would come
/// then.
const HOLD: Duration = Duration::from_secs(8);

#[test]
fn redis_is_killed_and_started_again_empty() {
    let mut scene = Scene::of(3);
    let clients = scene.crowd.listeners.len() as u64;
    let back = outage(&mut scene, Duration::from_secs(2));
    let healed = scene.hears_again(back);
    let publishes = (0..3).map(|node| scene.publishes_again(back, node)).max().unwrap();
    let rosters = scene.rosters_right(back);
    thread::sleep(HOLD);
    let verdict = after_a_real_leave(&mut scene, 0);
    let row = Row::of("2", "Redis is killed and started again empty after 2 s").healed(healed);
    let row = row.note(format!("publishing again after {}", seconds(publishes)));
    row.note(format!("rosters right after {}", seconds(rosters))).print(&verdict);
    verdict.assert_invariants(&mut scene);
    assert_eq!((verdict.closed, verdict.gaps), (0, clients), "one gap for each client");
}

/// When Redis took connections again.
pub(super) fn outage(scene: &mut Scene, long: Duration) -> Instant {
    let killed = Instant::now();
    scene.redis.kill();
    for node in 0..scene.nodes.len() {
        scene.notices(node, killed);
    }
    thread::sleep(long.saturating_sub(killed.elapsed()));
    scene.redis.restart();
    Instant::now()
}

/// The verdict after somebody really went, and somebody really came, on this node: both are seen once, nothing else is.
fn after_a_real_leave(scene: &mut Scene, node: usize) -> Verdict {
    let (goes, comes) = (format!("bob {node}"), format!("cy {node}"));
    scene.leaves(&goes);
    scene.joins(node, &comes);
    until("the newcomer is in", || scene.crowd.listeners.last().unwrap().story().inside.then_some(()));
    scene.rosters_right(Instant::now());
    let may = move |_: &Guest, user: &str| (usize::from(user == comes), usize::from(user == goes));
    Verdict::of(scene, may)
}

#[test]
#[ignore = "long: cargo xtask test faults"]
fn redis_is_away_for_half_a_minute() {
    let _machine = alone();
    let mut scene = Scene::in_company(3, &[("FANFARE_REDIS__DOWN_GRACE", "10")]);
    let clients = scene.crowd.listeners.len() as u64;
    let killed = Instant::now();
    scene.redis.kill();
    let unready = |scene: &Scene| scene.nodes.iter().all(|node| !node.is_ready());
    until("no node is ready", || unready(&scene).then_some(()));
    let not_ready = killed.elapsed();
    thread::sleep(Duration::from_secs(30).saturating_sub(killed.elapsed()));
    assert!(unready(&scene));
    scene.redis.restart();
    let back = Instant::now();
    let healed = scene.hears_again(back);
    scene.nodes.iter().for_each(Node::wait_ready);
    let ready = back.elapsed();
    let rosters = scene.rosters_right(back);
    thread::sleep(HOLD);
    let verdict = after_a_real_leave(&mut scene, 0);
    let row = Row::of("15", "Redis is away for 30 s (`redis.down_grace` 10)").healed(healed);
    let row = row.note(format!("`/ready` 503 after {}", seconds(not_ready)));
    let row = row.note(format!("ready again after {}", seconds(ready)));
    row.note(format!("rosters right after {}", seconds(rosters))).print(&verdict);
    // It asks each node's `/live`, too.
    verdict.assert_invariants(&mut scene);
    assert!(not_ready >= Duration::from_secs(10), "{not_ready:?}");
    assert_eq!((verdict.closed, verdict.gaps), (0, clients), "one gap for each client");
}

#[test]
fn all_data_are_flushed() {
    let mut scene = Scene::of(2);
    scene.until_steady();
    scene.redis.ask(&["FLUSHALL"]);
    let flushed = Instant::now();
    let rosters = scene.rosters_right(flushed);
    thread::sleep(HOLD);
    let verdict = after_a_real_leave(&mut scene, 1);
    Row::of("3a", "`FLUSHALL`").note(format!("rosters right after {}", seconds(rosters))).print(&verdict);
    verdict.assert_invariants(&mut scene);
    verdict.assert_nothing_lost();
}

#[test]
fn all_scripts_are_flushed() {
    let mut scene = Scene::of(2);
    scene.redis.ask(&["SCRIPT", "FLUSH"]);
    scene.load.run(100);
    let verdict = after_a_real_leave(&mut scene, 1);
    Row::of("3b", "`SCRIPT FLUSH`").print(&verdict);
    verdict.assert_invariants(&mut scene);
    verdict.assert_nothing_lost();
}

#[test]
fn redis_is_frozen_for_4_seconds() {
    let _machine = alone();
    frozen("6a", "Redis is frozen (SIGSTOP) for 4 s", Duration::from_secs(4));
}

#[test]
#[ignore = "long: cargo xtask test faults"]
fn redis_is_frozen_for_10_seconds() {
    let _machine = alone();
    frozen("6b", "The same for 10 s", Duration::from_secs(10));
}

fn frozen(number: &'static str, fault: &'static str, long: Duration) {
    let mut scene = Scene::in_company(2, &[]);
    scene.until_steady();
    scene.redis.signal("STOP");
    let stopped = Instant::now();
    let noticed = scene.notices(0, stopped);
    thread::sleep(long.saturating_sub(stopped.elapsed()));
    scene.redis.signal("CONT");
    let awake = Instant::now();
    let healed = scene.hears_again(awake);
    scene.publishes_again(awake, 0);
    scene.publishes_again(awake, 1);
    let verdict = Verdict::of(&mut scene, nobody);
    Row::of(number, fault).healed(healed).note(format!("noticed after {}", seconds(noticed))).print(&verdict);
    verdict.assert_invariants(&mut scene);
    verdict.assert_nothing_lost();
    let reaped: f64 = scene.nodes.iter().map(|node| node.metric("fanfare_presence_expired_total", &[])).sum();
    assert_eq!((verdict.closed, reaped), (0, 0.0));
}

#[test]
fn redis_has_no_memory_left() {
    let mut scene = Scene::of(2);
    scene.redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let full = Instant::now();
    scene.joins(1, "cy 1");
    scene.load.run(200);
    thread::sleep(Duration::from_secs(6).saturating_sub(full.elapsed()));
    let is_in = |scene: &Scene| scene.crowd.listeners.last().unwrap().story().inside;
    assert!(!is_in(&scene), "nobody is told yes who is not registered");
    scene.redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    let back = Instant::now();
    until("who waited is let in", || is_in(&scene).then_some(()));
    let admitted = back.elapsed();
    let rosters = scene.rosters_right(back);
    let verdict = Verdict::of(&mut scene, |_, user| (usize::from(user == "cy 1"), 0));
    let row = Row::of("11", "Redis has no memory left for 6 s (`maxmemory 1`, `noeviction`)").healed(admitted);
    let row = row.note("who joined meanwhile was let in then");
    row.note(format!("rosters right after {}", seconds(rosters))).print(&verdict);
    verdict.assert_invariants(&mut scene);
    verdict.assert_nothing_lost();
}

/// What a policy other than `noeviction` does when memory is short. Nodes find their own users missing when somebody comes or goes,
/// at the latest within a minute, and tell of them anew; nobody is taken for gone meanwhile.
#[test]
fn redis_evicts_the_keys_of_a_room() {
    let mut scene = Scene::of(2);
    scene.until_steady();
    let keys = scene.redis.ask(&["KEYS", "ff:*presence-room*"]).list();
    for key in &keys {
        let Reply::Text(key) = key else { panic!("{key:?}") };
        assert_eq!(scene.redis.ask(&["DEL", key]).number(), 1);
    }
    scene.load.run(100);
    scene.mark();
    let seen = scene.crowd.members().map(|listener| listener.story().changes.len()).sum::<usize>();
    assert_eq!(seen, 0, "nobody saw anything");
    scene.joins(1, "cy 1");
    let joined = Instant::now();
    until("the newcomer is in", || scene.crowd.listeners.last().unwrap().story().inside.then_some(()));
    let rosters = scene.rosters_right(joined);
    let verdict = Verdict::of(&mut scene, |_, user| if user == "cy 1" { (1, 0) } else { (0, 0) });
    let row = Row::of("13", "Redis evicts the keys of a presence channel");
    row.note(format!("{} keys; rosters right {} after the next join", keys.len(), seconds(rosters))).print(&verdict);
    verdict.assert_invariants(&mut scene);
    verdict.assert_nothing_lost();
}

/// Both nodes read the URL, with the password, from one file.
#[test]
fn the_password_is_changed() {
    let (redis, folder) = (Redis::start(), Folder::new());
    redis.ask(&["ACL", "SETUSER", "node", "on", ">one", "~*", "&*", "+@all"]);
    let write = |password: &str| {
        let url = format!("redis://node:{password}@127.0.0.1:{}\n", redis.port);
        folder.write("url", &url)
    };
    let file = write("one");
    let settings = [("FANFARE_REDIS__URL_FILE", &*file)];
    let nodes: Vec<Node> = (0..2).map(|_| Node::start("", &settings)).collect();
    let port = redis.port;
    let mut scene = Scene::unpeopled(nodes, redis);
    scene.people();
    scene.redis.ask(&["ACL", "SETUSER", "node", "resetpass", ">two"]);
    scene.load.run(100);
    scene.mark();
    let told = scene.crowd.listeners.iter().map(|listener| listener.story().gaps).sum::<u64>();
    assert_eq!(told, 0, "links that live go on");
    scene.redis.ask(&["CLIENT", "KILL", "USER", "node"]);
    for node in &scene.nodes {
        let refused = || (node.metric("fanfare_backplane_auth_failures_total", &[]) >= 3.0).then_some(());
        until("logins are refused", refused);
    }
    folder.write("url", &format!("redis://node:two@127.0.0.1:{port}\n"));
    let written = Instant::now();
    for node in 0..2 {
        scene.is_linked(node, Duration::from_secs(5), written);
    }
    let healed = scene.hears_again(written);
    let rosters = scene.rosters_right(written);
    let clients = scene.crowd.listeners.len() as u64;
    let verdict = Verdict::of(&mut scene, nobody);
    let row =
        Row::of("12", "The password is changed in Redis, links are lost, then the file has the new one").healed(healed);
    row.note(format!("rosters right after {}", seconds(rosters))).print(&verdict);
    verdict.assert_invariants(&mut scene);
    assert_eq!((verdict.closed, verdict.gaps), (0, clients), "one gap for each client");
}
