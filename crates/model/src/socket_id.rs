//! The public id of one connection.

use std::fmt;
use std::str::FromStr;

/// `<node>.<sequence>`, each in 1 ..= 2^31 − 1. Unique in the cluster: the node number is drawn at start, the sequence
/// counts that node's connections. Every Pusher SDK checks it with `\d+\.\d+` before signing (reference: pusher-php
/// `validate_socket_id`), so this form serves all dialects.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SocketId {
    node: u32,
    sequence: u32,
}

/// The largest node number and sequence.
pub const MAX: u32 = i32::MAX as u32;

impl SocketId {
    /// `None` when a part is 0 or above [`MAX`].
    pub fn new(node: u32, sequence: u32) -> Option<Self> {
        ((1..=MAX).contains(&node) && (1..=MAX).contains(&sequence)).then_some(Self { node, sequence })
    }

    pub fn node(self) -> u32 {
        self.node
    }

    pub fn sequence(self) -> u32 {
        self.sequence
    }

    /// The id with a secret behind it, of the same form and read as the same id: for clients whose id is also their key to what
    /// waits for them, and whom others must not guess.
    pub fn with_secret(self, secret: u64) -> String {
        format!("{}.{:0SEQUENCE_DIGITS$}{secret:0SECRET_DIGITS$}", self.node, self.sequence)
    }
}

/// In the form with a secret the sequence has so many digits, zeros in front …
const SEQUENCE_DIGITS: usize = 10;
/// … and the secret so many.
const SECRET_DIGITS: usize = 20;

impl fmt::Display for SocketId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.node, self.sequence)
    }
}

/// The text was not a socket id of ours.
#[derive(Debug, PartialEq, Eq)]
pub struct NotASocketId;

impl FromStr for SocketId {
    type Err = NotASocketId;

    /// Reads our own ids. An id of another server (larger numbers, leading zeros) is an error; as an exclusion it means
    /// "nobody here".
    fn from_str(text: &str) -> Result<Self, NotASocketId> {
        let (node, mut sequence) = text.split_once('.').ok_or(NotASocketId)?;
        if sequence.len() == SEQUENCE_DIGITS + SECRET_DIGITS && sequence.bytes().all(|byte| byte.is_ascii_digit()) {
            sequence = sequence[..SEQUENCE_DIGITS].trim_start_matches('0');
        }
        let part = |digits: &str| -> Option<u32> {
            let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
            plain.then(|| digits.parse().ok()).flatten()
        };
        match (part(node), part(sequence)) {
            (Some(node), Some(sequence)) => Self::new(node, sequence).ok_or(NotASocketId),
            _ => Err(NotASocketId),
        }
    }
}

/// True when the text has the form `\d+\.\d+` that every Pusher server accepts in `socket_id`, ours or not.
pub fn has_the_form(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.split_once('.').is_some_and(|(a, b)| digits(a) && digits(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let id = SocketId::new(187, 4021).unwrap();
        assert_eq!(id.to_string(), "187.4021");
        assert_eq!("187.4021".parse(), Ok(id));
        for wrong in ["", ".", "1.", ".1", "1.2.3", "0.1", "1.0", "+1.2", "01.2", "2147483648.1", "1.99999999999"] {
            assert_eq!(wrong.parse::<SocketId>(), Err(NotASocketId), "{wrong}");
        }
    }

    #[test]
    fn a_secret_makes_no_other_id_of_it() {
        let id = SocketId::new(187, 4021).unwrap();
        for secret in [0, 7, u64::MAX] {
            let text = id.with_secret(secret);
            assert_eq!(text.parse(), Ok(id), "{text}");
            assert!(has_the_form(&text) && text.contains(&secret.to_string()), "{text}");
        }
        assert_eq!("187.000000000000000000000000000000".parse::<SocketId>(), Err(NotASocketId));
    }

    #[test]
    fn a_foreign_id_has_the_form_but_is_not_ours() {
        assert!(has_the_form("99999999999.1"));
        assert!(!has_the_form("1.2\n") && !has_the_form("1.2:private-x") && !has_the_form("1"));
    }
}
