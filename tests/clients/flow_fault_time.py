"""Signals without end, a process that is stopped, a clock that jumps: late at worst, never wrong."""

import os
import signal
import tempfile
import threading
import time

from crucible import Server, run
from faults import Clients, few_or_many, stats

LIBRARIES = ["/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
             "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"]
HOUR_S = 3600


def threads_of(pid):
    return [int(name) for name in os.listdir(f"/proc/{pid}/task")]


def test_a_storm_of_signals_interrupts_nobody(_server):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    # SIGWINCH is ignored by default and still interrupts what waits, once it has a handler; SIGCONT
    # interrupts waits even without one.
    with Server() as server, Clients(server) as clients:
        ending = threading.Event()

        def storm():
            tgkill = 234 if os.uname().machine == "x86_64" else 131
            while not ending.is_set():
                for thread in threads_of(server.pid):
                    libc.syscall(tgkill, server.pid, thread, signal.SIGCONT)
                    libc.syscall(tgkill, server.pid, thread, signal.SIGWINCH)
                time.sleep(0.0005)

        sender = threading.Thread(target=storm, daemon=True)
        sender.start()
        try:
            clients.proceed(few_or_many(500, 5000))
        finally:
            ending.set()
            sender.join()


def test_a_stop_of_seconds_makes_late_answers_and_no_wrong_ones(_server):
    with Server(admin=True) as server, Clients(server) as clients:
        for seconds in few_or_many([1.0], [1.0, 3.0, 8.0]):
            server.signal(signal.SIGSTOP)
            time.sleep(seconds)
            server.signal(signal.SIGCONT)
            clients.proceed()
        assert clients.losses() == 0, "a stop closed connections"
        assert stats(server)["process"]["connections_timed_out"] == 0


def test_time_to_live_goes_on_while_the_process_is_stopped(_server):
    with Server() as server, server.connect() as wire:
        wire.ask(b"SET brief v PX 400\r\n", b"+OK\r\n")
        wire.ask(b"SET long v EX 100\r\n", b"+OK\r\n")
        server.signal(signal.SIGSTOP)
        time.sleep(0.6)
        server.signal(signal.SIGCONT)
        wire.ask(b"GET brief\r\n", b"$-1\r\n")
        wire.ask(b"GET long\r\n", b"$1\r\nv\r\n")


class FakeClock:
    """A wall clock that the host sees and this flow moves; the monotonic one is left alone."""

    def __init__(self):
        self.library = next((path for path in LIBRARIES if os.path.exists(path)), None)
        assert self.library, "libfaketime is not installed"
        self.file = tempfile.NamedTemporaryFile("w", suffix=".time")
        self.move(0)

    def move(self, seconds):
        """Steps the clock to so many seconds beside the real one."""
        self.file.seek(0)
        self.file.write(f"{seconds:+d}s\n")
        self.file.truncate()
        self.file.flush()

    def env(self):
        return {"LD_PRELOAD": self.library, "FAKETIME_TIMESTAMP_FILE": self.file.name,
                "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1"}


def test_a_wall_clock_that_jumps_an_hour_ends_no_life_and_prolongs_none(_server):
    clock = FakeClock()
    with Server(env=clock.env(), admin=True) as server, server.connect() as wire:
        with Clients(server) as clients, server.connect("memcache") as memcache:
            for step in (HOUR_S, -HOUR_S, 0):
                wire.ask(b"SET hundred v EX 100\r\n", b"+OK\r\n")
                wire.ask(b"SET brief v PX 700\r\n", b"+OK\r\n")
                memcache.ask(b"set minute 0 60 1\r\nv\r\n", b"STORED\r\n")
                stored = time.monotonic()
                clock.move(step)
                # The host has looked at its clock by then, many times.
                clients.proceed()
                wire.ask(b"GET hundred\r\n", b"$1\r\nv\r\n")
                memcache.ask(b"get minute\r\n", b"VALUE minute 0 1\r\nv\r\nEND\r\n")
                wire.send(b"TTL hundred\r\n")
                left = int(wire.line()[1:])
                assert 100 - 2 - (time.monotonic() - stored) <= left <= 100, left
                while time.monotonic() < stored + 0.8:
                    time.sleep(0.02)
                wire.ask(b"GET brief\r\n", b"$-1\r\n")
        assert stats(server)["process"]["connections_timed_out"] == 0


def test_dates_are_off_by_no_more_than_the_step_and_nothing_else_is(_server):
    clock = FakeClock()
    with Server(env=clock.env()) as server, server.connect() as wire:
        wire.ask(b"SET plain v\r\n", b"+OK\r\n")
        clock.move(HOUR_S)
        with Clients(server) as clients:
            clients.proceed()
        wire.ask(b"SET dated v EXAT %d\r\n" % (int(time.time()) + HOUR_S + 100), b"+OK\r\n")
        wire.send(b"TTL dated\r\n")
        left = int(wire.line()[1:])
        assert 90 <= left <= HOUR_S + 101, f"{left} s of 100 are left"
        wire.ask(b"GET plain\r\n", b"$1\r\nv\r\n")


if __name__ == "__main__":
    run(__file__, globals())
