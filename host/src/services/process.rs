//! Numbers of the process, from the kernel.
//!
//! What must always be true: a number that cannot be had is 0, never a failure.
//! Called by the statistics that plugins and the admin server show.

/// What the kernel says of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time in user mode, microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, microseconds.
    pub system_us: u64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Largest resident memory so far.
    pub rss_max_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

/// Reads it.
#[must_use]
pub fn usage() -> Usage {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields after the command, which may contain anything, in parentheses.
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = |n: usize| -> u64 {
        after.split_whitespace().nth(n).and_then(|t| t.parse().ok()).unwrap_or(0)
    };
    // USER_HZ is 100 on every architecture that Linux shows it on.
    const TICK_US: u64 = 10_000;
    Usage {
        user_us: ticks(11) * TICK_US,
        system_us: ticks(12) * TICK_US,
        rss_bytes: field("VmRSS:") * 1024,
        rss_max_bytes: field("VmHWM:") * 1024,
        threads: field("Threads:"),
        descriptors: std::fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count() as u64),
    }
}

/// Memory that this process may use: the machine's, or its control group's
/// limit when that is lower.
#[must_use]
pub fn memory_bytes() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = machine
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .map_or(u64::MAX, |kib: u64| kib * 1024);
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    limits
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok())
        .fold(total, u64::min)
}

/// CPUs that this process may use: its affinity, or its control group's quota
/// when that is lower.
#[must_use]
pub fn cpus() -> usize {
    let affinity = kompio::affinity().map_or(1, |cpus| cpus.len());
    let quota = std::fs::read_to_string("/sys/fs/cgroup/cpu.max").ok().and_then(|text| {
        let (quota, period) = text.trim().split_once(' ')?;
        let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
        (period > 0).then(|| quota.div_ceil(period) as usize)
    });
    quota.map_or(affinity, |q| q.min(affinity)).clamp(1, kompio::limits::WORKERS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_memory_threads_and_cpus() {
        let usage = usage();
        assert!(usage.rss_bytes > 100 << 10 && usage.rss_max_bytes >= usage.rss_bytes / 2);
        assert!(usage.threads >= 1 && usage.descriptors >= 3);
        assert!(memory_bytes() > 1 << 20);
        assert!(cpus() >= 1);
    }
}
