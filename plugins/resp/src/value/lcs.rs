//! The longest common subsequence of two values. Called by LCS.
//!
//! Along a row of the table of lengths each cell is its left neighbour or one more, so a row is
//! a bit for each position of `b` that says where it rises, and the next row follows from it by
//! words: an addition carries each rise to the first match behind it (Hyyro, "Bit-parallel LCS-length
//! computation revisited", 2004). All rows are kept, because the way back through them is the answer.
//! What must always be true: of equal ways the one is taken that Redis takes.

/// Most pairs of positions; a bit each, so 16 MiB for the time of one command. Redis has the same
/// limit, with four bytes each.
pub const CELLS_MAX: usize = 128 << 20;

const WORD_BITS: usize = u64::BITS as usize;

/// A run that both values share; ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Range in the first value.
    pub a: (usize, usize),
    /// Range in the second value.
    pub b: (usize, usize),
}

impl Match {
    /// Length of the run in bytes.
    pub fn len_bytes(&self) -> usize {
        self.a.1 - self.a.0 + 1
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// The subsequence itself.
    pub bytes: Vec<u8>,
    /// The runs it consists of, last first.
    pub matches: Vec<Match>,
}

/// Where each row of the table rises: row after row, each of the same number of words.
struct Rises {
    words: Vec<u64>,
    row_words: usize,
}

impl Rises {
    fn new(a: &[u8], b: &[u8]) -> Self {
        let row_words = b.len().div_ceil(WORD_BITS).max(1);
        // Where each byte of `a` stands in `b`; places are given in the order of their first use.
        let mut place = [usize::MAX; 256];
        let mut matches: Vec<u64> = Vec::new();
        for &byte in a {
            if place[usize::from(byte)] == usize::MAX {
                place[usize::from(byte)] = matches.len();
                matches.resize(matches.len() + row_words, 0);
            }
        }
        for (at, &byte) in b.iter().enumerate() {
            let start = place[usize::from(byte)];
            if start != usize::MAX {
                matches[start + at / WORD_BITS] |= 1 << (at % WORD_BITS);
            }
        }
        let mut words = Vec::with_capacity(row_words * a.len());
        // A set bit is a position where the row is flat.
        let mut flat = vec![u64::MAX; row_words];
        for &byte in a {
            let mut carry = false;
            for (flat, &hits) in flat.iter_mut().zip(&matches[place[usize::from(byte)]..]) {
                let (sum, over) = flat.overflowing_add(*flat & hits);
                let (sum, over_again) = sum.overflowing_add(u64::from(carry));
                carry = over || over_again;
                *flat = sum | (*flat & !hits);
                words.push(!*flat);
            }
        }
        Self { words, row_words }
    }

    /// Whether row `i` is longer at `j` than before it, both from 0.
    fn at(&self, i: usize, j: usize) -> bool {
        self.words[i * self.row_words + j / WORD_BITS] >> (j % WORD_BITS) & 1 == 1
    }
}

/// Finds the longest common subsequence; `None` when the table would be too large.
pub fn find(a: &[u8], b: &[u8]) -> Option<Common> {
    (a.len() + 1).checked_mul(b.len() + 1).filter(|n| *n <= CELLS_MAX)?;
    let rises = Rises::new(a, b);
    let (mut i, mut j) = (a.len(), b.len());
    let mut out = Common { bytes: Vec::with_capacity(i.min(j)), matches: vec![] };
    let mut run: Option<Match> = None;
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            out.bytes.push(a[i - 1]);
            (i, j) = (i - 1, j - 1);
            run = match run {
                Some(r) if r.a.0 == i + 1 && r.b.0 == j + 1 => {
                    Some(Match { a: (i, r.a.1), b: (j, r.b.1) })
                }
                other => {
                    out.matches.extend(other);
                    Some(Match { a: (i, i), b: (j, j) })
                }
            };
        } else if rises.at(i - 1, j - 1) {
            // The row above is as long here, and this one is shorter one step to the left.
            i -= 1;
        } else {
            j -= 1;
        }
    }
    out.matches.extend(run);
    out.bytes.reverse();
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_known_example_has_its_known_runs() {
        let found = find(b"ohmytext", b"mynewtext").unwrap();
        assert_eq!(found.bytes, b"mytext");
        assert_eq!(found.matches, [Match { a: (4, 7), b: (5, 8) }, Match { a: (2, 3), b: (0, 1) }]);
    }

    #[test]
    fn nothing_in_common_is_empty_and_huge_inputs_are_refused() {
        assert_eq!(find(b"", b"abc").unwrap().bytes, b"");
        assert_eq!(find(b"abc", b"xyz").unwrap().matches, []);
        assert_eq!(find(&vec![0; 12_000], &vec![0; 12_000]), None);
    }

    /// The plain table of lengths, and the way back through it.
    fn by_table(a: &[u8], b: &[u8]) -> Vec<u8> {
        let width = b.len() + 1;
        let mut table = vec![0u32; (a.len() + 1) * width];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                table[i * width + j] = if a[i - 1] == b[j - 1] {
                    table[(i - 1) * width + j - 1] + 1
                } else {
                    table[(i - 1) * width + j].max(table[i * width + j - 1])
                };
            }
        }
        let (mut i, mut j, mut bytes) = (a.len(), b.len(), Vec::new());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                bytes.push(a[i - 1]);
                (i, j) = (i - 1, j - 1);
            } else if table[(i - 1) * width + j] > table[i * width + j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        bytes.reverse();
        bytes
    }

    proptest! {
        #[test]
        fn words_find_what_the_table_finds(
            a in proptest::collection::vec(0u8..4, 0..300),
            b in proptest::collection::vec(0u8..5, 0..300),
        ) {
            prop_assert_eq!(find(&a, &b).unwrap().bytes, by_table(&a, &b));
        }
    }
}
