//! What a server's process has used, from /proc: CPU to the nanosecond, memory to the page.

use std::fs;

use anyhow::{Context, Result};

/// A process and what to call it.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

impl std::str::FromStr for Watched {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, pid) = text.split_once('=').unwrap_or(("server", text));
        let pid = pid.parse().map_err(|_| format!("{text:?} is no process: write a pid, or NAME=PID"))?;
        Ok(Self { name: name.to_owned(), pid })
    }
}

/// One look at a process.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Used {
    /// Nanoseconds on a CPU, in user space and kernel together, of all threads that live.
    pub(crate) cpu: u64,
    /// Bytes of memory that no file stands behind.
    pub(crate) anonymous: u64,
    /// Bytes resident.
    pub(crate) resident: u64,
}

impl Watched {
    /// # Errors
    /// The process is gone, or not ours to look at.
    pub(crate) fn look(&self) -> Result<Used> {
        let Self { name, pid } = self;
        let mut used = Used::default();
        let threads = fs::read_dir(format!("/proc/{pid}/task"));
        for thread in threads.with_context(|| format!("{name}: there is no process {pid}"))? {
            // A thread may end between the list and the look.
            let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            used.cpu += text.split(' ').next().and_then(|on_cpu| on_cpu.parse::<u64>().ok()).unwrap_or(0);
        }
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
            .with_context(|| format!("{name}: the memory of process {pid} cannot be read"))?;
        let kib = |field: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(field));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        used.anonymous = kib("Anonymous:");
        used.resident = kib("Rss:");
        Ok(used)
    }
}

/// One look at each.
///
/// # Errors
/// As [`Watched::look`].
pub(crate) fn look_at_all(watched: &[Watched]) -> Result<Vec<Used>> {
    watched.iter().map(Watched::look).collect()
}

/// The process with this name is Redis, whose CPU is told apart from the nodes'.
pub(crate) const REDIS: &str = "redis";

/// Nanoseconds of CPU between two looks: of the nodes together, and of Redis.
pub(crate) fn cpu_between(watched: &[Watched], before: &[Used], after: &[Used]) -> (u64, u64) {
    let (mut nodes, mut redis) = (0, 0);
    for (process, (before, after)) in watched.iter().zip(before.iter().zip(after)) {
        let sum = if process.name == REDIS { &mut redis } else { &mut nodes };
        *sum += after.cpu.saturating_sub(before.cpu);
    }
    (nodes, redis)
}

/// The growth of anonymous memory between two looks, of all processes together. May be negative.
pub(crate) fn growth_between(before: &[Used], after: &[Used]) -> i64 {
    before.iter().zip(after).map(|(before, after)| after.anonymous as i64 - before.anonymous as i64).sum()
}
