//! The topics' side of histories: events on their way through a channel's log, and how much all logs may have in hand together.

use std::time::Instant;

use model::{Broadcast, Event};

use super::{Answer, TopicId, Topics, Who};

/// What all channels together may hold back after a cut, or have in hand for those who come back. More: who holds back more tells
/// a gap, and what is in hand is asked for again.
const IN_HAND_MAX: usize = 64 << 20;

impl Topics {
    /// An event of the channel.
    pub(crate) fn event(&mut self, now: Instant, id: TopicId, event: Event) {
        let Some(topic) = self.topic(id) else { return };
        let Some(log) = topic.log.as_mut() else { return self.broadcast(id, Broadcast::Event(event)) };
        let (before, mut told) = (log.in_hand(), Vec::new());
        log.hear(now, event, &mut told);
        let (after, owes, figures) = (log.in_hand(), log.owes(), log.take_figures());
        let is_waited_for = topic.is_waited_for();
        self.in_hand = (self.in_hand + after).saturating_sub(before);
        self.heard.count(figures);
        self.broadcast_all(id, told);
        if owes {
            self.tell_store(now, id, Who::Nobody);
        }
        if is_waited_for {
            self.settle(now, id);
        }
        if after > 0 {
            self.shed_histories(now, id);
        }
    }

    /// The store told what the channel keeps, or could not.
    pub(super) fn answered_on_history(&mut self, now: Instant, id: TopicId, answer: Answer) {
        let Some(log) = self.topic(id).and_then(|topic| topic.log.as_mut()) else { return };
        let (before, mut told) = (log.in_hand(), Vec::new());
        match answer {
            Answer::Read(reading) => log.answered(now, reading, &mut told),
            _ => log.failed(),
        }
        let (after, figures) = (log.in_hand(), log.take_figures());
        self.in_hand = (self.in_hand + after).saturating_sub(before);
        self.heard.count(figures);
        self.broadcast_all(id, told);
    }

    pub(super) fn beat_history(&mut self, now: Instant, id: TopicId) {
        let Some(log) = self.topic(id).and_then(|topic| topic.log.as_mut()) else { return };
        let mut told = Vec::new();
        log.retry(now, &mut told);
        self.in_hand += log.in_hand();
        self.broadcast_all(id, told);
        if self.topic(id).is_some_and(|topic| topic.is_waited_for()) {
            self.settle(now, id);
        }
    }

    /// Where all histories together have too much, this one gives up what it has.
    pub(super) fn shed_histories(&mut self, now: Instant, id: TopicId) {
        if self.in_hand <= IN_HAND_MAX {
            return;
        }
        let Some(log) = self.topic(id).and_then(|topic| topic.log.as_mut()) else { return };
        let (before, mut told) = (log.in_hand(), Vec::new());
        log.shed(now, &mut told);
        let after = log.in_hand();
        self.in_hand = (self.in_hand + after).saturating_sub(before);
        self.broadcast_all(id, told);
    }

    fn broadcast_all(&mut self, id: TopicId, told: Vec<Broadcast>) {
        told.into_iter().for_each(|broadcast| self.broadcast(id, broadcast));
    }
}
