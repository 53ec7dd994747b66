"""Out of descriptors, memory or disk: refused in a sentence or served later, never wrong, never dead."""

import json
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time

from crucible import HOST as ADDRESS
from crucible import Server, free_port, host_binary, run
from faults import HANG_S, Clients, benchmark, command, few_or_many, stats, wait_for

MIB = 1 << 20


def refused(*args, wrap=()):
    """Starts a host that must refuse; gives its sentence."""
    done = subprocess.run([*wrap, host_binary(), "--plugin", f"resp@{ADDRESS}:{free_port()}", *args],
                          capture_output=True, text=True, timeout=HANG_S,
                          stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 2, f"exit {done.returncode}: {done.stdout}{done.stderr}"
    assert "panicked" not in done.stderr, done.stderr
    return done.stderr.splitlines()[-1]


def test_out_of_descriptors_those_inside_are_served_and_those_outside_come_in_later(_server):
    with Server(wrap=["prlimit", "--nofile=120:120"], admin=True) as server:
        with Clients(server) as clients:
            waiting = []
            for _ in range(few_or_many(300, 1000)):
                sock = socket.create_connection((ADDRESS, server.resp_port), timeout=HANG_S)
                waiting.append(sock)
            clients.proceed()
            for sock in waiting:
                sock.close()
            # The acceptor is there again for everybody.
            for _ in range(20):
                with server.connect(timeout=HANG_S) as wire:
                    wire.ask(b"PING\r\n", b"+PONG\r\n")
            clients.proceed()


def test_more_descriptors_than_the_process_may_have_cost_no_cpu_while_they_wait(_server):
    with Server(wrap=["prlimit", "--nofile=120:120"], threads=1) as server:
        held = [socket.create_connection((ADDRESS, server.resp_port), timeout=HANG_S)
                for _ in range(200)]

        def cpu_ticks():
            with open(f"/proc/{server.pid}/stat", encoding="ascii") as file:
                words = file.read().rsplit(")", 1)[1].split()
            return int(words[11]) + int(words[12])

        before, begun = cpu_ticks(), time.monotonic()
        time.sleep(1.0)
        share = (cpu_ticks() - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - begun)
        assert share < 0.5, f"{share:.0%} of a CPU for connections that wait"
        for sock in held:
            sock.close()


def test_a_heap_that_does_not_fit_the_address_space_is_refused_in_a_sentence(_server):
    for backend in ("segcache", "heap"):
        wrap = ["prlimit", f"--as={900 * MIB}"]
        done = subprocess.run(
            [*wrap, host_binary(), "--plugin", f"resp@{ADDRESS}:{free_port()}", "--backend", backend,
             "--heap-size", "4GiB", "--threads", "1", "--check-config"],
            capture_output=True, text=True, timeout=HANG_S, stdin=subprocess.DEVNULL, check=False)
        assert "panicked" not in done.stderr, done.stderr
    sentence = refused("--heap-size", "4GiB", "--threads", "1", wrap=["prlimit", f"--as={900 * MIB}"])
    assert sentence.startswith("error: ") and ("memory" in sentence or "heap" in sentence), sentence


def test_no_more_address_space_while_serving_harms_no_answer(_server):
    with Server(heap="64MiB", threads=1, admin=True) as server:
        with Clients(server) as clients:
            with open(f"/proc/{server.pid}/statm", encoding="ascii") as statm:
                mapped = int(statm.read().split()[0]) * resource.getpagesize()
            # Room for a few buffers and no more: tables that want to grow are refused.
            resource.prlimit(server.pid, resource.RLIMIT_AS, (mapped + 8 * MIB,) * 2)
            clients.proceed()
            with server.connect(timeout=HANG_S) as wire:
                for i in range(few_or_many(40_000, 200_000)):
                    wire.send(command(b"SET", b"many-%d" % i, b"v"))
                    if i % 500 == 499:
                        for _ in range(500):
                            reply = wire.line()
                            assert reply == b"+OK" or reply.startswith(b"-"), reply
            clients.proceed()
            assert server.alive()
        assert stats(server)["panics"] == 0


def test_a_log_that_takes_no_more_stops_nothing(_server):
    with open("/dev/full", "w", encoding="ascii") as full:
        with Server(log_to=full, admin=True, args=["--set", "logging.level=debug"]) as server:
            with Clients(server) as clients:
                server.signal(signal.SIGHUP)
                clients.proceed()
            assert server.stop() == 0


class Disk:
    """A file system of one MiB, or None where it may not be mounted."""

    def __init__(self, size):
        self.size = size
        self.folder = tempfile.mkdtemp(prefix="crucible-disk-")

    def __enter__(self):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.size}", "none", self.folder],
                              check=False, capture_output=True)
        self.mounted = done.returncode == 0
        return self.folder if self.mounted else None

    def __exit__(self, *_):
        if self.mounted:
            subprocess.run(["umount", "-l", self.folder], check=False)
        os.rmdir(self.folder)


def test_a_log_on_a_full_disk_stops_nothing(_server):
    with Disk("64k") as folder:
        if folder is None:
            print("        (no file system may be mounted here; /dev/full alone was tried)")
            return
        with open(os.path.join(folder, "log"), "w", encoding="ascii") as log:
            with Server(log_to=log, args=["--set", "logging.level=trace"]) as server:
                with Clients(server) as clients:
                    clients.proceed(200)
                assert server.stop() == 0


def test_a_heap_file_on_a_disk_without_room_is_refused_in_a_sentence(_server):
    # Not later, by a signal, at the first touch of a page that has no room.
    with Disk("1m") as folder:
        if folder is None:
            print("        (no file system may be mounted here)")
            return
        sentence = refused("--heap-size", "64MiB", "--set", f"cache.persist={folder}/heap")
        assert sentence.startswith("error: ") and "heap" in sentence, sentence


def test_connections_above_a_memory_budget_are_closed_and_the_others_served(_server):
    args = ["--set", "limits.connection_memory=16MiB"]
    with Server(args, admin=True) as server:
        before = server.rss_kib()
        with Clients(server) as clients:
            hogs = [server.connect() for _ in range(few_or_many(16, 64))]
            # A command that is never whole: its first values wait for the last one.
            half = command(b"MSET", *[b"p" * 50_000] * 40)[:36 * 50_000]
            for hog in hogs:
                hog.send(half)
            wait_for(lambda: stats(server)["memory_closes"] > 0)
            clients.proceed()
            # Every connection is looked at twice a second, and the largest are let go until it fits.
            wait_for(lambda: stats(server)["connection_bytes"] <= 16 * MIB)
            grown = server.rss_kib() - before
            assert grown < 160 << 10, f"grew by {grown} KiB"
            for hog in hogs:
                hog.close()
            clients.proceed()
        assert stats(server)["panics"] == 0


def test_a_store_filled_many_times_over_forgets_and_is_never_wrong(_server):
    for backend in ("segcache", "slab", "heap"):
        with Server(backend=backend, heap="32MiB", admin=True) as server:
            with Clients(server, tallies=0) as clients:
                evicted, deadline = 0, time.monotonic() + 600
                while evicted < few_or_many(20_000, 200_000):
                    # Keys of 400 MB together: each place of the store is taken again and again.
                    load = benchmark(server.resp_port, "-c", "4", "-P", "8", "--keys", "300000",
                                     "--prefill", "false", "--commands", "get=1,set=2",
                                     "--value-length", "weighted:100=5,1000=3,8000=1")
                    said, errors = load.communicate(timeout=600)
                    assert load.returncode == 0, errors
                    counts = [json.loads(text) for text in said.splitlines()][-1]["counts"]
                    assert counts["verified"] > 0, counts
                    for name in ("lost", "timeouts", "garbage", "disconnects"):
                        assert counts[name] == 0, (name, counts)
                    store = stats(server)["stores"]["cache"]
                    evicted = store["evicted"]
                    assert time.monotonic() < deadline, store
                    assert store["memory_used_bytes"] <= store["memory_limit_bytes"], store
                clients.proceed()
            rss = server.rss_kib()
            assert rss < 160 << 10, f"{backend}: {rss} KiB resident for a store of 32 MiB"


if __name__ == "__main__":
    run(__file__, globals())
