//! laravel-echo-server's HTTP API (its 1.6.3, `src/api/http-api.ts` and `src/subscribers/http-subscriber.ts`): the paths of Pusher's
//! API, a key instead of a signature, and answers of its own form. Counts are the cluster's.

use std::sync::Arc;

use backplane::ChannelCounts;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap};
use model::{Access, App, ChannelKey, Secret, auth};

use super::channels::{self, parameter};
use super::routes::{Call, Found};
use super::{Api, Pair, Refused, events, info, names};
use crate::directory::Served;

/// The app of a request that shows a key of laravel-echo-server's. `None`: it is for Pusher's API.
///
/// # Errors
/// A request without a signature that shows no key, or another one.
pub(super) fn caller(
    served: &Served,
    id: &str,
    headers: &HeaderMap,
    query: &[Pair<'_>],
) -> Result<Option<Arc<App>>, Refused> {
    let Some((named, key)) = served.echo_client(id) else { return Ok(None) };
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let shown = bearer.or(parameter(query, "auth_key")).unwrap_or_default();
    if is_same(shown, key) {
        return Ok(served.apps.by_id(&named.app.id).cloned());
    }
    if parameter(query, "auth_signature").is_some() {
        return Ok(None);
    }
    Err(Refused(StatusCode::FORBIDDEN, "Unauthorized".into()))
}

/// Compares what both sign, so that the time it takes tells nothing of the key.
fn is_same(shown: &str, key: &Secret) -> bool {
    const TEXT: &[u8] = b"laravel-echo-server";
    auth::sign(&Secret::new(shown), TEXT) == auth::sign(key, TEXT)
}

pub(super) async fn answer(
    api: &Api,
    app: &Arc<App>,
    found: &Found,
    query: &[Pair<'_>],
    body: &[u8],
) -> Result<Bytes, Refused> {
    match found.call {
        Call::Publish => events::publish_for_echo(api, app, body).await,
        Call::Status => status(api, app).await,
        Call::Channels => list(api, app, parameter(query, "filter_by_prefix").unwrap_or_default()).await,
        Call::Channel => one(api, app, &found.parameter).await,
        Call::Users => users(api, app, &found.parameter).await,
        Call::PublishBatch | Call::History | Call::Terminate => {
            let text = format!("{} takes a signature, not a key", found.name);
            Err(Refused(StatusCode::FORBIDDEN, text))
        }
    }
}

/// How many are connected, for how many seconds the node runs, and what memory it has.
pub(super) async fn status(api: &Api, app: &Arc<App>) -> Result<Bytes, Refused> {
    let connections = api.hub.connections_of(&app.id) + api.backplane.connections_elsewhere(&app.id);
    let uptime = api.began.elapsed().as_secs_f64();
    let rss = resident();
    let text = format!(r#"{{"subscription_count":{connections},"uptime":{uptime:.3},"memory_usage":{{"rss":{rss}}}}}"#);
    Ok(text.into())
}

/// Bytes of this process that are in memory; 0 where the system does not tell.
fn resident() -> u64 {
    let kib = |status: String| -> Option<u64> {
        status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?.parse().ok()
    };
    std::fs::read_to_string("/proc/self/status").ok().and_then(kib).unwrap_or(0) * 1024
}

async fn list(api: &Api, app: &App, prefix: &str) -> Result<Bytes, Refused> {
    let push = |counts: ChannelCounts, out: &mut Vec<u8>| {
        let text = format!(r#"{{"subscription_count":{},"occupied":true}}"#, counts.subscriptions);
        out.extend_from_slice(text.as_bytes());
    };
    channels::occupied(api, app, prefix, push).await
}

async fn one(api: &Api, app: &App, name: &str) -> Result<Bytes, Refused> {
    let name = names::channel(app, name).map_err(Refused::bad)?;
    let access = name.kind().access;
    let counts = info::counts(api, app, [name]).await?.into_iter().next().unwrap_or_default();
    let subscriptions = counts.subscriptions;
    let users = if access == Access::Presence { format!(r#","user_count":{}"#, counts.users) } else { String::new() };
    let occupied = subscriptions > 0;
    Ok(format!(r#"{{"subscription_count":{subscriptions},"occupied":{occupied}{users}}}"#).into())
}

async fn users(api: &Api, app: &App, name: &str) -> Result<Bytes, Refused> {
    let name = names::channel(app, name).map_err(Refused::bad)?;
    if name.kind().access != Access::Presence {
        return Err(Refused::bad("User list is only possible for Presence Channels"));
    }
    let members = api.backplane.users(Arc::new(ChannelKey { app: app.id.clone(), name })).await?;
    let mut out = br#"{"users":["#.to_vec();
    for (at, member) in members.into_iter().enumerate() {
        out.extend_from_slice(if at > 0 { b",{\"id\":" } else { b"{\"id\":" });
        member.push_id(&mut out);
        out.extend_from_slice(br#","user_info":"#);
        out.extend_from_slice(member.info.as_ref().map_or("null", |info| info.as_str()).as_bytes());
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    Ok(out.into())
}
