//! The application of `docs/examples/laravel` as two people see it in Chromium, each on a node of its own.

use std::sync::RwLockReadGuard;

use crate::support::cluster::together;
use crate::support::example::Example;
use crate::support::prelude::*;
use crate::support::visitors::Visitors;

const PEOPLE: &str = "#people span";
const SAID: &str = "#messages p";
const FIELD: &str = "#send input";

struct Town {
    /// The client below Echo.
    front: &'static str,
    nodes: Vec<Node>,
    /// Browsers find nodes here, as behind a load balancer.
    balancer: Relay,
    example: Example,
    visitors: Visitors,
    _redis: Redis,
    _machine: RwLockReadGuard<'static, ()>,
}

impl Town {
    /// The nodes know what the application's own `.env` says, and nothing else of it.
    fn of(front: &'static str) -> Self {
        let machine = together();
        let redis = Redis::start();
        let balancer = Relay::start(0);
        let example = Example::start(&redis, balancer.port, front);
        let nodes = (0..2).map(|_| Node::with_env_file(&example.env_file())).collect();
        let visitors = Visitors::of(example.url());
        Self { front, nodes, balancer, example, visitors, _redis: redis, _machine: machine }
    }

    /// Who connects from now on comes to this node.
    fn leads_to(&self, node: usize) {
        self.balancer.aim(self.nodes[node].address.port());
    }

    /// Opens a page and waits until the node has all its subscriptions.
    fn opens(&mut self, who: &str, path: &str, node: usize, subscriptions: usize) {
        self.leads_to(node);
        self.visitors.opens(who, path);
        self.has_subscribed(node, subscriptions);
    }

    fn has_subscribed(&self, node: usize, subscriptions: usize) {
        let all = || self.nodes[node].metric("fanfare_subscriptions", &[]) == subscriptions as f64;
        until("the page has subscribed", || all().then_some(()));
    }

    /// Ann's page, to be looked at.
    fn picture(&mut self, page: &str) {
        let suffix = if self.front == "pusher" { String::new() } else { format!("-{}", self.front) };
        self.visitors.picture("ann", &format!("example-{page}{suffix}"));
    }

    fn says(&mut self, who: &str, text: &str) {
        self.visitors.types(who, FIELD, text);
        self.visitors.clicks(who, "#send button");
    }
}

#[test]
fn two_people_in_chromium_hear_what_is_for_them_whichever_node_they_are_on() {
    visit("pusher");
}

#[test]
fn two_people_in_chromium_hear_the_same_over_socket_io() {
    visit("socket.io");
}

fn visit(front: &'static str) {
    let mut town = Town::of(front);
    town.leads_to(0);
    town.visitors.logs_in("ann", "Ann Lindqvist");
    town.has_subscribed(0, 2);
    town.leads_to(1);
    town.visitors.logs_in("ben", "Ben Okafor");
    town.has_subscribed(1, 2);
    the_dashboard(&mut town);
    the_chat(&mut town);
    a_node_dies(&mut town);
}

/// A notice for one, prices for all.
fn the_dashboard(town: &mut Town) {
    let notices = "#notices strong";
    let notice = "Your export is ready";
    let Town { example, visitors, .. } = town;
    visitors.clicks("ann", "#export");
    visitors.sees("ann", notices, &[notice]);
    visitors.clicks("ben", "#export");
    // One each: whoever had heard the other's would have two.
    visitors.sees("ben", notices, &[notice]);
    for ticks in ["1", "2"] {
        example.publishes_prices();
        for who in ["ann", "ben"] {
            visitors.counts(who, &format!("#prices [data-ticks=\"{ticks}\"]"), 6);
            visitors.sees(who, notices, &[notice]);
        }
    }
    visitors.sees("ann", "#state", &["connected"]);
    town.picture("dashboard");
}

/// Who is there, what is said, who is typing.
fn the_chat(town: &mut Town) {
    let both = ["Ann Lindqvist (you)", "Ben Okafor"];
    town.opens("ann", "/chat/floor", 0, 1);
    town.visitors.sees("ann", PEOPLE, &both[..1]);
    town.opens("ben", "/chat/floor", 1, 1);
    town.visitors.sees("ann", PEOPLE, &both);
    town.visitors.sees("ben", PEOPLE, &["Ann Lindqvist", "Ben Okafor (you)"]);
    town.says("ann", "Is the Cocoa ship in?");
    town.visitors.sees("ben", SAID, &["Is the Cocoa ship in?"]);
    town.says("ben", "Since nine. Unloading at pier 4.");
    let talk = ["Is the Cocoa ship in?", "Since nine. Unloading at pier 4."];
    town.visitors.sees("ben", SAID, &talk);
    town.visitors.sees("ann", SAID, &talk);
}

/// Ann's node is gone without a word: her page comes back on the other one and hears again. Then Ben leaves.
fn a_node_dies(town: &mut Town) {
    town.leads_to(1);
    town.nodes[0].kill();
    town.has_subscribed(1, 2);
    town.visitors.sees("ann", "#state", &["connected"]);
    town.says("ann", "Then I take two hundred.");
    let talk = ["Is the Cocoa ship in?", "Since nine. Unloading at pier 4.", "Then I take two hundred."];
    town.visitors.sees("ben", SAID, &talk);
    town.visitors.types("ben", FIELD, "Nob");
    town.visitors.sees("ann", "#typing", &["Ben Okafor is typing …"]);
    town.visitors.sees("ann", SAID, &talk);
    town.picture("chat");
    town.visitors.goes("ben");
    town.visitors.sees("ann", PEOPLE, &["Ann Lindqvist (you)"]);
}
