//! Several sorted runs as one stream in byte order.

use crate::spooled::{Run, RunReader, Spooled};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io;

/// Read buffers of all runs together; one run gets what suits reading a file, many share.
const BUFFERS_BYTES: usize = 16 * 1024 * 1024;
const BUFFER_BYTES_MIN: usize = 4 * 1024;
const BUFFER_BYTES_MAX: usize = 256 * 1024;

pub(crate) struct Merge {
    readers: Vec<RunReader>,
    /// Empty while there is one run, which needs no merging.
    heads: BinaryHeap<Head>,
    started: bool,
}

/// The current key of a run.
#[derive(PartialEq, Eq)]
struct Head {
    key: Vec<u8>,
    run: usize,
}

impl Ord for Head {
    /// The heap's greatest comes first: the smallest key, of equal keys that of the earlier run.
    fn cmp(&self, other: &Self) -> Ordering {
        (&other.key, other.run).cmp(&(&self.key, self.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Merge {
    pub(crate) fn new(runs: Vec<Run>) -> Self {
        let share = BUFFERS_BYTES / runs.len().max(1);
        let buffer = share.clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX);
        let readers: Vec<_> = runs.into_iter().map(|run| RunReader::new(run, buffer)).collect();
        Merge { readers, heads: BinaryHeap::new(), started: false }
    }

    /// The next entry in byte order of keys.
    pub(crate) fn next(&mut self) -> io::Result<Option<Spooled<'_>>> {
        if self.readers.len() == 1 {
            let reader = &mut self.readers[0];
            return Ok(if reader.advance()? { Some(reader.current()) } else { None });
        }
        if self.started {
            self.pass_first()?;
        } else {
            self.started = true;
            for (run, reader) in self.readers.iter_mut().enumerate() {
                if reader.advance()? {
                    let key = reader.current().key.to_vec();
                    self.heads.push(Head { key, run });
                }
            }
        }
        Ok(self.heads.peek().map(|head| self.readers[head.run].current()))
    }

    fn pass_first(&mut self) -> io::Result<()> {
        if let Some(mut head) = self.heads.peek_mut() {
            let reader = &mut self.readers[head.run];
            if reader.advance()? {
                head.key.clear();
                head.key.extend(reader.current().key);
            } else {
                PeekMut::pop(head);
            }
        }
        Ok(())
    }
}
