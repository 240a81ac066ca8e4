//! What is wrong with the settings, in words for the person who wrote them.
//!
//! A problem says where, which key, what is wrong, and what to write instead. It never shows a secret's value.

use std::fmt;

/// One thing to put right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Problem {
    /// `fanfare.toml:3:10`, `environment FANFARE_REDIS__URL`, `flag --listen`.
    pub place: String,
    /// The key as it was written; empty when the problem is not with one key.
    pub key: String,
    pub text: String,
}

impl Problem {
    pub(crate) fn new(place: impl fmt::Display, key: &str, text: impl Into<String>) -> Self {
        Self { place: place.to_string(), key: key.to_owned(), text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.place, &self.key].into_iter().filter(|part| !part.is_empty()) {
            write!(out, "{part}: ")?;
        }
        out.write_str(&self.text)
    }
}

/// All that is wrong, found in one go. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(out, "{problem}")?;
        }
        match self.0.len() {
            1 => write!(out, "1 problem with the settings"),
            n => write!(out, "{n} problems with the settings"),
        }
    }
}

impl std::error::Error for Problems {}

/// The candidate that the asker most likely meant; `None` when none is near enough to be worth a guess.
pub(crate) fn nearest<'a>(asked: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let asked = asked.to_lowercase();
    let near = |candidate: &str| {
        let far = distance(&asked, candidate);
        // A third of the letters may be wrong; and a word that holds the other is near too (`secret_path`, `key_id`).
        let limit = (candidate.len().max(asked.len()) / 3).max(1);
        (far <= limit).then_some(far)
    };
    candidates.filter_map(|name| near(name).map(|far| (far, name))).min_by_key(|(far, _)| *far).map(|(_, name)| name)
}

/// How many letters must be added, taken out, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = usize::from(a[i - 1] != b[j - 1]);
                let mut least = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let names = ["listen", "admin", "workers", "secret", "secret_file"];
        let check = |asked: &str, expected| assert_eq!(nearest(asked, names.into_iter()), expected, "{asked}");
        check("lisen", Some("listen"));
        check("Listen", Some("listen"));
        check("worker", Some("workers"));
        check("sercet", Some("secret"));
        check("secretfile", Some("secret_file"));
        check("tls", None);
        check("port", None);
    }

    #[test]
    fn a_problem_without_a_key_has_no_empty_place() {
        assert_eq!(Problem::new("a.toml:1:2", "", "bad").to_string(), "a.toml:1:2: bad");
        assert_eq!(Problem::new("", "redis.url", "bad").to_string(), "redis.url: bad");
    }
}
