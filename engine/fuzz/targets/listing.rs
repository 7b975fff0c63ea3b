//! S3's XML: listings with and without versions, and refusals.
//!
//! The input is one byte of choices, then bodies: the first answers whether the bucket has versions, the others are pages. A part
//! that begins with `HTTP/` is a whole answer with its head.

#![no_main]

use headrace_fuzz::{engine, memory, parts, take};
use headrace_origin::{ListSink, ListedObject, Origin, Stop};
use libfuzzer_sys::fuzz_target;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

/// Room for a page as text, as elements, and as objects, of whatever small elements it is made; and for an answer that lies about its length.
const MEMORY_PER_BYTE: usize = 200;
const MEMORY_MAX: usize = 1 << 20;

#[derive(Default)]
struct Pages(Mutex<Vec<ListedObject>>);

impl ListSink for Pages {
    fn page(&self, _: u32, objects: &[ListedObject]) -> Result<(), Stop> {
        self.0.lock().map_err(|_| Stop)?.extend_from_slice(objects);
        Ok(())
    }
}

fn answer(part: &[u8]) -> Vec<u8> {
    if part.starts_with(b"HTTP/") {
        return part.to_vec();
    }
    let mut whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", part.len()).into_bytes();
    whole.extend_from_slice(part);
    whole
}

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let [choice] = take(&mut rest);
    let prefix = ["", "p/", "models/a b/"][usize::from(choice) % 3];
    let origin = Origin::scripted(engine::origin(), parts(rest).map(answer)).expect("a scripted origin");
    let pages = Pages::default();
    let never = AtomicBool::new(false);
    let bound = MEMORY_MAX + MEMORY_PER_BYTE * data.len();
    match memory::within(bound, || origin.list(prefix, 1, &never, &pages)) {
        Ok(summary) => {
            let objects = pages.0.into_inner().expect("no thread panicked");
            assert_eq!(summary.objects, objects.len() as u64, "what is counted is what was given");
            let elements = data.iter().filter(|byte| **byte == b'<').count();
            assert!(objects.len() <= elements, "{} objects out of {elements} elements", objects.len());
            let written = |etag: &str| etag.is_empty() || etag.starts_with('"');
            assert!(objects.iter().all(|o| written(&o.etag) && o.version.as_deref() != Some("")));
        }
        Err(error) => assert!(!error.to_string().is_empty() && !error.code().is_empty()),
    }
});
