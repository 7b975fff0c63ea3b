//! What the client did.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        #[derive(Debug, Default)]
        pub(crate) struct Live { $(pub(crate) $name: AtomicU64,)+ }

        /// Counter values at one moment; all only grow.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct OriginCounters { $($(#[doc = $doc])+ pub $name: u64,)+ }

        impl Live {
            pub(crate) fn values(&self) -> OriginCounters {
                OriginCounters { $($name: self.$name.load(Relaxed),)+ }
            }
        }

        impl OriginCounters {
            /// Every counter with its name.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((concat!(stringify!($name), "_total"), self.$name),)+]
            }
        }
    };
}

counters! {
    /// Requests sent.
    requests,
    /// Requests sent again after a failure.
    retries,
    /// Answers that asked to slow down (503, 429).
    throttled,
    /// Second requests sent because a first byte was late.
    hedges,
    /// Hedges that answered first.
    hedges_won,
    /// Bytes of bodies received for ranged GETs.
    body_bytes,
    /// Connections made.
    connections,
    /// Answers that failed a check and were not used.
    rejected_answers,
    /// Requests that failed for good.
    errors,
    /// Nanoseconds from request to first byte, summed over ranged GETs.
    first_byte_nanoseconds,
    /// Ranged GETs that the sum counts.
    first_bytes,
    /// Bytes that readers were answered with, from the cache or the network.
    answered_bytes,
    /// Bytes of complete files at each time they were opened to be read without the node.
    handed_out_bytes,
}

impl Live {
    pub(crate) fn add(counter: &AtomicU64, value: u64) {
        counter.fetch_add(value, Relaxed);
    }
}
