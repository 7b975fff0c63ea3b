//! Settings of an origin and the right to read it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroize;

/// Where the bucket's name goes in an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// `https://endpoint/bucket/key`
    Path,
    /// `https://bucket.endpoint/key`
    Virtual,
}

/// Settings of an origin.
#[derive(Clone)]
pub struct OriginConfig {
    /// `https://host[:port]` or `http://…`.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// Where the bucket's name goes.
    pub addressing: Addressing,
    /// Send no signature.
    pub anonymous: bool,
    /// Trusted certificates (PEM); the system's when `None`.
    pub ca_bundle: Option<PathBuf>,
    /// `http://[user:password@]host:port`; already chosen by the caller.
    pub proxy: Option<String>,
    /// Local addresses to bind connections to, in turn; empty lets the system choose.
    pub source_addresses: Vec<IpAddr>,
    /// Most connections at once.
    pub max_connections: usize,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// A response without a byte for this long is given up and tried again.
    pub stall_timeout: Duration,
    /// Ceiling for body bytes a second.
    pub max_bytes_per_second: Option<u64>,
    /// Ceiling for requests a second.
    pub max_requests_per_second: Option<u32>,
}

/// The endpoint in one spelling, and the bucket: part of every cached object's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginIdentity {
    /// Scheme, host and port, lower case, without a default port or a trailing slash.
    pub endpoint: String,
    /// Bucket.
    pub bucket: String,
}

/// Keys; never printed, wiped when dropped.
#[derive(Clone)]
pub struct Credentials {
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
    /// Session token of temporary credentials.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        self.secret_key.zeroize();
        self.session_token.zeroize();
    }
}
