//! Every call of Laravel Echo, in each version that is in use, over each connector and client, with a real Laravel that signs
//! nothing and the HTTP API beside it.

use crate::support::laravel::{LaravelSite, ORDER_SHIPPED};
use crate::support::prelude::*;

/// An Echo, what is below it, and what it does by itself.
#[derive(Clone, Copy, Debug)]
struct Row {
    connector: &'static str,
    echo: &'static str,
    client: &'static str,
    /// The client's own when empty.
    transports: &'static [&'static str],
    /// Whether it subscribes again when its connection was cut.
    comes_back: bool,
}

const fn pusher(echo: &'static str, client: &'static str) -> Row {
    Row { connector: "pusher", echo, client, transports: &[], comes_back: true }
}

const fn reverb(echo: &'static str) -> Row {
    Row { connector: "reverb", echo, client: "pusher-js", transports: &[], comes_back: true }
}

const fn socket_io(echo: &'static str, client: &'static str, comes_back: bool) -> Row {
    Row { connector: "socket.io", echo, client, transports: &[], comes_back }
}

const PUSHER: [Row; 5] = [
    pusher("laravel-echo", "pusher-js"),
    pusher("laravel-echo", "pusher-js-7"),
    pusher("laravel-echo-2.0", "pusher-js"),
    pusher("laravel-echo-1", "pusher-js"),
    pusher("laravel-echo-1", "pusher-js-7"),
];

const REVERB: [Row; 3] = [reverb("laravel-echo"), reverb("laravel-echo-2.0"), reverb("laravel-echo-1")];

/// Ably's connector is pusher-js by another name (since Echo 2.5); Ably's own protocol is not spoken here.
const ABLY: [Row; 1] =
    [Row { connector: "ably", echo: "laravel-echo", client: "pusher-js", transports: &[], comes_back: true }];

/// Echo up to 2.0 waits for a word of the client that clients from 3 on do not say: what was subscribed to stays lost.
const SOCKET_IO: [Row; 7] = [
    socket_io("laravel-echo", "socket.io-client", true),
    Row { transports: &["websocket"], ..socket_io("laravel-echo", "socket.io-client", true) },
    socket_io("laravel-echo", "socket.io-client-3", true),
    socket_io("laravel-echo", "socket.io-client-2", true),
    socket_io("laravel-echo-2.0", "socket.io-client", false),
    socket_io("laravel-echo-1", "socket.io-client", false),
    socket_io("laravel-echo-1", "socket.io-client-2", true),
];

/// Two nodes, and all that Echo needs beside them.
struct Town {
    cluster: Cluster,
    /// Before the first node.
    relay: Relay,
    laravel: Laravel,
    api: Api,
    _site: LaravelSite,
}

impl Town {
    fn new() -> Self {
        let site = LaravelSite::start();
        let url = format!("http://127.0.0.1:{}/broadcasting/auth", site.port);
        let cluster = Cluster::with(2, &[("FANFARE_APPS__MAIN__AUTH_URL", &url)]);
        let relay = Relay::start(cluster.nodes[0].address.port());
        let laravel = Laravel::with("phpredis", &cluster.redis);
        let api = Api::of(&cluster.nodes[1]);
        Self { cluster, relay, laravel, api, _site: site }
    }

    /// One Echo on each node, and nobody else.
    fn opens(&self, first: Row, second: Row) -> (Ear, Ear) {
        println!("{first:?} beside {second:?}");
        (0..2).for_each(|node| self.has(node, 0));
        (Ear::open(self, first, 0), Ear::open(self, second, 1))
    }

    /// Waits until the clients of a node have so many subscriptions.
    fn has(&self, node: usize, subscriptions: u32) {
        let count = || self.cluster.nodes[node].metric("fanfare_subscriptions", &[]);
        let what = format!("node {node} has {subscriptions} subscriptions");
        until(&what, || (count() == f64::from(subscriptions)).then_some(()));
    }
}

/// One Echo of a row, and how many subscriptions it has.
struct Ear {
    browser: Browser,
    node: usize,
    subscriptions: u32,
}

impl Ear {
    /// Users 7 and 8 are told apart by their tokens; the first comes to its node through the relay.
    fn open(town: &Town, row: Row, node: usize) -> Self {
        let port = [town.relay.port, town.cluster.nodes[1].address.port()][node];
        let mut choice = json!({ "connector": row.connector, "echo": row.echo, "client": row.client, "port": port });
        choice["token"] = json!((7 + node).to_string());
        if !row.transports.is_empty() {
            choice["transports"] = json!(row.transports);
        }
        Self { browser: Browser::with_echo_of(&town.cluster.nodes[node], choice), node, subscriptions: 0 }
    }

    /// A call that makes one subscription more; waits until the node has it.
    fn opens(&mut self, town: &Town, call: Value) {
        self.browser.tell(&call);
        self.subscriptions += 1;
        town.has(self.node, self.subscriptions);
    }

    fn listens(&mut self, town: &Town, channel: &str) {
        self.opens(town, json!({ "do": "listen", "channel": channel, "event": "OrderShipped" }));
    }

    /// A call on a channel that it has; waits until it is made.
    fn does(&mut self, call: Value) {
        self.browser.tell(&call);
        self.browser.tell(&json!({ "do": "say" }));
        self.tells("said");
    }

    fn tells(&mut self, kind: &str) -> Value {
        self.browser.until(|told| told["kind"] == kind)
    }

    /// Channel and number of the next event.
    fn hears(&mut self) -> (String, u64) {
        let told = self.tells("event");
        (told["channel"].as_str().unwrap().to_owned(), told["data"]["number"].as_u64().unwrap())
    }
}

fn heard(channel: &str, number: u64) -> (String, u64) {
    (channel.to_owned(), number)
}

#[test]
fn each_echo_does_all_its_calls_over_pusher_js() {
    each_row(&PUSHER);
}

#[test]
fn each_echo_does_all_its_calls_by_the_name_of_reverb() {
    each_row(&REVERB);
}

#[test]
fn echo_does_all_its_calls_by_the_name_of_ably() {
    each_row(&ABLY);
}

#[test]
fn each_echo_does_all_its_calls_over_socket_io() {
    each_row(&SOCKET_IO);
}

#[test]
fn both_kinds_of_client_share_all_channels() {
    let mut town = Town::new();
    for (one, other) in [(SOCKET_IO[0], PUSHER[0]), (PUSHER[0], SOCKET_IO[6])] {
        let (mut ann, mut ben) = town.opens(one, other);
        public_and_private(&mut town, &mut ann, &mut ben);
        presence(&town, &mut ann, &mut ben);
        to_others(&mut town, &mut ann, &mut ben);
        leave(&mut town, &mut ann, &mut ben);
    }
}

fn each_row(rows: &[Row]) {
    let mut town = Town::new();
    for row in rows.iter().copied() {
        let (mut ann, mut ben) = town.opens(row, row);
        public_and_private(&mut town, &mut ann, &mut ben);
        presence(&town, &mut ann, &mut ben);
        to_others(&mut town, &mut ann, &mut ben);
        models_and_notifications(&mut town, &mut ann);
        leave(&mut town, &mut ann, &mut ben);
        if row.connector != "socket.io" {
            to_all(&mut town, &mut ann);
            encrypted(&mut town, row);
        }
        cut(&mut town, &mut ann, row);
    }
    a_node_dies(&mut town, rows[0]);
}

fn public_and_private(town: &mut Town, ann: &mut Ear, ben: &mut Ear) {
    ann.listens(town, "news");
    ann.listens(town, "private-orders.7");
    ben.browser.tell(&json!({ "do": "listen", "channel": "private-orders.7", "event": "OrderShipped" }));
    let refused = ben.tells("refused");
    assert_eq!((&refused["channel"], &refused["error"]["status"]), (&json!("private-orders.7"), &json!(403)));
    ben.listens(town, "news");
    town.laravel.broadcast(&["private-orders.7"], 1);
    assert_eq!(ann.hears(), heard("private-orders.7", 1));
    town.laravel.broadcast(&["news"], 2);
    town.api.trigger(&["news"], ORDER_SHIPPED, json!({ "number": 3 }));
    for number in [2, 3] {
        assert_eq!(ann.hears(), heard("news", number));
        assert_eq!(ben.hears(), heard("news", number), "and nothing of what it may not hear");
    }
}

fn presence(town: &Town, ann: &mut Ear, ben: &mut Ear) {
    let member = |id: u32| json!({ "id": id, "name": format!("User {id}"), "room": "1" });
    let join = || json!({ "do": "join", "channel": "presence-room.1" });
    ann.opens(town, join());
    assert_eq!(ann.tells("here")["users"], json!([member(7)]));
    ann.does(json!({ "do": "hear", "channel": "presence-room.1", "event": "typing" }));
    ben.opens(town, join());
    let mut both = ben.tells("here")["users"].as_array().unwrap().clone();
    both.sort_by_key(|user| user["id"].as_u64());
    assert_eq!(both, [member(7), member(8)]);
    assert_eq!(ann.tells("joining")["user"], member(8));
    ben.does(json!({ "do": "hear", "channel": "presence-room.1", "event": "typing" }));
    for (from, to) in [(true, "ann"), (false, "ben")] {
        let (from, to_whom) = if from { (&mut *ann, &mut *ben) } else { (&mut *ben, &mut *ann) };
        let whisper = json!({ "do": "whisper", "channel": "presence-room.1", "event": "typing", "data": { "to": to } });
        from.browser.tell(&whisper);
        // The second would find the first before it, had whispers come back to who sent them.
        assert_eq!(to_whom.tells("whisper")["data"], json!({ "to": to }));
    }
}

fn to_others(town: &mut Town, ann: &mut Ear, ben: &mut Ear) {
    let room = "presence-room.1";
    for ear in [&mut *ann, &mut *ben] {
        ear.does(json!({ "do": "listen", "channel": room, "event": "OrderShipped" }));
    }
    town.laravel.broadcast_to_others(&ann.browser.socket_id, &[room], 10);
    town.laravel.broadcast(&[room], 11);
    assert_eq!(ann.hears(), heard(room, 11));
    assert_eq!((ben.hears(), ben.hears()), (heard(room, 10), heard(room, 11)));
}

fn models_and_notifications(town: &mut Town, ann: &mut Ear) {
    ann.opens(town, json!({ "do": "notification", "channel": "private-App.Models.User.7" }));
    town.laravel.notify(7, 20);
    let data = ann.tells("notification")["data"].clone();
    assert_eq!((&data["number"], &data["type"]), (&json!(20), &json!(r"App\Notifications\InvoicePaid")));
    let order = "private-App.Models.Order.5";
    ann.opens(town, json!({ "do": "listen", "channel": order, "event": ".OrderUpdated" }));
    town.laravel.update(5, "paid");
    assert_eq!(ann.tells("event")["data"]["model"], json!({ "id": 5, "state": "paid" }));
}

fn leave(town: &mut Town, ann: &mut Ear, ben: &mut Ear) {
    for (ear, channel) in [(&mut *ann, "orders.7"), (&mut *ben, "room.1")] {
        ear.browser.tell(&json!({ "do": "leave", "channel": channel }));
        ear.subscriptions -= 1;
        town.has(ear.node, ear.subscriptions);
    }
    assert_eq!(ann.tells("leaving")["user"]["id"], 8);
    for (number, channel) in [(30, "private-orders.7"), (31, "presence-room.1"), (32, "news")] {
        town.laravel.broadcast(&[channel], number);
    }
    assert_eq!((ann.hears(), ann.hears()), (heard("presence-room.1", 31), heard("news", 32)));
    assert_eq!(ben.hears(), heard("news", 32));
}

fn to_all(town: &mut Town, ann: &mut Ear) {
    ann.does(json!({ "do": "all", "channel": "news" }));
    town.api.trigger(&["news"], "order.shipped", json!({ "number": 40 }));
    town.laravel.broadcast(&["news"], 41);
    let told = |ear: &mut Ear| {
        let told = ear.tells("all");
        (told["event"].as_str().unwrap().to_owned(), told["data"]["number"].as_u64().unwrap())
    };
    assert_eq!((told(ann), told(ann)), (heard(".order.shipped", 40), heard("OrderShipped", 41)));
}

/// With a back end that has the keys. A `redis` driver has none, and publishes such channels in the clear.
fn encrypted(town: &mut Town, row: Row) {
    let choice = json!({ "connector": row.connector, "echo": row.echo, "client": row.client });
    let mut carl = Browser::with_echo_of(&town.cluster.nodes[1], choice);
    carl.tell(&json!({ "do": "listen", "channel": "private-encrypted-vault", "event": ".opened" }));
    carl.until(|told| told["kind"] == "subscribed");
    town.api.trigger(&["private-encrypted-vault"], "opened", json!({ "number": 50 }));
    assert_eq!(carl.until(|told| told["kind"] == "event")["data"], json!({ "number": 50 }));
}

fn cut(town: &mut Town, ann: &mut Ear, row: Row) {
    let before = ann.browser.socket_id.clone();
    town.relay.cut();
    ann.browser.connected();
    assert_ne!(ann.browser.socket_id, before);
    if row.comes_back {
        assert_eq!(ann.tells("here")["users"][0]["id"], 7);
        town.has(0, ann.subscriptions);
        for (number, channel) in [(60, "news"), (61, "presence-room.1")] {
            town.laravel.broadcast(&[channel], number);
            assert_eq!(ann.hears(), heard(channel, number.into()));
        }
    } else {
        ann.subscriptions = 0;
        ann.listens(town, "late");
        town.laravel.broadcast(&["news"], 60);
        town.laravel.broadcast(&["late"], 61);
        assert_eq!(ann.hears(), heard("late", 61));
    }
}

/// Who was on it is on the other one, and hears.
fn a_node_dies(town: &mut Town, row: Row) {
    let (mut ann, ben) = town.opens(row, row);
    ann.listens(town, "private-orders.7");
    ann.opens(town, json!({ "do": "join", "channel": "presence-room.1" }));
    drop(ben);
    town.relay.aim(town.cluster.nodes[1].address.port());
    town.cluster.nodes[0].kill();
    ann.browser.connected();
    town.has(1, ann.subscriptions);
    town.laravel.broadcast(&["private-orders.7"], 70);
    assert_eq!(ann.hears(), heard("private-orders.7", 70));
}
