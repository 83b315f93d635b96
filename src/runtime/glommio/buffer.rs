//! Memory for direct I/O, and the few blocks kept back so that a log that turns over does not go to the allocator.
//!
//! One core only. Memory comes from the executor's registered pool while that lasts, then from the allocator. Fresh
//! memory from the allocator costs a page fault per 4 KiB when first touched, more than copying into it, so freed
//! blocks are kept for the next `allocate`. What is allocated here lives long (the tail cache) and takes at most half of
//! the pool: the other half serves reads, whose memory glommio allocates itself. Measured, 1 MiB reads one at a time:
//! from the pool 3.1 GB/s, from the allocator 0.7.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use glommio::io::ReadResult;
use glommio::{allocate_dma_buffer, allocate_dma_buffer_global};

use crate::limits::{BLOCK_BYTES, IO_ALIGNMENT, PART_OF_BLOCK_BYTES_MIN, SPARE_BLOCKS_MAX};
use crate::runtime::Buffer;

/// Aligned memory of one executor.
///
/// Invariant: `memory` is shared with the kernel while a write is in flight and with nobody else.
pub struct GlommioBuffer {
    memory: Rc<glommio::io::DmaBuffer>,
    /// True for what a read returned: glommio lends that memory read-only.
    read_only: bool,
    /// True when it counts against the pool's half.
    is_pooled: bool,
    /// What was allocated for it: more than its length when it is part of a block.
    allocated: usize,
    spares: Rc<Spares>,
}

impl GlommioBuffer {
    /// Allocates `bytes`, a multiple of `IO_ALIGNMENT` above zero.
    pub(super) fn allocate(bytes: usize, spares: &Rc<Spares>) -> GlommioBuffer {
        assert!(bytes > 0);
        assert!(bytes.is_multiple_of(IO_ALIGNMENT));
        let spare = if bytes == BLOCK_BYTES { spares.blocks.borrow_mut().pop() } else { None };
        let Memory { memory, is_pooled, allocated } = spare.unwrap_or_else(|| spares.allocate(bytes));
        assert!(memory.as_ptr().addr().is_multiple_of(IO_ALIGNMENT));
        GlommioBuffer { memory, read_only: false, is_pooled, allocated, spares: Rc::clone(spares) }
    }

    /// Takes over what a read returned in full.
    pub(super) fn from_read(read: ReadResult, spares: &Rc<Spares>) -> GlommioBuffer {
        assert!(read.len().is_multiple_of(IO_ALIGNMENT));
        let allocated = read.len();
        spares.on_allocated(allocated);
        let memory = Rc::new(read.into());
        GlommioBuffer { memory, read_only: true, is_pooled: false, allocated, spares: Rc::clone(spares) }
    }

    /// The memory, for a write that outlives this call.
    pub(super) fn share(&self) -> Rc<glommio::io::DmaBuffer> {
        Rc::clone(&self.memory)
    }
}

impl Buffer for GlommioBuffer {
    fn as_ptr(&self) -> *const u8 {
        self.memory.as_ptr()
    }

    fn bytes(&self) -> usize {
        self.memory.len()
    }

    fn as_slice(&self) -> &[u8] {
        self.memory.as_bytes()
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        if self.read_only {
            let mut own = self.spares.allocate(self.memory.len());
            let target = Rc::get_mut(&mut own.memory).expect("it was just allocated");
            target.as_bytes_mut().copy_from_slice(self.memory.as_bytes());
            self.spares.on_freed(self.allocated);
            (self.memory, self.is_pooled, self.allocated) = (own.memory, own.is_pooled, own.allocated);
            self.read_only = false;
        }
        Rc::get_mut(&mut self.memory).expect("no write of this buffer is in flight").as_bytes_mut()
    }
}

impl Drop for GlommioBuffer {
    fn drop(&mut self) {
        let is_ours = !self.read_only && Rc::strong_count(&self.memory) == 1;
        if is_ours && self.memory.len() == BLOCK_BYTES {
            let mut blocks = self.spares.blocks.borrow_mut();
            if blocks.len() < SPARE_BLOCKS_MAX {
                let memory = Rc::clone(&self.memory);
                return blocks.push(Memory { memory, is_pooled: self.is_pooled, allocated: self.allocated });
            }
        }
        self.spares.on_freed(self.allocated);
        if self.is_pooled {
            self.spares.pooled_bytes.set(self.spares.pooled_bytes.get() - self.memory.len());
        }
    }
}

impl fmt::Debug for GlommioBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GlommioBuffer").field("bytes", &self.memory.len()).finish_non_exhaustive()
    }
}

/// Memory with where it came from.
struct Memory {
    memory: Rc<glommio::io::DmaBuffer>,
    is_pooled: bool,
    allocated: usize,
}

/// Blocks that nobody uses at the moment, and how much memory is out.
pub(super) struct Spares {
    /// At most `SPARE_BLOCKS_MAX`.
    blocks: RefCell<Vec<Memory>>,
    /// Bytes that buffers and spare blocks have, from wherever.
    out_bytes: Cell<usize>,
    /// Bytes of the pool that buffers and spare blocks have.
    pooled_bytes: Cell<usize>,
    /// Half of the pool.
    pooled_bytes_max: usize,
}

impl Spares {
    /// None yet, over a pool of `io_memory_bytes`.
    pub(super) fn new(io_memory_bytes: usize) -> Spares {
        Spares {
            blocks: RefCell::default(),
            out_bytes: Cell::new(0),
            pooled_bytes: Cell::new(0),
            pooled_bytes_max: io_memory_bytes / 2,
        }
    }

    /// Bytes that buffers and spare blocks have.
    pub(super) fn out_bytes(&self) -> usize {
        self.out_bytes.get()
    }

    fn on_allocated(&self, bytes: usize) {
        self.out_bytes.set(self.out_bytes.get() + bytes);
    }

    fn on_freed(&self, bytes: usize) {
        self.out_bytes.set(self.out_bytes.get() - bytes);
    }

    fn allocate(&self, bytes: usize) -> Memory {
        let pooled_bytes = self.pooled_bytes.get() + bytes;
        if pooled_bytes > self.pooled_bytes_max {
            // The allocator gives back what a large buffer had, and its next pages are cleared anew. A block's are not:
            // see `block_memory`.
            let is_part = (PART_OF_BLOCK_BYTES_MIN..BLOCK_BYTES).contains(&bytes);
            let allocated = if is_part { BLOCK_BYTES } else { bytes };
            let mut memory = allocate_dma_buffer_global(allocated);
            memory.trim_to_size(bytes);
            self.on_allocated(allocated);
            return Memory { memory: Rc::new(memory), is_pooled: false, allocated };
        }
        self.pooled_bytes.set(pooled_bytes);
        self.on_allocated(bytes);
        Memory { memory: Rc::new(allocate_dma_buffer(bytes)), is_pooled: true, allocated: bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_leave_half_of_the_pool_to_reads() {
        let executor = glommio::LocalExecutorBuilder::default().make().unwrap();
        executor.run(async {
            let spares = Rc::new(Spares::new(8 * BLOCK_BYTES));
            let many: Vec<GlommioBuffer> = (0..30).map(|_| GlommioBuffer::allocate(BLOCK_BYTES, &spares)).collect();
            assert_eq!(many.iter().filter(|buffer| buffer.is_pooled).count(), 4);
            drop(many);
            // Spare blocks still hold what they took.
            assert_eq!(spares.blocks.borrow().len(), SPARE_BLOCKS_MAX);
            let pooled = spares.blocks.borrow().iter().filter(|spare| spare.is_pooled).count();
            assert_eq!(spares.pooled_bytes.get(), pooled * BLOCK_BYTES);
            assert_eq!(spares.out_bytes(), SPARE_BLOCKS_MAX * BLOCK_BYTES);
            // A part of a block counts for the block that it takes.
            let part = GlommioBuffer::allocate(BLOCK_BYTES / 2, &spares);
            assert_eq!((part.bytes(), spares.out_bytes()), (BLOCK_BYTES / 2, (SPARE_BLOCKS_MAX + 1) * BLOCK_BYTES));
            drop(part);
            assert_eq!(spares.out_bytes(), SPARE_BLOCKS_MAX * BLOCK_BYTES);
        });
    }
}
