//! The questions: what a delivery, a publish, a connection, a change costs, and what is left when all are gone.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use crate::crowd::{Crowd, Plan};
use crate::process::{self, Used, Watched};
use crate::report::Report;
use crate::say;
use crate::target::Target;

/// After which a server's memory has settled.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Args, Clone, Debug)]
pub(crate) struct Clients {
    /// Connections, each subscribed to one channel.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) connections: usize,
    /// Channels over which they are spread evenly.
    #[arg(long, default_value_t = 1)]
    pub(crate) channels: usize,
    /// Connections opened a second; 0: as fast as they go.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) connect_rate: f64,
    /// Connections at a time that are not subscribed yet.
    #[arg(long, default_value_t = 200)]
    pub(crate) opening: usize,
    /// Threads that hold the clients.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Events {
    /// Events a second on all channels together; 0: as fast as they are taken.
    #[arg(long, default_value_t = 40.0)]
    pub(crate) rate: f64,
    /// Bytes of an event's data.
    #[arg(long, default_value_t = 200)]
    pub(crate) payload: usize,
    /// Seconds of publishing.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Publishers at a time. More than channels: nobody can say who was first, so that the order is not judged.
    #[arg(long, default_value_t = 1)]
    pub(crate) publishers: usize,
    /// Events in one publish; 10 at most over HTTP.
    #[arg(long, default_value_t = 1)]
    pub(crate) batch: usize,
    /// Without a rate: events under way, said and not yet heard by all, at most.
    #[arg(long, default_value_t = 256)]
    pub(crate) in_flight: u64,
    /// Seconds that the last events may take to arrive.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) drain: f64,
}

/// What all scenarios need.
pub(crate) struct Bench<'a> {
    pub(crate) target: &'a Target,
    pub(crate) watched: &'a [Watched],
    pub(crate) clients: &'a Clients,
}

impl Clients {
    fn plan(&self, restless: bool) -> Plan {
        Plan {
            connections: self.connections,
            channels: self.channels.clamp(1, self.connections.max(1)),
            threads: self.threads.clamp(1, self.connections.max(1)),
            rate: (self.connect_rate > 0.0).then_some(self.connect_rate),
            opening: self.opening,
            restless,
            first: 0,
        }
    }
}

impl Bench<'_> {
    /// Publishes to many subscribers, or (`publishes`) to few from many.
    pub(crate) fn fanout(&self, scenario: &str, events: &Events) -> Result<Report> {
        let start = Instant::now();
        let crowd = self.gather(self.clients.plan(false), start)?;
        let channels = self.clients.plan(false).channels;
        let subscribers = (self.clients.connections / channels).max(1) as u64;
        let plan = say::Plan {
            channels,
            rate: (events.rate > 0.0).then_some(events.rate),
            time: Duration::from_secs_f64(events.seconds),
            payload: events.payload,
            publishers: events.publishers.max(1),
            batch: events.batch.max(1),
            under_way_max: events.in_flight * subscribers,
            subscribers,
        };
        let before = process::look_at_all(self.watched)?;
        let publishing = Instant::now();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let shown = Shown::begin(&crowd);
        let said = runtime.block_on(say::say(self.target, &plan, &crowd.progress, start))?;
        let expected = self.expected(&said.published);
        crowd.wait_for(expected, Duration::from_secs_f64(events.drain));
        let arrived = publishing.elapsed().as_secs_f64();
        drop(shown);
        let after = process::look_at_all(self.watched)?;
        let tally = crowd.close(&said.published)?.tally;
        let mut report = Report::new(scenario);
        let seconds = said.seconds;
        report
            .value("connections", "connections", self.clients.connections as f64, "")
            .value("channels", "channels", plan.channels as f64, "")
            .value("payload", "payload", events.payload as f64, "B")
            .value(
                "events_per_second",
                &format!("events by {}", self.target.road()),
                said.events() as f64 / seconds,
                "/s",
            )
            .value("deliveries_per_second", "deliveries", tally.received as f64 / arrived, "/s")
            .times("latency", "latency from when it was due", &tally.latency);
        if plan.channels == 1 {
            let mut last = crate::tally::histogram();
            tally.last.iter().filter(|time| **time > 0).for_each(|time| crate::tally::note(&mut last, *time));
            report.times("last_receiver", "until the last subscriber", &last);
        }
        report.times("answered", "publish answered", &said.answered);
        if plan.rate.is_some() {
            report.times("tardy", "publisher behind its schedule", &said.tardy);
        }
        if !self.watched.is_empty() {
            let nodes = self.watched.iter().zip(&before).filter(|(process, _)| process.name != process::REDIS);
            let held: u64 = nodes.map(|(_, used)| used.anonymous).sum();
            report.value("anonymous_mib_held", "anonymous memory with all subscribed", held as f64 / 1048576.0, "MiB");
        }
        let (cpu, redis) = process::cpu_between(self.watched, &before, &after);
        if redis > 0 {
            let micros = redis as f64 / 1_000.0 / said.events() as f64;
            report.value("redis_cpu_us_per_event", "CPU of Redis an event", micros, "us");
        }
        self.costs(&mut report, cpu, &[("delivery", tally.received), ("publish", said.events())]);
        report.arrivals(&tally, expected, plan.keeps_order());
        Ok(report)
    }

    /// How fast clients come, and what one costs.
    pub(crate) fn connect(&self) -> Result<Report> {
        let start = Instant::now();
        let before = process::look_at_all(self.watched)?;
        let crowd = self.gather(self.clients.plan(false), start)?;
        let seconds = start.elapsed().as_secs_f64();
        let after = process::look_at_all(self.watched)?;
        let ended = crowd.close(&[])?;
        let mut report = Report::new("connect");
        let connections = self.clients.connections;
        report
            .value("connections", "connections", connections as f64, "")
            .value("seconds", "all subscribed after", seconds, "s")
            .value("connections_per_second", "connections", connections as f64 / seconds, "/s")
            .times("live", "connect to subscribed", &ended.opening);
        self.costs(
            &mut report,
            process::cpu_between(self.watched, &before, &after).0,
            &[("connection", connections as u64)],
        );
        report.arrivals(&ended.tally, 0, true);
        Ok(report)
    }

    /// What a held connection costs: memory as the slope between a third of them and all, CPU while nothing happens.
    pub(crate) fn idle(&self, seconds: f64) -> Result<Report> {
        let start = Instant::now();
        let mut some = self.clients.plan(false);
        let mut rest = some.clone();
        some.connections = self.clients.connections / 3;
        rest.connections = self.clients.connections - some.connections;
        rest.first = some.connections;
        let first = self.gather(some, start)?;
        let settled = |pause: Duration| -> Result<Vec<Used>> {
            std::thread::sleep(pause);
            process::look_at_all(self.watched)
        };
        let third = settled(SETTLE)?;
        let connections = rest.connections as f64;
        let second = self.gather(rest, Instant::now())?;
        let all = settled(SETTLE)?;
        let later = settled(Duration::from_secs_f64(seconds))?;
        let (mut ended, second) = (first.close(&[])?, second.close(&[])?);
        ended.tally.add(&second.tally)?;
        let mut report = Report::new("idle");
        report.value("connections", "connections held", self.clients.connections as f64, "");
        if !self.watched.is_empty() {
            let bytes = process::growth_between(&third, &all) as f64 / connections;
            let resident: u64 = later.iter().map(|used| used.resident).sum();
            let share = process::cpu_between(self.watched, &all, &later).0 as f64 / 1e9 / seconds * 100.0;
            report
                .value("bytes_per_connection", "memory a connection", bytes, "B")
                .value("resident_mib", "resident", resident as f64 / 1048576.0, "MiB")
                .value("idle_cpu_percent", "CPU while idle", share, "% of a core");
        }
        report.arrivals(&ended.tally, 0, true);
        Ok(report)
    }

    /// What a subscribe or an unsubscribe costs.
    pub(crate) fn churn(&self, seconds: f64) -> Result<Report> {
        let crowd = self.gather(self.clients.plan(true), Instant::now())?;
        let before = process::look_at_all(self.watched)?;
        crowd.begin();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        let after = process::look_at_all(self.watched)?;
        let tally = crowd.close(&[])?.tally;
        let mut report = Report::new("churn");
        report
            .value("connections", "connections", self.clients.connections as f64, "")
            .value("channels", "channels", self.clients.plan(true).channels as f64, "")
            .value("changes_per_second", "changes", tally.changes as f64 / seconds, "/s");
        self.costs(&mut report, process::cpu_between(self.watched, &before, &after).0, &[("change", tally.changes)]);
        report.arrivals(&tally, 0, true);
        Ok(report)
    }

    /// All come and go, round after round: what memory is left.
    pub(crate) fn storm(&self, rounds: usize) -> Result<Report> {
        let mut report = Report::new("storm");
        report.value("connections", "connections a round", self.clients.connections as f64, "");
        let mut closed = crate::tally::Tally::new();
        for round in 1..=rounds {
            let crowd = self.gather(self.clients.plan(false), Instant::now())?;
            closed.add(&crowd.close(&[])?.tally)?;
            std::thread::sleep(SETTLE * 2);
            let used = process::look_at_all(self.watched)?;
            if !used.is_empty() {
                let resident = used.iter().map(|used| used.resident).sum::<u64>() as f64 / 1048576.0;
                report.value(
                    &format!("resident_mib_{round}"),
                    &format!("resident after round {round}"),
                    resident,
                    "MiB",
                );
            }
        }
        report.arrivals(&closed, 0, true);
        Ok(report)
    }

    /// Opens a crowd and shows how far it is.
    fn gather(&self, plan: Plan, start: Instant) -> Result<Crowd> {
        let nodes = self.target.resolve()?;
        let all = plan.connections;
        let is_watched = std::io::stderr().is_terminal();
        let told = |live: u64| {
            if is_watched {
                eprint!("\r{live} of {all} connections ");
                // A terminal that takes nothing loses nothing.
                let _ = std::io::stderr().flush();
            }
        };
        let crowd = Crowd::open(&nodes, self.target, &plan, start)?.wait_until_live(told)?;
        if is_watched {
            eprintln!();
        }
        Ok(crowd)
    }

    /// How many deliveries so many events a channel must be.
    fn expected(&self, published: &[u64]) -> u64 {
        let channels = published.len();
        let subscribers = |channel: usize| (self.clients.connections + channels - 1 - channel) / channels;
        published.iter().enumerate().map(|(channel, events)| events * subscribers(channel) as u64).sum()
    }

    /// CPU of the watched processes, shared out.
    fn costs(&self, report: &mut Report, cpu: u64, per: &[(&str, u64)]) {
        if self.watched.is_empty() {
            return;
        }
        for (what, count) in per.iter().filter(|(_, count)| *count > 0) {
            let micros = cpu as f64 / 1_000.0 / *count as f64;
            report.value(&format!("cpu_us_per_{what}"), &format!("CPU a {what}"), micros, "us");
        }
    }
}

/// Shows on a terminal how much has arrived, twice a second, until it is dropped.
struct Shown {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Shown {
    fn begin(crowd: &Crowd) -> Self {
        let over = Arc::<AtomicBool>::default();
        let (progress, is_over) = (crowd.progress.clone(), over.clone());
        let work = move || {
            while !is_over.load(Relaxed) {
                eprint!("\r{} events arrived ", progress.received.load(Relaxed));
                std::thread::park_timeout(Duration::from_millis(500));
            }
            eprintln!();
        };
        Self { over, thread: std::io::stderr().is_terminal().then(|| std::thread::spawn(work)) }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It only prints.
            let _ = thread.join();
        }
    }
}
