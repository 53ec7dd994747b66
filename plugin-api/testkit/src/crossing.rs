//! What one crossing for a whole sweep is worth, on a backend as it is.
//!
//! Question: 16 connections have one GET each; is it cheaper to cross into the
//! protocol once for all of them than once for each? Asked of a store far larger than
//! the CPU's caches and of one that fits the first of them. Every round and way asks
//! for other keys, so that no way finds in the caches what another has fetched.
//! Prints nanoseconds of this thread's CPU time per command, medians of interleaved
//! rounds.
//!
//! ```no_run
//! use crucible_plugin_testkit::{ModelBackend, crossing};
//! crossing::of::<ModelBackend>(|_items| "{}".to_owned());
//! ```
//! Arguments of the program: `[ITEMS [ROUNDS]]`, 3 million and 15 if not given.

use std::hint::black_box;

use crucible_plugin_api::re::{schemars, serde};
use crucible_plugin_api::{
    After, Backend, ConnInfo, Env, Op, OpCode, Out, Parsed, PluginError, Protocol, Queue, Service,
};

use crate::Bare;

const VALUE: [u8; 64] = [b'v'; 64];
const CONNS: usize = 16;
/// Commands of one way in one round.
const WINDOW: usize = CONNS * 2000;
/// Rounds and ways take turns at so many windows of requests.
const WINDOWS: usize = 32;
/// `get key:000000000000\r\n`
const REQUEST_BYTES: usize = 22;

/// Requests of one length, one after another.
struct Requests(Vec<u8>);

impl Requests {
    fn new(verb: &str, keys: impl Iterator<Item = u64>) -> Self {
        let bytes: Vec<u8> =
            keys.flat_map(|n| format!("{verb} key:{n:012}\r\n").into_bytes()).collect();
        assert_eq!(bytes.len() % REQUEST_BYTES, 0, "all are of one length");
        Self(bytes)
    }

    /// Sweeps of one request for each connection.
    fn sweeps(&self, window: usize) -> impl Iterator<Item = Vec<&[u8]>> {
        let bytes = window * REQUEST_BYTES * WINDOW..(window + 1) * REQUEST_BYTES * WINDOW;
        let sweeps = self.0[bytes].chunks(REQUEST_BYTES * CONNS);
        sweeps.map(|sweep| sweep.chunks(REQUEST_BYTES).collect())
    }
}

/// `get KEY` as memcached has it, and `put KEY` for a value of 64 bytes.
struct Get;

#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
struct Settings {}

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
        while let Some(request) = input.get(at..at + REQUEST_BYTES) {
            let key = &request[4..REQUEST_BYTES - 2];
            at += REQUEST_BYTES;
            let op = if request[0] == b'g' { Op::get(key) } else { Op::store(key, &VALUE) };
            queue.command(op, ());
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
        if ops[0].code() == OpCode::STORE {
            out.bytes(b"STORED\r\n");
            return After::Done;
        }
        if let Some(item) = ops[0].item() {
            out.bytes(b"VALUE ");
            out.bytes(ops[0].key());
            out.bytes(b" ");
            out.decimal_unsigned(item.flags().into());
            out.bytes(b" ");
            out.decimal_unsigned(item.len() as u64);
            out.bytes(b"\r\n");
            out.value(item.value());
            out.bytes(b"\r\n");
        }
        out.bytes(b"END\r\n");
        After::Done
    }
}

/// CPU time of this thread: waiting for a busy machine does not count.
fn cpu_ns() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0.0)
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Measures over a backend; `settings` for a store of so many items of 80 bytes.
///
/// # Panics
/// When a GET misses.
pub fn of<B: Backend>(settings: impl Fn(usize) -> String) {
    let mut args = std::env::args().skip(1).filter_map(|n| n.parse().ok());
    let (items, rounds) = (args.next().unwrap_or(3_000_000), args.next().unwrap_or(15));
    println!("CPU ns per command, {CONNS} connections x 1 GET of 64 bytes, median of {rounds}");
    measure::<B>(&settings(256), 256, rounds);
    if items > 256 {
        measure::<B>(&settings(items), items, rounds);
    }
}

fn measure<B: Backend>(settings: &str, items: usize, rounds: usize) {
    let mut bare = Bare::new::<Get, B>("{}", settings, CONNS);
    for begin in (0..items as u64).step_by(WINDOW) {
        let keys = begin..begin + WINDOW as u64;
        let puts = Requests::new("put", keys.map(|n| n.min(items as u64 - 1)));
        puts.sweeps(0).for_each(|sweep| assert_eq!(bare.sweep(&sweep, true), 8 * CONNS));
    }
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let random = std::iter::repeat_with(|| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 20) % items as u64
    });
    let requests = Requests::new("get", random.take(WINDOW * WINDOWS));
    let mut ns: [Vec<f64>; 3] = Default::default();
    for round in 0..rounds {
        for (way, ns) in ns.iter_mut().enumerate() {
            let window = (round * 3 + way) % WINDOWS;
            let sweeps: Vec<Vec<&[u8]>> = requests.sweeps(window).collect();
            let pipelined: Vec<Vec<u8>> = sweeps.iter().map(|sweep| sweep.concat()).collect();
            let (start, mut answered) = (cpu_ns(), 0);
            for (sweep, pipeline) in sweeps.iter().zip(&pipelined) {
                answered += match way {
                    0 => bare.sweep(sweep, false),
                    1 => bare.sweep(sweep, true),
                    _ => bare.sweep(&[pipeline], true),
                };
            }
            ns.push((cpu_ns() - start) / WINDOW as f64);
            assert_eq!(black_box(answered), WINDOW * 100, "every get is a hit");
        }
    }
    let [each, sweep, pipeline] = ns.map(median);
    println!(
        "{items:8} items: crossing per connection {each:6.1} ns, per sweep {sweep:6.1} ns \
         ({:.2}x fewer), pipeline of 16 {pipeline:6.1} ns",
        each / sweep
    );
}
