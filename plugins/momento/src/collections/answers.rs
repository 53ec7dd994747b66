//! From the results of a call's operations to its response message.

use bytes::{Bytes, BytesMut};
use crucible_plugin_api::{Element, Op, Status, StructFlags as Flag};

use super::{Collection, Collection as C, proto};
use crate::caches::Counters;
use crate::proto::{CacheResult, Empty};
use crate::rpc::encode;
use crate::status::{Failure, code};

/// Reads the results of a call's operations into its response message.
pub(crate) fn finish(
    what: Collection,
    counters: Counters,
    ops: &[Op<'_>],
    count: &mut dyn FnMut(&Counters, bool),
) -> Result<BytesMut, Failure> {
    if let Some(bad) = ops.iter().find(|op| !op.status().is_answer()) {
        return Err(Failure::of(bad.status()));
    }
    let op =
        ops.first().ok_or_else(|| Failure::new(code::INTERNAL, "a call without operations"))?;
    let there = op.status() == Status::OK;
    if what.reads() {
        count(&counters, there);
    }
    let length = |op: Option<&Op<'_>>| {
        let number = op.map_or(0, Op::number);
        proto::Length { length: u32::try_from(number.max(0)).unwrap_or(u32::MAX) }
    };
    // Calls that answer the same whether the collection was there or not.
    match what {
        C::DictionarySet
        | C::DictionaryDelete
        | C::SetUnion
        | C::SortedSetPut
        | C::SortedSetRemove => return Ok(encode(&Empty {})),
        C::DictionaryIncrement => return Ok(encode(&proto::Number { value: op.number() })),
        C::SortedSetIncrement => {
            let score = op.elements().first().and_then(|e| e.as_double()).unwrap_or_default();
            return Ok(encode(&proto::NewScore { score }));
        }
        C::ListPushFront
        | C::ListPushBack
        | C::ListConcatenateFront
        | C::ListConcatenateBack
        | C::SortedSetUnionStore => return Ok(encode(&length(Some(op)))),
        // A member that is not there is a part that missed: SDKs read no more than that.
        C::SortedSetGetRank if !there => {
            return Ok(proto::found(&proto::Rank { result: hit(false), rank: 0 }));
        }
        _ if !there => return Ok(proto::missing()),
        _ => {}
    }
    let list = || proto::List { words: op.elements().iter().map(bytes_of).collect() };
    Ok(match what {
        C::DictionaryGet => proto::found(&value_parts(op)),
        C::DictionaryFetch => {
            let pair = |pair: &[Element<'_>]| proto::Pair {
                field: bytes_of(&pair[0]),
                value: bytes_of(&pair[1]),
            };
            proto::found(&proto::Pairs { items: op.elements().chunks_exact(2).map(pair).collect() })
        }
        C::SetContains => {
            let contains = op.elements().iter().map(|e| e.as_int() == Some(1)).collect();
            proto::found(&proto::Contains { contains })
        }
        C::SetDifference => proto::found(&Empty {}),
        C::ListPopFront | C::ListPopBack => proto::found(&proto::Popped {
            value: op.elements().first().map(bytes_of).unwrap_or_default(),
            list_length: length(ops.get(1)).length,
        }),
        // Erased as a whole: the second operation emptied it.
        C::ListErase if ops.len() == 2 => proto::found(&length(None)),
        C::ListRemove | C::ListRetain => proto::found(&length(ops.get(1))),
        C::SortedSetGetScore => {
            let part = |e: &Element<'_>| proto::ScorePart {
                result: hit(e.as_double().is_some()),
                score: e.as_double().unwrap_or_default(),
            };
            proto::found(&proto::ScoreParts { elements: op.elements().iter().map(part).collect() })
        }
        C::SortedSetGetRank => {
            let rank = u64::try_from(op.number()).unwrap_or_default();
            proto::found(&proto::Rank { result: hit(true), rank })
        }
        C::SortedSetFetch => proto::found(&fetched(op)),
        C::SetFetch | C::SetSample | C::SetPop | C::ListFetch => proto::found(&list()),
        _ => proto::found(&length(Some(op))),
    })
}

fn bytes_of(element: &Element<'_>) -> Bytes {
    Bytes::copy_from_slice(element.as_bytes())
}

fn hit(there: bool) -> i32 {
    (if there { CacheResult::Hit } else { CacheResult::Miss }) as i32
}

fn value_parts(op: &Op<'_>) -> proto::ValueParts {
    let part = |e: &Element<'_>| proto::ValuePart { result: hit(!e.is_nil()), body: bytes_of(e) };
    proto::ValueParts { items: op.elements().iter().map(part).collect() }
}

fn fetched(op: &Op<'_>) -> proto::Fetched {
    let with_scores = op.struct_call().is_some_and(|call| call.has(Flag::WITH_SCORES));
    if !with_scores {
        let values = Some(proto::List { words: op.elements().iter().map(bytes_of).collect() });
        return proto::Fetched { scored: None, values };
    }
    let scored = |pair: &[Element<'_>]| proto::Scored {
        value: bytes_of(&pair[0]),
        score: pair[1].as_double().unwrap_or_default(),
    };
    let elements = op.elements().chunks_exact(2).map(scored).collect();
    proto::Fetched { scored: Some(proto::ScoredList { elements }), values: None }
}
