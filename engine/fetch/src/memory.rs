//! Memory of buffers: a large one is one huge page where the kernel has one to give.
//!
//! A mapping of its own, aligned to its size: the disk can take the bytes past the page cache (`O_DIRECT` wants aligned
//! memory), one entry of the processor's tables covers it, and giving it up gives it back to the system at once.

use crate::segment::SEGMENT;
use std::ptr::NonNull;

const LARGE: usize = SEGMENT as usize;

pub(crate) enum Memory {
    Small(Box<[u8]>),
    Large(Mapping),
}

impl Memory {
    /// `size` bytes, zero until written to.
    pub(crate) fn new(size: usize) -> Self {
        match (size == LARGE).then(Mapping::new).flatten() {
            Some(mapping) => Self::Large(mapping),
            None => Self::Small(vec![0; size].into_boxed_slice()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Small(bytes) => bytes.len(),
            Self::Large(_) => LARGE,
        }
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        match self {
            Self::Small(bytes) => bytes.as_ptr(),
            Self::Large(mapping) => mapping.start.as_ptr(),
        }
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        match self {
            Self::Small(bytes) => bytes.as_mut_ptr(),
            Self::Large(mapping) => mapping.start.as_ptr(),
        }
    }
}

/// `LARGE` bytes of anonymous memory, aligned to as many.
pub(crate) struct Mapping {
    start: NonNull<u8>,
}

// SAFETY: the mapping belongs to whoever has the value; it is plain memory.
unsafe impl Send for Mapping {}

impl Mapping {
    /// `None` when the system has no room for another mapping.
    fn new() -> Option<Self> {
        // Twice as much surely holds an aligned piece; the rest goes back unused.
        let whole = map(2 * LARGE)?;
        let lead = whole.as_ptr().align_offset(LARGE);
        // SAFETY: lead is less than LARGE, so all three pieces lie in the mapping just made; only the middle one is kept.
        unsafe {
            let start = whole.as_ptr().add(lead);
            unmap(whole.as_ptr(), lead);
            unmap(start.add(LARGE), LARGE - lead);
            // A wish: without huge pages everything works as well.
            libc::madvise(start.cast(), LARGE, libc::MADV_HUGEPAGE);
            NonNull::new(start).map(|start| Self { start })
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `new` with this size, and nobody can have it any more.
        unsafe { unmap(self.start.as_ptr(), LARGE) }
    }
}

fn map(size: usize) -> Option<NonNull<u8>> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: asks for new memory at no particular place.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), size, access, kind, -1, 0) };
    if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast()) }
}

/// # Safety
/// The range must be whole pages of a mapping that nobody uses any more; it may be empty.
unsafe fn unmap(start: *mut u8, size: usize) {
    if size > 0 {
        // SAFETY: as the caller promises.
        let result = unsafe { libc::munmap(start.cast(), size) };
        debug_assert_eq!(result, 0, "a mapping of our own can be taken away");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_memory_is_aligned_zero_and_writable() {
        let mut many: Vec<_> = (0..5).map(|_| Memory::new(LARGE)).collect();
        for (number, memory) in many.iter_mut().enumerate() {
            assert_eq!((memory.len(), memory.as_ptr().align_offset(LARGE)), (LARGE, 0));
            // SAFETY: the memory is ours and as long as said.
            let bytes = unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr(), LARGE) };
            assert!(bytes.iter().all(|b| *b == 0));
            bytes.fill(number as u8 + 1);
        }
        many.swap_remove(1);
        // SAFETY: as above.
        let last = unsafe { std::slice::from_raw_parts(many[1].as_ptr(), LARGE) };
        assert!(last.iter().all(|b| *b == 5));
    }

    #[test]
    fn small_memory_is_as_long_as_asked() {
        assert_eq!(Memory::new(16 * 1024).len(), 16 * 1024);
    }
}
