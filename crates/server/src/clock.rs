//! The time of day, for what is told to or comes from other machines.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since 1970.
pub(crate) fn seconds() -> u64 {
    now().as_secs()
}

/// Milliseconds since 1970.
pub(crate) fn ms() -> u64 {
    now().as_millis() as u64
}
