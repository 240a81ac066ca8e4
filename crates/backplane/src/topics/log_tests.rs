//! A log between a store and a stream that are late, cut and short of memory: nothing doubled, nothing claimed that is not so.

use std::collections::VecDeque;

use model::RawJson;

use super::*;

fn at(offset: u64) -> Position {
    Position { epoch: "e".into(), offset }
}

fn numbered(offset: u64) -> Event {
    Event { position: Some(at(offset)), ..Event::new(&offset.to_string(), RawJson::null()) }
}

fn reading(top: u64, offsets: impl IntoIterator<Item = u64>) -> Reading {
    let entries = offsets.into_iter().map(|offset| (numbered(offset), Duration::ZERO)).collect();
    Reading { top: at(top), noted: None, entries }
}

fn words(told: Vec<Broadcast>) -> Vec<String> {
    let word = |broadcast: &Broadcast| match broadcast {
        Broadcast::Event(event) => event.name.to_string(),
        Broadcast::Gap => "gap".to_owned(),
        other => format!("{other:?}"),
    };
    told.iter().map(word).collect()
}

/// A log that stands at 5.
fn known(now: Instant) -> Log {
    let mut log = Log::default();
    assert_eq!(log.next(now), Some(Operation::Read { after: None }));
    log.answered(now, reading(5, []), &mut Vec::new());
    assert!(log.is_known());
    log
}

fn hear(log: &mut Log, now: Instant, event: Event) -> Vec<String> {
    let mut told = Vec::new();
    log.hear(now, event, &mut told);
    words(told)
}

fn answer(log: &mut Log, now: Instant, reading: Reading) -> Vec<String> {
    let mut told = Vec::new();
    log.answered(now, reading, &mut told);
    words(told)
}

#[test]
fn what_a_cut_hid_is_told_in_order_before_what_came_after_it() {
    let now = Instant::now();
    let mut log = known(now);
    assert_eq!(hear(&mut log, now, numbered(6)), ["6"]);
    log.lose_link();
    assert!(!log.is_known());
    assert_eq!(hear(&mut log, now, numbered(9)), [""; 0], "held back");
    assert_eq!(log.next(now), Some(Operation::Read { after: Some(6) }));
    assert_eq!(answer(&mut log, now, reading(10, 7..=10)), ["7", "8", "9"]);
    assert_eq!(hear(&mut log, now, numbered(10)), ["10"], "it was on its way");
    log.lose_link();
    log.next(now);
    assert_eq!(answer(&mut log, now, reading(12, 11..=12)), ["11", "12"]);
    assert_eq!(hear(&mut log, now, numbered(12)), [""; 0], "told already");
    // One cut behind the other.
    log.lose_link();
    assert_eq!(hear(&mut log, now, numbered(14)), [""; 0]);
    log.lose_link();
    assert_eq!(hear(&mut log, now, numbered(16)), [""; 0]);
    log.next(now);
    assert_eq!(answer(&mut log, now, reading(16, 13..=16)), ["13", "14", "15", "16"]);
}

#[test]
fn what_cannot_be_told_is_told_as_a_gap() {
    let now = Instant::now();
    let cut = |prepare: fn(&mut Log, Instant), reading: Reading| {
        let mut log = known(now);
        prepare(&mut log, now);
        log.lose_link();
        answer(&mut log, now, reading)
    };
    let nothing = |_: &mut Log, _: Instant| ();
    assert_eq!(cut(nothing, reading(8, 7..=8)), ["gap", "7", "8"], "the oldest are not kept any more");
    let fresh = |offset| Position { epoch: "f".into(), offset };
    let mut of_two_epochs = Reading { top: fresh(9), ..reading(9, [6, 9]) };
    of_two_epochs.entries[1].0.position = Some(fresh(9));
    assert_eq!(cut(nothing, of_two_epochs), ["gap", "9"], "6 may be another one than the 6 that was heard");
    assert_eq!(cut(nothing, Reading { noted: Some(5), ..reading(6, 6..=6) }), ["gap", "6"]);
    let plain = |log: &mut Log, now| drop(hear(log, now, Event::new("plain", RawJson::null())));
    assert_eq!(cut(plain, reading(5, [])), ["gap"], "more of that kind may have been said");
    let whisper = |log: &mut Log, now| drop(hear(log, now, Event::new("client-x", RawJson::null())));
    assert_eq!(cut(whisper, reading(5, [])), ["gap"]);
    assert_eq!(cut(nothing, reading(0, [])), ["gap"], "a store without memory counts nothing");
}

#[test]
fn what_is_held_follows_in_the_order_in_which_it_was_heard() {
    let now = Instant::now();
    let mut log = known(now);
    log.lose_link();
    hear(&mut log, now, Event::new("plain", RawJson::null()));
    hear(&mut log, now, numbered(7));
    assert_eq!(
        answer(&mut log, now, reading(8, 6..=8)),
        ["gap", "6", "plain", "7"],
        "more of that kind may be missing"
    );
    assert_eq!(hear(&mut log, now, numbered(8)), ["8"], "it was on its way");
}

#[test]
fn number_zero_claims_nothing() {
    let now = Instant::now();
    let mut log = Log::default();
    log.next(now);
    answer(&mut log, now, reading(0, []));
    assert!(log.is_known());
    let zero = Resume { from: Some(at(0)), except: None };
    assert_eq!(log.stand(&zero, 0).unwrap().recovered, Some(false));
}

#[test]
fn a_number_that_belongs_to_no_event_is_not_waited_for_without_end() {
    let now = Instant::now();
    let mut log = known(now);
    let ahead = Resume { from: Some(at(9)), except: None };
    assert_eq!(log.stand(&ahead, 0), None);
    log.next(now);
    answer(&mut log, now, reading(9, []));
    assert_eq!(log.stand(&ahead, 0), None, "it may be on its way");
    for _ in 0..2 {
        log.retry(now, &mut Vec::new());
        log.stand(&ahead, 0);
    }
    assert_eq!(log.stand(&ahead, 0).unwrap().recovered, Some(false));
}

#[test]
fn who_is_in_before_the_channel_keeps_anything_loses_nothing() {
    let now = Instant::now();
    let mut log = Log::late();
    log.next(now);
    let plain = Event::new("plain", RawJson::null());
    assert_eq!(hear(&mut log, now, plain), ["plain"]);
    assert_eq!(answer(&mut log, now, reading(6, [6])), [""; 0]);
    assert!(log.next_note().is_some(), "what was heard without a number is noted once it is known where");
    assert_eq!(hear(&mut log, now, numbered(6)), ["6"], "it was on its way, and nobody has told it");
    assert_eq!(log.stand(&Resume { from: Some(at(6)), except: None }, 0).unwrap().recovered, Some(true));
}

#[test]
fn an_answer_from_before_the_channel_was_left_is_of_no_use_after_it() {
    let now = Instant::now();
    let mut log = known(now);
    log.lose_link();
    assert!(log.next(now).is_some());
    log.stop_listening();
    assert_eq!(log.next(now), None, "one at a time");
    answer(&mut log, now, reading(7, 6..=7));
    assert!(!log.is_known());
    assert_eq!(log.next(now), Some(Operation::Read { after: None }));
}

#[test]
fn a_store_that_takes_too_long_holds_nobody_up() {
    let now = Instant::now();
    let mut log = known(now);
    log.lose_link();
    log.next(now);
    assert_eq!(hear(&mut log, now, numbered(7)), [""; 0]);
    let (mut told, later) = (Vec::new(), now + HELD_MAX);
    log.retry(later, &mut told);
    assert_eq!(words(told), ["gap", "7"]);
    assert_eq!(hear(&mut log, later, numbered(8)), ["8"]);
    assert_eq!(log.stand(&Resume::default(), 0), None, "nobody is let in before the store has spoken");
    // The stream may be past what the store had when it was asked.
    assert_eq!(hear(&mut log, later, numbered(9)), ["9"]);
    assert_eq!(answer(&mut log, later, reading(8, 6..=8)), [""; 0], "nothing twice, and the gap was told");
    let at_8 = Resume { from: Some(at(8)), except: None };
    assert_eq!(log.stand(&Resume { from: Some(at(9)), except: None }, 0).unwrap().recovered, Some(true));
    assert_eq!(log.stand(&at_8, 0), None, "9 was told behind it");
    let mut behind = known(now);
    behind.lose_link();
    hear(&mut behind, now, numbered(7));
    behind.retry(later, &mut Vec::new());
    assert_eq!(answer(&mut behind, later, reading(9, 6..=9)), ["8", "9"], "nothing twice, and what follows");
    let mut full = known(now);
    full.lose_link();
    let large = Event { data: RawJson::string(&"x".repeat(HELD_BYTES_MAX)), ..numbered(7) };
    assert_eq!(hear(&mut full, now, large), ["gap", "7"]);
}

#[test]
fn something_without_a_number_is_noted_once_a_number_until_the_store_knows() {
    let now = Instant::now();
    let mut log = known(now);
    let plain = || Event::new("plain", RawJson::null());
    assert_eq!(hear(&mut log, now, plain()), ["plain"]);
    hear(&mut log, now, plain());
    assert_eq!((log.next_note(), log.next_note()), (Some(Operation::Note(at(5))), None));
    log.noted(false);
    assert!(log.owes() && log.next_note().is_none(), "again at the next heartbeat");
    log.retry(now, &mut Vec::new());
    assert_eq!(log.next_note(), Some(Operation::Note(at(5))));
    log.noted(true);
    assert!(!log.owes());
    let mut early = Log::default();
    hear(&mut early, now, plain());
    answer(&mut early, now, reading(5, []));
    assert_eq!(early.next_note(), Some(Operation::Note(at(5))), "heard before it was known where");
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// All that was ever said, and what the store still has of it.
#[derive(Default)]
struct World {
    said: Vec<Event>,
    top: u64,
    kept: VecDeque<u64>,
}

/// A node: its log, the stream on its way to it, a question on its way, and its one client.
struct Site {
    log: Log,
    stream: VecDeque<Event>,
    question: Option<(Operation, Option<Reading>)>,
    asked: Option<(Option<Position>, u64)>,
    client: Client,
}

/// What a client has heard since it can claim to have heard everything: places in `World::said`.
#[derive(Default)]
struct Client {
    is_in: bool,
    position: Option<Position>,
    /// The place behind which it must hear everything; `None` after a gap.
    next: Option<usize>,
    heard: usize,
}

/// What the store keeps, and its number before the first.
const SIZE: usize = 20;
const BEGIN: u64 = 1_000;

impl World {
    fn say(&mut self) -> Event {
        self.top += 1;
        self.kept.push_back(self.top);
        if self.kept.len() > SIZE {
            self.kept.pop_front();
        }
        let place = self.said.len().to_string();
        let event = Event { position: Some(at(self.top)), ..Event::new(&place, RawJson::null()) };
        self.said.push(event.clone());
        event
    }

    fn read(&self, after: Option<u64>) -> Reading {
        let after = after.unwrap_or(u64::MAX);
        let event = |offset: u64| self.said.iter().find(|event| event.position == Some(at(offset))).unwrap().clone();
        let entries = self.kept.iter().filter(|offset| **offset > after).map(|offset| (event(*offset), Duration::ZERO));
        Reading { top: at(self.top), noted: None, entries: entries.collect() }
    }
}

impl Client {
    fn hear(&mut self, event: &Event, seed: u64) {
        let place: usize = event.name.parse().unwrap();
        if let Some(next) = self.next {
            assert_eq!(place, next, "seed {seed}: lost or doubled");
        }
        assert!(place >= self.heard, "seed {seed}: doubled or out of order");
        (self.heard, self.next) = (place + 1, Some(place + 1));
        self.position = event.position.clone().or(self.position.take());
    }
}

impl Site {
    fn new() -> Self {
        let (log, stream, client) = (Log::default(), VecDeque::new(), Client::default());
        Self { log, stream, question: None, asked: None, client }
    }

    fn tell(&mut self, told: Vec<Broadcast>, seed: u64) {
        let told = if self.client.is_in { told } else { Vec::new() };
        for broadcast in told {
            match broadcast {
                Broadcast::Event(event) => self.client.hear(&event, seed),
                _ => self.client.next = None,
            }
        }
    }

    /// Lets the client in when it may be, and tells whether it lost nothing meanwhile.
    fn settle(&mut self, seed: u64) -> Option<bool> {
        let (from, asked) = self.asked.as_ref()?;
        let standing = self.log.stand(&Resume { from: from.clone(), except: None }, *asked)?;
        self.asked = None;
        self.asked = None;
        self.client.is_in = true;
        let recovered = standing.recovered == Some(true);
        if !recovered {
            // It loads its data anew, and hears everything from here on.
            self.client.heard = (standing.position.offset - BEGIN) as usize;
            self.client.next = Some(self.client.heard);
        }
        for event in standing.missed {
            self.client.hear(&event, seed);
        }
        self.client.position = Some(standing.end);
        Some(recovered)
    }
}

/// How often a client came back with nothing lost, and how often otherwise.
fn run(seed: u64) -> (u64, u64) {
    let (mut dice, mut world, mut now) = (Dice(seed), World { top: BEGIN, ..World::default() }, Instant::now());
    let mut sites = [Site::new(), Site::new()];
    let (mut recovered, mut lost) = (0, 0);
    for _ in 0..400 {
        let one = dice.roll(2) as usize;
        match dice.roll(16) {
            0..3 => {
                let event = world.say();
                sites.iter_mut().for_each(|site| site.stream.push_back(event.clone()));
            }
            3..7 => {
                let site = &mut sites[one];
                if let Some(event) = site.stream.pop_front() {
                    let mut told = Vec::new();
                    site.log.hear(now, event, &mut told);
                    site.tell(told, seed);
                }
            }
            7..12 => {
                // A question is answered as things stand when it gets there, and the answer comes later or never.
                let site = &mut sites[one];
                match site.question.take() {
                    None => site.question = site.log.next(now).map(|operation| (operation, None)),
                    Some((Operation::Read { after }, None)) => {
                        site.question = Some((Operation::Read { after }, Some(world.read(after))));
                    }
                    Some((_, Some(reading))) if dice.roll(4) > 0 => {
                        let mut told = Vec::new();
                        site.log.answered(now, reading, &mut told);
                        site.tell(told, seed);
                    }
                    Some(_) => site.log.failed(),
                }
                now += Duration::from_millis(dice.roll(400));
                let mut told = Vec::new();
                site.log.retry(now, &mut told);
                site.tell(told, seed);
            }
            12 if dice.roll(4) == 0 => {
                // What is on its way is lost, and what is said until the link is back.
                let site = &mut sites[one];
                site.log.lose_link();
                site.question = None;
                site.stream.clear();
                for _ in 0..dice.roll(3) {
                    let event = world.say();
                    sites[1 - one].stream.push_back(event);
                }
            }
            13 => {
                let client = &mut sites[one].client;
                if client.is_in {
                    // It goes, to come back here or there.
                    client.is_in = false;
                    if dice.roll(2) == 0 && sites[1 - one].asked.is_none() && !sites[1 - one].client.is_in {
                        let [a, b] = &mut sites;
                        std::mem::swap(&mut a.client, &mut b.client);
                    }
                } else if sites[one].asked.is_none() {
                    let from = sites[one].client.position.clone();
                    sites[one].asked = Some((from, sites[one].log.readings()));
                }
            }
            _ => {}
        }
        for site in &mut sites {
            match site.settle(seed) {
                Some(true) => recovered += 1,
                Some(false) => lost += 1,
                None => {}
            }
        }
    }
    (recovered, lost)
}

#[test]
fn whatever_is_late_cut_or_forgotten_nobody_is_told_twice_or_too_much() {
    let (mut recovered, mut lost) = (0, 0);
    for seed in 0..1_500 {
        let (r, l) = run(seed);
        (recovered, lost) = (recovered + r, lost + l);
    }
    println!("{recovered} came back with nothing lost, {lost} came for the first time or with something lost");
    assert!(recovered > 4_000 && lost > 2_000);
}

#[test]
fn what_is_in_hand_is_weighed_and_may_be_given_up() {
    let now = Instant::now();
    let mut log = known(now);
    assert_eq!(log.in_hand(), 0);
    log.lose_link();
    hear(&mut log, now, numbered(7));
    assert!(log.in_hand() > 0);
    let mut told = Vec::new();
    log.shed(now, &mut told);
    assert_eq!((words(told), log.in_hand()), (vec!["gap".to_owned(), "7".to_owned()], 0));
    let mut asked = known(now);
    hear(&mut asked, now, numbered(6));
    let from = Resume { from: Some(at(5)), except: None };
    assert_eq!(asked.stand(&from, 0), None);
    asked.next(now);
    answer(&mut asked, now, reading(6, [6]));
    assert!(asked.in_hand() > 0);
    asked.shed(now, &mut Vec::new());
    assert_eq!((asked.in_hand(), asked.stand(&from, 0)), (0, None), "it is asked for again");
    assert!(asked.next(now).is_some());
}
