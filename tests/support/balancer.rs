//! A real load balancer before nodes, with the very file of `deploy/`: only addresses and what a test needs to run beside others
//! are put in their places.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::folder::Folder;
use super::node::Node;
use super::ports;
use super::process::Process;
use super::wait::until;

/// The nodes that the files name.
pub(crate) const NODES: usize = 3;

pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    process: Process,
    _folder: Folder,
}

/// A line or a part of one, and what stands there instead.
pub(crate) type Change<'a> = (&'a str, &'a str);

impl Balancer {
    /// HAProxy, with these changes of its file.
    pub(crate) fn haproxy(nodes: &[Node], changes: &[Change<'_>]) -> Self {
        let port = ports::free();
        let mut text = changed(sample("haproxy/haproxy.cfg"), changes);
        text = changed(text, &[("bind :80\n", &format!("bind 127.0.0.1:{port}\n"))]);
        for (index, node) in nodes.iter().enumerate() {
            let here = format!("{} port {}", node.address, node.admin.port());
            text = changed(text, &[(&placeholder(index), &here)]);
        }
        let folder = Folder::new();
        let file = folder.write("haproxy.cfg", &text);
        let mut command = Command::new(program("haproxy"));
        Self::begin("haproxy", command.args(["-db", "-f", &file]), port, folder)
    }

    /// nginx, with these changes of its file.
    pub(crate) fn nginx(nodes: &[Node], changes: &[Change<'_>]) -> Self {
        let (port, folder) = (ports::free(), Folder::new());
        let mut text = changed(sample("nginx/nginx.conf"), changes);
        text = changed(text, &[("listen 80;", &format!("listen 127.0.0.1:{port};"))]);
        for (index, node) in nodes.iter().enumerate() {
            text = changed(text, &[(&placeholder(index), &node.address.to_string())]);
        }
        let own: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("  {kind}_temp_path {}/{kind};\n", folder.path().display()))
            .concat();
        text = changed(text, &[("http {\n", &format!("http {{\n  access_log off;\n{own}"))]);
        let file = folder.write("nginx.conf", &text);
        let process = format!("daemon off; pid {}/pid;", folder.path().display());
        let mut command = Command::new(program("nginx"));
        command.arg("-p").arg(folder.path()).args(["-e", "stderr", "-c", &file, "-g", &process]);
        Self::begin("nginx", &mut command, port, folder)
    }

    fn begin(name: &str, command: &mut Command, port: u16, folder: Folder) -> Self {
        let process = Process::spawn(name, command);
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let balancer = Self { address, process, _folder: folder };
        until(&format!("{name} answers"), || TcpStream::connect(address).ok());
        balancer
    }
}

impl Drop for Balancer {
    /// Its own processes end with it only if it is asked.
    fn drop(&mut self) {
        if self.process.is_running() {
            self.process.signal("TERM");
            self.process.end();
        }
    }
}

/// Where the file has the address of a node.
fn placeholder(index: usize) -> String {
    format!("192.0.2.{}:8080", 11 + index)
}

fn changed(mut text: String, changes: &[Change<'_>]) -> String {
    for (from, to) in changes {
        assert!(text.contains(from), "{from:?} is not in the file");
        text = text.replace(from, to);
    }
    text
}

fn sample(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Debian has both where only root's shell looks.
fn program(name: &str) -> PathBuf {
    let system = Path::new("/usr/sbin").join(name);
    if system.is_file() { system } else { name.into() }
}
