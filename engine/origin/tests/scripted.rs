//! The client against a server that answers by script: every check, every retry, every resume.

use headrace_origin::{Addressing, BodySink, Credentials, ListSink, ListedObject, Origin, OriginConfig, OriginError, Pinned, Stop};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the server does with one request.
enum Answer {
    /// Send this and keep the connection.
    Send(Vec<u8>),
    /// Send this and break the connection off.
    Break(Vec<u8>),
    /// Say nothing until the client goes away.
    Silence,
}

type Script = dyn Fn(usize, &str) -> Answer + Send + Sync;

struct Server {
    origin: Arc<Origin>,
    requests: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    address: std::net::SocketAddr,
}

impl Server {
    fn start(script: impl Fn(usize, &str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let script: Arc<Script> = Arc::new(script);
        let (seen, ended) = (Arc::clone(&requests), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Relaxed) {
                    return;
                }
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                std::thread::spawn(move || serve(stream.unwrap(), &script, &seen));
            }
        });
        let config = OriginConfig {
            endpoint: format!("http://{address}"),
            region: "us-east-1".into(),
            bucket: "b".into(),
            addressing: Addressing::Path,
            anonymous: false,
            ca_bundle: None,
            proxy: None,
            source_addresses: Vec::new(),
            max_connections: 8,
            connect_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_millis(300),
            max_bytes_per_second: None,
            max_requests_per_second: None,
        };
        let credentials = Credentials { access_key: "k".into(), secret_key: "s".into(), session_token: None };
        let origin = Origin::new(config, Some(credentials)).unwrap();
        Self { origin, requests, stop, thread: Some(thread), address }
    }

    fn get(&self, at: u64, end: u64, seconds: u64) -> (Result<(), OriginError>, Vec<u8>) {
        let object = Pinned { key: "k e/y".into(), etag: "\"e1\"".into(), version: None, size: 1000 };
        let mut sink = Bytes::default();
        let result = self.origin.get_range(&object, at..end, Instant::now() + Duration::from_secs(seconds), &mut sink);
        (result, sink.bytes)
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.origin.shutdown();
        drop(TcpStream::connect(self.address));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(mut stream: TcpStream, script: &Arc<Script>, seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(head.clone());
            seen.len() - 1
        };
        match script(number, &head) {
            Answer::Send(bytes) => stream.write_all(&bytes).unwrap(),
            Answer::Break(bytes) => {
                stream.write_all(&bytes).unwrap();
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
            Answer::Silence => {
                let mut rest = String::new();
                let _ = reader.read_line(&mut rest);
                return;
            }
        }
    }
}

#[derive(Default)]
struct Bytes {
    bytes: Vec<u8>,
    buffer: Vec<u8>,
}

impl BodySink for Bytes {
    fn buffer(&mut self) -> Result<&mut [u8], Stop> {
        self.buffer.resize(64, 0);
        Ok(&mut self.buffer)
    }

    fn filled(&mut self, count: usize) -> Result<(), Stop> {
        self.bytes.extend_from_slice(&self.buffer[..count]);
        Ok(())
    }
}

fn content(at: u64, end: u64) -> Vec<u8> {
    (at..end).map(|i| (i * 7 % 251) as u8).collect()
}

fn asked(head: &str) -> (u64, u64) {
    let line = head.lines().find(|l| l.to_lowercase().starts_with("range: ")).unwrap();
    let (at, last) = line.split_once("bytes=").unwrap().1.split_once('-').unwrap();
    (at.parse().unwrap(), last.trim().parse::<u64>().unwrap() + 1)
}

fn part(at: u64, end: u64) -> Vec<u8> {
    changed(at, end, |head| head)
}

fn changed(at: u64, end: u64, change: impl Fn(String) -> String) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {at}-{}/1000\r\nContent-Length: {}\r\nETag: \"e1\"\r\n\r\n",
        end - 1,
        end - at
    );
    let mut bytes = change(head).into_bytes();
    bytes.extend(content(at, end));
    bytes
}

fn status(line: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[test]
fn a_range_is_pinned_signed_and_arrives_over_one_connection() {
    let server = Server::start(|_, head| {
        let (at, end) = asked(head);
        Answer::Send(part(at, end))
    });
    for (at, end) in [(0, 1000), (10, 11), (999, 1000), (100, 900)] {
        let (result, bytes) = server.get(at, end, 5);
        result.unwrap();
        assert_eq!(bytes, content(at, end));
    }
    let head = server.requests.lock().unwrap()[0].to_lowercase();
    assert!(head.starts_with("get /b/k%20e/y http/1.1\r\n"), "{head}");
    assert!(head.contains("if-match: \"e1\"\r\n") && head.contains("signedheaders=host;if-match;range;"), "{head}");
    assert_eq!(server.origin.counters().connections, 1);
}

#[test]
fn a_body_that_breaks_off_is_resumed_at_the_next_byte() {
    let server = Server::start(|_, head| {
        let (at, end) = asked(head);
        let whole = part(at, end);
        if end - at > 300 { Answer::Break(whole[..whole.len() - (end - at) as usize + 250].to_vec()) } else { Answer::Send(whole) }
    });
    let (result, bytes) = server.get(0, 1000, 10);
    result.unwrap();
    assert_eq!(bytes, content(0, 1000));
    let ranges: Vec<_> = server.requests.lock().unwrap().iter().map(|h| asked(h)).collect();
    assert_eq!(ranges, [(0, 1000), (250, 1000), (500, 1000), (750, 1000)]);
    assert_eq!(server.origin.counters().body_bytes, 1000);
}

#[test]
fn no_byte_of_a_wrong_answer_counts() {
    type Change = fn(u64, u64) -> Vec<u8>;
    let wrong: [Change; 6] = [
        |at, end| changed(at, end, |h| h.replace("206 Partial Content", "200 OK")),
        |at, end| changed(at, end, |h| h.replace("/1000", "/1001")),
        |at, end| changed(at, end, |h| h.replace("bytes ", "bytes 1")),
        |at, end| changed(at, end, |h| h.replace("\"e1\"", "\"e2\"")),
        |at, end| {
            let mut short = changed(at, end, |h| h.replace(&format!("Content-Length: {}", end - at), "Content-Length: 5"));
            short.truncate(short.len() - (end - at) as usize + 5);
            short
        },
        |at, end| changed(at, end, |h| h.replace("Content-Range", "X-Range")),
    ];
    for (index, answer) in wrong.into_iter().enumerate() {
        // Once wrong, then right: the right bytes arrive, and only those.
        let server = Server::start(move |number, head| {
            let (at, end) = asked(head);
            if number == 0 { Answer::Break(answer(at, end)) } else { Answer::Send(part(at, end)) }
        });
        let (result, bytes) = server.get(100, 300, 10);
        result.unwrap();
        assert_eq!(bytes, content(100, 300), "case {index}");
        assert_eq!(server.origin.counters().rejected_answers, 1);
        // Always wrong: an error, and not one byte.
        let server = Server::start(move |_, head| Answer::Break(answer(asked(head).0, asked(head).1)));
        let (result, bytes) = server.get(100, 300, 20);
        assert_eq!((result.unwrap_err().code(), bytes.len()), ("protocol", 0), "case {index}");
    }
}

#[test]
fn an_answer_that_contradicts_itself_does_not_count() {
    // The first of two values is right: whoever stands between may have gone by the other.
    for second in ["ETag: \"e2\"", "Content-Length: 7", "Content-Range: bytes 0-9/1000", "etag: W/\"e2\""] {
        let answer = move |at, end| changed(at, end, |h| h.replace("\r\n\r\n", &format!("\r\n{second}\r\n\r\n")));
        let server = Server::start(move |_, head| Answer::Break(answer(asked(head).0, asked(head).1)));
        let (result, bytes) = server.get(100, 300, 20);
        assert_eq!((result.unwrap_err().code(), bytes.len()), ("protocol", 0), "{second}");
    }
    let server = Server::start(|_, head| {
        let (at, end) = asked(head);
        Answer::Send(changed(at, end, |h| h.replace("\r\n\r\n", "\r\nETag: \"e1\"\r\n\r\n")))
    });
    assert_eq!(server.get(100, 300, 10).1, content(100, 300), "said twice is no contradiction");
}

#[test]
fn chunks_out_of_step_are_not_read_as_a_listing() {
    let page = "<ListBucketResult><Contents><Key>p/a</Key></Contents></ListBucketResult>";
    let chunked = |size: &str, after: &str, trailer: &str| {
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n{page}{after}\r\n0\r\n{trailer}\r\n").into_bytes()
    };
    let size = format!("{:x}", page.len());
    let ask = |answer: Vec<u8>| {
        list(move |number, _| if number > 12 { Answer::Send(status("403 Forbidden", "")) } else { Answer::Break(answer.clone()) })
    };
    assert_eq!(ask(chunked(&size, "", "Expires: never\r\n")).1, ["p/a"]);
    let endless = "X: y\r\n".repeat(20_000);
    for wrong in [chunked(&format!("+{size}"), "", ""), chunked(&size, "!", ""), chunked(&size, "", &endless)] {
        assert!(ask(wrong).0.is_err());
    }
}

#[test]
fn wrong_answers_are_forgiven_once_bytes_come_again() {
    // Of many answers every second one is wrong; the others bring some bytes and break off. Counted together they would end it.
    let server = Server::start(|number, head| {
        let (at, end) = asked(head);
        if number % 2 == 0 {
            return Answer::Send(changed(at, end, |head| head.replace("\"e1\"", "\"e2\"")));
        }
        let whole = part(at, end);
        let cut = whole.len() - (end - at) as usize + 50.min(end - at) as usize;
        Answer::Break(whole[..cut].to_vec())
    });
    let (result, bytes) = server.get(0, 1000, 30);
    assert!(result.is_ok(), "{result:?}");
    assert!(bytes == content(0, 1000));
    assert!(server.count() >= 40);
}

#[test]
fn a_replaced_object_is_told_at_once() {
    let server = Server::start(|_, _| Answer::Send(status("412 Precondition Failed", "<Error><Code>PreconditionFailed</Code></Error>")));
    let (result, bytes) = server.get(0, 10, 10);
    assert_eq!((result.unwrap_err().code(), bytes.len(), server.count()), ("replaced", 0, 1));
}

#[test]
fn refusals_are_named() {
    let cases = [
        ("403 Forbidden", "InvalidAccessKeyId", "bad-credentials"),
        ("403 Forbidden", "SignatureDoesNotMatch", "bad-credentials"),
        ("403 Forbidden", "RequestTimeTooSkewed", "clock-skew"),
        ("403 Forbidden", "AccessDenied", "access-denied"),
        ("403 Forbidden", "InvalidObjectState", "archived"),
        ("404 Not Found", "NoSuchBucket", "no-such-bucket"),
        ("404 Not Found", "NoSuchKey", "not-found"),
        ("301 Moved", "PermanentRedirect", "wrong-region"),
        ("400 Bad Request", "AuthorizationHeaderMalformed", "wrong-region"),
    ];
    for (line, code, expected) in cases {
        let body = format!("<Error><Code>{code}</Code><Region>eu-x-1</Region></Error>");
        let server = Server::start(move |_, _| Answer::Send(status(line, &body)));
        let error = server.get(0, 10, 10).0.unwrap_err();
        assert_eq!((error.code(), server.count()), (expected, 1), "{code}: {error}");
    }
}

#[test]
fn slow_down_is_waited_out_and_lowers_the_rate() {
    let server = Server::start(|number, head| match number {
        0 => Answer::Send(status("503 Slow Down", "<Error><Code>SlowDown</Code></Error>")),
        1 => Answer::Send(status("429 Too Many Requests", "")),
        2 => Answer::Send(status("500 Internal Server Error", "")),
        _ => Answer::Send(part(asked(head).0, asked(head).1)),
    });
    let (result, bytes) = server.get(0, 10, 10);
    result.unwrap();
    assert_eq!(bytes, content(0, 10));
    let counters = server.origin.counters();
    assert_eq!((counters.throttled, counters.retries), (2, 3));
}

#[test]
fn a_stall_is_given_up_and_the_deadline_holds() {
    let server = Server::start(|number, head| if number == 0 { Answer::Silence } else { Answer::Send(part(asked(head).0, asked(head).1)) });
    let (result, bytes) = server.get(0, 10, 10);
    result.unwrap();
    assert_eq!(bytes, content(0, 10));
    let server = Server::start(|_, _| Answer::Silence);
    let begun = Instant::now();
    let error = server.get(0, 10, 2).0.unwrap_err();
    assert_eq!(error.code(), "deadline");
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[derive(Default)]
struct Keys(Mutex<Vec<(u32, String)>>);

impl ListSink for Keys {
    fn page(&self, segment: u32, objects: &[ListedObject]) -> Result<(), Stop> {
        self.0.lock().unwrap().extend(objects.iter().map(|o| (segment, o.key.clone())));
        Ok(())
    }
}

fn list(script: impl Fn(usize, &str) -> Answer + Send + Sync + 'static) -> (Result<u64, OriginError>, Vec<String>) {
    let server = Server::start(script);
    let keys = Keys::default();
    let result = server.origin.list("p/", 4, &AtomicBool::new(false), &keys);
    let mut found = keys.0.into_inner().unwrap();
    found.sort();
    (result.map(|s| s.objects), found.into_iter().map(|(_, k)| k).collect())
}

fn page(keys: &[&str], groups: &[&str], token: &str) -> Vec<u8> {
    let contents: String = keys.iter().map(|k| format!("<Contents><Key>{k}</Key><Size>3</Size><ETag>\"x\"</ETag></Contents>")).collect();
    let groups: String = groups.iter().map(|g| format!("<CommonPrefixes><Prefix>{g}</Prefix></CommonPrefixes>")).collect();
    let more = if token.is_empty() {
        "<IsTruncated>false</IsTruncated>".to_owned()
    } else {
        format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>")
    };
    let body = format!("<ListBucketResult><EncodingType>url</EncodingType>{more}{contents}{groups}</ListBucketResult>");
    status("200 OK", &body)
}

fn plain(head: &str) -> bool {
    head.contains("?versioning=")
}

#[test]
fn pages_and_sub_prefixes_are_all_listed_with_decoded_keys() {
    let (count, keys) = list(|_, head| {
        let line = head.lines().next().unwrap();
        Answer::Send(match line {
            _ if plain(line) => status("200 OK", "<VersioningConfiguration/>"),
            _ if line.contains("delimiter=%2F") && !line.contains("token") => page(&["p/a%20b"], &["p/d/"], "T1"),
            _ if line.contains("delimiter=%2F") => page(&["p/z%2B"], &[], ""),
            _ if line.contains("prefix=p%2Fd%2F") && !line.contains("token") => page(&["p/d/1"], &[], "T2"),
            _ => page(&["p/d/%C3%A4"], &[], ""),
        })
    });
    assert_eq!((count.unwrap(), keys), (4, vec!["p/a b".into(), "p/d/1".into(), "p/d/ä".into(), "p/z+".into()]));
}

#[test]
fn a_listing_that_goes_in_circles_fails() {
    for length in [1, 2, 7] {
        let (result, _) = list(move |number, head| {
            Answer::Send(match head {
                _ if plain(head) => status("200 OK", "<VersioningConfiguration/>"),
                _ => page(&["p/a"], &[], &format!("T{}", number % length)),
            })
        });
        assert_eq!(result.unwrap_err().code(), "listing-broken");
    }
}

#[test]
fn versions_and_delete_markers_come_mixed() {
    let (result, keys) = list(|_, head| {
        let line = head.lines().next().unwrap();
        let version = |key: &str, latest: bool| {
            format!("<Version><Key>{key}</Key><VersionId>1</VersionId><IsLatest>{latest}</IsLatest><Size>3</Size><ETag>x</ETag></Version>")
        };
        let marker = "<DeleteMarker><Key>p/b</Key><VersionId>2</VersionId><IsLatest>true</IsLatest></DeleteMarker>";
        Answer::Send(match line {
            _ if plain(line) => status("200 OK", "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"),
            _ if line.contains("delimiter") => page(&["p/a", "p/c"], &[], ""),
            _ => status("200 OK", &format!("<R>{}{marker}{}{}</R>", version("p/a", true), version("p/b", false), version("p/c", true))),
        })
    });
    assert_eq!((result.unwrap(), keys), (2, vec!["p/a".into(), "p/c".into()]));
}

#[test]
fn a_server_that_knows_no_versions_lists_all_the_same() {
    let (result, _) = list(|_, head| {
        Answer::Send(if plain(head) {
            status("501 Not Implemented", "<Error><Code>NotImplemented</Code></Error>")
        } else {
            page(&["p/a"], &[], "")
        })
    });
    assert_eq!(result.unwrap(), 1);
}

#[test]
fn a_listing_without_a_way_on_fails() {
    let body = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
    let (result, _) = list(move |_, head| {
        Answer::Send(if plain(head) { status("200 OK", "<VersioningConfiguration/>") } else { status("200 OK", body) })
    });
    assert_eq!(result.unwrap_err().code(), "listing-broken");
}

#[test]
fn settings_are_checked_by_name() {
    let server = Server::start(|_, _| Answer::Silence);
    drop(server);
    for (endpoint, word) in [("ftp://x", "http"), ("http://u:p@x", "user"), ("http://", "endpoint")] {
        let config = OriginConfig {
            endpoint: endpoint.into(),
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
            max_bytes_per_second: None,
            max_requests_per_second: None,
        };
        let error = Origin::new(config, None).err().unwrap();
        assert!(error.code() == "bad-setting" && error.to_string().contains(word), "{error}");
    }
}
