//! Stories of one worker: real sockets, a dialect of single words, and a backplane that only remembers.

use std::io::Read;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backplane::{Ask, Backplane, BoxFuture, Item, LinkStatus, PublishError, Workers};
use model::dialect::{Goodbye, Heartbeat};
use model::webhook::Happening;
use model::{
    Action, App, Broadcast, ChannelKey, ChannelName, Command, Delivery, Dialect, Encoding, Event, Member, Message,
    Notice, OnGap, OpenRequest, Opening, Proof, RawJson, Refusal, Roster, SocketId, State, UserId, auth,
};

use crate::connection::Connection;
use crate::hub::{Hub, Settings};
use crate::outbox::Sink;
use crate::shard::Shard;

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
        let proof = Proof { auth: auth.map(Into::into), channel_data: data.map(Into::into) };
        let channel = ChannelName::new(name).unwrap();
        let command = match word {
            "+" => Command::Subscribe { channel, proof },
            "-" => Command::Unsubscribe { channel },
            _ => Command::Whisper { channel, event: "client-hush".into(), data: RawJson::null() },
        };
        out.push(Action::Command(command, None));
    }

    fn notice(&self, _: &State, notice: &Notice<'_>, out: &mut Vec<u8>) {
        let text = match notice {
            Notice::Subscribed { channel, roster, .. } => {
                let members = roster.map(|roster| roster.0.keys().map(|id| format!(":{id}")).collect::<String>());
                format!("+{channel}{}", members.unwrap_or_default())
            }
            Notice::SubscribeRefused { channel, refusal, .. } => format!("!{channel} {}", refusal.status()),
            Notice::Refused { refusal, .. } => format!("!{}", refusal.code()),
            Notice::Gap => "gap".into(),
            Notice::Welcome { .. } | Notice::Unsubscribed { .. } => return,
        };
        out.extend_from_slice(text.as_bytes());
    }

    fn encoding(&self, _: &State) -> Encoding {
        Encoding { dialect: 0, variant: 0 }
    }

    fn broadcast(&self, _: Encoding, channel: &str, broadcast: &Broadcast, out: &mut Vec<u8>) {
        let text = match broadcast {
            Broadcast::Event(event) => event.name.to_string(),
            Broadcast::Joined(member) => format!("joined:{}", member.id),
            Broadcast::Left(user) => format!("left:{user}"),
            Broadcast::Gap => format!("gap:{channel}"),
            Broadcast::Count(n) => format!("count:{n}"),
            Broadcast::Terminate => "terminate".to_owned(),
        };
        out.extend_from_slice(text.as_bytes());
    }

    fn heartbeat(&self, activity_timeout: u32) -> Heartbeat {
        Heartbeat { ping_after: activity_timeout, dead_after: activity_timeout + 30 }
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

fn opening() -> Opening {
    Opening { app_key: None, state: State::default(), commands: Vec::new() }
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
        let socket = std::net::TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        // `try_write` asks the runtime first, which has to have seen the socket.
        let stream = self.runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            stream.writable().await.unwrap();
            stream
        });
        let sink = Sink::Plain(stream);
        Client { connection: self.shard.open(sink, Vec::new(), self.app.clone(), 0, opening()), socket }
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
            let roster = roster.map(|ids| Arc::new(Roster(ids.iter().map(|id| ((*id).into(), None)).collect())));
            let Ask { channel, subscription, .. } = ask;
            self.hub.push(
                0,
                Item::Admit {
                    channel,
                    subscription,
                    roster,
                    position: None,
                    cached: Default::default(),
                    count: Default::default(),
                },
            );
        }
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
    for _ in 0..160 {
        hog.connection.send_own(&chunk);
    }
    for other in &others {
        // Nobody reads, so this waits, and is little beside the hog's.
        (0..8).for_each(|_| other.connection.send_own(&chunk));
    }
    assert!(hog.connection.outbox_bytes() > 4 << 20);
    for _ in 0..3 {
        story.shard.settle();
    }
    assert_eq!(hog.connection.closing(), Some("slow_consumer"));
    assert!(others.iter().all(|other| other.connection.closing().is_none()));
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
