//! One channel on one worker: who is subscribed here, and what waits to be told to them.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use backplane::{Cached, Standing};
use model::{ChannelKey, ChannelKind, Delivery, Encoding, Refusal, Roster, Tag};

use crate::connection::Connection;
use crate::run::Batch;

/// A subscription's place in its channel.
pub(crate) struct Entry {
    pub(crate) connection: Rc<Connection>,
    /// Tells this tenant of the slot from earlier ones. Unique in the worker until it wraps at 2^32.
    pub(crate) generation: u32,
    pub(crate) encoding: Encoding,
    /// False while it waits for its `Admit`, and who watches for all of them: it hears nothing yet.
    pub(crate) admitted: bool,
}

/// What waits in a channel, in the order of the stream.
pub(crate) enum Queued {
    Deliver(Arc<Delivery>),
    Admit {
        slot: u32,
        generation: u32,
        roster: Option<Arc<Roster>>,
        cached: Cached,
        standing: Option<Box<Standing>>,
        logged: bool,
        /// Where the backplane wants this worker's subscriptions counted: it answers an ask, so it hears the channel.
        /// Else the worker admits by itself.
        count: Option<Arc<AtomicU32>>,
    },
    Refuse {
        slot: u32,
        generation: u32,
        refusal: Refusal,
    },
    /// The success of an already admitted subscription is said again, or that of a user's own channel at last.
    Repeat {
        slot: u32,
        generation: u32,
        tag: Tag,
    },
    /// Who watches hears what comes from here on.
    Watch {
        slot: u32,
        generation: u32,
    },
}

/// A fan-out under way.
pub(crate) struct Cursor {
    pub(crate) at: u32,
    /// Newcomers lie behind this.
    pub(crate) end: u32,
    pub(crate) batch: Batch,
    /// What the batch counts against the inbox.
    pub(crate) bytes: usize,
}

pub(crate) struct Channel {
    /// Its slot in the worker.
    pub(crate) number: u32,
    pub(crate) key: Arc<ChannelKey>,
    pub(crate) kind: ChannelKind,
    entries: Vec<Option<Entry>>,
    holes: Vec<u32>,
    pub(crate) admitted: u32,
    /// Those of them that count, and where.
    present: u32,
    count: Option<Arc<AtomicU32>>,
    /// The backplane sends this worker the channel's messages: an `Admit` has come, no `leave` has gone since.
    pub(crate) listed: bool,
    /// Nothing was said since the last answer that puts in doubt whether the channel is heard. Unsure, a worker admits
    /// nobody by itself.
    pub(crate) sure: bool,
    /// The backplane tells what was missed here, or that it cannot: a cut of the link says nothing of this channel.
    pub(crate) logged: bool,
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) cursor: Option<Box<Cursor>>,
    /// It stands in the line of channels with work.
    pub(crate) active: bool,
    /// The members as this worker's clients know them, on presence and users' channels.
    pub(crate) roster: Option<Arc<Roster>>,
}

impl Channel {
    pub(crate) fn new(number: u32, key: Arc<ChannelKey>) -> Self {
        Self {
            number,
            kind: key.name.kind(),
            key,
            entries: Vec::new(),
            holes: Vec::new(),
            admitted: 0,
            present: 0,
            count: None,
            listed: false,
            sure: false,
            logged: false,
            queue: VecDeque::new(),
            cursor: None,
            active: false,
            roster: None,
        }
    }

    /// Holes are filled only while no cursor is on the channel: a newcomer must not hear a batch that began before it.
    pub(crate) fn insert(&mut self, entry: Entry) -> u32 {
        if self.cursor.is_none()
            && let Some(slot) = self.holes.pop()
        {
            self.entries[slot as usize] = Some(entry);
            return slot;
        }
        if self.entries.is_empty() {
            // Most channels have one subscriber.
            self.entries.reserve_exact(1);
        }
        self.entries.push(Some(entry));
        self.entries.len() as u32 - 1
    }

    /// Makes a hole at once, also under a cursor.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<Entry> {
        let entry = self.entries.get_mut(slot as usize)?.take()?;
        self.holes.push(slot);
        if entry.admitted {
            self.admitted -= 1;
            self.count_present(entry.encoding, -1);
        }
        Some(entry)
    }

    /// From here on the subscription is told things. The connection, unless it is gone.
    pub(crate) fn let_in(&mut self, slot: u32, generation: u32) -> Option<Rc<Connection>> {
        let entry = self.find_mut(slot, generation).filter(|entry| !entry.admitted)?;
        entry.admitted = true;
        let (connection, encoding) = (entry.connection.clone(), entry.encoding);
        self.admitted += 1;
        self.count_present(encoding, 1);
        Some(connection)
    }

    fn count_present(&mut self, encoding: Encoding, change: i32) {
        if encoding.view.is_present() {
            self.present = self.present.wrapping_add_signed(change);
            if let Some(count) = &self.count {
                // Wraps as an addition of the complement.
                count.fetch_add(change as u32, Relaxed);
            }
        }
    }

    /// Subscriptions are counted here, those that are in already included.
    pub(crate) fn count_into(&mut self, count: Arc<AtomicU32>) {
        if self.count.as_ref().is_some_and(|known| Arc::ptr_eq(known, &count)) {
            return;
        }
        count.fetch_add(self.present, Relaxed);
        if let Some(known) = self.count.replace(count) {
            known.fetch_sub(self.present, Relaxed);
        }
    }

    /// Who watches hears what comes after what he was just told of the channel: a batch under way is in that already.
    pub(crate) fn watch_from_here(&mut self, slot: u32) {
        let Some(generation) = self.get(slot).map(|entry| entry.generation) else { return };
        if self.cursor.is_some() {
            self.queue.push_front(Queued::Watch { slot, generation });
        } else {
            self.let_in(slot, generation);
        }
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&Entry> {
        self.entries.get(slot as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.entries.get_mut(slot as usize)?.as_mut()
    }

    /// The subscription of that name, unless it is gone.
    pub(crate) fn find_mut(&mut self, slot: u32, generation: u32) -> Option<&mut Entry> {
        self.get_mut(slot).filter(|entry| entry.generation == generation)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.holes.len() == self.entries.len()
    }

    pub(crate) fn end(&self) -> u32 {
        self.entries.len() as u32
    }
}
