//! A TCP relay that counts, listens and can be aimed elsewhere: before a node's link to Redis, or between clients and nodes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

pub(crate) struct Relay {
    pub(crate) port: u16,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Bytes from the server to the node.
    down: AtomicU64,
    /// What the server sent since [`Relay::listen`].
    heard: Mutex<Vec<u8>>,
    /// What clients sent since [`Relay::listen`].
    said: Mutex<Vec<u8>>,
    /// The port that new connections go to.
    to: AtomicU16,
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// Passes everything on to a port of this machine.
    pub(crate) fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let counts = Arc::new(Counts { to: to.into(), ..Counts::default() });
        let shared = counts.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if let Ok(far) = TcpStream::connect(("127.0.0.1", shared.to.load(Ordering::SeqCst))) {
                    join(near, far, &shared);
                }
            }
        });
        Self { port, counts }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn bytes_down(&self) -> u64 {
        self.counts.down.load(Ordering::SeqCst)
    }

    /// From now on new connections go to this port.
    pub(crate) fn aim(&self, to: u16) {
        self.counts.to.store(to, Ordering::SeqCst);
    }

    /// Forgets what was heard so far.
    pub(crate) fn listen(&self) {
        self.counts.heard.lock().unwrap().clear();
        self.counts.said.lock().unwrap().clear();
    }

    /// What clients sent since [`Self::listen`].
    pub(crate) fn said(&self) -> Vec<u8> {
        self.counts.said.lock().unwrap().clone()
    }

    /// How often the server sent these bytes since [`Self::listen`].
    pub(crate) fn heard(&self, word: &str) -> usize {
        let heard = self.counts.heard.lock().unwrap();
        heard.windows(word.len()).filter(|window| *window == word.as_bytes()).count()
    }

    /// Ends all connections; new ones are passed on.
    pub(crate) fn cut(&self) {
        for stream in self.counts.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn join(near: TcpStream, far: TcpStream, counts: &Arc<Counts>) {
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let both = [near.try_clone().unwrap(), far.try_clone().unwrap()];
    counts.open.lock().unwrap().extend(both);
    let (near_out, far_out) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    let up = counts.clone();
    thread::spawn(move || pass(near, far_out, |bytes| up.said.lock().unwrap().extend_from_slice(bytes)));
    let counts = counts.clone();
    thread::spawn(move || {
        pass(far, near_out, |bytes| {
            counts.down.fetch_add(bytes.len() as u64, Ordering::SeqCst);
            counts.heard.lock().unwrap().extend_from_slice(bytes);
        });
    });
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut note: impl FnMut(&[u8])) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        note(&bytes[..length]);
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
