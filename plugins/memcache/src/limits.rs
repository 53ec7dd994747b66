//! Every limit of the protocol, with its unit and where its number comes from.
//!
//! Must hold: nothing here is allocated in advance; a client's number is compared with these
//! before it is obeyed. Used by all three encodings.

/// The longest key, in bytes (memcached's own limit; every encoding).
pub const KEY_LEN_BYTES_MAX: usize = 250;

/// The longest command line without an end that is waited for, in bytes. A longer one closes
/// the connection, as memcached does, except for `get` and `gets`.
pub const LINE_LEN_BYTES_MAX: usize = 2048;

/// How many leading spaces a long multi-get may have before it counts as junk.
pub const LINE_LEADING_SPACES_MAX: usize = 100;

/// Bytes of an opaque token, its `O` included.
pub const OPAQUE_LEN_BYTES_MAX: usize = 32;

/// Words of a meta command line, the command and the key included.
pub const META_WORDS_MAX: usize = 19;

/// The greatest value length a line may announce: what a 32-bit length minus its `\r\n` holds.
pub const VALUE_LEN_BYTES_WIRE_MAX: u64 = i32::MAX as u64 - 2;

/// From this length on a value is streamed into the store instead of gathered first.
pub const STREAM_FROM_BYTES: usize = 64 * 1024;

/// A relative expiry may reach this far; greater numbers are absolute Unix times (30 days).
pub const EXPTIME_RELATIVE_MAX_S: i64 = 60 * 60 * 24 * 30;

/// Bytes of a binary header.
pub const BINARY_HEADER_LEN_BYTES: usize = 24;

/// Extras of a binary request that any opcode takes, in bytes (incr and decr).
pub const BINARY_EXTRAS_LEN_BYTES_MAX: usize = 20;

/// Bytes of a SASL exchange that are accepted: mechanism and credentials are both short.
pub const SASL_BODY_LEN_BYTES_MAX: usize = 4096;

const _: () = assert!(KEY_LEN_BYTES_MAX < LINE_LEN_BYTES_MAX);
const _: () = assert!(SASL_BODY_LEN_BYTES_MAX < STREAM_FROM_BYTES);
