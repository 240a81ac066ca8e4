//! The address that browsers use: does a WebSocket come through the proxy before the nodes?

use std::sync::Arc;

use fanfare_publisher::tls;
use hyper::header::LOCATION;

use super::super::reach::Address;
use super::super::target;
use super::node::{greeted, shown};
use super::question::{self, Answer, Silence};
use super::report::{Check, Report};
use crate::settings::Settings;

/// What nginx needs, besides `proxy_pass`.
const NGINX: &str = "in nginx's location: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
                     proxy_set_header Connection \"upgrade\"; proxy_read_timeout 1h; (deploy/nginx has the whole)";

pub(super) async fn examine(url: &str, settings: &Settings, report: &mut Report) {
    // Settings hold at least one, and the URL was read before.
    let (Ok(app), Ok(address)) = (target::app(None, settings), Address::parse(url)) else { return };
    // As browsers check it: a node's own certificate is worth nothing to them.
    let tls = match address.is_tls.then(tls::config).transpose() {
        Ok(tls) => tls.map(Arc::new),
        Err(error) => return report.note(Check::Public, &format!("TLS does not start: {error}")),
    };
    let path = format!("{}/app/{}?protocol=7&client=fanfare", address.base, app.app.key);
    match question::upgrade(&address, tls, &path).await {
        Ok(answer) if answer.status == 101 => match greeted(url, app, settings).await {
            Ok(()) => report.ok(Check::Public, &format!("a WebSocket comes through {url} to a node")),
            Err(why) => {
                let change = "the proxy's upstream: it must lead to a node that knows this app";
                report.bad(Check::Public, &format!("{url} opens a WebSocket, and then: {why}"), change);
            }
        },
        Ok(answer) => judge(url, &answer, report),
        Err(Silence::Unreachable(why)) => {
            let change = "the host and port of --public, the proxy's `listen`, or its certificate";
            report.bad(Check::Public, &format!("cannot reach {url}: {why}"), change);
        }
        Err(Silence::NoHttp(why)) => {
            let change = "the scheme of --public: wss:// for a port with TLS, ws:// for one without";
            report.bad(Check::Public, &format!("{url} takes connections and does not speak HTTP: {why}"), change);
        }
    }
}

/// Any answer but that of a WebSocket.
fn judge(url: &str, answer: &Answer, report: &mut Report) {
    let status = shown(answer.status);
    let place = answer.header(LOCATION);
    let (text, change) = match answer.status {
        426 | 400 if answer.body.to_lowercase().contains("upgrade") || answer.body.contains("WebSocket address") => {
            ("leads to a node, and the proxy drops the headers Upgrade and Connection".to_owned(), NGINX)
        }
        300..=399 => (
            format!("redirects to {place:?}, and browsers follow no redirect of a WebSocket"),
            "--public and the client's wsHost, wsPort and forceTLS: name the place that it redirects to (wss://)",
        ),
        502..=504 => (
            format!("answers {status}: the proxy does not reach a node"),
            "the proxy's upstream, or server.listen: 127.0.0.1 is not reached from other machines and containers",
        ),
        401 | 403 => (
            format!("answers {status}: somebody before the nodes refuses"),
            "the proxy: no login and no firewall rule before /app",
        ),
        404 => (
            "answers 404 Not Found: it has no way from /app to a node".to_owned(),
            "the proxy: a location for /app (and /apps) that leads to the nodes",
        ),
        _ => (
            format!("answers {status} and no WebSocket: that is another site, or the proxy does not pass /app on"),
            NGINX,
        ),
    };
    report.bad(Check::Public, &format!("{url} {text}"), change);
}
