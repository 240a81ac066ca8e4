//! Signing in: who a connection is, and whose coming and going it hears of.
//!
//! A user is here while a subscription of his stands in the channel that is his own. Signing in raises it, unheard; a
//! subscribe of the client makes it heard, an unsubscribe unheard again. Whom the user watches he watches through theirs.

use std::rc::{Rc, Weak};

use model::auth::User;
use model::{ChannelKey, ChannelName, Member, Notice, Reason, Refusal, Tag, UserId, View, auth};

use crate::channel::{Channel, Queued};
use crate::connection::{Connection, Subscription};
use crate::shard::Shard;
use crate::subscribe::Wants;

/// Who a connection is.
pub(crate) struct Account {
    member: Member,
    /// In the user's own channel.
    own: Subscription,
    /// What is to be said and done when that is admitted. `None`: it was, the user is signed in.
    pending: Option<Box<Pending>>,
    /// The client has subscribed to the own channel itself.
    heard: bool,
    watched: Vec<Subscription>,
    /// Of them those whose ask is not answered.
    unanswered: usize,
}

struct Pending {
    user_data: Box<str>,
    watchlist: Vec<UserId>,
    watchlist_cut: bool,
}

impl Account {
    /// All of them, to be given up.
    pub(crate) fn subscriptions(self) -> impl Iterator<Item = Subscription> {
        std::iter::once(self.own).chain(self.watched)
    }
}

impl Connection {
    /// The user, once he is signed in.
    pub(crate) fn signed_in(&self) -> Option<Member> {
        self.with_account(|account| account.pending.is_none().then(|| account.member.clone())).flatten()
    }

    /// The client is told the events of its user's own channel.
    pub(crate) fn hears_own_channel(&self) -> bool {
        self.with_account(|account| account.heard).unwrap_or(false)
    }

    fn with_account<T>(&self, look: impl FnOnce(&mut Account) -> T) -> Option<T> {
        let mut more = self.more.borrow_mut();
        more.as_mut()?.account.as_mut().map(look)
    }
}

impl Shard {
    pub(crate) fn sign_in(&mut self, connection: &Rc<Connection>, auth: Option<&str>, user_data: Box<str>, tag: Tag) {
        let app = &connection.app();
        let user = auth::verify_user(app, connection.id, auth, &user_data).and_then(|()| auth::user(app, &user_data));
        let known = connection.with_account(|account| (account.member.id.clone(), account.pending.is_none()));
        let refusal = match (user, known) {
            (Err(refusal), _) => refusal,
            (Ok(user), Some((id, _))) if user.member.id != id => {
                Refusal::new(Reason::SignInRefused, "Another user is signed in on this connection")
            }
            (Ok(_), Some((_, true))) => {
                return self.tell(connection, &Notice::SignedIn { user_data: &user_data, tag: &tag });
            }
            // The answer is on its way.
            (Ok(_), Some((_, false))) => return,
            (Ok(user), None) => match ChannelName::of_user(&user.member.id) {
                Ok(name) => return self.raise_own(connection, name, user, user_data, tag),
                Err(_) => Refusal::new(Reason::SignInRefused, "The id in user_data is too long"),
            },
        };
        connection.stats.sign_ins_refused.add(1);
        connection.log_refusal("a sign-in is refused", "", &refusal);
        self.tell(connection, &Notice::Refused { channel: None, refusal: &refusal, tag: &tag });
    }

    /// Asks for the user's place in his own channel.
    fn raise_own(&mut self, connection: &Rc<Connection>, name: ChannelName, user: User, user_data: Box<str>, tag: Tag) {
        let key = ChannelKey { app: connection.app().id.clone(), name };
        let (channel, subscription) = self.take_place(connection, key, connection.encoding(View::Silent));
        let User { member, watchlist, watchlist_cut } = user;
        let own = Subscription { channel, slot: subscription.slot, user: Some(member.id.clone()), tag };
        // What the application says of him is for the channels that he enters; here only his being there matters.
        let present = Member { id: member.id.clone(), info: None };
        let pending = Some(Box::new(Pending { user_data, watchlist, watchlist_cut }));
        let account = Account { member, own, pending, heard: false, watched: Vec::new(), unanswered: 0 };
        connection.more.borrow_mut().get_or_insert_default().account = Some(account);
        let wants = Wants { member: Some(present), roster: true, log: None };
        self.send_ask(channel, subscription, Weak::new(), wants, &connection.app().limits);
    }

    /// The own channel has admitted the user: he is signed in.
    pub(crate) fn note_signed_in(&mut self, connection: &Rc<Connection>) {
        let account = connection.with_account(|account| (account.pending.take(), account.own.tag.take()));
        let Some((Some(pending), tag)) = account else { return };
        let Pending { user_data, watchlist, watchlist_cut } = *pending;
        self.tell(connection, &Notice::SignedIn { user_data: &user_data, tag: &tag });
        if watchlist_cut {
            let refusal = Reason::WatchlistFull.into();
            self.tell(connection, &Notice::Refused { channel: None, refusal: &refusal, tag: &tag });
        }
        for user in watchlist {
            // An id so long that it has no channel is never online.
            let Ok(name) = ChannelName::of_user(&user) else { continue };
            let key = ChannelKey { app: connection.app().id.clone(), name };
            let (channel, subscription) = self.take_place(connection, key, connection.encoding(View::Watch));
            let watched = Subscription { channel, slot: subscription.slot, user: None, tag: None };
            connection.with_account(|account| {
                account.watched.push(watched);
                account.unanswered += 1;
            });
            let wants = Wants { member: None, roster: true, log: None };
            self.send_ask(channel, subscription, Weak::new(), wants, &connection.app().limits);
        }
    }

    /// The own channel has refused the user: he is not signed in, and may try again.
    pub(crate) fn refuse_signing_in(&mut self, connection: &Rc<Connection>, refusal: &Refusal) {
        let account = connection.more.borrow_mut().as_mut().and_then(|more| more.account.take());
        let tag = account.and_then(|account| account.own.tag);
        self.tell(connection, &Notice::Refused { channel: None, refusal, tag: &tag });
    }

    /// The client subscribes to a user's channel. True when that is its own user's: then it is told so in its place in the
    /// stream, and hears what follows.
    pub(crate) fn show_own_channel(&mut self, connection: &Rc<Connection>, key: &ChannelKey, tag: &Tag) -> bool {
        let Some((number, slot)) = self.own_place(connection, key) else { return false };
        let Some(channel) = self.channels.get_mut(number) else { return false };
        let Some(generation) = channel.get(slot).map(|entry| entry.generation) else { return false };
        connection.with_account(|account| account.heard = true);
        channel.queue.push_back(Queued::Repeat { slot, generation, tag: tag.clone() });
        self.advance_if_at_rest(number);
        true
    }

    /// Makes the own channel unheard at once; the user stays signed in.
    pub(crate) fn hide_own_channel(&mut self, connection: &Rc<Connection>, key: &ChannelKey) {
        let Some((number, slot)) = self.own_place(connection, key) else { return };
        connection.with_account(|account| account.heard = false);
        if let Some(entry) = self.channels.get_mut(number).and_then(|channel| channel.get_mut(slot)) {
            entry.encoding.view = View::Silent;
        }
    }

    /// Channel and slot of the signed-in user's own subscription, when this is his channel.
    fn own_place(&self, connection: &Connection, key: &ChannelKey) -> Option<(u32, u32)> {
        let number = *self.names.get(key)?;
        let own = connection.with_account(|account| {
            let Account { own, pending, .. } = account;
            (pending.is_none() && own.channel == number).then_some((own.channel, own.slot))
        });
        own.flatten()
    }

    /// The channel of somebody watched has answered; it is lifted out of its slot.
    pub(crate) fn note_watched(&mut self, connection: &Rc<Connection>, channel: &mut Channel) {
        let unanswered = connection.with_account(|account| {
            account.unanswered = account.unanswered.saturating_sub(1);
            account.unanswered
        });
        if unanswered == Some(0) {
            self.begin_watching(connection, channel);
        }
    }

    /// The channel of somebody watched has refused: he is not watched, and nothing is said of him.
    pub(crate) fn note_unwatched(&mut self, connection: &Rc<Connection>, channel: &mut Channel, slot: u32) {
        let number = channel.number;
        connection.with_account(|account| account.watched.retain(|s| s.channel != number || s.slot != slot));
        self.note_watched(connection, channel);
    }

    /// All have answered: tells who is online and who is not, and each change from here on. `lifted` is one of the channels.
    fn begin_watching(&mut self, connection: &Rc<Connection>, lifted: &mut Channel) {
        let places = connection.with_account(|account| {
            account.watched.iter().map(|watched| (watched.channel, watched.slot)).collect::<Vec<_>>()
        });
        let (mut online, mut offline): (Vec<UserId>, Vec<UserId>) = Default::default();
        for (number, slot) in places.unwrap_or_default() {
            let channel = if number == lifted.number {
                &mut *lifted
            } else if let Some(channel) = self.channels.get_mut(number) {
                channel
            } else {
                continue;
            };
            channel.watch_from_here(slot);
            let Some(user) = channel.key.name.user().map(UserId::from) else { continue };
            let is_here = channel.roster.as_ref().is_some_and(|roster| roster.0.contains_key(&user));
            if is_here { online.push(user) } else { offline.push(user) }
        }
        self.tell(connection, &Notice::Watched { online: &online, offline: &offline });
    }
}
