//! `cache-bench`: the store without sockets, and traces replayed on it.
//!
//! ```text
//! cache-bench speed  [--items N] [--value BYTES] [--alpha A] [--threads T] [--policy P]
//!                    [--ops N] [--rounds R] [--pages none|transparent|2m] [--prefault]
//!                    [--peers] [--json]
//! cache-bench memory [--heap SIZE] [--value BYTES] [--ttl] [--json]
//! cache-bench tail   [--heap SIZE] [--value BYTES] [--json]
//! cache-bench replay TRACE.. [--policy P,..] [--fraction F,..] [--heap SIZE,..] [--scale X]
//!                    [--key BYTES] [--byte] [--reference FILE] [--json]
//! ```
//! A TRACE is a `.kt` file (also `.kt.xz`), a CSV of `time,key,size` lines, an
//! `.oracleGeneral` file, or a synthetic one: `zipf0.99`, `zipf0.8`, `zipf1.2`,
//! `zipf0.99-scan`, `zipf0.99-drift`, `zipf0.8-loop`.

mod args;
mod memory;
mod replay;
mod speed;
mod tail;
mod trace;
mod zipf;

use args::Args;

fn main() {
    let mut args = Args::new(std::env::args().skip(1));
    let result = match args.command().as_deref() {
        Some("speed") => speed::run(&mut args),
        Some("memory") => memory::run(&mut args),
        Some("tail") => tail::run(&mut args),
        Some("replay") => replay::run(&mut args),
        other => Err(format!(
            "{} is no command; use speed, memory, tail or replay",
            other.unwrap_or("(nothing)")
        )),
    };
    if let Err(message) = result {
        eprintln!("cache-bench: {message}");
        std::process::exit(2);
    }
}
