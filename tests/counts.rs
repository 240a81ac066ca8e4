//! Subscribers who are told how many they are.

use crate::support::prelude::*;

const COUNT: &str = "pusher_internal:subscription_count";

/// Reads until the channel's count is this; counts on the way there may be told or skipped.
fn hears_count(client: &mut Client, channel: &str, n: u32) {
    let expected = json!({ "event": COUNT, "channel": channel, "data": format!(r#"{{"subscription_count":{n}}}"#) });
    loop {
        let next = client.next();
        assert_eq!(&*next.event, COUNT, "{:?}", next.raw);
        if next.raw == expected {
            return;
        }
    }
}

#[test]
fn subscribers_are_told_how_many_they_are_in_the_cluster_and_members_are_not() {
    let cluster = Cluster::with(2, &[("FANFARE_APPS__MAIN__SUBSCRIPTION_COUNT", "true")]);
    let mut api = Api::of(&cluster.nodes[0]);
    let mut first = Client::on(&cluster.nodes[0], "private-news");
    hears_count(&mut first, "private-news", 1);
    let mut others: Vec<Client> = (0..4).map(|n| Client::on(&cluster.nodes[n % 2], "private-news")).collect();
    hears_count(&mut first, "private-news", 5);
    hears_count(&mut others[1], "private-news", 5);
    others[0].unsubscribe("private-news");
    assert!(others[0].ping().iter().all(|told| told.event == COUNT));
    hears_count(&mut first, "private-news", 4);
    drop(others);
    hears_count(&mut first, "private-news", 1);
    first.unsubscribe("private-news");
    first.enter("presence-room", "ann");
    let _bob = Client::present(&cluster.nodes[1], "presence-room", "bob");
    assert_eq!(first.next().event, "pusher_internal:member_added");
    // A count of this channel is told within a second; by then that of the room would have been too.
    let mut marker = Client::on(&cluster.nodes[1], "news");
    hears_count(&mut marker, "news", 1);
    api.trigger(&["presence-room"], "marker", json!(1));
    first.expect("marker", "presence-room");
}

#[test]
fn a_browser_is_told_the_count() {
    let node = Node::start("", &[("FANFARE_APPS__MAIN__SUBSCRIPTION_COUNT", "true")]);
    let mut browser = Browser::connect(&node);
    browser.subscribe("news");
    let _other = Client::on(&node, "news");
    let told =
        browser.until(|told| told["event"] == "pusher:subscription_count" && told["data"]["subscription_count"] == 2);
    assert_eq!(told["channel"], "news");
}

#[test]
fn without_the_setting_no_count_is_told() {
    let node = Node::start("", &[]);
    let mut first = Client::on(&node, "news");
    let mut second = Client::on(&node, "news");
    Api::of(&node).trigger(&["news"], "marker", json!(1));
    first.expect("marker", "news");
    second.expect("marker", "news");
}
