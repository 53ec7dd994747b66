"""The memcache listener serves the clients people use, and memcapable, as memcached does."""
import memcache_flow
from crucible import run


def _claim(check):
    return lambda server: check("127.0.0.1", server.memcache_port)


for _name, _check in memcache_flow.CHECKS:
    globals()["test_" + _name] = _claim(_check)

if __name__ == "__main__":
    run(__file__, globals())
