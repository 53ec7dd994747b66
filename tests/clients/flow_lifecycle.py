"""Starting, refusing to start, and stopping: exit codes and one sentence, never a backtrace."""

import os
import signal
import subprocess
import tempfile

from crucible import HOST as ADDRESS
from crucible import Server, free_port, host_binary, run

LIMIT_S = 120


def refused(*args, env=None):
    """Starts a host that must refuse; gives its sentence."""
    done = subprocess.run([host_binary(), *args], capture_output=True, text=True, timeout=LIMIT_S,
                          stdin=subprocess.DEVNULL, check=False, env=dict(os.environ, **(env or {})))
    said = done.stdout + done.stderr
    assert done.returncode == 2, f"exit {done.returncode}: {said}"
    assert "panicked" not in said and "RUST_BACKTRACE" not in said, said
    sentences = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1 and done.stderr.rstrip().endswith(sentences[0]), done.stderr
    return sentences[0]


def test_a_port_in_use_is_refused_by_its_number(server):
    sentence = refused("--plugin", f"resp@{ADDRESS}:{server.resp_port}", "--heap-size", "64MiB")
    assert str(server.resp_port) in sentence, sentence


def test_an_unknown_plugin_is_refused_by_its_name(_server):
    assert "nosuchplugin" in refused("--plugin", f"nosuchplugin@{ADDRESS}:{free_port()}")
    assert "nosuchstore" in refused("--backend", "nosuchstore")


def test_a_backend_in_place_of_a_protocol_is_refused(_server):
    assert "segcache" in refused("--plugin", f"segcache@{ADDRESS}:{free_port()}")


def test_an_unknown_key_is_refused_by_its_name(_server):
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write("[workers]\nthreds = 2\n")
        file.flush()
        sentence = refused("--config", file.name)
    assert "threds" in sentence, sentence
    assert "no.such.key" in refused("--set", "no.such.key=1")


def test_a_value_out_of_range_is_refused_with_key_and_value(_server):
    sentence = refused("--threads", "0")
    assert "threads" in sentence, sentence
    assert "heap" in refused("--heap-size", "seven").lower()


def test_a_file_that_is_no_plugin_is_refused(_server):
    with tempfile.NamedTemporaryFile("w", suffix=".so") as file:
        file.write("not an ELF file\n")
        file.flush()
        assert os.path.basename(file.name) in refused("--plugin", f"{file.name}@{ADDRESS}:{free_port()}")


def test_a_good_configuration_is_checked_and_printed(_server):
    for option in ("--check-config", "--print-config"):
        done = subprocess.run([host_binary(), option], capture_output=True, text=True,
                              timeout=LIMIT_S, stdin=subprocess.DEVNULL, check=False)
        assert done.returncode == 0, done.stderr
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(done.stdout)
        file.flush()
        again = subprocess.run([host_binary(), "--config", file.name, "--check-config"],
                               capture_output=True, text=True, timeout=LIMIT_S,
                               stdin=subprocess.DEVNULL, check=False)
    assert again.returncode == 0, f"what is printed is not read back: {again.stderr}"


def test_sigterm_answers_what_was_asked_and_ends_with_0(_server):
    for number in (signal.SIGTERM, signal.SIGINT):
        with Server(threads=2) as host, host.connect() as wire:
            wire.ask(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n", b"+OK\r\n")
            wire.send(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" * 1000)
            wire.expect(b"$1\r\nv\r\n")
            host.signal(number)
            wire.expect(b"$1\r\nv\r\n" * 999)
            assert wire.closed()
            assert host.wait() == 0


def test_idle_connections_do_not_hold_up_the_end(_server):
    with Server(threads=1) as host:
        idle = [host.connect(name) for name in ("resp", "memcache") for _ in range(20)]
        host.signal(signal.SIGTERM)
        assert host.wait() == 0
        assert all(wire.closed() for wire in idle)


def test_plugins_are_found_by_folder_and_by_environment(_server):
    folder = os.path.dirname(host_binary())
    with Server(["--plugin-dir", folder]) as host, host.connect() as wire:
        wire.ask(b"PING\r\n", b"+PONG\r\n")
    with Server(env={"CRUCIBLE_PLUGIN_PATH": folder}) as host, host.connect() as wire:
        wire.ask(b"PING\r\n", b"+PONG\r\n")


if __name__ == "__main__":
    run(__file__, globals())
