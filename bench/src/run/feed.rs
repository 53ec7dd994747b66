//! The way of a trace to the workers: one reading thread, a bounded channel to each worker.
//!
//! Always true: all requests of a key go to one worker in the trace's order, and memory is bounded
//! however long the trace is. Called by the conductor (starting) and workers (taking).

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::config::plan::TracePlan;
use crate::trace::{TraceError, TraceRequest, Traces};

/// Requests handed over at once.
const BATCH: usize = 512;
/// Batches that may wait for a worker: 16 × 512 × 40 bytes = 320 KiB each.
const BATCHES_WAITING_MAX: usize = 16;

/// A worker's end.
#[derive(Debug)]
pub(crate) struct Feed {
    receiver: Receiver<Result<Vec<TraceRequest>, String>>,
    batch: std::vec::IntoIter<TraceRequest>,
    ended: bool,
}

/// What a feed has right now.
#[derive(Debug)]
pub(crate) enum Fed {
    /// The next request.
    Request(TraceRequest),
    /// The reader is behind; ask again soon.
    Later,
    /// The trace is over.
    End,
    /// The trace cannot be read on.
    Broken(String),
}

impl Feed {
    /// The next request.
    pub(crate) fn take(&mut self) -> Fed {
        if let Some(request) = self.batch.next() {
            return Fed::Request(request);
        }
        if self.ended {
            return Fed::End;
        }
        match self.receiver.try_recv() {
            Ok(Ok(batch)) => {
                self.batch = batch.into_iter();
                self.take()
            }
            Ok(Err(broken)) => {
                self.ended = true;
                Fed::Broken(broken)
            }
            Err(std::sync::mpsc::TryRecvError::Empty) => Fed::Later,
            Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                self.ended = true;
                Fed::End
            }
        }
    }
}

/// Starts reading; one feed for each worker.
///
/// # Errors
/// When the trace cannot be opened or its first bytes are not of its format.
pub(crate) fn start(plan: &TracePlan, workers: usize) -> Result<Vec<Feed>, TraceError> {
    let traces = Traces::open(plan)?;
    let (senders, feeds) = (0..workers)
        .map(|_| {
            let (sender, receiver) = sync_channel(BATCHES_WAITING_MAX);
            (sender, Feed { receiver, batch: Vec::new().into_iter(), ended: false })
        })
        .unzip();
    std::thread::Builder::new()
        .name("trace".into())
        .spawn(move || read(traces, senders))
        .map_err(TraceError::Read)?;
    Ok(feeds)
}

fn read(traces: Traces, senders: Vec<SyncSender<Result<Vec<TraceRequest>, String>>>) {
    let mut batches: Vec<Vec<TraceRequest>> = vec![Vec::with_capacity(BATCH); senders.len()];
    for request in traces {
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                flush(batches, &senders);
                // Everyone hears it: a half trace is no result. A worker that is gone needs no word.
                senders.iter().for_each(|sender| drop(sender.send(Err(error.to_string()))));
                return;
            }
        };
        let worker = (crate::workload::key_hash(request.id) % senders.len() as u64) as usize;
        batches[worker].push(request);
        if batches[worker].len() == BATCH {
            let batch = std::mem::replace(&mut batches[worker], Vec::with_capacity(BATCH));
            if senders[worker].send(Ok(batch)).is_err() {
                return;
            }
        }
    }
    flush(batches, &senders);
}

fn flush(
    batches: Vec<Vec<TraceRequest>>,
    senders: &[SyncSender<Result<Vec<TraceRequest>, String>>],
) {
    for (batch, sender) in batches.into_iter().zip(senders) {
        // A worker that ended its run early no longer takes any.
        let _ = sender.send(Ok(batch));
    }
}
