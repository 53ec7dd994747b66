//! Accepting, connecting, timers, closing and shutting down.
//!
//! What must always be true: each claim is a row of what servers have got wrong. Run by
//! `cargo test`.

use std::time::Duration;

use crate::buffers::Buffers;
use crate::handler::{CloseReason, Consumed};
use crate::kernel::{Cqe, Op};
use crate::pace::{Pace, Way};
use crate::scripted::{Rig, Seen};
use crate::shared::Shutdown;
use crate::token::{ConnToken, Kind, Tag};

const ACCEPT: Tag = Tag { kind: Kind::Accept, slot: 0, generation: 0 };

fn accepting(rig: &Rig) -> usize {
    let all = rig.worker.kernel.outstanding.iter();
    all.filter(|(op, _)| matches!(op, Op::Accept { .. })).count()
}

fn end_accept(rig: &mut Rig, errno: i32) {
    rig.take(ACCEPT);
    rig.worker.kernel.complete(ACCEPT, -errno, 0);
    rig.turn();
}

#[test]
fn the_acceptor_goes_on_after_an_aborted_connection() {
    let mut rig = Rig::new();
    for errno in [libc::ECONNABORTED, libc::EINTR, libc::EPROTO] {
        end_accept(&mut rig, errno);
        assert_eq!(accepting(&rig), 1, "errno {errno}");
    }
    rig.accept();
}

#[test]
fn the_acceptor_rests_and_comes_back_when_descriptors_run_out() {
    let mut rig = Rig::new();
    for (errno, rest_ms) in [(libc::EMFILE, 10), (libc::ENFILE, 20), (libc::ENOMEM, 40)] {
        end_accept(&mut rig, errno);
        assert_eq!(accepting(&rig), 0, "not at once: that would burn a core");
        rig.worker.kernel.now += Duration::from_millis(rest_ms - 1);
        rig.turn();
        assert_eq!(accepting(&rig), 0);
        rig.worker.kernel.now += Duration::from_millis(1);
        rig.turn();
        assert_eq!(accepting(&rig), 1, "the listener is still there");
    }
    rig.accept();
    end_accept(&mut rig, libc::EMFILE);
    rig.worker.kernel.now += Duration::from_millis(10);
    rig.turn();
    assert_eq!(accepting(&rig), 1, "a success makes the rest short again");
}

#[test]
fn connections_beyond_the_limit_are_turned_away_and_places_come_back() {
    let change = |c: &mut crate::Config| c.max_connections = 2;
    let mut rig = Rig::with(change, Buffers::new(4, 4096, true).unwrap());
    let first = rig.accept();
    rig.accept();
    let fd = crate::sys::descriptor();
    rig.worker.kernel.complete(ACCEPT, fd, Cqe::MORE);
    rig.turn();
    assert_eq!(rig.seen(), []);
    assert_eq!(rig.worker.ctx.stats().rejects, 1);
    assert!(matches!(
        rig.ctx().connect(std::path::PathBuf::from("/nowhere")),
        Err(crate::ConnectError::TooManyConnections { limit: 2 })
    ));
    rig.ctx().close(first);
    rig.turn();
    rig.cancel_all(first);
    rig.accept();
}

#[test]
fn a_timer_set_earlier_than_the_armed_one_is_not_slept_through() {
    let mut rig = Rig::new();
    let timers = |rig: &Rig| {
        let all = rig.worker.kernel.outstanding.iter();
        all.filter(|(op, _)| matches!(op, Op::Timer { .. })).count()
    };
    let late = rig.ctx().timer_after(Duration::from_secs(10), 1);
    rig.turn();
    assert_eq!(timers(&rig), 1);
    rig.ctx().timer_after(Duration::from_secs(1), 2);
    rig.turn();
    rig.turn();
    assert_eq!(timers(&rig), 1, "the one operation is moved, not joined by another");
    let second = io_uring::types::Timespec::from(Duration::from_secs(1));
    assert_eq!(rig.worker.kernel.moved, [format!("{second:?}")]);
    rig.worker.kernel.now += Duration::from_secs(1);
    let tag = Tag::new(Kind::Timer, 0, 0);
    rig.take(tag);
    rig.worker.kernel.complete(tag, -libc::ETIME, 0);
    rig.turn();
    assert_eq!(rig.seen(), [Seen::Timer(2)]);
    rig.turn();
    assert_eq!(timers(&rig), 1, "armed again for the one that is left");
    assert!(rig.ctx().cancel_timer(late));
    rig.worker.kernel.now += Duration::from_secs(10);
    rig.turn();
    assert_eq!(rig.seen(), []);
}

#[test]
fn an_overdue_timer_is_not_waited_for() {
    let mut rig = Rig::new();
    rig.ctx().timer_after(Duration::from_secs(1), 1);
    rig.worker.kernel.now += Duration::from_secs(2);
    // A turn without a bound would hang in a real kernel if it waited here.
    rig.worker.turn(None).unwrap();
    assert_eq!(rig.worker.kernel.waits.last().map(|w| w.completions), Some(0));
    assert_eq!(rig.seen(), [Seen::Timer(1)]);
}

#[test]
fn a_notification_before_the_wait_is_not_slept_through() {
    let mut rig = Rig::new();
    rig.worker.turn(None).unwrap();
    assert_eq!(rig.worker.kernel.waits.last().map(|w| w.completions), Some(1));
    rig.worker.ctx.shared.mailboxes[0].post(1);
    rig.worker.turn(None).unwrap();
    assert_eq!(rig.worker.kernel.waits.last().map(|w| w.completions), Some(0));
    assert_eq!(rig.worker.ctx.stats().notifications, 1);
}

#[test]
fn a_failed_connect_is_told_and_closed_once() {
    let mut rig = Rig::new();
    let conn = rig.ctx().connect(std::path::PathBuf::from("/nowhere")).unwrap();
    rig.turn();
    assert_eq!(rig.ops(Kind::Connect, conn).len(), 1);
    let tag = rig.tag(Kind::Connect, conn);
    rig.take(tag);
    rig.worker.kernel.complete(tag, -libc::ECONNREFUSED, 0);
    rig.turn();
    assert_eq!(
        rig.seen(),
        [
            Seen::Connect(conn, Err(libc::ECONNREFUSED)),
            Seen::Close(conn, CloseReason::ConnectFailed)
        ]
    );
    assert_eq!(rig.ctx().connections(), 0);
}

#[test]
fn a_connect_that_takes_too_long_is_cancelled() {
    let mut rig = Rig::new();
    let to = std::path::PathBuf::from("/nowhere");
    let conn = rig.ctx().connect_with_timeout(to, Duration::from_secs(1)).unwrap();
    rig.turn();
    rig.worker.kernel.now += Duration::from_secs(1);
    rig.turn();
    assert_eq!(rig.seen(), [Seen::Connect(conn, Err(-1))]);
    rig.cancel_all(conn);
    assert_eq!(rig.closed(conn), [CloseReason::ConnectFailed]);
}

#[test]
fn a_connection_that_was_made_in_time_outlives_its_timeout() {
    let mut rig = Rig::new();
    let to = std::path::PathBuf::from("/nowhere");
    let conn = rig.ctx().connect_with_timeout(to, Duration::from_secs(1)).unwrap();
    rig.ctx().send(conn, b"queued before");
    rig.turn();
    let tag = rig.tag(Kind::Connect, conn);
    rig.take(tag);
    rig.worker.kernel.complete(tag, 0, 0);
    rig.turn();
    assert_eq!(rig.seen(), [Seen::Connect(conn, Ok(()))]);
    rig.worker.kernel.now += Duration::from_secs(2);
    rig.turn();
    rig.flush(conn);
    assert_eq!(rig.wire(conn), b"queued before");
    assert!(rig.ctx().is_open(conn));
}

#[test]
fn every_connection_is_closed_exactly_once_whatever_ends_it() {
    type End = fn(&mut Rig, ConnToken);
    let ends: [(&str, End); 6] = [
        ("close", |rig, c| rig.ctx().close(c)),
        ("close twice", |rig, c| {
            rig.ctx().close(c);
            rig.ctx().close(c);
        }),
        ("reset", |rig, c| rig.end_receive(c, -libc::ECONNRESET)),
        ("end", |rig, c| rig.end_receive(c, 0)),
        ("end and close", |rig, c| {
            rig.end_receive(c, 0);
            rig.ctx().close(c);
        }),
        ("reset after flush was asked", |rig, c| {
            rig.ctx().close_after_flush(c);
            rig.end_receive(c, -libc::ECONNRESET);
        }),
    ];
    for (name, end) in ends {
        for sending in [false, true] {
            let mut rig = Rig::new();
            let conn = rig.accept();
            if sending {
                rig.ctx().send(conn, b"unsent");
                rig.turn();
            }
            end(&mut rig, conn);
            rig.turn();
            rig.flush(conn);
            rig.cancel_all(conn);
            rig.worker.kernel.now += Duration::from_secs(2);
            rig.turn();
            rig.cancel_all(conn);
            assert_eq!(rig.closed(conn).len(), 1, "{name}, sending {sending}");
            assert_eq!(rig.ctx().connections(), 0, "{name}, sending {sending}");
        }
    }
}

#[test]
fn a_drain_sends_what_is_queued_and_then_ends() {
    let mut rig = Rig::new();
    let (busy, idle) = (rig.accept(), rig.accept());
    rig.ctx().send(busy, b"the last reply");
    rig.turn();
    rig.ctx().request_shutdown(Shutdown::Drain { deadline: Duration::from_secs(5) });
    assert!(rig.turn());
    assert_eq!(rig.closed(busy), []);
    rig.take(ACCEPT);
    rig.worker.kernel.complete(ACCEPT, -libc::ECANCELED, 0);
    assert!(rig.turn());
    rig.flush(busy);
    rig.cancel_all(idle);
    rig.cancel_all(busy);
    assert!(!rig.turn(), "everything has ended");
    assert_eq!(rig.wire(busy), b"the last reply");
    assert_eq!(rig.closed(busy), [CloseReason::Flushed]);
    assert_eq!(rig.closed(idle), [CloseReason::Flushed]);
    assert_eq!(rig.worker.ended().cut, 0);
}

#[test]
fn a_drain_past_its_deadline_cuts_and_says_so() {
    let mut rig = Rig::new();
    let stuck = rig.accept();
    rig.ctx().send(stuck, b"never read");
    rig.turn();
    rig.ctx().request_shutdown(Shutdown::Drain { deadline: Duration::from_secs(5) });
    rig.turn();
    rig.take(ACCEPT);
    rig.worker.kernel.complete(ACCEPT, -libc::ECANCELED, 0);
    rig.turn();
    assert_eq!(rig.closed(stuck), []);
    rig.worker.kernel.now += Duration::from_secs(6);
    rig.turn();
    rig.cancel_all(stuck);
    assert!(!rig.turn());
    assert_eq!(rig.closed(stuck), [CloseReason::Shutdown]);
    assert_eq!(rig.worker.ended().cut, 1);
}

#[test]
fn connections_are_not_accepted_during_a_drain() {
    let mut rig = Rig::new();
    let open = rig.accept();
    rig.ctx().send(open, b"keeps the drain going");
    rig.turn();
    rig.ctx().request_shutdown(Shutdown::Drain { deadline: Duration::from_secs(5) });
    rig.turn();
    let fd = crate::sys::descriptor();
    rig.worker.kernel.complete(ACCEPT, fd, Cqe::MORE);
    rig.turn();
    assert!(!rig.seen().iter().any(|s| matches!(s, Seen::Accept(_))));
    assert!(matches!(
        rig.ctx().connect(std::path::PathBuf::from("/nowhere")),
        Err(crate::ConnectError::ShuttingDown)
    ));
}

#[test]
fn a_closed_connection_that_keeps_sending_is_not_listened_to_for_ever() {
    let mut rig = Rig::new();
    rig.on_data(|ctx, conn, data| {
        ctx.send(conn, b"-ERR\r\n");
        ctx.close_after_flush(conn);
        Consumed::Bytes(data.len())
    });
    let conn = rig.accept();
    rig.receive(conn, b"bad");
    rig.turn();
    rig.flush(conn);
    assert_eq!(rig.wire(conn), b"-ERR\r\n");
    assert_eq!(rig.closed(conn), [], "a reset now would destroy the reply on its way");
    let mut swallowed = 0;
    while rig.ctx().is_open(conn) && swallowed < 4 << 20 {
        rig.receive(conn, &[b'x'; 4096]);
        rig.turn();
        swallowed += 4096;
    }
    assert!(swallowed <= crate::limits::LINGER_BYTES_MAX + 4096);
    rig.cancel_all(conn);
    assert_eq!(rig.closed(conn), [CloseReason::Flushed]);
}

#[test]
fn a_wait_is_for_one_completion_unless_waiting_for_more_has_paid() {
    let mut rig = Rig::new();
    rig.on_data(|ctx, conn, data| {
        ctx.send(conn, data);
        Consumed::Bytes(data.len())
    });
    let conns: Vec<ConnToken> = (0..40).map(|_| rig.accept()).collect();
    // 39 sends complete in the submission, and past them one is due, or as many as last time.
    for (way, completions) in [(Way::First, 1), (Way::PastSends, 39 + 1), (Way::Backlog, 39 + 39)] {
        rig.worker.pace = Pace::always(way);
        for &conn in &conns[1..] {
            rig.receive(conn, b"b");
        }
        rig.worker.turn(None).unwrap();
        rig.worker.turn(None).unwrap();
        assert_eq!(rig.worker.kernel.waits.last().map(|w| w.completions), Some(completions));
        rig.worker.turn(None).unwrap();
        assert_eq!(rig.worker.kernel.waits.last().map(|w| w.completions), Some(1));
        for &conn in &conns[1..] {
            rig.send(conn, usize::MAX);
        }
        rig.worker.turn(None).unwrap();
    }
}
