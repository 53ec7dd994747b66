//! The watchdog: a worker that neither sleeps nor sweeps is reported with its stack.
//!
//! What must always be true: a stuck worker is reported again and again while it is stuck, and
//! once when it goes on; the watchdog takes no lock that a worker holds. Started by `start`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::services::Core;
use crate::stacks::{self, Symbols};

/// Frames of a stack that a line names.
const FRAMES_SHOWN: usize = 24;

/// Looks after the workers, and tells a service manager that wants to know (`WATCHDOG_USEC`)
/// that they turn. A worker that does not move for `stuck_after` is reported; zero never looks.
pub fn start(core: &Arc<Core>, stuck_after: Duration) {
    let manager = std::env::var("WATCHDOG_USEC").ok().and_then(|us| us.parse().ok());
    let manager = manager.filter(|us| *us > 0).map(|us| Duration::from_micros(us) / 3);
    let every = match (stuck_after.is_zero(), manager) {
        (true, None) => return,
        (true, Some(every)) => every,
        (false, None) => stuck_after,
        (false, Some(every)) => every.min(stuck_after),
    };
    let core = core.clone();
    let body = move || {
        let sweeps = |w: usize| core.shares[w].sweeps.load(Ordering::Relaxed);
        let mut last: Vec<u64> = (0..core.workers).map(sweeps).collect();
        let mut stuck = vec![0u32; core.workers];
        loop {
            std::thread::sleep(every);
            let mut all_move = true;
            for (worker, last) in last.iter_mut().enumerate() {
                let now = sweeps(worker);
                let share = &core.shares[worker];
                if now == *last && !share.asleep.load(Ordering::Relaxed) {
                    stuck[worker] += 1;
                    all_move = false;
                    let since = every * stuck[worker];
                    if !stuck_after.is_zero() && since >= stuck_after {
                        share.stuck.fetch_add(1, Ordering::Relaxed);
                        report(&core, worker, since);
                    }
                } else if std::mem::take(&mut stuck[worker]) > 0 {
                    tracing::warn!(worker, "the worker goes on");
                }
                *last = now;
            }
            if manager.is_some() && all_move {
                crate::start::notify_manager("WATCHDOG=1");
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("watchdog".into()).spawn(body) {
        tracing::error!(%error, "cannot start the watchdog thread");
    }
}

fn report(core: &Core, worker: usize, since: Duration) {
    let stack = stacks::of_thread(core.shares[worker].tid.load(Ordering::Relaxed));
    let names = stack.map(|stack| Symbols::new().names(&stack)).unwrap_or_default();
    let shown: Vec<&str> = names.iter().take(FRAMES_SHOWN).map(String::as_str).collect();
    let stack = if shown.is_empty() { "not to be had".into() } else { shown.join(" < ") };
    tracing::error!(
        worker,
        at_least_ms = since.as_millis() as u64,
        stack,
        "a worker is stuck in a plugin; its connections wait"
    );
}
