//! A child process: what it prints is read as it comes, and it does not outlive its test.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use super::wait::{LIMIT, until};

pub(crate) struct Process {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Mutex<Receiver<String>>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// # Panics
    /// When the program is not there; the text says how to get it.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap_or_else(|error| {
            panic!("{name} did not start ({error}); `cargo xtask test` installs what the tests need, or says how")
        });
        let (sender, lines) = channel();
        let output = child.stdout.take().unwrap();
        thread::spawn(move || each_line(output, |line| drop(sender.send(line))));
        let log = Arc::new(Mutex::new(Vec::new()));
        let errors = child.stderr.take().unwrap();
        let writer = log.clone();
        thread::spawn(move || each_line(errors, |line| writer.lock().unwrap().push(line)));
        Self { name: name.to_owned(), input: child.stdin.take(), child, lines: Mutex::new(lines), log }
    }

    /// Writes a line to its standard input.
    pub(crate) fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("the input is open");
        writeln!(input, "{line}").unwrap_or_else(|error| panic!("{} takes no input: {error}", self.name));
    }

    /// Closes its standard input.
    pub(crate) fn hang_up(&mut self) {
        self.input = None;
    }

    /// The next line of its standard output; `None` when it has closed it.
    pub(crate) fn line(&self) -> Option<String> {
        match self.lines.lock().unwrap().recv_timeout(LIMIT) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("{} said nothing for {LIMIT:?}\n{}", self.name, self.tail()),
        }
    }

    /// What it has written to standard error so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name (`TERM`, `STOP`, `CONT`).
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status().unwrap();
        assert!(sent.success(), "{} is gone already", self.name);
    }

    /// Ends it without a chance to say goodbye, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        until(&what, || self.child.try_wait().unwrap())
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn tail(&self) -> String {
        let log = self.log.lock().unwrap();
        log[log.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            println!("--- the last words of {}:\n{}", self.name, self.tail());
        }
    }
}

fn each_line(output: impl Read, mut take: impl FnMut(String)) {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
        take(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
}
