//! A WebSocket upgrade read without an HTTP library's machinery: what nearly every client's first bytes are.
//!
//! Only the ordinary one, whole in one read. Anything else (a head in pieces, another method, a wrong version) is none of this
//! file's business: hyper gets the bytes and is also who says what is wrong. See docs/decisions/009-the-way-in.md.

use std::ops::Range;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Heads with more headers than this go to hyper.
const HEADERS_MAX: usize = 32;

/// What the head of an upgrade says. Borrows from the bytes that were read.
pub(crate) struct Head<'a> {
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) origin: Option<&'a [u8]>,
    pub(crate) host: Option<&'a [u8]>,
    key: &'a [u8],
    /// Where in the bytes the client's first frames begin, if it sent some along.
    pub(crate) rest: Range<usize>,
}

/// Reads an ordinary upgrade; `None`: it is something else, or not all of it is there.
pub(crate) fn read(bytes: &[u8]) -> Option<Head<'_>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = request.parse(bytes).ok().filter(httparse::Status::is_complete)?.unwrap();
    if request.method != Some("GET") || request.version != Some(1) {
        return None;
    }
    let (path, query) = request.path.map(|path| path.split_once('?').unwrap_or((path, "")))?;
    let mut head = Head { path, query, origin: None, host: None, key: b"", rest: length..bytes.len() };
    let (mut upgrade, mut connection, mut version) = (false, false, false);
    for header in request.headers.iter() {
        let value = header.value;
        match header.name {
            name if name.eq_ignore_ascii_case("upgrade") => upgrade = value.eq_ignore_ascii_case(b"websocket"),
            name if name.eq_ignore_ascii_case("connection") => connection = names_upgrade(value),
            name if name.eq_ignore_ascii_case("sec-websocket-version") => version = value == b"13",
            name if name.eq_ignore_ascii_case("sec-websocket-key") => head.key = value,
            name if name.eq_ignore_ascii_case("origin") => head.origin = Some(value),
            name if name.eq_ignore_ascii_case("host") => head.host = Some(value),
            // A body, or a wish that hyper knows.
            name if ["content-length", "transfer-encoding", "expect"].iter().any(|n| name.eq_ignore_ascii_case(n)) => {
                return None;
            }
            _ => {}
        }
    }
    let ordinary = path.starts_with('/') && upgrade && connection && version && is_key(head.key);
    ordinary.then_some(head)
}

impl Head<'_> {
    /// The answer that makes the stream a WebSocket (RFC 6455, 4.2.2).
    pub(crate) fn answer(&self) -> Vec<u8> {
        let mut answer = Vec::with_capacity(320);
        answer.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ",
        );
        answer.extend_from_slice(derive_accept_key(self.key).as_bytes());
        answer.extend_from_slice(b"\r\n\r\n");
        answer
    }
}

/// All headers of a head that was read, for the few who look at more of them.
pub(crate) fn headers(bytes: &[u8]) -> HeaderMap {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    // It was read before.
    let _ = request.parse(bytes);
    let pair = |header: &httparse::Header<'_>| {
        Some((HeaderName::from_bytes(header.name.as_bytes()).ok()?, HeaderValue::from_bytes(header.value).ok()?))
    };
    let mut map = HeaderMap::new();
    for (name, value) in request.headers.iter().filter_map(pair) {
        map.append(name, value);
    }
    map
}

/// `keep-alive, Upgrade` as much as `Upgrade`.
fn names_upgrade(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// 16 bytes in base64 (RFC 6455, 4.1).
fn is_key(value: &[u8]) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || [b'+', b'/'].contains(byte);
    value.len() == 24 && value.ends_with(b"==") && value[..22].iter().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDINARY: &str = "GET /app/key?protocol=7 HTTP/1.1\r\nHost: ws.test\r\nUpgrade: WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\nOrigin: https://shop.test\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";

    #[test]
    fn an_ordinary_upgrade_is_read_and_answered_as_the_standard_says() {
        let bytes = [ORDINARY.as_bytes(), b"\x81\x80...."].concat();
        let head = read(&bytes).unwrap();
        assert_eq!((head.path, head.query), ("/app/key", "protocol=7"));
        assert_eq!((head.origin, head.host), (Some(&b"https://shop.test"[..]), Some(&b"ws.test"[..])));
        assert_eq!(&bytes[head.rest.clone()], b"\x81\x80....");
        assert_eq!(headers(&bytes)["sec-websocket-extensions"], "permessage-deflate");
        let answer = String::from_utf8(head.answer()).unwrap();
        // The key and its answer are the example of RFC 6455, 1.3.
        assert!(answer.ends_with("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"), "{answer}");
    }

    #[test]
    fn whatever_is_not_ordinary_is_left_to_hyper() {
        let changed = |from: &str, to: &str| {
            assert!(ORDINARY.contains(from), "{from}");
            ORDINARY.replace(from, to)
        };
        let others = [
            ORDINARY[..ORDINARY.len() - 1].to_owned(),
            changed("GET", "POST"),
            changed("HTTP/1.1", "HTTP/1.0"),
            changed("/app/key?protocol=7", "http://ws.test/app/key"),
            changed("Upgrade: WebSocket\r\n", ""),
            changed("WebSocket\r\n", "h2c\r\n"),
            changed("keep-alive, Upgrade", "keep-alive"),
            changed("Version: 13", "Version: 8"),
            changed("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ"),
            changed("dGhl", "dG!l"),
            changed("Origin", "Content-Length: 3\r\nOrigin"),
            changed("Origin", &"X: y\r\n".repeat(HEADERS_MAX)),
            "hello".to_owned(),
        ];
        for other in others {
            assert!(read(other.as_bytes()).is_none(), "{other}");
        }
    }
}
