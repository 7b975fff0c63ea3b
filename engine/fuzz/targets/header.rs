//! Heads of model files: safetensors and GGUF. Advice about tensors, or none, in memory and time the size of the head.

#![no_main]

use headrace_fetch::fuzzing::tensor;
use headrace_fuzz::{memory, take};
use libfuzzer_sys::fuzz_target;

/// Offsets are eight bytes; a vector that grows has room for three times as many for a moment. Beside them lies the longest text.
const MEMORY_PER_BYTE: usize = 8;
const MEMORY_MAX: usize = 64 << 10;
const SIZE: u64 = 1 << 40;

fuzz_target!(|data: &[u8]| {
    let mut head = data;
    let [choice] = take(&mut head);
    let key = if choice & 1 == 0 { "m.safetensors" } else { "m.gguf" };
    memory::within(MEMORY_MAX + MEMORY_PER_BYTE * head.len(), || {
        for offset in [0, head.len() as u64, SIZE / 2, SIZE - 1] {
            let found = tensor(key, head, offset, SIZE);
            assert!(found.contains(&offset) && found.end <= SIZE, "{found:?} does not hold {offset}");
        }
    });
});
