//! Stacks of other threads: what a stuck worker is doing, and where time goes.
//!
//! ```text
//!  of_thread ── ASKED ──► signal ──► handler: WRITING ── frames ──► DONE ──► of_thread
//! ```
//! What must always be true: one thread is asked at a time; the handler allocates nothing, takes
//! no lock, and writes only while it was asked; who asks waits for a bounded time. Called by the
//! watchdog and by `/profile`.
//!
//! # Safety
//! The handler calls libgcc's unwinder, which finds unwind tables without a lock (glibc 2.35 and
//! newer). What it writes is atomics that live as long as the process.
#![allow(unsafe_code)]

pub mod flame;
pub mod profile;
mod symbols;

use core::ffi::{c_int, c_void};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::services::lock;
pub use symbols::Symbols;

/// Frames that are kept of a stack.
const FRAMES_MAX: usize = 96;
/// Longest wait for a thread's answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(200);

const IDLE: u32 = 0;
const ASKED: u32 = 1;
const WRITING: u32 = 2;
const DONE: u32 = 3;

static STATE: AtomicU32 = AtomicU32::new(IDLE);
static WANTED: AtomicI32 = AtomicI32::new(0);
static LEN: AtomicUsize = AtomicUsize::new(0);
static FRAMES: [AtomicUsize; FRAMES_MAX] = [const { AtomicUsize::new(0) }; FRAMES_MAX];
static ASKING: Mutex<()> = Mutex::new(());
static INSTALLED: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    fn _Unwind_Backtrace(
        trace: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        arg: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
}

/// Addresses of the code a thread is in, innermost first.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Stack(Vec<usize>);

impl Stack {
    /// The addresses.
    #[must_use]
    pub fn frames(&self) -> &[usize] {
        &self.0
    }
}

/// The number of the calling thread.
#[must_use]
pub fn this_thread() -> i32 {
    // SAFETY: no argument, no failure.
    unsafe { libc::gettid() }
}

/// Makes this process able to answer. Once, at the start.
pub fn install() {
    // The unwinder sets itself up at its first use, which must not be in the handler.
    extern "C" fn stop(_: *mut c_void, _: *mut c_void) -> c_int {
        0
    }
    // SAFETY: the callback is a function of the type that the unwinder calls.
    unsafe { _Unwind_Backtrace(stop, std::ptr::null_mut()) };
    // SAFETY: all-zero is a valid sigaction; the handler keeps to what signals allow.
    let set = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction =
            on_signal as unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGPROF, &raw const action, std::ptr::null_mut())
    };
    INSTALLED.store(set == 0, Ordering::Relaxed);
}

/// What a thread of this process is doing; nothing when it does not answer.
#[must_use]
pub fn of_thread(tid: i32) -> Option<Stack> {
    if tid == 0 || !INSTALLED.load(Ordering::Relaxed) {
        return None;
    }
    let _one_at_a_time = lock(&ASKING);
    // A thread that never finished its answer has the place for ever.
    if STATE.load(Ordering::Acquire) == WRITING {
        return None;
    }
    WANTED.store(tid, Ordering::Relaxed);
    LEN.store(0, Ordering::Relaxed);
    STATE.store(ASKED, Ordering::Release);
    let pid = std::process::id();
    // SAFETY: a signal to a thread of this process, with a handler.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, libc::SIGPROF) };
    let until = Instant::now() + ANSWER_LIMIT;
    while sent == 0 && Instant::now() < until && STATE.load(Ordering::Acquire) != DONE {
        std::thread::sleep(Duration::from_micros(50));
    }
    let done = STATE.load(Ordering::Acquire) == DONE;
    // A signal that comes later finds that nobody asks.
    let _it_writes_now = STATE.compare_exchange(ASKED, IDLE, Ordering::Relaxed, Ordering::Relaxed);
    if !done {
        return None;
    }
    let len = LEN.load(Ordering::Relaxed);
    let frames = FRAMES[..len].iter().map(|frame| frame.load(Ordering::Relaxed)).collect();
    STATE.store(IDLE, Ordering::Relaxed);
    Some(Stack(frames))
}

unsafe extern "C" fn on_signal(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    let mine = WANTED.load(Ordering::Relaxed) == this_thread();
    if !mine
        || STATE.compare_exchange(ASKED, WRITING, Ordering::Acquire, Ordering::Relaxed).is_err()
    {
        return;
    }
    // SAFETY: the kernel passes the interrupted thread's context to a SA_SIGINFO handler.
    let mut interrupted = unsafe { instruction(context) };
    // SAFETY: the callback's argument is this local, which outlives the walk.
    unsafe { _Unwind_Backtrace(keep, (&raw mut interrupted).cast()) };
    STATE.store(DONE, Ordering::Release);
}

/// Keeps one frame; those of the handler itself, before the interrupted one, are left out.
extern "C" fn keep(context: *mut c_void, interrupted: *mut c_void) -> c_int {
    // SAFETY: the unwinder's own context; the argument is the handler's local.
    let (ip, interrupted) = unsafe { (_Unwind_GetIP(context), &mut *interrupted.cast::<usize>()) };
    if *interrupted != 0 && *interrupted != ip {
        return 0;
    }
    *interrupted = 0;
    let len = LEN.load(Ordering::Relaxed);
    if len >= FRAMES_MAX || ip == 0 {
        return 5;
    }
    FRAMES[len].store(ip, Ordering::Relaxed);
    LEN.store(len + 1, Ordering::Relaxed);
    0
}

/// Where the interrupted thread was.
///
/// # Safety
/// `context` is what the kernel passed to the handler.
unsafe fn instruction(context: *mut c_void) -> usize {
    // SAFETY: the caller's promise.
    let machine = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
    #[cfg(target_arch = "x86_64")]
    let ip = machine.gregs[libc::REG_RIP as usize] as usize;
    #[cfg(target_arch = "aarch64")]
    let ip = machine.pc as usize;
    ip
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[inline(never)]
    fn a_function_that_spins(stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_busy_thread_is_found_in_its_function_and_a_gone_one_is_not_found() {
        install();
        let (tell, hear) = channel();
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let busy = std::thread::spawn(move || {
            tell.send(this_thread()).unwrap();
            a_function_that_spins(&stopped);
        });
        let tid = hear.recv().unwrap();
        let mut symbols = Symbols::new();
        // It may still be on its way into the function.
        let found = (0..1000).any(|_| {
            let stack = of_thread(tid).expect("it answers");
            symbols.names(&stack).iter().any(|name| name.contains("a_function_that_spins"))
        });
        stop.store(true, Ordering::Relaxed);
        busy.join().unwrap();
        assert!(found);
        assert_eq!(of_thread(tid), None);
        assert_eq!(of_thread(0), None);
    }
}
