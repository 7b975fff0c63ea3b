//! What the cache counts. Each counter is declared once: the atomic and the value handed out come from here.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        #[derive(Default)]
        pub struct Counters { $(pub $name: AtomicU64,)+ }

        /// Counter values at one moment; all only grow.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct CounterValues { $($(#[doc = $doc])+ pub $name: u64,)+ }

        impl Counters {
            pub fn values(&self) -> CounterValues {
                CounterValues { $($name: self.$name.load(Relaxed),)+ }
            }
        }

        impl CounterValues {
            /// Every counter as name, meaning and value.
            pub fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), concat!($($doc),+), self.$name),)+]
            }
        }
    };
}

counters! {
    /// Bytes written into cache files.
    written_bytes,
    /// Of these, bytes written past the page cache, because they came faster than pages could be made for them.
    direct_bytes,
    /// Bytes of such files read back into memory afterwards.
    read_back_bytes,
    /// Files that had bytes from before this process.
    adopted_files,
    /// Files that became complete.
    completed_files,
    /// Files unlinked to make room, by age or on request.
    evicted_files,
    /// Bytes of blocks freed, or to be freed with the last holder, by unlinking.
    evicted_bytes,
    /// Bytes dropped from incomplete files by punching.
    punched_bytes,
    /// Bytes not kept because everything is in use or the limit is reached.
    unkept_no_room_bytes,
    /// Bytes not kept because the disk is full.
    unkept_disk_full_bytes,
    /// Bytes not kept because the disk fails.
    unkept_failing_bytes,
    /// Bytes not kept for any other reason.
    unkept_other_bytes,
    /// Blocks compared with their digests.
    verified_blocks,
    /// Blocks whose digest did not match; they were dropped or, when only checking, reported.
    digest_failures,
    /// Blocks dropped after a power loss because nothing could prove them.
    unprovable_blocks,
    /// Files dropped because their meta file was torn or did not fit their data.
    torn_files,
    /// Left-over files without a partner that were removed.
    orphan_files,
    /// Descriptors handed out.
    doors_opened,
    /// Files whose data was synced to the disk.
    synced_files,
    /// Directories taken out of use because their disk fails.
    failed_directories,
}

impl Counters {
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Relaxed);
    }
}
