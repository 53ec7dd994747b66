//! A small RESP server with planted faults, and the generator as a child process.
//!
//! Always true: without a fault the server answers truly, so whatever a test sees is the fault's doing.
//! Called by the integration tests.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is wrong with the server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Every request of this number's multiples is answered with bytes of no protocol.
    Garbage(u64),
    /// Every request of this number's multiples closes the connection.
    Close(u64),
    /// The request of this number is answered this late, and everything behind it waits.
    Stall(u64, Duration),
    /// Every request takes this long.
    Slow(Duration),
    /// The reply to every request of this number's multiples is left out.
    Lost(u64),
    /// Reads of this number's multiples answer the value that another key was given.
    Wrong(u64),
    /// Reads of this number's multiples have one bit of their value changed.
    Torn(u64),
    /// Overwriting stores nothing, although it says so.
    Stale,
    /// Deleting removes nothing, although it says so.
    Undead,
    /// Connections are accepted, nothing is ever answered.
    Mute,
    /// Stores of this number's multiples are refused.
    Full(u64),
    /// Every greeting with HELLO is answered as if RESP2 stayed.
    OldHello,
}

/// What the server saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Requests in all.
    pub(crate) requests: AtomicU64,
    /// Reads of each key.
    pub(crate) gets: Mutex<HashMap<Vec<u8>, u64>>,
    /// Stores.
    pub(crate) sets: AtomicU64,
    /// Connections that were accepted.
    pub(crate) connections: AtomicU64,
    /// Requests that came with ASKING or after a MOVED to this server.
    pub(crate) commands: Mutex<HashMap<String, u64>>,
}

/// A running server; it ends with the test process.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What it saw.
    pub(crate) seen: Arc<Seen>,
}

struct State {
    fault: Fault,
    seen: Arc<Seen>,
    store: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    /// Answers to commands that a test scripts: name → reply.
    scripted: Vec<(String, Vec<u8>)>,
}

/// Starts a server.
pub(crate) fn server(fault: Fault) -> Server {
    scripted(fault, TcpListener::bind("127.0.0.1:0").unwrap(), Vec::new())
}

/// Starts a server with scripted answers to some commands.
pub(crate) fn scripted(
    fault: Fault,
    listener: TcpListener,
    scripted: Vec<(String, Vec<u8>)>,
) -> Server {
    over(fault, listener, scripted, Some)
}

/// Starts a server that speaks through what `wrap` makes of a socket; nothing is made of a refused one.
pub(crate) fn over<S: Read + Write>(
    fault: Fault,
    listener: TcpListener,
    scripted: Vec<(String, Vec<u8>)>,
    wrap: impl Fn(TcpStream) -> Option<S> + Clone + Send + 'static,
) -> Server {
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let state = Arc::new(State { fault, seen: seen.clone(), store: Mutex::default(), scripted });
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            state.seen.connections.fetch_add(1, Ordering::Relaxed);
            let (state, wrap) = (state.clone(), wrap.clone());
            std::thread::spawn(move || {
                if stream.set_nodelay(true).is_ok()
                    && let Some(stream) = wrap(stream)
                {
                    // A client that leaves is no fault of the server.
                    let _ = serve(stream, &state);
                }
            });
        }
    });
    Server { address, seen }
}

fn line(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut text = String::new();
    if reader.read_line(&mut text)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end().to_owned())
}

fn request(reader: &mut impl BufRead) -> std::io::Result<Vec<Vec<u8>>> {
    let count: usize = line(reader)?[1..].parse().unwrap();
    (0..count)
        .map(|_| {
            let len: usize = line(reader)?[1..].parse().unwrap();
            let mut bytes = vec![0; len + 2];
            reader.read_exact(&mut bytes)?;
            bytes.truncate(len);
            Ok(bytes)
        })
        .collect()
}

fn bulk(value: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

fn serve(stream: impl Read + Write, state: &State) -> std::io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    let mut out = Vec::new();
    loop {
        if reader.buffer().is_empty() && !out.is_empty() {
            reader.get_mut().write_all(&std::mem::take(&mut out))?;
            reader.get_mut().flush()?;
        }
        let arguments = request(&mut reader)?;
        let number = state.seen.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let hits = |every: u64| number.is_multiple_of(every);
        match state.fault {
            Fault::Garbage(n) if hits(n) => {
                out.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            }
            Fault::Close(n) if hits(n) => return Ok(()),
            Fault::Stall(n, time) if number == n => std::thread::sleep(time),
            Fault::Slow(time) => std::thread::sleep(time),
            _ => {}
        }
        if state.fault == Fault::Mute || matches!(state.fault, Fault::Lost(n) if hits(n)) {
            continue;
        }
        out.extend(answer(&arguments, number, state));
    }
}

fn answer(arguments: &[Vec<u8>], number: u64, state: &State) -> Vec<u8> {
    let hits = |every: u64| number.is_multiple_of(every);
    let name = String::from_utf8_lossy(&arguments[0]).to_uppercase();
    *state.seen.commands.lock().unwrap().entry(name.clone()).or_default() += 1;
    if let Some((_, reply)) = state.scripted.iter().find(|(n, _)| *n == name) {
        return reply.clone();
    }
    let mut store = state.store.lock().unwrap();
    let key = arguments.get(1).cloned().unwrap_or_default();
    match name.as_str() {
        "GET" if arguments.len() != 2 => b"-ERR wrong number of arguments\r\n".to_vec(),
        "GET" => {
            *state.seen.gets.lock().unwrap().entry(key.clone()).or_default() += 1;
            let Some(mut value) = store.get(&key).cloned() else { return b"$-1\r\n".to_vec() };
            match state.fault {
                Fault::Wrong(n) if hits(n) => {
                    value =
                        store.iter().find(|(k, _)| **k != key).map_or(value, |(_, v)| v.clone());
                }
                Fault::Torn(n) if hits(n) => *value.last_mut().unwrap() ^= 1,
                _ => {}
            }
            bulk(&value)
        }
        "SET" => {
            state.seen.sets.fetch_add(1, Ordering::Relaxed);
            if matches!(state.fault, Fault::Full(n) if hits(n)) {
                return b"-OOM out of memory\r\n".to_vec();
            }
            if !(state.fault == Fault::Stale && store.contains_key(&key)) {
                store.insert(key, arguments[2].clone());
            }
            b"+OK\r\n".to_vec()
        }
        "DEL" if state.fault == Fault::Undead => b":1\r\n".to_vec(),
        "DEL" => format!(":{}\r\n", u8::from(store.remove(&key).is_some())).into_bytes(),
        "MGET" => {
            let values = arguments[1..]
                .iter()
                .flat_map(|k| store.get(k).map_or(b"$-1\r\n".to_vec(), |v| bulk(v)));
            [format!("*{}\r\n", arguments.len() - 1).into_bytes(), values.collect()].concat()
        }
        "INCR" => {
            let number =
                store.get(&key).map_or(0, |v| String::from_utf8_lossy(v).parse().unwrap()) + 1;
            store.insert(key, i64::to_string(&number).into_bytes());
            format!(":{number}\r\n").into_bytes()
        }
        "EXPIRE" => format!(":{}\r\n", u8::from(store.contains_key(&key))).into_bytes(),
        "HSET" => b":1\r\n".to_vec(),
        "PING" => b"+PONG\r\n".to_vec(),
        "HELLO" if state.fault == Fault::OldHello => b"*2\r\n$5\r\nproto\r\n:2\r\n".to_vec(),
        "HELLO" => b"%1\r\n$5\r\nproto\r\n:3\r\n".to_vec(),
        _ => format!("-ERR unknown command '{name}'\r\n").into_bytes(),
    }
}

/// The generator's command, without arguments.
pub(crate) fn generator() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crucible-benchmark"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a run left behind.
pub(crate) struct Ran {
    /// Its exit code.
    pub(crate) code: i32,
    /// What it told people.
    pub(crate) said: String,
    /// Its JSON lines.
    pub(crate) lines: Vec<serde_json::Value>,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        let lines = String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
            .collect();
        Self {
            code: output.status.code().unwrap_or(-1),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
            lines,
        }
    }

    /// The result of the only step.
    pub(crate) fn result(&self) -> &serde_json::Value {
        self.lines
            .iter()
            .find(|l| l["kind"] == "result")
            .unwrap_or_else(|| panic!("no result: {}", self.said))
    }

    /// A counter of the result.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.result()["counts"][name].as_u64().unwrap_or_else(|| panic!("no counter {name}"))
    }

    /// A latency of the result in milliseconds.
    pub(crate) fn ms(&self, which: &str, quantile: &str) -> f64 {
        self.result()[which][quantile].as_f64().unwrap() / 1e6
    }

    /// A counter summed over the intervals of a phase.
    pub(crate) fn sum(&self, phase: &str, name: &str) -> u64 {
        let intervals =
            self.lines.iter().filter(|l| l["kind"] == "interval" && l["phase"] == phase);
        intervals.map(|l| l[name].as_u64().unwrap()).sum()
    }
}

/// A machine that is slow is no fault of the server; arguments that come later win.
pub(crate) const PATIENT: [&str; 6] =
    ["--request-timeout", "60s", "--connect-timeout", "60s", "--slip-limit", "60s"];

/// Starts a run against `server` with JSON lines on its standard output.
pub(crate) fn start(server: &Server, arguments: &[&str]) -> Child {
    let endpoint = server.address.to_string();
    let base =
        ["--endpoints", &endpoint, "--json", "-", "--table", "none", "--keys", "200", "-c", "4"];
    generator().args(base).args(PATIENT).args(arguments).spawn().unwrap()
}

/// Runs to the end.
pub(crate) fn run(server: &Server, arguments: &[&str]) -> Ran {
    Ran::of(&start(server, arguments).wait_with_output().unwrap())
}

/// Arguments of a short run: some have their own.
pub(crate) const SHORT: [&str; 4] = ["--duration", "1s", "--warmup", "50ms"];

/// [`run`] with [`SHORT`].
pub(crate) fn run_short(server: &Server, arguments: &[&str]) -> Ran {
    run(server, &[&SHORT, arguments].concat())
}
