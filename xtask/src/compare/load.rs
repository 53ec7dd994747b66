//! A closed-loop generator on one thread: each connection sends a batch, waits for all of its
//! replies, verifies them, sends the next. It measures nothing itself; the server's CPU time is
//! read from the kernel around it. Every reply is compared with the tape: garbage cannot win.

use super::resp;
use super::tape::{Random, Replies, Tape};
use crate::Failure;
use crate::sys::{Interest, Poll};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// One receive call's room: large enough that a 1 MiB value takes few calls.
const RECV_LEN_BYTES: usize = 256 << 10;
/// How long a connect may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Connections to one server, kept over warm-up and measurement.
pub(crate) struct Generator {
    connections: Vec<Connection>,
    poll: Poll,
    scratch: Vec<u8>,
    random: Random,
}

struct Connection {
    stream: TcpStream,
    /// Bytes of the tape's requests still to send.
    send: Range<usize>,
    /// Bytes of the tape's replies still to come, for known replies.
    expect: Range<usize>,
    /// Replies still to come, for unknown ones, and the bytes of a partial one.
    frames: usize,
    partial: Vec<u8>,
    /// Requests of the batch under way.
    batch: usize,
    waits_to_write: bool,
}

impl Generator {
    /// Opens `count` connections to the server.
    pub(crate) fn connect(address: SocketAddr, count: usize) -> Result<Self, Failure> {
        let fail = |error| format!("cannot connect to {address}: {error}");
        let poll = Poll::new().map_err(fail)?;
        let mut connections = Vec::with_capacity(count);
        for number in 0..count {
            let stream = TcpStream::connect_timeout(&address, CONNECT_LIMIT).map_err(fail)?;
            stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true)).map_err(fail)?;
            poll.add(stream.as_raw_fd(), number as u64, Interest::Read).map_err(fail)?;
            connections.push(Connection {
                stream,
                send: 0..0,
                expect: 0..0,
                frames: 0,
                partial: Vec::new(),
                batch: 0,
                waits_to_write: false,
            });
        }
        let scratch = vec![0; RECV_LEN_BYTES];
        Ok(Self { connections, poll, scratch, random: Random::new(0x1234_5678_9abc_def1) })
    }

    /// Sends the whole tape once, in order, on the first connection.
    pub(crate) fn play_once(&mut self, tape: &Tape, limit: Duration) -> Result<(), Failure> {
        let mut next = 0;
        let mut start = |_: &mut Random| {
            let batch = next..tape.len().min(next + 16);
            next = batch.end;
            batch
        };
        self.drive(tape, 1, limit, &mut start)
    }

    /// Sends at least `requests` requests in batches of `pipeline`; returns how many it were.
    pub(crate) fn play(
        &mut self,
        tape: &Tape,
        pipeline: usize,
        requests: usize,
        limit: Duration,
    ) -> Result<usize, Failure> {
        let batches = requests.div_ceil(pipeline).max(self.connections.len());
        let mut left = batches;
        let mut start = |random: &mut Random| {
            if left == 0 {
                return 0..0;
            }
            left -= 1;
            let first = random.below(tape.len() - pipeline + 1);
            first..first + pipeline
        };
        self.drive(tape, self.connections.len(), limit, &mut start)?;
        Ok(batches * pipeline)
    }

    /// Keeps `width` connections busy until `next_batch` gives an empty one to each. A server that
    /// answers no batch at all for `limit` counts as stuck; a slow one only takes its time.
    fn drive(
        &mut self,
        tape: &Tape,
        width: usize,
        limit: Duration,
        next_batch: &mut dyn FnMut(&mut Random) -> Range<usize>,
    ) -> Result<(), Failure> {
        let mut last_answer = Instant::now();
        let mut busy = 0;
        for connection in &mut self.connections[..width] {
            let batch = next_batch(&mut self.random);
            busy += usize::from(connection.begin(tape, batch));
            connection.flush(tape)?;
        }
        for number in 0..width {
            self.watch(number)?;
        }
        let mut ready = Vec::new();
        while busy > 0 {
            if last_answer.elapsed() > limit {
                return Err(format!("{busy} connections got no answer in {} s", limit.as_secs()));
            }
            self.poll.wait(1000, &mut ready).map_err(|error| format!("epoll: {error}"))?;
            for number in ready.iter().map(|number| *number as usize) {
                let connection = &mut self.connections[number];
                connection.flush(tape)?;
                if connection.receive(tape, &mut self.scratch)? {
                    last_answer = Instant::now();
                    let batch = next_batch(&mut self.random);
                    if !connection.begin(tape, batch) {
                        busy -= 1;
                    }
                    connection.flush(tape)?;
                }
                self.watch(number)?;
            }
        }
        Ok(())
    }

    /// Waits for writability exactly while there is something left to write.
    fn watch(&mut self, number: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[number];
        let wanted = !connection.send.is_empty();
        if wanted == connection.waits_to_write {
            return Ok(());
        }
        connection.waits_to_write = wanted;
        let interest = if wanted { Interest::ReadWrite } else { Interest::Read };
        let socket = connection.stream.as_raw_fd();
        self.poll.modify(socket, number as u64, interest).map_err(|error| format!("epoll: {error}"))
    }
}

impl Connection {
    /// Takes on a batch; false if it is empty.
    fn begin(&mut self, tape: &Tape, batch: Range<usize>) -> bool {
        self.send = tape.at[batch.start]..tape.at[batch.end];
        self.batch = batch.len();
        match &tape.replies {
            Replies::Exact { at, .. } => self.expect = at[batch.start]..at[batch.end],
            Replies::Frames => self.frames = batch.len(),
        }
        !batch.is_empty()
    }

    fn flush(&mut self, tape: &Tape) -> Result<(), Failure> {
        while !self.send.is_empty() {
            match self.stream.write(&tape.requests[self.send.clone()]) {
                Ok(sent) => self.send.start += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("send: {error}")),
            }
        }
        Ok(())
    }

    /// Receives what is there; true once the batch under way is wholly answered.
    fn receive(&mut self, tape: &Tape, scratch: &mut [u8]) -> Result<bool, Failure> {
        let count = match self.stream.read(scratch) {
            Ok(0) => return Err("the server closed a connection".to_owned()),
            Ok(count) => count,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(format!("recv: {error}")),
        };
        match &tape.replies {
            Replies::Exact { bytes, .. } => self.verify(&scratch[..count], bytes)?,
            Replies::Frames => self.count_frames(&scratch[..count])?,
        }
        let answered = self.expect.is_empty() && self.frames == 0;
        if answered && !self.send.is_empty() {
            return Err("an answer came before its request was sent".to_owned());
        }
        let done = answered && self.batch > 0;
        if done {
            self.batch = 0;
        }
        Ok(done)
    }

    fn verify(&mut self, received: &[u8], replies: &[u8]) -> Result<(), Failure> {
        let wanted = &replies[self.expect.clone()];
        if wanted.get(..received.len()) != Some(received) {
            let excerpt = |bytes: &[u8]| {
                String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).escape_debug().to_string()
            };
            let (got, wanted) = (excerpt(received), excerpt(wanted));
            return Err(format!("a wrong reply: \"{got}\" where \"{wanted}\" was due"));
        }
        self.expect.start += received.len();
        Ok(())
    }

    fn count_frames(&mut self, received: &[u8]) -> Result<(), Failure> {
        self.partial.extend_from_slice(received);
        let mut at = 0;
        while at < self.partial.len() {
            let Some(len) = resp::reply_len(&self.partial[at..])? else { break };
            at += len;
            self.frames = self.frames.checked_sub(1).ok_or("more replies than requests")?;
        }
        self.partial.drain(..at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tape::{Keys, Op, Wire};
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    const KEYS: Keys = Keys { prefix: "key:", count: 4, value_len_bytes: 8 };
    const LIMIT: Duration = Duration::from_secs(60);

    /// A server that answers whatever bytes come by `answer`, in pieces of `piece` bytes.
    fn serve(answer: &'static [u8], request_len: usize, piece: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                thread::spawn(move || {
                    let mut request = vec![0; request_len];
                    while stream.read_exact(&mut request).is_ok() {
                        for part in answer.chunks(piece) {
                            if stream.write_all(part).is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        address
    }

    #[test]
    fn every_reply_is_verified_however_it_is_cut() {
        let reply = b"$8\r\nabcdefgh\r\n";
        let tape = Tape::fixed_reply(Op::Get, KEYS, reply);
        for piece in [1, 5, 100] {
            let mut generator =
                Generator::connect(serve(reply, tape.at[1], piece), 3).expect("connects");
            let done = generator.play(&tape, 4, 100, LIMIT).expect("right replies");
            assert_eq!(done, 100);
        }
    }

    #[test]
    fn a_wrong_value_fails_the_run_and_shows_both() {
        let tape = Tape::fixed_reply(Op::Get, KEYS, b"$8\r\nabcdefgh\r\n");
        let address = serve(b"$8\r\nabcdefgX\r\n", tape.at[1], 100);
        let mut generator = Generator::connect(address, 1).expect("connects");
        let sentence = generator.play(&tape, 1, 10, LIMIT).expect_err("a wrong value");
        assert!(sentence.contains("abcdefgX") && sentence.contains("abcdefgh"), "{sentence}");
    }

    #[test]
    fn an_error_reply_fails_a_run_of_unknown_replies() {
        let tape = Tape::commands(64, |_| vec![b"PING".to_vec()]);
        let address = serve(b"-ERR no such thing\r\n", tape.at[1], 100);
        let mut generator = Generator::connect(address, 1).expect("connects");
        assert_eq!(generator.play(&tape, 1, 10, LIMIT), Err("ERR no such thing".to_owned()));
    }

    #[test]
    fn a_preload_sends_each_entry_once_in_order() {
        let tape = Tape::preload(Wire::Resp, Keys { count: 40, ..KEYS });
        let address = serve(b"+OK\r\n", tape.at[1], 100);
        let mut generator = Generator::connect(address, 2).expect("connects");
        generator.play_once(&tape, LIMIT).expect("stored");
    }
}
