//! What a message in Redis looks like: `{"event": string, "data": any, "socket": string|null}`, as Laravel's `redis`
//! broadcaster writes it, with a few fields of ours behind.
//!
//! The data stay the bytes they came as. Nothing recursive sees a text before its nesting was checked.

use std::borrow::Cow;

use model::{Event, Member, Position, RawJson, SocketId};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::roster::{Change, Version};

/// The version of our own events that this node understands.
const INTERNAL_VERSION: u32 = 1;
const ROSTER: &str = "fanfare:roster";
const COUNT: &str = "fanfare:count";
const TERMINATE: &str = "fanfare:terminate";

/// The payload that closes a user's connections.
pub(super) const TERMINATE_PAYLOAD: &str = r#"{"event":"fanfare:terminate","data":null,"socket":null,"v":1}"#;

#[derive(PartialEq, Debug)]
pub(super) enum Message {
    Event(Event),
    /// How many subscriptions the channel has.
    Count(u64),
    /// The connections of the user whose channel it is are to be closed.
    Terminate,
    /// Members came or went.
    Roster(Version, Change),
    /// One of our own events, of a name or version that this node does not know.
    Unknown,
}

/// Why a message was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dropped {
    TooLarge,
    Malformed(&'static str),
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    socket: Option<&'a RawValue>,
    #[serde(borrow, default)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    v: Option<&'a RawValue>,
    #[serde(borrow, default)]
    epoch: Option<&'a RawValue>,
    #[serde(borrow, default)]
    offset: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RosterChange<'a> {
    #[serde(borrow)]
    k: Cow<'a, str>,
    #[serde(borrow)]
    u: Cow<'a, str>,
    #[serde(borrow)]
    i: Option<&'a RawValue>,
    #[serde(borrow)]
    e: Cow<'a, str>,
    n: u64,
}

/// Reads a message of at most `max` bytes.
pub(super) fn decode(bytes: &[u8], max: usize) -> Result<Message, Dropped> {
    if bytes.len() > max {
        return Err(Dropped::TooLarge);
    }
    if bytes.is_empty() {
        // Laravel publishes this when the data cannot be encoded as JSON.
        return Err(Dropped::Malformed("the body is empty"));
    }
    if !model::json::is_shallow(bytes) {
        return Err(Dropped::Malformed("nested too deeply"));
    }
    // The parser would take an array for the fields in their order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Dropped::Malformed("not a JSON object"));
    }
    let payload: Payload<'_> =
        serde_json::from_slice(bytes).map_err(|_| Dropped::Malformed("not a JSON object with a text `event`"))?;
    if payload.event.starts_with(model::event::INTERNAL_PREFIX) {
        return Ok(internal(&payload));
    }
    let socket = payload.socket.and_then(text);
    // An id of another server excludes nobody here.
    let except = socket.as_deref().and_then(|id| id.parse::<SocketId>().ok());
    let data = payload.data.map_or_else(RawJson::null, RawJson::from_raw);
    Ok(Message::Event(Event {
        name: payload.event.as_ref().into(),
        data: without_secret(data, socket.as_deref(), except),
        except,
        user_id: payload.user_id.and_then(text).map(|id| id.as_ref().into()),
        position: position(&payload),
        cacheable: false,
    }))
}

/// Laravel repeats the sender's id in the data, for all to read. Where that id is also the key to what waits for the sender
/// ([`SocketId::with_secret`]), its plain form is put there.
fn without_secret(data: RawJson, socket: Option<&str>, id: Option<SocketId>) -> RawJson {
    match (socket, id) {
        (Some(socket), Some(id)) if socket.len() > id.to_string().len() => {
            // Digits and a point: JSON stays JSON.
            RawJson::parse(&data.as_str().replace(socket, &id.to_string())).unwrap_or(data)
        }
        _ => data,
    }
}

/// Where the script that keeps it has put it.
fn position(payload: &Payload<'_>) -> Option<Position> {
    let epoch = payload.epoch.and_then(text)?;
    let offset = payload.offset?.get().parse().ok()?;
    Some(Position { epoch: epoch.as_ref().into(), offset })
}

fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    // `Cow` alone would always copy.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0)
}

fn internal(payload: &Payload<'_>) -> Message {
    if payload.v.is_none_or(|v| v.get() != INTERNAL_VERSION.to_string()) {
        return Message::Unknown;
    }
    match &*payload.event {
        ROSTER => roster(payload),
        COUNT => {
            let count = payload.data.and_then(|data| data.get().parse().ok());
            count.map_or(Message::Unknown, Message::Count)
        }
        TERMINATE => Message::Terminate,
        _ => Message::Unknown,
    }
}

fn roster(payload: &Payload<'_>) -> Message {
    let change: Option<RosterChange<'_>> = payload.data.and_then(|data| serde_json::from_str(data.get()).ok());
    let Some(RosterChange { k, u, i, e, n }) = change else { return Message::Unknown };
    let version = Version { epoch: e.as_ref().into(), number: n };
    let id = u.as_ref().into();
    match &*k {
        "joined" => Message::Roster(version, Change::Joined(Member { id, info: i.map(RawJson::from_raw) })),
        "left" => Message::Roster(version, Change::Left(id)),
        _ => Message::Unknown,
    }
}

/// The payload of an event.
pub(super) fn encode(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.bytes());
    out.extend_from_slice(b"{\"event\":");
    model::json::push_string(&mut out, &event.name);
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(event.data.as_str().as_bytes());
    out.extend_from_slice(b",\"socket\":");
    match event.except {
        Some(socket) => model::json::push_string(&mut out, &socket.to_string()),
        None => out.extend_from_slice(b"null"),
    }
    if let Some(user) = &event.user_id {
        out.extend_from_slice(b",\"user_id\":");
        model::json::push_string(&mut out, user);
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;

    fn event(text: &str) -> Event {
        match decode(text.as_bytes(), MAX) {
            Ok(Message::Event(event)) => event,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn reads_what_laravel_writes() {
        let orders = r#"{"event":"App\\Events\\OrderEvent","data":{"on":null,"data":{"t":"Zo\u00eb a\/b","n":10.0},"socket":"123.456"},"socket":"123.456"}"#;
        let read = event(orders);
        assert_eq!(&*read.name, r"App\Events\OrderEvent");
        assert_eq!(read.data.as_str(), r#"{"on":null,"data":{"t":"Zo\u00eb a\/b","n":10.0},"socket":"123.456"}"#);
        assert_eq!(read.except, SocketId::new(123, 456));
        assert_eq!(encode(&read), orders.as_bytes());
        assert!(event(r#"{"event":"x"}"#).data.is_null());
        assert_eq!(event(r#" {"event":"x","data":[],"socket":null,"later":1} "#).data.as_str(), "[]");
    }

    #[test]
    fn nobody_is_told_the_secret_of_who_polls() {
        let id = SocketId::new(7, 9).unwrap();
        let long = id.with_secret(123);
        let read = event(&format!(r#"{{"event":"x","data":{{"a":1.0,"socket":"{long}"}},"socket":"{long}"}}"#));
        assert_eq!((read.except, read.data.as_str()), (Some(id), r#"{"a":1.0,"socket":"7.9"}"#));
    }

    #[test]
    fn a_foreign_socket_excludes_nobody() {
        for socket in ["\"\"", "\"abc\"", "\"99999999999.1\"", "7", "{}", "\"1.2\\n\""] {
            assert_eq!(event(&format!(r#"{{"event":"x","data":1,"socket":{socket}}}"#)).except, None, "{socket}");
        }
    }

    #[test]
    fn drops_what_is_no_message() {
        let check = |text: &str| assert!(matches!(decode(text.as_bytes(), MAX), Err(Dropped::Malformed(_))), "{text}");
        ["", "{", "null", "[]", "\"x\"", "{}", r#"{"event":1}"#, r#"{"data":1}"#].into_iter().for_each(check);
        check(&format!(r#"{{"event":"x","data":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000)));
        assert!(decode(b"{\"event\":\"\xff\"}", MAX).is_err());
        assert_eq!(decode(&[b' '; 11], 10), Err(Dropped::TooLarge));
    }

    #[test]
    fn own_extras_come_behind_and_come_back() {
        let mut whisper = Event::new("client-x", RawJson::string("hi"));
        whisper.user_id = Some("a\"b".into());
        let bytes = encode(&whisper);
        assert_eq!(bytes, br#"{"event":"client-x","data":"hi","socket":null,"user_id":"a\"b"}"#);
        assert_eq!(decode(&bytes, MAX), Ok(Message::Event(whisper)));
    }

    #[test]
    fn what_scripts_publish_is_understood() {
        let check = |text: &str, message| assert_eq!(decode(text.as_bytes(), MAX), Ok(message), "{text}");
        check(TERMINATE_PAYLOAD, Message::Terminate);
        check(r#"{"event":"fanfare:count","data":12,"socket":null,"v":1}"#, Message::Count(12));
        check(r#"{"event":"fanfare:count","data":"12","socket":null,"v":1}"#, Message::Unknown);
        let plain = Event::new("e", RawJson::parse("1").unwrap());
        let position = Some(Position { epoch: "e1".into(), offset: 1_700_000_000_000_001 });
        let numbered = Event { position, ..plain.clone() };
        check(r#"{"event":"e","data":1,"epoch":"e1","offset":1700000000000001}"#, Message::Event(numbered));
        check(r#"{"event":"e","data":1,"epoch":"e1"}"#, Message::Event(plain.clone()));
        check(r#"{"event":"e","data":1,"epoch":1,"offset":"x"}"#, Message::Event(plain));
    }

    #[test]
    fn roster_changes_of_this_version_only() {
        let text = r#"{"event":"fanfare:roster","data":{"k":"joined","u":"a\/b","i":{"x":1.0},"e":"e1","n":1700000000001},"socket":null,"v":1}"#;
        let version = Version { epoch: "e1".into(), number: 1_700_000_000_001 };
        let member = Member { id: "a/b".into(), info: RawJson::parse(r#"{"x":1.0}"#) };
        assert_eq!(decode(text.as_bytes(), MAX), Ok(Message::Roster(version, Change::Joined(member))));
        for other in
            [text.replace("\"v\":1", "\"v\":2"), text.replace(":roster", ":later"), text.replace("\"k\"", "\"q\"")]
        {
            assert_eq!(decode(other.as_bytes(), MAX), Ok(Message::Unknown), "{other}");
        }
    }
}
