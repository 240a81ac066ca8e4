//! A place in a channel's history.

use std::fmt;
use std::str::FromStr;

/// The largest offset: what a double holds exactly, as scripts and JavaScript count in doubles.
const OFFSET_MAX: u64 = 1 << 53;
const EPOCH_MAX: usize = 64;

/// Offsets count up by one within an epoch; a new epoch begins when the history may have lost something, so an old offset is
/// never mistaken for a new one. As text `epoch:offset`; clients carry it and never look inside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    /// Letters and digits.
    pub epoch: Box<str>,
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.epoch, self.offset)
    }
}

/// Not the text of a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadPosition;

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let (epoch, offset) = text.split_once(':').ok_or(BadPosition)?;
        let is_epoch = (1..=EPOCH_MAX).contains(&epoch.len()) && epoch.bytes().all(|b| b.is_ascii_alphanumeric());
        let is_offset = !offset.is_empty() && offset.bytes().all(|b| b.is_ascii_digit());
        let offset = offset.parse().ok().filter(|offset| is_epoch && is_offset && *offset <= OFFSET_MAX);
        Ok(Self { epoch: epoch.into(), offset: offset.ok_or(BadPosition)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_travels_as_text() {
        let position = Position { epoch: "5f0c".into(), offset: 1_700_000_000_000_001 };
        assert_eq!(position.to_string(), "5f0c:1700000000000001");
        assert_eq!(position.to_string().parse(), Ok(position));
        for wrong in ["", "5f0c", "5f0c:", ":1", "5f0c:-1", "5f0c:+1", "5f0c:1x", "5f 0c:1", "5f0c:9007199254740993"] {
            assert_eq!(wrong.parse::<Position>(), Err(BadPosition), "{wrong:?}");
        }
    }
}
