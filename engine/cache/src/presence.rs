//! Which chunks of one file are there, in memory: 16 bytes for each block, read without a lock.
//!
//! Bits are set and cleared only by whoever holds the file's `writing` lock, so plain atomics are enough. A
//! reader that must be sure that a bit *stays* set while it reads holds the file's `disk` lock for reading;
//! punching clears bits under the write side of that lock.

use std::ops::Range;

use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use crate::{BLOCK, CHUNK};

const CHUNKS_PER_BLOCK: u64 = BLOCK / CHUNK;

struct Block {
    chunks: AtomicU64,
    /// The cache's tick when the block was last written or read: which one to punch first.
    used: AtomicU32,
    /// Claimed by another boot and not yet proved.
    suspect: AtomicBool,
    /// A [`Warmth`].
    warmth: AtomicU8,
}

/// What a reader of a block finds in memory, unless the kernel has thrown it away since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warmth {
    /// Pages that a processor has touched.
    Warm,
    /// Pages that the disk has filled and nobody has touched.
    ReadBack,
    /// Nothing: the block was written past the page cache.
    Cold,
}

pub struct Bitmap {
    size: u64,
    blocks: Box<[Block]>,
    present_bytes: AtomicU64,
    suspects: AtomicUsize,
}

impl Bitmap {
    pub fn new(size: u64) -> Bitmap {
        let empty = |_| Block {
            chunks: AtomicU64::new(0),
            used: AtomicU32::new(0),
            suspect: AtomicBool::new(false),
            warmth: AtomicU8::new(Warmth::Warm as u8),
        };
        Bitmap {
            size,
            blocks: (0..size.div_ceil(BLOCK)).map(empty).collect(),
            present_bytes: AtomicU64::new(0),
            suspects: AtomicUsize::new(0),
        }
    }

    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// The byte range of a block, clipped to the file.
    pub fn block_range(&self, block: usize) -> Range<u64> {
        let start = block as u64 * BLOCK;
        start..(start + BLOCK).min(self.size)
    }

    /// The bits of all chunks that a block has.
    pub fn full(&self, block: usize) -> u64 {
        let range = self.block_range(block);
        low_bits((range.end - range.start).div_ceil(CHUNK))
    }

    pub fn chunks(&self, block: usize) -> u64 {
        self.blocks[block].chunks.load(Acquire)
    }

    pub fn is_full(&self, block: usize) -> bool {
        self.chunks(block) == self.full(block)
    }

    pub fn is_suspect(&self, block: usize) -> bool {
        self.blocks[block].suspect.load(Acquire)
    }

    pub fn present_bytes(&self) -> u64 {
        self.present_bytes.load(Acquire)
    }

    /// All chunks are claimed; some blocks may still be suspect.
    pub fn is_whole(&self) -> bool {
        self.present_bytes() == self.size
    }

    /// All chunks are there and none is in doubt.
    pub fn is_complete(&self) -> bool {
        self.is_whole() && self.suspects.load(Acquire) == 0
    }

    pub fn has_suspects(&self) -> bool {
        self.suspects.load(Acquire) > 0
    }

    /// The blocks that a byte range touches, each with the bits of the chunks that it touches.
    pub fn spans(&self, range: Range<u64>) -> impl Iterator<Item = (usize, u64)> + use<> {
        let range = range.start.min(self.size)..range.end.min(self.size);
        let blocks = if range.is_empty() { 0..0 } else { range.start / BLOCK..range.end.div_ceil(BLOCK) };
        blocks.map(move |block| {
            let first = range.start.saturating_sub(block * BLOCK) / CHUNK;
            let last = (range.end - block * BLOCK).div_ceil(CHUNK).min(CHUNKS_PER_BLOCK);
            (block as usize, low_bits(last) & !low_bits(first))
        })
    }

    pub fn covers(&self, range: Range<u64>) -> bool {
        self.spans(range).all(|(block, bits)| bits & !self.chunks(block) == 0)
    }

    /// The first block of the range that is in doubt.
    pub fn first_suspect(&self, range: Range<u64>) -> Option<usize> {
        if !self.has_suspects() {
            return None;
        }
        self.spans(range).map(|(block, _)| block).find(|&block| self.is_suspect(block))
    }

    /// What is not there, in whole chunks (the last clipped to the file), merged.
    pub fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut out: Vec<Range<u64>> = Vec::new();
        for (block, bits) in self.spans(range) {
            let mut absent = bits & !self.chunks(block);
            while absent != 0 {
                let first = absent.trailing_zeros() as u64;
                let length = (!(absent >> first)).trailing_zeros() as u64;
                absent &= !(low_bits(length) << first);
                let start = block as u64 * BLOCK + first * CHUNK;
                let end = (start + length * CHUNK).min(self.size);
                match out.last_mut() {
                    Some(last) if last.end == start => last.end = end,
                    _ => out.push(start..end),
                }
            }
        }
        out
    }

    pub fn mark(&self, block: usize, bits: u64, tick: u32) {
        let before = self.blocks[block].chunks.fetch_or(bits, AcqRel);
        self.present_bytes.fetch_add(self.bytes_of(block, bits & !before), AcqRel);
        self.use_block(block, tick);
    }

    /// Forgets a block.
    pub fn clear(&self, block: usize) {
        self.set_suspect(block, false);
        self.set_warmth(block, Warmth::Warm);
        let before = self.blocks[block].chunks.swap(0, AcqRel);
        self.present_bytes.fetch_sub(self.bytes_of(block, before), AcqRel);
    }

    pub fn clear_all(&self) {
        (0..self.blocks.len()).for_each(|block| self.clear(block));
    }

    pub fn set_suspect(&self, block: usize, suspect: bool) {
        let before = self.blocks[block].suspect.swap(suspect, AcqRel);
        match (before, suspect) {
            (false, true) => self.suspects.fetch_add(1, AcqRel),
            (true, false) => self.suspects.fetch_sub(1, AcqRel),
            _ => 0,
        };
    }

    pub fn warmth(&self, block: usize) -> Warmth {
        match self.blocks[block].warmth.load(Relaxed) {
            warmth if warmth == Warmth::Warm as u8 => Warmth::Warm,
            warmth if warmth == Warmth::ReadBack as u8 => Warmth::ReadBack,
            _ => Warmth::Cold,
        }
    }

    pub fn set_warmth(&self, block: usize, warmth: Warmth) {
        self.blocks[block].warmth.store(warmth as u8, Relaxed);
    }

    pub fn use_block(&self, block: usize, tick: u32) {
        self.blocks[block].used.store(tick, Relaxed);
    }

    /// Blocks with anything in them, each with its last use.
    pub fn used_blocks(&self) -> impl Iterator<Item = (u32, usize)> + '_ {
        let used = |(index, block): (usize, &Block)| (block.chunks.load(Relaxed) != 0).then(|| (block.used.load(Relaxed), index));
        self.blocks.iter().enumerate().filter_map(used)
    }

    fn bytes_of(&self, block: usize, bits: u64) -> u64 {
        let range = self.block_range(block);
        let bytes = u64::from(bits.count_ones()) * CHUNK;
        // Only the file's last chunk may be short.
        let last = (range.end - range.start).div_ceil(CHUNK) - 1;
        let short = (range.start + (last + 1) * CHUNK) - range.end;
        if bits >> last & 1 == 1 { bytes - short } else { bytes }
    }
}

fn low_bits(count: u64) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_touch_exactly_the_chunks_of_the_range() {
        let map = Bitmap::new(3 * BLOCK + 5);
        let all: Vec<_> = map.spans(0..u64::MAX).collect();
        assert_eq!(all, vec![(0, u64::MAX), (1, u64::MAX), (2, u64::MAX), (3, 1)]);
        assert_eq!(map.spans(CHUNK - 1..CHUNK + 1).collect::<Vec<_>>(), vec![(0, 0b11)]);
        assert_eq!(map.spans(BLOCK - 1..BLOCK + 1).collect::<Vec<_>>(), vec![(0, 1 << 63), (1, 1)]);
        assert_eq!(map.spans(7..7).count(), 0);
        assert_eq!(map.spans(map.size + 9..map.size + 20).count(), 0);
    }

    #[test]
    fn missing_is_merged_across_blocks_and_clipped() {
        let map = Bitmap::new(2 * BLOCK + 100);
        assert_eq!(map.missing(0..u64::MAX), vec![0..2 * BLOCK + 100]);
        map.mark(1, 0b1, 1);
        map.mark(2, map.full(2), 2);
        assert_eq!(map.missing(0..u64::MAX), vec![0..BLOCK, BLOCK + CHUNK..2 * BLOCK]);
        assert_eq!(map.missing(BLOCK..BLOCK + 1), vec![]);
        assert_eq!(map.present_bytes(), CHUNK + 100);
    }

    #[test]
    fn bytes_add_up_to_the_size_for_every_odd_size() {
        for size in [1, CHUNK - 1, CHUNK, CHUNK + 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 3 * CHUNK + 1] {
            let map = Bitmap::new(size);
            for block in 0..map.block_count() {
                map.mark(block, map.full(block), 0);
            }
            assert!(map.is_complete(), "{size}");
            map.set_suspect(0, true);
            assert!(map.is_whole() && !map.is_complete());
            map.clear_all();
            assert_eq!(map.present_bytes(), 0);
            assert!(!map.has_suspects());
        }
        assert!(Bitmap::new(0).is_complete());
    }
}
