//! What the words of this field mean, and when a signature is true.
//!
//! Nouns and pure rules only: no I/O, no clock, no runtime. Everything else in the workspace speaks in these types; how a
//! client or Redis spells them is the business of `dialects` and `backplane`.

pub mod app;
pub mod auth;
pub mod channel;
pub mod command;
pub mod delivery;
pub mod dialect;
pub mod event;
pub mod frame;
pub mod history;
pub mod json;
pub mod member;
pub mod notice;
pub mod position;
pub mod refusal;
pub mod socket_id;
pub mod webhook;

pub use app::{App, AppLimits, Apps, ClientEvents, OnGap, Secret, WhenFull};
pub use channel::{Access, ChannelKey, ChannelKind, ChannelName};
pub use command::{Action, Command, Headers, Proof, Resume, Tag};
pub use delivery::{Broadcast, Delivery};
pub use dialect::{Dialect, Encoding, Heartbeat, Message, OpenRequest, Opening, State, View};
pub use event::Event;
pub use frame::Framing;
pub use history::{HistoryDepth, HistoryRule};
pub use json::RawJson;
pub use member::{Member, Roster, UserId};
pub use notice::Notice;
pub use position::Position;
pub use refusal::{Advice, Reason, Refusal};
pub use socket_id::SocketId;
pub use webhook::{Webhook, WebhookKind, WebhookKinds};
