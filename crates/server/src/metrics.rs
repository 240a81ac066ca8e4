//! What the process counts, in Prometheus' text.
//!
//! The hub and the backplane count for themselves; their sums are taken over when somebody asks. Labels name configured
//! apps and fixed words only: never a channel, a user, a socket id or an address.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backplane::{Cluster, LinkStatus};
use dialects::DIALECTS;
use hub::{Hub, LinkStats, RESULTS};
use model::{Apps, ChannelKind};
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::clock;

/// Seconds, for requests that are answered within milliseconds when all is well.
const DURATION_BUCKETS: [f64; 9] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];
/// 64 B … 1 MiB, × 4.
const SIZE_BUCKETS: [f64; 8] = [64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0];

pub(crate) struct Metrics {
    registry: Registry,
    connections: IntGaugeVec,
    opened: IntCounterVec,
    closed: IntCounterVec,
    rejected: IntCounterVec,
    channels: IntGaugeVec,
    subscriptions: IntGaugeVec,
    subscribes: IntCounterVec,
    published: IntCounterVec,
    received: IntCounterVec,
    delivered: IntCounterVec,
    dropped: IntCounterVec,
    gaps: IntCounterVec,
    resumes: IntCounterVec,
    history_repaired: IntCounter,
    history_unnumbered: IntCounter,
    whispers_refused: IntCounterVec,
    message_size: HistogramVec,
    received_bytes: IntCounterVec,
    sent_bytes: IntCounterVec,
    queued: IntGauge,
    http: IntCounterVec,
    http_duration: HistogramVec,
    auth_failures: IntCounterVec,
    backplane_up: IntGauge,
    backplane_evicts: IntGauge,
    backplane_messages: IntCounterVec,
    backplane_bytes: IntCounterVec,
    backplane_reconnects: IntCounter,
    backplane_errors: IntCounter,
    backplane_auth_failures: IntCounter,
    backplane_ignored: IntCounter,
    presence_expired: IntCounter,
    webhooks_sent: IntCounterVec,
    webhooks_failed: IntCounterVec,
    webhooks_retried: IntCounterVec,
    webhooks_lost: IntCounterVec,
    webhooks_queue_full: IntCounter,
    webhooks_age: GaugeVec,
    /// Since when the oldest happening of an app waits, in ms since 1970.
    webhooks_oldest: Mutex<HashMap<Arc<str>, u64>>,
    reloads: IntCounterVec,
    certificate_expiry: IntGaugeVec,
    ready: IntGauge,
    draining: IntGauge,
}

/// What is read anew while the node runs.
#[derive(Clone, Copy)]
pub(crate) enum Reload {
    Apps,
    Certificate,
}

impl Reload {
    fn label(self) -> &'static str {
        match self {
            Self::Apps => "apps",
            Self::Certificate => "certificate",
        }
    }
}

/// Makes families and registers them. A name is used once, and names and labels are constants, so nothing here can fail.
struct Maker(Registry);

impl Maker {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let family = IntCounterVec::new(Opts::new(format!("fanfare_{name}"), help), labels).expect("constant names");
        self.register(family)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let family = IntGaugeVec::new(Opts::new(format!("fanfare_{name}"), help), labels).expect("constant names");
        self.register(family)
    }

    fn ages(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        let family = GaugeVec::new(Opts::new(format!("fanfare_{name}"), help), labels).expect("constant names");
        self.register(family)
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(format!("fanfare_{name}"), help).expect("constant names"))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(format!("fanfare_{name}"), help).expect("constant names"))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(format!("fanfare_{name}"), help).buckets(buckets.to_vec());
        self.register(HistogramVec::new(options, labels).expect("constant names"))
    }

    fn register<T: prometheus::core::Collector + Clone + 'static>(&self, family: T) -> T {
        self.0.register(Box::new(family.clone())).expect("a name is used once");
        family
    }
}

impl Metrics {
    pub(crate) fn new(apps: &Apps) -> Self {
        let make = Maker(Registry::new());
        make.register_process();
        let by_link: &[&str] = &["app", "dialect"];
        let metrics = Self {
            connections: make.gauges("connections", "Open connections.", by_link),
            opened: make.counters("connections_opened_total", "Connections taken in.", by_link),
            closed: make.counters("connections_closed_total", "Connections ended.", &["app", "dialect", "reason"]),
            rejected: make.counters("connections_rejected_total", "Connections refused at the door.", &["reason"]),
            channels: make.gauges("channels", "Channels with a local subscription.", &["app", "kind"]),
            subscriptions: make.gauges("subscriptions", "Local subscriptions that were admitted.", &["app"]),
            subscribes: make.counters("subscribe_total", "Subscribes, by result.", &["app", "kind", "result"]),
            published: make.counters("messages_published_total", "Events taken for publishing.", &["app", "source"]),
            received: make.counters("messages_received_total", "Messages from clients.", by_link),
            delivered: make.counters("messages_delivered_total", "Messages given to local sockets.", by_link),
            dropped: make.counters("messages_dropped_total", "Messages that no socket will hear.", &["reason"]),
            gaps: make.counters("gaps_total", "Times a connection was told that messages may be missing.", by_link),
            resumes: make.counters(
                "resumes_total",
                "Clients that came back with a position, by whether they were told all that they missed.",
                &["app", "dialect", "result"],
            ),
            history_repaired: make.counter(
                "history_repaired_total",
                "Events that a cut of the link had hidden and that were told from the history.",
            ),
            history_unnumbered: make.counter(
                "history_unnumbered_total",
                "Events without a number on channels with a history: who comes back from before one is not told that nothing is lost.",
            ),
            whispers_refused: make.counters("client_events_refused_total", "Client events refused.", by_link),
            message_size: make.histograms("message_size_bytes", "Size of event data.", &["source"], &SIZE_BUCKETS),
            received_bytes: make.counters("received_bytes_total", "Bytes of messages from clients.", by_link),
            sent_bytes: make.counters("sent_bytes_total", "Bytes given to sockets.", by_link),
            queued: make.gauge("send_queue_bytes", "Bytes that sockets have not taken yet."),
            http: make.counters("http_requests_total", "API requests.", &["route", "method", "status"]),
            http_duration: make.histograms(
                "http_request_duration_seconds",
                "From the head of an API request to its answer.",
                &["route", "method"],
                &DURATION_BUCKETS,
            ),
            auth_failures: make.counters(
                "auth_failures_total",
                "Wrong signatures of requests, subscriptions and sign-ins, and refusals by an application's auth endpoint.",
                &["app", "kind"],
            ),
            backplane_up: make.gauge("backplane_up", "1 while this node hears and is heard."),
            backplane_evicts: make.gauge("backplane_evicts", "1 while Redis would throw away our keys when its memory is full."),
            backplane_messages: make.counters("backplane_messages_total", "Messages, in and out.", &["direction"]),
            backplane_bytes: make.counters("backplane_bytes_total", "Bytes of messages, in and out.", &["direction"]),
            backplane_reconnects: make.counter("backplane_reconnects_total", "Links that were lost and made again, or replaced by another."),
            backplane_errors: make.counter("backplane_errors_total", "Commands that failed."),
            backplane_auth_failures: make
                .counter("backplane_auth_failures_total", "Logins to Redis that were refused: a wrong user or password."),
            backplane_ignored: make.counter("backplane_ignored_total", "Internal events this version does not know."),
            presence_expired: make.counter("presence_expired_total", "Members of dead nodes that this node removed."),
            reloads: make.counters(
                "reloads_total",
                "Times that apps or the certificate were read anew, taken or refused.",
                &["part", "result"],
            ),
            certificate_expiry: make.gauges(
                "tls_certificate_expiry_timestamp_seconds",
                "When the certificate on the client port expires, in seconds since 1970. Absent without TLS.",
                &[],
            ),
            webhooks_sent: make.counters("webhooks_sent_total", "Events that an endpoint took.", &["app"]),
            webhooks_failed: make.counters("webhooks_failed_total", "Requests to endpoints that failed.", &["app"]),
            webhooks_retried: make.counters("webhooks_retried_total", "Requests that were tried again.", &["app"]),
            webhooks_lost: make.counters(
                "webhooks_lost_total",
                "Events that an endpoint will not have: tried until their time was over, refused, or left when the node stopped.",
                &["app", "reason"],
            ),
            webhooks_queue_full: make.counter(
                "webhooks_queue_full_total",
                "Events that were not queued for webhooks, because too many waited.",
            ),
            webhooks_age: make.ages(
                "webhooks_queue_age_seconds",
                "How old the oldest event is that waits here.",
                &["app"],
            ),
            webhooks_oldest: Mutex::default(),
            ready: make.gauge("ready", "1 while the node may take traffic."),
            draining: make.gauge("draining", "1 while the node lets its clients go."),
            registry: make.0,
        };
        metrics.begin_at_zero(apps);
        metrics
    }

    /// So that `rate()` works from the first event on.
    pub(crate) fn begin_at_zero(&self, apps: &Apps) {
        for app in apps.iter() {
            for dialect in DIALECTS {
                let link: &[&str] = &[&app.id, dialect.name()];
                self.connections.with_label_values(link);
                for family in [&self.opened, &self.received, &self.delivered, &self.gaps, &self.sent_bytes] {
                    family.with_label_values(link);
                }
            }
            self.subscriptions.with_label_values(&[&*app.id]);
            self.published.with_label_values(&[&*app.id, "http"]);
            self.published.with_label_values(&[&*app.id, "client"]);
        }
        for result in ["taken", "refused"] {
            self.reloads.with_label_values(&[Reload::Apps.label(), result]);
        }
        for app in apps.iter().filter(|app| !app.webhooks.is_empty()) {
            for family in [&self.webhooks_sent, &self.webhooks_failed, &self.webhooks_retried] {
                family.with_label_values(&[&*app.id]);
            }
            for reason in ["expired", "refused", "shutdown"] {
                self.webhooks_lost.with_label_values(&[&*app.id, reason]);
            }
            self.webhooks_age.with_label_values(&[&*app.id]);
        }
        for reason in ["handshake", "descriptors"] {
            self.rejected.with_label_values(&[reason]);
        }
        for reason in ["inbox_full", "malformed", "too_large"] {
            self.dropped.with_label_values(&[reason]);
        }
    }

    /// Something was read anew, and taken or refused.
    pub(crate) fn reloaded(&self, part: Reload, taken: bool) {
        self.reloads.with_label_values(&[part.label(), if taken { "taken" } else { "refused" }]).inc();
    }

    /// `at`: seconds since 1970.
    pub(crate) fn certificate_expires(&self, at: u64) {
        self.certificate_expiry.with_label_values(&[] as &[&str]).set(at as i64);
    }

    /// A connection that was refused at the door.
    pub(crate) fn rejected(&self, reason: &str) {
        self.rejected.with_label_values(&[reason]).inc();
    }

    /// `bytes`: of the data.
    pub(crate) fn published(&self, app: &str, source: &str, bytes: usize) {
        self.published.with_label_values(&[app, source]).inc();
        self.message_size.with_label_values(&[source]).observe(bytes as f64);
    }

    pub(crate) fn auth_failed(&self, app: &str, kind: &str) {
        self.auth_failures.with_label_values(&[app, kind]).inc();
    }

    /// Events that an endpoint took.
    pub(crate) fn webhooks_sent(&self, app: &str, events: usize) {
        self.webhooks_sent.with_label_values(&[app]).inc_by(events as u64);
    }

    pub(crate) fn webhook_failed(&self, app: &str) {
        self.webhooks_failed.with_label_values(&[app]).inc();
    }

    pub(crate) fn webhook_retried(&self, app: &str) {
        self.webhooks_retried.with_label_values(&[app]).inc();
    }

    pub(crate) fn webhooks_lost(&self, app: &str, reason: &str, events: usize) {
        self.webhooks_lost.with_label_values(&[app, reason]).inc_by(events as u64);
    }

    /// `when`: in ms since 1970; `None` when nothing waits.
    pub(crate) fn webhook_oldest(&self, app: &Arc<str>, when: Option<u64>) {
        let mut oldest = self.webhooks_oldest.lock().unwrap_or_else(PoisonError::into_inner);
        match when {
            Some(when) => _ = oldest.insert(app.clone(), when),
            None => _ = oldest.insert(app.clone(), u64::MAX),
        }
    }

    /// The app is not told of any more.
    pub(crate) fn forget_webhooks(&self, app: &str) {
        self.webhooks_oldest.lock().unwrap_or_else(PoisonError::into_inner).remove(app);
        // It was there only if something was ever counted.
        let _ = self.webhooks_age.remove_label_values(&[app]);
    }

    pub(crate) fn http(&self, route: &str, method: &str, status: u16, took: Duration) {
        self.http.with_label_values(&[route, method, &status.to_string()]).inc();
        self.http_duration.with_label_values(&[route, method]).observe(took.as_secs_f64());
    }

    /// The text of all families, with the sums of this moment.
    pub(crate) fn text(&self, hub: &Hub, backplane: &dyn Cluster, ready: bool, draining: bool) -> String {
        self.take_over_links(hub);
        self.take_over_backplane(backplane);
        self.take_over_ages();
        self.ready.set(ready.into());
        self.draining.set(draining.into());
        // Writing to a string cannot fail.
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    fn take_over_links(&self, hub: &Hub) {
        let mut links: HashMap<(Arc<str>, u8), Vec<Arc<LinkStats>>> = HashMap::new();
        let (mut queued, mut inbox_dropped) = (0, 0);
        for worker in hub.stats() {
            queued += worker.queued_bytes.get();
            inbox_dropped += worker.inbox_dropped.load(std::sync::atomic::Ordering::Relaxed);
            for (key, stats) in worker.links() {
                links.entry(key).or_default().push(stats);
            }
        }
        self.queued.set(queued as i64);
        raise(&self.dropped.with_label_values(&["inbox_full"]), inbox_dropped);
        let mut subscriptions: HashMap<Arc<str>, u64> = HashMap::new();
        let mut whispers: HashMap<Arc<str>, u64> = HashMap::new();
        for ((app, dialect), stats) in &links {
            let sum = |count: fn(&LinkStats) -> u64| stats.iter().map(|stats| count(stats)).sum::<u64>();
            *subscriptions.entry(app.clone()).or_default() += sum(|s| s.subscriptions.get());
            *whispers.entry(app.clone()).or_default() += sum(|s| s.whispers.get());
            let name = DIALECTS[usize::from(*dialect)].name();
            let link: &[&str] = &[app, name];
            self.connections.with_label_values(link).set(sum(|s| s.connections.get()) as i64);
            raise(&self.opened.with_label_values(link), sum(|s| s.opened.get()));
            raise(&self.received.with_label_values(link), sum(|s| s.received.get()));
            raise(&self.received_bytes.with_label_values(link), sum(|s| s.received_bytes.get()));
            raise(&self.delivered.with_label_values(link), sum(|s| s.delivered.get()));
            raise(&self.sent_bytes.with_label_values(link), sum(|s| s.sent_bytes.get()));
            raise(&self.gaps.with_label_values(link), sum(|s| s.gaps.get()));
            for (result, n) in [("recovered", sum(|s| s.recovered.get())), ("lost", sum(|s| s.not_recovered.get()))] {
                raise(&self.resumes.with_label_values(&[&**app, name, result]), n);
            }
            raise(&self.whispers_refused.with_label_values(link), sum(|s| s.whispers_refused.get()));
            self.take_over_closed(app, name, stats);
        }
        self.take_over_subscribes(&links);
        for (app, n) in subscriptions {
            self.subscriptions.with_label_values(&[&*app]).set(n as i64);
        }
        for (app, n) in whispers {
            raise(&self.published.with_label_values(&[&*app, "client"]), n);
        }
    }

    fn take_over_closed(&self, app: &str, dialect: &str, stats: &[Arc<LinkStats>]) {
        let mut sums: HashMap<&'static str, u64> = HashMap::new();
        for (reason, n) in stats.iter().flat_map(|stats| stats.closed()) {
            *sums.entry(reason).or_default() += n;
        }
        for (reason, n) in sums {
            raise(&self.closed.with_label_values(&[app, dialect, reason]), n);
        }
    }

    fn take_over_subscribes(&self, links: &HashMap<(Arc<str>, u8), Vec<Arc<LinkStats>>>) {
        let mut sums: HashMap<(&str, usize, usize), u64> = HashMap::new();
        for ((app, _), stats) in links {
            for (kind, result) in (0..ChannelKind::LABELS.len()).flat_map(|k| (0..RESULTS.len()).map(move |r| (k, r))) {
                let n: u64 = stats.iter().map(|stats| stats.subscribes[kind][result].get()).sum();
                *sums.entry((app, kind, result)).or_default() += n;
            }
        }
        let denied = RESULTS.iter().position(|result| *result == "denied");
        let mut channel_auth: HashMap<&str, u64> = HashMap::new();
        for ((app, kind, result), n) in sums.into_iter().filter(|(_, n)| *n > 0) {
            if Some(result) == denied {
                *channel_auth.entry(app).or_default() += n;
            }
            raise(&self.subscribes.with_label_values(&[app, ChannelKind::LABELS[kind], RESULTS[result]]), n);
        }
        for (app, n) in channel_auth {
            raise(&self.auth_failures.with_label_values(&[app, "channel_auth"]), n);
        }
        let mut user_auth: HashMap<&str, u64> = HashMap::new();
        for ((app, _), stats) in links {
            *user_auth.entry(app).or_default() += stats.iter().map(|stats| stats.sign_ins_refused.get()).sum::<u64>();
        }
        for (app, n) in user_auth.into_iter().filter(|(_, n)| *n > 0) {
            raise(&self.auth_failures.with_label_values(&[app, "user_auth"]), n);
        }
    }

    fn take_over_backplane(&self, backplane: &dyn Cluster) {
        for ((app, kind), n) in backplane.channels() {
            self.channels.with_label_values(&[&*app, kind]).set(n as i64);
        }
        let counters = backplane.counters();
        self.backplane_up.set((backplane.status() == LinkStatus::Up).into());
        self.backplane_evicts.set(counters.evicts.into());
        raise(&self.backplane_messages.with_label_values(&["in"]), counters.messages_in);
        raise(&self.backplane_messages.with_label_values(&["out"]), counters.messages_out);
        raise(&self.backplane_bytes.with_label_values(&["in"]), counters.bytes_in);
        raise(&self.backplane_bytes.with_label_values(&["out"]), counters.bytes_out);
        raise(&self.backplane_reconnects, counters.reconnects);
        raise(&self.backplane_errors, counters.errors);
        raise(&self.backplane_auth_failures, counters.auth_failures);
        raise(&self.backplane_ignored, counters.unknown_internal);
        raise(&self.webhooks_queue_full, counters.webhooks_lost);
        raise(&self.presence_expired, counters.presence_expired);
        raise(&self.history_repaired, counters.history_repaired);
        raise(&self.history_unnumbered, counters.history_unnumbered);
        raise(&self.dropped.with_label_values(&["malformed"]), counters.dropped_malformed);
        raise(&self.dropped.with_label_values(&["too_large"]), counters.dropped_too_large);
    }
}

impl Metrics {
    fn take_over_ages(&self) {
        let now = clock::ms();
        for (app, when) in self.webhooks_oldest.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let age = Duration::from_millis(now.saturating_sub(*when)).as_secs_f64();
            self.webhooks_age.with_label_values(&[&**app]).set(age);
        }
    }
}

impl Maker {
    fn register_process(&self) {
        self.0.register(Box::new(ProcessCollector::for_self())).expect("a name is used once");
        let build = self.gauges("build_info", "1, with the version in the label.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    }
}

/// Brings a counter up to a sum that somebody else counted.
fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
