//! Socket.IO as Laravel Echo's `socket.io` connector speaks it to laravel-echo-server, over Engine.IO 3 (clients 1 and 2) and 4
//! (clients 3 and 4). Described in `docs/dialects/socket-io.md`.
//!
//! A message here is one packet of Engine.IO, however it travels: a text frame of a WebSocket, or a part of a poll. The frames of the
//! two versions differ in the handshake only, so all clients share one encoding. Sources: engine.io-protocol v3 and v4,
//! socket.io-protocol v5, laravel-echo-server 1.6.3 `src/channels`.

use std::borrow::Cow;
use std::collections::HashMap;

use model::channel::ChannelName;
use model::dialect::Goodbye;
use model::event::CLIENT_PREFIX;
use model::json::{self, RawJson};
use model::member;
use model::refusal::{Advice, Reason, Refusal};
use model::{Action, App, Broadcast, Command, Dialect, Encoding, Headers, Heartbeat, Message, Notice, OpenRequest};
use model::{Opening, Proof, State, View};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{SOCKET_IO, push_decoded, push_members, strike};

pub(crate) struct SocketIo;

/// Bits of `State::variant`: the engine's version is 4 …
const ENGINE_4: u8 = 1;
/// … the client has asked to be connected to the main namespace, which clients of Engine.IO 3 are unasked …
const CONNECTED: u8 = 2;
/// … it polls, and may change to a WebSocket.
const MAY_UPGRADE: u8 = 4;

/// What may stand behind a ping.
const PING_MAX: usize = 64;

/// Headers that a subscribe may bring along.
const HEADERS_MAX: usize = 32;

/// Names that socket.io-client takes for its own: an event of this name would play tricks on the page.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

const INVALID_NAMESPACE: &str = "Invalid namespace";

/// The argument of `subscribe`, `unsubscribe` and `client event`.
#[derive(Deserialize)]
struct Argument<'a> {
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    auth: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Auth<'a> {
    #[serde(borrow)]
    headers: Option<HashMap<Cow<'a, str>, &'a RawValue>>,
}

impl Dialect for SocketIo {
    fn name(&self) -> &'static str {
        "socket.io"
    }

    fn open(&self, request: &OpenRequest<'_>) -> Result<Opening, (Refusal, State)> {
        // socket.io 4.8 serves whatever is not 4 as 3 (measured).
        let (mut variant, second_words) =
            if request.query("EIO") == Some("4") { (ENGINE_4, "") } else { (CONNECTED, "40") };
        if request.may_upgrade {
            variant |= MAY_UPGRADE;
        }
        let state = State { variant, strikes: 0 };
        Ok(Opening { app_key: request.query("app_key").map(Into::into), state, second_words, ..Opening::default() })
    }

    fn decode(&self, state: &mut State, message: Message<'_>, out: &mut Vec<Action>) {
        let Message::Text(text) = message else { return strike(state, Vec::new(), out) };
        let strikes = std::mem::take(&mut state.strikes);
        if read(state, text, out).is_none() {
            state.strikes = strikes;
            strike(state, Vec::new(), out);
        }
    }

    fn notice(&self, state: &State, notice: &Notice<'_>, out: &mut Vec<u8>) {
        match notice {
            Notice::Welcome { socket_id, session, app } => {
                let upgrades = if state.variant & MAY_UPGRADE == 0 { "" } else { r#""websocket""# };
                let max = if state.variant & ENGINE_4 == 0 {
                    String::new()
                } else {
                    format!(r#","maxPayload":{}"#, app.poll_bytes)
                };
                let (interval, timeout) = (app.ping_interval.as_millis(), app.ping_timeout.as_millis());
                let sid = session.map_or_else(|| socket_id.to_string(), str::to_owned);
                let text = format!(
                    r#"0{{"sid":"{sid}","upgrades":[{upgrades}],"pingInterval":{interval},"pingTimeout":{timeout}{max}}}"#
                );
                out.extend_from_slice(text.as_bytes());
            }
            Notice::Introduced { socket_id } => {
                out.extend_from_slice(format!(r#"40{{"sid":"{socket_id}"}}"#).as_bytes());
            }
            Notice::Subscribed { channel, roster: Some(roster), .. } => {
                begin("presence:subscribed", Some(channel.as_str()), out);
                push_members(roster, out, push_member);
                out.push(b']');
            }
            Notice::SubscribeRefused { channel, refusal, .. } => push_refused(channel, refusal.status(), out),
            Notice::Gap => {
                begin("fanfare:gap", None, out);
                out.extend_from_slice(b"{}]");
            }
            // laravel-echo-server says nothing either.
            Notice::Subscribed { .. } | Notice::Unsubscribed { .. } | Notice::Refused { .. } => {}
            // Nobody asks for these here.
            Notice::Position { .. } | Notice::CacheMiss { .. } | Notice::SignedIn { .. } | Notice::Watched { .. } => {}
        }
    }

    fn encoding(&self, _: &State) -> Encoding {
        Encoding { dialect: SOCKET_IO as u8, variant: 0, view: View::Channel, positions: false }
    }

    fn broadcast(&self, _: Encoding, channel: &str, broadcast: &Broadcast, out: &mut Vec<u8>) {
        match broadcast {
            Broadcast::Event(event) if RESERVED.contains(&&*event.name) => return,
            Broadcast::Event(event) => {
                begin(&event.name, Some(channel), out);
                push_decoded(event, out);
            }
            Broadcast::Joined(member) => {
                begin("presence:joining", Some(channel), out);
                push_member(&member.id, member.info.as_ref(), out);
            }
            Broadcast::Left(member) => {
                begin("presence:leaving", Some(channel), out);
                push_member(&member.id, member.info.as_ref(), out);
            }
            Broadcast::Gap => {
                begin("fanfare:gap", Some(channel), out);
                out.extend_from_slice(b"{}");
            }
            // Echo does not count, and a termination is told as a close.
            Broadcast::Count(_) | Broadcast::Terminate => return,
        }
        out.push(b']');
    }

    fn heartbeat(&self, state: &State, app: &App) -> Heartbeat {
        let dead_after = (app.ping_interval + app.ping_timeout).as_secs_f64().ceil() as u32;
        if state.variant & ENGINE_4 == 0 {
            // Here it is the client that asks.
            Heartbeat { ping_after: dead_after, dead_after, always: false }
        } else {
            let ping_after = (app.ping_interval.as_secs() as u32).max(1);
            Heartbeat { ping_after, dead_after, always: true }
        }
    }

    fn beat(&self, _: &State, out: &mut Vec<u8>) {
        out.push(b'2');
    }

    fn goodbye(&self, _: &State, refusal: &Refusal) -> Goodbye {
        // After a "disconnect" of the server the client stays away; after a mere end of the line it comes back.
        let stays_away = refusal.reason.row().advice == Advice::StayAway;
        let message = if stays_away { b"41".to_vec() } else { Vec::new() };
        let code = if refusal.code() == 0 { 1008 } else { refusal.code() };
        Goodbye { message, code, reason: refusal.text().into() }
    }
}

/// One packet of the engine. `None`: it is none, or not to be said now.
fn read(state: &mut State, text: &str, out: &mut Vec<Action>) -> Option<()> {
    let (kind, rest) = text.split_at_checked(1)?;
    match kind {
        "1" => out.push(Action::Close(Reason::ClientLeft.into())),
        "2" if rest.len() <= PING_MAX => out.push(Action::Reply([b"3", rest.as_bytes()].concat())),
        // A pong has done its work by coming; "no operation" has none.
        "3" | "6" => {}
        "4" => return read_packet(state, rest, out),
        _ => return None,
    }
    Some(())
}

/// One packet of Socket.IO.
fn read_packet(state: &mut State, text: &str, out: &mut Vec<Action>) -> Option<()> {
    let (kind, rest) = text.split_at_checked(1)?;
    let (namespace, rest) = namespace(rest);
    match (kind, namespace) {
        ("0", "/") if state.variant & CONNECTED == 0 => {
            state.variant |= CONNECTED;
            out.push(Action::Introduce);
        }
        ("0", "/") => {}
        ("0", other) => out.push(Action::Reply(no_namespace(state, other))),
        ("1", "/") => out.push(Action::Close(Reason::ClientLeft.into())),
        ("2", "/") if state.variant & CONNECTED != 0 => return read_event(rest, out),
        ("2", "/") => return None,
        // Acknowledgements, and announcements of binary data, which Echo has none of; other namespaces.
        ("1" | "2" | "3" | "4" | "5" | "6", _) => {}
        _ => return None,
    }
    Some(())
}

/// The namespace before a packet's data, `/` when none is named, and what follows.
fn namespace(text: &str) -> (&str, &str) {
    if !text.starts_with('/') {
        return ("/", text);
    }
    let (name, rest) = text.split_once(',').unwrap_or((text, ""));
    // Clients of version 2 send a query along.
    (name.split('?').next().unwrap_or(name), rest)
}

fn no_namespace(state: &State, name: &str) -> Vec<u8> {
    let reason = if state.variant & ENGINE_4 == 0 {
        format!("\"{INVALID_NAMESPACE}\"")
    } else {
        format!(r#"{{"message":"{INVALID_NAMESPACE}"}}"#)
    };
    format!("44{name},{reason}").into_bytes()
}

/// The name and arguments of an event. Those that Echo does not know are nobody's business.
fn read_event(text: &str, out: &mut Vec<Action>) -> Option<()> {
    // In front may stand the number of an acknowledgement, which nobody waits for here.
    let text = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    let words: Vec<&RawValue> = json::is_shallow(text.as_bytes()).then(|| serde_json::from_str(text).ok())??;
    let name = json::text(words.first()?)?;
    match (&*name, words.get(1)) {
        ("subscribe", Some(argument)) => subscribe(argument, out),
        ("unsubscribe", Some(argument)) => unsubscribe(argument, out),
        ("client event", Some(argument)) => whisper(argument, out),
        ("subscribe" | "unsubscribe" | "client event", None) => None,
        _ => Some(()),
    }
}

fn subscribe(argument: &RawValue, out: &mut Vec<Action>) -> Option<()> {
    let argument = json::object::<Argument>(argument.get())?;
    let name = json::text(argument.channel?)?;
    let Ok(channel) = ChannelName::new(&name) else {
        let mut reply = Vec::new();
        push_refused(&name, Reason::BadChannel.row().status, &mut reply);
        out.push(Action::Reply(reply));
        return Some(());
    };
    let proof = Proof { show: Some(headers(argument.auth)), ..Proof::default() };
    out.push(Action::Command(Command::Subscribe { channel, proof, resume: None }, None));
    Some(())
}

fn unsubscribe(argument: &RawValue, out: &mut Vec<Action>) -> Option<()> {
    let argument = json::object::<Argument>(argument.get())?;
    let name = json::text(argument.channel?)?;
    // Of a name that no channel can have there is no subscription.
    let command = ChannelName::new(&name).ok().map(|channel| Command::Unsubscribe { channel });
    out.extend(command.map(|command| Action::Command(command, None)));
    Some(())
}

fn whisper(argument: &RawValue, out: &mut Vec<Action>) -> Option<()> {
    // Old versions of Echo send the object as text.
    let unpacked = if argument.get().starts_with('"') { json::text(argument)? } else { argument.get().into() };
    let argument = json::object::<Argument>(&unpacked)?;
    let (name, event) = (json::text(argument.channel?)?, json::text(argument.event?)?);
    let data = argument.data.map_or_else(RawJson::null, RawJson::from_raw);
    let channel = ChannelName::new(&name).ok().filter(|_| event.starts_with(CLIENT_PREFIX));
    let command = channel.map(|channel| Command::Whisper { channel, event: event.into(), data });
    out.extend(command.map(|command| Action::Command(command, None)));
    Some(())
}

/// What the client wants its application to see. What is no header is not shown.
fn headers(auth: Option<&RawValue>) -> Headers {
    let auth = auth.and_then(|auth| json::object::<Auth>(auth.get()));
    let headers = auth.and_then(|auth| auth.headers).unwrap_or_default();
    let text = |value: &RawValue| match value.get().as_bytes().first() {
        Some(b'"') => json::text(value).map(|text| text.into()),
        Some(b'-' | b'0'..=b'9' | b't' | b'f') => Some(value.get().into()),
        _ => None,
    };
    let headers = headers.into_iter().take(HEADERS_MAX);
    headers.filter_map(|(name, value)| Some((name.into(), text(value)?))).collect()
}

/// Appends `42["event","channel",`; the data and a bracket are to follow.
fn begin(event: &str, channel: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"42[");
    json::push_string(out, event);
    out.push(b',');
    match channel {
        Some(channel) => json::push_string(out, channel),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b',');
}

fn push_refused(channel: &str, status: u16, out: &mut Vec<u8>) {
    begin("subscription_error", Some(channel), out);
    out.extend_from_slice(format!("{status}]").as_bytes());
}

fn push_member(id: &str, info: Option<&RawJson>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"user_id":"#);
    member::push_id(id, out);
    out.extend_from_slice(br#","user_info":"#);
    out.extend_from_slice(info.map_or("null", RawJson::as_str).as_bytes());
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Event, Member, Roster, SocketId};

    fn opened(query: &[(&str, &str)]) -> Opening {
        let query: Vec<_> = query.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let may_upgrade = query.iter().any(|(_, value)| value == "polling");
        SocketIo.open(&OpenRequest { path_rest: "", query: &query, may_upgrade }).unwrap()
    }

    fn connected() -> State {
        State { variant: ENGINE_4 | CONNECTED, strikes: 0 }
    }

    fn decode(text: &str) -> String {
        decode_in(&mut connected(), text)
    }

    fn decode_in(state: &mut State, text: &str) -> String {
        let mut out = Vec::new();
        SocketIo.decode(state, Message::Text(text), &mut out);
        let word = |action| match action {
            Action::Reply(bytes) => String::from_utf8(bytes).unwrap(),
            Action::Command(command, _) => format!("{command:?}"),
            Action::Introduce => "introduce".to_owned(),
            Action::Close(refusal) => format!("close {:?}", refusal.reason),
        };
        out.into_iter().map(word).collect::<Vec<_>>().join(" ")
    }

    fn notice(state: State, notice: &Notice<'_>) -> String {
        let mut out = Vec::new();
        SocketIo.notice(&state, notice, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn broadcast(broadcast: &Broadcast) -> String {
        let mut out = Vec::new();
        SocketIo.broadcast(SocketIo.encoding(&connected()), "presence-chat.1", broadcast, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_version_has_its_own_beginning() {
        let app = App::new("a", "k", "s");
        let welcome = |session| Notice::Welcome { socket_id: SocketId::new(1, 2).unwrap(), session, app: &app };
        let four = opened(&[("EIO", "4"), ("transport", "polling")]);
        assert_eq!(
            notice(four.state, &welcome(Some("1.0000000002x"))),
            r#"0{"sid":"1.0000000002x","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
        );
        assert_eq!(four.second_words, "");
        let three = opened(&[("EIO", "3"), ("transport", "websocket"), ("app_key", "k")]);
        assert_eq!(
            notice(three.state, &welcome(None)),
            r#"0{"sid":"1.2","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#
        );
        assert_eq!((three.second_words, three.app_key.as_deref()), ("40", Some("k")));
        // Version 4 must ask first, and what it asks with is a secret of its own.
        let mut state = four.state;
        assert_eq!(decode_in(&mut state, r#"42["subscribe",{"channel":"a"}]"#), "");
        assert_eq!(decode_in(&mut state, r#"40{"headers":{"Authorization":"Bearer x"}}"#), "introduce");
        assert_eq!(decode_in(&mut state, "40"), "");
        assert_eq!(
            notice(state, &Notice::Introduced { socket_id: SocketId::new(1, 2).unwrap() }),
            r#"40{"sid":"1.2"}"#
        );
        assert_eq!(decode_in(&mut state, "40/admin,{}"), r#"44/admin,{"message":"Invalid namespace"}"#);
        let mut state = three.state;
        assert_eq!(decode_in(&mut state, "40/admin?x=1"), r#"44/admin,"Invalid namespace""#);
        assert_eq!(decode_in(&mut state, "2"), "3");
        assert_eq!(decode_in(&mut state, "41"), "close ClientLeft");
    }

    #[test]
    fn what_echo_asks_is_understood() {
        let asked = r#"42["subscribe",{"channel":"private-a","auth":{"headers":{"Authorization":"Bearer x","X-N":7,"X-O":{}}}}]"#;
        let mut out = Vec::new();
        SocketIo.decode(&mut connected(), Message::Text(asked), &mut out);
        let Some(Action::Command(Command::Subscribe { channel, proof, resume: None }, None)) = out.pop() else {
            panic!("{out:?}")
        };
        let mut headers = proof.show.unwrap().into_vec();
        headers.sort();
        assert_eq!(channel.as_str(), "private-a");
        assert_eq!(headers, [("Authorization".into(), "Bearer x".into()), ("X-N".into(), "7".into())]);
        for asked in [
            r#"42["subscribe",{"channel":"a"}]"#,
            r#"4217["subscribe",{"channel":"a","auth":7}]"#,
            r#"42["subscribe",{"channel":"a","auth":{"headers":"x"}},1]"#,
        ] {
            assert!(decode(asked).starts_with("Subscribe"), "{asked}");
        }
        assert_eq!(decode(r#"42["subscribe",{"channel":"a b"}]"#), r#"42["subscription_error","a b",400]"#);
        assert!(decode(r#"42["unsubscribe",{"channel":"a","auth":{}}]"#).starts_with("Unsubscribe"));
        let whisper = decode(r#"42["client event",{"channel":"private-a","event":"client-x","data":{"a":1.0}}]"#);
        assert!(whisper.starts_with("Whisper") && whisper.contains("client-x"), "{whisper}");
        let old = r#"42["client event","{\"channel\":\"private-a\",\"event\":\"client-x\",\"data\":{\"a\":1.0}}"]"#;
        assert_eq!(decode(old), whisper);
        // Not for this server, and no harm.
        for other in [r#"42["hello"]"#, r#"42["client event",{"channel":"private-a","event":"x"}]"#, "3", "43[]", "6"] {
            assert_eq!(decode(other), "", "{other}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_passed_over_until_it_is_too_much() {
        let deep = format!("42{}", "[".repeat(100_000));
        let bad = [
            "",
            "x",
            "4",
            "49",
            "42",
            "42{}",
            "42[]",
            "42[5]",
            "42[\"subscribe\"]",
            "42[\"subscribe\",null]",
            "é",
            "4é",
            r#"42["subscribe",{"channel":7}]"#,
            r#"42["subscribe",[]]"#,
            r#"42["client event","x"]"#,
            "5",
            "0",
            &deep,
        ];
        let mut state = connected();
        for text in bad {
            assert_eq!(decode_in(&mut state, text), "", "{text}");
        }
        assert_eq!(usize::from(state.strikes), bad.len());
        assert_eq!(decode_in(&mut state, "x") + &decode_in(&mut state, "x"), "close TooManyBadFrames");
        decode_in(&mut state, "2");
        assert_eq!(state.strikes, 0);
    }

    #[test]
    fn events_have_their_channel_and_their_data_as_it_came() {
        let event =
            |name: &str, data: &str| broadcast(&Broadcast::Event(Event::new(name, RawJson::parse(data).unwrap())));
        let class = r#"42["App\\Events\\X","presence-chat.1",{"a":1.0,"b":9223372036854775807}]"#;
        assert_eq!(event("App\\Events\\X", r#"{"a":1.0,"b":9223372036854775807}"#), class);
        assert_eq!(event("App\\Events\\X", r#""{\"a\":1.0,\"b\":9223372036854775807}""#), class);
        assert_eq!(event("client-x", r#""1""#), r#"42["client-x","presence-chat.1","1"]"#);
        assert_eq!(event("disconnect", "1"), "");
    }

    #[test]
    fn members_are_told_as_the_old_server_tells_them() {
        let info = RawJson::parse(r#"{"name":"Ann"}"#);
        let member = Member { id: "7".into(), info: info.clone() };
        assert_eq!(
            broadcast(&Broadcast::Joined(member.clone())),
            r#"42["presence:joining","presence-chat.1",{"user_id":7,"user_info":{"name":"Ann"}}]"#
        );
        assert_eq!(
            broadcast(&Broadcast::Left(member)),
            r#"42["presence:leaving","presence-chat.1",{"user_id":7,"user_info":{"name":"Ann"}}]"#
        );
        let channel = ChannelName::new("presence-chat.1").unwrap();
        let roster = Roster([("7".into(), info), ("0a".into(), None)].into());
        let subscribed =
            |roster| Notice::Subscribed { channel: &channel, roster, position: None, recovered: None, tag: &None };
        assert_eq!(
            notice(connected(), &subscribed(Some(&roster))),
            r#"42["presence:subscribed","presence-chat.1",[{"user_id":"0a","user_info":null},{"user_id":7,"user_info":{"name":"Ann"}}]]"#
        );
        assert_eq!(notice(connected(), &subscribed(None)), "");
        let refusal = Refusal::from(Reason::NotPermitted).with_status(403);
        let refused = Notice::SubscribeRefused { channel: "private-a", refusal: &refusal, tag: &None };
        assert_eq!(notice(connected(), &refused), r#"42["subscription_error","private-a",403]"#);
    }

    #[test]
    fn who_may_come_back_is_not_told_to_stay_away() {
        let goodbye = |reason: Reason| SocketIo.goodbye(&connected(), &reason.into());
        assert_eq!((&goodbye(Reason::Terminated).message[..], goodbye(Reason::Terminated).code), (&b"41"[..], 4009));
        assert_eq!((&goodbye(Reason::Draining).message[..], goodbye(Reason::Draining).code), (&b""[..], 4200));
        let app = App::new("a", "k", "s");
        let (three, four) = (State { variant: CONNECTED, strikes: 0 }, connected());
        assert_eq!(SocketIo.heartbeat(&three, &app), Heartbeat { ping_after: 45, dead_after: 45, always: false });
        assert_eq!(SocketIo.heartbeat(&four, &app), Heartbeat { ping_after: 25, dead_after: 45, always: true });
    }
}
