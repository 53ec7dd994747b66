//! Whole sessions: arbitrary bytes, arbitrarily cut, over a segcache so small that it evicts from the
//! first few values on.
//!
//! * no session panics;
//! * after the connections are gone nothing is lent: pins, reservations and sessions are back to zero
//!   (`TestHost::finish` asserts it).

use arbitrary::{Arbitrary, Unstructured};
use crucible_memcache::Memcache;
use crucible_momento::Momento;
use crucible_ping::Ping;
use crucible_plugin_api::{CloseReason, Protocol};
use crucible_plugin_testkit::{Conn, TestHost};
use crucible_resp::Resp;
use crucible_segcache::Segcache;

/// A segcache of one MiB.
pub(crate) const TINY: &str = r#"{"heap_size":1048576,"segment_size":65536}"#;

/// One move of a client or of the world.
#[derive(Arbitrary, Debug)]
enum Step {
    /// Sends bytes and lets the host sweep.
    Send(Vec<u8>),
    /// Sends bytes that wait for the next sweep.
    Queue(Vec<u8>),
    /// Sends one of the case's well-formed requests.
    Request(u8),
    /// Sends one without its last bytes.
    Cut(u8, u8),
    /// Reads what came.
    Read,
    /// Takes no more replies from now on.
    StopReading,
    /// Lets time pass, milliseconds.
    Advance(u16),
    /// Housekeeping.
    Tick,
    /// Sends no more.
    HalfClose,
    /// The other connection takes its turn.
    Switch,
}

fn play<P: Protocol>(bytes: &[u8], requests: &[&[u8]]) {
    let Ok(steps) = Vec::<Step>::arbitrary_take_rest(Unstructured::new(bytes)) else { return };
    let host = TestHost::new();
    let store = host.backend::<Segcache>(TINY);
    let protocol = host.protocol::<P>("", store);
    let conns: [Conn; 2] = [host.connect(protocol), host.connect(protocol)];
    let mut at = 0;
    for step in steps.iter().take(256) {
        let conn = &conns[at];
        let request = |i: &u8| requests[usize::from(*i) % requests.len()];
        match step {
            Step::Switch => at = 1 - at,
            Step::Advance(ms) => host.advance_ms(u64::from(*ms)),
            Step::Tick => host.tick(),
            _ if conn.is_closed() => {}
            Step::Send(bytes) => conn.send(bytes),
            Step::Queue(bytes) => conn.queue(bytes),
            Step::Request(i) => conn.send(request(i)),
            Step::Cut(i, less) => {
                let whole = request(i);
                conn.send(&whole[..whole.len().saturating_sub(usize::from(*less))]);
            }
            Step::Read => drop(conn.take_output()),
            Step::StopReading => conn.stop_reading(),
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
    drop(conns);
    host.finish();
}

pub(crate) fn resp(bytes: &[u8]) {
    play::<Resp>(
        bytes,
        &[
            b"PING\r\n",
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
            b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
            b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n",
            b"*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nw\r\n$2\r\nPX\r\n$3\r\n100\r\n",
            b"*3\r\n$4\r\nMGET\r\n$1\r\nk\r\n$1\r\nn\r\n",
            b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n",
            b"MULTI\r\n",
            b"EXEC\r\n",
            b"WATCH k\r\n",
            b"SUBSCRIBE c\r\n",
            b"PUBLISH c m\r\n",
            b"CLIENT TRACKING ON\r\n",
            b"FLUSHALL\r\n",
            b"SCAN 0\r\n",
            b"APPEND k tail\r\n",
            b"SETRANGE k 5000 x\r\n",
            b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$70000\r\n",
        ],
    );
}

pub(crate) fn memcache(bytes: &[u8]) {
    play::<Memcache>(
        bytes,
        &[
            b"set k 5 0 1\r\nv\r\n",
            b"get k\r\n",
            b"gets k n\r\n",
            b"gat 5 k n\r\n",
            b"incr n 1\r\n",
            b"add n 0 100 1\r\n7\r\n",
            b"append k 0 0 2\r\nxy\r\n",
            b"cas k 0 0 1 1\r\nz\r\n",
            b"mg k v f c t\r\n",
            b"mg k v q N30 R10\r\n",
            b"ms k 2 T30\r\nhi\r\n",
            b"ms k 2 MA I\r\nhi\r\n",
            b"ma n N0 J5 v\r\n",
            b"md k q I T30\r\n",
            b"mn\r\n",
            b"watch mutations\r\n",
            b"stats\r\n",
            b"flush_all\r\n",
            b"set b 0 0 70000\r\n",
            b"\x80\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00k",
            b"\x80\x01\x00\x01\x08\x00\x00\x00\x00\x00\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
              \x00\x00\x00\x00\x00\x00\x00\x00kv",
            b"\x80\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        ],
    );
}

pub(crate) fn momento(bytes: &[u8]) {
    play::<Momento>(
        bytes,
        &[
            // The HTTP/2 preface with empty settings.
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
            // A ping, a settings acknowledgement, a window update, a reset.
            b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678",
            b"\x00\x00\x00\x04\x01\x00\x00\x00\x00",
            b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x01\x00\x00",
            b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08",
            // Headers without end, a continuation, empty data.
            b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82",
            b"\x00\x00\x01\x09\x04\x00\x00\x00\x01\x86",
            b"\x00\x00\x05\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00",
            // A whole gRPC request: POST /cache_client.Scs/Get, literal headers, then a message.
            b"\x00\x00\x43\x01\x04\x00\x00\x00\x01\x83\x86\x44\x15/cache_client.Scs/Get\x0f\x10\x10application/grpc\
              \x40\x05cache\x0ddefault-cache",
            b"\x00\x00\x08\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x03\x0a\x01k",
            // A protosocket command: id 1, get "k" in "default-cache".
            b"\x1b\x10\x01\x52\x17\x12\x15\x0a\x0ddefault-cache\x12\x01k\x00\x00",
        ],
    );
}

pub(crate) fn ping(bytes: &[u8]) {
    play::<Ping>(bytes, &[b"PING\r\n", b"PONG\r\n"]);
}
