//! Servers of other kinds: behind TLS, with passwords that change, and behind Sentinel.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use model::Secret;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

use super::tests::{Server, gaps, site, until};
use super::{Settings, TlsFiles};
use crate::LinkStatus;
use crate::conformance::{self, LIMIT, Site, key};

/// Removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("fanfare-redis-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate and its key, as files.
    fn certify(&self, folder: &Folder, name: &str) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec![]).unwrap();
        // OpenSSL takes a certificate of its issuer's name for one that signed itself.
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        let file = |end: &str, pem: &str| folder.write(&format!("{name}.{end}"), pem);
        (file("crt", &certificate), file("key", &key.serialize_pem()))
    }
}

/// A server with TLS on a port beside its plain one, where the test asks; `clients`: whether theirs are wanted.
async fn start_with_tls(folder: &Folder, authority: &Authority, clients: bool) -> (Server, u16) {
    let ca = folder.write("ca.crt", &authority.0.pem());
    let (certificate, key) = authority.certify(folder, "server");
    let port = Server::free_port();
    let shown = |path: &PathBuf| path.display().to_string();
    let words = [
        ("--tls-port", port.to_string()),
        ("--tls-ca-cert-file", shown(&ca)),
        ("--tls-cert-file", shown(&certificate)),
        ("--tls-key-file", shown(&key)),
        ("--tls-auth-clients", if clients { "yes" } else { "no" }.to_owned()),
    ];
    let words: Vec<&str> = words.iter().flat_map(|(name, value)| [*name, value]).collect();
    (Server::start_with(Server::free_port(), &words).await, port)
}

fn with_tls(server: &Server, port: u16, tls: TlsFiles) -> Settings {
    Settings { url: Secret::new(&format!("rediss://127.0.0.1:{port}")), tls, ..server.settings() }
}

async fn until_refused(site: &Site) {
    until("refused", || site.backplane.counters().errors > 2).await;
    assert_eq!(site.backplane.status(), LinkStatus::Starting);
}

#[tokio::test]
async fn it_conforms_behind_tls_with_an_authority_of_its_own() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let (server, port) = start_with_tls(&folder, &authority, false).await;
    let ca = folder.write("trusted.crt", &authority.0.pem());
    let settings = with_tls(&server, port, TlsFiles { ca: Some(ca), ..TlsFiles::default() });
    let (a, b) = (site(settings.clone()), site(settings));
    conformance::one_node(&a).await;
    conformance::cluster::two_nodes(&a, &b).await;
    assert_eq!((a.backplane.counters().errors, b.backplane.counters().errors), (0, 0));
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused_until_it_is_trusted() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let (server, port) = start_with_tls(&folder, &authority, false).await;
    let public = site(with_tls(&server, port, TlsFiles::default()));
    let ca = folder.write("trusted.crt", &Authority::new().0.pem());
    let other = site(with_tls(&server, port, TlsFiles { ca: Some(ca), ..TlsFiles::default() }));
    until_refused(&public).await;
    until_refused(&other).await;
    folder.write("trusted.crt", &authority.0.pem());
    until("up", || other.backplane.status() == LinkStatus::Up).await;
    other.ask(0, &key("plain"), 1);
    other.admitted(0, &key("plain"), 1).await;
    assert_eq!(public.backplane.status(), LinkStatus::Starting);
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_one() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let (server, port) = start_with_tls(&folder, &authority, true).await;
    let ca = Some(folder.write("trusted.crt", &authority.0.pem()));
    let nameless = site(with_tls(&server, port, TlsFiles { ca: ca.clone(), ..TlsFiles::default() }));
    let (certificate, key_file) = authority.certify(&folder, "node");
    let tls = TlsFiles { ca, certificate: Some(certificate), key: Some(key_file) };
    let known = site(with_tls(&server, port, tls));
    known.ask(0, &key("plain"), 1);
    known.admitted(0, &key("plain"), 1).await;
    known.mark(&known, 0, &key("plain"), "through").await;
    until_refused(&nameless).await;
}

/// A node that has its URL from a file, and may log in as `node`.
async fn start_with_login(server: &Server, folder: &Folder) -> (Site, impl Fn(&str)) {
    server.ask(&["ACL", "SETUSER", "node", "on", ">one", "~*", "&*", "+@all"]).await;
    let (file, port) = (folder.0.join("url"), server.port);
    let write = {
        let file = file.clone();
        move |password: &str| std::fs::write(&file, format!("redis://node:{password}@127.0.0.1:{port}\n")).unwrap()
    };
    write("one");
    let site = site(Settings { url_file: Some(file), ..server.settings() });
    site.ask(0, &key("plain"), 1);
    site.admitted(0, &key("plain"), 1).await;
    (site, write)
}

#[tokio::test]
async fn a_password_that_changed_is_read_again_after_the_link_is_lost() {
    let (server, folder) = (Server::start().await, Folder::new());
    let (site, write) = start_with_login(&server, &folder).await;
    server.ask(&["ACL", "SETUSER", "node", "resetpass", ">two"]).await;
    site.mark(&site, 0, &key("plain"), "a link that lives goes on").await;
    server.ask(&["CLIENT", "KILL", "USER", "node"]).await;
    until("lost", || matches!(site.backplane.status(), LinkStatus::Down { .. })).await;
    let before = site.backplane.counters().auth_failures;
    until("refused", || site.backplane.counters().auth_failures > before + 2).await;
    write("two");
    let written = Instant::now();
    until("healed", || site.backplane.status() == LinkStatus::Up).await;
    println!("healed {:?} after the password was right", written.elapsed());
    assert!(written.elapsed() < Duration::from_secs(5), "{:?}", written.elapsed());
    site.mark(&site, 0, &key("plain"), "after").await;
    assert_eq!(gaps(&site), 1);
}

#[tokio::test]
async fn a_link_whose_password_is_refused_lives_until_the_new_one_is_there() {
    let (server, folder) = (Server::start().await, Folder::new());
    let (site, write) = start_with_login(&server, &folder).await;
    server.ask(&["ACL", "SETUSER", "node", "resetpass", ">two"]).await;
    // The connections of the pool have no name; the next heartbeat wants another.
    let clients: String = redis::from_redis_value(server.ask(&["CLIENT", "LIST"]).await).unwrap();
    let pooled = clients.lines().filter(|line| line.contains(" user=node") && line.contains(" name= "));
    for line in pooled {
        let id = line.split(' ').next().and_then(|word| word.strip_prefix("id=")).unwrap();
        server.ask(&["CLIENT", "KILL", "ID", id]).await;
    }
    until("refused", || site.backplane.counters().auth_failures > 3).await;
    assert_eq!(site.backplane.status(), LinkStatus::Up);
    site.mark(&site, 0, &key("plain"), "meanwhile").await;
    write("two");
    until("a new link", || site.backplane.counters().reconnects == 1).await;
    site.mark(&site, 0, &key("plain"), "after").await;
    assert_eq!(gaps(&site), 0, "it was only replaced");
}

/// Watches one master with a replica.
struct Sentinel(Child);

impl Sentinel {
    fn start(folder: &Folder, port: u16, master: &Server) -> Self {
        let config = format!(
            "port {port}\nbind 127.0.0.1\nrequirepass watch\nsentinel monitor main 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n",
            master.port
        );
        Self::run(folder, &config)
    }

    /// With the whole of its settings, in a file that it may rewrite.
    fn run(folder: &Folder, config: &str) -> Self {
        let config = folder.write("sentinel.conf", config);
        let mut command = Command::new("redis-server");
        command.arg(config).arg("--sentinel").current_dir(&folder.0).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn is_master(server: &Server) -> bool {
    let role = server.try_ask(&["ROLE"]).await;
    matches!(role, Some(redis::Value::Array(parts)) if parts.first() == Some(&redis::Value::BulkString(b"master".to_vec())))
}

/// A replica that follows its master.
async fn replica_of(master: &Server) -> Server {
    let words = ["--replicaof", "127.0.0.1", &master.port.to_string(), "--repl-diskless-sync-delay", "0"];
    let replica = Server::start_with(Server::free_port(), &words).await;
    let follows = async || {
        let info: String = redis::from_redis_value(replica.ask(&["INFO", "replication"]).await).unwrap();
        info.contains("master_link_status:up")
    };
    until_so("the replica follows", follows).await;
    replica
}

/// As `until`, for what takes a question.
async fn until_so(what: &str, check: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !check().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A sentinel looks for replicas every ten seconds, and at first.
async fn knows_a_replica(port: u16) -> bool {
    let client = redis::Client::open(format!("redis://:watch@127.0.0.1:{port}")).unwrap();
    let Ok(mut connection) = client.get_multiplexed_async_connection().await else { return false };
    let mut command = redis::cmd("SENTINEL");
    let replicas = command.arg("REPLICAS").arg("main").query_async::<Vec<redis::Value>>(&mut connection).await;
    replicas.is_ok_and(|replicas| !replicas.is_empty())
}

/// Two nodes that are linked to the master; the first of the sentinels that they know is not there.
async fn behind_sentinel(master: &Server, port: u16) -> [Site; 2] {
    let dead = Server::free_port();
    let url = format!("redis+sentinel://127.0.0.1:{dead},127.0.0.1:{port}/main?sentinel_password=watch");
    let settings = Settings { url: Secret::new(&url), ..master.settings() };
    let sites = [site(settings.clone()), site(settings)];
    for site in &sites {
        site.ask(0, &key("plain"), 1);
        site.admitted(0, &key("plain"), 1).await;
    }
    sites[0].mark(&sites[1], 0, &key("plain"), "before").await;
    until_so("the sentinel sees the replica", async || knows_a_replica(port).await).await;
    sites
}

#[tokio::test]
async fn delivery_is_back_within_three_seconds_of_a_promotion_by_sentinel() {
    let folder = Folder::new();
    let master = Server::start().await;
    let replica = replica_of(&master).await;
    let port = Server::free_port();
    let _sentinel = Sentinel::start(&folder, port, &master);
    let [a, b] = behind_sentinel(&master, port).await;
    let killed = Instant::now();
    drop(master);
    until_so("promoted", async || is_master(&replica).await).await;
    let promoted = Instant::now();
    until("both are back", || gaps(&a) == 1 && gaps(&b) == 1).await;
    a.mark(&b, 0, &key("plain"), "from b").await;
    b.mark(&a, 0, &key("plain"), "from a").await;
    let took = promoted.elapsed();
    println!("promoted {:?} after the kill, delivery {took:?} after that", promoted - killed);
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!((gaps(&a), gaps(&b)), (1, 1));
}

#[tokio::test]
async fn sentinels_are_asked_by_tls_and_so_is_their_master() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let (master, tls_port) = start_with_tls(&folder, &authority, false).await;
    let (certificate, key_file) = authority.certify(&folder, "sentinel");
    let port = Server::free_port();
    // Clients by TLS only; so are the masters that it watches.
    let config = format!(
        "port 0\ntls-port {port}\nbind 127.0.0.1\ntls-replication yes\ntls-auth-clients no\ntls-cert-file {}\n\
         tls-key-file {}\ntls-ca-cert-file {}\nsentinel monitor main 127.0.0.1 {tls_port} 1\n",
        certificate.display(),
        key_file.display(),
        folder.0.join("ca.crt").display()
    );
    let _sentinel = Sentinel::run(&folder, &config);
    let url = Secret::new(&format!("rediss+sentinel://127.0.0.1:{port}/main"));
    let behind = |ca: &Authority, name: &str| {
        let ca = Some(folder.write(name, &ca.0.pem()));
        site(Settings { url: url.clone(), tls: TlsFiles { ca, ..TlsFiles::default() }, ..master.settings() })
    };
    let (trusting, doubting) = (behind(&authority, "trusted.crt"), behind(&Authority::new(), "other.crt"));
    trusting.ask(0, &key("plain"), 1);
    trusting.admitted(0, &key("plain"), 1).await;
    trusting.mark(&trusting, 0, &key("plain"), "through").await;
    until_refused(&doubting).await;
}

#[tokio::test]
async fn a_master_that_does_not_know_that_it_was_replaced_is_left() {
    let folder = Folder::new();
    // Nobody can demote it.
    let words = ["--rename-command", "REPLICAOF", "", "--rename-command", "SLAVEOF", ""];
    let master = Server::start_with(Server::free_port(), &words).await;
    let replica = replica_of(&master).await;
    let port = Server::free_port();
    let _sentinel = Sentinel::start(&folder, port, &master);
    let [a, b] = behind_sentinel(&master, port).await;
    master.signal("STOP");
    until_so("promoted", async || is_master(&replica).await).await;
    master.signal("CONT");
    let awake = Instant::now();
    until("both have left", || gaps(&a) == 1 && gaps(&b) == 1).await;
    println!("left {:?} after the old master woke", awake.elapsed());
    assert!(is_master(&master).await);
    let payload = r#"{"event":"by the new one","data":0}"#;
    replica.ask(&["PUBLISH", "app_database_main_plain", payload]).await;
    for site in [&a, &b] {
        site.until_said(0, &key("plain"), "by the new one").await;
    }
}
