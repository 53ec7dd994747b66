"""crucible-benchmark against the host's own TLS: every protocol sealed, client certificates, and what is refused."""

import subprocess

from crucible import HOST as ADDRESS, run
from flow_bench import LIMIT_S, bench, generator, port_for, verified
from tls_server import TlsServer, file

PLUGINS = ("resp", "memcache", "momento")
SHORT = ["--keys", 500, "--duration", "400ms", "--warmup", "0s", "--json", "-", "--table", "none", "--size", "weighted:64=5,3000=3,200000=1"]


def sealed(server, protocol, *more):
    """A run over TLS with the authority's certificate."""
    return bench("-h", ADDRESS, "-p", port_for(server, protocol), "--protocol", protocol, "--tls",
                 "--tls-ca", file("ca.pem"), *SHORT, *more)


def test_every_protocol_is_verified_over_tls(_):
    with TlsServer(plugins=PLUGINS) as server:
        for protocol in ("resp", "resp3", "memcache", "memcache-meta", "memcache-binary", "momento", "momento-grpc"):
            verified(*sealed(server, protocol, "-P", 4, "--commands", "get=6,set=3,delete=1"))


def test_an_unknown_authority_is_refused_in_a_sentence(_):
    with TlsServer(plugins=PLUGINS) as server:
        done = subprocess.run([generator(), "-h", ADDRESS, "-p", str(server.resp_port), "--tls", "--connect-timeout", "5s", "--request-timeout", "1s",
                               "--duration", "200ms", "--table", "none"],
                              capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert done.returncode == 1 and "certificate" in done.stderr.lower(), done


def test_a_client_certificate_opens_what_asks_for_one(_):
    with TlsServer(tls=f'client_ca = "{file("ca.pem")}"', plugins=PLUGINS) as server:
        code, _, said = sealed(server, "resp", "--connect-timeout", "5s", "--request-timeout", "1s")
        assert code == 1, said
        own = ["--tls-certificate", file("client.pem"), "--tls-key", file("client.key")]
        verified(*sealed(server, "resp", *own))


if __name__ == "__main__":
    run(__file__, globals())
