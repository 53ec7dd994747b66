//! Operations on several keys, or with a destination.

use crucible_plugin_api::{Status, StructAnswer, StructCall, StructFlags, StructOp};

use super::{Ctx, Held, Slot, list, zset};
use crate::table::Table;
use crate::{List, Object, Set, ZSet};

pub(super) fn run(
    call: &StructCall<'_>,
    ctx: &mut Ctx<'_>,
    slots: &mut [Slot],
    out: &mut StructAnswer<'_>,
) {
    let places = places(call);
    let needs_other = matches!(
        call.op,
        StructOp::LIST_MOVE | StructOp::SET_MOVE | StructOp::RENAME | StructOp::COPY
    );
    if needs_other && places.len() < 2 || call.sources().is_empty() {
        return out.fail(Status::INVALID);
    }
    match call.op {
        StructOp::LIST_MPOP | StructOp::ZSET_MPOP => pop_first(call, ctx, slots, &places, out),
        StructOp::LIST_MOVE => move_value(call, ctx, slots, places[1], out),
        StructOp::SET_MOVE => move_member(call, ctx, slots, places[1], out),
        StructOp::ZSET_RANGE => {
            let none = ZSet::new();
            let source = match &slots[places[1]].held {
                Held::Absent => &none,
                Held::Object(Object::ZSet(zset)) => zset,
                _ => return out.fail(Status::WRONG_TYPE),
            };
            let Some(range) = zset::selected(source, call) else {
                return out.fail(Status::INVALID);
            };
            let mut result = ZSet::new();
            source.visit(range.start, range.end, false, |member, score| {
                result.set(member, score, ctx.limits);
            });
            store(call, Object::ZSet(result), &mut slots[0], out);
        }
        StructOp::SET_INTER | StructOp::SET_UNION | StructOp::SET_DIFF => {
            sets(call, ctx, slots, &places, out);
        }
        StructOp::ZSET_UNION | StructOp::ZSET_INTER | StructOp::ZSET_DIFF => {
            zsets(call, ctx, slots, &places, out);
        }
        StructOp::RENAME => rename(call, slots, places[1], out),
        StructOp::COPY => copy(call, slots, places[1], out),
        _ => out.fail(Status::UNSUPPORTED),
    }
}

/// For each key the slot that counts: the first one of an equal key.
fn places(call: &StructCall<'_>) -> Vec<usize> {
    if call.keys.len() < 16 {
        let first = |key: &[u8]| call.all_keys().position(|other| other == key);
        return call.all_keys().filter_map(first).collect();
    }
    let mut firsts = Table::<()>::new();
    let mut ranks = Vec::new();
    call.all_keys()
        .enumerate()
        .map(|(i, key)| match firsts.find(key) {
            Some(at) => ranks[at as usize],
            None => {
                firsts.insert(key, b"", ());
                ranks.push(i);
                i
            }
        })
        .collect()
}

/// Puts an outcome under the destination, whatever was there.
fn store(call: &StructCall<'_>, object: Object, slot: &mut Slot, out: &mut StructAnswer<'_>) {
    out.set_number(object.len() as i64);
    out.set_status(Status::OK);
    if !object.is_empty() {
        if matches!(object, Object::ZSet(_)) {
            out.grew()
        } else {
            out.changed()
        }
        *slot = Slot { held: Held::Object(object), expires_at_ms: call.expires_at_ms };
    } else if !slot.is_absent() {
        slot.clear();
        out.gone();
    }
}

/// Removes an object that was emptied.
fn settle(slot: &mut Slot) -> bool {
    let is_empty = matches!(&slot.held, Held::Object(object) if object.is_empty());
    if is_empty {
        slot.clear();
    }
    is_empty
}

fn pop_first(
    call: &StructCall<'_>,
    ctx: &mut Ctx<'_>,
    slots: &mut [Slot],
    places: &[usize],
    out: &mut StructAnswer<'_>,
) {
    let wants_list = call.op == StructOp::LIST_MPOP;
    for (i, place) in places.iter().enumerate() {
        let slot = &mut slots[*place];
        match &mut slot.held {
            Held::Absent => continue,
            Held::Object(Object::List(list)) if wants_list => list::pop(list, call, ctx, out),
            Held::Object(Object::ZSet(zset)) if !wants_list => zset::pop(zset, call, out),
            _ => return out.fail(Status::WRONG_TYPE),
        }
        let is_gone = settle(slot);
        let say = |out: &mut StructAnswer<'_>| if is_gone { out.gone() } else { out.changed() };
        out.set_number(i as i64);
        if i > 0 {
            out.unchanged();
            out.other(say);
        } else {
            say(out);
        }
        return;
    }
    out.set_status(Status::MISS);
}

fn move_value(
    call: &StructCall<'_>,
    ctx: &mut Ctx<'_>,
    slots: &mut [Slot],
    to: usize,
    out: &mut StructAnswer<'_>,
) {
    match &slots[0].held {
        Held::Absent => return out.set_status(Status::MISS),
        Held::Object(Object::List(_)) => {}
        _ => return out.fail(Status::WRONG_TYPE),
    }
    if !matches!(&slots[to].held, Held::Absent | Held::Object(Object::List(_))) {
        return out.fail(Status::WRONG_TYPE);
    }
    let mut value = Vec::new();
    if let Held::Object(Object::List(list)) = &mut slots[0].held {
        list.pop(call.has(StructFlags::LEFT), ctx.limits, |bytes| value.extend_from_slice(bytes));
    }
    out.bytes(&value);
    if slots[to].is_absent() {
        let held = Held::Object(Object::List(List::new()));
        slots[to] = Slot { held, expires_at_ms: call.expires_at_ms };
    }
    if let Held::Object(Object::List(list)) = &mut slots[to].held {
        list.push(call.has(StructFlags::TO_LEFT), &value, ctx.limits);
    }
    if to == 0 {
        return out.grew();
    }
    out.other(StructAnswer::grew);
    if settle(&mut slots[0]) { out.gone() } else { out.changed() }
}

fn move_member(
    call: &StructCall<'_>,
    ctx: &mut Ctx<'_>,
    slots: &mut [Slot],
    to: usize,
    out: &mut StructAnswer<'_>,
) {
    let member = call.arg(0);
    if slots[0].is_absent() {
        return out.set_status(Status::MISS);
    }
    if !matches!(&slots[to].held, Held::Absent | Held::Object(Object::Set(_))) {
        return out.fail(Status::WRONG_TYPE);
    }
    let Held::Object(Object::Set(set)) = &mut slots[0].held else {
        return out.fail(Status::WRONG_TYPE);
    };
    if to == 0 {
        return out.set_number(i64::from(set.has(member)));
    }
    if !set.remove(member) {
        return;
    }
    out.set_number(1);
    if settle(&mut slots[0]) {
        out.gone()
    } else {
        out.changed()
    }
    if slots[to].is_absent() {
        let held = Held::Object(Object::Set(Set::new()));
        slots[to] = Slot { held, expires_at_ms: call.expires_at_ms };
    }
    if let Held::Object(Object::Set(set)) = &mut slots[to].held
        && set.add(member, ctx.limits)
    {
        out.other(StructAnswer::changed);
    }
}

/// Whether what a key holds could be waited for by a pop.
fn tells_growth(object: &Object) -> bool {
    matches!(object, Object::List(_) | Object::ZSet(_))
}

fn rename(call: &StructCall<'_>, slots: &mut [Slot], to: usize, out: &mut StructAnswer<'_>) {
    match &slots[0].held {
        Held::Absent => return out.set_status(Status::MISS),
        Held::Other => return out.fail(Status::UNSUPPORTED),
        Held::Object(_) => {}
    }
    if call.has(StructFlags::IF_NEW) && !slots[to].is_absent() {
        return;
    }
    out.set_number(1);
    if to == 0 {
        return;
    }
    slots[to] = std::mem::take(&mut slots[0]);
    out.gone();
    let grew = matches!(&slots[to].held, Held::Object(object) if tells_growth(object));
    out.other(|out| if grew { out.grew() } else { out.changed() });
}

fn copy(call: &StructCall<'_>, slots: &mut [Slot], to: usize, out: &mut StructAnswer<'_>) {
    let object = match &slots[0].held {
        Held::Absent => return out.set_status(Status::MISS),
        Held::Other => return out.fail(Status::UNSUPPORTED),
        Held::Object(_) if to == 0 => return out.fail(Status::INVALID),
        Held::Object(_) if !call.has(StructFlags::REPLACE) && !slots[to].is_absent() => return,
        Held::Object(object) => object.clone(),
    };
    out.set_number(1);
    let grew = tells_growth(&object);
    let expires_at_ms = slots[0].expires_at_ms;
    slots[to] = Slot { held: Held::Object(object), expires_at_ms };
    out.other(|out| if grew { out.grew() } else { out.changed() });
}

/// A source of a set operation.
#[derive(Clone, Copy)]
enum Source<'s> {
    Nothing,
    Set(&'s Set),
    ZSet(&'s ZSet),
}

impl Source<'_> {
    fn len(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Set(set) => set.len(),
            Self::ZSet(zset) => zset.len(),
        }
    }

    fn has(self, member: &[u8]) -> bool {
        match self {
            Self::Nothing => false,
            Self::Set(set) => set.has(member),
            Self::ZSet(zset) => zset.score(member).is_some(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Self::Nothing => None,
            Self::Set(set) => set.has(member).then_some(1.0),
            Self::ZSet(zset) => zset.score(member),
        }
    }

    fn for_each(self, mut visit: impl FnMut(&[u8], f64)) {
        match self {
            Self::Nothing => {}
            Self::Set(set) => set.for_each(|member| visit(member, 1.0)),
            Self::ZSet(zset) => zset.visit(0, usize::MAX, false, visit),
        }
    }
}

/// The sources; nothing when one holds something else.
fn sources<'s>(
    call: &StructCall<'_>,
    slots: &'s [Slot],
    places: &[usize],
    takes_zsets: bool,
) -> Option<Vec<Source<'s>>> {
    places[call.sources()]
        .iter()
        .map(|place| match &slots[*place].held {
            Held::Absent => Some(Source::Nothing),
            Held::Object(Object::Set(set)) => Some(Source::Set(set)),
            Held::Object(Object::ZSet(zset)) if takes_zsets => Some(Source::ZSet(zset)),
            _ => None,
        })
        .collect()
}

/// Visits what is in all sources, once each, in the order of the smallest.
fn for_each_common(sources: &[Source<'_>], mut visit: impl FnMut(&[u8])) {
    let Some((at, smallest)) = sources.iter().enumerate().min_by_key(|(_, s)| s.len()) else {
        return;
    };
    let others = || sources.iter().enumerate().filter(|(i, _)| *i != at);
    smallest.for_each(|member, _| {
        if others().all(|(_, other)| other.has(member)) {
            visit(member);
        }
    });
}

/// Answers how many are common, counting no further than the call says.
fn count_common(call: &StructCall<'_>, sources: &[Source<'_>], out: &mut StructAnswer<'_>) {
    let most = if call.first > 0 { call.first } else { i64::MAX };
    let mut count = 0;
    for_each_common(sources, |_| count += 1);
    out.set_number(count.min(most));
}

fn sets(
    call: &StructCall<'_>,
    ctx: &mut Ctx<'_>,
    slots: &mut [Slot],
    places: &[usize],
    out: &mut StructAnswer<'_>,
) {
    let Some(sources) = sources(call, slots, places, false) else {
        return out.fail(Status::WRONG_TYPE);
    };
    if call.op == StructOp::SET_INTER && call.has(StructFlags::CARD_ONLY) {
        return count_common(call, &sources, out);
    }
    let stores = call.has(StructFlags::STORE);
    let mut result = Set::new();
    let mut count = 0;
    let mut emit = |member: &[u8]| {
        count += 1;
        if stores {
            result.add(member, ctx.limits);
        } else {
            out.bytes(member);
        }
    };
    match call.op {
        StructOp::SET_INTER => for_each_common(&sources, emit),
        // Of two, whoever is in the second and not in the first.
        StructOp::SET_UNION if sources.len() <= 2 => {
            for (i, source) in sources.iter().enumerate() {
                source.for_each(|member, _| {
                    if i == 0 || !sources[0].has(member) {
                        emit(member);
                    }
                });
            }
        }
        StructOp::SET_UNION => {
            let mut seen = Table::<()>::new();
            for source in &sources {
                source.for_each(|member, _| {
                    if seen.find(member).is_none() {
                        seen.insert(member, b"", ());
                        emit(member);
                    }
                });
            }
        }
        _ => sources[0].for_each(|member, _| {
            if !sources[1..].iter().any(|other| other.has(member)) {
                emit(member);
            }
        }),
    }
    if stores {
        store(call, Object::Set(result), &mut slots[0], out);
    } else {
        out.set_number(count);
        if call.has(StructFlags::CARD_ONLY) {
            out.truncate(0);
        }
    }
}

fn zsets(
    call: &StructCall<'_>,
    ctx: &mut Ctx<'_>,
    slots: &mut [Slot],
    places: &[usize],
    out: &mut StructAnswer<'_>,
) {
    let Some(sources) = sources(call, slots, places, true) else {
        return out.fail(Status::WRONG_TYPE);
    };
    if call.op == StructOp::ZSET_INTER && call.has(StructFlags::CARD_ONLY) {
        return count_common(call, &sources, out);
    }
    if !call.args.is_empty() && call.args.len() != sources.len() {
        return out.fail(Status::INVALID);
    }
    let weighed = |i: usize, score: f64| {
        let weight = call.args.get(i).and_then(|w| w.as_double()).unwrap_or(1.0);
        // Zero times infinity counts as zero.
        let score = weight * score;
        if score.is_nan() { 0.0 } else { score }
    };
    let join = |a: f64, b: f64| {
        if call.has(StructFlags::AGGREGATE_MIN) {
            a.min(b)
        } else if call.has(StructFlags::AGGREGATE_MAX) {
            a.max(b)
        } else {
            // So do the two infinities together.
            let sum = a + b;
            if sum.is_nan() { 0.0 } else { sum }
        }
    };
    let mut found = Table::<f64>::new();
    match call.op {
        StructOp::ZSET_UNION => {
            for (i, source) in sources.iter().enumerate() {
                source.for_each(|member, score| {
                    let score = weighed(i, score);
                    match found.find(member) {
                        Some(at) => {
                            let old = found.with_mut(at);
                            *old = join(*old, score);
                        }
                        None => drop(found.insert(member, b"", score)),
                    }
                });
            }
        }
        StructOp::ZSET_INTER => for_each_common(&sources, |member| {
            let scores = sources.iter().enumerate();
            let scores = scores.filter_map(|(i, source)| Some(weighed(i, source.score(member)?)));
            if let Some(score) = scores.reduce(join) {
                found.insert(member, b"", score);
            }
        }),
        _ => sources[0].for_each(|member, score| {
            if !sources[1..].iter().any(|other| other.has(member)) {
                found.insert(member, b"", score);
            }
        }),
    }
    let mut order: Vec<u32> = (0..found.len() as u32).collect();
    order.sort_unstable_by(|a, b| {
        let score = found.with(*a).total_cmp(found.with(*b));
        let score =
            if found.with(*a) == found.with(*b) { std::cmp::Ordering::Equal } else { score };
        score.then_with(|| found.key(*a).cmp(found.key(*b)))
    });
    if call.has(StructFlags::STORE) {
        let mut result = ZSet::new();
        for at in order {
            result.set(found.key(at), *found.with(at), ctx.limits);
        }
        return store(call, Object::ZSet(result), &mut slots[0], out);
    }
    out.set_number(order.len() as i64);
    if call.has(StructFlags::CARD_ONLY) {
        return;
    }
    for at in order {
        out.bytes(found.key(at));
        if call.has(StructFlags::WITH_SCORES) {
            out.double(*found.with(at));
        }
    }
}
