//! Tells the host about evictions and expiries, when somebody listens.
//!
//! The store calls its observer in the middle of its work, on the worker's own
//! thread. The keys are gathered there and told after the store is done.

use cache_core::{Observer, Reason};
use crucible_plugin_api::{KeyEvent, KeyEventKind, WorkerCtx};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most events that are gathered at once; more are dropped, oldest first told.
const GATHERED_MAX: usize = 4096;

thread_local! {
    static GATHERED: RefCell<Vec<(KeyEventKind, Box<[u8]>)>> = const { RefCell::new(Vec::new()) };
}

/// Whether anybody wants to hear of evictions or expiries.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    evicted: AtomicBool,
    expired: AtomicBool,
}

impl Wanted {
    /// Asks the host again.
    pub(crate) fn set(&self, ctx: &WorkerCtx) {
        let put = |flag: &AtomicBool, kind| {
            let wants = ctx.wants(kind);
            if flag.load(Ordering::Relaxed) != wants {
                flag.store(wants, Ordering::Relaxed);
            }
        };
        put(&self.evicted, KeyEventKind::EVICTED);
        put(&self.expired, KeyEventKind::EXPIRED);
    }
}

/// The store's observer.
pub(crate) fn observer(wanted: &Arc<Wanted>) -> Observer {
    let wanted = Arc::clone(wanted);
    Arc::new(move |key, reason| {
        let (flag, kind) = match reason {
            Reason::Evicted => (&wanted.evicted, KeyEventKind::EVICTED),
            Reason::Expired => (&wanted.expired, KeyEventKind::EXPIRED),
        };
        if flag.load(Ordering::Relaxed) {
            GATHERED.with_borrow_mut(|gathered| {
                if gathered.len() < GATHERED_MAX {
                    gathered.push((kind, key.into()));
                }
            });
        }
    })
}

/// Tells the host what was gathered on this thread.
pub(crate) fn tell(ctx: &WorkerCtx) {
    if !ctx.wants(KeyEventKind::EVICTED) && !ctx.wants(KeyEventKind::EXPIRED) {
        return;
    }
    let gathered = GATHERED.with_borrow_mut(std::mem::take);
    for (kind, key) in &gathered {
        ctx.emit(KeyEvent { kind: *kind, key, conn_id: 0, value_len: 0 });
    }
}
