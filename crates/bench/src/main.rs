//! `fanfare-bench`: how fast is it, honestly. Opens many clients, publishes, counts what arrives and what does not.
//!
//! Its figures and how to read them: docs/benchmarks.md.

mod crowd;
mod growth;
mod plot;
mod process;
mod report;
mod say;
mod scenario;
mod stamp;
mod tally;
mod target;
mod tongue;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use crate::process::Watched;
use crate::scenario::{Bench, Clients, Events};
use crate::target::Target;

#[derive(Parser, Debug)]
#[command(
    name = "fanfare-bench",
    version,
    about = "Load for fanfare and other servers of the Pusher protocol, and what it costs them"
)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
    /// Appends the result to this file as one line of JSON.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A server's process, whose CPU and memory are told: PID or NAME=PID; several with commas.
    #[arg(long = "pid", global = true, value_name = "[NAME=]PID", value_delimiter = ',')]
    watched: Vec<Watched>,
}

#[derive(Subcommand, Debug)]
enum Scenario {
    /// Events to many subscribers: what a delivery costs, and how late the last one is.
    Fanout {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        clients: Clients,
        #[command(flatten)]
        events: Events,
    },
    /// Events on ten channels with a subscriber each, as fast as they are taken: what a publish costs.
    Publish {
        #[command(flatten)]
        target: Target,
        /// Publishers at a time, each with a connection of its own.
        #[arg(long, default_value_t = 8)]
        publishers: usize,
        /// Events in one publish; 10 at most over HTTP.
        #[arg(long, default_value_t = 1)]
        batch: usize,
        /// Bytes of an event's data.
        #[arg(long, default_value_t = 128)]
        payload: usize,
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
    /// Clients that come: how fast, and what one costs.
    Connect {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        clients: Clients,
    },
    /// Clients that do nothing: memory and CPU.
    Idle {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        clients: Clients,
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
    /// Clients that change channels without pause.
    Churn {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        clients: Clients,
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
    /// All come and go, again and again: what memory is left.
    Storm {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        clients: Clients,
        #[arg(long, default_value_t = 6)]
        rounds: usize,
    },
    /// Starts nodes by itself and measures how costs grow; writes results and plots.
    Growth(growth::Growth),
    /// Draws the plots of kept results anew.
    Plot {
        /// What `growth` has written.
        results: PathBuf,
        /// The folder for the plots.
        #[arg(long, default_value = "docs/scaling")]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // As many files as the system gives; what is more than that is refused by name when it happens.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    // The first runtime of a process opens what all later ones share; it must be there before a thread has files of its own.
    let first = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = first.map_err(Into::into).and_then(|_first| run(&cli));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanfare-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let watched = &cli.watched[..];
    let report = match &cli.scenario {
        Scenario::Fanout { target, clients, events } => Bench { target, watched, clients }.fanout("fanout", events)?,
        Scenario::Publish { target, publishers, batch, payload, seconds } => {
            let clients = Clients { connections: 10, channels: 10, connect_rate: 0.0, opening: 10, threads: 1 };
            let events = Events {
                rate: 0.0,
                payload: *payload,
                seconds: *seconds,
                publishers: *publishers,
                batch: *batch,
                in_flight: 256,
                drain: 10.0,
            };
            Bench { target, watched, clients: &clients }.fanout("publish", &events)?
        }
        Scenario::Connect { target, clients } => Bench { target, watched, clients }.connect()?,
        Scenario::Idle { target, clients, seconds } => Bench { target, watched, clients }.idle(*seconds)?,
        Scenario::Churn { target, clients, seconds } => Bench { target, watched, clients }.churn(*seconds)?,
        Scenario::Storm { target, clients, rounds } => Bench { target, watched, clients }.storm(*rounds)?,
        Scenario::Growth(growth) => return growth.run(),
        Scenario::Plot { results, out } => return plot::draw_all(results, out),
    };
    report.print(cli.json.as_deref())?;
    if !report.faults().is_empty() {
        bail!("not every event came once, in order, to its subscribers: {}", report.faults().join(", "));
    }
    Ok(())
}
