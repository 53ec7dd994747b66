//! What one pipelined command costs in the plugin, nanoseconds.
//!
//! Question: how much CPU does the protocol take for a command when the store answers at once? A
//! backend that shows the same 64 bytes for every key runs under the test host; each round sends
//! `DEPTH` commands in one receive. Printed is the best of many rounds, so noise of the machine is
//! left out; the test host's own work for a turn is in it, divided by `DEPTH`. The floor is the same with
//! `mn`, which has no operation and a fixed answer.
//!
//! ```text
//! cargo run --release -p crucible-memcache --example hot_path
//! ```
//!
//! # Safety
//! The views answered point to a static.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use crucible_memcache::Memcache;
use crucible_plugin_api::abi::op::{ItemView, item_kind};
use crucible_plugin_api::re::{schemars, serde};
use crucible_plugin_api::{Backend, Batch, Capabilities, Env, Op, PluginError, Status, WorkerCtx};
use crucible_plugin_testkit::TestHost;

static VALUE: [u8; 64] = [b'v'; 64];
const DEPTH: usize = 64;
const RUN: Duration = Duration::from_millis(400);

/// No settings.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(crate = "serde")]
#[schemars(crate = "schemars")]
struct Nothing {}

/// Shows the same value for every key and takes every write.
struct Same;

impl Backend for Same {
    type Settings = Nothing;
    type Worker = ();

    fn create(_: Nothing, _: &Env) -> Result<Self, PluginError> {
        Ok(Self)
    }

    fn capabilities(&self) -> Capabilities {
        let bits = Capabilities::CAS | Capabilities::FLAGS | Capabilities::TTL;
        Capabilities::all_opcodes(bits, 250, 1 << 20)
    }

    fn worker(&self, _: WorkerCtx) {}

    fn execute(&self, (): &mut (), batch: &mut Batch<'_, '_>) {
        for i in 0..batch.len() {
            let op: &mut Op<'_> = &mut batch[i];
            let view = ItemView {
                ptr: VALUE.as_ptr(),
                len: VALUE.len() as u32,
                cas: 7,
                kind: item_kind::CONTIGUOUS,
                ..ItemView::NONE
            };
            // SAFETY: a static.
            unsafe { op.set_view(view) };
            op.set_status(Status::OK);
        }
    }

    fn flush(&self, (): &mut (), _: u64) -> Status {
        Status::OK
    }

    fn stats(&self, (): &mut (), _: &str, _: &mut dyn FnMut(&str, &str)) {}
}

fn main() {
    let host = TestHost::new();
    let store = host.backend::<Same>("{}");
    let memcache = host.protocol::<Memcache>("{}", store);
    for (name, command) in [
        ("mn (floor)", "mn\r\n"),
        ("get, 16-byte key", "get key-0123456789ab\r\n"),
        ("gets", "gets key-0123456789ab\r\n"),
        (
            "get of 4 keys",
            "get key-0123456789ab key-0123456789ac key-0123456789ad key-0123456789ae\r\n",
        ),
        ("mg v", "mg key-0123456789ab v\r\n"),
        ("mg t f v O k", "mg key-0123456789ab t f v O1234 k\r\n"),
        (
            "set, 64 bytes",
            concat!(
                "set key-0123456789ab 0 0 64\r\n",
                "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n"
            ),
        ),
    ] {
        let conn = host.connect(memcache);
        let sent = command.repeat(DEPTH);
        let mut best = f64::INFINITY;
        let until = Instant::now() + RUN;
        while Instant::now() < until {
            conn.queue(sent.as_bytes());
            let started = Instant::now();
            host.sweep();
            let ns = started.elapsed().as_nanos() as f64 / DEPTH as f64;
            best = best.min(ns);
            assert!(!conn.take_output().is_empty());
        }
        println!("{name:24} {best:8.1} ns a command");
    }
}
