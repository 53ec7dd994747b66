//! The floor under every comparison: a server that answers GET and SET without looking anything
//! up. `floor [--port N] [--cpu LIST] [--value-bytes N] [--bind IP]`, ended by SIGINT or SIGTERM.
//!
//! Each GET is answered with one fixed bulk string (64 bytes, or `--value-bytes`; from 16 KiB up
//! it goes out by reference), each SET with `+OK`; a SET whose value does not fit the input is
//! received in place, in a place of its connection's own: one for all would stay in the
//! processor's cache, where no store could keep its values. Parsing is the least that finds the end of each command. What must always
//! be true: N commands give N replies; nothing here is slower than it has to be. Run by
//! `cargo xtask compare` and by hand.
//!
//! # Safety
//! The reply value and the sinks for SET are leaked, so they outlive every operation; a sink may be
//! written by several connections at once and is never read.
#![allow(unsafe_code)]

use std::time::Duration;

use kompio::{
    Config, ConnToken, Consumed, DriverCtx, EventHandler, Fill, FillOutcome, FillResult,
    KompioBuilder, OutBuf, Shutdown,
};

/// Values at least this long are sent from where they are and received to where they belong.
const IN_PLACE_BYTES_MIN: usize = 16 * 1024;
/// `$64\r\n` + 64 + `\r\n`.
const SMALL_REPLY_BYTES: usize = 71;
/// Places for values of SET; connections share them when there are more.
const SINKS: usize = 16;
/// Longest value that a SET may announce.
const VALUE_BYTES_MAX: usize = 512 << 20;

struct Floor {
    reply: Reply,
    /// Where values of SET go, by connection.
    sinks: &'static [Sink],
}

enum Reply {
    Small([u8; SMALL_REPLY_BYTES]),
    Inline(Vec<u8>),
    ByReference { header: Vec<u8>, value: &'static [u8] },
}

/// Memory that is only ever written by the kernel, never read.
struct Sink {
    start: *mut u8,
    len: usize,
}

// SAFETY: only its address is shared.
unsafe impl Sync for Sink {}
// SAFETY: as above.
unsafe impl Send for Sink {}

/// What the start of the input is.
enum Head {
    Command {
        name: u8,
        end: usize,
    },
    /// A SET whose value has arrived in part: bytes before the value, bytes of it with CRLF.
    Value {
        start: usize,
        len: usize,
    },
    Partial,
    Bad,
}

impl EventHandler for Floor {
    #[inline]
    fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
        let Some(mut out) = ctx.take_out(conn) else { return Consumed::Bytes(0) };
        let mut at = 0;
        let mut body = None;
        while at < data.len() {
            match head(&data[at..]) {
                Head::Command { name, end } => {
                    self.answer(name, &data[at..at + end], &mut out);
                    at += end;
                }
                Head::Value { start, len } => {
                    at += start;
                    body = Some(len);
                    break;
                }
                Head::Partial => break,
                Head::Bad => {
                    out.extend_from_slice(b"-ERR Protocol error\r\n");
                    ctx.close_after_flush(conn);
                    break;
                }
            }
        }
        ctx.put_out(conn, out);
        if let Some(len) = body {
            ctx.consume(conn, at);
            let sink = &self.sinks[conn.index() % self.sinks.len()];
            let len = len.min(sink.len);
            // SAFETY: the sink is leaked and has `len` bytes.
            unsafe { ctx.fill(conn, Fill { ptr: sink.start, len, id: 0 }) };
            return Consumed::Bytes(0);
        }
        Consumed::Bytes(at)
    }

    fn on_stop(&mut self, ctx: &mut DriverCtx) {
        println!("{:?}", ctx.stats());
    }

    fn on_fill(&mut self, ctx: &mut DriverCtx, conn: ConnToken, result: FillResult) {
        if result.outcome == FillOutcome::Complete {
            ctx.send(conn, b"+OK\r\n");
        }
    }
}

impl Floor {
    #[inline]
    fn answer(&self, name: u8, command: &[u8], out: &mut OutBuf) {
        match name {
            b'G' => match &self.reply {
                Reply::Small(reply) => out.extend_from_slice(reply),
                Reply::Inline(reply) => out.extend_from_slice(reply),
                Reply::ByReference { header, value } => {
                    out.extend_from_slice(header);
                    // SAFETY: the value is leaked.
                    unsafe { out.push_ref(value.as_ptr(), value.len(), 0) };
                    out.extend_from_slice(b"\r\n");
                }
            },
            b'S' => out.extend_from_slice(b"+OK\r\n"),
            b'P' => out.extend_from_slice(b"+PONG\r\n"),
            // CONFIG GET of redis-benchmark: the last argument with an empty value.
            b'C' => {
                let mut arguments = command.split(|&b| b == b'\n');
                let name = arguments.rfind(|a| a.ends_with(b"\r") && a.len() > 1);
                let name = name.map_or(&b""[..], |n| &n[..n.len() - 1]);
                out.extend_from_slice(format!("*2\r\n${}\r\n", name.len()).as_bytes());
                out.extend_from_slice(name);
                out.extend_from_slice(b"\r\n$0\r\n\r\n");
            }
            _ => out.extend_from_slice(b"+OK\r\n"),
        }
    }
}

/// Reads `<sigil>digits\r\n`; the number and the bytes taken.
#[inline]
fn number(data: &[u8], sigil: u8) -> Result<Option<(usize, usize)>, ()> {
    if data.first().is_some_and(|&b| b != sigil) {
        return Err(());
    }
    let mut value = 0usize;
    for (i, &byte) in data.iter().enumerate().skip(1).take(12) {
        match byte {
            b'0'..=b'9' => value = value * 10 + usize::from(byte - b'0'),
            b'\r' if i > 1 => return Ok((data.len() > i + 1).then_some((value, i + 2))),
            _ => return Err(()),
        }
    }
    if data.len() > 12 { Err(()) } else { Ok(None) }
}

#[inline]
fn head(data: &[u8]) -> Head {
    let (count, mut at) = match number(data, b'*') {
        Ok(Some((count, at))) => (count, at),
        Ok(None) => return Head::Partial,
        Err(()) => return Head::Bad,
    };
    let mut name = 0;
    for argument in 0..count {
        let (len, taken) = match number(&data[at..], b'$') {
            Ok(Some(found)) => found,
            Ok(None) => return Head::Partial,
            Err(()) => return Head::Bad,
        };
        if len > VALUE_BYTES_MAX {
            return Head::Bad;
        }
        at += taken;
        if argument == 0 {
            name = data.get(at).copied().unwrap_or(0).to_ascii_uppercase();
        }
        if data.len() < at + len + 2 {
            let value = argument == 2 && count == 3 && name == b'S' && len >= IN_PLACE_BYTES_MIN;
            return if value { Head::Value { start: at, len: len + 2 } } else { Head::Partial };
        }
        at += len + 2;
    }
    Head::Command { name, end: at }
}

fn reply(value_bytes: usize) -> Reply {
    let header = format!("${value_bytes}\r\n").into_bytes();
    if value_bytes >= IN_PLACE_BYTES_MIN {
        return Reply::ByReference { header, value: vec![b'x'; value_bytes].leak() };
    }
    let mut whole = header;
    whole.resize(whole.len() + value_bytes, b'x');
    whole.extend_from_slice(b"\r\n");
    match whole.as_slice().try_into() {
        Ok(small) => Reply::Small(small),
        Err(_) => Reply::Inline(whole),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::default();
    let (mut ip, mut port, mut value_bytes) = ("127.0.0.1".to_owned(), 6390, 64usize);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--bind" => ip = value,
            "--port" => port = value.parse()?,
            "--value-bytes" => value_bytes = value.parse()?,
            "--cpu" => {
                let cpus: kompio::CpuList = value.parse()?;
                config.workers = cpus.len();
                config.cpus = Some(cpus);
            }
            "--recv-ring-bytes" => config.recv_ring_bytes = value.parse()?,
            "--min-wait-us" => config.min_wait_us = value.parse()?,
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    config.name = "floor".to_owned();
    let sink_len = value_bytes.max(1 << 20) + 2;
    let sink = || Sink { start: vec![0u8; sink_len].leak().as_mut_ptr(), len: sink_len };
    let sinks: &'static [Sink] = (0..SINKS).map(|_| sink()).collect::<Vec<_>>().leak();
    let signals = signals()?;
    let server = KompioBuilder::new(config)
        .bind(format!("{ip}:{port}").parse()?)
        .launch(move |_worker| Floor { reply: reply(value_bytes), sinks })?;
    println!("floor on {}", server.addresses()[0]);
    wait_for(&signals)?;
    server.shutdown(Shutdown::Drain { deadline: Duration::from_secs(1) });
    server.join();
    Ok(())
}

/// Blocks SIGINT and SIGTERM in this thread and those it starts.
fn signals() -> std::io::Result<libc::sigset_t> {
    // SAFETY: the set is a local; plain calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
            0 => Ok(set),
            error => Err(std::io::Error::from_raw_os_error(error)),
        }
    }
}

fn wait_for(set: &libc::sigset_t) -> std::io::Result<()> {
    let mut signal = 0;
    // SAFETY: both are live locals.
    match unsafe { libc::sigwait(set, &raw mut signal) } {
        0 => Ok(()),
        error => Err(std::io::Error::from_raw_os_error(error)),
    }
}
