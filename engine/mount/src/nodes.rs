//! The files that the kernel has open, or reads, through the node: their objects, kept while in use.

use headrace_cache::Hold;
use headrace_fetch::Object;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

struct Node {
    object: Arc<Object>,
    opens: u32,
    /// Keeps the cache file among the last to be evicted.
    _hold: Option<Hold>,
}

/// By node id. After a take-over a file may be read that was opened before: it enters with no opens and leaves with the kernel's FORGET.
#[derive(Default)]
pub(crate) struct Nodes(Mutex<HashMap<u64, Node>>);

/// Files read without a known open (after a take-over) that are remembered at most.
const UNOPENED_MAX: usize = 4096;

impl Nodes {
    pub(crate) fn get(&self, node: u64) -> Option<Arc<Object>> {
        self.0.lock().get(&node).map(|n| Arc::clone(&n.object))
    }

    /// As `enter`, without a look at the disk: for small files, which cost next to nothing to fetch again.
    pub(crate) fn enter_small(&self, node: u64, object: &Arc<Object>) {
        self.add(node, object, 1, None);
    }

    pub(crate) fn enter(&self, node: u64, object: &Arc<Object>, opens: u32) {
        // Opening the cache file may touch the disk: before the lock.
        let hold = object.cache_file().map(|f| f.hold());
        self.add(node, object, opens, hold);
    }

    fn add(&self, node: u64, object: &Arc<Object>, opens: u32, hold: Option<Hold>) {
        let mut nodes = self.0.lock();
        if nodes.len() > UNOPENED_MAX {
            nodes.retain(|_, n| n.opens > 0);
        }
        let entry = nodes.entry(node).or_insert_with(|| Node { object: Arc::clone(object), opens: 0, _hold: hold });
        entry.opens += opens;
    }

    pub(crate) fn leave(&self, node: u64) {
        let mut nodes = self.0.lock();
        let Some(entry) = nodes.get_mut(&node) else { return };
        entry.opens = entry.opens.saturating_sub(1);
        if entry.opens == 0 {
            let gone = nodes.remove(&node);
            drop(nodes);
            drop(gone);
        }
    }

    pub(crate) fn forget(&self, node: u64) {
        let mut nodes = self.0.lock();
        if nodes.get(&node).is_some_and(|n| n.opens == 0) {
            let gone = nodes.remove(&node);
            drop(nodes);
            drop(gone);
        }
    }
}
