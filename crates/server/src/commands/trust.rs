//! Whose certificate a command trusts: the usual ones, and this node's own.
//!
//! A node's certificate bears the name that its clients use, and a command most often speaks to `127.0.0.1`, a pod's
//! address or a Service. So whoever shows the very certificate of `tls.certificate_file`, and proves that he has its key, is
//! a node of these settings, by whatever name or address he was reached.

use std::sync::Arc;

use fanfare_publisher::tls;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::{Failure, say};
use crate::settings::Settings;

/// What to check a certificate by, for `https://` and `wss://`.
pub(super) fn config(settings: &Settings) -> Result<Arc<ClientConfig>, Failure> {
    let config = match own(settings) {
        None => tls::config().map_err(|error| error.to_string()),
        Some(own) => with_own(own),
    };
    config.map(Arc::new).map_err(|error| Failure::Failed(format!("TLS does not start: {error}")))
}

fn with_own(own: CertificateDer<'static>) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(tls::roots()), provider.clone()).build();
    let verifier = OwnOrUsual { own, usual: usual.map_err(|error| error.to_string())? };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.dangerous();
    Ok(builder.with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// The certificate that a node of these settings shows.
fn own(settings: &Settings) -> Option<CertificateDer<'static>> {
    let path = &settings.tls.as_ref()?.certificate_file;
    match CertificateDer::from_pem_file(path) {
        Ok(certificate) => Some(certificate),
        Err(error) => {
            say(&format!(
                "tls.certificate_file {path:?} cannot be read ({error}), so a node is trusted by its name alone"
            ));
            None
        }
    }
}

#[derive(Debug)]
struct OwnOrUsual {
    own: CertificateDer<'static>,
    usual: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for OwnOrUsual {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *shown == self.own {
            return Ok(ServerCertVerified::assertion());
        }
        self.usual.verify_server_cert(shown, between, name, ocsp, now)
    }

    // That he has the key is proven here, whoever's certificate it is.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}
