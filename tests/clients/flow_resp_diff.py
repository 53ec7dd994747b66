"""Our replies are those of Debian's redis-server, byte for byte, command by command.

Each script below is sent to both servers in RESP2 and in RESP3, one command at a time and as one
pipeline. Differences that are meant stand in DIFFERENT, with their reason.
"""

import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

# Bounds a hang and decides nothing else.
LIMIT_S = 60

HOST = {"heap": "128MiB", "threads": 1, "plugins": ("resp",)}

# Commands whose replies differ on purpose: a pattern of the command and why.
DIFFERENT = [
    (rb"^INCRBYFLOAT f (1e400|1234567.125|-0.25e4)", "sums are decimal and exact, not of 80 bits"),
    (rb"^BIT(COUNT|POS) nokey .*(x|foo)", "Redis since 7.2 judges arguments before it looks for the key"),
    (rb"^LOLWUT", "a picture of our own"),
    (rb"^(?i:object (idletime|freq|encoding))", "no access times, no encodings of a heap"),
]

# One script a line group: commands of one idea run on fresh keys. `|` separates commands; words
# split at blanks; `""` is the empty word; \xHH escapes work.
SCRIPTS = r"""
PING | PING hello | PING a b | ECHO hi | ECHO | ECHO a b
nosuch | nosuch a b | NOSUCH "" | get | get a b | set a | del | exists
SET k v | GET k | SET k v2 XX | SET k v3 NX | GET k | SET n v NX | GET n | SET m v XX | GET m
SET k v GET | SET k w GET | GET k | SET k x XX GET | SET q x NX GET | SET q y NX GET | GET q
SET k v EX | SET k v EX 0 | SET k v EX -1 | SET k v EX a | SET k v EX 1.5 | SET k v PX 0
SET k v EXAT 0 | SET k v PXAT -1 | SET k v EX 9223372036854775807 | SET k v PX 9223372036854775807
SET k v EX 100 | TTL k | SET k v | TTL k | SET k v EX 100 | SET k w KEEPTTL | TTL k | GET k
SET k v PX 100000 | TTL k | SET k v NX XX | SET k v KEEPTTL EX 10 | SET k v EX 10 PX 10
SET k v EX 10 EX 20 | SET k v NX NX | SET k v foo | SET k v GET GET | SET k v ex 10 nx get
SET k v EXAT 2000000000 | EXPIRETIME k | PEXPIRETIME k | SET k v PXAT 2000000000123 | PEXPIRETIME k
SET k v EXAT 1 | GET k | EXISTS k
SETNX k v | SETNX k w | GET k | SETEX k 100 v | TTL k | SETEX k 0 v | SETEX k a v | SETEX k -5 v
PSETEX k 100000 v | TTL k | PSETEX k 0 v | PSETEX k x v | SETEX k 9223372036854775807 v
GETSET k v | GETSET k w | GET k | GETDEL k | GETDEL k | GET k
SET k v EX 100 | GETEX k | TTL k | GETEX k PERSIST | TTL k | GETEX k EX 50 | TTL k | GETEX k EX 0
GETEX k EX a | GETEX k PERSIST EX 10 | GETEX k EX 10 PERSIST | GETEX k foo | GETEX nokey EX 10
GETEX k EXAT 1 | GET k
SET a 1 | SET b 2 | MGET a b c a | MGET a | MGET | DEL a b c | MGET a b | EXISTS a a b
MSET a 1 b 2 | MGET a b | MSET a | MSET a 1 b | MSETNX a 1 c 3 | MGET a c | MSETNX c 3 d 4 | MGET c d
MSETNX e 1 e 2 | GET e | MSETNX e | MSETNX x 1 y
SET a 1 | DEL a | DEL a | UNLINK a | SET a 1 | UNLINK a b | EXISTS a | SET a 1 | EXISTS a a a
SET a 1 | TOUCH a b a | TOUCH | TYPE a | TYPE nokey | STRLEN a | STRLEN nokey | SET a hello | STRLEN a
TTL nokey | PTTL nokey | EXPIRETIME nokey | PEXPIRETIME nokey | SET a 1 | TTL a | PTTL a | EXPIRETIME a
EXPIRE nokey 10 | SET a 1 | EXPIRE a 100 | TTL a | EXPIRE a 200 NX | EXPIRE a 200 XX | TTL a
+ EXPIRE a 100 GT | EXPIRE a 300 GT | TTL a | EXPIRE a 400 LT | EXPIRE a 50 LT | TTL a | PERSIST a | TTL a
+ PERSIST a | PERSIST nokey | EXPIRE a 100 GT | EXPIRE a 100 XX | EXPIRE a 100 LT | TTL a
+ EXPIRE a 100 NX XX | EXPIRE a 100 NX GT | EXPIRE a 100 GT LT | EXPIRE a 100 foo | EXPIRE a foo
+ EXPIRE a 9223372036854775807 | EXPIRE a -9223372036854775808 | PEXPIRE a 9223372036854775807
SET a 1 | EXPIRE a -1 | EXISTS a | SET a 1 | EXPIRE a 0 | EXISTS a | SET a 1 | EXPIREAT a 1 | GET a
SET a 1 | PEXPIRE a 100000 | TTL a | EXPIREAT a 2000000000 | EXPIRETIME a | PEXPIREAT a 2000000000000
+ PEXPIRETIME a | EXPIREAT a x | PEXPIREAT a 1 | EXISTS a
PFADD h | GET h | PFCOUNT h | GET h | PFADD h | PFADD h a b c | GET h | PFCOUNT h | GET h | PFADD h c b a | GET h
+ PFADD h d | PFCOUNT h | PFCOUNT h nokey | PFCOUNT nokey | PFCOUNT nokey nokey2 | GET h | STRLEN h | TYPE h | PFADD h ""
PFADD a 1 2 3 4 5 | PFADD b 4 5 6 7 | PFCOUNT a b | PFMERGE c a b | PFCOUNT c | GET c | PFMERGE c | GET c | PFMERGE new
+ GET new | PFMERGE a b nokey | PFCOUNT a | GET a | EXPIRE a 100 | PFADD a 9 | TTL a | PFMERGE a b | TTL a
SET s hello | PFADD s x | PFCOUNT s | PFCOUNT s nokey | PFMERGE d s | PFMERGE s | SET s HYLLtoo_short | PFCOUNT s
+ SET s HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80 | PFCOUNT s | PFADD s x | PFCOUNT s s | PFMERGE d s | PFMERGE s s
+ SET s HYLL\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f\xff | PFCOUNT s | PFADD s x | EXISTS d
+ SET s HYLL\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f\xff | PFCOUNT s | PFADD s x | PFADD | PFCOUNT | PFMERGE
MULTI | PFADD h a b | PFCOUNT h | PFADD g c | PFMERGE m h g | PFCOUNT m | GET m | EXEC | PFCOUNT m h
INCR n | INCR n | DECR n | INCRBY n 10 | DECRBY n 3 | GET n | INCRBY n -5 | DECRBY n -5 | GET n
+ INCRBY n x | INCRBY n 1.5 | DECRBY n x | INCRBY n 9223372036854775808 | INCRBY n "" | INCRBY n " 1"
SET n 9223372036854775807 | INCR n | GET n | SET n -9223372036854775808 | DECR n | GET n
+ DECRBY n -9223372036854775808 | DECRBY m -9223372036854775808 | SET n abc | INCR n | INCRBY n 1
+ SET n " 1" | INCR n | SET n 1.0 | INCR n | SET n 01 | INCR n | SET n "" | INCR n | SET n 99999999999999999999 | INCR n
SET n 5 EX 100 | INCR n | TTL n | APPEND n 7 | TTL n | GET n | INCRBYFLOAT n 1 | TTL n
INCRBYFLOAT f 1.5 | INCRBYFLOAT f 1.5 | INCRBYFLOAT f -0.25 | GET f | INCRBYFLOAT f abc | INCRBYFLOAT f ""
SET f 10.50 | INCRBYFLOAT f 0.1 | SET f 5.0e3 | INCRBYFLOAT f 2.0e2 | SET f abc | INCRBYFLOAT f 1
+ SET f 3.0 | INCRBYFLOAT f 1.000000000000000005 | INCRBYFLOAT f -1 | SET f 0 | INCRBYFLOAT f -0 | INCRBYFLOAT f nan
SET f 1 | INCRBYFLOAT f inf | INCRBYFLOAT f -inf | GET f | INCRBYFLOAT f " 1" | INCRBYFLOAT f 1e400
SET f 0.1 | INCRBYFLOAT f 0.2 | INCRBYFLOAT f 100 | INCRBYFLOAT f 1234567.125
APPEND a hello | APPEND a " world" | GET a | APPEND a "" | STRLEN a | APPEND "" x | GET ""
SET a "This is a string" | GETRANGE a 0 3 | GETRANGE a -3 -1 | GETRANGE a 0 -1 | GETRANGE a 10 100
+ GETRANGE a 5 3 | GETRANGE a -1 -3 | GETRANGE nokey 0 1 | GETRANGE a x 1 | GETRANGE a 1 y | SUBSTR a 0 3
+ GETRANGE a -100 3 | GETRANGE a -100 -90 | GETRANGE a 100 200 | GETRANGE a 0 9223372036854775807
+ GETRANGE a -9223372036854775808 -1 | GETRANGE a 0 0 | SUBSTR a -1 -1
SET a "Hello World" | SETRANGE a 6 Redis | GET a | SETRANGE b 3 x | GET b | SETRANGE b 0 "" | SETRANGE c 5 ""
+ EXISTS c | SETRANGE a -1 x | SETRANGE a x y | SETRANGE a 536870912 x | SETRANGE a 536870911 xy
+ SETRANGE a 9223372036854775807 x
SET a ohmytext | SET b mynewtext | LCS a b | LCS a b LEN | LCS a b IDX | LCS a b IDX WITHMATCHLEN
+ LCS a b IDX MINMATCHLEN 4 | LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN | LCS a b LEN IDX | LCS a b foo
+ LCS a nokey | LCS a nokey IDX | LCS a nokey LEN | LCS a b MINMATCHLEN | LCS a b IDX MINMATCHLEN x | LCS a a
+ LCS nokey nokey2 | LCS a b IDX MINMATCHLEN -5
SETBIT b 7 1 | GETBIT b 7 | GETBIT b 0 | GETBIT b 100 | SETBIT b 7 0 | GET b | SETBIT b 7 2 | SETBIT b x 1
+ SETBIT b -1 1 | SETBIT b 4294967296 1 | SETBIT b 7 x | GETBIT b x | GETBIT b -1 | GETBIT b 4294967296 | GETBIT nokey 5
SET s foobar | BITCOUNT s | BITCOUNT s 0 0 | BITCOUNT s 1 1 | BITCOUNT s 1 1 BYTE | BITCOUNT s 5 30 BIT
+ BITCOUNT s 0 -5 BIT | BITCOUNT s -2 -1 | BITCOUNT s 0 | BITCOUNT s a b | BITCOUNT s 0 1 foo | BITCOUNT nokey
+ BITCOUNT nokey 0 -1 | BITCOUNT s 5 3 | BITCOUNT s 0 1 BIT x | BITCOUNT s -100 100 | BITCOUNT s 100 200
SET s "\xff\xf0\x00" | BITPOS s 0 | BITPOS s 1 | BITPOS s 1 1 | BITPOS s 1 2 | BITPOS s 0 0 1 | BITPOS s 2
+ BITPOS s x | BITPOS s 1 x | BITPOS s 1 0 x | BITPOS s 1 7 15 BIT | BITPOS s 1 7 15 foo | BITPOS s 0 7 -3 BIT
+ BITPOS nokey 0 | BITPOS nokey 1 | BITPOS s 1 -1 | BITPOS s 0 -1 -1 | BITPOS s 1 0 -1 BYTE x | BITPOS s 1 5
SET s "\xff\xff" | BITPOS s 0 | BITPOS s 0 0 -1 | BITPOS s 0 0 | BITPOS s 0 1 | BITPOS s 0 5 | BITPOS s 0 2 1
SET a abc | SET b a | BITOP AND d a b | GET d | BITOP OR d a b | GET d | BITOP XOR d a b | GET d
+ BITOP NOT d a | GET d | BITOP NOT d a b | BITOP foo d a | BITOP AND d nokey | EXISTS d | BITOP AND d nokey a | GET d
+ BITOP OR d nokey nokey2 | BITOP and a a b | GET a
BITFIELD f SET u8 0 255 GET u8 0 | BITFIELD f INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 1 | BITFIELD f GET u4 0
+ BITFIELD f OVERFLOW FAIL INCRBY u2 102 3 | BITFIELD f GET i64 0 GET u63 1 | BITFIELD f GET u64 0 | BITFIELD f GET i65 0
+ BITFIELD f SET i8 #1 -128 | BITFIELD f GET i8 #1 GET u8 8 | BITFIELD f OVERFLOW foo GET u8 0 | BITFIELD f GET u8
+ BITFIELD f SET u8 0 x | BITFIELD f SET u8 -1 1 | BITFIELD f GET u8 #-1 | BITFIELD f foo | BITFIELD f | BITFIELD_RO f GET u8 0
BITFIELD_RO f SET u8 0 1 | BITFIELD_RO f GET u8 0 GET u8 8 | BITFIELD nokey GET u8 0 | EXISTS nokey
BITFIELD g SET u8 0 -1 SET i4 0 99 GET u8 0 | GET g | BITFIELD g INCRBY i64 0 9223372036854775807 INCRBY i64 0 1
BITFIELD h SET i5 3 15 INCRBY i5 3 1 OVERFLOW SAT INCRBY i5 3 -100 | GET h | BITFIELD h OVERFLOW FAIL SET u2 0 4
SET a 1 EX 100 | RENAME a b | GET b | TTL b | EXISTS a | RENAME nokey b | RENAME b b | RENAMENX b c | GET c
SET d 1 | RENAMENX c d | GET c | RENAMENX nokey d | RENAMENX c c | RENAMENX nokey nokey | RENAME nokey nokey
SET a 1 EX 100 | COPY a b | GET b | TTL b | COPY a b | SET a 2 | COPY a b REPLACE | GET b | TTL b | COPY nokey x
+ COPY a a | COPY a b foo | COPY a b DB 0 | COPY a b DB x | COPY a z DB 0 REPLACE | COPY a b DB 99
+ OBJECT REFCOUNT nokey | OBJECT foo a | OBJECT | OBJECT ENCODING | OBJECT ENCODING nokey
SET a hello | OBJECT ENCODING a | OBJECT REFCOUNT a
MEMORY USAGE nokey | MEMORY foo | MEMORY USAGE | MEMORY USAGE a SAMPLES -1 | MEMORY USAGE a foo 1
SET a hello | DUMP a | DUMP nokey | SET a 10 | DUMP a | SET a 300 | DUMP a | SET a -70000 | DUMP a
SET a 99999999999 | DUMP a
RESTORE r 0 "\x00\x05hello\x0a\x00\xce\xe4\x07\x8f\x8c\xaa\xb5\xe3" | GET r | RESTORE r 0 foo | RESTORE r -1 foo | RESTORE r x foo
RANDOMKEY | KEYS * | DBSIZE | SET onlykey 1 | RANDOMKEY | KEYS * | KEYS only* | KEYS x* | DBSIZE | SCAN 0 COUNT 100
+ SCAN x | SCAN 0 COUNT 0 | SCAN 0 COUNT x | SCAN 0 foo bar | SCAN 0 MATCH | SCAN 0 MATCH only* COUNT 1000 | SCAN 0 TYPE string COUNT 100
+ SCAN 0 TYPE list COUNT 100 | SCAN 0 COUNT 1000 MATCH nothing
FLUSHALL | FLUSHALL ASYNC | FLUSHALL SYNC | FLUSHALL foo | FLUSHDB | FLUSHDB ASYNC | FLUSHDB foo | FLUSHALL ASYNC x
SELECT 0 | SELECT x | SELECT 99 | SELECT -1
MULTI | SET a 1 | INCR a | GET a | EXEC | GET a
MULTI | EXEC | EXEC | DISCARD | MULTI | DISCARD | MULTI | MULTI | DISCARD
MULTI | nosuch | SET a 1 | EXEC | GET a | MULTI | GET | EXEC | MULTI | SET a x | INCR a | GET a | EXEC
WATCH a | SET a 9 | MULTI | GET a | EXEC | WATCH a | MULTI | GET a | EXEC | MULTI | WATCH a | EXEC | UNWATCH
WATCH a | UNWATCH | SET a 8 | MULTI | GET a | EXEC | WATCH a b | MULTI | SET a 7 | EXEC | GET a | WATCH
WATCH nokey | SET nokey 1 | MULTI | PING | EXEC | WATCH a | MULTI | SET a 3 | EXEC | GET a
MULTI | SET x 1 | RENAME x y | GET y | COPY y z | MSETNX p 1 q 2 | BITOP OR r y z | GET r | EXEC | MGET x y z p q r
MULTI | PING | ECHO hi | SET k v GET | MGET k k | DEL k | TTL k | TYPE k | EXEC
MULTI | SUBSCRIBE a | EXEC
SUBSCRIBE a b | SUBSCRIBE a | PSUBSCRIBE p* | PING | PING hi | UNSUBSCRIBE a | PUNSUBSCRIBE | UNSUBSCRIBE | UNSUBSCRIBE | PING
SSUBSCRIBE s | SUNSUBSCRIBE s | SUNSUBSCRIBE | PUNSUBSCRIBE nope | PUBLISH nobody hi | SPUBLISH nobody hi
SUBSCRIBE a | GET x | SET x 1 | RESET | GET x
PUBSUB CHANNELS | PUBSUB NUMSUB | PUBSUB NUMSUB a b | PUBSUB NUMPAT | PUBSUB foo | PUBSUB | PUBSUB SHARDCHANNELS | PUBSUB SHARDNUMSUB x
CLIENT GETNAME | CLIENT SETNAME me | CLIENT GETNAME | CLIENT SETNAME "a b" | CLIENT SETNAME "" | CLIENT GETNAME | CLIENT SETNAME
CLIENT foo | CLIENT | CLIENT REPLY foo | CLIENT REPLY ON | CLIENT NO-EVICT ON | CLIENT NO-EVICT foo | CLIENT UNBLOCK x | CLIENT UNBLOCK 99999
CLIENT KILL 1.2.3.4:5 | CLIENT KILL ID 0 | CLIENT KILL ID 99999 | CLIENT KILL foo bar | CLIENT KILL TYPE foo | CLIENT KILL SKIPME maybe
CLIENT KILL USER default2 | CLIENT LIST TYPE foo | CLIENT LIST ID x | CLIENT LIST ID 99999 | CLIENT LIST foo
CLIENT TRACKING | CLIENT TRACKING ON PREFIX a | CLIENT TRACKING ON BCAST OPTIN | CLIENT TRACKING ON OPTIN OPTOUT | CLIENT TRACKING foo
CLIENT CACHING YES | CLIENT GETREDIR | CLIENT TRACKINGINFO | CLIENT TRACKING ON REDIRECT 99999 | CLIENT TRACKING OFF
CLIENT TRACKING ON OPTIN | CLIENT TRACKINGINFO | CLIENT CACHING YES | CLIENT CACHING NO | CLIENT CACHING foo | CLIENT TRACKING OFF | CLIENT TRACKINGINFO
CLIENT TRACKING ON BCAST PREFIX a PREFIX ab | CLIENT TRACKING ON BCAST PREFIX a PREFIX b | CLIENT TRACKINGINFO | CLIENT TRACKING ON | CLIENT GETREDIR
CLIENT PAUSE x | CLIENT PAUSE -1 | CLIENT PAUSE 0 foo | CLIENT UNPAUSE
CONFIG GET save | CONFIG GET appendonly | CONFIG GET nosuch | CONFIG | CONFIG foo | CONFIG GET | CONFIG SET nosuch 1 | CONFIG RESETSTAT | CONFIG SET save
COMMAND COUNT x | COMMAND foo | COMMAND INFO nosuch | COMMAND GETKEYS get a | COMMAND GETKEYS mset a 1 b 2 | COMMAND GETKEYS ping | COMMAND GETKEYS nosuch
COMMAND GETKEYS get | COMMAND GETKEYSANDFLAGS set a b | COMMAND GETKEYSANDFLAGS copy a b | COMMAND DOCS nosuch | COMMAND LIST FILTERBY foo bar | COMMAND GETKEYS bitop and d a b
COMMAND INFO get | COMMAND INFO mget del incr expire ttl getrange setbit bitop lcs msetnx rename copy append strlen
COMMAND INFO multi exec watch subscribe publish ping echo auth hello select quit dbsize flushall keys scan randomkey
AUTH x | AUTH default x | AUTH other x | AUTH a b c | AUTH | ACL WHOAMI | ACL foo | ACL CAT foo
WAIT 0 0 | WAIT x 0 | WAIT 0 x | WAIT 0 -1 | TIME x | LOLWUT VERSION | ROLE x | DBSIZE x | DEBUG
CLUSTER INFO | CLUSTER foo | ASKING | READONLY | READWRITE | CLUSTER | CLUSTER SLOTS | CLUSTER KEYSLOT
SLOWLOG foo | SLOWLOG | SLOWLOG LEN x | SLOWLOG RESET | SLOWLOG LEN | SLOWLOG GET x | LATENCY foo | LATENCY RESET | LATENCY LATEST | LATENCY HISTORY x | LATENCY HISTOGRAM nosuch
HELLO 4 | HELLO x | HELLO 1 | HELLO 2 foo | HELLO 3 AUTH x | HELLO 2 SETNAME "a b" | HELLO 2 AUTH nobody x | MODULE LIST | MODULE foo
RESET | PING | QUIT
"""

# Raw requests: framing, quoting, limits.
RAW = [
    b"PING\r\n",
    b"ping\n",
    b"\r\n\r\nPING\r\n",
    b"SET k \"a b\"\r\nGET k\r\n",
    b"SET k 'it\\'s'\r\nGET k\r\n",
    b"SET k \"\\x41\\n\\t\"\r\nGET k\r\n",
    b"SET k \"unbalanced\r\n",
    b"SET k \"a\"b\r\n",
    b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n",
    b"*0\r\n*-1\r\nPING\r\n",
    b"*x\r\n",
    b"*1\r\nPING\r\n",
    b"*1\r\n$x\r\n",
    b"*1\r\n$-1\r\n",
    b"*1\r\n$536870913\r\n",
    b"*2147483648\r\n",
    b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n",
    b"*" + b"1" * 70000,
    b"*1\r\n$" + b"1" * 70000,
    b"a" * 70000,
    b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$0\r\n\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n",
    b"nosuch\r\nPING\r\nGET\r\nPING\r\n",
    b"PING\r\nQUIT\r\nPING\r\n",
]


class Wire:
    """A connection that reads whole replies and keeps their bytes."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
        self.buffer = b""

    def send(self, data):
        self.sock.sendall(data)

    def _line(self):
        while b"\r\n" not in self.buffer:
            self._more()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line + b"\r\n"

    def _more(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise EOFError
        self.buffer += data

    def reply(self):
        line = self._line()
        kind, rest = line[:1], line[1:-2]
        if kind in b"$=" and rest != b"-1":
            n = int(rest) + 2
            while len(self.buffer) < n:
                self._more()
            body, self.buffer = self.buffer[:n], self.buffer[n:]
            return line + body
        if kind in b"*~>%" and rest != b"-1":
            n = int(rest) * (2 if kind == b"%" else 1)
            return line + b"".join(self.reply() for _ in range(n))
        return line

    def drain(self, ended):
        """Everything until the server closes, or answers a last command if the ones before have ended."""
        try:
            self.send(encode([b"PING", MARK]) if ended else b"")
        except OSError:
            pass  # closed already; what it said before that can still be read
        last = b"$%d\r\n%s\r\n" % (len(MARK), MARK)
        data, self.buffer = self.buffer, b""
        try:
            while not data.endswith(last):
                more = self.sock.recv(1 << 16)
                if not more:
                    return data + b"<closed>"
                data += more
        except ConnectionResetError:
            return data + b"<closed>"
        return data

    def close(self):
        self.sock.close()


def words(text):
    """Splits a command as redis-cli does."""
    out, at, data = [], 0, text.encode("latin1")
    while at < len(data):
        if data[at : at + 1] == b" ":
            at += 1
        elif data[at : at + 1] == b'"':
            end = data.index(b'"', at + 1)
            raw = data[at + 1 : end]
            out.append(re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), raw))
            at = end + 1
        else:
            end = data.find(b" ", at)
            end = len(data) if end < 0 else end
            out.append(data[at:end])
            at = end
    return out


def encode(args):
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args)


def scripts(text):
    """Lines that begin with `+` go on with the script above them."""
    script = []
    for line in text.strip().splitlines():
        if not line.startswith("+ ") and script:
            yield script
            script = []
        script = script + [words(part.strip()) for part in line.removeprefix("+ ").split(" | ")]
    yield script


def growing_sketch():
    """A HyperLogLog that fills until it is no longer sparse, looked at on the way, and two merged."""
    steps = []
    for batch in range(100):
        members = " ".join(f"member:{n}" for n in range(batch * 40, batch * 40 + 40))
        steps.append(f"PFADD {'h' if batch % 4 else 'g'} {members}")
        if batch % 12 == 0:
            steps += ["PFCOUNT h", "GET h", "PFCOUNT h g"]
    steps += ["GET h", "PFMERGE g h", "PFCOUNT g", "GET g", "PFMERGE new g nokey", "GET new"]
    return " | ".join(steps) + "\n"


def replies_to(command):
    """How many replies a command has: one, but for the subscribing ones."""
    name, n = command[0].lower(), len(command) - 1
    if name in (b"subscribe", b"psubscribe", b"ssubscribe"):
        return max(n, 1)
    return None if name in (b"unsubscribe", b"punsubscribe", b"sunsubscribe") else 1


def normal(command, reply):
    """Takes out what may differ: numbers of connections, times, order of sets."""
    text = b" ".join(command)
    for pattern, _why in DIFFERENT:
        if re.search(pattern, text):
            return b"<different on purpose>"
    name = command[0].lower()
    if name == b"hello":
        reply = re.sub(rb"(\$2\r\nid\r\n):\d+", rb"\1:N", reply)
        reply = re.sub(rb"\$\d\r\n\d+\.\d+\.\d+", b"VERSION", reply)
    if name in (b"pttl",):
        reply = re.sub(rb":\d{3,}", b":N", reply)
    if name == b"command" and reply.startswith(b"*"):
        # Flags, categories and tips are sets: their order means nothing.
        def in_order(m):
            return m[1] + b"".join(sorted(re.findall(rb"\+[^\r]*\r\n", m[2])))

        reply = re.sub(rb"([*~]\d+\r\n)((?:\+[^\r]*\r\n)+)", in_order, reply)
    if name == b"dump" and reply.startswith(b"$"):
        return reply[:-12]  # version and checksum
    return reply


MARK = b"up to here"


def up_to_mark(wire):
    """Replies before that of the PING with the mark."""
    replies = b""
    while MARK not in (reply := wire.reply()):
        replies += reply
    return replies


def run_script(port, version, script, pipelined):
    wire = Wire(port)
    try:
        wire.send(b"FLUSHALL\r\nHELLO %d\r\n" % version)
        wire.reply()
        wire.reply()
        out = []
        # Behind what has an unknown number of replies comes a PING whose own is known.
        if pipelined:
            wire.send(b"".join(encode(c) for c in script) + encode([b"PING", MARK]))
        for command in script:
            n = replies_to(command)
            if not pipelined:
                wire.send(encode(command) + (encode([b"PING", MARK]) if n is None else b""))
            try:
                if n is None:
                    out.append(b"" if pipelined else up_to_mark(wire))
                    if pipelined:
                        out.append(up_to_mark(wire))
                        return out
                else:
                    out.append(b"".join(wire.reply() for _ in range(n)))
            except EOFError:
                out.append(b"<closed>")
                break
        return out
    finally:
        wire.close()


class Redis:
    """A redis-server of Debian's for the time of the flow."""

    def __enter__(self):
        binary = shutil.which("redis-server")
        assert binary, "redis-server is not installed"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.dir = tempfile.TemporaryDirectory()
        args = [binary, "--port", str(self.port), "--save", "", "--dir", self.dir.name]
        self.process = subprocess.Popen(args, stdout=subprocess.DEVNULL)
        limit = time.monotonic() + LIMIT_S
        while True:
            try:
                Wire(self.port).close()
                return self
            except OSError:
                assert time.monotonic() < limit, "redis-server does not start"
                time.sleep(0.05)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(LIMIT_S)
        self.dir.cleanup()


# Times to live are rounded to the nearest second: what is asked within half of one is not seen to pass.
QUICK_S = 0.4


def both(theirs, ours, version, script, pipelined):
    """The replies of both servers, each asked so quickly that no second passed for it meanwhile."""
    limit = time.monotonic() + LIMIT_S
    while True:
        took, replies = [], []
        for port in (theirs, ours):
            begun = time.monotonic()
            replies.append(run_script(port, version, script, pipelined))
            took.append(time.monotonic() - begun)
        if max(took) < QUICK_S:
            return replies
        assert time.monotonic() < limit, f"{script[0]} takes {took} s in every attempt"


def compare(theirs, ours, text=None, normal=normal):
    text = text or SCRIPTS + growing_sketch()
    wrong = 0
    for version in (2, 3):
        for script in scripts(text):
            for pipelined in (False, True):
                a, b = both(theirs, ours, version, script, pipelined)
                for command, x, y in zip(script, a, b):
                    x, y = normal(command, x), normal(command, y)
                    if x != y:
                        wrong += 1
                        mark = "pipelined" if pipelined else "single"
                        print(f"RESP{version} {mark}: {b' '.join(command)!r}")
                        print(f"  theirs {x[:600]!r}\n  ours   {y[:600]!r}")
                assert len(a) == len(b) or wrong, f"{script}: {len(a)} and {len(b)} replies"
    return wrong


def compare_raw(theirs, ours):
    wrong = 0
    for request in RAW:
        got = []
        for port in (theirs, ours):
            wire = Wire(port)
            wire.send(b"FLUSHALL\r\n")
            wire.reply()
            wire.send(request)
            got.append(wire.drain(request.endswith(b"\n")))
            wire.close()
        if got[0] != got[1]:
            wrong += 1
            print(f"raw {request[:60]!r}\n  theirs {got[0][:300]!r}\n  ours   {got[1][:300]!r}")
    return wrong


def test_replies_are_those_of_redis_byte_for_byte(server):
    with Redis() as redis:
        assert compare(redis.port, server.resp_port) == 0


def other_backends():
    """Every backend this build has, but the one of HOST."""
    import json

    from crucible import host_binary

    told = subprocess.run([host_binary(), "plugin", "list", "--json"], capture_output=True, check=True)
    names = {plugin["name"] for plugin in json.loads(told.stdout) if plugin["kind"] == "backend"}
    assert {"segcache", "heap"} <= names, names
    return sorted(names - {"segcache"})


def test_replies_are_the_same_on_every_other_backend(server):
    from crucible import Server

    with Redis() as redis:
        for backend in other_backends():
            with Server(**{**HOST, "backend": backend}) as other:
                assert compare(redis.port, other.resp_port) == 0, backend


def test_framing_errors_are_those_of_redis(server):
    with Redis() as redis:
        assert compare_raw(redis.port, server.resp_port) == 0


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "--ports":
        ports = int(sys.argv[2]), int(sys.argv[3])
        sys.exit(1 if compare(*ports) + compare_raw(*ports) else 0)
    from crucible import run

    run(__file__, globals())
