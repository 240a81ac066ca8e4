//! Several nodes as one: what is said on one is heard on the others, by whom it concerns and by nobody else.

use crate::support::http;
use crate::support::node::PREFIX;
use crate::support::prelude::*;

#[test]
fn a_browser_on_node_a_hears_what_the_sdk_posts_to_node_b() {
    let cluster = Cluster::start(2);
    let mut browser = Browser::connect(&cluster.nodes[0]);
    let mut api = Api::of(&cluster.nodes[1]);
    browser.subscribe("news");
    browser.subscribe("private-orders.1");
    browser.enter("presence-room", "ann");
    api.trigger(&["news", "private-orders.1", "presence-room"], "greeting", json!({ "n": 1 }));
    for channel in ["news", "private-orders.1", "presence-room"] {
        assert_eq!(browser.hears(channel, "greeting"), json!({ "n": 1 }));
    }
}

#[test]
fn the_excluded_socket_hears_nothing_on_whichever_node_it_is() {
    let cluster = Cluster::start(2);
    let mut clients: Vec<Client> =
        cluster.nodes.iter().flat_map(|node| (0..3).map(|_| Client::on(node, "news"))).collect();
    let mut api = Api::of(&cluster.nodes[0]);
    let ids: Vec<String> = clients.iter().map(|client| client.id.clone()).collect();
    for id in &ids {
        api.trigger_except(id, &["news"], "for others than", json!(id));
    }
    api.trigger(&["news"], "marker", json!(0));
    for client in &mut clients {
        let (heard, _) = client.until("marker");
        let heard: Vec<Value> = heard.iter().map(|message| message.raw["data"].clone()).collect();
        let expected: Vec<Value> = ids.iter().filter(|id| **id != client.id).map(|id| json!(id)).collect();
        assert_eq!(heard, expected, "the socket {} of all {ids:?}", client.id);
    }
}

#[test]
fn an_excluded_socket_inside_a_joined_run_hears_all_else_in_order() {
    let cluster = Cluster::start(1);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::on(&cluster.nodes[0], "news")).collect();
    let ids: Vec<String> = clients.iter().map(|client| client.id.clone()).collect();
    // One script publishes all at once, so that they come in one batch and leave in one run.
    let payload = |number: usize| {
        let socket = ids.get(number % 7).map_or("null".to_owned(), |id| format!("\"{id}\""));
        format!(r#"{{"event":"e","data":{number},"socket":{socket}}}"#)
    };
    let payloads: Vec<String> = (0..200).map(payload).collect();
    let script = "for i = 2, #ARGV do redis.call('publish', ARGV[1], ARGV[i]) end";
    let topic = format!("{PREFIX}news");
    let words: Vec<&str> = ["EVAL", script, "0", &topic].into_iter().chain(payloads.iter().map(|p| &**p)).collect();
    cluster.redis.ask(&words);
    cluster.redis.publish(&topic, r#"{"event":"marker"}"#);
    for (number, client) in clients.iter_mut().enumerate() {
        let heard: Vec<Value> = client.until("marker").0.iter().map(|message| message.data()).collect();
        let expected: Vec<Value> = (0..200).filter(|event| event % 7 != number).map(|event| json!(event)).collect();
        assert_eq!(heard, expected);
    }
}

#[test]
fn a_whisper_reaches_all_but_its_sender_on_all_nodes() {
    let cluster = Cluster::start(2);
    let channel = "private-orders.1";
    let mut sender = Client::on(&cluster.nodes[0], channel);
    let mut near = Client::on(&cluster.nodes[0], channel);
    let mut far = Client::on(&cluster.nodes[1], channel);
    sender.socket.send(&json!({ "event": "client-typing", "channel": channel, "data": "1" }).to_string());
    assert_eq!(near.expect("client-typing", channel).raw["data"], "1");
    assert_eq!(far.expect("client-typing", channel).raw["data"], "1");
    near.socket.send(&json!({ "event": "client-typing", "channel": channel, "data": "2" }).to_string());
    assert_eq!(sender.expect("client-typing", channel).raw["data"], "2", "its own whisper did not come back");
}

#[test]
fn a_node_that_nobody_asked_for_a_channel_never_gets_it() {
    let redis = Redis::start();
    let relay = Relay::start(redis.port);
    let idle = Node::start(&relay.url(), &[]);
    let busy = Node::start(&redis.url(), &[]);
    let mut here = Client::on(&idle, "own");
    let mut listener = Client::on(&busy, "foreign");
    let topic = format!("{PREFIX}foreign");
    assert_eq!(redis.listeners(&topic), 1);
    let payload = r#"{"event":"e","data":"some forty bytes of a foreign event's data"}"#;

    // The same stretch of the link's life twice, measured by its own traffic: without foreign events, then with.
    let quiet = stretch(&relay, |_| ());
    let loud = stretch(&relay, |_| (0..250).for_each(|_| assert_eq!(redis.publish(&topic, payload), 1)));
    assert_eq!(relay.heard("foreign"), 0);
    let difference = quiet.abs_diff(loud);
    println!("bytes to the idle node: {quiet} without, {loud} with 1,000 foreign events");
    assert!(difference < 500, "{quiet} bytes without, {loud} with 1,000 foreign events of 100 bytes");

    // The events were real, and the idle node's own road works.
    redis.publish(&topic, r#"{"event":"marker"}"#);
    assert_eq!(listener.until("marker").0.len(), 1_000);
    redis.publish(&format!("{PREFIX}own"), r#"{"event":"marker"}"#);
    here.expect("marker", "own");
    assert!(relay.heard("laravel_database_own") > 0, "the relay sees what the node gets");
}

/// Four beats of the link: `act` is called in each; the bytes that came meanwhile.
fn stretch(relay: &Relay, mut act: impl FnMut(usize)) -> u64 {
    let beat = || {
        relay.listen();
        until("a probe comes back", || (relay.heard("ff:probe:") > 0).then_some(()));
    };
    beat();
    let start = relay.bytes_down();
    for number in 0..4 {
        act(number);
        assert_eq!(relay.heard("foreign"), 0);
        beat();
    }
    relay.bytes_down() - start
}

#[test]
fn a_node_stops_hearing_a_channel_when_its_last_listener_is_gone() {
    let cluster = Cluster::with(1, &[("FANFARE_REDIS__LINGER", "0.2")]);
    let topic = format!("{PREFIX}news");
    let listens = |wanted: i64| {
        let what = format!("{wanted} connections listen to {topic}");
        until(&what, || (cluster.redis.listeners(&topic) == wanted).then_some(()));
    };
    let mut first = Client::on(&cluster.nodes[0], "news");
    let second = Client::on(&cluster.nodes[0], "news");
    listens(1);
    first.unsubscribe("news");
    first.ping();
    drop(second);
    listens(0);
    first.subscribe("news");
    listens(1);
    cluster.redis.publish(&topic, r#"{"event":"e"}"#);
    first.expect("e", "news");
}

#[test]
fn two_apps_on_one_redis_do_not_hear_each_other() {
    let cluster = Cluster::start(2);
    let mut ours = Client::on(&cluster.nodes[0], "news");
    let event = json!({ "name": "foreign", "channel": "news", "data": "1" }).to_string();
    let other = http::Signer { app_id: node::OTHER_ID, key: node::OTHER_KEY, secret: node::OTHER_SECRET, clock: 0 };
    assert_eq!(other.post(cluster.nodes[1].address, "events", &event).status, 200);
    Api::of(&cluster.nodes[1]).trigger(&["news"], "own", json!(1));
    ours.expect("own", "news");
}

#[test]
fn a_socket_admitted_in_mid_stream_hears_everything_from_its_success_on() {
    let cluster = Cluster::start(2);
    let topic = format!("{PREFIX}news");
    let done = std::sync::atomic::AtomicBool::new(false);
    let sequence = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut number = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                cluster.redis.publish(&topic, &format!(r#"{{"event":"e","data":{number}}}"#));
                number += 1;
            }
            number
        });
        let newcomers: Vec<Client> = (0..20).map(|number| Client::on(&cluster.nodes[number % 2], "news")).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let count: u64 = publisher.join().unwrap();
        cluster.redis.publish(&topic, r#"{"event":"marker"}"#);
        let mut heard_by_all = Vec::new();
        for mut client in newcomers {
            let heard: Vec<u64> = client.until("marker").0.iter().map(|m| m.data().as_u64().unwrap()).collect();
            heard_by_all.push((heard, count));
        }
        heard_by_all
    });
    for (heard, count) in sequence {
        let first = heard.first().copied().unwrap_or(count);
        assert_eq!(heard, (first..count).collect::<Vec<_>>(), "from its success on, all of them, once, in order");
    }
}
