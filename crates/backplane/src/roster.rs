//! Who is present on one channel, as this node knows it.
//!
//! State decides, messages hint: clients see a join or a leave as the difference between two states of the [`Mirror`], never
//! as a forwarded message. So a late or doubled message can delay an event and cannot falsify one. Beside the mirror stand
//! the node's own users and what the store has been told of them, one operation a user at a time.
//!
//! Pure: time is an argument, nothing here does I/O or awaits. The store that answers is the business of the drivers.
//! Invariant: a user with a socket on this node is never removed from the mirror, whatever the store says; it is told again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Member, RawJson, Roster, UserId};

/// A channel's keys are renewed this often while somebody of this node is present; they expire after a day.
const REFRESH_EVERY: Duration = Duration::from_secs(3_600);

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

/// What the store is to be told next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    /// `members_max` 0: no limit, the user was admitted before.
    Enter {
        member: Member,
        known: Known,
        members_max: u32,
    },
    Exit(UserId),
    Roster,
}

/// The members that this node's clients were told about, and at which version of the store.
#[derive(Default, Debug)]
struct Mirror {
    users: Arc<Roster>,
    /// `None`: nothing is known yet.
    at: Option<Version>,
    /// True when no change up to the last message heard is missing.
    current: bool,
    /// Calls under way whose answer may hold a roster.
    awaited: u32,
    /// The highest version heard while one was awaited: a roster below it is older than the stream.
    heard: Option<Version>,
    /// Until then a comparison of rosters removes nobody: after a loss of the link or the data others re-register first.
    hold: Option<Instant>,
    /// When a comparison that was not allowed to remove is made again.
    compare_again: Option<Instant>,
    /// The channel was not listened to for a while: rosters still awaited from before are older than what was missed.
    void: bool,
}

impl Mirror {
    fn has(&self, user: &UserId) -> bool {
        self.users.0.contains_key(user)
    }

    fn put(&mut self, change: Change) -> Option<Change> {
        match &change {
            Change::Joined(member) => {
                let old = Arc::make_mut(&mut self.users).0.insert(member.id.clone(), member.info.clone());
                old.is_none().then_some(change)
            }
            Change::Left(user) if self.has(user) => {
                Arc::make_mut(&mut self.users).0.remove(user);
                Some(change)
            }
            Change::Left(_) => None,
        }
    }

    fn hear(&mut self, version: &Version) {
        let older = self.heard.as_ref().is_some_and(|h| h.epoch == version.epoch && h.number > version.number);
        if self.awaited > 0 && !older {
            self.heard = Some(version.clone());
        }
    }

    fn await_roster(&mut self) {
        if self.awaited == 0 {
            self.heard = None;
        }
        self.awaited += 1;
    }

    /// An answer that was to bring a roster is here. False when it is of no use any more.
    fn answered(&mut self) -> bool {
        self.awaited = self.awaited.saturating_sub(1);
        let useful = !self.void;
        self.void &= self.awaited > 0;
        useful
    }

    /// True when the mirror, all messages applied, is at this version or past it.
    fn covers(&self, version: &Version) -> bool {
        let at = self.at.as_ref();
        self.current && at.is_some_and(|at| at.epoch == version.epoch && at.number >= version.number)
    }

    /// True for a roster that is older than what was heard or shown.
    fn is_stale(&self, version: &Version) -> bool {
        let heard_more = self.heard.as_ref().is_some_and(|h| h.epoch != version.epoch || h.number > version.number);
        let shown_more = self.at.as_ref().is_some_and(|at| at.epoch == version.epoch && at.number > version.number);
        heard_more || shown_more
    }

    /// Compares with a snapshot. `stays` names users who are not removed by a comparison.
    fn compare(&mut self, now: Instant, snapshot: Snapshot, stays: impl Fn(&UserId) -> bool) -> Vec<Change> {
        if self.covers(&snapshot.version) && self.compare_again.is_none_or(|at| at > now) {
            return Vec::new();
        }
        if self.is_stale(&snapshot.version) {
            self.current = false;
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
}

impl Attendance {
    /// A subscription asks for this user.
    pub(crate) fn expect(&mut self, member: &Member, members_max: u32) {
        let local = self.locals.entry(member.id.clone()).or_insert_with(|| Local {
            member: member.clone(),
            members_max,
            sockets: 0,
            pending: 0,
            registered: Registered::No,
            under_way: None,
            failed: false,
        });
        local.pending += 1;
    }

    /// True when the store knows the user and the mirror shows him: his subscriptions may be admitted.
    pub(crate) fn may_admit(&self, user: &UserId) -> bool {
        self.mirror.current
            && self.mirror.has(user)
            && self.locals.get(user).is_some_and(|l| l.registered == Registered::Yes)
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

    /// One admitted subscription of this user is gone.
    pub(crate) fn exit(&mut self, user: &UserId) {
        if let Some(local) = self.locals.get_mut(user) {
            local.sockets = local.sockets.saturating_sub(1);
        }
        if self.forget_if_over(user) && self.mirror.has(user) {
            // The store did not have him when he left, so it will announce nothing: a comparison takes him out.
            self.mirror.current = false;
        }
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

    pub(crate) fn users(&self) -> Vec<UserId> {
        self.locals.keys().cloned().collect()
    }

    /// A change that the store announced. The difference that clients see, if there is one.
    pub(crate) fn message(&mut self, version: Version, change: Change) -> Option<Change> {
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
            // He sits here, so the store lost him: this node was taken for dead. Told again instead of shown.
            local.registered = Registered::No;
            return None;
        }
        mirror.put(change)
    }

    /// What to tell the store about this user now; `live` when the channel is listened to. Counts as sent.
    pub(crate) fn next(&mut self, user: &UserId, live: bool) -> Option<Operation> {
        let local = self.locals.get_mut(user).filter(|local| local.under_way.is_none() && !local.failed)?;
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
            mirror.await_roster();
        }
        local.under_way = Some(brings_roster);
        // The information that others were shown stays, also when the store forgot it.
        let shown = mirror.users.0.get(user).cloned();
        let member = Member { id: user.clone(), info: shown.unwrap_or_else(|| local.member.info.clone()) };
        Some(Operation::Enter { member, known, members_max })
    }

    /// The roster, when it has to be asked for: something is missing, or a comparison is due again. Counts as sent.
    pub(crate) fn next_roster(&mut self, now: Instant) -> Option<Operation> {
        let due = !self.mirror.current || self.mirror.compare_again.is_some_and(|at| at <= now);
        if !due || self.mirror.awaited > 0 || self.roster_failed {
            return None;
        }
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
        Some(Operation::Enter { member: local.member.clone(), known: Known::Enough, members_max: 0 })
    }

    /// The answer to an enter; `added` when it was the user's first in the cluster.
    pub(crate) fn entered(
        &mut self,
        now: Instant,
        user: &UserId,
        version: Version,
        added: bool,
        snapshot: Option<Snapshot>,
    ) -> Vec<Change> {
        let Some(local) = self.locals.get_mut(user) else { return Vec::new() };
        local.registered = Registered::Yes;
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
        if let Some(local) = self.locals.get_mut(user) {
            local.registered = Registered::No;
            local.under_way = None;
        }
        self.forget_if_over(user);
    }

    /// The answer to a roster request.
    pub(crate) fn snapshot(&mut self, now: Instant, snapshot: Snapshot) -> Vec<Change> {
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
    }

    /// The link is gone: messages were missed, and no answer to anything under way will come.
    pub(crate) fn lose_link(&mut self) {
        self.mirror.current = false;
        self.mirror.awaited = 0;
        self.mirror.void = false;
        self.locals.values_mut().for_each(|local| _ = local.lose_answer());
        self.retry();
    }

    /// The store answers again. `renewed`: under a new incarnation, of which it has nobody.
    pub(crate) fn resume(&mut self, hold: Option<Instant>, renewed: bool) {
        self.lose_link();
        self.mirror.hold = hold.filter(|_| !self.mirror.users.is_empty());
        if renewed {
            self.locals.values_mut().for_each(|local| local.registered = Registered::No);
            self.locals.retain(|_, local| local.wanted());
        }
    }

    fn compare(&mut self, now: Instant, snapshot: Snapshot) -> Vec<Change> {
        let named: HashSet<_> = snapshot.users.iter().map(|(user, _)| user.clone()).collect();
        let locals = &self.locals;
        let before = self.mirror.at.clone();
        let changes =
            self.mirror.compare(now, snapshot, |user| locals.get(user).is_some_and(|local| local.sockets > 0));
        if self.mirror.at != before {
            for (user, local) in &mut self.locals {
                // The store lost him, or the snapshot is older than his enter: entering again changes nothing then.
                if local.under_way.is_none() && !named.contains(user) {
                    local.registered = Registered::No;
                }
            }
            self.locals.retain(|_, local| !local.is_over());
        }
        changes
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
mod tests {
    use super::*;

    /// One channel on one node, and the time. Words: `+ann`, `-ann`.
    struct Story {
        attendance: Attendance,
        now: Instant,
    }

    fn version(epoch: &str, number: u64) -> Version {
        Version { epoch: epoch.into(), number }
    }

    fn member(user: &str) -> Member {
        Member { id: user.into(), info: None }
    }

    fn words(changes: impl IntoIterator<Item = Change>) -> Vec<String> {
        let word = |change| match change {
            Change::Joined(member) => format!("+{}", member.id),
            Change::Left(user) => format!("-{user}"),
        };
        let mut words: Vec<_> = changes.into_iter().map(word).collect();
        words.sort();
        words
    }

    impl Story {
        fn new() -> Self {
            Self { attendance: Attendance::default(), now: Instant::now() }
        }

        /// A node whose `ann` is present, with these others elsewhere, at version 10 of epoch `e`.
        fn with(others: &[&str]) -> Self {
            let mut story = Self::new();
            story.attendance.expect(&member("ann"), 100);
            assert!(story.enters("ann").is_some());
            let users: Vec<_> = others.iter().copied().chain(["ann"]).collect();
            story.entered("ann", version("e", 10), Some(&users));
            assert!(story.attendance.may_admit(&"ann".into()));
            story.attendance.admit(&"ann".into());
            story
        }

        fn enters(&mut self, user: &str) -> Option<Known> {
            match self.attendance.next(&user.into(), true) {
                Some(Operation::Enter { known, .. }) => Some(known),
                _ => None,
            }
        }

        fn exits(&mut self, user: &str) -> bool {
            matches!(self.attendance.next(&user.into(), true), Some(Operation::Exit(_)))
        }

        fn snapshot(at: Version, users: &[&str]) -> Snapshot {
            let users = users.iter().map(|user| ((*user).into(), None)).collect();
            Snapshot { version: at, users, removals_in: Duration::ZERO }
        }

        fn entered(&mut self, user: &str, at: Version, users: Option<&[&str]>) -> Vec<String> {
            let snapshot = users.map(|users| Self::snapshot(at.clone(), users));
            words(self.attendance.entered(self.now, &user.into(), at, true, snapshot))
        }

        fn joined(&mut self, at: Version, user: &str) -> Vec<String> {
            words(self.attendance.message(at, Change::Joined(member(user))))
        }

        fn left(&mut self, at: Version, user: &str) -> Vec<String> {
            words(self.attendance.message(at, Change::Left(user.into())))
        }

        /// Asks for a roster, if one is due, and answers with this one.
        fn roster(&mut self, at: Version, users: &[&str]) -> Option<Vec<String>> {
            self.attendance.next_roster(self.now)?;
            Some(words(self.attendance.snapshot(self.now, Self::snapshot(at, users))))
        }

        fn pass(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }

        fn hold(&self) -> Option<Instant> {
            Some(self.now + Duration::from_secs(7))
        }
    }

    #[test]
    fn the_next_version_applies_an_older_one_drops_and_a_missing_one_asks() {
        let mut story = Story::with(&["bob"]);
        assert_eq!(story.joined(version("e", 11), "eve"), ["+eve"]);
        assert!(story.joined(version("e", 11), "eve").is_empty() && story.left(version("e", 9), "bob").is_empty());
        assert_eq!(story.attendance.next_roster(story.now), None);
        assert!(story.left(version("e", 13), "eve").is_empty());
        assert!(!story.attendance.may_admit(&"ann".into()));
        assert_eq!(story.roster(version("e", 13), &["ann", "zoe"]).unwrap(), ["+zoe", "-bob", "-eve"]);
        assert_eq!(story.left(version("e", 14), "zoe"), ["-zoe"]);
    }

    #[test]
    fn a_roster_below_what_was_heard_is_asked_again_and_never_applied() {
        let mut story = Story::with(&["bob"]);
        story.joined(version("e", 20), "eve");
        assert!(story.attendance.next_roster(story.now).is_some());
        // While it is under way a newer change passes by.
        story.left(version("e", 22), "bob");
        let old = Story::snapshot(version("e", 21), &["ann", "bob", "eve"]);
        assert!(story.attendance.snapshot(story.now, old).is_empty());
        assert_eq!(story.roster(version("e", 22), &["ann", "eve"]).unwrap(), ["+eve", "-bob"]);
    }

    #[test]
    fn the_reply_and_the_message_of_one_join_show_it_once_in_either_order() {
        for reply_first in [true, false] {
            let mut story = Story::with(&[]);
            story.attendance.expect(&member("new"), 100);
            assert_eq!(story.enters("new"), Some(Known::At(version("e", 10))));
            let mut shown = Vec::new();
            if reply_first {
                shown.extend(story.entered("new", version("e", 11), None));
                shown.extend(story.joined(version("e", 11), "new"));
            } else {
                shown.extend(story.joined(version("e", 11), "new"));
                assert!(!story.attendance.may_admit(&"new".into()));
                shown.extend(story.entered("new", version("e", 11), None));
            }
            assert_eq!(shown, ["+new"], "{reply_first}");
            assert!(story.attendance.may_admit(&"new".into()));
        }
    }

    #[test]
    fn one_operation_a_user_so_a_quick_leave_and_join_cannot_overtake() {
        let mut story = Story::with(&[]);
        story.attendance.exit(&"ann".into());
        assert!(story.exits("ann"));
        story.attendance.expect(&member("ann"), 100);
        assert_eq!(story.enters("ann"), None);
        assert_eq!(story.left(version("e", 11), "ann"), ["-ann"]);
        story.attendance.exited(&"ann".into());
        assert_eq!(story.enters("ann"), Some(Known::At(version("e", 11))));
        assert_eq!(story.entered("ann", version("e", 12), None), ["+ann"]);
        assert!(story.attendance.may_admit(&"ann".into()));
    }

    #[test]
    fn a_lost_answer_may_have_happened_and_both_ways_are_repeated() {
        let mut story = Story::with(&[]);
        story.attendance.exit(&"ann".into());
        assert!(story.exits("ann"));
        story.attendance.failed(Some(&"ann".into()));
        assert!(!story.exits("ann"), "not before the next beat");
        story.attendance.retry();
        assert!(story.exits("ann"));
        story.attendance.failed(Some(&"ann".into()));
        story.attendance.retry();
        story.attendance.expect(&member("ann"), 100);
        assert!(story.enters("ann").is_some());
    }

    #[test]
    fn a_node_taken_for_dead_shows_its_own_users_as_staying() {
        let mut story = Story::with(&["bob"]);
        // It was frozen: a peer reaped it, and the messages waited in the socket.
        assert!(story.left(version("e", 11), "ann").is_empty());
        assert_eq!(story.left(version("e", 12), "bob"), ["-bob"]);
        story.attendance.resume(story.hold(), true);
        assert_eq!(story.enters("ann"), Some(Known::Enough));
        assert!(story.joined(version("e", 13), "ann").is_empty());
        assert!(story.entered("ann", version("e", 13), None).is_empty());
        assert_eq!(story.roster(version("e", 13), &["ann"]), Some(vec![]));
    }

    #[test]
    fn after_lost_data_removals_wait_for_the_others_to_come_back() {
        let mut story = Story::with(&["bob", "eve", "gone"]);
        story.attendance.lose_link();
        story.attendance.resume(story.hold(), true);
        // The new data set has only this node so far.
        assert_eq!(story.enters("ann"), Some(Known::Enough));
        story.entered("ann", version("f", 1), None);
        assert_eq!(story.roster(version("f", 1), &["ann"]), Some(vec![]));
        assert!(story.attendance.may_admit(&"ann".into()));
        // Others come back: nobody sees them join, they never left. A true leave is shown at once.
        assert!(story.joined(version("f", 2), "bob").is_empty() && story.joined(version("f", 3), "eve").is_empty());
        assert_eq!(story.left(version("f", 4), "eve"), ["-eve"]);
        story.pass(6);
        assert_eq!(story.attendance.next_roster(story.now), None);
        story.pass(1);
        assert_eq!(story.roster(version("f", 4), &["ann", "bob"]).unwrap(), ["-gone"]);
        story.pass(60);
        assert_eq!(story.attendance.next_roster(story.now), None);
    }

    #[test]
    fn while_redis_was_away_nobody_counts_as_gone_before_its_time() {
        let mut story = Story::with(&["bob"]);
        story.joined(version("e", 20), "eve");
        story.attendance.next_roster(story.now);
        let early =
            Snapshot { removals_in: Duration::from_secs(4), ..Story::snapshot(version("e", 21), &["ann", "eve"]) };
        assert_eq!(words(story.attendance.snapshot(story.now, early)), ["+eve"]);
        story.pass(4);
        assert_eq!(story.roster(version("e", 21), &["ann", "eve"]).unwrap(), ["-bob"]);
    }

    #[test]
    fn a_user_whom_the_store_lost_is_told_again_and_a_leaver_leaves_no_ghost() {
        let mut story = Story::with(&["bob"]);
        story.joined(version("e", 15), "x");
        assert_eq!(story.roster(version("e", 15), &["bob"]), Some(vec![]));
        assert_eq!(story.enters("ann"), Some(Known::Enough));
        // He leaves before that is answered, and the answer says that it did not happen.
        story.attendance.exit(&"ann".into());
        story.attendance.exited(&"ann".into());
        let mut story = Story::with(&["bob"]);
        story.left(version("e", 11), "ann");
        story.attendance.exit(&"ann".into());
        assert!(story.attendance.is_empty());
        assert_eq!(story.roster(version("e", 11), &["bob"]).unwrap(), ["-ann"]);
    }

    #[test]
    fn a_roster_asked_for_before_a_pause_of_listening_is_of_no_use_after_it() {
        let mut story = Story::with(&["bob"]);
        story.joined(version("e", 15), "x");
        assert!(story.attendance.next_roster(story.now).is_some());
        story.attendance.stop_listening();
        let old = Story::snapshot(version("e", 15), &["ann", "bob", "x"]);
        assert!(story.attendance.snapshot(story.now, old).is_empty());
        assert_eq!(story.roster(version("e", 19), &["ann"]).unwrap(), ["+ann"]);
    }

    #[test]
    fn keys_are_renewed_once_an_hour() {
        let mut story = Story::with(&[]);
        story.pass(3_599);
        assert_eq!(story.attendance.next_refresh(story.now), None);
        story.pass(1);
        assert!(story.attendance.next_refresh(story.now).is_some());
        assert_eq!(story.attendance.next_refresh(story.now), None);
    }
}
