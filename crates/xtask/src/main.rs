//! What a developer types: `cargo xtask test` is the whole gate, the others prove what is too slow for every day.
//!
//! Nothing but the standard library, so that this builds in a second on a fresh clone.

mod chart_check;
mod chroot;
mod compose_check;
mod engine;
mod faults;
mod needs;
mod shell;
mod socket;
mod test;
mod tools;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask test          install what the tests need, check style and lints, build, run all tests
cargo xtask test faults   all faults one at a time, with the long ones; writes the table of docs/reliability.md
cargo xtask test soak     half an hour of nodes that end under load (FANFARE_SOAK_MINUTES); adds a row there
cargo xtask chart-check   the Helm chart: lint, render and validate it with Helm 3 and 4 (part of test)
cargo xtask compose-check builds the image and runs the compose cluster under podman (needs root)
cargo xtask chroot-test   the same in a fresh Debian made for it (needs root and debootstrap)";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["test"] => test::run(),
        ["test", "faults"] => faults::run(),
        ["test", "soak"] => faults::soak(),
        ["chart-check"] => chart_check::run(),
        ["compose-check"] => compose_check::run(),
        ["chroot-test"] => chroot::run(),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
