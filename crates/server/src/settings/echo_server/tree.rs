//! The keys of the JSON file, found by their paths: `clients[0].key`. And the variables that stand over them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::super::env_file::{self, text_of};
use super::super::layer::Layer;
use super::super::problem::{Problem, nearest};
use super::super::source::Source;
use super::super::table;
use super::super::value::Written;

/// Variables of laravel-echo-server's own `.env` and what they stand for.
const VARIABLES: [(&str, &str); 12] = [
    ("LARAVEL_ECHO_SERVER_AUTH_HOST", "authHost"),
    ("LARAVEL_ECHO_SERVER_HOST", "host"),
    ("LARAVEL_ECHO_SERVER_PORT", "port"),
    ("LARAVEL_ECHO_SERVER_DEBUG", "devMode"),
    ("LARAVEL_ECHO_SERVER_REDIS_HOST", "databaseConfig.redis.host"),
    ("LARAVEL_ECHO_SERVER_REDIS_PORT", "databaseConfig.redis.port"),
    ("LARAVEL_ECHO_SERVER_REDIS_PASSWORD", "databaseConfig.redis.password"),
    ("LARAVEL_ECHO_SERVER_PROTO", "protocol"),
    ("LARAVEL_ECHO_SERVER_SSL_KEY", "sslKeyPath"),
    ("LARAVEL_ECHO_SERVER_SSL_CERT", "sslCertPath"),
    ("LARAVEL_ECHO_SERVER_SSL_PASS", "sslPassphrase"),
    ("LARAVEL_ECHO_SERVER_SSL_CHAIN", "sslCertChainPath"),
];

pub(super) struct Tree {
    path: String,
    root: Value,
    /// What variables say, by the path of the key that they stand over.
    variables: BTreeMap<&'static str, (String, Source)>,
    pub(super) layer: Layer,
}

impl Tree {
    pub(super) fn new(path: String, root: Map<String, Value>, env: &env_file::Reading) -> Self {
        let variable = |(variable, key): (&'static str, &'static str)| {
            let text = text_of(&env.variables, variable).filter(|text| !text.is_empty())?;
            // That program looks once more where a value is another's name, wherever that one stands.
            let other = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
            let text = other.and_then(|other| text_of(&env.variables, other)).unwrap_or(text);
            let line = env.variables.by_name.get(variable)?.line;
            let keys = vec![(line, variable.to_owned())];
            Some((key, (text, Source::Variables { path: env.path.clone(), keys, derived: false })))
        };
        let variables = VARIABLES.into_iter().filter_map(variable).collect();
        Self { path, root: Value::Object(root), variables, layer: Layer::default() }
    }

    fn find(&self, key: &str) -> Option<&Value> {
        let mut at = &self.root;
        for part in key.split('.') {
            let (name, index) = part.split_once('[').unwrap_or((part, ""));
            at = at.get(name)?;
            if let Some(index) = index.strip_suffix(']') {
                at = at.get(index.parse::<usize>().ok()?)?;
            }
        }
        Some(at)
    }

    /// True where something is written, also by a variable.
    pub(super) fn has(&self, key: &str) -> bool {
        self.variables.contains_key(key) || self.find(key).is_some_and(|value| !value.is_null())
    }

    /// A text, number or switch as text. `None`: nothing, or an empty text.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        if let Some((text, _)) = self.variables.get(key) {
            return Some(text.clone());
        }
        match self.find(key)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(on) => Some(on.to_string()),
            _ => None,
        }
    }

    /// The same, and an empty text is one.
    pub(super) fn whole_text(&self, key: &str) -> Option<String> {
        self.find(key)?.as_str().map(str::to_owned)
    }

    pub(super) fn is_on(&self, key: &str) -> bool {
        self.text(key).is_some_and(|text| !matches!(text.as_str(), "false" | "0"))
    }

    /// How many entries a list has; 0 for what is none.
    pub(super) fn list(&self, key: &str) -> usize {
        if self.variables.contains_key(key) {
            return 0;
        }
        self.find(key).and_then(Value::as_array).map_or(0, Vec::len)
    }

    /// Where a key's value comes from; a key that is not there has the default of that program.
    pub(super) fn source(&self, key: &str) -> Source {
        if let Some((_, source)) = self.variables.get(key) {
            return source.clone();
        }
        let key = if self.find(key).is_some() { key } else { "" };
        Source::Json { path: self.path.clone(), key: key.to_owned() }
    }

    /// The first of these that a variable says, else the first that is written.
    pub(super) fn first_of<'a>(&self, keys: &[&'a str]) -> &'a str {
        let said = keys.iter().find(|key| self.variables.contains_key(**key));
        said.or_else(|| keys.iter().find(|key| self.find(key).is_some())).unwrap_or(&keys[0])
    }

    pub(super) fn take(&mut self, setting: &str, text: impl Into<String>, key: &str) {
        let source = self.source(key);
        if let Some(row) = table::row_of(setting) {
            self.layer.take(setting, row, &Written::Plain(text.into()), source);
        }
    }

    /// Says something that stops nothing.
    pub(super) fn note(&mut self, key: &str, text: impl Into<String>) {
        // A key's place is said even where the key itself has no value of ours.
        let place = match self.source(key) {
            Source::Json { path, .. } => Source::Json { path, key: key.to_owned() },
            source => source,
        };
        self.layer.notes.push(Problem::new(place, "", text));
    }

    pub(super) fn problem(&mut self, key: &str, setting: &str, text: String) {
        let place = self.source(key);
        self.layer.problems.push(Problem::new(place, setting, text));
    }

    /// Names the keys of an object that the program does not have either. `""`: of the whole file.
    pub(super) fn note_unknown(&mut self, object: &str, known: &[&str]) {
        let found = if object.is_empty() { Some(&self.root) } else { self.find(object) };
        let Some(object_found) = found.and_then(Value::as_object) else { return };
        let unknown = object_found.keys().filter(|key| !known.contains(&key.as_str()));
        let notes: Vec<(String, String)> = unknown
            .map(|key| {
                let path = if object.is_empty() { key.clone() } else { format!("{object}.{key}") };
                let near = nearest(key, known.iter().copied()).map(|near| format!("; did you mean {near:?}?"));
                (path, format!("is not known, and passed over{}", near.unwrap_or_default()))
            })
            .collect();
        for (path, text) in notes {
            self.note(&path, text);
        }
    }
}
