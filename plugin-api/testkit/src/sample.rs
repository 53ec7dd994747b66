//! A small line protocol that does everything a protocol can do, for the tests
//! of the engine and of this kit, and as an example.
//!
//! ```text
//!  get K         the value, or NONE       set K V    OK, or the status
//!  mget K K ..   each value               add K N    the sum
//!  put K LEN     LEN bytes follow, then \n; stored from where they land
//!  double K      reads, then stores the value twice (a follow-up)
//!  push K V      appends by read-modify-write
//!  nap MS        blocks until a timer     wait       blocks until a wake
//!  poke ID T     wakes connection ID      flush      empties the store
//!  count         items, by a scan         quit       answers and closes
//!  drop          closes at once           swallow N  N bytes are discarded
//!  lie           says it consumed more than there is
//!  boom parse|reply|wake                  panics there
//! ```

use crucible_plugin_api::{
    After, CloseReason, CommandInfo, ConnInfo, CounterId, Env, Event, Flow, KeyEvent, KeyEventKind,
    Next, Op, OpCode, Opts, Out, Parsed, PluginError, Protocol, Queue, Service, Status,
};
use crucible_plugin_api::{Change, re::schemars, re::serde};

/// Settings of [`Sample`].
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
pub struct SampleSettings {
    /// Greets each connection.
    pub greeting: String,
    /// Hears of stored keys, and counts them.
    pub listen: bool,
}

/// The protocol.
#[derive(Debug)]
pub struct Sample {
    settings: SampleSettings,
    commands: CounterId,
    heard: CounterId,
    closed: CounterId,
    env: Env,
}

/// One worker's state.
#[derive(Debug)]
pub struct SampleWorker {
    service: Service,
}

/// One connection's state.
#[derive(Debug)]
pub struct SampleSession {
    id: u64,
    putting: Option<Vec<u8>>,
    boom_on_wake: bool,
}

/// How to answer a command.
#[derive(Debug)]
pub enum Ticket {
    /// With the values of its reads.
    Values,
    /// With the status of its write.
    Outcome,
    /// With the number it left.
    Number,
    /// With a text.
    Text(&'static str),
    /// By storing what was read, twice.
    Double,
    /// By blocking.
    Wait,
    /// By blocking until a timer fires.
    Nap(u64),
    /// By waking another connection.
    Poke(u64, u64),
    /// By emptying the store.
    Flush,
    /// By counting items.
    Count,
    /// By closing.
    Quit,
    /// By closing at once.
    Drop,
    /// By panicking.
    Boom,
}

impl Protocol for Sample {
    type Settings = SampleSettings;
    type Worker = SampleWorker;
    type Session = SampleSession;
    type Ticket = Ticket;

    fn create(settings: SampleSettings, env: &Env) -> Result<Self, PluginError> {
        Ok(Self {
            settings,
            commands: env.counter("sample_commands", "Commands answered."),
            heard: env.counter("sample_heard", "Stored keys heard of."),
            closed: env.counter("sample_closed", "Sessions that ended."),
            env: env.clone(),
        })
    }

    fn commands() -> Vec<CommandInfo> {
        let command =
            |name: &str, needs_op| CommandInfo { name: name.into(), needs_caps: 0, needs_op };
        vec![
            command("get", OpCode::GET),
            command("set", OpCode::STORE),
            command("add", OpCode::ARITH),
        ]
    }

    fn worker(&self, service: &Service) -> SampleWorker {
        SampleWorker { service: service.clone() }
    }

    fn open(
        &self,
        _: &mut SampleWorker,
        conn: &ConnInfo<'_>,
        _: &Service,
        out: &mut Out<'_>,
    ) -> SampleSession {
        out.bytes(self.settings.greeting.as_bytes());
        SampleSession { id: conn.id, putting: None, boom_on_wake: false }
    }

    fn parse<'a>(
        &self,
        _: &mut SampleWorker,
        session: &mut SampleSession,
        input: &'a [u8],
        queue: &mut Queue<'a, Ticket>,
    ) -> Parsed {
        let mut at = 0;
        if let Some(key) = &session.putting {
            match input.first() {
                None => return Parsed::more(0),
                Some(b'\n') => {
                    let key = queue.copy(key);
                    queue.commit_body(Op::store(key, b""));
                    queue.end(Ticket::Outcome);
                }
                Some(_) => {
                    queue.drop_body();
                    queue.end(Ticket::Text("BAD END"));
                }
            }
            session.putting = None;
            at = 1;
        }
        while !queue.should_stop() {
            let Some(len) = input[at..].iter().position(|b| *b == b'\n') else {
                return Parsed::more(at);
            };
            let line = &input[at..at + len];
            at += len + 1;
            if let Some(next) = command(session, line, queue) {
                return match next {
                    Next::Again => Parsed::with(input.len() + 1, Next::More),
                    next => Parsed::with(at, next),
                };
            }
        }
        Parsed::stopped(at)
    }

    fn reply<'a>(
        &self,
        worker: &mut SampleWorker,
        session: &mut SampleSession,
        ticket: Ticket,
        ops: &[Op<'a>],
        out: &mut Out<'_>,
        queue: &mut Queue<'a, Ticket>,
    ) -> After {
        worker.service.ctx().count(self.commands, 1);
        match ticket {
            Ticket::Values => {
                for op in ops {
                    match op.item() {
                        Some(item) => out.value(item.value()),
                        None => out.bytes(b"NONE"),
                    }
                    out.bytes(b"\n");
                }
            }
            Ticket::Outcome => line(out, ops[0].status()),
            Ticket::Number if ops[0].status() == Status::OK => {
                out.decimal(ops[0].number());
                out.bytes(b"\n");
            }
            Ticket::Number => line(out, ops[0].status()),
            Ticket::Text(text) => {
                out.bytes(text.as_bytes());
                out.bytes(b"\n");
            }
            Ticket::Double => match ops[0].item() {
                None => out.bytes(b"NONE\n"),
                Some(item) => {
                    let value = item.value().to_vec().repeat(2);
                    let value = queue.copy(&value);
                    queue.command(Op::store(ops[0].key(), value), Ticket::Outcome);
                }
            },
            Ticket::Wait => return After::Wait,
            Ticket::Nap(ms) => {
                let ctx = worker.service.ctx();
                ctx.timer(session.id, ctx.now_ms() + ms, ms);
                return After::Wait;
            }
            Ticket::Poke(id, token) => {
                self.env.waker(id).wake(token);
                out.bytes(b"poked\n");
            }
            Ticket::Flush => line(out, queue.service().flush(0)),
            Ticket::Count => {
                let (mut items, mut cursor) = (0, 0);
                loop {
                    let visit = &mut |_: &[u8], _: &crucible_plugin_api::Item<'_>| {
                        items += 1;
                        true
                    };
                    match queue.service().scan(cursor, 16, visit) {
                        Ok(0) => break,
                        Ok(next) => cursor = next,
                        Err(status) => {
                            line(out, status);
                            return After::Done;
                        }
                    }
                }
                out.decimal(items);
                out.bytes(b"\n");
            }
            Ticket::Quit => {
                out.bytes(b"bye\n");
                return After::Close;
            }
            Ticket::Drop => return After::CloseNow,
            Ticket::Boom => panic!("boom in reply"),
        }
        After::Done
    }

    fn event<'a>(
        &self,
        _: &mut SampleWorker,
        session: &mut SampleSession,
        event: Event,
        out: &mut Out<'_>,
        _: &mut Queue<'a, Ticket>,
    ) -> Flow {
        let (word, token) = match event {
            Event::HalfClose | Event::Drain => return Flow::Close,
            Event::Timer(token) => ("rested", token),
            Event::Wake(token) => ("woken", token),
        };
        assert!(!session.boom_on_wake, "boom in event");
        out.bytes(word.as_bytes());
        out.bytes(b" ");
        out.decimal_unsigned(token);
        out.bytes(b"\n");
        Flow::Resume
    }

    fn close(&self, worker: &mut SampleWorker, _: SampleSession, _: CloseReason) {
        worker.service.ctx().count(self.closed, 1);
    }

    fn event_kinds(&self) -> u32 {
        if self.settings.listen { KeyEventKind::STORED.0 } else { 0 }
    }

    fn key_events(&self, worker: &mut SampleWorker, events: &[KeyEvent<'_>]) {
        worker.service.ctx().count(self.heard, events.len() as u64);
    }

    fn refusal(why: CloseReason) -> Vec<u8> {
        format!("REFUSED {}\n", why.0).into_bytes()
    }
}

fn line(out: &mut Out<'_>, status: Status) {
    out.bytes(status.name().as_bytes());
    out.bytes(b"\n");
}

/// Queues one line's command. `Some` ends this call of `parse`; `Again` stands
/// for the lie.
fn command<'a>(
    session: &mut SampleSession,
    line: &'a [u8],
    queue: &mut Queue<'a, Ticket>,
) -> Option<Next> {
    let mut words = line.split(|b| *b == b' ');
    let name = words.next().unwrap_or_default();
    let rest: Vec<&'a [u8]> = words.collect();
    let number = |at: usize| -> u64 {
        let text = rest.get(at).and_then(|word| std::str::from_utf8(word).ok());
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    match (name, rest.as_slice()) {
        (b"get" | b"mget", keys) => {
            keys.iter().for_each(|key| queue.op(Op::get(key)));
            queue.end(Ticket::Values);
        }
        (b"set", [key, value]) => queue.command(Op::store(key, value), Ticket::Outcome),
        (b"add", [key, _]) => {
            let n = number(1);
            queue.command(Op::arith(key, n.cast_signed(), n), Ticket::Number);
        }
        (b"put", [key, _]) => {
            return Some(match queue.begin_body(key, number(1), Opts::NONE) {
                Ok(()) => {
                    session.putting = Some(key.to_vec());
                    Next::Body
                }
                Err(status) => {
                    queue.end(Ticket::Text(status.name()));
                    Next::Discard(number(1) + 1)
                }
            });
        }
        (b"double", [key]) => {
            queue.op(Op::get(key));
            queue.end_barrier(Ticket::Double);
        }
        (b"push", [key, more]) => {
            queue.modify(key, |old| {
                let mut value = old.map_or(Vec::new(), |item| item.value().to_vec());
                value.extend_from_slice(more);
                let len = value.len() as i64;
                Change::replace(value, old).with_note(len)
            });
            queue.end(Ticket::Number);
        }
        (b"wait", _) => queue.end_barrier(Ticket::Wait),
        (b"nap", _) => queue.end_barrier(Ticket::Nap(number(0))),
        (b"poke", _) => queue.end(Ticket::Poke(number(0), number(1))),
        (b"flush", _) => queue.end_barrier(Ticket::Flush),
        (b"count", _) => queue.end_barrier(Ticket::Count),
        (b"quit", _) => queue.end_barrier(Ticket::Quit),
        (b"drop", _) => queue.end(Ticket::Drop),
        (b"swallow", _) => {
            queue.end(Ticket::Text("swallowed"));
            return Some(Next::Discard(number(0)));
        }
        (b"lie", _) => return Some(Next::Again),
        (b"boom", [b"parse"]) => panic!("boom in parse"),
        (b"boom", [b"reply"]) => queue.end(Ticket::Boom),
        (b"boom", [b"wake"]) => session.boom_on_wake = true,
        _ => queue.end(Ticket::Text("UNKNOWN")),
    }
    None
}
