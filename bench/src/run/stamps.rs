//! The kernel's clock: when it handed a request's last byte to the device, and when the reply came in.
//!
//! Always true: a stamp counts for every byte up to its own, so a request is measured by the first stamp
//! at or behind its last byte; a reply whose stamps are missing is counted as such, never guessed.
//! Called by the worker for plain connections with `timestamps = "kernel"`.
//!
//! ```text
//! stream   │─ request 1 ─│─ request 2 ─│─ request 3 ─│        sent in one system call or several
//! stamps                     ▲ key = last byte of a send      from the socket's error queue
//! ```
//!
//! # Safety
//! Every call hands the kernel buffers on this thread's stack that outlive it, with their sizes.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// The key of a TCP stamp counts from where the option was set (`SOF_TIMESTAMPING_OPT_ID_TCP`).
const OPT_ID_TCP: u32 = 1 << 16;
/// Room for the control data of one entry of the error queue.
const CONTROL_LEN_BYTES: usize = 256;
/// Entries that may wait: more than any pipeline has sends.
const STAMPS_MAX: usize = 1 << 16;

/// One connection's stamps.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    /// Bytes written since the option was set.
    written: u64,
    /// The last byte of each request in flight.
    ends: VecDeque<u64>,
    /// Byte and time of each stamp that may still be needed, since the epoch.
    transmitted: VecDeque<(u64, Duration)>,
}

impl Stamps {
    /// Asks the kernel for stamps of this socket, before anything was written to it.
    pub(super) fn enable(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let flags: u32 = libc::SOF_TIMESTAMPING_TX_SOFTWARE
            | libc::SOF_TIMESTAMPING_RX_SOFTWARE
            | libc::SOF_TIMESTAMPING_SOFTWARE
            | libc::SOF_TIMESTAMPING_OPT_ID
            | libc::SOF_TIMESTAMPING_OPT_TSONLY
            | OPT_ID_TCP;
        // Before 6.2 the key counts from the first unacknowledged byte, which on a fresh socket is the same.
        set(socket, flags).or_else(|_| set(socket, flags & !OPT_ID_TCP))?;
        Ok(Self::default())
    }

    /// Bytes that are no request went into the stream.
    pub(super) fn wrote(&mut self, len: usize) {
        self.written += len as u64;
    }

    /// A request went into the stream.
    pub(super) fn requested(&mut self, len: usize) {
        self.written += len as u64;
        self.ends.push_back(self.written - 1);
    }

    /// Takes what waits in the socket's error queue.
    pub(super) fn collect(&mut self, socket: BorrowedFd<'_>) {
        while self.transmitted.len() < STAMPS_MAX
            && let Some((key, time)) = next(socket)
        {
            // Keys have 32 bits: this is the one nearest to what was written.
            let behind = (self.written as u32).wrapping_sub(key);
            self.transmitted.push_back((self.written.wrapping_sub(u64::from(behind)), time));
        }
    }

    /// The oldest request was answered by bytes that came in at `received`: how long that took.
    pub(super) fn answered(&mut self, received: Option<Duration>) -> Option<u64> {
        let end = self.ends.pop_front()?;
        while self.transmitted.front().is_some_and(|(byte, _)| *byte < end) {
            self.transmitted.pop_front();
        }
        let (_, sent) = self.transmitted.front()?;
        received?.checked_sub(*sent).map(|took| took.as_nanos() as u64)
    }
}

fn set(socket: BorrowedFd<'_>, flags: u32) -> io::Result<()> {
    // SAFETY: the value is a local of the size that is named.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPING,
            (&raw const flags).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// One entry of the error queue: the stamped byte's key and its time.
fn next(socket: BorrowedFd<'_>) -> Option<(u32, Duration)> {
    #[repr(align(8))]
    struct Control([u8; CONTROL_LEN_BYTES]);
    let mut control = Control([0; CONTROL_LEN_BYTES]);
    // SAFETY: all zeroes is a message without address, data or control space.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_LEN_BYTES as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: the message names only the local control buffer.
    if unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) } < 0 {
        return None;
    }
    let (mut time, mut key) = (None, None);
    // SAFETY: the kernel filled the control buffer and set its length; the macros stay within it.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: a pointer from the macros is null or points to a header inside the control buffer.
    while let Some(h) = unsafe { header.as_ref() } {
        // SAFETY: the data of a header of these kinds is at least as long as what is read from it.
        unsafe {
            let data = libc::CMSG_DATA(header);
            match (h.cmsg_level, h.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => {
                    let t = data.cast::<libc::timespec>().read_unaligned();
                    time = Some(Duration::new(t.tv_sec.max(0) as u64, t.tv_nsec as u32));
                }
                (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR) => {
                    let e = data.cast::<libc::sock_extended_err>().read_unaligned();
                    let stamped = e.ee_origin == libc::SO_EE_ORIGIN_TIMESTAMPING;
                    key = stamped.then_some(e.ee_data);
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Some((key?, time?))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_stamp_counts_for_every_request_up_to_its_byte() {
        let us = |n| Duration::from_micros(n);
        let mut stamps = Stamps::default();
        stamps.wrote(10);
        stamps.requested(5);
        stamps.requested(5);
        stamps.requested(5);
        // One send of the greeting and two requests, one of the third.
        stamps.transmitted.extend([(19, us(100)), (24, us(130))]);
        assert_eq!(stamps.answered(Some(us(150))), Some(50_000));
        assert_eq!(stamps.answered(Some(us(150))), Some(50_000));
        assert_eq!(stamps.answered(Some(us(150))), Some(20_000));
        assert_eq!(stamps.answered(Some(us(150))), None);
        stamps.requested(5);
        assert_eq!(stamps.answered(Some(us(150))), None, "its send has no stamp");
        stamps.requested(5);
        stamps.transmitted.push_back((34, us(1)));
        assert_eq!(stamps.answered(None), None, "the receive has no stamp");
    }

    #[test]
    fn the_kernel_stamps_what_is_written_with_the_last_bytes_place() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let mut stamps = Stamps::enable(client.as_fd()).unwrap();
        let before = std::time::SystemTime::now();
        for len in [10usize, 7] {
            client.write_all(&vec![0; len]).unwrap();
            stamps.requested(len);
            peer.read_exact(&mut vec![0; len]).unwrap();
        }
        // The stamp is taken before the bytes arrive, so it waits already.
        stamps.collect(client.as_fd());
        let bytes: Vec<u64> = stamps.transmitted.iter().map(|(byte, _)| *byte).collect();
        assert_eq!(bytes, [9, 16]);
        let epoch = std::time::SystemTime::UNIX_EPOCH;
        let first = epoch + stamps.transmitted[0].1;
        assert!(before <= first && first <= std::time::SystemTime::now());
    }
}
