//! The conformance cases on a real redis-server, and what only Redis and several nodes can do wrong.

use std::collections::{HashMap, HashSet};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{App, ChannelKey, Reason, Secret};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::Settings;
use super::keys::Keys;
use super::presence::{Beat, Store};
use super::scripts::Scripts;
use crate::conformance::cluster::{TOLD, jobs, told, told_app};
use crate::conformance::{self, APP, LIMIT, Site, event, key};
use crate::roster::Renewal;
use crate::{AppSettings, Item, LinkStatus, PublishError, Workers};

/// What the documentation asks operators to grant; `USER` is put in front.
const RIGHTS: &str = include_str!("../../../../docs/redis.acl");

/// A server of the test's own, ended with it.
pub(super) struct Server {
    pub(super) child: Child,
    pub(super) port: u16,
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::start_on(Self::free_port()).await
    }

    pub(super) fn free_port() -> u16 {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    pub(super) async fn start_on(port: u16) -> Self {
        Self::start_with(port, &[]).await
    }

    pub(super) async fn start_with(port: u16, words: &[&str]) -> Self {
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(words)
            .current_dir(std::env::temp_dir())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("redis-server does not start ({error}): apt-get install redis-server"));
        let server = Self { child, port };
        let deadline = Instant::now() + LIMIT;
        while server.try_ask(&["PING"]).await.is_none() {
            assert!(Instant::now() < deadline, "redis-server on port {port} does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server
    }

    pub(super) async fn try_ask(&self, words: &[&str]) -> Option<redis::Value> {
        let client = redis::Client::open(("127.0.0.1", self.port)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.ok()
    }

    pub(super) async fn ask(&self, words: &[&str]) -> redis::Value {
        self.try_ask(words).await.unwrap_or_else(|| panic!("{words:?} failed"))
    }

    /// Names as in an ACL.
    async fn commands_used(&self) -> HashSet<String> {
        let stats: String = redis::from_redis_value(self.ask(&["INFO", "commandstats"]).await).unwrap();
        let names = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next());
        names.map(str::to_owned).collect()
    }

    /// Killed, and back with what the file has.
    async fn restart_from(self, file: &str) -> Self {
        let port = self.port;
        drop(self);
        Self::start_with(port, &["--dbfilename", file]).await
    }

    async fn restart(self) -> Self {
        let port = self.port;
        drop(self);
        Self::start_on(port).await
    }

    pub(super) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            url: Secret::new(&format!("redis://127.0.0.1:{}", self.port)),
            apps: vec![app(APP, "app_database_main_"), told_app()],
            webhook_delay: Duration::from_millis(300),
            linger: Duration::from_millis(50),
            probe_interval: Duration::from_millis(200),
            probe_timeout: Duration::from_secs(1),
            presence_heartbeat: Duration::from_millis(200),
            presence_dead_after: Duration::from_millis(800),
            ..Settings::default()
        }
    }

    pub(super) fn site(&self) -> Site {
        site(self.settings())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn app(id: &str, prefix: &str) -> AppSettings {
    AppSettings { prefix: prefix.into(), ..AppSettings::of(&App::new(id, "key", "secret")) }
}

pub(super) fn site(settings: Settings) -> Site {
    Site::new(|workers| super::start(settings, workers, Handle::current()).unwrap())
}

pub(super) async fn until(what: &str, check: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !check() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) fn gaps(site: &Site) -> usize {
    site.items(0).iter().filter(|item| matches!(item, Item::LinkGap)).count()
}

/// All member events that a worker was sent on a channel.
fn member_events(site: &Site, worker: usize, channel: &ChannelKey) -> Vec<String> {
    let mut said = site.said(worker, channel);
    said.retain(|said| said.starts_with(['+', '-']));
    said
}

#[tokio::test]
async fn the_redis_backplane_conforms() {
    let server = Server::start().await;
    let site = server.site();
    conformance::one_node(&site).await;
    site.backplane.close().await;
    assert_eq!(server.ask(&["KEYS", "ff:{0}:pn:*"]).await, redis::Value::Array(vec![]));
}

#[tokio::test]
async fn it_conforms_with_the_documented_rights_and_no_more() {
    let server = Server::start().await;
    let rights: Vec<_> = RIGHTS.lines().filter(|l| !l.starts_with('#')).flat_map(str::split_whitespace).collect();
    let rights: Vec<_> = rights.iter().map(|word| word.replace("<prefix>", "app_database_")).collect();
    let mut words = vec!["ACL", "SETUSER", "node", "on", ">hush"];
    words.extend(rights.iter().map(String::as_str));
    server.ask(&words).await;
    let url = Secret::new(&format!("redis://node:hush@127.0.0.1:{}", server.port));
    let settings = Settings { url, ..server.settings() };
    let node = site(settings.clone());
    conformance::one_node(&node).await;
    conformance::cluster::two_nodes(&node, &site(settings.clone())).await;
    // A member of a node that dies is reaped, and a flushed server gets everybody back, with the same rights.
    let channel = key("presence-rights");
    let dies = site(settings);
    dies.ask_member(0, &channel, 1, "dies");
    dies.admitted(0, &channel, 1).await;
    node.ask_member(0, &channel, 1, "stays");
    node.admitted(0, &channel, 1).await;
    drop(dies);
    node.until_said(0, &channel, "-dies").await;
    assert_eq!(node.backplane.counters().errors, 0);
    let used = server.commands_used().await;
    let granted = rights.iter().filter_map(|word| word.strip_prefix('+'));
    // AUTH and SELECT come with other servers and databases, SISMEMBER where two reap the same node.
    let rare = ["auth", "select", "sismember"];
    let spare: Vec<_> = granted.filter(|command| !used.contains(*command) && !rare.contains(command)).collect();
    assert!(spare.is_empty(), "granted and not needed: {spare:?}");
}

#[tokio::test]
async fn a_user_of_two_nodes_joins_and_leaves_once() {
    let server = Server::start().await;
    let (a, b) = (server.site(), server.site());
    let channel = key("presence-room");
    a.ask_member(0, &channel, 1, "ann");
    a.admitted(0, &channel, 1).await;
    b.ask_member(0, &channel, 1, "bob");
    assert_eq!(b.admitted(0, &channel, 1).await.unwrap().len(), 2);
    a.ask_member(1, &channel, 2, "bob");
    assert_eq!(a.admitted(1, &channel, 2).await.unwrap().len(), 2);
    b.backplane.exit(0, channel.clone(), "bob".into());
    b.backplane.leave(0, channel.clone());
    b.ask(1, &channel, 9);
    b.admitted(1, &channel, 9).await;
    a.mark(&b, 0, &channel, "still here").await;
    a.backplane.exit(1, channel.clone(), "bob".into());
    a.until_said(0, &channel, "-bob").await;
    assert_eq!(a.said(0, &channel), ["admit 1 [ann]", "+bob", "still here", "-bob"]);
}

#[tokio::test]
async fn the_members_of_a_node_that_vanishes_leave_within_five_seconds() {
    let server = Server::start().await;
    let times = |settings: Settings| Settings {
        presence_heartbeat: Duration::from_secs(1),
        presence_dead_after: Duration::from_secs(3),
        ..settings
    };
    let (a, b) = (site(times(server.settings())), site(times(server.settings())));
    let channel = key("presence-vanish");
    a.ask_member(0, &channel, 1, "stays");
    a.admitted(0, &channel, 1).await;
    for (slot, user) in [(1, "gone"), (2, "stays"), (3, "gone too")] {
        b.ask_member(0, &channel, slot, user);
        b.admitted(0, &channel, slot).await;
    }
    a.until_said(0, &channel, "+gone too").await;
    // Removals are not made in the first seconds of a data set; this is about a node that dies later.
    until("first beats", || member_events(&a, 0, &channel).len() == 2).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let vanished = Instant::now();
    drop(b);
    a.until_said(0, &channel, "-gone").await;
    a.until_said(0, &channel, "-gone too").await;
    let took = vanished.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    a.mark(&a, 0, &channel, "end").await;
    assert_eq!(member_events(&a, 0, &channel).len(), 4);
    assert_eq!(a.backplane.counters().presence_expired, 3);
}

#[tokio::test]
async fn what_is_no_message_is_dropped_and_counted() {
    let server = Server::start().await;
    let site = site(Settings { max_payload: 1_000, ..server.settings() });
    let channel = key("private-x");
    let topic = "app_database_main_private-x";
    site.ask(0, &channel, 1);
    site.admitted(0, &channel, 1).await;
    let large = format!(r#"{{"event":"large","data":"{}"}}"#, "x".repeat(1_000));
    let deep = format!(r#"{{"event":"deep","data":{}{}}}"#, "[".repeat(100), "]".repeat(100));
    for payload in ["", "no json", "[]", r#"{"data":1}"#, &large, &deep, r#"{"event":"fanfare:later","v":9}"#] {
        server.ask(&["PUBLISH", topic, payload]).await;
    }
    server.ask(&["PUBLISH", topic, r#"{"event":"App\\Events\\X","data":{"socket":null},"socket":null}"#]).await;
    site.until_said(0, &channel, r"App\Events\X").await;
    assert_eq!(site.said(0, &channel), ["admit 1 []", r"App\Events\X"]);
    let counters = site.backplane.counters();
    assert_eq!((counters.dropped_malformed, counters.dropped_too_large, counters.unknown_internal), (5, 1, 1));
}

#[tokio::test]
async fn a_forbidden_channel_is_refused_alone() {
    let server = Server::start().await;
    let rights = ["ACL", "SETUSER", "narrow", "on", ">hush", "~*", "+@all", "resetchannels"];
    let channels = ["&ff:*", "&app_database_main_public", "&app_database_main_other"];
    server.ask(&[&rights[..], &channels[..]].concat()).await;
    let url = Secret::new(&format!("redis://narrow:hush@127.0.0.1:{}", server.port));
    let site = site(Settings { url, ..server.settings() });
    let (public, secret, other) = (key("public"), key("secret"), key("other"));
    // Asked in one wake, so in one command.
    site.ask(0, &public, 1);
    site.ask(0, &secret, 2);
    site.ask(1, &other, 3);
    assert_eq!(site.refused(0, &secret, 2).await, Reason::Unavailable);
    site.admitted(0, &public, 1).await;
    site.admitted(1, &other, 3).await;
    site.mark(&site, 0, &public, "lives").await;
    let refused = site.backplane.publish(secret, event("x")).await;
    assert!(matches!(refused, Err(PublishError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_reserved_name_is_refused_and_a_wrong_url_does_not_start() {
    let server = Server::start().await;
    let site = site(Settings { apps: vec![app(APP, "")], ..server.settings() });
    let reserved = key("ff:probe:x");
    site.ask(0, &reserved, 1);
    assert_eq!(site.refused(0, &reserved, 1).await, Reason::BadChannel);
    assert!(matches!(site.backplane.publish(reserved, event("x")).await, Err(PublishError::BadChannel)));
    let start = |settings| super::start(settings, site.workers.clone(), Handle::current()).err().unwrap().0;
    assert!(start(Settings { url: Secret::new("redis://:hush@:x"), ..Settings::default() }).contains("redis.url"));
    let apps = vec![app("a", "x_"), app("b", "x_y_")];
    assert!(start(Settings { apps, ..Settings::default() }).contains("begins the prefix"));
}

#[tokio::test]
async fn without_redis_nothing_is_admitted_or_published_and_all_is_well_when_it_comes() {
    let server = Server::start().await;
    let settings = server.settings();
    let port = server.port;
    drop(server);
    let site = site(settings);
    let channel = key("presence-patient");
    site.ask_member(0, &channel, 1, "ann");
    assert_eq!(site.backplane.status(), LinkStatus::Starting);
    assert_eq!(site.backplane.publish(channel.clone(), event("x")).await, Err(PublishError::Unavailable));
    until("tries", || site.backplane.counters().errors > 2).await;
    assert!(site.items(0).is_empty());
    let _server = Server::start_on(port).await;
    assert_eq!(site.admitted(0, &channel, 1).await.unwrap().len(), 1);
    assert_eq!((site.backplane.status(), gaps(&site)), (LinkStatus::Up, 0));
}

/// Two nodes with members; the store or the link is hurt; nobody may be seen to join or leave.
async fn survives(hurt: impl AsyncFnOnce(Server) -> Server, gap: bool) {
    let server = Server::start().await;
    let (a, b) = (server.site(), server.site());
    let (room, plain) = (key("presence-room"), key("plain"));
    for (site, slot, user) in [(&a, 1, "ann"), (&b, 1, "bob"), (&b, 2, "eve")] {
        site.ask_member(0, &room, slot, user);
        site.admitted(0, &room, slot).await;
        site.ask(1, &plain, slot);
        site.admitted(1, &plain, slot).await;
    }
    a.until_said(0, &room, "+eve").await;
    b.until_said(0, &room, "+eve").await;
    let before = [member_events(&a, 0, &room), member_events(&b, 0, &room)];
    let server = hurt(server).await;
    for site in [&a, &b] {
        if gap {
            until("gap", || gaps(site) == 1).await;
            assert_eq!(site.items(1).iter().filter(|item| matches!(item, Item::LinkGap)).count(), 1);
        }
        site.mark(&a, 1, &plain, "after").await;
        assert_eq!(gaps(site), usize::from(gap));
    }
    // Both are registered again, and the time in which comparisons remove nobody is over.
    let held = Instant::now() + server.settings().hold() + Duration::from_secs(1);
    until("the rosters are whole again", || Instant::now() > held).await;
    a.ask_member(1, &room, 7, "zoe");
    assert_eq!(a.admitted(1, &room, 7).await.unwrap().len(), 4);
    b.until_said(0, &room, "+zoe").await;
    b.backplane.exit(0, room.clone(), "eve".into());
    a.until_said(0, &room, "-eve").await;
    for (site, mut before) in [&a, &b].into_iter().zip(before) {
        site.until_said(0, &room, "-eve").await;
        before.extend(["+zoe".to_owned(), "-eve".to_owned()]);
        assert_eq!(member_events(site, 0, &room), before);
    }
}

#[tokio::test]
async fn a_restarted_redis_gives_one_gap_and_no_false_member_events() {
    survives(async |server: Server| server.restart().await, true).await;
}

#[tokio::test]
async fn a_flushed_redis_gives_no_false_member_events() {
    let flush = async |server: Server| {
        server.ask(&["FLUSHALL"]).await;
        server.ask(&["SCRIPT", "FLUSH"]).await;
        server
    };
    survives(flush, false).await;
}

#[tokio::test]
async fn a_frozen_redis_gives_no_gap_and_no_false_member_events() {
    let freeze = async |server: Server| {
        server.signal("STOP");
        tokio::time::sleep(Duration::from_secs(3)).await;
        server.signal("CONT");
        server
    };
    survives(freeze, false).await;
}

#[tokio::test]
async fn a_killed_subscriber_link_is_replaced_at_once() {
    let kill = async |server: Server| {
        server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        server
    };
    survives(kill, true).await;
}

#[tokio::test]
async fn a_server_that_becomes_a_replica_where_it_stands_is_left() {
    let (server, master) = (Server::start().await, Server::start().await);
    let site = server.site();
    let channel = key("plain");
    site.ask(0, &channel, 1);
    site.admitted(0, &channel, 1).await;
    server.ask(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]).await;
    until("left", || matches!(site.backplane.status(), LinkStatus::Down { .. })).await;
    assert_eq!(site.backplane.publish(channel.clone(), event("x")).await, Err(PublishError::Unavailable));
    server.ask(&["REPLICAOF", "NO", "ONE"]).await;
    until("back", || site.backplane.status() == LinkStatus::Up).await;
    site.mark(&site, 0, &channel, "after").await;
}

#[tokio::test]
async fn what_is_larger_than_nodes_take_is_not_published() {
    let server = Server::start().await;
    let site = site(Settings { max_payload: 1_000, ..server.settings() });
    until("up", || site.backplane.status() == LinkStatus::Up).await;
    let large = model::Event::new("e", model::RawJson::string(&"x".repeat(1_000)));
    assert_eq!(site.backplane.publish(key("plain"), large).await, Err(PublishError::TooLarge(1_000)));
}

#[tokio::test]
async fn a_queue_that_is_full_loses_the_link_and_says_so() {
    let server = Server::start().await;
    let site = site(Settings { queue_bytes: 20_000, ..server.settings() });
    let channel = key("flood");
    site.ask(0, &channel, 1);
    site.admitted(0, &channel, 1).await;
    let large = format!(r#"{{"event":"large","data":"{}"}}"#, "x".repeat(30_000));
    server.ask(&["PUBLISH", "app_database_main_flood", &large]).await;
    until("gap", || gaps(&site) == 1).await;
    site.mark(&site, 0, &channel, "after").await;
    assert_eq!(site.backplane.counters().reconnects, 1);
}

#[tokio::test]
async fn closing_waits_for_the_exits() {
    let server = Server::start().await;
    let (a, b) = (server.site(), server.site());
    let channel = key("presence-close");
    b.ask_member(0, &channel, 1, "watcher");
    b.admitted(0, &channel, 1).await;
    for slot in 0..50 {
        a.ask_member(0, &channel, slot, &format!("user{slot}"));
    }
    for slot in 0..50 {
        a.admitted(0, &channel, slot).await;
        a.backplane.exit(0, channel.clone(), format!("user{slot}").as_str().into());
    }
    a.backplane.leave(0, channel.clone());
    a.backplane.close().await;
    let left = |site: &Arc<Site>| member_events(site, 0, &channel).iter().filter(|said| said.starts_with('-')).count();
    let b = Arc::new(b);
    until("all left", || left(&b) == 50).await;
}

/// Presence of one node without the rest of it: it beats when the test says so.
struct Nobody;

impl Workers for Nobody {
    fn count(&self) -> usize {
        0
    }

    fn push(&self, _: usize, _: Item) {}

    fn connections(&self) -> HashMap<Arc<str>, u64> {
        HashMap::new()
    }
}

fn lives(dead: &[&str]) -> Beat {
    Beat::Lives { dead: dead.iter().map(|dead| (*dead).to_owned()).collect(), leads: Vec::new() }
}

fn store(server: &Server, node: &str) -> Arc<Store> {
    let settings = Arc::new(Settings { apps: vec![app(APP, "")], ..server.settings() });
    let manager = deadpool_redis::Manager::new(settings.url.reveal()).unwrap();
    Arc::new(Store {
        keys: Arc::new(Keys::new(&settings, node)),
        settings,
        scripts: Arc::new(Scripts::new()),
        registration: Arc::default(),
        pool: deadpool_redis::Pool::builder(manager).build().unwrap(),
        tally: Arc::default(),
        workers: Arc::new(Nobody),
        census: Arc::default(),
        jobs: Arc::default(),
        pulse: Arc::default(),
        fenced: Notify::new(),
        complained: Default::default(),
        questions: tokio::sync::Semaphore::new(1),
    })
}

#[tokio::test]
async fn silence_of_everyone_is_not_death_of_everyone() {
    let server = Server::start().await;
    let (a, b) = (store(&server, "a"), store(&server, "b"));
    assert_eq!((a.hello().await, b.hello().await), (Some(Renewal::None), Some(Renewal::None)));
    // The guard of a new data set passes while both beat.
    let calm = Instant::now() + server.settings().quiet();
    while Instant::now() < calm {
        assert_eq!((a.beat().await, b.beat().await), (lives(&[]), lives(&[])));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Nobody beats for longer than a node may be silent: Redis was away, and `b` has the time to say that it lives.
    tokio::time::sleep(server.settings().presence_dead_after + Duration::from_millis(200)).await;
    let back = Instant::now();
    assert_eq!(a.beat().await, lives(&[]));
    a.clone().reap(b.incarnation()).await;
    assert_eq!(b.beat().await, lives(&[]));
    // From now on only `a` beats: `b` is listed, not before the guard ends, and reaped.
    let dead = lives(&[&b.incarnation()]);
    while a.beat().await != dead {
        assert!(back.elapsed() < LIMIT, "never listed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(back.elapsed() >= server.settings().quiet());
    a.clone().reap(b.incarnation()).await;
    assert_eq!((a.beat().await, b.beat().await), (lives(&[]), Beat::Fenced));
    // What was reaped comes back under a new name only.
    assert_eq!(b.hello().await, Some(Renewal::Fenced));
    assert_eq!((b.incarnation(), b.beat().await), ("b.1".to_owned(), lives(&[])));
}

#[tokio::test]
async fn what_a_dead_node_left_is_counted_off_and_its_jobs_are_told_by_another() {
    let server = Server::start().await;
    let (a, b) = (server.site(), server.site());
    until("both live", || a.backplane.nodes() == 2 && b.backplane.nodes() == 2).await;
    let channel = told("left");
    a.join(0, &channel, 1).await;
    a.add(0, &channel, 4);
    b.until_count(&channel, 5).await;
    // Whoever leads takes the job and dies before it is done.
    let app: Arc<str> = TOLD.into();
    let (of_a, of_b) = (a.backplane.clone().take_jobs(app.clone(), 9), b.backplane.clone().take_jobs(app.clone(), 9));
    tokio::pin!(of_a, of_b);
    let taken = loop {
        let jobs = tokio::select! { jobs = &mut of_a => jobs, jobs = &mut of_b => jobs };
        if !jobs.is_empty() {
            break jobs;
        }
        of_a.set(a.backplane.clone().take_jobs(app.clone(), 9));
        of_b.set(b.backplane.clone().take_jobs(app.clone(), 9));
    };
    assert_eq!(taken[0].happening.kind().name(), "channel_occupied");
    let began = Instant::now();
    // A futures' own handle keeps a node alive.
    of_a.set(Box::pin(std::future::ready(Vec::new())));
    of_b.set(Box::pin(std::future::ready(Vec::new())));
    let c = server.site();
    drop((a, b));
    c.until_count(&channel, 0).await;
    println!("counted off after {:?}", began.elapsed());
    let told = jobs(&c, &c, "channel_vacated left").await;
    assert_eq!(told.iter().filter(|word| *word == "channel_occupied left").count(), 1, "{told:?}");
    until("alone", || c.backplane.nodes() == 1).await;
    // What was flushed comes back from the nodes.
    c.join(0, &channel, 2).await;
    c.add(0, &channel, 1);
    c.until_count(&channel, 2).await;
    server.ask(&["FLUSHALL"]).await;
    let d = server.site();
    d.until_count(&channel, 2).await;
}

#[tokio::test]
async fn a_server_restored_from_an_old_snapshot_keeps_no_ghosts() {
    let file = format!("fanfare-snapshot-{}.rdb", std::process::id());
    let server = Server::start_with(Server::free_port(), &["--dbfilename", &file]).await;
    let node = server.site();
    let (channel, watched) = (key("presence-old"), key("presence-old"));
    node.ask_member(0, &channel, 1, "stays");
    node.admitted(0, &channel, 1).await;
    node.ask_member(0, &channel, 2, "leaves");
    node.admitted(0, &channel, 2).await;
    let looks_on = server.site();
    looks_on.ask_roster(0, &watched, 1);
    assert_eq!(looks_on.admitted(0, &watched, 1).await.map(|roster| roster.len()), Some(2));
    server.ask(&["SAVE"]).await;
    node.backplane.exit(0, channel.clone(), "leaves".into());
    looks_on.until_said(0, &watched, "-leaves").await;
    let server = server.restart_from(&file).await;
    std::fs::remove_file(std::env::temp_dir().join(&file)).unwrap();
    let info: String = redis::from_redis_value(server.ask(&["INFO", "persistence"]).await).unwrap();
    assert!(info.contains("rdb_last_load_keys_loaded:") && !info.contains("keys_loaded:0\r"), "{info}");
    // The snapshot has him under the node's old name. Nobody sees a change of those who are here.
    let gone = || async {
        let users = server.ask(&["HLEN", &format!("ff:{{0}}:u:{}", Keys::channel(&channel))]).await;
        redis::from_redis_value::<u64>(users).unwrap() == 1
    };
    let deadline = Instant::now() + LIMIT;
    while !gone().await {
        assert!(Instant::now() < deadline, "the ghost stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    node.ask_member(0, &channel, 3, "late");
    looks_on.until_said(0, &watched, "+late").await;
    let changes: Vec<_> = looks_on.said(0, &watched).into_iter().filter(|said| said.starts_with(['+', '-'])).collect();
    assert!(!changes.iter().any(|said| said.ends_with("stays")), "{changes:?}");
    assert_eq!(looks_on.backplane.users(watched.clone()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn whoever_comes_just_after_the_data_were_lost_is_let_in_and_nothing_begins_anew() {
    let server = Server::start().await;
    let node = server.site();
    let (plain, room) = (told("stays"), told("presence-stays"));
    node.join(0, &plain, 1).await;
    node.ask_member(0, &room, 2, "ann");
    node.admitted(0, &room, 2).await;
    let before = jobs(&node, &node, "member_added presence-stays ann").await;
    assert!(before.contains(&"channel_occupied stays".to_owned()), "{before:?}");
    // Before the node has found out.
    server.ask(&["FLUSHALL"]).await;
    let cached = told("cache-flushed");
    node.join(0, &cached, 3).await;
    until_registered(&node, &server).await;
    let after = jobs(&node, &node, "cache_miss cache-flushed").await;
    let again = ["channel_occupied stays", "channel_occupied presence-stays", "member_added presence-stays ann"];
    assert!(!after.iter().any(|word| again.contains(&&**word)), "{after:?}");
}

/// The node's share stands in Redis.
async fn until_registered(node: &Site, server: &Server) {
    let looks_on = server.site();
    looks_on.until_count(&told("stays"), 1).await;
    assert_eq!(node.backplane.status(), LinkStatus::Up);
}

#[tokio::test]
async fn a_server_without_memory_still_delivers_on_cache_channels() {
    let server = Server::start().await;
    let node = server.site();
    let channel = told("cache-full");
    node.join(0, &channel, 1).await;
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    node.backplane.publish(channel.clone(), kept("one")).await.unwrap();
    node.until_said(0, &channel, "one").await;
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    node.backplane.publish(channel.clone(), kept("two")).await.unwrap();
    node.until_said(0, &channel, "two").await;
    assert_eq!(node.said(0, &channel).iter().filter(|said| *said == "one").count(), 1);
}

/// An event that a channel keeps.
fn kept(name: &str) -> model::Event {
    model::Event { cacheable: true, ..event(name) }
}

#[tokio::test]
async fn a_history_goes_on_after_its_server_fell_back_and_claims_nothing_of_before() {
    let file = format!("history-{}.rdb", std::process::id());
    let server = Server::start_with(Server::free_port(), &["--dbfilename", &file]).await;
    let node = server.site();
    let channel = told("cache-back");
    node.join(0, &channel, 1).await;
    node.backplane.publish(channel.clone(), kept("one")).await.unwrap();
    node.until_said(0, &channel, "one").await;
    server.ask(&["SAVE"]).await;
    for name in ["two", "three"] {
        node.backplane.publish(channel.clone(), kept(name)).await.unwrap();
    }
    let third = node.until(0, "three", |items| numbered(items, "three")).await;
    let server = server.restart_from(&file).await;
    std::fs::remove_file(std::env::temp_dir().join(&file)).unwrap();
    // Whoever publishes may be the first to reach it: the numbers of before must not come again.
    let deadline = Instant::now() + LIMIT;
    while node.backplane.publish(channel.clone(), kept("four")).await.is_err() {
        assert!(Instant::now() < deadline, "cannot publish");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let fourth = node.until(0, "four", |items| numbered(items, "four")).await;
    assert!(fourth.epoch != third.epoch && fourth.offset > third.offset, "{third} {fourth}");
    node.until_said(0, &channel, "gap").await;
    node.ask_back(1, &channel, 2, Some(&third.to_string()));
    node.admitted(1, &channel, 2).await;
    let recovered = node.items(1).into_iter().find_map(|item| match item {
        Item::Admit { standing, .. } => standing.map(|standing| standing.recovered),
        _ => None,
    });
    assert_eq!(recovered, Some(Some(false)), "events of the time between may be lost");
    drop(server);
}

fn numbered(items: &[Item], name: &str) -> Option<model::Position> {
    items.iter().find_map(|item| match item {
        Item::Deliver(delivery) => match &delivery.broadcast {
            model::Broadcast::Event(event) if &*event.name == name => event.position.clone(),
            _ => None,
        },
        _ => None,
    })
}

#[tokio::test]
async fn a_node_that_was_cut_off_tells_what_it_missed_in_order_and_once() {
    let server = Server::start().await;
    let (cut, other) = (server.site(), server.site());
    let (channel, plain) = (told("log-cut"), told("log-plain"));
    for channel in [&channel, &plain] {
        cut.ask_back(0, channel, 1, None);
        cut.admitted(0, channel, 1).await;
    }
    cut.mark(&other, 0, &plain, "without a number").await;
    let mut said = 0;
    for round in 0..5 {
        // All links; whatever the other node gets through again before this one listens is missed by it.
        server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        let deadline = Instant::now() + LIMIT;
        while said < (round + 1) * 5 {
            assert!(Instant::now() < deadline, "cannot publish");
            match other.backplane.publish(channel.clone(), kept(&said.to_string())).await {
                Ok(()) => said += 1,
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
        cut.until_said(0, &channel, &(said - 1).to_string()).await;
    }
    let heard: Vec<_> = cut.said(0, &channel).into_iter().filter(|word| !word.starts_with("admit")).collect();
    let all: Vec<_> = (0..said).map(|number| number.to_string()).collect();
    assert_eq!(heard, all, "and no gap");
    assert!(cut.said(0, &plain).contains(&"gap".to_owned()), "where there are no numbers it is one");
}

#[tokio::test]
async fn webhooks_of_apps_that_only_some_nodes_know_are_told_by_those() {
    let server = Server::start().await;
    let other = AppSettings { id: "other".into(), prefix: "app_database_other_".into(), ..told_app() };
    let with_other = Settings { apps: vec![told_app(), other], ..server.settings() };
    let (old, new) = (server.site(), site(with_other.clone()));
    until("both live", || old.backplane.nodes() == 2 && new.backplane.nodes() == 2).await;
    let channel = Arc::new(ChannelKey { app: "other".into(), name: model::ChannelName::new("x").unwrap() });
    new.join(0, &channel, 1).await;
    // It dies, and the old node, which does not know the app, reaps it. Another that does know it tells the end.
    drop(new);
    until("alone", || old.backplane.nodes() == 1).await;
    let new = site(with_other);
    let mut said = Vec::new();
    let deadline = Instant::now() + LIMIT;
    while said.last().map(String::as_str) != Some("channel_vacated") {
        assert!(Instant::now() < deadline, "{said:?}");
        let jobs = new.backplane.clone().take_jobs("other".into(), 9).await;
        let transitions = jobs.iter().map(|job| job.happening.kind().name().to_owned());
        said.extend(transitions.filter(|name| name.starts_with("channel")));
        new.backplane.done("other".into(), jobs.into_iter().map(|job| job.id).collect());
    }
    assert_eq!(said, ["channel_occupied", "channel_vacated"]);
}
