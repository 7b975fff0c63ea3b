//! Fetching under a model checker: the real cache, flights, queue, budget and writer, with every lock, atomic and wait in
//! shuttle's hands, over a source that does what a test wants. `make schedules` runs these; docs/decisions/0022 says what
//! they show and what they do not.

mod ends;
mod late;
mod memory;
mod reads;
mod source;
mod stage;
