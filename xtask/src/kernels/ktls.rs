//! What the kernel's own TLS takes, and how its connections end: the facts that a server would have to
//! build on, asked of the kernel that this runs on.
//!
//! What must always be true: both ends are kernel sockets with the same keys, so that every byte that is
//! counted was encrypted by the one and authenticated by the other. Called by the guest.
//!
//! # Safety
//! System calls on descriptors that a `TcpStream` owns for longer than the call, with pointers to locals
//! and to the caller's slices alone.
#![allow(unsafe_code)]

use crate::Failure;
use std::fs;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::process::Command;
use std::thread;
use std::time::Duration;

const TCP_ULP: i32 = 31;
const SOL_TLS: i32 = 282;
const TLS_TX: i32 = 1;
const TLS_RX: i32 = 2;
/// Both to send a record of another kind than data and to learn that one was received.
const RECORD_TYPE_SEND: i32 = 1;
const RECORD_TYPE_RECEIVED: i32 = 2;
const ALERT: u8 = 21;
const CLOSE_NOTIFY: [u8; 2] = [1, 0];
/// A receive that nothing comes of.
const WAIT: Duration = Duration::from_secs(120);
/// Rounds over the modules: each loads what those of the round before were needed for.
const ROUNDS_MAX: usize = 8;

/// A version and a cipher as `setsockopt` wants them.
#[derive(Clone, Copy)]
struct Suite {
    name: &'static str,
    version: u16,
    cipher: u16,
    iv_len: usize,
    key_len: usize,
    salt_len: usize,
}

const fn suite(
    name: &'static str,
    version: u16,
    cipher: u16,
    lens: (usize, usize, usize),
) -> Suite {
    Suite { name, version, cipher, iv_len: lens.0, key_len: lens.1, salt_len: lens.2 }
}

const SUITES: [Suite; 6] = [
    suite("1.2 AES-128-GCM", 0x0303, 51, (8, 16, 4)),
    suite("1.2 AES-256-GCM", 0x0303, 52, (8, 32, 4)),
    suite("1.2 CHACHA20-POLY1305", 0x0303, 54, (12, 32, 0)),
    suite("1.3 AES-128-GCM", 0x0304, 51, (8, 16, 4)),
    suite("1.3 AES-256-GCM", 0x0304, 52, (8, 32, 4)),
    suite("1.3 CHACHA20-POLY1305", 0x0304, 54, (12, 32, 0)),
];
/// What the other facts are asked with.
const USUAL: Suite = SUITES[3];

impl Suite {
    /// Keys for one direction, from a seed, with the first record's number.
    fn keys(self, seed: u8) -> Vec<u8> {
        let mut info = [self.version.to_ne_bytes(), self.cipher.to_ne_bytes()].concat();
        let secret = self.iv_len + self.key_len + self.salt_len;
        info.extend((0..secret).map(|at| (at as u8).wrapping_mul(29) ^ seed));
        info.extend([0; 8]);
        info
    }
}

/// Loads modules in whatever order they take.
pub(super) fn load_modules(folder: &str) -> Result<(), Failure> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{folder}: {error}"))?;
    let mut waiting: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    waiting.sort();
    for _ in 0..ROUNDS_MAX {
        // One that the processor cannot run is refused for good, and nothing here needs it.
        waiting.retain(|module| {
            let mut insmod = Command::new("/bin/busybox");
            insmod.arg("insmod").arg(module);
            !insmod.output().is_ok_and(|ended| ended.status.success())
        });
    }
    let offered = "/proc/sys/net/ipv4/tcp_available_ulp";
    let names = fs::read_to_string(offered).map_err(|error| format!("{offered}: {error}"))?;
    match names.split_whitespace().any(|name| name == "tls") {
        true => Ok(()),
        false => Err(format!("no tls among {names}; not loaded: {waiting:?}")),
    }
}

/// Two ends of a connection.
fn pair() -> Result<(TcpStream, TcpStream), Failure> {
    let connect = || {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let one = TcpStream::connect(listener.local_addr()?)?;
        let (other, _) = listener.accept()?;
        for end in [&one, &other] {
            end.set_read_timeout(Some(WAIT))?;
            end.set_write_timeout(Some(WAIT))?;
        }
        io::Result::Ok((one, other))
    };
    connect().map_err(|error| format!("a connection: {error}"))
}

fn set(fd: RawFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    // SAFETY: the value is read during the call, as many bytes as it has.
    let status = unsafe {
        libc::setsockopt(fd, level, name, value.as_ptr().cast(), value.len() as libc::socklen_t)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives one direction of a socket to the kernel.
fn hand_over(socket: &TcpStream, direction: i32, keys: &[u8]) -> io::Result<()> {
    match set(socket.as_raw_fd(), libc::IPPROTO_TCP, TCP_ULP, b"tls") {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
        _ => {}
    }
    set(socket.as_raw_fd(), SOL_TLS, direction, keys)
}

/// A sender and a receiver whose records the kernel makes and opens.
fn sealed(suite: Suite) -> Result<(TcpStream, TcpStream), Failure> {
    let (sender, receiver) = pair()?;
    let keys = suite.keys(1);
    hand_over(&sender, TLS_TX, &keys).map_err(|error| format!("{}, TX: {error}", suite.name))?;
    hand_over(&receiver, TLS_RX, &keys).map_err(|error| format!("{}, RX: {error}", suite.name))?;
    Ok((sender, receiver))
}

fn send(socket: &TcpStream, bytes: &[u8], flags: i32) -> io::Result<usize> {
    // SAFETY: the slice is read during the call.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            flags | libc::MSG_NOSIGNAL,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// Control data of one byte, aligned as its header.
#[repr(C, align(8))]
struct Control([u8; 32]);

/// Sends or receives one message of `bytes`, with control data; the message's length and the length of
/// the control data that came.
fn message(
    socket: &TcpStream,
    bytes: &mut [u8],
    control: &mut Control,
    sends: bool,
) -> io::Result<(usize, usize)> {
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: a message of zeroes is an empty one; its pointers are locals that live across the call,
    // and the control data is as long as it says.
    let (done, len) = unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut *control).cast();
        message.msg_controllen = if sends { libc::CMSG_SPACE(1) as usize } else { 32 };
        let fd = socket.as_raw_fd();
        let done = if sends {
            libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL)
        } else {
            libc::recvmsg(fd, &raw mut message, 0)
        };
        (done, message.msg_controllen)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok((done as usize, len)) }
}

/// Sends a record that says that nothing more comes.
fn send_close_notify(socket: &TcpStream) -> io::Result<()> {
    let mut control = Control([0; 32]);
    // length (16 + 1), level, kind, the record's type.
    control.0[..8].copy_from_slice(&17u64.to_ne_bytes());
    control.0[8..12].copy_from_slice(&SOL_TLS.to_ne_bytes());
    control.0[12..16].copy_from_slice(&RECORD_TYPE_SEND.to_ne_bytes());
    control.0[16] = ALERT;
    message(socket, &mut CLOSE_NOTIFY.clone(), &mut control, true).map(drop)
}

/// Receives a record with its type; `None` when the kernel did not tell it.
fn receive_record(socket: &TcpStream) -> io::Result<(Option<u8>, Vec<u8>)> {
    let (mut bytes, mut control) = (vec![0; 1 << 14], Control([0; 32]));
    let (len, control_len) = message(socket, &mut bytes, &mut control, false)?;
    bytes.truncate(len);
    let told = control_len > 16
        && control.0[8..12] == SOL_TLS.to_ne_bytes()
        && control.0[12..16] == RECORD_TYPE_RECEIVED.to_ne_bytes();
    Ok((told.then_some(control.0[16]), bytes))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// A short name of an error.
fn name(error: &io::Error) -> String {
    let known = [
        (libc::EBUSY, "EBUSY"),
        (libc::EIO, "EIO"),
        (libc::EINVAL, "EINVAL"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::ENOENT, "ENOENT"),
        (libc::EAGAIN, "EAGAIN"),
    ];
    let found = known.iter().find(|(errno, _)| error.raw_os_error() == Some(*errno));
    found.map_or_else(|| error.to_string(), |(_, name)| (*name).to_owned())
}

/// A megabyte through every suite.
pub(super) fn suites() -> Result<String, Failure> {
    let mut names = Vec::new();
    for suite in SUITES {
        let (mut sender, mut receiver) = sealed(suite)?;
        let (bytes, mut got) = (pattern(1 << 20), vec![0; 1 << 20]);
        let copy = bytes.clone();
        let sent = thread::spawn(move || sender.write_all(&copy).map(|()| sender));
        receiver.read_exact(&mut got).map_err(|error| format!("{}: {error}", suite.name))?;
        if got != bytes || !matches!(sent.join(), Ok(Ok(_))) {
            return Err(format!("{}: other bytes than were sent", suite.name));
        }
        names.push(suite.name);
    }
    let stat = "/proc/net/tls_stat";
    let counters = fs::read_to_string(stat).map_err(|error| format!("{stat}: {error}"))?;
    let made = counters.lines().find(|line| line.starts_with("TlsTxSw"));
    Ok(format!("({}; {})", names.join(", "), made.unwrap_or("no TlsTxSw").replace('\t', " ")))
}

/// How sends with the flags that the event loop uses are answered.
pub(super) fn flags() -> Result<String, Failure> {
    let mut facts = Vec::new();
    for (flag, flag_name) in
        [(libc::MSG_WAITALL, "MSG_WAITALL"), (libc::MSG_ZEROCOPY, "MSG_ZEROCOPY")]
    {
        let (sender, _receiver) = sealed(USUAL)?;
        let answer = match send(&sender, b"x", flag) {
            Ok(_) => "taken".to_owned(),
            Err(error) => name(&error),
        };
        facts.push(format!("{flag_name} {answer}"));
    }
    Ok(format!("({})", facts.join(", ")))
}

/// A record of another kind stops a plain receive, and is there for one that asks for its type.
pub(super) fn close_notify() -> Result<String, Failure> {
    let (mut sender, mut receiver) = sealed(USUAL)?;
    sender.write_all(b"last").map_err(|error| error.to_string())?;
    send_close_notify(&sender).map_err(|error| format!("sending the alert: {error}"))?;
    let mut bytes = [0; 16];
    match receiver.read(&mut bytes) {
        Ok(4) if bytes.starts_with(b"last") => {}
        other => return Err(format!("{other:?} instead of the data before the alert")),
    }
    let plain = match receiver.read(&mut bytes) {
        Ok(len) => return Err(format!("a plain receive of an alert gave {len} bytes")),
        Err(error) => name(&error),
    };
    match receive_record(&receiver) {
        Ok((Some(ALERT), bytes)) if bytes == CLOSE_NOTIFY => {
            Ok(format!("(a plain receive: {plain})"))
        }
        other => Err(format!("{other:?} instead of the alert")),
    }
}

/// Whether a direction takes a second key, as a key update of TLS 1.3 needs.
pub(super) fn second_key() -> Result<String, Failure> {
    let (sender, receiver) = sealed(USUAL)?;
    let keys = USUAL.keys(2);
    let answer = |direction, socket| match hand_over(socket, direction, &keys) {
        Ok(()) => "taken".to_owned(),
        Err(error) => name(&error),
    };
    Ok(format!("(sending: {}; receiving: {})", answer(TLS_TX, &sender), answer(TLS_RX, &receiver)))
}

/// How a sender ends whose peer has not read.
#[derive(Clone, Copy)]
enum End {
    Shutdown,
    Close,
    /// A close_notify that waits for room, then a shutdown.
    Notify,
}

/// Lengths of single sends: each makes records of its own.
const SENDS: [usize; 4] = [1 << 16, 1 << 14, 5000, 700];

/// Of what non-blocking sends took, how much never reaches a peer that reads late: over all lengths.
fn lost(end: End, seals: bool) -> Result<(usize, usize), Failure> {
    let all = SENDS.iter().map(|len| lost_of(end, seals, *len));
    all.sum::<Result<Sum, Failure>>().map(|sum| (sum.0, sum.1))
}

/// Adds up what was taken and what was lost of it.
struct Sum(usize, usize);

impl std::iter::Sum for Sum {
    fn sum<I: Iterator<Item = Sum>>(all: I) -> Sum {
        all.fold(Sum(0, 0), |a, b| Sum(a.0 + b.0, a.1 + b.1))
    }
}

fn lost_of(end: End, seals: bool, send_len: usize) -> Result<Sum, Failure> {
    let fail = |error: io::Error| format!("filling a socket: {error}");
    let (sender, mut receiver) = if seals { sealed(USUAL)? } else { pair()? };
    let bytes = pattern(1 << 16);
    let mut taken = 0;
    loop {
        // From where the stream stands, so that every byte of it is known.
        let at = taken % bytes.len();
        let until = bytes.len().min(at + send_len);
        match send(&sender, &bytes[at..until], libc::MSG_DONTWAIT) {
            Ok(sent) => taken += sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(fail(error)),
        }
    }
    let ending = match end {
        End::Notify => Some(thread::spawn(move || {
            send_close_notify(&sender)
                .and_then(|()| sender.shutdown(Shutdown::Write))
                .map(|()| sender)
        })),
        End::Shutdown => {
            sender.shutdown(Shutdown::Write).map_err(fail)?;
            Some(thread::spawn(move || Ok(sender)))
        }
        End::Close => {
            drop(sender);
            None
        }
    };
    let (mut arrived, mut buffer) = (0, vec![0; 1 << 15]);
    // An alert, the end, or a record that is cut: nothing follows in any case.
    while let Ok(len @ 1..) = receiver.read(&mut buffer) {
        let right = buffer[..len].iter().enumerate();
        if right.clone().any(|(i, byte)| *byte != bytes[(arrived + i) % bytes.len()]) {
            return Err("other bytes than were sent".to_owned());
        }
        arrived += len;
    }
    if let Some(ending) = ending {
        ending.join().map_err(|_| "the sender's end failed".to_owned())?.map_err(fail)?;
    }
    Ok(Sum(taken, taken - arrived))
}

/// What is lost at each end; nothing may be without TLS, or behind a close_notify that was waited for.
pub(super) fn endings() -> Result<String, Failure> {
    let (_, without) = lost(End::Shutdown, false)?;
    let (taken, after_notify) = lost(End::Notify, true)?;
    if (without, after_notify) != (0, 0) {
        return Err(format!("{without} bytes lost in the clear, {after_notify} by a close_notify"));
    }
    let (_, shut_down) = lost(End::Shutdown, true)?;
    let (_, closed) = lost(End::Close, true)?;
    Ok(format!(
        "(some {} KiB taken; lost: none after a waiting close_notify, {shut_down} bytes after shutdown, \
         {closed} after close)",
        taken >> 10
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_length_that_the_kernel_knows_each_suite_by() {
        let lens = SUITES.map(|suite| suite.keys(1).len());
        assert_eq!(lens, [40, 56, 56, 40, 56, 56]);
        assert_eq!(USUAL.keys(0)[..4], [4, 3, 51, 0]);
        assert_ne!(USUAL.keys(1), USUAL.keys(2));
    }
}
