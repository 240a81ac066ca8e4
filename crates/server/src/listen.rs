//! The door for clients: one acceptor that hands sockets to the workers in turn. Also where a node refuses and drains.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use crate::metrics::Metrics;

/// Connections that the kernel holds until we accept them; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Sockets taken in a row before other tasks have their turn.
const ACCEPTS_IN_A_ROW: usize = 64;

/// What to do when the process is out of file descriptors: wait, since accepting again at once would only burn the core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a worker's thread is told.
pub(crate) enum Order {
    /// A client, at its very beginning.
    Serve(TcpStream, Handshake),
    Drain { spread: Duration, linger: Duration, done: mpsc::Sender<()> },
    CloseNow,
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
/// The address in the text: busy, forbidden, not ours.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until it is dropped.
pub(crate) async fn accept(
    listener: TcpListener,
    workers: Vec<mpsc::Sender<Order>>,
    handshakes_max: usize,
    metrics: Arc<Metrics>,
) -> io::Result<()> {
    let listener = AsyncFd::with_interest(listener, Interest::READABLE)?;
    let in_flight = Arc::new(AtomicUsize::new(0));
    let mut turn = 0;
    loop {
        let mut ready = listener.readable().await?;
        for _ in 0..ACCEPTS_IN_A_ROW {
            let stream = match ready.try_io(|listener| listener.get_ref().accept()) {
                Err(_would_block) => break,
                Ok(Ok((stream, _))) => stream,
                Ok(Err(error)) => {
                    if is_shortage(&error) {
                        tracing::warn!(%error, "cannot accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    break;
                }
            };
            turn = (turn + 1) % workers.len();
            let full = in_flight.load(Relaxed) >= handshakes_max;
            in_flight.fetch_add(1, Relaxed);
            let handshake = Handshake(in_flight.clone());
            if full {
                refuse(stream, &metrics);
            } else if let Err(error) = workers[turn].try_send(Order::Serve(stream, handshake))
                && let Order::Serve(stream, _) = error.into_inner()
            {
                refuse(stream, &metrics);
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Too many handshakes: come back in a second.
fn refuse(mut stream: TcpStream, metrics: &Metrics) {
    metrics.rejected("handshake");
    let answer = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    // A fresh socket takes this much; if not, the refusal is no less a refusal.
    let _ = stream.set_nonblocking(true).and_then(|()| stream.write_all(answer.as_bytes()));
}

/// Errors that mean "not now" for every socket; others concern the one that was to be accepted (accept(2)).
fn is_shortage(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    const ENOMEM: i32 = 12;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS | ENOMEM))
}
