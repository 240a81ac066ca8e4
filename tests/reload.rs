//! Apps while the node runs: they come, change and go by the settings file, and nobody else notices.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::client::close_code;
use crate::support::folder::Folder;
use crate::support::http::{APPLICATION, Signer};
use crate::support::node::{APP_ID, KEY, OTHER_ID, OTHER_KEY, OTHER_SECRET, PREFIX, SECRET};
use crate::support::prelude::*;

/// What the first app's secret becomes.
const NEXT_SECRET: &str = "Hb5-the-next-one-after-it-m2";

/// The first app; `more`: lines of its table.
fn main_app(secret: &str, more: &str) -> String {
    format!("[apps.main]\nid = {APP_ID:?}\nkey = {KEY:?}\nsecret = {secret:?}\nredis_prefix = {PREFIX:?}\n{more}\n")
}

fn other_app() -> String {
    format!("[apps.other]\nid = {OTHER_ID:?}\nkey = {OTHER_KEY:?}\nsecret = {OTHER_SECRET:?}\n")
}

fn third_app() -> String {
    "[apps.third]\nid = \"third-id\"\nkey = \"third-key\"\nsecret = \"third-secret\"\n".to_owned()
}

const THIRDS: Signer = Signer { app_id: "third-id", key: "third-key", secret: "third-secret", clock: 0 };
const OTHERS: Signer = Signer { app_id: OTHER_ID, key: OTHER_KEY, secret: OTHER_SECRET, clock: 0 };

fn event(channel: &str) -> String {
    json!({ "name": "e", "channel": channel, "data": "1" }).to_string()
}

fn reloads(node: &Node, result: &str) -> f64 {
    node.metric("fanfare_reloads_total", &[("part", "apps"), ("result", result)])
}

/// Waits for the next reading after `before` of them.
fn until_taken(node: &Node, before: f64) {
    until("the settings are read anew", || (reloads(node, "taken") > before).then_some(()));
}

fn until_logged(node: &Node, words: &[&str]) {
    let logged = || node.log().iter().any(|line| words.iter().all(|word| line.contains(word)));
    until(&format!("the log says {words:?}"), || logged().then_some(()));
}

/// The code with which an app's door is shut; `None` when it is open.
fn refused(node: &Node, key: &str) -> Option<u16> {
    let mut socket = Socket::open(node.address, &format!("/app/{key}?protocol=7")).unwrap();
    match socket.next() {
        Frame::Text(text) if text.contains("connection_established") => None,
        _ => Some(close_code(&mut socket)),
    }
}

#[test]
fn apps_come_change_and_go_and_the_others_do_not_notice_on_one_node() {
    apps_come_change_and_go(None);
}

#[test]
fn apps_come_change_and_go_and_the_others_do_not_notice_on_redis() {
    apps_come_change_and_go(Some(&Redis::start()));
}

fn apps_come_change_and_go(redis: Option<&Redis>) {
    let folder = Folder::new();
    let file = folder.write("fanfare.toml", &(main_app(SECRET, "") + &other_app()));
    let mut node = Node::with_file(&redis.map(Redis::url).unwrap_or_default(), &file);
    let mut mine = Client::of(&node, KEY, SECRET);
    let mut theirs = Client::of(&node, OTHER_KEY, OTHER_SECRET);
    mine.subscribe("private-news");
    theirs.subscribe("news");
    theirs.enter("presence-room", "ann");

    // One comes.
    assert_eq!(refused(&node, "third-key"), Some(4001));
    folder.write("fanfare.toml", &(main_app(SECRET, "") + &other_app() + &third_app()));
    until("the new app is served", || refused(&node, "third-key").is_none().then_some(()));
    until_logged(&node, &["\"added\":\"third\"", "\"removed\":\"\"", "\"changed\":\"\""]);
    let mut thirds = Client::of(&node, "third-key", "third-secret");
    thirds.subscribe("private-news");
    assert_eq!(THIRDS.post(node.address, "events", &event("private-news")).status, 200);
    thirds.expect("e", "private-news");

    // One changes its secret, and how many channels a connection may have.
    let rotating = format!("previous_secret = {SECRET:?}\nchannels_per_connection = 2");
    folder.write("fanfare.toml", &(main_app(NEXT_SECRET, &rotating) + &other_app() + &third_app()));
    until_taken(&node, 1.0);
    until_logged(&node, &["main (secret, previous_secret, channels_per_connection)"]);
    mine.secret = NEXT_SECRET;
    mine.subscribe("private-next");
    mine.ask("news");
    mine.expect("pusher:subscription_error", "news");
    mine.send("pusher:unsubscribe", json!({ "channel": "private-next" }));
    mine.secret = SECRET;
    mine.subscribe("private-old");
    mine.send("pusher:unsubscribe", json!({ "channel": "private-old" }));
    for secret in [SECRET, NEXT_SECRET] {
        assert_eq!(Signer { secret, ..APPLICATION }.post(node.address, "events", &event("x")).status, 200);
    }
    folder.write("fanfare.toml", &(main_app(NEXT_SECRET, "") + &other_app() + &third_app()));
    until_taken(&node, 2.0);
    mine.ask("private-old");
    mine.expect("pusher:subscription_error", "private-old");
    assert_eq!(APPLICATION.post(node.address, "events", &event("x")).status, 401);
    mine.secret = NEXT_SECRET;
    mine.subscribe("private-next");

    // One goes.
    folder.write("fanfare.toml", &(third_app() + &main_app(NEXT_SECRET, "")));
    assert_eq!(theirs.close_code(), 4001);
    assert_eq!(refused(&node, OTHER_KEY), Some(4001));
    assert_eq!(OTHERS.post(node.address, "events", &event("news")).status, 404);
    until_logged(&node, &["\"removed\":\"other\""]);
    for name in ["fanfare_connections", "fanfare_subscriptions", "fanfare_channels"] {
        let left = || node.metric(name, &[("app", OTHER_ID)]);
        until(&format!("{name} of the app are none"), || (left() == 0.0).then_some(()));
    }
    if let Some(redis) = redis {
        let topics = ["news", "presence-room"].map(|channel| format!("{OTHER_ID}:{channel}"));
        until("its topics are left", || topics.iter().all(|topic| redis.listeners(topic) == 0).then_some(()));
    }

    // Nobody else noticed: the very connections of before heard nothing that was not theirs, and hear on.
    assert_eq!(mine.ping().len() + thirds.ping().len(), 0);
    let signer = Signer { secret: NEXT_SECRET, ..APPLICATION };
    assert_eq!(signer.post(node.address, "events", &event("private-news")).status, 200);
    mine.expect("e", "private-news");
    assert_eq!(THIRDS.post(node.address, "events", &event("private-news")).status, 200);
    thirds.expect("e", "private-news");

    // And it may come back as it was.
    folder.write("fanfare.toml", &(main_app(NEXT_SECRET, "") + &other_app() + &third_app()));
    until("it is served again", || refused(&node, OTHER_KEY).is_none().then_some(()));
    let mut back = Client::of(&node, OTHER_KEY, OTHER_SECRET);
    let welcome = back.enter("presence-room", "bob");
    assert_eq!(welcome.data()["presence"]["ids"], json!(["bob"]), "who was closed is not there any more");
    assert_eq!(OTHERS.post(node.address, "events", &event("presence-room")).status, 200);
    back.expect("e", "presence-room");
    assert_eq!((reloads(&node, "taken"), reloads(&node, "refused")), (5.0, 0.0));
    node.assert_well();
}

#[test]
fn what_is_wrong_changes_nothing_and_is_told() {
    let folder = Folder::new();
    let good = main_app(SECRET, "") + &other_app();
    let file = folder.write("fanfare.toml", &good);
    let mut node = Node::with_file("", &file);
    let mut mine = Client::of(&node, KEY, SECRET);
    let mut theirs = Client::of(&node, OTHER_KEY, OTHER_SECRET);
    let moved = |from: &str, to: &str| good.replace(from, to);
    let clash = third_app() + &format!("redis_prefix = \"{PREFIX}x\"\n");
    let cases = [
        ("[apps.main\n".to_owned(), "this is not TOML"),
        (moved("[apps.other]", "[apps.other]\nsecrets = 1"), "apps.other.secrets: no such key"),
        (moved(PREFIX, "elsewhere_"), "apps.main.redis_prefix: is \\\"elsewhere_\\\""),
        (moved(OTHER_ID, "renamed"), "apps.other.id: is \\\"renamed\\\""),
        (main_app(SECRET, "") + &clash, "apps.third.redis_prefix"),
        (main_app(SECRET, "secret_file = \"/nowhere\"\n"), "apps.main.secret_file"),
        (String::new(), "no app is left to serve"),
    ];
    for (number, (text, words)) in cases.iter().enumerate() {
        folder.write("fanfare.toml", text);
        until(&format!("refused: {words}"), || (reloads(&node, "refused") > number as f64).then_some(()));
        until_logged(&node, &["the settings stay as they were", words]);
    }
    fs::remove_file(&file).unwrap();
    until_logged(&node, &["the settings stay as they were", "cannot be read"]);
    assert_eq!((mine.ping().len(), theirs.ping().len()), (0, 0));
    assert_eq!((refused(&node, KEY), refused(&node, OTHER_KEY)), (None, None));
    assert_eq!(reloads(&node, "taken"), 0.0);

    // What a clash was with is gone, and is remembered all the same.
    folder.write("fanfare.toml", &(good + &third_app()));
    until("what is good is taken", || refused(&node, "third-key").is_none().then_some(()));
    folder.write("fanfare.toml", &(other_app() + &clash));
    until_logged(&node, &["apps.third.redis_prefix", "was"]);
    assert_eq!(mine.ping().len(), 0);
    node.assert_well();
}

#[test]
fn a_hangup_asks_for_a_reading_and_ends_nothing() {
    let folder = Folder::new();
    let file = folder.write("fanfare.toml", &main_app(SECRET, ""));
    let mut bare = Node::start("", &[]);
    let mut filed = Node::with_file("", &file);
    for node in [&mut bare, &mut filed] {
        let mut client = Client::on(node, "news");
        node.signal("HUP");
        until_taken(node, 0.0);
        node.signal("HUP");
        until_taken(node, 1.0);
        assert_eq!(client.ping().len(), 0);
        node.assert_well();
    }
    let settings = format!("[limits]\nframe_bytes = 1000\n[drain]\nseconds = 3\n{}", main_app(SECRET, ""));
    folder.write("fanfare.toml", &settings);
    filed.signal("HUP");
    until_logged(&filed, &["need a restart", "limits.frame_bytes"]);
    let named = |line: &String| line.contains("drain.seconds");
    assert!(!filed.log().iter().any(named), "the environment has that setting, and wins");
}

#[test]
fn mounted_files_that_are_swapped_are_seen() {
    let folder = Folder::new();
    let (secret, link) = (folder.path().join("..data/secret"), folder.path().join("fanfare.toml"));
    let text = |more: &str| {
        let file = secret.display().to_string();
        main_app(SECRET, more).replace(&format!("secret = {SECRET:?}"), &format!("secret_file = {file:?}"))
    };
    // As Kubernetes does it: `..data` is a link that is replaced at one stroke.
    let put = |version: &str, more: &str, secret: &str| {
        let path = folder.path().join(version);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("fanfare.toml"), text(more)).unwrap();
        fs::write(path.join("secret"), secret).unwrap();
        symlink(version, folder.path().join("..new")).unwrap();
        fs::rename(folder.path().join("..new"), folder.path().join("..data")).unwrap();
    };
    put("..1", "", SECRET);
    symlink("..data/fanfare.toml", &link).unwrap();
    let node = Node::with_file("", &link.display().to_string());
    let mut client = Client::on(&node, "private-a");
    // The secret alone, then the settings alone.
    put("..2", "", NEXT_SECRET);
    until_taken(&node, 0.0);
    until_logged(&node, &["\"changed\":\"main (secret)\""]);
    client.ask("private-b");
    client.expect("pusher:subscription_error", "private-b");
    client.secret = NEXT_SECRET;
    client.subscribe("private-b");
    put("..3", "channels_per_connection = 2", NEXT_SECRET);
    until_taken(&node, 1.0);
    client.ask("private-c");
    client.expect("pusher:subscription_error", "private-c");
}
