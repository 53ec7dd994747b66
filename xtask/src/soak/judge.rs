//! What must hold of a soak, as a verdict each. Pure functions of what was seen.

use super::load::Seen;
use super::sample::Sample;
use std::fmt;
use std::process::ExitStatus;
use std::time::Duration;

/// Resident memory beside the stores may still grow by this between the middle and the end of a run:
/// allocator slack around a store that fills.
const GROWTH_BYTES_MAX: u64 = 6 << 20;
/// The first minutes fill connections' buffers, arenas of threads and tables: a run whose middle lies in
/// them says nothing about growth.
const WARM_UP: Duration = Duration::from_secs(3 * 60);

/// Everything that was seen.
pub(super) struct Run {
    pub(super) before: Sample,
    pub(super) samples: Vec<Sample>,
    pub(super) after: Sample,
    pub(super) results: Vec<Seen>,
    /// What did not add up when items were counted alone.
    pub(super) counted: Vec<String>,
    pub(super) log: String,
    pub(super) status: ExitStatus,
}

/// A promise, what was found, whether it holds.
pub(super) struct Verdict {
    pub(super) promise: &'static str,
    pub(super) found: String,
    pub(super) holds: bool,
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.holds { "holds" } else { "BROKEN" };
        write!(out, "{word:<7} {}: {}", self.promise, self.found)
    }
}

/// All verdicts in the order of the report.
pub(super) fn verdicts(run: &Run) -> Vec<Verdict> {
    let (before, after) = (&run.before, &run.after);
    let verdict = |promise, holds, found: String| Verdict { promise, found, holds };
    let wrong: Vec<String> = run
        .results
        .iter()
        .flat_map(|seen| seen.wrong.iter().map(move |what| format!("{}: {what}", seen.name)))
        .collect();
    let verified: u64 = run.results.iter().map(|seen| seen.verified).sum();
    let told = run.samples.last().is_some_and(|sample| sample.at >= 2 * WARM_UP);
    let idle = run.results.iter().any(|seen| seen.responses == 0 || seen.verified == 0);
    let (middle, end) = beside_the_stores(&run.samples);
    let over = run.samples.iter().filter(|s| s.store.used_bytes > s.store.limit_bytes).count();
    let all = |sample: &Sample| -> u64 { sample.segments.iter().map(|(_, count)| count).sum() };
    let absent = after.segments.iter().find(|(name, _)| name == "absent");
    let present = all(after) - absent.map_or(0, |(_, count)| *count);
    let errors: Vec<&str> = run
        .log
        .lines()
        .filter(|line| line.contains(" ERROR ") || line.contains("panicked"))
        .collect();
    vec![
        verdict(
            "every answer is right",
            wrong.is_empty() && !idle,
            match (wrong.is_empty(), idle) {
                (true, false) => format!("{verified} values verified"),
                (true, true) => "a generator got or verified nothing".into(),
                (false, _) => wrong.join("; "),
            },
        ),
        verdict(
            "resident memory beside the stores does not grow",
            end <= middle + GROWTH_BYTES_MAX || !told,
            format!(
                "{} MiB in the middle, {} MiB at the end (medians{})",
                middle >> 20,
                end >> 20,
                if told { "" } else { "; too short a run to tell" }
            ),
        ),
        verdict(
            "the store keeps to its memory",
            over == 0,
            format!("above the limit in {over} of {} samples", run.samples.len()),
        ),
        verdict(
            "descriptors come back",
            after.descriptors <= before.descriptors,
            format!("{} before, {} after", before.descriptors, after.descriptors),
        ),
        verdict(
            "threads come back",
            after.threads <= before.threads,
            format!("{} before, {} after", before.threads, after.threads),
        ),
        verdict(
            "nothing stays lent",
            after.is_at_rest() && after.heap.pins == 0,
            format!(
                "{} connections, {} sessions, {} pinned values, {} bodies, {} pins",
                after.connections,
                after.sessions,
                after.pinned_values,
                after.bodies,
                after.store.pins + after.heap.pins
            ),
        ),
        verdict(
            "every segment is in one state",
            all(after) == all(before) && (1..=after.segment_limit).contains(&present),
            format!(
                "{} before and {} after; {present} present, {} allowed",
                all(before),
                all(after),
                after.segment_limit
            ),
        ),
        verdict(
            "items and bytes add up",
            run.counted.is_empty(),
            if run.counted.is_empty() {
                "counted after a flush, stores and deletes".into()
            } else {
                run.counted.join("; ")
            },
        ),
        verdict("no session panics", after.panics == 0, format!("{} panics", after.panics)),
        verdict(
            "the log has no error",
            errors.is_empty(),
            errors.first().map_or_else(|| "none".into(), |line| (*line).to_owned()),
        ),
        verdict("the host drains", run.status.success(), run.status.to_string()),
    ]
}

/// Medians of the resident memory that no store accounts for: of the tenth after the middle, and of
/// the last tenth.
fn beside_the_stores(samples: &[Sample]) -> (u64, u64) {
    let tenth = (samples.len() / 10).max(1);
    let beside = |s: &Sample| {
        s.rss_bytes.saturating_sub(s.store.used_bytes).saturating_sub(s.heap.used_bytes)
    };
    let median = |part: &[Sample]| {
        let mut bytes: Vec<u64> = part.iter().map(beside).collect();
        bytes.sort_unstable();
        bytes.get(bytes.len() / 2).copied().unwrap_or(0)
    };
    let half = samples.len() / 2;
    let middle = &samples[half.min(samples.len().saturating_sub(tenth))..];
    (
        median(&middle[..tenth.min(middle.len())]),
        median(&samples[samples.len().saturating_sub(tenth)..]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn sound() -> Run {
        let mut sample =
            Sample { rss_bytes: 100 << 20, descriptors: 20, threads: 6, ..Sample::default() };
        sample.segments = vec![("absent".into(), 3), ("sealed".into(), 5)];
        sample.segment_limit = 6;
        let seen = Seen {
            name: "RESP2",
            responses: 9,
            verified: 5,
            hit_ratio: Some(0.5),
            wrong: Vec::new(),
        };
        Run {
            before: sample.clone(),
            samples: (1..=20)
                .map(|minute| Sample { at: minute * Duration::from_secs(60), ..sample.clone() })
                .collect(),
            after: sample,
            results: vec![seen],
            counted: Vec::new(),
            log: String::new(),
            status: ExitStatus::from_raw(0),
        }
    }

    fn broken(change: impl FnOnce(&mut Run)) -> Vec<&'static str> {
        let mut run = sound();
        change(&mut run);
        verdicts(&run).iter().filter(|v| !v.holds).map(|v| v.promise).collect()
    }

    #[test]
    fn a_sound_run_holds_and_each_fault_breaks_its_promise() {
        assert_eq!(broken(|_| ()), [""; 0]);
        assert_eq!(
            broken(|r| r.results[0].wrong.push("1 stale".into())),
            ["every answer is right"]
        );
        assert_eq!(broken(|r| r.results[0].verified = 0), ["every answer is right"]);
        assert_eq!(broken(|r| r.after.descriptors = 21), ["descriptors come back"]);
        assert_eq!(broken(|r| r.after.threads = 7), ["threads come back"]);
        assert_eq!(broken(|r| r.after.store.pins = 1), ["nothing stays lent"]);
        assert_eq!(broken(|r| r.after.segment_limit = 4), ["every segment is in one state"]);
        assert_eq!(broken(|r| r.after.segments[1].1 = 4), ["every segment is in one state"]);
        assert_eq!(broken(|r| r.counted.push("1 item".into())), ["items and bytes add up"]);
        assert_eq!(broken(|r| r.after.panics = 1), ["no session panics"]);
        assert_eq!(broken(|r| r.log = "x ERROR y".into()), ["the log has no error"]);
        assert_eq!(broken(|r| r.status = ExitStatus::from_raw(256)), ["the host drains"]);
        assert_eq!(
            broken(|r| r.samples[3].store.used_bytes = 1),
            ["the store keeps to its memory"]
        );
    }

    #[test]
    fn memory_that_creeps_up_to_the_end_is_a_leak_and_a_heap_that_fills_at_first_is_not() {
        let grow = |r: &mut Run, from: usize| {
            for (i, sample) in r.samples.iter_mut().enumerate().skip(from) {
                sample.rss_bytes += (i as u64) << 20;
            }
        };
        assert_eq!(broken(|r| grow(r, 0)), ["resident memory beside the stores does not grow"]);
        let store = |r: &mut Run| {
            grow(r, 0);
            for (i, sample) in r.samples.iter_mut().enumerate() {
                sample.heap.used_bytes = (i as u64) << 20;
            }
        };
        assert_eq!(broken(store), [""; 0], "a store that fills is no leak");
        let fills = |r: &mut Run| r.samples[..8].iter_mut().for_each(|s| s.rss_bytes = 1 << 20);
        assert_eq!(broken(fills), [""; 0]);
        let short = |r: &mut Run| {
            grow(r, 0);
            r.samples.iter_mut().for_each(|s| s.at /= 20);
        };
        assert_eq!(broken(short), [""; 0], "a minute is all warm-up");
    }
}
