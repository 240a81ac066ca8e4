//! What a worker counts. One writer each (the worker's thread), read by whoever makes the metrics text.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use model::{ChannelKind, Refusal};

/// A number with one writer. Cheaper than an atomic addition, and still safe to read from elsewhere.
#[derive(Default, Debug)]
pub struct Count(AtomicU64);

impl Count {
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub(crate) fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }
}

/// Results of a subscribe, in the order of `LinkStats::subscribes`.
pub const RESULTS: [&str; 4] = ["ok", "denied", "invalid", "limit"];

/// Counters of one app's connections of one dialect.
#[derive(Default, Debug)]
pub struct LinkStats {
    /// Open now.
    pub connections: Count,
    pub opened: Count,
    /// Messages from clients, control frames apart, and their bytes.
    pub received: Count,
    pub received_bytes: Count,
    /// Channel messages written or queued to sockets: one a message and socket.
    pub delivered: Count,
    /// All bytes written or queued, answers included.
    pub sent_bytes: Count,
    /// Admitted now.
    pub subscriptions: Count,
    /// By kind of channel (order of `ChannelKind::LABELS`) and result (order of [`RESULTS`]).
    pub subscribes: [[Count; RESULTS.len()]; ChannelKind::LABELS.len()],
    /// Connections told that messages may be missing, or closed for it.
    pub gaps: Count,
    /// Who came back with a position and was told all that it missed, and who was told that something is lost.
    pub recovered: Count,
    pub not_recovered: Count,
    /// Sign-ins that were refused.
    pub sign_ins_refused: Count,
    /// Client events that were refused.
    pub whispers_refused: Count,
    /// Client events given to the backplane.
    pub whispers: Count,
    closed: Mutex<HashMap<&'static str, u64>>,
}

impl LinkStats {
    /// Closed connections by reason.
    pub fn closed(&self) -> HashMap<&'static str, u64> {
        self.closed.lock().map(|map| map.clone()).unwrap_or_default()
    }

    pub(crate) fn count_closed(&self, reason: &'static str) {
        if let Ok(mut closed) = self.closed.lock() {
            *closed.entry(reason).or_default() += 1;
        }
    }

    pub(crate) fn count_subscribe(&self, kind: ChannelKind, refusal: Option<&Refusal>) {
        let kind = ChannelKind::LABELS.iter().position(|label| *label == kind.label()).unwrap_or(0);
        let result = match refusal.map(|refusal| refusal.reason.row().label) {
            None => 0,
            Some("denied") => 1,
            Some("limit") => 3,
            Some(_) => 2,
        };
        self.subscribes[kind][result].add(1);
    }
}

/// An app's id and a dialect's number.
pub type LinkKey = (Arc<str>, u8);

/// Counters of one worker.
#[derive(Default, Debug)]
pub struct WorkerStats {
    links: Mutex<HashMap<LinkKey, Arc<LinkStats>>>,
    /// Bytes that wait in outboxes.
    pub queued_bytes: Count,
    /// The worker's clock: whole seconds since it began, moved on once a second.
    pub seconds: Count,
    /// Messages that a full inbox lost.
    pub inbox_dropped: AtomicU64,
}

impl WorkerStats {
    pub fn links(&self) -> Vec<(LinkKey, Arc<LinkStats>)> {
        self.links.lock().map(|map| map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()).unwrap_or_default()
    }

    pub(crate) fn connections_of(&self, app: &str) -> u64 {
        let Ok(links) = self.links.lock() else { return 0 };
        links.iter().filter(|((id, _), _)| **id == *app).map(|(_, stats)| stats.connections.get()).sum()
    }

    /// Looked up once a connection.
    pub(crate) fn link(&self, app: &Arc<str>, dialect: u8) -> Arc<LinkStats> {
        match self.links.lock() {
            Ok(mut links) => links.entry((app.clone(), dialect)).or_default().clone(),
            Err(_) => Arc::default(),
        }
    }
}
