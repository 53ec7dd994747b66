//! What every protocol must survive, whatever it speaks.
//!
//! ```
//! use crucible_plugin_testkit::{Robustness, sample::Sample};
//!
//! Robustness::of::<Sample>("{}").run();
//! ```
//! The suite knows no grammar. It makes input from the names of the protocol's
//! commands, from requests that its author gives ([`Robustness::sample`]), and
//! from noise, and holds the protocol to what needs no grammar: it never
//! panics, never spins, gives back what it was lent, and answers the same
//! however the network cuts the bytes. As with [`crate::Contract`], each part
//! makes its own host, so parts can run one by one, also in a child process
//! against a plugin file.
//!
//! Always true: the same input is made in every run.
//!
//! # Safety
//! Only the table's list of commands is called here; it takes no arguments.
#![allow(unsafe_code)]

use crucible_plugin_api::abi::tables::Plugin_Ref;
use crucible_plugin_api::re::abi_stable::std_types::ROption;
use crucible_plugin_api::{CloseReason, PluginInfo, Protocol, protocol_root};

use crate::random::Random;
use crate::{Conn, Faulty, HostOptions, ModelBackend, ProtocolId, TestHost};

/// Longest random input, bytes.
const NOISE_LEN_MAX: u64 = 600;
/// Requests in one input at the most.
const REQUESTS_MAX: u64 = 6;
/// Timers and wakes are given this many chances after an input.
const TICKS: u32 = 3;

/// One part of the suite.
#[derive(Clone, Copy)]
pub struct RobustPart {
    /// What it claims.
    pub name: &'static str,
    check: fn(&Robustness),
}

impl RobustPart {
    /// Checks it.
    ///
    /// # Panics
    /// With what is wrong.
    #[track_caller]
    pub fn check(&self, suite: &Robustness) {
        (self.check)(suite);
    }
}

impl std::fmt::Debug for RobustPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// All parts, the quick ones first.
pub const ROBUST_PARTS: [RobustPart; 7] = [
    RobustPart { name: "connections open and end for every reason", check: ends },
    RobustPart { name: "any bytes are answered, refused or awaited", check: any_bytes },
    RobustPart { name: "bytes mean the same however they are cut", check: cuts },
    RobustPart { name: "output memory of one byte changes no answer", check: tiny_output },
    RobustPart { name: "a client that reads late gets the same answers", check: late_reader },
    RobustPart { name: "a connection that dies gives everything back", check: deaths },
    RobustPart { name: "a store in trouble is answered for", check: trouble },
];

/// A protocol under test.
#[derive(Clone)]
pub struct Robustness {
    root: Plugin_Ref,
    settings: String,
    rounds: u32,
    samples: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Robustness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Robustness").field("settings", &self.settings).finish_non_exhaustive()
    }
}

const INFO: PluginInfo = PluginInfo { name: "under-test", version: "0.0.0" };

impl Robustness {
    /// A protocol with these settings.
    #[must_use]
    pub fn of<P: Protocol>(settings: &str) -> Self {
        Self::of_root(protocol_root::<P>(INFO), settings)
    }

    /// A protocol by its plugin's root.
    ///
    /// # Panics
    /// When the root is no protocol's.
    #[must_use]
    pub fn of_root(root: Plugin_Ref, settings: &str) -> Self {
        let ROption::RSome(vt) = root.protocol() else { panic!("this plugin is no protocol") };
        // SAFETY: any thread, no arguments that could be wrong.
        let names = unsafe { vt.commands()() };
        let mut samples = Vec::new();
        for name in names.iter().map(|command| command.name.as_bytes()) {
            samples.extend(requests(name));
        }
        samples.push(Vec::from(b"\r\n"));
        Self { root, settings: settings.to_owned(), rounds: 300, samples }
    }

    /// Bytes of one request that a client would send; better input comes of it.
    #[must_use]
    pub fn sample(mut self, request: impl AsRef<[u8]>) -> Self {
        self.samples.push(request.as_ref().to_vec());
        self
    }

    /// How many inputs each part plays (300 unless told).
    #[must_use]
    pub fn rounds(mut self, rounds: u32) -> Self {
        self.rounds = rounds;
        self
    }

    /// Checks everything.
    ///
    /// # Panics
    /// With the part, and what is wrong.
    #[track_caller]
    pub fn run(&self) {
        for part in ROBUST_PARTS {
            eprintln!("robustness: {}", part.name);
            part.check(self);
        }
    }

    fn host(&self, options: HostOptions, store: &str) -> (TestHost, ProtocolId) {
        let host = TestHost::with(options);
        let store = host.backend::<Faulty<ModelBackend>>(store);
        let protocol = host
            .protocol_of(self.root, &self.settings, store)
            .expect("the protocol takes its settings, over a store that can do everything");
        (host, protocol)
    }

    /// One input: requests, changed requests, noise.
    fn input(&self, random: &mut Random) -> Vec<u8> {
        let mut input = Vec::new();
        for _ in 0..=random.below(REQUESTS_MAX) {
            if random.below(8) == 0 {
                let n = random.below(NOISE_LEN_MAX);
                input.extend((0..n).map(|_| random.below(256) as u8));
                continue;
            }
            let mut request =
                self.samples[random.below(self.samples.len() as u64) as usize].clone();
            if random.below(3) == 0 {
                spoil(&mut request, random);
            }
            input.extend(request);
        }
        input
    }

    /// Everything that comes back for an input sent in pieces.
    fn play(&self, options: HostOptions, pieces: &[&[u8]], late: bool) -> (Vec<u8>, bool) {
        let (host, protocol) = self.host(options, "{}");
        let conn = host.connect(protocol);
        if late {
            conn.stop_reading();
        }
        let mut output = Vec::new();
        for piece in pieces {
            conn.send(piece);
            if !late {
                output.extend(conn.take_output());
            }
        }
        loop {
            let crossings = host.crossings();
            let more = conn.take_output();
            if more.is_empty() && crossings == host.crossings() {
                break;
            }
            output.extend(more);
        }
        no_panic(&conn, &pieces.concat());
        let closed = conn.is_closed();
        drop(conn);
        host.finish();
        (output, closed)
    }

    /// Compares another way of playing with the plain one, for many inputs.
    fn same(&self, seed: u64, other: impl Fn(&[u8], &mut Random) -> (Vec<u8>, bool)) {
        let mut random = Random::new(seed);
        for _ in 0..self.rounds {
            let input = self.input(&mut random);
            let plain = self.play(HostOptions::default(), &[&input], false);
            // What differs by itself (a random answer, say) shows nothing.
            if self.play(HostOptions::default(), &[&input], false) != plain {
                continue;
            }
            let got = other(&input, &mut random);
            assert!(
                got.0 == plain.0,
                "the answers differ\n  sent      {}\n  whole     {}\n  this way  {}",
                input.escape_ascii(),
                plain.0.escape_ascii(),
                got.0.escape_ascii(),
            );
            assert_eq!(got.1, plain.1, "closed or not differs after {}", input.escape_ascii());
        }
    }
}

/// Requests that many text protocols would take for a command of this name.
fn requests(name: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let args: [&[&[u8]]; 5] =
        [&[], &[b"key"], &[b"key", b"value"], &[b"key", b"0", b"0", b"5"], &[b"key", b"1", b"two"]];
    for args in args {
        let mut line = name.to_vec();
        let mut array = format!("*{}\r\n${}\r\n", args.len() + 1, name.len()).into_bytes();
        array.extend(name);
        array.extend(b"\r\n");
        for arg in args {
            line.push(b' ');
            line.extend(*arg);
            array.extend(format!("${}\r\n", arg.len()).as_bytes());
            array.extend(*arg);
            array.extend(b"\r\n");
        }
        line.extend(b"\r\n");
        if args.len() == 4 {
            line.extend(b"hello\r\n");
        }
        all.push(line);
        all.push(array);
    }
    all
}

/// Cuts, doubles, overwrites or swells a request.
fn spoil(request: &mut Vec<u8>, random: &mut Random) {
    if request.is_empty() {
        return;
    }
    let at = random.below(request.len() as u64) as usize;
    match random.below(6) {
        0 => request.truncate(at),
        1 => drop(request.remove(at)),
        2 => request[at] = random.below(256) as u8,
        3 => request[at] ^= 1 << random.below(8),
        4 => {
            let again = request[at..].to_vec();
            request.extend(again);
        }
        _ => {
            let digit = request.iter().position(u8::is_ascii_digit).unwrap_or(at);
            request.splice(digit..digit, *b"99999");
        }
    }
}

#[track_caller]
fn no_panic(conn: &Conn, input: &[u8]) {
    let panicked = conn.closed() == Some(CloseReason::PANIC);
    assert!(!panicked, "the protocol panicked after {}", input.escape_ascii());
}

fn ends(suite: &Robustness) {
    let reasons = [
        CloseReason::PEER,
        CloseReason::PROTOCOL,
        CloseReason::TIMEOUT,
        CloseReason::OUTPUT_LIMIT,
        CloseReason::INPUT_LIMIT,
        CloseReason::SHUTDOWN,
        CloseReason::ERROR,
        CloseReason::TOO_MANY_CONNECTIONS,
    ];
    let (host, protocol) = suite.host(HostOptions::default(), "{}");
    for why in reasons {
        let conn = host.connect(protocol);
        no_panic(&conn, b"nothing at all");
        conn.close_for(why);
        let _bytes = host.refusal(protocol, why);
    }
    let half = host.connect(protocol);
    half.half_close();
    no_panic(&half, b"the end of input");
    assert!(half.is_closed(), "a connection whose client sends no more stays open for ever");
    let idle = host.connect(protocol);
    host.drain();
    no_panic(&idle, b"the drain of the host");
    assert!(idle.is_closed(), "an idle connection keeps the host from draining");
    drop((half, idle));
    host.finish();
}

fn any_bytes(suite: &Robustness) {
    let mut random = Random::new(11);
    let (host, protocol) = suite.host(HostOptions::default(), "{}");
    for _ in 0..suite.rounds {
        let input = suite.input(&mut random);
        let conn = host.connect(protocol);
        conn.send(&input);
        for _ in 0..TICKS {
            host.advance_ms(1000);
            host.tick();
            let _output = conn.take_output();
        }
        no_panic(&conn, &input);
        conn.half_close();
        no_panic(&conn, &input);
    }
    host.finish();
}

fn cuts(suite: &Robustness) {
    suite.same(12, |input, random| {
        let mut pieces = Vec::new();
        let mut rest = input;
        while !rest.is_empty() {
            let most = if random.below(4) == 0 { 1 } else { 40 };
            let (piece, more) = rest.split_at((1 + random.below(most) as usize).min(rest.len()));
            pieces.push(piece);
            rest = more;
        }
        suite.play(HostOptions::default(), &pieces, false)
    });
}

fn tiny_output(suite: &Robustness) {
    suite.same(13, |input, _| {
        let options = HostOptions {
            sink_bytes: 1,
            sink_splices: 0,
            splice_len_min: 1,
            ..HostOptions::default()
        };
        suite.play(options, &[input], false)
    });
}

fn late_reader(suite: &Robustness) {
    suite.same(14, |input, _| {
        let options = HostOptions { budget_bytes: 1, ..HostOptions::default() };
        suite.play(options, &[input], true)
    });
}

fn deaths(suite: &Robustness) {
    let mut random = Random::new(15);
    let (host, protocol) = suite.host(HostOptions::default(), "{}");
    for _ in 0..suite.rounds {
        let input = suite.input(&mut random);
        let conn = host.connect(protocol);
        if random.below(2) == 0 {
            conn.stop_reading();
        }
        let (first, second) = input.split_at(random.below(input.len() as u64 + 1) as usize);
        conn.send(first);
        if random.below(2) == 0 {
            conn.send(second);
        }
        no_panic(&conn, &input);
        conn.close_for(CloseReason::PEER);
    }
    // Fails when a retained value or a begun body is still out.
    host.finish();
}

fn trouble(suite: &Robustness) {
    for store in [r#"{"no_memory_every":2}"#, r#"{"no_reserve":true}"#, r#"{"pending_every":2}"#] {
        let mut random = Random::new(16);
        let (host, protocol) = suite.host(HostOptions::default(), store);
        for _ in 0..suite.rounds {
            let input = suite.input(&mut random);
            let conn = host.connect(protocol);
            conn.send(&input);
            for _ in 0..TICKS {
                host.tick();
                let _output = conn.take_output();
            }
            no_panic(&conn, &input);
        }
        host.finish();
    }
}
