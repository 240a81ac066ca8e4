//! The master dies, and Sentinel makes its replica the master.

use super::prelude::*;
use crate::support::folder::Folder;
use crate::support::node::Node;
use crate::support::ports;
use crate::support::process::Process;
use crate::support::redis::{Link, Redis, Reply};

/// Watches one master.
fn sentinel(folder: &Folder, port: u16, master: &Redis) -> Process {
    let file = format!(
        "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {} 1\n\
         sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n",
        master.port
    );
    let mut command = std::process::Command::new("redis-server");
    command.arg(folder.write("sentinel.conf", &file)).arg("--sentinel").current_dir(folder.path());
    Process::spawn("sentinel", &mut command)
}

fn is_master(server: &Redis) -> bool {
    matches!(server.ask(&["ROLE"]), Reply::List(parts) if parts[0] == Reply::Text("master".into()))
}

/// A master, its replica and who watches both.
pub(super) struct Watched {
    pub(super) url: String,
    pub(super) master: Redis,
    pub(super) replica: Redis,
    pub(super) sentinel: Process,
    pub(super) folder: Folder,
}

pub(super) fn watched() -> Watched {
    let (folder, port, master) = (Folder::new(), ports::free(), Redis::start());
    let follow = ["--replicaof", "127.0.0.1", &master.port.to_string(), "--repl-diskless-sync-delay", "0"];
    let replica = Redis::with(&follow);
    let follows = |reply| matches!(reply, Reply::Text(info) if info.contains("master_link_status:up"));
    until("the replica follows", || follows(replica.ask(&["INFO", "replication"])).then_some(()));
    let sentinel = sentinel(&folder, port, &master);
    until("the sentinel sees the replica", || {
        let replicas = Link::open(port)?.ask(&["SENTINEL", "REPLICAS", "main"]);
        matches!(replicas, Reply::List(list) if !list.is_empty()).then_some(())
    });
    Watched { url: format!("redis+sentinel://127.0.0.1:{port}/main"), master, replica, sentinel, folder }
}

/// The master is killed, and all nodes find the new one: when that was, and when it became the master.
pub(super) fn fail_over(scene: &mut Scene, replica: Redis) -> (Instant, Instant) {
    scene.redis.kill();
    let killed = Instant::now();
    until("the replica is promoted", || is_master(&replica).then_some(()));
    let promoted = Instant::now();
    scene.master.aim(&[replica.address()]);
    scene.redis = replica;
    until("both nodes have left the dead one", || {
        let back = |node: &Node| node.metric("fanfare_backplane_reconnects_total", &[]) >= 1.0;
        scene.nodes.iter().all(back).then_some(())
    });
    (killed, promoted)
}

#[test]
#[ignore = "long: cargo xtask test faults"]
fn sentinel_promotes_the_replica() {
    let _machine = alone();
    let Watched { url, master, replica, sentinel: _sentinel, folder: _folder } = watched();
    let nodes: Vec<Node> = (0..2).map(|_| Node::start(&url, &[])).collect();
    let mut scene = Scene::unpeopled(nodes, master);
    scene.people();
    scene.until_steady();
    let clients = scene.crowd.listeners.len() as u64;
    let (killed, promoted) = fail_over(&mut scene, replica);
    let healed = scene.hears_again(promoted);
    let publish = (0..2).map(|node| scene.publishes_again(promoted, node)).max().unwrap();
    let rosters = scene.rosters_right(promoted);
    let verdict = Verdict::of(&mut scene, nobody);
    let row = Row::of("14", "The master is killed, Sentinel promotes its replica (`down-after` 1 s)").healed(healed);
    let row = row.note(format!("promoted {} after the kill", seconds(promoted - killed)));
    let row = row.note(format!("publishing again {} after that", seconds(publish)));
    row.note(format!("rosters right after {}", seconds(rosters))).print(&verdict);
    verdict.assert_invariants(&mut scene);
    assert_eq!((verdict.closed, verdict.gaps), (0, clients), "one gap for each client");
    assert!(healed < Duration::from_secs(3), "{healed:?}");
}
