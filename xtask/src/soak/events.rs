//! What happens to the host meanwhile, one thing after another: flushes, reloads, scrapes, clients that
//! vanish, half uploads that are abandoned, readers that do not read, and a stop of the whole process.

use super::{Ports, sample, write_config};
use crate::Failure;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// Reloads change between these.
pub(super) const IDLE_TIMEOUTS: [&str; 2] = ["10m", "15m"];
const EVERY: Duration = Duration::from_secs(12);
/// Replies of a reader that does not read, far beyond what sockets hold.
const UNREAD_LEN: usize = 8 << 20;

type Event = fn(&mut Events, &Ports) -> Result<(), Failure>;

const EVENTS: [(&str, Event); 9] = [
    ("clients that vanish", Events::vanish),
    ("reload of the configuration (POST)", Events::reload),
    ("half uploads, abandoned", Events::half_uploads),
    ("scrape storm", Events::scrape),
    ("reload of the configuration (SIGHUP)", Events::hang_up),
    ("clients that do not read", Events::unread),
    ("reload of the plugins", Events::plugins),
    ("the process stopped for a second", Events::stopped),
    ("flush of everything", Events::flush),
];

/// The turn of events.
pub(super) struct Events {
    config: PathBuf,
    pid: u32,
    next: usize,
    reloads: usize,
}

impl Events {
    pub(super) fn new(config: PathBuf, pid: u32) -> Self {
        Self { config, pid, next: 0, reloads: 0 }
    }

    /// How often each happened.
    pub(super) fn done(&self) -> Vec<(&'static str, usize)> {
        let count = |at: usize| (self.next + EVENTS.len() - 1 - at) / EVENTS.len();
        EVENTS.iter().enumerate().map(|(at, (name, _))| (*name, count(at))).collect()
    }

    /// Lets the next one happen when it is time.
    pub(super) fn maybe(&mut self, now: Duration, ports: &Ports) -> Result<(), Failure> {
        if now < EVERY * (self.next as u32 + 1) {
            return Ok(());
        }
        let (name, event) = EVENTS[self.next % EVENTS.len()];
        self.next += 1;
        event(self, ports).map_err(|sentence| format!("{name}: {sentence}"))
    }

    fn vanish(&mut self, ports: &Ports) -> Result<(), Failure> {
        for number in 0..200 {
            let port = [ports.resp, ports.memcache, ports.momento][number % 3];
            let mut socket = connect(port)?;
            let _ = socket.write(b"*2\r\n$3\r\nGET\r\n$100\r\n");
        }
        Ok(())
    }

    fn reload(&mut self, ports: &Ports) -> Result<(), Failure> {
        self.rewrite(ports)?;
        sample::http(ports.admin, "POST", "/reload").map(drop)
    }

    fn hang_up(&mut self, ports: &Ports) -> Result<(), Failure> {
        self.rewrite(ports)?;
        crate::sys::signal_group(self.pid as i32, libc::SIGHUP);
        Ok(())
    }

    fn rewrite(&mut self, ports: &Ports) -> Result<(), Failure> {
        self.reloads += 1;
        write_config(&self.config, ports, IDLE_TIMEOUTS[self.reloads % IDLE_TIMEOUTS.len()])
    }

    fn half_uploads(&mut self, ports: &Ports) -> Result<(), Failure> {
        let half = vec![b'h'; 400_000];
        for number in 0..10 {
            let mut socket = connect(if number % 2 == 0 { ports.resp } else { ports.memcache })?;
            let head: &[u8] = if number % 2 == 0 {
                b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$900000\r\n"
            } else {
                b"set half 0 0 900000\r\n"
            };
            let _ = socket.write_all(head).and_then(|()| socket.write_all(&half));
        }
        Ok(())
    }

    fn scrape(&mut self, ports: &Ports) -> Result<(), Failure> {
        for _ in 0..40 {
            for path in ["/metrics", "/stats", "/plugins", "/config", "/"] {
                sample::http(ports.admin, "GET", path)?;
            }
        }
        Ok(())
    }

    fn unread(&mut self, ports: &Ports) -> Result<(), Failure> {
        let fail = |error: std::io::Error| error.to_string();
        let value = vec![b'u'; 1 << 20];
        let mut store = connect(ports.resp)?;
        let head = format!("*3\r\n$3\r\nSET\r\n$6\r\nunread\r\n${}\r\n", value.len());
        store.write_all(head.as_bytes()).map_err(fail)?;
        store.write_all(&value).and_then(|()| store.write_all(b"\r\n")).map_err(fail)?;
        store.read_exact(&mut [0; 5]).map_err(fail)?;
        let gets = b"*2\r\n$3\r\nGET\r\n$6\r\nunread\r\n".repeat(UNREAD_LEN / value.len());
        let mut readers = (0..4).map(|_| connect(ports.resp)).collect::<Result<Vec<_>, _>>()?;
        for reader in &mut readers {
            reader.write_all(&gets).map_err(fail)?;
        }
        // They leave with the replies half way.
        thread::sleep(Duration::from_millis(300));
        Ok(())
    }

    fn plugins(&mut self, ports: &Ports) -> Result<(), Failure> {
        sample::http(ports.admin, "POST", "/plugins/reload").map(drop)
    }

    fn stopped(&mut self, _: &Ports) -> Result<(), Failure> {
        crate::sys::signal_group(self.pid as i32, libc::SIGSTOP);
        thread::sleep(Duration::from_secs(1));
        crate::sys::signal_group(self.pid as i32, libc::SIGCONT);
        Ok(())
    }

    fn flush(&mut self, ports: &Ports) -> Result<(), Failure> {
        let mut socket = connect(ports.resp)?;
        let mut reply = [0; 5];
        socket
            .write_all(b"FLUSHALL\r\n")
            .and_then(|()| socket.read_exact(&mut reply))
            .map_err(|error| error.to_string())?;
        if &reply == b"+OK\r\n" { Ok(()) } else { Err(format!("answered {reply:?}")) }
    }
}

fn connect(port: u16) -> Result<TcpStream, Failure> {
    let socket = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    let limit = Some(Duration::from_secs(30));
    socket
        .set_read_timeout(limit)
        .and_then(|()| socket.set_write_timeout(limit))
        .map_err(|error| error.to_string())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_by_turns() {
        let mut events = Events::new(PathBuf::new(), 0);
        assert!(events.done().iter().all(|(_, count)| *count == 0));
        events.next = EVENTS.len() + 2;
        let counts: Vec<usize> = events.done().into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 2, 1, 1, 1, 1, 1, 1, 1]);
    }
}
