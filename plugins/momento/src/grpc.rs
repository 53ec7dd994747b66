//! gRPC over HTTP/2 as a sans-I/O machine: bytes in, whole calls out.
//!
//! ```text
//!   feed ──> h2 ──> headers ──> body frames ──> one message ──> Call
//!   drain <── h2 <── trailers <── messages <───── respond / refuse
//! ```
//! `h2` keeps HPACK, flow control, the order of frames and the limits on
//! hostile ones; this room adds gRPC's framing and its limits. Always true:
//! every call that was handed out is answered once, by `respond` or `refuse`;
//! what a session buffers for unfinished requests stays below
//! `session_buffer_bytes_max`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use h2::server::{Connection, Handshake, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};

use crate::deadline;
use crate::rpc::{FRAME_HEADER_LEN, Messages};
use crate::status::{Failure, code};
use crate::wire::Wire;

/// Streams that a client may have open at once.
const STREAMS_MAX: u32 = 256;
/// Bytes of headers that a request may have.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// Bytes that a client may send ahead on one stream, and on the connection.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Response bytes that wait for one stream's window before it is reset.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Streams that were reset and are remembered; more is a rapid-reset attack.
const RESET_STREAMS_MAX: usize = 64;

/// What each answer says, made once: a name or a value from text is checked letter by letter.
static CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
static STATUS_OK: HeaderValue = HeaderValue::from_static("0");

/// Limits of one session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Longest request message.
    pub(crate) message_len_max: usize,
    /// Bytes of unfinished requests in all.
    pub(crate) session_buffer_bytes_max: usize,
}

/// A whole request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// The one message of a unary or server-streaming request.
    pub(crate) message: Bytes,
    pub(crate) answer: Answer,
}

impl Call {
    /// `/package.Service/Method`.
    pub(crate) fn path(&self) -> &str {
        self.uri.path()
    }
}

/// Where a call is answered.
pub(crate) struct Answer(SendResponse<Bytes>);

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answer")
    }
}

/// A response that goes on.
pub(crate) struct Stream(SendStream<Bytes>);

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

impl Stream {
    /// Sends the head; `None`: the peer has ended it already.
    pub(crate) fn begin(answer: Answer) -> Option<Self> {
        let mut answer = answer.0;
        answer.send_response(headed(), false).ok().map(Self)
    }

    /// Whether the peer takes so many bytes now.
    pub(crate) fn has_room(&mut self, bytes: usize) -> bool {
        self.0.reserve_capacity(bytes);
        self.0.capacity() >= bytes
    }

    /// Sends a message; false: the peer has ended the stream.
    pub(crate) fn send(&mut self, message: BytesMut) -> bool {
        self.0.send_data(framed(message), false).is_ok()
    }

    /// Whether the peer has ended it.
    pub(crate) fn is_reset(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.0.poll_reset(&mut context).is_ready()
    }

    /// Ends it with a status.
    pub(crate) fn end(mut self, failure: &Failure) {
        let mut trailers = HeaderMap::with_capacity(2);
        status_into(&mut trailers, failure);
        let _gone_is_fine = self.0.send_trailers(trailers);
    }
}

/// A request whose body is still arriving.
struct Incoming {
    request: Request<()>,
    /// When its client stops waiting, unix milliseconds.
    deadline_ms: Option<u64>,
    body: RecvStream,
    message: Body,
    answer: SendResponse<Bytes>,
}

/// What has arrived of a body.
#[derive(Default)]
enum Body {
    #[default]
    Empty,
    /// All of it in one frame, as nearly always; it stays where `h2` read it.
    Whole(Bytes),
    /// Several, put together.
    Joined(BytesMut),
}

impl Body {
    fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Whole(bytes) => bytes.len(),
            Self::Joined(bytes) => bytes.len(),
        }
    }

    /// The next frame. Only the last may keep the memory that it was read into: that
    /// is larger than the frame, and an unfinished request must not hold it.
    fn add(&mut self, data: Bytes, is_last: bool) {
        match self {
            Self::Empty if is_last => *self = Self::Whole(data),
            Self::Empty => *self = Self::Joined(BytesMut::from(&data[..])),
            Self::Whole(_) => debug_assert!(data.is_empty(), "a frame after the last"),
            Self::Joined(joined) => joined.extend_from_slice(&data),
        }
    }

    fn take(self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::Whole(bytes) => bytes,
            Self::Joined(bytes) => bytes.freeze(),
        }
    }
}

enum Machine {
    Greeting(Pin<Box<Handshake<Wire, Bytes>>>),
    Open(Box<Connection<Wire, Bytes>>),
    Closed,
}

/// One HTTP/2 connection.
pub(crate) struct Grpc {
    wire: Wire,
    machine: Machine,
    incoming: Vec<Incoming>,
    buffered: usize,
    limits: Limits,
    now_ms: u64,
}

impl std::fmt::Debug for Grpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grpc").field("incoming", &self.incoming.len()).finish_non_exhaustive()
    }
}

impl Grpc {
    pub(crate) fn new(limits: Limits) -> Self {
        let wire = Wire::default();
        let greeting = h2::server::Builder::new()
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
            .max_concurrent_reset_streams(RESET_STREAMS_MAX)
            .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
            .handshake(wire.clone());
        Self {
            wire,
            machine: Machine::Greeting(Box::pin(greeting)),
            incoming: Vec::new(),
            buffered: 0,
            limits,
            now_ms: 0,
        }
    }

    /// Takes bytes from the peer; whole calls go to `take`.
    pub(crate) fn feed(&mut self, input: &[u8], now_ms: u64, take: &mut impl FnMut(Call)) {
        self.now_ms = now_ms;
        self.wire.feed(input);
        self.run(take);
    }

    /// The earliest time at which a client stops waiting for a request that is not whole.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.incoming.iter().filter_map(|incoming| incoming.deadline_ms).min()
    }

    /// Answers those requests whose time is over.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        let late = |incoming: &Incoming| incoming.deadline_ms.is_some_and(|at| at <= now_ms);
        while let Some(i) = self.incoming.iter().position(late) {
            let incoming = self.incoming.swap_remove(i);
            self.buffered -= incoming.message.len();
            refuse(Answer(incoming.answer), &too_late());
        }
    }

    /// The peer sends no more.
    pub(crate) fn end(&mut self) {
        self.wire.end();
        self.run(&mut |call| refuse(call.answer, &Failure::new(code::INTERNAL, "closing")));
    }

    /// Asks the peer to open no more streams.
    pub(crate) fn go_away(&mut self) {
        if let Machine::Open(connection) = &mut self.machine {
            connection.graceful_shutdown();
        }
    }

    /// Lets `h2` frame what was answered and hands the bytes to `take`; false
    /// when the connection is over.
    pub(crate) fn flush(&mut self, take: impl FnOnce(&[u8])) -> bool {
        self.run(&mut |call| {
            // Whole calls come out of `feed`; here nothing new was fed.
            refuse(call.answer, &Failure::new(code::INTERNAL, "not read in time"));
        });
        self.wire.drain(take);
        !matches!(self.machine, Machine::Closed)
    }

    fn run(&mut self, take: &mut impl FnMut(Call)) {
        let mut context = Context::from_waker(Waker::noop());
        if let Machine::Greeting(greeting) = &mut self.machine {
            match greeting.as_mut().poll(&mut context) {
                Poll::Pending => return,
                Poll::Ready(Ok(connection)) => self.machine = Machine::Open(Box::new(connection)),
                Poll::Ready(Err(_)) => self.machine = Machine::Closed,
            }
        }
        loop {
            let Machine::Open(connection) = &mut self.machine else { return };
            match connection.poll_accept(&mut context) {
                Poll::Ready(Some(Ok((request, answer)))) => {
                    let (parts, body) = request.into_parts();
                    let deadline_ms = deadline::of(&parts.headers, self.now_ms);
                    let (request, message) = (Request::from_parts(parts, ()), Body::Empty);
                    let mut incoming = Incoming { request, deadline_ms, body, message, answer };
                    // What was begun before it goes first.
                    self.receive(&mut context, take);
                    // The body came with the head nearly always: then it need not wait in the list.
                    match incoming.read(&mut self.buffered, &self.limits, &mut context).0 {
                        Some(ended) => self.conclude(incoming, ended, take),
                        None => self.incoming.push(incoming),
                    }
                }
                Poll::Ready(Some(Err(_)) | None) => {
                    self.machine = Machine::Closed;
                    self.incoming.clear();
                    return;
                }
                Poll::Pending if !self.receive(&mut context, take) => return,
                // Windows were opened: let them go out.
                Poll::Pending => {}
            }
        }
    }

    /// Reads the bodies that are not whole; true when any byte was taken.
    fn receive(&mut self, context: &mut Context<'_>, take: &mut impl FnMut(Call)) -> bool {
        let mut progress = false;
        let mut i = 0;
        while i < self.incoming.len() {
            let (ended, moved) = self.incoming[i].read(&mut self.buffered, &self.limits, context);
            progress |= moved;
            match ended {
                None => i += 1,
                Some(ended) => {
                    let incoming = self.incoming.swap_remove(i);
                    self.conclude(incoming, ended, take);
                }
            }
        }
        progress
    }

    /// A body has ended, well or not.
    fn conclude(&mut self, incoming: Incoming, ended: Ended, take: &mut impl FnMut(Call)) {
        self.buffered -= incoming.message.len();
        match ended {
            Ended::Whole if incoming.deadline_ms.is_some_and(|at| at <= self.now_ms) => {
                refuse(Answer(incoming.answer), &too_late());
            }
            Ended::Whole => deliver(incoming, take),
            Ended::Refused(why) => {
                let mut answer = incoming.answer;
                let failure = Failure::new(code::RESOURCE_EXHAUSTED, why);
                // Dropping the body makes h2 reset what still arrives.
                let _gone_is_fine = answer.send_response(failed(&failure), true);
            }
            Ended::Reset => {}
        }
    }
}

/// How a request's body ended.
enum Ended {
    Whole,
    /// The peer has given it up.
    Reset,
    /// It is more than a limit allows.
    Refused(&'static str),
}

impl Incoming {
    /// Reads what has come: how it ended if it did, and whether a byte was taken.
    fn read(
        &mut self,
        buffered: &mut usize,
        limits: &Limits,
        context: &mut Context<'_>,
    ) -> (Option<Ended>, bool) {
        let mut progress = false;
        let ended = loop {
            match self.body.poll_data(context) {
                Poll::Pending => break None,
                Poll::Ready(None) => break Some(Ended::Whole),
                Poll::Ready(Some(Err(_))) => break Some(Ended::Reset),
                Poll::Ready(Some(Ok(data))) => {
                    progress = true;
                    // A released window lets the peer go on sending.
                    let _gone_is_fine = self.body.flow_control().release_capacity(data.len());
                    *buffered += data.len();
                    let is_last = self.body.is_end_stream();
                    self.message.add(data, is_last);
                    if self.message.len() > limits.message_len_max + FRAME_HEADER_LEN {
                        break Some(Ended::Refused("the request is longer than the limit"));
                    }
                    if *buffered > limits.session_buffer_bytes_max {
                        break Some(Ended::Refused("too many unfinished requests"));
                    }
                }
            }
        };
        (ended, progress)
    }
}

/// Unwraps gRPC's framing: flag, length, message.
fn deliver(incoming: Incoming, take: &mut impl FnMut(Call)) {
    let Incoming { request, message, answer, .. } = incoming;
    let mut message = message.take();
    let answer = Answer(answer);
    let content_type = request.headers().get(http::header::CONTENT_TYPE);
    if !content_type.is_some_and(|t| t.as_bytes().starts_with(b"application/grpc")) {
        let mut answer = answer.0;
        let mut response = Response::new(());
        *response.status_mut() = http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let _gone_is_fine = answer.send_response(response, true);
        return;
    }
    if message.len() < FRAME_HEADER_LEN {
        return refuse(answer, &Failure::invalid("the request has no message"));
    }
    if message[0] != 0 {
        let why = "compressed requests are not served";
        return refuse(answer, &Failure::new(code::UNIMPLEMENTED, why));
    }
    let len = u32::from_be_bytes([message[1], message[2], message[3], message[4]]) as usize;
    message.advance(FRAME_HEADER_LEN);
    if message.len() != len {
        return refuse(answer, &Failure::invalid("the request must hold exactly one message"));
    }
    let (parts, ()) = request.into_parts();
    take(Call { uri: parts.uri, headers: parts.headers, message, answer });
}

/// Answers with messages and status OK.
pub(crate) fn respond(answer: Answer, messages: Messages) {
    let mut answer = answer.0;
    // A stream that the peer has reset meanwhile needs no answer.
    let Ok(mut stream) = answer.send_response(headed(), false) else { return };
    for message in messages {
        if stream.send_data(framed(message), false).is_err() {
            return;
        }
    }
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(&GRPC_STATUS, STATUS_OK.clone());
    let _gone_is_fine = stream.send_trailers(trailers);
}

/// Answers with a failure and no message.
pub(crate) fn refuse(answer: Answer, failure: &Failure) {
    let mut answer = answer.0;
    let _gone_is_fine = answer.send_response(failed(failure), true);
}

fn too_late() -> Failure {
    Failure::new(code::DEADLINE_EXCEEDED, "the call was not whole before its deadline")
}

/// The head of a response.
fn headed() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(http::header::CONTENT_TYPE, CONTENT_TYPE.clone());
    response
}

/// A message with its frame's header filled in.
fn framed(mut message: BytesMut) -> Bytes {
    let len = u32::try_from(message.len() - FRAME_HEADER_LEN).expect("messages are short");
    message[1..FRAME_HEADER_LEN].copy_from_slice(&len.to_be_bytes());
    message.freeze()
}

fn failed(failure: &Failure) -> Response<()> {
    let mut response = headed();
    status_into(response.headers_mut(), failure);
    response
}

fn status_into(headers: &mut HeaderMap, failure: &Failure) {
    headers.insert(&GRPC_STATUS, HeaderValue::from(failure.code));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&failure.message)) {
        headers.insert(&GRPC_MESSAGE, message);
    }
}

/// gRPC's encoding of messages: printable ASCII but `%` stands for itself.
fn percent_encoded(message: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_failures_survive_as_headers() {
        assert_eq!(percent_encoded("100% grün\n"), "100%25 gr%C3%BCn%0A");
    }

    #[test]
    fn bytes_that_are_not_http2_end_the_connection() {
        let mut grpc = Grpc::new(Limits { message_len_max: 100, session_buffer_bytes_max: 100 });
        grpc.feed(b"GET / HTTP/1.1\r\n\r\nabcdefgh", 0, &mut |_| panic!("no call"));
        assert!(!grpc.flush(|_| {}));
    }
}
