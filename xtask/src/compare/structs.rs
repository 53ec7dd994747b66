//! Commands on structures for `compare --commands`: redis-benchmark's own and those that caches use
//! beside them, over large structures (a hash, a set and a sorted set of ten thousand elements) and
//! small ones (a thousand hashes of ten fields).

use super::bench::RUN_LIMIT;
use super::load::Generator;
use super::server::Server;
use super::tape::{Random, Tape, Wire};
use crate::Failure;

/// Elements of a large structure.
const ELEMENTS: usize = 10_000;
/// Small hashes, and their fields.
const SMALL: usize = 1000;
const FIELDS: usize = 10;
/// Values of the list that ranges are read from.
const LISTED: usize = 600;

/// Command lines by name; `E` is a random element of a large structure, `H` a small hash, `V` a
/// value of 64 bytes. Two commands in turn where one alone would soon find nothing.
pub(super) const STRUCTURES: [(&str, &str); 24] = [
    ("LPUSH", "LPUSH pushed V"),
    ("RPUSH", "RPUSH pushed V"),
    ("LPUSH+LPOP", "LPUSH popped V | LPOP popped"),
    ("RPUSH+RPOP", "RPUSH popped V | RPOP popped"),
    ("LRANGE_100", "LRANGE listed 0 99"),
    ("LRANGE_300", "LRANGE listed 0 299"),
    ("LRANGE_600", "LRANGE listed 0 599"),
    ("LINDEX", "LINDEX listed 300"),
    ("SADD", "SADD members E"),
    ("SADD+SPOP", "SADD members E | SPOP members"),
    ("SISMEMBER", "SISMEMBER members E"),
    ("SCARD", "SCARD members"),
    ("HSET", "HSET fields E V"),
    ("HGET", "HGET fields E"),
    ("HSET+HDEL", "HSET fields E V | HDEL fields E"),
    ("HSET_SMALL", "HSET H f5 V"),
    ("HGET_SMALL", "HGET H f5"),
    ("HGETALL", "HGETALL H"),
    ("HINCRBY", "HINCRBY H n 1"),
    ("ZADD", "ZADD scores 0 E"),
    ("ZADD+ZPOPMIN", "ZADD scores 0 E | ZPOPMIN scores"),
    ("ZINCRBY", "ZINCRBY scores 1 E"),
    ("ZSCORE", "ZSCORE scores E"),
    ("ZRANGE_10", "ZRANGE scores 100 109"),
];

/// Whether a backend of this name serves them.
pub(super) fn serves(backend: &str) -> bool {
    backend.contains("heap")
}

/// Whether a name is one of these commands.
pub(super) fn is_one(name: &str) -> bool {
    STRUCTURES.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
}

/// A word that stands for something random.
pub(super) fn expand(word: &str, random: &mut Random) -> Option<String> {
    match word {
        "E" => Some(element(random.below(ELEMENTS))),
        "H" => Some(small(random.below(SMALL))),
        _ => None,
    }
}

fn element(index: usize) -> String {
    format!("element:{index:012}")
}

fn small(index: usize) -> String {
    format!("hash:{index:012}")
}

/// Makes the structures anew.
pub(super) fn store(server: &Server) -> Result<(), Failure> {
    let value = "v".repeat(64);
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut line = |words: &[&str]| lines.push(words.iter().map(|w| (*w).to_owned()).collect());
    line(&["DEL", "pushed", "popped", "listed", "members", "fields", "scores"]);
    for _ in 0..LISTED {
        line(&["RPUSH", "listed", "xyz"]);
    }
    for index in 0..ELEMENTS {
        let element = element(index);
        line(&["RPUSH", "popped", &value]);
        line(&["SADD", "members", &element]);
        line(&["HSET", "fields", &element, &value]);
        line(&["ZADD", "scores", "0", &element]);
    }
    for index in 0..SMALL {
        for field in 0..FIELDS {
            let (name, value) = (format!("f{field}"), format!("value of {field:07}"));
            line(&["HSET", &small(index), &name, &value]);
        }
    }
    let tape = Tape::commands(lines.len(), |entry| {
        lines[entry].iter().map(|word| word.clone().into_bytes()).collect()
    });
    Generator::connect(server.address(Wire::Resp), 1)?.play_once(&tape, RUN_LIMIT)
}
