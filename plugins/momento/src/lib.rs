//! The Momento cache API: gRPC and protosocket over any backend.
//!
//! An application written for Momento runs against its own cache: the official
//! SDKs connect unchanged when their credential provider names this listener.
//! The first bytes of a connection tell the transports apart: HTTP/2 begins
//! with `PRI `, everything else is protosocket.
//!
//! Served: the scalar calls of `Scs`, those on collections when the backend has
//! data structures, CreateCache, DeleteCache, ListCaches and FlushCache of
//! `ScsControl`, and topics (`Pubsub`). Everything else answers UNIMPLEMENTED with a
//! sentence. Always true: one call, one answer; a call sees only its own cache.

#![deny(unsafe_code)]

mod caches;
mod collections;
mod deadline;
mod grpc;
mod proto;
mod rpc;
mod session;
mod settings;
mod socket;
mod status;
mod topics;
mod wire;

#[cfg(test)]
mod tests;

use crucible_plugin_api::{
    After, CommandInfo, ConnInfo, Env, Event, Flow, Next, Op, OpCode, Out, Parsed, PluginError,
    Protocol, Queue, Service,
};

use caches::{Caches, Snapshot};
use rpc::Method;
use session::{Session, Transport};
pub use settings::Settings;
use topics::Topics;

/// The protocol.
#[derive(Debug)]
pub struct Momento {
    caches: Caches,
    topics: Topics,
    tokens: settings::Tokens,
    message_len_max: usize,
}

/// One worker's state.
#[derive(Debug)]
pub struct Worker {
    caches: Snapshot,
    /// Encoded protosocket responses on their way out.
    scratch: Vec<u8>,
}

/// Room for a message's keys and framing beside its largest value.
const MESSAGE_OVERHEAD_BYTES: usize = 64 * 1024;

impl Protocol for Momento {
    type Settings = Settings;
    type Worker = Worker;
    type Session = session::Handle;
    type Ticket = session::TicketHandle;

    fn create(settings: Settings, env: &Env) -> Result<Self, PluginError> {
        let tokens = settings::Tokens::parse(&settings.token_sha256)?;
        let caches = Caches::new(&settings.caches, env)
            .map_err(|failure| PluginError::setting("caches", failure.message))?;
        let message_len_max = settings.message_bytes_max as usize + MESSAGE_OVERHEAD_BYTES;
        Ok(Self { caches, topics: Topics::new(env), tokens, message_len_max })
    }

    fn commands() -> Vec<CommandInfo> {
        let data = Method::NAMES.iter().map(|name| format!("Scs/{name}"));
        let control = ["CreateCache", "DeleteCache", "ListCaches", "FlushCache"];
        let control = control.iter().map(|name| format!("ScsControl/{name}"));
        let collections = collections::Collection::ALL.iter().map(|(name, _)| CommandInfo {
            name: format!("Scs/{name}"),
            needs_caps: collections::NEEDS_CAPS,
            needs_op: OpCode::STRUCT,
        });
        let topics = ["Publish", "Subscribe"].iter().map(|name| format!("Pubsub/{name}"));
        data.chain(control)
            .chain(topics)
            .map(|name| CommandInfo { name, needs_caps: 0, needs_op: OpCode::NOP })
            .chain(collections)
            .collect()
    }

    fn worker(&self, _: &Service) -> Worker {
        Worker { caches: self.caches.snapshot(), scratch: Vec::new() }
    }

    fn open(
        &self,
        _: &mut Worker,
        conn: &ConnInfo<'_>,
        _: &Service,
        _: &mut Out<'_>,
    ) -> session::Handle {
        session::Handle(Session::new(conn.id))
    }

    fn parse<'a>(
        &self,
        worker: &mut Worker,
        session: &mut session::Handle,
        input: &'a [u8],
        queue: &mut Queue<'a, session::TicketHandle>,
    ) -> Parsed {
        let session = &mut session.0;
        if matches!(session.transport, Transport::Unknown) {
            let Some(first) = input.first() else { return Parsed::more(0) };
            session.transport = if *first == b'P' {
                Transport::Grpc(Box::new(grpc::Grpc::new(grpc::Limits {
                    message_len_max: self.message_len_max,
                    session_buffer_bytes_max: 4 * self.message_len_max,
                })))
            } else {
                Transport::Socket { authenticated: self.tokens.is_empty() }
            };
        }
        match &mut session.transport {
            Transport::Grpc(_) => {
                session.feed_grpc(self, worker, input, queue);
                Parsed::with(input.len(), Next::More)
            }
            _ => session.read_socket(self, worker, input, queue),
        }
    }

    fn reply<'a>(
        &self,
        worker: &mut Worker,
        session: &mut session::Handle,
        ticket: session::TicketHandle,
        ops: &[Op<'a>],
        out: &mut Out<'_>,
        queue: &mut Queue<'a, session::TicketHandle>,
    ) -> After {
        session.0.answer(self, worker, ticket.0, ops, out, queue.service())
    }

    fn event<'a>(
        &self,
        _: &mut Worker,
        session: &mut session::Handle,
        event: Event,
        _: &mut Out<'_>,
        queue: &mut Queue<'a, session::TicketHandle>,
    ) -> Flow {
        session.0.happened(event, queue)
    }
}
