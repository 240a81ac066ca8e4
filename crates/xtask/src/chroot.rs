//! Proof that the test command needs nothing but what it installs itself: a new Debian with a C compiler and this machine's
//! Rust, a fresh clone in it, and `.ci/run`.
//!
//! How this machine reaches its package registries (configuration files, certificates) is handed through, never written down.

use std::fs;
use std::path::{Path, PathBuf};

use crate::shell::{self, Result};

const SUITE: &str = "bookworm";
/// What a machine that can build Rust has anyway.
const BASICS: &str = "ca-certificates,gcc,libc6-dev,git";

pub(crate) fn run() -> Result<()> {
    if !shell::is_root() || !shell::has("debootstrap") {
        return Err("this needs root and debootstrap (apt-get install debootstrap)".into());
    }
    let room = Room { folder: shell::target().join("chroot") };
    room.clear()?;
    fs::create_dir_all(&room.folder).map_err(|error| error.to_string())?;
    let done = room.furnish().and_then(|()| room.test());
    room.leave()?;
    done?;
    println!("\nThe test command passed in a new Debian.");
    room.clear()
}

struct Room {
    folder: PathBuf,
}

impl Room {
    fn furnish(&self) -> Result<()> {
        let folder = self.folder.display().to_string();
        let include = format!("--include={BASICS}");
        shell::run(&mut shell::command(&["debootstrap", "--variant=minbase", &include, SUITE, &folder]))?;
        for path in ["/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"] {
            self.copy(Path::new(path))?;
        }
        for path in handed_through("/etc/apt", &["apt.conf.d", "auth.conf.d"]) {
            self.copy(&path)?;
        }
        for path in handed_through("/etc", &["pip.conf"]) {
            self.copy(&path)?;
        }
        for path in handed_through(&home(""), &[".npmrc"]) {
            self.copy(&path)?;
        }
        for path in [cargo_home().join("bin"), rustup_home()] {
            self.bind_for_reading(&path)?;
        }
        for path in
            handed_through(&cargo_home().display().to_string(), &["config.toml", "config", "credentials.toml", "env"])
        {
            self.copy(&path)?;
        }
        for path in ["/proc", "/dev"] {
            self.bind(Path::new(path))?;
        }
        let clone = format!("{folder}/fanfare");
        shell::run(&mut shell::command(&["git", "clone", "-q", "--no-hardlinks", ".", &clone]))
    }

    fn test(&self) -> Result<()> {
        let mut command = shell::command(&["chroot"]);
        command.arg(&self.folder).args(["bash", "/fanfare/.ci/run"]).env("CI", "true");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_") || name.starts_with("FANFARE_"))
        {
            command.env_remove(name);
        }
        command.env("CARGO_HOME", cargo_home()).env("RUSTUP_HOME", rustup_home());
        shell::run(&mut command)
    }

    /// Where a path of this machine is in the new one.
    fn inside(&self, path: &Path) -> PathBuf {
        self.folder.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn copy(&self, path: &Path) -> Result<()> {
        let to = self.inside(path);
        fs::create_dir_all(to.parent().unwrap_or(&self.folder)).map_err(|error| error.to_string())?;
        let (from, to) = (path.display().to_string(), to.display().to_string());
        shell::run(&mut shell::command(&["cp", "-rLT", &from, &to]))
    }

    fn bind(&self, path: &Path) -> Result<()> {
        let to = self.inside(path);
        fs::create_dir_all(&to).map_err(|error| error.to_string())?;
        let (from, to) = (path.display().to_string(), to.display().to_string());
        shell::run(&mut shell::command(&["mount", "--bind", &from, &to]))
    }

    fn bind_for_reading(&self, path: &Path) -> Result<()> {
        self.bind(path)?;
        let to = self.inside(path).display().to_string();
        shell::run(&mut shell::command(&["mount", "-o", "remount,ro,bind", &to]))
    }

    /// Takes all binds away, the last made first.
    fn leave(&self) -> Result<()> {
        for place in self.mounts().iter().rev() {
            let _ = shell::run(&mut shell::command(&["umount", "--lazy", place]));
        }
        match self.mounts().is_empty() {
            true => Ok(()),
            false => Err(format!("still mounted, unmount by hand: {:?}", self.mounts())),
        }
    }

    /// Removes the folder, and only that: nothing that is mounted in it.
    fn clear(&self) -> Result<()> {
        self.leave()?;
        let folder = self.folder.display().to_string();
        shell::run(&mut shell::command(&["rm", "-rf", "--one-file-system", &folder]))
    }

    fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        places.filter(|place| Path::new(place).starts_with(&self.folder)).map(str::to_owned).collect()
    }
}

/// Those of the names in a folder that exist.
fn handed_through(folder: &str, names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| Path::new(folder).join(name)).filter(|path| path.exists()).collect()
}

fn home(name: &str) -> String {
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".into());
    format!("{home}/{name}")
}

fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME").map_or_else(|| home(".cargo").into(), PathBuf::from)
}

fn rustup_home() -> PathBuf {
    std::env::var_os("RUSTUP_HOME").map_or_else(|| home(".rustup").into(), PathBuf::from)
}
