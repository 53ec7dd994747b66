"""The official Momento SDK works against the momento plugin: its scalar calls and their errors."""

import os
from datetime import timedelta

from crucible import HOST as ADDRESS
from crucible import run

HOST = {"plugins": ("momento", "resp")}
CACHE = "default-cache"
TTL = timedelta(seconds=60)


def client(server, ttl=TTL):
    from momento import CacheClient, Configurations, CredentialProvider

    provider = CredentialProvider.for_momento_local(ADDRESS, server.ports["momento"])
    return CacheClient.create(Configurations.Laptop.v1(), provider, ttl)


def kind(response):
    """`Hit`, `Miss`, `Success`, ..., or the error's own sentence."""
    if hasattr(response, "error_code"):
        return f"Error {response.error_code.name}"
    return type(response).__name__


def expect(response, wanted):
    assert kind(response) == wanted, f"{kind(response)} instead of {wanted}: {response}"
    return response


def test_set_get_and_delete(server):
    with client(server) as cache:
        expect(cache.get(CACHE, "sgd"), "Miss")
        expect(cache.set(CACHE, "sgd", "value"), "Success")
        assert expect(cache.get(CACHE, "sgd"), "Hit").value_string == "value"
        expect(cache.delete(CACHE, "sgd"), "Success")
        expect(cache.get(CACHE, "sgd"), "Miss")
        expect(cache.delete(CACHE, "sgd"), "Success")


def test_values_of_all_sizes_come_back_whole(server):
    with client(server) as cache:
        for size in (0, 1, 1000, 16 * 1024, 100_000, 900_000):
            value = bytes(i % 251 for i in range(size))
            expect(cache.set(CACHE, "size", value), "Success")
            assert expect(cache.get(CACHE, "size"), "Hit").value_bytes == value, size


def test_caches_are_made_listed_flushed_and_deleted(server):
    with client(server) as cache:
        expect(cache.create_cache("one"), "Success")
        expect(cache.create_cache("one"), "CacheAlreadyExists")
        expect(cache.create_cache("two"), "Success")
        names = {info.name for info in cache.list_caches().caches}
        assert {"one", "two", CACHE} <= names, names
        expect(cache.set("one", "k", "1"), "Success")
        expect(cache.set("two", "k", "2"), "Success")
        assert cache.get("one", "k").value_string == "1"
        expect(cache.flush_cache("one"), "Success")
        expect(cache.get("one", "k"), "Miss")
        assert cache.get("two", "k").value_string == "2"
        expect(cache.delete_cache("one"), "Success")
        expect(cache.get("one", "k"), "Error NOT_FOUND_ERROR")
        expect(cache.delete_cache("one"), "Error NOT_FOUND_ERROR")
        expect(cache.create_cache("one"), "Success")
        expect(cache.get("one", "k"), "Miss")


def test_a_set_if_not_exists_stores_once(server):
    with client(server) as cache:
        cache.delete(CACHE, "once")
        expect(cache.set_if_not_exists(CACHE, "once", "x"), "Stored")
        expect(cache.set_if_not_exists(CACHE, "once", "y"), "NotStored")
        assert cache.get(CACHE, "once").value_string == "x"


def test_counters(server):
    with client(server) as cache:
        cache.delete(CACHE, "n")
        assert expect(cache.increment(CACHE, "n", 5), "Success").value == 5
        assert cache.increment(CACHE, "n", -7).value == -2
        assert cache.get(CACHE, "n").value_string == "-2"
        cache.set(CACHE, "n", "word")
        expect(cache.increment(CACHE, "n"), "Error FAILED_PRECONDITION_ERROR")


def test_an_item_is_gone_when_its_ttl_is_over(server):
    import time

    with client(server) as cache:
        begun = time.monotonic()
        expect(cache.set(CACHE, "t", "v", ttl=timedelta(seconds=1)), "Success")
        while kind(cache.get(CACHE, "t")) == "Hit":
            assert time.monotonic() < begun + 60, "it never expired"
        assert time.monotonic() > begun + 0.5, "it expired early"


def topics(server):
    from momento import CredentialProvider, TopicClient, TopicConfigurations

    provider = CredentialProvider.for_momento_local(ADDRESS, server.ports["momento"])
    return TopicClient(TopicConfigurations.Default.v1(), provider)


def test_topics_carry_text_and_bytes_in_order(server):
    with topics(server) as client:
        news = expect(client.subscribe(CACHE, "news"), "Subscription")
        expect(client.publish("no-such-cache", "news", "x"), "Error NOT_FOUND_ERROR")
        for i in range(50):
            expect(client.publish(CACHE, "news", f"message {i}"), "Success")
        expect(client.publish(CACHE, "news", b"\xff\x00"), "Success")
        got = [next(news).value for _ in range(51)]
        assert got == [f"message {i}" for i in range(50)] + [b"\xff\x00"], got


def test_a_topic_is_a_channel_of_redis_clients(server):
    import redis

    r = redis.Redis(port=server.resp_port, socket_timeout=60)
    listener = r.pubsub()
    listener.subscribe(f"{CACHE}/both")
    assert listener.get_message(timeout=60)["type"] == "subscribe"
    with topics(server) as client:
        mine = expect(client.subscribe(CACHE, "both"), "Subscription")
        expect(client.publish(CACHE, "both", "from momento"), "Success")
        message = listener.get_message(timeout=60)
        assert (message["channel"], message["data"]) == (f"{CACHE}/both".encode(), b"from momento")
        assert r.publish(f"{CACHE}/both", "from redis") == 2
        assert [next(mine).value for _ in range(2)] == ["from momento", "from redis"]
        assert listener.get_message(timeout=60)["data"] == b"from redis"


def test_what_is_not_served_says_so(server):
    with client(server) as cache:
        answer = cache.dictionary_set_field(CACHE, "d", "f", "v")
        assert "data structures" in str(answer), answer
        expect(cache.get("no-such-cache", "k"), "Error NOT_FOUND_ERROR")
        expect(cache.set(CACHE, "", "v"), "Error INVALID_ARGUMENT_ERROR")


def test_signing_keys_are_not_served_and_said_so(server):
    with client(server) as cache:
        for answer in (cache.create_signing_key(timedelta(minutes=5)), cache.list_signing_keys(),
                       cache.revoke_signing_key("none")):
            assert kind(answer).startswith("Error") and "not part of a Crucible listener" in str(answer), answer


def test_each_error_has_the_sdks_own_name(server):
    with client(server) as cache:
        expect(cache.create_cache(" "), "Error INVALID_ARGUMENT_ERROR")
        expect(cache.flush_cache("no-such-cache"), "Error NOT_FOUND_ERROR")
        expect(cache.set("no-such-cache", "k", "v"), "Error NOT_FOUND_ERROR")
        expect(cache.get(CACHE, "k" * 70_000), "Error INVALID_ARGUMENT_ERROR")
        expect(cache.set(CACHE, "most", str(2**63 - 1)), "Success")
        expect(cache.increment(CACHE, "most"), "Error FAILED_PRECONDITION_ERROR")
        expect(cache.set(CACHE, "huge", b"x" * (6 << 20)), "Error LIMIT_EXCEEDED_ERROR")
        expect(cache.get(CACHE, "most"), "Hit")


def test_a_token_that_is_not_known_is_an_authentication_error(_server):
    import hashlib

    from momento import CacheClient, Configurations, CredentialProvider

    from every_key import Host, Listener, Store

    listener = Listener("momento", {"token_sha256": [hashlib.sha256(b"the-token").hexdigest()]})
    with Host({"cache": Store("segcache")}, {"momento": listener}) as host:
        port = int(host.addresses["momento"].rpartition(":")[2])
        for token, wanted in (("another", "Error AUTHENTICATION_ERROR"), ("the-token", "Miss")):
            provider = CredentialProvider.for_momento_local(ADDRESS, port)
            provider.auth_token = token
            with CacheClient.create(Configurations.Laptop.v1(), provider, TTL) as cache:
                expect(cache.get(CACHE, "k"), wanted)


def test_many_streams_at_once_on_one_connection(server):
    from concurrent.futures import ThreadPoolExecutor

    with client(server) as cache:
        def round_trip(i):
            value = f"{i}:" + "x" * (i % 3000)
            assert kind(cache.set(CACHE, f"many{i}", value)) == "Success"
            return cache.get(CACHE, f"many{i}").value_string == value

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(round_trip, range(400)))


def test_every_call_of_the_sdk_is_made_by_a_flow(_server):
    from momento import CacheClient, TopicClient

    folder, text = os.path.dirname(os.path.abspath(__file__)), ""
    for name in ("flow_momento_sdk.py", "flow_momento_collections.py"):
        with open(os.path.join(folder, name), encoding="utf-8") as source:
            text += source.read()
    calls = {name for client in (CacheClient, TopicClient) for name in dir(client) if not name.startswith("_")}
    calls -= {"create", "close"}
    assert len(calls) > 40, calls
    missing = {name for name in calls if f".{name}(" not in text}
    assert not missing, missing


if __name__ == "__main__":
    run(__file__, globals())
