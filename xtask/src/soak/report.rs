//! The report of a soak, as Markdown. Figures only; what they mean is in the verdicts.

use super::judge::{Run, Verdict};
use super::sample::Sample;
use std::fmt::Write as _;
use std::fs;

/// Rows of the table over time.
const ROWS: usize = 16;

pub(super) fn markdown(
    minutes: u64,
    rate: u64,
    run: &Run,
    events: Vec<(&str, usize)>,
    verdicts: &[Verdict],
) -> String {
    let mut out = String::new();
    let _ = write(&mut out, minutes, rate, run, events, verdicts);
    out
}

fn write(
    out: &mut String,
    minutes: u64,
    rate: u64,
    run: &Run,
    events: Vec<(&str, usize)>,
    verdicts: &[Verdict],
) -> std::fmt::Result {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let length = run.after.at.as_secs_f64().max(1.0);
    let cpu = (run.after.cpu_us - run.before.cpu_us) as f64 / 1e4 / length;
    writeln!(out, "# Soak\n")?;
    writeln!(
        out,
        "`cargo xtask soak --minutes {minutes} --rate {rate}` at {}, on Linux {} with {cpus} CPUs. \
         Two workers; segcache with 64 MiB behind RESP, memcache and Momento, heap with 16 MiB \
         behind a second RESP listener. The host used {cpu:.1} % of a CPU.\n",
        super::commit(),
        kernel.trim(),
    )?;
    writeln!(out, "| promise | | found |\n|---|---|---|")?;
    for v in verdicts {
        let word = if v.holds { "holds" } else { "**broken**" };
        writeln!(out, "| {} | {word} | {} |", v.promise, v.found.replace('|', "\\|"))?;
    }
    writeln!(out, "\n## Load\n")?;
    writeln!(out, "| generator | answers | values verified | hits |\n|---|---:|---:|---:|")?;
    for seen in &run.results {
        let hits = seen.hit_ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.3}"));
        writeln!(out, "| {} | {} | {} | {hits} |", seen.name, seen.responses, seen.verified)?;
    }
    writeln!(out, "\nMeanwhile, how often:\n")?;
    for (name, count) in events {
        writeln!(out, "- {name}: {count}")?;
    }
    writeln!(out, "\n## Over time\n")?;
    let states: Vec<&str> = run.after.segments.iter().map(|(name, _)| name.as_str()).collect();
    writeln!(
        out,
        "| minute | RSS MiB | fds | threads | connections | pinned | items | used MiB | evicted | \
         expired | no memory | heap items | heap used MiB | segments: {} |",
        states.join(", ")
    )?;
    writeln!(out, "|{}", "---:|".repeat(14))?;
    let step = (run.samples.len() / ROWS).max(1);
    let shown = run.samples.iter().skip(step - 1).step_by(step);
    for sample in std::iter::once(&run.before).chain(shown).chain([&run.after]) {
        row(out, sample)?;
    }
    writeln!(
        out,
        "\nThe first row is before the load, the last after it. Counters are since the start."
    )
}

fn row(out: &mut String, s: &Sample) -> std::fmt::Result {
    let segments: Vec<String> = s.segments.iter().map(|(_, count)| count.to_string()).collect();
    writeln!(
        out,
        "| {:.1} | {:.1} | {} | {} | {} | {} | {} | {:.1} | {} | {} | {} | {} | {:.1} | {} |",
        s.at.as_secs_f64() / 60.0,
        mib(s.rss_bytes),
        s.descriptors,
        s.threads,
        s.connections,
        s.pinned_values,
        s.store.items,
        mib(s.store.used_bytes),
        s.store.evicted,
        s.store.expired,
        s.store.no_memory,
        s.heap.items,
        mib(s.heap.used_bytes),
        segments.join(", ")
    )
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
