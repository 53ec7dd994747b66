//! What a value holds, as a function of key, run and version, and the check that it came back whole.
//!
//! Always true: the bytes of a value follow from `(key hash, run, version, length)` alone, so any answer
//! can be judged without having kept what was stored. Called by the wire (writing) and by the
//! connection (checking while the bytes arrive, without gathering them).
//!
//! ```text
//!  0        8        12        16      20                                 len
//!  ├────────┼─────────┼─────────┼───────┼────────────────────────────────────┤
//!  │key hash│ run     │ version │ len   │ pool[offset ..], offset = mix(head)│
//!  └────────┴─────────┴─────────┴───────┴────────────────────────────────────┘
//!  shorter than 20 bytes: the bytes of mix(key hash), repeated
//! ```

use crate::rng::{Rng, mix64};

/// Bytes of the head that makes a value self-describing; shorter values carry their key's mark alone.
pub const HEAD_LEN_BYTES: usize = 20;
/// The pool of random bytes that bodies are slices of. It stays in the first-level cache beside everything
/// else: with 256 KiB, comparing was the dearest step of a reply. Two versions of a key share their body in
/// one case of 16,384, and even then their heads differ.
const POOL_LEN_BYTES: usize = 16 << 10;
/// Longest piece that can be taken from the pool at once: the pool is repeated behind itself.
const PIECE_LEN_BYTES: usize = 64 << 10;

/// The pool of body bytes, shared by all threads.
#[derive(Debug)]
pub struct Pool {
    bytes: Vec<u8>,
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

/// Who wrote a value, read from its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The run that wrote it.
    pub run: u32,
    /// The version of the key within that run.
    pub version: u32,
}

/// What the check of a whole value found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The bytes are what some write of this key stored; short values have no stamp.
    Whole(Option<Stamp>),
    /// The value belongs to another key, or was never written by this tool.
    Wrong,
    /// The head belongs to the key, but bytes or length do not follow from it.
    Torn,
}

impl Pool {
    /// The pool; always the same bytes.
    #[must_use]
    pub fn new() -> Self {
        let mut rng = Rng::new(0x706f_6f6c);
        let mut bytes = Vec::with_capacity(POOL_LEN_BYTES + PIECE_LEN_BYTES);
        while bytes.len() < POOL_LEN_BYTES {
            bytes.extend_from_slice(&rng.word().to_le_bytes());
        }
        // Again and again behind the end, so that a piece never wraps.
        while bytes.len() < POOL_LEN_BYTES + PIECE_LEN_BYTES {
            bytes.extend_from_within(..POOL_LEN_BYTES);
        }
        Self { bytes }
    }

    /// The one pool of the process; it is never freed, so the kernel may send from it.
    #[must_use]
    pub fn shared() -> &'static Self {
        static POOL: std::sync::OnceLock<Pool> = std::sync::OnceLock::new();
        POOL.get_or_init(Self::new)
    }

    /// Appends the head of a value and gives the pieces of its body, in order, to be sent from where
    /// they are.
    pub fn write_head<'a>(
        &'a self,
        out: &mut Vec<u8>,
        key_hash: u64,
        stamp: Stamp,
        len: usize,
    ) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        debug_assert!(len >= HEAD_LEN_BYTES);
        let head = head(key_hash, stamp, len);
        out.extend_from_slice(&head);
        let (offset, body_len, mut at) = (offset_of(&head), len - HEAD_LEN_BYTES, 0);
        std::iter::from_fn(move || {
            (at < body_len).then(|| {
                let piece = self.body(offset, at, body_len - at);
                at += piece.len();
                piece
            })
        })
    }

    /// The body bytes from position `at` of a body whose first byte is at `offset`: at most a piece.
    #[inline]
    fn body(&self, offset: usize, at: usize, len: usize) -> &[u8] {
        let start = (offset + at) % POOL_LEN_BYTES;
        &self.bytes[start..start + len.min(PIECE_LEN_BYTES)]
    }

    /// Appends the value of `len` bytes of this key and stamp to `out`.
    pub fn write(&self, out: &mut Vec<u8>, key_hash: u64, stamp: Stamp, len: usize) {
        if len < HEAD_LEN_BYTES {
            let mark = mix64(key_hash).to_le_bytes();
            out.extend(mark.iter().cycle().take(len));
            return;
        }
        let pieces = self.write_head(out, key_hash, stamp, len);
        pieces.for_each(|piece| out.extend_from_slice(piece));
    }
}

fn head(key_hash: u64, stamp: Stamp, len: usize) -> [u8; HEAD_LEN_BYTES] {
    let mut head = [0; HEAD_LEN_BYTES];
    head[..8].copy_from_slice(&key_hash.to_le_bytes());
    head[8..12].copy_from_slice(&stamp.run.to_le_bytes());
    head[12..16].copy_from_slice(&stamp.version.to_le_bytes());
    head[16..].copy_from_slice(&(len as u32).to_le_bytes());
    head
}

fn offset_of(head: &[u8; HEAD_LEN_BYTES]) -> usize {
    let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let len = u64::from(u32::from_le_bytes(head[16..].try_into().expect("four bytes")));
    (mix64(mix64(word(0)) ^ mix64(word(8)).rotate_left(17) ^ len) % POOL_LEN_BYTES as u64) as usize
}

/// A check in progress: fed a value in any pieces, it keeps 20 bytes and a verdict.
#[derive(Debug, Clone)]
pub struct Check {
    key_hash: u64,
    len: usize,
    seen: usize,
    head: [u8; HEAD_LEN_BYTES],
    offset: usize,
    verdict: Option<Finding>,
}

impl Check {
    /// Starts the check of a value that announces `len` bytes, as the answer for this key.
    #[must_use]
    pub fn new(key_hash: u64, len: usize) -> Self {
        Self { key_hash, len, seen: 0, head: [0; HEAD_LEN_BYTES], offset: 0, verdict: None }
    }

    /// The verdict on a value that arrived in one piece.
    #[inline]
    #[must_use]
    pub fn whole(pool: &Pool, key_hash: u64, value: &[u8]) -> Finding {
        let Some((head, body)) = value.split_first_chunk::<HEAD_LEN_BYTES>() else {
            let mut check = Self::new(key_hash, value.len());
            check.feed(pool, value);
            return check.finish();
        };
        if head[..8] != key_hash.to_le_bytes() {
            return Finding::Wrong;
        }
        if head[16..] != (value.len() as u32).to_le_bytes() {
            return Finding::Torn;
        }
        let (offset, mut at) = (offset_of(head), 0);
        while at < body.len() {
            let expected = pool.body(offset, at, body.len() - at);
            if body[at..at + expected.len()] != *expected {
                return Finding::Torn;
            }
            at += expected.len();
        }
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        Finding::Whole(Some(Stamp { run: word(8), version: word(12) }))
    }

    /// Looks at the next bytes of the value.
    #[inline]
    pub fn feed(&mut self, pool: &Pool, mut bytes: &[u8]) {
        debug_assert!(self.seen + bytes.len() <= self.len);
        if self.verdict.is_some() {
            self.seen += bytes.len();
            return;
        }
        if self.len < HEAD_LEN_BYTES {
            let mark = mix64(self.key_hash).to_le_bytes();
            let whole = bytes.iter().enumerate().all(|(i, b)| *b == mark[(self.seen + i) % 8]);
            self.seen += bytes.len();
            if !whole {
                self.verdict = Some(Finding::Wrong);
            }
            return;
        }
        if self.seen < HEAD_LEN_BYTES {
            let take = bytes.len().min(HEAD_LEN_BYTES - self.seen);
            self.head[self.seen..self.seen + take].copy_from_slice(&bytes[..take]);
            self.seen += take;
            bytes = &bytes[take..];
            if self.seen < HEAD_LEN_BYTES {
                return;
            }
            self.judge_head();
        }
        while !bytes.is_empty() && self.verdict.is_none() {
            let expected = pool.body(self.offset, self.seen - HEAD_LEN_BYTES, bytes.len());
            let (now, later) = bytes.split_at(expected.len());
            if now != expected {
                self.verdict = Some(Finding::Torn);
            }
            self.seen += now.len();
            bytes = later;
        }
        self.seen += bytes.len();
    }

    fn judge_head(&mut self) {
        if self.head[..8] != self.key_hash.to_le_bytes() {
            self.verdict = Some(Finding::Wrong);
        } else if self.head[16..] != (self.len as u32).to_le_bytes() {
            self.verdict = Some(Finding::Torn);
        }
        self.offset = offset_of(&self.head);
    }

    /// The verdict once all bytes were fed.
    #[must_use]
    pub fn finish(&self) -> Finding {
        debug_assert_eq!(self.seen, self.len);
        let word =
            |at: usize| u32::from_le_bytes(self.head[at..at + 4].try_into().expect("four bytes"));
        self.verdict.unwrap_or_else(|| {
            let stamped = self.len >= HEAD_LEN_BYTES;
            Finding::Whole(stamped.then(|| Stamp { run: word(8), version: word(12) }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { run: 3, version: 9 };

    fn value(key: u64, stamp: Stamp, len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        Pool::new().write(&mut out, key, stamp, len);
        assert_eq!(out.len(), len);
        out
    }

    fn judge(key: u64, bytes: &[u8], split: usize) -> Finding {
        let pool = Pool::new();
        let mut check = Check::new(key, bytes.len());
        check.feed(&pool, &bytes[..split]);
        check.feed(&pool, &bytes[split..]);
        assert_eq!(Check::whole(&pool, key, bytes), check.finish());
        check.finish()
    }

    #[test]
    fn a_value_split_at_every_byte_is_whole() {
        for len in [0usize, 1, 7, 19, 20, 21, 64, 300] {
            let bytes = value(77, STAMP, len);
            for split in 0..=len {
                let stamp = (len >= HEAD_LEN_BYTES).then_some(STAMP);
                assert_eq!(judge(77, &bytes, split), Finding::Whole(stamp), "{len} at {split}");
            }
        }
        let bytes = value(77, STAMP, 3 << 20);
        assert_eq!(judge(77, &bytes, 1_000_000), Finding::Whole(Some(STAMP)));
    }

    #[test]
    fn another_keys_value_is_wrong_at_any_length() {
        for len in [1usize, 8, 20, 64] {
            assert_eq!(judge(78, &value(77, STAMP, len), 0), Finding::Wrong, "{len}");
        }
        assert_eq!(judge(78, &[b'x'; 64], 0), Finding::Wrong);
    }

    #[test]
    fn a_mixture_of_two_versions_is_torn() {
        let (old, new) = (
            value(5, Stamp { run: 1, version: 1 }, 4096),
            value(5, Stamp { run: 1, version: 2 }, 4096),
        );
        for cut in [21, 100, 2048, 4095] {
            let mixed: Vec<u8> = new[..cut].iter().chain(&old[cut..]).copied().collect();
            assert_eq!(judge(5, &mixed, 50), Finding::Torn, "cut at {cut}");
        }
    }

    #[test]
    fn a_cut_or_lengthened_value_is_torn() {
        let bytes = value(5, STAMP, 100);
        assert_eq!(judge(5, &bytes[..99], 10), Finding::Torn);
        let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        assert_eq!(judge(5, &longer, 10), Finding::Torn);
    }

    #[test]
    fn one_flipped_bit_anywhere_is_found() {
        let bytes = value(5, STAMP, 64);
        for at in 0..64 {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            assert!(!matches!(judge(5, &bad, 0), Finding::Whole(_)), "byte {at}");
        }
    }
}
