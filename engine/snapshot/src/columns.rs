//! Reading records, names and children out of the sections' bytes, whatever they are.
//!
//! Everything that follows an offset checks it; what does not fit is absent. An entry's parent has a smaller id
//! and a child a larger one, so no walk can go in circles.

use crate::entry::EntryId;
use crate::layout::u32_at;
use crate::record::{Body, RECORD_BYTES, Record};

/// Two sections that tell what an entry is.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    pub(crate) records: &'a [u8],
    pub(crate) text: &'a [u8],
}

impl<'a> Columns<'a> {
    pub(crate) fn record(&self, id: u32) -> Option<Record> {
        let begin = (id as usize).checked_mul(RECORD_BYTES)?;
        let bytes = self.records.get(begin..begin.checked_add(RECORD_BYTES)?)?;
        bytes.try_into().ok().map(Record::decode)
    }

    /// `bytes` of text, `skip` bytes after where the entry's text begins.
    pub(crate) fn text(&self, record: &Record, skip: usize, bytes: usize) -> Option<&'a [u8]> {
        let begin = usize::try_from(record.text).ok()?.checked_add(skip)?;
        self.text.get(begin..begin.checked_add(bytes)?)
    }

    pub(crate) fn name(&self, record: &Record) -> Option<&'a [u8]> {
        self.text(record, 0, record.name_bytes.into())
    }

    pub(crate) fn name_of(&self, id: u32) -> Option<&'a [u8]> {
        self.name(&self.record(id)?)
    }

    /// Path of an entry; empty for the root and for an id without a record.
    pub(crate) fn path(&self, id: u32) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = id;
        while at != 0 {
            let Some(record) = self.record(at) else { break };
            names.push(self.name(&record).unwrap_or_default());
            if record.parent >= at {
                break;
            }
            at = record.parent;
        }
        names.reverse();
        names.join(&b'/')
    }
}

/// The children of a directory, sorted by the bytes of their names.
#[derive(Clone, Copy)]
pub struct Children<'a> {
    /// Little-endian u32 ids.
    ids: &'a [u8],
    directory: u32,
}

impl<'a> Children<'a> {
    /// All ids of `ids`.
    pub(crate) fn in_directory(directory: u32, ids: &'a [u8]) -> Self {
        Children { ids, directory }
    }

    /// Those of a directory's record; none for a file.
    pub(crate) fn of(record: Option<&Record>, directory: u32, section: &'a [u8]) -> Self {
        let ids = match record.map(|r| r.body) {
            Some(Body::Directory { first_child, children }) => usize::try_from(first_child)
                .ok()
                .and_then(|first| first.checked_mul(4))
                .and_then(|begin| section.get(begin..begin.checked_add(children as usize * 4)?)),
            _ => None,
        };
        Self::in_directory(directory, ids.unwrap_or_default())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ids.len() / 4
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The child at `index` in the order of names; `None` at the end.
    pub fn get(&self, index: usize) -> Option<EntryId> {
        let id = u32_at(self.ids, index.checked_mul(4)?)?;
        (id > self.directory).then_some(EntryId(id))
    }

    /// All of them in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = EntryId> + use<'a> {
        let children = *self;
        (0..children.len()).filter_map(move |index| children.get(index))
    }
}
