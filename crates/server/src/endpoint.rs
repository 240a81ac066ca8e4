//! An application's own endpoint: one fixed address, spoken to over http or https.
//!
//! Nothing of the address comes from a client, and no redirect is followed. Certificates are checked against the roots that
//! publishers use, too: Mozilla's, which are built in, and what the system trusts beside them (`SSL_CERT_FILE` names another
//! store).

use std::error::Error;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderMap, HeaderValue, SET_COOKIE};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::time::timeout;

/// Where the application answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    uri: Uri,
    /// As written, for the `Host` header.
    host: HeaderValue,
}

impl Target {
    /// # Errors
    /// What is wrong with the URL and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "write a URL such as \"http://127.0.0.1:8000/a/path\" or \"https://app.example/a/path\"";
        // Nothing of it is repeated: there may be a token in it.
        let uri: Uri = text.parse().map_err(|_| format!("is not a URL; {EXAMPLE}"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(format!("does not begin with http:// or https://; {EXAMPLE}"));
        }
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        if authority.contains('@') {
            return Err(format!("has a user or password, which are not sent; {EXAMPLE}"));
        }
        if text.contains('#') || uri.host().is_none_or(str::is_empty) || authority.ends_with(':') {
            return Err(format!("is not the URL of an endpoint; {EXAMPLE}"));
        }
        let host = HeaderValue::from_str(authority).map_err(|_| format!("is not a URL; {EXAMPLE}"))?;
        Ok(Self { uri, host })
    }

    /// The origin of the application's pages, if they are served where its endpoint is. Without path and query: it may be
    /// logged.
    pub(crate) fn origin(&self) -> String {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let authority = self.uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let usual = if scheme == "https" { ":443" } else { ":80" };
        format!("{scheme}://{}", authority.strip_suffix(usual).unwrap_or(authority)).to_lowercase()
    }
}

/// What the application said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: StatusCode,
    /// Sessions are prolonged by every answer; without these users would be logged out.
    pub(crate) cookies: Vec<HeaderValue>,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Unheard {
    /// No connection, or no certificate that is trusted.
    Unreachable(String),
    /// The connection ended before the answer did, or the answer is too large or not HTTP.
    Broken(String),
}

/// The largest answer that is read.
const ANSWER_BYTES: usize = 64 << 10;

/// How long a connection that is kept may be idle: less than most servers keep theirs.
const IDLE: Duration = Duration::from_secs(4);

/// How long the rest of an answer is waited for when only its head counts.
const REST: Duration = Duration::from_secs(1);

type Client = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Who speaks to endpoints.
#[derive(Default)]
pub(crate) struct Caller {
    /// Idle connections that are kept for each endpoint.
    kept: usize,
    /// Made at the first call: reading the system's roots takes a while, and most nodes call nobody.
    client: OnceLock<Client>,
}

impl Caller {
    /// `kept`: how many idle connections are kept for each endpoint. 0: each call has its own.
    pub(crate) fn new(kept: usize) -> Self {
        Self { kept, client: OnceLock::new() }
    }

    /// Posts and reads the answer. Has no time limit of its own.
    ///
    /// # Cancel safety
    /// Dropped, it closes its connection; the application may have taken the request.
    pub(crate) async fn post(&self, to: &Target, headers: HeaderMap, body: Bytes) -> Result<Said, Unheard> {
        let (head, body) = self.send(to, headers, body).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| Unheard::Broken(error.to_string()))?.to_bytes();
        let cookies = head.headers.get_all(SET_COOKIE).iter().cloned().collect();
        Ok(Said { status: head.status, cookies, body })
    }

    /// Posts and hears the head of the answer. Has no time limit of its own.
    ///
    /// # Cancel safety
    /// As [`Self::post`].
    pub(crate) async fn send(
        &self,
        to: &Target,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Unheard> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = to.uri.clone();
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, to.host.clone());
        self.client().request(request).await.map_err(|error| {
            let why = innermost(&error);
            if error.is_connect() { Unheard::Unreachable(why) } else { Unheard::Broken(why) }
        })
    }

    fn client(&self) -> &Client {
        self.client.get_or_init(|| {
            let mut tcp = HttpConnector::new();
            tcp.enforce_http(false);
            tcp.set_nodelay(true);
            let tls = HttpsConnectorBuilder::new().with_tls_config(tls()).https_or_http().enable_http1();
            legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(self.kept)
                .build(tls.wrap_connector(tcp))
        })
    }
}

/// Reads the rest of an answer of which only the head counts, as far as that keeps the connection.
pub(crate) async fn read_off(answer: Response<Incoming>) {
    // However it ends: what counts has been said.
    let _ = timeout(REST, Limited::new(answer.into_body(), ANSWER_BYTES).collect()).await;
}

fn tls() -> ClientConfig {
    ClientConfig::builder().with_root_certificates(fanfare_publisher::tls::roots()).with_no_client_auth()
}

/// The words of the first cause: the others only say where it was met.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_checked_before_anybody_is_asked() {
        let target = Target::parse("http://App.test/broadcasting/auth?x=1").unwrap();
        assert_eq!(target.uri.path_and_query().unwrap(), "/broadcasting/auth?x=1");
        assert_eq!(target.origin(), "http://app.test");
        let origin = |text: &str| Target::parse(text).unwrap().origin();
        assert_eq!(origin("http://[::1]:81"), "http://[::1]:81");
        assert_eq!(origin("https://App.test:443/x"), "https://app.test");
        assert_eq!(origin("https://app.test:80/x"), "https://app.test:80");
        let wrong = |text: &str, why: &str| {
            let said = Target::parse(text).unwrap_err();
            assert!(said.contains(why) && said.contains("http://127.0.0.1:8000/"), "{text}: {said}");
            assert!(!said.contains("secret"), "{said}");
        };
        wrong("app.test:8000", "does not begin with http://");
        wrong("/broadcasting/auth", "does not begin");
        wrong("ftp://app.test/", "does not begin");
        wrong("http://user:pass@app.test/", "user or password");
        wrong("http://app.test/#x", "not the URL");
        wrong("http://", "not");
        wrong("http://a b/", "not a URL");
        wrong("http://a/ b?secret", "not a URL");
        wrong("ftp://a/?secret", "does not begin");
        wrong("http://a/?secret#x", "not the URL");
    }
}
