//! A bound on what many loads hold together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Steps that several loads may hold together.
pub struct Room {
    left: AtomicUsize,
}

impl Room {
    /// For so many steps.
    pub fn new(steps: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(steps) })
    }
}

/// A part of the room, given back when it is dropped.
pub(crate) struct Taken {
    room: Arc<Room>,
    steps: usize,
}

impl Taken {
    pub(crate) fn nothing(room: &Arc<Room>) -> Self {
        Self { room: Arc::clone(room), steps: 0 }
    }

    /// Takes more; false, and nothing is taken, where there is no room.
    pub(crate) fn more(&mut self, steps: usize) -> bool {
        let taken = self.room.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(steps)).is_ok();
        self.steps += if taken { steps } else { 0 };
        taken
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.left.fetch_add(self.steps, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_makes_room_again() {
        let room = Room::new(3);
        let mut first = Taken::nothing(&room);
        let mut second = Taken::nothing(&room);
        assert!(first.more(2) && !second.more(2) && second.more(1) && !first.more(1));
        drop(first);
        assert!(second.more(2) && !second.more(1));
    }
}
