//! Names of code addresses, from the symbol tables of the files that are mapped.
//!
//! What must always be true: a file is read once for a [`Symbols`]; an address without a name gets
//! its file's name. Called when a stack is shown.

use std::collections::HashMap;
use std::path::PathBuf;

use object::{Object, ObjectSegment, ObjectSymbol, SymbolKind};

use super::Stack;

/// Files larger than this are not read.
const FILE_LEN_MAX: u64 = 1 << 30;

/// A part of a file that the process has mapped as code.
struct Mapping {
    start: usize,
    end: usize,
    file_offset: u64,
    path: PathBuf,
}

/// A file's functions by address, and where its parts lie.
#[derive(Default)]
struct Table {
    functions: Vec<(u64, u64, String)>,
    /// File offset, length, address.
    segments: Vec<(u64, u64, u64)>,
}

/// What is known of the process's code.
pub struct Symbols {
    mappings: Vec<Mapping>,
    tables: HashMap<PathBuf, Table>,
    names: HashMap<usize, String>,
}

impl std::fmt::Debug for Symbols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Symbols").field("mappings", &self.mappings.len()).finish_non_exhaustive()
    }
}

impl Default for Symbols {
    fn default() -> Self {
        Self::new()
    }
}

impl Symbols {
    /// The mappings as they are now.
    #[must_use]
    pub fn new() -> Self {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mappings = maps.lines().filter_map(mapping).collect();
        Self { mappings, tables: HashMap::new(), names: HashMap::new() }
    }

    /// A stack's functions, innermost first.
    pub fn names(&mut self, stack: &Stack) -> Vec<String> {
        let frames = stack.frames().iter().enumerate();
        // A return address is behind its call, which may be a function's last.
        frames.map(|(i, ip)| self.name(ip.saturating_sub(usize::from(i > 0)))).collect()
    }

    fn name(&mut self, ip: usize) -> String {
        if let Some(known) = self.names.get(&ip) {
            return known.clone();
        }
        let name = self.look_up(ip);
        self.names.insert(ip, name.clone());
        name
    }

    fn look_up(&mut self, ip: usize) -> String {
        let Some(place) = self.mappings.iter().find(|m| (m.start..m.end).contains(&ip)) else {
            return "?".into();
        };
        let table = self
            .tables
            .entry(place.path.clone())
            .or_insert_with(|| table(place).unwrap_or_default());
        let offset = (ip - place.start) as u64 + place.file_offset;
        let part =
            table.segments.iter().find(|(from, len, _)| (*from..from + len).contains(&offset));
        let found = part.and_then(|(from, _, address)| {
            let address = offset - from + address;
            let at = table.functions.partition_point(|f| f.0 <= address).checked_sub(1)?;
            let (start, len, name) = &table.functions[at];
            (*len == 0 || address < start + len).then(|| readable(name))
        });
        found.unwrap_or_else(|| {
            place.path.file_name().map_or("?".into(), |name| name.to_string_lossy().into_owned())
        })
    }
}

/// `start-end perms offset dev inode path`, of code.
fn mapping(line: &str) -> Option<Mapping> {
    let mut words = line.split_ascii_whitespace();
    let (range, permissions, offset) = (words.next()?, words.next()?, words.next()?);
    let path = words.nth(2)?;
    let (start, end) = range.split_once('-')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    permissions.contains('x').then_some(Mapping {
        start: usize::try_from(hex(start)?).ok()?,
        end: usize::try_from(hex(end)?).ok()?,
        file_offset: hex(offset)?,
        path: path.into(),
    })
}

fn table(place: &Mapping) -> Option<Table> {
    let about = std::fs::metadata(&place.path).ok()?;
    if !about.is_file() || about.len() > FILE_LEN_MAX {
        return None;
    }
    let bytes = std::fs::read(&place.path).ok()?;
    let file = object::File::parse(&*bytes).ok()?;
    let segments = file.segments().map(|part| {
        let (from, len) = part.file_range();
        (from, len, part.address())
    });
    let all = file.symbols().chain(file.dynamic_symbols());
    let code = all.filter(|s| s.kind() == SymbolKind::Text && s.is_definition());
    let named = code.filter_map(|s| Some((s.address(), s.size(), s.name().ok()?.to_owned())));
    let mut functions: Vec<_> = named.collect();
    functions.sort_unstable();
    Some(Table { functions, segments: segments.collect() })
}

/// A function's name as its source has it, without the hash.
fn readable(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}
