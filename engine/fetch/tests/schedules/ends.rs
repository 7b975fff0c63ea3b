//! The fetcher is stopped while it is in use: every read has its answer all the same.

use headrace_sync::model::{Exploration, explore, some_time};
use headrace_sync::thread;

use crate::source::Scripted;
use crate::stage::{CHUNK, Expected, MEMORY, SEGMENT, Stage, read};

const SIZE: u64 = 3 * SEGMENT + 1;

#[test]
fn reads_that_race_with_the_stop_are_answered() {
    explore(&Exploration { name: "stop", schedules: 200 }, || {
        let stage = Stage::new(4 * MEMORY, Scripted::default());
        let object = stage.object(SIZE);
        thread::scope(|scope| {
            scope.spawn(|| {
                stage.ask(&object, 0..SEGMENT + CHUNK, 1, Expected::BytesOrError);
                stage.ask(&object, SIZE - 1..SIZE, 3, Expected::BytesOrError);
            });
            scope.spawn(|| read(&object, SEGMENT..SIZE).map_or_else(|error| assert_eq!(error.code(), "cancelled"), |()| ()));
            scope.spawn(|| {
                some_time(300);
                stage.fetcher.stop();
            });
        });
        drop(object);
        stage.end();
    });
}
