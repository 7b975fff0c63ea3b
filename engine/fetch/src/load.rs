//! A load as a whole: which parts of a directory's files its readers ask for, in which order, and what comes next by an earlier one.
//!
//! Loaders take tensors in an order of their own, across the files of a model, and it is the same each time. So it is recorded:
//! every byte once, when it is first asked for. The next cold load is compared with it: laid end to end (a tape), the parts are
//! a file that is read from its start to its end, and the streams of [`crate::stream`] tell how far ahead to fetch. A load that
//! goes another way shows as random access to the tape, which asks for nothing; if it goes on like that, the tape is put away.
//!
//! The same books tell what prefetch was good for: which chunks were asked for ahead of readers, and which of these a reader wanted.

use crate::Object;
use crate::chunks::Chunks;
use crate::counters::FetchCounters;
use crate::following::{Ahead, Elsewhere, Following};
use crate::order::{FILES_MAX, Order, STEPS_MAX, Step};
use crate::room::{Room, Taken};
use headrace_sync::Mutex;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

/// A read that goes on where a step ended that one of so many last reads belongs to, or ends where it begins, belongs to it too: the
/// requests of one reader overtake each other, and several readers take turns.
const RECENT: usize = 8;

/// Finds the files of a directory: those of a tape that nobody has opened yet.
pub trait Directory: Send + Sync {
    /// The file of that name and size; `None` when there is none. May wait for the disk.
    fn file(&self, name: &str, size: u64) -> Option<Arc<Object>>;
}

/// What the loads of a volume share.
#[derive(Clone)]
pub struct LoadLimits {
    /// Steps that they may record together.
    pub recorded: Arc<Room>,
    /// Steps of the orders that they go by, together.
    pub followed: Arc<Room>,
    /// Whether anything is recorded at all.
    pub learns: bool,
}

/// A file that was opened. One of another size is another file, whatever its name.
struct File {
    name: Arc<str>,
    size: u64,
    /// Whoever has it open, if still.
    object: Weak<Object>,
    /// What readers have asked for.
    wanted: Chunks,
    /// What was asked for ahead of them and has not been wanted since.
    ahead: Chunks,
    /// A later one of the same name has another size: what was learned of this one is void, until it is opened again.
    outdated: bool,
    /// It could not be fetched: no more is tried for a reader to come, until one reads it.
    given_up: bool,
    /// Its number in what is followed.
    followed: Option<u32>,
}

struct State {
    files: Vec<File>,
    /// Those of each name, one for each size.
    by_name: HashMap<Arc<str>, Vec<u32>>,
    steps: Vec<Step>,
    room: Taken,
    /// The steps that the last reads belong to, the latest last.
    recent: VecDeque<usize>,
    /// Steps were added since [`Load::order`] was last asked.
    grown: bool,
    following: Option<Following>,
}

/// The loads of one directory since it was first opened.
pub struct Load {
    directory: Arc<dyn Directory>,
    limits: LoadLimits,
    state: Mutex<State>,
}

impl Load {
    /// Nothing recorded, nothing to follow.
    pub fn new(directory: Arc<dyn Directory>, limits: LoadLimits) -> Self {
        let state = State::new(&limits);
        Self { directory, limits, state: Mutex::new(state) }
    }

    /// The number of a file that is opened; `None` when there are too many.
    pub(crate) fn number(&self, name: &str, size: u64, object: Weak<Object>) -> Option<u32> {
        self.state.lock().number(name, size, object)
    }

    /// From now on, what comes next is told by an earlier load.
    pub fn follow(&self, order: &Order) {
        let following = Following::new(order, &self.limits.followed);
        self.state.lock().follow(following);
    }

    /// The same, unless a load is in the midst of another order: it would lose its place.
    pub fn follow_next(&self, order: &Order) {
        let following = Following::new(order, &self.limits.followed);
        let mut state = self.state.lock();
        if !state.following.as_ref().is_some_and(Following::is_under_way) {
            state.follow(following);
        }
    }

    /// Forgets what was recorded, and what is followed. What is read again is learned again.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        state.steps = Vec::new();
        state.room = Taken::nothing(&self.limits.recorded);
        state.recent.clear();
        state.grown = false;
        state.follow(None);
        for file in &mut state.files {
            file.wanted = Chunks::default();
        }
    }

    /// What was asked for so far, in order; `None` when nothing has come since it was last asked.
    pub fn order(&self) -> Option<Order> {
        let mut state = self.state.lock();
        std::mem::take(&mut state.grown).then(|| state.order())
    }

    /// True while [`Load::order`] has something to tell.
    pub fn has_grown(&self) -> bool {
        self.state.lock().grown
    }

    /// Notes what a reader asks for. Where it follows an earlier load, tells what to fetch ahead of it (maybe nothing); `None` where
    /// the file alone must tell. `budget` (bytes) is shared by the places that are read.
    pub(crate) fn note(&self, file: u32, range: &Range<u64>, budget: impl Fn(u64) -> u64, counters: &FetchCounters) -> Option<Ahead> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if self.limits.learns {
            state.record(file, range);
        }
        let file = state.files.get_mut(file as usize)?;
        file.given_up = false;
        let used = file.ahead.take(range, file.size);
        if used > 0 {
            counters.prefetched_used_bytes.fetch_add(used, Relaxed);
        }
        let following = state.following.as_mut()?;
        let ahead = following.note(file.followed?, range, budget);
        if following.is_useless() {
            state.following = None;
            return None;
        }
        ahead
    }

    /// Notes what is fetched ahead of readers.
    pub(crate) fn note_ahead(&self, file: u32, range: &Range<u64>, counters: &FetchCounters) {
        if let Some(file) = self.state.lock().files.get_mut(file as usize) {
            // Of what was asked for before, nothing is there any more.
            let fresh = range.end.min(file.size).saturating_sub(range.start);
            file.ahead.add(range);
            counters.prefetched_bytes.fetch_add(fresh, Relaxed);
        }
    }

    /// A file to be fetched ahead of its readers, opened if need be; `None` when it can't be had. May wait for the disk.
    pub(crate) fn open(&self, part: &Elsewhere) -> Option<Arc<Object>> {
        let held = match self.state.lock().find(&part.name, part.size) {
            Some(file) if file.given_up => return None,
            Some(file) => file.object.clone(),
            None => Weak::new(),
        };
        held.upgrade().or_else(|| self.directory.file(&part.name, part.size))
    }

    /// Notes that a part could not be had: its readers are on their own.
    pub(crate) fn lose(&self, part: &Elsewhere) {
        if let Some(following) = &mut self.state.lock().following {
            following.lose(part);
        }
    }

    /// Has a file that can't be fetched left alone.
    pub(crate) fn give_up(&self, file: u32) {
        if let Some(file) = self.state.lock().files.get_mut(file as usize) {
            file.given_up = true;
        }
    }
}

impl State {
    fn new(limits: &LoadLimits) -> Self {
        Self {
            files: Vec::new(),
            by_name: HashMap::new(),
            steps: Vec::new(),
            room: Taken::nothing(&limits.recorded),
            recent: VecDeque::new(),
            grown: false,
            following: None,
        }
    }

    fn find(&self, name: &str, size: u64) -> Option<&File> {
        let number = self.by_name.get(name)?.iter().find(|&&number| self.files[number as usize].size == size)?;
        self.files.get(*number as usize)
    }

    fn number(&mut self, name: &str, size: u64, object: Weak<Object>) -> Option<u32> {
        let same_name = self.by_name.get(name).cloned().unwrap_or_default();
        let known = same_name.iter().copied().find(|&number| self.files[number as usize].size == size);
        let number = match known {
            Some(number) => number,
            None => self.add(name, size)?,
        };
        for other in same_name {
            self.files[other as usize].outdated = true;
        }
        let file = &mut self.files[number as usize];
        file.outdated = false;
        file.object = object;
        Some(number)
    }

    fn add(&mut self, name: &str, size: u64) -> Option<u32> {
        if self.files.len() == FILES_MAX {
            return None;
        }
        let number = u32::try_from(self.files.len()).ok()?;
        let name: Arc<str> = name.into();
        let followed = self.following.as_ref().and_then(|following| following.number(&name, size));
        self.by_name.entry(Arc::clone(&name)).or_default().push(number);
        self.files.push(File {
            name,
            size,
            object: Weak::new(),
            wanted: Chunks::default(),
            ahead: Chunks::default(),
            outdated: false,
            given_up: false,
            followed,
        });
        Some(number)
    }

    fn follow(&mut self, following: Option<Following>) {
        for file in &mut self.files {
            file.followed = following.as_ref().and_then(|following| following.number(&file.name, file.size));
        }
        self.following = following;
    }

    /// Files that no step refers to are left out, and what is void.
    fn order(&self) -> Order {
        let mut files = Vec::new();
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        let mut steps = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let file = &self.files[step.file as usize];
            if file.outdated {
                continue;
            }
            let number = *numbers.entry(step.file).or_insert_with(|| {
                files.push((file.name.to_string(), file.size));
                u32::try_from(files.len() - 1).expect("there are at most FILES_MAX")
            });
            steps.push(Step { file: number, range: step.range.clone() });
        }
        Order { files, steps }
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
            None if self.steps.len() == STEPS_MAX || !self.room.more(1) => return false,
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

    fn record(&mut self, number: u32, range: &Range<u64>) {
        let Some(file) = self.files.get_mut(number as usize) else { return };
        let size = file.size;
        for part in file.wanted.add(range) {
            self.grown |= self.append(number, part.start..part.end.min(size));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headrace_cache::CHUNK;

    const MIB: u64 = 1 << 20;
    const TENSORS: u64 = 64;

    struct Nowhere;

    impl Directory for Nowhere {
        fn file(&self, _: &str, _: u64) -> Option<Arc<Object>> {
            None
        }
    }

    fn empty() -> Load {
        Load::new(Arc::new(Nowhere), LoadLimits { recorded: Room::new(STEPS_MAX), followed: Room::new(STEPS_MAX), learns: true })
    }

    fn number(load: &Load, name: &str, size: u64) -> Option<u32> {
        load.number(name, size, Weak::new())
    }

    fn load() -> Load {
        let load = empty();
        assert_eq!(number(&load, "a", TENSORS * 4 * MIB), Some(0));
        assert_eq!(number(&load, "b", TENSORS * 4 * MIB), Some(1));
        load
    }

    /// What is asked for ahead, by the numbers of [`load`].
    fn ahead_of(load: &Load, file: u32, range: &Range<u64>, counters: &FetchCounters) -> Option<Vec<Step>> {
        let ahead = load.note(file, range, budget, counters)?;
        let here = ahead.here.into_iter().map(|range| Step { file, range });
        let elsewhere = ahead.elsewhere.into_iter().map(|part| Step { file: u32::from(&*part.name == "b"), range: part.range });
        Some(here.chain(elsewhere).collect())
    }

    /// Of the files of [`load`].
    fn order(steps: &[(u32, Range<u64>)]) -> Order {
        let files = ["a", "b"].map(|name| (name.to_owned(), TENSORS * 4 * MIB)).into();
        Order { files, steps: steps.iter().cloned().map(|(file, range)| Step { file, range }).collect() }
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
            assert_eq!(ahead_of(&first, file, &range, &counters), None);
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
            for step in ahead_of(&second, file, &range, &counters).expect("it follows") {
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
            let ahead = ahead_of(&second, 0, &(place * MIB..(place + 1) * MIB), &counters).unwrap_or_default();
            extra += ahead.iter().map(|s| s.range.end - s.range.start).sum::<u64>();
        }
        assert!(extra <= 64 * MIB, "{extra}");
        assert_eq!(second.note(0, &(0..MIB), budget, &counters), None, "the order is put away");
    }

    #[test]
    fn what_was_never_asked_for_before_is_the_files_own_matter() {
        let counters = FetchCounters::default();
        let load = load();
        load.follow(&order(&[(0, 0..MIB)]));
        assert!(load.note(0, &(0..4096), budget, &counters).is_some());
        assert_eq!(load.note(0, &(8 * MIB..9 * MIB), budget, &counters), None);
        assert_eq!(load.note(1, &(0..4096), budget, &counters), None);
    }

    #[test]
    fn a_file_of_another_size_is_another_file() {
        let counters = FetchCounters::default();
        let load = load();
        load.note(0, &(0..MIB), budget, &counters);
        load.note(1, &(0..MIB), budget, &counters);
        assert_eq!(number(&load, "a", MIB / 2), Some(2));
        load.note(2, &(0..CHUNK), budget, &counters);
        // Whoever has the old one open goes on with it.
        load.note(0, &(5 * MIB..6 * MIB), budget, &counters);
        load.note_ahead(0, &(8 * MIB..9 * MIB), &counters);
        assert_eq!(counters.prefetched_bytes.load(Relaxed), MIB);
        let known = load.order().expect("learned");
        assert_eq!(known.files, [("b".into(), TENSORS * 4 * MIB), ("a".into(), MIB / 2)]);
        assert_eq!(known.steps, [Step { file: 0, range: 0..MIB }, Step { file: 1, range: 0..CHUNK }]);
        // A way back makes it the one again.
        assert_eq!(number(&load, "a", TENSORS * 4 * MIB), Some(0));
        load.note(0, &(6 * MIB..7 * MIB), budget, &counters);
        let known = load.order().expect("learned");
        assert_eq!(known.files, [("a".into(), TENSORS * 4 * MIB), ("b".into(), TENSORS * 4 * MIB)]);
        assert_eq!(known.steps.last(), Some(&Step { file: 0, range: 5 * MIB..7 * MIB }));
    }

    #[test]
    fn an_order_of_other_sizes_changes_no_file() {
        let counters = FetchCounters::default();
        let load = load();
        load.note(0, &(0..MIB), budget, &counters);
        load.follow(&Order { files: vec![("a".into(), MIB)], steps: vec![Step { file: 0, range: 0..MIB }] });
        assert_eq!(load.note(0, &(2 * MIB..3 * MIB), budget, &counters), None, "it is not that file");
        load.note_ahead(0, &(TENSORS * 4 * MIB - CHUNK..TENSORS * 4 * MIB + CHUNK), &counters);
        assert_eq!(counters.prefetched_bytes.load(Relaxed), CHUNK);
        assert_eq!(load.order().expect("learned").files, [("a".into(), TENSORS * 4 * MIB)]);
    }

    #[test]
    fn what_is_asked_for_ahead_again_counts_again() {
        let counters = FetchCounters::default();
        let load = load();
        for _ in 0..2 {
            load.note_ahead(0, &(0..MIB), &counters);
            load.note(0, &(0..MIB), budget, &counters);
            load.note(0, &(0..MIB), budget, &counters);
        }
        assert_eq!(counters.prefetched_bytes.load(Relaxed), 2 * MIB);
        assert_eq!(counters.prefetched_used_bytes.load(Relaxed), 2 * MIB);
    }

    #[test]
    fn readers_of_what_was_lost_are_on_their_own() {
        let counters = FetchCounters::default();
        let load = load();
        load.follow(&order(&[(0, 0..4 * MIB), (1, 0..4 * MIB), (0, 4 * MIB..8 * MIB)]));
        let mut coming = Vec::new();
        for place in 0..3 {
            coming.extend(load.note(0, &(place * MIB..(place + 1) * MIB), budget, &counters).expect("it follows").elsewhere);
        }
        let part = coming.first().expect("the other file comes next");
        assert_eq!((&*part.name, part.size), ("b", TENSORS * 4 * MIB));
        assert!(load.open(part).is_none(), "nobody has it, and it is nowhere");
        load.lose(part);
        assert!(load.note(1, &(0..MIB), budget, &counters).expect("it follows").lost);
        assert!(!load.note(0, &(4 * MIB..5 * MIB), budget, &counters).expect("it follows").lost);
    }

    #[test]
    fn what_can_not_be_fetched_is_left_alone_until_it_is_read() {
        struct Anywhere(std::sync::atomic::AtomicU64);
        impl Directory for Anywhere {
            fn file(&self, _: &str, _: u64) -> Option<Arc<Object>> {
                self.0.fetch_add(1, Relaxed);
                None
            }
        }
        let counters = FetchCounters::default();
        let directory = Arc::new(Anywhere(Default::default()));
        let limits = LoadLimits { recorded: Room::new(9), followed: Room::new(9), learns: true };
        let load = Load::new(directory.clone(), limits);
        let part = Elsewhere { name: "a".into(), size: MIB, range: 0..MIB };
        assert_eq!(number(&load, "a", MIB), Some(0));
        load.give_up(0);
        load.open(&part);
        assert_eq!(directory.0.load(Relaxed), 0);
        load.note(0, &(0..1), budget, &counters);
        load.open(&part);
        assert_eq!(directory.0.load(Relaxed), 1);
    }

    #[test]
    fn a_load_in_the_midst_of_an_order_is_not_given_another() {
        let counters = FetchCounters::default();
        let load = load();
        load.follow_next(&order(&[(0, 0..MIB), (1, 0..MIB)]));
        load.follow_next(&order(&[(0, 0..MIB), (0, MIB..2 * MIB)]));
        assert!(load.note(0, &(MIB..2 * MIB), budget, &counters).is_some(), "nothing was read yet: the later one holds");
        load.follow_next(&order(&[(1, 0..MIB)]));
        assert!(load.note(0, &(0..MIB), budget, &counters).is_some());
        load.follow_next(&order(&[(1, 0..MIB)]));
        assert!(load.note(1, &(0..MIB), budget, &counters).is_some(), "all was read: the next one begins");
        load.follow(&order(&[(0, 0..MIB)]));
        assert!(load.note(0, &(0..MIB), budget, &counters).is_some(), "and one that is given holds at once");
    }

    #[test]
    fn what_is_forgotten_is_learned_again_from_what_is_read_again() {
        let counters = FetchCounters::default();
        let load = load();
        load.note(0, &(0..MIB), budget, &counters);
        load.follow(&order(&[(0, 0..MIB)]));
        load.reset();
        assert_eq!(load.order(), None);
        assert_eq!(load.note(0, &(0..CHUNK), budget, &counters), None);
        assert_eq!(load.order().expect("learned").steps, [Step { file: 0, range: 0..CHUNK }]);
    }

    #[test]
    fn orders_of_files_that_are_not_here_take_no_numbers() {
        let load = load();
        let files = (0..FILES_MAX).map(|number| (number.to_string(), MIB)).collect();
        let steps = (0..FILES_MAX as u32).map(|file| Step { file, range: 0..MIB }).collect();
        load.follow(&Order { files, steps });
        assert_eq!(number(&load, "c", MIB), Some(2));
    }

    #[test]
    fn a_load_that_does_not_learn_follows_what_it_is_given() {
        let counters = FetchCounters::default();
        let limits = LoadLimits { recorded: Room::new(9), followed: Room::new(9), learns: false };
        let load = Load::new(Arc::new(Nowhere), limits);
        number(&load, "a", TENSORS * 4 * MIB);
        load.follow(&order(&[(0, 0..4 * MIB)]));
        assert!(load.note(0, &(0..MIB), budget, &counters).is_some());
        assert_eq!(load.order(), None);
    }

    #[test]
    fn loads_share_the_room_for_steps() {
        let counters = FetchCounters::default();
        let limits = LoadLimits { recorded: Room::new(3), followed: Room::new(1), learns: true };
        let loads = [(); 2].map(|()| Load::new(Arc::new(Nowhere), limits.clone()));
        for load in &loads {
            number(load, "a", TENSORS * 4 * MIB);
            load.note(0, &(0..MIB), budget, &counters);
            load.note(0, &(2 * MIB..3 * MIB), budget, &counters);
            load.follow(&order(&[(0, 0..MIB)]));
        }
        let steps = |load: &Load| load.order().map_or(0, |order| order.steps.len());
        assert_eq!(loads.each_ref().map(steps), [2, 1]);
        assert!(loads[0].note(0, &(0..MIB), budget, &counters).is_some());
        assert!(loads[1].note(0, &(0..MIB), budget, &counters).is_none(), "there was no room");
        loads[0].reset();
        loads[1].follow(&order(&[(0, 0..MIB)]));
        assert!(loads[1].note(0, &(0..MIB), budget, &counters).is_some());
    }

    #[test]
    fn steps_beyond_the_bound_are_not_learned() {
        let counters = FetchCounters::default();
        let load = empty();
        number(&load, "a", 1 << 40);
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
        assert_eq!(load.note(0, &(0..MIB), budget, &counters), None);
        let steps = vec![Step { file: 0, range: 0..u64::MAX }, Step { file: 0, range: 0..9 * MIB }];
        load.follow(&Order { files: vec![("a".into(), TENSORS * 4 * MIB)], steps });
        assert!(load.note(0, &(0..MIB), budget, &counters).is_some(), "what makes sense is gone by");
    }
}
