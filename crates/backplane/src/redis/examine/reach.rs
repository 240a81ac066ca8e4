//! Why there is no connection to Redis.
//!
//! First a `PING` by hand, in plain: its answer tells TLS from plain, a protected Redis from an open one, and Redis from what
//! is none, which the errors of a client library mix up. Then a connection as nodes make it.

use std::io::ErrorKind;

use redis::aio::MultiplexedConnection;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, ServerErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::super::link::refuses_login;
use super::{PATIENCE, config, open};

/// No connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreachable {
    /// Where it was tried; empty where that is not known.
    pub place: String,
    pub why: Why,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// The URL or a file that the settings name.
    Unusable(String),
    NoSuchHost,
    /// Nobody listens on that port.
    Refused,
    /// No answer at all, in time.
    Silent,
    /// The URL says plain.
    SpeaksTls,
    /// The URL says TLS.
    SpeaksPlain,
    Certificate(String),
    /// And the URL has none.
    WantsPassword,
    WrongPassword,
    /// A Redis without a password, which talks to its own machine only.
    Protected,
    /// Something else answers; its first line.
    NotRedis(String),
    /// It does not know `HELLO`, so it is older than 6.
    TooOld,
    Other(String),
}

/// Connects, or says why not.
pub(super) async fn connect(info: &ConnectionInfo) -> Result<MultiplexedConnection, Why> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => match first_words(host, *port).await? {
            Words::None if speaks_tls(host, *port).await => return Err(Why::SpeaksTls),
            // A proxy that knows few commands, perhaps.
            Words::None => return open(info.clone(), &config()).await.map_err(|_| Why::NotRedis(String::new())),
            words => words.judge()?,
        },
        ConnectionAddr::TcpTls { host, port, .. } => match first_words(host, *port).await? {
            Words::Redis(_) => return Err(Why::SpeaksPlain),
            Words::Other(line) if line.starts_with("HTTP/") => return Err(Why::NotRedis(line)),
            _ => {}
        },
        // A socket file has neither.
        _ => {}
    }
    open(info.clone(), &config()).await.map_err(|error| explained(&error))
}

/// What came back for a `PING`.
#[derive(PartialEq, Debug)]
enum Words {
    /// The connection was ended, or nothing came.
    None,
    /// A line of Redis's protocol.
    Redis(String),
    Other(String),
}

impl Words {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let line = text.lines().next().unwrap_or_default().trim().to_owned();
        match bytes {
            [] => Self::None,
            // The head of a record of TLS.
            [0x15 | 0x16, 3, ..] => Self::None,
            [b'+' | b'-', ..] => Self::Redis(line),
            _ => Self::Other(line),
        }
    }

    fn judge(self) -> Result<(), Why> {
        match self {
            Self::Redis(line) if line.starts_with("-DENIED") => Err(Why::Protected),
            Self::Redis(line) if line.starts_with("-ERR max number of clients") => {
                Err(Why::Other(line[1..].to_owned()))
            }
            Self::Other(line) => Err(Why::NotRedis(line)),
            _ => Ok(()),
        }
    }
}

async fn first_words(host: &str, port: u16) -> Result<Words, Why> {
    let addresses: Vec<_> = match timeout(PATIENCE, lookup_host((host, port))).await {
        Ok(Ok(found)) => found.collect(),
        _ => return Err(Why::NoSuchHost),
    };
    let connected = timeout(PATIENCE, TcpStream::connect(&addresses[..])).await.map_err(|_| Why::Silent)?;
    let mut stream = connected.map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => Why::Refused,
        ErrorKind::TimedOut => Why::Silent,
        _ => Why::Other(error.to_string()),
    })?;
    let mut bytes = [0; 256];
    let exchange = async {
        // A server that protects itself speaks first and may be gone already.
        let _ = stream.write_all(b"*1\r\n$4\r\nPING\r\n").await;
        stream.read(&mut bytes).await.unwrap_or(0)
    };
    let length = timeout(PATIENCE, exchange).await.map_err(|_| Why::Silent)?;
    Ok(Words::of(&bytes[..length]))
}

/// Whoever has a certificate to be looked at, speaks TLS.
async fn speaks_tls(host: &str, port: u16) -> bool {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let addr = ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure: false, tls_params: None };
    let Ok(info) = addr.into_connection_info() else { return false };
    match open(info, &config()).await {
        Ok(_) => true,
        Err(error) => refuses_login(&error) || names_certificate(&error.to_string()),
    }
}

fn names_certificate(text: &str) -> bool {
    text.to_lowercase().contains("certificate")
}

fn explained(error: &RedisError) -> Why {
    let text = error.to_string();
    // The library wraps what Redis said in words of its own.
    match error.kind() {
        _ if text.contains("NOAUTH") => Why::WantsPassword,
        _ if text.contains("NOPERM") => Why::Other(text),
        _ if refuses_login(error) || text.contains("WRONGPASS") => Why::WrongPassword,
        redis::ErrorKind::RESP3NotSupported => Why::TooOld,
        redis::ErrorKind::Server(ServerErrorKind::ResponseError) if text.contains("unknown command") => Why::TooOld,
        _ if names_certificate(&text) => Why::Certificate(text),
        _ if error.is_timeout() => Why::Silent,
        _ if error.is_connection_refusal() => Why::Refused,
        _ => Why::Other(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_words_tell_who_is_there() {
        assert_eq!(Words::of(b"+PONG\r\n").judge(), Ok(()));
        assert_eq!(Words::of(b"-NOAUTH Authentication required.\r\n").judge(), Ok(()));
        assert_eq!(Words::of(b"-DENIED Redis is running in protected mode").judge(), Err(Why::Protected));
        assert_eq!(Words::of(b"\x15\x03\x03\x00\x02\x02\x46"), Words::None);
        let http = Why::NotRedis("HTTP/1.1 400 Bad Request".to_owned());
        assert_eq!(Words::of(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n").judge(), Err(http));
        let full = Words::of(b"-ERR max number of clients reached\r\n").judge();
        assert_eq!(full, Err(Why::Other("ERR max number of clients reached".to_owned())));
    }
}
