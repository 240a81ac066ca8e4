//! The whole gate: style, lints, docs, one release build, all tests, and that none of them went missing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Instant;

use crate::chart_check;
use crate::needs;
use crate::shell::{self, Result};

/// How many tests there are at least; checked in.
const EXPECTED: &str = "tests/expected.txt";

/// What the test runners of all crates said.
#[derive(Default, Debug, PartialEq, Eq)]
struct Count {
    passed: u32,
    failed: u32,
}

impl Count {
    /// Adds a runner's closing line: `test result: ok. 3 passed; 0 failed; …`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let words: Vec<&str> = result.split([' ', ';']).collect();
        let before = |name| words.iter().position(|word| *word == name).and_then(|at| words[at - 1].parse().ok());
        self.passed += before("passed").unwrap_or(0);
        self.failed += before("failed").unwrap_or(0);
    }
}

pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    needs::meet()?;
    let lints = lint();
    shell::run(&mut shell::command(&["cargo", "build", "--locked", "--release", "-p", "server"]))?;
    let chart = chart_check::run();
    let (count, all_well) = tests()?;
    println!("\n{} s", start.elapsed().as_secs());
    let verdict = lints.and(chart).and_then(|()| judge(&count, all_well));
    println!("{} passed, {} failed", count.passed, count.failed);
    verdict
}

/// Style, lints and docs. All of them are asked before one fails; the tests run in any case, so that one run tells all.
fn lint() -> Result<()> {
    let fmt = ["cargo", "fmt", "--all", "--check"];
    let clippy =
        ["cargo", "clippy", "--locked", "--workspace", "--all-targets", "--keep-going", "--", "-D", "warnings"];
    let doc = ["cargo", "doc", "--locked", "--workspace", "--no-deps", "--document-private-items"];
    let results = [
        shell::run(&mut shell::command(&fmt)),
        shell::run(&mut shell::command(&clippy)),
        shell::run(shell::command(&doc).env("RUSTDOCFLAGS", "-D warnings")),
    ];
    results.into_iter().collect()
}

/// Runs them and lets their output through.
fn tests() -> Result<(Count, bool)> {
    // Most of a black-box test is waiting, so more of them than cores run at once.
    let threads = std::thread::available_parallelism().map_or(4, |cores| cores.get().max(4)).to_string();
    let cargo = ["cargo", "test", "--locked", "--workspace", "--no-fail-fast"];
    // What passing tests print are measurements.
    let words = [&cargo[..], &["--", "--show-output", "--test-threads", &threads]].concat();
    println!("\n$ {}", words.join(" "));
    let mut child = shell::command(&words)
        .env("FANFARE_BIN", shell::target().join("release/fanfare"))
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cargo did not start: {error}"))?;
    let mut count = Count::default();
    let output = child.stdout.take().expect("piped above");
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|error| format!("the tests' output is not readable: {error}"))?;
        count.add(&line);
        println!("{line}");
    }
    let status = child.wait().map_err(|error| format!("the tests did not end: {error}"))?;
    Ok((count, status.success()))
}

fn judge(count: &Count, all_well: bool) -> Result<()> {
    let path = shell::root().join(EXPECTED);
    let text = fs::read_to_string(&path).map_err(|error| format!("{EXPECTED}: {error}"))?;
    let expected: u32 = text.trim().parse().map_err(|_| format!("{EXPECTED} is not a number"))?;
    if !all_well || count.failed > 0 {
        return Err("some tests failed".into());
    }
    if count.passed < expected {
        return Err(format!(
            "only {} tests ran, {EXPECTED} says {expected}. If tests were taken out on purpose: echo {} > {EXPECTED}",
            count.passed, count.passed
        ));
    }
    if count.passed > expected {
        println!("More tests than {EXPECTED} says ({expected}). To keep them: echo {} > {EXPECTED}", count.passed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_summed_and_nothing_else() {
        let mut count = Count::default();
        count.add("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        count.add("test a_result ... ok");
        count.add("test result: FAILED. 10 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.00s");
        assert_eq!(count, Count { passed: 13, failed: 2 });
    }
}
