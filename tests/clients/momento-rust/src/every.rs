//! Every call of the SDK's cache client that the other claims leave out, and every error that a
//! server of ours answers.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use momento::cache::{
    DecreaseTtlResponse, DictionaryGetFieldResponse, ItemGetTypeResponse, ItemType,
    ListFetchResponse, ListPopBackResponse, SetIfAbsentOrEqualResponse,
    SetIfPresentAndNotEqualResponse, SortedSetElement, SortedSetGetRankResponse,
    SortedSetGetScoreResponse, SortedSetLengthResponse, SortedSetOrder, UpdateTtlResponse,
};
use momento::{CacheClient, MomentoErrorCode, MomentoResult};

use crate::{CACHE, Outcome};

/// Batches, existence, kinds, times to live and the conditions.
pub(crate) async fn scalars(cache: &CacheClient) -> Outcome {
    cache.set_batch(CACHE, vec![("r:b1", "one"), ("r:b2", "two")]).await?;
    let keys = vec!["r:b1", "r:b2"];
    let got: HashMap<String, String> = cache.get_batch(CACHE, keys).await?.try_into()?;
    let got: BTreeMap<_, _> = got.into_iter().collect();
    let wanted = [("r:b1", "one"), ("r:b2", "two")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(got, BTreeMap::from(wanted));
    let there: Vec<bool> = cache.keys_exist(CACHE, vec!["r:b1", "r:none"]).await?.into();
    assert_eq!(there, [true, false]);
    let kind = cache.item_get_type(CACHE, "r:b1").await?;
    assert_eq!(kind, ItemGetTypeResponse::Hit { key_type: ItemType::Scalar });
    assert_eq!(cache.item_get_type(CACHE, "r:none").await?, ItemGetTypeResponse::Miss);
    let minute = Duration::from_secs(60);
    assert_eq!(cache.update_ttl(CACHE, "r:b1", minute).await?, UpdateTtlResponse::Set);
    assert_eq!(cache.update_ttl(CACHE, "r:none", minute).await?, UpdateTtlResponse::Miss);
    let shorter = Duration::from_secs(30);
    assert_eq!(cache.decrease_ttl(CACHE, "r:b1", shorter).await?, DecreaseTtlResponse::Set);
    assert_eq!(cache.decrease_ttl(CACHE, "r:b1", minute).await?, DecreaseTtlResponse::NotSet);
    assert_eq!(cache.decrease_ttl(CACHE, "r:none", minute).await?, DecreaseTtlResponse::Miss);
    let stored = cache.set_if_absent_or_equal(CACHE, "r:e", "a", "x").await?;
    assert_eq!(stored, SetIfAbsentOrEqualResponse::Stored);
    let stored = cache.set_if_absent_or_equal(CACHE, "r:e", "b", "x").await?;
    assert_eq!(stored, SetIfAbsentOrEqualResponse::NotStored);
    let stored = cache.set_if_present_and_not_equal(CACHE, "r:e", "c", "x").await?;
    assert_eq!(stored, SetIfPresentAndNotEqualResponse::Stored);
    let stored = cache.set_if_present_and_not_equal(CACHE, "r:none", "c", "x").await?;
    assert_eq!(stored, SetIfPresentAndNotEqualResponse::NotStored);
    Ok(())
}

/// The calls on dictionaries, lists and sorted sets.
pub(crate) async fn collections(cache: &CacheClient) -> Outcome {
    let pairs = vec![("a", "1"), ("b", "2"), ("c", "3")];
    cache.dictionary_set_fields(CACHE, "r:D", pairs).await?;
    let b: String = cache.dictionary_get_field(CACHE, "r:D", "b").await?.try_into()?;
    assert_eq!(b, "2");
    let none = cache.dictionary_get_field(CACHE, "r:D", "x").await?;
    assert_eq!(none, DictionaryGetFieldResponse::Miss);
    let fields = vec!["a", "c"];
    let got: HashMap<String, String> =
        cache.dictionary_get_fields(CACHE, "r:D", fields).await?.try_into()?;
    assert_eq!(got.len(), 2);
    assert_eq!(u32::try_from(cache.dictionary_length(CACHE, "r:D").await?)?, 3);
    cache.dictionary_remove_field(CACHE, "r:D", "a").await?;
    cache.dictionary_remove_fields(CACHE, "r:D", vec!["b"]).await?;
    assert_eq!(u32::try_from(cache.dictionary_length(CACHE, "r:D").await?)?, 1);

    cache.list_push_front(CACHE, "r:L", "b").await?;
    cache.list_concatenate_front(CACHE, "r:L", vec!["x", "a"]).await?;
    cache.list_concatenate_back(CACHE, "r:L", vec!["c", "x", "d"]).await?;
    assert_eq!(u32::try_from(cache.list_length(CACHE, "r:L").await?)?, 6);
    cache.list_remove_value(CACHE, "r:L", "x").await?;
    let last: String = cache.list_pop_back(CACHE, "r:L").await?.try_into()?;
    let first: String = cache.list_pop_front(CACHE, "r:L").await?.try_into()?;
    assert_eq!((first.as_str(), last.as_str()), ("a", "d"));
    assert_eq!(cache.list_pop_back(CACHE, "r:none").await?, ListPopBackResponse::Miss);
    assert_eq!(u32::try_from(cache.list_retain(CACHE, "r:L", 1, None).await?)?, 1);
    let ListFetchResponse::Hit { values } = cache.list_fetch(CACHE, "r:L").await? else {
        panic!("it is there");
    };
    let words: Vec<String> = values.try_into()?;
    assert_eq!(words, ["c"]);

    let scored = vec![("a", 1.0), ("b", 2.0), ("c", 3.0)];
    cache.sorted_set_put_elements(CACHE, "r:Z", scored).await?;
    let up = SortedSetOrder::Ascending;
    let ranked: Vec<(String, f64)> =
        cache.sorted_set_fetch_by_rank(CACHE, "r:Z", up, Some(1), None).await?.try_into()?;
    assert_eq!(ranked, [("b".to_owned(), 2.0), ("c".to_owned(), 3.0)]);
    let down = SortedSetOrder::Descending;
    let all: Vec<(String, f64)> =
        cache.sorted_set_fetch_by_score(CACHE, "r:Z", down).await?.try_into()?;
    assert_eq!(all.first(), Some(&("c".to_owned(), 3.0)));
    let rank = cache.sorted_set_get_rank(CACHE, "r:Z", "c").await?;
    assert_eq!(rank, SortedSetGetRankResponse::Hit { rank: 2 });
    let score = cache.sorted_set_get_score(CACHE, "r:Z", "b").await?;
    assert_eq!(score, SortedSetGetScoreResponse::Hit { score: 2.0 });
    let score = cache.sorted_set_get_score(CACHE, "r:Z", "x").await?;
    assert_eq!(score, SortedSetGetScoreResponse::Miss);
    let scores: Vec<SortedSetElement<String>> =
        cache.sorted_set_get_scores(CACHE, "r:Z", vec!["a", "x", "c"]).await?.try_into()?;
    assert_eq!(scores.iter().map(|e| e.score).collect::<Vec<_>>(), [1.0, 3.0]);
    assert_eq!(u32::try_from(cache.sorted_set_length_by_score(CACHE, "r:Z").await?)?, 3);
    let stored = cache.sorted_set_union_store(CACHE, "r:U", vec![("r:Z", 2.0)]).await?;
    assert_eq!(stored.length, 3);
    cache.sorted_set_remove_elements(CACHE, "r:Z", vec!["a", "b"]).await?;
    let left = cache.sorted_set_length(CACHE, "r:Z").await?;
    assert_eq!(left, SortedSetLengthResponse::Hit { length: 1 });
    fails_with(cache.get(CACHE, "r:Z").await, MomentoErrorCode::FailedPreconditionError);
    fails_with(cache.list_length(CACHE, "r:Z").await, MomentoErrorCode::FailedPreconditionError);
    Ok(())
}

fn fails_with<T: std::fmt::Debug>(result: MomentoResult<T>, code: MomentoErrorCode) {
    let error = result.expect_err("the call is refused");
    assert_eq!(error.error_code, code, "{error}");
}

/// Each error that a call may meet.
pub(crate) async fn errors(cache: &CacheClient) -> Outcome {
    use MomentoErrorCode as Code;
    fails_with(cache.get("r-nowhere", "k").await, Code::CacheNotFoundError);
    fails_with(cache.delete_cache("r-nowhere").await, Code::CacheNotFoundError);
    fails_with(cache.flush_cache("r-nowhere").await, Code::CacheNotFoundError);
    fails_with(cache.get(CACHE, "").await, Code::InvalidArgumentError);
    fails_with(cache.get(CACHE, "k".repeat(70_000)).await, Code::InvalidArgumentError);
    cache.set(CACHE, "r:word", "word").await?;
    fails_with(cache.increment(CACHE, "r:word", 1).await, Code::FailedPreconditionError);
    cache.set(CACHE, "r:most", i64::MAX.to_string()).await?;
    fails_with(cache.increment(CACHE, "r:most", 1).await, Code::FailedPreconditionError);
    fails_with(cache.set(CACHE, "r:huge", vec![0u8; 6 << 20]).await, Code::LimitExceededError);
    cache.get(CACHE, "r:word").await?;
    Ok(())
}

/// On a backend without structures, every call on them says so.
pub(crate) async fn no_collections(cache: &CacheClient) -> Outcome {
    let code = |result: Result<(), momento::MomentoError>| {
        let error = result.expect_err("not served");
        assert!(format!("{error:?}").contains("data structures"), "{error:?}");
    };
    code(cache.dictionary_length(CACHE, "d").await.map(drop));
    code(cache.set_fetch(CACHE, "s").await.map(drop));
    code(cache.list_length(CACHE, "l").await.map(drop));
    code(cache.sorted_set_length(CACHE, "z").await.map(drop));
    Ok(())
}
