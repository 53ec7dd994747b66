//! Flush: every slab is taken out of use and every shard's table taken away, which
//! takes a few stores for each; the slabs come back later, in small steps.
//!
//! Slabs first: a store has its slot and publishes its item under one hold of its
//! shard, so what it published before its table was taken lies in a slab that is
//! flushed or in one that was taken since, which is looked through as well.

use crate::slabs::State;
use crate::store::Store;
use crate::worker::Worker;

impl Store {
    /// Removes everything that was stored before this call.
    pub(crate) fn flush(&self, worker: &mut Worker) {
        // What a job was about is over.
        if let Some(job) = worker.job.take() {
            self.drains.add(self, job.slabs(), State::Draining);
        }
        let mut flushed = Vec::new();
        for id in 0..self.slabs.len() {
            let life = self.slabs.life(id);
            if self.slabs.leave_to_drain(life, State::Flushed) || self.slabs.flush_draining(life) {
                flushed.push(life);
            }
        }
        for index in 0..self.shards().len() {
            self.lock(index).take_all(worker);
        }
        self.drains.add(self, flushed.into_iter(), State::Flushed);
    }
}
