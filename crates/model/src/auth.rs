//! Signatures: when a client may listen, and when a request comes from the application.
//!
//! HMAC-SHA256 in lower-case hex with the app secret as key (pusher docs, "Generating authentication strings"). Every
//! comparison takes the same time wherever the first difference is.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

use crate::app::{App, Secret};
use crate::member::{Member, UserId};
use crate::refusal::{Reason, Refusal};
use crate::socket_id::SocketId;

/// How far `auth_timestamp` may be off, in seconds (pusher docs, HTTP API).
pub const TIMESTAMP_WINDOW: u64 = 600;

/// The hex signature of a text.
pub fn sign(secret: &Secret, text: &[u8]) -> String {
    hex::encode(mac(secret, text).finalize().into_bytes())
}

/// The MD5 of a body in hex, as `body_md5` wants it.
pub fn body_md5(body: &[u8]) -> String {
    hex::encode(Md5::digest(body))
}

/// True when one of the app's secrets made the signature.
pub fn verify(app: &App, text: &[u8], signature: &str) -> bool {
    let mut bytes = [0; 32];
    if hex::decode_to_slice(signature, &mut bytes).is_err() {
        return false;
    }
    app.secrets.iter().any(|secret| mac(secret, text).verify_slice(&bytes).is_ok())
}

fn mac(secret: &Secret, text: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()).expect("any key length");
    mac.update(text);
    mac
}

/// What is signed for a private (no `channel_data`) or presence subscription.
pub fn channel_text(socket: SocketId, channel: &str, channel_data: Option<&str>) -> String {
    match channel_data {
        Some(data) => format!("{socket}:{channel}:{data}"),
        None => format!("{socket}:{channel}"),
    }
}

/// `key:signature` for a subscription, as the application's back end would answer.
pub fn channel_auth(app: &App, socket: SocketId, channel: &str, channel_data: Option<&str>) -> Option<String> {
    let secret = app.secrets.first()?;
    Some(format!("{}:{}", app.key, sign(secret, channel_text(socket, channel, channel_data).as_bytes())))
}

/// Checks `key:signature` for a subscription. The key before the colon counts too.
///
/// # Errors
/// `NotPermitted` with a text that says which part is wrong, and never what would be right.
pub fn verify_channel(
    app: &App,
    socket: SocketId,
    channel: &str,
    auth: Option<&str>,
    channel_data: Option<&str>,
) -> Result<(), Refusal> {
    let text = channel_text(socket, channel, channel_data);
    verify_auth(app, auth, &text, Reason::NotPermitted, "This channel needs a signature")
}

/// What is signed for a sign-in (pusher docs, "Authenticating users").
pub fn user_text(socket: SocketId, user_data: &str) -> String {
    format!("{socket}::user::{user_data}")
}

/// `key:signature` for a sign-in, as the application's back end would answer.
pub fn user_auth(app: &App, socket: SocketId, user_data: &str) -> Option<String> {
    let secret = app.secrets.first()?;
    Some(format!("{}:{}", app.key, sign(secret, user_text(socket, user_data).as_bytes())))
}

/// Checks `key:signature` for a sign-in, as [`verify_channel`] does for a subscription.
///
/// # Errors
/// `SignInRefused` with a text that says which part is wrong.
pub fn verify_user(app: &App, socket: SocketId, auth: Option<&str>, user_data: &str) -> Result<(), Refusal> {
    verify_auth(app, auth, &user_text(socket, user_data), Reason::SignInRefused, "A sign-in needs a signature")
}

fn verify_auth(app: &App, auth: Option<&str>, text: &str, reason: Reason, absent: &'static str) -> Result<(), Refusal> {
    let refused = |text: &'static str| Err(Refusal::new(reason, text));
    let Some(auth) = auth.filter(|auth| !auth.is_empty()) else {
        return refused(absent);
    };
    let Some((key, signature)) = auth.split_once(':') else {
        return refused("The signature is not of the form key:signature");
    };
    if key != &*app.key {
        return refused("The signature was made with the key of another app");
    }
    if !verify(app, text.as_bytes(), signature) {
        return Err(reason.into());
    }
    Ok(())
}

/// Reads the member out of `channel_data`, after its signature held.
///
/// # Errors
/// `BadMember` with the field that is wrong.
pub fn member(app: &App, channel_data: &str) -> Result<Member, Refusal> {
    #[derive(serde::Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        user_id: Option<&'a serde_json::value::RawValue>,
        #[serde(borrow)]
        user_info: Option<&'a serde_json::value::RawValue>,
    }
    let bad = |text: &'static str| Refusal::new(Reason::BadMember, text);
    let data: Data = crate::json::object(channel_data).ok_or_else(|| bad("channel_data is not a JSON object"))?;
    let id = data.user_id.map(|raw| raw.get()).ok_or_else(|| bad("channel_data has no user_id"))?;
    let id: String = match id.as_bytes()[0] {
        b'"' => serde_json::from_str(id).map_err(|_| bad("user_id is not text"))?,
        b'0'..=b'9' | b'-' => id.to_owned(),
        _ => return Err(bad("user_id is neither text nor a number")),
    };
    if id.is_empty() || id.chars().count() > app.limits.user_id_chars {
        return Err(bad("user_id is empty or too long"));
    }
    let info = data.user_info.filter(|info| info.get() != "null");
    if info.is_some_and(|info| info.get().len() > app.limits.user_info_bytes) {
        return Err(bad("user_info is too large"));
    }
    Ok(Member { id: id.into(), info: info.map(crate::json::RawJson::from_raw) })
}

/// Who signs in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    pub member: Member,
    /// Whose coming and going he wants to hear of: others than himself, each once, in the order given, at most as many as
    /// the app allows.
    pub watchlist: Vec<UserId>,
    /// There were more.
    pub watchlist_cut: bool,
}

/// Reads the user out of `user_data`, after its signature held.
///
/// # Errors
/// `SignInRefused` with the field that is wrong.
pub fn user(app: &App, user_data: &str) -> Result<User, Refusal> {
    #[derive(serde::Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        id: Option<&'a serde_json::value::RawValue>,
        #[serde(borrow)]
        user_info: Option<&'a serde_json::value::RawValue>,
        #[serde(borrow)]
        watchlist: Option<&'a serde_json::value::RawValue>,
    }
    let bad = |text: &'static str| Refusal::new(Reason::SignInRefused, text);
    let data: Data = crate::json::object(user_data).ok_or_else(|| bad("user_data is not a JSON object"))?;
    let id = data.id.ok_or_else(|| bad("user_data has no id"))?;
    let id: String = serde_json::from_str(id.get()).map_err(|_| bad("The id in user_data is not text"))?;
    if id.is_empty() || id.chars().count() > app.limits.user_id_chars {
        return Err(bad("The id in user_data is empty or too long"));
    }
    if !is_user_id(&id) {
        return Err(bad("The id in user_data has a character other than A-Z a-z 0-9 _ - = @ , . ;"));
    }
    let info = data.user_info.filter(|info| info.get() != "null");
    if info.is_some_and(|info| info.get().len() > app.limits.user_info_bytes) {
        return Err(bad("The user_info in user_data is too large"));
    }
    let listed: Vec<String> = match data.watchlist.map(|raw| raw.get()).filter(|text| *text != "null") {
        None => Vec::new(),
        Some(text) => serde_json::from_str(text).map_err(|_| bad("The watchlist is not an array of texts"))?,
    };
    let mut seen = HashSet::from([&*id]);
    // An id that nobody can have is never online.
    let mut watchlist: Vec<UserId> = listed
        .iter()
        .filter(|other| is_user_id(other) && seen.insert(other))
        .map(|other| UserId::from(&**other))
        .collect();
    let watchlist_cut = watchlist.len() > app.limits.watchlist;
    watchlist.truncate(app.limits.watchlist);
    let member = Member { id: id.into(), info: info.map(crate::json::RawJson::from_raw) };
    Ok(User { member, watchlist, watchlist_cut })
}

/// Pusher's character set for the ids of users who sign in (pusher docs, "Authenticating users").
fn is_user_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-=@,.;".contains(&b))
}

/// The text that signs an HTTP request: method, path, and all query parameters but `auth_signature`, keys in lower case
/// and sorted, values as they are meant (not percent-encoded).
pub fn request_text<S: AsRef<str>>(method: &str, path: &str, query: &[(S, S)]) -> String {
    fn lower(key: &str) -> Cow<'_, str> {
        let is_lower = key.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
        if is_lower { key.into() } else { key.to_lowercase().into() }
    }
    let pairs = query.iter().map(|(key, value)| (lower(key.as_ref()), value.as_ref()));
    let mut pairs: Vec<(Cow<'_, str>, &str)> = pairs.filter(|(key, _)| key != "auth_signature").collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    // One piece of memory: each publish over HTTP has this.
    let length: usize = pairs.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
    let mut text = String::with_capacity(method.len() + path.len() + length + 2);
    text.push_str(&method.to_uppercase());
    text.push('\n');
    text.push_str(path);
    for (number, (key, value)) in pairs.iter().enumerate() {
        text.push(if number == 0 { '\n' } else { '&' });
        text.push_str(key);
        text.push('=');
        text.push_str(value);
    }
    if pairs.is_empty() {
        text.push('\n');
    }
    text
}

/// The query with `name[]=a&name[]=b` (or numbers in the brackets) told as `name=a,b`: so pusher-http-php signs arrays.
/// `None`: it has no such parameter.
pub fn with_arrays_joined<S: AsRef<str>>(query: &[(S, S)]) -> Option<Vec<(String, String)>> {
    fn array(key: &str) -> Option<&str> {
        key.strip_suffix(']').and_then(|key| key.split_once('[')).map(|(name, _)| name)
    }
    if !query.iter().any(|(key, _)| array(key.as_ref()).is_some()) {
        return None;
    }
    let mut joined: Vec<(String, String)> = Vec::with_capacity(query.len());
    // Where each array stands in `joined`. Who asks has not proven anything yet, so this must stay linear.
    let mut arrays: HashMap<&str, usize> = HashMap::new();
    for (key, value) in query.iter().map(|(key, value)| (key.as_ref(), value.as_ref())) {
        match array(key) {
            Some(name) => match arrays.entry(name) {
                Entry::Occupied(at) => {
                    let (_, all) = &mut joined[*at.get()];
                    all.push(',');
                    all.push_str(value);
                }
                Entry::Vacant(at) => {
                    at.insert(joined.len());
                    joined.push((name.to_owned(), value.to_owned()));
                }
            },
            None => joined.push((key.to_owned(), value.to_owned())),
        }
    }
    Some(joined)
}

/// The query that a client of the HTTP API adds to its request, `auth_signature` included.
pub fn sign_request(
    key: &str,
    secret: &Secret,
    method: &str,
    path: &str,
    body: &[u8],
    now: u64,
) -> Vec<(String, String)> {
    let pair = |k: &str, v: String| (k.to_owned(), v);
    let mut query = vec![
        pair("auth_key", key.to_owned()),
        pair("auth_timestamp", now.to_string()),
        pair("auth_version", "1.0".to_owned()),
    ];
    if !body.is_empty() {
        query.push(pair("body_md5", body_md5(body)));
    }
    let signature = sign(secret, request_text(method, path, &query).as_bytes());
    query.push(pair("auth_signature", signature));
    query
}

/// What is signed of an HTTP request, as it arrived: its head, which names the body by its MD5.
#[derive(Debug)]
pub struct Request<'a, S> {
    pub method: &'a str,
    /// As requested, and percent-decoded: SDKs sign the one or the other.
    pub raw_path: &'a str,
    pub path: &'a str,
    pub query: &'a [(S, S)],
}

/// Why a request is not the application's; the words are fit for the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestRefused {
    /// The value of the metric label `kind`.
    pub kind: &'static str,
    pub text: String,
}

impl<'a, S: AsRef<str>> Request<'a, S> {
    /// The value of a parameter that must be there once.
    fn one(&self, name: &str) -> Result<&'a str, RequestRefused> {
        let mut found = self.query.iter().filter(|(k, _)| k.as_ref().eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Ok(value.as_ref()),
            (None, _) => Err(refused("http_signature", format!("The query has no {name}"))),
            _ => Err(refused("http_signature", format!("The query has more than one {name}"))),
        }
    }
}

fn refused(kind: &'static str, text: impl Into<String>) -> RequestRefused {
    RequestRefused { kind, text: text.into() }
}

/// Checks the head of a request of the HTTP API at the time `now`, in seconds since 1970. Whoever passes is the
/// application; what he says is checked by [`verify_body`].
///
/// # Errors
/// The first of: parameter missing or given twice, foreign key, old timestamp, wrong signature.
pub fn verify_head<S: AsRef<str>>(app: &App, request: &Request<'_, S>, now: u64) -> Result<(), RequestRefused> {
    if request.one("auth_key")? != &*app.key {
        return Err(refused("http_signature", "auth_key is not the key of this app"));
    }
    let stamp = request.one("auth_timestamp")?;
    match stamp.parse::<u64>() {
        Ok(stamp) if stamp.abs_diff(now) <= TIMESTAMP_WINDOW => {}
        Ok(_) => {
            let text = format!("auth_timestamp {stamp} is more than {TIMESTAMP_WINDOW} s from the server's time {now}");
            return Err(refused("timestamp", text));
        }
        Err(_) => return Err(refused("timestamp", "auth_timestamp is not a number of seconds")),
    }
    if request.one("auth_version")? != "1.0" {
        return Err(refused("http_signature", "auth_version is not 1.0"));
    }
    let signature = request.one("auth_signature")?;
    if fits(app, request, request.query, signature)
        || with_arrays_joined(request.query).is_some_and(|query| fits(app, request, &query, signature))
    {
        return Ok(());
    }
    Err(refused("http_signature", "auth_signature does not fit the request (method, path, query and body are signed)"))
}

/// True when the request is signed with its query told like this.
fn fits<S, Q: AsRef<str>>(app: &App, request: &Request<'_, S>, query: &[(Q, Q)], signature: &str) -> bool {
    let fits = |path: &str| verify(app, request_text(request.method, path, query).as_bytes(), signature);
    fits(request.raw_path) || (request.path != request.raw_path && fits(request.path))
}

/// Checks that a body is the one that the head was signed for.
///
/// # Errors
/// There is a body, and `body_md5` is missing, given twice or another one's.
pub fn verify_body<S: AsRef<str>>(request: &Request<'_, S>, body: &[u8]) -> Result<(), RequestRefused> {
    if body.is_empty() {
        return Ok(());
    }
    let mut told = [0; 16];
    let is_hex = hex::decode_to_slice(request.one("body_md5")?, &mut told).is_ok();
    if !is_hex || told != *Md5::digest(body) {
        return Err(refused("http_signature", "body_md5 is not the MD5 of the body"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        App::new("3", "278d425bdf160c739803", "7ad3773142a6692b25b8")
    }

    fn socket() -> SocketId {
        SocketId::new(1234, 1234).unwrap()
    }

    // The vectors of pusher docs, "auth-signatures" and "rest-api".
    #[test]
    fn channel_signatures_are_pushers() {
        let app = app();
        let key = &app.key;
        let check = |channel: &str, data: Option<&str>, hex: &str| {
            let auth = format!("{key}:{hex}");
            assert_eq!(channel_auth(&app, socket(), channel, data).as_deref(), Some(&*auth));
            assert_eq!(verify_channel(&app, socket(), channel, Some(&auth), data), Ok(()));
        };
        check("private-foobar", None, "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4");
        check(
            "presence-foobar",
            Some(r#"{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#),
            "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80",
        );
    }

    #[test]
    fn a_signature_is_worth_nothing_elsewhere() {
        let app = app();
        let auth = channel_auth(&app, socket(), "private-a", None).unwrap();
        let hex = auth.split_once(':').unwrap().1;
        let refused = |channel: &str, auth: Option<&str>, data: Option<&str>| {
            assert!(verify_channel(&app, socket(), channel, auth, data).is_err(), "{channel} {auth:?}");
        };
        refused("private-b", Some(&auth), None);
        refused("private-a", Some(&auth), Some("{}"));
        refused("private-a", Some(&format!("other:{hex}")), None);
        refused("private-a", Some(hex), None);
        refused("private-a", Some(""), None);
        refused("private-a", None, None);
        refused("private-a", Some(&auth[..auth.len() - 2]), None);
        let other = SocketId::new(1234, 1235).unwrap();
        assert!(verify_channel(&app, other, "private-a", Some(&auth), None).is_err());
    }

    #[test]
    fn members_are_read_from_signed_data() {
        let app = app();
        let member = |data: &str| member(&app, data).map(|m| (m.id.to_string(), m.info.map(|i| i.as_str().to_owned())));
        assert_eq!(member(r#"{"user_id":10}"#), Ok(("10".into(), None)));
        assert_eq!(member(r#"{"user_id":"a","user_info":{"n":1.0}}"#), Ok(("a".into(), Some(r#"{"n":1.0}"#.into()))));
        for wrong in
            ["", "[]", "{}", r#"{"user_id":null}"#, r#"{"user_id":{}}"#, r#"{"user_id":""}"#, r#"{"user_id":true}"#]
        {
            assert!(member(wrong).is_err(), "{wrong}");
        }
        assert!(member(&format!(r#"{{"user_id":"{}"}}"#, "x".repeat(129))).is_err());
        assert!(member(&format!(r#"{{"user_id":"1","user_info":"{}"}}"#, "x".repeat(1024))).is_err());
    }

    #[test]
    fn sign_ins_are_signed_as_pushers() {
        let app = app();
        let data = r#"{"id":"12345"}"#;
        let auth = format!("{}:4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba", app.key);
        assert_eq!(user_auth(&app, socket(), data).as_deref(), Some(&*auth));
        assert_eq!(verify_user(&app, socket(), Some(&auth), data), Ok(()));
        let hex = auth.split_once(':').unwrap().1;
        let other = SocketId::new(1234, 1235).unwrap();
        for (socket, auth, data) in [
            (socket(), Some(&*auth), r#"{"id":"12346"}"#),
            (other, Some(&*auth), data),
            (socket(), Some(&*format!("other:{hex}")), data),
            (socket(), Some(hex), data),
            (socket(), Some(""), data),
            (socket(), None, data),
        ] {
            let refusal = verify_user(&app, socket, auth, data).unwrap_err();
            assert_eq!(refusal.code(), 4009, "{socket} {auth:?} {data}");
        }
    }

    #[test]
    fn users_are_read_from_signed_data() {
        let mut app = app();
        app.limits.watchlist = 2;
        let read = |data: &str| {
            user(&app, data).map(|u| {
                let info = u.member.info.map(|info| info.as_str().to_owned());
                (u.member.id.to_string(), info, u.watchlist.join(" "), u.watchlist_cut)
            })
        };
        let user = |id: &str, info: Option<&str>, list: &str, cut| {
            Ok((id.to_owned(), info.map(str::to_owned), list.to_owned(), cut))
        };
        assert_eq!(read(r#"{"id":"a"}"#), user("a", None, "", false));
        assert_eq!(read(r#"{"id":"a;1","user_info":{"n":1.0}}"#), user("a;1", Some(r#"{"n":1.0}"#), "", false));
        assert_eq!(read(r#"{"id":"a","user_info":null,"watchlist":null}"#), user("a", None, "", false));
        assert_eq!(read(r#"{"id":"a","watchlist":["b","a","b","c d","c"]}"#), user("a", None, "b c", false));
        assert_eq!(read(r#"{"id":"a","watchlist":["d","c","b"]}"#), user("a", None, "d c", true));
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"id":null}"#,
            r#"{"id":7}"#,
            r#"{"id":""}"#,
            r#"{"id":["a"]}"#,
            r#"{"id":"a b"}"#,
            r#"{"id":"é"}"#,
            r#"{"id":"a","watchlist":{}}"#,
            r#"{"id":"a","watchlist":"b"}"#,
            r#"{"id":"a","watchlist":[7]}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read(&format!(r#"{{"id":"{}"}}"#, "x".repeat(129))).is_err());
        assert!(read(&format!(r#"{{"id":"1","user_info":"{}"}}"#, "x".repeat(1024))).is_err());
    }

    fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn request_signatures_are_pushers() {
        let query = query(&[
            ("auth_version", "1.0"),
            ("auth_key", "278d425bdf160c739803"),
            ("auth_timestamp", "1353088179"),
            ("body_md5", "ec365a775a4cd0599faeb73354201b6f"),
        ]);
        assert_eq!(
            sign(&app().secrets[0], request_text("post", "/apps/3/events", &query).as_bytes()),
            "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
        );
    }

    #[test]
    fn arrays_in_a_query_are_signed_as_php_joins_them() {
        let asked = |pairs: &[(&str, &str)]| with_arrays_joined(&query(pairs));
        assert_eq!(asked(&[("info", "a,b"), ("x", "]")]), None);
        let joined = asked(&[("info[0]", "a"), ("x", "1"), ("info[1]", "b"), ("c[]", "d")]);
        assert_eq!(joined, Some(query(&[("info", "a,b"), ("x", "1"), ("c", "d")])));
        let app = app();
        let signed = |pairs: &[(&str, &str)]| {
            let now = 1_700_000_000;
            let mut signed = sign_request(&app.key, &app.secrets[0], "GET", "/apps/3/channels", b"", now);
            signed.retain(|(key, _)| key != "auth_signature");
            let mut php = signed.clone();
            php.extend(query(&[("info", "a,b")]));
            let signature = sign(&app.secrets[0], request_text("GET", "/apps/3/channels", &php).as_bytes());
            signed.extend(query(pairs));
            signed.extend(query(&[("auth_signature", &signature)]));
            let path = "/apps/3/channels";
            verify_head(&app, &Request { method: "GET", raw_path: path, path, query: &signed }, now)
        };
        assert_eq!(signed(&[("info[0]", "a"), ("info[1]", "b")]), Ok(()));
        assert!(signed(&[("info[0]", "b"), ("info[1]", "a")]).is_err());
    }

    #[test]
    fn many_arrays_in_a_query_cost_no_more_than_their_length() {
        let many: Vec<(String, String)> = (0..30_000).map(|number| (format!("{number}[]"), String::new())).collect();
        let began = std::time::Instant::now();
        assert_eq!(with_arrays_joined(&[&many[..], &many].concat()).map(|joined| joined.len()), Some(30_000));
        // Hundredths of a second; each array looked for among all others takes half a minute.
        assert!(began.elapsed().as_secs() < 2, "{:?}", began.elapsed());
    }

    #[test]
    fn requests_are_checked_to_the_letter() {
        let app = app();
        let body = b"{\"name\":\"foo\"}";
        let now = 1_700_000_000;
        let query = sign_request(&app.key, &app.secrets[0], "POST", "/apps/3/events", body, now);
        let request = |query: &[(String, String)], path: &str, body: &[u8], now: u64| {
            let request = Request { method: "POST", raw_path: path, path, query };
            verify_head(&app, &request, now).and_then(|()| verify_body(&request, body)).map_err(|e| e.text)
        };
        assert_eq!(request(&query, "/apps/3/events", body, now + 600), Ok(()));
        assert!(request(&query, "/apps/3/events", body, now + 601).unwrap_err().contains("auth_timestamp"));
        assert!(request(&query, "/apps/3/events", b"{}", now).unwrap_err().contains("body_md5"));
        assert!(request(&query, "/apps/4/events", body, now).unwrap_err().contains("auth_signature"));
        let mut twice = query.clone();
        twice.push(("auth_key".into(), "x".into()));
        assert!(request(&twice, "/apps/3/events", body, now).unwrap_err().contains("more than one"));
        let foreign = sign_request("other", &app.secrets[0], "POST", "/apps/3/events", body, now);
        assert!(request(&foreign, "/apps/3/events", body, now).unwrap_err().contains("auth_key"));
        assert!(request(&[], "/apps/3/events", body, now).is_err());
    }
}
