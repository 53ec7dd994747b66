"""Node's ioredis connects unchanged."""

import os
import subprocess

from crucible import run

HOST = {"plugins": ("resp",), "heap": "64MiB"}
HERE = os.path.dirname(os.path.abspath(__file__))


def test_ioredis_calls_pipelines_transactions_messages_and_reconnects(server):
    done = subprocess.run(
        ["node", "ioredis_flow.js", str(server.resp_port)], cwd=HERE, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and "all claims hold" in done.stdout, done.stdout[-2000:] + done.stderr[-3000:]


if __name__ == "__main__":
    run(__file__, globals())
