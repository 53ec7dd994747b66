"""What clients do wrong on the RESP listener costs one clear error or a clean close, bounded memory,
and nothing to anybody else."""

import random
import socket

from crucible import run

HOST = {"heap": "64MiB", "threads": 2}
MIB = 1 << 20
# Buffers for a connection, allocator slack and page granularity, for a handful of connections.
GROWTH_KIB_MAX = 24 << 10


def command(*words):
    """A command as an array of bulk strings."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(parts)


def others_are_fine(server):
    """A fresh connection is served."""
    with server.connect() as wire:
        wire.ask(command(b"SET", b"probe", b"ok"), b"+OK\r\n")
        wire.ask(command(b"GET", b"probe"), b"$2\r\nok\r\n")


def is_refused_or_answered(wire, request, following=True):
    """One reply comes for the request; if the connection stays, the next command is answered."""
    wire.send(request + (command(b"PING") if following else b""))
    try:
        first = wire.line()
        if first.startswith(b"-ERR Protocol error"):
            assert wire.closed(), "open after a protocol error"
            return first
        assert first[:1] in (b"+", b"-", b"$", b":"), first
        wire.expect(b"+PONG\r\n")
        return first
    except (ConnectionError, TimeoutError) as error:
        raise AssertionError(f"no reply: {error}") from error


def test_an_empty_key_is_answered_and_the_next_command_too(server):
    with server.connect() as wire:
        is_refused_or_answered(wire, command(b"SET", b"", b"v"))
        is_refused_or_answered(wire, command(b"DEL", b""))
    others_are_fine(server)


def test_a_key_of_65_kib_is_answered_and_the_next_command_too(server):
    with server.connect() as wire:
        is_refused_or_answered(wire, command(b"SET", b"k" * 65 * 1024, b"v"))
        wire.send(command(b"GET", b"k" * 65 * 1024) + command(b"PING"))
        assert wire.line()[:1] in (b"$", b"-")
    others_are_fine(server)


def test_a_bulk_of_512_mib_is_not_allocated_when_it_is_announced(server):
    before = server.rss_kib()
    wires = [server.connect() for _ in range(8)]
    for wire in wires:
        wire.send(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$536870912\r\n" + b"x" * 1000)
    others_are_fine(server)
    grown = server.rss_kib() - before
    assert grown < GROWTH_KIB_MAX, f"grew by {grown} KiB"
    for wire in wires:
        wire.close()
    others_are_fine(server)


def test_an_array_of_a_million_is_not_allocated_when_it_is_announced(server):
    before = server.rss_kib()
    wires = [server.connect() for _ in range(8)]
    for wire in wires:
        wire.send(b"*1000000\r\n$4\r\nMGET\r\n" + b"$1\r\nk\r\n" * 100)
    others_are_fine(server)
    grown = server.rss_kib() - before
    assert grown < GROWTH_KIB_MAX, f"grew by {grown} KiB"
    for wire in wires:
        wire.close()


def test_half_a_command_then_silence_blocks_nobody(server):
    whole = command(b"SET", b"half", b"value")
    with server.connect() as slow:
        for end in (1, 5, 14, len(whole) - 1):
            slow.send(whole[:end])
            others_are_fine(server)
            slow.ask(whole[end:], b"+OK\r\n")


def test_a_client_that_never_reads_is_bounded_and_gets_everything_once_it_reads(server):
    value = b"v" * 8000
    before = server.rss_kib()
    request = command(b"ECHO", value)
    with server.connect() as wire:
        wire.sock.setblocking(False)
        sent = 0
        stuck = 0
        # The server stops reading us; then neither side's kernel takes more.
        while stuck < 200 and sent < 128 * MIB:
            try:
                sent += wire.sock.send((request * 20)[sent % len(request):])
                stuck = 0
            except BlockingIOError:
                stuck += 1
                others_are_fine(server)
        assert stuck, "128 MiB of requests were read without one reply taken"
        grown = server.rss_kib() - before
        assert grown < GROWTH_KIB_MAX, f"grew by {grown} KiB"
        wire.sock.settimeout(60)
        reply = b"$8000\r\n" + value + b"\r\n"
        for _ in range(sent // len(request)):
            wire.expect(reply)
    others_are_fine(server)


def test_a_client_that_leaves_in_the_middle_of_a_value_leaves_nothing_behind(server):
    # Far more than the store holds: memory of one abandoned value must serve the next.
    head = b"*3\r\n$3\r\nSET\r\n$6\r\nupload\r\n$1000000\r\n"
    for number in range(200):
        wire = server.connect()
        wire.send(head + b"x" * 400_000)
        if number % 2:
            # An RST in place of a FIN.
            wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        wire.close()
    with server.connect() as wire:
        wire.ask(command(b"EXISTS", b"upload"), b":0\r\n")
        for number in range(100):
            wire.ask(command(b"SET", b"whole%d" % number, b"y" * 900_000), b"+OK\r\n")
        wire.ask(command(b"STRLEN", b"whole99"), b":900000\r\n")
    others_are_fine(server)


def test_random_bytes_close_their_connection_and_no_other(server):
    numbers = random.Random(20261122)
    with server.connect() as witness:
        for _ in range(100):
            with server.connect() as wire:
                try:
                    wire.send(numbers.randbytes(numbers.randrange(1, 20_000)))
                    wire.sock.shutdown(socket.SHUT_WR)
                    while wire.sock.recv(65536):
                        pass
                except OSError:
                    pass
            witness.ask(command(b"PING"), b"+PONG\r\n")
    others_are_fine(server)


def test_all_of_it_again_grows_the_process_by_nothing(server):
    trials = [test_a_bulk_of_512_mib_is_not_allocated_when_it_is_announced,
              test_an_array_of_a_million_is_not_allocated_when_it_is_announced,
              test_a_client_that_leaves_in_the_middle_of_a_value_leaves_nothing_behind,
              test_random_bytes_close_their_connection_and_no_other]
    # An allocator may keep a peak that chance makes higher; what leaks grows in every round.
    grown = []
    while not grown or grown[-1] >= 4096:
        assert len(grown) < 6, f"grew by {grown} KiB"
        before = server.rss_kib()
        for trial in trials:
            trial(server)
        grown.append(server.rss_kib() - before)


if __name__ == "__main__":
    run(__file__, globals())
