//! What is told of a run while it goes on: its intervals and its steps.
//!
//! Always true: an interval lies within one part of one step. Made by the conductor, heard by recorders.

use std::time::Duration;

use super::super::verdict::Step;
use crate::record::sample::Sample;

/// Which part of a step an interval lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Driven and not counted.
    Warmup,
    /// Counted.
    Measure,
    /// After the end: replies to what was sent before.
    Drain,
}

impl Phase {
    /// The word in outputs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Warmup => "warmup",
            Self::Measure => "measure",
            Self::Drain => "drain",
        }
    }
}

/// What happened between two instants, over all workers.
#[derive(Debug, Clone)]
pub struct Interval {
    /// The step it belongs to.
    pub step: u32,
    /// The step's rate.
    pub rate: Option<u64>,
    /// Its part of the step.
    pub phase: Phase,
    /// Beginning, in ns of the run.
    pub start_ns: u64,
    /// End, in ns of the run.
    pub end_ns: u64,
    /// What was counted.
    pub sample: Sample,
    /// Processor time of the server within it.
    pub server_cpu_ns: Option<u64>,
}

/// Who wants to hear while it goes on.
pub trait Observer {
    /// Something a person should read.
    fn trouble(&mut self, text: &str);
    /// So many of so many keys are stored.
    fn prefill(&mut self, confirmed: u64, total: u64, elapsed: Duration);
    /// An interval has ended.
    fn interval(&mut self, interval: &Interval);
    /// A step has ended.
    fn step(&mut self, step: &Step);
}
