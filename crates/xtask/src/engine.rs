//! A container engine in the target folder: podman with its own storage, networks and socket, so that nothing of this
//! machine's own containers is touched, and Docker Compose over that socket.
//!
//! No image is pulled. Those that the repository's files name are made here under the same names, out of this machine's own
//! programs: what is checked are our files, not the images of others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::shell::{self, Result};
use crate::tools::{self, told};

/// Programs that must be there, and Debian's packages that have them.
const NEEDS: [(&str, &str); 10] = [
    ("podman", "podman"),
    ("runc", "runc"),
    ("netavark", "netavark"),
    ("aardvark-dns", "aardvark-dns"),
    ("iptables", "iptables"),
    ("redis-server", "redis-server"),
    ("redis-cli", "redis-tools"),
    ("haproxy", "haproxy"),
    ("nginx", "nginx-light"),
    ("debootstrap", "debootstrap"),
];

/// An image that others make, as far as our files see it: programs, and what runs without further words.
struct StandIn {
    image: &'static str,
    programs: &'static [&'static str],
    more: &'static str,
}

const STAND_INS: [StandIn; 2] = [
    StandIn { image: "redis:7.4-alpine", programs: &["redis-server", "redis-cli"], more: "STOPSIGNAL SIGTERM" },
    StandIn {
        image: "haproxy:3.2-alpine",
        programs: &["haproxy"],
        more: "USER 99\nSTOPSIGNAL SIGUSR1\n\
               CMD [\"haproxy\", \"-W\", \"-db\", \"-f\", \"/usr/local/etc/haproxy/haproxy.cfg\"]",
    },
];

/// What the toolchain image is: its folders are this machine's own, mounted for reading while something runs in it.
const RUST: &str = "rust:1.95-bookworm";
const MOUNTED: [&str; 3] = ["/usr", "/etc/ssl", "/etc/alternatives"];

const DEBIAN: &str = "debian:bookworm-slim";

/// Ends with the value: the socket's process, and the health checks.
pub(crate) struct Engine {
    folder: PathBuf,
    compose: PathBuf,
    port: u16,
    service: Option<Child>,
    pulse: Option<JoinHandle<()>>,
    over: Arc<AtomicBool>,
}

impl Engine {
    /// # Errors
    /// A program is missing; the text has the command that installs it.
    pub(crate) fn prepare(port: u16) -> Result<Self> {
        let missing: Vec<&str> =
            NEEDS.iter().filter(|(program, _)| !there(program)).map(|(_, package)| *package).collect();
        if !missing.is_empty() {
            let install = format!("apt-get install --no-install-recommends {}", missing.join(" "));
            return Err(format!("compose-check runs containers. As root:\n  apt-get update && {install}"));
        }
        if !shell::is_root() {
            return Err("compose-check makes networks: run it as root".into());
        }
        let folder = shell::target().join("compose-check");
        fs::create_dir_all(&folder).map_err(told(&folder))?;
        let compose = tools::program("docker-compose")?;
        let over = Arc::new(AtomicBool::new(false));
        let engine = Self { folder, compose, port, service: None, pulse: None, over };
        engine.configure()?;
        STAND_INS.iter().try_for_each(|stand_in| engine.stand_in(stand_in))?;
        Ok(engine)
    }

    fn configure(&self) -> Result<()> {
        let folder = self.folder.display();
        let files = open_files().unwrap_or(1024);
        // A container may not raise its limits above ours everywhere; crun does not run everywhere.
        let engine = format!(
            "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
             tmp_dir = \"{folder}/tmp\"\n\
             [network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = \"{folder}/networks\"\n\
             [containers]\ndefault_ulimits = [\"nofile={files}:{files}\", \"nproc=4096:4096\"]\n"
        );
        let storage =
            format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{folder}/storage\"\nrunroot = \"{folder}/run\"\n");
        for (name, text) in [("containers.conf", engine), ("storage.conf", storage)] {
            let path = self.folder.join(name);
            fs::write(&path, text).map_err(told(&path))?;
        }
        Ok(())
    }

    /// A podman command with this engine's storage.
    pub(crate) fn podman(&self, words: &[&str]) -> Command {
        self.at_home(shell::command(&[&["podman"], words].concat()))
    }

    /// A compose command for the file at the root.
    pub(crate) fn compose(&self, words: &[&str]) -> Command {
        let program = self.compose.display().to_string();
        let mut command = self.at_home(shell::command(&[&[&*program, "--ansi=never"], words].concat()));
        command.env("DOCKER_HOST", format!("unix://{}", self.socket().display()));
        command.env("FANFARE_PORT", self.port.to_string());
        command
    }

    fn at_home(&self, mut command: Command) -> Command {
        let ours = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("FANFARE_"));
        ours.for_each(|name| {
            command.env_remove(name);
        });
        command.env("CONTAINERS_CONF", self.folder.join("containers.conf"));
        command.env("CONTAINERS_STORAGE_CONF", self.folder.join("storage.conf"));
        command
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("podman.sock")
    }

    /// Opens the socket, and asks the containers for their health once a second: podman leaves that to systemd.
    pub(crate) fn start(&mut self) -> Result<()> {
        let socket = self.socket();
        let _ = fs::remove_file(&socket);
        let url = format!("unix://{}", socket.display());
        let log = fs::File::create(self.folder.join("podman.log")).map_err(told(&self.folder))?;
        let mut service = self.podman(&["system", "service", "--time", "0", &url]);
        let service = service.stdout(Stdio::null()).stderr(log).spawn();
        self.service = Some(service.map_err(|error| format!("podman did not start: {error}"))?);
        let (mut list, over) = (self.podman(&["ps", "--quiet"]), self.over.clone());
        let health = self.podman(&["healthcheck", "run"]);
        self.pulse = Some(std::thread::spawn(move || {
            while !over.load(Relaxed) {
                let Ok(running) = list.output() else { return };
                for id in String::from_utf8_lossy(&running.stdout).split_whitespace() {
                    let mut command = Command::new(health.get_program());
                    command.args(health.get_args()).arg(id).stdout(Stdio::null()).stderr(Stdio::null());
                    health.get_envs().for_each(|(name, value)| {
                        value.map(|value| command.env(name, value));
                    });
                    let _ = command.status();
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        }));
        wait_for(&socket)
    }

    /// Builds the real Dockerfile of a node, with this machine's toolchain behind the name of the official one.
    pub(crate) fn build(&self, tag: &str) -> Result<()> {
        let toolchain = toolchain()?;
        let folder = self.empty_folder("rust")?;
        for name in ["usr", "etc/ssl", "etc/alternatives", "tmp", "var/tmp", "proc", "sys", "dev", "run", "root"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(told(&path))?;
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            let link = folder.join(name);
            std::os::unix::fs::symlink(format!("usr/{name}"), &link).map_err(told(&link))?;
        }
        self.image(RUST, "rust", &format!("ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin:{toolchain}/bin"))?;
        let mut build = self.podman(&["build", "--format", "docker", "--isolation", "chroot", "--network", "host"]);
        for path in MOUNTED.iter().copied().chain([&*toolchain]) {
            build.args(["--volume", &format!("{path}:{path}:ro")]);
        }
        shell::run(build.args(["--file", "deploy/Dockerfile", "--tag", tag, "."]))
    }

    /// Builds the image of the `laravel` profile, on a Debian made by Debian's own installer. How this machine reaches
    /// Debian's packages is handed through.
    pub(crate) fn build_laravel(&self, tag: &str) -> Result<()> {
        let folder = self.folder.join("debian");
        let shown = folder.display().to_string();
        if !folder.join("etc/debian_version").is_file() {
            self.empty_folder("debian")?;
            let install = ["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", &shown];
            shell::run(&mut shell::command(&install))?;
            // Devices cannot be copied into an image, and every container brings its own.
            shell::run(&mut shell::command(&["rm", "-rf", &format!("{shown}/dev")]))?;
        }
        for path in ["/etc/apt/apt.conf.d", "/etc/apt/auth.conf.d", "/etc/ssl/certs/ca-certificates.crt"] {
            if Path::new(path).exists() {
                shell::run(&mut shell::command(&["cp", "-rLT", path, &format!("{shown}{path}")]))?;
            }
        }
        self.image(DEBIAN, "debian", "")?;
        let build = ["build", "--format", "docker", "--isolation", "chroot", "--network", "host", "--tag", tag];
        shell::run(self.podman(&build).arg("deploy/laravel"))
    }

    /// An image of programs of this machine and the libraries they need.
    fn stand_in(&self, stand_in: &StandIn) -> Result<()> {
        let name = stand_in.image.split(':').next().unwrap_or_default();
        let folder = self.empty_folder(name)?;
        for program in stand_in.programs {
            let found = shell::output(&["which", program]).unwrap_or_else(|| format!("/usr/sbin/{program}"));
            copy(Path::new(&found), &folder.join("usr/local/bin").join(program))?;
            let libraries = shell::output(&["ldd", &found]).unwrap_or_default();
            for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
                copy(Path::new(library), &folder.join(library.trim_start_matches('/')))?;
            }
        }
        self.image(stand_in.image, name, &format!("ENV PATH=/usr/local/bin\n{}", stand_in.more))
    }

    fn empty_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(told(&folder))?;
        }
        fs::create_dir_all(folder.join("tmp")).map_err(told(&folder))?;
        Ok(folder)
    }

    /// Makes an image of a folder under an official name.
    fn image(&self, image: &str, folder: &str, more: &str) -> Result<()> {
        let file = self.folder.join(format!("{folder}.containerfile"));
        fs::write(&file, format!("FROM scratch\nCOPY . /\n{more}\n")).map_err(told(&file))?;
        let tag = format!("docker.io/library/{image}");
        let (file, folder) = (file.display().to_string(), self.folder.join(folder).display().to_string());
        shell::run(
            &mut self.podman(&["build", "--quiet", "--format", "docker", "--file", &file, "--tag", &tag, &folder]),
        )
    }

    /// What a podman command prints.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<String> {
        let output = self.podman(words).output().map_err(|error| format!("podman: {error}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(format!("podman {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(pulse) = self.pulse.take() {
            let _ = pulse.join();
        }
        if let Some(mut service) = self.service.take() {
            let _ = service.kill();
            let _ = service.wait();
        }
    }
}

/// On the path, or where podman keeps what only it runs.
fn there(program: &str) -> bool {
    shell::has(program) || Path::new("/usr/lib/podman").join(program).is_file()
}

/// The folder of the toolchain that builds this workspace.
fn toolchain() -> Result<String> {
    shell::output(&["rustc", "--print", "sysroot"]).ok_or_else(|| "rustc does not say where it is".into())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(told(folder))?;
    }
    fs::copy(from, to).map(drop).map_err(told(from))
}

fn open_files() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn wait_for(socket: &Path) -> Result<()> {
    for _ in 0..100 {
        if std::os::unix::net::UnixStream::connect(socket).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err("podman's socket did not open within 10 s".into())
}
