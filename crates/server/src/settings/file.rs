//! The settings file: TOML, with the place of each key.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::layer::{Layer, nearest_name};
use super::problem::{Problem, nearest};
use super::source::Source;
use super::table;
use super::value::Written;

/// Reads the file's layer.
pub(crate) fn read(path: &Path) -> Layer {
    let shown = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&shown, &text),
        Err(error) => {
            let text = format!("cannot be read: {error}; write the path of a TOML file after --config");
            Layer { problems: vec![Problem::new(shown, "", text)], ..Layer::default() }
        }
    }
}

/// Reads a file's text; `path` is for places in problems.
pub(crate) fn parse(path: &str, text: &str) -> Layer {
    // An editor on Windows may put this first.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut file = File { path, text, layer: Layer::default() };
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = file.place(error.span().unwrap_or(0..0));
        file.layer.problems.push(Problem::new(place, "", not_toml(error.message())));
    }
    // After a syntax error what was recovered may stand under the wrong section: further complaints would mislead.
    if errors.is_empty() {
        file.read_root(root.get_ref());
    }
    file.layer.problems.sort_by_key(|problem| place_in_file(&problem.place));
    file.layer
}

/// The parser's words and a remedy. Never the line itself: a secret without quotes is the likeliest slip.
fn not_toml(message: &str) -> String {
    let what = message.lines().next().unwrap_or_default().trim_end_matches(", expected nothing");
    let remedy = match what {
        "duplicate key" => "write each key and each [section] once",
        _ => "write [section] and below it key = value, with text in \"quotes\"",
    };
    format!("this is not TOML: {what}; {remedy}")
}

/// Line and column of a place like `fanfare.toml:3:10`, to tell problems from top to bottom.
fn place_in_file(place: &str) -> (usize, usize) {
    let mut parts = place.rsplit(':').map(|part| part.parse().unwrap_or(0));
    let column = parts.next().unwrap_or(0);
    (parts.next().unwrap_or(0), column)
}

struct File<'a> {
    path: &'a str,
    text: &'a str,
    layer: Layer,
}

impl File<'_> {
    fn place(&self, span: Range<usize>) -> Source {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Source::File { path: self.path.to_owned(), line, column }
    }

    fn problem(&mut self, span: Range<usize>, key: &str, text: impl Into<String>) {
        let place = self.place(span);
        self.layer.problems.push(Problem::new(place, key, text));
    }

    fn read_root(&mut self, root: &DeTable<'_>) {
        for (key, value) in root {
            let section: &str = key.get_ref();
            let known = table::node_rows().any(|row| table::split(row.name).0 == section);
            match value.get_ref() {
                DeValue::Table(table) if section == "apps" => self.read_apps(table),
                DeValue::Table(table) if known => self.read_section(section, table),
                _ if section == "apps" => {
                    let text = "is not a table; write a table for each app, with a name of your choice: [apps.main]";
                    self.problem(key.span(), section, text);
                }
                _ if known => {
                    self.problem(key.span(), section, format!("is not a table; write [{section}] and its keys below"));
                }
                other => {
                    let text = no_such_section(section, matches!(other, DeValue::Table(_)));
                    self.problem(key.span(), section, text);
                }
            }
        }
    }

    fn read_apps(&mut self, apps: &DeTable<'_>) {
        // The first app in the file is the one of commands that name none.
        let mut in_order: Vec<_> = apps.iter().collect();
        in_order.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in in_order {
            let app: &str = key.get_ref();
            let DeValue::Table(table) = value.get_ref() else {
                let text = "is outside of an app; write it below a table with a name of your choice: [apps.main]";
                self.problem(key.span(), &format!("apps.{app}"), text);
                continue;
            };
            let place = self.place(key.span());
            if self.layer.take_app(app, place) {
                self.read_section(&format!("apps.{app}"), table);
            }
        }
    }

    fn read_webhooks(&mut self, app: &str, webhooks: &DeTable<'_>) {
        let mut in_order: Vec<_> = webhooks.iter().collect();
        in_order.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in in_order {
            let name: &str = key.get_ref();
            let section = format!("apps.{app}.webhooks.{name}");
            let DeValue::Table(table) = value.get_ref() else {
                let text = format!(
                    "is outside of a webhook; write it below a table with a name of your choice: \
                     [apps.{app}.webhooks.main]"
                );
                self.problem(key.span(), &section, text);
                continue;
            };
            let place = self.place(key.span());
            if self.layer.take_webhook(app, name, place) {
                self.read_section(&section, table);
            }
        }
    }

    fn read_section(&mut self, section: &str, entries: &DeTable<'_>) {
        for (key, value) in entries {
            let name = format!("{section}.{}", key.get_ref());
            if let (Some(app), "webhooks") = (section.strip_prefix("apps."), &**key.get_ref())
                && !app.contains('.')
            {
                match value.get_ref() {
                    DeValue::Table(webhooks) => self.read_webhooks(app, webhooks),
                    _ => {
                        let text = "is not a table; write a table for each webhook, with a name of your choice: \
                                    [apps.main.webhooks.main]";
                        self.problem(key.span(), &name, text);
                    }
                }
                continue;
            }
            // A quoted key with a dot in it is no path.
            let row = if key.get_ref().contains('.') { None } else { table::row_of(&name) };
            match row {
                Some(row) => {
                    let place = self.place(value.span());
                    self.layer.take(&name, row, &written(value), place);
                }
                None => self.problem(key.span(), &name, no_such_key(section, &name)),
            }
        }
    }
}

fn no_such_section(section: &str, is_table: bool) -> String {
    let sections = table::node_rows().map(|row| table::split(row.name).0).chain(["apps"]);
    match nearest(section, sections) {
        Some(near) => format!("no such section; did you mean [{near}]?"),
        None if is_table => {
            "no such section; there are [server], [tls], [socket_io], [redis], [presence], [limits], [drain], [webhooks], [log] \
                             and [apps.NAME]"
                .to_owned()
        }
        None => match nearest_name(&format!("server.{section}")) {
            Some(near) => format!("is outside of a section; did you mean {near}?"),
            None => {
                "is outside of a section, and no section has it; `fanfare print-config --docs` lists all".to_owned()
            }
        },
    }
}

fn no_such_key(section: &str, name: &str) -> String {
    if let Some(near) = nearest_name(name) {
        return format!("no such key; did you mean {near}?");
    }
    let keys: Vec<&str> = match section.strip_prefix("apps.").map(|rest| rest.contains('.')) {
        Some(true) => table::webhook_rows().map(table::Row::key).collect(),
        Some(false) => table::app_rows().map(table::Row::key).collect(),
        None => table::node_rows().map(|row| table::split(row.name)).filter(|r| r.0 == section).map(|r| r.1).collect(),
    };
    format!("no such key; [{section}] has {}", keys.join(", "))
}

fn written(value: &Spanned<DeValue<'_>>) -> Written {
    match value.get_ref() {
        DeValue::String(text) => Written::Quoted(text.to_string()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Written::Whole(number),
            Err(_) => Written::Other("a number without sense"),
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) => Written::Fraction(number),
            Err(_) => Written::Other("a number without sense"),
        },
        DeValue::Boolean(on) => Written::Switch(*on),
        DeValue::Datetime(_) => Written::Other("a date"),
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| match item.get_ref() {
                DeValue::String(text) => Some(text.to_string()),
                _ => None,
            });
            texts.collect::<Option<_>>().map_or(Written::Other("a list of other things than text"), Written::List)
        }
        DeValue::Table(_) => Written::Other("a table"),
    }
}
