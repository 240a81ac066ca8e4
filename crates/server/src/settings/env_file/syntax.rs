//! The text of a `.env`, read as `vlucas/phpdotenv` 5 and `Illuminate\Support\Env` read it.
//!
//! Theirs line by line, oddities included, as Laravel must understand a file as this does: compared with the real classes
//! in `tests/env_file.rs`. One thing is other: what another process has in its environment is not seen.
//!
//! Errors never repeat a line: it may hold a password.

use std::collections::BTreeMap;

/// What `env('NAME')` gives in PHP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Word {
    Null,
    Switch(bool),
    Text(String),
}

/// A variable as it stands in the end: of a key that is written twice the later one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Variable {
    /// Counted from 1; of the first line where it takes several.
    pub(crate) line: usize,
    /// Before [`word`]: `null` is still four letters.
    pub(crate) text: String,
    /// A `#` right behind the equals sign or a letter ends it: a remark for PHP, and perhaps not for who wrote it.
    pub(crate) cut: bool,
}

/// Why PHP refuses the whole file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wrong {
    pub(crate) line: usize,
    /// What is wrong, and what to write instead.
    pub(crate) text: String,
}

/// A file that PHP reads.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Variables {
    pub(crate) by_name: BTreeMap<String, Variable>,
    /// The line of a quote that nothing closes: PHP silently passes over all from there on.
    pub(crate) unclosed: Option<usize>,
}

/// # Errors
/// The first line that makes PHP refuse the file.
pub(crate) fn parse(text: &str) -> Result<Variables, Wrong> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (entries, unclosed) = entries(text);
    let mut variables = Variables { unclosed, ..Variables::default() };
    for (line, entry) in entries {
        let (name, value) = entry_parts(&entry).map_err(|text| Wrong { line, text })?;
        match value {
            None => _ = variables.by_name.remove(&name),
            Some((chars, places)) => {
                let text = resolved(chars, &places, &variables.by_name);
                variables.by_name.insert(name, Variable { line, text, cut: is_cut(&entry) });
            }
        }
    }
    Ok(variables)
}

/// The words of `Illuminate\Support\Env`; and a pair of quotes within the value is taken off.
pub(crate) fn word(text: &str) -> Word {
    match text.to_ascii_lowercase().as_str() {
        "true" | "(true)" => Word::Switch(true),
        "false" | "(false)" => Word::Switch(false),
        "empty" | "(empty)" => Word::Text(String::new()),
        "null" | "(null)" => Word::Null,
        _ => {
            let within = |quote: char| {
                let within = text.strip_prefix(quote)?.strip_suffix(quote)?;
                // PHP's dot is no line break.
                (!within.contains('\n')).then_some(within)
            };
            Word::Text(within('\'').or_else(|| within('"')).unwrap_or(text).to_owned())
        }
    }
}

/// What PHP's `trim` takes off.
fn is_trimmed(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\0' | '\u{b}')
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        lines.extend(line.split('\r'));
    }
    // The `\r` of a `\r\n` at the very end of a part was its own; at the end of the text it ends a line.
    if text.ends_with('\r') {
        lines.push("");
    }
    lines
}

/// Lines with something on them, each with its number; those of one quoted value are one.
fn entries(text: &str) -> (Vec<(usize, String)>, Option<usize>) {
    let mut entries = Vec::new();
    let mut open: Option<(usize, Vec<&str>)> = None;
    for (at, line) in lines(text).into_iter().enumerate() {
        let starts = line.contains("=\"") && !closes(line, true);
        if starts && open.is_none() {
            open = Some((at + 1, Vec::new()));
        }
        let (number, whole) = match open.take() {
            None => (at + 1, line.to_owned()),
            Some((number, mut held)) => {
                held.push(line);
                if !closes(line, starts) {
                    open = Some((number, held));
                    continue;
                }
                (number, held.join("\n"))
            }
        };
        let bare = whole.trim_matches(is_trimmed);
        if !bare.is_empty() && !bare.starts_with('#') {
            entries.push((number, whole));
        }
    }
    (entries, open.map(|(line, _)| line))
}

/// Whether a quoted value ends on this line. `started`: it began on it too, so one quote is the opening one.
fn closes(line: &str, started: bool) -> bool {
    if line == "\"" {
        return true;
    }
    let line = line.replace("\\\\", "");
    let quotes = line.as_bytes().windows(2).filter(|pair| pair[0] != b'\\' && pair[1] == b'"').count();
    quotes > usize::from(started)
}

/// A value before names in it are resolved, with the places of the `$` that may begin one.
type Raw = (String, Vec<usize>);

fn is_cut(entry: &str) -> bool {
    let value = entry.split_once('=').map_or("", |(_, value)| value.trim_matches(is_trimmed));
    let mut around = value.split('#');
    let (before, after) = (around.next().unwrap_or_default(), around.next());
    let is_quoted = value.starts_with(['"', '\'']);
    !is_quoted && !before.ends_with(is_space) && after.is_some_and(|after| !after.starts_with(is_space))
}

/// `None` for a value: a name without `=`, which takes an earlier value away.
fn entry_parts(entry: &str) -> Result<(String, Option<Raw>), String> {
    let (name, value) = match entry.split_once('=') {
        Some((name, value)) => (name.trim_matches(is_trimmed), Some(value.trim_matches(is_trimmed))),
        None => (entry, None),
    };
    if name.is_empty() {
        return Err("begins with an equals sign; write NAME=value".to_owned());
    }
    let name = name_of(name)?;
    match value {
        None => Ok((name, None)),
        Some(value) => match value_of(value) {
            Ok(raw) => Ok((name, Some(raw))),
            Err(why) => Err(format!("{name}: {why}")),
        },
    }
}

fn name_of(written: &str) -> Result<String, String> {
    let mut name = written;
    if let Some(rest) = name.strip_prefix("export")
        && name.chars().count() > 8
        && rest.starts_with(is_space)
    {
        name = rest.trim_start_matches(is_trimmed);
    }
    for quote in ['"', '\''] {
        if name.chars().count() >= 3
            && let Some(within) = name.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote))
        {
            name = within;
            break;
        }
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    match !name.is_empty() && name.chars().all(fits) {
        true => Ok(name.to_owned()),
        false => Err("the name has other signs than letters, digits, `_` and `.`; write NAME=value, and a # before a \
                      remark"
            .to_owned()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Bare,
    Single,
    Double,
    Escape,
    Space,
    Comment,
}

fn value_of(value: &str) -> Result<Raw, &'static str> {
    let (mut out, mut places) = (String::new(), Vec::new());
    let mut state = State::Start;
    for c in value.chars() {
        state = match (state, c) {
            (State::Comment, _) | (State::Start | State::Bare | State::Space, '#') => State::Comment,
            (State::Start, '\'') => State::Single,
            (State::Start, '"') => State::Double,
            (State::Single, '\'') | (State::Double, '"') => State::Space,
            (State::Double, '\\') => State::Escape,
            (State::Bare | State::Space, c) if is_space(c) => State::Space,
            (State::Space, _) => {
                return Err("has more behind its value, and PHP refuses the file; write quotes around a value with \
                            spaces: \"…\"");
            }
            (State::Escape, c) => {
                out.push(escaped(c).ok_or(
                    "has a backslash that means nothing, and PHP refuses the file; write \\\\ for one, or single quotes",
                )?);
                State::Double
            }
            (state, c) => {
                if c == '$' && state != State::Single {
                    places.push(out.len());
                }
                out.push(c);
                if state == State::Start { State::Bare } else { state }
            }
        };
    }
    match state {
        State::Single | State::Double | State::Escape => {
            Err("has a quote that nothing closes, and PHP refuses the file; write one at the end")
        }
        _ => Ok((out, places)),
    }
}

fn escaped(c: char) -> Option<char> {
    match c {
        '"' | '\\' | '$' => Some(c),
        'f' => Some('\u{c}'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\u{b}'),
        _ => None,
    }
}

/// Bytes of a value that names are still put into.
const VALUE_MAX: usize = 1 << 20;

/// Puts values in the places of their names, the last one first: so `${A${B}}` is found too.
fn resolved(mut chars: String, places: &[usize], known: &BTreeMap<String, Variable>) -> String {
    for &place in places.iter().rev() {
        let (before, rest) = chars.split_at(place);
        let Some((name, behind)) = rest.strip_prefix("${").and_then(|rest| rest.split_once('}')) else { continue };
        // Names in names can double a text at each line.
        let fits = |variable: &&Variable| chars.len() + variable.text.len() <= VALUE_MAX;
        if let Some(variable) = known.get(name).filter(fits) {
            chars = format!("{before}{}{behind}", variable.text);
        }
    }
    chars
}
