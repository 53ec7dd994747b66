//! The longest common subsequence of two values, by dynamic programming. Called by LCS.
//!
//! The table takes four bytes for each pair of positions, so its size is limited.

/// Most cells of the table: 64 Mi cells of 4 bytes are 256 MiB for the time of one command.
pub const CELLS_MAX: usize = 64 << 20;

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

/// Finds the longest common subsequence; `None` when the table would be too large.
pub fn find(a: &[u8], b: &[u8]) -> Option<Common> {
    let width = b.len() + 1;
    let cells = (a.len() + 1).checked_mul(width).filter(|n| *n <= CELLS_MAX)?;
    let mut table = vec![0u32; cells];
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            table[i * width + j] = if a[i - 1] == b[j - 1] {
                table[(i - 1) * width + j - 1] + 1
            } else {
                table[(i - 1) * width + j].max(table[i * width + j - 1])
            };
        }
    }
    let (mut i, mut j) = (a.len(), b.len());
    let mut out = Common { bytes: Vec::with_capacity(table[cells - 1] as usize), matches: vec![] };
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
        } else if table[(i - 1) * width + j] > table[i * width + j - 1] {
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
        assert_eq!(find(&vec![0; 9000], &vec![0; 9000]), None);
    }
}
