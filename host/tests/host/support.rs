//! Starting the program, finding plugins, talking to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Longest wait for anything; a test that needs it has failed.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_crucible-host"))
}

/// Folder of the program, where `lib<plugin>.so` is.
pub(crate) fn folder() -> &'static Path {
    program().parent().unwrap()
}

/// Folder of the fixtures.
pub(crate) fn fixtures() -> PathBuf {
    folder().join("examples")
}

/// Builds the plugins that the tests load, once; cargo does not do it for the
/// tests of another package.
pub(crate) fn plugins() -> &'static Path {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let names = ["resp", "memcache", "momento", "ping", "segcache", "slab", "heap"];
        if std::env::var_os("CRUCIBLE_PLUGINS_ARE_BUILT").is_some() {
            return;
        }
        let mut cargo = Command::new(env!("CARGO"));
        cargo.arg("build").arg("--quiet").arg("--target-dir").arg(folder().parent().unwrap());
        if folder().ends_with("release") {
            cargo.arg("--release");
        }
        for name in names {
            cargo.arg("--package").arg(format!("crucible-{name}-cdylib"));
        }
        let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(built.success(), "cargo cannot build the plugins");
    });
    folder()
}

pub(crate) struct Host {
    child: Child,
    lines: Receiver<String>,
    pub(crate) log: Mutex<Vec<String>>,
    pub(crate) addresses: Vec<String>,
}

/// A command with a clean environment.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("CRUCIBLE_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Host {
    /// Starts the program and waits until it is ready.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_command(command(args))
    }

    pub(crate) fn start_command(command: Command) -> Self {
        Self::launch(command).ready()
    }

    /// Starts the program and waits for nothing.
    pub(crate) fn launch(mut command: Command) -> Self {
        plugins();
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, log: Mutex::default(), addresses: Vec::new() }
    }

    /// Waits until it is ready, and notes where it listens.
    pub(crate) fn ready(mut self) -> Self {
        self.wait_for("ready ");
        let log = self.log.lock().unwrap();
        let listening = log.iter().filter_map(|line| {
            let rest = line.split("listening protocol=").nth(1)?;
            Some(rest.split("address=").nth(1)?.split(' ').next()?.to_owned())
        });
        self.addresses = listening.collect();
        drop(log);
        self
    }

    /// Waits for a line of the log that contains these words, and gives it.
    pub(crate) fn wait_for(&self, words: &str) -> String {
        let until = Instant::now() + LONG;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let found = line.contains(words);
                    self.log.lock().unwrap().push(line.clone());
                    if found {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {words:?} in {:#?}", self.all_lines()),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended without {words:?}: {:#?}", self.all_lines())
                }
            }
        }
    }

    pub(crate) fn all_lines(&self) -> Vec<String> {
        let mut log = self.log.lock().unwrap();
        log.extend(self.lines.try_iter());
        log.clone()
    }

    pub(crate) fn address(&self, at: usize) -> SocketAddr {
        self.addresses[at].parse().unwrap()
    }

    pub(crate) fn connect(&self, at: usize) -> Wire {
        Wire::new(TcpStream::connect(self.address(at)).unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Resident memory, KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let until = Instant::now() + LONG;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // The reader ends with the pipe.
                let mut log = self.log.lock().unwrap().clone();
                log.extend(self.lines.iter());
                return (status, log);
            }
            assert!(Instant::now() < until, "does not end: {:#?}", self.all_lines());
            std::thread::yield_now();
        }
    }

    /// Ends it with SIGTERM and insists that it drained.
    pub(crate) fn stop(self) -> Vec<String> {
        self.signal("TERM");
        let (status, log) = self.wait();
        assert_eq!(status.code(), Some(0), "{log:#?}");
        log
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the server's log: {:#?}", self.all_lines());
        }
        let _gone_is_fine = self.child.kill();
        let _gone_is_fine = self.child.wait();
    }
}

/// Runs the program to its end: exit code, standard output, standard error.
pub(crate) fn run(args: &[&str]) -> (Option<i32>, String, String) {
    plugins();
    let output = command(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Reads exactly these bytes.
    pub(crate) fn expect(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        let mut got = vec![0; bytes.len()];
        self.stream.read_exact(&mut got).unwrap();
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(bytes));
        self
    }

    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>, reply: impl AsRef<[u8]>) -> &mut Self {
        self.send(request).expect(reply)
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.last() != Some(&b'\n') {
            self.stream.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }

    pub(crate) fn read(&mut self, len: usize) -> Vec<u8> {
        let mut got = vec![0; len];
        self.stream.read_exact(&mut got).unwrap();
        got
    }

    /// Everything until the server closes.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(e) => panic!("the connection is not closed: {e}; after {} bytes", rest.len()),
        }
        rest
    }
}

/// One HTTP request; status and body.
pub(crate) fn http(
    address: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let len = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {len}\r\n\r\n{body}"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
