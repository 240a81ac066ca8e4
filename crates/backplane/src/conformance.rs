//! What every backplane must do: one list of cases, run on `local` and on a real Redis.
//!
//! Each case takes one or two sites (a backplane and the workers it pushes to) and channel names of its own. Nothing sleeps:
//! a case waits for a condition, with a limit; that something did *not* come is proven by a later event that did.

use std::collections::HashMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{Broadcast, ChannelKey, ChannelName, Event, Member, RawJson, Reason, Resume, Roster, SocketId};
use tokio::sync::Notify;

use crate::{Ask, AskLog, AskMember, Cluster, Item, SubscriptionRef, Workers};

pub(crate) mod cluster;
mod history;

/// Longest wait for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(15);
pub(crate) const APP: &str = "app";

/// Workers that write down what is pushed to them.
pub(crate) struct Recorder {
    items: Mutex<Vec<Vec<Item>>>,
    changed: Notify,
}

impl Workers for Recorder {
    fn count(&self) -> usize {
        self.items.lock().unwrap().len()
    }

    fn push(&self, worker: usize, item: Item) {
        self.items.lock().unwrap()[worker].push(item);
        self.changed.notify_waiters();
    }

    fn connections(&self) -> std::collections::HashMap<Arc<str>, u64> {
        Default::default()
    }
}

/// By worker and channel.
type Shares = HashMap<(usize, Arc<ChannelKey>), Arc<AtomicU32>>;

/// One node: its backplane and two workers.
pub(crate) struct Site {
    pub backplane: Arc<dyn Cluster>,
    pub workers: Arc<Recorder>,
    /// What a worker adds to, for each subscription that it admits.
    shares: Mutex<Shares>,
}

impl Site {
    pub(crate) fn new(start: impl FnOnce(Arc<dyn Workers>) -> Arc<dyn Cluster>) -> Self {
        let workers = Arc::new(Recorder { items: Mutex::new(vec![Vec::new(); 2]), changed: Notify::new() });
        Self { backplane: start(workers.clone()), workers, shares: Mutex::default() }
    }

    pub(crate) fn ask(&self, worker: usize, channel: &Arc<ChannelKey>, slot: u32) {
        let subscription = SubscriptionRef { slot, generation: 0 };
        let log = channel.name.kind().cache.then_some(AskLog { cache_ttl: Some(cluster::CACHE_TTL), resume: None });
        self.backplane.ask(worker, Ask { channel: channel.clone(), subscription, member: None, roster: false, log });
    }

    /// To a channel with a history, as one who comes back from there.
    pub(crate) fn ask_back(&self, worker: usize, channel: &Arc<ChannelKey>, slot: u32, from: Option<&str>) {
        let resume = Some(Resume { from: from.map(|from| from.parse().unwrap()), except: SocketId::new(9, 9) });
        let (subscription, log) = (SubscriptionRef { slot, generation: 0 }, Some(AskLog { cache_ttl: None, resume }));
        self.backplane.ask(worker, Ask { channel: channel.clone(), subscription, member: None, roster: false, log });
    }

    /// To hear who comes and goes.
    pub(crate) fn ask_roster(&self, worker: usize, channel: &Arc<ChannelKey>, slot: u32) {
        let subscription = SubscriptionRef { slot, generation: 0 };
        self.backplane
            .ask(worker, Ask { channel: channel.clone(), subscription, member: None, roster: true, log: None });
    }

    pub(crate) fn ask_member(&self, worker: usize, channel: &Arc<ChannelKey>, slot: u32, user: &str) {
        self.ask_member_of(worker, channel, slot, user, 100);
    }

    pub(crate) fn ask_member_of(&self, worker: usize, channel: &Arc<ChannelKey>, slot: u32, user: &str, max: u32) {
        let info = RawJson::parse(&format!("{{\"name\":\"{user} \\u00eb\"}}"));
        let member =
            Some(AskMember { member: Member { id: user.into(), info }, members_max: max, grace: Duration::ZERO });
        let subscription = SubscriptionRef { slot, generation: 0 };
        self.backplane.ask(worker, Ask { channel: channel.clone(), subscription, member, roster: true, log: None });
    }

    /// Waits until the items of a worker hold what is looked for.
    pub(crate) async fn until<T>(&self, worker: usize, what: &str, look: impl Fn(&[Item]) -> Option<T>) -> T {
        let seen = || look(&self.workers.items.lock().unwrap()[worker]);
        let waiting = async {
            loop {
                let changed = self.workers.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = seen() {
                    return found;
                }
                changed.await;
            }
        };
        let found = tokio::time::timeout(LIMIT, waiting).await;
        found.unwrap_or_else(|_| panic!("no {what} at worker {worker}: {:#?}", self.items(worker)))
    }

    pub(crate) fn items(&self, worker: usize) -> Vec<Item> {
        self.workers.items.lock().unwrap()[worker].clone()
    }

    pub(crate) async fn admitted(&self, worker: usize, channel: &ChannelKey, slot: u32) -> Option<Arc<Roster>> {
        let look = |items: &[Item]| items.iter().find_map(|item| admission(item, channel, slot));
        self.until(worker, &format!("admission of {} {slot}", channel.name), look).await
    }

    pub(crate) async fn refused(&self, worker: usize, channel: &ChannelKey, slot: u32) -> Reason {
        let look = |items: &[Item]| {
            items.iter().find_map(|item| match item {
                Item::Refuse { channel: of, subscription, refusal } if **of == *channel => {
                    (subscription.slot == slot).then_some(refusal.reason)
                }
                _ => None,
            })
        };
        self.until(worker, "refusal", look).await
    }

    /// Publishes until it works, and waits until the event comes to the worker.
    pub(crate) async fn mark(&self, from: &Site, worker: usize, channel: &Arc<ChannelKey>, name: &str) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        while from.backplane.publish(channel.clone(), event(name)).await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "cannot publish");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let look = |items: &[Item]| said(items, channel).contains(&name.to_owned()).then_some(());
        self.until(worker, &format!("event {name}"), look).await;
    }

    /// What a worker heard on a channel, in short.
    pub(crate) fn said(&self, worker: usize, channel: &ChannelKey) -> Vec<String> {
        said(&self.items(worker), channel)
    }

    pub(crate) async fn until_said(&self, worker: usize, channel: &ChannelKey, word: &str) {
        let look = |items: &[Item]| said(items, channel).iter().any(|said| said == word).then_some(());
        self.until(worker, word, look).await;
    }
}

fn admission(item: &Item, of: &ChannelKey, slot: u32) -> Option<Option<Arc<Roster>>> {
    match item {
        Item::Admit { channel, subscription, roster, .. } if **channel == *of && subscription.slot == slot => {
            Some(roster.clone())
        }
        _ => None,
    }
}

/// Items of a channel in short: `event`, `+user`, `-user`, `gap`, `admit 1 [users]`.
pub(crate) fn said(items: &[Item], of: &ChannelKey) -> Vec<String> {
    let word = |item: &Item| match item {
        Item::Deliver(delivery) if *delivery.channel == *of => Some(match &delivery.broadcast {
            Broadcast::Event(event) => event.name.to_string(),
            Broadcast::Joined(member) => format!("+{}", member.id),
            Broadcast::Left(member) => format!("-{}", member.id),
            Broadcast::Count(n) => format!("={n}"),
            Broadcast::Terminate => "terminate".to_owned(),
            Broadcast::Gap => "gap".to_owned(),
        }),
        Item::Admit { channel, subscription, roster, .. } if **channel == *of => {
            let users = roster.iter().flat_map(|roster| roster.0.keys()).map(|u| u.to_string()).collect::<Vec<_>>();
            Some(format!("admit {} [{}]", subscription.slot, users.join(" ")))
        }
        _ => None,
    };
    items.iter().filter_map(word).collect()
}

pub(crate) fn key(name: &str) -> Arc<ChannelKey> {
    Arc::new(ChannelKey { app: APP.into(), name: ChannelName::new(name).unwrap() })
}

pub(crate) fn event(name: &str) -> Event {
    Event::new(name, RawJson::parse("{\"n\":1.0}").unwrap())
}

/// The cases that need one node only.
pub(crate) async fn one_node(site: &Site) {
    let ready = key("ready");
    site.ask(0, &ready, 1);
    site.admitted(0, &ready, 1).await;
    site.backplane.leave(0, ready);
    an_admission_comes_before_the_first_message(site).await;
    many_publishes_keep_their_order_and_their_bytes(site).await;
    two_workers_get_one_message_each_and_a_third_channel_stays_out(site).await;
    a_worker_without_its_bit_hears_nothing(site).await;
    a_channel_that_lingers_or_was_left_is_heard_again(site).await;
    a_user_joins_and_leaves_once_with_two_sockets(site).await;
    a_full_channel_refuses_new_users_only(site).await;
    a_subscription_that_dies_while_pending_leaves_no_ghost(site).await;
    a_quick_leave_and_join_ends_present(site).await;
}

async fn an_admission_comes_before_the_first_message(site: &Site) {
    let channel = key("admission");
    for round in 0..20 {
        site.ask(0, &channel, round);
        let publish = site.backplane.publish(channel.clone(), event(&format!("early{round}")));
        site.admitted(0, &channel, round).await;
        publish.await.unwrap();
        site.mark(site, 0, &channel, &format!("late{round}")).await;
        let heard = site.said(0, &channel);
        let place = |word: &str| heard.iter().position(|said| said == word);
        let (admit, late) = (place(&format!("admit {round} []")), place(&format!("late{round}")));
        assert!(admit < late, "{heard:?}");
        if round == 0 {
            assert!(place("early0").is_none_or(|early| early > admit.unwrap()), "{heard:?}");
        }
    }
    site.backplane.leave(0, channel);
}

async fn many_publishes_keep_their_order_and_their_bytes(site: &Site) {
    let channel = key("order");
    let data = r#"{"a" : 1.0,"b":12345678901234567890,"c":"\u00eb\/","d":-0.0}"#;
    site.ask(0, &channel, 1);
    site.admitted(0, &channel, 1).await;
    let publishes: Vec<_> = (0..2_000)
        .map(|n| {
            let event = Event::new(&n.to_string(), RawJson::parse(data).unwrap());
            site.backplane.publish(channel.clone(), event)
        })
        .collect();
    // Polled backwards: the place in the order is that of the call.
    for publish in publishes.into_iter().rev() {
        publish.await.unwrap();
    }
    site.mark(site, 0, &channel, "end").await;
    let expected: Vec<_> = (0..2_000).map(|n: u32| n.to_string()).chain(["end".to_owned()]).collect();
    assert_eq!(site.said(0, &channel)[1..], expected);
    let first = site.items(0).into_iter().find_map(|item| match item {
        Item::Deliver(delivery) if *delivery.channel == *channel => match &delivery.broadcast {
            Broadcast::Event(event) => Some(event.data.as_str().to_owned()),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(first.as_deref(), Some(data));
    site.backplane.leave(0, channel);
}

async fn two_workers_get_one_message_each_and_a_third_channel_stays_out(site: &Site) {
    let (channel, other) = (key("masks"), key("masks-other"));
    site.ask(0, &channel, 1);
    site.ask(1, &channel, 2);
    site.ask(1, &other, 3);
    site.admitted(0, &channel, 1).await;
    site.admitted(1, &channel, 2).await;
    site.admitted(1, &other, 3).await;
    site.mark(site, 0, &channel, "both").await;
    site.mark(site, 1, &channel, "end").await;
    site.until_said(0, &channel, "end").await;
    assert_eq!(site.said(0, &channel), ["admit 1 []", "both", "end"]);
    assert_eq!(site.said(1, &channel), ["admit 2 []", "both", "end"]);
    assert_eq!(site.said(1, &other), ["admit 3 []"]);
    site.backplane.leave(0, channel.clone());
    site.backplane.leave(1, channel);
    site.backplane.leave(1, other);
}

async fn a_worker_without_its_bit_hears_nothing(site: &Site) {
    let channel = key("bits");
    site.ask(0, &channel, 1);
    site.ask(1, &channel, 2);
    site.admitted(0, &channel, 1).await;
    site.admitted(1, &channel, 2).await;
    site.backplane.leave(1, channel.clone());
    // The leave and this ask go one way, so what comes after the admission comes after the leave.
    let marker = key("bits-marker");
    site.ask(1, &marker, 3);
    site.admitted(1, &marker, 3).await;
    site.mark(site, 0, &channel, "alone").await;
    site.mark(site, 1, &marker, "end").await;
    assert_eq!(site.said(1, &channel), ["admit 2 []"]);
    site.backplane.leave(0, channel);
    site.backplane.leave(1, marker);
}

async fn a_channel_that_lingers_or_was_left_is_heard_again(site: &Site) {
    let channel = key("lingering");
    for round in 0..30 {
        site.ask(0, &channel, round);
        site.admitted(0, &channel, round).await;
        site.mark(site, 0, &channel, &format!("round{round}")).await;
        site.backplane.leave(0, channel.clone());
        // Later rounds let the linger time pass, so that the ask meets each state.
        if round > 20 {
            tokio::time::sleep(Duration::from_millis(round as u64 * 2)).await;
        }
    }
}

async fn a_user_joins_and_leaves_once_with_two_sockets(site: &Site) {
    let channel = key("presence-once");
    site.ask_member(0, &channel, 1, "ann");
    let roster = site.admitted(0, &channel, 1).await.unwrap();
    assert_eq!(roster.0.keys().map(|u| &**u).collect::<Vec<_>>(), ["ann"]);
    assert_eq!(roster.0["ann"].as_ref().unwrap().as_str(), r#"{"name":"ann \u00eb"}"#);
    site.ask_member(1, &channel, 2, "bob/\"é");
    site.admitted(1, &channel, 2).await;
    site.ask_member(0, &channel, 3, "bob/\"é");
    let roster = site.admitted(0, &channel, 3).await.unwrap();
    assert_eq!(roster.len(), 2);
    site.backplane.exit(1, channel.clone(), "bob/\"é".into());
    site.backplane.leave(1, channel.clone());
    site.mark(site, 0, &channel, "one socket left").await;
    site.backplane.exit(0, channel.clone(), "bob/\"é".into());
    site.until_said(0, &channel, "-bob/\"é").await;
    site.mark(site, 0, &channel, "end").await;
    let heard = ["admit 1 [ann]", "+bob/\"é", "admit 3 [ann bob/\"é]", "one socket left", "-bob/\"é", "end"];
    assert_eq!(site.said(0, &channel), heard);
    assert_eq!(site.said(1, &channel), ["admit 2 [ann bob/\"é]"]);
    site.backplane.exit(0, channel.clone(), "ann".into());
    site.backplane.leave(0, channel);
}

async fn a_full_channel_refuses_new_users_only(site: &Site) {
    let channel = key("presence-full");
    for (slot, user) in [(1, "a"), (2, "b")] {
        site.ask_member_of(0, &channel, slot, user, 2);
        site.admitted(0, &channel, slot).await;
    }
    site.ask_member_of(1, &channel, 3, "c", 2);
    assert_eq!(site.refused(1, &channel, 3).await, Reason::MembersFull);
    site.ask_member_of(1, &channel, 4, "b", 2);
    assert_eq!(site.admitted(1, &channel, 4).await.unwrap().len(), 2);
    site.backplane.exit(0, channel.clone(), "a".into());
    site.until_said(1, &channel, "-a").await;
    site.ask_member_of(1, &channel, 5, "c", 2);
    assert_eq!(site.admitted(1, &channel, 5).await.unwrap().len(), 2);
    for (worker, user) in [(0, "b"), (1, "b"), (1, "c")] {
        site.backplane.exit(worker, channel.clone(), user.into());
    }
    site.backplane.leave(0, channel.clone());
    site.backplane.leave(1, channel);
}

async fn a_subscription_that_dies_while_pending_leaves_no_ghost(site: &Site) {
    let channel = key("presence-pending");
    site.ask_member(0, &channel, 1, "watcher");
    site.admitted(0, &channel, 1).await;
    site.ask_member(1, &channel, 2, "brief");
    // Its socket died at once; the worker gives back what it was admitted to.
    site.admitted(1, &channel, 2).await;
    site.backplane.exit(1, channel.clone(), "brief".into());
    site.backplane.leave(1, channel.clone());
    site.until_said(0, &channel, "-brief").await;
    site.ask_member(0, &channel, 3, "watcher");
    assert_eq!(site.admitted(0, &channel, 3).await.unwrap().len(), 1);
    assert_eq!(site.said(0, &channel)[1..3], ["+brief", "-brief"]);
    site.backplane.exit(0, channel.clone(), "watcher".into());
    site.backplane.exit(0, channel.clone(), "watcher".into());
    site.backplane.leave(0, channel);
}

async fn a_quick_leave_and_join_ends_present(site: &Site) {
    let channel = key("presence-quick");
    site.ask_member(0, &channel, 1, "watcher");
    site.admitted(0, &channel, 1).await;
    for round in 0..20 {
        site.ask_member(1, &channel, 10 + round, "quick");
        site.admitted(1, &channel, 10 + round).await;
        site.backplane.exit(1, channel.clone(), "quick".into());
        site.backplane.leave(1, channel.clone());
    }
    site.ask_member(1, &channel, 99, "quick");
    assert_eq!(site.admitted(1, &channel, 99).await.unwrap().len(), 2);
    site.mark(site, 0, &channel, "end").await;
    let events: Vec<_> = site.said(0, &channel).into_iter().filter(|said| said.ends_with("quick")).collect();
    for (index, said) in events.iter().enumerate() {
        assert_eq!(said, if index % 2 == 0 { "+quick" } else { "-quick" }, "{events:?}");
    }
    assert!(events.len() % 2 == 1, "{events:?}");
    for (worker, user) in [(1, "quick"), (0, "watcher")] {
        site.backplane.exit(worker, channel.clone(), user.into());
        site.backplane.leave(worker, channel.clone());
    }
}

#[tokio::test]
async fn the_local_backplane_conforms() {
    let settings = crate::local::Settings {
        linger: Duration::from_millis(20),
        webhook_delay: Duration::from_millis(300),
        beat: Duration::from_millis(200),
        apps: vec![crate::AppSettings::of(&model::App::new(APP, "key", "secret")), cluster::told_app()],
    };
    let site = Site::new(|workers| crate::local::start(settings, workers));
    one_node(&site).await;
    cluster::two_nodes(&site, &site).await;
}
