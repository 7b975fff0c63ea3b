//! Sorting what was not listed in byte order, in bounded memory: sorted runs on disk, to be merged.

use crate::spooled::{Extent, Run, RunReader, key_of};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

/// Encoded entries sorted at a time; their index needs about a sixth of it again.
const RUN_BYTES: usize = 32 * 1024 * 1024;
const READ_BYTES: usize = 1024 * 1024;

/// Sorts all entries of `runs` by key into runs in `file`. Equal keys stay in the order they have.
pub(crate) fn sort(runs: Vec<Run>, file: File) -> io::Result<Vec<Run>> {
    sort_in_runs_of(RUN_BYTES, runs, file)
}

fn sort_in_runs_of(run_bytes: usize, runs: Vec<Run>, file: File) -> io::Result<Vec<Run>> {
    let mut sorter = Sorter {
        out: BufWriter::with_capacity(READ_BYTES, file),
        written: 0,
        entries: Vec::new(),
        places: Vec::new(),
        extents: Vec::new(),
    };
    for run in runs {
        let mut reader = RunReader::new(run, READ_BYTES);
        while reader.advance()? {
            let encoded = reader.encoded();
            if !sorter.places.is_empty() && sorter.entries.len() + encoded.len() > run_bytes {
                sorter.write_run()?;
            }
            sorter.places.push((sorter.entries.len(), encoded.len()));
            sorter.entries.extend(encoded);
        }
    }
    sorter.write_run()?;
    let file = Arc::new(sorter.out.into_inner().map_err(io::IntoInnerError::into_error)?);
    let run = |extent| Run { file: Arc::clone(&file), extents: vec![extent] };
    Ok(sorter.extents.into_iter().map(run).collect())
}

struct Sorter {
    out: BufWriter<File>,
    written: u64,
    entries: Vec<u8>,
    /// Offset and length of each entry in `entries`.
    places: Vec<(usize, usize)>,
    extents: Vec<Extent>,
}

impl Sorter {
    fn write_run(&mut self) -> io::Result<()> {
        let entry = |&(at, bytes): &(usize, usize)| &self.entries[at..at + bytes];
        // Stable, and quick on what is nearly sorted, as a listing folder by folder is.
        self.places.sort_by(|a, b| key_of(entry(a)).cmp(key_of(entry(b))));
        for place in &self.places {
            self.out.write_all(entry(place))?;
        }
        let bytes = self.entries.len() as u64;
        self.extents.push(Extent { offset: self.written, bytes });
        self.written += bytes;
        self.entries.clear();
        self.places.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::NewEntry;
    use crate::merge::Merge;
    use crate::spool::Spool;

    #[test]
    fn many_small_runs_merge_into_one_order() {
        let spool = Spool::new(tempfile::tempfile().unwrap());
        let mut random = fastrand::Rng::with_seed(7);
        let mut keys: Vec<String> = (0..5000).map(|i| format!("{i:05}")).collect();
        random.shuffle(&mut keys);
        for page in keys.chunks(97) {
            let entries: Vec<_> = page.iter().map(|key| entry(key)).collect();
            spool.push(0, &entries).unwrap();
        }
        let spooling = spool.finish().unwrap();
        assert!(spooling.ordered.is_empty());
        let runs = sort_in_runs_of(1000, spooling.disordered, tempfile::tempfile().unwrap()).unwrap();
        assert!(runs.len() > 100);
        let mut merge = Merge::new(runs);
        keys.sort();
        for key in &keys {
            let next = merge.next().unwrap().unwrap();
            assert_eq!(next.key, key.as_bytes());
        }
        assert!(merge.next().unwrap().is_none());
    }

    fn entry(key: &str) -> NewEntry<'_> {
        NewEntry { key, size: 1, mtime_ns: 2, etag: "\"e\"", version: Some("v"), archived: false }
    }
}
