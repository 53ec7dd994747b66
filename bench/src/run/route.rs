//! Which server a key belongs to: the only one, ketama's ring, or a Redis cluster's slots.
//!
//! Always true: the same key goes to the same server from every thread, until the cluster itself says
//! that a slot has moved. Called by workers.

use std::sync::atomic::{AtomicU16, Ordering};

use super::md5::md5;

/// Points of each server on ketama's ring: 40 digests of 4.
const DIGESTS_PER_SERVER: usize = 40;
/// Hash slots of a Redis cluster.
pub(crate) const SLOTS: usize = 16_384;

/// Finds the server of a key.
#[derive(Debug)]
pub(crate) enum Router {
    /// There is one.
    Single,
    /// The ring, sorted by point.
    Ketama(Vec<(u32, u16)>),
    /// The server of each slot.
    Cluster(Vec<AtomicU16>),
}

impl Router {
    /// Ketama's ring over servers by their `host:port` names.
    pub(crate) fn ketama<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut ring = Vec::new();
        for (server, name) in names.into_iter().enumerate() {
            for digest_number in 0..DIGESTS_PER_SERVER {
                let digest = md5(format!("{name}-{digest_number}").as_bytes());
                for point in digest.chunks_exact(4) {
                    let point = u32::from_le_bytes(point.try_into().expect("four bytes"));
                    ring.push((point, server as u16));
                }
            }
        }
        ring.sort_unstable();
        Self::Ketama(ring)
    }

    /// A cluster whose slots lie where `owners` says.
    pub(crate) fn cluster(owners: Vec<u16>) -> Self {
        debug_assert_eq!(owners.len(), SLOTS);
        Self::Cluster(owners.into_iter().map(AtomicU16::new).collect())
    }

    /// The server of `key`.
    pub(crate) fn server(&self, key: &[u8]) -> u16 {
        match self {
            Self::Single => 0,
            Self::Ketama(ring) => {
                let digest = md5(key);
                let hash = u32::from_le_bytes(digest[..4].try_into().expect("four bytes"));
                let at = ring.partition_point(|(point, _)| *point < hash);
                ring[at % ring.len()].1
            }
            Self::Cluster(owners) => owners[slot(key)].load(Ordering::Relaxed),
        }
    }

    /// A cluster said that `slot` is now with `server`.
    pub(crate) fn moved(&self, slot: usize, server: u16) {
        if let Self::Cluster(owners) = self
            && let Some(owner) = owners.get(slot)
        {
            owner.store(server, Ordering::Relaxed);
        }
    }
}

/// The hash slot of a key: CRC-16/XMODEM of it, or of what stands in its first braces.
pub(crate) fn slot(key: &[u8]) -> usize {
    let tagged = memchr::memchr(b'{', key).and_then(|open| {
        let len = memchr::memchr(b'}', &key[open + 1..])?;
        (len > 0).then(|| &key[open + 1..open + 1 + len])
    });
    let crc = tagged.unwrap_or(key).iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    usize::from(crc) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"foo{}{bar}"), slot(b"foo{}{bar}"));
        assert_ne!(slot(b"foo{}{bar}"), slot(b"bar"));
    }

    #[test]
    fn ketama_spreads_keys_and_moves_few_when_a_server_leaves() {
        let three = Router::ketama(["10.0.0.1:11211", "10.0.0.2:11211", "10.0.0.3:11211"]);
        let two = Router::ketama(["10.0.0.1:11211", "10.0.0.2:11211"]);
        let mut shares = [0; 3];
        let mut strayed = 0;
        for n in 0..9000 {
            let key = format!("key{n}");
            let before = three.server(key.as_bytes());
            shares[before as usize] += 1;
            if before < 2 && two.server(key.as_bytes()) != before {
                strayed += 1;
            }
        }
        assert!(shares.iter().all(|n| (2000..4200).contains(n)), "{shares:?}");
        assert_eq!(strayed, 0, "a key of a server that stays must stay");
    }
}
