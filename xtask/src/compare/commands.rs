//! `compare --commands`: each RESP command on its own, ours beside redis-server: strings and keys
//! on any backend, structures too on one that has them (`--backend heap`). The keys are those of the
//! 64-byte workload, a set of counters and some structures, stored before each command.
//!
//! A store that appends is written once round its memory first: until then each page that it
//! touches is new, which no server meets that has run for a while.

use super::bench::{RUN_LIMIT, cpu_per_request};
use super::load::Generator;
use super::report::median;
use super::server::{Kind, Server, Setup};
use super::structs::{self, STRUCTURES};
use super::tape::{Keys, Random, Tape, Wire};
use super::{Args, machine, progress};
use crate::Failure;
use serde_json::{Value, json};

/// A command's rounds on both servers, or why a server would not run it.
type Row = (String, [Outcome; 2]);
type Outcome = Result<Vec<f64>, String>;

/// Values of 64 bytes.
pub(crate) const TEXTS: Keys = Keys { prefix: "key:", count: 10_000, value_len_bytes: 64 };
/// Memory of the stores for strings, and for structures, which grow.
const TEXTS_STORE_MIB: usize = 128;
const STRUCTURES_STORE_MIB: usize = 1024;
/// Less than an item of the texts takes in any store.
const ITEM_LEN_BYTES_MIN: usize = 80;
/// Requests on a command's tape.
const ENTRIES: usize = 1 << 14;
/// A value of the usual length for commands that store one.
const VALUE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Command lines by name; `K` is a random key with a text, `N` one with a number, `F` a key that
/// no other command uses, `V` a value of 64 bytes.
const SHAPES: [(&str, &str); 42] = [
    ("PING", "PING"),
    ("ECHO", "ECHO V"),
    ("GET", "GET K"),
    ("SET", "SET K V"),
    ("SETEX", "SETEX F 1000 V"),
    ("PSETEX", "PSETEX F 1000000 V"),
    ("SETNX", "SETNX K V"),
    ("GETSET", "GETSET K V"),
    ("GETEX", "GETEX K"),
    ("GETDEL", "GETDEL F"),
    ("MGET", "MGET K K K K K K K K K K"),
    ("MSET", "MSET K V K V K V K V K V K V K V K V K V K V"),
    ("MSETNX", "MSETNX K V K V"),
    ("APPEND", "APPEND F x"),
    ("STRLEN", "STRLEN K"),
    ("GETRANGE", "GETRANGE K 8 23"),
    ("SETRANGE", "SETRANGE K 8 abcdefgh"),
    ("LCS", "LCS K K"),
    ("INCR", "INCR N"),
    ("DECR", "DECR N"),
    ("INCRBY", "INCRBY N 7"),
    ("DECRBY", "DECRBY N 7"),
    ("INCRBYFLOAT", "INCRBYFLOAT N 1"),
    ("SETBIT", "SETBIT K 77 1"),
    ("GETBIT", "GETBIT K 77"),
    ("BITCOUNT", "BITCOUNT K"),
    ("BITPOS", "BITPOS K 1"),
    ("EXISTS", "EXISTS K"),
    ("DEL", "DEL F"),
    ("UNLINK", "UNLINK F"),
    ("TOUCH", "TOUCH K"),
    ("TYPE", "TYPE K"),
    ("EXPIRE", "EXPIRE K 100000"),
    ("PEXPIRE", "PEXPIRE K 100000000"),
    ("EXPIREAT", "EXPIREAT K 4102444800"),
    ("TTL", "TTL K"),
    ("PTTL", "PTTL K"),
    ("EXPIRETIME", "EXPIRETIME K"),
    ("PERSIST", "PERSIST K"),
    ("COPY", "COPY K F REPLACE"),
    ("DBSIZE", "DBSIZE"),
    ("TIME", "TIME"),
];

/// Each command at P=16 over 50 connections, ours beside redis-server.
pub(crate) fn compare(args: &Args, wanted: &[String]) -> Result<(), Failure> {
    let all = wanted.is_empty() || wanted.iter().any(|name| name == "all");
    let structures = structs::serves(&args.backend);
    let served = || names().filter(|name| structures || !structs::is_one(name));
    let wanted: Vec<String> =
        if all { served().map(str::to_owned).collect() } else { wanted.to_vec() };
    let mut tapes = Vec::new();
    for name in wanted {
        let tape = tape(&name).ok_or_else(|| {
            format!("no shape for {name}; there are {}", served().collect::<Vec<_>>().join(", "))
        })?;
        tapes.push((name, tape));
    }
    let store_mib = if structures { STRUCTURES_STORE_MIB } else { TEXTS_STORE_MIB };
    let setup = Setup { store_mib, ..args.setup() };
    let servers = [Server::start(Kind::Crucible, setup, 0)?, Server::start(Kind::Redis, setup, 0)?];
    for server in &servers {
        progress(&format!("{} is warmed up", server.kind.name()));
        let requests = TEXTS_STORE_MIB * (1 << 20) / ITEM_LEN_BYTES_MIN;
        let set = tape("SET").ok_or("SET has a shape")?;
        cpu_per_request(server, &set, (16, 50), requests)?;
    }
    let mut rows = Vec::new();
    for (name, tape) in tapes {
        let outcomes = rounds(args, &servers, &name, &tape)?;
        rows.push((name, outcomes));
    }
    progress("measured\n");
    print(args, &rows);
    match rows.iter().filter(|(_, [ours, _])| ours.is_err()).count() {
        0 => Ok(()),
        count => Err(format!("{count} commands were not served")),
    }
}

fn rounds(
    args: &Args,
    servers: &[Server; 2],
    name: &str,
    tape: &Tape,
) -> Result<[Outcome; 2], Failure> {
    let requests = args.requests.unwrap_or(200_000);
    for server in servers {
        store_texts_and_counters(server)?;
        if structs::is_one(name) {
            structs::store(server)?;
        }
    }
    let mut outcomes = [Ok(Vec::new()), Ok(Vec::new())];
    for round in 0..usize::from(args.rounds) {
        for turn in 0..servers.len() {
            let which = (turn + round) % servers.len();
            progress(&format!("round {}/{}: {name}", round + 1, args.rounds));
            let Ok(rounds) = &mut outcomes[which] else { continue };
            match cpu_per_request(&servers[which], tape, (16, 50), requests) {
                Ok(ns) => rounds.push(ns),
                Err(sentence) => outcomes[which] = Err(sentence),
            }
        }
    }
    Ok(outcomes)
}

fn store_texts_and_counters(server: &Server) -> Result<(), Failure> {
    let mut generator = Generator::connect(server.address(Wire::Resp), 1)?;
    generator.play_once(&Tape::preload(Wire::Resp, TEXTS), RUN_LIMIT)?;
    generator.play_once(&counters(), RUN_LIMIT)
}

fn print(args: &Args, rows: &[Row]) {
    let shown = |outcome: &Outcome| match outcome {
        Ok(rounds) => json!(median(rounds)),
        Err(sentence) => json!({ "refused": sentence }),
    };
    if args.json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(name, [ours, redis])| {
                json!({ "command": name, "crucible": shown(ours), "redis-server": shown(redis) })
            })
            .collect();
        println!("{:#}", json!({ "machine": machine(), "commands": rows }));
        return;
    }
    println!("\nCPU us per request at P=16, 50 connections");
    println!("  {:<14} {:>12} {:>14} {:>8}", "command", "crucible", "redis-server", "ratio");
    for (name, outcomes) in rows {
        match outcomes {
            [Ok(ours), Ok(redis)] => {
                let (ours, redis) = (median(ours) / 1e3, median(redis) / 1e3);
                println!("  {name:<14} {ours:>12.3} {redis:>14.3} {:>8.3}", ours / redis);
            }
            [Err(sentence), _] => println!("  {name:<14} crucible refused: {sentence}"),
            [_, Err(sentence)] => println!("  {name:<14} redis-server refused: {sentence}"),
        }
    }
}

/// Names of all commands that can be compared.
fn names() -> impl Iterator<Item = &'static str> {
    SHAPES.iter().chain(&STRUCTURES).map(|(name, _)| *name)
}

/// The tape of one command, or of several in turn; nothing if it has no shape.
fn tape(name: &str) -> Option<Tape> {
    let known = |(known, _): &&(&str, &str)| known.eq_ignore_ascii_case(name);
    let (_, shape) = SHAPES.iter().chain(&STRUCTURES).find(known)?;
    let lines: Vec<&str> = shape.split(" | ").collect();
    let mut random = Random::new(0x5851_f42d_4c95_7f2d);
    Some(Tape::commands(ENTRIES, |entry| {
        let words = lines[entry % lines.len()].split(' ');
        words.map(|word| expand(word, &mut random).into_bytes()).collect()
    }))
}

/// Counters, one of each, stored before the commands run.
fn counters() -> Tape {
    Tape::commands(TEXTS.count, |index| {
        ["SET".to_owned(), format!("num:{index:012}"), "10".to_owned()]
            .map(String::into_bytes)
            .to_vec()
    })
}

fn expand(word: &str, random: &mut Random) -> String {
    match word {
        "K" => format!("{}{:012}", TEXTS.prefix, random.below(TEXTS.count)),
        "N" => format!("num:{:012}", random.below(TEXTS.count)),
        "F" => format!("own:{:012}", random.below(TEXTS.count)),
        "V" => VALUE.to_owned(),
        word => structs::expand(word, random).unwrap_or_else(|| word.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_tape_that_opens_with_its_name() {
        for name in names() {
            let tape = tape(name).expect("listed");
            let request = String::from_utf8_lossy(&tape.requests[..tape.at[1]]).into_owned();
            let first = name.split(['_', '+']).next().unwrap_or_default();
            assert!(request.contains(&format!("\r\n{first}\r\n")), "{request}");
            assert_eq!(tape.len(), ENTRIES);
        }
        assert!(tape("NO-SUCH").is_none());
    }
}
