//! What channels keep of what was said on them, on a node that stands alone.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{ChannelKey, Event, HistoryDepth, Position};

use crate::topics::log::{HELD_BYTES_MAX, Reading};
use crate::{Page, PageFrom, PageRead};

pub(super) struct Histories {
    /// Fresh at each start: positions of an earlier process are none of ours.
    epoch: Box<str>,
    began: Instant,
    channels: HashMap<Arc<ChannelKey>, Kept>,
}

struct Kept {
    /// The last number.
    top: u64,
    events: VecDeque<(Event, Instant)>,
    ttl: Duration,
}

impl Histories {
    pub(super) fn new() -> Self {
        let epoch = format!("{:016x}", RandomState::new().hash_one(0));
        Self { epoch: epoch.into(), began: Instant::now(), channels: HashMap::new() }
    }

    /// A channel's numbers begin at the time in microseconds, so that none repeats where they begin a second time.
    fn of(&mut self, now: Instant, channel: &Arc<ChannelKey>) -> &mut Kept {
        let top = now.duration_since(self.began).as_micros() as u64 + 1;
        self.channels.entry(channel.clone()).or_insert_with(|| Kept {
            top,
            events: VecDeque::new(),
            ttl: Duration::ZERO,
        })
    }

    /// Gives an event its number and keeps it.
    pub(super) fn keep(&mut self, now: Instant, channel: &Arc<ChannelKey>, depth: HistoryDepth, event: &mut Event) {
        let epoch = self.epoch.clone();
        let kept = self.of(now, channel);
        (kept.top, kept.ttl) = (kept.top + 1, depth.ttl);
        event.position = Some(Position { epoch, offset: kept.top });
        kept.events.push_back((event.clone(), now));
        let excess = kept.events.len().saturating_sub(depth.size as usize);
        kept.events.drain(..excess);
    }

    /// What is there behind a number; without one the last event.
    pub(super) fn read(&mut self, now: Instant, channel: &Arc<ChannelKey>, after: Option<u64>) -> Reading {
        let epoch = self.epoch.clone();
        let kept = self.of(now, channel);
        let after = after.unwrap_or(kept.top.saturating_sub(1));
        let entries = kept.young(now).filter(|(event, _)| offset(event) > after);
        let entries = entries.map(|(event, age)| (event.clone(), age));
        Reading { entries: entries.collect(), top: Position { epoch, offset: kept.top }, noted: None }
    }

    pub(super) fn page(&self, now: Instant, channel: &ChannelKey, page: Page) -> PageRead {
        let Some(kept) = self.channels.get(channel) else { return PageRead::default() };
        let limit = page.limit as usize;
        let young = kept.young(now);
        let fitting: Vec<_> = match page.from {
            PageFrom::After(after) => young.filter(|(event, _)| offset(event) > after).take(limit).collect(),
            PageFrom::Before(before) => {
                let fits = |(event, _): &(&Event, Duration)| before.is_none_or(|before| offset(event) < before);
                young.rev().filter(fits).take(limit).collect()
            }
        };
        let mut bytes = 0;
        let fit = fitting.iter().take_while(|(event, _)| {
            bytes += event.bytes();
            bytes <= HELD_BYTES_MAX
        });
        let fit = fit.count().max(1).min(fitting.len());
        let events = fitting[..fit].iter().map(|(event, age)| (Event::clone(event), *age)).collect();
        let top = Some(Position { epoch: self.epoch.clone(), offset: kept.top });
        PageRead { top, events, cut: fit < fitting.len() }
    }

    /// Forgets what is too old, and channels of which nothing is left and that nobody listens to.
    pub(super) fn sweep(&mut self, now: Instant, is_heard: impl Fn(&ChannelKey) -> bool) {
        self.channels.retain(|channel, kept| {
            let old = kept.events.iter().take_while(|(_, at)| now.duration_since(*at) >= kept.ttl).count();
            kept.events.drain(..old);
            !kept.events.is_empty() || is_heard(channel)
        });
    }
}

impl Kept {
    /// With their ages, the oldest first.
    fn young(&self, now: Instant) -> impl DoubleEndedIterator<Item = (&Event, Duration)> {
        let aged = self.events.iter().map(move |(event, at)| (event, now.duration_since(*at)));
        aged.filter(|(_, age)| *age < self.ttl)
    }
}

fn offset(event: &Event) -> u64 {
    event.position.as_ref().map_or(0, |position| position.offset)
}
