//! Node ids are computed, not stored: (snapshot slot, entry, copy).
//!
//! Copy 0 is answered by the node; copy 1 is only ever opened by passthrough. The kernel refuses two ways of opening, or
//! two backing files at the same time, on one id. Every copy holds the same bytes (an object's version never changes), so
//! copy 1 may get another backing file once nobody has the first one open, and while somebody has, further opens join it, even when the
//! file was evicted meanwhile. Slots count from 1 and are not used again.

use crate::wire::ROOT_ID;
use headrace_snapshot::EntryId;

/// A node of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeId {
    pub(crate) slot: u16,
    pub(crate) entry: EntryId,
    pub(crate) copy: u16,
}

impl NodeId {
    /// `current` is the slot that the root stands for now.
    pub(crate) fn decode(raw: u64, current: u16) -> Self {
        if raw == ROOT_ID {
            return Self { slot: current, entry: EntryId(0), copy: 0 };
        }
        Self { copy: (raw >> 48) as u16, slot: (raw >> 32) as u16, entry: EntryId(raw as u32) }
    }

    pub(crate) fn encode(self) -> u64 {
        u64::from(self.copy) << 48 | u64::from(self.slot) << 32 | u64::from(self.entry.0)
    }

    /// `st_ino`: the same for every copy, so that a program sees one file across the switch to passthrough.
    pub(crate) fn inode(self) -> u64 {
        u64::from(self.slot) << 32 | (u64::from(self.entry.0) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_the_round_trip() {
        for id in [NodeId { slot: 1, entry: EntryId(0), copy: 0 }, NodeId { slot: 65535, entry: EntryId(u32::MAX), copy: 65535 }] {
            assert_eq!(NodeId::decode(id.encode(), 9), id);
            assert_ne!(id.encode(), ROOT_ID);
        }
        assert_eq!(NodeId::decode(ROOT_ID, 9).slot, 9);
    }
}
