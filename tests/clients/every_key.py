"""What the walk through the reference needs: cases, the host that they share, and words to speak to it.

A case is a key of the reference, the settings that differ from the defaults, and a function that shows the effect on a
running host; beside it stands the same plugin with its defaults, so that a difference is seen and not assumed. Cases
share one host: each store and each listener of theirs is one of its many.
"""

import json
import os
import re
import socket
import subprocess
import tempfile
import time
import urllib.request

from crucible import HOST, Wire, host_binary
from crucible import _die_with_parent as die_with_parent

LIMIT_S = 120
HEAP = 16 << 20


def reference():
    """The keys of the reference: {(table, plugin or None): [key]}."""
    text = subprocess.run([host_binary(), "reference"], capture_output=True, text=True, check=True,
                          timeout=LIMIT_S).stdout
    keys, heading = {}, None
    for line in text.splitlines():
        if line.startswith("#"):
            words = re.sub("[`#]", "", line).strip()
            table, _, plugin = words.partition(" of ")
            heading = (table, plugin or None)
        elif line.startswith("| `"):
            keys.setdefault(heading, []).append(line.split("`")[1])
    return keys


def toml(value):
    """A value as TOML has it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def table(head, settings):
    """A table of a configuration file."""
    return "\n".join([head] + [f"{json.dumps(key) if '.' not in key else key} = {toml(value)}"
                               for key, value in settings.items()]) + "\n"


class Store:
    """One store of the host with a listener of each protocol that cases need on it."""

    def __init__(self, plugin, settings=None, name=None):
        self.name, self.plugin, self.settings = name, plugin, dict(settings or {})
        self.settings.setdefault("heap_size", HEAP)


class Listener:
    """One listener of the host."""

    def __init__(self, protocol, settings=None, store="cache", **own):
        self.protocol, self.settings, self.store, self.own = protocol, dict(settings or {}), store, own


class Host:
    """A host with many stores and listeners; told apart by the names they were given."""

    def __init__(self, stores, listeners, top="", threads=1, env=None, args=(), confine=None, admin=f"{HOST}:0"):
        self._log = tempfile.NamedTemporaryFile("w+", prefix="crucible-", suffix=".log")
        self._file = tempfile.NamedTemporaryFile("w", prefix="crucible-", suffix=".toml")
        text = [top]
        for name, store in stores.items():
            head = "[cache]" if name == "cache" else f"[backend.{name}]"
            plugin = "backend" if name == "cache" else "plugin"
            text.append(table(head, {plugin: store.plugin, **store.settings}))
        for listener in listeners.values():
            own = {"protocol": listener.protocol, "address": f"{HOST}:0", "backend": listener.store, **listener.own}
            text.append(table("[[listener]]", {key: value for key, value in own.items() if value is not None}))
            text.append(table("[listener.settings]", listener.settings))
        self.write("\n".join(text))
        command = [host_binary(), "--config", self._file.name]
        command += (["--admin", admin] if admin else []) + (["--threads", str(threads)] if threads else [])
        self._process = subprocess.Popen(command + list(args), stdin=subprocess.DEVNULL, stdout=self._log,
                                         stderr=self._log, env=dict(os.environ, **(env or {})),
                                         preexec_fn=lambda: (die_with_parent(), confine and confine()))
        try:
            self._until_ready()
        except BaseException:
            self.kill()
            raise
        found = re.findall(r'listening protocol="?\w+"? address="?([^" ]+)', self.log())
        assert len(found) == len(listeners), self.log()
        self.addresses = dict(zip(listeners, found))

    def _until_ready(self):
        deadline = time.monotonic() + LIMIT_S
        while not re.search(r"\bready ", self.log()):
            assert self._process.poll() is None, f"it ended: {self.log()}"
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.01)

    def write(self, text):
        """The configuration file, for the start and for reloads."""
        self.text = text
        self._file.seek(0)
        self._file.truncate()
        self._file.write(text)
        self._file.flush()

    @property
    def pid(self):
        return self._process.pid

    def log(self):
        with open(self._log.name, encoding="utf-8", errors="replace") as written:
            return written.read()

    def admin_address(self):
        """Where the admin server listens."""
        return re.search(r'the admin server listens address="?([0-9.:]+)', self.log()).group(1)

    def admin(self, path, data=None):
        """An answer of the admin server."""
        with urllib.request.urlopen(f"http://{self.admin_address()}{path}", data=data, timeout=LIMIT_S) as answer:
            return answer.read().decode()

    def stats(self, store=None):
        """`/stats`, or of it what concerns one store."""
        stats = json.loads(self.admin("/stats"))
        return {**stats["stores"][store], **stats["segments"].get(store, {})} if store else stats

    def metric(self, name):
        """A number of `/metrics`, over all its labels."""
        lines = [line for line in self.admin("/metrics").splitlines() if re.match(name + r"[{ ]", line)]
        assert lines, f"no {name}"
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def wire(self, listener, timeout=LIMIT_S):
        """A connection to a listener."""
        host, _, port = self.addresses[listener].rpartition(":")
        return Wire(socket.create_connection((host, int(port)), timeout=timeout))

    def ended(self):
        """Waits for its end; the exit code."""
        return self._process.wait(LIMIT_S)

    def kill(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def stop(self):
        self._process.terminate()
        assert self.ended() == 0, self.log()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None and self._process.poll() is None:
            self.stop()
        self.kill()


def resp(*words):
    """A request of RESP."""
    words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def reply(wire):
    """A reply of RESP2; errors as text that begins with `-`."""
    line = wire.line()
    kind, rest = line[:1], line[1:]
    if kind == b"*":
        return [reply(wire) for _ in range(int(rest))]
    if kind == b"$":
        return None if rest == b"-1" else wire.read(int(rest) + 2)[:-2].decode("latin-1")
    return int(rest) if kind == b":" else line.decode() if kind == b"-" else rest.decode()


def ask(wire, *words):
    """The reply to one command."""
    wire.send(resp(*words))
    return reply(wire)


def pipeline(wire, requests, batch=512):
    """The replies to many commands, some at a time."""
    requests, replies = list(requests), []
    for at in range(0, len(requests), batch):
        some = requests[at:at + batch]
        wire.send(b"".join(some))
        replies += [reply(wire) for _ in some]
    return replies


def fill(wire, count, size, prefix="f", first=0, batch=1000):
    """Stores so many values of one size."""
    tail = b"\r\n$%d\r\n%s\r\n" % (size, b"x" * size)
    for at in range(first, first + count, batch):
        keys = [f"{prefix}{i}" for i in range(at, min(at + batch, first + count))]
        wire.send(b"".join(f"*3\r\n$3\r\nSET\r\n${len(key)}\r\n{key}".encode() + tail for key in keys))
        wire.expect(b"+OK\r\n" * len(keys))


def mapping(pid, size):
    """The process's writable mapping of about this size, as `smaps` and `numa_maps` tell of it."""
    best = found = None
    with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as text:
        for line in text:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line)
            if head:
                start, end = int(head[1], 16), int(head[2], 16)
                found = {"start": start}
                if size * 9 // 10 <= end - start <= size * 6 // 5 and head[3].startswith("rw"):
                    best = found
            else:
                name, _, value = line.partition(":")
                found[name] = value.split()
    assert best, f"no mapping of {size} bytes"
    try:
        with open(f"/proc/{pid}/numa_maps", encoding="ascii", errors="replace") as text:
            for line in text:
                if int(line.split()[0], 16) == best["start"]:
                    best["policy"] = line.split()[1]
    except FileNotFoundError:
        best["policy"] = None
    return best
