//! What waits for the listener: pushes of the link, calls of the workers, news of the tasks around it.
//!
//! Writers never wait. Pushes are counted in bytes until they are worked off; full means that the link is given up, as an
//! unknown number of messages would be lost anyway. Asks are counted too; full means a refusal. Leaves and exits are not:
//! each stands for an admission before it, and their number is bounded by that.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{ChannelKey, UserId};
use redis::{PushInfo, Value};
use tokio::sync::{Notify, oneshot};

use super::errands::Reply;
use super::handover::Witness;
use super::link::Link;
use super::presence::Store;
use super::queries::Own;
use crate::Ask;
use crate::roster::Renewal;
use crate::topics::TopicId;

/// Asks that may wait, of all workers.
const ASKS_MAX: usize = 1 << 20;

/// What a question needs of the topics, and where its asker goes on from there: `None` without a link.
pub(super) enum Question {
    Channels(Vec<Arc<ChannelKey>>),
    OutOfStep(Arc<str>),
    Nothing,
}

pub(super) type Told = Option<(Arc<Store>, Vec<(Arc<ChannelKey>, Own)>)>;

pub(super) enum Call {
    Ask(usize, Ask),
    Leave(usize, Arc<ChannelKey>),
    Exit(Arc<ChannelKey>, UserId),
    Query(Question, oneshot::Sender<Told>),
    /// Answered when no exit is under way any more.
    Close(oneshot::Sender<()>),
}

/// News of a link. What an earlier link's tasks still say is dropped by the generation.
pub(super) enum News {
    Up(Link),
    /// The link is lost, and with it one that was made beside it.
    Down,
    /// Whether probes of the link in use are late.
    Late(bool),
    /// Another link, to take over from the late one.
    Beside(Link, Witness),
    /// Redis answered one SUBSCRIBE with an error, as a whole. `forbidden`: for lack of rights, else for a reason that has
    /// nothing to do with the names (a script that runs too long, a server that is loading).
    Refused {
        generation: u64,
        ids: Vec<TopicId>,
        forbidden: bool,
    },
    /// The node's incarnation is registered.
    Registered(u64, Renewal),
    /// The node's incarnation is no longer accepted.
    Fenced(u64),
    Answered(Vec<Reply>),
}

pub(super) struct Push {
    pub generation: u64,
    pub info: PushInfo,
    pub bytes: usize,
}

#[derive(Default)]
struct Waiting {
    pushes: VecDeque<Push>,
    /// Of the pushes here and of those that the listener has taken and not yet worked off.
    bytes: usize,
    calls: Vec<Call>,
    asks: usize,
    news: Vec<News>,
}

pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    bytes_max: usize,
    pub wake: Notify,
}

impl Inbox {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { waiting: Mutex::default(), bytes_max, wake: Notify::new() }
    }

    /// From the connection's own task. False when there is no room: the link is lost.
    #[must_use]
    pub(super) fn push(&self, generation: u64, info: PushInfo) -> bool {
        let bytes = 64 + info.data.iter().map(size).sum::<usize>();
        let mut waiting = self.lock();
        if waiting.bytes + bytes > self.bytes_max {
            return false;
        }
        waiting.bytes += bytes;
        waiting.pushes.push_back(Push { generation, info, bytes });
        drop(waiting);
        self.wake.notify_one();
        true
    }

    /// The ask back when there are too many.
    #[must_use]
    pub(super) fn call(&self, call: Call) -> Option<Call> {
        let mut waiting = self.lock();
        if matches!(call, Call::Ask(..)) {
            if waiting.asks >= ASKS_MAX {
                return Some(call);
            }
            waiting.asks += 1;
        }
        waiting.calls.push(call);
        drop(waiting);
        self.wake.notify_one();
        None
    }

    pub(super) fn tell(&self, news: News) {
        self.lock().news.push(news);
        self.wake.notify_one();
    }

    /// Takes everything; `worked_off` bytes of pushes taken before are free again.
    pub(super) fn take(&self, pushes: &mut VecDeque<Push>, worked_off: usize) -> (Vec<News>, Vec<Call>) {
        let mut waiting = self.lock();
        waiting.bytes -= worked_off;
        waiting.asks = 0;
        pushes.append(&mut waiting.pushes);
        (std::mem::take(&mut waiting.news), std::mem::take(&mut waiting.calls))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing under it can panic half-way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::BulkString(bytes) => bytes.len() + 32,
        _ => 32,
    }
}
