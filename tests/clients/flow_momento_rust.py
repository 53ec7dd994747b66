"""Momento's official Rust SDK works against the momento plugin: over gRPC, over protosocket, and with topics."""

import os
import subprocess

from crucible import Server, run

HOST = {"plugins": ("momento",)}


def sdk(server, *args):
    program = os.environ.get("MOMENTO_RUST_FLOW")
    assert program, "MOMENTO_RUST_FLOW must name the built program (cargo xtask test does that)"
    command = [program, str(server.ports["momento"]), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    claim = "momento-rust: all claims hold"
    assert done.returncode == 0 and claim in done.stdout, done.stdout[-2000:] + done.stderr[-3000:]


def test_the_rust_sdk_with_values_topics_and_protosocket(server):
    sdk(server)


def test_the_rust_sdk_with_collections_on_a_backend_that_has_them(server):
    with Server(plugins=("momento",), backend="heap") as other:
        sdk(other, "collections")


if __name__ == "__main__":
    run(__file__, globals())
