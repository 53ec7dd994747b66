"""The cases of the `tls.*` keys, of listeners and of the admin server alike; `flow_every_host_key` walks them."""

import socket
import ssl

from crucible import Wire
from host_keys import ADDRESS, LIMIT_S, case, hosting, is_closed, until
from tls_server import file

CERT = {"cert": file("server.pem"), "key": file("server.key")}


def keys_of(name):
    """A key with both of its prefixes."""
    return f"admin.tls.{name}", f"listener.tls.{name}"


class Side:
    """A host with these TLS keys at the place that a key is of, and how one talks to it."""

    def __init__(self, of, **tls):
        tls = {**CERT, **tls}
        self.is_admin = of.startswith("admin.")
        if self.is_admin:
            self.host = hosting({f"admin.tls.{name}": value for name, value in tls.items()})
            self.address = self.host.admin_address()
        else:
            self.host = hosting(listener={f"tls.{name}": value for name, value in tls.items()})
            self.address = self.host.addresses["it"]

    def plain(self):
        """A connection without TLS."""
        return socket.create_connection((ADDRESS, int(self.address.rpartition(":")[2])), timeout=LIMIT_S)

    def speak(self, own=None, **options):
        """One exchange over TLS; the connection, which is left open."""
        context = ssl.create_default_context(cafile=file("ca.pem"))
        if own:
            context.load_cert_chain(file(f"{own}.pem"), file(f"{own}.key"))
        for name, value in options.items():
            if name == "alpn":
                context.set_alpn_protocols(value)
            else:
                setattr(context, name, value)
        sock = context.wrap_socket(self.plain(), server_hostname="localhost")
        if self.is_admin:
            sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert Wire(sock).line() == b"HTTP/1.1 200 OK"
        else:
            sock.sendall(b"PING\r\n")
            assert Wire(sock).line() == b"+PONG"
        return sock

    def refuses(self, **options):
        """Whether that exchange fails."""
        try:
            self.speak(**options).close()
        except (ssl.SSLError, ConnectionError):
            return True
        return False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return self.host.__exit__(*error)


@case(*keys_of("cert"), *keys_of("key"))
def connections_are_encrypted_with_this_certificate(key):
    other = "client"
    with Side(key) as usual, Side(key, cert=file(f"{other}.pem"), key=file(f"{other}.key")) as side:
        names = []
        for one in (usual, side):
            with one.speak() as sock:
                names.append(dict(part[0] for part in sock.getpeercert()["subject"])["commonName"])
        assert names == ["server", other]
        # Who speaks plainly is not served.
        with side.plain() as sock:
            sock.sendall(b"PING\r\n" * 4)
            assert b"PONG" not in sock.recv(100)


@case(*keys_of("client_ca"))
def clients_must_show_a_certificate(key):
    with Side(key, client_ca=file("ca.pem")) as side, Side(key) as usual:
        assert side.refuses()
        side.speak(own="client").close()
        usual.speak().close()


@case(*keys_of("client_auth"))
def clients_may_come_without_a_certificate(key):
    with Side(key, client_ca=file("ca.pem"), client_auth="optional") as side:
        side.speak().close()
        side.speak(own="client").close()


@case(*keys_of("min_version"))
def older_versions_are_not_spoken(key):
    old = {"maximum_version": ssl.TLSVersion.TLSv1_2}
    with Side(key, min_version="1.3") as side, Side(key) as usual:
        assert side.refuses(**old)
        with side.speak() as new, usual.speak(**old) as older:
            assert (new.version(), older.version()) == ("TLSv1.3", "TLSv1.2")


@case(*keys_of("ciphers"))
def the_suites_are_those_listed(key):
    with Side(key, ciphers=["TLS_CHACHA20_POLY1305_SHA256"]) as side, Side(key) as usual:
        with side.speak() as sock, usual.speak() as other:
            assert sock.cipher()[0] == "TLS_CHACHA20_POLY1305_SHA256" != other.cipher()[0]


@case(*keys_of("alpn"))
def these_protocols_are_offered(key):
    with Side(key, alpn=["mine"]) as side, Side(key) as usual:
        with side.speak(alpn=["mine", "other"]) as sock, usual.speak() as other:
            assert (sock.selected_alpn_protocol(), other.selected_alpn_protocol()) == ("mine", None)


@case(*keys_of("handshake_timeout"))
def a_handshake_must_be_done_in_time(key):
    with Side(key, handshake_timeout="200ms") as side, Side(key) as usual:
        with Wire(side.plain()) as silent, usual.plain() as other:
            assert is_closed(silent)
            other.setblocking(False)
            try:
                assert other.recv(1), "closed as well"
            except BlockingIOError:
                pass


@case(*keys_of("handshakes_max"))
def so_many_handshakes_are_under_way(key):
    with Side(key, handshakes_max=1) as side:
        with Wire(side.plain()):
            # The silent one has the only place.
            def is_turned_away():
                with Wire(side.plain()) as extra:
                    extra.sock.settimeout(1)
                    try:
                        return is_closed(extra)
                    except TimeoutError:
                        return False
            until("turned away", is_turned_away)
        until("served", lambda: not side.refuses())

