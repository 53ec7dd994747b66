//! What can go wrong in the store, one variant for each cause.

/// Start-up errors and refusals of a single operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration value is out of its range.
    #[error("{key} is {value}, but must be {want}")]
    Config {
        /// The configuration key.
        key: &'static str,
        /// The value that was given.
        value: String,
        /// What would have been accepted.
        want: String,
    },
    /// The operating system refused memory.
    #[error("cannot map {len_bytes} bytes for {what}: {cause}")]
    Map {
        /// What the memory was for.
        what: &'static str,
        /// How much was asked, in bytes.
        len_bytes: usize,
        /// The operating system's reason.
        cause: String,
    },
    /// A worker id is above the configured number of workers.
    #[error("worker {id} is not below the configured {workers} workers")]
    NoSuchWorker {
        /// The id asked for.
        id: usize,
        /// How many workers were configured.
        workers: usize,
    },
    /// A worker id is in use by another handle.
    #[error("worker {id} already has a handle")]
    WorkerTaken {
        /// The id asked for.
        id: usize,
    },
    /// The heap cannot be written to its file for the next start.
    #[error("the heap is not saved: {cause}")]
    NotSaved {
        /// Why.
        cause: String,
    },
    /// A key is longer than an item can hold.
    #[error("key of {len_bytes} bytes is longer than the limit of {limit_bytes}")]
    KeyTooLong {
        /// The key's length in bytes.
        len_bytes: usize,
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// A value is longer than `max_value_size` or than the heap can hold.
    #[error("value of {len_bytes} bytes is longer than the limit of {limit_bytes}")]
    ValueTooLong {
        /// The value's length in bytes.
        len_bytes: usize,
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// No memory could be freed for a large value at this moment.
    #[error("no {len_bytes} bytes of memory can be freed at this moment")]
    NoMemory {
        /// How much was asked, in bytes.
        len_bytes: usize,
    },
}
