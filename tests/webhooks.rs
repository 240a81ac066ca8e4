//! Webhooks: what happens is told to an application's endpoint, signed, in order, and until it is received.

use crate::support::back_end::BackEnd;
use crate::support::endpoint::{Endpoint, Told, hook};
use crate::support::folder::Folder;
use crate::support::http;
use crate::support::ports;
use crate::support::prelude::*;
use crate::support::tls::{Authority, Front};
use crate::support::wait::until_within;

const ALL: &str =
    "channel_occupied,channel_vacated,member_added,member_removed,client_event,cache_miss,subscription_count";

fn whisper(client: &mut Client, channel: &str, number: usize) {
    client.socket.send(&json!({ "event": "client-n", "channel": channel, "data": number }).to_string());
}

/// Whatever each kind says beside its name and channel.
fn each_kind_is_told(node: &Node, endpoint: &mut Endpoint) {
    let mut ann = Client::present(node, "presence-room", "ann");
    ann.subscribe("cache-price");
    ann.until("pusher:cache_miss");
    ann.socket.send(r#"{"event":"client-x","channel":"presence-room","data":{"a":[1,"x"]}}"#);
    ann.subscribe("news");
    let id = ann.id.clone();
    // Counts are told when they have held for a moment.
    let counts = |events: &[Value], n: u32| events.iter().filter(|event| event["subscription_count"] == n).count();
    until("the counts are told", || (counts(&endpoint.events(), 1) == 2).then_some(()));
    drop(ann);
    let events = until("all is over", || {
        let events = endpoint.events();
        let vacated = events.iter().filter(|event| event["name"] == "channel_vacated").count();
        (vacated == 3 && counts(&events, 0) == 2).then_some(events)
    });
    let of =
        |channel: &str| -> Vec<Value> { events.iter().filter(|event| event["channel"] == channel).cloned().collect() };
    let event = |name: &str, channel: &str| json!({ "name": name, "channel": channel });
    let member = |name: &str| json!({ "name": name, "channel": "presence-room", "user_id": "ann" });
    let count =
        |channel: &str, n: u32| json!({ "name": "subscription_count", "channel": channel, "subscription_count": n });
    let said = json!({ "name": "client_event", "channel": "presence-room", "event": "client-x", "data": { "a": [1, "x"] },
        "socket_id": id, "user_id": "ann" });
    let room = of("presence-room");
    for expected in [
        event("channel_occupied", "presence-room"),
        member("member_added"),
        said,
        member("member_removed"),
        event("channel_vacated", "presence-room"),
    ] {
        assert!(room.contains(&expected), "no {expected} in {room:#?}");
    }
    let place = |events: &[Value], name: &str| events.iter().position(|event| event["name"] == name);
    assert!(place(&room, "channel_occupied") < place(&room, "client_event"), "{room:#?}");
    assert!(place(&room, "member_added") < place(&room, "client_event"), "{room:#?}");
    assert!(place(&room, "client_event") < place(&room, "member_removed"), "{room:#?}");
    let price = of("cache-price");
    assert!(price.contains(&event("cache_miss", "cache-price")), "{price:#?}");
    assert!(price.contains(&count("cache-price", 1)), "{price:#?}");
    let news = of("news");
    assert_eq!(news[0], event("channel_occupied", "news"), "{news:#?}");
    assert!(news.contains(&count("news", 1)) && news.contains(&count("news", 0)), "{news:#?}");
    assert!(news.contains(&event("channel_vacated", "news")), "{news:#?}");
}

#[test]
fn each_kind_is_told_on_the_local_backplane() {
    let mut endpoint = Endpoint::start();
    let url = endpoint.url();
    let mut node = Node::start("", &hook(&url, ALL));
    each_kind_is_told(&node, &mut endpoint);
    node.assert_well();
}

#[test]
fn each_kind_is_told_on_redis_and_the_sdk_takes_every_request() {
    let mut endpoint = Endpoint::start();
    let url = endpoint.url();
    let cluster = Cluster::with(1, &hook(&url, ALL));
    each_kind_is_told(&cluster.nodes[0], &mut endpoint);
    let mut api = Api::of(&cluster.nodes[0]);
    for told in &endpoint.told {
        let headers = json!({ "content-type": told.header("content-type"), "x-pusher-key": told.header("x-pusher-key"),
            "x-pusher-signature": told.header("x-pusher-signature") });
        let answer = api.ask(json!({ "do": "webhook", "headers": headers, "body": told.body }));
        assert_eq!((&answer["valid"], &answer["events"]), (&json!(true), &json!(told.events)), "{}", told.body);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        let time = answer["time"].as_u64().unwrap();
        assert!(now - 60_000 < time && time <= now, "{time} is not about {now}");
        let forged = json!({ "do": "webhook", "headers": headers, "body": told.body.replace("channel", "chanel") });
        assert_eq!(api.ask(forged)["valid"], json!(false));
        assert!(told.head.starts_with("POST /hooks?x=1 HTTP/1.1\r\n"), "{}", told.head);
    }
}

#[test]
fn a_cluster_tells_each_thing_once_wherever_it_happened() {
    let mut endpoint = Endpoint::start();
    // What it says beside the status is nobody's affair.
    endpoint.back_end.answers("200 OK", "Connection: close\r\n", &"x".repeat(100_000));
    let url = endpoint.url();
    let mut cluster = Cluster::with(2, &hook(&url, "channel_occupied,client_event"));
    let mut one = Client::on(&cluster.nodes[0], "private-x");
    let mut two = Client::on(&cluster.nodes[1], "private-x");
    for number in 0..20 {
        let (sender, listener) = if number % 2 == 0 { (&mut one, &mut two) } else { (&mut two, &mut one) };
        whisper(sender, "private-x", number);
        listener.until("client-n");
    }
    let events = endpoint.wait_for(21);
    let mut said: Vec<u64> = events.iter().filter_map(|event| event["data"].as_u64()).collect();
    assert_eq!(events[0]["name"], "channel_occupied");
    assert_eq!((events.len(), said.len()), (21, 20), "{events:#?}");
    said.sort_unstable();
    assert_eq!(said, (0..20).collect::<Vec<_>>());
    let mut ids: Vec<String> = endpoint.told.iter().flat_map(Told::ids).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 21, "each event has an id of its own");
    let sent = || cluster.nodes.iter().map(|node| node.metric("fanfare_webhooks_sent_total", &[])).sum::<f64>();
    // Counted when the answer is read.
    until("all are counted", || (sent() >= 21.0).then_some(()));
    assert_eq!(sent(), 21.0);
    cluster.nodes.iter_mut().for_each(Node::assert_well);
}

/// `down`: an endpoint on this port is not there at first, or says no.
fn nothing_is_lost_and_the_order_is_kept(settings: &[(&str, &str)], redis: bool, mut up: impl FnMut() -> Endpoint) {
    let (cluster, node);
    let node = if redis {
        cluster = Cluster::with(1, settings);
        &cluster.nodes[0]
    } else {
        node = Node::start("", settings);
        &node
    };
    let channels = ["private-a", "private-b", "private-c"];
    let mut client = Client::connect(node);
    channels.iter().for_each(|channel| _ = client.subscribe(channel));
    for number in 0..60 {
        whisper(&mut client, channels[number % 3], number);
        if number % 9 == 8 {
            // Client events have a limit a second, which is not what is asked here.
            client.ping();
        }
    }
    until("a request has failed", || (node.metric("fanfare_webhooks_failed_total", &[]) >= 3.0).then_some(()));
    assert!(node.metric("fanfare_webhooks_queue_age_seconds", &[]) > 0.0);
    assert_eq!(node.metric("fanfare_webhooks_sent_total", &[]), 0.0);
    let mut endpoint = up();
    endpoint.wait_for(60);
    until("all are received", || (node.metric("fanfare_webhooks_sent_total", &[]) == 60.0).then_some(()));
    let events = endpoint.events();
    for (at, channel) in channels.iter().enumerate() {
        let said: Vec<usize> = events
            .iter()
            .filter(|event| event["channel"] == **channel)
            .map(|event| event["data"].as_u64().unwrap() as usize)
            .collect();
        assert_eq!(said, (0..60).filter(|number| number % 3 == at).collect::<Vec<_>>(), "{channel}");
    }
    assert_eq!(node.metric("fanfare_webhooks_lost_total", &[]), 0.0);
    assert!(node.metric("fanfare_webhooks_retried_total", &[]) >= 3.0);
    until("nothing waits", || (node.metric("fanfare_webhooks_queue_age_seconds", &[]) == 0.0).then_some(()));
    let complaints = node.log().into_iter().filter(|line| line.contains("a webhook is not received")).count();
    assert_eq!(complaints, 1, "an endpoint is complained of once a minute");
    assert!(!node.log().iter().any(|line| line.contains("/hooks")), "the path may hold a token");
}

const MANY: (&str, &str) = ("FANFARE_APPS__MAIN__CLIENT_EVENTS_PER_SECOND", "0");

#[test]
fn an_endpoint_that_was_not_there_is_told_everything_in_order() {
    let port = ports::free();
    let url = format!("http://127.0.0.1:{port}/hooks");
    let settings = [&hook(&url, "client_event")[..], &[MANY]].concat();
    nothing_is_lost_and_the_order_is_kept(&settings, false, || Endpoint::of(BackEnd::on(port)));
}

#[test]
fn an_endpoint_that_fails_is_told_again_on_redis() {
    let endpoint = Endpoint::start();
    endpoint.says("500 Internal Server Error");
    let url = endpoint.url();
    let settings = [&hook(&url, "client_event")[..], &[MANY]].concat();
    let mut endpoint = Some(endpoint);
    nothing_is_lost_and_the_order_is_kept(&settings, true, || {
        let endpoint = endpoint.take().expect("up once");
        // What it refused does not count.
        endpoint.back_end.asked();
        endpoint.says("202 Accepted");
        endpoint
    });
}

#[test]
fn what_no_one_takes_in_time_is_lost_counted_and_makes_room() {
    let mut endpoint = Endpoint::start();
    endpoint.says("302 Found");
    let url = endpoint.url();
    let settings = [&hook(&url, "client_event")[..], &[("FANFARE_WEBHOOKS__RETRY_SECONDS", "1.5")]].concat();
    let node = Node::start("", &settings);
    let mut client = Client::on(&node, "private-x");
    (0..3).for_each(|number| whisper(&mut client, "private-x", number));
    let lost = || node.metric("fanfare_webhooks_lost_total", &[("app", "main-id"), ("reason", "expired")]);
    until("the events are lost", || (lost() == 3.0).then_some(()));
    let tries = endpoint.events().len();
    assert!(tries >= 4, "the first events were tried twice at least: {tries}");
    endpoint.told.clear();
    endpoint.says("204 No Content");
    whisper(&mut client, "private-x", 3);
    assert_eq!(endpoint.wait_for(1)[0]["data"], 3, "what comes after is told");
    assert_eq!(lost(), 3.0);
}

/// The data of the client events that the endpoint took.
fn taken(endpoint: &mut Endpoint, poison: &str) -> Vec<u64> {
    endpoint.events();
    let taken = endpoint.told.iter().filter(|told| !told.body.contains(poison));
    taken.flat_map(|told| &told.events).filter_map(|event| event["data"].as_u64()).collect()
}

const POISON: &str = "\"data\":666";

#[test]
fn an_event_that_the_endpoint_will_not_have_is_given_up_and_the_others_are_told() {
    let mut endpoint = Endpoint::start();
    endpoint.back_end.refuses(POISON, "422 Unprocessable Content");
    let url = endpoint.url();
    let mut node = Node::start("", &[&hook(&url, "client_event")[..], &[MANY]].concat());
    let mut client = Client::on(&node, "private-x");
    let before = [0, 1, 666, 2, 3];
    before.iter().for_each(|number| whisper(&mut client, "private-x", *number));
    // Five times alone, and the pauses between.
    let all = |endpoint: &mut Endpoint| (taken(endpoint, POISON) == [0, 1, 2, 3]).then_some(());
    until_within(Duration::from_secs(40), "the others are told, in order", || all(&mut endpoint));
    let lost = |reason: &str| node.metric("fanfare_webhooks_lost_total", &[("app", "main-id"), ("reason", reason)]);
    until("it is counted", || (lost("refused") == 1.0).then_some(()));
    let given_up: Vec<_> = node.log().into_iter().filter(|line| line.contains("given up")).collect();
    assert!(given_up.len() == 1 && given_up[0].contains("422"), "{given_up:?}");
    let alone = endpoint.told.iter().filter(|told| told.events.len() == 1 && told.body.contains(POISON)).count();
    assert_eq!((alone, lost("expired")), (5, 0.0));
    node.assert_well();
}

#[test]
fn an_event_that_fails_for_good_does_not_hold_up_its_app() {
    let mut endpoint = Endpoint::start();
    endpoint.back_end.refuses(POISON, "500 Internal Server Error");
    let url = endpoint.url();
    let mut node = Node::start("", &[&hook(&url, "client_event")[..], &[MANY]].concat());
    let channels: Vec<String> = (0..8).map(|number| format!("private-{number}")).collect();
    let mut client = Client::connect(&node);
    channels.iter().for_each(|channel| _ = client.subscribe(channel));
    whisper(&mut client, "private-0", 666);
    // More than a node holds of an app, in all lanes.
    for number in 1_000..4_000 {
        whisper(&mut client, &channels[number % 8], number);
        if number % 100 == 0 {
            client.ping();
        }
    }
    let mut number = 4_000;
    let lost = || node.metric("fanfare_webhooks_lost_total", &[]);
    // Eight times alone, and a second at least between.
    until_within(Duration::from_secs(40), "the event is given up", || {
        whisper(&mut client, &channels[number % 8], number);
        number += 1;
        client.ping();
        (lost() == 1.0).then_some(())
    });
    until("all others are told", || (taken(&mut endpoint, POISON).len() == number - 1_000).then_some(()));
    let mut told = taken(&mut endpoint, POISON);
    told.sort_unstable();
    assert_eq!(told, (1_000..number as u64).collect::<Vec<_>>());
    assert_eq!(lost(), 1.0);
    node.assert_well();
}

#[test]
fn an_answer_counts_when_its_head_is_there() {
    let endpoint = Endpoint::start();
    endpoint.back_end.answers_and_hangs("200 OK\r\nContent-Length: 10");
    let url = endpoint.url();
    let node = Node::start("", &[&hook(&url, "client_event")[..], &[("FANFARE_WEBHOOKS__TIMEOUT", "0.5")]].concat());
    let mut client = Client::on(&node, "private-x");
    whisper(&mut client, "private-x", 1);
    let outcome = || {
        let metric = |name: &str| node.metric(&format!("fanfare_webhooks_{name}_total"), &[]);
        (metric("sent"), metric("failed"))
    };
    until("it is over", || (outcome() != (0.0, 0.0)).then_some(()));
    assert_eq!(outcome(), (1.0, 0.0));
}

#[test]
fn of_an_app_that_is_gone_nothing_waits() {
    let endpoint = Endpoint::start();
    endpoint.says("500 Internal Server Error");
    let folder = Folder::new();
    let app =
        |name: &str, id: &str, key: &str| format!("[apps.{name}]\nid = {id:?}\nkey = {key:?}\nsecret = \"s-{name}\"\n");
    let main = app("main", node::APP_ID, node::KEY);
    let hook = format!("[apps.other.webhooks.hook]\nurl = {:?}\nevents = [\"channel_occupied\"]\n", endpoint.url());
    let both = format!("{main}{}{hook}", app("other", node::OTHER_ID, node::OTHER_KEY));
    let mut node = Node::with_file("", &folder.write("fanfare.toml", &both));
    let mut client = Client::of(&node, node::OTHER_KEY, "s-other");
    client.subscribe("news");
    until("it waits", || (node.metric("fanfare_webhooks_queue_age_seconds", &[]) > 0.0).then_some(()));
    folder.write("fanfare.toml", &main);
    node.signal("HUP");
    until("the app is gone", || (node.metric("fanfare_reloads_total", &[("result", "taken")]) >= 1.0).then_some(()));
    let age =
        || http::get(node.admin, "/metrics").body.contains("fanfare_webhooks_queue_age_seconds{app=\"other-id\"}");
    until("nothing waits", || (!age()).then_some(()));
    node.assert_well();
}

#[test]
fn endpoints_are_told_what_they_asked_for_with_their_headers() {
    let (mut all, mut some) = (Endpoint::start(), Endpoint::start());
    let (url, other) = (all.url(), some.url());
    let of_other = |key: &str| format!("FANFARE_APPS__MAIN__WEBHOOKS__OTHER__{key}");
    let other = [
        (of_other("URL"), other.as_str()),
        (of_other("EVENTS"), "client_event"),
        (of_other("CHANNEL_PREFIX"), "private-a"),
        (of_other("CHANNEL_SUFFIX"), "-yes"),
        (of_other("HEADERS"), "X-Tenant: 7\nAuthorization: Bearer never-in-a-log"),
    ];
    let other: Vec<(&str, &str)> = other.iter().map(|(name, value)| (&**name, *value)).collect();
    let settings = [&hook(&url, ALL)[..], &other, &[("FANFARE_WEBHOOKS__BATCH_EVENTS", "1")]].concat();
    let node = Node::start("", &settings);
    let mut client = Client::connect(&node);
    let channels = ["private-a-no", "private-b-yes", "private-a-yes"];
    channels.iter().for_each(|channel| _ = client.subscribe(channel));
    channels.iter().enumerate().for_each(|(number, channel)| whisper(&mut client, channel, number));
    all.wait_for(9);
    let events = some.wait_for(1);
    assert_eq!((events.len(), &events[0]["channel"]), (1, &json!("private-a-yes")));
    let told = &some.told[0];
    assert_eq!((told.header("x-tenant"), told.header("authorization")), ("7", "Bearer never-in-a-log"));
    assert_eq!(told.header("content-type"), "application/json");
    assert!(all.told.iter().all(|told| told.events.len() == 1 && !told.head.contains("tenant")), "one event a request");
    assert!(!node.log().iter().any(|line| line.contains("never-in-a-log")));
}

#[test]
fn an_endpoint_that_hangs_holds_up_no_other_app() {
    let (silent, mut well) = (BackEnd::start(), Endpoint::start());
    let (url, other) = (silent.url("/"), well.url());
    let settings = [
        &hook(&url, "client_event")[..],
        &[
            MANY,
            ("FANFARE_APPS__OTHER__WEBHOOKS__HOOK__URL", &*other),
            ("FANFARE_APPS__OTHER__WEBHOOKS__HOOK__EVENTS", "client_event"),
        ],
    ]
    .concat();
    let node = Node::start("", &settings);
    let mut client = Client::on(&node, "private-x");
    (0..50).for_each(|number| whisper(&mut client, "private-x", number));
    client.ping();
    until("the silent endpoint is asked", || (!silent.asked().is_empty()).then_some(()));
    let mut other = Client::of(&node, node::OTHER_KEY, node::OTHER_SECRET);
    other.subscribe("private-x");
    whisper(&mut other, "private-x", 7);
    assert_eq!(well.wait_for(1)[0]["data"], 7);
}

#[test]
fn a_node_that_stops_hands_over_what_it_did_not_tell() {
    let mut endpoint = Endpoint::start();
    endpoint.says("503 Service Unavailable");
    let url = endpoint.url();
    let mut cluster = Cluster::with(1, &hook(&url, "client_event"));
    let mut client = Client::on(&cluster.nodes[0], "private-x");
    (0..5).for_each(|number| whisper(&mut client, "private-x", number));
    until("a request has failed", || {
        (cluster.nodes[0].metric("fanfare_webhooks_failed_total", &[]) >= 1.0).then_some(())
    });
    cluster.nodes[0].signal("TERM");
    assert!(cluster.nodes[0].end().success());
    endpoint.events();
    endpoint.told.clear();
    endpoint.says("200 OK");
    let _next = Node::start(&cluster.redis.url(), &hook(&url, "client_event"));
    let said: Vec<Value> = endpoint.wait_for(5).iter().map(|event| event["data"].clone()).collect();
    assert_eq!(said, [0, 1, 2, 3, 4].map(Value::from));
}

#[test]
fn a_node_without_redis_counts_all_that_is_lost_with_it() {
    let endpoint = Endpoint::start();
    endpoint.says("503 Service Unavailable");
    let url = endpoint.url();
    let mut node = Node::start("", &[&hook(&url, "client_event")[..], &[MANY]].concat());
    let mut client = Client::on(&node, "private-x");
    // More than it holds beside the backplane's queue.
    for number in 0..1_500 {
        whisper(&mut client, "private-x", number);
        if number % 100 == 99 {
            client.ping();
        }
    }
    node.signal("INT");
    assert!(node.end().success());
    let lost = node.log().into_iter().find(|line| line.contains("webhooks were not received")).expect("it says so");
    let lost: Value = serde_json::from_str(&lost).expect("a JSON line");
    assert_eq!(lost["lost"], 1_500);
}

#[test]
fn an_endpoint_behind_tls_is_told_when_its_certificate_is_trusted() {
    let mut endpoint = Endpoint::start();
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let front = Front::of(endpoint.back_end.port, &ours.certify());
    let url = format!("https://127.0.0.1:{}/hooks", front.port);
    let folder = Folder::new();
    let start = |authority: &Authority, name: &str| {
        let trusted = folder.write(name, &authority.pem());
        Node::start("", &[&hook(&url, "channel_occupied")[..], &[("SSL_CERT_FILE", &trusted)]].concat())
    };
    let suspicious = start(&other, "other.pem");
    let _client = Client::on(&suspicious, "news");
    until("it is not trusted", || {
        let said = suspicious.log().into_iter().find(|line| line.contains("a webhook is not received"));
        said.map(|line| assert!(line.contains("certificate"), "{line}"))
    });
    assert!(endpoint.events().is_empty());
    let trusting = start(&ours, "ours.pem");
    let _client = Client::on(&trusting, "news");
    assert_eq!(endpoint.wait_for(1), [json!({ "name": "channel_occupied", "channel": "news" })]);
}

#[test]
fn when_the_telling_node_is_killed_another_tells_what_it_had_not() {
    let mut endpoint = Endpoint::start();
    endpoint.says("503 Service Unavailable");
    let url = endpoint.url();
    let mut cluster = Cluster::with(2, &hook(&url, "client_event"));
    let mut clients: Vec<Client> = cluster.nodes.iter().map(|node| Client::on(node, "private-x")).collect();
    (0..5).for_each(|number| whisper(&mut clients[0], "private-x", number));
    (0..5).for_each(|_| _ = clients[1].until("client-n"));
    let failed = |node: &Node| node.metric("fanfare_webhooks_failed_total", &[]) >= 1.0;
    let telling = until("one of them tells", || cluster.nodes.iter().position(failed));
    until("all five are with it", || (endpoint.events().iter().any(|event| event["data"] == 4)).then_some(()));
    cluster.nodes[telling].kill();
    endpoint.says("200 OK");
    let sent = || cluster.nodes[1 - telling].metric("fanfare_webhooks_sent_total", &[]);
    until("the other has told them", || (sent() == 5.0).then_some(()));
    let mut by_id = std::collections::BTreeMap::new();
    endpoint.events();
    for told in &endpoint.told {
        for (id, event) in told.ids().into_iter().zip(&told.events) {
            let first = by_id.entry(id).or_insert_with(|| event.clone());
            assert_eq!(first, event, "the same id for the same event");
        }
    }
    assert_eq!(by_id.len(), 5, "told again under the same ids");
}

#[test]
fn a_webhook_that_is_written_while_the_node_runs_is_told() {
    let (mut first, mut second) = (Endpoint::start(), Endpoint::start());
    let folder = Folder::new();
    let app = |url: &str| {
        let (id, key, secret) = (node::APP_ID, node::KEY, node::SECRET);
        let hook = format!("[apps.main.webhooks.hook]\nurl = {url:?}\nevents = [\"channel_occupied\"]\n");
        let hook = if url.is_empty() { String::new() } else { hook };
        format!("[apps.main]\nid = {id:?}\nkey = {key:?}\nsecret = {secret:?}\n{hook}")
    };
    let file = folder.write("fanfare.toml", &app(""));
    let mut node = Node::with_file("", &file);
    let mut client = Client::on(&node, "before");
    let write = |url: &str, count: f64| {
        folder.write("fanfare.toml", &app(url));
        let taken = || node.metric("fanfare_reloads_total", &[("part", "apps"), ("result", "taken")]);
        until("the settings are read anew", || (taken() >= count).then_some(()));
    };
    write(&first.url(), 1.0);
    client.subscribe("one");
    assert_eq!(first.wait_for(1)[0]["channel"], "one");
    first.says("500 Internal Server Error");
    client.subscribe("two");
    until("the second is refused", || (first.events().len() == 2).then_some(()));
    write(&second.url(), 2.0);
    assert_eq!(second.wait_for(1)[0]["channel"], "two", "what was not received goes to the new endpoint");
    client.subscribe("three");
    assert_eq!(second.wait_for(2)[1]["channel"], "three");
    write("", 3.0);
    client.subscribe("four");
    write(&second.url(), 4.0);
    client.subscribe("five");
    assert_eq!(second.wait_for(3)[2]["channel"], "five", "nobody wanted to know of the fourth");
    node.assert_well();
}

#[test]
fn a_node_without_redis_tells_how_its_channels_ended_before_it_stops() {
    let mut endpoint = Endpoint::start();
    let url = endpoint.url();
    let mut node = Node::start("", &hook(&url, "channel_occupied,channel_vacated"));
    let _client = Client::on(&node, "news");
    endpoint.wait_for(1);
    node.signal("TERM");
    assert_eq!(endpoint.wait_for(2)[1], json!({ "name": "channel_vacated", "channel": "news" }));
    assert!(node.end().success());
}
