//! Which channels the API speaks of: those that Pusher's clients can name, and the channels of signed-in users.

use model::channel::USER_PREFIX;
use model::{App, ChannelName};

/// # Errors
/// What is wrong with the name, fit for the caller.
pub(super) fn channel(app: &App, text: &str) -> Result<ChannelName, String> {
    if let Some(user) = text.strip_prefix(USER_PREFIX) {
        return user_channel(app, user);
    }
    let shown = || text.chars().take(200).collect::<String>();
    let max = app.limits.channel_name_bytes;
    if text.len() > max {
        return Err(format!("The channel name is longer than {max} bytes: {:?}", shown()));
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-=@,.;".contains(&b)) {
        return Err(format!(
            "The channel name has a character other than A-Z a-z 0-9 _ - = @ , . ; (only #server-to-user-ID begins with \
             #): {:?}",
            shown()
        ));
    }
    ChannelName::new(text).map_err(|bad| format!("{}: {:?}", bad.0, shown()))
}

/// The channel of a signed-in user. Ids are the application's own: whatever a name can hold.
///
/// # Errors
/// What is wrong with the id, fit for the caller.
pub(super) fn user_channel(app: &App, user: &str) -> Result<ChannelName, String> {
    let max = app.limits.user_id_chars;
    if user.is_empty() || user.chars().count() > max {
        return Err(format!("The user id is empty or has more than {max} characters"));
    }
    let name = ChannelName::of_user(user);
    name.map_err(|_| "The user id has a space or control character, or too many bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_client_can_name_is_a_channel() {
        let mut app = App::new("1", "k", "s");
        for good in ["a", "private-App.Models.User.1", "A-Z_=@,.;", "#server-to-user-7", "#server-to-user-é@x"] {
            assert_eq!(channel(&app, good).unwrap().as_str(), good);
        }
        let long = "x".repeat(201);
        for wrong in ["", "a b", "room:1", "é", "#x", "#server-to-user-", "#server-to-user-a b", "a/b", "a\n", &long] {
            assert!(channel(&app, wrong).is_err(), "{wrong:?}");
        }
        app.limits.channel_name_bytes = 5;
        assert!(channel(&app, "12345").is_ok() && channel(&app, "123456").unwrap_err().contains("5 bytes"));
    }
}
