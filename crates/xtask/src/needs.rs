//! What the tests need from the system: found, or installed, or named with the command that installs it.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use crate::shell::{self, Result};
use crate::tools;

/// One need and the packages that fill it.
struct Need {
    name: &'static str,
    packages: &'static [&'static str],
    met: fn() -> bool,
}

const NEEDS: [Need; 12] = [
    Need { name: "python3 with venv", packages: &["python3-venv"], met: has_venv },
    Need { name: "redis-server", packages: &["redis-server"], met: || shell::has("redis-server") },
    Need { name: "node 18 or later, and npm", packages: &["nodejs", "npm"], met: has_node },
    Need { name: "php", packages: &["php-cli"], met: || shell::has("php") },
    Need { name: "php's redis extension", packages: &["php-redis"], met: || php("extension_loaded('redis')") },
    Need { name: "predis", packages: &["php-predis"], met: || php("@include 'Predis/autoload.php'") },
    Need { name: "valgrind", packages: &["valgrind"], met: || shell::has("valgrind") },
    Need { name: "chromium", packages: &["chromium"], met: || shell::has("chromium") },
    // For their programs: their services are not asked, whether they run or not.
    Need { name: "haproxy", packages: &["haproxy"], met: || shell::has("haproxy") },
    Need { name: "nginx", packages: &["nginx-light"], met: || shell::has("nginx") },
    Need { name: "kill", packages: &["procps"], met: || shell::has("kill") },
    Need { name: "Laravel", packages: &["php-laravel-framework"], met: || php("@include 'Illuminate/autoload.php'") },
];

/// Meets every need.
///
/// # Errors
/// Something is missing and this user may not install it; the text has the command.
pub(crate) fn meet() -> Result<()> {
    system_packages()?;
    tools::program("pusher")?;
    client_libraries()
}

fn system_packages() -> Result<()> {
    let missing = |need: &&Need| !(need.met)();
    let open: Vec<&Need> = NEEDS.iter().filter(missing).collect();
    if open.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = open.iter().map(|need| need.name).collect();
    let packages: Vec<&str> = open.iter().flat_map(|need| need.packages).copied().collect();
    if !(shell::is_root() && shell::has("apt-get")) {
        let install = format!("apt-get install --no-install-recommends {}", packages.join(" "));
        return Err(format!("the tests need {}. As root:\n  apt-get update && {install}", names.join(", ")));
    }
    println!("missing: {}", names.join(", "));
    shell::run(shell::command(&["apt-get", "update", "-qq"]).env("DEBIAN_FRONTEND", "noninteractive"))?;
    let install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"];
    let words = [&install[..], &packages].concat();
    shell::run(shell::command(&words).env("DEBIAN_FRONTEND", "noninteractive"))?;
    match NEEDS.iter().find(missing) {
        Some(need) => Err(format!("{} is still missing after the install", need.name)),
        None => Ok(()),
    }
}

fn has_node() -> bool {
    let major = |text: String| text.trim_start_matches('v').split('.').next()?.parse::<u32>().ok();
    shell::has("npm") && shell::output(&["node", "--version"]).and_then(major).is_some_and(|major| major >= 18)
}

/// Debian's python3 comes without it. It holds the tools that check the chart.
fn has_venv() -> bool {
    shell::succeeds(&["python3", "-c", "import venv, ensurepip"])
}

fn php(question: &str) -> bool {
    shell::succeeds(&["php", "-r", &format!("exit(({question}) ? 0 : 1);")])
}

/// The pinned client libraries, when they are not there yet or the lock file is younger than they are.
fn client_libraries() -> Result<()> {
    let folder = shell::root().join("tests/clients");
    let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    if changed(&folder.join("node_modules/.package-lock.json")) >= changed(&folder.join("package-lock.json")) {
        return Ok(());
    }
    shell::run(shell::command(&["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(folder))
}
