//! JSON objects over a bare WebSocket: for `new WebSocket('ws://localhost:8080')` and anything else that has no client
//! library. One object a frame, `type` says what. Described in `docs/dialects/plain.md`.
//!
//! `raw=1` leaves the envelopes out: each event is one text frame that holds the data alone, and the client only listens.

use model::channel::ChannelName;
use model::dialect::Goodbye;
use model::json::{self, RawJson};
use model::refusal::{Advice, Reason, Refusal};
use model::{Action, App, Broadcast, Command, Dialect, Encoding, Event, Heartbeat, Message, Notice, OpenRequest};
use model::{Opening, Proof, State, Tag, View};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{PLAIN, push_decoded, push_members, push_position, push_recovered, resume, strike};

pub(crate) struct Plain;

/// Values of `State::variant` and `Encoding::variant`.
const ENVELOPES: u8 = 0;
const RAW: u8 = 1;

/// Longest `ref` in bytes, as JSON text.
const REF_MAX: usize = 128;

/// What a client sends. Every field is raw, so that a wrong type is answered by name.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    auth: Option<&'a RawValue>,
    #[serde(borrow)]
    channel_data: Option<&'a RawValue>,
    #[serde(borrow)]
    resume: Option<&'a RawValue>,
    #[serde(borrow, rename = "ref")]
    reference: Option<&'a RawValue>,
}

impl Dialect for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn open(&self, request: &OpenRequest<'_>) -> Result<Opening, (Refusal, State)> {
        let raw = request.query("raw").is_some_and(|value| value != "0");
        let state = State { variant: if raw { RAW } else { ENVELOPES }, strikes: 0 };
        let names = request.query.iter().filter(|(key, _)| key == "channels" || key == "channel");
        let mut commands = Vec::new();
        for name in names.flat_map(|(_, value)| value.split(',')).filter(|name| !name.is_empty()) {
            let channel = ChannelName::new(name).map_err(|bad| (Refusal::new(Reason::BadChannel, bad.0), state))?;
            commands.push((Command::Subscribe { channel, proof: Proof::default(), resume: None }, None));
        }
        if raw && commands.is_empty() {
            let text = "A raw connection needs a channel in its URL: ?channel=NAME&raw=1";
            return Err((Refusal::new(Reason::BadChannel, text), state));
        }
        Ok(Opening { app_key: request.query("app_key").map(Into::into), state, commands, ..Opening::default() })
    }

    fn decode(&self, state: &mut State, message: Message<'_>, out: &mut Vec<Action>) {
        if state.variant == RAW {
            return out.push(Action::Close(Refusal::new(Reason::Unauthorized, "A raw connection only listens")));
        }
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => {
                return strike(state, bad_frame("A frame is text, not binary"), out);
            }
        };
        let frame = json::object::<Frame>(text);
        let Some((kind, frame)) = frame.and_then(|frame| Some((string(frame.kind?)?, frame))) else {
            return strike(state, bad_frame("A frame is one JSON object with a type"), out);
        };
        state.strikes = 0;
        out.push(command(&kind, &frame).unwrap_or_else(Action::Reply));
    }

    fn notice(&self, state: &State, notice: &Notice<'_>, out: &mut Vec<u8>) {
        if state.variant == RAW {
            return;
        }
        match notice {
            Notice::Welcome { socket_id, app, .. } => {
                let activity_timeout = app.activity_timeout;
                let text =
                    format!(r#"{{"type":"welcome","socket_id":"{socket_id}","activity_timeout":{activity_timeout}}}"#);
                out.extend_from_slice(text.as_bytes());
            }
            Notice::Subscribed { channel, roster, position, recovered, tag } => {
                about("subscribed", Some(channel.as_str()), out);
                push_tag(tag, out);
                if let Some(roster) = roster {
                    out.extend_from_slice(br#","members":"#);
                    push_members(roster, out, push_member);
                }
                push_position(*position, out);
                push_recovered(*recovered, out);
                out.push(b'}');
            }
            Notice::Position { channel, position } => {
                about("position", Some(channel.as_str()), out);
                push_position(Some(position), out);
                out.push(b'}');
            }
            Notice::Unsubscribed { channel, tag } => {
                about("unsubscribed", Some(channel.as_str()), out);
                push_tag(tag, out);
                out.push(b'}');
            }
            Notice::CacheMiss { channel } => {
                about("cache_miss", Some(channel.as_str()), out);
                out.push(b'}');
            }
            // Nobody signs in here, nor asks who it is.
            Notice::Introduced { .. } | Notice::SignedIn { .. } | Notice::Watched { .. } => {}
            Notice::SubscribeRefused { channel, refusal, tag } => out.extend(refused(refusal, Some(channel), tag)),
            Notice::Refused { channel, refusal, tag } => out.extend(refused(refusal, *channel, tag)),
            Notice::Gap => out.extend_from_slice(br#"{"type":"gap"}"#),
        }
    }

    fn encoding(&self, state: &State) -> Encoding {
        Encoding { dialect: PLAIN as u8, variant: state.variant, view: View::Channel, positions: false }
    }

    fn broadcast(&self, encoding: Encoding, channel: &str, broadcast: &Broadcast, out: &mut Vec<u8>) {
        match (broadcast, encoding.variant) {
            (Broadcast::Event(event), RAW) => push_bare(event, out),
            (_, RAW) => {}
            (Broadcast::Event(event), _) => {
                about("event", Some(channel), out);
                out.extend_from_slice(br#","event":"#);
                json::push_string(out, &event.name);
                out.extend_from_slice(br#","data":"#);
                push_decoded(event, out);
                push_position(event.position.as_ref().filter(|_| encoding.positions), out);
                out.push(b'}');
            }
            (Broadcast::Joined(member), _) => {
                about("joined", Some(channel), out);
                out.extend_from_slice(br#","member":"#);
                push_member(&member.id, member.info.as_ref(), out);
                out.push(b'}');
            }
            (Broadcast::Left(member), _) => {
                about("left", Some(channel), out);
                out.extend_from_slice(br#","member":{"id":"#);
                json::push_string(out, &member.id);
                out.extend_from_slice(b"}}");
            }
            (Broadcast::Count(count), _) => {
                about("count", Some(channel), out);
                out.extend_from_slice(format!(r#","subscriptions":{count}}}"#).as_bytes());
            }
            (Broadcast::Terminate, _) => {}
            (Broadcast::Gap, _) => {
                about("gap", Some(channel), out);
                out.push(b'}');
            }
        }
    }

    fn heartbeat(&self, _: &State, app: &App) -> Heartbeat {
        // The client's library answers by itself, so asking early costs nothing and finds the dead sooner.
        let timeout = app.activity_timeout;
        let (ping_after, dead_after) = ((timeout / 2).max(1), timeout.saturating_add(30));
        Heartbeat { ping_after, dead_after, always: false }
    }

    fn goodbye(&self, state: &State, refusal: &Refusal) -> Goodbye {
        let message = if state.variant == RAW { Vec::new() } else { refused(refusal, None, &None) };
        Goodbye { message, code: code(refusal), reason: refusal.text().into() }
    }

    fn refused_subscribe_closes(&self, state: &State) -> bool {
        // Without envelopes there is no other way to say it.
        state.variant == RAW
    }
}

/// The command of a frame, or the answer to a wrong one.
fn command(kind: &str, frame: &Frame<'_>) -> Result<Action, Vec<u8>> {
    let tag: Tag = frame.reference.map(|raw| raw.get().into());
    if tag.as_ref().is_some_and(|tag| tag.len() > REF_MAX) {
        return Err(bad_frame("ref is longer than 128 bytes"));
    }
    let wrong = |reason: Reason, text: &'static str| refused(&Refusal::new(reason, text), None, &tag);
    let channel = || -> Result<ChannelName, Vec<u8>> {
        let raw = frame.channel.ok_or_else(|| wrong(Reason::BadFrame, "channel is missing"))?;
        let name = string(raw).ok_or_else(|| wrong(Reason::BadFrame, "channel is not a string"))?;
        ChannelName::new(&name).map_err(|bad| refused(&Refusal::new(Reason::BadChannel, bad.0), Some(&name), &tag))
    };
    match kind {
        "subscribe" => {
            let channel = channel()?;
            let optional = |raw: Option<&RawValue>, text: &'static str| match raw {
                Some(raw) if raw.get() != "null" => {
                    string(raw).map(|text| Some(text.into())).ok_or_else(|| wrong(Reason::BadFrame, text))
                }
                _ => Ok(None),
            };
            let proof = Proof {
                auth: optional(frame.auth, "auth is not a string")?,
                channel_data: optional(frame.channel_data, "channel_data is not a string")?,
                show: None,
            };
            let resume = resume(frame.resume).map_err(|text| wrong(Reason::BadFrame, text))?;
            Ok(Action::Command(Command::Subscribe { channel, proof, resume }, tag))
        }
        "unsubscribe" => Ok(Action::Command(Command::Unsubscribe { channel: channel()? }, tag)),
        "ping" => {
            let mut out = Vec::new();
            about("pong", None, &mut out);
            push_tag(&tag, &mut out);
            out.push(b'}');
            Ok(Action::Reply(out))
        }
        other => {
            let shown: String = other.chars().take(64).collect();
            Err(refused(&Refusal::new(Reason::UnknownCommand, format!("Unknown type {shown}")), None, &tag))
        }
    }
}

/// This dialect's numbers for what Pusher has none (4010 bad frame, 4011 unknown type, 4012 bad channel name).
fn code(refusal: &Refusal) -> u16 {
    match refusal.reason {
        Reason::BadFrame | Reason::TooManyBadFrames | Reason::BadMember => 4010,
        Reason::UnknownCommand => 4011,
        Reason::BadChannel | Reason::ChannelNameTooLong => 4012,
        Reason::TooManySubscriptions | Reason::Unavailable => 4100,
        _ => refusal.code(),
    }
}

fn string(raw: &RawValue) -> Option<String> {
    raw.get().starts_with('"').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

fn bad_frame(text: &'static str) -> Vec<u8> {
    refused(&Refusal::new(Reason::BadFrame, text), None, &None)
}

fn refused(refusal: &Refusal, channel: Option<&str>, tag: &Tag) -> Vec<u8> {
    let mut out = format!(r#"{{"type":"refused","code":{},"reason":"#, code(refusal)).into_bytes();
    json::push_string(&mut out, refusal.text());
    if let Some(channel) = channel {
        out.extend_from_slice(br#","channel":"#);
        json::push_string(&mut out, channel);
    }
    push_tag(tag, &mut out);
    // What an open connection may do about it is said by the number; a close says it by its own.
    debug_assert!(refusal.reason.row().advice != Advice::Stay || code(refusal) != 0);
    out.push(b'}');
    out
}

/// Appends `{"type":…,"channel":…`, open at the end.
fn about(kind: &str, channel: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":""#);
    out.extend_from_slice(kind.as_bytes());
    out.push(b'"');
    if let Some(channel) = channel {
        out.extend_from_slice(br#","channel":"#);
        json::push_string(out, channel);
    }
}

fn push_tag(tag: &Tag, out: &mut Vec<u8>) {
    if let Some(tag) = tag {
        out.extend_from_slice(br#","ref":"#);
        out.extend_from_slice(tag.as_bytes());
    }
}

fn push_member(id: &str, info: Option<&RawJson>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"id":"#);
    json::push_string(out, id);
    out.extend_from_slice(br#","info":"#);
    out.extend_from_slice(info.map_or("null", RawJson::as_str).as_bytes());
    out.push(b'}');
}

/// Appends the data without an envelope: text as text, anything else as JSON.
fn push_bare(event: &Event, out: &mut Vec<u8>) {
    match event.data.string_content() {
        Some(content) => out.extend_from_slice(content.as_bytes()),
        None => out.extend_from_slice(event.data.as_str().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Member;

    fn decode(text: &str) -> String {
        let mut out = Vec::new();
        Plain.decode(&mut State::default(), Message::Text(text), &mut out);
        match out.pop() {
            Some(Action::Reply(bytes)) => String::from_utf8(bytes).unwrap(),
            Some(Action::Command(command, tag)) => format!("{command:?} {tag:?}"),
            other => format!("{other:?}"),
        }
    }

    fn broadcast(variant: u8, broadcast: &Broadcast) -> String {
        let mut out = Vec::new();
        let encoding = Encoding { dialect: PLAIN as u8, variant, view: View::Channel, positions: false };
        Plain.broadcast(encoding, "a", broadcast, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_ref_comes_back_as_it_was() {
        assert_eq!(decode(r#"{"type":"ping","ref":1.50}"#), r#"{"type":"pong","ref":1.50}"#);
        assert_eq!(decode(r#"{"type":"ping"}"#), r#"{"type":"pong"}"#);
        assert_eq!(
            decode(r#"{"type":"nope","ref":"x"}"#),
            r#"{"type":"refused","code":4011,"reason":"Unknown type nope","ref":"x"}"#
        );
    }

    #[test]
    fn wrong_frames_are_answered() {
        let code = |text: &str, code: u16| {
            let answer = decode(text);
            assert!(answer.starts_with(&format!(r#"{{"type":"refused","code":{code},"#)), "{text} {answer}");
        };
        for text in ["", "x", "[]", "{}", r#"["ping",null]"#, r#"{"type":7}"#, r#"{"type":"subscribe"}"#] {
            code(text, 4010);
        }
        code(r#"{"type":"subscribe","channel":7}"#, 4010);
        code(r#"{"type":"subscribe","channel":"a","auth":{}}"#, 4010);
        code(r#"{"type":"subscribe","channel":"a b"}"#, 4012);
        code(&format!(r#"{{"type":{}"#, "[".repeat(100_000)), 4010);
    }

    #[test]
    fn data_is_json_on_the_wire() {
        let event = |name: &str, data: &str| Broadcast::Event(Event::new(name, RawJson::parse(data).unwrap()));
        let plain = |data: &str| broadcast(ENVELOPES, &event("e", data));
        assert_eq!(plain(r#""{\"a\":1.0}""#), r#"{"type":"event","channel":"a","event":"e","data":{"a":1.0}}"#);
        assert_eq!(plain(r#"{"a":1.0}"#), r#"{"type":"event","channel":"a","event":"e","data":{"a":1.0}}"#);
        assert_eq!(plain(r#""hello""#), r#"{"type":"event","channel":"a","event":"e","data":"hello"}"#);
        assert_eq!(
            broadcast(ENVELOPES, &event("client-e", r#""1""#)),
            r#"{"type":"event","channel":"a","event":"client-e","data":"1"}"#
        );
        assert_eq!(broadcast(RAW, &event("e", r#""{\"a\":1.0}""#)), r#"{"a":1.0}"#);
        assert_eq!(broadcast(RAW, &event("e", r#""hel\nlo""#)), "hel\nlo");
        assert_eq!(broadcast(RAW, &event("e", "[1]")), "[1]");
    }

    #[test]
    fn members() {
        let member = Member { id: "7".into(), info: None };
        assert_eq!(
            broadcast(ENVELOPES, &Broadcast::Joined(member)),
            r#"{"type":"joined","channel":"a","member":{"id":"7","info":null}}"#
        );
        assert_eq!(broadcast(RAW, &Broadcast::Left(Member { id: "7".into(), info: None })), "");
        assert_eq!(broadcast(ENVELOPES, &Broadcast::Count(3)), r#"{"type":"count","channel":"a","subscriptions":3}"#);
        assert_eq!(broadcast(RAW, &Broadcast::Count(3)), "");
    }

    #[test]
    fn the_url_subscribes() {
        let open = |query: &[(&str, &str)]| {
            let query: Vec<_> = query.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            Plain
                .open(&OpenRequest { path_rest: "", query: &query, may_upgrade: false })
                .map(|o| o.commands.len())
                .map_err(|(r, _)| code(&r))
        };
        assert_eq!(open(&[]), Ok(0));
        assert_eq!(open(&[("channels", "a,b"), ("channel", "c")]), Ok(3));
        assert_eq!(open(&[("channels", "a b")]), Err(4012));
        assert_eq!(open(&[("raw", "1")]), Err(4012));
        assert_eq!(open(&[("raw", "1"), ("channel", "a")]), Ok(1));
    }
}
