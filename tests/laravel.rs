//! A real Laravel on one side, browsers on any node on the other: the job that all of this is for.

use crate::support::laravel::{ORDER_PLACED, ORDER_SHIPPED, QueueWorker};
use crate::support::prelude::*;

const CHANNELS: [&str; 3] = ["news", "private-orders.1", "presence-room.1"];

#[test]
fn a_browser_on_any_node_hears_what_laravel_broadcasts() {
    let cluster = Cluster::start(3);
    let mut browsers: Vec<Browser> = cluster.nodes.iter().map(Browser::connect).collect();
    for (number, browser) in browsers.iter_mut().enumerate() {
        browser.subscribe(CHANNELS[0]);
        browser.subscribe(CHANNELS[1]);
        browser.enter(CHANNELS[2], &format!("user {number}"));
    }
    // The last to enter hears no member event after this; the others have theirs behind them.
    let last = &mut browsers[2];
    for (number, client) in ["phpredis", "predis"].into_iter().enumerate() {
        let mut laravel = Laravel::with(client, &cluster.redis);
        laravel.broadcast(&CHANNELS, number as u32);
        let data = json!({ "publisher": "laravel", "number": number, "note": "", "socket": null });
        for channel in CHANNELS {
            assert_eq!(last.hears(channel, ORDER_SHIPPED), data, "{client} on {channel}");
        }
    }
    for browser in &mut browsers[..2] {
        for number in [0, 1] {
            let heard = browser.until(|told| told["channel"] == CHANNELS[2] && told["event"] == ORDER_SHIPPED);
            assert_eq!(heard["data"]["number"], number);
        }
    }
}

#[test]
fn to_others_leaves_out_the_socket_of_the_request_on_whichever_node_it_is() {
    let cluster = Cluster::start(2);
    for (client, sender) in [("phpredis", 0), ("predis", 1)] {
        let mut laravel = Laravel::with(client, &cluster.redis);
        let mut browsers: Vec<Browser> = cluster.nodes.iter().map(Browser::connect).collect();
        browsers.iter_mut().for_each(|browser| browser.subscribe("private-orders.1"));
        laravel.broadcast_to_others(&browsers[sender].socket_id, &["private-orders.1"], 1);
        laravel.broadcast(&["private-orders.1"], 2);
        let mut number = |browser: usize| browsers[browser].hears("private-orders.1", ORDER_SHIPPED)["number"].clone();
        assert_eq!(number(sender), 2, "the sender hears only what is for all");
        assert_eq!((number(1 - sender), number(1 - sender)), (json!(1), json!(2)));
    }
}

#[test]
fn a_queued_event_comes_when_a_worker_has_run_and_not_to_its_sender() {
    let cluster = Cluster::start(2);
    let channels = ["private-orders.1"];
    for client in ["phpredis", "predis"] {
        let mut laravel = Laravel::with(client, &cluster.redis);
        let mut browsers: Vec<Browser> = cluster.nodes.iter().map(Browser::connect).collect();
        browsers.iter_mut().for_each(|browser| browser.subscribe(channels[0]));
        let passer_by = Browser::connect(&cluster.nodes[0]);
        laravel.queue_to_others(&browsers[0].socket_id, &channels, 1);
        laravel.queue_to_others(&passer_by.socket_id, &channels, 2);
        drop(passer_by);
        until("its node knows that the sender is gone", || {
            (cluster.nodes[0].metric("fanfare_connections", &[]) == 1.0).then_some(())
        });
        laravel.broadcast(&channels, 3);
        for browser in &mut browsers {
            let heard = browser.hears(channels[0], ORDER_SHIPPED);
            assert_eq!(heard["number"], 3, "nobody works the queue, so the last is the first");
        }
        let _worker = QueueWorker::start(client, &cluster.redis);
        // The queue keeps its order: what the sender did not hear before the second it never will.
        let mut number = |browser: usize| browsers[browser].hears(channels[0], ORDER_PLACED)["number"].clone();
        assert_eq!(number(0), 2, "the sender hears only the event whose own sender is gone");
        assert_eq!((number(1), number(1)), (json!(1), json!(2)));
    }
}

#[test]
fn echo_hears_an_event_by_the_name_of_its_class() {
    let cluster = Cluster::start(2);
    let mut echo = Browser::with_echo(&cluster.nodes[1]);
    let mut laravel = Laravel::with("phpredis", &cluster.redis);
    echo.tell(&json!({ "do": "listen", "channel": "private-orders.1", "event": "OrderShipped" }));
    echo.until(|told| told["kind"] == "subscribed");
    laravel.broadcast(&["private-orders.1"], 7);
    let heard = echo.until(|told| told["kind"] == "event");
    assert_eq!(heard["data"]["number"], 7);
    echo.tell(&json!({ "do": "join", "channel": "presence-room.1", "user": { "user_id": 3, "user_info": {} } }));
    let here = echo.until(|told| told["kind"] == "here");
    assert_eq!(here["users"].as_array().map(Vec::len), Some(1));
}

#[test]
fn an_event_of_laravel_is_passed_on_as_it_came() {
    let cluster = Cluster::start(1);
    let mut client = Client::on(&cluster.nodes[0], "news");
    // Numbers and escapes as PHP prints them; nobody may parse and print them anew.
    let data = r#"{"f":1.0e+25,"z":-0,"i":9223372036854775807,"t":"Zo\u00eb \ud83d\ude00 a\/b","e":[],"socket":null}"#;
    let payload = format!(r#"{{"event":"order.shipped","data":{data},"socket":null}}"#);
    cluster.redis.publish(&format!("{}news", node::PREFIX), &payload);
    assert_eq!(client.expect("order.shipped", "news").raw["data"], data);
    for (payload, expected) in [
        (r#"{"event":"e","data":[],"socket":null}"#, "[]"),
        (r#"{"event":"e"}"#, "null"),
        (r#"{"event":"e","data":"a \" b"}"#, r#"a " b"#),
        (r#"{"data":{"event":"x"},"more":[1],"event":"e","socket":"no socket of ours"}"#, r#"{"event":"x"}"#),
    ] {
        cluster.redis.publish(&format!("{}news", node::PREFIX), payload);
        assert_eq!(client.expect("e", "news").raw["data"], expected, "{payload}");
    }
}
