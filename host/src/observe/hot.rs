//! The keys that are asked for most, among the observed operations.
//!
//! What must always be true: a table never holds more than its places; a key that makes up more
//! than one in so many observed operations is in it. Counts fade, so that yesterday's favourites
//! go. Called by the worker for an observed operation; read by the admin server.
//!
//! Source of the algorithm: Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and
//! top-k elements in data streams" (Space-Saving), ICDT 2005.

use super::tap::Note;

/// Keys that a table holds.
const PLACES: usize = 128;
/// Observed operations after which all counts are halved.
const FADE_AFTER: u64 = 1 << 14;

/// A key and how often it was observed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hot {
    pub(crate) note: Note,
    pub(crate) count: u64,
    /// At most so many of them may belong to keys that had the place before.
    pub(crate) doubt: u64,
    pub(crate) writes: u64,
}

/// One worker's table.
#[derive(Debug, Default)]
pub(crate) struct HotKeys {
    keys: Vec<Hot>,
    seen: u64,
}

impl HotKeys {
    pub(crate) fn record(&mut self, note: &Note) {
        self.seen += 1;
        if self.seen >= FADE_AFTER {
            self.fade();
        }
        let write = u64::from(note.class.writes());
        let same = |hot: &&mut Hot| hot.note.key_hash == note.key_hash;
        if let Some(hot) = self.keys.iter_mut().find(same) {
            hot.count += 1;
            hot.writes += write;
            hot.note.value_len = note.value_len.max(hot.note.value_len);
            return;
        }
        let fresh = Hot { note: *note, count: 1, doubt: 0, writes: write };
        if self.keys.len() < PLACES {
            return self.keys.push(fresh);
        }
        if let Some(least) = self.keys.iter_mut().min_by_key(|hot| hot.count) {
            let doubt = least.count;
            *least = Hot { count: doubt + 1, doubt, ..fresh };
        }
    }

    fn fade(&mut self) {
        self.seen /= 2;
        for hot in &mut self.keys {
            hot.count /= 2;
            hot.doubt /= 2;
            hot.writes /= 2;
        }
        self.keys.retain(|hot| hot.count > 0);
    }

    /// Adds this table to what was read of others; operations behind it.
    pub(crate) fn read(&self, into: &mut Vec<Hot>) -> u64 {
        for hot in &self.keys {
            match into.iter_mut().find(|known| known.note.key_hash == hot.note.key_hash) {
                Some(known) => {
                    known.count += hot.count;
                    known.doubt += hot.doubt;
                    known.writes += hot.writes;
                }
                None => into.push(*hot),
            }
        }
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::class::Class;
    use crucible_plugin_api::Status;

    fn note(key: u64) -> Note {
        Note {
            class: Class::Get,
            status: Status::OK,
            conn_id: 1,
            key: [0; 32],
            key_len: 3,
            key_hash: key,
            value_len: 0,
        }
    }

    #[test]
    fn a_frequent_key_is_found_among_thousands_and_fades_when_it_is_over() {
        let mut keys = HotKeys::default();
        for i in 0..10_000u64 {
            keys.record(&note(1_000_000 + i));
            if i % 10 == 0 {
                keys.record(&note(7));
            }
        }
        let mut read = Vec::new();
        keys.read(&mut read);
        let best = read.iter().max_by_key(|hot| hot.count - hot.doubt).unwrap();
        assert_eq!(best.note.key_hash, 7);
        assert!(best.count >= 1000 && read.len() <= PLACES);
        for _ in 0..20 {
            keys.fade();
        }
        read.clear();
        assert_eq!((keys.read(&mut read), read.len()), (0, 0));
    }
}
