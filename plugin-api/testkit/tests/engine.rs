//! The engine between protocol and backend: order, barriers, bodies, endings,
//! and what a plugin's defects may break (one connection).

use crucible_plugin_api::re::{schemars, serde};
use crucible_plugin_api::{
    After, CloseReason, ConnInfo, Env, Next, Op, Out, Parsed, PluginError, Protocol, Queue,
    Service, Status,
};
use crucible_plugin_testkit::sample::Sample;
use crucible_plugin_testkit::{
    Faulty, HostOptions, ModelBackend, Peer, ProtocolId, StoreId, TestHost,
};

fn host_with(options: HostOptions) -> (TestHost, StoreId, ProtocolId) {
    let host = TestHost::with(options);
    let store = host.backend::<ModelBackend>("{}");
    let sample = host.protocol::<Sample>("{}", store);
    (host, store, sample)
}

fn host() -> (TestHost, StoreId, ProtocolId) {
    host_with(HostOptions::default())
}

#[test]
fn a_long_pipeline_is_answered_in_order_over_many_rounds() {
    let (host, store, sample) = host();
    let conn = host.connect(sample);
    let (mut asked, mut expected) = (String::new(), String::new());
    for n in 0..500 {
        asked += &format!("set k {n}\nget k\nadd sum 1\n");
        expected += &format!("ok\n{n}\n{}\n", n + 1);
    }
    conn.expect(asked.as_bytes(), expected.as_bytes());
    let batches = host.take_batches(store);
    assert_eq!(batches.iter().sum::<u32>(), 1500);
    assert!(batches.iter().all(|n| *n <= 64), "{batches:?}");
}

#[test]
fn a_long_pipeline_does_not_keep_others_waiting() {
    let (host, store, sample) = host();
    let (long, short) = (host.connect(sample), host.connect(sample));
    long.queue("get a\n".repeat(1000).as_bytes());
    short.queue(b"set b 1\n");
    let before = host.crossings();
    host.sweep();
    assert_eq!(host.crossings() - before, 1, "one crossing serves both");
    assert_eq!(short.take_output(), b"ok\n");
    assert_eq!(long.take_output(), "NONE\n".repeat(1000).as_bytes());
    // The second round begins with the connection that has not had its turn.
    let batches = host.take_batches(store);
    assert_eq!(batches[..2], [64, 64]);
}

#[test]
fn a_barrier_holds_back_what_follows_until_its_follow_ups_are_done() {
    let (host, store, sample) = host();
    let conn = host.connect(sample);
    conn.expect(b"set a x\ndouble a\nget a\ndouble a\nget a\n", b"ok\nok\nxx\nok\nxxxx\n");
    let _ = host.take_batches(store);
    // Others go on meanwhile: their reads share the batch of the follow-up.
    let other = host.connect(sample);
    conn.queue(b"double a\nget a\n");
    other.queue(b"get z\n");
    host.sweep();
    assert_eq!(conn.take_output(), b"ok\nxxxxxxxx\n");
    assert_eq!(host.take_batches(store), [2, 1, 1]);
}

#[test]
fn a_blocked_session_waits_for_its_event_with_its_input() {
    let (host, _, sample) = host();
    let (waiting, poking) = (host.connect(sample), host.connect(sample));
    waiting.expect(b"set a 1\nwait\nget a\n", b"ok\n");
    assert!(waiting.is_blocked());
    waiting.expect(b"get b\n", b"");
    poking.expect(b"set a 2\n", b"ok\n");
    poking.expect(format!("poke {} 7\n", waiting.id()).as_bytes(), b"poked\n");
    assert_eq!(waiting.take_output(), b"woken 7\n2\nNONE\n");
    assert!(!waiting.is_blocked());
}

#[test]
fn exactly_the_bytes_to_be_discarded_are() {
    let (host, _, sample) = host();
    let conn = host.connect(sample);
    conn.expect(b"swallow 10\n0123456789get a\n", b"swallowed\nNONE\n");
    conn.expect(b"swallow 10\n01234", b"swallowed\n");
    conn.expect(b"56789get a\nget b\n", b"NONE\nNONE\n");
    conn.expect(b"swallow 1000000\n", b"swallowed\n");
    for _ in 0..10 {
        conn.expect(&[b'\n'; 100_000], b"");
    }
    conn.expect(b"get a\n", b"NONE\n");
}

#[test]
fn a_body_lands_in_pieces_while_other_things_happen() {
    let (host, store, sample) = host();
    let conn = host.connect(sample);
    conn.expect(b"put big 1000\nabc", b"");
    assert!(conn.is_filling() && conn.is_partial());
    assert_eq!(host.lent(store).bodies, 1);
    conn.expect(&[b'x'; 500], b"");
    conn.wake(3);
    assert_eq!(conn.take_output(), b"woken 3\n");
    assert!(conn.is_filling());
    conn.expect(&[b'y'; 497], b"");
    assert!(!conn.is_filling(), "all bytes are there, and the command's end is not");
    conn.expect(b"\nget big\n", &[b"ok\nabc", &[b'x'; 500][..], &[b'y'; 497], b"\n"].concat());
    assert_eq!(host.lent(store).committed, 1);
}

#[test]
fn a_body_goes_back_when_its_connection_ends_or_its_command_is_bad() {
    let (host, store, sample) = host();
    let conn = host.connect(sample);
    conn.expect(b"put k 3\nabcX", b"BAD END\n");
    assert_eq!(host.lent(store).aborted, 1);
    conn.send(b"put k 100\nabc");
    conn.close();
    assert_eq!((host.lent(store).aborted, host.lent(store).bodies), (2, 0));
    assert_eq!(host.run(store, Op::get(b"k")).status, Status::MISS);
}

#[test]
fn a_body_that_is_refused_is_discarded_and_the_connection_lives() {
    let host = TestHost::new();
    let store = host.backend::<ModelBackend>(r#"{"value_len_max":10}"#);
    let sample = host.protocol::<Sample>("{}", store);
    let conn = host.connect(sample);
    conn.expect(b"put k 11\nget a\nget b\nget k\n", b"too-large\nNONE\n");
    conn.expect(b"put k 5000\n", b"too-large\n");
    conn.expect(&[&[b'\n'; 5001][..], b"get k\n"].concat(), b"NONE\n");
}

#[test]
fn a_panic_closes_its_own_connection_and_no_other() {
    let (host, store, sample) = host();
    let healthy = host.connect(sample);
    for defect in ["boom parse\n", "boom reply\n", "lie\n"] {
        let conn = host.connect(sample);
        conn.queue(format!("set before 1\n{defect}set after 1\n").as_bytes());
        healthy.queue(b"get x\n");
        host.sweep();
        assert_eq!(conn.closed(), Some(CloseReason::PANIC), "{defect}");
        assert_eq!(healthy.take_output(), b"NONE\n", "{defect}");
    }
    let conn = host.connect(sample);
    conn.send(b"boom wake\n");
    conn.wake(1);
    assert_eq!(conn.closed(), Some(CloseReason::PANIC));
    // What was parsed before the panic in another call of `parse` has happened.
    let conn = host.connect(sample);
    conn.send(b"set kept 1\n");
    conn.send(b"boom parse\n");
    assert_eq!(host.run(store, Op::get(b"kept")).value(), Some(&b"1"[..]));
    assert_eq!(host.counter("sample_closed"), Some(5), "every session was told");
}

#[test]
fn a_panic_after_a_spliced_value_releases_it() {
    let (host, store, sample) = host_with(HostOptions { splice_len_min: 1, ..Default::default() });
    let conn = host.connect(sample);
    conn.expect(b"set a value\n", b"ok\n");
    conn.send(b"get a\nboom reply\n");
    assert!(conn.is_closed());
    assert_eq!(host.lent(store).guards, 0);
}

#[test]
fn a_spliced_value_outlives_its_key() {
    let (host, store, sample) = host_with(HostOptions { splice_len_min: 3, ..Default::default() });
    let (conn, other) = (host.connect(sample), host.connect(sample));
    conn.expect(b"set a before\n", b"ok\n");
    conn.send(b"get a\nmget a nothing\n");
    assert_eq!(host.lent(store).guards, 2);
    other.expect(b"set a after\nflush\n", b"ok\nok\n");
    assert_eq!(conn.take_output(), b"before\nbefore\nNONE\n");
    assert_eq!(host.lent(store).guards, 0);
}

#[test]
fn a_client_that_does_not_read_is_not_worked_for() {
    let options = HostOptions { budget_bytes: 100, ..Default::default() };
    let (host, store, sample) = host_with(options);
    let conn = host.connect(sample);
    conn.expect(b"set k 0123456789\n", b"ok\n");
    conn.stop_reading();
    conn.send("get k\n".repeat(5000).as_bytes());
    assert!(conn.is_paused());
    assert!(conn.backlog() <= 100 + 64 * 11, "one round above the budget: {}", conn.backlog());
    assert!(host.lent(store).ops < 100, "{:?}", host.lent(store));
    let mut got = Vec::new();
    loop {
        let more = conn.take_output();
        if more.is_empty() {
            break;
        }
        assert!(conn.backlog() <= 100 + 64 * 11);
        got.extend(more);
    }
    assert_eq!(got, "0123456789\n".repeat(5000).as_bytes());
}

#[test]
fn what_was_sent_before_a_half_close_is_answered() {
    let (host, _, sample) = host();
    let conn = host.connect(sample);
    conn.queue(b"get a\nget b\nget");
    conn.half_close();
    assert_eq!(conn.take_output(), b"NONE\nNONE\n");
    assert_eq!(conn.closed(), Some(CloseReason::PROTOCOL));

    let (host, _, sample) = host_with(HostOptions { budget_bytes: 0, ..Default::default() });
    let conn = host.connect(sample);
    conn.queue("get a\n".repeat(300).as_bytes());
    conn.half_close();
    assert_eq!(conn.take_output(), "NONE\n".repeat(300).as_bytes());
    assert!(conn.is_closed());
}

#[test]
fn a_drain_lets_what_is_begun_come_to_its_end() {
    let (host, _, sample) = host();
    let (idle, begun, blocked) = (host.connect(sample), host.connect(sample), host.connect(sample));
    begun.send(b"put k 5\nab");
    blocked.send(b"wait\n");
    host.drain();
    assert!(idle.is_closed() && blocked.is_closed() && !begun.is_closed());
    begun.send(b"cde\n");
    assert_eq!(begun.take_output(), b"ok\n");
    assert!(begun.is_closed());
}

#[test]
fn closing_commands_close_after_their_answer() {
    let (host, store, sample) = host();
    let conn = host.connect(sample);
    conn.expect(b"quit\nset a 1\n", b"bye\n");
    assert_eq!(conn.closed(), Some(CloseReason::PROTOCOL));
    assert_eq!(host.run(store, Op::get(b"a")).status, Status::MISS, "not even run");
    let conn = host.connect(sample);
    conn.send(b"get a\ndrop\nget a\n");
    assert!(conn.is_closed());
}

#[test]
fn late_answers_keep_the_order_of_one_connection_and_no_other_waits() {
    let host = TestHost::new();
    let store = host.backend::<Faulty<ModelBackend>>(r#"{"pending_every":3}"#);
    let sample = host.protocol::<Sample>("{}", store);
    let (conn, other) = (host.connect(sample), host.connect(sample));
    conn.expect(b"set a 1\nset b 2\n", b"ok\nok\n");
    conn.expect(b"mget a b a b\nget b\n", b"");
    assert!(conn.is_blocked());
    other.expect(b"get a\n", b"1\n");
    host.tick();
    assert_eq!(conn.take_output(), b"1\n2\n1\n2\n2\n", "the command behind it follows");
    // A connection that closes while it waits, and one that drains.
    conn.send(b"mget a b a b\n");
    other.send(b"mget a b a\n");
    conn.close();
    host.drain();
    host.tick();
    host.tick();
    assert_eq!(other.take_output(), b"1\n2\n1\n");
    assert!(other.is_closed());
}

#[test]
fn a_backend_that_panicked_answers_internal_from_then_on() {
    let host = TestHost::new();
    let store = host.backend::<Faulty<ModelBackend>>(r#"{"panic_key":"bad"}"#);
    let sample = host.protocol::<Sample>("{}", store);
    let conn = host.connect(sample);
    conn.expect(b"set a 1\n", b"ok\n");
    conn.expect(b"set bad 1\n", b"internal\n");
    conn.expect(b"set a 2\nput b 3\n", b"internal\ninternal\n");
    assert_eq!(host.backend_panics(), ["the key that panics"]);
}

#[test]
fn key_events_reach_every_worker_of_every_protocol_that_asked() {
    let host = TestHost::with(HostOptions { workers: 3, ..Default::default() });
    let store = host.backend::<ModelBackend>("{}");
    let deaf = host.protocol::<Sample>("{}", store);
    let (quiet, _ears) = (host.connect(deaf), host.protocol::<Sample>(r#"{"listen":true}"#, store));
    quiet.expect(b"set a 1\nget a\npush a 2\n", b"ok\n1\n2\n");
    assert_eq!(host.counter("sample_heard"), Some(2 * 3), "a set and a push, on three workers");
    let conn = host.connect_as(deaf, Peer { worker: 2, ..Default::default() });
    conn.expect(b"put b 1\nx\n", b"ok\n");
    assert_eq!(host.counter("sample_heard"), Some(3 * 3));
}

#[test]
fn a_refused_connection_is_told_in_the_protocols_own_words() {
    let (host, _, sample) = host();
    assert_eq!(host.refusal(sample, CloseReason::TOO_MANY_CONNECTIONS), b"REFUSED 7\n");
}

/// Fails wherever its settings say.
struct Brittle {
    settings: BrittleSettings,
}

#[derive(serde::Deserialize, schemars::JsonSchema, Default)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
struct BrittleSettings {
    breaks: String,
}

impl Protocol for Brittle {
    type Settings = BrittleSettings;
    type Worker = ();
    type Session = ();
    type Ticket = ();

    fn create(settings: BrittleSettings, _: &Env) -> Result<Self, PluginError> {
        assert_ne!(settings.breaks, "create");
        Ok(Self { settings })
    }

    fn worker(&self, _: &Service) {}

    fn open(&self, (): &mut (), _: &ConnInfo<'_>, _: &Service, out: &mut Out<'_>) {
        out.bytes(b"hello\n");
        assert_ne!(self.settings.breaks, "open");
    }

    fn parse<'a>(
        &self,
        (): &mut (),
        (): &mut (),
        input: &'a [u8],
        queue: &mut Queue<'a, ()>,
    ) -> Parsed {
        match self.settings.breaks.as_str() {
            "again" => Parsed::stopped(0),
            "nothing" => Parsed::with(0, Next::Discard(0)),
            "body" => Parsed::with(input.len(), Next::Body),
            "unended" => {
                queue.op(Op::store(b"never", b"ended"));
                Parsed::more(input.len())
            }
            "lost-body" => {
                if queue.begin_body(b"k", 4, Default::default()).is_ok() {
                    queue.commit_body(Op::store(b"k", b""));
                }
                panic!("with a body in hand");
            }
            _ => Parsed::more(input.len()),
        }
    }

    fn reply<'a>(
        &self,
        (): &mut (),
        (): &mut (),
        (): (),
        _: &[Op<'a>],
        _: &mut Out<'_>,
        _: &mut Queue<'a, ()>,
    ) -> After {
        After::Done
    }

    fn close(&self, (): &mut (), (): (), _: CloseReason) {
        assert_ne!(self.settings.breaks, "close");
    }
}

fn brittle(breaks: &str) -> (TestHost, StoreId, ProtocolId) {
    let host = TestHost::new();
    let store = host.backend::<ModelBackend>("{}");
    let protocol = host.protocol::<Brittle>(&format!(r#"{{"breaks":"{breaks}"}}"#), store);
    (host, store, protocol)
}

#[test]
fn a_panic_in_open_or_close_stays_with_its_connection() {
    let (host, _, protocol) = brittle("open");
    assert_eq!(host.connect(protocol).closed(), Some(CloseReason::PANIC));
    let (host, _, protocol) = brittle("close");
    let (first, second) = (host.connect(protocol), host.connect(protocol));
    first.close();
    second.expect(b"x", b"hello\n");
    assert!(!second.is_closed());
}

#[test]
fn a_panic_in_create_is_a_refusal_with_its_message() {
    let host = TestHost::new();
    let store = host.backend::<ModelBackend>("{}");
    let root = crucible_plugin_api::protocol_root::<Brittle>(crucible_plugin_api::PluginInfo {
        name: "brittle",
        version: "1",
    });
    let why = host.protocol_of(root, r#"{"breaks":"create"}"#, store).expect_err("it panics");
    assert!(why.starts_with("panicked: "), "{why}");
    let why = host.protocol_of(root, r#"{"brakes":"x"}"#, store).expect_err("no such setting");
    assert!(why.starts_with("setting brakes: unknown field"), "{why}");
}

#[test]
fn a_parser_that_makes_no_progress_waits_for_more_input() {
    for breaks in ["again", "nothing"] {
        let (host, _, protocol) = brittle(breaks);
        let conn = host.connect(protocol);
        conn.expect(b"some input", b"hello\n");
        assert!(!conn.is_closed() && conn.is_partial(), "{breaks}");
    }
}

#[test]
fn a_body_that_was_never_begun_or_is_lost_closes_the_connection() {
    for breaks in ["body", "lost-body"] {
        let (host, store, protocol) = brittle(breaks);
        let conn = host.connect(protocol);
        conn.send(b"input");
        assert_eq!(conn.closed(), Some(CloseReason::PANIC), "{breaks}");
        assert_eq!(host.lent(store).bodies, 0, "{breaks}");
    }
}

#[test]
fn operations_of_a_command_that_was_never_ended_do_not_run() {
    let (host, store, protocol) = brittle("unended");
    let conn = host.connect(protocol);
    conn.expect(b"x", b"hello\n");
    assert_eq!(host.run(store, Op::get(b"never")).status, Status::MISS);
}
