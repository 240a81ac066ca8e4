//! One real node: the release binary with settings from its environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use super::http;
use super::process::Process;
use super::wait::until;

pub(crate) const APP_ID: &str = "main-id";
pub(crate) const KEY: &str = "main-key";
pub(crate) const SECRET: &str = "Kq7-never-in-a-log-line-x9";
pub(crate) const PREFIX: &str = "laravel_database_";

/// Another app on the same nodes, to be told apart from the first.
pub(crate) const OTHER_ID: &str = "other-id";
pub(crate) const OTHER_KEY: &str = "other-key";
pub(crate) const OTHER_SECRET: &str = "Zw3-neither-in-a-log-line-p1";

const SETTINGS: [(&str, &str); 14] = [
    ("FANFARE_SERVER__LISTEN", "127.0.0.1:0"),
    ("FANFARE_SERVER__ADMIN", "127.0.0.1:0"),
    ("FANFARE_SERVER__WORKERS", "2"),
    ("FANFARE_APPS__MAIN__ID", APP_ID),
    ("FANFARE_APPS__MAIN__KEY", KEY),
    ("FANFARE_APPS__MAIN__SECRET", SECRET),
    ("FANFARE_APPS__MAIN__REDIS_PREFIX", PREFIX),
    ("FANFARE_APPS__OTHER__ID", OTHER_ID),
    ("FANFARE_APPS__OTHER__KEY", OTHER_KEY),
    ("FANFARE_APPS__OTHER__SECRET", OTHER_SECRET),
    ("FANFARE_DRAIN__GRACE", "0"),
    ("FANFARE_DRAIN__SECONDS", "1"),
    ("FANFARE_DRAIN__LEAVE_LINGER", "0"),
    ("FANFARE_REDIS__DOWN_GRACE", "1"),
];

pub(crate) struct Node {
    /// Clients and the HTTP API.
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    process: Process,
}

impl Node {
    /// Starts one and waits until it may take traffic. `redis`: a URL, or empty for the local backplane.
    pub(crate) fn start(redis: &str, settings: &[(&str, &str)]) -> Self {
        let node = Self::launch(redis, settings);
        node.wait_ready();
        node
    }

    /// As [`Self::start`], with the apps of this file and no others.
    pub(crate) fn with_file(redis: &str, file: &str) -> Self {
        let mut command = command();
        for (name, _) in SETTINGS.iter().filter(|(name, _)| name.starts_with("FANFARE_APPS__")) {
            command.env_remove(name);
        }
        let node = Self::spawn(command.env("FANFARE_REDIS__URL", redis).args(["--config", file]));
        node.wait_ready();
        node
    }

    /// As [`Self::start`], with what this `.env` of Laravel says and no apps beside it.
    pub(crate) fn with_env_file(file: &str) -> Self {
        let mut command = bare_command();
        command.envs(SETTINGS.iter().copied().filter(|(name, _)| !name.starts_with("FANFARE_APPS__")));
        let node = Self::spawn(command.args(["--env-file", file]));
        node.wait_ready();
        node
    }

    /// As [`Self::start`], with so many file descriptors and no more.
    pub(crate) fn with_descriptors(limit: u32, settings: &[(&str, &str)]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\"")]).arg(command().get_program());
        let node = Self::spawn(shell.env("FANFARE_REDIS__URL", "").envs(SETTINGS).envs(settings.iter().copied()));
        node.wait_ready();
        node
    }

    /// As [`Self::start`], run by another program.
    pub(crate) fn under(program: &str, words: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program);
        command.args(words).arg(binary()).env("FANFARE_REDIS__URL", "").envs(SETTINGS);
        let node = Self::spawn(command.envs(settings.iter().copied()));
        node.wait_ready();
        node
    }

    /// As [`Self::start`], with a log that takes nothing.
    pub(crate) fn with_full_log(redis: &str, settings: &[(&str, &str)]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$0\" 2> /dev/full"]).arg(command().get_program());
        let node = Self::spawn(shell.env("FANFARE_REDIS__URL", redis).envs(SETTINGS).envs(settings.iter().copied()));
        node.wait_ready();
        node
    }

    /// As [`Self::start`], without waiting.
    pub(crate) fn launch(redis: &str, settings: &[(&str, &str)]) -> Self {
        Self::spawn(command().env("FANFARE_REDIS__URL", redis).envs(settings.iter().copied()))
    }

    fn spawn(command: &mut Command) -> Self {
        let process = Process::spawn("fanfare", command);
        let (address, admin) = loop {
            let line = process.line().unwrap_or_else(|| panic!("the node ended at start: {:#?}", process.log()));
            if let Some(addresses) = listening(&line) {
                break addresses;
            }
        };
        Self { address, admin, process }
    }

    pub(crate) fn wait_ready(&self) {
        until("the node is ready", || self.is_ready().then_some(()));
    }

    pub(crate) fn is_ready(&self) -> bool {
        http::get(self.admin, "/ready").status == 200
    }

    /// The sum of a metric over all its children that have these labels.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = http::get(self.admin, "/metrics").body;
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        text.lines()
            .filter_map(|line| line.rsplit_once(' '))
            .filter(|(child, _)| child.split('{').next() == Some(name))
            .filter(|(child, _)| labels.iter().all(|label| child.contains(&**label)))
            .map(|(_, value)| value.parse::<f64>().expect("a metric's value"))
            .sum()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.process.log()
    }

    /// Of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn end(&mut self) -> ExitStatus {
        self.process.end()
    }

    /// Fails when the process ended by itself or wrote of a panic.
    pub(crate) fn assert_well(&mut self) {
        assert!(self.process.is_running(), "the node is gone");
        assert_eq!(http::get(self.admin, "/live").status, 200);
        let panics: Vec<String> = self.log().into_iter().filter(|line| line.contains("panicked")).collect();
        assert!(panics.is_empty(), "{panics:#?}");
    }
}

impl Drop for Node {
    /// Whatever a test did: no secret is in the log.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let log = self.log();
            let told = log.iter().find(|line| [SECRET, OTHER_SECRET].iter().any(|secret| line.contains(secret)));
            assert_eq!(told, None, "a secret is in the log");
        }
    }
}

/// The release binary with the settings that all tests share.
pub(crate) fn command() -> Command {
    let mut command = bare_command();
    command.envs(SETTINGS);
    command
}

/// The release binary with no settings at all.
pub(crate) fn bare_command() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FANFARE_")) {
        command.env_remove(name);
    }
    command.current_dir(std::env::temp_dir());
    command
}

/// What `cargo xtask test` built, or what `cargo build --release` left.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("FANFARE_BIN") {
        return path.into();
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder));
    target.join("release/fanfare")
}

/// `listening client=ADDR:PORT admin=ADDR:PORT`.
fn listening(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (client, admin) = line.strip_prefix("listening client=")?.split_once(" admin=")?;
    Some((client.parse().ok()?, admin.parse().ok()?))
}
