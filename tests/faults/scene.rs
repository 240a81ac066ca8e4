//! A Redis, nodes each behind a relay of its own, clients on all of them, and the numbered load: what faults befall.

use std::collections::BTreeSet;
use std::sync::RwLockReadGuard;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::cluster::together;
use crate::support::crowd::{Crowd, Door, Guest, Listener, MARKER, ROOM};
use crate::support::http::APPLICATION;
use crate::support::load::{Load, NEWS, ORDERS, Source, publishes};
use crate::support::node::Node;
use crate::support::redis::{Redis, Reply};
use crate::support::relay::Relay;
use crate::support::wait::{LIMIT, until, until_within};

/// A user who is on the first and on the last node.
pub(crate) const BOTH: &str = "on both";
const LOOKERS_ON: usize = 3;
/// Between two events of a source.
const PAUSE: Duration = Duration::from_millis(10);
/// A probe goes out each second, and is late after three; that is looked at each second.
const NOTICED: Duration = Duration::from_secs(6);
/// How long an observation that needs no more than an answer may fail to come before it counts as lost.
const LAST: Duration = Duration::from_secs(15);

pub(crate) struct Scene {
    pub(crate) load: Load,
    pub(crate) crowd: Crowd,
    pub(crate) nodes: Vec<Node>,
    /// To each node, for publishers and clients.
    pub(crate) doors: Vec<Door>,
    /// To Redis, for who publishes past the nodes.
    pub(crate) master: Door,
    /// Between each node and Redis.
    pub(crate) relays: Vec<Relay>,
    pub(crate) redis: Redis,
    markers: u64,
    _machine: Option<RwLockReadGuard<'static, ()>>,
}

impl Scene {
    pub(crate) fn of(nodes: usize) -> Self {
        Self::with(nodes, &[])
    }

    pub(crate) fn with(nodes: usize, settings: &[(&str, &str)]) -> Self {
        let machine = Some(together());
        Self { _machine: machine, ..Self::in_company(nodes, settings) }
    }

    /// For who holds [`crate::support::cluster::alone`].
    pub(crate) fn in_company(nodes: usize, settings: &[(&str, &str)]) -> Self {
        let redis = Redis::start();
        let (nodes, relays) = Self::behind_relays(&redis, nodes, settings);
        let mut scene = Self::unpeopled(nodes, redis);
        scene.relays = relays;
        scene.people();
        scene
    }

    /// So many nodes, each with a way to Redis of its own.
    pub(crate) fn behind_relays(redis: &Redis, nodes: usize, settings: &[(&str, &str)]) -> (Vec<Node>, Vec<Relay>) {
        let relays: Vec<Relay> = (0..nodes).map(|_| Relay::start(redis.port)).collect();
        let nodes: Vec<Node> = relays.iter().map(|relay| Node::launch(&relay.url(), settings)).collect();
        nodes.iter().for_each(Node::wait_ready);
        (nodes, relays)
    }

    /// Nodes and a load, and no clients yet.
    pub(crate) fn unpeopled(nodes: Vec<Node>, redis: Redis) -> Self {
        Self::loaded(nodes, redis, |doors, master| {
            let by_api = doors.iter().map(|door| Source::by_api(door, NEWS, PAUSE));
            by_api.chain([Source::past_nodes(master, ORDERS, PAUSE)]).collect()
        })
    }

    /// The same with a load of one's own, by the doors to the nodes and the one to Redis.
    pub(crate) fn loaded(nodes: Vec<Node>, redis: Redis, load: impl FnOnce(&[Door], &Door) -> Vec<Source>) -> Self {
        let doors: Vec<Door> = nodes.iter().map(|node| Door::to(&[node.address])).collect();
        let master = Door::to(&[redis.address()]);
        let load = Load::of(load(&doors, &master));
        let crowd = Crowd::new(load.sources.clone());
        Self { load, crowd, nodes, doors, master, relays: Vec::new(), redis, markers: 0, _machine: None }
    }

    /// On each node two members, the one who is on both, and lookers-on; then the load begins.
    pub(crate) fn people(&mut self) {
        for (index, door) in self.doors.iter().enumerate() {
            let guest = || Guest::at(door, &[NEWS, ORDERS]);
            let both = (index == 0 || index + 1 == self.nodes.len()).then(|| BOTH.to_owned());
            let members = ["ann", "bob"].map(|name| format!("{name} {index}"));
            members.into_iter().chain(both).for_each(|user| self.crowd.admit(guest().present(user)));
            (0..LOOKERS_ON).for_each(|_| self.crowd.admit(guest()));
        }
        self.begin();
    }

    /// Waits until everybody is in and sees everybody, and begins the load.
    pub(crate) fn begin(&mut self) {
        until_within(Duration::from_secs(60), "everybody is in", || self.crowd.all_inside().then_some(()));
        self.mark();
        let present = self.present();
        let sees_all = |listener: &Listener| listener.story().members == present;
        until("everybody sees everybody", || self.crowd.members().all(sees_all).then_some(()));
        self.crowd.forget();
        self.load.begin();
        self.load.run(20);
    }

    /// The users who have a connection.
    pub(crate) fn present(&self) -> BTreeSet<String> {
        self.crowd.members().filter_map(|listener| listener.guest.user.clone()).collect()
    }

    /// How long after `since` everybody who is in had heard an event that the last source published after this call: the one
    /// past the nodes, where there is one.
    pub(crate) fn hears_again(&self, since: Instant) -> Duration {
        let source = self.load.sources.len() - 1;
        let aim = self.load.sources[source].next();
        let deaf = |listener: &Listener| listener.story().last(source) < Some(aim);
        until("events are heard again", || (!self.crowd.inside().any(deaf)).then_some(()));
        since.elapsed()
    }

    /// How long after `since` an event that the node took for publishing was heard by all.
    pub(crate) fn publishes_again(&self, since: Instant, node: usize) -> Duration {
        let (source, start) = (&self.load.sources[node], self.load.sources[node].next());
        let heard = |aim: u64| self.crowd.inside().all(|listener| listener.story().last(node) >= Some(aim));
        until("the node publishes again", || {
            let aim = (start..source.next()).find(|number| source.taken(*number, number + 1) == 1)?;
            heard(aim).then_some(())
        });
        since.elapsed()
    }

    /// A member more, on this node.
    pub(crate) fn joins(&mut self, node: usize, user: &str) {
        self.crowd.admit(Guest::at(&self.doors[node], &[NEWS, ORDERS]).present(user));
    }

    /// The connections of a user end without a word.
    pub(crate) fn leaves(&self, user: &str) {
        let of_user = |listener: &&Listener| listener.guest.user.as_deref() == Some(user);
        self.crowd.listeners.iter().filter(of_user).for_each(Listener::leave);
    }

    /// Waits until a node that stops would be removed: at the start, and after an outage of Redis, nobody is.
    pub(crate) fn until_steady(&self) {
        until("nodes that stop would be removed", || {
            let Reply::Text(from) = self.redis.ask(&["HGET", "ff:{0}:g", "nb"]) else { return None };
            let Reply::Text(now) = self.redis.ask(&["TIME"]).list().swap_remove(0) else { return None };
            (from.parse::<u64>().unwrap() / 1000 < now.parse().unwrap()).then_some(())
        });
    }

    /// The last node is killed, and what was published by it is published by the first.
    pub(crate) fn kill_last(&mut self) {
        let mut node = self.nodes.pop().expect("a node");
        node.kill();
        self.doors[self.nodes.len()].aim(&[self.nodes[0].address]);
    }

    pub(crate) fn is_on(&self, listener: &Listener, node: usize) -> bool {
        listener.guest.door.pick() == self.doors[node].pick()
    }

    /// Waits until the node knows that it has no whole link.
    pub(crate) fn notices(&self, node: usize, since: Instant) -> Duration {
        let down = || (self.nodes[node].metric("fanfare_backplane_up", &[]) == 0.0).then_some(());
        until_within(NOTICED.saturating_sub(since.elapsed()), "the node notices", down);
        since.elapsed()
    }

    /// Waits until the node has a whole link.
    pub(crate) fn is_linked(&self, node: usize, limit: Duration, since: Instant) -> Duration {
        let up = || (self.nodes[node].metric("fanfare_backplane_up", &[]) == 1.0).then_some(());
        until_within(limit.saturating_sub(since.elapsed()), "the node has a link", up);
        since.elapsed()
    }

    /// An event in the room that all members hear: what came before it on that road has come.
    pub(crate) fn mark(&mut self) {
        self.markers += 1;
        let event = json!({ "name": MARKER, "channel": ROOM, "data": self.markers.to_string() }).to_string();
        until("a marker is taken", || publishes(self.nodes[0].address, &event).then_some(()));
        let heard = |listener: &Listener| listener.story().marker >= self.markers;
        until("everybody hears the marker", || self.crowd.members().all(heard).then_some(()));
    }

    /// Ends the load and waits for its last events and for a marker in the room. What does not come is for the verdict.
    pub(crate) fn settle(&mut self) {
        self.load.end();
        let end = Instant::now() + LAST;
        while Instant::now() < end && self.crowd.inside().any(|listener| self.misses_the_last(listener)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.mark();
    }

    fn misses_the_last(&self, listener: &Listener) -> bool {
        let story = listener.story();
        self.load.sources.iter().enumerate().any(|(index, source)| story.tail(index, source.last()).is_some())
    }

    /// Members shown that are not there, or not shown that are: by clients, and by nodes.
    pub(crate) fn ghosts(&self) -> usize {
        let present = self.present();
        let wrong = |shown: BTreeSet<String>| shown.symmetric_difference(&present).count();
        let shown = self.crowd.members().map(|listener| wrong(listener.story().members.clone())).sum::<usize>();
        shown + self.nodes.iter().map(|node| wrong(users(node))).sum::<usize>()
    }

    /// How long after `since` all rosters were right; the limit if they are not.
    pub(crate) fn rosters_right(&self, since: Instant) -> Duration {
        let end = Instant::now() + LIMIT;
        while self.ghosts() > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        since.elapsed()
    }
}

/// The members as a node answers; nobody when it does not.
fn users(node: &Node) -> BTreeSet<String> {
    let answer = APPLICATION.get(node.address, &format!("channels/{ROOM}/users"), &[]);
    let parsed: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let users = parsed["users"].as_array().into_iter().flatten();
    users.filter_map(|user| user["id"].as_str()).map(str::to_owned).collect()
}
