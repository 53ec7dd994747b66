//! Calls over gRPC: what each answers, and that they share a connection well.

use bytes::Bytes;
use crucible_plugin_testkit::{ModelBackend, TestHost};

use super::client::Client;
use super::connect;
use crate::proto::{self, CacheResult, Empty, ToCheck};

const CACHE: &str = "default-cache";

fn key(key: &[u8]) -> proto::KeyRequest {
    proto::KeyRequest { cache_key: Bytes::copy_from_slice(key) }
}

fn set(key: &[u8], value: &[u8]) -> proto::SetRequest {
    proto::SetRequest {
        cache_key: Bytes::copy_from_slice(key),
        cache_body: Bytes::copy_from_slice(value),
        ttl_milliseconds: 60_000,
    }
}

fn get(client: &mut Client<'_>, cache: &str, name: &[u8]) -> Option<Bytes> {
    let answer: proto::GetResponse = client.call(cache, "Get", &key(name)).message();
    match answer.result {
        r if r == CacheResult::Hit as i32 => Some(answer.cache_body),
        r if r == CacheResult::Miss as i32 => None,
        r => panic!("result {r}"),
    }
}

#[test]
fn a_value_that_was_set_is_got_until_it_is_deleted_or_expires() {
    let (host, conn) = connect("");
    let mut client = Client::new(&conn);
    assert_eq!(get(&mut client, CACHE, b"k"), None);
    let done: proto::SetResponse = client.call(CACHE, "Set", &set(b"k", b"v")).message();
    assert_eq!(done.result, CacheResult::Ok as i32);
    assert_eq!(get(&mut client, CACHE, b"k").as_deref(), Some(&b"v"[..]));
    let _: Empty = client.call(CACHE, "Delete", &key(b"k")).message();
    assert_eq!(get(&mut client, CACHE, b"k"), None);
    let _: proto::SetResponse = client.call(CACHE, "Set", &set(b"k", b"w")).message();
    host.advance_ms(59_999);
    assert!(get(&mut client, CACHE, b"k").is_some());
    host.advance_ms(1);
    assert_eq!(get(&mut client, CACHE, b"k"), None);
    drop(client);
    conn.close();
    host.finish();
}

#[test]
fn empty_and_large_values_come_back_whole() {
    let (_host, conn) = connect("");
    let mut client = Client::new(&conn);
    for len in [0usize, 1, 16_384, 70_000, 3_000_000] {
        let value: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let _: proto::SetResponse = client.call(CACHE, "Set", &set(b"k", &value)).message();
        assert_eq!(get(&mut client, CACHE, b"k").as_deref(), Some(&value[..]), "{len} bytes");
    }
}

#[test]
fn every_condition_of_set_if_holds_or_refuses() {
    use proto::set_if::Condition as If;
    let (_host, conn) = connect("");
    let mut client = Client::new(&conn);
    let check = |bytes: &'static [u8]| ToCheck { to_check: Bytes::from_static(bytes) };
    // Condition, stored when absent, when the value is "a", when it is "b".
    let table: [(If, [bool; 3]); 6] = [
        (If::Present(Empty {}), [false, true, true]),
        (If::Absent(Empty {}), [true, false, false]),
        (If::Equal(check(b"a")), [false, true, false]),
        (If::NotEqual(check(b"a")), [true, false, true]),
        (If::PresentAndNotEqual(check(b"a")), [false, false, true]),
        (If::AbsentOrEqual(check(b"a")), [true, true, false]),
    ];
    for (condition, stored) in table {
        for (present, stored) in [None, Some(&b"a"[..]), Some(b"b")].into_iter().zip(stored) {
            let _: Empty = client.call(CACHE, "Delete", &key(b"k")).message();
            if let Some(value) = present {
                let _: proto::SetResponse = client.call(CACHE, "Set", &set(b"k", value)).message();
            }
            let request = proto::SetIfRequest {
                cache_key: Bytes::from_static(b"k"),
                cache_body: Bytes::from_static(b"new"),
                ttl_milliseconds: 1000,
                condition: Some(condition.clone()),
            };
            let answer: proto::StoredResponse = client.call(CACHE, "SetIf", &request).message();
            let was = matches!(answer.result, Some(proto::stored::Result::Stored(_)));
            assert_eq!(was, stored, "{condition:?} on {present:?}");
            let left = get(&mut client, CACHE, b"k");
            let expected = if stored { Some(&b"new"[..]) } else { present };
            assert_eq!(left.as_deref(), expected, "{condition:?} on {present:?}");
        }
    }
}

#[test]
fn hashes_make_a_compare_and_set() {
    use proto::set_if_hash::Condition as If;
    let (_host, conn) = connect("");
    let mut client = Client::new(&conn);
    let _: proto::SetResponse = client.call(CACHE, "Set", &set(b"k", b"one")).message();
    let found: proto::GetWithHashResponse = client.call(CACHE, "GetWithHash", &key(b"k")).message();
    let Some(proto::get_with_hash::Result::Found(found)) = found.result else { panic!("missing") };
    let mut attempt = |hash: Bytes| -> Option<Bytes> {
        let request = proto::SetIfHashRequest {
            cache_key: Bytes::from_static(b"k"),
            cache_body: Bytes::from_static(b"two"),
            ttl_milliseconds: 1000,
            condition: Some(If::PresentAndHashEqual(ToCheck { to_check: hash })),
        };
        let answer: proto::SetIfHashResponse = client.call(CACHE, "SetIfHash", &request).message();
        match answer.result {
            Some(proto::stored_hash::Result::Stored(stored)) => Some(stored.new_hash),
            _ => None,
        }
    };
    let new_hash = attempt(found.hash.clone()).expect("the hash matches once");
    assert_ne!(new_hash, found.hash);
    assert_eq!(attempt(found.hash), None, "and not twice");
    assert_eq!(attempt(new_hash.clone()), Some(new_hash));
}

#[test]
fn counters_count_and_refuse_words_and_overflow() {
    let (_host, conn) = connect("");
    let mut client = Client::new(&conn);
    let mut add = |amount| {
        let request = proto::IncrementRequest {
            cache_key: Bytes::from_static(b"n"),
            amount,
            ttl_milliseconds: 1000,
        };
        client.call(CACHE, "Increment", &request)
    };
    assert_eq!(add(-3).message::<proto::IncrementResponse>().value, -3);
    assert_eq!(add(i64::MAX).message::<proto::IncrementResponse>().value, i64::MAX - 3);
    assert_eq!(add(4).status, "9");
    let _: proto::SetResponse = client.call(CACHE, "Set", &set(b"n", b"word")).message();
    let request = proto::IncrementRequest {
        cache_key: Bytes::from_static(b"n"),
        amount: 1,
        ttl_milliseconds: 1000,
    };
    assert_eq!(client.call(CACHE, "Increment", &request).status, "9");
}

#[test]
fn ttls_are_told_raised_and_lowered() {
    use proto::ttl_updated::Result as Ttl;
    use proto::update_ttl::UpdateTtl;
    let (host, conn) = connect("");
    let mut client = Client::new(&conn);
    let update = |client: &mut Client<'_>, update_ttl| {
        let request = proto::UpdateTtlRequest {
            cache_key: Bytes::from_static(b"k"),
            update_ttl: Some(update_ttl),
        };
        client.call(CACHE, "UpdateTtl", &request).message::<proto::UpdateTtlResponse>().result
    };
    assert_eq!(update(&mut client, UpdateTtl::Overwrite(9)), Some(Ttl::Missing(Empty {})));
    let _: proto::SetResponse = client.call(CACHE, "Set", &set(b"k", b"v")).message();
    host.advance_ms(10_000);
    let left: proto::ItemResponse = client.call(CACHE, "ItemGetTtl", &key(b"k")).message();
    let found = proto::item::Found { number: 50_000 };
    assert_eq!(left.result, Some(proto::item::Result::Found(found)));
    assert_eq!(update(&mut client, UpdateTtl::Increase(40_000)), Some(Ttl::NotSet(Empty {})));
    assert_eq!(update(&mut client, UpdateTtl::Increase(60_000)), Some(Ttl::Set(Empty {})));
    assert_eq!(update(&mut client, UpdateTtl::Decrease(70_000)), Some(Ttl::NotSet(Empty {})));
    assert_eq!(update(&mut client, UpdateTtl::Decrease(5)), Some(Ttl::Set(Empty {})));
    host.advance_ms(5);
    assert_eq!(get(&mut client, CACHE, b"k"), None);
}

#[test]
fn batches_answer_item_by_item_and_existence_in_order() {
    let (_host, conn) = connect("");
    let mut client = Client::new(&conn);
    let items = vec![set(b"a", b"1"), set(b"b", b"2")];
    let sets = client.call(CACHE, "SetBatch", &proto::SetBatchRequest { items });
    assert_eq!((sets.status.as_str(), sets.messages.len()), ("0", 2));
    let items = vec![key(b"a"), key(b"none"), key(b"b")];
    let gets = client.call(CACHE, "GetBatch", &proto::GetBatchRequest { items });
    let results: Vec<i32> = gets
        .messages
        .iter()
        .map(|m| <proto::GetResponse as prost::Message>::decode(m.clone()).unwrap().result)
        .collect();
    assert_eq!(results, [CacheResult::Hit, CacheResult::Miss, CacheResult::Hit].map(|r| r as i32));
    let cache_keys = [&b"none"[..], b"a"].map(Bytes::from_static).to_vec();
    let exist: proto::KeysExistResponse =
        client.call(CACHE, "KeysExist", &proto::KeysExistRequest { cache_keys }).message();
    assert_eq!(exist.exists, [false, true]);
}

#[test]
fn caches_do_not_see_each_other_and_flush_alone() {
    let (_host, conn) = connect(r#"{"caches":["one","two"]}"#);
    let mut client = Client::new(&conn);
    for cache in ["one", "two"] {
        let _: proto::SetResponse =
            client.call(cache, "Set", &set(b"k", cache.as_bytes())).message();
    }
    let name = |name: &str| proto::CacheNameRequest { cache_name: name.into() };
    let _: Empty = client.control("FlushCache", &name("one")).message();
    assert_eq!(get(&mut client, "one", b"k"), None);
    assert_eq!(get(&mut client, "two", b"k").as_deref(), Some(&b"two"[..]));
    assert_eq!(client.control("CreateCache", &name("two")).status, "6");
    let _: Empty = client.control("CreateCache", &name("three")).message();
    let list: proto::ListCachesResponse = client.control("ListCaches", &Empty {}).message();
    let names: Vec<_> = list.cache.iter().map(|c| c.cache_name.as_str()).collect();
    assert_eq!(names, ["one", "three", "two"]);
    assert_eq!(client.call("none", "Get", &key(b"k")).status, "5");
}

#[test]
fn each_cache_counts_for_itself_whoever_made_it_and_when() {
    let (host, conn) = connect("");
    let mut client = Client::new(&conn);
    let name = |name: &str| proto::CacheNameRequest { cache_name: name.into() };
    for cache in ["late-one", "late_one", "others"] {
        let _: Empty = client.control("CreateCache", &name(cache)).message();
    }
    let _: proto::SetResponse = client.call("late-one", "Set", &set(b"k", b"v")).message();
    assert!(get(&mut client, "late-one", b"k").is_some());
    assert!(get(&mut client, "late_one", b"k").is_none());
    assert!(get(&mut client, "others", b"k").is_none());
    let counted = |what: &str| {
        ["default_cache", "late_one", "late_one_2", "others_2", "others"]
            .map(|part| host.counter(&format!("momento_{what}_{part}")).expect("it is registered"))
    };
    assert_eq!(counted("writes"), [0, 1, 0, 0, 0]);
    assert_eq!(counted("hits"), [0, 1, 0, 0, 0]);
    assert_eq!(counted("misses"), [0, 0, 1, 1, 0]);
    // A name keeps its counters.
    let _: Empty = client.control("DeleteCache", &name("late-one")).message();
    let _: Empty = client.control("CreateCache", &name("late-one")).message();
    assert!(get(&mut client, "late-one", b"k").is_none());
    assert_eq!(counted("misses"), [0, 1, 1, 1, 0]);
}

#[test]
fn clients_cannot_make_metrics_without_end() {
    use crate::caches::COUNTED_MAX;
    let (host, conn) = connect("");
    let mut client = Client::new(&conn);
    // One is there from the start.
    for i in 1..COUNTED_MAX + 2 {
        let made = proto::CacheNameRequest { cache_name: format!("c{i}") };
        let _: Empty = client.control("CreateCache", &made).message();
        assert!(get(&mut client, &format!("c{i}"), b"k").is_none());
    }
    let misses = |part: String| host.counter(&format!("momento_misses_{part}"));
    assert_eq!(misses(format!("c{}", COUNTED_MAX - 1)), Some(1));
    assert_eq!(misses(format!("c{COUNTED_MAX}")), None);
    assert_eq!(misses("others".into()), Some(2));
    assert_eq!(host.counter_names().len(), 3 * (COUNTED_MAX + 1));
}

#[test]
fn what_cannot_be_served_is_refused_in_a_sentence() {
    let host = TestHost::new();
    let store = host.backend::<ModelBackend>(r#"{"structures":false}"#);
    let conn = host.connect(host.protocol::<crate::Momento>("", store));
    let mut client = Client::new(&conn);
    let collections = client.call(CACHE, "DictionaryGet", &key(b"d"));
    assert_eq!(collections.status, "12");
    assert!(collections.sentence.contains("data structures"), "{}", collections.sentence);
    assert_eq!(client.control("CreateSigningKey", &Empty {}).status, "12");
    assert_eq!(client.call(CACHE, "Get", &key(b"")).status, "3");
    assert_eq!(client.call(CACHE, "Get", &key(&[b'x'; 65_535])).status, "3");
    let mut no_ttl = set(b"k", b"v");
    no_ttl.ttl_milliseconds = 0;
    assert_eq!(client.call(CACHE, "Set", &no_ttl).status, "3");
    let path = "/cache_client.Scs/Get";
    let response = client.begin(path, &[], &key(b"k"));
    assert_eq!(client.finish(response).status, "3", "no cache named");
}

#[test]
fn only_known_tokens_enter() {
    // SHA-256 of "abc", a public test vector.
    let (_host, conn) = connect(
        r#"{"token_sha256":["ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]}"#,
    );
    let mut client = Client::new(&conn);
    let path = "/cache_client.Scs/Get";
    for (token, status) in [("abc", "0"), ("abd", "16")] {
        let metadata = [("cache", CACHE), ("authorization", token)];
        let response = client.begin(path, &metadata, &key(b"k"));
        assert_eq!(client.finish(response).status, status, "{token}");
    }
    assert_eq!(client.call(CACHE, "Get", &key(b"k")).status, "16");
}

#[test]
fn many_streams_in_flight_are_all_answered() {
    let (_host, conn) = connect("");
    let mut client = Client::new(&conn);
    for i in 0..100u32 {
        let name = i.to_string();
        let _: proto::SetResponse =
            client.call(CACHE, "Set", &set(name.as_bytes(), name.as_bytes())).message();
    }
    let path = "/cache_client.Scs/Get";
    let responses: Vec<_> = (0..100u32)
        .map(|i| client.begin(path, &[("cache", CACHE)], &key(i.to_string().as_bytes())))
        .collect();
    for (i, response) in responses.into_iter().enumerate() {
        let answer: proto::GetResponse = client.finish(response).message();
        assert_eq!(answer.cache_body, i.to_string().as_bytes());
    }
}
