//! How nodes tell each other, and remember.
//!
//! One road: whatever is published, on this node or another, goes down through [`Workers::push`] in the order in which the
//! backplane took it. This crate knows topics, links and rosters; it knows no socket and no wire format of clients.
//!
//! Nothing here waits for a worker: pushing is a bounded queue's affair, and the queue answers for "full" (see [`Item`]).

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use model::WebhookKinds;
use model::webhook::{Happening, Job};
use model::{
    App, ChannelKey, ChannelName, Delivery, Event, HistoryDepth, HistoryRule, Member, Position, Refusal, Resume,
    Roster, UserId,
};

mod attendance;
#[cfg(test)]
mod conformance;
pub mod local;
pub mod redis;
mod roster;
mod topics;

pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// A worker's name for one of its subscriptions; the backplane carries it and never looks. The generation tells a slot's
/// later tenant from its earlier one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SubscriptionRef {
    pub slot: u32,
    pub generation: u32,
}

/// A subscription that waits to be admitted.
#[derive(Clone, Debug)]
pub struct Ask {
    pub channel: Arc<ChannelKey>,
    pub subscription: SubscriptionRef,
    /// On presence channels, and on the channel of a signed-in user.
    pub member: Option<AskMember>,
    /// Hears who comes and goes without being there: the roster is wanted, with or without a member.
    pub roster: bool,
    /// On channels that keep what is said on them.
    pub log: Option<AskLog>,
}

/// What an asker wants of a channel's history.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AskLog {
    /// On cache channels: for how long an event is given to newcomers.
    pub cache_ttl: Option<Duration>,
    /// He wants to know where events stand, and is told what he missed.
    pub resume: Option<Resume>,
}

#[derive(Clone, Debug)]
pub struct AskMember {
    pub member: Member,
    /// The app's limit of members in a channel.
    pub members_max: u32,
    /// For so long after his last subscription here the user counts as present: a page that reloads was never away.
    pub grace: Duration,
}

/// What comes down to a worker. One order for all of them: what is pushed first is worked off first within a channel, and
/// a [`Item::LinkGap`] after everything that was pushed before it.
#[derive(Clone, Debug)]
pub enum Item {
    /// Dropped when the worker's inbox is full; the inbox then puts a gap in its place. Member events have a reserve.
    Deliver(Arc<Delivery>),
    /// The answer to an [`Ask`]: from this place in the stream on the worker gets the channel's messages. On presence
    /// channels with the members, the asker's own user included.
    Admit {
        channel: Arc<ChannelKey>,
        subscription: SubscriptionRef,
        roster: Option<Arc<Roster>>,
        /// What a cache channel holds.
        cached: Cached,
        /// Where the newcomer stands, when he wants to know.
        standing: Option<Box<Standing>>,
        /// The channel's own gaps are told one by one: a [`Item::LinkGap`] says nothing of it.
        logged: bool,
        /// The node's subscriptions of this channel: a worker adds one for each that it admits, and takes it off again.
        count: Arc<AtomicU32>,
    },
    /// The other answer to an [`Ask`].
    Refuse { channel: Arc<ChannelKey>, subscription: SubscriptionRef, refusal: Refusal },
    /// The link to the backplane was lost and is back: any channel may have missed messages just before this.
    LinkGap,
}

/// Where a newcomer to a channel with a history stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Standing {
    /// Where he stands when he is let in: up to there he has heard the channel.
    pub position: Position,
    /// When he said where he stood: whether `missed` is all that he missed. False: something is lost to him.
    pub recovered: Option<bool>,
    /// What he is told first, in order, each with its position.
    pub missed: Vec<Arc<Event>>,
    /// Where he stands when he was told that. Behind the last of `missed` where some of it was not for him.
    pub end: Position,
    /// Bytes that `missed` keeps in memory beyond what others who came with him keep.
    pub weight: usize,
}

impl Standing {
    /// What he missed is lost to him.
    pub fn lose(&mut self) {
        (self.position, self.recovered, self.missed, self.weight) = (self.end.clone(), Some(false), Vec::new(), 0);
    }
}

/// What a newcomer to a cache channel is given.
#[derive(Clone, Default, Debug)]
pub enum Cached {
    /// The channel keeps nothing.
    #[default]
    Never,
    /// It holds nothing now.
    Miss,
    Hit(Arc<Event>),
}

/// The workers of this node, as the backplane sees them. Implemented by the hub.
pub trait Workers: Send + Sync + 'static {
    /// 1 ..= 64.
    fn count(&self) -> usize;

    /// Never waits.
    fn push(&self, worker: usize, item: Item);

    /// This node's open connections by app.
    fn connections(&self) -> HashMap<Arc<str>, u64>;
}

/// An app, as far as the backplane knows one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppSettings {
    pub id: Arc<str>,
    /// What stands before the app's channel names in Redis; `""` means nothing.
    pub prefix: Box<str>,
    /// Other prefixes that mean the same channels: what comes with them is heard, and the first that carries anything is the
    /// one to publish with.
    pub also_listen: Vec<Box<str>>,
    pub webhooks: WebhookKinds,
    /// Subscribers are told how many they are.
    pub subscription_count: bool,
    /// For how long a cache channel keeps its event.
    pub cache_ttl: Duration,
    pub history: Arc<[HistoryRule]>,
}

impl AppSettings {
    pub fn of(app: &App) -> Self {
        Self {
            id: app.id.clone(),
            prefix: app.redis_prefix.clone(),
            also_listen: app.also_listen.clone(),
            webhooks: app.webhook_kinds(),
            subscription_count: app.subscription_count,
            cache_ttl: Duration::from_secs(app.cache_seconds.into()),
            history: app.history.clone(),
        }
    }

    /// All that may stand before the app's channel names.
    fn prefixes(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.prefix).chain(&self.also_listen).map(|prefix| &**prefix)
    }

    /// How much the store keeps of a channel; `None`: nothing. A cache channel without a rule keeps its last event.
    fn depth(&self, name: &ChannelName) -> Option<HistoryDepth> {
        let rule = model::history::depth_of(&self.history, name);
        if !name.kind().cache {
            return rule;
        }
        let HistoryDepth { size, ttl } = rule.unwrap_or(HistoryDepth { size: 1, ttl: Duration::ZERO });
        Some(HistoryDepth { size, ttl: ttl.max(self.cache_ttl) })
    }
}

/// A part of a channel's history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    pub from: PageFrom,
    /// The most events.
    pub limit: u32,
}

/// Where a page begins, and which way it goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageFrom {
    /// Behind this offset, the oldest first.
    After(u64),
    /// Before this offset, or at the end; the newest first.
    Before(Option<u64>),
}

#[derive(Clone, PartialEq, Default, Debug)]
pub struct PageRead {
    /// Where the channel stands. `None`: nothing was ever kept, or it is forgotten.
    pub top: Option<Position>,
    /// In the order of the page. The position stands in the event; how long ago it was published.
    pub events: Vec<(Event, Duration)>,
    /// There are more, and the page was full before its limit: of bytes.
    pub cut: bool,
}

/// How many listen to a channel, in the whole cluster.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ChannelCounts {
    pub subscriptions: u64,
    /// On presence channels.
    pub users: u64,
}

/// Why a question was not answered. All of them may be asked again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueryError {
    /// There is no link now.
    Unavailable,
    TimedOut,
    /// The backplane said no; its words.
    Refused(String),
}

pub type QueryAnswer<T> = BoxFuture<Result<T, QueryError>>;

/// Why a publish did not happen, or may not have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PublishError {
    /// There is no link now, or the lane is full. It did not happen.
    Unavailable,
    /// No answer in time. It may have happened.
    TimedOut,
    /// No channel can have this name here: it would lead into the backplane's own.
    BadChannel,
    /// As a message it would be larger than nodes take: of how many bytes at most.
    TooLarge(usize),
    /// The backplane said no; its words.
    Refused(String),
}

/// Longest wait for a job of a webhook.
pub const TAKE_TIMEOUT: Duration = Duration::from_secs(1);

/// Jobs that may wait for an app's webhooks; more are lost, and counted.
pub const JOBS_MAX: usize = 100_000;

/// With more than this no client event is queued: they are large, and clients make them.
pub const CLIENT_EVENT_JOBS_MAX: usize = 10_000;

/// How the link stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkStatus {
    /// Never up so far.
    Starting,
    Up,
    Down {
        since: std::time::Instant,
    },
}

/// Counters for the metrics text, summed since start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counters {
    /// Messages taken from the backplane, and their bytes. Probes and confirmations do not count.
    pub messages_in: u64,
    pub bytes_in: u64,
    /// Messages given to it, and their bytes.
    pub messages_out: u64,
    pub bytes_out: u64,
    /// Links lost and made again.
    pub reconnects: u64,
    pub errors: u64,
    /// Of these, logins that were refused.
    pub auth_failures: u64,
    /// Messages that were dropped, by reason.
    pub dropped_malformed: u64,
    pub dropped_too_large: u64,
    /// Members of dead nodes that this node removed.
    pub presence_expired: u64,
    /// Internal events of an unknown name or version.
    pub unknown_internal: u64,
    /// Happenings that found the webhook queue full.
    pub webhooks_lost: u64,
    /// Whether the server throws keys away when its memory is full, ours included. The one that is no counter.
    pub evicts: bool,
    /// Events that a cut had hidden and that were told from the history.
    pub history_repaired: u64,
    /// Events of applications without a number on channels with a history.
    pub history_unnumbered: u64,
}

/// What joins the nodes, as a worker sees it. All calls return at once; answers come down through [`Workers::push`].
///
/// A worker calls [`Backplane::ask`] for each subscription that it cannot admit by itself: the first of a channel and, on
/// presence and cache channels, every one. Each ask gets exactly one `Admit` or `Refuse`, unless the backplane is closed.
/// Calls of one worker are worked off in their order.
pub trait Backplane: Send + Sync + 'static {
    fn ask(&self, worker: usize, ask: Ask);

    /// The worker's last subscription of a channel is gone, after at least one of them was admitted.
    fn leave(&self, worker: usize, channel: Arc<ChannelKey>);

    /// One admitted subscription of this user is gone (or was gone when its `Admit` came). Exactly one for each `Admit` of
    /// an ask with a member; while draining it may come after the channel's `leave`.
    fn exit(&self, worker: usize, channel: Arc<ChannelKey>, user: UserId);

    /// Takes its place in the order at the call, not when the future is polled. The event comes back down to this node's
    /// own subscribers like any other.
    fn publish(&self, channel: Arc<ChannelKey>, event: Event) -> BoxFuture<Result<(), PublishError>>;

    /// Queues a client event for the app's webhooks. To be called only where one of them wants it.
    fn report(&self, channel: Arc<ChannelKey>, happening: Happening);

    fn status(&self) -> LinkStatus;
}

/// What joins the nodes, as a node sees it: questions about the whole cluster, its webhooks, and the end.
pub trait Cluster: Backplane {
    /// Closes the connections of the signed-in user whose channel this is, on all nodes.
    fn terminate(&self, channel: Arc<ChannelKey>) -> BoxFuture<Result<(), PublishError>>;

    /// Counts of these channels, in their order. What this node's own subscriptions add is live, what others' add is at
    /// most a second old; whether anybody is there is never late.
    fn counts(&self, channels: Vec<Arc<ChannelKey>>) -> QueryAnswer<Vec<ChannelCounts>>;

    /// The app's occupied channels whose names begin so.
    fn occupied(&self, app: Arc<str>, name_prefix: String) -> QueryAnswer<Vec<(ChannelName, ChannelCounts)>>;

    /// The members of a presence channel.
    fn users(&self, channel: Arc<ChannelKey>) -> QueryAnswer<Vec<Member>>;

    /// What a channel keeps of what was said on it.
    fn history(&self, channel: Arc<ChannelKey>, page: Page) -> QueryAnswer<PageRead>;

    /// An app's connections on the other nodes, at the last heartbeat.
    fn connections_elsewhere(&self, app: &str) -> u64;

    /// How many nodes live, this one included.
    fn nodes(&self) -> usize;

    /// The apps are these from now on. An app that is here keeps its prefix.
    fn set_apps(&self, apps: Vec<AppSettings>);

    /// Waits for up to `max` of an app's happenings, in their order; none after a second. Each is given to one node of
    /// the cluster, again when that one dies before it was [`done`](Cluster::done).
    ///
    /// Cancel-safe: nothing is taken before it answers.
    fn take_jobs(self: Arc<Self>, app: Arc<str>, max: usize) -> BoxFuture<Vec<Job>>;

    /// These need not be told any more.
    fn done(&self, app: Arc<str>, jobs: Vec<Box<str>>);

    fn counters(&self) -> Counters;

    /// How many channels this node's workers hear now, by app and kind (`ChannelKind::label`).
    fn channels(&self) -> Vec<((Arc<str>, &'static str), u64)>;

    /// Ends in order: waits until every `exit` made so far has reached the store, then stops. For the drain, after the last
    /// connection is closed. Bounded by 5 s.
    fn close(&self) -> BoxFuture<()>;
}
