//! How messages are put on a link: as WebSocket server frames, unmasked and unfragmented (RFC 6455, 5.2), or as the packets of
//! Engine.IO that the answer to a poll is made of (engine.io-protocol, v3 and v4, "Payload").

/// The envelope that a link puts around each message. Part of the run key: subscribers with the same encoding and framing
/// share one run of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Framing {
    WebSocket,
    /// A poll of Engine.IO 3: the length in UTF-16 code units, a colon, the packet.
    Counted,
    /// A poll of Engine.IO 4: each packet ends with 0x1e. The last one's is cut off when the answer is made.
    Separated,
}

/// Between two packets of an Engine.IO 4 poll.
const SEPARATOR: char = '\u{1e}';

/// The packet that ends an Engine.IO session.
const ENGINE_CLOSE: &[u8] = b"1";

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;

impl Framing {
    /// Appends one message.
    pub fn message(self, payload: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::WebSocket => {
                header(TEXT, payload.len(), out);
                out.extend_from_slice(payload);
            }
            Self::Counted => {
                out.extend_from_slice(utf16_len(payload).to_string().as_bytes());
                out.push(b':');
                out.extend_from_slice(payload);
            }
            Self::Separated => {
                out.extend_from_slice(payload);
                out.push(SEPARATOR as u8);
            }
        }
    }

    /// Appends the end of the link: a close frame, where there is room for it with code and reason, cut to the 123 bytes that fit.
    pub fn close(self, code: u16, reason: &str, out: &mut Vec<u8>) {
        match self {
            Self::WebSocket => {
                let mut end = reason.len().min(123);
                while !reason.is_char_boundary(end) {
                    end -= 1;
                }
                header(CLOSE, 2 + end, out);
                out.extend_from_slice(&code.to_be_bytes());
                out.extend_from_slice(&reason.as_bytes()[..end]);
            }
            Self::Counted | Self::Separated => self.message(ENGINE_CLOSE, out),
        }
    }

    /// Appends the link's own question that every client answers by itself. Polls have none.
    pub fn ping(self, out: &mut Vec<u8>) {
        match self {
            Self::WebSocket => header(PING, 0, out),
            Self::Counted | Self::Separated => {}
        }
    }

    /// What the answer to a poll holds: these messages without what would stand before a further one.
    pub fn body(self, messages: &[u8]) -> &[u8] {
        match self {
            Self::Separated => messages.strip_suffix(&[SEPARATOR as u8]).unwrap_or(messages),
            Self::WebSocket | Self::Counted => messages,
        }
    }

    /// The messages of polls as those of a WebSocket.
    pub fn to_websocket(self, messages: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(self.body(messages));
        let packets = self.packets(&text).filter(|_| !text.is_empty()).unwrap_or_default();
        let mut frames = Vec::with_capacity(messages.len() + 16);
        packets.iter().for_each(|packet| Self::WebSocket.message(packet.as_bytes(), &mut frames));
        frames
    }

    /// The packets of a poll's text. `None`: it is not made of packets, or WebSocket's, which tells them apart itself.
    pub fn packets(self, text: &str) -> Option<Vec<&str>> {
        match self {
            Self::WebSocket => None,
            Self::Separated => Some(text.split(SEPARATOR).collect()),
            Self::Counted => counted_packets(text),
        }
    }
}

fn counted_packets(mut text: &str) -> Option<Vec<&str>> {
    let mut packets = Vec::new();
    while !text.is_empty() {
        let (length, rest) = text.split_once(':')?;
        let length: usize = length.parse().ok().filter(|_| length.bytes().all(|byte| byte.is_ascii_digit()))?;
        let end = utf16_end(rest, length)?;
        packets.push(&rest[..end]);
        text = &rest[end..];
    }
    Some(packets)
}

/// Where so many UTF-16 code units end.
fn utf16_end(text: &str, units: usize) -> Option<usize> {
    if text.get(..units).is_some_and(str::is_ascii) {
        return Some(units);
    }
    let mut left = units;
    for (at, letter) in text.char_indices() {
        if left == 0 {
            return Some(at);
        }
        left = left.checked_sub(letter.len_utf16())?;
    }
    (left == 0).then_some(text.len())
}

/// The length of UTF-8 text as JavaScript counts: code points above U+FFFF are two.
fn utf16_len(text: &[u8]) -> usize {
    text.iter().map(|byte| usize::from(byte & 0xc0 != 0x80) + usize::from(*byte >= 0xf0)).sum()
}

fn header(first: u8, len: usize, out: &mut Vec<u8>) {
    out.push(first);
    match len {
        0..=125 => out.push(len as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        let head = |len: usize| {
            let mut out = Vec::new();
            Framing::WebSocket.message(&vec![b'x'; len], &mut out);
            out.truncate(out.len() - len);
            out
        };
        assert_eq!(head(0), [0x81, 0]);
        assert_eq!(head(125), [0x81, 125]);
        assert_eq!(head(126), [0x81, 126, 0, 126]);
        assert_eq!(head(65_535), [0x81, 126, 0xff, 0xff]);
        assert_eq!(head(65_536), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn packets_of_a_poll_are_told_apart_as_they_were_put_together() {
        let packets = ["2", "", "40", "4€😀é", "42[\"x\",\"a:1\"]"];
        for framing in [Framing::Counted, Framing::Separated] {
            let mut out = Vec::new();
            packets.iter().for_each(|packet| framing.message(packet.as_bytes(), &mut out));
            let text = std::str::from_utf8(framing.body(&out)).unwrap();
            assert_eq!(framing.packets(text).unwrap(), packets, "{text}");
        }
    }

    #[test]
    fn what_is_not_made_of_packets_is_known() {
        let packets = |text| Framing::Counted.packets(text);
        assert_eq!(packets("1:21:3"), Some(vec!["2", "3"]));
        assert_eq!(packets(""), Some(vec![]));
        for text in ["2", "x:2", "+1:2", "2:2", ":2", "1:😀", "99999999999999999999:2", "3:😀"] {
            assert_eq!(packets(text), None, "{text}");
        }
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let mut out = Vec::new();
        Framing::WebSocket.close(4100, &"é".repeat(100), &mut out);
        assert_eq!(&out[..4], &[0x88, 124, 0x10, 0x04]);
        assert_eq!(out.len(), 2 + 124);
    }
}
