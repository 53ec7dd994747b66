"""What containers are made of holds together: the Dockerfile's files, the manifests' references and probes, and the
seccomp profile, under which the host runs here and serves everything, with death as the answer to any other call."""

import ctypes
import glob
import json
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import yaml

from crucible import HOST as ADDRESS, Wire, free_port, host_binary, run
from every_key import Host, Listener, Store, ask, fill

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIMIT_S = 120
#: What a user of the admin server may ask for.
PATHS = ("/", "/health", "/ready", "/metrics", "/stats", "/plugins", "/config", "/connections", "/hotkeys", "/mrc",
         "/history", "/profile?seconds=1", "/trace?seconds=1")


def read(*path):
    with open(os.path.join(TOP, *path), encoding="utf-8") as file:
        return file.read()


def manifests():
    """The Kubernetes objects by kind and name."""
    objects = [one for one in yaml.safe_load_all(read("contrib", "kubernetes", "crucible.yaml")) if one]
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


def good(path):
    """The host takes a configuration file."""
    done = subprocess.run([host_binary(), "--config", path, "--check-config"], capture_output=True, text=True,
                          timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr


def test_the_image_is_made_of_files_that_are_there_and_starts_with_what_it_holds(_server):
    lines = re.sub(r"\\\n", " ", read("contrib", "docker", "Dockerfile")).splitlines()
    steps = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    assert [step for step, _ in steps].count("FROM") == 2, steps
    image, entry, command, ports = {}, None, None, []
    for step, rest in steps:
        if step == "COPY" and rest.startswith("--from=build"):
            source, target = shlex.split(rest)[1:]
            assert source.startswith("/src/target/release/"), source
            # What the tool chain makes there is what it makes here.
            pattern = os.path.join(os.path.dirname(host_binary()), os.path.basename(source))
            made = glob.glob(pattern)
            assert made, f"{source} is not made"
            image.update({os.path.join(target, os.path.basename(one)): one for one in made})
        elif step == "COPY" and rest != ". .":
            source, target = shlex.split(rest)
            assert os.path.isfile(os.path.join(TOP, source)), source
            image[target] = os.path.join(TOP, source)
        elif step == "ENTRYPOINT":
            entry = json.loads(rest)
        elif step == "CMD":
            command = json.loads(rest)
        elif step == "EXPOSE":
            ports = [int(port) for port in rest.split()]
    assert entry == ["/usr/bin/crucible-host"] and entry[0] in image, entry
    assert command[0] == "--config" and command[1] in image, command
    assert "/usr/lib/crucible/libsegcache.so" in image and "/usr/lib/crucible/libresp.so" in image
    configuration = read(os.path.relpath(image[command[1]], TOP))
    listening = {int(port) for port in re.findall(r'address = "[^"]*:(\d+)"', configuration)}
    assert listening <= set(ports), (listening, ports)
    good(image[command[1]])
    version = re.search(r"FROM rust:(\d+\.\d+)", read("contrib", "docker", "Dockerfile")).group(1)
    assert f'rust-version = "{version}"' in read("Cargo.toml"), "the image is built by the project's own tool chain"


def test_the_manifests_refer_to_what_they_define(_server):
    objects = manifests()
    (_, name), pods = next((key, one) for key, one in objects.items() if key[0] == "StatefulSet")
    spec = pods["spec"]
    assert ("Service", spec["serviceName"]) in objects
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    service = objects["Service", spec["serviceName"]]["spec"]
    assert service["selector"].items() <= labels.items()
    pod, (container,) = spec["template"]["spec"], spec["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["name"]: port["port"] for port in service["ports"]} == ports
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    for volume in volumes.values():
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in objects
        if "secret" in volume:
            assert ("Secret", volume["secret"]["secretName"]) in objects
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        way = container[probe].get("httpGet") or container[probe]["tcpSocket"]
        assert way["port"] in ports, container[probe]
    profile = pod["securityContext"]["seccompProfile"]["localhostProfile"]
    assert os.path.basename(profile) in os.listdir(os.path.join(TOP, "contrib", "docker"))
    assert container["args"][0] == "--config"
    assert os.path.dirname(container["args"][1]) in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert name == labels["app"]


def served(objects, folder):
    """The manifests' configuration with paths and ports of this machine; by name, the port of each."""
    text = objects["ConfigMap", "crucible"]["data"]["crucible.toml"]
    token = os.path.join(folder, "token")
    with open(token, "w", encoding="ascii") as file:
        file.write(objects["Secret", "crucible-admin"]["stringData"]["token"])
    assert "/etc/crucible-token/token" in text
    text = text.replace("/etc/crucible-token/token", token)
    _, pods = next((key, one) for key, one in objects.items() if key[0] == "StatefulSet")
    (container,) = pods["spec"]["template"]["spec"]["containers"]
    ports = {}
    for port in container["ports"]:
        assert f':{port["containerPort"]}"' in text, f"nothing listens on {port}"
        ports[port["name"]] = free_port()
        text = text.replace(f':{port["containerPort"]}"', f':{ports[port["name"]]}"')
    path = os.path.join(folder, "crucible.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return container, pods, ports, path


def status(port, path):
    try:
        with urllib.request.urlopen(f"http://{ADDRESS}:{port}{path}", timeout=LIMIT_S) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def probed(container, probe, ports):
    """Whether a probe succeeds."""
    way = container[probe].get("httpGet")
    if way:
        return status(ports[way["port"]], way["path"]) == 200
    try:
        socket.create_connection((ADDRESS, ports[container[probe]["tcpSocket"]["port"]]), timeout=LIMIT_S).close()
        return True
    except OSError:
        return False


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


def test_the_pods_configuration_serves_answers_its_probes_and_drains_within_the_grace_period(_server):
    with tempfile.TemporaryDirectory() as folder:
        # A port that was free may be taken a moment later: then others are tried.
        for _ in range(5):
            container, pods, ports, path = served(manifests(), folder)
            good(path)
            process = subprocess.Popen([host_binary(), "--config", path], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + LIMIT_S
            probes = ("startupProbe", "livenessProbe", "readinessProbe")
            while process.poll() is None and not all(probed(container, probe, ports) for probe in probes):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            if process.poll() is None:
                break
        try:
            assert process.poll() is None, f"it ends with {process.returncode}"
            assert status(ports["admin"], "/stats") == 401, "the rest of the admin server needs the token"
            with Wire(socket.create_connection((ADDRESS, ports["resp"]), timeout=LIMIT_S)) as wire:
                assert ask(wire, "PING") == "PONG"
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT_S) == 0
        finally:
            process.kill()
            process.wait()
        text = open(path, encoding="utf-8").read()
        drain = seconds(re.search(r'drain_timeout = "([^"]+)"', text).group(1))
        assert drain < pods["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        heap = int(re.search(r'heap_size = "(\d+)GiB"', text).group(1)) << 30
        memory = int(re.fullmatch(r"(\d+)Mi", container["resources"]["limits"]["memory"]).group(1)) << 20
        assert memory > heap * 6 // 5, "room beside the store"


def profile():
    return json.loads(read("contrib", "docker", "seccomp-io_uring.json"))


def allowed():
    """The names of the calls that the profile allows."""
    found = profile()
    assert found["defaultAction"] == "SCMP_ACT_ERRNO"
    names = set()
    for rule in found["syscalls"]:
        assert rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args"), rule
        names |= set(rule["names"])
    return names


def confine(names):
    """Of this process, every other system call is its end: for a child, before it becomes the host."""
    kill_process, allow = 0x80000000, 0x7fff0000
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint,
                                               ctypes.c_void_p]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    filter_ = library.seccomp_init(ctypes.c_uint32(kill_process))
    for name in names:
        number = library.seccomp_syscall_resolve_name(name.encode())
        # Names that this machine's kernel or library does not have.
        if number >= 0:
            assert library.seccomp_rule_add_array(filter_, allow, number, 0, None) == 0, name
    assert library.seccomp_load(filter_) == 0


def exercise(host):
    """Everything that a host does in its life, as far as clients and people can ask for it."""
    for name in ("resp", "slab", "heap"):
        with host.wire(name) as wire:
            fill(wire, 2000, 700)
            assert ask(wire, "GET", "f1") == "x" * 700
            big = b"y" * (3 << 20 if name == "heap" else 900_000)
            assert ask(wire, "SET", "big", big) in ("OK",) or name == "slab"
            for _ in range(3):
                ask(wire, "GET", "big")
            ask(wire, "INFO")
            ask(wire, "CLIENT", "LIST")
            ask(wire, "CONFIG", "SET", "maxmemory", 12 << 20)
    with host.wire("memcache") as wire:
        wire.ask(b"set m 0 60 1\r\nv\r\nget m\r\n", b"STORED\r\nVALUE m 0 1\r\nv\r\nEND\r\n")
        wire.send(b"stats\r\n")
    with host.wire("momento") as wire:
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        wire.read(9)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with host.wire("tls") as wire:
        secured = context.wrap_socket(wire.sock)
        secured.sendall(b"PING\r\n")
        assert secured.recv(100) == b"+PONG\r\n"
    for path in PATHS:
        assert host.admin(path) is not None, path
    host.admin("/log-level", b"debug")
    host.admin("/reload", b"")
    host.admin("/plugins/reload", b"")


def test_the_host_lives_within_the_seccomp_profile(_server):
    names = allowed()
    assert {"io_uring_setup", "io_uring_enter", "io_uring_register"} <= names
    assert not names & {"ptrace", "mount", "bpf", "kexec_load", "init_module", "process_vm_readv", "userfaultfd"}
    with tempfile.TemporaryDirectory() as folder:
        certificate = [os.path.join(folder, name) for name in ("cert.pem", "key.pem")]
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", certificate[1], "-out", certificate[0], "-days", "2", "-subj", "/CN=localhost"],
                       check=True, capture_output=True, timeout=LIMIT_S)
        stores = {"cache": Store("segcache"), "slab": Store("slab"), "heap": Store("heap"),
                  "file": Store("segcache", {"persist": os.path.join(folder, "heap")})}
        listeners = {"resp": Listener("resp"), "slab": Listener("resp", store="slab"),
                     "heap": Listener("resp", store="heap"), "file": Listener("resp", store="file"),
                     "memcache": Listener("memcache"), "momento": Listener("momento"),
                     "tls": Listener("resp", tls={"cert": certificate[0], "key": certificate[1]})}
        with Host(stores, listeners, threads=2, confine=lambda: confine(names),
                  top='[takeover]\nsocket = "%s"\n' % os.path.join(folder, "takeover")) as host:
            exercise(host)
            # A signal's reload, and a drain with a connection open.
            os.kill(host.pid, signal.SIGHUP)
            with host.wire("resp") as wire:
                assert ask(wire, "PING") == "PONG"
                host.stop()


if __name__ == "__main__":
    run(__file__, globals())
