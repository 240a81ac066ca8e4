//! How many requests an app may make in a second: its limit, shared evenly by the nodes of the cluster.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::App;

/// A token bucket for each app that has a limit; one for all workers of the node. It holds what one second gives.
#[derive(Default)]
pub(crate) struct Rate(Mutex<HashMap<Arc<str>, Bucket>>);

struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Rate {
    /// Takes one request of the app. `nodes`: how many share the limit.
    ///
    /// # Errors
    /// It has none left, and has one again after this time.
    pub(super) fn take(&self, app: &App, nodes: usize, now: Instant) -> Result<(), Duration> {
        let limit = app.limits.api_requests_per_second;
        if limit == 0 {
            return Ok(());
        }
        let a_second = f64::from(limit) / nodes.max(1) as f64;
        // Below one a second a whole request must still fit.
        let size = a_second.max(1.0);
        // Nothing below panics while it is held.
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(app.id.clone()).or_insert(Bucket { tokens: size, filled: now });
        let since = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + since * a_second).min(size);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / a_second));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_what_its_limit_gives_divided_by_the_nodes() {
        let mut app = App::new("1", "k", "s");
        let rate = Rate::default();
        let begin = Instant::now();
        let taken = |app: &App, nodes, now| (0..100).filter(|_| rate.take(app, nodes, now).is_ok()).count();
        assert_eq!(taken(&app, 1, begin), 100, "0 is no limit");
        app.limits.api_requests_per_second = 20;
        assert_eq!(taken(&app, 2, begin), 10);
        assert_eq!(taken(&app, 2, begin + Duration::from_millis(500)), 5);
        assert_eq!(taken(&app, 2, begin + Duration::from_secs(60)), 10, "no more than a second's worth is kept");
        app.limits.api_requests_per_second = 1;
        let other = App { id: "2".into(), ..app };
        assert_eq!(taken(&other, 4, begin), 1);
        let after = |seconds| rate.take(&other, 4, begin + Duration::from_secs(seconds));
        assert_eq!(
            (after(0), after(1), after(2)),
            (Err(Duration::from_secs(4)), Err(Duration::from_secs(3)), Err(Duration::from_secs(2)))
        );
        assert_eq!(taken(&other, 4, begin + Duration::from_millis(4_001)), 1);
    }
}
