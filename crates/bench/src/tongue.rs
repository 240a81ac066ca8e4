//! What clients say on their WebSocket: Pusher's protocol, or Socket.IO's as Laravel Echo speaks it.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::crowd::channel_name;

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Socket.IO answers a subscribe with nothing: so long after it a client counts as subscribed.
const UNTOLD: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(crate) enum Tongue {
    Pusher,
    /// socket.io-client 1 and 2, over Engine.IO 3.
    #[value(name = "socket.io-2")]
    SocketIo2,
    /// socket.io-client 3 and 4, over Engine.IO 4.
    #[value(name = "socket.io-4")]
    SocketIo4,
}

impl Tongue {
    /// Path and query of the upgrade.
    pub(crate) fn path(self, app_key: &str) -> String {
        match self {
            Self::Pusher => format!("/app/{app_key}?protocol=7&client=fanfare-bench&version=1"),
            Self::SocketIo2 => format!("/socket.io/?EIO=3&transport=websocket&app_key={app_key}"),
            Self::SocketIo4 => format!("/socket.io/?EIO=4&transport=websocket&app_key={app_key}"),
        }
    }

    /// From the upgrade to where a client may subscribe.
    pub(crate) async fn begin(self, socket: &mut Socket) -> Result<()> {
        match self {
            Self::Pusher => return self.wait_for(socket, "pusher:connection_established").await,
            Self::SocketIo2 => {}
            Self::SocketIo4 => socket.send(Message::text("40")).await?,
        }
        self.wait_for(socket, "40").await
    }

    /// Asks for a channel and hears the yes, where there is one.
    pub(crate) async fn subscribe(self, socket: &mut Socket, channel: u32) -> Result<()> {
        let name = channel_name(channel);
        if self == Self::Pusher {
            let text = format!(r#"{{"event":"pusher:subscribe","data":{{"channel":"{name}"}}}}"#);
            socket.send(Message::text(text)).await?;
            return self.wait_for(socket, "pusher_internal:subscription_succeeded").await;
        }
        let text = format!(r#"42["subscribe",{{"channel":"{name}","auth":{{"headers":{{}}}}}}]"#);
        socket.send(Message::text(text)).await?;
        tokio::time::sleep(UNTOLD).await;
        Ok(())
    }

    pub(crate) fn leave(self, channel: u32) -> String {
        let name = channel_name(channel);
        match self {
            Self::Pusher => format!(r#"{{"event":"pusher:unsubscribe","data":{{"channel":"{name}"}}}}"#),
            _ => format!(r#"42["unsubscribe",{{"channel":"{name}","auth":{{"headers":{{}}}}}}]"#),
        }
    }

    /// A ping of the protocol wants an answer.
    pub(crate) async fn answer(self, socket: &mut Socket, text: &str) -> Result<()> {
        match self {
            Self::Pusher if text.contains("pusher:ping") => {
                socket.send(Message::text(r#"{"event":"pusher:pong","data":"{}"}"#)).await?;
            }
            Self::SocketIo4 if text == "2" => socket.send(Message::text("3")).await?,
            _ => {}
        }
        Ok(())
    }

    /// Reads up to the frame with this in it.
    async fn wait_for(self, socket: &mut Socket, word: &str) -> Result<()> {
        while let Some(message) = socket.next().await {
            match message? {
                // Socket.IO's first packet has numbers of its own.
                Message::Text(text) if text.contains(word) && !text.starts_with("0{") => return Ok(()),
                Message::Text(text) if text.contains("pusher:error") || text.contains("subscription_error") => {
                    bail!("the server says {text}")
                }
                Message::Text(text) => self.answer(socket, &text).await?,
                Message::Close(Some(close)) => bail!("the server closed: {close}"),
                _ => {}
            }
        }
        bail!("the server closed before {word}")
    }
}
