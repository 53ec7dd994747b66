//! The recorder: hears the conductor and fills every output that was asked for.
//!
//! Always true: an output that fails is said once and the run goes on; what was written stays. Called by
//! `main`.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::json::JsonLines;
use super::live::Live;
use super::parquet::{ResultFileError, ResultWriter};
use super::prometheus::{Exporter, Page};
use super::row::row;
use super::summary::About;
use crate::config::plan::Plan;
use crate::run::conductor::{Interval, Observer};
use crate::run::verdict::Step;

/// Why an output could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A result file.
    #[error("output.parquet: {0}")]
    Parquet(#[from] ResultFileError),
    /// JSON lines.
    #[error("output.json = {path}: {error}")]
    Json {
        /// As given.
        path: String,
        /// From the system.
        error: io::Error,
    },
}

/// Files that are opened before the run, so that a wrong path costs nothing.
pub struct Files {
    json: Option<JsonLines>,
    parquet: Option<ResultWriter>,
}

impl Files {
    /// Opens what the plan asks for.
    ///
    /// # Errors
    /// See [`OutputError`].
    pub fn open(plan: &Plan) -> Result<Self, OutputError> {
        let json = plan.json.as_ref().map(|path| {
            JsonLines::create(path)
                .map_err(|error| OutputError::Json { path: path.display().to_string(), error })
        });
        let parquet = plan.parquet.as_ref().map(|path| ResultWriter::create(path));
        Ok(Self { json: json.transpose()?, parquet: parquet.transpose()? })
    }
}

/// See the file's head.
pub struct Recorder {
    plan: Plan,
    commands: Vec<String>,
    reads: Vec<usize>,
    live: Live,
    files: Files,
    exporter: Option<Exporter>,
    description: Vec<(String, String)>,
    begun_unix_ns: u64,
    said: Vec<String>,
}

impl Recorder {
    /// A recorder for a run of these commands that has just begun.
    #[must_use]
    pub fn new(plan: &Plan, commands: Vec<String>, reads: Vec<usize>, files: Files) -> Self {
        let begun_unix_ns =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        let mut description = plan.described.clone();
        description.extend(super::machine::describe());
        description.push(("commands_measured".into(), commands.join("\n")));
        description.push(("begun_unix_ns".into(), begun_unix_ns.to_string()));
        let live = Live::new(plan.table, commands.clone(), reads.clone());
        let mut recorder = Self {
            plan: plan.clone(),
            commands,
            reads,
            live,
            files,
            exporter: None,
            description,
            begun_unix_ns,
            said: Vec::new(),
        };
        if let Some(json) = &mut recorder.files.json {
            let written = json.description(&recorder.description);
            recorder.check(written.map_err(|e| format!("json: {e}")));
        }
        recorder
    }

    /// Fills a Prometheus page from now on.
    pub fn export(&mut self) -> Page {
        let (exporter, page) = Exporter::new(self.commands.clone());
        self.exporter = Some(exporter);
        page
    }

    /// What a summary needs.
    #[must_use]
    pub fn about(&self) -> About<'_> {
        About { plan: &self.plan, commands: &self.commands, reads: &self.reads }
    }

    fn check(&mut self, result: Result<(), String>) {
        if let Err(text) = result
            && !self.said.contains(&text)
        {
            self.live.trouble(&text);
            self.said.push(text);
        }
    }

    /// Closes the files; `verdict` goes into the result file's description.
    ///
    /// # Errors
    /// When a result file could not be finished.
    pub fn finish(mut self, verdict: &[(String, String)]) -> Result<(), ResultFileError> {
        self.description.extend_from_slice(verdict);
        match self.files.parquet.take() {
            Some(writer) => writer.close(&self.description),
            None => Ok(()),
        }
    }
}

impl Observer for Recorder {
    fn trouble(&mut self, text: &str) {
        self.live.trouble(text);
    }

    fn prefill(&mut self, confirmed: u64, total: u64, elapsed: Duration) {
        self.live.prefill(confirmed, total, elapsed);
    }

    fn interval(&mut self, interval: &Interval) {
        self.live.interval(interval);
        if let Some(exporter) = &mut self.exporter {
            exporter.interval(interval);
        }
        if self.files.json.is_none() && self.files.parquet.is_none() {
            return;
        }
        let row = row(interval, &self.commands, &self.reads, self.begun_unix_ns);
        if let Some(json) = &mut self.files.json {
            let written = json.interval(&row).map_err(|e| format!("json: {e}"));
            self.check(written);
        }
        if let Some(parquet) = &mut self.files.parquet {
            let written = parquet.push(row).map_err(|e| e.to_string());
            self.check(written);
        }
    }

    fn step(&mut self, step: &Step) {
        if let Some(json) = &mut self.files.json {
            let about = About { plan: &self.plan, commands: &self.commands, reads: &self.reads };
            let written = json.step(&about, step).map_err(|e| format!("json: {e}"));
            self.check(written);
        }
    }
}
