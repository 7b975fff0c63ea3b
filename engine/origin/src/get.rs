//! The pinned ranged GET.

use crate::connection::Head;
use crate::counters::Live;
use crate::error::OriginError;
use crate::origin::Origin;
use crate::pool::Lease;
use crate::request::{Request, retry_after};
use crate::retry::Retry;
use crate::sign::encode_query;
use parking_lot::Mutex;
use std::ops::Range;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// One version of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The whole key.
    pub key: String,
    /// As listed, with its quotes.
    pub etag: String,
    /// Version id, where the bucket has versions.
    pub version: Option<String>,
    /// Bytes of the whole object.
    pub size: u64,
}

/// The receiver wants no more.
#[derive(Clone, Copy, Debug)]
pub struct Stop;

/// Takes a body's bytes, in order, every byte once.
pub trait BodySink {
    /// Where the next bytes go; never empty.
    ///
    /// # Errors
    /// `Stop` ends the GET with [`OriginError::Cancelled`].
    fn buffer(&mut self) -> Result<&mut [u8], Stop>;

    /// `count` bytes of the last buffer were filled.
    ///
    /// # Errors
    /// `Stop` ends the GET with [`OriginError::Cancelled`].
    fn filled(&mut self, count: usize) -> Result<(), Stop>;
}

/// A second request is sent when the first byte is later than nearly all before it; at most 1 % of the bytes may be asked for twice.
#[derive(Default)]
pub(crate) struct Hedging {
    recent: Mutex<Vec<Duration>>,
    next: AtomicU64,
    asked_bytes: AtomicU64,
    hedged_bytes: AtomicU64,
}

const RECENT: usize = 128;
const ENOUGH: usize = 32;
const HEDGE_MIN: Duration = Duration::from_millis(100);

impl Hedging {
    fn note(&self, first_byte: Duration, bytes: u64) {
        self.asked_bytes.fetch_add(bytes, Relaxed);
        let mut recent = self.recent.lock();
        if recent.len() < RECENT {
            recent.push(first_byte);
        } else {
            let at = self.next.fetch_add(1, Relaxed) as usize % RECENT;
            recent[at] = first_byte;
        }
    }

    /// When to send a second request for `bytes`; `None` while too little is known or the budget is spent.
    fn delay(&self, bytes: u64) -> Option<Duration> {
        let mut sorted = {
            let recent = self.recent.lock();
            if recent.len() < ENOUGH {
                return None;
            }
            recent.clone()
        };
        let budget = self.asked_bytes.load(Relaxed) / 100;
        if self.hedged_bytes.load(Relaxed) + bytes > budget {
            return None;
        }
        sorted.sort_unstable();
        Some((sorted[sorted.len() * 95 / 100] * 2).max(HEDGE_MIN))
    }
}

impl Origin {
    /// Streams `range` of `object` into `sink`. Blocks; retries, and resumes at the next byte, until `deadline`.
    ///
    /// # Errors
    /// `Replaced` when the bucket no longer has this version; `Deadline` with the last failure; what is permanent at once. Bytes given to the
    /// sink before an error are right.
    pub fn get_range(&self, object: &Pinned, range: Range<u64>, deadline: Instant, sink: &mut dyn BodySink) -> Result<(), OriginError> {
        let what = self.name(&object.key);
        if range.end > object.size || range.start > range.end {
            let detail = format!("the range {range:?} lies outside the object of {} bytes", object.size);
            return Err(OriginError::Protocol { object: what, detail });
        }
        let mut retry = Retry::new(deadline);
        let mut at = range.start;
        while at < range.end {
            let before = at;
            let mut asked = None;
            let result = self.get_once(object, &what, &mut at, range.end, deadline, sink, &mut asked);
            if at > before {
                retry.progressed();
            }
            match result {
                Ok(()) => {}
                Err(OriginError::Cancelled) => return Err(OriginError::Cancelled),
                Err(error) => self.wait(&mut retry, error, &what, asked)?,
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "the state of one attempt")]
    fn get_once(
        &self,
        object: &Pinned,
        what: &str,
        at: &mut u64,
        end: u64,
        deadline: Instant,
        sink: &mut dyn BodySink,
        asked: &mut Option<Duration>,
    ) -> Result<(), OriginError> {
        let request = ranged(object, what, *at, end);
        let _permit = self.limit.acquire(deadline).ok_or_else(|| self.too_late(&request))?;
        let (mut lease, head) = self.first_answer(&request, end - *at, deadline)?;
        if head.status != 206 {
            return Err(self.not_a_part(lease, &head, &request, asked));
        }
        if let Err(error) = check(object, what, &head, *at, end) {
            Live::add(&self.counters.rejected_answers, 1);
            return Err(error);
        }
        while *at < end {
            let buffer = sink.buffer().map_err(|Stop| OriginError::Cancelled)?;
            let room = usize::try_from(end - *at).unwrap_or(usize::MAX).min(buffer.len());
            let count = lease.connection().read_body(&mut buffer[..room]).map_err(|e| self.broken(&e))?;
            if count == 0 {
                return Err(self.broken(&std::io::ErrorKind::UnexpectedEof.into()));
            }
            Live::add(&self.counters.body_bytes, count as u64);
            *at += count as u64;
            sink.filled(count).map_err(|Stop| OriginError::Cancelled)?;
            self.pace_bytes(count);
            if Instant::now() > deadline && *at < end {
                return Err(OriginError::Broken { cause: "the deadline passed in the middle of the body".to_owned() });
            }
        }
        self.limit.succeeded();
        self.pool.put(lease);
        Ok(())
    }

    /// Sends the request, a second one if its first byte is late, and gives the head that comes first.
    fn first_answer(&self, request: &Request<'_>, bytes: u64, deadline: Instant) -> Result<(Lease<'_>, Head), OriginError> {
        loop {
            let begun = Instant::now();
            let mut lease = self.send(request, deadline)?;
            if let Some(delay) = self.hedging.delay(bytes)
                && !readable(&[lease.connection().raw()], delay)[0]
            {
                lease = self.hedge(lease, request, bytes, deadline);
            }
            let connection = lease.connection();
            match connection.read_head() {
                Ok(head) => {
                    let waited = begun.elapsed();
                    self.hedging.note(waited, bytes);
                    Live::add(&self.counters.first_bytes, 1);
                    Live::add(&self.counters.first_byte_nanoseconds, u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX));
                    return Ok((lease, head));
                }
                Err(_) if connection.reused && !self.pool.stopped() && begun.elapsed() < self.config.stall_timeout => {}
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }

    /// The connection that answers first; the other one is closed.
    fn hedge<'a>(&'a self, mut first: Lease<'a>, request: &Request<'_>, bytes: u64, deadline: Instant) -> Lease<'a> {
        let Ok(mut second) = self.send(request, deadline) else {
            return first;
        };
        Live::add(&self.counters.hedges, 1);
        self.hedging.hedged_bytes.fetch_add(bytes, Relaxed);
        let ready = readable(&[first.connection().raw(), second.connection().raw()], self.config.stall_timeout);
        if ready[1] && !ready[0] {
            Live::add(&self.counters.hedges_won, 1);
            first.connection().abort();
            return second;
        }
        second.connection().abort();
        first
    }

    fn not_a_part(&self, mut lease: Lease<'_>, head: &Head, request: &Request<'_>, asked: &mut Option<Duration>) -> OriginError {
        if head.status < 300 {
            Live::add(&self.counters.rejected_answers, 1);
            let detail = format!("status {} to a request for a range, instead of 206", head.status);
            return OriginError::Protocol { object: request.what.clone(), detail };
        }
        *asked = retry_after(head);
        let error = self.refusal(lease.connection(), head, request);
        self.note_refusal(&error);
        self.pool.put(lease);
        error
    }
}

fn ranged<'a>(object: &'a Pinned, what: &str, at: u64, end: u64) -> Request<'a> {
    let query = object.version.as_deref().map_or(String::new(), |v| encode_query(&[("versionId", v)]));
    Request {
        method: "GET",
        key: &object.key,
        query,
        headers: vec![("if-match", object.etag.clone()), ("range", format!("bytes={at}-{}", end - 1))],
        what: what.to_owned(),
        action: "read",
    }
}

/// Checks an answer before one byte of it counts.
fn check(object: &Pinned, what: &str, head: &Head, at: u64, end: u64) -> Result<(), OriginError> {
    let wrong = |detail: String| OriginError::Protocol { object: what.to_owned(), detail };
    if let Some(name) = ["content-range", "content-length", "etag", "x-amz-version-id"].iter().find(|name| head.contradicts_itself(name)) {
        return Err(wrong(format!("{name} is there twice, with different values")));
    }
    let expected = format!("bytes {at}-{}/{}", end - 1, object.size);
    let range = head.header("content-range").unwrap_or("");
    if !range.trim().eq_ignore_ascii_case(&expected) {
        return Err(wrong(format!("Content-Range {range:?} instead of {expected:?}")));
    }
    if head.content_length() != Some(end - at) {
        return Err(wrong(format!("Content-Length {:?} instead of {}", head.header("content-length"), end - at)));
    }
    if head.header("transfer-encoding").is_some() {
        return Err(wrong("a Transfer-Encoding on a range".to_owned()));
    }
    let etag = head.header("etag").unwrap_or("");
    if bare(etag) != bare(&object.etag) {
        return Err(wrong(format!("ETag {etag} instead of {}", object.etag)));
    }
    if let (Some(wanted), Some(sent)) = (&object.version, head.header("x-amz-version-id"))
        && wanted != sent
    {
        return Err(wrong(format!("version {sent} instead of {wanted}")));
    }
    Ok(())
}

fn bare(etag: &str) -> &str {
    etag.trim().trim_start_matches("W/").trim_matches('"')
}

/// Waits until one of the sockets has something to read, or `patience` is over.
fn readable(sockets: &[RawFd], patience: Duration) -> Vec<bool> {
    let mut polls: Vec<_> = sockets.iter().map(|fd| libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 }).collect();
    let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the array is valid for its length.
    unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, millis) };
    polls.iter().map(|p| p.revents != 0).collect()
}
