//! `fanfare check-config`: would a node start with these settings?

use super::{Failure, print, say};
use crate::settings::{self, Flags, Settings};
use crate::tls::Tls;

/// Fewer open files than this are soon used up by connections.
const FILES_LOW: u64 = 10_000;

/// The settings were loaded, so nothing is wrong with them; what is left are the certificate and warnings.
pub(super) fn run(settings: &Settings, flags: &Flags) -> Result<(), Failure> {
    Tls::start(settings)?;
    for warning in settings::warnings(settings) {
        say(&format!("warning: {warning}"));
    }
    if let Some(files) = open_files().filter(|files| *files < FILES_LOW) {
        say(&format!(
            "warning: this process may open {files} files, and each connection is one; raise it with `ulimit -n`, \
             LimitNOFILE= (systemd) or ulimits (compose)"
        ));
    }
    let apps: Vec<&str> = settings.apps.iter().map(|app| app.name.as_str()).collect();
    let apps = match (settings.development, &apps[..]) {
        (true, _) => "the development app: id app-id, key app-key, secret app-secret".to_owned(),
        (_, [one]) => format!("app {one}"),
        (_, many) => format!("{} apps: {}", many.len(), many.join(", ")),
    };
    // Of a file that was written for another program it is worth saying what it means here.
    let said =
        flags.env_file.as_ref().or(flags.echo_server.as_ref()).map_or_else(String::new, |_| settings::said(settings));
    print(&format!("The settings are good: {}; {apps}\n{said}", settings.values.read_from()))
}

/// How many files this process may have open. `None` where it cannot be told or there is no limit.
fn open_files() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
