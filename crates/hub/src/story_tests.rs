//! Stories of one worker: real sockets, a dialect of single words, and a backplane that only remembers.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::Read;
use std::net::TcpListener;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use backplane::{Ask, Backplane, BoxFuture, Cached, Item, LinkStatus, PublishError, Standing, Workers};
use model::dialect::{Goodbye, Heartbeat};
use model::webhook::Happening;
use model::{
    Action, App, Apps, Broadcast, ChannelKey, ChannelName, Command, Delivery, Dialect, Encoding, Event, Framing,
    Headers, HistoryDepth, HistoryRule, Member, Message, Notice, OnGap, OpenRequest, Opening, Position, Proof, RawJson,
    Reason, Refusal, Resume, Roster, SocketId, State, UserId, View, Webhook, WebhookKind, WebhookKinds, auth,
};

use tokio::sync::oneshot;

use crate::authority::{Authority, Question};
use crate::connection::{Connection, Way};
use crate::hub::{Hub, Settings};
use crate::outbox::Sink;
use crate::shard::Shard;
use crate::tls::Tls;
use crate::worker::Worker;

/// Says everything in one word.
struct Words;

impl Dialect for Words {
    fn name(&self) -> &'static str {
        "words"
    }

    fn open(&self, _: &OpenRequest<'_>) -> Result<Opening, (Refusal, State)> {
        Ok(opening())
    }

    fn decode(&self, _: &mut State, message: Message<'_>, out: &mut Vec<Action>) {
        let Message::Text(text) = message else { return };
        let (word, name) = text.split_at(1);
        let (name, proof) = name.split_once(' ').map_or((name, None), |(name, proof)| (name, Some(proof)));
        let (auth, data) = proof.and_then(|proof| proof.split_once(' ')).unzip();
        if word == "@" {
            let command = Command::SignIn { auth: auth.map(Into::into), user_data: data.unwrap_or_default().into() };
            return out.push(Action::Command(command, None));
        }
        let data = data.filter(|data| !data.is_empty());
        let show = (word == "?").then(Headers::default);
        let proof = Proof { auth: auth.map(Into::into), channel_data: data.map(Into::into), show };
        let channel = ChannelName::new(name).unwrap();
        let command = match word {
            "+" | "?" => Command::Subscribe { channel, proof, resume: None },
            // As one who wants to come back.
            "&" => Command::Subscribe { channel, proof, resume: Some(Resume::default()) },
            "-" => Command::Unsubscribe { channel },
            _ => Command::Whisper { channel, event: auth.unwrap_or("client-hush").into(), data: RawJson::null() },
        };
        out.push(Action::Command(command, None));
    }

    fn notice(&self, _: &State, notice: &Notice<'_>, out: &mut Vec<u8>) {
        let text = match notice {
            Notice::Subscribed { channel, position: Some(position), recovered, .. } => {
                format!("+{channel}@{}{}", position.offset, recovered.map_or("", |yes| if yes { "!" } else { "?" }))
            }
            Notice::Position { position, .. } => format!("@{}", position.offset),
            Notice::Subscribed { channel, roster, .. } => {
                let members = roster.map(|roster| roster.0.keys().map(|id| format!(":{id}")).collect::<String>());
                format!("+{channel}{}", members.unwrap_or_default())
            }
            Notice::SubscribeRefused { channel, refusal, .. } => format!("!{channel} {}", refusal.status()),
            Notice::Refused { refusal, .. } => format!("!{}", refusal.code()),
            Notice::Gap => "gap".into(),
            Notice::CacheMiss { channel } => format!("miss:{channel}"),
            Notice::SignedIn { user_data, .. } => format!("@{user_data}"),
            Notice::Watched { online, offline } => format!("watched:{}:{}", online.join(","), offline.join(",")),
            Notice::Introduced { socket_id } => socket_id.to_string(),
            Notice::Welcome { .. } | Notice::Unsubscribed { .. } => return,
        };
        out.extend_from_slice(text.as_bytes());
    }

    fn encoding(&self, _: &State) -> Encoding {
        Encoding { dialect: 0, variant: 0, view: View::Channel, positions: false }
    }

    fn broadcast(&self, encoding: Encoding, channel: &str, broadcast: &Broadcast, out: &mut Vec<u8>) {
        let text = match (broadcast, encoding.view) {
            (Broadcast::Joined(member), View::Watch) => format!("online:{}", member.id),
            (Broadcast::Left(member), View::Watch) => format!("offline:{}", member.id),
            (_, View::Watch | View::Silent) | (Broadcast::Joined(_) | Broadcast::Left(_), View::User) => return,
            (Broadcast::Event(event), _) => {
                let position = event.position.as_ref().filter(|_| encoding.positions);
                format!("{}{}", event.name, position.map_or(String::new(), |position| format!("@{}", position.offset)))
            }
            (Broadcast::Joined(member), _) => format!("joined:{}", member.id),
            (Broadcast::Left(member), _) => format!("left:{}", member.id),
            (Broadcast::Gap, _) => format!("gap:{channel}"),
            (Broadcast::Count(n), _) => format!("count:{n}"),
            (Broadcast::Terminate, _) => "terminate".to_owned(),
        };
        out.extend_from_slice(text.as_bytes());
    }

    fn heartbeat(&self, _: &State, app: &App) -> Heartbeat {
        Heartbeat { ping_after: app.activity_timeout, dead_after: app.activity_timeout + 30, always: false }
    }

    fn goodbye(&self, _: &State, refusal: &Refusal) -> Goodbye {
        Goodbye { message: Vec::new(), code: refusal.code(), reason: "bye".into() }
    }
}

static WORDS: [&dyn Dialect; 1] = [&Words];

/// Remembers what it is told.
#[derive(Default)]
struct Notebook {
    lines: Mutex<Vec<String>>,
    asks: Mutex<Vec<Ask>>,
    /// By channel, as the backplane keeps them.
    counts: Mutex<HashMap<Arc<ChannelKey>, Arc<AtomicU32>>>,
    is_down: AtomicBool,
}

impl Notebook {
    fn note(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }
}

impl Backplane for Notebook {
    fn ask(&self, _: usize, ask: Ask) {
        self.note(format!("ask {}", ask.channel.name));
        self.asks.lock().unwrap().push(ask);
    }

    fn leave(&self, _: usize, channel: Arc<ChannelKey>) {
        self.note(format!("leave {}", channel.name));
    }

    fn exit(&self, _: usize, channel: Arc<ChannelKey>, user: UserId) {
        self.note(format!("exit {} {user}", channel.name));
    }

    fn publish(&self, channel: Arc<ChannelKey>, event: Event) -> BoxFuture<Result<(), PublishError>> {
        self.note(format!("publish {} {} {:?}", channel.name, event.name, event.user_id));
        Box::pin(std::future::ready(Ok(())))
    }

    fn status(&self) -> LinkStatus {
        match self.is_down.load(Relaxed) {
            true => LinkStatus::Down { since: Instant::now() },
            false => LinkStatus::Up,
        }
    }

    fn report(&self, channel: Arc<ChannelKey>, happening: Happening) {
        self.note(format!("report {} {}", channel.name, happening.kind().name()));
    }
}

/// An application that is asked and answers when the test says so.
#[derive(Default)]
struct Application {
    asked: Rc<RefCell<Vec<Asked>>>,
}

/// Channel, what the client wrote, and where the answer goes.
type Asked = (String, Headers, oneshot::Sender<Result<Proof, Refusal>>);

impl Authority for Application {
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = Result<Proof, Refusal>>>> {
        let (answer, told) = oneshot::channel();
        self.asked.borrow_mut().push((question.channel.to_string(), question.headers, answer));
        Box::pin(async move { told.await.unwrap() })
    }
}

fn opening() -> Opening {
    Opening::default()
}

struct Client {
    connection: Rc<Connection>,
    socket: std::net::TcpStream,
}

impl Client {
    /// The frames that have come so far, a word each.
    fn heard(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 65536];
        self.socket.set_nonblocking(true).unwrap();
        while let Ok(n) = self.socket.read(&mut buffer)
            && n > 0
        {
            bytes.extend_from_slice(&buffer[..n]);
        }
        let mut words = Vec::new();
        let mut rest = &bytes[..];
        while rest.len() >= 2 {
            let end = 2 + usize::from(rest[1]);
            words.push(match rest[0] {
                0x88 => format!("close {}", u16::from_be_bytes([rest[2], rest[3]])),
                _ => String::from_utf8(rest[2..end].to_vec()).unwrap(),
            });
            rest = &rest[end..];
        }
        words
    }
}

struct Story {
    shard: Shard,
    hub: Arc<Hub>,
    backplane: Arc<Notebook>,
    app: Arc<App>,
    listener: TcpListener,
    runtime: tokio::runtime::Runtime,
}

impl Story {
    fn new() -> Self {
        Self::with(OnGap::Notice, 1 << 20)
    }

    fn with(on_gap: OnGap, outbox_bytes: usize) -> Self {
        let settings = Settings {
            workers: 1,
            inbox_bytes: 1 << 20,
            batch_events: 256,
            batch_bytes: 256 << 10,
            outbox_bytes,
            outbox_total_bytes: 64 << 20,
            gap_spread: Duration::ZERO,
            node: 7,
        };
        let hub = Hub::new(settings, &WORDS);
        let backplane = Arc::new(Notebook::default());
        let app = Arc::new(App { on_gap, ..App::new("app", "key", "secret") });
        let shard = Shard::new(hub.clone(), backplane.clone(), 0);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { shard, hub, backplane, app, listener, runtime }
    }

    fn connect(&mut self) -> Client {
        let (sink, socket) = self.plain();
        Client { connection: self.shard.open(Way::Socket(sink), Vec::new(), self.app.clone(), 0, opening()), socket }
    }

    /// The node's and the client's end of a line.
    fn plain(&self) -> (Sink, std::net::TcpStream) {
        let socket = std::net::TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (stream, _) = self.listener.accept().unwrap();
        (Sink::Plain(self.registered(stream)), socket)
    }

    /// A client that has shaken hands, and whose socket gives ciphertext.
    fn connect_over_tls(&mut self) -> Client {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = certified.cert.der().clone();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let ours = rustls::ServerConfig::builder().with_no_client_auth();
        let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let ours = ours.with_single_cert(vec![certificate], key).unwrap();
        let theirs = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let address = self.listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let mut socket = std::net::TcpStream::connect(address).unwrap();
            let mut session = rustls::ClientConnection::new(Arc::new(theirs), "localhost".try_into().unwrap()).unwrap();
            session.complete_io(&mut socket).unwrap();
            socket
        });
        let (mut stream, _) = self.listener.accept().unwrap();
        let mut session = rustls::ServerConnection::new(Arc::new(ours)).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut stream).unwrap();
        }
        let sink = Sink::Tls(Box::new(Tls::new(self.registered(stream), session)));
        let connection = self.shard.open(Way::Socket(sink), Vec::new(), self.app.clone(), 0, opening());
        Client { connection, socket: client.join().unwrap() }
    }

    /// `try_write` asks the runtime first, which has to have seen the socket.
    fn registered(&self, stream: std::net::TcpStream) -> tokio::net::TcpStream {
        stream.set_nonblocking(true).unwrap();
        self.runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            stream.writable().await.unwrap();
            stream
        })
    }

    /// A client that has subscribed and was admitted.
    fn subscriber(&mut self, channel: &str) -> Client {
        let client = self.connect();
        self.say(&client, &format!("+{channel}"));
        self.admit_all(None);
        self.turn_all();
        client
    }

    fn say(&mut self, client: &Client, text: &str) {
        self.shard.receive(&client.connection, Message::Text(text));
    }

    /// Subscribes to a presence channel with a true signature.
    fn say_present(&mut self, client: &Client, channel: &str, user: &str) {
        let data = format!(r#"{{"user_id":"{user}"}}"#);
        let auth = auth::channel_auth(&self.app, client.connection.id, channel, Some(&data)).unwrap();
        self.say(client, &format!("+{channel} {auth} {data}"));
    }

    fn key(&self, channel: &str) -> Arc<ChannelKey> {
        Arc::new(ChannelKey { app: self.app.id.clone(), name: ChannelName::new(channel).unwrap() })
    }

    fn deliver(&self, channel: &str, broadcast: Broadcast) {
        self.hub.push(0, Item::Deliver(Arc::new(Delivery { channel: self.key(channel), broadcast })));
    }

    fn event(&self, channel: &str, name: &str, except: Option<SocketId>) {
        let mut event = Event::new(name, RawJson::null());
        event.except = except;
        self.deliver(channel, Broadcast::Event(event));
    }

    /// Answers all asks that are open.
    fn admit_all(&self, roster: Option<&[&str]>) {
        for ask in std::mem::take(&mut *self.backplane.asks.lock().unwrap()) {
            self.admit(ask, roster, Cached::Never);
        }
    }

    /// Answers the only ask that is open.
    fn admit_with(&self, roster: Option<&[&str]>, cached: Cached) {
        let [ask] = <[Ask; 1]>::try_from(std::mem::take(&mut *self.backplane.asks.lock().unwrap())).unwrap();
        self.admit(ask, roster, cached);
    }

    fn admit(&self, ask: Ask, roster: Option<&[&str]>, cached: Cached) {
        let roster = roster.map(|ids| Arc::new(Roster(ids.iter().map(|id| ((*id).into(), None)).collect())));
        let Ask { channel, subscription, .. } = ask;
        let count = self.count_of(&channel);
        self.hub.push(0, Item::Admit { channel, subscription, roster, cached, standing: None, logged: false, count });
    }

    /// Answers the only ask that is open, on a channel with a history.
    fn admit_logged(&self, standing: Option<Standing>) {
        let [ask] = <[Ask; 1]>::try_from(std::mem::take(&mut *self.backplane.asks.lock().unwrap())).unwrap();
        assert!(ask.log.is_some());
        let Ask { channel, subscription, .. } = ask;
        let (count, standing) = (self.count_of(&channel), standing.map(Box::new));
        let (roster, cached) = (None, Cached::Never);
        self.hub.push(0, Item::Admit { channel, subscription, roster, cached, standing, logged: true, count });
    }

    fn count_of(&self, channel: &Arc<ChannelKey>) -> Arc<AtomicU32> {
        self.backplane.counts.lock().unwrap().entry(channel.clone()).or_default().clone()
    }

    /// How many subscriptions the worker says it has.
    fn count(&self, channel: &str) -> u32 {
        self.count_of(&self.key(channel)).load(Relaxed)
    }

    /// Asks to sign in, with a true signature.
    fn say_user(&mut self, client: &Client, data: &str) {
        let auth = auth::user_auth(&self.app, client.connection.id, data).unwrap();
        self.say(client, &format!("@x {auth} {data}"));
    }

    /// A client that is signed in and watches nobody.
    fn signed_in(&mut self, user: &str) -> Client {
        let mut client = self.connect();
        self.say_user(&client, &format!(r#"{{"id":"{user}"}}"#));
        self.admit_with(Some(&[user]), Cached::Never);
        self.turn_all();
        assert_eq!(client.heard(), words(&[&format!(r#"@{{"id":"{user}"}}"#)]));
        client
    }

    fn joined(&self, channel: &str, user: &str) {
        self.deliver(channel, Broadcast::Joined(Member { id: user.into(), info: None }));
    }

    /// One turn, as the worker's loop does it.
    fn turn(&mut self) -> bool {
        self.hub.inboxes[0].take(&mut self.shard.backlog);
        self.shard.turn()
    }

    fn turn_all(&mut self) {
        while self.turn() {}
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.backplane.lines.lock().unwrap())
    }
}

/// What a client is expected to hear.
fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| word.to_string()).collect()
}

#[test]
fn an_excluded_socket_inside_a_joined_run_hears_the_rest() {
    let mut story = Story::new();
    let (mut a, mut b) = (story.subscriber("news"), story.subscriber("news"));
    a.heard();
    b.heard();
    story.event("news", "one", None);
    story.event("news", "two", Some(a.connection.id));
    story.event("news", "three", None);
    story.event("news", "four", Some(b.connection.id));
    story.turn_all();
    assert_eq!(a.heard(), words(&["one", "three", "four"]));
    assert_eq!(b.heard(), words(&["one", "two", "three"]));
    assert_eq!(a.connection.stats.delivered.get(), 6);
}

#[test]
fn an_excluded_id_of_another_node_excludes_nobody_here() {
    let mut story = Story::new();
    let mut a = story.subscriber("news");
    a.heard();
    let elsewhere = SocketId::new(8, a.connection.id.sequence()).unwrap();
    story.event("news", "one", Some(elsewhere));
    story.turn_all();
    assert_eq!(a.heard(), words(&["one"]));
}

#[test]
fn a_socket_admitted_in_mid_batch_hears_its_success_and_what_follows() {
    let mut story = Story::new();
    let mut a = story.subscriber("news");
    a.heard();
    // Without a link no worker admits by itself: the backplane answers, in the stream.
    story.backplane.is_down.store(true, Relaxed);
    let mut b = story.connect();
    story.say(&b, "+news");
    story.event("news", "one", None);
    story.admit_all(None);
    story.event("news", "two", None);
    story.turn_all();
    assert_eq!(a.heard(), words(&["one", "two"]));
    assert_eq!(b.heard(), words(&["+news", "two"]));
}

#[test]
fn a_pending_socket_hears_nothing_and_a_late_admit_of_a_gone_one_gives_the_channel_back() {
    let mut story = Story::new();
    let mut a = story.connect();
    story.say(&a, "+news");
    story.event("news", "early", None);
    story.turn_all();
    story.say(&a, "-news");
    story.admit_all(None);
    story.turn_all();
    assert_eq!(a.heard(), words(&[]));
    assert_eq!(story.told(), words(&["ask news", "leave news"]));
    assert!(story.shard.names.is_empty());
}

#[test]
fn a_second_subscriber_is_admitted_here_and_the_last_one_leaves() {
    let mut story = Story::new();
    let mut a = story.subscriber("news");
    let mut b = story.connect();
    story.say(&b, "+news");
    story.say(&b, "+news");
    story.event("news", "one", None);
    story.turn_all();
    assert_eq!(a.heard(), words(&["+news", "one"]));
    assert_eq!(b.heard(), words(&["+news", "+news", "one"]));
    story.say(&a, "-news");
    story.shard.end(&b.connection, "client");
    assert_eq!(story.told(), words(&["ask news", "leave news"]));
    assert_eq!(a.connection.stats.subscriptions.get(), 0);
}

#[test]
fn members_come_with_the_admission_and_go_with_one_exit_each() {
    let mut story = Story::new();
    let (mut a, mut b) = (story.connect(), story.connect());
    story.say_present(&a, "presence-room", "ann");
    story.say_present(&b, "presence-room", "bob");
    story.deliver("presence-room", Broadcast::Joined(Member { id: "ann".into(), info: None }));
    story.admit_all(Some(&["ann", "bob"]));
    story.deliver("presence-room", Broadcast::Joined(Member { id: "cy".into(), info: None }));
    story.turn_all();
    story.say_present(&a, "presence-room", "someone else");
    assert_eq!(a.heard(), words(&["+presence-room:ann:bob", "joined:cy", "+presence-room:ann:bob:cy"]));
    assert_eq!(b.heard(), words(&["+presence-room:ann:bob", "joined:cy"]));
    story.say(&a, "~presence-room");
    story.say(&a, "-presence-room");
    let mut c = story.connect();
    story.say_present(&c, "presence-room", "dan");
    story.shard.end(&c.connection, "client");
    story.admit_all(Some(&["bob", "dan"]));
    story.turn_all();
    story.shard.end(&b.connection, "client");
    assert_eq!(c.heard(), words(&[]));
    let ask = "ask presence-room";
    let whisper = r#"publish presence-room client-hush Some("ann")"#;
    let expected = [ask, ask, whisper, "exit presence-room ann", ask, "exit presence-room dan"];
    let last = ["exit presence-room bob", "leave presence-room"];
    assert_eq!(story.told(), words(&[&expected[..], &last[..]].concat()));
}

#[test]
fn a_signature_of_another_socket_is_refused() {
    let mut story = Story::new();
    let (mut a, b) = (story.connect(), story.connect());
    let auth = auth::channel_auth(&story.app, b.connection.id, "private-x", None).unwrap();
    story.say(&a, &format!("+private-x {auth} "));
    story.say(&a, "+private-x");
    story.say(&a, "~private-x");
    assert_eq!(a.heard(), words(&["!private-x 401", "!private-x 401", "!4301"]));
    assert_eq!(story.told(), words(&[]));
}

#[test]
fn a_huge_channel_does_not_hold_up_a_small_one() {
    let mut story = Story::new();
    let crowd: Vec<Client> = (0..1_200).map(|_| story.subscriber("crowd")).collect();
    let mut small = story.subscriber("small");
    small.heard();
    story.event("crowd", "big", None);
    story.event("small", "one", None);
    assert!(story.turn(), "1,200 writes are more than one turn");
    story.turn();
    assert_eq!(small.heard(), words(&["one"]));
    let told = crowd[0].connection.stats.delivered.get();
    assert!(told < 1_201, "the crowd was told whole before the small channel: {told}");
    story.turn_all();
    assert_eq!(crowd[0].connection.stats.delivered.get(), 1_201);
}

#[test]
fn who_comes_or_goes_under_a_cursor_hears_nothing_of_its_batch() {
    let mut story = Story::new();
    let mut crowd: Vec<Client> = (0..1_200).map(|_| story.subscriber("crowd")).collect();
    story.event("crowd", "big", None);
    assert!(story.turn());
    // Slots are filled from the front: the first have heard it, the last have not.
    story.say(&crowd[0], "-crowd");
    story.say(&crowd[1_199], "-crowd");
    let mut late = story.connect();
    story.say(&late, "+crowd");
    story.event("crowd", "next", None);
    story.turn_all();
    assert_eq!(crowd[0].heard(), words(&["+crowd", "big"]));
    assert_eq!(crowd[1_199].heard(), words(&["+crowd"]));
    assert_eq!(crowd[1].heard(), words(&["+crowd", "big", "next"]));
    assert_eq!(late.heard(), words(&["+crowd", "next"]));
}

#[test]
fn a_client_that_does_not_read_is_closed_and_the_others_hear_on() {
    let mut story = Story::with(OnGap::Notice, 64 << 10);
    let deaf = story.subscriber("news");
    let mut other = story.subscriber("news");
    let long = "x".repeat(100);
    let limit = Instant::now() + Duration::from_secs(20);
    let mut sent = 0;
    while deaf.connection.closing().is_none() {
        assert!(Instant::now() < limit, "not closed after {sent} events");
        for _ in 0..200 {
            story.event("news", &long, None);
        }
        sent += 200;
        story.turn_all();
        assert_eq!(other.heard().iter().filter(|word| **word == long).count(), 200);
    }
    assert_eq!(deaf.connection.closing(), Some("slow_consumer"));
    assert_eq!(other.connection.closing(), None);
    assert_eq!(other.connection.stats.subscriptions.get(), 1);
}

#[test]
fn a_link_gap_is_told_after_what_came_before_it() {
    let mut story = Story::new();
    let mut a = story.subscriber("news");
    let mut idle = story.connect();
    a.heard();
    story.event("news", "one", None);
    story.hub.push(0, Item::LinkGap);
    story.event("news", "two", None);
    story.turn_all();
    assert_eq!(a.heard(), words(&["one", "gap", "two"]));
    assert_eq!(idle.heard(), words(&[]), "it had nothing to miss");
    story.deliver("news", Broadcast::Gap);
    story.turn_all();
    assert_eq!(a.heard(), words(&["gap:news"]));
}

fn numbered(offset: u64) -> Event {
    let position = Some(Position { epoch: "e".into(), offset });
    Event { position, ..Event::new("event", RawJson::null()) }
}

#[test]
fn who_comes_back_is_told_what_it_missed_between_its_success_and_the_rest() {
    let mut story = Story::new();
    let history = HistoryDepth { size: 9, ttl: Duration::from_secs(9) };
    let rules = [HistoryRule { pattern: "log".into(), depth: history }];
    story.app = Arc::new(App { history: rules.into(), ..App::clone(&story.app) });
    let (mut plain, mut back) = (story.connect(), story.connect());
    story.say(&plain, "+log");
    story.admit_logged(None);
    story.turn_all();
    story.say(&back, "&log");
    let at = |offset| Position { epoch: "e".into(), offset };
    let missed = [6, 7].map(|offset| Arc::new(numbered(offset))).to_vec();
    let standing = Standing { position: at(5), recovered: Some(true), missed, end: at(8), weight: 0 };
    story.deliver("log", Broadcast::Event(numbered(8)));
    story.admit_logged(Some(standing));
    story.deliver("log", Broadcast::Event(numbered(9)));
    story.turn_all();
    assert_eq!(back.heard(), words(&["+log@5!", "event@6", "event@7", "@8", "event@9"]));
    assert_eq!(plain.heard(), words(&["+log", "event", "event"]), "who did not ask is told nothing of it");
    story.hub.push(0, Item::LinkGap);
    story.turn_all();
    assert_eq!((plain.heard(), back.heard()), (words(&[]), words(&[])), "the channel tells of its own gaps");
    story.deliver("log", Broadcast::Gap);
    story.turn_all();
    assert_eq!((plain.heard(), back.heard()), (words(&["gap:log"]), words(&["gap:log"])));
}

#[test]
fn what_does_not_fit_is_not_recovered() {
    let mut story = Story::with(OnGap::Notice, 60);
    let mut back = story.connect();
    story.say(&back, "&cache-log");
    let at = |offset| Position { epoch: "e".into(), offset };
    let missed = (1..9).map(|offset| Arc::new(numbered(offset))).collect();
    story.admit_logged(Some(Standing { position: at(0), recovered: Some(true), missed, end: at(8), weight: 0 }));
    story.turn_all();
    assert_eq!(back.heard(), words(&["+cache-log@8?"]));
}

#[test]
fn an_app_may_want_its_clients_back_after_a_gap() {
    let mut story = Story::with(OnGap::Close, 1 << 20);
    let mut a = story.subscriber("news");
    a.heard();
    story.hub.push(0, Item::LinkGap);
    story.turn_all();
    let returning = std::mem::take(&mut story.shard.returning);
    assert_eq!(returning.len(), 1);
    story.shard.close(&returning[0], &model::Reason::Gap.into());
    assert_eq!(a.heard(), words(&["close 4200"]));
}

#[test]
fn a_refused_channel_is_told_and_forgotten() {
    let mut story = Story::new();
    let mut a = story.connect();
    story.say(&a, "+news");
    let ask = story.backplane.asks.lock().unwrap().pop().unwrap();
    let refusal = model::Reason::Unavailable.into();
    story.hub.push(0, Item::Refuse { channel: ask.channel, subscription: ask.subscription, refusal });
    story.turn_all();
    assert_eq!(a.heard(), words(&["!news 503"]));
    assert!(story.shard.names.is_empty() && a.connection.subscriptions.borrow().is_empty());
}

#[test]
fn a_hog_is_closed_for_the_node_and_the_others_are_not() {
    let mut story = Story::with(OnGap::Notice, 8 << 20);
    story.shard.hub = Hub::new(Settings { outbox_total_bytes: 6 << 20, ..story.shard.hub.settings.clone() }, &WORDS);
    let hog = story.connect();
    let others: Vec<Client> = (0..3).map(|_| story.connect()).collect();
    let chunk = vec![0x81; 64 << 10];
    // However much of it the kernel takes.
    while hog.connection.outbox_bytes() < 7 << 20 {
        hog.connection.send_own(&chunk);
    }
    for other in &others {
        // Nobody reads, so this waits, and is little beside the hog's.
        (0..8).for_each(|_| other.connection.send_own(&chunk));
    }
    for _ in 0..3 {
        story.shard.settle();
    }
    assert_eq!(hog.connection.closing(), Some("slow_consumer"));
    assert!(others.iter().all(|other| other.connection.closing().is_none()));
}

#[test]
fn while_a_crowd_is_closed_others_have_their_turns() {
    let story = Story::new();
    let worker = Worker::new(story.hub.clone(), story.backplane.clone(), Box::<Application>::default(), 0);
    let crowd: Vec<_> = (0..1_200).map(|_| story.plain()).collect();
    let open = |(sink, socket)| (worker.open(sink, Vec::new(), story.app.clone(), 0, opening()), socket);
    let crowd: Vec<_> = crowd.into_iter().map(open).collect();
    let turns = Rc::new(Cell::new(0));
    let counter = turns.clone();
    tokio::task::LocalSet::new().block_on(&story.runtime, async {
        tokio::task::spawn_local(async move {
            loop {
                counter.set(counter.get() + 1);
                tokio::task::yield_now().await;
            }
        });
        worker.set_apps(&Apps::new([])).await;
    });
    assert!(crowd.iter().all(|(connection, _)| connection.closing() == Some("unknown_app")));
    assert!(turns.get() > 2, "{} turns while 1,200 were closed", turns.get());
}

#[test]
fn what_is_encrypted_and_waits_counts_too() {
    let mut story = Story::with(OnGap::Notice, 8 << 20);
    let late = story.connect_over_tls();
    let chunk = vec![b'x'; 32 << 10];
    // Until the socket is full: the rest of the last chunk is encrypted, and the outbox empty.
    let fill = |client: &Client| {
        let waits = (0..2_000).any(|_| {
            client.connection.send_own(&chunk);
            client.connection.waiting() > 0
        });
        assert!(waits, "64 MB fitted");
        assert_eq!(client.connection.outbox_bytes(), 0);
    };
    fill(&late);
    let waiting = late.connection.waiting();
    assert!(waiting <= chunk.len() && story.shard.shared.staying() == waiting, "{waiting}");
    let mut socket = late.socket.try_clone().unwrap();
    let reading = std::thread::spawn(move || while socket.read(&mut [0; 64 << 10]).is_ok_and(|n| n > 0) {});
    assert!(story.runtime.block_on(std::future::poll_fn(|cx| late.connection.poll_flush(cx))));
    assert_eq!((late.connection.waiting(), story.shard.shared.staying()), (0, 0));
    late.socket.shutdown(std::net::Shutdown::Both).unwrap();
    reading.join().unwrap();

    let deaf = story.connect_over_tls();
    fill(&deaf);
    story.shard.hub = Hub::new(Settings { outbox_total_bytes: 1, ..story.shard.hub.settings.clone() }, &WORDS);
    story.shard.settle();
    assert_eq!(deaf.connection.closing(), Some("slow_consumer"));
    story.shard.end(&deaf.connection, "slow_consumer");
    assert_eq!((story.shard.shared.queued.get(), story.shard.shared.leaving.get()), (0, 0));
}

#[test]
fn after_what_did_not_fit_nothing_smaller_slips_through() {
    let mut story = Story::with(OnGap::Notice, 256 << 10);
    let deaf = story.connect();
    let big = [bytes::Bytes::from(vec![b'x'; 200 << 10])];
    let sent = (0..200).map(|_| deaf.connection.send(&big)).find(|sent| sent.is_err());
    assert!(sent.is_some(), "40 MB fitted");
    let small = [bytes::Bytes::from_static(b"small")];
    assert!(matches!(deaf.connection.send(&small), Ok(false)));
}

#[test]
fn who_subscribes_and_leaves_while_nothing_answers_reaches_a_limit() {
    let mut story = Story::new();
    let mut a = story.connect();
    let max = story.app.limits.channels_per_connection;
    for n in 0..max + 5 {
        story.say(&a, &format!("+c{n}"));
        story.say(&a, &format!("-c{n}"));
    }
    assert_eq!(story.told().iter().filter(|line| line.starts_with("ask")).count(), max);
    assert_eq!(a.heard().len(), 5, "each of the rest is refused");
    story.admit_all(None);
    story.turn_all();
    story.say(&a, "+again");
    assert_eq!(story.told().last().map(String::as_str), Some("ask again"));
}

#[test]
fn a_leave_is_not_held_back_by_a_drain_and_an_exit_is() {
    let mut story = Story::new();
    let a = story.connect();
    story.say_present(&a, "presence-room", "ann");
    story.admit_all(Some(&["ann"]));
    story.turn_all();
    story.told();
    story.shard.linger = Some(Duration::from_secs(3));
    story.say(&a, "-presence-room");
    assert_eq!(story.told(), words(&["leave presence-room"]));
    assert!(!story.shard.flush_exits(Instant::now()));
    assert!(story.shard.flush_exits(Instant::now() + Duration::from_secs(4)));
    assert_eq!(story.told(), words(&["exit presence-room ann"]));
}

#[test]
fn after_a_gap_a_newcomer_asks_although_others_are_admitted() {
    let mut story = Story::new();
    let _a = story.subscriber("news");
    story.deliver("news", Broadcast::Gap);
    story.turn_all();
    story.told();
    let b = story.connect();
    story.say(&b, "+news");
    assert_eq!(story.told(), words(&["ask news"]));
    story.admit_all(None);
    story.turn_all();
    let c = story.connect();
    story.say(&c, "+news");
    assert_eq!(story.told(), words(&[]));
}

#[test]
fn a_connection_that_ended_is_closed_for_whoever_still_holds_it() {
    let mut story = Story::new();
    let mut a = story.subscriber("news");
    a.heard();
    story.shard.end(&a.connection, "client");
    story.shard.close(&a.connection, &model::Reason::Draining.into());
    a.connection.send_own(b"\x89\x00");
    assert_eq!(a.heard(), words(&[]));
    assert_eq!(a.connection.closing(), Some("client"));
}

#[test]
fn each_subscription_counts_from_its_admission_to_its_end() {
    let mut story = Story::new();
    let (a, b, c) = (story.connect(), story.connect(), story.connect());
    story.say(&a, "+news");
    assert_eq!(story.count("news"), 0, "pending");
    story.admit_all(None);
    story.turn_all();
    story.say(&b, "+news");
    story.say(&b, "+news");
    assert_eq!(story.count("news"), 2, "the second is admitted here, and once");
    story.backplane.is_down.store(true, Relaxed);
    story.say(&c, "+news");
    story.say(&c, "-news");
    story.admit_all(None);
    story.turn_all();
    assert_eq!(story.count("news"), 2, "gone before it was let in");
    story.say(&c, "+news");
    let ask = story.backplane.asks.lock().unwrap().pop().unwrap();
    let refusal = Reason::Unavailable.into();
    story.hub.push(0, Item::Refuse { channel: ask.channel, subscription: ask.subscription, refusal });
    story.turn_all();
    assert_eq!(story.count("news"), 2, "refused");
    story.say(&a, "-news");
    story.say(&a, "-news");
    assert_eq!(story.count("news"), 1);
    story.shard.close(&b.connection, &Reason::Draining.into());
    story.shard.end(&b.connection, "client");
    assert_eq!(story.count("news"), 0);
    assert_eq!(story.told().last().map(String::as_str), Some("leave news"));
}

#[test]
fn who_leaves_under_a_cursor_is_counted_off_once() {
    let mut story = Story::new();
    let crowd: Vec<Client> = (0..1_200).map(|_| story.subscriber("crowd")).collect();
    assert_eq!(story.count("crowd"), 1_200);
    story.event("crowd", "big", None);
    assert!(story.turn());
    story.say(&crowd[0], "-crowd");
    story.shard.end(&crowd[1_199].connection, "client");
    story.turn_all();
    assert_eq!(story.count("crowd"), 1_198);
}

#[test]
fn a_count_that_is_kept_elsewhere_from_now_on_takes_all_along() {
    let mut story = Story::new();
    let _a = story.subscriber("cache-news");
    let old = story.count_of(&story.key("cache-news"));
    story.backplane.counts.lock().unwrap().clear();
    let b = story.subscriber("cache-news");
    assert_eq!((old.load(Relaxed), story.count("cache-news")), (0, 2));
    story.say(&b, "-cache-news");
    assert_eq!((old.load(Relaxed), story.count("cache-news")), (0, 1));
}

#[test]
fn a_newcomer_to_a_cache_channel_is_given_what_it_holds_and_a_second_subscribe_nothing() {
    let mut story = Story::new();
    let (mut a, mut b) = (story.connect(), story.connect());
    story.say(&a, "+cache-price");
    story.admit_with(None, Cached::Miss);
    story.event("cache-price", "up", None);
    story.turn_all();
    story.say(&b, "+cache-price");
    assert_eq!(story.told(), words(&["ask cache-price", "ask cache-price"]), "no worker knows what is kept");
    story.admit_with(None, Cached::Hit(Arc::new(Event::new("up", RawJson::null()))));
    story.event("cache-price", "down", None);
    story.turn_all();
    story.say(&b, "+cache-price");
    assert_eq!(a.heard(), words(&["+cache-price", "miss:cache-price", "up", "down"]));
    assert_eq!(b.heard(), words(&["+cache-price", "up", "down", "+cache-price"]));
}

#[test]
fn whispers_have_limits_and_each_second_begins_anew() {
    let mut story = Story::new();
    let webhook = Webhook {
        name: "hook".into(),
        url: "".into(),
        kinds: WebhookKinds::NONE.with(WebhookKind::ClientEvent),
        channel_prefix: None,
        channel_suffix: None,
        headers: Vec::new(),
    };
    let mut app = App { webhooks: vec![webhook], ..App::new("app", "key", "secret") };
    app.limits.client_events_per_second = 2;
    app.limits.event_name_bytes = 13;
    app.limits.channel_name_bytes = 14;
    story.app = Arc::new(app);
    let mut a = story.connect();
    story.say_present(&a, "presence-room", "ann");
    story.admit_all(Some(&["ann"]));
    story.turn_all();
    a.heard();
    story.told();
    story.say(&a, "~presence-room client-too-long ");
    for _ in 0..3 {
        story.say(&a, "~presence-room");
    }
    assert_eq!(a.heard(), words(&["!4301", "!4301"]), "the long name, and the third");
    story.shard.tick(1);
    story.say(&a, "~presence-room client-twelve ");
    let (hush, twelve) =
        (r#"publish presence-room client-hush Some("ann")"#, r#"publish presence-room client-twelve Some("ann")"#);
    assert_eq!(story.told(), words(&[hush, hush, twelve]));
    let mut whispers = std::mem::take(&mut story.shard.whispers).into_iter();
    story.shard.note_whispered(whispers.next().unwrap(), Ok(()));
    story.shard.note_whispered(whispers.next().unwrap(), Err(PublishError::TimedOut));
    assert_eq!(story.told(), words(&["report presence-room client_event"]), "only what was passed on");
    assert_eq!(a.heard(), words(&["!0"]));
    story.say(&a, "+longer-than-that");
    assert_eq!(a.heard(), words(&["!longer-than-that 400"]));
    assert_eq!(a.connection.stats.whispers_refused.get(), 2);
    assert_eq!(a.connection.closing(), None);
}

#[test]
fn who_signs_in_is_told_once_his_channel_has_him_and_hears_it_when_he_asks() {
    let mut story = Story::new();
    let own = "#server-to-user-ann";
    let mut a = story.connect();
    story.say(&a, &format!("+{own}"));
    assert_eq!(a.heard(), words(&["!#server-to-user-ann 401"]), "not signed in");
    story.say_user(&a, r#"{"id":"ann"}"#);
    story.say(&a, &format!("+{own}"));
    story.say_user(&a, r#"{"id":"ann"}"#);
    assert_eq!(a.heard(), words(&["!#server-to-user-ann 401"]), "not yet, and one answer is on its way");
    story.admit_with(Some(&["ann"]), Cached::Never);
    story.event(own, "unheard", None);
    story.turn_all();
    story.say(&a, &format!("+{own}"));
    story.say(&a, &format!("+{own}"));
    story.joined(own, "ann");
    story.event(own, "one", None);
    story.turn_all();
    let success = "+#server-to-user-ann";
    assert_eq!(a.heard(), words(&[r#"@{"id":"ann"}"#, success, success, "one"]));
    story.event(own, "two", None);
    story.say(&a, &format!("-{own}"));
    story.turn_all();
    story.say(&a, "+#server-to-user-bob");
    story.say_user(&a, r#"{"id":"ann","more":1}"#);
    story.say_user(&a, r#"{"id":"bob"}"#);
    story.say(&a, r#"@x key:00 {"id":"ann"}"#);
    assert_eq!(
        a.heard(),
        words(&["!#server-to-user-bob 401", r#"@{"id":"ann","more":1}"#, "!4009", "!4009"]),
        "unheard again, and nobody else's"
    );
    assert_eq!((story.count(own), a.connection.closing()), (1, None));
    story.shard.end(&a.connection, "client");
    let expected = ["ask #server-to-user-ann", "exit #server-to-user-ann ann", "leave #server-to-user-ann"];
    assert_eq!(story.told(), words(&expected));
    assert_eq!((story.count(own), a.connection.stats.subscriptions.get()), (0, 0));
    assert!(story.shard.names.is_empty());
}

#[test]
fn an_own_channel_left_before_its_success_was_said_stays_unheard() {
    let mut story = Story::new();
    let own = "#server-to-user-ann";
    let mut crowd: Vec<Client> = (0..600).map(|_| story.signed_in("ann")).collect();
    story.event(own, "big", None);
    assert!(story.turn(), "600 are more than one turn");
    story.say(&crowd[0], &format!("+{own}"));
    story.say(&crowd[0], &format!("-{own}"));
    story.say(&crowd[1], &format!("+{own}"));
    story.event(own, "next", None);
    story.turn_all();
    assert_eq!(crowd[0].heard(), words(&[]));
    assert_eq!(crowd[1].heard(), words(&["+#server-to-user-ann", "next"]));
    assert_eq!(story.count(own), 600);
}

#[test]
fn a_sign_in_that_dies_or_is_refused_leaves_no_ghost() {
    let mut story = Story::new();
    let mut a = story.connect();
    story.say_user(&a, r#"{"id":"ann","watchlist":["bob"]}"#);
    story.shard.end(&a.connection, "client");
    story.admit_all(Some(&["ann"]));
    story.turn_all();
    let (ask, exit, leave) = ("ask #server-to-user-ann", "exit #server-to-user-ann ann", "leave #server-to-user-ann");
    assert_eq!(story.told(), words(&[ask, exit, leave]));
    assert_eq!(a.heard(), words(&[]));
    let mut b = story.connect();
    story.say_user(&b, r#"{"id":"ann"}"#);
    let ask_of_b = story.backplane.asks.lock().unwrap().pop().unwrap();
    let Ask { channel, subscription, member, roster, .. } = ask_of_b;
    assert!(roster && member.is_some());
    story.hub.push(0, Item::Refuse { channel, subscription, refusal: Reason::Unavailable.into() });
    story.turn_all();
    story.say(&b, "+#server-to-user-ann");
    assert_eq!(b.heard(), words(&["!0", "!#server-to-user-ann 401"]));
    assert_eq!(story.told(), words(&[ask]));
    assert!(story.shard.names.is_empty());
    story.say_user(&b, r#"{"id":"ann"}"#);
    story.admit_all(Some(&["ann"]));
    story.turn_all();
    assert_eq!(b.heard(), words(&[r#"@{"id":"ann"}"#]), "he may try again");
}

#[test]
fn who_watches_is_told_all_at_once_and_then_each_change() {
    let mut story = Story::new();
    let mut a = story.connect();
    story.say_user(&a, r#"{"id":"ann","watchlist":["bob","cy","ann","dan"]}"#);
    story.admit_with(Some(&["ann"]), Cached::Never);
    story.turn_all();
    assert_eq!(a.heard().len(), 1);
    let mut asks = std::mem::take(&mut *story.backplane.asks.lock().unwrap());
    assert!(asks.iter().all(|ask| ask.roster && ask.member.is_none()));
    let Ask { channel, subscription, .. } = asks.pop().unwrap();
    assert_eq!(channel.name.as_str(), "#server-to-user-dan");
    story.admit(asks.remove(0), Some(&[]), Cached::Never);
    story.joined("#server-to-user-bob", "bob");
    story.turn_all();
    story.admit(asks.remove(0), Some(&[]), Cached::Never);
    story.turn_all();
    assert_eq!(a.heard(), words(&[]), "one is not answered");
    story.hub.push(0, Item::Refuse { channel, subscription, refusal: Reason::Unavailable.into() });
    story.turn_all();
    assert_eq!(a.heard(), words(&["watched:bob:cy"]), "what happened meanwhile is in it");
    story.joined("#server-to-user-cy", "cy");
    story.event("#server-to-user-cy", "for cy alone", None);
    story.deliver("#server-to-user-cy", Broadcast::Count(1));
    story.deliver("#server-to-user-bob", Broadcast::Left(Member { id: "bob".into(), info: None }));
    story.deliver("#server-to-user-cy", Broadcast::Gap);
    story.deliver("#server-to-user-cy", Broadcast::Terminate);
    story.say(&a, "-#server-to-user-cy");
    story.say(&a, "+#server-to-user-cy");
    story.turn_all();
    assert_eq!(a.heard(), words(&["!#server-to-user-cy 401", "online:cy", "offline:bob"]));
    assert_eq!((story.count("#server-to-user-cy"), a.connection.closing()), (0, None), "who watches is not there");
    story.told();
    story.shard.end(&a.connection, "client");
    let ann = ["exit #server-to-user-ann ann", "leave #server-to-user-ann"];
    let watched = ["leave #server-to-user-bob", "leave #server-to-user-cy"];
    assert_eq!(story.told(), words(&[ann, watched].concat()));
    assert_eq!(a.connection.stats.subscriptions.get(), 0);
    assert!(story.shard.names.is_empty());
}

#[test]
fn a_change_that_is_in_the_first_report_is_not_told_again() {
    let mut story = Story::new();
    let bob = "#server-to-user-bob";
    let mut crowd: Vec<Client> = (0..1_200).map(|_| story.signed_in("bob")).collect();
    let mut a = story.connect();
    story.say_user(&a, r#"{"id":"ann","watchlist":["bob","cy"]}"#);
    story.admit_with(Some(&["ann"]), Cached::Never);
    story.turn_all();
    let mut asks = std::mem::take(&mut *story.backplane.asks.lock().unwrap());
    story.admit(asks.remove(0), Some(&["bob"]), Cached::Never);
    story.turn_all();
    a.heard();
    let sent = a.connection.stats.sent_bytes.get();
    // The batch with bob's leave is under way when the last answer comes.
    story.deliver(bob, Broadcast::Left(Member { id: "bob".into(), info: None }));
    assert!(story.turn());
    story.admit(asks.remove(0), Some(&[]), Cached::Never);
    while a.connection.stats.sent_bytes.get() == sent {
        let number = story.shard.names[&story.key(bob)];
        assert!(story.shard.channels.get(number).unwrap().cursor.is_some());
        story.turn();
    }
    story.joined(bob, "bob");
    story.turn_all();
    assert_eq!(a.heard(), words(&["watched::bob,cy", "online:bob"]));
    assert_eq!(crowd[0].heard(), words(&[]));
}

#[test]
fn a_long_watchlist_is_cut_and_said_so_and_a_close_ends_the_asks() {
    let mut story = Story::new();
    let mut app = App::new("app", "key", "secret");
    app.limits.watchlist = 1;
    app.limits.channels_per_connection = 1;
    story.app = Arc::new(app);
    let mut a = story.connect();
    story.say_user(&a, r#"{"id":"ann","watchlist":["bob","cy"]}"#);
    story.admit_with(Some(&["ann"]), Cached::Never);
    story.turn_all();
    assert_eq!(a.heard(), words(&[r#"@{"id":"ann","watchlist":["bob","cy"]}"#, "!4302"]));
    story.say(&a, "+news");
    story.say(&a, "+more");
    assert_eq!(a.heard(), words(&["!more 403"]), "what is watched counts for nothing");
    story.shard.end(&a.connection, "client");
    story.told();
    story.admit_all(Some(&[]));
    story.turn_all();
    assert_eq!(story.told(), words(&["leave #server-to-user-bob", "leave news"]));
}

#[test]
fn a_terminated_user_is_closed_on_each_connection_and_nobody_else() {
    let mut story = Story::new();
    let own = "#server-to-user-ann";
    let (mut heard, mut silent) = (story.signed_in("ann"), story.signed_in("ann"));
    story.say(&heard, &format!("+{own}"));
    let mut watcher = story.connect();
    story.say_user(&watcher, r#"{"id":"bob","watchlist":["ann"]}"#);
    story.admit_with(Some(&["bob"]), Cached::Never);
    story.turn_all();
    story.admit_with(Some(&["ann"]), Cached::Never);
    let mut present = story.connect();
    story.say_present(&present, "presence-room", "ann");
    story.admit_with(Some(&["ann"]), Cached::Never);
    story.turn_all();
    for client in [&mut watcher, &mut present, &mut heard] {
        client.heard();
    }
    story.event(own, "before", None);
    story.deliver(own, Broadcast::Terminate);
    story.event(own, "after", None);
    story.turn_all();
    assert_eq!(heard.heard(), words(&["before", "close 4009"]));
    assert_eq!(silent.heard(), words(&["close 4009"]));
    story.deliver(own, Broadcast::Left(Member { id: "ann".into(), info: None }));
    story.turn_all();
    assert_eq!(watcher.heard(), words(&["offline:ann"]));
    assert_eq!(present.heard(), words(&[]));
    assert_eq!(heard.connection.closing(), Some("terminated"));
}

#[test]
fn who_is_signed_in_needs_no_data_to_be_present() {
    let mut story = Story::new();
    let mut a = story.connect();
    let auth = auth::channel_auth(&story.app, a.connection.id, "presence-room", None).unwrap();
    let subscribe = format!("+presence-room {auth} ");
    story.say(&a, &subscribe);
    assert_eq!(a.heard(), words(&["!presence-room 400"]));
    story.say_user(&a, r#"{"id":"ann","user_info":{"n":1}}"#);
    story.admit_with(Some(&["ann"]), Cached::Never);
    story.turn_all();
    story.say(&a, "+presence-room key:00 ");
    story.say(&a, &subscribe);
    let ask = story.backplane.asks.lock().unwrap().pop().unwrap();
    let member = ask.member.clone().unwrap().member;
    assert_eq!((&*member.id, member.info.as_ref().map(RawJson::as_str)), ("ann", Some(r#"{"n":1}"#)));
    story.admit(ask, Some(&["ann"]), Cached::Never);
    story.turn_all();
    let expected = [r#"@{"id":"ann","user_info":{"n":1}}"#, "!presence-room 401", "+presence-room:ann"];
    assert_eq!(a.heard(), words(&expected));
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }
}

#[test]
fn whatever_happens_in_whatever_order_all_is_given_back() {
    let mut all_entered = 0;
    for seed in 1..=40 {
        let (mut story, mut dice) = (Story::new(), Dice(0x9E37_79B9_7F4A_7C15 ^ seed));
        let mut clients: Vec<Client> = (0..6).map(|_| story.connect()).collect();
        let channels = ["news", "cache-news", "presence-room", "#server-to-user-ann", "#server-to-user-bob"];
        let mut entered = 0;
        for _ in 0..400 {
            let (client, channel) = (dice.roll(clients.len()), channels[dice.roll(channels.len())]);
            let user = ["ann", "bob"][dice.roll(2)];
            match dice.roll(12) {
                0..=2 if channel == "presence-room" => story.say_present(&clients[client], channel, user),
                0..=2 => story.say(&clients[client], &format!("+{channel}")),
                3 => story.say(&clients[client], &format!("-{channel}")),
                4 => story.say_user(&clients[client], &format!(r#"{{"id":"{user}","watchlist":["ann","bob","cy"]}}"#)),
                5 => {
                    story.shard.end(&clients[client].connection, "client");
                    clients[client] = story.connect();
                }
                6 => story.event(channel, "event", None),
                7 => story.deliver(channel, Broadcast::Left(Member { id: user.into(), info: None })),
                8 if dice.roll(8) == 0 => story.deliver(channel, Broadcast::Terminate),
                9 if dice.roll(4) == 0 => story.deliver(channel, Broadcast::Gap),
                _ => {
                    entered += answer_one(&story, &mut dice);
                    story.turn();
                }
            }
        }
        for client in &clients {
            story.shard.end(&client.connection, "client");
        }
        while !story.backplane.asks.lock().unwrap().is_empty() {
            entered += answer_one(&story, &mut dice);
        }
        story.turn_all();
        let told = story.told();
        assert_eq!(told.iter().filter(|line| line.starts_with("exit")).count(), entered, "seed {seed}");
        assert!(story.shard.names.is_empty() && story.shard.asked.is_empty(), "seed {seed}");
        assert!(channels.iter().all(|channel| story.count(channel) == 0), "seed {seed}");
        let stats = &clients[0].connection.stats;
        assert_eq!(stats.subscriptions.get(), 0, "seed {seed}");
        all_entered += entered;
    }
    assert!(all_entered > 400, "{all_entered} users entered in all");
}

/// Answers some open ask, mostly with yes. How many users entered by that.
fn answer_one(story: &Story, dice: &mut Dice) -> usize {
    let mut asks = story.backplane.asks.lock().unwrap();
    if asks.is_empty() {
        return 0;
    }
    // Within a channel answers come in the order of the questions.
    let any = dice.roll(asks.len());
    let first = asks.iter().position(|ask| ask.channel == asks[any].channel).unwrap_or(any);
    let ask = asks.remove(first);
    drop(asks);
    if dice.roll(6) == 0 {
        let refusal = Reason::Unavailable.into();
        story.hub.push(0, Item::Refuse { channel: ask.channel, subscription: ask.subscription, refusal });
        return 0;
    }
    let entered = usize::from(ask.member.is_some());
    let roster: Option<&[&str]> = ask.roster.then_some(&["ann"]);
    story.admit(ask, roster, Cached::Miss);
    entered
}

/// A worker whose application is asked, and a client of its.
fn with_application(story: &Story, line: (Sink, std::net::TcpStream)) -> (Rc<Worker>, Rc<RefCell<Vec<Asked>>>, Client) {
    let (sink, socket) = line;
    let asked = Rc::new(RefCell::default());
    let application = Box::new(Application { asked: asked.clone() });
    let worker = Worker::new(story.hub.clone(), story.backplane.clone(), application, 0);
    let connection = worker.open(sink, Vec::new(), story.app.clone(), 0, opening());
    (worker, asked, Client { connection, socket })
}

/// Lets the tasks of a worker do what they can.
async fn settle() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn the_application_is_asked_once_and_its_answer_is_the_proof() {
    let story = Story::new();
    let line = story.plain();
    tokio::task::LocalSet::new().block_on(&story.runtime, async {
        let (worker, asked, mut client) = with_application(&story, line);
        let say = |text: &str| worker.receive(&client.connection, Message::Text(text));
        ["?private-a", "?private-a", "?private-b", "?news"].into_iter().for_each(say);
        settle().await;
        let mut questions = asked.take();
        assert_eq!(questions.iter().map(|asked| asked.0.as_str()).collect::<Vec<_>>(), ["private-a", "private-b"]);
        assert_eq!(story.backplane.asks.lock().unwrap().len(), 1, "only the public channel is asked for yet");
        let (_, _, refused) = questions.pop().unwrap();
        refused.send(Err(Refusal::from(Reason::NotPermitted).with_status(419))).unwrap();
        let (_, _, granted) = questions.pop().unwrap();
        let auth = auth::channel_auth(&story.app, client.connection.id, "private-a", None).map(Into::into);
        granted.send(Ok(Proof { auth, ..Proof::default() })).unwrap();
        settle().await;
        assert_eq!(story.backplane.asks.lock().unwrap().len(), 2);
        // An application that was not asked: its signature must be right as well.
        say("?private-c");
        settle().await;
        let (_, _, answer) = asked.take().pop().unwrap();
        answer.send(Ok(Proof { auth: Some("key:00".into()), ..Proof::default() })).unwrap();
        settle().await;
        assert_eq!(client.heard(), ["!private-b 419", "!private-c 401"]);
    });
}

#[test]
fn who_leaves_or_is_gone_takes_the_question_along() {
    let story = Story::new();
    let line = story.plain();
    tokio::task::LocalSet::new().block_on(&story.runtime, async {
        let (worker, asked, client) = with_application(&story, line);
        let say = |text: &str| worker.receive(&client.connection, Message::Text(text));
        ["?private-a", "?private-b", "-private-a"].into_iter().for_each(say);
        settle().await;
        let mut questions = asked.take();
        let (_, _, answer) = questions.pop().unwrap();
        let (_, _, withdrawn) = questions.pop().unwrap();
        assert!(withdrawn.is_closed() && !answer.is_closed());
        say("?private-a");
        settle().await;
        worker.close(&client.connection, Reason::Draining);
        settle().await;
        let (_, _, other) = asked.take().pop().unwrap();
        assert!(answer.is_closed() && other.is_closed());
        assert!(story.backplane.asks.lock().unwrap().is_empty());
    });
}

#[test]
fn what_waits_for_polls_goes_to_the_socket_that_takes_over() {
    let story = Story::new();
    let (sink, socket) = story.plain();
    tokio::task::LocalSet::new().block_on(&story.runtime, async {
        let application = Box::<Application>::default();
        let worker = Worker::new(story.hub.clone(), story.backplane.clone(), application, 0);
        let connection = worker.open_polled(Framing::Counted, 5, story.app.clone(), 0, opening());
        let waiting = || match connection.poll_waiting(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(waiting)) => String::from_utf8(waiting.concat()).unwrap(),
            other => format!("{other:?}"),
        };
        let say = |text: &str| worker.receive(&connection, Message::Text(text));
        assert_eq!(waiting(), "Pending");
        say("?private-a");
        worker.receive(&connection, Message::Text("+private-x"));
        assert_eq!((waiting(), waiting()), ("14:!private-x 401".to_owned(), "Pending".to_owned()));
        ["+private-y", "+private-é"].into_iter().for_each(say);
        connection.attach(sink);
        say("+private-z");
        let mut client = Client { connection: connection.clone(), socket };
        assert_eq!(client.heard(), ["!private-y 401", "!private-é 401", "!private-z 401"]);
        worker.close(&connection, Reason::Draining);
        assert_eq!(client.heard(), ["close 4200"]);
    });
}
