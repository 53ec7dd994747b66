//! Notes over lines: `put KEY TEXT`, `look KEY`, `rm KEY`.
//!
//! ```text
//!  > put milk 2 litres        < done
//!  > look milk                < 2 litres
//!  > rm milk                  < done
//!  > look milk                < nothing there
//! ```
//! Each line is answered by one line. A line that is too long closes the
//! connection after an answer that says so.

#![deny(unsafe_code)]

use crucible_plugin_api::re::{schemars, serde};
use crucible_plugin_api::{
    After, CommandInfo, ConnInfo, CounterId, Env, Next, Op, OpCode, Out, Parsed, PluginError,
    Protocol, Queue, Service, Status,
};

/// The settings of `[[listener]]` tables that serve notes.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
pub struct Settings {
    /// Longest line accepted, bytes.
    pub line_len_max: usize,
    /// How long a note is kept, seconds; 0 = for ever.
    pub keep_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { line_len_max: 4096, keep_s: 0 }
    }
}

/// The protocol.
#[derive(Debug)]
pub struct Notes {
    settings: Settings,
    lines: CounterId,
}

/// How to answer a line.
#[derive(Debug)]
pub enum Ticket {
    /// With the note.
    Look,
    /// With how the change went.
    Change,
    /// With what can be said.
    Help,
    /// With a complaint, and the end.
    TooLong,
}

fn split(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|b| *b == b' ') {
        Some(at) => (&line[..at], line[at + 1..].trim_ascii_start()),
        None => (line, &[]),
    }
}

impl Protocol for Notes {
    type Settings = Settings;
    type Worker = Service;
    type Session = ();
    type Ticket = Ticket;

    fn create(settings: Settings, env: &Env) -> Result<Self, PluginError> {
        if settings.line_len_max < 16 {
            return Err(PluginError::setting("line_len_max", "no note fits into so short a line"));
        }
        Ok(Self { settings, lines: env.counter("notes_lines_total", "Lines answered.") })
    }

    fn commands() -> Vec<CommandInfo> {
        [("look", OpCode::GET), ("put", OpCode::STORE), ("rm", OpCode::DELETE)]
            .map(|(name, needs_op)| CommandInfo { name: name.into(), needs_caps: 0, needs_op })
            .into()
    }

    fn worker(&self, service: &Service) -> Service {
        service.clone()
    }

    fn open(&self, _: &mut Service, _: &ConnInfo<'_>, _: &Service, _: &mut Out<'_>) {}

    fn parse<'a>(
        &self,
        _: &mut Service,
        (): &mut (),
        input: &'a [u8],
        queue: &mut Queue<'a, Ticket>,
    ) -> Parsed {
        let mut at = 0;
        while let Some(len) = input[at..].iter().position(|b| *b == b'\n') {
            if len > self.settings.line_len_max {
                break;
            }
            let line = input[at..at + len].trim_ascii();
            at += len + 1;
            let (verb, rest) = split(line);
            match verb {
                b"look" if !rest.is_empty() => queue.command(Op::get(rest), Ticket::Look),
                b"rm" if !rest.is_empty() => queue.command(Op::delete(rest), Ticket::Change),
                b"put" if !rest.is_empty() => {
                    let (key, text) = split(rest);
                    let until = match self.settings.keep_s {
                        0 => 0,
                        seconds => queue.now_ms() + seconds * 1000,
                    };
                    queue.command(Op::store(key, text).expires_at(until), Ticket::Change);
                }
                _ => queue.end(Ticket::Help),
            }
            if queue.should_stop() {
                return Parsed::stopped(at);
            }
        }
        if input.len() - at > self.settings.line_len_max {
            queue.end(Ticket::TooLong);
            return Parsed::with(input.len(), Next::Close);
        }
        Parsed::more(at)
    }

    fn reply<'a>(
        &self,
        service: &mut Service,
        (): &mut (),
        ticket: Ticket,
        ops: &[Op<'a>],
        out: &mut Out<'_>,
        _: &mut Queue<'a, Ticket>,
    ) -> After {
        service.ctx().count(self.lines, 1);
        match (ticket, ops.first().map(Op::status)) {
            (Ticket::Look, Some(Status::OK)) => {
                if let Some(item) = ops[0].item() {
                    out.value(item.value());
                }
            }
            (Ticket::Change, Some(Status::OK)) => out.bytes(b"done"),
            (_, Some(Status::MISS)) => out.bytes(b"nothing there"),
            (_, Some(status)) => {
                out.bytes(b"failed: ");
                out.bytes(status.name().as_bytes());
            }
            (Ticket::TooLong, None) => out.bytes(b"failed: line too long"),
            (_, None) => out.bytes(b"look KEY, put KEY TEXT, or rm KEY"),
        }
        out.bytes(b"\n");
        After::Done
    }
}

crucible_plugin_api::export_protocol!("notes", Notes);

#[cfg(test)]
mod tests {
    use crucible_plugin_testkit::{Faulty, ModelBackend, Script, TestHost};

    use super::Notes;

    #[test]
    fn notes_are_kept_looked_at_and_removed() {
        Script::of::<Notes>("{}")
            .step("look milk\n", "nothing there\n")
            .step("put milk 2 litres\nlook milk\n", "done\n2 litres\n")
            .step("put empty\nlook empty\r\n", "done\n\n")
            .step("rm milk\nrm milk\n", "done\nnothing there\n")
            .step("dance\n\n", "look KEY, put KEY TEXT, or rm KEY\n".repeat(2))
            .run();
    }

    #[test]
    fn notes_go_when_their_time_is_over() {
        Script::of::<Notes>(r#"{"keep_s":60}"#)
            .step("put milk 2 litres\n", "done\n")
            .advance_ms(59_999)
            .step("look milk\n", "2 litres\n")
            .advance_ms(1)
            .step("look milk\n", "nothing there\n")
            .run();
    }

    #[test]
    fn a_line_without_end_closes_the_connection() {
        let host = TestHost::new();
        let store = host.backend::<ModelBackend>("{}");
        let notes = host.protocol::<Notes>(r#"{"line_len_max":16}"#, store);
        for line in [&b"put k 0123456789abcdef"[..], b"put k 0123456789abcdef\n"] {
            let conn = host.connect(notes);
            conn.expect(line, b"failed: line too long\n");
            assert!(conn.is_closed());
        }
    }

    #[test]
    fn a_full_store_is_told() {
        let host = TestHost::new();
        let store = host.backend::<Faulty<ModelBackend>>(r#"{"no_memory_every":1}"#);
        let conn = host.connect(host.protocol::<Notes>("{}", store));
        conn.expect(b"put k v\n", b"failed: no-memory\n");
    }
}
