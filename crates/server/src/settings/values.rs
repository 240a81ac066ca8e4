//! The values that hold: every setting of the table, with where it came from.
//!
//! The `config` crate lays the layers over each other; a value in it carries its number in our list as its origin, so that
//! the winner's place and exact type are found again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use config::{Config, ConfigError, Map, Source as ConfigSource, Value as ConfigValue, ValueKind};

use super::layer::Layer;
use super::problem::Problem;
use super::source::Source;
use super::table::{self, Fallback};
use super::value::Scalar;

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Value {
    /// `None`: absent.
    pub scalar: Option<Scalar>,
    pub source: Source,
}

/// Every setting by its full name. An app's settings are there for each app.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Values {
    by_name: BTreeMap<String, Value>,
    /// The apps with the place of their first mention, in the order of the layers.
    pub apps: Vec<(String, Source)>,
    /// The tables of their webhooks, likewise: `apps.main.webhooks.audit`.
    pub webhooks: Vec<(String, Source)>,
    /// No app was configured, and the development app stands in.
    pub development: bool,
    /// What the layers found worth a second look.
    pub notes: Vec<Problem>,
    /// Where the application looks for us, by its own settings.
    pub laravel_port: Option<(u16, Source)>,
    /// Why nothing of what Laravel says comes here, and what to write instead.
    pub unheard: Option<(Problem, String)>,
}

/// The app that is there when none is configured.
pub(crate) const DEVELOPMENT: [(&str, &str); 3] = [("id", "app-id"), ("key", "app-key"), ("secret", "app-secret")];
pub(crate) const DEVELOPMENT_NAME: &str = "development";

impl Values {
    /// Lays layers over each other, later ones on top, and the table's defaults beneath.
    ///
    /// # Errors
    /// Only where the `config` crate refuses a layer, which checked values give it no cause for.
    pub(crate) fn merge(layers: &[Layer]) -> Result<Self, Problem> {
        let mut values = Self::default();
        for (app, source) in layers.iter().flat_map(|layer| &layer.apps) {
            if !values.apps.iter().any(|(known, _)| known == app) {
                values.apps.push((app.clone(), source.clone()));
            }
        }
        for (table, source) in layers.iter().flat_map(|layer| &layer.webhooks) {
            if !values.webhooks.iter().any(|(known, _)| known == table) {
                values.webhooks.push((table.clone(), source.clone()));
            }
        }
        values.notes = layers.iter().flat_map(|layer| layer.notes.iter().cloned()).collect();
        values.unheard = layers.iter().find_map(|layer| layer.unheard.clone());
        values.laravel_port = layers.iter().find_map(|layer| layer.laravel_port.clone());
        values.development = values.apps.is_empty();
        if values.development {
            values.apps.push((DEVELOPMENT_NAME.to_owned(), Source::Default));
        }
        values.lay(layers).map_err(|error| Problem::new("", "", error.to_string()))?;
        Ok(values)
    }

    fn lay(&mut self, layers: &[Layer]) -> Result<(), ConfigError> {
        let mut all = self.defaults();
        let mut builder = Config::builder().add_source(Numbered::new(&all, 0));
        for layer in layers {
            let from = all.len();
            all.extend(layer.values.iter().cloned().map(|(name, scalar, source)| {
                let value = Value { scalar: Some(scalar), source };
                (name, value)
            }));
            builder = builder.add_source(Numbered::new(&all[from..], from));
        }
        let merged = builder.build()?.collect()?;
        for (name, _) in &all {
            let winner = origin(&merged, name).and_then(|number| all.get(number));
            if let Some((_, value)) = winner {
                self.by_name.insert(name.clone(), value.clone());
            }
        }
        Ok(())
    }

    fn defaults(&self) -> Vec<(String, Value)> {
        let value = |default: Fallback, kind| Value { scalar: default.scalar(kind), source: Source::Default };
        let node = table::node_rows().map(|row| (row.name.to_owned(), value(row.default, row.kind)));
        let mut all: Vec<_> = node.collect();
        for (app, _) in &self.apps {
            for row in table::app_rows() {
                let key = table::split(row.name).1;
                let built_in = DEVELOPMENT.iter().find(|(known, _)| self.development && *known == key);
                let default = built_in.map_or(row.default, |(_, text)| Fallback::Text(text));
                all.push((format!("apps.{app}.{key}"), value(default, row.kind)));
            }
        }
        for (table, _) in &self.webhooks {
            for row in table::webhook_rows() {
                all.push((format!("{table}.{}", row.key()), value(row.default, row.kind)));
            }
        }
        all
    }

    /// The tables of an app's webhooks, in the order of the layers.
    pub(crate) fn webhooks_of(&self, app: &str) -> impl Iterator<Item = &str> {
        let beginning = format!("apps.{app}.webhooks.");
        self.webhooks.iter().map(|(table, _)| table.as_str()).filter(move |table| table.starts_with(&beginning))
    }

    /// From where the values came, in words: `fanfare.toml and 2 environment variables`.
    pub(crate) fn read_from(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        let (mut variables, mut flags) = (0, 0);
        for value in self.by_name.values() {
            match &value.source {
                Source::File { path, .. } | Source::Variables { path, .. } | Source::Json { path, .. }
                    if !parts.contains(path) =>
                {
                    parts.push(path.clone())
                }
                Source::Environment(_) => variables += 1,
                Source::Flag(_) => flags += 1,
                _ => {}
            }
        }
        parts.extend((variables > 0).then(|| format!("environment variables ({variables})")));
        parts.extend((flags > 0).then(|| format!("flags ({flags})")));
        if parts.is_empty() { "all defaults".to_owned() } else { parts.join(", ") }
    }

    /// The files that hold secrets.
    pub(crate) fn secret_files(&self) -> impl Iterator<Item = PathBuf> {
        let named = |(name, value): (&String, &Value)| {
            let is_secret = name.ends_with(".secret_file") || name == "redis.url_file";
            let Some(Scalar::Text(path)) = &value.scalar else { return None };
            is_secret.then(|| PathBuf::from(path))
        };
        self.by_name.iter().filter_map(named)
    }

    pub(crate) fn get(&self, name: &str) -> &Value {
        // Every row of the table has a default layer entry.
        self.by_name.get(name).unwrap_or_else(|| panic!("{name} is not in the table of settings"))
    }

    pub(crate) fn set(&mut self, name: &str, scalar: Scalar) {
        if let Some(value) = self.by_name.get_mut(name) {
            value.scalar = Some(scalar);
        }
    }

    /// As if nobody had said anything.
    pub(crate) fn forget(&mut self, name: &str) {
        if let (Some(value), Some(row)) = (self.by_name.get_mut(name), table::row_of(name)) {
            *value = Value { scalar: row.default.scalar(row.kind), source: Source::Default };
        }
    }

    /// All that is not as it is by default, by name.
    pub(crate) fn said(&self) -> impl Iterator<Item = (&str, &Value)> {
        let said = self.by_name.iter().filter(|(_, value)| value.source != Source::Default);
        said.map(|(name, value)| (name.as_str(), value))
    }

    pub(crate) fn source(&self, name: &str) -> &Source {
        &self.get(name).source
    }

    /// The text of a text or secret; empty when absent.
    pub(crate) fn text(&self, name: &str) -> &str {
        match &self.get(name).scalar {
            Some(Scalar::Text(text)) => text,
            Some(Scalar::Secret(secret)) => secret.reveal(),
            _ => "",
        }
    }

    pub(crate) fn is_absent(&self, name: &str) -> bool {
        self.get(name).scalar.is_none()
    }

    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.get(name).scalar == Some(Scalar::Switch(true))
    }

    pub(crate) fn whole(&self, name: &str) -> u64 {
        match self.get(name).scalar {
            Some(Scalar::Whole(number)) => number,
            _ => 0,
        }
    }

    pub(crate) fn seconds(&self, name: &str) -> std::time::Duration {
        match self.get(name).scalar {
            Some(Scalar::Seconds(number)) => std::time::Duration::from_secs_f64(number),
            _ => std::time::Duration::ZERO,
        }
    }
}

/// A layer in the words of the `config` crate: tables in tables, each leaf with its number as origin. The leaves hold no
/// value of their own, so that no secret is copied there.
#[derive(Clone, Debug)]
struct Numbered(Map<String, ConfigValue>);

impl Numbered {
    fn new(values: &[(String, Value)], first: usize) -> Self {
        let mut root = Map::new();
        for (at, (name, _)) in values.iter().enumerate() {
            let leaf = ConfigValue::new(Some(&(first + at).to_string()), ValueKind::Boolean(true));
            insert(&mut root, &name.split('.').collect::<Vec<_>>(), leaf);
        }
        Self(root)
    }
}

fn insert(table: &mut Map<String, ConfigValue>, path: &[&str], leaf: ConfigValue) {
    match path {
        [] => {}
        [key] => {
            table.insert((*key).to_owned(), leaf);
        }
        [key, rest @ ..] => {
            let below = table.entry((*key).to_owned()).or_insert_with(|| Map::<String, ConfigValue>::new().into());
            if let ValueKind::Table(below) = &mut below.kind {
                insert(below, rest, leaf);
            }
        }
    }
}

/// The number of the value that holds under this name.
fn origin(root: &Map<String, ConfigValue>, name: &str) -> Option<usize> {
    let mut parts = name.split('.');
    let first = root.get(parts.next()?)?;
    let leaf = parts.try_fold(first, |at, part| match &at.kind {
        ValueKind::Table(below) => below.get(part),
        _ => None,
    })?;
    leaf.origin()?.parse().ok()
}

impl ConfigSource for Numbered {
    fn clone_into_box(&self) -> Box<dyn ConfigSource + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, ConfigValue>, ConfigError> {
        Ok(self.0.clone())
    }
}
