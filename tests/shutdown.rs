//! SIGTERM: clients are sent elsewhere, members leave, the process ends well.

use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

use crate::support::folder::Folder;
use crate::support::http;
use crate::support::prelude::*;

const ROOM: &str = "presence-room";

#[test]
fn a_terminated_node_sends_its_clients_elsewhere_and_its_members_leave() {
    let mut cluster = Cluster::start(2);
    let mut watcher = Client::present(&cluster.nodes[1], ROOM, "watcher");
    let mut members: Vec<Client> = Vec::new();
    for number in 0..4 {
        members.push(Client::present(&cluster.nodes[0], ROOM, &format!("user {number}")));
    }
    let mut browser = Browser::connect(&cluster.nodes[0]);
    browser.subscribe("news");
    (0..4).for_each(|_| drop(watcher.expect("pusher_internal:member_added", ROOM)));
    cluster.nodes[0].signal("TERM");
    for member in &mut members {
        assert_eq!(member.close_code(), 4200);
    }
    browser.until(|told| told["kind"] == "state" && told["state"] == "connecting");
    let mut gone: Vec<String> = Vec::new();
    for _ in 0..4 {
        let left = watcher.expect("pusher_internal:member_removed", ROOM);
        gone.push(left.data()["user_id"].to_string());
    }
    gone.sort();
    assert_eq!(gone, [r#""user 0""#, r#""user 1""#, r#""user 2""#, r#""user 3""#]);
    assert_eq!(cluster.nodes[0].end().code(), Some(0));
    Api::of(&cluster.nodes[1]).trigger(&[ROOM], "marker", json!(0));
    watcher.expect("marker", ROOM);
}

#[test]
fn a_draining_node_says_so_at_once_and_serves_for_its_grace() {
    let mut node = Node::start("", &[("FANFARE_DRAIN__GRACE", "3"), ("FANFARE_DRAIN__SECONDS", "0")]);
    let mut before = Client::on(&node, "news");
    let start = Instant::now();
    node.signal("TERM");
    until("the node says that it drains", || (http::get(node.admin, "/ready").status == 503).then_some(()));
    let mut after = Client::on(&node, "news");
    let event = json!({ "name": "e", "channel": "news", "data": "1" }).to_string();
    assert_eq!(http::APPLICATION.post(node.address, "events", &event).status, 200);
    before.expect("e", "news");
    after.expect("e", "news");
    assert_eq!((before.close_code(), after.close_code()), (4200, 4200));
    assert_eq!(node.end().code(), Some(0));
    assert!(start.elapsed() >= Duration::from_secs(3), "the grace was kept");
}

#[test]
fn a_node_without_clients_ends_at_once_when_interrupted() {
    let mut node = Node::start("", &[("FANFARE_DRAIN__GRACE", "60"), ("FANFARE_DRAIN__SECONDS", "60")]);
    node.signal("INT");
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn a_second_signal_ends_a_drain() {
    let mut node = Node::start("", &[("FANFARE_DRAIN__GRACE", "60"), ("FANFARE_DRAIN__SECONDS", "60")]);
    let mut client = Client::connect(&node);
    node.signal("TERM");
    until("the node says that it drains", || (http::get(node.admin, "/ready").status == 503).then_some(()));
    node.signal("TERM");
    assert_eq!(client.close_code(), 1012);
    node.end();
}

#[test]
fn a_file_that_hangs_does_not_keep_a_node_from_its_end() {
    let folder = Folder::new();
    let (id, key, secret) = (node::APP_ID, node::KEY, node::SECRET);
    let file = folder.write("fanfare.toml", &format!("[apps.main]\nid = {id:?}\nkey = {key:?}\nsecret = {secret:?}\n"));
    let mut node = Node::with_file("", &file);
    std::fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    node.signal("HUP");
    // A FIFO can be opened so (0o4000: without waiting) when somebody reads it, who then waits for what we never write.
    let mut writer = std::fs::OpenOptions::new();
    writer.write(true).custom_flags(0o4000);
    let _writer = until("the node reads", || writer.open(&file).ok());
    node.signal("INT");
    assert_eq!(node.end().code(), Some(0));
}
