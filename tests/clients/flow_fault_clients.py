"""Clients that vanish, dawdle, do not read or come in thousands: others are served, what they held comes back."""

import os
import resource
import select
import socket
import time

from crucible import HOST as ADDRESS
from crucible import Server, run
from faults import Clients, Caller, admin, at_rest, body, command, few_or_many, number_of, reset
from faults import line, resp_value, stats, wait_for, HANG_S

MIB = 1 << 20
PROTOCOLS = ("resp", "memcache", "momento")
# Half a request of each protocol and encoding, as the first bytes of a connection.
BEGINNINGS = {
    "RESP": ("resp", b"*3\r\n$3\r\nSET\r\n$4\r\nslow\r\n$50\r\nvalue"),
    "RESP inline": ("resp", b"SET slow valu"),
    "RESP large value": ("resp", b"*3\r\n$3\r\nSET\r\n$4\r\nslow\r\n$500000\r\n" + b"v" * 2000),
    "memcache text": ("memcache", b"set slow 0 0 50\r\nvalue"),
    "memcache line": ("memcache", b"get slo"),
    "memcache meta": ("memcache", b"ms slow 50 T0\r\nval"),
    "memcache binary": ("memcache", b"\x80\x01\0\x04\x08\0\0\0\0\0\0\x20" + b"\0" * 12 + b"\0\0\0"),
    "HTTP/2 preface": ("momento", b"PRI * HTTP/2.0\r\n\r\nS"),
    "HTTP/2 frame": ("momento", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0\0\0\x40\1\4\0\0\0\1\x82"),
    "protosocket": ("momento", b"\x40\x10\x01\x52\x17\x12"),
    "admin": ("admin", b"GET /stats HTTP/1.1\r\nHost: x\r\nX-Slow: "),
}


def open_files_allowed(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))


def test_resets_in_the_middle_of_large_values_both_ways_leave_nothing(_server):
    with Server(admin=True) as server:
        with Clients(server) as clients:
            value = body(b"large", 1, 120_000)
            with server.connect() as wire:
                wire.ask(command(b"SET", b"large", value), b"+OK\r\n")
            upload = [("resp", b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$900000\r\n"),
                      ("memcache", b"set half 0 0 900000\r\n")]
            download = [("resp", command(b"GET", b"large")), ("memcache", b"get large\r\n")]
            for number in range(few_or_many(60, 600)):
                protocol, head = upload[number % 2]
                with server.connect(protocol) as wire:
                    wire.send(head + b"h" * (number * 7919 % 800_000))
                    reset(wire.sock)
                protocol, ask = download[number % 2]
                with server.connect(protocol) as wire:
                    wire.send(ask * 20)
                    wire.sock.recv(1 + number * 104_729 % 110_000)
                    reset(wire.sock)
            clients.proceed()
            # What half an upload was to replace is whole, and so is what others were sent.
            reader = Caller(server.resp_port)
            assert reader.ask(command(b"GET", b"half"), resp_value) is None
            found = reader.ask(command(b"GET", b"large"), resp_value)
            assert found is None or number_of(b"large", found) == 1
            reader.close()
        at_rest(server)
        assert stats(server)["panics"] == 0


def test_half_open_clients_are_let_go_by_time_outs(_server):
    # A peer that is gone without a word looks like one that is silent: only time tells.
    # What waits for a reader gets a second more for each 64 KiB, so little may wait.
    args = ["--set", "limits.idle_timeout=3s", "--set", "limits.write_timeout=3s",
            "--set", "limits.output_pause=64KiB", "--set", "limits.output_resume=32KiB"]
    with Server(args, plugins=PROTOCOLS, admin=True) as server:
        Caller(server.resp_port).ask(command(b"SET", b"large", b"v" * 4000), line)
        held = [server.connect(name) for name in PROTOCOLS for _ in range(20)]
        for _ in range(20):
            wire = server.connect()
            wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # More than the kernel holds for a connection.
            wire.send(command(b"GET", b"large") * 1500)
            held.append(wire)
        wait_for(lambda: stats(server)["process"]["connections_current"] == 0)
        at_rest(server)
        for wire in held:
            wire.close()


def test_a_dawdling_client_of_any_protocol_is_let_go_and_holds_up_nobody(_server):
    args = ["--set", "limits.request_timeout=1s", "--set", "limits.idle_timeout=4s"]
    with Server(args, plugins=PROTOCOLS, admin=True) as server, Clients(server) as clients:
        slow = {}
        for name, (protocol, start) in BEGINNINGS.items():
            for _ in range(few_or_many(3, 50)):
                sock = socket.create_connection((ADDRESS, server.ports[protocol]), timeout=HANG_S)
                sock.sendall(start)
                slow[sock] = name
        # A byte now and then does not buy more time.
        deadline = time.monotonic() + HANG_S + 30
        while slow:
            assert time.monotonic() < deadline, f"still connected: {sorted(set(slow.values()))}"
            for sock in list(slow):
                try:
                    sock.send(b"v")
                    if select.select([sock], [], [], 0)[0] and not sock.recv(65536):
                        raise ConnectionError
                except OSError:
                    slow.pop(sock)
                    sock.close()
            time.sleep(0.2)
        clients.proceed()


def test_clients_that_never_read_cost_a_bounded_amount_and_stop_nobody(_server):
    with Server(["--set", "limits.write_timeout=20s"], admin=True) as server:
        before = server.rss_kib()
        with Clients(server) as clients:
            with server.connect() as wire:
                wire.ask(command(b"SET", b"large", b"v" * 120_000), b"+OK\r\n")
            deaf = []
            for number in range(few_or_many(20, 100)):
                wire = server.connect(("resp", "memcache")[number % 2])
                wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                wire.sock.setblocking(False)
                ask = (command(b"GET", b"large"), b"get large\r\n")[number % 2]
                try:
                    wire.sock.send(ask * 500)
                except BlockingIOError:
                    pass
                deaf.append(wire)
            clients.proceed(200)
            # A reply holds a pin, not a copy; a few hundred KiB of buffers each at most.
            grown = server.rss_kib() - before
            limit = (64 << 10) + len(deaf) * 1536
            assert grown < limit, f"grew by {grown} KiB for {len(deaf)} clients"
            for wire in deaf:
                wire.close()
            clients.proceed()
        at_rest(server)


def test_thousands_of_clients_that_come_and_vanish_leave_nothing(_server):
    open_files_allowed(4096)
    with Server(plugins=PROTOCOLS, admin=True) as server:
        with Clients(server) as clients:
            before, rss = server.descriptors(), server.rss_kib()
            batch, held = 200, []
            for number in range(few_or_many(3000, 10_000)):
                port = server.ports[PROTOCOLS[number % 3]]
                sock = socket.socket()
                sock.setblocking(False)
                sock.connect_ex((ADDRESS, port))
                held.append(sock)
                if len(held) == batch:
                    for at, sock in enumerate(held):
                        try:
                            sock.send(b"get k\r\n"[:at % 8])
                        except OSError:
                            pass
                        if at % 2:
                            reset(sock)
                        else:
                            sock.close()
                    held.clear()
            clients.proceed()
            grown = server.rss_kib() - rss
            assert grown < 48 << 10, f"grew by {grown} KiB"
            wait_for(lambda: server.descriptors() <= before)
        at_rest(server)
        assert stats(server)["panics"] == 0


def test_ten_thousand_clients_at_once_are_served_and_cost_little_each(_server):
    count = few_or_many(1500, 10_000)
    open_files_allowed(count + 500)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = min(count, soft - 400)
    with Server(wrap=["prlimit", f"--nofile={min(2 * count + 1000, hard)}"], admin=True) as server:
        rss = server.rss_kib()
        with Clients(server) as clients:
            held = [socket.create_connection((ADDRESS, server.resp_port), timeout=HANG_S)
                    for _ in range(allowed)]
            for sock in held:
                sock.sendall(b"PING\r\n")
            for sock in held:
                assert sock.recv(16) == b"+PONG\r\n"
            clients.proceed()
            each = (server.rss_kib() - rss) / len(held)
            assert each < 16, f"{each:.1f} KiB for each idle connection"
            for sock in held:
                sock.close()
            clients.proceed()
        at_rest(server)


def test_more_senders_at_once_than_receive_buffers_lose_no_byte(_server):
    args = ["--set", "uring.recv_buffers=64KiB", "--set", "uring.incremental_buffers=false"]
    with Server(args, admin=True, threads=1) as server:
        with Clients(server) as clients:
            senders = [server.connect(timeout=HANG_S) for _ in range(few_or_many(60, 300))]
            for turn in range(few_or_many(3, 20)):
                values = []
                for number, wire in enumerate(senders):
                    key = b"sender-%d" % number
                    value = body(key, turn, 20_000)
                    values.append((key, value))
                    wire.send(command(b"SET", key, value))
                for wire, (key, value) in zip(senders, values):
                    assert wire.line() == b"+OK"
                    wire.send(command(b"ECHO", value))
                for wire, (key, value) in zip(senders, values):
                    wire.expect(b"$%d\r\n%s\r\n" % (len(value), value))
            clients.proceed()
            for wire in senders:
                wire.close()
        status, text = admin(server, "GET", "/metrics")
        assert status == 200
        dry = [line for line in text.splitlines()
               if line.startswith("crucible_receive_buffer_exhaustions_total")]
        assert any(not line.endswith(" 0") for line in dry), f"buffers never ran out: {dry}"
        at_rest(server)


if __name__ == "__main__":
    run(__file__, globals())
