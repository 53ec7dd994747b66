//! Every hard limit of the loop, each with its unit and the sum that gave it.
//!
//! What must always be true: constants that depend on each other meet in a `const` assertion at
//! the end of this file. Called by every other module.

/// Workers of one server: eight bits of a [`ConnToken`](crate::ConnToken) name the worker.
pub const WORKERS_MAX: usize = 1 << 8;

/// Connections of one worker: 24 bits of a token name the slot.
pub const CONNECTIONS_PER_WORKER_MAX: usize = 1 << 24;

/// Connections of a server unless configured: 64 Ki sockets at about 128 B of slab each is 8 MiB
/// when all are in use, and nothing when none is.
pub const CONNECTIONS_DEFAULT: usize = 1 << 16;

/// Listeners of one server: 24 bits of `user_data` would allow more; a list longer than this is a
/// configuration mistake.
pub const LISTENERS_MAX: usize = 256;

/// Submission queue entries. 1024 × 64 B = 64 KiB; one sweep over 1000 ready connections queues
/// 1000 sends without a flush in between.
pub const SQ_ENTRIES_DEFAULT: u32 = 1024;

/// Completion queue entries: at least 2 × (ready + sends) of a sweep of 2048 ready connections,
/// 2 × (2048 + 2048) = 8192; 16 B each = 128 KiB. A small queue ends multishot operations.
pub const CQ_ENTRIES_DEFAULT: u32 = 8192;

/// Most entries the kernel grants a submission queue.
pub const SQ_ENTRIES_MAX: u32 = 32_768;

/// Most entries the kernel grants a completion queue.
pub const CQ_ENTRIES_MAX: u32 = 65_536;

/// Incrementally consumed receive buffers: 64 KiB each.
pub const INCREMENTAL_BUFFER_BYTES: usize = 64 * 1024;

/// 8 × 64 KiB = 512 KiB of receive memory a worker: resident in a second-level cache of 1 MiB with
/// room for the parser and the replies.
pub const INCREMENTAL_BUFFERS_DEFAULT: u16 = 8;

/// Whole receive buffers (kernels before 6.12): 4 KiB each.
pub const WHOLE_BUFFER_BYTES: usize = 4096;

/// 128 × 4 KiB = 512 KiB, the same sum as with incremental buffers.
pub const WHOLE_BUFFERS_DEFAULT: u16 = 128;

/// Buffers the kernel accepts in one ring.
pub const BUFFERS_MAX: usize = 1 << 15;

/// First capacity of an output buffer: one reply of 64 B at P=1 with room to spare, small so that
/// a thousand of them are dense in the cache. It grows by doubling and keeps its size in the pool.
pub const OUT_CAPACITY_FIRST_BYTES: usize = 512;

/// An output buffer that grew beyond this is freed instead of pooled.
pub const OUT_CAPACITY_POOLED_BYTES_MAX: usize = 64 * 1024;

/// Memory kept by a worker's pool of output buffers: 4 MiB serve a sweep of 1000 connections with
/// 4 KiB of replies each without an allocation, and are what idleness may hold.
pub const OUT_POOLED_BYTES_MAX: usize = 4 << 20;

/// A buffer for partial input above this is freed instead of pooled.
pub const TAIL_CAPACITY_POOLED_BYTES_MAX: usize = 64 * 1024;

/// Memory kept by a worker's pool of buffers for partial input: 64 of the largest.
pub const TAIL_POOLED_BYTES_MAX: usize = 64 * TAIL_CAPACITY_POOLED_BYTES_MAX;

/// Parts of one vectored send: the kernel's `IOV_MAX`.
pub const IOVECS_PER_SEND_MAX: usize = 1024;

/// Bytes handed to the kernel in one send or receive: below `i32::MAX`, whole pages.
pub const BYTES_PER_OPERATION_MAX: usize = 1 << 30;

/// Queued output above which a connection's receive pauses by itself.
pub const OUTPUT_HIGH_WATER_BYTES_DEFAULT: usize = 1 << 20;

/// Queued output at which a paused receive resumes: a quarter of the high mark, so that it does
/// not flutter.
pub const OUTPUT_LOW_WATER_BYTES_DEFAULT: usize = OUTPUT_HIGH_WATER_BYTES_DEFAULT / 4;

/// Queued output at which a connection is closed: a pipeline of 16 values of 64 MiB.
pub const OUTPUT_HARD_LIMIT_BYTES_DEFAULT: usize = 1 << 30;

/// Unconsumed input of one connection at which it is closed.
pub const INPUT_LIMIT_BYTES_DEFAULT: usize = 64 << 20;

/// Parts at least this long are worth a zero-copy send.
pub const ZERO_COPY_PART_BYTES_MIN: usize = 16 * 1024;

/// A direct receive at least this long moves its connection to single-shot receives.
pub const BULK_FILL_BYTES_MIN: usize = 16 * 1024;

/// What a single-shot receive of such a connection asks for: a header and little of the body,
/// for what arrives here is copied once more.
pub const BULK_RECEIVE_BYTES: u32 = 4096;

/// Small receives in a row after which a bulk connection goes back to multishot.
pub const BULK_SMALL_STREAK: u8 = 8;

/// Bytes swallowed while a closed connection waits for its peer to hang up.
pub const LINGER_BYTES_MAX: usize = 1 << 20;

/// Longest wait of the kernel for further completions once one is there.
pub const MIN_WAIT_US_DEFAULT: u32 = 50;

/// First and longest pause of a listener after the process ran out of descriptors.
pub const ACCEPT_BACKOFF_MS_FIRST: u64 = 10;
/// See [`ACCEPT_BACKOFF_MS_FIRST`]: doubled on each failure up to this.
pub const ACCEPT_BACKOFF_MS_MAX: u64 = 1000;

/// Descriptors that a server keeps for files, listeners, rings and plugins besides connections.
pub const DESCRIPTORS_RESERVED: usize = 64;

/// Cross-thread notifications delivered in one sweep; the rest waits for the next.
pub const NOTIFICATIONS_PER_SWEEP_MAX: usize = 1024;

/// How long a worker waits for zero-copy notifications after a drain's deadline, or when told to stop,
/// before it leaks their memory.
pub const ZERO_COPY_EXIT_WAIT_MS: u64 = 2000;

const _: () = assert!(OUTPUT_LOW_WATER_BYTES_DEFAULT < OUTPUT_HIGH_WATER_BYTES_DEFAULT);
const _: () = assert!(OUTPUT_HIGH_WATER_BYTES_DEFAULT < OUTPUT_HARD_LIMIT_BYTES_DEFAULT);
const _: () = assert!(CQ_ENTRIES_DEFAULT >= 2 * SQ_ENTRIES_DEFAULT);
const _: () = assert!(WORKERS_MAX * CONNECTIONS_PER_WORKER_MAX == 1 << 32);
const _: () = assert!(
    INCREMENTAL_BUFFER_BYTES * INCREMENTAL_BUFFERS_DEFAULT as usize
        == WHOLE_BUFFER_BYTES * WHOLE_BUFFERS_DEFAULT as usize
);
const _: () = assert!(OUT_CAPACITY_POOLED_BYTES_MAX <= OUT_POOLED_BYTES_MAX);
const _: () = assert!(BULK_RECEIVE_BYTES as usize <= WHOLE_BUFFER_BYTES);
const _: () = assert!(BYTES_PER_OPERATION_MAX < i32::MAX as usize);
