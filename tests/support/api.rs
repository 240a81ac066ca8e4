//! The real `pusher` server SDK in a Node.js process.

use serde_json::{Value, json};

use super::browser::{script, script_over_tls};
use super::node::Node;
use super::process::Process;

pub(crate) struct Api(Process);

impl Api {
    pub(crate) fn of(node: &Node) -> Self {
        Self(Process::spawn("node api.js", &mut script("api.js", node)))
    }

    /// `trusted`: the path of the authority's certificate.
    pub(crate) fn over_tls(node: &Node, trusted: &str) -> Self {
        Self(Process::spawn("node api.js", &mut script_over_tls("api.js", node, trusted)))
    }

    /// Sends an event and checks that it was taken.
    pub(crate) fn trigger(&mut self, channels: &[&str], event: &str, data: Value) {
        self.call(json!({ "do": "trigger", "channels": channels, "event": event, "data": data }));
    }

    /// As [`Self::trigger`], to all but one socket.
    pub(crate) fn trigger_except(&mut self, socket: &str, channels: &[&str], event: &str, data: Value) {
        let call = json!({ "do": "trigger", "channels": channels, "event": event, "data": data, "socket_id": socket });
        self.call(call);
    }

    /// Makes a call and checks that the answer is 200 with the body that SDKs expect.
    pub(crate) fn call(&mut self, call: Value) {
        self.begin(&call);
        self.done();
    }

    /// Makes a call and does not wait.
    pub(crate) fn begin(&mut self, call: &Value) {
        self.0.tell(&call.to_string());
    }

    /// Waits for the answer to the oldest open call.
    pub(crate) fn done(&self) {
        let line = self.0.line().expect("the SDK is still there");
        let answer: Value = serde_json::from_str(&line).expect("a JSON line");
        assert_eq!(answer, json!({ "status": 200, "body": "{}" }));
    }
}
