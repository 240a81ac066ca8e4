//! Half an hour of everything: thousands of clients over three nodes, of which two are killed or told to stop again and
//! again, under a load that never stops. The third has all its clients reset now and then; it runs from first to last,
//! and its memory is what is looked at.

use std::net::{Ipv4Addr, SocketAddr};

use super::prelude::*;
use crate::support::crowd::{Door, Guest, Returns};
use crate::support::load::{KEPT, NEWS, ORDERS, Source};
use crate::support::node::Node;
use crate::support::redis::Redis;
use crate::support::relay::Relay;
use crate::support::resident;

const MINUTES: &str = "FANFARE_SOAK_MINUTES";
const CLIENTS: usize = 5_000;
const SETTINGS: [(&str, &str); 4] = [
    ("FANFARE_DRAIN__GRACE", "1"),
    ("FANFARE_DRAIN__SECONDS", "5"),
    ("FANFARE_DRAIN__LEAVE_LINGER", "3"),
    ("FANFARE_APPS__MAIN__HISTORY", "kept 2000 300"),
];
/// Between two events of a source.
const PAUSE: Duration = Duration::from_millis(200);
/// Channels without a load.
const LOBBIES: [&str; 8] = ["lobby-0", "lobby-1", "lobby-2", "lobby-3", "lobby-4", "lobby-5", "lobby-6", "lobby-7"];
/// How long all may take to be back.
const BACK: Duration = Duration::from_secs(60);
/// Between two faults.
const CALM: Duration = Duration::from_secs(5);

/// What was done, and what the first node's memory was in each calm.
#[derive(Default)]
struct Diary {
    kills: usize,
    stops: usize,
    resets: usize,
    /// Minutes since the start, and bytes.
    memory: Vec<(f64, f64)>,
    slowest_return: Duration,
}

struct Soak {
    scene: Scene,
    /// Where clients of the nodes that end come back to.
    door: Door,
    balancer: Relay,
    begun: Instant,
    diary: Diary,
}

impl Soak {
    fn begin() -> Self {
        let redis = Redis::start();
        let nodes: Vec<Node> = (0..3).map(|_| Node::start(&redis.url(), &SETTINGS)).collect();
        let balancer = Relay::start(nodes[0].address.port());
        let door = Door::to(&[nodes[1].address, nodes[2].address]);
        let mut scene = Scene::loaded(nodes, redis, |doors, master| {
            let news = doors.iter().map(|door| Source::by_api(door, NEWS, PAUSE));
            // What is kept is published by a node that ends now and then.
            let kept = Source::by_api(&doors[1], KEPT, PAUSE);
            news.chain([kept, Source::past_nodes(master, ORDERS, PAUSE)]).collect()
        });
        let first = Door::to(&[SocketAddr::from((Ipv4Addr::LOCALHOST, balancer.port))]);
        for number in 0..CLIENTS {
            scene.crowd.admit(guest(if number % 3 == 0 { &first } else { &door }, number));
        }
        scene.begin();
        Self { scene, door, balancer, begun: Instant::now(), diary: Diary::default() }
    }

    /// One fault, and all is well again.
    fn round(&mut self, number: usize) {
        let since = Instant::now();
        match number % 3 {
            0 => {
                self.balancer.reset();
                self.diary.resets += 1;
            }
            kind => self.replace(1 + number / 3 % 2, kind == 1),
        }
        until_within(BACK, "everybody is back", || self.scene.crowd.all_inside().then_some(()));
        self.diary.slowest_return = self.diary.slowest_return.max(since.elapsed());
        thread::sleep(CALM);
        let memory = resident::of(self.scene.nodes[0].id()).now;
        self.diary.memory.push((self.begun.elapsed().as_secs_f64() / 60.0, memory as f64));
    }

    /// A node ends, in one way or the other, and another takes its place a little later.
    fn replace(&mut self, index: usize, is_killed: bool) {
        let stays = self.scene.nodes[3 - index].address;
        if !is_killed {
            // As a load balancer that sees `/ready` does.
            self.aim(index, &[stays]);
            self.scene.nodes[index].signal("TERM");
            assert_eq!(self.scene.nodes[index].end().code(), Some(0));
            self.diary.stops += 1;
        } else {
            self.scene.nodes[index].kill();
            self.aim(index, &[stays]);
            self.diary.kills += 1;
        }
        let node = Node::start(&self.scene.redis.url(), &SETTINGS);
        self.aim(index, &[stays, node.address]);
        self.scene.nodes[index] = node;
    }

    fn aim(&self, index: usize, to: &[SocketAddr]) {
        self.door.aim(to);
        self.scene.doors[index].aim(to);
    }
}

/// 40 users with two sockets each, 1,000 who hear the load, and the many who hear little. A third hears what is kept too,
/// and comes back with its position; of them some are on each node.
fn guest(door: &Door, number: usize) -> Guest {
    let mut channels = match number {
        0..500 => vec![NEWS, ORDERS],
        500..1_000 => vec![ORDERS],
        _ => vec![LOBBIES[number % LOBBIES.len()]],
    };
    let resumes = (number / 3).is_multiple_of(3);
    channels.extend(resumes.then_some(KEPT));
    let returns = if resumes { Returns::Resuming } else { Returns::LikePusher };
    let user = (number < 80).then(|| format!("user {}", number / 2));
    Guest { user, ..Guest::at(door, &channels).returning(returns) }
}

/// Bytes a minute, by least squares.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let n = samples.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let both: f64 = samples.iter().map(|sample| (sample.0 - x) * (sample.1 - y)).sum();
    both / samples.iter().map(|sample| (sample.0 - x).powi(2)).sum::<f64>()
}

#[test]
#[ignore = "half an hour: cargo xtask test soak"]
fn thousands_of_clients_outlive_their_nodes() {
    let _machine = alone();
    let minutes: f64 = std::env::var(MINUTES).map_or(30.0, |text| text.parse().expect("minutes"));
    let mut soak = Soak::begin();
    let mut rounds = 0;
    while soak.begun.elapsed() < Duration::from_secs_f64(minutes * 60.0) || rounds < 6 {
        soak.round(rounds);
        rounds += 1;
    }
    let rosters = soak.scene.rosters_right(Instant::now());
    let minutes = soak.begun.elapsed().as_secs_f64() / 60.0;
    let Soak { mut scene, diary, .. } = soak;
    let verdict = Verdict::of(&mut scene, |_, _| (usize::MAX, usize::MAX));
    let heard: u64 = scene.crowd.listeners.iter().map(|listener| listener.story().events).sum();
    // What is allocated once, at the first storm of clients, is no leak.
    let late = &diary.memory[diary.memory.len() / 3..];
    let (slope, last) = (slope(late), late[late.len() - 1].1);
    let cells = [
        format!("{minutes:.1}"),
        format!("{} killed, {} stopped, {} resets", diary.kills, diary.stops, diary.resets),
        verdict.closed.to_string(),
        verdict.cells(),
        seconds(diary.slowest_return),
        format!("{:.1} MB, {:+.2} MB an hour", last / 1e6, slope * 60.0 / 1e6),
        format!(
            "{heard} events heard; {} came back with their position, {} of them told of a loss; rosters right after {}",
            verdict.recovered + verdict.unrecovered,
            verdict.unrecovered,
            seconds(rosters)
        ),
    ];
    println!("soak row: {}", cells.join(" | "));
    diary.memory.iter().for_each(|(minute, bytes)| println!("minute {minute:.1}: {:.2} MB", bytes / 1e6));
    verdict.assert_invariants(&mut scene);
    verdict.assert_nothing_lost();
    assert!(verdict.recovered > 0 && verdict.unrecovered == 0, "{verdict:?}");
    let half = late.len() / 2;
    let mean = |samples: &[(f64, f64)]| samples.iter().map(|sample| sample.1).sum::<f64>() / samples.len() as f64;
    let growth = mean(&late[half..]) / mean(&late[..half]);
    assert!(growth < 1.2, "its memory grows: × {growth:.2}");
}
