//! What the machine allows this process: open files, and the queue of new connections.

use super::report::{Check, Report};

/// Fewer open files than this are used up by a few clients.
const FILES_MIN: u64 = 4_096;
/// Enough for 60,000 clients.
const FILES_GOOD: u64 = 65_536;
/// What a node asks the kernel to queue.
const QUEUE: u64 = 4_096;

const MORE_FILES: &str = "LimitNOFILE=200000 in the unit (systemd), --ulimit nofile=200000:200000 (docker run), \
                          ulimits: { nofile: 200000 } (compose), or `ulimit -Hn` of the shell";

pub(super) fn examine(report: &mut Report) {
    // A node takes the hard limit by itself.
    match rlimit::Resource::NOFILE.get_hard() {
        Ok(hard) => judge_files(hard, report),
        Err(error) => report.note(Check::Files, &format!("the limit of open files cannot be read: {error}")),
    }
    let queue = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
    if let Some(queue) = queue.ok().and_then(|text| text.trim().parse().ok()).filter(|queue: &u64| *queue < QUEUE) {
        let text = format!("the kernel queues {queue} new connections and a crowd that comes back is larger");
        report.hint(Check::Files, &text, &format!("sysctl net.core.somaxconn={QUEUE}"));
    }
}

fn judge_files(hard: u64, report: &mut Report) {
    let files = if hard == rlimit::INFINITY { "any number of".to_owned() } else { hard.to_string() };
    let may = format!("this process may open {files} files, and each client is one");
    match hard {
        ..FILES_MIN => report.bad(Check::Files, &may, MORE_FILES),
        FILES_MIN..FILES_GOOD => report.hint(Check::Files, &format!("{may}: 60,000 clients need more"), MORE_FILES),
        _ => report.ok(Check::Files, &may),
    }
}
