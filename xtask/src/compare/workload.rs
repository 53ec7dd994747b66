//! The workloads of `compare`: the shapes in which the project states its goals.

use super::commands;
use super::server::Kind;
use super::tape::{Keys, Op, Wire};

/// One row of the comparison.
#[derive(Clone, Copy)]
pub(crate) struct Workload {
    /// What `--only` matches.
    pub(crate) name: &'static str,
    /// The protocol.
    pub(crate) wire: Wire,
    /// What is asked.
    pub(crate) op: Op,
    /// Keys and value length.
    pub(crate) keys: Keys,
    /// Requests a batch.
    pub(crate) pipeline: usize,
    /// Connections, each with one batch under way.
    pub(crate) connections: usize,
    /// Requests a run, unless the command line says otherwise.
    pub(crate) requests: usize,
    /// At most this many times the CPU of that server is what the project wants.
    pub(crate) wanted: &'static [(Kind, f64)],
}

const SMALL: Keys = commands::TEXTS;
/// Bytes of the large values.
const LARGE_LEN_BYTES: usize = 1 << 20;
const LARGE: Keys = Keys { prefix: "big:", count: 8, value_len_bytes: LARGE_LEN_BYTES };
const SMALL_MC: Keys = Keys { prefix: "mem:", ..SMALL };
const LARGE_MC: Keys = Keys { prefix: "meb:", ..LARGE };

/// Loading a plugin may cost this much beside linking it, whatever the shape.
const BOUNDARY: (Kind, f64) = (Kind::Static, 1.02);

/// All rows, RESP first.
pub(crate) const WORKLOADS: [Workload; 11] = [
    Workload {
        name: "get-64-p1-c50",
        wire: Wire::Resp,
        op: Op::Get,
        keys: SMALL,
        pipeline: 1,
        connections: 50,
        requests: 150_000,
        wanted: &[BOUNDARY, (Kind::Floor, 1.10), (Kind::Redis, 0.70)],
    },
    Workload {
        name: "get-64-p16-c50",
        wire: Wire::Resp,
        op: Op::Get,
        keys: SMALL,
        pipeline: 16,
        connections: 50,
        requests: 1_000_000,
        wanted: &[BOUNDARY, (Kind::Floor, 1.6), (Kind::Redis, 0.45)],
    },
    Workload {
        name: "get-64-p64-c8",
        wire: Wire::Resp,
        op: Op::Get,
        keys: SMALL,
        pipeline: 64,
        connections: 8,
        requests: 2_000_000,
        wanted: &[BOUNDARY, (Kind::Floor, 2.2), (Kind::Redis, 0.35)],
    },
    Workload {
        name: "get-64-p1-c1000",
        wire: Wire::Resp,
        op: Op::Get,
        keys: SMALL,
        pipeline: 1,
        connections: 1000,
        requests: 150_000,
        wanted: &[BOUNDARY],
    },
    Workload {
        name: "get-1m-p1-c8",
        wire: Wire::Resp,
        op: Op::Get,
        keys: LARGE,
        pipeline: 1,
        connections: 8,
        requests: 2_000,
        wanted: &[BOUNDARY, (Kind::Floor, 1.15), (Kind::Redis, 0.70)],
    },
    Workload {
        name: "set-1m-p1-c8",
        wire: Wire::Resp,
        op: Op::Set,
        keys: LARGE,
        pipeline: 1,
        connections: 8,
        requests: 2_000,
        wanted: &[BOUNDARY, (Kind::Floor, 1.15), (Kind::Redis, 0.85)],
    },
    Workload {
        name: "mc-get-64-p1-c50",
        wire: Wire::Memcache,
        op: Op::Get,
        keys: SMALL_MC,
        pipeline: 1,
        connections: 50,
        requests: 150_000,
        wanted: &[BOUNDARY],
    },
    Workload {
        name: "mc-get-64-p16-c50",
        wire: Wire::Memcache,
        op: Op::Get,
        keys: SMALL_MC,
        pipeline: 16,
        connections: 50,
        requests: 500_000,
        wanted: &[BOUNDARY],
    },
    Workload {
        name: "mc-get-64-p64-c8",
        wire: Wire::Memcache,
        op: Op::Get,
        keys: SMALL_MC,
        pipeline: 64,
        connections: 8,
        requests: 500_000,
        wanted: &[BOUNDARY],
    },
    Workload {
        name: "mc-get-1m-p1-c8",
        wire: Wire::Memcache,
        op: Op::Get,
        keys: LARGE_MC,
        pipeline: 1,
        connections: 8,
        requests: 2_000,
        wanted: &[BOUNDARY],
    },
    Workload {
        name: "mc-set-1m-p1-c8",
        wire: Wire::Memcache,
        op: Op::Set,
        keys: LARGE_MC,
        pipeline: 1,
        connections: 8,
        requests: 2_000,
        wanted: &[BOUNDARY],
    },
];

impl Workload {
    /// The workload in words.
    pub(crate) fn title(&self) -> String {
        let wire = match self.wire {
            Wire::Resp => "RESP",
            Wire::Memcache => "memcache text",
        };
        let op = match self.op {
            Op::Get => "GET hit",
            Op::Set => "SET",
        };
        let value = match self.keys.value_len_bytes {
            LARGE_LEN_BYTES => "1 MiB".to_owned(),
            bytes => format!("{bytes} B"),
        };
        let (pipeline, connections) = (self.pipeline, self.connections);
        format!("{wire} {op} of {value}, P={pipeline}, {connections} connections")
    }
}
