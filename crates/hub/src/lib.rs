//! Who is here, who listens, who gets this.
//!
//! The engine: workers that own connections and channel maps. It knows no client protocol by name, no wire format and no
//! Redis: dialects come in as a table of `model::Dialect`, other nodes as `backplane::Backplane`.
//!
//! Between threads there are only the bounded inboxes; on the path from inbox to socket there is no lock and no `await`.

mod authority;
mod channel;
mod connection;
mod fanout;
mod hub;
mod inbox;
mod liveness;
mod outbox;
mod run;
mod shard;
mod slots;
mod stats;
mod subscribe;
mod tls;
mod user;
mod whisper;
mod worker;

pub use authority::{Authority, Question};
pub use connection::{Connection, Turn};
pub use hub::{Hub, Settings};
pub use outbox::Sink;
pub use stats::{LinkKey, LinkStats, RESULTS, WorkerStats};
pub use tls::Tls;
pub use worker::Worker;

#[cfg(test)]
mod story_tests;
