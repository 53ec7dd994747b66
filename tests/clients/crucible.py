"""The wire-level harness: starts a real crucible-host on free ports and stops it by its pid.

A flow is a file `flow_<what>.py` beside this one:

    from crucible import run

    def test_a_claim_about_the_server(server):
        ...

    if __name__ == "__main__":
        run(__file__, globals())

Every `test_*` function gets a running server. A flow that needs other host arguments names them in
`HOST_ARGS`, or starts servers of its own with `Server([...])`. `cargo xtask test` runs all flows
with the release build; `python3 tests/clients/flow_x.py [name...]` runs one by hand.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

HOST = "127.0.0.1"
# Limits bound a hang and decide nothing else: a machine may be many times slower than this one.
LIMIT_S = 60.0
START_LIMIT_S = LIMIT_S
STOP_LIMIT_S = LIMIT_S
PR_SET_PDEATHSIG = 1
_GIVEN = set()


def host_binary():
    """The host to test: `CRUCIBLE_HOST`, else the release build of this checkout."""
    named = os.environ.get("CRUCIBLE_HOST")
    if named:
        return named
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(top, "target"))
    return os.path.join(target, "release", "crucible-host")


def free_port():
    """A loopback port nobody listens on now; never the same one twice."""
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        if port not in _GIVEN:
            _GIVEN.add(port)
            return port


def _die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class HostEnded(Exception):
    """The host ended when it should have been serving; carries what it said."""


class Server:
    """A running host. Use it in a `with` statement or call `stop()`.

    `args` are added to the plugin and backend arguments; `plugins` are the protocols to serve,
    each on a free port found in `ports[name]`, with `admin` the admin server's in `ports["admin"]`.
    `wrap` is a command that becomes the host (`prlimit`, say); `log_to` is where the log goes
    instead of a file that `log()` reads.
    """

    def __init__(self, args=(), plugins=("resp", "memcache"), backend="segcache", threads=2,
                 heap="64MiB", env=None, admin=False, wrap=(), log_to=None):
        self.plugins = tuple(plugins)
        self.ports = {}
        self._extra = list(args)
        self._backend = backend
        self._threads = threads
        self._heap = heap
        self._env = dict(os.environ, **(env or {}))
        self._admin = admin
        self._wrap = list(wrap)
        self._log_to = log_to
        self._log = tempfile.NamedTemporaryFile("w+", prefix="crucible-", suffix=".log")
        self._process = None
        self._start()

    def _command(self):
        command = self._wrap + [host_binary()]
        if self._admin:
            command += ["--admin", f"{HOST}:{self.ports['admin']}"]
        for name in self.plugins:
            command += ["--plugin", f"{name}@{HOST}:{self.ports[name]}"]
        command += ["--backend", self._backend, "--threads", str(self._threads)]
        command += ["--heap-size", self._heap]
        return command + self._extra

    def _start(self):
        # A port that was free may be taken a moment later: then others are tried.
        for attempt in range(5):
            names = self.plugins + (("admin",) if self._admin else ())
            self.ports = {name: free_port() for name in names}
            try:
                self._launch()
                return
            except HostEnded:
                if attempt == 4 or "in use" not in self.log():
                    raise
            except BaseException:
                self._process.kill()
                self._process.wait()
                raise

    def _launch(self):
        log = self._log_to or self._log
        self._process = subprocess.Popen(
            self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=self._env, preexec_fn=_die_with_parent)
        for port in self.ports.values():
            self._wait_until_it_accepts(port)

    def restart(self):
        """Starts again, on the same ports, after the host has ended."""
        assert not self.alive(), "still running"
        self._launch()

    def _wait_until_it_accepts(self, port):
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            if self._process.poll() is not None:
                raise HostEnded(f"exit {self._process.returncode}: {self.log()}")
            try:
                socket.create_connection((HOST, port), timeout=LIMIT_S).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"port {port} does not accept: {self.log()}") from None
                time.sleep(0.01)

    @property
    def pid(self):
        """The host's process id."""
        return self._process.pid

    @property
    def resp_port(self):
        """Where RESP is served."""
        return self.ports["resp"]

    @property
    def memcache_port(self):
        """Where memcache is served."""
        return self.ports["memcache"]

    def log(self):
        """Everything the host has written so far."""
        with open(self._log.name, encoding="utf-8", errors="replace") as written:
            return written.read()

    def rss_kib(self):
        """Resident memory of the host in KiB; nothing under a sanitizer, whose own it would be."""
        if "CRUCIBLE_SANITIZED" in os.environ:
            return 0
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        raise HostEnded("no resident memory")

    def descriptors(self):
        """How many files the host has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def alive(self):
        """Whether the host still runs."""
        return self._process.poll() is None

    def connect(self, name="resp", timeout=LIMIT_S):
        """A plain socket to one of the protocols."""
        return Wire(socket.create_connection((HOST, self.ports[name]), timeout=timeout))

    def signal(self, number):
        """Sends a signal to the host."""
        self._process.send_signal(number)

    def wait(self, limit_s=STOP_LIMIT_S):
        """Waits for the host to end by itself; returns its exit code."""
        return self._process.wait(limit_s)

    def stop(self):
        """Asks the host to drain and end; kills it if it does not. Returns its exit code."""
        if self.alive():
            self._process.terminate()
        try:
            return self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.stop()
        elif self.alive():
            self._process.kill()
            self._process.wait()


class Wire:
    """A socket with the few moves that byte-level tests need."""

    def __init__(self, sock):
        self.sock = sock
        self._held = b""

    def send(self, data):
        """Sends all bytes."""
        self.sock.sendall(data)

    def read(self, count):
        """Exactly `count` bytes."""
        while len(self._held) < count:
            self._more()
        data, self._held = self._held[:count], self._held[count:]
        return data

    def line(self):
        """One line without its CRLF."""
        while b"\r\n" not in self._held:
            self._more()
        line, self._held = self._held.split(b"\r\n", 1)
        return line

    def expect(self, data):
        """The next bytes are exactly these."""
        got = self.read(len(data))
        assert got == data, f"got {got!r}, wanted {data!r}"

    def ask(self, request, reply):
        """Sends a request and expects exactly this reply."""
        self.send(request)
        self.expect(reply)

    def closed(self):
        """Whether the server closes now, with nothing more to read (waits for the close)."""
        if self._held:
            return False
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def _more(self):
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError(f"closed; unread: {self._held!r}")
        self._held += data

    def close(self):
        """Closes the socket."""
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def run(path, names):
    """Runs the flow's tests, each claim on a line; exits 0 only if all hold."""
    wanted = sys.argv[1:]
    tests = [(name, test) for name, test in names.items()
             if name.startswith("test_") and callable(test) and (not wanted or name in wanted)]
    if not tests:
        sys.exit(f"{os.path.basename(path)} has no such test")
    failed = 0
    with Server(names.get("HOST_ARGS", ()), **names.get("HOST", {})) as server:
        for name, test in tests:
            try:
                test(server)
                assert server.alive(), "the host ended"
                print(f"ok      {name}")
            except Exception:  # pylint: disable=broad-except
                failed += 1
                print(f"FAILED  {name}")
                traceback.print_exc(file=sys.stdout)
                if not server.alive():
                    print(server.log())
                    break
    print(f"{len(tests) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
