//! Memory in the place of a socket, for the HTTP/2 state machine.
//!
//! `h2` speaks to an `AsyncRead + AsyncWrite`; this one reads from bytes that
//! the session was given and writes to bytes that the session hands on. It is
//! always writable, and readable while it holds input; it never wakes anybody,
//! because the session polls after every change.
//!
//! Always true: bytes leave in the order they were written; nothing blocks.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Room for answers that a connection keeps; a sweep's worth, so that it is not made
/// anew for each.
const OUTPUT_KEPT_BYTES: usize = 32 * 1024;

#[derive(Debug, Default)]
struct Pipes {
    input: BytesMut,
    output: Vec<u8>,
    ended: bool,
}

/// One end for the session, one (a clone) for `h2`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wire(Rc<RefCell<Pipes>>);

impl Wire {
    /// Bytes from the peer.
    pub(crate) fn feed(&self, input: &[u8]) {
        self.0.borrow_mut().input.extend_from_slice(input);
    }

    /// The peer sends no more.
    pub(crate) fn end(&self) {
        self.0.borrow_mut().ended = true;
    }

    /// Hands what was written to `take`, and forgets it.
    pub(crate) fn drain(&self, take: impl FnOnce(&[u8])) {
        let mut pipes = self.0.borrow_mut();
        if !pipes.output.is_empty() {
            take(&pipes.output);
            pipes.output.clear();
            // A burst should not be paid for by an idle connection.
            if pipes.output.capacity() > OUTPUT_KEPT_BYTES {
                pipes.output.shrink_to(OUTPUT_KEPT_BYTES);
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut pipes = self.0.borrow_mut();
        if pipes.input.is_empty() {
            return if pipes.ended { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let n = pipes.input.len().min(buf.remaining());
        buf.put_slice(&pipes.input[..n]);
        pipes.input.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().output.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut pipes = self.0.borrow_mut();
        slices.iter().for_each(|slice| pipes.output.extend_from_slice(slice));
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
