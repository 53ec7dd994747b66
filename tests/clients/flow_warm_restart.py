"""A planned restart finds every item in the heap's file; a kill or another heap finds none."""

import os
import signal
import tempfile
import time

from crucible import Server, run

FOLDER = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
ITEMS = 3000


class HeapFile:
    """A name for a heap's file, which is removed at the end."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="crucible-warm-", dir=FOLDER)
        self.path = os.path.join(self.folder.name, "heap")

    def server(self, heap="64MiB"):
        return Server(["--set", f"cache.persist={self.path}"], heap=heap)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.folder.cleanup()


def value(i):
    return b"%d:" % i * (i % 50 + 1)


def fill(server):
    """Stores items by memcache with flags, some with a TTL, one large; gives the token of one."""
    with server.connect("memcache") as wire:
        for i in range(ITEMS):
            body, ttl = value(i), 3600 if i % 2 else 0
            wire.send(b"set k%d %d %d %d\r\n%b\r\n" % (i, i, ttl, len(body), body))
        wire.expect(b"STORED\r\n" * ITEMS)
        wire.ask(b"set large 7 0 500000\r\n" + b"L" * 500000 + b"\r\n", b"STORED\r\n")
        wire.ask(b"set soon 0 1 1\r\nx\r\n", b"STORED\r\n")
        wire.ask(b"delete k4\r\n", b"DELETED\r\n")
        wire.send(b"gets k7\r\n")
        token = wire.line().split()[-1]
        wire.expect(value(7) + b"\r\nEND\r\n")
        return token


def assert_empty(server):
    with server.connect("memcache") as wire:
        for i in range(0, ITEMS, 50):
            wire.ask(b"get k%d\r\n" % i, b"END\r\n")
        wire.ask(b"set k0 0 0 1\r\nx\r\n", b"STORED\r\n")


def test_every_item_is_there_after_a_planned_restart(_server):
    with HeapFile() as heap:
        with heap.server() as server:
            assert "begins empty" in server.log(), server.log()
            token = fill(server)
            stored = time.monotonic()
            assert server.stop() == 0
            assert "left to the next start" in server.log(), server.log()
        with heap.server() as server, server.connect("memcache") as wire:
            assert "warm start" in server.log(), server.log()
            for i in range(ITEMS):
                if i == 4:
                    wire.ask(b"get k4\r\n", b"END\r\n")
                    continue
                body = value(i)
                wire.ask(b"get k%d\r\n" % i,
                         b"VALUE k%d %d %d\r\n%b\r\nEND\r\n" % (i, i, len(body), body))
            wire.ask(b"get large\r\n", b"VALUE large 7 500000\r\n" + b"L" * 500000
                     + b"\r\nEND\r\n")
            wire.send(b"mg k1 t\r\nmg k2 t\r\n")
            left = int(wire.line().split(b" t")[1])
            assert 3600 - 2 - (time.monotonic() - stored) <= left <= 3600, left
            wire.expect(b"HD t-1\r\n")
            wire.ask(b"cas k7 0 0 1 " + token + b"\r\ny\r\n", b"STORED\r\n")
            wire.ask(b"cas k7 0 0 1 " + token + b"\r\nz\r\n", b"EXISTS\r\n")
            while time.monotonic() < stored + 1.1:
                time.sleep(0.05)
            wire.ask(b"get soon\r\n", b"END\r\n")


def test_a_killed_server_leaves_nothing_to_believe(_server):
    with HeapFile() as heap:
        with heap.server() as server:
            fill(server)
            assert server.stop() == 0
        with heap.server() as server:
            assert "warm start" in server.log(), server.log()
            server.signal(signal.SIGKILL)
            server.wait()
        with heap.server() as server:
            assert "did not come to a planned end" in server.log(), server.log()
            assert_empty(server)


def test_another_heap_size_is_refused_and_the_cache_begins_empty(_server):
    with HeapFile() as heap:
        with heap.server() as server:
            fill(server)
            assert server.stop() == 0
        with heap.server(heap="32MiB") as server:
            assert "heap_size" in server.log(), server.log()
            assert_empty(server)


if __name__ == "__main__":
    run(__file__, globals())
