//! A TCP relay that counts, listens, can be aimed elsewhere and can break: before a node's link to Redis, or between
//! clients and nodes.

use std::net::TcpListener as Door;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How much of each direction is kept for who listens.
const KEPT: usize = 4 << 20;

/// The way that bytes and new connections have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    Open,
    /// New connections are refused; those that are there go on.
    Refused,
    /// Nothing is read and nothing is sent, ends of connections neither; what comes waits and is brought when the way is
    /// open again. So it is when a network drops everything.
    Hole,
    /// Each piece comes later by so much, and no more than so many bytes pass in a second, in each direction.
    Slow {
        latency: Duration,
        bytes_per_second: u32,
    },
}

/// The way, and what befell the connections that were there: each remembers these numbers from its birth.
#[derive(Clone, Copy)]
struct Weather {
    way: Way,
    cuts: u64,
    resets: u64,
    deaths: u64,
}

pub(crate) struct Relay {
    pub(crate) port: u16,
    counts: Arc<Counts>,
    /// With it goes the relay's thread, and so do its connections.
    weather: watch::Sender<Weather>,
}

#[derive(Default)]
struct Counts {
    /// Bytes from the server to the node.
    down: AtomicU64,
    /// What the server sent since [`Relay::listen`].
    heard: Mutex<Vec<u8>>,
    /// What clients sent since [`Relay::listen`].
    said: Mutex<Vec<u8>>,
    /// The port that new connections go to.
    to: AtomicU16,
}

impl Relay {
    /// Passes everything on to a port of this machine.
    pub(crate) fn start(to: u16) -> Self {
        let door = Door::bind("127.0.0.1:0").unwrap();
        let port = door.local_addr().unwrap().port();
        let counts = Arc::new(Counts { to: to.into(), ..Counts::default() });
        let (weather, told) = watch::channel(Weather { way: Way::Open, cuts: 0, resets: 0, deaths: 0 });
        let shared = counts.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(accept(door, told, shared));
        });
        Self { port, counts, weather }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn bytes_down(&self) -> u64 {
        self.counts.down.load(Ordering::SeqCst)
    }

    /// From now on new connections go to this port.
    pub(crate) fn aim(&self, to: u16) {
        self.counts.to.store(to, Ordering::SeqCst);
    }

    /// Forgets what was heard so far.
    pub(crate) fn listen(&self) {
        self.counts.heard.lock().unwrap().clear();
        self.counts.said.lock().unwrap().clear();
    }

    /// What clients sent since [`Self::listen`].
    pub(crate) fn said(&self) -> Vec<u8> {
        self.counts.said.lock().unwrap().clone()
    }

    /// How often the server sent these bytes since [`Self::listen`].
    pub(crate) fn heard(&self, word: &str) -> usize {
        let heard = self.counts.heard.lock().unwrap();
        heard.windows(word.len()).filter(|window| *window == word.as_bytes()).count()
    }

    /// From now on this is the way for all connections, old and new.
    pub(crate) fn way(&self, way: Way) {
        self.weather.send_modify(|weather| weather.way = way);
    }

    /// Ends all connections; new ones are passed on.
    pub(crate) fn cut(&self) {
        self.weather.send_modify(|weather| weather.cuts += 1);
    }

    /// Ends all connections with RST, in both directions; new ones are passed on.
    pub(crate) fn reset(&self) {
        self.weather.send_modify(|weather| weather.resets += 1);
    }

    /// All connections stay open and bring nothing ever again; new ones are passed on. So it is when a firewall forgets.
    pub(crate) fn deaden(&self) {
        self.weather.send_modify(|weather| weather.deaths += 1);
    }
}

/// Until the relay is gone.
async fn accept(door: Door, mut weather: watch::Receiver<Weather>, counts: Arc<Counts>) {
    let address = door.local_addr().unwrap();
    door.set_nonblocking(true).unwrap();
    let mut listener = TcpListener::from_std(door).unwrap();
    loop {
        tokio::select! {
            near = listener.accept() => {
                if let Ok((near, _)) = near {
                    tokio::spawn(serve(near, weather.clone(), counts.clone()));
                }
            }
            changed = weather.changed() => if changed.is_err() { return },
        }
        if weather.borrow_and_update().way == Way::Refused {
            drop(listener);
            if weather.wait_for(|weather| weather.way != Way::Refused).await.is_err() {
                return;
            }
            listener = TcpListener::bind(address).await.expect("the port is ours");
        }
    }
}

/// One connection, to its end.
async fn serve(mut near: TcpStream, mut weather: watch::Receiver<Weather>, counts: Arc<Counts>) {
    let born = *weather.borrow_and_update();
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", counts.to.load(Ordering::SeqCst))).await else { return };
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let (near_in, near_out) = near.split();
    let (far_in, far_out) = far.split();
    let up = pass(near_in, far_out, weather.clone(), |bytes| keep(&counts.said, bytes));
    let down = pass(far_in, near_out, weather.clone(), |bytes| {
        counts.down.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        keep(&counts.heard, bytes);
    });
    let befallen = |now: &Weather| now.cuts > born.cuts || now.resets > born.resets || now.deaths > born.deaths;
    let now = tokio::select! {
        _ = async { tokio::join!(up, down) } => return,
        now = weather.wait_for(befallen) => match now {
            Ok(now) => *now,
            Err(_) => return,
        },
    };
    if now.resets > born.resets {
        near.set_zero_linger().unwrap();
        far.set_zero_linger().unwrap();
    } else if now.deaths > born.deaths {
        // Both sockets stay as they are until the relay is gone.
        while weather.changed().await.is_ok() {}
    }
}

/// Passes on what comes, and then the end.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut weather: watch::Receiver<Weather>,
    note: impl Fn(&[u8]),
) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        if clear(&mut weather).await.is_err() {
            return;
        }
        let length = tokio::select! {
            biased;
            changed = weather.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            length = from.read(&mut bytes) => length.unwrap_or(0),
        };
        match clear(&mut weather).await {
            Ok(Way::Slow { latency, bytes_per_second }) => {
                let long = Duration::from_secs_f64(length as f64 / f64::from(bytes_per_second));
                tokio::time::sleep(latency + long).await;
            }
            Ok(_) => {}
            Err(_) => return,
        }
        note(&bytes[..length]);
        if length == 0 || to.write_all(&bytes[..length]).await.is_err() {
            let _ = to.shutdown().await;
            return;
        }
    }
}

/// The way, once it is no hole.
async fn clear(weather: &mut watch::Receiver<Weather>) -> Result<Way, watch::error::RecvError> {
    weather.wait_for(|weather| weather.way != Way::Hole).await.map(|weather| weather.way)
}

fn keep(kept: &Mutex<Vec<u8>>, bytes: &[u8]) {
    let mut kept = kept.lock().unwrap();
    let room = KEPT.saturating_sub(kept.len()).min(bytes.len());
    kept.extend_from_slice(&bytes[..room]);
}
