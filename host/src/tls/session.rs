//! One TLS connection without I/O: ciphertext in, plaintext out, and back.
//!
//! ```text
//!  kompio's input ─► receive ─► open records ─► Inbox: skip, body, clear bytes
//!  kompio's output ◄─ seal ◄──────────────────── plaintext of a turn
//! ```
//! What must always be true: plaintext never leaves but through `seal`, and
//! never enters but from an authenticated record; an idle connection holds no
//! buffer; what a peer can make this keep is bounded before the handshake is
//! done (`HANDSHAKE_BYTES_MAX`) and by one record after it. Called by the
//! worker.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

/// Most ciphertext of a handshake that is not whole yet.
pub const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

/// Plaintext of one record at most.
pub const RECORD_BYTES: usize = 16 * 1024;

/// What a record adds at most: header, explicit nonce or type, tag.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// Where plaintext goes.
pub trait Inbox {
    /// The next bytes of the stream.
    fn take(&mut self, plain: &[u8]);
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The handshake needs more from the peer.
    Handshaking,
    /// Data may flow.
    Open,
    /// The peer said that it sends no more.
    PeerEnded,
    /// Both did.
    Ended,
}

/// One connection.
pub struct Session {
    tls: UnbufferedServerConnection,
    /// Ciphertext that is no whole record yet.
    incoming: Vec<u8>,
    peer_ended: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("peer_ended", &self.peer_ended).finish_non_exhaustive()
    }
}

impl Session {
    /// A connection that was just accepted.
    ///
    /// # Errors
    /// When the library refuses the configuration.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let tls = UnbufferedServerConnection::new(config)?;
        Ok(Self { tls, incoming: Vec::new(), peer_ended: false })
    }

    /// Whether data cannot flow yet.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// The library's view, for what was negotiated.
    #[must_use]
    pub fn negotiated(&self) -> &UnbufferedServerConnection {
        &self.tls
    }

    /// Takes ciphertext. Plaintext goes to `inbox`, what the peer must be told
    /// to `wire`; after an error that is an alert, and the connection is over.
    ///
    /// # Errors
    /// What the peer did wrong.
    pub fn receive(
        &mut self,
        cipher: &[u8],
        inbox: &mut dyn Inbox,
        wire: &mut Vec<u8>,
        spare: &mut Vec<u8>,
    ) -> Result<Progress, rustls::Error> {
        if self.peer_ended {
            // Nothing after a close_notify means anything.
            return Ok(Progress::PeerEnded);
        }
        if self.incoming.capacity() == 0 {
            std::mem::swap(&mut self.incoming, spare);
        }
        self.incoming.extend_from_slice(cipher);
        let result = guarded(|| {
            let result = self.process(inbox, wire);
            if result.is_err() {
                self.alert(wire);
            }
            result
        });
        let result = result.unwrap_or_else(|| Err(rustls::Error::General(PANICKED.into())));
        if result.is_err() {
            self.incoming.clear();
        } else if self.tls.is_handshaking() && self.incoming.len() > HANDSHAKE_BYTES_MAX {
            return Err(rustls::Error::General("the handshake is too long".into()));
        }
        if self.peer_ended {
            self.incoming.clear();
        }
        if self.incoming.is_empty() {
            let empty = std::mem::take(&mut self.incoming);
            if empty.capacity() > spare.capacity() {
                *spare = empty;
            }
        }
        result
    }

    fn process(
        &mut self,
        inbox: &mut dyn Inbox,
        wire: &mut Vec<u8>,
    ) -> Result<Progress, rustls::Error> {
        let mut at = 0;
        let progress = loop {
            let UnbufferedStatus { mut discard, state } =
                self.tls.process_tls_records(&mut self.incoming[at..]);
            let mut done = None;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        inbox.take(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut encode)) => {
                    append(wire, RECORD_BYTES, |room| encode.encode(room).map_err(size_of_encode));
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_ended = true,
                Ok(ConnectionState::Closed) => done = Some(Progress::Ended),
                Ok(ConnectionState::WriteTraffic(_)) => done = Some(Progress::Open),
                Ok(ConnectionState::BlockedHandshake) => done = Some(Progress::Handshaking),
                // Early data is never offered; anything new is not for us.
                Ok(_) => return Err(rustls::Error::General("unexpected state".into())),
                Err(error) => {
                    self.incoming.drain(..(at + discard).min(self.incoming.len()));
                    return Err(error);
                }
            }
            at += discard;
            if let Some(done) = done {
                break done;
            }
        };
        self.incoming.drain(..at.min(self.incoming.len()));
        Ok(match progress {
            Progress::Open if self.peer_ended => Progress::PeerEnded,
            // A peer that ends before the handshake is done is gone.
            Progress::Handshaking if self.peer_ended => Progress::Ended,
            other => other,
        })
    }

    /// What the library wants to tell the peer about an error. Asked once: it
    /// would look into the rest of the input next.
    fn alert(&mut self, wire: &mut Vec<u8>) {
        let state = self.tls.process_tls_records(&mut self.incoming).state;
        if let Ok(ConnectionState::EncodeTlsData(mut encode)) = state {
            append(wire, RECORD_BYTES, |room| encode.encode(room).map_err(size_of_encode));
        }
    }

    /// Makes records of `plain`; false when the connection cannot carry data.
    pub fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> bool {
        let sealed = guarded(|| self.write_records(plain, wire));
        sealed.unwrap_or(false)
    }

    fn write_records(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> bool {
        self.write(wire, |writer, wire| {
            for record in plain.chunks(RECORD_BYTES) {
                let room = record.len() + RECORD_OVERHEAD_BYTES;
                if !append(wire, room, |room| writer.encrypt(record, room).map_err(size_of_encrypt))
                {
                    return false;
                }
            }
            true
        })
    }

    /// Tells the peer that nothing more comes.
    pub fn end(&mut self, wire: &mut Vec<u8>) {
        let _an_ended_connection_says_nothing = guarded(|| {
            self.write(wire, |writer, wire| {
                let room = RECORD_OVERHEAD_BYTES;
                append(wire, room, |room| writer.queue_close_notify(room).map_err(size_of_encrypt))
            })
        });
    }

    fn write(
        &mut self,
        wire: &mut Vec<u8>,
        body: impl FnOnce(
            &mut rustls::unbuffered::WriteTraffic<'_, rustls::server::ServerConnectionData>,
            &mut Vec<u8>,
        ) -> bool,
    ) -> bool {
        // The rest of a record is shown to the library each time: it keeps
        // places in it. There is no whole record in it, so nothing is read.
        loop {
            match self.tls.process_tls_records(&mut self.incoming).state {
                Ok(ConnectionState::WriteTraffic(mut writer)) => return body(&mut writer, wire),
                Ok(ConnectionState::EncodeTlsData(mut encode)) => {
                    append(wire, RECORD_BYTES, |room| encode.encode(room).map_err(size_of_encode));
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_ended = true,
                _ => return false,
            }
        }
    }
}

/// Says that the library failed at what a peer sent.
const PANICKED: &str = "the TLS library panicked";

/// Runs the library so that its panic ends one connection, not the worker: the
/// session is not used again after it.
fn guarded<T>(body: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).ok()
}

/// How much room is wanted; `None` when no room would do.
type Wanted = Option<usize>;

fn size_of_encode(error: EncodeError) -> Wanted {
    match error {
        EncodeError::InsufficientSize(size) => Some(size.required_size),
        EncodeError::AlreadyEncoded => None,
    }
}

fn size_of_encrypt(error: EncryptError) -> Wanted {
    match error {
        EncryptError::InsufficientSize(size) => Some(size.required_size),
        EncryptError::EncryptExhausted => None,
    }
}

/// Appends what `write` puts into the room it is given, making more on demand.
fn append(
    wire: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Wanted>,
) -> bool {
    let start = wire.len();
    for _ in 0..2 {
        wire.resize(start + room, 0);
        match write(&mut wire[start..]) {
            Ok(written) => {
                wire.truncate(start + written);
                return true;
            }
            Err(Some(wanted)) => room = wanted,
            Err(None) => break,
        }
    }
    wire.truncate(start);
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use std::io::{Read, Write};

    #[derive(Default)]
    struct Collect(Vec<u8>);

    impl Inbox for Collect {
        fn take(&mut self, plain: &[u8]) {
            self.0.extend_from_slice(plain);
        }
    }

    /// Configurations of both sides; the server asks for a certificate.
    fn configs() -> (Arc<ServerConfig>, Vec<Arc<ClientConfig>>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = || made.signing_key.serialize_der().try_into().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots.clone()))
            .allow_unauthenticated()
            .build()
            .unwrap();
        let server = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![made.cert.der().clone()], key())
            .unwrap();
        let client = |versions: &[&'static rustls::SupportedProtocolVersion], known: bool| {
            let builder = ClientConfig::builder_with_protocol_versions(versions)
                .with_root_certificates(roots.clone());
            let mut config = if known {
                builder.with_client_auth_cert(vec![made.cert.der().clone()], key()).unwrap()
            } else {
                builder.with_no_client_auth()
            };
            config.resumption = rustls::client::Resumption::disabled();
            Arc::new(config)
        };
        let versions = [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]];
        let clients = versions.iter().flat_map(|v| [client(v, false), client(v, true)]).collect();
        (Arc::new(server), clients)
    }

    /// Lets a client ask for an echo, its bytes in chunks, one of them spoilt.
    fn talk(
        server: &Arc<ServerConfig>,
        client: &Arc<ClientConfig>,
        chunk: usize,
        spoil: Option<(usize, u8)>,
    ) -> (Result<Vec<u8>, rustls::Error>, usize) {
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(client.clone(), name).unwrap();
        let mut session = Session::new(server.clone()).unwrap();
        let (mut inbox, mut spare, mut echoed) = (Collect::default(), Vec::new(), Vec::new());
        let (mut sent, mut asked) = (0, false);
        loop {
            let (mut up, mut down) = (Vec::new(), Vec::new());
            while client.wants_write() {
                client.write_tls(&mut up).unwrap();
            }
            if up.is_empty() && asked {
                return (Ok(echoed), sent);
            }
            if let Some((at, mask)) = spoil
                && (sent..sent + up.len()).contains(&at)
            {
                up[at - sent] ^= mask;
            }
            sent += up.len();
            for piece in up.chunks(chunk) {
                let got = session.receive(piece, &mut inbox, &mut down, &mut spare);
                if let Err(error) = got {
                    return (Err(error), sent);
                }
                if !session.is_handshaking() && !inbox.0.is_empty() {
                    assert!(session.seal(&std::mem::take(&mut inbox.0), &mut down));
                }
            }
            let mut rest = &down[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                if client.process_new_packets().is_err() {
                    return (Ok(echoed), sent);
                }
                let _would_block_at_the_end = client.reader().read_to_end(&mut echoed);
            }
            if !client.is_handshaking() && !asked {
                asked = true;
                client.writer().write_all(&vec![b'x'; 40_000]).unwrap();
            }
            if echoed.is_empty() && up.is_empty() && down.is_empty() {
                return (Ok(echoed), sent);
            }
        }
    }

    #[test]
    fn bytes_in_any_portions_are_echoed() {
        let (server, clients) = configs();
        for client in &clients {
            for chunk in [1, 7, 1000, 1 << 20] {
                let (echoed, _) = talk(&server, client, chunk, None);
                assert_eq!(echoed.unwrap().len(), 40_000, "portions of {chunk}");
            }
        }
    }

    #[test]
    fn a_spoilt_byte_ends_the_connection_and_never_panics() {
        let (server, clients) = configs();
        for client in &clients {
            let (_, whole) = talk(&server, client, 1 << 20, None);
            // Every byte of the handshake, and some of what follows.
            for at in (0..whole.min(2000)).step_by(5).chain((2000..whole).step_by(997)) {
                let (result, _) =
                    talk(&server, client, [64, 1 << 20][at % 2], Some((at, 1 << (at % 8))));
                if let Err(rustls::Error::General(reason)) = result {
                    assert_ne!(reason, PANICKED, "byte {at}");
                }
            }
        }
    }

    #[test]
    fn an_idle_session_holds_no_buffer() {
        let (server, clients) = configs();
        let mut session = Session::new(server.clone()).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(clients[0].clone(), name).unwrap();
        let (mut hello, mut wire, mut spare) = (Vec::new(), Vec::new(), Vec::new());
        client.write_tls(&mut hello).unwrap();
        let mut inbox = Collect::default();
        let got = session.receive(&hello, &mut inbox, &mut wire, &mut spare);
        assert_eq!(got, Ok(Progress::Handshaking));
        assert_eq!(session.incoming.capacity(), 0);
        assert!(spare.capacity() >= hello.len());
        // A handshake without end is ended.
        let mut endless = Session::new(server).unwrap();
        let record =
            [&[0x16, 3, 1, 0x3f, 0xff, 1, 0, 0xff, 0xff][..], &vec![0; 0x3fff - 4]].concat();
        let mut ended = false;
        for _ in 0..10 {
            ended |= endless.receive(&record, &mut inbox, &mut wire, &mut spare).is_err();
        }
        assert!(ended);
    }
}
