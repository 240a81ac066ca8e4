//! Whatever a Pusher client writes: its URL in the first line, then a message a line.
//!
//! Beyond "no panic": what is answered is JSON, what is whispered goes out as it came, and a goodbye has a code that may
//! stand in a close frame.
#![no_main]

use std::borrow::Cow;

use dialects::{DIALECTS, PUSHER};
use libfuzzer_sys::fuzz_target;
use model::{Action, Broadcast, Command, Dialect, Event, Message, OpenRequest, Refusal, State};
use serde::Deserialize;
use serde_json::value::RawValue;

fuzz_target!(|bytes: &[u8]| {
    let dialect = DIALECTS[PUSHER];
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let url = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let (key, query) = url.split_once('?').unwrap_or((&url, ""));
    let query: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let mut state = match dialect.open(&OpenRequest { path_rest: key, query: &query, may_upgrade: false }) {
        Ok(opening) => {
            assert_eq!(opening.app_key.as_deref(), Some(key));
            opening.state
        }
        Err((refusal, state)) => return check_goodbye(dialect, &state, &refusal),
    };
    let mut actions = Vec::new();
    for line in lines {
        let message = match std::str::from_utf8(line) {
            Ok(text) => Message::Text(text),
            Err(_) => Message::Binary(line),
        };
        dialect.decode(&mut state, message, &mut actions);
        for action in actions.drain(..) {
            match action {
                Action::Reply(payload) => drop(read(&payload)),
                Action::Close(refusal) => check_goodbye(dialect, &state, &refusal),
                Action::Command(command, _) => check_command(dialect, &state, command),
            }
        }
    }
});

/// A message as clients read it. The data are only looked at as far as the grammar of JSON goes: half a surrogate pair that
/// one client whispers is another client's to judge (RFC 8259, 8.2).
#[derive(Deserialize)]
struct Told<'a> {
    event: Cow<'a, str>,
    channel: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: &'a RawValue,
}

fn read(payload: &[u8]) -> Told<'_> {
    serde_json::from_slice(payload).expect("what a client is told is JSON")
}

fn check_goodbye(dialect: &dyn Dialect, state: &State, refusal: &Refusal) {
    let goodbye = dialect.goodbye(state, refusal);
    assert!(matches!(goodbye.code, 1002 | 1003 | 1007 | 1009 | 1012 | 4000..=4299), "{goodbye:?}");
    if !goodbye.message.is_empty() {
        read(&goodbye.message);
    }
}

fn check_command(dialect: &dyn Dialect, state: &State, command: Command) {
    if let Command::Whisper { channel, event, data } = command {
        let text = data.as_str().to_owned();
        let broadcast = Broadcast::Event(Event::new(&event, data));
        let mut out = Vec::new();
        dialect.broadcast(dialect.encoding(state), channel.as_str(), &broadcast, &mut out);
        let told = read(&out);
        assert_eq!((&*told.event, told.channel.as_deref()), (&*event, Some(channel.as_str())));
        assert_eq!(told.data.get(), text, "the data are not what came");
    }
}
