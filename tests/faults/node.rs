//! A node ends, stops for a while, or cannot keep up.

use super::link::{absent, first_leave};
use super::prelude::*;
use crate::support::client::Client;
use crate::support::crowd::{Door, Guest, Returns};
use crate::support::heard::Story;
use crate::support::load::{NEWS, ORDERS};
use crate::support::node::{Node, PREFIX};
use crate::support::redis::{Link, Redis};
use crate::support::resident::{self, mib};
use crate::support::websocket::Frame;

#[test]
fn a_node_that_is_killed() {
    let _machine = alone();
    let mut scene = Scene::in_company(3, &[]);
    scene.until_steady();
    scene.kill_last();
    let killed = Instant::now();
    until("the clients of the dead node are closed", || (scene.crowd.inside().count() == 11).then_some(()));
    let present = scene.present();
    let gone = || scene.crowd.members().all(|it| it.story().members == present).then_some(());
    until_within(Duration::from_secs(5).saturating_sub(killed.elapsed()), "its members are gone", gone);
    let left = killed.elapsed();
    let rosters = scene.rosters_right(killed);
    let expired: f64 = scene.nodes.iter().map(|node| node.metric("fanfare_presence_expired_total", &[])).sum();
    let verdict = Verdict::of(&mut scene, |_, user| (0, usize::from(user.ends_with('2'))));
    let row = Row::of("7", "One of three nodes is killed (SIGKILL)").healed(left);
    row.note(format!("rosters right after {}", seconds(rosters))).print(&verdict);
    verdict.assert_invariants(&mut scene);
    verdict.assert_nothing_lost();
    assert_eq!((verdict.closed, expired), (6, 3.0), "its clients; what it held, whoever is elsewhere too");
}

#[test]
fn a_node_that_is_frozen_for_6_seconds() {
    let _machine = alone();
    frozen("8a", "One of two nodes is frozen (SIGSTOP) for 6 s", Duration::from_secs(6));
}

#[test]
#[ignore = "long: cargo xtask test faults"]
fn a_node_that_is_frozen_for_20_seconds() {
    let _machine = alone();
    frozen("8b", "The same for 20 s", Duration::from_secs(20));
}

fn frozen(number: &'static str, fault: &'static str, long: Duration) {
    let mut scene = Scene::in_company(2, &[]);
    scene.until_steady();
    scene.nodes[1].signal("STOP");
    let stopped = Instant::now();
    let left = until_within(Duration::from_secs(6), "its members leave", || first_leave(&scene, stopped));
    thread::sleep(long.saturating_sub(stopped.elapsed()));
    scene.nodes[1].signal("CONT");
    let awake = Instant::now();
    let healed = scene.hears_again(awake);
    scene.publishes_again(awake, 1);
    let rosters = scene.rosters_right(awake);
    let may = absent(&scene, 1);
    let verdict = Verdict::of(&mut scene, may);
    let row = Row::of(number, fault).healed(healed).note(format!("its members left after {left}"));
    row.note(format!("rosters right {} after the end", seconds(rosters))).print(&verdict);
    verdict.assert_invariants(&mut scene);
    assert_eq!(verdict.closed, 0);
}

#[test]
fn a_node_that_is_told_to_stop() {
    let times = [("FANFARE_DRAIN__GRACE", "1"), ("FANFARE_DRAIN__SECONDS", "2"), ("FANFARE_DRAIN__LEAVE_LINGER", "2")];
    let mut scene = Scene::with(3, &times);
    // Two who come back as pusher-js does, to another node.
    let door = Door::to(&[scene.nodes[2].address]);
    for user in ["dee 2", "eve 2"] {
        scene.crowd.admit(Guest::at(&door, &[NEWS, ORDERS]).present(user).returning(Returns::LikePusher));
    }
    until("they are in", || scene.crowd.all_inside().then_some(()));
    scene.rosters_right(Instant::now());
    scene.mark();
    scene.crowd.forget();
    scene.nodes[2].signal("TERM");
    let told = Instant::now();
    door.aim(&[scene.nodes[0].address]);
    until("it is not ready", || (!scene.nodes[2].is_ready()).then_some(()));
    let unready = told.elapsed();
    scene.doors[2].aim(&[scene.nodes[0].address]);
    let mut node = scene.nodes.pop().unwrap();
    assert_eq!(node.end().code(), Some(0));
    let ended = told.elapsed();
    let rosters = scene.rosters_right(told);
    let returned = scene.crowd.listeners.iter().filter(|it| it.guest.returns == Returns::LikePusher);
    let told = |story: &Story| (story.closes.clone(), story.stays, story.inside);
    let returned: Vec<_> = returned.map(|listener| told(&listener.story())).collect();
    assert_eq!(returned, vec![(vec![4200], 2, true); 2], "closed once, and back");
    let may = |_: &Guest, user: &str| (0, usize::from(["ann 2", "bob 2"].contains(&user)));
    let verdict = Verdict::of(&mut scene, may);
    let row = Row::of("9", "One of three nodes is told to stop (SIGTERM; grace 1 s, closes over 2 s, linger 2 s)");
    let row =
        row.note(format!("`/ready` 503 after {}", seconds(unready))).note(format!("ended after {}", seconds(ended)));
    let row = row.note("who came back elsewhere at once was never seen to leave");
    row.note(format!("rosters right after {}", seconds(rosters))).print(&verdict);
    verdict.assert_invariants(&mut scene);
    verdict.assert_nothing_lost();
    assert_eq!(verdict.closed, 8);
    assert!(ended < Duration::from_secs(1 + 2 + 2 + 5), "{ended:?}");
}

/// Has somebody on this node listen to a channel on which 10 KB come each millisecond for so long; nobody else hears them.
/// Then the way is open again, and what the link held may come at once, too fast for that client.
fn ballast(scene: &Scene, node: usize, long: Duration) -> u64 {
    let mut client = Client::on(&scene.nodes[node], "ballast");
    let (topic, body) = (format!("{PREFIX}ballast"), "x".repeat(10_000));
    thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let heard = || match client.socket.next() {
                Frame::Text(text) => !text.contains("the end"),
                _ => false,
            };
            std::iter::repeat_with(heard).take_while(|goes_on| *goes_on).count()
        });
        let mut link = Link::open(scene.redis.port).unwrap();
        let (begun, mut sent) = (Instant::now(), 0_u64);
        while begun.elapsed() < long {
            link.ask(&["PUBLISH", &topic, &format!(r#"{{"event":"ballast","data":"{body}"}}"#)]);
            sent += 1;
            thread::sleep(Duration::from_millis(1));
        }
        scene.relays[node].way(Way::Open);
        let since = Instant::now();
        scene.is_linked(node, Duration::from_secs(20), since);
        scene.hears_again(since);
        scene.redis.publish(&topic, r#"{"event":"the end"}"#);
        println!("{sent} events of ballast, {} heard", reading.join().unwrap());
        sent
    })
}

#[test]
fn a_node_that_hears_too_slowly() {
    let mut scene = Scene::of(2);
    let before = resident::of(scene.nodes[1].id()).now;
    scene.relays[1].way(Way::Slow { latency: Duration::from_millis(20), bytes_per_second: 400_000 });
    let sent = ballast(&scene, 1, Duration::from_secs(4));
    let peak = resident::of(scene.nodes[1].id()).peak;
    let healed = scene.hears_again(Instant::now());
    let untouched = scene.crowd.inside().filter(|it| scene.is_on(it, 0));
    let told = |story: &Story| (story.holes.len(), story.gaps);
    let untouched: Vec<_> = untouched.map(|listener| told(&listener.story())).collect();
    assert!(untouched.iter().all(|told| *told == (0, 0)), "the other node's clients: {untouched:?}");
    let may = absent(&scene, 1);
    let verdict = Verdict::of(&mut scene, may);
    let row = Row::of("16", "One node gets 0.4 MB/s of the 10 that it is to hear, for 4 s").healed(healed);
    let row = row.note(format!("{} MB published", sent / 100));
    row.note(format!("its memory {:.0} MiB, {:.0} at most", mib(before), mib(peak))).print(&verdict);
    verdict.assert_invariants(&mut scene);
    assert_eq!(verdict.closed, 0);
    assert!(peak - before < 64_000_000, "{before} → {peak}");
}

#[test]
fn a_node_whose_output_buffer_overflows_in_redis() {
    let mut scene = Scene::of(2);
    scene.redis.ask(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 1mb 1"]);
    scene.relays[1].way(Way::Slow { latency: Duration::ZERO, bytes_per_second: 100_000 });
    let sent = ballast(&scene, 1, Duration::from_secs(3));
    let killed = scene.nodes[1].log().iter().filter(|line| line.contains("the connection was closed")).count();
    assert!(killed > 0, "Redis closed nothing: {:#?}", scene.nodes[1].log());
    let healed = scene.hears_again(Instant::now());
    let may = absent(&scene, 1);
    let verdict = Verdict::of(&mut scene, may);
    let row = Row::of("10", "Redis closes a stalled node's link (`client-output-buffer-limit pubsub 1mb 1mb 1`)")
        .healed(healed);
    row.note(format!("{} MB published, closed {killed} times", sent / 100)).print(&verdict);
    verdict.assert_invariants(&mut scene);
    assert!(verdict.gaps >= 6, "a gap for each client of that node: {verdict:?}");
    assert_eq!(verdict.closed, 0);
}

#[test]
fn a_node_whose_log_has_no_room() {
    let redis = Redis::start();
    let full = Node::with_full_log(&redis.url(), &[("FANFARE_LOG__LEVEL", "debug")]);
    let nodes = vec![Node::start(&redis.url(), &[]), full];
    let mut scene = Scene::unpeopled(nodes, redis);
    scene.people();
    // Losing the link is said in the log, and so is each client that comes.
    scene.redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    scene.load.run(50);
    scene.joins(1, "cy 1");
    until("the newcomer is in", || scene.crowd.listeners.last().unwrap().story().inside.then_some(()));
    let rosters = scene.rosters_right(Instant::now());
    let verdict = Verdict::of(&mut scene, |_, user| (usize::from(user == "cy 1"), 0));
    assert_eq!(scene.nodes[1].log(), [""; 0], "it had room");
    let row = Row::of("21", "One node's log cannot be written (`/dev/full`), and it has much to say");
    row.note(format!("rosters right after {}", seconds(rosters))).print(&verdict);
    verdict.assert_invariants(&mut scene);
    assert_eq!((verdict.closed, verdict.gaps), (0, 12));
}
