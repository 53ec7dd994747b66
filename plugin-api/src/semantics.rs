//! The rules of every write, in one place.
//!
//! [`decide`] says what an operation does to the present item. Simple backends
//! and the contract suite's model run it as it stands; backends with their own
//! fast paths must come to the same decisions, which the suite checks.
//!
//! Always true: the decision depends on the operation and the item alone.

use crate::abi::op::action;
use crate::abi::status::Status;
use crate::item::{Change, Item, Modify};
use crate::op::{Condition, Op, OpCode, Opts};

/// Longest spelling of a number that arithmetic reads, bytes.
pub const NUMBER_LEN_MAX: usize = 20;

/// What `op` does to the item that lives under its key now (`None`: absent or
/// expired). Reads decide to keep. The change's note is the operation's number.
#[must_use]
pub fn decide(op: &Op<'_>, present: Option<&Item<'_>>) -> Change {
    match op.code() {
        OpCode::NOP => Change::keep(Status::OK),
        OpCode::GET | OpCode::META => read(op, present),
        OpCode::MODIFY => op.run_modify(present, |decided| {
            let d = decided.decision;
            let (flags, marks, expires_at_ms) = (d.flags, d.marks & 0x0f, d.expires_at_ms);
            let modify = match d.action {
                action::REPLACE => {
                    Modify::Replace { value: decided.value.to_vec(), flags, marks, expires_at_ms }
                }
                action::SET_META if present.is_some() => {
                    Modify::SetMeta { flags, marks, expires_at_ms }
                }
                action::DELETE if present.is_some() => Modify::Delete,
                _ => Modify::Keep,
            };
            Change { modify, status: d.status, note: d.note, new_cas: d.new_cas }
        }),
        OpCode::STORE
        | OpCode::APPEND
        | OpCode::PREPEND
        | OpCode::ARITH
        | OpCode::TOUCH
        | OpCode::DELETE => match condition(op, present) {
            Err(status) => Change::keep(status),
            Ok(()) => write(op, present),
        },
        _ => Change::keep(Status::UNSUPPORTED),
    }
}

fn read(op: &Op<'_>, present: Option<&Item<'_>>) -> Change {
    let Some(item) = present else { return Change::keep(Status::MISS) };
    if !op.raw().opts.has(Opts::SET_EXPIRY) {
        return Change::keep(Status::OK);
    }
    set_deadline(item, op.raw().expires_at_ms)
}

fn set_deadline(item: &Item<'_>, expires_at_ms: u64) -> Change {
    let modify = Modify::SetMeta { flags: item.flags(), marks: item.marks(), expires_at_ms };
    Change { modify, status: Status::OK, note: 0, new_cas: 0 }
}

/// Whether the write may happen; else the status that says why not.
///
/// # Errors
/// The status that answers the operation.
pub fn condition(op: &Op<'_>, present: Option<&Item<'_>>) -> Result<(), Status> {
    let stores =
        matches!(op.code(), OpCode::STORE | OpCode::APPEND | OpCode::PREPEND | OpCode::COMMIT);
    match (op.raw().condition, present) {
        (Condition::ALWAYS, _)
        | (Condition::IF_ABSENT, None)
        | (Condition::IF_PRESENT, Some(_)) => Ok(()),
        (Condition::IF_ABSENT, Some(_)) => Err(Status::NOT_STORED),
        (Condition::IF_PRESENT, None) => {
            Err(if stores { Status::NOT_STORED } else { Status::MISS })
        }
        (Condition::IF_CAS | Condition::IF_EQUAL, None) => Err(Status::MISS),
        (Condition::IF_CAS, Some(item)) if item.cas() == op.raw().cas => Ok(()),
        (Condition::IF_EQUAL, Some(item)) if item.value() == *op.get_arg() => Ok(()),
        (Condition::IF_CAS | Condition::IF_EQUAL, Some(_)) => Err(Status::EXISTS),
        _ => Err(Status::INVALID),
    }
}

fn write(op: &Op<'_>, present: Option<&Item<'_>>) -> Change {
    match (op.code(), present) {
        (OpCode::STORE, _) => replace(op, present, op.val().to_vec()),
        (OpCode::APPEND | OpCode::PREPEND, present) => {
            let old = present.map_or(Vec::new(), |item| item.value().to_vec());
            let joined = if op.code() == OpCode::APPEND {
                [&old, op.val()].concat()
            } else {
                [op.val(), &old].concat()
            };
            let len = joined.len() as i64;
            replace(op, present, joined).with_note(len)
        }
        (OpCode::ARITH, None) => {
            let initial = op.raw().initial;
            let text = if op.raw().opts.has(Opts::UNSIGNED) {
                initial.to_string()
            } else {
                initial.cast_signed().to_string()
            };
            replace(op, None, text.into_bytes()).with_note(initial.cast_signed())
        }
        (OpCode::ARITH, Some(item)) => match add(op, item) {
            Err(status) => Change::keep(status),
            Ok((text, number)) => replace(op, Some(item), text).with_note(number),
        },
        (OpCode::TOUCH, None) | (OpCode::DELETE, None) => Change::keep(Status::MISS),
        (OpCode::TOUCH, Some(item)) => {
            if touch_allowed(op, item) {
                set_deadline(item, op.raw().expires_at_ms)
            } else {
                Change::keep(Status::NOT_STORED)
            }
        }
        (OpCode::DELETE, Some(_)) => Change::delete(),
        _ => Change::keep(Status::UNSUPPORTED),
    }
}

fn replace(op: &Op<'_>, present: Option<&Item<'_>>, value: Vec<u8>) -> Change {
    let raw = op.raw();
    let flags = present.filter(|_| raw.opts.has(Opts::KEEP_FLAGS)).map_or(raw.flags, Item::flags);
    let expires_at_ms = present
        .filter(|_| raw.opts.has(Opts::KEEP_TTL))
        .map_or(raw.expires_at_ms, Item::expires_at_ms);
    let modify = Modify::Replace { value, flags, marks: raw.marks, expires_at_ms };
    Change { modify, status: Status::OK, note: 0, new_cas: raw.new_cas }
}

/// Whether a TOUCH's `IF_*` options hold for the item.
#[must_use]
pub fn touch_allowed(op: &Op<'_>, item: &Item<'_>) -> bool {
    let opts = op.raw().opts;
    let latest = |at: u64| if at == 0 { u64::MAX } else { at };
    let (new, old) = (latest(op.raw().expires_at_ms), latest(item.expires_at_ms()));
    let has_ttl = item.expires_at_ms() != 0;
    !(opts.has(Opts::IF_NO_TTL) && has_ttl
        || opts.has(Opts::IF_TTL) && !has_ttl
        || opts.has(Opts::IF_LATER) && new <= old
        || opts.has(Opts::IF_EARLIER) && new >= old)
}

fn add(op: &Op<'_>, item: &Item<'_>) -> Result<(Vec<u8>, i64), Status> {
    if item.len() > NUMBER_LEN_MAX {
        return Err(Status::NOT_NUMBER);
    }
    let value = item.value().to_cow();
    let delta = op.raw().delta;
    if op.raw().opts.has(Opts::UNSIGNED) {
        let old = parse_unsigned(&value).ok_or(Status::NOT_NUMBER)?;
        let magnitude = delta.unsigned_abs();
        let new =
            if delta < 0 { old.saturating_sub(magnitude) } else { old.wrapping_add(magnitude) };
        return Ok((new.to_string().into_bytes(), new.cast_signed()));
    }
    let old = parse_signed(&value).ok_or(Status::NOT_NUMBER)?;
    let new = old.checked_add(delta).ok_or(Status::OVERFLOW)?;
    Ok((new.to_string().into_bytes(), new))
}

/// A signed number as Redis reads it: canonical decimal only, so no blanks, no
/// `+`, no leading zeros, no `-0`.
#[must_use]
pub fn parse_signed(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [] => false,
        [b'0'] => text.len() == 1,
        [b'0', ..] => false,
        _ => digits.iter().all(u8::is_ascii_digit),
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// An unsigned number as memcached reads it: decimal digits, then nothing but
/// blanks.
#[must_use]
pub fn parse_unsigned(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii_end();
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(value: &[u8]) -> Item<'_> {
        Item::of_bytes(value, 7, 5, 2, 1000)
    }

    fn replaced(change: Change) -> (Vec<u8>, u32, u8, u64) {
        match change.modify {
            Modify::Replace { value, flags, marks, expires_at_ms } => {
                (value, flags, marks, expires_at_ms)
            }
            other => panic!("not replaced: {other:?}"),
        }
    }

    #[test]
    fn conditions_answer_as_the_table_says() {
        let old = item(b"v");
        let cases: [(Condition, bool, Status); 6] = [
            (Condition::IF_ABSENT, true, Status::NOT_STORED),
            (Condition::IF_ABSENT, false, Status::OK),
            (Condition::IF_PRESENT, true, Status::OK),
            (Condition::IF_PRESENT, false, Status::NOT_STORED),
            (Condition::ALWAYS, false, Status::OK),
            (Condition(99), true, Status::INVALID),
        ];
        for (condition, present, status) in cases {
            let op = Op::store(b"k", b"new").condition(condition);
            assert_eq!(decide(&op, present.then_some(&old)).status, status, "{condition:?}");
        }
        assert_eq!(decide(&Op::store(b"k", b"n").if_cas(7), Some(&old)).status, Status::OK);
        assert_eq!(decide(&Op::store(b"k", b"n").if_cas(8), Some(&old)).status, Status::EXISTS);
        assert_eq!(decide(&Op::store(b"k", b"n").if_cas(7), None).status, Status::MISS);
        assert_eq!(decide(&Op::delete(b"k").if_equal(b"v"), Some(&old)).status, Status::OK);
        assert_eq!(decide(&Op::delete(b"k").if_equal(b"w"), Some(&old)).status, Status::EXISTS);
        let absent = Op::arith(b"k", 1, 1).condition(Condition::IF_PRESENT);
        assert_eq!(decide(&absent, None).status, Status::MISS);
    }

    #[test]
    fn a_store_takes_its_own_ttl_and_flags_unless_told_to_keep_them() {
        let old = item(b"v");
        let op = Op::store(b"k", b"n").flags(9).expires_at(5);
        assert_eq!(replaced(decide(&op, Some(&old))), (b"n".to_vec(), 9, 0, 5));
        let op = op.opts(Opts::KEEP_TTL | Opts::KEEP_FLAGS);
        assert_eq!(replaced(decide(&op, Some(&old))), (b"n".to_vec(), 5, 0, 1000));
    }

    #[test]
    fn append_and_arithmetic_keep_the_ttl() {
        let old = item(b"41");
        let change = decide(&Op::append(b"k", b"0"), Some(&old));
        assert_eq!(change.note, 3);
        assert_eq!(replaced(change), (b"410".to_vec(), 5, 0, 1000));
        let change = decide(&Op::arith(b"k", 1, 1), Some(&old));
        assert_eq!(change.note, 42);
        assert_eq!(replaced(change), (b"42".to_vec(), 5, 0, 1000));
    }

    #[test]
    fn signed_arithmetic_refuses_what_unsigned_wraps() {
        let top = i64::MAX.to_string();
        let signed = Op::arith(b"k", 1, 1);
        assert_eq!(decide(&signed, Some(&item(top.as_bytes()))).status, Status::OVERFLOW);
        let lowest = Op::arith(b"k", i64::MIN, 1);
        assert_eq!(decide(&lowest, Some(&item(b"0"))).note, i64::MIN);
        assert_eq!(decide(&lowest, Some(&item(b"-1"))).status, Status::OVERFLOW);
        let up = Op::arith(b"k", 1, 1).opts(Opts::UNSIGNED);
        let top = u64::MAX.to_string();
        assert_eq!(decide(&up, Some(&item(top.as_bytes()))).note, 0);
        let down = Op::arith(b"k", -5, 1).opts(Opts::UNSIGNED);
        assert_eq!(replaced(decide(&down, Some(&item(b"3")))).0, b"0");
        for bad in [&b""[..], b"abc", b"1.5", b" 1", b"-3", b"99999999999999999999999"] {
            assert_eq!(decide(&up, Some(&item(bad))).status, Status::NOT_NUMBER, "{bad:?}");
        }
    }

    #[test]
    fn only_canonical_decimals_are_signed_numbers() {
        assert_eq!(parse_signed(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_signed(b"0"), Some(0));
        for bad in [&b""[..], b"-", b"+1", b"01", b"-0", b" 1", b"1 ", b"9223372036854775808"] {
            assert_eq!(parse_signed(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_touch_compares_deadlines_with_never_as_the_latest() {
        let with = item(b"v");
        let without = Item::of_bytes(b"v", 7, 0, 0, 0);
        let allowed =
            |opts, at, item: &Item<'_>| touch_allowed(&Op::touch(b"k", at).opts(opts), item);
        assert!(!allowed(Opts::IF_NO_TTL, 5, &with) && allowed(Opts::IF_NO_TTL, 5, &without));
        assert!(allowed(Opts::IF_TTL, 5, &with) && !allowed(Opts::IF_TTL, 5, &without));
        assert!(allowed(Opts::IF_LATER, 1001, &with) && !allowed(Opts::IF_LATER, 1000, &with));
        assert!(!allowed(Opts::IF_LATER, 5000, &without) && allowed(Opts::IF_EARLIER, 5, &without));
        assert!(allowed(Opts::IF_EARLIER, 999, &with) && !allowed(Opts::IF_EARLIER, 1000, &with));
    }
}
