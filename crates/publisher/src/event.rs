//! What is published.

use model::{ChannelName, RawJson};

use crate::error::PublishError;

/// An event for one or more channels.
///
/// ```
/// use fanfare_publisher::{Event, RawJson};
///
/// let mut event = Event::new("orders", "shipped", RawJson::parse(r#"{"id":7}"#).unwrap());
/// event.channels.push("private-user.1".into());
/// event.socket_id = Some("123.456".into()); // this one connection will not hear it
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// At least one. Over HTTP at most 100, unless the app's limit is another.
    pub channels: Vec<String>,
    pub name: String,
    /// Any JSON value; its bytes reach the clients as they are.
    pub data: RawJson,
    /// The connection that caused the event and does not want to hear it.
    pub socket_id: Option<String>,
}

impl Event {
    pub fn new(channel: impl Into<String>, name: impl Into<String>, data: RawJson) -> Self {
        Self { channels: vec![channel.into()], name: name.into(), data, socket_id: None }
    }

    /// What no road would take, told before anything is sent.
    pub(crate) fn check(&self) -> Result<(), PublishError> {
        let bad = |text: String| Err(PublishError::BadEvent(text));
        if self.channels.is_empty() {
            return bad("The event has no channel".to_owned());
        }
        for channel in &self.channels {
            if let Err(wrong) = ChannelName::new(channel) {
                return bad(format!("{} ({channel:?})", wrong.0));
            }
        }
        if self.name.is_empty() || self.name.len() > model::event::NAME_MAX {
            return bad(format!("The event's name has no or more than {} bytes", model::event::NAME_MAX));
        }
        if self.name.starts_with(model::event::INTERNAL_PREFIX) {
            return bad(format!("Events that begin with {} are the nodes' own", model::event::INTERNAL_PREFIX));
        }
        match &self.socket_id {
            Some(id) if !model::socket_id::has_the_form(id) => bad(format!("{id:?} is not a socket id")),
            _ => Ok(()),
        }
    }
}
