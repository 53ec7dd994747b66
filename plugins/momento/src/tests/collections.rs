//! Dictionaries, sets, lists and sorted sets over gRPC, on a backend that has structures.

use bytes::Bytes;
use prost::Message;

use super::client::{Client, Outcome};
use super::connect;
use crate::collections::proto as c;
use crate::proto::{CacheResult, Empty, KeyRequest};

const CACHE: &str = "default-cache";
const TTL_MS: u64 = 60_000;
const FAILED_PRECONDITION: &str = "9";

/// A response that is found (the inner message) or missing.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(bytes = "bytes", optional, tag = "1")]
    found: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    missing: Option<Bytes>,
}

fn found<M: Message + Default>(outcome: &Outcome) -> Option<M> {
    let answer: Answer = outcome.message();
    assert!(answer.found.is_some() != answer.missing.is_some(), "one of both: {answer:?}");
    answer.found.map(|inner| M::decode(inner).unwrap())
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn texts(words: &[&'static str]) -> Vec<Bytes> {
    words.iter().map(|word| text(word)).collect()
}

fn named(name: &'static str) -> KeyRequest {
    KeyRequest { cache_key: text(name) }
}

fn words(name: &'static str, words: &[&'static str]) -> c::Words {
    c::Words { name: text(name), words: texts(words) }
}

fn add(name: &'static str, words: &[&'static str], refresh_ttl: bool) -> c::Add {
    let words = texts(words);
    c::Add { name: text(name), words, ttl_milliseconds: TTL_MS, refresh_ttl, truncate_to_size: 0 }
}

fn sorted(mut words: Vec<Bytes>) -> Vec<Bytes> {
    words.sort();
    words
}

fn length(client: &mut Client<'_>, method: &str, name: &'static str) -> Option<u32> {
    found::<c::Length>(&client.call(CACHE, method, &named(name))).map(|l| l.length)
}

#[test]
fn dictionaries_are_set_read_counted_and_deleted() {
    let (_host, conn) = connect("");
    let mut client = Client::new(&conn);
    assert_eq!(length(&mut client, "DictionaryLength", "d"), None);
    let pair = |field, value| c::Pair { field: text(field), value: text(value) };
    let set = c::DictionarySet {
        name: text("d"),
        items: vec![pair("a", "1"), pair("b", "two"), pair("e", "")],
        ttl_milliseconds: TTL_MS,
        refresh_ttl: false,
    };
    let _: Empty = client.call(CACHE, "DictionarySet", &set).message();
    assert_eq!(length(&mut client, "DictionaryLength", "d"), Some(3));
    let get = client.call(CACHE, "DictionaryGet", &words("d", &["b", "x", "e"]));
    let parts = found::<c::ValueParts>(&get).unwrap().items;
    let of = |part: &c::ValuePart| (part.result == CacheResult::Hit as i32, part.body.clone());
    let parts: Vec<_> = parts.iter().map(of).collect();
    assert_eq!(parts, [(true, text("two")), (false, text("")), (true, text(""))]);
    let all = client.call(CACHE, "DictionaryFetch", &named("d"));
    let mut all = found::<c::Pairs>(&all).unwrap().items;
    all.sort_by(|a, b| a.field.cmp(&b.field));
    assert_eq!(all, [pair("a", "1"), pair("b", "two"), pair("e", "")]);
    let more = |field, amount| c::DictionaryIncrement {
        name: text("d"),
        field: text(field),
        amount,
        ttl_milliseconds: TTL_MS,
        refresh_ttl: false,
    };
    let sum: c::Number = client.call(CACHE, "DictionaryIncrement", &more("a", 41)).message();
    assert_eq!(sum.value, 42);
    let bad = client.call(CACHE, "DictionaryIncrement", &more("b", 1));
    assert_eq!(bad.status, FAILED_PRECONDITION);
    let some = Some(c::List { words: texts(&["a", "x"]) });
    let delete = c::DictionaryDelete { name: text("d"), some, all: None };
    let _: Empty = client.call(CACHE, "DictionaryDelete", &delete).message();
    assert_eq!(length(&mut client, "DictionaryLength", "d"), Some(2));
    let all = c::DictionaryDelete { name: text("d"), some: None, all: Some(Empty {}) };
    let _: Empty = client.call(CACHE, "DictionaryDelete", &all).message();
    assert_eq!(length(&mut client, "DictionaryLength", "d"), None);
    assert!(found::<c::Pairs>(&client.call(CACHE, "DictionaryFetch", &named("d"))).is_none());
}

#[test]
fn sets_grow_shrink_and_are_sampled() {
    let (_host, conn) = connect("");
    let mut client = Client::new(&conn);
    let fetch = |client: &mut Client<'_>| {
        found::<c::List>(&client.call(CACHE, "SetFetch", &named("s"))).map(|l| sorted(l.words))
    };
    assert_eq!(fetch(&mut client), None);
    let _: Empty = client.call(CACHE, "SetUnion", &add("s", &["a", "b", "c"], false)).message();
    assert_eq!(fetch(&mut client), Some(texts(&["a", "b", "c"])));
    let has = client.call(CACHE, "SetContains", &words("s", &["a", "x", "c"]));
    assert_eq!(found::<c::Contains>(&has).unwrap().contains, [true, false, true]);
    assert!(
        found::<c::Contains>(&client.call(CACHE, "SetContains", &words("no", &["a"]))).is_none()
    );
    let some = |count| c::Some { name: text("s"), count };
    let sample = found::<c::List>(&client.call(CACHE, "SetSample", &some(2))).unwrap();
    assert_eq!(sample.words.len(), 2);
    let set = Some(c::List { words: texts(&["a", "x"]) });
    let difference = |subtrahend| c::SetDifference {
        name: text("s"),
        minuend: None,
        subtrahend: Some(subtrahend),
    };
    let minus = difference(c::Subtrahend { set, identity: None });
    assert!(found::<Empty>(&client.call(CACHE, "SetDifference", &minus)).is_some());
    assert_eq!(fetch(&mut client), Some(texts(&["b", "c"])));
    let popped = found::<c::List>(&client.call(CACHE, "SetPop", &some(1))).unwrap();
    assert_eq!(popped.words.len(), 1);
    assert_eq!(length(&mut client, "SetLength", "s"), Some(1));
    let all = difference(c::Subtrahend { set: None, identity: Some(Empty {}) });
    assert!(found::<Empty>(&client.call(CACHE, "SetDifference", &all)).is_some());
    assert!(found::<Empty>(&client.call(CACHE, "SetDifference", &all)).is_none());
    assert_eq!(fetch(&mut client), None);
}

#[test]
fn a_set_may_be_taken_from_what_the_call_brings() {
    let (_host, conn) = connect("");
    let mut client = Client::new(&conn);
    let fetch = |client: &mut Client<'_>| {
        found::<c::List>(&client.call(CACHE, "SetFetch", &named("m"))).map(|l| sorted(l.words))
    };
    let minus = |words: &[&'static str]| c::SetDifference {
        name: text("m"),
        minuend: Some(c::List { words: texts(words) }),
        subtrahend: None,
    };
    assert!(found::<Empty>(&client.call(CACHE, "SetDifference", &minus(&["a"]))).is_none());
    assert_eq!(fetch(&mut client), None, "there was no set, and none is made");
    let _: Empty = client.call(CACHE, "SetUnion", &add("m", &["a", "b"], false)).message();
    let left = client.call(CACHE, "SetDifference", &minus(&["b", "c", "d", "c"]));
    assert!(found::<Empty>(&left).is_some());
    assert_eq!(fetch(&mut client), Some(texts(&["c", "d"])));
    assert!(found::<Empty>(&client.call(CACHE, "SetDifference", &minus(&[]))).is_some());
    assert_eq!(fetch(&mut client), None, "nothing without the set is nothing");
    let neither = c::SetDifference { name: text("m"), minuend: None, subtrahend: None };
    assert_eq!(client.call(CACHE, "SetDifference", &neither).status, "3");
}

#[test]
fn lists_take_and_give_at_both_ends() {
    let (_host, conn) = connect("");
    let mut client = Client::new(&conn);
    let fetch = |client: &mut Client<'_>, start, end| {
        let range = c::ListRange {
            name: text("l"),
            inclusive_start: start,
            exclusive_end: end,
            ttl_milliseconds: 0,
            refresh_ttl: false,
        };
        found::<c::List>(&client.call(CACHE, "ListFetch", &range)).map(|l| l.words)
    };
    let push = |client: &mut Client<'_>, method: &str, words: &[&'static str], size| {
        let push = c::Add { truncate_to_size: size, ..add("l", words, false) };
        client.call(CACHE, method, &push).message::<c::Length>().length
    };
    assert_eq!(fetch(&mut client, None, None), None);
    assert_eq!(push(&mut client, "ListPushBack", &["b"], 0), 1);
    assert_eq!(push(&mut client, "ListPushFront", &["a"], 0), 2);
    assert_eq!(push(&mut client, "ListPushBack", &[], 0), 3, "an empty value is a value");
    assert_eq!(push(&mut client, "ListConcatenateBack", &["c", "d"], 0), 5);
    assert_eq!(push(&mut client, "ListConcatenateFront", &["y", "z"], 0), 7);
    let all = ["y", "z", "a", "b", "", "c", "d"];
    assert_eq!(fetch(&mut client, None, None), Some(texts(&all)));
    assert_eq!(fetch(&mut client, Some(1), Some(3)), Some(texts(&all[1..3])));
    assert_eq!(fetch(&mut client, Some(-2), None), Some(texts(&all[5..])));
    assert_eq!(fetch(&mut client, None, Some(-5)), Some(texts(&all[..2])));
    assert_eq!(push(&mut client, "ListPushBack", &["e"], 4), 4);
    assert_eq!(fetch(&mut client, None, None), Some(texts(&["", "c", "d", "e"])));
    let popped = found::<c::Popped>(&client.call(CACHE, "ListPopFront", &named("l"))).unwrap();
    assert_eq!((popped.value, popped.list_length), (text(""), 3));
    let popped = found::<c::Popped>(&client.call(CACHE, "ListPopBack", &named("l"))).unwrap();
    assert_eq!((popped.value, popped.list_length), (text("e"), 2));
    push(&mut client, "ListConcatenateBack", &["c", "x", "y", "z"], 0);
    let remove = client.call(CACHE, "ListRemove", &words("l", &["c"]));
    assert_eq!(found::<c::Length>(&remove).unwrap().length, 4);
    let range = |begin_index, count| c::Range { begin_index, count };
    let erase = c::ListErase {
        name: text("l"),
        some: Some(c::Ranges { ranges: vec![range(3, 9), range(0, 1)] }),
        all: None,
    };
    let left = client.call(CACHE, "ListErase", &erase);
    assert_eq!(found::<c::Length>(&left).unwrap().length, 2);
    assert_eq!(fetch(&mut client, None, None), Some(texts(&["x", "y"])));
    let retain = c::ListRange {
        name: text("l"),
        inclusive_start: Some(1),
        exclusive_end: None,
        ttl_milliseconds: TTL_MS,
        refresh_ttl: true,
    };
    let kept = client.call(CACHE, "ListRetain", &retain);
    assert_eq!(found::<c::Length>(&kept).unwrap().length, 1);
    assert_eq!(length(&mut client, "ListLength", "l"), Some(1));
    let all = c::ListErase { name: text("l"), some: None, all: Some(Empty {}) };
    assert_eq!(found::<c::Length>(&client.call(CACHE, "ListErase", &all)).unwrap().length, 0);
    assert_eq!(length(&mut client, "ListLength", "l"), None);
    assert!(found::<c::Popped>(&client.call(CACHE, "ListPopBack", &named("l"))).is_none());
}

fn put(client: &mut Client<'_>, name: &'static str, elements: &[(&'static str, f64)]) {
    let scored =
        |(value, score): &(&'static str, f64)| c::Scored { value: text(value), score: *score };
    let put = c::SortedSetPut {
        name: text(name),
        elements: elements.iter().map(scored).collect(),
        ttl_milliseconds: TTL_MS,
        refresh_ttl: false,
    };
    let _: Empty = client.call(CACHE, "SortedSetPut", &put).message();
}

fn fetch(
    client: &mut Client<'_>,
    name: &'static str,
    order: i32,
    range: c::FetchRange,
) -> Option<Vec<(String, f64)>> {
    let ask = |with_scores| c::SortedSetFetch {
        name: text(name),
        order,
        with_scores,
        range: Some(range),
    };
    let scored = found::<c::Fetched>(&client.call(CACHE, "SortedSetFetch", &ask(true)))?;
    let plain = found::<c::Fetched>(&client.call(CACHE, "SortedSetFetch", &ask(false))).unwrap();
    let scored = scored.scored.unwrap().elements;
    let values: Vec<Bytes> = scored.iter().map(|e| e.value.clone()).collect();
    assert_eq!(plain.values.unwrap().words, values, "with and without scores");
    let show = |e: c::Scored| (String::from_utf8(e.value.to_vec()).unwrap(), e.score);
    Some(scored.into_iter().map(show).collect())
}

const ALL: c::FetchRange =
    c::FetchRange::ByIndex(c::ByIndex { inclusive_start: None, exclusive_end: None });

#[test]
fn sorted_sets_are_fetched_by_index_and_by_score() {
    let (_host, conn) = connect("");
    let mut client = Client::new(&conn);
    assert_eq!(fetch(&mut client, "z", 0, ALL), None);
    put(&mut client, "z", &[("a", 1.0), ("b", 2.5), ("c", 3.0), ("d", 4.0)]);
    let names = |got: Option<Vec<(String, f64)>>| -> String {
        got.unwrap().into_iter().map(|(name, _)| name).collect()
    };
    let index = |inclusive_start, exclusive_end| {
        c::FetchRange::ByIndex(c::ByIndex { inclusive_start, exclusive_end })
    };
    assert_eq!(fetch(&mut client, "z", 0, index(Some(1), Some(2))), Some(vec![("b".into(), 2.5)]));
    assert_eq!(names(fetch(&mut client, "z", c::DESCENDING, ALL)), "dcba");
    assert_eq!(names(fetch(&mut client, "z", c::DESCENDING, index(Some(0), Some(2)))), "dc");
    assert_eq!(names(fetch(&mut client, "z", 0, index(None, Some(-1)))), "abc");
    assert_eq!(names(fetch(&mut client, "z", 0, index(None, Some(0)))), "");
    let score = |min: Option<(f64, bool)>, max: Option<(f64, bool)>, offset, count| {
        let bound = |(score, exclusive)| c::Score { score, exclusive };
        let (min, max) = (min.map(bound), max.map(bound));
        c::FetchRange::ByScore(c::ByScore { min, max, offset, count })
    };
    let range = score(Some((1.0, true)), Some((4.0, false)), 0, -1);
    assert_eq!(names(fetch(&mut client, "z", 0, range)), "bcd");
    assert_eq!(names(fetch(&mut client, "z", c::DESCENDING, range)), "dcb");
    assert_eq!(names(fetch(&mut client, "z", 0, score(None, None, 1, 2))), "bc");
}

#[test]
fn sorted_sets_know_scores_ranks_and_unions() {
    let (_host, conn) = connect("");
    let mut client = Client::new(&conn);
    put(&mut client, "z", &[("a", 1.0), ("b", 2.0), ("c", 3.0)]);
    let scores = client.call(CACHE, "SortedSetGetScore", &words("z", &["b", "x"]));
    let of = |part: c::ScorePart| (part.result == CacheResult::Hit as i32, part.score);
    let scores = found::<c::ScoreParts>(&scores).unwrap().elements;
    assert_eq!(scores.into_iter().map(of).collect::<Vec<_>>(), [(true, 2.0), (false, 0.0)]);
    let rank = |client: &mut Client<'_>, value: &'static str, order| {
        let ask = c::SortedSetGetRank { name: text("z"), value: text(value), order };
        let part = found::<c::Rank>(&client.call(CACHE, "SortedSetGetRank", &ask)).unwrap();
        (part.result == CacheResult::Hit as i32).then_some(part.rank)
    };
    assert_eq!(rank(&mut client, "a", 0), Some(0));
    assert_eq!(rank(&mut client, "a", c::DESCENDING), Some(2));
    assert_eq!(rank(&mut client, "x", 0), None);
    let more = c::SortedSetIncrement {
        name: text("z"),
        value: text("a"),
        amount: 1.5,
        ttl_milliseconds: TTL_MS,
        refresh_ttl: true,
    };
    let new: c::NewScore = client.call(CACHE, "SortedSetIncrement", &more).message();
    assert_eq!(new.score, 2.5);
    let within = c::LengthByScore {
        name: text("z"),
        inclusive_min: None,
        exclusive_min: Some(2.0),
        inclusive_max: Some(3.0),
        exclusive_max: None,
    };
    let counted = client.call(CACHE, "SortedSetLengthByScore", &within);
    assert_eq!(found::<c::Length>(&counted).unwrap().length, 2);
    put(&mut client, "y", &[("c", 10.0), ("q", 1.0)]);
    let source = |name, weight| c::Source { name: text(name), weight };
    let union = c::UnionStore {
        name: text("u"),
        sources: vec![source("z", 2.0), source("y", 1.0)],
        aggregate: 0,
        ttl_milliseconds: TTL_MS,
    };
    let stored: c::Length = client.call(CACHE, "SortedSetUnionStore", &union).message();
    assert_eq!(stored.length, 4);
    let wanted = [("q", 1.0), ("b", 4.0), ("a", 5.0), ("c", 16.0)];
    let wanted = wanted.map(|(name, score)| (name.to_owned(), score)).to_vec();
    assert_eq!(fetch(&mut client, "u", 0, ALL), Some(wanted));
    let some = Some(c::List { words: texts(&["a", "x"]) });
    let remove = c::SortedSetRemove { name: text("z"), all: None, some };
    let _: Empty = client.call(CACHE, "SortedSetRemove", &remove).message();
    assert_eq!(length(&mut client, "SortedSetLength", "z"), Some(2));
    let all = c::SortedSetRemove { name: text("z"), all: Some(Empty {}), some: None };
    let _: Empty = client.call(CACHE, "SortedSetRemove", &all).message();
    assert_eq!(length(&mut client, "SortedSetLength", "z"), None);
}

#[test]
fn a_collection_lives_as_long_as_it_was_told_and_is_refreshed_when_asked() {
    let (host, conn) = connect("");
    let mut client = Client::new(&conn);
    for name in ["kept", "refreshed"] {
        let _: Empty = client.call(CACHE, "SetUnion", &add(name, &["a"], false)).message();
    }
    host.advance_ms(TTL_MS / 2);
    let _: Empty = client.call(CACHE, "SetUnion", &add("kept", &["b"], false)).message();
    let _: Empty = client.call(CACHE, "SetUnion", &add("refreshed", &["b"], true)).message();
    host.advance_ms(TTL_MS / 2);
    assert_eq!(length(&mut client, "SetLength", "kept"), None);
    assert_eq!(length(&mut client, "SetLength", "refreshed"), Some(2));
    host.advance_ms(TTL_MS / 2);
    assert_eq!(length(&mut client, "SetLength", "refreshed"), None);
}

#[test]
fn a_call_of_another_kind_is_refused_and_changes_nothing() {
    let (_host, conn) = connect("");
    let mut client = Client::new(&conn);
    let _: Empty = client.call(CACHE, "SetUnion", &add("k", &["a"], false)).message();
    let all = c::DictionaryDelete { name: text("k"), some: None, all: Some(Empty {}) };
    for (method, outcome) in [
        ("DictionaryFetch", client.call(CACHE, "DictionaryFetch", &named("k"))),
        ("DictionaryDelete", client.call(CACHE, "DictionaryDelete", &all)),
        ("ListPopFront", client.call(CACHE, "ListPopFront", &named("k"))),
        ("SortedSetLength", client.call(CACHE, "SortedSetLength", &named("k"))),
        ("Get", client.call(CACHE, "Get", &named("k"))),
    ] {
        assert_eq!(outcome.status, FAILED_PRECONDITION, "{method}: {outcome:?}");
    }
    assert_eq!(length(&mut client, "SetLength", "k"), Some(1));
    let nothing = c::Words { name: text("k"), words: Vec::new() };
    assert_eq!(client.call(CACHE, "SetContains", &nothing).status, "3");
    assert_eq!(client.call(CACHE, "SetLength", &named("")).status, "3");
}
