//! What the binary does besides serving: one file a command.
//!
//! Data goes to standard output, talk to standard error. A command ends with one of five exit codes, which scripts rely on.

mod check_config;
mod doctor;
mod health;
mod listen;
mod print_config;
mod probe;
mod publish;
mod reach;
mod target;
mod trust;

use std::io::{self, Write};
use std::process::ExitCode;

use crate::cli::{Command, Invocation};
use crate::settings::{self, Problems, Settings};

/// Why a command did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// It was tried and did not work: exit code 1.
    Failed(String),
    /// The words of the command line make no sense: exit code 2.
    Usage(String),
    /// The settings are wrong: exit code 2.
    Settings(Problems),
    /// Nobody answers there: exit code 3.
    CannotReach(String),
    /// The other side said no: exit code 4.
    Refused(String),
    /// Whoever read our output has gone. Nothing to say, and nobody to say it to: exit code 0.
    ReaderGone,
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) | Self::Settings(_) => 2,
            Self::CannotReach(_) => 3,
            Self::Refused(_) => 4,
        }
    }

    /// The words without the exit code.
    fn text(&self) -> String {
        match self {
            Self::ReaderGone => String::new(),
            Self::Settings(problems) => problems.to_string(),
            Self::Failed(text) | Self::Usage(text) | Self::CannotReach(text) | Self::Refused(text) => text.clone(),
        }
    }

    /// Tells it on standard error and gives the exit code.
    pub(crate) fn tell(&self) -> ExitCode {
        match self {
            Self::ReaderGone => {}
            Self::Settings(_) => say(&self.text()),
            _ => say(&format!("error: {}", self.text())),
        }
        ExitCode::from(self.code())
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Settings(problems)
    }
}

/// Runs any command but `serve`, which `main` starts by itself.
pub(crate) fn run(invocation: &Invocation) -> ExitCode {
    let load = || -> Result<Settings, Failure> { Ok(settings::load(&invocation.flags)?) };
    let outcome = match &invocation.command {
        Command::Serve => Ok(()),
        Command::Publish(asked) => load().and_then(|settings| wait_for(publish::run(asked, &settings))),
        Command::Listen(asked) => load().and_then(|settings| wait_for(listen::run(asked, &settings))),
        Command::Health(asked) => load().and_then(|settings| health::run(asked, &settings)),
        Command::Probe(asked) => load().and_then(|settings| wait_for(probe::run(asked, &settings))),
        Command::Doctor(asked) => {
            load().and_then(|settings| wait_for(doctor::run(asked, &invocation.flags, &settings)))
        }
        Command::CheckConfig => load().and_then(|settings| check_config::run(&settings, &invocation.flags)),
        Command::Elsewhere(hint) => Err(Failure::Usage((*hint).to_owned())),
        Command::PrintConfig(asked) => print_config::run(asked, load),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

fn wait_for(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => Err(Failure::Failed(format!("the runtime does not start: {error}"))),
    }
}

/// Writes data to standard output, at once.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::ReaderGone),
        Err(error) => Err(Failure::Failed(format!("standard output: {error}"))),
    }
}

/// Says a line on standard error. Nobody there to read it is no failure.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
