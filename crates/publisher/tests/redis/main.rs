//! The road through Redis, against a real redis-server.

mod server;

use std::time::{Duration, Instant};

use fanfare_publisher::{Event, PublishError, Published, Publisher, RawJson};
use server::RedisServer;

/// Nothing listens on the first port.
const NOBODY: &str = "redis://127.0.0.1:1";

fn event(channel: &str, name: &str) -> Event {
    Event::new(channel, name, RawJson::parse(r#"{"a":1.0}"#).unwrap())
}

/// Subscribes in a thread and hands back the messages in their order.
fn listen(server: &RedisServer, channels: &[&str]) -> std::sync::mpsc::Receiver<(String, String)> {
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let channels: Vec<String> = channels.iter().map(|channel| (*channel).to_owned()).collect();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut subscription = connection.as_pubsub();
        subscription.subscribe(&channels).unwrap();
        ready.send(()).unwrap();
        while let Ok(message) = subscription.get_message() {
            let payload = message.get_payload().unwrap();
            if sender.send((message.get_channel_name().to_owned(), payload)).is_err() {
                return;
            }
        }
    });
    is_ready.recv().unwrap();
    receiver
}

fn next(messages: &std::sync::mpsc::Receiver<(String, String)>) -> (String, String) {
    messages.recv_timeout(Duration::from_secs(5)).expect("a message within 5 s")
}

#[tokio::test]
async fn an_event_arrives_on_each_channel_in_laravels_form() {
    let server = RedisServer::start(&[]);
    let heard = listen(&server, &["laravel_database_orders", "laravel_database_private-a"]);
    let publisher = Publisher::redis(&server.url(), "laravel_database_").unwrap();
    let mut event = event("orders", "shipped");
    event.channels.push("private-a".into());
    event.socket_id = Some("1.2".into());
    assert_eq!(publisher.publish(&event).await, Ok(Published { receivers: Some(2) }));
    let payload = r#"{"event":"shipped","data":{"a":1.0},"socket":"1.2"}"#;
    assert_eq!(next(&heard), ("laravel_database_orders".into(), payload.into()));
    assert_eq!(next(&heard), ("laravel_database_private-a".into(), payload.into()));
}

#[tokio::test]
async fn many_events_keep_their_order() {
    let server = RedisServer::start(&[]);
    let heard = listen(&server, &["c"]);
    let publisher = Publisher::redis(&server.url(), "").unwrap();
    let events: Vec<Event> = (0..500).map(|n| Event::new("c", format!("e{n}"), RawJson::null())).collect();
    publisher.publish_all(&events).await.unwrap();
    for n in 0..500 {
        assert_eq!(next(&heard).1, format!(r#"{{"event":"e{n}","data":null,"socket":null}}"#));
    }
}

#[tokio::test]
async fn a_redis_that_comes_back_is_used_by_the_next_call() {
    let server = RedisServer::start(&[]);
    let port = server.port;
    let publisher = Publisher::redis(&server.url(), "").unwrap();
    publisher.publish(&event("c", "e")).await.unwrap();
    drop(server);
    // The end of the connection is noticed without a publish; until then an answer may be lost, but never a false yes.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match publisher.publish(&event("c", "e")).await {
            Err(PublishError::CannotReach { address, .. }) => {
                break assert_eq!(address, format!("Redis at 127.0.0.1:{port}"));
            }
            Err(PublishError::MayHaveHappened(_)) => assert!(Instant::now() < deadline),
            other => panic!("{other:?}"),
        }
    }
    let _server = RedisServer::start_at(port);
    assert_eq!(publisher.publish(&event("c", "e")).await, Ok(Published { receivers: Some(0) }));
}

#[tokio::test]
async fn a_connection_lost_while_idle_costs_no_event() {
    let server = RedisServer::start(&[]);
    let publisher = Publisher::redis(&server.url(), "").unwrap();
    publisher.publish(&event("c", "e")).await.unwrap();
    let mut other = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).exec(&mut other).unwrap();
    // Lets the connection's own task see its end, as it would between two events.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(publisher.publish(&event("c", "e")).await, Ok(Published { receivers: Some(0) }));
}

#[tokio::test]
async fn an_answer_that_does_not_come_leaves_the_events_fate_open() {
    let server = RedisServer::start(&[]);
    let publisher = Publisher::redis(&server.url(), "").unwrap().with_timeout(Duration::from_millis(300));
    publisher.publish(&event("c", "e")).await.unwrap();
    let mut other = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    redis::cmd("CLIENT").arg("PAUSE").arg(1_500).exec(&mut other).unwrap();
    let error = publisher.publish(&event("c", "e")).await.unwrap_err();
    assert!(matches!(error, PublishError::MayHaveHappened(_)), "{error:?}");
    assert!(error.to_string().contains("may have been published"), "{error}");
}

#[tokio::test]
async fn a_replica_is_refused() {
    let master = RedisServer::start(&[]);
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let error = Publisher::redis(&replica.url(), "").unwrap().publish(&event("c", "e")).await.unwrap_err();
    assert!(matches!(&error, PublishError::Refused { text, .. } if text.contains("is a replica")), "{error:?}");
}

#[tokio::test]
async fn a_wrong_password_is_a_refusal_that_does_not_show_it() {
    let server = RedisServer::start(&["--requirepass", "right"]);
    for url in [format!("redis://:hush@127.0.0.1:{}", server.port), server.url()] {
        let error = Publisher::redis(&url, "").unwrap().publish(&event("c", "e")).await.unwrap_err();
        assert!(matches!(error, PublishError::Refused { status: None, .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("hush"));
    }
}

#[tokio::test]
async fn nobody_there_is_told_within_the_time() {
    let publisher = Publisher::redis(NOBODY, "").unwrap();
    let started = Instant::now();
    let error = publisher.publish(&event("c", "e")).await.unwrap_err();
    assert!(matches!(error, PublishError::CannotReach { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn what_no_node_would_take_is_refused_before_it_is_sent() {
    let publisher = Publisher::redis(NOBODY, "").unwrap();
    let refused = async |event: &Event| publisher.publish(event).await.unwrap_err();
    for (channel, name) in [("", "e"), ("a b", "e"), ("c", ""), ("c", "fanfare:roster")] {
        let error = refused(&event(channel, name)).await;
        assert!(matches!(error, PublishError::BadEvent(_)), "{channel} {name}: {error:?}");
    }
    let large = Event::new("c", "e", RawJson::string(&"x".repeat(1_100_000)));
    assert!(matches!(refused(&large).await, PublishError::TooLarge(_)));
}
