//! Small files that are opened one after the other, as the snapshot lists them: what comes next is fetched ahead.
//!
//! A program that reads a directory of small files waits for a round trip at each of them; nothing within a file tells what
//! it will ask for next, but the order does. A run of opens is found by place, not by who opens: several programs, or
//! threads of one, may share it. Its depth starts small with the second file and doubles as the run goes on, so that a wrong
//! guess costs as little as what was right before it was worth.

use crate::mount::Mount;
use crate::node_id::NodeId;
use headrace_snapshot::{EntryId, EntryKind};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;

/// Larger files are streams of their own.
pub(crate) const SMALL_FILE: u64 = 256 * 1024;
/// A run may skip so many entries (files of another kind, directories), or come back by as many.
const SLACK: u32 = 8;
const FIRST_DEPTH: u32 = 4;
const DEPTH_MAX: u32 = 64;
/// Runs remembered; the one unused for longest goes.
const RUNS: usize = 8;

struct Run {
    slot: u16,
    /// One past the furthest file opened.
    next: u32,
    /// Asked for up to here.
    planned: u32,
    /// How many entries ahead to ask for; 0 for a single file.
    depth: u32,
    /// Opens since the depth last grew.
    progress: u32,
    used: u64,
}

#[derive(Default)]
struct Runs {
    runs: Vec<Run>,
    clock: u64,
}

/// The runs of one mount.
#[derive(Default)]
pub(crate) struct Siblings(Mutex<Runs>);

impl Siblings {
    /// Notes that a small file was opened, and says which entries to fetch ahead: none for a file that continues no run.
    fn note(&self, slot: u16, entry: u32) -> Range<u32> {
        let mut state = self.0.lock();
        state.clock += 1;
        let clock = state.clock;
        let found = state.runs.iter().position(|run| run.slot == slot && entry.abs_diff(run.next) <= SLACK);
        let Some(index) = found else {
            state.begin(Run { slot, next: entry + 1, planned: entry + 1, depth: 0, progress: 0, used: clock });
            return 0..0;
        };
        let run = &mut state.runs[index];
        run.used = clock;
        if entry < run.next {
            return 0..0;
        }
        run.next = entry + 1;
        run.progress += 1;
        if run.depth == 0 {
            run.depth = FIRST_DEPTH;
        } else if run.progress * 2 >= run.depth {
            run.progress = 0;
            run.depth = (run.depth * 2).min(DEPTH_MAX);
        }
        let from = run.planned.max(run.next);
        let to = run.next.saturating_add(run.depth);
        run.planned = run.planned.max(to);
        from..to.max(from)
    }
}

impl Runs {
    fn begin(&mut self, run: Run) {
        if self.runs.len() < RUNS {
            return self.runs.push(run);
        }
        if let Some(oldest) = self.runs.iter_mut().min_by_key(|run| run.used) {
            *oldest = run;
        }
    }
}

impl Mount {
    /// Fetches what is likely to be opened after a small file.
    pub(crate) fn look_beyond(self: &Arc<Self>, node: NodeId) {
        let ahead = self.siblings.note(node.slot, node.entry.0);
        if ahead.is_empty() {
            return;
        }
        // Looking what is cached already touches the disk.
        let mount = Arc::clone(self);
        self.pool.run(move || ahead.for_each(|entry| mount.fetch_sibling(NodeId { entry: EntryId(entry), copy: 0, ..node })));
    }

    fn fetch_sibling(&self, node: NodeId) {
        let Some(snapshot) = self.snapshot(node.slot) else { return };
        let small = snapshot.entry(node.entry).is_some_and(|e| e.kind == EntryKind::File && e.size <= SMALL_FILE && !e.archived);
        if small && let Some(object) = self.resolve(node) {
            object.fetch_ahead();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_fetched_ahead_further_and_further_and_nothing_twice() {
        let siblings = Siblings::default();
        let mut planned = 100;
        let mut furthest = 0;
        for entry in 100..400 {
            let ahead = siblings.note(1, entry);
            if !ahead.is_empty() {
                assert!(ahead.start >= planned, "{ahead:?} after {planned}");
                planned = ahead.end;
                furthest = furthest.max(ahead.end - entry);
            }
        }
        assert_eq!(furthest, DEPTH_MAX + 1);
    }

    #[test]
    fn single_files_and_files_in_any_order_cost_nothing() {
        let siblings = Siblings::default();
        for step in 0..1000u32 {
            let entry = step.wrapping_mul(2_654_435_761) % 100_000;
            assert!(siblings.note(1, entry).is_empty(), "{entry}");
        }
    }

    #[test]
    fn files_of_two_snapshots_are_no_run() {
        let siblings = Siblings::default();
        assert!(siblings.note(1, 7).is_empty());
        assert!(siblings.note(2, 8).is_empty());
        assert_eq!(siblings.note(1, 8), 9..13);
    }

    #[test]
    fn several_runs_go_on_side_by_side() {
        let siblings = Siblings::default();
        let steps = || (0..20).flat_map(|step| [step, 1000 + step, 2000 + step]);
        let asked: u32 = steps().map(|entry| siblings.note(1, entry).len() as u32).sum();
        assert!(asked >= 3 * 19, "{asked}");
    }
}
