//! Descriptors over a unix socket, and who is at its other end.
//!
//! What must always be true: a descriptor that arrives is owned at once, so
//! that none is lost on an error. Called by `takeover`.
//!
//! # Safety
//! Messages and control buffers are locals that live across the calls; numbers
//! from the kernel's control messages are descriptors that nobody else owns.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Descriptors in one message, as the kernel limits it.
pub(super) const DESCRIPTORS_MAX: usize = 253;

/// Control data of that many, in words so that it is aligned.
const CONTROL_WORDS: usize = (DESCRIPTORS_MAX * size_of::<RawFd>() + 64) / 8;

/// Bytes of one message.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 * 1024;

fn message(iov: &mut libc::iovec, control: &mut [u64], control_len: usize) -> libc::msghdr {
    // SAFETY: plain data for which zeroes are a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = control_len as _;
    message
}

/// Sends bytes with descriptors.
pub(super) fn send(to: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > DESCRIPTORS_MAX || bytes.len() > MESSAGE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let payload = size_of_val(raw.as_slice());
    let mut control = [0u64; CONTROL_WORDS];
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the control buffer has room for the header and the payload, which
    // is at most DESCRIPTORS_MAX numbers.
    let sent = unsafe {
        let space = libc::CMSG_SPACE(payload as u32) as usize;
        let message = message(&mut iov, &mut control, space);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(payload as u32) as _;
        std::ptr::copy_nonoverlapping(raw.as_ptr().cast(), libc::CMSG_DATA(header), payload);
        libc::sendmsg(to.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
    };
    match usize::try_from(sent) {
        Ok(len) if len == bytes.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Receives one message's bytes and descriptors.
pub(super) fn receive(from: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    let mut control = [0u64; CONTROL_WORDS];
    let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut fds = Vec::new();
    // SAFETY: both buffers are as long as said; headers are walked as the
    // kernel wrote them.
    let len = unsafe {
        let room = size_of_val(&control);
        let mut message = message(&mut iov, &mut control, room);
        let len = libc::recvmsg(from.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC);
        let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let payload = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for at in 0..payload / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(at).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        len
    };
    bytes.truncate(len);
    Ok((bytes, fds))
}

/// Process and user at the other end.
pub(super) fn peer(stream: &UnixStream) -> io::Result<(i32, u32)> {
    // SAFETY: a local of the size given.
    unsafe {
        let mut peer: libc::ucred = std::mem::zeroed();
        let mut len = size_of::<libc::ucred>() as libc::socklen_t;
        let got = libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut len,
        );
        if got < 0 { Err(io::Error::last_os_error()) } else { Ok((peer.pid, peer.uid)) }
    }
}

/// The user that this process acts as.
pub(super) fn own_user() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() }
}

/// Descriptors that the service manager passed, from 3 on.
pub(super) fn activated(count: usize) -> Vec<OwnedFd> {
    let first: RawFd = 3;
    let each = (0..count).map(|at| {
        let fd = first + at as RawFd;
        // SAFETY: the manager's promise to the process that LISTEN_PID names:
        // these are open and nobody else's.
        unsafe {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            OwnedFd::from_raw_fd(fd)
        }
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_descriptor_arrives_with_its_message_and_works() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut a, b) = UnixStream::pair().unwrap();
        use std::os::fd::AsFd;
        send(&here, b"two of them\n", &[b.as_fd(), b.as_fd()]).unwrap();
        drop(b);
        let (bytes, fds) = receive(&there).unwrap();
        assert_eq!((bytes.as_slice(), fds.len()), (&b"two of them\n"[..], 2));
        let mut arrived = UnixStream::from(fds.into_iter().next().unwrap());
        arrived.write_all(b"x").unwrap();
        let mut byte = [0];
        a.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        assert_eq!(peer(&there).unwrap().0, std::process::id() as i32);
    }
}
