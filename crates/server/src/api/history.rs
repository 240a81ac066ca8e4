//! `GET /channels/{c}/history`: what a channel keeps of what was said on it, in pages.

use std::sync::Arc;
use std::time::Duration;

use backplane::{Page, PageFrom};
use bytes::Bytes;
use model::{App, ChannelKey, Event, Position, json};

use super::channels::parameter;
use super::{Api, Pair, Refused, names};
use crate::clock;

/// Events of a page, if nobody says how many, and at most.
const LIMIT: u32 = 100;
const LIMIT_MAX: u32 = 1_000;

pub(super) async fn page(api: &Api, app: &App, name: &str, query: &[Pair<'_>]) -> Result<Bytes, Refused> {
    let name = names::channel(app, name).map_err(Refused::bad)?;
    if app.history_of(&name).is_none() && !name.kind().cache {
        let text = format!("{:?} keeps no history: no rule of the app's setting `history` fits it", name.as_str());
        return Err(Refused::bad(text));
    }
    let limit = limit(parameter(query, "limit"))?;
    let (after, before) = (position(query, "after")?, position(query, "before")?);
    let from = match (&after, &before) {
        (Some(_), Some(_)) => return Err(Refused::bad("after and before exclude each other")),
        (Some(after), None) => PageFrom::After(after.offset),
        (None, before) => PageFrom::Before(before.as_ref().map(|before| before.offset)),
    };
    // One more than is told, to know whether there is more.
    let page = Page { from, limit: limit + 1 };
    let read = api.backplane.history(Arc::new(ChannelKey { app: app.id.clone(), name }), page).await?;
    let more = read.cut || read.events.len() > limit as usize;
    let events = &read.events[..read.events.len().min(limit as usize)];
    let mut out = br#"{"events":["#.to_vec();
    for (at, (event, age)) in events.iter().enumerate() {
        out.extend_from_slice(if at > 0 { b",{" } else { b"{" });
        push_event(event, *age, &mut out);
        out.push(b'}');
    }
    out.extend_from_slice(br#"],"position":"#);
    push_position(read.top.as_ref(), &mut out);
    out.extend_from_slice(br#","next":"#);
    push_position(events.last().and_then(|(event, _)| event.position.as_ref()).filter(|_| more), &mut out);
    out.push(b'}');
    Ok(out.into())
}

fn limit(text: Option<&str>) -> Result<u32, Refused> {
    let Some(text) = text else { return Ok(LIMIT) };
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| Refused::bad(format!("limit is {text:?}: a whole number from 1 to {LIMIT_MAX} is allowed")))
}

fn position(query: &[Pair<'_>], name: &str) -> Result<Option<Position>, Refused> {
    let Some(text) = parameter(query, name) else { return Ok(None) };
    let wrong =
        || Refused::bad(format!("{name} is {text:?}, which is no position: take `next` or a `position` of an answer"));
    text.parse().map(Some).map_err(|_| wrong())
}

/// The event's fields: as in a publish, and where and when it was published.
fn push_event(event: &Event, age: Duration, out: &mut Vec<u8>) {
    out.extend_from_slice(br#""position":"#);
    push_position(event.position.as_ref(), out);
    out.extend_from_slice(br#","name":"#);
    json::push_string(out, &event.name);
    out.extend_from_slice(br#","data":"#);
    json::push_as_string(out, &event.data);
    let time = clock::ms().saturating_sub(age.as_millis() as u64);
    out.extend_from_slice(format!(r#","time_ms":{time}"#).as_bytes());
}

fn push_position(position: Option<&Position>, out: &mut Vec<u8>) {
    match position {
        Some(position) => json::push_string(out, &position.to_string()),
        None => out.extend_from_slice(b"null"),
    }
}
