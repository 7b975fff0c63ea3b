//! The door of engine/fuzz: what the head of a model file tells.

use crate::layout::Layout;
use std::ops::Range;

/// The tensor that holds `offset` of a file of `size` bytes, as far as the first bytes of the file tell.
pub fn tensor(key: &str, head: &[u8], offset: u64, size: u64) -> Range<u64> {
    let mut layout = Layout::for_key(key);
    layout.learn(head);
    layout.tensor(offset, size)
}
