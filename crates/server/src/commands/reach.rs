//! The way to a node: its address, a connection, and words for what is in the way.

use std::sync::Arc;
use std::time::Duration;

use fanfare_publisher::tls;
use hyper::Uri;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Failure;

/// How long connecting, and then the handshake, may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Plain or TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Where clients connect.
pub(super) struct Address {
    pub(super) is_tls: bool,
    host: String,
    port: u16,
    /// The two as written.
    pub(super) authority: String,
    /// What stands before `/app`, for a node behind a path.
    pub(super) base: String,
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, Failure> {
        let wrong =
            || Failure::Usage(format!("--to {url}: listen connects to a node: write http://host:port or https://host"));
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority =
            uri.authority().map(ToString::to_string).filter(|text| !text.contains('@')).ok_or_else(wrong)?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?.to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Self { is_tls, host, port, authority, base: uri.path().trim_end_matches('/').to_owned() })
    }

    /// Connects, and shakes hands where the URL says so. `tls`: by what its certificate is judged.
    ///
    /// # Errors
    /// Why not, in words for people.
    pub(super) async fn open(&self, tls: Option<Arc<ClientConfig>>) -> Result<Box<dyn Stream>, String> {
        let opening = async {
            let stream = TcpStream::connect((self.host.trim_matches(['[', ']']), self.port)).await;
            let stream = stream.map_err(|error| error.to_string())?;
            Ok::<Box<dyn Stream>, String>(match tls {
                None => Box::new(stream),
                Some(tls) => Box::new(tls::connect(tls, &self.host, stream).await?),
            })
        };
        tokio::time::timeout(TIMEOUT, opening).await.map_err(|_| late())?
    }
}

/// What is said when [`TIMEOUT`] is over.
pub(super) fn late() -> String {
    format!("no answer within {} s", TIMEOUT.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let check = |url: &str, parts: (bool, &str, u16, &str, &str)| {
            let address = Address::parse(url).unwrap_or_else(|_| panic!("{url} is refused"));
            assert_eq!(
                (address.is_tls, &*address.host, address.port, &*address.authority, &*address.base),
                parts,
                "{url}"
            );
        };
        check("http://h", (false, "h", 80, "h", ""));
        check("https://h/base/", (true, "h", 443, "h", "/base"));
        check("https://[::1]:81", (true, "[::1]", 81, "[::1]:81", ""));
        for wrong in ["", "h", "ftp://h", "http://", "http://u:p@h", "http:///x"] {
            assert!(matches!(Address::parse(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }
}
