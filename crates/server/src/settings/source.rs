//! Where a value came from.

use std::fmt;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    Default,
    /// Line and column count from 1; the column counts characters.
    File {
        path: String,
        line: usize,
        column: usize,
    },
    /// Variables of Laravel's `.env`, each with its line from 1. Empty: the file says nothing, and that counts.
    Variables {
        path: String,
        keys: Vec<(usize, String)>,
        /// The value is made of theirs and is none of them.
        derived: bool,
    },
    /// A key of a JSON file: `clients[0].key`. Its line cannot be told.
    Json {
        path: String,
        key: String,
    },
    /// Made at the start of this process.
    Made,
    /// The variable's name.
    Environment(String),
    /// The flag with its dashes.
    Flag(&'static str),
}

impl Source {
    /// The place for a problem: nobody wrote a default, so it has none.
    pub(crate) fn place(&self) -> String {
        if *self == Self::Default { String::new() } else { self.to_string() }
    }

    /// True for what nobody wrote, and what was made of something else.
    pub(crate) fn is_derived(&self) -> bool {
        matches!(self, Self::Variables { derived: true, .. })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::File { path, line, column } => write!(out, "{path}:{line}:{column}"),
            Self::Variables { path, keys, .. } if keys.is_empty() => {
                write!(out, "derived from what {path} does not say")
            }
            Self::Variables { path, keys, derived } => {
                let place = |(line, key): &(usize, String)| match derived {
                    true => format!("{key} at {path}:{line}"),
                    false => format!("{path}:{line} {key}"),
                };
                let places: Vec<String> = keys.iter().map(place).collect();
                write!(out, "{}{}", if *derived { "derived from " } else { "" }, places.join(", "))
            }
            Self::Json { path, key } if key.is_empty() => write!(out, "default of {path}"),
            Self::Json { path, key } => write!(out, "{path} {key}"),
            Self::Made => out.write_str("made at this start"),
            Self::Environment(variable) => write!(out, "environment {variable}"),
            Self::Flag(flag) => write!(out, "flag {flag}"),
        }
    }
}
