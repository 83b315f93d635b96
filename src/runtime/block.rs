//! A block: one aligned buffer of the log that is filled from its start while its filled part is read and written out.
//!
//! One core only. Invariant: bytes below `filled` never change, bytes above it are never lent; that is what lets a
//! fetch answer point into a block that is still being appended to.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use super::{Buffer, streamed_copy};

/// An append-only view of one aligned buffer, shared by the writer and by readers of its filled part.
pub struct Block<B> {
    memory: Rc<B>,
    filled: Cell<usize>,
    /// Bytes were streamed into it and no fence came since: nothing of it may be looked at before one.
    is_unfenced: Cell<bool>,
}

impl<B: Buffer> Block<B> {
    /// Wraps a buffer of which the first `filled` bytes already hold content. The buffer must not be shared.
    pub fn new(mut memory: B, filled: usize) -> Block<B> {
        assert!(filled <= memory.bytes());
        if filled < memory.bytes() {
            // What a read returned may be lent read-only: asking for the mutable view makes it the block's own.
            memory.as_mut_slice();
        }
        Block { memory: Rc::new(memory), filled: Cell::new(filled), is_unfenced: Cell::new(false) }
    }

    /// Size of the block in bytes.
    pub fn capacity(&self) -> usize {
        self.memory.bytes()
    }

    /// Bytes filled so far, from the start.
    pub fn filled(&self) -> usize {
        self.filled.get()
    }

    /// Bytes that can still be appended.
    pub fn room(&self) -> usize {
        self.capacity() - self.filled()
    }

    /// The filled part.
    pub fn as_slice(&self) -> &[u8] {
        self.fence();
        // SAFETY: the memory is `capacity` bytes long and outlives `self`; bytes below `filled` are initialised and,
        // by the invariant of this type, never written again.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.filled()) }
    }

    /// Copies `bytes` behind the filled part. The caller has checked `room`.
    pub fn append(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room());
        // SAFETY: the target lies inside the memory (asserted) and above `filled`, which nobody has a reference to;
        // the buffer was handed over unshared, and this type never lends bytes above `filled`. The memory is a plain
        // allocation behind a raw pointer, so writing through it does not touch any Rust reference.
        // What was streamed is looked at only by way of `as_slice` and `full_memory`, which come after a fence.
        let is_streamed = unsafe {
            let target = self.memory.as_ptr().cast_mut().add(self.filled());
            streamed_copy::copy(bytes, target)
        };
        if is_streamed {
            self.is_unfenced.set(true);
        }
        self.filled.set(self.filled() + bytes.len());
    }

    /// Fills with zeroes up to `end`.
    pub fn zero_to(&self, end: usize) {
        assert!(end >= self.filled());
        assert!(end <= self.capacity());
        // SAFETY: as in `append`: inside the memory, above `filled`, and lent to nobody.
        unsafe {
            let target = self.memory.as_ptr().cast_mut().add(self.filled());
            std::ptr::write_bytes(target, 0, end - self.filled());
        }
        self.filled.set(end);
    }

    /// The whole memory, for a write in place. Allowed only when the block is full, since what is in flight must not
    /// change.
    pub fn full_memory(&self) -> Rc<B> {
        assert!(self.room() == 0);
        self.fence();
        Rc::clone(&self.memory)
    }
}

impl<B> Block<B> {
    fn fence(&self) {
        if self.is_unfenced.replace(false) {
            streamed_copy::fence();
        }
    }
}

impl<B> Drop for Block<B> {
    /// Whoever gets the memory next must not meet a store of ours.
    fn drop(&mut self) {
        self.fence();
    }
}

impl<B> fmt::Debug for Block<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").field("filled", &self.filled.get()).finish_non_exhaustive()
    }
}

/// Part of a block, or bytes copied out of one: a piece of a fetch answer. Holding it keeps its memory.
pub enum Slice<B> {
    /// Bytes of a block that stay where they are.
    Block {
        /// The block that holds them.
        block: Rc<Block<B>>,
        /// Which bytes of it; always within its filled part.
        range: Range<usize>,
    },
    /// Bytes of their own.
    Bytes(bytes::Bytes),
}

impl<B: Buffer> Slice<B> {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Slice::Block { block, range } => &block.as_slice()[range.clone()],
            Slice::Bytes(bytes) => bytes,
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Slice::Block { range, .. } => range.len(),
            Slice::Bytes(bytes) => bytes.len(),
        }
    }

    /// True when there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<B> Clone for Slice<B> {
    fn clone(&self) -> Self {
        match self {
            Slice::Block { block, range } => Slice::Block { block: Rc::clone(block), range: range.clone() },
            Slice::Bytes(bytes) => Slice::Bytes(bytes.clone()),
        }
    }
}

impl<B> fmt::Debug for Slice<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Slice::Block { range, .. } => write!(f, "Slice::Block({range:?})"),
            Slice::Bytes(bytes) => write!(f, "Slice::Bytes({})", bytes.len()),
        }
    }
}
