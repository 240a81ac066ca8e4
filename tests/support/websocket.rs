//! A WebSocket client by hand (RFC 6455): it sends what no library would, and hides nothing of what it gets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::wait::LIMIT;

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Frame {
    Text(String),
    Pong(Vec<u8>),
    Close {
        code: u16,
        reason: String,
    },
    /// The line ended without a close frame, or after it.
    End,
}

pub(crate) struct Socket {
    stream: TcpStream,
    /// Read and not yet a frame.
    bytes: Vec<u8>,
    /// Pings are answered.
    pub(crate) answers: bool,
    limit: Duration,
}

impl Socket {
    /// # Errors
    /// The status with which the server refused the upgrade; 0 when it said nothing.
    pub(crate) fn open(to: SocketAddr, path: &str) -> Result<Self, u16> {
        Self::open_with(to, path, "")
    }

    /// The same with more headers, each with its line's end.
    pub(crate) fn open_with(to: SocketAddr, path: &str, headers: &str) -> Result<Self, u16> {
        let mut stream = TcpStream::connect(to).map_err(|_| 0u16)?;
        stream.set_nodelay(true).unwrap();
        stream.write_all(upgrade(to, path, headers).as_bytes()).map_err(|_| 0u16)?;
        Self::upgraded(stream)
    }

    /// Takes the answer to an upgrade that was asked for.
    pub(crate) fn upgraded(stream: TcpStream) -> Result<Self, u16> {
        let mut socket = Self { stream, bytes: Vec::new(), answers: true, limit: LIMIT };
        loop {
            if let Some(end) = socket.bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&socket.bytes[..end]).into_owned();
                socket.bytes.drain(..end + 4);
                let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
                return if status == 101 { Ok(socket) } else { Err(status) };
            }
            if !socket.read_more() {
                return Err(0);
            }
        }
    }

    /// A second handle, for writing while this one reads.
    pub(crate) fn try_clone(&self) -> Self {
        Self { stream: self.stream.try_clone().unwrap(), bytes: Vec::new(), ..*self }
    }

    /// True when something has come that was not read yet.
    pub(crate) fn has_something(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let found = !self.bytes.is_empty() || self.stream.peek(&mut [0]).is_ok();
        self.stream.set_nonblocking(false).unwrap();
        found
    }

    /// Waits this long for the next frame.
    pub(crate) fn patience(&mut self, limit: Duration) {
        self.limit = limit;
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.send_frame(true, TEXT, text.as_bytes());
    }

    pub(crate) fn send_binary(&mut self, bytes: &[u8]) {
        self.send_frame(true, BINARY, bytes);
    }

    pub(crate) fn ping(&mut self, bytes: &[u8]) {
        self.send_frame(true, PING, bytes);
    }

    /// One message in two frames.
    pub(crate) fn send_in_two(&mut self, text: &str) {
        let (first, second) = text.as_bytes().split_at(text.len() / 2);
        self.send_frame(false, TEXT, first);
        self.send_frame(true, 0, second);
    }

    pub(crate) fn close(&mut self) {
        self.send_frame(true, CLOSE, &1000u16.to_be_bytes());
    }

    /// Bytes as they are, for frames that no client may send.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// A failed write is not told: the server's last words say more.
    fn send_frame(&mut self, last: bool, opcode: u8, payload: &[u8]) {
        let _ = self.stream.write_all(&masked(last, opcode, payload));
    }

    /// Several text messages in one write.
    pub(crate) fn send_all<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) {
        let frames: Vec<u8> = texts.into_iter().flat_map(|text| masked(true, TEXT, text.as_bytes())).collect();
        let _ = self.stream.write_all(&frames);
    }

    /// The next frame; pings are answered and not shown.
    ///
    /// # Panics
    /// When none comes within the limit.
    pub(crate) fn next(&mut self) -> Frame {
        loop {
            while let Some((opcode, payload)) = take(&mut self.bytes) {
                match opcode {
                    TEXT => return Frame::Text(String::from_utf8(payload).expect("text is UTF-8")),
                    PING if !self.answers => {}
                    PING => self.send_frame(true, PONG, &payload),
                    PONG => return Frame::Pong(payload),
                    CLOSE if payload.len() >= 2 => {
                        let reason = String::from_utf8_lossy(&payload[2..]).into_owned();
                        return Frame::Close { code: u16::from_be_bytes([payload[0], payload[1]]), reason };
                    }
                    CLOSE => return Frame::Close { code: 1005, reason: String::new() },
                    other => panic!("a frame with opcode {other}"),
                }
            }
            if !self.read_more() {
                return Frame::End;
            }
        }
    }

    /// True when the other side has ended the line; what it sent before is thrown away.
    pub(crate) fn is_ended(&mut self) -> bool {
        self.bytes.clear();
        self.stream.set_nonblocking(true).unwrap();
        let mut bytes = [0; 64 * 1024];
        let ended = loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) => break error.kind() != ErrorKind::WouldBlock,
            }
        };
        self.stream.set_nonblocking(false).unwrap();
        ended
    }

    /// False at the end of the line.
    fn read_more(&mut self) -> bool {
        let start = Instant::now();
        self.stream.set_read_timeout(Some(self.limit)).unwrap();
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(length @ 1..) => {
                self.bytes.extend_from_slice(&bytes[..length]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came for {:?}", start.elapsed())
            }
            Ok(0) => false,
            Err(error) => {
                println!("the line broke: {error}");
                false
            }
        }
    }
}

/// The request for an upgrade; more headers each with its line's end.
pub(crate) fn upgrade(to: SocketAddr, path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         {headers}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// Takes a server's frame out of what was read, if a whole one is there: opcode and payload.
pub(crate) fn take(read: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let [first, second, ..] = read[..] else { return None };
    assert!(first & 0x70 == 0 && second & 0x80 == 0, "a frame with reserved bits or a mask: {first:#x} {second:#x}");
    assert!(first & 0x80 != 0, "the server sent a fragment");
    let number = |range: std::ops::Range<usize>| -> Option<usize> {
        let bytes = read.get(range)?;
        Some(bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    let (start, length) = match second {
        126 => (4, number(2..4)?),
        127 => (10, number(2..10)?),
        short => (2, usize::from(short)),
    };
    let payload = read.get(start..start + length)?.to_vec();
    read.drain(..start + length);
    Some((first & 0x0f, payload))
}

/// A client's frame.
pub(crate) fn masked(last: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![opcode | if last { 0x80 } else { 0 }];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
