//! The client's side of TLS, for `https://` and `wss://`: whom it trusts, the handshake, and words for what goes wrong.

use std::io;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
pub use tokio_rustls::client::TlsStream;

/// Mozilla's roots, which are built in, and what the system trusts beside them; `SSL_CERT_FILE` and `SSL_CERT_DIR` name
/// another store in place of the system's, which is how a private authority comes to be trusted. What cannot be read there
/// is not trusted. Blocks while files are read.
pub fn roots() -> RootCertStore {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Trusts [`roots`], and shows no certificate of its own. Blocks while files are read.
///
/// # Errors
/// When rustls takes none of its own defaults.
pub fn config() -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots()).with_no_client_auth())
}

/// Shakes hands. `host`: as in a URL, so an address of IPv6 may have its brackets. Has no time limit of its own.
///
/// # Errors
/// Why there is no TLS with the other side, in words for people.
pub async fn connect(config: Arc<ClientConfig>, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
    let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
    let name = ServerName::try_from(name).map_err(|_| format!("{host} is no name that a certificate could have"))?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| explained(&error))
}

fn explained(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate has an issuer that is not trusted here; of a private authority, name the file in \
             SSL_CERT_FILE"
                .to_owned()
        }
        Some(Error::InvalidMessage(_)) => "it does not speak TLS; is it http:// or ws://?".to_owned(),
        _ => format!("no TLS: {error}"),
    }
}
