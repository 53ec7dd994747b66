//! Listing what is stored: `lru_crawler metadump`, `mgdump`, and `stats cachedump`.
//!
//! Must hold: a dump goes in slices, each bounded in items, and waits like any pipeline while the
//! client has too much left to read; other connections are served in between. Called by
//! [`crate::plugin`] for one slice at a time.

use std::io::Write;

use crucible_plugin_api::{Item, Out, Service, Status};

use crate::base64;
use crate::exptime::remaining_s;
use crate::line::Split;
use crate::marks::KEY_BINARY;
use crate::number::parse_u32;
use crate::reply_text::{failure, line};

/// Items a slice visits.
const SLICE_ITEMS: u32 = 512;
/// The most `stats cachedump` writes.
const CACHEDUMP_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How an item is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// All that is known of it.
    Meta,
    /// As the `mg` command that reads it.
    MetaGet,
}

/// A dump under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dump {
    /// How.
    pub form: Form,
    /// Where it goes on; 0 is the start.
    pub cursor: u64,
}

impl Dump {
    /// The dump that the words after `lru_crawler` ask for.
    ///
    /// # Errors
    /// The line to answer instead.
    pub fn parse(args: &[u8]) -> Result<Self, &'static str> {
        let form = match Split::<4>::new(args).get() {
            [b"metadump", b"all" | b"hash" | b"1"] => Form::Meta,
            [b"mgdump", b"all" | b"hash" | b"1"] => Form::MetaGet,
            [b"metadump" | b"mgdump", _] => return Err("BADCLASS invalid class id"),
            // Expired items are freed without a crawler that could be driven.
            [b"crawl", _] => return Err("CLIENT_ERROR lru crawler disabled"),
            _ => return Err("ERROR"),
        };
        Ok(Self { form, cursor: 0 })
    }

    /// Writes a slice; `true`: it was the last one.
    pub fn slice(&mut self, service: &Service, out: &mut Out<'_>) -> bool {
        let now_ms = service.ctx().now_ms();
        let form = self.form;
        let visited = service.scan(self.cursor, SLICE_ITEMS, &mut |key, item| {
            row(form, key, item, now_ms, out);
            true
        });
        match visited {
            Ok(0) => line(out, if form == Form::Meta { "END" } else { "EN" }),
            Ok(cursor) => {
                self.cursor = cursor;
                return false;
            }
            Err(status) => line(out, failure(status)),
        }
        true
    }
}

fn row(form: Form, key: &[u8], item: &Item<'_>, now_ms: u64, out: &mut Out<'_>) {
    match form {
        Form::Meta => {
            out.bytes(b"key=");
            encode_uri(key, |bytes| out.bytes(bytes));
            let exp = match item.expires_at_ms() {
                0 => -1,
                at => i64::try_from(at / 1000).unwrap_or(i64::MAX),
            };
            let fetch = if item.was_seen() { "yes" } else { "no" };
            let size = key.len() + item.len();
            // A backend that does not keep when an item was used lets `la` be now.
            let la = (now_ms / 1000).saturating_sub(u64::from(item.idle_s().unwrap_or(0)));
            let cas = item.cas();
            let _never_fails =
                writeln!(out, " exp={exp} la={la} cas={cas} fetch={fetch} cls=1 size={size}");
        }
        Form::MetaGet => {
            out.bytes(b"mg ");
            let plain = item.marks() & KEY_BINARY == 0 && key.iter().all(u8::is_ascii_graphic);
            if plain {
                out.bytes(key);
            } else {
                base64::encode(key, |four| out.bytes(four));
                out.bytes(b" b");
            }
            out.bytes(b"\r\n");
        }
    }
}

/// Percent-encodes everything but letters, digits and `-._~`, as memcached does.
pub fn encode_uri(bytes: &[u8], mut out: impl FnMut(&[u8])) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for b in bytes {
        if b.is_ascii_alphanumeric() || b"-._~".contains(b) {
            out(&[*b]);
        } else {
            out(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
}

/// `stats cachedump <class> <limit>`. There is one class: 1.
pub fn cachedump(args: &[&[u8]], service: &Service, out: &mut Out<'_>) {
    let [class, limit, ..] = args else { return line(out, "CLIENT_ERROR bad command line") };
    let (Some(class), Some(limit)) = (parse_u32(class), parse_u32(limit)) else {
        return line(out, "CLIENT_ERROR bad command line format");
    };
    if class >= 64 {
        return line(out, "CLIENT_ERROR Illegal slab id");
    }
    let now_ms = service.ctx().now_ms();
    let end = out.len() + CACHEDUMP_BYTES_MAX;
    let mut left = if limit == 0 { u32::MAX } else { limit };
    let mut cursor = 0;
    let mut status = Status::OK;
    while class == 1 && left > 0 && out.len() < end {
        let visited = service.scan(cursor, left.min(SLICE_ITEMS), &mut |key, item| {
            left -= 1;
            out.bytes(b"ITEM ");
            out.bytes(key);
            let exp = match remaining_s(item.expires_at_ms(), now_ms) {
                Some(_) => item.expires_at_ms() / 1000,
                None => 0,
            };
            let _never_fails = write!(out, " [{} b; {exp} s]\r\n", item.len());
            left > 0 && out.len() < end
        });
        match visited {
            Ok(0) => break,
            Ok(next) => cursor = next,
            Err(failed) => {
                status = failed;
                break;
            }
        }
    }
    line(out, if status == Status::OK { "END" } else { failure(status) });
}

#[cfg(test)]
mod tests {
    use super::{Dump, Form, encode_uri};

    #[test]
    fn the_words_of_lru_crawler() {
        assert_eq!(Dump::parse(b" metadump all"), Ok(Dump { form: Form::Meta, cursor: 0 }));
        assert_eq!(Dump::parse(b"mgdump hash"), Ok(Dump { form: Form::MetaGet, cursor: 0 }));
        assert_eq!(Dump::parse(b"metadump 7"), Err("BADCLASS invalid class id"));
        assert_eq!(Dump::parse(b"crawl all"), Err("CLIENT_ERROR lru crawler disabled"));
        assert_eq!(Dump::parse(b"enable"), Err("ERROR"));
        assert_eq!(Dump::parse(b""), Err("ERROR"));
    }

    #[test]
    fn keys_are_percent_encoded() {
        let mut s = Vec::new();
        encode_uri(b"a-b._~/%\x00\xff", |b| s.extend_from_slice(b));
        assert_eq!(s, b"a-b._~%2F%25%00%FF");
    }
}
