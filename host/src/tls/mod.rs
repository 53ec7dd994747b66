//! TLS: from the files a listener names to the configuration that its
//! connections are accepted with.
//!
//! What must always be true: a configuration is made as a whole before anything
//! serves with it, so that a reload with a bad file changes nothing; tickets of
//! one configuration are worth nothing to the next, so that nobody enters on
//! what an older certificate authority had vouched for. Called by `plan`.

pub mod session;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest, Sha256};

use crate::config::Tls;
use crate::config::value::{ClientAuth, TlsVersion};

/// Why a listener's TLS cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of the two files is missing.
    #[error("{have} without {lacks}: a certificate needs its private key and the reverse")]
    Half {
        /// The key that is set.
        have: &'static str,
        /// The key that is not.
        lacks: &'static str,
    },
    /// Settings that only mean something with a certificate.
    #[error("{key} is set, but {needs} is not")]
    Without {
        /// The key that is set.
        key: &'static str,
        /// What it needs.
        needs: &'static str,
    },
    /// A file cannot be read.
    #[error("{key} = {path:?}: {reason}")]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A cipher suite that this build does not have.
    #[error("ciphers: no suite {name:?}; known: {known}")]
    Cipher {
        /// As written.
        name: String,
        /// All that there are.
        known: String,
    },
    /// A combination that the library refuses.
    #[error("{0}")]
    Refused(#[from] rustls::Error),
}

/// What a listener accepts with.
#[derive(Clone)]
pub struct Serving {
    /// For the library.
    pub config: Arc<ServerConfig>,
    /// Digest of the settings and of the files, to tell a change.
    pub digest: [u8; 32],
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// Reads the files and makes the configuration; `None` when no certificate is
/// named. `alpn` holds unless the settings name protocols themselves.
///
/// # Errors
/// The first thing that is wrong.
pub fn serving(tls: &Tls, alpn: &[&str]) -> Result<Option<Serving>, TlsError> {
    let (cert, key) = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => (cert, key),
        (Some(_), None) => return Err(TlsError::Half { have: "cert", lacks: "key" }),
        (None, Some(_)) => return Err(TlsError::Half { have: "key", lacks: "cert" }),
        (None, None) if tls.client_ca.is_some() => {
            return Err(TlsError::Without { key: "client_ca", needs: "cert" });
        }
        (None, None) => return Ok(None),
    };
    let mut digest = Sha256::new();
    let mut read = |name: &'static str, path: &Path| {
        let bytes =
            std::fs::read(path).map_err(|e| file(name, path, &format!("cannot read it: {e}")))?;
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(&bytes);
        Ok::<_, TlsError>(bytes)
    };
    let chain = certificates("cert", cert, &read("cert", cert)?)?;
    let private = PrivateKeyDer::from_pem_slice(&read("key", key)?)
        .map_err(|e| file("key", key, &format!("no private key in PEM: {e}")))?;
    let authorities = match &tls.client_ca {
        Some(path) => Some((path, certificates("client_ca", path, &read("client_ca", path)?)?)),
        None => None,
    };
    let provider = Arc::new(provider(&tls.ciphers)?);
    let versions: &[_] = match tls.min_version {
        TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
    let builder = match &authorities {
        None => builder.with_no_client_auth(),
        Some((path, roots)) => {
            let mut store = rustls::RootCertStore::empty();
            for root in roots {
                store
                    .add(root.clone())
                    .map_err(|e| file("client_ca", path, &format!("not an authority: {e}")))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider);
            let verifier = match tls.client_auth {
                ClientAuth::Required => verifier,
                ClientAuth::Optional => verifier.allow_unauthenticated(),
            };
            let made = verifier.build().map_err(|e| file("client_ca", path, &e.to_string()))?;
            builder.with_client_cert_verifier(made)
        }
    };
    let mut config = builder.with_single_cert(chain, private).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            file("key", key, &format!("it is not the key of the certificate in {}", cert.display()))
        }
        other => TlsError::Refused(other),
    })?;
    config.alpn_protocols = match &tls.alpn {
        Some(named) => named.iter().map(|name| name.as_bytes().to_vec()).collect(),
        None => alpn.iter().map(|name| name.as_bytes().to_vec()).collect(),
    };
    // Resumption without memory for each client: tickets, under a key that
    // changes by itself and ends with this configuration.
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    digest.update(format!("{tls:?}"));
    Ok(Some(Serving { config: Arc::new(config), digest: digest.finalize().into() }))
}

fn file(key: &'static str, path: &Path, reason: &str) -> TlsError {
    TlsError::File { key, path: path.to_owned(), reason: reason.replace('\n', " ") }
}

fn certificates(
    key: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(file(key, path, "no certificate in PEM")),
        Ok(all) => Ok(all),
        Err(error) => Err(file(key, path, &format!("no certificate in PEM: {error}"))),
    }
}

/// Written name of a suite: the registry's, for both versions.
fn suite_name(suite: &rustls::SupportedCipherSuite) -> String {
    let name = suite.suite().as_str().unwrap_or("unknown");
    name.replacen("TLS13_", "TLS_", 1)
}

/// Names of all suites, the preferred ones first.
#[must_use]
pub fn suites() -> Vec<String> {
    rustls::crypto::ring::ALL_CIPHER_SUITES.iter().map(suite_name).collect()
}

fn provider(wanted: &Option<Vec<String>>) -> Result<CryptoProvider, TlsError> {
    let mut provider = rustls::crypto::ring::default_provider();
    let Some(wanted) = wanted else { return Ok(provider) };
    let mut chosen = Vec::new();
    for name in wanted {
        let found = provider.cipher_suites.iter().find(|suite| suite_name(suite) == *name);
        let Some(found) = found else {
            return Err(TlsError::Cipher { name: name.clone(), known: suites().join(", ") });
        };
        chosen.push(*found);
    }
    provider.cipher_suites = chosen;
    Ok(provider)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        dir: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            let files = Self { dir: tempfile::tempdir().unwrap() };
            for name in ["a", "b"] {
                let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
                files.write(&format!("{name}.pem"), &made.cert.pem());
                files.write(&format!("{name}.key"), &made.signing_key.serialize_pem());
            }
            files
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.path(name), text).unwrap();
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn tls(&self, cert: &str, key: &str) -> Tls {
            Tls { cert: Some(self.path(cert)), key: Some(self.path(key)), ..Tls::default() }
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_the_key_that_names_it() {
        let files = Files::new();
        files.write("empty.pem", "");
        let sentence = |tls: &Tls| serving(tls, &[]).unwrap_err().to_string();
        assert!(sentence(&files.tls("a.pem", "b.key")).contains("not the key of the certificate"));
        assert!(sentence(&files.tls("a.pem", "none.key")).starts_with("key = "));
        assert!(sentence(&files.tls("none.pem", "a.key")).contains("cannot read it"));
        assert!(sentence(&files.tls("empty.pem", "a.key")).contains("no certificate in PEM"));
        assert!(sentence(&files.tls("a.pem", "a.pem")).contains("no private key in PEM"));
        let half = Tls { key: None, ..files.tls("a.pem", "a.key") };
        assert!(sentence(&half).starts_with("cert without key"));
        let only_ca = Tls { client_ca: Some(files.path("a.pem")), ..Tls::default() };
        assert_eq!(sentence(&only_ca), "client_ca is set, but cert is not");
        let bad = Tls { ciphers: Some(vec!["RC4".into()]), ..files.tls("a.pem", "a.key") };
        assert!(sentence(&bad).contains("no suite \"RC4\"; known: TLS_AES_256_GCM_SHA384"));
        // Suites of 1.2 alone cannot serve 1.3.
        let old = Tls {
            ciphers: Some(vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".into()]),
            min_version: TlsVersion::V1_3,
            ..files.tls("a.pem", "a.key")
        };
        assert!(serving(&old, &[]).is_err());
        assert!(serving(&Tls::default(), &[]).unwrap().is_none());
    }

    #[test]
    fn the_digest_changes_with_a_file_and_with_a_setting_only() {
        let files = Files::new();
        let digest = |tls: &Tls| serving(tls, &[]).unwrap().unwrap().digest;
        let tls = files.tls("a.pem", "a.key");
        let first = digest(&tls);
        assert_eq!(first, digest(&tls));
        assert_ne!(first, digest(&Tls { min_version: TlsVersion::V1_3, ..tls.clone() }));
        for name in ["pem", "key"] {
            std::fs::copy(files.path(&format!("b.{name}")), files.path(&format!("a.{name}")))
                .unwrap();
        }
        assert_ne!(first, digest(&tls));
    }
}
