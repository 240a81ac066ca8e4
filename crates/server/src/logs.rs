//! What the process says while it runs: lines on standard error, for people at a terminal, JSON for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

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

/// Starts logging for the whole process. Call once; a second call changes nothing.
pub(crate) fn start(format: Format, level: &str) {
    // Checked when the settings were read; were it wrong all the same, saying too much is better than nothing.
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match format {
        Format::Json => lines.json().flatten_event(true).try_init(),
        Format::Auto if !terminal => lines.json().flatten_event(true).try_init(),
        _ => lines.with_ansi(terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())).try_init(),
    };
}
