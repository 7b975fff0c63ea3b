//! What can go wrong, told so that a person can mend it.

use std::io;

/// A failed request. Every message names what was asked, the cause and the remedy; none holds a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum OriginError {
    #[error("{object}: the object was replaced in the bucket while this version is in use; run `headrace refresh` to see the new one")]
    Replaced { object: String },
    #[error("{object}: no such object in the bucket; it was deleted, or the listing is old: run `headrace refresh`")]
    NotFound { object: String },
    #[error("bucket {bucket:?} does not exist at {endpoint}; check the bucket's name and the endpoint")]
    NoSuchBucket { bucket: String, endpoint: String },
    #[error("{object}: access denied ({detail}); these credentials may not {action} here: grant s3:ListBucket and s3:GetObject")]
    AccessDenied { object: String, action: &'static str, detail: String },
    #[error(
        "access key: {endpoint} does not know it (InvalidAccessKeyId); check AWS_ACCESS_KEY_ID or the profile, and that the endpoint is the right one"
    )]
    UnknownAccessKey { endpoint: String },
    #[error(
        "secret key: {endpoint} says that the signature does not match (SignatureDoesNotMatch); check AWS_SECRET_ACCESS_KEY and the region"
    )]
    BadSignature { endpoint: String },
    #[error("credentials have expired; renew them (for a living mount: `headrace credentials DIR`)")]
    ExpiredCredentials,
    #[error(
        "no credentials for {endpoint}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or use --anonymous for a public bucket"
    )]
    NoCredentials { endpoint: String },
    #[error("region: the bucket {bucket:?} is in {expected:?}, not in {used:?}; use --region {expected} or set AWS_REGION")]
    WrongRegion { bucket: String, expected: String, used: String },
    #[error("clock: this machine's clock differs from the server's by {skew_seconds} s, more than S3 allows; set the clock (NTP)")]
    ClockSkew { skew_seconds: i64 },
    #[error("{object}: the object is in an archive storage class; restore it in the bucket, then run `headrace refresh`")]
    Archived { object: String },
    #[error("{endpoint} asks to slow down ({detail}); lower the request rate or raise the account's limit")]
    Throttled { endpoint: String, detail: String },
    #[error("endpoint: {endpoint} can't be reached: {cause}; check the endpoint (AWS_ENDPOINT_URL), the network and the proxy settings")]
    Unreachable { endpoint: String, cause: String },
    #[error("TLS with {endpoint} failed: {cause}; check the certificate, AWS_CA_BUNDLE, and that the endpoint speaks HTTPS")]
    Tls { endpoint: String, cause: String },
    #[error("{object}: no success within the deadline; the last failure was: {last}")]
    Deadline { object: String, last: String },
    #[error(
        "{object}: the server's answer is wrong: {detail}; it was not used. If this stays, the endpoint (or a proxy before it) does not speak S3 properly"
    )]
    Protocol { object: String, detail: String },
    #[error(
        "the listing of {prefix:?} is broken: {detail}; nothing was published. Try again; if it stays, the endpoint does not list properly"
    )]
    ListingBroken { prefix: String, detail: String },
    #[error("{setting}: {detail}")]
    BadSetting { setting: &'static str, detail: String },
    #[error("{object}: the server answered {status} {code}: {detail}")]
    Server { object: String, status: u16, code: String, detail: String },
    #[error("the connection broke: {cause}")]
    Broken { cause: String },
    #[error("cancelled")]
    Cancelled,
}

impl OriginError {
    /// A stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Replaced { .. } => "replaced",
            Self::NotFound { .. } => "not-found",
            Self::NoSuchBucket { .. } => "no-such-bucket",
            Self::AccessDenied { .. } => "access-denied",
            Self::UnknownAccessKey { .. } | Self::BadSignature { .. } | Self::NoCredentials { .. } => "bad-credentials",
            Self::ExpiredCredentials => "expired-credentials",
            Self::WrongRegion { .. } => "wrong-region",
            Self::ClockSkew { .. } => "clock-skew",
            Self::Archived { .. } => "archived",
            Self::Throttled { .. } => "throttled",
            Self::Unreachable { .. } => "unreachable",
            Self::Tls { .. } => "tls",
            Self::Deadline { .. } => "deadline",
            Self::Protocol { .. } => "protocol",
            Self::ListingBroken { .. } => "listing-broken",
            Self::BadSetting { .. } => "bad-setting",
            Self::Server { .. } => "server",
            Self::Broken { .. } => "broken-connection",
            Self::Cancelled => "cancelled",
        }
    }

    /// The errno a door answers with.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Replaced { .. } => libc::ESTALE,
            Self::NotFound { .. } | Self::NoSuchBucket { .. } => libc::ENOENT,
            Self::AccessDenied { .. } => libc::EACCES,
            Self::Cancelled => libc::EINTR,
            Self::BadSetting { .. } => libc::EINVAL,
            _ => libc::EIO,
        }
    }

    /// True when trying again can't help.
    pub fn permanent(&self) -> bool {
        !matches!(
            self,
            Self::Throttled { .. } | Self::Unreachable { .. } | Self::Protocol { .. } | Self::Broken { .. } | Self::ExpiredCredentials
        ) && !matches!(self, Self::Server { status, .. } if (*status >= 500 && *status != 501) || *status == 408)
    }

    /// True when nothing but time was lacking: the next try may succeed.
    pub fn ran_out_of_time(&self) -> bool {
        matches!(self, Self::Deadline { .. } | Self::Unreachable { .. })
    }

    pub(crate) fn broken(error: &io::Error) -> Self {
        let cause = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no byte for too long".to_owned(),
            io::ErrorKind::UnexpectedEof => "closed before the end".to_owned(),
            _ => error.to_string(),
        };
        Self::Broken { cause }
    }
}
