//! `POST /events` and `POST /batch_events`: an application says something.
//!
//! A batch is checked as a whole before anything of it is published. Channels named twice hear once. Counts that `info`
//! asks for are taken before: whoever cannot be told them has published nothing and may come again.

use std::borrow::Cow;
use std::sync::Arc;

use backplane::ChannelCounts;
use bytes::Bytes;
use hyper::StatusCode;
use model::event::INTERNAL_PREFIX;
use model::{App, ChannelKey, ChannelName, Event, RawJson, SocketId, json, socket_id};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::info::{self, Info};
use super::{Api, Refused, names};

#[derive(Deserialize, Default)]
struct Body<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    channels: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    socket_id: Option<&'a RawValue>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    batch: Vec<&'a RawValue>,
}

/// Names that clients take for words of the protocol, and nodes for words of their own.
const RESERVED: [&str; 3] = [INTERNAL_PREFIX, "pusher:", "pusher_internal:"];

/// A checked publish.
struct Publish {
    event: Event,
    channels: Vec<ChannelName>,
    info: Info,
}

/// Which data an event may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Data {
    /// Pusher's: a string.
    Text,
    /// laravel-echo-server's: whatever JSON is.
    Any,
}

/// As laravel-echo-server takes it.
pub(super) async fn publish_for_echo(api: &Api, app: &Arc<App>, body: &[u8]) -> Result<Bytes, Refused> {
    let text = text(body)?;
    let body: Body = object(text).unwrap_or_default();
    let has_channel = present(body.channel).or(present(body.channels)).is_some();
    if !has_channel || present(body.name).is_none() || body.data.is_none() {
        return Err(Refused::bad("Event must include channel, event name and data"));
    }
    let mut publish = read(app, text, "", Data::Any)?;
    // JSON in a string is that JSON from here on: laravel-echo-servers on the same Redis do not look into strings.
    let content = publish.event.data.string_content();
    if let Some(data) = content.and_then(|content| RawJson::parse(&content)) {
        publish.event.data = data;
    }
    send(api, app, vec![publish]).await?;
    Ok(Bytes::from_static(br#"{"message":"ok"}"#))
}

pub(super) async fn publish(api: &Api, app: &Arc<App>, body: &[u8]) -> Result<Bytes, Refused> {
    let publish = read(app, text(body)?, "", Data::Text)?;
    let (info, channels) = (publish.info, publish.channels.clone());
    let publishes = vec![publish];
    let counts = counts(api, app, &publishes).await?;
    send(api, app, publishes).await?;
    if !info.wants_counts() {
        return Ok(Bytes::from_static(b"{}"));
    }
    let mut out = br#"{"channels":{"#.to_vec();
    for (at, (name, counts)) in channels.iter().zip(counts).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json::push_string(&mut out, name.as_str());
        out.push(b':');
        info.of(name).push_object(&mut out, counts);
    }
    out.extend_from_slice(b"}}");
    Ok(out.into())
}

pub(super) async fn publish_batch(api: &Api, app: &Arc<App>, body: &[u8]) -> Result<Bytes, Refused> {
    let batch: Batch = object(text(body)?)
        .map_err(|error| Refused::bad(format!("The body is not an object with an array `batch`: {error}")))?;
    let max = app.limits.batch_events;
    if batch.batch.len() > max {
        return Err(Refused::bad(format!("batch has {} events, more than {max}", batch.batch.len())));
    }
    let read = |(index, item): (usize, &&RawValue)| read(app, item.get(), &format!("batch[{index}]: "), Data::Text);
    let publishes = batch.batch.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    // An item is one event on one channel, in batches; where it names more, the first is told of.
    let asked = |publish: &Publish| {
        let info = publish.channels.first().map_or(publish.info, |first| publish.info.of(first));
        (publish.info, info, publish.channels.len())
    };
    let asked: Vec<(Info, Info, usize)> = publishes.iter().map(asked).collect();
    let mut counts = counts(api, app, &publishes).await?.into_iter();
    send(api, app, publishes).await?;
    if !asked.iter().any(|(info, ..)| info.wants_counts()) {
        return Ok(Bytes::from_static(b"{}"));
    }
    let mut out = br#"{"batch":["#.to_vec();
    for (at, (wanted, info, channels)) in asked.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let first = counts.by_ref().take(if wanted.wants_counts() { channels } else { 0 }).collect::<Vec<_>>();
        info.push_object(&mut out, first.first().copied().unwrap_or_default());
    }
    out.extend_from_slice(b"]}");
    Ok(out.into())
}

/// Of the channels whose publishes ask for it, in their order.
async fn counts(api: &Api, app: &App, publishes: &[Publish]) -> Result<Vec<ChannelCounts>, Refused> {
    let asking = publishes.iter().filter(|publish| publish.info.wants_counts());
    let channels: Vec<ChannelName> = asking.flat_map(|publish| publish.channels.iter().cloned()).collect();
    if channels.is_empty() {
        return Ok(Vec::new());
    }
    let counted = info::counts(api, app, channels).await;
    counted.map_err(|Refused(status, text)| Refused(status, format!("Nothing was published. {text}")))
}

/// Gives all to the backplane in one go, so that they keep their order, then waits for all.
async fn send(api: &Api, app: &Arc<App>, publishes: Vec<Publish>) -> Result<(), Refused> {
    let mut answers = Vec::with_capacity(publishes.len());
    for Publish { event, mut channels, .. } in publishes {
        let last = channels.pop();
        for name in channels {
            answers.push(publish_on(api, app, name, event.clone()));
        }
        if let Some(name) = last {
            answers.push(publish_on(api, app, name, event));
        }
    }
    let mut failed = None;
    for answer in answers {
        if let Err(error) = answer.await {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

fn publish_on(
    api: &Api,
    app: &App,
    name: ChannelName,
    event: Event,
) -> backplane::BoxFuture<Result<(), backplane::PublishError>> {
    api.metrics.published(&app.id, "http", event.data.len());
    api.backplane.publish(Arc::new(ChannelKey { app: app.id.clone(), name }), event)
}

fn text(body: &[u8]) -> Result<&str, Refused> {
    let text = std::str::from_utf8(body).map_err(|_| Refused::bad("The body is not UTF-8"))?;
    if !json::is_shallow(body) {
        return Err(Refused::bad(format!("The body is nested deeper than {} levels", json::DEPTH_MAX)));
    }
    Ok(text)
}

/// Reads an object; what is wrong with any other text.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    if !json::begins_object(text) {
        return Err("it does not begin with {".into());
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Checks one event. `at` stands before each complaint.
fn read(app: &App, text: &str, at: &str, kind: Data) -> Result<Publish, Refused> {
    let bad = |text: &str| Refused::bad(format!("{at}{text}"));
    let body: Body = object(text).map_err(|error| bad(&format!("not a JSON object: {error}")))?;
    let name = string(body.name).ok_or_else(|| bad("name is missing or no string"))?;
    let max = app.limits.event_name_bytes;
    if name.is_empty() || name.len() > max {
        return Err(bad(&format!("name has {} bytes: one to {max} are allowed", name.len())));
    }
    if let Some(prefix) = RESERVED.iter().find(|prefix| name.starts_with(*prefix)) {
        return Err(bad(&format!("name begins with {prefix}, which is the protocol's own")));
    }
    let data = body.data.filter(|data| kind == Data::Any || data.get() != "null");
    let data = data.ok_or_else(|| bad("data is missing"))?;
    let max = app.limits.event_bytes;
    if !surely_fits(data.get(), max) {
        let bytes = match (string(Some(data)), kind) {
            (Some(content), _) => content.len(),
            (None, Data::Any) => data.get().len(),
            (None, Data::Text) => return Err(bad("data is no string: encode it as JSON text first")),
        };
        if bytes > max {
            let text = format!("{at}data has {bytes} bytes, more than {max}");
            return Err(Refused(StatusCode::PAYLOAD_TOO_LARGE, text));
        }
    }
    let mut event = Event::new(&name, RawJson::from_raw(data));
    event.except = except(present(body.socket_id)).map_err(bad)?;
    event.cacheable = true;
    let channels = channels(app, &body).map_err(|text| bad(&text))?;
    let info = info(present(body.info)).map_err(|text| bad(&text))?;
    Ok(Publish { event, channels, info })
}

/// True of most strings, at a glance: unescaped they are no longer than escaped, and `\u` apart no escape can be wrong.
fn surely_fits(text: &str, max: usize) -> bool {
    text.starts_with('"') && text.len() - 2 <= max && !text.contains("\\u")
}

fn info(raw: Option<&RawValue>) -> Result<Info, String> {
    let Some(raw) = raw else { return Ok(Info::default()) };
    let text = string(Some(raw)).ok_or("info is no string: write the words with commas between them")?;
    Info::read(&text, &info::COUNTS)
}

fn channels(app: &App, body: &Body<'_>) -> Result<Vec<ChannelName>, String> {
    let names: Vec<Cow<'_, str>> = match (present(body.channels), present(body.channel)) {
        (Some(list), _) => {
            serde_json::from_str(list.get()).map_err(|_| "channels is no array of strings".to_owned())?
        }
        (None, Some(_)) => vec![string(body.channel).ok_or("channel is no string")?],
        (None, None) => return Err("channels is missing".into()),
    };
    let max = app.limits.channels_per_event;
    if names.is_empty() || names.len() > max {
        return Err(format!("channels has {} names: one to {max} are allowed", names.len()));
    }
    let mut channels: Vec<ChannelName> = Vec::with_capacity(names.len());
    for name in names {
        let channel = names::channel(app, &name)?;
        if !channels.contains(&channel) {
            channels.push(channel);
        }
    }
    Ok(channels)
}

/// Whom to leave out. An id in the right form that is not ours means nobody here.
fn except(raw: Option<&RawValue>) -> Result<Option<SocketId>, &'static str> {
    let Some(raw) = raw else { return Ok(None) };
    let id = string(Some(raw)).filter(|id| socket_id::has_the_form(id));
    let id = id.ok_or("socket_id is not of the form 123.456")?;
    Ok(id.parse().ok())
}

fn present(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null")
}

fn string(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    raw.and_then(json::text)
}
