"""Asks PING of a port, until the server of the given pid answers or ends."""
import socket
import sys
import time

port, pid = int(sys.argv[1]), int(sys.argv[2])
deadline = time.monotonic() + 30
while True:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
            s.sendall(b"PING\r\n")
            got = b""
            while not got.endswith(b"\n"):
                more = s.recv(100)
                if not more:
                    sys.exit(f"closed after {got!r}")
                got += more
            sys.exit(0 if got == b"PONG\r\n" else f"answered {got!r}")
    except ConnectionRefusedError:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                    sys.exit("the host ended")
        except FileNotFoundError:
            sys.exit("the host ended")
        if time.monotonic() > deadline:
            sys.exit("nobody listens")
        time.sleep(0.05)
