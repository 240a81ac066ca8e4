//! Where a value came from.

use std::fmt;

use super::table;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    Default,
    /// Line and column count from 1; the column counts characters.
    File {
        path: String,
        line: usize,
        column: usize,
    },
    /// The variable's name.
    Environment(String),
    /// The flag with its dashes.
    Flag(&'static str),
}

impl Source {
    /// How the setting is spelled where this value was written, for texts that tell what to write.
    pub(crate) fn spelling(&self, name: &str) -> String {
        match self {
            Self::Environment(_) => table::variable(name),
            Self::Flag(flag) => (*flag).to_owned(),
            _ => name.to_owned(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::File { path, line, column } => write!(out, "{path}:{line}:{column}"),
            Self::Environment(variable) => write!(out, "environment {variable}"),
            Self::Flag(flag) => write!(out, "flag {flag}"),
        }
    }
}
