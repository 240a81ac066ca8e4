//! The `fanfare` binary: the only room with sockets, HTTP, settings, signals and the metrics text.

mod admin;
mod api;
mod banner;
mod cli;
mod clock;
mod commands;
mod directory;
mod door;
mod endpoint;
mod engine_door;
mod gate;
mod gateway_auth;
mod listen;
mod logs;
mod metrics;
mod node;
mod origin;
mod pace;
mod reload;
mod settings;
mod stream;
mod tls;
mod transport;
mod upgrade;
mod webhooks;

use std::process::ExitCode;

fn main() -> ExitCode {
    let invocation = cli::read();
    if !matches!(invocation.command, cli::Command::Serve) {
        return commands::run(&invocation);
    }
    let settings = match settings::load(&invocation.flags) {
        Ok(settings) => settings,
        Err(problems) => return commands::Failure::from(problems).tell(),
    };
    let _logs = logs::start(settings.log.format, &settings.log.level);
    // That the development node stands alone is what it is for, and the banner says so.
    let expected = |warning: &settings::Problem| settings.development && warning.key == "redis.url";
    for warning in settings::warnings(&settings).into_iter().filter(|warning| !expected(warning)) {
        tracing::warn!("{warning}");
    }
    let tls = match tls::Tls::start(&settings) {
        Ok(tls) => tls,
        Err(problems) => return commands::Failure::from(problems).tell(),
    };
    match node::run(settings, invocation.flags, tls) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => commands::Failure::Failed(format!("{error:#}")).tell(),
    }
}
