//! An interval as named cells: the one shape behind result files, JSON lines and the dashboard.
//!
//! Always true: all rows of a run have the same names in the same order. Called by the recorder (making)
//! and by `view` and `compare` (reading).

use crate::hist::Latencies;
use crate::record::sample::{All, Of};
use crate::run::conductor::Interval;

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A counter, a gauge, a time.
    Int(i64),
    /// A rate.
    Real(f64),
    /// A word.
    Text(String),
    /// Non-empty buckets of a histogram as (index, count); its sum and maximum stand in cells of their own.
    Buckets(Vec<(u32, u64)>),
}

/// Cells by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    cells: Vec<(String, Cell)>,
}

impl Row {
    /// Appends a cell.
    pub fn push(&mut self, name: impl Into<String>, cell: Cell) {
        self.cells.push((name.into(), cell));
    }

    /// Every cell, in order.
    pub fn cells(&self) -> impl Iterator<Item = (&str, &Cell)> {
        self.cells.iter().map(|(name, cell)| (name.as_str(), cell))
    }

    /// The cell of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Cell> {
        self.cells.iter().find(|(n, _)| n == name).map(|(_, cell)| cell)
    }

    /// A whole number, 0 where there is none.
    #[must_use]
    pub fn int(&self, name: &str) -> i64 {
        match self.get(name) {
            Some(Cell::Int(n)) => *n,
            _ => 0,
        }
    }

    /// A number, 0 where there is none.
    #[must_use]
    pub fn real(&self, name: &str) -> f64 {
        match self.get(name) {
            Some(Cell::Real(x)) => *x,
            Some(Cell::Int(n)) => *n as f64,
            _ => 0.0,
        }
    }

    /// A word, empty where there is none.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        match self.get(name) {
            Some(Cell::Text(text)) => text,
            _ => "",
        }
    }

    /// A histogram, empty where there is none; `None` when its buckets are impossible.
    #[must_use]
    pub fn latencies(&self, name: &str) -> Option<Latencies> {
        let Some(Cell::Buckets(pairs)) = self.get(name) else { return Some(Latencies::new()) };
        let part = |what: &str| u64::try_from(self.int(&format!("{name}/{what}"))).unwrap_or(0);
        Latencies::from_sparse(pairs, part("sum_ns"), part("max_ns"))
    }

    fn push_int(&mut self, name: impl Into<String>, n: u64) {
        self.push(name, Cell::Int(i64::try_from(n).unwrap_or(i64::MAX)));
    }

    fn push_latencies(&mut self, name: &str, latencies: &Latencies) {
        self.push(name, Cell::Buckets(latencies.sparse().collect()));
        self.push_int(format!("{name}/sum_ns"), latencies.sum_ns());
        self.push_int(format!("{name}/max_ns"), latencies.max_ns());
    }
}

/// The row of an interval. `begun_unix_ns` is the run's time 0.
#[must_use]
pub fn row(interval: &Interval, commands: &[String], reads: &[usize], begun_unix_ns: u64) -> Row {
    let sample = &interval.sample;
    let mut row = Row::default();
    row.push_int("step", u64::from(interval.step));
    row.push("phase", Cell::Text(interval.phase.name().to_owned()));
    // 0 stands for a closed loop.
    row.push("rate", Cell::Real(interval.rate.map_or(0.0, |r| r as f64)));
    row.push_int("start_ns", begun_unix_ns + interval.start_ns);
    row.push_int("end_ns", begun_unix_ns + interval.end_ns);
    for of in All::ALL {
        row.push_int(of.name(), sample.get(*of));
    }
    for of in Of::ALL {
        row.push_int(of.name(), sample.sum(*of));
    }
    let of_reads = |of| reads.iter().map(|r| sample.commands[*r].get(of)).sum();
    row.push_int("read_hits", of_reads(Of::Hits));
    row.push_int("read_misses", of_reads(Of::Misses));
    row.push_int("connections", sample.connections);
    row.push_int("in_flight", sample.in_flight);
    row.push_int("backlog", sample.backlog);
    row.push_int("busiest_worker_permille", sample.busiest_permille);
    // -1 stands for unknown.
    row.push("server_cpu_ns", Cell::Int(interval.server_cpu_ns.map_or(-1, |n| n as i64)));
    row.push_latencies("latency", &sample.latency());
    row.push_latencies("service", &sample.service());
    row.push_latencies("first_byte", &sample.first_byte);
    row.push_latencies("kernel", &sample.kernel);
    row.push_latencies("slip", &sample.slip);
    for (name, command) in commands.iter().zip(&sample.commands) {
        for of in Of::ALL {
            row.push_int(format!("{name}/{}", of.name()), command.get(*of));
        }
        row.push_latencies(&format!("{name}/latency"), &command.latency);
    }
    row
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::sample::Sample;
    use crate::run::conductor::Phase;

    /// An interval of one second with so many replies around a latency.
    pub(crate) fn interval(number: u64, replies: u64, latency_ns: u64) -> Interval {
        let mut sample = Sample::new(2);
        for n in 0..replies {
            sample.commands[(n % 2) as usize].add(Of::Responses, 1);
            sample.commands[(n % 2) as usize].latency.record(latency_ns + n * latency_ns / 100);
        }
        sample.commands[0].add(Of::Hits, replies / 2);
        sample.connections = 4;
        let (start_ns, end_ns) = (number * 1_000_000_000, (number + 1) * 1_000_000_000);
        Interval {
            step: 0,
            rate: Some(replies),
            phase: Phase::Measure,
            start_ns,
            end_ns,
            sample,
            server_cpu_ns: None,
        }
    }

    pub(crate) fn names() -> Vec<String> {
        vec!["get".into(), "set".into()]
    }

    #[test]
    fn a_row_gives_back_what_the_interval_held() {
        let interval = interval(3, 10, 50_000);
        let row = row(&interval, &names(), &[0], 1_000);
        assert_eq!(row.int("responses"), 10);
        assert_eq!(row.int("get/responses"), 5);
        assert_eq!(row.int("read_hits"), 5);
        assert_eq!(row.int("start_ns"), 3_000_001_000);
        assert_eq!(row.text("phase"), "measure");
        assert_eq!(row.latencies("latency"), Some(interval.sample.latency()));
    }
}
