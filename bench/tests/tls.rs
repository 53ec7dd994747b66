//! TLS and logins: what is configured is spoken, and what does not fit is refused in a sentence.
//!
//! Always true: certificates are made for the test and live as long as its directory. Called by
//! `cargo test`.

mod common;

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use common::{Fault, Ran, Server, over, run_short, scripted, server};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// An authority, what it issued, and the files that the generator reads.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        let certificate = certificate.der().clone();
        Self { issuer: Issuer::new(params, key), certificate, dir }
    }

    /// A certificate for this name, and its key.
    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn ca(&self) -> String {
        self.dir.path().join("ca.pem").display().to_string()
    }

    /// A sealed server whose certificate is for `name`.
    fn server(&self, fault: Fault, name: &str, asks_for_certificates: bool) -> Server {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if asks_for_certificates {
            let mut roots = RootCertStore::empty();
            roots.add(self.certificate.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = self.issue(name);
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config =
            Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        over(fault, listener, Vec::new(), move |socket: TcpStream| {
            Some(StreamOwned::new(ServerConnection::new(config.clone()).ok()?, socket))
        })
    }
}

const HASTY: [&str; 4] = ["--connect-timeout", "2s", "--request-timeout", "1s"];

fn sealed(server: &Server, arguments: &[&str]) -> Ran {
    run_short(server, &[&["--tls"], arguments].concat())
}

#[test]
fn a_sealed_run_verifies_every_value_at_any_size_and_depth() {
    let authority = Authority::new();
    let server = authority.server(Fault::None, "127.0.0.1", false);
    for more in [&["-P", "8"][..], &["-d", "40000"], &["--protocol", "resp3", "--rate", "500"]] {
        let ran = sealed(&server, &[&["--tls-ca", &authority.ca()], more].concat());
        assert_eq!(ran.code, 0, "{more:?}: {}", ran.said);
        assert!(ran.count("verified") > 0 && ran.count("verified") >= ran.count("hits"));
        assert!(ran.count("responses") > 0 && ran.count("errors") == 0);
    }
}

#[test]
fn faults_behind_tls_are_found_as_without() {
    let authority = Authority::new();
    let server = authority.server(Fault::Torn(50), "127.0.0.1", false);
    let ran = sealed(&server, &["--tls-ca", &authority.ca()]);
    assert_eq!(ran.code, 1);
    assert!(ran.count("torn") > 0, "{}", ran.said);
}

#[test]
fn a_server_that_nobody_vouches_for_is_refused_unless_any_will_do() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = authority.server(Fault::None, "127.0.0.1", false);
    let ran = sealed(&server, &[&HASTY[..], &["--tls-ca", &stranger.ca()]].concat());
    assert_eq!(ran.code, 1);
    assert!(ran.said.contains("certificate"), "{}", ran.said);
    assert_eq!(sealed(&server, &["--tls-insecure"]).code, 0);
}

#[test]
fn the_certificate_must_name_the_server_or_what_was_asked_for() {
    let authority = Authority::new();
    let server = authority.server(Fault::None, "cache.example.com", false);
    let ca = authority.ca();
    let ran = sealed(&server, &[&HASTY[..], &["--tls-ca", &ca]].concat());
    assert_eq!(ran.code, 1);
    assert!(ran.said.contains("not valid for name"), "{}", ran.said);
    let named = ["--tls-ca", &ca, "--tls-server-name", "cache.example.com"];
    assert_eq!(sealed(&server, &named).code, 0);
}

#[test]
fn a_server_that_asks_for_a_certificate_is_given_the_configured_one() {
    let authority = Authority::new();
    let server = authority.server(Fault::None, "127.0.0.1", true);
    let ca = authority.ca();
    let without = sealed(&server, &[&HASTY[..], &["--tls-ca", &ca]].concat());
    assert_eq!(without.code, 1, "{}", without.said);
    let (certificate, key) = authority.issue("client");
    let certificate = authority.file("client.pem", &certificate.pem());
    let key = authority.file("client.key", &key.serialize_pem());
    let with = ["--tls-ca", &ca, "--tls-certificate", &certificate, "--tls-key", &key];
    let ran = sealed(&server, &with);
    assert_eq!(ran.code, 0, "{}", ran.said);
}

#[test]
fn a_plain_server_and_unreadable_files_are_named() {
    let ran = sealed(&server(Fault::None), &[&HASTY[..], &["--tls-insecure"]].concat());
    assert_eq!(ran.code, 1, "{}", ran.said);
    let ran = sealed(&server(Fault::None), &["--tls-ca", "/nonexistent.pem"]);
    assert!(ran.code != 0 && ran.said.contains("/nonexistent.pem"), "{}", ran.said);
}

#[test]
fn a_login_comes_before_anything_else_on_every_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = scripted(Fault::None, listener, vec![("AUTH".into(), b"+OK\r\n".to_vec())]);
    let ran = run_short(&server, &["--username", "me", "--password", "secret"]);
    assert_eq!(ran.code, 0, "{}", ran.said);
    assert_eq!(server.seen.commands.lock().unwrap()["AUTH"], 4);
    assert!(!ran.lines.iter().any(|line| line.to_string().contains("secret")));
}

#[test]
fn a_refused_login_is_told_in_the_servers_words() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusal = b"-WRONGPASS invalid username-password pair\r\n".to_vec();
    let server = scripted(Fault::None, listener, vec![("AUTH".into(), refusal)]);
    let ran = run_short(&server, &[&HASTY[..], &["--password", "wrong"]].concat());
    assert_eq!(ran.code, 1);
    assert!(
        ran.said.contains("login was refused") && ran.said.contains("WRONGPASS"),
        "{}",
        ran.said
    );
}
