//! Memory for direct I/O, and the few blocks kept back so that a log that turns over does not go to the allocator.
//!
//! One core only. Memory comes from the executor's registered pool while that lasts, then from the allocator. Fresh
//! memory from the allocator costs a page fault per 4 KiB when first touched, more than copying into it, so freed
//! blocks are kept for the next `allocate`.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use glommio::allocate_dma_buffer;
use glommio::io::ReadResult;

use crate::limits::{BLOCK_BYTES, IO_ALIGNMENT, SPARE_BLOCKS_MAX};
use crate::runtime::Buffer;

/// Aligned memory of one executor.
///
/// Invariant: `memory` is shared with the kernel while a write is in flight and with nobody else.
pub struct GlommioBuffer {
    memory: Rc<glommio::io::DmaBuffer>,
    /// True for what a read returned: glommio lends that memory read-only.
    read_only: bool,
    spares: Rc<Spares>,
}

impl GlommioBuffer {
    /// Allocates `bytes`, a multiple of `IO_ALIGNMENT` above zero.
    pub(super) fn allocate(bytes: usize, spares: &Rc<Spares>) -> GlommioBuffer {
        assert!(bytes > 0);
        assert!(bytes.is_multiple_of(IO_ALIGNMENT));
        let spare = if bytes == BLOCK_BYTES { spares.blocks.borrow_mut().pop() } else { None };
        let memory = spare.unwrap_or_else(|| Rc::new(allocate_dma_buffer(bytes)));
        assert!(memory.as_ptr().addr().is_multiple_of(IO_ALIGNMENT));
        GlommioBuffer { memory, read_only: false, spares: Rc::clone(spares) }
    }

    /// Takes over what a read returned in full.
    pub(super) fn from_read(read: ReadResult, spares: &Rc<Spares>) -> GlommioBuffer {
        assert!(read.len().is_multiple_of(IO_ALIGNMENT));
        GlommioBuffer { memory: Rc::new(read.into()), read_only: true, spares: Rc::clone(spares) }
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
            let mut own = allocate_dma_buffer(self.memory.len());
            own.as_bytes_mut().copy_from_slice(self.memory.as_bytes());
            self.memory = Rc::new(own);
            self.read_only = false;
        }
        Rc::get_mut(&mut self.memory).expect("no write of this buffer is in flight").as_bytes_mut()
    }
}

impl Drop for GlommioBuffer {
    fn drop(&mut self) {
        let reusable = !self.read_only && self.memory.len() == BLOCK_BYTES && Rc::strong_count(&self.memory) == 1;
        if reusable {
            let mut blocks = self.spares.blocks.borrow_mut();
            if blocks.len() < SPARE_BLOCKS_MAX {
                blocks.push(Rc::clone(&self.memory));
            }
        }
    }
}

impl fmt::Debug for GlommioBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GlommioBuffer").field("bytes", &self.memory.len()).finish_non_exhaustive()
    }
}

/// Blocks that nobody uses at the moment, at most `SPARE_BLOCKS_MAX`.
#[derive(Default)]
pub(super) struct Spares {
    blocks: RefCell<Vec<Rc<glommio::io::DmaBuffer>>>,
}
