//! Sets of a file's chunks, a bit for each, worked on by the word: every read passes through here.

use headrace_cache::CHUNK;
use std::ops::Range;

const WORD: u64 = u64::BITS as u64;

/// A set of a file's chunks. It grows with the highest of them, and is nothing while there is none.
#[derive(Default)]
pub(crate) struct Chunks(Vec<u64>);

/// The words that the chunks of a range of bytes lie in, each with the bits that are meant.
fn words(range: &Range<u64>) -> impl Iterator<Item = (usize, u64)> {
    let (first, last) = (range.start / CHUNK, range.end.div_ceil(CHUNK));
    let words = if first < last { first / WORD..last.div_ceil(WORD) } else { 0..0 };
    words.map_while(move |word| {
        let low = first.saturating_sub(word * WORD);
        let high = (last - word * WORD).min(WORD);
        let bits = (u64::MAX << low) & (u64::MAX >> (WORD - high));
        Some((usize::try_from(word).ok()?, bits))
    })
}

impl Chunks {
    /// Takes the chunks of a range in; gives those that were not there, as ranges of bytes.
    pub(crate) fn add(&mut self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut fresh: Vec<Range<u64>> = Vec::new();
        for (word, bits) in words(range) {
            if self.0.len() <= word {
                self.0.resize(word + 1, 0);
            }
            let mut new = bits & !self.0[word];
            self.0[word] |= bits;
            while new != 0 {
                let from = new.trailing_zeros();
                let count = (new >> from).trailing_ones();
                new &= !(u64::MAX >> (u64::BITS - count) << from);
                let start = (word as u64 * WORD + u64::from(from)) * CHUNK;
                let end = start + u64::from(count) * CHUNK;
                match fresh.last_mut() {
                    Some(last) if last.end == start => last.end = end,
                    _ => fresh.push(start..end),
                }
            }
        }
        fresh
    }

    /// Takes the chunks of a range out; gives how many bytes of a file of `size` bytes were there.
    pub(crate) fn take(&mut self, range: &Range<u64>, size: u64) -> u64 {
        let mut taken = 0;
        for (word, bits) in words(range) {
            let Some(held) = self.0.get_mut(word) else { break };
            let there = *held & bits;
            if there == 0 {
                continue;
            }
            *held &= !bits;
            taken += u64::from(there.count_ones()) * CHUNK;
            // The last chunk of a file is seldom whole.
            let last = (size / CHUNK).saturating_sub(word as u64 * WORD);
            if !size.is_multiple_of(CHUNK) && last < WORD && there >> last & 1 == 1 {
                taken -= CHUNK - size % CHUNK;
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(range: Range<u64>) -> Range<u64> {
        range.start * CHUNK..range.end * CHUNK
    }

    #[test]
    fn what_is_added_twice_is_fresh_once() {
        let mut set = Chunks::default();
        assert_eq!(set.add(&chunks(60..70)), [chunks(60..70)], "across words");
        assert_eq!(set.add(&chunks(58..200)), [chunks(58..60), chunks(70..200)]);
        assert_eq!(set.add(&chunks(0..200)), [chunks(0..58)]);
        assert!(set.add(&chunks(0..200)).is_empty() && set.add(&(5..5)).is_empty());
        assert_eq!(set.add(&(200 * CHUNK + 5..200 * CHUNK + 6)), [chunks(200..201)], "chunks are whole");
        assert_eq!(set.add(&chunks(256..320)), [chunks(256..320)], "a whole word");
    }

    #[test]
    fn what_is_taken_is_counted_once_and_no_further_than_the_file_goes() {
        let mut set = Chunks::default();
        let size = 130 * CHUNK + 5;
        set.add(&(0..size));
        assert_eq!(set.take(&chunks(0..1), size), CHUNK);
        assert_eq!(set.take(&(0..size), size), size - CHUNK);
        assert_eq!(set.take(&(0..size), size), 0);
        assert_eq!(set.take(&chunks(1000..1001), size), 0, "beyond all that was added");
    }
}
