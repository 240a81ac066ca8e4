//! A real Laravel application that broadcasts, in a PHP process.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::ports;
use super::process::Process;
use super::redis::Redis;
use super::wait::until;

pub(crate) struct Laravel(Process);

/// The event's name on the wire: its class.
pub(crate) const ORDER_SHIPPED: &str = r"App\Events\OrderShipped";

/// That of the event that waits in the queue.
pub(crate) const ORDER_PLACED: &str = r"App\Events\OrderPlaced";

impl Laravel {
    /// `client`: `phpredis` or `predis`.
    pub(crate) fn with(client: &str, redis: &Redis) -> Self {
        let process = run("publisher.php", client, redis);
        assert_eq!(process.line().as_deref(), Some("ready"));
        Self(process)
    }

    /// Broadcasts one event on these channels, in a request without a socket id.
    pub(crate) fn broadcast(&mut self, channels: &[&str], number: u32) {
        self.call(json!({ "channels": channels, "publisher": "laravel", "first": number, "count": 1 }));
    }

    /// Broadcasts one event to others, in a request of this socket.
    pub(crate) fn broadcast_to_others(&mut self, socket: &str, channels: &[&str], number: u32) {
        let call =
            json!({ "channels": channels, "publisher": "laravel", "first": number, "count": 1, "socket": socket });
        self.call(call);
    }

    /// Queues one event to others, in a request of this socket.
    pub(crate) fn queue_to_others(&mut self, socket: &str, channels: &[&str], number: u32) {
        self.call(json!({ "channels": channels, "queued": number, "socket": socket }));
    }

    /// Notifies a user.
    pub(crate) fn notify(&mut self, user: u32, number: u32) {
        self.call(json!({ "notify": user, "number": number }));
    }

    /// Says that a model has changed.
    pub(crate) fn update(&mut self, order: u32, state: &str) {
        self.call(json!({ "updated": order, "state": state }));
    }

    pub(crate) fn call(&mut self, call: Value) {
        self.begin(&call);
        self.done();
    }

    pub(crate) fn begin(&mut self, call: &Value) {
        self.0.tell(&call.to_string());
    }

    pub(crate) fn done(&self) {
        assert_eq!(self.0.line().as_deref(), Some("done"), "{:#?}", self.0.log());
    }
}

/// The same application's queue worker: what waits in the queue is broadcast while there is one.
pub(crate) struct QueueWorker {
    _process: Process,
}

impl QueueWorker {
    pub(crate) fn start(client: &str, redis: &Redis) -> Self {
        Self { _process: run("worker.php", client, redis) }
    }
}

fn run(script: &str, client: &str, redis: &Redis) -> Process {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients/laravel").join(script);
    let mut command = Command::new("php");
    command.arg(path).arg(client).arg(redis.port.to_string());
    Process::spawn(&format!("php {script}"), &mut command)
}

/// The same application as a web server that says who may listen to what, and signs nothing.
pub(crate) struct LaravelSite {
    pub(crate) port: u16,
    _process: Process,
}

impl LaravelSite {
    pub(crate) fn start() -> Self {
        Self::of("site.php")
    }

    /// One of another script.
    pub(crate) fn of(script: &str) -> Self {
        let port = ports::free();
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients/laravel").join(script);
        let mut command = Command::new("php");
        command.arg("-S").arg(format!("127.0.0.1:{port}")).arg(script);
        let process = Process::spawn("php -S", &mut command);
        until("the site answers", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { port, _process: process }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}
