"""Every key of the host that the generated reference lists has its effect on running hosts, or is refused.

The keys are read from `crucible-host reference`: one without a case fails the flow, as does a case without a key. Keys
of plugins are `flow_every_key`'s.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request

import host_keys_tls  # pylint: disable=unused-import
from crucible import Wire, free_port, run
from every_key import reference
from flow_bench import PATIENT, generator
from host_keys import (CASES, ESTABLISHED, ADDRESS, LIMIT_S, LISTEN, PING, Host, Listener, Store, ask, backlog_of, case, cpu_s,
                       get, host_binary, hosting, is_closed, is_served, mapped, pipeline, port_of, refusal, resp, rings_of,
                       store_value, table, takes, tcp_rows, threads_of, unread, until, waiting)

FOLDER = tempfile.TemporaryDirectory(prefix="crucible-keys-")
BESIDE = os.path.dirname(host_binary())
LONG = "1h"


def file(name):
    """A file of this flow."""
    return os.path.join(FOLDER.name, name)


def plugin_copy(name, *changes):
    """A copy of the ping plugin in a folder of its own, with words replaced by others of the same length."""
    with open(os.path.join(BESIDE, "libping.so"), "rb") as whole:
        data = whole.read()
    for old, new in changes:
        assert len(old) == len(new) and old in data, old
        data = data.replace(old, new)
    os.makedirs(file(name), exist_ok=True)
    with open(os.path.join(file(name), "libping.so"), "wb") as copy:
        copy.write(data)
    return file(name)


# [workers]


@case("workers.threads")
def so_many_threads_serve():
    for count in (1, 3):
        with hosting({"workers.threads": count}, threads=None) as host:
            assert len(threads_of(host, "worker-")) == host.stats()["process"]["threads"] == count


@case("workers.cpu_affinity")
def workers_are_on_their_cpus_in_this_order():
    cpus = sorted(os.sched_getaffinity(0), reverse=True)[:4]
    with hosting({"workers.cpu_affinity": ",".join(map(str, cpus))}, threads=None) as host, hosting() as usual:
        def places(of):
            return [status["Cpus_allowed_list"] for _, status in sorted(threads_of(of, "worker-").items())]
        until("bound", lambda: places(host) == [str(cpu) for cpu in cpus])
        assert places(usual) == [threads_of(usual, "admin")["admin"]["Cpus_allowed_list"]]


@case("workers.stuck_after")
def a_worker_in_a_long_command_is_told_of_with_its_stack():
    for stuck_after, said in (("20ms", True), ("0", False)):
        with hosting({"workers.stuck_after": stuck_after}) as host, host.wire("it") as wire:
            # Comparisons of two long values, in one round, take their time whatever the machine.
            for key in ("one", "two"):
                assert ask(wire, "SET", key, os.urandom(11_000)) == "OK"

            def is_told(host=host, wire=wire):
                replies = pipeline(wire, [resp("LCS", "one", "two", "LEN")] * 50)
                assert min(replies) > 0
                return "is stuck in a plugin" in host.log()

            if said:
                until("told", is_told)
                assert host.stats()["stuck"] > 0 and "stack=" in host.log()
            else:
                assert not is_told() and host.stats()["stuck"] == 0


# [plugins]


@case("plugins.dirs")
def folders_are_searched_first():
    folder = plugin_copy("first")
    for dirs, found in (([folder], folder), ([], BESIDE)):
        with hosting({"plugins.dirs": dirs}, protocol="ping") as host:
            origin = {p["name"]: p["origin"] for p in json.loads(host.admin("/plugins"))}["ping"]
            assert os.path.samefile(os.path.dirname(origin), found), origin


def refused_plugin(folder, more=""):
    text = f"{more}\n[[listener]]\nprotocol = \"{folder}/libping.so\"\naddress = \"{ADDRESS}:0\"\n"
    return refusal(text=text, folder=FOLDER.name)


@case("plugins.layout_report")
def the_report_of_another_layout_is_written():
    other = plugin_copy("layout", (b"n_counters", b"m_counters"))
    assert "data layout differs" in refused_plugin(other)
    assert not os.path.exists(file("report"))
    assert file("report") in refused_plugin(other, f"[plugins]\nlayout_report = \"{file('report')}\"")
    with open(file("report"), encoding="utf-8") as report:
        assert "m_counters" in report.read()


@case("plugins.allow_abort")
def a_plugin_whose_panics_end_the_process_needs_a_word():
    aborts = plugin_copy("aborts", (b"panic=unwind\n", b"panic=abort\n\n"))
    assert 'panic = "abort"' in refused_plugin(aborts)
    with hosting({"plugins.allow_abort": True}, protocol=f"{aborts}/libping.so") as host, host.wire("it") as wire:
        wire.ask(PING, b"PONG\r\n")


# [limits]


def connections_end_at(limit, keys=None, listener=None, elsewhere=False):
    """A host on which one connection more than `limit` hears why and is closed."""
    with hosting(keys, listener) as host:
        wires = [host.wire("it") for _ in range(limit)]
        for wire in wires:
            is_served(wire)
        with host.wire("it") as extra:
            assert is_closed(extra)
        until("counted", lambda: host.stats()["refusals"] == 1)
        if elsewhere:
            sock = socket.create_connection((ADDRESS, port_of(host)), timeout=LIMIT_S, source_address=("127.0.0.2", 0))
            with Wire(sock) as other:
                is_served(other)
        for wire in wires:
            is_served(wire)
            wire.close()


@case("limits.max_connections")
def further_connections_are_closed():
    connections_end_at(2, {"limits.max_connections": 2})


@case("limits.max_connections_per_address")
def one_address_has_so_many_connections_and_others_theirs():
    connections_end_at(2, {"limits.max_connections_per_address": 2}, elsewhere=True)


def after_a_silence(key, where, before=b""):
    """A connection that has sent this and nothing more is closed, one of a host without the key's limit is not."""
    keys, listener = ({key: "100ms"}, None) if where == "limits" else (None, {key: "100ms"})
    usual = {"limits." + key.rpartition(".")[2]: "0"}
    with hosting(usual) as other, hosting(keys, listener) as host:
        with other.wire("it") as stays, host.wire("it") as wire:
            stays.send(before)
            wire.send(before)
            assert is_closed(wire)
            until("counted", lambda: host.stats()["timeouts"] == 1)
            assert other.stats()["timeouts"] == 0
            stays.ask(b"ING\r\n" if before else PING, b"+PONG\r\n")


def without_reading(key, where):
    """A connection that takes none of its replies is closed; with another limit it gets them all."""
    def keys(value):
        return ({key: value}, None) if where == "limits" else (None, {key: value})
    reply = b"$20000\r\n" + b"x" * 20_000 + b"\r\n"
    with hosting(*keys("0")) as other, hosting(*keys("200ms")) as host:
        wires, asked = {}, {}
        for one in (other, host):
            store_value(one, "v", 20_000)
            wires[one], asked[one] = one.wire("it"), 0
            # Until the kernel takes no more: what waits in the host then is short, and with it the time.
            while waiting(one) == 0:
                count = asked[one]
                wires[one].send(get("v", 10))
                asked[one] += 10
                until("answered", lambda: one.stats()["stores"]["cache"]["hits"] == count + 10)  # pylint: disable=cell-var-from-loop
        until("closed", lambda: host.stats()["timeouts"] == 1)
        assert is_closed(wires[host])
        assert other.stats()["timeouts"] == 0
        takes(wires[other], asked[other] * len(reply))
        wires[other].close()


@case("limits.idle_timeout", "limits.request_timeout", "limits.write_timeout",
      "listener.idle_timeout", "listener.request_timeout", "listener.write_timeout")
def a_connection_that_is_slow_in_this_way_is_closed(key):
    where, _, name = key.partition(".")
    key = key if where == "limits" else name
    if name == "write_timeout":
        without_reading(key, where)
    else:
        after_a_silence(key, where, b"P" if name == "request_timeout" else b"")


@case("limits.input_max")
def a_request_that_cannot_become_whole_closes_its_connection():
    words = ["DEL"] + [b"k" * 60_000] * 20
    with hosting() as usual, hosting({"limits.input_max": "256KiB"}) as host:
        with usual.wire("it") as stays, host.wire("it") as wire:
            assert ask(stays, *words) == 0
            try:
                wire.send(resp(*words))
            except (ConnectionError, BrokenPipeError):
                pass
            assert is_closed(wire)
            until("counted", lambda: host.metric("crucible_input_limit_closes_total") == 1)
            assert usual.metric("crucible_input_limit_closes_total") == 0


def echoes(count):
    """Requests with replies of 64 KiB each, which are copies of their own."""
    return resp("ECHO", b"x" * 65_536) * count


@case("limits.output_pause")
def requests_are_read_until_so_many_replies_wait():
    with hosting({"limits.output_pause": "8MiB"}) as host, hosting() as usual:
        with unread(host, echoes(320)), unread(usual, echoes(320)):
            until("paused", lambda: waiting(host) >= 8 << 20)
            until("paused", lambda: waiting(usual) >= 1 << 20)
            assert waiting(usual) < 4 << 20, waiting(usual)


def at_rest(host, number):
    """A number of the host's that did not change over some rounds of its worker, which answers each time."""
    last, same = number(), 0
    while same < 10:
        waiting(host)
        last, same = number(), same + 1 if number() == last else 0
    return last


@case("limits.output_resume")
def requests_are_read_again_below_so_many_waiting_replies():
    # Replies leave in two blocks: what the kernel was given, here 8 MiB of one reply, and all that was made since. When
    # the first is gone 12 MiB wait, more than the kernel takes by itself.
    keys = {"limits.output_pause": "20MiB", "limits.by_reference_min": "1MiB"}
    for resume in ("16MiB", "64KiB"):
        with hosting({**keys, "limits.output_resume": resume}) as host:
            store_value(host, "v", 65_536)

            def hits(host=host):
                return host.stats()["stores"]["cache"]["hits"]

            with unread(host, resp("MGET", *["v"] * 128)) as wire:
                until("a block", lambda: waiting(host) >= 8 << 20)  # pylint: disable=cell-var-from-loop
                wire.send(get("v", 200))
                until("paused", lambda: waiting(host) >= 20 << 20)  # pylint: disable=cell-var-from-loop
                wire.send(get("v", 100))
                paused = at_rest(host, hits)
                assert paused == 328, paused
                takes(wire, len(b"*128\r\n") + 128 * (len(b"$65536\r\n\r\n") + 65_536))
                if resume == "16MiB":
                    until("going on", lambda: hits() > paused)  # pylint: disable=cell-var-from-loop
                else:
                    until("gone", lambda: waiting(host) < 16 << 20)  # pylint: disable=cell-var-from-loop
                    assert at_rest(host, hits) == paused and waiting(host) > 4 << 20


@case("limits.output_max")
def a_connection_with_more_waiting_replies_is_closed():
    with hosting() as usual, hosting({"limits.output_max": "2MiB"}) as host:
        for one, wanted in ((usual, 0), (host, 1)):
            store_value(one, "v", 1 << 20)
            with unread(one, resp("MGET", *["v"] * 32)) as wire:
                if wanted:
                    assert is_closed(wire)
                else:
                    takes(wire, len(b"*32\r\n") + 32 * len(b"$1048576\r\n\r\n") + (32 << 20))
            until("counted", lambda: one.metric("crucible_output_limit_closes_total") == wanted)  # pylint: disable=cell-var-from-loop


@case("limits.connection_memory")
def who_holds_more_than_its_share_is_closed():
    with hosting() as usual, hosting({"limits.connection_memory": "256KiB"}) as host:
        with unread(usual, echoes(200)), unread(host, echoes(200)) as wire:
            until("closed", lambda: host.stats()["memory_closes"] == 1)
            assert is_closed(wire)
            until("waiting", lambda: waiting(usual) > 256 << 10)
            assert usual.stats()["memory_closes"] == 0


@contextlib.contextmanager
def held_by_a_reader(keys):
    """A host on which a client has asked for values of 40 KB and reads nothing."""
    # A zero-copy send is the kernel's until the client reads.
    with hosting({"limits.by_reference_timeout": "0", "uring.zero_copy": "off", **keys}) as host:
        store_value(host, "v", 40_000)
        with unread(host, get("v", 400)):
            yield host


@case("limits.by_reference_min")
def shorter_values_are_copied():
    with held_by_a_reader({"limits.by_reference_min": "64KiB"}) as host, held_by_a_reader({}) as usual:
        until("held", lambda: usual.stats()["pinned_values"] > 0)
        until("unsent", lambda: waiting(host) > 0)
        assert host.stats()["pinned_values"] == 0


@case("limits.by_reference_timeout")
def the_store_has_its_memory_back_after_this_time():
    with held_by_a_reader({"limits.by_reference_timeout": "300ms"}) as host, held_by_a_reader({}) as usual:
        until("held", lambda: usual.stats()["pinned_values"] > 0)
        until("unsent", lambda: waiting(host) > 0)
        until("copied", lambda: host.stats()["pinned_values"] == 0)
        assert waiting(host) > 0 and usual.stats()["pinned_values"] > 0


# [uring]


@case("uring.accept")
def each_worker_has_a_listening_socket_of_its_own():
    for accept, sockets in (("round-robin", 1), ("reuse-port", 3)):
        with hosting({"uring.accept": accept}, threads=3) as host:
            assert len(tcp_rows(port_of(host), LISTEN)) == sockets


@case("uring.backlog")
def the_kernels_queue_is_so_long():
    with open("/proc/sys/net/core/somaxconn", encoding="ascii") as text:
        most = int(text.read())
    for backlog in (77, 1024):
        with hosting({"uring.backlog": backlog}) as host:
            assert backlog_of(port_of(host)) == min(backlog, most)


@case("uring.keepalive")
def a_probe_is_due_after_so_much_silence():
    for keepalive, is_ours in (("77s", True), (None, False)):
        with hosting({"uring.keepalive": keepalive} if keepalive else {}) as host, host.wire("it") as wire:
            is_served(wire)

            def is_due_in_time(host=host):
                # The timer of the host's side; 02 is the keep-alive's. A system may have a longer one of its own.
                kind, _, ticks = tcp_rows(port_of(host), ESTABLISHED)[0][5].partition(":")
                return kind == "02" and int(ticks, 16) <= 77 * os.sysconf("SC_CLK_TCK")

            if is_ours:
                until("set", is_due_in_time)
            else:
                assert not is_due_in_time()


@case("uring.sq_entries", "uring.cq_entries")
def the_rings_are_so_long(key):
    name, entries = {"uring.sq_entries": ("SqMask", 256), "uring.cq_entries": ("CqMask", 16_384)}[key]
    with hosting() as usual, hosting({key: entries}) as host:
        masks = [int(rings_of(one)[0][name], 16) for one in (usual, host)]
        assert masks[1] == entries - 1 != masks[0], masks


@case("uring.recv_buffers")
def the_receive_memory_has_this_length():
    with hosting() as usual, hosting({"uring.recv_buffers": "4MiB"}) as host:
        assert (mapped(usual, 4 << 20), mapped(host, 4 << 20)) == (0, 1)


@case("uring.incremental_buffers", "uring.direct_descriptors")
def the_kernels_way_is_left_unused(key):
    name = key.partition(".")[2]
    with hosting() as usual, hosting({key: False}) as host:
        for one, wanted in ((usual, True), (host, False)):
            with one.wire("it") as wire:
                is_served(wire)
                if wanted and f"{name}=false" in one.log():
                    print(f"        this kernel has no {name}")
                    return
                assert f"{name}={'true' if wanted else 'false'}" in one.log(), one.log()
                files = int(rings_of(one)[0]["UserFiles"])
                assert (files > 0) == (wanted or name != "direct_descriptors"), files


def zero_copies(keys, some):
    """Sends 100 KB; some of them are tried without a copy, or none. Loopback copies after all, and that counts too."""
    with hosting(keys) as host:
        store_value(host, "v", 100_000)

        def tried():
            return sum(host.metric(f"crucible_zero_copy_{how}_total") for how in ("sends", "copies"))

        with host.wire("it") as wire:
            wire.ask(get("v", 1), b"$100000\r\n" + b"x" * 100_000 + b"\r\n")
            until("counted", lambda: host.metric("crucible_sent_bytes_total") > 100_000)
            if some:
                until("tried", tried)
            is_served(wire)
            assert some or tried() == 0


@case("uring.zero_copy", "uring.zero_copy_min")
def the_first_long_part_is_sent_without_a_copy_where_that_is_wanted(key):
    zero_copies({}, True)
    zero_copies({key: {"uring.zero_copy": "off", "uring.zero_copy_min": "1MiB"}[key]}, False)


@case("uring.min_wait")
def waits_are_for_several_where_that_is_allowed():
    def waits(keys):
        with hosting(keys) as host:
            for _ in range(40):
                done = subprocess.run(
                    [generator(), "-h", ADDRESS, "-p", str(port_of(host)), "--commands", "get=1", "--keys", "100", "-c", "256",
                     "--duration", "1s", "--warmup", "0s", "--prefill", "false", "--json", "-", "--table", "none", *PATIENT],
                    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False)
                assert done.returncode == 0, done.stderr
                if host.metric("crucible_ring_fuller_waits_total") or keys:
                    break
            return host.metric("crucible_ring_fuller_waits_total")
    if "min_wait=true" in hosting_log():
        assert waits({}) > 0
    else:
        print("        this kernel has no min_wait")
    assert waits({"uring.min_wait": "0"}) == 0


def hosting_log():
    """What a host as it is by default says at its start."""
    with hosting() as host:
        return host.log()


@case("uring.busy_poll")
def an_idle_worker_spins():
    with hosting() as usual, hosting({"uring.busy_poll": "1s"}) as host, host.wire("it") as wire:
        begun = cpu_s(usual)

        def spins():
            # It spins for a second after whatever it did last.
            is_served(wire)
            return cpu_s(host) > 1

        until("spinning", spins)
        assert cpu_s(usual) - begun < 0.5


@case("uring.sqpoll_idle")
def a_thread_of_the_kernel_submits():
    with hosting() as usual, hosting({"uring.sqpoll_idle": "100ms"}) as host, host.wire("it") as wire:
        is_served(wire)
        assert rings_of(usual)[0]["SqThread"] == "-1"
        assert int(rings_of(host)[0]["SqThread"]) > 0


# [shutdown], [takeover]


@case("shutdown.drain_timeout")
def replies_on_their_way_are_waited_for_so_long():
    for limit, code in (("100ms", 1), ("10m", 0)):
        with hosting({"shutdown.drain_timeout": limit}) as host:
            store_value(host, "v", 1 << 20)
            with unread(host, get("v", 16)) as wire:
                until("unsent", lambda: waiting(host) > 0)  # pylint: disable=cell-var-from-loop
                os.kill(host.pid, signal.SIGTERM)
                if code == 0:
                    takes(wire, 16 * len(b"$1048576\r\n\r\n") + (16 << 20))
                assert host.ended() == code, host.log()


def successive(grace):
    """A host, and one that takes its listener over; both are kept in this order."""
    keys = {"takeover.socket": file("takeover.sock"), "takeover.grace": grace}
    for _ in range(5):
        port = {"address": f"{ADDRESS}:{free_port()}"}
        try:
            first = hosting(keys, port)
            break
        except AssertionError as taken:
            assert "in use" in str(taken), taken
    assert os.path.exists(file("takeover.sock"))
    wire = first.wire("it")
    is_served(wire)
    return first, hosting(keys, port, args=["--takeover"]), wire


@case("takeover.socket")
def a_new_process_takes_the_listeners_over():
    first, second, wire = successive("0")
    with second, wire:
        assert "took the listeners over" in second.log()
        assert first.ended() == 0, first.log()
        assert is_closed(wire)
        with second.wire("it") as new:
            is_served(new)
    first.kill()


@case("takeover.grace")
def connections_are_served_for_so_long_after_it():
    first, second, wire = successive(LONG)
    with second, wire:
        until("taken over", lambda: "another process serves" in first.log())
        for _ in range(100):
            is_served(wire)
        first.kill()
        with second.wire("it") as new:
            is_served(new)


# [logging]


def logged(keys, wanted=None):
    """What a host with these keys says on its outputs, asked for something and stopped."""
    out, err = file("stdout"), file("stderr")
    with open(file("logged.toml"), "w", encoding="utf-8") as text:
        sections = table("[logging]", keys) + "[cache]\nheap_size = \"16MiB\"\n[workers]\nthreads = 1\n"
        text.write(f"{sections}[[listener]]\nprotocol = \"ping\"\nunix_socket = \"{file('logged.sock')}\"\n")
    with open(out, "wb") as to_out, open(err, "wb") as to_err:
        process = subprocess.Popen([host_binary(), "--config", file("logged.toml")], stdout=to_out, stderr=to_err,
                                   stdin=subprocess.DEVNULL)
    try:
        until("listening", lambda: answers(file("logged.sock")))
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
    finally:
        process.kill()
        process.wait()
    said = []
    for path in (out, err):
        with open(path, encoding="utf-8") as text:
            said.append(text.read())
    assert wanted is None or said == wanted, said
    return said


def answers(path):
    """Whether ping is answered on this socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.settimeout(LIMIT_S)
            sock.connect(path)
        except OSError:
            return False
        Wire(sock).ask(PING, b"PONG\r\n")
        return True


@case("logging.level")
def lines_above_the_level_are_dropped():
    assert logged({"level": "off"}) == ["", ""]
    said = logged({"level": "info"})[1]
    assert "INFO" in said and "ready" in said


@case("logging.format")
def lines_look_as_asked():
    lines = [json.loads(line) for line in logged({"format": "json"})[1].splitlines()]
    assert any("ready" in json.dumps(line) and line["level"] == "INFO" for line in lines), lines
    compact, pretty = (logged({"format": how})[1] for how in ("compact", "pretty"))
    assert not any(line.startswith("{") for line in (compact + pretty).splitlines())
    assert look(compact) != look(pretty), (compact, pretty)


def look(lines):
    """How the last line looks, without what differs from run to run."""
    return re.sub("[0-9]+", "", lines.splitlines()[-1])


@case("logging.output")
def lines_go_where_asked():
    out, err = logged({"output": "stdout"})
    assert "ready" in out and not err
    out, err = logged({"output": "stderr"})
    assert "ready" in err and not out


@case("logging.slow_after")
def slow_requests_are_logged():
    for slow_after, said in (("1us", True), ("0", False)):
        with hosting({"logging.slow_after": slow_after}) as host, host.wire("it") as wire:
            # One crossing in 128 is looked at.
            for at in range(300):
                assert ask(wire, "SET", f"key{at}", 1) == "OK"
            assert ("a slow request" in host.log()) == said, host.log()


# [admin]


@case("admin.address")
def the_admin_server_listens_there():
    path = file("admin.sock")
    with hosting({"admin.address": f"unix:{path}"}, admin=None) as host:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(LIMIT_S)
            sock.connect(path)
            sock.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
        assert "admin" in host.log()
    with hosting(admin=None) as host:
        assert "admin server" not in host.log()
    text = f"[admin]\naddress = \"0.0.0.0:0\"\n[[listener]]\nprotocol = \"ping\"\naddress = \"{ADDRESS}:0\"\n"
    assert "token_file" in refusal(text=text, folder=FOLDER.name)


@case("admin.token_file")
def requests_must_carry_the_secret():
    with open(file("token"), "w", encoding="ascii") as text:
        text.write("0123456789abcdef\n")
    with hosting({"admin.token_file": file("token")}) as host:
        url = "http://" + host.admin_address()
        try:
            urllib.request.urlopen(url + "/stats", timeout=LIMIT_S).close()
            raise AssertionError("without the secret")
        except urllib.error.HTTPError as refused:
            assert refused.code == 401
        bearer = urllib.request.Request(url + "/stats", headers={"Authorization": "Bearer 0123456789abcdef"})
        with urllib.request.urlopen(bearer, timeout=LIMIT_S) as answer:
            assert answer.status == 200


# [[listener]]


@case("listener.protocol")
def the_protocol_is_served():
    with hosting(protocol="memcache") as host, host.wire("it") as wire:
        wire.ask(b"mn\r\n", b"MN\r\n")
    with hosting() as host, host.wire("it") as wire:
        is_served(wire)


@case("listener.address")
def it_listens_there():
    with hosting(listener={"address": "127.0.0.3:0"}) as host, host.wire("it") as wire:
        assert host.addresses["it"].startswith("127.0.0.3:")
        is_served(wire)


@case("listener.unix_socket")
def it_listens_on_a_path():
    path = file("listener.sock")
    with hosting(listener={"unix_socket": path, "address": None}), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(LIMIT_S)
        sock.connect(path)
        is_served(Wire(sock))


@case("listener.backend")
def it_serves_the_store_it_names():
    stores = {"cache": Store("segcache"), "other": Store("slab")}
    listeners = {"one": Listener("resp"), "two": Listener("resp", store="other"), "three": Listener("resp", store="other")}
    with Host(stores, listeners) as host:
        wires = {name: host.wire(name) for name in listeners}
        assert ask(wires["two"], "SET", "k", "v") == "OK"
        assert [ask(wires[name], "GET", "k") for name in listeners] == [None, "v", "v"]


@case("listener.open")
def an_address_that_others_reach_needs_a_word():
    text = "[[listener]]\nprotocol = \"ping\"\naddress = \"0.0.0.0:0\"\n"
    assert "say open = true" in refusal(text=text, folder=FOLDER.name)
    with hosting(listener={"address": "0.0.0.0:0", "open": True}) as host, host.wire("it") as wire:
        is_served(wire)


@case("listener.max_connections")
def further_connections_of_the_listener_are_closed():
    connections_end_at(3, listener={"max_connections": 3})


def test_every_key_of_the_host_in_the_reference_has_a_case(_server):
    keys = set()
    for (table_name, plugin), names in reference().items():
        if plugin is None:
            section = table_name.strip("[]")
            keys |= {f"{section}.{name}" for name in names}
    assert len(keys) > 60, keys
    assert keys - CASES.keys() == set(), f"no case shows the effect of {sorted(keys - CASES.keys())}"
    assert CASES.keys() - keys == set(), f"no such keys: {sorted(CASES.keys() - keys)}"


def walk(section):
    """All cases of a section."""
    for key, check in CASES.items():
        if key.startswith(section + "."):
            try:
                check()
            except Exception as failure:
                raise AssertionError(f"{key}: {failure!r}") from failure
            print(f"        {key}")


def test_keys_of_workers(_server):
    walk("workers")


def test_keys_of_plugins(_server):
    walk("plugins")


def test_keys_of_limits(_server):
    walk("limits")


def test_keys_of_uring(_server):
    walk("uring")


def test_keys_of_shutdown_and_takeover(_server):
    walk("shutdown")
    walk("takeover")


def test_keys_of_logging(_server):
    walk("logging")


def test_keys_of_admin(_server):
    walk("admin")


def test_keys_of_listeners(_server):
    walk("listener")


if __name__ == "__main__":
    run(__file__, globals())
