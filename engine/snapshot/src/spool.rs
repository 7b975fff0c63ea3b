//! Where pages wait until the listing is over: one unnamed file, shared by all segments.
//!
//! Each segment gathers entries in a buffer and appends it to the file as an extent. Thousands of segments may
//! be open at once, so beside the bound for one there is a bound for all: above it whoever pushes empties its own
//! buffer after each page.

use crate::entry::NewEntry;
use crate::spooled::{self, Extent, Run};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Buffered bytes of one segment.
const SEGMENT_BYTES: usize = 256 * 1024;
/// Buffered bytes of all segments together.
const BUFFERED_BYTES: usize = 16 * 1024 * 1024;

pub(crate) struct Spool {
    file: Arc<File>,
    end: AtomicU64,
    buffered: AtomicUsize,
    segments: Mutex<BTreeMap<u32, Arc<Mutex<Segment>>>>,
}

#[derive(Default)]
struct Segment {
    buffer: Vec<u8>,
    extents: Vec<Extent>,
    first: Vec<u8>,
    last: Vec<u8>,
    disordered: bool,
}

/// What the spool holds once the listing is over.
pub(crate) struct Spooling {
    /// Each in byte order of keys. One, unless segments overlap.
    pub(crate) ordered: Vec<Run>,
    /// Segments that did not keep byte order.
    pub(crate) disordered: Vec<Run>,
}

impl Spool {
    /// `file` should have no name, so that nothing is left of it whatever happens.
    pub(crate) fn new(file: File) -> Self {
        Spool { file: Arc::new(file), end: AtomicU64::new(0), buffered: AtomicUsize::new(0), segments: Mutex::default() }
    }

    pub(crate) fn push(&self, segment: u32, entries: &[NewEntry<'_>]) -> io::Result<()> {
        let segment = Arc::clone(self.segments.lock().entry(segment).or_default());
        let mut segment = segment.lock();
        for (index, entry) in entries.iter().enumerate() {
            let key = entry.key.as_bytes();
            let before = match index.checked_sub(1) {
                Some(previous) => entries[previous].key.as_bytes(),
                None => &segment.last,
            };
            // Equal keys are in order: the tree finds duplicates, since neighbours they are.
            segment.disordered |= key < before;
            let had = segment.buffer.len();
            spooled::encode(&mut segment.buffer, entry);
            self.buffered.fetch_add(segment.buffer.len() - had, Relaxed);
            if segment.buffer.len() >= SEGMENT_BYTES {
                self.empty(&mut segment)?;
            }
        }
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            if segment.first.is_empty() {
                segment.first = first.key.as_bytes().to_vec();
            }
            segment.last.clear();
            segment.last.extend(last.key.as_bytes());
        }
        if self.buffered.load(Relaxed) > BUFFERED_BYTES {
            self.empty(&mut segment)?;
        }
        Ok(())
    }

    fn empty(&self, segment: &mut Segment) -> io::Result<()> {
        // Taken, not cleared: an idle segment keeps no memory.
        let buffer = std::mem::take(&mut segment.buffer);
        if buffer.is_empty() {
            return Ok(());
        }
        self.buffered.fetch_sub(buffer.len(), Relaxed);
        let bytes = buffer.len() as u64;
        let offset = self.end.fetch_add(bytes, Relaxed);
        self.file.write_all_at(&buffer, offset)?;
        segment.extents.push(Extent { offset, bytes });
        Ok(())
    }

    /// Ends the listing. Segments that follow each other in byte order become one run.
    pub(crate) fn finish(self) -> io::Result<Spooling> {
        let mut spooling = Spooling { ordered: Vec::new(), disordered: Vec::new() };
        let mut last = Vec::new();
        let segments = std::mem::take(&mut *self.segments.lock());
        for segment in segments.into_values() {
            let mut segment = segment.lock();
            self.empty(&mut segment)?;
            let extents = std::mem::take(&mut segment.extents);
            if extents.is_empty() {
                continue;
            }
            let run = Run { file: Arc::clone(&self.file), extents };
            if segment.disordered {
                spooling.disordered.push(run);
                continue;
            }
            match spooling.ordered.last_mut() {
                Some(chain) if last <= segment.first => chain.extents.extend(run.extents),
                _ => spooling.ordered.push(run),
            }
            last = std::mem::take(&mut segment.last);
        }
        Ok(spooling)
    }
}
