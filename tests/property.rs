//! Random comings and goings over two nodes, against a model: at the end everybody agrees on who is where, and whoever
//! looked on meanwhile, or was told by webhooks, saw each user come once and go once.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::dice::Dice;
use crate::support::endpoint::{Endpoint, hook};
use crate::support::http::APPLICATION;
use crate::support::prelude::*;

const PUBLIC: [&str; 3] = ["news", "cache-price", "private-orders"];
const ROOMS: [&str; 2] = ["presence-a", "presence-b"];
const USERS: [&str; 4] = ["ann", "bob", "cy", "dee"];
const CLIENTS: usize = 12;
const STEPS: usize = 400;

/// A client and what it should be subscribed to; in rooms as whom.
struct Guest {
    client: Client,
    channels: BTreeMap<&'static str, Option<&'static str>>,
}

impl Guest {
    fn new(node: &Node) -> Self {
        Self { client: Client::connect(node), channels: BTreeMap::new() }
    }

    fn act(&mut self, dice: &mut Dice) {
        match dice.roll(6) {
            0 | 1 => {
                let channel = dice.pick(&PUBLIC);
                self.client.ask(channel);
                self.channels.entry(channel).or_insert(None);
            }
            2 | 3 => {
                let (room, user) = (dice.pick(&ROOMS), dice.pick(&USERS));
                self.client.ask_to_enter(room, user);
                // Who is in already stays who he was.
                self.channels.entry(room).or_insert(Some(user));
            }
            _ => {
                let channel = if dice.roll(2) == 0 { dice.pick(&PUBLIC) } else { dice.pick(&ROOMS) };
                self.client.unsubscribe(channel);
                self.channels.remove(channel);
            }
        }
    }
}

/// Subscriptions by channel, and users by room.
#[derive(PartialEq, Debug, Default)]
struct Picture {
    subscriptions: BTreeMap<String, u64>,
    users: BTreeMap<String, BTreeSet<String>>,
}

impl Picture {
    fn of_model(guests: &[Guest]) -> Self {
        let mut picture = Self::default();
        for (channel, user) in guests.iter().flat_map(|guest| &guest.channels) {
            *picture.subscriptions.entry((*channel).to_owned()).or_default() += 1;
            if let Some(user) = user {
                picture.users.entry((*channel).to_owned()).or_default().insert((*user).to_owned());
            }
        }
        picture
    }

    /// As a node answers, without the two that look on.
    fn of_node(node: &Node) -> Self {
        let ask = |call: &str, parameters: &[(&str, &str)]| -> Value {
            let answer = APPLICATION.get(node.address, call, parameters);
            assert_eq!(answer.status, 200, "{}", answer.body);
            serde_json::from_str(&answer.body).expect("JSON")
        };
        let mut picture = Self::default();
        let channels = ask("channels", &[("info", "subscription_count")]);
        for (channel, info) in channels["channels"].as_object().expect("channels") {
            let watchers = if ROOMS.contains(&&**channel) { 2 } else { 0 };
            let n = info["subscription_count"].as_u64().expect("a number") - watchers;
            if n > 0 {
                picture.subscriptions.insert(channel.clone(), n);
            }
        }
        for room in ROOMS {
            let users = ask(&format!("channels/{room}/users"), &[]);
            let users = users["users"].as_array().expect("users").iter();
            let users: BTreeSet<String> =
                users.map(|user| user["id"].as_str().expect("an id").to_owned()).filter(|id| id != "watcher").collect();
            if !users.is_empty() {
                picture.users.insert(room.to_owned(), users);
            }
        }
        picture
    }
}

/// What somebody who looked on all the time was told of a room.
fn seen(watcher: &mut Client) -> BTreeMap<String, BTreeSet<String>> {
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for message in watcher.ping() {
        let user = message.data()["user_id"].as_str().unwrap_or_default().to_owned();
        let room = rooms.entry(message.channel.clone()).or_default();
        match &*message.event {
            "pusher_internal:member_added" => assert!(room.insert(user), "came twice: {:?}", message.raw),
            "pusher_internal:member_removed" => assert!(room.remove(&user), "went twice: {:?}", message.raw),
            _ => panic!("{:?}", message.raw),
        }
    }
    rooms.retain(|_, users| !users.is_empty());
    rooms
}

/// What the webhooks said so far, of channels and of users.
fn told(endpoint: &mut Endpoint) -> (BTreeSet<String>, BTreeMap<String, BTreeSet<String>>) {
    let (mut occupied, mut rooms) = (BTreeSet::new(), BTreeMap::<String, BTreeSet<String>>::new());
    for event in endpoint.events() {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let (channel, user) = (text("channel"), text("user_id"));
        let room = rooms.entry(channel.clone()).or_default();
        let is_news = match event["name"].as_str() {
            Some("channel_occupied") => occupied.insert(channel),
            Some("channel_vacated") => occupied.remove(&channel),
            Some("member_added") => room.insert(user),
            Some("member_removed") => room.remove(&user),
            _ => panic!("{event}"),
        };
        assert!(is_news, "told twice: {event}");
    }
    rooms.retain(|_, users| !users.is_empty());
    (occupied, rooms)
}

fn run(nodes: &[Node], endpoint: &mut Endpoint, seed: u64) {
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let mut watchers: Vec<Client> = nodes.iter().cycle().take(2).map(Client::connect).collect();
    for (room, watcher) in ROOMS.iter().flat_map(|room| (0..2).map(move |watcher| (room, watcher))) {
        watchers[watcher].enter(room, "watcher");
    }
    let mut guests: Vec<Guest> = (0..CLIENTS).map(|number| Guest::new(&nodes[number % nodes.len()])).collect();
    for _ in 0..STEPS {
        let number = dice.roll(CLIENTS);
        if dice.roll(15) == 0 {
            // The old line is cut without a word.
            guests[number] = Guest::new(&nodes[dice.roll(nodes.len())]);
        } else {
            guests[number].act(&mut dice);
        }
        if dice.roll(10) == 0 {
            guests[number].client.ping();
        }
    }
    let expected = Picture::of_model(&guests);
    for node in nodes {
        until(&format!("seed {seed}: {expected:?}; now {:?}", Picture::of_node(node)), || {
            (Picture::of_node(node) == expected).then_some(())
        });
    }
    for watcher in &mut watchers {
        assert_eq!(seen(watcher), expected.users, "seed {seed}");
    }
    let watcher = || BTreeSet::from(["watcher".to_owned()]);
    let mut users: BTreeMap<_, _> = ROOMS.iter().map(|room| ((*room).to_owned(), watcher())).collect();
    for (room, present) in &expected.users {
        users.entry(room.clone()).or_default().extend(present.clone());
    }
    let occupied: BTreeSet<_> = users.keys().chain(expected.subscriptions.keys()).cloned().collect();
    until(&format!("seed {seed}: the webhooks agree on {occupied:?} and {users:?}"), || {
        (told(endpoint) == (occupied.clone(), users.clone())).then_some(())
    });
    drop(guests);
    let gone = Picture::default();
    for node in nodes {
        until("everybody is gone", || (Picture::of_node(node) == gone).then_some(()));
    }
    drop(watchers);
    until("the webhooks say so", || (told(endpoint) == Default::default()).then_some(()));
}

const EVENTS: &str = "channel_occupied,channel_vacated,member_added,member_removed";

#[test]
fn two_nodes_agree_with_a_model_after_random_comings_and_goings() {
    let mut endpoint = Endpoint::start();
    let cluster = Cluster::with(2, &hook(&endpoint.url(), EVENTS));
    for seed in [1, 20_261_121, 0xFAFA_FAFA] {
        run(&cluster.nodes, &mut endpoint, seed);
    }
}

#[test]
fn a_node_alone_agrees_with_a_model_after_random_comings_and_goings() {
    let mut endpoint = Endpoint::start();
    let node = Node::start("", &hook(&endpoint.url(), EVENTS));
    run(&[node], &mut endpoint, 7);
}
