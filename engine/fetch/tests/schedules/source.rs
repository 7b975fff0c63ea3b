//! A source in memory. It knows what is under way, fails as it is told, and has content without a zero.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::LazyLock;
use std::time::Instant;

use headrace_fetch::Source;
use headrace_origin::{BodySink, OriginError, Pinned};
use headrace_sync::{Condvar, Mutex};

/// No multiple of a chunk: flights end inside one.
const PIECE: usize = 40_000;

/// Larger than any object here.
static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| (0..4_u64 << 20).map(byte_at).collect());

fn byte_at(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8 | 1
}

pub fn content(range: Range<u64>) -> &'static [u8] {
    &CONTENT[range.start as usize..range.end as usize]
}

/// What becomes of one request.
#[derive(Clone, Copy)]
pub enum Fault {
    /// The connection breaks after so many bytes.
    Breaks(u64),
    /// The object turns out replaced.
    Replaced,
    /// Nothing comes until the test lets it end, and then its time is over.
    Late,
    /// Nothing comes until the test lets it go on, and then everything does.
    Slow,
}

/// Requests of a source that is out of reach.
#[derive(Default)]
struct Late {
    begun: usize,
    let_go: usize,
}

#[derive(Default)]
pub struct Scripted {
    under_way: Mutex<Vec<Range<u64>>>,
    faults: Mutex<VecDeque<Fault>>,
    sent: Mutex<u64>,
    requests: Mutex<usize>,
    late: Mutex<Late>,
    changed: Condvar,
}

impl Scripted {
    /// A source whose first requests fail like this; all others are answered whole.
    pub fn new(faults: &[Fault]) -> Scripted {
        Scripted { faults: Mutex::new(faults.iter().copied().collect()), ..Scripted::default() }
    }

    /// From now on the next requests fail like this.
    pub fn fail(&self, faults: &[Fault]) {
        self.faults.lock().extend(faults);
    }

    pub fn sent(&self) -> u64 {
        *self.sent.lock()
    }

    pub fn requests(&self) -> usize {
        *self.requests.lock()
    }

    /// Waits until so many requests have begun that are late.
    pub fn until_late(&self, count: usize) {
        let mut late = self.late.lock();
        while late.begun < count {
            self.changed.wait(&mut late);
        }
    }

    /// Ends one of them.
    pub fn let_go(&self) {
        self.late.lock().let_go += 1;
        self.changed.notify_all();
    }

    fn out_of_reach(&self) -> OriginError {
        let mut late = self.late.lock();
        late.begun += 1;
        self.changed.notify_all();
        while late.let_go == 0 {
            self.changed.wait(&mut late);
        }
        late.let_go -= 1;
        OriginError::Deadline { object: "o".into(), last: "as the test wants".into() }
    }

    fn begin(&self, range: &Range<u64>) {
        *self.requests.lock() += 1;
        let mut under_way = self.under_way.lock();
        let twice = under_way.iter().find(|other| other.start < range.end && range.start < other.end);
        assert!(twice.is_none(), "{range:?} is asked for while {twice:?} is under way");
        under_way.push(range.clone());
    }

    fn end(&self, range: &Range<u64>) {
        self.under_way.lock().retain(|other| other != range);
    }

    fn send(&self, range: &Range<u64>, sink: &mut dyn BodySink) -> Result<(), OriginError> {
        let mut at = range.start;
        let fault = self.faults.lock().pop_front();
        let stop = match fault {
            Some(Fault::Replaced) => return Err(OriginError::Replaced { object: "o".into() }),
            Some(Fault::Late) => return Err(self.out_of_reach()),
            Some(Fault::Slow) => {
                self.out_of_reach();
                range.end
            }
            Some(Fault::Breaks(bytes)) => range.end.min(range.start + bytes),
            None => range.end,
        };
        while at < stop {
            let buffer = sink.buffer().map_err(|_| OriginError::Cancelled)?;
            let count = buffer.len().min(PIECE).min((stop - at) as usize);
            buffer[..count].copy_from_slice(content(at..at + count as u64));
            *self.sent.lock() += count as u64;
            at += count as u64;
            sink.filled(count).map_err(|_| OriginError::Cancelled)?;
        }
        if stop < range.end { Err(OriginError::Broken { cause: "as the test wants".into() }) } else { Ok(()) }
    }
}

impl Source for Scripted {
    fn fetch(&self, _: &Pinned, range: Range<u64>, _: Instant, sink: &mut dyn BodySink) -> Result<(), OriginError> {
        self.begin(&range);
        let result = self.send(&range, sink);
        self.end(&range);
        result
    }
}
