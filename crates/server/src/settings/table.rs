//! The table of settings: what each is called, what it may be, what it is when nobody says so, and what it does.
//!
//! The docs page, the example file, the checks and the error texts are printed from these rows, so they cannot disagree.
//! What a value is checked against lives in `value.rs`.

/// Between a section and a key in a name, in the file and in error texts.
const DOT: char = '.';

/// One setting. Rows of an app are named `apps.NAME.…`; NAME stands for whatever the operator calls the app. Rows of an
/// app's webhook are named `apps.NAME.webhooks.HOOK.…`, and HOOK stands for what he calls that.
#[derive(Debug)]
pub(crate) struct Row {
    pub name: &'static str,
    pub kind: Kind,
    pub default: Fallback,
    pub text: &'static str,
}

/// What a value may be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Kind {
    /// An IP address and a port.
    Address,
    /// A whole number from `min` to `max`, both included.
    Count {
        min: u64,
        max: u64,
    },
    /// A whole number of bytes, at least `min`.
    Bytes {
        min: u64,
    },
    /// Seconds, fractions allowed, from `min` to `max`.
    Seconds {
        min: f64,
        max: f64,
    },
    /// `true` or `false`.
    Switch,
    Choice(&'static [&'static str]),
    /// An app's id or key: it stands in URLs and before a colon.
    Identifier,
    Secret,
    /// The path of a file.
    File,
    RedisUrl,
    /// What stands before our own names in Redis.
    Namespace,
    /// What stands before an app's channel names in Redis. May be empty.
    Prefix,
    /// Further ones: a list in the file, or text with commas.
    Prefixes,
    /// What stands before the paths of URLs: `/a/path`, or nothing.
    PathPrefix,
    /// `http://host[:port]/path` or `https://…`; empty for none.
    HttpUrl,
    /// Several of them: a list in the file, or text with commas.
    HttpUrls,
    /// `APPID:KEY`, secret: a list in the file, or text with commas.
    EchoClients,
    /// Names of what webhooks are told of: a list in the file, or text with commas.
    WebhookKinds,
    /// Headers with their values, `Name: value`: a list in the file, or text with a line for each.
    Headers,
    /// Names of HTTP headers: a list in the file, or text with commas.
    HeaderNames,
    /// Origins of pages: a list in the file, or text with commas.
    Origins,
    /// Which channels keep a history: a list in the file, or text with commas.
    History,
    /// A part of a channel's name. Not empty.
    Part,
    /// Directives for the log filter.
    Filter,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Fallback {
    Switch(bool),
    Text(&'static str),
    Whole(u64),
    Seconds(f64),
    /// Nothing; what happens then is in the row's text.
    Absent,
    /// The table that holds it is not valid without it.
    Required,
}

/// The longest duration that makes sense anywhere: a day. Guards against milliseconds written by mistake.
const DAY: f64 = 86_400.0;

const COUNT: Kind = Kind::Count { min: 1, max: 1_000_000_000 };
const BYTES: Kind = Kind::Bytes { min: 1 };
/// A wait that may be none.
const WAIT: Kind = Kind::Seconds { min: 0.0, max: DAY };
/// A time-out or period, which cannot be none.
const PERIOD: Kind = Kind::Seconds { min: 0.01, max: DAY };

const fn row(name: &'static str, kind: Kind, default: Fallback, text: &'static str) -> Row {
    Row { name, kind, default, text }
}

use Fallback::{Absent, Required, Seconds, Text, Whole};

/// All settings, in the order in which they are printed; a section's rows stand together.
#[rustfmt::skip]
pub(crate) const TABLE: [Row; 90] = [
    row("server.listen", Kind::Address, Text("127.0.0.1:8080"), "Where clients connect and the HTTP API is served. Port 0: any free one. Images set `0.0.0.0:8080`."),
    row("server.path_prefix", Kind::PathPrefix, Text(""), "What stands before every path on that port, for a load balancer that passes it on: `/ws` makes `/app/KEY` `/ws/app/KEY`. Begins with a slash and ends without one. Empty: nothing."),
    row("server.admin", Kind::Address, Text("127.0.0.1:9601"), "Where metrics and health are served, to you and your load balancer. There is no password: keep it away from the internet."),
    row("server.workers", Kind::Count { min: 0, max: 64 }, Whole(0), "Threads that serve clients. 0: one for each core that the process may use."),

    row("tls.certificate_file", Kind::File, Absent, "The certificate in PEM, the server's own first, then those between it and the root. With it and `key_file` clients connect by `wss://` and `https://`, and by nothing else. Read anew when it changes."),
    row("tls.key_file", Kind::File, Absent, "The private key of that certificate in PEM, without a passphrase."),
    row("tls.chain_file", Kind::File, Absent, "Certificates between the server's own and the root, in PEM, where `certificate_file` does not hold them: they are read behind it."),

    row("socket_io.path", Kind::PathPrefix, Text("/socket.io"), "Where Socket.IO clients connect, on the port for clients."),
    row("socket_io.ping_interval", PERIOD, Seconds(25.0), "How often a Socket.IO client and the node ask each other whether they live."),
    row("socket_io.ping_timeout", PERIOD, Seconds(20.0), "How long the answer may take."),
    row("socket_io.body_bytes", BYTES, Whole(1_000_000), "The largest body of a request of a client that polls; it is told. A message in it, as on a WebSocket, has at most `limits.frame_bytes`."),
    row("socket_io.polling", Kind::Switch, Fallback::Switch(true), "Whether they may connect by HTTP requests."),
    row("socket_io.websocket", Kind::Switch, Fallback::Switch(true), "Whether they may connect by WebSocket."),
    row("socket_io.client_file", Kind::File, Absent, "The file served at /socket.io/socket.io.js. Absent: none."),

    row("redis.url", Kind::RedisUrl, Text(""), "What joins the nodes: `redis://[user:password@]host:port[/db]`, with TLS `rediss://…`, behind Sentinel `redis+sentinel://[user:password@]host:port,host:port/master[/db]` ([redis.md](redis.md)). Empty: no Redis, and this node stands alone."),
    row("redis.url_file", Kind::File, Absent, "A file that holds the URL, instead of `redis.url`. Read again for each new link, so a changed password needs no restart."),
    row("redis.ca_file", Kind::File, Absent, "Who may have signed the certificate of a Redis with TLS, in PEM. Absent: the public authorities. This and the next two are read again for each new link."),
    row("redis.certificate_file", Kind::File, Absent, "The certificate that this node shows to a Redis that asks for one, in PEM. With `key_file`."),
    row("redis.key_file", Kind::File, Absent, "The private key of that certificate in PEM, without a passphrase."),
    row("redis.namespace", Kind::Namespace, Text("ff:"), "What begins our own keys and topics in Redis. All nodes of a cluster have the same; two clusters on one Redis differ."),
    row("redis.linger", WAIT, Seconds(2.0), "How long a channel without listeners stays subscribed, so that a page reload costs Redis nothing."),
    row("redis.command_timeout", PERIOD, Seconds(2.0), "How long a Redis command may take."),
    row("redis.publish_timeout", PERIOD, Seconds(5.0), "How long a publish over HTTP may wait for Redis; then 503."),
    row("redis.probe_timeout", PERIOD, Seconds(3.0), "How long the link may be silent after a probe; then another is opened beside it and takes over."),
    row("redis.down_grace", WAIT, Seconds(10.0), "How long the node stays ready without Redis; then `/ready` says 503."),
    row("redis.pool_size", Kind::Count { min: 1, max: 1_000 }, Whole(8), "Connections for commands that need no order."),
    row("redis.queue_bytes", BYTES, Whole(67_108_864), "What may wait between Redis and the workers. Full: the link counts as lost."),
    row("redis.max_payload", BYTES, Whole(1_048_576), "The largest message taken from Redis. A larger one is dropped and counted."),

    row("presence.heartbeat", PERIOD, Seconds(1.0), "How often a node tells Redis that it lives."),
    row("presence.dead_after", PERIOD, Seconds(3.0), "Silence after which the others remove a node's members. More than twice `presence.heartbeat`."),

    row("limits.inbox_bytes", BYTES, Whole(67_108_864), "What may wait for one worker. Full: the channel has a gap, and its clients are told."),
    row("limits.batch_events", COUNT, Whole(256), "The most events a worker takes at a time."),
    row("limits.batch_bytes", BYTES, Whole(262_144), "The most bytes a worker takes at a time."),
    row("limits.outbox_bytes", BYTES, Whole(1_048_576), "What may wait for one client. More: it reads too slowly and is closed."),
    row("limits.outbox_total_bytes", BYTES, Whole(536_870_912), "What may wait for all clients of the node. More: the fullest are closed first."),
    row("limits.frame_bytes", BYTES, Whole(65_536), "The largest message a client may send."),
    row("limits.http_body_bytes", BYTES, Whole(1_048_576), "The largest body of an HTTP request."),
    row("limits.handshake_seconds", PERIOD, Seconds(10.0), "How long a new connection may take to say what it wants."),
    row("limits.handshakes", COUNT, Whole(1_024), "New connections at a time that have not said it yet, and new sessions of clients that poll. More: the next ones wait in the kernel's queue; where nobody is done within half a second, they are refused."),
    row("limits.accepts_per_second", Kind::Count { min: 0, max: 1_000_000 }, Whole(4_000), "New connections in a second, all clients together. More wait in the kernel's queue until it is their turn, so that a crowd that comes back does not hold up those who are in. 0: no limit."),
    row("limits.auth_requests", Kind::Count { min: 1, max: 100_000 }, Whole(64), "Requests of the auth endpoints to applications at a time. More wait their turn; beyond 1,024 waiting: 503. As many again for Socket.IO clients, which wait for as long as they are connected."),
    row("limits.auth_seconds", PERIOD, Seconds(5.0), "How long such a request may take, its turn included; then 504, or 503 when its turn never came."),

    row("drain.grace", WAIT, Seconds(5.0), "At a stop: how long the node still accepts, while load balancers learn of it."),
    row("drain.seconds", WAIT, Seconds(20.0), "At a stop: over how long the connections are closed, so that they do not all come back at once."),
    row("drain.leave_linger", WAIT, Seconds(3.0), "At a stop: how long presence waits for a user to come back on another node."),

    row("webhooks.lanes", Kind::Count { min: 1, max: 64 }, Whole(4), "Requests to one endpoint at a time. Each channel has its lane, and within a lane one request follows the other."),
    row("webhooks.batch_events", Kind::Count { min: 1, max: 100 }, Whole(10), "The most events of one request: those of its lane that wait when it is made. Their ids are one header. Nothing waits for a batch to be full. 1: one event a request."),
    row("webhooks.timeout", PERIOD, Seconds(5.0), "How long an endpoint may take to answer; then the request counts as failed."),
    row("webhooks.retry_seconds", WAIT, Seconds(3_600.0), "How long after an event its request is tried again, with pauses of 1 to 60 seconds; then the event is lost to that endpoint, and counted."),

    row("log.format", Kind::Choice(&["auto", "human", "json"]), Text("auto"), "How log lines look, on standard error. `auto`: for people at a terminal, else JSON."),
    row("log.level", Kind::Filter, Text("info"), "`error`, `warn`, `info`, `debug` or `trace`, and exceptions: `info,hub=debug`."),

    row("apps.NAME.id", Kind::Identifier, Required, "The app's id, as in the URLs of its HTTP API."),
    row("apps.NAME.key", Kind::Identifier, Required, "The app's key, which its clients know."),
    row("apps.NAME.secret", Kind::Secret, Absent, "The app's secret, which its back end knows. Needed, here or by `secret_file`."),
    row("apps.NAME.secret_file", Kind::File, Absent, "A file that holds the secret, instead of `secret`."),
    row("apps.NAME.previous_secret", Kind::Secret, Absent, "While rotating: a second secret whose signatures are good too. We sign with `secret`."),
    row("apps.NAME.redis_prefix", Kind::Prefix, Absent, "What stands before the app's channel names in Redis, as in Laravel's `database.redis.options.prefix`. Absent: the id and a colon. `\"\"`: nothing."),
    row("apps.NAME.also_listen", Kind::Prefixes, Text(""), "Further prefixes that mean the same channels: Laravel's other spelling, as long as it is not known which one it uses ([laravel.md](laravel.md)). What comes with any of them is heard; what nodes themselves publish goes to one of them. A list, or text with commas."),
    row("apps.NAME.client_events", Kind::Choice(&["off", "members", "all"]), Text("members"), "Who may send client events on private and presence channels: nobody, whoever is subscribed, any connection."),
    row("apps.NAME.activity_timeout", Kind::Count { min: 1, max: 3_600 }, Whole(30), "Seconds of silence after which a client is asked whether it lives. Whole seconds: clients are told."),
    row("apps.NAME.on_gap", Kind::Choice(&["notice", "close"]), Text("notice"), "When messages were lost: tell the client, or close so that it comes back and loads anew."),
    row("apps.NAME.auth_url", Kind::HttpUrl, Text(""), "The application's own endpoint that says who may listen to a channel, for back ends that do not sign (Laravel's `redis` driver): `http://127.0.0.1:8000/broadcasting/auth`. `/broadcasting/auth` of this node asks it and signs. Empty: off."),
    row("apps.NAME.user_auth_url", Kind::HttpUrl, Text(""), "The same for `/broadcasting/user-auth`: the endpoint that says who the user is. Empty: off."),
    row("apps.NAME.auth_urls", Kind::HttpUrls, Text(""), "Further addresses of the same application on other hosts; a client's `Referer` chooses among them. A list, or text with commas."),
    row("apps.NAME.echo_clients", Kind::EchoClients, Text(""), "Keys of laravel-echo-server's HTTP API, unsigned: `[\"APPID:KEY\"]`. A list, or text with commas. Empty: none."),
    row("apps.NAME.auth_headers", Kind::HeaderNames, Text(""), "Headers that those two endpoints forward beside the usual ones, such as `X-Tenant`. A list, or text with commas."),
    row("apps.NAME.allowed_origins", Kind::Origins, Text(""), "Origins whose pages may open a WebSocket and ask those two endpoints: `https://shop.example`, `https://*.shop.example` for what is below it, `shop.example` for any scheme and port. A list, or text with commas. Empty: any page may open a WebSocket, and those of the origin of `auth_url` may ask. Pages that this node's own host name served may always, and so may what is no browser."),
    row("apps.NAME.channels_per_connection", COUNT, Whole(1_000), "The most channels a connection may be subscribed to."),
    row("apps.NAME.members", COUNT, Whole(100), "The most members of a presence channel, cluster-wide."),
    row("apps.NAME.event_bytes", BYTES, Whole(10_240), "The most data of an event, over the HTTP API and from clients."),
    row("apps.NAME.channels_per_event", COUNT, Whole(100), "The most channels of one publish."),
    row("apps.NAME.batch_events", COUNT, Whole(10), "The most events of one batch."),
    row("apps.NAME.user_info_bytes", BYTES, Whole(1_024), "The most `user_info` of a presence member."),
    row("apps.NAME.subscription_count", Kind::Switch, Fallback::Switch(false), "Whether subscribers are told how many they are (`pusher_internal:subscription_count`). Never on presence channels, which tell members."),
    row("apps.NAME.cache_seconds", Kind::Count { min: 1, max: 86_400 }, Whole(1_800), "For how many seconds a cache channel keeps its last event."),
    row("apps.NAME.history", Kind::History, Text(""), "Channels that keep what the application publishes over the HTTP API, how many events, and for how many seconds: `[\"private-chat-* 100 300\"]`; `*` stands for any text. A list, or text with commas; the first rule that fits holds. Clients that ask for it get what they missed when they come back, and nodes what they missed when the link was cut. Empty: none but cache channels, which keep one."),
    row("apps.NAME.connections", Kind::Count { min: 0, max: 1_000_000_000 }, Whole(0), "The most connections, cluster-wide. What other nodes have is known to a second. 0: no limit."),
    row("apps.NAME.when_full", Kind::Choice(&["stay_away", "come_back"]), Text("stay_away"), "What a connection above `connections` is told: to stay away (4004, as Pusher does) or to come back after a while (4100)."),
    row("apps.NAME.api_requests_per_second", Kind::Count { min: 0, max: 1_000_000_000 }, Whole(0), "The most requests to the HTTP API in a second, cluster-wide: each node takes its even share. More: 429. 0: no limit."),
    row("apps.NAME.client_events_per_second", Kind::Count { min: 0, max: 1_000_000 }, Whole(10), "The most client events of a connection in a second. More are refused. 0: no limit."),
    row("apps.NAME.channel_name_bytes", Kind::Count { min: 1, max: 200 }, Whole(200), "The longest name of a channel, in bytes."),
    row("apps.NAME.event_name_bytes", Kind::Count { min: 1, max: 200 }, Whole(200), "The longest name of an event, in bytes."),
    row("apps.NAME.user_id_chars", Kind::Count { min: 1, max: 180 }, Whole(128), "The longest id of a user, in characters."),
    row("apps.NAME.presence_grace", Kind::Seconds { min: 0.0, max: 60.0 }, Seconds(0.0), "How long a user stays present after his last connection to a node: over the reload of a page nobody sees him leave and come back. 0: he leaves at once."),
    row("apps.NAME.watchlist", Kind::Count { min: 0, max: 10_000 }, Whole(100), "The most users that a signed-in connection may watch."),

    row("apps.NAME.webhooks.HOOK.url", Kind::HttpUrl, Required, "The endpoint that is told, by `http://` or `https://`."),
    row("apps.NAME.webhooks.HOOK.events", Kind::WebhookKinds, Required, "What it is told of: `channel_occupied`, `channel_vacated`, `member_added`, `member_removed`, `client_event`, `cache_miss`, `subscription_count`. A list, or text with commas."),
    row("apps.NAME.webhooks.HOOK.channel_prefix", Kind::Part, Absent, "Only of channels whose names begin so."),
    row("apps.NAME.webhooks.HOOK.channel_suffix", Kind::Part, Absent, "Only of channels whose names end so."),
    row("apps.NAME.webhooks.HOOK.headers", Kind::Headers, Text(""), "Headers that are sent along: `[\"Authorization: Bearer …\"]`. A list, or text with a line for each."),
];

/// The row of a full name; any app's name fits `NAME`, any webhook's `HOOK`.
pub(crate) fn row_of(name: &str) -> Option<&'static Row> {
    let parts: Vec<&str> = name.split(DOT).collect();
    let fits = |(known, part): (&str, &&str)| known == *part || matches!(known, "NAME" | "HOOK");
    TABLE.iter().find(|row| {
        let known = row.name.split(DOT);
        known.clone().count() == parts.len() && known.zip(&parts).all(fits)
    })
}

/// What a setting is one of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    Node,
    App,
    Webhook,
}

impl Row {
    pub(crate) fn scope(&self) -> Scope {
        match self.name.matches(DOT).count() {
            4 => Scope::Webhook,
            2 => Scope::App,
            _ => Scope::Node,
        }
    }

    /// The last part of its name.
    pub(crate) fn key(&self) -> &'static str {
        self.name.rsplit_once(DOT).map_or(self.name, |(_, key)| key)
    }
}

/// The last part of the name of an app's row; `None` for the other rows.
pub(crate) fn app_key(name: &'static str) -> Option<&'static str> {
    name.strip_prefix("apps.NAME.").filter(|key| !key.contains(DOT))
}

/// The rows of an app; those of its webhooks apart.
pub(crate) fn app_rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(|row| row.scope() == Scope::App)
}

/// The rows of a webhook.
pub(crate) fn webhook_rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(|row| row.scope() == Scope::Webhook)
}

/// The rows that are of no app.
pub(crate) fn node_rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(|row| row.scope() == Scope::Node)
}

/// A name in its two parts: `redis.url` is `url` of `redis`, `apps.main.id` is `id` of `apps.main`.
pub(crate) fn split(name: &str) -> (&str, &str) {
    name.rsplit_once(DOT).unwrap_or(("", name))
}

/// The environment's spelling: `FANFARE_REDIS__URL` for `redis.url`.
pub(crate) fn variable(name: &str) -> String {
    format!("FANFARE_{}", name.to_uppercase().replace(DOT, "__"))
}
