//! The servers that are compared: how each is started on one CPU, and what the kernel says it used.
//! A server is killed when its value is dropped; its CPU time covers all of its threads.

use super::resp;
use super::tape::Wire;
use crate::process::Guard;
use crate::{Failure, install, paths};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take from its start to its first accepted connection.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Memory each store may use unless told otherwise: enough for every workload's keys.
const STORE_MIB: usize = 1024;

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// crucible-host with its plugins loaded.
    Crucible,
    /// crucible-host with the same plugins linked in: what the plugin boundary costs.
    Static,
    /// kompio's fixed-reply example: what the event loop and the kernel cost.
    Floor,
    /// Debian's redis-server.
    Redis,
    /// Debian's memcached.
    Memcached,
    /// A hash map behind tonic: `bench/tonic-server`.
    Tonic,
}

/// How every server of a comparison is started.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// The CPU they share.
    pub(crate) cpu: usize,
    /// What our host keeps values in.
    pub(crate) backend: &'a str,
    /// Memory that a store may use, in MiB.
    pub(crate) store_mib: usize,
    /// Whether our host speaks Momento too; the one with linked plugins cannot.
    pub(crate) momento: bool,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { cpu: 0, backend: "segcache", store_mib: STORE_MIB, momento: false }
    }
}

impl Kind {
    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Crucible => "crucible",
            Kind::Static => "crucible-static",
            Kind::Floor => "floor",
            Kind::Redis => "redis-server",
            Kind::Memcached => "memcached",
            Kind::Tonic => "tonic",
        }
    }

    /// Whether this server can be asked in the protocol.
    pub(crate) fn speaks(self, wire: Wire) -> bool {
        match self {
            Kind::Crucible | Kind::Static => true,
            Kind::Tonic => false,
            Kind::Floor | Kind::Redis => wire == Wire::Resp,
            Kind::Memcached => wire == Wire::Memcache,
        }
    }

    /// Whether it keeps what it is sent in the protocol.
    pub(crate) fn stores(self, wire: Wire) -> bool {
        self != Kind::Floor && self.speaks(wire)
    }
}

/// A running server.
pub(crate) struct Server {
    /// What it is.
    pub(crate) kind: Kind,
    /// Bytes of the floor's fixed value; the others store what they are sent.
    pub(crate) value_len_bytes: usize,
    guard: Guard,
    resp: SocketAddr,
    memcache: SocketAddr,
    momento: SocketAddr,
}

impl Server {
    /// Starts a server on one CPU and waits until it accepts.
    pub(crate) fn start(
        kind: Kind,
        setup: Setup<'_>,
        value_len_bytes: usize,
    ) -> Result<Self, Failure> {
        let (resp, memcache, momento) = (free_address()?, free_address()?, free_address()?);
        let cpu = setup.cpu;
        let mut listeners = vec![("resp", resp), ("memcache", memcache)];
        if setup.momento {
            listeners.push(("momento", momento));
        }
        let mut command = match kind {
            Kind::Crucible => host(&paths::release_dir(), setup, &listeners),
            Kind::Static => host(&static_dir().join("release"), setup, &listeners),
            Kind::Floor => floor(cpu, resp, value_len_bytes),
            Kind::Tonic => tonic(momento),
            Kind::Redis => redis(resp, setup)?,
            Kind::Memcached => memcached(memcache)?,
        };
        let log = log_file(kind)?;
        let errors = log.try_clone().map_err(|error| format!("log file: {error}"))?;
        command.stdout(Stdio::from(log)).stderr(Stdio::from(errors));
        let guard = Guard::start(kind.name(), &mut command, Some(cpu))?;
        let mut server = Self { kind, value_len_bytes, guard, resp, memcache, momento };
        for wire in [Wire::Resp, Wire::Memcache] {
            if kind.speaks(wire) {
                server.wait_until_it_accepts(server.address(wire))?;
            }
        }
        if setup.momento || kind == Kind::Tonic {
            server.wait_until_it_accepts(server.momento)?;
        }
        Ok(server)
    }

    /// Where the server listens for a protocol.
    pub(crate) fn address(&self, wire: Wire) -> SocketAddr {
        match wire {
            Wire::Resp => self.resp,
            Wire::Memcache => self.memcache,
        }
    }

    /// Where the server listens for Momento, in both of its transports.
    pub(crate) fn momento(&self) -> SocketAddr {
        self.momento
    }

    /// The process id, valid while the server lives.
    pub(crate) fn pid(&self) -> u32 {
        self.guard.pid()
    }

    /// Nanoseconds of CPU that all threads of the server have used, by the scheduler's account.
    pub(crate) fn cpu_ns(&self) -> Result<u64, Failure> {
        let tasks = format!("/proc/{}/task", self.guard.pid());
        let fail = |error| format!("{} ended during the measurement: {error}", self.kind.name());
        let mut total = 0;
        for task in fs::read_dir(&tasks).map_err(fail)? {
            let file = task.map_err(fail)?.path().join("schedstat");
            // A thread that ends between the listing and the reading takes its account with it.
            let Ok(text) = fs::read_to_string(&file) else { continue };
            total += on_cpu_ns(&text).ok_or_else(|| {
                format!(
                    "{} holds no CPU time: a kernel with CONFIG_SCHED_INFO is needed",
                    file.display()
                )
            })?;
        }
        Ok(total)
    }

    /// What the server answers to a GET, whole: the floor says the same every time.
    pub(crate) fn first_reply_to_get(&self) -> Result<Vec<u8>, Failure> {
        let fail = |error| format!("asking {}: {error}", self.kind.name());
        let mut stream = TcpStream::connect(self.resp).map_err(fail)?;
        stream.set_read_timeout(Some(START_LIMIT)).map_err(fail)?;
        let mut request = Vec::new();
        resp::push_command(&mut request, &["GET", "key:000000000000"]);
        stream.write_all(&request).map_err(fail)?;
        let mut reply = vec![0; 64 << 10];
        let mut have = 0;
        loop {
            have += match stream.read(&mut reply[have..]).map_err(fail)? {
                0 => return Err(format!("{} closed instead of answering", self.kind.name())),
                count => count,
            };
            if let Some(len) = resp::reply_len(&reply[..have])? {
                reply.truncate(len);
                return Ok(reply);
            }
            if have == reply.len() {
                reply.resize(2 * have, 0);
            }
        }
    }

    fn wait_until_it_accepts(&mut self, address: SocketAddr) -> Result<(), Failure> {
        let start = Instant::now();
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            if let Some(status) = self.guard.ended() {
                let said = fs::read_to_string(log_path(self.kind)).unwrap_or_default();
                return Err(format!("{} ended at start ({status}):\n{said}", self.kind.name()));
            }
            if start.elapsed() > START_LIMIT {
                let limit = START_LIMIT.as_secs();
                return Err(format!(
                    "{} does not accept on {address} after {limit} s",
                    self.kind.name()
                ));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// The first field of a schedstat line: time on a CPU in nanoseconds.
fn on_cpu_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// A loopback address nobody listens on now.
fn free_address() -> Result<SocketAddr, Failure> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("no free port: {error}"))
}

fn log_path(kind: Kind) -> PathBuf {
    paths::tools_dir().join(format!("compare-{}.log", kind.name()))
}

fn log_file(kind: Kind) -> Result<fs::File, Failure> {
    let path = log_path(kind);
    fs::create_dir_all(paths::tools_dir())
        .and_then(|()| fs::File::create(&path))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Where the statically linked host is built: its features must not disturb the usual build.
pub(crate) fn static_dir() -> PathBuf {
    paths::tools_dir().join("static")
}

fn host(dir: &std::path::Path, setup: Setup<'_>, listeners: &[(&str, SocketAddr)]) -> Command {
    let mut command = Command::new(dir.join("crucible-host"));
    for (plugin, address) in listeners {
        command.args(["--plugin", &format!("{plugin}@{address}")]);
    }
    command
        .args(["--backend", setup.backend, "--threads", "1"])
        .args(["--cpu-affinity", &setup.cpu.to_string()])
        .args(["--heap-size", &format!("{}MiB", setup.store_mib)]);
    command
}

/// Where the server of tonic is built: it is in no workspace.
pub(crate) fn tonic_dir() -> PathBuf {
    paths::tools_dir().join("tonic-server")
}

fn tonic(address: SocketAddr) -> Command {
    let mut command = Command::new(tonic_dir().join("release/tonic-server"));
    command.arg(address.port().to_string());
    command
}

fn floor(cpu: usize, address: SocketAddr, value_len_bytes: usize) -> Command {
    let mut command = Command::new(paths::release_dir().join("examples/floor"));
    command.args(["--port", &address.port().to_string(), "--cpu", &cpu.to_string()]);
    command.args(["--value-bytes", &value_len_bytes.to_string()]);
    command
}

fn redis(address: SocketAddr, setup: Setup<'_>) -> Result<Command, Failure> {
    let mut command = Command::new(install::find("redis-server").ok_or("redis-server is missing")?);
    command
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
        .args(["--maxmemory", &format!("{}mb", setup.store_mib), "--dir", "/tmp"]);
    Ok(command)
}

fn memcached(address: SocketAddr) -> Result<Command, Failure> {
    let mut command = Command::new(install::find("memcached").ok_or("memcached is missing")?);
    command
        .args(["-l", "127.0.0.1", "-p", &address.port().to_string(), "-U", "0", "-t", "1"])
        .args(["-m", &STORE_MIB.to_string(), "-c", "4096", "-I", "8m", "-u", "root"]);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_field_of_schedstat_is_the_time_on_a_cpu() {
        assert_eq!(on_cpu_ns("123456789 1000 17\n"), Some(123_456_789));
        assert_eq!(on_cpu_ns(""), None);
    }
}
