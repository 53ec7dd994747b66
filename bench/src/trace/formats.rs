//! The formats of trace files.
//!
//! Always true: lengths are held to what the protocols can carry, times never run backwards. Called by
//! [`super::Traces`].

use std::io::{BufRead, Read};

use super::{Names, TraceError, TraceRequest};
use crate::config::plan::VALUE_LEN_BYTES_MAX;
use crate::workload::mix::Verb;

/// Longest line of a text trace.
const LINE_LEN_BYTES_MAX: usize = 64 << 10;
/// Most objects of a `kt` file: its tables are held in memory, 12 bytes each.
const KT_OBJECTS_MAX: u32 = 1 << 28;

/// A line's fields, before its key has a number.
pub(super) struct Fields<'a> {
    at_ns: u64,
    key: &'a [u8],
    verb: Verb,
    key_len: u32,
    value_len: u32,
    ttl_s: u32,
}

type Parse = for<'a> fn(&[&'a [u8]]) -> Result<Fields<'a>, &'static str>;

/// A trace of comma-separated lines.
pub(super) struct Lines<R> {
    source: R,
    parse: Parse,
    line: u64,
    text: Vec<u8>,
    names: Names,
    first_ns: Option<u64>,
    last_ns: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(source: R, parse: Parse) -> Self {
        Self {
            source,
            parse,
            line: 0,
            text: Vec::new(),
            names: Names::default(),
            first_ns: None,
            last_ns: 0,
        }
    }

    fn read(&mut self) -> Result<Option<TraceRequest>, TraceError> {
        loop {
            self.text.clear();
            self.line += 1;
            let read = (&mut self.source)
                .take(LINE_LEN_BYTES_MAX as u64)
                .read_until(b'\n', &mut self.text)?;
            if read == 0 {
                return Ok(None);
            }
            let bad = |why| TraceError::Line {
                line: self.line,
                why,
                text: crate::wire::excerpt(&self.text),
            };
            if read == LINE_LEN_BYTES_MAX {
                return Err(bad("too long"));
            }
            let text = self.text.trim_ascii();
            let heading = self.line == 1 && text.first().is_some_and(u8::is_ascii_alphabetic);
            if text.is_empty() || text[0] == b'#' || heading {
                continue;
            }
            let fields: Vec<&[u8]> = text.split(|b| *b == b',').map(<[u8]>::trim_ascii).collect();
            let fields = (self.parse)(&fields).map_err(bad)?;
            let first = *self.first_ns.get_or_insert(fields.at_ns);
            self.last_ns = self.last_ns.max(fields.at_ns.saturating_sub(first));
            return Ok(Some(TraceRequest {
                at_ns: self.last_ns,
                id: self.names.id(fields.key),
                verb: fields.verb,
                key_len: fields.key_len,
                value_len: fields.value_len,
                ttl_s: fields.ttl_s,
            }));
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<TraceRequest, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

fn text(field: &[u8]) -> &str {
    std::str::from_utf8(field).unwrap_or("")
}

fn value_len(n: u64) -> Result<u32, &'static str> {
    if n > VALUE_LEN_BYTES_MAX { Err("the size is above 512 MiB") } else { Ok(n as u32) }
}

fn verb(word: &[u8]) -> Result<Verb, &'static str> {
    Ok(match text(word).to_ascii_lowercase().as_str() {
        "get" | "gets" | "read" | "" => Verb::Get,
        // Conditions of the recorded store depended on a state that the replay does not have.
        "set" | "add" | "replace" | "cas" | "append" | "prepend" | "write" => Verb::Set,
        "delete" | "del" => Verb::Delete,
        "incr" | "decr" => Verb::Incr,
        "touch" => Verb::Touch,
        _ => return Err("unknown operation"),
    })
}

/// `time_s,key,size[,op[,ttl_s]]`
pub(super) fn csv<'a>(fields: &[&'a [u8]]) -> Result<Fields<'a>, &'static str> {
    let [time, key, size, rest @ ..] = fields else {
        return Err("fewer than three fields (time,key,size)");
    };
    let time: f64 = text(time).parse().map_err(|_| "the time is no number of seconds")?;
    if !(0.0..1e10).contains(&time) {
        return Err("the time is out of range");
    }
    if key.is_empty() {
        return Err("the key is empty");
    }
    let ttl_s = match rest.get(1) {
        None => 0,
        Some(ttl) => text(ttl).parse().map_err(|_| "the TTL is no number of seconds")?,
    };
    Ok(Fields {
        at_ns: (time * 1e9) as u64,
        key,
        verb: verb(rest.first().copied().unwrap_or_default())?,
        key_len: 0,
        value_len: value_len(text(size).parse().map_err(|_| "the size is no number of bytes")?)?,
        ttl_s,
    })
}

/// `time_s,key,key size,value size,client,operation,ttl_s`
pub(super) fn twitter<'a>(fields: &[&'a [u8]]) -> Result<Fields<'a>, &'static str> {
    let [time, key, key_size, size, _client, operation, ttl] = fields else {
        return Err("not the seven fields of a cache-trace");
    };
    let time: u64 = text(time).parse().map_err(|_| "the time is no number of seconds")?;
    Ok(Fields {
        at_ns: time.checked_mul(1_000_000_000).ok_or("the time is out of range")?,
        key,
        verb: verb(operation)?,
        key_len: text(key_size).parse().map_err(|_| "the key size is no number of bytes")?,
        value_len: value_len(
            text(size).parse().map_err(|_| "the value size is no number of bytes")?,
        )?,
        ttl_s: text(ttl).parse().map_err(|_| "the TTL is no number of seconds")?,
    })
}

/// Records of 24 bytes: u32 time_s, u64 object, u32 size, i64 next access; little endian.
pub(super) struct OracleGeneral<R> {
    source: R,
    record: u64,
    first_s: Option<u32>,
    last_ns: u64,
}

impl<R: Read> OracleGeneral<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, record: 0, first_s: None, last_ns: 0 }
    }

    fn read(&mut self) -> Result<Option<TraceRequest>, TraceError> {
        let mut bytes = [0; 24];
        if !read_whole(&mut self.source, &mut bytes, self.record)? {
            return Ok(None);
        }
        self.record += 1;
        let u32_at =
            |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let time_s = u32_at(0);
        let first = *self.first_s.get_or_insert(time_s);
        self.last_ns = self.last_ns.max(u64::from(time_s.saturating_sub(first)) * 1_000_000_000);
        let value_len = value_len(u64::from(u32_at(12)))
            .map_err(|why| TraceError::Record { record: self.record - 1, why })?;
        Ok(Some(TraceRequest {
            at_ns: self.last_ns,
            id: u64::from_le_bytes(bytes[4..12].try_into().expect("eight bytes")),
            verb: Verb::Get,
            key_len: 0,
            value_len,
            ttl_s: 0,
        }))
    }
}

impl<R: Read> Iterator for OracleGeneral<R> {
    type Item = Result<TraceRequest, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// `KTR1`, u32 requests, u32 objects, u32 size[objects], u32 ttl_s[objects], u32 object[requests].
pub(super) struct Kt<R> {
    source: R,
    sizes: Vec<u32>,
    ttls_s: Vec<u32>,
    requests: u32,
    record: u64,
}

impl<R: Read> Kt<R> {
    pub(super) fn new(mut source: R) -> Result<Self, TraceError> {
        let bad = |why| TraceError::Record { record: 0, why };
        let mut magic = [0; 4];
        if !read_whole(&mut source, &mut magic, 0)? || &magic != b"KTR1" {
            return Err(bad("does not begin with KTR1"));
        }
        let mut word = || -> Result<u32, TraceError> {
            let mut bytes = [0; 4];
            if read_whole(&mut source, &mut bytes, 0)? {
                Ok(u32::from_le_bytes(bytes))
            } else {
                Err(bad("the head is cut"))
            }
        };
        let (requests, objects) = (word()?, word()?);
        if objects > KT_OBJECTS_MAX {
            return Err(bad("more objects than the limit of 2^28"));
        }
        // Grown as they are read: a head that lies costs nothing.
        let mut table = || (0..objects).map(|_| word()).collect::<Result<Vec<u32>, _>>();
        let (sizes, ttls_s) = (table()?, table()?);
        if sizes.iter().any(|n| u64::from(*n) > VALUE_LEN_BYTES_MAX) {
            return Err(bad("a size is above 512 MiB"));
        }
        Ok(Self { source, sizes, ttls_s, requests, record: 0 })
    }

    fn read(&mut self) -> Result<Option<TraceRequest>, TraceError> {
        if self.record == u64::from(self.requests) {
            return Ok(None);
        }
        let bad = |record, why| TraceError::Record { record, why };
        let mut bytes = [0; 4];
        if !read_whole(&mut self.source, &mut bytes, self.record)? {
            return Err(bad(self.record, "the file ends before its requests do"));
        }
        let object = u32::from_le_bytes(bytes) as usize;
        let (Some(value_len), Some(ttl_s)) = (self.sizes.get(object), self.ttls_s.get(object))
        else {
            return Err(bad(self.record, "an object that the head does not have"));
        };
        self.record += 1;
        Ok(Some(TraceRequest {
            // The format has no times: one request a microsecond keeps them in order.
            at_ns: (self.record - 1) * 1000,
            id: object as u64,
            verb: Verb::Get,
            key_len: 0,
            value_len: *value_len,
            ttl_s: *ttl_s,
        }))
    }
}

impl<R: Read> Iterator for Kt<R> {
    type Item = Result<TraceRequest, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Fills `bytes`; false at a clean end, an error at an end inside.
fn read_whole(source: &mut impl Read, bytes: &mut [u8], record: u64) -> Result<bool, TraceError> {
    let mut filled = 0;
    while filled < bytes.len() {
        match source.read(&mut bytes[filled..])? {
            0 if filled == 0 => return Ok(false),
            0 => return Err(TraceError::Record { record, why: "cut in the middle" }),
            n => filled += n,
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, parse: Parse) -> Vec<Result<TraceRequest, String>> {
        Lines::new(text.as_bytes(), parse).map(|r| r.map_err(|e| e.to_string())).collect()
    }

    #[test]
    fn csv_lines_are_requests_in_order_with_keys_numbered_by_appearance() {
        let read =
            lines("time,key,size\n10.5,a,100\n11,b,5,set,60\n\n# note\n11.25,a,100,GET\n", csv);
        let read: Vec<_> = read.into_iter().map(Result::unwrap).collect();
        let brief: Vec<_> =
            read.iter().map(|r| (r.at_ns, r.id, r.verb, r.value_len, r.ttl_s)).collect();
        assert_eq!(
            brief,
            [
                (0, 0, Verb::Get, 100, 0),
                (500_000_000, 1, Verb::Set, 5, 60),
                (750_000_000, 0, Verb::Get, 100, 0)
            ]
        );
    }

    #[test]
    fn twitter_lines_are_read_with_key_sizes_and_ttls() {
        let read = lines("0,kAbc,17,213,5,get,0\n3,kAbc,17,213,5,add,3600\n", twitter);
        let second = read[1].as_ref().unwrap();
        assert_eq!(
            (second.at_ns, second.verb, second.key_len, second.value_len, second.ttl_s),
            (3_000_000_000, Verb::Set, 17, 213, 3600)
        );
    }

    #[test]
    fn a_bad_line_ends_the_reading_with_its_place() {
        for (text, parse, name) in [
            ("0,a,1\n0,a\n", csv as Parse, "line 2"),
            ("x,a,1\n1,a,x\n", csv, "line 2"),
            ("1,,5\n", csv, "line 1"),
            ("1,a,5,frob\n", csv, "operation"),
            ("1,a,999999999999\n", csv, "512 MiB"),
            ("0,k,1,1,1,get\n", twitter, "seven"),
        ] {
            let error = lines(text, parse).into_iter().find_map(Result::err).unwrap();
            assert!(error.contains(name), "{text}: {error}");
        }
    }

    #[test]
    fn oracle_general_records_are_read_and_a_cut_one_is_named() {
        let mut bytes = Vec::new();
        for (time, object, size) in [(100u32, 7u64, 50u32), (102, 9, 60)] {
            bytes.extend(time.to_le_bytes());
            bytes.extend(object.to_le_bytes());
            bytes.extend(size.to_le_bytes());
            bytes.extend((-1i64).to_le_bytes());
        }
        let read: Vec<_> = OracleGeneral::new(&bytes[..]).map(Result::unwrap).collect();
        assert_eq!((read[1].at_ns, read[1].id, read[1].value_len), (2_000_000_000, 9, 60));
        let error = OracleGeneral::new(&bytes[..30]).find_map(Result::err).unwrap().to_string();
        assert!(error.contains("record 1"), "{error}");
    }

    #[test]
    fn kt_files_are_read_and_a_lying_head_is_named() {
        let words = |list: &[u32]| list.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        let file = [b"KTR1".to_vec(), words(&[3, 2, 10, 20, 0, 60, 1, 0, 1])].concat();
        let read: Vec<_> = Kt::new(&file[..]).unwrap().map(Result::unwrap).collect();
        let brief: Vec<_> = read.iter().map(|r| (r.id, r.value_len, r.ttl_s)).collect();
        assert_eq!(brief, [(1, 20, 60), (0, 10, 0), (1, 20, 60)]);
        let cut =
            Kt::new(&file[..file.len() - 4]).unwrap().find_map(Result::err).unwrap().to_string();
        assert!(cut.contains("record 2"), "{cut}");
        let stray = [b"KTR1".to_vec(), words(&[1, 1, 10, 0, 5])].concat();
        assert!(Kt::new(&stray[..]).unwrap().next().unwrap().is_err());
        assert!(Kt::new(&b"KTR2"[..]).is_err());
        assert!(Kt::new(&[b"KTR1".to_vec(), words(&[1, u32::MAX])].concat()[..]).is_err());
    }
}
