//! Random calls of the scripts, and a model that says what each answers, what it publishes, and all that Redis holds after
//! it.
//!
//! The model keeps what the names mean: who is present through which incarnation, which incarnation lives since when, how
//! many subscriptions each told. The keys are derived from that, so a reference count that is wrong, an index that is
//! left over, or a key of a dead incarnation shows at the very call that made it.

mod model;

use std::collections::{BTreeMap, BTreeSet};

use redis::{Pipeline, Value};

use super::{BEGIN, CLOCK, Dice, hearing, seeds, timed_scripts};
use crate::redis::errands::{array, fields, text};
use crate::redis::scripts::Scripts;
use crate::redis::tests::Server;
use crate::redis::wire::{self, Message};
use crate::roster::{Change, Version};
use model::Model;

/// Histories in the gate.
const RUNS: u64 = 150;
const STEPS: u64 = 90;

const S: &str = "ff:{0}";
const CHANNELS: [&str; 4] = ["one:presence-a", "one:room%3A1", "two:presence-b", "one:#server-to-user-7"];
/// What the apps' webhooks and subscribers want, in the letters of change.lua.
const APPS: [(&str, &str); 2] = [("one", "ovarcs"), ("two", "")];
const USERS: [&str; 5] = ["ann", "bob", "cat \"é/", "d|o|g", "7"];
const INFOS: [&str; 3] = ["", r#"{"name":"A"}"#, "[1,2]"];
const SLOTS: usize = 3;

const GAP: i64 = 2_000;
const QUIET: i64 = 4_000;
const TTL: i64 = 3_000;
const DELAY: i64 = 3_000;

/// All that our keys hold: names, and what is in them in one spelling.
type Dump = BTreeMap<String, String>;

/// What has changed under our names since it was last asked: name, type (`none`: gone), and all that is in it.
const CHANGED: &str = "
local read = {
  hash = function(key) return redis.call('HGETALL', key) end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
  stream = function(key) return redis.call('XRANGE', key, '-', '+') end,
  string = function(key) return redis.call('GET', key) end,
}
local known, changed = {}, {}
local list = redis.call('HGETALL', 'model:seen')
for place = 1, #list, 2 do known[list[place]] = list[place + 1] end
for _, key in ipairs(redis.call('KEYS', 'ff:*')) do
  local now = redis.sha1hex(redis.call('DUMP', key))
  if known[key] ~= now then
    local kind = redis.call('TYPE', key).ok
    changed[#changed + 1] = {key, kind, read[kind](key)}
    redis.call('HSET', 'model:seen', key, now)
  end
  known[key] = nil
end
for key in pairs(known) do
  changed[#changed + 1] = {key, 'none', ''}
  redis.call('HDEL', 'model:seen', key)
end
return changed";

/// A snapshot, kept beside.
const SAVE: &str = "
redis.call('SELECT', 1); redis.call('FLUSHDB'); redis.call('SELECT', 0)
for _, key in ipairs(redis.call('KEYS', 'ff:*')) do redis.call('COPY', key, key, 'DB', 1) end";

/// What a server has that was started from the snapshot: the old data, made under another run id.
const LOAD: &str = "
for _, key in ipairs(redis.call('KEYS', 'ff:*')) do redis.call('DEL', key) end
redis.call('SELECT', 1)
local keys = redis.call('KEYS', 'ff:*')
for _, key in ipairs(keys) do redis.call('COPY', key, key, 'DB', 0) end
redis.call('SELECT', 0)
if redis.call('EXISTS', ARGV[1] .. ':g') == 1 then redis.call('HSET', ARGV[1] .. ':g', 'run', 'another') end";

#[derive(Clone, Debug)]
enum Step {
    Clock(i64),
    Hello {
        inc: String,
        candidate: String,
        known: String,
    },
    Beat {
        inc: String,
        connections: [u64; 2],
        leads: bool,
    },
    Join {
        inc: String,
        ac: &'static str,
        user: &'static str,
        info: &'static str,
        known: bool,
        max: u64,
        again: bool,
    },
    Leave {
        inc: String,
        ac: &'static str,
        user: &'static str,
    },
    Count {
        inc: String,
        ac: &'static str,
        n: u64,
        announce: bool,
        again: bool,
    },
    Roster(&'static str),
    /// `ttl`: only if it is dead by that; else its own node has replaced it.
    Reap {
        inc: String,
        ttl: bool,
        limit: u64,
        names_apps: bool,
    },
    Flush,
    Save,
    Load,
    /// SCRIPT FLUSH, a call that finds nothing, and all scripts anew.
    ForgetScripts,
    /// The key of a roster's version is evicted.
    Evict(&'static str),
    /// The same call once more: the request was sent again since its answer was lost.
    Again,
}

impl Step {
    /// How many commands it takes.
    fn spell(&self, scripts: &Scripts, now: i64, pipeline: &mut Pipeline) -> usize {
        let before = pipeline.len();
        let nodes = format!("{S}:nodes");
        match self {
            Self::Clock(now) => _ = pipeline.cmd("SET").arg(CLOCK).arg(*now),
            Self::Hello { inc, candidate, known } => {
                let mut call = scripts.hello.key(nodes);
                pipeline.invoke_script(call.arg(S).arg(inc).arg(candidate).arg(known).arg(QUIET));
            }
            Self::Beat { inc, connections, leads } => {
                let mut call = scripts.beat.key(nodes);
                call.arg(S).arg(inc).arg(GAP).arg(QUIET).arg(TTL);
                for ((app, wants), n) in APPS.iter().zip(connections) {
                    call.arg(*app).arg(*n).arg(*wants).arg(u8::from(*leads && !wants.is_empty()));
                }
                pipeline.invoke_script(&call);
            }
            Self::Join { inc, ac, user, info, known, max, again } => {
                let mut call = scripts.join.key(nodes);
                call.arg(S).arg(inc).arg(*ac).arg(topic(ac)).arg(*user).arg(*info).arg(if *known { "*" } else { "" });
                pipeline.invoke_script(call.arg("").arg(*max).arg(wants(ac)).arg(u8::from(*again)));
            }
            Self::Leave { inc, ac, user } => {
                let mut call = scripts.leave.key(nodes);
                pipeline.invoke_script(call.arg(S).arg(inc).arg(*ac).arg(*user).arg(wants(ac)).arg(DELAY));
            }
            Self::Count { inc, ac, n, announce, again } => {
                let mut call = scripts.count.key(nodes);
                call.arg(S).arg(inc).arg(*ac).arg(topic(ac)).arg(*n).arg(u8::from(*announce)).arg(wants(ac));
                pipeline.invoke_script(call.arg(DELAY).arg(u8::from(*again)));
            }
            Self::Roster(ac) => _ = pipeline.invoke_script(scripts.roster.key(nodes).arg(S).arg(*ac)),
            Self::Reap { inc, ttl, limit, names_apps } => {
                let mut call = scripts.reap.key(nodes);
                call.arg(S).arg(inc).arg(if *ttl { TTL.to_string() } else { String::new() }).arg(*limit).arg(DELAY);
                for (app, wants) in APPS.iter().filter(|_| *names_apps) {
                    call.arg(*app).arg(*wants);
                }
                pipeline.invoke_script(&call);
            }
            Self::Flush => {
                pipeline.cmd("FLUSHDB").cmd("SET").arg(CLOCK).arg(now);
            }
            Self::Save => _ = pipeline.cmd("EVAL").arg(SAVE).arg(0),
            Self::Load => {
                pipeline.cmd("EVAL").arg(LOAD).arg(0).arg(S);
            }
            Self::ForgetScripts => {
                pipeline.cmd("SCRIPT").arg("FLUSH");
                pipeline.invoke_script(scripts.roster.key(nodes).arg(S).arg(CHANNELS[0]));
                for script in [
                    &scripts.hello,
                    &scripts.beat,
                    &scripts.reap,
                    &scripts.join,
                    &scripts.leave,
                    &scripts.roster,
                    &scripts.count,
                ] {
                    pipeline.load_script(script);
                }
            }
            Self::Evict(ac) => _ = pipeline.cmd("DEL").arg(format!("{S}:v:{ac}")),
            Self::Again => unreachable!("spelled as the step before it"),
        }
        pipeline.len() - before
    }

    fn may_be_repeated(&self) -> bool {
        let calls = matches!(self, Self::Hello { .. } | Self::Beat { .. } | Self::Join { .. } | Self::Roster(_));
        calls || matches!(self, Self::Leave { .. } | Self::Count { .. })
    }
}

fn topic(ac: &str) -> String {
    format!("app_{ac}")
}

fn wants(ac: &str) -> &'static str {
    let app = ac.split(':').next().unwrap();
    // Channels of users are nobody's webhook.
    if ac.contains(":#") { "" } else { APPS.iter().find(|(name, _)| *name == app).unwrap().1 }
}

/// Makes histories. It knows what a node knows of itself, and nothing of the model.
struct Chronicle {
    dice: Dice,
    now: i64,
    steps: Vec<Step>,
    /// The incarnation under which each node goes now.
    current: [u64; SLOTS],
    /// All that there ever were.
    all: Vec<String>,
    silent: [bool; SLOTS],
    run: String,
    epochs: u64,
    loses_data: bool,
    evicts: bool,
}

impl Chronicle {
    fn write(seed: u64, run: &str) -> Self {
        let mut dice = Dice(seed);
        let (loses_data, evicts) = (dice.one_in(2), dice.one_in(3));
        let mut it = Self {
            dice,
            now: BEGIN,
            steps: vec![Step::Clock(BEGIN)],
            current: [0; SLOTS],
            all: Vec::new(),
            silent: [false; SLOTS],
            run: run.to_owned(),
            epochs: 0,
            loses_data,
            evicts,
        };
        for slot in 0..SLOTS {
            it.arrive(slot);
        }
        while (it.steps.len() as u64) < STEPS {
            it.chance();
        }
        it.settle();
        it
    }

    fn inc(&self, slot: usize) -> String {
        format!("n{slot}.{}", self.current[slot])
    }

    fn hello(&mut self, inc: String, known: &str) {
        self.epochs += 1;
        let candidate = format!("e{}", self.epochs);
        self.steps.push(Step::Hello { inc, candidate, known: known.to_owned() });
    }

    /// A node comes, or comes back under a new name.
    fn arrive(&mut self, slot: usize) {
        self.current[slot] += 1;
        self.silent[slot] = false;
        let inc = self.inc(slot);
        self.all.push(inc.clone());
        self.hello(inc, "");
    }

    fn pass(&mut self, ms: i64) {
        self.now += ms;
        self.steps.push(Step::Clock(self.now));
    }

    /// All who are not silent beat.
    fn beat(&mut self) {
        for slot in 0..SLOTS {
            if !self.silent[slot] {
                let (connections, leads) = ([self.dice.roll(3), self.dice.roll(3)], !self.dice.one_in(4));
                self.steps.push(Step::Beat { inc: self.inc(slot), connections, leads });
            }
        }
    }

    /// Mostly a name in use; sometimes one that was, as of a node that does not know yet.
    fn any(&mut self) -> String {
        let slot = self.dice.roll(SLOTS as u64) as usize;
        if self.dice.one_in(6) { self.dice.pick(&self.all) } else { self.inc(slot) }
    }

    fn chance(&mut self) {
        let (slot, inc, ac) = (self.dice.roll(SLOTS as u64) as usize, self.any(), self.dice.pick(&CHANNELS));
        let user = self.dice.pick(&USERS);
        match self.dice.roll(100) {
            0..28 => {
                let info = self.dice.pick(&INFOS);
                let (known, max) = (self.dice.one_in(2), self.dice.pick(&[0, 0, 2, 3]));
                let again = self.loses_data && self.dice.one_in(4);
                self.steps.push(Step::Join { inc, ac, user, info, known, max, again });
            }
            28..44 => self.steps.push(Step::Leave { inc, ac, user }),
            44..58 => {
                // Channels of users are nobody's to count.
                let (ac, n) = (self.dice.pick(&CHANNELS[..3]), self.dice.pick(&[0, 0, 1, 2, 80, 150]));
                let again = self.loses_data && self.dice.one_in(4);
                self.steps.push(Step::Count { inc, ac, n, announce: self.dice.one_in(2), again });
            }
            58..62 => self.steps.push(Step::Roster(ac)),
            62..74 => {
                let pass = self.dice.roll(1_200) as i64;
                self.pass(pass);
                self.beat();
            }
            74..78 => {
                // A pause of all, a step of the clock, or time for somebody to be dead.
                let pass = self.dice.roll(5_000) as i64 - if self.evicts { 0 } else { 1_000 };
                self.pass(pass);
            }
            78..86 => {
                let (ttl, limit) = (!self.dice.one_in(5), self.dice.pick(&[1, 2, 3, 500]));
                let names_apps = self.dice.one_in(2);
                self.steps.push(Step::Reap { inc, ttl, limit, names_apps });
            }
            86..90 => self.silent[slot] = !self.silent[slot],
            90..93 => self.arrive(slot),
            93..95 => {
                let known = if self.dice.one_in(4) { "old".to_owned() } else { self.run.clone() };
                self.hello(inc, &known);
            }
            95 if self.loses_data => self.steps.push(Step::Flush),
            96 if self.loses_data => self.steps.push(Step::Save),
            97 if self.loses_data => {
                // Nodes call nothing on a new link before HELLO, and the first one begins an epoch.
                self.steps.push(Step::Load);
                self.hello(inc, "old");
            }
            98 => self.steps.push(Step::ForgetScripts),
            99 if self.evicts => {
                // A version begins at the time in ms: later than it was, where there are fewer changes than that.
                self.pass(100);
                self.steps.push(Step::Evict(ac));
            }
            _ => {}
        }
        if self.steps.last().is_some_and(Step::may_be_repeated) && self.dice.one_in(4) {
            self.steps.push(Step::Again);
        }
    }

    /// All die but one, and it takes out what they left, some a call, while another reaps with it.
    fn settle(&mut self) {
        self.silent = [false, true, true];
        self.arrive(0);
        let survivor = self.inc(0);
        for _ in 0..9 {
            self.pass(1_000);
            self.beat();
        }
        for limit in [3, 500, 500] {
            for inc in self.all.clone().into_iter().filter(|inc| *inc != survivor) {
                self.steps.push(Step::Reap { inc, ttl: true, limit, names_apps: limit == 3 });
            }
        }
        self.pass(4_000);
        self.beat();
    }
}

/// What a node hears of a channel from the scripts.
#[derive(Clone, PartialEq, Debug)]
enum Said {
    Roster(Version, Change),
    Count(u64),
}

/// What a history did, as the server tells it: for each step its answers, the keys after it, and what was heard in it.
struct Told {
    answer: Vec<Value>,
    changed: Value,
    heard: Vec<(String, Said)>,
}

/// Read as nodes do it.
fn read(payload: &[u8]) -> Said {
    match wire::decode(payload, 1 << 20) {
        Ok(Message::Roster(version, change)) => Said::Roster(version, change),
        Ok(Message::Count(n)) => Said::Count(n),
        other => panic!("a script said {other:?}"),
    }
}

fn spelled(kind: &str, value: &Value) -> String {
    let list = |value: &Value| fields(value).unwrap_or_default().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let pairs = |value: &Value, between: &str| {
        let list = list(value);
        list.chunks_exact(2).map(|pair| format!("{}{between}{}", pair[0], pair[1])).collect::<BTreeSet<_>>()
    };
    let joined = |parts: BTreeSet<String>| parts.into_iter().collect::<Vec<_>>().join(" ");
    match kind {
        "hash" => joined(pairs(value, "=")),
        "set" => joined(list(value).into_iter().collect()),
        "zset" => joined(pairs(value, "@")),
        "stream" => {
            let entries = array(value.clone()).into_iter().map(|entry| array(entry).pop().unwrap_or_default());
            entries.map(|entry| joined(pairs(&entry, "="))).collect::<Vec<_>>().join(" / ")
        }
        _ => text(value).unwrap_or_default().to_owned(),
    }
}

/// Brings what is known of the keys up to date. Returns which ones changed.
fn note(keys: &mut Dump, changed: Value) -> Vec<String> {
    let mut names = Vec::new();
    for entry in array(changed) {
        let parts = array(entry);
        let (key, kind) = (text(&parts[0]).unwrap(), text(&parts[1]).unwrap());
        let now = (kind != "none").then(|| spelled(kind, &parts[2]));
        let before = match &now {
            Some(now) => keys.insert(key.to_owned(), now.clone()),
            None => keys.remove(key),
        };
        if before != now {
            names.push(key.to_owned());
        }
    }
    names
}

#[tokio::test]
async fn every_call_of_the_presence_scripts_does_what_the_model_says() {
    let server = Server::start().await;
    let (mut connection, heard) = hearing(&server).await;
    let scripts = timed_scripts();
    scripts.load(&mut connection).await.unwrap();
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await.unwrap();
    let run = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap().trim().to_owned();
    let (mut histories, mut calls, mut announced) = (0, 0, 0);
    for seed in seeds(RUNS) {
        let history = Chronicle::write(seed.0, &run);
        let mut pipeline = Pipeline::new();
        pipeline.cmd("FLUSHALL");
        let (mut now, mut lengths, mut last) = (BEGIN, Vec::new(), &history.steps[0]);
        for step in &history.steps {
            if let Step::Clock(at) = step {
                now = *at;
            }
            last = if matches!(step, Step::Again) { last } else { step };
            lengths.push(last.spell(&scripts, now, &mut pipeline));
            pipeline.cmd("EVAL").arg(CHANGED).arg(0).cmd("PUBLISH").arg("step").arg("");
        }
        let count = pipeline.len();
        let mut answers = connection.send_packed_commands(&pipeline, 0, count).await.unwrap().into_iter().skip(1);
        let all = std::mem::take(&mut *heard.lock().unwrap());
        let mut by_step = all.split(|(topic, _)| topic == "step");
        let told = lengths.into_iter().map(|length| {
            let answer = answers.by_ref().take(length).collect();
            let changed = answers.next().unwrap();
            answers.next();
            let of_step = by_step.next().unwrap().iter();
            Told { answer, changed, heard: of_step.map(|(topic, payload)| (topic.clone(), read(payload))).collect() }
        });
        let told: Vec<_> = told.collect();
        calls += told.len();
        announced += told.iter().map(|told| told.heard.len()).sum::<usize>();
        check(&history, told, &run);
        histories += 1;
    }
    println!("{histories} histories, {calls} calls, {announced} announcements");
}

fn check(history: &Chronicle, told: Vec<Told>, run: &str) {
    let (mut model, mut saved, mut last) = (Model::new(run), None, &history.steps[0]);
    let (mut keys, mut heard) = (Dump::new(), Vec::new());
    for (place, (step, mut told)) in history.steps.iter().zip(told).enumerate() {
        if matches!(step, Step::Flush) {
            keys.clear();
        }
        let changed = note(&mut keys, std::mem::take(&mut told.changed));
        if matches!(step, Step::Again) {
            assert!(changed.is_empty(), "step {place}: {last:?} once more changed {changed:?}");
            assert!(told.heard.is_empty(), "step {place}: {last:?} once more was announced once more");
        } else {
            last = step;
        }
        model.take(last, &told, &keys, &mut saved, &format!("step {place}, {step:?} ({last:?})"));
        heard.append(&mut told.heard);
    }
    let survivor = history.inc(0);
    for inc in history.all.iter().filter(|inc| **inc != survivor) {
        let words = |text: &str| text.split([' ', ':', '=', '@']).any(|word| word == inc);
        let left = keys.iter().find(|(key, held)| words(key) || words(held));
        assert_eq!(left, None, "{inc} is dead and reaped");
    }
    check_versions(history, &heard);
    if !history.loses_data {
        check_jobs(&keys);
    }
}

/// Of what was heard alone: versions of one channel rise by one, never repeat under one epoch, and joins and leaves of a
/// user take turns.
fn check_versions(history: &Chronicle, heard: &[(String, Said)]) {
    let mut last: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut present = BTreeSet::new();
    for (topic, said) in heard {
        let Said::Roster(version, change) = said else { continue };
        if let Some(before) = last.insert((topic, &version.epoch), version.number) {
            assert!(version.number > before, "{topic}: {version:?} after {before}");
            assert!(history.evicts || version.number == before + 1, "{topic}: {version:?} after {before}");
        }
        if history.loses_data || history.evicts {
            continue;
        }
        let turns = match change {
            Change::Joined(member) => present.insert((topic, member.id.clone())),
            Change::Left(user) => present.remove(&(topic, user.clone())),
        };
        assert!(turns, "{topic}: {change:?} twice");
    }
}

/// Of the jobs alone: a beginning and its end take turns, a channel and a user each.
fn check_jobs(keys: &Dump) {
    let mut begun = BTreeSet::new();
    let jobs = keys.get(&format!("{S}:wh:one")).map_or("", |jobs| jobs);
    for job in jobs.split(" / ").filter(|job| !job.is_empty()) {
        let of = |name: &str| job.split(name).nth(1).map(|rest| rest.to_owned()).unwrap_or_default();
        let (letter, channel) = (of("k="), of("c="));
        let (letter, channel) = (&letter[..1], channel.split(' ').next().unwrap().to_owned());
        let (kind, turns) = match letter {
            "o" | "a" => (letter == "o", begun.insert((letter == "o", channel.clone(), of("u=")))),
            "v" | "r" => (letter == "v", begun.remove(&(letter == "v", channel.clone(), of("u=")))),
            _ => continue,
        };
        assert!(turns, "{channel}, of the channel itself: {kind}: {letter} out of turn in {jobs}");
    }
}
