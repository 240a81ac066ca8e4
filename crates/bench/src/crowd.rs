//! Many clients: opened at a rate, each subscribed to one channel, counting what they hear.
//!
//! Each thread has a runtime and, where the system allows it, a table of open files of its own, so that a run may have more
//! connections than one process may open files.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use hdrhistogram::Histogram;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::stamp::Stamp;
use crate::tally::{self, Tally, Track};
use crate::target::{Node, Target};
use crate::tongue::{Socket, Tongue};

/// Connections from one source address: the system has some 28,000 ports for each.
const PER_SOURCE: usize = 20_000;

/// How long a client may take from connecting to being subscribed.
const OPEN_MAX: Duration = Duration::from_secs(60);

/// How long a second copy of the last event may take.
const AFTERMATH: Duration = Duration::from_millis(100);

/// How often a thread looks whether it is over.
const LOOK: Duration = Duration::from_millis(5);

/// How the clients come.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) connections: usize,
    pub(crate) channels: usize,
    pub(crate) threads: usize,
    /// Connections a second; `None`: as fast as they go.
    pub(crate) rate: Option<f64>,
    /// Connections at a time that are not subscribed yet.
    pub(crate) opening: usize,
    /// They change channels without pause, from when the crowd is told to.
    pub(crate) restless: bool,
    /// The number of the first; further crowds of a run begin where the last ended.
    pub(crate) first: usize,
}

/// What the threads tell while they run.
#[derive(Default, Debug)]
pub(crate) struct Progress {
    pub(crate) live: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) received: AtomicU64,
    begin: AtomicBool,
    over: AtomicBool,
}

/// What a thread hands back.
struct Heard {
    tally: Tally,
    tracks: Vec<Track>,
    opening: Histogram<u64>,
    why: Option<String>,
}

pub(crate) struct Crowd {
    pub(crate) progress: Arc<Progress>,
    threads: Vec<JoinHandle<Result<Heard>>>,
    connections: u64,
}

/// The end of a crowd.
pub(crate) struct Ended {
    pub(crate) tally: Tally,
    /// Microseconds from connecting to being subscribed.
    pub(crate) opening: Histogram<u64>,
}

/// The name of all events.
pub(crate) const EVENT: &str = "bench-event";

/// Of this run's own, so that two on the same nodes do not hear each other.
pub(crate) fn channel_name(number: u32) -> String {
    format!("bench-{}-{number}", std::process::id())
}

impl Crowd {
    /// Starts to open; returns at once. `start`: zero of the run's clock.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub(crate) fn open(nodes: &[Node], target: &Target, plan: &Plan, start: Instant) -> Result<Self> {
        let tongue = target.tongue;
        let progress = Arc::<Progress>::default();
        let mut threads = Vec::new();
        for number in 0..plan.threads {
            let (nodes, app_key, plan) = (nodes.to_vec(), target.app_key.clone(), plan.clone());
            let progress = progress.clone();
            let work = move || run_thread(number, nodes, app_key, tongue, plan, progress, start);
            threads.push(std::thread::Builder::new().name(format!("clients {number}")).spawn(work)?);
        }
        Ok(Self { progress, threads, connections: plan.connections as u64 })
    }

    /// Waits until all are subscribed.
    ///
    /// # Errors
    /// One could not come; the crowd is ended.
    pub(crate) fn wait_until_live(self, told: impl Fn(u64)) -> Result<Self> {
        loop {
            let live = self.progress.live.load(Relaxed);
            told(live);
            if self.progress.failed.load(Relaxed) > 0 || self.threads.iter().any(JoinHandle::is_finished) {
                let failed = self.progress.failed.load(Relaxed);
                let why = self.end(&[])?.1.unwrap_or_else(|| "a thread ended".to_owned());
                bail!("{failed} of the clients could not subscribe: {why}");
            }
            if live == self.connections {
                return Ok(self);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Lets the restless begin.
    pub(crate) fn begin(&self) {
        self.progress.begin.store(true, Relaxed);
    }

    /// Waits until so many events were heard in all, or the patience is at its end.
    pub(crate) fn wait_for(&self, received: u64, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.progress.received.load(Relaxed) < received && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
        // What comes now is one too many.
        std::thread::sleep(AFTERMATH);
    }

    /// Closes all; `published`: how many events each channel had.
    ///
    /// # Errors
    /// A thread ended badly.
    pub(crate) fn close(self, published: &[u64]) -> Result<Ended> {
        Ok(self.end(published)?.0)
    }

    fn end(self, published: &[u64]) -> Result<(Ended, Option<String>)> {
        self.progress.over.store(true, Relaxed);
        let mut ended = Ended { tally: Tally::new(), opening: tally::histogram() };
        let mut why = None;
        for thread in self.threads {
            let heard = thread.join().map_err(|_| anyhow!("a thread of clients panicked"))??;
            ended.tally.add(&heard.tally)?;
            ended.opening.add(&heard.opening)?;
            let of = |track: &Track| published.get(track.channel() as usize).map_or(0, |n| track.lost(*n));
            ended.tally.lost += heard.tracks.iter().map(of).sum::<u64>();
            why = why.or(heard.why);
        }
        Ok((ended, why))
    }
}

/// What the clients of one thread share.
struct Thread {
    nodes: Vec<Node>,
    app_key: String,
    tongue: Tongue,
    plan: Plan,
    progress: Arc<Progress>,
    start: Instant,
    /// Places for those who are opening.
    places: Semaphore,
    heard: RefCell<Heard>,
}

fn run_thread(
    number: usize,
    nodes: Vec<Node>,
    app_key: String,
    tongue: Tongue,
    plan: Plan,
    progress: Arc<Progress>,
    start: Instant,
) -> Result<Heard> {
    // Where it is not allowed, the process' own limit of open files holds for all threads together.
    let _ = nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let heard = Heard { tally: Tally::new(), tracks: Vec::new(), opening: tally::histogram(), why: None };
    let places = Semaphore::new(plan.opening.div_ceil(plan.threads).max(1));
    let thread = Rc::new(Thread { nodes, app_key, tongue, plan, progress, start, places, heard: RefCell::new(heard) });
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        for client in (number..thread.plan.connections).step_by(thread.plan.threads) {
            tokio::task::spawn_local(thread.clone().serve(client));
        }
        while !thread.progress.over.load(Relaxed) {
            tokio::time::sleep(LOOK).await;
        }
    });
    // The tasks hold the thread's data; their sockets are closed with them.
    drop(local);
    let thread = Rc::try_unwrap(thread).map_err(|_| anyhow!("a client outlived its thread"))?;
    Ok(thread.heard.into_inner())
}

impl Thread {
    /// One client's life.
    async fn serve(self: Rc<Self>, client: usize) {
        let (mut socket, channel) = match self.come(client).await {
            Ok(opened) => opened,
            Err(error) => {
                self.heard.borrow_mut().why.get_or_insert(format!("{error:#}"));
                self.progress.failed.fetch_add(1, Relaxed);
                return;
            }
        };
        let place = {
            let mut heard = self.heard.borrow_mut();
            heard.tracks.push(Track::new(channel));
            heard.tracks.len() - 1
        };
        self.progress.live.fetch_add(1, Relaxed);
        let lived = if self.plan.restless {
            self.wander(&mut socket, channel).await
        } else {
            self.listen(&mut socket, place).await
        };
        if lived.is_err() {
            self.heard.borrow_mut().tally.closed += 1;
        }
    }

    /// Connects and subscribes, when it is this client's turn.
    async fn come(&self, client: usize) -> Result<(Socket, u32)> {
        if let Some(rate) = self.plan.rate {
            tokio::time::sleep_until((self.start + Duration::from_secs_f64(client as f64 / rate)).into()).await;
        }
        let _place = self.places.acquire().await?;
        let began = Instant::now();
        let opened = tokio::time::timeout(OPEN_MAX, self.enter(client)).await;
        let opened = opened.unwrap_or_else(|_| Err(anyhow!("it took over a minute")))?;
        tally::note(&mut self.heard.borrow_mut().opening, began.elapsed().as_nanos() as u64);
        Ok(opened)
    }

    async fn enter(&self, client: usize) -> Result<(Socket, u32)> {
        let number = self.plan.first + client;
        let channel = (number % self.plan.channels) as u32;
        // One further for each round of the channels, so that each channel has clients on all nodes.
        let node = &self.nodes[(number / self.plan.channels + channel as usize) % self.nodes.len()];
        let mut socket =
            connect(node, &self.tongue.path(&self.app_key), number).await.with_context(|| node.authority.clone())?;
        self.tongue.begin(&mut socket).await?;
        self.tongue.subscribe(&mut socket, channel).await?;
        Ok((socket, channel))
    }

    /// Hears until the end.
    async fn listen(&self, socket: &mut Socket, place: usize) -> Result<()> {
        let own = format!("\"{}\"", channel_name(self.heard.borrow().tracks[place].channel()));
        while let Some(message) = socket.next().await {
            let Message::Text(text) = message? else { continue };
            let Some(stamp) = Stamp::find(&text) else {
                self.heard.borrow_mut().tally.damaged += u64::from(text.contains(EVENT));
                self.tongue.answer(socket, &text).await?;
                continue;
            };
            let now = self.start.elapsed().as_nanos() as u64;
            let heard = &mut *self.heard.borrow_mut();
            if !text.contains(&own) {
                heard.tally.misrouted += 1;
                continue;
            }
            heard.tracks[place].note(stamp, now, &mut heard.tally);
            heard.tally.bytes += text.len() as u64;
            self.progress.received.fetch_add(1, Relaxed);
        }
        bail!("closed by the server")
    }

    /// Leaves its channel for the next one, again and again.
    async fn wander(&self, socket: &mut Socket, mut channel: u32) -> Result<()> {
        while !self.progress.begin.load(Relaxed) {
            tokio::time::sleep(LOOK).await;
        }
        loop {
            socket.feed(Message::text(self.tongue.leave(channel))).await?;
            channel = (channel + 1) % self.plan.channels as u32;
            self.tongue.subscribe(socket, channel).await?;
            self.heard.borrow_mut().tally.changes += 2;
        }
    }
}

async fn connect(node: &Node, path: &str, number: usize) -> Result<Socket> {
    let stream = match node.address {
        SocketAddr::V4(address) if address.ip().is_loopback() => {
            let socket = TcpSocket::new_v4()?;
            let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + (number / PER_SOURCE) as u32);
            if source != Ipv4Addr::LOCALHOST {
                socket.bind((IpAddr::V4(source), 0).into())?;
            }
            socket.connect(node.address).await?
        }
        _ => TcpStream::connect(node.address).await?,
    };
    stream.set_nodelay(true)?;
    let url = format!("ws://{}{path}", node.authority);
    // Small buffers: there are many clients, and tungstenite's own default is 128 KiB for each.
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    let (socket, _) = tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await?;
    Ok(socket)
}
