//! SORT and SORT_RO, in rounds: the elements, their weights, what is answered instead of them, and
//! the list that keeps the result.
//!
//! The store is its own from the first round to the last, so that nobody writes between them.

use crucible_plugin_api::{Element, Op, Status, StructFlags as Flag, StructOp};

use super::sorting::{self, Options, Weight};
use super::{Shape, note};
use crate::exec::{Ops, Pushed};
use crate::frame::Args;
use crate::reply::Cx;
use crate::table::Cmd;
use crate::ticket::Ticket;
use crate::write::{Sink, Writer};

/// A SORT on its way.
#[derive(Debug)]
pub struct Sorting {
    options: Options,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The key was read as each kind that can be sorted.
    Read,
    /// Weights of these elements were asked for.
    Weigh(Vec<Vec<u8>>),
    /// The answers for these elements were asked for.
    Fetch(Vec<Vec<u8>>),
    /// The result was stored.
    Store,
}

pub(super) fn push<'a>(command: Cmd, args: Args<'a, '_>, q: Ops<'_, 'a>) -> Pushed {
    let words: Vec<&[u8]> = args.from(2).collect();
    let options = Options::parse(&words, command == Cmd::SortRo)?;
    let key = args.at(1);
    q.op(Op::structure(StructOp::LIST_RANGE, key).numbers(0, -1));
    q.op(Op::structure(StructOp::SET_MEMBERS, key));
    q.op(Op::structure(StructOp::ZSET_RANGE, key).numbers(0, -1));
    q.end_barrier(Ticket::Sort(Box::new(Sorting { options, stage: Stage::Read })));
    Ok(())
}

/// Takes in what a round brought, and queues the next one or answers.
pub fn go_on<'a, S: Sink + ?Sized>(
    cx: &mut Cx<'_, 'a>,
    sorting: Sorting,
    ops: &[Op<'a>],
    w: &mut Writer<'_, S>,
) {
    let Sorting { options, stage } = sorting;
    match stage {
        Stage::Read => read(cx, options, ops, w),
        Stage::Weigh(elements) => {
            let texts: Vec<Option<Vec<u8>>> = ops.iter().map(text_of).collect();
            order(cx, options, elements, texts, w);
        }
        Stage::Fetch(elements) => {
            let mut found = ops.iter().map(text_of);
            let patterns = options.get.clone();
            let answers = elements.into_iter().flat_map(|element| {
                patterns
                    .iter()
                    .map(|pattern| match is_element(pattern) {
                        true => Some(element.clone()),
                        false => found.next().flatten(),
                    })
                    .collect::<Vec<_>>()
            });
            let answers = answers.collect();
            finish(cx, options, answers, w);
        }
        Stage::Store => super::answer(cx, Shape::Number, &ops[0], w),
    }
}

fn is_element(pattern: &[u8]) -> bool {
    pattern == b"#"
}

/// The text that a GET, or a look into a hash, found.
fn text_of(op: &Op<'_>) -> Option<Vec<u8>> {
    match (op.status(), op.struct_op()) {
        (Status::OK, None) => op.item().map(|item| item.value().to_vec()),
        (Status::OK, Some(_)) => {
            op.elements().first().filter(|e| !e.is_nil()).map(|e| e.as_bytes().to_vec())
        }
        // Absent, or of another kind: no text either way.
        _ => None,
    }
}

fn read<'a, S: Sink + ?Sized>(
    cx: &mut Cx<'_, 'a>,
    mut options: Options,
    ops: &[Op<'a>],
    w: &mut Writer<'_, S>,
) {
    let found = ops.iter().find(|op| op.status() == Status::OK);
    if found.is_none()
        && let Some(bad) = ops.iter().find(|op| !op.status().is_answer())
    {
        return cx.failed(w, bad);
    }
    let mut elements: Vec<Vec<u8>> = Vec::new();
    if let Some(op) = found {
        note((cx.resp, cx.worker.id), op);
        elements.extend(op.elements().iter().map(|e| e.as_bytes().to_vec()));
    }
    let kind = found.and_then(Op::struct_op);
    if options.keeps_order() {
        if kind == Some(StructOp::SET_MEMBERS) && options.store.is_some() {
            // What is kept must not depend on the order in which a set happens to lie.
            (options.by, options.alpha) = (None, true);
        } else {
            if kind != Some(StructOp::SET_MEMBERS) && options.descending {
                elements.reverse();
            }
            let window = options.window(elements.len());
            return fetch(cx, options, elements[window].to_vec(), w);
        }
    }
    match options.by.clone() {
        None => {
            let texts = elements.iter().cloned().map(Some).collect();
            order(cx, options, elements, texts, w);
        }
        Some(by) => {
            if elements.is_empty() {
                return finish(cx, options, Vec::new(), w);
            }
            for element in &elements {
                look_up(cx, &by, element);
            }
            cx.next_step(Ticket::Sort(Box::new(Sorting {
                options,
                stage: Stage::Weigh(elements),
            })));
        }
    }
}

/// Queues the read of what a pattern names for an element.
fn look_up(cx: &mut Cx<'_, '_>, pattern: &[u8], element: &[u8]) {
    let op = match sorting::place(pattern, element) {
        // A pattern without a star names nothing.
        None => Op::nop(b""),
        Some(place) => {
            let key = cx.queue.copy(&place.key);
            match place.field {
                None => Op::get(key),
                Some(field) => {
                    let field = Element::bytes(cx.queue.copy(&field));
                    let args = cx.queue.elements([field]);
                    Op::structure(StructOp::HASH_GET, key).args(args)
                }
            }
        }
    };
    cx.queue.op(op);
}

fn order<'a, S: Sink + ?Sized>(
    cx: &mut Cx<'_, 'a>,
    options: Options,
    elements: Vec<Vec<u8>>,
    texts: Vec<Option<Vec<u8>>>,
    w: &mut Writer<'_, S>,
) {
    let mut weighted = Vec::with_capacity(elements.len());
    for (element, text) in elements.into_iter().zip(texts) {
        let weight = match options.alpha {
            true => Weight::Text(text),
            false => match Weight::number(text.as_deref()) {
                Ok(weight) => weight,
                Err(refusal) => return cx.refuse(w, &refusal),
            },
        };
        weighted.push((weight, element));
    }
    sorting::sort(&mut weighted, options.descending);
    let window = options.window(weighted.len());
    let wanted = weighted.drain(window).map(|(_, element)| element).collect();
    fetch(cx, options, wanted, w);
}

fn fetch<'a, S: Sink + ?Sized>(
    cx: &mut Cx<'_, 'a>,
    options: Options,
    elements: Vec<Vec<u8>>,
    w: &mut Writer<'_, S>,
) {
    if options.get.is_empty() || elements.is_empty() {
        let answers = elements.into_iter().map(Some).collect();
        return finish(cx, options, answers, w);
    }
    for element in &elements {
        for pattern in options.get.iter().filter(|p| !is_element(p)) {
            look_up(cx, pattern, element);
        }
    }
    cx.next_step(Ticket::Sort(Box::new(Sorting { options, stage: Stage::Fetch(elements) })));
}

fn finish<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    options: Options,
    answers: Vec<Option<Vec<u8>>>,
    w: &mut Writer<'_, S>,
) {
    let Some(target) = &options.store else {
        w.array(answers.len());
        for answer in answers {
            match answer {
                Some(text) => w.bulk(&text),
                None => w.null(),
            }
        }
        return;
    };
    let target = cx.queue.copy(target);
    let texts: Vec<Element<'_>> = answers
        .iter()
        .map(|a| Element::bytes(cx.queue.copy(a.as_deref().unwrap_or(b""))))
        .collect();
    let args = cx.queue.elements(texts);
    let store = Op::structure(StructOp::LIST_PUSH, target).args(args).with_flags(Flag::REPLACE);
    cx.queue.op(store);
    cx.next_step(Ticket::Sort(Box::new(Sorting { options, stage: Stage::Store })));
}
