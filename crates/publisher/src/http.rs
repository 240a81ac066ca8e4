//! The road over the HTTP API: `POST /apps/{id}/events` and `/batch_events`, signed (pusher docs, HTTP API).
//!
//! Connections are kept alive and reused; concurrent calls each have their own. A request that certainly was not sent (its
//! connection had been closed while idle) is sent again on a new one; nothing else is ever repeated.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode, Uri, body::Incoming};
use hyper_util::rt::TokioIo;
use model::{Secret, auth, json};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::error::PublishError;
use crate::event::Event;
use crate::{BATCH_MAX, Published, tls};

/// Connections kept while nobody uses them.
const IDLE_MAX: usize = 16;

/// The most of an answer that is read: it is `{}` or a sentence.
const ANSWER_MAX: usize = 65_536;

pub(crate) struct Http {
    /// `http` or `https`.
    scheme: &'static str,
    host: String,
    /// `host:port`.
    address: String,
    /// What stands before `/apps`, for a node behind a path.
    base: String,
    app_id: String,
    key: String,
    secret: Secret,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    /// Made at the first connection of https, unless the caller brought one: reading the system's roots takes a while.
    tls: OnceLock<Arc<ClientConfig>>,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Http({}://{}{}/apps/{})", self.scheme, self.address, self.base, self.app_id)
    }
}

impl Http {
    pub(crate) fn new(url: &str, app_id: &str, key: &str, secret: Secret) -> Result<Self, PublishError> {
        let bad = |text: &str| PublishError::BadAddress(format!("{text}; write http://host:port or https://host"));
        let uri: Uri = url.parse().map_err(|_| bad("The address is not a URL"))?;
        let (scheme, usual) = match uri.scheme_str() {
            Some("http") => ("http", 80),
            Some("https") => ("https", 443),
            _ => return Err(bad("The address is not one of HTTP")),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad("The address has no host"))?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) || uri.query().is_some() {
            return Err(bad("The address has a user or a query, which mean nothing here"));
        }
        Ok(Self {
            scheme,
            host: host.to_owned(),
            address: format!("{host}:{}", uri.port_u16().unwrap_or(usual)),
            base: uri.path().trim_end_matches('/').to_owned(),
            app_id: app_id.to_owned(),
            key: key.to_owned(),
            secret,
            idle: Mutex::new(Vec::new()),
            tls: OnceLock::new(),
        })
    }

    pub(crate) fn set_tls(&mut self, config: Arc<ClientConfig>) {
        self.tls = config.into();
    }

    pub(crate) async fn publish(&self, event: &Event, timeout: Duration) -> Result<Published, PublishError> {
        let mut body = b"{\"channels\":[".to_vec();
        for (at, channel) in event.channels.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            json::push_string(&mut body, channel);
        }
        body.extend_from_slice(b"],");
        push_rest(&mut body, event);
        self.post("events", body.into(), timeout).await
    }

    /// A batch entry has one channel.
    pub(crate) async fn publish_all(&self, events: &[Event], timeout: Duration) -> Result<Published, PublishError> {
        let entries: Vec<(&str, &Event)> =
            events.iter().flat_map(|event| event.channels.iter().map(move |channel| (&**channel, event))).collect();
        for some in entries.chunks(BATCH_MAX) {
            let mut body = b"{\"batch\":[".to_vec();
            for (at, (channel, event)) in some.iter().enumerate() {
                body.extend_from_slice(if at > 0 { b",{\"channel\":" } else { b"{\"channel\":" });
                json::push_string(&mut body, channel);
                body.push(b',');
                push_rest(&mut body, event);
            }
            body.extend_from_slice(b"]}");
            self.post("batch_events", body.into(), timeout).await?;
        }
        Ok(Published::default())
    }

    async fn post(&self, what: &str, body: Bytes, timeout: Duration) -> Result<Published, PublishError> {
        let path = format!("{}/apps/{}/{what}", self.base, escaped(&self.app_id));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let query: Vec<String> = auth::sign_request(&self.key, &self.secret, "POST", &path, &body, now)
            .iter()
            .map(|(name, value)| format!("{name}={}", escaped(value)))
            .collect();
        let request = Request::post(format!("{path}?{}", query.join("&")))
            .header("host", &self.address)
            .header("content-type", "application/json")
            .header("user-agent", concat!("fanfare-publisher/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| PublishError::BadAddress(error.to_string()))?;
        let (mut response, connection) = self.send(request, timeout).await?;
        let status = response.status();
        let text = tokio::time::timeout(timeout, Limited::new(response.body_mut(), ANSWER_MAX).collect()).await;
        let text = match text {
            Ok(Ok(text)) => {
                self.keep(connection);
                text.to_bytes()
            }
            // The status has said enough; the connection is of no more use.
            _ => Bytes::new(),
        };
        if status.is_success() { Ok(Published::default()) } else { Err(refused(status, &text)) }
    }

    async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), PublishError> {
        loop {
            let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop()).filter(|one| !one.is_closed());
            let was_idle = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                None => self.connect(timeout).await?,
            };
            let answer = match tokio::time::timeout(timeout, connection.try_send_request(request)).await {
                Ok(answer) => answer,
                Err(_) => return Err(self.lost(&format!("no answer within {} s", timeout.as_secs_f64()))),
            };
            match answer {
                Ok(response) => return Ok((response, connection)),
                Err(mut error) => match error.take_message() {
                    // Not one byte of it left; the next turn takes another idle connection or, at last, a new one.
                    Some(unsent) if was_idle => request = unsent,
                    Some(_) => return Err(self.unreachable(error.error().to_string())),
                    None => return Err(self.lost(&error.error().to_string())),
                },
            }
        }
    }

    async fn connect(&self, timeout: Duration) -> Result<SendRequest<Full<Bytes>>, PublishError> {
        match tokio::time::timeout(timeout, self.connect_at_leisure()).await {
            Ok(connected) => connected.map_err(|why| self.unreachable(why)),
            Err(_) => Err(self.unreachable(format!("no answer within {} s", timeout.as_secs_f64()))),
        }
    }

    async fn connect_at_leisure(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = TcpStream::connect(&self.address).await.map_err(|error| error.to_string())?;
        // Without it a small request waits for the answer to the one before. Where it cannot be set, that is all.
        let _ = stream.set_nodelay(true);
        if self.scheme == "http" {
            return begin(stream).await;
        }
        let config = match self.tls.get() {
            Some(config) => config.clone(),
            None => {
                let made = tls::config().map_err(|error| error.to_string())?;
                self.tls.get_or_init(|| made.into()).clone()
            }
        };
        begin(tls::connect(config, &self.host, stream).await?).await
    }

    fn keep(&self, connection: SendRequest<Full<Bytes>>) {
        if let Ok(mut idle) = self.idle.lock()
            && idle.len() < IDLE_MAX
            && !connection.is_closed()
        {
            idle.push(connection);
        }
    }

    fn unreachable(&self, why: String) -> PublishError {
        PublishError::CannotReach { address: format!("{}://{}", self.scheme, self.address), why }
    }

    fn lost(&self, why: &str) -> PublishError {
        PublishError::MayHaveHappened(format!("The answer of {}://{} was lost ({why})", self.scheme, self.address))
    }
}

/// Begins a conversation in HTTP.
async fn begin(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, String> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Ends by itself when the sender is dropped or the other side closes; errors reach the sender.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// Name, data and socket id, and the end of the object. Data that is a JSON string is that string; any other is a string
/// that holds its text.
fn push_rest(body: &mut Vec<u8>, event: &Event) {
    body.extend_from_slice(b"\"name\":");
    json::push_string(body, &event.name);
    body.extend_from_slice(b",\"data\":");
    json::push_as_string(body, &event.data);
    if let Some(id) = &event.socket_id {
        body.extend_from_slice(b",\"socket_id\":");
        json::push_string(body, id);
    }
    body.push(b'}');
}

/// The other side's words: the `error` of a JSON answer, else its text.
fn refused(status: StatusCode, answer: &[u8]) -> PublishError {
    let parsed = serde_json::from_slice::<serde_json::Value>(answer).ok();
    let said = parsed.as_ref().and_then(|value| value.get("error")?.as_str());
    let text = match said {
        Some(said) => said.to_owned(),
        None => String::from_utf8_lossy(answer).trim().chars().take(200).collect(),
    };
    let text = if text.is_empty() { status.canonical_reason().unwrap_or("no reason given").to_owned() } else { text };
    match status.as_u16() {
        413 => PublishError::TooLarge(text),
        status => PublishError::Refused { status: Some(status), text },
    }
}

/// Percent-encoding for a part of a path or query.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::RawJson;

    #[test]
    fn data_becomes_a_string_once() {
        let rest = |data: RawJson| {
            let mut body = Vec::new();
            push_rest(&mut body, &Event::new("c", "e", data));
            String::from_utf8(body).unwrap()
        };
        assert_eq!(rest(RawJson::parse(r#"{"a":1.0}"#).unwrap()), r#""name":"e","data":"{\"a\":1.0}"}"#);
        assert_eq!(rest(RawJson::string("hi")), r#""name":"e","data":"hi"}"#);
    }

    #[test]
    fn an_address_is_checked_before_anything_is_sent() {
        let check = |url: &str, text: &str| match Http::new(url, "1", "k", Secret::new("s")) {
            Err(PublishError::BadAddress(said)) => assert!(said.contains(text), "{url}: {said}"),
            other => panic!("{url}: {other:?}"),
        };
        check("ftp://h", "not one of HTTP");
        check("localhost:8080", "not one of HTTP");
        check("h", "not one of HTTP");
        check("http://user@h", "a user");
        check("http://h/?a=b", "a query");
        let http = Http::new("http://h/base/", "1", "k", Secret::new("s")).unwrap();
        assert_eq!((&*http.address, &*http.base), ("h:80", "/base"));
        let port = |url: &str| Http::new(url, "1", "k", Secret::new("s")).unwrap().address;
        assert_eq!((port("https://h"), port("https://h:8443")), ("h:443".into(), "h:8443".into()));
        assert_eq!(Http::new("http://[::1]:81", "1", "k", Secret::new("s")).unwrap().address, "[::1]:81");
    }
}
