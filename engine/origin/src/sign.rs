//! AWS Signature Version 4 for requests without a body
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>).

use crate::Credentials;
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// SHA-256 of an empty body.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

pub(crate) fn encode_path(path: &str) -> String {
    utf8_percent_encode(path, PATH).to_string()
}

/// A canonical query string: sorted by name, everything encoded.
pub(crate) fn encode_query(pairs: &[(&str, &str)]) -> String {
    let encode = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
    let mut encoded: Vec<_> = pairs.iter().map(|(name, value)| (encode(name), encode(value))).collect();
    encoded.sort();
    encoded.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// What is signed.
pub(crate) struct Signable<'a> {
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    /// Encoded.
    pub(crate) path: &'a str,
    /// Canonical.
    pub(crate) query: &'a str,
    pub(crate) region: &'a str,
    /// Further headers to sign, lower-case names, sorted.
    pub(crate) headers: &'a [(&'a str, String)],
}

/// The headers that carry the signature, ready to be sent.
pub(crate) fn sign(request: &Signable<'_>, credentials: &Credentials, now: Timestamp) -> Vec<(&'static str, String)> {
    let stamp = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = &stamp[..8];
    let mut headers =
        vec![("host", request.host.to_owned()), ("x-amz-content-sha256", EMPTY_SHA256.to_owned()), ("x-amz-date", stamp.clone())];
    if let Some(token) = &credentials.session_token {
        headers.push(("x-amz-security-token", token.clone()));
    }
    let mut canonical: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    canonical.extend(request.headers.iter().map(|(n, v)| (*n, v.as_str())));
    canonical.sort_unstable();
    let names = canonical.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(";");
    let mut text = format!("{}\n{}\n{}\n", request.method, request.path, request.query);
    for (name, value) in &canonical {
        text.push_str(&format!("{name}:{}\n", value.trim()));
    }
    text.push_str(&format!("\n{names}\n{EMPTY_SHA256}"));
    let scope = format!("{day}/{}/s3/aws4_request", request.region);
    let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex(&Sha256::digest(text.as_bytes())));
    let mut key = mac(format!("AWS4{}", credentials.secret_key).as_bytes(), day.as_bytes());
    for part in [request.region, "s3", "aws4_request"] {
        key = mac(&key, part.as_bytes());
    }
    let signature = hex(&mac(&key, to_sign.as_bytes()));
    headers.retain(|(name, _)| *name != "host");
    headers.push((
        "authorization",
        format!("AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}", credentials.access_key),
    ));
    headers
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    // HMAC takes keys of any length; this can't fail.
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes any key"));
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The GET Object example of the AWS documentation.
    #[test]
    fn the_documented_example() {
        let credentials = Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        };
        let request = Signable {
            method: "GET",
            host: "examplebucket.s3.amazonaws.com",
            path: "/test.txt",
            query: "",
            region: "us-east-1",
            headers: &[("range", "bytes=0-9".to_owned())],
        };
        let now: Timestamp = "2013-05-24T00:00:00Z".parse().unwrap();
        let headers = sign(&request, &credentials, now);
        let authorization = &headers.iter().find(|(n, _)| *n == "authorization").unwrap().1;
        assert!(authorization.ends_with("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"), "{authorization}");
    }

    /// The GET Bucket (List Objects) example of the AWS documentation.
    #[test]
    fn the_documented_listing() {
        let query = encode_query(&[("prefix", "J"), ("max-keys", "2")]);
        assert_eq!(query, "max-keys=2&prefix=J");
        assert_eq!(encode_path("/a b/ä+c"), "/a%20b/%C3%A4%2Bc");
    }
}
