//! One layer of settings: what the file says, or the environment, or the flags.
//!
//! A layer holds only values that fit the table; all else becomes a problem at the moment it is read. The `config` crate
//! then decides which layer's value holds (`values.rs`).

use super::problem::{Problem, nearest};
use super::source::Source;
use super::table::{self, Row, Scope};
use super::value::{Scalar, Written};

#[derive(Default, Debug)]
pub(crate) struct Layer {
    pub values: Vec<(String, Scalar, Source)>,
    /// The apps that the layer names, with the place of the first mention.
    pub apps: Vec<(String, Source)>,
    /// The tables of webhooks that the layer names: `apps.main.webhooks.audit`.
    pub webhooks: Vec<(String, Source)>,
    pub problems: Vec<Problem>,
    /// What stops nothing and is worth a second look.
    pub notes: Vec<Problem>,
    /// Where the application looks for us, by its own settings.
    pub laravel_port: Option<(u16, Source)>,
    /// Why nothing of what Laravel says comes here, and what to write instead.
    pub unheard: Option<(Problem, String)>,
}

impl Layer {
    /// Takes a value for a known setting.
    pub(crate) fn take(&mut self, name: &str, row: &Row, written: &Written, source: Source) {
        match row.read(written) {
            Ok(scalar) => self.values.push((name.to_owned(), scalar, source)),
            Err(text) => self.problems.push(Problem::new(source, name, text)),
        }
    }

    /// Takes out the values of these names and sources, to be laid elsewhere.
    pub(crate) fn split_off(&mut self, goes: impl Fn(&str, &Source) -> bool) -> Self {
        let all = std::mem::take(&mut self.values);
        let (gone, stay) = all.into_iter().partition(|(name, _, source)| goes(name, source));
        self.values = stay;
        Self { values: gone, ..Self::default() }
    }

    /// Notes that an app is configured here. False when it cannot have this name.
    pub(crate) fn take_app(&mut self, app: &str, source: Source) -> bool {
        let fits = self.check_name(app, &format!("apps.{app}"), "an app's", &source);
        if fits && !self.apps.iter().any(|(known, _)| known == app) {
            self.apps.push((app.to_owned(), source));
        }
        fits
    }

    /// Notes that an app that was taken has this webhook. False when it cannot have this name.
    pub(crate) fn take_webhook(&mut self, app: &str, webhook: &str, source: Source) -> bool {
        let table = format!("apps.{app}.webhooks.{webhook}");
        let fits = self.check_name(webhook, &table, "a webhook's", &source);
        if fits && !self.webhooks.iter().any(|(known, _)| *known == table) {
            self.webhooks.push((table, source));
        }
        fits
    }

    fn check_name(&mut self, name: &str, table: &str, whose: &str, source: &Source) -> bool {
        let fits = !name.is_empty()
            && !name.contains("__")
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
        if !fits {
            let text = format!(
                "cannot be {whose} name here; write lower-case letters, digits, `-` and `_` (not two in a row), so that \
                 the environment can name it too"
            );
            self.problems.push(Problem::new(source, table, text));
        }
        fits
    }

    /// The environment's layer. Takes all variables; those that do not concern us are passed over.
    pub(crate) fn from_environment(variables: impl Iterator<Item = (String, Option<String>)>) -> Self {
        let mut layer = Self::default();
        let mut ours: Vec<_> = variables.filter(|(name, _)| name.starts_with("FANFARE_")).collect();
        ours.sort();
        for (variable, text) in ours {
            layer.take_variable(variable, text);
        }
        layer
    }

    fn take_variable(&mut self, variable: String, text: Option<String>) {
        let source = Source::Environment(variable.clone());
        let path = variable["FANFARE_".len()..].to_lowercase();
        if !path.contains("__") {
            // Kubernetes sets FANFARE_PORT, FANFARE_SERVICE_HOST and the like in every pod beside a service of our name:
            // no mistake of anyone's. One underscore where two belong is.
            let slip = |row: &&Row| row.name.replace('.', "_") == path;
            if let Some(row) = table::node_rows().find(slip) {
                let text = format!("is not read; write two underscores: {}", table::variable(row.name));
                self.problems.push(Problem::new(source, "", text));
            }
            return;
        }
        let name = path.replace("__", ".");
        let parts: Vec<&str> = name.split('.').collect();
        let Some(row) = table::row_of(&name) else {
            let text = match nearest_name(&name) {
                Some(near) => format!("no such setting; did you mean {}?", table::variable(&near)),
                None => "no such setting; `fanfare print-config --docs` lists all".to_owned(),
            };
            self.problems.push(Problem::new(source, "", text));
            return;
        };
        let scope = row.scope();
        if scope != Scope::Node && !self.take_app(parts[1], source.clone())
            || scope == Scope::Webhook && !self.take_webhook(parts[1], parts[3], source.clone())
        {
            return;
        }
        match text {
            Some(text) => self.take(&name, row, &Written::Plain(text), source),
            None => self.problems.push(Problem::new(source, &name, "is not UTF-8; write plain text")),
        }
    }

    /// The flags' layer.
    pub(crate) fn from_flags(flags: &[(&'static str, &'static str, String)]) -> Self {
        let mut layer = Self::default();
        for (flag, name, text) in flags {
            match table::row_of(name) {
                Some(row) => layer.take(name, row, &Written::Plain(text.clone()), Source::Flag(flag)),
                None => layer.problems.push(Problem::new(Source::Flag(flag), name, "no such setting")),
            }
        }
        layer
    }
}

/// The known name that comes nearest: an app's setting with the same app, a webhook's with the same webhook; else this very key of another section; else the
/// nearest key of this section; else the nearest whole name.
pub(crate) fn nearest_name(name: &str) -> Option<String> {
    let (section, key) = table::split(name);
    if section.starts_with("apps.") && section.contains(".webhooks.") {
        let keys = table::webhook_rows().map(Row::key);
        return nearest(key, keys).map(|key| format!("{section}.{key}"));
    }
    if let Some(app) = section.strip_prefix("apps.") {
        let keys = table::app_rows().filter_map(|row| table::app_key(row.name));
        return nearest(key, keys).map(|key| format!("apps.{app}.{key}"));
    }
    let names = || table::node_rows().map(|row| row.name);
    if let Some(elsewhere) = names().find(|known| table::split(known).1 == key) {
        return Some(elsewhere.to_owned());
    }
    let here = names().map(table::split).filter(|(known, _)| *known == section).map(|(_, key)| key);
    match nearest(key, here) {
        Some(near) => Some(format!("{section}.{near}")),
        None => nearest(name, names()).map(str::to_owned),
    }
}
