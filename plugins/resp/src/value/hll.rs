//! HyperLogLogs as Redis keeps them in strings, byte for byte: so that values can be moved between
//! servers with GET and SET, DUMP and RESTORE.
//!
//! ```text
//!  HYLL | encoding u8 | 0 0 0 | cached count u64 LE, top bit: stale | registers
//!  dense:   16384 registers of six bits, lowest bits first
//!  sparse:  runs: 00llllll zeros 1..64 | 01llllll llllllll zeros 1..16384 | 1vvvvvll value, 1..4
//! ```
//! What must always be true: a sparse value's runs add up to 16384 registers, or it is refused as
//! corrupted before anything of it is used. Called by the commands under `exec::hyperloglog`, some of
//! them under the store's short lock.

/// Registers.
const REGISTERS: usize = 1 << 14;
/// Bits of a hash that a register counts zeros in.
const ZEROS_MAX: usize = 50;
const HEADER_LEN: usize = 16;
const DENSE_LEN: usize = HEADER_LEN + REGISTERS * 6 / 8;
/// Longest sparse value, header included; Redis's `hll-sparse-max-bytes`.
const SPARSE_LEN_MAX: usize = 3000;
/// Highest value of a register in a sparse value.
const SPARSE_VALUE_MAX: u8 = 32;
/// Longest runs of a byte: of zeros, of another value.
const ZEROS_LEN_MAX: usize = 64;
const VALUE_LEN_MAX: usize = 4;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;

/// Why a string is no HyperLogLog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// It does not begin like one.
    #[error("WRONGTYPE Key is not a valid HyperLogLog string value.")]
    NotOne,
    /// Its registers are not what they must be.
    #[error("INVALIDOBJ Corrupted HLL object detected")]
    Corrupted,
}

/// What an element does: the register, and the least it must hold.
pub type Mark = (u16, u8);

/// The mark of an element.
#[must_use]
pub fn mark(element: &[u8]) -> Mark {
    let hash = murmur(element);
    let zeros = (hash >> 14 | 1 << ZEROS_MAX).trailing_zeros();
    ((hash as usize & (REGISTERS - 1)) as u16, zeros as u8 + 1)
}

/// MurmurHash64A with Redis's seed.
fn murmur(bytes: &[u8]) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mut hash = 0xadc8_3b19 ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        let mut k = u64::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 47;
        hash = (hash ^ k.wrapping_mul(M)).wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 47).wrapping_mul(M);
    hash ^ hash >> 47
}

/// One run of a sparse value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    value: u8,
    len: usize,
    /// Bytes it takes.
    bytes: usize,
}

fn run_at(runs: &[u8], at: usize) -> Result<Run, Bad> {
    let first = runs[at];
    Ok(match first {
        0x80.. => Run { value: (first >> 2 & 0x1f) + 1, len: usize::from(first & 3) + 1, bytes: 1 },
        0x40.. => {
            let low = *runs.get(at + 1).ok_or(Bad::Corrupted)?;
            Run { value: 0, len: (usize::from(first & 0x3f) << 8 | usize::from(low)) + 1, bytes: 2 }
        }
        _ => Run { value: 0, len: usize::from(first) + 1, bytes: 1 },
    })
}

fn push_zeros(out: &mut Vec<u8>, len: usize) {
    if len > ZEROS_LEN_MAX {
        out.extend_from_slice(&[0x40 | ((len - 1) >> 8) as u8, (len - 1) as u8]);
    } else if len > 0 {
        out.push((len - 1) as u8);
    }
}

fn value_run(value: u8, len: usize) -> u8 {
    0x80 | (value - 1) << 2 | (len - 1) as u8
}

fn dense_get(registers: &[u8], at: usize) -> u8 {
    let (byte, shift) = (at * 6 / 8, at * 6 % 8);
    let high = registers.get(byte + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([registers[byte], high]) >> shift) as u8 & 0x3f
}

fn dense_set(registers: &mut [u8], at: usize, value: u8) {
    let (byte, shift) = (at * 6 / 8, at * 6 % 8);
    let high = registers.get(byte + 1).copied().unwrap_or(0);
    let both = u16::from_le_bytes([registers[byte], high]);
    let [low, high] = (both & !(0x3f << shift) | u16::from(value) << shift).to_le_bytes();
    registers[byte] = low;
    if let Some(next) = registers.get_mut(byte + 1) {
        *next = high;
    }
}

/// A HyperLogLog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hll {
    bytes: Vec<u8>,
}

impl Default for Hll {
    /// An empty one.
    fn default() -> Self {
        let mut bytes = b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        push_zeros(&mut bytes, REGISTERS);
        Self { bytes }
    }
}

impl Hll {
    /// Reads a string; its registers are looked at when they are used.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, Bad> {
        let is_one = bytes.len() >= HEADER_LEN
            && bytes.starts_with(b"HYLL")
            && match bytes[4] {
                DENSE => bytes.len() == DENSE_LEN,
                SPARSE => true,
                _ => false,
            };
        if is_one { Ok(Self { bytes: bytes.to_vec() }) } else { Err(Bad::NotOne) }
    }

    /// The string.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn is_dense(&self) -> bool {
        self.bytes[4] == DENSE
    }

    /// Says that the cached count is stale.
    pub fn invalidate(&mut self) {
        self.bytes[15] |= 0x80;
    }

    /// The cached count, unless it is stale.
    #[must_use]
    pub fn cached(&self) -> Option<u64> {
        let count = self.bytes[8..16].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        count.filter(|count| count >> 63 == 0)
    }

    /// Counts anew, and caches it.
    ///
    /// # Errors
    /// When the registers are no such.
    pub fn count(&mut self) -> Result<u64, Bad> {
        let count = estimate(&self.registers()?);
        self.bytes[8..16].copy_from_slice(&count.to_le_bytes());
        Ok(count)
    }

    /// Adds a mark; whether it changed anything.
    ///
    /// # Errors
    /// When the registers are no such.
    pub fn add(&mut self, (at, value): Mark) -> Result<bool, Bad> {
        let at = usize::from(at);
        if !self.is_dense() {
            match self.add_sparse(at, value)? {
                Some(changed) => {
                    if changed {
                        self.invalidate();
                    }
                    return Ok(changed);
                }
                None => self.make_dense()?,
            }
        }
        let registers = &mut self.bytes[HEADER_LEN..];
        let changed = dense_get(registers, at) < value;
        if changed {
            dense_set(registers, at, value);
        }
        Ok(changed)
    }

    /// The same of a sparse value; `None` when it has to become dense.
    fn add_sparse(&mut self, at: usize, value: u8) -> Result<Option<bool>, Bad> {
        if value > SPARSE_VALUE_MAX {
            return Ok(None);
        }
        let runs = &self.bytes[HEADER_LEN..];
        // The run that holds the register: where it is, where the one before it is, and the first
        // of its registers.
        let (mut here, mut before, mut first) = (0, None, 0);
        let run = loop {
            if here >= runs.len() {
                return Err(Bad::Corrupted);
            }
            let run = run_at(runs, here)?;
            if at < first + run.len {
                break run;
            }
            before = Some(here);
            here += run.bytes;
            first += run.len;
        };
        if run.value >= value {
            return Ok(Some(false));
        }
        let here_bytes = HEADER_LEN + here;
        if run.len == 1 && run.bytes == 1 {
            self.bytes[here_bytes] = value_run(value, 1);
        } else {
            let (head, tail) = (at - first, first + run.len - 1 - at);
            let mut new = Vec::with_capacity(5);
            let rest = |new: &mut Vec<u8>, len| match run.value {
                0 => push_zeros(new, len),
                _ if len > 0 => new.push(value_run(run.value, len)),
                _ => {}
            };
            rest(&mut new, head);
            new.push(value_run(value, 1));
            rest(&mut new, tail);
            if new.len() > run.bytes && self.bytes.len() + new.len() - run.bytes > SPARSE_LEN_MAX {
                return Ok(None);
            }
            self.bytes.splice(here_bytes..here_bytes + run.bytes, new);
        }
        self.join(HEADER_LEN + before.unwrap_or(0));
        Ok(Some(true))
    }

    /// Joins equal neighbours among the five runs from a place on.
    fn join(&mut self, mut at: usize) {
        for _ in 0..5 {
            let Some(&run) = self.bytes.get(at) else { return };
            if run & 0x80 == 0 {
                at += if run & 0x40 == 0 { 1 } else { 2 };
                continue;
            }
            let len = |run: u8| usize::from(run & 3) + 1;
            match self.bytes.get(at + 1) {
                Some(&next)
                    if next & 0xfc == run & 0xfc && len(run) + len(next) <= VALUE_LEN_MAX =>
                {
                    self.bytes[at + 1] = run & 0xfc | (len(run) + len(next) - 1) as u8;
                    self.bytes.remove(at);
                }
                _ => at += 1,
            }
        }
    }

    /// The value of each register.
    fn registers(&self) -> Result<Box<[u8]>, Bad> {
        let mut registers = vec![0; REGISTERS].into_boxed_slice();
        let from = &self.bytes[HEADER_LEN..];
        if self.is_dense() {
            for (at, register) in registers.iter_mut().enumerate() {
                *register = dense_get(from, at);
            }
            return Ok(registers);
        }
        let (mut at, mut first) = (0, 0);
        while at < from.len() {
            let run = run_at(from, at)?;
            registers.get_mut(first..first + run.len).ok_or(Bad::Corrupted)?.fill(run.value);
            (at, first) = (at + run.bytes, first + run.len);
        }
        if first == REGISTERS { Ok(registers) } else { Err(Bad::Corrupted) }
    }

    fn make_dense(&mut self) -> Result<(), Bad> {
        if self.is_dense() {
            return Ok(());
        }
        let registers = self.registers()?;
        self.bytes.truncate(HEADER_LEN);
        self.bytes[4] = DENSE;
        self.bytes.resize(DENSE_LEN, 0);
        for (at, value) in registers.iter().enumerate().filter(|(_, value)| **value > 0) {
            dense_set(&mut self.bytes[HEADER_LEN..], at, *value);
        }
        Ok(())
    }
}

/// Several HyperLogLogs as one.
#[derive(Debug)]
pub struct Union {
    registers: Box<[u8]>,
    any_is_dense: bool,
}

impl Union {
    /// Of these.
    ///
    /// # Errors
    /// When the registers of one are no such.
    pub fn of<'h>(all: impl Iterator<Item = &'h Hll>) -> Result<Self, Bad> {
        let mut registers = vec![0; REGISTERS].into_boxed_slice();
        let mut any_is_dense = false;
        for hll in all {
            any_is_dense |= hll.is_dense();
            for (most, value) in registers.iter_mut().zip(hll.registers()?) {
                *most = value.max(*most);
            }
        }
        Ok(Self { registers, any_is_dense })
    }

    /// How many elements it saw, about.
    #[must_use]
    pub fn count(&self) -> u64 {
        estimate(&self.registers)
    }

    /// Adds all of it to one of those that it is of.
    ///
    /// # Errors
    /// When its registers are no such.
    pub fn add_to(&self, target: &mut Hll) -> Result<(), Bad> {
        if self.any_is_dense {
            target.make_dense()?;
        }
        for (at, value) in self.registers.iter().enumerate().filter(|(_, value)| **value > 0) {
            target.add((at as u16, *value))?;
        }
        target.invalidate();
        Ok(())
    }
}

/// How many elements left these registers, about: Ertl's improved estimator.
fn estimate(registers: &[u8]) -> u64 {
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let mut of_value = [0u32; 64];
    registers.iter().for_each(|value| of_value[usize::from(*value)] += 1);
    let m = REGISTERS as f64;
    let mut z = m * tau((m - f64::from(of_value[ZEROS_MAX + 1])) / m);
    for count in of_value[1..=ZEROS_MAX].iter().rev() {
        z = (z + f64::from(*count)) * 0.5;
    }
    z += m * sigma(f64::from(of_value[0]) / m);
    (ALPHA * m * m / z).round() as u64
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn registers_hold_the_most_that_was_added_in_both_forms() {
        let mut seed = 7u64;
        let (mut hll, mut model) = (Hll::default(), HashMap::new());
        let mut was_sparse = 0;
        for step in 0..6000 {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            // A few neighbours, so that runs split and join.
            let at = (seed >> 40) as u16 % if step % 3 == 0 { 16384 } else { 40 };
            let value = (seed >> 33) as u8 % 4 + 1;
            let before = model.get(&at).copied().unwrap_or(0);
            assert_eq!(hll.add((at, value)), Ok(value > before));
            model.insert(at, value.max(before));
            was_sparse += u32::from(!hll.is_dense());
            if step % 500 == 0 {
                let registers = hll.registers().unwrap();
                for (at, value) in registers.iter().enumerate() {
                    assert_eq!(*value, model.get(&(at as u16)).copied().unwrap_or(0));
                }
            }
        }
        assert!(was_sparse > 500 && hll.is_dense());
        assert_eq!(hll.bytes.len(), DENSE_LEN);
        assert_eq!(Hll::read(&hll.bytes), Ok(hll.clone()));
    }

    #[test]
    fn counts_are_near_the_truth() {
        let mut hll = Hll::default();
        assert_eq!(hll.count(), Ok(0));
        for n in 1..=100_000u64 {
            hll.add(mark(format!("element {n}").as_bytes())).unwrap();
            if [1, 2, 10, 100, 1000, 10_000, 100_000].contains(&n) {
                let count = hll.count().unwrap();
                assert!(count.abs_diff(n) * 40 <= n, "{count} for {n}");
                assert_eq!(hll.cached(), Some(count));
            }
        }
    }

    #[test]
    fn a_string_that_is_none_is_refused_before_it_is_used() {
        let good = Hll::default().into_bytes();
        assert_eq!(Hll::read(b"HYL"), Err(Bad::NotOne));
        assert_eq!(Hll::read(&[b"HYLL\x02", &good[5..]].concat()), Err(Bad::NotOne));
        assert_eq!(Hll::read(&[b"HYLL\x00", &good[5..]].concat()), Err(Bad::NotOne));
        for runs in [&b"\x7f"[..], b"\x7f\xfe", b"\x7f\xff\x00", b"", b"\x00\x7f\xff"] {
            let hll = Hll::read(&[&good[..HEADER_LEN], runs].concat()).unwrap();
            assert_eq!(hll.clone().count(), Err(Bad::Corrupted), "{runs:?}");
            assert!(Union::of([&hll].into_iter()).is_err());
            let mut changed = hll.clone();
            let outcome = (0..REGISTERS).try_for_each(|at| changed.add((at as u16, 33)).map(drop));
            assert_eq!(outcome, Err(Bad::Corrupted), "{runs:?}");
        }
    }
}
