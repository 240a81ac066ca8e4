//! The door for clients: one acceptor that hands sockets to the workers in turn. Also where a node refuses and drains.
//!
//! It takes them at a pace ([`Pace`]): whoever comes faster waits in the kernel's queue, where he costs the workers nothing. And it
//! takes them in handfuls: a thread that woke for each one would cost a fifth of what a connection costs.
//!
//! Clients do not get the last file descriptors of the process ([`is_spare`]): with those the operator's port answers and the
//! backplane finds its way back, however many clients come.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::metrics::Metrics;
use crate::pace::Pace;

/// Connections that the kernel holds until we accept them; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// What to do when the process is out of file descriptors: wait, since accepting again at once would only burn the core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// With all handshakes taken, how long the door waits for one to be done, and how often it looks. Then newcomers are refused until
/// one is: those who have a place are not clients that speak.
const PLACE_WAIT: Duration = Duration::from_millis(500);
const PLACE_LOOK: Duration = Duration::from_millis(2);

/// After a handful, so long others gather before the next. Who comes alone does not wait.
const GATHER: Duration = Duration::from_micros(500);

/// How often a shortage that lasts is told.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What a worker's thread is told.
pub(crate) enum Order {
    /// A client, at its very beginning.
    Serve(TcpStream, IpAddr, Handshake),
    Drain {
        spread: Duration,
        linger: Duration,
        done: mpsc::Sender<()>,
    },
    CloseNow,
    /// The apps are other ones: those of the directory.
    Apps,
}

/// Counts one handshake in flight, from accept until the first request is read.
pub(crate) struct Handshake(Arc<AtomicUsize>);

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Opens a listening socket.
///
/// # Errors
/// What the system says: busy, forbidden, not ours.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    // Frames are written whole; waiting for more would only delay them. Accepted sockets inherit this.
    socket.set_tcp_nodelay(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The thread that accepts. A thread of its own, blocked in `accept`: the socket goes to its worker's runtime without having
/// been registered with another one first.
pub(crate) struct Acceptor {
    listener: Arc<TcpListener>,
    stopped: Arc<AtomicBool>,
    thread: Thread,
}

/// What the door lets in.
pub(crate) struct Admission {
    /// Clients at a time that have not said yet what they want.
    pub handshakes_max: usize,
    /// 0: no limit.
    pub accepts_per_second: u32,
    pub is_tls: bool,
}

impl Acceptor {
    pub(crate) fn start(
        listener: TcpListener,
        workers: Vec<mpsc::Sender<Order>>,
        admission: Admission,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let listener = Arc::new(listener);
        let stopped = Arc::new(AtomicBool::new(false));
        let accepting = Accepting {
            listener: listener.clone(),
            stopped: stopped.clone(),
            workers,
            in_flight: Arc::default(),
            admission,
            metrics,
            stuck: Cell::new(false),
            crowded: RefCell::default(),
            failing: RefCell::default(),
        };
        let thread = std::thread::Builder::new().name("accept".into()).spawn(move || accepting.run())?.thread().clone();
        Ok(Self { listener, stopped, thread })
    }

    /// Refuses everybody from here on. Those in the kernel's queue are refused too.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Relaxed);
        // Both wake the thread; a listener that is gone already needs no waking.
        let _ = socket2::SockRef::from(&*self.listener).shutdown(Shutdown::Both);
        self.thread.unpark();
    }
}

/// The acceptor's thread.
struct Accepting {
    listener: Arc<TcpListener>,
    stopped: Arc<AtomicBool>,
    workers: Vec<mpsc::Sender<Order>>,
    in_flight: Arc<AtomicUsize>,
    admission: Admission,
    metrics: Arc<Metrics>,
    /// No handshake was done for so long that newcomers are refused.
    stuck: Cell<bool>,
    /// Clients refused for want of descriptors, and shortages that kept us from accepting at all.
    crowded: RefCell<Seldom>,
    failing: RefCell<Seldom>,
}

/// Something that may come many times a second and is told once a minute.
#[derive(Default)]
pub(crate) struct Seldom {
    told: Option<Instant>,
    /// Times since then.
    times: u64,
}

impl Seldom {
    /// Counts it; gives how often it came since it was last told, when it is time to tell.
    pub(crate) fn note(&mut self) -> Option<u64> {
        self.times += 1;
        if self.told.is_some_and(|told| told.elapsed() < TOLD_EVERY) {
            return None;
        }
        self.told = Some(Instant::now());
        Some(std::mem::take(&mut self.times))
    }
}

impl Accepting {
    fn run(self) {
        let mut turn = 0;
        let mut pace = Pace::new(self.admission.accepts_per_second);
        let mut in_handful = false;
        while !self.stopped.load(Relaxed) {
            if let Some(pause) = pace.pause(Instant::now()) {
                // Woken when we stop; woken too early, it asks again.
                std::thread::park_timeout(pause);
                continue;
            }
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    pace.note(Instant::now());
                    turn = (turn + 1) % self.workers.len();
                    self.hand_over(stream, peer.ip(), turn);
                    in_handful = in_handful || self.wait_in_accept(false);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::park_timeout(GATHER);
                    in_handful = !self.wait_in_accept(true);
                }
                Err(error) if is_shortage(&error) => {
                    if let Some(times) = self.failing.borrow_mut().note() {
                        tracing::warn!(%error, times, "cannot accept");
                    }
                    std::thread::sleep(ACCEPT_PAUSE);
                }
                // Concerns the one that was to be accepted, or says that we stop.
                Err(_) => {}
            }
        }
    }

    /// Whether `accept` waits for somebody to come. True when that is so from here on.
    fn wait_in_accept(&self, waits: bool) -> bool {
        self.listener.set_nonblocking(!waits).is_ok()
    }

    fn hand_over(&self, stream: TcpStream, peer: IpAddr, worker: usize) {
        let limit = descriptors();
        if is_spare(stream.as_raw_fd(), limit) {
            if let Some(refused) = self.crowded.borrow_mut().note() {
                tracing::warn!(refused, limit, "new clients are refused: too few file descriptors are left");
            }
            return self.refuse(stream, "descriptors");
        }
        if !self.take_place() {
            return self.refuse(stream, "handshake");
        }
        let handshake = Handshake(self.in_flight.clone());
        if let Err(error) = self.workers[worker].try_send(Order::Serve(stream, peer, handshake))
            && let Order::Serve(stream, ..) = error.into_inner()
        {
            self.refuse(stream, "handshake");
        }
    }

    /// One of the handshakes at a time, perhaps after a wait: a crowd that speaks is done with them at once, and those behind it stay
    /// in the kernel's queue meanwhile.
    fn take_place(&self) -> bool {
        let began = Instant::now();
        while self.in_flight.load(Relaxed) >= self.admission.handshakes_max {
            let stuck = self.stuck.get() || began.elapsed() >= PLACE_WAIT;
            self.stuck.set(stuck);
            if stuck || self.stopped.load(Relaxed) {
                return false;
            }
            std::thread::park_timeout(PLACE_LOOK);
        }
        self.stuck.set(false);
        self.in_flight.fetch_add(1, Relaxed);
        true
    }

    /// Too many handshakes or clients: come back in a second.
    fn refuse(&self, mut stream: TcpStream, reason: &str) {
        self.metrics.rejected(reason);
        if self.admission.is_tls {
            // A word would take the very handshake that there is no room for.
            return;
        }
        let answer =
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        // A fresh socket takes this much; if not, the refusal is no less a refusal.
        let _ = stream.set_nonblocking(true).and_then(|()| stream.write_all(answer.as_bytes()));
    }
}

/// How many descriptors the process may have. Asked each time: an operator may change it while the node runs (prlimit(1)).
fn descriptors() -> u64 {
    // Where it cannot be asked, accept fails when they are out, as ever.
    rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX)
}

/// True of the last descriptors, a sixteenth of all and 16 to 128. The kernel gives the lowest that is free, so a socket with such
/// a number means that all below are taken.
fn is_spare(descriptor: i32, limit: u64) -> bool {
    let spare = (limit / 16).clamp(16, 128);
    u64::try_from(descriptor).is_ok_and(|descriptor| descriptor >= limit.saturating_sub(spare))
}

/// Errors that mean "not now" for every socket; others concern the one that was to be accepted (accept(2)).
fn is_shortage(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    const ENOMEM: i32 = 12;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS | ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_descriptors_are_for_others_than_clients() {
        let first_spare = |limit: u64| (0..).find(|descriptor| is_spare(*descriptor, limit)).unwrap();
        assert_eq!([64, 1_024, 100_000].map(first_spare), [48, 960, 99_872]);
        assert!(!is_spare(i32::MAX, u64::MAX));
    }

    #[test]
    fn what_comes_often_is_told_once_with_its_number() {
        let mut seldom = Seldom::default();
        assert_eq!([seldom.note(), seldom.note(), seldom.note()], [Some(1), None, None]);
        seldom.told = Instant::now().checked_sub(TOLD_EVERY);
        assert_eq!(seldom.note(), Some(3));
    }
}
