//! The certificate and its key: read from their files, and judged before anybody is served with them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys};
use x509_cert::Certificate as X509;
use x509_cert::der::Decode;
use x509_cert::time::Time;

use crate::settings::{self, Problem, Problems};

/// What the two files hold, or why they cannot be read.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    certificate: Result<Vec<u8>, String>,
    /// Empty where there is no such file.
    chain: Result<Vec<u8>, String>,
    key: Result<Vec<u8>, String>,
}

impl Contents {
    pub(super) fn read(files: &settings::Tls) -> Self {
        let read = |path: &Path| std::fs::read(path).map_err(|error| error.to_string());
        let chain = files.chain_file.as_deref().map_or(Ok(Vec::new()), read);
        Self { certificate: read(&files.certificate_file), chain, key: read(&files.key_file) }
    }
}

/// A certificate that clients may be shown.
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) expires: SystemTime,
    /// The same for people, in UTC.
    pub(super) expires_text: String,
}

/// # Errors
/// What is wrong with either file, or between the two.
pub(super) fn judge(files: &settings::Tls, contents: &Contents, now: SystemTime) -> Result<Certificate, Problems> {
    let [certificate_place, key_place, chain_place] = &files.places;
    let of_certificate = |text: String| Problem::new(certificate_place, "tls.certificate_file", text);
    let of_key = |text: String| Problem::new(key_place, "tls.key_file", text);
    let chain = chain(&files.certificate_file, &contents.certificate, now).map_err(of_certificate);
    let behind = behind(files, contents).map_err(|text| Problem::new(chain_place, "tls.chain_file", text));
    let chain = match (chain, behind) {
        (Ok((mut chain, ends)), Ok(behind)) => {
            chain.extend(behind);
            Ok((chain, ends))
        }
        (Err(problem), _) | (Ok(_), Err(problem)) => Err(problem),
    };
    let key = key(&files.key_file, &contents.key).map_err(of_key);
    let ((chain, ends), key) = match (chain, key) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => return Err(Problems([chain.err(), key.err()].into_iter().flatten().collect())),
    };
    let key = CertifiedKey::new(chain, key);
    match key.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => return Err(Problems(vec![of_key(not_its_key(files, &key))])),
        Err(error) => {
            let text = format!("the certificate in {:?} is of no use: {error}", files.certificate_file);
            return Err(Problems(vec![of_certificate(text)]));
        }
    }
    Ok(Certificate { key: Arc::new(key), expires: moment(ends), expires_text: ends.to_string() })
}

type Chain = Vec<CertificateDer<'static>>;

fn chain(path: &Path, content: &Result<Vec<u8>, String>, now: SystemTime) -> Result<(Chain, Time), String> {
    let pem = content.as_ref().map_err(|error| unreadable(path, error))?;
    let chain: Result<Chain, PemError> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| format!("what is in {path:?} is not PEM: {error}"))?;
    let Some(first) = chain.first() else {
        return Err(format!(
            "{path:?} holds no certificate in PEM; write the path of a file with -----BEGIN CERTIFICATE----- in it"
        ));
    };
    let parsed = X509::from_der(first).map_err(|error| format!("the certificate in {path:?} is no X.509: {error}"))?;
    let validity = parsed.tbs_certificate().validity();
    let (begins, ends) = (validity.not_before, validity.not_after);
    if now > moment(ends) {
        return Err(format!("the certificate in {path:?} expired at {ends}; write the path of one that is valid"));
    }
    // A clock that is a little behind the one of who made it is no reason.
    if now + Duration::from_secs(300) < moment(begins) {
        return Err(format!(
            "the certificate in {path:?} is not valid before {begins}; write the path of one that is, or set this \
             machine's clock"
        ));
    }
    Ok((chain, ends))
}

/// What the file of the chain holds.
fn behind(files: &settings::Tls, contents: &Contents) -> Result<Chain, String> {
    let Some(path) = &files.chain_file else { return Ok(Chain::new()) };
    let pem = contents.chain.as_ref().map_err(|error| unreadable(path, error))?;
    let chain: Result<Chain, PemError> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(format!("{path:?} holds no certificate in PEM; leave it out")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("what is in {path:?} is not PEM: {error}")),
    }
}

fn moment(time: Time) -> SystemTime {
    UNIX_EPOCH + time.to_unix_duration()
}

fn key(path: &Path, content: &Result<Vec<u8>, String>) -> Result<Arc<dyn SigningKey>, String> {
    let pem = content.as_ref().map_err(|error| unreadable(path, error))?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        PemError::NoItemsFound if holds(pem, b"ENCRYPTED") => format!(
            "the key in {path:?} wants a passphrase, and there is nobody to type it; write a key without one: \
             openssl pkey -in FILE -out NEW"
        ),
        PemError::NoItemsFound if holds(pem, b"BEGIN CERTIFICATE") => {
            format!("{path:?} holds a certificate and no private key; write the path of its key")
        }
        PemError::NoItemsFound => format!("{path:?} holds no private key in PEM; write the path of one that does"),
        error => format!("what is in {path:?} is not PEM: {error}"),
    })?;
    any_supported_type(&key).map_err(|error| {
        format!("the key in {path:?} is of no use: {error}; write one of RSA (2048 bits or more), ECDSA or Ed25519")
    })
}

fn unreadable(path: &Path, error: &str) -> String {
    format!("{path:?} cannot be read: {error}; write the path of a file that this user may read")
}

fn holds(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}

/// Says of a key that does not belong to the first certificate what is most likely the slip.
fn not_its_key(files: &settings::Tls, key: &CertifiedKey) -> String {
    let settings::Tls { certificate_file, key_file, places, .. } = files;
    let fits = |one: &CertificateDer<'static>| CertifiedKey::new(vec![one.clone()], key.key.clone()).keys_match();
    if key.cert.iter().any(|one| fits(one).is_ok()) {
        return format!(
            "the key in {key_file:?} belongs to a certificate that is not the first in {certificate_file:?} \
             (tls.certificate_file); put the server's own certificate first, its issuers behind it"
        );
    }
    format!(
        "the key in {key_file:?} does not belong to the certificate in {certificate_file:?} (tls.certificate_file, at \
         {}); write the key that the certificate was made for",
        places[0]
    )
}
