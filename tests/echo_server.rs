//! Beside the real laravel-echo-server: the same answers to the same requests, and the same events from one Redis.

use crate::support::echo_server::{CLIENT_ID, CLIENT_KEY, EchoServer};
use crate::support::http::{APPLICATION, Response};
use crate::support::laravel::LaravelSite;
use crate::support::prelude::*;
use crate::support::socket_io::request;

/// One Redis, the application, the old server and a node.
struct Town {
    redis: Redis,
    site: LaravelSite,
    old: EchoServer,
    node: Node,
}

impl Town {
    fn start() -> Self {
        let (redis, site) = (Redis::start(), LaravelSite::start());
        let origin = format!("http://127.0.0.1:{}", site.port);
        let old = EchoServer::start(&redis, &origin);
        let auth_url = format!("{origin}/broadcasting/auth");
        let clients = format!("{CLIENT_ID}:{CLIENT_KEY}");
        let settings = [("FANFARE_APPS__MAIN__AUTH_URL", &*auth_url), ("FANFARE_APPS__MAIN__ECHO_CLIENTS", &*clients)];
        let node = Node::start(&redis.url(), &settings);
        Self { redis, site, old, node }
    }

    /// An Echo of the old days, as this user, on the old server or on the node.
    fn echo(&self, user: u32, is_old: bool) -> Browser {
        let port = if is_old { self.old.address.port() } else { self.node.address.port() };
        let choice = json!({
            "connector": "socket.io", "echo": "laravel-echo-1", "client": "socket.io-client-2", "port": port,
            "token": user.to_string(),
        });
        Browser::with_echo_of(&self.node, choice)
    }

    fn ask(&self, is_old: bool, method: &str, path: &str, key: &str, body: &str) -> Response {
        let to = if is_old { self.old.address } else { self.node.address };
        let key = if key.is_empty() { String::new() } else { format!("Authorization: Bearer {key}\r\n") };
        request(to, method, path, &format!("{key}Content-Type: application/json\r\n"), body)
    }

    /// Both answer this request with the same status and JSON.
    fn agree(&self, method: &str, path: &str, key: &str, body: &str) -> Value {
        let [old, new] = [true, false].map(|is_old| self.ask(is_old, method, path, key, body));
        let read = |answer: &Response| serde_json::from_str::<Value>(&answer.body).unwrap_or(json!(answer.body));
        let words = format!("{method} {path} {body}: {old:?} {new:?}");
        assert_eq!((old.status, read(&old)), (new.status, read(&new)), "{words}");
        read(&new)
    }
}

fn joins(echo: &mut Browser) {
    echo.tell(&json!({ "do": "join", "channel": "presence-room.1" }));
    echo.until(|told| told["kind"] == "here");
}

#[test]
fn its_http_api_is_answered_as_it_answers() {
    let town = Town::start();
    // On each server one user in a room, and nobody else.
    let mut clients = [town.echo(7, true), town.echo(7, false)];
    clients.iter_mut().for_each(joins);
    let path = |rest: &str| format!("/apps/{CLIENT_ID}/{rest}");
    let room = town.agree("GET", &path("channels/presence-room.1"), CLIENT_KEY, "");
    assert_eq!(room, json!({ "subscription_count": 1, "occupied": true, "user_count": 1 }));
    let all = town.agree("GET", &path("channels"), CLIENT_KEY, "");
    assert_eq!(all, json!({ "channels": { "presence-room.1": { "subscription_count": 1, "occupied": true } } }));
    town.agree("GET", &path("channels?filter_by_prefix=presence-"), CLIENT_KEY, "");
    assert_eq!(town.agree("GET", &path("channels?filter_by_prefix=other"), CLIENT_KEY, ""), json!({ "channels": {} }));
    town.agree("GET", &path("channels/nobody"), CLIENT_KEY, "");
    let users = town.agree("GET", &path("channels/presence-room.1/users"), CLIENT_KEY, "");
    assert_eq!(users["users"][0]["id"], 7);
    town.agree("GET", &path("channels/news/users"), CLIENT_KEY, "");
    // By a parameter instead of a header, and without a right key at all.
    town.agree("GET", &path(&format!("channels/nobody?auth_key={CLIENT_KEY}")), "", "");
    for key in ["", "wrong"] {
        assert_eq!(town.agree("GET", &path("channels"), key, ""), json!({ "error": "Unauthorized" }));
        town.agree("POST", &path("events"), key, r#"{"name":"e","channel":"news","data":{}}"#);
    }
    for incomplete in
        [r#"{"name":"e","data":{}}"#, r#"{"channel":"a","data":{}}"#, r#"{"name":"e","channel":"a"}"#, "{}"]
    {
        town.agree("POST", &path("events"), CLIENT_KEY, incomplete);
    }
    assert_eq!(town.ask(false, "GET", "/", "", "").body, "OK\n");
    let status: Value = serde_json::from_str(&town.ask(false, "GET", &path("status"), CLIENT_KEY, "").body).unwrap();
    assert_eq!(status["subscription_count"], 1);
    assert!(status["uptime"].as_f64().unwrap() > 0.0 && status["memory_usage"]["rss"].as_u64().unwrap() > 1 << 20);

    // What is posted is heard as it was meant, JSON or JSON's text.
    for client in &mut clients {
        client.tell(&json!({ "do": "listen", "channel": "presence-room.1", "event": "OrderShipped" }));
        client.tell(&json!({ "do": "say" }));
        client.until(|told| told["kind"] == "said");
    }
    for (data, number) in [(r#"{"number":1}"#, 1), (r#""{\"number\":2}""#, 2)] {
        let body = format!(r#"{{"name":"App\\Events\\OrderShipped","channels":["presence-room.1"],"data":{data}}}"#);
        assert_eq!(town.agree("POST", &path("events"), CLIENT_KEY, &body), json!({ "message": "ok" }));
        // The old one tells its own clients only, ours by way of Redis both.
        for (client, times) in clients.iter_mut().zip([2, 1]) {
            for _ in 0..times {
                assert_eq!(client.until(|told| told["kind"] == "event")["data"]["number"], number);
            }
        }
    }
    // What takes a signature does so still, and the app's own key is no bearer's.
    for (method, rest) in [("POST", "batch_events"), ("POST", "users/7/terminate_connections")] {
        assert_eq!(town.ask(false, method, &path(rest), CLIENT_KEY, "{}").status, 403);
    }
    let own = "/apps/main-id/channels";
    assert_eq!(town.ask(false, "GET", own, node::KEY, "").status, 401);
    assert_eq!(APPLICATION.get(town.node.address, "channels", &[]).status, 200);
    assert_eq!(APPLICATION.get(town.node.address, "status", &[]).status, 200);
}

#[test]
fn both_servers_on_one_redis_hear_the_same_events() {
    let town = Town::start();
    let mut laravel = Laravel::with("predis", &town.redis);
    let mut clients = [town.echo(7, true), town.echo(7, false)];
    for client in &mut clients {
        for channel in ["news", "private-orders.7"] {
            client.tell(&json!({ "do": "listen", "channel": channel, "event": "OrderShipped" }));
        }
        joins(client);
    }
    until("the node has them", || (town.node.metric("fanfare_subscriptions", &[]) == 3.0).then_some(()));
    let old = || town.ask(true, "GET", &format!("/apps/{CLIENT_ID}/channels/private-orders.7"), CLIENT_KEY, "").body;
    until("the old server has them", || old().contains("\"occupied\":true").then_some(()));
    laravel.broadcast(&["news"], 1);
    laravel.broadcast(&["private-orders.7"], 2);
    // What comes to the node with a key goes by the same Redis, read as the old server reads it.
    let event = json!({ "name": "App\\Events\\OrderShipped", "channel": "news", "data": r#"{"number":3}"# });
    let keyed = town.ask(false, "POST", &format!("/apps/{CLIENT_ID}/events"), CLIENT_KEY, &event.to_string());
    assert_eq!(keyed.body, r#"{"message":"ok"}"#);
    laravel.broadcast(&["news"], 4);
    for client in &mut clients {
        let numbers: Vec<u64> =
            (0..4).map(|_| client.until(|told| told["kind"] == "event")["data"]["number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
    }
    // The node keeps out of the old server's book of members, and the other way round.
    let users =
        |is_old| town.ask(is_old, "GET", &format!("/apps/{CLIENT_ID}/channels/presence-room.1"), CLIENT_KEY, "");
    assert!([true, false].map(users).iter().all(|said| said.body.contains("\"user_count\":1")));
    drop(town.site);
}
