//! Pusher Channels, protocol 5 to 7 (pusher docs, "Pusher Channels protocol"; behaviour of pusher-js 8).
//!
//! A frame is one JSON object with `event`, `channel`, `data`, `user_id`. What the server sends has `data` as a *string*
//! ("double encoding"), errors and whispers apart. A whisper keeps the JSON type in which it was sent.

use std::borrow::Cow;
use std::io::Write;

use model::channel::ChannelName;
use model::dialect::Goodbye;
use model::json::{self, RawJson};
use model::refusal::{Reason, Refusal};
use model::{
    Access, Action, App, Broadcast, Command, Dialect, Encoding, Event, Heartbeat, Message, Notice, OpenRequest, Opening,
};
use model::{Proof, Roster, State, UserId, View, event};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{PUSHER, push_position, push_recovered, resume, strike};

pub(crate) struct Pusher;

/// Seconds after an unanswered ping until the connection is given up (pusher docs, "Ping and pong": 30).
const PONG_TIMEOUT: u32 = 30;

/// The protocol that a client without `protocol` speaks: hand-written ones and health checks leave it out.
const PROTOCOL_DEFAULT: u8 = 7;

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ChannelData<'a> {
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    auth: Option<&'a RawValue>,
    #[serde(borrow)]
    channel_data: Option<&'a RawValue>,
    /// Ours; see docs/dialects/pusher.md.
    #[serde(borrow)]
    resume: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct SignInData<'a> {
    #[serde(borrow)]
    auth: Option<&'a RawValue>,
    #[serde(borrow)]
    user_data: Option<&'a RawValue>,
}

impl Dialect for Pusher {
    fn name(&self) -> &'static str {
        "pusher"
    }

    fn open(&self, request: &OpenRequest<'_>) -> Result<Opening, (Refusal, State)> {
        let state = |variant| State { variant, strikes: 0 };
        let refused = |reason: Reason| Err((reason.into(), state(PROTOCOL_DEFAULT)));
        let protocol = match request.query("protocol") {
            None => PROTOCOL_DEFAULT,
            Some(text) => match text.parse::<i64>() {
                Ok(version @ 5..=7) => version as u8,
                Ok(_) => return refused(Reason::UnsupportedProtocol),
                Err(_) => return refused(Reason::BadVersion),
            },
        };
        Ok(Opening { app_key: Some(request.path_rest.into()), state: state(protocol), ..Opening::default() })
    }

    fn decode(&self, state: &mut State, message: Message<'_>, out: &mut Vec<Action>) {
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => return out.push(Action::Close(Reason::BinaryFrame.into())),
        };
        let frame = json::object::<Frame>(text);
        let Some((event, frame)) = frame.and_then(|frame| Some((json::text(frame.event?)?, frame))) else {
            return strike(state, error(&Reason::BadFrame.into()), out);
        };
        state.strikes = 0;
        match &*event {
            "pusher:ping" => out.push(Action::Reply(br#"{"event":"pusher:pong","data":"{}"}"#.to_vec())),
            "pusher:pong" => {}
            "pusher:subscribe" => out.push(subscribe(frame.data)),
            "pusher:unsubscribe" => out.extend(unsubscribe(frame.data)),
            "pusher:signin" => out.push(sign_in(frame.data)),
            name if name.starts_with(event::CLIENT_PREFIX) => out.push(whisper(name, &frame)),
            name => out.push(unknown(name)),
        }
    }

    fn notice(&self, _state: &State, notice: &Notice<'_>, out: &mut Vec<u8>) {
        match notice {
            Notice::Welcome { socket_id, app, .. } => {
                let activity_timeout = app.activity_timeout;
                frame("pusher:connection_established", None, out);
                let data = (r#""{\"socket_id\":\""#, r#"\",\"activity_timeout\":"#, r#"}"}"#);
                // Writing to a Vec cannot fail.
                let _ = write!(out, "{}{socket_id}{}{activity_timeout}{}", data.0, data.1, data.2);
            }
            // The welcome has said it.
            Notice::Introduced { .. } => {}
            Notice::Subscribed { channel, roster, position, recovered, .. } => {
                frame("pusher_internal:subscription_succeeded", Some(channel.as_str()), out);
                json::push_string(out, &roster.map_or(Cow::Borrowed("{}"), |roster| presence(roster).into()));
                push_position(*position, out);
                push_recovered(*recovered, out);
                out.push(b'}');
            }
            Notice::Position { channel, position } => {
                frame("fanfare:position", Some(channel.as_str()), out);
                out.extend_from_slice(br#""{}""#);
                push_position(Some(position), out);
                out.push(b'}');
            }
            Notice::SubscribeRefused { channel, refusal, .. } => {
                out.extend(subscription_error(channel, refusal));
            }
            Notice::CacheMiss { channel } => {
                about("pusher:cache_miss", Some(channel.as_str()), out);
                out.push(b'}');
            }
            Notice::SignedIn { user_data, .. } => {
                let mut data = br#"{"user_data":"#.to_vec();
                json::push_string(&mut data, user_data);
                data.push(b'}');
                internal_event("pusher:signin_success", None, &data, out);
            }
            Notice::Watched { online, offline } => watchlist(&[("online", online), ("offline", offline)], out),
            Notice::Refused { refusal, .. } => out.extend(error(refusal)),
            Notice::Gap => out.extend_from_slice(br#"{"event":"fanfare:gap","data":"{}"}"#),
            // Pusher's servers do not answer an unsubscribe.
            Notice::Unsubscribed { .. } => {}
        }
    }

    fn encoding(&self, _state: &State) -> Encoding {
        // Protocols 5 to 7 spell channel events alike.
        Encoding { dialect: PUSHER as u8, variant: 0, view: View::Channel, positions: false }
    }

    fn broadcast(&self, encoding: Encoding, channel: &str, broadcast: &Broadcast, out: &mut Vec<u8>) {
        match (broadcast, encoding.view) {
            (_, View::Silent) => {}
            (Broadcast::Joined(member), View::Watch) => watchlist(&[("online", std::slice::from_ref(&member.id))], out),
            (Broadcast::Left(member), View::Watch) => watchlist(&[("offline", std::slice::from_ref(&member.id))], out),
            (_, View::Watch) => {}
            (Broadcast::Joined(_) | Broadcast::Left(_), View::User) => {}
            (Broadcast::Event(event), _) => channel_event(channel, event, encoding.positions, out),
            (Broadcast::Joined(member), _) => {
                let mut data = br#"{"user_id":"#.to_vec();
                json::push_string(&mut data, &member.id);
                if let Some(info) = &member.info {
                    data.extend_from_slice(br#","user_info":"#);
                    data.extend_from_slice(info.as_str().as_bytes());
                }
                data.push(b'}');
                internal_event("pusher_internal:member_added", Some(channel), &data, out);
            }
            (Broadcast::Left(member), _) => {
                let mut data = br#"{"user_id":"#.to_vec();
                json::push_string(&mut data, &member.id);
                data.push(b'}');
                internal_event("pusher_internal:member_removed", Some(channel), &data, out);
            }
            (Broadcast::Count(count), _) => {
                let data = format!(r#"{{"subscription_count":{count}}}"#);
                internal_event("pusher_internal:subscription_count", Some(channel), data.as_bytes(), out);
            }
            // It is told as a close.
            (Broadcast::Terminate, _) => {}
            (Broadcast::Gap, _) => {
                frame("fanfare:gap", Some(channel), out);
                out.extend_from_slice(br#""{}"}"#);
            }
        }
    }

    fn heartbeat(&self, _: &State, app: &App) -> Heartbeat {
        let dead_after = app.activity_timeout.saturating_add(PONG_TIMEOUT);
        Heartbeat { ping_after: app.activity_timeout, dead_after, always: false }
    }

    fn goodbye(&self, _state: &State, refusal: &Refusal) -> Goodbye {
        // WebSocket's own codes speak for themselves; Pusher's come with the event that error listeners expect.
        let message = if refusal.code() >= 4000 { error(refusal) } else { Vec::new() };
        Goodbye { message, code: refusal.code(), reason: refusal.text().into() }
    }
}

fn subscribe(data: Option<&RawValue>) -> Action {
    let mut unescaped = String::new();
    let data = match channel_data(data, &mut unescaped) {
        Ok(data) => data,
        Err(answer) => return answer,
    };
    let Some(channel) = data.channel.and_then(json::text) else {
        return refuse("pusher:subscribe without a channel name");
    };
    let refused =
        |reason: Reason, text: &'static str| Action::Reply(subscription_error(&channel, &Refusal::new(reason, text)));
    let name = match channel_name(&channel) {
        Ok(name) => name,
        Err(text) => return refused(Reason::BadChannel, text),
    };
    let Ok(auth) = optional_string(data.auth) else {
        return refused(Reason::NotPermitted, "auth is not a string");
    };
    let Ok(channel_data) = optional_string(data.channel_data) else {
        return refused(Reason::BadMember, "channel_data is not a string of JSON");
    };
    let resume = match resume(data.resume) {
        Ok(resume) => resume,
        Err(text) => return refused(Reason::BadFrame, text),
    };
    Action::Command(Command::Subscribe { channel: name, proof: Proof { auth, channel_data, show: None }, resume }, None)
}

fn unsubscribe(data: Option<&RawValue>) -> Option<Action> {
    let mut unescaped = String::new();
    let data = match channel_data(data, &mut unescaped) {
        Ok(data) => data,
        Err(answer) => return Some(answer),
    };
    let Some(channel) = data.channel.and_then(json::text) else {
        return Some(refuse("pusher:unsubscribe without a channel name"));
    };
    // A name that cannot exist is an unknown subscription, and those are no error.
    let channel = ChannelName::new(&channel).ok()?;
    Some(Action::Command(Command::Unsubscribe { channel }, None))
}

fn sign_in(data: Option<&RawValue>) -> Action {
    let refused = |text: &'static str| Action::Reply(error(&Refusal::new(Reason::SignInRefused, text)));
    let mut unescaped = String::new();
    let Some(data) = json::object::<SignInData>(object_text(data, &mut unescaped)) else {
        return refused("data is not an object");
    };
    let Ok(auth) = optional_string(data.auth) else {
        return refused("auth is not a string");
    };
    let Some(user_data) = data.user_data.and_then(json::text) else {
        return refused("user_data is not a string of JSON");
    };
    Action::Command(Command::SignIn { auth, user_data: user_data.into() }, None)
}

fn whisper(event: &str, frame: &Frame<'_>) -> Action {
    let Some(channel) = frame.channel.and_then(json::text) else {
        return refuse("A client event without a channel name");
    };
    if event.len() > event::NAME_MAX {
        return Action::Reply(error(&Reason::EventNameTooLong.into()));
    }
    let channel = match ChannelName::new(&channel) {
        Ok(channel) => channel,
        Err(bad) => return Action::Reply(error(&Refusal::new(Reason::BadChannel, bad.0))),
    };
    let data = frame.data.map_or_else(RawJson::null, RawJson::from_raw);
    Action::Command(Command::Whisper { channel, event: event.into(), data }, None)
}

fn unknown(event: &str) -> Action {
    let shown: String = event.chars().take(64).collect();
    Action::Reply(error(&Refusal::new(Reason::UnknownCommand, format!("Unknown event {shown}"))))
}

fn refuse(text: &'static str) -> Action {
    Action::Reply(error(&Refusal::new(Reason::BadFrame, text)))
}

/// `data` of (un)subscribe: an object, or (some clients) a string that holds one.
fn channel_data<'a>(data: Option<&'a RawValue>, unescaped: &'a mut String) -> Result<ChannelData<'a>, Action> {
    json::object(object_text(data, unescaped)).ok_or_else(|| refuse("data is not an object"))
}

fn object_text<'a>(data: Option<&'a RawValue>, unescaped: &'a mut String) -> &'a str {
    let text = data.map_or("", RawValue::get);
    if text.starts_with('"') {
        *unescaped = serde_json::from_str(text).unwrap_or_default();
        return unescaped;
    }
    text
}

/// Pusher's character set (pusher docs, "Channel naming conventions"). `#` begins a user's own channel and nothing else.
fn channel_name(text: &str) -> Result<ChannelName, &'static str> {
    let name = ChannelName::new(text).map_err(|bad| bad.0)?;
    let named = if name.kind().access == Access::User { &text[1..] } else { text };
    if !named.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-=@,.;".contains(&b)) {
        return Err("The channel name has a character other than A-Z a-z 0-9 _ - = @ , . ;");
    }
    Ok(name)
}

fn optional_string(raw: Option<&RawValue>) -> Result<Option<Box<str>>, ()> {
    match raw {
        None => Ok(None),
        Some(raw) if raw.get() == "null" => Ok(None),
        Some(raw) => json::text(raw).map(|text| Some(text.into())).ok_or(()),
    }
}

/// Appends a frame up to its data.
fn frame(event: &str, channel: Option<&str>, out: &mut Vec<u8>) {
    about(event, channel, out);
    out.extend_from_slice(br#","data":"#);
}

/// Appends a frame up to its channel.
fn about(event: &str, channel: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"event":"#);
    json::push_string(out, event);
    if let Some(channel) = channel {
        out.extend_from_slice(br#","channel":"#);
        json::push_string(out, channel);
    }
}

fn channel_event(channel: &str, event: &Event, with_position: bool, out: &mut Vec<u8>) {
    frame(&event.name, Some(channel), out);
    if event.is_client_event() {
        out.extend_from_slice(event.data.as_str().as_bytes());
    } else {
        json::push_as_string(out, &event.data);
    }
    if let Some(user) = &event.user_id {
        out.extend_from_slice(br#","user_id":"#);
        json::push_string(out, user);
    }
    push_position(event.position.as_ref().filter(|_| with_position), out);
    out.push(b'}');
}

/// `{"events":[{"name":"online","user_ids":[…]},…]}` without the empty ones; nothing when all are empty.
fn watchlist(events: &[(&str, &[UserId])], out: &mut Vec<u8>) {
    let mut data = Vec::new();
    for (name, users) in events.iter().filter(|(_, users)| !users.is_empty()) {
        data.extend_from_slice(if data.is_empty() { br#"{"events":["# } else { b"," });
        data.extend_from_slice(format!(r#"{{"name":"{name}","user_ids":"#).as_bytes());
        for (index, user) in users.iter().enumerate() {
            data.push(if index == 0 { b'[' } else { b',' });
            json::push_string(&mut data, user);
        }
        data.extend_from_slice(b"]}");
    }
    if !data.is_empty() {
        data.extend_from_slice(b"]}");
        internal_event("pusher_internal:watchlist_events", None, &data, out);
    }
}

fn internal_event(event: &str, channel: Option<&str>, data: &[u8], out: &mut Vec<u8>) {
    frame(event, channel, out);
    // Built from strings just above.
    json::push_string(out, std::str::from_utf8(data).unwrap_or("{}"));
    out.push(b'}');
}

/// `{"presence":{"ids":[…],"hash":{…},"count":n}}`. `hash` is an object even when empty; ids are strings.
fn presence(roster: &Roster) -> String {
    let mut out = br#"{"presence":{"ids":["#.to_vec();
    for (index, id) in roster.0.keys().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::push_string(&mut out, id);
    }
    out.extend_from_slice(br#"],"hash":{"#);
    for (index, (id, info)) in roster.0.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::push_string(&mut out, id);
        out.push(b':');
        out.extend_from_slice(info.as_ref().map_or("null", RawJson::as_str).as_bytes());
    }
    out.extend_from_slice(format!(r#"}},"count":{}}}}}"#, roster.len()).as_bytes());
    // Built from strings only.
    String::from_utf8(out).unwrap_or_default()
}

/// `pusher:error`. Its data is an object (pusher docs), its code `null` where the table has no number.
fn error(refusal: &Refusal) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    frame("pusher:error", None, &mut out);
    let code = match refusal.code() {
        0 => "null".to_owned(),
        code => code.to_string(),
    };
    out.extend_from_slice(format!(r#"{{"code":{code},"message":"#).as_bytes());
    json::push_string(&mut out, refusal.text());
    out.extend_from_slice(b"}}");
    out
}

/// The form that reaches `channel.bind('pusher:subscription_error')` and Echo's `.error()`.
fn subscription_error(channel: &str, refusal: &Refusal) -> Vec<u8> {
    let kind = match refusal.reason {
        Reason::NotPermitted | Reason::SignInRefused => "AuthError",
        Reason::MembersFull | Reason::TooManySubscriptions => "LimitReached",
        Reason::Unavailable => "Unavailable",
        _ => "InvalidSubscription",
    };
    let mut out = Vec::with_capacity(160);
    frame("pusher:subscription_error", Some(channel), &mut out);
    out.extend_from_slice(format!(r#"{{"type":"{kind}","error":"#).as_bytes());
    json::push_string(&mut out, refusal.text());
    out.extend_from_slice(format!(r#","status":{}}}}}"#, refusal.status()).as_bytes());
    out
}

#[cfg(test)]
#[path = "pusher_tests.rs"]
mod tests;
