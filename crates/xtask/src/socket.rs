//! A WebSocket that only listens: as much of RFC 6455 as hearing events through a load balancer needs.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Text(String),
    /// The node said goodbye, with this code.
    Close(u16),
    /// The line ended without a goodbye.
    End,
    /// Nothing, for as long as was waited.
    Silence,
}

pub(crate) struct Socket {
    stream: TcpStream,
    /// Read, and not yet a frame.
    bytes: Vec<u8>,
}

impl Socket {
    /// `None`: nobody there, or no upgrade.
    pub(crate) fn open(to: SocketAddr, path: &str, patience: Duration) -> Option<Self> {
        let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
        stream.set_read_timeout(Some(patience)).ok()?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut socket = Self { stream, bytes: Vec::new() };
        loop {
            if let Some(end) = socket.bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let upgraded = socket.bytes.starts_with(b"HTTP/1.1 101 ");
                socket.bytes.drain(..end + 4);
                return upgraded.then_some(socket);
            }
            socket.read().filter(|length| *length > 0)?;
        }
    }

    /// The next message or end, or silence for as long as the patience given at the opening.
    pub(crate) fn next(&mut self) -> Heard {
        loop {
            match take(&mut self.bytes) {
                Some((1, payload)) => return Heard::Text(String::from_utf8_lossy(&payload).into_owned()),
                Some((8, payload)) => {
                    let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    return Heard::Close(code);
                }
                // Pings come only after longer silence than anything here lasts.
                Some(_) => {}
                None => match self.read() {
                    Some(0) => return Heard::End,
                    Some(_) => {}
                    None => return Heard::Silence,
                },
            }
        }
    }

    /// Bytes read; 0 at the end; `None` when nothing came in time.
    fn read(&mut self) -> Option<usize> {
        let mut part = [0; 16 * 1024];
        match self.stream.read(&mut part) {
            Ok(length) => {
                self.bytes.extend_from_slice(&part[..length]);
                Some(length)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(_) => Some(0),
        }
    }
}

/// The first whole frame: opcode and payload. A server's frames are not masked, and these are not fragmented.
fn take(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let short = usize::from(bytes.get(1)? & 0x7f);
    let (start, length): (usize, usize) = match short {
        126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..4)?.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*bytes.get(2..10)?.first_chunk()?).try_into().ok()?),
        short => (2, short),
    };
    let payload = bytes.get(start..start.checked_add(length)?)?.to_vec();
    let opcode = bytes[0] & 0x0f;
    bytes.drain(..start + length);
    Some((opcode, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole_and_in_order() {
        let mut bytes = b"\x81\x02hi\x88\x02\x10\x68\x81\x7e\x00\x80".to_vec();
        assert_eq!(take(&mut bytes), Some((1, b"hi".to_vec())));
        assert_eq!(take(&mut bytes), Some((8, vec![0x10, 0x68])));
        assert_eq!(take(&mut bytes), None);
        bytes.extend([b'x'; 130]);
        assert_eq!(take(&mut bytes), Some((1, vec![b'x'; 128])));
        assert_eq!(bytes, b"xx");
    }
}
