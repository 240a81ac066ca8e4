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

    /// Makes a call and checks that it was answered 200; the JSON of the answer.
    pub(crate) fn ask(&mut self, call: Value) -> Value {
        let (status, body) = self.try_call(call);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Makes a call; status and body of the answer.
    pub(crate) fn try_call(&mut self, call: Value) -> (u64, String) {
        self.begin(&call);
        let line = self.0.line().expect("the SDK is still there");
        let answer: Value = serde_json::from_str(&line).expect("a JSON line");
        let body = answer["body"].as_str().expect("a body").to_owned();
        (answer["status"].as_u64().expect("a status"), body)
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
