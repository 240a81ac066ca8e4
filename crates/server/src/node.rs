//! The life of a node: open the doors, join the cluster, serve, let everybody go.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use backplane::{AppSettings, Cluster, Workers, local};
use bytes::Bytes;
use dialects::DIALECTS;
use hub::{Hub, Worker};
use model::{Secret, socket_id};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::LocalSet;

use crate::admin::Admin;
use crate::api::{Api, Places, Rate};
use crate::banner;
use crate::directory::{Directory, Served};
use crate::door::{Door, FIRST_BYTES};
use crate::gateway_auth::{Asker, Gateway};
use crate::listen::{self, Acceptor, Admission, Order};
use crate::metrics::{self, Metrics};
use crate::reload::{Reading, Reload};
use crate::settings::{Flags, Settings};
use crate::tls::Tls;
use crate::transport::engine_io::{EngineIo, LARGE_POSTS, Sessions};
use crate::webhooks::Webhooks;

/// The name of the thread of Redis I/O.
const BACKPLANE: &str = "backplane";

/// How often the files that may change while the node runs are looked at.
const WATCH: Duration = Duration::from_secs(2);

/// Sockets that may wait for one worker between accept and its first look.
const ORDERS_MAX: usize = 1024;

/// What the threads of a node share.
struct Node {
    settings: Settings,
    tls: Option<Tls>,
    directory: Arc<Directory>,
    hub: Arc<Hub>,
    backplane: Arc<dyn Cluster>,
    metrics: Arc<Metrics>,
    gateway: Arc<Gateway>,
    draining: Arc<AtomicBool>,
    in_flight: Arc<AtomicUsize>,
    places: Arc<Places>,
    rate: Arc<Rate>,
    sessions: Arc<Sessions>,
    reading: Arc<Semaphore>,
    /// `socket.io.js`.
    client_library: Option<Bytes>,
    began: Instant,
}

/// Runs a node until a signal ends it.
///
/// # Errors
/// A port that cannot be opened, a Redis URL that cannot be read.
pub(crate) fn run(settings: Settings, flags: Flags, tls: Option<Tls>) -> Result<()> {
    // Each client is a descriptor, and shells hand out 1,024. More than the hard limit nobody gets; then it stays as it is.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let client = bind(settings.server.listen, "server.listen")?;
    let admin = bind(settings.server.admin, "server.admin")?;
    watch_panics();
    let began = Instant::now();
    let directory = Arc::new(Directory::new(&settings.apps));
    let hub = Hub::new(hub_settings(&settings), &DIALECTS);
    let backplane = start_backplane(&settings, hub.clone())?;
    let metrics = Arc::new(Metrics::new(&directory.now().apps));
    let gateway = Arc::new(Gateway::new(&settings, directory.clone(), metrics.clone()));
    let draining = Arc::new(AtomicBool::new(false));
    let client_library = read_client(&settings)?;
    let (in_flight, places, rate, sessions) = (Arc::default(), Arc::default(), Arc::default(), Arc::default());
    let node = Arc::new(Node {
        settings,
        tls,
        directory,
        hub,
        backplane,
        metrics,
        gateway,
        draining,
        in_flight,
        places,
        rate,
        sessions,
        reading: Arc::new(Semaphore::new(LARGE_POSTS)),
        client_library,
        began,
    });
    let workers = (0..node.hub.count()).map(|number| start_worker(&node, number)).collect::<Result<Vec<_>>>()?;
    let runtime = runtime()?;
    // Before the line that others wait for: from then on they may send signals.
    let (signals, hangup) =
        runtime.block_on(async { Ok::<_, anyhow::Error>((Signals::new()?, signal(SignalKind::hangup())?)) })?;
    let reload = Reload::new(flags, &node.settings);
    banner::print(&node.settings, client.local_addr()?, admin.local_addr()?);
    let ended =
        LocalSet::new().block_on(&runtime, node.live(client, admin, workers, signals, Watch { hangup, reload }));
    // Whoever still reads a file that hangs is not waited for.
    runtime.shutdown_background();
    ended
}

/// Ends the process: a node that looks alive and is deaf is worse than one that is gone, whose members others see off.
fn die() {
    std::process::exit(101);
}

/// A panic in a client's task ends that client. In the backplane's thread it ends the node.
fn watch_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        if std::thread::current().name() == Some(BACKPLANE) {
            die();
        }
    }));
}

fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    listen::bind(address).map_err(|error| {
        let flag = if setting == "server.admin" { "--admin" } else { "--listen" };
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => format!("; stop what listens there, or choose another: {flag} HOST:PORT"),
            _ => String::new(),
        };
        anyhow::anyhow!("cannot listen on {address} ({setting}): {error}{hint}")
    })
}

/// The library that old pages load from the server.
fn read_client(settings: &Settings) -> Result<Option<Bytes>> {
    let Some(path) = &settings.socket_io.client_file else { return Ok(None) };
    let read = std::fs::read(path).with_context(|| format!("socket_io.client_file: {} cannot be read", path.display()));
    Ok(Some(read?.into()))
}

fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot start a runtime")
}

fn hub_settings(settings: &Settings) -> hub::Settings {
    let limits = &settings.limits;
    hub::Settings {
        workers: settings.server.workers,
        inbox_bytes: limits.inbox_bytes,
        batch_events: limits.batch_events,
        batch_bytes: limits.batch_bytes,
        outbox_bytes: limits.outbox_bytes,
        outbox_total_bytes: limits.outbox_total_bytes,
        gap_spread: settings.drain.spread,
        node: random_node(),
    }
}

/// 1 ..= 2^31 − 1, from the same source of randomness that seeds hash maps.
fn random_node() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    let number = std::collections::hash_map::RandomState::new().build_hasher().finish();
    (number % u64::from(socket_id::MAX)) as u32 + 1
}

fn start_backplane(settings: &Settings, workers: Arc<Hub>) -> Result<Arc<dyn Cluster>> {
    let Some(url) = &settings.redis.url else {
        let local = local::Settings { linger: settings.redis.linger, apps: known_apps(settings), ..Default::default() };
        return Ok(local::start(local, workers));
    };
    let settings = redis_settings(settings, url.clone());
    let handle = start_backplane_thread()?;
    backplane::redis::start(settings, workers, handle).context("redis.url")
}

/// What the backplane is told about Redis.
pub(crate) fn redis_settings(settings: &Settings, url: Secret) -> backplane::redis::Settings {
    let redis = &settings.redis;
    backplane::redis::Settings {
        url,
        url_file: redis.url_file.clone(),
        tls: backplane::redis::TlsFiles {
            ca: redis.ca_file.clone(),
            certificate: redis.certificate_file.clone(),
            key: redis.key_file.clone(),
        },
        namespace: redis.namespace.as_str().into(),
        apps: known_apps(settings),
        linger: redis.linger,
        command_timeout: redis.command_timeout,
        publish_timeout: redis.publish_timeout,
        probe_timeout: redis.probe_timeout,
        pool_size: redis.pool_size,
        queue_bytes: redis.queue_bytes,
        max_payload: redis.max_payload,
        presence_heartbeat: settings.presence.heartbeat,
        presence_dead_after: settings.presence.dead_after,
        ..Default::default()
    }
}

fn known_apps(settings: &Settings) -> Vec<AppSettings> {
    settings.apps.iter().map(|app| AppSettings::of(&app.app)).collect()
}

/// Redis I/O has a thread of its own: it never waits for a worker, and no worker for it.
fn start_backplane_thread() -> Result<Handle> {
    let runtime = runtime()?;
    let handle = runtime.handle().clone();
    let work = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name(BACKPLANE.into()).spawn(work).context("cannot start a thread")?;
    Ok(handle)
}

fn start_worker(node: &Arc<Node>, number: usize) -> Result<mpsc::Sender<Order>> {
    let (orders, inbox) = mpsc::channel(ORDERS_MAX);
    let runtime = runtime()?;
    let node = node.clone();
    let work = move || LocalSet::new().block_on(&runtime, node.work(number, inbox));
    std::thread::Builder::new().name(format!("worker {number}")).spawn(work).context("cannot start a thread")?;
    Ok(orders)
}

impl Node {
    /// A worker's thread: its half of the hub, and the clients it was given.
    async fn work(self: Arc<Self>, number: usize, mut orders: mpsc::Receiver<Order>) {
        let authority = Box::new(Asker(self.gateway.clone()));
        let worker = Worker::new(self.hub.clone(), self.backplane.clone(), authority, number);
        let engine = tokio::task::spawn_local(worker.clone().run());
        tokio::task::spawn_local(async move {
            // It runs for ever, so this is a panic.
            let _ = engine.await;
            die();
        });
        let door = Rc::new(self.door(worker.clone()));
        while let Some(order) = orders.recv().await {
            match order {
                Order::Serve(stream, peer, handshake) => {
                    let stream = stream.set_nonblocking(true).and_then(|()| tokio::net::TcpStream::from_std(stream));
                    // A socket that is dead already needs no service.
                    if let Ok(stream) = stream {
                        tokio::task::spawn_local(door.clone().serve(stream, peer, handshake));
                    }
                }
                Order::Drain { spread, linger, done } => {
                    let worker = worker.clone();
                    tokio::task::spawn_local(async move {
                        worker.drain(spread, linger).await;
                        drop(done);
                    });
                }
                Order::CloseNow => worker.close_now(),
                // Not those of the order: a client of a later reading may be in already.
                Order::Apps => worker.set_apps(&self.directory.now().apps).await,
            }
        }
    }

    fn door(&self, worker: Rc<Worker>) -> Door {
        let api = Api {
            directory: self.directory.clone(),
            backplane: self.backplane.clone(),
            metrics: self.metrics.clone(),
            body_bytes: self.settings.limits.http_body_bytes,
            places: self.places.clone(),
            rate: self.rate.clone(),
            hub: self.hub.clone(),
            began: self.began,
        };
        Door {
            worker,
            tls: self.tls.as_ref().map(Tls::acceptor),
            directory: self.directory.clone(),
            hub: self.hub.clone(),
            api,
            gateway: self.gateway.clone(),
            metrics: self.metrics.clone(),
            draining: self.draining.clone(),
            in_flight: self.in_flight.clone(),
            patience: self.settings.limits.handshake,
            frame_bytes: self.settings.limits.frame_bytes,
            engine_io: self.engine_io(),
            path_prefix: self.settings.server.path_prefix.clone(),
            head: RefCell::new(Box::new([0; FIRST_BYTES])),
        }
    }

    fn engine_io(&self) -> EngineIo {
        let (limits, socket_io) = (&self.settings.limits, &self.settings.socket_io);
        EngineIo {
            sessions: self.sessions.clone(),
            path: socket_io.path.clone(),
            polling: socket_io.polling,
            websocket: socket_io.websocket,
            client: self.client_library.clone(),
            body_bytes: socket_io.body_bytes,
            frame_bytes: limits.frame_bytes,
            begun_max: limits.handshakes,
            reading: self.reading.clone(),
        }
    }

    /// Serves until a signal, then drains. A second signal ends it at once.
    async fn live(
        self: Arc<Self>,
        client: TcpListener,
        admin: TcpListener,
        workers: Vec<mpsc::Sender<Order>>,
        mut signals: Signals,
        watch: Watch,
    ) -> Result<()> {
        tokio::task::spawn_local(Rc::new(self.admin()).serve(admin));
        let limits = &self.settings.limits;
        let admission = Admission {
            handshakes_max: limits.handshakes,
            accepts_per_second: limits.accepts_per_second,
            is_tls: self.tls.is_some(),
        };
        let acceptor = Acceptor::start(client, workers.clone(), admission, self.metrics.clone())?;
        let webhooks = Rc::new(self.webhooks());
        webhooks.set_apps(self.directory.now().apps.iter());
        tokio::task::spawn_local(self.clone().watch(watch, workers.clone(), webhooks.clone()));
        let gently = signals.next().await == SignalKind::terminate();
        tokio::select! {
            () = self.drain(gently, &workers, &acceptor, &webhooks) => {}
            _ = signals.next() => self.close_now(&workers).await,
        }
        Ok(())
    }

    /// Takes what has changed in the files: every now and then, and when SIGHUP asks for it. For ever.
    async fn watch(self: Arc<Self>, watch: Watch, workers: Vec<mpsc::Sender<Order>>, webhooks: Rc<Webhooks>) {
        let Watch { mut hangup, mut reload } = watch;
        let mut interval = tokio::time::interval(WATCH);
        loop {
            let asked = tokio::select! {
                _ = interval.tick() => false,
                _ = hangup.recv() => true,
            };
            if !asked && self.tls.is_none() && reload.is_idle() {
                continue;
            }
            let node = self.clone();
            // A file may lie on a disk that hangs; this thread answers for the node's health.
            let look = tokio::task::spawn_blocking(move || {
                if let Some(tls) = &node.tls {
                    tls.look(asked, &node.metrics);
                    node.metrics.certificate_expires(tls.expires());
                }
                let found = reload.look(asked);
                (reload, found)
            });
            let found;
            // A panic has been printed; all stays as it is from here on.
            let Ok(looked) = look.await else { return };
            (reload, found) = looked;
            match found {
                None => {}
                Some(Ok(reading)) => self.take(reading, &workers, &webhooks).await,
                Some(Err(problems)) => {
                    for problem in problems.0 {
                        tracing::error!("the settings stay as they were: {problem}");
                    }
                    self.metrics.reloaded(metrics::Reload::Apps, false);
                }
            }
        }
    }

    /// Serves the apps of a new reading.
    async fn take(&self, reading: Reading, workers: &[mpsc::Sender<Order>], webhooks: &Webhooks) {
        let Reading { settings, changes, restart } = reading;
        // First, so that whoever comes to a new app finds it everywhere.
        self.backplane.set_apps(known_apps(&settings));
        let served = Arc::new(Served::new(&settings.apps));
        self.metrics.begin_at_zero(&served.apps);
        self.directory.replace(served.clone());
        for worker in workers {
            // A worker that is gone has nobody to tell.
            let _ = worker.send(Order::Apps).await;
        }
        let [added, removed, changed] = [changes.added, changes.removed, changes.changed].map(|names| names.join(", "));
        tracing::info!(added, removed, changed, "the settings were read anew");
        if !restart.is_empty() {
            tracing::warn!(settings = restart.join(", "), "changed settings that need a restart");
        }
        webhooks.set_apps(served.apps.iter());
        self.metrics.reloaded(metrics::Reload::Apps, true);
    }

    fn webhooks(&self) -> Webhooks {
        let outlived = self.settings.redis.url.is_some();
        Webhooks::new(self.backplane.clone(), outlived, self.metrics.clone(), self.settings.webhooks.clone())
    }

    fn admin(&self) -> Admin {
        Admin {
            hub: self.hub.clone(),
            backplane: self.backplane.clone(),
            metrics: self.metrics.clone(),
            draining: self.draining.clone(),
            down_grace: self.settings.redis.down_grace,
            began: self.began,
        }
    }

    /// Not ready at once; after the grace no new client; the others are asked to go, spread out. Each phase ends early when
    /// nothing is left to wait for.
    async fn drain(&self, gently: bool, workers: &[mpsc::Sender<Order>], acceptor: &Acceptor, webhooks: &Webhooks) {
        let drain = &self.settings.drain;
        self.draining.store(true, Relaxed);
        if gently {
            tracing::info!(grace = drain.grace.as_secs_f64(), seconds = drain.spread.as_secs_f64(), "draining");
            tokio::time::sleep(drain.grace).await;
        } else {
            tracing::info!("closing without grace: interrupted");
        }
        acceptor.stop();
        let (spread, linger) = if gently { (drain.spread, drain.leave_linger) } else { Default::default() };
        let (done, mut all_done) = mpsc::channel(1);
        for worker in workers {
            // A worker that is gone has nobody to drain.
            let _ = worker.send(Order::Drain { spread, linger, done: done.clone() }).await;
        }
        drop(done);
        // Nothing is ever sent: it ends when the last worker has dropped its end.
        let _ = all_done.recv().await;
        self.answer_the_rest().await;
        webhooks.drain().await;
        self.backplane.close().await;
        tracing::info!("drained");
    }

    /// Waits for the answers to API requests that were taken.
    async fn answer_the_rest(&self) {
        let limit = Instant::now() + self.settings.redis.publish_timeout;
        while self.in_flight.load(Relaxed) > 0 && Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Says goodbye to whoever is left and gives the sockets a moment to carry it.
    async fn close_now(&self, workers: &[mpsc::Sender<Order>]) {
        tracing::warn!("second signal: closing at once");
        for worker in workers {
            let _ = worker.try_send(Order::CloseNow);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What makes the node read its files anew.
struct Watch {
    hangup: Signal,
    reload: Reload,
}

/// The two signals that end a node.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt })
    }

    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}
