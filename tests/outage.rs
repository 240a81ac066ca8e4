//! Redis goes away: what single clients are told then. What whole clusters go through is in `faults`.

use std::time::Instant;

use crate::support::folder::Folder;
use crate::support::http;
use crate::support::prelude::*;
use crate::support::tls::{Authority, Front};

#[test]
fn a_cut_link_is_made_anew_and_the_gap_is_told() {
    let redis = Redis::start();
    let relay = Relay::start(redis.port);
    let node = Node::start(&relay.url(), &[]);
    let mut notified = Client::on(&node, "news");
    let mut bystander = Client::connect(&node);
    relay.cut();
    let gap = notified.next();
    assert_eq!((&*gap.event, &*gap.channel), ("fanfare:gap", ""));
    redis.publish(&format!("{}news", node::PREFIX), r#"{"event":"after"}"#);
    notified.expect("after", "news");
    assert!(bystander.ping().is_empty(), "without a subscription there is no gap");
}

#[test]
fn an_app_may_have_its_clients_closed_at_a_gap() {
    let redis = Redis::start();
    let relay = Relay::start(redis.port);
    let node = Node::start(&relay.url(), &[("FANFARE_APPS__MAIN__ON_GAP", "close")]);
    let mut client = Client::on(&node, "news");
    let mut bystander = Client::connect(&node);
    relay.cut();
    assert_eq!(client.close_code(), 4200);
    assert!(bystander.ping().is_empty());
}

#[test]
fn nobody_is_told_yes_while_redis_is_away() {
    let mut cluster = Cluster::start(1);
    cluster.redis.kill();
    until("the node is not ready", || (!cluster.nodes[0].is_ready()).then_some(()));
    let mut client = Client::connect(&cluster.nodes[0]);
    client.ask("news");
    assert!(client.ping().is_empty());
    let event = json!({ "name": "e", "channel": "news", "data": "1" }).to_string();
    let answer = http::APPLICATION.post(cluster.nodes[0].address, "events", &event);
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    cluster.redis.restart();
    client.expect("pusher_internal:subscription_succeeded", "news");
}

#[test]
fn who_signs_in_while_redis_is_away_is_signed_in_when_it_is_back_and_watchers_learn_what_they_missed() {
    let mut cluster = Cluster::start(2);
    let mut ann = Client::connect(&cluster.nodes[0]);
    ann.sign_in(&json!({ "id": "ann", "watchlist": ["bob", "cy"] }));
    let event = "pusher_internal:watchlist_events";
    ann.expect(event, "");
    let bob = Client::of_user(&cluster.nodes[1], "bob");
    assert_eq!(ann.expect(event, "").data()["events"][0]["name"], "online");
    cluster.redis.kill();
    for node in &cluster.nodes {
        until("the node knows that Redis is gone", || (!node.is_ready()).then_some(()));
    }
    drop(bob);
    let mut cy = Client::connect(&cluster.nodes[1]);
    cy.ask_to_sign_in(r#"{"id":"cy"}"#);
    assert!(cy.ping().is_empty(), "nobody is told yes early");
    cluster.redis.restart();
    cy.expect("pusher:signin_success", "");
    let mut told = Vec::new();
    while told.len() < 2 {
        let next = ann.next();
        // Its own channel may have missed events meanwhile, if it hears it.
        assert!([event, "fanfare:gap"].contains(&&*next.event), "{:?}", next.raw);
        if next.event == event {
            let change = next.data()["events"][0].clone();
            told.push(format!("{} {}", change["name"], change["user_ids"][0]));
        }
    }
    told.sort();
    assert_eq!(told, [r#""offline" "bob""#, r#""online" "cy""#]);
    cy.subscribe("#server-to-user-cy");
}

#[test]
fn a_changed_password_is_taken_from_its_file_by_a_running_node_behind_tls() {
    let redis = Redis::start();
    redis.ask(&["ACL", "SETUSER", "node", "on", ">hush-one", "~*", "&*", "+@all"]);
    let authority = Authority::new("private");
    let front = Front::of(redis.port, &authority.certify());
    let folder = Folder::new();
    let url = |password: &str| format!("rediss://node:{password}@127.0.0.1:{}\n", front.port);
    let (file, ca) = (folder.write("url", &url("hush-one")), folder.write("ca.crt", &authority.pem()));
    let settings = [("FANFARE_REDIS__URL_FILE", &*file), ("FANFARE_REDIS__CA_FILE", &*ca)];
    let mut node = Node::start("", &settings);
    let mut client = Client::on(&node, "news");
    redis.ask(&["ACL", "SETUSER", "node", "resetpass", ">hush-two"]);
    redis.ask(&["CLIENT", "KILL", "USER", "node"]);
    let refused = || node.metric("fanfare_backplane_auth_failures_total", &[]) >= 2.0;
    until("logins are refused", || refused().then_some(()));
    assert!(node.log().iter().any(|line| line.contains("Redis refuses the user or the password")), "{:?}", node.log());
    folder.write("url", &url("hush-two"));
    let written = Instant::now();
    assert_eq!(client.next().event, "fanfare:gap");
    println!("back {:?} after the file had the new password", written.elapsed());
    assert!(written.elapsed() < Duration::from_secs(5), "{:?}", written.elapsed());
    redis.publish(&format!("{}news", node::PREFIX), r#"{"event":"after"}"#);
    client.expect("after", "news");
    let told = node.log().join("\n");
    assert!(!told.contains("hush"), "a password in the log: {told}");
    node.assert_well();
}
