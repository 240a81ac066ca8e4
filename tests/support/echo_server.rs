//! The real laravel-echo-server 1.6.3, to be compared with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::folder::Folder;
use super::http;
use super::node::PREFIX;
use super::ports;
use super::process::Process;
use super::redis::Redis;
use super::wait::until;

/// A client of its HTTP API.
pub(crate) const CLIENT_ID: &str = "echo-id";
pub(crate) const CLIENT_KEY: &str = "echo-key";

pub(crate) struct EchoServer {
    pub(crate) address: SocketAddr,
    _folder: Folder,
    _process: Process,
}

impl EchoServer {
    /// `site`: the origin of the application that is asked.
    pub(crate) fn start(redis: &Redis, site: &str) -> Self {
        let folder = Folder::new();
        let port = ports::free();
        let settings = json!({
            "authHost": site, "authEndpoint": "/broadcasting/auth", "host": "127.0.0.1", "port": port,
            "clients": [{ "appId": CLIENT_ID, "key": CLIENT_KEY }], "database": "redis", "devMode": false, "protocol": "http",
            "databaseConfig": { "redis": { "host": "127.0.0.1", "port": redis.port, "keyPrefix": PREFIX } },
            "socketio": {}, "subscribers": { "http": true, "redis": true },
        });
        let written = folder.write("laravel-echo-server.json", &settings.to_string());
        let dir = PathBuf::from(written).parent().unwrap().to_owned();
        let clients = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients");
        let mut command = Command::new("node");
        command.current_dir(&clients).arg("node_modules/laravel-echo-server/bin/server.js").args(["start", "--force"]);
        let process = Process::spawn("laravel-echo-server", command.arg("--dir").arg(dir));
        let address = (Ipv4Addr::LOCALHOST, port).into();
        until("laravel-echo-server answers", || (http::get(address, "/").body == "OK").then_some(()));
        Self { address, _folder: folder, _process: process }
    }
}
