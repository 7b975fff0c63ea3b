//! A load that goes by an earlier one: where on the tape its readers are, and what comes next.

use crate::order::{Order, Step, Tape};
use crate::ranges::overlaps;
use crate::room::{Room, Taken};
use crate::stream::Streams;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Places on the tape where reading may begin anew before it is asked whether the load follows it at all.
const PATIENCE: u64 = 16;
/// Lost stretches that are told apart in one file; what lies between the last two counts as lost with them.
const LOST_MAX: usize = 64;

/// A file of the order that is followed; nobody may have opened it yet.
struct Listed {
    name: Arc<str>,
    size: u64,
    /// What came up to be fetched and could not be had: the file's own streams are to tell there.
    lost: Vec<Range<u64>>,
}

/// A part of another file, to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    pub(crate) name: Arc<str>,
    pub(crate) size: u64,
    pub(crate) range: Range<u64>,
}

/// What an earlier load asked for next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// Of the file that was read.
    pub(crate) here: Vec<Range<u64>>,
    pub(crate) elsewhere: Vec<Elsewhere>,
    /// Something of what was read was lost: the file's own streams are to be asked too.
    pub(crate) lost: bool,
}

/// An order that is gone by.
pub(crate) struct Following {
    tape: Tape,
    files: Vec<Listed>,
    numbers: HashMap<(Arc<str>, u64), u32>,
    streams: Streams,
    /// Steps that a reader came to, each once, and how many of them by another way than along the tape.
    reached: u64,
    begun: u64,
    seen: Vec<bool>,
    _room: Taken,
}

impl Listed {
    fn has_lost(&self, range: &Range<u64>) -> bool {
        self.lost.iter().any(|lost| overlaps(lost, range))
    }

    fn lose(&mut self, range: &Range<u64>) {
        let full = self.lost.len() == LOST_MAX;
        match self.lost.last_mut() {
            Some(last) if full || last.end == range.start => *last = last.start.min(range.start)..last.end.max(range.end),
            _ => self.lost.push(range.clone()),
        }
    }
}

impl Following {
    /// `None` where there is nothing to follow, or no room for it.
    pub(crate) fn new(order: &Order, room: &Arc<Room>) -> Option<Self> {
        let tape = Tape::new(order);
        let mut room = Taken::nothing(room);
        if tape.steps() == 0 || !room.more(tape.steps()) {
            return None;
        }
        let files: Vec<_> =
            order.files.iter().map(|(name, size)| Listed { name: name.as_str().into(), size: *size, lost: Vec::new() }).collect();
        let numbers = (0..).zip(&files).map(|(number, file)| ((Arc::clone(&file.name), file.size), number)).collect();
        let seen = vec![false; tape.steps()];
        Some(Self { tape, files, numbers, streams: Streams::default(), reached: 0, begun: 0, seen, _room: room })
    }

    /// The number of a file here.
    pub(crate) fn number(&self, name: &Arc<str>, size: u64) -> Option<u32> {
        self.numbers.get(&(Arc::clone(name), size)).copied()
    }

    /// What to fetch ahead of a read; `None` where the order says nothing of it.
    pub(crate) fn note(&mut self, file: u32, range: &Range<u64>, budget: impl Fn(u64) -> u64) -> Option<Ahead> {
        let (step, place) = self.tape.find(file, range)?;
        let length = self.tape.length();
        let limit = budget(self.streams.active());
        let begun = self.streams.begun();
        let piece = self.streams.note(&place, limit, &(0..length), length);
        if !std::mem::replace(&mut self.seen[step], true) {
            self.reached += 1;
            self.begun += self.streams.begun() - begun;
        }
        let mut ahead = Ahead { lost: self.files[file as usize].has_lost(range), ..Ahead::default() };
        for Step { file: other, range } in self.tape.parts(&piece) {
            if other == file {
                ahead.here.push(range);
            } else {
                let Listed { name, size, .. } = &self.files[other as usize];
                ahead.elsewhere.push(Elsewhere { name: Arc::clone(name), size: *size, range });
            }
        }
        Some(ahead)
    }

    /// Notes that a part could not be had.
    pub(crate) fn lose(&mut self, part: &Elsewhere) {
        if let Some(number) = self.number(&part.name, part.size) {
            self.files[number as usize].lose(&part.range);
        }
    }

    /// True for a load that mostly goes another way.
    pub(crate) fn is_useless(&self) -> bool {
        self.begun > PATIENCE && self.begun * 2 > self.reached
    }

    /// True between the first step that a reader came to and the last.
    pub(crate) fn is_under_way(&self) -> bool {
        self.reached > 0 && self.reached < self.seen.len() as u64
    }
}
