"""The memcache listener answers every scripted line byte for byte as a memcached beside it does."""
import subprocess
import sys

from crucible import run


def test_answers_are_memcacheds_or_documented(server):
    p = subprocess.run(
        [sys.executable, __file__.replace("flow_memcache_diff", "memcache_diff"), "--port", str(server.memcache_port)],
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert p.returncode == 0, p.stdout[-6000:] + p.stderr[-2000:]


if __name__ == "__main__":
    run(__file__, globals())
