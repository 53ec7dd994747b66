//! What a result must say of where it was made.
//!
//! Always true: a figure that cannot be read is left out, never guessed. Called by the recorder.

use std::fs;

/// The machine, the kernel and this program, as text pairs.
#[must_use]
pub fn describe() -> Vec<(String, String)> {
    let mut pairs = vec![("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    let mut push = |key: &str, value: Option<String>| {
        if let Some(value) = value.map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()) {
            pairs.push((key.to_owned(), value));
        }
    };
    push("host", fs::read_to_string("/proc/sys/kernel/hostname").ok());
    push("kernel", fs::read_to_string("/proc/sys/kernel/osrelease").ok());
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split_once(':'));
    push("cpu", model.map(|(_, name)| name.to_owned()));
    push("cpus", std::thread::available_parallelism().ok().map(|n| n.to_string()));
    push(
        "memory",
        fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|t| t.lines().next()?.split_once(':').map(|(_, size)| size.to_owned())),
    );
    push(
        "build",
        Some(if cfg!(debug_assertions) { "debug: not for quoting" } else { "release" }.to_owned()),
    );
    pairs
}
