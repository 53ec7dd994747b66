//! Replies to bytes: every RESP2 and RESP3 shape, with RESP2 standing in for what it lacks.
//!
//! A [`Writer`] appends to any [`Sink`]; it keeps no state besides the protocol version. Lengths
//! that an aggregate announces are the caller's promise to follow. Called by `reply` and by
//! everything that pushes.

use crucible_plugin_api::{Out, Value};

/// Where reply bytes go.
pub trait Sink {
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]);

    /// Appends a stored value.
    fn put_value(&mut self, value: Value<'_>) {
        value.parts().for_each(|part| self.put(part));
    }

    /// Appends a stored value as a bulk string.
    fn put_bulk(&mut self, value: Value<'_>) {
        let mut buf = [0; HEADER_LEN_BYTES_MAX];
        let at = header(&mut buf, b'$', value.len() as u64, false);
        self.put(&buf[at..]);
        self.put_value(value);
        self.put(b"\r\n");
    }

    /// Appends bytes of at most [`SHORT_LEN_BYTES_MAX`] as a bulk string.
    fn put_short(&mut self, bytes: &[u8]) {
        let (head, len) = short_header(bytes.len());
        self.put(&head[..len]);
        self.put(bytes);
        self.put(b"\r\n");
    }
}

/// Longest value that is written with its header and end in one go, in bytes.
pub const SHORT_LEN_BYTES_MAX: usize = 4096;

impl Sink for Out<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.bytes(bytes);
    }

    #[inline]
    fn put_value(&mut self, value: Value<'_>) {
        self.value(value);
    }

    #[inline]
    fn put_short(&mut self, bytes: &[u8]) {
        let (head, len) = short_header(bytes.len());
        self.framed(head, len, bytes);
    }
}

/// The header of a bulk string of at most four digits' length, and how long it is.
#[inline]
fn short_header(n: usize) -> ([u8; 8], usize) {
    match HEADERS.get(n) {
        Some(head) => (*head, if n < 10 { 4 } else { 5 }),
        None => long_header(n),
    }
}

/// The headers of the shortest bulk strings: those of names and small values.
static HEADERS: [[u8; 8]; 100] = {
    let mut all = [[0; 8]; 100];
    let mut n = 0;
    while n < all.len() {
        all[n] = long_header(n).0;
        n += 1;
    }
    all
};

#[inline]
const fn long_header(n: usize) -> ([u8; 8], usize) {
    debug_assert!(n <= 9999);
    const fn digit(n: usize) -> u8 {
        b'0' + (n % 10) as u8
    }
    let [a, b, c, d] = [digit(n / 1000), digit(n / 100), digit(n / 10), digit(n)];
    if n < 10 {
        ([b'$', d, b'\r', b'\n', 0, 0, 0, 0], 4)
    } else if n < 100 {
        ([b'$', c, d, b'\r', b'\n', 0, 0, 0], 5)
    } else if n < 1000 {
        ([b'$', b, c, d, b'\r', b'\n', 0, 0], 6)
    } else {
        ([b'$', a, b, c, d, b'\r', b'\n', 0], 7)
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// The protocol version that a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Version {
    /// RESP2, what a connection begins with.
    #[default]
    Resp2,
    /// RESP3, after `HELLO 3`.
    Resp3,
}

/// Longest header: type byte, 20 digits, line end.
const HEADER_LEN_BYTES_MAX: usize = 24;

/// Writes `kind`, `n` and a line end into `buf`'s tail; returns where it begins.
#[inline]
fn header(buf: &mut [u8; HEADER_LEN_BYTES_MAX], kind: u8, n: u64, negative: bool) -> usize {
    let mut at = HEADER_LEN_BYTES_MAX - 2;
    buf[at] = b'\r';
    buf[at + 1] = b'\n';
    let mut n = n;
    loop {
        at -= 1;
        buf[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    if negative {
        at -= 1;
        buf[at] = b'-';
    }
    at -= 1;
    buf[at] = kind;
    at
}

/// Appends replies to a sink.
#[derive(Debug)]
pub struct Writer<'s, S: ?Sized> {
    sink: &'s mut S,
    version: Version,
}

impl<'s, S: Sink + ?Sized> Writer<'s, S> {
    /// A writer for one connection's protocol version.
    #[inline]
    pub fn new(sink: &'s mut S, version: Version) -> Self {
        Writer { sink, version }
    }

    /// The same writer for code that is compiled once for all sinks: everything but the hot path.
    pub fn erased(&mut self) -> Writer<'_, dyn Sink + '_>
    where
        S: Sized,
    {
        Writer { sink: self.sink, version: self.version }
    }

    /// Goes on in another version.
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// Whether the connection speaks RESP3.
    pub fn is_resp3(&self) -> bool {
        self.version == Version::Resp3
    }

    #[inline]
    fn number(&mut self, kind: u8, n: u64, negative: bool) {
        let mut buf = [0; HEADER_LEN_BYTES_MAX];
        let at = header(&mut buf, kind, n, negative);
        self.sink.put(&buf[at..]);
    }

    fn line(&mut self, kind: &str, text: &str) {
        self.sink.put(kind.as_bytes());
        self.sink.put(text.as_bytes());
        self.sink.put(b"\r\n");
    }

    /// Bytes that are a reply already.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.sink.put(bytes);
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.sink.put(b"+OK\r\n");
    }

    /// A simple string; it must hold no line end.
    pub fn simple(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']));
        self.line("+", text);
    }

    /// An error line: code and text. Line ends inside (bytes of a client's argument) become blanks.
    pub fn error(&mut self, text: &[u8]) {
        self.sink.put(b"-");
        if memchr::memchr2(b'\r', b'\n', text).is_some() {
            let clean: Vec<u8> =
                text.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }).collect();
            self.sink.put(&clean);
        } else {
            self.sink.put(text);
        }
        self.sink.put(b"\r\n");
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, n: i64) {
        // Most answers are 0 or 1.
        if let digit @ 0..10 = n {
            return self.sink.put(&[b':', b'0' + digit as u8, b'\r', b'\n']);
        }
        self.number(b':', n.unsigned_abs(), n < 0);
    }

    /// The header of a bulk string; the caller appends the bytes and [`Writer::end`].
    #[inline]
    pub fn bulk_header(&mut self, len_bytes: usize) {
        self.number(b'$', len_bytes as u64, false);
    }

    /// The line end behind a bulk's bytes.
    #[inline]
    pub fn end(&mut self) {
        self.sink.put(b"\r\n");
    }

    /// A bulk string.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.bulk_header(bytes.len());
        self.sink.put(bytes);
        self.end();
    }

    /// A bulk string of a stored value.
    #[inline]
    pub fn value(&mut self, value: Value<'_>) {
        self.sink.put_bulk(value);
    }

    /// A bulk string of at most [`SHORT_LEN_BYTES_MAX`].
    #[inline(always)]
    pub fn short(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= SHORT_LEN_BYTES_MAX);
        self.sink.put_short(bytes);
    }

    /// A bulk string of an integer's digits.
    pub fn bulk_int(&mut self, n: i64) {
        self.bulk(n.to_string().as_bytes());
    }

    /// The absent value.
    #[inline]
    pub fn null(&mut self) {
        self.sink.put(match self.version {
            Version::Resp2 => b"$-1\r\n",
            Version::Resp3 => b"_\r\n",
        });
    }

    /// The absent array.
    pub fn null_array(&mut self) {
        self.sink.put(match self.version {
            Version::Resp2 => b"*-1\r\n",
            Version::Resp3 => b"_\r\n",
        });
    }

    /// The header of an array of `n` elements.
    #[inline]
    pub fn array(&mut self, n: usize) {
        self.number(b'*', n as u64, false);
    }

    /// The header of a map of `n` pairs; RESP2 gets a flat array.
    pub fn map(&mut self, n: usize) {
        match self.version {
            Version::Resp2 => self.array(n * 2),
            Version::Resp3 => self.number(b'%', n as u64, false),
        }
    }

    /// The header of a set of `n` elements; RESP2 gets an array.
    pub fn set(&mut self, n: usize) {
        match self.version {
            Version::Resp2 => self.array(n),
            Version::Resp3 => self.number(b'~', n as u64, false),
        }
    }

    /// The header of a push message of `n` elements; RESP2 gets an array.
    pub fn push(&mut self, n: usize) {
        match self.version {
            Version::Resp2 => self.array(n),
            Version::Resp3 => self.number(b'>', n as u64, false),
        }
    }

    /// A floating point number; RESP2 gets a bulk string.
    pub fn double(&mut self, value: f64) {
        // Whole numbers of at most four digits, which are their own text.
        if self.version == Version::Resp2
            && value.abs() < 10_000.0
            && value.trunc() == value
            && !(value == 0.0 && value.is_sign_negative())
        {
            let mut buf = [0; HEADER_LEN_BYTES_MAX];
            let n = value as i64;
            // A header without its kind and its line end is a number.
            let at = header(&mut buf, b':', n.unsigned_abs(), n < 0) + 1;
            return self.short(&buf[at..HEADER_LEN_BYTES_MAX - 2]);
        }
        let text = crate::number::score_text(value);
        match self.version {
            Version::Resp2 => self.bulk(text.as_bytes()),
            Version::Resp3 => self.line(",", &text),
        }
    }

    /// A floating point number by its digits; RESP2 gets a bulk string.
    pub fn double_text(&mut self, digits: &str) {
        match self.version {
            Version::Resp2 => self.bulk(digits.as_bytes()),
            Version::Resp3 => self.line(",", digits),
        }
    }

    /// A truth value; RESP2 gets 0 or 1.
    pub fn bool(&mut self, value: bool) {
        match self.version {
            Version::Resp2 => self.int(i64::from(value)),
            Version::Resp3 => self.sink.put(if value { b"#t\r\n" } else { b"#f\r\n" }),
        }
    }

    /// Text for people, plain or markdown by its three-letter `format`; RESP2 gets a bulk string.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        debug_assert_eq!(format.len(), 3);
        match self.version {
            Version::Resp2 => self.bulk(text),
            Version::Resp3 => {
                self.number(b'=', text.len() as u64 + 4, false);
                self.sink.put(format.as_bytes());
                self.sink.put(b":");
                self.sink.put(text);
                self.end();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(version: Version, f: impl Fn(&mut Writer<'_, Vec<u8>>)) -> String {
        let mut out = Vec::new();
        f(&mut Writer::new(&mut out, version));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn short_bulks_have_their_lengths_right_at_each_number_of_digits() {
        for n in [0, 1, 9, 10, 42, 99, 100, 345, 999, 1000, 3210, SHORT_LEN_BYTES_MAX] {
            let value = vec![b'v'; n];
            let expected = format!("${n}\r\n{}\r\n", "v".repeat(n));
            assert_eq!(written(Version::Resp2, |w| w.short(&value)), expected);
        }
    }

    #[test]
    #[allow(clippy::type_complexity)]
    fn each_shape_has_its_bytes_in_both_versions() {
        let cases: &[(&dyn Fn(&mut Writer<'_, Vec<u8>>), &str, &str)] = &[
            (&|w| w.ok(), "+OK\r\n", "+OK\r\n"),
            (&|w| w.simple("PONG"), "+PONG\r\n", "+PONG\r\n"),
            (&|w| w.error(b"ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
            (&|w| w.int(0), ":0\r\n", ":0\r\n"),
            (&|w| w.int(-42), ":-42\r\n", ":-42\r\n"),
            (&|w| w.int(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
            (&|w| w.int(i64::MAX), ":9223372036854775807\r\n", ":9223372036854775807\r\n"),
            (&|w| w.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (&|w| w.bulk(b"0123456789"), "$10\r\n0123456789\r\n", "$10\r\n0123456789\r\n"),
            (&|w| w.bulk_int(-7), "$2\r\n-7\r\n", "$2\r\n-7\r\n"),
            (&|w| w.null(), "$-1\r\n", "_\r\n"),
            (&|w| w.null_array(), "*-1\r\n", "_\r\n"),
            (&|w| w.array(3), "*3\r\n", "*3\r\n"),
            (&|w| w.map(3), "*6\r\n", "%3\r\n"),
            (&|w| w.set(2), "*2\r\n", "~2\r\n"),
            (&|w| w.push(2), "*2\r\n", ">2\r\n"),
            (&|w| w.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (&|w| w.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
            (&|w| w.bool(true), ":1\r\n", "#t\r\n"),
            (&|w| w.bool(false), ":0\r\n", "#f\r\n"),
            (&|w| w.verbatim("txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
        ];
        for (write, resp2, resp3) in cases {
            assert_eq!(written(Version::Resp2, write), *resp2);
            assert_eq!(written(Version::Resp3, write), *resp3);
        }
    }
}
