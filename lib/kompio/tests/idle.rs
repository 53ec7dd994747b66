//! Memory of idle connections, alone in its process so that nothing else moves the figure.
//!
//! What must always be true: one test only. Run by `cargo test`.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::{address, client, echo, finish};

/// Resident anonymous memory of this process.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn ten_thousand_idle_connections_add_at_most_one_kib_each() {
    // Both ends are in this process: two descriptors each, so fewer where the limit is low.
    let server = echo(|_| {});
    let limit = std::fs::read_to_string("/proc/self/limits").unwrap();
    let files = limit.lines().find(|l| l.starts_with("Max open files")).unwrap();
    let files: usize = files.split_whitespace().nth(3).unwrap().parse().unwrap();
    let count = 10_000.min((files - 300) / 2);
    let mut first = client(&server);
    first.write_all(b"warm").unwrap();
    first.read_exact(&mut [0; 4]).unwrap();
    let mut streams = Vec::with_capacity(count);
    let before = resident_bytes();
    while streams.len() < count {
        let from = streams.len();
        let many = 100.min(count - from);
        streams.extend((0..many).map(|_| TcpStream::connect(address(&server)).unwrap()));
        // Each is used once: what idles is a connection that was served.
        for stream in &mut streams[from..] {
            stream.write_all(b"x").unwrap();
        }
        for stream in &mut streams[from..] {
            stream.read_exact(&mut [0]).unwrap();
        }
    }
    let added = resident_bytes().saturating_sub(before);
    println!("{} bytes for each of {count} idle connections", added / count);
    assert!(added <= count * 1024, "{added} bytes for {count} connections");
    drop(streams);
    finish(server);
}
