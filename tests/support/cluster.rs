//! A Redis and some nodes on it, and how many of those run at once.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::node::Node;
use super::redis::Redis;

/// Tests that measure time have the machine to themselves; all others share it.
static MACHINE: RwLock<()> = RwLock::new(());

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) redis: Redis,
    _machine: Option<RwLockReadGuard<'static, ()>>,
}

impl Cluster {
    /// Nodes of two workers each, ready.
    pub(crate) fn start(nodes: usize) -> Self {
        Self::with(nodes, &[])
    }

    pub(crate) fn with(nodes: usize, settings: &[(&str, &str)]) -> Self {
        Self { _machine: Some(together()), ..Self::in_company(nodes, settings) }
    }

    /// For who holds [`alone`].
    pub(crate) fn in_company(nodes: usize, settings: &[(&str, &str)]) -> Self {
        let redis = Redis::start();
        let nodes: Vec<Node> = (0..nodes).map(|_| Node::launch(&redis.url(), settings)).collect();
        nodes.iter().for_each(Node::wait_ready);
        Self { nodes, redis, _machine: None }
    }
}

/// Waits until nobody is [`alone`], and keeps others from being it.
pub(crate) fn together() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until no other cluster runs, and keeps others from starting.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}
