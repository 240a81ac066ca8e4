//! How each client family spells the words of `model`. Pure: no I/O, no clock, no randomness, no tables of their own.
//!
//! Adding a family: a file here, a row in [`DIALECTS`], a path in the server's `door.rs`, and `docs/dialects/<name>.md`.

use model::{Action, Dialect, Event, Position, RawJson, Reason, Resume, Roster, SocketId, State};
use serde::Deserialize;
use serde_json::value::RawValue;

mod plain;
mod pusher;
mod socket_io;

/// All families. A dialect's place is its number in `Encoding`.
pub static DIALECTS: [&dyn Dialect; 3] = [&pusher::Pusher, &plain::Plain, &socket_io::SocketIo];

/// Pusher protocol 5 to 7, at `/app/{key}`.
pub const PUSHER: usize = 0;
/// JSON objects over a bare WebSocket, at `/` and `/ws`.
pub const PLAIN: usize = 1;
/// Socket.IO as Laravel Echo speaks it, at `/socket.io/`.
pub const SOCKET_IO: usize = 2;

/// This many unreadable messages in a row end the connection.
const STRIKES_MAX: u8 = 20;

/// Counts an unreadable message: `answer` is the reply to it (empty: none), and the last one in a row closes.
fn strike(state: &mut State, answer: Vec<u8>, out: &mut Vec<Action>) {
    state.strikes = state.strikes.saturating_add(1);
    if state.strikes >= STRIKES_MAX {
        out.push(Action::Close(Reason::TooManyBadFrames.into()));
    } else if !answer.is_empty() {
        out.push(Action::Reply(answer));
    }
}

/// What is wrong with another `resume`.
const BAD_RESUME: &str = "resume is neither true nor a position nor {\"position\", \"socket_id\"}";

/// `resume` of a subscribe: absent, null or false for who does not want it, `true` for who comes for the first time, a position, or an
/// object with the position and the id of the socket that the client had then.
fn resume(raw: Option<&RawValue>) -> Result<Option<Resume>, &'static str> {
    #[derive(Deserialize)]
    struct Back<'a> {
        #[serde(borrow)]
        position: Option<&'a RawValue>,
        #[serde(borrow)]
        socket_id: Option<&'a RawValue>,
    }
    fn text<T: std::str::FromStr>(raw: &RawValue) -> Option<T> {
        raw.get().strip_prefix('"')?.strip_suffix('"')?.parse().ok()
    }
    let back = |raw: &RawValue| -> Option<Resume> {
        if !model::json::begins_object(raw.get()) {
            return Some(Resume { from: Some(text::<Position>(raw)?), except: None });
        }
        let Back { position, socket_id } = serde_json::from_str(raw.get()).ok()?;
        let from = Some(text::<Position>(position?)?);
        // An id of another node, or of another kind of server, was heard by nobody under that name.
        Some(Resume { from, except: socket_id.and_then(text::<SocketId>) })
    };
    match raw.map(RawValue::get) {
        None | Some("null" | "false") => Ok(None),
        Some("true") => Ok(Some(Resume::default())),
        _ => raw.and_then(back).map(Some).ok_or(BAD_RESUME),
    }
}

/// Appends the data as JSON: what the Pusher API carries as a string that holds JSON becomes that JSON. Whispers keep what
/// the client sent.
fn push_decoded(event: &Event, out: &mut Vec<u8>) {
    let content = if event.is_client_event() { None } else { event.data.string_content() };
    match content {
        Some(content) if model::json::is_valid(&content) => out.extend_from_slice(content.trim().as_bytes()),
        _ => out.extend_from_slice(event.data.as_str().as_bytes()),
    }
}

/// Appends the members with commas between them, each as the dialect spells it.
fn push_members(roster: &Roster, out: &mut Vec<u8>, push_member: fn(&str, Option<&RawJson>, &mut Vec<u8>)) {
    out.push(b'[');
    for (index, (id, info)) in roster.0.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_member(id, info.as_ref(), out);
    }
    out.push(b']');
}

/// Appends where the channel stands, for who asked for it.
fn push_position(position: Option<&Position>, out: &mut Vec<u8>) {
    if let Some(position) = position {
        // Letters, digits and a colon.
        out.extend_from_slice(format!(r#","position":"{position}""#).as_bytes());
    }
}

/// Appends whether who came back is told all that he missed.
fn push_recovered(recovered: Option<bool>, out: &mut Vec<u8>) {
    if let Some(recovered) = recovered {
        out.extend_from_slice(format!(r#","recovered":{recovered}"#).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Message;

    #[test]
    fn every_dialect_knows_its_own_number() {
        for (number, dialect) in DIALECTS.iter().enumerate() {
            assert_eq!(usize::from(dialect.encoding(&State::default()).dialect), number, "{}", dialect.name());
        }
    }

    #[test]
    fn a_resume_is_true_a_position_or_both_with_a_socket() {
        let read = |text: &str| {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            resume(Some(&raw))
        };
        let position = || "e1:7".parse::<Position>().ok();
        let back = |except| Ok(Some(Resume { from: position(), except }));
        assert_eq!(resume(None), Ok(None));
        assert_eq!((read("null"), read("false")), (Ok(None), Ok(None)));
        assert_eq!(read("true"), Ok(Some(Resume::default())));
        assert_eq!((read(r#""e1:7""#), read(r#"{"position":"e1:7"}"#)), (back(None), back(None)));
        assert_eq!(read(r#"{"position":"e1:7","socket_id":"1.2"}"#), back(SocketId::new(1, 2)));
        assert_eq!(read(r#"{"position":"e1:7","socket_id":"?"}"#), back(None));
        for wrong in ["1", "\"\"", "\"7\"", "[]", "{}", r#"{"position":7}"#, r#"{"position":"e1"}"#] {
            assert_eq!(read(wrong), Err(BAD_RESUME), "{wrong}");
        }
    }

    // Found by the fuzz target: the 256th unreadable message in a row overflowed the count.
    #[test]
    fn a_decoder_may_be_asked_again_after_its_close() {
        for dialect in DIALECTS {
            let (mut state, mut out) = (State::default(), Vec::new());
            for _ in 0..300 {
                out.clear();
                dialect.decode(&mut state, Message::Text("x"), &mut out);
            }
            assert!(matches!(out[..], [Action::Close(_)]), "{}: {out:?}", dialect.name());
        }
    }
}
