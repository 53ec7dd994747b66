"""redis-py works with hashes, lists, sets and sorted sets, and waits for elements across workers."""

import threading
import time

HOST = {"heap": "128MiB", "threads": 2, "plugins": ("resp", "memcache"), "backend": "heap"}

# Long enough for a loaded machine; nothing waits so long when it works.
LIMIT_S = 60


def client(server, **options):
    import redis

    options.setdefault("decode_responses", True)
    return redis.Redis(port=server.resp_port, socket_timeout=LIMIT_S, **options)


def eventually(claim):
    deadline = time.monotonic() + LIMIT_S
    while not claim():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def in_thread(work):
    """Runs `work` beside us; what it returns comes from the function that is given back."""
    result = []
    thread = threading.Thread(target=lambda: result.append(work()), daemon=True)
    thread.start()

    def join():
        thread.join(LIMIT_S)
        assert result, "it is still waiting"
        return result[0]

    return join


def waiting(r, n):
    eventually(lambda: r.info("clients")["blocked_clients"] == n)


def test_structures_in_both_versions(server):
    for protocol in (2, 3):
        r = client(server, protocol=protocol)
        r.flushall()
        assert r.hset("h", mapping={"a": 1, "b": 2}) == 2
        assert r.hgetall("h") == {"a": "1", "b": "2"}
        assert r.hmget("h", "a", "x") == ["1", None]
        assert dict(r.hscan_iter("h")) == {"a": "1", "b": "2"}
        assert r.hexpire("h", 1000, "a", "x") == [1, -2]
        left, never = r.httl("h", "a", "b")
        assert 900 < left <= 1000 and never == -1
        assert r.hincrbyfloat("h", "b", 0.5) == 2.5
        assert r.rpush("l", "a", "b", "c") == 3 and r.lrange("l", 0, -1) == ["a", "b", "c"]
        assert r.lpop("l", 2) == ["a", "b"] and r.lpos("l", "c") == 0
        assert r.lmove("l", "m", "LEFT", "RIGHT") == "c" and r.exists("l") == 0
        assert r.sadd("s", "x", "y") == 2 and set(r.smembers("s")) == {"x", "y"}
        assert set(r.sscan_iter("s")) == {"x", "y"} and r.smismember("s", ["x", "z"]) == [1, 0]
        assert r.zadd("z", {"one": 1, "two": 2.5}) == 2
        assert [tuple(p) for p in r.zrange("z", 0, -1, withscores=True)] == [("one", 1), ("two", 2.5)]
        assert r.zscore("z", "two") == 2.5 and r.zrank("z", "two") == 1
        assert r.zmpop(1, ["z"], min=True) == ["z", [["one", 1.0 if protocol == 3 else "1"]]]
        assert dict(r.zscan_iter("z")) == {"two": 2.5}
        r.rpush("n", 3, 1, 2)
        assert r.sort("n") == ["1", "2", "3"]


def test_large_structures_are_walked_whole(server):
    r = client(server)
    r.flushall()
    many = 20_000
    pipe = r.pipeline(transaction=False)
    for start in range(0, many, 500):
        names = range(start, start + 500)
        pipe.hset("h", mapping={f"f{i}": i for i in names})
        pipe.sadd("s", *(f"m{i}" for i in names))
        pipe.zadd("z", {f"m{i}": i / 4 for i in names})
        pipe.rpush("l", *names)
    pipe.execute()
    assert [r.hlen("h"), r.scard("s"), r.zcard("z"), r.llen("l")] == [many] * 4
    assert {k: int(v) for k, v in r.hscan_iter("h", count=100)} == {f"f{i}": i for i in range(many)}
    assert set(r.sscan_iter("s", count=100)) == {f"m{i}" for i in range(many)}
    assert dict(r.zscan_iter("z", count=100)) == {f"m{i}": i / 4 for i in range(many)}
    assert r.lrange("l", 0, -1) == [str(i) for i in range(many)]
    assert r.zrange("z", 19_000, 19_001) == ["m19000", "m19001"]
    assert r.zcount("z", 100, "(200") == 400 and r.zrevrank("z", "m0") == many - 1
    for key, kind in (("h", "hash"), ("s", "set"), ("z", "zset"), ("l", "list")):
        assert list(r.scan_iter(match=key, _type=kind)) == [key]


def test_pops_wait_for_pushes_of_any_worker(server):
    writer = client(server)
    writer.flushall()
    readers = [client(server) for _ in range(6)]
    for pop, push, got in (
        (lambda r: r.blpop(["x", "q"], 0), lambda: writer.rpush("q", "v"), ("q", "v")),
        (lambda r: r.brpop(["q"], 0), lambda: writer.lpush("q", "v"), ("q", "v")),
        (lambda r: r.blmove("q", "d", 0), lambda: writer.rpush("q", "v"), "v"),
        (lambda r: r.bzpopmin(["q"], 0), lambda: writer.zadd("q", {"v": 2}), ("q", "v", 2.0)),
        (lambda r: r.blmpop(0, 2, "x", "q", direction="LEFT"), lambda: writer.rpush("q", "v"),
         ["q", ["v"]]),
    ):
        for reader in readers:
            join = in_thread(lambda: pop(reader))
            waiting(writer, 1)
            push()
            answer = join()
            assert tuple(answer) == tuple(got) if isinstance(got, tuple) else answer == got, answer
            assert writer.exists("q") == 0


def test_those_who_wait_are_served_in_their_order(server):
    writer = client(server)
    writer.flushall()
    joins = []
    for n in range(8):
        reader = client(server)
        joins.append(in_thread(lambda reader=reader: reader.blpop("line", 0)[1]))
        waiting(writer, n + 1)
    writer.rpush("line", *range(3))
    for n in range(3, 8):
        writer.rpush("line", n)
    assert [join() for join in joins] == [str(n) for n in range(8)]


def test_a_wait_ends_with_its_time(server):
    r = client(server)
    r.flushall()
    began = time.monotonic()
    assert r.blpop("nothing", 0.5) is None
    # Not at once; to the millisecond it is measured where the clock is the test's.
    assert time.monotonic() - began >= 0.2
    assert r.bzpopmax("nothing", 0.05) is None and r.blmove("nothing", "d", 0.05) is None
    waiting(r, 0)


def test_many_producers_and_consumers_lose_nothing(server):
    """Each element is taken once, and in the order of its producer, whoever takes it."""
    r = client(server)
    r.flushall()
    producers, each = 4, 500
    taken = []

    def consume():
        mine, conn = [], client(server)
        while True:
            item = conn.blpop(["work"], LIMIT_S)[1]
            if item == "stop":
                return mine
            mine.append(item)

    def produce(p):
        conn = client(server)
        for n in range(each):
            conn.rpush("work", f"{p}:{n}")

    consumers = [in_thread(consume) for _ in range(4)]
    for join in [in_thread(lambda p=p: produce(p) or True) for p in range(producers)]:
        join()
    r.rpush("work", *["stop"] * 4)
    for join in consumers:
        mine = join()
        for p in range(producers):
            order = [int(i.split(":")[1]) for i in mine if i.startswith(f"{p}:")]
            assert order == sorted(order), "a consumer saw a producer's elements out of order"
        taken += mine
    assert sorted(taken) == sorted(f"{p}:{n}" for p in range(producers) for n in range(each))


def test_client_unblock_and_transactions(server):
    import redis

    r, other = client(server), client(server, single_connection_client=True)
    r.flushall()
    ident = other.client_id()
    join = in_thread(lambda: other.blpop("nothing", 0))
    waiting(r, 1)
    assert r.client_unblock(ident) == 1
    assert join() is None
    with r.pipeline() as pipe:
        pipe.rpush("l", "a").blpop(["l"], 0).blpop(["l"], 0).llen("l")
        assert pipe.execute() == [1, ("l", "a"), None, 0]
    try:
        r.incr("l2") and r.lpush("l2", "x")
        raise AssertionError("a list command on a string")
    except redis.ResponseError as error:
        assert str(error).startswith("WRONGTYPE"), error


def test_exec_with_structures_is_one_step_on_every_worker(server):
    import redis

    r = client(server)
    r.flushall()
    stop, failures = threading.Event(), []

    def move():
        # Elements go from the list to the set, the sorted set and the hash, all at once.
        mine = client(server)
        for i in range(200):
            with mine.pipeline(transaction=True) as pipe:
                pipe.rpush("l", i).lpop("l").sadd("s", i).zadd("z", {str(i): i}).hset("h", i, i)
                pipe.lrange("l", 0, -1)
                answers = pipe.execute()
            if answers != [1, str(i), 1, 1, 1, []]:
                failures.append(answers)
        stop.set()

    def look():
        mine = client(server)
        while not stop.is_set():
            with mine.pipeline(transaction=True) as pipe:
                length, *counts = pipe.llen("l").scard("s").zcard("z").hlen("h").execute()
            if length or len(set(counts)) != 1:
                failures.append((length, counts))
                return

    threads = [threading.Thread(target=move)] + [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert not failures and stop.is_set(), failures[:3]
    # A command that fails inside costs its own reply, not the others'; WATCH sees structures.
    with r.pipeline(transaction=True) as pipe:
        answers = pipe.rpush("l", "a").incr("l").llen("l").execute(raise_on_error=False)
    assert answers[0] == 1 and str(answers[1]).startswith("WRONGTYPE") and answers[2] == 1, answers
    with r.pipeline() as pipe:
        pipe.watch("l")
        client(server).rpush("l", "b")
        pipe.multi()
        pipe.llen("l")
        try:
            pipe.execute()
            raise AssertionError("the list had changed")
        except redis.WatchError:
            pass


def test_a_geo_search_sees_one_state_of_its_key(server):
    """Two members travel together, far away and back: whoever looks around one finds the other."""
    r = client(server)
    r.flushall()
    homes = [(13.361389, 38.115556), (-122.27652, 37.805186), (151.2, -33.86)]
    crowd = [value for n in range(300) for value in (0.01 * n, 0.01 * n, f"other{n}")]
    r.geoadd("g", crowd)
    r.geoadd("g", [*homes[0], "a", *homes[0], "b"])
    failures, stop = [], threading.Event()

    def travel():
        mine = client(server)
        for n in range(1500):
            lon, lat = homes[n % len(homes)]
            mine.geoadd("g", [lon, lat, "a", lon, lat, "b"])
        stop.set()

    def look():
        mine = client(server)
        while not stop.is_set() and not failures:
            found = mine.geosearch("g", member="a", radius=500, unit="km", sort="ASC")
            if found != ["a", "b"]:
                failures.append(found)

    threads = [threading.Thread(target=travel)] + [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert stop.is_set() and not failures, failures[:3]
    assert r.geosearchstore("near", "g", member="a", radius=500, unit="km") == 2
    assert r.zrange("near", 0, -1) == ["a", "b"] and r.geodist("near", "a", "b") == 0


def test_redis_benchmark_runs_over_the_structure_commands(server):
    import subprocess

    tests = "lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,lrange_300"
    for extra in ([], ["-P", "16"]):
        command = ["redis-benchmark", "-p", str(server.resp_port), "-t", tests, "-n", "1000", "-c", "20", "-q", *extra]
        done = subprocess.run(command, capture_output=True, timeout=300, check=True)
        text = done.stdout.decode() + done.stderr.decode()
        assert text.count("requests per second") >= 11 and "rror" not in text, text


def test_memcache_does_not_touch_structures(server):
    from pymemcache.client.base import Client

    r = client(server)
    r.flushall()
    r.rpush("l", "a")
    m = Client(("127.0.0.1", server.ports["memcache"]), timeout=LIMIT_S)
    try:
        m.append("l", b"x")
        m.get("l")
    except Exception:  # noqa: BLE001 - an error is as good as a miss here
        m.close()
    assert r.lrange("l", 0, -1) == ["a"]


if __name__ == "__main__":
    from crucible import run

    run(__file__, globals())
