//! Asking for a client that shows no signature (Socket.IO, as with laravel-echo-server): its subscribe waits for the application, and
//! what that says becomes the signature.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use hub::{Authority, Question};
use hyper::StatusCode;
use hyper::header::{ACCEPT, COOKIE, HeaderMap, HeaderName, HeaderValue, ORIGIN, REFERER};
use model::{Headers, Proof, Reason, Refusal};
use serde::Deserialize;

use super::answer::{self, Question as Asked};
use super::{Gateway, REQUESTED_WITH, Silence, forwarded, names, page_of, question};
use crate::origin;
use crate::settings::{BackEnd, NamedApp};

/// The gateway as a worker sees it.
pub(crate) struct Asker(pub(crate) Arc<Gateway>);

impl Authority for Asker {
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = Result<Proof, Refusal>>>> {
        let gateway = self.0.clone();
        Box::pin(async move { gateway.grant(question).await })
    }
}

/// Bytes of headers that are kept of a client.
const CREDENTIALS_MAX: usize = 16 << 10;

/// A signature as the endpoint gives it.
#[derive(Deserialize)]
struct Signed {
    auth: String,
    channel_data: Option<String>,
}

impl Gateway {
    /// What the application may see of a client's request, to be kept for a question that comes later: lines of headers. `None`: it
    /// is never asked.
    pub(crate) fn credentials(
        &self,
        app: &NamedApp,
        headers: &HeaderMap,
        peer: IpAddr,
        may_bring_cookies: bool,
    ) -> Option<Box<[u8]>> {
        app.back_end.channels.as_ref()?;
        let mut shown = forwarded(headers, &app.back_end, peer);
        // These two are always the same.
        shown.remove(ACCEPT);
        shown.remove(REQUESTED_WITH);
        if !may_bring_cookies && shown.remove(COOKIE).is_some() {
            let origin = headers.get(ORIGIN);
            tracing::debug!(?origin, app = %app.name, "a foreign page's visitor: his cookies are not shown to the application");
        }
        let mut lines = Vec::new();
        for (name, value) in &shown {
            lines.extend_from_slice(name.as_str().as_bytes());
            lines.push(b':');
            lines.extend_from_slice(value.as_bytes());
            lines.push(b'\n');
        }
        // More than any web server takes: it would be kept for as long as the client stays.
        (lines.len() <= CREDENTIALS_MAX).then(|| lines.into())
    }

    /// True when a visitor's cookies may speak for what this request's page asks of the app.
    pub(crate) fn may_bring_cookies(app: &NamedApp, headers: &HeaderMap) -> bool {
        origin::may_bring_cookies(headers, &app.back_end.origins)
    }

    async fn grant(&self, asked: Question) -> Result<Proof, Refusal> {
        let refused = |status: u16, text: String| Err(Refusal::new(Reason::NotPermitted, text).with_status(status));
        let Question { app, socket, channel, headers, credentials } = asked;
        let Some(desk) = self.directory.now().named(&app).cloned() else {
            return refused(404, "The app is gone".into());
        };
        let Some(headers) = shown(&headers, credentials.as_deref().unwrap_or_default(), &desk.back_end) else {
            return refused(400, "A header of the subscribe cannot be sent on".into());
        };
        let Some(target) = desk.back_end.channels_for(page_of(&headers)) else {
            self.metrics.auth_failed(&app.id, "socket_io");
            return refused(403, format!("apps.{}.auth_url is not set: nobody can be asked", desk.name));
        };
        let question = Asked { socket, channel: Some(channel.as_str().to_owned()) };
        let said = match self.ask_in_turn(target, headers, question::form(&question)).await {
            Ok(said) => said,
            // As laravel-echo-server numbers it.
            Err(Silence { refused: no, is_unreachable: true }) => return refused(0, no.1),
            Err(Silence { refused: no, .. }) => return refused(no.0.as_u16(), no.1),
        };
        match answer::answer(&desk.app, &question, said.status, &said.body) {
            Ok(signed) => proof(&signed),
            Err(no) => {
                self.metrics.auth_failed(&app.id, "socket_io");
                // What the application itself has said is told on as it is.
                let status = if said.status == StatusCode::OK { no.0 } else { said.status };
                refused(status.as_u16(), no.1)
            }
        }
    }
}

fn proof(signed: &[u8]) -> Result<Proof, Refusal> {
    let signed: Option<Signed> = serde_json::from_slice(signed).ok();
    let signed = signed.ok_or_else(|| Refusal::new(Reason::NotPermitted, "No signature could be made"))?;
    let channel_data = signed.channel_data.map(Into::into);
    Ok(Proof { auth: Some(signed.auth.into()), channel_data, show: None })
}

/// The headers for the application: what the client wrote beside its subscribe wins over what came with its request. `None`: one of
/// them cannot stand in a request.
fn shown(written: &Headers, credentials: &[u8], back_end: &BackEnd) -> Option<HeaderMap> {
    let mut shown = HeaderMap::new();
    for line in credentials.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        shown.append(HeaderName::from_bytes(&line[..colon]).ok()?, HeaderValue::from_bytes(&line[colon + 1..]).ok()?);
    }
    for (name, value) in written {
        let Ok(name) = name.parse::<HeaderName>() else { return None };
        let value = HeaderValue::from_str(value).ok()?;
        if ![ORIGIN, REFERER].contains(&name) && names(back_end).any(|known| known == name) {
            shown.insert(name, value);
        }
    }
    shown.insert(ACCEPT, HeaderValue::from_static("application/json"));
    shown.insert(REQUESTED_WITH, HeaderValue::from_static("XMLHttpRequest"));
    Some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_writes_wins_where_it_may_be_shown_at_all() {
        let written = |headers: &[(&str, &str)]| -> Headers {
            headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        };
        let kept = b"cookie:a=1\norigin:https://shop.test\nx-forwarded-for:10.0.0.1\n";
        let back_end = BackEnd { headers: vec![HeaderName::from_static("x-tenant")], ..BackEnd::default() };
        let own = written(&[
            ("Authorization", "Bearer x"),
            ("X-Tenant", "7"),
            ("X-Other", "8"),
            ("Origin", "https://evil.test"),
            ("Host", "evil.test"),
            ("X-Forwarded-For", "6.6.6.6"),
        ]);
        let shown_headers = shown(&own, kept, &back_end).unwrap();
        let value = |name: &str| shown_headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!((value("cookie"), value("authorization")), (Some("a=1"), Some("Bearer x")));
        assert_eq!((value("x-tenant"), value("x-other"), value("host")), (Some("7"), None, None));
        assert_eq!((value("origin"), value("x-forwarded-for")), (Some("https://shop.test"), Some("10.0.0.1")));
        // A page cannot write where it is from either.
        assert_eq!(page_of(&shown_headers), Some("https://shop.test"));
        assert_eq!(value("accept"), Some("application/json"));
        for bad in [("Authorization", "a\r\nX-Evil: 1"), ("Bad Name", "x"), ("Cookie", "\u{0}")] {
            assert!(shown(&written(&[bad]), kept, &back_end).is_none(), "{bad:?}");
        }
    }
}
