//! GEOSEARCH, GEOSEARCHSTORE and the older GEORADIUS commands: members within a shape.
//!
//! ```text
//!  arguments ──> [scores of the members that are named] ──> ranges ──┬──> answer
//!                                                           all ─────┴──> [store] ──> how many
//! ```
//! A search that only reads runs beside other writers, so what its operations saw must be one state
//! of the key: they compare the token that each answer carries. When a writer came between, one
//! operation reads all members instead. Those that may store run while the store is their own.

use crucible_plugin_api::{Element, Op, Status, StructFlags as Flag, StructOp};

use super::geo::{write_distance, write_place};
use super::georequest::{Known, Order, Request};
use super::note;
use crate::exec::{Ops, Pushed};
use crate::frame::Args;
use crate::geo::cell::Place;
use crate::geo::search::ranges;
use crate::reply::Cx;
use crate::table::Cmd;
use crate::ticket::Ticket;
use crate::write::{Sink, Writer};

/// A search on its way.
#[derive(Debug)]
pub struct Search {
    command: Cmd,
    words: Vec<Vec<u8>>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Whether the key is there was asked, and the scores of these members.
    Look(Vec<Vec<u8>>),
    /// Ranges were read; with the key's token, if it was asked before.
    Ranges(Box<Request>, Option<u64>),
    /// All members were read.
    All,
    /// So many members were stored.
    Store(usize),
}

/// A member within the shape.
struct Found<'a> {
    member: &'a [u8],
    score: f64,
    place: Place,
    distance_m: f64,
}

pub(super) fn push<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let words: Vec<Vec<u8>> = args.from(0).map(<[u8]>::to_vec).collect();
    let mut named = Vec::new();
    let request = Request::read(command, &words, |member| {
        named.push(member.to_vec());
        Known::At(0.0)
    });
    let key = args.at(if command == Cmd::Geosearchstore { 2 } else { 1 });
    let stage = match request {
        Ok(request) if named.is_empty() => {
            read_ranges(q, key, &request);
            Stage::Ranges(Box::new(request), None)
        }
        // Redis looks at the key first, even when what follows makes no sense.
        _ => {
            let members = named.iter().map(|member| Element::bytes(q.copy(member)));
            let members = members.collect::<Vec<_>>();
            let members = q.elements(members);
            q.op(Op::structure(StructOp::ZSET_SCORE, key).args(members));
            Stage::Look(named)
        }
    };
    q.end_barrier(Ticket::Search(Box::new(Search { command, words, stage })));
    Ok(())
}

/// Queues the reads of the ranges that cover a request's shape.
fn read_ranges<'a>(q: Ops<'_, 'a>, key: &'a [u8], request: &Request) {
    for (from, to) in ranges(request.centre, request.shape) {
        let bounds = q.elements([Element::double(from as f64), Element::double(to as f64)]);
        let flags = Flag::BY_SCORE | Flag::MAX_OPEN | Flag::WITH_SCORES;
        let op = Op::structure(StructOp::ZSET_RANGE, key).args(bounds);
        q.op(op.numbers(0, -1).with_flags(flags));
    }
}

/// Takes in what a round brought, and queues the next one or answers.
pub fn go_on<'a, S: Sink + ?Sized>(
    cx: &mut Cx<'_, 'a>,
    search: Search,
    ops: &[Op<'a>],
    w: &mut Writer<'_, S>,
) {
    if let Some(bad) = ops.iter().find(|op| !op.status().is_answer()) {
        return cx.failed(w, bad);
    }
    let key = ops[0].key();
    let Search { command, words, stage } = search;
    let is_there = ops[0].status() == Status::OK;
    match stage {
        Stage::Look(named) => {
            let score = |member: &[u8]| {
                let at = named.iter().position(|name| name == member)?;
                ops[0].elements().get(at)?.as_double()
            };
            let request = match Request::read(command, &words, |member| {
                if is_there { score(member).map_or(Known::No, Known::At) } else { Known::NoKey }
            }) {
                Ok(request) => request,
                Err(refusal) => return cx.refuse(w, &refusal),
            };
            if !is_there {
                note((cx.resp, cx.worker.id), &ops[0]);
                return finish(cx, command, &request, &[], w);
            }
            read_ranges(cx.queue, key, &request);
            let stage = Stage::Ranges(Box::new(request), Some(ops[0].cas_out()));
            cx.next_step(Ticket::Search(Box::new(Search { command, words, stage })));
        }
        Stage::Ranges(request, token) => {
            let token = token.unwrap_or(ops[0].cas_out());
            if ops.iter().any(|op| op.cas_out() != token) {
                let all = Op::structure(StructOp::ZSET_RANGE, key).numbers(0, -1);
                cx.queue.op(all.with_flags(Flag::WITH_SCORES));
                let stage = Stage::All;
                return cx.next_step(Ticket::Search(Box::new(Search { command, words, stage })));
            }
            note((cx.resp, cx.worker.id), &ops[0]);
            let found = within(&request, ops.iter().map(|op| op.elements()));
            finish(cx, command, &request, &found, w);
        }
        Stage::All => {
            note((cx.resp, cx.worker.id), &ops[0]);
            let all = ops[0].elements();
            let score = |member: &[u8]| {
                let pair = all.chunks_exact(2).find(|pair| pair[0].as_bytes() == member)?;
                pair[1].as_double()
            };
            let request = match Request::read(command, &words, |member| {
                if is_there { score(member).map_or(Known::No, Known::At) } else { Known::NoKey }
            }) {
                Ok(request) => request,
                Err(refusal) => return cx.refuse(w, &refusal),
            };
            let parts: Vec<Vec<Element<'a>>> = ranges(request.centre, request.shape)
                .into_iter()
                .map(|(from, to)| in_range(all, from as f64, to as f64))
                .collect();
            let found = within(&request, parts.iter().map(Vec::as_slice));
            finish(cx, command, &request, &found, w);
        }
        Stage::Store(n) => {
            // What was stored may be what somebody waits for.
            ops.iter().for_each(|op| note((cx.resp, cx.worker.id), op));
            w.int(n as i64);
        }
    }
}

/// Members with their scores, of those, in a range.
fn in_range<'a>(all: &[Element<'a>], from: f64, to: f64) -> Vec<Element<'a>> {
    let is_in = |pair: &&[Element<'a>]| {
        pair[1].as_double().is_some_and(|score| score >= from && score < to)
    };
    all.chunks_exact(2).filter(is_in).flatten().copied().collect()
}

/// What of the members read lies in the shape, in the order and number that is asked for.
fn within<'p, 'a: 'p>(
    request: &Request,
    parts: impl Iterator<Item = &'p [Element<'a>]>,
) -> Vec<Found<'a>> {
    let mut found: Vec<Found<'a>> = Vec::new();
    // With ANY, the first that come are as good as others.
    let enough = if request.any { request.count } else { usize::MAX };
    for pair in parts.flat_map(|part| part.chunks_exact(2)) {
        if found.len() >= enough {
            break;
        }
        let Some(score) = pair[1].as_double() else { continue };
        let place = Place::of_score(score);
        if let Some(distance_m) = request.shape.distance_m(request.centre, place) {
            found.push(Found { member: pair[0].as_bytes(), score, place, distance_m });
        }
    }
    let is_first = |a: &Found<'_>, b: &Found<'_>| a.distance_m.total_cmp(&b.distance_m);
    match request.order {
        Order::None => {}
        Order::Nearest => found.sort_by(is_first),
        Order::Farthest => found.sort_by(|a, b| is_first(b, a)),
    }
    found.truncate(request.count);
    found
}

/// Answers what was found, or stores it.
fn finish<'a, S: Sink + ?Sized>(
    cx: &mut Cx<'_, 'a>,
    command: Cmd,
    request: &Request,
    found: &[Found<'a>],
    w: &mut Writer<'_, S>,
) {
    let Some(target) = &request.store else { return write(w, request, found) };
    let target = cx.queue.copy(target);
    if found.is_empty() {
        cx.queue.op(Op::delete(target));
    } else {
        let pairs: Vec<Element<'a>> = found
            .iter()
            .flat_map(|one| {
                let score = if request.store_distance {
                    one.distance_m / request.unit.m
                } else {
                    one.score
                };
                [Element::double(score), Element::bytes(cx.queue.copy(one.member))]
            })
            .collect();
        let pairs = cx.queue.elements(pairs);
        let add = Op::structure(StructOp::ZSET_ADD, target).args(pairs);
        cx.queue.op(add.with_flags(Flag::REPLACE));
    }
    let stage = Stage::Store(found.len());
    cx.next_step(Ticket::Search(Box::new(Search { command, words: Vec::new(), stage })));
}

fn write<S: Sink + ?Sized>(w: &mut Writer<'_, S>, request: &Request, found: &[Found<'_>]) {
    let with = [request.with_distance, request.with_hash, request.with_place];
    let extras = with.into_iter().filter(|with| *with).count();
    w.array(found.len());
    for one in found {
        if extras > 0 {
            w.array(1 + extras);
        }
        w.bulk(one.member);
        if request.with_distance {
            write_distance(w, one.distance_m / request.unit.m);
        }
        if request.with_hash {
            w.int(one.score as i64);
        }
        if request.with_place {
            write_place(w, one.place);
        }
    }
}
