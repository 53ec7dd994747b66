"""Every key of a plugin that the generated reference lists has its effect on the running host.

The keys are read from `crucible-host reference`: one without a case here fails the flow, as does a case without a key.
"""

import json
import os
import struct
import tempfile
import time

from crucible import run
from every_key import HEAP, LIMIT_S, Host, Listener, Store, ask, fill, mapping, pipeline, reference, reply, resp

CASES = {}


def case(plugin, key, value, store="cache", alone=False, **beside):
    """A case: the plugin with one key set (and what it needs `beside`), next to the plugin as it is by default."""
    def take(check):
        assert (plugin, key) not in CASES, (plugin, key)
        CASES[plugin, key] = ({key: value, **beside}, store, alone, check)
        return check
    return take


def until(what, true):
    """Waits for something that the host does in its own time."""
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline, f"never {what}"
        time.sleep(0.01)


# Stores: `check(host, changed, plain)` is given the names of both; listeners of RESP have the same names.


def is_told(number, wanted, differs=True):
    """A case whose effect `/stats` shows."""
    def check(host, changed, plain):
        got, usual = host.stats(changed)[number], host.stats(plain)[number]
        assert got == wanted or callable(wanted) and wanted(got, usual), (number, got, usual)
        assert not differs or got != usual, (number, got)
    return check


for name in ("segcache", "slab", "heap"):
    case(name, "heap_size", 24 << 20)(is_told("memory_limit_bytes", 24 << 20))

    @case(name, "max_value_size", 1000)
    def longer_values_are_refused(host, changed, plain):
        for listener, took in ((plain, "OK"), (changed, "-ERR")):
            with host.wire(listener) as wire:
                assert ask(wire, "SET", "v", "x" * 1000) == "OK"
                assert ask(wire, "SET", "v", "x" * 1001).startswith(took), listener

@case("segcache", "heap_size_max", 2 * HEAP)
def memory_may_be_raised_as_far_as_addresses_were_kept(host, changed, plain):
    with host.wire(changed) as wire, host.wire(plain) as usual:
        assert ask(wire, "CONFIG", "SET", "maxmemory", 2 * HEAP) == "OK"
        assert ask(usual, "CONFIG", "SET", "maxmemory", 2 * HEAP).startswith("-ERR")
        assert ask(usual, "CONFIG", "SET", "maxmemory", HEAP // 2) == "OK"
        until("less", lambda: host.stats(plain)["memory_used_bytes"] <= HEAP // 2)
        fill(wire, 40_000, 700)
        fill(usual, 40_000, 700)
        assert host.stats(changed)["memory_used_bytes"] > HEAP * 5 // 4
        assert host.stats(plain)["memory_used_bytes"] <= HEAP // 2
        assert ask(usual, "CONFIG", "SET", "maxmemory", HEAP) == "OK"


for name, policy in (("segcache", "fifo"), ("slab", "none"), ("heap", "lru")):
    case(name, "policy", policy)(is_told("policy", policy))

case("segcache", "hashtable_power", 18)(is_told("table_slots", 1 << 18))
case("segcache", "segment_size", 65536)(is_told("segment_size_bytes", 65536))
case("slab", "slab_size", 32768)(is_told("slab_size", 32768))
case("slab", "growth_factor", 2.0)(is_told("classes", lambda got, usual: got < usual / 2))


def evict(host, name):
    """Fills a store three times over, with reads that make some items worth keeping."""
    with host.wire(name) as wire:
        for third in range(3):
            fill(wire, 20_000, 700, f"{third}:")
            pipeline(wire, (resp("GET", f"{third}:{i}") for i in range(0, 20_000, 7)))


def evict_what_was_read(host, name):
    """The same with items that are all worth keeping when they leave the queue of new ones."""
    with host.wire(name) as wire:
        for at in range(0, 60_000, 500):
            fill(wire, 500, 700, "w", at)
            pipeline(wire, (resp("GET", f"w{i}") for _ in range(2) for i in range(at, at + 500)))


for name in ("segcache", "heap"):
    @case(name, "ghost_ratio", 0.0)
    def fewer_ghosts_take_less_memory(host, changed, plain):
        def bytes_of(store):
            return host.stats(store)["ghost_bytes"]

        evict(host, changed)
        evict(host, plain)
        until("fewer ghosts", lambda: bytes_of(changed) * 4 < bytes_of(plain) or evict(host, plain))


@case("segcache", "small_queue_ratio", 0.6, adaptive_admission=False)
def the_queue_of_new_items_is_as_large_as_asked(host, changed, plain):
    for store in (changed, plain):
        evict_what_was_read(host, store)
    share = {}
    for store in (changed, plain):
        stats = host.stats(store)
        share[store] = stats["layer_small"] / (stats["layer_small"] + stats["layer_main"])
    assert share[changed] > share[plain] + 0.2, share


@case("heap", "small_queue_ratio", 0.6)
def the_heaps_queue_of_new_items_is_as_large_as_asked(host, changed, plain):
    for store in (changed, plain):
        evict_what_was_read(host, store)
    small = {store: host.stats(store)["small_queue_bytes"] for store in (changed, plain)}
    assert small[changed] > small[plain] + HEAP // 8, small


@case("segcache", "adaptive_admission", False)
def the_queue_is_passed_by_only_where_that_is_allowed(host, changed, plain):
    # Keys that come back later than the queue remembers and sooner than the store forgets; who does not find one
    # stores it.
    for store in (changed, plain):
        with host.wire(store) as wire:
            passed = False
            for at in range(0, 120_000, 2000):
                new = range(at, at + 2000)
                pipeline(wire, [resp("GET", f"a{i}") for i in new], 2000)
                fill(wire, 2000, 400, "a", at)
                requests = [resp("GET", f"a{i - back}") for back in (6000, 12_000, 18_000) for i in new if i >= back]
                pipeline(wire, requests, 2000)
                passed = passed or bool(host.stats(store)["small_queue_passed_by"])
                if passed:
                    break
        assert passed == (store == plain), store


@case("segcache", "size_aware", True)
def larger_items_need_more_hits_to_stay(host, changed, plain):
    kept = {}
    for store in (changed, plain):
        with host.wire(store) as wire:
            for round_ in range(4):
                for i in range(400):
                    requests = [resp("SET", f"s{round_}:{i}:{j}", b"x" * 200) for j in range(20)]
                    requests += [resp("SET", f"L{round_}:{i}", b"x" * 12_000), resp("GET", f"L{round_}:{i}")]
                    requests += [resp("GET", f"s{round_}:{i}:{j}") for j in range(0, 20, 2)]
                    pipeline(wire, requests)
            kept[store] = sum(r is not None for r in pipeline(
                wire, (resp("GET", f"L{round_}:{i}") for round_ in range(4) for i in range(400))))
    assert kept[changed] < kept[plain], kept


@case("segcache", "miss_ratio_curve", False)
def no_curve_is_drawn(host, changed, plain):
    for store in (changed, plain):
        evict(host, store)
    curves = json.loads(host.admin("/mrc"))
    assert not curves[changed], curves[changed]
    until("a curve", lambda: evict(host, plain) or json.loads(host.admin("/mrc"))[plain])


@case("segcache", "persist", "PERSIST")
def the_heap_is_in_the_file(host, changed, plain):
    path = host.settings[changed]["persist"]
    with open(f"/proc/{host.pid}/maps", encoding="utf-8") as maps:
        assert path in maps.read()
    assert os.stat(path).st_size >= HEAP


@case("heap", "structures", {"hash_max_listpack_entries": 2})
def small_structures_are_as_small_as_asked(host, changed, plain):
    for store, encoding in ((plain, "listpack"), (changed, "hashtable")):
        with host.wire(store) as wire:
            ask(wire, "HSET", "h", "a", 1, "b", 2, "c", 3)
            assert ask(wire, "OBJECT", "ENCODING", "h") == encoding, store


@case("heap", "defrag", False)
def half_empty_pages_are_joined_only_where_that_is_allowed(host, changed, plain):
    # Small items, of which one in many stays; then others of another size over the whole memory.
    for store in (changed, plain):
        with host.wire(store) as wire:
            for round_, size in enumerate((60, 300, 900, 150, 2000, 100) * 2):
                count = 12 * HEAP // (10 * (size + 60))
                fill(wire, count, size, f"d{round_}:")
                pipeline(wire, (resp("DEL", f"d{round_}:{i}") for i in range(count) if i % 16))
    until("moved", lambda: host.stats(plain)["defragmented"] > 0)
    assert host.stats(changed)["defragmented"] == 0


def heap_of(host, name):
    """The mapping of a store with an unusual heap."""
    return mapping(host.pid, host.settings[name]["heap_size"])


for name in ("segcache", "slab"):
    @case(name, "hugepage", "none", alone=True)
    def pages_are_small_where_that_is_asked(host, changed, plain):
        flags = {store: heap_of(host, store)["VmFlags"] for store in (changed, plain)}
        known = os.path.exists("/sys/kernel/mm/transparent_hugepage")
        assert ("hg" in flags[plain]) == known and "hg" not in flags[changed], flags

    @case(name, "prefault", True, alone=True)
    def memory_is_there_from_the_start(host, changed, plain):
        rss = {store: int(heap_of(host, store)["Rss"][0]) << 10 for store in (changed, plain)}
        assert rss[changed] >= host.settings[changed]["heap_size"] * 9 // 10 and rss[plain] < HEAP, rss

    @case(name, "numa_node", 0, alone=True)
    def memory_is_bound_to_the_node(host, changed, plain):
        policy = {store: heap_of(host, store)["policy"] for store in (changed, plain)}
        if policy[plain] is None:
            assert "NUMA" in host.log(), "a kernel without nodes is told of"
        else:
            assert "0" in policy[changed] and policy[changed] != policy[plain], policy


# Listeners: `check(host, changed, plain)` is given their names.


def refuses(*words, error, then_closes=False):
    """A case in which a command is refused that is taken by default."""
    def check(host, changed, plain):
        with host.wire(plain) as wire:
            usual = ask(wire, *words)
            assert not (isinstance(usual, str) and usual.startswith("-")), usual
        with host.wire(changed) as wire:
            got = ask(wire, *words)
            assert isinstance(got, str) and got.startswith("-") and error in got, got
            assert not then_closes or wire.closed()
    return check


case("resp", "disabled_commands", ["DBSIZE"])(refuses("DBSIZE", error="unknown command"))
case("resp", "array_len_max", 16)(refuses("DEL", *range(20), error="multibulk length", then_closes=True))
case("resp", "bulk_len_bytes_max", 5000)(
    refuses("SET", "k", "x" * 6000, error="bulk length", then_closes=True))
@case("resp", "subscriptions_max", 2)
def a_connection_listens_to_so_many_channels(host, changed, plain):
    for listener, taken in ((plain, 3), (changed, 2)):
        with host.wire(listener) as wire:
            wire.send(resp("SUBSCRIBE", "a", "b", "c"))
            got = [reply(wire) for _ in range(3)]
            assert sum(isinstance(r, list) for r in got) == taken, got


@case("resp", "renamed_commands", {"DBSIZE": "HOW-MANY"})
def a_renamed_command_has_its_new_name_alone(host, changed, plain):
    with host.wire(plain) as usual, host.wire(changed) as wire:
        assert isinstance(ask(usual, "DBSIZE"), int) and ask(usual, "HOW-MANY").startswith("-ERR unknown command")
        assert isinstance(ask(wire, "HOW-MANY"), int) and ask(wire, "DBSIZE").startswith("-ERR unknown command")


@case("resp", "request_len_bytes_max", 1 << 20)
def a_longer_request_is_not_gathered(host, changed, plain):
    words = ["MSET"] + [word for i in range(40) for word in (f"r{i}", "x" * 50_000)]
    with host.wire(plain) as usual, host.wire(changed) as wire:
        assert ask(usual, *words) == "OK"
        assert ask(wire, *words[:9]) == "OK"
        # In parts, as a long request arrives; it is refused when it cannot become whole.
        whole = resp(*words)
        try:
            for at in range(0, len(whole), 100_000):
                wire.send(whole[at:at + 100_000])
            got = wire.line()
        except (ConnectionError, BrokenPipeError):
            return
        assert got.startswith(b"-ERR"), got


@case("resp", "stream_len_bytes_min", 16_384)
def values_from_this_length_go_straight_into_the_store(host, changed, plain):
    for listener, bodies in ((plain, 0), (changed, 1)):
        with host.wire(listener) as wire:
            # A body that has begun is one that the host receives for the store.
            wire.send(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$20000\r\n" + b"x" * 100)
            until("begun", lambda: host.stats()["bodies"] == bodies)  # pylint: disable=cell-var-from-loop
            wire.send(b"x" * 19_900 + b"\r\n")
            assert reply(wire) == "OK"
            until("done", lambda: host.stats()["bodies"] == 0)


@case("resp", "transaction_commands_max", 2)
def a_longer_transaction_is_refused(host, changed, plain):
    for listener in (plain, changed):
        with host.wire(listener) as wire:
            ask(wire, "MULTI")
            for i in range(3):
                ask(wire, "SET", f"t{i}", 1)
            got = ask(wire, "EXEC")
            assert (got == ["OK"] * 3) == (listener == plain), got


@case("resp", "transaction_len_bytes_max", 2000)
def a_larger_transaction_is_refused(host, changed, plain):
    for listener in (plain, changed):
        with host.wire(listener) as wire:
            ask(wire, "MULTI")
            for i in range(3):
                ask(wire, "SET", f"t{i}", "x" * 900)
            got = ask(wire, "EXEC")
            assert (got == ["OK"] * 3) == (listener == plain), got


@case("resp", "mailbox_len_bytes_max", 10_000)
def a_listener_that_does_not_read_is_closed_at_this_length(host, changed, plain):
    def publish(listener, message):
        with host.wire(listener) as wire:
            return ask(wire, "PUBLISH", "news", message)

    for listener in (plain, changed):
        with host.wire(listener) as wire:
            ask(wire, "SUBSCRIBE", "news")
            # One message above the limit.
            assert publish(listener, "x" * 15_000) >= 1
            if listener == changed:
                until("closed", lambda: publish(changed, "y") == 0)
            else:
                assert reply(wire) == ["message", "news", "x" * 15_000]


@case("resp", "tracking_keys_max", 1)
def few_keys_are_remembered_for_clients(host, changed, plain):
    for listener, told in ((plain, False), (changed, True)):
        with host.wire(listener) as wire:
            wire.send(resp("HELLO", 3))
            read_map(wire)
            assert ask(wire, "CLIENT", "TRACKING", "ON") == "OK"
            for i in range(20):
                wire.send(resp("GET", f"track{i}"))
            wire.send(resp("ECHO", "end"))
            seen = []
            while not seen or seen[-1] != b"$3":
                seen.append(wire.line())
            wire.line()
            wire.send(resp("ECHO", "END"))
            while seen[-1] != b"END":
                seen.append(wire.line())
            assert any(line.startswith(b">") for line in seen) == told, (listener, seen)


def read_map(wire):
    """A map of RESP3, whose contents do not matter."""
    def value():
        line = wire.line()
        if line[:1] in b"%*~":
            for _ in range(int(line[1:]) * (2 if line[:1] == b"%" else 1)):
                value()
        elif line[:1] == b"$":
            wire.read(int(line[1:]) + 2)
    value()


@case("resp", "several_keys_in_one_step", True)
def several_keys_have_the_store_to_themselves(host, changed, plain):
    for listener, alone in ((plain, 0), (changed, 1)):
        before = host.metric("crucible_exclusive_turns_total")
        with host.wire(listener) as wire:
            assert ask(wire, "MSET", "one", 1, "two", 2) == "OK"
        after = host.metric("crucible_exclusive_turns_total")
        assert after - before == alone, (listener, before, after)


@case("resp", "debug_commands", True)
def debug_is_served_where_that_is_asked(host, changed, plain):
    with host.wire(plain) as usual, host.wire(changed) as wire:
        assert ask(usual, "DEBUG", "JMAP").startswith("-")
        assert ask(wire, "DEBUG", "SLEEP", "0") == "OK"
        assert ask(usual, "DEBUG", "SLEEP", "0").startswith("-")


@case("resp", "cluster", {"me": "one", "nodes": [
    {"name": "one", "host": "127.0.0.1", "port": 7001, "slots": ["0-99"]},
    {"name": "two", "host": "127.0.0.1", "port": 7002, "slots": ["100-16383"]}]})
def a_node_of_a_cluster_sends_clients_on(host, changed, plain):
    with host.wire(plain) as usual, host.wire(changed) as wire:
        assert ask(usual, "GET", "foo") is None
        assert ask(wire, "GET", "foo") == "-MOVED 12182 127.0.0.1:7002"


@case("resp", "shutdown_command", True, alone=True)
def shutdown_is_served_where_that_is_asked(host, changed, plain):
    with host.wire(plain) as usual, host.wire(changed) as wire:
        assert ask(usual, "SHUTDOWN").startswith("-ERR")
        wire.send(resp("SHUTDOWN"))
        assert host.ended() == 0


def lines(request, usual, instead):
    """A case in which a line of memcache is answered otherwise."""
    def check(host, changed, plain):
        for listener, wanted in ((plain, usual), (changed, instead)):
            with host.wire(listener) as wire:
                wire.send(request)
                got = wire.line()
                assert got.startswith(wanted), (listener, got)
    return check


case("memcache", "flush_enabled", False)(lines(b"flush_all\r\n", b"OK", b"CLIENT_ERROR"))
case("memcache", "value_len_bytes_max", 100)(
    lines(b"set big 0 0 200\r\n" + b"x" * 200 + b"\r\n", b"STORED", b"SERVER_ERROR object too large"))
case("memcache", "watchers_max", 0)(lines(b"watch fetchers\r\n", b"OK", b"CLIENT_ERROR watch"))
case("memcache", "version", "1.2.3-mine")(lines(b"version\r\n", b"VERSION 1.6", b"VERSION 1.2.3-mine"))
case("memcache", "gathered_len_bytes_max", 100)(
    lines(b"append none 0 0 200\r\n" + b"x" * 200 + b"\r\n", b"NOT_STORED", b"SERVER_ERROR object too large"))


@case("memcache", "dump_enabled", False)
def keys_are_listed_only_where_that_is_allowed(host, changed, plain):
    for listener, wanted in ((plain, b"key=dump "), (changed, b"ERROR metadump not allowed")):
        with host.wire(listener) as wire:
            wire.ask(b"set dump 0 0 1\r\nx\r\n", b"STORED\r\n")
            wire.send(b"lru_crawler metadump all\r\nmn\r\n")
            got = []
            while got[-1:] not in ([b"MN"], [b"END"], [b"END\r"]) and b"MN" not in b"".join(got[-1:]):
                got += wire.line().split(b"\n")
            assert any(line.startswith(wanted) for line in got), got


@case("memcache", "multiget_len_bytes_max", 3000)
def a_longer_multiget_is_not_waited_for(host, changed, plain):
    with host.wire(plain) as usual, host.wire(changed) as wire:
        for one in (usual, wire):
            one.send(b"get " + b"a " * 2000)
        assert wire.closed()
        usual.ask(b"\r\n", b"END\r\n")


@case("memcache", "encodings", "text")
def binary_is_not_taken_where_text_alone_is(host, changed, plain):
    noop = struct.pack(">BBHBBHIIQ", 0x80, 0x0a, 0, 0, 0, 0, 0, 0, 0)
    with host.wire(plain) as usual, host.wire(changed) as wire:
        usual.send(noop)
        assert usual.read(24)[:2] == b"\x81\x0a"
        wire.send(noop + b"\r\nversion\r\n")
        try:
            assert not wire.read(1).startswith(b"\x81")
        except ConnectionError:
            pass


@case("memcache", "watch_queue_bytes_max", 1024)
def a_slow_watcher_misses_lines_at_this_length(host, changed, plain):
    def stat(listener, name, group=b""):
        with host.wire(listener) as wire:
            wire.send(b"stats" + group + b"\r\n")
            lines = iter(wire.line, b"END")
            return {line.split()[1]: int(line.split()[2]) for line in lines if name in line}[name]

    def skipped(listener):
        return stat(listener, b"log_watcher_skipped")

    def log_size(listener):
        return stat(listener, b"watcher_logbuf_size", b" settings")

    def watch(listener):
        """One round of the event loop has lines of more bytes than the smaller queue takes."""
        with host.wire(listener) as watcher, host.wire(listener) as wire:
            watcher.ask(b"watch mutations\r\n", b"OK\r\n")
            wire.send(b"".join(b"set watched%03d 0 0 1 noreply\r\nx\r\n" % i for i in range(200)))
            wire.ask(b"mn\r\n", b"MN\r\n")

    assert log_size(changed) == 1024 and log_size(plain) == 256 << 10
    watch(plain)
    assert skipped(plain) == 0
    until("skipped", lambda: watch(changed) or skipped(changed) > 0)


@case("memcache", "shutdown_command", True, alone=True)
def memcaches_shutdown_is_served_where_that_is_asked(host, changed, plain):
    with host.wire(plain) as usual, host.wire(changed) as wire:
        usual.send(b"shutdown\r\n")
        assert usual.line().startswith(b"ERROR")
        wire.send(b"shutdown\r\n")
        assert host.ended() == 0


# Momento over protosocket: a length, then a command with a number.


def varint(n):
    out = bytearray()
    while n > 0x7f:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    return bytes(out + bytes([n]))


def field(number, data):
    if isinstance(data, int):
        return varint(number << 3) + varint(data)
    return varint(number << 3 | 2) + varint(len(data)) + data


def momento(wire, call):
    """Sends one command; the bytes of the response."""
    command = field(2, 1) + field(10, call)
    wire.send(varint(len(command)) + command)
    length = shift = 0
    while True:
        byte = wire.read(1)[0]
        length |= (byte & 0x7f) << shift
        shift += 7
        if byte < 0x80:
            return wire.read(length)


def momento_get(cache):
    return field(2, field(1, cache) + field(2, b"k"))


@case("momento", "caches", ["mine"])
def other_caches_are_there_from_the_start(host, changed, plain):
    for listener, there, missing in ((plain, b"default-cache", b"mine"), (changed, b"mine", b"default-cache")):
        with host.wire(listener) as wire:
            assert b"Key not found" in momento(wire, momento_get(there))
            assert b"does not exist" in momento(wire, momento_get(missing))


@case("momento", "token_sha256", ["ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"])
def only_who_shows_the_token_enters(host, changed, plain):
    with host.wire(plain) as usual, host.wire(changed) as wire:
        assert b"Key not found" in momento(usual, momento_get(b"default-cache"))
        assert b"token is missing" in momento(wire, momento_get(b"default-cache"))
        momento(wire, field(1, field(1, b"abc")))
        assert b"Key not found" in momento(wire, momento_get(b"default-cache"))


@case("momento", "message_bytes_max", 1000)
def longer_messages_are_refused(host, changed, plain):
    set_ = field(3, field(1, b"default-cache") + field(2, b"k") + field(3, b"x" * 100_000) + field(4, 60_000))
    for listener in (plain, changed):
        with host.wire(listener) as wire:
            assert (b"longer than the limit" in momento(wire, set_)) == (listener == changed)


@case("ping", "line_len_max", 8)
def a_longer_line_ends_the_connection(host, changed, plain):
    for listener in (plain, changed):
        with host.wire(listener) as wire:
            wire.ask(b"PING\r\n", b"PONG\r\n")
            wire.send(b"x" * 20 + b"\r\n")
            wire.line()
            wire.sock.settimeout(LIMIT_S)
            wire.send(b"PING\r\n")
            try:
                assert (wire.sock.recv(1) == b"") == (listener == changed)
            except ConnectionResetError:
                assert listener == changed


STORES = ("segcache", "slab", "heap")
#: Heaps of stores that are looked at in the process's memory, each of a size of its own.
SIZES = {True: 40 << 20, False: 56 << 20}


def start(plugin, cases, threads=2, folder=None):
    """A host with the plugin as it is by default, and once for each of these cases."""
    stores, listeners, settings = {}, {}, {}
    alone = len(cases) == 1 and CASES[cases[0]][2]
    if plugin in STORES:
        names = {plugin: {}, **{f"{plugin}-{key}": CASES[plugin, key][0] for _, key in cases}}
        if not alone:
            stores["cache"] = Store("segcache")
        for name, own in names.items():
            own = dict(own)
            if alone:
                own.setdefault("heap_size", SIZES[name != plugin])
            if own.get("persist"):
                own["persist"] = os.path.join(folder, "heap")
            first = alone and name == plugin
            store = Store(plugin, own)
            stores["cache" if first else name] = store
            settings[name] = store.settings
            listeners[name] = Listener("resp", store="cache" if first else name)
    else:
        stores["cache"] = Store("segcache")
        listeners[plugin] = Listener(plugin)
        for _, key in cases:
            listeners[f"{plugin}-{key}"] = Listener(plugin, CASES[plugin, key][0])
    host = Host(stores, listeners, threads=threads)
    host.settings = settings
    return host


def walk(plugin):
    """All cases of a plugin: together where they can be, alone where they must."""
    cases = [key for key in CASES if key[0] == plugin]
    together = [key for key in cases if not CASES[key][2]]
    with tempfile.TemporaryDirectory() as folder:
        for group in [together] + [[key] for key in cases if CASES[key][2]]:
            if not group:
                continue
            with start(plugin, group, folder=folder) as host:
                for _, key in group:
                    changed = f"{plugin}-{key}"
                    try:
                        CASES[plugin, key][3](host, changed, plugin)
                    except Exception as failure:
                        raise AssertionError(f"{plugin}: {key}: {failure!r}") from failure
                    print(f"        {plugin}: {key}")


def test_every_key_of_a_plugin_in_the_reference_has_a_case(_server):
    keys = {(plugin, key) for (_, plugin), keys in reference().items() if plugin for key in keys}
    assert len(keys) > 50, keys
    assert keys - CASES.keys() == set(), f"no case shows the effect of {sorted(keys - CASES.keys())}"
    assert CASES.keys() - keys == set(), f"no such keys: {sorted(CASES.keys() - keys)}"


def test_keys_of_segcache(_server):
    walk("segcache")


def test_keys_of_slab(_server):
    walk("slab")


def test_keys_of_heap(_server):
    walk("heap")


def test_keys_of_resp(_server):
    walk("resp")


def test_keys_of_memcache(_server):
    walk("memcache")


def test_keys_of_momento(_server):
    walk("momento")


def test_keys_of_ping(_server):
    walk("ping")


if __name__ == "__main__":
    run(__file__, globals())
