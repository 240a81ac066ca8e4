//! `fanfare publish`: one event, or one for each line of standard input.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::time::{Duration, Instant};

use fanfare_publisher::{Event, PublishError, Published, Publisher, RawJson};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{Failure, say};
use super::{target, trust};
use crate::cli::Publish;
use crate::settings::{NamedApp, Settings};

/// Lines that are read before they are published.
const READ_AHEAD: usize = 1_000;

/// The most lines that go out together.
const TOGETHER: usize = 100;

pub(super) async fn run(asked: &Publish, settings: &Settings) -> Result<(), Failure> {
    let app = target::app(asked.app.as_deref(), settings)?;
    let url = target::url(asked.to.as_deref(), settings)?;
    let publisher = publisher(&url, app, settings)?;
    match (&asked.channel, &asked.event) {
        (Some(channel), Some(name)) => {
            let event = Event::new(channel, name, data(asked.data.as_deref())?);
            let published = publisher.publish(&event).await.map_err(|error| failure(&error, app))?;
            tell_silence(published, &format!("{}{channel}", app.app.redis_prefix));
            Ok(())
        }
        _ => publish_lines(&publisher, app).await,
    }
}

pub(super) fn publisher(url: &str, app: &NamedApp, settings: &Settings) -> Result<Publisher, Failure> {
    let of_http = || {
        let secret = app.app.secrets.first().map_or("", |secret| secret.reveal());
        Publisher::http(url, &app.app.id, &app.app.key, secret).map_err(|error| failure(&error, app))
    };
    match url.split_once("://") {
        Some(("https", _)) if settings.tls.is_some() => Ok(of_http()?.with_tls(trust::config(settings)?)),
        Some(("http" | "https", _)) => of_http(),
        Some(_) => Publisher::redis(url, &app.app.redis_prefix).map_err(|error| failure(&error, app)),
        None => Err(Failure::Usage("--to wants http://host:port, https://host or redis://host:port".to_owned())),
    }
}

/// Redis tells how many heard it. Nobody is allowed, and most often a wrong prefix.
fn tell_silence(published: Published, topic: &str) {
    if published.receivers == Some(0) {
        say(&format!("Nobody listens to {topic} on this Redis: no client is subscribed, or `redis_prefix` is another"));
    }
}

/// The data of the command line: JSON, or else text.
fn data(argument: Option<&str>) -> Result<RawJson, Failure> {
    let text = match argument {
        None => return Ok(RawJson::parse("{}").unwrap_or_else(RawJson::null)),
        Some("-") => {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failure::Failed(format!("standard input: {error}")))?;
            text
        }
        Some(text) => match text.strip_prefix('@') {
            Some(path) => std::fs::read_to_string(path).map_err(|error| Failure::Usage(format!("{path}: {error}")))?,
            None => text.to_owned(),
        },
    };
    // What a shell or editor puts at the end is not meant.
    let text = text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
    if !model::json::is_shallow(text.as_bytes()) {
        return Err(Failure::Usage(format!("the data is nested deeper than {}", model::json::DEPTH_MAX)));
    }
    Ok(RawJson::parse(text).unwrap_or_else(|| RawJson::string(text)))
}

pub(super) fn failure(error: &PublishError, app: &NamedApp) -> Failure {
    let text = error.to_string();
    match error {
        PublishError::BadAddress(_) | PublishError::BadEvent(_) => Failure::Usage(text),
        PublishError::CannotReach { .. } => Failure::CannotReach(text),
        PublishError::Refused { status: Some(500..), .. } => Failure::Failed(text),
        PublishError::Refused { status: Some(401 | 404), .. } => {
            Failure::Refused(format!("{text} (sent as app {}: id {}, key {})", app.name, app.app.id, app.app.key))
        }
        PublishError::Refused { .. } | PublishError::TooLarge(_) => Failure::Refused(text),
        _ => Failure::Failed(text),
    }
}

/// A line of standard input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    channel: String,
    event: String,
    #[serde(borrow)]
    data: Option<&'a serde_json::value::RawValue>,
}

fn parse_line(line: &str) -> Result<Event, String> {
    if !model::json::is_shallow(line.as_bytes()) {
        return Err(format!("nested deeper than {}", model::json::DEPTH_MAX));
    }
    let line: Line = serde_json::from_str(line).map_err(|error| {
        // It counts lines of its own, of which there is one.
        let what = error.to_string().replace("at line 1 column", "at column");
        format!("{what}; a line looks like {{\"channel\":\"c\",\"event\":\"e\",\"data\":1}}")
    })?;
    Ok(Event::new(line.channel, line.event, line.data.map_or_else(RawJson::null, RawJson::from_raw)))
}

/// Publishes in the order of the lines; stops at the first that fails.
async fn publish_lines(publisher: &Publisher, app: &NamedApp) -> Result<(), Failure> {
    let mut lines = read_lines();
    let mut progress = Progress::new();
    let mut batch = Vec::with_capacity(TOGETHER);
    while lines.recv_many(&mut batch, TOGETHER).await > 0 {
        let first = progress.events + 1;
        let mut events = Vec::with_capacity(batch.len());
        let mut wrong = None;
        for line in batch.drain(..) {
            match line {
                Ok(event) => events.push(event),
                Err(failure) => {
                    wrong = Some(failure);
                    break;
                }
            }
        }
        if let Err(error) = publisher.publish_all(&events).await {
            progress.end();
            let among = format!("among events {first} to {}", first + events.len() as u64 - 1);
            return Err(match failure(&error, app) {
                Failure::Failed(text) => Failure::Failed(format!("{among}: {text}")),
                Failure::Usage(text) => Failure::Failed(format!("{among}: {text}")),
                Failure::CannotReach(text) => Failure::CannotReach(format!("{among}: {text}")),
                Failure::Refused(text) => Failure::Refused(format!("{among}: {text}")),
                other => other,
            });
        }
        progress.add(events.len() as u64);
        if let Some(failure) = wrong {
            progress.end();
            return Err(failure);
        }
    }
    progress.end();
    Ok(())
}

/// Reads standard input in a thread of its own: a slow writer must not hold up what was read already.
fn read_lines() -> mpsc::Receiver<Result<Event, Failure>> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    std::thread::spawn(move || {
        for (at, line) in io::stdin().lock().lines().enumerate() {
            let event = match line {
                Ok(line) if line.trim().is_empty() => continue,
                Ok(line) => parse_line(&line).map_err(|wrong| Failure::Failed(format!("line {}: {wrong}", at + 1))),
                Err(error) => Err(Failure::Failed(format!("line {}: {error}", at + 1))),
            };
            let last = event.is_err();
            if sender.blocking_send(event).is_err() || last {
                return;
            }
        }
    });
    receiver
}

/// How far it is, on standard error: now and then at a terminal, and once at the end.
struct Progress {
    events: u64,
    started: Instant,
    shown: Option<Instant>,
}

impl Progress {
    fn new() -> Self {
        let started = Instant::now();
        Self { events: 0, started, shown: io::stderr().is_terminal().then_some(started) }
    }

    fn add(&mut self, events: u64) {
        self.events += events;
        if self.shown.is_some_and(|shown| shown.elapsed() > Duration::from_millis(200)) {
            self.shown = Some(Instant::now());
            // A terminal that has gone is no reason to stop.
            let _ = write!(io::stderr(), "\r{}", self.text());
        }
    }

    fn text(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64().max(0.001);
        let events = if self.events == 1 { "1 event".to_owned() } else { format!("{} events", self.events) };
        format!("{events} published in {seconds:.1} s, {:.0} a second", self.events as f64 / seconds)
    }

    fn end(&self) {
        say(&format!("{}{}", if self.shown.is_some() { "\r" } else { "" }, self.text()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_sent_as_json_and_all_else_as_text() {
        let check = |argument: &str, sent: &str| assert_eq!(data(Some(argument)).unwrap().as_str(), sent, "{argument}");
        check(r#"{"id": 1.0}"#, r#"{"id": 1.0}"#);
        check("7", "7");
        check("hello", "\"hello\"");
        check("\"quoted\"", "\"quoted\"");
        check("{broken", "\"{broken\"");
        check("", "\"\"");
        assert_eq!(data(None).unwrap().as_str(), "{}");
        assert!(matches!(data(Some("@/no/such/file")), Err(Failure::Usage(_))));
        assert!(matches!(data(Some(&"[".repeat(65))), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_line_is_an_event_and_its_data_keeps_its_bytes() {
        let event = parse_line(r#"{"channel":"c","event":"e","data":{"b":1.0, "a":2}}"#).unwrap();
        assert_eq!((&*event.channels[0], &*event.name, event.data.as_str()), ("c", "e", r#"{"b":1.0, "a":2}"#));
        assert!(parse_line(r#"{"channel":"c","event":"e"}"#).unwrap().data.is_null());
        assert!(parse_line(r#"{"channel":"c","name":"e"}"#).unwrap_err().contains("unknown field `name`"));
        assert!(parse_line("hello").unwrap_err().contains("a line looks like"));
    }
}
