//! The application's auth endpoint, asked as a node asks it, by somebody whom the application does not know.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Limited};
use hyper::header::{DATE, HeaderMap, HeaderName, LOCATION};
use model::json;

use super::super::probe::random;
use super::clock;
use super::node::shown;
use super::report::{Check, Report};
use crate::endpoint::{Caller, Target, Unheard};
use crate::gateway_auth;
use crate::settings::{NamedApp, Settings};

/// More of an answer is not read.
const ANSWER_BYTES: usize = 64 << 10;

/// What the application said to the stranger.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
    took: Duration,
}

impl Answer {
    fn header(&self, name: HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

pub(super) async fn examine(app: &NamedApp, settings: &Settings, report: &mut Report) {
    let Some(target) = &app.back_end.channels else { return };
    let table = format!("apps.{}", app.name);
    let url = settings.values.text(&format!("{table}.auth_url")).split('?').next().unwrap_or_default();
    let patience = settings.limits.auth;
    let Ok(asked) = tokio::time::timeout(patience, ask(target, app)).await else {
        let text = format!("{url} gave no answer within {} s (limits.auth_seconds)", patience.as_secs_f64());
        let change = "the application: more PHP workers (`php artisan serve` has one), or a larger limits.auth_seconds";
        return report.bad(Check::Auth, &text, change);
    };
    match asked {
        Ok(answer) => {
            if let Some(ahead) = clock::ahead(answer.header(DATE)) {
                clock::judge("the application", ahead, report);
            }
            judge(url, &table, &answer, report);
            if answer.took > patience / 2 {
                let text = format!(
                    "{url} took {:.1} s, and {} s is the limit",
                    answer.took.as_secs_f64(),
                    patience.as_secs_f64()
                );
                report.hint(Check::Auth, &text, "the application: a slow answer holds up every private channel");
            }
        }
        Err(Unheard::Unreachable(why)) => unreachable(url, &table, &why, report),
        Err(Unheard::Broken(why)) => {
            let text = format!("{url} takes the question and gives no answer of HTTP: {why}");
            let change = format!("{table}.auth_url: https:// for a port with TLS, http:// for one without");
            report.bad(Check::Auth, &text, &change);
        }
    }
}

async fn ask(target: &Target, app: &NamedApp) -> Result<Answer, Unheard> {
    let channel = format!("private-fanfare-doctor-{:016x}", random());
    let (headers, form) = gateway_auth::question_of_a_stranger(&app.back_end, &channel);
    let began = Instant::now();
    let (head, body) = Caller::new(0).send(target, headers, form.into()).await?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES).collect().await;
    // A page that is longer is none that we want to read.
    let body = body.map_or_else(|_| String::new(), |body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, took: began.elapsed() })
}

fn unreachable(url: &str, table: &str, why: &str, report: &mut Report) {
    let lower = why.to_lowercase();
    let change = if lower.contains("certificate") {
        "SSL_CERT_FILE=FILE in the environment of the node: the private authority that signed the application's certificate".to_owned()
    } else if lower.contains("corrupt message") || lower.contains("tls") {
        format!("{table}.auth_url: http:// in place of https://, the application speaks plain there")
    } else {
        format!(
            "{table}.auth_url: where the node reaches the application; in a container 127.0.0.1 and localhost are the \
             container itself"
        )
    };
    report.bad(Check::Auth, &format!("cannot reach {url}: {why}"), &change);
}

fn judge(url: &str, table: &str, answer: &Answer, report: &mut Report) {
    let status = answer.status;
    let place = answer.header(LOCATION);
    let (text, change) = match status {
        401 | 403 => return report.ok(Check::Auth, &format!("{url} answers {status} to a stranger, as it should")),
        200..=299 => return judge_yes(url, table, answer, report),
        300..=399 if is_same_over_tls(url, place) => {
            (format!("redirects to {place}"), format!("{table}.auth_url = {place:?}, and APP_URL in Laravel's .env"))
        }
        300..=399 => (
            format!(
                "redirects to {place:?}: the route is behind middleware that sends people to a page, though it is asked \
                 with Accept: application/json"
            ),
            "Laravel's routes: Broadcast::routes(['middleware' => ['web', 'auth']]), and no redirect of your own before it"
                .to_owned(),
        ),
        404 => (
            "answers 404: Laravel has no such route".to_owned(),
            format!("{table}.auth_url, or Laravel: Broadcast::routes() (`php artisan install:broadcasting`)"),
        ),
        405 => ("answers 405: the route takes no POST".to_owned(), "Laravel's routes: Broadcast::routes()".to_owned()),
        419 => (
            "answers 419: it wants a CSRF token, so only pages that send X-CSRF-TOKEN come through".to_owned(),
            "Laravel: take `broadcasting/*` out of the CSRF check (validateCsrfTokens(except: ['broadcasting/*']); up to \
             Laravel 10 $except of VerifyCsrfToken)"
                .to_owned(),
        ),
        500..=599 => (
            format!("fails with {}{}", shown(status), words(&answer.body)),
            "Laravel: see storage/logs/laravel.log; the callbacks of routes/channels.php run here".to_owned(),
        ),
        _ => (
            format!("answers {}{}", shown(status), words(&answer.body)),
            format!("{table}.auth_url: it must lead to /broadcasting/auth of the application"),
        ),
    };
    report.bad(Check::Auth, &format!("{url} {text}"), &change);
}

/// Success, to somebody who may nothing.
fn judge_yes(url: &str, table: &str, answer: &Answer, report: &mut Report) {
    let body = answer.body.trim();
    let says_yes = body == "true"
        || json::object::<serde_json::Map<String, serde_json::Value>>(body)
            .is_some_and(|said| said.contains_key("auth") || said.contains_key("channel_data"));
    if says_yes {
        let text = format!(
            "{url} says yes to a stranger, for a channel that nobody knows: everybody may listen to everything"
        );
        let change = "Laravel's routes/channels.php: a callback that catches all ('{any}') and returns true; or the route has no \
                      login before it";
        return report.bad(Check::Auth, &text, change);
    }
    let what = if body.starts_with('<') { "a page for people, such as a login" } else { "neither yes nor no" };
    let text = format!("{url} answers {} with {what}{}", answer.status, words(body));
    let change = format!("{table}.auth_url: the host and path of Laravel's /broadcasting/auth");
    report.bad(Check::Auth, &text, &change);
}

/// The same host and path by https.
fn is_same_over_tls(url: &str, place: &str) -> bool {
    let bare = |url: &str, scheme: &str| {
        let rest = url.strip_prefix(scheme)?.trim_end_matches('/');
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        Some((host.split(':').next().unwrap_or_default().to_owned(), path.to_owned()))
    };
    let (from, to) = (bare(url, "http://"), bare(place, "https://"));
    from.is_some() && from == to
}

/// The application's own words, where it has some that fit on a line.
fn words(body: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Said {
        message: String,
    }
    match json::object::<Said>(body.trim()) {
        Some(said) if !said.message.is_empty() => format!(": {}", said.message.chars().take(200).collect::<String>()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_to_tls_is_told_from_one_to_a_login() {
        let same = |from: &str, to: &str| is_same_over_tls(from, to);
        assert!(same("http://shop.test/broadcasting/auth", "https://shop.test/broadcasting/auth"));
        assert!(same("http://shop.test:80/broadcasting/auth", "https://shop.test/broadcasting/auth/"));
        assert!(!same("http://shop.test/broadcasting/auth", "https://shop.test/login"));
        assert!(!same("http://shop.test/broadcasting/auth", "http://shop.test/broadcasting/auth"));
        assert!(!same("https://shop.test/a", "/login"));
    }
}
