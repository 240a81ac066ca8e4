//! Where Redis is: what a URL says, read again for each link, and which server is the master now.
//!
//! `redis://[user[:password]@]host[:port][/db]`, `unix:`, and behind Sentinel
//! `redis+sentinel://[user[:password]@]host[:port],host[:port]…/master[/db]`, the login being the master's; the sentinels' own
//! is `?sentinel_username=…&sentinel_password=…`. `rediss://` and `rediss+sentinel://` speak TLS with all of them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::iter;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use redis::{ProtocolVersion, RedisConnectionInfo, TlsCertificates};
use tokio::time::timeout;

use super::link::Failure;
use super::settings::{Settings, StartError, TlsFiles};

/// Sentinels that are asked at a time, and answers that are waited for.
const SENTINELS_ASKED: usize = 3;
/// How long TCP holds on to a connection whose other end takes nothing.
const HELD_UP: Duration = Duration::from_secs(30);

const SENTINEL_PORT: u16 = 26_379;

/// What a URL names.
pub(super) struct Address {
    place: Place,
    /// Without secrets.
    pub shown: Arc<str>,
}

enum Place {
    Server(ConnectionInfo),
    Sentinels {
        sentinels: Vec<ConnectionInfo>,
        /// The name under which they know the master.
        name: String,
        /// What the master is told.
        login: RedisConnectionInfo,
        tls: Option<TlsCertificates>,
    },
}

impl Address {
    /// # Errors
    /// The URL or a file cannot be used. The text has no secret.
    pub(super) fn read(settings: &Settings) -> Result<Self, StartError> {
        let Some(file) = &settings.url_file else { return Self::parse(settings.url.reveal(), &settings.tls) };
        let content = read(file, "redis.url_file")?;
        let url = String::from_utf8(content).map_err(|_| StartError(format!("redis.url_file {file:?} is no text")))?;
        Self::parse(url.trim_end_matches(['\r', '\n']), &settings.tls)
    }

    fn parse(url: &str, files: &TlsFiles) -> Result<Self, StartError> {
        let shown = shown_url(url);
        let wrong = |why: &str| StartError(format!("redis.url {shown} is not usable: {why}"));
        let place = match url.split_once("+sentinel://") {
            Some((scheme, rest)) => sentinels(scheme, rest, files)?.map_err(wrong)?,
            None => {
                // The crate's own text may repeat the URL; its category does not.
                let info = url.into_connection_info().map_err(|error| wrong(error.category()))?;
                if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
                    return Err(wrong("certificates are always checked; name the authority in redis.ca_file"));
                }
                let tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. }).then(|| certificates(files));
                Place::Server(finished(info, tls.transpose()?.as_ref())?)
            }
        };
        Ok(Self { place, shown: shown.into() })
    }

    pub(super) fn has_sentinels(&self) -> bool {
        matches!(self.place, Place::Sentinels { .. })
    }

    /// The server to connect to now.
    pub(super) async fn resolve(&self, limit: Duration) -> Result<ConnectionInfo, Failure> {
        match &self.place {
            Place::Server(info) => Ok(info.clone()),
            Place::Sentinels { sentinels, name, login, tls } => {
                let (host, port) = ask_sentinels(sentinels, name, limit).await?;
                let addr = addr(host, port, tls.is_some());
                let info = addr.into_connection_info()?.set_redis_settings(login.clone());
                finished(info, tls.as_ref()).map_err(|error| Failure::from(error.0))
            }
        }
    }
}

/// Whether a URL of Sentinel can be read; touches no network.
///
/// # Errors
/// What is wrong, without the URL.
pub fn check_sentinel_url(url: &str) -> Result<(), &'static str> {
    let (scheme, rest) = url.split_once("+sentinel://").ok_or("is no URL of Sentinel")?;
    sentinels(scheme, rest, &TlsFiles::default()).map_or(Ok(()), |read| read.map(drop))
}

/// The outer error is of the files, the inner one of the URL.
fn sentinels(scheme: &str, rest: &str, files: &TlsFiles) -> Result<Result<Place, &'static str>, StartError> {
    const WRONG: &str = "write redis+sentinel://user:password@host:26379,host:26379/master";
    let tls = match scheme {
        "redis" => None,
        "rediss" => Some(certificates(files)?),
        _ => return Ok(Err("a URL of Sentinel begins with redis+sentinel:// or rediss+sentinel://")),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
    let mut parts = place.split('/');
    let (hosts, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (db, more) = (parts.next().unwrap_or_default(), parts.next());
    if name.is_empty() || more.is_some() {
        return Ok(Err(WRONG));
    }
    let mut own = ["", ""];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sentinel_username", value)) => own[0] = value,
            Some(("sentinel_password", value)) => own[1] = value,
            _ => return Ok(Err("only sentinel_username and sentinel_password may stand behind the question mark")),
        }
    }
    let own = (own != ["", ""]).then(|| own.join(":"));
    // The crate decodes and checks a login; the host is not of interest.
    let settings = |login: Option<&str>, db: &str| {
        let login = login.map_or(String::new(), |login| format!("{login}@"));
        let info = format!("redis://{login}host:1/{db}").into_connection_info();
        info.map(|info| info.redis_settings().clone()).map_err(|_| WRONG)
    };
    let (Ok(login), Ok(own)) = (settings(login, db), settings(own.as_deref(), "")) else { return Ok(Err(WRONG)) };
    let mut sentinels = Vec::new();
    for host in hosts.split(',') {
        let Some((host, port)) = host_and_port(host) else { return Ok(Err(WRONG)) };
        let info = addr(host, port, tls.is_some()).into_connection_info().map_err(|_| StartError(WRONG.to_owned()))?;
        sentinels.push(finished(info.set_redis_settings(own.clone()), tls.as_ref())?);
    }
    Ok(Ok(Place::Sentinels { sentinels, name: name.to_owned(), login, tls }))
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        // A colon within brackets belongs to the address.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, SENTINEL_PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

fn addr(host: String, port: u16, tls: bool) -> ConnectionAddr {
    match tls {
        true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host, port),
    }
}

/// With what all our connections have.
fn finished(info: ConnectionInfo, tls: Option<&TlsCertificates>) -> Result<ConnectionInfo, StartError> {
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(3)).with_retries(3);
    // Well above the probe's time-out: a link that is only held up must not be closed by TCP before it is replaced.
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(HELD_UP);
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    let info = info.set_tcp_settings(tcp).set_redis_settings(redis);
    let Some(tls) = tls else { return Ok(info) };
    // The crate's errors name what is wrong with the certificates, which are no secret, and never the key.
    let client = Client::build_with_tls(info, tls.clone());
    let client = client.map_err(|error| StartError(format!("the certificates for Redis are not usable: {error}")))?;
    Ok(client.get_connection_info().clone())
}

/// For connections on which a command that was given up is sent again by another: what was not taken by then never arrives behind
/// it.
pub(super) fn impatient(info: ConnectionInfo, patience: Duration) -> ConnectionInfo {
    let tcp = info.tcp_settings().clone().set_user_timeout(patience);
    info.set_tcp_settings(tcp)
}

fn certificates(files: &TlsFiles) -> Result<TlsCertificates, StartError> {
    // The crate takes the provider of the process, and panics where there is none. Another that is there already stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root_cert = files.ca.as_deref().map(|file| read(file, "redis.ca_file")).transpose()?;
    if root_cert.as_ref().is_some_and(|pem| !pem.windows(17).any(|word| word == b"BEGIN CERTIFICATE")) {
        return Err(StartError(format!("redis.ca_file {:?} holds no certificate in PEM", files.ca)));
    }
    let client_tls = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => Some(ClientTlsConfig {
            client_cert: read(certificate, "redis.certificate_file")?,
            client_key: read(key, "redis.key_file")?,
        }),
        _ => None,
    };
    Ok(TlsCertificates { client_tls, root_cert })
}

fn read(file: &Path, setting: &str) -> Result<Vec<u8>, StartError> {
    std::fs::read(file).map_err(|error| StartError(format!("{setting} {file:?} cannot be read: {error}")))
}

/// The address that most of the first answers name: one sentinel may be cut off from the others and know no better.
async fn ask_sentinels(sentinels: &[ConnectionInfo], name: &str, limit: Duration) -> Result<(String, u16), Failure> {
    let questions: Vec<_> = sentinels.iter().map(|info| ask_sentinel(info.clone(), name.to_owned(), limit)).collect();
    let mut asking = std::pin::pin!(iter(questions).buffer_unordered(SENTINELS_ASKED));
    let (mut found, mut failure) = (Vec::new(), Failure::from("no sentinel is named"));
    while found.len() < SENTINELS_ASKED
        && let Some(answer) = asking.next().await
    {
        match answer {
            Ok(address) => found.push(address),
            Err(error) => failure = error,
        }
    }
    let votes = |address: &(String, u16)| found.iter().filter(|other| *other == address).count();
    found.iter().max_by_key(|address| votes(address)).cloned().ok_or(failure)
}

async fn ask_sentinel(sentinel: ConnectionInfo, name: String, limit: Duration) -> Result<(String, u16), Failure> {
    let asking = async {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(limit)).set_response_timeout(Some(limit));
        let client = Client::open(sentinel.clone())?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&name);
        Ok::<Option<(String, u16)>, Failure>(command.query_async(&mut connection).await?)
    };
    let answer = timeout(limit, asking).await;
    let whom = format!("the sentinel at {}", sentinel.addr());
    match answer {
        Ok(Ok(Some(found))) => Ok(found),
        Ok(Ok(None)) => Err(format!("{whom} knows no master {name:?}").into()),
        Ok(Err(failure)) => Err(failure.at(&whom)),
        Err(_) => Err(format!("{whom} gave no answer").into()),
    }
}

/// A URL without its password and query.
pub fn shown_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "(no scheme)".to_owned() };
    // The login first: a password may hold a question mark where it should not.
    let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
    let place = place.split(['?', '#']).next().unwrap_or_default();
    match login {
        Some(login) => format!("{scheme}://{}:***@{place}", login.split(':').next().unwrap_or_default()),
        None => format!("{scheme}://{place}"),
    }
}

#[cfg(test)]
mod tests {
    use model::Secret;

    use super::*;

    fn read(url: &str) -> Result<Address, StartError> {
        Address::read(&Settings { url: Secret::new(url), ..Settings::default() })
    }

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        for url in [
            "redis://me:hush@host:port",
            "hush",
            "http://me:hush@x",
            "rediss://:hush@x:1/#insecure",
            "redis://:hu@sh@:1",
            "redis://:hu?sh@:1",
            "redis+sentinel://:hush@host",
            "redis+sentinel://:hush@host:port/main",
            "redis+sentinel://:hush@host,/main",
            "redis+sentinel://:hush@host/main/0/1",
            "redis+sentinel://:hush@host/main?sentinel_pass=hush",
            "valkey+sentinel://:hush@host/main",
        ] {
            let error = read(url).err().unwrap_or_else(|| panic!("{url}")).to_string();
            assert!(error.starts_with("redis.url ") && !error.contains("hush") && !error.contains("hu"), "{error}");
        }
        assert_eq!(shown_url("redis://me:hush@[::1]:1/2?protocol=resp3"), "redis://me:***@[::1]:1/2");
        assert_eq!(shown_url("redis://a:1/2?pass=hush"), "redis://a:1/2");
    }

    #[test]
    fn a_url_of_sentinel_names_them_all_and_two_logins() {
        let url = "redis+sentinel://me:h%40sh@a,[::1]:7,c:8/main/3?sentinel_username=they&sentinel_password=hu%2Fsh";
        let address = read(url).unwrap();
        assert_eq!(&*address.shown, "redis+sentinel://me:***@a,[::1]:7,c:8/main/3");
        let Place::Sentinels { sentinels, name, login, tls } = address.place else { panic!("no sentinels") };
        let addresses: Vec<_> = sentinels.iter().map(|info| info.addr().clone()).collect();
        let expected = [("a", 26_379), ("::1", 7), ("c", 8)].map(|(host, port)| addr(host.to_owned(), port, false));
        assert_eq!((addresses, name.as_str(), tls.is_none()), (expected.to_vec(), "main", true));
        assert_eq!((login.username(), login.password(), login.db()), (Some("me"), Some("h@sh"), 3));
        let own = sentinels[0].redis_settings();
        assert_eq!((own.username(), own.password(), own.db()), (Some("they"), Some("hu/sh"), 0));
        let Place::Sentinels { sentinels, .. } = read("rediss+sentinel://a/main").unwrap().place else { panic!() };
        assert!(matches!(sentinels[0].addr(), ConnectionAddr::TcpTls { insecure: false, .. }));
        assert_eq!(sentinels[0].redis_settings().username(), None);
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let file = std::env::temp_dir().join(format!("fanfare-ca-{}", std::process::id()));
        std::fs::write(&file, "no certificate").unwrap();
        let start = |tls: TlsFiles| {
            let settings = Settings { url: Secret::new("rediss://:hush@host"), tls, ..Settings::default() };
            Address::read(&settings).err().unwrap().to_string()
        };
        let error = start(TlsFiles { ca: Some(file.clone()), ..TlsFiles::default() });
        assert!(error.starts_with("redis.ca_file ") && error.ends_with("holds no certificate in PEM"), "{error}");
        let error = start(TlsFiles { ca: Some("/nowhere/ca".into()), ..TlsFiles::default() });
        assert!(error.starts_with("redis.ca_file \"/nowhere/ca\" cannot be read"), "{error}");
        let (certificate, key) = (Some(file.clone()), Some(file.clone()));
        let error = start(TlsFiles { certificate, key, ca: None });
        assert!(error.starts_with("the certificates for Redis are not usable"), "{error}");
        std::fs::remove_file(file).unwrap();
    }
}
