//! The road over HTTP, against a server of a few lines that checks the signature as a node does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fanfare_publisher::{Event, PublishError, Published, Publisher, RawJson};
use model::App;
use model::auth::{Request, verify_body, verify_head};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

fn app() -> App {
    App::new("app-id", "app-key", "app-secret")
}

/// What the server does with a request after it has read it.
#[derive(Clone, Copy)]
enum Then {
    Answer(&'static str),
    /// Answers, then closes the connection.
    Leave,
    /// Closes without an answer.
    Hang,
    Silence,
}

struct Server {
    url: String,
    heard: mpsc::Receiver<(String, String)>,
    connections: Arc<AtomicUsize>,
}

async fn serve(then: Then) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, heard) = mpsc::channel(1_000);
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(answer(stream, then, sender.clone()));
        }
    });
    Server { url, heard, connections }
}

async fn answer(mut stream: TcpStream, then: Then, sender: mpsc::Sender<(String, String)>) {
    while let Some((target, body)) = read_request(&mut stream).await {
        let (path, query) = target.split_once('?').unwrap();
        let pairs: Vec<(String, String)> =
            query.split('&').map(|pair| pair.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect();
        let request = Request { method: "POST", raw_path: path, path, query: &pairs };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let signed = verify_head(&app(), &request, now).and_then(|()| verify_body(&request, body.as_bytes()));
        sender.send((path.to_owned(), body)).await.unwrap();
        let text = match (signed, then) {
            (_, Then::Hang) => return,
            (_, Then::Silence) => return std::future::pending().await,
            (Err(refused), _) => format!("401 Unauthorized|{{\"error\":\"{}\"}}", refused.text),
            (Ok(()), Then::Answer(text)) => text.to_owned(),
            (Ok(()), Then::Leave) => "200 OK|{}".to_owned(),
        };
        let (status, body) = text.split_once('|').unwrap();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        if matches!(then, Then::Leave) {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut text = String::new();
    let mut some = [0; 4096];
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some((head.split(' ').nth(1)?.to_owned(), body.to_owned()));
            }
        }
        match stream.read(&mut some).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => text.push_str(std::str::from_utf8(&some[..n]).unwrap()),
        }
    }
}

fn publisher(server: &Server) -> Publisher {
    Publisher::http(&server.url, "app-id", "app-key", "app-secret").unwrap()
}

fn event() -> Event {
    Event::new("orders", "shipped", RawJson::parse(r#"{"a":1.0}"#).unwrap())
}

#[tokio::test]
async fn an_event_is_signed_and_its_connection_is_used_again() {
    let mut server = serve(Then::Answer("200 OK|{}")).await;
    let publisher = publisher(&server);
    for _ in 0..3 {
        assert_eq!(publisher.publish(&event()).await, Ok(Published { receivers: None }));
        let (path, body) = server.heard.recv().await.unwrap();
        assert_eq!(path, "/apps/app-id/events");
        assert_eq!(body, r#"{"channels":["orders"],"name":"shipped","data":"{\"a\":1.0}"}"#);
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn many_events_go_in_batches_of_ten() {
    let mut server = serve(Then::Answer("200 OK|{}")).await;
    let mut events = vec![event(); 11];
    events[0].channels.push("second".into());
    events[0].socket_id = Some("1.2".into());
    publisher(&server).publish_all(&events).await.unwrap();
    let (path, body) = server.heard.recv().await.unwrap();
    assert_eq!(path, "/apps/app-id/batch_events");
    let data = r#""name":"shipped","data":"{\"a\":1.0}""#;
    let begins = format!(
        r#"{{"batch":[{{"channel":"orders",{data},"socket_id":"1.2"}},{{"channel":"second",{data},"socket_id":"1.2"}},{{"channel":"#
    );
    assert!(body.starts_with(&begins), "{body}");
    assert_eq!(body.matches("\"channel\":").count(), 10);
    assert_eq!(server.heard.recv().await.unwrap().1.matches("\"channel\":").count(), 2);
}

#[tokio::test]
async fn a_wrong_secret_is_a_refusal_with_the_servers_words() {
    let server = serve(Then::Answer("200 OK|{}")).await;
    let wrong = Publisher::http(&server.url, "app-id", "app-key", "other").unwrap();
    match wrong.publish(&event()).await.unwrap_err() {
        PublishError::Refused { status: Some(401), text } => {
            assert!(text.starts_with("auth_signature does not"), "{text}")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn too_large_and_unavailable_are_told_apart() {
    let server = serve(Then::Answer("413 Payload Too Large|{\"error\":\"data has 20000 bytes\"}")).await;
    assert_eq!(publisher(&server).publish(&event()).await, Err(PublishError::TooLarge("data has 20000 bytes".into())));
    let server = serve(Then::Answer("503 Service Unavailable|")).await;
    let refused = PublishError::Refused { status: Some(503), text: "Service Unavailable".into() };
    assert_eq!(publisher(&server).publish(&event()).await, Err(refused));
}

#[tokio::test]
async fn a_connection_closed_while_idle_costs_no_event() {
    let mut server = serve(Then::Leave).await;
    let publisher = publisher(&server);
    for _ in 0..20 {
        publisher.publish(&event()).await.unwrap();
        server.heard.recv().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_or_late_leaves_the_events_fate_open_and_nothing_is_sent_twice() {
    for then in [Then::Hang, Then::Silence] {
        let mut server = serve(then).await;
        let publisher = publisher(&server).with_timeout(Duration::from_millis(300));
        let error = publisher.publish(&event()).await.unwrap_err();
        assert!(matches!(error, PublishError::MayHaveHappened(_)), "{error:?}");
        server.heard.recv().await.unwrap();
        assert!(server.heard.try_recv().is_err());
    }
}

#[tokio::test]
async fn nobody_there_is_told() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let publisher = Publisher::http(&format!("http://127.0.0.1:{port}"), "app-id", "app-key", "app-secret").unwrap();
    let error = publisher.publish(&event()).await.unwrap_err();
    assert!(matches!(error, PublishError::CannotReach { .. }), "{error:?}");
}
