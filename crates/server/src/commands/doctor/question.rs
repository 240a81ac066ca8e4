//! One GET over HTTP, of an upgrade or not, with the whole answer: what a WebSocket library does not tell.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use super::super::reach::{Address, TIMEOUT, late};

/// More of an answer is not read.
const ANSWER_BYTES: usize = 64 << 10;
/// For the body, once the head is there: a stream without end has none.
const REST: Duration = Duration::from_secs(1);

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Why there is no answer.
pub(super) enum Silence {
    /// No connection, or no TLS.
    Unreachable(String),
    /// A connection, and nothing of HTTP on it.
    NoHttp(String),
}

/// Asks for a path, as written in the request.
pub(super) async fn get(address: &Address, tls: Option<Arc<ClientConfig>>, path: &str) -> Result<Answer, Silence> {
    send(address, tls, Request::get(path)).await
}

/// Asks for a WebSocket, as browsers do.
pub(super) async fn upgrade(address: &Address, tls: Option<Arc<ClientConfig>>, path: &str) -> Result<Answer, Silence> {
    let request = Request::get(path)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, generate_key());
    send(address, tls, request).await
}

async fn send(
    address: &Address,
    tls: Option<Arc<ClientConfig>>,
    request: hyper::http::request::Builder,
) -> Result<Answer, Silence> {
    let request = request.header(HOST, &address.authority).header(USER_AGENT, "fanfare-doctor");
    let no_http = |why: String| Silence::NoHttp(why);
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| no_http(error.to_string()))?;
    let stream = address.open(tls).await.map_err(Silence::Unreachable)?;
    let asking = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        sender.send_request(request).await
    };
    let answer = timeout(TIMEOUT, asking).await.map_err(|_| no_http(late()))?;
    let (head, body) = answer.map_err(|error| no_http(error.to_string()))?.into_parts();
    let body = match head.status.as_u16() {
        // The rest is no HTTP.
        101 => Bytes::new(),
        _ => match timeout(REST, Limited::new(body, ANSWER_BYTES).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            // The head has said enough.
            _ => Bytes::new(),
        },
    };
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}
