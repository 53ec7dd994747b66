//! Topics: who hears what, in which order, also from other connections, listeners and workers;
//! and calls with deadlines.

use bytes::Bytes;
use crucible_plugin_testkit::{Conn, HostOptions, ModelBackend, Peer, TestHost};

use super::client::{Client, Reader};
use super::connect;
use crate::Momento;
use crate::proto::Empty;
use crate::topics::MAILBOX_BYTES_MAX;
use crate::topics::proto::{
    Discontinuity, Kind, Payload, PublishRequest, SubscriptionItem, SubscriptionRequest, Value,
};

const CACHE: &str = "default-cache";
const PUBLISH: &str = "/cache_client.pubsub.Pubsub/Publish";
const SUBSCRIBE: &str = "/cache_client.pubsub.Pubsub/Subscribe";

fn publish(client: &mut Client<'_>, cache: &str, topic: &str, payload: Payload) -> String {
    let value = Some(Value { kind: Some(payload) });
    let request = PublishRequest { cache_name: cache.into(), topic: topic.into(), value };
    let response = client.begin(PUBLISH, &[], &request);
    client.finish(response).status
}

fn text(text: &str) -> Payload {
    Payload::Text(text.into())
}

fn asked(topic: &str) -> SubscriptionRequest {
    SubscriptionRequest { cache_name: CACHE.into(), topic: topic.into(), ..Default::default() }
}

fn subscribe(client: &mut Client<'_>, topic: &str) -> Reader {
    let mut reader = client.open(SUBSCRIBE, &asked(topic));
    let (first, status) = reader.read::<SubscriptionItem>(client, true);
    let beat = SubscriptionItem { kind: Some(Kind::Heartbeat(Empty {})) };
    assert_eq!((first, status), (vec![beat], None), "the first message is a heartbeat");
    reader
}

/// Items that have come: number and payload.
fn items(client: &mut Client<'_>, reader: &mut Reader) -> Vec<(u64, Payload)> {
    let (messages, status) = reader.read::<SubscriptionItem>(client, true);
    assert_eq!(status, None);
    let item = |message: SubscriptionItem| match message.kind {
        Some(Kind::Item(item)) => {
            let value = item.value.unwrap().kind.unwrap();
            (item.topic_sequence_number, value)
        }
        other => panic!("{other:?}"),
    };
    messages.into_iter().map(item).collect()
}

/// Two workers, a connection on each.
fn two_workers() -> (TestHost, Conn, Conn) {
    let host = TestHost::with(HostOptions { workers: 2, ..HostOptions::default() });
    let store = host.backend::<ModelBackend>("");
    let momento = host.protocol::<Momento>("", store);
    let first = host.connect(momento);
    let second = host.connect_as(momento, Peer { worker: 1, ..Peer::default() });
    (host, first, second)
}

#[test]
fn every_subscription_gets_each_message_with_its_number_and_its_kind() {
    let (host, a, b) = two_workers();
    let (mut a, mut b) = (Client::new(&a), Client::new(&b));
    assert_eq!(publish(&mut a, CACHE, "news", text("nobody hears")), "0");
    let mut of_a = subscribe(&mut a, "news");
    assert_eq!(publish(&mut b, CACHE, "news", text("one")), "0");
    let mut of_b = subscribe(&mut b, "news");
    assert_eq!(publish(&mut b, CACHE, "other", text("elsewhere")), "0");
    let bytes = Payload::Binary(Bytes::from_static(b"\xff two"));
    assert_eq!(publish(&mut a, CACHE, "news", bytes.clone()), "0");
    host.sweep();
    assert_eq!(items(&mut a, &mut of_a), [(1, text("one")), (2, bytes.clone())]);
    assert_eq!(items(&mut b, &mut of_b), [(2, bytes)]);
    // A subscription that its client drops hears no more, and holds nothing up.
    drop(of_a);
    a.exchange();
    assert_eq!(publish(&mut b, CACHE, "news", text("three")), "0");
    assert_eq!(items(&mut b, &mut of_b), [(3, text("three"))]);
}

#[test]
fn another_listener_over_the_store_hears_it_and_another_store_does_not() {
    let host = TestHost::new();
    let store = host.backend::<ModelBackend>("");
    let (one, two) = (host.protocol::<Momento>("", store), host.protocol::<Momento>("", store));
    let (one, two) = (host.connect(one), host.connect(two));
    let (mut one, mut two) = (Client::new(&one), Client::new(&two));
    let (mut of_one, mut of_two) = (subscribe(&mut one, "t"), subscribe(&mut two, "t"));
    assert_eq!(publish(&mut one, CACHE, "t", text("both")), "0");
    host.sweep();
    assert_eq!(items(&mut one, &mut of_one), [(1, text("both"))]);
    assert_eq!(items(&mut two, &mut of_two), [(1, text("both"))]);
}

#[test]
fn calls_on_topics_name_a_cache_a_topic_and_a_value() {
    let (_host, conn) = connect("");
    let mut client = Client::new(&conn);
    assert_eq!(publish(&mut client, "none", "t", text("x")), "5");
    assert_eq!(publish(&mut client, CACHE, " ", text("x")), "3");
    assert_eq!(publish(&mut client, CACHE, &"t".repeat(256), text("x")), "3");
    let request = PublishRequest { cache_name: CACHE.into(), topic: "t".into(), value: None };
    let response = client.begin(PUBLISH, &[], &request);
    assert_eq!(client.finish(response).status, "3");
    let mut lost = asked("t");
    lost.cache_name = "none".into();
    let response = client.begin(SUBSCRIBE, &[], &lost);
    assert_eq!(client.finish(response).status, "5");
    // SHA-256 of "abc", a public test vector.
    let (_host, conn) = connect(
        r#"{"token_sha256":["ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]}"#,
    );
    let mut client = Client::new(&conn);
    for path in [PUBLISH, SUBSCRIBE] {
        let response = client.begin(path, &[], &asked("t"));
        assert_eq!(client.finish(response).status, "16");
    }
}

#[test]
fn who_comes_back_is_told_whether_something_was_missed() {
    let (host, a, b) = two_workers();
    let (mut a, mut b) = (Client::new(&a), Client::new(&b));
    let mut stays = subscribe(&mut b, "t");
    for i in 1..=3 {
        assert_eq!(publish(&mut b, CACHE, "t", text(&i.to_string())), "0");
    }
    let (messages, _) = stays.read::<SubscriptionItem>(&mut b, true);
    let Some(Kind::Item(last)) = messages[2].kind.clone() else { panic!("{messages:?}") };
    let page = last.sequence_page;
    let come_back = |a: &mut Client<'_>, number, page| {
        let mut request = asked("t");
        (request.resume_at_topic_sequence_number, request.sequence_page) = (number, page);
        let mut reader = a.open(SUBSCRIBE, &request);
        let (messages, _) = reader.read::<SubscriptionItem>(a, true);
        messages.into_iter().skip(1).filter_map(|m| m.kind).collect::<Vec<_>>()
    };
    assert_eq!(come_back(&mut a, 3, page), []);
    let missed = |last| {
        let (next, page) = (3, page);
        vec![Kind::Discontinuity(Discontinuity {
            last_topic_sequence: last,
            new_topic_sequence: next,
            new_sequence_page: page,
        })]
    };
    assert_eq!(come_back(&mut a, 1, page), missed(1));
    assert_eq!(come_back(&mut a, 3, page - 1), missed(3));
    host.sweep();
}

#[test]
fn a_subscriber_that_does_not_read_costs_a_bounded_amount_and_is_told_what_it_lost() {
    let (host, slow, quick) = two_workers();
    let (mut slow, mut quick) = (Client::new(&slow), Client::new(&quick));
    let mut reader = subscribe(&mut slow, "t");
    let payload = "x".repeat(100_000);
    let sent = (2 * MAILBOX_BYTES_MAX / payload.len()) as u64;
    for _ in 0..sent {
        assert_eq!(publish(&mut quick, CACHE, "t", text(&payload)), "0");
        host.sweep();
    }
    // Its window is 64 KiB: one message and a part of the next are under way at the most.
    let (early, _) = reader.read::<SubscriptionItem>(&mut slow, false);
    assert!(early.len() <= 1, "{} messages came", early.len());
    assert_eq!(publish(&mut quick, CACHE, "t", text("last")), "0");
    let mut kinds = Vec::new();
    loop {
        let (messages, _) = reader.read::<SubscriptionItem>(&mut slow, true);
        let before = kinds.len();
        kinds.extend(messages.into_iter().filter_map(|m| m.kind));
        // What was held back at first makes room as well.
        if kinds.len() == before {
            break;
        }
    }
    assert!(kinds.len() < sent as usize / 2 + 10, "{} messages were kept", kinds.len());
    let _ = early;
}

#[test]
fn heartbeats_come_by_themselves() {
    let (host, conn) = connect("");
    let mut client = Client::new(&conn);
    let mut reader = subscribe(&mut client, "t");
    for _ in 0..3 {
        host.advance_ms(10_000);
        host.sweep();
        let (messages, status) = reader.read::<SubscriptionItem>(&mut client, true);
        let beat = SubscriptionItem { kind: Some(Kind::Heartbeat(Empty {})) };
        assert_eq!((messages, status), (vec![beat], None));
    }
}

#[test]
fn a_server_that_drains_ends_subscriptions_and_takes_no_new_calls() {
    let (host, conn) = connect("");
    let mut client = Client::new(&conn);
    let mut reader = subscribe(&mut client, "t");
    host.drain();
    let (messages, status) = reader.read::<SubscriptionItem>(&mut client, true);
    assert_eq!((messages, status.as_deref()), (vec![], Some("14")));
    client.exchange();
    assert!(conn.is_closed(), "nothing is left to be done");
}

#[test]
fn a_request_that_is_not_whole_at_its_deadline_is_answered_so() {
    let (host, conn) = connect("");
    let mut client = Client::new(&conn);
    let metadata = [("cache", CACHE), ("grpc-timeout", "1500m")];
    let path = "/cache_client.Scs/Get";
    let (mut stream, late) = client.begin_slowly(path, &metadata);
    stream.send_data(Bytes::from_static(b"\0\0"), false).unwrap();
    let (_other, in_time) = client.begin_slowly(path, &[("cache", CACHE), ("grpc-timeout", "9S")]);
    client.exchange();
    host.advance_ms(1499);
    host.sweep();
    client.exchange();
    host.advance_ms(1);
    host.sweep();
    assert_eq!(client.finish(late).status, "4");
    // A call that comes whole has all the time it needs: nothing is waited for here.
    let response = client.begin(
        path,
        &metadata,
        &crate::proto::KeyRequest { cache_key: Bytes::from_static(b"k") },
    );
    assert_eq!(client.finish(response).status, "0");
    host.advance_ms(9000);
    host.sweep();
    assert_eq!(client.finish(in_time).status, "4");
    let response = client.begin(path, &[("cache", CACHE), ("grpc-timeout", "0n")], &Empty {});
    assert_eq!(client.finish(response).status, "4");
}
