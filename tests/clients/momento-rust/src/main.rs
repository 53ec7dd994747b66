//! What an application does with Momento's Rust SDK: `momento-rust-flow PORT [collections]`.
//! Ends with 0 when every claim holds; panics at the first that does not.

mod every;

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use momento::cache::{
    GetResponse, IncreaseTtlResponse, ItemGetTtlResponse, ListFetchResponse, SetFetchResponse,
    SetIfAbsentResponse, SetIfEqualResponse, SetIfNotEqualResponse, SetIfPresentResponse,
    configurations,
};
use momento::topics::ValueKind;
use momento::{
    CacheClient, CredentialProvider, MomentoErrorCode, ProtosocketCacheClient, TopicClient,
};

const CACHE: &str = "default-cache";

/// A token as Momento's console gives one (base64 of JSON), of which the endpoint is overridden.
const TOKEN: &str = "eyJlbmRwb2ludCI6ImxvY2FsaG9zdCIsImFwaV9rZXkiOiJrZXkifQ==";

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The SDK wants a URL for gRPC, and a bare address for protosocket.
fn provider(endpoint: &str) -> CredentialProvider {
    CredentialProvider::from_disposable_token(TOKEN)
        .expect("a token")
        .insecure_endpoint_override(endpoint)
}

async fn scalars(cache: &CacheClient) -> Outcome {
    assert!(matches!(cache.get(CACHE, "r:k").await?, GetResponse::Miss));
    cache.set(CACHE, "r:k", "value").await?;
    let value: String = cache.get(CACHE, "r:k").await?.try_into()?;
    assert_eq!(value, "value");
    let bytes: Vec<u8> = (0..900_000).map(|i| (i % 251) as u8).collect();
    cache.set(CACHE, "r:large", bytes.clone()).await?;
    let back: Vec<u8> = cache.get(CACHE, "r:large").await?.try_into()?;
    assert_eq!(back, bytes);
    assert_eq!(cache.increment(CACHE, "r:n", 5).await?.value, 5);
    assert_eq!(cache.increment(CACHE, "r:n", -7).await?.value, -2);
    assert!(cache.key_exists(CACHE, "r:k").await?.exists);
    assert!(!cache.key_exists(CACHE, "r:none").await?.exists);
    cache.delete(CACHE, "r:k").await?;
    assert!(matches!(cache.get(CACHE, "r:k").await?, GetResponse::Miss));
    Ok(())
}

async fn conditions(cache: &CacheClient) -> Outcome {
    let stored = cache.set_if_absent(CACHE, "r:c", "a").await?;
    assert!(matches!(stored, SetIfAbsentResponse::Stored));
    let stored = cache.set_if_absent(CACHE, "r:c", "b").await?;
    assert!(matches!(stored, SetIfAbsentResponse::NotStored));
    let stored = cache.set_if_present(CACHE, "r:none", "b").await?;
    assert!(matches!(stored, SetIfPresentResponse::NotStored));
    let stored = cache.set_if_equal(CACHE, "r:c", "b", "a").await?;
    assert!(matches!(stored, SetIfEqualResponse::Stored));
    let stored = cache.set_if_not_equal(CACHE, "r:c", "c", "b").await?;
    assert!(matches!(stored, SetIfNotEqualResponse::NotStored));
    let value: String = cache.get(CACHE, "r:c").await?.try_into()?;
    assert_eq!(value, "b");
    Ok(())
}

async fn times(cache: &CacheClient) -> Outcome {
    cache.set(CACHE, "r:t", "v").await?;
    let ItemGetTtlResponse::Hit { remaining_ttl } = cache.item_get_ttl(CACHE, "r:t").await? else {
        panic!("it is there");
    };
    assert!(remaining_ttl <= Duration::from_secs(60) && remaining_ttl > Duration::from_secs(50));
    let longer = cache.increase_ttl(CACHE, "r:t", Duration::from_secs(600)).await?;
    assert!(matches!(longer, IncreaseTtlResponse::Set));
    let longer = cache.increase_ttl(CACHE, "r:t", Duration::from_secs(5)).await?;
    assert!(matches!(longer, IncreaseTtlResponse::NotSet));
    Ok(())
}

async fn caches(cache: &CacheClient) -> Outcome {
    cache.create_cache("r-one").await?;
    cache.set("r-one", "k", "1").await?;
    assert!(cache.list_caches().await?.caches.iter().any(|one| one.name == "r-one"));
    cache.flush_cache("r-one").await?;
    assert!(matches!(cache.get("r-one", "k").await?, GetResponse::Miss));
    cache.delete_cache("r-one").await?;
    let gone = cache.get("r-one", "k").await.expect_err("the cache is gone");
    assert_eq!(gone.error_code, MomentoErrorCode::CacheNotFoundError, "{gone}");
    let bad = cache.set(CACHE, "", "v").await.expect_err("an empty key");
    assert_eq!(bad.error_code, MomentoErrorCode::InvalidArgumentError, "{bad}");
    Ok(())
}

async fn many_at_once(cache: &CacheClient) -> Outcome {
    let calls = (0..300).map(|i| async move {
        let (key, value) = (format!("r:m{i}"), format!("{i}:{}", "x".repeat(i % 3000)));
        cache.set(CACHE, key.clone(), value.clone()).await?;
        let back: String = cache.get(CACHE, key).await?.try_into()?;
        assert_eq!(back, value);
        Ok::<(), Box<dyn std::error::Error>>(())
    });
    let done: Vec<Outcome> = futures::stream::iter(calls).buffer_unordered(32).collect().await;
    done.into_iter().collect::<Outcome>()?;
    Ok(())
}

async fn collections(cache: &CacheClient) -> Outcome {
    cache.dictionary_set_field(CACHE, "r:d", "f", "1").await?;
    assert_eq!(cache.dictionary_increment(CACHE, "r:d", "f", 4).await?.value, 5);
    let all: HashMap<String, String> = cache.dictionary_fetch(CACHE, "r:d").await?.try_into()?;
    assert_eq!(all, HashMap::from([("f".to_owned(), "5".to_owned())]));
    cache.set_add_elements(CACHE, "r:s", vec!["a", "b"]).await?;
    cache.set_remove_elements(CACHE, "r:s", vec!["a"]).await?;
    let SetFetchResponse::Hit { .. } = cache.set_fetch(CACHE, "r:s").await? else {
        panic!("one is left");
    };
    cache.list_push_back(CACHE, "r:l", "1").await?;
    cache.list_concatenate_back(CACHE, "r:l", vec!["2", "3"]).await?;
    let ListFetchResponse::Hit { values } = cache.list_fetch(CACHE, "r:l").await? else {
        panic!("it is there");
    };
    let words: Vec<String> = values.try_into()?;
    assert_eq!(words, ["1", "2", "3"]);
    cache.sorted_set_put_element(CACHE, "r:z", "m", 1.5).await?;
    let score = cache.sorted_set_increment_score(CACHE, "r:z", "m", 2.0).await?.score;
    assert_eq!(score, 3.5);
    Ok(())
}

async fn topics(url: &str) -> Outcome {
    let client = TopicClient::builder()
        .configuration(momento::topics::configurations::Laptop::latest())
        .credential_provider(provider(url))
        .build()?;
    let mut news = client.subscribe(CACHE, "r-news").await?;
    let mut others = client.subscribe(CACHE, "r-others").await?;
    for i in 0..100 {
        client.publish(CACHE, "r-news", format!("message {i}")).await?;
    }
    client.publish(CACHE, "r-news", vec![0xff, 0]).await?;
    client.publish(CACHE, "r-others", "elsewhere").await?;
    for i in 0..100 {
        let item = news.next().await.expect("the stream goes on");
        assert_eq!(item.kind, ValueKind::Text(format!("message {i}")));
        assert_eq!(item.topic_sequence_number, i + 1);
    }
    assert_eq!(news.next().await.expect("one more").kind, ValueKind::Binary(vec![0xff, 0]));
    assert_eq!(others.next().await.expect("one").kind, ValueKind::Text("elsewhere".to_owned()));
    Ok(())
}

async fn protosocket(address: &str) -> Outcome {
    let cache = ProtosocketCacheClient::builder()
        .default_ttl(Duration::from_secs(60))
        .configuration(momento::protosocket::cache::configurations::Laptop::latest())
        .credential_provider(provider(address))
        .runtime(tokio::runtime::Handle::current())
        .build()
        .await?;
    assert!(matches!(cache.get(CACHE, "r:p").await?, GetResponse::Miss));
    cache.set(CACHE, "r:p", "over the socket").await?;
    let value: String = cache.get(CACHE, "r:p").await?.try_into()?;
    assert_eq!(value, "over the socket");
    cache.delete(CACHE, "r:p").await?;
    assert!(matches!(cache.get(CACHE, "r:p").await?, GetResponse::Miss));
    let gone = cache.get("no-such-cache", "k").await.expect_err("no such cache");
    // Over this transport the SDK has one code for all refusals, and our sentence.
    assert_eq!(gone.message, "Cache with name: no-such-cache does not exist");
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    let mut args = std::env::args().skip(1);
    let address = format!("127.0.0.1:{}", args.next().expect("a port"));
    let url = format!("http://{address}");
    let cache = CacheClient::builder()
        .default_ttl(Duration::from_secs(60))
        .configuration(configurations::Laptop::latest())
        .credential_provider(provider(&url))
        .build()?;
    scalars(&cache).await?;
    conditions(&cache).await?;
    times(&cache).await?;
    caches(&cache).await?;
    many_at_once(&cache).await?;
    every::scalars(&cache).await?;
    every::errors(&cache).await?;
    if args.next().as_deref() == Some("collections") {
        collections(&cache).await?;
        every::collections(&cache).await?;
    } else {
        every::no_collections(&cache).await?;
    }
    topics(&url).await?;
    protosocket(&address).await?;
    println!("momento-rust: all claims hold");
    Ok(())
}
