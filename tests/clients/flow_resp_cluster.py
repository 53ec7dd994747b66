"""Several hosts as one: a static cluster map for cluster clients, and twemproxy in front."""

import os
import shutil
import subprocess
import tempfile
import time

from crucible import Server, free_port, run

HOST = {"heap": "64MiB", "threads": 1, "plugins": ("resp",)}

SLOTS = (("a", "0-5460"), ("b", "5461-10922"), ("c", "10923-16383"))


def wait_for(port, limit_s=60):
    import redis

    limit = time.monotonic() + limit_s
    while True:
        try:
            return redis.Redis(port=port, socket_timeout=60).ping()
        except redis.ConnectionError:
            assert time.monotonic() < limit, f"nobody answers on {port}"
            time.sleep(0.02)


class Nodes:
    """Three hosts, each told the same map and its own name."""

    def __enter__(self):
        self.dir = tempfile.TemporaryDirectory()
        self.ports = [free_port() for _ in SLOTS]
        nodes = ", ".join(
            f'{{ name = "{name}", host = "127.0.0.1", port = {port}, slots = ["{slots}"] }}'
            for (name, slots), port in zip(SLOTS, self.ports)
        )
        self.servers = []
        for (name, _), port in zip(SLOTS, self.ports):
            path = os.path.join(self.dir.name, f"{name}.toml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(
                    f'[[listener]]\nprotocol = "resp"\naddress = "127.0.0.1:{port}"\n'
                    f'settings = {{ cluster = {{ me = "{name}", nodes = [{nodes}] }} }}\n'
                )
            self.servers.append(Server(["--config", path], plugins=(), threads=1))
            wait_for(port)
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.stop()
        self.dir.cleanup()


def test_a_cluster_client_finds_every_slot(server):
    import redis

    with Nodes() as nodes:
        cluster = redis.RedisCluster(host="127.0.0.1", port=nodes.ports[0])
        for i in range(500):
            assert cluster.set(f"key:{i}", i)
        assert [cluster.get(f"key:{i}") for i in range(500)] == [b"%d" % i for i in range(500)]
        sizes = [redis.Redis(port=port).dbsize() for port in nodes.ports]
        assert sum(sizes) == 500 and all(size > 100 for size in sizes), sizes
        assert cluster.mset({"{tag}a": 1, "{tag}b": 2}) and cluster.delete("{tag}a", "{tag}b") == 2
        pipe = cluster.pipeline()
        for i in range(100):
            pipe.get(f"key:{i}")
        assert pipe.execute() == [b"%d" % i for i in range(100)]
        assert cluster.cluster_info(target_nodes=cluster.RANDOM)["cluster_state"] == "ok"
        assert len(cluster.get_nodes()) == 3


def test_a_plain_client_is_sent_to_the_right_node(server):
    import redis

    with Nodes() as nodes:
        r = redis.Redis(port=nodes.ports[0])
        try:
            r.get("foo")
            raise AssertionError("slot 12182 belongs to the third node")
        except redis.ResponseError as error:
            assert f"12182 127.0.0.1:{nodes.ports[2]}" in str(error), error
        try:
            r.mget("foo", "bar")
            raise AssertionError("two slots in one command")
        except redis.ResponseError as error:
            assert "hash to the same slot" in str(error) or "CROSSSLOT" in str(error), error


class Proxy:
    """Twemproxy in front of plain servers."""

    def __init__(self, ports):
        binary = shutil.which("nutcracker") or "/usr/sbin/nutcracker"
        assert os.path.exists(binary), "nutcracker is not installed"
        self.port, self.stats = free_port(), free_port()
        self.dir = tempfile.TemporaryDirectory()
        path = os.path.join(self.dir.name, "pool.yml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(
                f"pool:\n  listen: 127.0.0.1:{self.port}\n  hash: md5\n"
                "  distribution: ketama\n  redis: true\n  auto_eject_hosts: true\n"
                "  timeout: 60000\n  server_retry_timeout: 60000\n  server_failure_limit: 1\n"
                "  servers:\n" + "".join(f"   - 127.0.0.1:{port}:1\n" for port in ports)
            )
        command = [binary, "-c", path, "-s", str(self.stats), "-o", os.path.join(self.dir.name, "log")]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **quiet)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def client(self):
        """Twemproxy knows neither HELLO nor CLIENT."""
        import redis

        return redis.Redis(
            port=self.port, protocol=2, lib_name=None, lib_version=None, socket_timeout=60
        )

    def _wait(self):
        import redis

        limit = time.monotonic() + 60
        while True:
            try:
                self.client().get("x")
                return
            except redis.RedisError:
                assert time.monotonic() < limit, "the proxy does not answer"
                time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        self.dir.cleanup()


def test_twemproxy_spreads_keys_and_survives_the_death_of_a_host(server):
    import redis

    hosts = [Server(plugins=("resp",), threads=1) for _ in range(3)]
    proxy = Proxy([host.resp_port for host in hosts])
    try:
        r = proxy.client()
        for i in range(300):
            assert r.set(f"key:{i}", i)
        assert r.mget([f"key:{i}" for i in range(300)]) == [b"%d" % i for i in range(300)]
        sizes = [redis.Redis(port=host.resp_port).dbsize() for host in hosts]
        assert sum(sizes) == 300 and all(sizes), sizes
        hosts[1].stop()
        failed = 0
        for i in range(300):
            # The first request to the dead host fails; then its keys go to the others.
            try:
                assert r.set(f"key:{i}", i)
            except redis.RedisError:
                failed += 1
        assert failed <= 3, failed
        found = [r.get(f"key:{i}") for i in range(300)]
        assert sum(value is not None for value in found) >= 297
    finally:
        proxy.stop()
        for host in hosts:
            if host.alive():
                host.stop()


if __name__ == "__main__":
    run(__file__, globals())
