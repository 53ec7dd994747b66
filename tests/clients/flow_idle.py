"""Ten thousand idle connections cost at most 1 KiB of resident memory each."""

import resource
import socket

from crucible import run

HOST = {"heap": "64MiB", "threads": 2}
CONNECTIONS = 10_000
BYTES_EACH_MAX = 1024

# The host inherits the limit, so it is raised before it starts.
_, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_most, _most))
HOST_ARGS = ["--max-connections", "20000"]


def test_idle_connections_are_nearly_free(server):
    assert _most > CONNECTIONS + 1000, f"only {_most} open files are allowed here"
    before = server.rss_kib()
    idle = []
    for _ in range(CONNECTIONS):
        idle.append(socket.create_connection(("127.0.0.1", server.resp_port), timeout=60))
    # The last one is served, so all before it were accepted.
    for sock in (idle[0], idle[CONNECTIONS // 2], idle[-1]):
        sock.sendall(b"PING\r\n")
        assert sock.recv(7) == b"+PONG\r\n"
    each = (server.rss_kib() - before) * 1024 / CONNECTIONS
    print(f"        {each:.0f} bytes each")
    assert each <= BYTES_EACH_MAX, f"{each:.0f} bytes each"
    for sock in idle:
        sock.close()
    with server.connect() as wire:
        wire.ask(b"PING\r\n", b"+PONG\r\n")


if __name__ == "__main__":
    run(__file__, globals())
