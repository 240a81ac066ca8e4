//! A proxy that nobody taught about WebSockets: like nginx without its four lines, it passes requests on and drops the
//! headers that speak of one connection only.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

pub(crate) struct Proxy {
    pub(crate) port: u16,
}

impl Proxy {
    pub(crate) fn before(node: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Lives as long as the tests do.
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                thread::spawn(move || pass(near, node));
            }
        });
        Self { port }
    }
}

/// One request without a body, and its answer.
fn pass(mut near: TcpStream, node: SocketAddr) -> Option<()> {
    let (mut head, mut bytes) = (Vec::new(), [0; 4096]);
    while !head.ends_with(b"\r\n\r\n") {
        match near.read(&mut bytes).ok()? {
            0 => return None,
            length => head.extend_from_slice(&bytes[..length]),
        }
    }
    let head = String::from_utf8(head).ok()?;
    let of_this_hop =
        |line: &&str| ["upgrade:", "connection:"].iter().any(|name| line.to_lowercase().starts_with(name));
    let lines: Vec<&str> = head.trim_end().lines().filter(|line| !of_this_hop(line)).collect();
    let mut far = TcpStream::connect(node).ok()?;
    far.write_all(format!("{}\r\nConnection: close\r\n\r\n", lines.join("\r\n")).as_bytes()).ok()?;
    std::io::copy(&mut far, &mut near).ok().map(drop)
}
