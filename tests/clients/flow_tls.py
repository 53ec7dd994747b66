"""TLS with the clients that people have: redis-cli, redis-py, pymemcache, openssl."""

import os
import ssl
import subprocess

import pymemcache
import redis

import crucible
from crucible import run
from tls_server import TlsServer, file

def _redis(server, **options):
    return redis.Redis(crucible.HOST, server.resp_port, ssl=True, ssl_ca_certs=file("ca.pem"), **options)


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
        cli = ["redis-cli", "-p", str(server.resp_port), "--tls", "--cacert", file("ca.pem")]
        done = subprocess.run(cli + ["SET", "k", "from the shell"], capture_output=True,
                              text=True, timeout=120, check=False)
        if "Unrecognized option" in done.stderr + done.stdout:
            print("        this redis-cli is built without TLS")
            return
        assert done.stdout == "OK\n", done
        assert _redis(server).get("k") == b"from the shell"


def test_pymemcache_reads_and_writes(_):
    with TlsServer() as server:
        context = ssl.create_default_context(cafile=file("ca.pem"))
        client = pymemcache.Client((crucible.HOST, server.memcache_port), tls_context=context)
        client.set("k", b"v" * 100_000)
        assert client.get("k") == b"v" * 100_000
        assert _redis(server).strlen("k") == 100_000, "one store behind both"
        client.close()


def test_a_certificate_is_needed_where_one_is_asked_for(_):
    with TlsServer(tls=f'client_ca = "{file("ca.pem")}"') as server:
        try:
            _redis(server).ping()
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
            pass
        else:
            raise AssertionError("served without a certificate")
        known = _redis(server, ssl_certfile=file("client.pem"), ssl_keyfile=file("client.key"))
        assert known.ping()


def test_openssl_finds_a_good_chain_and_resumes(_):
    with TlsServer() as server:
        base = ["openssl", "s_client", "-connect", f"{crucible.HOST}:{server.resp_port}", "-CAfile",
                file("ca.pem"), "-verify_return_error", "-sess_out", file("session")]
        ask = {"input": "PING\r\nQUIT\r\n", "capture_output": True, "text": True, "timeout": 120}
        first = subprocess.run(base + ["-ign_eof"], check=False, **ask)
        assert "Verify return code: 0 (ok)" in first.stdout and "+PONG" in first.stdout, first
        again = subprocess.run(base + ["-ign_eof", "-sess_in", file("session")], check=False,
                               **ask)
        assert "Reused, TLSv1.3" in again.stdout, again.stdout


if __name__ == "__main__":
    run(__file__, globals())
