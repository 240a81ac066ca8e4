//! The Laravel application of `docs/examples/laravel`, as a web server and with its commands.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use super::folder::Folder;
use super::node::KEY;
use super::process::Process;
use super::redis::Redis;
use super::wait::until;

/// 32 bytes that nobody else has to know.
const APP_KEY: &str = "base64:Zm9yLXRlc3RzLW9ubHktbm90LWEtcmVhbC1rZXktLS0=";

pub(crate) struct Example {
    pub(crate) port: u16,
    /// What its `.env` would have.
    settings: Vec<(&'static str, String)>,
    _folder: Folder,
    _site: Process,
}

impl Example {
    /// Starts it on a port that is told beforehand, because nodes have to know it too. `nodes`: the port that browsers find a
    /// node on. `front`: the client below Echo.
    pub(crate) fn start(port: u16, redis: &Redis, nodes: u16, front: &str) -> Self {
        let folder = Folder::new();
        let settings = vec![
            ("APP_KEY", APP_KEY.to_owned()),
            ("APP_URL", url(port)),
            ("BROADCAST_FRONT", front.to_owned()),
            ("BROADCAST_KEY", KEY.to_owned()),
            ("BROADCAST_PORT", nodes.to_string()),
            ("EXAMPLE_STORAGE", folder.path().display().to_string()),
            ("REDIS_PORT", redis.port.to_string()),
        ];
        let mut command = Command::new("php");
        command.arg("-S").arg(format!("127.0.0.1:{port}")).arg("-t").arg(root().join("docs/examples/laravel/public"));
        command.arg(script("site.php")).envs(settings.iter().cloned());
        let site = Process::spawn("php example/site.php", &mut command);
        until("the site answers", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { port, settings, _folder: folder, _site: site }
    }

    pub(crate) fn url(&self) -> String {
        url(self.port)
    }

    /// Broadcasts one new price of everything, as `php artisan prices` does each second.
    pub(crate) fn publishes_prices(&self) {
        let mut command = Command::new("php");
        command.arg(script("artisan.php")).args(["prices", "--rounds=1"]).envs(self.settings.iter().cloned());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// Where the node asks who may listen, when the site is on this port.
pub(crate) fn auth_url(port: u16) -> String {
    format!("{}/broadcasting/auth", url(port))
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn script(name: &str) -> PathBuf {
    root().join("tests/clients/laravel/example").join(name)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}
