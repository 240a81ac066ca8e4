//! PUBLISH, READ and NOTE against a model: what a channel keeps, where it stands, and that no number is ever given twice.

use std::collections::HashSet;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script, Value};

use super::{BEGIN, CLOCK, Dice, hearing, seeds, timed_scripts};
use crate::redis::errands::reading;
use crate::redis::scripts::Scripts;
use crate::redis::tests::Server;
use crate::redis::wire::{self, Message};
use crate::topics::log::Reading;

const RUNS: u64 = 150;
const STEPS: u64 = 60;

const S: &str = "ff:{0}";
const CHANNEL: &str = "app:chat";
const TOPIC: &str = "app_chat";
const HEAD: &str = "ff:{0}:hm:app:chat";
const LOG: &str = "ff:{0}:h:app:chat";
const EPOCH: &str = "ff:{0}:g";

/// What the channel keeps: most events, for how many ms.
const SIZE: u64 = 5;
const TTL: i64 = 60_000;

/// As it ships, but for the time.
fn publish_script() -> Script {
    let text = include_str!("../scripts/publish.lua");
    let (before, after) =
        text.split_once("local time = redis.call('TIME')\n").expect("publish.lua reads the time once");
    assert!(!after.contains("'TIME'"));
    let clock = format!("local ms = tonumber(redis.call('GET', '{CLOCK}'))");
    Script::new(&format!("{before}{clock}\nlocal time = {{math.floor(ms / 1000), ms % 1000 * 1000}}\n{after}"))
}

/// One event as it is kept.
#[derive(Clone, PartialEq, Debug)]
struct Entry {
    offset: u64,
    name: String,
    at: i64,
}

/// What must be so.
#[derive(Default)]
struct Model {
    /// Of the data set, and the run of the server that it was made in.
    epoch: Option<(String, String)>,
    /// Of the channel: epoch, last number, noted.
    head: Option<(String, u64, Option<u64>)>,
    log: Vec<Entry>,
    now: i64,
    full: bool,
}

impl Model {
    /// Where the channel stands in this epoch.
    fn head(&self) -> Option<(u64, Option<u64>)> {
        let (epoch, _) = self.epoch.as_ref()?;
        self.head.as_ref().filter(|(of, ..)| of == epoch).map(|(_, top, noted)| (*top, *noted))
    }

    fn forget(&mut self) {
        (self.head, self.log) = (None, Vec::new());
    }
}

/// One history.
struct Story {
    server: MultiplexedConnection,
    scripts: Scripts,
    publish: Script,
    model: Model,
    /// The run id that publishers know, and how many epochs they have offered.
    run: String,
    offered: u64,
    /// All numbers that were ever given, with their epochs.
    given: HashSet<(String, u64)>,
    highest: u64,
    said: u64,
}

impl Story {
    async fn ask(&mut self, words: &[&str]) {
        let _: Value = redis::cmd(words[0]).arg(&words[1..]).query_async(&mut self.server).await.unwrap();
    }

    async fn set_clock(&mut self) {
        let now = self.model.now.to_string();
        self.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
        self.ask(&["SET", CLOCK, &now]).await;
        self.ask(&["CONFIG", "SET", "maxmemory", if self.model.full { "1" } else { "0" }]).await;
    }

    /// Publishes; what was heard is the answer.
    async fn say(&mut self, heard: &std::sync::Mutex<Vec<(String, Vec<u8>)>>) {
        self.said += 1;
        self.offered += 1;
        let (name, candidate) = (format!("e{}", self.said), format!("epoch{}", self.offered));
        let payload = format!(r#"{{"event":"{name}","data":1,"socket":null}}"#);
        heard.lock().unwrap().clear();
        let mut call = self.publish.key(HEAD);
        call.arg(S).arg(CHANNEL).arg(TOPIC).arg(payload).arg(SIZE).arg(TTL).arg(&self.run).arg(&candidate).arg(4_000);
        let done: RedisResult<Value> = call.invoke_async(&mut self.server).await;
        assert!(done.is_ok(), "it is delivered in any case: {done:?}");
        let text = heard.lock().unwrap().last().map(|(_, payload)| payload.clone()).expect("it was published");
        let Ok(Message::Event(event)) = wire::decode(&text, 1 << 20) else { panic!("{text:?}") };
        assert_eq!(&*event.name, name);
        let Some(position) = event.position else {
            assert!(self.model.full, "only a full server gives no number");
            self.model.forget();
            // As with a true clock: what is lost is not begun anew within a millisecond.
            return self.pass(2).await;
        };
        // A full server refuses what would be a script's first change; behind a DEL it lets more pass.
        if self.model.epoch.as_ref().is_none_or(|(_, run)| *run != self.run) {
            self.model.epoch = Some((candidate, self.run.clone()));
        }
        let (epoch, _) = self.model.epoch.clone().unwrap();
        assert_eq!(*position.epoch, *epoch);
        assert!(self.given.insert((epoch.clone(), position.offset)), "{position} was given before");
        match self.model.head() {
            Some((top, noted)) => {
                assert_eq!(position.offset, top + 1, "numbers count up by one");
                self.model.head = Some((epoch, position.offset, noted));
            }
            None => {
                assert!(position.offset > self.highest, "where numbers begin anew they are above all of before");
                self.model.head = Some((epoch, position.offset, None));
            }
        }
        self.highest = self.highest.max(position.offset);
        self.model.log.push(Entry { offset: position.offset, name, at: self.model.now });
        let excess = self.model.log.len().saturating_sub(SIZE as usize);
        self.model.log.drain(..excess);
    }

    async fn note(&mut self, dice: &mut Dice) {
        let known = self.model.head();
        let epoch = if dice.one_in(4) { "other".to_owned() } else { self.epoch() };
        let number = known.map_or(7, |(top, _)| top - dice.roll(3));
        let mut call = self.scripts.note.key(HEAD);
        call.arg(S).arg(CHANNEL).arg(&epoch).arg(number);
        let _: Value = call.invoke_async(&mut self.server).await.unwrap();
        // It is about the epoch that the channel's head has, be it the data set's or not.
        let is_new = |noted: Option<u64>| noted.is_none_or(|noted| noted < number);
        match &mut self.model.head {
            Some((of, _, noted)) if *of == epoch && is_new(*noted) => match self.model.full {
                true => {
                    self.model.forget();
                    self.pass(2).await;
                }
                false => *noted = Some(number),
            },
            _ => {}
        }
    }

    fn epoch(&self) -> String {
        self.model.epoch.as_ref().map(|(epoch, _)| epoch.clone()).unwrap_or_default()
    }

    async fn read(
        &mut self,
        first: bool,
        after: Option<u64>,
        before: Option<u64>,
        newest: bool,
        most: u64,
    ) -> Option<Reading> {
        let text = |number: Option<u64>| number.map_or(String::new(), |number| number.to_string());
        let mut call = self.scripts.read.key(HEAD);
        call.arg(S).arg(CHANNEL).arg(if first { "1" } else { "" }).arg(text(after)).arg(text(before));
        call.arg(u8::from(newest)).arg(most).arg(1 << 20).arg(TTL);
        let Value::Array(parts) = call.invoke_async(&mut self.server).await.unwrap() else { panic!("an array") };
        reading(&parts, 1 << 20)
    }

    /// A random question, and whether the model says the same.
    async fn look(&mut self, dice: &mut Dice) {
        let any = |dice: &mut Dice, top: u64| (!dice.one_in(3)).then(|| (top + 2).saturating_sub(dice.roll(SIZE + 4)));
        let top = self.model.head().map_or(self.highest, |(top, _)| top);
        let (first, newest) = (dice.one_in(3), dice.one_in(2));
        let (after, before, most) = (any(dice, top), any(dice, top), 1 + dice.roll(SIZE + 1));
        let Some(read) = self.read(first, after, before, newest, most).await else {
            return assert_eq!(self.model.epoch, None, "only data of nobody cannot be read");
        };
        if first && self.model.head().is_none() && read.top.offset > 0 {
            // Numbers have begun here.
            assert!(read.top.offset > self.highest);
            self.highest = read.top.offset;
            self.model.head = Some((self.epoch(), read.top.offset, None));
        }
        let (top, noted) = self.model.head().unwrap_or_default();
        assert_eq!((&*read.top.epoch, read.top.offset, read.noted), (&*self.epoch(), top, noted));
        let young = self.model.log.iter().filter(|entry| self.model.now - entry.at < TTL);
        let between = |offset: u64| after.is_none_or(|a| offset > a) && before.is_none_or(|b| offset < b);
        let mut fitting: Vec<_> = young.filter(|entry| between(entry.offset)).cloned().collect();
        let excess = fitting.len().saturating_sub(most as usize);
        if newest {
            drop(fitting.drain(..excess))
        } else {
            fitting.truncate(most as usize)
        }
        let read = read.entries.into_iter().map(|(event, age)| Entry {
            offset: event.position.expect("kept events have one").offset,
            name: event.name.into(),
            at: self.model.now - age.as_millis() as i64,
        });
        assert_eq!(read.collect::<Vec<_>>(), fitting);
    }

    /// What befalls a server.
    async fn befall(&mut self, dice: &mut Dice) {
        match dice.roll(7) {
            0 => {
                self.ask(&["FLUSHALL"]).await;
                self.model.forget();
                self.model.epoch = None;
            }
            1 => {
                self.ask(&["DEL", HEAD]).await;
                self.model.head = None;
            }
            2 => {
                self.ask(&["DEL", LOG]).await;
                self.model.log.clear();
            }
            3 => {
                self.ask(&["DEL", EPOCH]).await;
                self.model.epoch = None;
            }
            // Restarted with what it had, and some of it lost: the numbers that are lost must not come again.
            4 if !self.model.full && self.model.log.len() > 2 => {
                let lost = self.model.log.pop().unwrap().offset;
                self.ask(&["XDEL", LOG, &format!("{lost}-0")]).await;
                if let Some((_, top, _)) = self.model.head.as_mut().filter(|(_, top, _)| *top == lost) {
                    *top -= 1;
                    let top = top.to_string();
                    self.ask(&["HSET", HEAD, "s", &top]).await;
                }
                self.run = format!("run{}", self.offered);
            }
            5 => self.model.full = true,
            _ => self.model.full = false,
        }
        // Nothing is lost and begun anew within a millisecond.
        self.pass(2).await;
    }

    async fn pass(&mut self, ms: i64) {
        self.model.now += ms;
        self.set_clock().await;
    }
}

#[tokio::test]
async fn what_is_kept_is_what_the_model_keeps_and_no_number_comes_twice() {
    let server = Server::start().await;
    let mut steps = 0;
    for seed in seeds(RUNS) {
        let mut dice = Dice(seed.0);
        let (connection, heard) = hearing(&server).await;
        let model = Model { now: BEGIN, ..Model::default() };
        let (scripts, publish) = (timed_scripts(), publish_script());
        let (run, given) = ("run".to_owned(), HashSet::new());
        let mut story =
            Story { server: connection, scripts, publish, model, run, offered: 0, given, highest: 0, said: 0 };
        story.ask(&["FLUSHALL"]).await;
        story.set_clock().await;
        for _ in 0..STEPS {
            match dice.roll(12) {
                0..5 => story.say(&heard).await,
                5..7 => story.note(&mut dice).await,
                7..10 => story.look(&mut dice).await,
                10 => story.pass(1 + dice.roll(30_000) as i64).await,
                _ => story.befall(&mut dice).await,
            }
            steps += 1;
        }
        story.model.full = false;
        story.set_clock().await;
    }
    println!("{steps} calls");
}
