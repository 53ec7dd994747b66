//! What is shown while a run goes on: a table that is redrawn on a terminal, lines elsewhere.
//!
//! Always true: it goes to standard error, so that a pipe of results stays clean. Called by the recorder.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use super::sample::{All, Of, Sample};
use super::words::{bytes, count, percent, time};
use crate::config::choices::Table;
use crate::run::conductor::{Interval, Phase};

/// Intervals of the little curve.
const CURVE_LEN: usize = 48;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// See the file's head.
pub struct Live {
    table: Table,
    commands: Vec<String>,
    reads: Vec<usize>,
    drawn_lines: usize,
    curve: Vec<f64>,
    headed: bool,
    prefill_tenth: u64,
    bar_open: bool,
}

impl Live {
    /// A table of these commands; without a choice, live on a terminal.
    #[must_use]
    pub fn new(table: Option<Table>, commands: Vec<String>, reads: Vec<usize>) -> Self {
        let fitting = if stderr().is_terminal() { Table::Live } else { Table::Plain };
        Self {
            table: table.unwrap_or(fitting),
            commands,
            reads,
            drawn_lines: 0,
            curve: Vec::new(),
            headed: false,
            prefill_tenth: 0,
            bar_open: false,
        }
    }

    fn print(&mut self, text: &str) {
        // What a person sees is not worth failing a run for.
        let _ = stderr().write_all(text.as_bytes());
    }

    fn close_bar(&mut self) {
        if std::mem::take(&mut self.bar_open) {
            self.print("\n");
        }
    }

    /// A sentence for a person.
    pub fn trouble(&mut self, text: &str) {
        self.close_bar();
        self.drawn_lines = 0;
        self.print(&format!("! {text}\n"));
    }

    /// The progress of prefill.
    pub fn prefill(&mut self, confirmed: u64, total: u64, elapsed: Duration) {
        let share = confirmed as f64 / total.max(1) as f64;
        let rate = confirmed as f64 / elapsed.as_secs_f64().max(1e-9);
        let words = format!("prefill {confirmed}/{total} confirmed, {}/s", count(rate));
        match self.table {
            Table::Live => {
                let full = (share * 30.0) as usize;
                let bar =
                    format!("\r{}{} {words}   ", "█".repeat(full), "░".repeat(30 - full.min(30)));
                self.bar_open = true;
                self.print(&bar);
                if confirmed >= total {
                    self.close_bar();
                }
            }
            Table::Plain => {
                let tenth = (share * 10.0) as u64;
                if tenth > self.prefill_tenth {
                    self.prefill_tenth = tenth;
                    self.print(&format!("{words}\n"));
                }
            }
            Table::None => {}
        }
    }

    /// An interval has ended.
    pub fn interval(&mut self, interval: &Interval) {
        self.close_bar();
        if interval.phase == Phase::Drain {
            return;
        }
        match self.table {
            Table::Live => self.draw(interval),
            Table::Plain => self.line(interval),
            Table::None => {}
        }
    }

    fn line(&mut self, interval: &Interval) {
        if !self.headed {
            self.headed = true;
            self.print(&format!(
                "{:>9} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}\n",
                "time", "phase", "rate/s", "p50", "p99", "p99.9", "max", "hits", "errors"
            ));
        }
        let (s, l) = (&interval.sample, interval.sample.latency());
        let text = format!(
            "{:>7.1} s {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}\n",
            interval.end_ns as f64 / 1e9,
            interval.phase.name(),
            count(throughput(interval)),
            time(l.quantile_ns(0.5)),
            time(l.quantile_ns(0.99)),
            time(l.quantile_ns(0.999)),
            time(l.max_ns()),
            percent(s.hit_ratio(&self.reads)),
            s.failures() + s.faults()
        );
        self.print(&text);
    }

    fn draw(&mut self, interval: &Interval) {
        let (s, seconds) =
            (&interval.sample, (interval.end_ns - interval.start_ns).max(1) as f64 / 1e9);
        self.curve.push(throughput(interval));
        if self.curve.len() > CURVE_LEN {
            self.curve.remove(0);
        }
        let mut lines = Vec::new();
        lines.push(format!(
            "\x1b[1m{:>7.1} s  {}\x1b[0m  {}/s  {}  {} connections, {} in flight{}",
            interval.end_ns as f64 / 1e9,
            interval.phase.name(),
            count(throughput(interval)),
            curve(&self.curve),
            s.connections,
            s.in_flight,
            if s.backlog > 0 {
                format!(", {} due and waiting", count(s.backlog as f64))
            } else {
                String::new()
            }
        ));
        lines.push(format!(
            "  \x1b[2m{:<12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}\x1b[0m",
            "command", "rate/s", "p50", "p99", "p99.9", "max", "hits", "errors"
        ));
        for (name, c) in self.commands.iter().zip(&s.commands) {
            let q = |q| time(c.latency.quantile_ns(q));
            let (hits, misses) = (c.get(Of::Hits) as f64, c.get(Of::Misses) as f64);
            let ratio = (hits + misses > 0.0).then(|| hits / (hits + misses));
            let errors = c.get(Of::Errors) + c.get(Of::Timeouts) + c.get(Of::Lost);
            let name: String = name.chars().take(12).collect();
            lines.push(format!(
                "  {name:<12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}",
                count(c.get(Of::Responses) as f64 / seconds),
                q(0.5),
                q(0.99),
                q(0.999),
                time(c.latency.max_ns()),
                percent(ratio),
                errors
            ));
        }
        let per_second = |of| bytes(s.get(of) as f64 / seconds);
        lines.push(format!(
            "  {}/s out  {}/s in  own CPU {:.0} %{}",
            per_second(All::BytesSent),
            per_second(All::BytesReceived),
            s.busiest_permille as f64 / 10.0,
            faults(s)
        ));
        let up = if self.drawn_lines > 0 {
            format!("\x1b[{}A", self.drawn_lines)
        } else {
            String::new()
        };
        self.drawn_lines = lines.len();
        let text: String = lines.iter().map(|l| format!("\x1b[2K{l}\n")).collect();
        self.print(&format!("{up}{text}"));
    }
}

fn faults(s: &Sample) -> String {
    if s.faults() == 0 {
        String::new()
    } else {
        format!("  \x1b[31m{} answers failed verification\x1b[0m", s.faults())
    }
}

fn throughput(interval: &Interval) -> f64 {
    let responses = if interval.phase == Phase::Warmup {
        return 0.0;
    } else {
        interval.sample.sum(Of::Responses)
    };
    responses as f64 / ((interval.end_ns - interval.start_ns).max(1) as f64 / 1e9)
}

fn curve(values: &[f64]) -> String {
    let max = values.iter().copied().fold(1e-9, f64::max);
    values.iter().map(|v| BARS[((v / max * 7.0).round() as usize).min(7)]).collect()
}
