//! Who is present on a channel.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::json::{self, RawJson};

/// A user's id, always a string: the number 10 and the text "10" are one user.
pub type UserId = Arc<str>;

/// A presence identity. One member however many connections the user has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub id: UserId,
    /// What the application says of the user; passed on as it came.
    pub info: Option<RawJson>,
}

impl Member {
    /// Appends the id as its application most likely wrote it: digits that a database has counted up as a number, anything else as
    /// text.
    pub fn push_id(&self, out: &mut Vec<u8>) {
        push_id(&self.id, out);
    }
}

/// As [`Member::push_id`].
pub fn push_id(id: &str, out: &mut Vec<u8>) {
    if is_number(id) {
        out.extend_from_slice(id.as_bytes());
    } else {
        json::push_string(out, id);
    }
}

/// Digits without a zero in front, few enough for JavaScript.
fn is_number(id: &str) -> bool {
    id == "0" || (id.len() <= 15 && !id.starts_with('0') && !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()))
}

/// The members of one channel, by user id.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Roster(pub BTreeMap<UserId, Option<RawJson>>);

impl Roster {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_was_a_number_is_one_again() {
        for (id, number) in [("0", true), ("12", true), ("", false), ("007", false), ("1e3", false), ("-1", false)] {
            assert_eq!(is_number(id), number, "{id}");
        }
    }
}
