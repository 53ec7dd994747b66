//! The system calls std has no word for: CPU pinning, children that die with us, a poll set.
//! Every child started through [`confine`] leads its own process group and is killed when xtask
//! ends for any reason, so no server outlives its measurement.
//!
//! # Safety
//! The closures given to `pre_exec` only make async-signal-safe system calls on values they own.
//! The signal handler touches only atomics, `kill` and `_exit`. Epoll descriptors are owned.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicI32, Ordering};

/// Process groups alive at once: servers of one comparison, or one test step.
const GROUPS_MAX: usize = 32;
/// Groups to kill on Ctrl-C; 0 is a free slot.
static GROUPS: [AtomicI32; GROUPS_MAX] = [const { AtomicI32::new(0) }; GROUPS_MAX];

/// Makes the command lead a process group of its own, die with xtask, and run on one CPU if named.
pub(crate) fn confine(command: &mut Command, cpu: Option<usize>) {
    command.process_group(0);
    // SAFETY: between fork and exec the closure calls prctl and sched_setaffinity alone, both
    // async-signal-safe, with arguments it owns; it allocates nothing.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            match cpu {
                Some(cpu) => pin(cpu),
                None => Ok(()),
            }
        });
    }
}

/// Pins the calling thread (and what it starts from here) to one CPU.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: `cpu_set_t` is a plain bit array for which zero is the empty set; CPU_SET writes one
    // bit inside it, its index checked above; the kernel reads `set` during the call only.
    let status = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, mem::size_of::<libc::cpu_set_t>(), &set)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Remembers a group for the interrupt handler.
pub(crate) fn watch_group(group: i32) {
    for slot in &GROUPS {
        if slot.compare_exchange(0, group, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}

/// Forgets a group that has ended.
pub(crate) fn forget_group(group: i32) {
    for slot in &GROUPS {
        let _ = slot.compare_exchange(group, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Sends a signal to every process of the group; a group that is gone is no error.
pub(crate) fn signal_group(group: i32, signal: i32) {
    debug_assert!(group > 1, "a group id names one group, never all processes");
    // SAFETY: plain system call; a negative id above means exactly this group.
    unsafe { libc::kill(-group, signal) };
}

/// Sends SIGTERM to one child.
pub(crate) fn ask_to_end(child: &Child) {
    // SAFETY: plain system call; the pid stays the child's until `child` is waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
}

/// From here on SIGINT, SIGTERM and SIGHUP kill all watched groups, then xtask.
pub(crate) fn kill_children_on_interrupt() {
    extern "C" fn on_signal(signal: libc::c_int) {
        for slot in &GROUPS {
            let group = slot.load(Ordering::Relaxed);
            if group > 1 {
                // SAFETY: kill is async-signal-safe; the group was registered by its spawner.
                unsafe { libc::kill(-group, libc::SIGKILL) };
            }
        }
        // SAFETY: _exit is async-signal-safe and ends the process here.
        unsafe { libc::_exit(128 + signal) };
    }
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler has the C signature `signal` asks for and is async-signal-safe.
        unsafe { libc::signal(signal, on_signal as *const () as libc::sighandler_t) };
    }
}

/// Gives signals their default meaning again, for a program that replaces xtask by exec.
pub(crate) fn default_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: SIG_DFL is a valid disposition for each of these signals.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Lets this process (and its children) open as many descriptors as the system allows.
pub(crate) fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` outlives both calls, which read or write exactly one rlimit.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// Whether xtask runs as root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A level-triggered epoll set whose entries carry a number.
pub(crate) struct Poll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// What a registered socket waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Readable only.
    Read,
    /// Readable or writable.
    ReadWrite,
}

impl Poll {
    /// An empty set that reports up to 512 ready sockets at once.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: plain system call.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just made by the kernel and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 512] })
    }

    /// Adds a socket under `number`.
    pub(crate) fn add(&self, socket: RawFd, number: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, number, interest)
    }

    /// Changes what a socket waits for.
    pub(crate) fn modify(&self, socket: RawFd, number: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, socket, number, interest)
    }

    fn control(&self, op: i32, socket: RawFd, number: u64, interest: Interest) -> io::Result<()> {
        let events = match interest {
            Interest::Read => libc::EPOLLIN,
            Interest::ReadWrite => libc::EPOLLIN | libc::EPOLLOUT,
        };
        let mut event = libc::epoll_event { events: events as u32, u64: number };
        // SAFETY: `event` lives on this frame; the kernel copies it during the call.
        let status = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), op, socket, &mut event) };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits up to `timeout_ms` and puts the numbers of ready sockets into `ready`.
    pub(crate) fn wait(&mut self, timeout_ms: i32, ready: &mut Vec<u64>) -> io::Result<()> {
        ready.clear();
        let room = self.events.len() as i32;
        // SAFETY: `events` has `room` initialised entries that the kernel may overwrite.
        let count = unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), room, timeout_ms)
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        ready.extend(self.events[..count as usize].iter().map(|event| event.u64));
        Ok(())
    }
}
