//! The fault suite and the soak: runs them one at a time and writes what they print into `docs/reliability.md`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::needs;
use crate::shell::{self, Result};

const PAGE: &str = "docs/reliability.md";
const COLUMNS: &str =
    "Clients | Published | Lost | Not told | Doubled | Out of order | Ghosts | False member events | Gaps told";
const COLUMNS_OF_HISTORY: &str = "Clients | Published | Lost | Not told | Doubled | Out of order | Gaps told | Came back and missed nothing | Came back and were told of a loss";

/// A table of the page: what its rows are found by, and what stands between its marks.
struct Table {
    name: &'static str,
    /// What the tests print before a row's cells.
    mark: &'static str,
    head: &'static str,
    columns: &'static str,
    tail: &'static str,
}

/// Tests that print rows.
struct Suite {
    /// The arguments of `cargo test` behind `--`.
    words: &'static [&'static str],
    command: &'static str,
}

const FAULT_SUITE: Suite =
    Suite { words: &["faults::", "--include-ignored", "--skip", "faults::soak"], command: "cargo xtask test faults" };

const SOAK_SUITE: Suite = Suite { words: &["faults::soak", "--include-ignored"], command: "cargo xtask test soak" };

const FAULTS: Table = Table {
    name: "faults",
    mark: "fault row: ",
    head: "# | Fault",
    columns: COLUMNS,
    tail: "Healed after | Beside that",
};

const HISTORY: Table = Table {
    name: "history",
    mark: "history row: ",
    head: "# | Fault",
    columns: COLUMNS_OF_HISTORY,
    tail: "Healed after | Beside that",
};

const SOAK: Table = Table {
    name: "soak",
    mark: "soak row: ",
    head: "When, and of what | Minutes | Nodes | Clients closed",
    columns: COLUMNS,
    tail: "Slowest return | Memory of the first node | Beside that",
};

/// All rows anew.
pub(crate) fn run() -> Result<()> {
    let lines = FAULT_SUITE.measure()?;
    let made = made(FAULT_SUITE.command)?;
    for table in [FAULTS, HISTORY] {
        let mut rows = table.rows(&lines)?;
        rows.sort_by_key(|row| place(row));
        write(&table, |_| format!("{made}\n\n{}", table.print(&rows)))?;
    }
    Ok(())
}

/// One more row.
pub(crate) fn soak() -> Result<()> {
    let rows = SOAK.rows(&SOAK_SUITE.measure()?)?;
    let made = made(SOAK_SUITE.command)?;
    let new: Vec<String> = rows.iter().map(|row| format!("{made} | {row}")).collect();
    write(&SOAK, |old| {
        let old = old.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")).skip(1);
        let rows: Vec<String> = old.map(str::to_owned).chain(new.iter().cloned()).collect();
        SOAK.print(&rows)
    })
}

impl Suite {
    /// Builds and runs the tests, lets their output through and gives its lines.
    fn measure(&self) -> Result<Vec<String>> {
        needs::meet()?;
        shell::run(&mut shell::command(&["cargo", "build", "--locked", "--release", "-p", "server"]))?;
        let cargo = ["cargo", "test", "--locked", "-p", "tests", "--test", "all", "--"];
        let words = [&cargo[..], self.words, &["--nocapture", "--test-threads", "1"]].concat();
        println!("\n$ {}", words.join(" "));
        let mut child = shell::command(&words)
            .env("FANFARE_BIN", shell::target().join("release/fanfare"))
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cargo did not start: {error}"))?;
        let output = child.stdout.take().expect("piped above");
        let mut lines = Vec::new();
        for line in BufReader::new(output).lines() {
            let line = line.map_err(|error| format!("the tests' output is not readable: {error}"))?;
            println!("{line}");
            lines.push(line);
        }
        let status = child.wait().map_err(|error| format!("the tests did not end: {error}"))?;
        match status.success() {
            true => Ok(lines),
            false => Err(format!("some tests failed; {PAGE} stays as it was")),
        }
    }
}

impl Table {
    fn rows(&self, lines: &[String]) -> Result<Vec<String>> {
        let rows: Vec<String> = lines.iter().filter_map(|line| self.row(line)).collect();
        if rows.is_empty() { Err(format!("no test printed a {}…", self.mark)) } else { Ok(rows) }
    }

    /// The test runner may have begun the line.
    fn row(&self, line: &str) -> Option<String> {
        line.split_once(self.mark).map(|(_, row)| row.trim_end().to_owned())
    }

    fn print(&self, rows: &[String]) -> String {
        let head = format!("{} | {} | {}", self.head, self.columns, self.tail);
        let rule = vec!["---"; head.split(" | ").count()].join("|");
        let rows: String = rows.iter().map(|row| format!("| {row} |\n")).collect();
        format!("| {head} |\n|{rule}|\n{rows}")
    }
}

/// `4b` comes behind `4a` and before `10`, and so does `H4b`.
fn place(row: &str) -> (u32, String) {
    let name = row.split(' ').next().unwrap_or_default().trim_start_matches('H');
    let letters = name.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = name[..name.len() - letters.len()].parse().unwrap_or(u32::MAX);
    (number, letters.to_owned())
}

/// When, of what, where and by what.
fn made(command: &str) -> Result<String> {
    let ask = |words: &[&str]| shell::output(words).ok_or_else(|| format!("`{}` failed", words.join(" ")));
    let date = ask(&["date", "--utc", "+%Y-%m-%d"])?;
    let commit = ask(&["git", "rev-parse", "--short", "HEAD"])?;
    let redis = ask(&["redis-server", "--version"])?;
    let redis =
        redis.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("of unknown version").to_owned();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(format!("{date}, commit {commit}, `{command}`, {cores} cores, redis-server {redis}"))
}

fn write(table: &Table, content: impl Fn(&str) -> String) -> Result<()> {
    let path = shell::root().join(PAGE);
    let page = fs::read_to_string(&path).map_err(|error| format!("{PAGE}: {error}"))?;
    let page = replace(&page, table.name, content).ok_or_else(|| format!("{PAGE} has no marks for {}", table.name))?;
    fs::write(&path, page).map_err(|error| format!("{PAGE}: {error}"))?;
    println!("\nwritten to {PAGE}");
    Ok(())
}

/// What stands between the two comments of this name is made anew from what stood there.
fn replace(page: &str, name: &str, content: impl Fn(&str) -> String) -> Option<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let (before, rest) = page.split_once(&begin)?;
    let (old, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{}{end}{after}", content(old)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_behind_what_the_runner_prints_and_put_in_order() {
        let line = "test faults::link::a_link ... fault row: 4b | The same | 17";
        assert_eq!(FAULTS.row(line).as_deref(), Some("4b | The same | 17"));
        assert_eq!(FAULTS.row("test faults::link::a_link ... ok"), None);
        let mut rows = ["10 | a", "4b | b", "4a | c", "2 | d"];
        rows.sort_by_key(|row| place(row));
        assert_eq!(rows, ["2 | d", "4a | c", "4b | b", "10 | a"]);
        let lines = [line, "test x ... history row: H10 | e", "history row: H2 | f"].map(str::to_owned);
        let mut kept = HISTORY.rows(&lines).unwrap();
        kept.sort_by_key(|row| place(row));
        assert_eq!(kept, ["H2 | f", "H10 | e"]);
        assert_eq!(FAULTS.rows(&lines).unwrap(), ["4b | The same | 17"]);
        assert!(FAULTS.rows(&[]).is_err());
    }

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let page = "prose\n<!-- soak: begin -->\nold\n<!-- soak: end -->\nmore\n";
        let new = replace(page, "soak", |old| format!("{old}new\n"));
        assert_eq!(new.as_deref(), Some("prose\n<!-- soak: begin -->\nold\nnew\n<!-- soak: end -->\nmore\n"));
        assert_eq!(replace(page, "faults", |_| String::new()), None);
    }

    #[test]
    fn a_table_has_a_rule_of_its_heads_width() {
        let table = SOAK.print(&["a | b".into()]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0].matches('|').count(), lines[1].matches('|').count());
        assert_eq!(lines[2], "| a | b |");
    }
}
