//! The gate under loom: every interleaving of a few workers, with loom's memory model.
//!
//! What is shown: who has the gate is alone inside; nobody sleeps for ever (loom reports a thread
//! that is never woken); everybody held back gets a sweep between two who have it; a worker that
//! retires leaves it open.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// What `gate.rs` is built from here.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU32, Ordering, fence};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
}

#[path = "../src/gate.rs"]
#[allow(unreachable_pub, reason = "the host's library exports it")]
mod gate;

use gate::Gate;

/// A gate with the workers' alarm clocks and what they do.
struct World {
    gate: Gate,
    bells: Vec<loom::sync::Notify>,
    inside: AtomicUsize,
    alone: AtomicUsize,
    /// Plain memory: loom tells when a turn is not ordered behind the exclusive one before.
    store: loom::cell::UnsafeCell<u32>,
}

impl World {
    fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            gate: Gate::new(workers),
            bells: (0..workers).map(|_| loom::sync::Notify::new()).collect(),
            inside: AtomicUsize::new(0),
            alone: AtomicUsize::new(0),
            store: loom::cell::UnsafeCell::new(0),
        })
    }

    fn wake(&self) -> impl Fn(usize) + '_ {
        |worker| self.bells[worker].notify()
    }

    /// One sweep with turns; sleeps while it is held back.
    fn sweep(&self, me: usize) {
        while !self.gate.enter(me, self.wake()) {
            self.gate.leave(me, false, true, self.wake());
            self.bells[me].wait();
        }
        self.inside.fetch_add(1, Ordering::SeqCst);
        assert_eq!(self.alone.load(Ordering::SeqCst), 0, "a turn beside an exclusive one");
        self.store.with(|_| ());
        self.inside.fetch_sub(1, Ordering::SeqCst);
        self.gate.leave(me, true, false, self.wake());
    }

    /// Sleeps until it has the gate, then runs one exclusive turn.
    fn exclude(&self, me: usize) {
        while !self.gate.ask(me, self.wake()) {
            self.gate.leave(me, false, false, self.wake());
            self.bells[me].wait();
        }
        assert_eq!(self.alone.fetch_add(1, Ordering::SeqCst), 0, "two have the gate");
        assert_eq!(self.inside.load(Ordering::SeqCst), 0, "an exclusive turn beside another");
        self.store.with_mut(|_| ());
        self.alone.fetch_sub(1, Ordering::SeqCst);
        self.gate.open(me, self.wake());
        self.gate.leave(me, false, false, self.wake());
    }
}

fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(check);
}

#[test]
fn who_has_the_gate_is_alone_and_everybody_comes_to_an_end() {
    model(3, || {
        let world = World::new(2);
        let other = world.clone();
        let sweeper = thread::spawn(move || {
            other.sweep(1);
            other.sweep(1);
        });
        world.exclude(0);
        sweeper.join().unwrap();
    });
}

#[test]
fn two_that_ask_have_it_one_after_the_other() {
    model(3, || {
        let world = World::new(2);
        let other = world.clone();
        let asker = thread::spawn(move || {
            other.exclude(1);
            other.sweep(1);
        });
        world.sweep(0);
        world.exclude(0);
        asker.join().unwrap();
    });
}

#[test]
fn three_workers_that_ask_and_sweep_all_come_to_an_end() {
    model(2, || {
        let world = World::new(3);
        let (first, second) = (world.clone(), world.clone());
        let a = thread::spawn(move || first.exclude(1));
        let b = thread::spawn(move || second.sweep(2));
        world.exclude(0);
        a.join().unwrap();
        b.join().unwrap();
    });
}

#[test]
fn a_worker_that_retires_with_the_gate_closed_leaves_it_open() {
    model(3, || {
        let world = World::new(2);
        let other = world.clone();
        let sweeper = thread::spawn(move || other.sweep(1));
        let _granted = world.gate.ask(0, world.wake());
        world.gate.retire(0, world.wake());
        sweeper.join().unwrap();
    });
}

#[test]
fn who_was_held_back_gets_a_sweep_before_the_next_one_closes() {
    loom::model(|| {
        let world = World::new(3);
        let none = |_: usize| {};
        assert!(world.gate.ask(0, none));
        assert!(!world.gate.ask(1, none), "in order");
        assert!(!world.gate.enter(2, none));
        world.gate.leave(2, false, true, none);
        world.gate.open(0, none);
        assert!(!world.gate.ask(1, none), "worker 2 is owed a sweep");
        assert!(!world.gate.ask(0, none), "and so everybody waits");
        world.gate.leave(2, false, true, none);
        assert!(!world.gate.ask(1, none), "a sweep that had not begun when it opened is none");
        assert!(world.gate.enter(2, none));
        world.gate.leave(2, true, false, none);
        assert!(world.gate.ask(1, none) && !world.gate.ask(0, none), "then in order");
        assert!(!world.gate.enter(0, none));
        world.gate.leave(0, false, false, none);
        world.gate.open(1, none);
        assert!(world.gate.enter(0, none));
        world.gate.leave(0, true, false, none);
        assert!(world.gate.ask(0, none));
        world.gate.open(0, none);
    });
}
