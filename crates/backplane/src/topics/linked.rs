//! What becomes of the topics when the link or the store goes and comes back.

use std::time::Instant;

use super::occupancy::Occupancy;
use super::topic::State;
use super::{Item, TopicId, Topics, Who};
use crate::roster::Renewal;

impl Topics {
    /// A link is up; all wanted topics are asked for, presence first.
    pub(crate) fn link_up(&mut self) {
        self.link_up = true;
        let mut asked = Vec::new();
        for id in self.ids() {
            let gap_due = self.gap_due;
            let Some(topic) = self.topic(id).filter(|topic| !topic.is_unwanted()) else { continue };
            (topic.state, topic.refused) = (State::Asking, false);
            topic.restoring = gap_due && topic.workers != 0;
            let (restoring, presence) = (topic.restoring, topic.attendance.is_some());
            self.restoring += usize::from(restoring);
            asked.push((!presence, id));
        }
        asked.sort_by_key(|(later, _)| *later);
        self.subscribe = asked.into_iter().map(|(_, id)| id).collect();
        self.tell_gap();
    }

    /// The link is gone, with all that was in flight on it.
    pub(crate) fn link_down(&mut self, now: Instant) {
        self.gap_due |= self.link_up;
        (self.link_up, self.store_up, self.restoring) = (false, false, 0);
        self.subscribe.clear();
        self.unsubscribe.clear();
        self.alone.clear();
        self.postponed.clear();
        self.operations.clear();
        self.lingering.clear();
        for id in self.ids() {
            let Some(topic) = self.topic(id) else { continue };
            topic.restoring = false;
            topic.state = if topic.is_unwanted() { State::Idle } else { State::Asking };
            topic.lose_link();
            if topic.state == State::Idle {
                topic.stop_listening();
            }
            self.rest(now, id);
        }
    }

    /// The store knows this node. `hold`: until when comparing rosters removes nobody. After a renewal it is told of all
    /// users and channels anew.
    pub(crate) fn store_up(&mut self, now: Instant, hold: Option<Instant>, renewal: Renewal) {
        self.store_up = true;
        for id in self.ids() {
            let Some(topic) = self.topic(id) else { continue };
            topic.attendance.iter_mut().for_each(|attendance| attendance.resume(hold, renewal));
            topic.log.iter_mut().for_each(|log| log.lose_store());
            if renewal != Renewal::None {
                let lost = renewal == Renewal::DataLost;
                topic.occupancy.iter_mut().for_each(|occupancy| occupancy.renew(lost));
            }
            self.tell_store(now, id, Who::All);
            self.rest(now, id);
        }
    }

    /// The store no longer takes this node's incarnation, or is asked by another link now: no answer to anything under way
    /// will come.
    pub(crate) fn store_down(&mut self, now: Instant) {
        self.store_up = false;
        self.operations.clear();
        for id in self.ids() {
            let Some(topic) = self.topic(id) else { continue };
            topic.occupancy.iter_mut().for_each(Occupancy::lose_link);
            topic.log.iter_mut().for_each(|log| log.lose_store());
            self.settle(now, id);
        }
    }

    pub(super) fn restored(&mut self, id: TopicId) {
        if let Some(topic) = self.topic(id).filter(|topic| topic.restoring) {
            topic.restoring = false;
            self.restoring -= 1;
            self.tell_gap();
        }
    }

    /// On this link everything that was heard on the last one is heard again, or refused.
    pub(crate) fn is_restored(&self) -> bool {
        self.link_up && self.restoring == 0
    }

    /// Once everything is heard again (or refused), each worker is told that there was a cut.
    fn tell_gap(&mut self) {
        if self.gap_due && self.is_restored() {
            self.gap_due = false;
            for worker in 0..self.workers.count() {
                self.workers.push(worker, Item::LinkGap);
            }
        }
    }
}
