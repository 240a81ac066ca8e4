//! What two nodes must agree on: who is there, how many, what a cache channel holds, what webhooks are told, and that once.
//!
//! Local runs them with one site in both places.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use model::webhook::{Happening, Job};
use model::{App, HistoryDepth, HistoryRule, SocketId, WebhookKind, WebhookKinds};

use super::*;
use crate::{AppSettings, Cached, ChannelCounts, Page, PageFrom};

/// For how long cache channels keep their event.
pub(crate) const CACHE_TTL: Duration = Duration::from_secs(1_800);

/// An app of which everything is told.
pub(crate) const TOLD: &str = "told";

pub(crate) fn told_app() -> AppSettings {
    let webhooks = WebhookKind::ALL.into_iter().fold(WebhookKinds::NONE, WebhookKinds::with);
    let app = AppSettings::of(&App::new(TOLD, "key", "secret"));
    let depth = HistoryDepth { size: 5, ttl: Duration::from_secs(60) };
    let history = [HistoryRule { pattern: "log-*".into(), depth }].into();
    AppSettings { prefix: "app_database_told_".into(), webhooks, subscription_count: true, history, ..app }
}

pub(crate) fn told(name: &str) -> Arc<ChannelKey> {
    Arc::new(ChannelKey { app: TOLD.into(), name: ChannelName::new(name).unwrap() })
}

impl Site {
    /// Subscribes as a worker does: it counts what it admits.
    pub(crate) async fn join(&self, worker: usize, channel: &Arc<ChannelKey>, slot: u32) -> Cached {
        self.ask(worker, channel, slot);
        let look = |items: &[Item]| {
            items.iter().find_map(|item| match item {
                Item::Admit { channel: of, subscription, cached, count, .. } if of == channel => {
                    (subscription.slot == slot).then(|| (cached.clone(), count.clone()))
                }
                _ => None,
            })
        };
        let (cached, count) = self.until(worker, "admission", look).await;
        count.fetch_add(1, Relaxed);
        self.shares.lock().unwrap().insert((worker, channel.clone()), count);
        cached
    }

    /// One more that the worker lets in by itself, or one less.
    pub(crate) fn add(&self, worker: usize, channel: &Arc<ChannelKey>, n: u32) {
        self.shares.lock().unwrap()[&(worker, channel.clone())].fetch_add(n, Relaxed);
    }

    fn part(&self, worker: usize, channel: &Arc<ChannelKey>) {
        self.shares.lock().unwrap()[&(worker, channel.clone())].fetch_sub(1, Relaxed);
        self.backplane.leave(worker, channel.clone());
    }

    async fn count(&self, channel: &Arc<ChannelKey>) -> ChannelCounts {
        self.backplane.counts(vec![channel.clone()]).await.unwrap()[0]
    }

    pub(crate) async fn until_count(&self, channel: &Arc<ChannelKey>, n: u64) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            // Also before the first link and after a cut.
            let counts = self.backplane.counts(vec![channel.clone()]).await;
            if counts.as_ref().is_ok_and(|counts| counts[0].subscriptions == n) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{} has {counts:?}, not {n}", channel.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn occupied(&self, app: &str, prefix: &str) -> HashMap<String, u64> {
        let occupied = self.backplane.occupied(app.into(), prefix.to_owned()).await.unwrap();
        occupied.into_iter().map(|(name, counts)| (name.to_string(), counts.subscriptions)).collect()
    }
}

/// Jobs in short, of whichever of the sites leads, until one of them is `last`.
pub(crate) async fn jobs(a: &Site, b: &Site, last: &str) -> Vec<String> {
    let (mut told, deadline) = (Vec::new(), tokio::time::Instant::now() + LIMIT);
    while !told.iter().any(|word| word == last) {
        assert!(tokio::time::Instant::now() < deadline, "no job {last}: {told:#?}");
        let (of_a, of_b) =
            (a.backplane.clone().take_jobs(TOLD.into(), 1), b.backplane.clone().take_jobs(TOLD.into(), 1));
        let (site, jobs) = tokio::select! {
            jobs = of_a => (a, jobs),
            jobs = of_b => (b, jobs),
        };
        told.extend(jobs.iter().map(word));
        site.backplane.done(TOLD.into(), jobs.into_iter().map(|job| job.id).collect());
    }
    told
}

fn word(job: &Job) -> String {
    assert!(job.time_ms > 1_700_000_000_000, "{job:?}");
    let (name, channel) = (job.happening.kind().name(), &job.channel);
    match &job.happening {
        Happening::MemberAdded(user) | Happening::MemberRemoved(user) => format!("{name} {channel} {user}"),
        Happening::SubscriptionCount(n) => format!("{name} {channel} {n}"),
        Happening::ClientEvent { event, data, socket, user } => {
            format!("{name} {channel} {event} {} {socket} {user:?}", data.as_str())
        }
        _ => format!("{name} {channel}"),
    }
}

pub(crate) async fn two_nodes(a: &Site, b: &Site) {
    let ready = key("ready-too");
    for site in [a, b] {
        site.ask(0, &ready, 1);
        site.admitted(0, &ready, 1).await;
        site.backplane.leave(0, ready.clone());
    }
    counts_are_of_both_and_fresh(a, b).await;
    a_cache_channel_gives_its_last_event_once(a, b).await;
    history::who_comes_back_is_told_what_he_missed(a, b).await;
    history::what_is_not_known_is_not_claimed(a, b).await;
    history::what_is_not_kept_any_more_is_lost(a, b).await;
    history::pages_go_both_ways(a, b).await;
    who_only_looks_on_sees_who_comes_and_goes(a, b).await;
    a_user_is_terminated_where_he_is(a, b).await;
    webhooks_are_told_once_and_in_order(a, b).await;
}

async fn counts_are_of_both_and_fresh(a: &Site, b: &Site) {
    let channel = told("counted");
    assert_eq!(a.count(&channel).await, ChannelCounts::default());
    a.join(0, &channel, 1).await;
    assert_eq!(b.count(&channel).await.subscriptions, 1, "the next question shows whoever was let in");
    assert_eq!(b.occupied(TOLD, "coun").await, HashMap::from([("counted".to_owned(), 1)]));
    assert_eq!(b.occupied(TOLD, "x").await, HashMap::new());
    assert_eq!(b.occupied(APP, "counted").await, HashMap::new());
    a.add(0, &channel, 2);
    assert_eq!(a.count(&channel).await.subscriptions, 3, "one's own part is live");
    b.until_count(&channel, 3).await;
    b.join(1, &channel, 2).await;
    a.until_said(0, &channel, "=4").await;
    b.until_said(1, &channel, "=4").await;
    let presence = told("presence-counted");
    a.ask_member(0, &presence, 5, "ann");
    a.admitted(0, &presence, 5).await;
    assert_eq!(b.count(&presence).await, ChannelCounts { subscriptions: 1, users: 1 });
    let users = b.backplane.users(presence.clone()).await.unwrap();
    assert_eq!(users[0].info.as_ref().map(RawJson::as_str), Some("{\"name\":\"ann \\u00eb\"}"));
    a.backplane.exit(0, presence.clone(), "ann".into());
    a.backplane.leave(0, presence.clone());
    b.part(1, &channel);
    a.add(0, &channel, u32::MAX - 1);
    a.until_said(0, &channel, "=1").await;
    a.part(0, &channel);
    b.until_count(&channel, 0).await;
    b.until_count(&presence, 0).await;
    assert_eq!(b.occupied(TOLD, "").await, HashMap::new());
}

pub(crate) fn kept(name: &str) -> Event {
    Event { cacheable: true, except: SocketId::new(9, 9), ..event(name) }
}

async fn a_cache_channel_gives_its_last_event_once(a: &Site, b: &Site) {
    let empty = told("cache-empty");
    for site in [a, b] {
        assert!(matches!(site.join(0, &empty, 9).await, Cached::Miss));
        site.part(0, &empty);
    }
    let channel = told("cache-price");
    assert!(matches!(a.join(0, &channel, 1).await, Cached::Miss));
    b.backplane.publish(channel.clone(), kept("first")).await.unwrap();
    a.until_said(0, &channel, "first").await;
    a.mark(b, 0, &channel, "not kept").await;
    let held = |cached| match cached {
        Cached::Hit(event) => event.name.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(held(b.join(1, &channel, 2).await), "first");
    a.backplane.publish(channel.clone(), kept("second")).await.unwrap();
    b.until_said(1, &channel, "second").await;
    assert_eq!(held(b.join(0, &channel, 3).await), "second");
    b.mark(a, 1, &channel, "end").await;
    b.until_said(0, &channel, "end").await;
    a.until_said(0, &channel, "end").await;
    let events = |site: &Site, worker| -> Vec<_> {
        site.said(worker, &channel).into_iter().filter(|said| !said.starts_with(['=', 'a'])).collect()
    };
    assert_eq!(events(b, 1), ["second", "end"]);
    if !Arc::ptr_eq(&a.backplane, &b.backplane) {
        assert_eq!(events(b, 0), ["end"]);
        assert_eq!(events(a, 0), ["first", "not kept", "second", "end"]);
    }
    let last = Page { from: PageFrom::Before(None), limit: 9 };
    let held_now = a.backplane.history(channel.clone(), last.clone()).await.unwrap().events;
    let [(event, age)] = &held_now[..] else { panic!("{held_now:?}") };
    assert_eq!((&*event.name, event.data.as_str()), ("second", "{\"n\":1.0}"));
    assert!(*age < LIMIT, "{age:?}");
    // Nobody listens: it is kept all the same.
    let silent = told("private-cache-silent");
    b.backplane.publish(silent.clone(), kept("kept")).await.unwrap();
    assert_eq!(held(a.join(1, &silent, 4).await), "kept");
    for (site, worker, channel) in [(a, 0, &channel), (b, 1, &channel), (b, 0, &channel), (a, 1, &silent)] {
        site.part(worker, channel);
    }
    b.until_count(&channel, 0).await;
    assert_eq!(a.backplane.history(channel, last).await.unwrap().events.len(), 1, "an empty channel keeps it");
}

async fn who_only_looks_on_sees_who_comes_and_goes(a: &Site, b: &Site) {
    let channel = told("#server-to-user-7");
    a.ask_roster(0, &channel, 1);
    assert_eq!(a.admitted(0, &channel, 1).await.map(|roster| roster.len()), Some(0));
    b.ask_member(1, &channel, 2, "7");
    assert_eq!(b.admitted(1, &channel, 2).await.map(|roster| roster.len()), Some(1));
    a.until_said(0, &channel, "+7").await;
    a.ask_roster(1, &channel, 3);
    assert_eq!(a.admitted(1, &channel, 3).await.map(|roster| roster.len()), Some(1));
    b.backplane.exit(1, channel.clone(), "7".into());
    b.backplane.leave(1, channel.clone());
    a.until_said(0, &channel, "-7").await;
    a.until_said(1, &channel, "-7").await;
    assert_eq!(a.count(&channel).await.subscriptions, 0, "a user's channel is nobody's to count");
    a.backplane.leave(0, channel.clone());
    a.backplane.leave(1, channel);
}

async fn a_user_is_terminated_where_he_is(a: &Site, b: &Site) {
    let channel = told("#server-to-user-8");
    a.ask_member(0, &channel, 1, "8");
    a.admitted(0, &channel, 1).await;
    b.backplane.terminate(channel.clone()).await.unwrap();
    a.until_said(0, &channel, "terminate").await;
    a.backplane.exit(0, channel.clone(), "8".into());
    a.backplane.leave(0, channel);
}

/// Of one channel, in order.
fn of<'a>(told: &'a [String], channel: &str) -> Vec<&'a str> {
    told.iter().filter(|word| word.split(' ').nth(1) == Some(channel)).map(String::as_str).collect()
}

async fn webhooks_are_told_once_and_in_order(a: &Site, b: &Site) {
    let (room, news) = (told("presence-hooks"), told("hooks"));
    a.ask_member(0, &room, 1, "ann");
    a.admitted(0, &room, 1).await;
    b.ask_member(1, &room, 2, "ann");
    b.admitted(1, &room, 2).await;
    a.join(0, &news, 3).await;
    b.join(1, &news, 4).await;
    a.until_said(0, &news, "=2").await;
    // Back within the delay: never away.
    a.part(0, &news);
    b.part(1, &news);
    b.join(1, &news, 5).await;
    let user = Some("ann".into());
    let socket = SocketId::new(7, 1).unwrap();
    let data = RawJson::parse("{\"n\":1.0}").unwrap();
    a.backplane.report(room.clone(), Happening::ClientEvent { event: "client-x".into(), data, socket, user });
    a.backplane.exit(0, room.clone(), "ann".into());
    a.backplane.leave(0, room.clone());
    b.backplane.exit(1, room.clone(), "ann".into());
    b.backplane.leave(1, room.clone());
    let mut said = jobs(a, b, "member_removed presence-hooks ann").await;
    b.part(1, &news);
    said.extend(jobs(a, b, "channel_vacated hooks").await);
    said.sort_by_key(|word| word.starts_with("client_event"));
    let of_room = of(&said, "presence-hooks");
    assert_eq!(of_room.iter().filter(|word| word.starts_with("member_added")).count(), 1, "{said:#?}");
    assert_eq!(of_room.iter().filter(|word| word.starts_with("member_removed")).count(), 1, "{said:#?}");
    assert_eq!(of_room.last(), Some(&"client_event presence-hooks client-x {\"n\":1.0} 7.1 Some(\"ann\")"));
    let transitions: Vec<_> = of(&said, "hooks").into_iter().filter(|word| word.starts_with("channel")).collect();
    assert_eq!(transitions, ["channel_occupied hooks", "channel_vacated hooks"], "{said:#?}");
    assert!(of(&said, "hooks").contains(&"subscription_count hooks 2"), "{said:#?}");
    assert_eq!(of(&said, "cache-price")[0], "channel_occupied cache-price", "{said:#?}");
    assert_eq!(said.iter().filter(|word| *word == "cache_miss cache-empty").count(), 1, "{said:#?}");
    assert!(!said.iter().any(|word| word.contains('#')), "{said:#?}");
}
