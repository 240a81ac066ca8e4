//! The one door into a worker: a queue bounded in bytes, swapped out whole at a wake.
//!
//! Full: the *new* message is lost, its channel is noted, and a gap is queued in its place before whatever is accepted
//! next. Admissions and member changes have a reserve. A message's bytes count until its fan-out ends.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};

use backplane::Item;
use model::{Broadcast, ChannelKey, Delivery};
use tokio::sync::Notify;

use crate::stats::WorkerStats;

/// What an item other than an event costs in bytes.
pub(crate) const ITEM_BYTES: usize = 128;

pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    wake: Notify,
    bytes_max: usize,
    stats: Arc<WorkerStats>,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    /// Of the items here and of those taken and not yet released.
    bytes: usize,
    /// Channels that lost a message since the last accepted item.
    gapped: HashSet<Arc<ChannelKey>>,
}

impl Inbox {
    pub(crate) fn new(bytes_max: usize, stats: Arc<WorkerStats>) -> Self {
        Self { queue: Mutex::default(), wake: Notify::new(), bytes_max, stats }
    }

    /// Never waits.
    pub(crate) fn push(&self, mut item: Item) {
        let mut queue = self.lock();
        if let Item::Admit { standing: Some(standing), .. } = &mut item
            && queue.bytes.saturating_add(standing.weight) > self.bytes_max.saturating_mul(2)
        {
            // He is let in all the same.
            standing.lose();
        }
        let cost = cost(&item);
        let limit = match &item {
            Item::Deliver(delivery) if matches!(delivery.broadcast, Broadcast::Event(_)) => self.bytes_max,
            Item::Deliver(_) => self.bytes_max.saturating_mul(2),
            // Bounded by what connections may ask for.
            _ => usize::MAX,
        };
        if queue.bytes > 0 && queue.bytes.saturating_add(cost) > limit {
            if let Item::Deliver(delivery) = item {
                queue.gapped.insert(delivery.channel.clone());
                self.stats.inbox_dropped.fetch_add(1, Relaxed);
            }
            drop(queue);
            // The gap is told even when nothing follows.
            self.wake.notify_one();
            return;
        }
        let was_empty = queue.items.is_empty();
        queue.flush_gaps();
        queue.items.push_back(item);
        queue.bytes += cost;
        drop(queue);
        if was_empty {
            self.wake.notify_one();
        }
    }

    /// Moves everything that waits behind `into`.
    pub(crate) fn take(&self, into: &mut VecDeque<Item>) {
        let mut queue = self.lock();
        queue.flush_gaps();
        if into.is_empty() {
            std::mem::swap(into, &mut queue.items);
        } else {
            into.append(&mut queue.items);
        }
    }

    /// Gives back the bytes of items that were taken.
    pub(crate) fn release(&self, bytes: usize) {
        let mut queue = self.lock();
        queue.bytes = queue.bytes.saturating_sub(bytes);
    }

    /// Waits until something was pushed since the last [`Inbox::take`].
    ///
    /// # Cancel safety
    /// A wake that is not awaited is kept.
    pub(crate) async fn filled(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it is held; if something did, the queue is still a queue.
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Queue {
    fn flush_gaps(&mut self) {
        for channel in self.gapped.drain() {
            let gap = Delivery { channel, broadcast: Broadcast::Gap };
            self.bytes += gap.bytes();
            self.items.push_back(Item::Deliver(Arc::new(gap)));
        }
    }
}

/// What an item counts against the inbox.
pub(crate) fn cost(item: &Item) -> usize {
    match item {
        Item::Deliver(delivery) => delivery.bytes(),
        Item::Admit { standing: Some(standing), .. } => ITEM_BYTES + standing.weight,
        _ => ITEM_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{ChannelName, Event, RawJson};

    fn event(channel: &str, data: usize) -> Item {
        let channel = Arc::new(ChannelKey { app: "app".into(), name: ChannelName::new(channel).unwrap() });
        let event = Event::new("e", RawJson::string(&"x".repeat(data)));
        Item::Deliver(Arc::new(Delivery { channel, broadcast: Broadcast::Event(event) }))
    }

    fn story(inbox: &Inbox) -> Vec<String> {
        let mut items = VecDeque::new();
        inbox.take(&mut items);
        let words = items.iter().map(|item| {
            inbox.release(cost(item));
            match item {
                Item::Deliver(d) if d.broadcast == Broadcast::Gap => format!("gap {}", d.channel.name),
                Item::Deliver(d) => d.channel.name.to_string(),
                other => format!("{other:?}"),
            }
        });
        words.collect()
    }

    #[test]
    fn a_full_inbox_loses_the_new_and_says_where() {
        let inbox = Inbox::new(1_000, Arc::default());
        inbox.push(event("a", 500));
        inbox.push(event("b", 500));
        inbox.push(event("b", 500));
        inbox.push(event("c", 10));
        // The gap of b stands where b's messages would have been: before c.
        assert_eq!(story(&inbox), ["a", "gap b", "c"]);
        inbox.push(event("b", 500));
        assert_eq!(story(&inbox), ["b"]);
    }

    #[test]
    fn a_gap_is_told_even_when_nothing_follows() {
        let inbox = Inbox::new(1_000, Arc::default());
        inbox.push(event("a", 800));
        inbox.push(event("a", 800));
        assert_eq!(story(&inbox), ["a", "gap a"]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_worker_that_sleeps_is_woken_for_a_gap_and_for_what_follows_it() {
        let inbox = Inbox::new(1_000, Arc::default());
        let mut items = VecDeque::new();
        inbox.push(event("a", 700));
        inbox.filled().await;
        inbox.take(&mut items);
        inbox.push(event("a", 700));
        inbox.filled().await;
        inbox.release(cost(&items[0]));
        inbox.push(event("a", 700));
        assert_eq!(story(&inbox), ["gap a", "a"]);
        inbox.push(event("b", 10));
        inbox.filled().await;
    }

    #[test]
    fn one_message_of_any_size_fits_an_empty_inbox_and_admissions_always() {
        let inbox = Inbox::new(1_000, Arc::default());
        inbox.push(event("a", 5_000));
        inbox.push(Item::LinkGap);
        assert_eq!(story(&inbox), ["a", "LinkGap"]);
    }

    #[test]
    fn bytes_count_until_they_are_released() {
        let inbox = Inbox::new(1_000, Arc::default());
        inbox.push(event("a", 700));
        let mut items = VecDeque::new();
        inbox.take(&mut items);
        inbox.push(event("a", 700));
        assert_eq!(story(&inbox), ["gap a"]);
        inbox.release(cost(&items[0]));
        inbox.push(event("a", 700));
        assert_eq!(story(&inbox), ["a"]);
    }
}
