//! The final summary, as text.
//!
//! Always true: it says how the loop was paced, what failed and whether the numbers are the server's.
//! Called by `main`.

use std::fmt::Write as _;

use super::sample::{All, FAULTS, Of};
use super::words::{bytes, count, percent, time};
use crate::config::plan::Plan;
use crate::run::search::Found;
use crate::run::verdict::Step;

/// What the summary is about.
pub struct About<'a> {
    /// The plan that was carried out.
    pub plan: &'a Plan,
    /// Names of the commands.
    pub commands: &'a [String],
    /// Places of those that read.
    pub reads: &'a [usize],
}

/// The summary of a step.
#[must_use]
pub fn of_step(about: &About<'_>, step: &Step) -> String {
    let mut out = String::new();
    let plan = about.plan;
    let target: Vec<_> = plan.endpoints.iter().map(|e| e.name.as_str()).collect();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(String::new());
    line(format!("target       {} over {}", target.join(","), plan.protocol));
    line(format!("loop         {}", plan.loop_words()));
    line(format!(
        "connections  {} × {} in flight, {} thread{}",
        plan.connections,
        plan.pipeline_depth,
        plan.threads,
        if plan.threads == 1 { "" } else { "s" }
    ));
    let achieved = step
        .achieved()
        .map_or_else(String::new, |a| format!(", {:.2} % of the intended rate", a * 100.0));
    line(format!(
        "throughput   {} requests/s over {:.2} s{achieved}",
        count(step.throughput()),
        step.seconds
    ));
    let per_second = |n: u64| bytes(n as f64 / step.seconds.max(1e-3));
    let (sent, received) = (step.total.get(All::BytesSent), step.total.get(All::BytesReceived));
    line(format!("bandwidth    {}/s out, {}/s in", per_second(sent), per_second(received)));
    line(format!("hit ratio    {}", percent(step.total.hit_ratio(about.reads))));
    if let Some(cpu_ns) = step.server_cpu_ns {
        let share = cpu_ns as f64 / (step.seconds.max(1e-3) * 1e9) * 100.0;
        let each = cpu_ns / step.responses.max(1);
        line(format!("server CPU   {} a request, {share:.0} % of one processor", time(each)));
    }
    let own = step.total.get(All::CpuNs);
    line(format!(
        "own CPU      {} a request, {:.0} % of {} thread(s)",
        time(own / step.total.sum(Of::Responses).max(1)),
        own as f64 / (step.seconds.max(1e-3) * 1e9 * plan.threads as f64) * 100.0,
        plan.threads
    ));
    out.push_str(&latencies(about, step));
    out.push_str(&troubles(step));
    out
}

fn latencies(about: &About<'_>, step: &Step) -> String {
    let mut out = String::from("\n");
    let open = step.total.slip.count() > 0;
    let from = if open { "intended send time" } else { "send time" };
    let _ = writeln!(
        out,
        "latency from {from:<20} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "count", "mean", "p50", "p90", "p99", "p99.9", "max"
    );
    let mut row = |name: &str, l: &crate::hist::Latencies| {
        if l.count() > 0 {
            let q = |q| time(l.quantile_ns(q));
            let _ = writeln!(
                out,
                "  {name:<31} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
                count(l.count() as f64),
                time(l.mean_ns() as u64),
                q(0.5),
                q(0.9),
                q(0.99),
                q(0.999),
                time(l.max_ns())
            );
        }
    };
    for (name, command) in about.commands.iter().zip(&step.total.commands) {
        row(name, &command.latency);
    }
    if about.commands.len() > 1 {
        row("all", &step.latency());
    }
    if open {
        row("from send time", &step.total.service());
        row("generator's own slip", &step.total.slip);
    }
    row("to the first byte", &step.total.first_byte);
    if step.total.kernel.count() > 0 {
        row("by the kernel's clock", &step.total.kernel);
    }
    out
}

fn troubles(step: &Step) -> String {
    let mut out = String::from("\n");
    let counted = [Of::Errors, Of::Timeouts, Of::Lost, Of::Unsent, Of::NotStored]
        .into_iter()
        .map(|of| (of.name(), step.total.sum(of)));
    let of_all =
        [All::Disconnects, All::ConnectFailures, All::Garbage, All::Redirects, All::Backfills];
    let all = of_all.into_iter().map(|of| (of.name(), step.total.get(of)));
    let list: Vec<String> =
        counted.chain(all).filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")).collect();
    let _ = writeln!(
        out,
        "errors       {}",
        if list.is_empty() { "none".into() } else { list.join(", ") }
    );
    for (words, n) in &step.total.error_words {
        let _ = writeln!(out, "             {n} × {}", words.replace(char::is_control, "?"));
    }
    let verified = step.total.get(All::Verified);
    let faults: Vec<String> = FAULTS
        .into_iter()
        .filter(|of| step.total.get(*of) > 0)
        .map(|of| format!("{} {}", step.total.get(of), of.name()))
        .collect();
    let verdict = match (verified, faults.is_empty()) {
        (0, true) => "nothing was verified".to_owned(),
        (n, true) => format!("{} values, all as they were stored", count(n as f64)),
        (n, false) => format!("{} values: {}", count(n as f64), faults.join(", ")),
    };
    let _ = writeln!(out, "verification {verdict}");
    for warning in &step.warnings {
        let _ = writeln!(out, "note         {warning}");
    }
    for why in &step.void {
        let _ = writeln!(out, "VOID         {why}");
    }
    for why in step.failures() {
        let _ = writeln!(out, "FAILED       {why}");
    }
    out
}

/// The curve of a search.
#[must_use]
pub fn of_search(found: &Found) -> String {
    let mut out = String::from("\nlatency against rate\n");
    let _ = writeln!(
        out,
        "  {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}  ",
        "rate", "achieved", "p50", "p99", "p99.9", "max"
    );
    let mut steps: Vec<&Step> = found.steps.iter().collect();
    steps.sort_by_key(|s| s.rate);
    let longest = steps.iter().map(|s| s.latency().quantile_ns(0.99)).max().unwrap_or(1).max(1);
    for step in steps {
        let l = step.latency();
        let q = |q| time(l.quantile_ns(q));
        // A bar on a logarithmic scale, from 1 µs to the longest p99.
        let scale = |ns: u64| (ns.max(1_000) as f64 / 1e3).ln();
        let bar = (20.0 * scale(l.quantile_ns(0.99)) / scale(longest).max(0.1)).round() as usize;
        let note = step
            .warnings
            .iter()
            .find(|w| w.starts_with("promise broken"))
            .map_or("kept", |w| &w["promise broken: ".len()..]);
        let void = if step.void.is_empty() { "" } else { " (generator late)" };
        let _ = writeln!(
            out,
            "  {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}  {:<20}  {note}{void}",
            count(step.rate.unwrap_or(0) as f64),
            percent(step.achieved()),
            q(0.5),
            q(0.99),
            q(0.999),
            time(l.max_ns()),
            "▇".repeat(bar.min(20))
        );
    }
    let best = found.best.map_or_else(
        || "no rate kept the promise".to_owned(),
        |b| format!("{b}/s kept the promise"),
    );
    let broken = found.broken.map_or_else(String::new, |b| format!(", {b}/s broke it"));
    let _ = writeln!(out, "\nhighest rate {best}{broken} ({})", found.ended);
    out
}
