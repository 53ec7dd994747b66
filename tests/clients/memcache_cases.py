"""Cases of memcache_diff.py: (name, steps) or (name, steps, our documented answer or answers)."""

# As the answer: compare without CAS tokens.  A touch keeps the token in memcached; here it may change.
TOUCHES = "touches"

# As the last step: the server closes; nothing more is sent.
CLOSES = None

# Written as lines; every one ends with \r\n unless the case says otherwise.


def lines(*steps):
    return [s if isinstance(s, float) or s is CLOSES else s.encode("latin1") + b"\r\n" for s in steps]


K250 = "x" * 250
# `{k}` is about 20 bytes, so long keys do not use it.

TEXT = [
    ("get miss", lines("get {k}", "gets {k}", "get {k} {k}b {k}c")),
    ("set get", lines("set {k} 5 0 3", "abc", "get {k}", "gets {k}", "get {k} {k}", "get nokey {k} nokey")),
    ("set empty", lines("set {k} 0 0 0", "", "get {k}")),
    ("flags", lines("set {k} 4294967295 0 1", "a", "get {k}", "set {k} 65536 0 1", "b", "get {k}", "add {k}2 7 0 1", "c", "gets {k}2")),
    ("add replace", lines("add {k} 0 0 1", "a", "add {k} 0 0 1", "b", "get {k}", "replace {k} 9 0 2", "cc", "get {k}", "replace {k}n 0 0 1", "a", "get {k}n")),
    ("append prepend", lines("append {k} 0 0 1", "a", "prepend {k} 0 0 1", "a", "set {k} 3 0 1", "m", "append {k} 9 0 2", "zz", "prepend {k} 9 0 2", "aa", "get {k}")),
    ("cas", lines("cas {k} 0 0 1 5", "a", "set {k} 0 0 1", "a", "gets {k}", "cas {k} 1 0 1 {cas1}", "b", "cas {k} 1 0 1 {cas1}", "c", "get {k}", "gets {k}", "cas {k} 1 0 1 0", "c")),
    ("cas changes on every write", lines("set {k} 0 0 1", "1", "gets {k}", "incr {k} 1", "gets {k}", "append {k} 0 0 1", "0", "gets {k}", "touch {k} 0", "gets {k}", "set {k} 0 0 1", "1", "gets {k}")),
    ("delete", lines("delete {k}", "set {k} 0 0 1", "a", "delete {k}", "get {k}", "delete {k}", "delete {k} 0", "delete {k} 1", "delete {k} noreply", "delete {k} 0 noreply", "delete {k} 1 noreply", "delete", "delete {k} 0 1 2")),
    ("incr decr", lines("incr {k} 1", "decr {k} 1", "set {k} 0 0 1", "5", "incr {k} 10", "get {k}", "decr {k} 6", "get {k}", "decr {k} 100", "get {k}", "incr {k} 18446744073709551615", "incr {k} 1", "get {k}", "incr {k} 18446744073709551616", "incr {k} -1", "incr {k} abc", "incr {k} 1x", "incr {k} +3", "incr {k}", "incr {k} 1 2 3", "incr {k} 2 junk", "decr {k} x")),
    ("incr non numeric", lines("set {k} 0 0 3", "abc", "incr {k} 1", "set {k} 0 0 0", "", "incr {k} 1", "set {k} 0 0 3", " 12", "incr {k} 1", "get {k}", "set {k} 0 0 5", "12 ab", "incr {k} 1", "get {k}", "set {k} 0 0 2", "-1", "incr {k} 1", "set {k} 0 0 2", "+1", "incr {k} 1", "get {k}", "set {k} 0 0 20", "18446744073709551615", "incr {k} 2", "get {k}", "set {k} 0 0 20", "18446744073709551616", "incr {k} 2")),
    ("decr pads with spaces", lines("set {k} 0 0 3", "100", "decr {k} 1", "get {k}", "incr {k} 1", "get {k}", "decr {k} 95", "get {k}", "incr {k} 9995", "get {k}")),
    ("incr keeps flags and ttl", lines("set {k} 77 100 1", "1", "incr {k} 5", "get {k}", "mg {k} t f", "incr {k} 500", "mg {k} t f v")),
    ("touch", lines("touch {k} 10", "set {k} 0 0 1", "a", "touch {k} 10", "mg {k} t", "touch {k} 0", "mg {k} t", "touch {k} -1", "get {k}", "touch {k}", "touch {k} abc", "touch {k} 1 noreply", "touch {k} 1 junk", "touch")),
    ("gat", lines("gat 10 {k}", "set {k} 3 0 2", "ab", "gat 10 {k}", "mg {k} t", "gats 0 {k} {k}", "mg {k} t", "gat abc {k}", "gat 10", "gat", "gats", "gat -1 {k}", "get {k}", "gats 5 nokey {k}")),
    ("exptime", lines("set {k} 0 -1 1", "a", "get {k}", "set {k} 0 100 1", "a", "mg {k} t", "set {k} 0 2592000 1", "a", "mg {k} t", "set {k} 0 2592001 1", "a", "get {k}", "set {k} 0 {now+50} 1", "a", "mg {k} f v", "set {k} 0 {now-50} 1", "a", "get {k}")),
    ("exptime beyond 2038", lines("set {k} 0 2147483648 1", "a", "mg {k} v", "touch {k} 4294967296", "get {k}"), b"STORED\r\nVA 1\r\na\r\nTOUCHED\r\nVALUE {k} 0 1\r\na\r\nEND\r\nMN\r\n"),
    ("add over an expired item", lines("set {k} 0 -1 1", "a", "add {k} 0 0 1", "b", "get {k}", "set {k} 0 -1 1", "a", "replace {k} 0 0 1", "b", "incr {k} 1", "append {k} 0 0 1", "x", "delete {k}", "touch {k} 5")),
    ("one second", lines("set {k} 0 1 1", "a", "set {k}b 0 600 1", "b", 2.2, "get {k}", "get {k}b", "add {k} 0 0 1", "n")),
    ("noreply", lines("set {k} 0 0 1 noreply", "1", "get {k}", "add {k} 0 0 1 noreply", "2", "replace {k} 0 0 1 noreply", "3", "append {k} 0 0 1 noreply", "4", "prepend {k} 0 0 1 noreply", "5", "get {k}", "incr {k} 1 noreply", "decr {k} 3 noreply", "get {k}", "cas {k} 0 0 1 1 noreply", "9", "touch {k} 5 noreply", "delete {k} noreply", "get {k}", "incr {k} 1 noreply", "incr {k} abc noreply", "verbosity 0 noreply", "flush_all noreply", "get {k}")),
    ("noreply swallows errors", lines("touch {k} abc noreply", "incr {k} x noreply", "get {k}")),
    ("unknown", lines("", "x", "nonsense", "GET a", "Set a 0 0 1", "getx a", "set", "set {k}", "set {k} 0", "set {k} 0 0", "set {k} 0 0 1 2 3", "add {k} 0 0", "cas {k} 0 0 1", "cas {k} 0 0 1 2 noreply x", "incr", "decr", "mz", "m", "mm a", "g", "get", "get  ", "gets", "stat", "verbosity", "quitt", "a" * 300)),
    ("bare newline", [b"set {k} 0 0 1\n", b"a\r\n", b"get {k}\n", b"\n", b"\r\n", b"\n\n"]),
    ("bare newline after data", [b"set {k} 0 0 1\r\n", b"a\n", b"\r\nget {k}\r\n", b"get {k}\r\n"]),
    ("cr inside a line", [b"get {k}\rb\r\n", b"set {k}\rb 0 0 1\r\n", b"a\r\n", b"get {k}\rb\r\n", b"get {k}\r\r\n", b"get \r\n", b"get {k}\r \r\n", b"\rget {k}\r\n"]),
    ("tab and control characters in keys", [b"set {k}\tb 0 0 1\r\n", b"a\r\n", b"get {k}\tb\r\n", b"set {k}\x01\x7f\xff 0 0 1\r\n", b"z\r\n", b"get {k}\x01\x7f\xff\r\n", b"get\t{k}\r\n"]),
    ("spaces", [b"  get   {k}  \r\n", b" set  {k}  0 0   1  \r\n", b"a\r\n", b"get {k} \r\n", b"   \r\n"]),
    ("key 250", lines("set " + K250 + " 0 0 1", "a", "get " + K250, "delete " + K250)),
    ("key 251", lines("get " + K250 + "x", "get {k} " + K250 + "x {k}", "gets " + K250 + "x", "delete " + K250 + "x", "incr " + K250 + "x 1", "touch " + K250 + "x 1", "gat 1 " + K250 + "x", "mg " + K250 + "x v", "md " + K250 + "x", "ma " + K250 + "x", "me " + K250 + "x", "get {k}"), b"CLIENT_ERROR bad command line format\r\n" * 11 + b"END\r\nMN\r\n"),
    ("a good key before a bad one", lines("set {k} 0 0 1", "a", "get {k} " + K250 + "x {k}", "get {k}"), b"STORED\r\nCLIENT_ERROR bad command line format\r\nVALUE {k} 0 1\r\na\r\nEND\r\nMN\r\n"),
    ("multi-get of many", lines("set {k} 0 0 1", "a", "get " + " ".join(["{k}", "{k}no"] * 100), "gets " + " ".join(["{k}"] * 60), "gat 0 " + " ".join(["{k}"] * 60))),
    ("bad chunk, short", [b"set {k} 0 0 5\r\n", b"abc\r\nxx\r\n", b"get {k}\r\n"]),
    ("bad chunk, long", [b"set {k} 0 0 3\r\n", b"abcdef\r\n", b"get {k}\r\n"]),
    ("bad chunk keeps the old value", [b"set {k} 0 0 1\r\na\r\n", b"set {k} 0 0 3\r\nabcdef\r\n", b"get {k}\r\n"]),
    ("bad chunk noreply", [b"set {k} 0 0 3 noreply\r\n", b"abcdef\r\n", b"get {k}\r\n"]),
    ("bad chunk in ms", [b"ms {k} 3 q\r\n", b"abcdef\r\n", b"mg {k} v\r\n", b"ms {k} 3 c k O1\r\n", b"abcxx", b"mg {k} v\r\n"]),
    ("bad lengths: set -1", lines("set {k} 0 0 -1")),
    ("bad lengths: set abc", lines("set {k} 0 0 abc")),
    ("bad lengths: set 2147483647", lines("set {k} 0 0 2147483647")),
    ("bad lengths: set 99999999999", lines("set {k} 0 0 99999999999"), b"CLIENT_ERROR bad command line format\r\nMN\r\n"),
    ("bad lengths: ms abc", lines("ms {k} abc")),
    ("bad lengths: ms -1", lines("ms {k} -1")),
    ("bad lengths: ms 2147483647", lines("ms {k} 2147483647")),
    ("bad lengths: ms 99999999999", lines("ms {k} 99999999999"), b"CLIENT_ERROR bad command line format\r\nMN\r\n"),
    ("bad lengths: ms without", lines("ms", "ms {k}", "ms {k} S5")),
    ("bad header, good length: flags", lines("set {k} abc 0 2", "hi", "get {k}"), b"CLIENT_ERROR bad command line format\r\nEND\r\nMN\r\n"),
    ("bad header, good length: exptime", lines("set {k} 0 abc 2", "hi", "get {k}"), b"CLIENT_ERROR bad command line format\r\nEND\r\nMN\r\n"),
    ("bad header, good length: key", lines("set " + K250 + "y 0 0 2", "hi", "get {k}"), b"CLIENT_ERROR bad command line format\r\nEND\r\nMN\r\n"),
    ("bad header, good length: cas", lines("cas {k} 0 0 2 abc", "hi", "get {k}"), b"CLIENT_ERROR bad command line format\r\nEND\r\nMN\r\n"),
    ("bad header, good length: ms key", lines("ms " + K250 + "y 2", "hi", "get {k}"), b"CLIENT_ERROR bad command line format\r\nEND\r\nMN\r\n"),
    ("bad header, good length: ms flags", lines("ms {k} 2 " + " ".join("abcdefghijklmnopqrstuvw"), "hi", "get {k}"), b"CLIENT_ERROR options flags too long\r\nEND\r\nMN\r\n"),
    ("bad header, too many words", lines("set {k} 0 0 2 noreply extra", "hi", "get {k}")),
    ("flags out of range", lines("set {k} 4294967296 0 2", "hi", "get {k}", "set {k} -1 0 2", "hi", "get {k}", "set {k} 18446744073709551616 0 2", "hi"), b"CLIENT_ERROR bad command line format\r\nEND\r\nCLIENT_ERROR bad command line format\r\nEND\r\nCLIENT_ERROR bad command line format\r\nMN\r\n"),
    ("odd numbers", lines("set {k} +5 +0 +2", "hi", "get {k}", "set {k} 1\tx 0 2\tx", "hi", "get {k}", "incr {k} 1\r2")),
    ("nul in a line", lines("set {k} 0 0 1", "a", "get {k}\0b", "get \0", "get {k} \0 {k}")),
    ("too large", [b"set {k} 0 0 1\r\na\r\n", b"set {k} 0 0 1048577\r\n", b"x" * 1048577 + b"\r\n", b"get {k}\r\n", b"add {k} 0 0 2000000\r\n" + b"y" * 2000000 + b"\r\n", b"append {k} 0 0 1100000\r\n" + b"delete x\r\n" * 110000 + b"\r\n", b"get {k}\r\n"]),
    ("too large ms", [b"ms {k} 1048577 T5\r\n" + b"x" * 1048577 + b"\r\n", b"ms {k} 1100000 q k O9\r\n" + b"delete x\r\n" * 110000 + b"\r\n", b"mg {k} v\r\n"]),
    ("half a mebibyte", [b"set {k} 9 100 500000\r\n" + b"v" * 500000 + b"\r\n", b"get {k}\r\n", b"mg {k} s f t\r\n", b"append {k} 0 0 3\r\nxyz\r\n", b"mg {k} s f\r\n", b"incr {k} 1\r\n"]),
    ("options on large values", [b"set {k} 3 0 1\r\na\r\n", b"add {k} 9 100 100000\r\n" + b"v" * 100000 + b"\r\n", b"get {k}\r\n", b"replace {k} 7 50 100000 noreply\r\n" + b"w" * 100000 + b"\r\n", b"mg {k} s f t\r\n", b"gets {k}\r\n", b"cas {k} 5 0 100000 {cas1}\r\n" + b"z" * 100000 + b"\r\n", b"cas {k} 5 0 100000 {cas1}\r\n" + b"z" * 100000 + b"\r\n", b"mg {k} s f t\r\n", b"replace {k}n 0 0 100000\r\n" + b"z" * 100000 + b"\r\n", b"prepend {k} 0 0 100000\r\n" + b"p" * 100000 + b"\r\n", b"mg {k} s\r\n", b"ms {k} 100000 c k O1 F9 T60\r\n" + b"m" * 100000 + b"\r\n", b"mg {k} s f t k\r\n", b"ms {k} 70000 I C1 k\r\n" + b"m" * 70000 + b"\r\n", b"mg {k} s\r\n"]),
    ("long line without end", [b"set " + b"a" * 5000, CLOSES]),
    ("long line without end, spaces", [b" " * 5000, CLOSES]),
    ("long multi-get without end yet", [b"get " + b"a " * 5000, 0.3, b"b\r\n"]),
    ("long gat without end yet", [b"gat 1 " + b"a " * 5000, CLOSES]),
    ("2047 bytes without end yet", [b"x" * 2047, 0.3, b"\r\n"]),
    ("2048 bytes without end yet", [b"x" * 2048, 0.3, b"\r\n"]),
    ("2049 bytes without end yet", [b"x" * 2049, CLOSES]),
    ("long multi-get line", lines("set {k} 0 0 1", "a", "get " + " ".join(["{k}"] + ["n%03d" % i for i in range(600)] + ["{k}"]))),
    ("long lines with an end", [b"delete " + b"a" * 1900 + b"\r\n", b"x" * 1900 + b"\r\n", b"get {k}\r\n"]),
    ("flush_all", lines("set {k} 0 0 1", "a", "flush_all 0 junk", "flush_all abc", "flush_all 0 0 0 0", "flush_all -1 x y z", "get {k}")),
    ("verbosity version", lines("verbosity 0", "verbosity 1 noreply", "verbosity abc", "verbosity 1 2 3", "verbosity noreply")),
    ("watch of nothing there is", lines("watch nosuch")),
    ("mn mz", lines("mz", "mnn", "mn2 x")),
    ("shutdown is off", lines("shutdown", "shutdown graceful", "shutdown x")),
    ("meta get", lines("mg {k}", "mg {k} v", "mg {k} k O1 q", "mg {k} k O1", "set {k} 7 100 3", "abc", "mg {k}", "mg {k} v", "mg {k} s v t f k O77 h", "mg {k} h l", "mg {k} u h", "mg {k} q", "mg {k} q v", "mg {k} T0 t", "mg {k} t T50", "mg {k} t", "mg {k} c", "mg {k} t v c k s f O123")),
    ("meta get hit bit", lines("set {k} 0 0 1", "a", "mg {k} h u", "mg {k} h", "mg {k} h", "set {k}g 0 0 1", "a", "get {k}g", "mg {k}g h v")),
    ("meta get hit bit of an overwritten value", lines("set {k} 0 0 1", "a", "mg {k}", "set {k} 0 0 1", "a", "mg {k} h")),
    ("meta errors", lines("mg", "mg {k} Z", "mg {k} v v", "mg {k} O" + "a" * 31, "mg {k} O" + "a" * 32, "set {k} 0 0 1", "a", "mg {k} O" + "a" * 32, "mg {k} Tabc", "mg {k} Rabc", "mg {k} Nabc", "mg {k} T", "mg {k} \xff", "mg {k} a b c d e f g h i j k l m n o p q r s t u", "md {k} Z", "md {k} q q", "md", "ma", "ma {k} MX", "ma {k} Dabc", "ma {k} Jabc", "ma {k} M", "me", "mg {k} I", "mg {k} C1", "mg {k} F1", "mg {k} Cabc")),
    ("meta set errors with a body", lines("ms {k} 2 Z", "hi", "ms {k} 2 T1 T2", "hi", "ms {k} 2 Tabc", "hi", "ms {k} 2 MZ", "hi", "ms {k} 2 MEE", "hi", "ms {k} 2 Cabc", "hi", "ms {k} 2 Fabc", "hi", "ms {k} 2 O" + "a" * 32, "hi", "mg {k} v")),
    ("meta vivify", lines("mg {k} N30 t v", "mg {k} N30 t v", "mg {k} v t", "get {k}", "ms {k} 2 T60", "hi", "mg {k} N30 t v", "mg {k} v")),
    ("meta vivify order", lines("mg {k} t s c N30 v k O5 f h", "mg {k} t s c N30 v k O5 f h")),
    ("meta recache", lines("ms {k} 2 T60", "hi", "mg {k} R30 t v", "mg {k} R90 t v", "mg {k} R90 t v", "mg {k} t v", "ms {k} 2 T60", "hi", "mg {k} t", "mg {k} R100", "ms {k} 2", "hi", "mg {k} R100 t")),
    ("meta stale", lines("ms {k} 2 T60 c", "hi", "md {k} I T30", "mg {k} t v", "mg {k} t v", "get {k}", "mg {k} v", "md {k} I", "mg {k} v t", "ms {k} 2 T60", "ho", "mg {k} v t", "md {k} I q", "mg {k}")),
    ("meta stale set", lines("ms {k} 2 T60 c", "hi", "md {k} I T30", "mg {k} c v", "ms {k} 3 I C{cas1} c", "new", "mg {k} v t c", "ms {k} 3 C1", "old", "ms {k} 3 I C0", "old", "mg {k} v t")),
    ("meta stale set keeps the win", lines("ms {k} 2 T60 c", "hi", "ms {k} 2 T60", "ho", "md {k} I T30", "ms {k} 3 I C{cas1} T90", "new", "mg {k} v t", "mg {k} v t")),
    ("meta stale, winner stores", lines("ms {k} 2 T60", "hi", "md {k} I T30", "mg {k} c v", "mg {k} c v", "ms {k} 2 C{cas1} T70", "ok", "mg {k} v t")),
    ("meta set modes", lines("ms {k} 1 MR", "a", "ms {k} 1 MA", "a", "ms {k} 1 MP", "a", "ms {k} 1 ME", "a", "ms {k} 1 ME", "b", "ms {k} 1 MA F9 T9", "c", "ms {k} 1 MP", "d", "mg {k} v f t", "ms {k} 2 MR F3 T33", "rr", "mg {k} v f t", "ms {k} 2 MS", "ss", "mg {k} v f t")),
    ("meta set returns", lines("ms {k} 1 c", "a", "ms {k} 1 k", "a", "ms {k} 1 O55 k", "a", "ms {k} 1 k O55 c q", "a", "ms {k} 1 q", "a", "ms {k} 1 ME q", "a", "ms {k} 1 ME k O9 c", "a", "ms {k} 0", "", "mg {k} v s")),
    ("meta set cas", lines("ms {k} 1 C5", "a", "ms {k} 1 C5 MR", "a", "ms {k} 1 c", "a", "ms {k} 1 C{cas1} c", "b", "ms {k} 1 C{cas1} c", "c", "ms {k} 1 MR C{cas1}", "c", "ms {k} 1 MA C{cas1}", "c", "ms {k} 1 MA C{cas2} c", "c", "ms {k} 1 ME C{cas1}", "c", "ms {k} 1 C0", "z", "mg {k} v")),
    ("meta delete", lines("md {k}", "md {k} q", "md {k} k O1 q", "ms {k} 1", "a", "md {k} k O1", "ms {k} 1", "a", "md {k} q", "ms {k} 1 c", "a", "md {k} C1", "md {k} C1 q", "md {k} C{cas1}", "mg {k}", "ms {k} 1 T60", "a", "md {k} T5", "mg {k}")),
    ("meta arithmetic", lines("ma {k}", "ma {k} q", "ma {k} k O1", "ma {k} N0 J13 v", "ma {k} v", "ma {k} D5 v", "ma {k} MD D3 v", "ma {k} M- v", "ma {k} M+ v", "ma {k} MI D10 v", "ma {k} MD D1000 v", "get {k}", "ma {k} v t c k O9 q", "ma {k} v t c k O9", "ma {k} T60 t v", "ma {k} t T90", "ma {k} t", "ma {k}n N30 t v k", "ma {k}n N30 t v", "set {k} 0 0 1", "a", "ma {k}", "ma {k} q", "ma {k} D18446744073709551616", "ma {k}m N0 J1844674407370955161 v", "ma {k}m v")),
    ("meta arithmetic cas", lines("ma {k} N0 J1 c", "ma {k} C987654321", "ma {k} C987654321 q", "ma {k} C987654321 k O3", "ma {k} C{cas1} v c", "ma {k} C{cas1} v", "ma {k}no C5")),
    ("meta base64 keys", lines("ms Zm9vYmFyZ2F6 2 b k", "hi", "mg Zm9vYmFyZ2F6 b k v", "mg foobargaz k v", "mg Zm9vYmFyZ2F6 b k O1 v", "me Zm9vYmFyZ2F6 b", "ma Zm9vYmFyZ2F6 b", "md Zm9vYmFyZ2F6 b k", "mg Zm9vYmFyZ2F6 b k", "mg Zm9vYmFyZ2F6 k b", "mg !!!! b", "mg abc b", "ms !!!! 2 b", "hi", "md !!!! b", "ma !!!! b", "me !!!! b", "mg Zg== b k", "mg Zm8= b k", "mg = b k", "mg ==== b k", "mg A=== b k")),
    ("meta base64 with spaces and high bytes", lines("ms AAECIP8K 3 b k", "bin", "mg AAECIP8K b k v", "md AAECIP8K b q k O7", "mg AAECIP8K b k v")),
    ("meta debug", lines("me {k}", "me {k} b")),
    ("meta pipelined quiet", lines("mg {k}1 q v", "mg {k}2 q v", "ms {k}1 1 q", "a", "mg {k}1 q v k", "md {k}2 q", "md {k}1 q")),
    ("quit", [b"set {k} 0 0 1\r\na\r\nget {k}\r\nquit\r\n", CLOSES]),
    ("quit noreply set first", [b"set {k} 0 0 1 noreply\r\na\r\nquit\r\n", CLOSES]),
    ("stats errors", lines("stats nosuch", "stats cachedump", "stats cachedump a b", "stats cachedump 300 1", "stats detail", "stats detail nosuch", "stats detail off", "stats reset")),
    ("lru_crawler errors", lines("lru_crawler", "lru_crawler nosuch", "lru_crawler a b c", "lru", "slabs", "slabs x")),
]


def req(op, key=b"", extras=b"", value=b"", cas=0, opaque=0):
    """A binary request; `{k}` in the key becomes the case's prefix, `cas` may be a 1-based token number."""

    def build(prefix, tokens):
        k = key.replace(b"{k}", prefix)
        c = cas
        if isinstance(cas, str):
            i = int(cas) - 1
            c = tokens[i] if i < len(tokens) else 999999
        body = extras + k + value
        return (
            bytes([0x80, op])
            + len(k).to_bytes(2, "big")
            + bytes([len(extras), 0, 0, 0])
            + len(body).to_bytes(4, "big")
            + opaque.to_bytes(4, "big")
            + c.to_bytes(8, "big")
            + body
        )

    build.needs_cas = isinstance(cas, str)
    return build


def sx(flags=0, exptime=0):
    return flags.to_bytes(4, "big") + exptime.to_bytes(4, "big")


def ix(delta=1, initial=0, exptime=0):
    return delta.to_bytes(8, "big") + initial.to_bytes(8, "big") + exptime.to_bytes(4, "big")


def tx(exptime):
    return exptime.to_bytes(4, "big")


GET, SET, ADD, REPLACE, DELETE, INCR, DECR, QUIT, FLUSH, GETQ, NOOP, VERSION, GETK, GETKQ, APPEND, PREPEND, STAT = range(0x11)
SETQ, ADDQ, REPLACEQ, DELETEQ, INCRQ, DECRQ, QUITQ, FLUSHQ, APPENDQ, PREPENDQ, VERBOSITY, TOUCH, GAT, GATQ = range(0x11, 0x1F)
SASL_LIST, SASL_AUTH, SASL_STEP, GATK, GATKQ = range(0x20, 0x25)
K = b"{k}"

BINARY = [
    ("get set", [req(GET, K, opaque=7), req(GETK, K, opaque=8), req(SET, K, sx(5, 0), b"value", opaque=9), req(GET, K, opaque=10), req(GETK, K, opaque=11)]),
    ("quiet gets", [req(GETQ, K, opaque=1), req(GETKQ, K, opaque=2), req(SETQ, K, sx(1), b"v", opaque=3), req(GETQ, K, opaque=4), req(GETKQ, K, opaque=5), req(NOOP, opaque=6)]),
    ("add replace", [req(REPLACE, K, sx(), b"a"), req(ADD, K, sx(), b"a"), req(ADD, K, sx(), b"b"), req(REPLACE, K, sx(9), b"c"), req(GET, K)]),
    ("quiet stores", [req(REPLACEQ, K, sx(), b"a", opaque=1), req(ADDQ, K, sx(), b"a", opaque=2), req(ADDQ, K, sx(), b"b", opaque=3), req(REPLACEQ, K, sx(9), b"c", opaque=4), req(SETQ, K, sx(9), b"d", opaque=4, cas=1), req(GET, K)]),
    ("append prepend", [req(APPEND, K, value=b"a"), req(PREPEND, K, value=b"a"), req(APPENDQ, K, value=b"a"), req(SET, K, sx(3), b"m"), req(APPEND, K, value=b"z"), req(PREPENDQ, K, value=b"a"), req(APPENDQ, K, value=b"y"), req(PREPEND, K, value=b""), req(GET, K)]),
    ("append with cas", [req(SET, K, sx(), b"m"), req(APPEND, K, value=b"z", cas="1"), req(APPEND, K, value=b"z", cas="1"), req(PREPEND, K, value=b"a", cas=5), req(APPEND, b"{k}n", value=b"a", cas=5), req(GET, K)]),
    ("set with cas", [req(SET, K, sx(), b"a", cas=5), req(ADD, K, sx(), b"a", cas=5), req(SET, K, sx(), b"a"), req(SET, K, sx(), b"b", cas="1"), req(SET, K, sx(), b"c", cas="1"), req(REPLACE, K, sx(), b"d", cas="2"), req(REPLACE, K, sx(), b"e", cas="2"), req(ADD, K, sx(), b"f", cas="3"), req(ADD, K, sx(), b"f", cas=1), req(GET, K)]),
    ("delete", [req(DELETE, K), req(DELETEQ, K, opaque=2), req(SET, K, sx(), b"a"), req(DELETE, K, cas=77), req(DELETE, K, cas="1"), req(SET, K, sx(), b"a"), req(DELETEQ, K), req(GET, K)]),
    ("incr decr", [req(INCR, K, ix(1, 5, 0xFFFFFFFF)), req(INCRQ, K, ix(1, 5, 0xFFFFFFFF), opaque=3), req(INCR, K, ix(1, 5, 0)), req(INCR, K, ix(10, 5, 0)), req(DECR, K, ix(3, 5, 0)), req(DECR, K, ix(300, 5, 0)), req(INCR, K, ix(0xFFFFFFFFFFFFFFFF)), req(INCR, K, ix(2)), req(INCRQ, K, ix(2)), req(DECRQ, K, ix(1)), req(GET, K)]),
    ("incr cas and non-numeric", [req(SET, K, sx(8), b"12"), req(INCR, K, ix(1), cas="1"), req(INCR, K, ix(1), cas="1"), req(GET, K), req(SET, K, sx(), b"abc"), req(INCR, K, ix(1)), req(DECRQ, K, ix(1), opaque=4)]),
    ("decr creates with the initial value", [req(DECR, K, ix(1, 18446744073709551615, 0)), req(GET, K)]),
    ("touch gat", [req(TOUCH, K, tx(10)), req(GAT, K, tx(10)), req(GATQ, K, tx(10)), req(GATK, K, tx(10)), req(GATKQ, K, tx(10)), req(SET, K, sx(7), b"abc"), req(TOUCH, K, tx(10), opaque=3), req(GAT, K, tx(0), opaque=4), req(GATQ, K, tx(0), opaque=5), req(GATK, K, tx(0), opaque=6), req(GATKQ, K, tx(50), opaque=7), req(GET, K)], TOUCHES),
    ("expirations", [req(SET, K, sx(0, 2592001), b"a"), req(GET, K), req(SET, K, sx(0, 100), b"a"), req(GET, K), req(SET, K, sx(0, 0xFFFFFFFF), b"a"), req(GET, K)]),
    ("noop version quit", [req(NOOP, opaque=5), req(QUIT, opaque=6), CLOSES]),
    ("quitq", [req(SET, K, sx(), b"a"), req(GETQ, b"{k}n"), req(QUITQ), CLOSES]),
    ("unknown opcodes", [req(0x7F, opaque=1), req(0x1F, opaque=2), req(0xFF, opaque=3), req(SASL_LIST, opaque=4)]),
    ("no key", [req(GET, opaque=1), CLOSES]),
    ("set without extras", [req(SET, K, b"", b"v", opaque=1), CLOSES]),
    ("get with extras", [req(GET, K, b"abcd", opaque=1), CLOSES]),
    ("get with a value", [req(GET, K, b"", b"junk", opaque=1), CLOSES]),
    ("incr with short extras", [req(INCR, K, b"abcd", opaque=1), CLOSES]),
    ("noop with a body", [req(NOOP, b"", b"", b"x", opaque=1), CLOSES]),
    ("version with a key", [req(VERSION, K, opaque=1), CLOSES]),
    ("touch without extras", [req(TOUCH, K, opaque=1), CLOSES]),
    ("key 250", [req(SET, b"y" * 250, sx(), b"v"), req(GETK, b"y" * 250), req(DELETE, b"y" * 250)]),
    ("key 251", [req(SET, b"y" * 251, sx(), b"v", opaque=1), CLOSES]),
    ("key 251 get", [req(GETK, b"y" * 251, opaque=1), CLOSES]),
    ("body shorter than its key", [lambda p, t: bytes.fromhex("800000050000000000000003000000010000000000000000") + b"abcde", CLOSES]),
    ("wrong magic after a good request", [req(NOOP, opaque=1), b"\x81" + bytes(23), CLOSES]),
    ("text on a binary connection", [req(NOOP, opaque=1), b"get foo\r\n" + bytes(20), CLOSES]),
    ("too large", [req(SET, K, sx(), b"a"), req(SET, K, sx(), b"v" * 1048577, opaque=4), req(GET, K), req(SETQ, K, sx(), b"v" * 1100000, opaque=5), req(ADD, K, sx(), b"v" * 1100000, opaque=6), req(APPEND, K, b"", b"v" * 1100000, opaque=7)]),
    ("large values with options", [req(SET, K, sx(3, 100), b"v" * 100000), req(GET, K), req(ADD, K, sx(), b"w" * 100000), req(SET, K, sx(4), b"x" * 100000, cas="1"), req(SET, K, sx(4), b"x" * 100000, cas="1"), req(SETQ, K, sx(4), b"y" * 100000), req(REPLACE, b"{k}n", sx(4), b"y" * 100000), req(APPEND, K, b"", b"z" * 100000), req(GET, K)]),
    ("keys of any bytes", [req(SET, b"{k} a\r\n\0b", sx(), b"v"), req(GETK, b"{k} a\r\n\0b"), req(GETK, b"{k} a")]),
    ("stat of an unknown group", [req(STAT, b"nosuch", opaque=3)]),
    ("stat reset", [req(STAT, b"reset", opaque=3)]),
    ("stat detail", [req(STAT, b"detail off", opaque=3), req(STAT, b"detail x", opaque=4)]),
    ("empty value", [req(SET, K, sx(), b""), req(GET, K), req(GETK, K)]),
]
