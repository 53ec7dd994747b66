"""What the fault flows share: clients that know what each answer may be, and the admin server.

A cache may forget; it may never answer wrongly. A `Witness` writes values that tell their key and
number in every part, and holds each answer against what was acknowledged: a value is the newest
acknowledged one, or one whose reply was lost on the way, or a miss, and what was missed once does
not come back. A `Tally` counts acknowledged conditional changes, and none of them may be lost.
"""

import http.client
import os
import socket
import subprocess
import threading
import time
import zlib

from crucible import HOST, host_binary

# `cargo xtask faults` asks for the long form.
LONG = os.environ.get("CRUCIBLE_FAULTS") == "long"
# A hang is what lasts longer than this, however crowded the machine is.
HANG_S = 90.0
# After a fault every client is answered within this: asked for where nothing else runs
# (`cargo xtask faults --recovery 1`), printed everywhere.
RECOVERY_S = float(os.environ.get("CRUCIBLE_RECOVERY_S", "inf"))


def few_or_many(few, many):
    """The size of a trial: in every run of the tests, and in the long form."""
    return many if LONG else few


def command(*words):
    """A RESP command as an array of bulk strings."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def body(key, number, length):
    """A value of at least `length` bytes that tells key, number and checksum."""
    head = b"%s|%d|" % (key, number)
    fill = (b"%08x" % zlib.crc32(head)) * (max(length - len(head) - 9, 0) // 8 + 1)
    return head + fill + b"|%08x" % zlib.crc32(head + fill)


def number_of(key, value):
    """The number of a value that is whole and of this key; raises on any other."""
    parts = value.split(b"|")
    assert len(parts) == 4 and parts[0] == key, f"a foreign value under {key}: {value[:60]!r}"
    whole = b"%08x" % zlib.crc32(value[:-9]) == parts[3]
    assert whole, f"a torn value under {key}: {len(value)} bytes, {value[:60]!r}"
    return int(parts[1])


class Lost(Exception):
    """The connection is gone; whether the last request was carried out is unknown."""


class Caller:
    """One connection at a time to a protocol, opened again after a loss."""

    def __init__(self, port, timeout=HANG_S):
        self.port, self.timeout, self.sock, self.file = port, timeout, None, None

    def open(self):
        """A connection, waited for as long as nobody accepts."""
        deadline = time.monotonic() + self.timeout
        while self.sock is None:
            try:
                self.sock = socket.create_connection((HOST, self.port), timeout=self.timeout)
                self.file = self.sock.makefile("rb")
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def ask(self, request, read):
        """Sends, then reads the reply with `read(file)`; a loss in between is told as `Lost`."""
        self.open()
        try:
            self.sock.sendall(request)
            return read(self.file)
        except (OSError, EOFError) as error:
            hang = isinstance(error, TimeoutError)
            self.close()
            if hang:
                raise AssertionError(f"no reply within {self.timeout} s to {request[:60]!r}") from error
            raise Lost from error

    def close(self):
        """Closes what is open."""
        if self.sock is not None:
            self.file.close()
            self.sock.close()
            self.sock = self.file = None


def line(file):
    """A line of a reply without its end."""
    data = file.readline()
    if not data.endswith(b"\r\n"):
        raise EOFError
    return data[:-2]


def exactly(file, count):
    """That many bytes of a reply."""
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data


def resp_value(file):
    """A bulk string, or None."""
    head = line(file)
    assert head[:1] == b"$", head
    return None if head == b"$-1" else exactly(file, int(head[1:]) + 2)[:-2]


def memcache_value(file):
    """The value of a get, or None."""
    head = line(file)
    if head == b"END":
        return None
    words = head.split()
    assert words[0] == b"VALUE", head
    value = exactly(file, int(words[3]) + 2)[:-2]
    assert line(file) == b"END"
    return value


class Worker(threading.Thread):
    """A client that works until it is told to stop, and keeps the first thing that went wrong."""

    def __init__(self):
        super().__init__(daemon=True)
        self.ending = threading.Event()
        self.error = None
        self.answers = 0
        self.losses = 0

    def run(self):
        try:
            while not self.ending.is_set():
                self.step()
            self.done()
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def step(self):
        """One request."""
        raise NotImplementedError

    def done(self):
        """What is checked at the end."""

    def answered(self):
        """Notes an answer."""
        self.answers += 1

    def finish(self):
        """Stops, waits, and raises what went wrong."""
        self.ending.set()
        self.join(2 * HANG_S)
        assert not self.is_alive(), "a client hangs"
        if self.error is not None:
            raise self.error


class Witness(Worker):
    """Writes, reads and deletes keys of its own, and knows what each read may find."""

    def __init__(self, port, name, protocol="resp", keys=40, lengths=(20, 900, 30_000), pace_s=0.0):
        super().__init__()
        self.caller = Caller(port)
        self.protocol, self.lengths, self.pace_s = protocol, lengths, pace_s
        self.keys = [b"%s-%d" % (name.encode(), i) for i in range(keys)]
        # By key: numbers that a read may find; no number means that it must miss.
        self.may_be = {key: set() for key in self.keys}
        # By key: numbers of writes whose reply never came.
        self.unsure = {key: set() for key in self.keys}
        self.number = 0
        self.hits = 0

    def step(self):
        key = self.keys[self.number * 7 % len(self.keys)]
        self.number += 1
        try:
            if self.number % 3 == 0:
                self.write(key)
            elif self.number % 31 == 0:
                self.delete(key)
            else:
                self.read(key)
        except Lost:
            self.losses += 1
            return
        self.answered()
        if self.pace_s:
            time.sleep(self.pace_s)

    def write(self, key):
        number = self.number
        value = body(key, number, self.lengths[number // 3 % len(self.lengths)])
        self.unsure[key].add(number)
        if self.protocol == "resp":
            reply = self.caller.ask(command(b"SET", key, value), line)
            stored, refused = b"+OK", b"-"
        else:
            reply = self.caller.ask(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value), line)
            stored, refused = b"STORED", b"SERVER_ERROR"
        self.unsure[key].discard(number)
        if reply == stored:
            self.may_be[key] = {number}
        else:
            assert reply.startswith(refused), reply

    def delete(self, key):
        if self.protocol == "resp":
            reply = self.caller.ask(command(b"DEL", key), line)
            assert reply in (b":0", b":1"), reply
        else:
            reply = self.caller.ask(b"delete %s\r\n" % key, line)
            assert reply in (b"DELETED", b"NOT_FOUND"), reply
        self.may_be[key] = set()

    def read(self, key):
        if self.protocol == "resp":
            value = self.caller.ask(command(b"GET", key), resp_value)
        else:
            value = self.caller.ask(b"get %s\r\n" % key, memcache_value)
        if value is None:
            # Forgotten: what was acknowledged does not come back.
            self.may_be[key] = set()
            return
        self.hits += 1
        number = number_of(key, value)
        possible = self.may_be[key] | self.unsure[key]
        assert number in possible, f"{key} is number {number}, may be one of {possible}"
        self.may_be[key] = {number}

    def done(self):
        self.caller.close()


class Tally(Worker):
    """Conditional changes of keys that several clients share: each that was acknowledged counts.

    By turns: INCR of one number (RESP), a compare-and-swap of another (memcache), SET NX of names
    that all clients race for.
    """

    lock = threading.Lock()

    def __init__(self, resp_port, memcache_port, totals):
        super().__init__()
        self.resp, self.memcache = Caller(resp_port), Caller(memcache_port)
        self.totals = totals
        self.turn = 0

    @staticmethod
    def totals_of_nothing():
        """What clients of one set of keys share."""
        return {"incr": 0, "incr unsure": 0, "cas": 0, "cas unsure": 0, "winners": {}, "unsure": set()}

    @staticmethod
    def prepare(memcache_port):
        """The number that compare-and-swap counts up."""
        reply = Caller(memcache_port).ask(b"set tally-cas 0 0 1\r\n0\r\n", line)
        assert reply == b"STORED", reply

    def count(self, name):
        with self.lock:
            self.totals[name] += 1

    def step(self):
        self.turn += 1
        kind = [self.increment, self.swap, self.race][self.turn % 3]
        try:
            kind()
        except Lost:
            self.losses += 1
            return
        self.answered()

    def increment(self):
        try:
            reply = self.resp.ask(command(b"INCR", b"tally-incr"), line)
        except Lost:
            self.count("incr unsure")
            raise
        assert reply[:1] == b":", reply
        self.count("incr")

    def swap(self):
        def read(file):
            words = line(file).split()
            assert words[0] == b"VALUE", words
            value = exactly(file, int(words[3]) + 2)[:-2]
            assert line(file) == b"END"
            return int(value), words[4]

        number, token = self.memcache.ask(b"gets tally-cas\r\n", read)
        value = b"%d" % (number + 1)
        request = b"cas tally-cas 0 0 %d %s\r\n%s\r\n" % (len(value), token, value)
        try:
            reply = self.memcache.ask(request, line)
        except Lost:
            self.count("cas unsure")
            raise
        assert reply in (b"STORED", b"EXISTS"), reply
        if reply == b"STORED":
            self.count("cas")

    def race(self):
        name = b"race-%d" % (self.turn // 3)
        try:
            reply = self.resp.ask(command(b"SET", name, b"%d" % id(self), b"NX"), line)
        except Lost:
            with self.lock:
                self.totals["unsure"].add(name)
            raise
        assert reply in (b"+OK", b"$-1"), reply
        if reply == b"+OK":
            with self.lock:
                before = self.totals["winners"].setdefault(name, id(self))
            assert before == id(self), f"two winners of {name}"

    def done(self):
        self.resp.close()
        self.memcache.close()

    @staticmethod
    def check(totals, resp_port):
        """The numbers are what was acknowledged; at most, what was never answered on top."""
        caller = Caller(resp_port)
        for kind in ("incr", "cas"):
            found = int(caller.ask(command(b"GET", b"tally-%s" % kind.encode()), resp_value) or 0)
            least, most = totals[kind], totals[kind] + totals[f"{kind} unsure"]
            assert least <= found <= most, f"{kind}: {found} is not in {least}..{most}"
            assert found > 0, f"no {kind} was made"
        caller.close()


class Clients:
    """Witnesses of both protocols and tallies, working while a fault happens."""

    def __init__(self, server, tallies=2, lengths=(20, 900, 30_000), pace_s=0.002, keys=40):
        self.server = server
        self.recovery_s = 0.0
        self.totals = Tally.totals_of_nothing()
        self.workers = [
            Witness(server.resp_port, "resp", "resp", lengths=lengths, pace_s=pace_s, keys=keys),
            Witness(server.memcache_port, "mc", "memcache", lengths=lengths, pace_s=pace_s, keys=keys),
        ]
        if tallies:
            Tally.prepare(server.memcache_port)
        self.tallies = [Tally(server.resp_port, server.memcache_port, self.totals)
                        for _ in range(tallies)]

    def __enter__(self):
        for worker in self.workers + self.tallies:
            worker.start()
        self.proceed()
        return self

    def proceed(self, answers=50):
        """Waits until every client was answered that often from now on: recovery, not a hang."""
        begun = time.monotonic()
        before = {worker: worker.answers for worker in self.workers + self.tallies}
        for count in (1, answers):
            for worker, answered in before.items():
                while worker.answers < answered + count:
                    if worker.error is not None:
                        raise worker.error
                    assert time.monotonic() < begun + HANG_S, f"no answers for {HANG_S} s"
                    time.sleep(0.005)
            if count == 1:
                self.recovery_s = max(self.recovery_s, time.monotonic() - begun)

    def losses(self):
        """Connections that were lost."""
        return sum(worker.losses for worker in self.workers + self.tallies)

    def __exit__(self, kind, error, trace):
        for worker in self.workers + self.tallies:
            worker.ending.set()
        if kind is not None:
            return
        for worker in self.workers + self.tallies:
            worker.finish()
        if self.tallies:
            Tally.check(self.totals, self.server.resp_port)
        assert all(worker.hits > 0 for worker in self.workers), "nothing was found to verify"
        print(f"        every client was answered within {self.recovery_s:.3f} s of each fault")
        assert self.recovery_s <= RECOVERY_S, "that is too late"


def admin(server, method, path, timeout=HANG_S):
    """One request to the admin server: status and body."""
    link = http.client.HTTPConnection(HOST, server.ports["admin"], timeout=timeout)
    try:
        link.request(method, path)
        reply = link.getresponse()
        return reply.status, reply.read().decode()
    finally:
        link.close()


def stats(server):
    """The admin server's figures."""
    import json
    status, text = admin(server, "GET", "/stats")
    assert status == 200, text
    return json.loads(text)


def wait_for(what, limit_s=HANG_S):
    """Waits until the function gives something true, and gives that."""
    deadline = time.monotonic() + limit_s
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def at_rest(server):
    """Waits until nothing is lent and only this question's connections are there."""
    def look():
        now = stats(server)
        lent = (now["sessions"], now["pinned_values"], now["bodies"], now["process"]["connections_current"])
        return not any(lent)
    wait_for(look)


def benchmark(port, *args, protocol="resp", duration="2s"):
    """Starts the load generator with verification on; its values check themselves."""
    beside = os.path.join(os.path.dirname(host_binary()), "crucible-benchmark")
    program = os.environ.get("CRUCIBLE_BENCHMARK", beside)
    return subprocess.Popen(
        [program, "-h", HOST, "-p", str(port), "--protocol", protocol, "--duration", duration,
         "--warmup", "0s", "--request-timeout", "90s", "--slip-limit", "60s", "--connect-timeout", "90s", "--table", "none",
         "--keys", "2000", "--json", "-", *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def fixture(name):
    """A plugin that misbehaves on request: an example of the host's tests."""
    beside = os.path.join(os.path.dirname(os.path.dirname(host_binary())), "debug", "examples")
    path = os.path.join(os.environ.get("CRUCIBLE_FIXTURES", beside), f"lib{name}.so")
    assert os.path.exists(path), f"{path} is not built: cargo build -p crucible-host --examples"
    return path


def reset(sock):
    """Closes with an RST in place of a FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()
