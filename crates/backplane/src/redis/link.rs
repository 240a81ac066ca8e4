//! The supervisor of the link to Redis: it connects, proves that messages come round, and starts over when they do not.
//!
//! A link is a generation of connections: one that hears, one that publishes, and a pool for the rest. They come and go
//! together. There is no limit on tries, whatever the error: a Redis that is away, loading, full, or of another password is
//! a Redis to come back to. (`ConnectionManager` of the redis crate gives up when idle and keeps non-I/O errors for ever.)

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, Value};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::inbox::{Inbox, News};
use super::keys::Keys;
use super::lane::Lane;
use super::settings::{Address, Settings};
use super::{Tally, random};

/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(2);
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// What a new link gives the listener.
pub(super) struct Link {
    pub generation: u64,
    /// Hears; SUBSCRIBE and UNSUBSCRIBE go out here.
    pub subscriber: MultiplexedConnection,
    pub pool: deadpool_redis::Pool,
}

/// The link as seen from the stream of its messages.
#[derive(Clone, Default, Debug)]
pub(super) struct Pulse {
    generation: u64,
    /// The last probe that came round.
    heard: u64,
    lost: Option<String>,
}

impl Pulse {
    pub(super) fn lose(pulse: &watch::Sender<Pulse>, generation: u64, reason: &str) {
        pulse.send_if_modified(|pulse| {
            let news = pulse.generation == generation && pulse.lost.is_none();
            if news {
                pulse.lost = Some(reason.to_owned());
            }
            news
        });
    }

    /// A probe came round: `<generation>.<number>`.
    pub(super) fn beat(pulse: &watch::Sender<Pulse>, payload: &[u8]) {
        let probe = std::str::from_utf8(payload).ok().and_then(|text| text.split_once('.'));
        let Some((Ok(generation), Ok(number))) = probe.map(|(g, n)| (g.parse::<u64>(), n.parse::<u64>())) else {
            return;
        };
        pulse.send_modify(|pulse| {
            if pulse.generation == generation {
                pulse.heard = pulse.heard.max(number);
            }
        });
    }
}

pub(super) struct Supervisor {
    pub settings: Arc<Settings>,
    pub address: Address,
    pub keys: Arc<Keys>,
    pub inbox: Arc<Inbox>,
    pub lane: Arc<Lane>,
    pub pulse: Arc<watch::Sender<Pulse>>,
    pub tally: Arc<Tally>,
}

impl Supervisor {
    /// Never returns.
    pub(super) async fn run(self) {
        let (mut generation, mut tries, mut last_error) = (0, 0, String::new());
        let mut lost = None;
        loop {
            generation += 1;
            match self.connect(generation).await {
                Ok((link, lane)) => {
                    (tries, last_error) = (0, String::new());
                    self.announce(lost);
                    let reason = self.hold(link, lane).await;
                    lost = Some(Instant::now());
                    warn!(redis = %self.address.shown, %reason, "the link to Redis is lost; trying again until it is back");
                }
                Err(reason) => {
                    tries += 1;
                    Tally::add(&self.tally.errors, 1);
                    // A refused login after a lost connection is news; the same error again is not.
                    if reason != last_error {
                        warn!(redis = %self.address.shown, %reason, "no link to Redis; trying again until there is one");
                        last_error = reason;
                    }
                    tokio::time::sleep(pause(tries)).await;
                }
            }
        }
    }

    /// Makes both connections and subscribes to the probe's topic.
    async fn connect(&self, generation: u64) -> Result<(Link, MultiplexedConnection), String> {
        self.pulse.send_modify(|pulse| *pulse = Pulse { generation, ..Pulse::default() });
        let client = Client::open(self.address.info.clone()).map_err(told)?;
        let (inbox, pulse) = (self.inbox.clone(), self.pulse.clone());
        let hear = move |info| {
            if !inbox.push(generation, info) {
                Pulse::lose(&pulse, generation, "more messages wait than redis.queue_bytes allows");
            }
            Ok::<(), redis::aio::SendError>(())
        };
        let plain = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(Some(self.settings.connect_timeout));
        let mut subscriber = self.open(&client, &plain.clone().set_push_sender(hear)).await?;
        let lane = self.open(&client, &plain).await?;
        let probe = subscriber.subscribe(self.keys.probe());
        timeout(self.settings.command_timeout, probe).await.map_err(|_| "SUBSCRIBE got no answer")?.map_err(told)?;
        let pooled = plain.set_response_timeout(Some(self.settings.command_timeout));
        let manager = deadpool_redis::Manager::new_with_config(self.address.info.clone(), pooled).map_err(told)?;
        let pool = deadpool_redis::Pool::builder(manager).max_size(self.settings.pool_size.max(1)).build();
        let pool = pool.map_err(|error| error.to_string())?;
        Ok((Link { generation, subscriber, pool }, lane))
    }

    /// A connection to a master, with our name on it.
    async fn open(&self, client: &Client, config: &AsyncConnectionConfig) -> Result<MultiplexedConnection, String> {
        let connecting = client.get_multiplexed_async_connection_with_config(config);
        // The crate's own time-out covers this too; a second one costs nothing and binds it to us.
        let connecting = timeout(self.settings.connect_timeout * 2, connecting);
        let mut connection = connecting.await.map_err(|_| "no connection in time")?.map_err(told)?;
        let wait = self.settings.command_timeout;
        let mut ask = async |words: &[&str]| {
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            let asking = command.query_async::<Value>(&mut connection);
            timeout(wait, asking).await.map_err(|_| format!("{} got no answer", words[0]))
        };
        // A replica takes SUBSCRIBE and PUBLISH in silence, and nobody else hears what is published there.
        match ask(&["ROLE"]).await?.map_err(told)? {
            Value::Array(parts) if parts.first() == Some(&Value::BulkString(b"master".to_vec())) => {}
            _ => return Err("the server is no master".to_owned()),
        }
        let _ = ask(&["CLIENT", "SETNAME", &format!("fanfare:{}", self.keys.node)]).await?;
        Ok(connection)
    }

    fn announce(&self, lost: Option<Instant>) {
        let redis = &self.address.shown;
        match lost {
            None => info!(%redis, "linked to Redis"),
            Some(lost) => {
                Tally::add(&self.tally.reconnects, 1);
                info!(%redis, seconds = lost.elapsed().as_secs_f32(), "the link to Redis is back");
            }
        }
    }

    /// Hands a link over and watches it until it is lost; returns why.
    async fn hold(&self, link: Link, lane: MultiplexedConnection) -> String {
        let generation = link.generation;
        self.lane.open();
        self.inbox.tell(News::Up(link));
        let reason = tokio::select! {
            reason = self.lane.run(lane, self.settings.publish_timeout) => reason,
            reason = self.watch(generation) => reason,
        };
        self.lane.close();
        self.inbox.tell(News::Down(generation));
        reason
    }

    /// Sends probes by the lane and expects them on the subscriber. One probe finds half-open sockets, a subscriber on
    /// another server than the publisher, lost subscriptions and a reader that cannot keep up.
    async fn watch(&self, generation: u64) -> String {
        let mut pulse = self.pulse.subscribe();
        let mut ticks = interval(self.settings.probe_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut number, mut under_way) = (0u64, VecDeque::new());
        loop {
            let due = tokio::select! {
                _ = ticks.tick() => true,
                _ = pulse.changed() => false,
            };
            let (heard, lost) = {
                let pulse = pulse.borrow_and_update();
                (pulse.heard, pulse.lost.clone())
            };
            if let Some(reason) = lost {
                return reason;
            }
            while under_way.front().is_some_and(|(number, _)| *number <= heard) {
                under_way.pop_front();
            }
            let now = Instant::now();
            if under_way.front().is_some_and(|(_, sent)| now - *sent >= self.settings.probe_timeout) {
                return "a probe did not come round in time".to_owned();
            }
            if due {
                number += 1;
                under_way.push_back((number, now));
                drop(self.lane.publish(self.keys.probe(), format!("{generation}.{number}").into_bytes(), None));
            }
        }
    }
}

/// An error in words that hold no secret: the crate's errors name the cause and never the password.
fn told(error: RedisError) -> String {
    error.to_string()
}

/// Before the n-th further try: none before the first, then anything up to 50 ms · 2ⁿ.
fn pause(tries: u32) -> Duration {
    let most = PAUSE_MIN.saturating_mul(1 << tries.min(10)).min(PAUSE_MAX);
    Duration::from_micros(random() % (most.as_micros() as u64 + 1))
}
