//! What the store has told of a channel for those who come back, and what was heard since: shared by all who come within a
//! heartbeat, so that a crowd costs one question.

use std::sync::Arc;

use model::Event;

use super::{HELD_BYTES_MAX, Reading};

#[derive(Default, Debug)]
pub(super) struct Recent {
    /// The lowest number that somebody stands at, and of whom the store was not asked yet.
    wanted: Option<u64>,
    /// The number behind which it is being asked.
    asked: Option<u64>,
    /// Questions so far.
    number: u64,
    /// The number behind which everything is in `events`, and the last one that the store had then.
    answer: Option<(u64, u64)>,
    events: Vec<Arc<Event>>,
    bytes: usize,
    /// Nobody has looked since the last heartbeat.
    idle: bool,
    /// Heartbeats since the answer.
    beats: u32,
    /// Somebody has taken of it.
    taken: bool,
}

pub(super) struct Known<'a> {
    /// Those behind the number that was asked about, up to the newest heard.
    pub events: &'a [Arc<Event>],
    /// The last number that the store had.
    pub top: u64,
    /// What was on its way then has come.
    pub is_old: bool,
    /// Bytes of all that is in hand, for the first one who takes of it: it lives as long as what he is told is on its way.
    pub weight: usize,
}

impl Recent {
    fn want(&mut self, offset: u64) {
        self.wanted = Some(self.wanted.map_or(offset, |wanted| wanted.min(offset)));
    }

    /// Behind which number the store is to be asked, if it is.
    pub(super) fn ask(&mut self) -> Option<u64> {
        let after = self.wanted.take()?;
        self.forget();
        self.asked = Some(after);
        self.number += 1;
        Some(after)
    }

    pub(super) fn drop_ask(&mut self) {
        if let Some(asked) = self.asked.take() {
            self.want(asked);
        }
        self.forget();
    }

    pub(super) fn forget(&mut self) {
        (self.answer, self.bytes) = (None, 0);
        self.events = Vec::new();
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// An event came down the stream. It stands behind what the store answers, or is in that already.
    pub(super) fn hear(&mut self, event: &Event) {
        let is_new = self.events.last().is_none_or(|last| number(last) < number(event));
        if !is_new || (self.asked.is_none() && self.answer.is_none()) {
            return;
        }
        self.bytes += event.bytes();
        if self.bytes > HELD_BYTES_MAX {
            self.forget();
        } else {
            self.events.push(Arc::new(event.clone()));
        }
    }

    pub(super) fn fill(&mut self, reading: Reading) {
        let Some(after) = self.asked.take() else { return };
        let heard = std::mem::take(&mut self.events);
        self.events = reading.entries.into_iter().map(|(event, _)| Arc::new(event)).collect();
        let last = self.events.last().map_or(after, |event| number(event));
        self.events.extend(heard.into_iter().filter(|event| number(event) > last));
        self.bytes = self.events.iter().map(|event| event.bytes()).sum();
        self.answer = Some((after, reading.top.offset));
        (self.idle, self.beats, self.taken) = (false, 0, false);
    }

    /// What is known behind `offset` up to `at`; `None` until the store has told. Somebody ahead of the stream needs an answer to a
    /// question put after he came.
    pub(super) fn since(&mut self, offset: u64, asked: u64, at: u64) -> Option<Known<'_>> {
        let is_of_use = |after: u64| after <= offset && (offset <= at || self.number > asked);
        let Some((_, top)) = self.answer.filter(|(after, _)| is_of_use(*after)) else {
            if !self.asked.is_some_and(is_of_use) {
                self.want(offset);
            }
            return None;
        };
        self.idle = false;
        let weight = if std::mem::replace(&mut self.taken, true) { 0 } else { self.bytes };
        let place = |offset: u64| self.events.partition_point(|event| number(event) <= offset);
        let (from, to) = (place(offset), place(at));
        Some(Known { events: self.events.get(from..to).unwrap_or_default(), top, is_old: self.beats > 1, weight })
    }

    /// Once a heartbeat: what nobody looks at any more is given up.
    pub(super) fn rest(&mut self) {
        self.beats += 1;
        if std::mem::replace(&mut self.idle, true) && self.asked.is_none() {
            self.forget();
        }
    }
}

fn number(event: &Event) -> u64 {
    event.position.as_ref().map_or(0, |position| position.offset)
}
