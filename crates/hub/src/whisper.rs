//! Client events: from one client to all others on a private or presence channel.

use std::rc::Rc;
use std::sync::Arc;

use backplane::{BoxFuture, PublishError};
use model::WebhookKind;
use model::webhook::Happening;
use model::{Access, ChannelKey, ChannelName, ClientEvents, Event, Notice, RawJson, Reason, Refusal, Tag, UserId};

use crate::connection::Connection;
use crate::shard::Shard;

/// A client event on its way into the backplane, and whom to tell when it does not get there.
pub(crate) struct Whispered {
    pub(crate) published: BoxFuture<Result<(), PublishError>>,
    connection: Rc<Connection>,
    channel: Arc<ChannelKey>,
    tag: Tag,
    /// What the app's webhooks are told once it got there.
    report: Option<Happening>,
}

impl Shard {
    pub(crate) fn whisper(
        &mut self,
        connection: &Rc<Connection>,
        name: ChannelName,
        event: Box<str>,
        data: RawJson,
        tag: Tag,
    ) {
        let key = ChannelKey { app: connection.app().id.clone(), name };
        let sender = self.sender(connection, &key);
        if let Err(refusal) = permit(connection, &key.name, sender.is_some(), &event, &data) {
            connection.stats.whispers_refused.add(1);
            connection.log_refusal("a client event is refused", key.name.as_str(), &refusal);
            return self.tell_refused(connection, &key.name, &refusal, &tag);
        }
        connection.stats.whispers.add(1);
        let user = sender.flatten();
        let channel = Arc::new(key);
        let report = connection.app().webhook_kinds().has(WebhookKind::ClientEvent).then(|| {
            let (event, data, socket, user) = (event.clone(), data.clone(), connection.id, user.clone());
            Happening::ClientEvent { event, data, socket, user }
        });
        let user_id = user.map(|user| Box::from(&*user));
        let event = Event { name: event, data, except: Some(connection.id), user_id, position: None, cacheable: false };
        let published = self.backplane.publish(channel.clone(), event);
        self.whispers.push(Whispered { published, connection: connection.clone(), channel, tag, report });
    }

    /// What became of a whisper: the webhooks are told of one that got there, the sender of one that did not.
    pub(crate) fn note_whispered(&mut self, whispered: Whispered, result: Result<(), PublishError>) {
        let Whispered { connection, channel, tag, report, .. } = whispered;
        let text = match result {
            Ok(()) => {
                report.into_iter().for_each(|happening| self.backplane.report(channel.clone(), happening));
                return;
            }
            Err(PublishError::TimedOut) => "The client event may not have been published: no answer in time",
            Err(PublishError::Unavailable) => "The client event was not published, try again later",
            Err(PublishError::TooLarge(_)) => "The client event is too large for the backplane",
            Err(PublishError::BadChannel | PublishError::Refused(_)) => "The client event was refused by the backplane",
        };
        let refusal = Refusal::new(Reason::Unavailable, text);
        self.tell_refused(&connection, &channel.name, &refusal, &tag);
        self.settle();
    }

    fn tell_refused(&mut self, connection: &Rc<Connection>, name: &ChannelName, refusal: &Refusal, tag: &Tag) {
        self.tell(connection, &Notice::Refused { channel: Some(name.as_str()), refusal, tag });
    }

    /// The sender's admitted subscription of the channel, and in it who it is on presence channels.
    fn sender(&self, connection: &Connection, key: &ChannelKey) -> Option<Option<UserId>> {
        let number = *self.names.get(key)?;
        let subscriptions = connection.subscriptions.borrow();
        let subscription = subscriptions.iter().find(|s| s.channel == number)?;
        let entry = self.channels.get(number)?.get(subscription.slot)?;
        entry.admitted.then(|| subscription.user.clone())
    }
}

/// The first "no" is the answer. What is refused for itself does not count against the limit of a second.
fn permit(
    connection: &Connection,
    name: &ChannelName,
    subscribed: bool,
    event: &str,
    data: &RawJson,
) -> Result<(), Refusal> {
    let app = connection.app();
    let (kind, limits) = (name.kind(), &app.limits);
    let refused = |text: &'static str| Err(Refusal::new(Reason::WhisperRefused, text));
    if app.client_events == ClientEvents::Off {
        return refused("Client events are off for this app");
    }
    if !matches!(kind.access, Access::Private | Access::Presence) || kind.encrypted {
        return refused("Client events are for private and presence channels only");
    }
    if app.client_events == ClientEvents::Members && !subscribed {
        return refused("Client events are for subscribers of the channel only");
    }
    if name.as_str().len() > limits.channel_name_bytes {
        return Err(Reason::ChannelNameTooLong.into());
    }
    if event.len() > limits.event_name_bytes {
        return Err(Reason::EventNameTooLong.into());
    }
    if data.len() > limits.event_bytes {
        return refused("The data of the client event is too large");
    }
    if !connection.may_whisper(limits.client_events_per_second) {
        return Err(Reason::WhisperTooFast.into());
    }
    Ok(())
}
