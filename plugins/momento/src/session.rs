//! One connection: which transport it speaks, and the calls on their way.

use bytes::Bytes;
use crucible_plugin_api::{
    After, Condition, Event, Flow, Next, Op, OpCode, Out, Parsed, Queue, Service,
    Status as StoreStatus,
};
use http::{HeaderMap, HeaderName};
use prost::Message;
use smallvec::smallvec;

use crate::caches::Counters;
use crate::collections::NEEDS_CAPS;
use crate::grpc::{self, Answer, Call, Grpc};
use crate::proto::socket as wire;
use crate::proto::{self, Empty};
use crate::rpc::{self, FRAME_HEADER_LEN, Method, Started};
use crate::socket::{self, Frame};
use crate::status::{Failure, code};
use crate::topics::{self, HEARTBEAT_MS, Live, Published};
use crate::{Momento, Worker};

/// Paths of the calls on topics.
const PUBLISH: &str = "/cache_client.pubsub.Pubsub/Publish";
const SUBSCRIBE: &str = "/cache_client.pubsub.Pubsub/Subscribe";

/// The metadata that names a call's cache.
static CACHE: HeaderName = HeaderName::from_static("cache");

/// Tokens of timers.
const TIMER_BEAT: u64 = 1;
const TIMER_DEADLINE: u64 = 2;

/// A session, behind a name that may be public.
#[derive(Debug)]
pub struct Handle(pub(crate) Session);

/// A ticket, behind a name that may be public.
#[derive(Debug)]
pub struct TicketHandle(pub(crate) Ticket);

/// How a connection speaks.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Nothing received yet.
    Unknown,
    /// gRPC over HTTP/2.
    Grpc(Box<Grpc>),
    /// Protosocket.
    Socket {
        /// A good token was shown, or none is asked for.
        authenticated: bool,
    },
}

/// A connection's state.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) transport: Transport,
    conn_id: u64,
    /// Topics that it listens to.
    live: Vec<Live>,
    /// A heartbeat is due at some time.
    beats: bool,
    /// The timer for deadlines stands at this time.
    deadline_ms: Option<u64>,
}

/// How to answer.
#[derive(Debug)]
pub(crate) enum Ticket {
    /// A gRPC call whose operations ran.
    Grpc(Box<(Answer, Started)>),
    /// A message for a topic.
    Publish(Box<(Answer, Published)>),
    /// What `h2` has framed goes out.
    Flush,
    /// A protosocket command.
    Socket { message_id: u64, call: SocketCall },
}

/// What a protosocket command was.
#[derive(Debug)]
pub(crate) enum SocketCall {
    Authenticated,
    Refused(Failure),
    Get(Counters),
    Set,
    Delete,
}

impl Session {
    pub(crate) fn new(conn_id: u64) -> Self {
        let (live, deadline_ms) = (Vec::new(), None);
        Self { transport: Transport::Unknown, conn_id, live, beats: false, deadline_ms }
    }

    /// A timer or a message came, or the host drains.
    pub(crate) fn happened(&mut self, event: Event, queue: &mut Queue<'_, TicketHandle>) -> Flow {
        let Transport::Grpc(grpc) = &mut self.transport else {
            return match event {
                Event::HalfClose | Event::Drain => Flow::Close,
                Event::Timer(_) | Event::Wake(_) => Flow::Continue,
            };
        };
        let now_ms = queue.now_ms();
        match event {
            Event::HalfClose => {
                self.live.clear();
                grpc.end();
            }
            Event::Drain => {
                // Calls that were begun are answered; no new ones, and what has no end ends.
                let failure = Failure::new(code::UNAVAILABLE, "the server shuts down");
                self.live.drain(..).for_each(|live| live.end(&failure));
                grpc.go_away();
            }
            Event::Timer(TIMER_BEAT) => {
                self.live.retain_mut(Live::beat);
                self.beats = false;
            }
            Event::Timer(_) => {
                grpc.expire(now_ms);
                self.deadline_ms = None;
            }
            // Messages wait: they go out with the flush.
            Event::Wake(_) => {}
        }
        self.set_timers(queue);
        queue.end(TicketHandle(Ticket::Flush));
        if event == Event::HalfClose { Flow::Close } else { Flow::Continue }
    }

    /// Sees to it that heartbeats and deadlines are not missed.
    fn set_timers(&mut self, queue: &Queue<'_, TicketHandle>) {
        let ctx = queue.service().ctx();
        if !self.beats && !self.live.is_empty() {
            self.beats = true;
            ctx.timer(self.conn_id, queue.now_ms() + HEARTBEAT_MS, TIMER_BEAT);
        }
        let Transport::Grpc(grpc) = &self.transport else { return };
        if let Some(at_ms) = grpc.deadline_ms()
            && self.deadline_ms.is_none_or(|stands| at_ms < stands)
        {
            self.deadline_ms = Some(at_ms);
            ctx.timer(self.conn_id, at_ms, TIMER_DEADLINE);
        }
    }

    /// gRPC: all input goes to the state machine; whole calls are begun.
    pub(crate) fn feed_grpc(
        &mut self,
        momento: &Momento,
        worker: &mut Worker,
        input: &[u8],
        queue: &mut Queue<'_, TicketHandle>,
    ) {
        let Transport::Grpc(grpc) = &mut self.transport else { return };
        let (conn_id, live, now_ms) = (self.conn_id, &mut self.live, queue.now_ms());
        grpc.feed(input, now_ms, &mut |call| match call.path() {
            SUBSCRIBE => live.extend(begin_subscription(momento, worker, call, (conn_id, now_ms))),
            _ => begin_call(momento, worker, call, queue),
        });
        self.set_timers(queue);
        queue.end(TicketHandle(Ticket::Flush));
    }

    /// Protosocket: commands, one after the other.
    pub(crate) fn read_socket(
        &mut self,
        momento: &Momento,
        worker: &mut Worker,
        input: &[u8],
        queue: &mut Queue<'_, TicketHandle>,
    ) -> Parsed {
        let Transport::Socket { authenticated } = &mut self.transport else {
            return Parsed::more(0);
        };
        let mut consumed = 0;
        loop {
            match socket::read(&input[consumed..], momento.message_len_max) {
                Frame::Partial => return Parsed::more(consumed),
                Frame::Broken(why) => {
                    let call = SocketCall::Refused(Failure::invalid(why));
                    queue.end(TicketHandle(Ticket::Socket { message_id: 0, call }));
                    return Parsed::with(input.len(), Next::Close);
                }
                Frame::Command(command, used) => {
                    consumed += used;
                    begin_command(momento, worker, authenticated, *command, queue);
                }
            }
            if queue.should_stop() {
                return Parsed::stopped(consumed);
            }
        }
    }

    /// Writes the answer of a ticket.
    pub(crate) fn answer(
        &mut self,
        momento: &Momento,
        worker: &mut Worker,
        ticket: Ticket,
        ops: &[Op<'_>],
        out: &mut Out<'_>,
        service: &Service,
    ) -> After {
        match ticket {
            Ticket::Grpc(call) => {
                let (answer, started) = *call;
                let now_ms = service.ctx().now_ms();
                let finished =
                    rpc::finish(&started, ops, now_ms, &mut |c, hit| count(service, c, hit));
                match finished {
                    Ok(messages) => grpc::respond(answer, messages),
                    Err(failure) => grpc::refuse(answer, &failure),
                }
                After::Done
            }
            Ticket::Publish(call) => {
                let (answer, published) = *call;
                published.send(&momento.topics);
                grpc::respond(answer, smallvec![rpc::encode(&Empty {})]);
                After::Done
            }
            Ticket::Flush => {
                let Transport::Grpc(grpc) = &mut self.transport else { return After::Done };
                self.live.retain_mut(Live::pump);
                if grpc.flush(|bytes| out.bytes(bytes)) { After::Done } else { After::Close }
            }
            Ticket::Socket { message_id, call } => {
                let kind = match call {
                    SocketCall::Authenticated => wire::Kind::Authenticated(Empty {}),
                    SocketCall::Refused(failure) => socket::failure(&failure),
                    SocketCall::Get(counters) => socket_value(ops, service, &counters),
                    SocketCall::Set => match ops.first().map(Op::status) {
                        Some(StoreStatus::OK) => wire::Kind::Set(Empty {}),
                        other => refused(other),
                    },
                    SocketCall::Delete => match ops.first().map(Op::status) {
                        Some(StoreStatus::OK | StoreStatus::MISS) => wire::Kind::Deleted(Empty {}),
                        other => refused(other),
                    },
                };
                worker.scratch.clear();
                socket::write(&mut worker.scratch, message_id, kind);
                out.bytes(&worker.scratch);
                After::Done
            }
        }
    }
}

fn count(service: &Service, counters: &Counters, hit: bool) {
    service.ctx().count(if hit { counters.hits } else { counters.misses }, 1);
}

fn refused(status: Option<StoreStatus>) -> wire::Kind {
    socket::failure(&Failure::of(status.unwrap_or(StoreStatus::INTERNAL)))
}

fn socket_value(ops: &[Op<'_>], service: &Service, counters: &Counters) -> wire::Kind {
    let Some(op) = ops.first() else { return refused(None) };
    match (op.status(), op.item()) {
        (StoreStatus::OK, Some(item)) => {
            count(service, counters, true);
            wire::Kind::Value(wire::Value { value: Bytes::from(item.value().to_vec()) })
        }
        (StoreStatus::OK | StoreStatus::MISS, _) => {
            count(service, counters, false);
            // The SDK knows a miss by this sentence.
            socket::failure(&Failure::new(code::NOT_FOUND, "Key not found"))
        }
        (status, _) => refused(Some(status)),
    }
}

/// Begins a protosocket command.
fn begin_command(
    momento: &Momento,
    worker: &mut Worker,
    authenticated: &mut bool,
    command: wire::Command,
    queue: &mut Queue<'_, TicketHandle>,
) {
    let message_id = command.message_id;
    if matches!(command.control_code, socket::CANCEL | socket::END) {
        // Unary commands are answered at once: there is nothing to cancel.
        return;
    }
    let call = match command.unary.and_then(|unary| unary.call) {
        _ if command.control_code != socket::NORMAL => {
            Err(Failure::invalid("unknown control code"))
        }
        None => {
            Err(Failure::new(code::UNIMPLEMENTED, "this command is not served over protosocket"))
        }
        Some(wire::Call::Authenticate(login)) => {
            *authenticated = momento.tokens.admit(login.token.as_bytes());
            if *authenticated { Ok(SocketCall::Authenticated) } else { Err(unauthenticated()) }
        }
        Some(_) if !*authenticated => Err(unauthenticated()),
        Some(call) => begin_data(momento, worker, call, queue),
    };
    let call = call.unwrap_or_else(|failure| {
        queue.cancel();
        SocketCall::Refused(failure)
    });
    queue.end(TicketHandle(Ticket::Socket { message_id, call }));
}

fn begin_data(
    momento: &Momento,
    worker: &mut Worker,
    call: wire::Call,
    queue: &mut Queue<'_, TicketHandle>,
) -> Result<SocketCall, Failure> {
    let (wire::Call::Get(wire::Key { namespace, .. })
    | wire::Call::Delete(wire::Key { namespace, .. })
    | wire::Call::Set(wire::Set { namespace, .. })) = &call
    else {
        return Err(Failure::new(code::INTERNAL, "authentication is handled before"));
    };
    let cache = worker.caches.find(&momento.caches, namespace)?;
    match call {
        wire::Call::Set(set) => {
            let request = proto::SetRequest {
                cache_key: set.key,
                cache_body: set.value,
                ttl_milliseconds: set.ttl_milliseconds,
            };
            rpc::queue_set(queue, cache, &request, Condition::ALWAYS)?;
            queue.service().ctx().count(cache.counters.writes, 1);
            Ok(SocketCall::Set)
        }
        wire::Call::Delete(key) => {
            let key = rpc::stored_key(queue, cache, &key.key)?;
            queue.op(Op::delete(key));
            queue.service().ctx().count(cache.counters.writes, 1);
            Ok(SocketCall::Delete)
        }
        wire::Call::Get(key) => {
            let key = rpc::stored_key(queue, cache, &key.key)?;
            queue.op(Op::get(key));
            Ok(SocketCall::Get(cache.counters))
        }
        wire::Call::Authenticate(_) => {
            Err(Failure::new(code::INTERNAL, "authentication is handled before"))
        }
    }
}

fn unauthenticated() -> Failure {
    Failure::new(code::UNAUTHENTICATED, "the token is missing or unknown")
}

/// Begins a gRPC call; what fails at once is answered at once.
fn begin_call(
    momento: &Momento,
    worker: &mut Worker,
    call: Call,
    queue: &mut Queue<'_, TicketHandle>,
) {
    let Call { uri, headers, message, answer } = call;
    let path = uri.path();
    if let Err(failure) = admit(momento, &headers) {
        return grpc::refuse(answer, &failure);
    }
    if let Some(name) = path.strip_prefix("/control_client.ScsControl/") {
        return match control(momento, name, message) {
            Ok(message) => grpc::respond(answer, smallvec![message]),
            Err(failure) => grpc::refuse(answer, &failure),
        };
    }
    if path == PUBLISH {
        return match topics::read_publish(message, &momento.caches, &mut worker.caches) {
            Ok(published) => {
                queue.end(TicketHandle(Ticket::Publish(Box::new((answer, published)))));
            }
            Err(failure) => grpc::refuse(answer, &failure),
        };
    }
    let started = path
        .strip_prefix("/cache_client.Scs/")
        .and_then(Method::named)
        .filter(|method| is_served(*method, queue.service()))
        .ok_or_else(|| not_served(path))
        .and_then(|method| {
            let name = cache_name(&headers)?;
            let cache = worker.caches.find(&momento.caches, name)?;
            rpc::start(method, message, cache, queue)
        });
    match started {
        Ok(started) => {
            queue.end(TicketHandle(Ticket::Grpc(Box::new((answer, started)))));
        }
        Err(failure) => grpc::refuse(answer, &failure),
    }
}

/// Begins a subscription, or answers why not.
fn begin_subscription(
    momento: &Momento,
    worker: &mut Worker,
    call: Call,
    at: (u64, u64),
) -> Option<Live> {
    if let Err(failure) = admit(momento, &call.headers) {
        grpc::refuse(call.answer, &failure);
        return None;
    }
    let caches = (&momento.caches, &mut worker.caches);
    match topics::subscribe(call.message, caches, &momento.topics, at, call.answer) {
        Ok(live) => live,
        Err((answer, failure)) => {
            grpc::refuse(answer, &failure);
            None
        }
    }
}

/// Whether the backend can do what a method asks.
fn is_served(method: Method, service: &Service) -> bool {
    let caps = service.capabilities();
    match method {
        Method::Collection(_) => caps.has(NEEDS_CAPS) && caps.serves(OpCode::STRUCT),
        _ => true,
    }
}

fn not_served(path: &str) -> Failure {
    let sentence = if path.starts_with("/cache_client.Scs/") {
        "collections need a storage backend with data structures, which this listener has not"
    } else {
        "this service is not part of a Crucible listener"
    };
    Failure::new(code::UNIMPLEMENTED, format!("{path}: {sentence}"))
}

fn admit(momento: &Momento, headers: &HeaderMap) -> Result<(), Failure> {
    if momento.tokens.is_empty() {
        return Ok(());
    }
    let token = headers.get(http::header::AUTHORIZATION).map_or(&b""[..], |v| v.as_bytes());
    if momento.tokens.admit(token) { Ok(()) } else { Err(unauthenticated()) }
}

fn cache_name(headers: &HeaderMap) -> Result<&str, Failure> {
    headers
        .get(&CACHE)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| Failure::invalid("the metadata `cache` names no cache"))
}

/// The control calls, which need no operation.
fn control(momento: &Momento, name: &str, body: Bytes) -> Result<bytes::BytesMut, Failure> {
    let decode = |body: Bytes| {
        proto::CacheNameRequest::decode(body)
            .map_err(|error| Failure::invalid(format!("the request does not decode: {error}")))
    };
    match name {
        "CreateCache" => momento.caches.create(&decode(body)?.cache_name)?,
        "DeleteCache" => momento.caches.delete(&decode(body)?.cache_name)?,
        "FlushCache" => momento.caches.flush(&decode(body)?.cache_name)?,
        "ListCaches" => {
            let names = momento.caches.names().into_iter();
            let cache = names.map(|cache_name| proto::Cache { cache_name }).collect();
            return Ok(rpc::encode(&proto::ListCachesResponse {
                cache,
                next_token: String::new(),
            }));
        }
        _ => {
            let message = format!("ScsControl/{name} is not part of a Crucible listener");
            return Err(Failure::new(code::UNIMPLEMENTED, message));
        }
    }
    debug_assert_eq!(rpc::encode(&Empty {}).len(), FRAME_HEADER_LEN);
    Ok(rpc::encode(&Empty {}))
}
