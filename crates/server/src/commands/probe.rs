//! `fanfare probe`: one event goes the whole way, from the HTTP API to a socket, and the time it took.
//!
//! The channel is a new one each time, so nobody else hears it and probes do not disturb each other.

use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use fanfare_publisher::{Event, Publisher, RawJson};
use futures_util::StreamExt;
use model::App;
use tokio_tungstenite::tungstenite::Message;

use super::listen::{self, Frame, Socket};
use super::{Failure, print, publish, target};
use crate::cli::Probe;
use crate::settings::{NamedApp, Settings};

/// How long the way may take in all, once connected.
const LIMIT: Duration = Duration::from_secs(10);

const EVENT: &str = "probe";

pub(super) async fn run(asked: &Probe, settings: &Settings) -> Result<(), Failure> {
    let app = target::app(asked.app.as_deref(), settings)?;
    let to = target::url(asked.to.as_deref(), settings)?;
    let hear = target::url(asked.hear.as_deref().or(Some(&to)), settings)?;
    let channel = format!("fanfare-probe-{:016x}", random());
    let mut socket = listen::connect(&hear, &app.app, settings).await?;
    let publisher = publish::publisher(&to, app, settings)?;
    let way = async {
        subscribe(&mut socket, &app.app, &channel).await?;
        let began = Instant::now();
        publish_one(&publisher, app, &channel).await?;
        while next(&mut socket, &hear).await?.as_deref() != Some(EVENT) {}
        Ok::<_, Failure>(began.elapsed())
    };
    let late = |_| Failure::Failed(format!("published to {to}, not heard at {hear} within {} s", LIMIT.as_secs()));
    let took = tokio::time::timeout(LIMIT, way).await.map_err(late)??;
    let milliseconds = took.as_secs_f64() * 1e3;
    print(&format!("published to {to}, heard at {hear} after {milliseconds:.1} ms\n"))
}

async fn subscribe(socket: &mut Socket, app: &App, channel: &str) -> Result<(), Failure> {
    let channels = [channel.to_owned()];
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                let frame = Frame::parse(text.as_str())?;
                match frame.event.as_str() {
                    "pusher:connection_established" => {
                        for subscribe in listen::subscribes(&frame, app, &channels)? {
                            listen::send(socket, subscribe).await?;
                        }
                    }
                    "pusher_internal:subscription_succeeded" => return Ok(()),
                    "pusher:subscription_error" => {
                        return Err(Failure::Refused(format!(
                            "the subscription was refused: {}",
                            listen::said(&frame)
                        )));
                    }
                    _ => {}
                }
            }
            Some(Ok(Message::Close(close))) => return Err(listen::closed(close)),
            Some(Ok(_)) => {}
            _ => return Err(Failure::Failed("the connection ended before the subscription was confirmed".to_owned())),
        }
    }
}

async fn publish_one(publisher: &Publisher, app: &NamedApp, channel: &str) -> Result<(), Failure> {
    let event = Event::new(channel, EVENT, RawJson::null());
    publisher.publish(&event).await.map_err(|error| publish::failure(&error, app))?;
    Ok(())
}

/// The name of the next event; `None` for a message that is none.
async fn next(socket: &mut Socket, url: &str) -> Result<Option<String>, Failure> {
    match socket.next().await {
        Some(Ok(Message::Text(text))) => Ok(Some(Frame::parse(text.as_str())?.event)),
        Some(Ok(Message::Close(close))) => Err(listen::closed(close)),
        Some(Ok(_)) => Ok(None),
        _ => Err(Failure::Failed(format!("the connection to {url} ended before the event was heard"))),
    }
}

/// From the source of randomness that seeds hash maps.
pub(super) fn random() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
