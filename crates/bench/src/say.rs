//! Publishing at a rate, or as fast as it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fanfare_publisher::{Event, Publisher, RawJson};
use hdrhistogram::Histogram;

use crate::crowd::{EVENT, Progress, channel_name};
use crate::stamp::Stamp;
use crate::tally;
use crate::target::Target;

/// What is to be said.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) channels: usize,
    /// Events a second on all channels together; `None`: each publisher says the next one when the last was taken.
    pub(crate) rate: Option<f64>,
    pub(crate) time: Duration,
    pub(crate) payload: usize,
    /// Publishers at a time, each with a connection of its own.
    pub(crate) publishers: usize,
    /// Events that go together.
    pub(crate) batch: usize,
    /// Without a rate, deliveries that may be under way before the next event is said: more would only fill the server's queues until
    /// it closes who is behind.
    pub(crate) under_way_max: u64,
    /// Deliveries of an event.
    pub(crate) subscribers: u64,
}

/// What was said.
pub(crate) struct Said {
    /// By channel.
    pub(crate) published: Vec<u64>,
    pub(crate) seconds: f64,
    /// Microseconds until a publish was answered.
    pub(crate) answered: Histogram<u64>,
    /// Microseconds that publishes began after they were due.
    pub(crate) tardy: Histogram<u64>,
}

impl Said {
    pub(crate) fn events(&self) -> u64 {
        self.published.iter().sum()
    }
}

impl Plan {
    /// True when each channel has one publisher, so that its order is the server's to keep.
    pub(crate) fn keeps_order(&self) -> bool {
        self.publishers <= self.channels
    }
}

struct Round {
    plan: Plan,
    /// Zero of the run's clock, and when publishing began on it.
    start: Instant,
    began: Instant,
    /// Taken by all publishers where they share channels.
    next: AtomicU64,
    published: Vec<AtomicU64>,
    /// Events said so far, and what the clients have heard.
    said: AtomicU64,
    progress: Arc<Progress>,
}

/// Publishes until the time is up. `start`: zero of the run's clock.
///
/// # Errors
/// The first publish that was refused, or whose fate is not known: from there on no count would mean anything.
pub(crate) async fn say(target: &Target, plan: &Plan, progress: &Arc<Progress>, start: Instant) -> Result<Said> {
    let published = (0..plan.channels).map(|_| AtomicU64::new(0)).collect();
    let began = Instant::now();
    let (plan, progress) = (plan.clone(), progress.clone());
    let zero = || AtomicU64::new(0);
    let round = Arc::new(Round { plan, start, began, next: zero(), published, said: zero(), progress });
    let mut tasks = Vec::new();
    for number in 0..round.plan.publishers {
        tasks.push(tokio::spawn(round.clone().publish(number, target.publisher(number)?)));
    }
    let (mut answered, mut tardy) = (tally::histogram(), tally::histogram());
    for task in tasks {
        let (one_answered, one_tardy) = task.await?.context("a publish failed")?;
        answered.add(one_answered)?;
        tardy.add(one_tardy)?;
    }
    let published = round.published.iter().map(|n| n.load(Relaxed)).collect();
    Ok(Said { published, seconds: began.elapsed().as_secs_f64(), answered, tardy })
}

impl Round {
    async fn publish(self: Arc<Self>, number: usize, publisher: Publisher) -> Result<(Histogram<u64>, Histogram<u64>)> {
        let (mut answered, mut tardy) = (tally::histogram(), tally::histogram());
        let mut own = 0;
        loop {
            self.wait_for_room().await;
            let batch: Vec<u64> = (0..self.plan.batch).map(|_| self.take(number, &mut own)).collect();
            let first = match self.plan.rate {
                Some(rate) => self.began + Duration::from_secs_f64(batch[0] as f64 / rate),
                None => Instant::now(),
            };
            if first.duration_since(self.began) >= self.plan.time {
                return Ok((answered, tardy));
            }
            // A sleep that is over already would still last a millisecond.
            if first > Instant::now() {
                tokio::time::sleep_until(first.into()).await;
            }
            let sent = Instant::now();
            tally::note(&mut tardy, sent.duration_since(first).as_nanos() as u64);
            let due = first.duration_since(self.start).as_nanos() as u64;
            let events: Vec<Event> = batch.iter().map(|event| self.event(*event, due)).collect();
            match &events[..] {
                [one] => publisher.publish(one).await?,
                all => publisher.publish_all(all).await?,
            };
            tally::note(&mut answered, sent.elapsed().as_nanos() as u64);
            self.said.fetch_add(self.plan.batch as u64, Relaxed);
            for event in batch {
                let channels = self.plan.channels as u64;
                self.published[(event % channels) as usize].fetch_max(event / channels + 1, Relaxed);
            }
        }
    }

    /// Without a rate: until the clients have caught up, or the time is over.
    async fn wait_for_room(&self) {
        let under_way = || {
            let expected = self.said.load(Relaxed) * self.plan.subscribers;
            expected.saturating_sub(self.progress.received.load(Relaxed))
        };
        while self.plan.rate.is_none() && under_way() > self.plan.under_way_max && self.began.elapsed() < self.plan.time
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The number of this publisher's next event; event n is on channel n modulo channels.
    fn take(&self, publisher: usize, own: &mut u64) -> u64 {
        let (channels, publishers) = (self.plan.channels as u64, self.plan.publishers as u64);
        if !self.plan.keeps_order() {
            return self.next.fetch_add(1, Relaxed);
        }
        // Its channels are publisher, publisher + publishers, …: round by round.
        let mine = (channels - publisher as u64).div_ceil(publishers);
        let (round, which) = (*own / mine, *own % mine);
        *own += 1;
        round * channels + publisher as u64 + which * publishers
    }

    fn event(&self, number: u64, due: u64) -> Event {
        let channels = self.plan.channels as u64;
        let channel = (number % channels) as u32;
        let stamp = Stamp { channel, number: number / channels + 1, due };
        Event::new(channel_name(channel), EVENT, RawJson::string(&stamp.text(self.plan.payload)))
    }
}
