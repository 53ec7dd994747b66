//! A value that arrives in pieces, straight into its final memory.
//!
//! ```text
//!  None --begin_body--> Filling --last byte--> Landed --commit_body--> None
//!                          \______ drop_body, close, panic ______/
//! ```
//! The memory is the backend's when it can reserve, else a buffer of ours that
//! a STORE copies from. Always true: a reservation is committed or aborted
//! exactly once.
//!
//! # Safety
//! Parts point into the backend's reservation (valid until commit or abort) or
//! into `own`, which is neither moved nor dropped while parts are in use.
#![allow(unsafe_code)]

use crate::abi::op::{BufMut, Reservation};
use crate::abi::turn::Turn;
use crate::protocol::Service;

/// Where a body lies and how much of it is still missing.
pub(crate) struct Body {
    /// The backend's name for it; 0 = `own`.
    pub(crate) token: u64,
    pub(crate) own: Vec<u8>,
    /// The parts that are not filled yet, the first one cut at the front.
    missing: Vec<BufMut>,
    /// Index of the first missing part.
    at: usize,
    pub(crate) left_bytes: u64,
    /// The host was told where the rest goes, and fills it alone from then on.
    announced: bool,
}

impl Body {
    /// `None` when the backend lent another length than was asked for.
    pub(crate) fn reserved(reservation: &Reservation, len_bytes: u64) -> Option<Self> {
        let parts = match reservation.nparts {
            0 => &[],
            // SAFETY: the backend answered `nparts` parts at `parts`.
            n => unsafe { std::slice::from_raw_parts(reservation.parts, n as usize) },
        };
        if parts.iter().map(|part| part.len as u64).sum::<u64>() != len_bytes {
            return None;
        }
        Some(Self {
            token: reservation.token,
            own: Vec::new(),
            missing: parts.to_vec(),
            at: 0,
            left_bytes: len_bytes,
            announced: false,
        })
    }

    pub(crate) fn own(len_bytes: usize) -> Self {
        let mut own = vec![0; len_bytes];
        let missing = vec![BufMut { ptr: own.as_mut_ptr(), len: own.len() }];
        Self { token: 0, own, missing, at: 0, left_bytes: len_bytes as u64, announced: false }
    }

    /// Copies as much of the input as belongs to the body; returns how much.
    pub(crate) fn take(&mut self, input: &[u8]) -> usize {
        let mut rest = input;
        while !rest.is_empty() && self.left_bytes > 0 {
            let part = &mut self.missing[self.at];
            let n = part.len.min(rest.len());
            // SAFETY: `part` is writable for `part.len >= n` bytes (module).
            unsafe { std::ptr::copy_nonoverlapping(rest.as_ptr(), part.ptr, n) };
            // SAFETY: stays within the part, at most one past its end.
            part.ptr = unsafe { part.ptr.add(n) };
            part.len -= n;
            self.left_bytes -= n as u64;
            rest = &rest[n..];
            if part.len == 0 {
                self.at += 1;
            }
        }
        input.len() - rest.len()
    }

    /// The host has filled all that was missing.
    pub(crate) fn landed(&mut self) {
        self.left_bytes = 0;
    }

    /// Tells the host where the rest goes: once, because only the host knows
    /// from then on how much is still missing. True when it was told now.
    pub(crate) fn announce(&mut self, turn: &mut Turn) -> bool {
        if std::mem::replace(&mut self.announced, true) {
            return false;
        }
        let parts = &self.missing[self.at..];
        turn.body = Reservation {
            token: self.token,
            parts: parts.as_ptr(),
            nparts: u32::try_from(parts.len()).expect("a body has few parts"),
            _rsv: 0,
        };
        turn.body_left = self.left_bytes;
        true
    }

    /// Gives the memory back, unpublished.
    pub(crate) fn abandon(self, service: &Service) {
        if self.token != 0 {
            service.abort(self.token);
        }
    }
}
