//! A herd: clients whose nodes are gone come back all at once, to whoever is left. They get in, and those who are in already
//! hardly notice.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use crate::support::crowd::{Crowd, Door, Guest, Returns};
use crate::support::http::{self, APPLICATION};
use crate::support::node::PREFIX;
use crate::support::prelude::*;
use crate::support::redis::{Link, Reply};
use crate::support::resident::{self, mib};
use crate::support::wait::until_within;

const STEADY: &str = "steady";
/// A channel for so many clients, so that most subscriptions are a node's first.
const CLIENTS_A_CHANNEL: usize = 3;
/// Of the first clients, so many are in each presence channel.
const MEMBERS: usize = 75;
const ROOMS: usize = 10;

fn guest(door: &Door, place: usize) -> Guest {
    let guest = Guest::at(door, &[&format!("news-{}", place / CLIENTS_A_CHANNEL)]).returning(Returns::AtOnce);
    let room = format!("presence-{}", place % ROOMS);
    let user = (place < MEMBERS * ROOMS).then(|| format!("user{place}"));
    Guest { room, user, ..guest }
}

/// Without a load: who is in, and how often somebody came, is what counts.
fn crowd(guests: impl IntoIterator<Item = Guest>) -> Crowd {
    let mut crowd = Crowd::new(Vec::new().into());
    guests.into_iter().for_each(|guest| crowd.admit(guest));
    crowd
}

/// A load that goes on: numbered events on one channel, and a client that hears them.
struct Bystander {
    ended: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    publisher: thread::JoinHandle<()>,
    listener: thread::JoinHandle<Vec<Duration>>,
}

impl Bystander {
    fn begin(node: &Node, redis: &Redis) -> Self {
        let mut client = Client::on(node, STEADY);
        let (ended, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let begun = Instant::now();
        let times = Arc::new(Mutex::new(Vec::new()));
        let (mut link, topic) = (Link::open(redis.port).unwrap(), format!("{PREFIX}{STEADY}"));
        let publisher = {
            let (ended, sent, times) = (ended.clone(), sent.clone(), times.clone());
            thread::spawn(move || {
                for number in 0.. {
                    let last = ended.load(SeqCst);
                    times.lock().unwrap().push(begun.elapsed());
                    let payload = json!({ "event": if last { "last" } else { "e" }, "data": number, "socket": null });
                    assert_eq!(link.ask(&["PUBLISH", &topic, &payload.to_string()]), Reply::Number(1));
                    sent.store(number + 1, SeqCst);
                    if last {
                        return;
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            })
        };
        let listener = thread::spawn(move || {
            let mut waits = Vec::new();
            loop {
                let next = client.next();
                // Each in its turn: none is lost, none comes twice.
                assert_eq!(next.data(), json!(waits.len()), "{}", next.event);
                waits.push(begun.elapsed() - times.lock().unwrap()[waits.len()]);
                if next.event == "last" {
                    return waits;
                }
            }
        });
        Self { ended, sent, publisher, listener }
    }

    fn sent(&self) -> usize {
        self.sent.load(SeqCst) as usize
    }

    /// How long each event took, in the order in which they were sent.
    fn end(self) -> Vec<Duration> {
        self.ended.store(true, SeqCst);
        self.publisher.join().expect("all were published");
        self.listener.join().expect("all were heard")
    }
}

fn told(what: &str, waits: &[Duration]) {
    let mut waits: Vec<_> = waits.iter().map(|wait| wait.as_secs_f64() * 1e3).collect();
    waits.sort_by(f64::total_cmp);
    let at = |share: f64| waits.get((waits.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    let (half, most, last) = (at(0.5), at(0.99), waits.last().copied().unwrap_or(0.0));
    println!("bystander {what}: {} events, p50 {half:.1} ms, p99 {most:.1} ms, max {last:.1} ms", waits.len());
}

/// How often Redis was called, by command.
fn calls(redis: &Redis, command: &str) -> u64 {
    let Reply::Text(stats) = redis.ask(&["INFO", "commandstats"]) else { panic!("no statistics") };
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// Two of three nodes are killed, and all their clients come to the third.
fn stampede(clients: usize, limit: Duration, settings: &[(&str, &str)]) {
    let mut cluster = Cluster::with(3, settings);
    let [a, b, c] = [0, 1, 2].map(|place| cluster.nodes[place].address);
    let door = Door::to(&[a, b]);
    let crowd = crowd((0..clients).map(|place| guest(&door, place)));
    until_within(limit, "all are on two nodes", || crowd.all_inside().then_some(()));
    let bystander = Bystander::begin(&cluster.nodes[2], &cluster.redis);
    until("the load runs", || (bystander.sent() > 100).then_some(()));
    let process = cluster.nodes[2].id();
    let before = resident::of(process);
    let asked = ["subscribe", "evalsha", "publish"].map(|command| (command, calls(&cluster.redis, command)));
    let (heard, (came, failed), begun) = (bystander.sent(), crowd.tries(), Instant::now());
    door.aim(&[c]);
    cluster.nodes[0].kill();
    cluster.nodes[1].kill();
    until_within(limit, "all are on the third", || {
        // One that was cut off after it got in has come once more.
        (crowd.tries().0 >= came + clients && crowd.all_inside()).then_some(())
    });
    let took = begun.elapsed().as_secs_f64();
    let storm = heard..bystander.sent();
    let peak = resident::of(process).peak;
    assert_eq!(crowd.inside().count(), clients);
    let channels = clients.div_ceil(CLIENTS_A_CHANNEL) + ROOMS.min(clients);
    println!(
        "{clients} clients and {channels} channels in {took:.2} s: {:.0} connections a second",
        clients as f64 / took
    );
    let refused = cluster.nodes[2].metric("fanfare_connections_rejected_total", &[]);
    println!("tries that failed: {}, {refused} of them refused by the node", crowd.tries().1 - failed);
    for (command, before) in asked {
        let now = calls(&cluster.redis, command) - before;
        println!("{now} {command} commands");
        // Those of a wake are one command; a channel is never asked for twice, and a link of its own is the probe's.
        assert!(command != "subscribe" || now <= channels as u64 + 1, "{now} for {channels} channels");
    }
    for room in 0..ROOMS {
        let call = format!("channels/presence-{room}/users");
        let users = APPLICATION.get(c, &call, &[]).body;
        let users: Value = serde_json::from_str(&users).expect("a list of users");
        assert_eq!(users["users"].as_array().map(Vec::len), Some(MEMBERS.min(clients / ROOMS)), "{call}");
    }
    // A killed node's own connections may not all be counted off yet; what is here is all of them and the bystander.
    assert_eq!(cluster.nodes[2].metric("fanfare_connections", &[]), clients as f64 + 1.0);
    let waits = bystander.end();
    told("before", &waits[..storm.start]);
    told("in the storm", &waits[storm]);
    drop(crowd);
    until_within(limit, "the clients are gone", || {
        (cluster.nodes[2].metric("fanfare_connections", &[]) == 0.0).then_some(())
    });
    let after = resident::of(process).now;
    println!("resident: {:.1} MiB before, {:.1} at most, {:.1} after", mib(before.now), mib(peak), mib(after));
    cluster.nodes[2].assert_well();
    assert_eq!(cluster.redis.ask(&["PING"]), Reply::Text("PONG".into()));
}

#[test]
fn the_clients_of_two_killed_nodes_get_in_at_the_third_and_a_bystander_misses_nothing() {
    stampede(1_500, Duration::from_secs(60), &[]);
}

/// As many as the file limit of this process (20,000 where it was written) lets it have.
#[test]
#[ignore = "long: a minute or two, and most of the machine"]
fn eighteen_thousand_clients_of_two_killed_nodes_get_in_at_the_third() {
    // One thread plays them all: it takes longer than a client does to say what it wants.
    stampede(18_000, Duration::from_secs(180), &[]);
}

#[test]
fn a_crowd_waits_its_turn_and_nobody_is_refused_or_held_up_by_it() {
    const RATE: usize = 50;
    let rate = RATE.to_string();
    let settings = [("FANFARE_LIMITS__ACCEPTS_PER_SECOND", &*rate), ("FANFARE_LIMITS__HANDSHAKES", "20")];
    let mut node = Node::start("", &settings);
    let mut inside = Client::on(&node, "news");
    let clients = RATE * 3;
    let begun = Instant::now();
    let door = Door::to(&[node.address]);
    let crowd = crowd((0..clients).map(|place| Guest { user: None, ..guest(&door, place) }));
    let mut pings = 0;
    until("all are in", || {
        assert!(inside.ping().is_empty());
        pings += 1;
        let (came, took) = (crowd.tries().0, begun.elapsed().as_secs_f64());
        // The handful that is taken at once, and one that is on its way.
        let most = took * RATE as f64 + 2.0;
        assert!(came as f64 <= most, "{came} came within {took} s");
        (came == clients).then_some(())
    });
    assert_eq!(crowd.tries(), (clients, 0));
    assert_eq!(node.metric("fanfare_connections_rejected_total", &[]), 0.0);
    println!("{clients} clients at {RATE} a second in {:?}; {pings} pings meanwhile", begun.elapsed());
    // A crowd that still waits does not delay the end.
    drop(crowd);
    let waiting: Vec<_> = (0..RATE * 10).filter_map(|_| TcpStream::connect(node.address).ok()).collect();
    assert_eq!(http::get(node.admin, "/ready").status, 200);
    let asked = Instant::now();
    node.signal("TERM");
    assert_eq!(node.end().code(), Some(0));
    println!("ended {:?} after it was asked to, with {} in the queue", asked.elapsed(), waiting.len());
    assert!(asked.elapsed() < Duration::from_secs(8), "the queue alone takes ten seconds");
}
