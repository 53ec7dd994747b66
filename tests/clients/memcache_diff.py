#!/usr/bin/env python3
"""Differential test: the same scripted bytes to a real memcached and to Crucible.

Each case is one connection on each side.  Its steps are sent one after the
other, then a sentinel command (`mn`, or a binary no-op), and everything both
servers wrote up to the sentinel's reply is compared byte by byte (seconds left
may differ by one and what the asking took: two clocks).  Every case
runs three times: joined in one write, one write per step, and split at every
few bytes.  CAS tokens are replaced by their order of appearance; `{k}` in a
step is a key prefix of its own for each case and run, `{cas1}` the first CAS
token this side answered, `{now+5}` the time of day in five seconds.

    memcache_diff.py --port OURS [--host H] --reference-port REAL [--show] [--only TEXT]

Without --reference-port a memcached is started on a free port.  The documented
differences are at the end of memcache_cases.py; any other one fails the run.
"""
import argparse
import re
import shutil
import socket
import subprocess
import sys
import time

from memcache_cases import BINARY, CLOSES, TEXT, TOUCHES

TIMEOUT_S = 60.0


def connect(host, port):
    s = socket.create_connection((host, port), timeout=TIMEOUT_S)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def read_until(s, done, data=b""):
    """Reads until done(data) or the peer closes; marks what ended it."""
    s.settimeout(TIMEOUT_S)
    while not done(data):
        try:
            more = s.recv(65536)
        except ConnectionResetError:
            return data + b"<RESET>"
        except socket.timeout:
            return data + b"<TIMEOUT>"
        if not more:
            return data + b"<CLOSED>"
        data += more
    return data


CAS = re.compile(rb"(?<= )c(\d+)(?=[ \r])|(?<=\n)VALUE [^ ]+ \d+ \d+ (\d+)(?=\r)|^VALUE [^ ]+ \d+ \d+ (\d+)(?=\r)|cas=(\d+)", re.M)


def normalise(data):
    names = {}

    def swap(m):
        token = m.group(m.lastindex)
        name = names.setdefault(token, b"CAS%d" % (len(names) + 1))
        if token == b"0":
            name = b"0"
        return m.group(0)[: m.start(m.lastindex) - m.start()] + name + m.group(0)[m.end(m.lastindex) - m.start() :]

    # What an item costs differs, and so does the sign of a deadline in `me`.
    data = re.sub(rb" exp=-?\d+ la=\d+ (.*) size=\d+\r", rb" exp=? la=? \1 size=?\r", data)
    return CAS.sub(swap, data)


# What a meta reply counts in seconds: time to live (`t`), since the last access (`l`).
SECONDS = re.compile(rb"(?<= [tl])\d+(?=[ \r])")


def same(real, ours, took):
    """Byte for byte, but for seconds: the two servers were asked at different moments, `took` apart at most."""
    if SECONDS.sub(b"?", real) != SECONDS.sub(b"?", ours):
        return False
    pairs = zip(SECONDS.findall(real), SECONDS.findall(ours))
    return all(abs(int(a) - int(b)) <= 1 + took for a, b in pairs)


def excerpts(real, ours):
    """Both answers from a little before the place where they part, each in at most 600 bytes."""
    parted = next((i for i, (a, b) in enumerate(zip(real, ours)) if a != b), min(len(real), len(ours)))
    start = max(0, parted - 200)
    return tuple("at byte %d of %d: %r" % (start, len(d), d[start : start + 600]) for d in (real, ours))


def expand(step, prefix, data):
    tokens = []
    for m in CAS.finditer(data):
        t = m.group(m.lastindex)
        if t not in tokens:
            tokens.append(t)
    step = step.replace(b"{k}", prefix)
    step = re.sub(rb"\{now([+-]\d+)\}", lambda m: b"%d" % (time.time() + int(m.group(1))), step)

    def cas(m):
        i = int(m.group(1)) - 1
        off = int(m.group(2) or 0)
        return b"%d" % (int(tokens[i]) + off) if i < len(tokens) else b"999999"

    return re.sub(rb"\{cas(\d+)([+-]\d+)?\}", cas, step)


def needs_reply(step):
    return b"{cas" in step


def run_text(host, port, steps, prefix, mode):
    s = connect(host, port)
    data = b""
    marks = 0
    pending = b""
    sentinel = b"mn\r\n"
    try:
        for step in steps:
            if isinstance(step, float):
                s.sendall(pending)
                pending = b""
                time.sleep(step)
                continue
            if step is CLOSES:
                s.sendall(pending)
                return normalise(read_until(s, lambda d: False, data).replace(b"<RESET>", b"<CLOSED>"))
            if needs_reply(step):
                # What came before must be answered: its CAS tokens are needed.
                s.sendall(pending + sentinel)
                pending = b""
                marks += 1
                data = read_until(s, lambda d: d.count(b"MN\r\n") >= marks, data)
            step = expand(step, prefix, data)
            if mode == "joined":
                pending += step
            elif mode == "steps":
                s.sendall(step)
            else:
                for i in range(0, len(step), 7 if len(step) < 400 else 9001):
                    s.sendall(step[i : i + (7 if len(step) < 400 else 9001)])
        s.sendall(pending + sentinel)
        marks += 1
    except (BrokenPipeError, ConnectionResetError):
        return normalise(data) + b"<CLOSED>"
    data = read_until(s, lambda d: d.count(b"MN\r\n") >= marks, data)
    s.close()
    return normalise(data.replace(b"<RESET>", b"<CLOSED>"))


BIN_SENTINEL_OPAQUE = b"\xfe\xed\xfa\xce"


def bin_frames(data):
    out, i = [], 0
    while len(data) - i >= 24:
        body = int.from_bytes(data[i + 8 : i + 12], "big")
        if len(data) - i < 24 + body:
            break
        out.append(data[i : i + 24 + body])
        i += 24 + body
    return out, data[i:]


def bin_done(data):
    frames, _ = bin_frames(data)
    return any(f[12:16] == BIN_SENTINEL_OPAQUE for f in frames)


def show_bin(data):
    closed = b"<CLOSED>" if data.endswith((b"<CLOSED>", b"<RESET>")) else b""
    timeout = b"<TIMEOUT>" if data.endswith(b"<TIMEOUT>") else b""
    frames, rest = bin_frames(data)
    names = {}
    out = []
    for f in frames:
        cas = int.from_bytes(f[16:24], "big")
        name = "0" if cas == 0 else names.setdefault(cas, "CAS%d" % (len(names) + 1))
        klen = int.from_bytes(f[2:4], "big")
        ext = f[4]
        body = f[24:]
        out.append(
            "op=%02x status=%04x opaque=%s cas=%s ext=%s key=%r value=%r"
            % (f[1], int.from_bytes(f[6:8], "big"), f[12:16].hex(), name, body[:ext].hex(), body[ext : ext + klen], body[ext + klen :])
        )
    return ("\n".join(out)).encode() + closed + timeout


def run_binary(host, port, steps, prefix, mode):
    s = connect(host, port)
    sent = b""
    tokens = []
    data = b""
    try:
        for step in steps:
            if isinstance(step, float):
                time.sleep(step)
                continue
            if step is CLOSES:
                return show_bin(read_until(s, lambda d: False, data))
            raw = step(prefix, tokens) if callable(step) else step.replace(b"{k}", prefix)
            if callable(step) and getattr(step, "needs_cas", False):
                s.sendall(noop(b"\0\0\0\1"))
                data = read_until(s, lambda d: any(f[12:16] == b"\0\0\0\1" for f in bin_frames(d)[0]), data)
                tokens[:] = []
                for f in bin_frames(data)[0]:
                    cas = int.from_bytes(f[16:24], "big")
                    if cas and cas not in tokens:
                        tokens.append(cas)
                raw = step(prefix, tokens)
            sent += raw
            if mode == "split":
                size = 5 if len(raw) < 400 else 9001
                for i in range(0, len(raw), size):
                    s.sendall(raw[i : i + size])
            else:
                s.sendall(raw)
        s.sendall(noop(BIN_SENTINEL_OPAQUE))
    except (BrokenPipeError, ConnectionResetError):
        return show_bin(data) + b"<CLOSED>"
    data = read_until(s, bin_done, data)
    s.close()
    return show_bin(data)


def noop(opaque):
    return b"\x80\x0a" + bytes(10) + opaque + bytes(8)


def start_reference():
    exe = shutil.which("memcached")
    if not exe:
        sys.exit("memcache_diff: no memcached to compare with; install it or give --reference-port")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    p = subprocess.Popen([exe, "-u", "nobody", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", "64", "-t", "1"], stderr=subprocess.DEVNULL)
    for _ in range(100):
        try:
            connect("127.0.0.1", port).close()
            return p, port
        except OSError:
            time.sleep(0.05)
    p.kill()
    sys.exit("memcache_diff: memcached did not start")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--host", default="127.0.0.1")
    a.add_argument("--port", type=int)
    a.add_argument("--reference-host", default="127.0.0.1")
    a.add_argument("--reference-port", type=int)
    a.add_argument("--show", action="store_true", help="print what the reference answers, compare nothing")
    a.add_argument("--only", help="run the cases whose name has this text")
    args = a.parse_args()
    ref = None
    if not args.reference_port:
        ref, args.reference_port = start_reference()
    nonce = b"%x" % int(time.time() * 1000)
    failed = ran = known = 0
    try:
        for kind, table, run in (("text", TEXT, run_text), ("binary", BINARY, run_binary)):
            for n, case in enumerate(table):
                name, steps = case[0], case[1]
                expect = case[2] if len(case) > 2 else None
                touches = expect == TOUCHES
                if touches:
                    expect = None
                if args.only and args.only not in name:
                    continue
                modes = ("joined",) if args.show else ("joined", "steps", "split")
                if any(isinstance(s, float) for s in steps):
                    modes = ("joined",)
                for mode in modes:
                    prefix = b"%s%s%d%s" % (kind[:1].encode(), nonce, n, mode[:2].encode())
                    started = time.monotonic()
                    # What is documented as different is not asked twice.
                    real = b""
                    if expect is None or args.show:
                        real = run(args.reference_host, args.reference_port, steps, prefix, mode)
                    if args.show:
                        print("== %s %s\n%s" % (kind, name, real.replace(prefix, b"{k}").decode("latin1")[:1500]))
                        continue
                    ours = run(args.host, args.port, steps, prefix, mode)
                    if touches:
                        real, ours = (re.sub(rb"CAS\d+", b"CAS", data) for data in (real, ours))
                    ran += 1
                    took = time.monotonic() - started
                    if took > 2.0 and len(modes) > 1:
                        print("slow: %s/%s (%s) took %.1f s" % (kind, name, mode, took))
                    if expect is not None:
                        # A documented difference: ours must be exactly this.
                        known += 1
                        answers = expect if isinstance(expect, tuple) else (expect,)
                        want = [answer.replace(b"{k}", prefix) for answer in answers]
                        if not any(same(w, ours, took) for w in want):
                            failed += 1
                            print("FAIL %s/%s (%s): documented answer %r, got %r" % (kind, name, mode, want, ours))
                    elif not same(real, ours, took):
                        failed += 1
                        print("FAIL %s/%s (%s)\n  memcached: %s\n  crucible:  %s" % (kind, name, mode, *excerpts(real, ours)))
    finally:
        if ref:
            ref.terminate()
            ref.wait()
    print("memcache_diff: %d runs, %d with a documented difference, %d failed" % (ran, known, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
