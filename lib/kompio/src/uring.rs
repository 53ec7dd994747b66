//! The real kernel: one io_uring of one worker.
//!
//! What must always be true: the ring is made, used and dropped on one thread (SINGLE_ISSUER);
//! an operation that was queued is submitted, however full the queue is. Called by the loop
//! through [`Kernel`].
//!
//! # Safety
//! Pointers inside operations come from the loop, which keeps their memory until the last
//! completion; `table` and `buffers` live as long as the ring and are dropped after it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::types::{CancelBuilder, Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode, register::Probe, squeue, types};

use crate::buffers::Buffers;
use crate::config::Config;
use crate::error::Error;
use crate::kernel::{Counts, Cqe, File, Kernel, Op, Wait};
use crate::limits;
use crate::sys;
use crate::token::Tag;

const GROUP: u16 = 0;
const SEND_FLAGS: i32 = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
const REPORT_USAGE: u16 = 1 << 3;

const ENTER_GETEVENTS: u32 = 1;
const ENTER_SQ_WAKEUP: u32 = 1 << 1;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;

/// Argument of `io_uring_enter` with EXT_ARG.
#[repr(C)]
#[derive(Default)]
struct EventsArg {
    sigmask: u64,
    sigmask_size: u32,
    min_wait_us: u32,
    timespec: u64,
}

/// What the kernel offers and the configuration takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    pub(crate) release: String,
    pub(crate) defer_taskrun: bool,
    pub(crate) no_sqarray: bool,
    pub(crate) registered_ring: bool,
    pub(crate) direct_descriptors: bool,
    pub(crate) incremental_buffers: bool,
    pub(crate) min_wait: bool,
    pub(crate) send_zero_copy: bool,
    pub(crate) sendmsg_zero_copy: bool,
    pub(crate) sqpoll: bool,
}

/// One ring and what is registered with it.
pub(crate) struct Uring {
    // First, so that it is dropped before the memory that it was given.
    ring: IoUring,
    buffers: Buffers,
    /// Descriptor of each place, read by the kernel while an installation is submitted.
    table: Box<[RawFd]>,
    features: Features,
    /// Descriptor or registered index, for `io_uring_enter`.
    enter_fd: i32,
    enter_flags: u32,
    min_wait_us: u32,
    /// Entries pushed and not yet submitted.
    queued: u32,
    counts: Counts,
}

impl Uring {
    pub(crate) fn new(config: &Config, places: u32) -> Result<Uring, Error> {
        let (release, version) = sys::kernel_release();
        if version < (6, 0) {
            return Err(Error::KernelTooOld { release });
        }
        let (ring, defer_taskrun, no_sqarray) = build(config).map_err(refusal)?;
        let params = ring.params();
        let mut features = Features {
            release: release.clone(),
            defer_taskrun,
            no_sqarray,
            registered_ring: false,
            direct_descriptors: false,
            incremental_buffers: false,
            min_wait: params.is_feature_min_timeout() && config.min_wait_us > 0,
            send_zero_copy: false,
            sendmsg_zero_copy: false,
            sqpoll: params.is_setup_sqpoll(),
        };
        let mut probe = Probe::new();
        if ring.submitter().register_probe(&mut probe).is_ok() {
            features.send_zero_copy = probe.is_supported(opcode::SendZc::CODE);
            features.sendmsg_zero_copy = probe.is_supported(opcode::SendMsgZc::CODE);
        }
        let buffers = provide(&ring, config)?;
        features.incremental_buffers = buffers.incremental();
        // Before 6.13 a place is emptied only when every older operation of the ring has ended,
        // so a closed socket would stay open behind somebody's endless receive.
        let wanted = if config.direct_descriptors && version >= (6, 13) { places } else { 0 };
        features.direct_descriptors =
            wanted > 0 && ring.submitter().register_files_sparse(wanted).is_ok();
        let (enter_fd, enter_flags) = match register_ring_fd(ring.as_raw_fd()) {
            Some(index) => {
                features.registered_ring = true;
                (index, ENTER_REGISTERED_RING)
            }
            None => (ring.as_raw_fd(), 0),
        };
        let table = vec![0; if features.direct_descriptors { wanted as usize } else { 0 }];
        Ok(Uring {
            ring,
            buffers,
            table: table.into_boxed_slice(),
            features,
            enter_fd,
            enter_flags,
            min_wait_us: config.min_wait_us,
            queued: 0,
            counts: Counts::default(),
        })
    }

    pub(crate) fn features(&self) -> &Features {
        &self.features
    }

    pub(crate) fn ring_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// The kernel reads the cell while it takes the entry, at the latest in the next enter; until
    /// then nobody else writes it, for a place changes hands at most once in a sweep.
    fn update_table(&mut self, place: u32, fd: RawFd) -> squeue::Entry {
        let cell = &mut self.table[place as usize];
        *cell = fd;
        quiet(opcode::FilesUpdate::new(&raw const *cell, 1).offset(place as i32).build())
    }

    #[inline]
    fn push_entry(&mut self, entry: &squeue::Entry) {
        // SAFETY: the file header: memory named by the entry outlives the operation.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            self.flush();
        }
        self.queued += 1;
        self.counts.sqes += 1;
    }

    /// Submits without waiting, because the queue is full.
    #[cold]
    fn flush(&mut self) {
        self.counts.sq_flushes += 1;
        if self.features.sqpoll {
            let _ = self.ring.submitter().submit();
            let _ = self.ring.submitter().squeue_wait();
            self.queued = 0;
            return;
        }
        self.counts.enters += 1;
        if let Ok(done) = self.enter_raw(self.queued, 0, 0, None) {
            self.queued -= done.min(self.queued);
        }
        // An error (EBUSY, EAGAIN, EINTR) leaves the entries queued; `push_entry` tries again.
    }

    fn enter_raw(
        &self,
        submit: u32,
        wait: u32,
        flags: u32,
        arg: Option<&EventsArg>,
    ) -> io::Result<u32> {
        let (arg, size) = match arg {
            Some(arg) => (std::ptr::from_ref(arg), size_of::<EventsArg>()),
            None => (std::ptr::null(), 0),
        };
        // SAFETY: the descriptor is this ring; `arg` is null or a live EventsArg whose timespec
        // pointer is 0 or that of a local of the caller.
        let result = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.enter_fd,
                submit,
                wait,
                flags | self.enter_flags,
                arg,
                size,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as u32) }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if self.features.registered_ring {
            // The registration holds the ring open for as long as the thread lives.
            unregister_ring_fd(self.ring.as_raw_fd(), self.enter_fd);
        }
    }
}

/// Builds an entry for either kind of descriptor.
macro_rules! on_file {
    ($file:expr, $f:ident => $build:expr) => {
        match $file {
            File::Fixed(place) => {
                let $f = Fixed(place);
                $build
            }
            File::Plain(fd) => {
                let $f = Fd(fd);
                $build
            }
        }
    };
}

/// An entry that answers only when it fails.
fn quiet(entry: squeue::Entry) -> squeue::Entry {
    entry.flags(squeue::Flags::SKIP_SUCCESS)
}

impl Kernel for Uring {
    #[inline]
    fn push(&mut self, op: Op, tag: Tag) {
        let entry = match op {
            Op::RecvMulti { file } => {
                on_file!(file, f => opcode::RecvMulti::new(f, GROUP).build())
            }
            Op::RecvStamped { file, message } => {
                on_file!(file, f => opcode::RecvMsgMulti::new(f, message, GROUP).build())
            }
            Op::RecvOnce { file, len } => {
                let nowhere = std::ptr::null_mut();
                on_file!(file, f => opcode::Recv::new(f, nowhere, len).buf_group(GROUP).build())
                    .flags(squeue::Flags::BUFFER_SELECT)
            }
            Op::RecvInto { file, ptr, len } => {
                on_file!(file, f => opcode::Recv::new(f, ptr, len).flags(libc::MSG_WAITALL).build())
            }
            Op::RecvMessage { file, message } => {
                let flags = libc::MSG_WAITALL as u32;
                on_file!(file, f => opcode::RecvMsg::new(f, message).flags(flags).build())
            }
            Op::Send { file, ptr, len } => {
                on_file!(file, f => opcode::Send::new(f, ptr, len).flags(SEND_FLAGS).build())
            }
            Op::SendMessage { file, message } => {
                let flags = SEND_FLAGS as u32;
                on_file!(file, f => opcode::SendMsg::new(f, message).flags(flags).build())
            }
            Op::SendZeroCopy { file, ptr, len } => on_file!(file, f => {
                let op = opcode::SendZc::new(f, ptr, len).flags(SEND_FLAGS);
                op.zc_flags(REPORT_USAGE).build()
            }),
            Op::SendMessageZeroCopy { file, message } => on_file!(file, f => {
                let op = opcode::SendMsgZc::new(f, message).flags(SEND_FLAGS as u32);
                op.ioprio(REPORT_USAGE).build()
            }),
            Op::Accept { fd } => opcode::AcceptMulti::new(Fd(fd)).flags(libc::SOCK_CLOEXEC).build(),
            Op::Connect { file, address, len } => {
                on_file!(file, f => opcode::Connect::new(f, address, len).build())
            }
            Op::Install { place, fd } => self.update_table(place, fd),
            Op::Remove { place } => self.update_table(place, -1),
            Op::Cancel { target } => quiet(opcode::AsyncCancel::new(target.pack()).build()),
            Op::CancelAll { file } => quiet(on_file!(file, f => {
                opcode::AsyncCancel2::new(CancelBuilder::fd(f).all()).build()
            })),
            Op::Close { fd } => quiet(opcode::Close::new(Fd(fd)).build()),
            Op::Wake { fd, ptr } => opcode::Read::new(Fd(fd), ptr.cast(), 8).build(),
            Op::Timer { after } => opcode::Timeout::new(after).build(),
            Op::TimerUpdate { target, after } => {
                quiet(opcode::TimeoutUpdate::new(target.pack(), after).build())
            }
            Op::HandOver { ring, fd, there } => {
                quiet(opcode::MsgRingData::new(Fd(ring), fd, there.pack(), None).build())
            }
        };
        self.push_entry(&entry.user_data(tag.pack()));
    }

    #[inline]
    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let mut flags = ENTER_GETEVENTS;
        if self.features.sqpoll {
            let queue = self.ring.submission();
            if queue.need_wakeup() {
                flags |= ENTER_SQ_WAKEUP;
            } else if wait.completions == 0 && !queue.cq_overflow() {
                self.queued = 0;
                return Ok(());
            }
        } else if self.ring.submission().cq_overflow() {
            self.counts.cq_overflows += 1;
        }
        self.counts.enters += 1;
        let several = wait.completions > 1;
        let mut timeout = wait.timeout;
        if several && !self.features.min_wait {
            // Without a minimal wait in the kernel a full one may never end; a short one does.
            let short = std::time::Duration::from_micros(u64::from(self.min_wait_us.max(1)));
            timeout = Some(timeout.map_or(short, |t| t.min(short)));
        }
        let result = if timeout.is_none() && !several {
            self.enter_raw(self.queued, wait.completions, flags, None)
        } else {
            let timespec = timeout.map(types::Timespec::from);
            let arg = EventsArg {
                min_wait_us: if several && self.features.min_wait { self.min_wait_us } else { 0 },
                timespec: timespec.as_ref().map_or(0, |t| std::ptr::from_ref(t) as u64),
                ..EventsArg::default()
            };
            self.enter_raw(self.queued, wait.completions, flags | ENTER_EXT_ARG, Some(&arg))
        };
        match result {
            Ok(_) if self.features.sqpoll => self.queued = 0,
            Ok(done) => self.queued -= done.min(self.queued),
            Err(error) => match error.raw_os_error() {
                // Interrupted, timed out, or completions must be reaped first: the loop goes on.
                Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => {}
                _ => return Err(error),
            },
        }
        Ok(())
    }

    #[inline]
    fn reap(&mut self, into: &mut Vec<Cqe>) {
        let queue = self.ring.completion();
        into.extend(queue.map(|e: cqueue::Entry| Cqe {
            user_data: e.user_data(),
            result: e.result(),
            flags: e.flags(),
        }));
    }

    #[inline]
    fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    fn shutdown(&mut self, fd: RawFd, how: i32) {
        sys::shutdown(fd, how);
    }

    #[inline]
    fn now(&self) -> std::time::Instant {
        std::time::Instant::now()
    }

    fn cpu_time(&self) -> std::time::Duration {
        crate::sys::thread_cpu_time()
    }

    fn places(&self) -> u32 {
        self.table.len() as u32
    }

    fn zero_copy(&self) -> (bool, bool) {
        (self.features.send_zero_copy, self.features.sendmsg_zero_copy)
    }

    fn counts(&self) -> Counts {
        self.counts
    }
}

/// The ring with the best flags that the kernel takes, whether completions are deferred to
/// `enter`, and whether the index array is left out.
fn build(config: &Config) -> io::Result<(IoUring, bool, bool)> {
    if let Some(idle_ms) = config.sqpoll_idle_ms {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_cqsize(config.cq_entries).setup_sqpoll(idle_ms);
        return builder.build(config.sq_entries).map(|ring| (ring, false, false));
    }
    let mut refused = None;
    // NO_SQARRAY is of 6.6, DEFER_TASKRUN of 6.1, SINGLE_ISSUER and COOP_TASKRUN of 6.0 and before.
    for (defer, no_sqarray) in [(true, true), (true, false), (false, false)] {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_cqsize(config.cq_entries).setup_submit_all();
        builder.setup_single_issuer();
        if defer {
            builder.setup_defer_taskrun();
        } else {
            builder.setup_coop_taskrun();
        }
        if no_sqarray {
            builder.setup_no_sqarray();
        }
        match builder.build(config.sq_entries) {
            Ok(ring) => return Ok((ring, defer, no_sqarray)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::Error::from_raw_os_error(libc::EINVAL)))
}

/// Registers the receive buffers, incrementally consumed ones where the kernel has them.
fn provide(ring: &IoUring, config: &Config) -> Result<Buffers, Error> {
    let fail = |source| Error::Ring { what: "cannot register receive buffers", source };
    let register = |buffer_len: usize, incremental: bool, flags: u16| -> io::Result<Buffers> {
        let count = (config.recv_ring_bytes / buffer_len).clamp(2, limits::BUFFERS_MAX);
        let count = (1usize << count.ilog2()) as u16;
        let buffers = Buffers::new(count, buffer_len, incremental)?;
        // SAFETY: the entries live in `buffers`, which the caller keeps longer than the ring.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                buffers.entries_address(),
                count,
                GROUP,
                flags,
            )?;
        }
        Ok(buffers)
    };
    if config.incremental_buffers {
        let flags = types::IOU_PBUF_RING_INC as u16;
        match register(limits::INCREMENTAL_BUFFER_BYTES, true, flags) {
            Ok(buffers) => return Ok(buffers),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(fail(error)),
        }
    }
    register(limits::WHOLE_BUFFER_BYTES, false, 0).map_err(fail)
}

/// `io_uring_rsrc_update` as (un)registering ring descriptors reads it.
#[repr(C)]
struct RingUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// Registers the ring's own descriptor, which spares a lookup in every enter.
fn register_ring_fd(ring: RawFd) -> Option<i32> {
    let mut update = RingUpdate { offset: u32::MAX, reserved: 0, data: ring as u64 };
    // SAFETY: one local of the layout that this call reads and writes.
    let done = unsafe {
        libc::syscall(libc::SYS_io_uring_register, ring, REGISTER_RING_FDS, &raw mut update, 1)
    };
    (done == 1).then_some(update.offset as i32)
}

fn unregister_ring_fd(ring: RawFd, index: i32) {
    let mut update = RingUpdate { offset: index as u32, reserved: 0, data: 0 };
    // SAFETY: one local of the layout that this call reads.
    unsafe {
        libc::syscall(libc::SYS_io_uring_register, ring, UNREGISTER_RING_FDS, &raw mut update, 1);
    }
}

/// What the kernel's refusal of a ring means, and its cure.
fn refusal(source: io::Error) -> Error {
    match source.raw_os_error() {
        Some(libc::EPERM) => match disabled_by_sysctl() {
            Some(value) if value > 0 => Error::DisabledBySysctl { value },
            _ => Error::ForbiddenBySeccomp,
        },
        Some(libc::ENOSYS) => Error::ForbiddenBySeccomp,
        Some(libc::ENOMEM) => Error::LockedMemory { limit_bytes: sys::locked_memory_limit() },
        Some(libc::EMFILE | libc::ENFILE) => {
            Error::Descriptors { limit: sys::raise_descriptor_limit() }
        }
        Some(libc::EINVAL) => Error::KernelTooOld { release: sys::kernel_release().0 },
        _ => Error::Ring { what: "cannot set up io_uring", source },
    }
}

fn disabled_by_sysctl() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use io_uring::types::Timespec;

    use super::*;
    use crate::token::Kind;

    fn ring() -> Uring {
        Uring::new(&Config::default(), 16).expect("a ring")
    }

    #[test]
    fn a_wait_for_more_than_comes_never_starves() {
        // With the kernel's minimal wait, and as on kernels without it.
        for has_min_wait in [true, false] {
            let mut uring = ring();
            uring.features.min_wait &= has_min_wait;
            let after = Timespec::from(Duration::from_millis(2));
            uring.push(Op::Timer { after: &raw const after }, Tag::new(Kind::Timer, 0, 0));
            let mut cqes = Vec::new();
            // One completion comes, five are waited for.
            while cqes.is_empty() {
                uring.enter(Wait { completions: 5, timeout: None }).expect("no error");
                uring.reap(&mut cqes);
            }
            assert_eq!((cqes.len(), cqes[0].result), (1, -libc::ETIME));
        }
    }

    #[test]
    fn a_full_submission_queue_is_flushed_and_drops_nothing() {
        let config = Config { sq_entries: 8, cq_entries: 4096, ..Config::default() };
        let mut uring = Uring::new(&config, 16).expect("a ring");
        let after = Timespec::from(Duration::ZERO);
        for slot in 0..1000 {
            uring.push(Op::Timer { after: &raw const after }, Tag::new(Kind::Timer, slot, 0));
        }
        assert!(uring.counts().sq_flushes >= 100);
        let mut cqes = Vec::new();
        while cqes.len() < 1000 {
            uring.enter(Wait { completions: 1, timeout: None }).expect("no error");
            uring.reap(&mut cqes);
        }
        let mut slots: Vec<u32> = cqes.iter().map(|c| Tag::unpack(c.user_data).slot).collect();
        slots.sort_unstable();
        assert!(slots.into_iter().eq(0..1000));
    }

    #[test]
    fn completions_beyond_the_queue_are_not_lost() {
        let config = Config { sq_entries: 8, cq_entries: 16, ..Config::default() };
        let mut uring = Uring::new(&config, 16).expect("a ring");
        let after = Timespec::from(Duration::ZERO);
        for slot in 0..200 {
            uring.push(Op::Timer { after: &raw const after }, Tag::new(Kind::Timer, slot, 0));
        }
        let mut cqes = Vec::new();
        while cqes.len() < 200 {
            uring.enter(Wait { completions: 1, timeout: None }).expect("no error");
            uring.reap(&mut cqes);
        }
        assert_eq!(cqes.len(), 200);
    }

    #[test]
    fn a_refused_ring_is_explained_with_its_cure() {
        let text = |errno: i32| refusal(io::Error::from_raw_os_error(errno)).to_string();
        let eperm = text(libc::EPERM);
        assert!(eperm.contains("sysctl kernel.io_uring_disabled") || eperm.contains("seccomp"));
        assert!(text(libc::ENOSYS).contains("seccomp"));
        assert!(text(libc::ENOMEM).contains("ulimit -l"));
        assert!(text(libc::EMFILE).contains("ulimit -n"));
        assert!(text(libc::EINVAL).contains("Linux 6.0"));
        assert!(matches!(
            refusal(io::Error::from_raw_os_error(libc::EIO)),
            Error::Ring { what: "cannot set up io_uring", .. }
        ));
    }
}
