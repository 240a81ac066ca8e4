//! A place in a channel's history.

/// Offsets count up by one within an epoch; a new epoch begins when the history was lost, so an old offset is never
/// mistaken for a new one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    pub epoch: Box<str>,
    pub offset: u64,
}
