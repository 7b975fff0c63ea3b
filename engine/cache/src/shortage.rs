//! A directory that has no room: told once, and shown for as long as it lasts.
//!
//! Not keeping is no error, and a reader notices nothing but that everything comes from the origin again. So somebody has to be
//! told; once an episode, because each write is refused anew.

use std::fmt;
use std::time::Duration;

use crate::space::Space;
use headrace_sync::atomic::{AtomicBool, Ordering::Relaxed};
use headrace_sync::{Instant, Mutex};

/// Refusals further apart than this belong to different episodes.
const EPISODE: Duration = Duration::from_secs(60);
/// A write that succeeds so long after the last refusal shows that there is room again; small ones succeed in between.
const SETTLED: Duration = Duration::from_secs(5);
/// A disk with less room than one window of prefetch, beyond what must stay free, keeps nothing worth mentioning.
const WINDOW_BYTES: u64 = 16 * 1024 * 1024;

/// What a directory lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Free space on its file system; so much is free, and so much must stay so.
    Space { free: u64, reserve: u64 },
    /// Inodes.
    Inodes,
    /// Whatever the disk means by saying that it is full: so much is free.
    Refused { free: u64 },
    /// Room under its own limit: everything there is in use or pinned.
    Limit { limit_bytes: u64 },
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Space { free, reserve } => write!(
                f,
                "the disk is full: {free} bytes are free, of which {reserve} are to stay free (cache reserve); free some space there, or set HEADRACE_CACHE_DIR or HEADRACE_CACHE_RESERVE"
            ),
            Self::Inodes => {
                write!(f, "the file system has no inodes left; delete files there, or set HEADRACE_CACHE_DIR to one that has more")
            }
            Self::Refused { free } => write!(
                f,
                "the disk says that it is full, although {free} bytes are free: a quota, or a thin device; give it more, or set HEADRACE_CACHE_DIR"
            ),
            Self::Limit { limit_bytes } => write!(
                f,
                "everything in it is in use or pinned, and its limit of {limit_bytes} bytes is reached; raise HEADRACE_CACHE_SIZE, or unpin something"
            ),
        }
    }
}

impl Lack {
    /// By what the file system says, and whether it refused a write.
    pub fn of(space: &Space, reserve: u64, limit_bytes: u64, refused: bool) -> Self {
        if space.inodes == Some(0) {
            Self::Inodes
        } else if space.free < reserve + WINDOW_BYTES {
            Self::Space { free: space.free, reserve }
        } else if refused {
            Self::Refused { free: space.free }
        } else {
            Self::Limit { limit_bytes }
        }
    }
}

struct Episode {
    lack: Lack,
    last: Instant,
    over: bool,
}

/// Whether bytes are refused for want of room.
#[derive(Default)]
pub struct Shortage {
    episode: Mutex<Option<Episode>>,
    /// Spares every write that is kept the lock.
    open: AtomicBool,
}

impl Shortage {
    /// Notes that bytes were refused, and gives what is lacking the first time of an episode.
    pub fn note(&self, lack: impl FnOnce() -> Lack) -> Option<Lack> {
        let mut episode = self.episode.lock();
        self.open.store(true, Relaxed);
        let now = Instant::now();
        if let Some(known) = episode.as_mut()
            && now.duration_since(known.last) < EPISODE
        {
            (known.last, known.over) = (now, false);
            return None;
        }
        let lack = lack();
        *episode = Some(Episode { lack, last: now, over: false });
        Some(lack)
    }

    /// Notes that bytes were kept.
    pub fn kept(&self) {
        if !self.open.load(Relaxed) {
            return;
        }
        let mut episode = self.episode.lock();
        if let Some(known) = episode.as_mut().filter(|known| known.last.elapsed() >= SETTLED) {
            known.over = true;
            self.open.store(false, Relaxed);
        }
    }

    /// What is lacking now, given what would be found lacking: a disk without room is told until it has some.
    pub fn now(&self, found: impl FnOnce() -> Lack) -> Option<Lack> {
        let mut episode = self.episode.lock();
        let known = episode.as_mut().filter(|known| !known.over)?;
        let found = found();
        match found {
            Lack::Space { .. } | Lack::Inodes => return Some(found),
            // Nothing tells whether these last, but further refusals.
            Lack::Limit { .. } | Lack::Refused { .. } if matches!(known.lack, Lack::Limit { .. } | Lack::Refused { .. }) => {
                return (known.last.elapsed() < EPISODE).then_some(known.lack);
            }
            Lack::Limit { .. } | Lack::Refused { .. } => {}
        }
        // Somebody has made room: the next refusal is another matter.
        *episode = None;
        self.open.store(false, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Lack = Lack::Space { free: 5, reserve: 0 };
    const LIMIT: Lack = Lack::Limit { limit_bytes: 9 };

    #[test]
    fn it_is_told_once_and_shown_until_there_is_room() {
        let shortage = Shortage::default();
        assert_eq!(shortage.now(|| FULL), None, "a disk that is nearly full is no shortage until something was refused");
        assert_eq!(shortage.note(|| FULL), Some(FULL));
        assert_eq!(shortage.note(|| FULL), None);
        assert_eq!(shortage.now(|| FULL), Some(FULL));
        assert_eq!(shortage.now(|| LIMIT), None, "somebody has made room");
        assert_eq!(shortage.note(|| FULL), Some(FULL), "the next time is told again");
    }

    #[test]
    fn what_is_lacking_is_named() {
        let space = |free, inodes| Space { free, used: 0, inodes };
        assert_eq!(Lack::of(&space(1 << 40, Some(0)), 0, 9, true), Lack::Inodes);
        assert_eq!(Lack::of(&space(5, None), 0, 9, true), FULL);
        assert_eq!(Lack::of(&space(1 << 40, Some(3)), 0, 9, false), LIMIT);
        assert_eq!(Lack::of(&space(1 << 40, None), 0, 9, true), Lack::Refused { free: 1 << 40 });
        assert_eq!(Lack::of(&space(1 << 40, None), 1 << 40, 9, false), Lack::Space { free: 1 << 40, reserve: 1 << 40 });
    }
}
