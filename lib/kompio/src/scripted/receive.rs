//! Receiving: exhausted buffers, overflow, stale completions, batches, direct receives.
//!
//! What must always be true: each claim is a row of what servers have got wrong. Run by
//! `cargo test`.
//!
//! # Safety
//! Memory lent to fills and sends is a static or a box that the test keeps until the operation ended.
#![allow(unsafe_code)]

use crate::buffers::Buffers;
use crate::ctx::Fill;
use crate::handler::{CloseReason, Consumed, FillOutcome, FillResult};
use crate::kernel::{Cqe, Kernel, Op};
use crate::scripted::{Rig, Seen};
use crate::token::{ConnToken, Kind};

#[test]
fn a_connection_without_a_buffer_is_parked_and_armed_again_only_after_buffers_came_back() {
    let mut rig = Rig::with(|_| {}, Buffers::new(2, 4096, false).unwrap());
    let (hog, starved) = (rig.accept(), rig.accept());
    // Both buffers are used up and held until the end of the sweep.
    rig.receive(hog, b"one");
    rig.receive(hog, b"two");
    rig.end_receive(starved, -libc::ENOBUFS);
    rig.turn();
    assert_eq!(rig.worker.ctx.stats().buffer_exhausted, 1);
    assert_eq!(rig.ops(Kind::Recv, starved).len(), 1, "buffers were recycled, so it is armed");
    assert_eq!(rig.worker.kernel.buffers().retired_count(), 0);
    rig.receive(starved, b"at last");
    rig.turn();
    assert!(rig.seen().contains(&Seen::Data(starved, b"at last".to_vec())));
}

#[test]
fn no_more_parked_connections_are_armed_than_buffers_came_back() {
    let mut rig = Rig::with(|_| {}, Buffers::new(2, 4096, false).unwrap());
    let conns: Vec<ConnToken> = (0..10).map(|_| rig.accept()).collect();
    rig.receive(conns[0], b"x");
    for &conn in &conns[1..] {
        rig.end_receive(conn, -libc::ENOBUFS);
    }
    rig.turn();
    let armed = |rig: &Rig| conns.iter().filter(|&&c| !rig.ops(Kind::Recv, c).is_empty()).count();
    assert_eq!(armed(&rig), 2, "the one that received and one for the freed buffer");
    // Nobody is deaf: each sweep arms some more, and the last one too.
    for _ in 0..10 {
        rig.turn();
    }
    assert_eq!(armed(&rig), 10);
}

#[test]
fn a_receive_ended_by_a_full_completion_queue_is_armed_again() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    let tag = rig.tag(Kind::Recv, conn);
    rig.take(tag);
    // The kernel posts the last bytes without MORE when the queue overflows.
    let (flags, taken) = rig.worker.kernel.put(b"last").unwrap();
    rig.worker.kernel.complete(tag, taken as i32, flags);
    rig.turn();
    assert_eq!(rig.seen(), [Seen::Data(conn, b"last".to_vec())]);
    assert_eq!(rig.ops(Kind::Recv, conn).len(), 1);
    assert_eq!(rig.worker.ctx.stats().recv_rearms, 1);
}

#[test]
fn a_stale_completion_reaches_nobody_and_its_buffer_comes_back() {
    let mut rig = Rig::with(|_| {}, Buffers::new(2, 4096, false).unwrap());
    let old = rig.accept();
    let stale = rig.tag(Kind::Recv, old);
    rig.ctx().close(old);
    rig.turn();
    rig.cancel_all(old);
    let new = rig.accept();
    assert_eq!((new.index(), new == old), (old.index(), false));
    let (flags, taken) = rig.worker.kernel.put(b"not for you").unwrap();
    rig.worker.kernel.complete(stale, taken as i32, flags | Cqe::MORE);
    for kind in [Kind::Send, Kind::Fill, Kind::Connect] {
        let stale = rig.tag(kind, old);
        rig.worker.kernel.complete(stale, 3, 0);
    }
    rig.turn();
    assert_eq!(rig.seen(), []);
    assert_eq!(rig.worker.ctx.stats().stale_completions, 4);
    assert_eq!(rig.worker.kernel.buffers().retired_count(), 0);
    // Both buffers are there: two receives in one sweep find one each.
    rig.receive(new, b"a");
    rig.receive(new, b"b");
    rig.turn();
    assert_eq!(rig.ctx().input(old), b"");
    rig.ctx().consume(old, 5);
    rig.ctx().close(old);
    assert!(rig.ctx().is_open(new));
}

#[test]
fn partial_input_is_kept_and_comes_first_next_time() {
    let request = b"SET key value\n";
    for split in 1..request.len() {
        let mut rig = Rig::new();
        rig.on_data(|_, _, data| {
            let end = data.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
            Consumed::Bytes(end)
        });
        let conn = rig.accept();
        rig.receive(conn, &request[..split]);
        rig.turn();
        rig.receive(conn, &request[split..]);
        rig.receive(conn, b"rest");
        rig.turn();
        let seen = rig.seen();
        assert_eq!(seen[1], Seen::Data(conn, request.to_vec()), "split at {split}");
        assert_eq!(rig.ctx().input(conn), b"rest");
    }
}

#[test]
fn a_growing_request_is_not_copied_again_with_each_receive() {
    let mut rig = Rig::with(|_| {}, Buffers::new(4, 4096, true).unwrap());
    rig.on_data(|_, _, _| Consumed::Bytes(0));
    let conn = rig.accept();
    let chunk = [b'c'; 1024];
    for _ in 0..256 {
        rig.receive(conn, &chunk);
        rig.turn();
        rig.seen();
    }
    assert_eq!(rig.ctx().input(conn).len(), 256 * 1024);
    assert_eq!(rig.worker.ctx.stats().tail_copied_bytes, 256 * 1024);
}

#[test]
fn input_of_all_ready_connections_stays_unmoved_during_the_batch() {
    let mut rig = Rig::new();
    rig.on_data(|_, _, _| Consumed::Later);
    let conns: Vec<ConnToken> = (0..8).map(|_| rig.accept()).collect();
    rig.receive(conns[3], b"early ");
    rig.turn();
    rig.seen();
    let all = conns.clone();
    rig.on_sweep(move |ctx| {
        let lent: Vec<(*const u8, usize)> =
            all.iter().map(|&c| (ctx.input(c).as_ptr(), ctx.input(c).len())).collect();
        // Everything that could move them.
        for &c in &all {
            ctx.consume(c, ctx.input(c).len().min(3));
            ctx.send(c, &[0; 10_000]);
        }
        ctx.close(all[0]);
        for (&c, &(ptr, len)) in all.iter().zip(&lent) {
            if len > 0 {
                // SAFETY: the contract of `input` within `on_sweep`.
                let bytes = unsafe { std::slice::from_raw_parts(ptr, len) };
                let expected = format!("request of {}", c.index());
                assert!(bytes.ends_with(expected.as_bytes()), "{bytes:?}");
            }
        }
    });
    for &conn in &conns {
        rig.receive(conn, format!("request of {}", conn.index()).as_bytes());
    }
    rig.turn();
    let told = rig.seen().iter().filter(|s| matches!(s, Seen::Data(..))).count();
    assert_eq!(told, 8, "each connection once");
    rig.on_sweep(|_| {});
    assert_eq!(rig.ctx().input(conns[3]), b"ly request of 3");
    assert_eq!(rig.ctx().input(conns[1]), b"uest of 1");
}

#[test]
fn later_is_asked_once_a_sweep_and_again_with_the_next_input() {
    let mut rig = Rig::new();
    rig.on_data(|_, _, _| Consumed::Later);
    let conn = rig.accept();
    rig.receive(conn, b"ab");
    rig.receive(conn, b"cd");
    rig.turn();
    assert_eq!(rig.seen(), [Seen::Data(conn, b"ab".to_vec())]);
    assert_eq!(rig.ctx().input(conn), b"abcd");
    rig.receive(conn, b"e");
    rig.turn();
    assert_eq!(rig.seen(), [Seen::Data(conn, b"abcde".to_vec())]);
}

#[test]
fn discard_swallows_exactly_so_many_bytes_now_and_later() {
    for n in 0..12u64 {
        let mut rig = Rig::new();
        let conn = rig.accept();
        rig.on_data(move |ctx, conn, data| {
            if data.starts_with(b"!") {
                ctx.consume(conn, 1);
                ctx.discard(conn, n);
                return Consumed::Bytes(0);
            }
            Consumed::Bytes(data.len())
        });
        let rest = b"0123456789AB";
        rig.receive(conn, b"!0123");
        rig.turn();
        rig.receive(conn, b"4567");
        rig.receive(conn, b"89AB");
        rig.turn();
        let kept: Vec<u8> = rig.ctx().input(conn).to_vec();
        let delivered: Vec<u8> = rig
            .seen()
            .iter()
            .filter_map(|s| match s {
                Seen::Data(_, d) if !d.starts_with(b"!") => Some(d.clone()),
                _ => None,
            })
            .flatten()
            .collect();
        // Bytes that stayed after the discard come with the next receive.
        assert_eq!([delivered, kept].concat(), rest[n as usize..], "after {n}");
    }
}

#[test]
fn redelivery_offers_kept_input_again_without_new_bytes() {
    let mut rig = Rig::new();
    rig.on_data(|_, _, _| Consumed::Bytes(0));
    let conn = rig.accept();
    rig.receive(conn, b"held");
    rig.turn();
    rig.seen();
    rig.ctx().redeliver(conn);
    rig.ctx().redeliver(conn);
    rig.turn();
    assert_eq!(rig.seen(), [Seen::Data(conn, b"held".to_vec())]);
}

#[test]
fn a_paused_connection_is_not_delivered_to_and_resumes_with_what_was_kept() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    rig.ctx().pause_recv(conn);
    rig.receive(conn, b"quiet");
    rig.turn();
    assert_eq!(rig.seen(), []);
    rig.end_receive(conn, -libc::ECANCELED);
    rig.turn();
    assert!(rig.ops(Kind::Recv, conn).is_empty());
    rig.ctx().resume_recv(conn);
    rig.turn();
    assert_eq!(rig.seen(), [Seen::Data(conn, b"quiet".to_vec())]);
    assert_eq!(rig.ops(Kind::Recv, conn).len(), 1);
}

#[test]
fn a_half_close_is_told_after_the_input_that_was_held_back() {
    let mut rig = Rig::new();
    rig.on_data(|ctx, conn, data| {
        ctx.send(conn, data);
        Consumed::Bytes(data.len())
    });
    let conn = rig.accept();
    rig.ctx().pause_recv(conn);
    rig.receive(conn, b"last words");
    rig.end_receive(conn, 0);
    rig.turn();
    assert_eq!(rig.seen(), [], "neither data nor end while paused");
    rig.ctx().resume_recv(conn);
    rig.turn();
    assert_eq!(rig.seen(), [Seen::Data(conn, b"last words".to_vec()), Seen::HalfClose(conn)]);
    rig.flush(conn);
    assert_eq!(rig.wire(conn), b"last words", "and is answered in full");
    assert_eq!(rig.closed(conn), [CloseReason::PeerClosed]);
}

#[test]
fn unconsumed_input_past_its_limit_closes_the_connection() {
    let change = |c: &mut crate::Config| c.input_limit_bytes = 4096;
    let mut rig = Rig::with(change, Buffers::new(4, 4096, true).unwrap());
    rig.on_data(|_, _, _| Consumed::Bytes(0));
    let conn = rig.accept();
    rig.receive(conn, &[b'x'; 4000]);
    rig.turn();
    assert!(rig.ctx().is_open(conn));
    rig.receive(conn, &[b'x'; 200]);
    rig.turn();
    rig.cancel_all(conn);
    assert_eq!(rig.closed(conn), [CloseReason::InputLimit]);
}

// ---- direct receives ---------------------------------------------------------------------------

/// Memory lent to a fill, and what was asked of it.
fn lend(rig: &mut Rig, conn: ConnToken, len: usize, id: u64) -> Box<[u8]> {
    let mut memory = vec![0u8; len].into_boxed_slice();
    // SAFETY: the test keeps the box until the fill has ended.
    assert!(unsafe { rig.ctx().fill(conn, Fill { ptr: memory.as_mut_ptr(), len, id }) });
    memory
}

/// Completes the direct receive with these bytes.
fn fill_with(rig: &mut Rig, conn: ConnToken, bytes: &[u8]) {
    let tag = rig.tag(Kind::Fill, conn);
    match rig.take(tag) {
        Op::RecvInto { ptr, len, .. } => {
            assert!(bytes.len() <= len as usize);
            // SAFETY: the operation is outstanding and names `len` bytes.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), ptr, bytes.len()) };
        }
        other => panic!("{other:?}"),
    }
    rig.worker.kernel.complete(tag, bytes.len() as i32, 0);
    rig.turn();
}

fn filled(rig: &mut Rig) -> Vec<FillResult> {
    let all = rig.seen();
    all.into_iter()
        .filter_map(|s| match s {
            Seen::Fill(_, result) => Some(result),
            _ => None,
        })
        .collect()
}

#[test]
fn a_fill_takes_what_is_here_then_what_still_lands_in_buffers_then_the_rest_in_place() {
    let mut rig = Rig::new();
    rig.on_data(|_, _, _| Consumed::Bytes(0));
    let conn = rig.accept();
    rig.receive(conn, b"abc");
    rig.turn();
    let memory = lend(&mut rig, conn, 12, 5);
    assert_eq!(rig.ctx().input(conn), b"", "copied and consumed");
    rig.turn();
    assert!(rig.ops(Kind::Fill, conn).is_empty(), "not before the other receive has ended");
    rig.receive(conn, b"def");
    rig.end_receive(conn, -libc::ECANCELED);
    rig.turn();
    assert!(matches!(rig.ops(Kind::Fill, conn)[..], [Op::RecvInto { len: 6, .. }]));
    fill_with(&mut rig, conn, b"gh");
    fill_with(&mut rig, conn, b"ijkl");
    assert_eq!(&memory[..], b"abcdefghijkl");
    assert_eq!(filled(&mut rig), [FillResult { id: 5, len: 12, outcome: FillOutcome::Complete }]);
    assert_eq!(rig.ops(Kind::Recv, conn).len(), 1, "and receives as before");
}

#[test]
fn a_fill_that_is_complete_from_the_start_is_told_and_leaves_the_rest() {
    let mut rig = Rig::new();
    rig.on_data(|_, _, _| Consumed::Bytes(0));
    let conn = rig.accept();
    rig.receive(conn, b"valuerest");
    rig.turn();
    let memory = lend(&mut rig, conn, 5, 1);
    rig.turn();
    assert_eq!(&memory[..], b"value");
    assert_eq!(filled(&mut rig), [FillResult { id: 1, len: 5, outcome: FillOutcome::Complete }]);
    assert_eq!(rig.ctx().input(conn), b"rest");
}

#[test]
fn bytes_after_a_fill_that_landed_in_buffers_are_delivered_after_it() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    let memory = lend(&mut rig, conn, 4, 1);
    rig.receive(conn, b"bodyNEXT");
    rig.turn();
    assert_eq!(&memory[..], b"body");
    assert_eq!(
        rig.seen(),
        [
            Seen::Fill(conn, FillResult { id: 1, len: 4, outcome: FillOutcome::Complete }),
            Seen::Data(conn, b"NEXT".to_vec()),
        ]
    );
}

#[test]
fn a_vectored_fill_goes_into_its_pieces_in_order() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    let mut memory = [[0u8; 3], [0; 3], [0; 3]];
    let [a, b, c] = &mut memory;
    let pieces = [(a.as_mut_ptr(), 3), (b.as_mut_ptr(), 3), (c.as_mut_ptr(), 3)];
    // SAFETY: the arrays outlive the fill.
    assert!(unsafe { rig.ctx().fill_vectored(conn, &pieces, 2) });
    rig.receive(conn, b"1234");
    rig.end_receive(conn, -libc::ECANCELED);
    rig.turn();
    let tag = rig.tag(Kind::Fill, conn);
    let Op::RecvMessage { message, .. } = rig.take(tag) else { panic!("several pieces are left") };
    // SAFETY: the operation is outstanding.
    unsafe {
        let iovecs = std::slice::from_raw_parts((*message).msg_iov, (*message).msg_iovlen);
        assert_eq!(iovecs.iter().map(|v| v.iov_len).collect::<Vec<_>>(), [2, 3]);
        std::ptr::copy_nonoverlapping(b"56".as_ptr(), iovecs[0].iov_base.cast(), 2);
        std::ptr::copy_nonoverlapping(b"7".as_ptr(), iovecs[1].iov_base.cast(), 1);
    }
    rig.worker.kernel.complete(tag, 3, 0);
    rig.turn();
    fill_with(&mut rig, conn, b"89");
    assert_eq!(memory.concat(), b"123456789");
    assert_eq!(filled(&mut rig).len(), 1);
}

#[test]
fn a_fill_on_a_closed_connection_ends_only_when_the_kernel_let_go() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    let memory = lend(&mut rig, conn, 100, 3);
    rig.end_receive(conn, -libc::ECANCELED);
    rig.turn();
    assert_eq!(rig.ops(Kind::Fill, conn).len(), 1);
    rig.ctx().close(conn);
    rig.turn();
    assert_eq!(rig.seen(), [], "the kernel may still write");
    rig.cancel_all(conn);
    assert_eq!(
        rig.seen(),
        [
            Seen::Fill(conn, FillResult { id: 3, len: 0, outcome: FillOutcome::Cancelled }),
            Seen::Close(conn, CloseReason::Local),
        ]
    );
    drop(memory);
    // SAFETY: nothing is lent, the connection is gone.
    assert!(!unsafe { rig.ctx().fill(conn, Fill { ptr: std::ptr::null_mut(), len: 0, id: 4 }) });
}

#[test]
fn a_fill_whose_peer_hangs_up_says_how_far_it_got() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    let _memory = lend(&mut rig, conn, 100, 3);
    rig.end_receive(conn, -libc::ECANCELED);
    rig.turn();
    fill_with(&mut rig, conn, &[1; 40]);
    fill_with(&mut rig, conn, b"");
    let seen = rig.seen();
    let result = FillResult { id: 3, len: 40, outcome: FillOutcome::PeerClosed };
    assert_eq!(seen[0], Seen::Fill(conn, result));
    assert_eq!(seen[1], Seen::HalfClose(conn));
}

#[test]
fn a_connection_with_large_fills_receives_single_shot_until_it_is_small_again() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    let value = vec![7u8; crate::limits::BULK_FILL_BYTES_MIN];
    let memory = lend(&mut rig, conn, value.len(), 1);
    rig.end_receive(conn, -libc::ECANCELED);
    rig.turn();
    fill_with(&mut rig, conn, &value);
    assert_eq!(&memory[..], &value[..]);
    let tag = rig.tag(Kind::Recv, conn);
    for streak in 0..crate::limits::BULK_SMALL_STREAK {
        let ops = rig.ops(Kind::Recv, conn);
        assert!(matches!(ops[..], [Op::RecvOnce { len: 4096, .. }]), "{streak}: {ops:?}");
        rig.take(tag);
        let (flags, taken) = rig.worker.kernel.put(b"small").unwrap();
        rig.worker.kernel.complete(tag, taken as i32, flags);
        rig.turn();
    }
    assert!(matches!(rig.ops(Kind::Recv, conn)[..], [Op::RecvMulti { .. }]));
}

#[test]
fn a_discard_before_a_fill_is_swallowed_first() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    rig.ctx().discard(conn, 5);
    let memory = lend(&mut rig, conn, 3, 1);
    rig.turn();
    rig.receive(conn, b"waste");
    rig.turn();
    rig.receive(conn, b"VAL");
    rig.turn();
    assert_eq!(&memory[..], b"VAL");
    assert_eq!(filled(&mut rig).len(), 1);
}
