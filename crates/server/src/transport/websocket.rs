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

use bytes::Bytes;
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

pub(crate) type WebSocket = WebSocketStream<Link>;

/// Serves a connection to its end. `read`: bytes that came along with the upgrade request.
pub(crate) async fn serve(worker: Rc<Worker>, connection: Rc<Connection>, read: Vec<u8>, frame_bytes: usize) {
    let mut ended = Ended::new(&worker, &connection);
    let mut socket = upgraded(Link::new(connection.clone()), read, frame_bytes);
    serve_upgraded(&worker, &connection, &mut socket, &mut ended).await;
}

/// The same with a socket that has become the connection's on the way.
pub(crate) async fn serve_upgraded(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    socket: &mut WebSocket,
    ended: &mut Ended,
) {
    let end = converse(worker, connection, socket).await;
    // What follows is short: it must not make the long-lived task larger.
    Box::pin(part(connection, socket, end)).await;
    ended.label = end.label();
}

/// A function of its own: awaited in the task above, what makes the socket would stay a part of each client's memory for life.
fn upgraded(link: Link, read: Vec<u8>, frame_bytes: usize) -> WebSocket {
    let socket = WebSocketStream::from_partially_read(link, read, Role::Server, Some(config(frame_bytes)));
    socket.now_or_never().expect("there is no handshake to wait for")
}

/// Takes the connection out of its worker however its task ends.
pub(crate) struct Ended {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    label: &'static str,
}

impl Ended {
    pub(crate) fn new(worker: &Rc<Worker>, connection: &Rc<Connection>) -> Self {
        Self { worker: worker.clone(), connection: connection.clone(), label: "error" }
    }

    /// Why, where the connection was not being closed by us.
    pub(crate) fn set_label(&mut self, label: &'static str) {
        self.label = label;
    }
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

async fn converse(worker: &Rc<Worker>, connection: &Rc<Connection>, socket: &mut WebSocket) -> End {
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
async fn part(connection: &Rc<Connection>, socket: &mut WebSocket, end: End) {
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
        let Some(sink) = connection.sink() else { return };
        let answered = sink.say_end();
        if end == End::Unreadable {
            end_our_side(sink);
        }
        if answered || end == End::Unreadable {
            // What the client still says; unread, it would reset the socket as well.
            discard_all(sink).await;
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

async fn discard_all(sink: &Sink) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        if poll_fn(|cx| sink.poll_read_ready(cx)).await.is_err() {
            return;
        }
        match sink.try_read(&mut buffer) {
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
        let mut socket = WebSocketStream::from_partially_read(&mut stream, read, Role::Server, Some(config)).await;
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

/// A WebSocket beside a client that polls: the client says when it is to take over.
///
/// Answers the probe, an Engine.IO ping with a word of its own. `None`: it is none, or the socket is gone.
pub(crate) async fn probed(
    connection: Rc<Connection>,
    sink: Sink,
    answer: Vec<u8>,
    read: Vec<u8>,
    frame_bytes: usize,
) -> Option<WebSocket> {
    let mut link = Link { connection, beside: Some(Box::new(sink)) };
    link.write_all(&answer).await.ok()?;
    let mut socket = upgraded(link, read, frame_bytes);
    let message = next_text(&mut socket).await.filter(|text| text == "2probe");
    message?;
    socket.send(tungstenite::Message::text("3probe")).await.ok()?;
    Some(socket)
}

/// Waits for the client's word that it polls no more, and makes the socket the connection's.
pub(crate) async fn taken_over(mut socket: WebSocket) -> Option<WebSocket> {
    next_text(&mut socket).await.filter(|text| text == "5")?;
    let link = socket.get_mut();
    let sink = link.beside.take()?;
    link.connection.attach(*sink);
    Some(socket)
}

async fn next_text(socket: &mut WebSocket) -> Option<String> {
    loop {
        match socket.next().await?.ok()? {
            tungstenite::Message::Text(text) => return Some(text.to_string()),
            tungstenite::Message::Ping(_) | tungstenite::Message::Pong(_) => {}
            _ => return None,
        }
    }
}

/// tungstenite's view of the connection: reads are its own, writes join the outbox.
pub(crate) struct Link {
    connection: Rc<Connection>,
    /// The socket while its client polls: then what is written goes straight to it, for the outbox is the polls'.
    beside: Option<Box<Sink>>,
}

impl Link {
    fn new(connection: Rc<Connection>) -> Self {
        Self { connection, beside: None }
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let sink = match &self.beside {
            Some(sink) => sink,
            None => self.connection.sink().ok_or(io::ErrorKind::NotConnected)?,
        };
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
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(sink) = &self.beside else {
            self.connection.send_own(bytes);
            return Poll::Ready(Ok(bytes.len()));
        };
        loop {
            ready!(sink.poll_write_ready(cx))?;
            match sink.try_write(&[Bytes::copy_from_slice(bytes)]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
