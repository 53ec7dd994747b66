//! Finding the nodes and slots of a Redis cluster before a run.
//!
//! Always true: every slot has an owner, or the run does not start. Called by the conductor.

use super::route::SLOTS;
use super::tls::TlsSettings;
use crate::config::plan::{Endpoint, Plan};
use crate::wire::resp::push_command;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};

/// The nodes, and the place of each slot's owner among them.
pub(super) type Slots = (Vec<Endpoint>, Vec<u16>);

/// Most bytes of an answer to CLUSTER SLOTS: 16,384 slots of at most 200 bytes.
const ANSWER_LEN_BYTES_MAX: usize = 4 << 20;

/// A socket, plain or sealed.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Asks the first endpoint for the cluster's slots: the nodes, and the place of each slot's node among them.
///
/// # Errors
/// A sentence that says what was answered.
pub(super) fn discover(plan: &Plan, tls: Option<&TlsSettings>) -> Result<Slots, String> {
    let (seed, timeout, login) = (&plan.endpoints[0], plan.connect_timeout, &plan.login);
    let io = |error: std::io::Error| format!("{}: {error}", seed.name);
    let socket = TcpStream::connect_timeout(&seed.address, timeout).map_err(io)?;
    socket.set_read_timeout(Some(timeout)).map_err(io)?;
    let mut stream: Box<dyn Stream> = match tls {
        Some(tls) => Box::new(tls.stream(&seed.name, socket)?),
        None => Box::new(socket),
    };
    let mut questions = Vec::new();
    if !login.password.is_empty() {
        let words = ["AUTH", &login.username, &login.password];
        let words: Vec<&[u8]> =
            words.iter().filter(|w| !w.is_empty()).map(|w| w.as_bytes()).collect();
        push_command(&mut questions, words.into_iter());
    }
    push_command(&mut questions, [&b"CLUSTER"[..], b"SLOTS"].into_iter());
    stream.write_all(&questions).map_err(io)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        let mut reader = Reader { bytes: &bytes, at: 0 };
        let logged_in = login.password.is_empty() || reader.reply(0)?.is_some();
        if logged_in && let Some(reply) = reader.reply(0)? {
            return slots(&reply, seed);
        }
        if bytes.len() > ANSWER_LEN_BYTES_MAX {
            return Err(format!("{}: endless answer to CLUSTER SLOTS", seed.name));
        }
        match stream.read(&mut chunk).map_err(io)? {
            0 => {
                return Err(format!(
                    "{} closed the connection when asked for CLUSTER SLOTS",
                    seed.name
                ));
            }
            n => bytes.extend_from_slice(&chunk[..n]),
        }
    }
}

#[derive(Debug)]
enum Reply {
    Number(i64),
    Text(String),
    List(Vec<Reply>),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn reply(&mut self, depth: usize) -> Result<Option<Reply>, String> {
        let rest = &self.bytes[self.at..];
        let Some(end) = memchr::memmem::find(rest, b"\r\n") else { return Ok(None) };
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        self.at += end + 2;
        let bad = || format!("`{line}` in the answer to CLUSTER SLOTS");
        let mut chars = line.chars();
        let kind = chars.next().ok_or_else(bad)?;
        let text = chars.as_str();
        Ok(Some(match kind {
            '-' => return Err(format!("CLUSTER SLOTS was refused: {text}")),
            '+' => Reply::Text(text.to_owned()),
            ':' => Reply::Number(text.parse().map_err(|_| bad())?),
            '$' if text == "-1" => Reply::Text(String::new()),
            '$' => {
                let len: usize = text.parse().map_err(|_| bad())?;
                let Some(bulk) = self.bytes.get(self.at..self.at + len) else { return Ok(None) };
                self.at += len + 2;
                if self.at > self.bytes.len() {
                    return Ok(None);
                }
                Reply::Text(String::from_utf8_lossy(bulk).into_owned())
            }
            '*' if depth < 5 => {
                let len: usize = text.parse().map_err(|_| bad())?;
                let mut list = Vec::new();
                for _ in 0..len {
                    let Some(item) = self.reply(depth + 1)? else { return Ok(None) };
                    list.push(item);
                }
                Reply::List(list)
            }
            _ => return Err(bad()),
        }))
    }
}

fn slots(reply: &Reply, seed: &Endpoint) -> Result<Slots, String> {
    let odd = || "the answer to CLUSTER SLOTS is not of its form".to_owned();
    let Reply::List(ranges) = reply else { return Err(odd()) };
    let mut nodes: Vec<Endpoint> = Vec::new();
    let mut owners = vec![u16::MAX; SLOTS];
    for range in ranges {
        let Reply::List(range) = range else { return Err(odd()) };
        let [Reply::Number(first), Reply::Number(last), Reply::List(node), ..] = &range[..] else {
            return Err(odd());
        };
        let [Reply::Text(host), Reply::Number(port), ..] = &node[..] else { return Err(odd()) };
        // A node that does not know its own name means the one that was asked.
        let host = if host.is_empty() || host == "?" {
            seed.address.ip().to_string()
        } else {
            host.clone()
        };
        let name = format!("{host}:{port}");
        let place = match nodes.iter().position(|n| n.name == name) {
            Some(place) => place,
            None => {
                let address = name
                    .to_socket_addrs()
                    .ok()
                    .and_then(|mut list| list.next())
                    .ok_or_else(|| format!("cluster node `{name}` has no address"))?;
                nodes.push(Endpoint { name, address });
                nodes.len() - 1
            }
        };
        let (first, last) = (
            usize::try_from(*first).map_err(|_| odd())?,
            usize::try_from(*last).map_err(|_| odd())?,
        );
        owners.get_mut(first..=last).ok_or_else(odd)?.fill(place as u16);
    }
    match owners.iter().position(|o| *o == u16::MAX) {
        Some(slot) => Err(format!("slot {slot} of the cluster has no owner")),
        None => Ok((nodes, owners)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &[u8]) -> Result<Option<Slots>, String> {
        let seed =
            Endpoint { name: "127.0.0.1:7000".into(), address: "127.0.0.1:7000".parse().unwrap() };
        let reply = Reader { bytes: answer, at: 0 }.reply(0)?;
        reply.map(|r| slots(&r, &seed)).transpose()
    }

    const WHOLE: &[u8] =
        b"*2\r\n*3\r\n:0\r\n:8191\r\n*3\r\n$9\r\n127.0.0.1\r\n:7000\r\n$2\r\nid\r\n\
                           *3\r\n:8192\r\n:16383\r\n*3\r\n$0\r\n\r\n:7001\r\n$2\r\nid\r\n";

    #[test]
    fn every_slot_gets_its_node_however_the_answer_is_cut() {
        let (nodes, owners) = read(WHOLE).unwrap().unwrap();
        assert_eq!(
            nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(),
            ["127.0.0.1:7000", "127.0.0.1:7001"]
        );
        assert_eq!((owners[0], owners[8191], owners[8192], owners[16_383]), (0, 0, 1, 1));
        for cut in 0..WHOLE.len() {
            assert!(read(&WHOLE[..cut]).unwrap().is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn a_gap_a_refusal_and_an_odd_answer_are_named() {
        let gap = b"*1\r\n*3\r\n:0\r\n:8191\r\n*2\r\n$9\r\n127.0.0.1\r\n:7000\r\n";
        assert!(read(gap).unwrap_err().contains("8192"));
        assert!(
            read(b"-ERR This instance has cluster support disabled\r\n")
                .unwrap_err()
                .contains("disabled")
        );
        assert!(read(b"+OK\r\n").is_err());
        assert!(read(b"*1\r\n*3\r\n:0\r\n:99999\r\n*2\r\n$9\r\n127.0.0.1\r\n:1\r\n").is_err());
    }
}
