//! Which pages may ask: cookies go with a browser's request whoever made it, so the page's origin decides.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};

/// Where a request comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Page {
    /// No browser, or one that asks its own server.
    Own,
    /// A page of an allowed origin, which is told so.
    Allowed(HeaderValue),
    Foreign,
}

impl Page {
    /// `allowed` in lower case.
    pub(super) fn of(headers: &HeaderMap, allowed: &[String]) -> Self {
        let Some(value) = headers.get(ORIGIN) else { return Self::Own };
        let origin = value.to_str().unwrap_or_default().to_lowercase();
        if allowed.contains(&origin) {
            return Self::Allowed(value.clone());
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        let is_own = !host.is_empty() && authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host));
        if is_own { Self::Own } else { Self::Foreign }
    }

    /// What lets an allowed page read the answer. Never `*`: cookies are in the game.
    pub(super) fn permit(&self, headers: &mut HeaderMap) {
        headers.insert(VARY, HeaderValue::from_static("Origin"));
        if let Self::Allowed(origin) = self {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

/// The answer to a preflight: which headers a page may send. What is not forwarded does no harm.
pub(super) fn preflight(forwarded: &[HeaderName], headers: &mut HeaderMap) {
    let mut names = "content-type, x-socket-id".to_owned();
    for name in forwarded {
        names.push_str(", ");
        names.push_str(name.as_str());
    }
    // Names of headers make a header's value.
    if let Ok(names) = HeaderValue::from_str(&names) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_and_the_listed_pages_may_ask() {
        let page = |origin: Option<&str>, host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            origin.map(|origin| headers.insert(ORIGIN, origin.parse().unwrap()));
            Page::of(&headers, &["https://shop.test".to_owned(), "http://localhost:5173".to_owned()])
        };
        let allowed = |origin: &str| Page::Allowed(origin.parse().unwrap());
        assert_eq!(page(None, "ws.test"), Page::Own);
        assert_eq!(page(Some("https://WS.test"), "ws.test"), Page::Own);
        assert_eq!(page(Some("http://ws.test:8080"), "ws.test:8080"), Page::Own);
        assert_eq!(page(Some("https://Shop.test"), "ws.test"), allowed("https://Shop.test"));
        assert_eq!(page(Some("http://localhost:5173"), "ws.test"), allowed("http://localhost:5173"));
        for foreign in
            ["https://evil.test", "http://shop.test", "https://shop.test.evil.test", "null", "", "https://ws.test:1"]
        {
            assert_eq!(page(Some(foreign), "ws.test"), Page::Foreign, "{foreign}");
        }
        assert_eq!(page(Some("null"), ""), Page::Foreign);
    }
}
