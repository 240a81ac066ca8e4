//! What two nodes must agree on of a channel's history: who comes back to either is told what he missed, and nothing is claimed
//! that is not known.

use std::sync::Arc;

use model::{ChannelKey, Event, Position};

use super::cluster::{kept, told};
use super::{Item, Site, event};
use crate::{Page, PageFrom, Standing};

impl Site {
    /// Comes to the channel with a position, or for the first time.
    async fn come(&self, worker: usize, channel: &Arc<ChannelKey>, slot: u32, from: Option<&Position>) -> Standing {
        self.ask_back(worker, channel, slot, from.map(Position::to_string).as_deref());
        let look = |items: &[Item]| {
            items.iter().find_map(|item| match item {
                Item::Admit { channel: of, subscription, standing, logged: true, .. } if of == channel => {
                    (subscription.slot == slot).then(|| standing.as_deref().expect("who asks is told").clone())
                }
                _ => None,
            })
        };
        self.until(worker, "admission", look).await
    }

    async fn page(&self, channel: &Arc<ChannelKey>, from: PageFrom, limit: u32) -> (Vec<String>, Vec<u64>) {
        let read = self.backplane.history(channel.clone(), Page { from, limit }).await.unwrap();
        let offset = |event: &Event| event.position.as_ref().expect("kept events have one").offset;
        read.events.iter().map(|(event, _)| (event.name.to_string(), offset(event))).unzip()
    }
}

fn names(standing: &Standing) -> Vec<&str> {
    standing.missed.iter().map(|event| &*event.name).collect()
}

async fn say(site: &Site, channel: &Arc<ChannelKey>, events: impl IntoIterator<Item = Event>) {
    for event in events {
        site.backplane.publish(channel.clone(), event).await.unwrap();
    }
}

fn all(names: &[&str]) -> Vec<Event> {
    names.iter().map(|name| Event { except: None, ..kept(name) }).collect()
}

pub(super) async fn who_comes_back_is_told_what_he_missed(a: &Site, b: &Site) {
    let channel = told("log-back");
    let first = a.come(0, &channel, 1, None).await;
    assert_eq!((first.recovered, names(&first)), (None, vec![]));
    say(b, &channel, all(&["one", "two"])).await;
    a.until_said(0, &channel, "two").await;
    let position = |offset: u64| Position { offset: first.position.offset + offset, ..first.position.clone() };

    let back = b.come(1, &channel, 2, Some(&position(0))).await;
    assert_eq!((back.recovered, names(&back)), (Some(true), vec!["one", "two"]));
    assert_eq!((&back.position, &back.end), (&position(0), &position(2)));
    assert_eq!(back.missed[1].position, Some(position(2)));
    let half = a.come(1, &channel, 3, Some(&position(1))).await;
    assert_eq!((half.recovered, names(&half)), (Some(true), vec!["two"]));
    let none = b.come(1, &channel, 4, Some(&position(2))).await;
    assert_eq!((none.recovered, names(&none)), (Some(true), vec![]));

    // What his former socket was not to hear, and behind it nothing.
    say(a, &channel, [kept("his own")]).await;
    b.until_said(1, &channel, "his own").await;
    let back = b.come(1, &channel, 5, Some(&position(2))).await;
    assert_eq!((back.recovered, names(&back), &back.end), (Some(true), vec![], &position(3)));
    for (site, worker) in [(a, 0), (a, 1), (b, 1)] {
        site.backplane.leave(worker, channel.clone());
    }
}

pub(super) async fn what_is_not_known_is_not_claimed(a: &Site, b: &Site) {
    let channel = told("log-unknown");
    let first = a.come(0, &channel, 1, None).await;
    let position = |offset: u64| Position { offset: first.position.offset + offset, ..first.position.clone() };
    let other_epoch = Position { epoch: "other".into(), ..position(0) };
    for (slot, from) in [(2, other_epoch), (3, position(9)), (4, Position { offset: 1, ..position(0) })] {
        let back = b.come(1, &channel, slot, Some(&from)).await;
        assert_eq!((back.recovered, &back.position), (Some(false), &position(0)), "{from}");
    }
    say(a, &channel, all(&["1", "2", "3", "4", "5", "6"])).await;
    b.until_said(1, &channel, "6").await;
    // A client event is nobody's to come back for; what the application said without a number is.
    say(a, &channel, [event("client-hush")]).await;
    b.until_said(1, &channel, "client-hush").await;
    assert_eq!(b.come(1, &channel, 7, Some(&position(5))).await.recovered, Some(true));
    say(a, &channel, [event("plain")]).await;
    b.until_said(1, &channel, "plain").await;
    a.until_said(0, &channel, "plain").await;
    assert_eq!(b.come(1, &channel, 8, Some(&position(5))).await.recovered, Some(false));
    assert_eq!(a.come(1, &channel, 9, Some(&position(6))).await.recovered, Some(false));
    say(b, &channel, all(&["7", "8"])).await;
    a.until_said(0, &channel, "8").await;
    let back = a.come(1, &channel, 10, Some(&position(7))).await;
    assert_eq!((back.recovered, names(&back)), (Some(true), vec!["8"]), "behind it all is known again");
    for (site, worker) in [(a, 0), (b, 1), (a, 1)] {
        site.backplane.leave(worker, channel.clone());
    }
}

pub(super) async fn what_is_not_kept_any_more_is_lost(a: &Site, b: &Site) {
    let channel = told("log-short");
    let first = a.come(0, &channel, 1, None).await;
    let position = |offset: u64| Position { offset: first.position.offset + offset, ..first.position.clone() };
    // Five are kept.
    say(a, &channel, all(&["1", "2", "3", "4", "5", "6"])).await;
    a.until_said(0, &channel, "6").await;
    let back = b.come(1, &channel, 5, Some(&position(0))).await;
    assert_eq!((back.recovered, names(&back), &back.position), (Some(false), vec![], &position(6)));
    let whole = b.come(1, &channel, 6, Some(&position(1))).await;
    assert_eq!((whole.recovered, names(&whole)), (Some(true), vec!["2", "3", "4", "5", "6"]));
    a.backplane.leave(0, channel.clone());
    b.backplane.leave(1, channel);
}

pub(super) async fn pages_go_both_ways(a: &Site, b: &Site) {
    let (channel, silent) = (told("log-pages"), told("log-silent"));
    assert_eq!(a.page(&silent, PageFrom::Before(None), 9).await, Default::default());
    say(a, &channel, all(&["1", "2", "3", "4", "5", "6"])).await;
    let (newest, offsets) = b.page(&channel, PageFrom::Before(None), 2).await;
    assert_eq!(newest, ["6", "5"]);
    assert_eq!(b.page(&channel, PageFrom::Before(Some(offsets[1])), 9).await.0, ["4", "3", "2"]);
    let (oldest, offsets) = a.page(&channel, PageFrom::After(0), 2).await;
    assert_eq!(oldest, ["2", "3"]);
    assert_eq!(a.page(&channel, PageFrom::After(offsets[1]), 9).await.0, ["4", "5", "6"]);
    let none = a.backplane.history(told("plain"), Page { from: PageFrom::Before(None), limit: 9 }).await.unwrap();
    assert_eq!((none.top, none.events.len()), (None, 0), "no rule, no history");
}
