//! The bench itself under test: a server that loses, doubles, swaps or misdirects events on purpose must be found out.

use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// Every fifth event reaches nobody.
    Loses,
    /// Every fifth event comes twice.
    Doubles,
    /// Every fifth event comes after the sixth.
    Swaps,
    /// Every fifth event goes to the subscribers of the other channel as well.
    Misroutes,
    /// Every fifth event is cut short.
    Cuts,
}

/// The least of Pusher's protocol, with a fault.
struct Server {
    fault: Fault,
    subscribers: Mutex<Vec<(String, mpsc::Sender<String>)>>,
    /// Events so far, and the one that is held back.
    events: Mutex<(u64, Option<(String, String)>)>,
}

impl Server {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let server = self.clone();
            tokio::spawn(async move {
                let mut first = [0; 4];
                stream.peek(&mut first).await.unwrap();
                if &first == b"POST" { server.api(stream).await } else { server.client(stream).await }
            });
        }
    }

    /// Takes publishes until the line is closed.
    async fn api(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        loop {
            let mut length = 0;
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                let line = line.trim_end().to_lowercase();
                if line.is_empty() {
                    break;
                }
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            self.event(text(&body["channels"][0]), text(&body["data"]));
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
        }
    }

    fn event(&self, channel: String, data: String) {
        let (n, held) = &mut *self.events.lock().unwrap();
        *n += 1;
        let is_fifth = n.is_multiple_of(5);
        match self.fault {
            Fault::Loses if is_fifth => return,
            Fault::Doubles if is_fifth => self.tell(&channel, &channel, &data),
            Fault::Misroutes if is_fifth => {
                let (start, number) = channel.rsplit_once('-').unwrap();
                let other = format!("{start}-{}", if number == "0" { 1 } else { 0 });
                self.tell(&other, &channel, &data);
            }
            Fault::Cuts if is_fifth => return self.tell(&channel, &channel, &data[..data.len() - 2]),
            Fault::Swaps if is_fifth => {
                *held = Some((channel, data));
                return;
            }
            _ => {}
        }
        self.tell(&channel, &channel, &data);
        if held.as_ref().is_some_and(|(of, _)| *of == channel)
            && let Some((channel, data)) = held.take()
        {
            self.tell(&channel, &channel, &data);
        }
    }

    /// Tells the subscribers of a channel.
    fn tell(&self, to: &str, channel: &str, data: &str) {
        let frame = serde_json::json!({"event": "bench-event", "channel": channel, "data": data}).to_string();
        for (_, subscriber) in self.subscribers.lock().unwrap().iter().filter(|(name, _)| name == to) {
            subscriber.try_send(frame.clone()).unwrap();
        }
    }

    async fn client(&self, stream: TcpStream) {
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        let say = |text: &str| Message::text(text.to_owned());
        socket.send(say(r#"{"event":"pusher:connection_established","data":"{}"}"#)).await.unwrap();
        let asked = socket.next().await.unwrap().unwrap().into_text().unwrap();
        let asked: serde_json::Value = serde_json::from_str(&asked).unwrap();
        let (sender, mut frames) = mpsc::channel(1_000);
        self.subscribers.lock().unwrap().push((asked["data"]["channel"].as_str().unwrap().to_owned(), sender));
        socket.send(say(r#"{"event":"pusher_internal:subscription_succeeded","data":"{}"}"#)).await.unwrap();
        while let Some(frame) = frames.recv().await {
            if socket.send(say(&frame)).await.is_err() {
                return;
            }
        }
    }
}

/// Four clients on two channels, some 60 events, against such a server.
fn bench(fault: Fault) -> (Output, String) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Arc::new(Server { fault, subscribers: Mutex::default(), events: Mutex::default() });
    runtime.spawn(server.serve(listener));
    let words =
        ["fanout", "--connections", "4", "--channels", "2", "--rate", "120", "--seconds", "0.5", "--drain", "1"];
    let output = Command::new(env!("CARGO_BIN_EXE_fanfare-bench")).args(words).args(["--to", &url]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output, text)
}

#[test]
fn an_honest_server_passes() {
    let (output, text) = bench(Fault::None);
    assert!(output.status.success(), "{text}");
}

#[test]
fn a_server_with_a_fault_is_found_out_and_the_fault_is_named() {
    let names = [
        (Fault::Loses, "lost"),
        (Fault::Doubles, "doubled"),
        (Fault::Swaps, "late"),
        (Fault::Misroutes, "misrouted"),
        (Fault::Cuts, "damaged"),
    ];
    for (fault, name) in names {
        let (output, text) = bench(fault);
        let told = text.lines().last().unwrap_or_default();
        assert!(!output.status.success() && told.contains(name), "{fault:?}: {text}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused_with_the_reason() {
    let refused = |words: &[&str], reason: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_fanfare-bench")).args(words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(reason), "{words:?}: {text}");
    };
    refused(&["fanout", "--to", "http://127.0.0.1:1"], "Connection refused");
    refused(&["fanout", "--to", "http://192.0.2.1:80"], "--yes-i-own-this-host");
    refused(&["fanout", "--to", "ftp://127.0.0.1"], "write http://HOST:PORT");
    refused(&["connect", "--pid", "me"], "write a pid");
}
