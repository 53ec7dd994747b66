//! What runs inside an emulated machine: starts the host as a person would, makes requests over loopback
//! and checks every byte of the answers.
//!
//! What must always be true: the last line begins with [`VERDICT`] and counts what passed and failed; a
//! check that cannot be made is a failure. Called by the RAM disk's first program.

use super::ktls;
use crate::Failure;
use crate::process::Guard;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Begins the guest's last line.
pub(super) const VERDICT: &str = "guest: ";
/// Where the RAM disk keeps the release build.
const APP: &str = "/app";
/// Where it keeps the kernel's modules.
const MODULES: &str = "/modules";
/// The host's log.
const LOG: &str = "/tmp/host.log";
const RESP: u16 = 6379;
const MEMCACHE: u16 = 11211;
const ADMIN: u16 = 9100;
/// Any single wait: emulation makes everything some thirty times slower, and the machine below is shared.
const WAIT: Duration = Duration::from_secs(120);
/// The length of a large value.
const LARGE: usize = 1 << 20;

/// Two ways to start the host: a name, and its settings. A kernel thread that submits wants a CPU of its
/// own, so there is one worker then.
const ROUNDS: [(&str, &[&str]); 2] = [
    ("as it starts by itself", &["--threads", "2"]),
    ("with a kernel thread that submits", &["--threads", "1", "--set", "uring.sqpoll_idle=20ms"]),
];

/// A check: what it claims, and how it is made.
type Check = (&'static str, fn() -> Result<String, Failure>);

/// The checks that leave the host running, in order.
const CHECKS: [Check; 7] = [
    ("small values are stored, found, counted up and deleted", small),
    ("values of 1 MiB come back as they were stored", large),
    ("4000 pipelined requests are answered in order", pipeline),
    ("32 MiB of replies wait for a client that reads late", late_reader),
    ("memcache stores and finds, what RESP stored included", memcache),
    ("600 connections come and go", crowd),
    ("metrics tell what was sent without a copy", metrics),
];

/// What is asked of kernel TLS, which the host does not use; see docs/operations.md.
const KERNEL_TLS: [Check; 6] = [
    ("the modules load", || ktls::load_modules(MODULES).map(|()| String::new())),
    ("1 MiB passes through every suite", ktls::suites),
    ("sends have their flags judged", ktls::flags),
    ("a close_notify is seen", ktls::close_notify),
    ("a second key is judged", ktls::second_key),
    ("ends are compared", ktls::endings),
];

/// Serves, checks, counts.
pub(crate) fn guest() -> Result<(), Failure> {
    let (mut passed, mut failed) = (0, 0);
    let mut count = |round: &str, claim: &str, outcome: Result<String, Failure>| match outcome {
        Ok(said) => {
            passed += 1;
            println!("passed: {round}: {claim} {said}");
        }
        Err(sentence) => {
            failed += 1;
            println!("FAILED: {round}: {claim}: {sentence}");
        }
    };
    for (round, settings) in ROUNDS {
        let host = match start(settings) {
            Ok(host) => host,
            Err(sentence) => {
                count(round, "the host starts", Err(sentence));
                continue;
            }
        };
        count(round, "the host starts", chosen());
        for (claim, check) in CHECKS {
            count(round, claim, check());
        }
        count(round, "a drain lets replies end and exits with 0", drain(host));
    }
    for (claim, check) in KERNEL_TLS {
        count("kernel TLS", claim, check());
    }
    println!("{VERDICT}{passed} passed, {failed} failed");
    if failed == 0 { Ok(()) } else { Err(format!("{failed} checks failed")) }
}

/// Starts the host and waits until every listener accepts.
fn start(settings: &[&str]) -> Result<Guard, Failure> {
    let log = |error: std::io::Error| format!("{LOG}: {error}");
    let out = File::create(LOG).map_err(log)?;
    let errors = out.try_clone().map_err(log)?;
    let mut command = Command::new(Path::new(APP).join("crucible-host"));
    command
        .args(["--heap-size", "96MiB"])
        .args(["--plugin", &format!("resp@127.0.0.1:{RESP}")])
        .args(["--plugin", &format!("memcache@127.0.0.1:{MEMCACHE}")])
        .args(["--set", &format!("admin.address=127.0.0.1:{ADMIN}")])
        .args(settings)
        .stdout(Stdio::from(out))
        .stderr(Stdio::from(errors));
    let mut host = Guard::start("crucible-host", &mut command, None)?;
    let start = Instant::now();
    for port in [RESP, MEMCACHE, ADMIN] {
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if host.ended().is_some() || start.elapsed() > WAIT {
                let said = std::fs::read_to_string(LOG).unwrap_or_default();
                return Err(format!("nothing accepts on {port}; the host said:\n{said}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(host)
}

/// What the host found in the kernel, from its log.
fn chosen() -> Result<String, Failure> {
    let said = std::fs::read_to_string(LOG).map_err(|error| format!("{LOG}: {error}"))?;
    let line = said.lines().find_map(|line| line.split_once("io_uring is set up"));
    line.map(|(_, found)| format!("({})", found.trim())).ok_or(said)
}

/// A connection whose answers are known beforehand.
struct Client(TcpStream);

impl Client {
    fn new(port: u16) -> Result<Self, Failure> {
        let connect = || {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(WAIT))?;
            stream.set_write_timeout(Some(WAIT))?;
            std::io::Result::Ok(stream)
        };
        connect().map(Self).map_err(|error| format!("connecting to {port}: {error}"))
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.write_all(bytes).map_err(|error| format!("sending {} bytes: {error}", bytes.len()))
    }

    /// Reads exactly these bytes.
    fn expect(&mut self, wanted: &[u8]) -> Result<(), Failure> {
        let mut got = vec![0; wanted.len()];
        self.0
            .read_exact(&mut got)
            .map_err(|error| format!("waiting for {} bytes: {error}", wanted.len()))?;
        match got.iter().zip(wanted).position(|(got, wanted)| got != wanted) {
            None => Ok(()),
            Some(at) => {
                let part = |bytes: &[u8]| {
                    String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 60)]).into_owned()
                };
                Err(format!("at byte {at}: {:?} instead of {:?}", part(&got), part(wanted)))
            }
        }
    }

    fn ask(&mut self, request: &[u8], answer: &[u8]) -> Result<(), Failure> {
        self.send(request)?;
        self.expect(answer)
    }
}

/// A RESP request.
fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(bulk(word));
    }
    bytes
}

/// A RESP string.
fn bulk(text: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat()
}

/// Bytes that tell their place and their value's number.
fn value(number: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at ^ (at >> 8) ^ (at >> 16).wrapping_mul(31) ^ (number * 37)) as u8)
        .collect()
}

fn small() -> Result<String, Failure> {
    let mut client = Client::new(RESP)?;
    client.ask(&command(&[b"SET", b"small", b"value"]), b"+OK\r\n")?;
    client.ask(&command(&[b"GET", b"small"]), b"$5\r\nvalue\r\n")?;
    client.ask(&command(&[b"INCR", b"count"]), b":1\r\n")?;
    client.ask(&command(&[b"INCR", b"count"]), b":2\r\n")?;
    client.ask(&command(&[b"DEL", b"small", b"count"]), b":2\r\n")?;
    client.ask(&command(&[b"GET", b"small"]), b"$-1\r\n")?;
    Ok(String::new())
}

fn large() -> Result<String, Failure> {
    let mut clients = [Client::new(RESP)?, Client::new(RESP)?];
    for number in 0..6 {
        let (key, value) = (format!("large{number}"), value(number, LARGE));
        let [writer, reader] = &mut clients;
        writer.ask(&command(&[b"SET", key.as_bytes(), &value]), b"+OK\r\n")?;
        reader.ask(&command(&[b"GET", key.as_bytes()]), &bulk(&value))?;
        // A value that is written by one connection and read by the other, in turns.
        clients.swap(0, 1);
    }
    Ok("(6)".to_owned())
}

fn pipeline() -> Result<String, Failure> {
    let mut client = Client::new(RESP)?;
    let (mut requests, mut answers) = (Vec::new(), Vec::new());
    for number in 0..2000 {
        let (key, value) = (format!("p{number}"), value(number, number % 200));
        requests.extend(command(&[b"SET", key.as_bytes(), &value]));
        requests.extend(command(&[b"GET", key.as_bytes()]));
        answers.extend_from_slice(b"+OK\r\n");
        answers.extend(bulk(&value));
    }
    let mut writer = client.0.try_clone().map_err(|error| format!("a second handle: {error}"))?;
    let sent = thread::spawn(move || writer.write_all(&requests));
    client.expect(&answers)?;
    match sent.join() {
        Ok(Ok(())) => Ok(String::new()),
        _ => Err("the requests were not taken".to_owned()),
    }
}

fn late_reader() -> Result<String, Failure> {
    let mut client = Client::new(RESP)?;
    let wanted = value(77, LARGE);
    client.ask(&command(&[b"SET", b"late", &wanted]), b"+OK\r\n")?;
    client.send(&command(&[b"GET", b"late"]).repeat(32))?;
    // Another connection is served meanwhile.
    Client::new(RESP)?.ask(&command(&[b"GET", b"late"]), &bulk(&wanted))?;
    for _ in 0..32 {
        client.expect(&bulk(&wanted))?;
    }
    Ok(String::new())
}

fn memcache() -> Result<String, Failure> {
    let mut client = Client::new(MEMCACHE)?;
    client.ask(b"set k 7 0 5\r\nvalue\r\n", b"STORED\r\n")?;
    client.ask(b"get k none\r\n", b"VALUE k 7 5\r\nvalue\r\nEND\r\n")?;
    client.ask(b"add k 0 0 1\r\nx\r\n", b"NOT_STORED\r\n")?;
    client.ask(b"mg k v\r\n", b"VA 5\r\nvalue\r\n")?;
    client.ask(b"delete k\r\n", b"DELETED\r\n")?;
    let large = value(5, LARGE);
    client.ask(
        b"get large5\r\n",
        &[b"VALUE large5 0 1048576\r\n", &large[..], b"\r\nEND\r\n"].concat(),
    )?;
    Ok(String::new())
}

fn crowd() -> Result<String, Failure> {
    for _ in 0..2 {
        let mut clients = (0..300).map(|_| Client::new(RESP)).collect::<Result<Vec<_>, _>>()?;
        for client in &mut clients {
            client.send(&command(&[b"PING"]))?;
        }
        for client in &mut clients {
            client.expect(b"+PONG\r\n")?;
        }
    }
    Ok(String::new())
}

/// The sum of a counter's samples.
fn sum(metrics: &str, name: &str) -> Option<u64> {
    let samples = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        if !rest.starts_with([' ', '{']) {
            return None;
        }
        rest.split_whitespace().last()?.parse::<f64>().ok()
    });
    samples.map(|value| value as u64).reduce(|a, b| a + b)
}

fn metrics() -> Result<String, Failure> {
    let mut client = Client::new(ADMIN)?;
    client.send(b"GET /metrics HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    client.0.read_to_string(&mut text).map_err(|error| format!("/metrics: {error}"))?;
    let count = |name| sum(&text, name).ok_or_else(|| format!("/metrics has no {name}"));
    let (sent, copied) =
        (count("crucible_zero_copy_sends_total")?, count("crucible_zero_copy_copies_total")?);
    Ok(format!("({sent} sends without a copy, {copied} that were copied after all)"))
}

/// Sixteen replies of 1 MiB are under way when the host is asked to end.
fn drain(host: Guard) -> Result<String, Failure> {
    let wanted = value(9, LARGE);
    let mut clients = (0..16).map(|_| Client::new(RESP)).collect::<Result<Vec<_>, _>>()?;
    clients[0].ask(&command(&[b"SET", b"drained", &wanted]), b"+OK\r\n")?;
    let answer = bulk(&wanted);
    let (begin, rest) = answer.split_at(1000);
    for client in &mut clients {
        client.ask(&command(&[b"GET", b"drained"]), begin)?;
    }
    let ending = thread::spawn(move || host.stop(WAIT));
    for client in &mut clients {
        client.expect(rest)?;
    }
    for client in &mut clients {
        match client.0.read(&mut [0]) {
            Ok(0) => {}
            other => return Err(format!("after the last reply: {other:?} instead of its end")),
        }
    }
    match ending.join() {
        Ok(Ok(status)) if status.code() == Some(0) => Ok(String::new()),
        Ok(Ok(status)) => {
            let said = std::fs::read_to_string(LOG).unwrap_or_default();
            Err(format!("the host ended with {status}:\n{said}"))
        }
        Ok(Err(sentence)) => Err(sentence),
        Err(_) => Err("the wait for the host failed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_the_sum_of_its_samples_alone() {
        let text =
            "# HELP a_total of\na_total{w=\"0\"} 2\na_total{w=\"1\"} 3\na_total_more 9\nb 4\n";
        assert_eq!((sum(text, "a_total"), sum(text, "b")), (Some(5), Some(4)));
        assert_eq!(sum(text, "c"), None);
    }

    #[test]
    fn values_differ_by_number_and_do_not_repeat_in_a_megabyte() {
        let one = value(1, LARGE);
        assert_ne!(one, value(2, LARGE));
        assert_ne!(one[..4096], one[4096..8192]);
        assert_ne!(one[..LARGE / 2], one[LARGE / 2..]);
    }
}
