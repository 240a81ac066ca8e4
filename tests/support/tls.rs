//! Certificates made for one test, and a tunnel by which clients that speak plain reach a node that speaks TLS.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, CertifiedKey, DnType, IsCa, KeyPair, date_time_ymd};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, sign};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::folder::Folder;

/// Whom a client trusts.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, both in PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// For a node on this machine.
    pub(crate) fn certify(&self) -> Pair {
        self.certify_for(2020..2120)
    }

    /// The same, from one year to another.
    pub(crate) fn certify_for(&self, years: std::ops::Range<i32>) -> Pair {
        let mut params = params();
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        self.sign(params)
    }

    /// For a node that is known by this name alone.
    pub(crate) fn certify_name(&self, name: &str) -> Pair {
        self.sign(CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    /// As [`Self::certify`], for so many seconds from now on.
    pub(crate) fn certify_briefly(&self, seconds: u64) -> Pair {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let mut params = params();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(1970, 1, 1) + since + Duration::from_secs(seconds);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Pair {
        let signing_key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&signing_key, &self.0).unwrap();
        let pair = CertifiedKey { cert, signing_key };
        Pair { certificate: pair.cert.pem(), key: pair.signing_key.serialize_pem() }
    }
}

fn params() -> CertificateParams {
    CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()]).unwrap()
}

/// The two files of a node with TLS.
pub(crate) struct Files {
    pub(crate) folder: Folder,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Files {
    pub(crate) fn with(pair: &Pair) -> Self {
        let folder = Folder::new();
        let (certificate, key) = (folder.write("tls.crt", &pair.certificate), folder.write("tls.key", &pair.key));
        Self { folder, certificate, key }
    }

    pub(crate) fn replace(&self, pair: &Pair) {
        self.folder.write("tls.crt", &pair.certificate);
        self.folder.write("tls.key", &pair.key);
    }

    pub(crate) fn settings(&self) -> [(&str, &str); 2] {
        [("FANFARE_TLS__CERTIFICATE_FILE", &self.certificate), ("FANFARE_TLS__KEY_FILE", &self.key)]
    }
}

/// Takes TLS with this certificate and passes what is said to a port of this machine. The key may be another's.
pub(crate) struct Front {
    pub(crate) port: u16,
}

impl Front {
    pub(crate) fn of(port: u16, pair: &Pair) -> Self {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = sign::CertifiedKey::new(chain, ring::sign::any_supported_type(&key).unwrap());
        let shown = Arc::new(sign::SingleCertAndKey::from(key));
        let acceptor = TlsAcceptor::from(Arc::new(builder.with_cert_resolver(shown)));
        let (tell, told) = mpsc::channel();
        // As the tunnel's.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap().port()).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let acceptor = acceptor.clone();
                    tokio::spawn(async move {
                        let Ok(mut stream) = acceptor.accept(stream).await else { return };
                        let Ok(mut plain) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                        let _ = copy_bidirectional(&mut stream, &mut plain).await;
                    });
                }
            });
        });
        Self { port: told.recv().unwrap() }
    }
}

/// Takes plain connections and passes each on over TLS.
pub(crate) struct Tunnel {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    refused: AtomicU32,
    /// Connections that ended with TLS's own goodbye, and without.
    ended: AtomicU32,
    cut: AtomicU32,
}

impl Tunnel {
    pub(crate) fn to(node: SocketAddr, trusted: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let mut config =
            builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth();
        // Each handshake looks at the certificate.
        config.resumption = Resumption::disabled();
        let connector = TlsConnector::from(Arc::new(config));
        let counts = Arc::new(Counts::default());
        let shared = counts.clone();
        let (tell, told) = mpsc::channel();
        // Lives as long as the tests do: it costs nothing and holds nothing.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap()).unwrap();
                while let Ok((plain, _)) = listener.accept().await {
                    tokio::spawn(pass(plain, node, connector.clone(), shared.clone()));
                }
            });
        });
        Self { address: told.recv().unwrap(), counts }
    }

    pub(crate) fn refused(&self) -> u32 {
        self.counts.refused.load(Ordering::SeqCst)
    }

    pub(crate) fn ended(&self) -> u32 {
        self.counts.ended.load(Ordering::SeqCst)
    }

    pub(crate) fn cut(&self) -> u32 {
        self.counts.cut.load(Ordering::SeqCst)
    }
}

async fn pass(mut plain: TcpStream, node: SocketAddr, connector: TlsConnector, counts: Arc<Counts>) {
    let Ok(stream) = TcpStream::connect(node).await else { return };
    let Ok(mut stream) = connector.connect(ServerName::from(node.ip()), stream).await else {
        counts.refused.fetch_add(1, Ordering::SeqCst);
        return;
    };
    let count = match copy_bidirectional(&mut plain, &mut stream).await {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => &counts.cut,
        _ => &counts.ended,
    };
    count.fetch_add(1, Ordering::SeqCst);
}
