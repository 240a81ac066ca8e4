//! What a socket has not taken yet, and the socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::tls::Tls;

/// Slices given to one `writev`.
pub(crate) const SLICES_MAX: usize = 64;

/// Where a connection's bytes go.
#[derive(Debug)]
pub enum Sink {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

impl Sink {
    /// Writes what goes at once.
    ///
    /// # Errors
    /// `WouldBlock`: nothing does.
    pub fn try_write(&self, slices: &[Bytes]) -> io::Result<usize> {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => return tls.try_write(slices),
        };
        match slices {
            [one] => stream.try_write(one),
            many => {
                let mut parts = [IoSlice::new(&[]); SLICES_MAX];
                let count = many.len().min(SLICES_MAX);
                for (part, bytes) in parts.iter_mut().zip(many) {
                    *part = IoSlice::new(bytes);
                }
                stream.try_write_vectored(&parts[..count])
            }
        }
    }

    /// True while the sink itself holds something that it took and the socket did not.
    pub(crate) fn is_pending(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.is_pending(),
        }
    }

    /// About how many bytes that is.
    pub(crate) fn pending(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(tls) => tls.pending(),
        }
    }

    /// Writes what the sink itself holds.
    ///
    /// # Errors
    /// `WouldBlock`: it still holds some.
    pub(crate) fn try_flush(&self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.try_flush(),
        }
    }

    /// Reads what is there.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => read_all_there(stream, buffer),
            Self::Tls(tls) => tls.try_read(buffer),
        }
    }

    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_read_ready(cx),
            Self::Tls(tls) => tls.poll_read_ready(cx),
        }
    }

    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_write_ready(cx),
            Self::Tls(tls) => tls.poll_write_ready(cx),
        }
    }

    /// Says the sink's own last word, for what has one. True: it was said, and the client may answer it.
    pub fn say_end(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => {
                tls.say_end();
                true
            }
        }
    }
}

/// Reads what is there. A read that did not fill the buffer took all of it: the socket then counts as not ready, so that
/// nobody asks the kernel a second time just to hear "nothing" (tokio's own `AsyncRead` does the same).
pub(crate) fn read_all_there(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let n = stream.try_read(buffer)?;
    if 0 < n && n < buffer.len() {
        // Fails by intent: that is how readiness is given back.
        let _ = stream.try_io::<()>(Interest::READABLE, || Err(io::ErrorKind::WouldBlock.into()));
    }
    Ok(n)
}

/// What a slice takes beside its bytes: its place in the queue, and its own memory's rounding.
const SLICE_BYTES: usize = 96;

/// A queue of shared bytes. Empty, it owns no memory.
#[derive(Default, Debug)]
pub(crate) struct Outbox {
    queue: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes that wait. Shared runs count whole.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it takes of memory: many small slices take more than their bytes.
    pub(crate) fn weight(&self) -> usize {
        self.bytes + self.queue.len() * SLICE_BYTES
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.queue.push_back(bytes);
    }

    /// Drops the first `n` bytes of `slices` and keeps the rest.
    pub(crate) fn push_rest(&mut self, slices: &[Bytes], mut n: usize) {
        for bytes in slices {
            let skipped = n.min(bytes.len());
            n -= skipped;
            if skipped < bytes.len() {
                self.push(bytes.slice(skipped..));
            }
        }
    }

    /// Writes what the sink takes. `Ok(n)`: n bytes are gone.
    pub(crate) fn write_to(&mut self, sink: &Sink) -> io::Result<usize> {
        let mut written = 0;
        while self.bytes > 0 {
            let (head, _) = self.queue.as_slices();
            let n = match sink.try_write(&head[..head.len().min(SLICES_MAX)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => n,
                // A broken socket says so again at the next write; what it took before counts.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock || written > 0 => break,
                Err(error) => return Err(error),
            };
            self.advance(n);
            written += n;
        }
        Ok(written)
    }

    fn advance(&mut self, mut n: usize) {
        self.bytes -= n;
        while n > 0 {
            let Some(first) = self.queue.front_mut() else { break };
            if n < first.len() {
                first.advance(n);
                return;
            }
            n -= first.len();
            self.queue.pop_front();
        }
        if self.bytes == 0 {
            // A socket that was slow once must not hold its queue's memory for life.
            self.queue = VecDeque::new();
        }
    }

    /// All that waits, which is gone from here then.
    pub(crate) fn take(&mut self) -> Vec<Bytes> {
        std::mem::take(self).queue.into()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_write_keeps_the_rest_in_order() {
        let mut outbox = Outbox::default();
        outbox.push_rest(&[Bytes::from_static(b"abc"), Bytes::from_static(b"def")], 4);
        assert_eq!((outbox.bytes(), &outbox.queue[0][..]), (2, &b"ef"[..]));
        outbox.push(Bytes::from_static(b"gh"));
        outbox.advance(3);
        assert_eq!((outbox.bytes(), &outbox.queue[0][..]), (1, &b"h"[..]));
        outbox.advance(1);
        assert!(outbox.is_empty() && outbox.queue.capacity() == 0);
    }
}
