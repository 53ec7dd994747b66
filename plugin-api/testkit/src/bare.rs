//! A host with nothing in the way, for measuring crossings.
//!
//! Unlike [`crate::TestHost`] it checks nothing, copies nothing and lends
//! memory of ample size once; the backend's functions are called directly, as a
//! worker in production does.
//!
//! # Safety
//! As for the other host: tables of plugin roots, used on one thread; everything
//! lent outlives the calls.
#![allow(unsafe_code)]

use core::ffi::c_void;

use crucible_plugin_api::abi::op::{Buf, Reservation};
use crucible_plugin_api::abi::tables::{BackendFns, BackendVt_Ref, Plugin_Ref, ProtocolVt_Ref};
use crucible_plugin_api::abi::turn::{ConnInfo, GrowFn, Sink, Splice, Turn, TurnEvent};
use crucible_plugin_api::re::abi_stable::prefix_type::PrefixTypeTrait;
use crucible_plugin_api::re::abi_stable::std_types::{ROption, RStr, RString};
use crucible_plugin_api::{Backend, PluginInfo, Protocol, Status, backend_root, protocol_root};

use crate::services::Services;

/// Output memory of each connection, bytes.
const SINK_BYTES: usize = 64 << 10;
/// Sinks begin at different places of a page, or all their first lines would
/// share one set of the CPU's cache.
const STAGGER_BYTES: usize = 5 * 64;
const SPLICES: usize = 1024;

/// One worker, one protocol, one backend, some connections.
pub struct Bare {
    store: (BackendVt_Ref, *mut c_void, *mut c_void),
    protocol: (ProtocolVt_Ref, *mut c_void, *mut c_void),
    turns: Vec<Turn>,
    sinks: Vec<*mut Sink>,
    _memory: Vec<(Vec<u8>, Vec<Splice>)>,
}

const INFO: PluginInfo = PluginInfo { name: "bare", version: "0.0.0" };

impl Bare {
    /// Opens `conns` connections of a protocol over a backend.
    #[must_use]
    pub fn new<P: Protocol, B: Backend>(protocol: &str, backend: &str, conns: usize) -> Self {
        let roots = (protocol_root::<P>(INFO), backend_root::<B>(INFO));
        Self::of_roots(roots.0, protocol, roots.1, backend, conns)
    }

    /// As [`Bare::new`], of plugin roots.
    ///
    /// # Panics
    /// When a plugin refuses.
    #[must_use]
    pub fn of_roots(
        protocol: Plugin_Ref,
        protocol_settings: &str,
        backend: Plugin_Ref,
        backend_settings: &str,
        conns: usize,
    ) -> Self {
        let services = Services::leak(1, crate::START_MS);
        let (host, (_, worker_api)) = (services.api(), services.worker(0));
        let (ROption::RSome(pvt), ROption::RSome(bvt)) = (protocol.protocol(), backend.backend())
        else {
            panic!("a protocol and a backend")
        };
        let (mut store, mut worker) = (std::ptr::null_mut(), std::ptr::null_mut());
        let (mut instance, mut session) = (std::ptr::null_mut(), std::ptr::null_mut());
        let mut error = RString::new();
        // SAFETY: tables are leaked; outputs are valid; one thread.
        unsafe {
            let made =
                bvt.create()(host, RStr::from(backend_settings), &raw mut store, &raw mut error);
            assert_eq!(made, Status::OK, "{error}");
            assert_eq!(bvt.worker_init()(store, worker_api, &raw mut worker), Status::OK);
            let fns = BackendFns {
                ctx: store,
                worker,
                caps: bvt.caps()(store),
                execute: bvt.execute(),
                retain: bvt.retain(),
                release: bvt.release(),
                reserve: bvt.reserve(),
                abort: bvt.abort(),
                flush: bvt.flush(),
                scan: bvt.scan(),
                stats: bvt.stats(),
                set_memory_limit: bvt.set_memory_limit(),
                query_ext: bvt.query_ext(),
            };
            let fns = fns.leak_into_prefix();
            let settings = RStr::from(protocol_settings);
            let made = pvt.create()(host, settings, &raw mut instance, &raw mut error);
            assert_eq!(made, Status::OK, "{error}");
            let made = pvt.worker_init()(instance, worker_api, fns, &raw mut session);
            assert_eq!(made, Status::OK);
        }
        let mut bare = Self {
            store: (bvt, store, worker),
            protocol: (pvt, instance, session),
            turns: Vec::new(),
            sinks: Vec::new(),
            _memory: Vec::new(),
        };
        (0..conns).for_each(|id| bare.open(id as u64 + 1));
        bare
    }

    fn open(&mut self, conn_id: u64) {
        let none = Splice { at: 0, ptr: std::ptr::null(), len: 0, guard: 0 };
        let (mut bytes, mut splices) = (vec![0u8; SINK_BYTES + 4096], vec![none; SPLICES]);
        let room = &mut bytes[self.sinks.len() * STAGGER_BYTES % 4096..];
        let sink = Box::into_raw(Box::new(Sink {
            buf: room.as_mut_ptr(),
            len: 0,
            cap: SINK_BYTES,
            splices: splices.as_mut_ptr(),
            n_splices: 0,
            cap_splices: SPLICES as u32,
            splice_len_min: 16 * 1024,
            _rsv: 0,
            budget_bytes: u64::MAX,
            host: std::ptr::null_mut(),
            grow: GrowFn(refuse),
        }));
        let mut turn = Turn {
            session: std::ptr::null_mut(),
            conn_id,
            input: Buf::EMPTY,
            event: TurnEvent::DATA,
            _rsv0: 0,
            token: 0,
            done: std::ptr::null_mut(),
            sink,
            consumed: 0,
            verdict: 0,
            status: Status::OK,
            skip_bytes: 0,
            body: Reservation { token: 0, parts: std::ptr::null(), nparts: 0, _rsv: 0 },
            body_left: 0,
            _rsv1: [0; 2],
        };
        let info = ConnInfo {
            conn_id,
            peer: [0; 16],
            peer_port: 0,
            family: 1,
            tls: 0,
            listener: 0,
            local: [0; 16],
            local_port: 0,
            _rsv0: [0; 6],
            alpn: Buf::EMPTY,
            sni: Buf::EMPTY,
            peer_name: Buf::EMPTY,
            _rsv1: [0; 2],
        };
        // SAFETY: turn and info outlive the call.
        let status =
            unsafe { self.protocol.0.conn_open()(self.protocol.2, &raw mut turn, &raw const info) };
        assert_eq!(status, Status::OK);
        self.turns.push(turn);
        self.sinks.push(sink);
        self._memory.push((bytes, splices));
    }

    /// One sweep: connection i gets `inputs[i]`, all in one crossing, or each in
    /// its own. Returns how many bytes were answered.
    ///
    /// # Panics
    /// When there are more inputs than connections, or input is left.
    pub fn sweep(&mut self, inputs: &[&[u8]], together: bool) -> usize {
        let n = inputs.len();
        for (turn, input) in self.turns[..n].iter_mut().zip(inputs) {
            turn.input = Buf::of(input);
        }
        let (bvt, store, worker) = self.store;
        let (pvt, _, side) = self.protocol;
        // SAFETY: one thread; inputs outlive the calls.
        unsafe {
            bvt.enter()(store, worker);
            if together {
                pvt.on_turns()(side, self.turns.as_mut_ptr(), n as u32);
            } else {
                for turn in &mut self.turns[..n] {
                    pvt.on_turns()(side, turn, 1);
                }
            }
            bvt.leave()(store, worker);
        }
        let mut answered = 0;
        for (at, turn) in self.turns[..n].iter().enumerate() {
            assert_eq!(turn.consumed as usize, inputs[at].len(), "input is left");
            // SAFETY: the sink is ours outside of a crossing.
            let sink = unsafe { &mut *self.sinks[at] };
            answered += sink.len;
            sink.len = 0;
        }
        answered
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let (bvt, store, worker) = self.store;
        let (pvt, instance, side) = self.protocol;
        // SAFETY: the last calls for each.
        unsafe {
            for turn in &self.turns {
                pvt.conn_drop()(side, turn.session, 0);
            }
            pvt.worker_fini()(instance, side);
            pvt.destroy()(instance);
            bvt.worker_fini()(store, worker);
            bvt.destroy()(store);
            self.sinks.iter().for_each(|sink| drop(Box::from_raw(*sink)));
        }
    }
}

impl std::fmt::Debug for Bare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bare").field("conns", &self.turns.len()).finish_non_exhaustive()
    }
}

unsafe extern "C" fn refuse(_: *mut Sink, _: usize, _: u32) -> Status {
    Status::NO_MEMORY
}
