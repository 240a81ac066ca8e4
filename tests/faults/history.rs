//! The same faults where a channel keeps what is published on it over the HTTP API. Whoever stays is told late what it
//! missed, and whoever comes back with its position too; where something is not there any more, they are told so.

use std::collections::HashMap;

use serde_json::Value;

use super::prelude::*;
use super::redis::outage;
use super::sentinel::{Watched, fail_over, watched};
use crate::support::crowd::{Door, Guest, Listener, Returns};
use crate::support::heard::Story;
use crate::support::http::APPLICATION;
use crate::support::load::{KEPT, Source};
use crate::support::node::Node;
use crate::support::redis::Redis;

/// More than is published in any of these.
const PLENTY: &str = "kept 10000 300";
const LITTLE: &str = "kept 500 300";
/// Between two events of a source.
const PAUSE: Duration = Duration::from_millis(3);
/// Of each sort on each node.
const EACH: usize = 2;

/// On each node stock clients that stay, stock ones that come back, and ones that come back with their position.
struct Kept {
    scene: Scene,
    /// Where the clients of each node come back to.
    homes: Vec<Door>,
}

fn rule(rule: &str) -> [(&'static str, &str); 1] {
    [("FANFARE_APPS__MAIN__HISTORY", rule)]
}

impl Kept {
    fn of(nodes: usize, keeps: &str) -> Self {
        let redis = Redis::start();
        let (nodes, relays) = Scene::behind_relays(&redis, nodes, &rule(keeps));
        let mut kept = Self::on(nodes, redis);
        kept.scene.relays = relays;
        kept
    }

    fn on(nodes: Vec<Node>, redis: Redis) -> Self {
        let homes: Vec<Door> = nodes.iter().map(|node| Door::to(&[node.address])).collect();
        let mut scene = Scene::loaded(nodes, redis, |doors, _| {
            doors.iter().map(|door| Source::by_api(door, KEPT, PAUSE)).collect()
        });
        for home in &homes {
            for returns in [Returns::Never, Returns::LikePusher, Returns::Resuming] {
                (0..EACH).for_each(|_| scene.crowd.admit(Guest::at(home, &[KEPT]).returning(returns)));
            }
        }
        scene.crowd.listeners.iter().for_each(|listener| listener.story().order = Some(Vec::new()));
        scene.begin();
        Self { scene, homes }
    }

    fn resuming(&self) -> impl Iterator<Item = &Listener> {
        self.scene.crowd.listeners.iter().filter(|listener| listener.guest.returns == Returns::Resuming)
    }

    fn all_resuming(&self) -> u64 {
        self.resuming().count() as u64
    }

    /// The lines of all who come back break, and nobody lets them in until their homes are open again.
    fn send_away(&self) {
        self.homes.iter().for_each(|home| home.aim(&[]));
        self.scene.crowd.returning().for_each(Listener::hang_up);
        until("they are away", || self.scene.crowd.returning().all(|it| !it.story().inside).then_some(()));
    }

    fn open_homes(&self) {
        self.homes.iter().zip(&self.scene.nodes).for_each(|(home, node)| home.aim(&[node.address]));
    }

    /// Waits until everybody who comes back is back, and has heard something new.
    fn all_back(&self) {
        until("they are back", || self.scene.crowd.returning().all(|it| it.story().inside).then_some(()));
        self.scene.hears_again(Instant::now());
    }

    /// How many comebacks were told all so far, and how many that something is lost.
    fn comebacks(&self) -> (u64, u64) {
        let of = |story: &Story| (story.recovered, story.unrecovered);
        let told = self.resuming().map(|listener| of(&listener.story()));
        told.fold((0, 0), |sum, told| (sum.0 + told.0, sum.1 + told.1))
    }

    /// All clients heard what is still kept in the order in which it is kept.
    fn assert_order(&self) {
        let kept = self.kept();
        let places: HashMap<(usize, u64), usize> = kept.iter().enumerate().map(|(at, event)| (*event, at)).collect();
        assert!(
            kept.len() > 50 && places.len() == kept.len(),
            "{} events, {} of them different",
            kept.len(),
            places.len()
        );
        for listener in &self.scene.crowd.listeners {
            let heard = listener.story().order.clone().expect("kept from the beginning");
            let heard: Vec<usize> = heard.iter().filter_map(|event| places.get(event).copied()).collect();
            let wrong = heard.windows(2).find(|two| two[0] >= two[1]);
            assert_eq!(wrong, None, "heard the other way round, of {} events kept", kept.len());
        }
    }

    /// What the application reads of the channel, the oldest first: source and number.
    fn kept(&self) -> Vec<(usize, u64)> {
        let (node, mut events, mut next) = (self.scene.nodes[0].address, Vec::new(), String::new());
        loop {
            let mut parameters = vec![("limit", "1000")];
            parameters.extend((!next.is_empty()).then_some(("before", &*next)));
            let answer = APPLICATION.get(node, &format!("channels/{KEPT}/history"), &parameters);
            let page: Value = serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
            for event in page["events"].as_array().expect("events") {
                let data: Value = serde_json::from_str(event["data"].as_str().expect("text")).expect("JSON");
                events.push((data["from"].as_u64().expect("a source") as usize, data["n"].as_u64().expect("a number")));
            }
            match page["next"].as_str() {
                Some(more) => next = more.to_owned(),
                None => break,
            }
        }
        events.reverse();
        events
    }

    /// Events that nodes told late.
    fn repaired(&self) -> f64 {
        self.scene.nodes.iter().map(|node| node.metric("fanfare_history_repaired_total", &[])).sum()
    }
}

#[test]
fn a_link_that_is_reset() {
    let _machine = together();
    let mut kept = Kept::of(2, PLENTY);
    let mut healed = Vec::new();
    for _ in 0..3 {
        kept.scene.relays[1].reset();
        healed.push(kept.scene.hears_again(Instant::now()));
        kept.scene.load.run(20);
    }
    let lost = kept.scene.nodes[1].metric("fanfare_backplane_reconnects_total", &[]);
    assert_eq!(lost, 3.0, "the relay cut nothing");
    let repaired = kept.repaired();
    let verdict = Verdict::of(&mut kept.scene, nobody);
    let row = Row::of("H1", "All connections of one node to Redis are reset, three times");
    let row = row.healed(*healed.iter().max().unwrap());
    row.note(format!("{repaired} events told late")).print_of_history(&verdict);
    verdict.assert_invariants(&mut kept.scene);
    kept.assert_order();
    verdict.assert_nothing_lost();
    assert_eq!((verdict.closed, verdict.unrecovered), (0, 0));
}

#[test]
fn a_node_without_a_way_to_redis() {
    let _machine = together();
    let mut kept = Kept::of(2, PLENTY);
    let before = kept.scene.load.sources[0].next();
    let cut = cut_off(&kept.scene, Duration::from_secs(4));
    let meanwhile = kept.scene.load.sources[0].taken(before, kept.scene.load.sources[0].next());
    kept.scene.relays[1].way(Way::Open);
    let open = Instant::now();
    let healed = kept.scene.hears_again(open);
    let repaired = kept.repaired();
    let verdict = Verdict::of(&mut kept.scene, nobody);
    let row = Row::of("H2", "One node has no way to Redis for 4 s (connections are reset, and refused)").healed(healed);
    let row = row.note(format!("noticed after {}", seconds(cut)));
    row.note(format!("{repaired} events told late, {meanwhile} published meanwhile")).print_of_history(&verdict);
    verdict.assert_invariants(&mut kept.scene);
    kept.assert_order();
    verdict.assert_nothing_lost();
    assert_eq!((verdict.closed, verdict.unrecovered), (0, 0));
    assert!(meanwhile > 50 && repaired >= meanwhile as f64 * 0.9, "{repaired} of {meanwhile}");
}

/// The second node's connections are reset, and new ones refused, for so long. After how long it noticed.
fn cut_off(scene: &Scene, long: Duration) -> Duration {
    scene.relays[1].way(Way::Refused);
    scene.relays[1].reset();
    let cut = Instant::now();
    let noticed = scene.notices(1, cut);
    thread::sleep(long.saturating_sub(cut.elapsed()));
    noticed
}

#[test]
fn links_that_are_dead_and_do_not_say_so() {
    let _machine = alone();
    let mut kept = Kept::of(2, PLENTY);
    kept.scene.relays[1].deaden();
    let died = Instant::now();
    let noticed = kept.scene.notices(1, died);
    kept.scene.is_linked(1, Duration::from_secs(8), died);
    let healed = kept.scene.hears_again(died);
    let repaired = kept.repaired();
    let verdict = Verdict::of(&mut kept.scene, nobody);
    let row = Row::of("H3", "One node's connections to Redis are dead for ever, new ones work (half-open)");
    let row = row.healed(healed).note(format!("noticed after {}", seconds(noticed)));
    row.note(format!("{repaired} events told late")).print_of_history(&verdict);
    verdict.assert_invariants(&mut kept.scene);
    kept.assert_order();
    verdict.assert_nothing_lost();
    assert_eq!((verdict.closed, verdict.unrecovered), (0, 0));
    assert!(repaired > 50.0, "hardly a hole: {repaired}");
}

#[test]
fn a_node_that_is_killed() {
    let _machine = together();
    let mut kept = Kept::of(3, PLENTY);
    kept.scene.kill_last();
    let killed = Instant::now();
    kept.homes[2].aim(&[kept.scene.nodes[0].address, kept.scene.nodes[1].address]);
    let homeless = |kept: &Kept| kept.scene.crowd.inside().count() == 3 * 3 * EACH - 3 * EACH;
    until("its clients are closed", || homeless(&kept).then_some(()));
    kept.all_back();
    let back = killed.elapsed();
    let verdict = Verdict::of(&mut kept.scene, nobody);
    let row = Row::of("H4", "One of three nodes is killed (SIGKILL), its clients come to the others").healed(back);
    row.print_of_history(&verdict);
    verdict.assert_invariants(&mut kept.scene);
    kept.assert_order();
    verdict.assert_nothing_lost();
    assert_eq!((verdict.closed, verdict.recovered, verdict.unrecovered), (3 * EACH, EACH as u64, 0));
}

#[test]
fn a_rolling_restart_under_load() {
    let _machine = alone();
    let mut kept = Kept::of(3, PLENTY);
    let begun = Instant::now();
    for place in 0..3 {
        let fresh = Node::start(&kept.scene.relays[place].url(), &rule(PLENTY));
        let others = [1, 2].map(|step| kept.scene.nodes[(place + step) % 3].address);
        // As a load balancer that looks at `/ready` does.
        kept.scene.doors[place].aim(&others);
        kept.homes[place].aim(&others);
        let mut old = std::mem::replace(&mut kept.scene.nodes[place], fresh);
        old.signal("TERM");
        assert_eq!(old.end().code(), Some(0));
        for door in [&kept.scene.doors[place], &kept.homes[place]] {
            door.aim(&[kept.scene.nodes[place].address]);
        }
        kept.all_back();
        kept.scene.load.run(50);
    }
    let took = begun.elapsed();
    let stays = kept.resuming().map(|listener| listener.story().stays).min();
    let verdict = Verdict::of(&mut kept.scene, nobody);
    let row = Row::of("H5", "Three nodes are replaced one after the other (SIGTERM)");
    row.note(format!("took {}", seconds(took))).print_of_history(&verdict);
    verdict.assert_invariants(&mut kept.scene);
    kept.assert_order();
    verdict.assert_nothing_lost();
    assert!(stays >= Some(2), "one was on no node that went: {stays:?}");
    assert_eq!(verdict.unrecovered, 0);
}

#[test]
fn redis_is_killed_and_started_again_empty() {
    let _machine = together();
    let mut kept = Kept::of(2, PLENTY);
    kept.send_away();
    let back = outage(&mut kept.scene, Duration::from_secs(2));
    kept.open_homes();
    kept.all_back();
    let healed = kept.scene.hears_again(back);
    assert_eq!(kept.comebacks(), (0, kept.all_resuming()), "what was not saved, nobody can know of");
    let gaps: Vec<u64> = kept.scene.crowd.listeners.iter().map(|listener| listener.story().gaps).collect();
    // From here on numbers rise again.
    kept.send_away();
    kept.scene.load.run(20);
    kept.open_homes();
    kept.all_back();
    let verdict = Verdict::of(&mut kept.scene, nobody);
    let row =
        Row::of("H6", "Redis is killed and started again empty after 2 s; who comes back does so before and after");
    row.healed(healed).print_of_history(&verdict);
    verdict.assert_invariants(&mut kept.scene);
    kept.assert_order();
    assert_eq!((verdict.recovered, verdict.unrecovered), (kept.all_resuming(), kept.all_resuming()));
    assert_eq!(verdict.gaps, gaps.iter().sum::<u64>(), "a gap after all was well");
    assert!(gaps.iter().all(|gaps| *gaps <= 1), "{gaps:?}");
}

#[test]
#[ignore = "long: cargo xtask test faults"]
fn more_is_missed_than_is_kept() {
    let _machine = alone();
    let mut kept = Kept::of(2, LITTLE);
    cut_off(&kept.scene, Duration::from_secs(30));
    kept.scene.relays[1].way(Way::Open);
    let open = Instant::now();
    let healed = kept.scene.hears_again(open);
    let repaired = kept.repaired();
    let verdict = Verdict::of(&mut kept.scene, nobody);
    let row = Row::of("H7", "One node has no way to Redis for 30 s, and 500 events are kept").healed(healed);
    row.note(format!("{repaired} events told late")).print_of_history(&verdict);
    verdict.assert_invariants(&mut kept.scene);
    kept.assert_order();
    let cut = |listener: &&Listener| listener.guest.door.pick() == kept.homes[1].pick();
    for listener in kept.scene.crowd.listeners.iter().filter(cut) {
        let story = listener.story();
        let lost = story.holes.iter().map(|hole| kept.scene.load.sources[hole.source].taken(hole.from, hole.to));
        assert!(lost.sum::<u64>() > 0 && story.holes.iter().all(|hole| hole.foretold), "{:?}", story.holes);
        assert_eq!(story.gaps, 1);
    }
    assert_eq!((verdict.closed, verdict.gaps), (0, 3 * EACH as u64), "a gap for each client of that node");
    // The last of the 500 were heard before the store had told the first.
    assert!((450.0..=500.0).contains(&repaired), "what is kept is told: {repaired}");
}

#[test]
fn all_data_are_flushed() {
    let _machine = together();
    let mut kept = Kept::of(2, PLENTY);
    kept.send_away();
    kept.scene.redis.ask(&["FLUSHALL"]);
    kept.open_homes();
    kept.all_back();
    assert_eq!(kept.comebacks(), (0, kept.all_resuming()), "it comes from before");
    kept.send_away();
    kept.scene.load.run(20);
    kept.open_homes();
    kept.all_back();
    let verdict = Verdict::of(&mut kept.scene, nobody);
    let row = Row::of("H8a", "`FLUSHALL`; who comes back does so before and after");
    row.print_of_history(&verdict);
    verdict.assert_invariants(&mut kept.scene);
    kept.assert_order();
    assert_eq!((verdict.recovered, verdict.unrecovered), (kept.all_resuming(), kept.all_resuming()));
    let stayed = kept.scene.crowd.listeners.iter().filter(|it| it.guest.returns == Returns::Never);
    let told = |story: &Story| (story.holes.clone(), story.gaps, story.stays);
    let stayed: Vec<_> = stayed.map(|listener| told(&listener.story())).collect();
    assert!(stayed.iter().all(|told| *told == (vec![], 0, 1)), "{stayed:?}");
}

/// What was said before it that the node did not hear is nowhere any more.
#[test]
fn all_data_are_flushed_while_a_node_has_no_way_to_redis() {
    let _machine = together();
    let mut kept = Kept::of(2, PLENTY);
    cut_off(&kept.scene, Duration::from_secs(1));
    kept.scene.redis.ask(&["FLUSHALL"]);
    let aim = kept.scene.load.sources[0].next() + 50;
    until("more is published", || (kept.scene.load.sources[0].next() >= aim).then_some(()));
    kept.scene.relays[1].way(Way::Open);
    let healed = kept.scene.hears_again(Instant::now());
    let repaired = kept.repaired();
    let verdict = Verdict::of(&mut kept.scene, nobody);
    let row = Row::of("H8b", "`FLUSHALL` while one node has no way to Redis").healed(healed);
    row.note(format!("{repaired} events told late")).print_of_history(&verdict);
    verdict.assert_invariants(&mut kept.scene);
    kept.assert_order();
    assert_eq!((verdict.closed, verdict.gaps), (0, 3 * EACH as u64), "a gap for each client of that node");
}

/// So often in a row.
const ROUNDS: usize = 40;

#[test]
fn links_that_are_reset_while_clients_come_back() {
    let _machine = alone();
    let mut kept = Kept::of(2, PLENTY);
    let both: Vec<_> = kept.scene.nodes.iter().map(|node| node.address).collect();
    kept.homes.iter().for_each(|home| home.aim(&both));
    for round in 0..ROUNDS {
        kept.scene.relays[round % 2].reset();
        let inside = kept.resuming().filter(|listener| listener.story().inside);
        inside.take(1).for_each(Listener::hang_up);
        kept.scene.load.run(10 + round as u64 % 5 * 10);
    }
    let repaired = kept.repaired();
    kept.all_back();
    let verdict = Verdict::of(&mut kept.scene, nobody);
    let row = Row::of(
        "H10",
        "The links of two nodes are reset 40 times in turn, while clients go to the other node and back",
    );
    row.note(format!("{repaired} events told late")).print_of_history(&verdict);
    verdict.assert_invariants(&mut kept.scene);
    kept.assert_order();
    verdict.assert_nothing_lost();
    assert!(verdict.recovered >= 10 && verdict.unrecovered == 0, "{verdict:?}");
}

#[test]
#[ignore = "long: cargo xtask test faults"]
fn sentinel_promotes_the_replica() {
    let _machine = alone();
    let Watched { url, master, replica, sentinel: _sentinel, folder: _folder } = watched();
    let nodes: Vec<Node> = (0..2).map(|_| Node::start(&url, &rule(PLENTY))).collect();
    let mut kept = Kept::on(nodes, master);
    kept.scene.until_steady();
    kept.send_away();
    let (killed, promoted) = fail_over(&mut kept.scene, replica);
    kept.open_homes();
    kept.all_back();
    let healed = kept.scene.hears_again(promoted);
    let verdict = Verdict::of(&mut kept.scene, nobody);
    let row = Row::of("H9", "The master is killed, Sentinel promotes its replica (`down-after` 1 s)").healed(healed);
    row.note(format!("promoted {} after the kill", seconds(promoted - killed))).print_of_history(&verdict);
    verdict.assert_invariants(&mut kept.scene);
    kept.assert_order();
    assert_eq!(verdict.unrecovered + verdict.recovered, kept.all_resuming());
}
