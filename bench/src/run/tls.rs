//! TLS between a connection's codec and its socket.
//!
//! Always true: what the codec reads and writes is plain, what the socket carries is not; nothing is sent
//! plain before the handshake has ended. Called by the worker; the settings come from the plan.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::config::plan::TlsPlan;

/// Plain bytes taken out of the session at once.
const READ_LEN_BYTES: usize = 16 << 10;

/// Why a run cannot use TLS as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of certificates or keys.
    #[error("{key} = {path}: {why}")]
    File {
        /// The config's key.
        key: &'static str,
        /// As configured.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// What the files hold does not fit together.
    #[error("target.tls: {0}")]
    Settings(#[from] rustls::Error),
}

/// What all connections of a run share.
#[derive(Debug, Clone)]
pub(crate) struct TlsSettings {
    config: Arc<ClientConfig>,
    /// The name to ask for and to find in the certificate, where it is not the endpoint's host.
    server_name: Option<String>,
}

impl TlsSettings {
    /// Reads the files.
    pub(crate) fn new(plan: &TlsPlan, grpc: bool) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let builder = if plan.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        } else {
            builder.with_root_certificates(roots(plan)?)
        };
        let mut config = match (&plan.certificate, &plan.key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates("target.tls_certificate", certificate)?;
                let file = |why: rustls::pki_types::pem::Error| TlsError::File {
                    key: "target.tls_key",
                    path: key.display().to_string(),
                    why: why.to_string(),
                };
                let key = PrivateKeyDer::from_pem_file(key).map_err(file)?;
                builder.with_client_auth_cert(chain, key)?
            }
            _ => builder.with_no_client_auth(),
        };
        if grpc {
            // HTTP/2 is agreed upon here or not at all.
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        Ok(Self { config: Arc::new(config), server_name: plan.server_name.clone() })
    }

    /// A blocking stream to the server of this `host:port`, for questions before a run.
    pub(super) fn stream(
        &self,
        endpoint: &str,
        socket: TcpStream,
    ) -> Result<rustls::StreamOwned<ClientConnection, TcpStream>, String> {
        Ok(rustls::StreamOwned::new(self.session(endpoint)?.session, socket))
    }

    /// A session with the server of this `host:port`.
    pub(super) fn session(&self, endpoint: &str) -> Result<Tls, String> {
        let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
        let name = self.server_name.as_deref().unwrap_or(host).trim_matches(['[', ']']);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("`{name}` is no name for a TLS server"))?;
        let mut session =
            ClientConnection::new(self.config.clone(), name).map_err(|e| e.to_string())?;
        // What is sent is bounded by the pipeline depth, not here.
        session.set_buffer_limit(None);
        Ok(Tls { session })
    }
}

/// The certificate authorities that are trusted: those of the file, or the system's.
fn roots(plan: &TlsPlan) -> Result<RootCertStore, TlsError> {
    const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";
    let path = plan.ca.clone().unwrap_or_else(|| SYSTEM.into());
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates("target.tls_ca", &path)?);
    if added == 0 {
        let path = path.display().to_string();
        let why = "holds no certificate".into();
        return Err(TlsError::File { key: "target.tls_ca", path, why });
    }
    Ok(roots)
}

fn certificates(
    key: &'static str,
    path: &std::path::Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |why: String| TlsError::File { key, path: path.display().to_string(), why };
    CertificateDer::pem_file_iter(path)
        .map_err(|e| file(e.to_string()))?
        .collect::<Result<_, _>>()
        .map_err(|e| file(e.to_string()))
}

/// One connection's session.
#[derive(Debug)]
pub(super) struct Tls {
    session: ClientConnection,
}

impl Tls {
    /// Whether plain bytes may be sent.
    pub(super) fn is_ready(&self) -> bool {
        !self.session.is_handshaking()
    }

    /// Takes what came from the socket; plain bytes are appended to `plain`.
    pub(super) fn open(&mut self, mut sealed: &[u8], plain: &mut Vec<u8>) -> Result<(), String> {
        while !sealed.is_empty() {
            self.session.read_tls(&mut sealed).map_err(|e| format!("TLS: {e}"))?;
            let state = self.session.process_new_packets().map_err(|e| format!("TLS: {e}"))?;
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let start = plain.len();
                plain.resize(start + left.min(READ_LEN_BYTES), 0);
                let read = self.session.reader().read(&mut plain[start..]);
                let n = read.map_err(|e| e.to_string())?;
                plain.truncate(start + n);
                left -= n;
            }
        }
        Ok(())
    }

    /// Replaces what stands in `out` from `from` on by its ciphertext, and appends what the session itself
    /// has to say.
    pub(super) fn seal(&mut self, out: &mut Vec<u8>, from: usize) {
        // The session's buffer is not limited and a Vec takes everything: neither can fail.
        if out.len() > from {
            let written = self.session.writer().write_all(&out[from..]);
            debug_assert!(written.is_ok());
            out.truncate(from);
        }
        while self.session.wants_write() {
            let written = self.session.write_tls(out);
            debug_assert!(written.is_ok());
        }
    }
}

/// Accepts every certificate, as `tls_insecure` asks; signatures are still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
