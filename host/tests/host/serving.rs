//! Protocols over stores, as clients see them.

use crate::support::{Host, LONG, fixtures};
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

const SMALL: [&str; 4] = ["--threads", "2", "--heap-size", "64MiB"];

pub(crate) fn args<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut args = SMALL.to_vec();
    args.extend(more);
    args
}

#[test]
fn resp_and_memcache_share_one_store() {
    let host =
        Host::start(&args(&["--plugin", "resp@127.0.0.1:0", "--plugin", "memcache@127.0.0.1:0"]));
    let (mut resp, mut memcache) = (host.connect(0), host.connect(1));
    resp.ask("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n", "+OK\r\n");
    memcache.ask("get k\r\n", "VALUE k 0 5\r\nvalue\r\nEND\r\n");
    memcache.ask("set k 0 0 3\r\nnew\r\n", "STORED\r\n");
    resp.ask("GET k\r\n", "$3\r\nnew\r\n");
    host.stop();
}

#[test]
fn a_pipeline_is_answered_whole_and_in_order() {
    let host = Host::start(&args(&["--plugin", "resp@127.0.0.1:0"]));
    let mut wire = host.connect(0);
    let mut request = Vec::new();
    for i in 0..5000 {
        write!(request, "SET k{i} {i}\r\nGET k{i}\r\nNOSUCH\r\n").unwrap();
    }
    let mut stream = wire.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || stream.write_all(&request).unwrap());
    for i in 0..5000 {
        assert_eq!(wire.line(), "+OK");
        assert_eq!(wire.line(), format!("${}", i.to_string().len()));
        assert_eq!(wire.line(), i.to_string());
        assert!(wire.line().starts_with("-ERR"), "an error keeps its place");
    }
    writer.join().unwrap();
    host.stop();
}

#[test]
fn a_request_in_single_bytes_is_answered() {
    let host = Host::start(&args(&["--plugin", "resp@127.0.0.1:0"]));
    let mut wire = host.connect(0);
    for byte in b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\nbc\r\nGET a\r\n" {
        wire.send([*byte]);
    }
    wire.expect("+OK\r\n$2\r\nbc\r\n");
    host.stop();
}

#[test]
fn large_values_go_in_and_out_unchanged() {
    let host = Host::start(&args(&["--plugin", "resp@127.0.0.1:0"]));
    let mut wire = host.connect(0);
    for len in [1000usize, 16 << 10, 70_000, 1 << 20, (3 << 20) + 7] {
        let value: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
        let mut request = format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${len}\r\n").into_bytes();
        request.extend(&value);
        request.extend(b"\r\n");
        let mut stream = wire.stream.try_clone().unwrap();
        let sent = std::thread::spawn(move || stream.write_all(&request).unwrap());
        let answer = wire.line();
        sent.join().unwrap();
        if answer != "+OK" {
            assert!(answer.starts_with('-'), "{len}: {answer}");
            wire.ask("PING\r\n", "+PONG\r\n");
            continue;
        }
        assert!(len < 2 << 20 || answer == "+OK");
        for _ in 0..3 {
            wire.send("GET big\r\n");
            assert_eq!(wire.line(), format!("${len}"));
            assert!(wire.read(len) == value, "{len} bytes come back unchanged");
            wire.expect("\r\n");
        }
    }
    drop(wire);
    host.stop();
}

#[test]
fn a_client_that_half_closes_gets_all_its_replies() {
    let host = Host::start(&args(&["--plugin", "resp@127.0.0.1:0"]));
    let mut wire = host.connect(0);
    wire.send("SET a 1\r\nGET a\r\n");
    wire.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(wire.rest(), b"+OK\r\n$1\r\n1\r\n");
    host.stop();
}

#[test]
fn a_unix_socket_serves_like_an_address() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let plugin = format!("ping@unix:{}", path.display());
    let host = Host::start(&args(&["--plugin", &plugin]));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    let mut reply = [0; 6];
    std::io::Read::read_exact(&mut stream, &mut reply).unwrap();
    assert_eq!(&reply, b"PONG\r\n");
    drop(stream);
    host.stop();
}

#[test]
fn two_stores_in_one_process_do_not_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    std::fs::write(
        &path,
        "[workers]\nthreads = 1\n[cache]\nheap_size = \"64MiB\"\n\
         [backend.other]\nplugin = \"segcache\"\nheap_size = \"32MiB\"\n\
         [[listener]]\nprotocol = \"resp\"\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\nprotocol = \"resp\"\naddress = \"127.0.0.1:0\"\nbackend = \"other\"\n",
    )
    .unwrap();
    let host = Host::start(&["--config", path.to_str().unwrap()]);
    host.connect(0).ask("SET k 1\r\n", "+OK\r\n");
    host.connect(1).ask("GET k\r\n", "$-1\r\n");
    host.connect(0).ask("GET k\r\n", "$1\r\n1\r\n");
    host.stop();
}

#[test]
fn the_hosts_services_reach_a_session() {
    let hostile = fixtures().join("libhostile.so");
    let plugin = format!("{}@127.0.0.1:0", hostile.display());
    let host = Host::start(&args(&["--plugin", &plugin]));
    assert!(
        host.all_lines().iter().any(|l| l.contains(
            "hostile over segcache: 1 of 2 commands; unsupported: LPUSH (backend lacks LIST)"
        )),
        "{:#?}",
        host.all_lines()
    );
    let mut wire = host.connect(0);
    wire.expect("hello\n").ask("PING\n", "PONG\n");
    // Blocked until the timer, the wake-up: what follows waits its turn.
    wire.ask("TIMER 20\nPING\n", "timer 20\nPONG\n");
    wire.ask("OFFLOAD\nPING\n", "wake 7\nPONG\n");
    wire.ask("SKIP 5\n12345PING\n", "skipping\nPONG\n");
    wire.ask("SKIP 100000\n", "skipping\n").send(vec![b'z'; 100_000]).ask("PING\n", "PONG\n");
    wire.ask("AUTH a b\n", "None\n");
    wire.ask("LOG\n", "logged\n");
    assert!(host.wait_for("a line of the plugin").contains("plugin=\"hostile\""));
    let body: Vec<u8> = (0..300_000u32).map(|i| (i % 253) as u8).collect();
    wire.send("BODY 300000\n").send(&body).ask("\n", "ok\n");
    wire.send("GET body\n").expect("300000\n");
    assert!(wire.read(300_000) == body);
    wire.send("CLOSE\nPING\n");
    assert_eq!(wire.rest(), b"bye\n");
    host.stop();
}

#[test]
fn users_are_asked_for_on_their_listener_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let hash = crucible_host::services::users::Hashed::new(b"secret").unwrap().write();
    let hostile = fixtures().join("libhostile.so");
    let listener =
        format!("[[listener]]\nprotocol = \"{}\"\naddress = \"127.0.0.1:0\"\n", hostile.display());
    std::fs::write(
        &path,
        format!("[workers]\nthreads = 1\n[cache]\nheap_size = \"64MiB\"\n{listener}[listener.users]\nann = \"{hash}\"\n{listener}"),
    )
    .unwrap();
    let host = Host::start(&["--config", path.to_str().unwrap()]);
    let mut with = host.connect(0);
    with.expect("hello\n")
        .ask("AUTH ann secret\n", "Some(true)\n")
        .ask("AUTH ann no\n", "Some(false)\n");
    host.connect(1).expect("hello\n").ask("AUTH ann secret\n", "None\n");
    drop(with);
    host.stop();
}

#[test]
fn resp_clients_authenticate_where_there_are_users() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let hash = crucible_host::services::users::Hashed::new(b"secret").unwrap().write();
    std::fs::write(
        &path,
        format!("[workers]\nthreads = 1\n[cache]\nheap_size = \"64MiB\"\n[[listener]]\nprotocol = \"resp\"\naddress = \"127.0.0.1:0\"\n[listener.users]\ndefault = \"{hash}\"\n"),
    )
    .unwrap();
    let host = Host::start(&["--config", path.to_str().unwrap()]);
    let mut wire = host.connect(0);
    wire.send("GET k\r\n");
    assert!(wire.line().starts_with("-NOAUTH"));
    wire.send("AUTH wrong\r\n");
    assert!(wire.line().starts_with("-WRONGPASS"));
    wire.ask("AUTH secret\r\n", "+OK\r\n").ask("GET k\r\n", "$-1\r\n");
    drop(wire);
    host.stop();
}

#[test]
fn the_password_command_prints_what_users_take() {
    use std::process::Stdio;
    let mut command = crate::support::command(&["hash-password"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"secret\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    let users = std::collections::BTreeMap::from([("ann".to_owned(), line.trim().to_owned())]);
    let users = crucible_host::services::users::Users::read(&users).unwrap();
    assert_eq!(users.check(b"ann", b"secret"), Some(true));
}
