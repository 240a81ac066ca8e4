//! What a client is told after the application has answered: a signature, or a "no" that a developer understands.
//!
//! Pure: status and body in, status and body out. A signature is made only for an answer that says yes in so many words;
//! whatever else comes with 200 (a login page, `false`, an error object) is a no.

use std::collections::BTreeMap;

use hyper::StatusCode;
use model::channel::{Access, ChannelKind};
use model::{App, SocketId, auth, json};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::api::Refused;

/// What a client asked for, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Question {
    pub(super) socket: SocketId,
    /// `None`: who the user is, not a channel.
    pub(super) channel: Option<String>,
}

/// The longest text of the application that is handed on.
const WORDS_MAX: usize = 4 << 10;

/// The body for the client, from what the application said.
///
/// # Errors
/// 403 when the application did not say yes, its own status where that tells something, 502 for an answer that no client
/// could use.
pub(super) fn answer(app: &App, question: &Question, status: StatusCode, body: &[u8]) -> Result<Vec<u8>, Refused> {
    if !status.is_success() {
        return Err(refusal(status, body));
    }
    let text = std::str::from_utf8(body).unwrap_or_default().trim();
    match &question.channel {
        Some(channel) => grant_channel(app, question.socket, channel, text),
        None => grant_user(app, question.socket, text),
    }
}

fn forbidden(text: &str) -> Refused {
    Refused(StatusCode::FORBIDDEN, text.to_owned())
}

fn unusable(text: impl Into<String>) -> Refused {
    Refused(StatusCode::BAD_GATEWAY, text.into())
}

const FOREIGN_SIGNATURE: &str = "The application signed by itself, and not for this app, socket and channel: compare key \
                                 and secret of the app here and there";

#[derive(Deserialize)]
struct Said<'a> {
    auth: Option<String>,
    /// An object; or its text in a string, as signing back ends write it.
    #[serde(borrow)]
    channel_data: Option<&'a RawValue>,
    user_data: Option<String>,
}

fn grant_channel(app: &App, socket: SocketId, channel: &str, text: &str) -> Result<Vec<u8>, Refused> {
    let kind = ChannelKind::of(channel);
    if text == "true" {
        return match kind {
            ChannelKind { access: Access::Presence, .. } => Err(forbidden(
                "The application answered `true` for a presence channel: its channel callback must return an array \
                 that describes the user",
            )),
            ChannelKind { encrypted: true, .. } => Err(forbidden(NO_SHARED_SECRET)),
            _ => signed_channel(app, socket, channel, None),
        };
    }
    let said: Said = json::object(text).ok_or_else(|| forbidden(NO_YES))?;
    if let Some(auth) = &said.auth {
        let data = said.channel_data.map(|raw| serde_json::from_str::<String>(raw.get()).unwrap_or_default());
        return match auth::verify_channel(app, socket, channel, Some(auth), data.as_deref()) {
            Ok(()) => Ok(text.as_bytes().to_vec()),
            Err(_) => Err(unusable(FOREIGN_SIGNATURE)),
        };
    }
    match (kind.access, said.channel_data) {
        (_, None) => Err(forbidden(NO_YES)),
        (Access::Presence, Some(data)) => {
            let data = channel_data(app, data)?;
            signed_channel(app, socket, channel, Some(&data))
        }
        _ if kind.encrypted => Err(forbidden(NO_SHARED_SECRET)),
        _ => signed_channel(app, socket, channel, None),
    }
}

const NO_YES: &str = "The application answered with success, but neither with `true` nor with channel_data; often that is a \
                      page for people, such as a login";
const NO_SHARED_SECRET: &str =
    "An encrypted channel needs a shared secret, which only a back end that signs by itself gives";

/// The member as clients and nodes expect it: `user_id` is text, `user_info` stays the bytes it came as.
fn channel_data(app: &App, data: &RawValue) -> Result<String, Refused> {
    let inner = serde_json::from_str::<String>(data.get());
    let text = inner.as_deref().unwrap_or(data.get());
    let wrong = |text: &str| unusable(format!("The application's channel_data is of no use: {text}"));
    let member = auth::member(app, text).map_err(|refusal| wrong(refusal.text()))?;
    let mut out = b"{\"user_id\":".to_vec();
    json::push_string(&mut out, &member.id);
    if let Some(info) = &member.info {
        out.extend_from_slice(b",\"user_info\":");
        out.extend_from_slice(info.as_str().as_bytes());
    }
    out.push(b'}');
    // Made of text.
    Ok(String::from_utf8(out).unwrap_or_default())
}

fn signed_channel(app: &App, socket: SocketId, channel: &str, data: Option<&str>) -> Result<Vec<u8>, Refused> {
    let auth = auth::channel_auth(app, socket, channel, data).ok_or_else(|| unusable("The app has no secret"))?;
    Ok(signed("channel_data", &auth, data))
}

fn signed(name: &str, auth: &str, data: Option<&str>) -> Vec<u8> {
    let mut out = b"{\"auth\":".to_vec();
    json::push_string(&mut out, auth);
    if let Some(data) = data {
        out.push(b',');
        json::push_string(&mut out, name);
        out.push(b':');
        json::push_string(&mut out, data);
    }
    out.push(b'}');
    out
}

fn grant_user(app: &App, socket: SocketId, text: &str) -> Result<Vec<u8>, Refused> {
    const NO_USER: &str = "The application answered with success, but not with a user: an object with an `id`";
    let said: Option<Said> = json::object(text);
    if let Some(Said { auth: Some(auth), user_data: Some(data), .. }) = &said {
        return match auth::verify_user(app, socket, Some(auth), data) {
            Ok(()) => Ok(text.as_bytes().to_vec()),
            Err(_) => Err(unusable(FOREIGN_SIGNATURE)),
        };
    }
    let mut user: BTreeMap<String, &RawValue> = json::object(text).ok_or_else(|| forbidden(NO_USER))?;
    let id = user.remove("id").and_then(|id| user_id(app, id)).ok_or_else(|| forbidden(NO_USER))?;
    let mut data = b"{\"id\":".to_vec();
    json::push_string(&mut data, &id);
    for (name, value) in user {
        data.push(b',');
        json::push_string(&mut data, &name);
        data.push(b':');
        data.extend_from_slice(value.get().as_bytes());
    }
    data.push(b'}');
    // Made of text.
    let data = String::from_utf8(data).unwrap_or_default();
    let auth = auth::user_auth(app, socket, &data).ok_or_else(|| unusable("The app has no secret"))?;
    Ok(signed("user_data", &auth, Some(&data)))
}

/// Clients want text; databases count.
fn user_id(app: &App, raw: &RawValue) -> Option<String> {
    let text = raw.get();
    let id = match text.as_bytes()[0] {
        b'"' => serde_json::from_str(text).ok()?,
        b'0'..=b'9' | b'-' => text.to_owned(),
        _ => return None,
    };
    (!id.is_empty() && id.chars().count() <= app.limits.user_id_chars).then_some(id)
}

/// The status for the client and a text that says where to look.
fn refusal(status: StatusCode, body: &[u8]) -> Refused {
    let (status, text) = match status.as_u16() {
        300..=399 => (
            StatusCode::FORBIDDEN,
            "The application redirects: nobody is logged in, or the route is behind middleware that sends people to a \
             page. Redirects are not followed"
                .to_owned(),
        ),
        401 => (
            status,
            "The application says that nobody is logged in: does its cookie or token reach this address?".into(),
        ),
        403 => (status, "The application refuses: nobody is logged in, or the channel callback said no".into()),
        404 => (status, "The application has nothing at the configured address".into()),
        419 => (status, "The application misses its CSRF token or session".into()),
        422 => (status, "The application finds the request invalid".into()),
        429 => (status, "The application has had too many requests".into()),
        other => (StatusCode::BAD_GATEWAY, format!("The application failed with status {other}")),
    };
    match words(body) {
        Some(words) => Refused(status, format!("{text}: {words}")),
        None => Refused(status, text),
    }
}

/// The application's own words: `message` of a short JSON answer.
fn words(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Words {
        message: String,
    }
    let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= WORDS_MAX)?;
    json::object::<Words>(text).map(|said| said.message).filter(|message| !message.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        App::new("3", "278d425bdf160c739803", "7ad3773142a6692b25b8")
    }

    fn ask(channel: Option<&str>, status: u16, body: &str) -> Result<String, (u16, String)> {
        let question = Question { socket: "1234.1234".parse().unwrap(), channel: channel.map(str::to_owned) };
        answer(&app(), &question, StatusCode::from_u16(status).unwrap(), body.as_bytes())
            .map(|body| String::from_utf8(body).unwrap())
            .map_err(|Refused(status, text)| (status.as_u16(), text))
    }

    const FOOBAR: &str =
        r#"{"auth":"278d425bdf160c739803:58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"}"#;

    #[test]
    fn a_yes_is_signed_as_pusher_signs() {
        let private = |body: &str| ask(Some("private-foobar"), 200, body);
        assert_eq!(private("true").as_deref(), Ok(FOOBAR));
        assert_eq!(private(" true\n").as_deref(), Ok(FOOBAR));
        assert_eq!(private(r#"{"channel_data":{"user_id":7,"user_info":[1]}}"#).as_deref(), Ok(FOOBAR));
        assert_eq!(private(FOOBAR).as_deref(), Ok(FOOBAR), "signed by the application already");
    }

    #[test]
    fn a_member_keeps_its_info_to_the_byte_and_gets_its_id_as_text() {
        let check = |data: &str, expected: &str| {
            let body = ask(Some("presence-foobar"), 200, &format!("{{\"channel_data\":{data}}}")).unwrap();
            let said: Said = json::object(&body).unwrap();
            let data: String = serde_json::from_str(said.channel_data.unwrap().get()).unwrap();
            assert_eq!(data, expected);
            let socket = "1234.1234".parse().unwrap();
            let verified = auth::verify_channel(&app(), socket, "presence-foobar", said.auth.as_deref(), Some(&data));
            assert_eq!(verified, Ok(()));
        };
        check(
            r#"{"user_id":7,"user_info":{"z":1.0,"a":"\u00e9"}}"#,
            r#"{"user_id":"7","user_info":{"z":1.0,"a":"\u00e9"}}"#,
        );
        check(r#""{\"user_id\":\"ann\",\"user_info\":[]}""#, r#"{"user_id":"ann","user_info":[]}"#);
        check(r#"{"user_id":"a\"b"}"#, r#"{"user_id":"a\"b"}"#);
    }

    #[test]
    fn a_user_is_signed_whole() {
        let body = ask(None, 200, r#"{"id":12,"user_info":{"n":1.0}}"#).unwrap();
        let said: Said = json::object(&body).unwrap();
        let data = said.user_data.unwrap();
        assert_eq!(data, r#"{"id":"12","user_info":{"n":1.0}}"#);
        assert_eq!(ask(None, 200, &body).as_deref(), Ok(&*body), "signed by the application already");
        let vector = ask(None, 200, r#"{"id":"12345"}"#).unwrap();
        assert!(vector.contains("4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba"), "{vector}");
        for no in ["true", "", "{}", r#"{"id":""}"#, r#"{"id":null}"#, r#"{"id":true}"#, r#"["id"]"#, "<html>"] {
            assert_eq!(ask(None, 200, no).unwrap_err().0, 403, "{no}");
        }
        assert_eq!(ask(None, 200, &body.replace("278d", "278e")).unwrap_err().0, 502);
        assert_eq!(ask(None, 200, &body.replace("12", "13")).unwrap_err().0, 502);
    }

    #[test]
    fn whatever_is_no_yes_is_a_no_that_says_why() {
        let check = |channel: &str, status: u16, body: &str, expected: u16, text: &str| {
            let (found, said) = ask(Some(channel), status, body).unwrap_err();
            assert_eq!(found, expected, "{status} {body}: {said}");
            assert!(said.contains(text), "{status} {body}: {said}");
        };
        let private = "private-foobar";
        for body in
            ["false", "", "null", "1", "[]", "{}", "\"true\"", "<html>", r#"{"error":"x"}"#, "[true]", "true true"]
        {
            check(private, 200, body, 403, "neither with `true`");
        }
        check(private, 200, r#"{"channel_data":null}"#, 403, "neither with `true`");
        check(private, 200, &FOOBAR.replace(":58", ":59"), 502, "key and secret");
        check("private-other", 200, FOOBAR, 502, "key and secret");
        check("presence-foobar", 200, "true", 403, "must return an array");
        check("presence-foobar", 200, r#"{"channel_data":{"user_info":{}}}"#, 502, "user_id");
        let large = format!(r#"{{"channel_data":{{"user_id":1,"user_info":"{}"}}}}"#, "x".repeat(2000));
        check("presence-foobar", 200, &large, 502, "too large");
        check("private-encrypted-x", 200, "true", 403, "shared secret");
        check("private-encrypted-x", 200, r#"{"channel_data":{}}"#, 403, "shared secret");
        check(private, 302, "true", 403, "redirects");
        check(
            private,
            401,
            r#"{"message":"Unauthenticated."}"#,
            401,
            "logged in: does its cookie or token reach this address?: Unauthenticated.",
        );
        check(private, 403, r#"{"message":""}"#, 403, "callback said no");
        check(private, 404, "<html>", 404, "nothing at");
        check(private, 419, "", 419, "CSRF");
        check(private, 422, "", 422, "invalid");
        check(private, 429, "", 429, "too many");
        check(private, 500, &format!(r#"{{"message":"{}"}}"#, "x".repeat(5000)), 502, "status 500");
        check(private, 405, "", 502, "status 405");
        check(private, 200, &format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)), 403, "neither");
    }
}
