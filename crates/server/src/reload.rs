//! The settings read anew while the node runs: what changes about apps is taken, what is wrong changes nothing.
//!
//! The file and the files with secrets are looked at by their content, whatever it is that replaced them: an editor, a
//! copy, a link that was swapped.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::settings::{self, Changes, Flags, Problem, Problems, Settings, Values};

/// A file that has changed is taken when it is still the same after this long: it may be half written.
const SETTLE: Duration = Duration::from_millis(300);

/// What is read anew, and what is known of it.
pub(crate) struct Reload {
    flags: Flags,
    /// With which the process began.
    started: Values,
    /// The last reading that was taken.
    taken: Settings,
    /// Every app that was ever served, with what stands before its channels. Those that are gone may still be heard of.
    prefixes: HashMap<Arc<str>, Vec<Box<str>>>,
    judged: Snapshot,
    /// What was wrong with the last reading, if it was wrong.
    told: Option<Problems>,
}

type Snapshot = Vec<(PathBuf, Result<Vec<u8>, io::ErrorKind>)>;

/// A reading that holds from now on.
pub(crate) struct Reading {
    pub(crate) settings: Settings,
    pub(crate) changes: Changes,
    /// Settings that are different and wait for a restart.
    pub(crate) restart: Vec<&'static str>,
}

impl Reload {
    pub(crate) fn new(flags: Flags, settings: &Settings) -> Self {
        // A file that was there must stay: without it the node would fall back on defaults and drop its apps.
        let flags = flags.with_found_file();
        let mut reload = Self {
            flags,
            started: settings.values.clone(),
            taken: settings.clone(),
            prefixes: HashMap::new(),
            judged: Snapshot::new(),
            told: None,
        };
        reload.remember();
        reload.judged = reload.snapshot();
        reload
    }

    /// True where no file could change.
    pub(crate) fn is_idle(&self) -> bool {
        self.judged.is_empty()
    }

    /// Looks whether something has changed, and reads it. `asked`: by somebody who wants an answer in any case. Blocks.
    pub(crate) fn look(&mut self, asked: bool) -> Option<Result<Reading, Problems>> {
        let seen = self.snapshot();
        if !asked && seen != self.judged {
            std::thread::sleep(SETTLE);
            if self.snapshot() != seen {
                return None;
            }
        } else if !asked && self.told.is_none() {
            return None;
        }
        self.judged = seen;
        match self.read() {
            Ok(settings) => self.take(settings, asked).map(Ok),
            Err(problems) if !asked && self.told.as_ref() == Some(&problems) => None,
            Err(problems) => {
                self.told = Some(problems.clone());
                Some(Err(problems))
            }
        }
    }

    fn take(&mut self, settings: Settings, asked: bool) -> Option<Reading> {
        let changes = settings::changes_of_apps(&self.taken.values, &settings.values);
        let restart = settings::changes_for_a_restart(&self.started, &settings.values);
        let is_same = settings::changes_for_a_restart(&self.taken.values, &settings.values).is_empty();
        // The first is the app of clients that name none.
        let names = |settings: &Settings| -> Vec<String> { settings.apps.iter().map(|app| app.name.clone()).collect() };
        let is_same = is_same && names(&self.taken) == names(&settings);
        let worth_telling = asked || self.told.is_some() || !is_same || changes != Changes::default();
        self.told = None;
        self.taken = settings.clone();
        self.remember();
        worth_telling.then_some(Reading { settings, changes, restart })
    }

    fn remember(&mut self) {
        for named in &self.taken.apps {
            self.prefixes.insert(named.app.id.clone(), prefixes(&named.app));
        }
    }

    fn snapshot(&self) -> Snapshot {
        let paths = [&self.flags.file, &self.flags.env_file, &self.flags.echo_server]
            .into_iter()
            .flatten()
            .cloned()
            .chain(self.taken.values.secret_files());
        let read = |path: PathBuf| {
            let content = std::fs::read(&path).map_err(|error| error.kind());
            (path, content)
        };
        paths.map(read).collect()
    }

    fn read(&self) -> Result<Settings, Problems> {
        let settings = settings::load(&self.flags)?;
        if settings.development && !self.taken.development {
            let text = "is empty: no app is left to serve; write at least one, or stop the node";
            return Err(Problems(vec![Problem::new("", "apps", text)]));
        }
        let problems = self.conflicts(&settings);
        if problems.is_empty() { Ok(settings) } else { Err(Problems(problems)) }
    }

    /// What cannot change under the feet of those who are connected.
    fn conflicts(&self, settings: &Settings) -> Vec<Problem> {
        const RESTART: &str = "that takes a restart of the node";
        let mut found = Vec::new();
        for named in &settings.apps {
            let mut problem = |key: &str, text: String| {
                let key = format!("apps.{}.{key}", named.name);
                found.push(Problem::new(settings.values.source(&key).place(), &key, text));
            };
            let (id, prefixes) = (&named.app.id, prefixes(&named.app));
            if let Some(before) = self.taken.apps.iter().find(|app| app.name == named.name)
                && before.app.id != *id
            {
                problem("id", format!("is {id:?}, and {:?} is being served under this name; {RESTART}", before.app.id));
                continue;
            }
            match self.prefixes.get(id) {
                Some(before) if before[0] != prefixes[0] => {
                    let (now, before) = (&prefixes[0], &before[0]);
                    problem("redis_prefix", format!("is {now:?} and was {before:?} for this app; {RESTART}"));
                }
                Some(before) if *before != prefixes => {
                    problem("also_listen", format!("is not as it was for this app; {RESTART}"));
                }
                Some(_) => {}
                None => {
                    // Those that stay were checked with the rest of the settings.
                    let alike = |a: &str, b: &str| a.starts_with(b) || b.starts_with(a);
                    let begins_alike = |others: &[Box<str>]| {
                        others.iter().any(|other| prefixes.iter().any(|prefix| alike(prefix, other)))
                    };
                    let gone = |id: &str| settings.apps.iter().all(|app| *app.app.id != *id);
                    let clash = self.prefixes.iter().find(|(id, other)| gone(id) && begins_alike(other));
                    if let Some((other, _)) = clash {
                        let prefix = &prefixes[0];
                        let text =
                            format!("{prefix:?} begins like that of app {other}, which was served before; {RESTART}");
                        problem("redis_prefix", text);
                    }
                }
            }
        }
        found
    }
}

/// All that stands before an app's channels, the one of its settings first.
fn prefixes(app: &model::App) -> Vec<Box<str>> {
    std::iter::once(&app.redis_prefix).chain(&app.also_listen).cloned().collect()
}
