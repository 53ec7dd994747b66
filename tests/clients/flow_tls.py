"""TLS with the clients that people have: redis-cli, redis-py, pymemcache, openssl."""

import os
import ssl
import subprocess
import tempfile

import pymemcache
import redis

import crucible
from crucible import Server, host_binary, run

DIR = tempfile.TemporaryDirectory(prefix="crucible-tls-")


def _file(name):
    return os.path.join(DIR.name, name)


def _openssl(*args):
    subprocess.run(("openssl",) + args, check=True, capture_output=True)


def _certificates():
    """An authority, and a server and a client that it vouches for."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl("req", "-x509", *key, "-keyout", _file("ca.key"), "-out", _file("ca.pem"),
             "-days", "2", "-subj", "/CN=test authority")
    with open(_file("ext"), "w", encoding="ascii") as ext:
        ext.write("basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        _openssl("req", *key, "-keyout", _file(f"{name}.key"), "-out", _file(f"{name}.csr"),
                 "-subj", f"/CN={name}")
        _openssl("x509", "-req", "-in", _file(f"{name}.csr"), "-CA", _file("ca.pem"),
                 "-CAkey", _file("ca.key"), "-CAcreateserial", "-days", "2",
                 "-extfile", _file("ext"), "-out", _file(f"{name}.pem"))


_certificates()


class TlsServer(Server):
    """Every protocol over TLS."""

    def __init__(self, tls="", **options):
        self.tls = tls
        super().__init__(**options)

    def _command(self):
        text = '[workers]\nthreads = 2\n[cache]\nheap_size = "64MiB"\n'
        for name in self.plugins:
            text += (f'[[listener]]\nprotocol = "{name}"\naddress = "{crucible.HOST}:{self.ports[name]}"\n'
                     f'[listener.tls]\ncert = "{_file("server.pem")}"\n'
                     f'key = "{_file("server.key")}"\n{self.tls}\n')
        with open(_file("host.toml"), "w", encoding="utf-8") as config:
            config.write(text)
        return [host_binary(), "--config", _file("host.toml")]


def _redis(server, **options):
    return redis.Redis(crucible.HOST, server.resp_port, ssl=True, ssl_ca_certs=_file("ca.pem"), **options)


def test_redis_py_reads_and_writes_small_and_large_values(_):
    with TlsServer() as server:
        client = _redis(server)
        client.set("k", "v")
        assert client.get("k") == b"v"
        large = os.urandom(900_000)
        client.set("large", large)
        assert client.get("large") == large
        pipe = client.pipeline(transaction=False)
        for at in range(2000):
            pipe.set(f"k{at}", at)
            pipe.get(f"k{at}")
        assert pipe.execute()[1::2] == [b"%d" % at for at in range(2000)]
        client.close()


def test_redis_cli_connects(_):
    with TlsServer() as server:
        cli = ["redis-cli", "-p", str(server.resp_port), "--tls", "--cacert", _file("ca.pem")]
        done = subprocess.run(cli + ["SET", "k", "from the shell"], capture_output=True,
                              text=True, timeout=20, check=False)
        if "Unrecognized option" in done.stderr + done.stdout:
            print("        this redis-cli is built without TLS")
            return
        assert done.stdout == "OK\n", done
        assert _redis(server).get("k") == b"from the shell"


def test_pymemcache_reads_and_writes(_):
    with TlsServer() as server:
        context = ssl.create_default_context(cafile=_file("ca.pem"))
        client = pymemcache.Client((crucible.HOST, server.memcache_port), tls_context=context)
        client.set("k", b"v" * 100_000)
        assert client.get("k") == b"v" * 100_000
        assert _redis(server).strlen("k") == 100_000, "one store behind both"
        client.close()


def test_a_certificate_is_needed_where_one_is_asked_for(_):
    with TlsServer(tls=f'client_ca = "{_file("ca.pem")}"') as server:
        try:
            _redis(server).ping()
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
            pass
        else:
            raise AssertionError("served without a certificate")
        known = _redis(server, ssl_certfile=_file("client.pem"), ssl_keyfile=_file("client.key"))
        assert known.ping()


def test_openssl_finds_a_good_chain_and_resumes(_):
    with TlsServer() as server:
        base = ["openssl", "s_client", "-connect", f"{crucible.HOST}:{server.resp_port}", "-CAfile",
                _file("ca.pem"), "-verify_return_error", "-sess_out", _file("session")]
        ask = {"input": "PING\r\nQUIT\r\n", "capture_output": True, "text": True, "timeout": 20}
        first = subprocess.run(base + ["-ign_eof"], check=False, **ask)
        assert "Verify return code: 0 (ok)" in first.stdout and "+PONG" in first.stdout, first
        again = subprocess.run(base + ["-ign_eof", "-sess_in", _file("session")], check=False,
                               **ask)
        assert "Reused, TLSv1.3" in again.stdout, again.stdout


if __name__ == "__main__":
    run(__file__, globals())
