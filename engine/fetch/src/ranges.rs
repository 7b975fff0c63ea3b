//! Arithmetic of byte ranges.

use std::ops::Range;

pub(crate) fn overlaps(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Cuts a range at multiples of `size`, so that flights fill whole segments.
pub(crate) fn cut(range: &Range<u64>, size: u64) -> impl Iterator<Item = Range<u64>> + use<> {
    let (mut at, end) = (range.start, range.end);
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let border = (at / size + 1) * size;
        let piece = at..border.min(end);
        at = piece.end;
        Some(piece)
    })
}

pub(crate) fn subtract(from: Vec<Range<u64>>, cut: &Range<u64>) -> Vec<Range<u64>> {
    let mut left = Vec::with_capacity(from.len() + 1);
    for range in from {
        if !overlaps(&range, cut) {
            left.push(range);
            continue;
        }
        if range.start < cut.start {
            left.push(range.start..cut.start);
        }
        if cut.end < range.end {
            left.push(cut.end..range.end);
        }
    }
    left
}
