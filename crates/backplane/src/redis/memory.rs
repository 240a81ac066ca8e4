//! Whether the server would throw away what the nodes keep there: presence, counts and histories have a time to live, so every
//! policy but `noeviction` may take them when memory is full.

use std::convert::Infallible;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tracing::{info, warn};

use super::Tally;

/// An operator may change it while the server runs.
const EVERY: Duration = Duration::from_secs(60);

/// Looks once a minute, and says so when the answer is another than last time.
pub(super) async fn watch(mut connection: MultiplexedConnection, tally: &Tally) -> Infallible {
    loop {
        let asked = redis::cmd("INFO").arg("memory").query_async::<String>(&mut connection).await;
        if let Ok(info) = asked {
            let policy = evicts(&info);
            let before = tally.evicts.swap(policy.is_some(), Relaxed);
            match policy {
                Some(policy) if !before => warn!(
                    %policy,
                    "Redis throws keys away when its memory is full, members and histories too: set maxmemory-policy noeviction"
                ),
                None if before => info!("Redis keeps its keys when its memory is full"),
                _ => {}
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The policy by which keys are thrown away; `None`: none are.
pub(super) fn evicts(info: &str) -> Option<&str> {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let limited = field("maxmemory").is_some_and(|bytes| bytes.trim() != "0");
    field("maxmemory_policy").map(str::trim).filter(|policy| limited && *policy != "noeviction")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_with_a_limit_and_a_policy_evicts() {
        let info = |bytes: &str, policy: &str| {
            format!("# Memory\r\nused_memory:1\r\nmaxmemory:{bytes}\r\nmaxmemory_policy:{policy}\r\n")
        };
        assert_eq!(evicts(&info("0", "allkeys-lru")), None);
        assert_eq!(evicts(&info("1048576", "noeviction")), None);
        assert_eq!(evicts(&info("1048576", "volatile-lru")), Some("volatile-lru"));
        assert_eq!(evicts(""), None);
    }
}
