//! The cache under a model checker: the real code on real files, with every lock, atomic and wait in shuttle's hands.
//! `make schedules` runs these; docs/decisions/0022 says what they show and what they do not.

mod adoption;
mod doors;
mod eviction;
mod presence;
mod stage;
#[path = "../support/mod.rs"]
mod support;
