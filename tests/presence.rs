//! Who is present, cluster-wide: one join and one leave for each user, however many sockets they have.

use crate::support::client::Message;
use crate::support::prelude::*;

const ROOM: &str = "presence-room";

#[test]
fn a_users_second_socket_on_another_node_is_no_second_member() {
    let cluster = Cluster::start(3);
    let mut api = Api::of(&cluster.nodes[0]);
    let mut watcher = Client::present(&cluster.nodes[0], ROOM, "watcher");
    let mut first = Client::connect(&cluster.nodes[1]);
    let members = first.enter(ROOM, "ann").data();
    assert_eq!(members["presence"]["ids"], json!(["ann", "watcher"]));
    assert_eq!(watcher.expect("pusher_internal:member_added", ROOM).data()["user_id"], "ann");
    let mut second = Client::connect(&cluster.nodes[2]);
    assert_eq!(second.enter(ROOM, "ann").data()["presence"]["count"], 2);
    api.trigger(&[ROOM], "marker", json!(1));
    watcher.expect("marker", ROOM);
    drop(first);
    // The first socket's end must have come through before the marker: its node counts it.
    until("the first socket is gone", || (cluster.nodes[1].metric("fanfare_connections", &[]) == 0.0).then_some(()));
    api.trigger(&[ROOM], "marker", json!(2));
    watcher.expect("marker", ROOM);
    second.unsubscribe(ROOM);
    assert_eq!(watcher.expect("pusher_internal:member_removed", ROOM).data()["user_id"], "ann");
    api.trigger(&[ROOM], "marker", json!(3));
    watcher.expect("marker", ROOM);
}

#[test]
fn a_user_who_arrives_on_all_nodes_at_once_joins_once_and_leaves_once() {
    let cluster = Cluster::start(3);
    let mut watchers: Vec<Client> = Vec::new();
    for (number, node) in cluster.nodes.iter().enumerate() {
        watchers.push(Client::present(node, ROOM, &format!("watcher {number}")));
    }
    // Everyone asks before anyone waits for an answer.
    let mut sockets: Vec<(Client, String)> = Vec::new();
    for number in 0..24 {
        let user = format!("user {}", number % 8);
        let mut client = Client::connect(&cluster.nodes[number % 3]);
        client.ask_to_enter(ROOM, &user);
        sockets.push((client, user));
    }
    for (client, user) in &mut sockets {
        let members = client.until("pusher_internal:subscription_succeeded").1.data();
        assert!(members["presence"]["hash"][user.as_str()].is_object(), "{user} is among the members it is told");
    }
    drop(sockets);
    let mut left = Vec::new();
    let mut joined = Vec::new();
    let last = watchers.last_mut().unwrap();
    while left.len() < 8 {
        let message = last.next();
        let list = if message.event == "pusher_internal:member_added" { &mut joined } else { &mut left };
        list.push(message.data()["user_id"].as_str().unwrap().to_owned());
    }
    joined.sort();
    left.sort();
    let users: Vec<String> = (0..8).map(|number| format!("user {number}")).collect();
    assert_eq!((&joined, &left), (&users, &users));
    Api::of(&cluster.nodes[0]).trigger(&[ROOM], "marker", json!(0));
    last.expect("marker", ROOM);
    for watcher in &mut watchers[..2] {
        let (heard, _) = watcher.until("marker");
        let count = |user: &String, event: &str| {
            heard.iter().filter(|m| m.event == event && m.data()["user_id"] == **user).count()
        };
        for user in &users {
            let counts = ["pusher_internal:member_added", "pusher_internal:member_removed"].map(|e| count(user, e));
            assert_eq!(counts, [1, 1], "{user}");
        }
    }
}

#[test]
fn member_list_and_member_events_fit_without_a_seam() {
    let cluster = Cluster::start(2);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let coming = scope.spawn(|| {
            let mut rounds = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let mut client = Client::present(&cluster.nodes[0], ROOM, "restless");
                client.unsubscribe(ROOM);
                client.ping();
                rounds += 1;
            }
            rounds
        });
        for number in 0..30 {
            let mut client = Client::connect(&cluster.nodes[1]);
            let success = client.enter(ROOM, &format!("newcomer {number}"));
            let mut present = success.data()["presence"]["hash"]["restless"].is_object();
            for message in client.ping().iter().filter(|message| about_the_restless(message)) {
                let joins = message.event == "pusher_internal:member_added";
                assert_ne!(present, joins, "{} while present is {present}", message.event);
                present = joins;
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        println!("joined and left {} times meanwhile", coming.join().unwrap());
    });
}

fn about_the_restless(message: &Message) -> bool {
    message.data()["user_id"] == "restless"
}

#[test]
fn a_full_channel_refuses_new_members_and_lets_known_ones_in() {
    let cluster = Cluster::with(2, &[("FANFARE_APPS__MAIN__MEMBERS", "2")]);
    let _ann = Client::present(&cluster.nodes[0], ROOM, "ann");
    let mut bob = Client::present(&cluster.nodes[1], ROOM, "bob");
    let mut third = Client::connect(&cluster.nodes[0]);
    third.ask_to_enter(ROOM, "third");
    let error = third.expect("pusher:subscription_error", ROOM);
    assert_eq!(error.raw["data"]["type"], "LimitReached");
    let _tab = Client::present(&cluster.nodes[0], ROOM, "bob");
    Api::of(&cluster.nodes[0]).trigger(&[ROOM], "marker", json!(0));
    bob.expect("marker", ROOM);
    assert!(third.ping().is_empty());
}

#[test]
fn over_a_reload_within_the_grace_nobody_sees_the_user_leave() {
    let cluster = Cluster::with(2, &[("FANFARE_APPS__MAIN__PRESENCE_GRACE", "2")]);
    let mut watcher = Client::present(&cluster.nodes[0], "presence-room", "watcher");
    let page = Client::present(&cluster.nodes[0], "presence-room", "ann");
    watcher.expect("pusher_internal:member_added", "presence-room");
    drop(page);
    // The reloaded page comes to the other node.
    let page = Client::present(&cluster.nodes[1], "presence-room", "ann");
    let mut api = Api::of(&cluster.nodes[0]);
    let began = std::time::Instant::now();
    drop(page);
    let (before, left) = watcher.until("pusher_internal:member_removed");
    println!("left {:?} after the end", began.elapsed());
    assert_eq!((before.len(), left.data()["user_id"].as_str()), (0, Some("ann")));
    assert!(began.elapsed() >= Duration::from_secs(2));
    api.trigger(&["presence-room"], "marker", json!(0));
    assert!(watcher.until("marker").0.is_empty());
}
