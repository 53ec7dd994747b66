//! What the host holds at a moment: of the process from `/proc`, of itself from the admin server.
//! Called by the soak, a few times a minute.

use super::Ports;
use crate::Failure;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Items that are stored and counted at the end.
const COUNTED: usize = 1_000;

/// Where samples come from.
pub(super) struct Sampler {
    pub(super) pid: u32,
    pub(super) admin: u16,
}

/// One moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub(super) at: Duration,
    pub(super) rss_bytes: u64,
    pub(super) descriptors: u64,
    pub(super) threads: u64,
    pub(super) cpu_us: u64,
    pub(super) connections: u64,
    pub(super) sessions: u64,
    pub(super) pinned_values: u64,
    pub(super) bodies: u64,
    pub(super) panics: u64,
    pub(super) store: Store,
    pub(super) heap: Store,
    /// Segments by state, as the store names them, and how many there are.
    pub(super) segments: Vec<(String, u64)>,
    pub(super) segment_limit: u64,
}

/// One store at a moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) items: u64,
    pub(super) item_bytes: u64,
    pub(super) used_bytes: u64,
    pub(super) limit_bytes: u64,
    pub(super) pins: u64,
    pub(super) evicted: u64,
    pub(super) expired: u64,
    pub(super) no_memory: u64,
}

impl Sample {
    /// No client is there, and nothing is lent to one.
    pub(super) fn is_at_rest(&self) -> bool {
        self.connections == 0
            && self.sessions == 0
            && self.pinned_values == 0
            && self.bodies == 0
            && self.store.pins == 0
    }
}

impl Sampler {
    /// Asks for everything once.
    pub(super) fn take(&self, at: Duration) -> Result<Sample, Failure> {
        let stats = json(self.admin, "GET", "/stats")?;
        let segments = &stats["segments"]["cache"];
        let process = &stats["process"];
        let states = segments.as_object().into_iter().flatten();
        let states = states
            .filter_map(|(name, value)| {
                Some((name.strip_prefix("state_")?.to_owned(), number(value)))
            })
            .collect();
        let folder = format!("/proc/{}", self.pid);
        let fail = |error: std::io::Error| format!("{folder}: {error}");
        let status = fs::read_to_string(format!("{folder}/status")).map_err(fail)?;
        let line = |mark: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(mark));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Ok(Sample {
            at,
            rss_bytes: line("VmRSS:") << 10,
            descriptors: fs::read_dir(format!("{folder}/fd")).map_err(fail)?.count() as u64,
            threads: line("Threads:"),
            cpu_us: number(&process["cpu_user_us"]) + number(&process["cpu_sys_us"]),
            connections: number(&process["connections_current"]),
            sessions: number(&stats["sessions"]),
            pinned_values: number(&stats["pinned_values"]),
            bodies: number(&stats["bodies"]),
            panics: number(&stats["panics"]),
            store: Store::read(&stats["stores"]["cache"]),
            heap: Store::read(&stats["stores"]["structures"]),
            segments: states,
            segment_limit: number(&segments["segment_limit"]),
        })
    }
}

/// A count; gauges come as numbers with a fraction.
fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_f64().map(|gauge| gauge as u64)).unwrap_or(0)
}

impl Store {
    fn read(figures: &Value) -> Self {
        let number = |name: &str| number(&figures[name]);
        Self {
            items: number("items"),
            item_bytes: number("item_bytes"),
            used_bytes: number("memory_used_bytes"),
            limit_bytes: number("memory_limit_bytes"),
            pins: number("pins"),
            evicted: number("evictions"),
            expired: number("expired"),
            no_memory: number("no_memory"),
        }
    }
}

/// One request to the admin server; its body.
pub(super) fn http(port: u16, method: &str, path: &str) -> Result<String, Failure> {
    let ask = || -> std::io::Result<String> {
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(ANSWER_LIMIT))?;
        write!(socket, "{method} {path} HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| format!("{method} {path}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split_whitespace().nth(1) == Some("200") {
        Ok(body.to_owned())
    } else {
        Err(format!("{method} {path}: {} {body}", head.lines().next().unwrap_or_default()))
    }
}

fn json(port: u16, method: &str, path: &str) -> Result<Value, Failure> {
    let body = http(port, method, path)?;
    serde_json::from_str(&body).map_err(|error| format!("{path}: {error}"))
}

/// With nobody else there: after a flush nothing is left, and each item stored and deleted counts.
/// Gives what did not add up.
pub(super) fn counts_add_up(ports: &Ports, sampler: &Sampler) -> Result<Vec<String>, Failure> {
    let mut wrong = Vec::new();
    let mut expect = |moment: &str, items: u64| -> Result<(), Failure> {
        let store = sampler.take(Duration::ZERO)?.store;
        if store.items != items || (items == 0 && store.item_bytes != 0) {
            wrong.push(format!("{moment}: {} items, {} bytes", store.items, store.item_bytes));
        }
        Ok(())
    };
    let fail = |error: std::io::Error| format!("counting: {error}");
    let mut socket = TcpStream::connect(("127.0.0.1", ports.memcache)).map_err(fail)?;
    socket.set_read_timeout(Some(ANSWER_LIMIT)).map_err(fail)?;
    let mut ask = |request: String, replies: usize| -> Result<(), Failure> {
        socket.write_all(request.as_bytes()).map_err(fail)?;
        let mut reader = BufReader::new(&socket);
        for _ in 0..replies {
            reader.read_line(&mut String::new()).map_err(fail)?;
        }
        Ok(())
    };
    ask("flush_all\r\n".into(), 1)?;
    expect("after a flush", 0)?;
    ask((0..COUNTED).map(|i| format!("set counted{i} 0 0 5\r\nvalue\r\n")).collect(), COUNTED)?;
    expect("after 1000 stores", COUNTED as u64)?;
    ask((0..COUNTED / 2).map(|i| format!("delete counted{i}\r\n")).collect(), COUNTED / 2)?;
    expect("after 500 deletes", COUNTED as u64 / 2)?;
    ask((0..COUNTED).map(|i| format!("delete counted{i}\r\n")).collect(), COUNTED)?;
    expect("after all deletes", 0)?;
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_gauges_are_read_alike() {
        let stats = serde_json::json!({ "count": 7, "gauge": 512.0, "word": "x" });
        assert_eq!(
            [number(&stats["count"]), number(&stats["gauge"]), number(&stats["word"])],
            [7, 512, 0]
        );
    }
}
