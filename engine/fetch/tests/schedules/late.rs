//! An origin that is out of reach for as long as one waits. Who was there when a request began fails with it; who came later has waited
//! for less, and gets one more; who asks again for what has just failed is told at once (docs/decisions/0029).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use headrace_fetch::{Object, ReadError};
use headrace_sync::model::{Exploration, explore};
use headrace_sync::{Condvar, Instant, Mutex, thread};

use crate::source::{Fault, Scripted};
use crate::stage::{BLOCK, CHUNK, Expected, MEMORY, SEGMENT, Stage, read};

const DEADLINE: Duration = Duration::from_secs(4);
/// More than is fetched ahead of a first read.
const LARGE: u64 = 10 * SEGMENT + 1;
/// For how long the fetcher remembers what a request did not bring, and what a reader was refused.
const REMEMBERED: Duration = Duration::from_secs(3);
const REFUSED: Duration = Duration::from_millis(500);

#[test]
fn who_joins_a_request_late_gets_another() {
    explore(&Exploration { name: "late joiners", schedules: 200 }, || {
        let stage = Stage::new(4 * MEMORY, Scripted::new(&[Fault::Late]));
        let object = stage.object(BLOCK);
        thread::scope(|scope| {
            // One of these begins it, and the other comes when it comes.
            scope.spawn(|| stage.ask(&object, 0..2 * CHUNK, 7, Expected::BytesOrError));
            scope.spawn(|| stage.ask(&object, CHUNK..2 * CHUNK, 1, Expected::BytesOrError));
            stage.source.until_late(1);
            stage.ask(&object, 0..CHUNK, 3, Expected::Bytes);
            stage.ask(&object, BLOCK - CHUNK..BLOCK, 5, Expected::Bytes);
            stage.source.let_go();
        });
        stage.all_answered();
        assert!(stage.source.requests() <= 4, "{}", stage.source.requests());
        drop(object);
        stage.end();
    });
}

#[test]
fn nobody_gets_more_than_one_more() {
    explore(&Exploration { name: "late twice", schedules: 200 }, || {
        let stage = Stage::new(4 * MEMORY, Scripted::new(&[Fault::Late, Fault::Late]));
        let object = stage.object(BLOCK);
        thread::scope(|scope| {
            scope.spawn(|| failed(&object));
            stage.source.until_late(1);
            scope.spawn(|| failed(&object));
            while stage.fetcher.counters().waiting.load(Relaxed) < 2 {
                thread::yield_now();
            }
            let earliest = Instant::now();
            stage.source.let_go();
            stage.source.until_late(2);
            // As the kernel does after its read-ahead: what has just failed is under way, for somebody else.
            ask_again(&stage, &object, 0..CHUNK, earliest);
            stage.source.let_go();
        });
        stage.all_answered();
        // The third is of who asked again when nothing was remembered any more.
        assert!(stage.source.requests() <= 3, "{}", stage.source.requests());
        drop(object);
        stage.end();
    });
}

/// A reader may need several requests, and fails with the first of them.
#[test]
fn who_fails_with_one_request_is_told_at_once_about_the_others() {
    explore(&Exploration { name: "late beside", schedules: 200 }, || {
        let stage = Stage::new(4 * MEMORY, Scripted::default());
        let object = stage.object(4 * BLOCK);
        read(&object, 2 * BLOCK..2 * BLOCK + CHUNK).unwrap();
        stage.all_quiet(&object);
        stage.source.fail(&[Fault::Late, Fault::Late]);
        let earliest = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(read(&object, 0..4 * BLOCK).expect_err("both were late").code(), "deadline"));
            stage.source.until_late(2);
            stage.source.let_go();
        });
        for part in [0..CHUNK, 4 * BLOCK - CHUNK..4 * BLOCK] {
            ask_again(&stage, &object, part, earliest);
        }
        stage.source.let_go();
        drop(object);
        stage.end();
    });
}

/// Bytes are on their way all the time, only not fast enough for this reader.
#[test]
fn a_reader_whose_time_is_over_stops_nobody_else() {
    explore(&Exploration { name: "expired beside a warm-up", schedules: 200 }, || {
        let stage = Stage::with_deadline(4 * MEMORY, Scripted::new(&[Fault::Slow; 3]), DEADLINE);
        let object = stage.object(LARGE);
        failed(&object);
        thread::scope(|scope| {
            scope.spawn(|| {
                let objects = Box::new(std::iter::once(object.clone()));
                let (progress, failures) = stage.fetcher.warm(objects, (1, LARGE), &mut |_| true);
                assert!(failures.is_empty(), "{failures:?}");
                assert_eq!(progress.bytes, LARGE);
            });
            // Its own next try, a moment later, waits for what is on its way.
            wait(REFUSED);
            let waited = stage.fetcher.counters().waited_reads.load(Relaxed);
            stage.ask(&object, 0..CHUNK, 9, Expected::BytesOrError);
            assert_eq!(stage.fetcher.counters().waited_reads.load(Relaxed), waited + 1, "told at once");
            (0..3).for_each(|_| stage.source.let_go());
        });
        assert_eq!(stage.source.sent(), LARGE, "every byte once");
        drop(object);
        stage.end();
    });
}

#[test]
fn what_was_fetched_ahead_in_vain_fails_nobody_who_comes_later() {
    explore(&Exploration { name: "late ahead", schedules: 200 }, || {
        let stage = Stage::new(4 * MEMORY, Scripted::new(&[Fault::Late]));
        let object = stage.object(BLOCK);
        object.fetch_ahead();
        stage.source.until_late(1);
        thread::scope(|scope| {
            scope.spawn(|| read(&object, CHUNK..BLOCK).unwrap());
            stage.source.let_go();
        });
        read(&object, 0..BLOCK).unwrap();
        drop(object);
        stage.end();
    });
}

#[test]
fn a_reader_whose_time_is_over_is_told_at_once_when_it_asks_again() {
    explore(&Exploration { name: "expired", schedules: 200 }, || {
        let stage = Stage::with_deadline(4 * MEMORY, Scripted::new(&[Fault::Late]), DEADLINE);
        let object = stage.object(BLOCK);
        let earliest = Instant::now() + DEADLINE;
        failed(&object);
        ask_again(&stage, &object, 0..CHUNK, earliest);
        stage.source.let_go();
        drop(object);
        stage.end();
    });
}

#[test]
fn a_failure_of_long_ago_ends_no_warm_up() {
    explore(&Exploration { name: "failed long ago", schedules: 200 }, || {
        let stage = Stage::new(4 * MEMORY, Scripted::new(&[Fault::Late]));
        let object = stage.object(BLOCK);
        stage.source.let_go();
        failed(&object);
        wait(REMEMBERED + Duration::from_secs(1));
        let objects = Box::new(std::iter::once(object.clone()));
        let (progress, failures) = stage.fetcher.warm(objects, (1, BLOCK), &mut |_| true);
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(progress.bytes, BLOCK);
        drop(object);
        stage.end();
    });
}

/// Lets so much time pass.
fn wait(time: Duration) {
    Condvar::new().wait_for(&mut Mutex::new(()).lock(), time);
}

fn failed(object: &Arc<Object>) -> ReadError {
    let error = read(object, 0..CHUNK).expect_err("its time was over");
    assert_eq!(error.code(), "deadline");
    error
}

/// Asks again for what has failed, not before `earliest`: it fails without a wait while that is remembered.
fn ask_again(stage: &Stage, object: &Arc<Object>, range: Range<u64>, earliest: Instant) {
    let waited = stage.fetcher.counters().waited_reads.load(Relaxed);
    stage.ask(object, range, 9, Expected::BytesOrError);
    let waited = stage.fetcher.counters().waited_reads.load(Relaxed) - waited;
    assert!(waited == 0 || earliest.elapsed() >= REFUSED, "waited again");
}
