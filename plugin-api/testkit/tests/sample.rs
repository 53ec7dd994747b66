//! The sample protocol over the model: the kit's own first customer.

use crucible_plugin_testkit::sample::Sample;
use crucible_plugin_testkit::{Faulty, ModelBackend, Script, TestHost};

#[test]
fn the_sample_answers_alike_however_it_is_asked() {
    Script::of::<Sample>("{}")
        .step("get a\n", "NONE\n")
        .step("set a one\nget a\n", "ok\none\n")
        .step("mget a b a\n", "one\nNONE\none\n")
        .step("add n 5\nadd n 2\nadd a 1\n", "5\n7\nnot-number\n")
        .step("double a\nget a\n", "ok\noneone\n")
        .step("push a !\nget a\n", "7\noneone!\n")
        .step("put b 10\n0123456789\nget b\n", "ok\n0123456789\n")
        .step("put b 0\n\nget b\n", "ok\n\n")
        .step("swallow 5\nxxxxxget n\n", "swallowed\n7\n")
        .step("what\n\n", "UNKNOWN\nUNKNOWN\n")
        .step("quit\n", "bye\n")
        .closes()
        .run();
}

#[test]
fn a_flush_and_a_scan_see_the_whole_store() {
    Script::of::<Sample>(r#"{"greeting":"hello\n"}"#)
        .step("", "hello\n")
        .step("set a 1\nset b 2\ncount\n", "ok\nok\n2\n")
        .step("flush\ncount\nget a\n", "ok\n0\nNONE\n")
        .alone()
        .run();
}

#[test]
fn timers_fire_when_their_time_has_come() {
    Script::of::<Sample>("{}")
        .step("nap 100\nset a 1\n", "")
        .advance_ms(99)
        .step("", "")
        .advance_ms(1)
        .step("", "rested 100\nok\n")
        .run();
}

#[test]
fn one_crossing_and_one_batch_serve_many_connections() {
    let host = TestHost::new();
    let store = host.backend::<ModelBackend>("{}");
    let sample = host.protocol::<Sample>("{}", store);
    let conns: Vec<_> = (0..16).map(|_| host.connect(sample)).collect();
    let before = host.crossings();
    conns.iter().for_each(|conn| conn.queue(b"get a\n"));
    host.sweep();
    assert_eq!(host.crossings() - before, 1);
    assert_eq!(host.take_batches(store), [16]);
    conns.iter().for_each(|conn| assert_eq!(conn.take_output(), b"NONE\n"));
    assert_eq!(host.counter("sample_commands"), Some(16));
}

#[test]
fn a_write_without_memory_is_told_and_nothing_else_suffers() {
    let host = TestHost::new();
    let store = host.backend::<Faulty<ModelBackend>>(r#"{"no_memory_every":2}"#);
    let sample = host.protocol::<Sample>("{}", store);
    let conn = host.connect(sample);
    conn.expect(b"set a 1\nset b 2\nget a\nget b\n", b"ok\nno-memory\n1\nNONE\n");
    conn.expect(b"put a 3\nabc\nput b 3\nabc\nget b\n", b"ok\nno-memory\nNONE\n");
}
