//! Workers: pinning, notifications, timers, client mode, the calling thread, signals, memory.
//!
//! What must always be true: no test sleeps; each waits for the event it is about. Run by
//! `cargo test`.
//!
//! # Safety
//! One test sends a signal to a thread that it knows to be alive; another lends memory to
//! receives and sends for longer than they last.
#![allow(unsafe_code)]

mod common;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{Echo, PATIENCE, address, any_port, client, config, echo, finish};
use kompio::{
    CloseReason, ConnToken, Consumed, DriverCtx, EventHandler, Fill, FillOutcome, FillResult,
    KompioBuilder, SendPart, Shutdown,
};

#[test]
fn workers_run_on_exactly_the_listed_cpus() {
    let allowed = kompio::affinity().unwrap();
    // The last ones first: consecutive cores from 0 would not do.
    let listed: Vec<usize> = allowed.iter().rev().take(2).copied().collect();
    let (tell, told) = mpsc::channel();
    let pinned = config(|c| {
        c.workers = listed.len();
        c.cpus = Some(listed.clone().try_into().unwrap());
    });
    let server = KompioBuilder::new(pinned)
        .bind(any_port())
        .launch(move |worker| {
            let _ = tell.send((worker.id, worker.cpu, kompio::affinity().unwrap()));
            Echo
        })
        .unwrap();
    let mut ran: Vec<_> = (0..listed.len()).map(|_| told.recv_timeout(PATIENCE).unwrap()).collect();
    ran.sort_unstable();
    for ((id, cpu, affinity), &wanted) in ran.iter().zip(&listed) {
        assert_eq!((*cpu, affinity.as_slice()), (Some(wanted), &[wanted][..]), "worker {id}");
    }
    finish(server);
    assert_eq!(kompio::affinity().unwrap(), allowed, "the caller's own CPUs are as before");
}

#[test]
fn a_cpu_that_does_not_exist_is_refused_by_number() {
    let error = KompioBuilder::new(config(|c| c.cpus = Some("1023".parse().unwrap())))
        .bind(any_port())
        .launch(|_| Echo)
        .expect_err("no such CPU");
    assert!(matches!(error, kompio::Error::Pin { worker: 0, cpu: 1023, .. }), "{error}");
}

#[test]
fn every_notification_arrives_once_and_in_the_order_of_its_sender() {
    struct Count(mpsc::Sender<u64>);
    impl EventHandler for Count {
        fn on_data(&mut self, _: &mut DriverCtx, _: ConnToken, data: &[u8]) -> Consumed {
            Consumed::Bytes(data.len())
        }
        fn on_notify(&mut self, _: &mut DriverCtx, value: u64) {
            let _ = self.0.send(value);
        }
    }
    const SENDERS: u64 = 3;
    const EACH: u64 = 5000;
    let (tell, told) = mpsc::channel();
    let server = KompioBuilder::new(config(|_| {})).launch(move |_| Count(tell.clone())).unwrap();
    // A single one to a sleeping worker, several times: each must wake it.
    for i in 0..50 {
        server.notify(0, u64::MAX - i);
        assert_eq!(told.recv_timeout(PATIENCE), Ok(u64::MAX - i));
    }
    let senders: Vec<_> = (0..SENDERS)
        .map(|s| {
            let handle = server.handle();
            std::thread::spawn(move || {
                for i in 0..EACH {
                    handle.notify(0, s * EACH + i);
                }
            })
        })
        .collect();
    let mut next = [0; SENDERS as usize];
    for _ in 0..SENDERS * EACH {
        let value = told.recv_timeout(PATIENCE).unwrap();
        let sender = (value / EACH) as usize;
        assert_eq!(value % EACH, next[sender]);
        next[sender] += 1;
    }
    for sender in senders {
        sender.join().unwrap();
    }
    finish(server);
}

#[test]
fn timers_fire_not_before_their_time_and_ticks_go_on_without_traffic() {
    #[derive(Default)]
    struct Clock {
        start: Option<Instant>,
        fired: Vec<(u64, Duration)>,
        ticks: u32,
    }
    impl EventHandler for Clock {
        fn on_start(&mut self, ctx: &mut DriverCtx) {
            self.start = Some(Instant::now());
            ctx.timer_after(Duration::from_millis(30), 30);
            let never = ctx.timer_after(Duration::from_millis(20), 20);
            ctx.timer_at(ctx.now() + Duration::from_millis(10), 10);
            assert!(ctx.cancel_timer(never));
        }
        fn on_data(&mut self, _: &mut DriverCtx, _: ConnToken, data: &[u8]) -> Consumed {
            Consumed::Bytes(data.len())
        }
        fn on_timer(&mut self, _: &mut DriverCtx, token: u64) {
            self.fired.push((token, self.start.unwrap().elapsed()));
        }
        fn on_tick(&mut self, ctx: &mut DriverCtx) {
            self.ticks += 1;
            if self.fired.len() == 2 && self.ticks >= 5 {
                ctx.request_shutdown(Shutdown::Now);
            }
        }
    }
    let ticking = config(|c| c.tick = Some(Duration::from_millis(5)));
    let mut local = KompioBuilder::new(ticking).local(|_| Clock::default()).unwrap();
    assert!(local.run().unwrap().drained);
    let fired = &local.handler_mut().fired;
    assert_eq!(fired.iter().map(|f| f.0).collect::<Vec<_>>(), [10, 30]);
    for &(token, after) in fired {
        assert!(after >= Duration::from_millis(token), "{token} ms fired after {after:?}");
    }
}

#[test]
fn a_pure_client_on_the_calling_thread_talks_to_a_server() {
    struct Ping {
        to: SocketAddr,
        got: Vec<u8>,
        closed: Option<CloseReason>,
    }
    impl EventHandler for Ping {
        fn on_start(&mut self, ctx: &mut DriverCtx) {
            ctx.connect_with_timeout(self.to, PATIENCE).expect("a socket");
        }
        fn on_connect(&mut self, ctx: &mut DriverCtx, conn: ConnToken, result: io::Result<()>) {
            result.expect("connected");
            ctx.send(conn, b"ping");
        }
        fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
            self.got.extend_from_slice(data);
            if self.got.len() == 4 {
                ctx.shutdown_write(conn);
            }
            Consumed::Bytes(data.len())
        }
        fn on_close(&mut self, ctx: &mut DriverCtx, _: ConnToken, reason: CloseReason) {
            self.closed = Some(reason);
            ctx.request_shutdown(Shutdown::Now);
        }
    }
    let server = echo(|_| {});
    let to = address(&server);
    let mut local = KompioBuilder::new(config(|_| {}))
        .local(|_| Ping { to, got: Vec::new(), closed: None })
        .unwrap();
    while local.turn(Some(PATIENCE)).unwrap() {}
    assert_eq!(local.handler_mut().got, b"ping");
    assert_eq!(local.handler_mut().closed, Some(CloseReason::PeerClosed));
    finish(server);
}

#[test]
fn a_refused_connection_is_told_once_and_closed_once() {
    #[derive(Default)]
    struct Refused(Vec<String>);
    impl EventHandler for Refused {
        fn on_start(&mut self, ctx: &mut DriverCtx) {
            // A port that was free a moment ago.
            let free = std::net::TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
            ctx.connect(free).expect("a socket");
        }
        fn on_connect(&mut self, _: &mut DriverCtx, _: ConnToken, result: io::Result<()>) {
            self.0.push(format!("connect {:?}", result.unwrap_err().kind()));
        }
        fn on_data(&mut self, _: &mut DriverCtx, _: ConnToken, data: &[u8]) -> Consumed {
            Consumed::Bytes(data.len())
        }
        fn on_close(&mut self, ctx: &mut DriverCtx, _: ConnToken, reason: CloseReason) {
            self.0.push(format!("close {reason:?}"));
            ctx.request_shutdown(Shutdown::Now);
        }
    }
    let mut local = KompioBuilder::new(config(|_| {})).local(|_| Refused::default()).unwrap();
    local.run().unwrap();
    assert_eq!(local.handler_mut().0, ["connect ConnectionRefused", "close ConnectFailed"]);
}

#[test]
fn unix_sockets_are_served_and_an_abandoned_file_is_replaced() {
    use std::os::unix::net::UnixStream;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kompio.sock");
    for _ in 0..2 {
        let server = KompioBuilder::new(config(|_| {})).bind_unix(&path).launch(|_| Echo).unwrap();
        let error = KompioBuilder::new(config(|_| {}))
            .bind_unix(&path)
            .launch(|_| Echo)
            .expect_err("somebody serves it");
        assert!(matches!(error, kompio::Error::Listen { .. }), "{error}");
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&[7; 100_000]).unwrap();
        let mut reply = vec![0; 100_000];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply, [7; 100_000]);
        drop(stream);
        finish(server);
    }
    std::fs::write(folder.path().join("file"), b"data").unwrap();
    let taken = KompioBuilder::new(config(|_| {})).bind_unix(folder.path().join("file"));
    assert!(taken.launch(|_| Echo).is_err(), "a plain file is never replaced");
}

#[test]
fn a_worker_survives_signals() {
    struct Thread(mpsc::Sender<libc::pthread_t>);
    impl EventHandler for Thread {
        fn on_start(&mut self, _: &mut DriverCtx) {
            // SAFETY: plain call.
            let _ = self.0.send(unsafe { libc::pthread_self() });
        }
        fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
            ctx.send(conn, data);
            Consumed::Bytes(data.len())
        }
    }
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: installs a handler that does nothing and does not restart system calls.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
    }
    let (tell, told) = mpsc::channel();
    let server = KompioBuilder::new(config(|_| {}))
        .bind(any_port())
        .launch(move |_| Thread(tell.clone()))
        .unwrap();
    let thread = told.recv_timeout(PATIENCE).unwrap();
    let mut stream = client(&server);
    for round in 0..200u32 {
        // SAFETY: the worker lives until `finish`.
        unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
        stream.write_all(&round.to_le_bytes()).unwrap();
        // SAFETY: as above.
        unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
        let mut reply = [0; 4];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(u32::from_le_bytes(reply), round);
    }
    drop(stream);
    finish(server);
}

/// Stores values that come as `len (4 bytes)`, `value`; answers each with the value by reference.
struct Store {
    values: Vec<Option<Vec<u8>>>,
    sent: Vec<Option<Vec<u8>>>,
    released: u64,
    tell: mpsc::Sender<(u64, u64, u64)>,
    stored: u64,
}

impl EventHandler for Store {
    fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
        let Some((len, _)) = data.split_first_chunk::<4>() else { return Consumed::Bytes(0) };
        let len = u32::from_le_bytes(*len) as usize;
        let index = conn.index();
        self.values.resize_with(self.values.len().max(index + 1), || None);
        let mut value = vec![0; len];
        ctx.consume(conn, 4);
        let ptr = value.as_mut_ptr();
        self.values[index] = Some(value);
        // SAFETY: the value's memory stays in `values` until `on_fill`.
        assert!(unsafe { ctx.fill(conn, Fill { ptr, len, id: index as u64 }) });
        Consumed::Bytes(0)
    }

    fn on_fill(&mut self, ctx: &mut DriverCtx, conn: ConnToken, result: FillResult) {
        assert_eq!(result.id, conn.index() as u64);
        let value = self.values[conn.index()].take().expect("a fill ends once");
        if result.outcome != FillOutcome::Complete {
            return;
        }
        assert_eq!(result.len, value.len());
        self.stored += 1;
        let part = SendPart::Ref {
            ptr: value.as_ptr(),
            len: value.len(),
            release_id: self.sent.len() as u64,
        };
        self.sent.push(Some(value));
        // SAFETY: the value stays in `sent` until `on_release` takes it.
        unsafe { ctx.send_parts(conn, &[SendPart::Inline(b"<"), part, SendPart::Inline(b">")]) };
    }

    fn on_release(&mut self, _: &mut DriverCtx, ids: &[u64]) {
        for &id in ids {
            assert!(self.sent[id as usize].take().is_some(), "{id} is released once");
            self.released += 1;
        }
    }

    fn on_stop(&mut self, ctx: &mut DriverCtx) {
        let _ = self.tell.send((self.stored, self.released, ctx.stats().fills));
    }
}

#[test]
fn a_reader_that_does_not_read_gives_pinned_memory_back_and_gets_everything_later() {
    const LEN: usize = 24 << 20;
    struct Pins {
        value: Vec<u8>,
        tell: mpsc::Sender<Vec<u64>>,
    }
    impl EventHandler for Pins {
        fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
            if data[0] == b'u' {
                ctx.unpin(conn);
                return Consumed::Bytes(data.len());
            }
            let part = SendPart::Ref { ptr: self.value.as_ptr(), len: LEN, release_id: 7 };
            // SAFETY: the value is overwritten only after `on_release` named it.
            unsafe {
                ctx.send_parts(conn, &[SendPart::Inline(b"<"), part, SendPart::Inline(b">")])
            };
            Consumed::Bytes(data.len())
        }
        fn on_release(&mut self, _: &mut DriverCtx, ids: &[u64]) {
            self.value.fill(0);
            let _ = self.tell.send(ids.to_vec());
        }
    }
    let (tell, told) = mpsc::channel();
    let roomy = config(|c| {
        c.output_high_water_bytes = 2 * LEN;
        c.zero_copy = kompio::ZeroCopy::Off;
    });
    let server = KompioBuilder::new(roomy)
        .bind(any_port())
        .launch(move |_| Pins {
            value: (0..LEN).map(|i| (i % 253) as u8).collect(),
            tell: tell.clone(),
        })
        .unwrap();
    let mut stream = client(&server);
    stream.write_all(b"get").unwrap();
    // The first byte of the reply shows that the send is under way; then nothing is read.
    stream.read_exact(&mut [0]).unwrap();
    assert!(told.try_recv().is_err());
    stream.write_all(b"unpin").unwrap();
    assert_eq!(told.recv_timeout(PATIENCE), Ok(vec![7]));
    let mut rest = vec![0; LEN + 1];
    stream.read_exact(&mut rest).unwrap();
    assert_eq!(rest.pop(), Some(b'>'));
    assert!(rest.iter().enumerate().all(|(i, &b)| b == (i % 253) as u8));
    drop(stream);
    finish(server);
    assert!(told.try_recv().is_err(), "released once");
}

#[test]
fn large_values_are_received_in_place_and_sent_from_where_they_are() {
    let (tell, told) = mpsc::channel();
    let server = KompioBuilder::new(config(|_| {}))
        .bind(any_port())
        .launch(move |_| Store {
            values: Vec::new(),
            sent: Vec::new(),
            released: 0,
            tell: tell.clone(),
            stored: 0,
        })
        .unwrap();
    let lengths = [1usize, 100, 5000, 16_384, 70_000, 1 << 20, 3_000_001, 10, 4096, 65_536];
    let talk = |mut stream: TcpStream, seed: usize| {
        for (round, &len) in lengths.iter().enumerate() {
            let value: Vec<u8> = (0..len).map(|i| (i * 31 + round + seed) as u8).collect();
            let mut request = (len as u32).to_le_bytes().to_vec();
            request.extend_from_slice(&value);
            let mut writer = stream.try_clone().unwrap();
            let sender = std::thread::spawn(move || writer.write_all(&request).unwrap());
            let mut reply = vec![0; len + 2];
            stream.read_exact(&mut reply).unwrap();
            sender.join().unwrap();
            assert_eq!((reply[0], reply[len + 1]), (b'<', b'>'));
            assert!(reply[1..=len] == value[..], "round {round} of {seed}");
        }
    };
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let stream = client(&server);
            scope.spawn(move || talk(stream, seed));
        }
    });
    // One that goes away in the middle of a value.
    let mut half = client(&server);
    half.write_all(&1_000_000u32.to_le_bytes()).unwrap();
    half.write_all(&[1; 300_000]).unwrap();
    drop(half);
    finish(server);
    let stored = 3 * lengths.len() as u64;
    let (kept, released, fills) = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!((kept, released), (stored, stored), "each value is released exactly once");
    assert!(fills >= stored);
}
