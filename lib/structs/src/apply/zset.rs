//! Operations on a sorted set.

use std::ops::Range;

use crucible_plugin_api::{
    Datum, Element, Status, StructAnswer, StructCall, StructFlags, StructOp,
};

use super::{Ctx, at_most, budget, indexes, random_count, tell_cursor};
use crate::ZSet;
use crate::zset::LexBound;

pub(super) fn run(
    zset: &mut ZSet,
    call: &StructCall<'_>,
    ctx: &mut Ctx<'_>,
    out: &mut StructAnswer<'_>,
) {
    let members = || call.args.iter().map(|member| member.as_bytes());
    let with_scores = call.has(StructFlags::WITH_SCORES);
    match call.op {
        StructOp::ZSET_ADD => add(zset, call, ctx, out),
        StructOp::ZSET_REMOVE => {
            let removed = members().filter(|member| zset.remove(member).is_some()).count();
            tell_removed(removed, out);
        }
        StructOp::ZSET_SCORE => members().for_each(|member| match zset.score(member) {
            Some(score) => out.double(score),
            None => out.nil(),
        }),
        StructOp::ZSET_LEN => out.set_number(zset.len() as i64),
        StructOp::ZSET_COUNT => match bounds(zset, call) {
            Some(range) => out.set_number(range.len() as i64),
            None => out.fail(Status::INVALID),
        },
        StructOp::ZSET_RANK => match zset.rank(call.arg(0)) {
            Some((rank, score)) => {
                let rev = call.has(StructFlags::REV);
                let rank = if rev { zset.len() - 1 - rank } else { rank };
                out.set_number(rank as i64);
                out.double(score);
            }
            None => out.set_status(Status::MISS),
        },
        StructOp::ZSET_RANGE => match selected(zset, call) {
            Some(range) => {
                let back = call.has(StructFlags::REV);
                zset.visit(range.start, range.end, back, |member, score| {
                    tell(member, score, with_scores, out);
                });
            }
            None => out.fail(Status::INVALID),
        },
        StructOp::ZSET_REMOVE_RANGE => match bounds(zset, call) {
            Some(range) => tell_removed(zset.remove_ranks(range.start, range.end), out),
            None => out.fail(Status::INVALID),
        },
        StructOp::ZSET_POP => pop(zset, call, out),
        StructOp::ZSET_RANDOM => {
            let Some(count) = random_count(call, out) else { return };
            zset.random(ctx.rng, count, |member, score| tell(member, score, with_scores, out));
        }
        StructOp::ZSET_SCAN => {
            let next = zset.scan(call.cursor, budget(call), |member, score| {
                tell(member, score, true, out);
            });
            tell_cursor(next, out);
        }
        _ => out.fail(Status::UNSUPPORTED),
    }
}

fn tell(member: &[u8], score: f64, with_scores: bool, out: &mut StructAnswer<'_>) {
    out.bytes(member);
    if with_scores {
        out.double(score);
    }
}

fn tell_removed(removed: usize, out: &mut StructAnswer<'_>) {
    if removed > 0 {
        out.changed();
    }
    out.set_number(removed as i64);
}

/// Takes the lowest members out, or the highest.
pub(super) fn pop(zset: &mut ZSet, call: &StructCall<'_>, out: &mut StructAnswer<'_>) {
    let (len, back) = (zset.len(), call.has(StructFlags::REV));
    let count = at_most(call.first, len);
    let range = if back { len - count..len } else { 0..count };
    zset.visit(range.start, range.end, back, |member, score| tell(member, score, true, out));
    zset.remove_ranks(range.start, range.end);
    if count > 0 {
        out.changed();
    }
}

/// What adding a member did.
enum Added {
    Forbidden,
    NotANumber,
    New(f64),
    Changed(f64),
    Same(f64),
}

fn add(zset: &mut ZSet, call: &StructCall<'_>, ctx: &mut Ctx<'_>, out: &mut StructAnswer<'_>) {
    let incr = call.has(StructFlags::INCR);
    let pairs = || {
        let pair = |p: &[Element<'_>]| p[0].as_double().filter(|score| !score.is_nan());
        call.args.chunks_exact(2).map(move |p| (pair(p), p[1].as_bytes()))
    };
    if !call.args.len().is_multiple_of(2) || incr && call.args.len() != 2 {
        return out.fail(Status::INVALID);
    }
    if pairs().any(|(score, _)| score.is_none()) {
        return out.fail(Status::NOT_FINITE);
    }
    let (mut added, mut updated) = (0, 0);
    for (given, member) in pairs() {
        let mut outcome = Added::Forbidden;
        zset.change(member, ctx.limits, |old| {
            let mut score = given.unwrap_or(0.0);
            if let Some(old) = old.filter(|_| incr) {
                score += old;
            }
            if score.is_nan() {
                outcome = Added::NotANumber;
                return None;
            }
            let forbidden = match old {
                Some(old) => {
                    call.has(StructFlags::IF_NEW)
                        || call.has(StructFlags::GREATER) && score <= old
                        || call.has(StructFlags::LESS) && score >= old
                }
                None => call.has(StructFlags::IF_HELD),
            };
            if forbidden {
                return None;
            }
            outcome = match old {
                None => Added::New(score),
                Some(old) if old != score => Added::Changed(score),
                Some(_) => Added::Same(score),
            };
            (old != Some(score)).then_some(score)
        });
        let score = match outcome {
            Added::NotANumber => return out.fail(Status::NOT_FINITE),
            Added::Forbidden => {
                if incr {
                    out.nil();
                }
                continue;
            }
            Added::New(score) => {
                added += 1;
                out.grew();
                score
            }
            Added::Changed(score) => {
                updated += 1;
                out.grew();
                score
            }
            Added::Same(score) => score,
        };
        if incr {
            out.double(score);
        }
    }
    out.set_number(if call.has(StructFlags::COUNT_CHANGED) { added + updated } else { added });
}

fn lex_bound(element: Element<'_>) -> Option<LexBound<'_>> {
    match element.get() {
        Datum::Bytes(bytes) => Some(LexBound::At(bytes)),
        Datum::Int(n) if n < 0 => Some(LexBound::Lowest),
        Datum::Int(_) => Some(LexBound::Highest),
        _ => None,
    }
}

/// The ranks within the call's bounds; nothing when they make no sense.
pub(super) fn bounds(zset: &ZSet, call: &StructCall<'_>) -> Option<Range<usize>> {
    let (min_open, max_open) = (call.has(StructFlags::MIN_OPEN), call.has(StructFlags::MAX_OPEN));
    let (from, to) = if call.has(StructFlags::BY_SCORE) {
        let score = |i: usize| call.args.get(i)?.as_double().filter(|score| !score.is_nan());
        (zset.below_score(score(0)?, min_open), zset.below_score(score(1)?, !max_open))
    } else if call.has(StructFlags::BY_LEX) {
        let bound = |i: usize| lex_bound(*call.args.get(i)?);
        (zset.below_member(bound(0)?, min_open), zset.below_member(bound(1)?, !max_open))
    } else {
        let n = zset.len();
        let range = indexes(call.first, call.second, n);
        if !call.has(StructFlags::REV) || range.is_empty() {
            return Some(range);
        }
        (n - range.end, n - range.start)
    };
    Some(if from < to { from..to } else { 0..0 })
}

/// The ranks that the call selects: within its bounds, after skipping, so many.
pub(super) fn selected(zset: &ZSet, call: &StructCall<'_>) -> Option<Range<usize>> {
    let range = bounds(zset, call)?;
    if !call.has(StructFlags::BY_SCORE) && !call.has(StructFlags::BY_LEX) {
        return Some(range);
    }
    let Ok(skip) = usize::try_from(call.first) else { return Some(0..0) };
    let skip = skip.min(range.len());
    let count = match usize::try_from(call.second) {
        Ok(count) => count.min(range.len() - skip),
        Err(_) => range.len() - skip,
    };
    Some(if call.has(StructFlags::REV) {
        range.end - skip - count..range.end - skip
    } else {
        range.start + skip..range.start + skip + count
    })
}
