//! Structures between protocol and backend: arguments and answers, also those
//! that come later, and the key events that follow.

use std::cell::RefCell;

use crucible_plugin_api::re::{schemars, serde};
use crucible_plugin_api::{
    After, CloseReason, ConnInfo, Datum, Element, Env, KeyEvent, KeyEventKind, Op, Out, Parsed,
    PluginError, Protocol, Queue, Service, StructFlags, StructOp,
};
use crucible_plugin_testkit::{ModelBackend, Script, TestHost};

thread_local! {
    /// What was heard of keys, in order.
    static HEARD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Lists, by lines: `push K V..`, `pop K..`, `move FROM TO`, `name OLD NEW`,
/// `all K`.
struct Lists;

#[derive(serde::Deserialize, schemars::JsonSchema, Default)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
struct Nothing {}

impl Protocol for Lists {
    type Settings = Nothing;
    type Worker = ();
    type Session = ();
    type Ticket = ();

    fn create(_: Nothing, _: &Env) -> Result<Self, PluginError> {
        Ok(Self)
    }

    fn worker(&self, _: &Service) {}

    fn open(&self, (): &mut (), _: &ConnInfo<'_>, _: &Service, _: &mut Out<'_>) {}

    fn parse<'a>(
        &self,
        (): &mut (),
        (): &mut (),
        input: &'a [u8],
        queue: &mut Queue<'a, ()>,
    ) -> Parsed {
        let mut consumed = 0;
        while let Some(len) = input[consumed..].iter().position(|b| *b == b'\n') {
            let mut words = input[consumed..consumed + len].split(|b| *b == b' ');
            consumed += len + 1;
            let (what, key) = (words.next().unwrap_or(b""), words.next().unwrap_or(b""));
            let rest = queue.elements(words.map(Element::bytes));
            let op = match what {
                b"push" => Op::structure(StructOp::LIST_PUSH, key).args(rest),
                b"pop" => Op::structure(StructOp::LIST_MPOP, key).keys(rest).numbers(1, 0),
                b"move" => {
                    Op::structure(StructOp::LIST_MOVE, key).keys(rest).with_flags(StructFlags::LEFT)
                }
                b"name" => Op::structure(StructOp::RENAME, key).keys(rest),
                _ => Op::structure(StructOp::LIST_RANGE, key).numbers(0, -1),
            };
            queue.command(op, ());
            if queue.should_stop() {
                return Parsed::stopped(consumed);
            }
        }
        Parsed::more(consumed)
    }

    fn reply<'a>(
        &self,
        (): &mut (),
        (): &mut (),
        (): (),
        ops: &[Op<'a>],
        out: &mut Out<'_>,
        _: &mut Queue<'a, ()>,
    ) -> After {
        let op = &ops[0];
        out.bytes(format!("{} {}", op.status().name(), op.number()).as_bytes());
        for element in op.elements() {
            let Datum::Bytes(bytes) = element.get() else { panic!("values are bytes") };
            out.bytes(b" ");
            out.bytes(bytes);
        }
        out.bytes(b"\n");
        After::Done
    }

    fn close(&self, (): &mut (), (): (), _: CloseReason) {}

    fn event_kinds(&self) -> u32 {
        (KeyEventKind::STORED | KeyEventKind::DELETED | KeyEventKind::GREW).0
    }

    fn key_events(&self, (): &mut (), events: &[KeyEvent<'_>]) {
        for event in events {
            let kind = match event.kind {
                KeyEventKind::STORED => "stored",
                KeyEventKind::DELETED => "deleted",
                _ => "grew",
            };
            let key = String::from_utf8_lossy(event.key);
            HEARD.with_borrow_mut(|heard| heard.push(format!("{kind} {key}")));
        }
    }
}

#[test]
fn lists_answer_alike_however_the_bytes_come_and_the_answers_go() {
    Script::of::<Lists>("{}")
        .steps([
            ("push a 1 2 3\n", "ok 3\n"),
            ("all a\nall none\n", "ok 0 1 2 3\nmiss 0\n"),
            ("move a b\nmove a a\n", "ok 0 1\nok 0 2\n"),
            ("all a\nall b\n", "ok 0 3 2\nok 0 1\n"),
            ("pop none b a\npop none b a\n", "ok 1 1\nok 2 2\n"),
            ("name a c\nall a\nall c\n", "ok 1\nmiss 0\nok 0 3\n"),
        ])
        .run();
}

#[test]
fn changes_of_both_keys_are_told_and_growth_besides() {
    let host = TestHost::new();
    let store = host.backend::<ModelBackend>("{}");
    let conn = host.connect(host.protocol::<Lists>("{}", store));
    for (line, events) in [
        ("push a 1 2", &["stored a", "grew a"][..]),
        ("all a", &[]),
        ("move a b", &["stored a", "stored b", "grew b"]),
        ("pop x b", &["deleted b"]),
        ("pop a b", &["deleted a"]),
        ("pop a b", &[]),
        ("push a 1", &["stored a", "grew a"]),
        ("name a z", &["deleted a", "stored z", "grew z"]),
    ] {
        HEARD.take();
        assert!(!conn.ask(format!("{line}\n").as_bytes()).is_empty());
        assert_eq!(HEARD.take(), events, "{line}");
    }
}
