//! How each client family spells the words of `model`. Pure: no I/O, no clock, no randomness, no tables of their own.
//!
//! Adding a family: a file here, a row in [`DIALECTS`], a path in the server's `door.rs`, and `docs/dialects/<name>.md`.

use model::{Action, Dialect, Reason, State};

mod plain;
mod pusher;

/// All families. A dialect's place is its number in `Encoding`.
pub static DIALECTS: [&dyn Dialect; 2] = [&pusher::Pusher, &plain::Plain];

/// Pusher protocol 5 to 7, at `/app/{key}`.
pub const PUSHER: usize = 0;
/// JSON objects over a bare WebSocket, at `/` and `/ws`.
pub const PLAIN: usize = 1;

/// This many unreadable messages in a row end the connection.
const STRIKES_MAX: u8 = 20;

/// Counts an unreadable message: `answer` is the reply to it, and the last one in a row closes.
fn strike(state: &mut State, answer: Vec<u8>, out: &mut Vec<Action>) {
    state.strikes = state.strikes.saturating_add(1);
    if state.strikes >= STRIKES_MAX {
        out.push(Action::Close(Reason::TooManyBadFrames.into()));
    } else {
        out.push(Action::Reply(answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Message;

    #[test]
    fn every_dialect_knows_its_own_number() {
        for (number, dialect) in DIALECTS.iter().enumerate() {
            assert_eq!(usize::from(dialect.encoding(&State::default()).dialect), number, "{}", dialect.name());
        }
    }

    // Found by the fuzz target: the 256th unreadable message in a row overflowed the count.
    #[test]
    fn a_decoder_may_be_asked_again_after_its_close() {
        for dialect in DIALECTS {
            let (mut state, mut out) = (State::default(), Vec::new());
            for _ in 0..300 {
                out.clear();
                dialect.decode(&mut state, Message::Text("x"), &mut out);
            }
            assert!(matches!(out[..], [Action::Close(_)]), "{}: {out:?}", dialect.name());
        }
    }
}
