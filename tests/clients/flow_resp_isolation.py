"""Transactions and commands of several steps are one step for every other connection, worker and protocol."""

import socket
import threading

from crucible import run

HOST = {"heap": "64MiB", "threads": 4, "plugins": ("resp", "memcache")}


def command(*words):
    words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


class Team:
    """Threads that run until told to stop; what one of them raises is raised at the end."""

    def __init__(self):
        self.stop = threading.Event()
        self.threads, self.failures = [], []

    def start(self, work, *args):
        def guarded():
            try:
                work(*args)
            except BaseException as failure:  # pylint: disable=broad-except
                self.failures.append(failure)
                self.stop.set()

        thread = threading.Thread(target=guarded)
        self.threads.append(thread)
        thread.start()

    def join(self):
        for thread in self.threads:
            thread.join(300)
        if self.failures:
            raise self.failures[0]
        assert not any(t.is_alive() for t in self.threads), "somebody waits for ever"


def read_bulks(wire, count):
    values = []
    for _ in range(count):
        length = int(wire.line()[1:])
        values.append(None if length < 0 else wire.read(length + 2)[:-2])
    return values


def test_readers_of_all_protocols_and_workers_never_see_half_of_an_exec(server):
    # Each transaction writes all keys twice, in more commands than one batch takes: what its first
    # half leaves, different or not yet final, is for nobody to see.
    keys = ["key%02d" % i for i in range(40)]
    team, looks = Team(), [0, 0]
    with server.connect() as w:
        w.ask(command("MSET", *[word for key in keys for word in (key, "end")]), b"+OK\r\n")

    def write(name):
        with server.connect() as w:
            for n in range(60):
                value = "%s-%d-" % (name, n)
                steps = [("MULTI",)] + [("SET", key, value + last) for last in ("mid", "end") for key in keys]
                w.send(b"".join(command(*step) for step in steps + [("EXEC",)]) * 2)
                w.expect((b"+OK\r\n" + b"+QUEUED\r\n" * 80 + b"*80\r\n" + b"+OK\r\n" * 80) * 2)

    def judge(values, protocol):
        assert len(set(values)) == 1 and values[0].endswith(b"end"), values
        looks[protocol] += 1

    def read():
        with server.connect() as w:
            while not team.stop.is_set():
                w.send(command("MGET", *keys) * 10)
                for _ in range(10):
                    assert w.line() == b"*40"
                    judge(read_bulks(w, 40), 0)

    def read_memcache():
        with server.connect("memcache") as w:
            while not team.stop.is_set():
                w.send(b"get %s\r\n" % " ".join(keys).encode() * 10)
                for _ in range(10):
                    values = []
                    while (line := w.line()) != b"END":
                        values.append(w.read(int(line.split()[3]) + 2)[:-2])
                    assert len(values) == 40
                    judge(values, 1)

    for _ in range(2):
        team.start(read)
        team.start(read_memcache)
    writers = Team()
    for name in "wxyz":
        writers.start(write, name)
    writers.join()
    team.stop.set()
    team.join()
    assert min(looks) >= 100, looks


def test_optimistic_locking_over_several_keys_loses_nothing(server):
    import redis

    rounds, each = 60, 6
    r = redis.Redis(port=server.resp_port)
    r.mset({"n": 0, "m": 0})

    def add():
        client = redis.Redis(port=server.resp_port)
        for _ in range(rounds):
            while True:
                with client.pipeline() as pipe:
                    try:
                        pipe.watch("n", "m")
                        n, m = int(pipe.get("n")), int(pipe.get("m"))
                        assert n == m, "half a transaction"
                        pipe.multi()
                        pipe.set("n", n + 1)
                        pipe.set("m", m + 1)
                        pipe.execute()
                        break
                    except redis.WatchError:
                        pass
                    except AssertionError:
                        # Two reads are two commands: another EXEC may lie between them, and then
                        # this one must fail. Seen as a difference, so start over.
                        pass

    team = Team()
    for _ in range(each):
        team.start(add)
    team.join()
    assert r.mget("n", "m") == [b"%d" % (rounds * each)] * 2


def test_a_key_is_under_one_of_its_names_while_it_is_renamed(server):
    team, done = Team(), threading.Event()
    with server.connect() as w:
        w.ask(command("SET", "old", "v") + command("DEL", "new"), b"+OK\r\n:0\r\n")

    def rename():
        with server.connect() as w:
            for _ in range(300):
                w.send((command("RENAME", "old", "new") + command("RENAMENX", "new", "old")) * 5)
                w.expect(b"+OK\r\n:1\r\n" * 5)
        done.set()

    def look():
        with server.connect() as w:
            while not done.is_set() and not team.stop.is_set():
                w.ask(command("EXISTS", "old", "new") * 20, b":1\r\n" * 20)

    team.start(rename)
    for _ in range(4):
        team.start(look)
    team.join()


def test_of_msetnx_that_race_one_stores_everything(server):
    barrier, wins = threading.Barrier(4), []

    def race(name):
        with server.connect() as w:
            for i in range(100):
                barrier.wait(300)
                keys = ["%d:%s" % (i, k) for k in ("x", "y", "z")]
                keys = keys if name % 2 else keys[::-1]
                w.send(command("MSETNX", *[part for key in keys for part in (key, name)]))
                if w.line() == b":1":
                    wins.append((i, b"%d" % name))

    team = Team()
    for name in range(4):
        team.start(race, name)
    team.join()
    assert sorted(i for i, _ in wins) == list(range(100)), "one winner each round"
    with server.connect() as w:
        for i, name in wins:
            w.ask(command("MGET", *["%d:%s" % (i, k) for k in "xyz"]), b"*3\r\n" + b"$1\r\n%s\r\n" % name * 3)


def test_clients_that_vanish_while_they_wait_for_the_store_hold_nobody_up(server):
    team = Team()

    def vanish():
        for _ in range(100):
            with socket.create_connection(("127.0.0.1", server.resp_port), timeout=60) as s:
                s.sendall((command("MULTI") + command("SET", "v", 1) + command("EXEC")) * 20)

    def go_on():
        with server.connect() as w, server.connect("memcache") as m:
            for i in range(300):
                w.ask(command("SET", "g", i) + command("RENAME", "g", "h"), b"+OK\r\n+OK\r\n")
                m.ask(b"get none\r\n", b"END\r\n")

    for _ in range(3):
        team.start(vanish)
    team.start(go_on)
    team.join()


if __name__ == "__main__":
    run(__file__, globals())
