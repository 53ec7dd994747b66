//! Where the keys of a command are and what becomes of them: key specifications, as `COMMAND INFO`
//! lists them, and the facts behind `COMMAND GETKEYSANDFLAGS`. Called by `describe` and by the server
//! command room.

use super::{Cmd, Keys, key_use};
use crate::write::{Sink, Writer};

/// Words that a key stands behind, wherever they are from a position on.
pub fn key_words(command: Cmd) -> &'static [(&'static str, usize)] {
    match command {
        Cmd::Georadius => &[("STORE", 6), ("STOREDIST", 6)],
        Cmd::Georadiusbymember => &[("STORE", 5), ("STOREDIST", 5)],
        _ => &[],
    }
}

/// Key specifications: uses and ranges, each `(uses, first, last, step)`.
pub(super) fn key_specs(command: Cmd) -> Vec<(u16, Keys)> {
    use key_use::{ACCESS, DELETE, INSERT, OW, RO, RW, UPDATE};
    let one = |at| Keys::of(at, at, 1);
    match command {
        Cmd::Copy => vec![(RO | ACCESS, one(1)), (OW | UPDATE, one(2))],
        Cmd::Rename => vec![(RW | ACCESS | DELETE, one(1)), (OW | UPDATE, one(2))],
        Cmd::Renamenx => vec![(RW | ACCESS | DELETE, one(1)), (OW | INSERT, one(2))],
        Cmd::Bitop => vec![(OW | UPDATE, one(2)), (RO | ACCESS, Keys::of(3, -1, 1))],
        Cmd::Geosearchstore => vec![(OW | UPDATE, one(1)), (RO | ACCESS, one(2))],
        _ if command.spec().keys == Keys::NONE => Vec::new(),
        _ => vec![(command.spec().key_use, command.spec().keys)],
    }
}

/// Writes the names of key uses.
pub fn write_uses<S: Sink + ?Sized>(w: &mut Writer<'_, S>, uses: u16) {
    let names: Vec<_> = key_use::NAMES.iter().filter(|(bit, _)| uses & bit != 0).collect();
    w.set(names.len());
    for (_, name) in names {
        w.simple(name);
    }
}

/// What a command with these arguments does to the key at a position.
pub fn uses_at(command: Cmd, args: &[&[u8]], position: usize) -> u16 {
    use key_use::{ACCESS, OW, RO, RW, UPDATE};
    let has = |word: &[u8]| args.iter().skip(2).any(|arg| arg.eq_ignore_ascii_case(word));
    match command {
        Cmd::Set if !has(b"get") => return OW | UPDATE,
        Cmd::Set => return RW | ACCESS | UPDATE,
        Cmd::Bitfield if has(b"set") || has(b"incrby") => return RW | ACCESS | UPDATE,
        Cmd::Bitfield => return RO | ACCESS,
        Cmd::Georadius | Cmd::Georadiusbymember if position > 1 => return OW | UPDATE,
        _ => {}
    }
    let argc = args.len();
    let covers = |(_, keys): &&(u16, Keys)| keys.positions(argc).any(|at| at == position);
    key_specs(command).iter().find(covers).map_or(command.spec().key_use, |(uses, _)| *uses)
}

pub(super) fn write_key_specs<S: Sink + ?Sized>(
    w: &mut Writer<'_, S>,
    specs: &[(u16, Keys)],
    words: &[(&str, usize)],
) {
    w.set(specs.len() + words.len());
    for (uses, keys) in specs {
        w.map(3);
        w.bulk(b"flags");
        write_uses(w, *uses);
        w.bulk(b"begin_search");
        w.map(2);
        w.bulk(b"type");
        w.bulk(b"index");
        w.bulk(b"spec");
        w.map(1);
        w.bulk(b"index");
        w.int(i64::from(keys.first));
        // Relative to the first key, unless it counts from the end.
        let last = if keys.last < 0 { keys.last } else { keys.last - keys.first };
        write_range(w, last, keys.step);
    }
    for (word, from) in words {
        w.map(3);
        w.bulk(b"flags");
        write_uses(w, key_use::OW | key_use::UPDATE);
        w.bulk(b"begin_search");
        w.map(2);
        w.bulk(b"type");
        w.bulk(b"keyword");
        w.bulk(b"spec");
        w.map(2);
        w.bulk(b"keyword");
        w.bulk(word.as_bytes());
        w.bulk(b"startfrom");
        w.int(*from as i64);
        write_range(w, 0, 1);
    }
}

fn write_range<S: Sink + ?Sized>(w: &mut Writer<'_, S>, last: i8, step: i8) {
    w.bulk(b"find_keys");
    w.map(2);
    w.bulk(b"type");
    w.bulk(b"range");
    w.bulk(b"spec");
    w.map(3);
    w.bulk(b"lastkey");
    w.int(i64::from(last));
    w.bulk(b"keystep");
    w.int(i64::from(step));
    w.bulk(b"limit");
    w.int(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_has_two_key_specifications() {
        assert_eq!(uses_at(Cmd::Copy, &[b"copy", b"a", b"b"], 1), key_use::RO | key_use::ACCESS);
        assert_eq!(uses_at(Cmd::Copy, &[b"copy", b"a", b"b"], 2), key_use::OW | key_use::UPDATE);
    }

    #[test]
    fn a_destination_that_a_word_names_is_overwritten() {
        let args: [&[u8]; 8] = [b"georadius", b"k", b"1", b"2", b"3", b"km", b"STORE", b"d"];
        assert_eq!(uses_at(Cmd::Georadius, &args, 1), key_use::RO | key_use::ACCESS);
        assert_eq!(uses_at(Cmd::Georadius, &args, 7), key_use::OW | key_use::UPDATE);
        for command in Cmd::all().filter(|command| !key_words(*command).is_empty()) {
            assert!(command.spec().is(super::super::flag::MOVABLEKEYS), "{command:?}");
        }
    }
}
