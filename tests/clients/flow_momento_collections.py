"""The official Momento SDK works with dictionaries, sets, lists and sorted sets."""

from datetime import timedelta

from crucible import HOST as ADDRESS
from crucible import run

HOST = {"plugins": ("momento", "resp"), "backend": "heap"}
CACHE = "default-cache"
TTL = timedelta(seconds=60)


def client(server):
    from momento import CacheClient, Configurations, CredentialProvider

    provider = CredentialProvider.for_momento_local(ADDRESS, server.ports["momento"])
    return CacheClient.create(Configurations.Laptop.v1(), provider, TTL)


def kind(response):
    """`Hit`, `Miss`, `Success`, ..., or the error's own sentence."""
    if hasattr(response, "error_code"):
        return f"Error {response.error_code.name}: {response.message}"
    return type(response).__name__


def expect(response, wanted):
    assert kind(response).split(":")[0] == wanted, f"{kind(response)} instead of {wanted}"
    return response


def test_dictionaries(server):
    with client(server) as cache:
        expect(cache.dictionary_fetch(CACHE, "d"), "Miss")
        expect(cache.dictionary_set_field(CACHE, "d", "a", "1"), "Success")
        expect(cache.dictionary_set_fields(CACHE, "d", {"b": "2", "c": "x"}), "Success")
        fetched = expect(cache.dictionary_fetch(CACHE, "d"), "Hit")
        assert fetched.value_dictionary_string_string == {"a": "1", "b": "2", "c": "x"}
        assert expect(cache.dictionary_get_field(CACHE, "d", "b"), "Hit").value_string == "2"
        expect(cache.dictionary_get_field(CACHE, "d", "nope"), "Miss")
        got = expect(cache.dictionary_get_fields(CACHE, "d", ["a", "nope"]), "Hit")
        assert got.value_dictionary_string_string == {"a": "1"}
        assert expect(cache.dictionary_increment(CACHE, "d", "a", 41), "Success").value == 42
        expect(cache.dictionary_increment(CACHE, "d", "c"), "Error FAILED_PRECONDITION_ERROR")
        expect(cache.dictionary_remove_fields(CACHE, "d", ["a", "nope"]), "Success")
        expect(cache.dictionary_remove_field(CACHE, "d", "b"), "Success")
        left = expect(cache.dictionary_fetch(CACHE, "d"), "Hit")
        assert left.value_dictionary_string_string == {"c": "x"}
        expect(cache.delete(CACHE, "d"), "Success")
        expect(cache.dictionary_fetch(CACHE, "d"), "Miss")


def test_sets(server):
    with client(server) as cache:
        expect(cache.set_fetch(CACHE, "s"), "Miss")
        expect(cache.set_add_elements(CACHE, "s", {"a", "b", "c"}), "Success")
        expect(cache.set_add_element(CACHE, "s", "d"), "Success")
        assert cache.set_fetch(CACHE, "s").value_set_string == {"a", "b", "c", "d"}
        expect(cache.set_remove_elements(CACHE, "s", {"a", "x"}), "Success")
        expect(cache.set_remove_element(CACHE, "s", "b"), "Success")
        assert cache.set_fetch(CACHE, "s").value_set_string == {"c", "d"}


def test_lists(server):
    with client(server) as cache:
        expect(cache.list_fetch(CACHE, "l"), "Miss")
        assert expect(cache.list_push_back(CACHE, "l", "b"), "Success").list_length == 1
        assert cache.list_push_front(CACHE, "l", "a").list_length == 2
        assert cache.list_concatenate_back(CACHE, "l", ["c", "d"]).list_length == 4
        assert cache.list_concatenate_front(CACHE, "l", ["y", "z"]).list_length == 6
        assert cache.list_fetch(CACHE, "l").value_list_string == ["y", "z", "a", "b", "c", "d"]
        assert expect(cache.list_pop_front(CACHE, "l"), "Hit").value_string == "y"
        assert expect(cache.list_pop_back(CACHE, "l"), "Hit").value_string == "d"
        expect(cache.list_remove_value(CACHE, "l", "a"), "Success")
        assert expect(cache.list_length(CACHE, "l"), "Hit").length == 3
        pushed = cache.list_push_back(CACHE, "l", "e", truncate_front_to_size=2)
        assert pushed.list_length == 2
        assert cache.list_fetch(CACHE, "l").value_list_string == ["c", "e"]


def test_sorted_sets(server):
    from momento.requests import SortOrder

    with client(server) as cache:
        expect(cache.sorted_set_fetch_by_rank(CACHE, "z"), "Miss")
        elements = {"a": 1.0, "b": 2.5, "c": 3.0}
        expect(cache.sorted_set_put_elements(CACHE, "z", elements), "Success")
        expect(cache.sorted_set_put_element(CACHE, "z", "d", 4.0), "Success")
        fetched = expect(cache.sorted_set_fetch_by_rank(CACHE, "z"), "Hit").value_list_string
        assert fetched == [("a", 1.0), ("b", 2.5), ("c", 3.0), ("d", 4.0)], fetched
        top = cache.sorted_set_fetch_by_rank(CACHE, "z", 0, 2, SortOrder.DESCENDING)
        assert [name for name, _ in top.value_list_string] == ["d", "c"]
        scored = cache.sorted_set_fetch_by_score(CACHE, "z", min_score=2.0, max_score=3.0)
        assert [name for name, _ in scored.value_list_string] == ["b", "c"]
        assert expect(cache.sorted_set_get_score(CACHE, "z", "b"), "Hit").score == 2.5
        expect(cache.sorted_set_get_score(CACHE, "z", "x"), "Miss")
        got = expect(cache.sorted_set_get_scores(CACHE, "z", ["a", "x"]), "Hit")
        assert got.value_dictionary_string == {"a": 1.0}
        assert expect(cache.sorted_set_get_rank(CACHE, "z", "c"), "Hit").rank == 2
        expect(cache.sorted_set_get_rank(CACHE, "z", "x"), "Miss")
        assert expect(cache.sorted_set_increment_score(CACHE, "z", "a", 9.0), "Success").score == 10
        expect(cache.sorted_set_remove_elements(CACHE, "z", ["a", "x"]), "Success")
        expect(cache.sorted_set_remove_element(CACHE, "z", "b"), "Success")
        left = cache.sorted_set_fetch_by_rank(CACHE, "z").value_list_string
        assert left == [("c", 3.0), ("d", 4.0)], left


def test_a_key_of_another_kind_is_refused(server):
    with client(server) as cache:
        cache.set(CACHE, "scalar", "v")
        expect(cache.dictionary_fetch(CACHE, "scalar"), "Error FAILED_PRECONDITION_ERROR")
        expect(cache.list_push_back(CACHE, "scalar", "x"), "Error FAILED_PRECONDITION_ERROR")
        cache.list_push_back(CACHE, "list", "x")
        expect(cache.get(CACHE, "list"), "Error FAILED_PRECONDITION_ERROR")


if __name__ == "__main__":
    run(__file__, globals())
