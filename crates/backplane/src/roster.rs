//! Who is present on one channel, as this node knows it.
//!
//! State decides, messages hint: clients see a join or a leave as the difference between two states of the [`Mirror`], never
//! as a forwarded message. So a late or doubled message can delay an event and cannot falsify one.
//!
//! Pure: time is an argument, nothing here does I/O or awaits. The store that answers is the business of the drivers.
//! Invariant: a user with a socket on this node is never removed from the mirror, whatever the store says; it is told again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Broadcast, Member, Position, RawJson, Roster, UserId};

/// Counts the changes of a roster. Numbers of different epochs cannot be compared: an epoch ends when the store lost data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Version {
    pub epoch: Box<str>,
    pub number: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    Joined(Member),
    Left(UserId),
}

/// All members, as the store had them at one version.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Snapshot {
    pub version: Version,
    pub users: Vec<(UserId, Option<RawJson>)>,
    /// For how long nobody may be taken for gone: the store was away, and other nodes may still re-register.
    pub removals_in: Duration,
}

/// What an `enter` says about the mirror, so that the answer carries the roster only when it is needed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Known {
    /// Send the roster unless it stood here before this call.
    At(Version),
    Nothing,
    /// Another call already brings the roster.
    Enough,
}

/// Under which name the store knows this node after a cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Renewal {
    /// As before.
    None,
    /// A new one, of which it has nothing: the node was taken for dead.
    Fenced,
    /// A new one, and the store's data are others than before.
    DataLost,
}

/// What the store is to be told next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    /// `members_max` 0: no limit, the user was admitted before. `again`: the store had him, and lost its data.
    Enter {
        member: Member,
        known: Known,
        members_max: u32,
        again: bool,
    },
    Exit(UserId),
    Roster,
    /// So many subscriptions of this node. `announce`: the channel's subscribers may be told of the sum. `again`: the store
    /// had some, and lost its data.
    Count {
        n: u32,
        announce: bool,
        again: bool,
    },
    /// What the channel's history holds behind this number; `None`: its last event only.
    Read {
        after: Option<u64>,
    },
    /// Something without a number was heard here.
    Note(Position),
    /// Somebody was given nothing from a cache channel.
    Missed,
}

impl Operation {
    /// What its answer is about.
    pub(crate) fn about(&self) -> About {
        match self {
            Self::Enter { member, .. } => About::User(member.id.clone()),
            Self::Exit(user) => About::User(user.clone()),
            Self::Roster => About::Roster,
            Self::Count { .. } => About::Count,
            Self::Read { .. } => About::History,
            Self::Note(_) => About::Note,
            Self::Missed => About::Nothing,
        }
    }
}

/// Which operation of a channel an answer belongs to: there is at most one of each under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum About {
    User(UserId),
    Roster,
    Count,
    History,
    Note,
    Nothing,
}

/// The members that this node's clients were told about, and at which version of the store.
#[derive(Default, Debug)]
pub(crate) struct Mirror {
    pub(crate) users: Arc<Roster>,
    /// `None`: nothing is known yet.
    pub(crate) at: Option<Version>,
    /// True when no change up to the last message heard is missing.
    pub(crate) current: bool,
    /// Calls under way whose answer may hold a roster.
    pub(crate) awaited: u32,
    /// The highest version heard while one was awaited: a roster below it is older than the stream.
    pub(crate) heard: Option<Version>,
    /// Until then a comparison of rosters removes nobody: after a loss of the link or the data others re-register first.
    pub(crate) hold: Option<Instant>,
    /// When a comparison that was not allowed to remove is made again.
    pub(crate) compare_again: Option<Instant>,
    /// The channel was not listened to for a while: rosters still awaited from before are older than what was missed.
    pub(crate) void: bool,
}

impl Mirror {
    pub(crate) fn has(&self, user: &UserId) -> bool {
        self.users.0.contains_key(user)
    }

    /// Applies a change. The difference that clients see, if there is one.
    pub(crate) fn put(&mut self, change: Change) -> Option<Broadcast> {
        match change {
            Change::Joined(member) => {
                let old = Arc::make_mut(&mut self.users).0.insert(member.id.clone(), member.info.clone());
                old.is_none().then_some(Broadcast::Joined(member))
            }
            Change::Left(user) if self.has(&user) => {
                let info = Arc::make_mut(&mut self.users).0.remove(&user).flatten();
                Some(Broadcast::Left(Member { id: user, info }))
            }
            Change::Left(_) => None,
        }
    }

    pub(crate) fn hear(&mut self, version: &Version) {
        let older = self.heard.as_ref().is_some_and(|h| h.epoch == version.epoch && h.number > version.number);
        if self.awaited > 0 && !older {
            self.heard = Some(version.clone());
        }
    }

    pub(crate) fn await_roster(&mut self) {
        if self.awaited == 0 {
            self.heard = None;
        }
        self.awaited += 1;
    }

    /// An answer that was to bring a roster is here. False when it is of no use any more.
    pub(crate) fn answered(&mut self) -> bool {
        self.awaited = self.awaited.saturating_sub(1);
        let useful = !self.void;
        self.void &= self.awaited > 0;
        useful
    }

    /// True when the mirror, all messages applied, is at this version or past it.
    pub(crate) fn covers(&self, version: &Version) -> bool {
        let at = self.at.as_ref();
        self.current && at.is_some_and(|at| at.epoch == version.epoch && at.number >= version.number)
    }

    /// True for a roster that is older than what was heard or shown.
    pub(crate) fn is_stale(&self, version: &Version) -> bool {
        let heard_more = self.heard.as_ref().is_some_and(|h| h.epoch != version.epoch || h.number > version.number);
        let shown_more = self.at.as_ref().is_some_and(|at| at.epoch == version.epoch && at.number > version.number);
        heard_more || shown_more
    }

    /// Compares with a snapshot that is not stale. `stays` names users who are not removed by a comparison.
    pub(crate) fn compare(
        &mut self,
        now: Instant,
        snapshot: Snapshot,
        stays: impl Fn(&UserId) -> bool,
    ) -> Vec<Broadcast> {
        if self.covers(&snapshot.version) && self.compare_again.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let fresh: HashMap<_, _> = snapshot.users.into_iter().collect();
        let gone: Vec<_> = self.users.0.keys().filter(|u| !fresh.contains_key(*u) && !stays(u)).cloned().collect();
        let mut changes: Vec<_> =
            fresh.into_iter().filter_map(|(id, info)| self.put(Change::Joined(Member { id, info }))).collect();
        let allowed = (now + snapshot.removals_in).max(self.hold.unwrap_or(now));
        self.compare_again = (!gone.is_empty() && allowed > now).then_some(allowed);
        if self.compare_again.is_none() {
            changes.extend(gone.into_iter().filter_map(|user| self.put(Change::Left(user))));
        }
        self.at = Some(snapshot.version);
        self.current = true;
        changes
    }
}
