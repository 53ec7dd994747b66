//! Threads for jobs that may block.
//!
//! What must always be true: a job that was accepted runs exactly once; the
//! queue is bounded, so a plugin learns that it asks for too much. Called
//! through the host's table.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};

use super::lock;

/// Jobs that wait at most.
pub const QUEUE_JOBS_MAX: usize = 1024;
/// Threads that run them.
pub const THREADS: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// The threads; started with the first job.
#[derive(Debug, Default)]
pub struct Offload {
    queue: OnceLock<SyncSender<Job>>,
    waiting: Arc<AtomicUsize>,
}

impl Offload {
    /// Queues a job; false when the queue is full or no thread can be had.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) -> bool {
        let queue = self.queue.get_or_init(start);
        let waiting = self.waiting.clone();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let counted = move || {
            waiting.fetch_sub(1, Ordering::Relaxed);
            job();
        };
        match queue.try_send(Box::new(counted)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                false
            }
        }
    }

    /// Jobs that no thread has begun.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

fn start() -> SyncSender<Job> {
    let (queue, jobs) = sync_channel::<Job>(QUEUE_JOBS_MAX);
    let jobs = Arc::new(Mutex::new(jobs));
    for n in 0..THREADS {
        let jobs = jobs.clone();
        let thread = std::thread::Builder::new().name(format!("offload-{n}")).spawn(move || {
            loop {
                let job = lock(&jobs).recv();
                match job {
                    Ok(job) => job(),
                    Err(_) => return,
                }
            }
        });
        if let Err(error) = thread {
            tracing::error!(%error, "cannot start an offload thread");
        }
    }
    queue
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_job_runs_on_another_thread_and_a_full_queue_refuses() {
        let offload = Offload::default();
        let (tell, hear) = channel();
        assert!(offload.run(move || tell.send(std::thread::current().id()).unwrap()));
        assert_ne!(hear.recv().unwrap(), std::thread::current().id());

        let (hold, held) = channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let mut accepted = 0;
        while accepted <= QUEUE_JOBS_MAX + THREADS {
            let held = held.clone();
            if !offload.run(move || {
                let _hung_up = lock(&held).recv();
            }) {
                break;
            }
            accepted += 1;
        }
        assert!((QUEUE_JOBS_MAX..=QUEUE_JOBS_MAX + THREADS).contains(&accepted), "{accepted}");
        drop(hold);
    }
}
