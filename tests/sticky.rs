//! Socket.IO behind load balancers: the files of `deploy/` keep the polls of a session at its node. WebSockets need nothing of
//! that, and no other client is touched by it.

use crate::support::balancer::{Balancer, Change, NODES};
use crate::support::cluster::together;
use crate::support::example::Example;
use crate::support::node::KEY;
use crate::support::prelude::*;
use crate::support::socket_io::{Engine, Poller, event, request, text};
use crate::support::visitors::Visitors;

/// HAProxy's file without what keeps a client at its node.
const NOTHING: [Change<'static>; 3] = [
    ("  cookie FANFARE", "  # cookie FANFARE"),
    ("  ignore-persist", "  # ignore-persist"),
    ("  force-persist", "  # force-persist"),
];

/// The same with what stands there for clients without cookies.
const BY_ADDRESS: [Change<'static>; 5] =
    [NOTHING[0], NOTHING[1], NOTHING[2], ("# stick-table", "stick-table"), ("# stick on", "stick on")];

/// nginx's file without a word on Socket.IO.
const NGINX_NOTHING: [Change<'static>; 1] = [("proxy_pass http://socket_io", "proxy_pass http://nodes")];

/// The same with what stands there for clients that share an address.
const NGINX_BY_COOKIE: [Change<'static>; 4] = [
    ("    hash $remote_addr", "    # hash $remote_addr"),
    ("# hash $fanfare", "hash $fanfare"),
    ("# map $cookie", "map $cookie"),
    ("# add_header", "add_header"),
];

const BEGIN: &str = "/socket.io/?EIO=4&transport=polling";

/// Each way in which a file keeps clients at their node.
#[derive(Clone, Copy, Debug)]
enum Way {
    HaproxyCookie,
    HaproxyAddress,
    NginxAddress,
    NginxCookie,
}

impl Way {
    const ALL: [Self; 4] = [Self::HaproxyCookie, Self::HaproxyAddress, Self::NginxAddress, Self::NginxCookie];

    fn before(self, nodes: &[Node]) -> Balancer {
        println!("{self:?}");
        match self {
            Self::HaproxyCookie => Balancer::haproxy(nodes, &[]),
            Self::HaproxyAddress => Balancer::haproxy(nodes, &BY_ADDRESS),
            Self::NginxAddress => Balancer::nginx(nodes, &[]),
            Self::NginxCookie => Balancer::nginx(nodes, &NGINX_BY_COOKIE),
        }
    }
}

/// Waits until the clients of all nodes have so many subscriptions.
fn until_subscribed(nodes: &[Node], count: f64) {
    let sum = || nodes.iter().map(subscriptions).sum::<f64>();
    until(&format!("{count} subscriptions"), || (sum() == count).then_some(()));
}

fn subscriptions(node: &Node) -> f64 {
    node.metric("fanfare_subscriptions", &[])
}

#[test]
fn without_stickiness_a_session_is_unknown_to_the_next_node() {
    let cluster = Cluster::start(NODES);
    for balancer in [Balancer::haproxy(&cluster.nodes, &NOTHING), Balancer::nginx(&cluster.nodes, &NGINX_NOTHING)] {
        let begun = request(balancer.address, "GET", BEGIN, "", "");
        let open: Value = serde_json::from_str(&begun.body[1..]).unwrap();
        let path = format!("{BEGIN}&sid={}", open["sid"].as_str().unwrap());
        let lost = until("another node is asked", || {
            let posted = request(balancer.address, "POST", &path, "", "40");
            (posted.status != 200).then_some(posted)
        });
        assert_eq!((lost.status, &*lost.body), (400, r#"{"code":1,"message":"Session ID unknown"}"#));
    }
    // Of a real client: this one is connected by its first answer, loses that at a next one, and begins anew.
    let balancer = Balancer::haproxy(&cluster.nodes, &NOTHING);
    let mut echo = echo(&cluster.nodes, &balancer, Way::HaproxyAddress, SocketIo::Two, &["polling"]);
    let first = echo.socket_id.clone();
    echo.until(|told| told["state"] == "disconnected");
    echo.connected();
    assert_ne!(echo.socket_id, first);
}

#[test]
fn with_it_a_session_stays_where_it_is_and_becomes_a_websocket() {
    let cluster = Cluster::start(NODES);
    let mut api = Api::of(&cluster.nodes[0]);
    for way in Way::ALL {
        let balancer = way.before(&cluster.nodes);
        for engine in Engine::BOTH {
            let mut poller = Poller::at(balancer.address, engine, "", "");
            for channel in ["a", "b", "c", "d", "e", "f"] {
                poller.subscribe(channel);
            }
            until_subscribed(&cluster.nodes, 6.0);
            for channel in ["a", "f", "c"] {
                api.trigger(&[channel], "e", json!({ "n": 1 }));
                assert_eq!(poller.event(), json!(["e", channel, { "n": 1 }]));
            }
            let path = poller.path().replace("polling", "websocket");
            let mut socket = Socket::open_with(balancer.address, &path, &poller.headers).unwrap();
            socket.send("2probe");
            assert_eq!(text(&mut socket), "3probe");
            socket.send("5");
            api.trigger(&["b"], "e", json!({ "n": 2 }));
            assert_eq!(event(&text(&mut socket)), json!(["e", "b", { "n": 2 }]));
            socket.send("41");
            until_subscribed(&cluster.nodes, 0.0);
        }
    }
}

#[test]
fn other_clients_are_balanced_as_before() {
    let cluster = Cluster::start(NODES);
    let balancer = Balancer::haproxy(&cluster.nodes, &[]);
    let cookie = "Cookie: FANFARE=node1\r\n";
    let answer = request(balancer.address, "GET", "/up", "", "");
    assert_eq!((answer.status, answer.headers.get("set-cookie")), (200, None));
    let path = format!("/app/{KEY}?protocol=7");
    let open = || Socket::open_with(balancer.address, &path, cookie).unwrap();
    let _sockets: Vec<Socket> = (0..6).map(|_| open()).collect();
    for node in &cluster.nodes {
        until("each node has two", || (node.metric("fanfare_connections", &[]) == 2.0).then_some(()));
    }
}

#[test]
fn a_node_that_drains_keeps_its_sessions_and_gets_no_new_ones() {
    let cluster = Cluster::with(NODES, &[("FANFARE_DRAIN__GRACE", "60")]);
    let mut api = Api::of(&cluster.nodes[0]);
    let balancer = Balancer::haproxy(&cluster.nodes, &[]);
    let mut poller = Poller::at(balancer.address, Engine::Four, "", "");
    poller.subscribe("a");
    until_subscribed(&cluster.nodes, 1.0);
    let holder = cluster.nodes.iter().find(|node| subscriptions(node) == 1.0).unwrap();
    holder.signal("TERM");
    until("a new session of the same browser gets another node", || {
        let begun = request(balancer.address, "GET", BEGIN, &poller.headers, "");
        begun.headers.contains_key("set-cookie").then_some(())
    });
    poller.subscribe("b");
    until_subscribed(&cluster.nodes, 2.0);
    api.trigger(&["b"], "e", json!({ "n": 1 }));
    assert_eq!(poller.event(), json!(["e", "b", { "n": 1 }]));
}

/// Which client is below Echo, each with the newest Echo that is used with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SocketIo {
    Two,
    Four,
}

/// A real Echo before a balancer. Clients of version 2 let a browser keep cookies, so here something below them does.
fn echo(nodes: &[Node], balancer: &Balancer, way: Way, client: SocketIo, transports: &[&str]) -> Browser {
    let port = balancer.address.port();
    let (echo, library, keeper) = match client {
        SocketIo::Two => ("laravel-echo-1", "socket.io-client-2", "below"),
        SocketIo::Four => ("laravel-echo", "socket.io-client", "own"),
    };
    let mut choice = json!({ "connector": "socket.io", "echo": echo, "client": library, "port": port });
    choice["transports"] = json!(transports);
    if matches!(way, Way::HaproxyCookie | Way::NginxCookie) {
        choice["cookies"] = json!(keeper);
    }
    println!("{choice}");
    Browser::with_echo_of(&nodes[0], choice)
}

/// The next event, and no word of a lost connection before it.
fn hears(echo: &mut Browser, channel: &str, number: u32) {
    let story = echo.story(|told| told["kind"] == "event");
    assert!(story.iter().all(|told| told["kind"] != "state"), "{story:?}");
    let told = story.last().unwrap();
    assert_eq!((&told["channel"], &told["data"]["number"]), (&json!(channel), &json!(number)));
}

#[test]
fn echo_polls_and_changes_to_a_websocket_and_comes_back_when_its_node_dies() {
    for (way, client) in Way::ALL.into_iter().zip([SocketIo::Four, SocketIo::Two, SocketIo::Four, SocketIo::Two]) {
        let mut cluster = Cluster::start(NODES);
        let mut laravel = Laravel::with("phpredis", &cluster.redis);
        let balancer = way.before(&cluster.nodes);
        let mut polls = echo(&cluster.nodes, &balancer, way, client, &["polling"]);
        let mut changes = echo(&cluster.nodes, &balancer, way, client, &["polling", "websocket"]);
        let mut ears = [("polled", &mut polls), ("changed", &mut changes)];
        for (channel, ear) in &mut ears {
            ear.tell(&json!({ "do": "listen", "channel": channel, "event": "OrderShipped" }));
        }
        until_subscribed(&cluster.nodes, 2.0);
        for ((_, ear), transport) in ears.iter_mut().zip(["polling", "websocket"]) {
            until("its transport is the right one", || {
                ear.tell(&json!({ "do": "transport" }));
                (ear.until(|told| told["kind"] == "transport")["name"] == transport).then_some(())
            });
        }
        for number in 0..5 {
            for (channel, ear) in &mut ears {
                laravel.broadcast(&[*channel], number);
                hears(ear, channel, number);
            }
        }
        let (dead, left): (Vec<Node>, Vec<Node>) = cluster.nodes.drain(..).partition(|node| subscriptions(node) > 0.0);
        drop(dead);
        ears.iter_mut().for_each(|(_, ear)| ear.connected());
        until_subscribed(&left, 2.0);
        for (channel, ear) in &mut ears {
            laravel.broadcast(&[*channel], 9);
            hears(ear, channel, 9);
        }
    }
}

/// A page of another port keeps the balancer's cookie.
#[test]
fn a_page_in_chromium_keeps_the_cookie_and_comes_back_when_its_node_dies() {
    let _machine = together();
    let redis = Redis::start();
    // The application must know where nodes are before there are any.
    let relay = Relay::start(0);
    let example = Example::start(&redis, relay.port, "socket.io");
    let mut nodes: Vec<Node> = (0..NODES).map(|_| Node::with_env_file(&example.env_file())).collect();
    let balancer = Balancer::haproxy(&nodes, &[]);
    relay.aim(balancer.address.port());
    let mut visitors = Visitors::of(example.url());
    visitors.logs_in("ann", "Ann Lindqvist");
    until_subscribed(&nodes, 2.0);
    visitors.logs_in("ben", "Ben Okafor");
    until_subscribed(&nodes, 4.0);
    for who in ["ann", "ben"] {
        visitors.sees(who, "#state", &["connected"]);
        visitors.clicks(who, "#export");
        visitors.sees(who, "#notices strong", &["Your export is ready"]);
    }
    let dead = nodes.iter().position(|node| subscriptions(node) > 0.0).unwrap();
    drop(nodes.remove(dead));
    until_subscribed(&nodes, 4.0);
    for who in ["ann", "ben"] {
        visitors.sees(who, "#state", &["connected"]);
        visitors.clicks(who, "#export");
        visitors.counts(who, "#notices strong", 2);
    }
}
