//! The fault suite: each test makes one fault under a numbered load, waits for healing and counts for every client what
//! was lost, doubled, out of order or falsely told. Each prints its row; `cargo xtask test faults` runs all of them, one
//! at a time, and writes the table of `docs/reliability.md`.
//!
//! What holds in all of them is in [`row::Verdict::assert_invariants`]. A test that takes longer than the gate has time
//! for is ignored there, and its reason says how to run it.

mod client;
mod history;
mod link;
mod node;
mod redis;
mod row;
mod scene;
mod sentinel;
mod soak;
mod webhook;

/// The words that every row begins with.
mod prelude {
    pub(super) use std::thread;
    pub(super) use std::time::{Duration, Instant};

    pub(super) use super::row::{Row, Verdict, nobody, seconds};
    pub(super) use super::scene::Scene;
    pub(super) use crate::support::cluster::{alone, together};
    pub(super) use crate::support::relay::Way;
    pub(super) use crate::support::wait::{until, until_within};
}
