//! Writing requests, and reading what a refusal means.

use crate::connection::{Connection, Head};
use crate::error::OriginError;
use crate::origin::Origin;
use crate::sign::{Signable, encode_path, sign};
use crate::xml::{ErrorBody, read};
use jiff::Timestamp;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

/// Longest error body that is read.
const ERROR_MAX: usize = 256 * 1024;

/// A request without a body.
pub(crate) struct Request<'a> {
    pub(crate) method: &'static str,
    /// Object key, or "" for the bucket.
    pub(crate) key: &'a str,
    /// Canonical query string, or "".
    pub(crate) query: String,
    /// Lower-case names, sorted.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// For messages.
    pub(crate) what: String,
    /// "list" or "read", for messages.
    pub(crate) action: &'static str,
}

impl Origin {
    /// The request as it goes over the wire, signed now.
    pub(crate) fn compose(&self, request: &Request<'_>) -> Result<Vec<u8>, OriginError> {
        let host = self.connector.authority();
        let path = encode_path(&format!("{}{}", self.path_prefix, request.key));
        let mut text = format!("{} {}{path}", request.method, self.connector.request_prefix());
        if !request.query.is_empty() {
            text.push('?');
            text.push_str(&request.query);
        }
        text.push_str(&format!(" HTTP/1.1\r\nHost: {host}\r\nUser-Agent: headrace/{}\r\n", env!("CARGO_PKG_VERSION")));
        // Never a compressed transfer: ranges count the bytes as they are stored.
        text.push_str("Accept-Encoding: identity\r\n");
        for (name, value) in &request.headers {
            push_header(&mut text, name, value);
        }
        if let Some(value) = self.connector.proxy_authorization() {
            push_header(&mut text, "Proxy-Authorization", value);
        }
        if !self.config.anonymous {
            let credentials = self.credentials.read().clone();
            let credentials = credentials.ok_or_else(|| OriginError::NoCredentials { endpoint: self.connector.shown.clone() })?;
            let signable = Signable {
                method: request.method,
                host: &host,
                path: &path,
                query: &request.query,
                region: &self.config.region,
                headers: &request.headers,
            };
            for (name, value) in sign(&signable, &credentials, Timestamp::now()) {
                push_header(&mut text, name, &value);
            }
        }
        text.push_str("\r\n");
        Ok(text.into_bytes())
    }

    /// Reads the body of a refusal and says what it means.
    pub(crate) fn refusal(&self, connection: &mut Connection, head: &Head, request: &Request<'_>) -> OriginError {
        let body = if request.method == "HEAD" { Ok(Vec::new()) } else { connection.read_text(head, ERROR_MAX) };
        let text = body.map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        let error: ErrorBody = read(&text).unwrap_or_default();
        self.explain(head, &error, request)
    }

    fn explain(&self, head: &Head, error: &ErrorBody, request: &Request<'_>) -> OriginError {
        let endpoint = || self.connector.shown.clone();
        let object = || request.what.clone();
        match (head.status, error.code.as_str()) {
            (_, "InvalidAccessKeyId") => OriginError::UnknownAccessKey { endpoint: endpoint() },
            (_, "SignatureDoesNotMatch") => OriginError::BadSignature { endpoint: endpoint() },
            (_, "ExpiredToken" | "TokenRefreshRequired" | "ExpiredTokenException" | "RequestExpired") => OriginError::ExpiredCredentials,
            (_, "RequestTimeTooSkewed") => OriginError::ClockSkew { skew_seconds: skew(head, error) },
            (_, "NoSuchBucket") => OriginError::NoSuchBucket { bucket: self.config.bucket.clone(), endpoint: endpoint() },
            (_, "InvalidObjectState") => OriginError::Archived { object: object() },
            (_, "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException") | (301 | 307, _) => {
                self.wrong_region(head, error)
            }
            (412, _) => OriginError::Replaced { object: object() },
            (404, _) => OriginError::NotFound { object: object() },
            (503, _) | (429, _) | (_, "SlowDown") => {
                OriginError::Throttled { endpoint: endpoint(), detail: format!("{} {}", head.status, error.code) }
            }
            (401 | 403, code) => {
                let detail = if code.is_empty() { format!("status {}", head.status) } else { code.to_owned() };
                OriginError::AccessDenied { object: object(), action: request.action, detail }
            }
            (status, code) => OriginError::Server { object: object(), status, code: code.to_owned(), detail: error.message.clone() },
        }
    }

    fn wrong_region(&self, head: &Head, error: &ErrorBody) -> OriginError {
        let told = head.header("x-amz-bucket-region").map(str::to_owned).or_else(|| error.region.clone());
        let expected = told.unwrap_or_else(|| "another region".to_owned());
        OriginError::WrongRegion { bucket: self.config.bucket.clone(), expected, used: self.config.region.clone() }
    }
}

/// What `Retry-After` asks for.
pub(crate) fn retry_after(head: &Head) -> Option<Duration> {
    let value = head.header("retry-after")?;
    value.trim().parse::<u64>().ok().map(Duration::from_secs)
}

fn skew(head: &Head, error: &ErrorBody) -> i64 {
    let server = error
        .server_time
        .as_deref()
        .and_then(|t| t.parse::<Timestamp>().ok())
        .map(|t| t.as_second())
        .or_else(|| head.header("date").and_then(|d| httpdate::parse_http_date(d).ok()).map(unix_seconds));
    server.map_or(0, |s| unix_seconds(SystemTime::now()) - s)
}

fn unix_seconds(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

fn push_header(text: &mut String, name: &str, value: &str) {
    // Writing to a String can't fail; a value with a line break would smuggle in a header, so it loses it.
    let _ = write!(text, "{name}: ");
    text.extend(value.chars().filter(|c| !c.is_control()));
    text.push_str("\r\n");
}
