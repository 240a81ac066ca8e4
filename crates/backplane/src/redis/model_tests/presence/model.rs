//! What the scripts promise, in sets and sums.

use std::collections::{BTreeMap, BTreeSet};

use model::{Member, RawJson};
use redis::Value;

use super::{APPS, DELAY, Dump, GAP, QUIET, S, Said, Step, TTL, Told, array, fields, text, topic, wants};
use crate::roster::{Change, Version};

/// More subscriptions than that are told of once in so many ms.
const LARGE: (u64, i64) = (100, 5_000);

/// What holds for the data as a whole.
#[derive(Clone, Debug)]
struct Whole {
    epoch: String,
    run: String,
    any: i64,
    quiet_until: i64,
    leads: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
struct Numbered {
    epoch: String,
    number: u64,
    topic: bool,
}

#[derive(Clone, Default, Debug)]
pub(super) struct Model {
    now: i64,
    run: String,
    whole: Option<Whole>,
    living: BTreeMap<String, i64>,
    dying: BTreeSet<String>,
    /// Channel, user, incarnation.
    present: BTreeSet<(String, String, String)>,
    /// Incarnation and channel where it has members, or had when it was taken for dead.
    indexed: BTreeSet<(String, String)>,
    infos: BTreeMap<(String, String), String>,
    versions: BTreeMap<String, Numbered>,
    /// Channel and incarnation.
    counts: BTreeMap<(String, String), u64>,
    /// What subscribers were told last, and when.
    told: BTreeMap<String, (u64, i64)>,
    connections: BTreeMap<(String, String), u64>,
    apps: BTreeSet<String>,
    /// App and entry: when.
    late: BTreeMap<(String, String), i64>,
    jobs: BTreeMap<String, Vec<String>>,
    /// Of the call under way.
    said: Vec<(String, Said)>,
}

fn app(ac: &str) -> String {
    ac.split(':').next().unwrap().to_owned()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Nil => "-".to_owned(),
        Value::Int(n) => n.to_string(),
        Value::Array(parts) => format!("[{}]", parts.iter().map(shown).collect::<Vec<_>>().join(" ")),
        other => text(other).map_or_else(|| format!("{other:?}"), str::to_owned),
    }
}

impl Model {
    pub(super) fn new(run: &str) -> Self {
        Self { run: run.to_owned(), ..Self::default() }
    }

    /// A step happened: it was answered, kept and announced as promised, or this panics.
    pub(super) fn take(&mut self, step: &Step, told: &Told, held: &Dump, saved: &mut Option<Self>, place: &str) {
        self.said.clear();
        let answer = told.answer.first().unwrap();
        let expected = match step {
            Step::Clock(now) => {
                self.now = *now;
                "OK".to_owned()
            }
            Step::Hello { inc, candidate, known } => self.hello(inc, candidate, known),
            Step::Beat { inc, connections, leads } => self.beat(inc, connections, *leads, answer),
            Step::Join { inc, ac, user, info, known, max, again } => {
                let expected = self.join(inc, ac, user, info, *max, *again);
                self.with_roster(expected, ac, (!known).then_some(answer), 5, place)
            }
            Step::Leave { inc, ac, user } => self.leave(inc, ac, user),
            Step::Count { inc, ac, n, announce, again } => self.count(inc, ac, *n, *announce, *again),
            Step::Roster(_) if self.whole.is_none() => "FENCED".to_owned(),
            Step::Roster(ac) => {
                let (epoch, number) = self.version(ac);
                let expected = format!("OK {epoch} {number} {}", self.removals_in());
                self.with_roster(expected, ac, Some(answer), 4, place)
            }
            Step::Reap { inc, ttl, limit, names_apps } => {
                self.reap(inc, *ttl, *limit, *names_apps, (told, held), place)
            }
            Step::Flush => {
                *self = Self { now: self.now, run: self.run.clone(), ..Self::default() };
                "OK".to_owned()
            }
            Step::Save => {
                *saved = Some(self.clone());
                "-".to_owned()
            }
            Step::Load => {
                let (now, run) = (self.now, self.run.clone());
                *self = Self { now, run, ..saved.clone().unwrap_or_default() };
                self.whole.iter_mut().for_each(|whole| whole.run = "another".to_owned());
                "-".to_owned()
            }
            Step::ForgetScripts => {
                assert!(matches!(&told.answer[1], Value::ServerError(error) if error.code() == "NOSCRIPT"), "{place}");
                "OK".to_owned()
            }
            Step::Evict(ac) => i32::from(self.versions.remove(*ac).is_some()).to_string(),
            Step::Again => unreachable!(),
        };
        let is_list = matches!(answer, Value::Array(_));
        let expected = if is_list { format!("[{expected}]") } else { expected };
        assert_eq!(shown(answer), expected, "{place}: answered, and should have been");
        assert_eq!(told.heard, self.said, "{place}: announced, and should have been");
        let keys = self.keys();
        if *held != keys {
            let key = keys.keys().chain(held.keys()).find(|key| held.get(*key) != keys.get(*key)).unwrap();
            assert_eq!(held.get(key), keys.get(key), "{place}: {key} holds, and should hold");
        }
    }

    fn hello(&mut self, inc: &str, candidate: &str, known: &str) -> String {
        let (now, run) = (self.now, self.run.clone());
        let fresh = || Whole {
            epoch: candidate.to_owned(),
            run: run.clone(),
            any: now,
            quiet_until: now + QUIET,
            leads: BTreeMap::new(),
        };
        let whole = self.whole.get_or_insert_with(fresh);
        if whole.run != run {
            *whole = Whole { any: whole.any, leads: std::mem::take(&mut whole.leads), ..fresh() };
        }
        if !known.is_empty() && (known != run || !self.living.contains_key(inc)) {
            return format!("RENEW {run}");
        }
        let epoch = whole.epoch.clone();
        self.living.insert(inc.to_owned(), now);
        format!("OK {run} {epoch}")
    }

    fn beat(&mut self, inc: &str, connections: &[u64; 2], leads: bool, answer: &Value) -> String {
        if !self.living.contains_key(inc) {
            return "FENCED".to_owned();
        }
        let now = self.now;
        let whole = self.whole.as_mut().unwrap();
        if now - whole.any > GAP {
            whole.quiet_until = now + QUIET;
        }
        whole.any = now;
        self.living.insert(inc.to_owned(), now);
        let mut told = Vec::new();
        for ((name, wanted), n) in APPS.iter().zip(connections) {
            self.connections.remove(&((*name).to_owned(), inc.to_owned()));
            if *n > 0 {
                self.connections.insert(((*name).to_owned(), inc.to_owned()), *n);
                self.apps.insert((*name).to_owned());
            }
            let all: u64 = self.connections.iter().filter(|((app, _), _)| app == name).map(|(_, n)| n).sum();
            self.tell_ends(name, wanted);
            let is_leader = self.choose_leader(inc, name, leads && !wanted.is_empty());
            told.push(format!("{all} {}", u8::from(is_leader)));
        }
        // In the order of their last beats; nobody lists so many that the limit of ten matters.
        let mut dead: Vec<_> = self.dying.iter().cloned().collect();
        if self.removals_in() == 0 {
            dead.extend(self.living.iter().filter(|(_, beat)| **beat < now - TTL).map(|(inc, _)| inc.clone()));
        }
        let mut listed: Vec<_> = array(array(answer.clone())[1].clone()).iter().map(shown).collect();
        let in_order = listed.join(" ");
        listed.sort();
        dead.sort();
        assert_eq!(listed, dead, "the dead that a beat of {inc} lists, and should list");
        format!("OK [{in_order}] {} 0 [{}]", self.living.len(), told.join(" "))
    }

    /// Ends whose time has come become jobs.
    fn tell_ends(&mut self, name: &str, wanted: &str) {
        let due = self.late.iter().filter(|((app, _), at)| app == name && **at <= self.now);
        let mut due: Vec<_> = due.map(|((_, entry), at)| (*at, entry.clone())).collect();
        due.sort();
        for (_, entry) in due {
            self.late.remove(&(name.to_owned(), entry.clone()));
            let mut parts = entry.splitn(3, '|');
            let (letter, ac, user) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
            if wanted.contains(letter) {
                self.job(ac, letter, &format!("u={user}"));
            }
        }
    }

    /// One that lives tells an app's webhooks, as long as it beats and can.
    fn choose_leader(&mut self, inc: &str, name: &str, can: bool) -> bool {
        let (now, living) = (self.now, &self.living);
        let leads = &mut self.whole.as_mut().unwrap().leads;
        let lives = |leader: &String| living.get(leader).is_some_and(|beat| now - beat <= TTL);
        if can && !leads.get(name).is_some_and(lives) {
            leads.insert(name.to_owned(), inc.to_owned());
        } else if !can && leads.get(name).is_some_and(|leader| leader == inc) {
            leads.remove(name);
        }
        leads.get(name).is_some_and(|leader| leader == inc)
    }

    fn join(&mut self, inc: &str, ac: &str, user: &str, info: &str, max: u64, again: bool) -> String {
        if !self.living.contains_key(inc) {
            return "FENCED".to_owned();
        }
        let is_new = !self.is_present(ac, user);
        if is_new && max > 0 && self.users(ac).len() as u64 >= max {
            return "FULL".to_owned();
        }
        let (mut epoch, mut number) = self.version(ac);
        self.versions.get_mut(ac).unwrap().topic = true;
        self.indexed.insert((inc.to_owned(), ac.to_owned()));
        self.present.insert((ac.to_owned(), user.to_owned(), inc.to_owned()));
        if is_new {
            self.infos.insert((ac.to_owned(), user.to_owned()), info.to_owned());
            self.began(ac, "a", "r", user, again);
            let member = Member { id: user.into(), info: RawJson::parse(info) };
            (epoch, number) = self.announce(ac, Change::Joined(member));
        }
        format!("OK {epoch} {number} {} {}", u8::from(is_new), self.removals_in())
    }

    /// What is behind the answer's fixed part: the roster, in any order, where one was to come.
    fn with_roster(&self, expected: String, ac: &str, roster: Option<&Value>, at: usize, place: &str) -> String {
        let Some(answer) = roster.filter(|_| expected.starts_with("OK")) else { return expected };
        let parts = array(answer.clone());
        let pairs = fields(&parts[at]).unwrap();
        let listed: BTreeMap<_, _> =
            pairs.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect();
        assert_eq!(listed, self.roster(ac), "{place}: the roster");
        format!("{expected} {}", shown(&parts[at]))
    }

    fn leave(&mut self, inc: &str, ac: &str, user: &str) -> String {
        if !self.living.contains_key(inc) {
            return "FENCED".to_owned();
        }
        if self.present.contains(&(ac.to_owned(), user.to_owned(), inc.to_owned())) {
            self.release(inc, ac, user, wants(ac));
            if !self.present.iter().any(|(at, _, through)| at == ac && through == inc) {
                self.indexed.remove(&(inc.to_owned(), ac.to_owned()));
            }
        }
        "OK".to_owned()
    }

    fn count(&mut self, inc: &str, ac: &str, n: u64, announce: bool, again: bool) -> String {
        if !self.living.contains_key(inc) {
            return "FENCED".to_owned();
        }
        let after = self.set_count(inc, ac, n, wants(ac), again);
        if !wants(ac).contains(['s', 'c']) {
            return "OK 0".to_owned();
        }
        let later = !announce || self.tell_count(ac, after, n == 0);
        format!("OK {}", u8::from(later))
    }

    /// Which of the dead one's users come first is the server's choice, so that is taken from what it did; that they may be
    /// taken, and what follows from it, is not.
    fn reap(
        &mut self,
        inc: &str,
        ttl: bool,
        limit: u64,
        names_apps: bool,
        (told, held): (&Told, &Dump),
        place: &str,
    ) -> String {
        if let Some(beat) = self.living.get(inc) {
            if ttl && (self.removals_in() > 0 || self.now - beat <= TTL) {
                return "-1 0".to_owned();
            }
            self.living.remove(inc);
            self.dying.insert(inc.to_owned());
        } else if !self.dying.contains(inc) {
            return "0 0".to_owned();
        }
        self.connections.retain(|(app, of), _| of != inc || !self.apps.contains(app));
        let set_of = |ac: &str| match APPS.iter().find(|(name, _)| *name == app(ac)) {
            Some((_, wanted)) if names_apps => *wanted,
            _ => "ovar",
        };
        let through = |keys: &Dump| {
            let set = |ac: &str| keys.get(&format!("{S}:pn:{ac}:{inc}")).cloned().unwrap_or_default();
            self.indexed
                .iter()
                .filter(|(of, _)| of == inc)
                .map(|(_, ac)| (ac.clone(), set(ac)))
                .collect::<BTreeMap<_, _>>()
        };
        let left = through(held);
        let mine = self.present.iter().filter(|(_, _, of)| of == inc);
        let stays = |ac: &str, user: &str| left[ac] == user || format!(" {} ", left[ac]).contains(&format!(" {user} "));
        let gone: Vec<_> = mine.filter(|(ac, user, _)| !stays(ac, user)).cloned().collect();
        let announced = |ac: &str, user: &str| {
            let left = Change::Left(user.into());
            told.heard
                .iter()
                .position(|(at, said)| *at == topic(ac) && matches!(said, Said::Roster(_, c) if *c == left))
        };
        let mut ordered: Vec<_> =
            gone.iter().map(|(ac, user, _)| (announced(ac, user), ac.clone(), user.clone())).collect();
        ordered.sort();
        for (_, ac, user) in &ordered {
            let set = if ac.contains(":#") { "" } else { set_of(ac) };
            self.release(inc, ac, user, set);
        }
        let index = held.get(&format!("{S}:pidx:{inc}")).cloned().unwrap_or_default();
        let before = self.indexed.len();
        self.indexed.retain(|(of, ac)| of != inc || index.split(' ').any(|at| at == ac));
        let mut steps = (ordered.len() + before - self.indexed.len()) as u64;
        for (ac, at) in &left {
            assert!(at.is_empty() || index.split(' ').any(|indexed| indexed == ac), "{place}: users without an index");
        }
        let counted = held.get(&format!("{S}:idx:{inc}")).cloned().unwrap_or_default();
        let zeroed = self.counts.keys().filter(|(ac, of)| of == inc && !counted.split(' ').any(|at| at == ac));
        let heard =
            |ac: &str| told.heard.iter().position(|(at, said)| *at == topic(ac) && matches!(said, Said::Count(_)));
        let mut zeroed: Vec<_> = zeroed.map(|(ac, _)| (heard(ac), ac.clone())).collect();
        zeroed.sort();
        assert!(zeroed.is_empty() || index.is_empty(), "{place}: presence comes first");
        for (_, ac) in &zeroed {
            let after = self.set_count(inc, ac, 0, set_of(ac), false);
            if self.told.contains_key(ac) {
                self.tell_count(ac, after, true);
            }
        }
        steps += zeroed.len() as u64;
        let left = self.indexed.iter().filter(|(of, _)| of == inc).count();
        let left = left + self.counts.keys().filter(|(_, of)| of == inc).count();
        assert!(steps == limit || (steps < limit && left == 0), "{place}: {steps} steps of {limit}, {left} left");
        if left == 0 {
            self.dying.remove(inc);
        }
        format!("{left} {}", ordered.len())
    }

    // What the calls have in common.

    fn removals_in(&self) -> i64 {
        self.whole.as_ref().map_or(0, |whole| (whole.quiet_until - self.now).max(0))
    }

    fn is_present(&self, ac: &str, user: &str) -> bool {
        self.present.iter().any(|(at, who, _)| at == ac && who == user)
    }

    fn users(&self, ac: &str) -> BTreeSet<&str> {
        self.present.iter().filter(|(at, ..)| at == ac).map(|(_, user, _)| &**user).collect()
    }

    fn roster(&self, ac: &str) -> BTreeMap<String, String> {
        let of = self.infos.iter().filter(|((at, _), _)| at == ac);
        of.map(|((_, user), info)| (user.clone(), info.clone())).collect()
    }

    /// A new one begins at the time.
    fn version(&mut self, ac: &str) -> (String, u64) {
        let epoch = self.whole.as_ref().map(|whole| whole.epoch.clone()).unwrap_or_default();
        if self.versions.get(ac).is_none_or(|known| known.epoch != epoch) {
            let topic = self.versions.get(ac).is_some_and(|known| known.topic);
            self.versions.insert(ac.to_owned(), Numbered { epoch, number: self.now as u64, topic });
        }
        let numbered = &self.versions[ac];
        (numbered.epoch.clone(), numbered.number)
    }

    fn announce(&mut self, ac: &str, change: Change) -> (String, u64) {
        let (epoch, _) = self.version(ac);
        let numbered = self.versions.get_mut(ac).unwrap();
        numbered.number += 1;
        let number = numbered.number;
        if numbered.topic {
            let version = Version { epoch: epoch.as_str().into(), number };
            self.said.push((topic(ac), Said::Roster(version, change)));
        }
        (epoch, number)
    }

    fn release(&mut self, inc: &str, ac: &str, user: &str, set: &str) {
        self.present.remove(&(ac.to_owned(), user.to_owned(), inc.to_owned()));
        if !self.is_present(ac, user) {
            self.infos.remove(&(ac.to_owned(), user.to_owned()));
            self.ends(ac, "r", user, set);
            self.announce(ac, Change::Left(user.into()));
        }
    }

    fn ends(&mut self, ac: &str, letter: &str, user: &str, set: &str) {
        if set.contains(['o', 'v', 'a', 'r']) {
            self.late.insert((app(ac), format!("{letter}|{ac}|{user}")), self.now + DELAY);
        }
    }

    fn began(&mut self, ac: &str, letter: &str, ended: &str, user: &str, again: bool) {
        let waits = self.late.remove(&(app(ac), format!("{ended}|{ac}|{user}"))).is_some();
        if !waits && wants(ac).contains(letter) && !again {
            self.job(ac, letter, &format!("u={user}"));
        }
    }

    fn job(&mut self, ac: &str, letter: &str, more: &str) {
        let channel = ac.split_once(':').unwrap().1;
        let fields = [format!("k={letter}"), format!("c={channel}"), format!("t={}", self.now), more.to_owned()];
        let fields: BTreeSet<_> = fields.into_iter().collect();
        let job = fields.into_iter().collect::<Vec<_>>().join(" ");
        self.jobs.entry(app(ac)).or_default().push(job);
    }

    fn subscriptions(&self, ac: &str) -> u64 {
        self.counts.iter().filter(|((at, _), _)| at == ac).map(|(_, n)| n).sum()
    }

    fn set_count(&mut self, inc: &str, ac: &str, n: u64, set: &str, again: bool) -> u64 {
        let before = self.subscriptions(ac);
        self.counts.remove(&(ac.to_owned(), inc.to_owned()));
        if n > 0 {
            self.counts.insert((ac.to_owned(), inc.to_owned()), n);
        }
        let after = self.subscriptions(ac);
        match (before, after) {
            (0, 1..) => self.began(ac, "o", "v", "", again),
            (1.., 0) => self.ends(ac, "v", "", set),
            _ => {}
        }
        after
    }

    /// True when it is too early.
    fn tell_count(&mut self, ac: &str, after: u64, now_or_never: bool) -> bool {
        let last = self.told.get(ac).copied();
        if last.map_or(after == 0, |(n, _)| n == after) {
            return false;
        }
        if after > LARGE.0 && last.is_some_and(|(_, at)| self.now - at < LARGE.1) && !now_or_never {
            return true;
        }
        self.told.remove(ac);
        if after > 0 {
            self.told.insert(ac.to_owned(), (after, self.now));
        }
        self.job(ac, "c", &format!("n={after}"));
        self.said.push((topic(ac), Said::Count(after)));
        false
    }

    /// Every key that there should be.
    fn keys(&self) -> Dump {
        let mut parts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut put = |key: String, part: String| _ = parts.entry(format!("{S}:{key}")).or_default().insert(part);
        if let Some(Whole { epoch, run, any, quiet_until, leads }) = &self.whole {
            for (field, held) in
                [("e", epoch), ("run", run), ("any", &any.to_string()), ("nb", &quiet_until.to_string())]
            {
                put("g".into(), format!("{field}={held}"));
            }
            leads.iter().for_each(|(app, inc)| put("g".into(), format!("lead:{app}={inc}")));
        }
        self.living.iter().for_each(|(inc, beat)| put("nodes".into(), format!("{inc}@{beat}")));
        self.dying.iter().for_each(|inc| put("dead".into(), inc.clone()));
        self.indexed.iter().for_each(|(inc, ac)| put(format!("pidx:{inc}"), ac.clone()));
        for (ac, user, inc) in &self.present {
            put(format!("pn:{ac}:{inc}"), user.clone());
            let through = self.present.iter().filter(|(at, who, _)| at == ac && who == user).count();
            put(format!("u:{ac}"), format!("{user}={through}"));
        }
        self.infos.iter().for_each(|((ac, user), info)| put(format!("i:{ac}"), format!("{user}={info}")));
        for (ac, Numbered { epoch, number, topic: known }) in &self.versions {
            put(format!("v:{ac}"), format!("e={epoch}"));
            put(format!("v:{ac}"), format!("v={number}"));
            if *known {
                put(format!("v:{ac}"), format!("t={}", topic(ac)));
            }
        }
        for ((ac, inc), n) in &self.counts {
            put(format!("c:{ac}"), format!("{inc}={n}"));
            put(format!("idx:{inc}"), ac.clone());
            put(format!("a:{}", app(ac)), format!("{}={}", ac.split_once(':').unwrap().1, self.subscriptions(ac)));
        }
        for (ac, (n, at)) in &self.told {
            for field in [format!("n={n}"), format!("at={at}"), format!("t={}", topic(ac)), format!("w={}", wants(ac))]
            {
                put(format!("p:{ac}"), field);
            }
        }
        self.connections.iter().for_each(|((app, inc), n)| put(format!("n:{app}"), format!("{inc}={n}")));
        self.apps.iter().for_each(|app| put("apps".into(), app.clone()));
        self.late.iter().for_each(|((app, entry), due)| put(format!("late:{app}"), format!("{entry}@{due}")));
        let joined = |(key, parts): (String, BTreeSet<String>)| (key, parts.into_iter().collect::<Vec<_>>().join(" "));
        let mut keys: Dump = parts.into_iter().map(joined).collect();
        keys.extend(self.jobs.iter().map(|(app, jobs)| (format!("{S}:wh:{app}"), jobs.join(" / "))));
        keys
    }
}
