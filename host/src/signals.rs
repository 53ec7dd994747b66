//! Signals, taken by one thread.
//!
//! What must always be true: the signals are blocked before any other thread
//! starts, so that only this one gets them; nothing is done inside a handler.
//! Called by `start`, and by `run` for commands that only print.
//!
//! # Safety
//! Sets are locals that libc fills and reads.
#![allow(unsafe_code)]

/// A signal that means something here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGTERM or SIGINT: drain, then end.
    End,
    /// SIGHUP: reload.
    Reload,
}

fn set() -> libc::sigset_t {
    // SAFETY: `sigemptyset` initialises the set.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

/// Blocks them, for this thread and all that it starts from now on.
pub fn block() {
    let set = set();
    // SAFETY: the set is initialised.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Waits for the next one.
#[must_use]
pub fn wait() -> Signal {
    let set = set();
    loop {
        let mut signal = 0;
        // SAFETY: the set is initialised, `signal` is a local.
        unsafe { libc::sigwait(&raw const set, &raw mut signal) };
        match signal {
            libc::SIGTERM | libc::SIGINT => return Signal::End,
            libc::SIGHUP => return Signal::Reload,
            _ => {}
        }
    }
}

/// Lets a closed pipe end the program quietly, as `plugin list | head` expects.
/// For commands that print and end; a server must see the error instead.
pub fn end_with_a_closed_pipe() {
    // SAFETY: no handler is installed, the default is restored.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
