//! Clients do what breaks servers.

use std::net::{Ipv4Addr, SocketAddr};

use super::prelude::*;
use crate::support::client::Client;
use crate::support::crowd::{Door, Guest, ROOM, Returns};
use crate::support::node::PREFIX;
use crate::support::redis::Link;
use crate::support::relay::Relay;
use crate::support::resident;
use crate::support::websocket::{Frame, Socket};

#[test]
fn a_client_that_never_reads() {
    let mut scene = Scene::of(2);
    let mut deaf = Client::on(&scene.nodes[1], "ballast");
    let mut link = Link::open(scene.redis.port).unwrap();
    let (topic, body) = (format!("{PREFIX}ballast"), "x".repeat(10_000));
    for number in 0..2_500 {
        let event = format!(r#"{{"event":"ballast {number}","data":"{body}"}}"#);
        assert!(link.ask(&["PUBLISH", &topic, &event]).number() <= 1);
    }
    let published = Instant::now();
    let closed = || scene.nodes[1].metric("fanfare_connections_closed_total", &[("reason", "slow_consumer")]);
    until("it is closed as slow", || (closed() == 1.0).then_some(()));
    let closed = published.elapsed();
    let heard = ballast_heard(&mut deaf.socket);
    assert!(heard.iter().enumerate().all(|(at, number)| at == *number), "a hole that it was not told of: {heard:?}");
    assert!(heard.len() < 2_500, "it heard everything");
    let verdict = Verdict::of(&mut scene, nobody);
    let row = Row::of("17", "A client does not read while 25 MB are published for it");
    let row = row.note(format!("closed as slow at the latest {} after the last of them", seconds(closed)));
    row.note(format!("it had the first {} of 2,500 events, without a hole", heard.len())).print(&verdict);
    verdict.assert_invariants(&mut scene);
    verdict.assert_nothing_lost();
    assert_eq!(verdict.closed, 0, "of the others");
}

/// The numbers of what a socket still brings.
fn ballast_heard(socket: &mut Socket) -> Vec<usize> {
    let mut heard = Vec::new();
    loop {
        match socket.next() {
            Frame::Text(text) if text.contains("ballast ") => {
                let number = text.split("ballast ").nth(1).and_then(|rest| rest.split('"').next());
                heard.push(number.unwrap().parse().unwrap());
            }
            Frame::Text(_) => {}
            _ => return heard,
        }
    }
}

#[test]
fn users_who_come_and_go_on_two_nodes_at_once() {
    let mut scene = Scene::of(2);
    thread::scope(|scope| {
        for socket in 0..12 {
            let node = &scene.nodes[socket % 2];
            scope.spawn(move || {
                for round in 0..12 {
                    let mut client = Client::present(node, ROOM, &format!("restless {}", socket % 6));
                    // By a word, or by the end of the line.
                    if (socket + round) % 2 == 0 {
                        client.unsubscribe(ROOM);
                        client.ping();
                    }
                }
            });
        }
    });
    let rosters = scene.rosters_right(Instant::now());
    let verdict = Verdict::of(&mut scene, |_, user| match user.starts_with("restless") {
        true => (24, 24),
        false => (0, 0),
    });
    let row = Row::of("18", "6 users come and go 144 times by 12 sockets on two nodes at once");
    row.note(format!("rosters right {} after the last", seconds(rosters))).print(&verdict);
    verdict.assert_invariants(&mut scene);
    verdict.assert_nothing_lost();
    for listener in scene.crowd.members() {
        let story = listener.story();
        let uneven: Vec<_> = (0..6).map(|user| story.count(&format!("restless {user}"))).collect();
        assert!(uneven.iter().all(|(came, went)| came == went), "who came went: {uneven:?}");
    }
}

/// Clients on each of the two nodes.
const EACH: usize = 1_000;

#[test]
#[ignore = "long: cargo xtask test faults"]
fn a_load_balancer_that_resets_everybody() {
    let _machine = alone();
    let mut scene = Scene::in_company(2, &[]);
    let balancers: Vec<Relay> = scene.nodes.iter().map(|node| Relay::start(node.address.port())).collect();
    let regulars = scene.crowd.listeners.len();
    for balancer in &balancers {
        let door = Door::to(&[SocketAddr::from((Ipv4Addr::LOCALHOST, balancer.port))]);
        let guest = Guest::at(&door, &["lobby"]).returning(Returns::LikePusher);
        (0..EACH).for_each(|_| scene.crowd.admit(guest.clone()));
    }
    until_within(Duration::from_secs(60), "all are in", || scene.crowd.all_inside().then_some(()));
    let resident = |scene: &Scene| scene.nodes.iter().map(|node| resident::of(node.id())).collect::<Vec<_>>();
    let before: u64 = resident(&scene).iter().map(|resident| resident.now).sum();
    balancers.iter().for_each(Relay::reset);
    let reset = Instant::now();
    until_within(Duration::from_secs(60), "all are back", || {
        let returned = scene.crowd.listeners[regulars..].iter();
        returned.clone().all(|it| it.story().stays == 2).then_some(())?;
        scene.crowd.all_inside().then_some(())
    });
    let back = reset.elapsed();
    let peak: u64 = resident(&scene).iter().map(|resident| resident.peak).sum();
    let verdict = Verdict::of(&mut scene, nobody);
    let row = Row::of("19", "A load balancer resets 2,000 clients at once (each comes back after 1 s)").healed(back);
    let growth = peak as f64 / before as f64;
    row.note(format!("memory of the nodes × {growth:.2} at most")).print(&verdict);
    verdict.assert_invariants(&mut scene);
    verdict.assert_nothing_lost();
    assert_eq!(verdict.closed, 2 * EACH);
}
