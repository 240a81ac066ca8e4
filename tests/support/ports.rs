//! Ports for processes that cannot choose a free one by themselves.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that the kernel gives to outgoing connections, so that nobody takes one between our look and the use.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port of the loopback address on which nobody listens, never given twice in this process.
pub(crate) fn free() -> u16 {
    let start = (std::process::id() * 61 % u32::from(LAST - FIRST)) as u16;
    for _ in FIRST..LAST {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % (LAST - FIRST);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {LAST}");
}
