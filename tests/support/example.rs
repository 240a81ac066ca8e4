//! The Laravel application of `docs/examples/laravel`, as a web server and with its commands.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use super::folder::Folder;
use super::ports;
use super::process::Process;
use super::redis::Redis;
use super::wait::until;

/// 32 bytes that nobody else has to know.
const APP_KEY: &str = "base64:Zm9yLXRlc3RzLW9ubHktbm90LWEtcmVhbC1rZXktLS0=";

pub(crate) struct Example {
    port: u16,
    /// Its storage, and its `.env`.
    folder: Folder,
    _site: Process,
}

impl Example {
    /// Starts it with the `.env` that comes with it, as far as a test can. `nodes`: the port that browsers find a node on.
    /// `front`: the client below Echo.
    pub(crate) fn start(redis: &Redis, nodes: u16, front: &str) -> Self {
        let port = ports::free();
        let folder = Folder::new();
        let own = [
            ("APP_KEY", APP_KEY.to_owned()),
            ("APP_URL", url(port)),
            ("REDIS_PORT", redis.port.to_string()),
            ("BROADCAST_FRONT", front.to_owned()),
            ("BROADCAST_PORT", nodes.to_string()),
        ];
        let text = fs::read_to_string(root().join("docs/examples/laravel/.env.example")).unwrap();
        folder.write(".env", &with(&text, &own));
        let mut command = Command::new("php");
        command.arg("-S").arg(format!("127.0.0.1:{port}")).arg("-t").arg(root().join("docs/examples/laravel/public"));
        command.arg(script("site.php")).env("EXAMPLE_STORAGE", folder.path());
        let site = Process::spawn("php example/site.php", &mut command);
        until("the site answers", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { port, folder, _site: site }
    }

    pub(crate) fn url(&self) -> String {
        url(self.port)
    }

    /// The path of its `.env`.
    pub(crate) fn env_file(&self) -> String {
        self.folder.path().join(".env").display().to_string()
    }

    /// Broadcasts one new price of everything, as `php artisan prices` does each second.
    pub(crate) fn publishes_prices(&self) {
        let mut command = Command::new("php");
        command.arg(script("artisan.php")).args(["prices", "--rounds=1"]).env("EXAMPLE_STORAGE", self.folder.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// The text of a `.env` with other values for these variables, all of which it has.
fn with(text: &str, own: &[(&str, String)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (name, value) in own {
        let line = lines.iter_mut().find(|line| line.starts_with(&format!("{name}=")));
        *line.unwrap_or_else(|| panic!("{name} is not in .env.example")) = format!("{name}={value}");
    }
    lines.join("\n")
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
