//! READ: answered from memory as bytes arrive, or from the cache file by the pool.

use crate::device::PIECES_MAX;
use crate::mount::Mount;
use crate::signals::Watch;
use crate::wire::Request;
use headrace_fetch::{Object, Piece, ReadError, ReadReply};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Largest answer that is tried at once from the page cache, on the thread that reads the device.
const QUICK_MAX: usize = 1024 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A READ that has no answer yet.
pub(crate) struct Waiting {
    pub(crate) object: Arc<Object>,
    /// Who waits; 0 when that can't be said.
    pub(crate) thread: u32,
}

/// What a READ asks for.
#[derive(Clone, Copy)]
struct Asked {
    unique: u64,
    thread: u32,
    left: bool,
    offset: u64,
    len: u64,
}

/// Where the answer of one READ goes.
struct Reply {
    mount: Arc<Mount>,
    object: Arc<Object>,
    unique: u64,
    offset: u64,
    len: u64,
    since: Instant,
}

impl Mount {
    pub(crate) fn read(self: &Arc<Self>, request: &Request<'_>) {
        let (Some(offset), Some(size)) = (request.u64(8), request.u32(16)) else {
            return self.device.error(request.unique, libc::EINVAL);
        };
        let (unique, raw) = (request.unique, request.node);
        let asked = Asked { unique, thread: request.thread, left: request.left, offset, len: u64::from(size) };
        if let Some(object) = self.nodes.get(raw) {
            if object.is_at_hand() {
                return self.read_object(object, asked);
            }
            let mount = Arc::clone(self);
            return self.pool.run(move || mount.read_object(object, asked));
        }
        // Opened before a take-over: finding its cache file may touch the disk.
        let mount = Arc::clone(self);
        self.pool.run(move || match mount.resolve(mount.node(raw)) {
            Some(object) => {
                mount.nodes.enter(raw, &object, 0);
                mount.read_object(object, asked);
            }
            None => mount.device.error(unique, libc::ESTALE),
        });
    }

    fn read_object(self: &Arc<Self>, object: Arc<Object>, asked: Asked) {
        let Asked { unique, thread, left, offset, len } = asked;
        self.counters.reads.fetch_add(1, Relaxed);
        self.pending.lock().insert(unique, Waiting { object: Arc::clone(&object), thread });
        if left {
            self.signals.watch(unique, Watch::TakenOver);
        }
        let reply = Reply { mount: Arc::clone(self), object: Arc::clone(&object), unique, offset, len, since: Instant::now() };
        object.read(offset, len, unique, Box::new(reply));
    }

    /// INTERRUPT: a waiting reader got a signal.
    pub(crate) fn interrupt(&self, request: &Request<'_>) {
        if let Some(unique) = request.u64(0) {
            self.signals.watch(unique, Watch::Asked(request.unique));
        }
    }
}

impl ReadReply for Reply {
    fn ready(self: Box<Self>, pieces: Vec<Piece>) {
        let from_memory = pieces.iter().all(|p| matches!(p, Piece::Memory { .. })) && pieces.len() < PIECES_MAX;
        if from_memory {
            return self.send(&pieces, &[]);
        }
        if let [Piece::File { offset, len }] = pieces[..]
            && len <= QUICK_MAX
            && self.quick(offset, len)
        {
            return;
        }
        let mount = Arc::clone(&self.mount);
        mount.pool.run(move || self.from_disk(&pieces));
    }

    fn failed(self: Box<Self>, error: ReadError) {
        self.done();
        self.mount.counters.failed_reads.fetch_add(1, Relaxed);
        self.mount.device.error(self.unique, error.errno());
    }
}

impl Reply {
    fn done(&self) {
        self.mount.pending.lock().remove(&self.unique);
    }

    /// Answers from the page cache if everything is there; never waits for the disk.
    fn quick(&self, offset: u64, len: usize) -> bool {
        let Some(file) = self.object.cache_file() else { return false };
        SCRATCH.with_borrow_mut(|scratch| {
            let buffer = room(scratch, len);
            if !matches!(file.try_read_nowait(offset, buffer), Ok(Some(count)) if count == len) {
                return false;
            }
            self.done();
            self.mount.counters.read_bytes.fetch_add(len as u64, Relaxed);
            self.mount.device.reply(self.unique, buffer);
            true
        })
    }

    /// Reads the pieces that lie in the cache file, then answers.
    fn from_disk(self: Box<Self>, pieces: &[Piece]) {
        let total = pieces.iter().map(Piece::len).sum();
        let outcome = SCRATCH.with_borrow_mut(|scratch| {
            let buffer = room(scratch, total);
            let outcome = self.gather(pieces, buffer);
            if matches!(outcome, Gathered::All) {
                self.send(&[], buffer);
            }
            outcome
        });
        match outcome {
            Gathered::All => {}
            Gathered::Gone => self.again(),
            Gathered::Broken => {
                // The disk can't give back what it took: drop the file, and the origin has the bytes.
                self.object.discard();
                self.again();
            }
        }
    }

    fn gather(&self, pieces: &[Piece], buffer: &mut [u8]) -> Gathered {
        let Some(file) = self.object.cache_file() else { return Gathered::Gone };
        let mut at = 0;
        for piece in pieces {
            let part = &mut buffer[at..at + piece.len()];
            at += piece.len();
            match piece {
                Piece::Memory { segment, offset, len } => part.copy_from_slice(&segment.bytes()[*offset..*offset + *len]),
                Piece::File { offset, .. } => match file.read_at(*offset, part) {
                    Ok(Some(())) => {}
                    Ok(None) => return Gathered::Gone,
                    Err(error) => {
                        log::error!("reading {} back from the cache disk: {error}", self.object.spec().key);
                        return Gathered::Broken;
                    }
                },
            }
        }
        Gathered::All
    }

    /// The bytes were evicted between the answer and the disk: ask the engine again, within the deadline.
    fn again(self: Box<Self>) {
        if self.since.elapsed() > self.object.deadline() {
            let error = ReadError::Deadline {
                seconds: self.object.deadline().as_secs(),
                last: "the cache gave its bytes up again and again".into(),
            };
            return self.failed(error);
        }
        let object = Arc::clone(&self.object);
        let (offset, len, unique) = (self.offset, self.len, self.unique);
        object.read(offset, len, unique, self);
    }

    fn send(&self, pieces: &[Piece], flat: &[u8]) {
        let mut slices: Vec<&[u8]> = Vec::with_capacity(pieces.len() + 1);
        for piece in pieces {
            if let Piece::Memory { segment, offset, len } = piece {
                slices.push(&segment.bytes()[*offset..*offset + *len]);
            }
        }
        slices.push(flat);
        let bytes: usize = slices.iter().map(|s| s.len()).sum();
        self.done();
        self.mount.counters.read_bytes.fetch_add(bytes as u64, Relaxed);
        self.mount.device.reply_pieces(self.unique, &slices);
    }
}

enum Gathered {
    All,
    Gone,
    Broken,
}

fn room(scratch: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if scratch.len() < len {
        scratch.resize(len, 0);
    }
    &mut scratch[..len]
}
