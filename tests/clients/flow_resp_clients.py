"""Real clients of Redis connect unchanged: redis-py, redis-cli and redis-benchmark."""

import subprocess
import threading
import time

from crucible import run

HOST = {"heap": "128MiB", "threads": 2, "plugins": ("resp",)}


def client(server, **options):
    import redis

    return redis.Redis(port=server.resp_port, socket_timeout=60, **options)


def cli(server, *args, stdin=None):
    command = ["redis-cli", "-p", str(server.resp_port), *args]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=300, check=True)
    return done.stdout


def test_basic_calls_of_redis_py_in_both_protocols(server):
    for protocol in (2, 3):
        r = client(server, protocol=protocol)
        r.flushall()
        assert r.set("k", "v", ex=1000) and r.get("k") == b"v" and 900 < r.ttl("k") <= 1000
        assert r.set("k", "w", nx=True) is None
        assert r.set("k", "w", get=True) == b"v"
        assert r.mset({"a": 1, "b": 2}) and r.mget("a", "none", "b") == [b"1", None, b"2"]
        assert r.incr("a", 41) == 42 and r.incrbyfloat("b", 0.5) == 2.5
        assert r.append("k", "xyz") == 4 and r.getrange("k", 1, 2) == b"xy"
        assert r.delete("a", "b", "none") == 2 and not r.exists("a")
        assert r.expire("k", 50, gt=True) == 0 and r.persist("k") == 0
        assert r.setbit("bits", 9, 1) == 0 and r.bitcount("bits") == 1 and r.bitpos("bits", 1) == 9
        assert r.bitfield("f").set("u8", 0, 200).incrby("u8", 0, 100, "SAT").execute() == [0, 255]
        assert r.type("k") == b"string" and r.rename("k", "l") and r.copy("l", "m")
        assert r.info()["redis_mode"] == "standalone" and r.dbsize() >= 3
        assert r.config_get("maxmemory*")["maxmemory-policy"]
        assert "get" in r.command() and r.command_count() > 90
        assert r.client_id() > 0 and r.client_setname("flow") and r.client_getname() in ("flow", b"flow")
        assert any(c["name"] == "flow" for c in r.client_list())
        assert r.time()[0] > 1_600_000_000 and r.echo("hi") == b"hi" and r.ping()
        dumped = r.dump("l")
        assert r.restore("restored", 0, dumped) and r.get("restored") == r.get("l")


def test_errors_reach_the_client_as_its_exceptions(server):
    import redis

    r = client(server)
    for call in (
        lambda: r.execute_command("NOSUCH", "a"),
        lambda: r.execute_command("GET"),
        lambda: r.hset("h", "f", "v"),
        lambda: r.eval("return 1", 0),
    ):
        try:
            call()
        except redis.ResponseError:
            continue
        raise AssertionError("no error")
    r.set("k", "text")
    try:
        r.incr("k")
        raise AssertionError("no error")
    except redis.ResponseError as error:
        assert "not an integer" in str(error)


def test_a_pipeline_of_thousands_keeps_its_order(server):
    r = client(server)
    pipe = r.pipeline(transaction=False)
    for i in range(5000):
        pipe.set(f"p:{i}", i)
        pipe.get(f"p:{i}")
        pipe.execute_command("GET", f"missing:{i}")
    answers = pipe.execute()
    assert len(answers) == 15000
    for i in range(5000):
        assert answers[3 * i : 3 * i + 3] == [True, str(i).encode(), None], i


def test_values_of_many_sizes_come_back_whole(server):
    r = client(server)
    for size in (0, 1, 15, 16, 4095, 4096, 16383, 16384, 65535, 65536, 100_000, 1_000_000):
        value = bytes(i * 31 % 251 for i in range(min(size, 1000))) * (size // 1000 + 1)
        value = value[:size]
        assert r.set("big", value, ex=1000)
        assert r.get("big") == value and r.strlen("big") == size and r.ttl("big") > 900, size
        assert r.set("big", value, xx=True, keepttl=True, get=True) == value


def test_optimistic_transactions_lose_no_update(server):
    import redis

    client(server).set("counter", 0)

    def add(n):
        r = client(server)
        for _ in range(n):
            while True:
                with r.pipeline() as pipe:
                    try:
                        pipe.watch("counter")
                        now = int(pipe.get("counter"))
                        pipe.multi()
                        pipe.set("counter", now + 1)
                        pipe.execute()
                        break
                    except redis.WatchError:
                        continue

    threads = [threading.Thread(target=add, args=(50,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert int(client(server).get("counter")) == 200


def test_one_of_many_wins_a_lock(server):
    wins = []

    def take():
        if client(server).set("lock", "x", nx=True, px=600_000):
            wins.append(1)

    threads = [threading.Thread(target=take) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert len(wins) == 1


def test_messages_arrive_in_order_on_every_worker(server):
    r = client(server)
    listeners = [client(server).pubsub() for _ in range(4)]
    for listener in listeners:
        listener.subscribe("news")
        listener.psubscribe("ne*")
        for _ in range(2):
            assert listener.get_message(timeout=60)["type"].endswith("subscribe")
    for i in range(100):
        assert r.publish("news", f"m{i}") == 8
    for listener in listeners:
        exact, matched = [], []
        while len(exact) + len(matched) < 200:
            message = listener.get_message(timeout=60)
            assert message, (len(exact), len(matched))
            (exact if message["type"] == "message" else matched).append(message["data"])
        expected = [f"m{i}".encode() for i in range(100)]
        assert exact == expected and matched == expected
        listener.close()


def test_client_side_caching_of_redis_py_hears_of_changes(server):
    from redis.cache import CacheConfig

    writer = client(server)
    cached = client(server, protocol=3, cache_config=CacheConfig())
    writer.set("cached", "1")
    assert cached.get("cached") == b"1" and cached.get("cached") == b"1"
    writer.set("cached", "2")
    limit = time.monotonic() + 60
    while cached.get("cached") != b"2":
        assert time.monotonic() < limit, "the invalidation never came"


def test_scan_finds_every_key(server):
    r = client(server)
    r.flushall()
    pipe = r.pipeline(transaction=False)
    for i in range(3000):
        pipe.set(f"scan:{i}", i)
    pipe.execute()
    assert {k for k in r.scan_iter(match="scan:*", count=100)} == {
        f"scan:{i}".encode() for i in range(3000)
    }
    assert len(r.keys("scan:1?")) == 10 and r.dbsize() == 3000
    assert r.flushall() and r.dbsize() == 0 and r.randomkey() is None


def test_redis_cli_talks_pipes_and_shows_help(server):
    assert cli(server, "set", "k", "v") == b"OK\n" and cli(server, "get", "k") == b"v\n"
    assert cli(server, "-3", "hello").startswith(b"server redis")
    assert b"k" in cli(server, "--scan")
    assert cli(server, "--raw", "incr", "n") == b"1\n"
    protocol = b"".join(b"*3\r\n$3\r\nSET\r\n$4\r\np%03d\r\n$1\r\nx\r\n" % i for i in range(500))
    assert b"replies: 500" in cli(server, "--pipe", stdin=protocol)
    assert b"errors: 0" in cli(server, "--pipe", stdin=protocol)
    assert b"SET key value" in cli(server, "help", "set") or b"SET" in cli(server, "help", "set")
    assert cli(server, "info", "server").startswith(b"# Server")


def test_redis_benchmark_runs_over_the_string_commands(server):
    for tests in ("ping_inline,ping_mbulk,set,get,incr,mset",):
        for extra in ([], ["-P", "16"], ["-d", "1024"], ["-3"]):
            command = ["redis-benchmark", "-p", str(server.resp_port), "-t", tests, "-n", "2000",
                       "-c", "20", "-q", *extra]
            done = subprocess.run(command, capture_output=True, timeout=300, check=True)
            text = done.stdout.decode() + done.stderr.decode()
            assert text.count("requests per second") >= 6, text
            assert "rror" not in text, text


def test_a_connection_reset_forgets_everything(server):
    import redis

    r = redis.Redis(port=server.resp_port, single_connection_client=True)
    r.client_setname("x")
    r.execute_command("MULTI")
    r.execute_command("RESET")
    assert r.client_getname() in (None, "") and r.get("nothing") is None


if __name__ == "__main__":
    run(__file__, globals())
