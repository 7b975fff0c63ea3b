//! The data socket: whatever a client sends, it gets an answer to each request, in order, and only bytes of the file it asked for.
//!
//! The input is what the client writes before it hangs up.

#![no_main]

use headrace_fetch::Object;
use headrace_fuzz::engine::{Engine, FILES, byte_at};
use headrace_handout::{HandoutError, Resolver, fuzzing::serve};
use libfuzzer_sys::fuzz_target;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock};

static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::start);

const HELLO: u8 = 1;
const OPEN: u8 = 2;
const READ: u8 = 3;
const DESCRIPTOR: u8 = 4;
const CLOSE: u8 = 5;
const OK: u8 = 64;
const ERROR: u8 = 65;
/// A longer request ends the connection.
const BODY_MAX: usize = 64 * 1024;

struct Names;

impl Resolver for Names {
    fn resolve(&self, origin: &str, _: &str, path: &str) -> Result<Arc<Object>, HandoutError> {
        let unknown = || HandoutError::Refused { errno: libc::ENOENT, code: "unknown".to_owned(), message: format!("no {path:?}") };
        if origin != "o" {
            return Err(unknown());
        }
        let entry = ENGINE.snapshot.find(path).ok_or_else(unknown)?;
        ENGINE.volume.object(&ENGINE.snapshot, entry).ok_or_else(unknown)
    }
}

fuzz_target!(|data: &[u8]| {
    let data = &data[..data.len().min(32 * 1024)];
    let (ours, mut client) = UnixStream::pair().expect("a pair of sockets");
    client.write_all(data).expect("the socket's buffer takes it");
    client.shutdown(Shutdown::Write).expect("hanging up");
    let answers = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut answers = Vec::new();
            // A server that hangs up before it has read everything resets the connection: what came before counts.
            let _ = client.read_to_end(&mut answers);
            answers
        });
        serve(ours, Arc::new(Names));
        reader.join().expect("the reader")
    });
    compare(data, &answers);
});

/// Requests and answers, one by one.
fn compare(mut requests: &[u8], mut answers: &[u8]) {
    let mut opened: HashMap<u32, (&str, u64)> = HashMap::new();
    while let Some((kind, body)) = frame(&mut answers) {
        assert!(matches!(kind, OK | ERROR), "an answer of kind {kind}");
        let (asked, request) = frame(&mut requests).expect("an answer to nothing");
        assert!(request.len() <= BODY_MAX, "a request over the limit was answered");
        if kind == ERROR {
            assert!(body.len() >= 12, "an error without number, code and message");
            continue;
        }
        match asked {
            HELLO | CLOSE | DESCRIPTOR => {}
            OPEN => {
                let (path, size) = *FILES.iter().find(|(path, _)| ends_in_string(request, path)).expect("a file that there is");
                assert_eq!(body[4..], size.to_le_bytes());
                opened.insert(number(body), (path, size));
            }
            READ => {
                let (path, size) = opened[&number(request)];
                let offset = u64::from_le_bytes(request[4..12].try_into().expect("8 bytes"));
                let end = offset.saturating_add(u64::from(number(&request[12..]))).min(size);
                assert_eq!(body.len() as u64, end.saturating_sub(offset), "fewer only at the end of the file");
                let key = format!("p/{path}");
                assert!(body.iter().zip(offset..).all(|(byte, at)| *byte == byte_at(&key, at)), "bytes of another place");
            }
            other => panic!("a request of kind {other} succeeded"),
        }
    }
    assert!(answers.is_empty(), "half an answer");
}

fn frame<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let whole = bytes.get(4..4usize.checked_add(length)?)?;
    *bytes = &bytes[4 + length..];
    Some((*whole.first()?, &whole[1..]))
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes"))
}

/// The third of three strings; what follows it is not looked at by anybody.
fn ends_in_string(mut request: &[u8], text: &str) -> bool {
    let mut last: &[u8] = &[];
    for _ in 0..3 {
        let length = number(request) as usize;
        last = &request[4..4 + length];
        request = &request[4 + length..];
    }
    last == text.as_bytes()
}
