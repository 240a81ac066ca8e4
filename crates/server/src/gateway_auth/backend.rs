//! The application's own endpoint: one fixed address, asked with one request a connection.
//!
//! Nothing of the address comes from a client, and no redirect is followed.

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, SET_COOKIE};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Where the application answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    /// `host:port`, for connecting; an IPv6 address in its brackets.
    address: String,
    /// As written, for the `Host` header and as an origin.
    authority: String,
    /// With the query, if there is one.
    path: String,
}

impl Target {
    /// # Errors
    /// What is wrong with the URL and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "write a URL such as \"http://127.0.0.1:8000/broadcasting/auth\"";
        let uri: Uri = text.parse().map_err(|_| format!("{text:?} is not a URL; {EXAMPLE}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!(
                    "{text:?} asks for TLS, which is not spoken to applications yet; {EXAMPLE}, an address inside \
                     your network"
                ));
            }
            _ => return Err(format!("{text:?} does not begin with http://; {EXAMPLE}")),
        }
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        if authority.contains('@') {
            return Err(format!("has a user or password, which are not sent; {EXAMPLE}"));
        }
        if text.contains('#') || uri.host().is_none_or(str::is_empty) || (authority.ends_with(':')) {
            return Err(format!("{text:?} is not the URL of an endpoint; {EXAMPLE}"));
        }
        let address = format!("{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80));
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self { address, authority: authority.to_owned(), path: path.to_owned() })
    }

    /// The origin of the application's pages, if they are served where its endpoint is.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.authority.trim_end_matches(":80")).to_lowercase()
    }
}

/// The largest answer that is read.
const ANSWER_BYTES: usize = 64 << 10;

/// What the application said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: StatusCode,
    /// Sessions are prolonged by every answer; without these users would be logged out.
    pub(super) cookies: Vec<HeaderValue>,
    pub(super) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unheard {
    Unreachable(io::Error),
    /// The connection ended before the answer did, or the answer is too large or not HTTP.
    Broken(String),
}

impl Target {
    /// Posts a form and reads the answer. Has no time limit of its own.
    ///
    /// # Cancel safety
    /// Dropped, it closes its connection; the application may have taken the request.
    pub(super) async fn ask(&self, headers: HeaderMap, form: String) -> Result<Said, Unheard> {
        let stream = TcpStream::connect(&self.address).await.map_err(Unheard::Unreachable)?;
        // Where it cannot be set the request is only slower.
        let _ = stream.set_nodelay(true);
        let broken = |error: hyper::Error| Unheard::Broken(error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut request = Request::new(Full::new(Bytes::from(form)));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.path.parse().map_err(|_| Unheard::Broken("the path is not one of HTTP".into()))?;
        *request.headers_mut() = headers;
        let host = HeaderValue::from_str(&self.authority).map_err(|error| Unheard::Broken(error.to_string()))?;
        request.headers_mut().insert(HOST, host);
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, form);
        let exchange = async move {
            let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| Unheard::Broken(error.to_string()))?.to_bytes();
            let cookies = head.headers.get_all(SET_COOKIE).iter().cloned().collect();
            Ok(Said { status: head.status, cookies, body })
        };
        // The connection only carries; whatever breaks it reaches the exchange.
        let carry = async {
            let _ = connection.await;
            std::future::pending().await
        };
        tokio::select! {
            said = exchange => said,
            never = carry => never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_checked_before_anybody_is_asked() {
        let target = Target::parse("http://App.test/broadcasting/auth?x=1").unwrap();
        assert_eq!((&*target.address, &*target.path), ("App.test:80", "/broadcasting/auth?x=1"));
        assert_eq!(target.origin(), "http://app.test");
        assert_eq!(Target::parse("http://[::1]:81").unwrap().address, "[::1]:81");
        let wrong = |text: &str, why: &str| {
            let said = Target::parse(text).unwrap_err();
            assert!(said.contains(why) && said.contains("http://127.0.0.1:8000/"), "{text}: {said}");
        };
        wrong("https://app.test/broadcasting/auth", "TLS");
        wrong("app.test:8000", "does not begin with http://");
        wrong("/broadcasting/auth", "does not begin");
        wrong("ftp://app.test/", "does not begin");
        wrong("http://user:pass@app.test/", "user or password");
        wrong("http://app.test/#x", "not the URL");
        wrong("http://", "not");
        wrong("http://a b/", "not a URL");
    }
}
