//! Exponential back-off with full jitter
//! (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).

use crate::error::OriginError;
use std::time::{Duration, Instant};

const BASE: Duration = Duration::from_millis(50);
const CAP: Duration = Duration::from_secs(10);
/// An answer that fails its checks is hardly better the tenth time.
const WRONG_ANSWERS_MAX: u32 = 6;
/// New credentials may arrive while the old ones have just expired.
const EXPIRED_MAX: u32 = 6;
/// A host that refuses connections may be restarting.
const SHORT_WAIT: Duration = Duration::from_millis(5);

pub(crate) struct Retry {
    until: Instant,
    attempts: u32,
    wrong: u32,
    expired: u32,
}

impl Retry {
    pub(crate) fn new(until: Instant) -> Self {
        Self { until, attempts: 0, wrong: 0, expired: 0 }
    }

    /// Progress was made: the next failure starts from the shortest wait, and earlier wrong answers are forgiven.
    pub(crate) fn progressed(&mut self) {
        self.attempts = 0;
        self.wrong = 0;
    }

    /// How long to wait before the next attempt, or the error to give up with.
    pub(crate) fn after(&mut self, error: OriginError, object: &str, asked: Option<Duration>) -> Result<Duration, OriginError> {
        if error.permanent() {
            return Err(error);
        }
        match &error {
            OriginError::Protocol { .. } => self.wrong += 1,
            OriginError::ExpiredCredentials => self.expired += 1,
            _ => {}
        }
        if self.wrong >= WRONG_ANSWERS_MAX || self.expired >= EXPIRED_MAX {
            return Err(error);
        }
        let ceiling = BASE.saturating_mul(1 << self.attempts.min(10)).min(CAP);
        self.attempts += 1;
        let jittered = ceiling.mul_f64(fastrand::f64());
        let wait = asked.map_or(jittered, |a| a.min(CAP).max(jittered)).max(SHORT_WAIT);
        if Instant::now() + wait >= self.until {
            // An endpoint that never answered is told as that.
            if matches!(error, OriginError::Unreachable { .. }) {
                return Err(error);
            }
            return Err(OriginError::Deadline { object: object.to_owned(), last: error.to_string() });
        }
        Ok(wait)
    }
}
