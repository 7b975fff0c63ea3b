//! A volume as the doors see it: entries of a snapshot become objects of the engine.
//!
//! Every door (mount, SDK, hand-out) and every maintenance command turns a path into bytes in this one place.

mod loads;

pub use loads::Loads;

use headrace_cache::ObjectIdentity;
use headrace_fetch::{Fetcher, Object, ObjectSpec, Source};
use headrace_snapshot::{EntryId, EntryKind, Snapshot};
use std::sync::Arc;

/// An origin with the right to read it, and the engine that brings its bytes.
pub struct Volume {
    /// Name of the origin within the node; objects of different origins never share a right.
    pub origin: String,
    /// Normalised endpoint, part of every object's identity.
    pub endpoint: String,
    /// Bucket.
    pub bucket: String,
    /// Where missing bytes come from.
    pub source: Arc<dyn Source>,
    /// The engine.
    pub fetcher: Arc<Fetcher>,
    /// What is learned of its directories.
    pub loads: Loads,
}

impl Volume {
    /// The object behind a file of `snapshot`; `None` when `entry` is not a file.
    pub fn object(self: &Arc<Self>, snapshot: &Arc<Snapshot>, entry: EntryId) -> Option<Arc<Object>> {
        let (identity, spec) = self.describe(snapshot, entry)?;
        let load = self.load(snapshot, &spec);
        let load = load.as_ref().map(|(load, name)| (load, name.as_str()));
        Some(self.fetcher.object(&self.origin, identity, &self.source, spec, load))
    }

    /// The name in the cache of a file of `snapshot`; `None` when `entry` is not a file.
    pub fn identity(&self, snapshot: &Snapshot, entry: EntryId) -> Option<ObjectIdentity> {
        self.describe(snapshot, entry).map(|(identity, _)| identity)
    }

    fn describe(&self, snapshot: &Snapshot, entry: EntryId) -> Option<(ObjectIdentity, ObjectSpec)> {
        let listed = snapshot.entry(entry)?;
        if listed.kind != EntryKind::File {
            return None;
        }
        let key = format!("{}{}", snapshot.header().prefix, snapshot.path(entry));
        // Version "null" pins nothing: the ETag does.
        let version = listed.version.filter(|v| *v != "null").map(str::to_owned);
        let etag = listed.etag.to_owned();
        let identity = ObjectIdentity {
            endpoint: self.endpoint.clone(),
            bucket: self.bucket.clone(),
            key: key.clone(),
            pin: version.clone().unwrap_or_else(|| etag.clone()),
            size: listed.size,
        };
        let spec = ObjectSpec { key, size: listed.size, etag, version, archived: listed.archived };
        Some((identity, spec))
    }
}

/// Every file at or under the given paths of a snapshot ("" is the root), each once, in the order given.
/// Paths that don't exist are returned in the second list.
pub fn select(snapshot: &Snapshot, paths: &[String]) -> (Vec<EntryId>, Vec<String>) {
    if paths.is_empty() {
        return (snapshot.files().collect(), Vec::new());
    }
    let mut files = Vec::new();
    let mut absent = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for path in paths {
        match snapshot.find(path.trim_matches('/')) {
            Some(entry) => walk(snapshot, entry, &mut |file| {
                if seen.insert(file.0) {
                    files.push(file);
                }
            }),
            None => absent.push(path.clone()),
        }
    }
    (files, absent)
}

fn walk(snapshot: &Snapshot, top: EntryId, visit: &mut impl FnMut(EntryId)) {
    if snapshot.entry(top).is_some_and(|entry| entry.kind == EntryKind::File) {
        return visit(top);
    }
    let mut open = vec![snapshot.members(top)];
    while let Some(directory) = open.last_mut() {
        match directory.next() {
            Some((file, entry)) if entry.kind == EntryKind::File => visit(file),
            Some((below, _)) => open.push(snapshot.members(below)),
            None => drop(open.pop()),
        }
    }
}
