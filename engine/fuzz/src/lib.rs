//! What the targets share.
//!
//! A target is a binary with libFuzzer in it, fed with bytes that could come from outside: a bucket's answers, a file after a
//! power loss, another process at a socket. It calls the engine as the node does, and says what must hold whatever
//! the bytes are; where it can it says so in words of its own, not with the engine's. `fuzz/` builds and runs the targets and holds their corpora.

pub mod engine;
pub mod memory;
pub mod seal;

/// Ends one part of an input and begins the next: answers of a server, one after the other.
pub const SEPARATOR: u8 = 0x1e;

/// The parts of an input.
pub fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == SEPARATOR)
}

/// Takes `N` bytes off the front; zeros where the input has ended.
pub fn take<const N: usize>(data: &mut &[u8]) -> [u8; N] {
    let (head, rest) = data.split_at(data.len().min(N));
    *data = rest;
    let mut taken = [0; N];
    taken[..head.len()].copy_from_slice(head);
    taken
}
