//! What the workers of a node share, and the face that the backplane sees.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use backplane::{Item, Workers};
use model::{Dialect, SocketId, socket_id};

use crate::inbox::Inbox;
use crate::stats::WorkerStats;

/// Limits of the engine. Bytes unless said.
#[derive(Clone, Debug)]
pub struct Settings {
    /// 1 ..= 64.
    pub workers: usize,
    /// One worker's inbox.
    pub inbox_bytes: usize,
    /// A batch is at most this many events …
    pub batch_events: usize,
    /// … or this many bytes; one larger event is a batch.
    pub batch_bytes: usize,
    /// One connection's outbox.
    pub outbox_bytes: usize,
    /// All outboxes of the node together; above it the fullest are closed first.
    pub outbox_total_bytes: usize,
    /// Over how long connections are asked back when messages were lost and the app says so.
    pub gap_spread: std::time::Duration,
    /// The first half of this node's socket ids, 1 ..= 2^31 − 1.
    pub node: u32,
}

pub struct Hub {
    pub(crate) settings: Settings,
    pub(crate) dialects: &'static [&'static dyn Dialect],
    pub(crate) inboxes: Vec<Inbox>,
    stats: Vec<Arc<WorkerStats>>,
    sequence: AtomicU32,
}

impl Hub {
    /// `dialects`: the table that `Encoding::dialect` counts in.
    pub fn new(settings: Settings, dialects: &'static [&'static dyn Dialect]) -> Arc<Self> {
        let stats: Vec<Arc<WorkerStats>> = (0..settings.workers).map(|_| Arc::default()).collect();
        let inboxes = stats.iter().map(|stats| Inbox::new(settings.inbox_bytes, stats.clone())).collect();
        Arc::new(Self { settings, dialects, inboxes, stats, sequence: AtomicU32::new(0) })
    }

    pub fn stats(&self) -> &[Arc<WorkerStats>] {
        &self.stats
    }

    /// Open connections of one app.
    pub fn connections_of(&self, app: &str) -> u64 {
        self.stats.iter().map(|stats| stats.connections_of(app)).sum()
    }

    /// A socket id that this node has not given in its last 2^31 connections.
    pub(crate) fn next_socket_id(&self) -> SocketId {
        loop {
            let sequence = self.sequence.fetch_add(1, Relaxed) & socket_id::MAX;
            if let Some(id) = SocketId::new(self.settings.node, sequence) {
                return id;
            }
        }
    }
}

impl Workers for Hub {
    fn count(&self) -> usize {
        self.inboxes.len()
    }

    fn push(&self, worker: usize, item: Item) {
        if let Some(inbox) = self.inboxes.get(worker) {
            inbox.push(item);
        }
    }

    fn connections(&self) -> HashMap<Arc<str>, u64> {
        let mut all = HashMap::new();
        for ((app, _), stats) in self.stats.iter().flat_map(|stats| stats.links()) {
            *all.entry(app).or_default() += stats.connections.get();
        }
        all
    }
}
