//! The protosocket transport: varint length, then one protobuf command.
//!
//! Always true: a length above the limit ends the connection before anything
//! of that size is held; commands before a good `authenticate` are refused.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{decode_varint, encode_varint};

use crate::proto::socket::{Command, Failure as WireFailure, Kind, Response};
use crate::status::Failure;

/// Longest encoding of a 64-bit varint.
const VARINT_LEN_MAX: usize = 10;
/// `control_code` of an ordinary command or response.
pub(crate) const NORMAL: u32 = 0;
/// `control_code`: forget the command with this id.
pub(crate) const CANCEL: u32 = 1;
/// `control_code`: the stream with this id is over.
pub(crate) const END: u32 = 2;

/// What the input begins with.
#[derive(Debug, PartialEq)]
pub(crate) enum Frame {
    /// Not whole yet.
    Partial,
    /// A command, and the bytes it took.
    Command(Box<Command>, usize),
    /// Nothing that can be gone on from.
    Broken(&'static str),
}

/// Reads one command.
pub(crate) fn read(input: &[u8], message_len_max: usize) -> Frame {
    let head = &input[..input.len().min(VARINT_LEN_MAX)];
    let Some(head_len) = head.iter().position(|b| b & 0x80 == 0).map(|last| last + 1) else {
        return if head.len() == VARINT_LEN_MAX {
            Frame::Broken("the length is not a varint")
        } else {
            Frame::Partial
        };
    };
    let Ok(len) = decode_varint(&mut &head[..head_len]) else {
        return Frame::Broken("the length is not a varint");
    };
    if len > message_len_max as u64 {
        return Frame::Broken("the command is longer than the limit");
    }
    let end = head_len + len as usize;
    let Some(body) = input.get(head_len..end) else { return Frame::Partial };
    match Command::decode(Bytes::copy_from_slice(body)) {
        Ok(command) => Frame::Command(Box::new(command), end),
        Err(_) => Frame::Broken("the command does not decode"),
    }
}

/// Writes one response.
pub(crate) fn write(out: &mut Vec<u8>, message_id: u64, kind: Kind) {
    let response = Response { message_id, control_code: NORMAL, kind: Some(kind) };
    encode_varint(response.encoded_len() as u64, out);
    response.encode(out).expect("a Vec grows as needed");
}

/// A failure as a response.
pub(crate) fn failure(failure: &Failure) -> Kind {
    Kind::Error(WireFailure { code: failure.code.cast_signed(), message: failure.message.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::socket::{Call, Key, Unary};

    fn get(id: u64) -> Vec<u8> {
        let call = Call::Get(Key { namespace: "c".into(), key: Bytes::from_static(b"k") });
        let unary = Some(Unary { call: Some(call) });
        let command = Command { message_id: id, control_code: NORMAL, unary };
        let mut out = Vec::new();
        encode_varint(command.encoded_len() as u64, &mut out);
        command.encode(&mut out).unwrap();
        out
    }

    #[test]
    fn every_prefix_of_a_command_is_partial() {
        let bytes = get(300);
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut], 1000), Frame::Partial, "cut at {cut}");
        }
        match read(&[bytes.clone(), get(301)].concat(), 1000) {
            Frame::Command(command, used) => {
                assert_eq!((command.message_id, used), (300, bytes.len()));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lengths_beyond_the_limit_or_beyond_64_bits_are_broken() {
        assert_eq!(
            read(&[0xff, 0xff, 0x03], 100),
            Frame::Broken("the command is longer than the limit")
        );
        assert_eq!(read(&[0xff; 10], 100), Frame::Broken("the length is not a varint"));
        assert_eq!(read(&[2, 0xff, 0xff], 100), Frame::Broken("the command does not decode"));
    }
}
