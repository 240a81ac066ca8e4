//! What a webhook's request looks like: body, headers, signature.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use model::webhook::{Happening, Job};
use model::{App, Webhook, auth, json};

const KEY: HeaderName = HeaderName::from_static("x-pusher-key");
const SIGNATURE: HeaderName = HeaderName::from_static("x-pusher-signature");
/// The ids of the events, in their order: a receiver knows by them what it had before.
const EVENT_ID: HeaderName = HeaderName::from_static("x-fanfare-event-id");

/// `{"time_ms":…,"events":[…]}`. The time is that of the last event: told late, it is still when it happened.
pub(super) fn body<'a>(jobs: impl Iterator<Item = &'a Job> + Clone) -> Bytes {
    let time = jobs.clone().map(|job| job.time_ms).max().unwrap_or_default();
    let mut out = format!(r#"{{"time_ms":{time},"events":["#).into_bytes();
    for (at, job) in jobs.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push_event(&mut out, job);
    }
    out.extend_from_slice(b"]}");
    out.into()
}

fn push_event(out: &mut Vec<u8>, job: &Job) {
    let text = |out: &mut Vec<u8>, key: &str, content: &str| {
        out.extend_from_slice(format!(r#","{key}":"#).as_bytes());
        json::push_string(out, content);
    };
    out.extend_from_slice(format!(r#"{{"name":"{}""#, job.happening.kind().name()).as_bytes());
    text(out, "channel", job.channel.as_str());
    match &job.happening {
        Happening::ChannelOccupied | Happening::ChannelVacated | Happening::CacheMiss => {}
        Happening::MemberAdded(user) | Happening::MemberRemoved(user) => text(out, "user_id", user),
        Happening::ClientEvent { event, data, socket, user } => {
            text(out, "event", event);
            out.extend_from_slice(br#","data":"#);
            out.extend_from_slice(data.as_str().as_bytes());
            text(out, "socket_id", &socket.to_string());
            if let Some(user) = user {
                text(out, "user_id", user);
            }
        }
        Happening::SubscriptionCount(count) => {
            out.extend_from_slice(format!(r#","subscription_count":{count}"#).as_bytes());
        }
    }
    out.push(b'}');
}

/// The headers that are the same for all requests to an endpoint.
pub(super) fn fixed_headers(app: &App, webhook: &Webhook) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &webhook.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value.reveal())) {
            headers.append(name, value);
        }
    }
    // To the letter: the Node SDK refuses a charset.
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(concat!("fanfare/", env!("CARGO_PKG_VERSION"))));
    if let Ok(key) = HeaderValue::from_str(&app.key) {
        headers.insert(KEY, key);
    }
    headers
}

/// Adds what this body has of its own.
pub(super) fn sign<'a>(headers: &mut HeaderMap, app: &App, body: &[u8], jobs: impl Iterator<Item = &'a Job>) {
    let signature = app.secrets.first().map(|secret| auth::sign(secret, body));
    if let Some(Ok(signature)) = signature.map(|hex| HeaderValue::from_str(&hex)) {
        headers.insert(SIGNATURE, signature);
    }
    let ids: Vec<&str> = jobs.map(|job| &*job.id).collect();
    if let Ok(ids) = HeaderValue::from_str(&ids.join(",")) {
        headers.insert(EVENT_ID, ids);
    }
}

#[cfg(test)]
mod tests {
    use model::webhook::WebhookKind;
    use model::{ChannelName, RawJson, Secret, WebhookKinds};

    use super::*;

    fn job(time_ms: u64, happening: Happening) -> Job {
        Job { id: format!("{time_ms}-0").into(), time_ms, channel: ChannelName::new("presence-x").unwrap(), happening }
    }

    #[test]
    fn each_kind_has_pushers_fields() {
        let event = |happening| {
            let body = body([job(5, happening)].iter());
            let text = std::str::from_utf8(&body).unwrap().to_owned();
            let inner =
                text.strip_prefix(r#"{"time_ms":5,"events":[{"name":"#).and_then(|text| text.strip_suffix("}]}"));
            inner.unwrap_or_else(|| panic!("{text}")).to_owned()
        };
        assert_eq!(event(Happening::ChannelOccupied), r#""channel_occupied","channel":"presence-x""#);
        assert_eq!(event(Happening::ChannelVacated), r#""channel_vacated","channel":"presence-x""#);
        assert_eq!(event(Happening::CacheMiss), r#""cache_miss","channel":"presence-x""#);
        let added = event(Happening::MemberAdded("a\"b".into()));
        assert_eq!(added, r#""member_added","channel":"presence-x","user_id":"a\"b""#);
        assert!(event(Happening::MemberRemoved("7".into())).starts_with(r#""member_removed""#));
        let count = event(Happening::SubscriptionCount(3));
        assert_eq!(count, r#""subscription_count","channel":"presence-x","subscription_count":3"#);
        let said = |user: Option<&str>| {
            event(Happening::ClientEvent {
                event: "client-x".into(),
                data: RawJson::parse(r#"{"a":1.0}"#).unwrap(),
                socket: "1.2".parse().unwrap(),
                user: user.map(Into::into),
            })
        };
        let begin = r#""client_event","channel":"presence-x","event":"client-x","data":{"a":1.0},"socket_id":"1.2""#;
        assert_eq!(said(None), begin);
        assert_eq!(said(Some("7")), format!(r#"{begin},"user_id":"7""#));
    }

    #[test]
    fn a_request_is_signed_over_its_very_bytes_and_names_its_events() {
        let app = App::new("1", "the-key", "the-secret");
        let webhook = Webhook {
            name: "hook".into(),
            url: "http://a/".into(),
            kinds: WebhookKinds::NONE.with(WebhookKind::CacheMiss),
            channel_prefix: None,
            channel_suffix: None,
            headers: vec![("x-tenant".into(), Secret::new("7"))],
        };
        let jobs = [job(1, Happening::ChannelOccupied), job(2, Happening::ChannelVacated)];
        let body = body(jobs.iter());
        assert!(body.starts_with(br#"{"time_ms":2,"events":[{"name":"channel_occupied","#));
        let mut headers = fixed_headers(&app, &webhook);
        sign(&mut headers, &app, &body, jobs.iter());
        let header = |name: &str| headers[name].to_str().unwrap();
        assert_eq!((header("content-type"), header("x-pusher-key")), ("application/json", "the-key"));
        assert_eq!((header("x-tenant"), header("x-fanfare-event-id")), ("7", "1-0,2-0"));
        assert_eq!(header("x-pusher-signature"), auth::sign(&app.secrets[0], &body));
    }
}
