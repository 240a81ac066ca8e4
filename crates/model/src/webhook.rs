//! What an application's own endpoint is told of (pusher docs, "Webhooks").

use crate::app::Secret;
use crate::channel::ChannelName;
use crate::json::RawJson;
use crate::member::UserId;
use crate::socket_id::SocketId;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WebhookKind {
    /// The first subscription of a channel in the cluster.
    ChannelOccupied,
    /// The last one is gone, and none came back within the delay.
    ChannelVacated,
    /// A user's first connection in the cluster on a presence channel.
    MemberAdded,
    /// His last one left, and none came back within the delay.
    MemberRemoved,
    ClientEvent,
    /// Somebody subscribed to a cache channel that holds nothing.
    CacheMiss,
    SubscriptionCount,
}

impl WebhookKind {
    pub const ALL: [Self; 7] = [
        Self::ChannelOccupied,
        Self::ChannelVacated,
        Self::MemberAdded,
        Self::MemberRemoved,
        Self::ClientEvent,
        Self::CacheMiss,
        Self::SubscriptionCount,
    ];

    /// Its name in a webhook's body, in settings and in the queue.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChannelOccupied => "channel_occupied",
            Self::ChannelVacated => "channel_vacated",
            Self::MemberAdded => "member_added",
            Self::MemberRemoved => "member_removed",
            Self::ClientEvent => "client_event",
            Self::CacheMiss => "cache_miss",
            Self::SubscriptionCount => "subscription_count",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct WebhookKinds(u8);

impl WebhookKinds {
    pub const NONE: Self = Self(0);

    pub fn has(self, kind: WebhookKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    #[must_use]
    pub fn with(self, kind: WebhookKind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        WebhookKind::ALL.into_iter().filter(move |kind| self.has(*kind)).map(WebhookKind::name)
    }
}

/// One endpoint of an application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Webhook {
    /// What the operator calls it.
    pub name: Box<str>,
    pub url: Box<str>,
    pub kinds: WebhookKinds,
    /// Only channels whose names begin so; `None` takes all.
    pub channel_prefix: Option<Box<str>>,
    /// Only channels whose names end so.
    pub channel_suffix: Option<Box<str>>,
    /// Sent along, besides the signature.
    pub headers: Vec<(Box<str>, Secret)>,
}

impl Webhook {
    pub fn wants(&self, kind: WebhookKind, channel: &str) -> bool {
        self.kinds.has(kind)
            && self.channel_prefix.as_deref().is_none_or(|prefix| channel.starts_with(prefix))
            && self.channel_suffix.as_deref().is_none_or(|suffix| channel.ends_with(suffix))
    }
}

/// One happening, as it waits to be told.
#[derive(Clone, PartialEq, Debug)]
pub struct Job {
    /// The queue's name for it: to be given back when it is done, and for the receiver to know a repetition.
    pub id: Box<str>,
    /// When it happened, in ms since 1970.
    pub time_ms: u64,
    pub channel: ChannelName,
    pub happening: Happening,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Happening {
    ChannelOccupied,
    ChannelVacated,
    MemberAdded(UserId),
    MemberRemoved(UserId),
    ClientEvent { event: Box<str>, data: RawJson, socket: SocketId, user: Option<UserId> },
    CacheMiss,
    SubscriptionCount(u64),
}

impl Happening {
    pub fn kind(&self) -> WebhookKind {
        match self {
            Self::ChannelOccupied => WebhookKind::ChannelOccupied,
            Self::ChannelVacated => WebhookKind::ChannelVacated,
            Self::MemberAdded(_) => WebhookKind::MemberAdded,
            Self::MemberRemoved(_) => WebhookKind::MemberRemoved,
            Self::ClientEvent { .. } => WebhookKind::ClientEvent,
            Self::CacheMiss => WebhookKind::CacheMiss,
            Self::SubscriptionCount(_) => WebhookKind::SubscriptionCount,
        }
    }
}
