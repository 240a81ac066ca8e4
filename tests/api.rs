//! The HTTP API as an application uses it: who is there, what is published, what is refused.

use crate::support::browser::python;
use crate::support::http::{self, APPLICATION};
use crate::support::node::{APP_ID, KEY};
use crate::support::prelude::*;

fn get(api: &mut Api, path: &str, params: Value) -> Value {
    api.ask(json!({ "do": "get", "path": path, "params": params }))
}

#[test]
fn the_sdk_is_told_who_is_there_in_the_whole_cluster() {
    let cluster = Cluster::start(2);
    let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
    let mut api = Api::of(two);
    assert_eq!(get(&mut api, "/channels", json!({})), json!({ "channels": {} }));
    let _watching = [Client::on(one, "news"), Client::on(two, "news"), Client::on(one, "private-x")];
    let _present = [Client::present(one, "presence-room", "ann"), Client::present(two, "presence-room", "ann")];
    let mut bob = Client::present(one, "presence-room", "bob");
    let all = json!({ "channels": { "news": {}, "presence-room": {}, "private-x": {} } });
    assert_eq!(get(&mut api, "/channels", json!({})), all);
    let room = json!({ "channels": { "presence-room": { "user_count": 2, "subscription_count": 3 } } });
    // Others' subscriptions are known within a second; whether anybody is there is known at once.
    until("all counts are told", || {
        let params = json!({ "filter_by_prefix": "presence-", "info": "user_count,subscription_count" });
        (get(&mut api, "/channels", params) == room).then_some(())
    });
    let counted = json!({ "occupied": true, "subscription_count": 2 });
    until("both subscribers are counted", || {
        (get(&mut api, "/channels/news", json!({ "info": "subscription_count" })) == counted).then_some(())
    });
    assert_eq!(get(&mut api, "/channels/nobody", json!({})), json!({ "occupied": false }));
    let users = |api: &mut Api| get(api, "/channels/presence-room/users", json!({}));
    assert_eq!(users(&mut api), json!({ "users": [{ "id": "ann" }, { "id": "bob" }] }));
    let with_info = get(&mut api, "/channels/presence-room/users", json!({ "with_user_info": "1" }));
    assert_eq!(with_info["users"][1], json!({ "id": "bob", "user_info": { "name": "bob" } }));
    bob.unsubscribe("presence-room");
    bob.ping();
    until("bob is gone", || (users(&mut api) == json!({ "users": [{ "id": "ann" }] })).then_some(()));
    assert_eq!(get(&mut api, "/channels/presence-empty/users", json!({})), json!({ "users": [] }));
}

#[test]
fn a_publish_tells_the_counts_it_is_asked_for() {
    let node = Node::start("", &[]);
    let mut api = Api::of(&node);
    let mut room = Client::present(&node, "presence-room", "ann");
    room.subscribe("news");
    let publish = |channels: &[&str], info: &str| json!({ "do": "publish", "channels": channels, "event": "e", "data": "1", "info": info });
    let told = api.ask(publish(&["presence-room"], "user_count,subscription_count"));
    let counts = json!({ "user_count": 1, "subscription_count": 1 });
    assert_eq!(told, json!({ "channels": { "presence-room": counts } }));
    room.expect("e", "presence-room");
    let told = api.ask(publish(&["news", "nobody"], "subscription_count"));
    assert_eq!(told["channels"], json!({ "news": { "subscription_count": 1 }, "nobody": { "subscription_count": 0 } }));
    room.expect("e", "news");
    let event =
        |channel: &str, info: Option<&str>| json!({ "channel": channel, "name": "b", "data": "1", "info": info });
    let batch =
        [event("news", Some("subscription_count")), event("news", None), event("presence-room", Some("user_count"))];
    let told = api.ask(json!({ "do": "batch", "batch": batch }));
    assert_eq!(told, json!({ "batch": [{ "subscription_count": 1 }, {}, { "user_count": 1 }] }));
    assert_eq!(api.ask(json!({ "do": "batch", "batch": [event("news", None)] })), json!({}));
    for channel in ["news", "news", "presence-room", "news"] {
        room.expect("b", channel);
    }
    // Of channels of several kinds each tells what it has.
    let told = api.ask(publish(&["presence-room", "news"], "user_count,subscription_count"));
    let counts =
        json!({ "presence-room": { "user_count": 1, "subscription_count": 1 }, "news": { "subscription_count": 1 } });
    assert_eq!(told["channels"], counts);
}

#[test]
fn what_a_cache_channel_holds_is_told() {
    let node = Node::start("", &[("FANFARE_APPS__MAIN__CACHE_SECONDS", "100")]);
    let mut api = Api::of(&node);
    let cache = |api: &mut Api, channel: &str| get(api, &format!("/channels/{channel}"), json!({ "info": "cache" }));
    assert_eq!(cache(&mut api, "cache-price"), json!({ "occupied": false, "cache": null }));
    api.trigger(&["cache-price", "news"], "e", json!({ "eur": 1.5 }));
    let held = cache(&mut api, "cache-price");
    assert_eq!(held["cache"]["data"], r#"{"eur":1.5}"#);
    let ttl = held["cache"]["ttl"].as_u64().expect("a whole number of seconds");
    assert!((90..=100).contains(&ttl), "{held}");
    assert_eq!(cache(&mut api, "news"), json!({ "occupied": false, "cache": null }));
}

#[test]
fn arrays_and_escapes_in_a_request_are_read_as_they_are_signed() {
    let node = Node::start("", &[]);
    let _ann = Client::present(&node, "presence-room", "ann");
    // pusher-http-php signs `info` as `a,b` and sends `info[0]` and `info[1]`.
    let secret = model::app::Secret::new(node::SECRET);
    let path = format!("/apps/{APP_ID}/channels/presence-room");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut query = model::auth::sign_request(KEY, &secret, "GET", &path, b"", now);
    query.retain(|(name, _)| name != "auth_signature");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let signed = [&query[..], &[pair("info", "user_count,subscription_count")]].concat();
    let signature = model::auth::sign(&secret, model::auth::request_text("GET", &path, &signed).as_bytes());
    query.extend([pair("info%5B0%5D", "user_count"), pair("info%5B1%5D", "subscription_count")]);
    query.push(pair("auth_signature", &signature));
    let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let answer = http::get(node.address, &format!("{path}?{}", query.join("&")));
    assert_eq!((answer.status, &*answer.body), (200, r#"{"occupied":true,"user_count":1,"subscription_count":1}"#));
    let escaped = APPLICATION.get(node.address, "channels/%23server-to-user-ann", &[]);
    assert_eq!((escaped.status, &*escaped.body), (200, r#"{"occupied":false}"#));
}

#[test]
fn the_sdk_of_python_is_answered_and_takes_webhooks() {
    // It takes ids of digits only.
    let node = Node::start("", &[("FANFARE_APPS__MAIN__ID", "4711")]);
    let mut room = Client::present(&node, "presence-room", "ann");
    let mut python = python("api.py", &node, "4711");
    let mut call = |call: Value| -> Value {
        python.tell(&call.to_string());
        serde_json::from_str(&python.line().expect("the SDK is still there")).expect("a JSON line")
    };
    assert_eq!(call(json!(["trigger", "presence-room", "e", { "n": 1 }])), json!({}));
    assert_eq!(room.expect("e", "presence-room").data(), json!({ "n": 1 }));
    let batch = json!([{ "channel": "presence-room", "name": "b", "data": "1" }]);
    assert_eq!(call(json!(["trigger_batch", batch])), json!({}));
    room.expect("b", "presence-room");
    let counts = json!({ "channels": { "presence-room": { "user_count": 1 } } });
    assert_eq!(call(json!(["channels_info", "presence-", ["user_count"]])), counts);
    let occupied = json!({ "occupied": true, "user_count": 1, "subscription_count": 1 });
    assert_eq!(call(json!(["channel_info", "presence-room", ["user_count", "subscription_count"]])), occupied);
    assert_eq!(call(json!(["users_info", "presence-room"])), json!({ "users": [{ "id": "ann" }] }));
    let mut ann = Client::of_user(&node, "ann");
    assert_eq!(call(json!(["send_to_user", "ann", "hi", { "n": 2 }])), json!({}));
    ann.expect("hi", "#server-to-user-ann");
    let refused = call(json!(["users_info", "news"]));
    assert!(refused["error"].as_str().is_some_and(|text| text.contains("Only presence channels")), "{refused}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let body = format!(r#"{{"time_ms":{now},"events":[{{"name":"cache_miss","channel":"cache-x"}}]}}"#);
    let signature = model::auth::sign(&model::app::Secret::new(node::SECRET), body.as_bytes());
    assert_eq!(call(json!(["validate_webhook", KEY, signature, body]))["events"][0]["name"], "cache_miss");
}

#[test]
fn each_call_says_what_is_wrong_with_its_question() {
    let mut node = Node::start("", &[]);
    let ask = |call: &str, parameters: &[(&str, &str)], status: u16, words: &str| {
        let answer = APPLICATION.get(node.address, call, parameters);
        assert_eq!(answer.status, status, "{call} {parameters:?}: {}", answer.body);
        let body: Value = serde_json::from_str(&answer.body).expect("errors are JSON");
        assert!(body["error"].as_str().is_some_and(|text| text.contains(words)), "{call} {parameters:?}: {body}");
    };
    ask("channels", &[("info", "user_count")], 400, "filter_by_prefix=presence-");
    ask("channels", &[("info", "user_count"), ("filter_by_prefix", "private-")], 400, "filter_by_prefix=presence-");
    ask("channels", &[("info", "cache")], 400, "there are user_count, subscription_count");
    ask("channels", &[("info", "users")], 400, "\"users\"");
    ask("channels/news", &[("info", "user_count")], 400, "only presence channels have");
    ask("channels/news", &[("info", "nonsense")], 400, "there are user_count, subscription_count, cache");
    ask("channels/a%20b", &[], 400, "character other than");
    ask("channels/%23other", &[], 400, "character other than");
    ask(&format!("channels/{}", "x".repeat(201)), &[], 400, "longer than 200 bytes");
    ask("channels/%ff", &[], 400, "not UTF-8");
    ask("channels/news/users", &[], 400, "Only presence channels have users");
    ask("channels/news/other", &[], 404, "nothing at /apps/");
    ask("events", &[], 405, "takes POST only");
    ask("users/ann/terminate_connections", &[], 405, "takes POST only");
    let post = |call: &str, status: u16, words: &str| {
        let answer = APPLICATION.post(node.address, call, "{}");
        assert!(answer.status == status && answer.body.contains(words), "{call}: {} {}", answer.status, answer.body);
        answer
    };
    assert_eq!(post("channels", 405, "takes GET only").headers["allow"], "GET");
    post(&format!("users/{}/terminate_connections", "x".repeat(129)), 400, "more than 128 characters");
    post("users/a%20b/terminate_connections", 400, "a space or control character");
    assert_eq!(post("users/nobody/terminate_connections", 200, "{}").body, "{}");
    node.assert_well();
}

/// Every field of an event, wrong in every way.
#[test]
fn each_field_of_an_event_is_checked_alone_and_in_a_batch() {
    let mut node = Node::start("", &[]);
    let good = json!({ "name": "e", "channel": "news", "data": "1" });
    let names: Vec<String> = (0..101).map(|number| format!("c{number}")).collect();
    let long = "x".repeat(201);
    let wrong = [
        ("name", json!(null), "name is missing or no string"),
        ("name", json!(7), "name is missing or no string"),
        ("name", json!(""), "name has 0 bytes"),
        ("name", json!(long), "name has 201 bytes"),
        ("name", json!("pusher:x"), "begins with pusher:"),
        ("name", json!("pusher_internal:x"), "begins with pusher_internal:"),
        ("data", json!(null), "data is missing"),
        ("data", json!({ "a": 1 }), "data is no string"),
        ("data", json!(7), "data is no string"),
        ("channel", json!(null), "channels is missing"),
        ("channel", json!(7), "channel is no string"),
        ("channel", json!(["news"]), "channel is no string"),
        ("channel", json!(""), "empty"),
        ("channel", json!("a b"), "character other than"),
        ("channel", json!("room:1"), "character other than"),
        ("channel", json!("#other"), "character other than"),
        ("channel", json!("#server-to-user-"), "user id is empty"),
        ("channel", json!(long), "longer than 200 bytes"),
        ("channels", json!("news"), "channels is no array of strings"),
        ("channels", json!([7]), "channels is no array of strings"),
        ("channels", json!([]), "channels has 0 names"),
        ("channels", json!(names), "channels has 101 names"),
        ("channels", json!(["news", "é"]), "character other than"),
        ("socket_id", json!(7), "socket_id is not of the form"),
        ("socket_id", json!("1.2:x"), "socket_id is not of the form"),
        ("info", json!(7), "info is no string"),
        ("info", json!("cache"), "info has \"cache\""),
    ];
    let check = |call: &str, body: &Value, words: &[&str]| {
        let answer = APPLICATION.post(node.address, call, &body.to_string());
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        let told: Value = serde_json::from_str(&answer.body).expect("errors are JSON");
        let text = told["error"].as_str().unwrap_or_default();
        assert!(words.iter().all(|words| text.contains(words)), "{body}: {told}");
    };
    for (field, value, words) in &wrong {
        let mut event = good.clone();
        event[field] = value.clone();
        check("events", &event, &[words]);
        check("batch_events", &json!({ "batch": [good, event] }), &["batch[1]: ", words]);
    }
    for body in [json!([]), json!({}), json!({ "batch": null }), json!({ "batch": {} }), json!({ "batch": [7] })] {
        check("batch_events", &body, &[if body["batch"].is_array() { "batch[0]" } else { "array `batch`" }]);
    }
    check("batch_events", &json!({ "batch": vec![good.clone(); 11] }), &["batch has 11 events"]);
    assert_eq!(node.metric("fanfare_messages_published_total", &[("source", "http")]), 0.0);
    assert_eq!(APPLICATION.post(node.address, "events", &good.to_string()).status, 200);
    node.assert_well();
}

#[test]
fn an_app_has_its_own_limits_of_names() {
    let limits = [("FANFARE_APPS__MAIN__CHANNEL_NAME_BYTES", "10"), ("FANFARE_APPS__MAIN__EVENT_NAME_BYTES", "5")];
    let node = Node::start("", &limits);
    let post = |name: &str, channel: &str| {
        let body = json!({ "name": name, "channel": channel, "data": "1" }).to_string();
        APPLICATION.post(node.address, "events", &body).status
    };
    assert_eq!(post("12345", "1234567890"), 200);
    assert_eq!(post("123456", "news"), 400);
    assert_eq!(post("e", "12345678901"), 400);
}

#[test]
fn more_requests_than_the_app_may_make_are_told_to_wait() {
    let mut cluster = Cluster::with(2, &[("FANFARE_APPS__MAIN__API_REQUESTS_PER_SECOND", "10")]);
    let body = json!({ "name": "e", "channel": "news", "data": "1" }).to_string();
    let node = &cluster.nodes[0];
    let stranger = http::Signer { secret: "a guess", ..APPLICATION };
    (0..20).for_each(|_| assert_eq!(stranger.post(node.address, "events", &body).status, 401));
    let answers: Vec<_> = (0..30).map(|_| APPLICATION.post(node.address, "events", &body)).collect();
    let taken = answers.iter().filter(|answer| answer.status == 200).count();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    // Half of ten a second for each node, and what the time of the test gives.
    assert!((5..15).contains(&taken) && taken + refused.len() == 30, "{taken} taken, {} refused", refused.len());
    assert!(refused.iter().all(|answer| answer.headers["retry-after"] == "1" && answer.body.contains("10 requests")));
    until("there are requests again", || (APPLICATION.post(node.address, "events", &body).status == 200).then_some(()));
    cluster.nodes[0].assert_well();
}

#[test]
fn requests_whose_body_does_not_come_switch_the_api_off_for_nobody_else() {
    let mut node = Node::start("", &[]);
    let body = json!({ "name": "e", "channel": "news", "data": "1" }).to_string();
    let publish = |signer: &http::Signer| signer.post(node.address, "events", &body);
    let other =
        http::Signer { app_id: node::OTHER_ID, key: node::OTHER_KEY, secret: node::OTHER_SECRET, ..APPLICATION };
    let stranger = http::Signer { secret: "a guess", ..APPLICATION };
    let _strangers: Vec<_> = (0..300).map(|_| stranger.post_no_body(node.address, "events", &body)).collect();
    let failed = || node.metric("fanfare_auth_failures_total", &[("kind", "http_signature")]);
    until("the strangers were refused", || (failed() == 300.0).then_some(()));
    assert_eq!(publish(&APPLICATION).status, 200);
    let held: Vec<_> = (0..200).map(|_| APPLICATION.post_no_body(node.address, "events", &body)).collect();
    let full = until("the app has its share", || Some(publish(&APPLICATION)).filter(|answer| answer.status == 503));
    assert!(full.headers["retry-after"] == "1" && full.body.contains("Too many requests"), "{full:?}");
    assert_eq!(publish(&other).status, 200);
    drop(held);
    until("there are places again", || (publish(&APPLICATION).status == 200).then_some(()));
    node.assert_well();
}

#[test]
fn a_query_of_very_many_parameters_is_refused_unread() {
    let mut node = Node::start("", &[]);
    let query: Vec<String> = (0..101).map(|number| format!("x{number}[]=1")).collect();
    let answer = http::get(node.address, &format!("/apps/{APP_ID}/channels?{}", query.join("&")));
    assert!(answer.status == 400 && answer.body.contains("more than 100 parameters"), "{answer:?}");
    node.assert_well();
}

#[test]
fn an_app_has_no_more_connections_than_it_may() {
    let settings = [("FANFARE_APPS__MAIN__CONNECTIONS", "3"), ("FANFARE_APPS__OTHER__CONNECTIONS", "1")];
    let come_back = [&settings[..], &[("FANFARE_APPS__OTHER__WHEN_FULL", "come_back")]].concat();
    let cluster = Cluster::with(2, &come_back);
    let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
    let mut held = vec![Client::connect(one), Client::connect(one)];
    held.push(Client::connect(two));
    let refusal = |node: &Node, key: &str| {
        let mut socket = Socket::open(node.address, &format!("/app/{key}?protocol=7")).unwrap();
        let Frame::Text(first) = socket.next() else { panic!("a message first") };
        first.contains("pusher:error").then(|| crate::support::client::close_code(&mut socket))
    };
    let code = until("each node knows of the other's", || refusal(one, KEY).filter(|_| refusal(two, KEY).is_some()));
    assert_eq!(code, 4004);
    let _other = Client::of(one, node::OTHER_KEY, node::OTHER_SECRET);
    assert_eq!(refusal(one, node::OTHER_KEY), Some(4100));
    assert!(one.metric("fanfare_connections_rejected_total", &[("reason", "limit")]) >= 1.0);
    held.remove(0);
    until("there is a place again", || refusal(one, KEY).is_none().then_some(()));
}

#[test]
fn without_redis_a_question_is_answered_503_and_a_publish_with_info_publishes_nothing() {
    let mut cluster = Cluster::start(1);
    let node = &cluster.nodes[0];
    cluster.redis.kill();
    until("the link is lost", || (node.metric("fanfare_backplane_up", &[]) == 0.0).then_some(()));
    for call in ["channels", "channels/news", "channels/presence-x/users"] {
        let answer = APPLICATION.get(node.address, call, &[]);
        assert_eq!((answer.status, &*answer.headers["retry-after"]), (503, "1"), "{call}: {}", answer.body);
        assert!(answer.body.contains("no connection to Redis"), "{}", answer.body);
    }
    let body = json!({ "name": "e", "channel": "news", "data": "1", "info": "subscription_count" }).to_string();
    let answer = APPLICATION.post(node.address, "events", &body);
    assert!(answer.status == 503 && answer.body.contains("Nothing was published"), "{}", answer.body);
    let answer = APPLICATION.post(node.address, "users/ann/terminate_connections", "{}");
    assert!(answer.status == 503 && answer.body.contains("connections were not closed"), "{}", answer.body);
}

#[test]
fn an_answer_before_the_end_of_the_body_says_that_the_line_ends() {
    let node = Node::start("", &[("FANFARE_LIMITS__HTTP_BODY_BYTES", "2000")]);
    let large = APPLICATION.post(node.address, "events", &"x".repeat(100_000));
    assert_eq!((large.status, large.headers.get("connection").map(String::as_str)), (413, Some("close")));
    // The SDK keeps its lines; the next call takes another.
    let mut api = Api::of(&node);
    let event = |data: &str| json!({ "do": "trigger", "channels": ["news"], "event": "e", "data": data });
    for _ in 0..3 {
        assert_eq!(api.try_call(event(&"x".repeat(5_000))).0, 413);
        api.ask(event("small"));
    }
}
