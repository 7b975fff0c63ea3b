//! An object as part of a load.

use crate::Object;
use crate::counters::FetchCounters;
use crate::errands::Errands;
use crate::following::{Ahead, Elsewhere};
use crate::load::Load;
use std::ops::Range;
use std::sync::{Arc, Weak};

/// The load that an object belongs to, and its number there.
pub(crate) struct Part {
    load: Arc<Load>,
    file: u32,
}

impl Part {
    /// `None` when the load has too many files.
    pub(crate) fn of(load: &Arc<Load>, name: &str, size: u64, object: &Weak<Object>) -> Option<Self> {
        load.number(name, size, Weak::clone(object)).map(|file| Self { load: Arc::clone(load), file })
    }

    /// Notes what a reader asks for, and says what comes next if an earlier load tells. `limit` gives the largest window (bytes) of each
    /// of so many places that are read.
    pub(crate) fn note(&self, range: &Range<u64>, limit: impl Fn(u64) -> u64, counters: &FetchCounters) -> Option<Ahead> {
        self.load.note(self.file, range, limit, counters)
    }

    /// Notes what is fetched ahead of readers.
    pub(crate) fn note_ahead(&self, range: &Range<u64>, counters: &FetchCounters) {
        self.load.note_ahead(self.file, range, counters);
    }

    /// Notes that the object can't be fetched.
    pub(crate) fn give_up(&self) {
        self.load.give_up(self.file);
    }

    /// Has what comes next of other files fetched.
    pub(crate) fn send(&self, errands: &Errands, elsewhere: Vec<Elsewhere>) {
        for part in elsewhere {
            errands.push(&self.load, part);
        }
    }
}

impl Ahead {
    /// What goes on, in this object, where a read ends.
    pub(crate) fn next(&self, read: &Range<u64>) -> Range<u64> {
        self.here.first().filter(|part| part.start <= read.end).cloned().unwrap_or(read.end..read.end)
    }
}
