#!/usr/bin/env python3
"""Flows of real memcache clients, against any server.

    memcache_flow.py --port P [--host H] [--only TEXT]

pymemcache (text), pylibmc (libmemcached: text and binary) and
python-binary-memcached (binary).  Every check is one claim; the first that does
not hold ends it, and the exit code counts those that failed.  The same checks
run under `cargo xtask test` through flow_memcache_clients.py.
"""
import argparse
import os
import socket
import subprocess
import sys
import threading
import time
import traceback

VALUE_LARGE = os.urandom(300_000)
# A limit bounds a hang and decides nothing else.
LIMIT_S = 60


def key(name):
    return "flow-%d-%s" % (time.time_ns() % 10**9, name)


# --- pymemcache: text -------------------------------------------------------


def pymemcache_client(host, port, **kw):
    from pymemcache.client.base import Client

    return Client((host, port), timeout=LIMIT_S, connect_timeout=LIMIT_S, **kw)


def check_pymemcache_basic(host, port):
    c = pymemcache_client(host, port, default_noreply=False)
    k = key("a")
    assert c.get(k) is None
    assert c.set(k, b"1") and c.get(k) == b"1"
    assert c.add(k, b"2") is False and c.get(k) == b"1"
    assert c.replace(k, b"3") and c.replace(k + "n", b"3") is False
    assert c.append(k, b"4") and c.prepend(k, b"0") and c.get(k) == b"034"
    assert c.incr(k, 6) == 40 and c.decr(k, 50) == 0
    assert c.incr(k + "n", 1) is None
    assert c.touch(k, 100) and not c.touch(k + "n", 100)
    assert c.delete(k) and not c.delete(k)
    c.close()


def check_pymemcache_cas(host, port):
    c = pymemcache_client(host, port, default_noreply=False)
    k = key("cas")
    assert c.cas(k, b"x", "1") is None
    c.set(k, b"1")
    value, token = c.gets(k)
    assert value == b"1" and c.cas(k, b"2", token) is True
    assert c.cas(k, b"3", token) is False
    many = c.gets_many([k, k + "n"])
    assert list(many) == [k] and many[k][0] == b"2"
    c.close()


def check_pymemcache_many(host, port):
    c = pymemcache_client(host, port)
    k = key("m")
    values = {"%s-%d" % (k, i): b"v%d" % i for i in range(500)}
    assert c.set_many(values) == []
    got = c.get_many(list(values) + [k + "none"])
    assert got == values
    assert c.delete_many(list(values)[:250]) is True
    assert len(c.get_many(list(values))) == 250
    c.close()


def check_pymemcache_noreply(host, port):
    c = pymemcache_client(host, port, default_noreply=True)
    k = key("n")
    for i in range(50):
        c.set(k, b"%d" % i)
    c.append(k, b"0")
    c.incr(k, 1, noreply=True)
    assert c.get(k) == b"491"
    c.delete(k)
    assert c.get(k) is None
    c.close()


def check_pymemcache_flags_and_large_values(host, port):
    from pymemcache import serde

    c = pymemcache_client(host, port, serde=serde.pickle_serde, default_noreply=False)
    k = key("f")
    for value in (1, "text", {"a": [1, 2, 3]}, VALUE_LARGE, b""):
        assert c.set(k, value) and c.get(k) == value
    c.close()


def check_pymemcache_expiry(host, port):
    c = pymemcache_client(host, port, default_noreply=False)
    k = key("e")
    begun = time.monotonic()
    c.set(k, b"1", expire=2)
    c.set(k + "b", b"1", expire=600)
    c.set(k + "c", b"1", expire=-1)
    # A whole second of two at least, however the seconds of the server's clock lie.
    assert c.get(k) == b"1" or time.monotonic() - begun > 1
    assert c.get(k + "c") is None
    while c.get(k) is not None:
        assert time.monotonic() < begun + LIMIT_S, "two seconds have long passed"
        time.sleep(0.05)
    assert c.get(k + "b") == b"1"
    assert c.touch(k + "b", -1)
    assert c.get(k + "b") is None
    c.close()


def check_pymemcache_large_too_large(host, port):
    from pymemcache.exceptions import MemcacheServerError

    c = pymemcache_client(host, port, default_noreply=False)
    k = key("big")
    try:
        c.set(k, b"x" * (64 << 20))
        raise AssertionError("64 MiB were taken")
    except MemcacheServerError as e:
        assert b"object too large for cache" in e.args[0], e
    assert c.set(k, b"small") and c.get(k) == b"small"
    c.close()


def check_pymemcache_version_and_stats(host, port):
    c = pymemcache_client(host, port)
    version = c.version()
    assert [int(n) for n in version.split(b"-")[0].split(b".")][:2] >= [1, 6], version
    before = c.stats()
    k = key("s")
    c.set(k, b"1", noreply=False)
    c.get(k)
    c.get(k + "n")
    after = c.stats()

    def grew(name, by):
        return int(after[name]) - int(before[name]) >= by

    assert grew(b"cmd_get", 2) and grew(b"get_hits", 1) and grew(b"get_misses", 1), (before, after)
    assert grew(b"cmd_set", 1) and grew(b"total_items", 1)
    deadline = time.monotonic() + LIMIT_S  # traffic is added up once in a while
    while not (grew(b"bytes_read", 20) and grew(b"bytes_written", 20)):
        assert time.monotonic() < deadline, (before, after)
        after = c.stats()
    for name in (b"pid", b"uptime", b"time", b"curr_items", b"bytes", b"limit_maxbytes", b"threads", b"evictions"):
        assert int(after[name]) >= 0, name
    assert int(after[b"curr_connections"]) >= 1 and float(after[b"rusage_user"]) >= 0
    assert abs(int(after[b"time"]) - time.time()) < LIMIT_S
    assert b"maxbytes" in c.stats("settings")
    c.close()


# --- pylibmc: libmemcached ---------------------------------------------------


def check_pylibmc(host, port, binary):
    import pylibmc

    c = pylibmc.Client(["%s:%d" % (host, port)], binary=binary, behaviors={"cas": True, "tcp_nodelay": True})
    k = key("l%d" % binary)
    assert c.get(k) is None
    assert c.set(k, "v") and c.get(k) == "v"
    assert not c.add(k, "w") and c.replace(k, 5) and c.get(k) == 5
    value, token = c.gets(k)
    assert value == 5 and c.cas(k, 6, token)
    try:
        assert not c.cas(k, 7, token)
    except pylibmc.Error:
        pass
    assert c.incr(k, 4) == 10 and c.decr(k, 1) == 9
    assert c.set_multi({"%s-%d" % (k, i): i for i in range(200)}) == []
    got = c.get_multi(["%s-%d" % (k, i) for i in range(210)])
    assert len(got) == 200 and got[k + "-7"] == 7
    assert c.delete_multi(["%s-%d" % (k, i) for i in range(200)])
    assert c.set(k, VALUE_LARGE) and c.get(k) == VALUE_LARGE
    assert c.set(k, b"a") and c.append(k, b"b") and c.prepend(k, b"0") and c.get(k) == b"0ab"
    assert c.touch(k, 50) and c.delete(k) and c.get(k) is None
    assert c.get_stats()
    c.disconnect_all()


def check_pylibmc_text(host, port):
    check_pylibmc(host, port, False)


def check_pylibmc_binary(host, port):
    check_pylibmc(host, port, True)


# --- python-binary-memcached -------------------------------------------------


def check_bmemcached(host, port):
    import bmemcached

    c = bmemcached.Client(("%s:%d" % (host, port),), socket_timeout=LIMIT_S)
    k = key("b")
    assert c.get(k) is None
    assert c.set(k, "v") and c.get(k) == "v"
    assert not c.add(k, "w") and c.replace(k, {"x": 1}) and c.get(k) == {"x": 1}
    value, token = c.gets(k)
    assert value == {"x": 1} and c.cas(k, "y", token) and not c.cas(k, "z", token)
    assert c.delete(k)
    assert c.incr(k, 5, default=7) == 7 and c.incr(k, 5) == 12 and c.decr(k, 2) == 10
    assert c.set_multi({"%s-%d" % (k, i): str(i) for i in range(100)}) == []  # what failed
    got = c.get_multi(["%s-%d" % (k, i) for i in range(120)])
    assert len(got) == 100 and got[k + "-42"] == "42"
    assert c.set(k, VALUE_LARGE) and c.get(k) == VALUE_LARGE
    assert c.set(k, "1", time=100) and c.get(k) == "1"
    stats = c.stats()
    assert all(int(s["pid"]) > 0 for s in stats.values()), stats
    c.disconnect_all()


# --- what no client library shows ---------------------------------------------


def raw(host, port, send, until, timeout_s=LIMIT_S):
    with socket.create_connection((host, port), timeout=timeout_s) as s:
        s.sendall(send)
        data = b""
        while not data.endswith(until):
            more = s.recv(65536)
            if not more:
                break
            data += more
        return data


def check_stampede_has_one_winner(host, port):
    k = key("w").encode()
    wins = []
    barrier = threading.Barrier(8)

    def race(command):
        barrier.wait()
        reply = raw(host, port, command, b"\r\n")
        if b" W" in reply:
            wins.append(reply)

    for command, prepare in (
        (b"mg %s N30\r\n" % k, None),
        (b"mg %s s\r\n" % k, b"ms %s 1 T60\r\nx\r\nmd %s I T30\r\nmn\r\n" % (k, k)),
        (b"mg %s R90\r\n" % k, b"ms %s 1 T60\r\nx\r\nmn\r\n" % k),
    ):
        for _ in range(5):
            raw(host, port, prepare or b"md %s q\r\nmn\r\n" % k, b"MN\r\n")
            wins.clear()
            threads = [threading.Thread(target=race, args=(command,)) for _ in range(8)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            assert len(wins) == 1, (command, wins)


def check_pipeline_answers_every_command(host, port):
    k = key("p").encode()
    n = 2000
    send = b"".join(b"set %s%d 0 0 1\r\nx\r\nget %s%d\r\nbogus\r\n" % (k, i, k, i) for i in range(n)) + b"mn\r\n"
    reply = raw(host, port, send, b"MN\r\n")
    want = b"".join(b"STORED\r\nVALUE %s%d 0 1\r\nx\r\nEND\r\nERROR\r\n" % (k, i) for i in range(n)) + b"MN\r\n"
    assert reply == want, (len(reply), len(want))


def check_metadump_lists_what_is_stored(host, port):
    k = key("d").encode()
    raw(host, port, b"".join(b"set %s%d 0 0 1\r\nx\r\n" % (k, i) for i in range(300)) + b"mn\r\n", b"MN\r\n")
    reply = raw(host, port, b"lru_crawler metadump all\r\n", b"END\r\n")
    # memcached ends these lines with a bare "\n", and only the END with "\r\n".
    found = [line for line in reply.split(b"\n") if line.startswith(b"key=" + k)]
    assert len(found) == 300, (len(found), reply[:300])


def check_watch_tells_mutations_and_fetches(host, port):
    k = key("t").encode()
    with socket.create_connection((host, port), timeout=LIMIT_S) as w:
        w.sendall(b"watch fetchers mutations\r\n")
        assert w.recv(100) == b"OK\r\n"
        raw(host, port, b"set %s 0 0 1\r\nx\r\nget %s\r\nget %sn\r\nmn\r\n" % (k, k, k), b"MN\r\n")
        seen = b""
        while not (b"type=item_store key=%s " % k in seen and b"type=item_get key=%s " % k in seen):
            more = w.recv(65536)
            assert more, seen
            seen += more


def check_memcapable(host, port):
    for mode in ("-a", "-b"):
        p = subprocess.run(
            ["memccapable", "-h", host, "-p", str(port), "-t", str(LIMIT_S), mode], capture_output=True, text=True, timeout=300
        )
        assert p.returncode == 0 and "All tests passed" in p.stdout, p.stdout + p.stderr


CHECKS = [(name[len("check_"):], f) for name, f in list(globals().items()) if name.startswith("check_") and name != "check_pylibmc"]


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--host", default="127.0.0.1")
    a.add_argument("--port", type=int, required=True)
    a.add_argument("--only", default="")
    args = a.parse_args()
    failed = 0
    for name, check in CHECKS:
        if args.only not in name:
            continue
        try:
            check(args.host, args.port)
            print("ok   %s" % name)
        except Exception:
            failed += 1
            print("FAIL %s" % name)
            traceback.print_exc()
    return failed


if __name__ == "__main__":
    sys.exit(main())
