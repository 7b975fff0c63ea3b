//! The engine's log lines go to the node's log file, one append a line, so that Python may rotate it by renaming.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

struct ToFile {
    path: Option<PathBuf>,
}

impl Log for ToFile {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = format!("{}.{:03} {} {}: {}\n", now.as_secs(), now.subsec_millis(), record.level(), record.target(), record.args());
        let written = match &self.path {
            Some(path) => OpenOptions::new().append(true).create(true).open(path).and_then(|mut f| f.write_all(line.as_bytes())),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
        if written.is_err() {
            // Nowhere left to complain, here either: a full log disk must not stop the engine, as the macro's panic would.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

pub(crate) fn start(path: Option<PathBuf>) {
    // A second engine in one process (tests) keeps the first one's log.
    if log::set_boxed_logger(Box::new(ToFile { path })).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}
