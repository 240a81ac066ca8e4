//! TLS on a socket that has shaken hands: what goes out is encrypted here, what comes in decrypted.
//!
//! What waits for a slow socket waits as plaintext in the outbox; of ciphertext there is at most [`PENDING_MAX`], which is
//! counted with the outboxes, and nothing is encrypted while some of it waits.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice, Read, Write};
use std::task::{Context, Poll};

use bytes::Bytes;
use rustls::ServerConnection;
use tokio::net::TcpStream;

use crate::outbox::{SLICES_MAX, read_all_there};

/// Bytes of ciphertext that may wait for the socket.
const PENDING_MAX: usize = 64 << 10;

#[derive(Debug)]
pub struct Tls {
    stream: TcpStream,
    session: RefCell<ServerConnection>,
    /// Plaintext may be there that the socket will not tell of.
    decrypted: Cell<bool>,
    /// What was encrypted and waits for the socket, in bytes of plaintext: the session does not tell how large it grew.
    pending: Cell<usize>,
}

impl Tls {
    /// `session`: its handshake is done. It may hold what came behind the handshake.
    pub fn new(stream: TcpStream, mut session: ServerConnection) -> Self {
        session.set_buffer_limit(Some(PENDING_MAX));
        Self { stream, session: session.into(), decrypted: true.into(), pending: 0.into() }
    }

    /// True while ciphertext waits for the socket.
    pub(crate) fn is_pending(&self) -> bool {
        self.session.borrow().wants_write()
    }

    /// About how many bytes wait for the socket.
    pub(crate) fn pending(&self) -> usize {
        self.pending.get()
    }

    /// Takes as much as the socket does and a little more. Nothing while ciphertext waits.
    pub(crate) fn try_write(&self, slices: &[Bytes]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        self.flush(&mut session)?;
        let mut parts = [IoSlice::new(&[]); SLICES_MAX];
        let mut rest = &mut parts[..slices.len().min(SLICES_MAX)];
        for (part, bytes) in rest.iter_mut().zip(slices) {
            *part = IoSlice::new(bytes);
        }
        let mut taken = 0;
        while !rest.is_empty() {
            let n = session.writer().write_vectored(rest)?;
            if n == 0 {
                break;
            }
            taken += n;
            self.pending.set(self.pending.get() + n);
            IoSlice::advance_slices(&mut rest, n);
            match self.flush(&mut session) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    /// Writes the ciphertext that waits.
    ///
    /// # Errors
    /// `WouldBlock`: some still does.
    pub(crate) fn try_flush(&self) -> io::Result<()> {
        self.flush(&mut self.session.borrow_mut())
    }

    fn flush(&self, session: &mut ServerConnection) -> io::Result<()> {
        while session.wants_write() {
            let n = session.write_tls(&mut Socket(&self.stream))?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.pending.set(self.pending.get().saturating_sub(n));
        }
        self.pending.set(0);
        Ok(())
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        loop {
            match session.reader().read(buffer) {
                Ok(n) => {
                    self.decrypted.set(n == buffer.len());
                    return Ok(n);
                }
                // A socket that ended without TLS's own goodbye: a WebSocket has said its one, or else it is missed there.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.decrypted.set(false),
                Err(error) => return Err(error),
            }
            session.read_tls(&mut Socket(&self.stream))?;
            let state = session.process_new_packets();
            // What TLS itself answers, an alert at the worst. What the socket does not take goes with the next words.
            let _ = self.flush(&mut session);
            state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.decrypted.get() { Poll::Ready(Ok(())) } else { self.stream.poll_read_ready(cx) }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(cx)
    }

    /// Says that nothing follows, so that the client knows the end from a cut.
    pub(crate) fn say_end(&self) {
        let mut session = self.session.borrow_mut();
        session.send_close_notify();
        // A socket that is broken or full has its end either way.
        let _ = self.flush(&mut session);
    }
}

/// The socket as TLS sees it.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_all_there(self.0, buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
