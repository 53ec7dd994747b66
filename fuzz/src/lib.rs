//! What the fuzz targets share: a scripted session against a real backend with
//! a tiny heap, and the promises that every session keeps.
//!
//! * no session panics, whatever bytes arrive and however they are cut;
//! * after the connection is gone, nothing is lent: pins, reservations and
//!   sessions are back to zero (`TestHost::finish` asserts it).
//!
//! # Safety
//! The one unsafe item is a symbol that the sanitizer's runtime looks for.

use arbitrary::Arbitrary;
use crucible_plugin_api::{CloseReason, Protocol};
use crucible_plugin_testkit::{Conn, ProtocolId, TestHost};

/// One move of a client or of the world.
#[derive(Arbitrary, Debug)]
pub enum Step {
    /// Sends bytes and lets the host sweep.
    Send(Vec<u8>),
    /// Sends bytes that wait for the next sweep.
    Queue(Vec<u8>),
    /// Sends one of the target's well-formed requests.
    Request(u8),
    /// Reads what came.
    Read,
    /// Lets time pass, milliseconds.
    Advance(u16),
    /// Housekeeping.
    Tick,
    /// Sends no more.
    HalfClose,
    /// The other connection takes its turn.
    Switch,
}

/// A tiny segcache: evictions from the first few values on.
#[must_use]
pub fn tiny_segcache() -> &'static str {
    r#"{"heap_size":1048576,"segment_size":65536}"#
}

/// Runs the steps on two connections of a protocol.
pub fn run<P: Protocol>(host: &TestHost, protocol: ProtocolId, requests: &[&[u8]], steps: &[Step]) {
    let conns: [Conn; 2] = [host.connect(protocol), host.connect(protocol)];
    let mut at = 0;
    for step in steps.iter().take(256) {
        let conn = &conns[at];
        match step {
            Step::Switch => at = 1 - at,
            Step::Advance(ms) => host.advance_ms(u64::from(*ms)),
            Step::Tick => host.tick(),
            _ if conn.is_closed() => {}
            Step::Send(bytes) => conn.send(bytes),
            Step::Queue(bytes) => conn.queue(bytes),
            Step::Request(i) => conn.send(requests[usize::from(*i) % requests.len()]),
            Step::Read => drop(conn.take_output()),
            Step::HalfClose => conn.half_close(),
        }
    }
    host.sweep();
    for conn in &conns {
        assert_ne!(conn.closed(), Some(CloseReason::PANIC), "a session panicked");
        drop(conn.take_output());
        conn.close();
    }
    host.sweep();
}

/// What AddressSanitizer asks at start. Tables of functions are leaked on
/// purpose, one set for each host, so leaks are not looked for; what sessions
/// borrow is counted by `TestHost::finish`.
// SAFETY: the runtime declares this symbol for programs to define; it returns
// a string that lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn __asan_default_options() -> *const std::ffi::c_char {
    c"detect_leaks=0".as_ptr()
}
