//! The gate among more workers and turns than loom can enumerate: shuttle's random schedules.
//!
//! What is shown, for six workers that sweep, ask for the gate, write to each other and retire in an
//! order of chance: who has the gate is alone inside, no worker sleeps for ever (shuttle reports a
//! deadlock), every exclusive turn counts once, and mail that comes while a worker is held back is
//! read once and in order. Weak memory is left to `gate.rs`, which runs under loom. A schedule that
//! fails is printed by shuttle, and played again by `shuttle::replay`.

use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread;
use std::collections::VecDeque;

/// What `gate.rs` is built from here.
mod sync {
    pub(crate) use shuttle::sync::atomic::{AtomicU32, Ordering, fence};
    pub(crate) use shuttle::sync::{Mutex, MutexGuard};
}

#[path = "../src/gate.rs"]
#[allow(unreachable_pub, reason = "the host's library exports it")]
mod gate;

use gate::Gate;

/// Enough for several to wait while one is granted and others are owed a sweep.
const WORKERS: usize = 6;
/// What a worker does before it retires.
const STEPS: usize = 12;
const SCHEDULES: usize = 600;
/// Ordering violations that need so many switches at the wrong moment are looked for on purpose.
const SWITCHES: usize = 3;

/// A worker's alarm clock and letter box: one wake-up may stand for many, a letter for itself alone.
#[derive(Default)]
struct Desk {
    rung: bool,
    mail: VecDeque<(usize, usize)>,
}

struct World {
    gate: Gate,
    desks: Vec<(Mutex<Desk>, Condvar)>,
    inside: AtomicUsize,
    alone: AtomicUsize,
    /// Counted in two steps: a turn beside another one would lose a count.
    turns: AtomicUsize,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            gate: Gate::new(WORKERS),
            desks: (0..WORKERS).map(|_| Default::default()).collect(),
            inside: AtomicUsize::new(0),
            alone: AtomicUsize::new(0),
            turns: AtomicUsize::new(0),
        })
    }

    fn wake(&self) -> impl Fn(usize) + '_ {
        |worker| {
            let (desk, bell) = &self.desks[worker];
            desk.lock().unwrap().rung = true;
            bell.notify_one();
        }
    }

    fn post(&self, from: usize, to: usize, number: usize) {
        let (desk, bell) = &self.desks[to];
        let mut desk = desk.lock().unwrap();
        desk.mail.push_back((from, number));
        desk.rung = true;
        bell.notify_one();
    }

    /// Sleeps until something rang.
    fn sleep(&self, me: usize) {
        let (desk, bell) = &self.desks[me];
        let mut desk = desk.lock().unwrap();
        while !desk.rung {
            desk = bell.wait(desk).unwrap();
        }
        desk.rung = false;
    }
}

/// What one worker knows of the mail.
struct Worker {
    me: usize,
    world: Arc<World>,
    sent: [usize; WORKERS],
    got: [usize; WORKERS],
}

impl Worker {
    /// Mail is read before turns and while they are held back: it needs no store.
    fn read(&mut self) {
        let mail = std::mem::take(&mut self.world.desks[self.me].0.lock().unwrap().mail);
        for (from, number) in mail {
            assert_eq!(number, self.got[from], "mail of one sender comes once and in order");
            self.got[from] += 1;
        }
    }

    fn write(&mut self, to: usize) {
        self.world.post(self.me, to, self.sent[to]);
        self.sent[to] += 1;
    }

    fn sweep(&mut self) {
        let world = self.world.clone();
        while !world.gate.enter(self.me, world.wake()) {
            world.gate.leave(self.me, false, true, world.wake());
            world.sleep(self.me);
            self.read();
        }
        world.inside.fetch_add(1, Ordering::SeqCst);
        assert_eq!(world.alone.load(Ordering::SeqCst), 0, "a turn beside an exclusive one");
        world.inside.fetch_sub(1, Ordering::SeqCst);
        world.gate.leave(self.me, true, false, world.wake());
    }

    fn exclude(&mut self) {
        let world = self.world.clone();
        while !world.gate.ask(self.me, world.wake()) {
            world.gate.leave(self.me, false, false, world.wake());
            world.sleep(self.me);
            self.read();
        }
        assert_eq!(world.alone.fetch_add(1, Ordering::SeqCst), 0, "two have the gate");
        assert_eq!(world.inside.load(Ordering::SeqCst), 0, "an exclusive turn beside another");
        let turns = world.turns.load(Ordering::SeqCst);
        thread::yield_now();
        world.turns.store(turns + 1, Ordering::SeqCst);
        world.alone.fetch_sub(1, Ordering::SeqCst);
        world.gate.open(self.me, world.wake());
        world.gate.leave(self.me, false, false, world.wake());
    }

    /// The steps of chance; what it wrote to whom, what it read from whom, its exclusive turns.
    fn work(mut self) -> ([usize; WORKERS], [usize; WORKERS], usize) {
        let mut turns = 0;
        for _ in 0..STEPS {
            self.read();
            match thread_rng().gen_range(0..8) {
                0..4 => self.sweep(),
                4..6 => {
                    self.exclude();
                    turns += 1;
                }
                _ => {
                    let to = thread_rng().gen_range(0..WORKERS);
                    self.write(to);
                }
            }
        }
        // One that dies while it waits for the gate, or has it, must hold up nobody.
        if thread_rng().gen_range(0..2) == 0 {
            let _granted = self.world.gate.ask(self.me, self.world.wake());
        }
        self.world.gate.retire(self.me, self.world.wake());
        (self.sent, self.got, turns)
    }
}

fn crowd() {
    let world = World::new();
    let workers: Vec<_> = (0..WORKERS)
        .map(|me| {
            let worker = Worker { me, world: world.clone(), sent: [0; WORKERS], got: [0; WORKERS] };
            thread::spawn(|| worker.work())
        })
        .collect();
    let done: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    let turns: usize = done.iter().map(|(_, _, turns)| turns).sum();
    assert_eq!(world.turns.load(Ordering::SeqCst), turns, "each exclusive turn counts once");
    for to in 0..WORKERS {
        let left = world.desks[to].0.lock().unwrap().mail.len();
        let sent: usize = done.iter().map(|(sent, _, _)| sent[to]).sum();
        let got: usize = done[to].1.iter().sum();
        assert_eq!(
            sent,
            got + left,
            "a letter is read once, or lies there when its reader is gone"
        );
    }
}

#[test]
fn a_crowd_of_workers_passes_the_gate_one_by_one_and_loses_no_mail() {
    shuttle::check_random(crowd, SCHEDULES);
}

#[test]
fn a_crowd_of_workers_survives_switches_at_the_worst_moments() {
    shuttle::check_pct(crowd, SCHEDULES, SWITCHES);
}
