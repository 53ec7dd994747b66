"""Everyday clients against the release build: redis-cli, redis-benchmark, redis-py, pymemcache,
and both protocols on one store."""

import subprocess

import pymemcache
import redis

from crucible import run

LIMIT_S = 300


def resp(server, **options):
    """A redis-py client."""
    return redis.Redis(port=server.resp_port, socket_timeout=60, **options)


def memcache(server):
    """A pymemcache client."""
    return pymemcache.Client(("127.0.0.1", server.memcache_port), timeout=60, connect_timeout=60)


def redis_cli(server, *words):
    """What redis-cli prints for a command."""
    command = ["redis-cli", "-p", str(server.resp_port), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    return done.stdout.rstrip("\n")


def test_redis_cli_sets_and_gets(server):
    assert redis_cli(server, "SET", "greeting", "hello", "EX", "60") == "OK"
    assert redis_cli(server, "GET", "greeting") == "hello"
    assert 0 < int(redis_cli(server, "TTL", "greeting")) <= 60
    assert redis_cli(server, "DEL", "greeting") == "1"
    assert redis_cli(server, "GET", "greeting") == ""


def test_redis_benchmark_runs_its_string_tests(server):
    wanted = ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"]
    done = subprocess.run(
        ["redis-benchmark", "-p", str(server.resp_port), "--csv", "-n", "5000", "-c", "20",
         "-P", "16", "-r", "1000", "-t", "ping_inline,ping_mbulk,set,get,incr,mset"],
        capture_output=True, text=True, timeout=LIMIT_S, check=True)
    assert "error" not in (done.stdout + done.stderr).lower(), done.stdout + done.stderr
    rows = {line.split(",")[0].strip('"') for line in done.stdout.splitlines()}
    assert rows >= set(wanted), rows


def test_redis_py_speaks_both_versions_of_resp(server):
    for protocol in (2, 3):
        client = resp(server, protocol=protocol)
        assert client.ping()
        assert client.set(f"v{protocol}", b"\x00\r\n\xff" * 10)
        assert client.get(f"v{protocol}") == b"\x00\r\n\xff" * 10
        assert client.get("nothing") is None
        client.close()


def test_pymemcache_sets_and_gets(server):
    client = memcache(server)
    assert client.set("k", b"value", expire=60, noreply=False)
    assert client.get("k") == b"value"
    assert client.gets("k")[1] is not None
    assert client.delete("k", noreply=False)
    assert client.get("k") is None
    client.close()


def test_both_protocols_see_one_store(server):
    redis_client, memcache_client = resp(server), memcache(server)
    redis_client.set("from-redis", b"1")
    assert memcache_client.get("from-redis") == b"1"
    memcache_client.set("from-memcache", b"2", noreply=False)
    assert redis_client.get("from-memcache") == b"2"
    assert memcache_client.add("from-redis", b"3", noreply=False) is False
    assert redis_client.set("from-memcache", b"4", nx=True) is None
    redis_client.delete("from-memcache")
    assert memcache_client.get("from-memcache") is None


def test_a_large_value_comes_back_whole_by_either_protocol(server):
    value = bytes(range(256)) * 2000
    redis_client, memcache_client = resp(server), memcache(server)
    redis_client.set("large", value)
    assert memcache_client.get("large") == value
    memcache_client.set("larger", value + b"!", noreply=False)
    assert redis_client.get("larger") == value + b"!"


if __name__ == "__main__":
    run(__file__, globals())
