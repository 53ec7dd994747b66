//! What one crossing for a whole sweep is worth.
//!
//! Question: 16 connections have one GET each; is it cheaper to cross into the
//! protocol once for all of them than once for each? Asked of a table far larger
//! than the CPU's caches (3 million items, 64-byte values) and of one that fits
//! the first cache, and compared with the same work written inline, without any
//! boundary (`inline`: one array of 16, prefetched). Prints nanoseconds of this
//! thread's CPU time per command, medians of interleaved rounds.
//!
//! `cargo run --release -p crucible-plugin-testkit --example crossing [ITEMS [ROUNDS]]`
//!
//! # Safety
//! The table never changes once it is filled, so views into it are always valid.
#![allow(unsafe_code)]

use std::hint::black_box;

use crucible_plugin_api::abi::op::{ItemView, item_kind};
use crucible_plugin_api::re::{schemars, serde};
use crucible_plugin_api::{
    After, Backend, Batch, Capabilities, ConnInfo, Env, Item, Op, OpCode, Out, Parsed, PluginError,
    Protocol, Queue, Service, Status, WorkerCtx,
};
use crucible_plugin_testkit::Bare;

const KEY_LEN: usize = 16;
const VALUE_LEN: usize = 64;
const CONNS: usize = 16;
const COMMANDS_A_ROUND: usize = 16 * 2000;

#[repr(C, align(32))]
#[derive(Clone, Copy)]
struct Slot {
    key: [u8; KEY_LEN],
    value: [u8; VALUE_LEN],
}

/// Open addressing over tags; items lie elsewhere, so a hit costs two misses.
struct Table {
    index: Vec<u32>,
    items: Vec<Slot>,
    mask: usize,
}

fn key(n: u64) -> [u8; KEY_LEN] {
    let mut key = *b"key:000000000000";
    let digits = format!("{n:012}");
    key[4..].copy_from_slice(digits.as_bytes());
    key
}

#[inline]
fn hash(key: &[u8]) -> u64 {
    let word = |at: usize| u64::from_le_bytes(key[at..at + 8].try_into().expect("eight bytes"));
    if key.len() != KEY_LEN {
        return 0;
    }
    let mix = |x: u64| {
        let x = (x ^ (x >> 32)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        x ^ (x >> 32)
    };
    mix(mix(word(0) ^ 0x9e37_79b9_7f4a_7c15) ^ word(8))
}

#[inline]
fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that could fault.
    unsafe {
        std::arch::x86_64::_mm_prefetch(at.cast(), std::arch::x86_64::_MM_HINT_T0);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

impl Table {
    fn new(n: usize) -> Self {
        let size = (n * 2).next_power_of_two();
        let mut table =
            Self { index: vec![u32::MAX; size], items: Vec::with_capacity(n), mask: size - 1 };
        for at in 0..n {
            let key = key(at as u64);
            let mut slot = hash(&key) as usize & table.mask;
            while table.index[slot] != u32::MAX {
                slot = (slot + 1) & table.mask;
            }
            table.index[slot] = at as u32;
            table.items.push(Slot { key, value: [at as u8; VALUE_LEN] });
        }
        table
    }

    #[inline]
    fn prefetch_index(&self, hash: u64) {
        prefetch(&raw const self.index[hash as usize & self.mask]);
    }

    #[inline]
    fn prefetch_item(&self, hash: u64) {
        let item = self.index[hash as usize & self.mask];
        if let Some(item) = self.items.get(item as usize) {
            prefetch(item);
            prefetch(&raw const item.value[VALUE_LEN - 1]);
        }
    }

    #[inline]
    fn get(&self, key: &[u8], hash: u64) -> Option<&Slot> {
        let mut slot = hash as usize & self.mask;
        loop {
            let item = self.items.get(self.index[slot] as usize)?;
            if item.key == *key {
                return Some(item);
            }
            slot = (slot + 1) & self.mask;
        }
    }
}

#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
struct Settings {
    items: usize,
}

impl Backend for Table {
    type Settings = Settings;
    type Worker = Vec<u64>;

    fn create(settings: Settings, _: &Env) -> Result<Self, PluginError> {
        Ok(Self::new(settings.items))
    }

    fn capabilities(&self) -> Capabilities {
        let mut caps = Capabilities::all_opcodes(0, KEY_LEN as u32, VALUE_LEN as u64);
        caps.opcodes = [0; 4];
        caps.add(OpCode::GET);
        caps
    }

    fn worker(&self, _: WorkerCtx) -> Vec<u64> {
        Vec::new()
    }

    fn execute(&self, hashes: &mut Vec<u64>, batch: &mut Batch<'_, '_>) {
        hashes.clear();
        hashes.extend(batch.iter().map(|op| hash(op.key())));
        if hashes.len() > 1 {
            hashes.iter().for_each(|hash| self.prefetch_index(*hash));
            hashes.iter().for_each(|hash| self.prefetch_item(*hash));
        }
        for (op, hash) in batch.iter_mut().zip(hashes) {
            let Some(item) = self.get(op.key(), *hash) else {
                op.set_status(Status::MISS);
                continue;
            };
            let view = ItemView {
                ptr: item.value.as_ptr(),
                cas: 1,
                len: VALUE_LEN as u32,
                kind: item_kind::CONTIGUOUS,
                ..ItemView::NONE
            };
            // SAFETY: see the module.
            unsafe { op.set_view(view) };
            op.set_status(Status::OK);
        }
    }

    fn flush(&self, _: &mut Vec<u64>, _: u64) -> Status {
        Status::UNSUPPORTED
    }

    fn stats(&self, _: &mut Vec<u64>, _: &str, _: &mut dyn FnMut(&str, &str)) {}
}

/// memcached's `get` with one key.
struct Get;

impl Protocol for Get {
    type Settings = Settings;
    type Worker = ();
    type Session = ();
    type Ticket = ();

    fn create(_: Settings, _: &Env) -> Result<Self, PluginError> {
        Ok(Self)
    }

    fn worker(&self, _: &Service) {}

    fn open(&self, (): &mut (), _: &ConnInfo<'_>, _: &Service, _: &mut Out<'_>) {}

    fn parse<'a>(
        &self,
        (): &mut (),
        (): &mut (),
        input: &'a [u8],
        queue: &mut Queue<'a, ()>,
    ) -> Parsed {
        let mut at = 0;
        while let Some(key) = request(&input[at..]) {
            at += key.len() + 6;
            queue.command(Op::get(key), ());
            if queue.should_stop() {
                return Parsed::stopped(at);
            }
        }
        Parsed::more(at)
    }

    fn reply<'a>(
        &self,
        (): &mut (),
        (): &mut (),
        (): (),
        ops: &[Op<'a>],
        out: &mut Out<'_>,
        _: &mut Queue<'a, ()>,
    ) -> After {
        if let Some(item) = ops[0].item() {
            header(out, ops[0].key(), &item);
            out.value(item.value());
            out.bytes(b"\r\n");
        }
        out.bytes(b"END\r\n");
        After::Done
    }
}

#[inline]
fn header(out: &mut Out<'_>, key: &[u8], item: &Item<'_>) {
    out.bytes(b"VALUE ");
    out.bytes(key);
    out.bytes(b" ");
    out.decimal_unsigned(item.flags().into());
    out.bytes(b" ");
    out.decimal_unsigned(item.len() as u64);
    out.bytes(b"\r\n");
}

#[inline]
fn request(input: &[u8]) -> Option<&[u8]> {
    let rest = input.strip_prefix(b"get ")?;
    let len = rest.iter().position(|b| *b == b'\r')?;
    rest.get(len + 1).filter(|b| **b == b'\n').map(|_| &rest[..len])
}

/// The same work without a boundary.
fn inline(table: &Table, inputs: &[&[u8]], outs: &mut [Vec<u8>]) -> usize {
    let mut keys: [&[u8]; CONNS] = [&[]; CONNS];
    let mut hashes = [0; CONNS];
    for (at, input) in inputs.iter().enumerate() {
        keys[at] = request(input).unwrap_or_default();
        hashes[at] = hash(keys[at]);
    }
    hashes.iter().for_each(|hash| table.prefetch_index(*hash));
    hashes.iter().for_each(|hash| table.prefetch_item(*hash));
    let mut answered = 0;
    for at in 0..inputs.len() {
        let out = &mut outs[at];
        out.clear();
        if let Some(item) = table.get(keys[at], hashes[at]) {
            out.extend_from_slice(b"VALUE ");
            out.extend_from_slice(keys[at]);
            out.extend_from_slice(b" 0 64\r\n");
            out.extend_from_slice(&item.value);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"END\r\n");
        answered += out.len();
    }
    answered
}

/// CPU time of this thread: waiting for a busy machine does not count.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for a write.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0, "the system has a clock for threads");
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn measure(items: usize, rounds: usize) {
    let settings = format!(r#"{{"items":{items}}}"#);
    let mut bare = Bare::new::<Get, Table>("{}", &settings, CONNS);
    let table = Table::new(items);
    let mut outs: Vec<Vec<u8>> = (0..CONNS).map(|_| Vec::with_capacity(1024)).collect();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let requests: Vec<Vec<u8>> = (0..COMMANDS_A_ROUND)
        .map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            [b"get ", &key((seed >> 20) % items as u64)[..], b"\r\n"].concat()
        })
        .collect();
    let pipelined: Vec<Vec<u8>> = requests.chunks(CONNS).map(<[Vec<u8>]>::concat).collect();
    let inputs: Vec<&[u8]> = requests.iter().map(Vec::as_slice).collect();
    let mut ns: [Vec<f64>; 4] = Default::default();
    for _ in 0..rounds {
        for (way, ns) in ns.iter_mut().enumerate() {
            let start = cpu_ns();
            let mut answered = 0;
            if way == 3 {
                for input in &pipelined {
                    answered += bare.sweep(&[input], true);
                }
            } else {
                for sweep in inputs.chunks(CONNS) {
                    answered += match way {
                        0 => bare.sweep(sweep, false),
                        1 => bare.sweep(sweep, true),
                        _ => inline(&table, sweep, &mut outs),
                    };
                }
            }
            ns.push((cpu_ns() - start) as f64 / COMMANDS_A_ROUND as f64);
            assert_eq!(black_box(answered), COMMANDS_A_ROUND * 100, "every get is a hit");
        }
    }
    let [each, sweep, inline, pipeline] = ns.map(median);
    println!(
        "{items:8} items: crossing per connection {each:6.1} ns, per sweep {sweep:6.1} ns \
         ({:.2}x fewer), pipeline of 16 {pipeline:6.1} ns, inline {inline:6.1} ns",
        each / sweep
    );
}

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|n| n.parse().ok());
    let (items, rounds) = (args.next().unwrap_or(3_000_000), args.next().unwrap_or(15));
    println!("CPU ns per command, {CONNS} connections x 1 GET of 64 bytes, median of {rounds}");
    measure(256, rounds);
    if items > 256 {
        measure(items, rounds);
    }
}
