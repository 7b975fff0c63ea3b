//! HTTP answers to a pinned ranged GET: heads, bodies, refusals, and what is resumed after each.
//!
//! The input is one byte that chooses what is asked for, then answers, one for each connection. What reaches the
//! reader is compared with what the bytes of each answer say when they are read by other, simpler code: nothing
//! may come from an answer that is not, without contradiction, the very part of the very version that was asked for.

#![no_main]

use headrace_fuzz::{engine, memory, parts, take};
use headrace_origin::{BodySink, Origin, Pinned, Stop, fuzzing::ANSWER_MAX};
use libfuzzer_sys::fuzz_target;
use std::ops::Range;
use std::time::{Duration, Instant};

const SIZE: u64 = 4096;
/// An error's body is read up to 256 KiB, and told in a message.
const MEMORY_MAX: usize = 2 << 20;

#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    room: Vec<u8>,
}

impl BodySink for Received {
    fn buffer(&mut self) -> Result<&mut [u8], Stop> {
        self.room.resize(100, 0);
        Ok(&mut self.room)
    }

    fn filled(&mut self, count: usize) -> Result<(), Stop> {
        self.bytes.extend_from_slice(&self.room[..count]);
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let [choice] = take(&mut rest);
    let range = [0..4, 100..164, 0..SIZE, 4095..SIZE][usize::from(choice) % 4].clone();
    let version = (choice & 4 != 0).then(|| "v1".to_owned());
    let object = Pinned { key: "k".to_owned(), etag: "\"e1\"".to_owned(), version, size: SIZE };
    let answers: Vec<Vec<u8>> = parts(rest).map(|a| a[..a.len().min(ANSWER_MAX)].to_vec()).collect();
    let origin = Origin::scripted(engine::origin(), answers.clone()).expect("a scripted origin");
    let mut received = Received::default();
    let until = Instant::now() + Duration::from_secs(60);
    let bound = MEMORY_MAX + 16 * data.len();
    let result = memory::within(bound, || origin.get_range(&object, range.clone(), until, &mut received));
    if let Err(error) = &result {
        assert!(error.to_string().len() < MEMORY_MAX, "a message without bound");
    }
    let whole = received.bytes.len() as u64 == range.end - range.start;
    assert_eq!(result.is_ok(), whole, "good only when whole: {result:?}");
    compare(&origin.asked(), &answers, &object, &range, &received.bytes);
});

/// Every byte received must come from the answer to the request that asked for it.
fn compare(asked: &[Vec<u8>], answers: &[Vec<u8>], object: &Pinned, range: &Range<u64>, received: &[u8]) {
    let starts: Vec<u64> = asked.iter().map(|request| asked_from(request, range.end)).collect();
    let end = range.start + received.len() as u64;
    for (index, (start, answer)) in starts.iter().zip(answers).enumerate() {
        let next = starts.get(index + 1).copied().unwrap_or(end);
        assert!(*start <= next && next <= end, "the next request goes on where the last one ended");
        if *start == next {
            continue;
        }
        let given = &received[(start - range.start) as usize..(next - range.start) as usize];
        let body = body_of(answer, object, *start, range.end);
        assert!(body.is_some_and(|b| b.starts_with(given)), "bytes {start}..{next} came from an answer that is not theirs");
    }
}

/// Where a request's range begins; it must end where the whole one does.
fn asked_from(request: &[u8], end: u64) -> u64 {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let range = text.lines().find_map(|line| line.strip_prefix("range: bytes=")).expect("a request for a range");
    let (from, to) = range.split_once('-').expect("from and to");
    assert_eq!(to.parse::<u64>().expect("a number") + 1, end);
    from.parse().expect("a number")
}

/// The body of an answer that is the part asked for; `None` when anything in its head says otherwise.
fn body_of<'a>(answer: &'a [u8], object: &Pinned, from: u64, end: u64) -> Option<&'a [u8]> {
    let mut lines = Vec::new();
    let mut rest = answer;
    let body = loop {
        let at = rest.iter().position(|byte| *byte == b'\n')?;
        let line = String::from_utf8_lossy(&rest[..at]).trim_end_matches('\r').to_owned();
        rest = &rest[at + 1..];
        match (line.is_empty(), lines.is_empty()) {
            (true, true) => {} // empty lines may come before the first
            (true, false) => break rest,
            _ => lines.push(line),
        }
    };
    let status = lines[0].split_whitespace().nth(1)?;
    let all = |name: &str, right: &dyn Fn(&str) -> bool| {
        let values: Vec<_> =
            lines[1..].iter().filter_map(|l| l.split_once(':')).filter(|(n, _)| n.trim().eq_ignore_ascii_case(name)).collect();
        (values.len(), values.iter().all(|(_, value)| right(value.trim())))
    };
    let expected = format!("bytes {from}-{}/{}", end - 1, object.size);
    let etag = |value: &str| value.trim_start_matches("W/").trim_matches('"') == object.etag.trim_matches('"');
    let good = status == "206"
        && matches!(all("content-range", &|v| v.eq_ignore_ascii_case(&expected)), (1.., true))
        && matches!(all("content-length", &|v| v.parse() == Ok(end - from)), (1.., true))
        && matches!(all("etag", &etag), (1.., true))
        && all("transfer-encoding", &|_| false).0 == 0
        && object.version.as_ref().is_none_or(|wanted| all("x-amz-version-id", &|v| v == wanted).1);
    good.then_some(body)
}
