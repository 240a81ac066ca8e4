//! A channel's history, as this node knows it: how far its subscribers were told, and what the store has of the rest.
//!
//! The store numbers what the application publishes, one by one. After a cut of the link the node asks for what it has not
//! heard, holds back what comes meanwhile, and tells all in order: nothing is lost, and nothing told twice, since no number is told
//! a second time. Who comes back with a position is told what lies between that and where the others stand.
//!
//! What has no number (a plain PUBLISH, a client event) cannot be asked for. Where a channel has heard such, a cut is a gap, and a
//! position from before it is not recovered: never is more claimed than is known. Pure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Broadcast, Event, Position, Resume};

use super::cache::Cache;
use crate::roster::Operation;
use crate::{Cached, Standing};
use recent::Recent;

#[path = "recent.rs"]
mod recent;

/// What a channel may hold back, or have in hand for those who come back. More, and it is a gap.
pub(crate) const HELD_BYTES_MAX: usize = 1 << 20;

/// For so long what comes is held back until the store has told what came before it.
const HELD_MAX: Duration = Duration::from_secs(2);

/// The store forgets numbers that nobody asks for in two days.
const READ_EVERY: Duration = Duration::from_secs(3_600);

/// What happened since it was last asked for.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Figures {
    /// Events that a cut had hidden and that were told from the store.
    pub repaired: u64,
    /// Events of the application that have no number.
    pub unnumbered: u64,
}

/// What the store answered.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Reading {
    /// The last number.
    pub top: Position,
    /// Behind this one something without a number was said last.
    pub noted: Option<u64>,
    /// The oldest first, each with its position and age.
    pub entries: Vec<(Event, Duration)>,
}

#[derive(Default, Debug)]
pub(crate) struct Log {
    /// On cache channels.
    cache: Option<Cache>,
    /// What was heard before this node knows where it stands.
    ahead: Option<Position>,
    /// Others were in before the channel kept anything here.
    is_late: bool,
    /// How far subscribers were told. `None`: nobody is in yet, or nothing was told with a number. Number 0 is that of a store that could
    /// not count, and of who was late: it is above nothing and below everything.
    at: Option<Position>,
    /// The link was lost at `at`: what came behind it is asked for first.
    cut: bool,
    /// The store took too long after a cut: subscribers were told of a gap and are told at once what comes.
    gave_up: bool,
    /// From this number on nothing was missed here.
    since: u64,
    /// The highest number behind which something without one was heard, here or elsewhere.
    noted: Option<u64>,
    /// Such was heard before this node knows where the channel stands.
    early: bool,
    /// What the store is to be told of that, and what it is being told.
    note: Option<Position>,
    noting: Option<Position>,
    /// A client event was heard.
    whispered: bool,
    held: Vec<Event>,
    held_bytes: usize,
    held_since: Option<Instant>,
    recent: Recent,
    under_way: bool,
    /// What is under way was asked before the channel was left.
    void: bool,
    failed: bool,
    read_at: Option<Instant>,
    figures: Figures,
}

impl Log {
    /// `cache_ttl`: on cache channels, for how long an event is kept.
    pub(crate) fn set_cache(&mut self, cache_ttl: Option<Duration>) {
        match (&mut self.cache, cache_ttl) {
            (Some(cache), Some(ttl)) => cache.ttl = ttl,
            (cache, ttl) => *cache = ttl.map(Cache::new),
        }
    }

    /// Of a channel that others are in already.
    pub(crate) fn late() -> Self {
        Self { is_late: true, ..Self::default() }
    }

    /// Newcomers may be admitted.
    pub(crate) fn is_known(&self) -> bool {
        self.at.is_some() && !self.cut
    }

    /// Tells the store behind which number something without one was heard. Counts as sent.
    pub(crate) fn next_note(&mut self) -> Option<Operation> {
        if self.noting.is_some() || self.failed {
            return None;
        }
        self.noting = self.note.take();
        self.noting.clone().map(Operation::Note)
    }

    /// The store does not know all yet that it must.
    pub(crate) fn owes(&self) -> bool {
        self.note.is_some() || self.noting.is_some()
    }

    /// Asks the store. Counts as sent.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Operation> {
        if self.under_way || self.failed {
            return None;
        }
        let stale = self.read_at.is_none_or(|at| now.saturating_duration_since(at) >= READ_EVERY);
        let after = match &self.at {
            Some(at) if self.cut => Some(at.offset),
            Some(_) => self.recent.ask(),
            None => None,
        };
        if after.is_none() && self.is_known() && !stale {
            return None;
        }
        self.under_way = true;
        Some(Operation::Read { after })
    }

    /// An event came down the stream; what subscribers are told now.
    pub(crate) fn hear(&mut self, now: Instant, event: Event, out: &mut Vec<Broadcast>) {
        if self.cut && !self.gave_up {
            self.hold(now, event, out);
        } else if self.at.is_some() || self.is_late {
            self.tell(now, event, out);
        } else if let Some(position) = &event.position {
            // Nobody is in: only where the channel stands matters.
            self.ahead = Some(position.clone());
            self.keep(now, &event);
        } else {
            self.early |= !event.is_client_event();
        }
    }

    /// The store answered; what subscribers are told now.
    pub(crate) fn answered(&mut self, now: Instant, reading: Reading, out: &mut Vec<Broadcast>) {
        self.under_way = false;
        if std::mem::take(&mut self.void) {
            return;
        }
        self.read_at = Some(now);
        self.noted = self.noted.max(reading.noted);
        match self.at.clone() {
            None => self.begin(now, &reading),
            Some(at) if self.cut => self.repair(now, &at, reading, out),
            Some(_) => self.recent.fill(reading),
        }
        self.release(now, out);
    }

    fn begin(&mut self, now: Instant, reading: &Reading) {
        let ahead = self.ahead.take().filter(|ahead| ahead.epoch == reading.top.epoch);
        let fresh = ahead.as_ref().is_none_or(|ahead| ahead.offset < reading.top.offset);
        let at = match ahead.filter(|_| !fresh) {
            Some(ahead) => ahead,
            // What is on its way here must be told to those who are in: it passes for new until the first number is heard.
            None if self.is_late => Position { offset: 0, ..reading.top.clone() },
            None => reading.top.clone(),
        };
        if fresh && let (Some(cache), Some((event, age))) = (&mut self.cache, reading.entries.last()) {
            cache.keep(now, event, *age);
        }
        self.since = at.offset;
        self.at = Some(at);
        if std::mem::take(&mut self.early) {
            self.hear_unnumbered();
        }
    }

    fn repair(&mut self, now: Instant, at: &Position, reading: Reading, out: &mut Vec<Broadcast>) {
        let Reading { top, entries, .. } = reading;
        let same = at.epoch == top.epoch && at.offset > 0;
        // What is held follows in the order in which it was heard.
        let mut held = self.held.iter().filter_map(|event| event.position.as_ref());
        let first_held = held.find(|position| position.epoch == top.epoch).map(|position| position.offset);
        // All of another epoch was said since.
        let is_missed = |event: &Event| {
            let position = event.position.as_ref().filter(|position| position.epoch == top.epoch);
            position.is_some_and(|position| {
                at.offset > 0 && position.offset > at.offset && first_held.is_none_or(|held| position.offset < held)
            })
        };
        let missed: Vec<_> = entries.into_iter().filter(|(event, _)| is_missed(event)).collect();
        let last = first_held.map_or(top.offset, |held| held - 1);
        let all = same && last.checked_sub(at.offset) == Some(missed.len() as u64);
        // It may have gone on telling meanwhile, and be past what the store had.
        let is_past = same && self.gave_up && at.offset >= last;
        if !(all || is_past) || self.whispered || self.early || self.noted.is_some() {
            out.push(Broadcast::Gap);
        }
        if let (Some(cache), Some((event, age))) = (&mut self.cache, missed.last()) {
            cache.keep(now, event, *age);
        }
        self.figures.repaired += missed.len() as u64;
        out.extend(missed.into_iter().map(|(event, _)| Broadcast::Event(event)));
        let stands = if is_past { at.clone() } else { Position { offset: last, ..top } };
        self.since = stands.offset;
        (self.at, self.cut, self.gave_up) = (Some(stands), false, false);
        if std::mem::take(&mut self.early) {
            self.hear_unnumbered();
        }
    }

    /// Tells an event, unless it was told before.
    fn tell(&mut self, now: Instant, event: Event, out: &mut Vec<Broadcast>) {
        match (&event.position, &self.at) {
            (Some(position), at) => {
                let same = at.as_ref().filter(|at| at.epoch == position.epoch);
                if same.is_some_and(|at| position.offset <= at.offset) {
                    return;
                }
                if same.is_none() {
                    self.since = position.offset;
                }
                self.at = Some(position.clone());
                self.keep(now, &event);
                self.recent.hear(&event);
            }
            (None, _) if event.is_client_event() => self.whispered = true,
            (None, _) => self.hear_unnumbered(),
        }
        out.push(Broadcast::Event(event));
    }

    /// Noting it once a number is enough.
    fn hear_unnumbered(&mut self) {
        self.figures.unnumbered += 1;
        match &self.at {
            Some(at) if self.noted < Some(at.offset) => {
                self.noted = Some(at.offset);
                self.note = Some(at.clone());
            }
            Some(_) => {}
            None => self.early = true,
        }
    }

    fn keep(&mut self, now: Instant, event: &Event) {
        if let Some(cache) = &mut self.cache {
            cache.keep(now, event, Duration::ZERO);
        }
    }

    fn hold(&mut self, now: Instant, event: Event, out: &mut Vec<Broadcast>) {
        if event.position.is_none() {
            // There may have been more of that kind while nothing was heard.
            self.whispered |= event.is_client_event();
            self.early |= !event.is_client_event();
        }
        self.held_since.get_or_insert(now);
        self.held_bytes += event.bytes();
        self.held.push(event);
        if self.held_bytes > HELD_BYTES_MAX {
            self.give_up(now, out);
        }
    }

    fn release(&mut self, now: Instant, out: &mut Vec<Broadcast>) {
        (self.held_bytes, self.held_since) = (0, None);
        for event in std::mem::take(&mut self.held) {
            self.tell(now, event, out);
        }
    }

    /// Nobody waits any longer for what was missed.
    fn give_up(&mut self, now: Instant, out: &mut Vec<Broadcast>) {
        out.push(Broadcast::Gap);
        self.gave_up = true;
        self.release(now, out);
    }

    /// Bytes that are held back, or kept for those who come back.
    pub(crate) fn in_hand(&self) -> usize {
        self.held_bytes + self.recent.bytes()
    }

    /// Gives up what is in hand.
    pub(crate) fn shed(&mut self, now: Instant, out: &mut Vec<Broadcast>) {
        self.recent.forget();
        if !self.held.is_empty() {
            self.give_up(now, out);
        }
    }

    /// Where somebody who comes to the channel stands. `None`: the store has to be asked first, or the stream to bring what he
    /// has heard elsewhere. `asked`: what [`Log::readings`] was when he came.
    pub(crate) fn stand(&mut self, resume: &Resume, asked: u64) -> Option<Standing> {
        let at = self.at.as_ref().filter(|_| !self.cut)?;
        let standing = |recovered| {
            let (position, end) = (at.clone(), at.clone());
            Standing { position, end, recovered, missed: Vec::new(), weight: 0 }
        };
        let Some(from) = &resume.from else { return Some(standing(None)) };
        let unsure = self.noted.is_some_and(|noted| from.offset <= noted || from.offset < self.since);
        if from.epoch != at.epoch || from.offset == 0 || unsure {
            return Some(standing(Some(false)));
        }
        if from.offset == at.offset {
            return Some(standing(Some(true)));
        }
        let known = self.recent.since(from.offset, asked, at.offset)?;
        if from.offset > at.offset {
            // It is on its way here, or it never was: a number may begin a history and belong to no event.
            return (from.offset > known.top || known.is_old).then(|| standing(Some(false)));
        }
        if known.events.len() as u64 != at.offset - from.offset {
            return Some(standing(Some(false)));
        }
        let is_for = |event: &&Arc<Event>| resume.except.is_none() || event.except != resume.except;
        let missed: Vec<_> = known.events.iter().filter(is_for).cloned().collect();
        let weight = known.weight + missed.len() * size_of::<Arc<Event>>();
        Some(Standing { position: from.clone(), missed, weight, ..standing(Some(true)) })
    }

    /// How often the store was asked so far.
    pub(crate) fn readings(&self) -> u64 {
        self.recent.number()
    }

    pub(crate) fn take_figures(&mut self) -> Figures {
        std::mem::take(&mut self.figures)
    }

    /// What a newcomer to a cache channel is given; `true` when its lack is to be reported.
    pub(crate) fn give(&mut self, now: Instant) -> (Cached, bool) {
        self.cache.as_mut().map_or((Cached::Never, false), |cache| cache.give(now))
    }

    pub(crate) fn failed(&mut self) {
        (self.under_way, self.void, self.failed) = (false, false, true);
        self.recent.drop_ask();
    }

    pub(crate) fn noted(&mut self, done: bool) {
        let told = self.noting.take();
        self.failed |= !done;
        if !done && self.note.is_none() {
            self.note = told;
        }
    }

    /// Once a heartbeat.
    pub(crate) fn retry(&mut self, now: Instant, out: &mut Vec<Broadcast>) {
        self.failed = false;
        self.recent.rest();
        if self.held_since.is_some_and(|since| now.saturating_duration_since(since) >= HELD_MAX) {
            self.give_up(now, out);
        }
    }

    /// Events may be missed from here on.
    pub(crate) fn lose_link(&mut self) {
        self.lose_store();
        self.cut |= self.at.is_some();
        (self.gave_up, self.held_since) = (false, None);
        // Those with a number come again from the store, and with them what this cut hides between them.
        self.held.retain(|event| event.position.is_none());
        self.held_bytes = self.held.iter().map(Event::bytes).sum();
        self.ahead = None;
    }

    /// No answer to anything under way will come.
    pub(crate) fn lose_store(&mut self) {
        (self.under_way, self.void, self.failed) = (false, false, false);
        self.note = self.note.take().or(self.noting.take());
        self.recent.drop_ask();
    }

    /// Nobody here hears the channel any more.
    pub(crate) fn stop_listening(&mut self) {
        let (mut cache, note, noting) = (self.cache.take(), self.note.take(), self.noting.take());
        cache.iter_mut().for_each(Cache::forget);
        let under_way = self.under_way;
        *self = Self { cache, note, noting, under_way, void: under_way, ..Self::default() };
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
