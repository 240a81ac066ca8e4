//! The applications of a `.env`: keys, prefixes, limits, and where Laravel says who may listen.

use model::{Secret, auth};

use super::super::source::Source;
use super::slug::slug;
use super::{Broadcasting, EnvFile};
use crate::endpoint::Target;

/// The app of a `.env`; of two, the one that Laravel's driver uses.
pub(in crate::settings) const MAIN: &str = "main";

/// What an app's secret is made of where Laravel has none for broadcasting: all nodes make the same one.
const SECRET_TEXT: &[u8] = b"fanfare app secret";

/// The variables of a set of keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reverb,
    Pusher,
}

impl Kind {
    fn keys(self) -> [&'static str; 3] {
        match self {
            Self::Reverb => ["REVERB_APP_ID", "REVERB_APP_KEY", "REVERB_APP_SECRET"],
            Self::Pusher => ["PUSHER_APP_ID", "PUSHER_APP_KEY", "PUSHER_APP_SECRET"],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Reverb => "reverb",
            Self::Pusher => "pusher",
        }
    }
}

/// Takes one or two apps.
pub(super) fn take(file: &mut EnvFile<'_>, broadcasting: &Broadcasting) {
    let order = match broadcasting.driver.as_str() {
        "pusher" => [Kind::Pusher, Kind::Reverb],
        _ => [Kind::Reverb, Kind::Pusher],
    };
    let texts = |kind: &Kind| kind.keys().map(|key| file.filled(key));
    // An id or a key; a secret alone is a leftover.
    let mut kinds: Vec<Kind> = order.into_iter().filter(|kind| texts(kind)[..2].iter().any(Option::is_some)).collect();
    if let [first, second] = kinds[..]
        && texts(&first) == texts(&second)
    {
        kinds.pop();
    }
    match kinds.first() {
        None => take_derived(file, broadcasting),
        Some(_) => {
            for (at, kind) in kinds.iter().enumerate() {
                take_keys(file, if at == 0 { MAIN } else { kind.name() }, *kind);
            }
        }
    }
    let reverb = kinds.iter().position(|kind| *kind == Kind::Reverb).filter(|at| *at > 0).map_or(MAIN, |_| "reverb");
    take_prefix(file);
    take_limits(file, &format!("apps.{reverb}"));
    take_auth(file);
}

fn take_keys(file: &mut EnvFile<'_>, app: &str, kind: Kind) {
    let keys = kind.keys();
    let first = keys.into_iter().find(|key| file.filled(key).is_some()).unwrap_or(keys[0]);
    let source = file.source(&[first]);
    file.layer.take_app(app, source);
    for (key, part) in keys.into_iter().zip(["id", "key", "secret"]) {
        file.take_filled(key, &format!("apps.{app}.{part}"));
    }
}

/// Laravel has no keys for broadcasting: its `redis` driver needs none. Browsers do.
fn take_derived(file: &mut EnvFile<'_>, broadcasting: &Broadcasting) {
    let name = slug(&file.text("APP_NAME").unwrap_or_default(), '-').text;
    let name = if name.is_empty() { "laravel".to_owned() } else { name };
    let source = file.derived(&["APP_NAME"]);
    file.layer.take_app(MAIN, source.clone());
    for part in ["id", "key"] {
        file.take(&format!("apps.{MAIN}.{part}"), name.as_str(), source.clone());
    }
    if let Some(key) = file.filled("APP_KEY") {
        let secret = auth::sign(&Secret::new(&key), SECRET_TEXT);
        let source = file.derived(&["APP_KEY"]);
        file.take(&format!("apps.{MAIN}.secret"), secret, source);
    }
    let keys = match broadcasting.driver.as_str() {
        "reverb" => Kind::Reverb.keys(),
        "pusher" => Kind::Pusher.keys(),
        _ => return,
    };
    let text = format!("Laravel cannot publish with this driver: {} are not set; write all three", keys.join(", "));
    file.note(&broadcasting.key.into_iter().collect::<Vec<_>>(), text);
}

/// What stands before channel names: said, or made of the application's name in either spelling.
fn take_prefix(file: &mut EnvFile<'_>) {
    let (prefix, also) = (format!("apps.{MAIN}.redis_prefix"), format!("apps.{MAIN}.also_listen"));
    if let Some(text) = file.text("REDIS_PREFIX") {
        let source = file.source(&["REDIS_PREFIX"]);
        return file.take(&prefix, text, source);
    }
    let name = file.text("APP_NAME").unwrap_or_else(|| "laravel".to_owned());
    let [old, new] = ['_', '-'].map(|separator| slug(&name, separator));
    let source = file.derived(&["APP_NAME"]);
    file.take(&prefix, format!("{}_database_", old.text), source.clone());
    file.take(&also, format!("{}-database-", new.text), source);
    if old.is_doubtful {
        let text = "APP_NAME has letters of which Laravel's prefix in Redis cannot be told; write it: REDIS_PREFIX=…";
        file.note(&["APP_NAME"], text);
    }
}

fn take_limits(file: &mut EnvFile<'_>, app: &str) {
    file.take_filled("REVERB_MAX_REQUEST_SIZE", "limits.http_body_bytes");
    file.take_filled("REVERB_APP_MAX_MESSAGE_SIZE", "limits.frame_bytes");
    file.take_filled("REVERB_APP_MAX_MESSAGE_SIZE", &format!("{app}.event_bytes"));
    file.take_filled("REVERB_APP_MAX_CONNECTIONS", &format!("{app}.connections"));
    file.take_filled("REVERB_APP_ACTIVITY_TIMEOUT", &format!("{app}.activity_timeout"));
    if let Some(from) = file.text("REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM") {
        let whose = match from.as_str() {
            "all" | "members" => from,
            _ => "off".to_owned(),
        };
        let source = file.source(&["REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM"]);
        file.take(&format!("{app}.client_events"), whose, source);
    }
    let keys = [
        "REVERB_APP_RATE_LIMITING_ENABLED",
        "REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS",
        "REVERB_APP_RATE_LIMIT_DECAY_SECONDS",
    ];
    if file.is_on(keys[0]) {
        let number = |key: &str| file.filled(key).map_or(Some(60.0), |text| text.trim().parse::<f64>().ok());
        match (number(keys[1]), number(keys[2])) {
            (Some(most), Some(seconds)) if most >= 1.0 && seconds > 0.0 => {
                let source = file.source(&keys);
                let rate = (most / seconds).ceil();
                file.take(&format!("{app}.client_events_per_second"), rate.to_string(), source);
            }
            _ => file.note(&keys[1..], "is no limit of client events; write whole numbers from 1"),
        }
    }
}

/// Laravel's own endpoints say who may listen, and who a user is.
fn take_auth(file: &mut EnvFile<'_>) {
    let keys = ["LARAVEL_ECHO_SERVER_AUTH_HOST", "APP_URL"].into_iter().skip(file.beside_echo_server.into());
    let key = keys.into_iter().find(|key| file.filled(key).is_some());
    let Some(key) = key else { return };
    let host = file.filled(key).unwrap_or_default();
    for (part, path) in [("auth_url", "/broadcasting/auth"), ("user_auth_url", "/broadcasting/user-auth")] {
        let url = format!("{}{path}", host.trim_end_matches('/'));
        if let Err(why) = Target::parse(&url) {
            return file.note(&[key], format!("{why}; until then no one can be asked who may listen"));
        }
        // Where the application is, is a guess at where it may be asked.
        let source: Source = if key == "APP_URL" { file.derived(&[key]) } else { file.source(&[key]) };
        file.take(&format!("apps.{MAIN}.{part}"), url, source);
    }
}
