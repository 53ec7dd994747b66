//! What one operation costs, without a store around it.
//!
//! `cargo run --release -p structs --example cost -- <what> <rounds>` plays one
//! kind of operation on one object; count its instructions from outside
//! (`valgrind --tool=callgrind`) with two numbers of rounds, and divide the
//! difference. Without arguments it times each.

use std::time::Instant;

use crucible_plugin_api::{Answers, Element, Op, StructFlags, StructOp};
use structs::{Ctx, Limits, Rng, Slot, apply};

struct Bench {
    slot: Slot,
    answers: Answers,
    rng: Rng,
    limits: Limits,
    names: Vec<String>,
}

impl Bench {
    fn run(&mut self, op: StructOp, args: &[Element<'_>], numbers: (i64, i64), flags: StructFlags) {
        let op =
            Op::structure(op, b"key").args(args).numbers(numbers.0, numbers.1).with_flags(flags);
        let Some(call) = op.struct_call() else { return };
        let mut out = self.answers.begin();
        let mut ctx = Ctx { now_ms: 1, rng: &mut self.rng, limits: &self.limits };
        apply(&call, &mut ctx, std::slice::from_mut(&mut self.slot), &mut out);
        assert!(out.status().is_answer());
    }

    /// Round `i` of a kind of operation, on `n` members.
    fn round(&mut self, what: &str, i: usize, n: usize) {
        if i.is_multiple_of(64) {
            self.answers.clear();
        }
        let none = StructFlags::NONE;
        let name = self.names[i.wrapping_mul(2_654_435_761) % n].clone();
        let (name, value) = (Element::bytes(name.as_bytes()), Element::bytes(b"0123456789abcdef"));
        let score = Element::double((i % 1000) as f64);
        match what {
            "hset" => self.run(StructOp::HASH_SET, &[name, value], (0, 0), none),
            "hget" => self.run(StructOp::HASH_GET, &[name], (0, 0), none),
            "hincrby" => self.run(StructOp::HASH_INCR, &[Element::bytes(b"n")], (1, 0), none),
            "lpush" => self.run(StructOp::LIST_PUSH, &[value], (0, 0), StructFlags::LEFT),
            "rpop" => self.run(StructOp::LIST_POP, &[], (1, 0), none),
            "lrange100" => self.run(StructOp::LIST_RANGE, &[], (0, 99), none),
            "lindex" => self.run(StructOp::LIST_INDEX, &[], ((i % n) as i64, 0), none),
            "sadd" => self.run(StructOp::SET_ADD, &[name], (0, 0), none),
            "sismember" => self.run(StructOp::SET_HAS, &[name], (0, 0), none),
            "srandmember" => self.run(StructOp::SET_RANDOM, &[], (1, 0), none),
            "zadd" => self.run(StructOp::ZSET_ADD, &[score, name], (0, 0), none),
            "zscore" => self.run(StructOp::ZSET_SCORE, &[name], (0, 0), none),
            "zrank" => self.run(StructOp::ZSET_RANK, &[name], (0, 0), none),
            "zrange10" => {
                let at = (i % n) as i64;
                self.run(StructOp::ZSET_RANGE, &[], (at, at + 9), StructFlags::WITH_SCORES);
            }
            other => panic!("no such operation: {other}"),
        }
    }
}

/// The operations, each with the one that fills the object first.
const ALL: [(&str, &str); 14] = [
    ("hset", "hset"),
    ("hget", "hset"),
    ("hincrby", "hset"),
    ("lpush", "lpush"),
    ("rpop", "lpush"),
    ("lrange100", "lpush"),
    ("lindex", "lpush"),
    ("sadd", "sadd"),
    ("sismember", "sadd"),
    ("srandmember", "sadd"),
    ("zadd", "zadd"),
    ("zscore", "zadd"),
    ("zrank", "zadd"),
    ("zrange10", "zadd"),
];

fn play(what: &str, fill: &str, n: usize, rounds: usize) -> f64 {
    let mut bench = Bench {
        slot: Slot::default(),
        answers: Answers::new(),
        rng: Rng::new(1),
        limits: Limits::default(),
        names: (0..n).map(|i| format!("member:{i:010}")).collect(),
    };
    let more = if what == "rpop" { rounds } else { 0 };
    (0..n + more).for_each(|i| bench.round(fill, i, n));
    let start = Instant::now();
    (0..rounds).for_each(|i| bench.round(what, i, n));
    start.elapsed().as_secs_f64() * 1e9 / rounds as f64
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default| args.get(i).and_then(|n| n.parse().ok()).unwrap_or(default);
    match args.first() {
        Some(what) => {
            let fill = ALL.iter().find(|(name, _)| name == what).map_or("hset", |(_, fill)| fill);
            play(what, fill, number(2, 100), number(1, 100_000));
        }
        None => {
            for (what, fill) in ALL {
                let ns = [100, 100_000].map(|n| play(what, fill, n, 200_000));
                println!("{what:12} {:6.0} ns of 100 {:6.0} ns of 100 000", ns[0], ns[1]);
            }
        }
    }
}
