"""The memcache listener answers every scripted line byte for byte as a memcached beside it does, over every backend."""
import os
import subprocess
import sys

import crucible
from crucible import Server, run

HOST = {"plugins": ("memcache",)}


def compare(port):
    here = os.path.dirname(os.path.abspath(__file__))
    p = subprocess.run(
        [sys.executable, os.path.join(here, "memcache_diff.py"), "--port", str(port)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert p.returncode == 0, p.stdout[-6000:] + p.stderr[-2000:]


def test_answers_are_memcacheds_or_documented(server):
    compare(server.memcache_port)


def test_answers_do_not_depend_on_the_backend(server):
    folder = os.path.dirname(crucible.host_binary())
    # An item of slab is no longer than a slab, and the longest value here has a mebibyte.
    for backend, settings in (("slab", ["--set", "cache.slab_size=2MiB"]), ("heap", [])):
        if os.path.exists(os.path.join(folder, "lib%s.so" % backend)):
            with Server(settings, plugins=("memcache",), backend=backend) as other:
                compare(other.memcache_port)


def test_a_value_whose_end_comes_late_is_stored(server):
    w = server.connect("memcache")
    import time

    for value in (b"v" * 70_000, b"v" * 1_000_000):
        for pieces in ((b"\r\n",), (b"\r", b"\n"), (b"\r\nget late\r\n",)):
            w.send(b"set late 0 0 %d\r\n" % len(value))
            w.send(value)
            for piece in pieces:
                time.sleep(0.05)  # not waiting for anything: it must arrive by itself
                w.send(piece)
            w.expect(b"STORED\r\n")
            if b"get" in pieces[-1]:
                w.expect(b"VALUE late 0 %d\r\n%s\r\nEND\r\n" % (len(value), value))
    w.send(b"set late 0 0 70000\r\n" + b"x" * 70_000)
    time.sleep(0.05)
    w.send(b"xx")
    w.expect(b"CLIENT_ERROR bad data chunk\r\n")
    w.ask(b"mg late s\r\n", b"HD s1000000\r\n")


if __name__ == "__main__":
    run(__file__, globals())
