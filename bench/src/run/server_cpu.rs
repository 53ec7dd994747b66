//! How much processor time the server has used, when it runs on this machine.
//!
//! Always true: the figure is of the whole process, all threads, in nanoseconds; a thread that ends takes
//! its time with it. Called by the conductor at the bounds of intervals.

/// Time on a processor of all threads of `pid`; `None` when the process is gone or not to be seen.
#[must_use]
pub fn cpu_ns(pid: u32) -> Option<u64> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut sum = None;
    for thread in threads.flatten() {
        if let Ok(text) = std::fs::read_to_string(thread.path().join("schedstat"))
            && let Some(ns) = text.split_whitespace().next().and_then(|n| n.parse::<u64>().ok())
        {
            sum = Some(sum.unwrap_or(0) + ns);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_this_process_shows_in_its_time_and_a_missing_one_has_none() {
        let pid = std::process::id();
        let before = cpu_ns(pid).unwrap();
        let mut word = 1u64;
        // Works until it shows: no length of time is assumed.
        while cpu_ns(pid).unwrap() <= before {
            for _ in 0..100_000 {
                word = std::hint::black_box(crate::rng::mix64(word));
            }
        }
        assert_eq!(cpu_ns(u32::MAX / 2), None);
    }
}
