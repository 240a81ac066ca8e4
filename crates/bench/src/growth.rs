//! How costs grow with connections, channels, payload and nodes: starts nodes (and a Redis) by itself, measures point after point.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::plot;
use crate::process::{REDIS, Watched};
use crate::report::Report;
use crate::scenario::{Bench, Clients, Events};
use crate::target::Target;
use crate::tongue::Tongue;

/// Deliveries a second at every point: a load that two cores carry, so that the points differ in one thing alone.
const DELIVERIES: f64 = 20_000.0;

/// How long a node or Redis may take to start.
const START_MAX: Duration = Duration::from_secs(20);

#[derive(Args, Debug)]
pub(crate) struct Growth {
    /// The node's program.
    #[arg(long, default_value = "target/release/fanfare")]
    server: PathBuf,
    #[arg(long, default_value = "redis-server")]
    redis_server: PathBuf,
    /// The folder for results.jsonl and the plots; results that are there already are replaced.
    #[arg(long, default_value = "docs/scaling")]
    out: PathBuf,
    /// Seconds of publishing at each point.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Only the sweeps with these names: connections, channels, payload, nodes.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// A child process that ends with its handle.
struct Started {
    child: Child,
    port: u16,
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One point of a sweep.
struct Point {
    connections: usize,
    channels: usize,
    payload: usize,
    /// 0: one node without Redis.
    nodes: usize,
}

impl Growth {
    /// # Errors
    /// A program that does not start, or a point at which something was lost.
    pub(crate) fn run(&self) -> Result<()> {
        std::fs::create_dir_all(&self.out)?;
        let results = self.out.join("results.jsonl");
        if self.only.is_empty() && results.exists() {
            std::fs::remove_file(&results)?;
        }
        let point = |connections, channels, payload, nodes| Point { connections, channels, payload, nodes };
        let sweeps: [(&str, Vec<Point>); 4] = [
            ("connections", [1, 3, 6, 9, 12, 15, 18].map(|n| point(n * 1_000, 1, 200, 0)).into()),
            ("channels", [1, 10, 100, 1_000, 5_000].map(|n| point(5_000, n, 200, 0)).into()),
            ("payload", [64, 512, 2_048, 8_192, 16_384].map(|n| point(1_000, 1, n, 0)).into()),
            ("nodes", [1, 2, 3, 4, 6].map(|n| point(3_000, 30, 200, n)).into()),
        ];
        for (name, points) in sweeps {
            if !self.only.is_empty() && !self.only.iter().any(|only| only == name) {
                continue;
            }
            for point in points {
                let report = self.measure(name, &point)?;
                report.print(Some(&results))?;
                if !report.faults().is_empty() {
                    bail!("not every event came once and in order: {}", report.faults().join(", "));
                }
            }
        }
        plot::draw_all(&results, &self.out)
    }

    fn measure(&self, sweep: &str, point: &Point) -> Result<Report> {
        let redis = (point.nodes > 0).then(|| self.start_redis()).transpose()?;
        let url = redis.as_ref().map(|redis| format!("redis://127.0.0.1:{}", redis.port));
        let nodes = (0..point.nodes.max(1)).map(|_| self.start_node(url.as_deref())).collect::<Result<Vec<_>>>()?;
        let watch = |name: &str, started: &Started| Watched { name: name.to_owned(), pid: started.child.id() };
        let mut watched: Vec<Watched> = nodes.iter().map(|node| watch("node", node)).collect();
        watched.extend(redis.as_ref().map(|redis| watch(REDIS, redis)));
        let target = Target {
            nodes: nodes.iter().map(|node| format!("http://127.0.0.1:{}", node.port)).collect(),
            app_id: "app-id".to_owned(),
            app_key: "app-key".to_owned(),
            app_secret: "app-secret".to_owned(),
            tongue: Tongue::Pusher,
            redis: None,
            redis_prefix: None,
            yes_i_own_this_host: false,
        };
        let clients = Clients {
            connections: point.connections,
            channels: point.channels,
            connect_rate: 0.0,
            opening: 200,
            threads: 1,
        };
        let subscribers = point.connections as f64 / point.channels as f64;
        let events = Events {
            rate: DELIVERIES / subscribers,
            payload: point.payload,
            seconds: self.seconds,
            publishers: point.channels.min(4),
            batch: 1,
            in_flight: 256,
            drain: 10.0,
        };
        let sent_before = redis.as_ref().map(bytes_sent).transpose()?;
        let mut report = Bench { target: &target, watched: &watched, clients: &clients }.fanout(sweep, &events)?;
        report.value("nodes", "nodes", point.nodes.max(1) as f64, "");
        if let (Some(redis), Some(before)) = (&redis, sent_before) {
            let bytes = (bytes_sent(redis)? - before) as f64 / (events.rate * self.seconds);
            report.value("redis_bytes_out_per_event", "Redis: bytes out an event", bytes, "B");
        }
        Ok(report)
    }

    fn start_node(&self, redis: Option<&str>) -> Result<Started> {
        let port = free_port()?;
        let mut command = Command::new(&self.server);
        command
            .env("FANFARE_SERVER__LISTEN", format!("127.0.0.1:{port}"))
            .env("FANFARE_SERVER__ADMIN", "127.0.0.1:0")
            .env("FANFARE_LIMITS__ACCEPTS_PER_SECOND", "0")
            .env("FANFARE_APPS__BENCH__ID", "app-id")
            .env("FANFARE_APPS__BENCH__KEY", "app-key")
            .env("FANFARE_APPS__BENCH__SECRET", "app-secret")
            .env("FANFARE_APPS__BENCH__EVENT_BYTES", "65536");
        if let Some(url) = redis {
            command.env("FANFARE_REDIS__URL", url);
        }
        start(command, port)
    }

    fn start_redis(&self) -> Result<Started> {
        let port = free_port()?;
        let mut command = Command::new(&self.redis_server);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        start(command, port)
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Starts a program and waits until it answers on its port.
fn start(mut command: Command, port: u16) -> Result<Started> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut started = Started { child: child.with_context(|| format!("{name} does not start"))?, port };
    let deadline = Instant::now() + START_MAX;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if started.child.try_wait()?.is_some() {
            bail!("{name} ended at once; start it by hand to see why");
        }
        if Instant::now() > deadline {
            bail!("{name} does not answer on port {port}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(started)
}

/// What Redis has sent to its clients since it began.
fn bytes_sent(redis: &Started) -> Result<u64> {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port))?;
    stream.write_all(b"INFO stats\r\nQUIT\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let sent = text.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:")?.trim().parse().ok());
    sent.context("Redis tells no traffic")
}
