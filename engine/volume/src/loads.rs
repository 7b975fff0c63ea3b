//! The loads of a volume: one for each directory that large files are read from.

use crate::Volume;
use headrace_fetch::{Directory, Load, Object, ObjectSpec, Order};
use headrace_snapshot::Snapshot;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// Smaller files are not worth a place in an order: they are fetched whole.
const LEARNED_FROM: u64 = 1024 * 1024;
/// Directories learned from at a time; the one unused for longest is forgotten.
const DIRECTORIES_MAX: usize = 256;

/// A directory of a volume, as its load finds files in it.
struct Place {
    volume: Weak<Volume>,
    directory: String,
    /// The list by which files are found: that of whoever opened a file last.
    snapshot: Mutex<Weak<Snapshot>>,
}

impl Directory for Place {
    fn file(&self, name: &str, size: u64) -> Option<Arc<Object>> {
        let volume = self.volume.upgrade()?;
        let snapshot = self.snapshot.lock().upgrade()?;
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
#[derive(Default)]
pub struct Loads(Mutex<State>);

impl Volume {
    /// The load that a file belongs to and its name there; `None` for a small one.
    pub(crate) fn load(self: &Arc<Self>, snapshot: &Arc<Snapshot>, spec: &ObjectSpec) -> Option<(Arc<Load>, String)> {
        if spec.size < LEARNED_FROM {
            return None;
        }
        let (directory, name) = spec.key.rsplit_once('/').unwrap_or(("", &spec.key));
        let (load, place) = self.known(directory);
        let mut held = place.snapshot.lock();
        if !std::ptr::eq(held.as_ptr(), Arc::as_ptr(snapshot)) {
            *held = Arc::downgrade(snapshot);
        }
        Some((load, name.to_owned()))
    }

    /// Has the next load of a directory go by an earlier one.
    pub fn follow(self: &Arc<Self>, directory: &str, order: &Order) {
        self.known(directory).0.follow(order);
    }

    /// The orders that have grown since they were last asked for, by directory.
    pub fn orders(&self) -> Vec<(String, Order)> {
        let state = self.loads.0.lock();
        state.known.iter().filter_map(|(directory, known)| Some((directory.clone(), known.load.order()?))).collect()
    }

    fn known(self: &Arc<Self>, directory: &str) -> (Arc<Load>, Arc<Place>) {
        let mut state = self.loads.0.lock();
        state.clock += 1;
        let clock = state.clock;
        if !state.known.contains_key(directory) {
            state.make_room();
            let (volume, directory) = (Arc::downgrade(self), directory.to_owned());
            let place = Arc::new(Place { volume, directory: directory.clone(), snapshot: Mutex::default() });
            let load = Arc::new(Load::new(place.clone()));
            state.known.insert(directory, Known { load, place, used: clock });
        }
        let known = state.known.get_mut(directory).expect("it was there or was put there");
        known.used = clock;
        (Arc::clone(&known.load), Arc::clone(&known.place))
    }
}

impl State {
    fn make_room(&mut self) {
        if self.known.len() < DIRECTORIES_MAX {
            return;
        }
        let oldest = self.known.iter().min_by_key(|(_, known)| known.used).map(|(directory, _)| directory.clone());
        if let Some(oldest) = oldest {
            self.known.remove(&oldest);
        }
    }
}
