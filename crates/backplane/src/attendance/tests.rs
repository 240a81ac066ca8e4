//! Stories of one channel's presence on one node: what the store says, what the clients see.

use super::*;
use crate::roster::*;

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

fn words(changes: impl IntoIterator<Item = Broadcast>) -> Vec<String> {
    let word = |change| match change {
        Broadcast::Joined(member) => format!("+{}", member.id),
        Broadcast::Left(member) => format!("-{}", member.id),
        other => panic!("no change of a roster: {other:?}"),
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
        story.attendance.expect(&member("ann"), 100, Duration::ZERO);
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
        story.attendance.expect(&member("new"), 100, Duration::ZERO);
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
    story.attendance.exit(story.now, &"ann".into());
    assert!(story.exits("ann"));
    story.attendance.expect(&member("ann"), 100, Duration::ZERO);
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
    story.attendance.exit(story.now, &"ann".into());
    assert!(story.exits("ann"));
    story.attendance.failed(Some(&"ann".into()));
    assert!(!story.exits("ann"), "not before the next beat");
    story.attendance.retry();
    assert!(story.exits("ann"));
    story.attendance.failed(Some(&"ann".into()));
    story.attendance.retry();
    story.attendance.expect(&member("ann"), 100, Duration::ZERO);
    assert!(story.enters("ann").is_some());
}

#[test]
fn a_node_taken_for_dead_shows_its_own_users_as_staying() {
    let mut story = Story::with(&["bob"]);
    // It was frozen: a peer reaped it, and the messages waited in the socket.
    assert!(story.left(version("e", 11), "ann").is_empty());
    assert_eq!(story.left(version("e", 12), "bob"), ["-bob"]);
    story.attendance.resume(story.hold(), Renewal::Fenced);
    assert_eq!(story.enters("ann"), Some(Known::Enough));
    assert!(story.joined(version("e", 13), "ann").is_empty());
    assert!(story.entered("ann", version("e", 13), None).is_empty());
    assert_eq!(story.roster(version("e", 13), &["ann"]), Some(vec![]));
}

#[test]
fn after_lost_data_removals_wait_for_the_others_to_come_back() {
    let mut story = Story::with(&["bob", "eve", "gone"]);
    story.attendance.lose_link();
    story.attendance.resume(story.hold(), Renewal::Fenced);
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
    story.pass(40);
    assert_eq!(story.attendance.next_roster(story.now), None);
}

#[test]
fn while_redis_was_away_nobody_counts_as_gone_before_its_time() {
    let mut story = Story::with(&["bob"]);
    story.joined(version("e", 20), "eve");
    story.attendance.next_roster(story.now);
    let early = Snapshot { removals_in: Duration::from_secs(4), ..Story::snapshot(version("e", 21), &["ann", "eve"]) };
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
    story.attendance.exit(story.now, &"ann".into());
    story.attendance.exited(&"ann".into());
    let mut story = Story::with(&["bob"]);
    story.left(version("e", 11), "ann");
    story.attendance.exit(story.now, &"ann".into());
    // It may have been the news of an exit before her last enter, so the store is told.
    assert!(story.exits("ann"));
    story.attendance.exited(&"ann".into());
    assert!(story.attendance.is_empty());
    assert_eq!(story.roster(version("e", 11), &["bob"]).unwrap(), ["-ann"]);
}

#[test]
fn who_goes_while_a_roster_from_before_he_came_is_looked_at_leaves_no_ghost() {
    let mut story = Story::with(&["bob"]);
    story.attendance.expect(&member("cy"), 100, Duration::ZERO);
    // Behind: the store is at 13 by then, what happened between is on its way here.
    assert!(story.enters("cy").is_some());
    assert_eq!(story.entered("cy", version("e", 13), None), [""; 0]);
    // Somebody else's answer brings a roster from before that.
    story.joined(version("e", 12), "x");
    assert_eq!(story.roster(version("e", 12), &["ann", "bob", "eve"]).unwrap(), ["+eve"]);
    story.attendance.admit(&"cy".into());
    story.attendance.exit(story.now, &"cy".into());
    assert!(story.exits("cy"), "the store has him");
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

#[test]
fn what_the_store_lost_by_itself_is_found_within_a_minute_and_nobody_is_taken_for_gone_for_it() {
    for (at_last, told) in [(&["ann", "bob"][..], &[][..]), (&["ann"], &["-bob"])] {
        let mut story = Story::with(&["bob"]);
        assert_eq!(story.attendance.next_roster(story.now), None);
        story.pass(60);
        // All of the channel is gone there; its version began anew, above all of before.
        assert_eq!(story.roster(version("e", 500), &[]), Some(Vec::new()), "read although nothing seems to be missing");
        assert!(story.enters("ann").is_some(), "told again");
        assert_eq!(story.entered("ann", version("e", 501), None), [""; 0]);
        assert_eq!(story.joined(version("e", 502), "bob"), [""; 0], "bob's node tells of him too");
        story.pass(LOSS_HOLD.as_secs());
        assert_eq!(story.roster(version("e", 503), at_last).unwrap(), told);
    }
}
