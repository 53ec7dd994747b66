//! Walks over the keys: SCAN, KEYS, RANDOMKEY. The backend's cursor is the client's cursor.

use crucible_plugin_api::ItemKind;

use super::{Cx, store_refusal};
use crate::error::Refusal;
use crate::glob;
use crate::number::{parse_cursor, parse_i64};
use crate::write::{Sink, Writer};

/// Items that one SCAN visits when the client does not say, and at most.
const COUNT_DEFAULT: u32 = 10;
const COUNT_MAX: i64 = 100_000;

/// Least items that one call of the backend is asked for: tables may be sparse.
const COUNT_LEAST: u32 = 128;

/// Most calls of the backend for one SCAN.
const CALLS_MAX: u32 = 64;

/// Items that KEYS and RANDOMKEY visit in one call of the backend.
const STEP: u32 = 1024;

/// Most bytes of keys that KEYS gathers.
const KEYS_LEN_BYTES_MAX: usize = 256 << 20;

/// Items among which RANDOMKEY picks.
const RANDOM_STEP: u32 = 32;

struct Ask<'a> {
    cursor: u64,
    pattern: Option<&'a [u8]>,
    count: u32,
    kind: Option<&'a [u8]>,
}

fn read<'a>(args: &[&'a [u8]]) -> Result<Ask<'a>, Refusal> {
    let cursor = parse_cursor(args[1]).ok_or(Refusal::Cursor)?;
    let mut ask = Ask { cursor, pattern: None, count: COUNT_DEFAULT, kind: None };
    if !args.len().is_multiple_of(2) {
        return Err(Refusal::Syntax);
    }
    for pair in args[2..].chunks_exact(2) {
        match pair[0].to_ascii_lowercase().as_slice() {
            b"match" => ask.pattern = Some(pair[1]),
            b"type" => ask.kind = Some(pair[1]),
            b"count" => {
                let n = parse_i64(pair[1]).ok_or(Refusal::NotAnInteger)?;
                if n < 1 {
                    return Err(Refusal::Syntax);
                }
                ask.count = n.min(COUNT_MAX) as u32;
            }
            _ => return Err(Refusal::Syntax),
        }
    }
    Ok(ask)
}

fn kind_name(kind: ItemKind) -> &'static [u8] {
    match kind {
        ItemKind::String | ItemKind::Other(_) => b"string",
        ItemKind::List => b"list",
        ItemKind::Set => b"set",
        ItemKind::SortedSet => b"zset",
        ItemKind::Hash => b"hash",
    }
}

/// SCAN.
pub(super) fn scan<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, args: &[&[u8]], w: &mut Writer<'_, S>) {
    let ask = match read(args) {
        Ok(ask) => ask,
        Err(refusal) => return cx.refuse(w, &refusal),
    };
    let (mut found, mut visited) = (Vec::<Vec<u8>>::new(), 0);
    let mut next = Ok(ask.cursor);
    for _ in 0..CALLS_MAX {
        let Ok(cursor) = next else { break };
        next = cx.worker.service.scan(cursor, ask.count.max(COUNT_LEAST), &mut |key, item| {
            visited += 1;
            if ask.pattern.is_none_or(|p| glob::matches(p, key))
                && ask.kind.is_none_or(|k| kind_name(item.kind()).eq_ignore_ascii_case(k))
            {
                found.push(key.to_vec());
            }
            visited < ask.count
        });
        if next == Ok(0) || visited >= ask.count {
            break;
        }
    }
    match next {
        Err(status) => cx.refuse(w, &store_refusal(status)),
        Ok(next) => {
            w.array(2);
            w.bulk(next.to_string().as_bytes());
            w.array(found.len());
            for key in found {
                w.bulk(&key);
            }
        }
    }
}

/// KEYS.
pub(super) fn keys<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, pattern: &[u8], w: &mut Writer<'_, S>) {
    // A walk may see a key twice when the table changes meanwhile.
    let mut found = std::collections::HashSet::new();
    let (mut cursor, mut len_bytes) = (0, 0);
    loop {
        let next = cx.worker.service.scan(cursor, STEP, &mut |key, _| {
            if glob::matches(pattern, key) && found.insert(key.to_vec()) {
                len_bytes += key.len();
            }
            true
        });
        match next {
            Err(status) => return cx.refuse(w, &store_refusal(status)),
            Ok(_) if len_bytes > KEYS_LEN_BYTES_MAX => {
                return cx.error(w, "ERR too many keys for one reply, use SCAN");
            }
            Ok(0) => break,
            Ok(next) => cursor = next,
        }
    }
    w.array(found.len());
    for key in found {
        w.bulk(&key);
    }
}

/// RANDOMKEY: one of the next few keys of a walk that goes on from call to call.
pub(super) fn random_key<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, w: &mut Writer<'_, S>) {
    if super::info::items(cx) == 0 {
        return w.null();
    }
    let mut rounds = 0;
    loop {
        let from = cx.worker.random_cursor;
        let mut found: Vec<Vec<u8>> = Vec::new();
        let next = cx.worker.service.scan(from, RANDOM_STEP, &mut |key, _| {
            found.push(key.to_vec());
            true
        });
        let next = match next {
            Err(status) => return cx.refuse(w, &store_refusal(status)),
            Ok(next) => next,
        };
        cx.worker.random_cursor = next;
        if !found.is_empty() {
            let pick = cx.worker.random() as usize % found.len();
            return w.bulk(&found[pick]);
        }
        rounds += u32::from(next == 0);
        // Twice past the end without a key: there is none.
        if rounds == 2 {
            return w.null();
        }
    }
}
