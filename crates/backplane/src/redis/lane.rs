//! The one road out: publishes in the order of the calls, pipelined on a connection of their own.
//!
//! The queue outlives links; each link brings a connection and works it off. What was not sent when a link is lost did not
//! happen; what was sent and not answered may have. Bounded in bytes until the answer; full means unavailable.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use model::HistoryDepth;
use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, oneshot};

use super::errands::millis;
use super::random;
use crate::{BoxFuture, PublishError};

/// Publishes what a channel keeps.
const PUBLISH: &str = include_str!("scripts/publish.lua");

/// Of one pipeline.
const BATCH_MAX: usize = 512;
const BATCH_BYTES: usize = 1 << 20;
/// Pipelines under way. Fewer than the connection's own queue takes (50), so handing one over never waits.
const BATCHES_MAX: usize = 16;

/// A channel's place and how much it keeps, for an event that it keeps.
pub(super) struct Keep {
    pub store: String,
    /// `A:C` of the keys.
    pub channel: String,
    pub depth: HistoryDepth,
}

/// What a script must know of the server that it runs on.
#[derive(Clone)]
pub(super) struct Server {
    pub run: Arc<str>,
    /// For how long nobody is reaped on a fresh one.
    pub quiet: Duration,
}

struct Entry {
    topic: String,
    payload: Vec<u8>,
    keep: Option<Keep>,
    answer: oneshot::Sender<Result<(), PublishError>>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + 128
    }
}

/// What happens to publishes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Gate {
    /// There is no link: refused.
    #[default]
    Closed,
    Open,
    /// Two links: taken, and not sent before it is known which one stays.
    Waiting,
    /// As `Waiting`, and [`Lane::run`] ends when all that was sent is answered.
    Ending,
}

#[derive(Default)]
struct Queue {
    gate: Gate,
    waiting: VecDeque<Entry>,
    /// Of all that has no answer yet.
    bytes: usize,
}

pub(super) struct Lane {
    queue: Mutex<Queue>,
    wake: Notify,
    bytes_max: usize,
}

impl Lane {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { queue: Mutex::default(), wake: Notify::new(), bytes_max }
    }

    /// Takes its place in the order now. The answer comes whoever polls for it, or nobody.
    pub(super) fn publish(
        &self,
        topic: String,
        payload: Vec<u8>,
        keep: Option<Keep>,
    ) -> BoxFuture<Result<(), PublishError>> {
        let (answer, answered) = oneshot::channel();
        let entry = Entry { topic, payload, keep, answer };
        let bytes = entry.bytes();
        let mut queue = self.lock();
        if queue.gate == Gate::Closed || queue.bytes + bytes > self.bytes_max {
            return Box::pin(std::future::ready(Err(PublishError::Unavailable)));
        }
        queue.bytes += bytes;
        queue.waiting.push_back(entry);
        drop(queue);
        self.wake.notify_one();
        // Dropped without an answer: it was on a link that was lost.
        Box::pin(async { answered.await.unwrap_or(Err(PublishError::TimedOut)) })
    }

    pub(super) fn open(&self) {
        *self.lock() = Queue { gate: Gate::Open, ..Queue::default() };
    }

    pub(super) fn set(&self, gate: Gate) {
        self.lock().gate = gate;
        self.wake.notify_one();
    }

    /// For the next link, with what waits. [`Lane::run`] must have ended.
    pub(super) fn reopen(&self) {
        let mut queue = self.lock();
        (queue.gate, queue.bytes) = (Gate::Open, queue.waiting.iter().map(Entry::bytes).sum());
    }

    /// Whoever was not sent is told so. [`Lane::run`] must have ended.
    pub(super) fn close(&self) {
        let queue = std::mem::take(&mut *self.lock());
        for entry in queue.waiting {
            let _ = entry.answer.send(Err(PublishError::Unavailable));
        }
    }

    /// Works the queue off on one connection; returns why that is lost, or nothing at [`Gate::Ending`].
    pub(super) async fn run(
        &self,
        connection: MultiplexedConnection,
        server: &Server,
        timeout: Duration,
    ) -> Option<String> {
        let mut under_way = FuturesUnordered::new();
        loop {
            if under_way.is_empty() && self.lock().gate == Gate::Ending {
                return None;
            }
            let batch = if under_way.len() < BATCHES_MAX { self.take_batch() } else { Vec::new() };
            if !batch.is_empty() {
                let sending = tokio::task::unconstrained(send(connection.clone(), server, batch, timeout));
                let mut sending = Box::pin(sending);
                // The first poll hands the bytes to the connection: the order is made here, whoever is polled next.
                match std::future::poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await {
                    Poll::Ready(Sent { lost: Some(reason), .. }) => return Some(reason),
                    Poll::Ready(sent) => self.lock().bytes -= sent.bytes,
                    Poll::Pending => under_way.push(sending),
                }
                continue;
            }
            tokio::select! {
                biased;
                Some(sent) = under_way.next() => match sent.lost {
                    Some(reason) => return Some(reason),
                    None => self.lock().bytes -= sent.bytes,
                },
                () = self.wake.notified(), if under_way.len() < BATCHES_MAX => {}
            }
        }
    }

    fn take_batch(&self) -> Vec<Entry> {
        let mut queue = self.lock();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        if queue.gate != Gate::Open {
            return batch;
        }
        while batch.len() < BATCH_MAX && bytes < BATCH_BYTES {
            let Some(entry) = queue.waiting.pop_front() else { break };
            bytes += entry.bytes();
            batch.push(entry);
        }
        batch
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under it can panic half-way.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Sent {
    bytes: usize,
    /// Why the connection is of no use any more.
    lost: Option<String>,
}

async fn send(mut connection: MultiplexedConnection, server: &Server, batch: Vec<Entry>, timeout: Duration) -> Sent {
    let bytes = batch.iter().map(Entry::bytes).sum();
    let mut pipeline = redis::Pipeline::with_capacity(batch.len());
    for entry in &batch {
        match &entry.keep {
            None => pipeline.cmd("PUBLISH").arg(&entry.topic).arg(&entry.payload[..]),
            // With its text, not its hash: a publish cannot be repeated for a server that forgot the script.
            Some(Keep { store, channel, depth }) => {
                pipeline.cmd("EVAL").arg(PUBLISH).arg(1).arg(format!("{store}:hm:{channel}"));
                pipeline.arg(store).arg(channel).arg(&entry.topic).arg(&entry.payload[..]);
                pipeline.arg(depth.size).arg(millis(depth.ttl));
                pipeline.arg(&*server.run).arg(format!("{:016x}", random())).arg(millis(server.quiet))
            }
        };
    }
    let sending = pin!(connection.send_packed_commands(&pipeline, 0, batch.len()));
    let (answers, lost) = match tokio::time::timeout(timeout, sending).await {
        Ok(Ok(answers)) => (answers, None),
        Ok(Err(error)) => (Vec::new(), Some(error.to_string())),
        Err(_) => (Vec::new(), None),
    };
    let mut answers = answers.into_iter();
    for entry in batch {
        let answer = match answers.next() {
            Some(Value::ServerError(error)) => Err(PublishError::Refused(error.to_string())),
            Some(_) => Ok(()),
            None => Err(PublishError::TimedOut),
        };
        let _ = entry.answer.send(answer);
    }
    Sent { bytes, lost }
}
