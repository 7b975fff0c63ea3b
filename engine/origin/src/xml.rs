//! The XML that S3 speaks.

use crate::error::OriginError;
use jiff::Timestamp;
use serde::Deserialize;

/// `<Error>`; empty when the body holds none.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ErrorBody {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) region: Option<String>,
    pub(crate) server_time: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ListPage {
    pub(crate) is_truncated: bool,
    pub(crate) next_continuation_token: Option<String>,
    pub(crate) next_key_marker: Option<String>,
    pub(crate) next_version_id_marker: Option<String>,
    pub(crate) encoding_type: Option<String>,
    #[serde(rename = "Contents")]
    pub(crate) contents: Vec<Item>,
    #[serde(rename = "Version")]
    pub(crate) versions: Vec<Item>,
    #[serde(rename = "CommonPrefixes")]
    pub(crate) common_prefixes: Vec<CommonPrefix>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Item {
    pub(crate) key: String,
    pub(crate) last_modified: String,
    #[serde(rename = "ETag")]
    pub(crate) etag: String,
    pub(crate) size: u64,
    pub(crate) storage_class: Option<String>,
    pub(crate) version_id: Option<String>,
    pub(crate) is_latest: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct CommonPrefix {
    pub(crate) prefix: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Versioning {
    pub(crate) status: Option<String>,
}

pub(crate) fn parse<'a, T: Deserialize<'a>>(what: &str, text: &'a str) -> Result<T, OriginError> {
    read(text).map_err(|cause| OriginError::Protocol { object: what.to_owned(), detail: format!("the XML can't be read: {cause}") })
}

/// As [`parse`], for texts that may as well be no XML at all.
///
/// S3 sends no document type, and quick-xml panics at one in the middle of a text (found by fuzzing 0.37.5): none gets that far. A `<` in a key
/// or a message is always escaped, so this refuses nothing else.
pub(crate) fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    let typed = text.as_bytes().windows(3).any(|at| at.eq_ignore_ascii_case(b"<!d"));
    if typed {
        return Err("it has a document type".to_owned());
    }
    quick_xml::de::from_str(text).map_err(|error| error.to_string())
}

/// Nanoseconds since 1970 of an ISO 8601 time; 0 when it can't be read.
pub(crate) fn time_ns(text: &str) -> i64 {
    text.parse::<Timestamp>().ok().and_then(|t| i64::try_from(t.as_nanosecond()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_type_is_refused_wherever_it_stands() {
        for declaration in ["<!DOCTYPE a>", "<!doctype a [<!ENTITY b \"c\">]>"] {
            let split = format!("<V><Status>En{declaration}abled</Status></V>");
            assert_eq!(parse::<Versioning>("v", &split).unwrap_err().code(), "protocol");
            let before = format!("<?xml version=\"1.0\"?>{declaration}<Error><Code>SlowDown</Code></Error>");
            assert!(read::<ErrorBody>(&before).is_err());
        }
        let plain = "<V><!-- Documents --><Status>Enabled</Status></V>";
        assert_eq!(parse::<Versioning>("v", plain).unwrap().status.as_deref(), Some("Enabled"));
    }
}
