//! Asking the application whether a client may listen: for dialects whose clients show nothing that is signed.
//!
//! The answer becomes the proof that a signing back end would have given, and from there on it is a subscribe like any other. A client
//! that leaves the channel or is gone meanwhile takes its question along.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use model::{App, ChannelName, Headers, Proof, Reason, Refusal, Resume, SocketId, Tag};
use tokio::task::JoinHandle;

use crate::connection::Connection;
use crate::shard::Shard;

/// Questions of one client that are with the application at a time: it must not take the turns of all others.
pub(crate) const ASKING_MAX: usize = 4;

/// What the application is asked.
#[derive(Debug)]
pub struct Question {
    pub app: Arc<App>,
    pub socket: SocketId,
    /// Private or presence.
    pub channel: ChannelName,
    /// As the client wrote them beside its subscribe.
    pub headers: Headers,
    /// As [`Connection::set_credentials`] had them.
    pub credentials: Option<Rc<[u8]>>,
}

/// Whoever can ask applications.
pub trait Authority {
    /// # Errors
    /// The application's "no", with its status; or why it could not be asked.
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = Result<Proof, Refusal>>>>;
}

/// A question that was put and not answered yet. Dropped, it is withdrawn.
pub(crate) struct Asking {
    pub(crate) channel: ChannelName,
    task: JoinHandle<()>,
}

impl Asking {
    pub(crate) fn new(channel: ChannelName, task: JoinHandle<()>) -> Self {
        Self { channel, task }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A question to be put, and where its answer goes.
pub(crate) struct Inquiry {
    pub(crate) connection: Rc<Connection>,
    pub(crate) question: Question,
    pub(crate) resume: Option<Resume>,
    pub(crate) tag: Tag,
}

impl Shard {
    /// Has the application asked, unless that is under way or there is no need.
    pub(crate) fn inquire(
        &mut self,
        connection: &Rc<Connection>,
        channel: ChannelName,
        headers: Headers,
        resume: Option<Resume>,
        tag: Tag,
    ) {
        if connection.is_asking(&channel) {
            return;
        }
        let app = connection.app();
        let open = connection.subscriptions.borrow().len() + connection.asking();
        if open >= app.limits.channels_per_connection {
            let (kind, refusal) = (channel.kind(), Reason::TooManySubscriptions.into());
            return self.refuse_subscribe(connection, &channel, kind, &refusal, &tag);
        }
        let (socket, credentials) = (connection.id, connection.credentials());
        let question = Question { app, socket, channel, headers, credentials };
        self.inquiries.push(Inquiry { connection: connection.clone(), question, resume, tag });
    }

    /// The application has answered, and the client still wants to know.
    pub(crate) fn note_inquired(
        &mut self,
        connection: &Rc<Connection>,
        channel: ChannelName,
        resume: Option<Resume>,
        tag: Tag,
        answer: Result<Proof, Refusal>,
    ) {
        if connection.closing().is_some() || !connection.forget_asking(&channel) {
            return;
        }
        match answer {
            // A proof that asks again would ask for ever.
            Ok(proof) => self.subscribe(connection, channel, Proof { show: None, ..proof }, resume, tag),
            Err(refusal) => self.refuse_subscribe(connection, &channel, channel.kind(), &refusal, &tag),
        }
        self.settle();
    }
}
