//! gRPC between a connection's codec and its socket: HTTP/2 by the h2 crate, without its I/O.
//!
//! Always true: calls are answered in the order in which they were made; h2 reads and writes only the two
//! buffers of its pipe and is polled whenever one of them changed. Called by a connection's channel.
//!
//! ```text
//! codec → │path number│length, 4 bytes│message│ … → seal → HTTP/2 frames
//! codec ← │status     │length, 4 bytes│message│ … ← open ← HTTP/2 frames
//! ```

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{Connection, ResponseFuture, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::wire::Login;
use crate::wire::momento_grpc::{HEAD_LEN_BYTES, PATHS, STATUS_NONE};

/// gRPC's own head of a message: compressed or not, and its length.
const PREFIX_LEN_BYTES: usize = 5;
/// What may be received before the reader says that it has read: one large value and more.
const WINDOW_LEN_BYTES: u32 = 64 << 20;

/// What goes between h2 and the socket.
#[derive(Debug, Default)]
struct Buffers {
    inbound: Vec<u8>,
    outbound: Vec<u8>,
}

/// The socket as h2 sees it.
#[derive(Debug, Clone, Default)]
struct Pipe(Arc<Mutex<Buffers>>);

impl Pipe {
    fn buffers(&self) -> MutexGuard<'_, Buffers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut buffers = self.buffers();
        let take = buffers.inbound.len().min(into.remaining());
        if take == 0 {
            // Whoever fills the pipe polls again.
            return Poll::Pending;
        }
        into.put_slice(&buffers.inbound[..take]);
        buffers.inbound.drain(..take);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.buffers().outbound.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A call under way.
enum Call {
    /// Its headers have not come.
    Asked(ResponseFuture),
    /// Its message is coming.
    Answering(RecvStream, Vec<u8>),
    /// It could not be made, or it ended without a message: status and words.
    Ended(u8, String),
}

/// One connection's HTTP/2.
pub(super) struct Grpc {
    pipe: Pipe,
    connection: Connection<Pipe, Bytes>,
    requests: SendRequest<Bytes>,
    calls: VecDeque<Call>,
    origin: String,
    login: Arc<Login>,
}

impl std::fmt::Debug for Grpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grpc").field("calls", &self.calls.len()).finish_non_exhaustive()
    }
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Grpc {
    /// HTTP/2 with the server of this `host:port`.
    pub(super) fn new(endpoint: &str, sealed: bool, login: Arc<Login>) -> Result<Self, String> {
        let pipe = Pipe::default();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW_LEN_BYTES);
        builder.initial_connection_window_size(WINDOW_LEN_BYTES).enable_push(false);
        let mut handshake = Box::pin(builder.handshake::<_, Bytes>(pipe.clone()));
        // The client speaks first and waits for nothing.
        let Poll::Ready(hands) = handshake.as_mut().poll(&mut context()) else {
            return Err("HTTP/2 waits before its first word".into());
        };
        let (requests, connection) = hands.map_err(|e| format!("HTTP/2: {e}"))?;
        let origin = format!("{}://{endpoint}", if sealed { "https" } else { "http" });
        Ok(Self { pipe, connection, requests, calls: VecDeque::new(), origin, login })
    }

    /// Replaces the calls that stand in `out` from `from` on by what HTTP/2 has to say.
    pub(super) fn seal(&mut self, out: &mut Vec<u8>, from: usize) {
        let mut rest = &out[from..];
        while let Some((head, behind)) = rest.split_first_chunk::<HEAD_LEN_BYTES>() {
            let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let (message, next) = behind.split_at(len);
            let call = match self.call(PATHS[usize::from(head[0])], message) {
                Ok(response) => Call::Asked(response),
                Err(error) => Call::Ended(STATUS_NONE, error.to_string()),
            };
            self.calls.push_back(call);
            rest = next;
        }
        debug_assert!(rest.is_empty());
        out.truncate(from);
        // What fails here fails again when the next bytes are opened.
        let _ = self.drive();
        out.append(&mut self.pipe.buffers().outbound);
    }

    fn call(&mut self, path: &str, message: &[u8]) -> Result<ResponseFuture, h2::Error> {
        let mut request = http::Request::post(format!("{}{path}", self.origin))
            .version(http::Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("cache", &self.login.cache);
        if !self.login.token.is_empty() {
            request = request.header("authorization", &self.login.token);
        }
        // The plan refused what is no header; the endpoint was resolved.
        let Ok(request) = request.body(()) else { return Err(h2::Reason::INTERNAL_ERROR.into()) };
        let _ = self.requests.poll_ready(&mut context())?;
        let (response, mut stream) = self.requests.send_request(request, false)?;
        let mut body = Vec::with_capacity(PREFIX_LEN_BYTES + message.len());
        body.push(0);
        body.extend_from_slice(&(message.len() as u32).to_be_bytes());
        body.extend_from_slice(message);
        stream.send_data(body.into(), true)?;
        Ok(response)
    }

    fn drive(&mut self) -> Result<(), String> {
        match Pin::new(&mut self.connection).poll(&mut context()) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => Err("HTTP/2: the server says goodbye".into()),
            Poll::Ready(Err(error)) => Err(format!("HTTP/2: {error}")),
        }
    }

    /// Takes what came from the socket; the replies that are complete are appended to `plain`.
    pub(super) fn open(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), String> {
        self.pipe.buffers().inbound.extend_from_slice(bytes);
        let driven = self.drive();
        while let Some(call) = self.calls.front_mut() {
            let Some((status, message)) = advance(call) else { break };
            self.calls.pop_front();
            plain.push(status);
            plain.extend_from_slice(&(message.len() as u32).to_le_bytes());
            plain.extend_from_slice(&message);
        }
        // What was read opens the windows again.
        driven.and_then(|()| self.drive())
    }
}

/// How a call ended, once it has: its status, and its message or the server's words.
fn advance(call: &mut Call) -> Option<(u8, Vec<u8>)> {
    loop {
        match call {
            Call::Asked(response) => match Pin::new(response).poll(&mut context()) {
                Poll::Pending => return None,
                Poll::Ready(Ok(answer)) if answer.status() != http::StatusCode::OK => {
                    let words = format!("HTTP status {}", answer.status());
                    *call = Call::Ended(STATUS_NONE, words);
                }
                Poll::Ready(Ok(answer)) => {
                    // An answer of headers alone carries the status there.
                    *call = match status_of(answer.headers()) {
                        Some((status, words)) if status != 0 => Call::Ended(status, words),
                        _ => Call::Answering(answer.into_body(), Vec::new()),
                    };
                }
                Poll::Ready(Err(error)) => *call = Call::Ended(STATUS_NONE, error.to_string()),
            },
            Call::Answering(stream, message) => match stream.poll_data(&mut context()) {
                Poll::Pending => return None,
                Poll::Ready(Some(Ok(data))) => {
                    let released = stream.flow_control().release_capacity(data.len());
                    debug_assert!(released.is_ok());
                    message.extend_from_slice(&data);
                }
                Poll::Ready(Some(Err(error))) => {
                    *call = Call::Ended(STATUS_NONE, error.to_string());
                }
                Poll::Ready(None) => match stream.poll_trailers(&mut context()) {
                    Poll::Pending => return None,
                    Poll::Ready(Ok(trailers)) => {
                        let status = trailers.as_ref().and_then(status_of);
                        return Some(ended(status, message));
                    }
                    Poll::Ready(Err(error)) => *call = Call::Ended(STATUS_NONE, error.to_string()),
                },
            },
            Call::Ended(status, words) => {
                return Some((*status, std::mem::take(words).into_bytes()));
            }
        }
    }
}

/// A call whose trailers have come.
fn ended(status: Option<(u8, String)>, message: &mut Vec<u8>) -> (u8, Vec<u8>) {
    let words = |words: &str| (STATUS_NONE, words.as_bytes().to_vec());
    match status {
        None => words("an answer without a status"),
        Some((0, _)) => match message.split_first_chunk::<PREFIX_LEN_BYTES>() {
            Some((prefix, body)) => {
                let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
                if prefix[0] != 0 || body.len() != len {
                    return words("a message that is compressed or not of its length");
                }
                message.drain(..PREFIX_LEN_BYTES);
                (0, std::mem::take(message))
            }
            None => words("a status of success without a message"),
        },
        Some((status, text)) => (status, text.into_bytes()),
    }
}

fn status_of(headers: &http::HeaderMap) -> Option<(u8, String)> {
    let status = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let words = headers.get("grpc-message").map(http::HeaderValue::as_bytes).unwrap_or_default();
    Some((status, String::from_utf8_lossy(words).into_owned()))
}
