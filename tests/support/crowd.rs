//! Many clients on one thread, each of which comes back at once when its line ends.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::node::{KEY, SECRET};
use super::websocket::{CLOSE, TEXT, masked};

/// What a client subscribes to: an open channel, and on presence channels the user that it is.
pub(crate) struct Wish {
    pub(crate) channel: String,
    pub(crate) presence: Option<(String, String)>,
}

#[derive(Default)]
struct Shared {
    /// Where clients go, in turn.
    nodes: Mutex<Vec<SocketAddr>>,
    live: AtomicUsize,
    /// Times that a try to come in failed.
    failed: AtomicUsize,
    came: AtomicUsize,
    turn: AtomicUsize,
    ended: AtomicBool,
}

pub(crate) struct Crowd {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    pub(crate) fn start(nodes: &[SocketAddr], wishes: Vec<Wish>) -> Self {
        let shared = Arc::new(Shared { nodes: Mutex::new(nodes.to_vec()), ..Shared::default() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let seen = shared.clone();
        let run = async move {
            for wish in wishes {
                tokio::spawn(stay(seen.clone(), wish));
            }
            while !seen.ended.load(SeqCst) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        Self { shared, thread: Some(thread::spawn(move || runtime.block_on(run))) }
    }

    /// From now on they come to these.
    pub(crate) fn aim(&self, nodes: &[SocketAddr]) {
        *self.shared.nodes.lock().unwrap() = nodes.to_vec();
    }

    /// Clients with all that they wish for.
    pub(crate) fn live(&self) -> usize {
        self.shared.live.load(SeqCst)
    }

    /// How often one of them came in, and how often one was turned away or cut off before that.
    pub(crate) fn tries(&self) -> (usize, usize) {
        (self.shared.came.load(SeqCst), self.shared.failed.load(SeqCst))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shared.ended.store(true, SeqCst);
        self.thread.take().map(JoinHandle::join);
    }
}

/// One client, for ever.
async fn stay(shared: Arc<Shared>, wish: Wish) {
    loop {
        let to = {
            let nodes = shared.nodes.lock().unwrap();
            nodes[shared.turn.fetch_add(1, SeqCst) % nodes.len()]
        };
        if let Some(mut line) = come(to, &wish).await {
            shared.came.fetch_add(1, SeqCst);
            shared.live.fetch_add(1, SeqCst);
            while line.next().await.is_some() {}
            shared.live.fetch_sub(1, SeqCst);
        } else {
            shared.failed.fetch_add(1, SeqCst);
            // As short as any library's first pause.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// In, with everything.
async fn come(to: SocketAddr, wish: &Wish) -> Option<Line> {
    let mut line = Line { stream: TcpStream::connect(to).await.ok()?, bytes: Vec::new() };
    let request = format!(
        "GET /app/{KEY}?protocol=7 HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    line.stream.write_all(request.as_bytes()).await.ok()?;
    line.head().await?;
    let welcome: Value = serde_json::from_str(&line.next().await?).ok()?;
    let data: Value = serde_json::from_str(welcome["data"].as_str()?).ok()?;
    let mut wanted = vec![json!({ "channel": wish.channel })];
    if let Some((channel, user)) = &wish.presence {
        let member = json!({ "user_id": user }).to_string();
        let text = model::auth::channel_text(data["socket_id"].as_str()?.parse().ok()?, channel, Some(&member));
        let sign = model::auth::sign(&model::app::Secret::new(SECRET), text.as_bytes());
        wanted.push(json!({ "channel": channel, "auth": format!("{KEY}:{sign}"), "channel_data": member }));
    }
    for data in &wanted {
        let text = json!({ "event": "pusher:subscribe", "data": data }).to_string();
        line.stream.write_all(&masked(true, TEXT, text.as_bytes())).await.ok()?;
    }
    let mut missing = wanted.len();
    while missing > 0 {
        let text = line.next().await?;
        missing -= usize::from(text.contains("pusher_internal:subscription_succeeded"));
    }
    Some(line)
}

struct Line {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Line {
    async fn read(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.bytes).await;
        matches!(read, Ok(1..)).then_some(())
    }

    /// The upgrade was granted.
    async fn head(&mut self) -> Option<()> {
        loop {
            if let Some(end) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let granted = self.bytes.starts_with(b"HTTP/1.1 101");
                self.bytes.drain(..end + 4);
                return granted.then_some(());
            }
            self.read().await?;
        }
    }

    /// The next message; `None` at the end of the line. Pings need no answer: none of this lasts for so long.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let [first, second, ..] = self.bytes[..] {
                let (start, length) = match (second, self.bytes.get(2..4)) {
                    (126, Some(length)) => (4, usize::from(u16::from_be_bytes([length[0], length[1]]))),
                    (126.., _) => (usize::MAX / 2, 0),
                    (short, _) => (2, usize::from(short)),
                };
                if self.bytes.len() >= start + length {
                    let text = String::from_utf8_lossy(&self.bytes[start..start + length]).into_owned();
                    self.bytes.drain(..start + length);
                    match first & 0x0f {
                        TEXT => return Some(text),
                        CLOSE => return None,
                        _ => continue,
                    }
                }
            }
            self.read().await?;
        }
    }
}
