//! Memory of large frames, used again: a fresh mebibyte per request costs page faults and zeroes, as much as reading it.
//!
//! One small pool per thread. A frame may be dropped on another core than it was received on (its bytes cross a lane); then
//! that core keeps it. Pooled memory was zeroed once, when it was made, and holds what earlier frames left in it: nobody
//! reads behind what was received.

use std::cell::RefCell;

use crate::limits::{FRAME_POOLED_BYTES, FRAMES_POOLED_MAX};

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Memory for one frame; back to the pool when the last part of the frame is dropped.
pub(super) struct FrameMemory(Vec<u8>);

impl FrameMemory {
    /// Memory of at least `bytes`.
    pub(super) fn new(bytes: usize) -> FrameMemory {
        if bytes > FRAME_POOLED_BYTES {
            return FrameMemory(vec![0; bytes]);
        }
        FrameMemory(POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; FRAME_POOLED_BYTES]))
    }

    /// The memory, to receive into.
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl AsRef<[u8]> for FrameMemory {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for FrameMemory {
    fn drop(&mut self) {
        if self.0.len() != FRAME_POOLED_BYTES {
            return;
        }
        let memory = std::mem::take(&mut self.0);
        // A thread that ends has no pool any more.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < FRAMES_POOLED_MAX {
                pool.push(memory);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_the_pool_is_bounded() {
        let first = FrameMemory::new(FRAME_POOLED_BYTES);
        let address = first.as_ref().as_ptr();
        drop(first);
        let again = FrameMemory::new(1);
        assert_eq!(again.as_ref().as_ptr(), address);
        let many: Vec<FrameMemory> = (0..2 * FRAMES_POOLED_MAX).map(|_| FrameMemory::new(1)).collect();
        drop(many);
        assert_eq!(POOL.with_borrow(Vec::len), FRAMES_POOLED_MAX);
        drop(again);
        assert_eq!(POOL.with_borrow(Vec::len), FRAMES_POOLED_MAX);
        drop(FrameMemory::new(FRAME_POOLED_BYTES + 1));
        assert_eq!(POOL.with_borrow(Vec::len), FRAMES_POOLED_MAX);
    }
}
