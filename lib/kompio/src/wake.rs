//! The mailbox of a worker: numbers from other threads, and the wake-up of a sleeper.
//!
//! What must always be true: a value posted is delivered, with at most one eventfd write for any
//! number of posts to a sleeping worker and none to a waking one. All of that is in one atomic
//! word, so there is no order between two words to get wrong:
//!
//! ```text
//!            post: old |= PENDING      write the eventfd if old was SLEEPING alone
//! before sleeping: old |= SLEEPING     do not sleep if old was PENDING
//!     after a wake: old  = 0           drain the queue if old was PENDING
//! ```
//! Called by [`Handle`](crate::Handle) from any thread and by the loop from its own.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys;

const PENDING: u32 = 1;
const SLEEPING: u32 = 2;

#[derive(Debug)]
pub(crate) struct Mailbox {
    queue: Mutex<VecDeque<u64>>,
    state: AtomicU32,
    eventfd: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Mailbox> {
        Ok(Mailbox {
            queue: Mutex::new(VecDeque::new()),
            state: AtomicU32::new(0),
            eventfd: sys::eventfd()?,
        })
    }

    pub(crate) fn eventfd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    pub(crate) fn post(&self, value: u64) {
        self.lock().push_back(value);
        self.kick();
    }

    /// Makes the worker look, without a value.
    pub(crate) fn kick(&self) {
        // AcqRel: pairs with the RMWs of the worker on the same word; the queue has its own lock.
        let old = self.state.fetch_or(PENDING, Ordering::AcqRel);
        if old == SLEEPING {
            sys::eventfd_write(self.eventfd.as_raw_fd());
        }
    }

    /// Announces sleep; false when there is something to look at first.
    #[inline]
    pub(crate) fn may_sleep(&self) -> bool {
        let old = self.state.fetch_or(SLEEPING, Ordering::AcqRel);
        if old & PENDING == 0 {
            return true;
        }
        self.state.fetch_and(!SLEEPING, Ordering::AcqRel);
        false
    }

    /// Back from sleep.
    #[inline]
    pub(crate) fn awake(&self) {
        self.state.fetch_and(!SLEEPING, Ordering::AcqRel);
    }

    /// Moves up to `limit` values to `into`; true when somebody kicked since the last call.
    #[inline]
    pub(crate) fn collect(&self, into: &mut Vec<u64>, limit: usize) -> bool {
        if self.state.load(Ordering::Relaxed) & PENDING == 0 {
            return false;
        }
        self.collect_pending(into, limit);
        true
    }

    #[cold]
    fn collect_pending(&self, into: &mut Vec<u64>, limit: usize) {
        // The bit goes first: a post after this sets it again and is at worst drained early.
        self.state.fetch_and(!PENDING, Ordering::AcqRel);
        let mut queue = self.lock();
        let count = queue.len().min(limit);
        into.extend(queue.drain(..count));
        if !queue.is_empty() {
            self.state.fetch_or(PENDING, Ordering::AcqRel);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<u64>> {
        // A poster cannot panic between lock and unlock in a way that breaks the queue.
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_before_sleep_keeps_the_worker_awake() {
        let mailbox = Mailbox::new().unwrap();
        mailbox.post(7);
        assert!(!mailbox.may_sleep());
        let mut got = Vec::new();
        assert!(mailbox.collect(&mut got, 10));
        assert_eq!(got, [7]);
        assert!(mailbox.may_sleep());
    }

    #[test]
    fn many_posts_to_a_sleeper_write_the_eventfd_once() {
        let mailbox = Mailbox::new().unwrap();
        assert!(mailbox.may_sleep());
        for i in 0..5 {
            mailbox.post(i);
        }
        assert_eq!(sys::eventfd_read(mailbox.eventfd()), Some(1));
        mailbox.awake();
        let mut got = Vec::new();
        assert!(mailbox.collect(&mut got, 3));
        assert_eq!(got, [0, 1, 2]);
        assert!(!mailbox.may_sleep(), "two values are left");
        assert!(mailbox.collect(&mut got, 10));
        assert_eq!(got, [0, 1, 2, 3, 4]);
        assert!(!mailbox.collect(&mut got, 10));
    }

    #[test]
    fn no_wake_up_is_lost_between_posters_and_a_sleeping_worker() {
        const POSTERS: u64 = 3;
        const EACH: u64 = 2000;
        let mailbox = std::sync::Arc::new(Mailbox::new().unwrap());
        let posters: Vec<_> = (0..POSTERS)
            .map(|p| {
                let mailbox = mailbox.clone();
                std::thread::spawn(move || {
                    for i in 0..EACH {
                        mailbox.post(p * EACH + i);
                    }
                })
            })
            .collect();
        let mut got = Vec::new();
        while got.len() < (POSTERS * EACH) as usize {
            if mailbox.may_sleep() {
                // A lost wake-up would hang here.
                sys::eventfd_wait(mailbox.eventfd());
                mailbox.awake();
            }
            mailbox.collect(&mut got, usize::MAX);
        }
        for poster in posters {
            poster.join().unwrap();
        }
        got.sort_unstable();
        assert!(got.iter().copied().eq(0..POSTERS * EACH));
    }
}
