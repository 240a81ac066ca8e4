//! One channel's presence on this node: the mirror of its members, the node's own users, and what the store has been told of
//! them, one operation a user at a time.
//!
//! Pure, as the mirror is: time is an argument, nothing here does I/O or awaits.
//! Invariant: a user with a socket on this node is never removed from the mirror, whatever the store says; it is told again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Access, Broadcast, ChannelKind, Member, Roster, UserId};

use crate::roster::{Change, Known, Mirror, Operation, Renewal, Snapshot, Version};

/// A channel's keys are renewed this often while somebody of this node is present; they expire after a day.
const REFRESH_EVERY: Duration = Duration::from_secs(3_600);

/// A roster is compared with the store's this often, whatever was heard: what the store lost by itself, or a message that never came,
/// is wrong no longer. Spread, as all channels are read at once after a cut. Of the channels of users there is one a user who is
/// signed in, and little to be wrong.
const REREAD_EVERY: Duration = Duration::from_secs(45);
const REREAD_USERS_EVERY: Duration = Duration::from_secs(600);
const REREAD_SPREAD_MS: u64 = 15_000;

/// Where the store lost users of this node, it lost others' too: for so long nobody is taken for gone by comparing.
const LOSS_HOLD: Duration = Duration::from_secs(7);

/// Whether the store has a user for this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Registered {
    No,
    /// An operation was sent and its answer lost. Both may be repeated, so a wanted user enters and another exits.
    Perhaps,
    Yes,
}

/// A user of this node.
#[derive(Debug)]
struct Local {
    member: Member,
    members_max: u32,
    /// Admitted subscriptions.
    sockets: u32,
    /// Asks without an answer. They count as wanted.
    pending: u32,
    registered: Registered,
    /// One operation at a time, so that a quick leave and join cannot overtake each other. With an enter: whether its
    /// answer was to bring a roster.
    under_way: Option<bool>,
    /// The last operation got no answer; it is sent again at the next beat and not at once.
    failed: bool,
    /// The store had him, and lost its data.
    again: bool,
    /// When the store last said that it has him, in entries of this channel.
    entered: u64,
    /// How long the store is not told that he is gone.
    grace: Duration,
    /// While that lasts.
    leaves_at: Option<Instant>,
}

impl Local {
    fn wanted(&self) -> bool {
        self.sockets + self.pending > 0
    }

    fn is_over(&self) -> bool {
        !self.wanted() && self.registered == Registered::No && self.under_way.is_none()
    }

    fn lose_answer(&mut self) -> Option<bool> {
        let lost = self.under_way.take();
        if lost.is_some() {
            self.registered = Registered::Perhaps;
        }
        lost
    }
}

/// One channel's presence on this node: the mirror and the local users.
#[derive(Default, Debug)]
pub(crate) struct Attendance {
    mirror: Mirror,
    locals: HashMap<UserId, Local>,
    /// A roster was asked for and no answer came.
    roster_failed: bool,
    /// When an enter last renewed the keys.
    refreshed: Option<Instant>,
    /// When the store is asked for the roster although nothing seems to be missing.
    reread_at: Option<Instant>,
    is_of_user: bool,
    /// Entries that the store has confirmed.
    entries: u64,
    /// How many those were when the oldest roster that is awaited was asked for: it names whoever was in by then.
    entries_asked: u64,
}

impl Attendance {
    /// On a channel of this kind.
    pub(crate) fn on(kind: ChannelKind) -> Self {
        Self { is_of_user: kind.access == Access::User, ..Self::default() }
    }

    /// A subscription asks for this user.
    pub(crate) fn expect(&mut self, member: &Member, members_max: u32, grace: Duration) {
        let local = self.locals.entry(member.id.clone()).or_insert_with(|| Local {
            member: member.clone(),
            members_max,
            sockets: 0,
            pending: 0,
            registered: Registered::No,
            under_way: None,
            failed: false,
            again: false,
            entered: 0,
            grace,
            leaves_at: None,
        });
        local.pending += 1;
        (local.grace, local.leaves_at) = (grace, None);
    }

    /// True when the store knows the user and the mirror shows him: his subscriptions may be admitted.
    pub(crate) fn may_admit(&self, user: &UserId) -> bool {
        self.mirror.current
            && self.mirror.has(user)
            && self.locals.get(user).is_some_and(|l| l.registered == Registered::Yes)
    }

    /// The members are known: who only looks on may be admitted.
    pub(crate) fn is_current(&self) -> bool {
        self.mirror.current
    }

    /// One ask of this user was answered with yes.
    pub(crate) fn admit(&mut self, user: &UserId) {
        if let Some(local) = self.locals.get_mut(user) {
            local.pending = local.pending.saturating_sub(1);
            local.sockets += 1;
        }
    }

    /// All asks of this user were answered with no.
    pub(crate) fn refuse(&mut self, user: &UserId) {
        if let Some(local) = self.locals.get_mut(user) {
            local.pending = 0;
        }
        self.forget_if_over(user);
    }

    /// One admitted subscription of this user is gone. Until when the store is not told, if it was the last.
    pub(crate) fn exit(&mut self, now: Instant, user: &UserId) -> Option<Instant> {
        let mut held = None;
        if let Some(local) = self.locals.get_mut(user) {
            local.sockets = local.sockets.saturating_sub(1);
            if !local.wanted() && !local.grace.is_zero() {
                held = Some(now + local.grace);
                local.leaves_at = held;
            }
        }
        if self.forget_if_over(user) && self.mirror.has(user) {
            // The store did not have him when he left, so it will announce nothing: a comparison takes him out.
            self.mirror.current = false;
        }
        held
    }

    /// The grace of this user is over, unless he came back or left once more meanwhile.
    pub(crate) fn let_go(&mut self, now: Instant, user: &UserId) {
        if let Some(local) = self.locals.get_mut(user).filter(|local| local.leaves_at.is_some_and(|at| at <= now)) {
            local.leaves_at = None;
        }
    }

    /// Nobody is held any more: the node ends.
    pub(crate) fn let_all_go(&mut self) {
        self.locals.values_mut().for_each(|local| local.leaves_at = None);
    }

    pub(crate) fn roster(&self) -> Arc<Roster> {
        self.mirror.users.clone()
    }

    /// True when nothing is left to tell the store.
    pub(crate) fn is_empty(&self) -> bool {
        self.locals.is_empty()
    }

    /// True while a user who is gone from this node still stands in the store.
    pub(crate) fn has_exits(&self) -> bool {
        self.locals.values().any(|local| !local.wanted())
    }

    /// The store has all users who are here.
    pub(crate) fn is_registered(&self) -> bool {
        self.locals.values().all(|local| local.sockets == 0 || local.registered == Registered::Yes)
    }

    pub(crate) fn users(&self) -> Vec<UserId> {
        self.locals.keys().cloned().collect()
    }

    /// A change that the store announced. The difference that clients see, if there is one.
    pub(crate) fn message(&mut self, version: Version, change: Change) -> Option<Broadcast> {
        let mirror = &mut self.mirror;
        mirror.hear(&version);
        let at = mirror.at.as_mut().filter(|_| mirror.current)?;
        if at.epoch != version.epoch || version.number > at.number + 1 {
            mirror.current = false;
            return None;
        }
        if version.number <= at.number {
            return None;
        }
        at.number = version.number;
        if let Change::Left(user) = &change
            && let Some(local) = self.locals.get_mut(user).filter(|local| local.sockets > 0)
        {
            // He sits here, so the store lost him (this node was taken for dead), or it is the news of an exit before his last
            // enter. Told again instead of shown; should he go before that, the store is told of that too.
            local.registered = Registered::Perhaps;
            return None;
        }
        mirror.put(change)
    }

    /// What to tell the store about this user now; `live` when the channel is listened to. Counts as sent.
    pub(crate) fn next(&mut self, user: &UserId, live: bool) -> Option<Operation> {
        let sendable = |local: &&mut Local| local.under_way.is_none() && !local.failed && local.leaves_at.is_none();
        let local = self.locals.get_mut(user).filter(sendable)?;
        if local.registered != Registered::No && !local.wanted() {
            local.under_way = Some(false);
            return Some(Operation::Exit(user.clone()));
        }
        // A newcomer enters only once the channel's changes are heard; who was admitted before need not wait.
        if local.registered == Registered::Yes || !local.wanted() || (local.sockets == 0 && !live) {
            return None;
        }
        let mirror = &mut self.mirror;
        let (known, members_max) = match (&mirror.at, local.sockets) {
            (_, 1..) => (Known::Enough, 0),
            (Some(at), _) if mirror.current => (Known::At(at.clone()), local.members_max),
            _ if mirror.awaited > 0 => (Known::Enough, local.members_max),
            _ => (Known::Nothing, local.members_max),
        };
        let brings_roster = known != Known::Enough;
        if brings_roster {
            if mirror.awaited == 0 {
                self.entries_asked = self.entries;
            }
            mirror.await_roster();
        }
        local.under_way = Some(brings_roster);
        // The information that others were shown stays, also when the store forgot it.
        let shown = mirror.users.0.get(user).cloned();
        let member = Member { id: user.clone(), info: shown.unwrap_or_else(|| local.member.info.clone()) };
        Some(Operation::Enter { member, known, members_max, again: local.again })
    }

    /// The roster, when it has to be asked for: something is missing, or a comparison is due again. Counts as sent.
    pub(crate) fn next_roster(&mut self, now: Instant) -> Option<Operation> {
        let again = [self.mirror.compare_again, self.reread_at].into_iter().flatten().any(|at| at <= now);
        let due = !self.mirror.current || again;
        if !due || self.mirror.awaited > 0 || self.roster_failed {
            return None;
        }
        // None is awaited.
        self.entries_asked = self.entries;
        self.mirror.await_roster();
        Some(Operation::Roster)
    }

    /// An enter of somebody who is present already, when the keys were not renewed for long: it changes nothing else.
    pub(crate) fn next_refresh(&mut self, now: Instant) -> Option<Operation> {
        self.refreshed.filter(|at| now.saturating_duration_since(*at) >= REFRESH_EVERY)?;
        let settled = |local: &&mut Local| local.registered == Registered::Yes && local.under_way.is_none();
        let local = self.locals.values_mut().find(settled)?;
        local.under_way = Some(false);
        self.refreshed = Some(now);
        Some(Operation::Enter { member: local.member.clone(), known: Known::Enough, members_max: 0, again: false })
    }

    /// The answer to an enter; `added` when it was the user's first in the cluster.
    pub(crate) fn entered(
        &mut self,
        now: Instant,
        user: &UserId,
        version: Version,
        added: bool,
        snapshot: Option<Snapshot>,
    ) -> Vec<Broadcast> {
        let Some(local) = self.locals.get_mut(user) else { return Vec::new() };
        (local.registered, local.again) = (Registered::Yes, false);
        self.entries += 1;
        local.entered = self.entries;
        self.refreshed = Some(now);
        let info = local.member.info.clone();
        let useful = local.under_way.take() != Some(true) || self.mirror.answered();
        if let Some(snapshot) = snapshot {
            return if useful { self.compare(now, snapshot) } else { Vec::new() };
        }
        let mirror = &mut self.mirror;
        let Some(at) = mirror.at.as_mut().filter(|_| mirror.current) else { return Vec::new() };
        if at.epoch == version.epoch && at.number + 1 == version.number && added {
            at.number = version.number;
            return mirror.put(Change::Joined(Member { id: user.clone(), info })).into_iter().collect();
        }
        // Behind: the messages between are on their way. At or past it without the user: something is wrong.
        if at.epoch != version.epoch || (at.number >= version.number && !mirror.has(user)) {
            mirror.current = false;
        }
        Vec::new()
    }

    /// The answer "full" to an enter; the caller refuses the user's asks.
    pub(crate) fn full(&mut self, user: &UserId) {
        if let Some(local) = self.locals.get_mut(user)
            && local.under_way.take() == Some(true)
        {
            self.mirror.answered();
        }
        self.refuse(user);
    }

    pub(crate) fn exited(&mut self, user: &UserId) {
        let Some(local) = self.locals.get_mut(user) else { return };
        let was_sure = local.registered == Registered::Yes;
        (local.registered, local.under_way) = (Registered::No, None);
        if !was_sure && !local.wanted() && self.mirror.has(user) {
            // The store may not have had him, and then it announces nothing: a comparison takes him out.
            self.mirror.current = false;
        }
        self.forget_if_over(user);
    }

    /// The answer to a roster request.
    pub(crate) fn snapshot(&mut self, now: Instant, snapshot: Snapshot) -> Vec<Broadcast> {
        if self.mirror.answered() { self.compare(now, snapshot) } else { Vec::new() }
    }

    /// No answer came; whether it happened is unknown. All operations may be repeated.
    pub(crate) fn failed(&mut self, user: Option<&UserId>) {
        match user {
            Some(user) => {
                let Some(local) = self.locals.get_mut(user) else { return };
                local.failed = true;
                if local.lose_answer() == Some(true) {
                    self.mirror.answered();
                }
            }
            None => {
                self.mirror.answered();
                self.roster_failed = true;
            }
        }
    }

    /// Time to send again what failed.
    pub(crate) fn retry(&mut self) {
        self.roster_failed = false;
        self.locals.values_mut().for_each(|local| local.failed = false);
    }

    /// The channel is no longer listened to: what was shown is void, and nobody here sees it.
    pub(crate) fn stop_listening(&mut self) {
        let hold = self.mirror.hold;
        let awaited = self.mirror.awaited;
        self.mirror = Mirror { hold, awaited, void: awaited > 0, ..Mirror::default() };
        self.reread_at = None;
    }

    /// The link is gone: messages were missed, and no answer to anything under way will come.
    pub(crate) fn lose_link(&mut self) {
        self.mirror.current = false;
        self.mirror.awaited = 0;
        self.mirror.void = false;
        self.locals.values_mut().for_each(|local| _ = local.lose_answer());
        self.retry();
    }

    /// The store answers again.
    pub(crate) fn resume(&mut self, hold: Option<Instant>, renewal: Renewal) {
        self.lose_link();
        self.mirror.hold = hold.filter(|_| !self.mirror.users.is_empty());
        if renewal != Renewal::None {
            for local in self.locals.values_mut() {
                local.again = renewal == Renewal::DataLost && local.registered == Registered::Yes;
                local.registered = Registered::No;
            }
            self.locals.retain(|_, local| local.wanted());
        }
    }

    fn compare(&mut self, now: Instant, snapshot: Snapshot) -> Vec<Broadcast> {
        let spread = Duration::from_millis(snapshot.version.number % REREAD_SPREAD_MS);
        let every = if self.is_of_user { REREAD_USERS_EVERY } else { REREAD_EVERY };
        self.reread_at = Some(now + every + spread);
        if self.mirror.is_stale(&snapshot.version) {
            // Nothing that is shown is wrong for that; what was missing before is still missing.
            return Vec::new();
        }
        let named: HashSet<_> = snapshot.users.iter().map(|(user, _)| user.clone()).collect();
        for (user, local) in &mut self.locals {
            // The store lost him, or the snapshot is older than his enter. Entering again changes nothing then; nor does an exit,
            // should he go before that.
            if local.under_way.is_none() && local.registered == Registered::Yes && !named.contains(user) {
                if local.entered <= self.entries_asked {
                    self.mirror.hold = self.mirror.hold.max(Some(now + LOSS_HOLD));
                }
                local.registered = Registered::Perhaps;
            }
        }
        self.locals.retain(|_, local| !local.is_over());
        let locals = &self.locals;
        self.mirror.compare(now, snapshot, |user| locals.get(user).is_some_and(|local| local.sockets > 0))
    }

    fn forget_if_over(&mut self, user: &UserId) -> bool {
        let over = self.locals.get(user).is_some_and(Local::is_over);
        if over {
            self.locals.remove(user);
        }
        over
    }
}

#[cfg(test)]
mod tests;
