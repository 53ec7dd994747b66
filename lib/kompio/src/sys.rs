//! The system calls that are not ring operations, each behind a safe function.
//!
//! What must always be true: no function here keeps a pointer after it returned. Called by the
//! set-up and by rare paths of the loop.
//!
//! # Safety
//! Every call passes either plain numbers or pointers to locals that live across the call.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: plain numbers; the descriptor is new and owned by nobody else.
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_CLOEXEC);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

pub(crate) fn eventfd_write(fd: RawFd) {
    let one: u64 = 1;
    // SAFETY: eight bytes of a local.
    unsafe { libc::write(fd, (&raw const one).cast(), 8) };
}

/// A descriptor that stands for a socket.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn descriptor() -> RawFd {
    use std::os::fd::IntoRawFd;
    eventfd().expect("a descriptor").into_raw_fd()
}

#[cfg(test)]
pub(crate) fn eventfd_read(fd: RawFd) -> Option<u64> {
    let mut value: u64 = 0;
    // SAFETY: eight bytes of a local.
    let read = unsafe { libc::read(fd, (&raw mut value).cast(), 8) };
    (read == 8).then_some(value)
}

#[cfg(test)]
pub(crate) fn eventfd_wait(fd: RawFd) {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one local pollfd.
    unsafe { libc::poll(&raw mut poll, 1, -1) };
    eventfd_read(fd);
}

pub(crate) fn close(fd: RawFd) {
    // SAFETY: a plain number; the caller owns the descriptor and forgets it.
    unsafe { libc::close(fd) };
}

pub(crate) fn shutdown(fd: RawFd, how: i32) {
    // SAFETY: plain numbers.
    unsafe { libc::shutdown(fd, how) };
}

/// Sends what the socket takes at once, after dropping what it has received, so that closing it
/// does not reset the connection under these bytes.
pub(crate) fn farewell(fd: RawFd, bytes: &[u8]) {
    let mut sink = [0u8; 1024];
    // SAFETY: local buffer and the caller's slice, both live across the calls.
    unsafe {
        libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        libc::shutdown(fd, libc::SHUT_WR);
        while libc::recv(fd, sink.as_mut_ptr().cast(), sink.len(), libc::MSG_DONTWAIT)
            == sink.len() as isize
        {}
    }
}

/// Makes the coming close abort the connection, which drops what the kernel still holds of it.
pub(crate) fn abort_on_close(fd: RawFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: a local of the size given.
    unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
}

/// Bytes that the socket has received and nobody has read.
pub(crate) fn unread_bytes(fd: RawFd) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, a local.
    let result = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) };
    if result < 0 { 0 } else { count.max(0) as usize }
}

/// Whether connections wait in a listening socket's queue.
pub(crate) fn has_waiting(fd: RawFd) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one local pollfd; no wait.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0 && poll.revents & libc::POLLIN != 0
}

/// The descriptor for the time of a call.
pub(crate) fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: callers pass a descriptor that they own for longer than the borrow is used.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Takes ownership of a socket's descriptor.
pub(crate) fn into_raw(socket: socket2::Socket) -> RawFd {
    use std::os::fd::IntoRawFd;
    socket.into_raw_fd()
}

/// Pins the calling thread.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: a zeroed CPU set is the empty one; `cpu` is below its size (checked when the list
    // was parsed); the set is a local.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        if libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// CPUs that the calling thread may use.
pub fn affinity() -> io::Result<Vec<usize>> {
    // SAFETY: the set is a local that the kernel fills; indices stay below its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((0..=crate::cpus::CPU_MAX).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect())
    }
}

/// Raises the limit of descriptors to what the process may have; the limit afterwards.
pub(crate) fn raise_descriptor_limit() -> u64 {
    // SAFETY: the limit is a local.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) < 0 {
            return 1024;
        }
        if limit.rlim_cur < limit.rlim_max {
            let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) == 0 {
                limit = raised;
            }
        }
        limit.rlim_cur
    }
}

pub(crate) fn locked_memory_limit() -> u64 {
    // SAFETY: the limit is a local.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit);
        limit.rlim_cur
    }
}

/// Processor time of the calling thread; zero where the clock is missing.
pub(crate) fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is a local.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// `uname -r`, and its first two numbers.
pub(crate) fn kernel_release() -> (String, (u32, u32)) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim().to_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (release, version)
}
