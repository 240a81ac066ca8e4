//! How messages are put on a link. WebSocket for now: server frames, unmasked and unfragmented (RFC 6455, 5.2).

/// The envelope that a link puts around each message. Part of the run key: subscribers with the same encoding and framing
/// share one run of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Framing {
    WebSocket,
}

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
        }
    }

    /// Appends the end of the link: a close frame. The reason is cut to the 123 bytes that fit.
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
        }
    }

    /// Appends a question that every client answers by itself.
    pub fn ping(self, out: &mut Vec<u8>) {
        match self {
            Self::WebSocket => header(PING, 0, out),
        }
    }
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
    fn a_close_reason_is_cut_at_a_character() {
        let mut out = Vec::new();
        Framing::WebSocket.close(4100, &"é".repeat(100), &mut out);
        assert_eq!(&out[..4], &[0x88, 124, 0x10, 0x04]);
        assert_eq!(out.len(), 2 + 124);
    }
}
