//! `fanfare health`: one question to a node's admin port, for machines that have no curl and no shell.
//!
//! Plain sockets with a limit on everything: a probe must end, whatever the node does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::{Failure, print, target};
use crate::cli::Health;
use crate::settings::Settings;

/// How long connecting and then the answer may take. A container's health check gives us 3 seconds by default.
const LIMIT: Duration = Duration::from_secs(2);

/// The answers are one line; what is longer is no answer of a node.
const ANSWER_MAX: u64 = 16 * 1024;

pub(super) fn run(asked: &Health, settings: &Settings) -> Result<(), Failure> {
    let url = target::admin_url(asked.to.as_deref(), settings)?;
    let path = if asked.live { "/live" } else { "/ready" };
    let (status, body) = get(&url, path)?;
    match status {
        200 => print(&format!("{}\n", body.trim_end())),
        503 => Err(Failure::Failed(format!("{url}{path}: {}", body.trim_end()))),
        other => Err(Failure::Failed(format!("{url}{path} answers {other}: is that the admin port of a node?"))),
    }
}

/// Status and body of `GET url/path`.
fn get(url: &str, path: &str) -> Result<(u16, String), Failure> {
    let rest = url.strip_prefix("http://").ok_or_else(|| Failure::Usage("--to wants http://host:port".to_owned()))?;
    let authority = rest.trim_end_matches('/');
    let address = resolve(authority).ok_or_else(|| Failure::CannotReach(format!("{url}: no such address")))?;
    let unreachable = |error: std::io::Error| Failure::CannotReach(format!("{url}: {error}"));
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).map_err(unreachable)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(unreachable)?;
    parse(&read(&mut stream)).ok_or_else(|| {
        let limit = LIMIT.as_secs();
        Failure::Failed(format!("{url} took the question and gave no answer of HTTP within {limit} s"))
    })
}

fn resolve(authority: &str) -> Option<SocketAddr> {
    authority.to_socket_addrs().ok()?.next()
}

/// What comes until the other side closes, or the time is up.
fn read(stream: &mut TcpStream) -> Vec<u8> {
    let end = Instant::now() + LIMIT;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || answer.len() as u64 >= ANSWER_MAX || stream.set_read_timeout(Some(left)).is_err() {
            return answer;
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return answer,
            Ok(length) => answer.extend_from_slice(&part[..length]),
        }
    }
}

fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbody";
        assert_eq!(parse(answer), Some((503, "body".to_owned())));
        for wrong in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 many\r\n\r\n"] {
            assert_eq!(parse(wrong), None);
        }
    }
}
