//! What a client may ask: read from a form or a JSON object, and checked before the application hears of it.

use model::channel::Access;
use model::{ChannelKind, ChannelName, SocketId, json};
use serde::Deserialize;

use super::answer::Question;
use crate::door::pairs;

#[derive(Deserialize, Default)]
struct Asked {
    socket_id: Option<String>,
    channel_name: Option<String>,
}

/// Reads the question; `of_channel`: not one of a user.
///
/// # Errors
/// The first thing that is wrong, in words for a developer.
pub(super) fn read(body: &[u8], of_channel: bool) -> Result<Question, String> {
    let text = std::str::from_utf8(body).map_err(|_| "The body is not UTF-8".to_owned())?;
    let asked = if json::begins_object(text) {
        json::object(text).ok_or("The body is not a JSON object with socket_id and channel_name as text")?
    } else {
        let mut form = pairs(text);
        // Given twice, the last one counts, as in PHP.
        let mut take =
            |name: &str| form.iter().rposition(|(key, _)| key == name).map(|at| form.swap_remove(at).1.into_owned());
        Asked { socket_id: take("socket_id"), channel_name: take("channel_name") }
    };
    let socket = asked.socket_id.ok_or("socket_id is missing: send it as a form or as JSON")?;
    let socket: SocketId = socket.parse().map_err(|_| "socket_id is not one of this server".to_owned())?;
    let channel = if of_channel { Some(channel(asked.channel_name)?) } else { None };
    Ok(Question { socket, channel })
}

fn channel(name: Option<String>) -> Result<String, String> {
    let name = name.ok_or("channel_name is missing: send it as a form or as JSON")?;
    ChannelName::new(&name).map_err(|wrong| wrong.0.to_owned())?;
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-=@,.;".contains(&b)) {
        return Err("channel_name has other characters than A-Z a-z 0-9 _ - = @ , . ;".to_owned());
    }
    if !matches!(ChannelKind::of(&name).access, Access::Private | Access::Presence) {
        return Err("channel_name begins with neither private- nor presence-: it needs no signature".to_owned());
    }
    Ok(name)
}

/// The same two fields for the application.
pub(super) fn form(question: &Question) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("socket_id", &question.socket.to_string());
    if let Some(channel) = &question.channel {
        form.append_pair("channel_name", channel);
    }
    form.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_and_json_ask_the_same() {
        let ask = |body: &str| read(body.as_bytes(), true).unwrap();
        let question = ask("socket_id=1.2&channel_name=private-a%40b&more=x");
        assert_eq!(question, ask(r#" {"channel_name":"private-a@b","socket_id":"1.2","more":[1]}"#));
        assert_eq!(question, ask("channel_name=news&socket_id=1.2&channel_name=private-a@b"));
        assert_eq!(form(&question), "socket_id=1.2&channel_name=private-a%40b");
        assert_eq!(form(&read(b"socket_id=1.2&channel_name=x", false).unwrap()), "socket_id=1.2");
    }

    #[test]
    fn nothing_else_gets_through() {
        let refused = |body: &str, why: &str| {
            let said = read(body.as_bytes(), true).unwrap_err();
            assert!(said.contains(why), "{body}: {said}");
        };
        refused("", "socket_id is missing");
        refused("socket_id=1.2", "channel_name is missing");
        refused("{\"socket_id\":1.2,\"channel_name\":\"private-a\"}", "not a JSON object");
        refused("{\"socket_id\"", "not a JSON object");
        for id in ["", "1", "1.2:private-b", "1.2%0A", "1.99999999999", "-1.2", "1.2.3"] {
            refused(&format!("socket_id={id}&channel_name=private-a"), "socket_id is not one");
        }
        for name in ["news", "my-private-a", "private"] {
            refused(&format!("socket_id=1.2&channel_name={name}"), "neither private- nor presence-");
        }
        refused("socket_id=1.2&channel_name=", "empty");
        refused("socket_id=1.2&channel_name=private-%0D%0AHost:x", "space or control");
        refused("socket_id=1.2&channel_name=private-a:b", "other characters");
        refused("socket_id=1.2&channel_name=%23server-to-user-7", "other characters");
        refused(&format!("socket_id=1.2&channel_name=private-{}", "x".repeat(200)), "longer");
        assert!(read(&[0xff], true).is_err());
    }
}
