//! Whatever stands on a channel in Redis.
//!
//! Beyond "no panic": an event that was read and is written again reads as the same event, and every client of it gets JSON.
#![no_main]

use std::borrow::Cow;

use dialects::{DIALECTS, PUSHER};
use libfuzzer_sys::fuzz_target;
use model::{Broadcast, State};
use serde::Deserialize;
use serde_json::value::RawValue;

// Read in as it is, so that nothing private of the crate is opened for this; half of it has no use here.
#[allow(dead_code)]
#[path = "../../../crates/backplane/src/roster.rs"]
mod roster;

// As above.
#[allow(dead_code)]
#[path = "."]
mod redis {
    #[path = "../../../crates/backplane/src/redis/wire.rs"]
    mod wire;

    /// What nodes take by default: 1 MiB.
    const MAX: usize = 1 << 20;

    /// The event in a payload, and that it survives a second journey.
    pub fn event(bytes: &[u8]) -> Option<model::Event> {
        let Ok(wire::Message::Event(event)) = wire::decode(bytes, MAX) else { return None };
        let written = wire::encode(&event);
        assert_eq!(wire::decode(&written, 2 * MAX), Ok(wire::Message::Event(event.clone())));
        Some(event)
    }
}

/// A message as clients read it; of its data no more than that they are JSON.
#[derive(Deserialize)]
struct Told<'a> {
    event: Cow<'a, str>,
    channel: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

fuzz_target!(|bytes: &[u8]| {
    let Some(event) = redis::event(bytes) else { return };
    let dialect = DIALECTS[PUSHER];
    let mut out = Vec::new();
    dialect.broadcast(dialect.encoding(&State::default()), "news", &Broadcast::Event(event.clone()), &mut out);
    let told: Told = serde_json::from_slice(&out).expect("what a client is told is JSON");
    assert_eq!((&*told.event, told.channel), (&*event.name, "news"));
    assert!(told.data.get().starts_with('"') || event.is_client_event(), "data are a string");
});
