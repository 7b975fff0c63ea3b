//! The presence bitmap under loom: every order of every atomic, and what weakly ordered memory may show. The source is
//! that of the crate, compiled once more with loom's atomics in place of the real ones.

#![allow(dead_code, unused_imports, reason = "the bitmap is compiled whole and used in part")]

mod sync {
    pub use loom::sync::atomic;
}
#[path = "../src/presence.rs"]
mod presence;

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use presence::Bitmap;

const CHUNK: u64 = 16 * 1024;
const BLOCK: u64 = 1024 * 1024;
const SIZE: u64 = 2 * CHUNK;

/// Stands for the file: loom fails the test if a read of it may meet the write.
struct Bytes(UnsafeCell<u8>);

// SAFETY: that accesses do not meet is what is tested.
unsafe impl Sync for Bytes {}

fn main() {
    loom::model(what_is_present_was_written);
    loom::model(what_is_complete_was_written);
    loom::model(counts_add_up);
    loom::model(what_is_marked_twice_counts_once);
    loom::model(complete_means_proved);
}

fn written() -> (Arc<Bitmap>, Arc<[Bytes; 2]>) {
    (Arc::new(Bitmap::new(SIZE)), Arc::new([Bytes(UnsafeCell::new(0)), Bytes(UnsafeCell::new(0))]))
}

fn write(bytes: &Bytes) {
    // SAFETY: see `Bytes`.
    bytes.0.with_mut(|byte| unsafe { *byte = 1 });
}

fn read(bytes: &Bytes) -> u8 {
    // SAFETY: see `Bytes`.
    bytes.0.with(|byte| unsafe { *byte })
}

/// Writes and marks the second chunk in a thread of its own.
fn second_writer(map: &Arc<Bitmap>, file: &Arc<[Bytes; 2]>) -> thread::JoinHandle<()> {
    let (map, file) = (map.clone(), file.clone());
    thread::spawn(move || {
        write(&file[1]);
        map.mark(0, 0b10, 1);
    })
}

fn what_is_present_was_written() {
    let (map, file) = written();
    let writer = second_writer(&map, &file);
    if map.covers(CHUNK..SIZE) {
        assert_eq!(read(&file[1]), 1);
    }
    if map.missing(0..SIZE).first() == Some(&(0..CHUNK)) {
        assert_eq!(read(&file[1]), 1);
    }
    writer.join().unwrap();
}

fn what_is_complete_was_written() {
    let (map, file) = written();
    let writer = second_writer(&map, &file);
    let (looker_map, looker_file) = (map.clone(), file.clone());
    let looker = thread::spawn(move || {
        if looker_map.is_complete() {
            assert_eq!((read(&looker_file[0]), read(&looker_file[1])), (1, 1));
        }
    });
    write(&file[0]);
    map.mark(0, 0b01, 1);
    writer.join().unwrap();
    looker.join().unwrap();
    assert!(map.is_complete());
}

/// The file's lock keeps writers apart; even without it the counts agree with the bits in the end.
fn counts_add_up() {
    let (map, _) = written();
    let other = map.clone();
    let clearing = thread::spawn(move || other.clear(0));
    map.mark(0, 0b11, 1);
    clearing.join().unwrap();
    let bits = map.chunks(0);
    assert_eq!(map.present_bytes(), u64::from(bits.count_ones()) * CHUNK);
    assert_eq!(map.is_complete(), bits == 0b11);
}

fn what_is_marked_twice_counts_once() {
    let (map, _) = written();
    let other = map.clone();
    let marking = thread::spawn(move || other.mark(0, 0b11, 1));
    map.mark(0, 0b01, 1);
    marking.join().unwrap();
    assert!(map.is_complete());
}

/// As adoption does it: in doubt first, present second; whoever sees a whole file sees the doubt too.
fn complete_means_proved() {
    let map = Arc::new(Bitmap::new(SIZE));
    let adopted = map.clone();
    let adopting = thread::spawn(move || {
        adopted.set_suspect(0, true);
        adopted.mark(0, 0b11, 0);
    });
    assert!(!map.is_complete(), "nothing has been proved");
    adopting.join().unwrap();
    assert!(map.is_whole() && !map.is_complete());
    map.set_suspect(0, false);
    assert!(map.is_complete());
}
