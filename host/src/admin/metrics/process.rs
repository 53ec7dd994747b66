//! The process as a whole: build, plugins, time, memory, queues.
//!
//! What must always be true: nothing here waits for a worker. Called by `render`.

use crucible_plugin_api::abi::tables;

use super::text::{Kind, Text};
use crate::admin::State;
use crate::services::process;

pub(super) fn write(text: &mut Text, state: &State) {
    let core = &state.crew.core;
    let usage = process::usage();
    let name = text.family("crucible_build", Kind::Info, "Version of the host.");
    let (major, minor) = (tables::ABI_MAJOR, tables::ABI_MINOR);
    let abi = format!("{major}.{minor}");
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("abi", &abi)];
    text.sample(&name, &[labels[0], labels[1], ("arch", std::env::consts::ARCH)], 1);
    let name = text.family("crucible_plugin", Kind::Info, "Loaded plugins.");
    let protocols = state.crew.serving().protocols;
    let all = state.crew.stores.iter().map(|s| &s.plugin);
    let mut seen = Vec::new();
    for plugin in all.chain(protocols.iter().map(|p| &p.plugin)) {
        let m = &plugin.metadata;
        if !seen.contains(&(&m.name, &m.version)) {
            seen.push((&m.name, &m.version));
            let kind = m.kind.to_string();
            text.sample(&name, &[("name", &m.name), ("kind", &kind), ("version", &m.version)], 1);
        }
    }
    text.one(
        "crucible_ready",
        Kind::Gauge,
        "1 while requests are welcome.",
        u8::from(core.is_ready()),
    );
    text.one(
        "crucible_uptime_seconds",
        Kind::Gauge,
        "Time since the start.",
        core.started.elapsed().as_secs_f64(),
    );
    let name = text.family("crucible_cpu_seconds", Kind::Counter, "CPU time of the process.");
    text.sample(&name, &[("mode", "user")], usage.user_us as f64 / 1e6);
    text.sample(&name, &[("mode", "system")], usage.system_us as f64 / 1e6);
    let name = text.family("crucible_memory_bytes", Kind::Gauge, "Memory of the process by kind.");
    text.sample(&name, &[("kind", "resident")], usage.rss_bytes);
    text.sample(&name, &[("kind", "resident_max")], usage.rss_max_bytes);
    text.sample(&name, &[("kind", "connections")], core.sum(|s| &s.held_bytes));
    text.sample(&name, &[("kind", "pinned_by_replies")], core.sum(|s| &s.pinned_bytes));
    let name =
        text.family("crucible_queue_length", Kind::Gauge, "Things that wait inside the process.");
    text.sample(&name, &[("queue", "blocking_jobs")], core.offload.waiting());
    let mail: usize = (0..core.workers).map(|worker| core.waiting_mail(worker)).sum();
    text.sample(&name, &[("queue", "worker_mail")], mail);
    text.one("crucible_threads", Kind::Gauge, "Threads of the process.", usage.threads);
    text.one("crucible_descriptors", Kind::Gauge, "Open file descriptors.", usage.descriptors);
}
