//! What a server is started with, checked once before anything is opened.
//!
//! What must always be true: after [`Config::check`] every number is inside its range, so that the
//! loop asserts and never re-checks. Called by the builder.

use std::time::Duration;

use crate::cpus::CpuList;
use crate::error::Error;
use crate::limits;

/// Settings of a server. `Config::default()` serves one unpinned worker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Worker threads, 1 to 256.
    pub workers: usize,
    /// CPU of each worker in order; `None` leaves placement to the scheduler.
    pub cpus: Option<CpuList>,
    /// Thread name prefix: `name-0`, `name-1` …
    pub name: String,
    /// Connections of the whole server, accepted and outgoing.
    pub max_connections: usize,
    /// How connections reach the workers.
    pub accept: AcceptMode,
    /// Length of the kernel's queue of connections not yet accepted.
    pub backlog: u32,
    /// TCP_NODELAY on every TCP connection. On, because a reply is one send.
    pub nodelay: bool,
    /// TCP keep-alive probes after this idle time; `None` leaves them off.
    pub keepalive: Option<Duration>,
    /// Submission queue entries, a power of two.
    pub sq_entries: u32,
    /// Completion queue entries, a power of two, at least twice `sq_entries`.
    pub cq_entries: u32,
    /// Bytes of receive memory shared by all connections of a worker. Rounded down to whole
    /// buffers, at least two.
    pub recv_ring_bytes: usize,
    /// Use incrementally consumed buffers where the kernel has them (6.12).
    pub incremental_buffers: bool,
    /// Use the ring's own descriptor table where it pays.
    pub direct_descriptors: bool,
    /// Queued output at which a connection's receive pauses by itself.
    pub output_high_water_bytes: usize,
    /// Queued output at which it resumes.
    pub output_low_water_bytes: usize,
    /// Queued output at which the connection is closed.
    pub output_hard_limit_bytes: usize,
    /// Unconsumed input at which the connection is closed.
    pub input_limit_bytes: usize,
    /// Zero-copy sends.
    pub zero_copy: ZeroCopy,
    /// Parts at least this long may go out zero-copy.
    pub zero_copy_part_bytes_min: usize,
    /// Interval of `on_tick`; `None` never ticks.
    pub tick: Option<Duration>,
    /// Longest wait for a fuller batch once one completion is there (kernel 6.12), in
    /// microseconds, where trials show that waiting saves CPU; 0 never waits for more than one.
    pub min_wait_us: u32,
    /// Spin this long before sleeping, in microseconds; 0 sleeps at once.
    pub busy_poll_us: u32,
    /// Let a kernel thread submit, which goes to sleep after this many milliseconds without work.
    /// Dearer by a factor of 2.7 and more in our measurements; off unless asked for.
    pub sqpoll_idle_ms: Option<u32>,
    /// How long a connection closed after its last reply waits for the peer to hang up, so that
    /// unread input does not reset the connection under that reply.
    pub linger: Duration,
}

/// How connections reach the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptMode {
    /// Worker 0 accepts in its ring and hands descriptors to all workers in turn.
    RoundRobin,
    /// Each worker has a listening socket of its own and the kernel spreads by hash. Balances
    /// badly with few connections. TCP only: unix sockets and given descriptors go round-robin.
    ReusePort,
}

/// When sends avoid the copy into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ZeroCopy {
    /// Never.
    Off,
    /// On connections whose first large send reported that it was not copied.
    Probe,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            workers: 1,
            cpus: None,
            name: "kompio".to_owned(),
            max_connections: limits::CONNECTIONS_DEFAULT,
            accept: AcceptMode::RoundRobin,
            backlog: 1024,
            nodelay: true,
            keepalive: None,
            sq_entries: limits::SQ_ENTRIES_DEFAULT,
            cq_entries: limits::CQ_ENTRIES_DEFAULT,
            recv_ring_bytes: limits::INCREMENTAL_BUFFER_BYTES
                * limits::INCREMENTAL_BUFFERS_DEFAULT as usize,
            incremental_buffers: true,
            direct_descriptors: true,
            output_high_water_bytes: limits::OUTPUT_HIGH_WATER_BYTES_DEFAULT,
            output_low_water_bytes: limits::OUTPUT_LOW_WATER_BYTES_DEFAULT,
            output_hard_limit_bytes: limits::OUTPUT_HARD_LIMIT_BYTES_DEFAULT,
            input_limit_bytes: limits::INPUT_LIMIT_BYTES_DEFAULT,
            zero_copy: ZeroCopy::Probe,
            zero_copy_part_bytes_min: limits::ZERO_COPY_PART_BYTES_MIN,
            tick: Some(Duration::from_millis(100)),
            min_wait_us: limits::MIN_WAIT_US_DEFAULT,
            busy_poll_us: 0,
            sqpoll_idle_ms: None,
            linger: Duration::from_secs(1),
        }
    }
}

impl Config {
    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that is outside, [`Error::CpuCount`] a CPU list
    /// of another length than `workers`.
    pub fn check(&self) -> Result<(), Error> {
        let range = |ok: bool, key: &'static str, value: String, rule: &'static str| {
            if ok { Ok(()) } else { Err(Error::Config { key, value, rule }) }
        };
        range(
            (1..=limits::WORKERS_MAX).contains(&self.workers),
            "workers",
            self.workers.to_string(),
            "1 to 256",
        )?;
        if let Some(cpus) = &self.cpus
            && cpus.len() != self.workers
        {
            return Err(Error::CpuCount { workers: self.workers, cpus: cpus.len() });
        }
        range(
            (1..=limits::CONNECTIONS_PER_WORKER_MAX).contains(&self.max_connections),
            "max_connections",
            self.max_connections.to_string(),
            "1 to 16777216",
        )?;
        range(
            self.sq_entries.is_power_of_two()
                && (8..=limits::SQ_ENTRIES_MAX).contains(&self.sq_entries),
            "sq_entries",
            self.sq_entries.to_string(),
            "a power of two from 8 to 32768",
        )?;
        range(
            self.cq_entries.is_power_of_two()
                && self.cq_entries >= 2 * self.sq_entries
                && self.cq_entries <= limits::CQ_ENTRIES_MAX,
            "cq_entries",
            self.cq_entries.to_string(),
            "a power of two, at least twice sq_entries, at most 65536",
        )?;
        range(
            (8 * 1024..=1 << 30).contains(&self.recv_ring_bytes),
            "recv_ring_bytes",
            self.recv_ring_bytes.to_string(),
            "8 KiB to 1 GiB",
        )?;
        range(
            self.output_low_water_bytes < self.output_high_water_bytes,
            "output_low_water_bytes",
            self.output_low_water_bytes.to_string(),
            "below output_high_water_bytes",
        )?;
        range(
            self.output_high_water_bytes < self.output_hard_limit_bytes,
            "output_high_water_bytes",
            self.output_high_water_bytes.to_string(),
            "below output_hard_limit_bytes",
        )?;
        range(
            self.input_limit_bytes >= 4096,
            "input_limit_bytes",
            self.input_limit_bytes.to_string(),
            "at least 4096",
        )?;
        range(
            self.tick.is_none_or(|t| t >= Duration::from_micros(100)),
            "tick",
            format!("{:?}", self.tick.unwrap_or_default()),
            "at least 100 µs",
        )?;
        range(
            self.min_wait_us <= 10_000,
            "min_wait_us",
            self.min_wait_us.to_string(),
            "at most 10000",
        )?;
        range(
            self.busy_poll_us <= 1_000_000,
            "busy_poll_us",
            self.busy_poll_us.to_string(),
            "at most 1000000",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_configuration_is_in_range() {
        Config::default().check().unwrap();
    }

    #[test]
    fn a_value_out_of_range_is_named_with_its_rule() {
        type Spoil = Box<dyn Fn(&mut Config)>;
        let cases: Vec<(&str, Spoil)> = vec![
            ("workers", Box::new(|c| c.workers = 0)),
            ("workers", Box::new(|c| c.workers = 257)),
            ("max_connections", Box::new(|c| c.max_connections = 0)),
            ("sq_entries", Box::new(|c| c.sq_entries = 1000)),
            ("cq_entries", Box::new(|c| c.cq_entries = 1024)),
            ("recv_ring_bytes", Box::new(|c| c.recv_ring_bytes = 4096)),
            ("output_low_water_bytes", Box::new(|c| c.output_low_water_bytes = 1 << 20)),
            ("output_high_water_bytes", Box::new(|c| c.output_hard_limit_bytes = 1 << 19)),
            ("input_limit_bytes", Box::new(|c| c.input_limit_bytes = 1)),
            ("tick", Box::new(|c| c.tick = Some(Duration::ZERO))),
            ("min_wait_us", Box::new(|c| c.min_wait_us = 10_001)),
            ("busy_poll_us", Box::new(|c| c.busy_poll_us = 1_000_001)),
        ];
        for (key, spoil) in cases {
            let mut config = Config::default();
            spoil(&mut config);
            match config.check() {
                Err(Error::Config { key: named, .. }) => assert_eq!(named, key),
                other => panic!("{key}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_cpu_list_of_another_length_than_the_workers_is_refused() {
        let config = Config { workers: 3, cpus: Some("0,2".parse().unwrap()), ..Config::default() };
        assert!(matches!(config.check(), Err(Error::CpuCount { workers: 3, cpus: 2 })));
    }
}
