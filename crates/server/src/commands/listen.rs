//! `fanfare listen`: the events of channels as JSON lines, heard as any Pusher client hears them.
//!
//! One connection, no reconnect: what is printed has no hole, and the end of the command is the end of that promise.

use futures_util::{SinkExt, StreamExt};
use model::{Access, App, ChannelKind, ChannelName, RawJson, SocketId, auth, json};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message, protocol::CloseFrame};

use super::reach::{Address, Stream, TIMEOUT, late};
use super::{Failure, print, say, target, trust};
use crate::cli::Listen;
use crate::settings::Settings;

/// Who we are on a presence channel.
const MEMBER: &str = r#"{"user_id":"fanfare-listen"}"#;

pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

/// A frame of the Pusher protocol.
#[derive(Deserialize)]
pub(super) struct Frame<'a> {
    pub(super) event: String,
    channel: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl<'a> Frame<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Failure> {
        let wrong = |_| Failure::Failed("the node sent what is no frame of the Pusher protocol".to_owned());
        serde_json::from_str(text).map_err(wrong)
    }
}

pub(super) async fn run(asked: &Listen, settings: &Settings) -> Result<(), Failure> {
    for channel in &asked.channels {
        ChannelName::new(channel).map_err(|wrong| Failure::Usage(format!("{channel:?}: {}", wrong.0)))?;
    }
    let app = target::app(asked.app.as_deref(), settings)?;
    let url = target::url(asked.to.as_deref(), settings)?;
    let mut socket = connect(&url, &app.app, settings).await?;
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => hear(&mut socket, text.as_str(), &app.app, &asked.channels).await?,
            Some(Ok(Message::Close(close))) => return Err(closed(close)),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(Failure::Failed(format!("the connection to {url} was lost: {error}"))),
            None => return Err(Failure::Failed(format!("the connection to {url} ended"))),
        }
    }
}

pub(super) async fn connect(url: &str, app: &App, settings: &Settings) -> Result<Socket, Failure> {
    let node = Address::parse(url)?;
    let tls = if node.is_tls { Some(trust::config(settings)?) } else { None };
    let unreachable = |why: String| Failure::CannotReach(format!("Cannot reach {url}: {why}"));
    let stream = node.open(tls).await.map_err(unreachable)?;
    let version = env!("CARGO_PKG_VERSION");
    let Address { authority, base, .. } = &node;
    // The scheme is not sent.
    let request = format!("ws://{authority}{base}/app/{}?protocol=7&client=fanfare&version={version}", app.key);
    let opening = tokio_tungstenite::client_async(request, stream);
    match tokio::time::timeout(TIMEOUT, opening).await.map_err(|_| unreachable(late()))? {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) if answer.status().is_client_error() => {
            let said = String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned();
            let text = format!("{url} refused the connection with HTTP status {}: {}", answer.status(), said.trim());
            Err(Failure::Refused(text))
        }
        Err(error) => Err(unreachable(format!("no WebSocket there: {error}"))),
    }
}

pub(super) fn closed(close: Option<CloseFrame>) -> Failure {
    let Some(close) = close else {
        return Failure::Failed("the node closed the connection without a reason".to_owned());
    };
    let code = u16::from(close.code);
    let text = format!("the node closed the connection: {code} {}", close.reason);
    // "Stay away", in Pusher's ranges: a wrong key, a connection that may not be here.
    if (4000..4100).contains(&code) { Failure::Refused(text) } else { Failure::Failed(text) }
}

async fn hear(socket: &mut Socket, text: &str, app: &App, channels: &[String]) -> Result<(), Failure> {
    let frame = Frame::parse(text)?;
    let channel = frame.channel.as_deref().unwrap_or_default();
    match &*frame.event {
        "pusher:connection_established" => {
            for subscribe in subscribes(&frame, app, channels)? {
                send(socket, subscribe).await?;
            }
            Ok(())
        }
        "pusher:ping" => send(socket, r#"{"event":"pusher:pong","data":"{}"}"#.to_owned()).await,
        "pusher_internal:subscription_succeeded" => {
            say(&format!("listening to {channel}"));
            Ok(())
        }
        "pusher:subscription_error" => {
            Err(Failure::Refused(format!("{channel}: the subscription was refused: {}", said(&frame))))
        }
        "pusher:error" => {
            say(&format!("the node says: {}", said(&frame)));
            Ok(())
        }
        "fanfare:gap" => {
            let which = if channel.is_empty() { "any channel" } else { channel };
            say(&format!("events of {which} may have been lost here"));
            Ok(())
        }
        _ => print(&line(channel, &frame)),
    }
}

/// A subscribe frame for each channel, signed where the channel wants it.
pub(super) fn subscribes(welcome: &Frame<'_>, app: &App, channels: &[String]) -> Result<Vec<String>, Failure> {
    #[derive(Deserialize)]
    struct Welcome {
        socket_id: String,
    }
    let socket_id = serde_json::from_str::<Welcome>(data(welcome).as_str()).ok();
    let socket_id = socket_id.and_then(|welcome| welcome.socket_id.parse::<SocketId>().ok());
    let Some(socket_id) = socket_id else {
        return Err(Failure::Failed(
            "the other side gave no socket id of fanfare's form; is it a fanfare node?".to_owned(),
        ));
    };
    Ok(channels.iter().map(|channel| subscribe(socket_id, app, channel)).collect())
}

fn subscribe(socket_id: SocketId, app: &App, channel: &str) -> String {
    let access = ChannelKind::of(channel).access;
    let channel_data = (access == Access::Presence).then_some(MEMBER);
    let auth = match access {
        Access::Public => None,
        _ => auth::channel_auth(app, socket_id, channel, channel_data),
    };
    let mut out = br#"{"event":"pusher:subscribe","data":{"channel":"#.to_vec();
    json::push_string(&mut out, channel);
    for (name, value) in [("auth", auth.as_deref()), ("channel_data", channel_data)] {
        if let Some(value) = value {
            out.extend_from_slice(format!(",\"{name}\":").as_bytes());
            json::push_string(&mut out, value);
        }
    }
    out.extend_from_slice(b"}}");
    // Built from str only.
    String::from_utf8(out).unwrap_or_default()
}

pub(super) async fn send(socket: &mut Socket, text: String) -> Result<(), Failure> {
    let sent = socket.send(Message::text(text)).await;
    sent.map_err(|error| Failure::Failed(format!("the connection was lost: {error}")))
}

/// The data behind Pusher's double encoding: a string that holds JSON is that JSON.
fn data(frame: &Frame<'_>) -> RawJson {
    let raw = frame.data.map_or_else(RawJson::null, RawJson::from_raw);
    raw.string_content().and_then(|content| RawJson::parse(&content)).unwrap_or(raw)
}

/// The words in a frame that says no; all of its data when they are not where they should be.
pub(super) fn said(frame: &Frame<'_>) -> String {
    #[derive(Deserialize)]
    struct Said {
        #[serde(alias = "message")]
        error: String,
        #[serde(alias = "code")]
        status: Option<u16>,
    }
    let data = data(frame);
    match serde_json::from_str::<Said>(data.as_str()) {
        Ok(Said { error, status: Some(status) }) => format!("{error} ({status})"),
        Ok(Said { error, .. }) => error,
        Err(_) => data.as_str().to_owned(),
    }
}

/// One line for an event: the words of `publish --lines`, so that it can be piped there.
fn line(channel: &str, frame: &Frame<'_>) -> String {
    let mut out = b"{\"channel\":".to_vec();
    json::push_string(&mut out, channel);
    out.extend_from_slice(b",\"event\":");
    json::push_string(&mut out, &frame.event);
    out.extend_from_slice(b",\"data\":");
    // JSON has line breaks between values only; a string spells them as `\n`.
    out.extend_from_slice(data(frame).as_str().replace(['\n', '\r'], " ").as_bytes());
    out.extend_from_slice(b"}\n");
    // Built from str only.
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(frame: &str) -> String {
        let frame: Frame = serde_json::from_str(frame).unwrap();
        line(frame.channel.as_deref().unwrap_or_default(), &frame)
    }

    #[test]
    fn an_event_is_one_line_with_its_data_as_json() {
        let check = |data: &str, shown: &str| {
            let frame = format!(r#"{{"event":"e","channel":"c","data":{data}}}"#);
            assert_eq!(printed(&frame), format!("{{\"channel\":\"c\",\"event\":\"e\",\"data\":{shown}}}\n"));
        };
        check(r#""{\"a\": 1.0}""#, r#"{"a": 1.0}"#);
        check(r#""{\n\"a\":\"x\\ny\"}""#, r#"{ "a":"x\ny"}"#);
        check(r#""hello""#, r#""hello""#);
        check(r#"{"whisper":true}"#, r#"{"whisper":true}"#);
    }

    #[test]
    fn private_and_presence_channels_are_signed_and_others_are_not() {
        let app = App::new("3", "278d425bdf160c739803", "7ad3773142a6692b25b8");
        let socket = SocketId::new(1234, 1234).unwrap();
        let check = |channel: &str, frame: &str| assert_eq!(subscribe(socket, &app, channel), frame);
        check("orders", r#"{"event":"pusher:subscribe","data":{"channel":"orders"}}"#);
        // The vector of pusher docs, "auth-signatures".
        check(
            "private-foobar",
            r#"{"event":"pusher:subscribe","data":{"channel":"private-foobar","auth":"278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"}}"#,
        );
        let presence = subscribe(socket, &app, "presence-a");
        assert!(presence.ends_with(r#","channel_data":"{\"user_id\":\"fanfare-listen\"}"}}"#), "{presence}");
    }
}
