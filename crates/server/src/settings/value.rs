//! One value of one setting: read from what somebody wrote, checked against the table, printed again.
//!
//! Every check that concerns a single value is here; what two settings must agree on is checked in `agreement.rs`. An
//! error text says what is wrong and what to write instead, and never shows a secret.

use std::net::SocketAddr;

use fanfare_publisher::RedisUrl;
use hyper::header::{HeaderName, HeaderValue};
use model::{Secret, WebhookKind};

use super::history;
use super::table::{Fallback, Kind, Row};
use crate::endpoint::Target;
use crate::gateway_auth;
use crate::origin::Pattern;

/// What somebody wrote, before we know what it should be.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Written {
    /// Text in quotes, in the file.
    Quoted(String),
    Whole(i128),
    Fraction(f64),
    Switch(bool),
    /// From the environment or a flag, where there are no quotes: a number or text, as the setting wants.
    Plain(String),
    /// Texts in brackets, in the file.
    List(Vec<String>),
    /// What no setting is: its name with its article.
    Other(&'static str),
}

/// A value that fits its row. Printing one for debugging shows no secret.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Scalar {
    Text(String),
    Secret(Secret),
    Whole(u64),
    Seconds(f64),
    Switch(bool),
}

impl Fallback {
    /// The value when nobody wrote one.
    pub(crate) fn scalar(self, kind: Kind) -> Option<Scalar> {
        match self {
            Self::Text(text) if kind.is_secret() => Some(Scalar::Secret(Secret::new(text))),
            Self::Text(text) => Some(Scalar::Text(text.to_owned())),
            Self::Whole(number) => Some(Scalar::Whole(number)),
            Self::Seconds(number) => Some(Scalar::Seconds(number)),
            Self::Switch(on) => Some(Scalar::Switch(on)),
            Self::Absent | Self::Required => None,
        }
    }
}

impl Kind {
    /// True for what must not be shown whole.
    pub(crate) fn is_secret(self) -> bool {
        matches!(self, Self::Secret | Self::RedisUrl | Self::Headers | Self::EchoClients)
    }

    fn is_list(self) -> bool {
        matches!(
            self,
            Self::HttpUrls
                | Self::EchoClients
                | Self::Prefixes
                | Self::HeaderNames
                | Self::Origins
                | Self::WebhookKinds
                | Self::Headers
                | Self::History
        )
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Count { .. } | Self::Bytes { .. } | Self::Seconds { .. })
    }
}

impl Row {
    /// # Errors
    /// What is wrong and what to write instead.
    pub(crate) fn read(&self, written: &Written) -> Result<Scalar, String> {
        match written {
            Written::Other(what) => Err(format!("is {what}; write {}", self.wanted())),
            Written::Switch(on) if self.kind == Kind::Switch => Ok(Scalar::Switch(*on)),
            Written::Switch(_) => Err(format!("is true or false; write {}", self.wanted())),
            Written::List(texts) if self.kind == Kind::Headers => read_headers(texts.iter().map(String::as_str)),
            Written::List(texts) if self.kind.is_list() => self.read_text(&texts.join(", ")),
            Written::List(_) => Err(format!("is a list; write {}", self.wanted())),
            _ if self.kind.is_number() => self.read_number(written),
            Written::Quoted(text) | Written::Plain(text) => self.read_text(text),
            Written::Whole(_) | Written::Fraction(_) => Err(format!("is a number; write {}", self.wanted())),
        }
    }

    fn read_number(&self, written: &Written) -> Result<Scalar, String> {
        let number = match written {
            Written::Whole(number) => *number as f64,
            Written::Fraction(number) => *number,
            Written::Plain(text) => match text.trim().parse::<f64>() {
                Ok(number) => number,
                Err(_) if text.trim().is_empty() => return Err(format!("is empty; write {}", self.wanted())),
                Err(_) => return Err(self.not_a_number(text)),
            },
            Written::Quoted(text) => return Err(self.not_a_number(text)),
            Written::Switch(_) | Written::Other(_) | Written::List(_) => {
                return Err(format!("is no number; write {}", self.wanted()));
            }
        };
        let (min, max) = match self.kind {
            Kind::Count { min, max } => (min as f64, max as f64),
            // More bytes than any machine has, and still exact as a float.
            Kind::Bytes { min } => (min as f64, (1u64 << 50) as f64),
            Kind::Seconds { min, max } => (min, max),
            _ => (0.0, 0.0),
        };
        if number.is_nan() || number < min {
            return Err(format!("{number} is too small; write {}", self.wanted()));
        }
        if number > max {
            return Err(format!("{number} is too large; write {}", self.wanted()));
        }
        match self.kind {
            Kind::Seconds { .. } => Ok(Scalar::Seconds(number)),
            _ if number.fract() != 0.0 => Err(format!("{number} is not whole; write {}", self.wanted())),
            _ => Ok(Scalar::Whole(number as u64)),
        }
    }

    /// Names the number that was meant, where it can be told: `"2s"`, `"64MiB"`, `"8"`.
    fn not_a_number(&self, text: &str) -> String {
        let (_, key) = super::table::split(self.name);
        let meant = match self.kind {
            Kind::Seconds { .. } => {
                in_units(text, &[("", 1.0), ("s", 1.0), ("ms", 0.001), ("m", 60.0), ("h", 3_600.0)])
            }
            Kind::Bytes { .. } => in_units(text, &BYTE_UNITS),
            _ => in_units(text, &[("", 1.0)]),
        };
        match meant {
            Some(number) => format!("{text:?} is text; write a plain number: {key} = {number}"),
            None => format!("{text:?} is not a number; write {}", self.wanted()),
        }
    }

    fn read_text(&self, text: &str) -> Result<Scalar, String> {
        let wanted = || self.wanted();
        let plain = || Ok(Scalar::Text(text.to_owned()));
        match self.kind {
            Kind::Address => match text.parse::<SocketAddr>() {
                Ok(address) => Ok(Scalar::Text(address.to_string())),
                Err(_) => Err(format!("{text:?} is not an address; write {}", wanted())),
            },
            Kind::Switch => match text {
                "true" => Ok(Scalar::Switch(true)),
                "false" => Ok(Scalar::Switch(false)),
                _ => Err(format!("{text:?} is neither; write {}", wanted())),
            },
            Kind::Choice(words) if words.contains(&text) => plain(),
            Kind::Choice(words) => match super::problem::nearest(text, words.iter().copied()) {
                Some(near) => Err(format!("{text:?} is not known; did you mean {near:?}? Write {}", wanted())),
                None => Err(format!("{text:?} is not known; write {}", wanted())),
            },
            Kind::Identifier if is_identifier(text) => plain(),
            Kind::Identifier if text.is_empty() => Err(format!("is empty; write {}", wanted())),
            Kind::Identifier => Err(format!("{text:?} cannot stand in a URL; write {}", wanted())),
            Kind::Secret => read_secret(text),
            Kind::File if text.is_empty() => Err(format!("is empty; write {}", wanted())),
            Kind::File => plain(),
            Kind::RedisUrl => read_redis_url(text),
            Kind::Namespace | Kind::Prefix => self.read_name_start(text),
            Kind::Prefixes => {
                let mut parts = listed(text);
                parts.try_for_each(|part| self.read_name_start(part).map(drop)).and_then(|()| plain())
            }
            Kind::PathPrefix if text.is_empty() || is_path_prefix(text) => plain(),
            Kind::PathPrefix => Err(format!("{text:?} is no beginning of a path; write {}", wanted())),
            Kind::HttpUrl if text.is_empty() => plain(),
            Kind::HttpUrl => Target::parse(text).and_then(|_| plain()),
            Kind::HttpUrls => listed(text).try_for_each(|part| Target::parse(part).map(drop)).and_then(|()| plain()),
            Kind::EchoClients => read_echo_clients(text),
            Kind::HeaderNames => check_header_names(text).and_then(|()| plain()),
            Kind::Origins => listed(text).try_for_each(|part| Pattern::parse(part).map(drop)).and_then(|()| plain()),
            Kind::WebhookKinds => check_webhook_kinds(text).and_then(|()| plain()),
            Kind::Headers => read_headers(text.lines()),
            Kind::History => history::read(text).and_then(|_| plain()),
            Kind::Part if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) => {
                Err(format!("{text:?} is no part of a channel's name; write {}", wanted()))
            }
            Kind::Part => plain(),
            Kind::Filter => match crate::logs::check(text) {
                Ok(()) => plain(),
                Err(why) => Err(format!("{why}; write {}", wanted())),
            },
            Kind::Count { .. } | Kind::Bytes { .. } | Kind::Seconds { .. } => Err(self.not_a_number(text)),
        }
    }

    fn read_name_start(&self, text: &str) -> Result<Scalar, String> {
        if text.is_empty() && self.kind == Kind::Namespace {
            return Err(format!("is empty; write {}", self.wanted()));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("{text:?} has a space or control character; write {}", self.wanted()));
        }
        if !text.is_empty() && (text.starts_with("__key") || "__key".starts_with(text)) {
            // Redis announces changes of its keys on channels that begin so.
            return Err(format!("{text:?} leads to Redis's own `__key…` channels; write another beginning"));
        }
        Ok(Scalar::Text(text.to_owned()))
    }

    /// What to write instead, in words, with an example or the default.
    pub(crate) fn wanted(&self) -> String {
        match self.kind {
            Kind::Address => "an IP address and a port, such as \"127.0.0.1:8080\" or \"0.0.0.0:8080\"".to_owned(),
            Kind::Count { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Bytes { min } => match self.default {
                Fallback::Whole(number) => format!("a whole number of bytes from {min}, such as {number}"),
                _ => format!("a whole number of bytes from {min}"),
            },
            Kind::Seconds { min, max } => format!("a number of seconds from {min} to {max}"),
            Kind::Switch => "true or false".to_owned(),
            Kind::WebhookKinds => format!("names of {}", webhook_kinds()),
            Kind::Headers => "headers with their values, such as [\"Authorization: Bearer …\"]".to_owned(),
            Kind::History => format!("rules of a channel's name, events and seconds, such as [{}]", history::EXAMPLE),
            Kind::Part => "a part of a channel's name, such as \"private-\"; leave it out for all".to_owned(),
            Kind::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                format!("one of {}", quoted.join(", "))
            }
            Kind::Identifier => {
                "1 to 200 letters, digits and signs other than `/ ? # % & : \" \\`, in quotes".to_owned()
            }
            Kind::Secret => "the secret as text, in quotes".to_owned(),
            Kind::File => "the path of a file, in quotes".to_owned(),
            Kind::RedisUrl => "a URL such as \"redis://user:password@host:6379\"".to_owned(),
            Kind::Namespace => "a short beginning for our names in Redis, such as \"ff:\"".to_owned(),
            Kind::Prefix => "the prefix in quotes, such as \"laravel_database_\"; \"\" for none".to_owned(),
            Kind::Prefixes => "prefixes, such as [\"laravel-database-\"]".to_owned(),
            Kind::PathPrefix => "a path such as \"/ws\", or \"\" for none".to_owned(),
            Kind::HttpUrl => "a URL such as \"http://127.0.0.1:8000/a/path\"".to_owned(),
            Kind::HttpUrls => "URLs, such as [\"https://shop.example/broadcasting/auth\"]".to_owned(),
            Kind::EchoClients => "ids with their keys, such as [\"APPID:KEY\"]".to_owned(),
            Kind::HeaderNames => "names of HTTP headers, such as [\"X-Tenant\"]".to_owned(),
            Kind::Origins => "origins, such as [\"https://shop.example\"]".to_owned(),
            Kind::Filter => "a level (\"error\", \"warn\", \"info\", \"debug\", \"trace\") and exceptions, such as \
                             \"info,hub=debug\""
                .to_owned(),
        }
    }
}

const BYTE_UNITS: [(&str, f64); 11] = [
    ("", 1.0),
    ("b", 1.0),
    ("k", 1_024.0),
    ("kb", 1_000.0),
    ("kib", 1_024.0),
    ("m", 1_048_576.0),
    ("mb", 1_000_000.0),
    ("mib", 1_048_576.0),
    ("g", 1_073_741_824.0),
    ("gb", 1_000_000_000.0),
    ("gib", 1_073_741_824.0),
];

/// The number in a text like `64 MiB`, in the unit that counts 1.
fn in_units(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim().to_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    number.parse::<f64>().ok().map(|number| number * factor)
}

fn is_identifier(text: &str) -> bool {
    (1..=200).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && !b"/?#%&:\"\\".contains(&b))
}

fn is_path_prefix(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&b);
    text.starts_with('/') && !text.ends_with('/') && !text.contains("//") && text.bytes().all(fits)
}

/// The parts of a list written as text.
pub(super) fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ']).filter(|part| !part.is_empty())
}

/// Keys are secrets and are never told.
fn read_echo_clients(text: &str) -> Result<Scalar, String> {
    if listed(text).any(|part| part == MASK) {
        return Err("is the mask that print-config prints; write the ids and keys themselves".to_owned());
    }
    let fits = |part: &str| part.split_once(':').is_some_and(|(id, key)| !id.is_empty() && !key.is_empty());
    match listed(text).all(fits) {
        true => Ok(Scalar::Secret(Secret::new(text))),
        false => Err("has an entry without an id, a colon and a key; write [\"APPID:KEY\"]".to_owned()),
    }
}

fn check_header_names(text: &str) -> Result<(), String> {
    for part in listed(text) {
        match part.parse::<HeaderName>() {
            Ok(name) if gateway_auth::may_be_forwarded(&name) => {}
            Ok(_) => return Err(format!("{part:?} is never forwarded: HTTP or proxies write it; leave it out")),
            Err(_) => return Err(format!("{part:?} is no name of a header; write one such as \"X-Tenant\"")),
        }
    }
    Ok(())
}

fn webhook_kinds() -> String {
    WebhookKind::ALL.map(WebhookKind::name).join(", ")
}

fn check_webhook_kinds(text: &str) -> Result<(), String> {
    for part in listed(text) {
        if WebhookKind::from_name(part).is_some() {
            continue;
        }
        let near = super::problem::nearest(part, WebhookKind::ALL.into_iter().map(WebhookKind::name));
        let near = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_else(|| ".".to_owned());
        return Err(format!("{part:?} is no kind of event{near} There are {}", webhook_kinds()));
    }
    match listed(text).next() {
        Some(_) => Ok(()),
        None => Err(format!("is empty, so nothing would be told; write some of {}", webhook_kinds())),
    }
}

/// Headers that a webhook writes itself.
const OF_WEBHOOKS: [&str; 3] = ["x-pusher-key", "x-pusher-signature", "x-fanfare-event-id"];

/// A line for each header. Values may be secrets and are never told.
fn read_headers<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Scalar, String> {
    const EXAMPLE: &str = "write \"Name: value\", such as \"X-Tenant: 7\"";
    let mut kept = Vec::new();
    for line in lines.map(str::trim).filter(|line| !line.is_empty()) {
        if line == MASK {
            return Err("is the mask that print-config prints; write the headers themselves".to_owned());
        }
        let (name, value) = line.split_once(':').ok_or_else(|| format!("a header has no colon; {EXAMPLE}"))?;
        let name: HeaderName = name.trim().parse().map_err(|_| format!("a header has no usable name; {EXAMPLE}"))?;
        if !gateway_auth::may_be_forwarded(&name) || OF_WEBHOOKS.contains(&name.as_str()) {
            return Err(format!("{:?} is written by HTTP or by the webhook itself; leave it out", name.as_str()));
        }
        if value.trim().is_empty() || HeaderValue::from_str(value.trim()).is_err() {
            return Err(format!("the value of {:?} is empty or cannot be sent; {EXAMPLE}", name.as_str()));
        }
        kept.push(format!("{name}: {}", value.trim()));
    }
    Ok(Scalar::Secret(Secret::new(&kept.join("\n"))))
}

/// What `print-config` prints in place of a secret.
pub(crate) const MASK: &str = "***";

/// # Errors
/// What is wrong and what to write instead, without the secret.
pub(crate) fn read_secret(text: &str) -> Result<Scalar, String> {
    let wrong = match text {
        "" => "is empty; write the app's secret",
        MASK => "is the mask that print-config prints; write the secret itself",
        _ if text.chars().any(char::is_control) => "has a line break or control character; write the bare secret",
        _ if text.trim() != text => "has a space at an end; write the bare secret",
        _ => return Ok(Scalar::Secret(Secret::new(text))),
    };
    Err(wrong.to_owned())
}

pub(crate) fn is_sentinel_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| scheme.ends_with("+sentinel"))
}

/// Empty is a value: no Redis.
///
/// # Errors
/// What is wrong and what to write instead, without the URL, which may hold a password.
pub(crate) fn read_redis_url(text: &str) -> Result<Scalar, String> {
    if text.contains(":***@") {
        return Err("has the mask that print-config prints; write the password itself".to_owned());
    }
    if is_sentinel_url(text) {
        backplane::redis::check_sentinel_url(text).map_err(str::to_owned)?;
    } else if !text.is_empty() {
        RedisUrl::parse(text).map_err(|wrong| wrong.to_string())?;
    }
    Ok(Scalar::Secret(Secret::new(text)))
}
