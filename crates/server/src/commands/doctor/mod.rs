//! `fanfare doctor`: what is wrong between Laravel, Redis and us, in the order in which people get it wrong.
//!
//! One file a subject; each gives findings to the `report`, and none ends the command: what depends on a check that failed is
//! skipped, all else is looked at. Nothing is changed anywhere.

mod back_end;
mod clock;
mod laravel;
mod limits;
mod node;
mod prefix;
mod public;
mod question;
mod redis;
mod report;
mod spelling;

use super::Failure;
use super::reach::Address;
use super::target;
use crate::cli::Doctor;
use crate::settings::{Flags, Settings};
use report::Report;

pub(super) async fn run(asked: &Doctor, flags: &Flags, settings: &Settings) -> Result<(), Failure> {
    let node = asked.node.as_deref().map(|url| address("--node", url, settings)).transpose()?;
    let public = asked.public.as_deref().map(|url| address("--public", url, settings)).transpose()?;
    let mut report = Report::new(asked.json);
    laravel::examine(flags, settings, &mut report);
    redis::examine(settings, asked.watch, &mut report).await;
    for app in &settings.apps {
        back_end::examine(app, settings, &mut report).await;
    }
    node::examine(node, settings, &mut report).await;
    if let Some(url) = &public {
        public::examine(url, settings, &mut report).await;
    }
    limits::examine(&mut report);
    report.end()
}

/// The URL as one of HTTP.
fn address(flag: &str, url: &str, settings: &Settings) -> Result<String, Failure> {
    let of_http = target::url(Some(url), settings)?;
    let wrong = |_| Failure::Usage(format!("{flag} {url}: write ws://host:port, wss://host, http://… or https://…"));
    Address::parse(&of_http).map(|_| of_http.trim_end_matches('/').to_owned()).map_err(wrong)
}
