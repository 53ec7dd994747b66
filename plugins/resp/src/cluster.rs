//! The static map of a cluster: which node serves which slot, checked once at start.
//!
//! A key's slot is CRC16 of the key, or of what stands in its first `{...}`, modulo 16384. Called
//! by `parse` for every command with keys, and by CLUSTER.

use std::ops::RangeInclusive;

use crate::settings;

/// Number of slots.
pub const SLOTS: u16 = 16_384;

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Forty hexadecimal digits, from its name.
    pub id: String,
    /// Where clients find it.
    pub host: String,
    /// Where clients find it.
    pub port: u16,
    /// What it serves.
    pub slots: Vec<RangeInclusive<u16>>,
}

/// The whole map.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// All nodes, in the order of the settings.
    pub nodes: Vec<Node>,
    /// This node's place in it.
    pub me: usize,
    /// The node of each slot; `NOBODY` for none.
    owners: Vec<u16>,
}

const NOBODY: u16 = u16::MAX;

/// Why a map is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// `me` names no node.
    #[error("no node is named \"{0}\"")]
    WhoAmI(String),
    /// Two nodes of one name.
    #[error("two nodes are named \"{0}\"")]
    SameName(String),
    /// A slot range that is none.
    #[error("node \"{node}\": \"{range}\" is no range of slots between 0 and 16383")]
    Range {
        /// The node.
        node: String,
        /// The text.
        range: String,
    },
    /// A slot with two nodes.
    #[error("slot {slot} is given to \"{first}\" and to \"{second}\"")]
    Overlap {
        /// The slot.
        slot: u16,
        /// One node.
        first: String,
        /// The other.
        second: String,
    },
    /// Too many nodes for a slot table of two bytes.
    #[error("more than 16384 nodes")]
    TooMany,
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    (from <= to && to < SLOTS).then_some(from..=to)
}

/// A stable identity from a name: two rounds of FNV-1a and a tail, as hexadecimal digits.
fn identity(name: &str) -> String {
    let fnv = |seed: u64| {
        name.bytes().fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
    };
    let (a, b, c) = (fnv(0xcbf2_9ce4_8422_2325), fnv(0x9e37_79b9_7f4a_7c15), fnv(0x1656_67b1));
    format!("{a:016x}{b:016x}{:08x}", c as u32)
}

impl Cluster {
    /// Checks the settings.
    pub fn new(settings: &settings::Cluster) -> Result<Self, MapError> {
        if settings.nodes.len() > usize::from(SLOTS) {
            return Err(MapError::TooMany);
        }
        let mut owners = vec![NOBODY; usize::from(SLOTS)];
        let mut nodes: Vec<Node> = Vec::new();
        for (i, node) in settings.nodes.iter().enumerate() {
            if settings.nodes[..i].iter().any(|n| n.name == node.name) {
                return Err(MapError::SameName(node.name.clone()));
            }
            let mut slots = Vec::new();
            for text in &node.slots {
                let range = parse_range(text).ok_or_else(|| MapError::Range {
                    node: node.name.clone(),
                    range: text.clone(),
                })?;
                for slot in range.clone() {
                    let owner = &mut owners[usize::from(slot)];
                    if *owner != NOBODY {
                        return Err(MapError::Overlap {
                            slot,
                            first: settings.nodes[usize::from(*owner)].name.clone(),
                            second: node.name.clone(),
                        });
                    }
                    *owner = i as u16;
                }
                slots.push(range);
            }
            slots.sort_by_key(|r| *r.start());
            let (host, port) = (node.host.clone(), node.port);
            nodes.push(Node { id: identity(&node.name), host, port, slots });
        }
        let me = settings.nodes.iter().position(|n| n.name == settings.me);
        let me = me.ok_or_else(|| MapError::WhoAmI(settings.me.clone()))?;
        Ok(Cluster { nodes, me, owners })
    }

    /// The node that serves a slot.
    pub fn owner(&self, slot: u16) -> Option<&Node> {
        self.nodes.get(usize::from(self.owners[usize::from(slot)]))
    }

    /// Whether this node serves a slot.
    pub fn is_mine(&self, slot: u16) -> bool {
        usize::from(self.owners[usize::from(slot)]) == self.me
    }

    /// This node.
    pub fn myself(&self) -> &Node {
        &self.nodes[self.me]
    }

    /// How many slots have a node.
    pub fn assigned(&self) -> usize {
        self.owners.iter().filter(|o| **o != NOBODY).count()
    }
}

const fn crc16_table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (mut crc, mut bit) = ((i as u16) << 8, 0);
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

static CRC16_TABLE: [u16; 256] = crc16_table();

/// The slot of a key.
pub fn slot_of(key: &[u8]) -> u16 {
    let tagged = memchr::memchr(b'{', key).and_then(|open| {
        let behind = &key[open + 1..];
        memchr::memchr(b'}', behind).filter(|len| *len > 0).map(|len| &behind[..len])
    });
    let crc = tagged
        .unwrap_or(key)
        .iter()
        .fold(0u16, |crc, b| crc << 8 ^ CRC16_TABLE[usize::from(crc >> 8 ^ u16::from(*b))]);
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_that_clients_compute() {
        assert_eq!(slot_of(b"123456789"), 0x31c3 % SLOTS);
        assert_eq!(slot_of(b"foo"), 12182);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(slot_of(b"foo{}{bar}"), 8363);
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
    }

    fn node(name: &str, slots: &[&str]) -> settings::Node {
        let slots = slots.iter().map(|s| (*s).to_owned()).collect();
        settings::Node { name: name.to_owned(), host: "h".to_owned(), port: 1, slots }
    }

    #[test]
    fn bad_maps_are_refused_with_their_reason() {
        let of = |me: &str, nodes| {
            Cluster::new(&settings::Cluster { me: me.to_owned(), nodes }).map(|c| c.assigned())
        };
        assert_eq!(of("a", vec![node("a", &["0-5"]), node("b", &["6", "8-16383"])]), Ok(16383));
        assert_eq!(of("c", vec![node("a", &[])]), Err(MapError::WhoAmI("c".into())));
        assert_eq!(
            of("a", vec![node("a", &[]), node("a", &[])]),
            Err(MapError::SameName("a".into()))
        );
        let overlap = MapError::Overlap { slot: 5, first: "a".into(), second: "b".into() };
        assert_eq!(of("a", vec![node("a", &["0-5"]), node("b", &["5-6"])]), Err(overlap));
        for range in ["16384", "5-1", "x", ""] {
            let error = MapError::Range { node: "a".into(), range: range.into() };
            assert_eq!(of("a", vec![node("a", &[range])]), Err(error));
        }
    }
}
