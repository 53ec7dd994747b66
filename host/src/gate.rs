//! Turns that need a store for themselves: while one worker has the gate, no other one runs a turn
//! over that store, whatever its protocol.
//!
//! ```text
//!   worker:   enter ── turns of a sweep ── leave        (a flag of its own, two fences a sweep)
//!                │ closed: its turns stay in their list; it is woken when the gate opens
//!   asker:    ask ──► queue ──► close ──► all others outside ──► granted, woken ──► turns ──► open
//! ```
//! What must always be true:
//!
//! * once granted, no other worker is inside until `open`;
//! * nobody waits in a loop or a lock for another's turns: who cannot go on goes to sleep and is
//!   woken;
//! * askers are served in order, and between two of them everybody who was held back gets a sweep;
//! * a worker that retires takes nothing with it: a gate that it had closed opens.
//!
//! The order that matters: a worker says that it is inside, then looks whether the gate is closed;
//! the closer closes, then looks who is inside. A sequentially consistent fence stands between the
//! two steps on both sides, so that at least one sees the other. With one worker nothing is shared
//! and nothing is fenced. Called by the workers; the model of it is `tests/gate.rs`.

use std::collections::VecDeque;

use crate::sync::{AtomicU32, Mutex, MutexGuard, Ordering, fence};

/// No worker has closed the gate and none is owed a sweep.
const QUIET: u32 = 0;
/// Workers are owed a sweep before the gate closes again.
const OWED: u32 = 1 << 31;

/// A store's gate.
#[derive(Debug)]
pub struct Gate {
    /// [`QUIET`], or who closed it (its number plus 1), or [`OWED`]. Changed under the desk's lock.
    word: AtomicU32,
    /// By worker: 1 while it runs turns.
    inside: Box<[Inside]>,
    desk: Mutex<Desk>,
}

#[derive(Debug)]
#[repr(align(128))]
struct Inside(AtomicU32);

/// Who wants what.
#[derive(Debug)]
struct Desk {
    /// Workers that asked, in order; the one who closed the gate is not among them.
    waiting: VecDeque<usize>,
    /// Who closed it.
    closer: Option<usize>,
    /// All others are outside: the closer has it.
    granted: bool,
    /// By worker: found it closed.
    held_back: Box<[bool]>,
    /// By worker: was held back by the turn before, and has had no sweep since.
    owed: Box<[bool]>,
}

impl Gate {
    /// An open gate for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let flags = || (0..workers).map(|_| false).collect();
        Self {
            word: AtomicU32::new(QUIET),
            inside: (0..workers).map(|_| Inside(AtomicU32::new(0))).collect(),
            desk: Mutex::new(Desk {
                waiting: VecDeque::new(),
                closer: None,
                granted: false,
                held_back: flags(),
                owed: flags(),
            }),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn is_alone(&self) -> bool {
        self.inside.len() == 1
    }

    /// A worker begins a sweep's turns. False: another one has closed the gate; this worker is woken
    /// when it opens. `wake` tells a worker to look again.
    #[inline]
    pub fn enter(&self, worker: usize, wake: impl Fn(usize)) -> bool {
        if self.is_alone() {
            return true;
        }
        self.inside[worker].0.store(1, Ordering::Relaxed);
        // Pairs with the fence in `close`: this worker sees the gate closed, or is seen inside.
        fence(Ordering::SeqCst);
        let word = self.word.load(Ordering::Acquire);
        word & !OWED == 0 || word == worker as u32 + 1 || self.enter_slowly(worker, wake)
    }

    #[cold]
    fn enter_slowly(&self, worker: usize, wake: impl Fn(usize)) -> bool {
        let mut desk = self.desk();
        if desk.closer.is_none_or(|closer| closer == worker) {
            return true;
        }
        self.inside[worker].0.store(0, Ordering::Release);
        desk.held_back[worker] = true;
        // The closer may have seen this worker inside for a moment.
        self.grant(&mut desk, &wake);
        false
    }

    /// A worker's turns of this sweep are over. `waits`: it has turns that the gate holds back.
    #[inline]
    pub fn leave(&self, worker: usize, was_inside: bool, waits: bool, wake: impl Fn(usize)) {
        if self.is_alone() {
            return;
        }
        if was_inside {
            self.inside[worker].0.store(0, Ordering::Release);
            // Pairs with the fence in `close`: the closer sees this worker outside, or is seen.
            fence(Ordering::SeqCst);
        }
        if self.word.load(Ordering::Relaxed) != QUIET {
            self.leave_slowly(worker, waits, wake);
        }
    }

    #[cold]
    fn leave_slowly(&self, worker: usize, waits: bool, wake: impl Fn(usize)) {
        let mut desk = self.desk();
        if !waits {
            desk.owed[worker] = false;
        }
        self.go_on(&mut desk, &wake);
    }

    /// A worker wants the gate for itself. True: it has it, until `open`. False: it is woken when
    /// it has it, and asks again then.
    #[must_use]
    pub fn ask(&self, worker: usize, wake: impl Fn(usize)) -> bool {
        if self.is_alone() {
            return true;
        }
        let mut desk = self.desk();
        if desk.closer != Some(worker) {
            if !desk.waiting.contains(&worker) {
                desk.waiting.push_back(worker);
            }
            self.go_on(&mut desk, &|other| {
                if other != worker {
                    wake(other);
                }
            });
        }
        desk.closer == Some(worker) && desk.granted
    }

    /// The worker that has the gate gives it back.
    pub fn open(&self, worker: usize, wake: impl Fn(usize)) {
        if self.is_alone() {
            return;
        }
        let mut desk = self.desk();
        debug_assert!(desk.closer == Some(worker) && desk.granted, "it has the gate");
        self.release(&mut desk, &wake);
    }

    /// A worker ends: it is outside for good and wants nothing any more.
    pub fn retire(&self, worker: usize, wake: impl Fn(usize)) {
        if self.is_alone() {
            return;
        }
        self.inside[worker].0.store(0, Ordering::Release);
        let mut desk = self.desk();
        desk.waiting.retain(|other| *other != worker);
        desk.held_back[worker] = false;
        desk.owed[worker] = false;
        if desk.closer == Some(worker) {
            self.release(&mut desk, &wake);
        } else {
            self.go_on(&mut desk, &wake);
        }
    }

    fn release(&self, desk: &mut Desk, wake: &impl Fn(usize)) {
        (desk.closer, desk.granted) = (None, false);
        let mut owed = false;
        for worker in 0..self.inside.len() {
            if std::mem::take(&mut desk.held_back[worker]) {
                desk.owed[worker] = true;
                wake(worker);
            }
            owed |= desk.owed[worker];
        }
        // Pairs with the load in `enter`: who sees it open sees what was done behind it.
        self.word.store(if owed { OWED } else { QUIET }, Ordering::Release);
        self.go_on(desk, wake);
    }

    /// Closes the gate for who waits first, or grants it to who closed it, if that can be.
    fn go_on(&self, desk: &mut Desk, wake: &impl Fn(usize)) {
        if desk.closer.is_none() {
            if desk.owed.contains(&true) {
                return;
            }
            let Some(next) = desk.waiting.pop_front() else {
                return self.word.store(QUIET, Ordering::Release);
            };
            desk.closer = Some(next);
            self.word.store(next as u32 + 1, Ordering::Relaxed);
            // Pairs with the fences in `enter` and `leave`.
            fence(Ordering::SeqCst);
        }
        self.grant(desk, wake);
    }

    fn grant(&self, desk: &mut Desk, wake: &impl Fn(usize)) {
        let Some(closer) = desk.closer.filter(|_| !desk.granted) else { return };
        // Acquire: what the others did inside is seen by who has the gate.
        let is_outside = |(worker, one): (usize, &Inside)| {
            worker == closer || one.0.load(Ordering::Acquire) == 0
        };
        if self.inside.iter().enumerate().all(is_outside) {
            desk.granted = true;
            wake(closer);
        }
    }
}
