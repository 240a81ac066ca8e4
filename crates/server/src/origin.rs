//! Which pages may come: a browser sends a page's origin along and the page cannot change it, so the origin decides.
//!
//! For WebSockets, and for the auth endpoints, where cookies go along whoever made the request.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};

/// One entry of an app's `allowed_origins`, in lower case: `https://shop.example`, `https://*.shop.example` for whatever is
/// below it, or a host alone for any scheme and port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pattern {
    scheme: Option<Box<str>>,
    /// Without `*.`.
    host: Box<str>,
    below: bool,
    port: Option<Box<str>>,
}

impl Pattern {
    /// # Errors
    /// What is wrong and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "write \"https://shop.example\", \"https://*.shop.example\" for what is below it, or \
                               \"shop.example\" for any scheme and port";
        if !text.is_ascii() {
            return Err(format!(
                "{text:?} has a letter that origins do not have: browsers send names in punycode; write them so \
                 (\"https://xn--…\")"
            ));
        }
        let lower = text.to_lowercase();
        if lower == "null" {
            return Err(format!("{text:?} is what any page without an origin sends, and is never allowed; {EXAMPLE}"));
        }
        let (scheme, authority) = match lower.split_once("://") {
            Some((scheme, authority)) => (Some(scheme), authority),
            None => (None, &*lower),
        };
        let (host, port) = host_and_port(authority);
        let (below, host) = host.strip_prefix("*.").map_or((false, host), |host| (true, host));
        if host.contains('*') {
            return Err(format!("{text:?} allows origins that are not known; {EXAMPLE}; an empty list for any page"));
        }
        let is_bare = scheme == Some("") || host.is_empty() || host.starts_with('.');
        if is_bare || authority.contains(['/', '?', '#', '@']) {
            return Err(format!("{text:?} is no origin; {EXAMPLE}, without a path"));
        }
        let port = port.filter(|port| !matches!((scheme, *port), (Some("http"), "80") | (Some("https"), "443")));
        Ok(Self { scheme: scheme.map(Into::into), host: host.into(), below, port: port.map(Into::into) })
    }

    /// `origin`: as a browser sends it, in lower case.
    fn matches(&self, origin: &str) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        let (host, port) = host_and_port(authority);
        let host_fits = if self.below {
            host.strip_suffix(&*self.host).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == &*self.host
        };
        // A browser leaves a scheme's own port out.
        let port_fits = self.port.as_deref() == port || (self.scheme.is_none() && self.port.is_none());
        host_fits && port_fits && self.scheme.as_deref().is_none_or(|own| own == scheme)
    }
}

/// The host of a page's address or origin, in lower case.
pub(crate) fn host(page: &str) -> String {
    let authority = page.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(rest));
    host_and_port(authority).0.to_lowercase()
}

fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Where a request comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Page {
    /// No browser, or one that asks its own server.
    Own,
    /// A page of an allowed origin, which is told so.
    Allowed(HeaderValue),
    Foreign,
}

impl Page {
    pub(crate) fn of(headers: &HeaderMap, allowed: &[Pattern]) -> Self {
        let Some(value) = headers.get(ORIGIN) else { return Self::Own };
        let origin = lower(value.as_bytes());
        if is_allowed(&origin, allowed) {
            return Self::Allowed(value.clone());
        }
        if is_own(&origin, headers.get(HOST).map(HeaderValue::as_bytes)) { Self::Own } else { Self::Foreign }
    }

    /// What lets an allowed page read the answer. Never `*`: cookies are in the game.
    pub(crate) fn permit(&self, headers: &mut HeaderMap) {
        headers.insert(VARY, HeaderValue::from_static("Origin"));
        if let Self::Allowed(origin) = self {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

/// The same question of two headers' values, where there is no answer for the page to read.
pub(crate) fn is_foreign(origin: Option<&[u8]>, host: Option<&[u8]>, allowed: &[Pattern]) -> bool {
    origin.map(lower).is_some_and(|origin| !is_allowed(&origin, allowed) && !is_own(&origin, host))
}

/// True when a visitor's cookies may speak for what a page asks: it is allowed, or came from the same host, whatever the port, so that
/// the cookies are its own too.
pub(crate) fn may_bring_cookies(headers: &HeaderMap, allowed: &[Pattern]) -> bool {
    let Some(origin) = headers.get(ORIGIN).map(|origin| lower(origin.as_bytes())) else { return true };
    let host = headers.get(HOST).map(|host| lower(host.as_bytes())).unwrap_or_default();
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    let same = !authority.is_empty() && host_and_port(authority).0 == host_and_port(&host).0;
    same || is_allowed(&origin, allowed)
}

/// As text in lower case; what is no text matches nothing.
fn lower(origin: &[u8]) -> String {
    str::from_utf8(origin).unwrap_or_default().to_lowercase()
}

fn is_allowed(origin: &str, allowed: &[Pattern]) -> bool {
    allowed.iter().any(|pattern| pattern.matches(origin))
}

/// True when the page came from the very host that it asks.
fn is_own(origin: &str, host: Option<&[u8]>) -> bool {
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    !authority.is_empty() && host.is_some_and(|host| authority.as_bytes().eq_ignore_ascii_case(host))
}

/// The answer to a preflight: which headers a page may send. What is not forwarded does no harm.
pub(crate) fn preflight(forwarded: &[HeaderName], headers: &mut HeaderMap) {
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
            let allowed = ["https://shop.test", "http://localhost:5173"].map(|text| Pattern::parse(text).unwrap());
            Page::of(&headers, &allowed)
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

    #[test]
    fn cookies_are_for_the_own_host_and_for_the_listed() {
        let check = |origin: &str, host: &str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            headers.insert(ORIGIN, origin.parse().unwrap());
            let allowed = [Pattern::parse("https://shop.test").unwrap()];
            assert_eq!(may_bring_cookies(&headers, &allowed), expected, "{origin} {host}");
        };
        check("https://shop.test", "ws.test:6001", true);
        check("https://Ws.test", "ws.test:6001", true);
        check("http://[::1]:3000", "[::1]:6001", true);
        check("https://evil.test", "ws.test:6001", false);
        check("https://ws.test.evil.test", "ws.test", false);
        check("null", "ws.test", false);
        check("null", "", false);
        assert!(may_bring_cookies(&HeaderMap::new(), &[]));
    }

    #[test]
    fn an_entry_that_no_browser_sends_is_refused() {
        for (text, why) in [("null", "never allowed"), ("Null", "never allowed"), ("https://bücher.test", "punycode")]
        {
            let said = Pattern::parse(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
        assert!(Pattern::parse("https://xn--bcher-kva.test").unwrap().matches("https://xn--bcher-kva.test"));
    }

    #[test]
    fn a_pattern_fits_what_it_names_and_nothing_else() {
        let check = |pattern: &str, yes: &[&str], no: &[&str]| {
            let parsed = Pattern::parse(pattern).unwrap();
            yes.iter().for_each(|origin| assert!(parsed.matches(origin), "{pattern} {origin}"));
            no.iter().for_each(|origin| assert!(!parsed.matches(origin), "{pattern} {origin}"));
        };
        check(
            "https://Shop.test",
            &["https://shop.test"],
            &["http://shop.test", "https://shop.test:8443", "shop.test"],
        );
        check("https://shop.test:443", &["https://shop.test"], &["https://shop.test:8443"]);
        check("http://shop.test:8000", &["http://shop.test:8000"], &["http://shop.test", "https://shop.test:8000"]);
        check("shop.test", &["https://shop.test", "http://shop.test:8000"], &["https://a.shop.test", "null", ""]);
        check("shop.test:8000", &["http://shop.test:8000"], &["http://shop.test"]);
        let not_below =
            ["https://shop.test", "https://.shop.test", "https://evilshop.test", "https://a.shop.test.evil"];
        check("https://*.shop.test", &["https://a.shop.test", "https://a.b.shop.test"], &not_below);
        check("*.shop.test", &["http://a.shop.test:1"], &["http://shop.test", "http://shop.test:1"]);
        check("http://[::1]:3000", &["http://[::1]:3000"], &["http://[::1]"]);
        check("capacitor://localhost", &["capacitor://localhost"], &["http://localhost"]);
    }
}
