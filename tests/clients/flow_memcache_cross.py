"""Two protocols, one store: conditions, flags, CAS and TTL seen from both sides as docs/memcache.md says."""
import struct
import threading

from crucible import run


def clients(server):
    import redis
    from pymemcache.client.base import Client

    r = redis.Redis(port=server.resp_port)
    m = Client(("127.0.0.1", server.memcache_port), default_noreply=False, timeout=60)
    return r, m


def test_a_value_set_by_one_is_read_by_the_other(server):
    r, m = clients(server)
    m.set("x:a", b"from memcache")
    assert r.get("x:a") == b"from memcache"
    r.set("x:a", b"from resp")
    assert m.get("x:a") == b"from resp"
    assert r.delete("x:a") == 1 and m.get("x:a") is None
    big = bytes(range(256)) * 1200
    r.set("x:big", big)
    assert m.get("x:big") == big
    m.set("x:big", big[::-1])
    assert r.get("x:big") == big[::-1]


def test_set_nx_and_add_on_the_same_key_have_one_winner(server):
    rounds = 300
    wins = {"resp": [], "memcache": []}
    barrier = threading.Barrier(2)

    def by_resp():
        r, _ = clients(server)
        for i in range(rounds):
            barrier.wait()
            if r.set("nx:%d" % i, "resp", nx=True):
                wins["resp"].append(i)

    def by_memcache():
        _, m = clients(server)
        for i in range(rounds):
            barrier.wait()
            if m.add("nx:%d" % i, b"memcache"):
                wins["memcache"].append(i)

    threads = [threading.Thread(target=f) for f in (by_resp, by_memcache)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(wins["resp"] + wins["memcache"]) == list(range(rounds)), "exactly one each round"
    r, _ = clients(server)
    for who, rounds_won in wins.items():
        assert all(r.get("nx:%d" % i) == who.encode() for i in rounds_won)


def test_increments_from_both_sides_are_not_lost(server):
    r, m = clients(server)
    m.set("n", b"0")
    per_side = 400

    def by_resp():
        client, _ = clients(server)
        for _ in range(per_side):
            client.incr("n")

    def by_memcache():
        _, client = clients(server)
        for _ in range(per_side):
            client.incr("n", 1)

    threads = [threading.Thread(target=f) for f in (by_resp, by_memcache)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert r.get("n") == m.get("n") == str(2 * per_side).encode()


def test_flags_survive_reads_and_are_cleared_by_a_resp_set(server):
    r, _ = clients(server)
    w = server.connect("memcache")
    w.ask(b"set f 77 0 2\r\n10\r\n", b"STORED\r\n")
    assert r.get("f") == b"10"
    w.ask(b"get f\r\n", b"VALUE f 77 2\r\n10\r\nEND\r\n")
    r.set("f", "20")
    w.ask(b"get f\r\n", b"VALUE f 0 2\r\n20\r\nEND\r\n")


def test_a_resp_write_changes_the_cas_token(server):
    r, m = clients(server)
    m.set("c", b"1")
    _, token = m.gets("c")
    r.set("c", "2")
    assert m.cas("c", b"3", token) is False and r.get("c") == b"2"
    _, token = m.gets("c")
    r.append("c", "9")
    assert m.cas("c", b"3", token) is False and m.get("c") == b"29"
    _, token = m.gets("c")
    assert m.cas("c", b"3", token) is True and r.get("c") == b"3"


def binary(opcode, key=b"", extras=b"", value=b"", cas=0):
    total = len(extras) + len(key) + len(value)
    return struct.pack(">BBHBBHIIQ", 0x80, opcode, len(key), len(extras), 0, 0, total, 0, cas) + extras + key + value


def answer(wire):
    head = wire.read(24)
    status, total, cas = struct.unpack(">xxxxxxHIxxxxQ", head)
    return status, cas, wire.read(total)


def test_a_token_read_by_any_encoding_outlives_the_move_of_its_item(server):
    text, wire = server.connect("memcache"), server.connect("memcache")
    ways = 40
    for i in range(3 * ways):
        text.ask(b"set tok%d 0 0 1\r\n%d\r\n" % (i, i % 10), b"STORED\r\n")
    tokens = {}
    for i in range(ways):
        for _ in range(3):  # read often, so that eviction moves it on instead of dropping it
            wire.send(binary(0x00, b"tok%d" % i))
            status, cas, _ = answer(wire)
            assert status == 0
            tokens[b"tok%d" % i] = cas
            for name, command in ((b"tok%d" % (ways + i), b"gets %s\r\n"), (b"tok%d" % (2 * ways + i), b"mg %s c\r\n")):
                text.send(command % name)
                words = text.line().split()
                if words[0] == b"VALUE":
                    tokens[name] = int(words[4])
                    text.line(), text.line()
                else:
                    tokens[name] = int(words[1][1:])
    # More than the store holds goes through it; what is read meanwhile moves on.
    filler = b"f" * 8000
    for n in range(12_000):
        text.send(b"set fill%d 0 0 8000 noreply\r\n%s\r\n" % (n, filler))
        if n % 1000 == 0:
            for name in tokens:
                text.send(b"get %s\r\n" % name)
                while text.line() != b"END":
                    pass
    stored = 0
    for name, token in tokens.items():
        wire.send(binary(0x01, name, bytes(8), b"new", token))
        status, _, _ = answer(wire)
        assert status in (0, 1), (name, status, "EXISTS for a value nobody changed")
        stored += status == 0
    assert stored > ways, "most of what was read often is still there: %d" % stored


def test_one_deadline_for_both(server):
    r, m = clients(server)
    w = server.connect("memcache")
    m.set("t", b"1", expire=1000)
    # Two deadlines that are mixed up lie hundreds of seconds apart.
    assert 900 < r.ttl("t") <= 1000 and 900_000 < r.pttl("t") <= 1_000_000
    r.expire("t", 500)
    w.send(b"mg t t\r\n")
    assert 400 < int(w.line().removeprefix(b"HD t")) <= 500
    r.persist("t")
    w.send(b"mg t t\r\n")
    assert w.line().rstrip() == b"HD t-1"
    m.touch("t", 300)
    assert 200 < r.ttl("t") <= 300
    m.incr("t", 1)
    assert 200 < r.ttl("t") <= 300, "a counter keeps its time"
    r.set("t", "x", px=600_000)
    m.append("t", b"y")
    assert 500_000 < r.pttl("t") <= 600_000
    m.touch("t", -1)
    assert r.exists("t") == 0 and r.set("t", "new", nx=True)


def test_a_padded_counter_is_no_integer_for_resp(server):
    import redis

    r, m = clients(server)
    m.set("p", b"100")
    assert m.decr("p", 1) == 99 and r.get("p") == b"99 "
    try:
        r.incr("p")
        raise AssertionError("INCR took padded digits")
    except redis.ResponseError as e:
        assert "not an integer" in str(e)
    assert m.incr("p", 1) == 100 and r.incr("p") == 101


def test_a_flush_by_one_empties_the_other(server):
    r, m = clients(server)
    m.set("a", b"1")
    r.set("b", "1")
    m.flush_all()
    assert r.dbsize() == 0 and r.get("b") is None
    r.set("b", "2")
    r.flushall()
    assert m.get("b") is None and m.set("b", b"3") and r.get("b") == b"3"


if __name__ == "__main__":
    run(__file__, globals())
