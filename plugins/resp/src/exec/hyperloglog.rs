//! PFADD, PFCOUNT, PFMERGE: over strings in Redis's own format, so over any backend.
//!
//! PFADD and PFCOUNT of one key are one read-modify-write. Those of several keys read them all first:
//! PFMERGE stores what it found in a second step of a crossing of its own.

use crucible_plugin_api::{Change, Item, Op, Status};

use super::Ops;
use crate::frame::Args;
use crate::ticket::Ticket;
use crate::value::hll::{self, Bad, Hll, Mark};

/// In place of a number: the value is none.
const NOT_ONE: i64 = -1;
/// In place of a number: its registers are broken.
const CORRUPTED: i64 = -2;

/// What was wrong, by the number that stands for it.
pub(crate) fn bad_of(note: i64) -> Option<Bad> {
    match note {
        NOT_ONE => Some(Bad::NotOne),
        CORRUPTED => Some(Bad::Corrupted),
        _ => None,
    }
}

fn refused(bad: Bad) -> Change {
    let note = if bad == Bad::NotOne { NOT_ONE } else { CORRUPTED };
    Change::keep(Status::OK).with_note(note)
}

fn read(old: Option<&Item<'_>>) -> Result<Option<Hll>, Bad> {
    old.map(|item| Hll::read(&item.value().to_cow())).transpose()
}

pub(super) fn pfadd<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) {
    let marks: Vec<Mark> = args.from(2).map(hll::mark).collect();
    q.modify(args.at(1), move |old| added(old, &marks).unwrap_or_else(refused));
    q.end(Ticket::Sketch);
}

fn added(old: Option<&Item<'_>>, marks: &[Mark]) -> Result<Change, Bad> {
    let found = read(old)?;
    let mut changed = found.is_none();
    let mut hll = found.unwrap_or_default();
    for mark in marks {
        changed |= hll.add(*mark)?;
    }
    if !changed {
        return Ok(Change::keep(Status::OK));
    }
    hll.invalidate();
    Ok(Change::replace(hll.into_bytes(), old).with_note(1))
}

pub(super) fn pfcount<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) {
    if args.len() == 2 {
        q.modify(args.at(1), |old| counted(old).unwrap_or_else(refused));
        return q.end(Ticket::Sketch);
    }
    args.from(1).for_each(|key| q.op(Op::get(key)));
    q.end(Ticket::SketchUnion);
}

fn counted(old: Option<&Item<'_>>) -> Result<Change, Bad> {
    let keep = |count: u64| Change::keep(Status::OK).with_note(count as i64);
    let Some(mut hll) = read(old)? else { return Ok(keep(0)) };
    match hll.cached() {
        Some(count) => Ok(keep(count)),
        None => {
            let count = hll.count()?;
            Ok(Change::replace(hll.into_bytes(), old).with_note(count as i64))
        }
    }
}

pub(super) fn pfmerge<'a>(args: Args<'a, '_>, q: Ops<'_, 'a>) {
    // The target is a source, too, and comes first.
    args.from(1).for_each(|key| q.op(Op::get(key)));
    q.end_barrier(Ticket::SketchMerge);
}
