//! Where missing bytes come from. Today the origin; later the cache group stands before it.

use headrace_origin::{BodySink, Origin, OriginError, Pinned};
use std::ops::Range;
use std::time::Instant;

/// Something that can deliver a pinned range.
pub trait Source: Send + Sync {
    /// Streams `range` of `object` into `sink`, in order, every byte once; blocks until done or `deadline`.
    ///
    /// # Errors
    /// Whatever kept the range from arriving whole; bytes already given to the sink are right and count.
    fn fetch(&self, object: &Pinned, range: Range<u64>, deadline: Instant, sink: &mut dyn BodySink) -> Result<(), OriginError>;

    /// A reader was answered with so many bytes of it, wherever they came from.
    fn answered(&self, bytes: u64) {
        let _ = bytes;
    }

    /// A complete file of so many bytes was opened for a reader to read it without us.
    fn handed_out(&self, bytes: u64) {
        let _ = bytes;
    }
}

impl Source for Origin {
    fn fetch(&self, object: &Pinned, range: Range<u64>, deadline: Instant, sink: &mut dyn BodySink) -> Result<(), OriginError> {
        self.get_range(object, range, deadline, sink)
    }

    fn answered(&self, bytes: u64) {
        self.count_answered(bytes);
    }

    fn handed_out(&self, bytes: u64) {
        self.count_handed_out(bytes);
    }
}
