//! Client events: from one client to all others on a private or presence channel.

use std::rc::Rc;
use std::sync::Arc;

use backplane::{BoxFuture, PublishError};
use model::{Access, ChannelKey, ChannelName, ClientEvents, Event, Notice, RawJson, Reason, Refusal, Tag};

use crate::connection::Connection;
use crate::shard::Shard;

/// A client event on its way into the backplane, and whom to tell when it does not get there.
pub(crate) struct Whispered {
    pub(crate) published: BoxFuture<Result<(), PublishError>>,
    connection: Rc<Connection>,
    channel: ChannelName,
    tag: Tag,
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
        if let Err(text) = permit(connection, &key.name, sender.is_some(), &data) {
            connection.stats.whispers_refused.add(1);
            let refusal = Refusal::new(Reason::WhisperRefused, text);
            return self.tell_refused(connection, &key.name, &refusal, &tag);
        }
        connection.stats.whispers.add(1);
        let user_id = sender.flatten();
        let event = Event { name: event, data, except: Some(connection.id), user_id, position: None, cacheable: false };
        let channel = key.name.clone();
        let published = self.backplane.publish(Arc::new(key), event);
        self.whispers.push(Whispered { published, connection: connection.clone(), channel, tag });
    }

    /// Tells the sender that its whisper was not published.
    pub(crate) fn tell_unheard(&mut self, whispered: &Whispered, error: &PublishError) {
        let text = match error {
            PublishError::TimedOut => "The client event may not have been published: no answer in time",
            PublishError::Unavailable => "The client event was not published, try again later",
            PublishError::TooLarge(_) => "The client event is too large for the backplane",
            PublishError::BadChannel | PublishError::Refused(_) => "The client event was refused by the backplane",
        };
        let refusal = Refusal::new(Reason::Unavailable, text);
        self.tell_refused(&whispered.connection, &whispered.channel, &refusal, &whispered.tag);
        self.settle();
    }

    fn tell_refused(&mut self, connection: &Rc<Connection>, name: &ChannelName, refusal: &Refusal, tag: &Tag) {
        self.tell(connection, &Notice::Refused { channel: Some(name.as_str()), refusal, tag });
    }

    /// The sender's admitted subscription of the channel, and in it who it is on presence channels.
    fn sender(&self, connection: &Connection, key: &ChannelKey) -> Option<Option<Box<str>>> {
        let number = *self.names.get(key)?;
        let subscriptions = connection.subscriptions.borrow();
        let subscription = subscriptions.iter().find(|s| s.channel == number)?;
        let entry = self.channels.get(number)?.get(subscription.slot)?;
        let user = subscription.user.as_ref().map(|user| Box::from(&**user));
        entry.admitted.then_some(user)
    }
}

fn permit(connection: &Connection, name: &ChannelName, subscribed: bool, data: &RawJson) -> Result<(), &'static str> {
    let (kind, app) = (name.kind(), connection.app());
    if app.client_events == ClientEvents::Off {
        return Err("Client events are off for this app");
    }
    if !matches!(kind.access, Access::Private | Access::Presence) || kind.encrypted {
        return Err("Client events are for private and presence channels only");
    }
    if app.client_events == ClientEvents::Members && !subscribed {
        return Err("Client events are for subscribers of the channel only");
    }
    if data.len() > app.limits.event_bytes {
        return Err("The data of the client event is too large");
    }
    Ok(())
}
