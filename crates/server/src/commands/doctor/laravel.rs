//! Whether Laravel says anything that could come here: what its own `.env` tells.

use super::report::{Check, Report};
use crate::settings::{Flags, Settings};

pub(super) fn examine(flags: &Flags, settings: &Settings, report: &mut Report) {
    match &settings.values.unheard {
        Some((problem, instead)) => report.bad(Check::Laravel, &problem.to_string(), instead),
        None if flags.env_file.is_some() => report.ok(Check::Laravel, "its .env broadcasts to where nodes hear it"),
        None if flags.file.is_none() && flags.echo_server.is_none() && settings.development => {
            report.note(
                Check::Laravel,
                "no settings were found: no fanfare.toml here, no --config, --env-file or FANFARE_…",
            );
        }
        // Nothing is known of it.
        None => {}
    }
}
