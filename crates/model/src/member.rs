//! Who is present on a channel.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::json::RawJson;

/// A user's id, always a string: the number 10 and the text "10" are one user.
pub type UserId = Arc<str>;

/// A presence identity. One member however many connections the user has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub id: UserId,
    /// What the application says of the user; passed on as it came.
    pub info: Option<RawJson>,
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
