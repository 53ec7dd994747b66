"""Node's ioredis and node-redis, and Go's go-redis, connect unchanged."""

import os
import subprocess
import tempfile

from crucible import run

HOST = {"plugins": ("resp",), "heap": "64MiB"}
HERE = os.path.dirname(os.path.abspath(__file__))


def node(flow, server):
    done = subprocess.run(["node", flow, str(server.resp_port)], cwd=HERE, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "all claims hold" in done.stdout, done.stdout[-2000:] + done.stderr[-3000:]


def test_ioredis_calls_pipelines_transactions_messages_and_reconnects(server):
    node("ioredis_flow.js", server)


def test_node_redis_calls_pipelines_transactions_and_messages_in_both_versions_and_reconnects(server):
    node("node_redis_flow.js", server)


def test_go_redis_calls_pipelines_transactions_and_messages(server):
    with tempfile.TemporaryDirectory() as cache:
        env = dict(os.environ, GO111MODULE="off", GOPATH="/usr/share/gocode", GOCACHE=cache, GOFLAGS="")
        done = subprocess.run(
            ["go", "run", "goredis_flow.go", str(server.resp_port)], cwd=HERE, env=env, capture_output=True,
            text=True, timeout=300,
        )
    assert done.returncode == 0 and "go-redis: all claims hold" in done.stdout, done.stdout[-2000:] + done.stderr[-3000:]


if __name__ == "__main__":
    run(__file__, globals())
