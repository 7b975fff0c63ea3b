//! The order in which a load asked for the parts of its files, as it is kept, exchanged and followed.

use std::ops::Range;

/// Steps of one order; what comes after them is not learned.
pub const STEPS_MAX: usize = 65_536;
/// Files of one order.
pub const FILES_MAX: usize = 4096;

/// Bytes of one tape. Nobody has as much; a tape of imagined sizes ends here, and places on it can be reckoned with.
const LENGTH_MAX: u64 = 1 << 60;

/// A part of a file of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Index among the order's files.
    pub file: u32,
    /// Bytes of it.
    pub range: Range<u64>,
}

/// Which parts of which files a load asked for, first to last, each byte once.
///
/// A hint and nothing more: it names files by name and size, and knows no bytes. So it serves the next version of a model, and a
/// copy of it in another bucket, as long as the files are as large.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Names within the directory, and sizes in bytes.
    pub files: Vec<(String, u64)>,
    /// What was asked for.
    pub steps: Vec<Step>,
}

struct Laid {
    step: Step,
    /// Where it lies on the tape.
    at: u64,
}

/// An order laid end to end: a load that repeats it reads the tape from the start to the end, whatever it does to the files.
pub(crate) struct Tape {
    laid: Vec<Laid>,
    /// Indices of `laid` by file and start.
    by_place: Vec<usize>,
    length: u64,
}

impl Tape {
    /// Steps that are none (of no file, beyond its end, empty), and those that overlap one that begins earlier in the same file, are left out.
    pub(crate) fn new(order: &Order) -> Self {
        let mut laid: Vec<Laid> = Vec::new();
        let mut length = 0u64;
        for step in sound(order) {
            let Some(end) = length.checked_add(step.range.end - step.range.start).filter(|&end| end <= LENGTH_MAX) else { break };
            laid.push(Laid { step: step.clone(), at: length });
            length = end;
        }
        let mut by_place: Vec<usize> = (0..laid.len()).collect();
        by_place.sort_by_key(|&i| (laid[i].step.file, laid[i].step.range.start));
        Self { laid, by_place, length }
    }

    /// How many.
    pub(crate) fn steps(&self) -> usize {
        self.laid.len()
    }

    /// Bytes on it.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Where the beginning of a read lies: its step, and the bytes of the tape up to the read's or the step's end.
    pub(crate) fn find(&self, file: u32, range: &Range<u64>) -> Option<(usize, Range<u64>)> {
        let after = self.by_place.partition_point(|&i| {
            let step = &self.laid[i].step;
            (step.file, step.range.start) <= (file, range.start)
        });
        let index = self.by_place[after.checked_sub(1)?];
        let Laid { step, at } = &self.laid[index];
        if step.file != file || range.start >= step.range.end {
            return None;
        }
        let end = range.end.min(step.range.end);
        Some((index, at + (range.start - step.range.start)..at + (end - step.range.start)))
    }

    /// What lies on a piece of the tape, in its order.
    pub(crate) fn parts(&self, piece: &Range<u64>) -> Vec<Step> {
        let mut parts: Vec<Step> = Vec::new();
        if piece.is_empty() {
            return parts;
        }
        let first = self.laid.partition_point(|l| l.at + (l.step.range.end - l.step.range.start) <= piece.start);
        for Laid { step, at } in &self.laid[first..] {
            if *at >= piece.end {
                break;
            }
            let from = step.range.start + piece.start.saturating_sub(*at);
            let to = step.range.end.min(step.range.start + (piece.end - at));
            match parts.last_mut() {
                Some(last) if last.file == step.file && last.range.end == from => last.range.end = to,
                _ => parts.push(Step { file: step.file, range: from..to }),
            }
        }
        parts
    }
}

/// The steps of an order that can be gone by, in its order.
fn sound(order: &Order) -> impl Iterator<Item = &Step> {
    let fits = |step: &Step| {
        let size = order.files.get(step.file as usize).map_or(0, |(_, size)| *size);
        step.range.start < step.range.end && step.range.end <= size
    };
    let mut chosen: Vec<usize> = (0..order.steps.len()).filter(|&i| fits(&order.steps[i])).collect();
    chosen.sort_by_key(|&i| (order.steps[i].file, order.steps[i].range.start));
    chosen.dedup_by(|later, earlier| {
        let (a, b) = (&order.steps[*earlier], &order.steps[*later]);
        a.file == b.file && b.range.start < a.range.end
    });
    chosen.sort_unstable();
    chosen.into_iter().map(|i| &order.steps[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid(steps: impl Into<Vec<Step>>) -> Tape {
        let files = ["a", "b", "c"].map(|name| (name.to_owned(), 100)).into();
        Tape::new(&Order { files, steps: steps.into() })
    }

    fn step(file: u32, range: Range<u64>) -> Step {
        Step { file, range }
    }

    #[test]
    fn a_place_in_a_file_is_found_on_the_tape() {
        let tape = laid([step(0, 50..60), step(1, 0..30), step(0, 0..20)]);
        assert_eq!(tape.length(), 60);
        assert_eq!(tape.find(0, &(52..55)), Some((0, 2..5)));
        assert_eq!(tape.find(0, &(58..70)), Some((0, 8..10)));
        assert_eq!(tape.find(1, &(0..10)), Some((1, 10..20)));
        assert_eq!(tape.find(0, &(5..6)), Some((2, 45..46)));
        for nowhere in [(0, 20..21), (0, 60..61), (1, 30..31), (2, 0..1)] {
            assert_eq!(tape.find(nowhere.0, &nowhere.1), None, "{nowhere:?}");
        }
        assert_eq!(laid([]).find(0, &(0..1)), None);
    }

    #[test]
    fn a_piece_of_the_tape_is_parts_of_files_in_its_order() {
        let tape = laid([step(0, 50..60), step(1, 0..30), step(1, 30..40), step(0, 0..20)]);
        assert_eq!(tape.parts(&(5..15)), [step(0, 55..60), step(1, 0..5)]);
        assert_eq!(tape.parts(&(35..55)), [step(1, 25..40), step(0, 0..5)], "neighbours are one part");
        assert_eq!(tape.parts(&(0..1000)), [step(0, 50..60), step(1, 0..40), step(0, 0..20)]);
        assert!(tape.parts(&(70..80)).is_empty() && tape.parts(&(5..5)).is_empty());
    }

    #[test]
    fn steps_that_overlap_or_are_none_are_left_out() {
        let tape =
            laid([step(0, 10..20), step(0, 15..25), step(0, 5..5), step(1, 90..101), step(7, 0..9), step(0, Range { start: 9, end: 3 })]);
        assert_eq!((tape.steps(), tape.length()), (1, 10));
        assert_eq!(tape.find(0, &(16..17)).map(|found| found.0), Some(0));
        assert_eq!(tape.find(0, &(22..23)), None);
    }

    #[test]
    fn a_tape_of_imagined_sizes_ends_soon() {
        let files = ["a", "b", "c"].map(|name| (name.to_owned(), u64::MAX)).into();
        let steps = vec![step(0, 0..LENGTH_MAX / 2), step(1, 9..LENGTH_MAX / 2), step(2, 0..u64::MAX), step(2, 0..1)];
        assert_eq!(Tape::new(&Order { files, steps }).steps(), 2);
    }
}
