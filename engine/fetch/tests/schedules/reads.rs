//! Readers of one object: right bytes, each read answered once, each byte asked for once.

use std::sync::Arc;

use headrace_fetch::{Object, Piece, ReadError, ReadReply};
use headrace_sync::model::{Exploration, explore, some_time};
use headrace_sync::thread;

use crate::source::{Fault, Scripted};
use crate::stage::{BLOCK, CHUNK, Expected, MEMORY, SEGMENT, Stage, read};

const SIZE: u64 = 3 * SEGMENT + CHUNK + 77;

#[test]
fn readers_share_what_is_under_way() {
    explore(&Exploration { name: "readers", schedules: 200 }, || {
        let stage = Stage::new(4 * MEMORY, Scripted::default());
        let object = stage.object(SIZE);
        thread::scope(|scope| {
            scope.spawn(|| (0..SIZE).step_by(SEGMENT as usize).for_each(|at| read(&object, at..SIZE.min(at + SEGMENT)).unwrap()));
            scope.spawn(|| read(&object, BLOCK + 5..SIZE).unwrap());
            scope.spawn(|| {
                stage.ask(&object, SEGMENT - 9..SEGMENT + 9, 1, Expected::Bytes);
                stage.ask(&object, SIZE - 100..SIZE, 3, Expected::Bytes);
                read(&object, 0..CHUNK).unwrap();
            });
        });
        stage.all_answered();
        assert_eq!(stage.source.sent(), SIZE, "every byte once");
        drop(object);
        stage.end();
    });
}

#[test]
fn a_reader_that_gives_up_is_told_once() {
    explore(&Exploration { name: "interrupts", schedules: 200 }, || {
        let stage = Stage::new(4 * MEMORY, Scripted::default());
        let object = stage.object(SIZE);
        thread::scope(|scope| {
            scope.spawn(|| stage.ask(&object, 0..SEGMENT + 1, 1, Expected::BytesOrError));
            scope.spawn(|| stage.ask(&object, CHUNK..SIZE, 3, Expected::BytesOrError));
            scope.spawn(|| {
                while !object.interrupt(1) && object.cache_file().is_none_or(|file| file.present_bytes() == 0) {
                    thread::yield_now();
                }
            });
            scope.spawn(|| {
                some_time(200);
                object.interrupt(3);
            });
            scope.spawn(|| read(&object, 0..CHUNK).unwrap());
        });
        drop(object);
        stage.end();
    });
}

#[test]
fn what_a_broken_flight_did_not_bring_fails_or_is_fetched() {
    explore(&Exploration { name: "broken flights", schedules: 200 }, || {
        let faults = [Fault::Breaks(CHUNK + 100), Fault::Breaks(0), Fault::Breaks(SEGMENT + 1)];
        let stage = Stage::new(4 * MEMORY, Scripted::new(&faults));
        let object = stage.object(SIZE);
        thread::scope(|scope| {
            scope.spawn(|| stage.ask(&object, 0..SIZE, 1, Expected::BytesOrError));
            scope.spawn(|| stage.ask(&object, SEGMENT..SEGMENT + 10, 3, Expected::BytesOrError));
            scope.spawn(|| until_it_works(&object));
        });
        drop(object);
        stage.end();
    });
}

/// As a loader that tries again; at most three requests fail, each for a moment of virtual time.
fn until_it_works(object: &Arc<Object>) {
    while read(object, CHUNK..2 * SEGMENT).is_err() {
        let (sender, receiver) = headrace_sync::mpsc::sync_channel(1);
        object.read(SIZE - 1, 1, 5, Box::new(Signal(sender)));
        receiver.recv().expect("every read is answered");
        headrace_sync::Condvar::new().wait_for(&mut headrace_sync::Mutex::new(()).lock(), std::time::Duration::from_secs(1));
    }
}

struct Signal(headrace_sync::mpsc::SyncSender<()>);

impl ReadReply for Signal {
    fn ready(self: Box<Self>, _: Vec<Piece>) {
        self.0.send(()).expect("the reader waits");
    }

    fn failed(self: Box<Self>, _: ReadError) {
        self.0.send(()).expect("the reader waits");
    }
}

#[test]
fn a_replaced_object_is_an_error_for_all_that_is_missing() {
    explore(&Exploration { name: "replaced", schedules: 200 }, || {
        let stage = Stage::new(4 * MEMORY, Scripted::new(&[Fault::Breaks(2 * CHUNK), Fault::Replaced]));
        let object = stage.object(SIZE);
        thread::scope(|scope| {
            for token in [1, 3] {
                let (stage, object) = (&stage, &object);
                scope.spawn(move || stage.ask(object, token * CHUNK..SIZE - token * CHUNK, token, Expected::BytesOrError));
            }
            scope.spawn(|| read(&object, SEGMENT..SIZE).map_or_else(|error| assert_ne!(error.code(), "interrupted"), |()| ()));
        });
        drop(object);
        stage.end();
    });
}
