//! The supervisor of the link to Redis: it connects, proves that messages come round, and starts over when they do not.
//!
//! A link is a generation of connections: one that hears, one that publishes, and a pool for the rest. They come and go
//! together. One that is closed is made anew; one that is only late gets another beside it first (`handover`). There is no
//! limit on tries, whatever the error: a Redis that is away, loading, full, or of another password is a Redis to come back
//! to. (`ConnectionManager` of the redis crate gives up when idle and keeps non-I/O errors for ever.)

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, RedisError, Value};
use tokio::sync::{oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::address::{self, Address};
use super::handover::Witness;
use super::inbox::{Inbox, News};
use super::keys::Keys;
use super::lane::{Gate, Lane, Server};
use super::memory;
use super::settings::Settings;
use super::{Tally, random};

/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(2);
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// With Sentinel, which names another master from one moment to the next and is not hurt by questions.
const SENTINEL_PAUSE_MAX: Duration = Duration::from_millis(500);
/// How often Sentinel is asked whether the master is still the master.
const SENTINEL_EVERY: Duration = Duration::from_secs(3);
/// How long a link beside a late one may take to subscribe to everything.
const SUBSCRIBE_ALL: Duration = Duration::from_secs(5);
/// How long a late link has to bring the marker, and then its publishes to be answered. Publishes and changes of interest
/// wait meanwhile.
const MARKER_WAIT: Duration = Duration::from_millis(1_500);

/// What a new link gives the listener.
pub(super) struct Link {
    pub generation: u64,
    /// Hears; SUBSCRIBE and UNSUBSCRIBE go out here.
    pub subscriber: MultiplexedConnection,
    pub pool: deadpool_redis::Pool,
    pub pulse: Arc<watch::Sender<Pulse>>,
}

/// A link as seen from the stream of its messages.
#[derive(Clone, Default, Debug)]
pub(super) struct Pulse {
    /// The last of its probes that came round.
    heard: u64,
    /// Redis no longer takes the login that the link was made with.
    stale: bool,
    lost: Option<String>,
}

impl Pulse {
    pub(super) fn lose(pulse: &watch::Sender<Pulse>, reason: &str) {
        pulse.send_if_modified(|pulse| {
            let news = pulse.lost.is_none();
            if news {
                pulse.lost = Some(reason.to_owned());
            }
            news
        });
    }

    /// What is connected stays so; what is to be connected needs a new link.
    pub(super) fn refuse_login(pulse: &watch::Sender<Pulse>) {
        pulse.send_if_modified(|pulse| !std::mem::replace(&mut pulse.stale, true));
    }

    /// A probe came round: `<generation>.<number>`. Another link's are on the same topic and say nothing of this one.
    pub(super) fn beat(pulse: &watch::Sender<Pulse>, generation: u64, payload: &[u8]) {
        let probe = std::str::from_utf8(payload).ok().and_then(|text| text.split_once('.'));
        let Some((Ok(of), Ok(number))) = probe.map(|(g, n)| (g.parse::<u64>(), n.parse::<u64>())) else { return };
        if of == generation {
            pulse.send_modify(|pulse| pulse.heard = pulse.heard.max(number));
        }
    }
}

/// The supervisor's share of a link.
struct Held {
    generation: u64,
    lane: MultiplexedConnection,
    pulse: Arc<watch::Sender<Pulse>>,
    addr: ConnectionAddr,
    server: Server,
}

/// Why there is no link, in words that hold no secret: the crate's errors name the cause and never the password.
pub(super) struct Failure {
    pub text: String,
    /// The server is there and refuses the user or the password.
    login: bool,
}

impl Failure {
    /// Of whom this is.
    pub(super) fn at(self, whom: &str) -> Self {
        Self { text: format!("{whom}: {}", self.text), ..self }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { text, login: false }
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self { text: error.to_string(), login: refuses_login(&error) }
    }
}

pub(super) fn refuses_login(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || matches!(error.code(), Some("WRONGPASS" | "NOAUTH"))
}

pub(super) struct Supervisor {
    pub settings: Arc<Settings>,
    /// As it was read first, without secrets.
    pub shown: Arc<str>,
    pub has_sentinels: bool,
    pub keys: Arc<Keys>,
    pub inbox: Arc<Inbox>,
    pub lane: Arc<Lane>,
    pub tally: Arc<Tally>,
    /// Links that were tried so far.
    pub generations: AtomicU64,
}

impl Supervisor {
    /// Never returns.
    pub(super) async fn run(self) {
        let mut lost = None;
        loop {
            let (link, mut held) = self.connect_at_last().await;
            self.announce(lost);
            self.lane.open();
            self.inbox.tell(News::Up(link));
            let reason = loop {
                match self.hold(&held).await {
                    Ok(next) => held = next,
                    Err(reason) => break reason,
                }
            };
            self.lane.close();
            self.inbox.tell(News::Down);
            lost = Some(Instant::now());
            warn!(redis = %self.shown, %reason, "the link to Redis is lost; trying again until it is back");
        }
    }

    /// Tries until there is a link.
    async fn connect_at_last(&self) -> (Link, Held) {
        let (mut tries, mut last_error) = (0, String::new());
        loop {
            let reason = match self.connect().await {
                Ok(found) => return found,
                Err(reason) => reason,
            };
            tries += 1;
            Tally::add(&self.tally.errors, 1);
            Tally::add(&self.tally.auth_failures, reason.login.into());
            // A refused login after a lost connection is news; the same error again is not.
            if reason.text != last_error {
                let Failure { text: reason, login } = reason;
                match login {
                    true => warn!(redis = %self.shown, %reason, "Redis refuses the user or the password; trying again"),
                    false => warn!(redis = %self.shown, %reason, "no link to Redis; trying again until there is one"),
                }
                last_error = reason;
            }
            let most = if self.has_sentinels { SENTINEL_PAUSE_MAX } else { PAUSE_MAX };
            tokio::time::sleep(pause(tries, most)).await;
        }
    }

    /// Makes both connections and subscribes to the probe's topic.
    async fn connect(&self) -> Result<(Link, Held), Failure> {
        let generation = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
        let pulse = Arc::new(watch::Sender::new(Pulse::default()));
        // Anew each time: the password, the certificates and the master may have changed.
        let address = Address::read(&self.settings).map_err(|error| Failure::from(error.0))?;
        let info = address.resolve(self.settings.connect_timeout).await?;
        let client = Client::open(info.clone())?;
        let (inbox, heard) = (self.inbox.clone(), pulse.clone());
        let hear = move |info| {
            if !inbox.push(generation, info) {
                Pulse::lose(&heard, "more messages wait than redis.queue_bytes allows");
            }
            Ok::<(), redis::aio::SendError>(())
        };
        let plain = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(Some(self.settings.connect_timeout));
        let mut subscriber = self.open(&client, &plain.clone().set_push_sender(hear)).await?;
        let mut lane = self.open(&client, &plain).await?;
        let run = run_id(&mut lane, self.settings.command_timeout).await?;
        let probe = subscriber.subscribe(self.keys.probe());
        timeout(self.settings.command_timeout, probe).await.map_err(|_| "SUBSCRIBE got no answer")??;
        let addr = info.addr().clone();
        let pooled = plain.set_response_timeout(Some(self.settings.command_timeout));
        let info = address::impatient(info, self.settings.command_timeout);
        let manager = deadpool_redis::Manager::new_with_config(info, pooled)?;
        let pool = deadpool_redis::Pool::builder(manager).max_size(self.settings.pool_size.max(1)).build();
        let pool = pool.map_err(|error| error.to_string())?;
        let server = Server { run: run.into(), quiet: self.settings.quiet() };
        let held = Held { generation, lane, pulse: pulse.clone(), addr, server };
        Ok((Link { generation, subscriber, pool, pulse }, held))
    }

    /// A connection to a master, with our name on it.
    async fn open(&self, client: &Client, config: &AsyncConnectionConfig) -> Result<MultiplexedConnection, Failure> {
        let connecting = client.get_multiplexed_async_connection_with_config(config);
        // The crate's own time-out covers this too; a second one costs nothing and binds it to us.
        let connecting = timeout(self.settings.connect_timeout * 2, connecting);
        let mut connection = connecting.await.map_err(|_| "no connection in time")??;
        let wait = self.settings.command_timeout;
        let mut ask = async |words: &[&str]| {
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            let asking = command.query_async::<Value>(&mut connection);
            timeout(wait, asking).await.map_err(|_| format!("{} got no answer", words[0]))
        };
        // A replica takes SUBSCRIBE and PUBLISH in silence, and nobody else hears what is published there.
        match ask(&["ROLE"]).await?? {
            Value::Array(parts) if parts.first() == Some(&Value::BulkString(b"master".to_vec())) => {}
            _ => return Err(Failure::from("the server is no master")),
        }
        let _ = ask(&["CLIENT", "SETNAME", &format!("fanfare:{}", self.keys.node)]).await?;
        Ok(connection)
    }

    fn announce(&self, lost: Option<Instant>) {
        let redis = &self.shown;
        match lost {
            None => info!(%redis, "linked to Redis"),
            Some(lost) => {
                Tally::add(&self.tally.reconnects, 1);
                info!(%redis, seconds = lost.elapsed().as_secs_f32(), "the link to Redis is back");
            }
        }
    }

    /// Works with a link until another has taken its place, or until it is lost: then why.
    async fn hold(&self, held: &Held) -> Result<Held, String> {
        let mut sending = pin!(self.lane.run(held.lane.clone(), &held.server, self.settings.publish_timeout));
        let next = tokio::select! {
            Some(reason) = &mut sending => return Err(reason),
            next = self.watch(held) => next?,
            never = self.follow(held) => match never {},
            never = memory::watch(held.lane.clone(), &self.tally) => match never {},
        };
        // What is on its way comes first, so that publishes keep their order.
        self.lane.set(Gate::Ending);
        let _ = timeout(MARKER_WAIT, sending).await;
        self.lane.reopen();
        Tally::add(&self.tally.reconnects, 1);
        info!(redis = %self.shown, "another link to Redis took over; nothing was lost or doubled");
        Ok(next)
    }

    /// Sends probes; when they are late, opens another link beside this one and changes over. A late link is not closed
    /// before: it may only be held up, and TCP will bring what it holds.
    async fn watch(&self, held: &Held) -> Result<Held, String> {
        let mut probes = Probes::of(self, held);
        loop {
            match probes.until(|state| state != State::Well).await? {
                State::Stale => {
                    warn!(redis = %self.shown, "Redis refuses the link's login; opening another with a new one")
                }
                _ => {
                    warn!(redis = %self.shown, "a probe did not come round in time; opening another link to Redis");
                    self.inbox.tell(News::Late(true));
                }
            }
            let (link, next) = tokio::select! {
                back = probes.until(|state| state == State::Well) => {
                    back?;
                    info!(redis = %self.shown, "the link to Redis was only held up");
                    self.inbox.tell(News::Late(false));
                    continue;
                }
                found = self.connect_at_last() => found,
            };
            // A replica passes on what its master hears, the marker too, and not what others published before it was one.
            if next.server.run != held.server.run {
                return Err("a probe did not come round, and another server is there now".to_owned());
            }
            return tokio::select! {
                reason = lost(&held.pulse) => Err(reason),
                reason = lost(&next.pulse) => Err(reason),
                done = self.change_over(link) => done.map(|()| next),
            };
        }
    }

    /// Behind Sentinel: has the link made anew when another server is master. The old one may work on, unaware or cut off
    /// from the sentinels, and only those who are linked to it hear each other.
    async fn follow(&self, held: &Held) -> Infallible {
        loop {
            tokio::time::sleep(SENTINEL_EVERY).await;
            if !self.has_sentinels {
                continue;
            }
            let Ok(address) = Address::read(&self.settings) else { continue };
            if let Ok(info) = address.resolve(self.settings.connect_timeout).await
                && *info.addr() != held.addr
            {
                Pulse::lose(&held.pulse, "Sentinel names another master");
            }
        }
    }

    /// Both links are there. The listener subscribes to everything on the new one and sends a marker by it; the place where
    /// the late one brings the marker is where it ends and the new one begins.
    async fn change_over(&self, link: Link) -> Result<(), String> {
        self.lane.set(Gate::Waiting);
        let ((marked, sent), (switched, mut done)) = (oneshot::channel(), oneshot::channel());
        self.inbox.tell(News::Beside(link, Witness { marked, switched }));
        let is_marked = tokio::select! {
            // First: where the switch was faster than the answer to the marker, that answer never comes.
            biased;
            Ok(()) = &mut done => return Ok(()),
            sent = timeout(SUBSCRIBE_ALL, sent) => matches!(sent, Ok(Ok(()))),
        };
        if !is_marked {
            return Err("a probe did not come round, and another link could not subscribe to everything".to_owned());
        }
        match timeout(MARKER_WAIT, done).await {
            Ok(Ok(())) => Ok(()),
            _ => Err("a probe did not come round, nor what was sent by another link".to_owned()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Well,
    /// A probe is late.
    Late,
    /// It works, and no connection can be added to it.
    Stale,
}

/// Probes sent by the lane and expected on the subscriber. One probe finds half-open sockets, a subscriber on another
/// server than the publisher, lost subscriptions and a reader that cannot keep up.
struct Probes<'a> {
    supervisor: &'a Supervisor,
    generation: u64,
    pulse: watch::Receiver<Pulse>,
    ticks: Interval,
    number: u64,
    under_way: VecDeque<(u64, Instant)>,
}

impl<'a> Probes<'a> {
    fn of(supervisor: &'a Supervisor, held: &Held) -> Self {
        let mut ticks = interval(supervisor.settings.probe_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (generation, pulse) = (held.generation, held.pulse.subscribe());
        Self { supervisor, generation, pulse, ticks, number: 0, under_way: VecDeque::new() }
    }

    /// Goes on until the link's state is what is asked for. The error: why the link is lost.
    async fn until(&mut self, is: impl Fn(State) -> bool) -> Result<State, String> {
        loop {
            let limit = self.supervisor.settings.probe_timeout;
            let late_at = self.under_way.front().map(|(_, sent)| *sent + limit).filter(|at| *at > Instant::now());
            let due = tokio::select! {
                _ = self.ticks.tick() => true,
                _ = self.pulse.changed() => false,
                () = tokio::time::sleep_until(late_at.unwrap_or_else(Instant::now).into()), if late_at.is_some() => false,
            };
            let (heard, stale) = {
                let pulse = self.pulse.borrow_and_update();
                if let Some(reason) = &pulse.lost {
                    return Err(reason.clone());
                }
                (pulse.heard, pulse.stale)
            };
            while self.under_way.front().is_some_and(|(number, _)| *number <= heard) {
                self.under_way.pop_front();
            }
            let (now, supervisor) = (Instant::now(), self.supervisor);
            let state = match self.under_way.front().is_some_and(|(_, sent)| now - *sent >= limit) {
                true => State::Late,
                false if stale => State::Stale,
                false => State::Well,
            };
            if is(state) {
                return Ok(state);
            }
            if due {
                self.number += 1;
                self.under_way.push_back((self.number, now));
                let payload = format!("{}.{}", self.generation, self.number);
                drop(supervisor.lane.publish(supervisor.keys.probe(), payload.into_bytes(), None));
            }
        }
    }
}

async fn run_id(connection: &mut MultiplexedConnection, limit: Duration) -> Result<String, Failure> {
    let mut command = redis::cmd("INFO");
    let asking = command.arg("server").query_async::<String>(connection);
    let info = timeout(limit, asking).await.map_err(|_| "INFO got no answer")??;
    let run = info.lines().find_map(|line| line.strip_prefix("run_id:")).ok_or("INFO server names no run_id")?;
    Ok(run.trim_end().to_owned())
}

/// Why a link is lost, once it is.
async fn lost(pulse: &watch::Sender<Pulse>) -> String {
    let mut pulse = pulse.subscribe();
    let lost = pulse.wait_for(|pulse| pulse.lost.is_some()).await;
    lost.ok().and_then(|pulse| pulse.lost.clone()).unwrap_or_default()
}

/// Before the n-th further try: none before the first, then anything up to 50 ms · 2ⁿ.
fn pause(tries: u32, most: Duration) -> Duration {
    let most = PAUSE_MIN.saturating_mul(1 << tries.min(10)).min(most);
    Duration::from_micros(random() % (most.as_micros() as u64 + 1))
}
