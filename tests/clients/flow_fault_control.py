"""Scrapes, reloads, swaps of plugins and plugins that panic, all under load: answers stay right."""

import json
import os
import shutil
import signal
import tempfile
import threading
import time

from crucible import HOST as ADDRESS
from crucible import Server, free_port, host_binary, run
from faults import Clients, Lost, Caller, admin, at_rest, benchmark, few_or_many, fixture, line, stats
from faults import Witness, body, command, wait_for, HANG_S


class Busy:
    """Threads that repeat something until the end of the block; each must get on and go well."""

    def __init__(self, work, count):
        self.work, self.errors, self.done = work, [], 0
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self._repeat, daemon=True) for _ in range(count)]

    def _repeat(self):
        while not self.ending.is_set():
            try:
                self.work()
                self.done += 1
            except Exception as error:  # pylint: disable=broad-except
                self.errors.append(error)
                return

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        for thread in self.threads:
            thread.join(HANG_S)
            assert not thread.is_alive(), "a thread hangs"
        if self.errors:
            raise self.errors[0]


def test_the_witnesses_of_these_flows_notice_a_wrong_value(_server):
    with Server() as server:
        for value in (body(b"w-0", 1, 20), body(b"w-1", 3, 20), body(b"w-0", 3, 20)[:-1] + b"?"):
            with server.connect() as wire:
                wire.ask(b"FLUSHALL\r\n", b"+OK\r\n")
            witness = Witness(server.resp_port, "w", keys=1)
            witness.start()
            wait_for(lambda: witness.answers > 10)
            with server.connect() as wire:
                deadline = time.monotonic() + HANG_S
                while witness.error is None:
                    assert time.monotonic() < deadline, f"nobody noticed {value!r}"
                    wire.ask(command(b"SET", b"w-0", value), b"+OK\r\n")
            assert isinstance(witness.error, AssertionError), witness.error


def test_a_storm_of_scrapes_is_answered_and_disturbs_no_client(_server):
    with Server(admin=True) as server:
        before = server.rss_kib()

        def scrape():
            for path in ("/metrics", "/stats", "/history?since=0", "/connections?limit=100", "/mrc",
                         "/plugins", "/config", "/", "/health"):
                status, text = admin(server, "GET", path)
                assert status == 200 and text, (path, status)

        with Clients(server) as clients, Busy(scrape, 4) as busy:
            clients.proceed(few_or_many(300, 3000))
            wait_for(lambda: busy.errors or busy.done > few_or_many(20, 500))
        grown = server.rss_kib() - before
        assert grown < 96 << 10, f"grew by {grown} KiB"
        at_rest(server)


def test_the_configuration_is_reloaded_under_load_and_a_bad_one_changes_nothing(_server):
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        turn = [0]

        def write(bad=False):
            turn[0] += 1
            file.seek(0)
            file.truncate()
            file.write("[limits]\nidle_timeout = \"%ds\"\n" % (600 + turn[0] % 7))
            if bad:
                file.write("max_connectoins = 1\n")
            file.flush()

        write()
        with Server(["--config", file.name], admin=True) as server, Clients(server) as clients:
            for number in range(few_or_many(20, 300)):
                bad = number % 3 == 2
                write(bad)
                if number % 2:
                    server.signal(signal.SIGHUP)
                else:
                    status, text = admin(server, "POST", "/reload")
                    assert status == (409 if bad else 200), (status, text)
                clients.proceed(10)
            write()
            assert admin(server, "POST", "/reload")[0] == 200
            assert clients.losses() == 0, "a reload closed connections"


def test_a_plugin_is_replaced_under_load_and_no_request_is_lost(_server):
    with tempfile.TemporaryDirectory(prefix="crucible-swap-") as folder:
        built = os.path.dirname(host_binary())
        for name in ("resp", "memcache", "segcache"):
            shutil.copy(os.path.join(built, f"lib{name}.so"), folder)
        with Server(["--plugin-dir", folder], admin=True) as server, Clients(server) as clients:
            swapped = 0
            for _ in range(few_or_many(4, 12)):
                for name in ("resp", "memcache"):
                    # A new file of the same build, put in place by renaming.
                    fresh = os.path.join(folder, "fresh")
                    shutil.copy(os.path.join(built, f"lib{name}.so"), fresh)
                    os.rename(fresh, os.path.join(folder, f"lib{name}.so"))
                status, text = admin(server, "POST", "/plugins/reload")
                assert status == 200, text
                swapped += len(json.loads(text)["swapped"])
                clients.proceed(10)
                with server.connect() as wire:
                    wire.ask(b"PING\r\n", b"+PONG\r\n")
            assert clients.losses() == 0, "a swap closed connections"
            assert swapped > 0, "nothing was swapped"


def test_sessions_that_panic_close_alone_while_others_are_served(_server):
    port = free_port()
    args = ["--plugin", f"{fixture('hostile')}@{ADDRESS}:{port}"]
    with Server(args, admin=True) as server:
        panics = [0]
        words = [b"PANIC\n", b"PANIC-REPLY\n", b"PING\nPANIC\nPING\n"]

        def panic():
            caller = Caller(port)
            panics[0] += 1
            try:
                while True:
                    caller.ask(words[panics[0] % 3], lambda file: file.readline() or line(file))
            except Lost:
                pass

        with Clients(server) as clients, Busy(panic, 2) as busy:
            wait_for(lambda: busy.errors or busy.done > few_or_many(30, 500))
            clients.proceed()
            assert clients.losses() == 0, "a panic closed another's connection"
        assert stats(server)["panics"] >= busy.done
        at_rest(server)


def test_a_store_that_panics_ends_in_a_drain_that_says_so_and_no_wrong_answer(_server):
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        frail, sound = free_port(), free_port()
        file.write(f"[backend.frail]\nplugin = \"{fixture('shaky')}\"\n")
        for port, backend in ((frail, "frail"), (sound, "cache")):
            file.write(f"[[listener]]\nprotocol = \"resp\"\naddress = \"{ADDRESS}:{port}\"\n"
                       f"backend = \"{backend}\"\n")
        file.flush()
        with Server(["--config", file.name], plugins=(), admin=True) as server:
            witness = Witness(sound, "sound")
            witness.start()
            wait_for(lambda: witness.error or witness.answers > 100)
            caller = Caller(frail)
            assert caller.ask(command(b"SET", b"a", b"1"), line) == b"+OK"
            reply = caller.ask(command(b"GET", b"panic"), line)
            # An operation that failed is an error, never a miss.
            assert reply.startswith(b"-"), reply
            assert server.wait(HANG_S) == 1, "a broken store ended as if all were well"
            witness.ending.set()
            witness.caller.timeout = 0
            witness.join(HANG_S)
            assert not isinstance(witness.error, AssertionError), witness.error
            assert "a backend panicked" in server.log()


def test_the_generator_verifies_every_value_while_everything_happens_at_once(_server):
    with Server(plugins=("resp", "memcache", "momento"), admin=True) as server:
        turns = [0]

        def disturb():
            turns[0] += 1
            admin(server, "GET", "/metrics")
            server.signal(signal.SIGHUP)
            with server.connect("memcache") as wire:
                wire.send(b"set half 0 0 120000\r\n" + b"h" * 100_000)
            if turns[0] % 8 == 0:
                with server.connect() as wire:
                    wire.ask(b"FLUSHALL\r\n", b"+OK\r\n")
            time.sleep(0.1)

        length = few_or_many("2s", "20s")
        common = ["-c", "4", "-P", "4", "--commands", "get=6,set=3,delete=1",
                  "--value-length", "weighted:64=8,4000=3,60000=1", "--rate-limit", "2000"]
        loads = [benchmark(server.ports[plugin], *common, "--key-length", str(16 + at),
                           protocol=protocol, duration=length)
                 for at, (plugin, protocol) in enumerate(
                     [("resp", "resp"), ("resp", "resp3"), ("memcache", "memcache"),
                      ("memcache", "memcache-binary")])]
        with Busy(disturb, 1):
            for load in loads:
                said, errors = load.communicate(timeout=600)
                assert said, errors
                result = [json.loads(text) for text in said.splitlines()][-1]
                assert load.returncode == 0, f"{errors}{result}"
                counts = result["counts"]
                assert counts["verified"] > 0, result
                for name in ("errors", "lost", "timeouts", "garbage", "disconnects"):
                    assert counts[name] == 0, (name, counts, result["error_words"])


if __name__ == "__main__":
    run(__file__, globals())
