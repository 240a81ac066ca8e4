//! Laravel's own `.env` as a layer of settings: what a node needs to know of an application stands there already.
//!
//! `syntax.rs` reads the text as PHP does, `redis.rs` and `apps.rs` say what the names mean for us; here are the listener and
//! what is worth a note. The file is read and never written. No value is repeated in a problem: it may be a password.

mod apps;
mod redis;
mod slug;
mod syntax;

use std::path::Path;

use super::layer::Layer;
use super::problem::Problem;
use super::source::Source;
use super::table;
use super::value::Written;
pub(super) use apps::MAIN;
pub(crate) use syntax::Variables;
use syntax::Word;

/// A `.env` that was read: what it says of settings, and all of it for whoever looks for more.
#[derive(Default)]
pub(crate) struct Reading {
    pub(crate) layer: Layer,
    pub(crate) path: String,
    pub(crate) variables: Variables,
}

/// Reads the file. `beside_echo_server`: what it says of laravel-echo-server is left to who reads that program's file.
pub(crate) fn read(path: &Path, beside_echo_server: bool) -> Reading {
    let shown = path.display().to_string();
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| "is no UTF-8 text; save it as UTF-8".to_owned()),
        Err(error) => Err(format!("cannot be read: {error}; write the path of Laravel's .env after --env-file")),
    };
    match text {
        Ok(text) => parse(&shown, &text, beside_echo_server),
        Err(text) => {
            let layer = Layer { problems: vec![Problem::new(shown, "", text)], ..Layer::default() };
            Reading { layer, ..Reading::default() }
        }
    }
}

/// Reads a file's text; `path` is for places.
fn parse(path: &str, text: &str, beside_echo_server: bool) -> Reading {
    let mut layer = Layer::default();
    let variables = match syntax::parse(text) {
        Ok(variables) => variables,
        Err(wrong) => {
            layer.problems.push(Problem::new(format!("{path}:{}", wrong.line), "", wrong.text));
            return Reading { layer, ..Reading::default() };
        }
    };
    if let Some(line) = variables.unclosed {
        let text = "a quote is opened here and never closed: PHP, and so this node, reads nothing from here on";
        layer.notes.push(Problem::new(format!("{path}:{line}"), "", text));
    }
    for (name, variable) in &variables.by_name {
        let is_read = ["REDIS_", "PUSHER_", "REVERB_", "APP_", "LARAVEL_"].iter().any(|ours| name.starts_with(ours));
        if is_read && variable.cut {
            let text = "the # ends the value, for PHP too: what follows is a remark; write quotes around the value if it is not";
            layer.notes.push(Problem::new(format!("{path}:{} {name}", variable.line), "", text));
        }
    }
    let mut file = EnvFile { path, variables, layer, beside_echo_server };
    let broadcasting = file.broadcasting();
    redis::take(&mut file, &broadcasting);
    apps::take(&mut file, &broadcasting);
    file.take_listener();
    file.note_broadcasting(&broadcasting);
    Reading { layer: file.layer, path: path.to_owned(), variables: file.variables }
}

/// Which driver Laravel broadcasts with.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Broadcasting {
    /// `redis`, `pusher`, `reverb`, `log`, …; `null` where nobody says.
    driver: String,
    /// The variable that says so; `None`: none does.
    key: Option<&'static str>,
}

struct EnvFile<'a> {
    path: &'a str,
    variables: Variables,
    layer: Layer,
    beside_echo_server: bool,
}

/// What PHP would make a text of. `None`: the variable is not there. Null and false are empty texts.
pub(super) fn text_of(variables: &Variables, key: &str) -> Option<String> {
    let variable = variables.by_name.get(key)?;
    Some(match syntax::word(&variable.text) {
        Word::Null | Word::Switch(false) => String::new(),
        Word::Switch(true) => "1".to_owned(),
        Word::Text(text) => text,
    })
}

impl EnvFile<'_> {
    fn text(&self, key: &str) -> Option<String> {
        text_of(&self.variables, key)
    }

    /// [`text_of`], and not empty.
    fn filled(&self, key: &str) -> Option<String> {
        self.text(key).filter(|text| !text.is_empty())
    }

    fn is_on(&self, key: &str) -> bool {
        self.filled(key).is_some_and(|text| text != "0")
    }

    /// Where a value comes from that says what these variables say; those that are not there are passed over.
    fn source(&self, keys: &[&str]) -> Source {
        self.source_of(keys, false)
    }

    /// Where a value comes from that was made of these variables.
    fn derived(&self, keys: &[&str]) -> Source {
        self.source_of(keys, true)
    }

    fn source_of(&self, keys: &[&str], derived: bool) -> Source {
        let known = keys.iter().filter_map(|key| Some((self.variables.by_name.get(*key)?.line, (*key).to_owned())));
        Source::Variables { path: self.path.to_owned(), keys: known.collect(), derived }
    }

    /// Takes a value as the environment would give it.
    fn take(&mut self, name: &str, text: impl Into<String>, source: Source) {
        if let Some(row) = table::row_of(name) {
            self.layer.take(name, row, &Written::Plain(text.into()), source);
        }
    }

    /// Takes what a variable says, if it says anything.
    fn take_filled(&mut self, key: &str, name: &str) {
        if let Some(text) = self.filled(key) {
            let source = self.source(&[key]);
            self.take(name, text, source);
        }
    }

    /// Says something that stops nothing.
    fn note(&mut self, keys: &[&str], text: impl Into<String>) {
        let place = match self.source(keys) {
            Source::Variables { keys, .. } if keys.is_empty() => self.path.to_owned(),
            source => source.place(),
        };
        self.layer.notes.push(Problem::new(place, "", text));
    }

    fn broadcasting(&self) -> Broadcasting {
        // Laravel 11 and later read the first, those before it the second.
        let key = ["BROADCAST_CONNECTION", "BROADCAST_DRIVER"].into_iter().find(|key| self.text(key).is_some());
        let driver = key.and_then(|key| self.filled(key)).unwrap_or_else(|| "null".to_owned());
        Broadcasting { driver, key }
    }

    /// The first of the three servers that the file speaks of, and Reverb's path.
    fn take_listener(&mut self) {
        const SERVERS: [(&str, &str, &str); 3] = [
            ("REVERB_SERVER_HOST", "REVERB_SERVER_PORT", "8080"),
            ("LARAVEL_ECHO_SERVER_HOST", "LARAVEL_ECHO_SERVER_PORT", "6001"),
            ("", "LARAVEL_WEBSOCKETS_PORT", "6001"),
        ];
        let found = SERVERS.iter().find(|(host, port, _)| {
            let is_ours = !(self.beside_echo_server && host.starts_with("LARAVEL_ECHO_SERVER_"));
            is_ours && self.filled(host).or(self.filled(port)).is_some()
        });
        if let Some((host, port, usual)) = found {
            let source = self.source(&[host, port]);
            let host = listening_host(&self.filled(host).unwrap_or_default());
            let port = self.filled(port).unwrap_or_else(|| (*usual).to_owned());
            self.take("server.listen", format!("{host}:{port}"), source);
        }
        if let Some(path) = self.filled("REVERB_SERVER_PATH") {
            let source = self.source(&["REVERB_SERVER_PATH"]);
            let path = path.trim_matches('/');
            let path = if path.is_empty() { String::new() } else { format!("/{path}") };
            self.take("server.path_prefix", path, source);
        }
    }

    /// What Laravel says does not come here.
    fn note_unheard(&mut self, keys: &[&str], text: String, instead: &str) {
        self.note(keys, format!("{text}; write {instead}"));
        let place = self.layer.notes.last().map(|note| note.place.clone()).unwrap_or_default();
        self.layer.unheard = Some((Problem::new(place, "", text), instead.to_owned()));
    }

    fn note_broadcasting(&mut self, broadcasting: &Broadcasting) {
        let Broadcasting { driver, key } = broadcasting;
        let [connection, old] = ["BROADCAST_CONNECTION", "BROADCAST_DRIVER"].map(|key| self.text(key));
        if let (Some(connection), Some(old)) = (connection, old)
            && connection != old
        {
            let text = "BROADCAST_CONNECTION and BROADCAST_DRIVER differ; the first counts here, as in Laravel 11 and \
                        later; up to Laravel 10 the other does: leave one of them out";
            self.note(&["BROADCAST_CONNECTION", "BROADCAST_DRIVER"], text);
        }
        let shown = key.unwrap_or("BROADCAST_CONNECTION");
        match driver.as_str() {
            "log" | "null" => {
                let says = if key.is_some() { format!("{shown} is {driver}") } else { format!("no {shown} is set") };
                let text = format!("Laravel is not broadcasting anything, as {says}");
                self.note_unheard(&[shown], text, &format!("{shown}=redis (or reverb, or pusher)"));
            }
            "ably" => {
                let text = "Laravel broadcasts to Ably, and not to this node".to_owned();
                self.note_unheard(&[shown], text, &format!("{shown}=redis (or pusher)"));
            }
            "pusher" | "reverb" => self.note_address(driver),
            _ => {}
        }
    }

    /// Where Laravel looks for this node by HTTP.
    fn note_address(&mut self, driver: &str) {
        let [host, port] = match driver {
            "reverb" => ["REVERB_HOST", "REVERB_PORT"],
            _ => ["PUSHER_HOST", "PUSHER_PORT"],
        };
        if driver == "pusher" && self.filled(host).is_none() {
            let text = "no PUSHER_HOST is set: Laravel publishes to Pusher's cloud and not to this node".to_owned();
            let keys = ["BROADCAST_CONNECTION", "BROADCAST_DRIVER"];
            return self.note_unheard(&keys, text, "its host, PUSHER_PORT and PUSHER_SCHEME");
        }
        let number = self.filled(port).and_then(|text| text.parse().ok());
        self.layer.laravel_port = number.map(|number| (number, self.source(&[port])));
    }
}

/// What another server's host is as an address: all of this machine's where nothing is said.
pub(super) fn listening_host(host: &str) -> String {
    match host {
        "" => "0.0.0.0".to_owned(),
        "localhost" => "127.0.0.1".to_owned(),
        host => super::redis_parts::bracketed(host),
    }
}
