//! Why a server could not start: one variant for each cause, each with its cure in a sentence.
//!
//! What must always be true: every error that leaves the builder is one of these; errors of single
//! connections never come here, they are a [`CloseReason`](crate::CloseReason). Called by the
//! builder and by the ring's set-up.

use std::io;

/// Why the loop could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value of the configuration is outside its range.
    #[error("`{key}` = {value} is out of range: {rule}")]
    Config {
        /// Field of [`Config`](crate::Config).
        key: &'static str,
        /// What was given.
        value: String,
        /// What is accepted.
        rule: &'static str,
    },
    /// The listed CPUs do not match the workers.
    #[error("{workers} workers but {cpus} CPUs listed: list one CPU for each worker")]
    CpuCount {
        /// Workers asked for.
        workers: usize,
        /// CPUs listed.
        cpus: usize,
    },
    /// A worker could not be pinned.
    #[error(
        "cannot pin worker {worker} to CPU {cpu}: {source}; list only CPUs that this process may use (see `taskset -p $$`)"
    )]
    Pin {
        /// The worker.
        worker: usize,
        /// The CPU it should have run on.
        cpu: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A listener could not be opened.
    #[error("cannot listen on {address}: {source}{}", listen_cure(source))]
    Listen {
        /// The address as configured.
        address: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel has no usable io_uring.
    #[error("io_uring needs Linux 6.0 or newer, this is {release}: upgrade the kernel")]
    KernelTooOld {
        /// `uname -r`.
        release: String,
    },
    /// `kernel.io_uring_disabled` forbids io_uring.
    #[error(
        "io_uring is disabled on this host: run `sysctl kernel.io_uring_disabled=0`, or with the value 1 add this user's group to kernel.io_uring_group (it is {value} now)"
    )]
    DisabledBySysctl {
        /// The sysctl's value.
        value: u32,
    },
    /// A seccomp filter (container runtimes have one by default) forbids io_uring.
    #[error(
        "io_uring is forbidden here, most likely by a container's seccomp filter: allow io_uring_setup, io_uring_enter and io_uring_register (docker: --security-opt seccomp=unconfined or a profile with them)"
    )]
    ForbiddenBySeccomp,
    /// Locked memory ran out while the rings were made.
    #[error(
        "not enough locked memory for the rings (limit {limit_bytes} bytes): raise it with `ulimit -l` or LimitMEMLOCK=, or lower the queue sizes"
    )]
    LockedMemory {
        /// RLIMIT_MEMLOCK.
        limit_bytes: u64,
    },
    /// Descriptors ran out while the rings were made.
    #[error(
        "out of file descriptors while starting (limit {limit}): raise it with `ulimit -n` or LimitNOFILE="
    )]
    Descriptors {
        /// RLIMIT_NOFILE after it was raised.
        limit: u64,
    },
    /// Any other refusal of the kernel.
    #[error("{what}: {source}")]
    Ring {
        /// The step that failed.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a worker thread: {source}; check the limits on processes and memory")]
    Thread {
        /// The kernel's answer.
        source: io::Error,
    },
    /// A worker ended (panicked) before it was ready.
    #[error("worker {worker} ended before it was ready; its panic is on stderr")]
    WorkerLost {
        /// The worker.
        worker: usize,
    },
}

fn listen_cure(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => "; stop the process that holds it or choose another address",
        Some(libc::EACCES) => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE, a socket path needs write permission"
        }
        Some(libc::EADDRNOTAVAIL) => "; no interface of this host has that address",
        Some(libc::ENOENT) => "; the directory of the socket does not exist",
        _ => "",
    }
}

/// Why [`DriverCtx::connect`](crate::DriverCtx::connect) made no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server has its maximum of connections.
    #[error("the limit of {limit} connections is reached")]
    TooManyConnections {
        /// `max_connections` of the configuration.
        limit: usize,
    },
    /// The loop is shutting down.
    #[error("the loop is shutting down")]
    ShuttingDown,
    /// The kernel gave no socket.
    #[error("cannot open a socket: {source}")]
    Socket {
        /// The kernel's answer.
        source: io::Error,
    },
}
