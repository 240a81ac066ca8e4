//! What the process says while it runs: lines on standard error, for people at a terminal, JSON for machines.
//!
//! A worker must never wait for whoever reads the log: lines go through a bounded queue to a thread that writes them. When
//! the queue is full, new lines are lost, counted, and told of as soon as there is room.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;
use tracing_subscriber::fmt::MakeWriter;

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Format {
    /// Human at a terminal, else JSON.
    #[default]
    Auto,
    Human,
    Json,
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Lines that may wait to be written. Full: the new line is lost and counted.
const WAITING_MAX: usize = 4_096;

/// How long the end of the process waits for the last lines.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Checks filter directives.
///
/// # Errors
/// Which directive is wrong.
pub(crate) fn check(directives: &str) -> Result<(), String> {
    for directive in directives.split(',').map(str::trim) {
        // The filter would take a bare word that is no level for a module's name and, for `inof`, show everything of a
        // module that does not exist: silence.
        if !directive.contains('=') && !LEVELS.contains(&directive.to_lowercase().as_str()) {
            return Err(format!("{directive:?} is not a level"));
        }
        directive.parse::<Directive>().map_err(|error| format!("{directive:?}: {error}"))?;
    }
    Ok(())
}

/// At `debug` and `trace` one wants to hear of clients, not of each step of the libraries below. Whoever names one of these
/// hears it.
fn quieted(level: &str) -> String {
    const LIBRARIES: [&str; 6] = ["hyper", "hyper_util", "h2", "rustls", "tungstenite", "tokio_tungstenite"];
    let loud = |directive: &str| matches!(directive.trim().to_lowercase().as_str(), "debug" | "trace");
    if !level.split(',').any(loud) {
        return level.to_owned();
    }
    // What comes later holds.
    let quiet = LIBRARIES.map(|library| format!("{library}=info")).join(",");
    format!("{quiet},{level}")
}

/// Starts logging for the whole process. Hold the answer until the process ends: dropping it writes the last lines. Call
/// once; after a second call the first still holds.
pub(crate) fn start(format: Format, level: &str) -> Logs {
    // Checked when the settings were read; were it wrong all the same, saying too much is better than nothing.
    let filter = EnvFilter::try_new(quieted(level)).unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = io::stderr().is_terminal();
    let (queue, waiting) = sync_channel(WAITING_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    let logs = Logs { queue: queue.clone() };
    let told = lost.clone();
    let writing = std::thread::Builder::new().name("logs".to_owned());
    if let Err(error) = writing.spawn(move || write_lines(&waiting, &told, &mut io::stderr())) {
        // Without the thread the queue is closed and every line is lost: at least say why.
        let _ = writeln!(io::stderr(), "no log: {error}");
    }
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Queue { queue, lost });
    let _ = match format {
        Format::Json => lines.json().flatten_event(true).try_init(),
        Format::Auto if !terminal => lines.json().flatten_event(true).try_init(),
        _ => lines.with_ansi(terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())).try_init(),
    };
    logs
}

/// The end of the log.
#[must_use = "dropped at once it is the end of nothing; hold it until the process ends"]
pub(crate) struct Logs {
    queue: SyncSender<Item>,
}

impl Drop for Logs {
    fn drop(&mut self) {
        let (written, wait) = sync_channel(1);
        // A full queue means that nobody reads; then there is nobody to have last words for.
        if self.queue.try_send(Item::Last(written)).is_ok() {
            let _ = wait.recv_timeout(LAST_WORDS);
        }
    }
}

enum Item {
    Line(Vec<u8>),
    /// Answered when all lines before it are written.
    Last(SyncSender<()>),
}

#[derive(Clone)]
struct Queue {
    queue: SyncSender<Item>,
    lost: Arc<AtomicU64>,
}

impl Write for Queue {
    /// The formatter writes each line in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Item::Line(line.to_owned())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Queue {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Until all senders are gone. An error of `out` has nobody to be told to.
fn write_lines(waiting: &Receiver<Item>, lost: &AtomicU64, out: &mut impl Write) {
    for item in waiting {
        match item {
            Item::Line(line) => {
                let _ = out.write_all(&line);
            }
            Item::Last(written) => {
                let _ = out.flush();
                let _ = written.send(());
            }
        }
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let text = format!(
                "{{\"level\":\"WARN\",\"message\":\"{missing} log lines were lost: nobody read them in time\"}}\n"
            );
            let _ = out.write_all(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        assert!(check("info").is_ok() && check("info,hub=debug").is_ok() && check("warn, server::api=trace").is_ok());
        assert!(check("inof").is_err() && check("").is_err() && check("info,").is_err() && check("hub=loud").is_err());
    }

    #[test]
    fn a_full_queue_loses_lines_counts_them_and_never_waits() {
        let (queue, waiting) = sync_channel(2);
        let lost = Arc::new(AtomicU64::new(0));
        let mut writer = Queue { queue: queue.clone(), lost: lost.clone() };
        for n in 0..5 {
            writer.write_all(format!("line {n}\n").as_bytes()).unwrap();
        }
        drop((queue, writer));
        let mut out = Vec::new();
        write_lines(&waiting, &lost, &mut out);
        let out = String::from_utf8(out).unwrap();
        assert!(
            out.starts_with("line 0\n") && out.contains("3 log lines were lost") && out.ends_with("line 1\n"),
            "{out}"
        );
    }
}
