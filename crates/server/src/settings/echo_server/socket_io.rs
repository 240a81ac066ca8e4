//! `socketio`: options of the Socket.IO server, in milliseconds there and in seconds here.

use super::tree::Tree;

const KEYS: [&str; 13] = [
    "path",
    "pingInterval",
    "pingTimeout",
    "maxHttpBufferSize",
    "transports",
    "allowUpgrades",
    "upgradeTimeout",
    "serveClient",
    "cookie",
    "origins",
    "perMessageDeflate",
    "httpCompression",
    "wsEngine",
];

pub(super) fn take(tree: &mut Tree) {
    tree.note_unknown("socketio", &KEYS);
    if let Some(path) = tree.text("socketio.path") {
        tree.take("socket_io.path", format!("/{}", path.trim_matches('/')), "socketio.path");
    }
    for (key, setting) in [("pingInterval", "ping_interval"), ("pingTimeout", "ping_timeout")] {
        let key = format!("socketio.{key}");
        match tree.text(&key).map(|text| text.parse::<f64>()) {
            None => {}
            Some(Ok(milliseconds)) => {
                tree.take(&format!("socket_io.{setting}"), (milliseconds / 1_000.0).to_string(), &key);
            }
            Some(Err(_)) => {
                let text = "is no number; write milliseconds".to_owned();
                tree.problem(&key, &format!("socket_io.{setting}"), text);
            }
        }
    }
    if let Some(bytes) = tree.text("socketio.maxHttpBufferSize") {
        tree.take("socket_io.body_bytes", bytes, "socketio.maxHttpBufferSize");
    }
    take_transports(tree);
    for (key, why) in [
        ("upgradeTimeout", "is not needed: a client that does not finish its upgrade goes on polling"),
        ("cookie", "is not needed: no cookie is set; a balancer keeps clients to their node by its own"),
        ("perMessageDeflate", "is not supported: messages are sent as they are"),
        ("httpCompression", "is not supported: answers are sent as they are"),
        ("wsEngine", "is not needed: there is one engine"),
        ("origins", "is not read; write allowed_origins below [apps.main] in fanfare.toml"),
    ] {
        let key = format!("socketio.{key}");
        if tree.has(&key) {
            tree.note(&key, why);
        }
    }
    if tree.text("socketio.allowUpgrades").as_deref() == Some("false") {
        tree.note("socketio.allowUpgrades", "is not supported: write \"transports\": [\"polling\"] to have that alone");
    }
    if tree.is_on("socketio.serveClient") {
        let text = "needs the file: write its path as client_file below [socket_io] in fanfare.toml";
        tree.note("socketio.serveClient", text);
    }
}

fn take_transports(tree: &mut Tree) {
    let count = tree.list("socketio.transports");
    let named: Vec<String> = match count {
        0 => tree.text("socketio.transports").into_iter().collect(),
        _ => (0..count).filter_map(|at| tree.text(&format!("socketio.transports[{at}]"))).collect(),
    };
    if named.is_empty() {
        return;
    }
    for transport in ["polling", "websocket"] {
        let is_on = named.iter().any(|name| name == transport);
        tree.take(&format!("socket_io.{transport}"), is_on.to_string(), "socketio.transports");
    }
}
