//! Sending: short sends, stable memory, zero-copy and its notifications, limits.
//!
//! What must always be true: each claim is a row of what servers have got wrong. Run by
//! `cargo test`.
//!
//! # Safety
//! Memory lent to fills and sends is a static or a box that the test keeps until the operation ended.
#![allow(unsafe_code)]

use std::time::Duration;

use crate::buffers::Buffers;
use crate::handler::CloseReason;
use crate::kernel::{Cqe, Op};
use crate::limits;
use crate::out::SendPart;
use crate::scripted::{Rig, Seen};
use crate::shared::Shutdown;
use crate::token::{ConnToken, Kind, Tag};

static LARGE: [u8; 32 * 1024] = [b'L'; 32 * 1024];

fn queue_large(rig: &mut Rig, conn: ConnToken, id: u64) {
    let part = SendPart::Ref { ptr: LARGE.as_ptr(), len: LARGE.len(), release_id: id };
    // SAFETY: a static lives for ever.
    assert!(unsafe {
        rig.ctx().send_parts(conn, &[SendPart::Inline(b"head "), part, SendPart::Inline(b" tail")])
    });
}

/// The outstanding zero-copy send and its tag.
fn zero_copy(rig: &mut Rig) -> (Op, Tag) {
    let all = &mut rig.worker.kernel.outstanding;
    let at = all.iter().position(|(_, t)| t.kind == Kind::ZeroCopy).expect("a zero-copy send");
    all.remove(at).expect("just found")
}

fn has_zero_copy(rig: &Rig) -> bool {
    rig.worker.kernel.outstanding.iter().any(|(_, t)| t.kind == Kind::ZeroCopy)
}

#[test]
fn one_send_is_in_flight_and_a_short_one_is_resumed_before_anything_newer() {
    let (first, second) = (b"the first reply ".as_slice(), b"and the second".as_slice());
    for stop in 1..first.len() {
        let mut rig = Rig::new();
        let conn = rig.accept();
        rig.ctx().send(conn, first);
        rig.turn();
        rig.ctx().send(conn, second);
        rig.turn();
        assert_eq!(rig.ops(Kind::Send, conn).len(), 1, "the second waits for the first");
        assert_eq!(rig.send(conn, stop), stop);
        rig.turn();
        rig.flush(conn);
        assert_eq!(rig.wire(conn), [first, second].concat(), "stopped after {stop}");
        assert_eq!(rig.worker.ctx.stats().short_sends, 1);
        assert_eq!(rig.seen(), [Seen::Sent(conn)], "told once, when everything has left");
        assert_eq!(rig.ctx().queued_bytes(conn), 0);
    }
}

#[test]
fn replies_of_a_sweep_gather_in_one_send() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    for _ in 0..16 {
        rig.ctx().send(conn, b"reply.");
    }
    rig.turn();
    let ops = rig.ops(Kind::Send, conn);
    assert!(matches!(ops[..], [Op::Send { len: 96, .. }]), "{ops:?}");
}

#[test]
fn a_vectored_send_may_stop_inside_any_part() {
    static VALUE: &[u8] = b"VALUE";
    let whole = b"$5 VALUE\r\n$5 VALUE\r\n".as_slice();
    for stop in 1..whole.len() {
        let mut rig = Rig::new();
        let conn = rig.accept();
        for id in [1, 2] {
            let part = SendPart::Ref { ptr: VALUE.as_ptr(), len: VALUE.len(), release_id: id };
            // SAFETY: a static lives for ever.
            unsafe {
                let end = SendPart::Inline(b"\r\n");
                rig.ctx().send_parts(conn, &[SendPart::Inline(b"$5 "), part, end]);
            }
        }
        rig.turn();
        rig.send(conn, stop);
        rig.turn();
        assert_eq!(rig.released(), [] as [u64; 0], "nothing is released before the whole has left");
        rig.flush(conn);
        assert_eq!(rig.wire(conn), whole, "stopped after {stop}");
        assert_eq!(rig.released(), [1, 2]);
    }
}

#[test]
fn the_message_and_its_iovecs_stay_where_the_kernel_was_told() {
    let mut rig = Rig::new();
    rig.worker.kernel.zero_copy = (false, false);
    let conn = rig.accept();
    queue_large(&mut rig, conn, 7);
    rig.turn();
    let ops = rig.ops(Kind::Send, conn);
    let [op @ Op::SendMessage { message, .. }] = ops[..] else { panic!("{ops:?}") };
    let before = Rig::sending(op);
    // Growing the slab and the other half must not move what is in flight.
    for _ in 0..500 {
        let other = rig.accept();
        rig.ctx().send(other, b"noise");
        rig.ctx().send(conn, &[b'n'; 600]);
        rig.turn();
    }
    let ops = rig.ops(Kind::Send, conn);
    let [op @ Op::SendMessage { message: still, .. }] = ops[..] else { panic!("{ops:?}") };
    assert_eq!(still, message);
    assert_eq!(Rig::sending(op), before);
    rig.flush(conn);
    assert_eq!(rig.wire(conn).len(), 5 + LARGE.len() + 5 + 500 * 600);
}

#[test]
fn a_plain_send_releases_its_parts_with_its_completion() {
    let mut rig = Rig::new();
    rig.worker.kernel.zero_copy = (false, false);
    let conn = rig.accept();
    queue_large(&mut rig, conn, 7);
    rig.turn();
    assert_eq!(rig.released(), [] as [u64; 0]);
    rig.send(conn, usize::MAX);
    rig.turn();
    assert_eq!(rig.released(), [7]);
}

#[test]
fn a_zero_copy_part_is_released_by_its_notification_and_not_by_its_result() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    queue_large(&mut rig, conn, 7);
    rig.turn();
    let (op, tag) = zero_copy(&mut rig);
    let len = Rig::sending(op).concat().len() as i32;
    rig.worker.kernel.complete(tag, len, Cqe::MORE);
    rig.turn();
    assert_eq!(rig.released(), [] as [u64; 0], "the kernel still reads the memory");
    assert_eq!(rig.ctx().queued_bytes(conn), 0, "but the next send may go");
    rig.ctx().send(conn, b"next");
    rig.turn();
    assert_eq!(rig.ops(Kind::Send, conn).len(), 1);
    rig.worker.kernel.complete(tag, 0, Cqe::NOTIFICATION);
    rig.turn();
    assert_eq!(rig.released(), [7]);
    // A second one would be for a later owner of the entry.
    rig.worker.kernel.complete(tag, 0, Cqe::NOTIFICATION);
    rig.turn();
    assert_eq!(rig.released(), [] as [u64; 0]);
    assert_eq!(rig.worker.ctx.stats().stale_completions, 1);
}

#[test]
fn zero_copy_is_used_only_after_a_probe_that_was_not_copied() {
    for copied in [false, true] {
        let mut rig = Rig::new();
        let conn = rig.accept();
        queue_large(&mut rig, conn, 1);
        rig.turn();
        let (op, tag) = zero_copy(&mut rig);
        let len = Rig::sending(op).concat().len() as i32;
        rig.worker.kernel.complete(tag, len, Cqe::MORE);
        rig.turn();
        queue_large(&mut rig, conn, 2);
        rig.turn();
        assert!(!has_zero_copy(&rig), "the probe has not answered yet");
        rig.send(conn, usize::MAX);
        let result = if copied { Cqe::COPIED as i32 } else { 0 };
        rig.worker.kernel.complete(tag, result, Cqe::NOTIFICATION);
        rig.turn();
        queue_large(&mut rig, conn, 3);
        rig.turn();
        assert_eq!(has_zero_copy(&rig), !copied);
        let stats = *rig.worker.ctx.stats();
        let counted = (stats.zero_copy_copied, stats.zero_copy_not_copied);
        assert_eq!(counted, (u64::from(copied), u64::from(!copied)));
    }
}

#[test]
fn small_parts_and_plain_bytes_are_never_sent_zero_copy() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    rig.ctx().send(conn, &LARGE);
    rig.turn();
    assert!(!has_zero_copy(&rig), "inline bytes were copied already");
    rig.flush(conn);
    let part = SendPart::Ref { ptr: LARGE.as_ptr(), len: 16 * 1024 - 1, release_id: 1 };
    // SAFETY: a static lives for ever.
    unsafe { rig.ctx().send_parts(conn, &[part]) };
    rig.turn();
    assert!(!has_zero_copy(&rig));
}

#[test]
fn a_failed_zero_copy_that_promises_no_notification_is_released_without_one() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    queue_large(&mut rig, conn, 7);
    rig.turn();
    let (_, tag) = zero_copy(&mut rig);
    // Refused as such: a plain send takes over, and no notification will ever come.
    rig.worker.kernel.complete(tag, -libc::EOPNOTSUPP, 0);
    rig.turn();
    assert_eq!(rig.released(), [] as [u64; 0]);
    rig.flush(conn);
    assert_eq!(rig.wire(conn).len(), 10 + LARGE.len());
    assert_eq!(rig.released(), [7]);
    assert_eq!(rig.worker.ctx.stats().zero_copy_failed, 1);
    queue_large(&mut rig, conn, 8);
    rig.turn();
    assert!(!has_zero_copy(&rig), "never again on this connection");
}

#[test]
fn a_failed_zero_copy_that_promises_a_notification_waits_for_it() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    queue_large(&mut rig, conn, 7);
    rig.turn();
    let (_, tag) = zero_copy(&mut rig);
    rig.worker.kernel.complete(tag, -libc::EPIPE, Cqe::MORE);
    rig.turn();
    rig.cancel_all(conn);
    assert_eq!(rig.closed(conn), [CloseReason::Failed { errno: libc::EPIPE }]);
    assert_eq!(rig.released(), [] as [u64; 0], "the connection is gone, the memory is not");
    rig.worker.kernel.complete(tag, 0, Cqe::NOTIFICATION);
    rig.turn();
    assert_eq!(rig.released(), [7]);
    assert_eq!(rig.worker.ctx.zero_copies.waiting(), 0);
}

#[test]
fn a_short_zero_copy_send_is_released_after_the_notifications_of_all_its_pieces() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    // Make zero-copy the rule on this connection.
    queue_large(&mut rig, conn, 1);
    rig.turn();
    let (op, probe) = zero_copy(&mut rig);
    let len = Rig::sending(op).concat().len() as i32;
    rig.worker.kernel.complete(probe, len, Cqe::MORE);
    rig.worker.kernel.complete(probe, 0, Cqe::NOTIFICATION);
    rig.turn();
    assert_eq!(rig.released(), [1]);

    queue_large(&mut rig, conn, 2);
    rig.turn();
    let (op, tag) = zero_copy(&mut rig);
    let whole = Rig::sending(op).concat();
    rig.worker.kernel.complete(tag, 1000, Cqe::MORE);
    rig.turn();
    let (op, again) = zero_copy(&mut rig);
    assert_eq!(again, tag, "the same entry, for the memory is the same");
    let rest = Rig::sending(op).concat();
    assert_eq!(rest, whole[1000..]);
    rig.worker.kernel.complete(tag, 0, Cqe::NOTIFICATION);
    rig.worker.kernel.complete(tag, rest.len() as i32, Cqe::MORE);
    rig.turn();
    assert_eq!(rig.released(), [] as [u64; 0]);
    rig.worker.kernel.complete(tag, 0, Cqe::NOTIFICATION);
    rig.turn();
    assert_eq!(rig.released(), [2]);
}

#[test]
fn a_late_notification_after_the_close_releases_once() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    queue_large(&mut rig, conn, 7);
    rig.turn();
    let (op, tag) = zero_copy(&mut rig);
    let len = Rig::sending(op).concat().len() as i32;
    rig.worker.kernel.complete(tag, len, Cqe::MORE);
    rig.turn();
    rig.ctx().close(conn);
    rig.turn();
    rig.cancel_all(conn);
    assert_eq!(rig.closed(conn), [CloseReason::Local]);
    let next = rig.accept();
    assert_eq!(next.index(), conn.index(), "the slot has a new owner");
    rig.worker.kernel.complete(tag, 0, Cqe::NOTIFICATION);
    rig.turn();
    assert_eq!(rig.released(), [7]);
    assert!(!rig.ctx().is_congested(next));
}

/// A drain in which everything was handed to the kernel, which still sends one reply from our memory.
fn draining_with_a_reply_on_its_way() -> (Rig, Tag) {
    let mut rig = Rig::new();
    let conn = rig.accept();
    queue_large(&mut rig, conn, 7);
    rig.turn();
    let (op, tag) = zero_copy(&mut rig);
    let len = Rig::sending(op).concat().len() as i32;
    rig.worker.kernel.complete(tag, len, Cqe::MORE);
    rig.turn();
    rig.ctx().request_shutdown(Shutdown::Drain { deadline: Duration::from_secs(60) });
    rig.turn();
    let listening = Tag::new(Kind::Accept, 0, 0);
    rig.take(listening);
    rig.worker.kernel.complete(listening, -libc::ECANCELED, 0);
    rig.turn();
    rig.cancel_all(conn);
    assert_eq!(rig.closed(conn), [CloseReason::Flushed]);
    (rig, tag)
}

#[test]
fn a_drain_lasts_until_a_slow_client_has_taken_what_is_sent_from_our_memory() {
    let (mut rig, tag) = draining_with_a_reply_on_its_way();
    rig.worker.kernel.now += Duration::from_secs(50);
    assert!(rig.turn(), "the client may take its time");
    rig.worker.kernel.complete(tag, 0, Cqe::NOTIFICATION);
    assert!(!rig.turn(), "everything has ended");
    assert_eq!(rig.released(), [7]);
    let ended = rig.worker.ended();
    assert_eq!((ended.cut, ended.leaked), (0, 0));
}

#[test]
fn memory_that_the_kernel_keeps_past_a_drain_is_waited_for_a_little_and_then_left_to_it() {
    let (mut rig, _never_notified) = draining_with_a_reply_on_its_way();
    rig.worker.kernel.now += Duration::from_secs(90);
    assert!(rig.turn(), "it may still come");
    rig.worker.kernel.now += Duration::from_millis(limits::ZERO_COPY_EXIT_WAIT_MS);
    assert!(!rig.turn());
    assert_eq!(rig.released(), [], "the kernel may still read it");
    assert_eq!(rig.worker.ended().leaked, 1);
}

#[test]
fn closing_releases_gathered_parts_at_once_and_parts_in_flight_when_the_kernel_let_go() {
    let mut rig = Rig::new();
    rig.worker.kernel.zero_copy = (false, false);
    let conn = rig.accept();
    queue_large(&mut rig, conn, 1);
    rig.turn();
    queue_large(&mut rig, conn, 2);
    rig.ctx().close(conn);
    rig.turn();
    assert_eq!(rig.released(), [2], "1 is still read by the kernel");
    assert_eq!(rig.closed(conn), []);
    rig.cancel_all(conn);
    assert_eq!(rig.released(), [1]);
    assert_eq!(rig.closed(conn), [CloseReason::Local]);
    rig.turn();
    assert_eq!(rig.released(), [] as [u64; 0]);
}

#[test]
fn a_closed_connection_takes_no_output_and_gives_the_parts_back() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    rig.ctx().close(conn);
    let part = SendPart::Ref { ptr: LARGE.as_ptr(), len: 5, release_id: 9 };
    // SAFETY: a static lives for ever.
    assert!(!unsafe { rig.ctx().send_parts(conn, &[part]) });
    rig.turn();
    assert_eq!(rig.released(), [9]);
    assert!(!rig.ctx().send(conn, b"x"));
    assert!(rig.ctx().take_out(conn).is_none());
}

#[test]
fn output_taken_out_when_its_connection_closes_is_released_by_putting_it_back() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    let mut out = rig.ctx().take_out(conn).unwrap();
    assert!(rig.ctx().take_out(conn).is_none(), "there is one gathering half");
    // SAFETY: a static lives for ever.
    unsafe { out.push_ref(LARGE.as_ptr(), LARGE.len(), 4) };
    rig.ctx().close(conn);
    rig.ctx().put_out(conn, out);
    rig.turn();
    assert_eq!(rig.released(), [4]);
}

#[test]
fn a_reply_put_back_after_close_after_flush_still_leaves() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    let mut out = rig.ctx().take_out(conn).unwrap();
    rig.ctx().close_after_flush(conn);
    out.extend_from_slice(b"+OK bye");
    rig.ctx().put_out(conn, out);
    rig.turn();
    rig.flush(conn);
    assert_eq!(rig.wire(conn), b"+OK bye");
    assert!(rig.closed(conn).is_empty(), "waits for the peer to hang up");
    assert_eq!(rig.worker.kernel.shutdowns.len(), 1);
    rig.end_receive(conn, 0);
    rig.turn();
    assert_eq!(rig.closed(conn), [CloseReason::Flushed]);
}

#[test]
fn a_client_that_never_reads_pauses_its_own_receive_and_costs_a_bounded_amount() {
    let change = |c: &mut crate::Config| {
        c.output_low_water_bytes = 100;
        c.output_high_water_bytes = 1000;
        c.output_hard_limit_bytes = 5000;
    };
    let mut rig = Rig::with(change, Buffers::new(4, 4096, true).unwrap());
    rig.on_data(|ctx, conn, data| {
        if ctx.is_congested(conn) {
            return crate::Consumed::Bytes(0);
        }
        ctx.send(conn, &[b'r'; 600]);
        crate::Consumed::Bytes(data.len())
    });
    let conn = rig.accept();
    rig.receive(conn, b"a");
    rig.turn();
    rig.receive(conn, b"b");
    rig.turn();
    assert!(rig.ctx().is_congested(conn));
    // More arrives before the receive has ended: it is kept and not worked on.
    rig.receive(conn, b"c");
    rig.turn();
    assert_eq!(rig.ctx().input(conn), b"c");
    assert_eq!(rig.ctx().queued_bytes(conn), 1200);
    let target = rig.tag(Kind::Recv, conn);
    let cancelled = rig
        .worker
        .kernel
        .outstanding
        .iter()
        .any(|(op, _)| matches!(op, Op::Cancel { target: t } if *t == target));
    assert!(cancelled, "its receive is ended");
    rig.end_receive(conn, -libc::ECANCELED);
    rig.turn();
    assert!(rig.ops(Kind::Recv, conn).is_empty(), "and not armed again");
    rig.seen();
    // The client reads at last: what was kept is delivered and receiving goes on.
    rig.flush(conn);
    rig.turn();
    rig.turn();
    let seen = rig.seen();
    assert!(seen.contains(&Seen::Writable(conn)), "{seen:?}");
    assert!(seen.contains(&Seen::Data(conn, b"c".to_vec())), "{seen:?}");
    assert_eq!(rig.ops(Kind::Recv, conn).len(), 1);
}

#[test]
fn pins_of_a_reader_that_does_not_read_can_be_copied_and_given_back() {
    for taken in [0, 3, 5, 100, 5 + LARGE.len() + 1] {
        let mut rig = Rig::new();
        rig.worker.kernel.zero_copy = (false, false);
        let conn = rig.accept();
        queue_large(&mut rig, conn, 1);
        rig.turn();
        queue_large(&mut rig, conn, 2);
        assert_eq!(rig.ctx().pinned_bytes(conn), 2 * LARGE.len());
        rig.ctx().unpin(conn);
        rig.turn();
        assert_eq!(rig.released(), [2], "what the kernel does not have is free at once");
        assert_eq!(rig.ctx().pinned_bytes(conn), LARGE.len());
        // The send is cancelled after a part of it, or before anything.
        let tag = rig.tag(Kind::Send, conn);
        if taken == 0 {
            rig.take(tag);
            rig.worker.kernel.complete(tag, -libc::ECANCELED, 0);
        } else {
            rig.send(conn, taken);
        }
        rig.turn();
        assert_eq!(rig.released(), [1]);
        assert_eq!(rig.ctx().pinned_bytes(conn), 0);
        assert_eq!(rig.ops(Kind::Send, conn).len(), 1, "the rest goes out from the copy");
        rig.flush(conn);
        let reply = [b"head ", &LARGE[..], b" tail"].concat();
        assert!(rig.wire(conn) == [&reply[..], &reply[..]].concat(), "cut after {taken}");
        assert_eq!(rig.ctx().queued_bytes(conn), 0);
        assert_eq!(rig.released(), [] as [u64; 0]);
    }
}

#[test]
fn an_unpinned_zero_copy_send_is_released_by_its_notification_alone() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    queue_large(&mut rig, conn, 1);
    rig.turn();
    rig.ctx().unpin(conn);
    rig.turn();
    let (op, tag) = zero_copy(&mut rig);
    let whole = Rig::sending(op).concat();
    rig.wire.entry(conn).or_default().extend(&whole[..100]);
    rig.worker.kernel.complete(tag, 100, Cqe::MORE);
    rig.turn();
    assert_eq!(rig.released(), [] as [u64; 0], "the kernel still reads the first 100 bytes");
    rig.flush(conn);
    assert!(rig.wire(conn) == whole);
    rig.worker.kernel.complete(tag, 0, Cqe::NOTIFICATION);
    rig.turn();
    assert_eq!(rig.released(), [1]);
}

#[test]
fn output_past_the_hard_limit_closes_the_connection() {
    let change = |c: &mut crate::Config| {
        c.output_low_water_bytes = 100;
        c.output_high_water_bytes = 1000;
        c.output_hard_limit_bytes = 5000;
    };
    let mut rig = Rig::with(change, Buffers::new(4, 4096, true).unwrap());
    let conn = rig.accept();
    rig.ctx().send(conn, &[0; 4000]);
    rig.turn();
    assert!(rig.ctx().is_open(conn));
    rig.ctx().send(conn, &[0; 2000]);
    assert!(!rig.ctx().is_open(conn));
    rig.turn();
    rig.cancel_all(conn);
    assert_eq!(rig.closed(conn), [CloseReason::OutputLimit]);
}

#[test]
fn a_request_whose_reply_passes_the_hard_limit_may_still_be_consumed() {
    let change = |c: &mut crate::Config| {
        c.output_low_water_bytes = 100;
        c.output_high_water_bytes = 1000;
        c.output_hard_limit_bytes = 5000;
    };
    let mut rig = Rig::with(change, Buffers::new(4, 4096, true).unwrap());
    let conn = rig.accept();
    rig.on_data(|ctx, conn, data| {
        ctx.send(conn, &[b'r'; 6000]);
        assert!(ctx.input(conn).is_empty(), "its input is gone");
        ctx.consume(conn, data.len());
        crate::Consumed::Bytes(data.len())
    });
    rig.receive(conn, b"ask");
    rig.turn();
    assert!(!rig.ctx().is_open(conn));
    rig.cancel_all(conn);
    assert_eq!(rig.closed(conn), [CloseReason::OutputLimit]);
}

#[test]
fn a_broken_pipe_closes_with_the_errno() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    rig.ctx().send(conn, b"x");
    rig.turn();
    let tag = rig.tag(Kind::Send, conn);
    rig.take(tag);
    rig.worker.kernel.complete(tag, -libc::EPIPE, 0);
    rig.turn();
    rig.cancel_all(conn);
    assert_eq!(rig.closed(conn), [CloseReason::Failed { errno: libc::EPIPE }]);
}

#[test]
fn an_interrupted_send_is_tried_again() {
    let mut rig = Rig::new();
    let conn = rig.accept();
    rig.ctx().send(conn, b"again");
    rig.turn();
    let tag = rig.tag(Kind::Send, conn);
    rig.take(tag);
    rig.worker.kernel.complete(tag, -libc::EINTR, 0);
    rig.turn();
    rig.flush(conn);
    assert_eq!(rig.wire(conn), b"again");
}
