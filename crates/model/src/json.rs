//! JSON text that nobody re-prints.
//!
//! The data of an event stays the bytes it came as, from publisher to socket: key order, `1.0`, twenty-digit numbers and
//! escapes survive. So values travel as checked text, and nesting is bounded before any recursive code sees it.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

/// Deepest nesting that is accepted anywhere: frames, publish bodies, Redis payloads.
pub const DEPTH_MAX: usize = 64;

/// The text of one valid JSON value, without outer white space. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawJson(Bytes);

impl RawJson {
    /// Takes text that a JSON parser has already accepted.
    pub fn from_raw(value: &RawValue) -> Self {
        Self(Bytes::copy_from_slice(value.get().as_bytes()))
    }

    /// Checks the text: one JSON value, nested no deeper than [`DEPTH_MAX`].
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        is_valid(text).then(|| Self(Bytes::copy_from_slice(text.as_bytes())))
    }

    /// The JSON string with this content.
    pub fn string(content: &str) -> Self {
        let mut out = Vec::with_capacity(content.len() + 2);
        push_string(&mut out, content);
        Self(out.into())
    }

    pub fn null() -> Self {
        Self(Bytes::from_static(b"null"))
    }

    pub fn as_str(&self) -> &str {
        // Built from str only.
        std::str::from_utf8(&self.0).unwrap_or("null")
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The content, when the value is a string.
    pub fn string_content(&self) -> Option<String> {
        self.is_string().then(|| serde_json::from_str(self.as_str()).ok()).flatten()
    }

    pub fn is_string(&self) -> bool {
        self.0.first() == Some(&b'"')
    }

    pub fn is_null(&self) -> bool {
        &self.0[..] == b"null"
    }
}

/// True for one JSON value nested no deeper than [`DEPTH_MAX`].
pub fn is_valid(text: &str) -> bool {
    is_shallow(text.as_bytes()) && serde_json::from_str::<&RawValue>(text).is_ok()
}

/// True for text that begins an object. A parser that is told to expect fields takes an array for them too.
pub fn begins_object(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{')
}

/// Reads an object nested no deeper than [`DEPTH_MAX`]. `None` for anything else.
pub fn object<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Option<T> {
    let readable = begins_object(text) && is_shallow(text.as_bytes());
    readable.then(|| serde_json::from_str(text).ok()).flatten()
}

/// True when brackets outside strings nest no deeper than [`DEPTH_MAX`]. One pass, no recursion; says nothing about
/// validity otherwise.
pub fn is_shallow(text: &[u8]) -> bool {
    // What has few brackets at all, as most has, is seen eight or more bytes at a time.
    if text.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() <= DEPTH_MAX {
        return true;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for &byte in text {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return false;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// The content of a JSON string; `None` for another value, and for a string with an escape that is no text.
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let text = raw.get();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(text).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

/// Appends `content` as a JSON string, quotes included.
pub fn push_string(out: &mut Vec<u8>, content: &str) {
    // What needs no escape, as most does not, is copied; the search has no early end, so that it takes many bytes at a time.
    let is_plain = content.bytes().fold(true, |plain, byte| plain & (byte >= b' ' && byte != b'"' && byte != b'\\'));
    if is_plain {
        out.reserve(content.len() + 2);
        out.push(b'"');
        out.extend_from_slice(content.as_bytes());
        out.push(b'"');
        return;
    }
    // Writing a str to a Vec cannot fail.
    let _ = serde_json::to_writer(out, content);
}

/// Appends a value as what a double-encoding protocol wants: a string stays the string it is, anything else becomes a
/// string that holds its text.
pub fn push_as_string(out: &mut Vec<u8>, value: &RawJson) {
    if value.is_string() { out.extend_from_slice(value.as_str().as_bytes()) } else { push_string(out, value.as_str()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_strings_only() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(is_shallow(nested(64).as_bytes()));
        assert!(!is_shallow(nested(65).as_bytes()));
        assert!(!is_shallow("[".repeat(1_000_000).as_bytes()));
        assert!(is_shallow(format!("\"{}\"", "[".repeat(100)).as_bytes()));
        assert!(is_shallow(br#""\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[""#));
    }

    #[test]
    fn values_keep_their_bytes() {
        let raw = RawJson::parse(" {\"a\" : 1.0, \"b\":12345678901234567890} ").unwrap();
        assert_eq!(raw.as_str(), "{\"a\" : 1.0, \"b\":12345678901234567890}");
        assert!(RawJson::parse("{").is_none() && RawJson::parse("1 2").is_none() && RawJson::parse("").is_none());
    }

    #[test]
    fn strings_are_escaped_as_the_library_does() {
        let all: String = (0..=0x2ff).filter_map(char::from_u32).collect();
        let parts = all.char_indices().map(|(at, c)| &all[at..at + c.len_utf8()]).chain(["", "plain", "a\"b", &all]);
        for text in parts {
            let mut out = Vec::new();
            push_string(&mut out, text);
            assert_eq!(out, serde_json::to_vec(text).unwrap(), "{text:?}");
        }
    }

    #[test]
    fn double_encoding_leaves_strings_alone() {
        let mut out = Vec::new();
        push_as_string(&mut out, &RawJson::parse(r#"{"a":"b"}"#).unwrap());
        push_as_string(&mut out, &RawJson::string("x"));
        assert_eq!(out, br#""{\"a\":\"b\"}""x""#);
    }
}
