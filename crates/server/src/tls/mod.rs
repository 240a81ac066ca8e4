//! TLS on the client port: who shakes hands, with which certificate, and when that is read anew.
//!
//! The certificate is asked for at each handshake, so that a new one holds from the next client on and no connection
//! notices. A new one that is of no use changes nothing.

mod certificate;

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use certificate::{Certificate, Contents};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::metrics::{Metrics, Reload};
use crate::settings::{self, Problem, Problems};

/// How often the log says of a certificate that it has expired.
const DAY: Duration = Duration::from_secs(86_400);

pub(crate) struct Tls {
    files: settings::Tls,
    config: Arc<ServerConfig>,
    shown: Arc<Shown>,
    watched: Mutex<Watched>,
}

/// The certificate that the next client is shown.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// What is known of the files.
struct Watched {
    /// Taken, or refused and told.
    judged: Contents,
    /// Of no use when last seen. Two files are seldom written at one moment, so it is told when it stays so.
    doubtful: Option<Contents>,
    expires: SystemTime,
    expires_text: String,
    /// When the log last said that it has expired.
    lamented: Option<Instant>,
}

impl Tls {
    /// Reads the certificate; `None` where the settings name none.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub(crate) fn start(settings: &settings::Settings) -> Result<Option<Self>, Problems> {
        let Some(files) = settings.tls.clone() else { return Ok(None) };
        let judged = Contents::read(&files);
        let Certificate { key, expires, expires_text } = certificate::judge(&files, &judged, SystemTime::now())?;
        let shown = Arc::new(Shown(RwLock::new(key)));
        let config = config(shown.clone())
            .map_err(|error| Problems(vec![Problem::new("", "tls", format!("TLS does not start: {error}"))]))?;
        let watched = Watched { judged, doubtful: None, expires, expires_text, lamented: None };
        Ok(Some(Self { files, config: Arc::new(config), shown, watched: Mutex::new(watched) }))
    }

    /// What shakes hands.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.config.clone().into()
    }

    /// When the certificate expires, in seconds since 1970.
    pub(crate) fn expires(&self) -> u64 {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.expires.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// Looks at the files and takes a new certificate where there is one. `asked`: by somebody who wants to be told at once.
    /// Blocks while the files are read.
    pub(crate) fn look(&self, asked: bool, metrics: &Metrics) {
        let contents = Contents::read(&self.files);
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        if contents == watched.judged {
            watched.doubtful = None;
            return watched.lament(now);
        }
        match certificate::judge(&self.files, &contents, now) {
            Ok(Certificate { key, expires, expires_text }) => {
                *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = key;
                tracing::info!(expires = expires_text, "the certificate was read anew");
                metrics.reloaded(Reload::Certificate, true);
                *watched = Watched { judged: contents, doubtful: None, expires, expires_text, lamented: None };
            }
            Err(problems) if asked || watched.doubtful.as_ref() == Some(&contents) => {
                for problem in problems.0 {
                    tracing::error!("the certificate stays as it was: {problem}");
                }
                metrics.reloaded(Reload::Certificate, false);
                watched.judged = contents;
                watched.doubtful = None;
            }
            Err(_) => watched.doubtful = Some(contents),
        }
    }
}

impl Watched {
    /// Says once a day that the certificate has expired. Whoever is connected stays so.
    fn lament(&mut self, now: SystemTime) {
        if now > self.expires && self.lamented.is_none_or(|last| last.elapsed() >= DAY) {
            tracing::error!(expired = self.expires_text, "the certificate has expired: clients refuse it");
            self.lamented = Some(Instant::now());
        }
    }
}

fn config(shown: Arc<Shown>) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let mut config = builder.with_safe_default_protocol_versions()?.with_no_client_auth().with_cert_resolver(shown);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Clients that come back all at once are spared the dear half of the handshake, and the node remembers nobody for it.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(config)
}
