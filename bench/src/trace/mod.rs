//! Traces: recorded requests, read as a stream.
//!
//! Always true: memory grows with the number of different keys at the most, never with the length of the
//! trace; a line or record that is not of the format ends the reading with its place. Called by the feed.

mod formats;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::config::choices::TraceFormat;
use crate::config::plan::TracePlan;
use crate::workload::mix::Verb;

/// One recorded request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceRequest {
    /// Since the first request of the trace.
    pub at_ns: u64,
    /// The key's number.
    pub id: u64,
    /// What is asked.
    pub verb: Verb,
    /// Length of the key; 0 when the trace has none.
    pub key_len: u32,
    /// Length of the value.
    pub value_len: u32,
    /// Time to live; 0 is none.
    pub ttl_s: u32,
}

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file, or the program that unpacks it.
    #[error("trace: {0}")]
    Read(#[from] std::io::Error),
    /// The unpacking program is missing or failed.
    #[error("trace {path}: `{program}` could not unpack it: {error}")]
    Unpack {
        /// The file.
        path: PathBuf,
        /// What was run.
        program: &'static str,
        /// From the system, or its exit status.
        error: String,
    },
    /// A line that is not of the format.
    #[error("trace line {line}: {why}: `{text}`")]
    Line {
        /// From 1.
        line: u64,
        /// What is wrong.
        why: &'static str,
        /// The line's start.
        text: String,
    },
    /// A record that is cut or impossible.
    #[error("trace record {record}: {why}")]
    Record {
        /// From 0.
        record: u64,
        /// What is wrong.
        why: &'static str,
    },
}

/// A trace's requests.
pub struct Traces {
    inner: Box<dyn Iterator<Item = Result<TraceRequest, TraceError>> + Send>,
    left: u64,
}

impl Traces {
    /// Opens the trace and reads its head.
    ///
    /// # Errors
    /// When it cannot be opened, unpacked, or its head is not of its format.
    pub fn open(plan: &TracePlan) -> Result<Self, TraceError> {
        let source = unpacked(&plan.path)?;
        let inner: Box<dyn Iterator<Item = _> + Send> = match plan.format {
            TraceFormat::Csv => Box::new(formats::Lines::new(source, formats::csv)),
            TraceFormat::Twitter => Box::new(formats::Lines::new(source, formats::twitter)),
            TraceFormat::OracleGeneral => Box::new(formats::OracleGeneral::new(source)),
            TraceFormat::Kt => Box::new(formats::Kt::new(source)?),
        };
        Ok(Self { inner, left: plan.requests_max })
    }
}

impl Iterator for Traces {
    type Item = Result<TraceRequest, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.inner.next()
    }
}

/// The file's bytes, through the program that its suffix names.
fn unpacked(path: &PathBuf) -> Result<Box<dyn BufRead + Send>, TraceError> {
    let (program, arguments): (_, &[&str]) = match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => ("xz", &["-dc"]),
        Some("zst") => ("zstd", &["-dcq"]),
        Some("gz") => ("gzip", &["-dc"]),
        _ => return Ok(Box::new(BufReader::with_capacity(1 << 20, File::open(path)?))),
    };
    let failed = |error: String| TraceError::Unpack { path: path.clone(), program, error };
    let child = Command::new(program)
        .args(arguments)
        .stdin(File::open(path)?)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, Unpacking { child, program })))
}

/// A program's output; that it failed is an error of the last read, not an early end.
struct Unpacking {
    child: Child,
    program: &'static str,
}

impl Read for Unpacking {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let stdout = self.child.stdout.as_mut().expect("piped");
        let n = stdout.read(buffer)?;
        if n == 0 && !buffer.is_empty() {
            let status = self.child.wait()?;
            if !status.success() {
                return Err(std::io::Error::other(format!("{} ended with {status}", self.program)));
            }
        }
        Ok(n)
    }
}

impl Drop for Unpacking {
    fn drop(&mut self) {
        // The run may end before the trace does; a program that ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Numbers for keys that are texts, in order of appearance.
#[derive(Debug, Default)]
struct Names {
    ids: HashMap<Box<[u8]>, u64>,
}

impl Names {
    fn id(&mut self, name: &[u8]) -> u64 {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = self.ids.len() as u64;
        self.ids.insert(name.into(), id);
        id
    }
}
