//! The origin: one bucket at one endpoint, with the right to read it.

use crate::config::{Addressing, Credentials, OriginConfig, OriginIdentity};
use crate::connect::Connector;
use crate::connection::Head;
use crate::counters::{Live, OriginCounters};
use crate::error::OriginError;
use crate::get::Hedging;
use crate::limit::{Limit, Rate};
use crate::pool::{Lease, Pool};
use crate::request::{Request, retry_after};
use crate::retry::Retry;
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::{Duration, Instant};
use url::Url;

/// Longest listing page or other text that is read.
const TEXT_MAX: usize = 64 * 1024 * 1024;

/// A bucket at an endpoint. Shared by every thread that reads from it.
pub struct Origin {
    pub(crate) config: OriginConfig,
    pub(crate) connector: Connector,
    /// `/bucket/` or `/`, before the key.
    pub(crate) path_prefix: String,
    pub(crate) credentials: RwLock<Option<Credentials>>,
    pub(crate) pool: Pool,
    pub(crate) limit: Limit,
    pub(crate) counters: Live,
    pub(crate) hedging: Hedging,
    byte_rate: Rate,
    request_rate: Rate,
    identity: OriginIdentity,
}

/// How long a request that waits for a ceiling does not see that its origin is taken away.
const PACE_SLICE: Duration = Duration::from_millis(50);

/// What HEAD tells of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// Bytes.
    pub size: u64,
    /// As sent, with its quotes.
    pub etag: String,
    /// Version id, where the bucket has versions.
    pub version: Option<String>,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
}

impl Origin {
    /// Checks the settings; connects to nothing yet.
    ///
    /// # Errors
    /// `BadSetting` naming the field.
    pub fn new(config: OriginConfig, credentials: Option<Credentials>) -> Result<Arc<Self>, OriginError> {
        let bad = |detail: String| OriginError::BadSetting { setting: "endpoint", detail };
        let with_scheme = if config.endpoint.contains("://") { config.endpoint.clone() } else { format!("https://{}", config.endpoint) };
        let url = Url::parse(&with_scheme).map_err(|e| bad(format!("{:?} is not an address: {e}", config.endpoint)))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad(format!("{:?} is neither http nor https", config.endpoint)));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("it must hold no user or password; use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned()));
        }
        let host = url.host_str().ok_or_else(|| bad(format!("{:?} names no host", config.endpoint)))?.to_owned();
        if config.bucket.is_empty() || config.bucket.contains('/') {
            return Err(OriginError::BadSetting { setting: "bucket", detail: format!("{:?} is not a bucket's name", config.bucket) });
        }
        let base = url.path().trim_end_matches('/');
        let (host, path_prefix) = match config.addressing {
            Addressing::Path => (host, format!("{base}/{}/", config.bucket)),
            Addressing::Virtual => (format!("{}.{host}", config.bucket), format!("{base}/")),
        };
        let endpoint = url.as_str().trim_end_matches('/').to_owned();
        let connector = Connector::new(&url, host, &config)?;
        let identity = OriginIdentity { endpoint, bucket: config.bucket.clone() };
        Ok(Arc::new(Self {
            connector,
            path_prefix,
            credentials: RwLock::new(credentials),
            pool: Pool::default(),
            limit: Limit::new(config.max_connections),
            counters: Live::default(),
            hedging: Hedging::default(),
            byte_rate: Rate::new(config.max_bytes_per_second.map(|r| r as f64)),
            request_rate: Rate::new(config.max_requests_per_second.map(f64::from)),
            identity,
            config,
        }))
    }

    /// Replaces the credentials; requests from now on use them.
    pub fn set_credentials(&self, credentials: Credentials) {
        *self.credentials.write() = Some(credentials);
    }

    /// Replaces the ceilings of bytes and of requests per second; `None` is none.
    pub fn set_ceilings(&self, bytes: Option<u64>, requests: Option<u32>) {
        self.byte_rate.set(bytes.map(|r| r as f64));
        self.request_rate.set(requests.map(f64::from));
    }

    /// The endpoint in one spelling, and the bucket.
    pub fn identity(&self) -> OriginIdentity {
        self.identity.clone()
    }

    /// What the client did so far.
    pub fn counters(&self) -> OriginCounters {
        self.counters.values()
    }

    /// Counts bytes of this origin that a reader was answered with.
    pub fn count_answered(&self, bytes: u64) {
        Live::add(&self.counters.answered_bytes, bytes);
    }

    /// Counts a complete file that was opened to be read without the node.
    pub fn count_handed_out(&self, bytes: u64) {
        Live::add(&self.counters.handed_out_bytes, bytes);
    }

    /// Aborts what runs and refuses what comes.
    pub fn shutdown(&self) {
        self.pool.stop();
    }

    /// Asks for an object's size and version.
    ///
    /// # Errors
    /// `NotFound`, or whatever the endpoint or the network says.
    pub fn head(&self, key: &str, deadline: Instant) -> Result<ObjectHead, OriginError> {
        let request = Request { method: "HEAD", key, query: String::new(), headers: Vec::new(), what: self.name(key), action: "read" };
        let (head, _) = self.ask(&request, deadline)?;
        let bad = |detail: &str| OriginError::Protocol { object: request.what.clone(), detail: detail.to_owned() };
        let modified = head.header("last-modified").and_then(|d| httpdate::parse_http_date(d).ok());
        let since = modified.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(ObjectHead {
            size: head.content_length().ok_or_else(|| bad("HEAD gave no Content-Length"))?,
            etag: head.header("etag").ok_or_else(|| bad("HEAD gave no ETag"))?.to_owned(),
            version: head.header("x-amz-version-id").map(str::to_owned),
            mtime_ns: since.and_then(|d| i64::try_from(d.as_nanos()).ok()).unwrap_or(0),
        })
    }

    /// `s3://bucket/key`, for messages.
    pub(crate) fn name(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.config.bucket)
    }

    /// A small request with a text answer, tried until it succeeds or `deadline` passes.
    pub(crate) fn ask(&self, request: &Request<'_>, deadline: Instant) -> Result<(Head, Vec<u8>), OriginError> {
        let mut retry = Retry::new(deadline);
        loop {
            let mut asked = None;
            match self.ask_once(request, deadline, &mut asked) {
                Ok(answer) => return Ok(answer),
                Err(error) => self.wait(&mut retry, error, &request.what, asked)?,
            }
        }
    }

    fn ask_once(&self, request: &Request<'_>, deadline: Instant, asked: &mut Option<Duration>) -> Result<(Head, Vec<u8>), OriginError> {
        let _permit = self.limit.acquire(deadline).ok_or_else(|| self.too_late(request))?;
        let (mut lease, head) = self.exchange(request, deadline)?;
        let connection = lease.connection();
        if head.status != 200 {
            *asked = retry_after(&head);
            let error = self.refusal(connection, &head, request);
            self.note_refusal(&error);
            self.pool.put(lease);
            return Err(error);
        }
        let body = if request.method == "HEAD" { Ok(Vec::new()) } else { connection.read_text(&head, TEXT_MAX) };
        let body = body.map_err(|e| OriginError::broken(&e))?;
        self.limit.succeeded();
        self.pool.put(lease);
        Ok((head, body))
    }

    /// Sends a request and reads the head of its answer. A connection that the server closed while it was idle costs a new one, not an attempt.
    fn exchange(&self, request: &Request<'_>, deadline: Instant) -> Result<(Lease<'_>, Head), OriginError> {
        loop {
            let mut lease = self.send(request, deadline)?;
            let connection = lease.connection();
            match connection.read_head() {
                Ok(head) => return Ok((lease, head)),
                Err(_) if connection.reused && !self.pool.stopped() => {}
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }

    /// Sends a request over an idle connection, or a new one.
    pub(crate) fn send(&self, request: &Request<'_>, deadline: Instant) -> Result<Lease<'_>, OriginError> {
        let wire = self.compose(request)?;
        self.pace(&self.request_rate, 1.0);
        Live::add(&self.counters.requests, 1);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut lease = match self.pool.take() {
                Some(lease) => lease,
                None => {
                    Live::add(&self.counters.connections, 1);
                    self.pool.connect(&self.connector, left)?
                }
            };
            let connection = lease.connection();
            let sent = connection.set_patience(self.config.stall_timeout.min(left)).and_then(|()| connection.send(&wire));
            match sent {
                Ok(()) => return Ok(lease),
                Err(_) if connection.reused && !self.pool.stopped() => {}
                Err(error) => return Err(self.broken(&error)),
            }
        }
    }

    pub(crate) fn broken(&self, error: &std::io::Error) -> OriginError {
        if self.pool.stopped() { OriginError::Cancelled } else { OriginError::broken(error) }
    }

    pub(crate) fn too_late(&self, request: &Request<'_>) -> OriginError {
        let last = "too many requests are under way, or the endpoint asks to slow down".to_owned();
        OriginError::Deadline { object: request.what.clone(), last }
    }

    pub(crate) fn note_refusal(&self, error: &OriginError) {
        if matches!(error, OriginError::Throttled { .. }) {
            Live::add(&self.counters.throttled, 1);
            self.limit.throttled();
        }
    }

    /// Waits before the next attempt, or gives up.
    pub(crate) fn wait(&self, retry: &mut Retry, error: OriginError, what: &str, asked: Option<Duration>) -> Result<(), OriginError> {
        if self.pool.stopped() {
            return Err(OriginError::Cancelled);
        }
        log::debug!("{what}: {error}");
        match retry.after(error, what, asked) {
            Ok(wait) => {
                Live::add(&self.counters.retries, 1);
                #[cfg(feature = "fuzzing")]
                if self.connector.script.get().is_some() {
                    return Ok(());
                }
                std::thread::sleep(wait);
                Ok(())
            }
            Err(error) => {
                Live::add(&self.counters.errors, 1);
                Err(error)
            }
        }
    }

    pub(crate) fn pace_bytes(&self, bytes: usize) {
        self.pace(&self.byte_rate, bytes as f64);
    }

    fn pace(&self, rate: &Rate, amount: f64) {
        let mut changes = rate.changes();
        let wait = rate.take(amount);
        if wait.is_zero() {
            return;
        }
        let mut until = Instant::now() + wait;
        // In slices: many may owe the ceiling seconds each, and neither an origin that is taken away is waited for, nor a ceiling that was.
        while !self.pool.stopped() {
            if rate.changes() != changes {
                changes = rate.changes();
                until = Instant::now() + rate.take(amount);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(PACE_SLICE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_a_byte_a_second() -> Arc<Origin> {
        let config = OriginConfig {
            endpoint: "http://127.0.0.1:1".into(),
            region: "r".into(),
            bucket: "b".into(),
            addressing: Addressing::Path,
            anonymous: true,
            ca_bundle: None,
            proxy: None,
            source_addresses: Vec::new(),
            max_connections: 1,
            connect_timeout: Duration::from_secs(1),
            stall_timeout: Duration::from_secs(1),
            max_bytes_per_second: Some(1),
            max_requests_per_second: None,
        };
        Origin::new(config, None).unwrap()
    }

    fn waits_until(origin: &Origin, change: impl FnOnce()) {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| origin.pace_bytes(1000));
            std::thread::sleep(PACE_SLICE);
            assert!(!waiting.is_finished());
            change();
        });
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_request_that_waits_for_its_ceiling_ends_with_the_origin() {
        let origin = at_a_byte_a_second();
        waits_until(&origin, || origin.shutdown());
    }

    #[test]
    fn a_request_that_waits_for_its_ceiling_goes_on_when_that_is_raised() {
        for raised in [None, Some(1 << 20)] {
            let origin = at_a_byte_a_second();
            waits_until(&origin, || origin.set_ceilings(raised, None));
        }
    }
}
