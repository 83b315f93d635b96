//! Aligned memory without `unsafe`: a vector that is a page too long, used from its first aligned byte on.

use std::cell::Cell;
use std::fmt;

use crate::limits::IO_ALIGNMENT;
use crate::runtime::Buffer;

thread_local! {
    static BYTES_OUT: Cell<u64> = const { Cell::new(0) };
}

/// Bytes of all buffers of this thread: of every shard of a simulated machine together.
pub(super) fn bytes_out() -> u64 {
    BYTES_OUT.get()
}

fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a size in memory fits 64 bits")
}

/// Memory for simulated direct I/O.
pub struct SimulatedBuffer {
    memory: Vec<u8>,
    /// Taken from the vector while it was held mutably, so that writing through it, as `Block` does, is allowed.
    start: *mut u8,
    offset: usize,
    bytes: usize,
}

impl SimulatedBuffer {
    /// `bytes` of memory, every one of them `content`.
    pub(super) fn new(bytes: usize, content: u8) -> SimulatedBuffer {
        assert!(bytes > 0);
        assert!(bytes.is_multiple_of(IO_ALIGNMENT));
        let mut memory = vec![content; bytes + IO_ALIGNMENT];
        let offset = memory.as_ptr().align_offset(IO_ALIGNMENT);
        assert!(offset < IO_ALIGNMENT);
        let start = memory.as_mut_ptr().wrapping_add(offset);
        BYTES_OUT.set(BYTES_OUT.get() + to_u64(bytes));
        SimulatedBuffer { memory, start, offset, bytes }
    }
}

impl Drop for SimulatedBuffer {
    fn drop(&mut self) {
        BYTES_OUT.set(BYTES_OUT.get() - to_u64(self.bytes));
    }
}

impl Buffer for SimulatedBuffer {
    fn as_ptr(&self) -> *const u8 {
        self.start.cast_const()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn as_slice(&self) -> &[u8] {
        &self.memory[self.offset..self.offset + self.bytes]
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.offset..self.offset + self.bytes]
    }
}

impl fmt::Debug for SimulatedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedBuffer").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::runtime::block::Block;

    #[test]
    fn memory_is_aligned_and_stays_put_when_the_buffer_moves() {
        let buffer = SimulatedBuffer::new(8192, 7);
        let address = buffer.as_ptr();
        let moved = Rc::new(buffer);
        assert_eq!(moved.as_ptr(), address);
        assert_eq!(moved.as_ptr().align_offset(IO_ALIGNMENT), 0);
        assert_eq!(moved.as_slice(), [7; 8192]);
    }

    #[test]
    fn a_block_fills_it() {
        let block = Block::new(SimulatedBuffer::new(4096, 0xaa), 0);
        block.append(b"lane");
        block.zero_to(4096);
        let memory = block.full_memory();
        assert_eq!(&memory.as_slice()[..6], b"lane\0\0");
    }
}
