//! What one client heard, kept as it comes: numbers that should only rise by one, gaps that it was told, and who is in
//! the room. Pure; what was really published, and who is really there, is for who reads it to compare.

use std::collections::BTreeSet;
use std::time::Instant;

/// Numbers of a source that were not heard between two that were.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hole {
    pub(crate) source: usize,
    pub(crate) from: u64,
    /// The first one behind it.
    pub(crate) to: u64,
    /// The client was told of a gap there, or later.
    pub(crate) told: bool,
    /// It was told before it heard the first number behind the hole.
    pub(crate) foretold: bool,
    /// Of which of the source's promises this is.
    promise: u32,
}

/// One source, since it began to promise this client everything: at its last success, or, where the client comes back with
/// its position, at the first one.
#[derive(Clone, Copy, Default)]
struct Ear {
    /// Its channel has let the client in on this connection.
    is_open: bool,
    promise: u32,
    /// Only numbers below it had been begun when the client was let in; absent: it never listened.
    floor: Option<u64>,
    last: Option<u64>,
    /// A gap was told since the last number.
    told: bool,
}

/// A member event.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) user: String,
    pub(crate) joined: bool,
    pub(crate) at: Instant,
}

#[derive(Default)]
pub(crate) struct Story {
    ears: Vec<Ear>,
    pub(crate) holes: Vec<Hole>,
    pub(crate) events: u64,
    /// All that was heard, source and number, where somebody wants to know.
    pub(crate) order: Option<Vec<(usize, u64)>>,
    pub(crate) doubled: u64,
    pub(crate) disordered: u64,
    pub(crate) gaps: u64,
    /// The members as the client would show them.
    pub(crate) members: BTreeSet<String>,
    pub(crate) changes: Vec<Change>,
    /// Who is there came, or who is not there went.
    pub(crate) absurd: Vec<Change>,
    /// Let in by all channels, and not closed since.
    pub(crate) inside: bool,
    /// How often it was let in by all channels.
    pub(crate) stays: u32,
    /// How often it was let in where it had been, and told all that it missed; or told that something is lost.
    pub(crate) recovered: u64,
    pub(crate) unrecovered: u64,
    /// Why connections ended: close codes, 0 for a line that broke.
    pub(crate) closes: Vec<u16>,
    /// The number of the last marker in the room.
    pub(crate) marker: u64,
    /// Events that nobody foresaw.
    pub(crate) strange: Vec<String>,
}

impl Story {
    pub(crate) fn of(sources: usize) -> Self {
        Self { ears: vec![Ear::default(); sources], ..Self::default() }
    }

    /// A new connection.
    pub(crate) fn arrives(&mut self) {
        self.ears.iter_mut().for_each(|ear| ear.is_open = false);
        self.changes.clear();
    }

    /// The channel of a source has let the client in: from `floor` on all numbers are promised, and what it missed meanwhile
    /// never was.
    pub(crate) fn admitted(&mut self, source: usize, floor: u64) {
        let promise = self.ears[source].promise + 1;
        self.ears[source] = Ear { is_open: true, promise, floor: Some(floor), ..Ear::default() };
    }

    /// The same for one that came with its position: the promise is the old one, and to be told that something is lost is as
    /// good as a gap.
    pub(crate) fn resumed(&mut self, source: usize, is_whole: bool) {
        let ear = &mut self.ears[source];
        assert!(ear.floor.is_some(), "it was there");
        ear.is_open = true;
        ear.told |= !is_whole;
    }

    /// All channels have let it in.
    pub(crate) fn enters(&mut self) {
        self.inside = true;
        self.stays += 1;
    }

    /// True when it was inside.
    pub(crate) fn closed(&mut self, code: u16) -> bool {
        self.closes.push(code);
        std::mem::take(&mut self.inside)
    }

    pub(crate) fn hears(&mut self, source: usize, number: u64) {
        self.events += 1;
        if let Some(order) = &mut self.order {
            order.push((source, number));
        }
        let ear = &mut self.ears[source];
        assert!(ear.is_open, "an event before the yes");
        let floor = ear.floor.expect("a channel that it asked for").min(number);
        let next = ear.last.map_or(floor, |last| last + 1);
        let (told, promise) = (std::mem::take(&mut ear.told), ear.promise);
        if number < next {
            return self.hears_late(source, number);
        }
        ear.last = Some(number);
        if number > next {
            self.holes.push(Hole { source, from: next, to: number, told, foretold: told, promise });
        }
    }

    /// A number that is not higher than the last: it was skipped before, or it is here twice.
    fn hears_late(&mut self, source: usize, number: u64) {
        let promise = self.ears[source].promise;
        let skipped =
            |hole: &Hole| (hole.promise, hole.source) == (promise, source) && (hole.from..hole.to).contains(&number);
        let Some(at) = self.holes.iter().position(skipped) else {
            self.doubled += 1;
            return;
        };
        self.disordered += 1;
        let hole = self.holes.swap_remove(at);
        let parts = [Hole { to: number, ..hole.clone() }, Hole { from: number + 1, ..hole }];
        self.holes.extend(parts.into_iter().filter(|part| part.from < part.to));
    }

    /// Whatever was promised by these sources and missed until now is told.
    pub(crate) fn hears_of_gap(&mut self, concerned: impl Fn(usize) -> bool) {
        self.gaps += 1;
        for (source, ear) in self.ears.iter_mut().enumerate().filter(|(source, _)| concerned(*source)) {
            ear.told = true;
            let missed = self.holes.iter_mut().filter(|hole| (hole.source, hole.promise) == (source, ear.promise));
            missed.for_each(|hole| hole.told = true);
        }
    }

    pub(crate) fn hears_of(&mut self, user: String, joined: bool) {
        let is_news = if joined { self.members.insert(user.clone()) } else { self.members.remove(&user) };
        let change = Change { user, joined, at: Instant::now() };
        if !is_news {
            self.absurd.push(change.clone());
        }
        self.changes.push(change);
    }

    /// The last number heard of a source since it began to promise.
    pub(crate) fn last(&self, source: usize) -> Option<u64> {
        self.ears[source].last
    }

    /// What the client should have heard of a source by now and has not, given the last number that was taken; and whether
    /// a gap was told since.
    pub(crate) fn tail(&self, source: usize, last: u64) -> Option<Hole> {
        let ear = &self.ears[source];
        let from = ear.last.map_or(ear.floor?, |heard| heard + 1);
        let hole = Hole { source, from, to: last + 1, told: ear.told, foretold: ear.told, promise: ear.promise };
        (self.inside && from <= last).then_some(hole)
    }

    /// How often a user came and went.
    pub(crate) fn count(&self, user: &str) -> (usize, usize) {
        let of_user = self.changes.iter().filter(|change| change.user == user);
        let (came, went): (Vec<&Change>, Vec<&Change>) = of_user.partition(|change| change.joined);
        (came.len(), went.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(numbers: &[u64]) -> Story {
        let mut story = Story::of(1);
        story.arrives();
        story.admitted(0, 5);
        numbers.iter().for_each(|number| story.hears(0, *number));
        story
    }

    fn holes(story: &Story) -> Vec<(u64, u64, bool)> {
        story.holes.iter().map(|hole| (hole.from, hole.to, hole.told)).collect()
    }

    #[test]
    fn what_was_begun_before_the_success_is_not_promised() {
        assert_eq!(holes(&story(&[3, 4, 5])), []);
        assert_eq!(holes(&story(&[5, 6])), []);
        assert_eq!(holes(&story(&[7])), [(5, 7, false)]);
    }

    #[test]
    fn doubled_and_late_are_told_apart() {
        let story = story(&[5, 6, 6, 9, 7, 7]);
        assert_eq!((story.doubled, story.disordered), (2, 1));
        assert_eq!(holes(&story), [(8, 9, false)]);
    }

    #[test]
    fn a_gap_covers_what_was_missed_before_it_and_not_after() {
        let mut story = story(&[5, 8]);
        story.hears_of_gap(|source| source == 0);
        story.hears(0, 10);
        story.hears(0, 12);
        assert_eq!(holes(&story), [(6, 8, true), (9, 10, true), (11, 12, false)]);
        assert_eq!(story.tail(0, 14).map(|hole| hole.told), None, "it is not inside");
        story.inside = true;
        assert_eq!(story.tail(0, 14).map(|hole| (hole.from, hole.to, hole.told)), Some((13, 15, false)));
    }

    #[test]
    fn who_comes_back_with_its_position_is_promised_what_it_missed_and_nobody_else_is() {
        let mut stock = story(&[5, 6]);
        stock.arrives();
        stock.admitted(0, 9);
        stock.hears(0, 9);
        assert_eq!((holes(&stock), stock.doubled), (vec![], 0));
        let mut resuming = story(&[5, 6]);
        resuming.arrives();
        resuming.resumed(0, true);
        [6, 7, 9].into_iter().for_each(|number| resuming.hears(0, number));
        assert_eq!((holes(&resuming), resuming.doubled), (vec![(8, 9, false)], 1));
        resuming.arrives();
        resuming.resumed(0, false);
        resuming.hears(0, 12);
        assert_eq!(holes(&resuming), [(8, 9, false), (10, 12, true)]);
    }

    #[test]
    fn a_gap_of_one_channel_says_nothing_of_another() {
        let mut story = Story::of(2);
        story.arrives();
        (0..2).for_each(|source| story.admitted(source, 0));
        (0..2).for_each(|source| story.hears(source, 1));
        story.hears_of_gap(|source| source == 1);
        (0..2).for_each(|source| story.hears(source, 3));
        let told: Vec<_> = story.holes.iter().map(|hole| (hole.source, hole.told, hole.foretold)).collect();
        assert_eq!(told, [(0, false, false), (1, true, false), (0, false, false), (1, true, true)]);
    }

    #[test]
    fn who_is_there_does_not_come_and_who_is_not_does_not_go() {
        let mut story = Story::of(0);
        for (user, joined) in [("ann", true), ("ann", true), ("bob", false), ("ann", false)] {
            story.hears_of(user.to_owned(), joined);
        }
        assert_eq!((story.absurd.len(), story.count("ann")), (2, (2, 1)));
    }
}
