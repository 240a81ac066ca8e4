//! HTTP by hand: one request a connection, so that a test can send what no library would.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

use model::app::Secret;

use super::node::{APP_ID, KEY, SECRET};
use super::wait::LIMIT;

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

pub(crate) fn get(to: SocketAddr, path: &str) -> Response {
    request(to, "GET", path, "")
}

/// Sends a request with the body as JSON and reads the answer to its end. Status 0: no answer.
pub(crate) fn request(to: SocketAddr, method: &str, path: &str, body: &str) -> Response {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    exchange(to, &[head.as_bytes(), body.as_bytes()].concat())
}

/// Sends these bytes and reads until the other side closes.
pub(crate) fn exchange(to: SocketAddr, bytes: &[u8]) -> Response {
    let mut answer = Vec::new();
    if let Ok(mut stream) = TcpStream::connect(to) {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // A server that refuses early may close before it has read all; its answer counts all the same.
        let _ = stream.write_all(bytes);
        let _ = stream.read_to_end(&mut answer);
    }
    parse(&String::from_utf8_lossy(&answer))
}

fn parse(text: &str) -> Response {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
    let body = if chunked { unchunk(body) } else { body.to_owned() };
    Response { status, headers, body }
}

fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        body.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    body
}

/// Who signs a request, and when they think it is.
pub(crate) struct Signer {
    pub(crate) app_id: &'static str,
    pub(crate) key: &'static str,
    pub(crate) secret: &'static str,
    /// Seconds to add to the time.
    pub(crate) clock: i64,
}

/// The application itself.
pub(crate) const APPLICATION: Signer = Signer { app_id: APP_ID, key: KEY, secret: SECRET, clock: 0 };

impl Signer {
    /// `POST /apps/{id}/{call}`.
    pub(crate) fn post(&self, to: SocketAddr, call: &str, body: &str) -> Response {
        self.request(to, "POST", call, &[], body)
    }

    /// `GET /apps/{id}/{call}`, with parameters.
    pub(crate) fn get(&self, to: SocketAddr, call: &str, parameters: &[(&str, &str)]) -> Response {
        self.request(to, "GET", call, parameters, "")
    }

    /// `GET` with a prefix before the path that is signed.
    pub(crate) fn get_behind(&self, to: SocketAddr, prefix: &str, call: &str) -> Response {
        request(to, "GET", &format!("{prefix}{}", self.target("GET", call, &[], "")), "")
    }

    /// A `POST` whose head says that this body follows, which never comes.
    pub(crate) fn post_no_body(&self, to: SocketAddr, call: &str, body: &str) -> TcpStream {
        let target = self.target("POST", call, &[], body);
        let head = format!("POST {target} HTTP/1.1\r\nHost: {to}\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut stream = TcpStream::connect(to).expect("a connection");
        stream.write_all(head.as_bytes()).expect("a head is taken");
        stream
    }

    fn request(&self, to: SocketAddr, method: &str, call: &str, parameters: &[(&str, &str)], body: &str) -> Response {
        request(to, method, &self.target(method, call, parameters, body), body)
    }

    /// The path with its signed query.
    fn target(&self, method: &str, call: &str, parameters: &[(&str, &str)], body: &str) -> String {
        let path = format!("/apps/{}/{call}", self.app_id);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().saturating_add_signed(self.clock);
        let secret = Secret::new(self.secret);
        let mut query = model::auth::sign_request(self.key, &secret, method, &path, body.as_bytes(), now);
        if !parameters.is_empty() {
            query.retain(|(name, _)| name != "auth_signature");
            query.extend(parameters.iter().map(|(name, value)| (name.to_string(), value.to_string())));
            let text = model::auth::request_text(method, &path, &query);
            query.push(("auth_signature".into(), model::auth::sign(&secret, text.as_bytes())));
        }
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{path}?{}", query.join("&"))
    }
}
