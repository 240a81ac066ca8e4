//! The scripts against a model of what they promise, on a real server: random histories, each with a seed.
//!
//! `presence` calls the scripts of presence and counts one by one and compares all that Redis holds with a model after each call,
//! `kept` does so for what channels keep. `nodes` drives the state machines of several nodes against them. Nothing here sleeps: the scripts get their time from a key, which is the
//! one thing in which they differ from those that ship.
//!
//! A failure names its seed. `FANFARE_MODEL_SEED=7 FANFARE_MODEL_RUNS=1` makes that history again; more runs find more.

mod kept;
mod nodes;
mod presence;

use std::sync::{Arc, Mutex};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind, Script, Value};

use super::scripts::Scripts;
use super::tests::Server;

/// The time in ms, in place of the server's. Outside our namespace, so that it does not count as one of our keys.
const CLOCK: &str = "model:clock";

/// When histories begin.
const BEGIN: i64 = 1_700_000_000_000;

const HEAD: &str = include_str!("scripts/change.lua");

/// A script as it ships, but for the body of the one function that reads the time.
fn script(body: &str) -> Script {
    let (before, from) = HEAD.split_once("local function clock()\n").expect("change.lua reads the time in clock()");
    let (clock, after) = from.split_once("\nend\n").expect("clock() has an end");
    assert!(clock.contains("redis.call('TIME')"));
    for text in [before, after, body] {
        assert!(!text.contains("'TIME'"), "only clock() may read the time, or histories cannot set it");
    }
    Script::new(&format!(
        "{before}local function clock()\n  return tonumber(redis.call('GET', '{CLOCK}'))\nend\n{after}{body}"
    ))
}

fn timed_scripts() -> Scripts {
    Scripts {
        hello: script(include_str!("scripts/hello.lua")),
        beat: script(include_str!("scripts/beat.lua")),
        reap: script(include_str!("scripts/reap.lua")),
        join: script(include_str!("scripts/join.lua")),
        leave: script(include_str!("scripts/leave.lua")),
        roster: script(include_str!("scripts/roster.lua")),
        count: script(include_str!("scripts/count.lua")),
        read: script(include_str!("scripts/read.lua")),
        note: script(include_str!("scripts/note.lua")),
        ..Scripts::new()
    }
}

/// Chance that can be had again.
struct Dice(u64);

impl Dice {
    /// 0 .. n.
    fn roll(&mut self, n: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len() as u64) as usize].clone()
    }
}

/// Named when the test fails on it.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to have this history again: FANFARE_MODEL_SEED={} FANFARE_MODEL_RUNS=1", self.0);
        }
    }
}

/// The seeds to try: from 1 on, unless the environment says otherwise.
fn seeds(runs: u64) -> impl Iterator<Item = Seed> {
    let of = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let first = of("FANFARE_MODEL_SEED").unwrap_or(1);
    (first..first + of("FANFARE_MODEL_RUNS").unwrap_or(runs)).map(Seed)
}

/// A connection that hears what is published, and what it heard: topic and payload. A push comes before the answer to the
/// command that made it, or to any later one.
async fn hearing(server: &Server) -> (MultiplexedConnection, Arc<Mutex<Vec<(String, Vec<u8>)>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let info = ("127.0.0.1", server.port).into_connection_info().unwrap();
    let resp3 = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let client = redis::Client::open(info.set_redis_settings(resp3)).unwrap();
    let push = {
        let heard = heard.clone();
        move |push: PushInfo| {
            let mut parts = push.data.into_iter().skip(usize::from(push.kind == PushKind::PMessage));
            if matches!(push.kind, PushKind::PMessage | PushKind::Message)
                && let (Some(Value::BulkString(topic)), Some(Value::BulkString(payload))) = (parts.next(), parts.next())
            {
                heard.lock().unwrap().push((String::from_utf8(topic).unwrap(), payload));
            }
            Ok::<(), redis::aio::SendError>(())
        }
    };
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(push);
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
    connection.psubscribe("*").await.unwrap();
    (connection, heard)
}
