//! What stands between a connection's codec and its socket: gRPC, TLS, both, or nothing.
//!
//! Always true: the codec's bytes pass gRPC first and TLS last on their way out, and the other way round
//! on their way in. Called by the worker for connections that have one.

use super::grpc::Grpc;
use super::tls::Tls;

/// See the file's head; at least one of the two is there.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) tls: Option<Tls>,
    pub(super) grpc: Option<Grpc>,
    /// Received, opened, and not read yet.
    pub(super) plain: Vec<u8>,
}

impl Channel {
    /// Whether the codec may speak.
    pub(super) fn is_ready(&self) -> bool {
        self.tls.as_ref().is_none_or(Tls::is_ready)
    }

    /// Takes what came from the socket; what the codec may read is appended to `plain`.
    pub(super) fn open(&mut self, bytes: &[u8]) -> Result<(), String> {
        let Self { tls, grpc, plain } = self;
        match (tls, grpc) {
            (Some(tls), None) => tls.open(bytes, plain),
            (None, Some(grpc)) => grpc.open(bytes, plain),
            (Some(tls), Some(grpc)) => {
                let mut opened = Vec::new();
                tls.open(bytes, &mut opened)?;
                grpc.open(&opened, plain)
            }
            (None, None) => {
                plain.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Replaces what the codec wrote into `out` from `from` on by what goes to the socket, and appends what
    /// the channel itself has to say.
    pub(super) fn seal(&mut self, out: &mut Vec<u8>, from: usize) {
        if let Some(grpc) = &mut self.grpc {
            grpc.seal(out, from);
        }
        if let Some(tls) = &mut self.tls {
            tls.seal(out, from);
        }
    }
}
