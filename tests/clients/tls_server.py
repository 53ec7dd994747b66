"""A host that speaks TLS on every listener, and the authority that vouches for it; flows import this."""

import os
import subprocess
import tempfile

import crucible
from crucible import Server, host_binary

DIR = tempfile.TemporaryDirectory(prefix="crucible-tls-")


def file(name):
    """A file of the authority, the server or the client."""
    return os.path.join(DIR.name, name)


def _openssl(*args):
    subprocess.run(("openssl",) + args, check=True, capture_output=True)


def _certificates():
    """An authority, and a server and a client that it vouches for."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl("req", "-x509", *key, "-keyout", file("ca.key"), "-out", file("ca.pem"),
             "-days", "2", "-subj", "/CN=test authority")
    with open(file("ext"), "w", encoding="ascii") as ext:
        ext.write("basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        _openssl("req", *key, "-keyout", file(f"{name}.key"), "-out", file(f"{name}.csr"),
                 "-subj", f"/CN={name}")
        _openssl("x509", "-req", "-in", file(f"{name}.csr"), "-CA", file("ca.pem"),
                 "-CAkey", file("ca.key"), "-CAcreateserial", "-days", "2",
                 "-extfile", file("ext"), "-out", file(f"{name}.pem"))


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
                     f'[listener.tls]\ncert = "{file("server.pem")}"\n'
                     f'key = "{file("server.key")}"\n{self.tls}\n')
        with open(file("host.toml"), "w", encoding="utf-8") as config:
            config.write(text)
        return [host_binary(), "--config", file("host.toml")]
