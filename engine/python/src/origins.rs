//! Origins: settings, credentials, and small requests for checks.

use crate::engine::Engine;
use crate::errors::{engine_error, from_origin};
use headrace_origin::{Addressing, BodySink, Credentials, Origin, OriginConfig, OriginError, Pinned, Stop};
use headrace_volume::{Loads, Volume};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Small requests of `doctor` and `mount` give up after this.
const CHECK_DEADLINE: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const STALL_TIMEOUT: Duration = Duration::from_secs(15);

#[pymethods]
impl Engine {
    #[pyo3(signature = (origin_id, *, endpoint, bucket, region, addressing, anonymous, ca_bundle, proxy, source_addresses, max_connections, deadline_seconds=300.0, max_bytes_per_second=None, max_requests_per_second=None, learn_order=false))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn add_origin(
        &self,
        origin_id: String,
        endpoint: String,
        bucket: String,
        region: String,
        addressing: &str,
        anonymous: bool,
        ca_bundle: Option<String>,
        proxy: Option<String>,
        source_addresses: Vec<String>,
        max_connections: usize,
        deadline_seconds: f64,
        max_bytes_per_second: Option<u64>,
        max_requests_per_second: Option<u32>,
        learn_order: bool,
    ) -> PyResult<()> {
        let _ = deadline_seconds;
        let addressing = match addressing {
            "path" => Addressing::Path,
            "virtual" => Addressing::Virtual,
            other => {
                return Err(engine_error(
                    "bad-setting",
                    format!("addressing: {other:?} is neither \"path\" nor \"virtual\""),
                    libc::EINVAL,
                ));
            }
        };
        let mut addresses = Vec::new();
        for text in source_addresses {
            let address = text
                .parse()
                .map_err(|_| engine_error("bad-setting", format!("source address: {text:?} is not an IP address"), libc::EINVAL))?;
            addresses.push(address);
        }
        let config = OriginConfig {
            endpoint,
            region,
            bucket,
            addressing,
            anonymous,
            ca_bundle: ca_bundle.map(Into::into),
            proxy,
            source_addresses: addresses,
            max_connections,
            connect_timeout: CONNECT_TIMEOUT,
            stall_timeout: STALL_TIMEOUT,
            max_bytes_per_second,
            max_requests_per_second,
        };
        let origin = Origin::new(config, None).map_err(from_origin)?;
        let identity = origin.identity();
        let volume = Arc::new(Volume {
            origin: origin_id.clone(),
            endpoint: identity.endpoint,
            bucket: identity.bucket,
            source: origin.clone(),
            fetcher: Arc::clone(&self.fetcher),
            loads: Loads::new(learn_order),
        });
        self.volumes.lock().insert(origin_id.clone(), volume);
        self.origins.lock().insert(origin_id, origin);
        Ok(())
    }

    fn remove_origin(&self, origin_id: &str) {
        self.volumes.lock().remove(origin_id);
        if let Some(origin) = self.origins.lock().remove(origin_id) {
            origin.shutdown();
        }
    }

    fn set_credentials(&self, origin_id: &str, access_key: String, secret_key: String, session_token: Option<String>) -> PyResult<()> {
        let (origin, _) = self.origin(origin_id)?;
        origin.set_credentials(Credentials { access_key, secret_key, session_token });
        Ok(())
    }

    #[pyo3(signature = (origin_id, *, max_bytes_per_second, max_requests_per_second))]
    fn set_ceilings(&self, origin_id: &str, max_bytes_per_second: Option<u64>, max_requests_per_second: Option<u32>) -> PyResult<()> {
        let (origin, _) = self.origin(origin_id)?;
        origin.set_ceilings(max_bytes_per_second, max_requests_per_second);
        Ok(())
    }

    fn head<'py>(&self, py: Python<'py>, origin_id: &str, key: &str) -> PyResult<Option<Bound<'py, PyDict>>> {
        let (origin, _) = self.origin(origin_id)?;
        let head = match py.detach(|| origin.head(key, Instant::now() + CHECK_DEADLINE)) {
            Ok(head) => head,
            Err(OriginError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(from_origin(error)),
        };
        let answer = PyDict::new(py);
        answer.set_item("size", head.size)?;
        answer.set_item("etag", head.etag)?;
        answer.set_item("version", head.version)?;
        answer.set_item("mtime_ns", head.mtime_ns)?;
        Ok(Some(answer))
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of a pinned range")]
    fn get<'py>(
        &self,
        py: Python<'py>,
        origin_id: &str,
        key: String,
        etag: String,
        size: u64,
        offset: u64,
        length: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let (origin, _) = self.origin(origin_id)?;
        let pinned = Pinned { key, etag, version: None, size };
        let mut sink = Flat { bytes: vec![0; length], filled: 0 };
        let range = offset..offset + length as u64;
        py.detach(|| origin.get_range(&pinned, range, Instant::now() + CHECK_DEADLINE, &mut sink)).map_err(from_origin)?;
        Ok(PyBytes::new(py, &sink.bytes[..sink.filled]))
    }
}

struct Flat {
    bytes: Vec<u8>,
    filled: usize,
}

impl BodySink for Flat {
    fn buffer(&mut self) -> Result<&mut [u8], Stop> {
        Ok(&mut self.bytes[self.filled..])
    }

    fn filled(&mut self, count: usize) -> Result<(), Stop> {
        self.filled += count;
        Ok(())
    }
}
