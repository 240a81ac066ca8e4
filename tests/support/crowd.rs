//! Clients that cost little: one thread for all of them, each a task that keeps a [`Story`] of what it hears, and comes
//! back when it was closed, where it should.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use super::client::signature;
use super::heard::Story;
use super::load::{EVENT, KEPT, Sources};
use super::node::{KEY, SECRET};
use super::websocket::{CLOSE, PING, PONG, TEXT, masked, take, upgrade};

/// The room that most members are in.
pub(crate) const ROOM: &str = "presence-room";
/// The event in the room that carries a marker's number.
pub(crate) const MARKER: &str = "marker";
/// How long a new connection may take to be let in by all channels.
const ADMISSION: Duration = Duration::from_secs(30);
/// What is told of a connection that could not be made, or that broke.
const NOBODY_THERE: u16 = 0;
/// As short as any library's first pause.
const SHORT: Duration = Duration::from_millis(200);

/// Addresses of nodes, of which each client gets the next: what a load balancer does.
#[derive(Clone)]
pub(crate) struct Door(Arc<(Mutex<Vec<SocketAddr>>, AtomicUsize)>);

impl Door {
    pub(crate) fn to(nodes: &[SocketAddr]) -> Self {
        Self(Arc::new((Mutex::new(nodes.to_vec()), AtomicUsize::new(0))))
    }

    pub(crate) fn aim(&self, nodes: &[SocketAddr]) {
        *self.0.0.lock().unwrap() = nodes.to_vec();
    }

    pub(crate) fn pick(&self) -> Option<SocketAddr> {
        let nodes = self.0.0.lock().unwrap();
        let turn = self.0.1.fetch_add(1, Ordering::Relaxed);
        nodes.get(turn % nodes.len().max(1)).copied()
    }
}

/// What a client does when its connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Returns {
    Never,
    /// As pusher-js: by Pusher's ranges of close codes, and a second after a line that broke.
    LikePusher,
    /// The same, with its position on each channel that tells one.
    Resuming,
    /// Whenever a line ends; after a try that failed it takes a breath.
    AtOnce,
}

impl Returns {
    /// After how long, if at all, by how it ended for one who was inside, or was not yet.
    fn after(self, code: u16, was_inside: bool) -> Option<Duration> {
        match (self, code) {
            (Self::AtOnce, _) => Some(if was_inside { Duration::ZERO } else { SHORT }),
            (Self::Never, _) | (_, 4000..=4099) => None,
            (_, 4200..=4299) => Some(Duration::ZERO),
            _ => Some(Duration::from_secs(1)),
        }
    }
}

/// Who a client is, and where it listens.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) door: Door,
    pub(crate) channels: Vec<String>,
    /// The room that it is in, where it is a user.
    pub(crate) room: String,
    pub(crate) user: Option<String>,
    pub(crate) returns: Returns,
}

impl Guest {
    /// Nobody's user, who does not come back.
    pub(crate) fn at(door: &Door, channels: &[&str]) -> Self {
        let channels = channels.iter().map(|channel| (*channel).to_owned()).collect();
        Self { door: door.clone(), channels, room: ROOM.to_owned(), user: None, returns: Returns::Never }
    }

    pub(crate) fn present(self, user: impl Into<String>) -> Self {
        Self { user: Some(user.into()), ..self }
    }

    pub(crate) fn returning(self, returns: Returns) -> Self {
        Self { returns, ..self }
    }

    fn all_channels(&self) -> Vec<String> {
        let room = self.user.as_ref().map(|_| &self.room);
        self.channels.iter().chain(room).cloned().collect()
    }
}

pub(crate) struct Listener {
    pub(crate) guest: Guest,
    story: Arc<Mutex<Story>>,
    task: AbortHandle,
    line: Arc<Notify>,
}

impl Listener {
    pub(crate) fn story(&self) -> MutexGuard<'_, Story> {
        self.story.lock().unwrap()
    }

    /// Its line breaks.
    pub(crate) fn hang_up(&self) {
        self.line.notify_one();
    }

    /// Gone without a word.
    pub(crate) fn leave(&self) {
        self.task.abort();
        self.story().inside = false;
    }
}

pub(crate) struct Crowd {
    pub(crate) listeners: Vec<Listener>,
    sources: Sources,
    runtime: Handle,
    /// With it goes the thread, and so do all clients.
    _end: oneshot::Sender<()>,
}

impl Crowd {
    pub(crate) fn new(sources: Sources) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        thread::spawn(move || drop(runtime.block_on(ended)));
        Self { listeners: Vec::new(), sources, runtime: handle, _end: end }
    }

    pub(crate) fn admit(&mut self, guest: Guest) {
        let story = Arc::new(Mutex::new(Story::of(self.sources.len())));
        let line = Arc::new(Notify::new());
        let living = live(guest.clone(), story.clone(), self.sources.clone(), line.clone());
        let task = self.runtime.spawn(living).abort_handle();
        self.listeners.push(Listener { guest, story, task, line });
    }

    pub(crate) fn all_inside(&self) -> bool {
        self.listeners.iter().all(|listener| listener.story().inside)
    }

    pub(crate) fn inside(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().filter(|listener| listener.story().inside)
    }

    /// Those who come back.
    pub(crate) fn returning(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().filter(|listener| listener.guest.returns != Returns::Never)
    }

    /// How often one of them came in, and how often one was turned away or cut off before that.
    pub(crate) fn tries(&self) -> (usize, usize) {
        let of = |story: &Story| {
            let left = story.stays as usize - usize::from(story.inside);
            (story.stays as usize, story.closes.len() - left)
        };
        let tries = self.listeners.iter().map(|listener| of(&listener.story()));
        tries.fold((0, 0), |sum, tries| (sum.0 + tries.0, sum.1 + tries.1))
    }

    /// Those who are in a room.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Listener> {
        self.inside().filter(|listener| listener.guest.user.is_some())
    }

    /// Member events so far were those of the scene being set.
    pub(crate) fn forget(&self) {
        self.listeners.iter().for_each(|listener| listener.story().changes.clear());
    }

    pub(crate) fn leave(&self) {
        self.listeners.iter().for_each(Listener::leave);
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Where it stands, by channel.
type Positions = HashMap<String, String>;

async fn live(guest: Guest, story: Arc<Mutex<Story>>, sources: Sources, line: Arc<Notify>) {
    let mut positions = Positions::new();
    loop {
        let code = match guest.door.pick() {
            Some(node) => tokio::select! {
                code = stay(node, &guest, &story, &sources, &mut positions) => code,
                () = line.notified() => NOBODY_THERE,
            },
            None => NOBODY_THERE,
        };
        let was_inside = story.lock().unwrap().closed(code);
        match guest.returns.after(code, was_inside) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return,
        }
    }
}

/// One connection, to its end: the close code.
async fn stay(
    node: SocketAddr,
    guest: &Guest,
    story: &Mutex<Story>,
    sources: &Sources,
    positions: &mut Positions,
) -> u16 {
    let Ok(Ok(stream)) = tokio::time::timeout(ADMISSION, TcpStream::connect(node)).await else { return NOBODY_THERE };
    let mut visit = Visit { stream, guest, story, sources, awaited: guest.all_channels(), positions };
    let admission = tokio::time::Instant::now() + ADMISSION;
    let Ok(Some(mut read)) = tokio::time::timeout_at(admission, visit.upgrade(node)).await else { return NOBODY_THERE };
    story.lock().unwrap().arrives();
    loop {
        while let Some((opcode, payload)) = take(&mut read) {
            match opcode {
                TEXT => visit.hears(&payload).await,
                PING => visit.say(PONG, &payload).await,
                CLOSE => {
                    visit.say(CLOSE, &payload).await;
                    return payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                }
                _ => {}
            }
        }
        // Whoever is not let in looks elsewhere; whoever is in waits for ever.
        let reading = visit.stream.read_buf(&mut read);
        let length = match visit.awaited.is_empty() {
            true => reading.await,
            false => match tokio::time::timeout_at(admission, reading).await {
                Ok(length) => length,
                Err(_) => return NOBODY_THERE,
            },
        };
        if !matches!(length, Ok(1..)) {
            return NOBODY_THERE;
        }
    }
}

struct Visit<'a> {
    stream: TcpStream,
    guest: &'a Guest,
    story: &'a Mutex<Story>,
    sources: &'a Sources,
    /// Channels that have not said yes.
    awaited: Vec<String>,
    positions: &'a mut Positions,
}

impl Visit<'_> {
    /// What came behind the answer; none: the server will not have it.
    async fn upgrade(&mut self, node: SocketAddr) -> Option<Vec<u8>> {
        self.stream.set_nodelay(true).ok()?;
        let path = format!("/app/{KEY}?protocol=7&client=crowd&version=1");
        self.stream.write_all(upgrade(node, &path, "").as_bytes()).await.ok()?;
        let mut read = Vec::new();
        loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                let behind = read.split_off(end + 4);
                return read.starts_with(b"HTTP/1.1 101").then_some(behind);
            }
            matches!(self.stream.read_buf(&mut read).await, Ok(1..)).then_some(())?;
        }
    }

    /// A failed write is followed by a failed read.
    async fn say(&mut self, opcode: u8, payload: &[u8]) {
        let _ = self.stream.write_all(&masked(true, opcode, payload)).await;
    }

    async fn hears(&mut self, text: &[u8]) {
        let message: Value = serde_json::from_slice(text).expect("JSON");
        let channel = message["channel"].as_str().unwrap_or_default();
        let data = || -> Value {
            let text = message["data"].as_str().map(serde_json::from_str);
            text.and_then(Result::ok).unwrap_or_else(|| message["data"].clone())
        };
        match message["event"].as_str().unwrap_or_default() {
            "pusher:connection_established" => self.subscribe(data()["socket_id"].as_str().unwrap()).await,
            "pusher_internal:subscription_succeeded" => self.admitted(channel, &message, &data()),
            "fanfare:gap" => self.hears_of_gap(channel),
            event => tell(&mut self.story.lock().unwrap(), event, &data()),
        }
        if let Some(position) = message["position"].as_str().filter(|_| self.guest.returns == Returns::Resuming) {
            self.positions.insert(channel.to_owned(), position.to_owned());
        }
    }

    /// Without a channel it speaks for all that keep nothing.
    fn hears_of_gap(&self, channel: &str) {
        let sources = self.sources;
        self.story.lock().unwrap().hears_of_gap(|source| match channel {
            "" => sources[source].channel != KEPT,
            channel => sources[source].channel == channel,
        });
    }

    async fn subscribe(&mut self, socket: &str) {
        for channel in self.awaited.clone() {
            let user = self.guest.user.as_ref().filter(|_| channel == self.guest.room);
            let member = user.map(|user| json!({ "user_id": user, "user_info": { "name": user } }).to_string());
            let mut data = match &member {
                Some(member) => {
                    let auth = signature(KEY, SECRET, socket, &channel, Some(member));
                    json!({ "channel": channel, "auth": auth, "channel_data": member })
                }
                None => json!({ "channel": channel }),
            };
            if self.guest.returns == Returns::Resuming {
                data["resume"] = self.positions.get(&channel).map_or(json!(true), |position| json!(position));
            }
            self.say(TEXT, json!({ "event": "pusher:subscribe", "data": data }).to_string().as_bytes()).await;
        }
    }

    fn admitted(&mut self, channel: &str, success: &Value, data: &Value) {
        let mut story = self.story.lock().unwrap();
        let recovered = success["recovered"].as_bool();
        assert_eq!(recovered.is_some(), self.positions.contains_key(channel), "who asks is told: {success}");
        for (index, source) in self.sources.iter().enumerate().filter(|(_, source)| source.channel == channel) {
            match recovered {
                Some(is_whole) => story.resumed(index, is_whole),
                None => story.admitted(index, source.next()),
            }
        }
        story.recovered += u64::from(recovered == Some(true));
        story.unrecovered += u64::from(recovered == Some(false));
        if channel == self.guest.room {
            let ids = data["presence"]["ids"].as_array().expect("ids");
            story.members = ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect();
        }
        self.awaited.retain(|awaited| *awaited != channel);
        if self.awaited.is_empty() {
            story.enters();
        }
    }
}

fn tell(story: &mut Story, event: &str, data: &Value) {
    let user = || data["user_id"].as_str().expect("a user").to_owned();
    match event {
        EVENT => story.hears(data["from"].as_u64().unwrap() as usize, data["n"].as_u64().unwrap()),
        "pusher_internal:member_added" => story.hears_of(user(), true),
        "pusher_internal:member_removed" => story.hears_of(user(), false),
        // The code of an error comes with the close.
        "pusher:error" | "fanfare:position" => {}
        MARKER => story.marker = data.as_u64().expect("a number"),
        other => story.strange.push(format!("{other} {data}")),
    }
}
