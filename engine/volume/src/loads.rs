//! The loads of a volume: one for each directory that large files are read from.

use crate::Volume;
use headrace_fetch::{Directory, Load, LoadLimits, Object, ObjectSpec, Order, Room};
use headrace_snapshot::Snapshot;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// Smaller files are not worth a place in an order: they are fetched whole.
const LEARNED_FROM: u64 = 1024 * 1024;
/// Directories learned from at a time; the one unused for longest is forgotten, once what it told has been asked for.
const DIRECTORIES_MAX: usize = 256;
/// Steps that all loads of a volume record, and as many that they go by: some 25 MB.
const STEPS_MAX: usize = 262_144;

/// A directory of a volume, as its load finds files in it that nobody has open.
struct Place {
    volume: Weak<Volume>,
    directory: String,
    /// The list by which files are found: that of whoever opened a file here last. The SDK and warm-ups open one for a moment; when it is
    /// gone, the volume's latest serves.
    snapshot: Mutex<Weak<Snapshot>>,
}

impl Directory for Place {
    fn file(&self, name: &str, size: u64) -> Option<Arc<Object>> {
        let volume = self.volume.upgrade()?;
        let own = self.snapshot.lock().upgrade();
        let snapshot = own.or_else(|| volume.loads.latest.lock().clone())?;
        let key = if self.directory.is_empty() { name.to_owned() } else { format!("{}/{name}", self.directory) };
        let entry = snapshot.find(key.strip_prefix(&snapshot.header().prefix)?)?;
        snapshot.entry(entry).filter(|listed| listed.size == size && !listed.archived)?;
        volume.object(&snapshot, entry)
    }
}

struct Known {
    load: Arc<Load>,
    place: Arc<Place>,
    used: u64,
}

#[derive(Default)]
struct State {
    known: HashMap<String, Known>,
    clock: u64,
}

/// By directory: a key without its last slash; "" is the bucket's root.
pub struct Loads {
    state: Mutex<State>,
    limits: LoadLimits,
    /// The list by which a file was opened last: one for a volume, so that parts of files are found when whoever opened it has let go of it.
    latest: Mutex<Option<Arc<Snapshot>>>,
}

impl Loads {
    /// None yet. Those that do not learn go by orders that they are given, and record none.
    pub fn new(learns: bool) -> Self {
        let limits = LoadLimits { recorded: Room::new(STEPS_MAX), followed: Room::new(STEPS_MAX), learns };
        Self { state: Mutex::default(), limits, latest: Mutex::default() }
    }

    fn hold(&self, snapshot: &Arc<Snapshot>) {
        let mut latest = self.latest.lock();
        if !latest.as_ref().is_some_and(|held| Arc::ptr_eq(held, snapshot)) {
            let before = latest.replace(Arc::clone(snapshot));
            drop(latest);
            drop(before); // the last to let go of it unmaps it
        }
    }
}

impl Volume {
    /// The load that a file belongs to and its name there; `None` for a small one.
    pub(crate) fn load(self: &Arc<Self>, snapshot: &Arc<Snapshot>, spec: &ObjectSpec) -> Option<(Arc<Load>, String)> {
        if spec.size < LEARNED_FROM {
            return None;
        }
        let (directory, name) = spec.key.rsplit_once('/').unwrap_or(("", &spec.key));
        let (load, place) = self.known(directory)?;
        self.loads.hold(snapshot);
        let mut held = place.snapshot.lock();
        if !std::ptr::eq(held.as_ptr(), Arc::as_ptr(snapshot)) {
            *held = Arc::downgrade(snapshot);
        }
        Some((load, name.to_owned()))
    }

    /// Has the next load of a directory go by an earlier one, unless one is in the midst of another order. What was recorded stays.
    pub fn follow_next(self: &Arc<Self>, directory: &str, order: &Order) {
        if let Some((load, _)) = self.known(directory) {
            load.follow_next(order);
        }
    }

    /// The same at once, and in place of all that was recorded.
    pub fn follow(self: &Arc<Self>, directory: &str, order: &Order) {
        if let Some((load, _)) = self.known(directory) {
            load.reset();
            load.follow(order);
        }
    }

    /// Forgets what was learned of a directory and of all below it.
    pub fn forget(&self, directory: &str) {
        let below =
            |name: &str| directory.is_empty() || name.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let state = self.loads.state.lock();
        let loads: Vec<_> = state.known.iter().filter(|(name, _)| below(name)).map(|(_, known)| Arc::clone(&known.load)).collect();
        drop(state);
        for load in loads {
            load.reset();
        }
    }

    /// The orders that have grown since they were last asked for, by directory.
    pub fn orders(&self) -> Vec<(String, Order)> {
        let state = self.loads.state.lock();
        let known: Vec<_> = state.known.iter().map(|(directory, known)| (directory.clone(), Arc::clone(&known.load))).collect();
        drop(state); // opening a file does not wait for the copying
        known.into_iter().filter_map(|(directory, load)| Some((directory, load.order()?))).collect()
    }

    /// `None` where there are too many, and all of them have something to tell that nobody has asked for yet.
    fn known(self: &Arc<Self>, directory: &str) -> Option<(Arc<Load>, Arc<Place>)> {
        let mut state = self.loads.state.lock();
        state.clock += 1;
        let clock = state.clock;
        if !state.known.contains_key(directory) {
            if state.known.len() >= DIRECTORIES_MAX {
                state.make_room()?;
            }
            let (volume, directory) = (Arc::downgrade(self), directory.to_owned());
            let place = Arc::new(Place { volume, directory: directory.clone(), snapshot: Mutex::default() });
            let load = Arc::new(Load::new(place.clone(), self.loads.limits.clone()));
            state.known.insert(directory, Known { load, place, used: clock });
        }
        let known = state.known.get_mut(directory)?;
        known.used = clock;
        Some((Arc::clone(&known.load), Arc::clone(&known.place)))
    }
}

impl State {
    fn make_room(&mut self) -> Option<Known> {
        let told = self.known.iter().filter(|(_, known)| !known.load.has_grown());
        let oldest = told.min_by_key(|(_, known)| known.used).map(|(directory, _)| directory.clone())?;
        self.known.remove(&oldest)
    }
}
