//! A real pusher-js client, alone or under Laravel Echo, in a Node.js process.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::node::{APP_ID, KEY, Node, SECRET};
use super::process::Process;

pub(crate) struct Browser {
    process: Process,
    pub(crate) socket_id: String,
}

impl Browser {
    /// Connects with pusher-js as it comes and waits until it says so.
    pub(crate) fn connect(node: &Node) -> Self {
        Self::run("subscriber.js", node)
    }

    /// Connects with pusher-js by `wss://`. `trusted`: the path of the authority's certificate.
    pub(crate) fn over_tls(node: &Node, trusted: &str) -> Self {
        Self::start("subscriber.js", &mut script_over_tls("subscriber.js", node, trusted))
    }

    /// Starts one of the libraries in `package.json` and does not wait. `more`: what its script is told beside or instead of
    /// where the node is and who the app is.
    pub(crate) fn launch(library: &str, node: &Node, mut more: Value) -> Self {
        more["library"] = library.into();
        let process = Process::spawn(library, &mut script_with("subscriber.js", node, more));
        Self { process, socket_id: String::new() }
    }

    /// Connects with Laravel Echo over pusher-js.
    pub(crate) fn with_echo(node: &Node) -> Self {
        Self::run("echo.mjs", node)
    }

    /// Connects with Laravel Echo, which asks the node's auth endpoint with this bearer token.
    pub(crate) fn with_echo_and_token(node: &Node, token: &str) -> Self {
        Self::start("echo.mjs", &mut script_with("echo.mjs", node, json!({ "token": token })))
    }

    /// Connects with an Echo of a connector, a version and a client of one's choice: see `echo.mjs`.
    pub(crate) fn with_echo_of(node: &Node, choice: Value) -> Self {
        Self::start("echo.mjs", &mut script_with("echo.mjs", node, choice))
    }

    fn run(name: &str, node: &Node) -> Self {
        Self::start(name, &mut script(name, node))
    }

    fn start(name: &str, command: &mut Command) -> Self {
        let process = Process::spawn(name, command);
        let mut browser = Self { process, socket_id: String::new() };
        browser.connected();
        browser
    }

    /// Waits until it is connected, for the first time or again.
    pub(crate) fn connected(&mut self) {
        let connected = self.until(|told| told["state"] == "connected");
        self.socket_id = connected["socket_id"].as_str().expect("a socket id").to_owned();
    }

    /// Subscribes and waits for the yes.
    pub(crate) fn subscribe(&mut self, channel: &str) {
        self.tell(&json!({ "do": "subscribe", "channel": channel }));
        self.hears(channel, "pusher:subscription_succeeded");
    }

    pub(crate) fn enter(&mut self, channel: &str, user: &str) {
        let user = json!({ "user_id": user, "user_info": { "name": user } });
        self.tell(&json!({ "do": "subscribe", "channel": channel, "user": user }));
        self.hears(channel, "pusher:subscription_succeeded");
    }

    /// Signs in and waits until the user's own channel is subscribed to.
    pub(crate) fn sign_in(&mut self, user: &Value) {
        self.tell(&json!({ "do": "signin", "user": user }));
        assert_eq!(self.until(|told| told["kind"] == "signed_in")["id"], user["id"]);
    }

    pub(crate) fn tell(&mut self, verb: &Value) {
        self.process.tell(&verb.to_string());
    }

    /// Sends its process a signal by its name (`STOP`, `CONT`).
    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// All that it tells up to the thing that fits, that included.
    pub(crate) fn story(&mut self, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut story = Vec::new();
        loop {
            let told = self.until(|_| true);
            story.push(told.clone());
            if fits(&told) {
                return story;
            }
        }
    }

    /// The data of the next event of a channel, which must be this one.
    pub(crate) fn hears(&mut self, channel: &str, event: &str) -> Value {
        let told = self.until(|told| told["kind"] == "event" && told["channel"] == channel);
        assert_eq!(told["event"], event, "{told}");
        told["data"].clone()
    }

    /// The members after the next change of a presence channel.
    pub(crate) fn members(&mut self, channel: &str) -> Value {
        self.until(|told| told["kind"] == "members" && told["channel"] == channel)["ids"].clone()
    }

    /// The next thing told that fits; what comes before it is passed over.
    pub(crate) fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.process.line().expect("pusher-js is still there");
            let told: Value = serde_json::from_str(&line).expect("a JSON line");
            if fits(&told) {
                return told;
            }
        }
    }
}

/// A script of `tests/clients`, told where the node is and who the app is.
pub(crate) fn script(name: &str, node: &Node) -> Command {
    script_with(name, node, json!({}))
}

/// The same, over TLS.
pub(crate) fn script_over_tls(name: &str, node: &Node, trusted: &str) -> Command {
    let mut command = script_with(name, node, json!({ "tls": true }));
    command.env("NODE_EXTRA_CA_CERTS", trusted);
    command
}

/// A script of Python's, with the libraries that `cargo xtask test` installs. `id`: the app's.
pub(crate) fn python(name: &str, node: &Node, id: &str) -> Process {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |at| root().join(at));
    let mut command = Command::new(target.join("tools/python/bin/python"));
    let (host, port) = (node.address.ip().to_string(), node.address.port());
    let told = json!({ "host": host, "port": port, "key": KEY, "id": id, "secret": SECRET });
    command.current_dir(root().join("tests/clients")).arg(name).arg(told.to_string());
    Process::spawn(name, &mut command)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The same, told more.
fn script_with(name: &str, node: &Node, more: Value) -> Command {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients");
    let mut target = json!({
        "host": node.address.ip().to_string(),
        "port": node.address.port(),
        "key": KEY,
        "id": APP_ID,
        "secret": SECRET,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        target[key] = value.clone();
    }
    let mut command = Command::new("node");
    command.current_dir(folder).arg(name).arg(target.to_string());
    command
}
