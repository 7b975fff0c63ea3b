//! A load as a whole: which parts of a directory's files its readers ask for, in which order, and what comes next by an earlier one.
//!
//! Loaders take tensors in an order of their own, across the files of a model, and it is the same each time. So it is recorded:
//! every byte once, when it is first asked for. The next cold load is compared with it: laid end to end (a tape), the parts are
//! a file that is read from its start to its end, and the streams of [`crate::stream`] tell how far ahead to fetch. A load that
//! goes another way shows as random access to the tape, which asks for nothing; if it goes on like that, the tape is put away.
//!
//! The same books tell what prefetch was good for: which chunks were asked for ahead of readers, and which of these a reader wanted.

use crate::Object;
use crate::counters::FetchCounters;
use crate::order::{FILES_MAX, Order, STEPS_MAX, Step, Tape};
use crate::stream::Streams;
use headrace_cache::CHUNK;
use headrace_sync::Mutex;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A read that goes on where a step ended that one of so many last reads belongs to, or ends where it begins, belongs to it too: the
/// requests of one reader overtake each other, and several readers take turns.
const RECENT: usize = 8;
/// Places on the tape where reading may begin anew before it is asked whether the load follows it at all.
const PATIENCE: u64 = 16;

/// Finds the files of a directory: those of a tape that nobody has opened yet.
pub trait Directory: Send + Sync {
    /// The file of that name and size; `None` when there is none. May wait for the disk.
    fn file(&self, name: &str, size: u64) -> Option<Arc<Object>>;
}

/// A set of a file's chunks.
#[derive(Default)]
struct Chunks(Vec<u64>);

impl Chunks {
    fn has(&self, chunk: u64) -> bool {
        usize::try_from(chunk / 64).is_ok_and(|word| self.0.get(word).is_some_and(|bits| bits >> (chunk % 64) & 1 == 1))
    }

    /// Takes the chunks of a range in; gives those that were not there, as ranges of bytes.
    fn add(&mut self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut fresh: Vec<Range<u64>> = Vec::new();
        for chunk in range.start / CHUNK..range.end.div_ceil(CHUNK) {
            if self.has(chunk) {
                continue;
            }
            let Ok(word) = usize::try_from(chunk / 64) else { break };
            if self.0.len() <= word {
                self.0.resize(word + 1, 0);
            }
            self.0[word] |= 1 << (chunk % 64);
            let bytes = chunk * CHUNK..(chunk + 1) * CHUNK;
            match fresh.last_mut() {
                Some(last) if last.end == bytes.start => last.end = bytes.end,
                _ => fresh.push(bytes),
            }
        }
        fresh
    }
}

struct File {
    name: String,
    size: u64,
    /// What readers have asked for.
    wanted: Chunks,
    /// What was asked for ahead of them.
    ahead: Chunks,
}

impl File {
    /// Notes what a reader asks for; gives what none had asked for before.
    fn want(&mut self, range: &Range<u64>) -> Vec<Range<u64>> {
        let size = self.size;
        self.wanted.add(range).into_iter().map(|part| part.start..part.end.min(size)).collect()
    }

    /// Bytes of a range that were asked for ahead of readers.
    fn fetched_ahead(&self, range: &Range<u64>) -> u64 {
        let chunks = (range.start / CHUNK..range.end.div_ceil(CHUNK)).filter(|&chunk| self.ahead.has(chunk));
        chunks.map(|chunk| CHUNK.min(self.size - chunk * CHUNK)).sum()
    }
}

struct Following {
    tape: Tape,
    streams: Streams,
    /// Steps that a reader came to, each once, and how many of them by another way than along the tape.
    reached: u64,
    begun: u64,
    seen: Vec<bool>,
}

#[derive(Default)]
struct State {
    files: Vec<File>,
    by_name: HashMap<String, u32>,
    steps: Vec<Step>,
    /// The steps that the last reads belong to, the latest last.
    recent: VecDeque<usize>,
    /// Steps were added since [`Load::order`] was last asked.
    grown: bool,
    following: Option<Following>,
}

/// The loads of one directory since it was first opened.
pub struct Load {
    directory: Arc<dyn Directory>,
    state: Mutex<State>,
}

impl Load {
    /// Nothing recorded, nothing to follow.
    pub fn new(directory: Arc<dyn Directory>) -> Self {
        Self { directory, state: Mutex::default() }
    }

    /// The number of a file; `None` when there are too many.
    pub(crate) fn number(&self, name: &str, size: u64) -> Option<u32> {
        self.state.lock().number(name, size)
    }

    /// From now on, what comes next is told by an earlier load.
    pub fn follow(&self, order: &Order) {
        let mut state = self.state.lock();
        let numbers: Vec<_> = order.files.iter().map(|(name, size)| state.number(name, *size)).collect();
        let known = order.steps.iter().filter_map(|step| {
            let file = numbers.get(step.file as usize).copied().flatten()?;
            let end = step.range.end.min(state.files[file as usize].size);
            Some(Step { file, range: step.range.start.min(end)..end })
        });
        let tape = Tape::new(known);
        let seen = vec![false; order.steps.len()];
        state.following = Some(Following { tape, streams: Streams::default(), reached: 0, begun: 0, seen });
    }

    /// What was asked for so far, in order; `None` when nothing has come since it was last asked.
    pub fn order(&self) -> Option<Order> {
        let mut state = self.state.lock();
        if !std::mem::take(&mut state.grown) {
            return None;
        }
        let files = state.files.iter().map(|file| (file.name.clone(), file.size)).collect();
        Some(Order { files, steps: state.steps.clone() })
    }

    /// Notes what a reader asks for. Where it follows an earlier load, tells what to fetch ahead of it (maybe nothing); `None` where
    /// the file alone must tell. `budget` (bytes) is shared by the places that are read.
    pub(crate) fn note(&self, file: u32, range: &Range<u64>, budget: impl Fn(u64) -> u64, counters: &FetchCounters) -> Option<Vec<Step>> {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.record(file, range, counters);
        let following = state.following.as_mut()?;
        let ahead = following.note(file, range, budget);
        if following.is_useless() {
            state.following = None;
            return None;
        }
        ahead
    }

    /// Notes what is fetched ahead of readers.
    pub(crate) fn note_ahead(&self, file: u32, range: &Range<u64>, counters: &FetchCounters) {
        let mut state = self.state.lock();
        if let Some(file) = state.files.get_mut(file as usize) {
            let fresh: u64 = file.ahead.add(range).iter().map(|r| r.end.min(file.size) - r.start).sum();
            counters.prefetched_bytes.fetch_add(fresh, Relaxed);
        }
    }

    /// The file of a number, opened if need be. May wait for the disk.
    pub(crate) fn open(&self, file: u32) -> Option<Arc<Object>> {
        let (name, size) = self.state.lock().files.get(file as usize).map(|f| (f.name.clone(), f.size))?;
        self.directory.file(&name, size)
    }
}

impl State {
    fn number(&mut self, name: &str, size: u64) -> Option<u32> {
        if let Some(number) = self.by_name.get(name).copied() {
            let file = &mut self.files[number as usize];
            // Another version of it, of another length: what was learned of the old one is void.
            if file.size != size {
                *file = File { name: name.to_owned(), size, wanted: Chunks::default(), ahead: Chunks::default() };
                self.steps.retain(|step| step.file != number);
                self.recent.clear();
                self.following = None;
            }
            return Some(number);
        }
        if self.files.len() == FILES_MAX {
            return None;
        }
        let number = u32::try_from(self.files.len()).ok()?;
        self.files.push(File { name: name.to_owned(), size, wanted: Chunks::default(), ahead: Chunks::default() });
        self.by_name.insert(name.to_owned(), number);
        Some(number)
    }

    fn append(&mut self, file: u32, range: Range<u64>) -> bool {
        let found = self.recent.iter().rev().copied().find(|&index| {
            let step = &self.steps[index];
            step.file == file && (step.range.end == range.start || step.range.start == range.end)
        });
        let index = match found {
            Some(index) => {
                let known = &mut self.steps[index].range;
                *known = known.start.min(range.start)..known.end.max(range.end);
                index
            }
            None if self.steps.len() == STEPS_MAX => return false,
            None => {
                self.steps.push(Step { file, range });
                self.steps.len() - 1
            }
        };
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(index);
        true
    }

    fn record(&mut self, number: u32, range: &Range<u64>, counters: &FetchCounters) {
        let Some(file) = self.files.get_mut(number as usize) else { return };
        let fresh = file.want(range);
        let used: u64 = fresh.iter().map(|part| file.fetched_ahead(part)).sum();
        counters.prefetched_used_bytes.fetch_add(used, Relaxed);
        for part in fresh {
            self.grown |= self.append(number, part);
        }
    }
}

impl Following {
    fn note(&mut self, file: u32, range: &Range<u64>, budget: impl Fn(u64) -> u64) -> Option<Vec<Step>> {
        let (step, place) = self.tape.find(file, range)?;
        let length = self.tape.length();
        let limit = budget(self.streams.active());
        let begun = self.streams.begun();
        let ahead = self.streams.note(&place, limit, &(0..length), length);
        if !std::mem::replace(&mut self.seen[step], true) {
            self.reached += 1;
            self.begun += self.streams.begun() - begun;
        }
        Some(self.tape.parts(&ahead))
    }

    /// True for a load that mostly goes another way.
    fn is_useless(&self) -> bool {
        self.begun > PATIENCE && self.begun * 2 > self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const TENSORS: u64 = 64;

    struct Nowhere;

    impl Directory for Nowhere {
        fn file(&self, _: &str, _: u64) -> Option<Arc<Object>> {
            None
        }
    }

    fn load() -> Load {
        let load = Load::new(Arc::new(Nowhere));
        assert_eq!(load.number("a", TENSORS * 4 * MIB), Some(0));
        assert_eq!(load.number("b", TENSORS * 4 * MIB), Some(1));
        load
    }

    /// Tensors of 4 MiB, by turns from two files, in an order that no reader would guess; each read as four requests.
    fn shuffled(seed: u64) -> impl Iterator<Item = (u32, Range<u64>)> {
        (0..2 * TENSORS).flat_map(move |turn| {
            let place = (turn * 37 + seed) % (2 * TENSORS);
            let start = place / 2 * 4 * MIB;
            (0..4).map(move |part| ((place % 2) as u32, start + part * MIB..start + (part + 1) * MIB))
        })
    }

    fn budget(_: u64) -> u64 {
        16 * MIB
    }

    #[test]
    fn a_load_that_repeats_an_order_has_everything_asked_for_ahead_once() {
        let counters = FetchCounters::default();
        let first = load();
        for (file, range) in shuffled(5) {
            assert_eq!(first.note(file, &range, budget, &counters), None);
        }
        let order = first.order().expect("something was learned");
        assert_eq!(order.steps.len() as u64, 2 * TENSORS, "requests of one tensor are one step");
        assert_eq!(first.order(), None, "and told once");

        let second = load();
        second.follow(&order);
        let (mut missed, mut asked) = (0, 0);
        let mut coming = [Chunks::default(), Chunks::default()];
        for (file, range) in shuffled(5) {
            missed += coming[file as usize].add(&range).iter().map(|r| r.end - r.start).sum::<u64>();
            for step in second.note(file, &range, budget, &counters).expect("it follows") {
                let fresh = coming[step.file as usize].add(&step.range);
                assert_eq!(fresh, std::slice::from_ref(&step.range), "nothing is asked for twice");
                asked += step.range.end - step.range.start;
                second.note_ahead(step.file, &step.range, &counters);
            }
        }
        assert!(missed <= 2 * MIB && asked >= 2 * TENSORS * 4 * MIB - 2 * MIB, "{missed} missed, {asked} asked for");
        let (ahead, used) = (counters.prefetched_bytes.load(Relaxed), counters.prefetched_used_bytes.load(Relaxed));
        assert!(ahead == asked && used == ahead, "{used} of {ahead} were wanted");
    }

    #[test]
    fn a_load_that_goes_another_way_soon_has_nothing_more_asked_for() {
        let counters = FetchCounters::default();
        let first = load();
        for (file, range) in shuffled(5) {
            first.note(file, &range, budget, &counters);
        }
        let second = load();
        second.follow(&first.order().expect("learned"));
        let mut extra = 0;
        for place in 0..TENSORS * 4 {
            let ahead = second.note(0, &(place * MIB..(place + 1) * MIB), budget, &counters).unwrap_or_default();
            extra += ahead.iter().map(|s| s.range.end - s.range.start).sum::<u64>();
        }
        assert!(extra <= 64 * MIB, "{extra}");
        assert_eq!(second.note(0, &(0..MIB), budget, &counters), None, "the order is put away");
    }

    #[test]
    fn what_was_never_asked_for_before_is_the_files_own_matter() {
        let counters = FetchCounters::default();
        let load = load();
        load.follow(&Order { files: vec![("a".into(), TENSORS * 4 * MIB)], steps: vec![Step { file: 0, range: 0..MIB }] });
        assert!(load.note(0, &(0..4096), budget, &counters).is_some());
        assert_eq!(load.note(0, &(8 * MIB..9 * MIB), budget, &counters), None);
        assert_eq!(load.note(1, &(0..4096), budget, &counters), None);
    }

    #[test]
    fn a_file_of_another_size_makes_what_was_learned_of_it_void() {
        let counters = FetchCounters::default();
        let load = load();
        load.note(0, &(0..MIB), budget, &counters);
        load.note(1, &(0..MIB), budget, &counters);
        assert_eq!(load.number("a", MIB), Some(0));
        load.note(0, &(0..CHUNK), budget, &counters);
        let order = load.order().expect("learned");
        assert_eq!(order.files[0], ("a".into(), MIB));
        assert_eq!(order.steps, [Step { file: 1, range: 0..MIB }, Step { file: 0, range: 0..CHUNK }]);
    }

    #[test]
    fn steps_beyond_the_bound_are_not_learned() {
        let counters = FetchCounters::default();
        let load = Load::new(Arc::new(Nowhere));
        load.number("a", 1 << 40);
        for step in 0..STEPS_MAX as u64 + 100 {
            load.note(0, &(step * 2 * CHUNK..step * 2 * CHUNK + CHUNK), budget, &counters);
        }
        assert_eq!(load.order().expect("learned").steps.len(), STEPS_MAX);
    }

    #[test]
    fn an_order_with_nonsense_in_it_is_harmless() {
        let counters = FetchCounters::default();
        let load = load();
        let steps = vec![
            Step { file: 9, range: 0..MIB },
            Step { file: 0, range: 0..u64::MAX },
            Step { file: 0, range: Range { start: 9, end: 3 } },
        ];
        load.follow(&Order { files: vec![("a".into(), TENSORS * 4 * MIB)], steps });
        let ahead = load.note(0, &(0..MIB), budget, &counters).expect("the file is on the tape");
        assert!(ahead.iter().all(|s| s.range.end <= TENSORS * 4 * MIB));
    }
}
