//! Protocols with one defect each: the robustness suite finds every one of
//! them, and passes the protocol without.

use std::panic::AssertUnwindSafe;

use crucible_plugin_api::re::{schemars, serde};
use crucible_plugin_api::{
    After, CommandInfo, ConnInfo, Env, Event, Flow, Next, Op, OpCode, Out, Parsed, PluginError,
    Protocol, Queue, Service, Status,
};
use crucible_plugin_testkit::Robustness;
use crucible_plugin_testkit::robust::{ROBUST_PARTS, RobustPart};

/// Longest line, bytes.
const LINE_LEN_MAX: usize = 4096;

#[derive(Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
struct Settings {
    defect: String,
}

/// Lines: `keep KEY VALUE`, `show KEY`.
struct Lines {
    defect: String,
}

struct Session {
    turns: u64,
    conn_id: u64,
}

enum Ticket {
    Store,
    Show,
    Help,
}

const DEFECTS: [&str; 7] = [
    "panics at a byte",
    "panics when the store is full",
    "panics at the end of input",
    "takes half a line for a line",
    "answers by the turn",
    "never ends",
    "stays after the end",
];

impl Lines {
    fn has(&self, defect: &str) -> bool {
        self.defect == defect
    }
}

impl Protocol for Lines {
    type Settings = Settings;
    type Worker = Service;
    type Session = Session;
    type Ticket = Ticket;

    fn create(settings: Settings, _: &Env) -> Result<Self, PluginError> {
        Ok(Self { defect: settings.defect })
    }

    fn commands() -> Vec<CommandInfo> {
        [("keep", OpCode::STORE), ("show", OpCode::GET)]
            .map(|(name, needs_op)| CommandInfo { name: name.into(), needs_caps: 0, needs_op })
            .into()
    }

    fn worker(&self, service: &Service) -> Service {
        service.clone()
    }

    fn open(&self, _: &mut Service, conn: &ConnInfo<'_>, _: &Service, _: &mut Out<'_>) -> Session {
        Session { turns: 0, conn_id: conn.id }
    }

    fn parse<'a>(
        &self,
        service: &mut Service,
        session: &mut Session,
        input: &'a [u8],
        queue: &mut Queue<'a, Ticket>,
    ) -> Parsed {
        session.turns += 1;
        if self.has("never ends") && session.turns == 1 {
            service.env().waker(session.conn_id).wake(0);
        }
        let mut at = 0;
        loop {
            let end = input[at..].iter().position(|b| *b == b'\n');
            let end = match end {
                None if self.has("takes half a line for a line") && at < input.len() => {
                    input.len() - at
                }
                None => break,
                Some(end) => end,
            };
            let line = input[at..at + end].trim_ascii();
            at = (at + end + 1).min(input.len());
            assert!(!(self.has("panics at a byte") && line.contains(&0xfe)), "planted");
            let mut words = line.splitn(3, |b| *b == b' ');
            match (words.next(), words.next(), words.next()) {
                (Some(b"keep"), Some(key), Some(value)) if !key.is_empty() => {
                    queue.command(Op::store(key, value), Ticket::Store);
                }
                (Some(b"show"), Some(key), _) if !key.is_empty() => {
                    queue.command(Op::get(key), Ticket::Show);
                }
                _ => queue.end(Ticket::Help),
            }
            if queue.should_stop() {
                return Parsed::stopped(at);
            }
        }
        if input.len() - at > LINE_LEN_MAX {
            return Parsed::with(input.len(), Next::Close);
        }
        Parsed::more(at)
    }

    fn reply<'a>(
        &self,
        _: &mut Service,
        session: &mut Session,
        ticket: Ticket,
        ops: &[Op<'a>],
        out: &mut Out<'_>,
        _: &mut Queue<'a, Ticket>,
    ) -> After {
        if self.has("answers by the turn") && session.turns > 2 {
            out.bytes(b"again: ");
        }
        match (ticket, ops.first()) {
            (Ticket::Store, Some(op)) => {
                let full = op.status() == Status::NO_MEMORY;
                assert!(!(self.has("panics when the store is full") && full), "planted");
                out.bytes(op.status().name().as_bytes());
            }
            (Ticket::Show, Some(op)) => match op.item() {
                Some(item) => out.value(item.value()),
                None => out.bytes(b"nothing"),
            },
            _ => out.bytes(b"keep KEY VALUE or show KEY"),
        }
        out.bytes(b"\n");
        After::Done
    }

    fn event<'a>(
        &self,
        service: &mut Service,
        session: &mut Session,
        event: Event,
        _: &mut Out<'_>,
        _: &mut Queue<'a, Ticket>,
    ) -> Flow {
        match event {
            Event::Wake(token) => {
                service.env().waker(session.conn_id).wake(token);
                return Flow::Continue;
            }
            Event::HalfClose => {
                assert!(!self.has("panics at the end of input"), "planted");
                if self.has("stays after the end") {
                    return Flow::Continue;
                }
            }
            Event::Timer(_) | Event::Drain => {}
        }
        Flow::Close
    }
}

fn found(defect: &str) -> Vec<&'static str> {
    let settings = format!("{{\"defect\":\"{defect}\"}}");
    let suite = Robustness::of::<Lines>(&settings).rounds(60);
    let fails = |part: &&RobustPart| {
        std::panic::catch_unwind(AssertUnwindSafe(|| part.check(&suite))).is_err()
    };
    ROBUST_PARTS.iter().filter(fails).map(|part| part.name).collect()
}

#[test]
fn a_sound_protocol_passes() {
    assert_eq!(found(""), Vec::<&str>::new());
}

#[test]
fn every_planted_defect_is_found() {
    for defect in DEFECTS {
        assert!(!found(defect).is_empty(), "{defect}: not found");
    }
}
