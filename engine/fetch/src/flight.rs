//! One ranged GET and the segments it fills.

use crate::object::Object;
use crate::segment::{SEGMENT, Segment};
use headrace_origin::{BodySink, Stop};
use headrace_sync::atomic::{AtomicBool, Ordering::Relaxed};
use headrace_sync::{Instant, Mutex};
use std::ops::Range;
use std::sync::Arc;

/// Called when a flight has ended, well or not.
pub(crate) type Landed = Box<dyn FnOnce() + Send>;

pub(crate) struct Flight {
    pub(crate) object: Arc<Object>,
    pub(crate) range: Range<u64>,
    urgent: AtomicBool,
    /// A reader asked for it, or a stream is about to.
    for_reader: bool,
    landed: Mutex<Option<Landed>>,
}

impl Flight {
    pub(crate) fn new(object: &Arc<Object>, range: Range<u64>, urgent: bool, landed: Option<Landed>) -> Arc<Self> {
        let (object, for_reader) = (Arc::clone(object), landed.is_none());
        Arc::new(Self { object, range, urgent: AtomicBool::new(urgent), for_reader, landed: Mutex::new(landed) })
    }

    /// True when a reader waits for it.
    pub(crate) fn urgent(&self) -> bool {
        self.urgent.load(Relaxed)
    }

    /// Marks that a reader waits; true if it was a prefetch until now.
    pub(crate) fn make_urgent(&self) -> bool {
        !self.urgent.swap(true, Relaxed)
    }

    /// Runs to its end on the calling thread.
    pub(crate) fn run(self: &Arc<Self>) {
        let object = &self.object;
        let shared = object.shared();
        if self.urgent() {
            shared.counters.demand_flights.fetch_add(1, Relaxed);
        } else {
            shared.counters.prefetch_flights.fetch_add(1, Relaxed);
        }
        let mut sink = FlightSink { flight: self, position: self.range.start, current: None };
        let begun = Instant::now();
        let deadline = std::time::Instant::now() + shared.config.deadline;
        let result = object.source().fetch(object.pinned(), self.range.clone(), deadline, &mut sink);
        let reached = sink.seal();
        object.flight_ended(self, begun, reached, result.err());
        self.land();
    }

    /// Ends a flight that never ran.
    pub(crate) fn abandon(self: &Arc<Self>) {
        let error = headrace_origin::OriginError::Cancelled;
        self.object.flight_ended(self, Instant::now(), self.range.start, Some(error));
        self.land();
    }

    fn land(&self) {
        if let Some(landed) = self.landed.lock().take() {
            landed();
        }
    }
}

/// Takes the body's bytes into segments, one after the other.
struct FlightSink<'a> {
    flight: &'a Arc<Flight>,
    position: u64,
    current: Option<Arc<Segment>>,
}

impl FlightSink<'_> {
    /// Hands the last, partly filled segment to the writer; returns the offset reached.
    fn seal(&mut self) -> u64 {
        if let Some(segment) = self.current.take() {
            self.flight.object.segment_full(segment);
        }
        self.position
    }

    fn next_segment(&self) -> Result<Arc<Segment>, Stop> {
        let flight = self.flight;
        let border = (self.position / SEGMENT + 1) * SEGMENT;
        let end = border.min(flight.range.end);
        let length = usize::try_from(end - self.position).map_err(|_| Stop)?;
        let shared = flight.object.shared();
        let stop = || shared.stopping.load(Relaxed);
        let buffer = shared.pool.acquire(length, &|| flight.urgent(), &stop).ok_or(Stop)?;
        let segment = Arc::new(Segment::new(self.position, length, buffer, flight.for_reader));
        flight.object.segment_begun(&segment);
        Ok(segment)
    }
}

impl BodySink for FlightSink<'_> {
    fn buffer(&mut self) -> Result<&mut [u8], Stop> {
        if self.position >= self.flight.range.end {
            return Err(Stop);
        }
        if self.current.is_none() {
            self.current = Some(self.next_segment()?);
        }
        let segment = self.current.as_ref().ok_or(Stop)?;
        // SAFETY: this sink is the segment's only writer, and the slice ends before `filled` advances it.
        Ok(unsafe { segment.tail() })
    }

    fn filled(&mut self, count: usize) -> Result<(), Stop> {
        let Some(segment) = self.current.as_ref() else { return Err(Stop) };
        segment.advance(count);
        self.position += count as u64;
        let object = &self.flight.object;
        object.shared().counters.fetched_bytes.fetch_add(count as u64, Relaxed);
        object.segment_grew(segment);
        if segment.filled() == segment.length()
            && let Some(segment) = self.current.take()
        {
            object.segment_full(segment);
        }
        Ok(())
    }
}
