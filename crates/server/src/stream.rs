//! A client's byte stream before it becomes a sink: plain or TLS, for hyper and for farewells, and on its way to another worker.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hub::{Sink, Tls};
use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl From<Stream> for Sink {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Plain(stream) => Self::Plain(stream),
            Stream::Tls(stream) => {
                let (stream, session) = stream.into_inner();
                Self::Tls(Box::new(Tls::new(stream, session)))
            }
        }
    }
}

/// A stream between two workers: registered with the runtime of neither.
#[derive(Debug)]
pub(crate) struct Moving {
    stream: std::net::TcpStream,
    session: Option<Box<ServerConnection>>,
}

impl Moving {
    /// Takes the stream out of this thread's runtime.
    ///
    /// # Errors
    /// The system's; the stream is gone then.
    pub(crate) fn new(stream: Stream) -> io::Result<Self> {
        let (stream, session) = match stream {
            Stream::Plain(stream) => (stream, None),
            Stream::Tls(stream) => {
                let (stream, session) = stream.into_inner();
                (stream, Some(Box::new(session)))
            }
        };
        Ok(Self { stream: stream.into_std()?, session })
    }

    /// Gives it to this thread's runtime.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn arrive(self) -> io::Result<Sink> {
        let stream = TcpStream::from_std(self.stream)?;
        Ok(match self.session {
            None => Sink::Plain(stream),
            Some(session) => Sink::Tls(Box::new(Tls::new(stream, *session))),
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
