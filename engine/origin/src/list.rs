//! Listing: pages in order, several prefixes side by side.

use crate::error::OriginError;
use crate::get::Stop;
use crate::origin::Origin;
use crate::request::Request;
use crate::sign::encode_query;
use crate::xml::{Item, ListPage, Versioning, parse, time_ns};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// One page must come within this.
const PAGE_DEADLINE: Duration = Duration::from_secs(60);
/// How often a page is asked for whose XML can't be read.
const PAGE_TRIES: u32 = 3;
/// The first request tells whether the endpoint is there and the credentials are good: a person waits for it.
const PROBE_DEADLINE: Duration = Duration::from_secs(4);
/// More prefixes than this are not worth a segment each.
const SEGMENTS_MAX: usize = 4096;

/// An object as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// The whole key, decoded.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// With its quotes.
    pub etag: String,
    /// Version id, where the bucket has versions.
    pub version: Option<String>,
    /// In a storage class without bytes to read.
    pub archived: bool,
}

/// Takes pages, from several threads.
pub trait ListSink: Sync {
    /// Objects of `segment`, in the server's order. Keys of a lower segment come before those of a higher one.
    ///
    /// # Errors
    /// `Stop` ends the listing with [`OriginError::Cancelled`].
    fn page(&self, segment: u32, objects: &[ListedObject]) -> Result<(), Stop>;
}

/// What a listing was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListSummary {
    /// Objects.
    pub objects: u64,
    /// Requests that brought a page.
    pub pages: u64,
    /// The bucket has versions, and they were listed.
    pub versioned: bool,
}

struct Run<'a> {
    versioned: bool,
    cancel: &'a AtomicBool,
    sink: &'a dyn ListSink,
    objects: AtomicUsize,
    pages: AtomicUsize,
}

impl Origin {
    /// Lists every current object under `prefix`, with up to `workers` requests at once.
    ///
    /// # Errors
    /// Any failure fails the whole listing: nothing half-listed counts.
    pub fn list(&self, prefix: &str, workers: usize, cancel: &AtomicBool, sink: &dyn ListSink) -> Result<ListSummary, OriginError> {
        let run = Run { versioned: self.has_versions()?, cancel, sink, objects: AtomicUsize::new(0), pages: AtomicUsize::new(0) };
        let segments = self.segments(prefix, &run)?;
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..workers.clamp(1, segments.len().max(1)) {
                scope.spawn(|| {
                    while let Some((index, segment)) = segments.get(next.load(Relaxed)).and_then(|_| {
                        let index = next.fetch_add(1, Relaxed);
                        segments.get(index).map(|s| (index, s))
                    }) {
                        if failure.lock().is_some() {
                            return;
                        }
                        if let Err(error) = self.list_segment(index, segment, &run) {
                            failure.lock().get_or_insert(error);
                            return;
                        }
                    }
                });
            }
        });
        match failure.into_inner() {
            Some(error) => Err(error),
            None => Ok(ListSummary {
                objects: run.objects.load(Relaxed) as u64,
                pages: run.pages.load(Relaxed) as u64,
                versioned: run.versioned,
            }),
        }
    }

    fn has_versions(&self) -> Result<bool, OriginError> {
        let request = self.bucket_request(encode_query(&[("versioning", "")]));
        match self.ask(&request, Instant::now() + PROBE_DEADLINE) {
            Ok((_, body)) => {
                let text = String::from_utf8_lossy(&body);
                // A server that does not know the question answers with something else: then there are no versions.
                Ok(parse::<Versioning>("versioning", &text).ok().and_then(|v| v.status).as_deref() == Some("Enabled"))
            }
            // Who may not ask may still list.
            Err(
                OriginError::AccessDenied { .. } | OriginError::Server { .. } | OriginError::NotFound { .. } | OriginError::Protocol { .. },
            ) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What to list side by side: the prefix's own keys between its sub-prefixes, and each sub-prefix.
    fn segments(&self, prefix: &str, run: &Run<'_>) -> Result<Vec<Segment>, OriginError> {
        let mut pager = Pager::new(Segment { prefix: prefix.to_owned(), delimiter: true, objects: None }, false);
        let mut found: Vec<Segment> = Vec::new();
        while let Some(page) = self.next_page(&mut pager, run)? {
            for group in page.common_prefixes {
                let group = decode(&group.prefix, page.encoding_type.is_some());
                found.push(Segment { prefix: group, delimiter: false, objects: None });
            }
            let own: Vec<_> = page.contents.into_iter().map(|i| listed(i, page.encoding_type.is_some())).collect();
            found.extend(own.into_iter().map(|o| Segment { prefix: o.key.clone(), delimiter: false, objects: Some(vec![o]) }));
            if found.len() > SEGMENTS_MAX {
                // A flat directory: one plain walk through it is as fast.
                return Ok(vec![Segment { prefix: prefix.to_owned(), delimiter: false, objects: None }]);
            }
        }
        found.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        if run.versioned {
            // Own keys must be listed with their versions: whole, when there are any beside the sub-prefixes.
            if found.iter().any(|s| s.objects.is_some()) {
                return Ok(vec![Segment { prefix: prefix.to_owned(), delimiter: false, objects: None }]);
            }
            return Ok(found);
        }
        Ok(merge(found))
    }

    fn list_segment(&self, index: usize, segment: &Segment, run: &Run<'_>) -> Result<(), OriginError> {
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        if let Some(objects) = &segment.objects {
            return self.deliver(number, objects, run);
        }
        let mut pager = Pager::new(segment.clone(), run.versioned);
        while let Some(page) = self.next_page(&mut pager, run)? {
            let encoded = page.encoding_type.is_some();
            let items = if run.versioned { page.versions } else { page.contents };
            let current = items.into_iter().filter(|i| i.is_latest != Some(false));
            let objects: Vec<_> = current.map(|i| listed(i, encoded)).collect();
            self.deliver(number, &objects, run)?;
        }
        Ok(())
    }

    fn deliver(&self, segment: u32, objects: &[ListedObject], run: &Run<'_>) -> Result<(), OriginError> {
        run.objects.fetch_add(objects.len(), Relaxed);
        run.sink.page(segment, objects).map_err(|Stop| OriginError::Cancelled)
    }

    fn next_page(&self, pager: &mut Pager, run: &Run<'_>) -> Result<Option<ListPage>, OriginError> {
        if pager.done {
            return Ok(None);
        }
        if run.cancel.load(Relaxed) {
            return Err(OriginError::Cancelled);
        }
        let page = self.page(pager)?;
        run.pages.fetch_add(1, Relaxed);
        pager.turn(&page)?;
        Ok(Some(page))
    }

    /// One page. A body that breaks off in the middle of its XML is asked for again, a few times.
    fn page(&self, pager: &Pager) -> Result<ListPage, OriginError> {
        let request = self.bucket_request(pager.query());
        let until = Instant::now() + PAGE_DEADLINE;
        let mut tries = PAGE_TRIES;
        loop {
            let (_, body) = self.ask(&request, until)?;
            match parse(&request.what, &String::from_utf8_lossy(&body)) {
                Ok(page) => return Ok(page),
                Err(OriginError::Protocol { detail, .. }) if tries == 1 => {
                    return Err(OriginError::ListingBroken { prefix: pager.segment.prefix.clone(), detail });
                }
                Err(_) => tries -= 1,
            }
        }
    }

    fn bucket_request(&self, query: String) -> Request<'static> {
        Request { method: "GET", key: "", query, headers: Vec::new(), what: self.name(""), action: "list" }
    }
}

/// A part of a listing: to be walked, or already at hand.
#[derive(Clone)]
struct Segment {
    prefix: String,
    delimiter: bool,
    objects: Option<Vec<ListedObject>>,
}

/// Neighbouring keys of the prefix itself make one segment.
fn merge(found: Vec<Segment>) -> Vec<Segment> {
    let mut merged: Vec<Segment> = Vec::new();
    for segment in found {
        match (merged.last_mut().and_then(|s| s.objects.as_mut()), segment.objects) {
            (Some(list), Some(objects)) => list.extend(objects),
            (_, objects) => merged.push(Segment { objects, ..segment }),
        }
    }
    merged
}

/// Walks the pages of one prefix and refuses a walk that goes in circles or breaks off.
struct Pager {
    segment: Segment,
    versioned: bool,
    token: Option<String>,
    markers: (Option<String>, Option<String>),
    circle: Circle,
    done: bool,
}

/// Finds out that a walk goes in circles, of whatever length, by remembering a single place: each time twice as many steps later (Brent).
#[derive(Default)]
struct Circle {
    place: Option<String>,
    steps: u64,
    remembered_for: u64,
}

impl Circle {
    /// True when the walk has been at this place before.
    fn closes(&mut self, place: &str) -> bool {
        if self.place.as_deref() == Some(place) {
            return true;
        }
        self.steps += 1;
        if self.steps >= self.remembered_for {
            self.place = Some(place.to_owned());
            self.remembered_for = (self.remembered_for * 2).max(1);
            self.steps = 0;
        }
        false
    }
}

impl Pager {
    fn new(segment: Segment, versioned: bool) -> Self {
        Self { segment, versioned, token: None, markers: (None, None), circle: Circle::default(), done: false }
    }

    fn query(&self) -> String {
        let mut pairs = vec![("prefix", self.segment.prefix.as_str()), ("encoding-type", "url"), ("max-keys", "1000")];
        if self.segment.delimiter {
            pairs.push(("delimiter", "/"));
        }
        if self.versioned {
            pairs.push(("versions", ""));
            pairs.extend(self.markers.0.as_deref().map(|m| ("key-marker", m)));
            pairs.extend(self.markers.1.as_deref().map(|m| ("version-id-marker", m)));
        } else {
            pairs.push(("list-type", "2"));
            pairs.extend(self.token.as_deref().map(|t| ("continuation-token", t)));
        }
        encode_query(&pairs)
    }

    fn turn(&mut self, page: &ListPage) -> Result<(), OriginError> {
        if !page.is_truncated {
            self.done = true;
            return Ok(());
        }
        let broken = |detail: &str| OriginError::ListingBroken { prefix: self.segment.prefix.clone(), detail: detail.to_owned() };
        if self.versioned {
            let encoded = page.encoding_type.is_some();
            let key = page.next_key_marker.as_deref().map(|m| decode(m, encoded));
            let markers = (key, page.next_version_id_marker.clone());
            if markers.0.is_none() {
                return Err(broken("it says that more follows, but not where"));
            }
            if self.circle.closes(&format!("{}\0{}", markers.0.as_deref().unwrap_or(""), markers.1.as_deref().unwrap_or(""))) {
                return Err(broken("it repeats a marker, and so goes in circles"));
            }
            self.markers = markers;
            return Ok(());
        }
        let Some(token) = page.next_continuation_token.clone().filter(|t| !t.is_empty()) else {
            return Err(broken("it says that more follows, but not where"));
        };
        if self.circle.closes(&token) {
            return Err(broken("it repeats a token, and so goes in circles"));
        }
        self.token = Some(token);
        Ok(())
    }
}

fn decode(text: &str, encoded: bool) -> String {
    if !encoded {
        return text.to_owned();
    }
    // S3 encodes as forms do: a blank may be a plus.
    let text = text.replace('+', "%20");
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

fn listed(item: Item, encoded: bool) -> ListedObject {
    let archived = matches!(
        item.storage_class.as_deref(),
        Some("GLACIER" | "DEEP_ARCHIVE" | "Archive" | "ColdArchive" | "DeepColdArchive" | "ARCHIVE")
    );
    let etag = if item.etag.starts_with('"') || item.etag.is_empty() { item.etag } else { format!("\"{}\"", item.etag) };
    ListedObject {
        key: decode(&item.key, encoded),
        size: item.size,
        mtime_ns: time_ns(&item.last_modified),
        etag,
        version: item.version_id.filter(|v| !v.is_empty()),
        archived,
    }
}
