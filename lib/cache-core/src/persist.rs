//! Warm restart: the heap in a file that outlives the process.
//!
//! ```text
//! 0         magic, layout, geometry, mark, length and checksum of the rest
//! 2 MiB     the segments, mapped while the cache lives
//! then      written at the end: what describes the segments, and the hashtable
//! ```
//! The mark says that a planned end wrote everything. It is cleared, and that is
//! on the medium, before the first byte of a segment may change; so a process
//! that was killed leaves a file without it, and such a file is never read.
//! A file that does not fit (another layout, heap or segment size) is refused
//! in the same way: with a sentence, and an empty cache.
//!
//! The file is allocated in full at the start, so that no later write finds the
//! medium full. One process at a time holds its lock. Ghosts and the miss-ratio
//! curve begin anew.

use crate::cache::Shared;
use crate::config::Plan;
use crate::error::Error;
use crate::hash::KeyHasher;
use crate::memory::Region;
use crate::segment::Record;
use crate::segment::state::{State, Word};
use crate::sync::Ordering;
use crate::table::buckets::Table;
use crate::table::entry::Entry;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Raise it whenever anything in the file changes its meaning.
const LAYOUT: u64 = 1;
const MAGIC: u64 = u64::from_le_bytes(*b"crucheap");
/// Where the segments begin, in bytes: a boundary of huge pages.
const DATA_AT: usize = 2 << 20;
/// The value of a mark that is set.
const ENDED_WELL: u64 = u64::from_le_bytes(*b"the end.");
/// Words of the header, and which is the mark.
const HEADER_WORDS: usize = 9;
const MARK: usize = 2;
/// Hashed at both ends, so that another hash function is noticed.
const PROBE: &[u8] = b"is this the same hash function?";

/// How a cache with a file came to its first items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WarmStart {
    /// It has no file.
    Off,
    /// It has the items that a planned end had left.
    Warm {
        /// How many.
        items: u64,
    },
    /// It began empty.
    Cold {
        /// Why, in a sentence.
        why: String,
    },
}

/// The file, mapped and locked.
#[derive(Debug)]
pub(crate) struct HeapFile(File);

/// What a planned end had left.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) seed: u64,
    pub(crate) base_ms: u64,
    pub(crate) next_seq: u64,
    pub(crate) items: u64,
    pub(crate) bytes: u64,
    pub(crate) records: Vec<Record>,
    pub(crate) table: Table,
}

/// What opening found.
pub(crate) struct Opened {
    pub(crate) file: Option<HeapFile>,
    pub(crate) restored: Option<Restored>,
    pub(crate) start: WarmStart,
}

/// Opens the file that the plan names, reads what it holds, and clears its mark.
pub(crate) fn open(plan: &Plan) -> Result<Opened, Error> {
    let Some(path) = &plan.config.persist else {
        return Ok(Opened { file: None, restored: None, start: WarmStart::Off });
    };
    open_at(plan, path).map_err(|cause| Error::Config {
        key: "persist",
        value: path.display().to_string(),
        want: format!("a file that can hold the heap ({cause})"),
    })
}

fn open_at(plan: &Plan, path: &Path) -> io::Result<Opened> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let why = format!(
                "{} is in use by another process; this cache is not persistent",
                path.display()
            );
            return Ok(Opened { file: None, restored: None, start: WarmStart::Cold { why } });
        }
        Err(TryLockError::Error(cause)) => return Err(cause),
    }
    let found = if file.metadata()?.len() == 0 {
        Ok(None)
    } else {
        let mut magic = [0; 8];
        if file.read_exact_at(&mut magic, 0).is_err() || u64::from_le_bytes(magic) != MAGIC {
            // Whatever it is, it is somebody's.
            return Err(io::Error::other("what stands there is no heap of a cache"));
        }
        read(plan, &file).map(Some)
    };
    let all = (DATA_AT + plan.data_len()) as u64;
    let (restored, start) = match found {
        Ok(Some(restored)) => {
            let items = restored.items;
            (Some(restored), WarmStart::Warm { items })
        }
        Ok(None) => (None, WarmStart::Cold { why: format!("{} is new", path.display()) }),
        Err(why) => {
            // Nothing of it is wanted; what stood there reads as zeroes.
            file.set_len(0)?;
            (None, WarmStart::Cold { why: format!("{}: {why}", path.display()) })
        }
    };
    file.write_all_at(&bytes_of(&[MAGIC, LAYOUT, 0, 0, 0, 0, 0, 0, 0]), 0)?;
    file.set_len(all)?;
    crate::memory::allocate(&file, all)?;
    // From here on segments change; the mark must be gone before.
    file.sync_all()?;
    Ok(Opened { file: Some(HeapFile(file)), restored, start })
}

impl HeapFile {
    /// The segments' memory.
    pub(crate) fn map(&self, plan: &Plan) -> Result<Region, Error> {
        Region::map_file("the segments", &self.0, DATA_AT, plan.data_len(), plan.segment_map())
    }
}

/// The header of a file with this description behind its segments.
fn header(plan: &Plan, description_len: u64, sum: u64) -> [u64; HEADER_WORDS] {
    [
        MAGIC,
        LAYOUT,
        ENDED_WELL,
        plan.config.heap_size as u64,
        u64::from(plan.segment_shift),
        u64::from(plan.segments),
        plan.config.hashtable_power.map_or(0, |power| u64::from(power) + 1),
        description_len,
        sum,
    ]
}

fn bytes_of(words: &[u64; HEADER_WORDS]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Reads a file's description; the reason if it cannot be used.
fn read(plan: &Plan, file: &File) -> Result<Restored, String> {
    let text = |error: io::Error| format!("cannot be read: {error}");
    let mut bytes = [0; 8 * HEADER_WORDS];
    file.read_exact_at(&mut bytes, 0).map_err(text)?;
    let mut found = [0; HEADER_WORDS];
    for (word, bytes) in found.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    }
    let [len, sum] = [found[HEADER_WORDS - 2], found[HEADER_WORDS - 1]];
    let wanted = header(plan, len, sum);
    if found[1] != wanted[1] {
        return Err(format!("its layout is {}, not {}", found[1], wanted[1]));
    }
    if found[MARK] != wanted[MARK] {
        return Err("the process that used it did not come to a planned end".to_owned());
    }
    for (i, what) in
        [(3, "heap_size"), (4, "segment size (log2)"), (5, "number of segments"), (6, "hashtable")]
    {
        if found[i] != wanted[i] {
            return Err(format!("its {what} is {}, not {}", found[i], wanted[i]));
        }
    }
    let mut input = Summed { inner: BufReader::with_capacity(1 << 20, file), sum: 0, len: 0 };
    input.inner.seek(SeekFrom::Start((DATA_AT + plan.data_len()) as u64)).map_err(text)?;
    let restored = Restored::read(plan, &mut input).map_err(|error| match error {
        Bad::Io(error) => text(error),
        Bad::Map(error) => error.to_string(),
        Bad::Content(what) => format!("its {what} make no sense"),
    })?;
    if (input.len, input.sum) != (len, sum) {
        return Err("its checksum is wrong".to_owned());
    }
    Ok(restored)
}

enum Bad {
    Io(io::Error),
    Map(Error),
    Content(&'static str),
}

impl From<io::Error> for Bad {
    fn from(error: io::Error) -> Self {
        Bad::Io(error)
    }
}

impl Restored {
    fn read(plan: &Plan, input: &mut Summed<impl Read>) -> Result<Self, Bad> {
        let (seed, probe) = (input.word()?, input.word()?);
        if KeyHasher::new(seed).hash(PROBE).0 != probe {
            return Err(Bad::Content("hashes"));
        }
        let (base_ms, next_seq) = (input.word()?, input.word()?);
        let (items, bytes, buckets) = (input.word()?, input.word()?, input.word()?);
        let most = plan.config.heap_size as u64 / 64;
        if buckets == 0 || buckets > most {
            return Err(Bad::Content("buckets"));
        }
        let mut records = Vec::with_capacity(plan.segments as usize);
        for _ in 0..plan.segments {
            let mut words = [0; Record::WORDS];
            for word in &mut words {
                *word = input.word()?;
            }
            records.push(Record::of(words));
        }
        let fits = |record: &Record| record.fits(plan.segments, 1 << plan.segment_shift, next_seq);
        if !records.iter().all(fits) {
            return Err(Bad::Content("segments"));
        }
        let table = Table::new(buckets as u32, 1, plan.table_map()).map_err(Bad::Map)?;
        for bucket in 0..table.buckets() {
            for slot in table.bucket(bucket) {
                let entry = Entry(input.word()?);
                if !entry.is_empty() {
                    let id = (entry.location() >> plan.segment_shift) as usize;
                    let at = entry.location() as usize & ((1 << plan.segment_shift) - 1);
                    let stands = records
                        .get(id)
                        .is_some_and(|r| r.word.state() == State::Sealed && at < r.used as usize);
                    if !stands || entry.tag() == 0 {
                        return Err(Bad::Content("entries"));
                    }
                }
                slot.store(entry.0, Ordering::Relaxed);
            }
        }
        Ok(Self { seed, base_ms, next_seq, items, bytes, records, table })
    }
}

impl Shared {
    /// Writes what describes the heap, then the mark; returns the number of
    /// items. No worker exists any more, nor comes again.
    pub(crate) fn save(&self) -> io::Result<u64> {
        let Some(HeapFile(file)) = &self.file else { return Ok(0) };
        let plan = &self.plan;
        let (mut items, mut bytes) = self.live();
        let gone = |entry: Entry| self.segments.item_len(entry.location()) as u64;
        // A table that is growing grows up first.
        let view = self.index.view();
        let table = match &view.new {
            Some(new) if view.filling => {
                for bucket in 0..view.old.buckets() {
                    self.index.migrate_bucket(view, bucket, &self.segments, |entry| {
                        items = items.saturating_sub(1);
                        bytes = bytes.saturating_sub(gone(entry));
                    });
                }
                new
            }
            // Announced at most: nothing has been put there.
            _ => &view.old,
        };
        let records = self.segments.records();
        let stands = |entry: Entry| {
            let id = self.segments.id_of(entry.location()) as usize;
            records[id].word.state() == State::Sealed
        };
        let end = (DATA_AT + plan.data_len()) as u64;
        let mut out = Summed { inner: BufWriter::with_capacity(1 << 20, file), sum: 0, len: 0 };
        out.inner.seek(SeekFrom::Start(end))?;
        let entries = || {
            (0..table.buckets())
                .flat_map(|bucket| table.bucket(bucket))
                .map(|slot| Entry(slot.load(Ordering::Acquire)))
        };
        for entry in entries().filter(|entry| !entry.is_empty() && !stands(*entry)) {
            items = items.saturating_sub(1);
            bytes = bytes.saturating_sub(gone(entry));
        }
        for word in [
            plan.config.seed,
            self.hasher.hash(PROBE).0,
            self.base_ms(),
            self.segments.newest_seq(),
            items,
            bytes,
            u64::from(table.buckets()),
        ] {
            out.put(word)?;
        }
        for record in &records {
            for word in record.words() {
                out.put(word)?;
            }
        }
        for entry in entries() {
            out.put(if entry.is_empty() || stands(entry) { entry.0 } else { 0 })?;
        }
        out.inner.flush()?;
        let (len, sum) = (out.len, out.sum);
        drop(out);
        // Everything is on the medium before the mark is.
        file.sync_all()?;
        file.write_all_at(&bytes_of(&header(plan, len, sum)), 0)?;
        file.sync_all()?;
        Ok(items)
    }
}

/// Words that pass through, counted and summed.
struct Summed<T> {
    inner: T,
    sum: u64,
    len: u64,
}

impl<T> Summed<T> {
    fn add(&mut self, word: u64) {
        self.sum = (self.sum.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.len += 8;
    }
}

impl<T: Read> Summed<T> {
    fn word(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.inner.read_exact(&mut bytes)?;
        let word = u64::from_le_bytes(bytes);
        self.add(word);
        Ok(word)
    }
}

impl<T: Write> Summed<T> {
    fn put(&mut self, word: u64) -> io::Result<()> {
        self.add(word);
        self.inner.write_all(&word.to_le_bytes())
    }
}

/// What the segments' part of the description says of one segment.
impl Record {
    const WORDS: usize = 6;

    fn words(&self) -> [u64; Self::WORDS] {
        [
            self.word.0,
            (u64::from(self.used) << 32) | u64::from(self.next),
            self.min_deadline,
            self.max_deadline,
            self.sweep_at,
            u64::from(self.opened_s),
        ]
    }

    fn of(words: [u64; Self::WORDS]) -> Self {
        Self {
            word: Word(words[0]),
            used: (words[1] >> 32) as u32,
            next: words[1] as u32,
            min_deadline: words[2],
            max_deadline: words[3],
            sweep_at: words[4],
            opened_s: words[5] as u32,
        }
    }

    /// Whether a segment of such a pool can be so.
    fn fits(&self, segments: u32, size: usize, next_seq: u64) -> bool {
        let state = self.word.state();
        matches!(state, State::Absent | State::Sealed | State::Part)
            && self.word.seq() < next_seq
            && usize::from(self.word.group()) < crate::ttl::GROUPS
            && self.used as usize <= size
            && (self.next == crate::segment::NO_SEGMENT || self.next < segments)
    }
}
