//! Listeners that a new process takes over.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::admin::address as admin;
use crate::support::{Host, LONG, command, http, program, run};

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn config(&self, name: &str, more: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        let socket = self.dir.path().join("takeover.sock");
        let unix = self.dir.path().join("ping.sock");
        let text = format!(
            "[workers]\nthreads = 2\n[cache]\nheap_size = \"64MiB\"\n\
             [admin]\naddress = \"127.0.0.1:0\"\n[takeover]\nsocket = {socket:?}\n{more}\n\
             [[listener]]\nprotocol = \"resp\"\naddress = \"127.0.0.1:0\"\n\
             [[listener]]\nprotocol = \"ping\"\nunix_socket = {unix:?}\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// One short visit: true when it was served.
fn visit(at: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(LONG))?;
    stream.write_all(b"PING\r\n")?;
    let mut reply = [0; 7];
    stream.read_exact(&mut reply)?;
    assert_eq!(&reply, b"+PONG\r\n");
    Ok(())
}

fn hand_over(accept: &str) {
    let place = Place::new();
    let config = place.config("c.toml", accept);
    let config = config.to_str().unwrap();
    let first = Host::start(&["--config", config]);
    let (at, http_at) = (first.address(0), admin(&first));
    let mut idle = first.connect(0);
    idle.ask("SET k 1\r\n", "+OK\r\n");

    let (over, visits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let visitors: Vec<_> = (0..4)
        .map(|_| {
            let (over, visits) = (over.clone(), visits.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    visit(at).expect("every visit is served");
                    visits.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let second = Host::start(&["--takeover", "--config", config]);
    assert_eq!(second.address(0), at);
    assert_eq!(admin(&second), http_at);
    assert_eq!(idle.rest(), b"", "the old process drains its connections");
    let (status, log) = first.wait();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    let enough = visits.load(Ordering::Relaxed) + 50;
    while visits.load(Ordering::Relaxed) < enough {
        assert!(visitors.iter().all(|v| !v.is_finished()));
        std::thread::yield_now();
    }
    over.store(true, Ordering::Relaxed);
    visitors.into_iter().for_each(|v| v.join().unwrap());
    // The store is the new one's own; the socket file and the admin server, too.
    second.connect(0).ask("GET k\r\n", "$-1\r\n");
    let unix = std::os::unix::net::UnixStream::connect(place.dir.path().join("ping.sock"));
    let mut unix = unix.unwrap();
    unix.write_all(b"PING\r\n").unwrap();
    let mut reply = [0; 6];
    unix.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"PONG\r\n");
    assert_eq!(http(&http_at, "GET", "/ready", "", "").0, 200);
    // And it hands on in its turn.
    let third = Host::start(&["--takeover", "--config", config]);
    assert_eq!(second.wait().0.code(), Some(0));
    visit(at).unwrap();
    third.stop();
}

#[test]
fn no_visit_is_refused_while_a_new_process_takes_over() {
    hand_over("[uring]\naccept = \"round-robin\"");
}

#[test]
fn nor_where_each_worker_has_a_socket_of_its_own() {
    hand_over("[uring]\naccept = \"reuse-port\"");
}

#[test]
fn a_store_that_persists_goes_with_the_listeners() {
    let place = Place::new();
    let path = place.config("c.toml", "");
    let heap = place.dir.path().join("heap");
    let text = std::fs::read_to_string(&path).unwrap();
    let warm = text.replace("[cache]\n", &format!("[cache]\npersist = {heap:?}\n"));
    std::fs::write(&path, warm).unwrap();
    let config = path.to_str().unwrap();
    let first = Host::start(&["--config", config]);
    let at = first.address(0);
    first.connect(0).ask("SET k kept\r\n", "+OK\r\n");
    let over = Arc::new(AtomicBool::new(false));
    let visitor = std::thread::spawn({
        let over = over.clone();
        move || {
            while !over.load(Ordering::Relaxed) {
                visit(at).expect("who comes between the two waits");
            }
        }
    });
    let second = Host::start(&["--takeover", "--config", config]);
    // The first has ended before the second opened the store.
    let (status, log) = first.wait();
    assert_eq!(status.code(), Some(0), "{log:#?}");
    second.connect(0).ask("GET k\r\n", "$4\r\nkept\r\n");
    over.store(true, Ordering::Relaxed);
    visitor.join().unwrap();
    second.stop();
}

#[test]
fn a_new_process_that_cannot_start_leaves_the_old_one_serving() {
    let place = Place::new();
    let config = place.config("c.toml", "");
    let first = Host::start(&["--config", config.to_str().unwrap()]);
    let broken = place.config("broken.toml", "[plugins]\ndirs = []");
    let text = std::fs::read_to_string(&broken).unwrap();
    std::fs::write(&broken, format!("{text}[listener.settings]\nline_len_max = 0\n")).unwrap();
    let (code, _, stderr) = run(&["--takeover", "--config", broken.to_str().unwrap()]);
    assert_eq!(code, Some(2), "{stderr}");
    first.wait_for("the other process went away; serving on");
    visit(first.address(0)).unwrap();
    // Whoever speaks something else gets nothing.
    let socket = place.dir.path().join("takeover.sock");
    let mut stranger = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    stranger.write_all(b"give me all\n").unwrap();
    let mut all = Vec::new();
    stranger.read_to_end(&mut all).unwrap();
    assert!(all.is_empty());
    let second = Host::start(&["--takeover", "--config", config.to_str().unwrap()]);
    assert_eq!(first.wait().0.code(), Some(0));
    second.stop();
}

#[test]
fn takeover_needs_a_socket_and_works_when_nobody_serves_yet() {
    let (code, _, stderr) = run(&["--takeover", "--plugin", "ping@127.0.0.1:0"]);
    let last = stderr.lines().last().unwrap().to_owned();
    assert_eq!(code, Some(2), "{stderr}");
    assert_eq!(last, "error: --takeover needs takeover.socket, the same in both processes");
    let place = Place::new();
    let config = place.config("c.toml", "");
    let host = Host::start(&["--takeover", "--config", config.to_str().unwrap()]);
    visit(host.address(0)).unwrap();
    host.stop();
}

#[test]
fn sockets_of_the_service_manager_are_used() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    // A visitor who comes before the server does.
    let mut early = TcpStream::connect(at).unwrap();
    early.write_all(b"PING\r\n").unwrap();
    let activated = |plugin: &str| {
        let clean = command(&[]);
        let mut shell = std::process::Command::new("sh");
        for (name, value) in clean.get_envs() {
            match value {
                None => shell.env_remove(name),
                Some(value) => shell.env(name, value),
            };
        }
        let script = "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\"";
        shell.args(["-c", script]).arg(program());
        shell.args(["--threads", "1", "--heap-size", "64MiB", "--plugin", plugin]);
        shell.stdin(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()));
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        shell
    };
    let host = Host::start_command(activated(&format!("resp@{at}")));
    let mut reply = [0; 7];
    early.set_read_timeout(Some(LONG)).unwrap();
    early.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
    drop(early);
    host.stop();
    let output = activated("resp@127.0.0.1:0").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(&format!("a socket for {at}, which no listener")), "{text}");
}
