"""A memcache listener with users lets nobody in without one of their passwords, in either encoding."""
import glob
import os
import subprocess
import tempfile

import crucible
from crucible import Server, Wire, run

HOST = {"plugins": ("resp",)}


def with_users(test):
    hashed = subprocess.run(
        [crucible.host_binary(), "hash-password"], input="s3cret\n", capture_output=True, text=True, timeout=120, check=True
    ).stdout.strip()
    port = crucible.free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "crucible.toml")
        with open(path, "w", encoding="utf-8") as config:
            config.write(
                '[[listener]]\nprotocol = "memcache"\naddress = "127.0.0.1:%d"\n\n[listener.users]\nann = "%s"\n' % (port, hashed)
            )
        with Server(["--config", path], plugins=()) as server:
            server.ports["memcache"] = port
            server._wait_until_it_accepts(port)
            test(server, port)


def test_a_binary_client_with_the_password_is_served_and_others_are_not(server):
    import bmemcached
    from bmemcached.exceptions import AuthenticationNotSupported, InvalidCredentials, MemcachedException

    def check(_, port):
        c = bmemcached.Client(("127.0.0.1:%d" % port,), "ann", "s3cret", socket_timeout=60)
        assert c.set("k", "v") and c.get("k") == "v"
        c.disconnect_all()
        for user, password in (("ann", "wrong"), ("bob", "s3cret"), (None, None)):
            c = bmemcached.Client(("127.0.0.1:%d" % port,), user, password, socket_timeout=60)
            try:
                assert not c.get("k"), "%r got in" % user
            except (AuthenticationNotSupported, InvalidCredentials, MemcachedException):
                pass
            finally:
                c.disconnect_all()

    with_users(check)


def test_pylibmc_authenticates(server):
    # The wheel's own SASL library looks for its mechanisms in a folder that is not there.
    folders = glob.glob("/usr/lib/*/sasl2")
    if folders:
        os.environ.setdefault("SASL_PATH", folders[0])
    import pylibmc

    if not pylibmc.support_sasl or not folders:
        print("        (not checked: this pylibmc has no SASL PLAIN)")
        return

    def check(_, port):
        c = pylibmc.Client(["127.0.0.1:%d" % port], binary=True, username="ann", password="s3cret")
        assert c.set("k", "v") and c.get("k") == "v"

    with_users(check)


def test_a_text_client_authenticates_with_its_first_set(server):
    def check(served, _):
        w = served.connect("memcache")
        assert isinstance(w, Wire)
        w.ask(b"get k\r\n", b"CLIENT_ERROR unauthenticated\r\n")
        w.ask(b"set auth 0 0 9\r\nann wrong\r\n", b"CLIENT_ERROR authentication failure\r\n")
        w.ask(b"set auth 0 0 10\r\nann s3cret\r\n", b"STORED\r\n")
        w.ask(b"get auth\r\n", b"END\r\n")
        w.send(b"stats\r\n")
        rows = {}
        while True:
            line = w.line()
            if line == b"END":
                break
            _, name, value = line.split(b" ", 2)
            rows[name] = int(value) if value.isdigit() else value
        assert (rows[b"auth_cmds"], rows[b"auth_errors"]) == (2, 1), rows

    with_users(check)


if __name__ == "__main__":
    run(__file__, globals())
