//! What an operator reads: exact numbers for a small scenario, health, and logs without secrets.

use crate::support::http::{self, APPLICATION};
use crate::support::node::{APP_ID, SECRET};
use crate::support::prelude::*;

#[test]
fn a_small_scenario_is_counted_exactly() {
    let cluster = Cluster::start(1);
    let node = &cluster.nodes[0];
    let mut ann = Client::on(node, "news");
    let mut bob = Client::present(node, "presence-room", "bob");
    bob.subscribe("news");
    let plain = Socket::open(node.address, "/ws?channels=news").unwrap();
    bob.send("pusher:subscribe", json!({ "channel": "private-x", "auth": "main-key:00" }));
    bob.expect("pusher:subscription_error", "private-x");
    let event = |data: &str| json!({ "name": "e", "channels": ["news"], "data": data }).to_string();
    (0..3).for_each(|_| assert_eq!(APPLICATION.post(node.address, "events", &event("1")).status, 200));
    assert_eq!(http::Signer { secret: "wrong", ..APPLICATION }.post(node.address, "events", &event("1")).status, 401);
    cluster.redis.publish(&format!("{}news", node::PREFIX), r#"{"event":"marker"}"#);
    assert_eq!(ann.until("marker").0.len(), 3);
    assert_eq!(bob.until("marker").0.len(), 3);
    let _refused = Socket::open(node.address, "/app/unknown").unwrap();
    until("the refusal is counted", || (node.metric("fanfare_connections_rejected_total", &[]) == 1.0).then_some(()));
    ann.socket.close();
    assert_eq!(ann.close_code(), 1000);
    let closed = |reason: &str| node.metric("fanfare_connections_closed_total", &[("reason", reason)]);
    until("the close is counted", || (closed("client") == 1.0).then_some(()));

    let app = ("app", APP_ID);
    let check = |name: &str, labels: &[(&str, &str)], expected: f64| {
        let found = node.metric(&format!("fanfare_{name}"), labels);
        assert_eq!(found, expected, "{name} {labels:?}\n{}", http::get(node.admin, "/metrics").body);
    };
    check("ready", &[], 1.0);
    check("draining", &[], 0.0);
    check("backplane_up", &[], 1.0);
    check("build_info", &[], 1.0);
    check("connections", &[app, ("dialect", "pusher")], 1.0);
    check("connections", &[app, ("dialect", "plain")], 1.0);
    check("connections_opened_total", &[app, ("dialect", "pusher")], 2.0);
    check("connections_opened_total", &[app, ("dialect", "plain")], 1.0);
    check("connections_rejected_total", &[("reason", "unknown_app")], 1.0);
    check("subscriptions", &[app], 3.0);
    check("channels", &[app, ("kind", "presence")], 1.0);
    check("subscribe_total", &[app, ("kind", "public"), ("result", "ok")], 3.0);
    check("subscribe_total", &[app, ("kind", "presence"), ("result", "ok")], 1.0);
    check("subscribe_total", &[app, ("kind", "private"), ("result", "denied")], 1.0);
    check("auth_failures_total", &[app, ("kind", "http_signature")], 1.0);
    check("messages_published_total", &[app, ("source", "http")], 3.0);
    check("messages_delivered_total", &[app, ("dialect", "pusher")], 8.0);
    check("messages_delivered_total", &[app, ("dialect", "plain")], 4.0);
    check("messages_dropped_total", &[], 0.0);
    check("http_requests_total", &[("route", "/apps/{id}/events"), ("status", "200")], 3.0);
    check("http_requests_total", &[("route", "/apps/{id}/events"), ("status", "401")], 1.0);
    drop(plain);
}

#[test]
fn each_family_has_a_help_and_a_type_and_no_client_in_its_labels() {
    let node = Node::start("", &[]);
    let client = Client::present(&node, "presence-room", "ann");
    let text = http::get(node.admin, "/metrics").body;
    for secret in [&*client.id, "presence-room", "ann\"", "127.0.0.1", SECRET] {
        assert!(!text.contains(secret), "{secret} is in the metrics");
    }
    for line in text.lines().filter(|line| line.starts_with("fanfare_")) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let told =
            |what: &str| text.contains(&format!("# {what} {family} ")) || text.contains(&format!("# {what} {name} "));
        assert!(told("HELP") && told("TYPE"), "{name}");
    }
    assert!(text.contains("process_resident_memory_bytes"));
    let documents = include_str!("../docs/operations.md");
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE fanfare_")?.split(' ').next());
    let untold: Vec<&str> = families.filter(|name| !documents.contains(&format!("`fanfare_{name}"))).collect();
    assert!(untold.is_empty(), "metrics that docs/operations.md does not know: {untold:?}");
}

#[test]
fn health_tells_life_from_readiness() {
    let redis_that_is_not_there = format!("redis://127.0.0.1:{}", crate::support::ports::free());
    let node = Node::launch(&redis_that_is_not_there, &[]);
    let status = |path: &str| http::get(node.admin, path).status;
    assert_eq!((status("/live"), status("/health"), status("/ready")), (200, 200, 503));
    assert_eq!(status("/nowhere"), 404);
    assert_eq!(http::get(node.address, "/up").status, 200);
    assert_eq!(http::get(node.address, "/metrics").status, 404, "what is for operators is not for clients");
    assert!(node.log().iter().all(|line| serde_json::from_str::<Value>(line).is_ok()), "JSON lines when nobody looks");
}

#[test]
fn no_secret_is_in_any_log_line() {
    let redis = Redis::start();
    redis.ask(&["CONFIG", "SET", "requirepass", "Redis-password-83"]);
    let url = format!("redis://:Not-the-password-17@127.0.0.1:{}", redis.port);
    let wrong = Node::launch(&url, &[("FANFARE_LOG__LEVEL", "trace")]);
    until("the wrong password is told", || {
        wrong.log().iter().any(|line| line.to_lowercase().contains("password")).then_some(())
    });
    let url = format!("redis://:Redis-password-83@127.0.0.1:{}", redis.port);
    let right = Node::start(&url, &[("FANFARE_LOG__LEVEL", "trace")]);
    let mut client = Client::present(&right, "presence-room", "ann");
    let signature = client.sign("private-x", None);
    client.send("pusher:subscribe", json!({ "channel": "private-y", "auth": signature }));
    client.expect("pusher:subscription_error", "private-y");
    client.subscribe("private-x");
    Api::of(&right).trigger(&["private-x"], "e", json!(1));
    client.expect("e", "private-x");
    right.signal("TERM");
    client.close_code();
    let hex = signature.split_once(':').unwrap().1;
    for node in [&wrong, &right] {
        for line in node.log() {
            for secret in ["Redis-password-83", "Not-the-password-17", SECRET, node::OTHER_SECRET, hex] {
                assert!(!line.contains(secret), "{secret} in: {line}");
            }
        }
    }
    assert!(!right.log().is_empty());
}
