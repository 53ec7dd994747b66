"""What the walk through the host's own keys needs: cases, hosts that differ in one key, and looks into the process.

A case is a key and a function that shows its effect on running hosts, or the sentence with which it is refused. The
function starts what it needs: mostly one host with the key set beside one as it is by default.
"""

import contextlib
import json
import os
import re
import socket
import struct
import subprocess
import threading
import time

from crucible import HOST as ADDRESS
from crucible import Wire, host_binary
from every_key import LIMIT_S, Host, Listener, Store, ask, pipeline, resp, table

CASES = {}
PING = b"PING\r\n"


def case(*keys):
    """A case of one key, or of several that the function takes one after the other."""
    def take(check):
        for key in keys:
            assert key not in CASES, key
            CASES[key] = lambda key=key: check(key) if len(keys) > 1 else check()
        return check
    return take


def until(what, true):
    """Waits for something that the host does in its own time."""
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline, f"never {what}"
        time.sleep(0.01)


def hosting(keys=None, listener=None, settings=None, protocol="resp", threads=1, more="", stores=None, **options):
    """A host with these keys (`section.key`) and one listener with these of its own."""
    sections = {}
    for key, value in (keys or {}).items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    top = "".join(table(f"[{section}]", own) for section, own in sections.items()) + more
    listeners = {"it": Listener(protocol, settings, **(listener or {}))}
    return Host(stores or {"cache": Store("segcache")}, listeners, top, threads, **options)


def refusal(*args, text=None, folder=None):
    """The sentence with which the host does not start."""
    args = list(args)
    if text is not None:
        path = os.path.join(folder, "refused.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        args += ["--config", path]
    done = subprocess.run([host_binary(), *args], capture_output=True, text=True, timeout=LIMIT_S, check=False,
                          stdin=subprocess.DEVNULL)
    assert done.returncode == 2, (done.returncode, done.stderr)
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1, done.stderr
    return said[0]


def waiting(host):
    """Bytes of replies that wait for the one client that does not read."""
    while True:
        found = json.loads(host.admin("/connections"))
        # A worker that is busy for long is left out of the answer.
        if found["workers_answered"] == found["workers"]:
            return max((c["output_bytes"] for c in found["connections"]), default=0)


@contextlib.contextmanager
def unread(host, requests):
    """A connection with these requests on it, sent from a thread since the host may stop reading them."""
    sock = socket.socket()
    # A size of its own keeps the kernel from growing it: what is not read soon waits in the host.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 << 10)
    sock.settimeout(LIMIT_S)
    sock.connect((ADDRESS, port_of(host)))
    with Wire(sock) as wire:
        sender = threading.Thread(target=quietly, args=(wire, requests), daemon=True)
        sender.start()
        try:
            yield wire
        finally:
            with contextlib.suppress(OSError):
                wire.sock.shutdown(socket.SHUT_RDWR)
            sender.join(LIMIT_S)


def quietly(wire, data):
    """Sends until the connection ends."""
    try:
        wire.send(data)
    except OSError:
        pass


def store_value(host, key, length):
    """Puts a value of this length into the store."""
    with host.wire("it") as wire:
        assert ask(wire, "SET", key, b"x" * length) == "OK"


def get(key, times):
    """So many reads of a value."""
    return resp("GET", key) * times


def takes(wire, length):
    """Reads so many bytes, and no more."""
    while length:
        data = wire.sock.recv(min(length, 1 << 20))
        assert data, f"{length} bytes are missing"
        length -= len(data)


def is_served(wire):
    """The connection answers."""
    wire.ask(PING, b"+PONG\r\n")


def is_closed(wire):
    """The connection ends, whatever was said before."""
    try:
        while wire.sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def threads_of(host, name):
    """What `/proc` says of the host's threads of a name: {name: status}."""
    found, folder = {}, f"/proc/{host.pid}/task"
    for task in os.listdir(folder):
        with open(f"{folder}/{task}/status", encoding="ascii") as text:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in text if ":\t" in line)
        if status["Name"].startswith(name):
            found[status["Name"]] = status
    return found


def rings_of(host):
    """What the kernel says of each ring of the host."""
    rings, folder = [], f"/proc/{host.pid}/fd"
    for fd in os.listdir(folder):
        if os.readlink(f"{folder}/{fd}") == "anon_inode:[io_uring]":
            with open(f"/proc/{host.pid}/fdinfo/{fd}", encoding="ascii") as text:
                rings.append(dict(re.findall(r"^(\w+):\s*(\S+)", text.read(), re.M)))
    assert rings
    return rings


def tcp_rows(port, state):
    """Rows of `/proc/net/tcp` of sockets with this local port in this state."""
    with open("/proc/net/tcp", encoding="ascii") as text:
        rows = [line.split() for line in text.readlines()[1:]]
    return [row for row in rows if row[1].endswith(f":{port:04X}") and row[3] == f"{state:02X}"]


ESTABLISHED, LISTEN = 1, 10


def port_of(host):
    """The port of its listener."""
    return int(host.addresses["it"].rpartition(":")[2])


def backlog_of(port):
    """Longest queue of connections that are not accepted yet, as the kernel's socket diagnosis says it."""
    sock_diag_by_family, request_dump = 20, 0x301
    body = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, 1 << LISTEN)
    body += struct.pack(">HH", 0, 0) + bytes(44)
    head = struct.pack("=IHHII", 16 + len(body), sock_diag_by_family, request_dump, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as diagnosis:
        diagnosis.settimeout(LIMIT_S)
        diagnosis.send(head + body)
        while True:
            data = diagnosis.recv(1 << 16)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                assert kind == sock_diag_by_family, f"port {port} does not listen"
                # inet_diag_msg: the ids begin at 4; the queues follow after ids and expiry.
                if struct.unpack_from(">H", data, 20)[0] == port:
                    return struct.unpack_from("=I", data, 16 + 60)[0]
                data = data[(length + 3) & ~3:]


def cpu_s(host):
    """Processor time that the host has used."""
    with open(f"/proc/{host.pid}/stat", encoding="ascii") as text:
        fields = text.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def mapped(host, length):
    """How many of the host's mappings have exactly this length."""
    with open(f"/proc/{host.pid}/maps", encoding="ascii", errors="replace") as maps:
        ends = [line.split()[0].split("-") for line in maps]
    return sum(int(end, 16) - int(start, 16) == length for start, end in ends)

