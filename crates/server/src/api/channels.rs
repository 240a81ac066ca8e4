//! `GET /channels`, `/channels/{c}`, `/channels/{c}/users`, and `POST /users/{u}/terminate_connections`: who is there in the
//! whole cluster.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use model::{Access, App, ChannelKey, ChannelName, json};

use super::info::{self, Info};
use super::{Api, Pair, Refused, names};
use backplane::{ChannelCounts, Page, PageFrom, PublishError};

const PRESENCE: &str = "presence-";

/// A query parameter, if it is there; of several the first.
pub(super) fn parameter<'a>(query: &'a [Pair<'_>], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
}

pub(super) async fn list(api: &Api, app: &App, query: &[Pair<'_>]) -> Result<Bytes, Refused> {
    let prefix = parameter(query, "filter_by_prefix").unwrap_or_default();
    let info = Info::read(parameter(query, "info").unwrap_or_default(), &info::COUNTS).map_err(Refused::bad)?;
    if info.user_count && !prefix.starts_with(PRESENCE) {
        let text = "info has user_count, which only presence channels have: add filter_by_prefix=presence-";
        return Err(Refused::bad(text));
    }
    occupied(api, app, prefix, |counts, out| info.push_object(out, counts)).await
}

/// The occupied channels by name, each with what is to be said of its counts.
pub(super) async fn occupied(
    api: &Api,
    app: &App,
    prefix: &str,
    push: impl Fn(ChannelCounts, &mut Vec<u8>),
) -> Result<Bytes, Refused> {
    let mut channels = api.backplane.occupied(app.id.clone(), prefix.to_owned()).await?;
    channels.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = br#"{"channels":{"#.to_vec();
    for (at, (name, counts)) in channels.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json::push_string(&mut out, name.as_str());
        out.push(b':');
        push(counts, &mut out);
    }
    out.extend_from_slice(b"}}");
    Ok(out.into())
}

pub(super) async fn one(api: &Api, app: &App, name: &str, query: &[Pair<'_>]) -> Result<Bytes, Refused> {
    let name = names::channel(app, name).map_err(Refused::bad)?;
    let info = Info::read(parameter(query, "info").unwrap_or_default(), &info::ALL).map_err(Refused::bad)?;
    info.fits(&name).map_err(Refused::bad)?;
    let counts = info::counts(api, app, [name.clone()]).await?.into_iter().next().unwrap_or_default();
    let mut out = format!(r#"{{"occupied":{}"#, counts.subscriptions > 0).into_bytes();
    info.push_counts(&mut out, counts);
    if info.cache {
        out.extend_from_slice(br#","cache":"#);
        push_cache(api, app, name, &mut out).await?;
    }
    out.push(b'}');
    Ok(out.into())
}

/// The data of what the channel holds and for how many seconds yet; `null` for nothing.
async fn push_cache(api: &Api, app: &App, name: ChannelName, out: &mut Vec<u8>) -> Result<(), Refused> {
    let held = match name.kind().cache {
        true => {
            let last = Page { from: PageFrom::Before(None), limit: 1 };
            api.backplane.history(Arc::new(ChannelKey { app: app.id.clone(), name }), last).await?.events.pop()
        }
        false => None,
    };
    let ttl = Duration::from_secs(app.cache_seconds.into());
    let held = held.and_then(|(event, age)| Some((event, ttl.checked_sub(age)?)));
    match held {
        None => out.extend_from_slice(b"null"),
        Some((event, left)) => {
            out.extend_from_slice(br#"{"data":"#);
            json::push_as_string(out, &event.data);
            out.extend_from_slice(format!(r#","ttl":{}}}"#, left.as_secs_f64().ceil()).as_bytes());
        }
    }
    Ok(())
}

pub(super) async fn users(api: &Api, app: &App, name: &str, query: &[Pair<'_>]) -> Result<Bytes, Refused> {
    let name = names::channel(app, name).map_err(Refused::bad)?;
    if name.kind().access != Access::Presence {
        return Err(Refused::bad(format!("Only presence channels have users: {:?}", name.as_str())));
    }
    // soketi's addition, which its users rely on.
    let with_info = parameter(query, "with_user_info") == Some("1");
    let members = api.backplane.users(Arc::new(ChannelKey { app: app.id.clone(), name })).await?;
    let mut out = br#"{"users":["#.to_vec();
    for (at, member) in members.into_iter().enumerate() {
        out.extend_from_slice(if at > 0 { b",{\"id\":" } else { b"{\"id\":" });
        json::push_string(&mut out, &member.id);
        if with_info {
            out.extend_from_slice(br#","user_info":"#);
            out.extend_from_slice(member.info.as_ref().map_or("null", |info| info.as_str()).as_bytes());
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    Ok(out.into())
}

/// Closes the signed-in connections of a user. Their body is not looked at: SDKs send `{}` or nothing.
pub(super) async fn terminate(api: &Api, app: &App, user: &str) -> Result<Bytes, Refused> {
    let name = names::user_channel(app, user).map_err(Refused::bad)?;
    let done = api.backplane.terminate(Arc::new(ChannelKey { app: app.id.clone(), name })).await;
    done.map_err(|error| {
        let text = match error {
            PublishError::TimedOut => "Redis did not answer in time: the connections may have been closed".into(),
            PublishError::Refused(words) => format!("The connections were not closed, Redis answered: {words}"),
            PublishError::BadChannel | PublishError::TooLarge(_) => return Refused::bad("The user id cannot be one"),
            PublishError::Unavailable => "The connections were not closed: there is no connection to Redis now".into(),
        };
        Refused(StatusCode::SERVICE_UNAVAILABLE, text)
    })?;
    Ok(Bytes::from_static(b"{}"))
}
