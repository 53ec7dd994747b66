"""Killed, restarted and replaced under load: clients reconnect, and no answer is ever wrong."""

import os
import signal
import tempfile
import time

from crucible import Server, run
from faults import HANG_S, Clients, Worker, Caller, body, command, few_or_many, line, number_of
from faults import resp_value

FOLDER = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def killed_and_restarted(server, rounds):
    with Clients(server, tallies=0) as clients:
        for _ in range(rounds):
            server.signal(signal.SIGKILL)
            server.wait()
            server.restart()
            clients.proceed()
        assert clients.losses() > 0, "nobody noticed a kill"


def test_clients_of_a_killed_server_come_back_and_read_nothing_wrong(_server):
    with Server() as server:
        killed_and_restarted(server, few_or_many(3, 20))


def test_a_killed_server_with_a_heap_file_gives_back_nothing_wrong(_server):
    with tempfile.TemporaryDirectory(prefix="crucible-kill-", dir=FOLDER) as folder:
        with Server(["--set", f"cache.persist={folder}/heap"]) as server:
            killed_and_restarted(server, few_or_many(3, 20))
            assert "did not come to a planned end" in server.log(), server.log()


def test_a_planned_restart_under_load_gives_back_only_what_was_acknowledged(_server):
    with tempfile.TemporaryDirectory(prefix="crucible-kill-", dir=FOLDER) as folder:
        with Server(["--set", f"cache.persist={folder}/heap"]) as server:
            with Clients(server, tallies=0) as clients:
                for _ in range(few_or_many(2, 10)):
                    server.signal(signal.SIGTERM)
                    assert server.wait() == 0, server.log()
                    server.restart()
                    clients.proceed()
            assert "warm start" in server.log(), server.log()


class Filler(Worker):
    """Acknowledged values of many keys, none of them needed to make room."""

    def __init__(self, port):
        super().__init__()
        self.caller = Caller(port)
        self.stored = 0

    def step(self):
        key = b"kept-%d" % self.stored
        reply = self.caller.ask(command(b"SET", key, body(key, self.stored, 500)), line)
        assert reply == b"+OK", reply
        self.stored += 1
        self.answered()


def test_what_was_acknowledged_before_a_planned_restart_is_there_after_it(_server):
    with tempfile.TemporaryDirectory(prefix="crucible-kill-", dir=FOLDER) as folder:
        with Server(["--set", f"cache.persist={folder}/heap"]) as server:
            filler = Filler(server.resp_port)
            filler.start()
            while filler.stored < few_or_many(2000, 20_000):
                filler.join(0.01)
                assert filler.error is None, filler.error
            server.signal(signal.SIGTERM)
            # The end of the server is a loss in the middle of a request, for this client.
            filler.join(HANG_S)
            assert not filler.is_alive() and server.wait() == 0
            server.restart()
            reader = Caller(server.resp_port)
            for number in range(filler.stored):
                key = b"kept-%d" % number
                value = reader.ask(command(b"GET", key), resp_value)
                assert value is not None, f"{key} of {filler.stored} is gone"
                assert number_of(key, value) == number


def test_the_last_of_many_kills_leaves_no_process_and_no_port(_server):
    # A kill right at the start, in the middle of it, and when it has just begun to serve.
    with Server() as server:
        for _ in range(few_or_many(3, 10)):
            server.signal(signal.SIGKILL)
            server.wait()
            server.restart()
        # The kernel takes a killed process's ring apart a moment after the process is gone, and its
        # listener with it: a connection that went there is reset.
        deadline = time.monotonic() + HANG_S
        while True:
            try:
                with server.connect() as wire:
                    wire.ask(b"PING\r\n", b"+PONG\r\n")
                    return
            except ConnectionError:
                assert time.monotonic() < deadline, "connections are still reset"


if __name__ == "__main__":
    run(__file__, globals())
