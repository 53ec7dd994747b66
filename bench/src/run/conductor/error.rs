//! Why a run could not be made, in sentences for the person at the terminal.
//!
//! Always true: what failed is named: an endpoint, a file, a key count. Called by the conductor.

use std::time::Duration;

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A server does not accept connections.
    #[error("{endpoint} cannot be reached: {error}")]
    Unreachable {
        /// The endpoint's name.
        endpoint: String,
        /// From the system.
        error: std::io::Error,
    },
    /// A cluster cannot be read.
    #[error("{0}")]
    Cluster(String),
    /// Connections were not all established.
    #[error("after {waited:?} not every connection was established: {last}")]
    NotReady {
        /// How long it was tried.
        waited: Duration,
        /// The last trouble.
        last: String,
    },
    /// Keys could not be stored.
    #[error("prefill: {confirmed} of {total} keys were confirmed: {why}")]
    Prefill {
        /// Keys confirmed by replies.
        confirmed: u64,
        /// Keys of the key space.
        total: u64,
        /// Why not all.
        why: String,
    },
    /// TLS as configured.
    #[error(transparent)]
    Tls(#[from] super::super::tls::TlsError),
    /// The trace cannot be read.
    #[error(transparent)]
    Trace(#[from] crate::trace::TraceError),
    /// The event loop could not be started.
    #[error("the workers could not be started: {0}")]
    Start(String),
    /// A signal.
    #[error("interrupted before the measurement")]
    Interrupted,
    /// Values of prefill that failed verification and the like cannot happen later than this.
    #[error("a worker ended unexpectedly")]
    WorkerGone,
}
