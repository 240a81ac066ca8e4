//! What a node prints when it starts: one line for tools, and for people what to paste where.

use std::io::{self, Write};
use std::net::SocketAddr;

use crate::settings::Settings;

/// Prints to standard output. The first line is a contract: `listening client=ADDR:PORT admin=ADDR:PORT`.
pub(crate) fn print(settings: &Settings, client: SocketAddr, admin: SocketAddr) {
    let text = format!("listening client={client} admin={admin}\n{}", text(settings, client, admin));
    // Whoever read the first line may have closed the pipe: no reason to end.
    let _ = writeln!(io::stdout(), "{text}");
}

fn text(settings: &Settings, client: SocketAddr, admin: SocketAddr) -> String {
    let backplane = match settings.redis.url {
        Some(_) => "Redis",
        None => "in-process, one node (set redis.url to scale out)",
    };
    let names: Vec<&str> = settings.apps.iter().map(|app| app.name.as_str()).collect();
    let head = format!(
        "fanfare {}: {} worker(s), backplane: {backplane}, apps: {}\n  metrics and health: http://{admin}/metrics, /live, /ready",
        env!("CARGO_PKG_VERSION"),
        settings.server.workers,
        names.join(", "),
    );
    let tls = if settings.tls.is_some() { "\n  clients and the HTTP API: TLS only (wss://, https://)" } else { "" };
    match (settings.development, settings.tls.is_some()) {
        (true, false) => head + &development(client),
        (true, true) => head + tls + DEVELOPMENT,
        _ => head + tls,
    }
}

const DEVELOPMENT: &str = "
  no app is configured: serving the development app to this machine only
    id app-id, key app-key, secret app-secret
";

/// The development app announces itself, its secret included: it is everybody's.
fn development(client: SocketAddr) -> String {
    let port = client.port();
    let at = if port == 8080 { String::new() } else { format!(" FANFARE_SERVER__LISTEN={client}") };
    format!(
        r#"{DEVELOPMENT}
Hear events: open http://localhost:{port} in a browser, and in its console
  new WebSocket('ws://localhost:{port}/?channels=orders').onmessage = e => console.log(e.data)
or with pusher-js:
  new Pusher('app-key', {{ wsHost: 'localhost', wsPort: {port}, forceTLS: false, enabledTransports: ['ws'], cluster: '' }})
    .subscribe('orders').bind('shipped', data => console.log(data))
or in a terminal:
 {at} target/release/fanfare listen orders
Say one, in another terminal:
 {at} target/release/fanfare publish orders shipped '{{"id":1}}'
"#
    )
}
