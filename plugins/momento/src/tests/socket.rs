//! Commands over protosocket: answers, order of authentication, splits.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{decode_varint, encode_varint};

use super::connect;
use crate::proto::socket::Key;
use crate::proto::socket::{Authenticate, Call, Command, Kind, Response, Set, Unary};

fn command(message_id: u64, call: Call) -> Vec<u8> {
    encoded(&Command { message_id, control_code: 0, unary: Some(Unary { call: Some(call) }) })
}

fn encoded(command: &Command) -> Vec<u8> {
    let mut out = Vec::new();
    encode_varint(command.encoded_len() as u64, &mut out);
    command.encode(&mut out).unwrap();
    out
}

fn key() -> Key {
    Key { namespace: "default-cache".into(), key: Bytes::from_static(b"k") }
}

fn set(value: &[u8]) -> Call {
    let Key { namespace, key } = key();
    Call::Set(Set { namespace, key, value: Bytes::copy_from_slice(value), ttl_milliseconds: 1000 })
}

/// A response as id and what it says.
fn responses(mut bytes: &[u8]) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let len = decode_varint(&mut bytes).unwrap() as usize;
        let (body, rest) = bytes.split_at(len);
        bytes = rest;
        let response = Response::decode(body).unwrap();
        let says = match response.kind.unwrap() {
            Kind::Error(failure) => format!("{} {}", failure.code, failure.message),
            Kind::Authenticated(_) => "authenticated".into(),
            Kind::Value(value) => format!("value {}", value.value.escape_ascii()),
            Kind::Set(_) => "set".into(),
            Kind::Deleted(_) => "deleted".into(),
        };
        all.push((response.message_id, says));
    }
    all
}

fn dialogue() -> Vec<u8> {
    [
        command(1, Call::Authenticate(Authenticate { token: "any".into() })),
        command(2, Call::Get(key())),
        command(3, set(b"v")),
        command(4, Call::Get(key())),
        encoded(&Command { message_id: 4, control_code: 1, unary: None }),
        command(5, Call::Delete(key())),
        command(6, Call::Get(key())),
        command(7, Call::Get(Key { namespace: "none".into(), key: Bytes::new() })),
    ]
    .concat()
}

const ANSWERS: [(u64, &str); 7] = [
    (1, "authenticated"),
    (2, "5 Key not found"),
    (3, "set"),
    (4, "value v"),
    (5, "deleted"),
    (6, "5 Key not found"),
    (7, "5 Cache with name: none does not exist"),
];

fn expected() -> Vec<(u64, String)> {
    ANSWERS.map(|(id, says)| (id, says.to_owned())).to_vec()
}

#[test]
fn each_command_is_answered_under_its_id() {
    let (host, conn) = connect("");
    assert_eq!(responses(&conn.ask(&dialogue())), expected());
    conn.close();
    host.finish();
}

#[test]
fn a_dialogue_cut_anywhere_gives_the_same_answers() {
    let bytes = dialogue();
    for cut in 1..bytes.len() {
        let (_host, conn) = connect("");
        conn.send(&bytes[..cut]);
        conn.send(&bytes[cut..]);
        assert_eq!(responses(&conn.take_output()), expected(), "cut at {cut}");
    }
    let (_host, conn) = connect("");
    bytes.iter().for_each(|byte| conn.send(&[*byte]));
    assert_eq!(responses(&conn.take_output()), expected(), "byte by byte");
}

#[test]
fn nothing_is_served_before_authentication() {
    // SHA-256 of "abc", a public test vector.
    let (_host, conn) = connect(
        r#"{"token_sha256":["ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]}"#,
    );
    let login = |token: &str| Call::Authenticate(Authenticate { token: token.into() });
    let refused = "16 the token is missing or unknown".to_owned();
    let answers = responses(&conn.ask(&command(1, Call::Get(key()))));
    assert_eq!(answers, [(1, refused.clone())]);
    assert_eq!(responses(&conn.ask(&command(2, login("xyz")))), [(2, refused)]);
    assert_eq!(responses(&conn.ask(&command(3, login("abc")))), [(3, "authenticated".into())]);
    let answers = responses(&conn.ask(&command(4, Call::Get(key()))));
    assert_eq!(answers, [(4, "5 Key not found".into())]);
}

#[test]
fn an_endless_length_closes_after_saying_why() {
    let (_host, conn) = connect("");
    let answer = responses(&conn.ask(&[0xff, 0xff, 0xff, 0xff, 0x7f]));
    assert_eq!(answer, [(0, "3 the command is longer than the limit".into())]);
    assert!(conn.is_closed());
}
