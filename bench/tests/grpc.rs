//! Momento over gRPC against a small server of the h2 crate: values verified, refusals told, sealed too.
//!
//! Always true: the server answers truly what it was given to store. Called by `cargo test`.

mod common;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::{PATIENT, Ran, SHORT, generator};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

type Store = Arc<Mutex<HashMap<Bytes, Bytes>>>;

/// A field of bytes; the lengths here have at most four digits to the base of 128.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut n = bytes.len();
    while n >= 128 {
        out.push(n as u8 | 128);
        n >>= 7;
    }
    out.push(n as u8);
    [out, bytes.to_vec()].concat()
}

/// The first two fields of bytes of a request.
fn read(mut message: &[u8]) -> Vec<Bytes> {
    let mut fields = Vec::new();
    while let Some((2, rest)) = message.split_first().map(|(tag, rest)| (tag & 7, rest)) {
        let (mut len, mut at, mut shift) = (0, 0, 0);
        loop {
            len |= usize::from(rest[at] & 127) << shift;
            shift += 7;
            at += 1;
            if rest[at - 1] < 128 {
                break;
            }
        }
        fields.push(Bytes::copy_from_slice(&rest[at..at + len]));
        message = &rest[at + len..];
    }
    fields
}

fn answer(path: &str, message: &[u8], store: &Store) -> Vec<u8> {
    let fields = read(message);
    let mut store = store.lock().unwrap();
    match path {
        "/cache_client.Scs/Get" => match store.get(&fields[0]) {
            Some(value) => [vec![8, 2], field(2, value)].concat(),
            None => vec![8, 3],
        },
        "/cache_client.Scs/Set" => {
            store.insert(fields[0].clone(), fields[1].clone());
            vec![8, 1]
        }
        "/cache_client.Scs/Delete" => {
            store.remove(&fields[0]);
            Vec::new()
        }
        other => panic!("{other} was called"),
    }
}

async fn call(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    store: Store,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    assert_eq!(head.headers["cache"], "mine");
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        message.extend_from_slice(&data);
    }
    let response = Response::builder().header("content-type", "application/grpc");
    if head.headers.get("authorization").is_none_or(|token| token != "secret") {
        let refusal = response.header("grpc-status", "16").header("grpc-message", "who is it");
        respond.send_response(refusal.body(()).unwrap(), true)?;
        return Ok(());
    }
    let reply = answer(head.uri.path(), &message[5..], &store);
    let mut stream = respond.send_response(response.body(()).unwrap(), false)?;
    // One piece: an empty one behind the head, as an empty message's would be, is held to be an attack.
    let message = [&[0][..], &(reply.len() as u32).to_be_bytes(), &reply].concat();
    stream.send_data(message.into(), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    stream.send_trailers(trailers)
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, store: Store) {
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        // A client that ends in the middle of a call is no fault of the server.
        tokio::spawn(call(request, respond, store.clone()));
    }
}

/// Starts a server; it ends with the test process.
fn server(sealed: bool) -> SocketAddr {
    let acceptor = sealed.then(|| {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            listener.set_nonblocking(true).unwrap();
            let (listener, store) = (TcpListener::from_std(listener).unwrap(), Store::default());
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, store) = (acceptor.clone(), store.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(socket, store).await,
                        Some(acceptor) => {
                            if let Ok(socket) = acceptor.accept(socket).await {
                                serve(socket, store).await;
                            }
                        }
                    }
                });
            }
        });
    });
    address
}

fn run(address: SocketAddr, arguments: &[&str]) -> Ran {
    let endpoint = address.to_string();
    let base = ["--endpoints", &endpoint, "--protocol", "momento-grpc", "--cache", "mine"];
    let more = ["--json", "-", "--table", "none", "--keys", "50", "-c", "4"];
    Ran::of(
        &generator()
            .args(base)
            .args(more)
            .args(PATIENT)
            .args(SHORT)
            .args(arguments)
            .output()
            .unwrap(),
    )
}

#[test]
fn values_of_any_size_come_back_over_grpc_plain_and_sealed() {
    for sealed in [false, true] {
        let address = server(sealed);
        for size in ["64", "300000"] {
            let mut arguments = vec!["--token", "secret", "-d", size];
            arguments.extend(["--commands", "get=7,set=2,delete=1"]);
            if sealed {
                arguments.extend(["--tls", "--tls-insecure"]);
            }
            let ran = run(address, &arguments);
            assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.said);
            assert!(ran.count("hits") > 0 && ran.count("misses") > 0 && ran.count("errors") == 0);
            assert!(ran.count("verified") > 0);
        }
    }
}

#[test]
fn many_calls_share_a_connection() {
    let ran = run(server(false), &["--token", "secret", "-P", "64", "--commands", "get=8,set=2"]);
    assert_eq!(ran.code, 0, "{}", ran.said);
    assert!(ran.count("verified") > 0 && ran.count("errors") == 0, "{}", ran.said);
}

/// For runs that cannot begin: they are given up after this.
const HASTY: [&str; 4] = ["--connect-timeout", "2s", "--request-timeout", "1s"];

#[test]
fn a_refused_call_is_told_in_the_servers_words() {
    let ran = run(server(false), &[&HASTY[..], &["--token", "wrong"]].concat());
    assert_eq!(ran.code, 1);
    assert!(ran.said.contains("who is it"), "{}", ran.said);
}

#[test]
fn a_server_that_speaks_no_http_is_named() {
    let server = common::server(common::Fault::Garbage(1));
    let ran = run(server.address, &[&HASTY[..], &["--token", "secret"]].concat());
    assert_eq!(ran.code, 1, "{}", ran.said);
}
