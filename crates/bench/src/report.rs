//! What a run has found: a table for people, a line of JSON for keeping.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::tally::Tally;

const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

pub(crate) struct Report {
    scenario: String,
    rows: Vec<(String, String)>,
    values: Map<String, Value>,
    faults: Vec<String>,
}

impl Report {
    pub(crate) fn new(scenario: &str) -> Self {
        Self { scenario: scenario.to_owned(), rows: Vec::new(), values: Map::new(), faults: Vec::new() }
    }

    /// One figure.
    pub(crate) fn value(&mut self, key: &str, label: &str, value: f64, unit: &str) -> &mut Self {
        let digits = if value.abs() >= 100.0 || value.fract() == 0.0 { 0 } else { 2 };
        self.rows.push((label.to_owned(), format!("{value:.digits$} {unit}").trim_end().to_owned()));
        self.values.insert(key.to_owned(), json!(value));
        self
    }

    /// Percentiles of microseconds.
    pub(crate) fn times(&mut self, key: &str, label: &str, times: &Histogram<u64>) -> &mut Self {
        if times.is_empty() {
            return self;
        }
        let at = |(name, quantile): (&str, f64)| (name.to_owned(), times.value_at_quantile(quantile));
        let mut all: Vec<(String, u64)> = PERCENTILES.map(at).to_vec();
        all.push(("max".to_owned(), times.max()));
        let shown: Vec<String> =
            all.iter().map(|(name, micros)| format!("{name} {:.1}", *micros as f64 / 1_000.0)).collect();
        self.rows.push((label.to_owned(), format!("{} ms", shown.join(" · "))));
        let values: Map<String, Value> = all.into_iter().map(|(name, micros)| (name, json!(micros))).collect();
        self.values.insert(format!("{key}_us"), Value::Object(values));
        self
    }

    /// What arrived, and every way in which it should not have. `ordered`: whether a late one is the server's fault.
    pub(crate) fn arrivals(&mut self, tally: &Tally, expected: u64, ordered: bool) -> &mut Self {
        self.value("expected", "deliveries expected", expected as f64, "");
        self.value("received", "received", tally.received as f64, "");
        let faults = [
            ("lost", tally.lost, true),
            ("doubled", tally.doubled, true),
            ("late", tally.late, ordered),
            ("misrouted", tally.misrouted, true),
            ("damaged", tally.damaged, true),
            ("closed", tally.closed, true),
        ];
        for (name, count, counts) in faults {
            let label = if counts { name.to_owned() } else { format!("{name} (publishers share channels)") };
            self.value(name, &label, count as f64, "");
            if counts && count > 0 {
                self.faults.push(format!("{count} {name}"));
            }
        }
        self
    }

    /// Prints the table, and appends the line of JSON where that is wanted.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn print(&self, file: Option<&Path>) -> Result<()> {
        let width = self.rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        println!("{}", self.scenario);
        for (label, value) in &self.rows {
            println!("  {label:width$}  {value}");
        }
        match file {
            Some(file) => self.append_to(file),
            None => Ok(()),
        }
    }

    /// # Errors
    /// The file cannot be written.
    pub(crate) fn append_to(&self, file: &Path) -> Result<()> {
        let shown = || format!("{} cannot be written", file.display());
        let mut out = OpenOptions::new().create(true).append(true).open(file).with_context(shown)?;
        writeln!(out, "{}", self.line()).with_context(shown)
    }

    fn line(&self) -> Value {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let words: Vec<String> = std::env::args().skip(1).collect();
        json!({
            "scenario": self.scenario,
            "at": at,
            "version": env!("CARGO_PKG_VERSION"),
            "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            "kernel": kernel.trim(),
            "command": words.join(" "),
            "results": self.values,
        })
    }

    /// What must not be: nothing, where all is well.
    pub(crate) fn faults(&self) -> &[String] {
        &self.faults
    }
}
