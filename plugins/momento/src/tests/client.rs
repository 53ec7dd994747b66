//! An HTTP/2 client over a test connection: `h2`'s own client half.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{BufMut, Bytes, BytesMut};
use crucible_plugin_testkit::Conn;
use h2::client::{Connection, ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use prost::Message;

use crate::wire::Wire;

/// A client of one connection.
pub(super) struct Client<'c> {
    conn: &'c Conn,
    wire: Wire,
    requests: SendRequest<Bytes>,
    connection: Connection<Wire, Bytes>,
}

/// What a call came to.
#[derive(Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) status: String,
    pub(super) sentence: String,
    pub(super) messages: Vec<Bytes>,
}

fn now<T>(poll: Poll<T>) -> T {
    match poll {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the machine in memory has nothing to wait for"),
    }
}

impl<'c> Client<'c> {
    pub(super) fn new(conn: &'c Conn) -> Self {
        let wire = Wire::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut greeting = Box::pin(h2::client::handshake(wire.clone()));
        let (requests, connection) = now(greeting.as_mut().poll(&mut context)).unwrap();
        let mut client = Self { conn, wire, requests, connection };
        client.exchange();
        client
    }

    /// Moves bytes both ways until nothing moves any more.
    pub(super) fn exchange(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            // An error shows in the calls.
            let _ = Pin::new(&mut self.connection).poll(&mut context);
            let mut outgoing = Vec::new();
            self.wire.drain(|bytes| outgoing.extend_from_slice(bytes));
            if !outgoing.is_empty() && !self.conn.is_closed() {
                self.conn.send(&outgoing);
            }
            let incoming = self.conn.take_output();
            self.wire.feed(&incoming);
            if outgoing.is_empty() && incoming.is_empty() {
                return;
            }
        }
    }

    /// Begins a call with a whole message.
    pub(super) fn begin(
        &mut self,
        path: &str,
        metadata: &[(&str, &str)],
        message: &impl Message,
    ) -> ResponseFuture {
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_u32(message.encoded_len() as u32);
        message.encode(&mut body).unwrap();
        let mut request = Request::builder()
            .method("POST")
            .uri(format!("http://cache.test{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in metadata {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let (response, mut stream) = self.requests.send_request(request, false).unwrap();
        stream.send_data(body.freeze(), true).unwrap();
        response
    }

    /// Begins a request whose body comes in parts: its stream, and the response.
    pub(super) fn begin_slowly(
        &mut self,
        path: &str,
        metadata: &[(&str, &str)],
    ) -> (h2::SendStream<Bytes>, ResponseFuture) {
        let mut request = Request::builder()
            .method("POST")
            .uri(format!("http://cache.test{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in metadata {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let (response, stream) = self.requests.send_request(request, false).unwrap();
        self.exchange();
        (stream, response)
    }

    /// Opens a call whose answer goes on.
    pub(super) fn open(&mut self, path: &str, message: &impl Message) -> Reader {
        let response = self.begin(path, &[], message);
        self.exchange();
        let mut context = Context::from_waker(Waker::noop());
        let response = now(Box::pin(response).as_mut().poll(&mut context)).unwrap();
        Reader { body: response.into_body(), bytes: BytesMut::new() }
    }

    /// Reads a call's outcome.
    pub(super) fn finish(&mut self, response: ResponseFuture) -> Outcome {
        let mut context = Context::from_waker(Waker::noop());
        let mut response = Box::pin(response);
        self.exchange();
        let (parts, mut body) = now(response.as_mut().poll(&mut context)).unwrap().into_parts();
        let mut bytes = BytesMut::new();
        loop {
            match body.poll_data(&mut context) {
                Poll::Ready(None) => break,
                Poll::Ready(Some(data)) => {
                    let data = data.unwrap();
                    body.flow_control().release_capacity(data.len()).unwrap();
                    bytes.extend_from_slice(&data);
                }
                Poll::Pending => self.exchange(),
            }
        }
        let trailers = now(body.poll_trailers(&mut context)).unwrap().unwrap_or_default();
        let header = |name: &str| {
            let text =
                |map: &HeaderMap| map.get(name).map(|value| value.to_str().unwrap().to_owned());
            text(&trailers).or_else(|| text(&parts.headers)).unwrap_or_default()
        };
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let head = bytes.split_to(5);
            assert_eq!(head[0], 0, "not compressed");
            let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            messages.push(bytes.split_to(len as usize).freeze());
        }
        Outcome { status: header("grpc-status"), sentence: header("grpc-message"), messages }
    }

    /// A whole call on a cache.
    pub(super) fn call(&mut self, cache: &str, method: &str, message: &impl Message) -> Outcome {
        let path = format!("/cache_client.Scs/{method}");
        let response = self.begin(&path, &[("cache", cache)], message);
        self.finish(response)
    }

    /// A control call.
    pub(super) fn control(&mut self, method: &str, message: &impl Message) -> Outcome {
        let path = format!("/control_client.ScsControl/{method}");
        let response = self.begin(&path, &[], message);
        self.finish(response)
    }
}

/// An answer that goes on.
pub(super) struct Reader {
    body: h2::RecvStream,
    bytes: BytesMut,
}

impl Reader {
    /// The messages that have come, and the status if it is over. `reads`: what came makes room.
    pub(super) fn read<M: Message + Default>(
        &mut self,
        client: &mut Client<'_>,
        reads: bool,
    ) -> (Vec<M>, Option<String>) {
        let mut context = Context::from_waker(Waker::noop());
        client.exchange();
        let mut status = None;
        while let Poll::Ready(data) = self.body.poll_data(&mut context) {
            let Some(data) = data else {
                let trailers = now(self.body.poll_trailers(&mut context)).unwrap();
                let code = trailers.and_then(|t| Some(t.get("grpc-status")?.to_str().ok()?.into()));
                status = code;
                break;
            };
            let data = data.unwrap();
            if reads {
                self.body.flow_control().release_capacity(data.len()).unwrap();
            }
            self.bytes.extend_from_slice(&data);
            client.exchange();
        }
        let mut messages = Vec::new();
        while let Some(head) = self.bytes.first_chunk::<5>() {
            let len = 5 + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            if self.bytes.len() < len {
                break;
            }
            let message = self.bytes.split_to(len).freeze();
            messages.push(M::decode(message.slice(5..)).unwrap());
        }
        (messages, status)
    }
}

impl Outcome {
    /// The one message of a good call.
    pub(super) fn message<M: Message + Default>(&self) -> M {
        assert_eq!((self.status.as_str(), self.messages.len()), ("0", 1), "{self:?}");
        M::decode(self.messages[0].clone()).unwrap()
    }
}
