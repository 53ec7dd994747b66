//! Receives with the kernel's time of arrival: what is asked for, and how it is read.
//!
//! What must always be true: the message that describes the space for control data never moves while
//! the worker lives. Called by the loop; switched on for each connection by its handler.
//!
//! # Safety
//! The kernel reads the boxed message when a receive is submitted; it holds no pointer of ours.
#![allow(unsafe_code)]

use std::time::Duration;

/// Three times: by software, unused, by hardware.
type Times = [libc::timespec; 3];

/// `io_uring_recvmsg_out`: lengths of name, control data and payload, and flags, four bytes each.
const OUT_LEN_BYTES: usize = 16;
const HEADER_LEN_BYTES: usize = size_of::<libc::cmsghdr>();
/// One control message with its times. Header and times are multiples of the alignment.
const CONTROL_LEN_BYTES: usize = HEADER_LEN_BYTES + size_of::<Times>();
const _: () = assert!(HEADER_LEN_BYTES.is_multiple_of(align_of::<libc::cmsghdr>()));

/// What stamped receives of one worker share.
#[derive(Debug)]
pub(crate) struct Stamps {
    message: Box<libc::msghdr>,
    /// Of the bytes that are being delivered.
    pub(crate) latest: Option<Duration>,
}

impl Stamps {
    pub(crate) fn new() -> Stamps {
        let mut message = Box::new(crate::out::empty_message());
        message.msg_controllen = CONTROL_LEN_BYTES as _;
        Stamps { message, latest: None }
    }

    /// How the kernel is to lay out each buffer.
    pub(crate) fn message(&self) -> *const libc::msghdr {
        &raw const *self.message
    }

    /// The payload of a filled buffer and its stamp; `None` of a buffer that was cut short.
    pub(crate) fn parse<'a>(&self, buffer: &'a [u8]) -> Option<(&'a [u8], Option<Duration>)> {
        let (out, rest) = buffer.split_first_chunk::<OUT_LEN_BYTES>()?;
        let word = |n: usize| {
            u32::from_ne_bytes([out[4 * n], out[4 * n + 1], out[4 * n + 2], out[4 * n + 3]])
        };
        let (control_len, payload_len, flags) = (word(1), word(2), word(3));
        let (control, payload) = rest.split_at_checked(CONTROL_LEN_BYTES)?;
        if flags & libc::MSG_TRUNC as u32 != 0 {
            return None;
        }
        let control = control.get(..control_len as usize)?;
        Some((payload.get(..payload_len as usize)?, software_time(control)))
    }
}

/// The time by software in control data that begins with it.
fn software_time(control: &[u8]) -> Option<Duration> {
    if control.len() < CONTROL_LEN_BYTES {
        return None;
    }
    // SAFETY: at least a header is there; it is plain data, read unaligned.
    let header = unsafe { control.as_ptr().cast::<libc::cmsghdr>().read_unaligned() };
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) {
        return None;
    }
    // SAFETY: the length was checked; the times are plain data behind the header, read unaligned.
    let times = unsafe { control.as_ptr().add(HEADER_LEN_BYTES).cast::<Times>().read_unaligned() };
    let (s, ns) = (u64::try_from(times[0].tv_sec).ok()?, u32::try_from(times[0].tv_nsec).ok()?);
    (s > 0).then(|| Duration::new(s, ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buffer as the kernel lays it out: header, control data, payload.
    fn buffer(times: Option<Times>, payload: &[u8]) -> Vec<u8> {
        let mut control = vec![0; CONTROL_LEN_BYTES];
        if let Some(times) = times {
            // SAFETY: all zeroes is a valid header.
            let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
            header.cmsg_len = CONTROL_LEN_BYTES as _;
            header.cmsg_level = libc::SOL_SOCKET;
            header.cmsg_type = libc::SCM_TIMESTAMPING;
            // SAFETY: the control data has room for both, written unaligned.
            unsafe {
                control.as_mut_ptr().cast::<libc::cmsghdr>().write_unaligned(header);
                control.as_mut_ptr().add(HEADER_LEN_BYTES).cast::<Times>().write_unaligned(times);
            }
        }
        let used = if times.is_some() { CONTROL_LEN_BYTES } else { 0 };
        let words = [0, used as u32, payload.len() as u32, 0];
        let mut out: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        out.extend(control);
        out.extend(payload);
        out
    }

    #[test]
    fn the_payload_comes_with_the_time_by_software() {
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let time = libc::timespec { tv_sec: 7, tv_nsec: 9 };
        let stamps = Stamps::new();
        let stamped = buffer(Some([time, none, none]), b"hello");
        assert_eq!(stamps.parse(&stamped), Some((&b"hello"[..], Some(Duration::new(7, 9)))));
        let bare = buffer(None, b"hello");
        assert_eq!(stamps.parse(&bare), Some((&b"hello"[..], None)));
        assert_eq!(stamps.parse(&buffer(None, b"")), Some((&b""[..], None)));
        assert_eq!(stamps.parse(&stamped[..40]), None);
    }
}
