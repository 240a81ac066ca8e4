//! A WebSocket: what the client says goes to its connection, what the connection has to say goes around tungstenite.
//!
//! tungstenite reads (frames, fragments, masks, limits) and answers pings and closes by itself. What it writes goes through
//! the connection's outbox, where the shared runs go too, so frames never interleave.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use hub::{Connection, Sink, Turn, Worker};
use model::dialect::Goodbye;
use model::{Message, Reason};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Error};

use crate::stream::Stream;

/// tungstenite zero-fills its read buffer before each read and keeps it for life: small.
const READ_BUFFER: usize = 512;

/// How long a socket may take for its last bytes, and for the client's answer to a close.
const FAREWELL: Duration = Duration::from_secs(1);

type WebSocket<S> = WebSocketStream<S>;

/// Serves a connection to its end. `read`: bytes that came along with the upgrade request.
pub(crate) async fn serve(worker: Rc<Worker>, connection: Rc<Connection>, read: Vec<u8>, frame_bytes: usize) {
    let mut ended = Ended { worker: worker.clone(), connection: connection.clone(), label: "error" };
    let mut socket = upgraded(Link(connection.clone()), read, frame_bytes);
    let end = converse(&worker, &connection, &mut socket).await;
    // What follows is short: it must not make the long-lived task larger.
    Box::pin(part(&connection, &mut socket, end)).await;
    ended.label = end.label();
}

/// A function of its own: awaited in the task above, what makes the socket would stay a part of each client's memory for life.
fn upgraded(link: Link, read: Vec<u8>, frame_bytes: usize) -> WebSocket<Link> {
    let socket = WebSocket::from_partially_read(link, read, Role::Server, Some(config(frame_bytes)));
    socket.now_or_never().expect("there is no handshake to wait for")
}

/// Takes the connection out of its worker however its task ends.
struct Ended {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    label: &'static str,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.worker.end(&self.connection, self.label);
    }
}

/// Why a conversation is over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client said so, or its socket is gone.
    Client,
    /// We close it.
    Ours,
    /// We close it, and nothing more can be read.
    Unreadable,
}

impl End {
    fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Ours | Self::Unreadable => "error",
        }
    }
}

async fn converse(worker: &Rc<Worker>, connection: &Rc<Connection>, socket: &mut WebSocket<Link>) -> End {
    loop {
        let next = poll_fn(|cx| match connection.poll_turn(cx) {
            Turn::Read => socket.poll_next_unpin(cx).map(Ok),
            Turn::Hold => Poll::Pending,
            Turn::Close => Poll::Ready(Err(End::Ours)),
            Turn::Broken => Poll::Ready(Err(End::Client)),
        });
        let message = match next.await {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => return refuse_frame(worker, connection, &error),
            Ok(None) => return End::Client,
            Err(end) => return end,
        };
        connection.touch();
        match message {
            tungstenite::Message::Text(text) => worker.receive(connection, Message::Text(&text)),
            tungstenite::Message::Binary(bytes) => worker.receive(connection, Message::Binary(&bytes)),
            // Pings and closes are answered by tungstenite at the next poll.
            _ => {}
        }
    }
}

/// A frame that cannot be: closes with WebSocket's own code for it.
fn refuse_frame(worker: &Rc<Worker>, connection: &Rc<Connection>, error: &Error) -> End {
    let reason = match error {
        Error::Capacity(_) => Reason::FrameTooLarge,
        Error::Utf8(_) => Reason::NotUtf8,
        Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => return End::Client,
        Error::Protocol(_) => Reason::ProtocolError,
        _ => return End::Client,
    };
    worker.close(connection, reason);
    End::Unreadable
}

/// Flushes, and waits for the client's side of the close: a socket closed over unread bytes is reset, and the reset can
/// overtake the close code.
async fn part(connection: &Rc<Connection>, socket: &mut WebSocket<Link>, end: End) {
    let farewell = async {
        if !poll_fn(|cx| connection.poll_flush(cx)).await {
            return;
        }
        match end {
            End::Client | End::Unreadable => {}
            End::Ours => {
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_close() {
                        break;
                    }
                }
            }
        }
        let answered = connection.sink().say_end();
        if end == End::Unreadable {
            end_our_side(connection.sink());
        }
        if answered || end == End::Unreadable {
            // What the client still says; unread, it would reset the socket as well.
            discard_all(connection).await;
        }
    };
    // Whoever does not read now has had its time.
    let _ = timeout(FAREWELL, farewell).await;
}

/// Ends our side of the line. A client's answer to the close cannot be told from what came before it, and a client that has
/// closed properly waits for the server to end the line first (RFC 6455, 7.1.1).
fn end_our_side(sink: &Sink) {
    match sink {
        // A socket that is gone has ended.
        Sink::Plain(stream) => drop(SockRef::from(stream).shutdown(Shutdown::Write)),
        // TLS has said its end.
        Sink::Tls(_) => {}
    }
}

async fn discard_all(connection: &Rc<Connection>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        if poll_fn(|cx| connection.sink().poll_read_ready(cx)).await.is_err() {
            return;
        }
        match connection.sink().try_read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Says no to a client whose handshake is done but whom no app takes in. `answer`: to its upgrade, not yet written.
pub(crate) async fn turn_away(mut stream: Stream, answer: Vec<u8>, read: Vec<u8>, goodbye: Goodbye) {
    let farewell = async {
        stream.write_all(&answer).await?;
        let config = config(16 << 10);
        let mut socket = WebSocket::from_partially_read(&mut stream, read, Role::Server, Some(config)).await;
        if let Ok(message) = String::from_utf8(goodbye.message)
            && !message.is_empty()
        {
            socket.send(tungstenite::Message::text(message)).await?;
        }
        let reason: String = goodbye.reason.chars().take(60).collect();
        socket.close(Some(CloseFrame { code: goodbye.code.into(), reason: reason.into() })).await?;
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<(), Error>(())
    };
    // It is refused either way.
    let _ = timeout(FAREWELL, farewell).await;
    discard(stream).await;
}

/// Ends a bare stream so that what was written arrives: a stream dropped over unread bytes is reset, and the reset can
/// overtake the answer.
pub(crate) async fn discard(mut stream: Stream) {
    let rest = async {
        stream.shutdown().await?;
        let mut buffer = vec![0; 16 << 10];
        while stream.read(&mut buffer).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    let _ = timeout(FAREWELL, rest).await;
}

fn config(frame_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(frame_bytes))
        .max_frame_size(Some(frame_bytes))
}

/// tungstenite's view of the connection: reads are its own, writes join the outbox.
struct Link(Rc<Connection>);

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let sink = self.0.sink();
        loop {
            ready!(sink.poll_read_ready(cx))?;
            match sink.try_read(buffer.initialize_unfilled()) {
                Ok(n) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.send_own(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
