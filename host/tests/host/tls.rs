//! TLS, as clients see it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};

use crate::support::{Host, LONG, command, run};

/// Authorities, and what they signed.
struct Pki {
    dir: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let pki = Self { dir: tempfile::tempdir().unwrap() };
        pki.authority("ca", &["server", "client"]);
        pki.authority("other", &["stranger"]);
        pki
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// An authority with certificates it signed, as NAME.pem and NAME.key.
    fn authority(&self, name: &str, signed: &[&str]) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        self.write(&format!("{name}.pem"), &certificate.pem());
        let issuer = Issuer::new(params, key);
        for leaf in signed {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, *leaf);
            let certificate = params.signed_by(&key, &issuer).unwrap();
            self.write(&format!("{leaf}.pem"), &certificate.pem());
            self.write(&format!("{leaf}.key"), &key.serialize_pem());
        }
    }

    /// A configuration with one listener; `tls` is added to its table.
    fn config(&self, protocol: &str, tls: &str, more: &str) -> PathBuf {
        let path = self.path("c.toml");
        let (cert, key) = (self.path("server.pem"), self.path("server.key"));
        let text = format!(
            "[workers]\nthreads = 2\n[cache]\nheap_size = \"64MiB\"\n{more}\n\
             [[listener]]\nprotocol = \"{protocol}\"\naddress = \"127.0.0.1:0\"\n\
             [listener.tls]\ncert = {cert:?}\nkey = {key:?}\n{tls}\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn start(&self, protocol: &str, tls: &str, more: &str) -> Host {
        let path = self.config(protocol, tls, more);
        Host::start(&["--config", path.to_str().unwrap()])
    }

    fn client(&self) -> Client {
        Client { roots: vec![self.path("ca.pem")], ..Client::default() }
    }
}

/// How a client connects.
#[derive(Clone, Default)]
struct Client {
    roots: Vec<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    alpn: Vec<Vec<u8>>,
    tls12: bool,
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap).collect()
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

impl Client {
    fn config(&self) -> Arc<ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        for path in &self.roots {
            certificates(path).into_iter().for_each(|c| roots.add(c).unwrap());
        }
        let versions: &[_] =
            if self.tls12 { &[&rustls::version::TLS12] } else { rustls::ALL_VERSIONS };
        let builder =
            ClientConfig::builder_with_protocol_versions(versions).with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => builder
                .with_client_auth_cert(
                    certificates(cert),
                    PrivateKeyDer::from_pem_file(key).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = self.alpn.clone();
        Arc::new(config)
    }

    fn with(&self, name: &str, pki: &Pki) -> Self {
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        Self { identity: Some((pki.path(&cert), pki.path(&key))), ..self.clone() }
    }

    fn connect(&self, to: SocketAddr) -> Stream {
        connect(self.config(), to)
    }
}

fn connect(config: Arc<ClientConfig>, to: SocketAddr) -> Stream {
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TcpStream::connect(to).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket.set_nodelay(true).unwrap();
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), socket)
}

fn ask(stream: &mut Stream, request: &str, reply: &str) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut got = vec![0; reply.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(String::from_utf8_lossy(&got), reply);
}

/// Everything until the server closes the connection, however it does.
fn rest(socket: &mut TcpStream) -> Vec<u8> {
    socket.set_read_timeout(Some(LONG)).unwrap();
    let mut all = Vec::new();
    match socket.read_to_end(&mut all) {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(e) => panic!("not closed: {e}"),
    }
    all
}

#[test]
fn both_versions_serve_and_a_session_is_resumed() {
    let pki = Pki::new();
    let host = pki.start("resp", "", "");
    for tls12 in [false, true] {
        let config = Client { tls12, ..pki.client() }.config();
        let mut first = connect(config.clone(), host.address(0));
        ask(&mut first, "SET k 1\r\nGET k\r\n", "+OK\r\n$1\r\n1\r\n");
        assert_eq!(first.conn.handshake_kind(), Some(HandshakeKind::Full));
        let mut second = connect(config, host.address(0));
        ask(&mut second, "GET k\r\n", "$1\r\n1\r\n");
        assert_eq!(second.conn.handshake_kind(), Some(HandshakeKind::Resumed), "1.2: {tls12}");
    }
    host.stop();
}

#[test]
fn a_request_in_single_bytes_and_a_long_pipeline_are_answered() {
    let pki = Pki::new();
    let host = pki.start("resp", "", "");
    let mut stream = pki.client().connect(host.address(0));
    for byte in b"SET a bc\r\nGET a\r\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    ask(&mut stream, "", "+OK\r\n$2\r\nbc\r\n");
    let (mut request, mut reply) = (String::new(), String::new());
    for i in 0..3000 {
        request.push_str(&format!("SET k{i} {i}\r\nGET k{i}\r\n"));
        reply.push_str(&format!("+OK\r\n${}\r\n{i}\r\n", i.to_string().len()));
    }
    ask(&mut stream, &request, &reply);
    host.stop();
}

#[test]
fn large_values_go_in_and_out_unchanged_while_others_are_served() {
    let pki = Pki::new();
    let host =
        pki.start("resp", "", "[limits]\noutput_pause = \"64KiB\"\noutput_resume = \"16KiB\"");
    let mut stream = pki.client().connect(host.address(0));
    let value: Vec<u8> = (0..900_000u32).map(|i| ((i * 31) >> 7) as u8).collect();
    let head = format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n", value.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&value).unwrap();
    ask(&mut stream, "\r\nPING\r\n", "+OK\r\n+PONG\r\n");
    // Twenty replies wait for a reader who is late; the others do not.
    stream.write_all("GET big\r\n".repeat(20).as_bytes()).unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    for _ in 0..4 {
        ask(&mut pki.client().connect(host.address(0)), "PING\r\n", "+PONG\r\n");
    }
    let mut got = vec![0; value.len()];
    for _ in 0..20 {
        ask(&mut stream, "", "$900000\r\n");
        stream.read_exact(&mut got).unwrap();
        assert!(got == value);
        ask(&mut stream, "", "\r\n");
    }
    ask(&mut stream, "", "+PONG\r\n");
    // A value too large for the store is refused, and its bytes are not commands.
    let head = "*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$60000000\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..60 {
        stream.write_all(&b"FLUSHALL\r\n".repeat(100_000)).unwrap();
    }
    stream.write_all(b"\r\n").unwrap();
    let mut line = [0; 1];
    let mut text = String::new();
    while !text.ends_with("\r\n") {
        stream.read_exact(&mut line).unwrap();
        text.push(line[0] as char);
    }
    assert!(text.starts_with('-'), "{text}");
    ask(&mut stream, "STRLEN big\r\n", ":900000\r\n");
    host.stop();
}

#[test]
fn quit_after_large_replies_delivers_them_and_says_goodbye() {
    let pki = Pki::new();
    let host =
        pki.start("resp", "", "[limits]\noutput_pause = \"64KiB\"\noutput_resume = \"16KiB\"");
    let mut stream = pki.client().connect(host.address(0));
    let value = "v".repeat(500_000);
    ask(&mut stream, &format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000\r\n{value}\r\n"), "+OK\r\n");
    stream.write_all(b"GET k\r\nGET k\r\nQUIT\r\n").unwrap();
    let mut all = Vec::new();
    // Without a close_notify this is an error: a cut would look like an end.
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 2 * (500_000 + 11) + 5);
    // The client's own goodbye half-closes: what it asked before is answered.
    let mut stream = pki.client().connect(host.address(0));
    stream.write_all(b"GET k\r\n").unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 500_000 + 11);
    host.stop();
}

#[test]
fn plaintext_and_garbage_get_no_plaintext_and_harm_nobody() {
    let pki = Pki::new();
    let mut host = pki.start("resp", "", "[limits]\nmax_connections_per_address = 40");
    let mut good = pki.client().connect(host.address(0));
    ask(&mut good, "PING\r\n", "+PONG\r\n");
    let hello = {
        let mut client = ClientConnection::new(
            pki.client().config(),
            ServerName::try_from("localhost").unwrap(),
        )
        .unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        hello
    };
    let mut spoilt = hello.clone();
    spoilt[60] ^= 0xff;
    let mut seed = 7u32;
    let noise: Vec<u8> = (0..5000)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        })
        .collect();
    let tables: [&[u8]; 6] = [
        b"PING\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        &noise,
        &[&hello[..], &noise[..]].concat(),
        &[0x16, 3, 1, 0xff, 0xff, 1, 0, 0, 0],
        &spoilt,
    ];
    for bytes in tables {
        let mut socket = TcpStream::connect(host.address(0)).unwrap();
        socket.write_all(bytes).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = rest(&mut socket);
        // Nothing, or records: handshake, cipher change, alert, data.
        assert!(answer.is_empty() || (20..=23).contains(&answer[0]), "{answer:?}");
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.contains("PONG") && !text.contains("ERR"), "{text}");
    }
    // A hello in single bytes is a hello.
    let mut client =
        ClientConnection::new(pki.client().config(), ServerName::try_from("localhost").unwrap())
            .unwrap();
    let mut socket = TcpStream::connect(host.address(0)).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    for byte in hello {
        socket.write_all(&[byte]).unwrap();
    }
    ask(&mut StreamOwned::new(client, socket), "PING\r\n", "+PONG\r\n");
    ask(&mut good, "PING\r\n", "+PONG\r\n");
    // Over the limit of connections nothing is said in the clear.
    let held: Vec<_> = (0..39).map(|_| TcpStream::connect(host.address(0)).unwrap()).collect();
    let mut over = TcpStream::connect(host.address(0)).unwrap();
    assert_eq!(rest(&mut over), b"");
    drop(held);
    assert!(host.is_alive());
    host.stop();
}

#[test]
fn a_handshake_that_is_slow_or_one_too_many_is_ended() {
    let pki = Pki::new();
    let host = pki.start("resp", "handshake_timeout = \"3s\"\nhandshakes_max = 3", "");
    let address = host.address(0);
    let mut slow: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    slow[0].write_all(&[0x16]).unwrap();
    let mut fourth = TcpStream::connect(address).unwrap();
    assert_eq!(rest(&mut fourth), b"");
    for socket in &mut slow {
        assert_eq!(rest(socket), b"");
    }
    // Their places are free again, and done handshakes hold none.
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut stream = pki.client().connect(address);
        ask(&mut stream, "PING\r\n", "+PONG\r\n");
        open.push(stream);
    }
    host.stop();
}

#[test]
fn a_client_without_a_good_certificate_is_refused_where_one_is_needed() {
    let pki = Pki::new();
    let ca = format!("client_ca = {:?}", pki.path("ca.pem"));
    let host = pki.start("resp", &ca, "");
    let refused = |client: &Client| {
        let mut stream = client.connect(host.address(0));
        let _in_1_3_the_client_may_write_first = stream.write_all(b"PING\r\n");
        let mut byte = [0; 1];
        assert!(stream.read_exact(&mut byte).is_err(), "served {}", byte[0] as char);
    };
    let client = pki.client();
    for tls12 in [false, true] {
        let client = Client { tls12, ..client.clone() };
        refused(&client);
        refused(&client.with("stranger", &pki));
        let mut known = client.with("client", &pki).connect(host.address(0));
        ask(&mut known, "PING\r\n", "+PONG\r\n");
    }
    assert!(host.wait_for("a TLS connection failed").contains("error="));
    host.stop();

    let host = pki.start("resp", &format!("{ca}\nclient_auth = \"optional\""), "");
    ask(&mut client.connect(host.address(0)), "PING\r\n", "+PONG\r\n");
    let mut stream = client.with("stranger", &pki).connect(host.address(0));
    let _as_above = stream.write_all(b"PING\r\n");
    assert!(stream.read_exact(&mut [0; 1]).is_err());
    host.stop();
}

#[test]
fn the_oldest_version_and_the_suites_are_as_configured() {
    let pki = Pki::new();
    let host = pki.start(
        "resp",
        "min_version = \"1.3\"\nciphers = [\"TLS_CHACHA20_POLY1305_SHA256\"]",
        "",
    );
    let mut stream = pki.client().connect(host.address(0));
    ask(&mut stream, "PING\r\n", "+PONG\r\n");
    let suite = stream.conn.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    let mut old = Client { tls12: true, ..pki.client() }.connect(host.address(0));
    assert!(old.write_all(b"PING\r\n").and_then(|()| old.read_exact(&mut [0; 1])).is_err());
    host.stop();
}

#[test]
fn alpn_is_h2_for_momento_and_what_is_written_for_others() {
    let pki = Pki::new();
    let asked = Client { alpn: vec![b"h2".to_vec(), b"x".to_vec()], ..pki.client() };
    let agreed = |host: &Host| {
        let mut stream = asked.connect(host.address(0));
        stream.conn.complete_io(&mut stream.sock).unwrap();
        stream.conn.alpn_protocol().map(<[u8]>::to_vec)
    };
    let host = pki.start("momento", "", "");
    assert_eq!(agreed(&host), Some(b"h2".to_vec()));
    host.stop();
    let host = pki.start("ping", "alpn = [\"x\"]", "");
    assert_eq!(agreed(&host), Some(b"x".to_vec()));
    host.stop();
    let host = pki.start("ping", "", "");
    assert_eq!(agreed(&host), None);
    host.stop();
}

#[test]
fn a_reload_takes_new_certificates_for_new_connections_and_keeps_the_old_ones() {
    let pki = Pki::new();
    let host = pki.start("resp", "", "");
    let config = pki.client().config();
    let mut old = connect(config.clone(), host.address(0));
    ask(&mut old, "SET k 1\r\n", "+OK\r\n");
    let shown = |stream: &Stream| stream.conn.peer_certificates().unwrap()[0].clone();
    // Nothing has changed: tickets stay good.
    host.signal("HUP");
    host.wait_for("nothing has changed");
    let mut again = connect(config.clone(), host.address(0));
    ask(&mut again, "GET k\r\n", "$1\r\n1\r\n");
    assert_eq!(again.conn.handshake_kind(), Some(HandshakeKind::Resumed));
    // A file that is no certificate changes nothing.
    let good = std::fs::read(pki.path("server.pem")).unwrap();
    pki.write("server.pem", "not a certificate");
    host.signal("HUP");
    assert!(host.wait_for("not reloaded: ").contains("no certificate in PEM"));
    ask(&mut connect(config.clone(), host.address(0)), "GET k\r\n", "$1\r\n1\r\n");
    std::fs::write(pki.path("server.pem"), good).unwrap();
    pki.authority("ca", &["server"]);
    host.signal("HUP");
    let line = host.wait_for("reloaded changed=");
    assert!(line.contains("TLS of 127.0.0.1:0"), "{line}");
    ask(&mut old, "GET k\r\n", "$1\r\n1\r\n");
    let mut new = pki.client().connect(host.address(0));
    ask(&mut new, "GET k\r\n", "$1\r\n1\r\n");
    assert_ne!(shown(&old), shown(&new));
    let mut stale = connect(config, host.address(0));
    assert!(stale.write_all(b"PING\r\n").is_err(), "the old authority signed nothing here");
    // Encryption itself does not come and go.
    let text = std::fs::read_to_string(pki.path("c.toml")).unwrap();
    std::fs::write(pki.path("c.toml"), text.split("[listener.tls]").next().unwrap()).unwrap();
    host.signal("HUP");
    let line = host.wait_for("not reloaded: ");
    assert!(
        line.contains("cannot change while serving (from encrypted to in the clear)"),
        "{line}"
    );
    host.stop();
}

#[test]
fn a_drain_ends_open_connections_and_handshakes_under_way() {
    let pki = Pki::new();
    let host = pki.start("resp", "", "");
    let mut idle = pki.client().connect(host.address(0));
    ask(&mut idle, "PING\r\n", "+PONG\r\n");
    let mut half = TcpStream::connect(host.address(0)).unwrap();
    half.write_all(&[0x16, 3, 1]).unwrap();
    for _ in 0..4 {
        ask(&mut pki.client().connect(host.address(0)), "PING\r\n", "+PONG\r\n");
    }
    host.signal("TERM");
    let mut end = Vec::new();
    idle.read_to_end(&mut end).expect("a close_notify");
    assert_eq!(rest(&mut half), b"");
    let (status, log) = host.wait();
    assert_eq!(status.code(), Some(0), "{log:#?}");
}

#[test]
fn the_admin_server_speaks_tls() {
    let pki = Pki::new();
    let (cert, key) = (pki.path("server.pem"), pki.path("server.key"));
    let admin =
        format!("[admin]\naddress = \"127.0.0.1:0\"\ntls = {{ cert = {cert:?}, key = {key:?} }}");
    let host = pki.start("resp", "", &admin);
    let log = host.all_lines();
    let line = log.iter().find(|l| l.contains("the admin server listens")).unwrap();
    let at = line.split("address=").nth(1).unwrap().split(' ').next().unwrap();
    let at: SocketAddr = at.trim_matches('"').parse().unwrap();
    let get = |path: &str| {
        let mut stream = pki.client().connect(at);
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    assert!(get("/health").starts_with("HTTP/1.1 200"));
    assert!(get("/stats").contains("\"tls_handshakes\":0"));
    ask(&mut pki.client().connect(host.address(0)), "PING\r\n", "+PONG\r\n");
    assert!(get("/metrics").contains("crucible_tls_handshakes"));
    let mut clear = TcpStream::connect(at).unwrap();
    clear.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(!String::from_utf8_lossy(&rest(&mut clear)).contains("200"));
    host.stop();
}

#[test]
fn a_listener_whose_tls_cannot_be_made_is_refused_in_one_sentence() {
    let pki = Pki::new();
    for (tls, words) in [
        ("client_ca = \"/nowhere\"", "tls: client_ca = \"/nowhere\": cannot read it"),
        ("ciphers = \"RC4\"", "tls: ciphers: no suite \"RC4\"; known: TLS_AES_256_GCM_SHA384"),
        ("min_version = \"1.1\"", "expected one of \"1.2\" \"1.3\""),
        ("colour = 1", "unknown key tls.colour = 1"),
        ("handshake_timeout = \"0\"", "a handshake must end"),
    ] {
        let path = pki.config("resp", tls, "");
        let (code, _, stderr) = run(&["--config", path.to_str().unwrap(), "--check-config"]);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(words), "{stderr}\n{words}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    // What is printed is a configuration that encrypts just so.
    let path = pki.config("resp", "min_version = \"1.3\"", "");
    let (code, stdout, stderr) = run(&["--config", path.to_str().unwrap(), "--print-config"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("tls.min_version = \"1.3\""), "{stdout}");
    pki.write("printed.toml", &stdout);
    let printed = pki.path("printed.toml");
    let output =
        command(&["--config", printed.to_str().unwrap(), "--print-config"]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), stdout);
}
