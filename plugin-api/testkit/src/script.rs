//! Tables of bytes in and bytes out, played in every way a network can play
//! them.
//!
//! ```
//! use crucible_plugin_testkit::{Script, sample::Sample};
//!
//! Script::of::<Sample>("{}")
//!     .step(b"set a 1\n", b"ok\n")
//!     .step(b"get a\nget b\n", b"1\nNONE\n")
//!     .step(b"quit\n", b"bye\n")
//!     .closes()
//!     .run();
//! ```
//! Always true after `run`: the same bytes came out when each step was sent
//! whole, split at every byte, byte by byte, all at once; on several connections
//! in one crossing; with output memory of one byte, values by reference and a
//! budget that pauses after every reply; with a client that reads late; with
//! values in several parts, without reservations, and with answers that come
//! later and out of order.

use crucible_plugin_api::abi::tables::Plugin_Ref;
use crucible_plugin_api::{Backend, PluginInfo, Protocol, backend_root, protocol_root};

use crate::{Conn, Faulty, HostOptions, ModelBackend, TestHost};

/// Connections that play a script side by side.
const SIDE_BY_SIDE: usize = 3;

enum Step {
    Exchange { input: Vec<u8>, output: Vec<u8> },
    Advance(u64),
    Closes,
}

/// A script for a protocol.
pub struct Script {
    protocol: Plugin_Ref,
    settings: String,
    backend: Option<(Plugin_Ref, String)>,
    steps: Vec<Step>,
    alone: bool,
    one_by_one: bool,
    prompt: bool,
}

/// How a script is played.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Whole,
    SplitAt(usize),
    ByteByByte,
    AllAtOnce,
    SideBySide,
    TinyOutput,
    LateReader,
    Parts,
    NoRetain,
    Deferred,
}

const INFO: PluginInfo = PluginInfo { name: "script", version: "0.0.0" };

impl Script {
    /// A script for a protocol with these settings, over a [`ModelBackend`].
    #[must_use]
    pub fn of<P: Protocol>(settings: &str) -> Self {
        Self::of_root(protocol_root::<P>(INFO), settings)
    }

    /// A script for a plugin's root.
    #[must_use]
    pub fn of_root(protocol: Plugin_Ref, settings: &str) -> Self {
        Self {
            protocol,
            settings: settings.to_owned(),
            backend: None,
            steps: Vec::new(),
            alone: false,
            one_by_one: false,
            prompt: false,
        }
    }

    /// Over another backend (then parts, late answers and missing reservations
    /// are not played).
    #[must_use]
    pub fn backend<B: Backend>(mut self, settings: &str) -> Self {
        self.backend = Some((backend_root::<B>(INFO), settings.to_owned()));
        self
    }

    /// Sends bytes; these must come back.
    #[must_use]
    pub fn step(mut self, input: impl AsRef<[u8]>, output: impl AsRef<[u8]>) -> Self {
        let (input, output) = (input.as_ref().to_vec(), output.as_ref().to_vec());
        self.steps.push(Step::Exchange { input, output });
        self
    }

    /// Sends each line's bytes; the other side of the table must come back.
    #[must_use]
    pub fn steps<I: AsRef<[u8]>, O: AsRef<[u8]>>(
        mut self,
        table: impl IntoIterator<Item = (I, O)>,
    ) -> Self {
        for (input, output) in table {
            self = self.step(input, output);
        }
        self
    }

    /// Moves the clock.
    #[must_use]
    pub fn advance_ms(mut self, by_ms: u64) -> Self {
        self.steps.push(Step::Advance(by_ms));
        self
    }

    /// Here the connection must be closed.
    #[must_use]
    pub fn closes(mut self) -> Self {
        self.steps.push(Step::Closes);
        self
    }

    /// Never played side by side: it flushes, scans, counts connections.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Steps are never sent together: an answer depends on what was answered.
    #[must_use]
    pub fn one_by_one(mut self) -> Self {
        self.one_by_one = true;
        self
    }

    /// Never with answers that come later.
    #[must_use]
    pub fn prompt(mut self) -> Self {
        self.prompt = true;
        self
    }

    /// Plays the script in every way.
    ///
    /// # Panics
    /// With way, step and bytes when something else came out.
    #[track_caller]
    pub fn run(self) {
        self.play(Way::Whole);
        let longest = self.steps.iter().map(|step| match step {
            Step::Exchange { input, .. } => input.len(),
            _ => 0,
        });
        for at in 1..longest.max().unwrap_or(0) {
            self.play(Way::SplitAt(at));
        }
        self.play(Way::ByteByByte);
        self.play(Way::TinyOutput);
        if !self.one_by_one {
            self.play(Way::AllAtOnce);
            self.play(Way::LateReader);
        }
        if !self.alone {
            self.play(Way::SideBySide);
        }
        if self.backend.is_none() {
            self.play(Way::Parts);
            self.play(Way::NoRetain);
            if !self.prompt {
                self.play(Way::Deferred);
            }
        }
    }

    fn host(&self, way: Way) -> (TestHost, Vec<Conn>) {
        let mut options = HostOptions::default();
        if matches!(way, Way::TinyOutput | Way::LateReader) {
            (options.sink_bytes, options.sink_splices) = (1, 0);
            (options.splice_len_min, options.budget_bytes) = (1, 0);
        }
        if way == Way::Parts {
            options.splice_len_min = 1;
        }
        if way == Way::NoRetain {
            options.splice_len_min = 1;
        }
        options.keys_apart = way == Way::SideBySide;
        let host = TestHost::with(options);
        let store = match &self.backend {
            Some((root, settings)) => {
                host.backend_of(*root, settings).expect("the backend takes its settings")
            }
            None => match way {
                Way::Parts => host.backend::<ModelBackend>(r#"{"value_parts":3}"#),
                Way::NoRetain => host.backend::<ModelBackend>(r#"{"retain":false,"body_parts":0}"#),
                Way::Deferred => host.backend::<Faulty<ModelBackend>>(r#"{"pending_every":2}"#),
                _ => host.backend::<ModelBackend>("{}"),
            },
        };
        let protocol = host
            .protocol_of(self.protocol, &self.settings, store)
            .expect("the protocol takes its settings");
        let n = if way == Way::SideBySide { SIDE_BY_SIDE } else { 1 };
        let conns = (0..n).map(|_| host.connect(protocol)).collect();
        (host, conns)
    }

    #[track_caller]
    fn play(&self, way: Way) {
        let (host, conns) = self.host(way);
        let together = matches!(way, Way::AllAtOnce | Way::LateReader);
        let (mut inputs, mut expected, mut first) = (Vec::new(), Vec::new(), 0);
        for (at, step) in self.steps.iter().enumerate() {
            match step {
                Step::Exchange { input, output } => {
                    inputs.push(input.as_slice());
                    expected.extend_from_slice(output);
                }
                Step::Advance(by_ms) => host.advance_ms(*by_ms),
                Step::Closes => {
                    for conn in &conns {
                        assert!(conn.is_closed(), "{way:?}, step {at}: still open");
                    }
                }
            }
            // A step that is sent with the next one is compared with it.
            let next_goes_along = matches!(self.steps.get(at + 1), Some(Step::Exchange { .. }));
            if inputs.is_empty() || together && next_goes_along {
                continue;
            }
            exchange(&host, &conns, way, &inputs);
            for (n, conn) in conns.iter().enumerate() {
                let got = read(&host, conn, way);
                assert!(
                    got == expected,
                    "{way:?}, connection {n}, steps {first}..={at}\n  sent     {}\n  expected {}\n  got      {}",
                    inputs.concat().escape_ascii(),
                    expected.escape_ascii(),
                    got.escape_ascii(),
                );
            }
            inputs.clear();
            expected.clear();
            first = at + 1;
        }
        drop(conns);
        host.finish();
    }
}

/// Sends one or several steps in the given way.
fn exchange(host: &TestHost, conns: &[Conn], way: Way, inputs: &[&[u8]]) {
    let input = inputs.concat();
    for conn in conns {
        match way {
            Way::SplitAt(at) if at < input.len() => {
                conn.send(&input[..at]);
                conn.send(&input[at..]);
            }
            Way::ByteByByte => input.iter().for_each(|byte| conn.send(&[*byte])),
            Way::SideBySide => conn.queue(&input),
            Way::LateReader => {
                conn.stop_reading();
                conn.send(&input);
            }
            _ => conn.send(&input),
        }
    }
    host.sweep();
}

/// Reads until nothing more comes.
fn read(host: &TestHost, conn: &Conn, way: Way) -> Vec<u8> {
    let mut got = conn.take_output();
    loop {
        let crossings = host.crossings();
        if way == Way::Deferred {
            host.tick();
        }
        let more = conn.take_output();
        if more.is_empty() && host.crossings() == crossings {
            return got;
        }
        got.extend(more);
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script").field("steps", &self.steps.len()).finish_non_exhaustive()
    }
}
