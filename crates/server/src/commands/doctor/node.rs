//! A running node: does it know our apps by the id, key and secret of these settings?

use futures_util::StreamExt;
use hyper::StatusCode;
use model::auth;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::super::listen::{self, Frame};
use super::super::reach::{Address, TIMEOUT};
use super::super::{Failure, target, trust};
use super::question::{self, Answer, Silence};
use super::report::{Check, Report};
use crate::clock;
use crate::settings::{NamedApp, Settings};

/// `asked`: whom the operator names; else the node of the settings, which need not run.
pub(super) async fn examine(asked: Option<String>, settings: &Settings, report: &mut Report) {
    let is_named = asked.is_some();
    let url = match asked.map_or_else(|| target::url(None, settings), Ok) {
        Ok(url) => url,
        Err(_) => {
            report.note(Check::Node, "server.listen has port 0, so the node was not asked: name it with --node URL");
            return;
        }
    };
    for app in &settings.apps {
        match ask(&url, app, settings).await {
            Ok(answer) if judge(&url, app, &answer, report) => open(&url, app, settings, report).await,
            Ok(_) => {}
            Err(Silence::Unreachable(why)) if !is_named && why.contains("refused") => {
                let text = format!("no node runs at {url}; when it does, or with --node URL, it will be asked");
                report.note(Check::Node, &text);
                return;
            }
            Err(Silence::Unreachable(why)) => {
                let change = "server.listen of the node, or another --node: the two must name the same place";
                report.bad(Check::Node, &format!("cannot reach {url}: {why}"), change);
                return;
            }
            Err(Silence::NoHttp(why)) => {
                let change = "--node: the address of a node; https:// if it speaks TLS";
                report.bad(Check::Node, &format!("{url} takes connections and does not speak HTTP: {why}"), change);
                return;
            }
        }
    }
}

/// `GET /apps/{id}/channels`, signed: it changes nothing.
async fn ask(url: &str, app: &NamedApp, settings: &Settings) -> Result<Answer, Silence> {
    // Both were checked or made here.
    let address = Address::parse(url).map_err(|_| Silence::Unreachable("no such address".to_owned()))?;
    let tls = if address.is_tls { trust::config(settings).ok() } else { None };
    let id = percent_encoding::utf8_percent_encode(&app.app.id, percent_encoding::NON_ALPHANUMERIC);
    let path = format!("{}/apps/{}/channels", address.base, app.app.id);
    let raw_path = format!("{}/apps/{id}/channels", address.base);
    let query =
        app.app.secrets.first().map_or_else(Vec::new, |secret| {
            auth::sign_request(&app.app.key, secret, "GET", &path, b"", clock::seconds())
        });
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    question::get(&address, tls, &format!("{raw_path}?{query}")).await
}

/// Whether it is a node that can be asked more.
fn judge(url: &str, app: &NamedApp, answer: &Answer, report: &mut Report) -> bool {
    let name = &app.name;
    let said = words(&answer.body);
    let mut bad = |text: String, change: String| {
        report.bad(Check::Node, &format!("{url} {text}"), &change);
        true
    };
    match answer.status {
        200 if answer.body.contains("\"channels\"") => {
            report.ok(Check::Node, &format!("{url} takes requests signed as app {name}"));
            true
        }
        401 if said.contains("auth_key") => bad(
            format!("has another key for app {name} (id {}): here it is {}", app.app.id, app.app.key),
            format!("apps.{name}.key, and PUSHER_APP_KEY or REVERB_APP_KEY in Laravel's .env: one key everywhere"),
        ),
        401 if said.contains("auth_timestamp") => bad(
            format!("refuses our signature because of the time: {said}"),
            "the clock of this machine or of the node's: `timedatectl set-ntp true`".to_owned(),
        ),
        401 => bad(
            format!("has another secret for app {name}: {said}"),
            format!("apps.{name}.secret, and PUSHER_APP_SECRET or REVERB_APP_SECRET in Laravel's .env: one secret"),
        ),
        404 if said.contains("no app with this id") => bad(
            format!("knows no app of the id {}", app.app.id),
            format!("apps.{name}.id, and PUSHER_APP_ID or REVERB_APP_ID in Laravel's .env: one id everywhere"),
        ),
        429 | 503 => {
            report.note(Check::Node, &format!("{url} takes no requests of app {name} now ({}): {said}", answer.status));
            false
        }
        status => {
            let text = format!("{url} answers {status} to a request of the HTTP API: that is no node of fanfare");
            report.bad(Check::Node, &text, "--node, or server.listen: another program has this port");
            false
        }
    }
}

/// What an error says, or the beginning of what came in its place.
fn words(body: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Said {
        error: String,
    }
    let said = serde_json::from_str::<Said>(body).map(|said| said.error);
    said.unwrap_or_else(|_| body.trim().chars().take(200).collect())
}

async fn open(url: &str, app: &NamedApp, settings: &Settings, report: &mut Report) {
    match greeted(url, app, settings).await {
        Ok(()) => report.ok(Check::Node, &format!("{url} lets clients in with the key of app {}", app.name)),
        Err(why) => {
            let change = format!("apps.{}: `key`, `connections` and `allowed_origins` decide who comes in", app.name);
            report.bad(Check::Node, &format!("{url} does not let clients of app {} in: {why}", app.name), &change);
        }
    }
}

/// Opens a WebSocket and waits for the greeting.
pub(super) async fn greeted(url: &str, app: &NamedApp, settings: &Settings) -> Result<(), String> {
    let greeting = async {
        let mut socket = listen::connect(url, &app.app, settings).await?;
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let frame = Frame::parse(text.as_str())?;
                    match &*frame.event {
                        "pusher:connection_established" => return Ok(()),
                        "pusher:error" => return Err(Failure::Refused(listen::said(&frame))),
                        _ => {}
                    }
                }
                Some(Ok(Message::Close(close))) => return Err(listen::closed(close)),
                Some(Ok(_)) => {}
                _ => return Err(Failure::Failed("the connection ended before the greeting".to_owned())),
            }
        }
    };
    match timeout(TIMEOUT * 2, greeting).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failure)) => Err(failure.text()),
        Err(_) => Err("it opened and no greeting came".to_owned()),
    }
}

/// The name of a status, for people.
pub(super) fn shown(status: u16) -> String {
    StatusCode::from_u16(status).map_or_else(|_| status.to_string(), |status| status.to_string())
}
