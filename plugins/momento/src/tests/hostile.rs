//! Frames that try to break the HTTP/2 session: each is bounded, and closed
//! with the right code, and others go on undisturbed.

use std::collections::BTreeMap;

use super::client::Client;
use super::connect;
use crate::Momento;
use crucible_plugin_testkit::{ModelBackend, TestHost};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u32;
    let mut out = len.to_be_bytes()[1..].to_vec();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A request's header block without HPACK's dynamic table.
fn headers(stream: u32, flags: u8) -> Vec<u8> {
    // :method POST, :scheme http, :path /x (literal, indexed name).
    frame(HEADERS, flags, stream, b"\x83\x86\x04\x02/x")
}

/// Kind, stream and payload of each whole frame.
fn frames(mut bytes: &[u8]) -> impl Iterator<Item = (u8, u32, &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.get(..9)?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let kind = head[3];
        let payload = bytes.get(9..9 + len)?;
        bytes = &bytes[9 + len..];
        Some((kind, stream, payload))
    })
}

/// The error code of the GOAWAY among the frames, if any.
fn go_away(mut bytes: &[u8]) -> Option<u32> {
    while bytes.len() >= 9 {
        let len = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        if bytes[3] == GOAWAY {
            return Some(u32::from_be_bytes(bytes[13..17].try_into().unwrap()));
        }
        bytes = &bytes[9 + len..];
    }
    None
}

/// Sends frames in pieces until the connection is closed; its last word.
fn attack(frames: impl Iterator<Item = Vec<u8>>) -> (Option<u32>, bool, usize) {
    let (host, conn) = connect("");
    let mut output = conn.ask(PREFACE);
    for frame in frames {
        if conn.is_closed() {
            break;
        }
        output.extend(conn.ask(&frame));
    }
    output.extend(conn.take_output());
    let closed = conn.is_closed();
    conn.close();
    host.finish();
    (go_away(&output), closed, output.len())
}

#[test]
fn headers_without_end_are_ended_for_the_client() {
    let first = frame(HEADERS, 0, 1, b"\x83\x86\x04\x02/x");
    let more = (0..100_000).map(|_| frame(CONTINUATION, 0, 1, &[0; 1000]));
    let (code, closed, sent) = attack(std::iter::once(first).chain(more));
    assert_eq!((code, closed), (Some(ENHANCE_YOUR_CALM), true));
    assert!(sent < 1000, "{sent} bytes in answer");
}

#[test]
fn a_header_block_above_the_limit_costs_its_call_alone() {
    let (host, conn) = connect("");
    let mut output = conn.ask(PREFACE);
    // A literal header of 60,000 bytes, over four frames.
    let mut block = b"\x83\x86\x04\x02/x\x00\x01a\x7f\xe1\xd3\x03".to_vec();
    block.extend_from_slice(&[b'v'; 60_000]);
    let mut parts = block.chunks(16_000);
    output.extend(conn.ask(&frame(HEADERS, 0, 1, parts.next().unwrap())));
    let count = parts.len();
    for (i, part) in parts.enumerate() {
        let end = if i + 1 == count { 0x4 } else { 0 };
        output.extend(conn.ask(&frame(CONTINUATION, end, 1, part)));
    }
    let refused = frames(&output).any(|(kind, stream, _)| {
        stream == 1 && (kind == HEADERS || kind == RST_STREAM) || kind == GOAWAY
    });
    assert!(refused, "the call is answered with an error");
    if !conn.is_closed() {
        assert!(!conn.ask(&frame(PING, 0, 0, b"12345678")).is_empty());
    }
    conn.close();
    host.finish();
}

/// A request as a client without a dynamic table writes it.
fn request(stream: u32, method: &str, message: &[u8]) -> Vec<u8> {
    let mut block = b"\x83\x86".to_vec();
    let path = format!("/cache_client.Scs/{method}");
    // Literal values: an indexed name (:path), then names of their own.
    block.extend_from_slice(&[0x04, path.len() as u8]);
    block.extend_from_slice(path.as_bytes());
    for (name, value) in [("content-type", "application/grpc"), ("cache", "default-cache")] {
        block.extend_from_slice(&[0, name.len() as u8]);
        block.extend_from_slice(name.as_bytes());
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
    }
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(message);
    [frame(HEADERS, 0x4, stream, &block), frame(DATA, 0x1, stream, &body)].concat()
}

#[test]
fn calls_that_arrive_in_pieces_are_answered_as_whole_ones() {
    use prost::Message;
    let key = bytes::Bytes::from_static(b"k");
    let set = crate::proto::SetRequest {
        cache_key: key.clone(),
        cache_body: bytes::Bytes::from_static(b"value"),
        ttl_milliseconds: 1000,
    };
    let get = crate::proto::KeyRequest { cache_key: key };
    let bytes = [
        PREFACE.to_vec(),
        request(1, "Set", &set.encode_to_vec()),
        request(3, "Get", &get.encode_to_vec()),
        request(5, "KeysExist", b"\xff"),
    ]
    .concat();
    // For each stream: how many header blocks, and the data. Streams are answered in any order,
    // and compression depends on it.
    type Told = BTreeMap<u32, (usize, Vec<u8>)>;
    let play = |pieces: &[&[u8]]| -> Told {
        let (host, conn) = connect("");
        let mut output = Vec::new();
        for piece in pieces {
            output.extend(conn.ask(piece));
        }
        conn.close();
        host.finish();
        let mut told = Told::new();
        for (kind, stream, payload) in frames(&output) {
            match kind {
                HEADERS => told.entry(stream).or_default().0 += 1,
                DATA => told.entry(stream).or_default().1.extend_from_slice(payload),
                _ => {}
            }
        }
        told
    };
    let whole = play(&[&bytes]);
    assert_eq!(whole.keys().copied().collect::<Vec<_>>(), [1, 3, 5]);
    assert!(whole[&3].1.ends_with(b"value"));
    for cut in 1..bytes.len() {
        assert_eq!(play(&[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
    }
    let each: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(play(&each), whole, "byte by byte");
}

#[test]
fn a_rapid_reset_is_calmed() {
    let floods = (0..100_000u32).map(|i| {
        let stream = 2 * i + 1;
        [headers(stream, 0x4), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
    });
    let (code, closed, _) = attack(floods.take(20_000));
    // Streams that are opened and reset one by one are cheap here; what counts
    // is that they are bounded: nothing is kept of them.
    assert!(!closed || code == Some(ENHANCE_YOUR_CALM), "{code:?}");
}

#[test]
fn a_burst_of_opened_and_reset_streams_is_calmed() {
    let burst: Vec<u8> = (0..2000u32)
        .flat_map(|i| {
            let stream = 2 * i + 1;
            [headers(stream, 0x4), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
        })
        .collect();
    let (code, closed, _) = attack(std::iter::once(burst));
    assert_eq!((code, closed), (Some(ENHANCE_YOUR_CALM), true));
}

#[test]
fn windows_past_their_end_are_an_error() {
    let window = frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes());
    let (code, closed, _) = attack(std::iter::repeat_n(window, 2));
    assert_eq!((code, closed), (Some(FLOW_CONTROL_ERROR), true));
}

/// The error code of the RST_STREAM of a stream, if any.
fn reset_of(output: &[u8], wanted: u32) -> Option<u32> {
    frames(output).find_map(|(kind, stream, payload)| {
        let code = || u32::from_be_bytes(payload[..4].try_into().unwrap());
        (kind == RST_STREAM && stream == wanted).then(code)
    })
}

#[test]
fn each_broken_rule_ends_the_connection_with_its_code() {
    let setting = |id: u16, value: u32| {
        frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
    };
    let window = |stream, increment: u32| frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
    let push = 5u8;
    let table: &[(&str, Vec<u8>, u32)] = &[
        ("a window that opens by nothing", window(0, 0), PROTOCOL_ERROR),
        ("a window update of three bytes", frame(WINDOW_UPDATE, 0, 0, b"xxx"), FRAME_SIZE_ERROR),
        ("a window for a stream that never was", window(7, 1), PROTOCOL_ERROR),
        ("an initial window past its end", setting(4, 0x8000_0000), FLOW_CONTROL_ERROR),
        ("frames smaller than may be", setting(5, 100), PROTOCOL_ERROR),
        ("pushes that are neither on nor off", setting(2, 2), PROTOCOL_ERROR),
        ("settings of five bytes", frame(SETTINGS, 0, 0, b"xxxxx"), FRAME_SIZE_ERROR),
        ("settings of a stream", frame(SETTINGS, 0, 1, b""), PROTOCOL_ERROR),
        ("an acknowledgement with a payload", frame(SETTINGS, 1, 0, b"xxxxxx"), FRAME_SIZE_ERROR),
        ("a ping of seven bytes", frame(PING, 0, 0, b"1234567"), FRAME_SIZE_ERROR),
        ("a ping of a stream", frame(PING, 0, 1, b"12345678"), PROTOCOL_ERROR),
        ("a frame above the largest", frame(DATA, 0, 1, &[0; 16_385]), FRAME_SIZE_ERROR),
        ("headers of no stream", headers(0, 0x4), PROTOCOL_ERROR),
        ("headers of a server's stream", headers(2, 0x4), PROTOCOL_ERROR),
        ("a continuation of nothing", frame(CONTINUATION, 0x4, 1, b"\x83"), PROTOCOL_ERROR),
        (
            "another frame between parts of headers",
            [headers(1, 0), frame(PING, 0, 0, b"12345678")].concat(),
            PROTOCOL_ERROR,
        ),
        ("a header of no table", frame(HEADERS, 0x4, 1, b"\xff\xff\x7f"), COMPRESSION_ERROR),
        ("a promise from a client", frame(push, 0x4, 1, b"\0\0\0\x02\x83"), PROTOCOL_ERROR),
        ("a reset of a stream that never was", frame(RST_STREAM, 0, 1, &[0; 4]), PROTOCOL_ERROR),
        ("streams that go backwards", [headers(5, 0x5), headers(3, 0x5)].concat(), PROTOCOL_ERROR),
    ];
    let mut wrong = Vec::new();
    for (what, bytes, wanted) in table {
        let (code, closed, sent) = attack(std::iter::once(bytes.clone()));
        // h2 names some no closer than that: a window update's length, an initial window, HPACK's end.
        let is_named = code == Some(*wanted) || code == Some(PROTOCOL_ERROR);
        if !is_named || !closed || sent > 300 {
            wrong.push(format!("{what}: {code:?}, closed: {closed}, {sent} bytes in answer"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_concerns_one_stream_ends_that_alone() {
    let (host, conn) = connect("");
    let mut output = conn.ask(PREFACE);
    // A window of its own past its end.
    output.extend(conn.ask(&headers(1, 0x4)));
    for _ in 0..2 {
        output.extend(conn.ask(&frame(WINDOW_UPDATE, 0, 1, &0x7fff_ffffu32.to_be_bytes())));
    }
    assert_eq!(reset_of(&output, 1), Some(FLOW_CONTROL_ERROR));
    // Unknown frames are for versions to come.
    output.extend(conn.ask(&frame(0xee, 0xff, 0, b"later")));
    assert!(!conn.is_closed());
    assert!(!conn.ask(&frame(PING, 0, 0, b"12345678")).is_empty());
    conn.close();
    host.finish();
}

#[test]
fn more_data_than_the_window_is_an_error() {
    // A stream has a megabyte; a body that is longer than a request may be is refused before.
    let data = (0..2000).map(|_| frame(DATA, 0, 1, &[0; 16_384]));
    let (code, closed, sent) = attack(std::iter::once(headers(1, 0x4)).chain(data));
    assert!(closed || code.is_none(), "{code:?}");
    assert!(sent < 200_000, "{sent} bytes in answer");
}

#[test]
fn data_for_a_stream_that_never_was_is_an_error() {
    let (code, closed, _) = attack(std::iter::once(frame(DATA, 0, 1, b"x")));
    assert_eq!((code, closed), (Some(PROTOCOL_ERROR), true));
}

#[test]
fn pings_and_settings_are_answered_one_for_one_and_no_more() {
    let pings = std::iter::repeat_n(frame(PING, 0, 0, b"12345678"), 10_000);
    let (_, closed, sent) = attack(pings);
    assert!(!closed && sent < 10_000 * 17 + 200, "{sent} bytes");
    let settings = std::iter::repeat_n(frame(SETTINGS, 0, 0, b""), 10_000);
    let (_, closed, sent) = attack(settings);
    assert!(!closed && sent < 10_000 * 9 + 200, "{sent} bytes");
}

#[test]
fn a_request_above_the_limit_is_refused_while_it_arrives() {
    let host = TestHost::new();
    let store = host.backend::<ModelBackend>("");
    let momento = host.protocol::<Momento>(r#"{"message_bytes_max":1000}"#, store);
    let (conn, other) = (host.connect(momento), host.connect(momento));
    let mut client = Client::new(&conn);
    let big = crate::proto::SetRequest {
        cache_key: bytes::Bytes::from_static(b"k"),
        cache_body: bytes::Bytes::from(vec![0; 200_000]),
        ttl_milliseconds: 1,
    };
    assert_eq!(client.call("default-cache", "Set", &big).status, "8");
    let key = crate::proto::KeyRequest { cache_key: bytes::Bytes::from_static(b"k") };
    assert_eq!(client.call("default-cache", "Get", &key).status, "0", "the connection goes on");
    assert_eq!(Client::new(&other).call("default-cache", "Get", &key).status, "0");
}
