//! An echo server on the node's own socket layer, for WebSocket conformance suites: `docs/reports/autobahn.md` says how.
//!
//! The layer is the product's: `transport/websocket.rs` and the hub's connection with its outbox. What this file adds is a
//! handshake, and a dialect that says back what it hears.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use backplane::local;
use hub::{Authority, Connection, Hub, Question, Sink, Worker};
use model::dialect::{Goodbye, View};
use model::{
    Action, App, Broadcast, Dialect, Encoding, Heartbeat, Message, Notice, OpenRequest, Opening, Refusal, State,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

// Without TLS here.
#[allow(dead_code)]
#[path = "../src/stream.rs"]
mod stream;

// The node also turns clients away; an echo server takes everybody in.
#[allow(dead_code)]
#[path = "../src/transport/websocket.rs"]
mod websocket;

/// Larger than what a suite sends as one message.
const FRAME_BYTES: usize = 32 << 20;

/// A head that is larger is no handshake.
const HEAD_BYTES: usize = 16 << 10;

static DIALECTS: [&dyn Dialect; 1] = [&Echo];

tokio::task_local! {
    /// Whose message is being read: answers of a dialect are text, so binary ones go out here.
    static SPEAKER: Rc<Connection>;
}

fn main() -> anyhow::Result<()> {
    let port = std::env::args().nth(1).map_or(Ok(9001), |port| port.parse()).context("usage: echo [PORT]")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, serve((Ipv4Addr::LOCALHOST, port).into()))
}

async fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let settings = hub::Settings {
        workers: 1,
        inbox_bytes: 1 << 20,
        batch_events: 256,
        batch_bytes: 256 << 10,
        outbox_bytes: 4 * FRAME_BYTES,
        outbox_total_bytes: 16 * FRAME_BYTES,
        gap_spread: Duration::ZERO,
        node: 1,
    };
    let hub = Hub::new(settings, &DIALECTS);
    let backplane = local::start(local::Settings::default(), hub.clone());
    let worker = Worker::new(hub, backplane, Box::new(Nobody), 0);
    tokio::task::spawn_local(worker.clone().run());
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    println!("listening {}", listener.local_addr()?);
    // A suite is silent for as long as it likes.
    let app = Arc::new(App { activity_timeout: 3_600, ..App::new("echo", "echo", "echo") });
    loop {
        let (stream, _) = listener.accept().await?;
        let (worker, app) = (worker.clone(), app.clone());
        tokio::task::spawn_local(async move {
            // A client without a handshake concerns nobody else.
            let _ = echo(stream, worker, app).await;
        });
    }
}

async fn echo(mut stream: TcpStream, worker: Rc<Worker>, app: Arc<App>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let (key, rest) = read_head(&mut stream).await?;
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    let opening = Opening::default();
    let connection = worker.open(Sink::Plain(stream), answer.into_bytes(), app, 0, opening);
    SPEAKER.scope(connection.clone(), websocket::serve(worker, connection, rest, FRAME_BYTES)).await;
    Ok(())
}

/// The client's key, and what it sent behind its request.
async fn read_head(stream: &mut TcpStream) -> anyhow::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        anyhow::ensure!(bytes.len() < HEAD_BYTES, "the head is too large");
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "the line ended within the head");
    };
    let rest = bytes.split_off(end);
    let head = String::from_utf8(bytes)?;
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    });
    match key {
        Some(key) => Ok((key, rest)),
        None => {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await?;
            anyhow::bail!("no WebSocket key");
        }
    }
}

/// Says back what it hears.
struct Echo;

impl Dialect for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn open(&self, _request: &OpenRequest<'_>) -> Result<Opening, (Refusal, State)> {
        Ok(Opening::default())
    }

    fn decode(&self, _state: &mut State, message: Message<'_>, out: &mut Vec<Action>) {
        match message {
            Message::Text(text) => out.push(Action::Reply(text.as_bytes().to_vec())),
            Message::Binary(bytes) => SPEAKER.with(|connection| connection.send_own(&binary(bytes))),
        }
    }

    fn notice(&self, _state: &State, _notice: &Notice<'_>, _out: &mut Vec<u8>) {}

    fn encoding(&self, _state: &State) -> Encoding {
        Encoding { dialect: 0, variant: 0, view: View::default(), positions: false }
    }

    fn broadcast(&self, _encoding: Encoding, _channel: &str, _broadcast: &Broadcast, _out: &mut Vec<u8>) {}

    fn heartbeat(&self, _: &State, app: &App) -> Heartbeat {
        Heartbeat { ping_after: app.activity_timeout, dead_after: app.activity_timeout, always: false }
    }

    fn goodbye(&self, _state: &State, refusal: &Refusal) -> Goodbye {
        Goodbye { message: Vec::new(), code: refusal.code(), reason: refusal.text().into() }
    }
}

/// A binary frame: a text frame with another first byte.
fn binary(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    model::Framing::WebSocket.message(payload, &mut frame);
    frame[0] = 0x82;
    frame
}

/// Whom nobody asks: there are no private channels here.
struct Nobody;

impl Authority for Nobody {
    fn ask(&self, _: Question) -> std::pin::Pin<Box<dyn Future<Output = Result<model::Proof, Refusal>>>> {
        Box::pin(std::future::ready(Err(model::Reason::NotPermitted.into())))
    }
}
