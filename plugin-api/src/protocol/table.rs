//! The thunks that carry a [`Protocol`] over the boundary.
//!
//! Always true: no panic leaves a thunk; one session's panic closes that
//! session and no other.
//!
//! # Safety
//! The host passes back exactly the pointers that `create`, `worker_init` and
//! `conn_open` gave it, calls worker functions on that worker's thread with no
//! overlap, and none after the matching `drop`, `fini` or `destroy`.
#![allow(unsafe_code)]

use core::ffi::c_void;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::std_types::{ROption, RStr, RString, RVec};

use super::engine::{Conn, Engine};
use super::{CloseReason, ConnInfo, Protocol, Service};
use crate::abi::caps::Capabilities;
use crate::abi::status::Status;
use crate::abi::tables::{
    BackendFns_Ref, Command, HostApi_Ref, ProtocolVt, ProtocolVt_Ref, WorkerApi_Ref,
};
use crate::abi::turn::{ConnInfo as RawConnInfo, KeyEvent, Turn, verdict};
use crate::backend::table::query_ext;
use crate::env::{Env, WorkerCtx};
use crate::settings::parse_settings;
use crate::thunk::guard;

struct Instance<P> {
    protocol: P,
    env: Env,
}

struct WorkerState<P: Protocol> {
    /// Outlives every worker state, by the table's contract.
    instance: *const Instance<P>,
    engine: Engine<P>,
}

impl<P: Protocol> WorkerState<P> {
    /// # Safety
    /// `worker` came from `worker_init::<P>`; this is its thread; no other
    /// reference to it is alive.
    unsafe fn split<'a>(worker: *mut c_void) -> (&'a P, &'a mut Engine<P>) {
        // SAFETY: the caller's promise, and the field's.
        unsafe {
            let state = &mut *worker.cast::<Self>();
            (&(*state.instance).protocol, &mut state.engine)
        }
    }
}

/// Makes the table of a protocol. Leaks it: tables live as long as the process.
pub(crate) fn table<P: Protocol>() -> ProtocolVt_Ref {
    ProtocolVt {
        validate: validate::<P>,
        create: create::<P>,
        destroy: destroy::<P>,
        worker_init: worker_init::<P>,
        worker_fini: worker_fini::<P>,
        commands: commands::<P>,
        conn_open: conn_open::<P>,
        on_turns: on_turns::<P>,
        conn_drop: conn_drop::<P>,
        on_key_events: on_key_events::<P>,
        event_kinds: event_kinds::<P>,
        refusal: refusal::<P>,
        query_ext,
    }
    .leak_into_prefix()
}

unsafe extern "C" fn validate<P: Protocol>(
    json: RStr<'_>,
    caps: *const Capabilities,
) -> ROption<RString> {
    let checked = guard(|| {
        let settings = parse_settings::<P::Settings>(json.as_str())?;
        // SAFETY: the host passes capabilities that are valid for the call.
        P::check(&settings, unsafe { &*caps })
    });
    match checked {
        Ok(Ok(())) => ROption::RNone,
        Ok(Err(error)) => ROption::RSome(error.to_string().into()),
        Err(panic) => ROption::RSome(format!("panicked: {panic}").into()),
    }
}

unsafe extern "C" fn create<P: Protocol>(
    host: HostApi_Ref,
    json: RStr<'_>,
    out: *mut *mut c_void,
    error: *mut RString,
) -> Status {
    // SAFETY: the host keeps its table alive until after `destroy`.
    let env = unsafe { Env::from_api(host) };
    crate::log::install(&env);
    let made = guard(|| P::create(parse_settings::<P::Settings>(json.as_str())?, &env));
    let (status, message) = match made {
        Ok(Ok(protocol)) => {
            let instance = Box::new(Instance { protocol, env });
            // SAFETY: `out` is valid for a write.
            unsafe { out.write(Box::into_raw(instance).cast()) };
            return Status::OK;
        }
        Ok(Err(error)) => (Status::INVALID, error.to_string()),
        Err(panic) => (Status::PANICKED, format!("panicked: {panic}")),
    };
    // SAFETY: `error` points to an initialised RString of the host.
    unsafe { *error = message.into() };
    status
}

unsafe extern "C" fn destroy<P: Protocol>(ctx: *mut c_void) {
    // SAFETY: `ctx` is the box made in `create`, given back exactly once.
    let instance = unsafe { Box::from_raw(ctx.cast::<Instance<P>>()) };
    let _told_by_the_hook = guard(|| drop(instance));
}

unsafe extern "C" fn worker_init<P: Protocol>(
    ctx: *const c_void,
    api: WorkerApi_Ref,
    backend: BackendFns_Ref,
    out: *mut *mut c_void,
) -> Status {
    let instance: *const Instance<P> = ctx.cast();
    // SAFETY: `ctx` came from `create`; tables live until `worker_fini`.
    let (owner, service) = unsafe {
        let owner = &*instance;
        (owner, Service::new(backend, owner.env.clone(), WorkerCtx::from_api(api)))
    };
    match guard(|| Engine::new(&owner.protocol, service)) {
        Ok(engine) => {
            let state = Box::new(WorkerState { instance, engine });
            // SAFETY: `out` is valid for a write.
            unsafe { out.write(Box::into_raw(state).cast()) };
            Status::OK
        }
        Err(_) => Status::PANICKED,
    }
}

unsafe extern "C" fn worker_fini<P: Protocol>(_: *const c_void, worker: *mut c_void) {
    // SAFETY: `worker` is the box made in `worker_init`, given back once.
    let state = unsafe { Box::from_raw(worker.cast::<WorkerState<P>>()) };
    let _told_by_the_hook = guard(|| drop(state));
}

unsafe extern "C" fn commands<P: Protocol>() -> RVec<Command> {
    let commands = guard(P::commands).unwrap_or_default();
    let rows = commands.into_iter().map(|c| Command {
        name: c.name.into(),
        needs_caps: c.needs_caps,
        needs_op: c.needs_op,
        _rsv: 0,
        _rsv1: 0,
    });
    rows.collect()
}

unsafe extern "C" fn conn_open<P: Protocol>(
    worker: *mut c_void,
    turn: *mut Turn,
    info: *const RawConnInfo,
) -> Status {
    // SAFETY: the table's contract; turn and info are valid for the call.
    let ((protocol, engine), turn, raw) =
        unsafe { (WorkerState::<P>::split(worker), &mut *turn, &*info) };
    let address = |ip: [u8; 16], port: u16| {
        (raw.family != 1)
            .then(|| SocketAddr::new(IpAddr::V6(Ipv6Addr::from(ip)).to_canonical(), port))
    };
    let info = ConnInfo {
        id: raw.conn_id,
        listener: raw.listener,
        tls: raw.tls != 0,
        unix: raw.family == 1,
        peer: address(raw.peer, raw.peer_port),
        local: address(raw.local, raw.local_port),
        // SAFETY: the host's bytes are valid for the call.
        peer_name: unsafe { raw.peer_name.bytes() },
    };
    match engine.open(protocol, turn, &info) {
        Ok(conn) => {
            turn.session = Box::into_raw(conn).cast();
            turn.verdict = 0;
            Status::OK
        }
        Err(_) => {
            turn.verdict = verdict::PANICKED | verdict::CLOSE_NOW;
            Status::PANICKED
        }
    }
}

unsafe extern "C" fn on_turns<P: Protocol>(
    worker: *mut c_void,
    turns: *mut Turn,
    n: u32,
) -> Status {
    if n == 0 {
        return Status::OK;
    }
    crate::log::follow();
    // SAFETY: the table's contract; `turns` holds `n` turns.
    let ((protocol, engine), turns) = unsafe {
        (WorkerState::<P>::split(worker), std::slice::from_raw_parts_mut(turns, n as usize))
    };
    // The author's code is guarded connection by connection; this guard is for
    // our own mistakes.
    match guard(|| engine.turns(protocol, turns)) {
        Ok(()) => Status::OK,
        Err(_) => {
            for turn in turns {
                turn.consumed = 0;
                turn.skip_bytes = 0;
                turn.verdict = verdict::PANICKED | verdict::CLOSE_NOW;
            }
            Status::PANICKED
        }
    }
}

unsafe extern "C" fn conn_drop<P: Protocol>(worker: *mut c_void, session: *mut c_void, why: u32) {
    // SAFETY: the table's contract; `session` is the box made in `conn_open`.
    let ((protocol, engine), conn) =
        unsafe { (WorkerState::<P>::split(worker), Box::from_raw(session.cast::<Conn<P>>())) };
    engine.drop_conn(protocol, *conn, CloseReason(why));
}

unsafe extern "C" fn on_key_events<P: Protocol>(
    worker: *mut c_void,
    events: *const KeyEvent,
    n: u32,
) {
    if n == 0 {
        return;
    }
    // SAFETY: the table's contract; `events` holds `n` events.
    let ((protocol, engine), events) = unsafe {
        (WorkerState::<P>::split(worker), std::slice::from_raw_parts(events, n as usize))
    };
    engine.key_events(protocol, events);
}

unsafe extern "C" fn event_kinds<P: Protocol>(ctx: *const c_void) -> u32 {
    // SAFETY: `ctx` came from `create` and was not destroyed.
    let instance = unsafe { &*ctx.cast::<Instance<P>>() };
    guard(|| instance.protocol.event_kinds()).unwrap_or(0)
}

unsafe extern "C" fn refusal<P: Protocol>(why: u32) -> RVec<u8> {
    guard(|| P::refusal(CloseReason(why))).unwrap_or_default().into()
}
