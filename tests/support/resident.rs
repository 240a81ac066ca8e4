//! How much memory a process has, as Linux counts it.

/// In bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resident {
    pub(crate) now: u64,
    /// The most since its start.
    pub(crate) peak: u64,
}

/// # Panics
/// When the process is gone.
pub(crate) fn of(process: u32) -> Resident {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process is there");
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux tells it");
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().expect("a number") * 1024
    };
    Resident { now: of("VmRSS:"), peak: of("VmHWM:") }
}

pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
