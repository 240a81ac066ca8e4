//! What stands between hyper and a client's socket: bytes that were read before hyper came, and an answer that waits.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;

use crate::stream::Stream;

/// hyper's way to the socket. Once an upgrade is granted the answer is held back: it goes out in one write with the first
/// words of the dialect.
pub(crate) struct Gate<F> {
    io: TokioIo<Stream>,
    /// What was read before hyper came; it is given first.
    read: Bytes,
    is_granted: F,
    held: Vec<u8>,
}

impl<F: Fn() -> bool> Gate<F> {
    pub(crate) fn new(stream: Stream, read: Vec<u8>, is_granted: F) -> Self {
        Self { io: TokioIo::new(stream), read: read.into(), is_granted, held: Vec::new() }
    }

    /// The stream, and what was held back.
    pub(crate) fn open(self) -> (Stream, Vec<u8>) {
        (self.io.into_inner(), self.held)
    }
}

impl<F: Unpin> Read for Gate<F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            let n = self.read.len().min(buffer.remaining());
            buffer.put_slice(&self.read.split_to(n));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<F: Fn() -> bool + Unpin> Write for Gate<F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if (self.is_granted)() {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if (self.is_granted)() {
            let before = self.held.len();
            for part in parts {
                self.held.extend_from_slice(part);
            }
            return Poll::Ready(Ok(self.held.len() - before));
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
