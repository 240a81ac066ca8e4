//! Waiting for a condition, with a limit.

use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine with two cores; a test that waits so long has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Looks until there is an answer.
///
/// # Panics
/// When there is none within [`LIMIT`]; `what` says what was waited for.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(LIMIT, what, look)
}

/// As [`until`], for what takes longer by its nature.
pub(crate) fn until_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
