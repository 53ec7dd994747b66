//! The ping protocol: `PING\r\n` is answered with `PONG\r\n`.
//!
//! The smallest whole plugin, meant to be copied. It needs no backend
//! operation; a line that is not a ping is answered with an error, and a line
//! longer than `line_len_max` closes the connection.

#![deny(unsafe_code)]

use crucible_plugin_api::re::{schemars, serde};
use crucible_plugin_api::{
    After, CommandInfo, ConnInfo, Env, Next, Op, OpCode, Out, Parsed, PluginError, Protocol, Queue,
    Service,
};

/// The settings of `[[listener]]` tables with `protocol = "ping"`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(crate = "serde", deny_unknown_fields, default)]
#[schemars(crate = "schemars")]
pub struct Settings {
    /// Longest line accepted, bytes.
    pub line_len_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { line_len_max: 64 }
    }
}

/// The protocol.
#[derive(Debug)]
pub struct Ping {
    settings: Settings,
}

/// How to answer a line.
#[derive(Debug)]
pub enum Ticket {
    /// A ping.
    Pong,
    /// Anything else.
    Unknown,
    /// Longer than allowed; the connection closes.
    TooLong,
}

impl Protocol for Ping {
    type Settings = Settings;
    type Worker = ();
    type Session = ();
    type Ticket = Ticket;

    fn create(settings: Settings, _: &Env) -> Result<Self, PluginError> {
        if settings.line_len_max < 4 {
            return Err(PluginError::setting("line_len_max", "PING has four letters"));
        }
        Ok(Self { settings })
    }

    fn commands() -> Vec<CommandInfo> {
        vec![CommandInfo { name: "PING".into(), needs_caps: 0, needs_op: OpCode::NOP }]
    }

    fn worker(&self, _: &Service) {}

    fn open(&self, (): &mut (), _: &ConnInfo<'_>, _: &Service, _: &mut Out<'_>) {}

    fn parse<'a>(
        &self,
        (): &mut (),
        (): &mut (),
        input: &'a [u8],
        queue: &mut Queue<'a, Ticket>,
    ) -> Parsed {
        let mut consumed = 0;
        while let Some(len) = input[consumed..].iter().position(|&b| b == b'\n') {
            if len > self.settings.line_len_max {
                queue.end(Ticket::TooLong);
                return Parsed::with(input.len(), Next::Close);
            }
            let line = input[consumed..consumed + len].trim_ascii_end();
            consumed += len + 1;
            queue.end(if line.eq_ignore_ascii_case(b"PING") {
                Ticket::Pong
            } else {
                Ticket::Unknown
            });
            if queue.should_stop() {
                return Parsed::stopped(consumed);
            }
        }
        if input.len() - consumed > self.settings.line_len_max {
            queue.end(Ticket::TooLong);
            return Parsed::with(input.len(), Next::Close);
        }
        Parsed::more(consumed)
    }

    fn reply<'a>(
        &self,
        (): &mut (),
        (): &mut (),
        ticket: Ticket,
        _: &[Op<'a>],
        out: &mut Out<'_>,
        _: &mut Queue<'a, Ticket>,
    ) -> After {
        out.bytes(match ticket {
            Ticket::Pong => b"PONG\r\n",
            Ticket::Unknown => b"ERROR unknown command\r\n",
            Ticket::TooLong => b"ERROR line too long\r\n",
        });
        After::Done
    }
}
