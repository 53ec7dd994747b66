//! Real TCP sockets against a server on its own thread.
//!
//! What must always be true: no test sleeps; each waits for the event it is about. Run by
//! `cargo test`.

use std::io::{Read, Write};
use std::net::{Shutdown as Half, TcpStream};
use std::time::Duration;

use kompio::{Config, ConnToken, Consumed, DriverCtx, EventHandler, KompioBuilder, Shutdown};

struct Echo;

impl EventHandler for Echo {
    fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
        if ctx.is_congested(conn) {
            return Consumed::Bytes(0);
        }
        ctx.send(conn, data);
        Consumed::Bytes(data.len())
    }
}

const DRAIN: Shutdown = Shutdown::Drain { deadline: Duration::from_secs(20) };

fn client(server: &kompio::Server) -> TcpStream {
    let address = server.addresses()[0].as_inet().expect("a TCP listener");
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    stream
}

#[test]
fn what_is_sent_comes_back_and_a_half_close_is_answered_by_a_close() {
    let server = KompioBuilder::new(Config::default())
        .bind("127.0.0.1:0".parse().unwrap())
        .launch(|_| Echo)
        .unwrap();
    let mut stream = client(&server);
    stream.write_all(b"hello").unwrap();
    let mut reply = [0; 5];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"hello");
    stream.write_all(b"bye").unwrap();
    stream.shutdown(Half::Write).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"bye");
    server.shutdown(DRAIN);
    assert!(server.join().drained);
}

#[test]
fn a_client_that_reads_late_gets_everything() {
    let mut config = Config::default();
    config.output_high_water_bytes = 64 * 1024;
    config.output_low_water_bytes = 16 * 1024;
    let server =
        KompioBuilder::new(config).bind("127.0.0.1:0".parse().unwrap()).launch(|_| Echo).unwrap();
    let mut stream = client(&server);
    let mut writer = stream.try_clone().unwrap();
    const TOTAL: usize = 32 << 20;
    let sender = std::thread::spawn(move || {
        let block: Vec<u8> = (0..65_536u32).map(|i| (i % 251) as u8).collect();
        for _ in 0..TOTAL / block.len() {
            writer.write_all(&block).unwrap();
        }
        writer.shutdown(Half::Write).unwrap();
    });
    let mut received = 0usize;
    let mut buffer = vec![0; 65_536];
    loop {
        let n = stream.read(&mut buffer).unwrap();
        if n == 0 {
            break;
        }
        for &byte in &buffer[..n] {
            assert_eq!(byte, ((received % 65_536) % 251) as u8, "at {received}");
            received += 1;
        }
    }
    sender.join().unwrap();
    assert_eq!(received, TOTAL);
    server.shutdown(DRAIN);
    assert!(server.join().drained);
}
