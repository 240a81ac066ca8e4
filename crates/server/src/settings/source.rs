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
