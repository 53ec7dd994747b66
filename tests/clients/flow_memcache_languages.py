"""Ruby's dalli, Go's gomemcache and Java's spymemcached connect unchanged; twemproxy forwards to several hosts."""

import os
import subprocess
import tempfile
import time

from crucible import Server, free_port, run

HOST = {"plugins": ("memcache",), "heap": "64MiB"}
HERE = os.path.dirname(os.path.abspath(__file__))


def program(command, says, **env):
    done = subprocess.run(
        command, cwd=HERE, env=dict(os.environ, **env), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 and says in done.stdout, done.stdout[-2000:] + done.stderr[-3000:]


def test_dalli_in_its_binary_and_its_meta_protocol(server):
    program(["ruby", "dalli_flow.rb", str(server.memcache_port)], "dalli: all claims hold")


def test_gomemcache_with_many_connections(server):
    with tempfile.TemporaryDirectory() as cache:
        program(
            ["go", "run", "gomemcache_flow.go", str(server.memcache_port)],
            "gomemcache: all claims hold",
            GO111MODULE="off", GOPATH="/usr/share/gocode", GOCACHE=cache, GOFLAGS="",
        )


def test_spymemcached_in_its_text_and_its_binary_protocol(server):
    jar = "/usr/share/java/spymemcached.jar"
    program(
        ["java", "-cp", jar, "SpymemcachedFlow.java", str(server.memcache_port)],
        "spymemcached: all claims hold",
    )


class Twemproxy:
    """nutcracker on a free port, in front of memcache servers."""

    def __init__(self, ports):
        self.port = free_port()
        self.dir = tempfile.TemporaryDirectory()
        path = os.path.join(self.dir.name, "nutcracker.yml")
        lines = [
            "pool:",
            f"  listen: 127.0.0.1:{self.port}",
            "  hash: md5",  # fnv1a puts keys that differ in their last byte close together
            "  distribution: ketama",
            "  auto_eject_hosts: true",
            "  server_retry_timeout: 60000",
            "  server_failure_limit: 1",
            "  timeout: 60000",
            "  servers:",
        ] + [f"   - 127.0.0.1:{port}:1" for port in ports]
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        self.process = subprocess.Popen(
            ["nutcracker", "-c", path, "-o", os.path.join(self.dir.name, "log"), "-s", str(free_port())],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )

    def client(self):
        from pymemcache.client.base import Client

        limit = time.monotonic() + 60
        while True:
            try:
                client = Client(("127.0.0.1", self.port), default_noreply=False, timeout=60)
                client.get("up")
                return client
            except ConnectionError:
                assert time.monotonic() < limit and self.process.poll() is None, "twemproxy does not answer"
                time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)
        self.dir.cleanup()


def test_twemproxy_spreads_keys_and_leaves_a_killed_host_out(server):
    servers = [Server(plugins=("memcache",), threads=1) for _ in range(3)]
    try:
        with Twemproxy([s.memcache_port for s in servers]) as proxy:
            c = proxy.client()
            values = {f"key:{i}": b"%d" % i for i in range(300)}
            for key, value in values.items():
                assert c.set(key, value)
            assert c.get_many(list(values) + ["none"]) == values, "fragments are put together"
            assert c.add("key:7", b"x") is False and c.incr("key:7", 3) == 10 and c.delete("key:7")
            value, token = c.gets("key:8")
            assert value == b"8" and c.cas("key:8", b"9", token) is True and c.cas("key:8", b"9", token) is False
            assert c.append("key:8", b"0") and c.get("key:8") == b"90"
            large = bytes(range(256)) * 2000
            assert c.set("large", large) and c.get("large") == large
            for s in servers:
                with s.connect("memcache") as wire:
                    wire.send(b"stats\r\n")
                    items = 0
                    while (line := wire.line()) != b"END":
                        items = int(line.split()[2]) if line.startswith(b"STAT curr_items ") else items
                    assert items > 30, "every host has its part"
            servers[0].signal(9)
            servers[0].wait()
            served = 0
            for key in values:
                try:
                    served += c.set(key, b"again")
                except Exception:  # pylint: disable=broad-except
                    c = proxy.client()  # the first to meet the dead host is told of it
            assert served >= 290, served
            assert sum(c.get(key) == b"again" for key in values) >= 290
    finally:
        for s in servers:
            s.stop()


if __name__ == "__main__":
    run(__file__, globals())
