//! `incr`, `decr` and `ma` on one item.
//!
//! memcached's rules in one function: unsigned 64 bit, up wraps, down stops at 0, the stored digits
//! never get shorter (spaces fill up), flags and expiry stay. Run by the store as one step for the key.

use crucible_plugin_api::{Change, Item, ItemKind, Modify, Status};

use crate::number::{Decimal, add_delta, counter_bytes, parse_u64};

/// Digits and blanks beyond this are not looked at: no number is that long.
const COUNTER_LEN_MAX: usize = 4096;

/// What to do with a counter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// By how much.
    pub delta: u64,
    /// Downwards.
    pub decrement: bool,
    /// Only if the CAS token is this one.
    pub cas: Option<u64>,
    /// Create an absent one with this value and deadline.
    pub create: Option<(u64, u64)>,
    /// The new deadline, if it changes.
    pub deadline_ms: Option<u64>,
    /// Marks of a created item.
    pub marks: u8,
    /// The CAS token to leave; 0 leaves the choice to the store.
    pub new_cas: u64,
}

impl Plan {
    /// The item's new state; the note is the number.
    pub fn decide(&self, old: Option<&Item<'_>>) -> Change {
        let Some(item) = old else {
            let Some((initial, expires_at_ms)) = self.create else {
                return Change::keep(Status::MISS);
            };
            let value = Decimal::new(initial).as_bytes().to_vec();
            let modify = Modify::Replace { value, flags: 0, marks: self.marks, expires_at_ms };
            return self.done(modify, initial);
        };
        if item.kind() != ItemKind::String {
            return Change::keep(Status::WRONG_TYPE);
        }
        if self.cas.is_some_and(|cas| cas != 0 && cas != item.cas()) {
            return Change::keep(Status::EXISTS);
        }
        if item.len() > COUNTER_LEN_MAX {
            return Change::keep(Status::NOT_NUMBER);
        }
        let Some(number) = parse_u64(&item.value().to_cow()) else {
            return Change::keep(Status::NOT_NUMBER);
        };
        let number = add_delta(number, self.delta, self.decrement);
        let modify = Modify::Replace {
            value: counter_bytes(number, item.len()),
            flags: item.flags(),
            marks: item.marks(),
            expires_at_ms: self.deadline_ms.unwrap_or(item.expires_at_ms()),
        };
        self.done(modify, number)
    }

    fn done(&self, modify: Modify, number: u64) -> Change {
        Change { modify, status: Status::OK, note: number.cast_signed(), new_cas: self.new_cas }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Value, flags and deadline.
    type Left = Option<(Vec<u8>, u32, u64)>;

    fn after(plan: Plan, old: Option<&[u8]>) -> (Status, i64, Left) {
        let item = old.map(|v| Item::of_bytes(v, 9, 77, 0, 5000));
        let change = plan.decide(item.as_ref());
        let left = match change.modify {
            Modify::Replace { value, flags, expires_at_ms, .. } => {
                Some((value, flags, expires_at_ms))
            }
            _ => None,
        };
        (change.status, change.note, left)
    }

    #[test]
    fn a_counter_keeps_its_length_flags_and_expiry() {
        let down = Plan { delta: 1, decrement: true, ..Plan::default() };
        assert_eq!(after(down, Some(b"100")), (Status::OK, 99, Some((b"99 ".to_vec(), 77, 5000))));
        let up = Plan { delta: 1, ..Plan::default() };
        assert_eq!(after(up, Some(b"99 ")), (Status::OK, 100, Some((b"100".to_vec(), 77, 5000))));
        let touched = Plan { delta: 1, deadline_ms: Some(0), ..Plan::default() };
        assert_eq!(after(touched, Some(b"9")).2, Some((b"10".to_vec(), 77, 0)));
    }

    #[test]
    fn what_cannot_be_counted_is_told() {
        let up = Plan { delta: 1, ..Plan::default() };
        assert_eq!(after(up, None).0, Status::MISS);
        assert_eq!(after(up, Some(b"abc")).0, Status::NOT_NUMBER);
        assert_eq!(after(up, Some(b"")).0, Status::NOT_NUMBER);
        assert_eq!(after(Plan { cas: Some(8), ..up }, Some(b"1")).0, Status::EXISTS);
        assert_eq!(after(Plan { cas: Some(9), ..up }, Some(b"1")).1, 2);
        assert_eq!(after(Plan { cas: Some(0), ..up }, Some(b"1")).1, 2);
        let create = Plan { create: Some((u64::MAX, 7)), ..up };
        assert_eq!(
            after(create, None),
            (Status::OK, -1, Some((b"18446744073709551615".to_vec(), 0, 7)))
        );
    }
}
