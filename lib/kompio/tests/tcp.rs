//! Real TCP sockets: echo, limits, late and absent readers, tiny queues.
//!
//! What must always be true: no test sleeps; each waits for the event it is about. Run by
//! `cargo test`.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown as Half, TcpStream};
use std::sync::mpsc;

use common::{DRAIN, Echo, PATIENCE, address, any_port, client, config, echo, finish, patient};
use kompio::{
    AcceptMode, CloseReason, ConnToken, Consumed, DriverCtx, EventHandler, KompioBuilder,
    ListenerId, Shutdown,
};

#[test]
fn what_is_sent_comes_back_and_a_half_close_is_answered_by_a_close() {
    let server = echo(|_| {});
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
    finish(server);
}

/// Sends `total` patterned bytes from another thread and checks that they come back.
fn echo_all(stream: TcpStream, total: usize) {
    let mut writer = stream.try_clone().unwrap();
    let mut stream = stream;
    let byte = |at: usize| ((at * 7 + at / 251) % 256) as u8;
    let sender = std::thread::spawn(move || {
        let mut sent = 0;
        while sent < total {
            let block: Vec<u8> = (sent..total.min(sent + 50_000)).map(byte).collect();
            writer.write_all(&block).unwrap();
            sent += block.len();
        }
        writer.shutdown(Half::Write).unwrap();
    });
    let mut received = 0;
    let mut buffer = vec![0; 65_536];
    loop {
        let n = stream.read(&mut buffer).unwrap();
        if n == 0 {
            break;
        }
        for (i, &b) in buffer[..n].iter().enumerate() {
            assert_eq!(b, byte(received + i), "at {}", received + i);
        }
        received += n;
    }
    sender.join().unwrap();
    assert_eq!(received, total);
}

#[test]
fn a_client_that_reads_late_gets_everything() {
    let server = echo(|c| {
        c.output_high_water_bytes = 64 * 1024;
        c.output_low_water_bytes = 16 * 1024;
    });
    echo_all(client(&server), 8 << 20);
    finish(server);
}

#[test]
fn a_client_that_reads_late_gets_everything_through_whole_buffers_and_plain_descriptors() {
    let server = echo(|c| {
        c.output_high_water_bytes = 64 * 1024;
        c.output_low_water_bytes = 16 * 1024;
        c.incremental_buffers = false;
        c.direct_descriptors = false;
        c.recv_ring_bytes = 16 * 1024;
    });
    let second = client(&server);
    let other = std::thread::spawn(move || echo_all(second, 2 << 20));
    echo_all(client(&server), 2 << 20);
    other.join().unwrap();
    finish(server);
}

#[test]
fn nothing_is_lost_with_tiny_queues_and_few_buffers() {
    // 60 connections at once through 8 submissions, 16 completions and two buffers: the
    // submission queue is flushed mid-sweep, the completion queue overflows, buffers run out.
    let server = echo(|c| {
        c.sq_entries = 8;
        c.cq_entries = 16;
        c.recv_ring_bytes = 8192;
        c.incremental_buffers = false;
    });
    const CLIENTS: usize = 60;
    const ROUNDS: usize = 20;
    let mut streams: Vec<TcpStream> = (0..CLIENTS).map(|_| client(&server)).collect();
    let message = |client: usize, round: usize| format!("<{client}:{round}>").repeat(40);
    for round in 0..ROUNDS {
        for (i, stream) in streams.iter_mut().enumerate() {
            stream.write_all(message(i, round).as_bytes()).unwrap();
        }
        for (i, stream) in streams.iter_mut().enumerate() {
            let expected = message(i, round);
            let mut reply = vec![0; expected.len()];
            stream.read_exact(&mut reply).unwrap();
            assert_eq!(reply, expected.as_bytes());
        }
    }
    drop(streams);
    finish(server);
}

#[test]
fn the_opt_in_ways_of_waiting_serve_as_well() {
    let ways: [fn(&mut kompio::Config); 3] =
        [|c| c.busy_poll_us = 200, |c| c.sqpoll_idle_ms = Some(1), |c| c.min_wait_us = 0];
    for way in ways {
        let server = echo(way);
        let second = client(&server);
        let other = std::thread::spawn(move || echo_all(second, 1 << 20));
        echo_all(client(&server), 1 << 20);
        other.join().unwrap();
        finish(server);
    }
}

#[test]
fn a_dropped_worker_gives_its_descriptors_back() {
    let mut local = KompioBuilder::new(config(|_| {})).bind(any_port()).local(|_| Echo).unwrap();
    let mut stream = patient(TcpStream::connect(local.addresses()[0].as_inet().unwrap()).unwrap());
    while local.ctx_mut().connections() == 0 {
        assert!(local.turn(Some(PATIENCE)).unwrap());
    }
    drop(local);
    // Its end is closed, and not merely forgotten.
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert!(rest.is_empty()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn a_client_that_never_reads_is_closed_at_the_hard_limit_and_others_go_on() {
    struct Flood(mpsc::Sender<CloseReason>);
    impl EventHandler for Flood {
        fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
            if data[0] == b'f' {
                // A handler that ignores the high-water mark.
                while ctx.send(conn, &[0; 100_000]) {}
            } else {
                ctx.send(conn, data);
            }
            Consumed::Bytes(data.len())
        }
        fn on_close(&mut self, _: &mut DriverCtx, _: ConnToken, reason: CloseReason) {
            let _ = self.0.send(reason);
        }
    }
    let (tell, told) = mpsc::channel();
    let limits = config(|c| {
        c.output_low_water_bytes = 100_000;
        c.output_high_water_bytes = 1_000_000;
        c.output_hard_limit_bytes = 16_000_000;
    });
    let server =
        KompioBuilder::new(limits).bind(any_port()).launch(move |_| Flood(tell.clone())).unwrap();
    let mut silent = client(&server);
    silent.write_all(b"flood").unwrap();
    assert_eq!(told.recv_timeout(PATIENCE), Ok(CloseReason::OutputLimit));
    let mut other = client(&server);
    other.write_all(b"ping").unwrap();
    let mut reply = [0; 4];
    other.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"ping");
    drop(other);
    drop(silent);
    server.shutdown(DRAIN);
    server.join();
}

#[test]
fn connections_beyond_the_limit_hear_why_and_the_place_is_free_again_later() {
    struct Polite;
    impl EventHandler for Polite {
        fn on_reject(&mut self, listener: ListenerId) -> &[u8] {
            assert_eq!(listener, 0);
            b"-ERR max number of clients reached\r\n"
        }
        fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
            ctx.send(conn, data);
            Consumed::Bytes(data.len())
        }
    }
    let server = KompioBuilder::new(config(|c| c.max_connections = 1))
        .bind(any_port())
        .launch(|_| Polite)
        .unwrap();
    let mut first = client(&server);
    first.write_all(b"x").unwrap();
    first.read_exact(&mut [0]).unwrap();
    let mut second = client(&server);
    let mut words = String::new();
    second.read_to_string(&mut words).unwrap();
    assert_eq!(words, "-ERR max number of clients reached\r\n");
    first.shutdown(Half::Write).unwrap();
    first.read_to_end(&mut Vec::new()).unwrap();
    // The close is seen by the client a moment before the place is counted free.
    loop {
        let mut third = client(&server);
        let _ = third.write_all(b"y");
        let mut reply = [0; 1];
        match third.read_exact(&mut reply) {
            Ok(()) if reply == *b"y" => break,
            _ => std::thread::yield_now(),
        }
    }
    finish(server);
}

#[test]
fn the_last_reply_survives_input_that_nobody_read() {
    struct Refuse;
    impl EventHandler for Refuse {
        fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
            ctx.send(conn, b"-ERR too large\r\n");
            ctx.close_after_flush(conn);
            Consumed::Bytes(data.len())
        }
    }
    let server = KompioBuilder::new(config(|_| {})).bind(any_port()).launch(|_| Refuse).unwrap();
    for _ in 0..20 {
        let mut stream = client(&server);
        // More than the refusal needs: closing with this unread would reset the connection.
        stream.write_all(&[b'x'; 300_000]).unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        assert_eq!(reply, b"-ERR too large\r\n");
    }
    finish(server);
}

#[test]
fn a_reset_by_the_peer_closes_that_connection_alone() {
    let server = echo(|_| {});
    for _ in 0..50 {
        let stream = client(&server);
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        (&stream).write_all(b"gone").unwrap();
    }
    echo_all(client(&server), 100_000);
    finish(server);
}

#[test]
fn several_workers_share_connections_in_turn() {
    struct Who(u8);
    impl EventHandler for Who {
        fn on_accept(&mut self, ctx: &mut DriverCtx, conn: ConnToken, _: ListenerId) {
            assert_eq!(conn.worker(), usize::from(self.0));
            ctx.send(conn, &[self.0]);
        }
        fn on_data(&mut self, _: &mut DriverCtx, _: ConnToken, data: &[u8]) -> Consumed {
            Consumed::Bytes(data.len())
        }
    }
    let server = KompioBuilder::new(config(|c| c.workers = 3))
        .bind(any_port())
        .launch(|worker| Who(worker.id as u8))
        .unwrap();
    let mut streams = Vec::new();
    let mut counts = [0; 3];
    for _ in 0..12 {
        let mut stream = client(&server);
        let mut id = [0];
        stream.read_exact(&mut id).unwrap();
        counts[usize::from(id[0])] += 1;
        streams.push(stream);
    }
    assert_eq!(counts, [4, 4, 4]);
    assert_eq!(server.handle().connections(), 12);
    finish(server);
}

#[test]
fn reuse_port_serves_on_every_worker() {
    let server = echo(|c| {
        c.workers = 2;
        c.accept = AcceptMode::ReusePort;
    });
    for _ in 0..20 {
        echo_all(client(&server), 1000);
    }
    finish(server);
}

#[test]
fn several_listeners_are_told_apart_and_an_existing_one_is_taken_over() {
    struct Which;
    impl EventHandler for Which {
        fn on_accept(&mut self, ctx: &mut DriverCtx, conn: ConnToken, listener: ListenerId) {
            ctx.send(conn, format!("{listener}").as_bytes());
            ctx.close_after_flush(conn);
        }
        fn on_data(&mut self, _: &mut DriverCtx, _: ConnToken, data: &[u8]) -> Consumed {
            Consumed::Bytes(data.len())
        }
    }
    let existing = std::net::TcpListener::bind(any_port()).unwrap();
    let server = KompioBuilder::new(config(|_| {}))
        .bind(any_port())
        .listener(existing)
        .bind("[::1]:0".parse().unwrap())
        .launch(|_| Which)
        .unwrap();
    for (i, address) in server.addresses().iter().enumerate() {
        let mut stream = patient(TcpStream::connect(address.as_inet().unwrap()).unwrap());
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        assert_eq!(told, i.to_string());
    }
    finish(server);
}

#[test]
fn addresses_of_both_ends_are_known() {
    struct Ends(mpsc::Sender<(Option<kompio::Addr>, Option<kompio::Addr>)>);
    impl EventHandler for Ends {
        fn on_accept(&mut self, ctx: &mut DriverCtx, conn: ConnToken, _: ListenerId) {
            let _ = self.0.send((ctx.peer_addr(conn), ctx.local_addr(conn)));
        }
        fn on_data(&mut self, _: &mut DriverCtx, _: ConnToken, data: &[u8]) -> Consumed {
            Consumed::Bytes(data.len())
        }
    }
    let (tell, told) = mpsc::channel();
    let server = KompioBuilder::new(config(|_| {}))
        .bind(any_port())
        .launch(move |_| Ends(tell.clone()))
        .unwrap();
    let stream = client(&server);
    let (peer, local) = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(peer, Some(stream.local_addr().unwrap().into()));
    assert_eq!(local, Some(address(&server).into()));
    finish(server);
}

#[test]
fn shutdown_now_ends_at_once_and_does_not_claim_to_have_drained() {
    struct Queue(mpsc::Sender<()>);
    impl EventHandler for Queue {
        fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
            // More than the socket takes while its peer does not read.
            ctx.send(conn, &vec![0; 32 << 20]);
            let _ = self.0.send(());
            Consumed::Bytes(data.len())
        }
    }
    let (tell, told) = mpsc::channel();
    let server = KompioBuilder::new(config(|_| {}))
        .bind(any_port())
        .launch(move |_| Queue(tell.clone()))
        .unwrap();
    let mut stream = client(&server);
    stream.write_all(b"go").unwrap();
    told.recv_timeout(PATIENCE).unwrap();
    server.shutdown(Shutdown::Now);
    let report = server.join();
    assert!(!report.drained);
    assert_eq!(report.cut, 1);
    drop(stream);
}

#[test]
fn a_drain_lets_a_slow_reader_have_its_reply() {
    struct Queue(mpsc::Sender<()>);
    impl EventHandler for Queue {
        fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
            ctx.send(conn, &vec![b'r'; 16 << 20]);
            let _ = self.0.send(());
            Consumed::Bytes(data.len())
        }
    }
    let (tell, told) = mpsc::channel();
    let server = KompioBuilder::new(config(|_| {}))
        .bind(any_port())
        .launch(move |_| Queue(tell.clone()))
        .unwrap();
    let mut stream = client(&server);
    stream.write_all(b"go").unwrap();
    told.recv_timeout(PATIENCE).unwrap();
    server.shutdown(DRAIN);
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    assert_eq!(reply.len(), 16 << 20);
    assert!(server.join().drained);
    let refused = TcpStream::connect(stream.peer_addr().unwrap()).map_err(|e| e.kind());
    assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));
}

#[test]
fn a_drain_past_its_deadline_is_reported() {
    struct Queue(mpsc::Sender<()>);
    impl EventHandler for Queue {
        fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
            ctx.send(conn, &vec![0; 32 << 20]);
            let _ = self.0.send(());
            Consumed::Bytes(data.len())
        }
    }
    let (tell, told) = mpsc::channel();
    let server = KompioBuilder::new(config(|_| {}))
        .bind(any_port())
        .launch(move |_| Queue(tell.clone()))
        .unwrap();
    let mut stream = client(&server);
    stream.write_all(b"go").unwrap();
    told.recv_timeout(PATIENCE).unwrap();
    server.shutdown(Shutdown::Drain { deadline: std::time::Duration::from_millis(50) });
    let report = server.join();
    assert!(!report.drained);
    assert_eq!(report.cut, 1);
    drop(stream);
}

#[test]
fn a_worker_that_panics_is_reported_and_the_server_ends() {
    struct Bomb;
    impl EventHandler for Bomb {
        fn on_data(&mut self, _: &mut DriverCtx, _: ConnToken, _: &[u8]) -> Consumed {
            std::panic::panic_any("a handler that panics (expected in this test)")
        }
    }
    let server =
        KompioBuilder::new(config(|c| c.workers = 2)).bind(any_port()).launch(|_| Bomb).unwrap();
    let mut stream = client(&server);
    stream.write_all(b"x").unwrap();
    let report = server.join();
    assert!(!report.drained);
    assert_eq!(report.panicked.len(), 1);
}

#[test]
fn two_servers_live_in_one_process() {
    let (one, two) = (echo(|_| {}), echo(|_| {}));
    echo_all(client(&one), 1000);
    finish(one);
    echo_all(client(&two), 1000);
    finish(two);
}

#[test]
fn a_port_in_use_is_one_clear_sentence() {
    let server = echo(|_| {});
    let error = KompioBuilder::new(config(|_| {}))
        .bind(address(&server))
        .launch(|_| Echo)
        .expect_err("the port is taken");
    let text = error.to_string();
    assert!(matches!(error, kompio::Error::Listen { .. }), "{text}");
    assert!(
        text.contains(&address(&server).to_string()) && text.contains("stop the process"),
        "{text}"
    );
    finish(server);
}

#[test]
fn a_copied_listener_serves_in_another_server_and_nobody_is_refused() {
    let first = echo(|_| {});
    let at = address(&first);
    let visit = |stream: TcpStream| {
        let mut stream = patient(stream);
        stream.write_all(b"hello").unwrap();
        let mut reply = [0; 5];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"hello");
        stream
    };
    let open = visit(TcpStream::connect(at).unwrap());
    let copies = first.copy_listeners().unwrap();
    assert_eq!(copies.len(), 1);
    first.stop_accepting();
    // Open connections are served on.
    drop(visit(open));
    finish(first);
    // Nobody accepts now, and nobody is refused.
    let waiting = TcpStream::connect(at).unwrap();
    let sockets = copies.into_iter().map(|(_, fd)| fd).collect();
    let second = KompioBuilder::new(config(|_| {})).listeners(sockets).launch(|_| Echo).unwrap();
    assert_eq!(address(&second), at);
    drop(visit(waiting));
    finish(second);
}
