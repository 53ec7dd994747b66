//! The generators of a soak: one process for each protocol and kind of load, every value verified.
//! Each has keys of its own length, so that what it knows of a key's order is never disturbed by
//! another; the two that share keys across protocols verify content only, and have the same seed.

use super::Ports;
use crate::process::Guard;
use crate::{Failure, paths};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A generator under way.
pub(super) struct Load {
    name: &'static str,
    guard: Guard,
    out: PathBuf,
}

/// What a generator saw.
pub(super) struct Seen {
    pub(super) name: &'static str,
    pub(super) responses: u64,
    pub(super) verified: u64,
    pub(super) hit_ratio: Option<f64>,
    /// Anything that was not the right answer, with its count.
    pub(super) wrong: Vec<String>,
}

/// One kind of load.
struct Kind {
    name: &'static str,
    protocol: &'static str,
    port: fn(&Ports) -> u16,
    key_len: u8,
    commands: &'static str,
    values: &'static str,
    ttl: &'static str,
    verify: &'static str,
}

const SIZES: &str = "weighted:16=4,200=8,1500=6,9000=3,70000=1";
const TTLS: &str = "weighted:2s=2,20s=3,10m=3,12h=2";

const KINDS: [Kind; 8] = [
    Kind {
        name: "RESP2",
        protocol: "resp",
        port: |ports| ports.resp,
        key_len: 16,
        commands: "get=60,set=30,mget=3,delete=4,touch=3",
        values: SIZES,
        ttl: TTLS,
        verify: "full",
    },
    Kind {
        name: "RESP3",
        protocol: "resp3",
        port: |ports| ports.resp,
        key_len: 17,
        commands: "get=60,set=30,delete=4",
        values: SIZES,
        ttl: TTLS,
        verify: "full",
    },
    Kind {
        name: "memcache text",
        protocol: "memcache",
        port: |ports| ports.memcache,
        key_len: 18,
        commands: "get=60,set=30,mget=3,delete=4,touch=3,cas=3",
        values: SIZES,
        ttl: TTLS,
        verify: "full",
    },
    Kind {
        name: "memcache binary",
        protocol: "memcache-binary",
        port: |ports| ports.memcache,
        key_len: 19,
        commands: "get=60,set=30,delete=4",
        values: SIZES,
        ttl: TTLS,
        verify: "full",
    },
    Kind {
        name: "Momento",
        protocol: "momento",
        port: |ports| ports.momento,
        key_len: 20,
        commands: "get=60,set=30,delete=4",
        values: SIZES,
        ttl: TTLS,
        verify: "full",
    },
    Kind {
        name: "RESP2, keys of meta",
        protocol: "resp",
        port: |ports| ports.resp,
        key_len: 21,
        // Client flags are memcache's own: a value that RESP stored would have none.
        commands: "get=90,delete=2",
        values: SIZES,
        ttl: TTLS,
        verify: "content",
    },
    Kind {
        name: "memcache meta",
        protocol: "memcache-meta",
        port: |ports| ports.memcache,
        key_len: 21,
        commands: "get=60,set=30,delete=2",
        values: SIZES,
        ttl: TTLS,
        verify: "content",
    },
    Kind {
        name: "RESP2 over heap",
        protocol: "resp",
        port: |ports| ports.heap,
        key_len: 16,
        commands: "get=40,set=20,delete=4,incr=3,HSET h:{key} f {value}=10,HGETALL h:{key}=5,\
                   LPUSH l:{key} {value}=4,LTRIM l:{key} 0 9=4,ZADD z:{key} {number} {number}=4,\
                   ZREMRANGEBYRANK z:{key} 0 -10=2,DEL h:{key} l:{key} z:{key}=2",
        values: "weighted:16=4,200=8,1500=4,9000=1",
        ttl: TTLS,
        verify: "full",
    },
];

/// Counts of the generator that must stay at zero.
const WRONG: [&str; 11] = [
    "errors",
    "timeouts",
    "lost",
    "not_stored",
    "garbage",
    "disconnects",
    "wrong",
    "torn",
    "stale",
    "stale_after_delete",
    "never_written",
];

/// Starts one generator for each kind; the rate is shared evenly.
pub(super) fn start(
    ports: &Ports,
    rate: u64,
    length: Duration,
    folder: &Path,
) -> Result<Vec<Load>, Failure> {
    let each = (rate / KINDS.len() as u64).max(1);
    let mut loads = Vec::new();
    for (number, kind) in KINDS.iter().enumerate() {
        let out = folder.join(format!("load-{number}.jsonl"));
        let fail = |error: std::io::Error| format!("cannot write {}: {error}", out.display());
        let file = File::create(&out).map_err(fail)?;
        let errors = File::create(out.with_extension("err")).map_err(fail)?;
        let mut command = Command::new(paths::release_dir().join("crucible-benchmark"));
        command
            .args(["-h", "127.0.0.1", "-p", &(kind.port)(ports).to_string()])
            .args(["--protocol", kind.protocol, "--rate-limit", &each.to_string()])
            .args(["--duration", &format!("{}s", length.as_secs()), "--warmup", "0s"])
            .args(["-c", "4", "--commands", kind.commands, "--ttl", kind.ttl])
            .args(["--value-length", kind.values, "--verify", kind.verify])
            .args(["--keys", "20000", "--key-length", &kind.key_len.to_string()])
            .args(["--distribution", "zipf:0.8", "--seed", &kind.key_len.to_string()])
            .args(["--prefill", "false", "--interval", "60s", "--arrival", "poisson"])
            // A crowded machine makes a reply late, never wrong.
            .args(["--request-timeout", "30s", "--slip-limit", "60s"])
            .args(["--json", "-", "--table", "none"])
            .stdout(Stdio::from(file))
            .stderr(Stdio::from(errors));
        let guard = Guard::start(kind.name, &mut command, None)?;
        loads.push(Load { name: kind.name, guard, out });
    }
    Ok(loads)
}

/// Waits for all generators and reads their results.
pub(super) fn finish(loads: Vec<Load>, limit: Duration) -> Result<Vec<Seen>, Failure> {
    loads.into_iter().map(|load| read(load, limit)).collect()
}

fn read(load: Load, limit: Duration) -> Result<Seen, Failure> {
    let name = load.name;
    let status = load.guard.wait(limit)?;
    let text = fs::read_to_string(&load.out).unwrap_or_default();
    let result = text
        .lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["kind"] == "result");
    let Some(result) = result else {
        let said = fs::read_to_string(load.out.with_extension("err")).unwrap_or_default();
        return Err(format!("{name}: no result ({status}): {said}"));
    };
    let mut seen = judge(name, &result);
    if !status.success() {
        let said = fs::read_to_string(load.out.with_extension("err")).unwrap_or_default();
        seen.wrong.push(format!("ended with {status}: {}", said.trim()));
    }
    Ok(seen)
}

fn judge(name: &'static str, result: &Value) -> Seen {
    let count = |key: &str| result["counts"][key].as_u64().unwrap_or(0);
    let wrong = WRONG
        .into_iter()
        // A store under a token loses to a write in between: that is its answer, not a fault.
        .filter(|key| *key != "not_stored" || !name.starts_with("memcache text"))
        .filter(|key| count(key) > 0)
        .map(|key| format!("{} {key}: {}", count(key), result["error_words"]))
        .collect();
    Seen {
        name,
        responses: count("responses"),
        verified: count("verified"),
        hit_ratio: result["hit_ratio"].as_f64(),
        wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kinds_that_verify_the_order_of_writes_share_no_keys() {
        for (i, kind) in KINDS.iter().enumerate() {
            for other in KINDS.iter().skip(i + 1) {
                let heap = |kind: &Kind| kind.name.contains("heap");
                let shared = kind.key_len == other.key_len && heap(kind) == heap(other);
                assert!(!shared || [kind.verify, other.verify] == ["content"; 2]);
            }
        }
    }

    #[test]
    fn errors_lost_replies_and_stale_values_are_wrong() {
        for key in ["errors", "lost", "stale", "garbage", "timeouts"] {
            let result = json!({ "counts": { "responses": 9, "verified": 4, (key): 1 } });
            assert_eq!(judge("RESP2", &result).wrong.len(), 1, "{key}");
        }
        let result = json!({ "counts": { "responses": 9, "verified": 4 }, "hit_ratio": 0.5 });
        let seen = judge("RESP2", &result);
        assert!(seen.wrong.is_empty() && seen.responses == 9 && seen.verified == 4);
    }
}
