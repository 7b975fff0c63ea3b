//! Streams are found by offset, not by handle: the ranks of a server share handles, and one reader's
//! requests arrive out of order from several kernel threads.
//!
//! A stream is a place in the file where reads keep arriving. Its window, what is asked for ahead of the
//! reader, starts small and doubles each time the reader has gone through half of it, up to what the
//! budget allows. A read that continues no stream asks for exactly its own bytes: random access pays nothing.
//!
//! A reader that takes its part of every tensor, as a rank of several does, leaves one stream after the other, each at the
//! same length. From the third on, a stream is expected to end there, until it goes on.

use std::ops::Range;

/// Window of a read at the start of a file: most loaders read a header there and then go on.
const FIRST_WINDOW: u64 = 1024 * 1024;
/// Window of a stream found in the middle of a file, by its second read.
const FOUND_WINDOW: u64 = 512 * 1024;
/// Reads of one stream may overtake each other by this much (several kernel read-ahead requests).
const REORDER: u64 = 2 * 1024 * 1024;
const PAGE: u64 = 4096;
/// Streams remembered for one object; the one unused for longest goes.
const STREAMS: usize = 16;

#[derive(Debug)]
struct Stream {
    /// First byte read.
    start: u64,
    /// One past the furthest byte read.
    next: u64,
    /// How far ahead to ask.
    window: u64,
    /// Bytes read since the window last grew.
    progress: u64,
    /// Asked for up to here.
    planned: u64,
    /// Prefetch stops here until a read has gone past it: the end of the tensor in which the stream began.
    bound: u64,
    used: u64,
}

/// The streams of one object.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    streams: Vec<Stream>,
    clock: u64,
    /// Places where reading began anew.
    begun: u64,
    /// Lengths of the last two streams that were left for another, the latest last.
    left: [u64; 2],
}

impl Streams {
    /// Notes a read and says what to ask for beyond it: an empty range for a random read. `limit` bounds the
    /// window, `size` is the file's (bytes); `tensor` holds the read's first byte.
    pub(crate) fn note(&mut self, read: &Range<u64>, limit: u64, tensor: &Range<u64>, size: u64) -> Range<u64> {
        self.clock += 1;
        let clock = self.clock;
        let index = match self.find(read) {
            Some(index) => index,
            None => self.begin(read, tensor, size),
        };
        let stream = &mut self.streams[index];
        stream.used = clock;
        stream.next = stream.next.max(read.end);
        stream.progress += read.end - read.start;
        if read.end > stream.bound {
            stream.bound = size;
        }
        if stream.window == 0 {
            return read.end..read.end;
        }
        let extent = stream.bound.min(size);
        if stream.progress >= stream.window / 2 {
            stream.progress = 0;
            stream.window = (stream.window * 2).min(limit.max(FIRST_WINDOW));
        }
        let from = stream.planned.max(stream.next);
        let to = (stream.next + stream.window).min(extent);
        // Wait until a fair piece is due, so that steady streams make few and large requests.
        if to <= from || (to < extent && to - from < stream.window / 4) {
            return from..from;
        }
        stream.planned = to;
        from..to
    }

    fn find(&mut self, read: &Range<u64>) -> Option<usize> {
        let index = self.streams.iter().position(|s| {
            let slack = REORDER.min(s.window.max(read.end - read.start));
            read.start <= s.next + slack && read.end + slack >= s.next && read.start + 2 * REORDER >= s.next
        })?;
        let stream = &mut self.streams[index];
        // The second read of a place proves the stream; going back over old bytes proves nothing.
        if stream.window == 0 && read.end > stream.next {
            stream.window = FOUND_WINDOW;
            stream.progress = 0;
        }
        Some(index)
    }

    fn begin(&mut self, read: &Range<u64>, tensor: &Range<u64>, size: u64) -> usize {
        self.begun += 1;
        self.note_left();
        let tensor_end = if read.start == 0 { size } else { tensor.end };
        let bound = self.usual_length().map_or(tensor_end, |length| tensor_end.min(read.start + length));
        // A read at a tensor's first byte (the kernel rounds down to its page) most likely wants all of it.
        let at_tensor = tensor.start > 0 && tensor.start.abs_diff(read.start) < PAGE;
        let window = match read.start {
            0 => FIRST_WINDOW,
            _ if at_tensor => FOUND_WINDOW,
            _ => 0,
        };
        let stream = Stream { start: read.start, next: read.end, window, progress: 0, planned: read.end, bound, used: self.clock };
        if self.streams.len() < STREAMS {
            self.streams.push(stream);
            return self.streams.len() - 1;
        }
        let oldest = (0..STREAMS).min_by_key(|&i| self.streams[i].used).unwrap_or(0);
        self.streams[oldest] = stream;
        oldest
    }

    /// A new stream begins: the one read last was left.
    fn note_left(&mut self) {
        if let Some(last) = self.streams.iter().max_by_key(|s| s.used) {
            self.left = [self.left[1], last.next - last.start];
        }
    }

    /// How long streams have been lately, when they were all as long.
    fn usual_length(&self) -> Option<u64> {
        (self.left[0] == self.left[1] && self.left[0] > 0).then_some(self.left[0])
    }

    /// How often reading began at a place where it did not go on.
    pub(crate) fn begun(&self) -> u64 {
        self.begun
    }

    /// Number of places with a window, among which the budget is shared.
    pub(crate) fn active(&self) -> u64 {
        self.streams.iter().filter(|s| s.window > 0).count().max(1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;
    const END: u64 = 1 << 40;

    #[test]
    fn a_sequential_reader_gets_a_growing_window() {
        let mut streams = Streams::default();
        let mut ahead = 0;
        let mut planned = 0;
        for i in 0..512u64 {
            let read = i * MIB / 4..(i + 1) * MIB / 4;
            let plan = streams.note(&read, 64 * MIB, &(0..END), END);
            assert!(plan.is_empty() || planned == 0 || plan.start >= planned, "nothing is planned twice");
            planned = planned.max(plan.end);
            ahead = ahead.max(planned.saturating_sub(read.end));
        }
        assert!(ahead > 32 * MIB && ahead <= 64 * MIB, "{ahead}");
    }

    #[test]
    fn random_reads_ask_for_nothing_more() {
        let mut streams = Streams::default();
        let mut seed = 7u64;
        let mut extra = 0;
        for _ in 0..500 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = (seed >> 20) % (2048 * MIB) + 1;
            let ahead = streams.note(&(at..at + 65536), 64 * MIB, &(0..END), END);
            extra += ahead.end - ahead.start;
        }
        assert!(extra <= 500 * 65536 / 4, "{extra}");
    }

    #[test]
    fn a_stream_in_the_middle_is_found_by_its_second_read() {
        let mut streams = Streams::default();
        assert!(streams.note(&(100 * MIB..101 * MIB), 64 * MIB, &(0..END), END).is_empty());
        assert!(!streams.note(&(101 * MIB..102 * MIB), 64 * MIB, &(0..END), END).is_empty());
    }

    #[test]
    fn requests_that_overtake_each_other_are_one_stream() {
        let mut streams = Streams::default();
        for i in [0u64, 2, 1, 3, 5, 4, 6, 7] {
            streams.note(&(i * MIB..(i + 1) * MIB), 64 * MIB, &(0..END), END);
        }
        assert_eq!(streams.streams.len(), 1);
    }

    #[test]
    fn a_stream_begun_at_a_tensor_stops_at_its_end_until_it_goes_past() {
        let mut streams = Streams::default();
        let tensor = 64 * MIB + 100..70 * MIB;
        let first = streams.note(&(64 * MIB..65 * MIB), 64 * MIB, &tensor, END);
        assert!(!first.is_empty() && first.end <= tensor.end);
        let mut end = 0;
        for i in 65..69u64 {
            end = streams.note(&(i * MIB..(i + 1) * MIB), 64 * MIB, &tensor, END).end.max(end);
        }
        assert_eq!(end, tensor.end);
        let past = streams.note(&(70 * MIB..71 * MIB), 64 * MIB, &(70 * MIB..90 * MIB), END);
        assert!(past.end > 71 * MIB);
    }

    #[test]
    fn a_part_of_every_tensor_is_fetched_and_no_more() {
        let mut streams = Streams::default();
        let mut extra = Vec::new();
        for tensor in 0..64u64 {
            // Two MiB of every eight, in the kernel's requests of one.
            for half in 0..2 {
                let at = tensor * 8 * MIB + half * MIB;
                let ahead = streams.note(&(at..at + MIB), 64 * MIB, &(0..END), END);
                extra.push(ahead.end.max(tensor * 8 * MIB + 2 * MIB) - (tensor * 8 * MIB + 2 * MIB));
            }
        }
        assert!(extra[6..].iter().all(|bytes| *bytes == 0), "{extra:?}");
    }

    #[test]
    fn a_stream_that_goes_past_the_usual_length_gets_its_window() {
        let mut streams = Streams::default();
        for start in [100, 200, 300u64] {
            streams.note(&(start * MIB..(start + 1) * MIB), 64 * MIB, &(0..END), END);
        }
        assert!(streams.note(&(400 * MIB..401 * MIB), 64 * MIB, &(0..END), END).is_empty());
        assert!(!streams.note(&(401 * MIB..402 * MIB), 64 * MIB, &(0..END), END).is_empty());
    }

    #[test]
    fn prefetch_stops_at_the_end_of_the_file() {
        let mut streams = Streams::default();
        for i in 0..8u64 {
            assert!(streams.note(&(i * MIB..(i + 1) * MIB), 64 * MIB, &(0..9 * MIB), 9 * MIB).end <= 9 * MIB);
        }
    }
}
